//! Session sources over tables as people have them: other names, other types, other zones, poolers in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vestibule::session::{Record, Source};
use vestibule::store::{self, Detected, OpenError, SchemaError, Settings};
use vestibule::time::UnixMs;

use crate::support::databases::{Dialect, Folder, Server, settings, shared};

/// 2026-11-21T02:52:15.028Z, the expiry in every table here.
const EXPIRY: UnixMs = UnixMs(1_795_229_535_028);

/// A database made by `sql`, opened after `change` had its say.
async fn try_open(
    dialect: Option<Dialect>,
    sql: &str,
    change: impl FnOnce(&mut Settings),
) -> Result<(Arc<dyn Source>, Detected, Folder), OpenError> {
    let folder = Folder::new("sources");
    let url = match dialect {
        Some(dialect) => {
            let server = shared(dialect);
            let database = server.database();
            server.sql(&database, sql);
            server.url(&database)
        }
        None => {
            let path = folder.join("app.db");
            let url = format!("sqlite:{}", path.display());
            let mut app: sqlx::SqliteConnection =
                <sqlx::SqliteConnection as sqlx::Connection>::connect(&format!("{url}?mode=rwc"))
                    .await
                    .unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(&mut app)
                .await
                .unwrap();
            url
        }
    };
    let mut settings = settings(&url);
    change(&mut settings);
    let opened = store::inspect(&settings).await?;
    Ok((opened.source, opened.detected, folder))
}

async fn found(dialect: Option<Dialect>, sql: &str, change: impl FnOnce(&mut Settings)) -> Record {
    let (source, _, _folder) = try_open(dialect, sql, change)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    let record = source
        .find("Tok1")
        .await
        .unwrap()
        .unwrap_or_else(|| panic!("{sql}: not found"));
    assert_eq!(
        source.find("tok1").await.unwrap(),
        None,
        "{sql}: other capitals"
    );
    assert_eq!(
        source.find("Tok1 ").await.unwrap(),
        None,
        "{sql}: a space at the end"
    );
    record
}

fn as_is(_: &mut Settings) {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_sqlite_holds_a_date() {
    for (kind, value) in [
        ("date", "'2026-11-21T02:52:15.028Z'"),
        ("text", "'2026-11-21T02:52:15.028Z'"),
        ("integer", "1795229535028"),
        ("timestamp", "1795229535028"),
        ("real", "1795229535028.0"),
        ("datetime", "1795229535028"),
        ("text", "'2026-11-21 02:52:15.028'"),
        ("numeric", "1795229535.028"),
    ] {
        let sql = format!(
            "CREATE TABLE user (id text PRIMARY KEY, email text, emailVerified integer, banned boolean);
             CREATE TABLE session (id text PRIMARY KEY, token text UNIQUE, userId text, expiresAt {kind});
             INSERT INTO user VALUES ('u', 'a@b', 1, 0); INSERT INTO session VALUES ('s', 'Tok1', 'u', {value})"
        );
        let record = found(None, &sql, as_is).await;
        assert_eq!(record.expires_at, EXPIRY, "{kind} {value}");
        assert!(record.email_verified && !record.banned);
        assert_eq!((record.created_at, record.role), (None, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_postgres_holds_dates_ids_and_flags() {
    for (date, value) in [
        ("timestamptz", "'2026-11-21 02:52:15.028+00'"),
        ("timestamptz", "'2026-11-21 08:22:15.028999+05:30'"),
        ("timestamp", "'2026-11-21 02:52:15.028'"),
        ("timestamp", "'2026-11-21 02:52:15.028999'"),
        ("timestamp(3)", "'2026-11-21 02:52:15.028'"),
        ("bigint", "1795229535028"),
        ("text", "'2026-11-21T02:52:15.028Z'"),
    ] {
        for (id, user, shown) in [
            ("text", "'u'", "u"),
            ("varchar(36)", "'u'", "u"),
            ("bigint", "7", "7"),
            (
                "uuid",
                "'36B81DBD-3c85-4b2c-927d-4b4e2a096ab5'",
                "36b81dbd-3c85-4b2c-927d-4b4e2a096ab5",
            ),
        ] {
            let sql = format!(
                "CREATE TABLE users (id {id} PRIMARY KEY, email varchar(200), email_verified boolean, banned boolean);
                 CREATE TABLE sessions (id {id} PRIMARY KEY, token varchar(255) UNIQUE, user_id {id}, expires_at {date});
                 INSERT INTO users VALUES ({user}, 'a@b', true, NULL); INSERT INTO sessions VALUES ({user}, 'Tok1', {user}, {value})"
            );
            let record = found(Some(Dialect::Postgres), &sql, as_is).await;
            assert_eq!(record.expires_at, EXPIRY, "{date} {value}");
            assert_eq!((&*record.user_id, &*record.session_id), (shown, shown));
            assert!(record.email_verified && !record.banned);
            if date != "timestamptz" {
                break; // ids and dates do not meet; one round over the ids will do
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_infinity_is_later_than_any_clock() {
    let sql = "CREATE TABLE \"user\" (id text); CREATE TABLE session (id text, token text, \"userId\" text, \"expiresAt\" timestamptz);
               INSERT INTO \"user\" VALUES ('u'); INSERT INTO session VALUES ('s', 'Tok1', 'u', 'infinity')";
    assert!(found(Some(Dialect::Postgres), sql, as_is).await.expires_at > EXPIRY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_mysql_holds_dates_flags_and_tokens() {
    for (date, value) in [
        ("timestamp(3)", "'2026-11-21 02:52:15.028'"),
        ("datetime(3)", "'2026-11-21 02:52:15.028'"),
        ("datetime(6)", "'2026-11-21 02:52:15.028999'"),
        ("bigint", "1795229535028"),
        ("varchar(40)", "'2026-11-21T02:52:15.028Z'"),
    ] {
        for token in [
            "varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
            "varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            "varchar(255) CHARACTER SET latin1",
            "varbinary(255)",
            "text",
        ] {
            for flag in ["boolean", "bit(1)", "int"] {
                let sql = format!(
                    "SET time_zone = '+00:00';
                     CREATE TABLE user (id bigint PRIMARY KEY, email text, emailVerified {flag}, banned {flag}, name json);
                     CREATE TABLE session (id varchar(36) PRIMARY KEY, token {token}, userId bigint, expiresAt {date});
                     INSERT INTO user VALUES (7, 'a@b', 1, 0, '\"n\"'); INSERT INTO session VALUES ('s', 'Tok1', 7, {value})"
                );
                let record = found(Some(Dialect::MySql), &sql, as_is).await;
                assert_eq!(record.expires_at, EXPIRY, "{date} {value}");
                assert!(record.email_verified && !record.banned, "{flag}");
                assert_eq!(&*record.user_id, "7");
                if date != "timestamp(3)" {
                    break;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_local_time_is_read_with_its_offset_and_a_server_zone_is_warned_about() {
    // Written by a process in New York: 21:52 the day before.
    let sql = "SET time_zone = '+00:00'; CREATE TABLE user (id text); \
               CREATE TABLE session (id text, token varchar(255) UNIQUE, userId text, expiresAt timestamp(3)); \
               INSERT INTO user VALUES ('u'); INSERT INTO session VALUES ('s', 'Tok1', 'u', '2026-11-20 21:52:15.028')";
    let (source, detected, _folder) = try_open(Some(Dialect::MySql), sql, |settings| {
        settings.zone_offset_seconds = -18_000
    })
    .await
    .unwrap();
    assert_eq!(
        source.find("Tok1").await.unwrap().unwrap().expires_at,
        EXPIRY
    );
    assert!(
        detected
            .warnings
            .iter()
            .any(|warning| warning.contains("+05:30")),
        "{detected}"
    );
    // Rows that compare equal to one token: the one that is equal byte for byte counts.
    let sql = "CREATE TABLE user (id text); CREATE TABLE session (id text, token varchar(255), userId text, expiresAt bigint); \
               INSERT INTO user VALUES ('u'); INSERT INTO session VALUES ('no', 'TOK1', 'u', 1), ('yes', 'Tok1', 'u', 2), ('neither', 'tok1 ', 'u', 3)";
    let (source, _, _folder) = try_open(Some(Dialect::MySql), sql, as_is).await.unwrap();
    assert_eq!(
        &*source.find("Tok1").await.unwrap().unwrap().session_id,
        "yes"
    );
    assert_eq!(
        &*source.find("TOK1").await.unwrap().unwrap().session_id,
        "no"
    );
    assert_eq!(source.find("tOK1").await.unwrap(), None);
}

const TABLES: &str = "CREATE TABLE IN.\"user\" (id uuid PRIMARY KEY, email text, role text);
    CREATE TABLE IN.session (id text, token text UNIQUE, \"userId\" uuid, \"expiresAt\" bigint, \"activeOrganizationId\" text);
    CREATE TABLE IN.member (id text, \"organizationId\" uuid, \"userId\" uuid, role text);
    INSERT INTO IN.\"user\" VALUES ('36b81dbd-3c85-4b2c-927d-4b4e2a096ab5', 'WHO', 'admin');
    INSERT INTO IN.session VALUES ('s', 'Tok1', '36b81dbd-3c85-4b2c-927d-4b4e2a096ab5', 1795229535028, 'abfd509b-3fa1-405b-b9d3-cb32a917af92');
    INSERT INTO IN.member VALUES ('m', 'abfd509b-3fa1-405b-b9d3-cb32a917af92', '36b81dbd-3c85-4b2c-927d-4b4e2a096ab5', 'owner'), \
    ('twice', 'abfd509b-3fa1-405b-b9d3-cb32a917af92', '36b81dbd-3c85-4b2c-927d-4b4e2a096ab5', 'owner');";

fn tables_in(schema: &str, who: &str) -> String {
    TABLES
        .replace("IN.", &format!("{schema}."))
        .replace("WHO", who)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_schemas_by_search_path_by_key_and_by_url() {
    let sql = format!(
        "CREATE SCHEMA auth; {} {}",
        tables_in("public", "public@x"),
        tables_in("auth", "auth@x")
    );
    let postgres = Some(Dialect::Postgres);
    let public = found(postgres, &sql, as_is).await;
    assert_eq!(public.email.as_deref(), Some("public@x"));
    // Text against uuid: joined all the same, and once.
    assert_eq!(public.organization_role.as_deref(), Some("owner"));
    let by_key = found(postgres, &sql, |settings| {
        settings.schema.schema = Some("auth".into())
    })
    .await;
    assert_eq!(by_key.email.as_deref(), Some("auth@x"));
    let with = |settings: &mut Settings, parameters: &str| {
        settings.url =
            vestibule::secret::Secret::new(format!("{}?{parameters}", settings.url.expose()));
    };
    let by_url = found(postgres, &sql, |settings| {
        with(settings, "schema=auth&connection_limit=1")
    })
    .await;
    assert_eq!(by_url.email.as_deref(), Some("auth@x"));
    let by_path = found(postgres, &sql, |settings| {
        with(settings, "options=-c%20search_path%3Dauth")
    })
    .await;
    assert_eq!(by_path.email.as_deref(), Some("auth@x"));
    for pooled in ["pgbouncer=true", "statement-cache-capacity=0"] {
        let record = found(postgres, &sql, |settings| with(settings, pooled)).await;
        assert_eq!(record.email.as_deref(), Some("public@x"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_ones_own_are_mapped_and_doubt_is_asked_about() {
    let sql = "CREATE TABLE people (pid text PRIMARY KEY, mail text); CREATE TABLE logins (id text, secret text, person text, until integer); \
               INSERT INTO people VALUES ('u', 'a@b'); INSERT INTO logins VALUES ('s', 'Tok1', 'u', 1795229535028)";
    let sql = format!("{sql};");
    let map = |settings: &mut Settings| {
        let schema = &mut settings.schema;
        schema.tables = [("user", "people"), ("session", "logins")]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
        schema.columns = [
            ("user.id", "pid"),
            ("user.email", "mail"),
            ("session.token", "secret"),
            ("session.userId", "person"),
            ("session.expiresAt", "until"),
        ]
        .map(|(k, v)| (k.into(), v.into()))
        .into();
    };
    let (source, detected, _folder) = try_open(None, &sql, map).await.unwrap();
    assert_eq!(
        source.find("Tok1").await.unwrap().unwrap().email.as_deref(),
        Some("a@b")
    );
    let shown = detected.to_string();
    for part in [
        "table session: logins",
        "session.userId: person (text)",
        "dates: milliseconds",
        "no index begins with column `secret`",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let error = try_open(None, &sql, as_is).await.err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::Schema {
                cause: SchemaError::NoTable {
                    logical: "session",
                    ..
                },
                ..
            }
        ),
        "{error}"
    );

    let both = "CREATE TABLE user (id text); CREATE TABLE session (id text, token text, userId text, expiresAt date); \
                CREATE TABLE sessions (id text, token text, user_id text, expires_at integer)";
    let error = try_open(None, both, as_is).await.err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::Schema {
                cause: SchemaError::WhichTable { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(error.is_configuration() && error.advice().contains("sessions.schema.tables"));
    let said = |settings: &mut Settings| {
        drop(
            settings
                .schema
                .tables
                .insert("session".into(), "sessions".into()),
        )
    };
    assert!(try_open(None, both, said).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_its_user_is_no_session() {
    for dialect in [None, Some(Dialect::Postgres), Some(Dialect::MySql)] {
        let sql = "CREATE TABLE users (id varchar(9)); CREATE TABLE session (id varchar(9), token varchar(9), user_id varchar(9), expires_at bigint); \
                   INSERT INTO session VALUES ('s', 'Tok1', 'gone', 1795229535028)";
        let (source, _, _folder) = try_open(dialect, sql, as_is).await.unwrap();
        assert_eq!(source.find("Tok1").await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_used_as_the_url_says() {
    for dialect in [Dialect::Postgres, Dialect::MySql] {
        let server = Server::start(dialect);
        let certificate = server.offer_tls();
        server.stop();
        server.resume();
        let (database, user) = (
            server.database(),
            if dialect == Dialect::MySql {
                "`user`"
            } else {
                "\"user\""
            },
        );
        server.sql(&database, &format!(
            "CREATE TABLE {user} (id varchar(9)); CREATE TABLE session (id varchar(9), token varchar(9), user_id varchar(9), expires_at bigint); \
             INSERT INTO {user} VALUES ('u'); INSERT INTO session VALUES ('s', 'Tok1', 'u', 1795229535028)"
        ));
        let url = server.url(&database);
        let trusted = certificate.display();
        let (plain, required, verified, unknown) = match dialect {
            Dialect::Postgres => (
                "sslmode=disable".to_owned(),
                "sslmode=require".to_owned(),
                format!("sslmode=verify-full&sslrootcert={trusted}"),
                "sslmode=verify-full".to_owned(),
            ),
            Dialect::MySql => (
                "ssl-mode=DISABLED".to_owned(),
                "ssl-mode=REQUIRED".to_owned(),
                format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={trusted}"),
                "ssl-mode=VERIFY_IDENTITY".to_owned(),
            ),
        };
        for parameters in [plain, required, verified] {
            let opened = store::open(&settings(&format!("{url}?{parameters}"))).await;
            let source = opened.unwrap_or_else(|error| panic!("{dialect:?} {parameters}: {error}"));
            assert!(source.find("Tok1").await.unwrap().is_some(), "{parameters}");
        }
        let error = store::open(&settings(&format!("{url}?{unknown}")))
            .await
            .err()
            .unwrap();
        assert!(
            matches!(error, OpenError::Unreachable { .. }),
            "a certificate nobody vouches for: {error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_that_cannot_run_is_told_at_start() {
    let sql = "CREATE TABLE \"user\" (id text); CREATE TABLE session (id text, token uuid, \"userId\" text, \"expiresAt\" bigint)";
    let error = try_open(Some(Dialect::Postgres), sql, as_is)
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, OpenError::Lookup { .. }) && error.is_configuration(),
        "{error:?}"
    );
}

#[test]
#[ignore = "a measurement for people: cargo test --release --test all latency -- --ignored --nocapture"]
fn latency() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for dialect in [None, Some(Dialect::Postgres), Some(Dialect::MySql)] {
            let quoted = if dialect == Some(Dialect::MySql) { "`user`" } else { "\"user\"" };
            let sql = format!(
                "CREATE TABLE {quoted} (id varchar(36) PRIMARY KEY, email text); \
                 CREATE TABLE session (id varchar(36) PRIMARY KEY, token varchar(99) UNIQUE, user_id varchar(36), expires_at bigint); \
                 INSERT INTO {quoted} VALUES ('u', 'a@b'); INSERT INTO session VALUES ('s', 'Tok1', 'u', 1795229535028)"
            );
            let (source, _, _folder) = try_open(dialect, &sql, as_is).await.unwrap();
            let mut took = Vec::new();
            for _ in 0..3000 {
                let began = Instant::now();
                source.find("Tok1").await.unwrap().unwrap();
                took.push(began.elapsed());
            }
            took.sort();
            let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or(Duration::MAX);
            println!("{}: p50 {:?} p90 {:?} p99 {:?}", source.name(), at(50), at(90), at(99));
        }
    });
}
