//! Accounts in a database: the app's own rows, and the gateway's tables beside them.
//!
//! Whatever writes for a user begins by locking the user's row, so that of two gateways one comes after the other; what the app itself
//! writes meanwhile is met by comparing, byte for byte, what is there with what was seen.

mod claims;
mod deferred;
pub(super) mod import;
mod layout;
pub(super) mod own_tables;
mod people;
pub(super) mod scratch;
mod standing;
mod statement;

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::time::Instant;

use self::layout::{For, Ids, Plan};
use self::statement::{Statement, Value};
use super::database::{self, Backend, Core, Database, Failure, Fault, Parameter, Uncarried};
use super::record::{self, Row};
use super::schema;
use super::transaction::{Broken, Transaction};
use super::{OpenError, SchemaError, Settings};
use crate::migration::accounts::{
    Account, Accounts, AccountsError, Claimed, Deferred, Done, Identifier, NewSession, NewUser,
    OldCredential, OldFactor, OldSessionKey, Replacement, Source,
};
use crate::migration::state::State;
use crate::secret::Secret;
use crate::time::UnixMs;

/// Connections for accounts, beside those for sessions: sign-ins in the window are few a second, and each of them waits for a hash.
const CONNECTIONS_MAX: u32 = 4;

/// How old the known layout may be: the app may be migrated while we run.
const LAYOUT_AGE_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// How often a transaction is tried that the database undid for the sake of another. It chooses one of two, so one retry is the rule.
const TRIES_MAX: usize = 4;

/// Longest id, scheme or digest kept, in letters: what a key of MySQL holds.
const KEY_LETTERS_MAX: usize = 255;

/// Making tables may take longer than any operation on them, and is done once.
const MAKE_WAIT_MIN: std::time::Duration = std::time::Duration::from_secs(30);

/// What makes tables.
pub(super) fn with_time_to_make(settings: Settings) -> Settings {
    Settings {
        timeout: settings.timeout.max(MAKE_WAIT_MIN),
        connections: 1,
        ..settings
    }
}

/// Few connections of their own for accounts.
pub(super) fn with_few_connections(settings: Settings) -> Settings {
    Settings {
        connections: settings.connections.min(CONNECTIONS_MAX),
        ..settings
    }
}

/// Opens the accounts: finds their tables, makes the gateway's own where they are missing, and proves that both may be written.
///
/// `maker` is the same database, with time enough to make tables.
pub(super) async fn open<B: Backend>(
    backend: B,
    maker: B,
    settings: Settings,
) -> Result<Arc<dyn Accounts>, OpenError> {
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
    let core = &database.core;
    let began = Instant::now();
    let deadline = began + core.settings.timeout.max(MAKE_WAIT_MIN);
    let failed = |failure: Failure| database::open_error::<B>(failure, &place, began);
    let plan = Plan::read(core, deadline).await.map_err(failed)?;
    let plan = plan.map_err(schema_error)?;
    install_for(maker, patient, For::Accounts).await?;
    for probe in own_tables::probes::<B>() {
        let probed = core.change(&probe.into(), &[], deadline).await;
        probed.map_err(|unchanged| refused::<B>(unchanged.failure, &place, began))?;
    }
    for probe in probes::<B>(&plan) {
        let probed = core.change(&probe, &[], deadline).await;
        probed.map_err(|unchanged| refused::<B>(unchanged.failure, &place, began))?;
    }
    Ok(Arc::new(DatabaseAccounts {
        store: Arc::new(Store {
            database,
            plan: RwLock::new(Arc::new(plan)),
            reading_layout: tokio::sync::Mutex::new(()),
        }),
    }))
}

/// Makes the gateway's own tables, all of them.
pub(super) async fn install<B: Backend>(backend: B, settings: Settings) -> Result<(), OpenError> {
    install_for(backend, settings, For::Import).await
}

/// Those that are needed. A gateway needs none of those of imports.
async fn install_for<B: Backend>(
    backend: B,
    settings: Settings,
    what_for: For,
) -> Result<(), OpenError> {
    let place = backend.place();
    let database = Database::unopened(backend, settings);
    let began = Instant::now();
    let deadline = began + database.core.settings.timeout;
    install_in(&database.core, &place, began, deadline, what_for).await
}

async fn install_in<B: Backend>(
    core: &Core<B>,
    place: &str,
    began: Instant,
    deadline: Instant,
    what_for: For,
) -> Result<(), OpenError> {
    let installed = match own_tables::install(core, deadline).await {
        Ok(()) if what_for == For::Import => own_tables::install_imports(core, deadline).await,
        other => other,
    };
    installed.map_err(|failure| match failure.fault {
        Fault::Slow | Fault::Stale | Fault::Unreadable => {
            database::open_error::<B>(failure, place, began)
        }
        // SQLite says of a file that may not be written that it cannot be reached.
        Fault::Unreachable if B::NAME != "sqlite" => {
            database::open_error::<B>(failure, place, began)
        }
        Fault::Unreachable | Fault::Denied | Fault::Schema => OpenError::Schema {
            store: B::NAME,
            place: place.to_owned(),
            cause: SchemaError::OwnTables {
                cause: failure.cause,
            },
        },
    })
}

/// A table that may not be written.
fn refused<B: Backend>(failure: Failure, place: &str, began: Instant) -> OpenError {
    match failure.fault {
        Fault::Slow | Fault::Stale => database::open_error::<B>(failure, place, began),
        Fault::Unreachable if B::NAME != "sqlite" => {
            database::open_error::<B>(failure, place, began)
        }
        Fault::Unreachable | Fault::Denied | Fault::Schema | Fault::Unreadable => {
            OpenError::Denied {
                store: B::NAME,
                place: place.to_owned(),
                cause: format!(
                    "the migration must be allowed to write accounts: {}",
                    failure.cause
                ),
            }
        }
    }
}

/// Changes of everything that is ever changed of the app's rows, in no row: they find missing rights.
fn probes<B: Backend>(plan: &Plan) -> Vec<Arc<str>> {
    let changed = [
        ("user", "user.email"),
        ("account", "account.password"),
        ("twoFactor", "twoFactor.secret"),
    ];
    let updated = changed
        .iter()
        .filter(|(table, _)| plan.table(table).is_some());
    let updated = updated.map(|(table, column)| {
        Statement::<B>::new(plan, 0)
            .text("UPDATE ")
            .table(table)
            .text(" SET ")
            .column(column)
            .text(" = ")
            .column(column)
            .text(" WHERE 1 = 0")
            .sql()
    });
    let inserted = layout::FILLED
        .iter()
        .filter(|table| plan.table(table).is_some());
    let inserted = inserted.map(|table| {
        let columns = plan.filled(table);
        let columns: Vec<String> = columns.map(|name| B::DIALECT.name(name)).collect();
        let columns = columns.join(", ");
        Statement::<B>::new(plan, 0)
            .text("INSERT INTO ")
            .table(table)
            .text(&format!(" ({columns}) SELECT {columns} FROM "))
            .table(table)
            .text(" WHERE 1 = 0")
            .sql()
    });
    updated.chain(inserted).collect()
}

/// Why an operation was not done.
#[derive(Debug)]
enum Undone {
    Broken(Broken),
    Taken(&'static str),
}

impl From<Broken> for Undone {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<Failure> for Undone {
    fn from(failure: Failure) -> Self {
        Self::Broken(Broken::because(failure.fault, failure.cause))
    }
}

impl Undone {
    /// What the rows hold is not what they should.
    fn schema(cause: impl Into<String>) -> Self {
        Self::Broken(Broken::because(Fault::Schema, cause))
    }

    fn told(self) -> AccountsError {
        let broken = match self {
            Self::Taken(what) => return AccountsError::Taken(what),
            Self::Broken(broken) => broken,
        };
        let cause = broken.failure.cause;
        match broken.failure.fault {
            Fault::Slow => AccountsError::Timeout,
            Fault::Unreachable | Fault::Stale => AccountsError::Unreachable(cause),
            Fault::Denied => AccountsError::Denied(cause),
            Fault::Schema | Fault::Unreadable => AccountsError::Schema(cause),
        }
    }
}

/// Accounts over one database.
struct Store<B: Backend> {
    database: Database<B>,
    plan: RwLock<Arc<Plan>>,
    /// Held by whoever reads the layout again.
    reading_layout: tokio::sync::Mutex<()>,
}

impl<B: Backend> Store<B> {
    fn core(&self) -> &Core<B> {
        &self.database.core
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.core().settings.timeout
    }

    fn zone(&self) -> i32 {
        self.core().backend.zone_offset_seconds()
    }

    /// Where everything is, read again when that is long ago and nobody else is at it.
    async fn plan(&self, deadline: Instant) -> Arc<Plan> {
        let known = || Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner));
        let plan = known();
        if plan.read_at.elapsed() < LAYOUT_AGE_MAX {
            return plan;
        }
        let Ok(_mine) = self.reading_layout.try_lock() else {
            return plan;
        };
        // Half a migration, or a bad moment: what is known is kept, and read again after the usual time.
        let read = match Plan::read_for(self.core(), plan.what_for(), deadline).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) | Err(_) => plan.renewed(),
        };
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
        known()
    }

    /// Asks outside of any transaction.
    async fn ask(
        &self,
        statement: Statement<'_, B>,
        parameter: &str,
        deadline: Instant,
    ) -> Result<Vec<Row>, Undone> {
        let parameter = Secret::new(parameter);
        let rows = self
            .core()
            .ask(&statement.sql(), Some(&parameter), deadline)
            .await?;
        Ok(rows)
    }

    async fn begin<'s>(&'s self, plan: &'s Plan, deadline: Instant) -> Result<Work<'s, B>, Undone> {
        Ok(Work {
            transaction: self.core().begin(deadline).await?,
            plan,
            zone: self.zone(),
        })
    }
}

/// A transaction in the making.
struct Work<'s, B: Backend> {
    transaction: Transaction<'s, B>,
    plan: &'s Plan,
    zone: i32,
}

impl<'s, B: Backend> Work<'s, B> {
    fn say(&self) -> Statement<'s, B> {
        Statement::new(self.plan, self.zone)
    }

    async fn rows(&mut self, statement: Statement<'_, B>) -> Result<Vec<Row>, Broken> {
        let (sql, parameters) = statement.done();
        self.transaction.rows(&sql, &parameters).await
    }

    async fn change(&mut self, statement: Statement<'_, B>) -> Result<u64, Broken> {
        let (sql, parameters) = statement.done();
        self.transaction.change(&sql, &parameters).await
    }

    /// Inserts into one of our tables, unless the key is taken: `false`.
    async fn insert_once(&mut self, statement: Statement<'_, B>) -> Result<bool, Broken> {
        match self.change(statement.text(B::OWN.or_nothing)).await {
            Ok(met) => Ok(met > 0),
            // MySQL undoes the statement alone.
            Err(broken) if broken.unique && B::OWN.or_nothing.is_empty() => Ok(false),
            Err(broken) => Err(broken),
        }
    }

    async fn commit(self) -> Result<(), Broken> {
        self.transaction.commit().await
    }

    /// Writes nothing, after all.
    async fn leave<T>(self, answer: T) -> Result<T, Undone> {
        self.transaction.undo().await?;
        Ok(answer)
    }

    /// Locks the row of a user until the end. `false`: there is none.
    async fn lock(&mut self, user_id: &str) -> Result<bool, Undone> {
        if !self.plan.may_be_id::<B>("user.id", user_id) {
            return Ok(false);
        }
        let locked = self
            .say()
            .text("SELECT ")
            .shown(&["user.id"])
            .text(" FROM ")
            .table("user")
            .text(" WHERE ")
            .column("user.id")
            .text(" = ")
            .id("user.id", user_id)
            .text(B::OWN.locked);
        let rows = self.rows(locked).await?;
        // Some collations fold case.
        Ok(rows.iter().any(|row| cell(row, 0) == Some(user_id)))
    }

    /// Inserts a row with an id of its own, and gives that.
    async fn insert_with_id(
        &mut self,
        table: &str,
        wanted: Option<&str>,
        mut values: Vec<(&'static str, Value<'_>)>,
        id_column: &'static str,
    ) -> Result<String, Undone> {
        let made = match (wanted, self.plan.ids(table)) {
            (_, Ids::Database) => None,
            (Some(wanted), _) => Some(wanted.to_owned()),
            (None, Ids::Uuid) => Some(uuid::Uuid::new_v4().to_string()),
            (None, Ids::Letters) => Some(letters()),
        };
        if let Some(id) = &made {
            values.insert(0, (id_column, Value::Id(id)));
            let statement = self.say().insert(table, &values);
            self.change(statement).await?;
            return Ok(id.clone());
        }
        let statement = self.say().insert(table, &values);
        let rows = if B::OWN.returning {
            let statement = statement.text(" RETURNING ").shown(&[id_column]);
            self.rows(statement).await?
        } else {
            self.change(statement).await?;
            let asked = self.say().text("SELECT CAST(LAST_INSERT_ID() AS CHAR)");
            self.rows(asked).await?
        };
        let id = rows.into_iter().flatten().flatten().next();
        id.ok_or_else(|| Undone::schema("the database gave a new row no id"))
    }
}

/// 32 letters and digits, as the framework makes its ids.
fn letters() -> String {
    const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut id = String::with_capacity(32);
    while id.len() < 32 {
        let mut bytes = [0u8; 48];
        // The system's generator fails only before it was ever seeded; whoever goes on then would hand out guessable ids.
        if aws_lc_rs::rand::fill(&mut bytes).is_err() {
            std::process::abort();
        }
        // What does not divide evenly is thrown away.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        let drawn = fair.filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        id.extend(drawn.take(32 - id.len()).map(|letter| char::from(*letter)));
    }
    id
}

fn cell(row: &Row, at: usize) -> Option<&str> {
    row.get(at).and_then(Option::as_deref)
}

fn number(row: &Row, at: usize) -> Result<Option<i64>, Undone> {
    let parsed = cell(row, at).map(|text| text.trim().parse::<i64>());
    parsed
        .transpose()
        .map_err(|_| Undone::schema("a column of the gateway's own tables holds no number"))
}

fn state(text: Option<&str>) -> Result<State, Undone> {
    text.and_then(State::named)
        .ok_or_else(|| Undone::schema("a state in the gateway's own tables is none we know"))
}

/// Texts that become part of a key.
fn keys(texts: &[&str]) -> Result<(), Undone> {
    let fits = |text: &&str| text.len() <= KEY_LETTERS_MAX && !text.contains('\0');
    match texts.iter().all(fits) {
        true => Ok(()),
        false => Err(Undone::schema(format!(
            "an id of the old system is longer than {KEY_LETTERS_MAX} letters"
        ))),
    }
}

/// Tries what the database undid for the sake of another once more. Nothing of it was written.
async fn again<T, F: Future<Output = Result<T, Undone>>>(
    attempt: impl Fn() -> F,
) -> Result<T, Undone> {
    let mut tried = 1;
    loop {
        match attempt().await {
            Err(Undone::Broken(broken)) if broken.undone && tried < TRIES_MAX => tried += 1,
            other => return other,
        }
    }
}

struct DatabaseAccounts<B: Backend> {
    store: Arc<Store<B>>,
}

impl<B: Backend> DatabaseAccounts<B> {
    /// Runs an operation where the connections live, to its own end, whoever still waits for it.
    fn run<'a, T, F>(&'a self, work: impl FnOnce(Arc<Store<B>>) -> F) -> Done<'a, T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Undone>> + Send + 'static,
    {
        let work = work(Arc::clone(&self.store));
        Box::pin(async move {
            match self.store.database.carry(work).await {
                Ok(done) => done.map_err(Undone::told),
                Err(Uncarried::Busy) => Err(AccountsError::Timeout),
                Err(Uncarried::GaveUp) => Err(AccountsError::Unreachable(
                    "the driver gave up on the answer".to_owned(),
                )),
                Err(Uncarried::GoingDown) => Err(AccountsError::Unreachable(
                    "we are shutting down".to_owned(),
                )),
            }
        })
    }
}

impl<B: Backend> Accounts for DatabaseAccounts<B> {
    fn find<'a>(&'a self, by: &'a Identifier) -> Done<'a, Option<Account>> {
        let by = by.clone();
        self.run(|store| async move { store.find(&by).await })
    }

    fn replace_password<'a>(&'a self, replacement: &'a Replacement) -> Done<'a, bool> {
        let replacement = replacement.clone();
        self.run(|store| async move {
            let deadline = store.deadline();
            again(|| store.replace_password(&replacement, deadline)).await
        })
    }

    fn move_state<'a>(&'a self, user_id: &'a str, next: State, at: UnixMs) -> Done<'a, bool> {
        let user_id = user_id.to_owned();
        self.run(move |store| async move {
            let deadline = store.deadline();
            again(|| store.move_state(&user_id, next, at, deadline)).await
        })
    }

    fn map<'a>(
        &'a self,
        user_id: &'a str,
        provider: &'a str,
        id: &'a str,
        at: UnixMs,
    ) -> Done<'a, bool> {
        let [user_id, provider, id] = [user_id, provider, id].map(str::to_owned);
        self.run(move |store| async move {
            let deadline = store.deadline();
            again(|| store.map(&user_id, &provider, &id, at, deadline)).await
        })
    }

    fn keep<'a>(&'a self, user_id: &'a str, old: &'a OldCredential, at: UnixMs) -> Done<'a, bool> {
        let (user_id, old) = (user_id.to_owned(), old.clone());
        self.run(move |store| async move {
            let deadline = store.deadline();
            again(|| store.keep(&user_id, &old, at, deadline)).await
        })
    }

    fn create<'a>(&'a self, user: &'a NewUser, at: UnixMs) -> Done<'a, String> {
        let user = user.clone();
        self.run(move |store| async move {
            let deadline = store.deadline();
            again(|| store.create(&user, at, deadline)).await
        })
    }

    fn keep_factor<'a>(
        &'a self,
        user_id: &'a str,
        factor: &'a OldFactor,
        backup_codes: &'a Secret,
        at: UnixMs,
    ) -> Done<'a, bool> {
        let (user_id, factor) = (user_id.to_owned(), factor.clone());
        let backup_codes = backup_codes.clone();
        self.run(move |store| async move {
            let deadline = store.deadline();
            again(|| store.keep_factor(&user_id, &factor, &backup_codes, at, deadline)).await
        })
    }

    fn use_step<'a>(&'a self, user_id: &'a str, step: i64) -> Done<'a, bool> {
        let user_id = user_id.to_owned();
        self.run(move |store| async move {
            let deadline = store.deadline();
            again(|| store.use_step(&user_id, step, deadline)).await
        })
    }

    fn forget_factor<'a>(&'a self, user_id: &'a str) -> Done<'a, bool> {
        let user_id = user_id.to_owned();
        self.run(move |store| async move {
            let deadline = store.deadline();
            again(|| store.forget_factor(&user_id, deadline)).await
        })
    }

    fn verification<'a>(&'a self, identifier: &'a str, now: UnixMs) -> Done<'a, Option<Secret>> {
        let identifier = identifier.to_owned();
        self.run(move |store| async move { store.verification(&identifier, now).await })
    }

    fn claim<'a>(
        &'a self,
        key: &'a OldSessionKey,
        session: &'a NewSession,
        sealed_token: &'a Secret,
    ) -> Done<'a, Claimed> {
        let (key, session, token) = (key.clone(), session.clone(), sealed_token.clone());
        self.run(move |store| async move {
            let deadline = store.deadline();
            again(|| store.claim(&key, &session, &token, deadline)).await
        })
    }

    fn bury<'a>(&'a self, key: &'a OldSessionKey, at: UnixMs) -> Done<'a, ()> {
        let key = key.clone();
        self.run(move |store| async move {
            let deadline = store.deadline();
            again(|| store.bury(&key, at, deadline)).await
        })
    }

    fn bury_all<'a>(&'a self, user_id: &'a str, at: UnixMs) -> Done<'a, ()> {
        let user_id = user_id.to_owned();
        self.run(move |store| async move {
            let deadline = store.deadline();
            again(|| store.bury_all(&user_id, at, deadline)).await
        })
    }

    fn sessions_count_from<'a>(&'a self, user_id: &'a str) -> Done<'a, Option<UnixMs>> {
        let user_id = user_id.to_owned();
        self.run(move |store| async move { store.sessions_count_from(&user_id).await })
    }

    fn defer<'a>(&'a self, user_id: &'a str, operation: &'a str, due: UnixMs) -> Done<'a, ()> {
        let [user_id, operation] = [user_id, operation].map(str::to_owned);
        self.run(move |store| async move { store.defer(&user_id, &operation, due).await })
    }

    fn due<'a>(&'a self, now: UnixMs, most: usize) -> Done<'a, Vec<Deferred>> {
        self.run(move |store| async move { store.due(now, most).await })
    }

    fn settle<'a>(&'a self, id: i64, again: Option<Option<UnixMs>>) -> Done<'a, ()> {
        self.run(move |store| async move { store.settle(id, again).await })
    }

    fn count<'a>(&'a self) -> Done<'a, Vec<(State, u64)>> {
        self.run(move |store| async move { store.count().await })
    }
}
