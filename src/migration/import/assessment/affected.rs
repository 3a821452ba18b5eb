//! Who will notice, and how: for telling them beforehand.

use super::distinct::Of;
use super::{Assessor, Method, Outlook, facts, is};
use crate::migration::import::record::{ImportedUser, Oddity};

/// Whether something happens to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affects {
    /// No.
    No,
    /// It may: if they come too late, or if their app keeps its tokens elsewhere.
    Perhaps,
    /// Yes.
    Yes,
}

impl Affects {
    /// The word in the list.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Perhaps => "perhaps",
            Self::Yes => "yes",
        }
    }
}

/// Somebody who will notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affected {
    /// Whether their password stops working.
    pub reset: Affects,
    /// Whether they must sign in again.
    pub signed_out: Affects,
    /// Why, in words.
    pub reasons: Vec<&'static str>,
}

impl Assessor {
    /// Whether somebody will notice. To be asked when all records have been looked at, so that it is known who shares an address.
    pub fn affected(&mut self, user: &ImportedUser) -> Option<Affected> {
        if is(user, Oddity::Deleted) {
            return None;
        }
        let mut reasons = Vec::new();
        let reset = match self.judge(user, false) {
            Method::Reset => {
                reasons.push("nothing can check their password: they need a new one");
                Affects::Yes
            }
            Method::Live => {
                let lately = user
                    .last_sign_in_at
                    .is_some_and(|at| self.settings.now.since(at) <= self.settings.window);
                if lately {
                    Affects::No
                } else {
                    reasons
                        .push("their password is lost unless they sign in before the window ends");
                    Affects::Perhaps
                }
            }
            Method::Nothing => {
                reasons.push("nothing signs them in: a link by mail can");
                Affects::No
            }
            Method::Native | Method::Hashed | Method::SocialOnly | Method::OtherOnly => Affects::No,
        };
        let signed_out = match self.sessions() {
            Outlook::Kept => Affects::No,
            Outlook::Partly => {
                reasons.push(
                    "they must sign in again, unless their app keeps its session in a cookie",
                );
                Affects::Perhaps
            }
            Outlook::Lost => {
                reasons.push("they must sign in again");
                Affects::Yes
            }
        };
        match &user.email {
            None => reasons.push("they have no address"),
            Some(email) if self.seen.is_shared(Of::Email, &[email]) => {
                reasons.push("somebody else has their address: one of them is parked");
            }
            Some(_) => {}
        }
        let shared = user.socials.iter().any(|social| {
            let id = social.account_id.as_deref();
            id.is_some_and(|id| self.seen.is_shared(Of::Social, &[&social.provider, id]))
        });
        if shared {
            reasons.push("somebody else has their account elsewhere: it is taken from both");
        }
        if user
            .factor
            .as_ref()
            .is_some_and(|factor| factor.key.is_none())
        {
            let facts: &facts::Facts = self.facts;
            reasons.push(if facts.remote_factor {
                "they must enrol their second factor again before the window ends"
            } else {
                "they must enrol their second factor again"
            });
        }
        if is(user, Oddity::Passkeys) {
            reasons.push("they must enrol their passkeys again");
        }
        (!reasons.is_empty()).then_some(Affected {
            reset,
            signed_out,
            reasons,
        })
    }
}
