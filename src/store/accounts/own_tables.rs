//! The gateway's own tables, beside those of the app: in a schema of their own where the database has schemas, else under a prefix.
//!
//! Instants are milliseconds since 1970, ids of users are text, whatever the app's own are. Whatever could sign somebody in is sealed
//! under `migration.key`.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::database::{Backend, Core, Failure, Fault, Own};
use super::super::transaction::Broken;

/// The number these tables have. A gateway that meets a greater one does not touch them.
const VERSION: i64 = 2;

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
    /// A column that is looked up by itself.
    indexed: Option<&'static str>,
}

/// Tables of imports begin with this: a gateway needs no rights on them.
const OF_IMPORTS: &str = "migration_";

/// How often tables are brought up to date where another does the same at the same time, and the database lets both begin.
const TRIES: u32 = 3;

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
        // Several of one old system where accounts of it were merged.
        indexed: Some("user_id"),
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
        indexed: None,
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
        indexed: None,
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
        indexed: None,
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
        indexed: None,
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
        indexed: None,
    },
    // What was moved in one go.
    Table {
        name: "migration_run",
        columns: &[
            ("id", Kind::Number, FILLED),
            ("provider", Kind::Key, FILLED),
            ("fingerprint", Kind::Key, FILLED),
            ("state", Kind::Key, FILLED),
            ("began_at", Kind::Number, FILLED),
            ("ended_at", Kind::Number, NULLABLE),
            ("phase", Kind::Number, FILLED),
            ("sequence", Kind::Number, FILLED),
            ("tally", Kind::Text, FILLED),
        ],
        primary: &["id"],
        indexed: None,
    },
    // What became of every row of it.
    Table {
        name: "migration_row",
        columns: &[
            ("run", Kind::Number, FILLED),
            ("phase", Kind::Number, FILLED),
            ("sequence", Kind::Number, FILLED),
            ("kind", Kind::Key, FILLED),
            ("input", Kind::Key, FILLED),
            ("line", Kind::Number, FILLED),
            ("source_id", Kind::Key, NULLABLE),
            ("target_id", Kind::Key, NULLABLE),
            ("outcome", Kind::Key, FILLED),
            ("reason", Kind::Text, FILLED),
            ("detail", Kind::Text, FILLED),
            // Of what was written, to see whether it was changed since.
            ("digest", Kind::Key, NULLABLE),
            ("written_at", Kind::Number, NULLABLE),
            // What undoing needs: the ids of rows that were added, and what stood there before.
            ("added", Kind::Text, NULLABLE),
        ],
        primary: &["run", "phase", "sequence"],
        indexed: None,
    },
    // Who was set aside, because another has the address.
    Table {
        name: "migration_parked",
        columns: &[
            ("provider", Kind::Key, FILLED),
            ("source_user_id", Kind::Key, FILLED),
            ("email", Kind::Key, NULLABLE),
            ("user_id", Kind::Key, NULLABLE),
            ("reason", Kind::Text, FILLED),
            ("profile", Kind::Text, FILLED),
            ("scheme", Kind::Key, NULLABLE),
            ("sealed", Kind::Text, NULLABLE),
            ("run", Kind::Number, FILLED),
            ("parked_at", Kind::Number, FILLED),
        ],
        primary: &["source_user_id", "provider"],
        indexed: Some("email"),
    },
    // What organizations, memberships and invitations of the old system became.
    Table {
        name: "migration_object",
        columns: &[
            ("kind", Kind::Key, FILLED),
            ("provider", Kind::Key, FILLED),
            ("source_id", Kind::Key, FILLED),
            ("target_id", Kind::Key, FILLED),
            ("run", Kind::Number, FILLED),
        ],
        primary: &["source_id", "kind", "provider"],
        indexed: None,
    },
    // Who is at it.
    Table {
        name: "migration_lock",
        columns: &[
            ("name", Kind::Key, FILLED),
            ("holder", Kind::Key, FILLED),
            ("until", Kind::Number, FILLED),
        ],
        primary: &["name"],
        indexed: None,
    },
];

/// A table of ours, as statements name it.
pub(in crate::store) fn name<B: Backend>(table: &str) -> String {
    format!("{}{table}", B::OWN.prefix)
}

/// What makes all of them, each statement without harm where it was run before.
pub(in crate::store) fn statements<B: Backend>() -> Vec<String> {
    let mut statements = statements_for::<B>(&gateways());
    statements.extend(statements_of::<B>(&imports()));
    statements
}

fn gateways() -> Vec<&'static Table> {
    let all = TABLES.iter();
    all.filter(|table| !table.name.starts_with(OF_IMPORTS))
        .collect()
}

fn imports() -> Vec<&'static Table> {
    let all = TABLES.iter();
    all.filter(|table| table.name.starts_with(OF_IMPORTS))
        .collect()
}

fn statements_of<B: Backend>(tables: &[&'static Table]) -> Vec<String> {
    let own = &B::OWN;
    let mut statements: Vec<String> = tables.iter().map(|table| create::<B>(own, table)).collect();
    if !own.indexes_inside {
        let indexes = tables.iter().filter_map(|table| {
            let column = table.indexed?;
            // Where there is a schema, an index is in that of its table.
            let prefix = if B::HAS_SCHEMAS { "" } else { own.prefix };
            Some(format!(
                "CREATE INDEX IF NOT EXISTS {prefix}{}_{column} ON {} ({column})",
                table.name,
                name::<B>(table.name)
            ))
        });
        statements.extend(indexes);
    }
    statements
}

/// With the number of the version.
fn statements_for<B: Backend>(tables: &[&'static Table]) -> Vec<String> {
    let own = &B::OWN;
    let mut statements: Vec<String> = own.before.map(str::to_owned).into_iter().collect();
    statements.extend(statements_of::<B>(tables));
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
    if let Some(column) = table.indexed.filter(|_| own.indexes_inside) {
        parts.push(format!("INDEX {}_{column} ({column})", table.name));
    }
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}){}",
        name::<B>(table.name),
        parts.join(", "),
        own.after
    )
}

/// What is run to see whether every table may be read and written that a gateway reads and writes: it changes nothing.
pub(super) fn probes<B: Backend>() -> Vec<String> {
    let mut probes = Vec::new();
    for table in gateways() {
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

/// Which version of them is there. One that we do not know is an error.
async fn version<B: Backend>(core: &Core<B>, deadline: Instant) -> Result<Option<i64>, Failure> {
    let version = name::<B>("version");
    let text = (B::DIALECT.text)("number", "bigint");
    let sql: Arc<str> = format!("SELECT {text} FROM {version}").into();
    let rows = match core.ask(&sql, None, deadline).await {
        Ok(rows) => rows,
        Err(failure) if failure.fault == Fault::Schema => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let found = rows.into_iter().flatten().flatten().next();
    match found.and_then(|number| number.parse::<i64>().ok()) {
        None => Ok(None),
        Some(known @ 1..=VERSION) => Ok(Some(known)),
        Some(other) => Err(Failure {
            fault: Fault::Schema,
            cause: format!(
                "the gateway's own tables have version {other}, and this gateway knows version {VERSION}"
            ),
        }),
    }
}

/// Makes those that are missing, and brings older ones up to date. Another gateway may do the same at the same time.
pub(super) async fn install<B: Backend>(core: &Core<B>, deadline: Instant) -> Result<(), Failure> {
    let mut tried = 0;
    loop {
        let before = version(core, deadline).await?;
        if before == Some(VERSION) {
            return Ok(());
        }
        let Err(broken) = make(core, before.is_some(), deadline).await else {
            return Ok(());
        };
        // Somebody else made them meanwhile, or is about to; or we are not the ones who may.
        match version(core, deadline).await {
            Ok(Some(VERSION)) => return Ok(()),
            Ok(Some(_)) if tried < TRIES => tried += 1,
            Ok(Some(_) | None) | Err(_) => return Err(broken.failure),
        }
    }
}

/// Makes those of imports that are missing. The others are there.
pub(super) async fn install_imports<B: Backend>(
    core: &Core<B>,
    deadline: Instant,
) -> Result<(), Failure> {
    // The last one that is made.
    let last = imports().pop().map(|table| name::<B>(table.name));
    let asked: Arc<str> =
        format!("SELECT '1' FROM {} WHERE 1 = 0", last.unwrap_or_default()).into();
    let there = async || match core.ask(&asked, None, deadline).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.fault == Fault::Schema => Ok(false),
        Err(failure) => Err(failure),
    };
    if there().await? {
        return Ok(());
    }
    let made = async {
        let mut transaction = core.begin(deadline).await?;
        if let Some(alone) = B::OWN.alone {
            transaction.plain(alone).await?;
        }
        for statement in statements_of::<B>(&imports()) {
            transaction.plain(&statement).await?;
        }
        transaction.commit().await
    };
    let made: Result<(), Broken> = made.await;
    match made {
        Ok(()) => Ok(()),
        Err(broken) => match there().await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(broken.failure),
        },
    }
}

async fn make<B: Backend>(
    core: &Core<B>,
    are_there: bool,
    deadline: Instant,
) -> Result<(), Broken> {
    let mut transaction = core.begin(deadline).await?;
    if let Some(alone) = B::OWN.alone {
        transaction.plain(alone).await?;
    }
    let version = name::<B>("version");
    if are_there {
        // Again, now that nobody else is at it.
        let text = (B::DIALECT.text)("number", "bigint");
        let asked = format!("SELECT {text} FROM {version}");
        let rows = transaction.rows(&asked.into(), &[]).await?;
        let first = rows.into_iter().flatten().flatten().next();
        let due = match B::OWN.second_is_due {
            None => first.as_deref() == Some("1"),
            Some(asked) => !transaction.rows(&asked.into(), &[]).await?.is_empty(),
        };
        for statement in B::OWN.second.iter().filter(|_| due) {
            transaction.plain(statement).await?;
        }
    }
    for statement in statements_for::<B>(&gateways()) {
        transaction.plain(&statement).await?;
    }
    if are_there {
        transaction
            .plain(&format!("UPDATE {version} SET number = {VERSION}"))
            .await?;
    }
    transaction.commit().await
}
