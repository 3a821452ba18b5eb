//! What the databases share: connections, deadlines, bounds, recovery, and the lookup itself.
//!
//! The connections are kept here and not in `sqlx`'s pool, because a request waits for them: that pool retries a refused
//! connection until its deadline (an outage would look like slowness, and cost every request the whole wait), and it pings before
//! every use (a round trip per lookup). Here a refusal is told at once, and a kept connection that turns out to be dead is replaced
//! within the same lookup.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::extend::Extender;
use super::fallthrough::{Beside, Members};
use super::record::{self, Row};
use super::schema::{self, Answered, Column, Dialect, Layout, Table};
use super::{Detected, DetectedColumn, OpenError, Opened, SchemaError, Settings, StoredKeys};
use crate::credential::key_ring::KeysError;
use crate::credential::key_set::StoredKey;
use crate::secret::Secret;
use crate::session::extend::Extend;
use crate::session::{BoxFuture, Record, Source, SourceError};

/// Opening may take longer than a lookup: it resolves names, connects, negotiates TLS and reads the catalog, once.
const OPEN_WAIT_MIN: Duration = Duration::from_secs(5);

/// A connection is not kept longer than this after its last use. Common firewalls and load balancers forget idle connections after
/// about four minutes.
const IDLE_MAX: Duration = Duration::from_secs(180);

/// A connection is replaced at this age, so that a failover by DNS or a changed password takes hold.
const AGE_MAX: Duration = Duration::from_secs(1800);

/// A connection that has rested this long may have been cut without a word, so it gets only half of the time that is left.
const SUSPECT_AFTER: Duration = Duration::from_secs(10);

/// A connection that has rested longer than this is tried before a change is made on it: it costs a round trip once in a while, and
/// spares the doubt whether the change was made.
pub(super) const CHANGE_AFTER_REST_MAX: Duration = Duration::from_secs(1);

/// How old the known layout may be before a lookup has it read again, behind the answer. The app may be migrated while we run: a new
/// `banned` or `role` column must not stay unseen. One catalog query a minute costs the database nothing.
const LAYOUT_AGE_MAX: Duration = Duration::from_secs(60);

/// How soon after one attempt the layout may be read again when a lookup fails for want of a table or column.
const LAYOUT_RETRY: Duration = Duration::from_secs(5);

/// Connections for what is written: a session is extended once a day.
const WRITERS: u32 = 2;

/// Most letters of a driver's message that reach a log.
const CAUSE_LETTERS_MAX: usize = 240;

/// What one kind of database does its own way. All values come and go as text.
pub(super) trait Backend: Send + Sync + Sized + 'static {
    /// A connection.
    type Link: Send + 'static;
    const NAME: &'static str;
    const DIALECT: Dialect;
    /// Whether tables live in named schemas.
    const HAS_SCHEMAS: bool = false;
    /// The server's version, and text to warn with, if any.
    const VERSION: &'static str;

    /// Host and port, socket or file; for people.
    fn place(&self) -> String;
    fn connect(&self) -> impl Future<Output = Result<Self::Link, sqlx::Error>> + Send;
    /// Runs one statement and gives every row as text.
    fn rows(
        &self,
        link: &mut Self::Link,
        sql: &Arc<str>,
        parameter: Option<&Secret>,
    ) -> impl Future<Output = Result<Vec<Row>, sqlx::Error>> + Send;
    /// Runs one statement that changes rows, and says how many it met.
    fn change(
        &self,
        link: &mut Self::Link,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;
    /// What begins a transaction that writes.
    const BEGIN: &'static [&'static str];
    /// Runs statements as they are, without parameters.
    fn plain(
        &self,
        link: &mut Self::Link,
        sql: &str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
    /// Runs one statement of a transaction that is open, and gives every row as text.
    fn select(
        &self,
        link: &mut Self::Link,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> impl Future<Output = Result<Vec<Row>, sqlx::Error>> + Send;
    /// Runs one statement of a transaction that is open, and says how many rows it met.
    fn alter(
        &self,
        link: &mut Self::Link,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;
    /// Adds rows to a table within an open transaction, the fastest way there is.
    fn insert(
        &self,
        link: &mut Self::Link,
        rows: &Rows,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send {
        async move {
            let width = rows.columns.len().max(1);
            let at_once = (VALUES_MAX / width).clamp(1, ROWS_MAX);
            let columns = rows.columns.join(", ");
            for some in rows.rows.chunks(at_once) {
                let mut sql = format!("INSERT INTO {} ({columns}) VALUES ", rows.table);
                let mut parameters = Vec::with_capacity(some.len() * width);
                for (at, row) in some.iter().enumerate() {
                    sql.push_str(if at > 0 { ", (" } else { "(" });
                    for (at, value) in row.iter().enumerate() {
                        parameters.push(value.clone());
                        sql.push_str(if at > 0 { ", " } else { "" });
                        sql.push_str(&Self::DIALECT.parameter_at(parameters.len()));
                    }
                    sql.push(')');
                }
                self.alter(link, &sql.into(), &parameters).await?;
            }
            Ok(())
        }
    }
    /// Whether it undid the whole transaction by itself, for the sake of another.
    fn undid(_error: &dyn sqlx::error::DatabaseError) -> bool {
        false
    }
    /// Whether an error is about one value of one row, and what is wrong with it, in words without the value. Never of a unique key.
    fn unfit(_error: &dyn sqlx::error::DatabaseError) -> Option<String> {
        None
    }
    /// What the migration's tables take from it.
    const OWN: Own;
    /// Selects table, schema and column of every column that must be given a value, in the tables in `wanted`.
    fn obligations(&self, wanted: &str) -> String;
    /// What turns a text parameter into the type of a column of ids, so that its index serves, or of documents.
    fn cast_of_id(_kind: &str) -> &'static str {
        ""
    }
    /// For columns that hold dates as such: what turns a text parameter into one, and the zone that ends the text. `None`: the column
    /// holds numbers or texts, as its rows show.
    fn calendar(_kind: &str) -> Option<(&'static str, &'static str)> {
        None
    }
    /// Whether a kept connection still leads to what the URL names.
    fn still_leads_there(&self, _link: &mut Self::Link) -> bool {
        true
    }
    /// Selects table, column, type, "some index begins with it" (1 or 0) and schema, for the tables in `wanted`.
    fn catalog(&self, wanted: &str, schema: Option<&str>) -> String;
    /// Whose fault a database's own error is.
    fn fault(error: &dyn sqlx::error::DatabaseError) -> Fault;
    /// What else an operator should hear, from the [`Self::VERSION`] row.
    fn warnings(&self, _version: &[Option<String>], _layout: &Layout) -> Vec<String> {
        Vec::new()
    }
    /// Offset of stored date texts from UTC.
    fn zone_offset_seconds(&self) -> i32 {
        0
    }
}

/// How the gateway's own tables are made and written in one database.
pub(super) struct Own {
    /// What comes before the name of a table.
    pub(super) prefix: &'static str,
    /// A text that may be part of a key.
    pub(super) key: &'static str,
    /// A text of any length.
    pub(super) text: &'static str,
    /// A primary key that counts by itself.
    pub(super) serial: &'static str,
    /// After a table's columns.
    pub(super) after: &'static str,
    /// After the values of an insertion that may find its key taken and then changes nothing. Without it, the key is an error.
    pub(super) or_nothing: &'static str,
    /// What lets a transaction end before it is on disk, if anything: it gets there a moment later, and never before one that ended
    /// earlier. For steps that are told done by a later transaction only.
    pub(super) unhurried: Option<&'static str>,
    /// What makes a transaction go by indexes, where the database would believe for want of statistics that it needs every row.
    pub(super) by_index: Option<&'static str>,
    /// Ends a selection whose rows nobody else is to change meanwhile.
    pub(super) locked: &'static str,
    /// Ends an insertion that gives the id the database made. Without it, that is asked for.
    pub(super) returning: bool,
    /// Lets one gateway at a time make tables.
    pub(super) alone: Option<&'static str>,
    /// Before the tables.
    pub(super) before: Option<&'static str>,
    /// Whether indexes are made with their table; else by statements of their own.
    pub(super) indexes_inside: bool,
    /// What brings tables of version 1 to version 2: users may have several identities of one old system.
    pub(super) second: &'static [&'static str],
    /// Gives a row while that is still to be done, where it cannot be undone with the rest. `None`: it can.
    pub(super) second_is_due: Option<&'static str>,
}

/// A value in a statement that changes rows.
#[derive(Clone)]
pub(super) enum Parameter {
    Text(String),
    Number(i64),
    /// Nothing. PostgreSQL wants to know of what type; only [`Backend::insert`] takes it there.
    Null,
}

/// Rows of one table.
pub(super) struct Rows {
    /// The table, quoted.
    pub(super) table: String,
    /// Its columns, quoted.
    pub(super) columns: Vec<String>,
    /// As many values each as there are columns.
    pub(super) rows: Vec<Vec<Parameter>>,
}

/// Values in one statement at most: SQLite takes 32,766, MySQL 65,535.
const VALUES_MAX: usize = 30_000;

/// Rows in one statement at most: beyond it a statement takes longer to read than it saves.
const ROWS_MAX: usize = 500;

/// What an error of the driver means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It took too long, or waited for a lock.
    Slow,
    /// No connection, or it broke.
    Unreachable,
    /// The server knows us and says no.
    Denied,
    /// A table or column is not there.
    Schema,
    /// The connection lost its prepared statement or its plan no longer fits; a new one will do.
    Stale,
    /// Anything else.
    Unreadable,
}

impl Fault {
    /// Whether the connection can answer the next question.
    const fn keeps_link(self) -> bool {
        match self {
            Self::Slow | Self::Denied | Self::Schema => true,
            Self::Unreachable | Self::Stale | Self::Unreadable => false,
        }
    }

    /// Whether a fresh connection may fare better than a kept one.
    pub(super) const fn fresh_may_help(self) -> bool {
        match self {
            Self::Unreachable | Self::Stale | Self::Unreadable => true,
            Self::Slow | Self::Denied | Self::Schema => false,
        }
    }
}

/// What a database says of the place where a value does not fit, where these are words of names alone.
pub(super) fn names_alone(words: &str) -> Option<&str> {
    const NAMES_LETTERS_MAX: usize = 200;
    let simple = |letter: char| letter.is_ascii_alphanumeric() || "_-.$`'\"".contains(letter);
    let fits = (1..=NAMES_LETTERS_MAX).contains(&words.len());
    (fits && words.chars().all(simple)).then_some(words)
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) cause: String,
}

/// A change that failed.
pub(super) struct Unchanged {
    pub(super) failure: Failure,
    /// It was on its way: it may have been made all the same.
    pub(super) unsure: bool,
}

pub(super) fn diagnose<B: Backend>(error: &sqlx::Error) -> Failure {
    let (fault, words) = match error {
        sqlx::Error::Database(error) => (B::fault(&**error), error.message().to_owned()),
        sqlx::Error::Io(error) => (Fault::Unreachable, error.to_string()),
        sqlx::Error::Tls(error) => (Fault::Unreachable, format!("TLS: {error}")),
        sqlx::Error::WorkerCrashed | sqlx::Error::PoolClosed => {
            (Fault::Unreachable, error.to_string())
        }
        sqlx::Error::PoolTimedOut => (Fault::Slow, error.to_string()),
        other => (Fault::Unreadable, other.to_string()),
    };
    // A stranger on the other end may send anything: one short line of it, for the log.
    let cause = words.chars().filter(|c| !c.is_control());
    let cause = cause.take(CAUSE_LETTERS_MAX).collect();
    Failure { fault, cause }
}

/// Why there is no connection. Whoever speaks another language at this address, or hangs up instead of greeting, is not the
/// database: that is an address to check, and no answer to read.
pub(super) fn not_connected<B: Backend>(error: &sqlx::Error) -> Failure {
    let mut failure = diagnose::<B>(error);
    if failure.fault == Fault::Unreadable {
        failure.fault = Fault::Unreachable;
    }
    failure
}

/// A connection at rest.
pub(super) struct Resting<L> {
    pub(super) link: L,
    pub(super) born: Instant,
    pub(super) since: Instant,
}

/// What lookups run: the statement, and where it came from.
pub(super) struct Plan {
    lookup: Arc<str>,
    pub(super) layout: Layout,
    read_at: Instant,
}

pub(super) struct Core<B: Backend> {
    pub(super) backend: B,
    pub(super) settings: Settings,
    pub(super) slots: Semaphore,
    resting: Mutex<Vec<Resting<B::Link>>>,
    plan: RwLock<Option<Arc<Plan>>>,
    /// Held by whoever reads the layout again.
    reading_layout: tokio::sync::Mutex<()>,
}

/// A session source over one database.
pub(super) struct Database<B: Backend> {
    pub(super) core: Arc<Core<B>>,
    home: Handle,
    admitted: Arc<Semaphore>,
}

/// Opens the database: connects, reads the layout, and proves that the lookup runs.
///
/// `writer` is the same database, for what may write to it.
pub(super) async fn open<B: Backend>(
    backend: B,
    writer: Option<B>,
    settings: Settings,
) -> Result<Opened, OpenError> {
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
    let source = Database::unopened(backend, settings);
    let core = Arc::clone(&source.core);
    let wait = core.settings.timeout.max(OPEN_WAIT_MIN);
    let began = Instant::now();
    let deadline = began + wait;
    let failed = |failure: Failure| open_error::<B>(failure, &place, began);
    let ask = |sql: String, parameter: Option<Secret>| {
        let core = Arc::clone(&core);
        async move { core.ask(&sql.into(), parameter.as_ref(), deadline).await }
    };

    let version = ask(B::VERSION.to_owned(), None).await.map_err(failed)?;
    let version = version.into_iter().next().unwrap_or_default();
    let layout = core.read_layout(deadline).await.map_err(failed)?;
    let layout = layout.map_err(schema_error)?;
    if !layout.unlisted.is_empty() {
        let columns = layout.unlisted.join(", ");
        return Err(schema_error(SchemaError::Unlisted { columns }));
    }
    // The very statement that lookups run, with a token nobody has: finds missing rights and types that do not compare.
    let probe = Secret::new("vestibule-probe");
    let lookup = B::DIALECT.lookup(&layout);
    ask(lookup, Some(probe)).await.map_err(failed)?;
    let mut dates = None;
    if let Some(sql) = B::DIALECT.sample(&layout) {
        let rows = ask(sql, None).await.map_err(failed)?;
        let cell = rows.into_iter().flatten().next().flatten();
        dates = cell.map(|text| record::encoding(&text));
    }
    let detected = describe(&core.backend, &layout, &version, dates);
    core.adopt(layout);
    let extend = match writer {
        Some(writer) => {
            let few = Settings {
                connections: WRITERS,
                ..core.settings.clone()
            };
            let writer = Database::unopened(writer, few).core;
            let extender = Extender::open(Arc::clone(&core), writer, wait).await?;
            Some(Arc::new(extender) as Arc<dyn Extend>)
        }
        None => None,
    };
    let keyed = Arc::clone(&core);
    Ok(Opened {
        source: Arc::new(source),
        detected,
        extend,
        feed: None,
        keys: Some(Arc::new(move || Box::pin(Arc::clone(&keyed).keys()))),
    })
}

/// What a failed attempt means for whoever opens the database.
pub(super) fn open_error<B: Backend>(failure: Failure, place: &str, began: Instant) -> OpenError {
    let (store, place, cause) = (B::NAME, place.to_owned(), failure.cause);
    match failure.fault {
        Fault::Slow => OpenError::Timeout {
            store,
            place,
            waited: began.elapsed(),
        },
        Fault::Unreachable => OpenError::Unreachable {
            store,
            place,
            cause,
        },
        Fault::Denied => OpenError::Denied {
            store,
            place,
            cause,
        },
        Fault::Schema => OpenError::Lookup {
            store,
            place,
            cause,
        },
        Fault::Stale | Fault::Unreadable => OpenError::Garbage {
            store,
            place,
            cause,
        },
    }
}

fn describe<B: Backend>(
    backend: &B,
    layout: &Layout,
    version: &[Option<String>],
    dates: Option<&'static str>,
) -> Detected {
    let stored = |table: &Table| match &table.schema {
        Some(schema) => format!("{schema}.{}", table.name),
        None => table.name.clone(),
    };
    let mut tables = vec![
        ("session", stored(&layout.session)),
        ("user", stored(&layout.user)),
    ];
    tables.extend(layout.member.iter().map(|table| ("member", stored(table))));
    let columns = layout
        .columns
        .iter()
        .map(|(logical, column)| DetectedColumn {
            logical,
            stored: column.name.clone(),
            kind: column.kind.clone(),
        });
    let mut warnings = backend.warnings(version, layout);
    for (logical, table) in [
        ("session.token", &layout.session),
        ("user.id", &layout.user),
    ] {
        if let Some(column) = layout.column(logical).filter(|column| !column.indexed) {
            warnings.push(format!(
                "no index begins with column `{}` of table `{}`, so every lookup reads the whole table: create a unique index on it",
                column.name, table.name
            ));
        }
    }
    Detected {
        kind: B::NAME,
        place: backend.place(),
        version: version.iter().flatten().next().cloned().unwrap_or_default(),
        tables,
        columns: columns.collect(),
        dates,
        warnings,
    }
}

impl<B: Backend> Core<B> {
    /// Asks one question on a kept or new connection, and answers by `deadline` in any case.
    pub(super) async fn ask(
        &self,
        sql: &Arc<str>,
        parameter: Option<&Secret>,
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        let slow = || Failure {
            fault: Fault::Slow,
            cause: "the deadline passed".to_owned(),
        };
        // A closed semaphore cannot be: nothing closes it. It would read as slowness.
        let Ok(Ok(_slot)) = timeout_at(deadline, self.slots.acquire()).await else {
            return Err(slow());
        };
        let mut kept = self.wake();
        let mut earlier = None;
        loop {
            let now = Instant::now();
            let (mut link, born, rested) = match kept.take() {
                Some(rest) => (rest.link, rest.born, Some(now - rest.since)),
                None => match timeout_at(deadline, self.backend.connect()).await {
                    Ok(Ok(link)) => (link, now, None),
                    Ok(Err(error)) => {
                        return Err(earlier.unwrap_or_else(|| not_connected::<B>(&error)));
                    }
                    Err(_) => return Err(slow()),
                },
            };
            let suspect = rested.is_some_and(|rested| rested >= SUSPECT_AFTER);
            let until = if suspect {
                now + deadline.saturating_duration_since(now) / 2
            } else {
                deadline
            };
            // An abandoned connection is dropped, never kept: an answer may still be on its way.
            match timeout_at(until, self.backend.rows(&mut link, sql, parameter)).await {
                Ok(Ok(rows)) => {
                    self.rest(link, born);
                    return Ok(rows);
                }
                Ok(Err(error)) => {
                    let failure = diagnose::<B>(&error);
                    if failure.fault.keeps_link() {
                        self.rest(link, born);
                    }
                    if rested.is_none() || !failure.fault.fresh_may_help() {
                        return Err(failure);
                    }
                    earlier = Some(failure);
                }
                Err(_) if !suspect => return Err(slow()),
                Err(_) => {}
            }
            // A kept connection was dead. Those that rested beside it are too, most likely: begin anew, once.
            self.resting_links().clear();
        }
    }

    /// Changes rows on a connection known to be alive, and answers by `deadline` in any case. Never tries twice: it might be done twice.
    pub(super) async fn change(
        &self,
        sql: &Arc<str>,
        parameters: &[Parameter],
        deadline: Instant,
    ) -> Result<u64, Unchanged> {
        let not_begun = |failure| Unchanged {
            failure,
            unsure: false,
        };
        let slow = || Failure {
            fault: Fault::Slow,
            cause: "the deadline passed".to_owned(),
        };
        // A connection at rest may have died without a word; a question is asked again on a new one, a change is not.
        let rested = {
            let resting = self.resting_links();
            let last = resting.last();
            last.is_some_and(|rest| rest.since.elapsed() >= CHANGE_AFTER_REST_MAX)
        };
        if rested {
            let alive: Arc<str> = "SELECT '1'".into();
            let answer = self.ask(&alive, None, deadline).await;
            answer.map_err(not_begun)?;
        }
        let Ok(Ok(_slot)) = timeout_at(deadline, self.slots.acquire()).await else {
            return Err(not_begun(slow()));
        };
        let (mut link, born) = match self.wake() {
            Some(rest) => (rest.link, rest.born),
            None => match timeout_at(deadline, self.backend.connect()).await {
                Ok(Ok(link)) => (link, Instant::now()),
                Ok(Err(error)) => return Err(not_begun(not_connected::<B>(&error))),
                Err(_) => return Err(not_begun(slow())),
            },
        };
        let changing = self.backend.change(&mut link, sql, parameters);
        match timeout_at(deadline, changing).await {
            Ok(Ok(met)) => {
                self.rest(link, born);
                Ok(met)
            }
            Ok(Err(error)) => {
                let failure = diagnose::<B>(&error);
                // What the database itself refuses it has not done.
                let unsure = !matches!(error, sqlx::Error::Database(_));
                if failure.fault.keeps_link() {
                    self.rest(link, born);
                } else {
                    self.resting_links().clear();
                }
                Err(Unchanged { failure, unsure })
            }
            Err(_) => Err(Unchanged {
                failure: slow(),
                unsure: true,
            }),
        }
    }

    pub(super) fn resting_links(&self) -> std::sync::MutexGuard<'_, Vec<Resting<B::Link>>> {
        // Holders only push and pop, so a poisoned list is still a good list.
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection used last, unless it is too old.
    pub(super) fn wake(&self) -> Option<Resting<B::Link>> {
        let mut resting = self.resting_links();
        let now = Instant::now();
        resting.retain(|rest| now - rest.since < IDLE_MAX && now - rest.born < AGE_MAX);
        let mut last = resting.pop()?;
        if self.backend.still_leads_there(&mut last.link) {
            return Some(last);
        }
        resting.clear();
        None
    }

    pub(super) fn rest(&self, link: B::Link, born: Instant) {
        // Never more than there are slots, because only the holder of a slot has a connection to put back.
        self.resting_links().push(Resting {
            link,
            born,
            since: Instant::now(),
        });
    }

    async fn read_layout(&self, deadline: Instant) -> Result<Result<Layout, SchemaError>, Failure> {
        let overrides = &self.settings.schema;
        let wanted = schema::wanted_tables(overrides);
        let sql = self.backend.catalog(&wanted, overrides.schema.as_deref());
        let rows = self.ask(&sql.into(), None, deadline).await?;
        let documents = self.settings.documents.as_ref();
        Ok(schema::detect(&tables(rows), overrides, documents))
    }

    fn adopt(&self, layout: Layout) -> Arc<Plan> {
        let plan = Arc::new(Plan {
            lookup: B::DIALECT.lookup(&layout).into(),
            layout,
            read_at: Instant::now(),
        });
        let mut current = self.plan.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::clone(&plan));
        plan
    }

    pub(super) fn plan(&self) -> Option<Arc<Plan>> {
        let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner);
        plan.clone()
    }

    /// Reads the layout again, if nobody else is doing so. Gives a plan only when it differs from `old`.
    async fn refresh(&self, old: &Plan, deadline: Instant) -> Option<Arc<Plan>> {
        let Ok(_mine) = self.reading_layout.try_lock() else {
            return None;
        };
        let read = self.read_layout(deadline).await;
        match read {
            Ok(Ok(layout)) => {
                let differs = layout != old.layout;
                let plan = self.adopt(layout);
                differs.then_some(plan)
            }
            // Half a migration, or a bad moment: keep what is known, and try again after the usual time.
            Ok(Err(_)) | Err(_) => {
                self.adopt(old.layout.clone());
                None
            }
        }
    }

    async fn find(self: Arc<Self>, token: Secret) -> Result<Option<Record>, SourceError> {
        let began = Instant::now();
        let deadline = began + self.settings.timeout;
        let told = |failure| source_error::<B>(failure, began);
        let Some(mut plan) = self.plan() else {
            // `open` sets the plan before anyone can ask.
            return Err(garbage::<B>("no layout is known"));
        };
        let mut answer = self.ask(&plan.lookup, Some(&token), deadline).await;
        let age = began.saturating_duration_since(plan.read_at);
        if let Err(failure) = &answer
            && failure.fault == Fault::Schema
            && age >= LAYOUT_RETRY
            && let Some(new) = self.refresh(&plan, deadline).await
        {
            plan = new;
            answer = self.ask(&plan.lookup, Some(&token), deadline).await;
        } else if answer.is_ok() && age >= LAYOUT_AGE_MAX {
            let (core, plan) = (Arc::clone(&self), Arc::clone(&plan));
            tokio::spawn(async move {
                let wait = core.settings.timeout.max(OPEN_WAIT_MIN);
                core.refresh(&plan, Instant::now() + wait).await;
            });
        }
        let rows = answer.map_err(told)?;
        exact(
            rows,
            &token,
            self.backend.zone_offset_seconds(),
            &plan.layout.document,
        )
        .map_err(|unreadable| garbage::<B>(unreadable))
    }

    /// Reads the keys of the JWT plugin. Its table is looked for each time: that is every few minutes, and the table may come later
    /// than we do.
    async fn keys(self: Arc<Self>) -> Result<Vec<StoredKey>, KeysError> {
        let began = Instant::now();
        let deadline = began + self.settings.timeout;
        let failed = |failure: Failure| match failure.fault {
            Fault::Slow => KeysError::Timeout {
                waited: began.elapsed(),
            },
            Fault::Unreachable | Fault::Denied => KeysError::Unreachable {
                cause: failure.cause,
            },
            Fault::Schema | Fault::Stale | Fault::Unreadable => KeysError::Garbage {
                cause: failure.cause,
            },
        };
        let overrides = &self.settings.schema;
        let wanted = schema::wanted_tables(overrides);
        let sql = self.backend.catalog(&wanted, overrides.schema.as_deref());
        let rows = self.ask(&sql.into(), None, deadline).await;
        let catalog = tables(rows.map_err(failed)?);
        let table =
            schema::detect_keys(&catalog, overrides).map_err(|error| KeysError::NoTable {
                cause: error.to_string(),
            })?;
        let sql = B::DIALECT.keys(&table).into();
        let rows = self.ask(&sql, None, deadline).await.map_err(failed)?;
        let zone = self.backend.zone_offset_seconds();
        let keys = rows.iter().filter_map(|row| record::decode_key(row, zone));
        Ok(keys.collect())
    }

    async fn ping(self: Arc<Self>) -> Result<(), SourceError> {
        let began = Instant::now();
        let deadline = began + self.settings.timeout;
        let answer = self.ask(&"SELECT '1'".into(), None, deadline).await;
        answer
            .map(drop)
            .map_err(|failure| source_error::<B>(failure, began))
    }
}

/// Of the rows a database holds to match, the one whose token is the same byte for byte.
fn exact(
    rows: Vec<Row>,
    token: &Secret,
    zone_offset_seconds: i32,
    document: &[Answered],
) -> Result<Option<Record>, record::Unreadable> {
    let same = |row: &Row| row.get(1).and_then(Option::as_deref) == Some(token.expose());
    rows.into_iter()
        .find(same)
        .map(|mut row| record::decode(&mut row, zone_offset_seconds, document))
        .transpose()
}

pub(super) fn garbage<B: Backend>(cause: impl std::fmt::Display) -> SourceError {
    SourceError::Garbage {
        source_name: B::NAME,
        cause: cause.to_string(),
    }
}

pub(super) fn source_error<B: Backend>(failure: Failure, began: Instant) -> SourceError {
    let (source_name, cause) = (B::NAME, failure.cause);
    match failure.fault {
        Fault::Slow => SourceError::Timeout {
            source_name,
            waited: began.elapsed(),
        },
        Fault::Unreachable | Fault::Denied => SourceError::Unreachable { source_name, cause },
        Fault::Schema | Fault::Stale | Fault::Unreadable => {
            SourceError::Garbage { source_name, cause }
        }
    }
}

/// Gathers catalog rows, ordered by table, into tables.
pub(super) fn tables(rows: Vec<Row>) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for row in rows {
        let mut cells = row.into_iter();
        let mut next = || cells.next().flatten();
        let (Some(name), Some(column)) = (next(), next()) else {
            continue;
        };
        let column = Column {
            name: column,
            kind: next().unwrap_or_default().to_ascii_lowercase(),
            indexed: next().as_deref() == Some("1"),
        };
        let schema = next();
        match tables.last_mut() {
            Some(table) if table.name == name && table.schema == schema => {
                table.columns.push(column);
            }
            _ => tables.push(Table {
                schema,
                name,
                columns: vec![column],
            }),
        }
    }
    tables
}

impl<B: Backend> Database<B> {
    /// Connections to be made on the runtime this is called on. What is looked up there is not known yet.
    pub(super) fn unopened(backend: B, settings: Settings) -> Self {
        let connections = settings.connections.max(1) as usize;
        let admitted = connections.saturating_add(settings.waiting_max);
        Self {
            core: Arc::new(Core {
                backend,
                slots: Semaphore::new(connections.min(Semaphore::MAX_PERMITS)),
                resting: Mutex::new(Vec::new()),
                plan: RwLock::new(None),
                reading_layout: tokio::sync::Mutex::new(()),
                settings,
            }),
            home: Handle::current(),
            admitted: Arc::new(Semaphore::new(admitted.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Runs `work` where the connections live. It runs to its own deadline even when the caller goes away, so that a client which
    /// hangs up cannot leave a connection half read.
    pub(super) async fn at_home<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SourceError>> + Send + 'static,
    ) -> Result<T, SourceError> {
        match self.carry(work).await {
            Ok(done) => done,
            Err(Uncarried::Busy) => Err(SourceError::Busy {
                source_name: B::NAME,
                waiting: self.core.settings.waiting_max,
            }),
            Err(Uncarried::GaveUp) => Err(garbage::<B>("the driver gave up on the answer")),
            Err(Uncarried::GoingDown) => Err(SourceError::Unreachable {
                source_name: B::NAME,
                cause: "we are shutting down".to_owned(),
            }),
        }
    }

    /// As [`Self::at_home`], whatever the work gives.
    pub(super) async fn carry<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Uncarried> {
        let Ok(admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            return Err(Uncarried::Busy);
        };
        let task = self.home.spawn(async move {
            let _admitted = admitted;
            work.await
        });
        task.await.map_err(|join| match join.is_panic() {
            true => Uncarried::GaveUp,
            false => Uncarried::GoingDown,
        })
    }
}

/// Work that gave nothing.
pub(super) enum Uncarried {
    /// Too many wait already; it was not begun.
    Busy,
    /// The driver did.
    GaveUp,
    /// The runtime is.
    GoingDown,
}

/// Who has which role in which organization, where sessions are kept elsewhere.
pub(super) struct Memberships<B: Backend> {
    database: Database<B>,
    lookup: Arc<str>,
}

/// Opens a database for what the app keeps there when its sessions are elsewhere.
pub(super) async fn beside<B: Backend>(
    backend: B,
    settings: Settings,
) -> Result<Beside, OpenError> {
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
    let connections = settings.connections.max(1) as usize;
    let admitted = connections.saturating_add(settings.waiting_max);
    let core = Arc::new(Core {
        backend,
        slots: Semaphore::new(connections.min(Semaphore::MAX_PERMITS)),
        resting: Mutex::new(Vec::new()),
        plan: RwLock::new(None),
        reading_layout: tokio::sync::Mutex::new(()),
        settings,
    });
    let began = Instant::now();
    let deadline = began + core.settings.timeout.max(OPEN_WAIT_MIN);
    let failed = |failure: Failure| failure.into_open_error(B::NAME, &place, began);
    let overrides = &core.settings.schema;
    let wanted = schema::wanted_tables(overrides);
    let sql = core.backend.catalog(&wanted, overrides.schema.as_deref());
    let rows = core.ask(&sql.into(), None, deadline).await;
    let rows = rows.map_err(failed)?;
    let members = schema::members(&tables(rows), overrides).map_err(schema_error)?;
    let keyed = Arc::clone(&core);
    let keys: StoredKeys = Arc::new(move || Box::pin(Arc::clone(&keyed).keys()));
    let Some((table, columns)) = members else {
        return Ok(Beside {
            members: None,
            keys,
        });
    };
    let lookup: Arc<str> = B::DIALECT.membership(&table, &columns).into();
    // The very statement that lookups run, with a user nobody is: finds missing rights.
    let probe = Secret::new("vestibule-probe");
    let probed = core.ask(&lookup, Some(&probe), deadline).await;
    probed.map_err(failed)?;
    let members = Memberships {
        database: Database {
            core,
            home: Handle::current(),
            admitted: Arc::new(Semaphore::new(admitted.min(Semaphore::MAX_PERMITS))),
        },
        lookup,
    };
    Ok(Beside {
        members: Some(Arc::new(members)),
        keys,
    })
}

impl Failure {
    fn into_open_error(self, store: &'static str, place: &str, began: Instant) -> OpenError {
        let (place, cause) = (place.to_owned(), self.cause);
        match self.fault {
            Fault::Slow => OpenError::Timeout {
                store,
                place,
                waited: began.elapsed(),
            },
            Fault::Unreachable => OpenError::Unreachable {
                store,
                place,
                cause,
            },
            Fault::Denied => OpenError::Denied {
                store,
                place,
                cause,
            },
            Fault::Schema => OpenError::Lookup {
                store,
                place,
                cause,
            },
            Fault::Stale | Fault::Unreadable => OpenError::Garbage {
                store,
                place,
                cause,
            },
        }
    }
}

impl<B: Backend> Members for Memberships<B> {
    fn role<'a>(
        &'a self,
        user_id: &'a str,
        organization_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Box<str>>, SourceError>> {
        let (core, lookup) = (Arc::clone(&self.database.core), Arc::clone(&self.lookup));
        let user = Secret::new(user_id);
        let work = async move {
            let began = Instant::now();
            let deadline = began + core.settings.timeout;
            let rows = core.ask(&lookup, Some(&user), deadline).await;
            let rows = rows.map_err(|failure| source_error::<B>(failure, began))?;
            Ok((rows, user))
        };
        Box::pin(async move {
            let (rows, user) = self.database.at_home(work).await?;
            // Some collations fold case: only what is the same byte for byte counts.
            let same = |row: &Row| {
                let cell = |at: usize| row.get(at).and_then(Option::as_deref);
                cell(0) == Some(user.expose()) && cell(1) == Some(organization_id)
            };
            let role = rows
                .into_iter()
                .find(same)
                .and_then(|row| row.into_iter().nth(2));
            Ok(role.flatten().map(String::into_boxed_str))
        })
    }

    fn source(&self) -> &dyn Source {
        &self.database
    }
}

impl<B: Backend> Source for Database<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }

    fn find<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        Box::pin(async move {
            // PostgreSQL calls NUL in text an error. No text column can hold it, so the answer is known.
            if token.contains('\0') {
                return Ok(None);
            }
            let work = Arc::clone(&self.core).find(Secret::new(token));
            self.at_home(work).await
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(self.at_home(Arc::clone(&self.core).ping()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A database made of answers: connections are numbered, and what each question gets is set by the test.
    struct Fake {
        connected: AtomicUsize,
        role_column: Mutex<&'static str>,
        dead_below: AtomicUsize,
        stalled_below: AtomicUsize,
    }

    #[derive(Debug)]
    struct NoColumn;

    impl std::fmt::Display for NoColumn {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("no such column")
        }
    }

    impl std::error::Error for NoColumn {}

    impl sqlx::error::DatabaseError for NoColumn {
        fn message(&self) -> &str {
            "no such column"
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    impl Backend for Fake {
        type Link = usize;
        const NAME: &'static str = "fake";
        const VERSION: &'static str = "version";
        const DIALECT: Dialect = Dialect {
            quote: '"',
            parameter: "?",
            text: |expression, _| expression.to_owned(),
            comparable: |_, _| true,
            quotes_numbers: true,
        };

        fn place(&self) -> String {
            "here".to_owned()
        }

        async fn connect(&self) -> Result<usize, sqlx::Error> {
            Ok(self.connected.fetch_add(1, Ordering::SeqCst))
        }

        async fn rows(
            &self,
            link: &mut usize,
            sql: &Arc<str>,
            _parameter: Option<&Secret>,
        ) -> Result<Vec<Row>, sqlx::Error> {
            if *link < self.stalled_below.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if *link < self.dead_below.load(Ordering::SeqCst) {
                return Err(sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into()));
            }
            let role = *self.role_column.lock().unwrap();
            if &**sql == "catalog" {
                let of = |table: &str, columns: &[&str]| {
                    let row = |column: &&str| {
                        [table, column, "text", "1"]
                            .map(|cell| Some(cell.to_owned()))
                            .to_vec()
                    };
                    columns.iter().map(row).collect::<Vec<Row>>()
                };
                let mut rows = of("session", &["id", "token", "userId", "expiresAt"]);
                rows.extend(of("user", &["id", role]));
                return Ok(rows);
            }
            if sql.contains("u.\"role\"") && role != "role" {
                return Err(sqlx::Error::Database(Box::new(NoColumn)));
            }
            let mut row: Row = vec![None; schema::FIELDS.len()];
            for (cell, text) in row.iter_mut().zip(["s", "tok", "u", "1795229535028"]) {
                *cell = Some(text.to_owned());
            }
            if sql.contains("u.\"role\"")
                && let Some(at) = schema::FIELDS
                    .iter()
                    .position(|field| field.logical == "user.role")
                && let Some(cell) = row.get_mut(at)
            {
                *cell = Some("admin".to_owned());
            }
            Ok(vec![row])
        }

        async fn change(
            &self,
            link: &mut usize,
            _sql: &Arc<str>,
            _parameters: &[Parameter],
        ) -> Result<u64, sqlx::Error> {
            if *link < self.dead_below.load(Ordering::SeqCst) {
                return Err(sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into()));
            }
            Ok(1)
        }

        const BEGIN: &'static [&'static str] = &["BEGIN"];

        async fn plain(&self, link: &mut usize, _sql: &str) -> Result<(), sqlx::Error> {
            self.change(link, &"".into(), &[]).await.map(drop)
        }

        async fn select(
            &self,
            link: &mut usize,
            sql: &Arc<str>,
            _parameters: &[Parameter],
        ) -> Result<Vec<Row>, sqlx::Error> {
            self.rows(link, sql, None).await
        }

        async fn alter(
            &self,
            link: &mut usize,
            sql: &Arc<str>,
            parameters: &[Parameter],
        ) -> Result<u64, sqlx::Error> {
            self.change(link, sql, parameters).await
        }

        const OWN: Own = crate::store::sqlite::OWN;

        fn obligations(&self, _wanted: &str) -> String {
            String::new()
        }

        fn catalog(&self, _wanted: &str, _schema: Option<&str>) -> String {
            "catalog".to_owned()
        }

        fn fault(_error: &dyn sqlx::error::DatabaseError) -> Fault {
            Fault::Schema
        }
    }

    async fn core(role_column: &'static str) -> Arc<Core<Fake>> {
        let core = Arc::new(Core {
            backend: Fake {
                connected: AtomicUsize::new(0),
                role_column: Mutex::new(role_column),
                dead_below: AtomicUsize::new(0),
                stalled_below: AtomicUsize::new(0),
            },
            settings: Settings {
                url: Secret::new("fake:"),
                timeout: Duration::from_millis(200),
                connections: 2,
                waiting_max: 0,
                schema: crate::store::SchemaOverrides::default(),
                zone_offset_seconds: 0,
                secondary: crate::store::SecondaryStorage::default(),
                app: crate::store::App::default(),
                documents: None,
                extend: false,
            },
            slots: Semaphore::new(2),
            resting: Mutex::new(Vec::new()),
            plan: RwLock::new(None),
            reading_layout: tokio::sync::Mutex::new(()),
        });
        let deadline = Instant::now() + Duration::from_secs(5);
        let layout = core.read_layout(deadline).await.unwrap().unwrap();
        core.adopt(layout);
        core
    }

    fn grow_old(core: &Core<Fake>, by: Duration) {
        let old = core.plan().unwrap();
        let plan = Plan {
            lookup: Arc::clone(&old.lookup),
            layout: old.layout.clone(),
            read_at: old.read_at.checked_sub(by).unwrap(),
        };
        *core.plan.write().unwrap() = Some(Arc::new(plan));
        for rest in core.resting_links().iter_mut() {
            rest.since = rest.since.checked_sub(by).unwrap();
        }
    }

    async fn role(core: &Arc<Core<Fake>>) -> Result<Option<Box<str>>, SourceError> {
        let record = Arc::clone(core).find(Secret::new("tok")).await?;
        Ok(record.unwrap().role)
    }

    #[tokio::test]
    async fn a_column_that_went_away_is_followed_after_a_while_and_not_at_every_lookup() {
        let core = core("role").await;
        assert_eq!(role(&core).await.unwrap().as_deref(), Some("admin"));
        *core.backend.role_column.lock().unwrap() = "other";
        assert!(matches!(
            role(&core).await,
            Err(SourceError::Garbage { .. })
        ));
        grow_old(&core, LAYOUT_RETRY);
        assert_eq!(role(&core).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_column_that_came_later_is_seen_within_a_minute() {
        let core = core("other").await;
        assert_eq!(role(&core).await.unwrap(), None);
        *core.backend.role_column.lock().unwrap() = "role";
        assert_eq!(role(&core).await.unwrap(), None, "not before its time");
        grow_old(&core, LAYOUT_AGE_MAX);
        // This one still answers by the old layout; the new one is read behind it.
        assert_eq!(role(&core).await.unwrap(), None);
        while role(&core).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn dead_connections_are_replaced_within_the_lookup() {
        let core = core("role").await;
        assert_eq!(core.backend.connected.load(Ordering::SeqCst), 1);
        core.backend.dead_below.store(1, Ordering::SeqCst);
        assert!(role(&core).await.is_ok());
        assert_eq!(core.backend.connected.load(Ordering::SeqCst), 2);
        core.backend.dead_below.store(9, Ordering::SeqCst);
        assert!(matches!(
            role(&core).await,
            Err(SourceError::Unreachable { .. })
        ));
        assert_eq!(
            core.backend.connected.load(Ordering::SeqCst),
            3,
            "one more try, not many"
        );
    }

    #[tokio::test]
    async fn a_change_is_never_tried_twice_and_says_when_nobody_knows_whether_it_was_made() {
        let core = core("role").await;
        let change = || async {
            let deadline = Instant::now() + Duration::from_secs(5);
            core.change(&"UPDATE".into(), &[], deadline).await
        };
        assert!(change().await.is_ok());
        // It broke under the change: that may have been made.
        core.backend.dead_below.store(1, Ordering::SeqCst);
        assert!(change().await.is_err_and(|failed| failed.unsure));
        assert_eq!(core.backend.connected.load(Ordering::SeqCst), 1);
        assert!(change().await.is_ok(), "a new connection");
        // It broke while it rested: that is found out before.
        core.backend.dead_below.store(2, Ordering::SeqCst);
        grow_old(&core, CHANGE_AFTER_REST_MAX);
        assert!(change().await.is_ok());
    }

    #[tokio::test]
    async fn a_long_rested_connection_that_was_cut_without_a_word_costs_half_the_wait() {
        let core = core("role").await;
        core.backend.stalled_below.store(1, Ordering::SeqCst);
        grow_old(&core, SUSPECT_AFTER);
        assert!(role(&core).await.is_ok());
        // A connection just used that stalls is a slow database: nothing is gained by asking it twice.
        core.backend.stalled_below.store(2, Ordering::SeqCst);
        assert!(matches!(
            role(&core).await,
            Err(SourceError::Timeout { .. })
        ));
        assert_eq!(core.backend.connected.load(Ordering::SeqCst), 2);
    }
}
