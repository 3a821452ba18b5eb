//! Session tokens in the Authorization header, as mobile and API clients send them.

use std::time::Duration;

use vestibule::authenticator::bearer;
use vestibule::credential::signature::Signer;
use vestibule::policy::{Conditions, Need, Rule};
use vestibule::secret::Secret;
use vestibule::session::{Freshness, limit};

use crate::support::{
    Answer, App, Gateway, SECRET, Setup, cookie, record, reply, route, rule, signed_in,
};

fn setup(app: &App) -> Setup {
    let mut setup = Setup::in_front_of(app.address);
    setup.authenticator.enabled = ["bearer".to_owned()].into();
    setup
}

fn gateway() -> (App, Gateway) {
    let app = App::start();
    let gateway = setup(&app).start();
    gateway.store.put(record("ada-token", "ada"));
    (app, gateway)
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The token with its signature, as the cookie has it.
fn signed(token: &str) -> String {
    Signer::new(&Secret::new(SECRET)).issue(token)
}

fn ask(gateway: &Gateway, token: &str) -> Answer {
    gateway.get("/dashboard", &[("authorization", &bearer(token))])
}

// ---------------------------------------------------------------------------------------------------------- who passes, and as whom

#[test]
fn a_bearer_token_signs_in_with_its_signature_and_without() {
    let (app, gateway) = gateway();
    let encoded = signed("ada-token");
    let decoded = encoded
        .replace("%2B", "+")
        .replace("%2F", "/")
        .replace("%3D", "=");
    for token in ["ada-token", &encoded, &decoded] {
        assert_eq!(ask(&gateway, token).status, 200, "{token}");
        let seen = app.last();
        assert_eq!(seen.all("x-auth-user-id"), ["ada"]);
        assert_eq!(seen.all("x-auth-method"), ["bearer"]);
        // The app may want to see for itself.
        assert_eq!(seen.all("authorization"), [bearer(token)]);
    }
    for token in ["other-token", &signed("other-token")] {
        assert_eq!(ask(&gateway, token).status, 401, "{token}");
    }
    assert_eq!(app.count(), 3);
}

#[test]
fn one_token_by_two_ways_is_told_apart() {
    let (app, gateway) = gateway();
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "ada-token").status, 200);
        assert_eq!(app.last().all("x-auth-method"), ["bearer"]);
        let by_cookie = gateway.get("/dashboard", &[("cookie", &cookie("ada-token"))]);
        assert_eq!(by_cookie.status, 200);
        assert_eq!(app.last().all("x-auth-method"), ["session"]);
    }
    assert_eq!(gateway.store.asked(), 2, "each way was looked up once");
}

#[test]
fn without_the_plugin_a_bearer_token_is_nothing() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    gateway.store.put(record("ada-token", "ada"));
    assert_eq!(ask(&gateway, "ada-token").status, 401);
    assert_eq!(gateway.store.asked(), 0);
}

#[test]
fn where_signatures_are_required_a_bare_token_is_left_alone() {
    let app = App::start();
    let mut setup = setup(&app);
    setup.authenticator.bearer = bearer::Settings {
        require_signature: true,
    };
    let gateway = setup.start();
    gateway.store.put(record("ada-token", "ada"));
    gateway.store.put(record("bob-token", "bob"));
    assert_eq!(ask(&gateway, "ada-token").status, 401);
    assert_eq!(gateway.store.asked(), 0);
    assert_eq!(ask(&gateway, &signed("ada-token")).status, 200);
    // The cookie beside it counts, as it does in the framework.
    let headers = [
        ("authorization", &*bearer("ada-token")),
        ("cookie", &cookie("bob-token")),
    ];
    assert_eq!(gateway.get("/dashboard", &headers).status, 200);
    assert_eq!(app.last().all("x-auth-user-id"), ["bob"]);
}

#[test]
fn the_header_wins_over_the_cookie_when_it_is_ours_and_only_then() {
    let (app, gateway) = gateway();
    gateway.store.put(record("bob-token", "bob"));
    let misspelled = signed("ada-token").replace("%3D", "");
    for (token, user) in [
        ("ada-token", Some("ada")),
        (&signed("ada-token"), Some("ada")),
        ("nobodys-token", None),
        (&signed("nobodys-token"), None),
        (&misspelled, None),
        // These are somebody else's.
        ("ada-token.AAAA", Some("bob")),
        ("eyJhbGciOiJFZERTQSJ9.e30.c2ln", Some("bob")),
    ] {
        let headers = [
            ("authorization", &*bearer(token)),
            ("cookie", &cookie("bob-token")),
        ];
        let status = gateway.get("/dashboard", &headers).status;
        match user {
            Some(user) => {
                assert_eq!(status, 200, "{token}");
                assert_eq!(app.last().all("x-auth-user-id"), [user], "{token}");
            }
            None => assert_eq!(status, 401, "{token}"),
        }
    }
}

#[test]
fn falling_through_gives_the_cookie_its_word() {
    let app = App::start();
    let mut setup = setup(&app);
    setup.authenticator.fall_through = true;
    let gateway = setup.start();
    gateway.store.put(record("bob-token", "bob"));
    let headers = [
        ("authorization", &*bearer("nobodys-token")),
        ("cookie", &cookie("bob-token")),
    ];
    assert_eq!(gateway.get("/dashboard", &headers).status, 200);
    assert_eq!(app.last().all("x-auth-user-id"), ["bob"]);
    assert_eq!(ask(&gateway, "nobodys-token").status, 401);
}

#[test]
fn a_dead_bearer_token_does_not_sign_the_browser_out() {
    let (_app, gateway) = gateway();
    let mut over = record("old-token", "ada");
    over.expires_at = vestibule::time::UnixMs(1);
    gateway.store.put(over);
    for token in ["nobodys-token", "old-token", &signed("nobodys-token")] {
        let headers = [
            ("authorization", &*bearer(token)),
            ("cookie", &cookie("ada-token")),
        ];
        let answer = gateway.document("/dashboard", &headers);
        assert_eq!(answer.status, 302, "{token}");
        assert_eq!(answer.all("set-cookie"), [""; 0], "{token}");
    }
    // A dead cookie by itself is removed, as ever.
    let dead = gateway.document("/dashboard", &[("cookie", &cookie("dead-token"))]);
    assert_eq!((dead.status, dead.all("set-cookie").len()), (302, 1));
}

#[test]
fn what_is_not_ours_is_left_alone_and_forwarded_as_it_came() {
    let (app, gateway) = gateway();
    for value in [
        "Basic YWRhOnNlY3JldA==",
        "Digest username=\"ada\"",
        "ada-token",
        "Bearer",
        "bearer\tada-token",
        "Bearer eyJhbGciOiJFZERTQSJ9.e30.c2ln",
    ] {
        let open = gateway.get("/optional/page", &[("authorization", value)]);
        assert_eq!(open.status, 200, "{value}");
        let seen = app.last();
        assert_eq!(seen.all("authorization"), [value]);
        assert_eq!(seen.all("x-auth-user-id"), [""; 0], "{value}");
        let closed = gateway.get("/dashboard", &[("authorization", value)]);
        assert_eq!(closed.status, 401, "{value}");
    }
    assert_eq!(gateway.store.asked(), 0);
}

#[test]
fn a_route_chooses_which_kinds_count() {
    let app = App::start();
    let mut setup = setup(&app);
    let only = |kind: &str| {
        rule(Need::SignedIn(Conditions {
            credentials: vec![kind.into()],
            ..Conditions::default()
        }))
    };
    setup
        .routes
        .routes
        .push(route("/api/:path*", only("bearer")));
    setup
        .routes
        .routes
        .push(route("/pages/:path*", only("session")));
    let gateway = setup.start();
    gateway.store.put(record("ada-token", "ada"));
    let by_bearer = [("authorization", &*bearer("ada-token"))];
    let by_cookie = [("cookie", &*cookie("ada-token"))];
    assert_eq!(gateway.get("/api/x", &by_bearer).status, 200);
    assert_eq!(gateway.get("/api/x", &by_cookie).status, 403);
    assert_eq!(gateway.get("/pages/x", &by_bearer).status, 403);
    assert_eq!(gateway.get("/pages/x", &by_cookie).status, 200);
    // With both, each route takes the one it wants.
    let both = [by_bearer[0], by_cookie[0]];
    assert_eq!(gateway.get("/api/x", &both).status, 200);
    assert_eq!(gateway.get("/pages/x", &both).status, 200);
}

#[test]
fn a_signature_suffices_where_nobody_is_looked_up_and_a_bare_token_does_not() {
    let app = App::start();
    let mut setup = setup(&app);
    let optimistic = Rule {
        freshness: Freshness::Optimistic,
        ..signed_in()
    };
    setup.routes.routes.push(route("/quick/:path*", optimistic));
    let gateway = setup.start();
    let token = "abcdefghijklmnopqrstuvwxyz012345";
    let quick = |token: &str| {
        gateway
            .get("/quick/x", &[("authorization", &bearer(token))])
            .status
    };
    assert_eq!(quick(&signed(token)), 200);
    assert_eq!(gateway.store.asked(), 0);
    assert_eq!(quick(token), 401);
    assert_eq!(gateway.store.asked(), 1);
    gateway.store.put(record("another-token", "ada"));
    assert_eq!(quick("another-token"), 200);
}

#[test]
fn an_outage_is_no_sign_out() {
    let (_app, gateway) = gateway();
    gateway.store.fail(true);
    for token in ["ada-token", &signed("ada-token")] {
        assert_eq!(ask(&gateway, token).status, 503);
    }
    gateway.store.fail(false);
    assert_eq!(ask(&gateway, "ada-token").status, 200);
}

// --------------------------------------------------------------------------------------------------------------------- revocation

#[test]
fn signing_out_by_bearer_token_ends_what_is_remembered_of_it() {
    for token in ["ada-token".to_owned(), signed("ada-token")] {
        let (_app, gateway) = gateway();
        assert_eq!(ask(&gateway, &token).status, 200);
        let by_cookie = [("cookie", &*cookie("ada-token"))];
        assert_eq!(gateway.get("/dashboard", &by_cookie).status, 200);
        gateway.store.remove("ada-token");
        assert_eq!(ask(&gateway, &token).status, 200, "it is remembered");
        let headers = [("authorization", &*bearer(&token))];
        let out = gateway.send("POST", "/api/auth/sign-out", &headers, b"");
        assert_eq!(out.status, 200);
        assert_eq!(ask(&gateway, &token).status, 401);
        assert_eq!(gateway.get("/dashboard", &by_cookie).status, 401);
    }
}

#[test]
fn ending_other_sessions_by_bearer_token_ends_them_all_here() {
    let (_app, gateway) = gateway();
    gateway.store.put(record("phone-token", "ada"));
    gateway.store.put(record("bob-token", "bob"));
    for token in ["ada-token", "phone-token", "bob-token"] {
        assert_eq!(ask(&gateway, token).status, 200);
    }
    gateway.store.remove("phone-token");
    let headers = [("authorization", &*bearer("ada-token"))];
    let path = "/api/auth/revoke-other-sessions";
    assert_eq!(gateway.send("POST", path, &headers, b"").status, 200);
    assert_eq!(ask(&gateway, "phone-token").status, 401);
    assert_eq!(ask(&gateway, "ada-token").status, 200);
    let asked = gateway.store.asked();
    assert_eq!(ask(&gateway, "bob-token").status, 200);
    assert_eq!(gateway.store.asked(), asked, "others are still remembered");
}

#[test]
fn a_made_up_token_on_an_auth_endpoint_makes_nobody_forgotten() {
    let app = App::scripted(|seen, stream| match seen.line.contains("/api/auth/") {
        true => reply(stream, 302, &[("location", "/?error=invalid_token")], b""),
        false => reply(stream, 200, &[], b"app"),
    });
    let gateway = setup(&app).start();
    gateway.store.put(record("ada-token", "ada"));
    assert_eq!(ask(&gateway, "ada-token").status, 200);
    let headers = [("authorization", "Bearer made-up")];
    for path in [
        "/api/auth/verify-email?token=x",
        "/api/auth/delete-user/callback",
    ] {
        assert_eq!(gateway.get(path, &headers).status, 302);
    }
    let body = br#"{"userId":"ada"}"#;
    let path = "/api/auth/admin/ban-user";
    assert_eq!(gateway.send("POST", path, &headers, body).status, 302);
    let asked = gateway.store.asked();
    assert_eq!(ask(&gateway, "ada-token").status, 200);
    // An answer to the admin endpoint counts, whoever it was for. Everything else was nobody's.
    assert!(gateway.store.asked() <= asked + 1);

    let asked = gateway.store.asked();
    assert_eq!(
        gateway
            .get("/api/auth/verify-email?token=x", &headers)
            .status,
        302
    );
    let asked_for_the_stranger = gateway.store.asked() - asked;
    assert!(asked_for_the_stranger <= 1);
    assert_eq!(ask(&gateway, "ada-token").status, 200);
    assert_eq!(
        gateway.store.asked(),
        asked + asked_for_the_stranger,
        "ada is remembered"
    );
}

// -------------------------------------------------------------------------------------------------------------------------- floods

fn limited(app: &App, per_minute: u32) -> Gateway {
    let mut setup = setup(app);
    setup.authenticator.guesses = limit::Settings { per_minute };
    setup.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    setup.start()
}

fn ask_from(gateway: &Gateway, client: &str, token: &str) -> Answer {
    let headers = [
        ("authorization", &*bearer(token)),
        ("x-forwarded-for", client),
    ];
    gateway.get("/dashboard", &headers)
}

#[test]
fn a_flood_of_guesses_is_held_back_before_the_store() {
    let app = App::start();
    let gateway = limited(&app, 50);
    gateway.store.put(record("ada-token", "ada"));
    gateway.store.put(record("bob-token", "bob"));
    assert_eq!(ask_from(&gateway, "192.0.2.1", "ada-token").status, 200);
    let statuses: Vec<u16> = (0..100)
        .map(|number| ask_from(&gateway, "192.0.2.1", &format!("guess-{number}")).status)
        .collect();
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 10);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 90);
    assert_eq!(gateway.store.asked(), 11, "ada and ten guesses");

    let refused = ask_from(&gateway, "192.0.2.1", "one-more-guess");
    let seconds: u64 = refused
        .header("retry-after")
        .expect("when")
        .parse()
        .expect("seconds");
    assert!((1..=2).contains(&seconds), "{seconds}");
    // Who is remembered notices nothing, and neither does anybody elsewhere.
    assert_eq!(ask_from(&gateway, "192.0.2.1", "ada-token").status, 200);
    assert_eq!(ask_from(&gateway, "192.0.2.2", "bob-token").status, 200);
    assert_eq!(ask_from(&gateway, "192.0.2.2", "a-guess").status, 401);
    // Signed tokens are nobody's guesses.
    gateway.store.put(record("eve-token", "eve"));
    let by_signature = ask_from(&gateway, "192.0.2.1", &signed("eve-token"));
    assert_eq!(by_signature.status, 200);
    // And later it may try again.
    gateway.clock.advance(Duration::from_secs(seconds));
    assert_eq!(ask_from(&gateway, "192.0.2.1", "yet-another").status, 401);
}

#[test]
fn a_house_full_of_good_clients_is_not_held_back() {
    let app = App::start();
    let gateway = limited(&app, 5);
    for number in 0..100 {
        let token = format!("token-{number}");
        gateway.store.put(record(&token, "somebody"));
        assert_eq!(
            ask_from(&gateway, "192.0.2.1", &token).status,
            200,
            "{token}"
        );
    }
    // An outage is not their fault either.
    gateway.store.fail(true);
    gateway.clock.advance(Duration::from_secs(31));
    for number in 0..10 {
        let token = format!("token-{number}");
        assert_eq!(
            ask_from(&gateway, "192.0.2.1", &token).status,
            503,
            "{token}"
        );
    }
    gateway.store.fail(false);
    assert_eq!(ask_from(&gateway, "192.0.2.1", "token-1").status, 200);
}

#[test]
fn a_network_of_long_addresses_counts_as_one() {
    let app = App::start();
    let gateway = limited(&app, 5);
    assert_eq!(ask_from(&gateway, "2001:db8:1:1::1", "guess-1").status, 401);
    assert_eq!(
        ask_from(&gateway, "2001:db8:1:1:2::7", "guess-2").status,
        429
    );
    assert_eq!(ask_from(&gateway, "2001:db8:1:2::1", "guess-3").status, 401);
}

#[test]
fn an_endless_token_is_refused_without_a_lookup() {
    let (_app, gateway) = gateway();
    assert_eq!(ask(&gateway, &"a".repeat(2049)).status, 401);
    assert_eq!(gateway.store.asked(), 0);
    assert_eq!(ask(&gateway, &"a".repeat(2048)).status, 401);
    assert_eq!(gateway.store.asked(), 1);
}

// ------------------------------------------------------------------------------------------------------------------ mobile clients

#[test]
fn what_mobile_clients_read_passes_through() {
    let app = App::scripted(|seen, stream| {
        if seen.line.starts_with("OPTIONS ") {
            let headers = [
                ("access-control-allow-origin", "https://app.example"),
                (
                    "access-control-allow-headers",
                    "authorization, content-type",
                ),
                ("access-control-allow-methods", "GET, POST"),
                ("access-control-max-age", "600"),
            ];
            return reply(stream, 204, &headers, b"");
        }
        let headers = [
            ("set-auth-token", "ada-token.c2lnbmF0dXJl+/="),
            ("set-auth-jwt", "eyJhbGciOiJFZERTQSJ9.e30.c2ln"),
            (
                "access-control-expose-headers",
                "set-auth-token, set-auth-jwt",
            ),
            ("access-control-allow-origin", "https://app.example"),
        ];
        reply(stream, 200, &headers, b"{}");
    });
    let gateway = setup(&app).start();
    gateway.store.put(record("ada-token", "ada"));
    let headers = [("authorization", &*bearer("ada-token"))];
    for (method, path) in [
        ("POST", "/api/auth/sign-in/email"),
        ("GET", "/api/auth/get-session"),
        ("GET", "/dashboard"),
    ] {
        let answer = gateway.send(method, path, &headers, b"");
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.all("set-auth-token"), ["ada-token.c2lnbmF0dXJl+/="]);
        assert_eq!(
            answer.all("set-auth-jwt"),
            ["eyJhbGciOiJFZERTQSJ9.e30.c2ln"]
        );
        assert_eq!(
            answer.all("access-control-expose-headers"),
            ["set-auth-token, set-auth-jwt"]
        );
        assert_eq!(
            answer.all("access-control-allow-origin"),
            ["https://app.example"]
        );
    }
    // A browser asks ahead without any credential, and the app answers.
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization"),
    ];
    let answer = gateway.send("OPTIONS", "/dashboard", &preflight, b"");
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.all("access-control-allow-headers"),
        ["authorization, content-type"]
    );
    assert_eq!(answer.all("access-control-max-age"), ["600"]);
}
