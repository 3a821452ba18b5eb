//! What the migration reads and writes of accounts: Better Auth's own rows, and tables of the gateway's beside them.
//!
//! Source of the rows: better-auth 1.4 to 1.7, tables `user`, `account`, `session`, `verification`, `twoFactor`. The tables of the
//! gateway stand in the PostgreSQL schema `vestibule`, elsewhere under the prefix `vestibule_`.

use crate::secret::Secret;
use crate::session::BoxFuture;
use crate::time::UnixMs;

use super::state::State;

/// What a person types to say who they are, already in the form in which it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// An address, lower-case.
    Email(String),
    /// A username, lower-case.
    Username(String),
    /// A phone number, as typed.
    Phone(String),
    /// Better Auth's own id.
    UserId(String),
    /// The id in the old system: provider, id.
    Source(String, String),
}

/// What is known of one account.
#[derive(Clone, Debug)]
pub struct Account {
    /// `user.id`.
    pub user_id: String,
    /// `user.email`.
    pub email: String,
    /// `user.emailVerified`.
    pub email_verified: bool,
    /// `user.banned`, with a ban that is over counted as none.
    pub banned: bool,
    /// `user.twoFactorEnabled`.
    pub two_factor: bool,
    /// `user.isAnonymous`.
    pub anonymous: bool,
    /// Whether there is a credential row (`account.providerId = "credential"`).
    pub has_credential: bool,
    /// `account.password` of that row, as stored.
    pub password: Option<Secret>,
    /// `account.updatedAt` of that row.
    pub password_changed_at: Option<UnixMs>,
    /// The old hash, where one is kept.
    pub old: Option<OldCredential>,
    /// Who they are in the old system: at most one per provider.
    pub sources: Vec<Source>,
    /// The old second factor, where there was one.
    pub factor: Option<OldFactor>,
}

/// An old hash as it is kept: sealed, with its scheme beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldCredential {
    /// The scheme, by its name in `password::KINDS`. Never guessed.
    pub scheme: String,
    /// Hash and parameters, sealed under the migration's own key; opened by `password::vault`.
    pub sealed: Secret,
    /// Where the user stands.
    pub state: State,
    /// When the old system exported it: a password may have changed there since.
    pub exported_at: Option<UnixMs>,
}

/// Who somebody is in the old system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The provider, by its name in `provider::KINDS`.
    pub provider: String,
    /// The id there.
    pub id: String,
    /// Where the user stands.
    pub state: State,
}

/// A second factor that the old account had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldFactor {
    /// The TOTP secret's raw bytes, sealed; `None`: there was one, and it was not exported.
    pub sealed: Option<Secret>,
    /// Digits of a code.
    pub digits: u8,
    /// Seconds a code lives.
    pub period: u32,
    /// `SHA1`, `SHA256`, `SHA512`.
    pub algorithm: String,
    /// The last step whose code was used. A code works once.
    pub last_step: Option<i64>,
    /// `twoFactor.secret`, as stored, of the row that stands in for it.
    pub native: Option<Secret>,
}

/// A user of the old system who is to be known here.
#[derive(Clone, Debug, Default)]
pub struct NewUser {
    /// The id wanted, where the id column takes text; otherwise one is made.
    pub id: Option<String>,
    /// Lower-case.
    pub email: String,
    /// Whether the old system had it verified.
    pub email_verified: bool,
    /// Never empty.
    pub name: String,
    /// A picture.
    pub image: Option<String>,
    /// The username plugin's.
    pub username: Option<String>,
    /// The phone plugin's, with whether it is verified.
    pub phone: Option<(String, bool)>,
    /// When the account was made there.
    pub created_at: Option<UnixMs>,
    /// Who they are there.
    pub source: Option<(String, String)>,
    /// The hash, native. With it comes a credential row.
    pub password: Option<Secret>,
    /// Whether they had a second factor there.
    pub had_second_factor: bool,
}

/// A replacement of what signs a user in.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// Whose.
    pub user_id: String,
    /// What `account.password` was when we looked; `None`: NULL, or no row at all.
    pub seen: Option<Secret>,
    /// What it is to be: a native hash.
    pub native: Secret,
    /// Where the user stands then.
    pub state: State,
    /// An old hash found in `account.password` itself, to be kept until `finalize`: scheme, sealed.
    pub keep: Option<(String, Secret)>,
    /// Now.
    pub at: UnixMs,
}

/// A session to be made for an old one.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// `session.id`.
    pub id: String,
    /// `session.token`.
    pub token: Secret,
    /// Whose.
    pub user_id: String,
    /// `session.expiresAt`.
    pub expires_at: UnixMs,
    /// `session.createdAt`: when they signed in to the old system.
    pub created_at: UnixMs,
    /// `session.updatedAt`.
    pub updated_at: UnixMs,
    /// `session.ipAddress`.
    pub ip_address: String,
    /// `session.userAgent`.
    pub user_agent: String,
    /// `session.impersonatedBy`.
    pub impersonated_by: Option<String>,
    /// `session.activeOrganizationId`.
    pub organization_id: Option<String>,
    /// Whether the app keeps its sessions in its database. Where it does not, the claim alone is noted there, and whoever made it
    /// writes the session where the app looks for it.
    pub in_database: bool,
}

/// An old session, by the digest of what identifies it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldSessionKey {
    /// The provider.
    pub provider: String,
    /// Hex SHA-256 of the session's id there.
    pub digest: String,
}

/// What became of claiming an old session.
#[derive(Clone, Debug)]
pub enum Claimed {
    /// It was nobody's yet; the session was made.
    Made,
    /// Somebody was first, with this session. It may have ended since.
    Before {
        /// `session.token`, sealed under the migration's own key.
        sealed_token: Secret,
        /// `session.expiresAt`, as it was made.
        expires_at: UnixMs,
    },
    /// It was signed out here: it makes no session any more.
    Dead,
}

/// What was written for the old system and did not arrive. Holds no address and no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferred {
    /// Number of the row.
    pub id: i64,
    /// Whose.
    pub user_id: String,
    /// What was to be done: `sign_up`, `email`, `password`, `delete`.
    pub operation: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it is due again; `None`: never, somebody must look.
    pub due: Option<UnixMs>,
}

/// Nothing could be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountsError {
    /// No answer in time.
    #[error("the database of the migration did not answer in time")]
    Timeout,
    /// No connection.
    #[error("the database of the migration cannot be reached: {0}")]
    Unreachable(String),
    /// It says no.
    #[error("the database of the migration refuses: {0}")]
    Denied(String),
    /// A table or column is not as expected.
    #[error("the database of the migration is not as expected: {0}")]
    Schema(String),
    /// Two users claim one address, username or id.
    #[error("somebody else has this {0}")]
    Taken(&'static str),
    /// A value is one that its column does not take: too long, of letters it has not, or against a rule of the app's.
    #[error("the database of the migration does not take a row: {0}")]
    Unfit(String),
}

impl AccountsError {
    /// The operator's next step.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Timeout | Self::Unreachable(_) => {
                "check that `migration.database` runs and may be reached"
            }
            Self::Denied(_) => {
                "grant the role of `migration.database` what docs/migration.md lists"
            }
            Self::Schema(_) => {
                "run Better Auth's migration; the gateway makes its own tables where it may"
            }
            Self::Unfit(_) => "look at the column it names: its length, its letters, its rules",
            Self::Taken(_) => "two accounts are one person: merge them, or park one",
        }
    }

    /// The label in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Denied(_) => "denied",
            Self::Schema(_) => "schema",
            Self::Taken(_) => "taken",
            Self::Unfit(_) => "unfit",
        }
    }
}

/// What an operation gives.
pub type Done<'a, T> = BoxFuture<'a, Result<T, AccountsError>>;

/// Accounts, and what the gateway keeps beside them. Every operation answers within a deadline of its own; what writes more than one
/// row does so in one transaction.
pub trait Accounts: Send + Sync {
    /// Looks an account up. Exactly one identifier is compared, byte for byte.
    fn find<'a>(&'a self, by: &'a Identifier) -> Done<'a, Option<Account>>;

    /// Replaces what signs a user in, if `account.password` still is what was seen: makes the credential row where there is none,
    /// moves the state, keeps what is to be kept. `false`: somebody else was first, and nothing was written.
    fn replace_password<'a>(&'a self, replacement: &'a Replacement) -> Done<'a, bool>;

    /// Moves a user's state, if the move is legal from where they stand. `false`: it is not, or they are not known.
    fn move_state<'a>(&'a self, user_id: &'a str, next: State, at: UnixMs) -> Done<'a, bool>;

    /// Notes who somebody is in the old system. `false`: that identity is somebody else's, or this user has another one there.
    fn map<'a>(
        &'a self,
        user_id: &'a str,
        provider: &'a str,
        id: &'a str,
        at: UnixMs,
    ) -> Done<'a, bool>;

    /// Keeps an old hash for a user. Replaces what was kept as long as nobody signed in with it.
    fn keep<'a>(&'a self, user_id: &'a str, old: &'a OldCredential, at: UnixMs) -> Done<'a, bool>;

    /// Makes a user, with all that is known of them. Gives the id. [`AccountsError::Taken`] when somebody has the address.
    fn create<'a>(&'a self, user: &'a NewUser, at: UnixMs) -> Done<'a, String>;

    /// Notes that a user has an old second factor: with its secret, or that it was not exported. Sets `user.twoFactorEnabled` and
    /// makes the `twoFactor` row that stands in for it (`native`: its secret and its backup codes, both as stored), where the app has
    /// the plugin. `false`: it has not.
    fn keep_factor<'a>(
        &'a self,
        user_id: &'a str,
        factor: &'a OldFactor,
        backup_codes: &'a Secret,
        at: UnixMs,
    ) -> Done<'a, bool>;

    /// Uses a step of a TOTP, once. `false`: it, or a later one, was used before.
    fn use_step<'a>(&'a self, user_id: &'a str, step: i64) -> Done<'a, bool>;

    /// Forgets the old second factor: the user has enrolled anew, or switched it off.
    fn forget_factor<'a>(&'a self, user_id: &'a str) -> Done<'a, bool>;

    /// `verification.value` of a row that has not expired.
    fn verification<'a>(&'a self, identifier: &'a str, now: UnixMs) -> Done<'a, Option<Secret>>;

    /// Claims an old session, once for all replicas: notes it, and writes the session's row where the app keeps sessions in its
    /// database. `sealed_token`: the token, for whoever comes second.
    fn claim<'a>(
        &'a self,
        key: &'a OldSessionKey,
        session: &'a NewSession,
        sealed_token: &'a Secret,
    ) -> Done<'a, Claimed>;

    /// An old session signed out here: it makes no session any more, whether or not it ever did.
    fn bury<'a>(&'a self, key: &'a OldSessionKey, at: UnixMs) -> Done<'a, ()>;

    /// Every old session of a user signed out here: none that began before `at` makes a session any more.
    fn bury_all<'a>(&'a self, user_id: &'a str, at: UnixMs) -> Done<'a, ()>;

    /// Since when old sessions of a user count: the later of the last [`Self::bury_all`] and the last change of the password here.
    fn sessions_count_from<'a>(&'a self, user_id: &'a str) -> Done<'a, Option<UnixMs>>;

    /// Writes down what did not arrive in the old system.
    fn defer<'a>(&'a self, user_id: &'a str, operation: &'a str, due: UnixMs) -> Done<'a, ()>;

    /// What is due, the oldest first, at most `most`.
    fn due<'a>(&'a self, now: UnixMs, most: usize) -> Done<'a, Vec<Deferred>>;

    /// Settles one of them: it arrived (`None`), or is due again (`Some(Some)`), or somebody must look (`Some(None)`).
    fn settle<'a>(&'a self, id: i64, again: Option<Option<UnixMs>>) -> Done<'a, ()>;

    /// How many users stand where.
    fn count<'a>(&'a self) -> Done<'a, Vec<(State, u64)>>;
}
