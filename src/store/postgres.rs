//! Sessions in PostgreSQL.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgDatabaseError, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use tokio::time::Instant;
use url::Url;

use super::accounts;
use super::api_keys;
use super::database::{self, Backend, Fault, Own, Parameter, Rows};
use super::fallthrough::Beside;
use super::notifications::Notifications;
use super::old::{self, Tables};
use super::record::Row;
use super::schema::{self, Dialect};
use super::scratch;
use super::triggers::{self, Triggers};
use super::{
    Address, Build, ByTriggers, KeyAccess, OpenAccounts, OpenError, Opened, Owners, Settings,
};
use crate::api_key::ApiKeys;
use crate::kind::Kind;
use crate::migration::accounts::{Accounts, NewSession};
use crate::migration::import::target::Target;
use crate::migration::leaving::roster::Roster;
use crate::secret::Secret;
use crate::session::feed::Feed;

/// `postgres://USER:PASSWORD@HOST/DATABASE`.
pub(super) const KIND: Kind<Build> = Kind {
    name: "postgres",
    about: "PostgreSQL: postgres://USER:PASSWORD@HOST/DATABASE[?sslmode=…]",
    build: Build {
        api_keys: Some(|settings, access| Box::pin(open_keys(settings, access))),
        owners: Some(|settings| Box::pin(open_owners(settings))),
        accounts: Some(OpenAccounts {
            open: |settings| Box::pin(open_accounts(settings)),
            target: |settings| Box::pin(open_target(settings)),
            roster: |settings, writable| Box::pin(open_roster(settings, writable)),
            install: |settings| Box::pin(install_tables(settings)),
            statements: accounts::own_tables::statements::<Postgres>,
        }),
        beside: Some(|settings| Box::pin(beside(settings))),
        tables: Some(open_tables),
        line: Some(line),
        triggers: Some(ByTriggers {
            read: |settings| Box::pin(read_triggers(settings)),
            run: |settings, sql| Box::pin(run_triggers(settings, sql)),
        }),
        scratch: Some(scratch::By {
            make: |settings, place| Box::pin(copy_tables(settings, place)),
            fill: |settings, sessions| Box::pin(fill(settings, sessions)),
            end: |settings, sessions| Box::pin(end(settings, sessions)),
            remove: |settings, place, _| Box::pin(drop_tables(settings, place)),
        }),
        ..Build::plain(
            &[("postgres", "postgres"), ("postgresql", "postgres")],
            Address::Server,
            |settings| Box::pin(open(settings)),
        )
    },
};

/// URL parameters the driver knows. Others come from the app's own tools (`connection_limit`, `pool_timeout`); the driver would log
/// them with their values, so they are left out.
const PARAMETERS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

struct Postgres {
    direct: PgConnectOptions,
    /// Without start-up options and prepared statements, which poolers that share connections between clients do not pass.
    pooled: PgConnectOptions,
    behind_pooler: AtomicBool,
    place: String,
    /// By table: the types of its columns, and when they were asked for.
    kinds: Mutex<BTreeMap<String, (Kinds, Instant)>>,
}

/// How old that may be: whoever changes a table while people are imported waits no longer for it.
const KINDS_AGE_MAX: Duration = Duration::from_secs(60);

async fn open(mut settings: Settings) -> Result<Opened, OpenError> {
    let backend = Postgres::new(&mut settings)?;
    let writer = match settings.extend {
        true => Some(Postgres::new(&mut settings)?),
        false => None,
    };
    let feed = Notifications::new(backend.pooled.clone());
    let mut opened = database::open(backend, writer, settings).await?;
    opened.feed = Some(Arc::new(feed));
    Ok(opened)
}

/// How to connect for plain statements, and where that leads.
pub(super) fn plain(settings: &mut Settings) -> Result<(PgConnectOptions, String), OpenError> {
    let backend = Postgres::new(settings)?;
    Ok((backend.pooled.clone(), backend.place()))
}

/// The line alone.
fn line(mut settings: Settings) -> Result<Arc<dyn Feed>, OpenError> {
    let backend = Postgres::new(&mut settings)?;
    Ok(Arc::new(Notifications::new(backend.pooled)))
}

/// The triggers for the tables there are.
async fn read_triggers(mut settings: Settings) -> Result<Triggers, OpenError> {
    let backend = Postgres::new(&mut settings)?;
    let (options, place) = (backend.pooled.clone(), backend.place());
    let opened = database::open(backend, None, settings).await?;
    triggers::read(&options, &place, &opened.detected).await
}

/// Runs statements as they are.
async fn run_triggers(mut settings: Settings, sql: String) -> Result<(), OpenError> {
    let backend = Postgres::new(&mut settings)?;
    triggers::run(&backend.pooled, &backend.place, &sql).await
}

/// Makes a schema of its own with tables and indexes like the app's, and none of their rows. What else the app's tables demand of
/// their rows would refuse ours, and what counts their ids is not to be moved: both stay behind.
async fn copy_tables(mut settings: Settings, place: scratch::Place) -> Result<Settings, OpenError> {
    let backend = Postgres::new(&mut settings)?;
    let name = place.name.clone();
    let wanted = schema::wanted_tables(&settings.schema);
    let visible = match &settings.schema.schema {
        Some(schema) => format!("n.nspname = '{}'", schema.replace('\'', "''")),
        None => "pg_catalog.pg_table_is_visible(r.oid) AND n.nspname NOT IN ('pg_catalog', 'information_schema')".to_owned(),
    };
    let sql = format!(
        "CREATE SCHEMA \"{name}\";
         DO $scratch$ DECLARE t record; BEGIN
           FOR t IN SELECT n.nspname AS s, r.relname AS r FROM pg_catalog.pg_class r
             JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
             WHERE r.relkind IN ('r', 'v', 'm', 'p', 'f') AND replace(lower(r.relname), '_', '') IN ({wanted}) AND {visible}
           LOOP
             EXECUTE format('CREATE TABLE %I.%I (LIKE %I.%I INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING GENERATED INCLUDING INDEXES)', '{name}', t.r, t.s, t.r);
           END LOOP;
           FOR t IN SELECT r.relname AS r, a.attname AS a FROM pg_catalog.pg_class r
             JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
             JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid
             JOIN pg_catalog.pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
             WHERE n.nspname = '{name}' AND r.relkind = 'r' AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%'
           LOOP
             EXECUTE format('CREATE SEQUENCE %I.%I', '{name}', t.r || '_' || t.a);
             EXECUTE format('ALTER TABLE %I.%I ALTER COLUMN %I SET DEFAULT nextval(%L::regclass)', '{name}', t.r, t.a, format('%I.%I', '{name}', t.r || '_' || t.a));
           END LOOP;
           FOR t IN SELECT r.relname AS r, a.attname AS a FROM pg_catalog.pg_class r
             JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
             JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid
             WHERE n.nspname = '{name}' AND r.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND a.attidentity = ''
             AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = r.oid AND i.indisprimary AND a.attnum = ANY (i.indkey))
           LOOP
             EXECUTE format('ALTER TABLE %I.%I ALTER COLUMN %I DROP NOT NULL', '{name}', t.r, t.a);
           END LOOP;
         END $scratch$"
    );
    triggers::run(&backend.pooled, &backend.place, &sql).await?;
    settings.schema.schema = Some(name);
    Ok(settings)
}

/// Takes that schema away.
async fn drop_tables(mut settings: Settings, place: scratch::Place) -> Result<(), OpenError> {
    let backend = Postgres::new(&mut settings)?;
    let sql = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", place.name);
    triggers::run(&backend.pooled, &backend.place, &sql).await
}

async fn fill(mut settings: Settings, sessions: Vec<NewSession>) -> Result<(), OpenError> {
    let backend = Postgres::new(&mut settings)?;
    accounts::scratch::fill(backend, settings, sessions).await
}

async fn end(mut settings: Settings, sessions: Vec<NewSession>) -> Result<(), OpenError> {
    let backend = Postgres::new(&mut settings)?;
    let tokens = sessions.into_iter().map(|session| session.token).collect();
    accounts::scratch::end(backend, settings, tokens).await
}

/// Tables by their own names, for reading.
fn open_tables(mut settings: Settings) -> Result<Arc<dyn Tables>, OpenError> {
    let backend = Postgres::new(&mut settings)?;
    Ok(old::tables(backend, settings))
}

/// What the app keeps here when its sessions are elsewhere.
async fn beside(mut settings: Settings) -> Result<Beside, OpenError> {
    let backend = Postgres::new(&mut settings)?;
    database::beside(backend, settings).await
}

async fn open_keys(
    mut settings: Settings,
    access: KeyAccess,
) -> Result<Arc<dyn ApiKeys>, OpenError> {
    let backend = Postgres::new(&mut settings)?;
    let settings = api_keys::with_few_connections(settings);
    api_keys::open(backend, settings, access).await
}

async fn open_owners(mut settings: Settings) -> Result<Arc<dyn Owners>, OpenError> {
    let backend = Postgres::new(&mut settings)?;
    let settings = api_keys::with_few_connections(settings);
    api_keys::open_owners(backend, settings).await
}

async fn open_accounts(mut settings: Settings) -> Result<Arc<dyn Accounts>, OpenError> {
    let backend = Postgres::new(&mut settings)?;
    let mut patient = accounts::with_time_to_make(settings.clone());
    let maker = Postgres::new(&mut patient)?;
    accounts::open(backend, maker, accounts::with_few_connections(settings)).await
}

async fn open_target(settings: Settings) -> Result<Arc<dyn Target>, OpenError> {
    let mut settings = accounts::import::with_time_for_batches(settings);
    let backend = Postgres::new(&mut settings)?;
    let mut patient = accounts::with_time_to_make(settings.clone());
    let maker = Postgres::new(&mut patient)?;
    accounts::import::open(backend, maker, settings).await
}

async fn open_roster(settings: Settings, _writable: bool) -> Result<Arc<dyn Roster>, OpenError> {
    let mut settings = accounts::import::with_time_for_batches(settings);
    let backend = Postgres::new(&mut settings)?;
    accounts::import::open_roster(backend, settings).await
}

async fn install_tables(settings: Settings) -> Result<(), OpenError> {
    let mut settings = accounts::with_time_to_make(settings);
    let backend = Postgres::new(&mut settings)?;
    accounts::install(backend, settings).await
}

/// A statement with its parameters.
fn query(
    sql: &Arc<str>,
    parameters: &[Parameter],
    persistent: bool,
) -> Query<'static, sqlx::Postgres, PgArguments> {
    let mut query = sqlx::query(AssertSqlSafe(Arc::clone(sql))).persistent(persistent);
    for parameter in parameters {
        query = match parameter {
            Parameter::Text(text) => query.bind(text.clone()),
            Parameter::Number(number) => query.bind(*number),
            Parameter::Null => query.bind(None::<String>),
        };
    }
    query
}

/// Rows of one statement. A batch has a thousand, and a few more of what hangs on them.
const ROWS_AT_ONCE: usize = 2_000;

/// The types of the columns of a table, by their names.
type Kinds = Arc<BTreeMap<String, String>>;

impl Postgres {
    /// The types of a table's columns. Asked once in a while: it costs a round trip, and they hardly ever change.
    async fn kinds(&self, link: &mut PgConnection, table: &str) -> Result<Kinds, sqlx::Error> {
        let known = || self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((kinds, asked)) = known().get(table)
            && asked.elapsed() < KINDS_AGE_MAX
        {
            return Ok(Arc::clone(kinds));
        }
        let pooled = self.behind_pooler.load(Ordering::Relaxed);
        // Without their lengths: a cast to a length cuts, and what is too long must be an error. A bare `character` is one letter, which
        // is why the modifier is -1 and not missing; a domain has a length of its own, so what it is made of is named instead of it.
        let asked = sqlx::query(
            "WITH RECURSIVE kinds AS (SELECT attname, atttypid AS kind FROM pg_catalog.pg_attribute \
             WHERE attrelid = $1::text::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped \
             UNION ALL SELECT k.attname, t.typbasetype FROM kinds k JOIN pg_catalog.pg_type t ON t.oid = k.kind \
             WHERE t.typtype = 'd') \
             SELECT k.attname::text, pg_catalog.format_type(k.kind, -1)::text FROM kinds k \
             JOIN pg_catalog.pg_type t ON t.oid = k.kind WHERE t.typtype <> 'd'",
        );
        let asked = asked.persistent(!pooled).bind(table.to_owned());
        let mut kinds = BTreeMap::new();
        for row in asked.fetch_all(link).await? {
            kinds.insert(row.try_get(0)?, row.try_get(1)?);
        }
        let kinds = Arc::new(kinds);
        // As many as there are tables of ours and of the app's.
        known().insert(table.to_owned(), (Arc::clone(&kinds), Instant::now()));
        Ok(kinds)
    }
}

fn cells(row: &PgRow) -> Result<Row, sqlx::Error> {
    (0..row.len()).map(|at| row.try_get_unchecked(at)).collect()
}

impl Postgres {
    /// Takes Prisma's `?schema=` for the schema, and `?pgbouncer=true` or `?statement-cache-capacity=0` for a pooler in between.
    fn new(settings: &mut Settings) -> Result<Self, OpenError> {
        let unusable = |cause: String| OpenError::Url {
            store: "postgres",
            cause,
        };
        let mut url =
            Url::parse(settings.url.expose()).map_err(|error| unusable(error.to_string()))?;
        let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let mut behind_pooler = false;
        url.set_query(None);
        for (key, value) in &parameters {
            match key.as_str() {
                "schema" if settings.schema.schema.is_none() => {
                    settings.schema.schema = Some(value.clone());
                }
                "pgbouncer" => behind_pooler = value == "true",
                key if PARAMETERS.contains(&key) || key.starts_with("options[") => {
                    behind_pooler |= key == "statement-cache-capacity" && value == "0";
                    url.query_pairs_mut().append_pair(key, value);
                }
                _ => {}
            }
        }
        let options = PgConnectOptions::from_url(&url)
            .map_err(|error| unusable(error.to_string()))?
            .disable_statement_logging();
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("vestibule"),
        };
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        // The server gives up when we do. Otherwise every lookup that meets a locked table would leave a server process waiting
        // behind, until the server has no connections left.
        let wait_ms = settings.timeout.as_millis().max(1).to_string();
        Ok(Self {
            pooled: options
                .clone()
                .statement_cache_capacity(0)
                .extra_float_digits(None),
            direct: options.options([("statement_timeout", wait_ms)]),
            behind_pooler: AtomicBool::new(behind_pooler),
            kinds: Mutex::default(),
            place,
        })
    }
}

/// Text of a type that compares with other texts.
fn is_text(kind: &str) -> bool {
    matches!(
        kind,
        "text" | "character varying" | "character" | "citext" | "name"
    )
}

/// What is wrong with a row, by the code of the error; none where it is not the row that is wrong.
fn unfit_in_words(code: &str) -> Option<&'static str> {
    // Source: PostgreSQL 17 manual, appendix A, error codes. The last are those of views and of triggers.
    Some(match (code.get(..2).unwrap_or(""), code) {
        (_, "23505") => return None,
        // invalid_parameter_value, invalid_binary_representation, bad_copy_file_format: what we said is wrong, of every row.
        (_, "22023" | "22P03" | "22P04") => return None,
        (_, "22001") => "a text is longer than its column",
        (_, "22021" | "22P05" | "22P02") => "a text that its column does not take",
        (_, "22007" | "22008") => "a date that its column does not take",
        (_, "23502") => "a column that must have a value has none",
        (_, "23503") => "a row it refers to is missing",
        ("22", _) => "a value that its column does not take",
        ("23", _) => "it breaks a rule",
        (_, "44000" | "P0001") => "the app's own rules refuse it",
        _ => return None,
    })
}

/// Integers compare with each other.
fn is_integer(kind: &str) -> bool {
    matches!(kind, "smallint" | "integer" | "bigint")
}

impl Backend for Postgres {
    type Link = PgConnection;
    const NAME: &'static str = "postgres";
    const HAS_SCHEMAS: bool = true;
    const VERSION: &'static str = "SELECT current_setting('server_version')";
    const DIALECT: Dialect = Dialect {
        quote: '"',
        parameter: "$1",
        text: |expression, kind| match kind {
            // As UTC wall-clock text, whatever the session's zone. `timestamp` without a zone is such text already.
            "timestamp with time zone" => format!("({expression} AT TIME ZONE 'UTC')::text"),
            _ => format!("{expression}::text"),
        },
        comparable: |a, b| a == b || (is_text(a) && is_text(b)) || (is_integer(a) && is_integer(b)),
        quotes_numbers: true,
    };

    fn place(&self) -> String {
        self.place.clone()
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        if self.behind_pooler.load(Ordering::Relaxed) {
            return self.pooled.connect().await;
        }
        match self.direct.connect().await {
            // 08P01: a pooler that knows no start-up options.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("08P01") => {
                let connection = self.pooled.connect().await?;
                self.behind_pooler.store(true, Ordering::Relaxed);
                Ok(connection)
            }
            other => other,
        }
    }

    async fn rows(
        &self,
        link: &mut PgConnection,
        sql: &Arc<str>,
        parameter: Option<&Secret>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        let pooled = self.behind_pooler.load(Ordering::Relaxed);
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone(sql))).persistent(!pooled);
        if let Some(text) = parameter {
            query = query.bind(text.expose().to_owned());
        }
        let rows = if pooled {
            // Preparing and running are two messages; a transaction keeps both on one server connection.
            let mut transaction = link.begin().await?;
            let rows = query.fetch_all(&mut *transaction).await?;
            transaction.commit().await?;
            rows
        } else {
            query.fetch_all(link).await?
        };
        rows.iter().map(cells).collect()
    }

    async fn change(
        &self,
        link: &mut PgConnection,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> Result<u64, sqlx::Error> {
        let pooled = self.behind_pooler.load(Ordering::Relaxed);
        let query = query(sql, parameters, !pooled);
        let done = if pooled {
            // Preparing and running are two messages; a transaction keeps both on one server connection.
            let mut transaction = link.begin().await?;
            let done = query.execute(&mut *transaction).await?;
            transaction.commit().await?;
            done
        } else {
            query.execute(link).await?
        };
        Ok(done.rows_affected())
    }

    const BEGIN: &'static [&'static str] = &["BEGIN ISOLATION LEVEL READ COMMITTED"];
    const OWN: Own = Own {
        prefix: "vestibule.",
        key: "text",
        text: "text",
        serial: "bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        after: "",
        or_nothing: " ON CONFLICT DO NOTHING",
        unhurried: Some("SET LOCAL synchronous_commit TO off"),
        by_index: Some("SET LOCAL enable_seqscan TO off"),
        // Weaker than `FOR UPDATE`: whoever writes a row that refers to it need not wait.
        locked: " FOR NO KEY UPDATE",
        returning: true,
        // Made at once by two, a schema or a table is an error even with `IF NOT EXISTS`. The number is an arbitrary one of ours.
        alone: Some("SELECT pg_advisory_xact_lock(8461728730120446)"),
        before: Some("CREATE SCHEMA IF NOT EXISTS vestibule"),
        indexes_inside: false,
        second: &[
            "ALTER TABLE vestibule.legacy_identity DROP CONSTRAINT IF EXISTS legacy_identity_user_id_provider_key",
        ],
        second_is_due: None,
    };

    async fn plain(&self, link: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
        let run = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        run.execute(link).await.map(drop)
    }

    async fn select(
        &self,
        link: &mut PgConnection,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let pooled = self.behind_pooler.load(Ordering::Relaxed);
        let rows = query(sql, parameters, !pooled).fetch_all(link).await?;
        rows.iter().map(cells).collect()
    }

    async fn alter(
        &self,
        link: &mut PgConnection,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> Result<u64, sqlx::Error> {
        let pooled = self.behind_pooler.load(Ordering::Relaxed);
        let done = query(sql, parameters, !pooled).execute(link).await?;
        Ok(done.rows_affected())
    }

    /// By one list of texts for each column, turned into the columns' types. Not by `COPY`: its end is a small packet behind another, and
    /// the driver's sockets hold such a one back until the other is acknowledged, which the system puts off for 40 ms. Nor is `COPY` to be
    /// had where row-level security holds for us.
    async fn insert(&self, link: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
        let pooled = self.behind_pooler.load(Ordering::Relaxed);
        let kinds = self.kinds(link, &rows.table).await?;
        let columns = rows.columns.join(", ");
        let (mut shown, mut lists, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (at, column) in rows.columns.iter().enumerate() {
            let plain = column.trim_matches('"').replace("\"\"", "\"");
            let kind = kinds
                .get(&plain)
                .ok_or_else(|| sqlx::Error::ColumnNotFound(plain.clone()))?;
            shown.push(format!("c{at}::{kind}"));
            lists.push(format!("${}::text[]", at + 1));
            names.push(format!("c{at}"));
        }
        let (shown, lists, names) = (shown.join(", "), lists.join(", "), names.join(", "));
        let sql = format!(
            "INSERT INTO {} ({columns}) SELECT {shown} FROM ROWS FROM (unnest({lists})) AS given ({names})",
            rows.table
        );
        let sql: Arc<str> = sql.into();
        for some in rows.rows.chunks(ROWS_AT_ONCE) {
            let mut query = sqlx::query(AssertSqlSafe(Arc::clone(&sql))).persistent(!pooled);
            for at in 0..rows.columns.len() {
                let list = some.iter().map(|row| match row.get(at) {
                    Some(Parameter::Text(text)) => Some(text.clone()),
                    Some(Parameter::Number(number)) => Some(number.to_string()),
                    Some(Parameter::Null) | None => None,
                });
                query = query.bind(list.collect::<Vec<Option<String>>>());
            }
            query.execute(&mut *link).await?;
        }
        Ok(())
    }

    fn undid(error: &dyn sqlx::error::DatabaseError) -> bool {
        // serialization_failure, deadlock_detected.
        matches!(error.code().as_deref(), Some("40001" | "40P01"))
    }

    fn unfit(error: &dyn sqlx::error::DatabaseError) -> Option<String> {
        let code = error.code().unwrap_or(Cow::Borrowed(""));
        let what = unfit_in_words(&code)?;
        let error = error.try_downcast_ref::<PgDatabaseError>();
        let names = error.map(|error| [error.table(), error.column(), error.constraint()]);
        let names = names.into_iter().flatten().flatten();
        let names: Vec<&str> = names.filter_map(database::names_alone).collect();
        Some(match names.is_empty() {
            true => format!("{what} ({code})"),
            false => format!("{what}: {} ({code})", names.join(" ")),
        })
    }

    fn obligations(&self, wanted: &str) -> String {
        format!(
            "SELECT c.relname::text, n.nspname::text, a.attname::text \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
             WHERE c.relkind IN ('r', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull \
             AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '' \
             AND replace(lower(c.relname), '_', '') IN ({wanted})"
        )
    }

    fn cast_of_id(kind: &str) -> &'static str {
        match kind {
            "smallint" => "::smallint",
            "integer" => "::integer",
            "bigint" => "::bigint",
            "uuid" => "::uuid",
            "json" => "::json",
            "jsonb" => "::jsonb",
            _ => "",
        }
    }

    fn calendar(kind: &str) -> Option<(&'static str, &'static str)> {
        match kind {
            "timestamp with time zone" => Some(("::timestamptz", "+00")),
            "timestamp without time zone" => Some(("::timestamp", "")),
            _ => None,
        }
    }

    fn catalog(&self, wanted: &str, schema: Option<&str>) -> String {
        let visible = match schema {
            Some(schema) => format!("n.nspname = '{schema}'"),
            None => "pg_catalog.pg_table_is_visible(c.oid) AND n.nspname NOT IN ('pg_catalog', 'information_schema')".to_owned(),
        };
        format!(
            "SELECT c.relname::text, a.attname::text, pg_catalog.format_type(a.atttypid, NULL)::text, \
             (EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum \
             AND i.indpred IS NULL AND i.indisvalid))::int::text, n.nspname::text \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
             WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped \
             AND replace(lower(c.relname), '_', '') IN ({wanted}) AND {visible} ORDER BY n.nspname, c.relname, a.attnum"
        )
    }

    fn fault(error: &dyn sqlx::error::DatabaseError) -> Fault {
        let code = error.code().unwrap_or(Cow::Borrowed(""));
        // Source: PostgreSQL 17 manual, appendix A, error codes.
        match (code.get(..2).unwrap_or(""), &*code) {
            // query_canceled (statement_timeout), lock_not_available.
            (_, "57014" | "55P03") => Fault::Slow,
            // insufficient_privilege; invalid_catalog_name (no such database).
            (_, "42501" | "3D000") | ("28", _) => Fault::Denied,
            // "cached plan must not change result type"; a prepared statement that a pooler lost or knows twice.
            (_, "0A000" | "26000" | "42P05") => Fault::Stale,
            // syntax_error_or_access_rule_violation: no such table or column, types that do not compare; invalid_schema_name.
            ("42", _) | (_, "3F000") => Fault::Schema,
            // connection_exception, insufficient_resources (too many connections), operator_intervention (shutdown), system_error.
            ("08" | "53" | "57" | "58", _) => Fault::Unreachable,
            _ => Fault::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_not_to_blame_for_what_we_said_wrong() {
        for code in ["22023", "22P03", "22P04", "23505", "42601", "08006", ""] {
            assert_eq!(unfit_in_words(code), None, "{code}");
        }
        for code in [
            "22001", "22003", "22P02", "22P05", "23502", "23514", "P0001",
        ] {
            assert!(unfit_in_words(code).is_some(), "{code}");
        }
    }
}
