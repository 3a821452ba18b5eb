//! The old system's own tables and Redis, read for its live sessions; and whole users, as the framework knows them.
//!
//! Nothing is written. A table is whatever the operator or the old system calls it, so the catalog is asked for it first: that tells
//! the types of its columns, and keeps every name that is no table out of a statement.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::database::{self, Backend, Database, Failure, Fault};
use super::schema::{self, Column, Table};
use super::{Documents, FieldKind, OpenError, Settings};
use crate::migration::bridge::Users;
use crate::migration::dialogue::{OldStore, Row, RowQuery, Unreachable};
use crate::secret::Secret;
use crate::session::{BoxFuture, SourceError};

/// How old the known columns of a table may be.
const COLUMNS_AGE_MAX: Duration = Duration::from_secs(60);

/// Most tables remembered. Their names come from the configuration, so there are as many as old systems.
const TABLES_MAX: usize = 64;

/// Most rows read to find the one that is the same byte for byte: some collations fold case.
const ROWS_MAX: usize = 8;

/// Longest row, in letters. Sessions hold a few hundred; some apps keep more in them.
const ROW_LETTERS_MAX: usize = 512 * 1024;

/// Longest value that identifies a row, in letters.
const VALUE_LETTERS_MAX: usize = 4096;

/// Rows of tables by their own names. Implemented over each database.
pub(super) trait Tables: Send + Sync {
    /// One row, by one column or two.
    fn row<'a>(&'a self, query: &'a RowQuery) -> BoxFuture<'a, Result<Option<Row>, Unreachable>>;

    /// A whole user: every column by its logical name, as JSON. `None`: there is none.
    fn user<'a>(
        &'a self,
        user_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Map<String, Value>>, SourceError>>;
}

/// Opens tables for reading, on the runtime this is called on. Connects at the first question.
pub(super) fn tables<B: Backend>(backend: B, settings: Settings) -> Arc<dyn Tables> {
    let settings = super::api_keys::with_few_connections(settings);
    Arc::new(Reader {
        database: Arc::new(Database::unopened(backend, settings)),
        known: Arc::default(),
    })
}

type Known = Mutex<BTreeMap<String, (Instant, Arc<Vec<Table>>)>>;

struct Reader<B: Backend> {
    database: Arc<Database<B>>,
    known: Arc<Known>,
}

impl<B: Backend> Reader<B> {
    fn clone(&self) -> Self {
        Self {
            database: Arc::clone(&self.database),
            known: Arc::clone(&self.known),
        }
    }

    /// The tables of one name, in any spelling of it.
    async fn catalog(
        &self,
        name: &str,
        schema: Option<&str>,
        deadline: Instant,
    ) -> Result<Arc<Vec<Table>>, Failure> {
        let core = &self.database.core;
        let schema = schema.or(core.settings.schema.schema.as_deref());
        let place = format!("{}.{name}", schema.unwrap_or_default());
        let known = |known: &Known| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            let (at, tables) = known.get(&place)?;
            (at.elapsed() < COLUMNS_AGE_MAX).then(|| Arc::clone(tables))
        };
        if let Some(tables) = known(&self.known) {
            return Ok(tables);
        }
        let wanted = format!("'{}'", schema::fold(name));
        let sql = core.backend.catalog(&wanted, schema);
        let rows = core.ask(&sql.into(), None, deadline).await?;
        let tables = Arc::new(database::tables(rows));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // What is not there may come any moment, and is looked for again.
        if !tables.is_empty() && (known.len() < TABLES_MAX || known.contains_key(&place)) {
            known.insert(place.clone(), (Instant::now(), Arc::clone(&tables)));
        }
        Ok(tables)
    }

    async fn read_row(&self, query: &RowQuery) -> Result<Option<Row>, Unreachable> {
        let deadline = Instant::now() + self.database.core.settings.timeout;
        let (schema, name) = match query.table.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, query.table.as_str()),
        };
        let sane = |name: &str| {
            schema::sane(name)
                .map(drop)
                .map_err(|_| Unreachable::Garbage)
        };
        sane(name)?;
        schema.map_or(Ok(()), sane)?;
        let value = query.value.expose();
        if value.len() > VALUE_LETTERS_MAX || value.contains('\0') {
            return Ok(None);
        }
        let tables = self.catalog(name, schema, deadline).await.map_err(told)?;
        let Some(table) = tables.iter().find(|table| table.name == name) else {
            tracing::warn!(table = name, "the old system's table is not there");
            return Err(Unreachable::Garbage);
        };
        let column = |wanted: &str| {
            let found = table.columns.iter().find(|column| column.name == wanted);
            found.ok_or(Unreachable::Garbage)
        };
        let key = column(&query.key)?;
        schema::sane(&key.name).map_err(|_| Unreachable::Garbage)?;
        if !may_hold(&key.kind, value) {
            return Ok(None);
        }
        let also = match &query.also {
            Some((name, value)) => Some((column(name)?, value)),
            None => None,
        };
        let wanted: Vec<&Column> = query
            .columns
            .iter()
            .map(|name| column(name))
            .collect::<Result<_, _>>()?;
        let mut selected = vec![key];
        selected.extend(also.iter().map(|(column, _)| *column));
        selected.extend(&wanted);
        let condition = also
            .as_ref()
            .map(|(column, value)| (*column, value.as_str()));
        let sql = select::<B>(table, &selected, key, condition)?;
        let core = &self.database.core;
        let rows = core.ask(&sql.into(), Some(&query.value), deadline).await;
        let exact = is_text(&key.kind);
        let same = |row: &super::record::Row| {
            let cell = |at: usize| row.get(at).and_then(Option::as_deref);
            (!exact || cell(0) == Some(value))
                && also
                    .as_ref()
                    .is_none_or(|(_, value)| cell(1) == Some(value.as_str()))
        };
        let Some(row) = rows.map_err(told)?.into_iter().find(same) else {
            return Ok(None);
        };
        let letters: usize = row.iter().flatten().map(String::len).sum();
        if letters > ROW_LETTERS_MAX {
            return Err(Unreachable::Garbage);
        }
        let cells = row.into_iter().skip(selected.len() - wanted.len());
        let cells = cells.map(|cell| cell.map(Secret::new));
        Ok(Some(query.columns.iter().cloned().zip(cells).collect()))
    }

    async fn read_user(&self, user_id: Secret) -> Result<Option<Map<String, Value>>, SourceError> {
        let began = Instant::now();
        let core = &self.database.core;
        let deadline = began + core.settings.timeout;
        let failed = |failure: Failure| database::source_error::<B>(failure, began);
        let overrides = &core.settings.schema;
        let name = overrides.tables.get("user");
        let mut tables = Vec::new();
        for name in name.map_or(vec!["user", "users"], |name| vec![name.as_str()]) {
            let found = self.catalog(name, None, deadline).await.map_err(failed)?;
            tables.extend(found.iter().cloned());
        }
        let (table, columns) =
            schema::detect_owners(&tables, overrides).map_err(database::garbage::<B>)?;
        let id = columns.iter().find(|(logical, _)| *logical == "user.id");
        let Some((_, id)) = id else {
            return Err(database::garbage::<B>("the user table has no id"));
        };
        let text = user_id.expose();
        if !may_hold(&id.kind, text) {
            return Ok(None);
        }
        let all: Vec<&Column> = table.columns.iter().collect();
        let unfit = |_| database::garbage::<B>("the user table has names we cannot quote");
        let sql = select::<B>(&table, &all, id, None).map_err(unfit)?;
        let rows = core.ask(&sql.into(), Some(&user_id), deadline).await;
        let at = all.iter().position(|column| column.name == id.name);
        let exact = is_text(&id.kind);
        let same = |row: &super::record::Row| {
            let cell = at.and_then(|at| row.get(at)).and_then(Option::as_deref);
            !exact || cell == Some(text)
        };
        let Some(row) = rows.map_err(failed)?.into_iter().find(same) else {
            return Ok(None);
        };
        let zone = core.backend.zone_offset_seconds();
        let mut user = Map::new();
        for (column, cell) in all.iter().zip(row) {
            let (name, kind) = schema::user_field(column, &core.settings);
            let value = match cell {
                None => Value::Null,
                Some(text) => super::record::json(&text, kind, zone).ok_or_else(|| {
                    database::garbage::<B>(format!("column `{}` holds another type", column.name))
                })?,
            };
            user.insert(name, value);
        }
        Ok(Some(user))
    }
}

/// Selects columns of the rows in which `key` is the parameter.
fn select<B: Backend>(
    table: &Table,
    columns: &[&Column],
    key: &Column,
    also: Option<(&Column, &str)>,
) -> Result<String, Unreachable> {
    let mut selected = Vec::with_capacity(columns.len());
    for column in columns {
        let name = schema::sane(&column.name).map_err(|_| Unreachable::Garbage)?;
        selected.push((B::DIALECT.text)(&B::DIALECT.name(name), &column.kind));
    }
    let mut sql = format!(
        "SELECT {} FROM {} WHERE {} = {}{}",
        selected.join(", "),
        B::DIALECT.table(table),
        B::DIALECT.name(&key.name),
        B::DIALECT.parameter,
        B::cast_of_id(&key.kind)
    );
    if let Some((column, value)) = also {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':');
        if !value.bytes().all(plain) {
            return Err(Unreachable::Garbage);
        }
        sql.push_str(&format!(
            " AND {} = '{value}'",
            B::DIALECT.name(&column.name)
        ));
    }
    sql.push_str(&format!(" LIMIT {ROWS_MAX}"));
    Ok(sql)
}

/// Whether a column of this type can hold a value at all: strangers present anything, and a database calls that an error.
fn may_hold(kind: &str, value: &str) -> bool {
    if kind == "uuid" {
        return uuid::Uuid::try_parse(value).is_ok();
    }
    if kind.contains("int") {
        return value
            .parse::<i64>()
            .is_ok_and(|number| number.to_string() == value);
    }
    true
}

/// Whether a column holds texts, which must be the same byte for byte.
fn is_text(kind: &str) -> bool {
    kind.contains("char") || kind.contains("text") || kind.is_empty()
}

fn told(failure: Failure) -> Unreachable {
    match failure.fault {
        Fault::Slow => Unreachable::Timeout,
        Fault::Unreachable => Unreachable::Connect,
        Fault::Denied => Unreachable::Refused,
        Fault::Schema | Fault::Stale | Fault::Unreadable => Unreachable::Garbage,
    }
}

impl<B: Backend> Tables for Reader<B> {
    fn row<'a>(&'a self, query: &'a RowQuery) -> BoxFuture<'a, Result<Option<Row>, Unreachable>> {
        let (reader, query) = (self.clone(), query.clone());
        Box::pin(async move {
            let work = async move { Ok(reader.read_row(&query).await) };
            let done = self.database.at_home(work).await;
            done.unwrap_or(Err(Unreachable::Refused))
        })
    }

    fn user<'a>(
        &'a self,
        user_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Map<String, Value>>, SourceError>> {
        let (reader, user_id) = (self.clone(), Secret::new(user_id));
        Box::pin(
            self.database
                .at_home(async move { reader.read_user(user_id).await }),
        )
    }
}

/// What the old systems keep in a database and in a Redis, each where it is named.
struct Kept {
    tables: Option<Arc<dyn Tables>>,
    values: Option<Arc<dyn Values>>,
}

/// Values by their keys.
pub(super) trait Values: Send + Sync {
    /// What stands at a key.
    fn value<'a>(&'a self, key: &'a Secret) -> BoxFuture<'a, Result<Option<Secret>, Unreachable>>;
}

impl OldStore for Kept {
    fn row<'a>(
        &'a self,
        _provider: &'a str,
        query: &'a RowQuery,
    ) -> BoxFuture<'a, Result<Option<Row>, Unreachable>> {
        match &self.tables {
            Some(tables) => tables.row(query),
            None => Box::pin(std::future::ready(Err(Unreachable::Unconfigured))),
        }
    }

    fn value<'a>(
        &'a self,
        _provider: &'a str,
        key: &'a Secret,
    ) -> BoxFuture<'a, Result<Option<Secret>, Unreachable>> {
        match &self.values {
            Some(values) => values.value(key),
            None => Box::pin(std::future::ready(Err(Unreachable::Unconfigured))),
        }
    }
}

/// Opens what the old systems keep. To be called where [`super::open`] is; connects at the first question.
///
/// # Errors
/// When an address is none, or leads to another kind of store.
pub fn open_old(
    database: Option<&Settings>,
    redis: Option<&Settings>,
) -> Result<Arc<dyn OldStore>, OpenError> {
    let tables = database.map(open_tables).transpose()?;
    let values = match redis {
        None => None,
        Some(settings) => {
            let kind = super::kind_of(&settings.url)?;
            let open = kind.build.values.ok_or_else(|| OpenError::Url {
                store: kind.name,
                cause: "`migration.bridge.redis` wants a Redis".to_owned(),
            })?;
            Some(open(settings.clone())?)
        }
    };
    Ok(Arc::new(Kept { tables, values }))
}

pub(super) fn open_tables(settings: &Settings) -> Result<Arc<dyn Tables>, OpenError> {
    let kind = super::kind_of(&settings.url)?;
    match kind.build.tables {
        Some(open) => open(settings.clone()),
        None => Err(OpenError::Url {
            store: kind.name,
            cause: "rows are in an SQL database, and this is none".to_owned(),
        }),
    }
}

/// Users as the app shows them.
struct Shown {
    tables: Arc<dyn Tables>,
    documents: Option<Documents>,
}

/// Opens the users of the app for reading. To be called where [`super::open`] is; connects at the first question.
///
/// # Errors
/// When the address leads to no database.
pub fn open_users(settings: &Settings) -> Result<Arc<dyn Users>, OpenError> {
    Ok(Arc::new(Shown {
        tables: open_tables(settings)?,
        documents: settings.documents.clone(),
    }))
}

impl Users for Shown {
    fn shown<'a>(
        &'a self,
        user_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Map<String, Value>>, SourceError>> {
        Box::pin(async move {
            let mut user = self.tables.user(user_id).await?;
            if let Some(user) = &mut user {
                user.retain(|name, _| schema::is_shown(name, self.documents.as_ref()));
            }
            Ok(user)
        })
    }
}

/// What a column of an SQL type is in JSON, where the app has not said.
pub(super) fn kind_of_column(kind: &str) -> FieldKind {
    if kind.starts_with("bool") || kind == "tinyint(1)" {
        FieldKind::Boolean
    } else if kind.starts_with("json") {
        FieldKind::Json
    } else if kind.starts_with("timestamp") || kind.starts_with("date") {
        FieldKind::Date
    } else if ["int", "numeric", "decimal", "real", "double", "float"]
        .iter()
        .any(|number| kind.contains(number))
    {
        FieldKind::Number
    } else {
        FieldKind::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_column_cannot_hold_is_not_asked_for() {
        for (kind, value, fine) in [
            ("uuid", "0d9b4c5e-6f11-4c7c-9c55-1f1f2f3f4f5f", true),
            ("uuid", "abc", false),
            ("bigint", "42", true),
            ("bigint", "042", false),
            ("integer", "1 or 1", false),
            ("text", "anything", true),
            ("character varying", "", true),
        ] {
            assert_eq!(may_hold(kind, value), fine, "{kind} {value}");
        }
    }

    #[test]
    fn columns_nobody_has_spoken_of_are_what_their_type_says() {
        for (kind, is) in [
            ("boolean", FieldKind::Boolean),
            ("tinyint(1)", FieldKind::Boolean),
            ("jsonb", FieldKind::Json),
            ("timestamp with time zone", FieldKind::Date),
            ("date", FieldKind::Date),
            ("bigint", FieldKind::Number),
            ("double precision", FieldKind::Number),
            ("varchar(255)", FieldKind::Text),
            ("uuid", FieldKind::Text),
        ] {
            assert_eq!(kind_of_column(kind), is, "{kind}");
        }
    }
}
