//! The ways around an auth gateway that were found in its peers, tried here. Each is refused, and its lawful twin passes.
//!
//! The ids in the comments are those of the catalogue of advisories the tests were written from.

use std::io::Write as _;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vestibule::credential::signature::Signer;
use vestibule::percent::encode_component;
use vestibule::policy::{Conditions, Need};
use vestibule::secret::Secret;

use crate::support::{
    Answer, App, Gateway, NOW, SECRET, Seen, Setup, connect, cookie, exchange, exchange_on,
    is_closed, read_answer, record, route, rule, signed_in,
};

/// Everything the gateway tells an app about a caller, under every preset.
const IDENTITY: &[&str] = &[
    "x-auth-user-id",
    "x-auth-user-email",
    "x-auth-user-name",
    "x-auth-role",
    "x-auth-session-id",
    "x-auth-org-id",
    "x-auth-org-role",
    "x-auth-team-id",
    "x-auth-impersonated-by",
    "x-auth-method",
    "x-auth-assertion",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-preferred-username",
    "x-forwarded-groups",
    "remote-user",
    "remote-email",
    "remote-name",
    "remote-groups",
];

/// Everything a proxy says about a client, and the names under which old apps look for it.
const FORWARDED: &[&str] = &[
    "forwarded",
    "x-forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-server",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-real-ip",
    "x-client-ip",
];

/// What the gateway writes of these on every request.
const OURS: &[&str] = &["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// A name as an app server of the CGI family reads it.
fn folded(name: &str) -> String {
    name.chars()
        .map(|letter| match letter.is_ascii_alphanumeric() {
            true => letter.to_ascii_uppercase(),
            false => '_',
        })
        .collect()
}

/// Every header of a request that some app server would take for `name`.
fn readable_as<'s>(seen: &'s Seen, name: &str) -> Vec<(&'s str, &'s str)> {
    seen.headers
        .iter()
        .filter(|(found, _)| folded(found) == folded(name))
        .map(|(found, value)| (found.as_str(), value.as_str()))
        .collect()
}

fn gateway() -> (App, Gateway) {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    gateway.store.put(record("token-of-ada", "ada"));
    (app, gateway)
}

fn ada() -> String {
    cookie("token-of-ada")
}

/// Asserts that a request got nothing but a refusal, and that the app never heard of it.
#[track_caller]
fn assert_refused(app: &App, answer: &Answer, what: &str) {
    assert!(
        matches!(answer.status, 302 | 303 | 400..=499),
        "{what}: {} {}",
        answer.status,
        answer.text()
    );
    assert_eq!(app.count(), 0, "{what}: the app saw {:?}", app.seen());
}

// ---------------------------------------------------------------------------------------------------- spoofed headers

/// T1, T2, T5: separators that CGI, WSGI and PHP fold away.
#[test]
fn no_spelling_of_an_identity_header_gets_through_on_any_path() {
    let (app, gateway) = gateway();
    let mut sent = Vec::new();
    for name in IDENTITY.iter().chain(FORWARDED) {
        for separator in ["-", "_", ".", "~", "!", "#", "$", "+", "|", "'"] {
            sent.push(name.replace('-', separator));
        }
        sent.push(name.to_ascii_uppercase());
        sent.push(name.replacen('-', "_", 1));
        sent.push(name.replacen('-', ".", 1).to_ascii_uppercase());
    }
    for path in [
        "/",
        "/public/x",
        "/optional/x",
        "/sign-in",
        "/api/auth/get-session",
        "/dashboard",
    ] {
        for names in sent.chunks(60) {
            let mut headers: Vec<(&str, &str)> =
                names.iter().map(|name| (name.as_str(), "root")).collect();
            let session = ada();
            // The last path needs a session; there the app must see ours instead.
            if path == "/dashboard" {
                headers.push(("cookie", &session));
            }
            assert_eq!(gateway.get(path, &headers).status, 200);
            let seen = app.last();
            for name in IDENTITY.iter().chain(FORWARDED) {
                for (found, value) in readable_as(&seen, name) {
                    assert_ne!(value, "root", "{found} on {path}");
                    let stamped = path == "/dashboard" && name.starts_with("x-auth-");
                    assert!(stamped || OURS.contains(name), "{found}: {value} on {path}");
                    assert_eq!(found.to_ascii_lowercase(), **name, "ours has one spelling");
                }
            }
        }
    }
    // The twin: a neighbour of an owned name is nobody's business.
    assert_eq!(
        gateway
            .get(
                "/",
                &[
                    ("x_custom", "1"),
                    ("x-author", "2"),
                    ("x-auth-user-ids", "3")
                ]
            )
            .status,
        200
    );
    let seen = app.last();
    assert_eq!(
        (
            seen.header("x_custom"),
            seen.header("x-author"),
            seen.header("x-auth-user-ids")
        ),
        (Some("1"), Some("2"), Some("3"))
    );
}

/// T1, T2: the same for names nobody thought of.
#[test]
fn whatever_an_app_server_could_read_as_ours_never_arrives() {
    let (app, gateway) = gateway();
    let owned: Vec<String> = IDENTITY
        .iter()
        .chain(FORWARDED)
        .map(|name| folded(name))
        .collect();
    let spelling = (
        0..IDENTITY.len() + FORWARDED.len(),
        proptest::collection::vec("[-_.~!#$%&'*+^`|]", 4),
        any::<u64>(),
    );
    let spelled = spelling.prop_map(|(at, separators, upper)| {
        let name = IDENTITY.iter().chain(FORWARDED).nth(at).expect("an index");
        let mut between = separators.iter().cycle();
        name.chars()
            .enumerate()
            .map(|(at, letter)| match letter {
                '-' => between.next().expect("endless").clone(),
                letter if upper >> (at % 64) & 1 == 1 => letter.to_ascii_uppercase().to_string(),
                letter => letter.to_string(),
            })
            .collect::<String>()
    });
    let names = proptest::collection::vec(
        prop_oneof![4 => spelled, 1 => "[a-zA-Z0-9_.~-]{1,24}"],
        1..40,
    );
    let config = Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&names, |names| {
            // What a name means to HTTP itself is not for this test.
            let headers: Vec<(&str, &str)> = names
                .iter()
                .filter(|name| {
                    ![
                        "host",
                        "connection",
                        "te",
                        "upgrade",
                        "expect",
                        "range",
                        "cookie",
                    ]
                    .contains(&name.to_ascii_lowercase().as_str())
                })
                .map(|name| (name.as_str(), "root"))
                .collect();
            let answer = gateway.get("/public/x", &headers);
            prop_assert_eq!(answer.status, 200, "{:?}", headers);
            for (name, value) in &app.last().headers {
                let ours = OURS.contains(&name.to_ascii_lowercase().as_str()) && value != "root";
                prop_assert!(
                    ours || !owned.contains(&folded(name)),
                    "{}: {}",
                    name,
                    value
                );
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// T3: whatever case the names were configured in, and whichever preset is in force.
#[test]
fn under_every_preset_the_app_sees_our_value_and_nobody_elses() {
    for (preset, mine) in [
        ("vestibule", "x-auth-user-id"),
        ("oauth2-proxy", "x-forwarded-user"),
        ("remote", "remote-user"),
    ] {
        let app = App::start();
        let mut setup = Setup::in_front_of(app.address);
        setup.identity.preset = preset;
        let gateway = setup.start();
        gateway.store.put(record("token-of-ada", "ada"));
        let shouted: Vec<String> = IDENTITY
            .iter()
            .map(|name| name.to_ascii_uppercase())
            .collect();
        let session = ada();
        let mut headers: Vec<(&str, &str)> =
            shouted.iter().map(|name| (name.as_str(), "root")).collect();
        headers.push(("cookie", &session));
        assert_eq!(gateway.get("/dashboard", &headers).status, 200);
        let seen = app.last();
        assert_eq!(seen.all(mine), ["ada"], "{preset}");
        assert!(
            seen.headers.iter().all(|(_, value)| value != "root"),
            "{preset}: {seen:?}"
        );
    }
}

/// T4: what we have nothing to say about is not the client's to say.
#[test]
fn a_header_we_have_no_value_for_is_removed_all_the_same() {
    let (app, gateway) = gateway();
    let mut nobody = record("token-of-bob", "bob");
    nobody.email = None;
    nobody.name = Some("".into());
    nobody.role = None;
    gateway.store.put(nobody);
    let (session, claims) = (
        cookie("token-of-bob"),
        [
            ("x-auth-user-email", "root@x"),
            ("x-auth-role", "admin"),
            ("x-auth-org-id", "1"),
            ("x-auth-org-role", "owner"),
            ("x-auth-team-id", "1"),
            ("x-auth-impersonated-by", "root"),
            ("x-auth-user-name", "root"),
        ],
    );
    let mut headers = claims.to_vec();
    headers.push(("cookie", &session));
    assert_eq!(gateway.get("/dashboard", &headers).status, 200);
    let seen = app.last();
    assert_eq!(seen.all("x-auth-user-id"), ["bob"]);
    for (name, _) in claims {
        assert!(readable_as(&seen, name).is_empty(), "{name}");
    }
    // The twin: somebody who has them.
    let mut member = record("token-of-cyd", "cyd");
    member.organization_id = Some("org 1".into());
    member.organization_role = Some("owner,m\u{e4}zen".into());
    member.team_id = Some("team 1".into());
    member.impersonated_by = Some("root%".into());
    gateway.store.put(member);
    assert_eq!(
        gateway
            .get(
                "/dashboard",
                &[("cookie", &cookie("token-of-cyd")), claims[0]]
            )
            .status,
        200
    );
    let seen = app.last();
    assert_eq!(seen.all("x-auth-user-email"), ["cyd@example.com"]);
    assert_eq!(seen.all("x-auth-org-id"), ["org%201"]);
    assert_eq!(seen.all("x-auth-org-role"), ["owner,m%C3%A4zen"]);
    assert_eq!(seen.all("x-auth-team-id"), ["team%201"]);
    assert_eq!(seen.all("x-auth-impersonated-by"), ["root%25"]);
}

/// T6: of several, gateway and app must mean the same one. Ours is the first, as in the framework.
#[test]
fn of_two_session_cookies_the_first_one_counts() {
    let (app, gateway) = gateway();
    let (good, forged) = (
        ada(),
        "better-auth.session_token=evil.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D",
    );
    let both = [format!("{forged}; {good}"), format!("{good}; {forged}")];
    assert_refused(
        &app,
        &gateway.get("/dashboard", &[("cookie", &both[0])]),
        "forged first",
    );
    assert_refused(
        &app,
        &gateway.get("/dashboard", &[("cookie", forged), ("cookie", &good)]),
        "forged first, two lines",
    );
    assert_eq!(
        gateway.get("/dashboard", &[("cookie", &both[1])]).status,
        200
    );
    assert_eq!(app.last().all("x-auth-user-id"), ["ada"]);
    let two_lines = gateway.get(
        "/dashboard",
        &[
            ("x-auth-user-id", "one"),
            ("cookie", &good),
            ("cookie", forged),
            ("x-auth-user-id", "two"),
        ],
    );
    assert_eq!(two_lines.status, 200);
    let seen = app.last();
    assert_eq!(seen.all("x-auth-user-id"), ["ada"]);
    assert_eq!(
        seen.all("cookie"),
        [both[1].as_str()],
        "the app reads one line, in the same order"
    );
}

/// T7, T8: what Next.js says to itself.
#[test]
fn the_internal_headers_of_next_are_removed_and_open_nothing() {
    let (app, gateway) = gateway();
    let internal = [
        (
            "x-middleware-subrequest",
            "middleware:middleware:middleware:middleware:middleware",
        ),
        (
            "X-Middleware-Subrequest",
            "src/middleware:src/middleware:src/middleware:src/middleware",
        ),
        ("x_middleware_subrequest", "middleware"),
        ("x-middleware-rewrite", "/admin"),
        ("x-middleware-next", "1"),
        ("x-middleware-override-headers", "x-auth-user-id"),
        ("x-middleware-set-cookie", "a=b"),
        ("x-nextjs-data", "1"),
        ("x-matched-path", "/admin"),
        ("x-invoke-path", "/admin"),
        ("x-invoke-status", "200"),
        ("x-now-route-matches", "1=admin"),
        ("next-resume", "1"),
        ("x-next-resume-state-length", "9"),
        ("x-prerender-revalidate", "abc"),
    ];
    for one in internal {
        assert_refused(&app, &gateway.get("/dashboard", &[one]), one.0);
    }
    assert_refused(&app, &gateway.get("/dashboard", &internal), "all of them");
    let session = ada();
    for path in ["/public/x", "/dashboard"] {
        let mut headers = internal.to_vec();
        headers.push(("cookie", &session));
        assert_eq!(gateway.get(path, &headers).status, 200);
        for (name, _) in internal {
            assert!(
                readable_as(&app.last(), name).is_empty(),
                "{name} on {path}"
            );
        }
    }
    // The twin: what the client side of Next needs arrives, and the data header does where it means something.
    let spoken = [
        ("rsc", "1"),
        ("next-router-prefetch", "1"),
        ("next-url", "/x"),
        ("next-action", "ab"),
        ("cookie", &session),
    ];
    assert_eq!(gateway.get("/dashboard", &spoken).status, 200);
    for (name, value) in &spoken[..4] {
        assert_eq!(app.last().header(name), Some(*value));
    }
    assert_eq!(
        gateway
            .get(
                "/_next/data/B/dashboard.json",
                &[("x-nextjs-data", "1"), ("cookie", &session)]
            )
            .status,
        200
    );
    assert_eq!(app.last().header("x-nextjs-data"), Some("1"));
}

/// T9: parameters by which Next.js would take another page than the path names.
#[test]
fn the_internal_route_parameters_of_next_are_refused() {
    let (app, gateway) = gateway();
    let session = ada();
    for query in [
        "nxtPid=7",
        "a=1&nxtPid=7",
        "nxtIlocale=x",
        "%6extPid=7",
        "n%78tPid",
        "a&nxtP=",
        "%6e%78%74%50id=1",
    ] {
        for path in ["/public/x", "/dashboard"] {
            let answer = gateway.get(&format!("{path}?{query}"), &[("cookie", &session)]);
            assert_eq!(answer.status, 400, "{path}?{query}");
            assert_eq!(app.count(), 0);
        }
    }
    assert_eq!(
        gateway.get("/public/x?next=7&nxt=1&anxtP=2", &[]).status,
        200
    );
    assert_eq!(
        app.last().line,
        "GET /public/x?next=7&nxt=1&anxtP=2 HTTP/1.1"
    );
}

// ---------------------------------------------------------------------------------------------------- hop by hop

/// T10, T11, T12: a nominated header would be deleted on the way, after we have looked at it or set it.
#[test]
fn connection_may_nominate_nothing_of_ours() {
    let (app, gateway) = gateway();
    let session = ada();
    let mut nominated: Vec<String> = IDENTITY
        .iter()
        .chain(FORWARDED)
        .map(|name| (*name).to_owned())
        .collect();
    nominated.extend(
        [
            "cookie",
            "host",
            "authorization",
            "content-length",
            "x-request-id",
            "x_auth_user_id",
            "anything",
        ]
        .map(str::to_owned),
    );
    for name in &nominated {
        for line in [
            name.clone(),
            name.to_ascii_uppercase(),
            format!("close, {name}"),
            format!("keep-alive ,\t{name} ,"),
        ] {
            let answer = gateway.get("/dashboard", &[("cookie", &session), ("connection", &line)]);
            assert_eq!(answer.status, 400, "{line}");
        }
    }
    let two_lines = [
        ("connection", "close"),
        ("cookie", session.as_str()),
        ("CONNECTION", "X-Auth-User-Id"),
    ];
    assert_eq!(gateway.get("/dashboard", &two_lines).status, 400);
    assert_eq!(app.count(), 0);
    for line in ["close", "Keep-Alive", "keep-alive, close", "te", ""] {
        let answer = gateway.get("/dashboard", &[("cookie", &session), ("connection", line)]);
        assert_eq!(answer.status, 200, "{line}");
        assert_eq!(app.last().all("x-auth-user-id"), ["ada"]);
        assert_eq!(app.last().header("cookie"), Some(session.as_str()));
    }
}

// ---------------------------------------------------------------------------------------------------- paths

/// T13, T14, T16, T18, T20, T22, T23 and what is akin: no spelling of a protected path is taken for a public one.
#[test]
fn no_spelling_of_a_protected_path_is_public() {
    let (app, gateway) = gateway();
    for target in [
        // T13, T14
        "/public/../dashboard",
        "/public/./../dashboard",
        "/public/%2e%2e/dashboard",
        "/public/.%2e/dashboard",
        "/public/%2E%2E%2Fdashboard",
        "/public/..%2fdashboard",
        "/public/..%5cdashboard",
        "/public/%252e%252e/dashboard",
        "/public/..%252fdashboard",
        "/public\\..\\dashboard",
        "/public/..;/dashboard",
        "/public/..;x=1/dashboard",
        "/public/%00/../dashboard",
        "/%2e/dashboard",
        "/dashboard/.",
        "/./dashboard",
        "/dashboard%2f",
        "/public%2f..%2fdashboard",
        // T16
        "/dashboard%23/public",
        "/dashboard%23",
        "/dashboard%3f/public",
        // T18
        "//public/dashboard",
        "//dashboard",
        "///dashboard",
        "/public//dashboard",
        "//api/auth/get-session",
        "/api//auth/get-session",
        // T20
        "/dashboard?x=/public",
        "/dashboard?/public/x",
        "/dashboard?",
        // T22
        "/dashboard.rsc",
        "/dashboard.json",
        "/dashboard.txt",
        "/dashboard.segments/_tree.segment.rsc",
        "/dashboard/settings.segments/__PAGE__.segment.rsc",
        "/dashboard?_rsc=abc",
        "/index.json",
        // T23
        "/x",
        "/dashboard/",
        "/dashboard;public",
        "/dashboard;/public",
        "/%64ashboard",
        "/DASHBOARD",
        "/dashboard/%70ublic",
        "/publicity",
        "/public.admin",
        "/sign-in/other",
        "/api/authx",
        "/favicon.ico/x",
        "/_next/staticx",
    ] {
        for headers in [
            &[][..],
            &[
                ("rsc", "1"),
                ("next-router-prefetch", "1"),
                ("next-router-segment-prefetch", "/_tree"),
            ],
        ] {
            assert_refused(&app, &gateway.get(target, headers), target);
        }
    }
    // The twins. What is matched is what is forwarded, byte for byte (T15).
    let session = ada();
    for target in [
        "/dashboard",
        "/dashboard/a%20b/%C3%A9?x=/../y",
        "/dashboard/a;v=1",
        "/dashboard/100%25",
        "/DASHBOARD",
        "/dashboard.json",
        "/dashboard%23",
        "/x",
    ] {
        let answer = gateway.get(target, &[("cookie", &session)]);
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(app.last().line, format!("GET {target} HTTP/1.1"));
    }
    for target in [
        "/",
        "/public/x",
        "/public/a.b/c",
        "/public/a%20b",
        "/public/x?y=/dashboard",
        "/_next/static/x.js",
        "/favicon.ico",
    ] {
        assert_eq!(gateway.get(target, &[]).status, 200, "{target}");
        assert_eq!(app.last().line, format!("GET {target} HTTP/1.1"));
    }
}

/// T16: the HTTP library drops a fragment before anybody sees it; the request that had one is refused.
#[test]
fn a_fragment_hides_nothing() {
    let (app, gateway) = gateway();
    assert_refused(
        &app,
        &gateway.get("/dashboard#/../public/x", &[]),
        "protected before the fragment",
    );
    assert_refused(
        &app,
        &gateway.get("/public/x#/../dashboard", &[]),
        "public before the fragment",
    );
    assert_eq!(gateway.get("/public/x?y=%23/../dashboard", &[]).status, 200);
    // Elsewhere it is a letter like any other.
    assert_eq!(
        gateway.get("/public/x", &[("x-colour", "#fff")]).status,
        200
    );
}

/// T21: the data of a page is as protected as the page.
#[test]
fn the_data_url_of_a_page_needs_what_the_page_needs() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.routes.nextjs.locales = vec!["en".into(), "fr".into()];
    setup
        .routes
        .routes
        .push(route("/reports/:path*", rule(Need::Deny)));
    setup.routes.default = rule(Need::Public);
    let gateway = setup.start();
    gateway.store.put(record("token-of-ada", "ada"));
    for target in [
        "/_next/data/B/reports/7.json",
        "/_next/data/B/en/reports/7.json",
        "/_next/data/B/fr/reports/7.json",
        "/fr/reports/7",
        "/en/reports",
        "/_next/data/B/en/admin/x.json",
        "/_next/data/B/admin.json",
        "/fr/admin",
        "/%5fnext/data/B/en/admin.json",
    ] {
        assert_refused(
            &app,
            &gateway.get(target, &[("x-nextjs-data", "1")]),
            target,
        );
    }
    for target in [
        "/_next/data/B/en/other.json",
        "/_next/data/B/fr.json",
        "/fr/other",
    ] {
        assert_eq!(
            gateway.get(target, &[("x-nextjs-data", "1")]).status,
            200,
            "{target}"
        );
    }
}

/// T17, and a host with a dot at its end: one host, whatever its spelling.
#[test]
fn a_route_of_one_host_holds_for_every_spelling_of_the_host() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.hosts = vec!["app.test".into(), "inner.test".into()];
    setup
        .server
        .hosts
        .extend((0..150).map(|n| format!("host-{n}.test")));
    let mut inner = route("/:path*", signed_in());
    inner.hosts = vec!["inner.test".into()];
    setup.routes.routes = vec![inner];
    setup.routes.default = rule(Need::Public);
    let gateway = setup.start();
    let ask = |host: &str| gateway.raw(format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for host in [
        "inner.test",
        "INNER.test",
        "inner.test:80",
        "inner.test.",
        "Inner.Test.:8080",
    ] {
        assert_refused(&app, &ask(host), host);
    }
    for host in ["app.test", "APP.TEST.", "HOST-149.test:1"] {
        assert_eq!(ask(host).status, 200, "{host}");
    }
}

// ---------------------------------------------------------------------------------------------------- trust

/// T26, T27, T28, T29: what nobody in between vouches for neither decides anything nor reaches the app.
#[test]
fn forwarded_headers_of_strangers_decide_nothing() {
    let (app, gateway) = gateway();
    let said: Vec<(&str, &str)> = vec![
        ("x-forwarded-uri", "/public/x"),
        ("x-original-url", "/public/x"),
        ("x-original-uri", "/public/x"),
        ("x-rewrite-url", "/public/x"),
        ("x-forwarded-method", "OPTIONS"),
        ("x-http-method-override", "OPTIONS"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "//evil.example"),
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=1.2.3.4;host=evil.example;proto=https"),
        ("x-real-ip", "1.2.3.4"),
    ];
    let refused = gateway.document("/dashboard", &said);
    assert_refused(&app, &refused, "forwarded headers");
    assert_eq!(
        refused.header("location"),
        Some("/sign-in?callbackURL=%2Fdashboard")
    );
    for one in &said {
        assert_refused(&app, &gateway.get("/dashboard", &[*one]), one.0);
    }
    let session = ada();
    for address in ["1.2.3.4", "a", "", "1.2.3.4, 5.6.7.8", "unknown", "::1"] {
        let mut headers = said.clone();
        headers[10] = ("x-forwarded-for", address);
        headers.push(("cookie", &session));
        assert_eq!(gateway.get("/dashboard", &headers).status, 200);
        let seen = app.last();
        assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"], "{address}");
        assert_eq!(seen.all("x-forwarded-host"), ["app.test"]);
        assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
        for (name, _) in said
            .iter()
            .filter(|(name, _)| FORWARDED.contains(name) && !OURS.contains(name))
        {
            assert!(readable_as(&seen, name).is_empty(), "{name}");
        }
    }
}

/// T27, T29, the twin: a proxy of ours is believed, hop by hop from the right, and an unreadable hop hides what is left of it.
#[test]
fn a_trusted_proxy_is_believed_about_the_client_and_about_nothing_else() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.trusted_proxies = vec![
        "127.0.0.0/8".parse().expect("a net"),
        "10.0.0.0/8".parse().expect("a net"),
    ];
    let gateway = setup.start();
    for (said, told) in [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.0.0.7", "1.2.3.4"),
        ("a", "127.0.0.1"),
        ("1.2.3.4, a, 10.0.0.7", "127.0.0.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("", "127.0.0.1"),
    ] {
        assert_eq!(
            gateway
                .get(
                    "/public/x",
                    &[("x-forwarded-for", said), ("x-forwarded-proto", "https")]
                )
                .status,
            200
        );
        assert_eq!(app.last().all("x-forwarded-for"), [told], "{said}");
        assert_eq!(app.last().all("x-forwarded-proto"), ["https"]);
    }
    let before = app.count();
    for one in [
        ("x-forwarded-uri", "/public/x"),
        ("x-auth-user-id", "root"),
        ("x-forwarded-user", "root"),
    ] {
        assert_eq!(gateway.get("/dashboard", &[one]).status, 401);
        assert_eq!(gateway.get("/public/x", &[one]).status, 200);
        assert!(readable_as(&app.last(), one.0).is_empty());
    }
    assert_eq!(app.count(), before + 3);
}

/// T30: health checks have a port of their own.
#[test]
fn no_header_and_no_health_path_opens_a_protected_route() {
    let (app, gateway) = gateway();
    for agent in [
        "GoogleHC/1.0",
        "kube-probe/1.30",
        "ELB-HealthChecker/2.0",
        "vestibule",
    ] {
        assert_refused(
            &app,
            &gateway.get("/dashboard", &[("user-agent", agent)]),
            agent,
        );
    }
    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/ping",
        "/healthz",
        "/sessions/evict",
    ] {
        assert_refused(
            &app,
            &gateway.get(path, &[("user-agent", "kube-probe/1.30")]),
            path,
        );
    }
    for path in [
        "/_vestibule/",
        "/_vestibule",
        "/_vestibule/verify/nginx",
        "/_vestibule/userinfo",
    ] {
        assert_eq!(gateway.get(path, &[]).status, 404, "{path}");
        assert_eq!(app.count(), 0);
    }
    let live = crate::support::exchange(
        gateway.admin,
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    );
    assert_eq!((live.status, live.text().as_str()), (200, "ok\n"));
}

// ---------------------------------------------------------------------------------------------------- sessions

/// A number that looks random and is the same every time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).expect("small")
    }
}

/// T34: a cookie that is not exactly what was issued is nobody's.
#[test]
fn a_damaged_cookie_never_gets_in_and_never_costs_a_lookup() {
    const SEED: u64 = 34;
    let (app, gateway) = gateway();
    let issued = Signer::new(&Secret::new(SECRET)).issue("token-of-ada");
    let issued = issued
        .replace("%2B", "+")
        .replace("%2F", "/")
        .replace("%3D", "=");
    let mut stream = connect(gateway.address);
    let mut dice = Dice(SEED);
    for round in 0..600 {
        let mut bytes = issued.clone().into_bytes();
        // The last letter before the `=` carries two unused bits, which `atob` and so the framework ignore: left alone.
        let last = bytes.len() - 2;
        match dice.roll(8) {
            0 => {
                let at = dice.roll(last);
                bytes[at] ^= 1 << dice.roll(7);
            }
            1 => {
                bytes.truncate(dice.roll(last));
            }
            2 => {
                bytes.remove(dice.roll(last));
            }
            3 => {
                let at = dice.roll(last);
                bytes.insert(at, b"aZ0./+="[dice.roll(7)]);
            }
            4 => {
                bytes = (0..dice.roll(120))
                    .map(|_| b'!' + u8::try_from(dice.roll(90)).expect("small"))
                    .collect()
            }
            5 => bytes.extend_from_slice(&b"====.AAAA"[dice.roll(4)..5 + dice.roll(5)]),
            6 => {
                let (one, other) = (dice.roll(12), 13 + dice.roll(last - 13));
                bytes.swap(one, other);
            }
            _ => {
                let at = dice.roll(12);
                bytes[at] = b"abcdefghij"[dice.roll(10)];
            }
        }
        // A semicolon would end the cookie, and what is left may be the one issued.
        if bytes
            .iter()
            .any(|byte| matches!(byte, b';' | 0..=0x20 | 0x7f..))
            || bytes == issued.as_bytes()
        {
            continue;
        }
        let value = match dice.roll(3) {
            0 => encode_component(&String::from_utf8_lossy(&bytes)),
            // An escape in there may spell a letter that was there before.
            _ if bytes.contains(&b'%') => continue,
            1 => format!("\"{}\"", String::from_utf8_lossy(&bytes)),
            _ => String::from_utf8_lossy(&bytes).into_owned(),
        };
        let head = format!(
            "GET /dashboard HTTP/1.1\r\nhost: app.test\r\ncookie: better-auth.session_token={value}\r\n\r\n"
        );
        let answer = exchange_on(&mut stream, head.as_bytes());
        assert_eq!(answer.status, 401, "seed {SEED}, round {round}: {value}");
    }
    assert_eq!((app.count(), gateway.store.asked()), (0, 0));
    // The twins: every spelling of the real one.
    for value in [
        issued.clone(),
        format!("\"{issued}\""),
        encode_component(&issued),
        issued.replace('t', "%74"),
    ] {
        let answer = gateway.get(
            "/dashboard",
            &[("cookie", &format!("better-auth.session_token={value}"))],
        );
        assert_eq!(answer.status, 200, "{value}");
    }
}

/// T34, the far ends.
#[test]
fn oversized_and_unreadable_cookies_are_nobodys() {
    let (app, gateway) = gateway();
    let mut bytes = b"GET /dashboard HTTP/1.1\r\nhost: app.test\r\ncookie: better-auth.session_token=\xff\xfe.x\r\n\r\n".to_vec();
    assert_refused(&app, &gateway.raw(&bytes), "bytes outside ASCII");
    for value in [
        String::new(),
        ".".into(),
        "a.".into(),
        "%00.%00".into(),
        "x".repeat(20_000),
        format!("{}.{}=", "t".repeat(4000), "A".repeat(43)),
    ] {
        let answer = gateway.get(
            "/dashboard",
            &[("cookie", &format!("better-auth.session_token={value}"))],
        );
        assert_refused(&app, &answer, &value);
    }
    assert_eq!(gateway.store.asked(), 0);
    bytes.clear();
    // A strange neighbour does not spoil a good cookie.
    bytes.extend_from_slice(
        b"GET /dashboard HTTP/1.1\r\nhost: app.test\r\ncookie: odd=\xff\xfe; =; ;x; ",
    );
    bytes.extend_from_slice(ada().as_bytes());
    bytes.extend_from_slice(b"\r\n\r\n");
    assert_eq!(gateway.raw(&bytes).status, 200);
}

/// T35: a dead cookie goes, a forged one stays where it is.
#[test]
fn only_a_cookie_the_store_calls_dead_is_cleared() {
    let (_app, gateway) = gateway();
    let dead = gateway.document(
        "/dashboard",
        &[(
            "cookie",
            &format!("{}; better-auth.session_data=x", cookie("gone")),
        )],
    );
    assert_eq!(dead.status, 302);
    assert_eq!(
        dead.all("set-cookie"),
        [
            "better-auth.session_data=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax",
            "better-auth.session_token=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax",
        ]
    );
    let forged = gateway.document(
        "/dashboard",
        &[(
            "cookie",
            "better-auth.session_token=gone.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D",
        )],
    );
    assert_eq!((forged.status, forged.all("set-cookie").len()), (302, 0));
}

/// T36: other signed cookies of the framework prove no session, wherever they are put.
#[test]
fn a_sign_in_that_waits_for_its_second_factor_is_not_signed_in() {
    let (app, gateway) = gateway();
    let pending = Signer::new(&Secret::new(SECRET)).issue("2fa-pending-identifier");
    for cookies in [
        format!("better-auth.two_factor={pending}"),
        format!("better-auth.session_token={pending}"),
        "better-auth.session_data=eyJzZXNzaW9uIjp7fX0".to_owned(),
        format!(
            "better-auth.two_factor={pending}; better-auth.session_data=eyJzZXNzaW9uIjp7fX0; better-auth.trust_device={pending}"
        ),
        format!("__Secure-{}", ada()),
        ada().replace("better-auth", "other"),
        ada().replace("session_token", "session_tokens"),
    ] {
        assert_refused(
            &app,
            &gateway.get("/dashboard", &[("cookie", &cookies)]),
            &cookies,
        );
    }
    assert_eq!(gateway.get("/dashboard", &[("cookie", &ada())]).status, 200);
}

/// T41: lists are matched element by element.
#[test]
fn a_role_is_matched_whole() {
    let (app, gateway) = gateway();
    for (n, role) in [
        "administrator",
        "superadmin",
        "Admin",
        "admin-",
        "admin;user",
        "user admin",
        "user|admin",
        "",
        "adm,in",
        "admin.",
        "\u{430}dmin",
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("token-{n}");
        let mut user = record(&token, "eve");
        user.role = Some(role.into());
        gateway.store.put(user);
        let answer = gateway.get("/admin/x", &[("cookie", &cookie(&token))]);
        assert_eq!((answer.status, app.count()), (403, 0), "{role}");
    }
    for (n, role) in ["admin", "user,admin", "admin,user", "user, admin ,x"]
        .into_iter()
        .enumerate()
    {
        let token = format!("good-{n}");
        let mut user = record(&token, "root");
        user.role = Some(role.into());
        gateway.store.put(user);
        assert_eq!(
            gateway
                .get("/admin/x", &[("cookie", &cookie(&token))])
                .status,
            200,
            "{role}"
        );
    }
}

// ---------------------------------------------------------------------------------------------------- redirects

/// T44: nobody is sent to another origin, whatever the path they came by.
#[test]
fn the_way_to_the_sign_in_page_leads_nowhere_else() {
    let (app, gateway) = gateway();
    for target in [
        "//evil.example",
        "//evil.example/%2f..",
        "/\\evil.example",
        "/%5cevil.example",
        "/%5C%5Cevil.example",
        "/%09/evil.example",
        "/%2f/evil.example",
        "/%2f%2fevil.example",
        "/.evil.example/",
        "/;@evil.example",
        "/@evil.example",
        "/https:evil.example",
        "/https://evil.example",
        "/dashboard%0d%0aset-cookie:x=1",
        "/dashboard%0aLocation:%20//evil.example",
        "/dashboard?callbackURL=//evil.example",
        "/dashboard?callbackURL=https://app.test@evil.example",
        "/dashboard?x=%0d%0aset-cookie:x=1",
        "/dashboard?x=\\\\evil.example",
        "/dashboard?&&=&callbackURL=https:evil.example&_rsc=1#",
    ] {
        let answer = gateway.document(target, &[]);
        assert_refused(&app, &answer, target);
        assert!(answer.header("set-cookie").is_none());
        if answer.status == 302 {
            let location = answer.header("location").expect("a location");
            let (page, query) = location.split_once('?').unwrap_or((location, ""));
            assert_eq!(page, "/sign-in", "{target}");
            // One parameter, encoded once, which a browser resolves on our origin.
            assert!(!query.contains('&'), "{location}");
            let Some(back) = query.strip_prefix("callbackURL=") else {
                assert_eq!(query, "", "{location}");
                continue;
            };
            let back = url::form_urlencoded::parse(format!("x={back}").as_bytes())
                .next()
                .expect("a pair")
                .1
                .into_owned();
            let base = url::Url::parse("http://app.test/sign-in").expect("a URL");
            let went = base.join(&back).expect("it resolves");
            assert_eq!(went.origin(), base.origin(), "{target} -> {back}");
            assert!(
                back.starts_with('/') && !back.starts_with("//") && !back.contains('\\'),
                "{back}"
            );
        }
    }
    // An absolute form that names another host is no way out either.
    for host in [
        "evil.example",
        "app.test.evil.example",
        "app.test@evil.example",
        "evil.example#app.test",
    ] {
        let answer = gateway.raw(format!(
            "GET /dashboard HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n\r\n"
        ));
        assert!(
            matches!(answer.status, 400 | 421),
            "{host}: {}",
            answer.status
        );
        assert!(answer.header("location").is_none());
    }
    let good = gateway.document("/reports/7?tab=a%26b", &[]);
    assert_eq!(
        good.header("location"),
        Some("/sign-in?callbackURL=%2Freports%2F7%3Ftab%3Da%2526b")
    );
}

// ---------------------------------------------------------------------------------------------------- framing

/// T46 and its table: one request is one request, to us and to the app.
#[test]
fn ambiguous_framing_is_refused() {
    let (app, gateway) = gateway();
    let smuggled = "GET /admin/x HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let post = |headers: &str, body: &str| {
        format!("POST /public/x HTTP/1.1\r\nHost: app.test\r\n{headers}\r\n{body}")
    };
    for (what, bytes, statuses) in [
        ("length and chunked", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{smuggled}")), &[400][..]),
        ("chunked and length", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "0\r\n\r\n"), &[400]),
        ("two encodings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), &[400]),
        ("unknown encoding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), &[400]),
        ("another encoding before it", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), &[400]),
        ("no encoding before it", post("Transfer-Encoding: identity, chunked\r\n", "0\r\n\r\n"), &[400]),
        ("chunked twice in a line", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), &[400]),
        ("an empty encoding", post("Transfer-Encoding: , chunked\r\n", "0\r\n\r\n"), &[400]),
        ("nothing but a fragment", "GET #/public/x HTTP/1.1\r\nHost: app.test\r\n\r\n".into(), &[400]),
        ("not chunked last", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), &[400]),
        ("space before colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), &[400]),
        ("equal lengths twice", post("Content-Length: 1\r\nContent-Length: 1\r\n", "x"), &[400]),
        ("different lengths", post("Content-Length: 1\r\nContent-Length: 2\r\n", "xx"), &[400]),
        ("signed length", post("Content-Length: +1\r\n", "x"), &[400]),
        ("length list", post("Content-Length: 1, 1\r\n", "x"), &[400]),
        ("folded line", post("X-A: b\r\n c\r\n", ""), &[400]),
        ("NUL in a value", post("X-A: b\0c\r\n", ""), &[400]),
        ("CR in a value", post("X-A: b\rc\r\n", ""), &[400]),
        ("no host", "GET /public/x HTTP/1.1\r\n\r\n".into(), &[400]),
        ("empty host", "GET /public/x HTTP/1.1\r\nHost:\r\n\r\n".into(), &[400]),
        ("two hosts", "GET /public/x HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n".into(), &[400]),
        ("host with user", "GET /public/x HTTP/1.1\r\nHost: a@app.test\r\n\r\n".into(), &[400]),
        ("host list", "GET /public/x HTTP/1.1\r\nHost: app.test, evil.example\r\n\r\n".into(), &[400]),
        ("absolute form", "GET http://app.test/public/x HTTP/1.1\r\nHost: app.test\r\n\r\n".into(), &[400]),
        ("absolute form to another", "GET http://evil.example/public/x HTTP/1.1\r\nHost: app.test\r\n\r\n".into(), &[400]),
        ("other scheme", "GET ftp://app.test/public/x HTTP/1.1\r\nHost: app.test\r\n\r\n".into(), &[400]),
        ("absolute form and upgrade", "GET http://app.test/public/x HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".into(), &[400]),
        ("authority form", "GET app.test:80 HTTP/1.1\r\nHost: app.test\r\n\r\n".into(), &[400]),
        ("bare word", "GET public HTTP/1.1\r\nHost: app.test\r\n\r\n".into(), &[400]),
        ("asterisk", "OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n".into(), &[400, 401]),
        ("connect", "CONNECT app.test:80 HTTP/1.1\r\nHost: app.test\r\n\r\n".into(), &[405, 400]),
        ("HTTP/1.2", "GET /public/x HTTP/1.2\r\nHost: app.test\r\n\r\n".into(), &[400]),
        ("HTTP/1.0 chunked", "POST /public/x HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), &[400]),
        ("HTTP/1.0 without host", "GET /public/x HTTP/1.0\r\n\r\n".into(), &[400]),
        ("long target", format!("GET /public/{} HTTP/1.1\r\nHost: app.test\r\n\r\n", "a".repeat(9000)), &[414]),
        ("long query", format!("GET /public/x?{} HTTP/1.1\r\nHost: app.test\r\n\r\n", "a".repeat(9000)), &[414]),
        ("huge header", format!("GET /public/x HTTP/1.1\r\nHost: app.test\r\nX-A: {}\r\n\r\n", "a".repeat(70_000)), &[431]),
        ("many headers", format!("GET /public/x HTTP/1.1\r\nHost: app.test\r\n{}\r\n", "X-A: b\r\n".repeat(300)), &[400, 431]),
        ("large body", post("Content-Length: 2000000\r\n", ""), &[413]),
    ] {
        let answer = gateway.raw(&bytes);
        assert!(statuses.contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
        assert_eq!(app.count(), 0, "{what}: {:?}", app.seen());
    }
    // The twins.
    for (what, bytes, body) in [
        ("length", post("Content-Length: 3\r\n", "abc"), "abc"),
        (
            "chunked",
            post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            "abc",
        ),
        (
            "HTTP/1.0",
            "GET /public/x HTTP/1.0\r\nHost: app.test\r\n\r\n".into(),
            "",
        ),
        (
            "host with port",
            "GET /public/x HTTP/1.1\r\nHost: app.test:8080\r\n\r\n".into(),
            "",
        ),
    ] {
        assert_eq!(gateway.raw(&bytes).status, 200, "{what}");
        assert_eq!(app.last().body, body.as_bytes(), "{what}");
    }
}

/// T46: a body we never asked for is not the next request.
#[test]
fn the_body_of_a_refused_post_is_not_taken_for_a_request() {
    let (app, gateway) = gateway();
    let inner = format!(
        "GET /dashboard HTTP/1.1\r\nHost: app.test\r\nCookie: {}\r\n\r\n",
        ada()
    );
    for framing in [
        format!("Content-Length: {}\r\n\r\n{inner}", inner.len()),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n",
            inner.len()
        ),
    ] {
        let mut stream = connect(gateway.address);
        let first = exchange_on(
            &mut stream,
            format!("POST /dashboard HTTP/1.1\r\nHost: app.test\r\n{framing}").as_bytes(),
        );
        assert_eq!(first.status, 401);
        assert!(first.rest.is_empty());
        // Either the connection goes on with the next request, or it is closed.
        let next = exchange_on(
            &mut stream,
            b"GET /public/next HTTP/1.1\r\nHost: app.test\r\n\r\n",
        );
        assert!(matches!(next.status, 200 | 0), "{}", next.status);
        assert!(
            app.seen()
                .iter()
                .all(|seen| seen.line.starts_with("GET /public/next ")),
            "{:?}",
            app.seen()
        );
    }
}

/// A body whose length nobody declared is measured as it passes, whatever the request says it accepts.
#[test]
fn an_endless_body_is_cut_off_even_when_the_client_accepts_events() {
    let (app, gateway) = gateway();
    for header in ["accept: */*", "accept: text/event-stream", "upgrade: foo"] {
        let mut stream = connect(gateway.address);
        let head = format!(
            "POST /public/x HTTP/1.1\r\nhost: app.test\r\n{header}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes());
        let piece = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
        for _ in 0..32 {
            if stream.write_all(piece.as_bytes()).is_err() {
                break;
            }
        }
        let _ = stream.write_all(b"0\r\n\r\n");
        let answer = read_answer(&mut stream);
        assert!(
            matches!(answer.status, 413 | 400 | 0),
            "{header}: {}",
            answer.status
        );
        let most = app
            .seen()
            .iter()
            .map(|seen| seen.body.len())
            .max()
            .unwrap_or(0);
        assert!(
            most <= 1024 * 1024,
            "{header}: {most} bytes reached the app"
        );
    }
    let body = vec![b'a'; 1024 * 1024];
    assert_eq!(
        gateway
            .send(
                "POST",
                "/public/x",
                &[("accept", "text/event-stream")],
                &body
            )
            .status,
        200
    );
}

/// T45: an upgrade nobody agreed to opens no tunnel.
#[test]
fn a_request_behind_a_refused_upgrade_is_not_answered() {
    let (app, gateway) = gateway();
    for protocol in ["foo", "websocket", "h2c", "TLS/1.0"] {
        let bytes = format!(
            "GET /public/x HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n\
             GET /admin/x HTTP/1.1\r\nHost: app.test\r\nX-Auth-User-Id: root\r\n\r\n"
        );
        let mut stream = connect(gateway.address);
        let first = exchange_on(&mut stream, bytes.as_bytes());
        // The app does not switch protocols; the gateway passes that on, or refuses itself.
        assert!(
            matches!(first.status, 200 | 400 | 502),
            "{protocol}: {}",
            first.status
        );
        assert!(
            is_closed(&mut stream) || first.status != 200,
            "{protocol}: a second answer"
        );
        assert!(
            app.seen().iter().all(|seen| !seen.line.contains("/admin/")),
            "{:?}",
            app.seen()
        );
    }
}

/// T52: an upgrade is checked like everything else.
#[test]
fn an_upgrade_header_opens_no_protected_route() {
    let (app, gateway) = gateway();
    for path in [
        "/dashboard",
        "/admin/x",
        "/strict/x",
        "/closed/x",
        "/_next/hmr",
        "/_next/webpack-hmr",
    ] {
        for upgrade in ["x", "websocket", "h2c", "WebSocket, x"] {
            for connection in [
                None,
                Some(("connection", "Upgrade")),
                Some(("connection", "keep-alive, upgrade")),
            ] {
                let mut headers = vec![
                    ("upgrade", upgrade),
                    ("sec-websocket-version", "13"),
                    ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
                ];
                headers.extend(connection);
                assert_refused(&app, &gateway.get(path, &headers), path);
            }
        }
    }
    // The twin.
    let talking = App::scripted(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello");
    });
    let gateway = Gateway::in_front_of(&talking);
    gateway.store.put(record("token-of-ada", "ada"));
    let session = ada();
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("cookie", session.as_str()),
    ];
    assert_eq!(gateway.get("/dashboard", &headers).status, 101);
    assert_eq!(talking.last().all("x-auth-user-id"), ["ada"]);
    assert_eq!(gateway.get("/dashboard", &headers[..2]).status, 401);
}

/// An upgrade that the connection is not asked for means nothing: the app is not asked for it either, and what follows is a request of
/// its own.
#[test]
fn a_page_asked_for_with_an_upgrade_header_alone_is_served_like_any_other() {
    let (app, gateway) = gateway();
    let session = ada();
    for connection in [
        "keep-alive",
        "te",
        "http2-settings",
        "keep-alive\r\nconnection: te",
    ] {
        let mut stream = connect(gateway.address);
        for path in ["/dashboard", "/public/x"] {
            let head = format!(
                "GET {path} HTTP/1.1\r\nhost: app.test\r\nconnection: {connection}\r\nupgrade: websocket\r\n\
                 cookie: {session}\r\n\r\n"
            );
            let answer = exchange_on(&mut stream, head.as_bytes());
            assert_eq!(answer.status, 200, "{connection}: {path}");
            let seen = app.last();
            assert!(seen.line.starts_with(&format!("GET {path} ")), "{seen:?}");
            assert!(seen.all("upgrade").is_empty(), "{seen:?}");
        }
    }
    // The twins: it is no way in, in HTTP/1.0 it means nothing whatever is named, and one the connection is asked for arrives.
    let stranger = gateway.get("/dashboard", &[("upgrade", "websocket")]);
    assert_eq!(stranger.status, 401);
    let old = "GET /public/x HTTP/1.0\r\nhost: app.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let answer = exchange(gateway.address, old.as_bytes());
    assert_eq!(answer.status, 200);
    assert!(app.last().all("upgrade").is_empty());
    for connection in [
        "Upgrade",
        "keep-alive, upgrade",
        "te\r\nconnection: UPGRADE",
    ] {
        let head = format!(
            "GET /public/x HTTP/1.1\r\nhost: app.test\r\nconnection: {connection}\r\nupgrade: websocket\r\n\r\n"
        );
        let _ = exchange(gateway.address, head.as_bytes());
        assert_eq!(app.last().all("upgrade"), ["websocket"], "{connection}");
    }
}

/// D1.5: methods are compared exactly, and an odd one is as protected as any.
#[test]
fn an_odd_method_is_protected_like_any_other() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    let mut posts = route("/posts/:path*", rule(Need::Public));
    posts.methods = vec![http::Method::GET];
    setup.routes.routes.push(posts);
    let gateway = setup.start();
    for method in [
        "get", "Get", "FOO", "POST", "DELETE", "TRACE", "PROPFIND", "OPTIONS", "HEADX",
    ] {
        assert_refused(
            &app,
            &gateway.send(
                method,
                "/posts/1",
                &[("x-http-method-override", "GET")],
                b"",
            ),
            method,
        );
        assert_refused(&app, &gateway.send(method, "/dashboard", &[], b""), method);
    }
    assert_eq!(gateway.get("/posts/1", &[]).status, 200);
}

// ---------------------------------------------------------------------------------------------------- hosts

/// D1.7: other hosts are not ours to answer for.
#[test]
fn a_host_that_is_not_listed_is_misdirected() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.hosts = vec!["app.test".into(), "*.tenants.test".into(), "[::1]".into()];
    let gateway = setup.start();
    let ask = |host: &str| {
        gateway
            .raw(format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .status
    };
    for host in [
        "evil.example",
        "app.test.evil.example",
        "evilapp.test",
        "xapp.test",
        "127.0.0.1",
        "localhost",
        "tenants.test",
        ".tenants.test",
        "eviltenants.test",
        "a.tenants.test.evil.example",
        "app.test:80:80",
        "app.test..",
    ] {
        assert!(matches!(ask(host), 421 | 400), "{host}");
    }
    assert_eq!(ask("evil.example"), 421);
    assert_eq!(app.count(), 0);
    for host in [
        "app.test",
        "APP.test",
        "app.test:8080",
        "a.tenants.test",
        "a.b.tenants.test",
        "[::1]",
        "[::1]:80",
    ] {
        assert_eq!(ask(host), 200, "{host}");
    }
}

/// The names the gateway decides by are those the app is told, so a step-up rule cannot be met by what a client says.
#[test]
fn nothing_a_client_says_makes_a_session_fresh() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    let step_up = Conditions {
        step_up: Some(std::time::Duration::from_secs(30)),
        ..Conditions::default()
    };
    setup
        .routes
        .routes
        .push(route("/billing/:path*", rule(Need::SignedIn(step_up))));
    let gateway = setup.start();
    gateway.store.put(record("token-of-ada", "ada"));
    for target in ["/billing/x", "/billing/x?reauth=1"] {
        let old = gateway.get(target, &[("cookie", &ada()), ("x-auth-method", "step-up")]);
        assert_eq!((old.status, app.count()), (401, 0));
        assert!(old.text().contains("step_up_required"), "{}", old.text());
    }
    let mut fresh = record("fresh", "ada");
    fresh.created_at = Some(NOW);
    gateway.store.put(fresh);
    assert_eq!(
        gateway
            .get("/billing/x", &[("cookie", &cookie("fresh"))])
            .status,
        200
    );
}

/// T25: on the admin listener, a path opens itself and nothing near it.
#[test]
fn no_spelling_of_an_admin_path_does_without_the_token() {
    let (_app, gateway) = gateway();
    let ask = |method: &str, target: &str, headers: &str| {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 22\r\n{headers}\r\n{{\"token\":\"token-of-x\"}}"
        );
        crate::support::exchange(gateway.admin, head.as_bytes()).status
    };
    for target in [
        "/sessions/evict",
        "/sessions/evict/",
        "//sessions/evict",
        "/livez/../sessions/evict",
        "/metrics/../sessions/evict",
        "/livez/sessions/evict",
        "/livez;/sessions/evict",
        "/livez%2f..%2fsessions/evict",
        "/metrics?/sessions/evict",
        "/sessions/%65vict",
        "/SESSIONS/EVICT",
        "/reload",
        "/livez/../reload",
        "http://127.0.0.1/sessions/evict",
    ] {
        for method in ["POST", "PUT", "post"] {
            let status = ask(method, target, "");
            assert!((400..500).contains(&status), "{method} {target}: {status}");
        }
    }
    let token = "authorization: Bearer admin token of the tests\r\n";
    assert!((200..300).contains(&ask("POST", "/sessions/evict", token)));
}

/// T32: what is remembered is who somebody is, never what one route said of him.
#[test]
fn one_session_meets_every_rule_by_itself_however_it_was_met_before() {
    let (_app, gateway) = gateway();
    let session = ada();
    let ask = |path: &str| gateway.get(path, &[("cookie", &session)]).status;
    for _ in 0..2 {
        assert_eq!(ask("/dashboard"), 200);
        assert_eq!(ask("/admin/x"), 403);
        assert_eq!(ask("/closed/x"), 403);
        assert_eq!(ask("/optional/x"), 200);
    }
    // Asked for at the strictest route first, refused there, and let in elsewhere all the same.
    let mut root = record("token-of-root", "root");
    root.role = Some("admin".into());
    gateway.store.put(root);
    let root = cookie("token-of-root");
    assert_eq!(gateway.get("/admin/x", &[("cookie", &root)]).status, 200);
    assert_eq!(ask("/admin/x"), 403);
    let before = gateway.store.asked();
    assert_eq!(ask("/strict/x"), 200);
    assert_eq!(gateway.store.asked(), before + 1);
}

/// T33: lookups that are waited for together are those of the very same token.
#[test]
fn tokens_that_run_into_each_other_are_looked_up_apart() {
    let app = App::scripted(|seen, stream| {
        let who = seen.header("x-auth-user-id").unwrap_or("nobody").to_owned();
        crate::support::reply(stream, 200, &[], who.as_bytes());
    });
    let gateway = Gateway::in_front_of(&app);
    let tokens = [
        "a", "aa", "aaa", "ab", "b", "ba", "a-a", "aa-", "-aa", "A", "aA",
    ];
    for token in tokens {
        gateway.store.put(record(token, &format!("user-{token}")));
    }
    gateway.store.hold();
    std::thread::scope(|scope| {
        let gateway = &gateway;
        let asked: Vec<_> = tokens
            .iter()
            .cycle()
            .take(2 * tokens.len())
            .map(|token| {
                let told =
                    scope.spawn(move || gateway.get("/dashboard", &[("cookie", &cookie(token))]));
                (token, told)
            })
            .collect();
        gateway.store.await_asked(tokens.len());
        gateway.store.release();
        for (token, told) in asked {
            assert_eq!(
                told.join().expect("an answer").text(),
                format!("user-{token}")
            );
        }
    });
}
