//! Revocation, wherever it happens: seen passing, told by the store, told by another gateway, or not told because the line is down.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use vestibule::cli::{self, World};
use vestibule::server::line;
use vestibule::session::feed::{Ended, Feed, Listener, TokenDigest};
use vestibule::session::{BoxFuture, SourceError};
use vestibule::store::{self, Opened};
use vestibule::time::UnixMs;

use crate::support::databases::{Dialect, Folder, Server, settings, shared};
use crate::support::redis::{Redis, run};
use crate::support::wire::{RawApp, Wire, header};
use crate::support::{
    App, Gateway, NOW, Setup, await_until, cookie, exchange, record, reply, route, rule, signed_in,
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
            server.sql(
                &database,
                &format!("DELETE FROM session WHERE token = '{token}'"),
            );
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
    gateway
        .running
        .gateway
        .line
        .state()
        .is_some_and(|(_, up)| up)
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
    assert_eq!(
        metric(
            &other,
            "vestibule_revocations_heard_total{what=\"session\"}"
        ),
        1.0
    );
    assert_eq!(
        metric(&other, "vestibule_session_revocation_lag_seconds_count"),
        1.0
    );
    assert_eq!(
        metric(&one, "vestibule_revocations_heard_total{what=\"session\"}"),
        0.0
    );
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
    assert_eq!(
        gateway
            .get("/admin", &[("cookie", &cookie("ada-2"))])
            .status,
        200
    );

    // A row that is gone, and one that ended before its time.
    sql("DELETE FROM session WHERE token = 'ada-1'");
    await_refusal(&gateway, "ada-1");
    assert_eq!((heard("session"), heard("user")), (1.0, 0.0));
    everybody();

    // A role that was taken away.
    sql("UPDATE \"user\" SET role = 'user' WHERE id = 'ada'");
    await_until("the role to be gone", || {
        gateway
            .get("/admin", &[("cookie", &cookie("ada-2"))])
            .status
            == 403
    });
    assert_eq!((heard("session"), heard("user")), (1.0, 1.0));

    // What changes nothing about who anybody is says nothing: each of these comes before the next that is heard.
    sql(
        "UPDATE session SET \"expiresAt\" = \"expiresAt\" + interval '1 day', \"updatedAt\" = now()",
    );
    sql("UPDATE \"user\" SET \"updatedAt\" = now()");
    sql(
        "UPDATE apikey SET \"requestCount\" = \"requestCount\" + 1, \"lastRequest\" = now(), remaining = 3, \"updatedAt\" = now()",
    );
    sql(
        "INSERT INTO session (id, token, \"userId\", \"expiresAt\") VALUES ('old', 'old', 'bob', now() - interval '2 days')",
    );
    sql("DELETE FROM session WHERE token = 'old'");
    sql("UPDATE member SET role = 'member' WHERE id = 'm1'");
    await_until("the membership", || heard("user") >= 2.0);
    assert_eq!(
        (
            heard("session"),
            heard("user"),
            heard("api_key"),
            heard("all")
        ),
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
            let mut link = sqlx::PgConnection::connect(&url)
                .await
                .expect("a connection");
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
    server.sql(
        &database,
        "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC",
    );
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

#[test]
fn the_command_prints_installs_and_removes_the_triggers() {
    let (server, database) = database();
    let folder = Folder::new("triggers");
    let config = |source: &str| {
        format!(
            "[upstream]\nurl = \"http://127.0.0.1:3000\"\n[better_auth]\nsecret = {{ env = \"SECRET\" }}\n\
             [sessions]\nsource = \"{source}\"\n[routes]\ndefault = \"signed-in\"\n"
        )
    };
    std::fs::write(
        folder.join("vestibule.toml"),
        config(&server.reader_url(&database)),
    )
    .unwrap();
    std::fs::write(folder.join("redis.toml"), config("redis://127.0.0.1:1")).unwrap();
    let command = |arguments: &[&str]| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut world = World {
            environment: [
                ("SECRET".to_owned(), crate::support::SECRET.to_owned()),
                ("ADMIN_URL".to_owned(), server.url(&database)),
            ]
            .into(),
            folder: folder.join("."),
            out: &mut out,
            err: &mut err,
            terminal: false,
        };
        let words = ["vestibule", "db", "triggers"].iter().chain(arguments);
        let code = cli::run(words.map(Into::into), &mut world, cli::edges());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (code, text(out), text(err))
    };
    let (code, printed, err) = command(&["print"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(printed, triggers(&server.url(&database)).install);
    // The role of the gateway may only read.
    let (code, _, err) = command(&["install"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("permission denied"), "{err}");
    let (code, out, err) = command(&["install", "--database-url-env", "ADMIN_URL"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.starts_with("installed on ") && out.contains("\"session\""),
        "{out}"
    );
    let (code, out, err) = command(&["remove", "--database-url-env", "ADMIN_URL"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("removed from "), "{out}");
    let (code, _, err) = command(&["install", "--database-url-env", "NONE"]);
    assert_eq!(code, 2);
    assert!(err.contains("the variable NONE is not set"), "{err}");
    // Redis needs none; a file cannot have any.
    let (code, out, err) = command(&["print", "--config", "redis.toml"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("CONFIG SET notify-keyspace-events Kg$x"),
        "{out}"
    );
    assert_eq!(command(&["install", "--config", "redis.toml"]).0, 3);
}

// ---------------------------------------------------------------------------------------------- while nothing can be heard

/// A road to a server, which can be cut, or carry nothing without a word.
struct Road {
    address: SocketAddr,
    state: Arc<AtomicU8>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

const CARRIES: u8 = 0;
const HANGS: u8 = 1;
const CUT: u8 = 2;

impl Road {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (state, open) = (Arc::new(AtomicU8::new(CARRIES)), Arc::default());
        let road = Self {
            address,
            state: Arc::clone(&state),
            open: Arc::clone(&open),
        };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if state.load(Ordering::SeqCst) == CUT {
                    continue;
                }
                let server = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let state = Arc::clone(&state);
                    thread::spawn(move || carry(from, to, &state));
                }
                open.lock().unwrap().extend([client, server]);
            }
        });
        road
    }

    fn becomes(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
        if state == CUT {
            for stream in self.open.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8) {
    let mut piece = [0; 16 * 1024];
    loop {
        match from.read(&mut piece) {
            Ok(0) | Err(_) => break,
            // What hangs is lost: as a router would do it.
            Ok(_) if state.load(Ordering::SeqCst) == HANGS => {}
            Ok(read) => {
                if to.write_all(&piece[..read]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = io::Result::ok(to.shutdown(Shutdown::Both));
}

/// The line over `url`, wherever that leads.
fn line_at(url: &str) -> Option<Arc<dyn Feed>> {
    let line = stores().block_on(store::line(&settings(url)));
    line.unwrap_or_else(|error| panic!("{error}"))
}

fn asked_the_store(gateway: &Gateway) -> f64 {
    metric(
        gateway,
        "vestibule_validation_seconds_count{tier=\"store\"}",
    )
}

/// Whether a request of this session asks the store; it must pass.
fn asks(gateway: &Gateway, token: &str) -> bool {
    let before = asked_the_store(gateway);
    assert_eq!(ask(gateway, token), 200);
    asked_the_store(gateway) > before
}

#[test]
fn while_the_line_is_down_every_request_asks_the_store_and_afterwards_nothing_old_is_believed() {
    let (server, database) = database();
    let app = app(server, &database);
    let url = server.reader_url(&database);
    server.sql(&database, &triggers(&server.url(&database)).install);
    let road = Road::to(server.port);
    let through = url.replace(
        &format!(":{}", server.port),
        &format!(":{}", road.address.port()),
    );
    let gateway = gateway(&app, &url, |setup| {
        setup.revocation.feed = line_at(&through)
    });
    let lost = || metric(&gateway, "vestibule_revocation_line_lost_total");
    for (round, how) in [CUT, HANGS, CUT].into_iter().enumerate() {
        let case = format!("round {round}");
        let doomed = format!("doomed-{round}");
        let missed = format!("missed-{round}");
        for token in [&doomed, &missed] {
            server.sql(
                &database,
                &format!("INSERT INTO session (id, token, \"userId\", \"expiresAt\") VALUES ('{token}', '{token}', 'bob', now() + interval '7 days')"),
            );
            assert_eq!(ask(&gateway, token), 200);
            assert!(!asks(&gateway, token), "{case}: remembered");
        }
        assert_eq!(ask(&gateway, "ada-1"), 200);
        assert!(!asks(&gateway, "ada-1"), "{case}: remembered");

        road.becomes(how);
        await_until("the loss to be noticed", || !line_is_up(&gateway));
        assert_eq!(lost(), round as f64 + 1.0, "{case}");
        assert_eq!(metric(&gateway, "vestibule_revocation_line_up"), 0.0);
        assert!(readiness(&gateway).contains("[failing] revocations (postgres)"));
        // Nobody hears of this, and nobody is let in.
        server.sql(
            &database,
            &format!("DELETE FROM session WHERE token = '{doomed}'"),
        );
        assert_eq!(ask(&gateway, &doomed), 401, "{case}");
        for _ in 0..2 {
            assert!(asks(&gateway, "ada-1"), "{case}: read through");
        }
        server.sql(
            &database,
            &format!("DELETE FROM session WHERE token = '{missed}'"),
        );

        // Connections of the road that hung are cut by then: whoever waits on them would wait for the system to give up.
        road.becomes(CUT);
        road.becomes(CARRIES);
        await_until("the line to be up again", || line_is_up(&gateway));
        assert_eq!(metric(&gateway, "vestibule_revocation_line_up"), 1.0);
        assert!(readiness(&gateway).contains("[ok] revocations (postgres)"));
        assert_eq!(ask(&gateway, &missed), 401, "{case}: a missed message");
        assert!(asks(&gateway, "ada-1"), "{case}: everything was forgotten");
        assert!(!asks(&gateway, "ada-1"), "{case}: and is remembered again");
        // It hears again.
        server.sql(
            &database,
            "UPDATE \"user\" SET name = name || '.' WHERE id = 'ada'",
        );
        await_until("a change to be heard", || asks(&gateway, "ada-1"));
    }
}

fn readiness(gateway: &Gateway) -> String {
    exchange(
        gateway.admin,
        b"GET /readyz?verbose HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    )
    .text()
}

#[test]
fn a_line_that_the_database_breaks_comes_back_by_itself() {
    let (server, database) = database();
    let app = app(server, &database);
    let gateway = gateway(&app, &server.reader_url(&database), |_| {});
    assert_eq!(ask(&gateway, "ada-1"), 200);
    assert!(!asks(&gateway, "ada-1"));
    server.sql(
        &database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name = 'vestibule (revocations)'",
    );
    await_until("the loss to be noticed", || {
        metric(&gateway, "vestibule_revocation_line_lost_total") >= 1.0
    });
    await_until("the line to be up again", || line_is_up(&gateway));
    assert!(asks(&gateway, "ada-1"), "everything was forgotten");
    assert!(!asks(&gateway, "ada-1"));
}

#[test]
fn a_line_that_never_came_up_makes_memory_useless_only_where_it_was_promised() {
    let (server, database) = database();
    let app = app(server, &database);
    let url = server.reader_url(&database);
    let road = Road::to(server.port);
    road.becomes(CUT);
    let through = url.replace(
        &format!(":{}", server.port),
        &format!(":{}", road.address.port()),
    );
    for promised in [false, true] {
        let mut setup = Setup::in_front_of(app.address);
        setup.revocation = line::Settings {
            feed: line_at(&through),
            promised,
            recheck: Duration::ZERO,
        };
        let gateway = setup.start_from(open(&url).source);
        assert_eq!(ask(&gateway, "ada-1"), 200);
        assert_eq!(asks(&gateway, "ada-1"), promised, "promised: {promised}");
        road.becomes(CARRIES);
        await_until("the line to be up", || line_is_up(&gateway));
        assert_eq!(ask(&gateway, "ada-1"), 200);
        assert!(!asks(&gateway, "ada-1"));
        road.becomes(CUT);
    }
}

#[test]
fn what_could_not_be_told_is_told_when_the_line_is_back() {
    let (server, database) = database();
    let app = app(server, &database);
    let url = server.reader_url(&database);
    let road = Road::to(server.port);
    let through = url.replace(
        &format!(":{}", server.port),
        &format!(":{}", road.address.port()),
    );
    let one = gateway(&app, &url, |setup| {
        setup.revocation.feed = line_at(&through)
    });
    let other = gateway(&app, &url, |_| {});
    assert_eq!(ask(&other, "ada-1"), 200);
    road.becomes(CUT);
    await_until("the loss to be noticed", || !line_is_up(&one));
    one.send(
        "POST",
        "/api/auth/sign-out",
        &[("cookie", &cookie("ada-1"))],
        b"",
    );
    assert_eq!(ask(&one, "ada-1"), 401);
    assert_eq!(ask(&other, "ada-1"), 200, "it cannot know yet");
    road.becomes(CARRIES);
    await_refusal(&other, "ada-1");
}

// ---------------------------------------------------------------------------------------------------------------- over Redis

#[test]
fn over_redis_a_revocation_counts_at_the_other_gateway_and_a_lost_line_at_none() {
    let server = Redis::start();
    let key = |token: &str| format!("better-auth:{token}");
    let session = |token: &str, user: &str| {
        let expires = "2026-12-31T00:00:00.000Z";
        let value = serde_json::json!({
            "session": { "id": token, "token": token, "userId": user, "expiresAt": expires },
            "user": { "id": user, "name": user, "email": format!("{user}@example.com"), "emailVerified": true },
        });
        run::<()>(
            &mut server.connect(),
            &["SET", &key(token), &value.to_string()],
        );
    };
    let framework = "Abcdefghijklmnopqrstuvwxyz012345";
    for (token, user) in [("ada-1", "ada"), (framework, "ada"), ("bob-1", "bob")] {
        session(token, user);
    }
    let url = server.url(0);
    let deleting = url.clone();
    let app = App::scripted(move |seen, stream| {
        if seen.line.starts_with("POST /api/auth/sign-out") {
            let mut link = crate::support::redis::connect(&deleting);
            run::<()>(&mut link, &["DEL", "better-auth:ada-1"]);
        }
        reply(stream, 200, &[], b"app");
    });
    // Before anybody listens: gateways look which events there are.
    let events = stores().block_on(store::keyspace_events(&settings(&url), true));
    assert!(events.is_ok_and(|events| events.before.is_empty() && events.after.contains('g')));
    let road = Road::to(server.port);
    let through = format!("redis://{}/0", road.address);
    let one = gateway(&app, &url, |_| {});
    let other = gateway(&app, &url, |setup| {
        setup.revocation.feed = line_at(&through)
    });
    for gateway in [&one, &other] {
        for token in ["ada-1", framework, "bob-1"] {
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
    assert_eq!(ask(&one, "ada-1"), 401);
    await_refusal(&other, "ada-1");
    // By the app alone.
    run::<()>(&mut server.connect(), &["DEL", &key(framework)]);
    await_refusal(&one, framework);
    await_refusal(&other, framework);
    assert!(!asks(&other, "bob-1"), "somebody else's session stays");

    for (doomed, how) in [("bob-2", CUT), ("bob-3", HANGS)] {
        session(doomed, "bob");
        await_until("it to be remembered", || !asks(&other, doomed));
        await_until("it to be remembered", || !asks(&other, "bob-1"));
        road.becomes(how);
        await_until("the loss to be noticed", || !line_is_up(&other));
        run::<()>(&mut server.connect(), &["DEL", &key(doomed)]);
        assert_eq!(ask(&other, doomed), 401);
        assert!(asks(&other, "bob-1"), "read through");
        road.becomes(CUT);
        road.becomes(CARRIES);
        await_until("the line to be up again", || line_is_up(&other));
        assert!(asks(&other, "bob-1"), "everything was forgotten");
        assert_eq!(ask(&other, doomed), 401);
    }
}

// ------------------------------------------------------------------------------------------------- everything that passes by

/// A line that keeps what is told.
#[derive(Default)]
struct Notebook(Mutex<Vec<Ended>>);

impl Feed for Notebook {
    fn name(&self) -> &'static str {
        "notebook"
    }

    fn listen<'a>(&'a self, listener: &'a dyn Listener) -> BoxFuture<'a, ()> {
        listener.regained();
        Box::pin(std::future::pending())
    }

    fn tell<'a>(&'a self, what: &'a Ended) -> BoxFuture<'a, Result<(), SourceError>> {
        self.0.lock().unwrap().push(what.clone());
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Whose sessions a row of the table ends: `mine` and `same` are Ada's, `mate` is active in the same organization, `other` is Bob's.
const NOBODY: &[&str] = &[];
const KEY: &[&str] = &["the API key"];
const MINE: &[&str] = &["mine"];
const ADA: &[&str] = &["mine", "same"];
const BOB: &[&str] = &["mine", "other"];
const MATES: &[&str] = &["mine", "same", "mate"];
const ALL: &[&str] = &["mine", "same", "mate", "other"];

/// Every endpoint that creates, changes or revokes sessions: method, path, body, whose sessions are asked for anew.
const ROWS: &[(&str, &str, &str, &[&str])] = &[
    // New sessions end none.
    (
        "POST",
        "/sign-in/email",
        r#"{"email":"a@b.c","password":"x"}"#,
        NOBODY,
    ),
    ("POST", "/sign-in/username", "{}", NOBODY),
    ("POST", "/sign-in/phone-number", "{}", NOBODY),
    ("POST", "/sign-up/email", "{}", NOBODY),
    ("POST", "/sign-in/anonymous", "{}", NOBODY),
    ("POST", "/sign-in/email-otp", "{}", NOBODY),
    ("POST", "/siwe/verify", "{}", NOBODY),
    ("POST", "/one-tap/callback", "{}", NOBODY),
    ("POST", "/sign-in/social", "{}", NOBODY),
    ("GET", "/callback/github?code=x&state=y", "", NOBODY),
    ("POST", "/callback/apple", "{}", NOBODY),
    ("GET", "/oauth-proxy-callback?x=y", "", NOBODY),
    ("GET", "/magic-link/verify?token=x", "", NOBODY),
    ("POST", "/passkey/verify-authentication", "{}", NOBODY),
    ("POST", "/device/token", "{}", NOBODY),
    ("POST", "/one-time-token/verify", r#"{"token":"x"}"#, NOBODY),
    ("GET", "/get-session", "", NOBODY),
    ("POST", "/link-social", "{}", NOBODY),
    ("POST", "/unlink-account", "{}", NOBODY),
    // It may be the number of somebody signed in that is verified.
    ("POST", "/phone-number/verify", "{}", ADA),
    ("GET", "/verify-email?token=x", "", ADA),
    ("POST", "/email-otp/verify-email", "{}", ADA),
    ("POST", "/two-factor/verify-totp", "{}", ADA),
    ("POST", "/two-factor/verify-otp", "{}", ADA),
    ("POST", "/two-factor/verify-backup-code", "{}", ADA),
    ("POST", "/two-factor/enable", "{}", ADA),
    ("POST", "/two-factor/disable", "{}", ADA),
    ("POST", "/sign-out", "", MINE),
    ("POST", "/revoke-session", r#"{"token":"same"}"#, ADA),
    ("POST", "/revoke-sessions", "{}", ADA),
    ("POST", "/revoke-other-sessions", "{}", ADA),
    (
        "POST",
        "/change-password",
        r#"{"revokeOtherSessions":true}"#,
        ADA,
    ),
    (
        "POST",
        "/reset-password",
        r#"{"newPassword":"x","token":"y"}"#,
        ALL,
    ),
    (
        "POST",
        "/email-otp/reset-password",
        r#"{"email":"a@b.c"}"#,
        ALL,
    ),
    (
        "POST",
        "/phone-number/reset-password",
        r#"{"phoneNumber":"1"}"#,
        ALL,
    ),
    ("POST", "/update-user", r#"{"name":"x"}"#, ADA),
    ("POST", "/change-email", r#"{"newEmail":"x@y.z"}"#, ADA),
    ("POST", "/update-session", "{}", ADA),
    ("POST", "/delete-user", "{}", ADA),
    ("GET", "/delete-user/callback?token=x", "", ADA),
    ("POST", "/delete-anonymous-user", "", ADA),
    ("POST", "/admin/ban-user", r#"{"userId":"bob"}"#, BOB),
    (
        "POST",
        "/admin/revoke-user-sessions",
        r#"{"userId":"bob"}"#,
        BOB,
    ),
    ("POST", "/admin/remove-user", r#"{"userId":"bob"}"#, BOB),
    (
        "POST",
        "/admin/update-user",
        r#"{"userId":"bob","data":{"banned":true}}"#,
        BOB,
    ),
    ("POST", "/admin/unban-user", r#"{"userId":"bob"}"#, BOB),
    (
        "POST",
        "/admin/set-role",
        r#"{"userId":"bob","role":"admin"}"#,
        BOB,
    ),
    (
        "POST",
        "/admin/revoke-user-session",
        r#"{"sessionToken":"other"}"#,
        BOB,
    ),
    (
        "POST",
        "/admin/set-user-password",
        r#"{"userId":"bob"}"#,
        BOB,
    ),
    (
        "POST",
        "/admin/impersonate-user",
        r#"{"userId":"bob"}"#,
        MINE,
    ),
    ("POST", "/admin/stop-impersonating", "", MINE),
    (
        "POST",
        "/organization/set-active",
        r#"{"organizationId":"org"}"#,
        MINE,
    ),
    ("POST", "/organization/set-active-team", "{}", MINE),
    ("POST", "/organization/create", "{}", MINE),
    ("POST", "/organization/accept-invitation", "{}", MINE),
    (
        "POST",
        "/organization/delete",
        r#"{"organizationId":"org"}"#,
        MATES,
    ),
    (
        "POST",
        "/organization/leave",
        r#"{"organizationId":"org"}"#,
        MATES,
    ),
    (
        "POST",
        "/organization/remove-member",
        r#"{"organizationId":"org"}"#,
        MATES,
    ),
    ("POST", "/organization/update-member-role", "{}", MATES),
    (
        "POST",
        "/multi-session/set-active",
        r#"{"sessionToken":"other"}"#,
        MINE,
    ),
    (
        "POST",
        "/multi-session/revoke",
        r#"{"sessionToken":"other"}"#,
        BOB,
    ),
    // A key that nobody has seen yet, and one that is remembered by its id.
    ("POST", "/api-key/create", "{}", NOBODY),
    (
        "POST",
        "/api-key/update",
        r#"{"keyId":"k","enabled":false}"#,
        KEY,
    ),
    ("POST", "/api-key/delete", r#"{"keyId":"k"}"#, KEY),
];

#[test]
fn every_endpoint_that_ends_sessions_ends_these_and_no_others_before_its_answer_arrives() {
    let status = Arc::new(std::sync::atomic::AtomicU16::new(200));
    let chosen = Arc::clone(&status);
    let app = App::scripted(move |seen, stream| {
        let status = match seen.line.contains("/api/auth/") {
            true => chosen.load(Ordering::SeqCst),
            false => 200,
        };
        reply(
            stream,
            status,
            &[("content-type", "application/json")],
            b"{}",
        );
    });
    let by = |kind: &str, token: &str| match kind {
        "bearer" => ("authorization", format!("Bearer {token}")),
        _ => ("cookie", cookie(token)),
    };
    for (method, endpoint, body, ends) in ROWS {
        let notebook = Arc::new(Notebook::default());
        let mut setup = Setup::in_front_of(app.address);
        setup.authenticator.enabled.insert("bearer".into());
        setup.revocation.feed = Some(Arc::clone(&notebook) as Arc<dyn Feed>);
        let gateway = setup.start();
        for (token, user, organization) in [
            ("mine", "ada", Some("org")),
            ("same", "ada", Some("org")),
            ("mate", "carol", Some("org")),
            ("other", "bob", None),
        ] {
            let mut record = record(token, user);
            record.organization_id = organization.map(Into::into);
            gateway.store.put(record);
        }
        await_until("the line to be up", || line_is_up(&gateway));
        // Who resets a password is nobody yet, and everything is forgotten once a second at most.
        let kinds: &[&str] = if *ends == ALL {
            &["cookie"]
        } else {
            &["cookie", "bearer"]
        };
        let answers = kinds
            .iter()
            .flat_map(|kind| [400, 401, 200].map(|answered| (*kind, answered)));
        for (kind, answered) in answers {
            let case = format!("{method} {endpoint} by {kind} answered {answered}");
            notebook.0.lock().unwrap().clear();
            let asks = |token: &str| {
                let before = gateway.store.asked();
                let (name, value) = by(kind, token);
                let status = gateway.get("/dashboard", &[(name, &value)]).status;
                assert_eq!(status, 200, "{case}: nobody is signed out by us");
                gateway.store.asked() > before
            };
            for token in ALL {
                asks(token);
                assert!(!asks(token), "{case}");
            }
            status.store(answered, Ordering::SeqCst);
            let path = format!("/api/auth{endpoint}");
            let (name, value) = by(kind, "mine");
            let answer = gateway.send(method, &path, &[(name, &value)], body.as_bytes());
            assert_eq!(answer.status, answered);
            let forgotten: BTreeSet<&str> =
                ALL.iter().copied().filter(|token| asks(token)).collect();
            let expected: BTreeSet<&str> = match answered {
                200 if *ends != KEY => ends.iter().copied().collect(),
                _ => BTreeSet::new(),
            };
            assert_eq!(forgotten, expected, "{case}");
            // And the other gateways hear of it, or of nothing.
            let told = || notebook.0.lock().unwrap().clone();
            if answered == 200 && *ends == KEY {
                await_until("the others to be told", || !told().is_empty());
                assert_eq!(told(), [Ended::ApiKey("k".into())], "{case}");
                continue;
            }
            if expected.is_empty() {
                assert_eq!(told(), [], "{case}");
                continue;
            }
            await_until("the others to be told", || {
                let told = told();
                let token = |token: &str| told.contains(&Ended::Token(TokenDigest::of(token)));
                let user = |user: &str| told.contains(&Ended::User(user.into()));
                let organization = told.contains(&Ended::Organization("org".into()));
                told.contains(&Ended::All)
                    || expected.iter().all(|name| match *name {
                        "mine" => token("mine"),
                        "same" => token("same") || user("ada") || organization,
                        "mate" => organization,
                        _ => token("other") || user("bob"),
                    })
            });
        }
    }
}

#[test]
fn a_sign_out_ends_every_session_the_device_holds_even_when_its_answer_is_lost() {
    // The app does what it is asked for, and its answer never arrives.
    let app = App::scripted(|seen, stream| {
        if !seen.line.contains("/sign-out") {
            reply(stream, 200, &[], b"app");
        }
        let _ = stream.shutdown(Shutdown::Both);
    });
    let gateway = Gateway::in_front_of(&app);
    for (token, user) in [("one", "ada"), ("two", "bob"), ("three", "carol")] {
        gateway.store.put(record(token, user));
        assert_eq!(ask(&gateway, token), 200);
    }
    let signed = |token: &str| cookie(token).split_once('=').unwrap().1.to_owned();
    let device = format!(
        "{}; better-auth.session_token_multi-x={}; better-auth.session_token_multi-y=three.forged",
        cookie("one"),
        signed("two")
    );
    gateway.send("POST", "/api/auth/sign-out", &[("cookie", &device)], b"");
    let known = |token: &str| {
        let before = gateway.store.asked();
        ask(&gateway, token);
        gateway.store.asked() == before
    };
    await_until("it to be noticed", || !known("one"));
    assert!(!known("two"));
    assert!(known("three"), "a forged cookie ends nothing");
}

#[test]
fn the_last_sign_out_before_a_stop_is_told_to_the_other_gateways() {
    /// A line on which telling takes a while, as when a connection is made for it.
    #[derive(Default)]
    struct Slow(Notebook);

    impl Feed for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }

        fn listen<'a>(&'a self, listener: &'a dyn Listener) -> BoxFuture<'a, ()> {
            self.0.listen(listener)
        }

        fn tell<'a>(&'a self, what: &'a Ended) -> BoxFuture<'a, Result<(), SourceError>> {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                self.0.tell(what).await
            })
        }
    }

    let app = App::start();
    let line = Arc::new(Slow::default());
    let mut setup = Setup::in_front_of(app.address);
    setup.revocation.feed = Some(Arc::clone(&line) as Arc<dyn Feed>);
    let gateway = setup.start();
    gateway.store.put(record("mine", "ada"));
    await_until("the line to be up", || line_is_up(&gateway));
    let cookie = cookie("mine");
    let out = gateway.send("POST", "/api/auth/sign-out", &[("cookie", &cookie)], b"");
    assert_eq!(out.status, 200);
    gateway.running.stop();
    let told = line.0.0.lock().unwrap().clone();
    assert_eq!(told, [Ended::Token(TokenDigest::of("mine"))]);
}

#[test]
fn nobody_waits_on_a_session_that_was_signed_out_soon_after_it_began() {
    let app = App::scripted(|seen, stream| {
        let line = match seen.line.contains("/sign-out") {
            true => "better-auth.session_token=; Max-Age=0; Path=/".to_owned(),
            false => format!("{}; Path=/", cookie("mine")),
        };
        reply(stream, 200, &[("set-cookie", &line)], b"");
    });
    let gateway = Gateway::in_front_of(&app);
    gateway.send("POST", "/api/auth/sign-in/email", &[], b"{}");
    let cookie = cookie("mine");
    gateway.send("POST", "/api/auth/sign-out", &[("cookie", &cookie)], b"");
    // Asked once, and then remembered as missing: a replica that lags would be asked five times in a second, by each of these.
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "mine"), 401);
    }
    assert_eq!(gateway.store.asked(), 1);
}

#[test]
fn who_can_reset_passwords_at_will_does_not_keep_the_store_busy() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    gateway.store.put(record("mine", "ada"));
    ask(&gateway, "mine");
    for _ in 0..20 {
        gateway.send("POST", "/api/auth/reset-password", &[], b"{}");
        ask(&gateway, "mine");
    }
    let asked = gateway.store.asked();
    assert!((2..15).contains(&asked), "{asked} lookups");
    // What was put off is done all the same.
    await_until("the last one to count", || {
        ask(&gateway, "mine");
        gateway.store.asked() > asked
    });
}

#[test]
fn a_stranger_whom_the_app_sends_on_to_another_spelling_makes_nobody_s_session_be_forgotten() {
    // As Next.js answers a slash too many: nothing has been done, whoever asked.
    let app = App::scripted(|seen, stream| {
        let line = &seen.line;
        let status = if line.contains("/api/auth/") {
            308
        } else {
            200
        };
        reply(stream, status, &[("location", "/elsewhere")], b"");
    });
    let notebook = Arc::new(Notebook::default());
    let mut setup = Setup::in_front_of(app.address);
    setup.revocation.feed = Some(Arc::clone(&notebook) as Arc<dyn Feed>);
    let gateway = setup.start();
    let mut record = record("mine", "ada");
    record.organization_id = Some("org".into());
    gateway.store.put(record);
    await_until("the line to be up", || line_is_up(&gateway));
    assert_eq!(ask(&gateway, "mine"), 200);
    for (endpoint, body) in [
        ("/admin/ban-user/", ""),
        ("/admin/ban-user/", r#"{"userId":"ada"}"#),
        ("/api-key/delete/", ""),
        ("/api-key/delete/", r#"{"keyId":"k"}"#),
        ("/organization/delete/", r#"{"organizationId":"org"}"#),
        ("/revoke-session/", r#"{"token":"mine"}"#),
        ("/multi-session/revoke/", r#"{"sessionToken":"mine"}"#),
        ("/reset-password/", ""),
    ] {
        let asked = gateway.store.asked();
        let path = format!("/api/auth{endpoint}");
        assert_eq!(
            gateway.send("POST", &path, &[], body.as_bytes()).status,
            308
        );
        assert_eq!(ask(&gateway, "mine"), 200);
        assert_eq!(gateway.store.asked(), asked, "{endpoint} {body}");
    }
    assert_eq!(*notebook.0.lock().unwrap(), []);
}

#[test]
fn who_is_signed_in_cannot_make_everything_be_forgotten_over_and_over() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    gateway.store.put(record("mine", "ada"));
    gateway.store.put(record("other", "bob"));
    ask(&gateway, "other");
    // Longer than is read along: it may be any key.
    let body = format!(r#"{{"keyId":"k","name":"{}"}}"#, "x".repeat(20_000));
    for _ in 0..20 {
        let cookie = cookie("mine");
        gateway.send(
            "POST",
            "/api/auth/api-key/update",
            &[("cookie", &cookie)],
            body.as_bytes(),
        );
        ask(&gateway, "other");
    }
    let asked = gateway.store.asked();
    assert!((2..15).contains(&asked), "{asked} lookups");
    await_until("the last one to count", || {
        ask(&gateway, "other");
        gateway.store.asked() > asked
    });
}

#[test]
fn all_sessions_of_somebody_are_forgotten_whatever_else_came_with_the_cookie() {
    use vestibule::api_key;

    // The app looks at the cookie here, and at nothing else.
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.authenticator.enabled.insert("api_key".into());
    setup.authenticator.enabled.insert("bearer".into());
    let keys = Arc::new(crate::support::keys::KeyStore::default());
    setup.api_keys = Some((api_key::Settings::default(), keys));
    let gateway = setup.start();
    let unknown = crate::support::keys::key("unknown");
    for (name, value, here, stolen) in [
        ("x-api-key", unknown.as_str(), "here", "stolen"),
        ("authorization", "Bearer nobody-knows-it", "home", "lost"),
    ] {
        for token in [here, stolen] {
            gateway.store.put(record(token, "ada"));
            assert_eq!(ask(&gateway, token), 200);
        }
        let session = cookie(here);
        let headers = [("cookie", session.as_str()), (name, value)];
        let answer = gateway.send("POST", "/api/auth/revoke-sessions", &headers, b"{}");
        assert_eq!(answer.status, 200);
        for token in [here, stolen] {
            gateway.store.remove(token);
            assert_eq!(ask(&gateway, token), 401, "{token} beside {name}");
        }
    }
}

// ------------------------------------------------------------------------------------------------------------- open streams

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Both ends of a stream through the gateway.
struct Stream {
    client: Wire,
    server: Wire,
}

impl Stream {
    fn open(
        gateway: &Gateway,
        app: &RawApp,
        token: &str,
        path: &str,
        headers: &str,
        answer: &str,
    ) -> Self {
        let mut client = Wire::to(gateway.address);
        client.write(format!(
            "GET {path} HTTP/1.1\r\nhost: app.test\r\ncookie: {}\r\n{headers}\r\n",
            cookie(token)
        ));
        let mut server = app.accept();
        let head = server.read_head();
        assert!(header(&head, "x-auth-user-id").is_some(), "{head}");
        server.write(answer);
        client.read_head();
        Self { client, server }
    }

    fn socket(gateway: &Gateway, app: &RawApp, token: &str) -> Self {
        Self::open(gateway, app, token, "/live", UPGRADE, SWITCHED)
    }

    fn events(gateway: &Gateway, app: &RawApp, token: &str) -> Self {
        let mut stream = Self::open(
            gateway,
            app,
            token,
            "/events",
            "accept: text/event-stream\r\n",
            EVENTS,
        );
        stream.server.write_chunk("data: 1\n\n");
        assert_eq!(stream.client.read_chunks(9), b"data: 1\n\n");
        stream
    }

    /// Frames still pass a WebSocket, both ways.
    fn lives(&mut self) {
        self.client.write([0x81, 0x80]);
        assert_eq!(self.server.read_exactly(2), [0x81, 0x80]);
        self.server.write([0x82, 0x00]);
        assert_eq!(self.client.read_exactly(2), [0x82, 0x00]);
    }

    /// Both ends are closed.
    fn ends(mut self) {
        assert_eq!(self.client.read_to_end(), b"");
        self.server.read_to_end();
    }
}

/// A gateway with Ada signed in twice, and Bob.
fn with_streams(app: &RawApp, change: impl FnOnce(&mut Setup)) -> Gateway {
    let mut setup = Setup::in_front_of(app.address);
    change(&mut setup);
    let gateway = setup.start();
    for (token, user) in [("ada-1", "ada"), ("ada-2", "ada"), ("bob-1", "bob")] {
        gateway.store.put(record(token, user));
    }
    gateway
}

/// Signs a session out, as the app would.
fn sign_out(gateway: &Gateway, app: &RawApp, token: &str) {
    let mut client = Wire::to(gateway.address);
    client.write(format!(
        "POST /api/auth/sign-out HTTP/1.1\r\nhost: app.test\r\ncookie: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        cookie(token)
    ));
    let mut server = app.accept();
    server.read_head();
    gateway.store.remove(token);
    server.write(
        "HTTP/1.1 200 OK\r\nset-cookie: better-auth.session_token=; Max-Age=0; Path=/; HttpOnly\r\ncontent-length: 0\r\n\r\n",
    );
    assert!(client.read_head().starts_with("HTTP/1.1 200"));
}

fn streams(gateway: &Gateway) -> usize {
    gateway.running.gateway.streams.len()
}

#[test]
fn idle_streams_of_a_session_end_when_it_is_signed_out_elsewhere_and_those_of_others_go_on() {
    let app = RawApp::start();
    let gateway = with_streams(&app, |_| {});
    let mine = [
        Stream::socket(&gateway, &app, "ada-1"),
        Stream::events(&gateway, &app, "ada-1"),
    ];
    let mut others = [
        Stream::socket(&gateway, &app, "ada-2"),
        Stream::socket(&gateway, &app, "bob-1"),
    ];
    let mut events = Stream::events(&gateway, &app, "bob-1");
    assert_eq!(streams(&gateway), 5);
    sign_out(&gateway, &app, "ada-1");
    mine.into_iter().for_each(Stream::ends);
    await_until("them to be counted", || {
        metric(&gateway, "vestibule_streams_ended_total") == 2.0
            && metric(&gateway, "vestibule_streams_in_flight") == 3.0
    });
    others.iter_mut().for_each(Stream::lives);
    events.server.write_chunk("data: 2\n\n");
    assert_eq!(events.client.read_chunks(9), b"data: 2\n\n");
}

#[test]
fn a_stream_ends_at_once_when_whoever_has_just_signed_in_signs_out_again() {
    let app = RawApp::start();
    let gateway = with_streams(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write("POST /api/auth/sign-in/email HTTP/1.1\r\nhost: app.test\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let mut server = app.accept();
    server.read_head();
    server.write(format!(
        "HTTP/1.1 200 OK\r\nset-cookie: {}; Path=/; HttpOnly\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        cookie("ada-1")
    ));
    assert!(client.read_head().starts_with("HTTP/1.1 200"));
    let mine = Stream::events(&gateway, &app, "ada-1");
    sign_out(&gateway, &app, "ada-1");
    // The clock stands still: no patience with replicas that lag is left over for what has ended.
    mine.ends();
    let asked = gateway.store.asked();
    let answer = gateway.get("/dashboard", &[("cookie", &cookie("ada-1"))]);
    assert_eq!(answer.status, 401);
    assert!(
        gateway.store.asked() - asked <= 1,
        "it was asked for again and again"
    );
}

#[test]
fn streams_end_when_somebody_else_tells_and_not_when_they_are_still_good() {
    let app = RawApp::start();
    let gateway = with_streams(&app, |_| {});
    let line = &gateway.running.gateway.line;
    let mut ada = Stream::socket(&gateway, &app, "ada-1");
    let mut bob = Stream::socket(&gateway, &app, "bob-1");
    // Each of these may have ended it, and has not: the store says so.
    for (number, what) in [
        Ended::Token(TokenDigest::of("ada-1")),
        Ended::User("ada".into()),
        Ended::All,
    ]
    .into_iter()
    .enumerate()
    {
        let asked = gateway.store.asked();
        line.ended(&what, None);
        gateway
            .store
            .await_asked(asked + 1 + usize::from(number == 2));
        ada.lives();
        bob.lives();
    }
    // What is of no concern to them is not even asked about.
    let asked = gateway.store.asked();
    line.ended(&Ended::User("carol".into()), None);
    line.ended(&Ended::Organization("org".into()), None);
    ada.lives();
    assert_eq!(gateway.store.asked(), asked);
    gateway.store.remove("ada-1");
    line.ended(&Ended::Token(TokenDigest::of("ada-1")), Some(UnixMs(NOW.0)));
    ada.ends();
    bob.lives();
    gateway.store.remove("bob-1");
    line.regained();
    bob.ends();
    await_until("none to be left", || streams(&gateway) == 0);
}

#[test]
fn an_app_that_is_asked_about_open_streams_can_tell_their_clients_apart() {
    use crate::http_source::{Says, Scripted, session};

    // It counts how often each address asks, and all requests without one together: too many are answered 429, and the streams of
    // everybody end as if it were silent.
    let auth = Scripted::new(Says::Session(session("tok", "ada"), Vec::new()));
    let source = stores()
        .block_on(store::open(&auth.settings()))
        .unwrap_or_else(|error| panic!("{error}"));
    let app = RawApp::start();
    let gateway = Setup::in_front_of(app.address).start_from(source);
    let mut stream = Stream::socket(&gateway, &app, "tok");
    assert_eq!(auth.lookups().len(), 1);
    gateway.running.gateway.line.ended(&Ended::All, None);
    await_until("the app to be asked again", || auth.lookups().len() == 2);
    let asked = auth.lookups().pop().unwrap();
    assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(asked.header("host"), Some("app.test"));
    assert!(asked.line.contains("disableRefresh=true"), "{}", asked.line);
    stream.lives();
}

#[test]
fn a_stream_ends_with_the_right_to_it_and_with_its_session() {
    let app = RawApp::start();
    let gateway = with_streams(&app, |setup| {
        setup.sessions.enforce_bans = true;
        setup.revocation.recheck = Duration::from_secs(60);
        let mut admins = signed_in();
        if let vestibule::policy::Need::SignedIn(conditions) = &mut admins.need {
            conditions.role = vec!["admin".into()];
        }
        setup.routes.routes.insert(0, route("/live/admin", admins));
        setup.routes.routes.insert(
            0,
            route("/live/open", rule(vestibule::policy::Need::Optional)),
        );
    });
    let line = &gateway.running.gateway.line;
    let mut admin = record("ada-1", "ada");
    admin.role = Some("admin".into());
    gateway.store.put(admin);
    let ruled = Stream::open(&gateway, &app, "ada-1", "/live/admin", UPGRADE, SWITCHED);
    let mut plain = Stream::socket(&gateway, &app, "ada-1");
    gateway.store.put(record("ada-1", "ada"));
    line.ended(&Ended::User("ada".into()), None);
    ruled.ends();
    plain.lives();

    // A page for everybody that knew who it was for.
    let open = Stream::open(&gateway, &app, "bob-1", "/live/open", UPGRADE, SWITCHED);
    let mut banned = record("bob-1", "bob");
    banned.banned = true;
    gateway.store.put(banned);
    line.ended(&Ended::User("bob".into()), None);
    open.ends();

    // The app extends sessions: the expiry known at the beginning is asked about, and then the new one counts.
    let mut extended = record("ada-1", "ada");
    extended.expires_at = UnixMs(NOW.0 + 30 * 86_400_000);
    gateway.store.put(extended);
    let asked = gateway.store.asked();
    gateway.clock.set(UnixMs(NOW.0 + 8 * 86_400_000));
    gateway.store.await_asked(asked + 1);
    plain.lives();
    gateway.clock.set(UnixMs(NOW.0 + 31 * 86_400_000));
    plain.ends();
}

#[test]
fn a_session_that_ended_without_a_word_takes_its_streams_along_after_a_while() {
    let app = RawApp::start();
    let gateway = with_streams(&app, |setup| {
        setup.revocation.recheck = Duration::from_secs(60);
    });
    let ada = Stream::socket(&gateway, &app, "ada-1");
    let mut bob = Stream::socket(&gateway, &app, "bob-1");
    gateway.store.remove("ada-1");
    gateway.clock.set(UnixMs(NOW.0 + 61_000));
    ada.ends();
    bob.lives();
    // Who goes away leaves nothing behind.
    bob.client.close();
    bob.server.read_to_end();
    await_until("none to be left", || streams(&gateway) == 0);
}

#[test]
fn a_store_that_is_silent_about_a_touched_stream_is_given_time_and_not_for_ever() {
    let app = RawApp::start();
    let gateway = with_streams(&app, |_| {});
    let line = &gateway.running.gateway.line;
    let mut ada = Stream::socket(&gateway, &app, "ada-1");
    let mut bob = Stream::socket(&gateway, &app, "bob-1");
    gateway.store.fail(true);
    let asked = gateway.store.asked();
    line.ended(&Ended::User("ada".into()), None);
    gateway.store.await_asked(asked + 1);
    ada.lives();
    // It answers again, and all is well.
    gateway.store.fail(false);
    let asked = gateway.store.asked();
    // It is asked again a moment after its silence was written down, whenever that is: the clock goes on, but not past the
    // patience there is.
    let began = std::time::Instant::now();
    await_until("the store to be asked again", || {
        let gone = i64::try_from(began.elapsed().as_millis()).unwrap();
        gateway.clock.set(UnixMs(NOW.0 + 2000 + gone.min(7000)));
        gateway.store.asked() > asked
    });
    ada.lives();
    gateway.store.fail(true);
    let asked = gateway.store.asked();
    line.ended(&Ended::User("ada".into()), None);
    gateway.store.await_asked(asked + 1);
    // The silence counts from when the store was first found silent, whenever that is written down.
    await_until("its patience to end", || {
        gateway.clock.advance(Duration::from_millis(1));
        streams(&gateway) == 1
    });
    ada.ends();
    bob.lives();
}

#[test]
fn a_download_that_goes_on_and_on_is_a_stream_and_an_upgrade_that_was_refused_is_none() {
    let app = RawApp::start();
    let gateway = with_streams(&app, |_| {});
    let mut stream = Stream::open(
        &gateway,
        &app,
        "ada-1",
        "/export",
        "",
        "HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    assert_eq!(streams(&gateway), 0);
    let server = std::cell::RefCell::new(&mut stream.server);
    await_until("it to be taken for a stream", || {
        server.borrow_mut().write_chunk("a,b\n");
        // Rows come at their own pace.
        thread::sleep(Duration::from_millis(20));
        streams(&gateway) == 1
    });
    sign_out(&gateway, &app, "ada-1");
    stream.client.read_to_end();
    await_until("it to be gone", || streams(&gateway) == 0);

    let refused = Stream::open(
        &gateway,
        &app,
        "bob-1",
        "/live",
        UPGRADE,
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(streams(&gateway), 0);
    drop(refused);
}

#[test]
fn a_stream_that_opens_while_its_session_ends_does_not_slip_through() {
    let app = RawApp::start();
    let gateway = with_streams(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write(format!(
        "GET /live HTTP/1.1\r\nhost: app.test\r\ncookie: {}\r\n{UPGRADE}\r\n",
        cookie("ada-1")
    ));
    let mut server = app.accept();
    server.read_head();
    // Judged already, and not open yet.
    gateway.store.remove("ada-1");
    gateway
        .running
        .gateway
        .line
        .ended(&Ended::User("ada".into()), None);
    server.write(SWITCHED);
    client.read_head();
    Stream { client, server }.ends();
}
