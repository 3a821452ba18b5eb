//! API keys in a database: looked up, and their uses written as additions, whoever else writes.

use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::DateTime;
use tokio::time::Instant;

use super::database::{self, Backend, Database, Failure, Fault, Parameter, Unchanged};
use super::record::{self, Row as Cells, Unreadable};
use super::schema::{self, API_KEY_FIELDS, ApiKeyLayout, Column};
use super::{KeyAccess, OpenError, Owners, SchemaError, Settings};
use crate::api_key::{
    ApiKeys, Counters, FOREVER, Found, Refill, Row, Taken, Unwritten, Used, Wanted,
};
use crate::secret::Secret;
use crate::session::{BoxFuture, Record, SourceError};
use crate::time::UnixMs;

/// Connections for keys, beside those for sessions. Questions about one key are asked together, and writes are a few a second.
const CONNECTIONS_MAX: u32 = 4;

/// Opening may take longer than a lookup.
const OPEN_WAIT_MIN: Duration = Duration::from_secs(5);

/// How old the known layout may be: the app may be migrated while we run.
const LAYOUT_AGE_MAX: Duration = Duration::from_secs(60);

/// How soon after one reading the layout may be read again when a lookup fails for want of a table or column.
const LAYOUT_RETRY: Duration = Duration::from_secs(5);

/// How often uses are asked for when others take them between our look and our try. Whoever loses so often has waited long enough.
const TRIES_MAX: usize = 8;

/// Columns of the owner, after those of the key.
const OWNER_FIELDS: [&str; 7] = [
    "user.id",
    "user.email",
    "user.emailVerified",
    "user.name",
    "user.role",
    "user.banned",
    "user.banExpires",
];

/// What a row counts, in the order in which [`Reading::counters`] reads it.
const COUNTED: [&str; 5] = [
    "apikey.remaining",
    "apikey.lastRefillAt",
    "apikey.requestCount",
    "apikey.lastRequest",
    "apikey.updatedAt",
];

/// How dates are stored where the column's type does not say.
const UNKNOWN: u8 = 0;
const ISO_TEXT: u8 = 1;
const MILLISECONDS: u8 = 2;
const SECONDS: u8 = 3;

/// Few connections of their own for keys.
pub(super) fn with_few_connections(settings: Settings) -> Settings {
    Settings {
        connections: settings.connections.min(CONNECTIONS_MAX),
        ..settings
    }
}

/// Opens the keys: reads the layout, and proves that they can be looked up and, where that is asked, changed.
pub(super) async fn open<B: Backend>(
    backend: B,
    settings: Settings,
    access: KeyAccess,
) -> Result<Arc<dyn ApiKeys>, OpenError> {
    let place = backend.place();
    let schema_error = |cause| OpenError::Schema {
        store: B::NAME,
        place: place.clone(),
        cause,
    };
    schema::check(
        &settings.schema,
        settings.documents.as_ref(),
        B::HAS_SCHEMAS,
        B::NAME,
    )
    .map_err(schema_error)?;
    let database = Database::unopened(backend, settings);
    let began = Instant::now();
    let deadline = began + database.core.settings.timeout.max(OPEN_WAIT_MIN);
    let failed = |failure: Failure| database::open_error::<B>(failure, &place, began);
    let layout = read_layout(&database, deadline).await.map_err(failed)?;
    let plan = Arc::new(Plan::new::<B>(layout.map_err(schema_error)?));
    let core = &database.core;
    // The very statements that are run later, with a key and an id that nobody has.
    let probe = Secret::new("vestibule-probe");
    core.ask(&plan.find, Some(&probe), deadline)
        .await
        .map_err(failed)?;
    let nobody = Secret::new(plan.no_id);
    core.ask(&plan.counters, Some(&nobody), deadline)
        .await
        .map_err(failed)?;
    if access == KeyAccess::Write {
        let changed = core
            .change(&plan.change_nothing::<B>(), &[], deadline)
            .await;
        changed.map_err(|Unchanged { failure, .. }| match failure.fault {
            Fault::Slow => failed(failure),
            // A connection that works for questions works for changes too: SQLite says "read-only" in other words.
            Fault::Unreachable if B::NAME != "sqlite" => failed(failure),
            Fault::Unreachable
            | Fault::Denied
            | Fault::Schema
            | Fault::Stale
            | Fault::Unreadable => OpenError::ReadOnlyKeys {
                store: B::NAME,
                place: place.clone(),
                cause: failure.cause,
            },
        })?;
    }
    Ok(Arc::new(DatabaseKeys {
        keys: Arc::new(Keys {
            database,
            plan: RwLock::new(plan),
            reading_layout: tokio::sync::Mutex::new(()),
            dates: AtomicU8::new(UNKNOWN),
        }),
    }))
}

async fn read_layout<B: Backend>(
    database: &Database<B>,
    deadline: Instant,
) -> Result<Result<ApiKeyLayout, SchemaError>, Failure> {
    let core = &database.core;
    let overrides = &core.settings.schema;
    let wanted = schema::wanted_tables(overrides);
    let sql = core.backend.catalog(&wanted, overrides.schema.as_deref());
    let rows = core.ask(&sql.into(), None, deadline).await?;
    Ok(schema::detect_api_keys(&database::tables(rows), overrides))
}

/// Opens the owners of keys that are kept elsewhere: finds their table, and proves that they can be looked up.
pub(super) async fn open_owners<B: Backend>(
    backend: B,
    settings: Settings,
) -> Result<Arc<dyn Owners>, OpenError> {
    let place = backend.place();
    let schema_error = |cause| OpenError::Schema {
        store: B::NAME,
        place: place.clone(),
        cause,
    };
    schema::check(
        &settings.schema,
        settings.documents.as_ref(),
        B::HAS_SCHEMAS,
        B::NAME,
    )
    .map_err(schema_error)?;
    let database = Database::unopened(backend, settings);
    let began = Instant::now();
    let deadline = began + database.core.settings.timeout.max(OPEN_WAIT_MIN);
    let failed = |failure: Failure| database::open_error::<B>(failure, &place, began);
    let read = read_owner_lookup(&database, deadline).await;
    let lookup = read.map_err(failed)?.map_err(schema_error)?;
    let nobody = Secret::new(lookup.no_id);
    let core = &database.core;
    core.ask(&lookup.sql, Some(&nobody), deadline)
        .await
        .map_err(failed)?;
    Ok(Arc::new(DatabaseOwners {
        database: Arc::new(database),
        lookup: Arc::new(RwLock::new(lookup)),
    }))
}

/// What looks an owner up.
#[derive(Clone)]
struct OwnerLookup {
    sql: Arc<str>,
    cast: &'static str,
    no_id: &'static str,
    read_at: Instant,
}

impl OwnerLookup {
    /// Whether a text may be an id at all: the database would call another one a mistake of ours.
    fn may_be_id(&self, text: &str) -> bool {
        match self.cast {
            "" => !text.contains('\0'),
            "::uuid" => uuid::Uuid::try_parse(text).is_ok(),
            _ => text.parse::<i32>().is_ok(),
        }
    }
}

async fn read_owner_lookup<B: Backend>(
    database: &Database<B>,
    deadline: Instant,
) -> Result<Result<OwnerLookup, SchemaError>, Failure> {
    let core = &database.core;
    let overrides = &core.settings.schema;
    let wanted = schema::wanted_tables(overrides);
    let sql = core.backend.catalog(&wanted, overrides.schema.as_deref());
    let rows = core.ask(&sql.into(), None, deadline).await?;
    let detected = schema::detect_owners(&database::tables(rows), overrides);
    Ok(detected.map(|(table, columns)| {
        let dialect = &B::DIALECT;
        let column = |logical: &str| columns.iter().find(|(name, _)| *name == logical);
        let name = |column: &Column| format!("u.{}", dialect.name(&column.name));
        let selected = OWNER_FIELDS.iter().map(|logical| match column(logical) {
            Some((_, column)) => (dialect.text)(&name(column), &column.kind),
            None => "NULL".to_owned(),
        });
        let selected: Vec<String> = selected.collect();
        let (id, kind) = column("user.id").map_or((String::new(), ""), |(_, column)| {
            (name(column), column.kind.as_str())
        });
        let sql = format!(
            "SELECT {} FROM {} u WHERE {id} = {}{} LIMIT 8",
            selected.join(", "),
            dialect.table(&table),
            dialect.parameter,
            B::cast_of_id(kind)
        );
        OwnerLookup {
            sql: sql.into(),
            cast: B::cast_of_id(kind),
            no_id: id_of_nobody(kind),
            read_at: Instant::now(),
        }
    }))
}

/// An id of the right type that no row has.
fn id_of_nobody(kind: &str) -> &'static str {
    match kind {
        "uuid" => "00000000-0000-0000-0000-000000000000",
        _ => "0",
    }
}

/// Owners over one database.
struct DatabaseOwners<B: Backend> {
    database: Arc<Database<B>>,
    lookup: Arc<RwLock<OwnerLookup>>,
}

impl<B: Backend> Owners for DatabaseOwners<B> {
    fn owner<'a>(
        &'a self,
        user_id: &'a str,
        key: &'a Row,
    ) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        let (database, held) = (Arc::clone(&self.database), Arc::clone(&self.lookup));
        let (user_id, key) = (Secret::new(user_id), key.clone());
        Box::pin(self.database.at_home(async move {
            let began = Instant::now();
            let deadline = began + database.core.settings.timeout;
            let known = || held.read().unwrap_or_else(PoisonError::into_inner).clone();
            let lookup = known();
            // The id of an organization, say.
            if !lookup.may_be_id(user_id.expose()) {
                return Ok(None);
            }
            let mut answer = database
                .core
                .ask(&lookup.sql, Some(&user_id), deadline)
                .await;
            let age = began.saturating_duration_since(lookup.read_at);
            let outdated = match &answer {
                Ok(_) => age >= LAYOUT_AGE_MAX,
                Err(failure) => failure.fault == Fault::Schema && age >= LAYOUT_RETRY,
            };
            if outdated && let Ok(Ok(read)) = read_owner_lookup(&database, deadline).await {
                let differs = read.sql != lookup.sql;
                *held.write().unwrap_or_else(PoisonError::into_inner) = read;
                if differs {
                    let sql = known().sql;
                    answer = database.core.ask(&sql, Some(&user_id), deadline).await;
                }
            }
            let rows = answer.map_err(|failure| database::source_error::<B>(failure, began))?;
            // Some collations fold case.
            let same =
                |row: &Cells| row.first().and_then(Option::as_deref) == Some(user_id.expose());
            let Some(cells) = rows.into_iter().find(same) else {
                return Ok(None);
            };
            let mut reading = Reading {
                cells: cells.into_iter(),
                zone_offset_seconds: database.core.backend.zone_offset_seconds(),
            };
            reading
                .owner(&key)
                .map_err(|unreadable| database::garbage::<B>(unreadable))
        }))
    }
}

/// What is run, and where that came from.
struct Plan {
    layout: ApiKeyLayout,
    find: Arc<str>,
    counters: Arc<str>,
    no_id: &'static str,
    read_at: Instant,
}

impl Plan {
    fn new<B: Backend>(layout: ApiKeyLayout) -> Self {
        let dialect = &B::DIALECT;
        let at = |alias: &str, column: &Column| format!("{alias}.{}", dialect.name(&column.name));
        let text = |alias: &str, logical: &str| match layout.column(logical) {
            Some(column) => (dialect.text)(&at(alias, column), &column.kind),
            None => "NULL".to_owned(),
        };
        let selected: Vec<String> = API_KEY_FIELDS
            .iter()
            .map(|field| text("k", field.logical))
            .chain(OWNER_FIELDS.iter().map(|logical| text("u", logical)))
            .collect();
        // `detect_api_keys` found the required columns, so none of these is missing.
        let name = |logical: &str| layout.column(logical).map(|column| at("k", column));
        let same = match (layout.owner(), layout.column("user.id")) {
            (Some(owner), Some(id)) => dialect.equal((&at("k", owner), owner), (&at("u", id), id)),
            _ => "1 = 0".to_owned(),
        };
        let find = format!(
            "SELECT {} FROM {} k LEFT JOIN {} u ON {same} WHERE {} = {} LIMIT 8",
            selected.join(", "),
            dialect.table(&layout.keys),
            dialect.table(&layout.user),
            name("apikey.key").unwrap_or_default(),
            dialect.parameter
        );
        let id_kind = layout
            .column("apikey.id")
            .map_or("", |column| column.kind.as_str());
        let counted: Vec<String> = COUNTED.iter().map(|logical| text("k", logical)).collect();
        let counters = format!(
            "SELECT {} FROM {} k WHERE {} = {}{}",
            counted.join(", "),
            dialect.table(&layout.keys),
            name("apikey.id").unwrap_or_default(),
            dialect.parameter,
            B::cast_of_id(id_kind),
        );
        Self {
            find: find.into(),
            counters: counters.into(),
            no_id: id_of_nobody(id_kind),
            layout,
            read_at: Instant::now(),
        }
    }

    /// A change of everything that is ever changed, in no row: finds missing rights.
    fn change_nothing<B: Backend>(&self) -> Arc<str> {
        let changed = COUNTED.iter().filter_map(|logical| {
            let name = B::DIALECT.name(&self.layout.column(logical)?.name);
            Some(format!("{name} = {name}"))
        });
        let changed: Vec<String> = changed.collect();
        let table = B::DIALECT.table(&self.layout.keys);
        format!("UPDATE {table} SET {} WHERE 1 = 0", changed.join(", ")).into()
    }
}

/// A statement in the making. Parameters are numbered as they stand in its text, because MySQL knows no other order.
struct Statement<'p, B: Backend> {
    plan: &'p Plan,
    dates: u8,
    zone_offset_seconds: i32,
    sql: String,
    parameters: Vec<Parameter>,
    _of: std::marker::PhantomData<B>,
}

impl<B: Backend> Statement<'_, B> {
    fn text(mut self, text: &str) -> Self {
        self.sql.push_str(text);
        self
    }

    fn column(mut self, logical: &str) -> Self {
        if let Some(column) = self.plan.layout.column(logical) {
            self.sql.push_str(&B::DIALECT.name(&column.name));
        }
        self
    }

    fn parameter(mut self, parameter: Parameter, cast: &str) -> Self {
        self.parameters.push(parameter);
        self.sql
            .push_str(&B::DIALECT.parameter_at(self.parameters.len()));
        self.sql.push_str(cast);
        self
    }

    fn number(self, number: i64) -> Self {
        self.parameter(Parameter::Number(number), "")
    }

    /// A date as the column holds it.
    fn date(self, logical: &str, at: UnixMs) -> Self {
        let kind = self
            .plan
            .layout
            .column(logical)
            .map_or("", |column| column.kind.as_str());
        if let Some((cast, zone)) = B::calendar(kind) {
            let moved = UnixMs(
                at.0.saturating_add(i64::from(self.zone_offset_seconds).saturating_mul(1000)),
            );
            let text = written(moved, "%Y-%m-%d %H:%M:%S%.3f") + zone;
            return self.parameter(Parameter::Text(text), cast);
        }
        match self.dates {
            MILLISECONDS => self.number(at.0),
            SECONDS => self.number(at.0.div_euclid(1000)),
            UNKNOWN if kind.contains("int") => self.number(at.0),
            _ => {
                let text = written(at, "%Y-%m-%dT%H:%M:%S%.3fZ");
                self.parameter(Parameter::Text(text), "")
            }
        }
    }

    fn where_id(self, id: &str) -> Self {
        let kind = self
            .plan
            .layout
            .column("apikey.id")
            .map_or("", |column| column.kind.as_str());
        let cast = B::cast_of_id(kind);
        self.text(" WHERE ")
            .column("apikey.id")
            .text(" = ")
            .parameter(Parameter::Text(id.to_owned()), cast)
    }

    /// `column = the later of the column and this`.
    fn later(self, logical: &str, at: UnixMs) -> Self {
        self.text(", ")
            .column(logical)
            .text(" = CASE WHEN ")
            .column(logical)
            .text(" IS NULL OR ")
            .column(logical)
            .text(" < ")
            .date(logical, at)
            .text(" THEN ")
            .date(logical, at)
            .text(" ELSE ")
            .column(logical)
            .text(" END")
    }
}

/// A date in a format of chrono's. Clocks are within its years.
fn written(at: UnixMs, format: &str) -> String {
    DateTime::from_timestamp_millis(at.0)
        .unwrap_or_default()
        .format(format)
        .to_string()
}

/// Keys over one database.
struct Keys<B: Backend> {
    database: Database<B>,
    plan: RwLock<Arc<Plan>>,
    /// Held by whoever reads the layout again.
    reading_layout: tokio::sync::Mutex<()>,
    /// How dates are stored, as the rows seen so far say.
    dates: AtomicU8,
}

impl<B: Backend> Keys<B> {
    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.database.core.settings.timeout
    }

    fn zone_offset_seconds(&self) -> i32 {
        self.database.core.backend.zone_offset_seconds()
    }

    fn update<'p>(&self, plan: &'p Plan) -> Statement<'p, B> {
        Statement {
            plan,
            dates: self.dates.load(Ordering::Relaxed),
            zone_offset_seconds: self.zone_offset_seconds(),
            sql: format!("UPDATE {} SET ", B::DIALECT.table(&plan.layout.keys)),
            parameters: Vec::new(),
            _of: std::marker::PhantomData,
        }
    }

    async fn run(&self, statement: Statement<'_, B>, deadline: Instant) -> Result<u64, Unchanged> {
        let (sql, parameters) = (statement.sql.into(), statement.parameters);
        self.database.core.change(&sql, &parameters, deadline).await
    }

    /// Reads the layout again, unless somebody else does. Says whether it is another one now.
    async fn refresh(&self, old: &Plan, deadline: Instant) -> bool {
        let Ok(_mine) = self.reading_layout.try_lock() else {
            return false;
        };
        // Half a migration, or a bad moment: what is known is kept, and read again after the usual time.
        let layout = match read_layout(&self.database, deadline).await {
            Ok(Ok(layout)) => layout,
            Ok(Err(_)) | Err(_) => old.layout.clone(),
        };
        let differs = layout != old.layout;
        let plan = Arc::new(Plan::new::<B>(layout));
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = plan;
        differs
    }

    async fn find(self: Arc<Self>, stored: Secret) -> Result<Option<Found>, SourceError> {
        let began = Instant::now();
        let deadline = self.deadline();
        let ask = |plan: Arc<Plan>| {
            let (core, stored) = (&self.database.core, &stored);
            async move { core.ask(&plan.find, Some(stored), deadline).await }
        };
        let plan = self.plan();
        let mut answer = ask(Arc::clone(&plan)).await;
        let age = began.saturating_duration_since(plan.read_at);
        let outdated = match &answer {
            Ok(_) => age >= LAYOUT_AGE_MAX,
            Err(failure) => failure.fault == Fault::Schema && age >= LAYOUT_RETRY,
        };
        if outdated && self.refresh(&plan, deadline).await {
            answer = ask(self.plan()).await;
        }
        let rows = answer.map_err(|failure| database::source_error::<B>(failure, began))?;
        // Of the rows a database holds to match, the one that is the same byte for byte: some collations fold case.
        let same = |row: &Cells| row.get(1).and_then(Option::as_deref) == Some(stored.expose());
        let Some(cells) = rows.into_iter().find(same) else {
            return Ok(None);
        };
        if let Some(text) = cells.get(5).and_then(Option::as_deref) {
            let seen = match record::encoding(text) {
                "seconds" => SECONDS,
                "milliseconds" => MILLISECONDS,
                _ => ISO_TEXT,
            };
            self.dates.store(seen, Ordering::Relaxed);
        }
        let mut reading = Reading {
            cells: cells.into_iter(),
            zone_offset_seconds: self.zone_offset_seconds(),
        };
        reading
            .found()
            .map(Some)
            .map_err(|unreadable| database::garbage::<B>(unreadable))
    }

    async fn counters(
        &self,
        id: &Secret,
        deadline: Instant,
    ) -> Result<Option<Counters>, SourceError> {
        let began = Instant::now();
        let plan = self.plan();
        let core = &self.database.core;
        let rows = core
            .ask(&plan.counters, Some(id), deadline)
            .await
            .map_err(|failure| database::source_error::<B>(failure, began))?;
        let Some(cells) = rows.into_iter().next() else {
            return Ok(None);
        };
        let mut reading = Reading {
            cells: cells.into_iter(),
            zone_offset_seconds: self.zone_offset_seconds(),
        };
        reading
            .counters()
            .map(Some)
            .map_err(|unreadable| database::garbage::<B>(unreadable))
    }

    async fn take(self: Arc<Self>, id: Secret, wanted: Wanted) -> Result<Taken, SourceError> {
        let began = Instant::now();
        let deadline = self.deadline();
        let told = |failed: Unchanged| database::source_error::<B>(failed.failure, began);
        let plan = self.plan();
        if let Some(refill) = wanted.due.filter(|refill| refill.amount > 0) {
            let granted = wanted.uses.min(refill.amount);
            let statement = self.refill(&plan, &id, refill, granted, wanted.now);
            if self.run(statement, deadline).await.map_err(told)? > 0 {
                let counters = self.counters(&id, deadline).await?;
                return Ok(Taken::Uses { granted, counters });
            }
        }
        let mut uses = wanted.uses;
        for _ in 0..TRIES_MAX {
            let statement = self
                .update(&plan)
                .column("apikey.remaining")
                .text(" = ")
                .column("apikey.remaining")
                .text(" - ")
                .number(uses)
                .where_id(id.expose())
                .text(" AND ")
                .column("apikey.remaining")
                .text(" >= ")
                .number(uses);
            if self.run(statement, deadline).await.map_err(told)? > 0 {
                // Only who got less than asked for, or has missed a refill, has something to learn.
                let learns = uses < wanted.uses || wanted.due.is_some();
                let counters = match learns {
                    true => self.counters(&id, deadline).await?,
                    false => None,
                };
                return Ok(Taken::Uses {
                    granted: uses,
                    counters,
                });
            }
            let Some(counters) = self.counters(&id, deadline).await? else {
                return Ok(Taken::Gone);
            };
            match counters.remaining {
                Some(left) if left > 0 => uses = uses.min(left),
                // Meanwhile it may be used as often as one likes.
                None => {
                    return Ok(Taken::Uses {
                        granted: wanted.uses,
                        counters: Some(counters),
                    });
                }
                Some(_) => {
                    return Ok(Taken::Uses {
                        granted: 0,
                        counters: Some(counters),
                    });
                }
            }
        }
        Err(SourceError::Timeout {
            source_name: B::NAME,
            waited: began.elapsed(),
        })
    }

    /// A refill, of which so many uses are taken at once. Whoever else sees it due makes it too, and one of us finds it made.
    fn refill<'p>(
        &self,
        plan: &'p Plan,
        id: &Secret,
        refill: Refill,
        granted: i64,
        now: UnixMs,
    ) -> Statement<'p, B> {
        let every = i64::try_from(refill.every.as_millis()).unwrap_or(i64::MAX);
        let due_before = UnixMs(now.0.saturating_sub(every));
        self.update(plan)
            .column("apikey.remaining")
            .text(" = ")
            .number(refill.amount - granted)
            .text(", ")
            .column("apikey.lastRefillAt")
            .text(" = ")
            .date("apikey.lastRefillAt", now)
            .where_id(id.expose())
            .text(" AND ")
            .column("apikey.remaining")
            .text(" IS NOT NULL AND ")
            .column("apikey.refillInterval")
            .text(" = ")
            .number(every)
            .text(" AND ")
            .column("apikey.refillAmount")
            .text(" = ")
            .number(refill.amount)
            .text(" AND COALESCE(")
            .column("apikey.lastRefillAt")
            .text(", ")
            .column("apikey.createdAt")
            .text(") < ")
            .date("apikey.lastRefillAt", due_before)
    }

    async fn write(&self, id: &Secret, used: Used) -> Result<Option<Counters>, Unwritten> {
        let began = Instant::now();
        let deadline = self.deadline();
        let plan = self.plan();
        // The count comes first: MySQL assigns from left to right, and the count goes by the last request as it was.
        let mut statement = self.update(&plan).column("apikey.requestCount").text(" = ");
        if let Some(before) = used.restart {
            statement = statement
                .text("CASE WHEN ")
                .column("apikey.lastRequest")
                .text(" IS NULL OR ")
                .column("apikey.lastRequest")
                .text(" <= ")
                .date("apikey.lastRequest", before)
                .text(" THEN ")
                .number(used.requests)
                .text(" ELSE COALESCE(")
                .column("apikey.requestCount")
                .text(", 0) + ")
                .number(used.requests)
                .text(" END");
        } else {
            statement = statement
                .text("COALESCE(")
                .column("apikey.requestCount")
                .text(", 0) + ")
                .number(used.requests);
        }
        if let Some(last) = used.last_request {
            statement = statement.later("apikey.lastRequest", last);
        }
        let statement = statement
            .later("apikey.updatedAt", used.updated_at)
            .where_id(id.expose());
        let met = self
            .run(statement, deadline)
            .await
            .map_err(|failed| Unwritten {
                unsure: failed.unsure,
                error: database::source_error::<B>(failed.failure, began),
            })?;
        if met == 0 {
            return Ok(None);
        }
        // It is written, whatever becomes of the look at it: then the next lookup tells what others wrote.
        Ok(self.counters(id, deadline).await.unwrap_or_default())
    }
}

/// Reads the cells of a row in their order.
struct Reading {
    cells: std::vec::IntoIter<Option<String>>,
    zone_offset_seconds: i32,
}

impl Reading {
    fn text(&mut self) -> Option<Box<str>> {
        self.cells.next().flatten().map(String::into_boxed_str)
    }

    fn needed(&mut self, column: &'static str) -> Result<Box<str>, Unreadable> {
        let what = "no value";
        self.text().ok_or(Unreadable { column, what })
    }

    fn date(&mut self, column: &'static str) -> Result<Option<UnixMs>, Unreadable> {
        let what = "no date we can read";
        let zone_offset_seconds = self.zone_offset_seconds;
        self.text_or(column, what, |text| {
            record::moment(&text, zone_offset_seconds)
        })
    }

    fn flag(&mut self, column: &'static str) -> Result<Option<bool>, Unreadable> {
        self.text_or(column, "neither true nor false", |text| {
            record::truth(&text)
        })
    }

    fn number(&mut self, column: &'static str) -> Result<Option<i64>, Unreadable> {
        self.text_or(column, "no whole number", |text| {
            let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
            let plain = decimals.bytes().all(|digit| digit == b'0');
            plain.then(|| whole.trim().parse().ok())?
        })
    }

    /// A length of time in milliseconds. A negative one is none.
    fn length(&mut self, column: &'static str) -> Result<Option<Duration>, Unreadable> {
        let ms = self.number(column)?;
        Ok(ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
    }

    fn text_or<T>(
        &mut self,
        column: &'static str,
        what: &'static str,
        read: impl FnOnce(Box<str>) -> Option<T>,
    ) -> Result<Option<T>, Unreadable> {
        let Some(text) = self.cells.next().flatten() else {
            return Ok(None);
        };
        let read = read(text.into_boxed_str());
        read.map(Some).ok_or(Unreadable { column, what })
    }

    fn counters(&mut self) -> Result<Counters, Unreadable> {
        Ok(Counters {
            remaining: self.number("apikey.remaining")?,
            last_refill: self.date("apikey.lastRefillAt")?,
            requests: self.number("apikey.requestCount")?.unwrap_or(0),
            last_request: self.date("apikey.lastRequest")?,
            updated_at: self.date("apikey.updatedAt")?,
        })
    }

    /// In the order of [`API_KEY_FIELDS`] and then [`OWNER_FIELDS`].
    fn found(&mut self) -> Result<Found, Unreadable> {
        let id = self.needed("apikey.id")?;
        let _stored = self.text();
        let row = Row {
            config_id: self.text(),
            enabled: self.flag("apikey.enabled")?,
            expires_at: self.date("apikey.expiresAt")?,
            // As the framework reads a missing one.
            created_at: self.date("apikey.createdAt")?.unwrap_or(UnixMs(0)),
            rate_limited: self.flag("apikey.rateLimitEnabled")?,
            rate_window: self.length("apikey.rateLimitTimeWindow")?,
            rate_max: self.number("apikey.rateLimitMax")?,
            refill_interval: self.length("apikey.refillInterval")?,
            refill_amount: self.number("apikey.refillAmount")?,
            counters: self.counters()?,
            id,
        };
        let _owner = (self.text(), self.text());
        let owner = self.owner(&row)?;
        Ok(Found { row, owner })
    }

    /// In the order of [`OWNER_FIELDS`].
    fn owner(&mut self, row: &Row) -> Result<Option<Record>, Unreadable> {
        let Some(user_id) = self.text() else {
            return Ok(None);
        };
        Ok(Some(Record {
            session_id: row.id.clone(),
            // The framework's session has the key itself here. We keep none.
            token: Secret::new(""),
            expires_at: row.expires_at.unwrap_or(FOREVER),
            // Nobody signed in: a route that asks for a recent sign-in is not for keys.
            created_at: None,
            updated_at: None,
            impersonated_by: None,
            organization_id: None,
            organization_role: None,
            team_id: None,
            document: None,
            user_id,
            email: self.text(),
            email_verified: self.flag("user.emailVerified")?.unwrap_or(false),
            name: self.text(),
            role: self.text(),
            banned: self.flag("user.banned")?.unwrap_or(false),
            ban_expires: self.date("user.banExpires")?,
        }))
    }
}

struct DatabaseKeys<B: Backend> {
    keys: Arc<Keys<B>>,
}

impl<B: Backend> DatabaseKeys<B> {
    async fn at_home<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SourceError>> + Send + 'static,
    ) -> Result<T, SourceError> {
        self.keys.database.at_home(work).await
    }
}

impl<B: Backend> ApiKeys for DatabaseKeys<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }

    fn find<'a>(&'a self, stored: &'a str) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(async move {
            // PostgreSQL calls NUL in text an error. No text column can hold it, so the answer is known.
            if stored.contains('\0') {
                return Ok(None);
            }
            let work = Arc::clone(&self.keys).find(Secret::new(stored));
            self.at_home(work).await
        })
    }

    fn take<'a>(
        &'a self,
        id: &'a str,
        wanted: Wanted,
    ) -> BoxFuture<'a, Result<Taken, SourceError>> {
        Box::pin(self.at_home(Arc::clone(&self.keys).take(Secret::new(id), wanted)))
    }

    fn write<'a>(
        &'a self,
        id: &'a str,
        used: Used,
    ) -> BoxFuture<'a, Result<Option<Counters>, Unwritten>> {
        Box::pin(async move {
            let (keys, id) = (Arc::clone(&self.keys), Secret::new(id));
            let work = self.at_home(async move { Ok(keys.write(&id, used).await) });
            // Refused at the door, or the runtime is going down: nothing was begun that is not carried through.
            work.await.unwrap_or_else(|error| {
                Err(Unwritten {
                    error,
                    unsure: false,
                })
            })
        })
    }

    fn counters<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Counters>, SourceError>> {
        let (keys, id) = (Arc::clone(&self.keys), Secret::new(id));
        Box::pin(self.at_home(async move { keys.counters(&id, keys.deadline()).await }))
    }
}
