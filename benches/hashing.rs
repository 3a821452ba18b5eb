//! What other traffic notices while every thread for hashing is busy with sign-ins: a protected page from memory, asked for while nobody
//! signs in and while the pool is saturated, in turns. `cargo bench --bench hashing`
//!
//! Sign-ins come for addresses that nobody has: they cost as much as any other. Gateway, app, clients and hashing share this machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sqlx::Connection as _;
use tokio::runtime::Runtime;
use vestibule::config::{self, Sources};
use vestibule::server::migration::{self, Parts};
use vestibule::store;

#[allow(dead_code, unused_imports)]
#[path = "../tests/support/mod.rs"]
mod support;

use support::databases::{Folder, settings};
use support::{
    App, Gateway, SECRET, Setup, await_until, connect, cookie, exchange, exchange_on, record,
};

/// Turns of each kind.
const TURNS: usize = 10;
const TURN: Duration = Duration::from_secs(2);

/// Who tries to sign in at the same time: more than there is room for, so that some are turned away.
const CLIENTS: usize = 24;
const QUEUE: usize = 16;

/// Between two pages. A closed loop without it would measure who is quicker to ask again.
const PAUSE: Duration = Duration::from_millis(1);

const TABLES: &[&str] = &[
    r#"CREATE TABLE "user" (id text PRIMARY KEY, name text, email text UNIQUE, "emailVerified" integer, image text, "createdAt" text, "updatedAt" text)"#,
    r#"CREATE TABLE account (id text PRIMARY KEY, "accountId" text, "providerId" text, "userId" text, password text, "createdAt" text, "updatedAt" text)"#,
    r#"CREATE TABLE session (id text PRIMARY KEY, "expiresAt" text, token text UNIQUE, "createdAt" text, "updatedAt" text, "ipAddress" text, "userAgent" text, "userId" text)"#,
    r#"CREATE TABLE verification (id text PRIMARY KEY, identifier text, value text, "expiresAt" text, "createdAt" text, "updatedAt" text)"#,
];

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let folder = Folder::new("hashing");
    let file = folder.join("app.sqlite");
    runtime.block_on(async {
        let url = format!("sqlite:{}?mode=rwc", file.display());
        let mut link = sqlx::SqliteConnection::connect(&url).await.unwrap();
        for table in TABLES {
            sqlx::query(*table).execute(&mut link).await.unwrap();
        }
    });
    let app = App::start();
    let gateway = gateway(&runtime, &app, &format!("sqlite:{}", file.display()));
    gateway.store.put(record("t1", "ada"));
    let page = format!(
        "GET /dashboard HTTP/1.1\r\nhost: app.test\r\ncookie: {}\r\n\r\n",
        cookie("t1")
    );
    assert_eq!(exchange(gateway.address, page.as_bytes()).status, 200);

    let (flood, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (tried, turned_away) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let [mut idle, mut busy] = [0, 1].map(|_| Histogram::<u64>::new(3).unwrap());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (flood, over, tried, turned_away) = (&flood, &over, &tried, &turned_away);
            let at = gateway.address;
            scope.spawn(move || {
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    if !flood.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                    number += 1;
                    let status = sign_in(at, &format!("nobody-{client}-{number}@example.com"));
                    tried.fetch_add(1, Ordering::Relaxed);
                    if status == 503 {
                        turned_away.fetch_add(1, Ordering::Relaxed);
                        // What Retry-After asks for, much shortened.
                        std::thread::sleep(Duration::from_millis(50));
                    }
                }
            });
        }
        let mut connection = connect(gateway.address);
        connection.set_nodelay(true).unwrap();
        for turn in 0..2 * TURNS {
            let flooded = turn % 2 == 1;
            flood.store(flooded, Ordering::Relaxed);
            if flooded {
                await_until("the pool to be saturated", || waiting(&gateway) > 4);
            } else {
                await_until("the pool to be idle", || waiting(&gateway) == 0);
            }
            let histogram = if flooded { &mut busy } else { &mut idle };
            let began = Instant::now();
            while began.elapsed() < TURN {
                let asked = Instant::now();
                assert_eq!(exchange_on(&mut connection, page.as_bytes()).status, 200);
                let took = u64::try_from(asked.elapsed().as_micros()).unwrap();
                histogram.record(took).unwrap();
                std::thread::sleep(PAUSE);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    report(&idle, &busy);
    println!(
        "{} sign-ins, {} of them turned away with 503",
        tried.into_inner(),
        turned_away.into_inner()
    );
}

fn report(idle: &Histogram<u64>, busy: &Histogram<u64>) {
    println!(
        "{:<44} {:>7} {:>9} {:>9} {:>9} {:>9}",
        "microseconds for a page from memory", "times", "p50", "p90", "p99", "max"
    );
    for (label, histogram) in [("nobody signs in", idle), ("the pool is saturated", busy)] {
        let at = |quantile| histogram.value_at_quantile(quantile);
        println!(
            "{label:<44} {:>7} {:>9} {:>9} {:>9} {:>9}",
            histogram.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            histogram.max()
        );
    }
    let ratio = |quantile| {
        busy.value_at_quantile(quantile) as f64 / idle.value_at_quantile(quantile) as f64
    };
    println!(
        "{:<44} {:>7} {:>9.2} {:>9.2} {:>9.2}",
        "ratio",
        "",
        ratio(0.5),
        ratio(0.9),
        ratio(0.99)
    );
}

fn sign_in(at: SocketAddr, address: &str) -> u16 {
    let body = format!(r#"{{"email":"{address}","password":"not this one either"}}"#);
    let request = format!(
        "POST /api/auth/sign-in/email HTTP/1.1\r\nhost: app.test\r\norigin: http://app.test\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(at, request.as_bytes()).status
}

/// Jobs that wait for a thread.
fn waiting(gateway: &Gateway) -> u64 {
    let text = gateway.running.gateway.metrics.render();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("vestibule_hash_queue_entries "));
    line.expect("the metric").parse().unwrap()
}

/// A gateway as an operator's file makes it, that would believe its memory for an hour.
fn gateway(runtime: &Runtime, app: &App, url: &str) -> Gateway {
    let accounts = runtime
        .block_on(store::open_accounts(&settings(url)))
        .expect("accounts");
    let migration = migration_settings(url);
    let (home, base) = (runtime.handle().clone(), app.address);
    let mut setup = Setup::in_front_of(app.address);
    setup.sessions.cache_ttl = Duration::from_secs(3600);
    setup.migration = Some(Arc::new(move || Parts {
        settings: migration.clone(),
        accounts: Arc::clone(&accounts),
        shared_limits: None,
        home: home.clone(),
        old: None,
        stores: Default::default(),
        app: vec![url::Url::parse(&format!("http://{base}/api/auth")).unwrap()],
    }));
    setup.start()
}

fn migration_settings(database: &str) -> migration::Settings {
    let text = format!(
        "public_url = \"http://app.test\"\n[upstream]\nurl = \"http://127.0.0.1:1\"\n[better_auth]\nsecret = \"{SECRET}\"\n\
         [sessions]\nsource = \"{database}\"\n[routes]\ndefault = \"signed-in\"\n\
         [migration]\nkey = \"a key of the migration's own, for its benches\"\n\
         [migration.sign_in]\nhold = \"100ms\"\n[migration.passwords]\nqueue = {QUEUE}\n\
         [migration.limits]\naddress = 100000\naccount = 100000\npair = 100000\n"
    );
    let loaded = config::load(&Sources {
        name: "vestibule.toml",
        text: &text,
        environment: &BTreeMap::new(),
        overrides: &[],
        read_file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        route_check: config::no_route_check,
        read_build: &config::no_build,
    });
    let loaded = loaded.unwrap_or_else(|problems| panic!("{problems:?}"));
    loaded.config.migration.expect("a migration")
}
