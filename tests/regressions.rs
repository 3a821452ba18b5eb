//! Defects that were found by attack: each stays fixed, and what looked like it and was right stays right.

use std::sync::Arc;

use vestibule::policy::Need;
use vestibule::route::RouteTable;
use vestibule::session::{BoxFuture, Record, Source, SourceError};

use crate::support::{App, Gateway, Setup, exchange, route, rule, signed_in};

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
