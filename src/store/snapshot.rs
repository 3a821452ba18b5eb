//! The old system's own database, read as it was at one moment: one transaction that only reads, and a cursor, so that it takes no more
//! memory for a million rows than for ten.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use tokio::time::timeout;

use super::{OpenError, SchemaOverrides, Settings, postgres};
use crate::secret::Secret;

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(15);

/// Longest wait for some rows. The first of them may have to be sorted.
const ROWS_WAIT_MAX: Duration = Duration::from_secs(300);

/// Rows read at once.
const ROWS_AT_ONCE: usize = 200;

/// It cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The address cannot be used.
    #[error("it is no address of a PostgreSQL database: {0}")]
    Address(String),
    /// No connection, or it broke.
    #[error("the database at {place} cannot be reached: {cause}")]
    Unreachable {
        /// Host and port.
        place: String,
        /// Why.
        cause: String,
    },
    /// It does not let us read.
    #[error("the database at {place} refuses: {cause}")]
    Refused {
        /// Host and port.
        place: String,
        /// Its words.
        cause: String,
    },
}

impl SnapshotError {
    /// The operator's next step.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Address(_) => "write it as postgres://USER:PASSWORD@HOST/DATABASE",
            Self::Unreachable { .. } => {
                "look whether it is up, and whether this machine may connect; then run it again"
            }
            Self::Refused { .. } => {
                "the role needs SELECT on the tables; `postgres` of the project has it"
            }
        }
    }
}

/// A database, as it was at one moment.
pub struct Snapshot {
    link: PgConnection,
    place: String,
}

impl Snapshot {
    /// Connects, and begins to read.
    ///
    /// # Errors
    /// When it cannot be reached, or does not let us in.
    pub async fn open(url: &Secret) -> Result<Self, SnapshotError> {
        let mut settings = Settings {
            url: url.clone(),
            timeout: ROWS_WAIT_MAX,
            connections: 1,
            waiting_max: 1,
            schema: SchemaOverrides::default(),
            zone_offset_seconds: 0,
            app: super::App::default(),
            documents: None,
            extend: false,
            secondary: super::SecondaryStorage::default(),
        };
        let scheme = url.expose().split(':').next().unwrap_or_default();
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(SnapshotError::Address(
                "it begins with something else than `postgres:`".to_owned(),
            ));
        }
        let (options, place) = postgres::plain(&mut settings).map_err(|error| match error {
            OpenError::Url { cause, .. } => SnapshotError::Address(cause),
            other => SnapshotError::Address(other.to_string()),
        })?;
        let linked = timeout(CONNECT_MAX, options.connect()).await;
        let link = match linked {
            Ok(Ok(link)) => link,
            Ok(Err(error)) => return Err(told(&place, &error)),
            Err(_) => return Err(slow(&place)),
        };
        let mut snapshot = Self { link, place };
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        snapshot.run(begin).await?;
        // We wait as long as we say above; the reader of a big table is idle meanwhile for as long as it takes to keep some rows.
        snapshot
            .run("SET LOCAL idle_in_transaction_session_timeout = 0")
            .await?;
        Ok(snapshot)
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), SnapshotError> {
        let done = sqlx::raw_sql(sql).execute(&mut self.link);
        match timeout(ROWS_WAIT_MAX, done).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(told(&self.place, &error)),
            Err(_) => Err(slow(&self.place)),
        }
    }

    /// Whether there is such a table.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub async fn has(&mut self, table: &'static str) -> Result<bool, SnapshotError> {
        let sql = format!("SELECT (to_regclass('{table}') IS NOT NULL)::text");
        let found = self.texts(sql, 0).await?;
        Ok(found.first().is_some_and(|text| text == "true"))
    }

    /// Begins to read the rows of a query.
    ///
    /// # Errors
    /// When it may not be read.
    pub async fn begin(&mut self, query: &'static str) -> Result<(), SnapshotError> {
        let sql = format!("DECLARE reading NO SCROLL CURSOR FOR {query}");
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.link);
        match timeout(ROWS_WAIT_MAX, done).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(told(&self.place, &error)),
            Err(_) => Err(slow(&self.place)),
        }
    }

    /// The next rows, each the text of its only column; none: there are no more.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn next(&mut self) -> Result<Vec<String>, SnapshotError> {
        let rows = self.texts(format!("FETCH FORWARD {ROWS_AT_ONCE} FROM reading"), 0);
        let rows = rows.await?;
        if rows.is_empty() {
            self.run("CLOSE reading").await?;
        }
        Ok(rows)
    }

    async fn texts(&mut self, sql: String, at: usize) -> Result<Vec<String>, SnapshotError> {
        // Without preparing it: poolers that share connections between clients do not pass that.
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.link);
        let rows = match timeout(ROWS_WAIT_MAX, rows).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => return Err(told(&self.place, &error)),
            Err(_) => return Err(slow(&self.place)),
        };
        let texts = rows.iter().map(|row| row.try_get(at));
        let texts: Result<Vec<String>, sqlx::Error> = texts.collect();
        texts.map_err(|error| told(&self.place, &error))
    }

    /// Nothing more is read.
    pub async fn end(self) {
        let _ = timeout(CONNECT_MAX, self.link.close()).await;
    }
}

fn slow(place: &str) -> SnapshotError {
    SnapshotError::Unreachable {
        place: place.to_owned(),
        cause: "no answer in time".to_owned(),
    }
}

fn told(place: &str, error: &sqlx::Error) -> SnapshotError {
    let place = place.to_owned();
    match error {
        sqlx::Error::Database(error) => SnapshotError::Refused {
            place,
            cause: error.message().to_owned(),
        },
        error => SnapshotError::Unreachable {
            place,
            cause: error.to_string(),
        },
    }
}
