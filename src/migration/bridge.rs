//! Whether a live session of the old system becomes one of Better Auth: every rule, and nothing but the rules.
//!
//! A reader (`provider::Sessions`) says what is presented; what is decided here is whether that counts, for whom, and for how long.
//! `server/migration/bridge.rs` asks the readers, claims the session and hands out the cookies.

use std::time::Duration;

use http::{HeaderMap, Method};
use sha2::{Digest as _, Sha256};

use super::accounts::{Account, NewSession, OldSessionKey};
use super::provider::{OldSession, Subject};
use super::state::State;
use crate::secret::Secret;
use crate::session::{BoxFuture, SourceError};
use crate::time::UnixMs;

/// Longest life of a session in which somebody acts for somebody else: the framework's own length for those.
const IMPERSONATED_FOR: Duration = Duration::from_secs(3600);

/// How long ago a session is taken to have begun that does not say when. The framework asks for the password again after a day; this
/// is beyond it whatever was configured up to a month.
const BEGAN_BEFORE: Duration = Duration::from_secs(31 * 86_400);

/// How far an old system's clock may be ahead of ours.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// What the operator says about it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When taking over begins; with the migration without it.
    pub opens: Option<UnixMs>,
    /// When it ends; with the migration without it.
    pub closes: Option<UnixMs>,
    /// How long a session that was taken over lives at most.
    pub lifetime: Option<Duration>,
    /// Better Auth's own `session.expiresIn`.
    pub expires_in: Duration,
    /// Whether sessions of nobody in particular are taken over: the app has the anonymous plugin.
    pub anonymous: bool,
    /// Whether sessions in which somebody acts for somebody else are taken over, with `impersonatedBy`.
    pub impersonated: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            opens: None,
            closes: None,
            lifetime: None,
            expires_in: Duration::from_secs(604_800),
            anonymous: false,
            impersonated: false,
        }
    }
}

impl Settings {
    /// Whether sessions are taken over at this moment.
    pub fn is_open(&self, now: UnixMs) -> bool {
        self.opens.is_none_or(|opens| opens <= now) && self.closes.is_none_or(|closes| now < closes)
    }
}

/// Why a session that lives in the old system makes none here. The word is for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// The request may come from another site.
    CrossSite,
    /// Nobody here is known by that id.
    UnknownUser,
    /// Two sessions of two people were presented.
    Ambiguous,
    /// The account is banned.
    Banned,
    /// The account must not get in this way until somebody has looked into it.
    Blocked,
    /// It is nobody's in particular.
    Anonymous,
    /// Somebody acts for somebody else in it.
    Impersonated,
    /// The user has a second factor, and the session does not show it.
    SecondFactor,
    /// The password was changed, or everything signed out, since it began.
    Outdated,
    /// It is over.
    Expired,
    /// It began later than now.
    NotYet,
    /// It does not say which session it is.
    Nameless,
    /// It was signed out here.
    SignedOut,
    /// It made a session once, and that has ended.
    Spent,
    /// Its user does not take part.
    Off,
}

impl Word {
    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CrossSite => "cross_site",
            Self::UnknownUser => "unknown_user",
            Self::Ambiguous => "ambiguous",
            Self::Banned => "banned",
            Self::Blocked => "blocked",
            Self::Anonymous => "anonymous",
            Self::Impersonated => "impersonated",
            Self::SecondFactor => "second_factor",
            Self::Outdated => "outdated",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Nameless => "nameless",
            Self::SignedOut => "signed_out",
            Self::Spent => "spent",
            Self::Off => "off",
        }
    }
}

/// Whose account an old session is to be found by, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By<'s> {
    /// The id in the old system.
    Source(&'s str),
    /// An id that is Better Auth's own.
    Local(&'s str),
    /// The address it names, where the operator trusts the old system's addresses.
    Email(&'s str),
}

/// How the account of an old session is found. By an address only where its reader says that the operator has consented; what the
/// session names besides its subject finds nobody.
pub fn whose(old: &OldSession) -> Option<By<'_>> {
    match &old.subject {
        Subject::Source(id) if !id.is_empty() => Some(By::Source(id)),
        Subject::Local(id) if !id.is_empty() => Some(By::Local(id)),
        Subject::Email(email) if !email.is_empty() => Some(By::Email(email)),
        Subject::Source(_) | Subject::Local(_) | Subject::Email(_) | Subject::Nobody => None,
    }
}

/// What identifies an old session, without being it. `None`: it does not say which one it is.
pub fn key(provider: &str, old: &OldSession) -> Option<OldSessionKey> {
    let session = old.session.expose();
    if session.is_empty() {
        return None;
    }
    let digest = Sha256::digest(session.as_bytes());
    Some(OldSessionKey {
        provider: provider.to_owned(),
        digest: data_encoding::HEXLOWER.encode(&digest),
    })
}

/// What is known of a session and its user when it is decided upon.
#[derive(Clone, Copy)]
pub struct Known<'k> {
    /// Where it was read.
    pub provider: &'k str,
    /// What was read.
    pub old: &'k OldSession,
    /// The account it was mapped to.
    pub account: Option<&'k Account>,
    /// Since when old sessions of that account count (`Accounts::sessions_count_from`).
    pub count_from: Option<UnixMs>,
    /// `user.id` of the one who is behind it, where that one is known here.
    pub impersonator: Option<&'k str>,
}

/// A session that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whose.
    pub user_id: String,
    /// When they signed in to the old system: fresh-session checks still ask for the password.
    pub created_at: UnixMs,
    /// When it ends.
    pub expires_at: UnixMs,
    /// Who acts for them.
    pub impersonated_by: Option<String>,
}

impl Plan {
    /// The session itself.
    pub fn session(
        self,
        id: String,
        token: Secret,
        ip_address: String,
        user_agent: String,
        in_database: bool,
        now: UnixMs,
    ) -> NewSession {
        NewSession {
            id,
            token,
            user_id: self.user_id,
            expires_at: self.expires_at,
            created_at: self.created_at,
            updated_at: now,
            ip_address,
            user_agent,
            impersonated_by: self.impersonated_by,
            organization_id: None,
            in_database,
        }
    }
}

/// Decides about a session that lives in the old system.
///
/// # Errors
/// Says why it makes no session here. The person signs in then, like anybody else.
pub fn decide(known: Known<'_>, now: UnixMs, settings: &Settings) -> Result<Plan, Word> {
    let old = known.old;
    if old.session.expose().is_empty() {
        return Err(Word::Nameless);
    }
    if old.expires_at.is_some_and(|ends| ends <= now) {
        return Err(Word::Expired);
    }
    let began = old.authenticated_at;
    if began.is_some_and(|at| at > now.plus(CLOCKS_APART)) {
        return Err(Word::NotYet);
    }
    let account = known.account.ok_or(Word::UnknownUser)?;
    if !is_mapped(known, account) {
        return Err(Word::UnknownUser);
    }
    if account.banned {
        return Err(Word::Banned);
    }
    if is_blocked(known.provider, account) {
        return Err(Word::Blocked);
    }
    if (old.anonymous || account.anonymous) && !settings.anonymous {
        return Err(Word::Anonymous);
    }
    let impersonated_by = match (&old.impersonator, known.impersonator) {
        (None, _) => None,
        (Some(_), Some(here)) if settings.impersonated => Some(here.to_owned()),
        // Unconfigured, or by somebody whom nobody knows here: it would pass for the user's own.
        (Some(_), _) => return Err(Word::Impersonated),
    };
    // A session that does not say when it began may be from before.
    let outdated = |from: UnixMs| began.is_none_or(|at| at < from);
    if known.count_from.is_some_and(outdated) {
        return Err(Word::Outdated);
    }
    let has_factor = account.two_factor || account.factor.is_some();
    if has_factor && old.second_factor != Some(true) {
        return Err(Word::SecondFactor);
    }
    let mut lifetime = settings.expires_in;
    if let Some(most) = settings.lifetime {
        lifetime = lifetime.min(most);
    }
    if impersonated_by.is_some() {
        lifetime = lifetime.min(IMPERSONATED_FOR);
    }
    let mut expires_at = now.plus(lifetime);
    if let Some(ends) = old.expires_at {
        expires_at = expires_at.min(ends);
    }
    let long_ago = UnixMs(now.0.saturating_sub(ms(BEGAN_BEFORE)));
    Ok(Plan {
        user_id: account.user_id.clone(),
        created_at: began.unwrap_or(long_ago).min(now),
        expires_at,
        impersonated_by,
    })
}

/// Whether an account is the one the session names, byte for byte: some databases find `Ann` for `ann`.
fn is_mapped(known: Known<'_>, account: &Account) -> bool {
    match whose(known.old) {
        Some(By::Source(id)) => account
            .sources
            .iter()
            .any(|source| source.provider == known.provider && source.id == id),
        Some(By::Local(id)) => account.user_id == id,
        // An address that nobody has verified here may have been taken by anybody before its owner came.
        Some(By::Email(email)) => account.email_verified && account.email.to_lowercase() == email,
        None => false,
    }
}

fn is_blocked(provider: &str, account: &Account) -> bool {
    let by_source = account
        .sources
        .iter()
        .any(|source| source.provider == provider && source.state == State::Blocked);
    let old = account.old.as_ref();
    by_source || old.is_some_and(|old| old.state == State::Blocked)
}

fn ms(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

/// Whether a request may take a session over: not what another site makes a browser do, but for a person who follows a link.
/// `public_origin`: the origin browsers see.
///
/// # Errors
/// When it may not.
pub fn may_arrive(method: &Method, headers: &HeaderMap, public_origin: &str) -> Result<(), Word> {
    let one = |name: &str| one_of(headers, name);
    let reads = method == Method::GET || method == Method::HEAD;
    let (Ok(origin), Ok(site)) = (one("origin"), one("sec-fetch-site")) else {
        return Err(Word::CrossSite);
    };
    let ours = |origin: &str| is_our_origin(origin, headers, public_origin);
    if let Some(origin) = origin
        && !ours(origin)
    {
        return Err(Word::CrossSite);
    }
    let fine = match site {
        Some("same-origin" | "none") => true,
        // A page of a sibling, or of somebody else's: a link to us may be followed, nothing else.
        Some(_) => {
            reads
                && one("sec-fetch-mode") == Ok(Some("navigate"))
                && one("sec-fetch-dest") == Ok(Some("document"))
        }
        // Browsers from before these headers, and programs. Neither lets a page write without saying whose it is.
        None => {
            let from_us = || match one("referer") {
                Ok(Some(from)) => url::Url::parse(from)
                    .is_ok_and(|from| ours(&from.origin().ascii_serialization())),
                _ => false,
            };
            reads || origin.is_some() || from_us()
        }
    };
    fine.then_some(()).ok_or(Word::CrossSite)
}

/// Whether a page of this origin is the app's own: the public address, or the very host that is asked.
pub fn is_our_origin(origin: &str, headers: &HeaderMap, public_origin: &str) -> bool {
    if origin.eq_ignore_ascii_case(public_origin.trim_end_matches('/')) {
        return true;
    }
    let scheme = |text: &str| text.split("://").next().map(str::to_ascii_lowercase);
    let (Ok(said), Ok(Some(host))) = (url::Url::parse(origin), one_of(headers, "host")) else {
        return false;
    };
    let Ok(asked) = url::Url::parse(&format!("{}://{host}", said.scheme())) else {
        return false;
    };
    scheme(origin) == scheme(public_origin) && said.origin() == asked.origin()
}

/// The only value of a header; none where it is missing.
fn one_of<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, ()> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => Err(()),
    }
}

/// What became of writing a session beside the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there.
    There,
    /// Its user has ended all sessions that began before, or is gone.
    Ended,
}

/// Where the app keeps sessions beside the database, as the framework writes them. Implemented by `store/`.
pub trait Beside: Send + Sync {
    /// Writes a session with its whole user.
    fn write<'a>(&'a self, session: &'a NewSession) -> BoxFuture<'a, Result<Written, SourceError>>;

    /// Takes it away again: somebody else was first.
    fn withdraw<'a>(&'a self, session: &'a NewSession) -> BoxFuture<'a, Result<(), SourceError>>;
}

/// Whole users, as the framework knows them. Implemented by `store/`.
pub trait Users: Send + Sync {
    /// A user with every field that the app would show of it. `None`: there is none.
    fn shown<'a>(
        &'a self,
        user_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<serde_json::Map<String, serde_json::Value>>, SourceError>>;
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::migration::accounts::{OldCredential, OldFactor, Source};

    const NOW: UnixMs = UnixMs(1_795_000_000_000);
    const HOUR: i64 = 3_600_000;

    fn old() -> OldSession {
        OldSession {
            session: Secret::new("sess_1"),
            subject: Subject::Source("user_1".into()),
            authenticated_at: Some(UnixMs(NOW.0 - 5 * HOUR)),
            expires_at: Some(UnixMs(NOW.0 + 24 * HOUR)),
            ..OldSession::default()
        }
    }

    fn account() -> Account {
        Account {
            user_id: "ada".into(),
            email: "ada@example.com".into(),
            email_verified: true,
            banned: false,
            two_factor: false,
            anonymous: false,
            has_credential: true,
            password: None,
            password_changed_at: None,
            old: None,
            sources: vec![Source {
                provider: "clerk".into(),
                id: "user_1".into(),
                state: State::Pending,
            }],
            factor: None,
        }
    }

    struct Case {
        old: OldSession,
        account: Option<Account>,
        count_from: Option<UnixMs>,
        impersonator: Option<&'static str>,
        settings: Settings,
    }

    impl Case {
        fn new() -> Self {
            Self {
                old: old(),
                account: Some(account()),
                count_from: None,
                impersonator: None,
                settings: Settings::default(),
            }
        }

        fn decide(&self) -> Result<Plan, Word> {
            let known = Known {
                provider: "clerk",
                old: &self.old,
                account: self.account.as_ref(),
                count_from: self.count_from,
                impersonator: self.impersonator,
            };
            decide(known, NOW, &self.settings)
        }
    }

    fn decided(change: impl FnOnce(&mut Case)) -> Result<Plan, Word> {
        let mut case = Case::new();
        change(&mut case);
        case.decide()
    }

    fn account_with(change: impl FnOnce(&mut Account)) -> Option<Account> {
        let mut account = account();
        change(&mut account);
        Some(account)
    }

    #[test]
    fn rule_1_the_window_is_open_from_its_first_moment_to_before_its_last() {
        let settings = Settings {
            opens: Some(UnixMs(10)),
            closes: Some(UnixMs(20)),
            ..Settings::default()
        };
        let open: Vec<i64> = (8..23)
            .filter(|now| settings.is_open(UnixMs(*now)))
            .collect();
        assert_eq!(open, (10..20).collect::<Vec<_>>());
        assert!(Settings::default().is_open(NOW));
    }

    #[test]
    fn rule_2_by_the_id_in_the_old_system_and_never_by_an_address_alone() {
        assert_eq!(decided(|_| {}).unwrap().user_id, "ada");
        let unmapped = |case: &mut Case| case.account = account_with(|a| a.sources.clear());
        assert_eq!(decided(unmapped), Err(Word::UnknownUser));
        assert_eq!(decided(|case| case.account = None), Err(Word::UnknownUser));
        // The same id of another system, and another case of it: databases may find either.
        let elsewhere = |case: &mut Case| {
            case.account = account_with(|a| a.sources[0].provider = "workos".into());
        };
        assert_eq!(decided(elsewhere), Err(Word::UnknownUser));
        let folded = |case: &mut Case| {
            case.account = account_with(|a| a.sources[0].id = "USER_1".into());
        };
        assert_eq!(decided(folded), Err(Word::UnknownUser));
        // An address beside an id that is nobody's here does not help.
        let with_address = |case: &mut Case| {
            case.old.email = Some("ada@example.com".into());
            case.account = account_with(|a| a.sources.clear());
        };
        assert_eq!(decided(with_address), Err(Word::UnknownUser));
    }

    #[test]
    fn rule_2_an_address_with_the_operators_consent_must_be_verified_here() {
        let by_address = |case: &mut Case| {
            case.old.subject = Subject::Email("ada@example.com".into());
            case.account = account_with(|a| a.sources.clear());
        };
        assert_eq!(decided(by_address).unwrap().user_id, "ada");
        let unverified = |case: &mut Case| {
            by_address(case);
            case.account = account_with(|a| a.email_verified = false);
        };
        assert_eq!(decided(unverified), Err(Word::UnknownUser));
        // What it names besides is no consent.
        let nobody = |case: &mut Case| {
            case.old.subject = Subject::Nobody;
            case.old.email = Some("ada@example.com".into());
        };
        assert_eq!(decided(nobody), Err(Word::UnknownUser));
    }

    #[test]
    fn rule_2_an_id_that_the_tables_share_is_that_user_and_nobody_else() {
        let local = |id: &str| {
            let subject = Subject::Local(id.into());
            decided(|case| {
                case.old.subject = subject;
                case.account = account_with(|a| a.sources.clear());
            })
        };
        assert_eq!(local("ada").unwrap().user_id, "ada");
        assert_eq!(local("bob"), Err(Word::UnknownUser));
    }

    #[test]
    fn rule_3_one_session_has_one_key_and_two_have_two() {
        let of = |provider: &str, session: &str| {
            let old = OldSession {
                session: Secret::new(session),
                ..old()
            };
            key(provider, &old)
        };
        assert_eq!(of("clerk", "a"), of("clerk", "a"));
        assert_ne!(of("clerk", "a"), of("clerk", "b"));
        assert_ne!(of("clerk", "a"), of("workos", "a"));
        let made = of("clerk", "sess_1").unwrap();
        assert_eq!(made.digest.len(), 64);
        assert!(!made.digest.contains("sess"));
        assert_eq!(of("clerk", ""), None);
        let nameless = |case: &mut Case| case.old.session = Secret::default();
        assert_eq!(decided(nameless), Err(Word::Nameless));
    }

    #[test]
    fn rule_4_the_shortest_of_three_lives_and_the_old_beginning() {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let lives = |expires_in: u64, limit: Option<u64>, rest: Option<i64>| {
            let plan = decided(|case| {
                case.settings.expires_in = hours(expires_in);
                case.settings.lifetime = limit.map(hours);
                case.old.expires_at = rest.map(|rest| UnixMs(NOW.0 + rest * HOUR));
            });
            (plan.unwrap().expires_at.0 - NOW.0) / HOUR
        };
        assert_eq!(lives(168, None, None), 168);
        assert_eq!(lives(168, Some(48), None), 48);
        assert_eq!(lives(168, Some(48), Some(3)), 3);
        assert_eq!(lives(2, Some(48), Some(3)), 2);
        assert_eq!(
            decided(|_| {}).unwrap().created_at,
            UnixMs(NOW.0 - 5 * HOUR)
        );
        let silent = decided(|case| case.old.authenticated_at = None).unwrap();
        assert!(NOW.since(silent.created_at) >= Duration::from_secs(30 * 86_400));
        // A clock a little ahead is no reason, and makes nobody younger than now.
        let ahead = decided(|case| case.old.authenticated_at = Some(UnixMs(NOW.0 + 30_000)));
        assert_eq!(ahead.unwrap().created_at, NOW);
        let later = decided(|case| case.old.authenticated_at = Some(UnixMs(NOW.0 + HOUR)));
        assert_eq!(later, Err(Word::NotYet));
        let over = decided(|case| case.old.expires_at = Some(NOW));
        assert_eq!(over, Err(Word::Expired));
    }

    #[test]
    fn rule_5_a_plan_becomes_the_session_the_framework_would_have_made() {
        let plan = decided(|_| {}).unwrap();
        let session = plan.session(
            "id".into(),
            Secret::new("token"),
            "192.0.2.1".into(),
            "browser".into(),
            true,
            NOW,
        );
        assert_eq!((&*session.user_id, &*session.id), ("ada", "id"));
        assert_eq!(session.updated_at, NOW);
        assert_eq!(session.created_at, UnixMs(NOW.0 - 5 * HOUR));
        assert_eq!(session.impersonated_by, None);
    }

    #[test]
    fn rule_6_banned_and_blocked_users_do_not_get_in() {
        let banned = |case: &mut Case| case.account = account_with(|a| a.banned = true);
        assert_eq!(decided(banned), Err(Word::Banned));
        let blocked =
            |case: &mut Case| case.account = account_with(|a| a.sources[0].state = State::Blocked);
        assert_eq!(decided(blocked), Err(Word::Blocked));
        let blocked = |case: &mut Case| {
            case.account = account_with(|a| {
                a.old = Some(OldCredential {
                    scheme: "bcrypt".into(),
                    sealed: Secret::default(),
                    state: State::Blocked,
                    exported_at: None,
                });
            });
        };
        assert_eq!(decided(blocked), Err(Word::Blocked));
        for state in State::ALL.into_iter().filter(|s| *s != State::Blocked) {
            let fine = |case: &mut Case| {
                case.account = account_with(|a| a.sources[0].state = state);
            };
            assert!(decided(fine).is_ok(), "{state:?}");
        }
    }

    #[test]
    fn rule_6_anonymous_sessions_only_where_the_app_has_anonymous_users() {
        for allowed in [false, true] {
            let by_session = decided(|case| {
                case.old.anonymous = true;
                case.settings.anonymous = allowed;
            });
            assert_eq!(by_session.is_ok(), allowed);
            let by_account = decided(|case| {
                case.account = account_with(|a| a.anonymous = true);
                case.settings.anonymous = allowed;
            });
            assert_eq!(by_account.is_ok(), allowed);
        }
    }

    #[test]
    fn rule_6_who_acts_for_somebody_is_named_or_refused() {
        let acts = |allowed: bool, here: Option<&'static str>| {
            decided(|case| {
                case.old.impersonator = Some("admin_1".into());
                case.impersonator = here;
                case.settings.impersonated = allowed;
            })
        };
        assert_eq!(acts(false, Some("grace")), Err(Word::Impersonated));
        assert_eq!(acts(true, None), Err(Word::Impersonated));
        let plan = acts(true, Some("grace")).unwrap();
        assert_eq!(plan.impersonated_by.as_deref(), Some("grace"));
        assert_eq!(plan.expires_at, NOW.plus(IMPERSONATED_FOR));
    }

    #[test]
    fn rule_6_nothing_from_before_a_password_change_or_a_sign_out_everywhere() {
        let since = |from: i64, began: Option<i64>| {
            decided(|case| {
                case.count_from = Some(UnixMs(NOW.0 - from));
                case.old.authenticated_at = began.map(|began| UnixMs(NOW.0 - began));
            })
        };
        assert_eq!(since(HOUR, Some(2 * HOUR)), Err(Word::Outdated));
        assert_eq!(since(HOUR, None), Err(Word::Outdated));
        assert!(since(HOUR, Some(HOUR)).is_ok());
        assert!(since(2 * HOUR, Some(HOUR)).is_ok());
    }

    #[test]
    fn rule_8_a_second_factor_must_have_been_shown() {
        let factor = OldFactor {
            sealed: None,
            digits: 6,
            period: 30,
            algorithm: "SHA1".into(),
            last_step: None,
            native: None,
        };
        let shown = |shown: Option<bool>, change: &dyn Fn(&mut Account)| {
            decided(|case| {
                case.old.second_factor = shown;
                case.account = account_with(change);
            })
        };
        let native = |a: &mut Account| a.two_factor = true;
        let old = |a: &mut Account| a.factor = Some(factor.clone());
        for has in [&native as &dyn Fn(&mut Account), &old] {
            assert_eq!(shown(None, has), Err(Word::SecondFactor));
            assert_eq!(shown(Some(false), has), Err(Word::SecondFactor));
            assert!(shown(Some(true), has).is_ok());
        }
        for silent in [None, Some(false)] {
            assert!(shown(silent, &|_| {}).is_ok());
        }
    }

    fn request(method: &Method, headers: &[(&'static str, &str)]) -> Result<(), Word> {
        let mut map = HeaderMap::new();
        map.insert("host", HeaderValue::from_static("app.test"));
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        may_arrive(method, &map, "https://app.test")
    }

    #[test]
    fn rule_10_a_link_may_be_followed_and_nothing_else_comes_from_another_site() {
        let (get, post) = (&Method::GET, &Method::POST);
        let navigation = [
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        for site in ["cross-site", "same-site"] {
            let mut headers = vec![("sec-fetch-site", site)];
            assert!(request(get, &headers).is_err(), "{site} subresource");
            headers.extend(navigation);
            assert!(request(get, &headers).is_ok(), "{site} link");
            assert!(request(post, &headers).is_err(), "{site} form");
            headers[2] = ("sec-fetch-dest", "iframe");
            assert!(request(get, &headers).is_err(), "{site} frame");
        }
        for site in ["same-origin", "none"] {
            assert!(request(get, &[("sec-fetch-site", site)]).is_ok());
            assert!(request(post, &[("sec-fetch-site", site)]).is_ok());
        }
    }

    #[test]
    fn rule_10_an_origin_that_is_not_ours_is_refused_whatever_else_is_said() {
        let (get, post) = (&Method::GET, &Method::POST);
        for foreign in [
            "https://evil.test",
            "http://app.test",
            "https://app.test:8443",
            "https://app.test.evil.test",
            "null",
            "",
        ] {
            let headers = [("origin", foreign), ("sec-fetch-site", "same-origin")];
            assert!(request(post, &headers).is_err(), "{foreign}");
            assert!(request(get, &headers).is_err(), "{foreign}");
        }
        let ours = [("origin", "https://app.test")];
        assert!(request(post, &ours).is_ok() && request(get, &ours).is_ok());
        let twice = [
            ("origin", "https://app.test"),
            ("origin", "https://app.test"),
        ];
        assert!(request(get, &twice).is_err());
    }

    #[test]
    fn rule_10_browsers_that_say_nothing_may_read_and_write_only_from_our_own_pages() {
        let (get, post) = (&Method::GET, &Method::POST);
        assert!(request(get, &[]).is_ok());
        assert!(request(post, &[]).is_err());
        assert!(request(post, &[("referer", "https://app.test/form")]).is_ok());
        assert!(request(post, &[("referer", "https://evil.test/?https://app.test/")]).is_err());
    }

    #[test]
    fn rule_9_only_pages_of_the_host_that_is_asked_are_ours() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("eu.app.test:8443"));
        let ours = |origin: &str| is_our_origin(origin, &headers, "https://app.test");
        assert!(ours("https://app.test"));
        assert!(ours("https://eu.app.test:8443"));
        assert!(!ours("https://eu.app.test"));
        assert!(!ours("http://eu.app.test:8443"));
        assert!(!ours("https://us.app.test:8443"));
    }
}
