//! Starting, stopping, and the admin listener.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vestibule::secret::Secret;
use vestibule::server::run::StartError;
use vestibule::telemetry::metrics::NAMES;

use crate::support::wire::{RawApp, Wire};
use crate::support::{
    Answer, App, Gateway, PATIENCE, Setup, await_until, cookie, exchange, record,
};

const TOKEN: &str = "admin token of the tests";

/// Asks the admin listener.
fn admin(gateway: &Gateway, line: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    exchange(
        gateway.admin,
        format!(
            "{line} HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n{headers}\r\n{body}",
            gateway.admin
        )
        .as_bytes(),
    )
}

fn evict(gateway: &Gateway, body: &str) -> u16 {
    let token = format!("authorization: Bearer {TOKEN}\r\n");
    admin(gateway, "POST /sessions/evict", &token, body).status
}

// ---------------------------------------------------------------------------------------------------------------- starting

#[test]
fn a_port_somebody_else_listens_on_is_named_with_its_key() {
    let app = App::start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address");
    for key in ["listen", "admin"] {
        let mut setup = Setup::in_front_of(app.address);
        if key == "listen" {
            setup.server.listen = vec![address];
        } else {
            setup.server.admin = Some(address);
        }
        let Err(error) = setup.try_start().map(drop) else {
            panic!("it started on a port that is taken")
        };
        assert!(
            matches!(&error, StartError::Listen { key: named, address: at, .. } if *named == key && *at == address),
            "{error:?}"
        );
        assert!(error.is_dependency());
        assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(error.advice().contains("another port"));
    }
}

#[test]
fn it_listens_on_every_address_it_is_given_and_without_an_admin_listener() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    let second = crate::support::free_port();
    setup.server.listen.push(([127, 0, 0, 1], second).into());
    let gateway = setup.start();
    for address in [gateway.address, ([127, 0, 0, 1], second).into()] {
        let answer = exchange(address, b"GET /public/a HTTP/1.1\r\nhost: app.test\r\n\r\n");
        assert_eq!(answer.status, 200);
    }
}

// ---------------------------------------------------------------------------------------------------------------- stopping

fn accepts(gateway: &Gateway) -> bool {
    TcpStream::connect(gateway.address).is_ok()
}

/// A request the app has and has not answered.
fn ask_and_hold(gateway: &Gateway, app: &RawApp) -> (Wire, Wire) {
    let mut client = Wire::to(gateway.address);
    client.write("GET /public/slow HTTP/1.1\r\nhost: app.test\r\n\r\n");
    let mut server = app.accept();
    server.read_head();
    (client, server)
}

#[test]
fn a_stop_lets_the_request_in_flight_end_and_nobody_new_in() {
    let app = RawApp::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.timeouts.stop = 10 * PATIENCE;
    let gateway = setup.start();
    let (mut client, mut server) = ask_and_hold(&gateway, &app);
    // One that is idle between two requests is not waited for.
    let mut idle = Wire::to(gateway.address);
    idle.write("GET /account HTTP/1.1\r\nhost: app.test\r\n\r\n");
    assert!(idle.read_head().starts_with("HTTP/1.1 401"));
    assert_eq!(admin(&gateway, "GET /readyz", "", "").status, 200);

    let stopped = AtomicBool::new(false);
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            gateway.running.stop();
            stopped.store(true, Ordering::SeqCst);
        });
        await_until("the listener to close", || !accepts(&gateway));
        idle.read_to_end();
        assert!(!stopped.load(Ordering::SeqCst));

        // Whoever asks is told, and can see what is left.
        let ready = admin(&gateway, "GET /readyz", "", "");
        assert_eq!(ready.status, 503);
        assert!(
            admin(&gateway, "GET /readyz?verbose", "", "")
                .text()
                .contains("[failing] accepting")
        );
        assert_eq!(admin(&gateway, "GET /livez", "", "").status, 200);
        assert!(
            admin(&gateway, "GET /metrics", "", "")
                .text()
                .contains("vestibule_requests_in_flight 1")
        );

        assert!(!stopped.load(Ordering::SeqCst));
        server.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone");
        assert!(client.read_head().starts_with("HTTP/1.1 200"));
        assert_eq!(client.read_exactly(4), b"done");
    });
    // Not for as long as it may, but for as long as it takes.
    assert!(began.elapsed() < PATIENCE);
    await_until("the admin listener to close", || {
        TcpStream::connect(gateway.admin).is_err()
    });
}

#[test]
fn a_stop_without_anything_in_flight_is_short() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.timeouts.stop = 10 * PATIENCE;
    let gateway = setup.start();
    assert_eq!(gateway.get("/public/a", &[]).status, 200);
    let began = Instant::now();
    gateway.running.stop();
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn a_request_that_does_not_end_is_cut_when_the_time_to_stop_is_over() {
    let app = RawApp::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.timeouts.stop = Duration::from_millis(300);
    let gateway = setup.start();
    let (mut client, mut server) = ask_and_hold(&gateway, &app);
    let began = Instant::now();
    gateway.running.stop();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(client.read_to_end(), b"");
    assert_eq!(server.read_to_end(), b"");
}

// -------------------------------------------------------------------------------------------------------------------- admin

#[test]
fn health_and_metrics_answer_without_a_token() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    gateway.store.put(record("token-of-ada", "ada"));
    gateway.get("/account", &[("cookie", &cookie("token-of-ada"))]);
    for path in ["/livez", "/readyz"] {
        let answer = admin(&gateway, &format!("GET {path}"), "", "");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(admin(&gateway, &format!("HEAD {path}"), "", "").status, 200);
    }
    let verbose = admin(&gateway, "GET /readyz?verbose", "", "").text();
    assert_eq!(
        verbose,
        "[ok] accepting\n[ok] sessions (test)\n\
         [off] revocations made elsewhere count after `sessions.cache_ttl`\n\
         sessions remembered: 1\nstreams open: 0\n"
    );
    // A store that is down is said, and takes nothing out of service.
    gateway.store.fail(true);
    let verbose = admin(&gateway, "GET /readyz?verbose", "", "");
    assert_eq!(verbose.status, 200);
    assert!(verbose.text().contains("[failing] sessions (test)"));
}

#[test]
fn every_metric_that_is_documented_is_there_from_the_start() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let answer = admin(&gateway, "GET /metrics", "", "");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = answer.text();
    for (name, help) in NAMES {
        assert!(text.contains(&format!("# HELP {name} {help}")), "{name}");
        assert!(
            text.lines()
                .any(|line| line.starts_with(name) && !line.starts_with('#')),
            "{name} has no series"
        );
    }
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(NAMES.iter().any(|(known, _)| *known == name), "{name}");
    }
}

#[test]
fn metrics_count_what_happened() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    gateway.get("/public/a", &[]);
    gateway.get("/account", &[]);
    gateway.get("/a/../b", &[]);
    // An answer is counted after its last byte is sent: the client may be ahead of the count.
    await_until("all three to be counted", || {
        let text = admin(&gateway, "GET /metrics", "", "").text();
        text.contains("{class=\"2xx\"} 1") && text.contains("{class=\"4xx\"} 2")
    });
    let text = admin(&gateway, "GET /metrics", "", "").text();
    for line in [
        "vestibule_requests_total{class=\"2xx\"} 1",
        "vestibule_requests_total{class=\"4xx\"} 2",
        "vestibule_decisions_total{reason=\"public\",verdict=\"allow\"} 1",
        "vestibule_decisions_total{reason=\"no_credential\",verdict=\"unauthorized\"} 1",
        "vestibule_refused_targets_total{reason=\"dot_path_segment\"} 1",
        "vestibule_validation_seconds_count{tier=\"none\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn evicting_a_session_asks_the_store_again() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let ada = cookie("token-of-ada");
    for body in [
        r#"{"token":"token-of-ada"}"#,
        r#"{"user_id":"ada"}"#,
        r#"{"all":true}"#,
    ] {
        gateway.store.put(record("token-of-ada", "ada"));
        let ask = || gateway.get("/account", &[("cookie", &ada)]).status;
        assert_eq!(ask(), 200);
        gateway.store.remove("token-of-ada");
        assert_eq!(ask(), 200, "{body}: remembered");
        assert_eq!(evict(&gateway, body), 204, "{body}");
        assert_eq!(ask(), 401, "{body}: forgotten");
        // And so that the next round begins afresh.
        assert_eq!(evict(&gateway, r#"{"all":true}"#), 204);
    }
    let others = cookie("token-of-bob");
    gateway.store.put(record("token-of-bob", "bob"));
    gateway.get("/account", &[("cookie", &others)]);
    let asked = gateway.store.asked();
    assert_eq!(evict(&gateway, r#"{"user_id":"ada"}"#), 204);
    gateway.get("/account", &[("cookie", &others)]);
    assert_eq!(gateway.store.asked(), asked, "somebody else was forgotten");
}

#[test]
fn evicting_takes_the_token() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let body = r#"{"all":true}"#;
    for (headers, status) in [
        (String::new(), 401),
        ("authorization: Bearer wrong\r\n".into(), 401),
        ("authorization: Bearer \r\n".into(), 401),
        (format!("authorization: Basic {TOKEN}\r\n"), 401),
        (format!("authorization: Bearer {TOKEN}x\r\n"), 401),
        (format!("authorization: Bearer {TOKEN}\r\n"), 204),
        (format!("authorization: bearer {TOKEN}\r\n"), 204),
    ] {
        let answer = admin(&gateway, "POST /sessions/evict", &headers, body);
        assert_eq!(answer.status, status, "{headers}");
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert!(!answer.text().contains(TOKEN));
        }
    }
    let mut setup = Setup::in_front_of(app.address);
    setup.server.admin_token = None;
    let tokenless = setup.start();
    for headers in ["", "authorization: Bearer \r\n"] {
        let answer = admin(&tokenless, "POST /sessions/evict", headers, body);
        assert_eq!(answer.status, 401);
    }
    let mut setup = Setup::in_front_of(app.address);
    setup.server.admin_token = Some(Secret::new(""));
    let empty = setup.start();
    let answer = admin(
        &empty,
        "POST /sessions/evict",
        "authorization: Bearer \r\n",
        body,
    );
    assert_eq!(answer.status, 401);
}

#[test]
fn evicting_refuses_what_names_nothing_or_too_much() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let large = format!(r#"{{"token":"{}"}}"#, "x".repeat(17 * 1024));
    for (body, status) in [
        ("", 400),
        ("garbage", 400),
        ("{}", 400),
        ("[]", 400),
        (r#"{"all":false}"#, 400),
        (r#"{"token":"a","user_id":"b"}"#, 400),
        (r#"{"token":"a","all":true}"#, 400),
        (r#"{"token":7}"#, 400),
        (r#"{"token":"a","unknown":1}"#, 400),
        ("\u{0}\u{ff}", 400),
        (large.as_str(), 413),
        (r#"{"token":"a"}"#, 204),
    ] {
        assert_eq!(
            evict(&gateway, body),
            status,
            "{}",
            body.get(..40).unwrap_or(body)
        );
    }
}

#[test]
fn off_loopback_all_but_health_and_metrics_takes_the_token() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    let port = crate::support::free_port();
    setup.server.admin = Some(([0, 0, 0, 0], port).into());
    let mut gateway = setup.start();
    gateway.admin = ([127, 0, 0, 1], port).into();
    let with = format!("authorization: Bearer {TOKEN}\r\n");
    for path in ["/livez", "/readyz", "/readyz?verbose", "/metrics"] {
        assert_eq!(
            admin(&gateway, &format!("GET {path}"), "", "").status,
            200,
            "{path}"
        );
    }
    for path in ["/", "/unknown", "/sessions/evict"] {
        assert_eq!(
            admin(&gateway, &format!("GET {path}"), "", "").status,
            401,
            "{path}"
        );
    }
    assert_eq!(admin(&gateway, "GET /", &with, "").status, 200);
    assert_eq!(admin(&gateway, "GET /unknown", &with, "").status, 404);
    let loopback = Gateway::in_front_of(&app);
    assert_eq!(admin(&loopback, "GET /", "", "").status, 200);
    assert_eq!(admin(&loopback, "GET /unknown", "", "").status, 404);
    assert_eq!(admin(&loopback, "DELETE /livez", "", "").status, 401);
}

#[test]
fn the_admin_listener_answers_to_no_name_somebody_could_point_at_it() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let ask = |host: &str| {
        exchange(
            gateway.admin,
            format!("GET /metrics HTTP/1.1\r\n{host}\r\n").as_bytes(),
        )
        .status
    };
    for host in [
        "host: 127.0.0.1\r\n",
        "host: 127.0.0.1:8081\r\n",
        "host: localhost\r\n",
        "host: LOCALHOST:8081\r\n",
        "host: [::1]\r\n",
        "host: [::1]:8081\r\n",
        "host: 10.1.2.3:8081\r\n",
    ] {
        assert_eq!(ask(host), 200, "{host}");
    }
    for host in [
        "host: rebind.evil.test\r\n",
        "host: rebind.evil.test:8081\r\n",
        "host: app.test\r\n",
        "host: localhost.evil.test\r\n",
        "host: 127.0.0.1.evil.test\r\n",
        "host: \r\n",
        "",
    ] {
        assert!(matches!(ask(host), 400 | 421), "{host}: {}", ask(host));
    }
}

#[test]
fn the_public_listener_serves_nothing_of_the_admin_one() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let token = format!("Bearer {TOKEN}");
    for path in ["/livez", "/readyz", "/readyz?verbose", "/metrics"] {
        let answer = gateway.get(path, &[("authorization", &token)]);
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
    let answer = gateway.send(
        "POST",
        "/sessions/evict",
        &[("authorization", &token)],
        b"{\"all\":true}",
    );
    assert_eq!(answer.status, 401);
    assert!(app.seen().is_empty());
    // For somebody signed in they are paths of the app like any other.
    gateway.store.put(record("token-of-ada", "ada"));
    let answer = gateway.get("/metrics", &[("cookie", &cookie("token-of-ada"))]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "app"));
    // The gateway's own prefix never reaches the app.
    let answer = gateway.get(
        "/_vestibule/metrics",
        &[("cookie", &cookie("token-of-ada"))],
    );
    assert_eq!(answer.status, 404);
    assert_eq!(app.seen().len(), 1);
}
