//! Sessions in an SQLite file, opened read-only beside the app that writes it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use tokio::time::Instant;

use super::accounts;
use super::api_keys;
use super::database::{self, Backend, Fault, Own, Parameter};
use super::fallthrough::Beside;
use super::old::{self, Tables};
use super::record::Row;
use super::schema::{self, Dialect};
use super::scratch;
use super::{Address, Build, KeyAccess, OpenAccounts, OpenError, Opened, Owners, Settings};
use crate::api_key::ApiKeys;
use crate::kind::Kind;
use crate::migration::accounts::{Accounts, NewSession};
use crate::migration::import::target::Target;
use crate::migration::leaving::roster::Roster;
use crate::secret::Secret;

/// `sqlite:PATH`.
pub(super) const KIND: Kind<Build> = Kind {
    name: "sqlite",
    about: "an SQLite file on this machine: sqlite:PATH",
    build: Build {
        api_keys: Some(|settings, access| Box::pin(open_keys(settings, access))),
        owners: Some(|settings| Box::pin(open_owners(settings))),
        accounts: Some(OpenAccounts {
            open: |settings| Box::pin(open_accounts(settings)),
            target: |settings| Box::pin(open_target(settings)),
            roster: |settings, writable| Box::pin(open_roster(settings, writable)),
            install: |settings| Box::pin(install_tables(settings)),
            statements: accounts::own_tables::statements::<Sqlite>,
        }),
        beside: Some(|settings| Box::pin(beside(settings))),
        tables: Some(open_tables),
        scratch: Some(scratch::By {
            make: |settings, place| Box::pin(copy_tables(settings, place)),
            fill: |settings, sessions| Box::pin(fill(settings, sessions)),
            end: |settings, sessions| Box::pin(end(settings, sessions)),
            // Its folder goes, and it with it.
            remove: |_, _, _| Box::pin(std::future::ready(Ok(()))),
        }),
        ..Build::plain(
            &[("sqlite", "sqlite"), ("file", "sqlite")],
            Address::File,
            |settings| Box::pin(open(settings)),
        )
    },
};

/// How often a kept connection is held against the path: a file replaced by another of the same name must not answer for long.
const SAME_FILE_EVERY: Duration = Duration::from_secs(1);

struct Sqlite {
    options: SqliteConnectOptions,
    path: PathBuf,
}

struct Link {
    connection: SqliteConnection,
    file: Option<FileId>,
    seen: Instant,
}

/// What tells one file from another that took its name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).ok()?;
    Some(FileId(metadata.dev(), metadata.ino()))
}

async fn open(settings: Settings) -> Result<Opened, OpenError> {
    let backend = Sqlite::new(&settings, false)?;
    // Of all connections these alone may write.
    let writer = match settings.extend {
        true => Some(Sqlite::new(&settings, true)?),
        false => None,
    };
    database::open(backend, writer, settings).await
}

/// Tables by their own names, for reading.
fn open_tables(settings: Settings) -> Result<Arc<dyn Tables>, OpenError> {
    let backend = Sqlite::new(&settings, false)?;
    Ok(old::tables(backend, settings))
}

/// What the app keeps here when its sessions are elsewhere.
async fn beside(settings: Settings) -> Result<Beside, OpenError> {
    let backend = Sqlite::new(&settings, false)?;
    database::beside(backend, settings).await
}

/// Keys are counted in the file, so it is opened for writing, and only for them.
async fn open_keys(settings: Settings, access: KeyAccess) -> Result<Arc<dyn ApiKeys>, OpenError> {
    let backend = Sqlite::new(&settings, access == KeyAccess::Write)?;
    // One writer at a time is all that SQLite has.
    let settings = Settings {
        connections: 1,
        ..settings
    };
    api_keys::open(backend, settings, access).await
}

async fn open_owners(settings: Settings) -> Result<Arc<dyn Owners>, OpenError> {
    let backend = Sqlite::new(&settings, false)?;
    let settings = api_keys::with_few_connections(settings);
    api_keys::open_owners(backend, settings).await
}

async fn open_accounts(settings: Settings) -> Result<Arc<dyn Accounts>, OpenError> {
    let backend = Sqlite::new(&settings, true)?;
    let patient = accounts::with_time_to_make(settings.clone());
    let maker = Sqlite::new(&patient, true)?;
    accounts::open(backend, maker, accounts::with_few_connections(settings)).await
}

async fn open_target(settings: Settings) -> Result<Arc<dyn Target>, OpenError> {
    let settings = accounts::import::with_time_for_batches(settings);
    let backend = Sqlite::new(&settings, true)?;
    let patient = accounts::with_time_to_make(settings.clone());
    let maker = Sqlite::new(&patient, true)?;
    accounts::import::open(backend, maker, settings).await
}

async fn open_roster(settings: Settings, writable: bool) -> Result<Arc<dyn Roster>, OpenError> {
    let settings = accounts::import::with_time_for_batches(settings);
    let backend = Sqlite::new(&settings, writable)?;
    accounts::import::open_roster(backend, settings).await
}

async fn install_tables(settings: Settings) -> Result<(), OpenError> {
    let settings = accounts::with_time_to_make(settings);
    let backend = Sqlite::new(&settings, true)?;
    accounts::install(backend, settings).await
}

/// Makes a file with the tables and indexes of the app's, and none of their rows. The app's file is only read.
async fn copy_tables(settings: Settings, place: scratch::Place) -> Result<Settings, OpenError> {
    let backend = Sqlite::new(&settings, false)?;
    let path = backend.place();
    let failed = |error: sqlx::Error| OpenError::File {
        path: path.clone(),
        cause: database::diagnose::<Sqlite>(&error).cause,
    };
    let mut from = backend.options.clone().connect().await.map_err(failed)?;
    let wanted = schema::wanted_tables(&settings.schema);
    // Nothing but types and keys: what else a table of the app's demands of its rows would refuse ours.
    let tables: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT m.name, group_concat('\"' || replace(c.name, '\"', '\"\"') || '\" ' || c.type || iif(c.pk = 1, ' PRIMARY KEY', ''), ', ') \
         FROM sqlite_master m JOIN pragma_table_info(m.name) c \
         WHERE m.type IN ('table', 'view') AND replace(lower(m.name), '_', '') IN ({wanted}) GROUP BY m.name"
    )))
    .fetch_all(&mut from)
    .await
    .map_err(failed)?;
    let indexes: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT m.name, group_concat('\"' || replace(i.name, '\"', '\"\"') || '\"', ', ') \
         FROM sqlite_master m JOIN pragma_index_list(m.name) l JOIN pragma_index_info(l.name) i \
         WHERE m.type = 'table' AND l.origin <> 'pk' AND i.name IS NOT NULL AND replace(lower(m.name), '_', '') IN ({wanted}) \
         GROUP BY m.name, l.name"
    )))
    .fetch_all(&mut from)
    .await
    .map_err(failed)?;
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut sql = String::new();
    for (table, columns) in &tables {
        sql.push_str(&format!("CREATE TABLE {} ({columns});\n", quoted(table)));
    }
    for (number, (table, columns)) in indexes.iter().enumerate() {
        sql.push_str(&format!(
            "CREATE INDEX scratch_{number} ON {} ({columns});\n",
            quoted(table)
        ));
    }
    scratch_file(settings, &place, &sql).await
}

/// Makes a file of its own with these tables.
pub(super) async fn scratch_file(
    settings: Settings,
    place: &scratch::Place,
    tables: &str,
) -> Result<Settings, OpenError> {
    let path = place.folder.join("scratch.db");
    let failed = |error: sqlx::Error| OpenError::File {
        path: path.display().to_string(),
        cause: database::diagnose::<Sqlite>(&error).cause,
    };
    let mut made = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(failed)?;
    let sql = format!("PRAGMA journal_mode = WAL;\n{tables}");
    let run = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut made).await;
    run.map_err(failed)?;
    sqlx::Connection::close(made).await.map_err(failed)?;
    Ok(Settings {
        url: Secret::new(format!("sqlite:{}", path.display())),
        ..settings
    })
}

async fn fill(settings: Settings, sessions: Vec<NewSession>) -> Result<(), OpenError> {
    let backend = Sqlite::new(&settings, true)?;
    accounts::scratch::fill(backend, settings, sessions).await
}

async fn end(settings: Settings, sessions: Vec<NewSession>) -> Result<(), OpenError> {
    let backend = Sqlite::new(&settings, true)?;
    let tokens = sessions.into_iter().map(|session| session.token).collect();
    accounts::scratch::end(backend, settings, tokens).await
}

/// How the gateway's own tables are written here.
pub(super) const OWN: Own = Own {
    prefix: "vestibule_",
    key: "TEXT",
    text: "TEXT",
    serial: "INTEGER PRIMARY KEY",
    after: "",
    or_nothing: " ON CONFLICT DO NOTHING",
    unhurried: None,
    by_index: None,
    // A transaction that writes is alone from its beginning.
    locked: "",
    returning: true,
    alone: None,
    before: None,
    indexes_inside: false,
    // A key of a table cannot be taken from it here.
    second: &[
        "ALTER TABLE vestibule_legacy_identity RENAME TO vestibule_legacy_identity_1",
        "CREATE TABLE vestibule_legacy_identity (provider TEXT NOT NULL, source_user_id TEXT NOT NULL, user_id TEXT NOT NULL, \
         state TEXT NOT NULL, imported_at BIGINT NOT NULL, moved_at BIGINT NOT NULL, PRIMARY KEY (source_user_id, provider))",
        "INSERT INTO vestibule_legacy_identity (provider, source_user_id, user_id, state, imported_at, moved_at) \
         SELECT provider, source_user_id, user_id, state, imported_at, moved_at FROM vestibule_legacy_identity_1",
        "DROP TABLE vestibule_legacy_identity_1",
    ],
    second_is_due: None,
};

/// A statement with its parameters.
fn query(
    sql: &Arc<str>,
    parameters: &[Parameter],
) -> Query<'static, sqlx::Sqlite, SqliteArguments> {
    let mut query = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
    for parameter in parameters {
        query = match parameter {
            Parameter::Text(text) => query.bind(text.clone()),
            Parameter::Number(number) => query.bind(*number),
            Parameter::Null => query.bind(None::<String>),
        };
    }
    query
}

fn cells(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    (0..row.len()).map(|at| row.try_get_unchecked(at)).collect()
}

impl Sqlite {
    fn new(settings: &Settings, writable: bool) -> Result<Self, OpenError> {
        let unusable = |cause: String| OpenError::Url {
            store: "sqlite",
            cause,
        };
        let url = settings.url.expose();
        // `file:` is how Prisma spells it.
        let rest = url.split_once(':').map_or(url, |(_, rest)| rest);
        // Parameters of other tools (`connection_limit`) would be refused by the driver, and how to open it is not theirs to say.
        let (rest, _) = rest.split_once('?').unwrap_or((rest, ""));
        let url = format!("sqlite:{rest}");
        if rest.trim_start_matches('/').is_empty() || rest.contains(":memory:") {
            return Err(unusable("it names no file".to_owned()));
        }
        let options = SqliteConnectOptions::from_str(&url)
            .map_err(|error| unusable(error.to_string()))?
            .create_if_missing(false)
            .read_only(!writable)
            // The wait for a writer ends before the lookup's own deadline, so that the answer is ours and not a cut-off.
            .busy_timeout(settings.timeout.mul_f32(0.75).min(Duration::from_secs(60)))
            .disable_statement_logging();
        let path = options.get_filename().to_path_buf();
        readable(&path)?;
        Ok(Self { options, path })
    }
}

/// SQLite's own "unable to open database file" does not say why.
fn readable(path: &Path) -> Result<(), OpenError> {
    let wrong = |cause: String| OpenError::File {
        path: std::path::absolute(path)
            .unwrap_or_else(|_| path.to_owned())
            .display()
            .to_string(),
        cause,
    };
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| wrong(error.to_string()))?;
    if metadata.is_dir() {
        return Err(wrong("it is a folder".to_owned()));
    }
    let mut head = [0; 16];
    match std::io::Read::read(&mut &file, &mut head) {
        // An empty file is an empty database, which then lacks its tables.
        Ok(0) => Ok(()),
        Ok(_) if head == *b"SQLite format 3\0" => Ok(()),
        Ok(_) => Err(wrong(
            "it is not an SQLite database (or it is encrypted)".to_owned(),
        )),
        Err(error) => Err(wrong(error.to_string())),
    }
}

impl Backend for Sqlite {
    type Link = Link;
    const NAME: &'static str = "sqlite";
    const VERSION: &'static str = "SELECT sqlite_version()";
    const DIALECT: Dialect = Dialect {
        quote: '"',
        parameter: "?1",
        text: |expression, _| format!("CAST({expression} AS TEXT)"),
        // Column affinity makes `1` and `'1'` meet.
        comparable: |_, _| true,
        quotes_numbers: false,
    };

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    async fn connect(&self) -> Result<Link, sqlx::Error> {
        // Read before opening: if the file is replaced in between, the next look finds a difference and opens again.
        let file = file_id(&self.path);
        let connection = self.options.connect().await?;
        Ok(Link {
            connection,
            file,
            seen: Instant::now(),
        })
    }

    async fn rows(
        &self,
        link: &mut Link,
        sql: &Arc<str>,
        parameter: Option<&Secret>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
        if let Some(text) = parameter {
            query = query.bind(text.expose().to_owned());
        }
        let rows = query.fetch_all(&mut link.connection).await?;
        rows.iter().map(cells).collect()
    }

    async fn change(
        &self,
        link: &mut Link,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> Result<u64, sqlx::Error> {
        self.alter(link, sql, parameters).await
    }

    // It takes the lock at once: taken later, another writer in between would be an error and no wait.
    const BEGIN: &'static [&'static str] = &["BEGIN IMMEDIATE"];
    const OWN: Own = OWN;

    async fn plain(&self, link: &mut Link, sql: &str) -> Result<(), sqlx::Error> {
        let run = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        run.execute(&mut link.connection).await.map(drop)
    }

    async fn select(
        &self,
        link: &mut Link,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let rows = query(sql, parameters)
            .fetch_all(&mut link.connection)
            .await?;
        rows.iter().map(cells).collect()
    }

    async fn alter(
        &self,
        link: &mut Link,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> Result<u64, sqlx::Error> {
        let done = query(sql, parameters).execute(&mut link.connection).await?;
        Ok(done.rows_affected())
    }

    fn unfit(error: &dyn sqlx::error::DatabaseError) -> Option<String> {
        let code = error.code().unwrap_or(Cow::Borrowed(""));
        // Source: sqlite.org/rescode.html.
        let what = match code.parse::<u32>().unwrap_or(0) {
            275 => "it breaks a rule",
            787 => "a row it refers to is missing",
            1299 => "a column that must have a value has none",
            1811 => "the app's own rules refuse it",
            18 | 20 | 3091 => "a value that its column does not take",
            _ => return None,
        };
        let named = error.message().rsplit_once("failed: ");
        let named = named.and_then(|(_, named)| database::names_alone(named));
        Some(match named {
            Some(named) => format!("{what}: {named} ({code})"),
            None => format!("{what} ({code})"),
        })
    }

    fn obligations(&self, wanted: &str) -> String {
        // An `INTEGER PRIMARY KEY` counts by itself.
        format!(
            "SELECT m.name, NULL, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c \
             WHERE m.type = 'table' AND replace(lower(m.name), '_', '') IN ({wanted}) \
             AND c.\"notnull\" = 1 AND c.dflt_value IS NULL AND NOT (c.pk = 1 AND lower(c.type) = 'integer')"
        )
    }

    fn still_leads_there(&self, link: &mut Link) -> bool {
        if link.seen.elapsed() < SAME_FILE_EVERY {
            return true;
        }
        link.seen = Instant::now();
        file_id(&self.path) == link.file
    }

    fn catalog(&self, wanted: &str, _schema: Option<&str>) -> String {
        format!(
            "SELECT m.name, c.name, c.type, \
             CAST(c.pk = 1 OR EXISTS (SELECT 1 FROM pragma_index_list(m.name) l JOIN pragma_index_info(l.name) i \
             WHERE i.seqno = 0 AND i.name = c.name) AS TEXT), NULL \
             FROM sqlite_master m JOIN pragma_table_info(m.name) c \
             WHERE m.type IN ('table', 'view') AND replace(lower(m.name), '_', '') IN ({wanted}) ORDER BY m.name, c.cid"
        )
    }

    fn fault(error: &dyn sqlx::error::DatabaseError) -> Fault {
        let code = error.code().unwrap_or(Cow::Borrowed(""));
        // Source: sqlite.org/rescode.html; the low byte is the primary code.
        match code.parse::<u32>().unwrap_or(0) & 0xff {
            // SQLITE_BUSY, SQLITE_LOCKED, SQLITE_INTERRUPT, SQLITE_PROTOCOL (a lost race for a WAL lock).
            5 | 6 | 9 | 15 => Fault::Slow,
            // SQLITE_PERM, SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN.
            3 | 8 | 10 | 13 | 14 => Fault::Unreachable,
            // SQLITE_AUTH.
            23 => Fault::Denied,
            // SQLITE_ERROR: no such table, no such column.
            1 => Fault::Schema,
            // SQLITE_SCHEMA: it changed under the statement.
            17 => Fault::Stale,
            // SQLITE_CORRUPT, SQLITE_NOTADB and the rest.
            _ => Fault::Unreadable,
        }
    }
}
