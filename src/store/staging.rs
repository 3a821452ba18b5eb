//! A database of our own, for rows that leave in a file or over HTTP: people are imported into it as into any other, and read out again.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use crate::migration::leaving::rows::{self, Cell, Dialect, Holds, Table};
use crate::store::record;

/// It cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {cause}")]
pub struct StagingError {
    place: String,
    cause: String,
}

/// A folder with the database in it: the owner's alone, and gone with this.
pub struct Staging {
    folder: PathBuf,
}

impl Staging {
    /// Makes one below a folder, with columns as wide as where the rows go. It is removed when this is dropped.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn make(
        below: &Path,
        name: &str,
        towards: Option<Dialect>,
    ) -> Result<Self, StagingError> {
        let folder = below.join(format!("vestibule-emit-{}-{name}", std::process::id()));
        let failed = |cause: String| StagingError {
            place: folder.display().to_string(),
            cause,
        };
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| failed(error.to_string()))?;
        let staging = Self {
            folder: folder.clone(),
        };
        let mut how = std::fs::OpenOptions::new();
        how.write(true).create_new(true).mode(0o600);
        let file = how.open(staging.path());
        file.map_err(|error| failed(error.to_string()))?;
        let mut link = staging.link().await?;
        let made = sqlx::raw_sql(sqlx::AssertSqlSafe(rows::staging(towards)));
        let made = made.execute(&mut link).await;
        made.map_err(|error| failed(error.to_string()))?;
        link.close()
            .await
            .map_err(|error| failed(error.to_string()))?;
        Ok(staging)
    }

    /// Where the database is.
    pub fn path(&self) -> PathBuf {
        self.folder.join("staging.sqlite")
    }

    async fn link(&self) -> Result<SqliteConnection, StagingError> {
        let how = SqliteConnectOptions::new()
            .filename(self.path())
            .disable_statement_logging();
        how.connect().await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &sqlx::Error) -> StagingError {
        StagingError {
            place: self.folder.display().to_string(),
            cause: error.to_string(),
        }
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn read(&self) -> Result<Reading<'_>, StagingError> {
        Ok(Reading {
            link: self.link().await?,
            staging: self,
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What is left is in a folder of its owner's alone.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Reads what was imported.
pub struct Reading<'s> {
    link: SqliteConnection,
    staging: &'s Staging,
}

impl Reading<'_> {
    fn name(table: &Table) -> String {
        match table.own {
            true => format!("\"vestibule_{}\"", table.name),
            false => format!("\"{}\"", table.name),
        }
    }

    /// Which columns hold anything: others may be missing where the rows go.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn used(&mut self, table: &Table) -> Result<Vec<usize>, StagingError> {
        let looked: Vec<String> = table
            .columns
            .iter()
            .map(|(name, holds)| match holds {
                Holds::Flag => format!("MAX(COALESCE(\"{name}\", 0) <> 0)"),
                _ => format!("MAX(\"{name}\" IS NOT NULL)"),
            })
            .collect();
        let sql = format!("SELECT {} FROM {}", looked.join(", "), Self::name(table));
        let row = sqlx::query(sqlx::AssertSqlSafe(sql));
        let row = row.fetch_one(&mut self.link).await;
        let row = row.map_err(|error| self.staging.failed(&error))?;
        let all = 0..table.columns.len();
        Ok(all
            .filter(|at| {
                let name = table.columns.get(*at).map_or("", |(name, _)| name);
                // Every user has this one, set or not.
                name == "emailVerified" || matches!(row.try_get::<Option<i64>, _>(*at), Ok(Some(1)))
            })
            .collect())
    }

    /// Rows after this one, at most so many, and the number of the last. In the order in which they were written.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn rows(
        &mut self,
        table: &Table,
        after: i64,
        most: i64,
    ) -> Result<(Vec<Vec<Cell>>, i64), StagingError> {
        let names: Vec<String> = table
            .columns
            .iter()
            .map(|(name, _)| format!("CAST(\"{name}\" AS TEXT)"))
            .collect();
        let sql = format!(
            "SELECT {}, rowid FROM {} WHERE rowid > ? ORDER BY rowid LIMIT ?",
            names.join(", "),
            Self::name(table)
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(after).bind(most);
        let rows = rows.fetch_all(&mut self.link).await;
        let rows = rows.map_err(|error| self.staging.failed(&error))?;
        let mut last = after;
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            last = row.try_get(table.columns.len()).unwrap_or(last);
            let cells = table.columns.iter().enumerate();
            let cells = cells.map(|(at, (_, holds))| cell(row, at, *holds));
            all.push(cells.collect());
        }
        Ok((all, last))
    }
}

fn cell(row: &SqliteRow, at: usize, holds: Holds) -> Cell {
    let Ok(Some(text)) = row.try_get::<Option<String>, _>(at) else {
        return Cell::Null;
    };
    match holds {
        Holds::Text => Cell::Text(text),
        Holds::Flag => record::truth(&text).map_or(Cell::Null, Cell::Flag),
        Holds::Date => record::moment(&text, 0).map_or(Cell::Null, Cell::Date),
        Holds::Number => text.parse().map_or(Cell::Null, Cell::Number),
    }
}
