//! Old auth systems, one folder and one line each: how a password is checked there, how a user is looked up, what their live sessions
//! look like.
//!
//! All of it is described as dialogues ([`super::dialogue`]) and pure readings: every provider is tested without a network.

mod aspnet;
mod auth0;
mod authjs;
mod clerk;
mod cognito;
mod descope;
mod devise;
mod django;
mod express_session;
mod firebase;
mod generic;
mod iron_session;
mod keycloak;
mod kratos;
mod laravel;
mod lucia;
mod native;
mod oidc;
mod rails;
mod reading;
mod stytch;
mod supabase;
mod supertokens;
mod support;
mod tables;
mod wordpress;
mod workos;

use std::collections::BTreeMap;

use http::HeaderMap;

use super::dialogue::{Dialogue, Unreachable};
use super::import::source::Export;
use crate::kind::Kind;
use crate::secret::Secret;
use crate::time::UnixMs;

/// What a provider can do, and what must be said about it.
pub struct Build {
    /// The parts of it that were written from documentation or memory, and were not tried against the system or read in its source.
    pub experimental: &'static [&'static str],
    /// The keys of its table `[migration.from.NAME]`, in groups: those of the live check, those of its sessions.
    pub keys: &'static [&'static [Key]],
    /// How passwords are checked there.
    pub check: Option<BuildCheck>,
    /// How its live sessions are read.
    pub sessions: Option<BuildSessions>,
}

/// What an operator should know of a system before trusting it; none where nothing of it is experimental.
pub fn caution(kind: &Kind<Build>) -> Option<String> {
    let parts = kind.build.experimental;
    let verb = match parts {
        [] => return None,
        [_] => "is",
        _ => "are",
    };
    Some(format!(
        "migration.from.{}: {} {verb} experimental, not tried against the system itself: try it with accounts of your own first",
        kind.name,
        parts.join(" and "),
    ))
}

/// Builds a live check from the keys of its table; none where the table holds those of its sessions alone.
pub type BuildCheck = fn(&Fields) -> Result<Option<Box<dyn Check>>, String>;

/// Builds a reader of sessions from the keys of its table; none where the table holds those of its live check alone.
pub type BuildSessions = fn(&Fields) -> Result<Option<Box<dyn Sessions>>, String>;

/// One key of a provider's table.
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it is, with the unit and the default.
    pub about: &'static str,
    /// What may stand there.
    pub kind: KeyKind,
}

/// What may stand at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A text.
    Text,
    /// A secret: also `{ env = "NAME" }` or `{ file = "PATH" }`.
    Secret,
    /// A list of secrets, the current one first; one alone may stand without brackets.
    Secrets,
    /// A list of texts; one alone may stand without brackets.
    Texts,
    /// `true` or `false`.
    Flag,
    /// A duration with its unit.
    Duration,
    /// A whole number.
    Number,
}

/// What the operator wrote in a provider's table, already in the kinds its keys declare.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// By key.
    pub values: BTreeMap<String, Field>,
    /// The origin browsers see: the app's own.
    pub public_origin: String,
}

/// One value.
#[derive(Clone, Debug)]
pub enum Field {
    /// A text or secret.
    Text(Secret),
    /// A list of them.
    List(Vec<Secret>),
    /// A flag.
    Flag(bool),
    /// A duration.
    Duration(std::time::Duration),
    /// A number.
    Number(u64),
}

impl Fields {
    /// A text or secret that may be left out.
    pub fn text(&self, key: &str) -> Option<&Secret> {
        match self.values.get(key)? {
            Field::Text(text) => Some(text),
            Field::List(list) => list.first(),
            Field::Flag(_) | Field::Duration(_) | Field::Number(_) => None,
        }
    }

    /// A text or secret that must be there.
    ///
    /// # Errors
    /// Says which key is missing.
    pub fn required(&self, key: &str) -> Result<&Secret, String> {
        self.text(key).ok_or_else(|| format!("`{key}` is missing"))
    }

    /// A list, empty when it was left out.
    pub fn list(&self, key: &str) -> Vec<Secret> {
        match self.values.get(key) {
            Some(Field::List(list)) => list.clone(),
            Some(Field::Text(text)) => vec![text.clone()],
            _ => Vec::new(),
        }
    }

    /// A flag.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        match self.values.get(key) {
            Some(Field::Flag(flag)) => *flag,
            _ => default,
        }
    }

    /// A duration.
    pub fn duration(&self, key: &str, default: std::time::Duration) -> std::time::Duration {
        match self.values.get(key) {
            Some(Field::Duration(duration)) => *duration,
            _ => default,
        }
    }

    /// A number.
    pub fn number(&self, key: &str, default: u64) -> u64 {
        match self.values.get(key) {
            Some(Field::Number(number)) => *number,
            _ => default,
        }
    }

    /// An address: https, or http on loopback.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn url(&self, key: &str, default: &str) -> Result<url::Url, String> {
        let text = self.text(key).map_or(default, Secret::expose);
        let url = url::Url::parse(text).map_err(|_| format!("`{key}` is no web address"))?;
        let loopback = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        match url.scheme() {
            "https" => Ok(url),
            "http" if loopback => Ok(url),
            _ => Err(format!("`{key}` must be https: passwords go there")),
        }
    }
}

/// Who somebody says they are, with what they typed.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The address they have here, or typed.
    pub email: Option<String>,
    /// The username they typed, where it was one.
    pub username: Option<String>,
    /// The phone number they typed, where it was one.
    pub phone: Option<String>,
    /// Their id in the old system, where it is known.
    pub source_id: Option<String>,
    /// The password as typed.
    pub password: Secret,
    /// The client's own address.
    pub client: std::net::IpAddr,
    /// The client's `User-Agent`.
    pub user_agent: String,
}

/// A profile in the old system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The id there.
    pub id: String,
    /// The address, lower-case.
    pub email: Option<String>,
    /// Whether it is verified there.
    pub email_verified: bool,
    /// A name that can be shown; empty when there is none.
    pub name: String,
    /// A picture.
    pub image: Option<String>,
    /// A username.
    pub username: Option<String>,
    /// A phone number in E.164, with whether it is verified.
    pub phone: Option<(String, bool)>,
    /// When the account was made there.
    pub created_at: Option<UnixMs>,
    /// Whether the account must not get in there.
    pub blocked: bool,
    /// Whether it has a second factor there.
    pub second_factor: bool,
}

/// What the old system said of a password.
#[derive(Clone, Debug)]
pub enum Checked {
    /// It is right, and this is whose.
    Right(Profile),
    /// It is right, and a second factor must follow. `Profile` may hold no more than the id.
    SecondFactor {
        /// Whose.
        profile: Profile,
        /// What the old system wants back with the code; sealed before it is kept anywhere.
        pending: Option<Secret>,
    },
    /// It is right, and a new one must be chosen (or the address verified there first): good for the hash, and said to the operator.
    RightBut(Profile, &'static str),
    /// It is wrong, or there is no such user: systems do not tell.
    Wrong,
    /// There is no password to check: the user signs in there by other means.
    NoPassword,
    /// The password may be right, and the account must not get in there.
    Blocked(&'static str),
    /// The old system refuses to check for this account or address for a while.
    Limited(Option<std::time::Duration>),
    /// It could not be found out.
    Unavailable(Unreachable),
}

impl Default for Checked {
    fn default() -> Self {
        Self::Unavailable(Unreachable::Unconfigured)
    }
}

/// What the old system said of a second factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorChecked {
    /// It is right.
    Right,
    /// It is wrong, or was used before.
    Wrong,
    /// It could not be found out.
    Unavailable(Unreachable),
}

impl Default for FactorChecked {
    fn default() -> Self {
        Self::Unavailable(Unreachable::Unconfigured)
    }
}

/// What the old system said of a look-up. `Ok(None)`: there is no such user.
pub type LookedUp = Result<Option<Profile>, Unreachable>;

/// What is mirrored into the old system during the window.
#[derive(Clone, Debug)]
pub enum Mirror {
    /// A user signed up here.
    SignUp {
        /// Who. The id is the one they have here, for the old system to remember where it can.
        profile: Profile,
        /// The password, once and in memory.
        password: Option<Secret>,
    },
    /// Their address changed.
    Email {
        /// The id there.
        id: String,
        /// The new address.
        email: String,
        /// Whether it is verified.
        verified: bool,
    },
    /// Their password changed.
    Password {
        /// The id there.
        id: String,
        /// The new one, once and in memory.
        password: Secret,
    },
    /// Their password changed, and only Better Auth's hash of it is known.
    Hash {
        /// The id there.
        id: String,
        /// `account.password`, a native hash.
        native: Secret,
    },
    /// Their name changed.
    Name {
        /// The id there.
        id: String,
        /// The new one.
        name: String,
    },
    /// They are gone.
    Delete {
        /// The id there.
        id: String,
    },
}

/// What became of mirroring: the id there.
pub type Mirrored = Result<Option<String>, Unreachable>;

/// How passwords, users and second factors of an old system are checked while it runs.
pub trait Check: Send + Sync {
    /// Most checks of one account in a time, below the vendor's own limit: beyond it we do not ask, and nobody is locked out there
    /// through us.
    fn limit(&self) -> Limit;

    /// Most requests to the old system in a time, by all of us and of every kind, below the vendor's own limit.
    fn overall(&self) -> Limit {
        OVERALL
    }

    /// Asks once whether a password fits, and ends at once whatever session that made.
    fn check(&self, attempt: &Attempt) -> Box<dyn Dialogue<Checked>>;

    /// Looks a user up by address. `None`: this system has no such question, or it is not configured.
    fn look_up(&self, _email: &str) -> Option<Box<dyn Dialogue<Option<LookedUp>>>> {
        None
    }

    /// Checks a code of the second factor. `None`: it cannot be checked there. `pending`: what [`Checked::SecondFactor`] gave.
    fn check_factor(
        &self,
        _source_id: &str,
        _pending: Option<&Secret>,
        _code: &Secret,
    ) -> Option<Box<dyn Dialogue<FactorChecked>>> {
        None
    }

    /// Mirrors a change into the old system. `None`: this system cannot take it.
    fn mirror(&self, _what: &Mirror) -> Option<Box<dyn Dialogue<Option<Mirrored>>>> {
        None
    }
}

/// Most requests to an old system in a time, where nothing else is known: what a small installation of any of them answers.
pub const OVERALL: Limit = Limit {
    most: 300,
    within: std::time::Duration::from_secs(10),
};

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub most: u32,
    /// In how long.
    pub within: std::time::Duration,
}

/// How live sessions of an old system are read.
pub trait Sessions: Send + Sync {
    /// Whether a cookie of this name may be one of this system's. Asked for every cookie of a request without a session of ours, so it
    /// compares names and no more.
    fn concerns(&self, cookie: &[u8]) -> bool;

    /// Begins to read what a request presents: its cookies, or the bearer token handed to the bridge.
    fn read(&self, presented: &Presented<'_>) -> Box<dyn Dialogue<Reading>>;

    /// `Set-Cookie` lines that clear this system's cookies on the host and its parent domain, after a sign-out.
    fn clear(&self, request: &HeaderMap, host: &str) -> Vec<String>;
}

/// What a request presents of an old system.
#[derive(Clone, Copy, Debug)]
pub enum Presented<'r> {
    /// Cookies.
    Cookies(&'r HeaderMap),
    /// A bearer token, from an app that keeps tokens in browser storage.
    Bearer(&'r str),
}

/// What a reading came to.
#[derive(Clone, Debug, Default)]
pub enum Reading {
    /// Nothing of this system is presented.
    #[default]
    Nothing,
    /// Something is, and it does not count. The word is for logs and metrics.
    Refused(Refusal),
    /// Somebody's session, alive.
    Alive(Box<OldSession>),
    /// It could not be found out.
    Unavailable(Unreachable),
}

/// Why what was presented does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not in the form of this system.
    Malformed,
    /// Two cookies of one name, with different contents.
    Ambiguous,
    /// The signature is not right.
    BadSignature,
    /// The seal is broken, or made with another password.
    BadSeal,
    /// Cannot be decrypted.
    Undecryptable,
    /// Signed with a key nobody knows.
    UnknownKey,
    /// Signed in a way that is not accepted.
    BadAlgorithm,
    /// Somebody else issued it.
    BadIssuer,
    /// It is for somebody else.
    BadAudience,
    /// Another app may use it.
    BadAuthorizedParty,
    /// Expired.
    Expired,
    /// Not valid yet.
    NotYetValid,
    /// A token of another purpose.
    NotASessionToken,
    /// Not about a user.
    NotAUser,
    /// The session is not complete there.
    SessionPending,
    /// Signed out there.
    SignedOut,
    /// The old system does not know this session, or ended it.
    UnknownSession,
    /// It names nobody.
    NoSubject,
    /// Its parts are about different users.
    SubjectMismatch,
    /// The password has changed since.
    PasswordChanged,
}

impl Refusal {
    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Ambiguous => "ambiguous",
            Self::BadSignature => "bad_signature",
            Self::BadSeal => "bad_seal",
            Self::Undecryptable => "undecryptable",
            Self::UnknownKey => "unknown_key",
            Self::BadAlgorithm => "bad_algorithm",
            Self::BadIssuer => "bad_issuer",
            Self::BadAudience => "bad_audience",
            Self::BadAuthorizedParty => "bad_azp",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NotASessionToken => "not_a_session_token",
            Self::NotAUser => "not_a_user",
            Self::SessionPending => "session_pending",
            Self::SignedOut => "signed_out",
            Self::UnknownSession => "unknown_session",
            Self::NoSubject => "no_subject",
            Self::SubjectMismatch => "subject_mismatch",
            Self::PasswordChanged => "password_changed",
        }
    }
}

/// A live session of the old system.
#[derive(Clone, Debug, Default)]
pub struct OldSession {
    /// What identifies the session there, the same for every token of it; its digest is kept, not itself.
    pub session: Secret,
    /// Whose it is.
    pub subject: Subject,
    /// When they signed in there.
    pub authenticated_at: Option<UnixMs>,
    /// When it ends there, as far as is known.
    pub expires_at: Option<UnixMs>,
    /// Whether it shows that a second factor was checked; `None`: it does not say.
    pub second_factor: Option<bool>,
    /// Who really is behind it.
    pub impersonator: Option<String>,
    /// Whether it is nobody's in particular.
    pub anonymous: bool,
    /// The organization that is active in it: its id there, and the role.
    pub organization: Option<(String, Option<String>)>,
    /// The address it names; used only with the operator's consent.
    pub email: Option<String>,
    /// What it says besides, where the system lets apps say anything: for `user_id_path` and tests.
    pub data: Option<serde_json::Value>,
}

/// Whose an old session is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// Nobody's that could be named.
    #[default]
    Nobody,
    /// The id in the old system, mapped by the import.
    Source(String),
    /// An id that is Better Auth's own too: the old system shared the tables.
    Local(String),
    /// Only an address, lower-case, from a system whose addresses the operator said to trust (`trust_email`).
    Email(String),
}

/// Every provider whose exports are read, in the order of the documentation.
pub static EXPORTS: &[Kind<Export>] = &[
    clerk::EXPORT,
    workos::EXPORT,
    generic::EXPORT,
    authjs::EXPORT,
    auth0::EXPORT,
    supabase::EXPORT,
    firebase::EXPORT,
    cognito::EXPORT,
    keycloak::EXPORT,
    kratos::EXPORT,
    django::EXPORT,
    wordpress::EXPORT,
    supertokens::EXPORT,
    stytch::EXPORT,
    descope::EXPORT,
    lucia::EXPORT,
    devise::EXPORT,
    laravel::EXPORT,
    aspnet::EXPORT,
];

/// Every provider.
pub static KINDS: &[Kind<Build>] = &[
    clerk::KIND,
    workos::KIND,
    generic::KIND,
    authjs::KIND,
    supabase::KIND,
    auth0::KIND,
    firebase::KIND,
    cognito::KIND,
    keycloak::KIND,
    kratos::KIND,
    supertokens::KIND,
    stytch::KIND,
    descope::KIND,
    iron_session::KIND,
    lucia::KIND,
    express_session::KIND,
    django::KIND,
    rails::KIND,
    laravel::KIND,
    wordpress::KIND,
    oidc::KIND,
];
