//! What becomes of an attempt to sign in: the native hash, the old hash, the old system asked once, or a link by mail, in this order.
//!
//! The account is looked up, everything else is decided here; whoever asks does the work of a [`Plan`] and comes back with what it
//! found, for [`Plan`] says also what follows when a hash is of no use or does not fit.

use super::accounts::{Account, OldCredential};
use super::control::Reach;
use super::state::State;
use crate::secret::Secret;

/// Schemes whose hashes cannot be mistaken for any other's, with how they begin: only these are looked for in `account.password`,
/// and only where they are listed.
pub const IN_ACCOUNT: &[(&str, &[&str])] = &[
    ("bcrypt", &["$2a$", "$2b$", "$2y$"]),
    ("argon2id", &["$argon2id$"]),
    ("argon2i", &["$argon2i$"]),
    ("argon2d", &["$argon2d$"]),
];

/// How far each mechanism goes for the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaches {
    /// Old hashes.
    pub hash: Reach,
    /// The old system.
    pub jit: Reach,
    /// Mails.
    pub reset: Reach,
}

impl Reaches {
    /// Whether nothing at all happens to the request.
    pub fn is_off(self) -> bool {
        [self.hash, self.jit, self.reset]
            .iter()
            .all(|reach| *reach == Reach::Off)
    }

    /// Whether it is looked at, and nothing changed.
    pub fn is_shadow(self) -> bool {
        [self.hash, self.jit, self.reset].contains(&Reach::Shadow)
    }
}

/// What the operator has set up.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'r> {
    /// How far each mechanism goes for this account.
    pub reaches: Reaches,
    /// Schemes that are looked for in `account.password`.
    pub in_account: &'r [String],
    /// Old systems that can be asked for a password, in the order of the file.
    pub providers: &'r [&'static str],
    /// Whether users of the old system who are not known here are taken over when they come.
    pub trickle: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It goes on as it came: the password is Better Auth's own.
    Native,
    /// An old hash is to be verified, and replaced when it fits.
    Verify {
        /// The hash.
        old: Old,
        /// When it cannot be used.
        unusable: Box<Plan>,
        /// When the password does not fit it.
        mismatch: Box<Plan>,
    },
    /// Old systems are to be asked, in this order, until one does not say no.
    Ask(Vec<Whom>),
    /// A link goes out by mail.
    Reset,
    /// It must not get in, whatever the password is.
    Blocked,
    /// It fails: there is nothing here that could check the password, or it was checked and is wrong.
    Fail,
}

/// An old hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Old {
    /// Kept by the gateway, sealed.
    Kept(OldCredential),
    /// Found in `account.password` itself.
    InAccount {
        /// Its scheme.
        scheme: String,
        /// As it stands there.
        hash: Secret,
    },
}

impl Old {
    /// The scheme.
    pub fn scheme(&self) -> &str {
        match self {
            Self::Kept(kept) => &kept.scheme,
            Self::InAccount { scheme, .. } => scheme,
        }
    }
}

/// Whom to ask, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whom {
    /// The provider.
    pub provider: &'static str,
    /// The id there, where it is known: what comes back must have it.
    pub id: Option<String>,
}

/// Decides. `account`: what is known of whoever was typed; none: nobody.
pub fn plan(account: Option<&Account>, rules: &Rules<'_>) -> Plan {
    let Some(account) = account else {
        let asks = rules.trickle && rules.reaches.jit != Reach::Off && !rules.providers.is_empty();
        return match asks {
            true => Plan::Ask(everyone(rules)),
            false => Plan::Fail,
        };
    };
    if state(account) == Some(State::Blocked) {
        return Plan::Blocked;
    }
    if let Some(found) = &account.password {
        let Some(scheme) = foreign(found, rules.in_account) else {
            return Plan::Native;
        };
        if rules.reaches.hash == Reach::Off {
            return Plan::Fail;
        }
        return Plan::Verify {
            old: Old::InAccount {
                scheme: scheme.to_owned(),
                hash: found.clone(),
            },
            unusable: Box::new(without_hash(account, rules)),
            mismatch: Box::new(ask_again(account, rules)),
        };
    }
    match &account.old {
        // One that was used up does not come back: whoever has no password any more took it away.
        Some(old) if awaits(old.state) => match rules.reaches.hash {
            Reach::Off => match ask(account, rules) {
                Some(ask) => ask,
                // Switched off for a while. Nobody is reset who has a hash that can be checked.
                None => Plan::Fail,
            },
            Reach::Shadow | Reach::On => Plan::Verify {
                old: Old::Kept(old.clone()),
                unusable: Box::new(without_hash(account, rules)),
                mismatch: Box::new(ask_again(account, rules)),
            },
        },
        Some(_) | None => without_hash(account, rules),
    }
}

/// Where a user stands: blocked when they are anywhere, else where the old hash is, else where they are in the old system.
pub fn state(account: &Account) -> Option<State> {
    let mut all = account
        .old
        .iter()
        .map(|old| old.state)
        .chain(account.sources.iter().map(|source| source.state));
    let first = all.next()?;
    match first == State::Blocked || all.any(|state| state == State::Blocked) {
        true => Some(State::Blocked),
        false => Some(first),
    }
}

/// The scheme of a hash in `account.password` that is not Better Auth's own, if it is one of those listed.
pub fn foreign<'s>(password: &Secret, listed: &'s [String]) -> Option<&'s str> {
    let starts = |start: &&str| password.expose().starts_with(*start);
    let (found, _) = IN_ACCOUNT
        .iter()
        .find(|(_, starts_of)| starts_of.iter().any(starts))?;
    // "argon2" stands for all three of them.
    let named = |scheme: &&String| {
        scheme.as_str() == *found || (*scheme == "argon2" && found.starts_with("argon2"))
    };
    let listed = listed.iter().find(named)?;
    Some(match listed.as_str() {
        "argon2" => "argon2",
        other => other,
    })
}

const fn awaits(state: State) -> bool {
    matches!(
        state,
        State::Imported | State::Pending | State::Reset | State::ResetSent
    )
}

fn without_hash(account: &Account, rules: &Rules<'_>) -> Plan {
    if let Some(ask) = ask(account, rules) {
        return ask;
    }
    // Nobody reads mail at the address of an anonymous user, and whoever is banned is not helped by one.
    let mails = rules.reaches.reset != Reach::Off && !account.anonymous && !account.banned;
    match mails {
        true => Plan::Reset,
        false => Plan::Fail,
    }
}

/// The old system, where it may know the account: the one it is mapped to; any of them, when it is mapped to none.
fn ask(account: &Account, rules: &Rules<'_>) -> Option<Plan> {
    if rules.reaches.jit == Reach::Off || rules.providers.is_empty() {
        return None;
    }
    if account.sources.is_empty() {
        return Some(Plan::Ask(everyone(rules)));
    }
    let whom: Vec<Whom> = rules
        .providers
        .iter()
        .filter_map(|provider| {
            let mut sources = account.sources.iter();
            let source =
                sources.find(|source| source.provider == **provider && awaits(source.state))?;
            Some(Whom {
                provider,
                id: Some(source.id.clone()),
            })
        })
        .collect();
    (!whom.is_empty()).then_some(Plan::Ask(whom))
}

/// A password that does not fit may have changed in the old system since the export: it is asked, where the account is mapped to it.
fn ask_again(account: &Account, rules: &Rules<'_>) -> Plan {
    match account.sources.is_empty() {
        true => Plan::Fail,
        false => ask(account, rules).unwrap_or(Plan::Fail),
    }
}

fn everyone(rules: &Rules<'_>) -> Vec<Whom> {
    let whom = |provider: &&'static str| Whom { provider, id: None };
    rules.providers.iter().map(whom).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::accounts::Source;

    const ON: Reaches = Reaches {
        hash: Reach::On,
        jit: Reach::On,
        reset: Reach::On,
    };

    fn rules<'r>(in_account: &'r [String], providers: &'r [&'static str]) -> Rules<'r> {
        Rules {
            reaches: ON,
            in_account,
            providers,
            trickle: false,
        }
    }

    fn account() -> Account {
        Account {
            user_id: "u".into(),
            email: "ann@example.com".into(),
            email_verified: true,
            banned: false,
            two_factor: false,
            anonymous: false,
            has_credential: true,
            password: None,
            password_changed_at: None,
            old: None,
            sources: Vec::new(),
            factor: None,
        }
    }

    fn old(state: State) -> OldCredential {
        OldCredential {
            scheme: "bcrypt".into(),
            sealed: Secret::new("sealed"),
            state,
            exported_at: None,
        }
    }

    fn source(provider: &str, state: State) -> Source {
        Source {
            provider: provider.into(),
            id: "s1".into(),
            state,
        }
    }

    fn asks(plan: &Plan) -> Vec<(&'static str, Option<&str>)> {
        match plan {
            Plan::Ask(whom) => whom
                .iter()
                .map(|whom| (whom.provider, whom.id.as_deref()))
                .collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_native_hash_comes_before_everything() {
        let account = Account {
            password: Some(Secret::new("00:11")),
            old: Some(old(State::Pending)),
            sources: vec![source("clerk", State::Pending)],
            ..account()
        };
        assert_eq!(plan(Some(&account), &rules(&[], &["clerk"])), Plan::Native);
    }

    #[test]
    fn an_old_hash_comes_before_the_old_system_and_that_before_a_mail() {
        let mut account = Account {
            old: Some(old(State::Pending)),
            sources: vec![source("clerk", State::Pending)],
            ..account()
        };
        let Plan::Verify {
            unusable, mismatch, ..
        } = plan(Some(&account), &rules(&[], &["clerk"]))
        else {
            panic!("not verified");
        };
        assert_eq!(asks(&unusable), [("clerk", Some("s1"))]);
        assert_eq!(asks(&mismatch), [("clerk", Some("s1"))]);
        let Plan::Verify {
            unusable, mismatch, ..
        } = plan(Some(&account), &rules(&[], &["workos"]))
        else {
            panic!("not verified");
        };
        assert_eq!((*unusable, *mismatch), (Plan::Reset, Plan::Fail));
        account.old = None;
        let found = plan(Some(&account), &rules(&[], &["workos", "clerk"]));
        assert_eq!(asks(&found), [("clerk", Some("s1"))]);
        assert_eq!(plan(Some(&account), &rules(&[], &[])), Plan::Reset);
        account.sources = Vec::new();
        let found = plan(Some(&account), &rules(&[], &["workos", "clerk"]));
        assert_eq!(asks(&found), [("workos", None), ("clerk", None)]);
    }

    #[test]
    fn what_was_used_up_does_not_come_back() {
        for state in State::ALL {
            let account = Account {
                old: Some(old(state)),
                ..account()
            };
            let found = plan(Some(&account), &rules(&[], &[]));
            match state {
                State::Imported | State::Pending | State::Reset | State::ResetSent => {
                    assert!(matches!(found, Plan::Verify { .. }), "{state:?}");
                }
                State::Rehashed | State::Jit | State::Done => assert_eq!(found, Plan::Reset),
                State::Blocked => assert_eq!(found, Plan::Blocked),
            }
        }
        let blocked = Account {
            password: Some(Secret::new("00:11")),
            sources: vec![
                source("clerk", State::Done),
                source("workos", State::Blocked),
            ],
            ..account()
        };
        assert_eq!(plan(Some(&blocked), &rules(&[], &[])), Plan::Blocked);
    }

    #[test]
    fn only_listed_schemes_are_looked_for_in_the_account_and_only_by_how_they_begin() {
        let listed = ["bcrypt".to_owned(), "argon2".to_owned()];
        for (stored, scheme) in [
            ("$2b$10$abc", Some("bcrypt")),
            ("$2y$10$abc", Some("bcrypt")),
            // Verified only by who has the fault that made it.
            ("$2x$10$abc", None),
            ("$argon2id$v=19$", Some("argon2")),
            ("$argon2$v=19$", None),
            ("00:11", None),
            ("x$2b$10$abc", None),
            ("pbkdf2_sha256$1$x$y", None),
        ] {
            assert_eq!(foreign(&Secret::new(stored), &listed), scheme, "{stored}");
            assert_eq!(foreign(&Secret::new(stored), &[]), None, "{stored}");
        }
        let only = ["argon2id".to_owned()];
        assert_eq!(foreign(&Secret::new("$argon2i$x"), &only), None);
        assert_eq!(
            foreign(&Secret::new("$argon2id$x"), &only),
            Some("argon2id")
        );
    }

    #[test]
    fn the_kill_switch_of_old_hashes_resets_nobody() {
        let mut account = Account {
            old: Some(old(State::Pending)),
            ..account()
        };
        let mut rules = rules(&[], &[]);
        rules.reaches.hash = Reach::Off;
        assert_eq!(plan(Some(&account), &rules), Plan::Fail);
        rules.providers = &["clerk"];
        account.sources = vec![source("clerk", State::Pending)];
        assert_eq!(asks(&plan(Some(&account), &rules)).len(), 1);
        // That of the old system does: it may be gone for good.
        account.old = None;
        rules.reaches.jit = Reach::Off;
        assert_eq!(plan(Some(&account), &rules), Plan::Reset);
        rules.reaches.reset = Reach::Off;
        assert_eq!(plan(Some(&account), &rules), Plan::Fail);
    }

    #[test]
    fn nobody_unknown_is_asked_for_unless_they_may_be_taken_over() {
        let mut rules = rules(&[], &["clerk"]);
        assert_eq!(plan(None, &rules), Plan::Fail);
        rules.trickle = true;
        assert_eq!(asks(&plan(None, &rules)), [("clerk", None)]);
        rules.reaches.jit = Reach::Off;
        assert_eq!(plan(None, &rules), Plan::Fail);
    }

    #[test]
    fn no_mail_goes_to_whom_it_would_not_help() {
        for (banned, anonymous, expected) in [
            (false, false, Plan::Reset),
            (true, false, Plan::Fail),
            (false, true, Plan::Fail),
        ] {
            let account = Account {
                banned,
                anonymous,
                ..account()
            };
            assert_eq!(plan(Some(&account), &rules(&[], &[])), expected);
        }
    }
}
