//! The gateway's own tables, beside those of the app: in a schema of their own where the database has schemas, else under a prefix.
//!
//! Instants are milliseconds since 1970, ids of users are text, whatever the app's own are. Whatever could sign somebody in is sealed
//! under `migration.key`.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::database::{Backend, Core, Failure, Fault, Own};
use super::super::transaction::Broken;

/// The number these tables have. A gateway that meets a greater one does not touch them.
const VERSION: i64 = 1;

/// What a column holds.
#[derive(Clone, Copy)]
enum Kind {
    /// A text of at most 255 letters, compared byte for byte.
    Key,
    /// A text.
    Text,
    Number,
    /// A primary key that counts by itself.
    Serial,
}

struct Table {
    name: &'static str,
    /// Name, kind, and whether it may be NULL.
    columns: &'static [(&'static str, Kind, bool)],
    primary: &'static [&'static str],
    unique: &'static [&'static str],
}

const NULLABLE: bool = true;
const FILLED: bool = false;

/// Source: the names of `migration::accounts`.
const TABLES: &[Table] = &[
    // Who somebody is in the old system. Kept for ever.
    Table {
        name: "legacy_identity",
        columns: &[
            ("provider", Kind::Key, FILLED),
            ("source_user_id", Kind::Key, FILLED),
            ("user_id", Kind::Key, FILLED),
            ("state", Kind::Key, FILLED),
            ("imported_at", Kind::Number, FILLED),
            ("moved_at", Kind::Number, FILLED),
        ],
        // The id first: it is looked up by itself, and then its provider compared.
        primary: &["source_user_id", "provider"],
        unique: &["user_id", "provider"],
    },
    Table {
        name: "legacy_credential",
        columns: &[
            ("user_id", Kind::Key, FILLED),
            ("scheme", Kind::Key, FILLED),
            ("sealed", Kind::Text, FILLED),
            ("state", Kind::Key, FILLED),
            ("exported_at", Kind::Number, NULLABLE),
            ("kept_at", Kind::Number, FILLED),
            ("verified_at", Kind::Number, NULLABLE),
            ("moved_at", Kind::Number, FILLED),
        ],
        primary: &["user_id"],
        unique: &[],
    },
    Table {
        name: "legacy_factor",
        columns: &[
            ("user_id", Kind::Key, FILLED),
            ("sealed", Kind::Text, NULLABLE),
            ("digits", Kind::Number, FILLED),
            ("period", Kind::Number, FILLED),
            ("algorithm", Kind::Key, FILLED),
            ("last_step", Kind::Number, NULLABLE),
            // Hex SHA-256 of the secret, as stored, of the app's own row that stands in.
            ("stand_in", Kind::Key, NULLABLE),
            ("kept_at", Kind::Number, FILLED),
        ],
        primary: &["user_id"],
        unique: &[],
    },
    Table {
        name: "legacy_session",
        columns: &[
            ("provider", Kind::Key, FILLED),
            ("digest", Kind::Key, FILLED),
            ("user_id", Kind::Key, NULLABLE),
            ("sealed_token", Kind::Text, NULLABLE),
            ("expires_at", Kind::Number, NULLABLE),
            ("bridged_at", Kind::Number, NULLABLE),
            ("revoked_at", Kind::Number, NULLABLE),
        ],
        primary: &["provider", "digest"],
        unique: &[],
    },
    Table {
        name: "sessions_floor",
        columns: &[
            ("user_id", Kind::Key, FILLED),
            ("since", Kind::Number, NULLABLE),
            // `account.updatedAt` as the gateway wrote it: what it reads else, somebody changed here.
            ("password_written_at", Kind::Number, NULLABLE),
        ],
        primary: &["user_id"],
        unique: &[],
    },
    Table {
        name: "deferred",
        columns: &[
            ("id", Kind::Serial, FILLED),
            ("user_id", Kind::Key, FILLED),
            ("operation", Kind::Key, FILLED),
            ("tries", Kind::Number, FILLED),
            ("due_at", Kind::Number, NULLABLE),
        ],
        primary: &[],
        unique: &[],
    },
];

/// A table of ours, as statements name it.
pub(in crate::store) fn name<B: Backend>(table: &str) -> String {
    format!("{}{table}", B::OWN.prefix)
}

/// What makes them, each statement without harm where it was run before.
pub(in crate::store) fn statements<B: Backend>() -> Vec<String> {
    let own = &B::OWN;
    let mut statements: Vec<String> = own.before.map(str::to_owned).into_iter().collect();
    statements.extend(TABLES.iter().map(|table| create::<B>(own, table)));
    let version = name::<B>("version");
    statements.push(format!(
        "CREATE TABLE IF NOT EXISTS {version} (number BIGINT NOT NULL PRIMARY KEY){}",
        own.after
    ));
    statements.push(format!(
        "INSERT INTO {version} (number) SELECT {VERSION} FROM (SELECT 1 AS one) made \
         WHERE NOT EXISTS (SELECT 1 FROM {version})"
    ));
    statements
}

fn create<B: Backend>(own: &Own, table: &Table) -> String {
    let columns = table.columns.iter().map(|(name, kind, nullable)| {
        let kind = match kind {
            Kind::Key => own.key,
            Kind::Text => own.text,
            Kind::Number => "BIGINT",
            Kind::Serial => return format!("{name} {}", own.serial),
        };
        let filled = if *nullable { "" } else { " NOT NULL" };
        format!("{name} {kind}{filled}")
    });
    let mut parts: Vec<String> = columns.collect();
    if !table.primary.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", table.primary.join(", ")));
    }
    if !table.unique.is_empty() {
        parts.push(format!("UNIQUE ({})", table.unique.join(", ")));
    }
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}){}",
        name::<B>(table.name),
        parts.join(", "),
        own.after
    )
}

/// What is run to see whether every table may be read and written: it changes nothing.
pub(super) fn probes<B: Backend>() -> Vec<String> {
    let mut probes = Vec::new();
    for table in TABLES {
        let stored = name::<B>(table.name);
        let columns = table.columns.iter().map(|(name, ..)| *name);
        let columns: Vec<&str> = columns.collect();
        let list = columns.join(", ");
        let first = columns.first().copied().unwrap_or_default();
        probes.push(format!(
            "INSERT INTO {stored} ({list}) SELECT {list} FROM {stored} WHERE 1 = 0"
        ));
        probes.push(format!("UPDATE {stored} SET {first} = {first} WHERE 1 = 0"));
        probes.push(format!("DELETE FROM {stored} WHERE 1 = 0"));
    }
    probes
}

/// Whether they are there. A version that is not ours is an error.
async fn are_there<B: Backend>(core: &Core<B>, deadline: Instant) -> Result<bool, Failure> {
    let version = name::<B>("version");
    let text = (B::DIALECT.text)("number", "bigint");
    let sql: Arc<str> = format!("SELECT {text} FROM {version}").into();
    let rows = match core.ask(&sql, None, deadline).await {
        Ok(rows) => rows,
        Err(failure) if failure.fault == Fault::Schema => return Ok(false),
        Err(failure) => return Err(failure),
    };
    let found = rows.into_iter().flatten().flatten().next();
    match found.and_then(|number| number.parse::<i64>().ok()) {
        None => Ok(false),
        Some(VERSION) => Ok(true),
        Some(other) => Err(Failure {
            fault: Fault::Schema,
            cause: format!(
                "the gateway's own tables have version {other}, and this gateway knows version {VERSION}"
            ),
        }),
    }
}

/// Makes those that are missing. Another gateway may do the same at the same time.
pub(super) async fn install<B: Backend>(core: &Core<B>, deadline: Instant) -> Result<(), Failure> {
    if are_there(core, deadline).await? {
        return Ok(());
    }
    let made = async {
        let mut transaction = core.begin(deadline).await?;
        if let Some(alone) = B::OWN.alone {
            transaction.plain(alone).await?;
        }
        for statement in statements::<B>() {
            transaction.plain(&statement).await?;
        }
        transaction.commit().await
    };
    let made: Result<(), Broken> = made.await;
    match made {
        Ok(()) => Ok(()),
        // Somebody else made them meanwhile, or we are not the ones who may.
        Err(broken) => match are_there(core, deadline).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(broken.failure),
        },
    }
}
