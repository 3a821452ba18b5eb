//! How requests travel: TLS, HTTP/2, limits, timeouts, several apps and addresses, and what ties a request together.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vestibule::policy::Need;
use vestibule::server::run::StartError;
use vestibule::server::{Tls, UpstreamAddress};

use crate::support::tls::{Certificate, H2, Outcome, fresh_path, h2_headers, http1};
use crate::support::wire::{RawApp, Wire, header};
use crate::support::{
    App, Gateway, Setup, await_until, cookie, record, reply, route, rule, signed_in,
};

const SHORT: Duration = Duration::from_millis(50);

fn address(host: &str, port: u16) -> UpstreamAddress {
    UpstreamAddress {
        host: host.into(),
        port,
        tls: false,
    }
}

/// An address nobody listens on.
fn dead() -> UpstreamAddress {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    address(
        "127.0.0.1",
        listener.local_addr().expect("its address").port(),
    )
}

fn over_tls(app: &App) -> (Gateway, Certificate) {
    let certificate = Certificate::self_signed();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.tls = Some(certificate.files.clone());
    let gateway = setup.start();
    gateway.store.put(record("token-of-ada", "ada"));
    (gateway, certificate)
}

// ------------------------------------------------------------------------------------------------------------ TLS and HTTP/2

#[test]
fn the_gate_holds_over_http2() {
    let app = App::start();
    let (gateway, certificate) = over_tls(&app);
    let client = H2::to(gateway.address, &certificate);

    let refused = client.get("/dashboard", &[]);
    assert_eq!(refused.status(), 401);
    let page = [("accept", "text/html"), ("sec-fetch-dest", "document")];
    let sent = client.get("/dashboard?tab=2", &page);
    assert_eq!(sent.status(), 302);
    assert_eq!(
        sent.headers()["location"],
        "/sign-in?callbackURL=%2Fdashboard%3Ftab%3D2"
    );
    assert!(app.seen().is_empty());

    let through = client.get("/dashboard", &[("cookie", &cookie("token-of-ada"))]);
    assert_eq!(through.status(), 200);
    assert_eq!(through.body(), b"app");
    assert_eq!(app.last().all("x-auth-user-id"), ["ada"]);
    assert_eq!(app.last().all("x-forwarded-proto"), ["https"]);
    assert_eq!(app.last().all("host"), ["app.test"]);
}

#[test]
fn a_cookie_split_over_several_lines_reaches_the_app_as_one() {
    let app = App::start();
    let (gateway, certificate) = over_tls(&app);
    let client = H2::to(gateway.address, &certificate);
    let session = cookie("token-of-ada");
    let crumbs = [
        ("cookie", "theme=dark"),
        ("cookie", session.as_str()),
        ("cookie", "lang=en"),
    ];
    assert_eq!(client.get("/dashboard", &crumbs).status(), 200);
    assert_eq!(
        app.last().all("cookie"),
        [format!("theme=dark; {session}; lang=en")]
    );
}

#[test]
fn no_spelling_of_an_identity_header_comes_through_over_http2() {
    let app = App::start();
    let (gateway, certificate) = over_tls(&app);
    let client = H2::to(gateway.address, &certificate);
    let forged = [
        ("x-auth-user-id", "root"),
        ("x_auth_user_id", "root"),
        ("x.auth.user.id", "root"),
        ("x-auth_user-email", "root"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-harmless_header", "stays"),
    ];
    assert_eq!(client.get("/public/page", &forged).status(), 200);
    let seen = app.last();
    assert!(
        !seen.headers.iter().any(|(_, value)| value == "root"),
        "{:?}",
        seen.headers
    );
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-harmless_header"), ["stays"]);
}

#[test]
fn over_http2_the_authority_is_the_host() {
    let app = App::start();
    let (gateway, certificate) = over_tls(&app);
    let client = H2::to(gateway.address, &certificate);
    let ask = |uri: &str, host: Option<&str>| {
        let mut request = http::Request::get(uri).version(http::Version::HTTP_2);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        client
            .exchange(request.body(()).expect("a request"), b"")
            .map_or(0, |answer| answer.status().as_u16())
    };
    assert_eq!(ask("https://app.test/public/a", None), 200);
    assert_eq!(ask("https://app.test/public/a", Some("app.test")), 200);
    assert_eq!(ask("https://evil.test/public/a", None), 421);
    let before = app.seen().len();
    for (uri, host) in [
        ("https://app.test/public/a", "evil.test"),
        ("https://evil.test/public/a", "app.test"),
    ] {
        let status = ask(uri, Some(host));
        assert!(matches!(status, 0 | 400 | 421), "{uri} {host}: {status}");
    }
    assert_eq!(app.seen().len(), before);
}

#[test]
fn http2_requests_that_are_none_never_reach_the_app() {
    const GOOD: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "app.test"),
        (":path", "/public/a"),
    ];
    let app = App::start();
    let (gateway, certificate) = over_tls(&app);
    let send = |fields: &[(&str, &str)]| h2_headers(gateway.address, &certificate, fields);
    let with = |field| {
        let mut fields = GOOD.to_vec();
        fields.push(field);
        fields
    };
    // Index 8 of the static table is `:status: 200`.
    assert_eq!(send(&GOOD), Outcome::Answered(0x88));
    assert_eq!(send(&with(("x-fine", "1"))), Outcome::Answered(0x88));
    let reached = app.seen().len();
    assert_eq!(reached, 2);
    for bad in [
        ("X-Upper", "1"),
        ("connection", "x-auth-user-id"),
        ("transfer-encoding", "chunked"),
        ("x-cr", "a\r\nx-auth-user-id: root"),
        ("x nul", "1"),
        ("x-nul", "\0"),
        (":path", "/dashboard"),
        (":unknown", "1"),
        ("", "1"),
        ("te", "gzip"),
    ] {
        let outcome = send(&with(bad));
        assert_ne!(outcome, Outcome::Answered(0x88), "{bad:?}");
        assert_eq!(app.seen().len(), reached, "{bad:?}");
    }
    for path in ["public/a", "*", "", "/public/../dashboard", "/public/a b"] {
        let fields = GOOD.map(|(name, value)| (name, if name == ":path" { path } else { value }));
        assert_ne!(send(&fields), Outcome::Answered(0x88), "{path}");
        assert_eq!(app.seen().len(), reached, "{path}");
    }
}

#[test]
fn bodies_pass_over_http2_within_the_limit() {
    let app = App::scripted(|seen, stream| reply(stream, 200, &[], &seen.body));
    let (gateway, certificate) = over_tls(&app);
    let client = H2::to(gateway.address, &certificate);
    let body = vec![b'x'; 200_000];
    let answer = client
        .send("POST", "/public/a", &[], &body)
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.body().len(), body.len());
    let large = vec![b'x'; 1024 * 1024 + 1];
    let length = large.len().to_string();
    let declared = client
        .send("POST", "/public/a", &[("content-length", &length)], &large)
        .expect("an answer");
    assert_eq!(declared.status(), 413);
    let undeclared = client
        .send("POST", "/public/a", &[], &large)
        .expect("an answer");
    assert_eq!(undeclared.status(), 413);
}

#[test]
fn http1_is_spoken_on_the_same_port() {
    let app = App::start();
    let (gateway, certificate) = over_tls(&app);
    let answer = http1(
        gateway.address,
        &certificate,
        &format!(
            "GET /dashboard HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\ncookie: {}\r\n\r\n",
            cookie("token-of-ada")
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(app.last().all("x-forwarded-proto"), ["https"]);
    let answer = http1(
        gateway.address,
        &certificate,
        "GET /dashboard HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[test]
fn a_bad_certificate_is_said_at_the_start() {
    let app = App::start();
    let (good, other) = (Certificate::self_signed(), Certificate::self_signed());
    let garbage = fresh_path("garbage.pem");
    std::fs::write(&garbage, "not a certificate").expect("it is written");
    let (cert, key) = (&good.files.cert, &good.files.key);
    let missing = fresh_path("missing.pem");
    for (cert, key, names) in [
        (&missing, key, "missing.pem"),
        (cert, &missing, "missing.pem"),
        (&garbage, key, "garbage.pem"),
        (cert, &garbage, "garbage.pem"),
        (key, cert, "key.pem"),
        (cert, &other.files.key, "key"),
    ] {
        let mut setup = Setup::in_front_of(app.address);
        setup.server.tls = Some(Tls {
            cert: cert.clone(),
            key: key.clone(),
        });
        match setup.try_start().map(drop) {
            Err(error @ StartError::Tls { .. }) => {
                assert!(error.to_string().contains(names), "{error}");
                assert!(error.advice().contains("tls."), "{}", error.advice());
            }
            other => panic!("{}, {}: {other:?}", cert.display(), key.display()),
        }
    }
    let mut setup = Setup::in_front_of(app.address);
    setup.server.tls = Some(good.files.clone());
    assert!(setup.try_start().is_ok());
}

// ------------------------------------------------------------------------------------------------------------- connections

#[test]
fn connections_are_used_again_on_both_sides() {
    let ports: Arc<Mutex<BTreeSet<u16>>> = Arc::default();
    let seen = Arc::clone(&ports);
    let app = App::scripted(move |_, stream| {
        let peer = stream.peer_addr().expect("the gateway's address");
        seen.lock().expect("not poisoned").insert(peer.port());
        reply(stream, 200, &[], b"ok");
    });
    let gateway = Gateway::in_front_of(&app);
    let mut client = Wire::to(gateway.address);
    for _ in 0..10 {
        client.write("GET /public/a HTTP/1.1\r\nhost: app.test\r\n\r\n");
        assert!(client.read_head().starts_with("HTTP/1.1 200"));
        assert_eq!(client.read_exactly(2), b"ok");
        // Refusals keep the connection as well.
        client.write("GET /account HTTP/1.1\r\nhost: app.test\r\n\r\n");
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 401"), "{head}");
        let length = header(&head, "content-length").expect("a length");
        client.read_exactly(length.parse().expect("a number"));
    }
    assert_eq!(ports.lock().expect("not poisoned").len(), 1);
}

#[test]
fn a_client_that_asks_to_close_is_closed() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let mut client = Wire::to(gateway.address);
    client.write("GET /public/a HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 200"));
    assert_eq!(client.read_to_end(), b"app");
    client = Wire::to(gateway.address);
    client.write("GET /public/a HTTP/1.0\r\nhost: app.test\r\n\r\n");
    assert!(client.read_head().contains(" 200 "));
    assert_eq!(client.read_to_end(), b"app");
}

/// Serves one request on the app's next connection and keeps the connection.
fn serve_one(app: &RawApp, gateway: &Gateway, method: &str) -> Wire {
    std::thread::scope(|scope| {
        let first = scope.spawn(|| gateway.send(method, "/public/first", &[], b""));
        let mut server = app.accept();
        server.read_head();
        server.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert_eq!(first.join().expect("an answer").status, 200);
        server
    })
}

#[test]
fn a_get_is_sent_again_when_the_app_closed_the_idle_connection_under_it() {
    let app = RawApp::start();
    let gateway = Setup::in_front_of(app.address).start();
    let mut server = serve_one(&app, &gateway, "GET");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| gateway.get("/public/second", &[]));
        assert!(server.read_head().starts_with("GET /public/second"));
        server.close();
        let mut again = app.accept();
        assert!(again.read_head().starts_with("GET /public/second"));
        again.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert_eq!(second.join().expect("an answer").status, 200);
    });
}

#[test]
fn a_post_is_never_sent_twice() {
    let app = RawApp::start();
    let gateway = Setup::in_front_of(app.address).start();
    let mut server = serve_one(&app, &gateway, "POST");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| gateway.send("POST", "/public/pay", &[], b"once"));
        assert!(server.read_head().starts_with("POST /public/pay"));
        assert_eq!(server.read_exactly(4), b"once");
        server.close();
        assert_eq!(second.join().expect("an answer").status, 502);
    });
    assert_eq!(app.connections(), 1);
}

// ------------------------------------------------------------------------------------------------------------------ limits

#[test]
fn requests_beyond_a_limit_are_refused_and_those_below_pass() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let ask = |target: &str, header: &str| gateway.get(target, &[("x-long", header)]).status;
    assert_eq!(ask("/public/a", &"h".repeat(20_000)), 200);
    assert_eq!(ask("/public/a", &"h".repeat(33 * 1024)), 431);
    assert_eq!(ask(&format!("/public/{}", "t".repeat(7000)), ""), 200);
    assert_eq!(ask(&format!("/public/{}", "t".repeat(9000)), ""), 414);
    assert_eq!(ask(&format!("/public/a?{}", "t".repeat(9000)), ""), 414);
}

#[test]
fn a_body_beyond_the_limit_is_refused_by_length_and_by_counting() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.limits.body_bytes = 1000;
    let gateway = setup.start();
    let (fits, large) = ([b'x'; 1000], [b'x'; 1001]);
    assert_eq!(gateway.send("POST", "/public/a", &[], &fits).status, 200);
    let refused = gateway.send("POST", "/public/a", &[], &large);
    assert_eq!(refused.status, 413);
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(app.seen().len(), 1);

    let chunked = |body: &[u8], headers: &str| {
        let mut bytes = format!("POST /public/a HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n{headers}\r\n{:x}\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n0\r\n\r\n");
        gateway.raw(bytes).status
    };
    assert_eq!(chunked(&fits, ""), 200);
    assert_eq!(chunked(&large, ""), 413);
    // What a client says about itself does not lift the limit.
    assert_eq!(chunked(&large, "accept: text/event-stream\r\n"), 413);
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    assert_ne!(chunked(&large, upgrade), 200);
}

// ---------------------------------------------------------------------------------------------------------------- timeouts

#[test]
fn a_slow_app_is_504_and_a_missing_one_502_in_the_form_the_client_reads() {
    let app = RawApp::start();
    let slow = {
        let mut setup = Setup::in_front_of(app.address);
        setup.server.upstreams[0].first_byte_timeout = SHORT;
        setup.start()
    };
    let gone = {
        let mut setup = Setup::in_front_of(app.address);
        setup.server.upstreams[0].addresses = vec![dead()];
        setup.start()
    };
    for (gateway, status) in [(&slow, 504), (&gone, 502)] {
        let page = gateway.document("/public/a", &[]);
        assert_eq!(page.status, status);
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert!(page.header("cache-control").is_some());
        let program = gateway.get("/public/a", &[]);
        assert_eq!(program.status, status);
        assert_eq!(
            program.header("content-type"),
            Some("application/problem+json")
        );
        let id = program.header("x-request-id").expect("an id").to_owned();
        assert!(program.text().contains(&id), "{}", program.text());
        assert!(
            gateway
                .running
                .gateway
                .metrics
                .render()
                .contains("vestibule_upstream_failures_total 2")
        );
    }
    // Nobody was asked twice.
    assert_eq!(app.connections(), 2);
}

#[test]
fn a_client_that_stops_sending_its_body_is_not_waited_for() {
    let app = RawApp::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.timeouts.body_read = SHORT;
    let gateway = setup.start();
    let mut client = Wire::to(gateway.address);
    client.write("POST /public/a HTTP/1.1\r\nhost: app.test\r\ncontent-length: 10\r\n\r\nabc");
    let mut server = app.accept();
    server.read_head();
    server.read_exactly(3);
    assert!(client.read_head().starts_with("HTTP/1.1 408"));
    assert_eq!(server.read_to_end(), b"");
}

#[test]
fn saying_upgrade_does_not_buy_a_slow_body_more_time() {
    let app = RawApp::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.timeouts.body_read = SHORT;
    let gateway = setup.start();
    let mut client = Wire::to(gateway.address);
    client.write("POST /public/a HTTP/1.1\r\nhost: app.test\r\nconnection: upgrade\r\nupgrade: whatever\r\ncontent-length: 10\r\n\r\nabc");
    let head = client.read_head();
    assert!(head.starts_with("HTTP/1.1 4"), "{head}");
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let app = RawApp::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.timeouts.response_write = SHORT;
    let gateway = setup.start();
    let mut client = Wire::to(gateway.address);
    client.write("GET /public/a HTTP/1.1\r\nhost: app.test\r\n\r\n");
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    let piece = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    // The client reads nothing: once every buffer on the way is full, the app's connection ends.
    while server.try_write(&piece) {}
    client.close();
}

// --------------------------------------------------------------------------------------------------------------- upstreams

/// An app that answers with its name.
fn named(name: &'static str) -> App {
    App::scripted(move |_, stream| reply(stream, 200, &[], name.as_bytes()))
}

#[test]
fn of_several_addresses_the_dead_one_is_skipped() {
    let app = named("alive");
    let mut setup = Setup::in_front_of(app.address);
    setup.server.upstreams[0].addresses.insert(0, dead());
    let gateway = setup.start();
    for _ in 0..6 {
        assert_eq!(gateway.get("/public/a", &[]).text(), "alive");
        assert_eq!(
            gateway.send("POST", "/public/a", &[], b"body").text(),
            "alive"
        );
    }
}

#[test]
fn a_sick_address_is_left_out_until_it_is_well_again() {
    let well = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&well);
    let moody = App::scripted(move |seen, stream| {
        let status = if seen.line.contains("/healthz") && !state.load(Ordering::SeqCst) {
            500
        } else {
            200
        };
        reply(stream, status, &[], b"moody");
    });
    let steady = named("steady");
    let mut setup = Setup::in_front_of(moody.address);
    let upstream = &mut setup.server.upstreams[0];
    upstream
        .addresses
        .push(address("127.0.0.1", steady.address.port()));
    upstream.health_path = Some("/healthz".into());
    upstream.health_interval = Duration::from_millis(20);
    let gateway = setup.start();
    let ask = || -> BTreeSet<String> {
        (0..4)
            .map(|_| gateway.get("/public/a", &[]).text())
            .collect()
    };
    let both = || BTreeSet::from(["moody".to_owned(), "steady".to_owned()]);
    await_until("both to be asked", || ask() == both());
    well.store(false, Ordering::SeqCst);
    await_until("the sick one to be left out", || {
        ask() == BTreeSet::from(["steady".to_owned()])
    });
    well.store(true, Ordering::SeqCst);
    await_until("both to be asked again", || ask() == both());
}

#[test]
fn a_route_goes_to_the_upstream_it_names() {
    let (app, api) = (named("app"), named("api"));
    let mut setup = Setup::in_front_of(app.address);
    let mut second = setup.server.upstreams[0].clone();
    second.name = "api".into();
    second.addresses = vec![address("127.0.0.1", api.address.port())];
    setup.server.upstreams.push(second);
    let mut open = route("/api/:path*", rule(Need::Public));
    let mut closed = route("/api/private/:path*", signed_in());
    (open.upstream, closed.upstream) = (1, 1);
    setup.routes.routes.extend([open, closed]);
    let gateway = setup.start();
    assert_eq!(gateway.get("/public/a", &[]).text(), "app");
    assert_eq!(gateway.get("/api/items", &[]).text(), "api");
    assert_eq!(gateway.get("/api/private/items", &[]).status, 401);
    gateway.store.put(record("token-of-ada", "ada"));
    let session = cookie("token-of-ada");
    let through = gateway.get("/api/private/items", &[("cookie", &session)]);
    assert_eq!(through.text(), "api");
    assert_eq!(api.last().all("x-auth-user-id"), ["ada"]);
}

#[test]
fn an_upstream_by_name_is_found_from_the_first_request_on_whichever_of_its_addresses_answers() {
    // `localhost` usually is ::1 and 127.0.0.1, and the app listens on one of them only.
    let app = App::start();
    for _ in 0..3 {
        let mut setup = Setup::in_front_of(app.address);
        setup.server.upstreams[0].addresses = vec![address("localhost", app.address.port())];
        let gateway = setup.start();
        for _ in 0..3 {
            assert_eq!(gateway.get("/public/a", &[]).status, 200);
        }
    }
}

#[test]
fn an_upstream_whose_name_means_nothing_is_502() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.upstreams[0].addresses = vec![address("nowhere.invalid", 80)];
    let gateway = setup.start();
    assert_eq!(gateway.get("/public/a", &[]).status, 502);
}

// ---------------------------------------------------------------------------------------------------- what ties it together

#[test]
fn a_request_keeps_its_id_when_it_is_well_formed_and_gets_one_otherwise() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let id = |sent: &[(&str, &str)]| {
        let answer = gateway.get("/public/a", sent);
        let told = app.last();
        assert_eq!(told.all("x-request-id"), answer.all("x-request-id"));
        assert_eq!(answer.all("x-request-id").len(), 1);
        answer.header("x-request-id").expect("an id").to_owned()
    };
    assert_eq!(id(&[("x-request-id", "abc-DEF_123")]), "abc-DEF_123");
    let long = "a".repeat(65);
    let mut made = BTreeSet::new();
    for bad in ["", "a b", "a\"b", "<script>", long.as_str(), "caf\u{e9}"] {
        let fresh = id(&[("x-request-id", bad)]);
        assert!(
            fresh.len() == 32 && fresh.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{bad}: {fresh}"
        );
        assert!(made.insert(fresh), "an id came twice");
    }
    assert!(made.insert(id(&[])));
}

#[test]
fn a_trace_goes_on_when_it_is_valid_and_begins_here_otherwise() {
    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    gateway.get(
        "/public/a",
        &[("traceparent", VALID), ("tracestate", "vendor=1")],
    );
    assert_eq!(app.last().all("traceparent"), [VALID]);
    assert_eq!(app.last().all("tracestate"), ["vendor=1"]);
    for bad in [
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        "garbage",
    ] {
        gateway.get(
            "/public/a",
            &[("traceparent", bad), ("tracestate", "vendor=1")],
        );
        let seen = app.last();
        let [fresh] = seen.all("traceparent")[..] else {
            panic!("{:?}", seen.headers)
        };
        assert!(fresh != bad && fresh.len() == VALID.len(), "{fresh}");
        assert!(seen.all("tracestate").is_empty());
    }
}

#[test]
fn the_app_is_told_exactly_one_address() {
    let app = App::start();
    let told = |gateway: &Gateway, sent: &[(&str, &str)]| {
        assert_eq!(gateway.get("/public/a", sent).status, 200);
        let seen = app.last();
        let [address] = seen.all("x-forwarded-for")[..] else {
            panic!("{:?}", seen.headers)
        };
        address.to_owned()
    };
    let untrusting = Gateway::in_front_of(&app);
    for sent in ["203.0.113.7", "203.0.113.7, 10.0.0.1", "garbage"] {
        assert_eq!(told(&untrusting, &[("x-forwarded-for", sent)]), "127.0.0.1");
    }
    let mut setup = Setup::in_front_of(app.address);
    setup.server.trusted_proxies = vec![
        "127.0.0.0/8".parse().expect("a network"),
        "10.0.0.0/8".parse().expect("a network"),
    ];
    let trusting = setup.start();
    for (sent, expected) in [
        ("203.0.113.7", "203.0.113.7"),
        ("1.2.3.4, 203.0.113.7", "203.0.113.7"),
        ("1.2.3.4, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("garbage", "127.0.0.1"),
        ("203.0.113.7, garbage", "127.0.0.1"),
        ("203.0.113.7:1234", "127.0.0.1"),
        ("10.0.0.1", "127.0.0.1"),
        ("", "127.0.0.1"),
    ] {
        assert_eq!(
            told(&trusting, &[("x-forwarded-for", sent)]),
            expected,
            "{sent}"
        );
    }
    let lines = [
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x_forwarded_for", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
    ];
    assert_eq!(told(&trusting, &lines), "203.0.113.7");
    assert!(
        !app.last()
            .headers
            .iter()
            .any(|(_, value)| value.contains("6.6.6.6"))
    );
}

#[test]
fn only_a_trusted_proxy_says_how_the_browser_came() {
    let app = App::start();
    let proto = |gateway: &Gateway, sent: &str| {
        gateway.get("/public/a", &[("x-forwarded-proto", sent)]);
        app.last().all("x-forwarded-proto").join("|")
    };
    let untrusting = Gateway::in_front_of(&app);
    assert_eq!(proto(&untrusting, "https"), "http");
    let mut setup = Setup::in_front_of(app.address);
    setup.server.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
    let trusting = setup.start();
    assert_eq!(proto(&trusting, "https"), "https");
    assert_eq!(proto(&trusting, "gopher"), "http");
}
