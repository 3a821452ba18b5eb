//! A session token in `Authorization: Bearer`, as the bearer plugin takes it: with its signature or without.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Asked, Authenticator, Build, Context};
use crate::credential::authorization::{self, Token};
use crate::credential::signature::Seal;
use crate::credential::{Credential, Method, Presented, Proof};
use crate::kind::Kind;
use crate::request::RequestView;
use crate::session::limit::Limiter;
use crate::session::resolve::{Resolution, Sessions, Tier};
use crate::session::{BoxFuture, Rejection};

/// The entry in the family's table.
pub(super) const KIND: Kind<Build> = Kind {
    name: "bearer",
    about: "session token in the Authorization header (bearer plugin)",
    build,
};

const METHOD: Method = Method::Bearer;

/// How the plugin is set up in the app.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// `requireSignature` (`better_auth.bearer.require_signature`).
    pub require_signature: bool,
}

fn build(context: &Context<'_>) -> Option<Box<dyn Authenticator>> {
    context.has("bearer").then(|| {
        Box::new(Bearer {
            settings: context.settings.bearer,
            sessions: Arc::clone(context.sessions),
            guesses: context.settings.guesses.limiter(),
        }) as Box<dyn Authenticator>
    })
}

struct Bearer {
    settings: Settings,
    sessions: Arc<Sessions>,
    /// Lookups of tokens that nobody signed.
    guesses: Limiter,
}

impl Bearer {
    async fn look_up(&self, asked: &Asked<'_, '_>) -> (Resolution, Tier) {
        match &asked.credential.proof {
            Proof::Signed(signed) => {
                self.sessions
                    .find(&signed.value, METHOD, asked.freshness, Some(asked.request))
                    .await
            }
            Proof::Text(token) => {
                let client = asked.request.client;
                if let Err(wait) = self.guesses.check(client, asked.now) {
                    let retry_after = Some(wait);
                    let why = Rejection::Limited { retry_after };
                    return (Resolution::Rejected(why), Tier::Negative);
                }
                let found = self
                    .sessions
                    .find(token, METHOD, asked.freshness, Some(asked.request))
                    .await;
                // Only what turned out to be nothing was a guess.
                if !matches!(found.0, Resolution::Rejected(Rejection::Unknown { .. })) {
                    self.guesses.give_back(client);
                }
                found
            }
        }
    }
}

impl Authenticator for Bearer {
    fn method(&self) -> Method {
        METHOD
    }

    fn extract<'r>(&self, request: &RequestView<'r>) -> Presented<'r> {
        let Some(token) = authorization::bearer(request.headers) else {
            return Presented::Absent;
        };
        let proof = match Token::read(token, self.sessions.signer()) {
            Token::Bare(_) if self.settings.require_signature => return Presented::Absent,
            Token::Bare(token) => Proof::Text(Cow::Borrowed(token)),
            Token::Signed(signed) => Proof::Signed(signed),
            Token::Misspelled => return Presented::Malformed,
            Token::Foreign => return Presented::Absent,
        };
        Presented::Found(Credential {
            method: METHOD,
            proof,
        })
    }

    fn at_once(&self, asked: &Asked<'_, '_>) -> Option<(Resolution, Tier)> {
        let Some(seal) = self.session(asked.credential) else {
            return Some((Resolution::Rejected(Rejection::BadSignature), Tier::Forged));
        };
        self.sessions
            .recall(&seal, METHOD, asked.freshness, asked.now)
            .or_else(|| match &asked.credential.proof {
                Proof::Signed(signed) => Sessions::by_signature(&signed.value, asked.freshness),
                // Without a signature nothing proves that the app ever issued it.
                Proof::Text(_) => None,
            })
    }

    fn find_out<'a>(&'a self, asked: &'a Asked<'_, '_>) -> BoxFuture<'a, (Resolution, Tier)> {
        Box::pin(async move {
            let (resolution, tier) = self.look_up(asked).await;
            (not_the_cookie(resolution), tier)
        })
    }

    fn session(&self, credential: &Credential<'_>) -> Option<Seal> {
        match &credential.proof {
            Proof::Signed(signed) => self.sessions.signer().verify(signed),
            Proof::Text(token) => Some(self.sessions.signer().seal(token)),
        }
    }
}

/// That this token is dead says nothing about the cookie that came along: nobody may remove that.
fn not_the_cookie(resolution: Resolution) -> Resolution {
    match resolution {
        Resolution::Rejected(Rejection::Unknown { .. }) => {
            Resolution::Rejected(Rejection::Unknown { told_now: false })
        }
        Resolution::Rejected(Rejection::Expired { .. }) => {
            Resolution::Rejected(Rejection::Expired { told_now: false })
        }
        known => known,
    }
}
