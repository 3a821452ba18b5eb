//! Where API keys are kept in tests: in memory, or in real databases with the framework's own tables.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use vestibule::api_key::{
    ApiKeys, Counters, FOREVER, Found, Row, Taken, Unwritten, Used, Wanted, check, stored_form,
};
use vestibule::secret::Secret;
use vestibule::session::{BoxFuture, Record, SourceError};
use vestibule::time::UnixMs;

use super::databases::{Dialect, Folder, Server, shared};

/// Sixty-four letters that begin with `word`.
pub fn key(word: &str) -> String {
    format!("{word:k<64}")
}

/// A key without any limits.
pub fn row(id: &str) -> Row {
    Row {
        id: id.into(),
        config_id: Some("default".into()),
        enabled: Some(true),
        expires_at: None,
        created_at: UnixMs(super::NOW.0 - 60_000),
        rate_limited: Some(false),
        rate_window: None,
        rate_max: None,
        refill_interval: None,
        refill_amount: None,
        counters: Counters::default(),
    }
}

/// The owner of a key, in the shape the store gives.
pub fn owner(row: &Row, user: &str) -> Record {
    Record {
        session_id: row.id.clone(),
        token: Secret::new(""),
        expires_at: row.expires_at.unwrap_or(FOREVER),
        created_at: None,
        updated_at: None,
        ..super::record("", user)
    }
}

/// Keys in memory: counts what it is asked, and fails when told to.
#[derive(Default)]
pub struct KeyStore {
    rows: Mutex<HashMap<String, Found>>,
    asked: AtomicUsize,
    takes: AtomicUsize,
    writes: AtomicUsize,
    failing: AtomicBool,
    /// The next write is made, and fails all the same.
    doubtful: AtomicBool,
}

impl KeyStore {
    /// Keeps a key by its digest.
    pub fn put(&self, key: &str, row: Row, owner: Option<Record>) {
        self.put_stored(stored_form(key, true), row, owner);
    }

    pub fn put_stored(&self, stored: String, row: Row, owner: Option<Record>) {
        let found = Found { row, owner };
        self.rows.lock().unwrap().insert(stored, found);
    }

    pub fn change(&self, key: &str, change: impl FnOnce(&mut Found)) {
        let mut rows = self.rows.lock().unwrap();
        change(rows.get_mut(&stored_form(key, true)).expect("the key"));
    }

    pub fn counters_of(&self, id: &str) -> Counters {
        self.of(id, |found| found.row.counters).expect("the key")
    }

    fn of<T>(&self, id: &str, look: impl FnOnce(&mut Found) -> T) -> Option<T> {
        let mut rows = self.rows.lock().unwrap();
        rows.values_mut()
            .find(|found| &*found.row.id == id)
            .map(look)
    }

    /// Lookups so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Questions for uses so far.
    pub fn takes(&self) -> usize {
        self.takes.load(Ordering::SeqCst)
    }

    /// Writes that were made.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    pub fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    pub fn doubt_next_write(&self) {
        self.doubtful.store(true, Ordering::SeqCst);
    }

    fn well(&self) -> Result<(), SourceError> {
        if self.failing.load(Ordering::SeqCst) {
            return Err(SourceError::Unreachable {
                source_name: "test",
                cause: "told to fail".into(),
            });
        }
        Ok(())
    }
}

impl ApiKeys for KeyStore {
    fn name(&self) -> &'static str {
        "test"
    }

    fn find<'a>(&'a self, stored: &'a str) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.well()?;
            Ok(self.rows.lock().unwrap().get(stored).cloned())
        })
    }

    fn take<'a>(
        &'a self,
        id: &'a str,
        wanted: Wanted,
    ) -> BoxFuture<'a, Result<Taken, SourceError>> {
        Box::pin(async move {
            self.takes.fetch_add(1, Ordering::SeqCst);
            self.well()?;
            // Others get a word in between, as they do while a database works.
            tokio::task::yield_now().await;
            let taken = self.of(id, |found| {
                let mut granted = 0;
                for _ in 0..wanted.uses {
                    let row = &mut found.row;
                    match check::take(row, row.counters, wanted.now) {
                        Ok(after) => row.counters = after,
                        Err(_) => break,
                    }
                    granted += 1;
                }
                Taken::Uses {
                    granted,
                    counters: Some(found.row.counters),
                }
            });
            Ok(taken.unwrap_or(Taken::Gone))
        })
    }

    fn write<'a>(
        &'a self,
        id: &'a str,
        used: Used,
    ) -> BoxFuture<'a, Result<Option<Counters>, Unwritten>> {
        Box::pin(async move {
            self.well().map_err(|error| Unwritten {
                error,
                unsure: false,
            })?;
            self.writes.fetch_add(1, Ordering::SeqCst);
            let written = self.of(id, |found| {
                found.row.counters = used.added_to(found.row.counters);
                found.row.counters
            });
            if self.doubtful.swap(false, Ordering::SeqCst) {
                return Err(Unwritten {
                    error: SourceError::Timeout {
                        source_name: "test",
                        waited: Duration::from_secs(1),
                    },
                    unsure: true,
                });
            }
            Ok(written)
        })
    }

    fn counters<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Counters>, SourceError>> {
        Box::pin(async move {
            self.well()?;
            Ok(self.of(id, |found| found.row.counters))
        })
    }
}

// -------------------------------------------------------------------------------------------------------------- real databases

/// A real database with the framework's own tables.
pub struct Tables {
    place: Place,
    pub url: String,
    _folder: Folder,
}

enum Place {
    Sqlite,
    /// With the name of the database.
    Server(Dialect, &'static Server, String),
}

impl Tables {
    /// Makes one with every table the framework has, in an SQLite file or on the shared server.
    pub async fn new(dialect: Option<Dialect>) -> Self {
        let file = match dialect {
            None => "db/full.sqlite.ddl.sql",
            Some(Dialect::Postgres) => "db/full.postgres.ddl.sql",
            Some(Dialect::MySql) => "db/full.mysql.ddl.sql",
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let ddl = std::fs::read_to_string(folder.join(file)).unwrap();
        Self::made_by(dialect, &ddl).await
    }

    /// Makes one by these statements.
    pub async fn made_by(dialect: Option<Dialect>, ddl: &str) -> Self {
        let folder = Folder::new("keys");
        let (place, url) = match dialect {
            None => {
                let path = folder.join("app.db");
                let url = format!("sqlite:{}", path.display());
                let made = sqlx::SqliteConnection::connect(&format!("{url}?mode=rwc")).await;
                drop(made.unwrap());
                (Place::Sqlite, url)
            }
            Some(dialect) => {
                let server = shared(dialect);
                let database = server.database();
                let url = server.url(&database);
                (Place::Server(dialect, server, database), url)
            }
        };
        let tables = Self {
            place,
            url,
            _folder: folder,
        };
        tables.run(ddl).await;
        tables
    }

    /// The URL for a role that may only read.
    pub fn reader_url(&self) -> String {
        match &self.place {
            Place::Sqlite => self.url.clone(),
            Place::Server(_, server, database) => server.reader_url(database),
        }
    }

    pub fn quote(&self) -> char {
        match &self.place {
            Place::Server(Dialect::MySql, ..) => '`',
            Place::Sqlite | Place::Server(Dialect::Postgres, ..) => '"',
        }
    }

    /// Runs statements, as the app does, in UTC.
    pub async fn run(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.place {
            Place::Sqlite => {
                let mut app = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut app).await.unwrap();
            }
            Place::Server(Dialect::Postgres, ..) => {
                let mut app = sqlx::PgConnection::connect(&self.url).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut app).await.unwrap();
            }
            Place::Server(Dialect::MySql, ..) => {
                let mut app = sqlx::MySqlConnection::connect(&self.url).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut app).await.unwrap();
            }
        }
    }

    /// The first row, as texts.
    pub async fn texts(&self, sql: &str) -> Option<Vec<Option<String>>> {
        let sql = AssertSqlSafe(sql.to_owned());
        macro_rules! first {
            ($Link:ty) => {{
                let mut app = <$Link>::connect(&self.url).await.unwrap();
                let row = sqlx::query(sql).fetch_optional(&mut app).await.unwrap()?;
                (0..row.len())
                    .map(|at| row.try_get_unchecked(at).unwrap())
                    .collect()
            }};
        }
        Some(match &self.place {
            Place::Sqlite => first!(sqlx::SqliteConnection),
            Place::Server(Dialect::Postgres, ..) => first!(sqlx::PgConnection),
            Place::Server(Dialect::MySql, ..) => first!(sqlx::MySqlConnection),
        })
    }

    /// Inserts a row as the framework gives it out in JSON.
    pub async fn insert(&self, table: &str, row: &Value) {
        let quote = self.quote();
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for (name, value) in row.as_object().expect("a row") {
            names.push(format!("{quote}{name}{quote}"));
            values.push(self.literal(value));
        }
        let (names, values) = (names.join(", "), values.join(", "));
        self.run(&format!(
            "INSERT INTO {quote}{table}{quote} ({names}) VALUES ({values})"
        ))
        .await;
    }

    fn literal(&self, value: &Value) -> String {
        match value {
            Value::Null => "NULL".into(),
            Value::Bool(flag) => match self.place {
                Place::Sqlite => u8::from(*flag).to_string(),
                Place::Server(..) => flag.to_string(),
            },
            Value::Number(number) => number.to_string(),
            Value::String(text) => {
                let is_date = text.len() == 24 && text.ends_with('Z') && text.contains('T');
                let mysql = matches!(self.place, Place::Server(Dialect::MySql, ..));
                match is_date && mysql {
                    true => format!("'{}'", text.replace('T', " ").trim_end_matches('Z')),
                    false => format!("'{}'", text.replace('\'', "''")),
                }
            }
            other => panic!("no literal for {other}"),
        }
    }

    /// What a row of the usual table counts, read without any of our code.
    pub async fn counters(&self, id: &str) -> Option<Value> {
        let quote = self.quote();
        let date = |name: &str| match &self.place {
            Place::Sqlite => format!("\"{name}\""),
            Place::Server(Dialect::Postgres, ..) => format!(
                "to_char(\"{name}\" AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
            ),
            Place::Server(Dialect::MySql, ..) => {
                format!("CONCAT(LEFT(DATE_FORMAT(`{name}`, '%Y-%m-%dT%H:%i:%s.%f'), 23), 'Z')")
            }
        };
        let text = |name: &str| match &self.place {
            Place::Server(Dialect::MySql, ..) => format!("CAST(`{name}` AS CHAR)"),
            Place::Sqlite | Place::Server(Dialect::Postgres, ..) => {
                format!("CAST(\"{name}\" AS TEXT)")
            }
        };
        let selected = [
            text("remaining"),
            text("requestCount"),
            date("lastRequest"),
            date("lastRefillAt"),
            date("updatedAt"),
        ]
        .join(", ");
        let row = self
            .texts(&format!(
                "SELECT {selected} FROM {quote}apikey{quote} WHERE {quote}id{quote} = '{id}'"
            ))
            .await?;
        let number = |at: usize| {
            row[at]
                .as_ref()
                .map(|text| text.parse::<i64>().expect("a number"))
        };
        Some(serde_json::json!({
            "remaining": number(0),
            "requestCount": number(1),
            "lastRequest": row[2],
            "lastRefillAt": row[3],
            "updatedAt": row[4],
        }))
    }
}

/// Keys in Redis, and their owners in an SQLite file beside it.
pub struct Secondary {
    pub redis: super::redis::Redis,
    pub tables: Tables,
}

impl Secondary {
    pub async fn new() -> Self {
        Self {
            redis: super::redis::Redis::start(),
            tables: Tables::new(None).await,
        }
    }

    pub fn settings(&self) -> vestibule::store::Settings {
        vestibule::store::Settings {
            secondary: vestibule::store::SecondaryStorage {
                database: Some(Secret::new(self.tables.url.clone())),
                ..Default::default()
            },
            ..self.redis.settings()
        }
    }

    pub async fn open(&self) -> Arc<dyn ApiKeys> {
        vestibule::store::open_api_keys(
            &self.settings(),
            vestibule::store::KeyAccess::Write,
            vestibule::store::KeyStorage::Secondary,
        )
        .await
        .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Puts a row there as the plugin does: under its stored form, and under its id.
    pub fn put(&self, row: &Value) {
        let mut app = self.redis.connect();
        for name in [
            &row["key"],
            &format!("by-id:{}", row["id"].as_str().unwrap()).into(),
        ] {
            let name = format!("better-auth:api-key:{}", name.as_str().unwrap());
            let _: String = super::redis::run(&mut app, &["SET", &name, &row.to_string()]);
        }
    }

    /// The row under its id; it must be the same under its stored form.
    pub fn row(&self, id: &str) -> Value {
        let mut app = self.redis.connect();
        let mut read = |name: &str| -> String {
            super::redis::run(&mut app, &["GET", &format!("better-auth:api-key:{name}")])
        };
        let copy = read(&format!("by-id:{id}"));
        let row: Value = serde_json::from_str(&copy).unwrap();
        assert_eq!(read(row["key"].as_str().unwrap()), copy);
        row
    }
}

/// Keys in a real database, whose uses are counted.
pub async fn open(url: &str) -> Arc<dyn ApiKeys> {
    let settings = super::databases::settings(url);
    vestibule::store::open_api_keys(
        &settings,
        vestibule::store::KeyAccess::Write,
        vestibule::store::KeyStorage::Database,
    )
    .await
    .unwrap_or_else(|error| panic!("{error}"))
}
