//! Where sessions are looked up: the app's own database.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::secret::Secret;

/// How to reach and read the app's store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `sqlite:PATH`, `postgres://…` or `mysql://…`. May hold a password, hence secret.
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
}

/// Names that differ from what is detected. Keys are the framework's logical names.
#[derive(Clone, Debug, Default)]
pub struct SchemaOverrides {
    /// PostgreSQL schema (`search_path` otherwise).
    pub schema: Option<String>,
    /// Logical table (`session`, `user`, `member`) to stored table.
    pub tables: BTreeMap<String, String>,
    /// Logical column, as `session.userId`, to stored column.
    pub columns: BTreeMap<String, String>,
}
