//! Everybody at once: batches of people written in one transaction each, with what became of every row.
//!
//! Whoever writes holds a lock of ours, and every transaction looks whether it still does: of two imports one goes on, however long the
//! other was asleep.

mod lookup;
mod roster;
mod runs;
mod stored;
mod taking_back;
mod writing;

pub(in crate::store) use self::roster::open_roster;

use std::collections::{BTreeMap, BTreeSet};

use super::people::CREDENTIAL;
use super::statement::{Statement, Value};
use super::*;
use crate::migration::import::target::{
    Abilities, Batch, Begin, Begun, Cursor, Facts, Kind, Questions, Row as Reported, Run, Seal,
    Standing, Stored, TakenBack, Target,
};

/// A batch is hundreds of rows, on a database that may be busy.
const BATCH_WAIT_MIN: std::time::Duration = std::time::Duration::from_secs(120);

/// Values in one list of a selection.
const LISTED_MAX: usize = 500;

/// What waits for a batch.
pub(in crate::store) fn with_time_for_batches(settings: Settings) -> Settings {
    Settings {
        timeout: settings.timeout.max(BATCH_WAIT_MIN),
        connections: 2,
        ..settings
    }
}

/// Opens a database for an import: finds its tables, and makes the gateway's own where they are missing.
pub(in crate::store) async fn open<B: Backend>(
    backend: B,
    maker: B,
    settings: Settings,
) -> Result<Arc<dyn Target>, OpenError> {
    let place = backend.place();
    let schema_error = |cause| OpenError::Schema {
        store: B::NAME,
        place: place.clone(),
        cause,
    };
    let checked = schema::check(
        &settings.schema,
        settings.documents.as_ref(),
        B::HAS_SCHEMAS,
        B::NAME,
    );
    checked.map_err(schema_error)?;
    let patient = with_time_to_make(settings.clone());
    let database = Database::unopened(backend, settings);
    let began = Instant::now();
    let deadline = began + database.core.settings.timeout;
    let failed = |failure: Failure| database::open_error::<B>(failure, &place, began);
    let plan = Plan::read_for(&database.core, For::Import, deadline).await;
    let plan = plan.map_err(failed)?.map_err(schema_error)?;
    install(maker, patient).await?;
    let mut abilities = abilities::<B>(&plan, &place);
    let store = Store {
        database,
        plan: RwLock::new(Arc::new(plan)),
        reading_layout: tokio::sync::Mutex::new(()),
    };
    abilities.has_socials = match store.has_socials(deadline).await {
        Ok(has_socials) => has_socials,
        Err(Undone::Broken(broken)) => return Err(failed(broken.failure)),
        Err(Undone::Taken(_)) => true,
    };
    Ok(Arc::new(DatabaseTarget { store, abilities }))
}

fn abilities<B: Backend>(plan: &Plan, place: &str) -> Abilities {
    /// More of what an old system kept helps nobody, and a page of it fits.
    const METADATA_BYTES: usize = 1024 * 1024;
    let mut abilities = Abilities {
        place: format!("{} at {place}", B::NAME),
        keeps_ids: plan.ids("user") != Ids::Database && plan.kind("user.id") != "uuid",
        ..Abilities::default()
    };
    for (logical, column) in plan.columns() {
        let most = match (logical, column.kind.as_str()) {
            (schema::METADATA, "text") if B::NAME == "mysql" => 65_535,
            (schema::METADATA, kind) if kind.contains("char") => plan.letters_max(logical),
            (schema::METADATA, _) => METADATA_BYTES,
            _ => plan.letters_max(logical),
        };
        abilities.columns.insert(logical.to_owned());
        abilities.letters.insert(logical.to_owned(), most);
    }
    abilities
}

struct DatabaseTarget<B: Backend> {
    store: Store<B>,
    abilities: Abilities,
}

/// A value as it stands in a new row.
fn cell_of<B: Backend>(
    plan: &Plan,
    zone: i32,
    logical: &str,
    value: Option<&Value<'_>>,
) -> Parameter {
    let Some(value) = value else {
        return Parameter::Null;
    };
    match value {
        Value::Text(text) | Value::Id(text) => Parameter::Text((*text).to_owned()),
        Value::Secret(secret) => Parameter::Text(secret.expose().to_owned()),
        Value::Number(number) => Parameter::Number(*number),
        Value::Flag(flag) => {
            let kind = plan.kind(logical);
            let boolean = kind == "boolean" && B::HAS_SCHEMAS;
            let text = kind.contains("text") || kind.contains("char");
            match (boolean, text) {
                (true, _) => Parameter::Text(if *flag { "t" } else { "f" }.to_owned()),
                (_, true) => Parameter::Text(i64::from(*flag).to_string()),
                (false, false) => Parameter::Number(i64::from(*flag)),
            }
        }
        Value::Date(at) => {
            let statement = Statement::<B>::new(plan, zone).date(logical, *at);
            let (sql, mut parameters) = statement.done();
            if let Some(parameter) = parameters.pop() {
                return parameter;
            }
            // A literal: a number, or a text in quotes.
            match sql
                .strip_prefix('\'')
                .and_then(|rest| rest.strip_suffix('\''))
            {
                Some(text) => Parameter::Text(text.to_owned()),
                None => sql
                    .parse()
                    .map_or_else(|_| Parameter::Text(sql.to_string()), Parameter::Number),
            }
        }
    }
}

/// New rows of one of the app's tables, in the columns that are there.
struct Adding<'p, B: Backend> {
    plan: &'p Plan,
    zone: i32,
    logical: Vec<&'static str>,
    /// Which of the values given are of columns that are there.
    there: Vec<bool>,
    rows: super::super::database::Rows,
    _of: std::marker::PhantomData<B>,
}

impl<'p, B: Backend> Adding<'p, B> {
    fn new(plan: &'p Plan, zone: i32, table: &str, columns: &[&'static str]) -> Self {
        let has = |logical: &&&'static str| plan.column(logical).is_some();
        let logical: Vec<&'static str> = columns.iter().filter(has).copied().collect();
        let names = logical.iter().filter_map(|logical| plan.column(logical));
        let stored = plan.table(table).map(|table| B::DIALECT.table(table));
        Self {
            plan,
            zone,
            there: columns.iter().map(|column| has(&column)).collect(),
            rows: super::super::database::Rows {
                table: stored.unwrap_or_default(),
                columns: names.map(|column| B::DIALECT.name(&column.name)).collect(),
                rows: Vec::new(),
            },
            logical,
            _of: std::marker::PhantomData,
        }
    }

    /// One more, its values in the order of the columns that were named.
    fn add(&mut self, values: &[Option<Value<'_>>]) {
        let there = values.iter().zip(&self.there).filter(|(_, there)| **there);
        let row = there.zip(&self.logical).map(|((value, _), logical)| {
            cell_of::<B>(self.plan, self.zone, logical, value.as_ref())
        });
        self.rows.rows.push(row.collect());
    }
}

/// New rows of one of our tables.
fn own_rows<B: Backend>(table: &str, columns: &[&str]) -> super::super::database::Rows {
    super::super::database::Rows {
        table: own_tables::name::<B>(table),
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        rows: Vec::new(),
    }
}

fn text(value: &str) -> Parameter {
    Parameter::Text(value.to_owned())
}

fn maybe_text(value: Option<&str>) -> Parameter {
    value.map_or(Parameter::Null, text)
}

fn maybe_number(value: Option<i64>) -> Parameter {
    value.map_or(Parameter::Null, Parameter::Number)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: Option<i64>) -> u64 {
    number
        .and_then(|number| u64::try_from(number).ok())
        .unwrap_or(0)
}

impl<B: Backend> Store<B> {
    /// A transaction that looks for many at once. Nobody has counted tables that were empty a moment ago: of five hundred values each is
    /// taken for one that many rows have, and the tables would be read whole, again and again while they grow.
    async fn begin_wide<'s>(
        &'s self,
        plan: &'s Plan,
        deadline: Instant,
    ) -> Result<Work<'s, B>, Undone> {
        let mut work = self.begin(plan, deadline).await?;
        if let Some(by_index) = B::OWN.by_index {
            work.change(work.say().text(by_index)).await?;
        }
        Ok(work)
    }
}

impl<'s, B: Backend> Work<'s, B> {
    /// `… IN (…)` of one of our columns or of a text column of the app's, some values at a time: every row of all of them.
    async fn listed(
        &mut self,
        before: impl Fn(Statement<'s, B>) -> Statement<'s, B>,
        values: &[String],
        value: impl Fn(Statement<'s, B>, &str) -> Statement<'s, B>,
        after: &str,
    ) -> Result<Vec<Row>, Undone> {
        let mut rows = Vec::new();
        for some in values.chunks(LISTED_MAX) {
            let mut asked = before(self.say()).text(" IN (");
            for (at, one) in some.iter().enumerate() {
                asked = asked.text(if at > 0 { ", " } else { "" });
                asked = value(asked, one);
            }
            rows.extend(self.rows(asked.text(")").text(after)).await?);
        }
        Ok(rows)
    }

    /// The same, for statements that change rows.
    async fn change_listed(
        &mut self,
        before: impl Fn(Statement<'s, B>) -> Statement<'s, B>,
        values: &[String],
        value: impl Fn(Statement<'s, B>, &str) -> Statement<'s, B>,
    ) -> Result<u64, Undone> {
        let mut met = 0;
        for some in values.chunks(LISTED_MAX) {
            let mut asked = before(self.say()).text(" IN (");
            for (at, one) in some.iter().enumerate() {
                asked = asked.text(if at > 0 { ", " } else { "" });
                asked = value(asked, one);
            }
            met += self.change(asked.text(")")).await?;
        }
        Ok(met)
    }

    async fn insert(&mut self, rows: &super::super::database::Rows) -> Result<(), Undone> {
        self.transaction
            .insert(rows)
            .await
            .map_err(|broken| match broken.unique {
                true => Undone::Taken("address"),
                false => Undone::Broken(broken),
            })
    }
}

impl<B: Backend> DatabaseTarget<B> {
    /// Tries again what the database undid for the sake of another.
    async fn tried<T, F: Future<Output = Result<T, Undone>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, AccountsError> {
        again(attempt).await.map_err(Undone::told)
    }
}

impl<B: Backend> Target for DatabaseTarget<B> {
    fn abilities(&self) -> Abilities {
        self.abilities.clone()
    }

    fn begin<'a>(&'a self, begin: &'a Begin) -> Done<'a, Begun> {
        Box::pin(self.tried(move || self.store.begin_run(begin)))
    }

    fn renew<'a>(&'a self, holder: &'a str, until: UnixMs) -> Done<'a, bool> {
        Box::pin(self.tried(move || self.store.renew(holder, until)))
    }

    fn end<'a>(&'a self, run: u64, holder: &'a str, at: UnixMs) -> Done<'a, ()> {
        Box::pin(self.tried(move || self.store.end_run(run, holder, at)))
    }

    fn let_go<'a>(&'a self, holder: &'a str) -> Done<'a, ()> {
        Box::pin(self.tried(move || self.store.let_go(holder)))
    }

    fn look<'a>(&'a self, questions: &'a Questions) -> Done<'a, Facts> {
        Box::pin(self.tried(move || self.store.look(questions)))
    }

    fn objects<'a>(
        &'a self,
        kind: Kind,
        provider: &'a str,
        source_ids: &'a [String],
    ) -> Done<'a, BTreeMap<String, String>> {
        Box::pin(self.tried(move || self.store.objects(kind, provider, source_ids)))
    }

    fn slugs<'a>(&'a self, slugs: &'a [String]) -> Done<'a, BTreeSet<String>> {
        Box::pin(self.tried(move || self.store.slugs(slugs)))
    }

    fn members<'a>(
        &'a self,
        pairs: &'a [(String, String)],
    ) -> Done<'a, BTreeSet<(String, String)>> {
        Box::pin(self.tried(move || self.store.members(pairs)))
    }

    fn owners<'a>(&'a self, organizations: &'a [String]) -> Done<'a, BTreeMap<String, String>> {
        Box::pin(self.tried(move || self.store.owners(organizations)))
    }

    fn write<'a>(&'a self, batch: &'a Batch, seal: &'a dyn Seal) -> Done<'a, ()> {
        Box::pin(async move {
            let written = again(move || self.store.write_batch(batch, seal)).await;
            written.map_err(|undone| match undone {
                Undone::Broken(Broken {
                    unfit: Some(what), ..
                }) => AccountsError::Unfit(what),
                // Of a row that is changed, or of a rule that is looked at with the last statement.
                Undone::Broken(Broken { unique: true, .. }) => AccountsError::Taken("address"),
                other => other.told(),
            })
        })
    }

    fn stored<'a>(
        &'a self,
        provider: &'a str,
        source_ids: &'a [String],
    ) -> Done<'a, BTreeMap<String, Stored>> {
        Box::pin(self.tried(move || self.store.stored_of(provider, source_ids)))
    }

    fn standing<'a>(&'a self, now: UnixMs, most: usize) -> Done<'a, Standing> {
        Box::pin(self.tried(move || self.store.standing_of_all(now, most)))
    }

    fn reported<'a>(
        &'a self,
        run: u64,
        after: Cursor,
        most: usize,
    ) -> Done<'a, Vec<(Cursor, Reported)>> {
        Box::pin(self.tried(move || self.store.reported(run, after, most)))
    }

    fn undo<'a>(
        &'a self,
        run: u64,
        before: Option<Cursor>,
        most: usize,
        at: UnixMs,
    ) -> Done<'a, TakenBack> {
        Box::pin(async move {
            let done = self.store.take_back(run, before, most, at).await;
            done.map_err(Undone::told)
        })
    }

    fn undone<'a>(&'a self, run: u64, at: UnixMs) -> Done<'a, ()> {
        Box::pin(self.tried(move || self.store.mark_run(Some(run), "undone", at)))
    }

    fn erase<'a>(&'a self, most: usize, at: UnixMs) -> Done<'a, u64> {
        Box::pin(self.tried(move || self.store.erase_hashes(most, at)))
    }

    fn finalized<'a>(&'a self, at: UnixMs) -> Done<'a, ()> {
        Box::pin(self.tried(move || self.store.mark_run(None, "finalized", at)))
    }
}
