//! Triggers by which PostgreSQL itself says that a session ended, whoever ended it.
//!
//! One function and a few triggers, all named `vestibule_…`: removing them leaves nothing behind. They speak on change of what an
//! identity is made of, and stay silent when a session is merely extended or a key merely used. Whatever goes wrong in them, the app's
//! own statement goes through. Tokens never travel: their digest does.

use std::fmt::Write as _;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, Postgres};
use tokio::time::timeout;

use super::{Detected, OpenError};
use crate::session::feed::CHANNEL;

/// How long putting them there may wait for the app's own transactions before it gives up: everything behind it waits too.
const LOCK_TIMEOUT: &str = "5s";

/// The oldest version that has all of it: `sha256`, `EXECUTE FUNCTION`.
const VERSION_MIN: u32 = 11;

/// A row that expired longer ago than this is no news to anybody, so that the app's sweeping out of old rows stays cheap.
const OLD_NEWS: &str = "1 day";

/// Columns of a key that change whenever it is used, without `_` and in small letters.
const COUNTERS: &[&str] = &[
    "requestcount",
    "remaining",
    "lastrequest",
    "lastrefillat",
    "updatedat",
];

/// How long all of it may take, connecting included.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

/// The statements, for one database.
#[derive(Clone, Debug)]
pub struct Triggers {
    /// Puts function and triggers there, in place of older ones.
    pub install: String,
    /// Takes all of it away.
    pub remove: String,
    /// The tables concerned, with their schema.
    pub tables: Vec<String>,
}

/// A table with a trigger.
struct Watched {
    table: String,
    kind: &'static str,
    /// The column whose value names what ended.
    named_by: String,
    /// The event, and when it counts.
    events: Vec<(&'static str, Option<String>)>,
}

/// Reads what there is and writes the statements for it.
pub(super) async fn read(
    options: &PgConnectOptions,
    place: &str,
    detected: &Detected,
) -> Result<Triggers, OpenError> {
    let lookup = |cause: String| OpenError::Lookup {
        store: "postgres",
        place: place.to_owned(),
        cause,
    };
    let major = detected.version.split(['.', ' ']).next();
    if major
        .and_then(|major| major.parse().ok())
        .unwrap_or(VERSION_MIN)
        < VERSION_MIN
    {
        return Err(lookup(format!(
            "the triggers need PostgreSQL {VERSION_MIN} or later, and this is {}",
            detected.version
        )));
    }
    let keys = within(place, async {
        let mut link = options.connect().await?;
        key_tables(&mut link).await
    })
    .await?;
    Ok(write(detected, &keys))
}

/// Runs statements as they are.
pub(super) async fn run(
    options: &PgConnectOptions,
    place: &str,
    sql: &str,
) -> Result<(), OpenError> {
    within(place, async {
        let mut link = options.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut link)
            .await
            .map(drop)
    })
    .await
}

async fn within<T>(
    place: &str,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, OpenError> {
    let (store, place) = ("postgres", place.to_owned());
    match timeout(WITHIN, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(sqlx::Error::Database(error))) => Err(OpenError::Denied {
            store,
            place,
            cause: error.message().to_owned(),
        }),
        Ok(Err(error)) => Err(OpenError::Unreachable {
            store,
            place,
            cause: error.to_string(),
        }),
        Err(_) => Err(OpenError::Timeout {
            store,
            place,
            waited: WITHIN,
        }),
    }
}

/// A table of API keys: schema, name, columns.
type KeyTable = (String, String, Vec<String>);

async fn key_tables(link: &mut PgConnection) -> Result<Vec<KeyTable>, sqlx::Error> {
    let rows: Vec<(String, String, String)> = sqlx::query_as::<Postgres, _>(
        "SELECT n.nspname::text, c.relname::text, a.attname::text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
         WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped \
         AND replace(lower(c.relname), '_', '') IN ('apikey', 'apikeys') ORDER BY n.nspname, c.relname, a.attnum",
    )
    .persistent(false)
    .fetch_all(link)
    .await?;
    let mut tables: Vec<KeyTable> = Vec::new();
    for (schema, table, column) in rows {
        match tables.last_mut() {
            Some(last) if last.0 == schema && last.1 == table => last.2.push(column),
            _ => tables.push((schema, table, vec![column])),
        }
    }
    Ok(tables)
}

fn write(detected: &Detected, keys: &[KeyTable]) -> Triggers {
    let stored = |logical: &str| {
        detected
            .columns
            .iter()
            .find(|column| column.logical == logical)
            .map(|column| (column.stored.as_str(), column.kind.as_str()))
    };
    let table = |logical: &str| {
        let found = detected.tables.iter().find(|(of, _)| *of == logical);
        found.map(|(_, name)| name.split('.').map(quoted).collect::<Vec<_>>().join("."))
    };
    // Compared as texts: a column may be of a type that does not compare.
    let changed = |columns: &[&str]| {
        let each = columns
            .iter()
            .map(|column| quoted(column))
            .map(|column| format!("OLD.{column}::text IS DISTINCT FROM NEW.{column}::text"));
        each.collect::<Vec<_>>().join(" OR ")
    };
    let mut watched = Vec::new();
    if let (Some(name), Some((token, _)), Some((expires, kind))) = (
        table("session"),
        stored("session.token"),
        stored("session.expiresAt"),
    ) {
        let columns: Vec<&str> = [
            "session.id",
            "session.token",
            "session.userId",
            "session.impersonatedBy",
            "session.activeOrganizationId",
            "session.activeTeamId",
        ]
        .iter()
        .filter_map(|logical| stored(logical))
        .map(|(column, _)| column)
        .collect();
        let expires = quoted(expires);
        let recent = match kind {
            "timestamp with time zone" => Some("pg_catalog.now()"),
            "timestamp without time zone" => Some("(pg_catalog.now() AT TIME ZONE 'UTC')"),
            _ => None,
        };
        watched.push(Watched {
            kind: "session",
            named_by: token.to_owned(),
            events: vec![
                (
                    "DELETE",
                    recent.map(|now| format!("OLD.{expires} > {now} - interval '{OLD_NEWS}'")),
                ),
                (
                    "UPDATE",
                    Some(format!(
                        "NEW.{expires} < OLD.{expires} OR {}",
                        changed(&columns)
                    )),
                ),
            ],
            table: name,
        });
    }
    if let (Some(name), Some((id, _))) = (table("user"), stored("user.id")) {
        let columns: Vec<&str> = [
            "user.id",
            "user.email",
            "user.emailVerified",
            "user.name",
            "user.role",
            "user.banned",
            "user.banExpires",
        ]
        .iter()
        .filter_map(|logical| stored(logical))
        .map(|(column, _)| column)
        .collect();
        watched.push(Watched {
            kind: "user",
            named_by: id.to_owned(),
            events: vec![("DELETE", None), ("UPDATE", Some(changed(&columns)))],
            table: name,
        });
    }
    if let (Some(name), Some((user, _))) = (table("member"), stored("member.userId")) {
        let columns: Vec<&str> = ["member.userId", "member.organizationId", "member.role"]
            .iter()
            .filter_map(|logical| stored(logical))
            .map(|(column, _)| column)
            .collect();
        watched.push(Watched {
            kind: "user",
            named_by: user.to_owned(),
            events: vec![
                ("INSERT", None),
                ("DELETE", None),
                ("UPDATE", Some(changed(&columns))),
            ],
            table: name,
        });
    }
    let home = detected
        .tables
        .iter()
        .find_map(|(_, name)| name.split_once('.').map(|(schema, _)| schema));
    for (schema, name, columns) in keys {
        let fold = |name: &str| name.replace('_', "").to_ascii_lowercase();
        let key = columns.iter().find(|column| fold(column) == "key");
        let whole = columns.iter().any(|column| fold(column) == "enabled");
        let (Some(key), true, true) = (key, whole, home.is_none_or(|home| home == schema)) else {
            continue;
        };
        let columns: Vec<&str> = columns
            .iter()
            .map(String::as_str)
            .filter(|column| !COUNTERS.contains(&fold(column).as_str()))
            .collect();
        watched.push(Watched {
            table: format!("{}.{}", quoted(schema), quoted(name)),
            kind: "api_key",
            named_by: key.clone(),
            events: vec![("DELETE", None), ("UPDATE", Some(changed(&columns)))],
        });
    }

    let function = match home {
        Some(schema) => format!("{}.vestibule_ended", quoted(schema)),
        None => "vestibule_ended".to_owned(),
    };
    let mut install = format!(
        "-- Tells gateways that listen on the channel {CHANNEL} which sessions end. `vestibule db triggers remove` takes it away.\n\
         BEGIN;\nSET LOCAL lock_timeout = '{LOCK_TIMEOUT}';\n\n{}\n",
        body(&function)
    );
    for each in &watched {
        write_triggers(&mut install, each, &function);
    }
    install.push_str("COMMIT;\n");
    let remove = format!(
        "-- Takes the triggers away with the function they call.\n\
         BEGIN;\nSET LOCAL lock_timeout = '{LOCK_TIMEOUT}';\nDROP FUNCTION IF EXISTS {function}() CASCADE;\nCOMMIT;\n"
    );
    Triggers {
        install,
        remove,
        tables: watched.into_iter().map(|each| each.table).collect(),
    }
}

fn write_triggers(sql: &mut String, watched: &Watched, function: &str) {
    let Watched {
        table,
        kind,
        named_by,
        events,
    } = watched;
    let named_by = literal(named_by);
    let mut one = |name: &str, event: &str, each: &str, when: Option<&str>| {
        let when = when.map_or_else(String::new, |when| format!("\n    WHEN ({when})"));
        // Writing to a string cannot fail.
        let _ = write!(
            sql,
            "DROP TRIGGER IF EXISTS {name} ON {table};\n\
             CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH {each}{when}\n    \
             EXECUTE FUNCTION {function}('{kind}', {named_by});\n"
        );
    };
    for (event, when) in events {
        let name = format!("vestibule_{}", event.to_ascii_lowercase());
        one(&name, event, "ROW", when.as_deref());
    }
    one("vestibule_truncate", "TRUNCATE", "STATEMENT", None);
    sql.push('\n');
}

/// The function that all triggers call, with what they say as arguments: the kind, and the column that names it.
fn body(function: &str) -> String {
    let notice = |kind: &str, value: &str| {
        format!(
            "PERFORM pg_notify('{CHANNEL}', json_build_object('kind', {kind}, 'value', {value},\n            \
             'at', (EXTRACT(EPOCH FROM statement_timestamp()) * 1000)::bigint)::text);"
        )
    };
    format!(
        "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $vestibule$
DECLARE
    was text;
    became text;
    told text;
BEGIN
    BEGIN
        IF TG_LEVEL = 'STATEMENT' THEN
            {all}
            RETURN NULL;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            EXECUTE format('SELECT ($1).%I::text', TG_ARGV[1]) INTO was USING OLD;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            EXECUTE format('SELECT ($1).%I::text', TG_ARGV[1]) INTO became USING NEW;
        END IF;
        FOR told IN SELECT DISTINCT value FROM (VALUES (was), (became)) AS both_of (value) WHERE value IS NOT NULL LOOP
            -- A token is named by its digest: whoever listens must not learn it.
            IF TG_ARGV[0] = 'session' THEN
                told := encode(sha256(convert_to(told, 'UTF8')), 'hex');
            END IF;
            {one}
        END LOOP;
    EXCEPTION WHEN OTHERS THEN
        -- Whatever went wrong, the app's own statement must go through; and what could not be named is everything.
        BEGIN
            {all}
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END;
    RETURN NULL;
END
$vestibule$;
",
        all = notice("'all'", "NULL"),
        one = notice("TG_ARGV[0]", "told"),
    )
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
