//! How long a session that was revoked at one gateway is still let in by another, over a real PostgreSQL and a real Redis.
//! `cargo bench --bench revocation`
//!
//! Measured from the moment before the revocation is asked for (the sign-out is sent, the row or key is deleted) until the other gateway
//! has answered with a refusal, so the revocation itself and the last request are in it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods
)]

use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sqlx::Connection as _;
use tokio::runtime::Runtime;
use vestibule::server::line;
use vestibule::store;

#[allow(dead_code, unused_imports)]
#[path = "../tests/support/mod.rs"]
mod support;

use support::databases::{Dialect, settings, shared};
use support::redis::Redis;
use support::{App, Gateway, NOW, Setup, await_until, cookie, exchange_on, reply};

/// Revocations of each kind.
const TIMES: usize = 500;

/// What the slowest but one percent may take.
const GOAL: Duration = Duration::from_millis(100);

const TABLES: &str = r#"
CREATE TABLE "user" (id text PRIMARY KEY, name text, email text, "emailVerified" boolean, "createdAt" timestamptz, "updatedAt" timestamptz);
CREATE TABLE session (id text PRIMARY KEY, "expiresAt" timestamptz, token text UNIQUE, "createdAt" timestamptz, "updatedAt" timestamptz,
    "userId" text);
INSERT INTO "user" (id, name, email) VALUES ('ada', 'Ada', 'ada@example.com');
"#;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let postgres = over_postgres(&runtime);
    let redis = over_redis(&runtime);
    let mut good = true;
    println!(
        "{:<44} {:>7} {:>9} {:>9} {:>9} {:>9}",
        "milliseconds until refused elsewhere", "times", "p50", "p90", "p99", "max"
    );
    for (label, histogram) in postgres.into_iter().chain(redis) {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        println!(
            "{label:<44} {:>7} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
            histogram.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            histogram.max() as f64 / 1000.0
        );
        good &= at(0.99) < GOAL.as_millis() as f64;
    }
    if !good {
        eprintln!("p99 is over {GOAL:?}");
        std::process::exit(1);
    }
}

type Row = (&'static str, Histogram<u64>);

fn over_postgres(runtime: &Runtime) -> Vec<Row> {
    let server = shared(Dialect::Postgres);
    let database = server.database();
    server.sql(&database, TABLES);
    server.sql(
        &database,
        &format!(
            "INSERT INTO session (id, token, \"userId\", \"expiresAt\") SELECT 't' || n, 't' || n, 'ada', now() + interval '7 days' \
             FROM generate_series(1, {}) n",
            2 * TIMES
        ),
    );
    let url = server.url(&database);
    let link = runtime
        .block_on(sqlx::PgConnection::connect(&url))
        .expect("a connection");
    let (link, handle) = (Mutex::new(link), runtime.handle().clone());
    let delete = move |token: &str| {
        let deletion =
            sqlx::query::<sqlx::Postgres>("DELETE FROM session WHERE token = $1").bind(token);
        handle
            .block_on(deletion.execute(&mut *link.lock().unwrap()))
            .expect("a deletion");
    };
    let delete = std::sync::Arc::new(delete);
    let asked = std::sync::Arc::clone(&delete);
    let app = app(move |token| asked(token));
    let gateways = [0, 1].map(|_| gateway(runtime, &app, &url));
    let signed_out = measure(&gateways, 1..=TIMES, |token| sign_out(&gateways[0], token));
    let triggers = runtime
        .block_on(store::triggers(&settings(&url)))
        .unwrap()
        .unwrap();
    server.sql(&database, &triggers.install);
    let deleted = measure(&gateways, TIMES + 1..=2 * TIMES, |token| delete(token));
    vec![
        ("PostgreSQL: sign-out seen passing", signed_out),
        ("PostgreSQL: row deleted by SQL, triggers", deleted),
    ]
}

fn over_redis(runtime: &Runtime) -> Vec<Row> {
    let server = Redis::start_with(&["--notify-keyspace-events", "Kg$x"]);
    let mut link = server.connect();
    for number in 1..=2 * TIMES {
        let token = format!("t{number}");
        let expires = chrono::DateTime::from_timestamp_millis(NOW.0 + 7 * 86_400_000)
            .unwrap()
            .to_rfc3339();
        let value = serde_json::json!({
            "session": { "id": token, "token": token, "userId": "ada", "expiresAt": expires },
            "user": { "id": "ada", "name": "Ada", "email": "ada@example.com", "emailVerified": true },
        });
        let key = format!("better-auth:{token}");
        support::redis::run::<()>(&mut link, &["SET", &key, &value.to_string()]);
    }
    let link = Mutex::new(link);
    let delete = move |token: &str| {
        support::redis::run::<()>(
            &mut link.lock().unwrap(),
            &["DEL", &format!("better-auth:{token}")],
        );
    };
    let delete = std::sync::Arc::new(delete);
    let asked = std::sync::Arc::clone(&delete);
    let app = app(move |token| asked(token));
    let gateways = [0, 1].map(|_| gateway(runtime, &app, &server.url(0)));
    let signed_out = measure(&gateways, 1..=TIMES, |token| sign_out(&gateways[0], token));
    let deleted = measure(&gateways, TIMES + 1..=2 * TIMES, |token| delete(token));
    vec![
        ("Redis: sign-out seen passing", signed_out),
        ("Redis: key deleted, keyspace events", deleted),
    ]
}

/// An app whose sign-out does what the framework does.
fn app(delete: impl Fn(&str) + Send + Sync + 'static) -> App {
    App::scripted(move |seen, stream| {
        if seen.line.starts_with("POST /api/auth/sign-out") {
            let cookie = seen.header("cookie").unwrap();
            let (_, value) = cookie.split_once("session_token=").unwrap();
            delete(value.split('.').next().unwrap());
        }
        reply(stream, 200, &[], b"app");
    })
}

/// A gateway that would believe its memory for an hour.
fn gateway(runtime: &Runtime, app: &App, url: &str) -> Gateway {
    let opened = runtime
        .block_on(store::inspect(&settings(url)))
        .expect("a store");
    let mut setup = Setup::in_front_of(app.address);
    setup.sessions.cache_ttl = Duration::from_secs(3600);
    setup.sessions.entries_max = 100_000;
    setup.revocation = line::Settings {
        feed: opened.feed,
        promised: true,
        recheck: Duration::ZERO,
    };
    let gateway = setup.start_from(opened.source);
    await_until("the line to be up", || {
        gateway
            .running
            .gateway
            .line
            .state()
            .is_some_and(|(_, up)| up)
    });
    gateway
}

fn request(line: &str, token: &str) -> Vec<u8> {
    format!(
        "{line} HTTP/1.1\r\nhost: app.test\r\ncookie: {}\r\ncontent-length: 0\r\n\r\n",
        cookie(token)
    )
    .into_bytes()
}

fn sign_out(gateway: &Gateway, token: &str) {
    let answer = support::exchange(gateway.address, &request("POST /api/auth/sign-out", token));
    assert_eq!(answer.status, 200);
}

fn measure(
    gateways: &[Gateway; 2],
    numbers: std::ops::RangeInclusive<usize>,
    revoke: impl Fn(&str) + Sync,
) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).expect("three digits");
    let mut connection = support::connect(gateways[1].address);
    connection.set_nodelay(true).unwrap();
    let ask = |connection: &mut TcpStream, token: &str| {
        exchange_on(connection, &request("GET /dashboard", token)).status
    };
    for number in numbers {
        let token = format!("t{number}");
        // Remembered by both, or there is nothing to forget.
        support::exchange(gateways[0].address, &request("GET /dashboard", &token));
        assert_eq!(ask(&mut connection, &token), 200);
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| revoke(&token));
            while ask(&mut connection, &token) != 401 {
                assert!(
                    began.elapsed() < Duration::from_secs(10),
                    "{token} is never refused"
                );
            }
        });
        histogram
            .record(u64::try_from(began.elapsed().as_micros()).unwrap())
            .unwrap();
    }
    histogram
}
