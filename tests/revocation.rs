//! Revocation, wherever it happens: seen passing, told by the store, told by another gateway, or not told because the line is down.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use vestibule::server::line;
use vestibule::session::feed::{Ended, Feed};
use vestibule::store::{self, Opened};

use crate::support::databases::{Dialect, Server, settings, shared};
use crate::support::wire::{RawApp, Wire, header};
use crate::support::{
    App, Gateway, PATIENCE, Setup, await_until, cookie, exchange, record, reply,
};

// ------------------------------------------------------------------------------------------------------- over PostgreSQL

/// The tables as the framework makes them, with people and sessions that live on for ever.
const TABLES: &str = r#"
CREATE TABLE "user" (id text PRIMARY KEY, name text, email text UNIQUE, "emailVerified" boolean, role text, banned boolean,
    "banExpires" timestamptz, "createdAt" timestamptz DEFAULT now(), "updatedAt" timestamptz DEFAULT now());
CREATE TABLE session (id text PRIMARY KEY, "expiresAt" timestamptz NOT NULL, token text UNIQUE, "createdAt" timestamptz DEFAULT now(),
    "updatedAt" timestamptz DEFAULT now(), "userId" text REFERENCES "user" ON DELETE CASCADE, "activeOrganizationId" text,
    "impersonatedBy" text);
CREATE TABLE member (id text PRIMARY KEY, "organizationId" text, "userId" text REFERENCES "user" ON DELETE CASCADE, role text,
    "createdAt" timestamptz DEFAULT now());
CREATE TABLE apikey (id text PRIMARY KEY, key text, "userId" text, enabled boolean DEFAULT true, permissions text, "expiresAt" timestamptz,
    "requestCount" integer DEFAULT 0, remaining integer, "lastRequest" timestamptz, "updatedAt" timestamptz);
INSERT INTO "user" (id, name, email, role) VALUES ('ada', 'Ada', 'ada@example.com', 'admin'), ('bob', 'Bob', 'bob@example.com', 'user');
INSERT INTO member VALUES ('m1', 'org', 'bob', 'owner');
INSERT INTO session (id, token, "userId", "expiresAt", "activeOrganizationId") VALUES
    ('s1', 'ada-1', 'ada', now() + interval '7 days', NULL), ('s2', 'ada-2', 'ada', now() + interval '7 days', NULL),
    ('s3', 'bob-1', 'bob', now() + interval '7 days', 'org');
INSERT INTO apikey (id, key, "userId") VALUES ('k1', 'hash-of-key', 'ada');
"#;

/// The runtime on which the stores' connections live, for the whole run.
fn stores() -> &'static tokio::runtime::Runtime {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime")
    })
}

fn open(url: &str) -> Opened {
    stores()
        .block_on(store::inspect(&settings(url)))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn database() -> (&'static Server, String) {
    let server = shared(Dialect::Postgres);
    let database = server.database();
    server.sql(&database, TABLES);
    (server, database)
}

/// An app whose auth endpoints do, by SQL, what the framework would have done.
fn app(server: &'static Server, database: &str) -> App {
    let database = database.to_owned();
    App::scripted(move |seen, stream| {
        if seen.line.starts_with("POST /api/auth/sign-out") {
            let token = seen.header("cookie").and_then(|cookie| {
                let (_, value) = cookie.split_once("session_token=")?;
                Some(value.split('.').next()?.to_owned())
            });
            let token = token.expect("a session cookie");
            server.sql(&database, &format!("DELETE FROM session WHERE token = '{token}'"));
        }
        reply(stream, 200, &[("content-type", "text/plain")], b"app");
    })
}

/// A gateway that would believe its memory for an hour, on a store at `url`.
fn gateway(app: &App, url: &str, change: impl FnOnce(&mut Setup)) -> Gateway {
    let opened = open(url);
    let mut setup = Setup::in_front_of(app.address);
    setup.sessions.cache_ttl = Duration::from_secs(3600);
    setup.revocation = line::Settings {
        feed: opened.feed,
        ..line::Settings::default()
    };
    change(&mut setup);
    let gateway = setup.start_from(opened.source);
    await_until("the line to be up", || line_is_up(&gateway));
    gateway
}

fn line_is_up(gateway: &Gateway) -> bool {
    gateway.running.gateway.line.state().is_some_and(|(_, up)| up)
}

fn ask(gateway: &Gateway, token: &str) -> u16 {
    gateway
        .get("/dashboard", &[("cookie", &cookie(token))])
        .status
}

fn triggers(url: &str) -> store::Triggers {
    stores()
        .block_on(store::triggers(&settings(url)))
        .unwrap_or_else(|error| panic!("{error}"))
        .expect("PostgreSQL has triggers")
}

/// Waits until a gateway refuses; it must not take long.
fn await_refusal(gateway: &Gateway, token: &str) {
    await_until("the session to be refused", || ask(gateway, token) == 401);
}

#[test]
fn a_sign_out_at_one_gateway_counts_at_the_other() {
    let (server, database) = database();
    let app = app(server, &database);
    let url = server.reader_url(&database);
    let [one, other] = [0, 1].map(|_| gateway(&app, &url, |_| {}));
    for gateway in [&one, &other] {
        for token in ["ada-1", "ada-2", "bob-1"] {
            assert_eq!(ask(gateway, token), 200);
        }
    }
    let signed_out = one.send(
        "POST",
        "/api/auth/sign-out",
        &[("cookie", &cookie("ada-1"))],
        b"",
    );
    assert_eq!(signed_out.status, 200);
    assert_eq!(ask(&one, "ada-1"), 401, "at once where it was seen");
    await_refusal(&other, "ada-1");
    for gateway in [&one, &other] {
        assert_eq!(ask(gateway, "ada-2"), 200);
        assert_eq!(ask(gateway, "bob-1"), 200);
    }
    // The other one was told nothing more, and forgot nothing else.
    assert_eq!(metric(&other, "vestibule_revocations_heard_total{what=\"session\"}"), 1.0);
    assert_eq!(metric(&other, "vestibule_session_revocation_lag_seconds_count"), 1.0);
    assert_eq!(metric(&one, "vestibule_revocations_heard_total{what=\"session\"}"), 0.0);
}

fn metric(gateway: &Gateway, series: &str) -> f64 {
    let answer = exchange(
        gateway.admin,
        b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    );
    let text = answer.text();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no {series} in\n{text}"));
    value.parse().expect("a number")
}

#[test]
fn what_plain_sql_ends_is_felt_where_triggers_are_and_what_it_leaves_is_not() {
    let (server, database) = database();
    let app = app(server, &database);
    let url = server.url(&database);
    let triggers = triggers(&url);
    server.sql(&database, &triggers.install);
    let gateway = gateway(&app, &server.reader_url(&database), |_| {});
    let heard = |what: &str| {
        metric(
            &gateway,
            &format!("vestibule_revocations_heard_total{{what=\"{what}\"}}"),
        )
    };
    let everybody = || {
        for token in ["ada-2", "bob-1"] {
            assert_eq!(ask(&gateway, token), 200);
        }
    };
    let sql = |text: &str| server.sql(&database, text);
    everybody();
    assert_eq!(ask(&gateway, "ada-1"), 200);
    assert_eq!(gateway.get("/admin", &[("cookie", &cookie("ada-2"))]).status, 200);

    // A row that is gone, and one that ended before its time.
    sql("DELETE FROM session WHERE token = 'ada-1'");
    await_refusal(&gateway, "ada-1");
    assert_eq!((heard("session"), heard("user")), (1.0, 0.0));
    everybody();

    // A role that was taken away.
    sql("UPDATE \"user\" SET role = 'user' WHERE id = 'ada'");
    await_until("the role to be gone", || {
        gateway.get("/admin", &[("cookie", &cookie("ada-2"))]).status == 403
    });
    assert_eq!((heard("session"), heard("user")), (1.0, 1.0));

    // What changes nothing about who anybody is says nothing: each of these comes before the next that is heard.
    sql("UPDATE session SET \"expiresAt\" = \"expiresAt\" + interval '1 day', \"updatedAt\" = now()");
    sql("UPDATE \"user\" SET \"updatedAt\" = now()");
    sql("UPDATE apikey SET \"requestCount\" = \"requestCount\" + 1, \"lastRequest\" = now(), remaining = 3, \"updatedAt\" = now()");
    sql("INSERT INTO session (id, token, \"userId\", \"expiresAt\") VALUES ('old', 'old', 'bob', now() - interval '2 days')");
    sql("DELETE FROM session WHERE token = 'old'");
    sql("UPDATE member SET role = 'member' WHERE id = 'm1'");
    await_until("the membership", || heard("user") >= 2.0);
    assert_eq!(
        (heard("session"), heard("user"), heard("api_key"), heard("all")),
        (1.0, 2.0, 0.0, 0.0)
    );

    // And each of these says exactly what it is.
    sql("UPDATE apikey SET enabled = false");
    await_until("the key", || heard("api_key") >= 1.0);
    sql("UPDATE session SET \"activeOrganizationId\" = 'other' WHERE token = 'bob-1'");
    await_until("the organization", || heard("session") >= 2.0);
    sql("UPDATE session SET token = 'bob-2' WHERE token = 'bob-1'");
    await_until("the rotated token, old and new", || heard("session") >= 4.0);
    await_refusal(&gateway, "bob-1");
    assert_eq!(ask(&gateway, "bob-2"), 200);
    sql("UPDATE session SET \"expiresAt\" = now() - interval '1 second' WHERE token = 'bob-2'");
    await_until("the shortened session", || heard("session") >= 5.0);
    sql("DELETE FROM \"user\" WHERE id = 'bob'");
    await_until("the user", || heard("user") >= 3.0);
    assert_eq!(ask(&gateway, "bob-2"), 401);
    assert_eq!(ask(&gateway, "ada-2"), 200);
    sql("TRUNCATE session");
    await_until("all of them", || heard("all") >= 1.0);
    assert_eq!(ask(&gateway, "ada-2"), 401);
}

#[test]
fn triggers_come_and_go_without_a_trace_and_the_app_never_feels_them() {
    let (server, database) = database();
    let url = server.url(&database);
    let count = |what: &str| {
        stores().block_on(async {
            use sqlx::Connection as _;
            let mut link = sqlx::PgConnection::connect(&url).await.expect("a connection");
            let sql = format!("SELECT count(*) FROM {what}");
            let (count,): (i64,) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
                .fetch_one(&mut link)
                .await
                .expect("a count");
            count
        })
    };
    let traces = || {
        count("pg_trigger WHERE tgname LIKE 'vestibule%'")
            + count("pg_proc WHERE proname LIKE 'vestibule%'")
    };
    assert_eq!(traces(), 0);
    let written = triggers(&url);
    assert_eq!(written.tables.len(), 4, "{:?}", written.tables);
    let run = |sql: &str| {
        stores()
            .block_on(store::run_triggers(&settings(&url), sql))
            .unwrap_or_else(|error| panic!("{error}\n{sql}"));
    };
    run(&written.install);
    let installed = traces();
    assert!(installed > 10, "{installed}");
    run(&triggers(&url).install);
    assert_eq!(traces(), installed, "a second time changes nothing");
    // Even when the function cannot do its work, the app's own statements go through: here it may not even call what it needs.
    server.sql(&database, "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC");
    server.sql(
        &database,
        "CREATE ROLE narrow_app; GRANT USAGE ON SCHEMA public TO narrow_app; GRANT ALL ON ALL TABLES IN SCHEMA public TO narrow_app",
    );
    server.sql(
        &database,
        "SET ROLE narrow_app; UPDATE \"user\" SET role = 'user' WHERE id = 'ada'; DELETE FROM session WHERE token = 'ada-1'",
    );
    assert_eq!(count("session"), 2);
    assert_eq!(count("\"user\" WHERE role = 'user'"), 2);
    run(&written.remove);
    assert_eq!(traces(), 0);
    run(&written.remove);
    // A role that may only read is told so, and nothing is left half done.
    let reader = settings(&server.reader_url(&database));
    let refused = stores().block_on(store::run_triggers(&reader, &written.install));
    assert!(refused.is_err_and(|error| error.is_configuration()));
    assert_eq!(traces(), 0);
}

#[test]
fn triggers_fit_the_tables_that_drizzle_and_prisma_make() {
    let server = shared(Dialect::Postgres);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/db");
    for dump in [
        "drizzle-postgres.sql",
        "full.postgres.sql",
        "serial.postgres.sql",
        "snake.postgres.sql",
        "uuid.postgres.sql",
        "core.postgres.sql",
    ] {
        let database = server.load(&folder.join(dump));
        let url = server.url(&database);
        let written = triggers(&url);
        stores()
            .block_on(store::run_triggers(&settings(&url), &written.install))
            .unwrap_or_else(|error| panic!("{dump}: {error}\n{}", written.install));
        assert!(written.tables.len() >= 2, "{dump}: {:?}", written.tables);
    }
}
