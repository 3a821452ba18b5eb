//! Server Actions: Next.js runs one wherever it is posted to, so what its pages need holds everywhere. Every refusal has a twin that passes.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use vestibule::app::next::source_of;
use vestibule::app::{Action, App as Build, AppRoute, Kind};

use crate::support::tls::{Certificate, H2};
use crate::support::wire::Wire;
use crate::support::{App, Gateway, Setup, await_until, connect, cookie, exchange_on, record};

/// Owned by `/`, which is public.
const OPEN: &str = "400f89a320cc5fb8ea8c6a2c86d1a79c96f11d8504";
/// Owned by `/dashboard`, which needs a session.
const SHUT: &str = "4069b4c6540d9ca920f206d21443290b66939f39a8";
/// Owned by `/admin`, which needs a role.
const ADMINS: &str = "60bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
/// Owned by both `/` and `/dashboard`.
const SHARED: &str = "60cccccccccccccccccccccccccccccccccccccccc";
/// Of a build that nobody knows.
const STALE: &str = "40aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// What is held before it is looked into; longer bodies are looked into on their way.
const HELD_BYTES: usize = 60 * 1024;

const FORM: &str = "multipart/form-data; boundary=b";

fn build() -> Build {
    let routes = [
        ("/", Kind::Page),
        ("/dashboard", Kind::Page),
        ("/admin", Kind::Page),
        ("/public/upload", Kind::Handler),
        ("/public/page", Kind::Page),
    ];
    let action = |id: &str, pages: &[&str]| Action {
        id: id.into(),
        pages: pages.iter().map(|page| (*page).into()).collect(),
    };
    Build {
        routes: routes
            .map(|(page, kind)| AppRoute {
                page: page.into(),
                source: source_of(page),
                kind,
            })
            .into(),
        actions: vec![
            action(OPEN, &["/"]),
            action(SHUT, &["/dashboard"]),
            action(ADMINS, &["/admin"]),
            action(SHARED, &["/", "/dashboard"]),
        ],
        ..Build::default()
    }
}

fn setup(app: std::net::SocketAddr) -> Setup {
    let mut setup = Setup::in_front_of(app);
    setup.build = Some(build());
    setup.server.limits.body_bytes = 64 * 1024 * 1024;
    setup
}

fn gateway(app: &App) -> Gateway {
    let gateway = setup(app.address).start();
    gateway.store.put(record("ada", "user-ada"));
    gateway
}

/// A form with an ordinary field and one that names an action, `filler` bytes long in between.
fn form(id: &str, filler: usize) -> Vec<u8> {
    let mut body = b"--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n".to_vec();
    body.resize(body.len() + filler, b'x');
    body.extend_from_slice(
        format!("\r\n--b\r\nContent-Disposition: form-data; name=\"$ACTION_ID_{id}\"\r\n\r\n\r\n--b--\r\n")
            .as_bytes(),
    );
    body
}

/// A form as long as asked for.
fn form_of(id: &str, bytes: usize) -> Vec<u8> {
    form(id, bytes - form(id, 0).len())
}

/// As a browser without script posts a form.
const BY_BROWSER: [(&str, &str); 4] = [
    ("accept", "text/html"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("content-type", FORM),
];

fn with<'h>(
    headers: &[(&'h str, &'h str)],
    more: &[(&'h str, &'h str)],
) -> Vec<(&'h str, &'h str)> {
    [headers, more].concat()
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|part| part == text.as_bytes())
}

// -------------------------------------------------------------------------------------------------------- by header

#[test]
fn an_action_of_a_protected_page_does_not_run_from_anywhere_without_a_session() {
    let app = App::start();
    let gateway = gateway(&app);
    for target in [
        "/",
        "/?reauth=1",
        "/public/page",
        "/public/upload",
        "/public/nothing",
        "/sign-in",
        "/optional/x",
        "/api/auth/get-session",
        "/_next/static/x.js",
        "/favicon.ico",
        "/_next/data/b/index.json",
        "/dashboard",
        "/nothing/at/all",
    ] {
        for kind in [
            "text/plain;charset=UTF-8",
            FORM,
            "application/x-www-form-urlencoded",
        ] {
            for rsc in [&[][..], &[("rsc", "1")]] {
                let mut headers = with(&[("next-action", SHUT), ("content-type", kind)], rsc);
                let answer = gateway.send("POST", target, &headers, b"[]");
                assert_eq!(answer.status, 401, "{target} {kind}");
                let location = answer
                    .header("x-action-redirect")
                    .expect("where to sign in");
                // Nobody is sent back to the sign-in page, or to what is no page.
                assert!(location.starts_with("/sign-in"), "{location}");
                assert!(location.ends_with(";push"), "{location}");
                assert_eq!(
                    answer.header("content-type"),
                    Some("text/plain; charset=utf-8")
                );
                assert_eq!(answer.header("cache-control"), Some("private, no-store"));
                let cookie = cookie("ada");
                headers.push(("cookie", &cookie));
                let answer = gateway.send("POST", target, &headers, b"[]");
                assert_eq!(answer.status, 200, "{target} {kind}");
                assert_eq!(
                    app.last().header("x-auth-user-id"),
                    Some("user-ada"),
                    "{target}"
                );
                assert_eq!(app.last().body, b"[]");
            }
        }
    }
    let ran = app.seen();
    assert!(ran.iter().all(|seen| seen.header("cookie").is_some()));
}

#[test]
fn an_action_of_a_public_page_runs_without_a_session() {
    let app = App::start();
    let gateway = gateway(&app);
    for target in ["/", "/public/page"] {
        let headers = [("next-action", OPEN), ("content-type", "text/plain")];
        assert_eq!(gateway.send("POST", target, &headers, b"[]").status, 200);
        assert_eq!(app.last().header("x-auth-user-id"), None);
    }
}

#[test]
fn an_action_of_a_page_for_a_role_is_refused_to_others() {
    let app = App::start();
    let gateway = gateway(&app);
    let cookie = cookie("ada");
    let headers = [("next-action", ADMINS), ("cookie", &cookie)];
    assert_eq!(gateway.send("POST", "/", &headers, b"[]").status, 403);
    assert_eq!(app.count(), 0);
    let mut admin = record("ada", "user-ada");
    admin.role = Some("admin".into());
    let gateway = setup(app.address).start();
    gateway.store.put(admin);
    assert_eq!(gateway.send("POST", "/", &headers, b"[]").status, 200);
}

#[test]
fn an_action_that_a_public_and_a_protected_page_share_needs_the_session() {
    let app = App::start();
    let gateway = gateway(&app);
    let post = |id, cookie: &str| {
        let headers = [("next-action", id), ("cookie", cookie)];
        gateway.send("POST", "/", &headers, b"[]").status
    };
    assert_eq!(post(SHARED, ""), 401);
    assert_eq!(post(SHARED, &cookie("ada")), 200);
}

#[test]
fn an_action_that_a_form_hides_needs_what_any_action_may_need() {
    let app = App::start();
    let gateway = gateway(&app);
    let mut chief = record("chief", "user-chief");
    chief.role = Some("admin".into());
    gateway.store.put(chief);
    // The parser of Node undoes base64 of a part, and the one of older versions takes backslashes out of names.
    let row = STANDARD.encode(format!("{{\"id\":\"{ADMINS}\",\"bound\":null}}"));
    let encoded = format!(
        "--b\r\nContent-Disposition: form-data; name=\"$ACTION_REF_1\"\r\n\r\n\r\n\
         --b\r\nContent-Disposition: form-data; name=\"$ACTION_1:0\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{row}\r\n--b--\r\n"
    );
    let (start, end) = ADMINS.split_at(9);
    let escaped = |first: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"$ACTION_ID_{first}\"\r\n\r\n\r\n\
             --b\r\nContent-Disposition: form-data; name=\"$ACTION_ID_{start}\\{end}\"\r\n\r\n\r\n--b--\r\n"
        )
    };
    for body in [encoded, escaped(SHUT), escaped("x")] {
        let post = |who: &str| {
            let cookie = cookie(who);
            let headers = with(&BY_BROWSER, &[("cookie", &cookie)]);
            gateway.send("POST", "/", &headers, body.as_bytes()).status
        };
        assert_eq!(post("ada"), 403, "{body}");
        assert_eq!(post("chief"), 200, "{body}");
    }
    // A name that is plain, and an upload that brings no action, say what they say.
    let cookie = cookie("ada");
    let headers = with(&BY_BROWSER, &[("cookie", &cookie)]);
    let plain = form(SHUT, 0);
    assert_eq!(gateway.send("POST", "/", &headers, &plain).status, 200);
}

#[test]
fn an_app_that_is_named_twice_is_the_same_app() {
    let app = App::start();
    let mut setup = setup(app.address);
    let mut slow = setup.server.upstreams[0].clone();
    slow.name = "slow".into();
    setup.server.upstreams.push(slow);
    setup.routes.same_app = vec![1];
    for route in &mut setup.routes.routes {
        if route.sources[0].source == "/public/:path*" {
            route.upstream = 1;
        }
    }
    let gateway = setup.start();
    gateway.store.put(record("ada", "user-ada"));
    let post = |id, cookie: &str| {
        let headers = [("next-action", id), ("cookie", cookie)];
        let called = gateway.send("POST", "/public/page", &headers, b"[]").status;
        let headers = with(&[("content-type", FORM)], &[("cookie", cookie)]);
        let form = form(id, 0);
        let posted = gateway.send("POST", "/public/page", &headers, &form).status;
        (called, posted)
    };
    assert_eq!(post(SHUT, ""), (401, 401));
    assert_eq!(post(SHUT, &cookie("ada")), (200, 200));
    assert_eq!(post(OPEN, ""), (200, 200));
    assert_eq!(gateway.get("/public/nothing", &[]).status, 401);
}

#[test]
fn an_id_that_is_unknown_or_odd_needs_what_everything_else_does() {
    let app = App::start();
    let gateway = gateway(&app);
    let joined = format!("{OPEN}, {SHUT}");
    let upper = OPEN.to_uppercase();
    for ids in [
        &[STALE][..],
        &[""],
        &["x"],
        &["toString"],
        &[&OPEN[1..]],
        &[&upper],
        &[&joined],
        &[OPEN, OPEN],
        &[OPEN, SHUT],
        &[SHUT, OPEN],
    ] {
        let headers: Vec<_> = ids.iter().map(|id| ("next-action", *id)).collect();
        assert_eq!(
            gateway.send("POST", "/", &headers, b"[]").status,
            401,
            "{ids:?}"
        );
        assert_eq!(app.count(), 0, "{ids:?}");
    }
    // However the name of the header is written, and with blanks that every server takes off.
    for name in ["Next-Action", "NEXT-ACTION"] {
        let shut = format!("  {SHUT}\t");
        assert_eq!(
            gateway.send("POST", "/", &[(name, &shut)], b"[]").status,
            401
        );
        let open = format!("  {OPEN}\t");
        assert_eq!(
            gateway.send("POST", "/", &[(name, &open)], b"[]").status,
            200
        );
    }
}

#[test]
fn a_request_that_runs_no_action_is_not_asked_for_a_session() {
    let app = App::start();
    let gateway = gateway(&app);
    for method in ["GET", "HEAD"] {
        let answer = gateway.raw(format!(
            "{method} / HTTP/1.1\r\nhost: app.test\r\nnext-action: {SHUT}\r\n\r\n"
        ));
        assert_eq!(answer.status, 200, "{method}");
    }
}

#[test]
fn without_a_build_an_action_needs_what_its_path_does() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let headers = [("next-action", SHUT)];
    assert_eq!(gateway.send("POST", "/", &headers, b"[]").status, 200);
    assert_eq!(
        gateway.send("POST", "/dashboard", &headers, b"[]").status,
        401
    );
}

#[test]
fn an_outage_of_the_store_closes_actions_that_need_it_and_no_others() {
    let app = App::start();
    let gateway = gateway(&app);
    gateway.store.fail(true);
    let cookie = cookie("ada");
    let post = |id| {
        gateway.send(
            "POST",
            "/",
            &[("next-action", id), ("cookie", &cookie)],
            b"[]",
        )
    };
    assert_eq!(post(SHUT).status, 503);
    assert_eq!(post(OPEN).status, 200);
    let browser = with(&BY_BROWSER, &[("cookie", &cookie)]);
    assert_eq!(
        gateway.send("POST", "/", &browser, &form(SHUT, 0)).status,
        503
    );
    assert_eq!(
        gateway.send("POST", "/", &browser, &form(OPEN, 0)).status,
        200
    );
    assert_eq!(app.count(), 2);
}

// ------------------------------------------------------------------------------------------------------ by a form

#[test]
fn a_form_that_names_an_action_of_a_protected_page_is_sent_to_sign_in() {
    let app = App::start();
    let gateway = gateway(&app);
    for body in [
        form(SHUT, 0),
        form(STALE, 0),
        form(SHARED, 0),
        form_of(SHUT, HELD_BYTES),
    ] {
        let answer = gateway.send("POST", "/", &BY_BROWSER, &body);
        assert_eq!(answer.status, 303);
        let location = answer.header("location").expect("where to sign in");
        assert!(location.starts_with("/sign-in?callbackURL="), "{location}");
        // What a program posts is told.
        let answer = gateway.send("POST", "/", &[("content-type", FORM)], &body);
        assert_eq!(answer.status, 401);
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn a_form_that_names_an_action_of_a_public_page_passes_byte_for_byte() {
    let app = App::start();
    let gateway = gateway(&app);
    for bytes in [1000, HELD_BYTES - 1, HELD_BYTES, HELD_BYTES + 1, 200_000] {
        let body = form_of(OPEN, bytes);
        assert_eq!(
            gateway.send("POST", "/", &BY_BROWSER, &body).status,
            200,
            "{bytes}"
        );
        assert!(app.last().body == body, "{bytes}");
    }
}

#[test]
fn a_form_without_an_action_passes_whatever_it_holds() {
    let app = App::start();
    let gateway = gateway(&app);
    let body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\n{SHUT} {STALE} $ACTION %24 \\u0024\r\n--b--\r\n"
    );
    assert_eq!(
        gateway
            .send("POST", "/", &BY_BROWSER, body.as_bytes())
            .status,
        200
    );
    assert_eq!(app.last().body, body.as_bytes());
    assert_eq!(gateway.send("POST", "/", &BY_BROWSER, b"").status, 200);
}

#[test]
fn the_app_is_told_who_posts_a_form_that_names_an_action_of_a_protected_page() {
    let app = App::start();
    let gateway = gateway(&app);
    let cookie = cookie("ada");
    let headers = with(&BY_BROWSER, &[("cookie", &cookie)]);
    let answer = gateway.send("POST", "/", &headers, &form(SHUT, 0));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    assert_eq!(app.last().header("x-auth-user-id"), Some("user-ada"));
    // The form of a public page is nobody's business.
    gateway.send("POST", "/", &headers, &form(OPEN, 0));
    assert_eq!(app.last().header("x-auth-user-id"), None);
}

#[test]
fn a_refused_form_leaves_the_connection_in_order() {
    let app = App::start();
    let gateway = gateway(&app);
    let mut stream = connect(gateway.address);
    let post = |id: &str| {
        let body = form(id, 500);
        let mut bytes = format!(
            "POST / HTTP/1.1\r\nhost: app.test\r\ncontent-type: {FORM}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend(body);
        bytes
    };
    assert_eq!(exchange_on(&mut stream, &post(SHUT)).status, 401);
    assert_eq!(exchange_on(&mut stream, &post(OPEN)).status, 200);
    assert_eq!(exchange_on(&mut stream, &post(SHUT)).status, 401);
    assert_eq!(app.count(), 1);
}

#[test]
fn a_client_that_waits_to_be_asked_for_its_form_is_asked() {
    let app = App::start();
    let gateway = gateway(&app);
    for (id, status) in [(OPEN, 200), (SHUT, 401)] {
        let mut client = Wire::to(gateway.address);
        let body = form(id, 0);
        client.write(format!(
            "POST / HTTP/1.1\r\nhost: app.test\r\ncontent-type: {FORM}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        ));
        assert!(client.read_head().starts_with("HTTP/1.1 100 "), "{id}");
        client.write(&body);
        let head = client.read_head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    assert_eq!(app.count(), 1);
    assert_eq!(app.last().header("expect"), None);
}

/// Posts a form in chunks of some size; the status of the answer.
fn post_in_chunks(gateway: &Gateway, body: &[u8], size: usize) -> u16 {
    let mut client = Wire::to(gateway.address);
    client.write(format!(
        "POST / HTTP/1.1\r\nhost: app.test\r\ncontent-type: {FORM}\r\ntransfer-encoding: chunked\r\n\r\n"
    ));
    for piece in body.chunks(size) {
        let mut bytes = format!("{:x}\r\n", piece.len()).into_bytes();
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
        // The gateway may have refused by now.
        if !client.try_write(bytes) {
            break;
        }
    }
    client.try_write("0\r\n\r\n");
    let head = client.try_read_head().expect("an answer");
    head.split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status")
}

#[test]
fn no_action_reaches_the_app_whole_before_it_was_judged_however_it_is_cut() {
    let app = App::start();
    let gateway = gateway(&app);
    for size in [1, 5, 41, 64, 300, 10_000] {
        let before = app.count();
        assert_eq!(
            post_in_chunks(&gateway, &form(SHUT, 20), size),
            401,
            "in chunks of {size}"
        );
        await_until("the app has heard the end of it", || app.count() > before);
        let got = app.last().body;
        assert!(!got.ends_with(b"--b--\r\n"), "in chunks of {size}");
        assert!(!contains(&got, &format!("{SHUT}\"")), "in chunks of {size}");
        let open = form(OPEN, 20);
        assert_eq!(
            post_in_chunks(&gateway, &open, size),
            200,
            "in chunks of {size}"
        );
        assert_eq!(app.last().body, open, "in chunks of {size}");
    }
}

#[test]
fn a_long_form_is_cut_off_before_its_action_is_whole() {
    let app = App::start();
    let gateway = gateway(&app);
    for bytes in [HELD_BYTES + 1, 200_000] {
        let answer = gateway.send("POST", "/", &BY_BROWSER, &form_of(SHUT, bytes));
        assert_eq!(answer.status, 303, "{bytes}");
        assert!(
            answer
                .header("location")
                .expect("a place")
                .starts_with("/sign-in?")
        );
    }
    await_until("the app has heard the end of both", || app.count() == 2);
    for seen in app.seen() {
        assert!(!contains(&seen.body, &format!("{SHUT}\"")));
        assert!(!seen.body.ends_with(b"--b--\r\n"));
    }
    let cookie = cookie("ada");
    let headers = with(&BY_BROWSER, &[("cookie", &cookie)]);
    let body = form_of(SHUT, 200_000);
    assert_eq!(gateway.send("POST", "/", &headers, &body).status, 200);
    assert!(app.last().body == body);
}

#[test]
fn an_upload_of_ten_megabytes_passes_to_a_handler_untouched_and_to_a_page_without_an_action() {
    const BYTES: usize = 10 * 1024 * 1024;
    let app = App::start();
    let gateway = gateway(&app);
    // A handler runs no action, whatever is in its uploads.
    let body = form_of(SHUT, BYTES);
    let answer = gateway.send("POST", "/public/upload", &[("content-type", FORM)], &body);
    assert_eq!(answer.status, 200);
    assert!(app.last().body == body);
    let mut plain = form_of(OPEN, BYTES);
    for target in ["/", "/public/page"] {
        let answer = gateway.send("POST", target, &[("content-type", FORM)], &plain);
        assert_eq!(answer.status, 200, "{target}");
        assert!(app.last().body == plain, "{target}");
        plain.retain(|byte| *byte != b'$');
    }
    assert_eq!(app.count(), 3);
}

// ---------------------------------------------------------------------------------------- by the arguments of a call

#[test]
fn a_call_of_an_open_action_does_not_bring_a_shut_one_along() {
    let app = App::start();
    let gateway = gateway(&app);
    let escaped: String = SHUT.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let utf16: Vec<u8> = format!("[{{\"id\":\"{SHUT}\"}}]")
        .bytes()
        .flat_map(|b| [b, 0])
        .collect();
    let row = |id: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"1\"\r\n\r\n{{\"id\":\"{id}\",\"bound\":null}}\r\n--b--\r\n").into_bytes()
    };
    let long = |id: &str| [vec![b' '; 100_000], row(id)].concat();
    for (body, status) in [
        (row(SHUT), 401),
        (row(&escaped), 401),
        (utf16, 401),
        (row(STALE), 401),
        (row(OPEN), 200),
        (b"[\"a note\"]".to_vec(), 200),
        (long(SHUT), 401),
        (long(OPEN), 200),
    ] {
        for kind in [FORM, "text/plain;charset=UTF-8", ""] {
            let headers = [("next-action", OPEN), ("content-type", kind)];
            let answer = gateway.send("POST", "/", &headers, &body);
            assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&body));
            if status == 401 {
                assert!(answer.header("x-action-redirect").is_some());
            }
        }
    }
    let ran = app.seen();
    let whole = ran
        .iter()
        .filter(|seen| contains(&seen.body, &format!("{SHUT}\"")));
    assert_eq!(whole.count(), 0);
}

// -------------------------------------------------------------------------------------------------- other transports

#[test]
fn a_form_over_http2_is_looked_into_the_same() {
    let app = App::start();
    let certificate = Certificate::self_signed();
    let mut setup = setup(app.address);
    setup.server.tls = Some(certificate.files.clone());
    let gateway = setup.start();
    let h2 = H2::to(gateway.address, &certificate);
    for (id, status) in [(SHUT, 401), (OPEN, 200)] {
        for filler in [0, 100_000] {
            let answer = h2
                .send("POST", "/", &[("content-type", FORM)], &form(id, filler))
                .expect("an answer");
            assert_eq!(answer.status(), status, "{id} {filler}");
        }
    }
}

#[test]
fn a_new_build_counts_for_the_next_request() {
    let app = App::start();
    let setup = setup(app.address);
    let gateway = setup.assemble(
        Arc::new(crate::support::Store::default()),
        Arc::new(vestibule::time::ManualClock::at(crate::support::NOW)),
    );
    let routes = gateway.gate.routes.clone();
    let running = vestibule::server::run::start(gateway).expect("two free ports");
    let post = |id: &str| {
        let bytes = format!(
            "POST / HTTP/1.1\r\nhost: app.test\r\nnext-action: {id}\r\ncontent-length: 2\r\n\r\n[]"
        );
        crate::support::exchange(setup.server.listen[0], bytes.as_bytes()).status
    };
    assert_eq!((post(STALE), post(OPEN)), (401, 200));
    let mut build = build();
    build.actions[0].id = STALE.into();
    routes.know(Some(Arc::new(build)));
    assert_eq!((post(STALE), post(OPEN)), (200, 401));
    running.stop();
}
