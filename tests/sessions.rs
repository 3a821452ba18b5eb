//! How long an identity counts: lookups shared, remembered and forgotten; expiry; revocations seen passing; outages.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use vestibule::policy::{Conditions, Need, Rule};
use vestibule::server::UpstreamAddress;
use vestibule::session::Freshness;
use vestibule::time::{Clock as _, UnixMs};

use crate::support::{
    Answer, App, Gateway, NOW, Setup, await_until, connect, cookie, exchange_on, free_port,
    read_answer, record, reply, route,
};

fn gateway() -> (App, Gateway) {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    (app, gateway)
}

/// Asks for a page that needs a session, in the name of `token`.
fn ask(gateway: &Gateway, token: &str) -> u16 {
    gateway
        .get("/dashboard", &[("cookie", &cookie(token))])
        .status
}

fn request(path: &str, token: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: app.test\r\ncookie: {}\r\n\r\n",
        cookie(token)
    )
    .into_bytes()
}

/// Sends a request and leaves the answer for later.
fn begin(gateway: &Gateway, path: &str, token: &str) -> TcpStream {
    let mut stream = connect(gateway.address);
    stream.write_all(&request(path, token)).expect("it is sent");
    stream
}

fn in_flight(gateway: &Gateway) -> i64 {
    gateway.running.gateway.metrics.in_flight()
}

fn waiting_for_lookups(gateway: &Gateway) -> usize {
    gateway.running.gateway.gate.sessions.waiting()
}

// ----------------------------------------------------------------------------------------------------------------- lookups

#[test]
fn a_hundred_requests_of_one_session_cost_one_lookup() {
    let (app, gateway) = gateway();
    gateway.store.put(record("t", "ada"));
    gateway.store.hold();
    let mut waiting: Vec<TcpStream> = (0..100)
        .map(|_| begin(&gateway, "/dashboard", "t"))
        .collect();
    await_until("all to wait", || waiting_for_lookups(&gateway) == 100);
    gateway.store.release();
    assert!(
        waiting
            .iter_mut()
            .all(|stream| read_answer(stream).status == 200)
    );
    assert_eq!((gateway.store.asked(), app.count()), (1, 100));
    // Another session is another lookup.
    gateway.store.put(record("t2", "bob"));
    assert_eq!(ask(&gateway, "t2"), 200);
    assert_eq!(gateway.store.asked(), 2);
}

#[test]
fn a_client_that_goes_away_does_not_take_the_lookup_with_it() {
    let (_app, gateway) = gateway();
    gateway.store.put(record("t", "ada"));
    gateway.store.hold();
    let first = begin(&gateway, "/dashboard", "t");
    gateway.store.await_asked(1);
    let mut others: Vec<TcpStream> = (0..5).map(|_| begin(&gateway, "/dashboard", "t")).collect();
    await_until("all to wait", || in_flight(&gateway) == 6);
    drop(first);
    gateway.store.release();
    assert!(
        others
            .iter_mut()
            .all(|stream| read_answer(stream).status == 200)
    );
    assert_eq!(gateway.store.asked(), 1);
    // And when the only one goes, the next one is served all the same.
    gateway.store.put(record("t2", "bob"));
    gateway.store.hold();
    drop(begin(&gateway, "/dashboard", "t2"));
    gateway.store.await_asked(2);
    let mut next = begin(&gateway, "/dashboard", "t2");
    gateway.store.release();
    assert_eq!(read_answer(&mut next).status, 200);
}

#[test]
fn a_forged_cookie_never_reaches_the_store() {
    let (_app, gateway) = gateway();
    gateway.store.put(record("t", "ada"));
    for forged in [
        cookie("t").replace("session_token=t", "session_token=u"),
        "better-auth.session_token=t".into(),
        format!("{}x", cookie("t")),
    ] {
        for path in [
            "/dashboard",
            "/strict/x",
            "/optional/x",
            "/sign-in",
            "/admin/x",
        ] {
            gateway.get(path, &[("cookie", &forged)]);
            gateway.send("POST", "/api/auth/sign-out", &[("cookie", &forged)], b"");
            gateway.send(
                "POST",
                "/api/auth/revoke-sessions",
                &[("cookie", &forged)],
                b"{}",
            );
        }
    }
    assert_eq!(gateway.store.asked(), 0);
    assert_eq!(ask(&gateway, "t"), 200);
    assert_eq!(gateway.store.asked(), 1);
}

#[test]
fn that_there_is_no_such_session_is_remembered_briefly() {
    let (_app, gateway) = gateway();
    assert_eq!((ask(&gateway, "t"), ask(&gateway, "t")), (401, 401));
    assert_eq!(gateway.store.asked(), 1);
    gateway.store.put(record("t", "ada"));
    gateway.clock.advance(Duration::from_millis(4999));
    assert_eq!(ask(&gateway, "t"), 401);
    gateway.clock.advance(Duration::from_millis(1));
    assert_eq!((ask(&gateway, "t"), gateway.store.asked()), (200, 2));
}

#[test]
fn what_is_remembered_is_bounded() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.sessions.entries_max = 50;
    setup.sessions.negative_max = 50;
    let gateway = setup.start();
    let mut stream = connect(gateway.address);
    let sessions = &gateway.running.gateway.gate.sessions;
    for n in 0..400 {
        let token = format!("t{n}");
        gateway.store.put(record(&token, "ada"));
        assert_eq!(
            exchange_on(&mut stream, &request("/dashboard", &token)).status,
            200
        );
        assert!(
            sessions.cache().len() <= 50,
            "{} entries",
            sessions.cache().len()
        );
    }
    assert!(sessions.cache().len() > 20, "and they are put to use");

    // By bytes: one session as big as it gets takes the room of many.
    let mut setup = Setup::in_front_of(app.address);
    setup.sessions.bytes_max = 100_000;
    let gateway = setup.start();
    let mut stream = connect(gateway.address);
    let sessions = &gateway.running.gateway.gate.sessions;
    for n in 0..200 {
        let token = format!("t{n}");
        let mut big = record(&token, "ada");
        big.name = Some("n".repeat(1000).into());
        gateway.store.put(big);
        assert_eq!(
            exchange_on(&mut stream, &request("/dashboard", &token)).status,
            200
        );
        assert!(
            sessions.cache().weight() <= 100_000,
            "{} bytes",
            sessions.cache().weight()
        );
    }
    assert!(!sessions.cache().is_empty());
}

#[test]
fn the_answers_that_there_is_none_are_bounded_too() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.sessions.negative_max = 20;
    let gateway = setup.start();
    let mut stream = connect(gateway.address);
    // Every token is asked about twice, the second time after hundreds of others: most are forgotten, none is wrong.
    for _ in 0..2 {
        for n in 0..300 {
            assert_eq!(
                exchange_on(&mut stream, &request("/dashboard", &format!("t{n}"))).status,
                401
            );
        }
    }
    assert!(
        gateway.store.asked() >= 500,
        "{} lookups",
        gateway.store.asked()
    );
}

// ------------------------------------------------------------------------------------------------------------------- time

#[test]
fn a_session_counts_to_the_very_millisecond_of_its_expiry() {
    for remembered in [false, true] {
        let (_app, gateway) = gateway();
        let mut short = record("t", "ada");
        short.expires_at = UnixMs(NOW.0 + 10_000);
        gateway.store.put(short);
        if remembered {
            assert_eq!(ask(&gateway, "t"), 200);
        }
        gateway.clock.set(UnixMs(NOW.0 + 10_000));
        assert_eq!(ask(&gateway, "t"), 200, "at the millisecond");
        gateway.clock.advance(Duration::from_millis(1));
        let over = gateway.document("/dashboard", &[("cookie", &cookie("t"))]);
        assert_eq!(over.status, 302, "one later");
        assert_eq!(
            over.all("set-cookie").len(),
            1,
            "the store was asked and said so"
        );
    }
}

/// The app may have extended the session behind our back.
#[test]
fn a_session_that_was_extended_meanwhile_goes_on() {
    let (_app, gateway) = gateway();
    let mut session = record("t", "ada");
    session.expires_at = UnixMs(NOW.0 + 1000);
    gateway.store.put(session);
    assert_eq!(ask(&gateway, "t"), 200);
    gateway.store.put(record("t", "ada"));
    gateway.clock.advance(Duration::from_millis(1001));
    assert_eq!((ask(&gateway, "t"), gateway.store.asked()), (200, 2));
}

#[test]
fn a_remembered_identity_is_never_older_than_configured() {
    let (app, gateway) = gateway();
    gateway.store.put(record("t", "ada"));
    assert_eq!(ask(&gateway, "t"), 200);
    let mut renamed = record("t", "ada");
    renamed.name = Some("Ada L.".into());
    gateway.store.put(renamed);
    gateway.clock.advance(Duration::from_millis(29_999));
    assert_eq!((ask(&gateway, "t"), gateway.store.asked()), (200, 1));
    assert_eq!(app.last().header("x-auth-user-name"), Some("ada"));
    gateway.clock.advance(Duration::from_millis(1));
    assert_eq!((ask(&gateway, "t"), gateway.store.asked()), (200, 2));
    assert_eq!(app.last().header("x-auth-user-name"), Some("Ada%20L."));
    // A clock that was set back makes nothing younger.
    gateway.clock.set(UnixMs(NOW.0 + 1));
    assert_eq!((ask(&gateway, "t"), gateway.store.asked()), (200, 3));
    gateway.store.remove("t");
    gateway.clock.advance(Duration::from_secs(30));
    assert_eq!(ask(&gateway, "t"), 401);
}

#[test]
fn without_a_cache_every_request_asks() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.sessions.cache_ttl = Duration::ZERO;
    setup.sessions.negative_ttl = Duration::ZERO;
    let gateway = setup.start();
    gateway.store.put(record("t", "ada"));
    for lookups in 1..4 {
        assert_eq!((ask(&gateway, "t"), gateway.store.asked()), (200, lookups));
    }
    gateway.store.remove("t");
    assert_eq!(
        (
            ask(&gateway, "t"),
            ask(&gateway, "t"),
            gateway.store.asked()
        ),
        (401, 401, 5)
    );
}

#[test]
fn strict_always_asks_and_optimistic_asks_for_no_session_token() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    let quick = Rule {
        need: Need::SignedIn(Conditions::default()),
        freshness: Freshness::Optimistic,
    };
    setup.routes.routes.push(route("/quick/:path*", quick));
    let gateway = setup.start();
    gateway.store.put(record("t", "ada"));
    let get = |path: &str, token: &str| gateway.get(path, &[("cookie", &cookie(token))]).status;
    for lookups in 1..4 {
        assert_eq!(
            (get("/strict/x", "t"), gateway.store.asked()),
            (200, lookups)
        );
    }
    // What strict found serves the others.
    assert_eq!(
        (
            get("/dashboard", "t"),
            get("/quick/x", "t"),
            gateway.store.asked()
        ),
        (200, 200, 3)
    );
    assert_eq!(app.last().header("x-auth-user-id"), Some("ada"));
    // The signature alone: passes, names nobody, and asks nobody.
    for token in [
        "NeverSeen0NeverSeen1NeverSeen2Ne",
        "Neither0Neither1Neither2Neither3",
    ] {
        assert_eq!((get("/quick/x", token), gateway.store.asked()), (200, 3));
        assert_eq!(
            (
                app.last().header("x-auth-user-id"),
                app.last().header("x-auth-assertion")
            ),
            (None, None)
        );
    }
    let forged = gateway.get(
        "/quick/x",
        &[(
            "cookie",
            "better-auth.session_token=t.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D",
        )],
    );
    assert_eq!(
        (forged.status, gateway.get("/quick/x", &[]).status),
        (401, 401)
    );
    // What else the app signs under the same key is no session token, and is looked up: a pending second factor, a flag.
    for (lookups, other) in [(4, "2fa-AbCdEfGhIjKlMnOpQrSt"), (5, "true")] {
        assert_eq!(
            (get("/quick/x", other), gateway.store.asked()),
            (401, lookups)
        );
    }
    gateway.store.remove("t");
    assert_eq!(get("/strict/x", "t"), 401);
    // What strict found out counts for all.
    assert_eq!((get("/dashboard", "t"), get("/quick/x", "t")), (401, 401));
}

#[test]
fn a_member_whose_role_is_taken_away_loses_it_at_once_and_other_organizations_are_left_alone() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let member = |token: &str, user: &str, organization: &str| {
        let mut row = record(token, user);
        row.organization_id = Some(organization.into());
        gateway.store.put(row);
    };
    member("owner", "ada", "acme");
    member("member", "bob", "acme");
    member("elsewhere", "eve", "other");
    for path in ["remove-member", "update-member-role", "delete"] {
        for body in ["{}", r#"{"organizationId":"acme"}"#] {
            assert_eq!(
                (
                    ask(&gateway, "owner"),
                    ask(&gateway, "member"),
                    ask(&gateway, "elsewhere")
                ),
                (200, 200, 200)
            );
            let asked = gateway.store.asked();
            let target = format!("/api/auth/organization/{path}");
            let done = gateway.send(
                "POST",
                &target,
                &[("cookie", &cookie("owner"))],
                body.as_bytes(),
            );
            assert_eq!(done.status, 200);
            ask(&gateway, "elsewhere");
            assert_eq!(
                gateway.store.asked(),
                asked,
                "{path}: another organization is none of it"
            );
            ask(&gateway, "member");
            assert_eq!(
                gateway.store.asked(),
                asked + 1,
                "{path}: the member is asked about again"
            );
        }
    }
}

/// A strict lookup that began before the request came may know less than the request may ask.
#[test]
fn a_strict_request_does_not_wait_for_an_older_lookup() {
    let (_app, gateway) = gateway();
    gateway.store.put(record("t", "ada"));
    gateway.store.hold();
    let mut early = begin(&gateway, "/dashboard", "t");
    gateway.store.await_asked(1);
    gateway.store.remove("t");
    let mut strict = begin(&gateway, "/strict/x", "t");
    gateway.store.await_asked(2);
    gateway.store.release();
    assert_eq!(read_answer(&mut strict).status, 401);
    let _ = read_answer(&mut early);
}

// ------------------------------------------------------------------------------------------------------------- revocations

/// What a revocation ends, among the sessions `mine` and `same` of ada, and `other` of bob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Mine,
    Ada,
    Other,
    Bob,
}

const ENDPOINTS: &[(&str, &str, &str, Ends)] = &[
    ("POST", "/sign-out", "", Ends::Mine),
    ("POST", "/revoke-session", r#"{"token":"same"}"#, Ends::Ada),
    ("POST", "/revoke-session", r#"{"token":"mine"}"#, Ends::Mine),
    ("POST", "/revoke-sessions", "{}", Ends::Ada),
    ("POST", "/revoke-other-sessions", "{}", Ends::Ada),
    (
        "POST",
        "/change-password",
        r#"{"newPassword":"x","currentPassword":"y","revokeOtherSessions":true}"#,
        Ends::Ada,
    ),
    ("POST", "/set-password", "{}", Ends::Ada),
    ("POST", "/update-user", r#"{"name":"x"}"#, Ends::Ada),
    ("POST", "/update-session", "{}", Ends::Mine),
    (
        "POST",
        "/change-email",
        r#"{"newEmail":"x@y.z"}"#,
        Ends::Ada,
    ),
    ("GET", "/verify-email?token=abc", "", Ends::Ada),
    ("POST", "/delete-user", "{}", Ends::Ada),
    ("GET", "/delete-user/callback?token=abc", "", Ends::Ada),
    ("POST", "/delete-anonymous-user", "", Ends::Ada),
    ("POST", "/two-factor/enable", "{}", Ends::Ada),
    ("POST", "/two-factor/disable", "{}", Ends::Ada),
    ("POST", "/two-factor/verify-totp", "{}", Ends::Ada),
    ("POST", "/two-factor/verify-otp", "{}", Ends::Ada),
    ("POST", "/two-factor/verify-backup-code", "{}", Ends::Ada),
    (
        "POST",
        "/multi-session/revoke",
        r#"{"sessionToken":"other"}"#,
        Ends::Other,
    ),
    (
        "POST",
        "/multi-session/set-active",
        r#"{"sessionToken":"other"}"#,
        Ends::Mine,
    ),
    ("POST", "/organization/set-active", "{}", Ends::Mine),
    ("POST", "/organization/set-active-team", "{}", Ends::Mine),
    ("POST", "/organization/create", "{}", Ends::Mine),
    ("POST", "/organization/delete", "{}", Ends::Mine),
    ("POST", "/organization/leave", "{}", Ends::Mine),
    ("POST", "/organization/remove-member", "{}", Ends::Mine),
    ("POST", "/organization/accept-invitation", "{}", Ends::Mine),
    ("POST", "/admin/ban-user", r#"{"userId":"bob"}"#, Ends::Bob),
    (
        "POST",
        "/admin/unban-user",
        r#"{"userId":"bob"}"#,
        Ends::Bob,
    ),
    (
        "POST",
        "/admin/set-role",
        r#"{"userId":"bob","role":"admin"}"#,
        Ends::Bob,
    ),
    (
        "POST",
        "/admin/set-user-password",
        r#"{"newPassword":"x","userId":"bob"}"#,
        Ends::Bob,
    ),
    (
        "POST",
        "/admin/update-user",
        r#"{"userId":"bob","data":{"banned":true}}"#,
        Ends::Bob,
    ),
    (
        "POST",
        "/admin/remove-user",
        r#"{"userId":"bob"}"#,
        Ends::Bob,
    ),
    (
        "POST",
        "/admin/revoke-user-sessions",
        r#"{"userId":"bob"}"#,
        Ends::Bob,
    ),
    (
        "POST",
        "/admin/revoke-user-session",
        r#"{"sessionToken":"other"}"#,
        Ends::Other,
    ),
    (
        "POST",
        "/admin/impersonate-user",
        r#"{"userId":"bob"}"#,
        Ends::Mine,
    ),
    ("POST", "/admin/stop-impersonating", "", Ends::Mine),
    // The same by other spellings and framings.
    ("POST", "/sign-out/", "", Ends::Mine),
    ("POST", "/sign%2Dout", "", Ends::Mine),
    (
        "POST",
        "/admin/ban%2Duser",
        r#"{ "x": [1], "userId" : "\u0062ob" }"#,
        Ends::Bob,
    ),
];

/// An app whose auth endpoints answer with a status that the test chooses.
fn auth_app() -> (App, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let chosen = Arc::clone(&status);
    let app = App::scripted(move |seen, stream| {
        let status = if seen.line.contains("/api/auth/") {
            chosen.load(Ordering::SeqCst)
        } else {
            200
        };
        reply(
            stream,
            status,
            &[("content-type", "application/json")],
            b"{}",
        );
    });
    (app, status)
}

#[test]
fn a_revocation_seen_passing_ends_what_is_remembered_before_its_answer_arrives() {
    let (_app, status) = auth_app();
    let gateway = Gateway::in_front_of(&_app);
    for (token, user) in [("mine", "ada"), ("same", "ada"), ("other", "bob")] {
        gateway.store.put(record(token, user));
    }
    let known = |token: &str| {
        let before = gateway.store.asked();
        assert_eq!(ask(&gateway, token), 200);
        gateway.store.asked() == before
    };
    for (method, endpoint, body, ends) in ENDPOINTS {
        for (answered, counts) in [(200, true), (302, true), (401, false), (500, true)] {
            for token in ["mine", "same", "other"] {
                ask(&gateway, token);
                assert!(known(token));
            }
            status.store(answered, Ordering::SeqCst);
            let path = format!("/api/auth{endpoint}");
            let headers = [
                ("cookie", cookie("mine")),
                ("content-type", "application/json".to_owned()),
            ];
            let headers: Vec<(&str, &str)> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            assert_eq!(
                gateway
                    .send(method, &path, &headers, body.as_bytes())
                    .status,
                answered
            );
            let case = format!("{endpoint} {body} answered {answered}");
            // Forgetting the caller's own session besides costs one lookup; what must be forgotten must.
            if !counts {
                assert!(known("mine") && known("same") && known("other"), "{case}");
                continue;
            }
            match ends {
                Ends::Mine => assert!(!known("mine"), "{case}"),
                Ends::Ada => assert!(!known("same"), "{case}"),
                Ends::Other | Ends::Bob => assert!(!known("other"), "{case}"),
            }
            if *endpoint == "/revoke-session" || *ends == Ends::Mine || *ends == Ends::Ada {
                assert!(known("other"), "{case}: somebody else's session went");
            }
        }
    }
}

#[test]
fn a_revocation_nobody_can_read_ends_more_rather_than_less() {
    let (app, _) = auth_app();
    let gateway = Gateway::in_front_of(&app);
    for (token, user) in [("mine", "ada"), ("other", "bob")] {
        gateway.store.put(record(token, user));
    }
    let long = format!(r#"{{"reason":"{}","userId":"bob"}}"#, "x".repeat(20_000));
    for (endpoint, body) in [
        ("/admin/ban-user", "userId=bob"),
        ("/admin/ban-user", ""),
        ("/admin/ban-user", r#"{"userId":null}"#),
        ("/admin/ban-user", long.as_str()),
        ("/admin/ban-user", r#"{"userId":"bob""#),
    ] {
        ask(&gateway, "other");
        let before = gateway.store.asked();
        gateway.send(
            "POST",
            &format!("/api/auth{endpoint}"),
            &[("cookie", &cookie("mine"))],
            body.as_bytes(),
        );
        ask(&gateway, "other");
        assert!(
            gateway.store.asked() > before,
            "{endpoint} {}",
            &body[..body.len().min(40)]
        );
    }
    // In pieces, so that no single one holds the id.
    ask(&gateway, "other");
    let before = gateway.store.asked();
    let head = format!(
        "POST /api/auth/admin/ban-user HTTP/1.1\r\nhost: app.test\r\ncookie: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        cookie("mine")
    );
    let pieces: String =
        r#"{"userId":"bob"}"#.chars().map(|letter| format!("1\r\n{letter}\r\n")).collect();
    assert_eq!(gateway.raw(format!("{head}{pieces}0\r\n\r\n")).status, 200);
    ask(&gateway, "other");
    assert_eq!(gateway.store.asked(), before + 1);
}

#[test]
fn a_lookup_under_way_does_not_bring_a_revoked_session_back() {
    let (_app, gateway) = gateway();
    gateway.store.put(record("t", "ada"));
    gateway.store.hold();
    let mut waiting = begin(&gateway, "/dashboard", "t");
    gateway.store.await_asked(1);
    // The store has read its row. Now the session ends, and the sign-out passes by.
    gateway.store.remove("t");
    assert_eq!(
        gateway
            .send(
                "POST",
                "/api/auth/sign-out",
                &[("cookie", &cookie("t"))],
                b""
            )
            .status,
        200
    );
    gateway.store.release();
    assert_eq!(
        read_answer(&mut waiting).status,
        401,
        "what the lookup brought is from before"
    );
    assert_eq!(ask(&gateway, "t"), 401);

    // The same by user, with the session of somebody else untouched.
    gateway.store.put(record("t2", "bob"));
    gateway.store.hold();
    let mut waiting = begin(&gateway, "/dashboard", "t2");
    gateway.store.await_asked(3);
    gateway.store.remove("t2");
    gateway
        .running
        .gateway
        .gate
        .sessions
        .cache()
        .forget_user("bob");
    gateway.store.release();
    assert_eq!(read_answer(&mut waiting).status, 401);
}

/// A device that holds several sessions signs out of all of them at once.
#[test]
fn a_sign_out_that_clears_several_session_cookies_ends_every_one_of_them() {
    let app = App::scripted(|seen, stream| match seen.line.contains("/sign-out") {
        true => reply(
            stream,
            200,
            &[
                (
                    "set-cookie",
                    "better-auth.session_token=; Max-Age=0; Path=/",
                ),
                (
                    "set-cookie",
                    "better-auth.session_token_multi-same=; Max-Age=0; Path=/",
                ),
            ],
            b"{}",
        ),
        false => reply(stream, 200, &[], b""),
    });
    let gateway = Gateway::in_front_of(&app);
    gateway.store.put(record("mine", "ada"));
    gateway.store.put(record("same", "bob"));
    assert_eq!((ask(&gateway, "mine"), ask(&gateway, "same")), (200, 200));
    let both = format!(
        "{}; {}",
        cookie("mine"),
        cookie("same").replace("session_token=", "session_token_multi-same=")
    );
    assert_eq!(
        gateway
            .send("POST", "/api/auth/sign-out", &[("cookie", &both)], b"")
            .status,
        200
    );
    gateway.store.remove("mine");
    gateway.store.remove("same");
    assert_eq!((ask(&gateway, "mine"), ask(&gateway, "same")), (401, 401));
}

#[test]
fn a_session_cookie_set_or_removed_on_any_path_is_noticed() {
    let app = App::scripted(|seen, stream| {
        let set = match seen.line.split(' ').nth(1).unwrap_or_default() {
            "/public/issue" => format!("{}; Path=/", cookie("new")),
            "/public/remove" => "better-auth.session_token=; Max-Age=0; Path=/".to_owned(),
            _ => "theme=dark".to_owned(),
        };
        reply(stream, 200, &[("set-cookie", &set)], b"");
    });
    let gateway = Gateway::in_front_of(&app);
    // Known to be missing; then it passes by; from then on the store is asked every time, and
    // again and again before it is believed.
    assert_eq!(
        (
            ask(&gateway, "new"),
            ask(&gateway, "new"),
            gateway.store.asked()
        ),
        (401, 401, 1)
    );
    assert_eq!(gateway.get("/public/issue", &[]).status, 200);
    assert_eq!(
        (
            ask(&gateway, "new"),
            ask(&gateway, "new"),
            gateway.store.asked()
        ),
        (401, 401, 11)
    );
    gateway.store.put(record("new", "ada"));
    assert_eq!(
        (
            ask(&gateway, "new"),
            ask(&gateway, "new"),
            gateway.store.asked()
        ),
        (200, 200, 12)
    );
    // Removed: forgotten at once.
    assert_eq!(
        gateway
            .get("/public/remove", &[("cookie", &cookie("new"))])
            .status,
        200
    );
    gateway.store.remove("new");
    assert_eq!(ask(&gateway, "new"), 401);
    // Replaced by another: forgotten as well.
    gateway.store.put(record("old", "ada"));
    assert_eq!(ask(&gateway, "old"), 200);
    assert_eq!(
        gateway
            .get("/public/issue", &[("cookie", &cookie("old"))])
            .status,
        200
    );
    gateway.store.remove("old");
    assert_eq!(ask(&gateway, "old"), 401);
}

#[test]
fn the_admin_listener_forgets_with_the_token_and_not_without() {
    let (_app, gateway) = gateway();
    let evict = |authorization: &str, body: &str| {
        let bytes = format!(
            "POST /sessions/evict HTTP/1.1\r\nhost: 127.0.0.1\r\n{authorization}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        crate::support::exchange(gateway.admin, bytes.as_bytes()).status
    };
    let known = |token: &str| {
        let before = gateway.store.asked();
        assert_eq!(ask(&gateway, token), 200);
        gateway.store.asked() == before
    };
    gateway.store.put(record("t", "ada"));
    let good = "authorization: Bearer admin token of the tests\r\n";
    for body in [
        r#"{"token":"t"}"#,
        r#"{"user_id":"ada"}"#,
        r#"{"all":true}"#,
    ] {
        known("t");
        for bad in [
            "",
            "authorization: Bearer wrong\r\n",
            "authorization: Basic x\r\n",
            "authorization: Bearer \r\n",
        ] {
            assert_eq!(evict(bad, body), 401);
        }
        assert!(known("t"), "{body}");
        assert_eq!(evict(good, body), 204);
        assert!(!known("t"), "{body}");
    }
    for nonsense in [
        "",
        "{}",
        r#"{"token":"t","all":true}"#,
        r#"{"tokens":"t"}"#,
        r#"{"all":false}"#,
    ] {
        assert_eq!(evict(good, nonsense), 400, "{nonsense}");
    }
    assert!(known("t"));
}

// ----------------------------------------------------------------------------------------------------------------- outages

#[test]
fn while_the_store_is_down_the_known_go_on_and_the_unknown_wait() {
    let (app, gateway) = gateway();
    gateway.store.put(record("known", "ada"));
    gateway.store.put(record("unknown", "bob"));
    assert_eq!(ask(&gateway, "known"), 200);
    gateway.store.fail(true);
    assert_eq!(
        (ask(&gateway, "known"), ask(&gateway, "unknown")),
        (200, 503)
    );
    let refused = gateway.document("/dashboard", &[("cookie", &cookie("unknown"))]);
    assert_eq!(
        (
            refused.status,
            refused.header("retry-after").is_some(),
            refused.all("set-cookie").len()
        ),
        (503, true, 0)
    );
    let before = app.count();
    for path in [
        "/",
        "/public/x",
        "/optional/x",
        "/sign-in",
        "/api/auth/get-session",
    ] {
        assert_eq!(
            gateway.get(path, &[("cookie", &cookie("unknown"))]).status,
            200,
            "{path}"
        );
        assert_eq!(
            app.last().header("cookie"),
            Some(cookie("unknown").as_str())
        );
    }
    assert_eq!(app.count(), before + 5);
    assert_eq!(
        gateway.get("/dashboard", &[]).status,
        401,
        "a stranger is a stranger"
    );
    assert_eq!(
        gateway
            .get("/strict/x", &[("cookie", &cookie("known"))])
            .status,
        503
    );
    assert_eq!(
        ask(&gateway, "known"),
        200,
        "what strict could not find out takes nothing away"
    );
    gateway.clock.advance(Duration::from_secs(30));
    assert_eq!(ask(&gateway, "known"), 503, "no longer than configured");
    // Recovery is unaided, and an outage was never remembered as an answer.
    gateway.store.fail(false);
    assert_eq!(
        (ask(&gateway, "known"), ask(&gateway, "unknown")),
        (200, 200)
    );
}

#[test]
fn everybody_who_waited_for_a_lookup_that_failed_is_told_so_and_the_next_one_tries_again() {
    let (_app, gateway) = gateway();
    gateway.store.put(record("t", "ada"));
    gateway.store.hold();
    gateway.store.fail(true);
    let mut waiting: Vec<TcpStream> = (0..10)
        .map(|_| begin(&gateway, "/dashboard", "t"))
        .collect();
    await_until("all to wait", || waiting_for_lookups(&gateway) == 10);
    gateway.store.release();
    assert!(
        waiting
            .iter_mut()
            .all(|stream| read_answer(stream).status == 503)
    );
    assert_eq!(gateway.store.asked(), 1);
    gateway.store.fail(false);
    assert_eq!(ask(&gateway, "t"), 200);
}

// -------------------------------------------------------------------------------------------------------------------- bans

#[test]
fn bans_are_enforced_only_where_asked_for() {
    for enforced in [false, true] {
        let app = App::start();
        let mut setup = Setup::in_front_of(app.address);
        setup.sessions.enforce_bans = enforced;
        let gateway = setup.start();
        let mut banned = record("banned", "eve");
        banned.banned = true;
        gateway.store.put(banned.clone());
        let mut until = banned.clone();
        until.token = vestibule::secret::Secret::new("until");
        until.ban_expires = Some(UnixMs(NOW.0 + 5000));
        gateway.store.put(until);
        let refused = if enforced { 401 } else { 200 };
        for _ in 0..2 {
            assert_eq!(
                (ask(&gateway, "banned"), ask(&gateway, "until")),
                (refused, refused)
            );
        }
        let document = gateway.document("/dashboard", &[("cookie", &cookie("banned"))]);
        assert_eq!(
            document.all("set-cookie").len(),
            0,
            "the session lives, its user is banned"
        );
        gateway.clock.advance(Duration::from_millis(5001));
        assert_eq!(
            (ask(&gateway, "banned"), ask(&gateway, "until")),
            (refused, 200)
        );
    }
}

// --------------------------------------------------------------------------------------------------------------- identity

#[test]
fn the_assertion_is_signed_once_and_verifies_with_the_published_key() {
    let (app, gateway) = gateway();
    let mut ada = record("t", "ada");
    ada.organization_id = Some("org".into());
    ada.organization_role = Some("owner,member".into());
    ada.team_id = Some("team".into());
    ada.impersonated_by = Some("root".into());
    ada.expires_at = UnixMs(NOW.0 + 45_000);
    gateway.store.put(ada);
    gateway.store.put(record("t2", "bob"));
    let signed = |token: &str| {
        assert_eq!(ask(&gateway, token), 200);
        app.last()
            .header("x-auth-assertion")
            .expect("an assertion")
            .to_owned()
    };
    let first = signed("t");
    assert_eq!(first, signed("t"));
    assert_ne!(first, signed("t2"));
    gateway.clock.advance(Duration::from_millis(29_999));
    assert_eq!(first, signed("t"));
    gateway.clock.advance(Duration::from_millis(1));
    let second = signed("t");
    assert_ne!(first, second);

    let answer = gateway.get("/.well-known/vestibule/jwks.json", &[]);
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/json"))
    );
    let keys: JwkSet = serde_json::from_slice(&answer.body).expect("a key set");
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&["http://app.test"]);
    validation.set_audience(&["http://app.test"]);
    // The clock of the test stands; its instants are compared below.
    validation.validate_exp = false;
    let verify = |token: &str| {
        let kid = jsonwebtoken::decode_header(token)
            .expect("a header")
            .kid
            .expect("a key id");
        let key =
            DecodingKey::from_jwk(keys.find(&kid).expect("the key is published")).expect("a key");
        jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation)
            .map(|token| token.claims)
    };
    let claims = verify(&first).expect("it verifies");
    let now = NOW.0 / 1000;
    for (name, value) in [
        ("sub", serde_json::json!("ada")),
        ("sid", serde_json::json!("session-t")),
        ("iat", serde_json::json!(now)),
        ("exp", serde_json::json!(now + 45)),
        ("method", serde_json::json!("session")),
        ("email", serde_json::json!("ada@example.com")),
        ("role", serde_json::json!("user")),
        ("org", serde_json::json!("org")),
        ("org_role", serde_json::json!("owner,member")),
        ("team", serde_json::json!("team")),
        ("act", serde_json::json!({ "sub": "root" })),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    assert_eq!(
        verify(&second).expect("it verifies")["iat"],
        serde_json::json!(now + 30)
    );
    let claims = verify(&signed("t2")).expect("it verifies");
    for absent in ["org", "org_role", "team", "act"] {
        assert!(claims.get(absent).is_none(), "{absent}");
    }
    assert_eq!(
        claims["exp"]
            .as_i64()
            .zip(claims["iat"].as_i64())
            .map(|(exp, iat)| exp - iat),
        Some(60)
    );
    // Twins: anything else does not.
    let mut letters = first.clone().into_bytes();
    let at = first.rfind('.').expect("a signature") + 5;
    letters[at] = if letters[at] == b'A' { b'B' } else { b'A' };
    assert!(verify(&String::from_utf8(letters).expect("letters")).is_err());
}

#[test]
fn somebody_with_an_endless_name_gets_in_all_the_same() {
    let (app, gateway) = gateway();
    let mut long = record("t", "ada");
    long.name = Some("n".repeat(5000).into());
    gateway.store.put(long);
    assert_eq!(ask(&gateway, "t"), 200);
    let seen = app.last();
    assert!(seen.header("x-auth-assertion").is_some());
    assert_eq!(seen.header("x-auth-user-id"), Some("ada"));
}

#[test]
fn facts_outside_visible_ascii_arrive_encoded_and_empty_ones_not_at_all() {
    let (app, gateway) = gateway();
    let mut odd = record("t", "user/1");
    odd.name = Some("Zoë %41 \r\nx-auth-role: admin\0".into());
    odd.email = Some("zo\u{eb}@example.com".into());
    odd.role = Some("user,café ".into());
    odd.organization_id = Some("".into());
    gateway.store.put(odd);
    assert_eq!(ask(&gateway, "t"), 200);
    let seen = app.last();
    assert_eq!(seen.all("x-auth-user-id"), ["user/1"]);
    assert_eq!(
        seen.all("x-auth-user-name"),
        ["Zo%C3%AB%20%2541%20%0D%0Ax-auth-role:%20admin%00"]
    );
    assert_eq!(seen.all("x-auth-user-email"), ["zo%C3%AB@example.com"]);
    assert_eq!(seen.all("x-auth-role"), ["user,caf%C3%A9%20"]);
    assert!(seen.all("x-auth-org-id").is_empty());
    assert_eq!(seen.all("x-auth-method"), ["session"]);
    assert_eq!(seen.all("x-auth-session-id"), ["session-t"]);
}

/// The first address refuses; what the second one sees is stamped once.
#[test]
fn a_request_tried_again_at_another_address_says_everything_once() {
    let app = App::start();
    for _ in 0..4 {
        let mut setup = Setup::in_front_of(app.address);
        let dead = UpstreamAddress {
            host: "127.0.0.1".into(),
            port: free_port(),
            tls: false,
        };
        setup.server.upstreams[0].addresses.insert(0, dead);
        // Nobody finds out beforehand which of the two is dead.
        setup.server.upstreams[0].health_interval = Duration::from_secs(3600);
        let gateway = setup.start();
        gateway.store.put(record("t", "ada"));
        for _ in 0..4 {
            let headers = [
                ("cookie", cookie("t")),
                ("x-auth-user-id", "root".into()),
                ("x_auth_role", "admin".into()),
                ("traceparent", "junk".into()),
            ];
            let headers: Vec<(&str, &str)> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            assert_eq!(
                gateway.send("POST", "/dashboard", &headers, b"body").status,
                200
            );
            let seen = app.last();
            for (name, value) in [
                ("x-auth-user-id", "ada"),
                ("x-auth-role", "user"),
                ("x-forwarded-for", "127.0.0.1"),
                ("x-forwarded-host", "app.test"),
            ] {
                assert_eq!(seen.all(name), [value]);
            }
            for name in ["x-auth-assertion", "x-request-id", "traceparent", "cookie"] {
                assert_eq!(seen.all(name).len(), 1, "{name}");
            }
            assert!(seen.headers.iter().all(|(name, _)| name != "x_auth_role"));
            assert_eq!(seen.body, b"body");
        }
    }
}

/// Many sessions, many clients, revocations in between: nobody is ever told to be somebody else, and the dead stay dead.
#[test]
fn under_load_everybody_stays_who_they_are() {
    const CLIENTS: usize = 6;
    let app = App::scripted(|seen, stream| {
        let user = seen.header("x-auth-user-id").unwrap_or("nobody").to_owned();
        reply(stream, 200, &[], user.as_bytes());
    });
    let gateway = Gateway::in_front_of(&app);
    for client in 0..CLIENTS {
        gateway
            .store
            .put(record(&format!("t{client}"), &format!("user-{client}")));
    }
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let gateway = &gateway;
            scope.spawn(move || {
                let (token, user) = (format!("t{client}"), format!("user-{client}"));
                let mut stream = connect(gateway.address);
                let mut ask =
                    || -> Answer { exchange_on(&mut stream, &request("/dashboard", &token)) };
                for round in 0..30 {
                    let answer = ask();
                    assert_eq!((answer.status, answer.text()), (200, user.clone()));
                    if round % 10 == client {
                        gateway.store.remove(&token);
                        let out = gateway.send(
                            "POST",
                            "/api/auth/sign-out",
                            &[("cookie", &cookie(&token))],
                            b"",
                        );
                        assert_eq!(out.status, 200);
                        assert_eq!(ask().status, 401, "{user} signed out");
                        gateway.store.put(record(&token, &user));
                        gateway
                            .running
                            .gateway
                            .gate
                            .sessions
                            .cache()
                            .forget_user(&user);
                        gateway
                            .clock
                            .set(gateway.clock.now().plus(Duration::from_secs(6)));
                    }
                }
            });
        }
    });
}
