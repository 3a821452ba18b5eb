//! Sessions in MySQL or MariaDB.

use std::sync::Arc;

use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow,
};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use url::Url;

use super::accounts;
use super::api_keys;
use super::database::{self, Backend, Fault, Own, Parameter};
use super::fallthrough::Beside;
use super::old::{self, Tables};
use super::record::Row;
use super::schema::{self, Dialect, Layout};
use super::scratch;
use super::{Address, Build, KeyAccess, OpenAccounts, OpenError, Opened, Owners, Settings};
use crate::api_key::ApiKeys;
use crate::kind::Kind;
use crate::migration::accounts::{Accounts, NewSession};
use crate::migration::import::target::Target;
use crate::migration::leaving::roster::Roster;
use crate::secret::Secret;

/// `mysql://USER:PASSWORD@HOST/DATABASE`.
pub(super) const KIND: Kind<Build> = Kind {
    name: "mysql",
    about: "MySQL or MariaDB: mysql://USER:PASSWORD@HOST/DATABASE[?ssl-mode=…]",
    build: Build {
        api_keys: Some(|settings, access| Box::pin(open_keys(settings, access))),
        owners: Some(|settings| Box::pin(open_owners(settings))),
        accounts: Some(OpenAccounts {
            open: |settings| Box::pin(open_accounts(settings)),
            target: |settings| Box::pin(open_target(settings)),
            roster: |settings, writable| Box::pin(open_roster(settings, writable)),
            install: |settings| Box::pin(install_tables(settings)),
            statements: accounts::own_tables::statements::<MySql>,
        }),
        beside: Some(|settings| Box::pin(beside(settings))),
        tables: Some(open_tables),
        scratch: Some(scratch::By {
            make: |settings, place| Box::pin(copy_tables(settings, place)),
            fill: |settings, sessions| Box::pin(fill(settings, sessions)),
            end: |settings, sessions| Box::pin(end(settings, sessions)),
            remove: |settings, place, _| Box::pin(drop_tables(settings, place)),
        }),
        ..Build::plain(
            &[("mysql", "mysql"), ("mariadb", "mysql")],
            Address::Server,
            |settings| Box::pin(open(settings)),
        )
    },
};

struct MySql {
    options: MySqlConnectOptions,
    place: String,
    /// Makes the server give up when we do; otherwise lookups that meet a locked table would pile up in the server.
    give_up: [String; 2],
    zone_offset_seconds: i32,
}

async fn open(settings: Settings) -> Result<Opened, OpenError> {
    let backend = MySql::new(&settings)?;
    let writer = match settings.extend {
        true => Some(MySql::new(&settings)?),
        false => None,
    };
    database::open(backend, writer, settings).await
}

/// Makes a database of its own with tables and indexes like the app's, and none of their rows.
async fn copy_tables(settings: Settings, place: scratch::Place) -> Result<Settings, OpenError> {
    let backend = MySql::new(&settings)?;
    let failed = |error: sqlx::Error| scratch_failed(&backend, &error);
    let mut link = backend.options.connect().await.map_err(failed)?;
    let wanted = schema::wanted_tables(&settings.schema);
    let tables: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT CAST(TABLE_NAME AS CHAR) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() \
         AND TABLE_TYPE = 'BASE TABLE' AND REPLACE(LOWER(TABLE_NAME), '_', '') IN ({wanted})"
    )))
    .fetch_all(&mut link)
    .await
    .map_err(failed)?;
    let mut sql = format!("CREATE DATABASE `{}`;\n", place.name);
    for (table,) in tables {
        let table = table.replace('`', "``");
        sql.push_str(&format!(
            "CREATE TABLE `{}`.`{table}` LIKE `{table}`;\n",
            place.name
        ));
    }
    let made = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut link).await;
    if let Err(error) = made {
        let dropped = format!("DROP DATABASE IF EXISTS `{}`", place.name);
        // What could not be made may be there in part.
        let _ = sqlx::raw_sql(AssertSqlSafe(dropped))
            .execute(&mut link)
            .await;
        return Err(failed(error));
    }
    let mut url = Url::parse(settings.url.expose()).map_err(|error| OpenError::Url {
        store: "mysql",
        cause: error.to_string(),
    })?;
    url.set_path(&format!("/{}", place.name));
    Ok(Settings {
        url: Secret::new(url.as_str()),
        ..settings
    })
}

/// Takes that database away.
async fn drop_tables(settings: Settings, place: scratch::Place) -> Result<(), OpenError> {
    let backend = MySql::new(&settings)?;
    let failed = |error: sqlx::Error| scratch_failed(&backend, &error);
    let mut link = backend.options.connect().await.map_err(failed)?;
    let sql = format!("DROP DATABASE IF EXISTS `{}`", place.name);
    let dropped = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut link).await;
    dropped.map(drop).map_err(failed)
}

fn scratch_failed(backend: &MySql, error: &sqlx::Error) -> OpenError {
    let failure = database::diagnose::<MySql>(error);
    database::open_error::<MySql>(failure, &backend.place, tokio::time::Instant::now())
}

async fn fill(settings: Settings, sessions: Vec<NewSession>) -> Result<(), OpenError> {
    let backend = MySql::new(&settings)?;
    accounts::scratch::fill(backend, settings, sessions).await
}

async fn end(settings: Settings, sessions: Vec<NewSession>) -> Result<(), OpenError> {
    let backend = MySql::new(&settings)?;
    let tokens = sessions.into_iter().map(|session| session.token).collect();
    accounts::scratch::end(backend, settings, tokens).await
}

/// Tables by their own names, for reading.
fn open_tables(settings: Settings) -> Result<Arc<dyn Tables>, OpenError> {
    let backend = MySql::new(&settings)?;
    Ok(old::tables(backend, settings))
}

/// What the app keeps here when its sessions are elsewhere.
async fn beside(settings: Settings) -> Result<Beside, OpenError> {
    let backend = MySql::new(&settings)?;
    database::beside(backend, settings).await
}

async fn open_keys(settings: Settings, access: KeyAccess) -> Result<Arc<dyn ApiKeys>, OpenError> {
    let backend = MySql::new(&settings)?;
    let settings = api_keys::with_few_connections(settings);
    api_keys::open(backend, settings, access).await
}

async fn open_owners(settings: Settings) -> Result<Arc<dyn Owners>, OpenError> {
    let backend = MySql::new(&settings)?;
    let settings = api_keys::with_few_connections(settings);
    api_keys::open_owners(backend, settings).await
}

async fn open_accounts(settings: Settings) -> Result<Arc<dyn Accounts>, OpenError> {
    let backend = MySql::new(&settings)?;
    let patient = accounts::with_time_to_make(settings.clone());
    let maker = MySql::new(&patient)?;
    accounts::open(backend, maker, accounts::with_few_connections(settings)).await
}

async fn open_target(settings: Settings) -> Result<Arc<dyn Target>, OpenError> {
    let settings = accounts::import::with_time_for_batches(settings);
    let backend = MySql::new(&settings)?;
    let patient = accounts::with_time_to_make(settings.clone());
    let maker = MySql::new(&patient)?;
    accounts::import::open(backend, maker, settings).await
}

async fn open_roster(settings: Settings, _writable: bool) -> Result<Arc<dyn Roster>, OpenError> {
    let settings = accounts::import::with_time_for_batches(settings);
    let backend = MySql::new(&settings)?;
    accounts::import::open_roster(backend, settings).await
}

async fn install_tables(settings: Settings) -> Result<(), OpenError> {
    let settings = accounts::with_time_to_make(settings);
    let backend = MySql::new(&settings)?;
    accounts::install(backend, settings).await
}

/// A statement with its parameters.
fn query(sql: &Arc<str>, parameters: &[Parameter]) -> Query<'static, sqlx::MySql, MySqlArguments> {
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

/// Unchecked: text of a binary collation is announced as bytes, and is text all the same.
fn cells(row: &MySqlRow) -> Result<Row, sqlx::Error> {
    (0..row.len()).map(|at| row.try_get_unchecked(at)).collect()
}

impl MySql {
    fn new(settings: &Settings) -> Result<Self, OpenError> {
        let unusable = |cause: String| OpenError::Url {
            store: "mysql",
            cause,
        };
        let url = Url::parse(settings.url.expose()).map_err(|error| unusable(error.to_string()))?;
        let options = MySqlConnectOptions::from_url(&url)
            .map_err(|error| unusable(error.to_string()))?
            // `TIMESTAMP` is turned into this zone on its way out.
            .timezone(Some("+00:00".to_owned()))
            .charset("utf8mb4")
            .disable_statement_logging();
        if options.get_database().is_none() {
            return Err(unusable("it names no database".to_owned()));
        }
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let wait_ms = settings.timeout.as_millis().max(1);
        Ok(Self {
            options,
            place,
            // MariaDB counts in seconds and takes fractions; MySQL counts in milliseconds.
            give_up: [
                format!(
                    "SET SESSION max_statement_time = {}.{:03}",
                    wait_ms / 1000,
                    wait_ms % 1000
                ),
                format!("SET SESSION max_execution_time = {wait_ms}"),
            ],
            zone_offset_seconds: settings.zone_offset_seconds,
        })
    }
}

impl Backend for MySql {
    type Link = MySqlConnection;
    const NAME: &'static str = "mysql";
    const VERSION: &'static str = "SELECT CAST(VERSION() AS CHAR), CAST(@@GLOBAL.time_zone AS CHAR), CAST(@@system_time_zone AS CHAR)";
    const DIALECT: Dialect = Dialect {
        quote: '`',
        parameter: "?",
        text: |expression, _| format!("CAST({expression} AS CHAR)"),
        // It compares anything with anything.
        comparable: |_, _| true,
        quotes_numbers: true,
    };

    fn place(&self) -> String {
        self.place.clone()
    }

    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        for statement in &self.give_up {
            let set = sqlx::raw_sql(AssertSqlSafe(statement.as_str()));
            match set.execute(&mut connection).await {
                Ok(_) => break,
                // The other family's variable, or a proxy that allows neither: our own deadline still holds.
                Err(sqlx::Error::Database(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(connection)
    }

    async fn rows(
        &self,
        link: &mut MySqlConnection,
        sql: &Arc<str>,
        parameter: Option<&Secret>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
        if let Some(text) = parameter {
            query = query.bind(text.expose().to_owned());
        }
        let rows = query.fetch_all(link).await?;
        rows.iter().map(cells).collect()
    }

    async fn change(
        &self,
        link: &mut MySqlConnection,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> Result<u64, sqlx::Error> {
        self.alter(link, sql, parameters).await
    }

    // Its usual level locks the gaps between rows too, over which two transactions that want nothing of each other meet.
    const BEGIN: &'static [&'static str] = &[
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "START TRANSACTION",
    ];
    const OWN: Own = Own {
        prefix: "vestibule_",
        key: "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        text: "TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        serial: "BIGINT AUTO_INCREMENT PRIMARY KEY",
        after: " ENGINE=InnoDB",
        // `IGNORE` would ignore more than that.
        or_nothing: "",
        unhurried: None,
        by_index: None,
        locked: " FOR UPDATE",
        returning: false,
        alone: None,
        before: None,
        indexes_inside: true,
        second: &[
            "ALTER TABLE vestibule_legacy_identity DROP INDEX user_id, ADD INDEX legacy_identity_user_id (user_id)",
        ],
        second_is_due: Some(
            "SELECT '1' FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() \
             AND TABLE_NAME = 'vestibule_legacy_identity' AND INDEX_NAME = 'user_id' LIMIT 1",
        ),
    };

    async fn plain(&self, link: &mut MySqlConnection, sql: &str) -> Result<(), sqlx::Error> {
        let run = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        run.execute(link).await.map(drop)
    }

    async fn select(
        &self,
        link: &mut MySqlConnection,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let rows = query(sql, parameters).fetch_all(link).await?;
        rows.iter().map(cells).collect()
    }

    async fn alter(
        &self,
        link: &mut MySqlConnection,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> Result<u64, sqlx::Error> {
        // The driver asks for rows met, not only for those that became different.
        let done = query(sql, parameters).execute(link).await?;
        Ok(done.rows_affected())
    }

    fn undid(error: &dyn sqlx::error::DatabaseError) -> bool {
        let number = error
            .try_downcast_ref::<MySqlDatabaseError>()
            .map_or(0, MySqlDatabaseError::number);
        // Deadlock; in Galera and MariaDB also "record has changed since last read".
        matches!(number, 1213 | 1020)
    }

    fn unfit(error: &dyn sqlx::error::DatabaseError) -> Option<String> {
        let number = error
            .try_downcast_ref::<MySqlDatabaseError>()
            .map_or(0, MySqlDatabaseError::number);
        // Source: MariaDB and MySQL 8.4 error references.
        let what = match number {
            1366 | 3988 | 1977 => "a text of letters that its column has not",
            1406 => "a text is longer than its column",
            // Without a column it is about what a statement of ours compares; so are 1367 (a literal) and 1411 (a function's argument).
            1292 if error.message().starts_with("Truncated incorrect") => return None,
            1292 => "a date or number that its column does not take",
            1264 | 1265 | 1690 | 3140 | 4038 => "a value that its column does not take",
            1048 => "a column that must have a value has none",
            1216 | 1452 => "a row it refers to is missing",
            3819 | 4025 => "it breaks a rule",
            1644 => "the app's own rules refuse it",
            _ => return None,
        };
        // The value comes before these words, whatever it is.
        let message = error.message();
        let ways = [
            ("for column ", " at row"),
            ("Column ", " cannot be null"),
            ("CONSTRAINT ", " failed for"),
        ];
        let named = ways.iter().find_map(|(before, after)| {
            let (_, rest) = message.rsplit_once(before)?;
            let (name, _) = rest.split_once(after)?;
            database::names_alone(name)
        });
        Some(match named {
            Some(named) => format!("{what}: {named} ({number})"),
            None => format!("{what} ({number})"),
        })
    }

    fn obligations(&self, wanted: &str) -> String {
        format!(
            "SELECT CAST(c.TABLE_NAME AS CHAR), NULL, CAST(c.COLUMN_NAME AS CHAR) FROM information_schema.COLUMNS c \
             WHERE c.TABLE_SCHEMA = DATABASE() AND REPLACE(LOWER(c.TABLE_NAME), '_', '') IN ({wanted}) \
             AND c.IS_NULLABLE = 'NO' AND c.COLUMN_DEFAULT IS NULL AND c.EXTRA NOT LIKE '%auto_increment%' \
             AND c.EXTRA NOT LIKE '%GENERATED%'"
        )
    }

    fn calendar(kind: &str) -> Option<(&'static str, &'static str)> {
        let is_date = kind.starts_with("timestamp") || kind.starts_with("datetime");
        is_date.then_some(("", ""))
    }

    fn catalog(&self, wanted: &str, _schema: Option<&str>) -> String {
        format!(
            // Indexes are read once: asked for each column by itself, every table is opened for every column.
            "SELECT CAST(c.TABLE_NAME AS CHAR), CAST(c.COLUMN_NAME AS CHAR), CAST(c.COLUMN_TYPE AS CHAR), \
             CAST(i.indexed_column IS NOT NULL AS CHAR), NULL \
             FROM information_schema.COLUMNS c LEFT JOIN (SELECT DISTINCT TABLE_NAME AS indexed_table, COLUMN_NAME AS indexed_column \
             FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND SEQ_IN_INDEX = 1) i \
             ON i.indexed_table = c.TABLE_NAME AND i.indexed_column = c.COLUMN_NAME \
             WHERE c.TABLE_SCHEMA = DATABASE() AND REPLACE(LOWER(c.TABLE_NAME), '_', '') IN ({wanted}) \
             ORDER BY c.TABLE_NAME, c.ORDINAL_POSITION"
        )
    }

    fn fault(error: &dyn sqlx::error::DatabaseError) -> Fault {
        let number = error
            .try_downcast_ref::<MySqlDatabaseError>()
            .map_or(0, MySqlDatabaseError::number);
        // Source: MySQL 8.4 server error reference; MariaDB error codes (1698, 1926 to 1969).
        match number {
            // Lock wait, deadlock, interrupted query, statement time.
            1205 | 1213 | 1317 | 1969 | 3024 => Fault::Slow,
            // No such column, table or object.
            1054 | 1146 | 1051 => Fault::Schema,
            // User, password, database or table not ours to read.
            1044 | 1045 | 1049 | 1142 | 1143 | 1227 | 1356 | 1698 | 1130 => Fault::Denied,
            // The prepared statement is gone or must be prepared again.
            1243 | 1615 => Fault::Stale,
            // Too many connections, shutdown, killed, blocked host, starting up.
            1040 | 1053 | 1129 | 1203 | 1226 | 1927 | 3169 => Fault::Unreachable,
            _ => Fault::Unreadable,
        }
    }

    fn warnings(&self, version: &[Option<String>], layout: &Layout) -> Vec<String> {
        let cell = |at: usize| version.get(at).and_then(Option::as_deref).unwrap_or("");
        let zone = match cell(1) {
            "SYSTEM" => cell(2),
            other => other,
        };
        let is_timestamp = layout
            .column("session.expiresAt")
            .is_some_and(|column| column.kind.starts_with("timestamp"));
        if !is_timestamp || matches!(zone, "UTC" | "GMT" | "+00:00" | "") {
            return Vec::new();
        }
        vec![format!(
            "the server's own time zone is {zone}: if the app's connections do not set theirs to UTC, TIMESTAMP columns are shifted, \
             and the offset must be told in the configuration"
        )]
    }

    fn zone_offset_seconds(&self) -> i32 {
        self.zone_offset_seconds
    }
}
