//! Defects that were found by attack: each stays fixed, and what looked like it and was right stays right.

use std::net::Shutdown;
use std::sync::{Arc, OnceLock};

use vestibule::policy::Need;
use vestibule::route::RouteTable;
use vestibule::session::{BoxFuture, Record, Source, SourceError};

use crate::support::{
    App, Gateway, Setup, Store, await_until, cookie, exchange, record, reply, route, rule,
    signed_in,
};

#[test]
fn a_route_narrowed_to_a_pattern_of_hosts_holds_for_all_of_them() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.hosts = vec!["app.test".into(), "*.tenants.test".into()];
    let mut tenants = route("/:path*", signed_in());
    tenants.hosts = vec!["*.tenants.test".into()];
    setup.routes.routes = vec![tenants];
    setup.routes.default = rule(Need::Public);
    let gateway = setup.start();
    let ask = |host: &str| {
        gateway
            .raw(format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .status
    };

    for host in ["a.tenants.test", "A.B.tenants.test:8080"] {
        assert_eq!(ask(host), 401, "{host}");
    }
    assert_eq!(ask("app.test"), 200);
}

#[test]
fn two_routes_whose_host_patterns_meet_are_a_tie() {
    let app = App::start();
    let problems = |hosts: [&str; 2]| {
        let mut settings = Setup::in_front_of(app.address).routes;
        settings.routes = hosts
            .into_iter()
            .map(|host| {
                let mut route = route("/a", signed_in());
                route.hosts = vec![host.into()];
                route
            })
            .collect();
        RouteTable::build(&settings)
            .err()
            .map_or(0, |all| all.len())
    };
    assert_eq!(problems(["*.tenants.test", "a.tenants.test"]), 1);
    assert_eq!(problems(["a.tenants.test", "*.tenants.test"]), 1);
    assert_eq!(problems(["a.tenants.test", "b.tenants.test"]), 0);
    assert_eq!(problems(["*.tenants.test", "tenants.test"]), 0);
}

#[test]
fn nothing_but_a_preflight_passes_as_one() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let ask = |more: &[(&str, &str)], body: &[u8]| {
        let mut headers = vec![
            ("origin", "https://other.example"),
            ("access-control-request-method", "PUT"),
        ];
        headers.extend_from_slice(more);
        gateway.send("OPTIONS", "/private", &headers, body).status
    };

    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    assert_eq!(ask(&upgrade, b""), 401);
    assert_eq!(ask(&[], b"body"), 401);
    assert!(app.seen().is_empty());

    assert_eq!(ask(&[], b""), 200);
    assert_eq!(ask(&[("content-length", "0")], b""), 200);
}

#[test]
fn a_broken_escape_does_not_hide_an_internal_parameter() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    for query in ["nxtPid%zz=1", "a=1&n%78tPid%ff=1", "nxtI%=1"] {
        let answer = gateway.get(&format!("/public/x?{query}"), &[]);
        assert_eq!(answer.status, 400, "{query}");
    }
    assert!(app.seen().is_empty());
    assert_eq!(gateway.get("/public/x?id%zz=nxtP", &[]).status, 200);
}

/// A store that takes the question and never answers.
struct Silent;

impl Source for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }

    fn find<'a>(&'a self, _token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        Box::pin(std::future::pending())
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_store_that_hangs_does_not_keep_a_probe_waiting() {
    let app = App::start();
    let ask = |gateway: &Gateway, target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        exchange(gateway.admin, request.as_bytes()).text()
    };
    let silent = Setup::in_front_of(app.address).start_from(Arc::new(Silent));
    assert_eq!(ask(&silent, "/readyz"), "ok\n");
    assert!(ask(&Gateway::in_front_of(&app), "/readyz?verbose").contains("[ok] sessions"));
}

#[test]
fn a_sign_out_whose_answer_is_lost_ends_the_session_all_the_same() {
    let store: Arc<OnceLock<Arc<Store>>> = Arc::default();
    let kept = Arc::clone(&store);
    let app = App::scripted(move |seen, stream| {
        let Some(token) = seen.header("x-ends") else {
            return reply(stream, 200, &[], b"app");
        };
        if let Some(store) = kept.get() {
            store.remove(token);
        }
        if token == "of-ada" {
            // Done, and gone before it could say so.
            let _ = stream.shutdown(Shutdown::Both);
        } else {
            reply(stream, 500, &[], b"too late");
        }
    });
    let gateway = Gateway::in_front_of(&app);
    assert!(store.set(Arc::clone(&gateway.store)).is_ok());
    let ask = |token: &str| {
        let cookie = cookie(token);
        gateway.get("/private", &[("cookie", &cookie)]).status
    };
    for user in ["ada", "bob", "eve"] {
        gateway.store.put(record(&format!("of-{user}"), user));
        assert_eq!(ask(&format!("of-{user}")), 200);
    }
    for (token, status) in [("of-ada", 502), ("of-bob", 500)] {
        let headers = [("cookie", &*cookie(token)), ("x-ends", token)];
        let lost = gateway.send("POST", "/api/auth/sign-out", &headers, b"{}");
        assert_eq!(lost.status, status);
        await_until("the session to be forgotten", || ask(token) == 401);
    }

    let asked = gateway.store.asked();
    assert_eq!(ask("of-eve"), 200);
    assert_eq!(gateway.store.asked(), asked, "others stay remembered");
}

#[test]
fn the_image_optimizer_opens_nothing_that_is_closed() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup
        .routes
        .routes
        .push(route("/_next/image", rule(Need::Public)));
    let gateway = setup.start();
    gateway.store.put(record("of-ada", "ada"));
    let cookie = cookie("of-ada");
    let ask = |url: &str, headers: &[(&str, &str)]| {
        let target = format!("/_next/image?url={url}&w=64&q=75");
        gateway.get(&target, headers).status
    };

    for url in [
        "%2Fprivate%2Fx.png",
        "/private/x.png",
        "%2Fprivate%252fx.png",
        "%2F%2570rivate%2Fx.png",
        "%2Fpublic%2Fa.png&url=%2Fprivate%2Fx.png",
    ] {
        assert_eq!(ask(url, &[]), 401, "{url}");
        assert_eq!(ask(url, &[("cookie", &cookie)]), 200, "{url}");
    }
    assert_eq!(ask("%2Fclosed%2Fx.png", &[("cookie", &cookie)]), 403);
    for url in [
        "%2Fpublic%2F..%2Fprivate%2Fx.png",
        "%2F%2Fevil.example%2Fx",
        "%5Cprivate",
    ] {
        assert_eq!(ask(url, &[]), 400, "{url}");
    }

    for url in [
        "%2Fpublic%2Fa.png",
        "%2Fpublic%2Fcaf%C3%A9%20au%20lait.png",
        "%2F_next%2Fstatic%2Fmedia%2Fa.png",
        "https%3A%2F%2Fcdn.example%2Fprivate.png",
    ] {
        assert_eq!(ask(url, &[]), 200, "{url}");
    }
    assert_eq!(gateway.get("/_next/image", &[]).status, 200);
}

#[test]
fn a_cookie_name_in_no_break_spaces_is_that_cookie_to_node_and_to_us() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    for user in ["ada", "eve"] {
        gateway.store.put(record(&format!("of-{user}"), user));
    }
    // The app takes the first of two, and reads the blank byte as white space.
    let mut head = b"GET /private HTTP/1.1\r\nhost: app.test\r\ncookie: \xa0".to_vec();
    head.extend(format!("{}; {}\r\n\r\n", cookie("of-eve"), cookie("of-ada")).bytes());
    assert_eq!(gateway.raw(head).status, 200);
    assert_eq!(app.last().header("x-auth-user-id"), Some("eve"));
    let both = format!("a=b; {}", cookie("of-ada"));
    assert_eq!(gateway.get("/private", &[("cookie", &both)]).status, 200);
    assert_eq!(app.last().header("x-auth-user-id"), Some("ada"));
}
