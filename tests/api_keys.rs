//! API keys on the wire: in place of cookies, counted exactly, and refused for whatever they are refused for at the app.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use vestibule::api_key::{self, ApiKeys, Row, Usage};
use vestibule::policy::{Conditions, Need};
use vestibule::session::feed::Ended;
use vestibule::session::{BoxFuture, Freshness, Record, Source, SourceError};
use vestibule::store::{self, KeyAccess, KeyStorage, OpenError};
use vestibule::time::UnixMs;

use crate::support::databases::{Dialect, settings};
use crate::support::keys::{KeyStore, Secondary, Tables, key, open, owner, row};
use crate::support::{
    Answer, App, Gateway, NOW, Setup, Store, await_until, cookie, record, route, rule,
};

const DAY: Duration = Duration::from_secs(86_400);

/// The usual gateway, which accepts keys of `store`.
fn setup(app: &App, store: Arc<dyn ApiKeys>, change: impl FnOnce(&mut api_key::Settings)) -> Setup {
    let mut setup = Setup::in_front_of(app.address);
    setup.authenticator.enabled.insert("api_key".into());
    let mut keys = api_key::Settings::default();
    change(&mut keys);
    setup.api_keys = Some((keys, store));
    setup
}

/// A gateway over keys in memory, with one key of `user`.
fn with_key(app: &App, row: Row) -> (Gateway, Arc<KeyStore>, String) {
    let (store, key) = (Arc::new(KeyStore::default()), key("good"));
    let owner = owner(&row, "kate");
    store.put(&key, row, Some(owner));
    let gateway = setup(app, Arc::clone(&store) as _, |_| {}).start();
    (gateway, store, key)
}

fn ask(gateway: &Gateway, target: &str, key: &str) -> Answer {
    gateway.get(target, &[("x-api-key", key)])
}

fn limited(remaining: i64) -> Row {
    let mut row = row("k1");
    row.counters.remaining = Some(remaining);
    row
}

fn rate_limited(max: i64) -> Row {
    Row {
        rate_limited: Some(true),
        rate_window: Some(DAY),
        rate_max: Some(max),
        ..row("k1")
    }
}

#[test]
fn a_key_takes_the_place_of_the_cookie_and_reaches_the_app_as_it_came() {
    let app = App::start();
    let (gateway, _store, key) = with_key(&app, row("k1"));
    gateway.store.put(record("tok", "carl"));
    let both = [("x-api-key", key.as_str()), ("cookie", &cookie("tok"))];
    for headers in [&both[..1], &both[..]] {
        assert_eq!(gateway.get("/dashboard", headers).status, 200);
        let seen = app.last();
        assert_eq!(seen.header("x-auth-user-id"), Some("kate"));
        assert_eq!(seen.header("x-auth-user-email"), Some("kate@example.com"));
        assert_eq!(seen.header("x-auth-session-id"), Some("k1"));
        assert_eq!(seen.header("x-auth-method"), Some("api_key"));
        assert_eq!(seen.all("x-api-key"), [key.as_str()]);
    }
    assert_eq!(gateway.store.asked(), 0, "no session was looked up");
    // Without a key the cookie counts as ever.
    assert_eq!(gateway.get("/dashboard", &both[1..]).status, 200);
    assert_eq!(app.last().header("x-auth-user-id"), Some("carl"));
}

#[test]
fn a_bad_key_is_refused_whatever_cookie_comes_with_it() {
    let app = App::start();
    let (gateway, _store, _) = with_key(&app, row("k1"));
    gateway.store.put(record("tok", "carl"));
    let good = cookie("tok");
    for bad in [
        key("other"),
        "short".into(),
        format!("{}\u{7f}", key("x")),
        "k".repeat(600),
    ] {
        let answer = gateway.get("/dashboard", &[("x-api-key", &bad), ("cookie", &good)]);
        assert!(
            matches!(answer.status, 400 | 401),
            "{bad}: {}",
            answer.status
        );
        let answer = gateway.document("/dashboard", &[("x-api-key", &bad), ("cookie", &good)]);
        assert!(
            matches!(answer.status, 302 | 400),
            "{bad}: {}",
            answer.status
        );
        assert_eq!(answer.header("set-cookie"), None, "the cookie is innocent");
    }
    assert_eq!(app.count(), 0);
    // An empty header is none.
    let answer = gateway.get("/dashboard", &[("x-api-key", ""), ("cookie", &good)]);
    assert_eq!(answer.status, 200);
}

#[test]
fn two_keys_are_none() {
    let app = App::start();
    let (gateway, _store, key) = with_key(&app, row("k1"));
    let answer = gateway.get("/dashboard", &[("x-api-key", &key), ("x-api-key", &key)]);
    assert_eq!(answer.status, 401);
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
}

#[test]
fn with_fall_through_a_bad_key_leaves_the_word_to_the_cookie() {
    let app = App::start();
    let store = Arc::new(KeyStore::default());
    let mut setup = setup(&app, store, |_| {});
    setup.authenticator.fall_through = true;
    let gateway = setup.start();
    gateway.store.put(record("tok", "carl"));
    let bad = key("other");
    let headers = [("x-api-key", bad.as_str()), ("cookie", &cookie("tok"))];
    assert_eq!(gateway.get("/dashboard", &headers).status, 200);
    assert_eq!(app.last().header("x-auth-user-id"), Some("carl"));
    assert_eq!(gateway.get("/dashboard", &headers[..1]).status, 401);
}

#[test]
fn where_keys_are_not_accepted_nobody_looks_at_them() {
    let app = App::start();
    let (store, key) = (Arc::new(KeyStore::default()), key("good"));
    store.put(&key, row("k1"), Some(owner(&row("k1"), "kate")));
    let mut setup = setup(&app, Arc::clone(&store) as _, |_| {});
    setup.authenticator.enabled.clear();
    let gateway = setup.start();
    gateway.store.put(record("tok", "carl"));
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 401);
    let headers = [("x-api-key", key.as_str()), ("cookie", &cookie("tok"))];
    assert_eq!(gateway.get("/dashboard", &headers).status, 200);
    assert_eq!(app.last().header("x-auth-user-id"), Some("carl"));
    assert_eq!(store.asked(), 0);
}

#[test]
fn the_first_header_of_several_that_is_not_empty_holds_the_key() {
    let app = App::start();
    let (store, key) = (Arc::new(KeyStore::default()), key("good"));
    store.put(&key, row("k1"), Some(owner(&row("k1"), "kate")));
    let gateway = setup(&app, store, |settings| {
        settings.headers = vec!["x-first".parse().unwrap(), "x-second".parse().unwrap()];
    })
    .start();
    let other = crate::support::keys::key("other");
    for (first, second, status) in [
        (key.as_str(), "", 200),
        ("", key.as_str(), 200),
        (&other, &key, 401),
        ("", "", 401),
    ] {
        let answer = gateway.get("/dashboard", &[("x-first", first), ("x-second", second)]);
        assert_eq!(answer.status, status, "{first} {second}");
    }
    assert_eq!(
        ask(&gateway, "/dashboard", &key).status,
        401,
        "no such header"
    );
}

#[test]
fn whoever_uses_a_key_too_often_is_told_when_to_come_back() {
    let app = App::start();
    let (gateway, store, key) = with_key(&app, rate_limited(3));
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
        gateway.clock.advance(Duration::from_millis(100));
    }
    gateway.clock.advance(Duration::from_millis(500));
    let answer = ask(&gateway, "/dashboard", &key);
    assert_eq!(answer.status, 429);
    // 86,399.4 s, rounded up.
    assert_eq!(answer.header("retry-after"), Some("86400"));
    assert_eq!(app.count(), 3);
    gateway.clock.advance(DAY);
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
    await_until("the counts to be written", || {
        store.counters_of("k1").requests == 1
    });
}

#[test]
fn a_key_that_is_used_up_is_refused_until_it_is_refilled() {
    let app = App::start();
    let (gateway, store, key) = with_key(
        &app,
        Row {
            refill_interval: Some(Duration::from_secs(600)),
            refill_amount: Some(2),
            created_at: NOW,
            ..limited(1)
        },
    );
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
    for _ in 0..3 {
        let answer = ask(&gateway, "/dashboard", &key);
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("retry-after"), Some("601"));
    }
    // Once it is known that nothing is left, nobody asks for a while.
    assert_eq!(store.takes(), 2);
    gateway.clock.advance(Duration::from_secs(601));
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 429);
    assert_eq!(store.counters_of("k1").remaining, Some(0));
}

#[test]
fn a_key_that_was_used_up_and_raised_elsewhere_works_again_shortly() {
    let app = App::start();
    let (gateway, store, key) = with_key(&app, limited(0));
    let answer = ask(&gateway, "/dashboard", &key);
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), None, "nobody knows when");
    store.change(&key, |found| found.row.counters.remaining = Some(5));
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 429);
    assert_eq!(ask(&gateway, "/strict/x", &key).status, 200, "asked now");
    gateway.clock.advance(Duration::from_secs(5));
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
    assert_eq!(store.counters_of("k1").remaining, Some(3));
}

#[test]
fn disabled_expired_and_orphaned_keys_are_refused_and_good_ones_are_not() {
    let app = App::start();
    let store = Arc::new(KeyStore::default());
    let put = |word: &str, row: Row, user: Option<&str>| {
        let owner = user.map(|user| owner(&row, user));
        store.put(&key(word), row, owner);
    };
    put("good", row("k1"), Some("kate"));
    put(
        "off",
        Row {
            enabled: Some(false),
            ..row("k2")
        },
        Some("kate"),
    );
    put(
        "now",
        Row {
            expires_at: Some(NOW),
            ..row("k3")
        },
        Some("kate"),
    );
    put(
        "old",
        Row {
            expires_at: Some(UnixMs(NOW.0 - 1)),
            ..row("k4")
        },
        Some("kate"),
    );
    put("organization", row("k5"), None);
    put(
        "machine",
        Row {
            config_id: Some("machines".into()),
            ..row("k6")
        },
        Some("kate"),
    );
    let gateway = setup(&app, Arc::clone(&store) as _, |_| {}).start();
    for (word, status) in [
        ("good", 200),
        ("off", 401),
        ("now", 200),
        ("old", 401),
        ("organization", 401),
        ("machine", 401),
        ("nobody's", 401),
    ] {
        for _ in 0..2 {
            assert_eq!(
                ask(&gateway, "/dashboard", &key(word)).status,
                status,
                "{word}"
            );
        }
        let optional = ask(&gateway, "/optional/x", &key(word));
        assert_eq!(optional.status, 200, "{word}");
        let named = app.last().header("x-auth-user-id").is_some();
        assert_eq!(named, status == 200, "{word}");
    }
}

#[test]
fn a_key_is_remembered_for_as_long_as_sessions_are_and_not_where_the_rule_is_strict() {
    let app = App::start();
    let (gateway, store, key) = with_key(&app, row("k1"));
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
    }
    assert_eq!(store.asked(), 1);
    store.change(&key, |found| found.row.enabled = Some(false));
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 200, "remembered");
    assert_eq!(ask(&gateway, "/strict/x", &key).status, 401);
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 401, "learned");
    store.change(&key, |found| found.row.enabled = Some(true));
    gateway.clock.advance(Duration::from_secs(30));
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
}

#[test]
fn what_is_said_to_have_ended_is_asked_for_again() {
    let app = App::start();
    let (gateway, store, key) = with_key(&app, row("k1"));
    let stored = api_key::stored_form(&key, true);
    for ended in [
        Ended::ApiKey("k1".into()),
        Ended::ApiKey(stored.into()),
        Ended::User("kate".into()),
        Ended::All,
    ] {
        store.change(&key, |found| found.row.enabled = Some(true));
        gateway.running.gateway.gate.sessions.cache().forget_all();
        assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
        store.change(&key, |found| found.row.enabled = Some(false));
        let cache = gateway.running.gateway.gate.sessions.cache();
        cache.forget(&Ended::ApiKey("somebody else's".into()));
        cache.forget(&Ended::User("somebody else".into()));
        assert_eq!(ask(&gateway, "/dashboard", &key).status, 200, "{ended:?}");
        cache.forget(&ended);
        assert_eq!(ask(&gateway, "/dashboard", &key).status, 401, "{ended:?}");
    }
}

#[test]
fn unknown_keys_are_asked_for_once_in_a_while_and_not_more_often_than_an_address_may() {
    let app = App::start();
    let (gateway, store, good) = with_key(&app, row("k1"));
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "/dashboard", &key("nobody's")).status, 401);
    }
    assert_eq!(store.asked(), 1);
    let refused = (0..100)
        .map(|guess| ask(&gateway, "/dashboard", &key(&format!("guess-{guess}-"))).status)
        .filter(|status| *status == 429)
        .count();
    assert!(refused >= 35, "{refused}");
    assert!(store.asked() <= 65, "{}", store.asked());
    gateway.clock.advance(Duration::from_secs(61));
    assert_eq!(ask(&gateway, "/dashboard", &good).status, 200);
}

#[test]
fn good_keys_never_count_as_guesses() {
    let app = App::start();
    let store = Arc::new(KeyStore::default());
    let gateway = setup(&app, Arc::clone(&store) as _, |_| {}).start();
    for number in 0..150 {
        let (row, key) = (row(&format!("k{number}")), key(&format!("good-{number}-")));
        let owner = owner(&row, "kate");
        store.put(&key, row, Some(owner));
        assert_eq!(ask(&gateway, "/dashboard", &key).status, 200, "{number}");
    }
}

#[test]
fn while_the_store_is_out_nobody_is_turned_away_for_good_and_no_count_is_lost() {
    let app = App::start();
    let store = Arc::new(KeyStore::default());
    let (counted, last) = (key("counted"), key("limited"));
    store.put(
        &counted,
        rate_limited(1000),
        Some(owner(&row("k1"), "kate")),
    );
    let few = Row {
        id: "k2".into(),
        ..limited(5)
    };
    store.put(&last, few, Some(owner(&row("k2"), "kate")));
    let gateway = setup(&app, Arc::clone(&store) as _, |_| {}).start();
    for key in [&counted, &last] {
        assert_eq!(ask(&gateway, "/dashboard", key).status, 200);
    }
    await_until("the first counts", || store.counters_of("k1").requests == 1);
    store.fail(true);
    for _ in 0..20 {
        assert_eq!(
            ask(&gateway, "/dashboard", &counted).status,
            200,
            "from memory"
        );
    }
    assert_eq!(
        ask(&gateway, "/dashboard", &last).status,
        503,
        "nobody can tell"
    );
    assert_eq!(ask(&gateway, "/dashboard", &key("unknown")).status, 503);
    assert_eq!(
        ask(&gateway, "/optional/x", &last).status,
        200,
        "not asked for"
    );
    gateway.clock.advance(Duration::from_secs(30));
    assert_eq!(ask(&gateway, "/dashboard", &counted).status, 503, "too old");
    store.fail(false);
    await_until("the counts to be written", || {
        store.counters_of("k1").requests == 21
    });
    assert_eq!(ask(&gateway, "/dashboard", &counted).status, 200);
    assert_eq!(ask(&gateway, "/dashboard", &last).status, 200);
    assert_eq!(store.counters_of("k2").remaining, Some(3));
}

#[test]
fn a_write_that_was_made_and_not_answered_counts_once() {
    let app = App::start();
    let (gateway, store, key) = with_key(&app, rate_limited(1000));
    for round in 1..=5 {
        store.doubt_next_write();
        gateway.clock.advance(Duration::from_millis(10));
        assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
        await_until("the count", || store.counters_of("k1").requests == round);
    }
    gateway.running.stop();
    assert_eq!(store.counters_of("k1").requests, 5);
    let keys = gateway.running.gateway.keys.as_ref().unwrap();
    assert_eq!(keys.unwritten(), 0);
}

#[test]
fn a_stop_writes_what_was_counted() {
    let app = App::start();
    let (gateway, store, key) = with_key(&app, rate_limited(1000));
    for _ in 0..7 {
        assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
    }
    gateway.running.stop();
    assert_eq!(store.counters_of("k1").requests, 7);
    assert_eq!(store.counters_of("k1").last_request, Some(NOW));
}

#[test]
fn where_the_app_counts_the_gateway_only_looks() {
    let app = App::start();
    let store = Arc::new(KeyStore::default());
    let (some, none, refilled) = (key("some"), key("none"), key("refilled"));
    let mut rows = [limited(1), limited(0), limited(0)];
    for (row, id) in rows.iter_mut().zip(["k1", "k2", "k3"]) {
        row.id = id.into();
    }
    let [first, second, mut third] = rows;
    (third.refill_interval, third.refill_amount) = (Some(Duration::from_secs(1)), Some(5));
    for (key, row) in [(&some, first), (&none, second), (&refilled, third)] {
        let owner = owner(&row, "kate");
        store.put(key, row, Some(owner));
    }
    let gateway = setup(&app, Arc::clone(&store) as _, |settings| {
        settings.usage = Usage::App
    })
    .start();
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "/dashboard", &some).status, 200);
        assert_eq!(ask(&gateway, "/dashboard", &none).status, 429);
        assert_eq!(ask(&gateway, "/dashboard", &refilled).status, 200);
    }
    gateway.running.stop();
    assert_eq!((store.takes(), store.writes()), (0, 0));
    assert_eq!(store.counters_of("k1").remaining, Some(1));
}

#[test]
fn a_route_may_want_keys_or_refuse_them_and_none_is_a_recent_sign_in() {
    let app = App::start();
    let (store, key) = (Arc::new(KeyStore::default()), key("good"));
    store.put(&key, row("k1"), Some(owner(&row("k1"), "kate")));
    let mut setup = setup(&app, store, |_| {});
    let accepts = |kinds: &[&str]| {
        rule(Need::SignedIn(Conditions {
            credentials: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            ..Conditions::default()
        }))
    };
    let recent = rule(Need::SignedIn(Conditions {
        step_up: Some(DAY),
        ..Conditions::default()
    }));
    setup.routes.routes.extend([
        route("/machines/:path*", accepts(&["api_key"])),
        route("/people/:path*", accepts(&["session"])),
        route("/recent/:path*", recent),
    ]);
    let gateway = setup.start();
    gateway.store.put(record("tok", "carl"));
    let session = cookie("tok");
    for (target, by_key, by_cookie) in [
        ("/machines/x", 200, 403),
        ("/people/x", 403, 200),
        ("/recent/x", 401, 200),
    ] {
        assert_eq!(ask(&gateway, target, &key).status, by_key, "{target}");
        let answer = gateway.get(target, &[("cookie", &session)]);
        assert_eq!(answer.status, by_cookie, "{target}");
    }
}

/// So many at once, over the wire; gives how often each status came.
fn at_once(gateway: &Gateway, key: &str, requests: usize) -> (usize, usize, usize) {
    let counts = [(); 3].map(|()| AtomicUsize::new(0));
    let [passed, limited, other] = &counts;
    thread::scope(|scope| {
        for _ in 0..requests {
            scope.spawn(|| {
                let count = match ask(gateway, "/dashboard", key).status {
                    200 => passed,
                    429 => limited,
                    _ => other,
                };
                count.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    counts.map(AtomicUsize::into_inner).into()
}

#[test]
fn however_many_use_a_key_in_memory_at_once_no_more_pass_than_are_left() {
    let app = App::start();
    let (gateway, store, key) = with_key(&app, limited(50));
    assert_eq!(at_once(&gateway, &key, 200), (50, 150, 0));
    assert_eq!(store.counters_of("k1").remaining, Some(0));
    assert!(store.takes() < 200, "{} questions", store.takes());
    assert_eq!(store.asked(), 1);
}

#[test]
fn however_many_use_a_key_at_once_no_more_pass_than_the_rate_limit_lets() {
    let app = App::start();
    let (gateway, store, key) = with_key(&app, rate_limited(50));
    assert_eq!(at_once(&gateway, &key, 200), (50, 150, 0));
    gateway.running.stop();
    assert_eq!(store.counters_of("k1").requests, 50);
}

/// A row as the framework would have made it for `key`, with a user.
async fn fill(tables: &Tables, key: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let user = serde_json::json!({
        "id": "kate", "name": "Kate", "email": "kate@example.com", "emailVerified": true,
        "createdAt": "2026-06-15T12:00:00.250Z", "updatedAt": "2026-06-15T12:00:00.250Z",
    });
    tables.insert("user", &user).await;
    let mut row = serde_json::json!({
        "id": "k1", "configId": "default", "referenceId": "kate", "key": api_key::stored_form(key, true),
        "enabled": true, "rateLimitEnabled": true, "rateLimitTimeWindow": 86_400_000, "rateLimitMax": 10_000, "requestCount": 0,
        "createdAt": "2026-06-15T12:00:00.250Z", "updatedAt": "2026-06-15T12:00:00.250Z",
    });
    change(&mut row);
    tables.insert("apikey", &row).await;
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Two hundred requests at once, half through each of two gateways, on a key with fifty uses left.
fn shared_by_two_gateways(dialect: Option<Dialect>) {
    let runtime = runtime();
    let key = key("good");
    let tables = runtime.block_on(async {
        let tables = Tables::new(dialect).await;
        fill(&tables, &key, |row| row["remaining"] = 50.into()).await;
        tables
    });
    let app = App::start();
    let gateways =
        [(); 2].map(|()| setup(&app, runtime.block_on(open(&tables.url)), |_| {}).start());
    let [(a, b, c), (d, e, f)] = thread::scope(|scope| {
        let [one, other] = &gateways;
        let one = scope.spawn(|| at_once(one, &key, 100));
        let other = scope.spawn(|| at_once(other, &key, 100));
        [one.join().unwrap(), other.join().unwrap()]
    });
    assert_eq!((a + d, b + e, c + f), (50, 150, 0), "{dialect:?}");
    assert_eq!(app.count(), 50);
    let row = runtime.block_on(tables.counters("k1")).unwrap();
    assert_eq!(
        row["remaining"], 0,
        "{dialect:?}, before anything is written behind"
    );
    for gateway in &gateways {
        gateway.running.stop();
    }
    let row = runtime.block_on(tables.counters("k1")).unwrap();
    assert_eq!(row["remaining"], 0, "{dialect:?}");
    assert_eq!(row["requestCount"], 50, "{dialect:?}");
    assert_eq!(
        row["lastRequest"], "2026-11-18T11:06:40.000Z",
        "{dialect:?}"
    );
    assert_eq!(row["updatedAt"], row["lastRequest"], "{dialect:?}");
}

#[test]
fn two_gateways_share_the_uses_of_a_key_in_sqlite() {
    shared_by_two_gateways(None);
}

#[test]
fn two_gateways_share_the_uses_of_a_key_in_postgres() {
    shared_by_two_gateways(Some(Dialect::Postgres));
}

#[test]
fn two_gateways_share_the_uses_of_a_key_in_mariadb() {
    shared_by_two_gateways(Some(Dialect::MySql));
}

#[test]
fn gateways_add_their_rate_counts_to_each_others_and_to_the_apps() {
    for dialect in [None, Some(Dialect::Postgres), Some(Dialect::MySql)] {
        let runtime = runtime();
        let key = key("good");
        let tables = runtime.block_on(async {
            let tables = Tables::new(dialect).await;
            let used = |row: &mut serde_json::Value| {
                row["requestCount"] = 3.into();
                row["rateLimitMax"] = 30.into();
                row["lastRequest"] = "2026-11-18T11:00:00.000Z".into();
            };
            fill(&tables, &key, used).await;
            tables
        });
        let app = App::start();
        let gateways =
            [(); 2].map(|()| setup(&app, runtime.block_on(open(&tables.url)), |_| {}).start());
        for gateway in &gateways {
            for _ in 0..5 {
                assert_eq!(ask(gateway, "/dashboard", &key).status, 200);
            }
        }
        let quote = tables.quote();
        let used = format!(
            "UPDATE {quote}apikey{quote} SET {quote}requestCount{quote} = {quote}requestCount{quote} + 2"
        );
        runtime.block_on(tables.run(&used));
        for gateway in &gateways {
            let keys = gateway.running.gateway.keys.as_ref().unwrap();
            runtime.block_on(keys.write());
        }
        let count = || runtime.block_on(tables.counters("k1")).unwrap()["requestCount"].clone();
        assert_eq!(count(), 15, "{dialect:?}");
        // The second has read what all wrote; fifteen are left.
        let (passed, limited, _) = at_once(&gateways[1], &key, 20);
        assert_eq!((passed, limited), (15, 5), "{dialect:?}");
        gateways[1].running.stop();
        assert_eq!(count(), 30, "{dialect:?}");
    }
}

async fn refused(url: &str, access: KeyAccess) -> OpenError {
    let opened = store::open_api_keys(&settings(url), access, KeyStorage::Database).await;
    opened.err().unwrap_or_else(|| panic!("{url} opened"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_only_read_is_told_what_to_do() {
    for dialect in [Dialect::Postgres, Dialect::MySql] {
        let tables = Tables::new(Some(dialect)).await;
        fill(&tables, &key("good"), |_| {}).await;
        let error = refused(&tables.reader_url(), KeyAccess::Write).await;
        assert!(matches!(error, OpenError::ReadOnlyKeys { .. }), "{error:?}");
        assert!(error.is_configuration());
        assert!(error.advice().contains("UPDATE") && error.advice().contains("usage = \"app\""));
        let settings = settings(&tables.reader_url());
        let keys = store::open_api_keys(&settings, KeyAccess::Read, KeyStorage::Database);
        let keys = keys.await.unwrap_or_else(|error| panic!("{error}"));
        let stored = api_key::stored_form(&key("good"), true);
        let found = keys.find(&stored).await.unwrap().expect("the key");
        assert_eq!(
            found.owner.unwrap().email.as_deref(),
            Some("kate@example.com")
        );
        assert_eq!(keys.find("other").await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_without_keys_is_told_so() {
    let tables = Tables::made_by(
        None,
        "CREATE TABLE \"user\" (id text PRIMARY KEY, email text); CREATE TABLE session (id text, token text, userId text, expiresAt date)",
    )
    .await;
    let error = refused(&tables.url, KeyAccess::Write).await;
    assert!(
        matches!(&error, OpenError::Schema { cause, .. } if cause.to_string().contains("`apikey`")),
        "{error}"
    );
    // Sessions do not mind.
    assert!(store::open(&settings(&tables.url)).await.is_ok());
}

/// Columns of a table of keys in another spelling and other types, besides `id`, the key and the owner.
fn limits(name: impl Fn(&str) -> String, number: &str, flag: &str, date: &str) -> String {
    let column = |logical: &str, kind: &str| format!("{} {kind}", name(logical));
    [
        column("enabled", flag),
        column("expiresAt", date),
        column("createdAt", date),
        column("rateLimitEnabled", flag),
        column("rateLimitTimeWindow", number),
        column("rateLimitMax", number),
        column("refillInterval", number),
        column("refillAmount", number),
        column("remaining", number),
        column("lastRefillAt", date),
        column("requestCount", number),
        column("lastRequest", date),
        column("updatedAt", date),
    ]
    .join(", ")
}

fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut text, letter| {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
        text
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_other_makes_are_read_and_written_in_their_own_way() {
    let quoted = |name: &str| format!("\"{name}\"");
    let plain = |name: &str| name.to_owned();
    let stored = api_key::stored_form(&key("good"), true);
    struct Make {
        what: &'static str,
        dialect: Option<Dialect>,
        ddl: String,
        /// Inserts the key with two uses left and a last request in 1970.
        insert: String,
        /// The row afterwards: what is left, the count, the last request.
        look: &'static str,
        expect: [&'static str; 3],
    }
    let makes = [
        Make {
            what: "1.4, the built-in adapter",
            dialect: None,
            ddl: format!(
                "CREATE TABLE \"user\" (id text PRIMARY KEY, email text); CREATE TABLE apikey (id text PRIMARY KEY, \"key\" text, userId text, {})",
                limits(quoted, "integer", "integer", "date")
            ),
            insert: format!(
                "INSERT INTO apikey (id, \"key\", userId, createdAt, remaining, refillInterval, rateLimitMax, rateLimitTimeWindow, lastRequest) VALUES \
                 ('1', '{stored}', '7', '2026-06-15T12:00:00.250Z', 2, NULL, 5, 1000, '1970-01-02T00:00:00.000Z')"
            ),
            look: "SELECT CAST(remaining AS TEXT), CAST(requestCount AS TEXT), lastRequest FROM apikey",
            expect: ["1", "1", "2026-11-18T11:06:40.000Z"],
        },
        Make {
            what: "Drizzle, plural, milliseconds",
            dialect: None,
            ddl: format!(
                "CREATE TABLE users (id text PRIMARY KEY, email text); CREATE TABLE apikeys (id text PRIMARY KEY, \"key\" text, config_id text, reference_id text, {})",
                limits(snake, "integer", "integer", "integer")
            ),
            insert: format!(
                "INSERT INTO apikeys (id, \"key\", reference_id, created_at, remaining, rate_limit_max, rate_limit_time_window, last_request) VALUES \
                 ('1', '{stored}', '7', 1781524800250, 2, 5, 1000, 86400000)"
            ),
            look: "SELECT CAST(remaining AS TEXT), CAST(request_count AS TEXT), CAST(last_request AS TEXT) FROM apikeys",
            expect: ["1", "1", "1795000000000"],
        },
        Make {
            what: "Drizzle, seconds",
            dialect: None,
            ddl: format!(
                "CREATE TABLE users (id text PRIMARY KEY, email text); CREATE TABLE api_keys (id text PRIMARY KEY, \"key\" text, reference_id text, {})",
                limits(snake, "integer", "integer", "integer")
            ),
            insert: format!(
                "INSERT INTO api_keys (id, \"key\", reference_id, created_at, remaining, rate_limit_max, rate_limit_time_window, last_request) VALUES \
                 ('1', '{stored}', '7', 1781524800, 2, 5, 1000, 86400)"
            ),
            look: "SELECT CAST(remaining AS TEXT), CAST(request_count AS TEXT), CAST(last_request AS TEXT) FROM api_keys",
            expect: ["1", "1", "1795000000"],
        },
        Make {
            what: "PostgreSQL, serial ids, dates without zone",
            dialect: Some(Dialect::Postgres),
            ddl: format!(
                "CREATE TABLE \"user\" (id integer PRIMARY KEY, email text); CREATE TABLE apikey (id serial PRIMARY KEY, \"key\" text, \"referenceId\" text, {})",
                limits(quoted, "integer", "boolean", "timestamp(3)")
            ),
            insert: format!(
                "INSERT INTO apikey (\"key\", \"referenceId\", \"createdAt\", remaining, \"rateLimitMax\", \"rateLimitTimeWindow\", \"lastRequest\") VALUES \
                 ('{stored}', '7', '2026-06-15 12:00:00.25', 2, 5, 1000, '1970-01-02')"
            ),
            look: "SELECT remaining::text, \"requestCount\"::text, \"lastRequest\"::text FROM apikey",
            expect: ["1", "1", "2026-11-18 11:06:40"],
        },
        Make {
            what: "PostgreSQL, uuids, bigint milliseconds",
            dialect: Some(Dialect::Postgres),
            ddl: format!(
                "CREATE TABLE users (id text PRIMARY KEY, email text); CREATE TABLE api_key (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), key varchar(255), reference_id varchar(36), {})",
                limits(snake, "bigint", "boolean", "bigint")
            ),
            insert: format!(
                "INSERT INTO api_key (key, reference_id, created_at, remaining, rate_limit_max, rate_limit_time_window, last_request) VALUES \
                 ('{stored}', '7', 1781524800250, 2, 5, 1000, 86400000)"
            ),
            look: "SELECT remaining::text, request_count::text, last_request::text FROM api_key",
            expect: ["1", "1", "1795000000000"],
        },
        Make {
            what: "MariaDB, serial ids, datetime",
            dialect: Some(Dialect::MySql),
            ddl: format!(
                "CREATE TABLE user (id integer PRIMARY KEY, email text); CREATE TABLE apikey (id integer AUTO_INCREMENT PRIMARY KEY, `key` varchar(255), userId integer, {})",
                limits(plain, "integer", "boolean", "datetime(3)")
            ),
            insert: format!(
                "INSERT INTO apikey (`key`, userId, createdAt, remaining, rateLimitMax, rateLimitTimeWindow, lastRequest) VALUES \
                 ('{stored}', 7, '2026-06-15 12:00:00.25', 2, 5, 1000, '1970-01-02')"
            ),
            look: "SELECT CAST(remaining AS CHAR), CAST(requestCount AS CHAR), CAST(lastRequest AS CHAR) FROM apikey",
            expect: ["1", "1", "2026-11-18 11:06:40.000"],
        },
    ];
    for make in makes {
        let tables = Tables::made_by(make.dialect, &make.ddl).await;
        let quote = tables.quote();
        let users = if make.ddl.contains("users") {
            "users"
        } else {
            "user"
        };
        tables
            .run(&format!(
                "INSERT INTO {quote}{users}{quote} (id, email) VALUES ('7', 'kate@example.com')"
            ))
            .await;
        tables.run(&make.insert).await;
        let app = App::start();
        let keys = open(&tables.url).await;
        let gateway = setup(&app, keys, |_| {}).start();
        let status =
            tokio::task::block_in_place(|| ask(&gateway, "/dashboard", &key("good")).status);
        assert_eq!(status, 200, "{}", make.what);
        assert_eq!(
            app.last().header("x-auth-user-id"),
            Some("7"),
            "{}",
            make.what
        );
        tokio::task::block_in_place(|| gateway.running.stop());
        let row = tables.texts(make.look).await.unwrap();
        let row: Vec<&str> = row
            .iter()
            .map(|cell| cell.as_deref().unwrap_or("NULL"))
            .collect();
        assert_eq!(row, make.expect, "{}", make.what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refills_are_made_once_however_many_see_them_due() {
    for dialect in [None, Some(Dialect::Postgres), Some(Dialect::MySql)] {
        let tables = Tables::new(dialect).await;
        let key = key("good");
        fill(&tables, &key, |row| {
            row["remaining"] = 1.into();
            row["refillInterval"] = 60_000.into();
            row["refillAmount"] = 7.into();
        })
        .await;
        let app = App::start();
        let (one, other) = (open(&tables.url).await, open(&tables.url).await);
        let gateways = [one, other].map(|keys| setup(&app, keys, |_| {}).start());
        let passed = tokio::task::block_in_place(|| {
            thread::scope(|scope| {
                let running = gateways
                    .each_ref()
                    .map(|gateway| scope.spawn(|| at_once(gateway, &key, 20)));
                running
                    .map(|running| running.join().unwrap())
                    .map(|(passed, _, other)| (passed, other))
            })
        });
        let [(a, x), (b, y)] = passed;
        assert_eq!((a + b, x + y), (7, 0), "{dialect:?}");
        let row = tables.counters("k1").await.unwrap();
        assert_eq!(row["remaining"], 0, "{dialect:?}");
        assert_eq!(
            row["lastRefillAt"], "2026-11-18T11:06:40.000Z",
            "{dialect:?}"
        );
        tokio::task::block_in_place(|| drop(gateways));
    }
}

#[test]
fn a_database_that_went_away_makes_keys_unavailable_and_not_bad() {
    let runtime = runtime();
    let server = crate::support::databases::Server::start(Dialect::Postgres);
    let database = server.database();
    let ddl = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/db/full.postgres.ddl.sql");
    server.sql(&database, &std::fs::read_to_string(ddl).unwrap());
    let key = key("good");
    let stored = api_key::stored_form(&key, true);
    server.sql(&database, &format!(
        "INSERT INTO \"user\" (id, name, email, \"emailVerified\") VALUES ('kate', 'Kate', 'kate@example.com', true); \
         INSERT INTO apikey (id, \"configId\", \"referenceId\", key, remaining, \"createdAt\", \"updatedAt\") \
         VALUES ('k1', 'default', 'kate', '{stored}', 100, now(), now())"
    ));
    let app = App::start();
    let keys = runtime.block_on(open(&server.url(&database)));
    let gateway = setup(&app, keys, |_| {}).start();
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 200);
    server.stop();
    assert_eq!(ask(&gateway, "/dashboard", &key).status, 503);
    assert_eq!(ask(&gateway, "/strict/x", &key).status, 503);
    assert_eq!(app.count(), 1);
    server.resume();
    await_until("the database to be asked again", || {
        ask(&gateway, "/dashboard", &key).status == 200
    });
}

/// Keys of which nobody finds anything out, for as long as the test holds them.
struct Slow(Arc<Store>);

impl ApiKeys for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn find<'a>(
        &'a self,
        stored: &'a str,
    ) -> BoxFuture<'a, Result<Option<api_key::Found>, SourceError>> {
        Box::pin(async move {
            self.0.find(stored).await?;
            let row = row("k1");
            let owner: Record = owner(&row, "kate");
            Ok(Some(api_key::Found {
                row,
                owner: Some(owner),
            }))
        })
    }

    fn take<'a>(
        &'a self,
        _: &'a str,
        _: api_key::Wanted,
    ) -> BoxFuture<'a, Result<api_key::Taken, SourceError>> {
        Box::pin(std::future::ready(Ok(api_key::Taken::Gone)))
    }

    fn write<'a>(
        &'a self,
        _: &'a str,
        _: api_key::Used,
    ) -> BoxFuture<'a, Result<Option<api_key::Counters>, api_key::Unwritten>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn counters<'a>(
        &'a self,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<api_key::Counters>, SourceError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

#[test]
fn however_many_come_with_a_key_that_is_not_known_yet_the_store_is_asked_once() {
    let app = App::start();
    let held = Arc::new(Store::default());
    let gateway = setup(&app, Arc::new(Slow(Arc::clone(&held))), |_| {}).start();
    held.hold();
    let key = key("good");
    thread::scope(|scope| {
        let asking: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| ask(&gateway, "/dashboard", &key).status))
            .collect();
        let keys = gateway.running.gateway.keys.as_ref().unwrap();
        await_until("all to wait", || keys.waiting() == 20);
        held.release();
        for asked in asking {
            assert_eq!(asked.join().unwrap(), 200);
        }
    });
    assert_eq!(held.asked(), 1);
}

#[test]
fn optimistic_routes_look_keys_up_all_the_same() {
    let app = App::start();
    let (store, good) = (Arc::new(KeyStore::default()), key("good"));
    store.put(&good, row("k1"), Some(owner(&row("k1"), "kate")));
    let mut setup = setup(&app, store, |_| {});
    let mut quick = rule(Need::SignedIn(Conditions::default()));
    quick.freshness = Freshness::Optimistic;
    setup.routes.routes.push(route("/quick/:path*", quick));
    let gateway = setup.start();
    assert_eq!(ask(&gateway, "/quick/x", &good).status, 200);
    assert_eq!(ask(&gateway, "/quick/x", &key("other")).status, 401);
}

#[test]
fn two_gateways_share_the_uses_of_a_key_in_redis() {
    let runtime = runtime();
    let key = key("good");
    let secondary = runtime.block_on(Secondary::new());
    runtime.block_on(fill(&secondary.tables, &key, |_| {}));
    secondary.put(&serde_json::json!({
        "id": "k1", "configId": "default", "referenceId": "kate", "key": api_key::stored_form(&key, true), "enabled": true,
        "rateLimitEnabled": true, "rateLimitTimeWindow": 86_400_000, "rateLimitMax": 1000, "requestCount": 0, "remaining": 50,
        "metadata": "{\"plan\":[]}", "createdAt": "2026-06-15T12:00:00.250Z", "updatedAt": "2026-06-15T12:00:00.250Z",
    }));
    let app = App::start();
    let gateways =
        [(); 2].map(|()| setup(&app, runtime.block_on(secondary.open()), |_| {}).start());
    let [(a, b, c), (d, e, f)] = thread::scope(|scope| {
        let [one, other] = &gateways;
        let one = scope.spawn(|| at_once(one, &key, 100));
        let other = scope.spawn(|| at_once(other, &key, 100));
        [one.join().unwrap(), other.join().unwrap()]
    });
    assert_eq!((a + d, b + e, c + f), (50, 150, 0));
    assert_eq!(secondary.row("k1")["remaining"], 0);
    for gateway in &gateways {
        gateway.running.stop();
    }
    let row = secondary.row("k1");
    assert_eq!(row["requestCount"], 50);
    assert_eq!(row["metadata"], "{\"plan\":[]}");
    secondary.redis.stop();
    let gateway = setup(&app, runtime.block_on(open(&secondary.tables.url)), |_| {}).start();
    assert_eq!(
        ask(&gateway, "/dashboard", &key).status,
        200,
        "in the database it is another one"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_keys_are_has_to_be_said() {
    let secondary = Secondary::new().await;
    let open = async |settings: &store::Settings, storage| {
        store::open_api_keys(settings, KeyAccess::Write, storage)
            .await
            .err()
    };
    let beside = secondary.settings();
    assert!(open(&beside, KeyStorage::Secondary).await.is_none());
    assert!(open(&beside, KeyStorage::Database).await.is_none());
    let alone = secondary.redis.settings();
    let database = settings(&secondary.tables.url);
    for (settings, storage) in [
        (&alone, KeyStorage::Secondary),
        (&alone, KeyStorage::Database),
        (&database, KeyStorage::Secondary),
    ] {
        let error = open(settings, storage).await.expect("it cannot be opened");
        assert!(matches!(error, OpenError::NoKeys { .. }), "{error}");
        assert!(error.is_configuration());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_of_redis_that_may_only_read_is_told_what_to_do() {
    let secondary = Secondary::new().await;
    let mut app = secondary.redis.connect();
    let acl = [
        "ACL",
        "SETUSER",
        "reader",
        "on",
        ">word",
        "~*",
        "+getrange",
        "+ping",
        "+eval",
        "+get",
        "+select",
        "+client",
        "+hello",
    ];
    let _: String = crate::support::redis::run(&mut app, &acl);
    let mut settings = secondary.settings();
    let url = secondary
        .redis
        .url(0)
        .replace("redis://", "redis://reader:word@");
    settings.url = vestibule::secret::Secret::new(url);
    let opened = store::open_api_keys(&settings, KeyAccess::Write, KeyStorage::Secondary).await;
    let error = opened.err().expect("it may not write");
    assert!(matches!(error, OpenError::ReadOnlyKeys { .. }), "{error:?}");
    let opened = store::open_api_keys(&settings, KeyAccess::Read, KeyStorage::Secondary).await;
    assert!(opened.is_ok(), "{:?}", opened.err());
}
