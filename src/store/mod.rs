//! Where sessions are looked up: the app's own database, or its Redis.
//!
//! [`open`] reads which tables and columns hold the sessions, proves that they can be read, and gives the [`Source`] that
//! answers lookups. A lookup writes nothing: a role with `SELECT` alone is enough, and an SQLite file is opened read-only. What counts
//! the uses of API keys writes, over connections of its own ([`open_api_keys`]), and so does
//! whoever extends sessions here instead of the app.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::api_key::{ApiKeys, Row};
use crate::credential::key_ring::KeysError;
use crate::credential::key_set::StoredKey;
use crate::kind::Kind;
use crate::migration::accounts::Accounts;
use crate::migration::bridge::Beside;
use crate::migration::import::target::Target;
use crate::migration::leaving::roster::Roster;
use crate::migration::limits::Shared;
use crate::secret::Secret;
use crate::session::extend::Extend;
use crate::session::feed::Feed;
use crate::session::{BoxFuture, Record, Source, SourceError};

mod accounts;
mod api_keys;
mod cookie;
mod database;
mod extend;
mod fallthrough;
pub mod fetched;
mod http;
pub mod keys_http;
pub mod keys_table;
mod mysql;
mod notifications;
pub mod old;
mod postgres;
mod record;
mod redis;
mod schema;
pub mod scratch;
pub mod snapshot;
pub mod spool;
mod sqlite;
pub mod staging;
mod transaction;
mod triggers;

pub use http::{App, app};
pub use schema::SchemaError;
pub use triggers::Triggers;

/// How to reach and read the app's store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `sqlite:PATH`, `postgres://…` or `mysql://…`; or `http://…`, where the app's Better Auth is mounted. May hold a password,
    /// hence secret.
    ///
    /// TLS follows the URL's `sslmode` and `sslrootcert` (PostgreSQL), `ssl-mode` and `ssl-ca` (MySQL); without them it is used when the
    /// server offers it. Behind a pooler that shares connections between clients, such as PgBouncer's transaction mode, add
    /// `?statement-cache-capacity=0` (or Prisma's `?pgbouncer=true`). Prisma's `?schema=` is understood.
    pub url: Secret,
    /// Longest wait for one lookup, connecting included.
    pub timeout: Duration,
    /// Connections kept to the database at most.
    pub connections: u32,
    /// Lookups allowed to wait for a connection at once; more are refused (503).
    pub waiting_max: usize,
    /// What the operator says about tables and columns; the rest is detected.
    pub schema: SchemaOverrides,
    /// Offset from UTC, in seconds, in which MySQL `TIMESTAMP`/`DATETIME` texts were written. Zero unless the app's Node process
    /// writes local time.
    pub zone_offset_seconds: i32,
    /// What is known of the app, for a source that asks it.
    pub app: App,
    /// Whether records carry the framework's whole answer, and what belongs to it. A database then reads every column of it.
    pub documents: Option<Documents>,
    /// Whether sessions are to be extended in the store, which then must be writable.
    pub extend: bool,
    /// How the app uses Redis, where the source is one.
    pub secondary: SecondaryStorage,
}

/// How the app uses Redis: as Better Auth's secondary storage.
#[derive(Clone, Debug)]
pub struct SecondaryStorage {
    /// What comes before every key: `better-auth:` with the framework's own Redis package, nothing with most others.
    pub key_prefix: String,
    /// The SQL database the app has beside it: sessions that Redis does not know may be there, and roles in organizations are.
    pub database: Option<Secret>,
    /// Better Auth's `session.storeSessionInDatabase`.
    pub store_in_database: bool,
    /// Better Auth's `session.preserveSessionInDatabase`: what is in the database may have ended.
    pub preserve_in_database: bool,
}

impl Default for SecondaryStorage {
    fn default() -> Self {
        Self {
            key_prefix: "better-auth:".to_owned(),
            database: None,
            store_in_database: false,
            preserve_in_database: false,
        }
    }
}

/// Names that differ from what is detected. Keys are the framework's logical names.
#[derive(Clone, Debug, Default)]
pub struct SchemaOverrides {
    /// PostgreSQL schema (`search_path` otherwise).
    pub schema: Option<String>,
    /// Logical table (`session`, `user`, `member`, `jwks`) to stored table.
    pub tables: BTreeMap<String, String>,
    /// Logical column, as `session.userId`, to stored column.
    pub columns: BTreeMap<String, String>,
}

/// What the framework's own answer about a session holds, besides what it always holds.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Fields of the app's own that its answers show, as `user.plan`, each with its type.
    pub shown: Vec<(String, FieldKind)>,
    /// Fields that its answers leave out (`returned: false`).
    pub hidden: Vec<String>,
}

/// What a field of the framework's answer is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A text.
    Text,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// An instant, as ISO text.
    Date,
    /// Whatever JSON the column holds.
    Json,
}

/// What opening a source gives.
#[derive(Clone)]
pub struct Opened {
    /// Answers lookups.
    pub source: Arc<dyn Source>,
    /// What was found on the way.
    pub detected: Detected,
    /// Writes that a session lives longer, where the store can.
    pub extend: Option<Arc<dyn Extend>>,
    /// Says what ends elsewhere, where the store can.
    pub feed: Option<Arc<dyn Feed>>,
    /// Reads the keys of the JWT plugin, where the store has them.
    pub keys: Option<StoredKeys>,
}

/// Reads the table `jwks`: newest first, within the store's own deadline. Public keys only; the private ones are never read.
pub type StoredKeys =
    Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<StoredKey>, KeysError>> + Send + Sync>;

/// How one kind of source is opened, by which URLs it is named, and what else it can do: all that tells it from the others.
pub struct Build {
    /// What comes before the `:` of `sessions.source`, each with the one spelling that is handed on.
    pub schemes: &'static [(&'static str, &'static str)],
    /// What comes after it.
    pub address: Address,
    open: fn(Settings) -> BoxFuture<'static, Result<Opened, OpenError>>,
    /// For a database: the API keys in it.
    api_keys: Option<OpenKeys>,
    /// For a database: the owners of keys that are elsewhere.
    owners: Option<OpenOwners>,
    /// For secondary storage: the API keys in it, whose owners are in a database.
    key_storage: Option<OpenKeyStorage>,
    /// For a database: what is in it of an app whose sessions are elsewhere.
    beside: Option<OpenBeside>,
    /// Its line, where it can be had without looking at what the store holds, so that it may come up later.
    line: Option<OpenLine>,
    /// How triggers make it tell of what ends.
    triggers: Option<ByTriggers>,
    /// How it is told to tell of keys that end.
    keyspace_events: Option<SetKeyspaceEvents>,
    /// For a database: its accounts, for who moves users in.
    accounts: Option<OpenAccounts>,
    /// For a database: tables by their own names.
    tables: Option<OpenTables>,
    /// For a Redis: values by their own keys.
    values: Option<OpenValues>,
    /// For a Redis: sessions written as the framework writes its own.
    beside_sessions: Option<OpenBesideSessions>,
    /// How a place of its own is made for sessions that are measured.
    scratch: Option<scratch::By>,
}

impl Build {
    /// A kind that looks sessions up, and can do nothing else.
    const fn plain(
        schemes: &'static [(&'static str, &'static str)],
        address: Address,
        open: fn(Settings) -> BoxFuture<'static, Result<Opened, OpenError>>,
    ) -> Self {
        Self {
            schemes,
            address,
            open,
            api_keys: None,
            owners: None,
            key_storage: None,
            beside: None,
            line: None,
            triggers: None,
            keyspace_events: None,
            accounts: None,
            tables: None,
            values: None,
            beside_sessions: None,
            scratch: None,
        }
    }

    /// The spelling of one of its schemes that is handed on.
    pub fn scheme(&self, written: &str) -> Option<&'static str> {
        let mut schemes = self.schemes.iter();
        let found = schemes.find(|(known, _)| known.eq_ignore_ascii_case(written));
        found.map(|(_, handed_on)| *handed_on)
    }

    /// Whether it is the framework's secondary storage, beside which the app may have a database.
    pub const fn is_secondary_storage(&self) -> bool {
        self.key_storage.is_some()
    }
}

/// What follows the scheme of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// The path of a file.
    File,
    /// `//` and a server.
    Server,
    /// `//` and where the app's Better Auth is: the app itself is asked.
    App,
    /// Nothing: the browser keeps the sessions.
    Browser,
}

/// What triggers take.
struct ByTriggers {
    read: fn(Settings) -> BoxFuture<'static, Result<Triggers, OpenError>>,
    run: fn(Settings, String) -> BoxFuture<'static, Result<(), OpenError>>,
}

type Opening<T> = BoxFuture<'static, Result<T, OpenError>>;

/// What accounts take.
struct OpenAccounts {
    open: fn(Settings) -> Opening<Arc<dyn Accounts>>,
    target: fn(Settings) -> Opening<Arc<dyn Target>>,
    roster: fn(Settings, bool) -> Opening<Arc<dyn Roster>>,
    install: fn(Settings) -> Opening<()>,
    statements: fn() -> Vec<String>,
}

type OpenTables = fn(Settings) -> Result<Arc<dyn old::Tables>, OpenError>;

type OpenValues = fn(Settings) -> Result<Arc<dyn old::Values>, OpenError>;

type OpenBesideSessions = fn(Settings, Arc<dyn old::Tables>) -> Result<Arc<dyn Beside>, OpenError>;

type OpenLine = fn(Settings) -> Result<Arc<dyn Feed>, OpenError>;

type SetKeyspaceEvents =
    fn(Settings, bool) -> BoxFuture<'static, Result<KeyspaceEvents, OpenError>>;

type OpenBeside = fn(Settings) -> BoxFuture<'static, Result<fallthrough::Beside, OpenError>>;

type OpenKeys = fn(Settings, KeyAccess) -> BoxFuture<'static, Result<Arc<dyn ApiKeys>, OpenError>>;

type OpenOwners = fn(Settings) -> BoxFuture<'static, Result<Arc<dyn Owners>, OpenError>>;

type OpenKeyStorage = fn(
    Settings,
    KeyAccess,
    Arc<dyn Owners>,
) -> BoxFuture<'static, Result<Arc<dyn ApiKeys>, OpenError>>;

/// Where the owners of keys are looked up.
trait Owners: Send + Sync {
    /// Reads the user with this id, in the shape of a session of the key.
    fn owner<'a>(
        &'a self,
        user_id: &'a str,
        key: &'a Row,
    ) -> BoxFuture<'a, Result<Option<Record>, SourceError>>;
}

/// Where API keys are kept: the plugin's `storage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStorage {
    /// In the app's database.
    Database,
    /// In its secondary storage.
    Secondary,
}

/// What is done with API keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAccess {
    /// They are looked up.
    Read,
    /// Their uses are counted, too.
    Write,
}

/// Every kind of session source.
pub static KINDS: &[Kind<Build>] = &[
    sqlite::KIND,
    postgres::KIND,
    mysql::KIND,
    redis::KIND,
    cookie::KIND,
    http::KIND,
];

/// Opens the source that `settings.url` names.
///
/// Must be called on a tokio runtime that outlives the source: connections belong to it, and every lookup runs on it, whatever
/// thread asks.
///
/// # Errors
/// See [`OpenError`]. An unreachable database is an error too: what it holds must be seen once before anything is served.
pub async fn open(settings: &Settings) -> Result<Arc<dyn Source>, OpenError> {
    Ok(inspect(settings).await?.source)
}

/// Like [`open`], and also says which tables, columns and encodings were found (`vestibule check`, `vestibule doctor`).
///
/// # Errors
/// As [`open`].
pub async fn inspect(settings: &Settings) -> Result<Opened, OpenError> {
    let kind = kind_of(&settings.url)?;
    (kind.build.open)(settings.clone()).await
}

/// Opens the app's API keys, over a few connections of their own: however slow counting uses may be, looking sessions up is not held
/// up by it. To be called where [`open`] is.
///
/// # Errors
/// See [`OpenError`]; among them that there is no table of keys, or that it may not be written.
pub async fn open_api_keys(
    settings: &Settings,
    access: KeyAccess,
    storage: KeyStorage,
) -> Result<Arc<dyn ApiKeys>, OpenError> {
    let source = kind_of(&settings.url)?;
    // With Redis as the source, the database is beside it.
    let url = match source.build.key_storage {
        Some(_) => settings
            .secondary
            .database
            .clone()
            .ok_or(OpenError::NoKeys {
                cause: "no database is named, and the owners of keys are in one",
            })?,
        None => settings.url.clone(),
    };
    let database = Settings {
        url,
        secondary: SecondaryStorage::default(),
        ..settings.clone()
    };
    let beside = &kind_of(&database.url)?.build;
    let (Some(keys), Some(owners)) = (beside.api_keys, beside.owners) else {
        return Err(OpenError::NoKeys {
            cause: "the database that is named is none",
        });
    };
    match storage {
        KeyStorage::Database => keys(database, access).await,
        KeyStorage::Secondary => {
            let keys = source.build.key_storage.ok_or(OpenError::NoKeys {
                cause: "they are in secondary storage, and `sessions.source` is a database",
            })?;
            keys(settings.clone(), access, owners(database).await?).await
        }
    }
}

/// Opens the accounts of the app for writing, and makes the gateway's own tables beside them where they are missing. To be called where
/// [`open`] is.
///
/// # Errors
/// See [`OpenError`]; among them that the store is no database, or may not be written.
pub async fn open_accounts(settings: &Settings) -> Result<Arc<dyn Accounts>, OpenError> {
    let kind = kind_of(&settings.url)?;
    (accounts_of(kind)?.open)(settings.clone()).await
}

/// Opens the accounts of the app for an import of everybody, and makes the gateway's own tables beside them where they are missing.
/// Connections belong to the runtime it is called on.
///
/// # Errors
/// As [`open_accounts`].
pub async fn open_target(settings: &Settings) -> Result<Arc<dyn Target>, OpenError> {
    let kind = kind_of(&settings.url)?;
    (accounts_of(kind)?.target)(settings.clone()).await
}

/// Opens the accounts of the app for reading everybody in order. Makes no tables, and writes nothing unless `writable`. Connections
/// belong to the runtime it is called on.
///
/// # Errors
/// As [`open_accounts`].
pub async fn open_roster(
    settings: &Settings,
    writable: bool,
) -> Result<Arc<dyn Roster>, OpenError> {
    let kind = kind_of(&settings.url)?;
    (accounts_of(kind)?.roster)(settings.clone(), writable).await
}

fn accounts_of(kind: &'static Kind<Build>) -> Result<&'static OpenAccounts, OpenError> {
    kind.build.accounts.as_ref().ok_or_else(|| OpenError::Url {
        store: kind.name,
        cause: "accounts are in a database, and this is none".to_owned(),
    })
}

/// The statements that make the gateway's own tables where this URL leads.
///
/// # Errors
/// When the store is no database.
pub fn table_statements(url: &Secret) -> Result<Vec<String>, OpenError> {
    Ok((accounts_of(kind_of(url)?)?.statements)())
}

/// Makes the gateway's own tables, those that are missing.
///
/// # Errors
/// When the store is no database, cannot be reached, or does not let this role do it.
pub async fn install_tables(settings: &Settings) -> Result<(), OpenError> {
    (accounts_of(kind_of(&settings.url)?)?.install)(settings.clone()).await
}

/// Counts of sign-ins that gateways share, in a Redis. `name`: tells those of one app from those of another. Connects at the first
/// question. To be called where [`open`] is.
///
/// # Errors
/// When the URL leads to no Redis.
pub fn open_limits(url: &Secret, name: &str) -> Result<Arc<dyn Shared>, OpenError> {
    let kind = kind_of(url)?;
    if kind.name != redis::KIND.name {
        return Err(OpenError::Url {
            store: kind.name,
            cause: "sign-ins are counted in a Redis, and this is none".to_owned(),
        });
    }
    redis::open_limits(url, name)
}
/// Opens the place beside the database where the app keeps sessions, for writing; `users`: the database. `None`: sessions are in the
/// database alone, or in no store. To be called where [`open`] is.
///
/// # Errors
/// See [`OpenError`].
pub fn open_beside(
    source: &Settings,
    users: &Settings,
) -> Result<Option<Arc<dyn Beside>>, OpenError> {
    match kind_of(&source.url)?.build.beside_sessions {
        Some(open) => open(source.clone(), old::open_tables(users)?).map(Some),
        None => Ok(None),
    }
}

/// Whether the app keeps its sessions in its database: `false` where they are in secondary storage or in the browser alone.
pub fn keeps_rows(source: &Settings) -> bool {
    kind_of(&source.url).is_ok_and(|kind| match kind.build.address {
        Address::Browser => false,
        _ if kind.build.is_secondary_storage() => source.secondary.store_in_database,
        Address::File | Address::Server | Address::App => true,
    })
}

/// Whether accounts can be written where this URL leads.
pub fn has_accounts(url: &Secret) -> bool {
    kind_of(url).is_ok_and(|kind| kind.build.accounts.is_some())
}

/// The line over the store that `settings.url` names, whether or not it holds any sessions. `None`: it has none.
///
/// # Errors
/// As [`open`].
pub async fn line(settings: &Settings) -> Result<Option<Arc<dyn Feed>>, OpenError> {
    match kind_of(&settings.url)?.build.line {
        Some(line) => line(settings.clone()).map(Some),
        None => Ok(inspect(settings).await?.feed),
    }
}

/// The triggers by which the store says itself what ended, written for the tables it has. `None`: it can have none.
///
/// # Errors
/// As [`open`].
pub async fn triggers(settings: &Settings) -> Result<Option<Triggers>, OpenError> {
    match &kind_of(&settings.url)?.build.triggers {
        Some(by) => (by.read)(settings.clone()).await.map(Some),
        None => Ok(None),
    }
}

/// Runs statements of [`Triggers`].
///
/// # Errors
/// When the store cannot be reached, or does not let this role do it.
pub async fn run_triggers(settings: &Settings, sql: &str) -> Result<(), OpenError> {
    match &kind_of(&settings.url)?.build.triggers {
        Some(by) => (by.run)(settings.clone(), sql.to_owned()).await,
        None => Ok(()),
    }
}

/// The letters of a server's `notify-keyspace-events`, before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceEvents {
    /// As they were.
    pub before: String,
    /// As they are now.
    pub after: String,
}

/// Whether the store can be told to tell of keys that end.
pub fn has_keyspace_events(url: &Secret) -> bool {
    kind_of(url).is_ok_and(|kind| kind.build.keyspace_events.is_some())
}

/// Switches on, or off again, the events by which a store tells of sessions that the app ends. Switching off also takes them from whoever
/// else listens. The server forgets it at its next start, unless its own configuration says the same.
///
/// # Errors
/// When it has none, cannot be reached, or does not let us.
pub async fn keyspace_events(
    settings: &Settings,
    enable: bool,
) -> Result<KeyspaceEvents, OpenError> {
    let kind = kind_of(&settings.url)?;
    match kind.build.keyspace_events {
        Some(set) => set(settings.clone(), enable).await,
        None => Err(OpenError::Url {
            store: kind.name,
            cause: "it has no keyspace events".to_owned(),
        }),
    }
}

/// The kind whose URLs begin with this scheme, in capitals or not.
pub fn kind_of_scheme(scheme: &str) -> Option<&'static Kind<Build>> {
    KINDS
        .iter()
        .find(|kind| kind.build.scheme(scheme).is_some())
}

fn kind_of(url: &Secret) -> Result<&'static Kind<Build>, OpenError> {
    let known = || {
        let schemes = KINDS.iter().flat_map(|kind| kind.build.schemes);
        let schemes: Vec<String> = schemes.map(|(scheme, _)| format!("`{scheme}:`")).collect();
        schemes.join(", ")
    };
    let Some((scheme, _)) = url.expose().split_once(':') else {
        return Err(OpenError::NoScheme { known: known() });
    };
    let scheme = scheme.to_ascii_lowercase();
    kind_of_scheme(&scheme).ok_or_else(|| {
        // What stands before the first colon of a malformed URL might be a user name; show it only if it looks like a scheme.
        let plain = scheme.len() <= 20
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'+');
        OpenError::Scheme {
            scheme: if plain { scheme } else { "…".into() },
            known: known(),
        }
    })
}

/// Why a source could not be opened. No variant ever holds a password.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing before a colon.
    #[error("`sessions.source` is no URL; it begins with one of {known}")]
    NoScheme {
        /// The schemes there are.
        known: String,
    },
    /// A scheme of no kind.
    #[error("`sessions.source` begins with `{scheme}:`; known are {known}")]
    Scheme {
        /// The word found.
        scheme: String,
        /// The schemes there are.
        known: String,
    },
    /// The URL cannot be used.
    #[error("`sessions.source` cannot be read as the address of a {store} source: {cause}")]
    Url {
        /// Which kind of source.
        store: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The SQLite file cannot be read.
    #[error("`sessions.source` names the file {path}: {cause}")]
    File {
        /// Where we looked.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The database is there and does not let us in.
    #[error("`sessions.source`: {store} at {place} refused us: {cause}")]
    Denied {
        /// Which kind of source.
        store: &'static str,
        /// Host and port, socket or file.
        place: String,
        /// The database's own words.
        cause: String,
    },
    /// The tables are not as expected.
    #[error("`sessions.source`: {store} at {place}: {cause}")]
    Schema {
        /// Which kind of source.
        store: &'static str,
        /// Host and port, socket or file.
        place: String,
        /// What is missing or unclear.
        #[source]
        cause: SchemaError,
    },
    /// The tables are there, and the lookup does not run on them.
    #[error("`sessions.source`: {store} at {place} does not run the lookup: {cause}")]
    Lookup {
        /// Which kind of source.
        store: &'static str,
        /// Host and port, socket or file.
        place: String,
        /// The database's own words.
        cause: String,
    },
    /// It holds a part of the keys only.
    #[error("`sessions.source`: redis at {place} cannot be used: {cause}")]
    Cluster {
        /// Host and port.
        place: String,
        /// How we know.
        cause: String,
    },
    /// Where API keys are is not said.
    #[error("`better_auth.api_key`: the keys cannot be looked up: {cause}")]
    NoKeys {
        /// What is missing.
        cause: &'static str,
    },
    /// The uses of API keys cannot be counted.
    #[error(
        "`better_auth.api_key`: the API keys in {store} at {place} may not be changed, so their uses cannot be counted: {cause}"
    )]
    ReadOnlyKeys {
        /// Which kind of source.
        store: &'static str,
        /// Host and port, socket or file.
        place: String,
        /// The database's own words.
        cause: String,
    },
    /// It answered what we cannot use.
    #[error("`sessions.source`: {store} at {place} answered what we cannot read: {cause}")]
    Garbage {
        /// Which kind of source.
        store: &'static str,
        /// Host and port, socket or file.
        place: String,
        /// What was wrong, free of secrets and row contents.
        cause: String,
    },
    /// It cannot be reached.
    #[error("`sessions.source`: {store} at {place} cannot be reached: {cause}")]
    Unreachable {
        /// Which kind of source.
        store: &'static str,
        /// Host and port, socket or file.
        place: String,
        /// The driver's words.
        cause: String,
    },
    /// It did not answer in time.
    #[error("`sessions.source`: {store} at {place} did not answer in {waited:?}")]
    Timeout {
        /// Which kind of source.
        store: &'static str,
        /// Host and port, socket or file.
        place: String,
        /// How long we waited.
        waited: Duration,
    },
}

impl OpenError {
    /// The operator's next step.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::NoScheme { .. } | Self::Scheme { .. } | Self::Url { .. } => {
                "write `sqlite:PATH`, `postgres://USER:PASSWORD@HOST/DATABASE`, `mysql://USER:PASSWORD@HOST/DATABASE` or \
                 `redis://USER:PASSWORD@HOST` (percent-encode special letters in the password), or `http://HOST:PORT/api/auth`, where \
                 the app's Better Auth is"
            }
            Self::File { .. } => {
                "give the path of the app's own database file, and let the gateway's user read it; a relative path counts from the \
                 folder the gateway was started in"
            }
            Self::Denied { .. } => {
                "check user, password and database name; the role needs SELECT on the session, user and member tables, or in Redis `+getrange \
                 +ping` on the keys of the prefix"
            }
            Self::NoKeys { .. } => {
                "for keys in the database name it (as `sessions.source`, or beside Redis as `sessions.database`); for keys in Redis set \
                 `better_auth.api_key.storage = \"secondary\"`, Redis as `sessions.source` and the database as `sessions.database`"
            }
            Self::ReadOnlyKeys { .. } => {
                "grant SELECT and UPDATE on the table of API keys (let the gateway's user write the SQLite file, in Redis `+eval +get +set` on \
                 `api-key:*`), or set \
                 `better_auth.api_key.usage = \"app\"` where the app checks every key again itself"
            }
            Self::Schema { cause, .. } => cause.advice(),
            Self::Lookup { .. } => {
                "compare the tables with those Better Auth's migration makes, and map those that differ under `[sessions.schema]`"
            }
            Self::Cluster { .. } => {
                "name a Redis or Valkey that is no cluster, or a proxy in front of it that is asked like one"
            }
            Self::Garbage { .. } => {
                "check that host and port are those of the database itself, and not of another service"
            }
            Self::Unreachable { .. } => {
                "check that the database runs, and that host, port and firewall let the gateway reach it"
            }
            Self::Timeout { .. } => {
                "check that the database runs and is not overloaded; a firewall that drops packets looks the same"
            }
        }
    }

    /// Whether the configuration is at fault (exit code 2) rather than a dependency that cannot be reached (exit code 3).
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::NoScheme { .. }
            | Self::Scheme { .. }
            | Self::Url { .. }
            | Self::File { .. }
            | Self::Denied { .. }
            | Self::Schema { .. }
            | Self::Cluster { .. }
            | Self::Lookup { .. }
            | Self::NoKeys { .. }
            | Self::ReadOnlyKeys { .. } => true,
            Self::Garbage { .. } | Self::Unreachable { .. } | Self::Timeout { .. } => false,
        }
    }
}

/// What the live database looks like, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The kind of source (`sqlite`, `postgres`, `mysql`).
    pub kind: &'static str,
    /// Host and port, socket or file; never a password.
    pub place: String,
    /// The server's own version text.
    pub version: String,
    /// Logical table and stored table, the latter with its schema where there is one.
    pub tables: Vec<(&'static str, String)>,
    /// What is stored where.
    pub columns: Vec<DetectedColumn>,
    /// How dates are written (`milliseconds`, `seconds`, `date text`); nothing while there is no session.
    pub dates: Option<&'static str>,
    /// What will work but should not stay so.
    pub warnings: Vec<String>,
}

/// One column that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectedColumn {
    /// The framework's name, as `session.userId`.
    pub logical: &'static str,
    /// The stored name.
    pub stored: String,
    /// The database's word for its type.
    pub kind: String,
}

impl fmt::Display for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} at {}", self.kind, self.version, self.place)?;
        for (logical, stored) in &self.tables {
            writeln!(f, "  table {logical}: {stored}")?;
        }
        for column in &self.columns {
            let DetectedColumn {
                logical,
                stored,
                kind,
            } = column;
            writeln!(f, "  {logical}: {stored} ({kind})")?;
        }
        if !self.tables.is_empty() {
            let dates = self.dates.unwrap_or("no session yet to tell from");
            writeln!(f, "  dates: {dates}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning: {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(url: &str) -> Result<&'static str, OpenError> {
        kind_of(&Secret::new(url)).map(|kind| kind.name)
    }

    #[test]
    fn the_scheme_chooses_the_kind() {
        for (url, name) in [
            ("sqlite:app.db", "sqlite"),
            ("file:./dev.db", "sqlite"),
            ("postgres://h/d", "postgres"),
            ("PostgreSQL://h/d", "postgres"),
            ("mysql://h/d", "mysql"),
            ("mariadb://h/d", "mysql"),
            ("redis://h", "redis"),
            ("valkeys://h", "redis"),
            ("redis+unix:///s", "redis"),
        ] {
            assert_eq!(kind(url).unwrap(), name, "{url}");
        }
    }

    #[test]
    fn an_unknown_scheme_lists_the_known_and_shows_no_secret() {
        let error = kind("mongodb://u:hunter2@h/d").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("`mongodb:`") && text.contains("`postgres:`"),
            "{text}"
        );
        for url in ["app.db", "hunter2@h:5432/d", "p@ss word:hunter2@h"] {
            let error = kind(url).unwrap_err();
            let all = format!("{error} {error:?} {}", error.advice());
            assert!(!all.contains("hunter2") && !all.contains("p@ss"), "{all}");
            assert!(error.is_configuration());
        }
    }

    #[test]
    fn kinds_have_names_and_schemes_of_their_own() {
        let mut seen = std::collections::BTreeSet::new();
        for kind in KINDS {
            assert!(seen.insert(kind.name.to_owned() + " (name)"));
            assert!(!kind.build.schemes.is_empty());
            for (scheme, handed_on) in kind.build.schemes {
                assert!(seen.insert((*scheme).to_owned()), "{scheme}");
                assert_eq!(kind.build.scheme(handed_on), Some(*handed_on), "{scheme}");
            }
        }
    }
}
