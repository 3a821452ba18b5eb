//! What comes back: every rule, every outcome of a lookup and every kind of request, and the small print of the answers.

use std::sync::Arc;
use std::time::Duration;

use vestibule::credential::names::{self, Attributes};
use vestibule::policy::{Conditions, Need};
use vestibule::server::run;
use vestibule::session::Record;
use vestibule::time::{ManualClock, UnixMs};

use crate::support::{
    Answer, App, Gateway, NOW, Setup, Store, cookie, record, reply, route, rule, signed_in,
};

// ---------------------------------------------------------------------------------------------------------------- the table

/// What a rule says about somebody whose session is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Live {
    Anonymous,
    Passes,
    Home,
    Refused,
    TooOld,
}

/// A rule of the table: its name is the first segment of the path it guards.
struct Row {
    name: &'static str,
    need: Need,
    live: Live,
}

fn conditions(change: impl FnOnce(&mut Conditions)) -> Need {
    let mut conditions = Conditions::default();
    change(&mut conditions);
    Need::SignedIn(conditions)
}

/// Every rule, those with conditions once met and once not. The session asked about is that of [`somebody`].
fn rows() -> Vec<Row> {
    let row = |name, need, live| Row { name, need, live };
    let role = |role: &str| conditions(|c| c.role = vec!["other".into(), role.into()]);
    let organization = |role: &str| conditions(|c| c.organization_role = vec![role.into()]);
    let step_up = |seconds| conditions(|c| c.step_up = Some(Duration::from_secs(seconds)));
    vec![
        row("public", Need::Public, Live::Anonymous),
        row("optional", Need::Optional, Live::Passes),
        row("guest", Need::Guest, Live::Home),
        row(
            "signed-in",
            Need::SignedIn(Conditions::default()),
            Live::Passes,
        ),
        row("role", role("user"), Live::Passes),
        row("role-not", role("admin"), Live::Refused),
        row("member", organization("owner"), Live::Passes),
        row("member-not", organization("auditor"), Live::Refused),
        row(
            "verified",
            conditions(|c| c.email_verified = true),
            Live::Passes,
        ),
        row(
            "kind",
            conditions(|c| c.credentials = vec!["session".into()]),
            Live::Passes,
        ),
        row(
            "kind-not",
            conditions(|c| c.credentials = vec!["api_key".into()]),
            Live::Refused,
        ),
        row("fresh", step_up(60), Live::Passes),
        row("fresh-not", step_up(59), Live::TooOld),
        row("deny", Need::Deny, Live::Refused),
    ]
}

fn somebody(token: &str) -> Record {
    let mut somebody = record(token, "ada");
    somebody.email_verified = true;
    somebody.organization_id = Some("org".into());
    somebody.organization_role = Some("member,owner".into());
    somebody
}

/// What a request presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presented {
    Nothing,
    Live,
    Forged,
    Malformed,
    Unknown,
    Expired,
    StoreDown,
}

const PRESENTED: [Presented; 7] = [
    Presented::Nothing,
    Presented::Live,
    Presented::Forged,
    Presented::Malformed,
    Presented::Unknown,
    Presented::Expired,
    Presented::StoreDown,
];

/// How a refusal has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Document,
    Post,
    Program,
    Action,
    Preflight,
}

/// Every kind of request: name, method, what stands before and after the path, headers, and the form its refusals take.
type Kind = (
    &'static str,
    &'static str,
    (&'static str, &'static str),
    &'static [(&'static str, &'static str)],
    Form,
);

const KINDS: &[Kind] = &[
    (
        "document",
        "GET",
        ("", ""),
        &[
            ("accept", "text/html,*/*"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ],
        Form::Document,
    ),
    (
        "old browser",
        "GET",
        ("", ""),
        &[("accept", "text/html")],
        Form::Document,
    ),
    (
        "HEAD",
        "HEAD",
        ("", ""),
        &[("accept", "text/html"), ("sec-fetch-dest", "document")],
        Form::Document,
    ),
    (
        "form",
        "POST",
        ("", ""),
        &[
            ("accept", "text/html"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("content-type", "application/x-www-form-urlencoded"),
        ],
        Form::Post,
    ),
    (
        "action without script",
        "POST",
        ("", ""),
        &[
            ("accept", "text/html"),
            ("sec-fetch-dest", "document"),
            ("content-type", "multipart/form-data; boundary=b"),
        ],
        Form::Post,
    ),
    (
        "RSC",
        "GET",
        ("", "?_rsc=abc"),
        &[
            ("rsc", "1"),
            ("accept", "*/*"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "empty"),
        ],
        Form::Program,
    ),
    (
        "prefetch",
        "GET",
        ("", "?_rsc=abc"),
        &[
            ("rsc", "1"),
            ("next-router-prefetch", "1"),
            ("next-router-segment-prefetch", "/_tree"),
        ],
        Form::Program,
    ),
    (
        "browser prefetch",
        "GET",
        ("", ""),
        &[
            ("accept", "text/html"),
            ("sec-purpose", "prefetch"),
            ("sec-fetch-dest", "document"),
        ],
        Form::Program,
    ),
    (
        "data",
        "GET",
        ("/_next/data/B", ".json"),
        &[("x-nextjs-data", "1"), ("accept", "text/html")],
        Form::Program,
    ),
    (
        "image",
        "GET",
        ("", ""),
        &[
            ("accept", "image/avif,*/*"),
            ("sec-fetch-dest", "image"),
            ("sec-fetch-mode", "no-cors"),
        ],
        Form::Program,
    ),
    (
        "font",
        "GET",
        ("", ""),
        &[("sec-fetch-dest", "font"), ("accept", "text/html")],
        Form::Program,
    ),
    (
        "fetch",
        "GET",
        ("", ""),
        &[
            ("accept", "*/*"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "empty"),
        ],
        Form::Program,
    ),
    (
        "fetch that accepts HTML",
        "GET",
        ("", ""),
        &[("accept", "text/html"), ("sec-fetch-mode", "cors")],
        Form::Program,
    ),
    (
        "XHR",
        "GET",
        ("", ""),
        &[
            ("accept", "text/html"),
            ("x-requested-with", "XMLHttpRequest"),
        ],
        Form::Program,
    ),
    (
        "JSON post",
        "POST",
        ("", ""),
        &[
            ("accept", "application/json"),
            ("content-type", "application/json"),
        ],
        Form::Program,
    ),
    (
        "DELETE",
        "DELETE",
        ("", ""),
        &[("accept", "text/html")],
        Form::Program,
    ),
    (
        "events",
        "GET",
        ("", ""),
        &[("accept", "text/event-stream"), ("sec-fetch-dest", "empty")],
        Form::Program,
    ),
    (
        "WebSocket",
        "GET",
        ("", ""),
        &[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("accept", "text/html"),
            ("sec-fetch-mode", "websocket"),
        ],
        Form::Program,
    ),
    ("curl", "GET", ("", ""), &[("accept", "*/*")], Form::Program),
    ("nothing said", "GET", ("", ""), &[], Form::Program),
    (
        "server action",
        "POST",
        ("", ""),
        &[
            ("next-action", "40aa"),
            ("accept", "text/x-component"),
            ("content-type", "text/plain;charset=UTF-8"),
        ],
        Form::Action,
    ),
    (
        "preflight",
        "OPTIONS",
        ("", ""),
        &[
            ("origin", "https://other.test"),
            ("access-control-request-method", "POST"),
        ],
        Form::Preflight,
    ),
];

/// What must happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pass { stamped: bool },
    Home,
    SignIn { again: bool },
    Forbidden,
    Unavailable,
}

/// The table of rules, as the documentation has it.
fn expected(row: &Row, presented: Presented, form: Form) -> Outcome {
    use Outcome::{Forbidden, Home, Pass, SignIn, Unavailable};

    const ANONYMOUS: Outcome = Pass { stamped: false };
    match (row.name, presented) {
        ("deny", _) => Forbidden,
        _ if form == Form::Preflight => ANONYMOUS,
        ("public", _) => ANONYMOUS,
        (_, Presented::Live) => match row.live {
            Live::Anonymous => ANONYMOUS,
            Live::Passes => Pass { stamped: true },
            Live::Home if form == Form::Document => Home,
            Live::Home => Pass { stamped: true },
            Live::Refused => Forbidden,
            Live::TooOld => SignIn { again: true },
        },
        ("optional" | "guest", _) => ANONYMOUS,
        (_, Presented::StoreDown) => Unavailable,
        (
            _,
            Presented::Nothing
            | Presented::Forged
            | Presented::Malformed
            | Presented::Unknown
            | Presented::Expired,
        ) => SignIn { again: false },
    }
}

fn gateway_of_all_rules() -> (App, Gateway) {
    let app = App::scripted(|_, stream| {
        let headers = [
            ("cache-control", "public, s-maxage=60"),
            ("content-type", "text/plain"),
            ("x-auth-user-id", "leak"),
        ];
        reply(stream, 200, &headers, b"");
    });
    let mut setup = Setup::in_front_of(app.address);
    setup.routes.routes = rows()
        .into_iter()
        .map(|row| route(&format!("/{}/:path*", row.name), rule(row.need)))
        .collect();
    setup
        .routes
        .routes
        .push(route("/sign-in", rule(Need::Guest)));
    (app, setup.start())
}

/// The rules by the outcomes by the kinds: about two thousand requests.
#[test]
fn every_rule_answers_every_caller_and_every_kind_of_request_as_documented() {
    let (app, gateway) = gateway_of_all_rules();
    let mut fresh = 0;
    for row in rows() {
        for presented in PRESENTED {
            // A token of its own for each case, so that nothing is remembered from another.
            gateway.store.fail(presented == Presented::StoreDown);
            for kind in KINDS {
                fresh += 1;
                let token = format!("token-{fresh}");
                let session = match presented {
                    Presented::Nothing => None,
                    Presented::Live => {
                        gateway.store.put(somebody(&token));
                        Some(cookie(&token))
                    }
                    Presented::Expired => {
                        let mut old = somebody(&token);
                        old.expires_at = UnixMs(NOW.0 - 1);
                        gateway.store.put(old);
                        Some(cookie(&token))
                    }
                    Presented::Forged => Some(cookie(&token).replace(&token, "token-0")),
                    Presented::Malformed => Some(format!("better-auth.session_token={token}")),
                    Presented::Unknown | Presented::StoreDown => Some(cookie(&token)),
                };
                check(&app, &gateway, &row, presented, kind, session.as_deref());
            }
        }
    }
}

fn check(
    app: &App,
    gateway: &Gateway,
    row: &Row,
    presented: Presented,
    kind: &Kind,
    session: Option<&str>,
) {
    let (name, method, (before, after), said, form) = *kind;
    let case = format!("{} x {presented:?} x {name}", row.name);
    let page = format!("/{}/page", row.name);
    let mut headers = said.to_vec();
    headers.extend(session.map(|session| ("cookie", session)));
    let (seen, asked) = (app.count(), gateway.store.asked());
    let answer = gateway.send(method, &format!("{before}{page}{after}"), &headers, b"");
    let outcome = expected(row, presented, form);
    let back = format!("callbackURL={}", page.replace('/', "%2F"));

    if let Outcome::Pass { stamped } = outcome {
        assert_eq!((answer.status, app.count()), (200, seen + 1), "{case}");
        let told = app.last();
        let user: &[&str] = if stamped { &["ada"] } else { &[] };
        assert_eq!(told.all("x-auth-user-id"), user, "{case}");
        assert_eq!(told.all("x-auth-assertion").len(), user.len(), "{case}");
        let open = matches!(row.name, "public" | "optional" | "guest") && !stamped;
        let cached = if open {
            "public, s-maxage=60"
        } else {
            "private, no-store"
        };
        assert_eq!(answer.all("cache-control"), [cached], "{case}");
        assert!(answer.header("set-cookie").is_none(), "{case}");
        assert!(
            answer.header("x-auth-user-id").is_none(),
            "{case}: an identity came back"
        );
    } else {
        assert_eq!(app.count(), seen, "{case}: the app saw {:?}", app.last());
        check_refusal(&answer, outcome, form, &back, &case);
        let told_dead = matches!(presented, Presented::Unknown | Presented::Expired);
        let cleared =
            told_dead && outcome == Outcome::SignIn { again: false } && form == Form::Document;
        let gone = "better-auth.session_token=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax";
        assert_eq!(
            answer.all("set-cookie"),
            if cleared { vec![gone] } else { vec![] },
            "{case}"
        );
        if method == "HEAD" {
            assert!(answer.rest.is_empty(), "{case}: a body after HEAD");
        }
    }
    let looked_up = matches!(
        presented,
        Presented::Live | Presented::Unknown | Presented::Expired | Presented::StoreDown
    ) && !matches!(row.name, "public" | "deny")
        && form != Form::Preflight;
    assert_eq!(
        gateway.store.asked() - asked,
        usize::from(looked_up),
        "{case}: lookups"
    );
}

fn check_refusal(answer: &Answer, outcome: Outcome, form: Form, back: &str, case: &str) {
    let (document, action) = (
        matches!(form, Form::Document | Form::Post),
        form == Form::Action,
    );
    let (status, location) = match outcome {
        Outcome::Home => (302, Some("/dashboard".to_owned())),
        Outcome::SignIn { again } if document => {
            let status = if form == Form::Post { 303 } else { 302 };
            let reauth = if again { "&reauth=1" } else { "" };
            (status, Some(format!("/sign-in?{back}{reauth}")))
        }
        Outcome::SignIn { .. } => (401, None),
        Outcome::Forbidden => (403, None),
        Outcome::Unavailable => (503, None),
        Outcome::Pass { .. } => unreachable!("no refusal"),
    };
    assert_eq!(answer.status, status, "{case}");
    assert_eq!(answer.header("location"), location.as_deref(), "{case}");
    assert_eq!(answer.all("cache-control"), ["private, no-store"], "{case}");
    assert_eq!(
        answer.header("retry-after").is_some(),
        status == 503,
        "{case}"
    );
    let content_type = match status {
        302 | 303 => None,
        _ if document => Some("text/html; charset=utf-8"),
        _ if action => Some("text/plain; charset=utf-8"),
        _ => Some("application/problem+json"),
    };
    assert_eq!(answer.header("content-type"), content_type, "{case}");
    let follow = match outcome {
        Outcome::SignIn { again } if action => Some(format!(
            "/sign-in?{back}{};push",
            if again { "&reauth=1" } else { "" }
        )),
        _ => None,
    };
    assert_eq!(
        answer.header("x-action-redirect"),
        follow.as_deref(),
        "{case}"
    );
    assert!(
        answer.header("www-authenticate").is_none(),
        "{case}: a browser would ask for a password"
    );
    if content_type == Some("application/problem+json") {
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let code = match outcome {
            Outcome::SignIn { again: true } => "step_up_required",
            Outcome::SignIn { again: false } => "unauthorized",
            Outcome::Forbidden => "forbidden",
            _ => "unavailable",
        };
        assert_eq!(
            (&problem["status"], &problem["code"]),
            (&status.into(), &code.into()),
            "{case}"
        );
        assert_eq!(
            problem["request_id"].as_str(),
            answer.header("x-request-id"),
            "{case}"
        );
    }
}

// ---------------------------------------------------------------------------------------------------------------- documents

/// Somebody signed in who was asked to sign in again must be able to.
#[test]
fn the_sign_in_page_does_not_bounce_those_who_must_sign_in_again() {
    let (app, gateway) = gateway_of_all_rules();
    gateway.store.put(somebody("t"));
    let session = cookie("t");
    assert_eq!(
        gateway
            .document("/sign-in", &[("cookie", &session)])
            .header("location"),
        Some("/dashboard")
    );
    assert_eq!(
        gateway
            .document("/sign-in?callbackURL=%2Fx", &[("cookie", &session)])
            .header("location"),
        Some("/dashboard")
    );
    assert_eq!(
        gateway
            .document("/sign-in?xreauth=1&reauth=10", &[("cookie", &session)])
            .status,
        302
    );
    assert_eq!(app.count(), 0);
    assert_eq!(
        gateway
            .document(
                "/sign-in?callbackURL=%2Fx&reauth=1",
                &[("cookie", &session)]
            )
            .status,
        200
    );
    // Known all the same.
    assert_eq!(app.last().all("x-auth-user-id"), ["ada"]);
    assert_eq!(gateway.document("/sign-in", &[]).status, 200);
}

#[test]
fn a_forbidden_document_gets_the_page_for_it_and_a_program_gets_a_403() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.pages.forbidden = Some("/403".into());
    setup.routes.routes.push(route("/403", rule(Need::Deny)));
    let gateway = setup.start();
    gateway.store.put(record("t", "ada"));
    let session = cookie("t");
    let sent = gateway.document("/admin/x", &[("cookie", &session)]);
    assert_eq!((sent.status, sent.header("location")), (302, Some("/403")));
    let posted = gateway.send(
        "POST",
        "/admin/x",
        &[("cookie", &session), ("accept", "text/html")],
        b"a=b",
    );
    assert_eq!(
        (posted.status, posted.header("location")),
        (303, Some("/403"))
    );
    let program = gateway.get("/admin/x", &[("cookie", &session)]);
    assert_eq!((program.status, program.header("location")), (403, None));
    // The page itself is closed: no loop.
    assert_eq!(gateway.document("/403", &[]).status, 403);
    assert_eq!(app.count(), 0);
}

/// Where a document comes back to.
#[test]
fn the_return_address_is_the_page_as_it_was_asked_for() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.routes.nextjs.base_path = "/app".into();
    setup.routes.nextjs.locales = vec!["en".into(), "fr".into()];
    setup.pages.base_path = "/app".into();
    setup.pages.sign_in = "/app/sign-in".into();
    setup.routes.sign_in_path = Some("/app/sign-in".into());
    setup.routes.routes = vec![route("/locked/:path*", signed_in())];
    let gateway = setup.start();
    let long = format!("/app/{}", "x".repeat(4000));
    for (target, back) in [
        ("/app/dashboard", Some("/app/dashboard")),
        ("/app", Some("/app")),
        ("/app/fr/reports", Some("/app/fr/reports")),
        ("/app/d?a=1&_rsc=xyz&b=2", Some("/app/d?a=1&b=2")),
        ("/app/d?_rsc=xyz", Some("/app/d")),
        ("/app/d?_rsc", Some("/app/d")),
        ("/app/d?x_rsc=1", Some("/app/d?x_rsc=1")),
        ("/app/d?", Some("/app/d")),
        ("/app/d?&&", Some("/app/d")),
        (
            "/app/caf%C3%A9/a%20b?q=%26",
            Some("/app/caf%C3%A9/a%20b?q=%26"),
        ),
        (
            "/app/d?next=//evil.example",
            Some("/app/d?next=//evil.example"),
        ),
        (long.as_str(), None),
    ] {
        let answer = gateway.document(target, &[]);
        let expected = match back {
            Some(back) => format!(
                "/app/sign-in?callbackURL={}",
                vestibule::percent::encode_component(back)
            ),
            None => "/app/sign-in".to_owned(),
        };
        assert_eq!(
            (answer.status, answer.header("location")),
            (302, Some(expected.as_str())),
            "{target}"
        );
    }
    // An action called from a page's data address comes back to the page.
    let action = |target: &str| gateway.send("POST", target, &[("next-action", "40aa")], b"");
    for (target, back) in [
        ("/app/_next/data/B/locked/7.json?id=7", "/app/locked/7?id=7"),
        ("/app/_next/data/B/index.json", "/app"),
        ("/app/_next/data/B/fr/locked.json", "/app/fr/locked"),
        ("/app/locked/7", "/app/locked/7"),
    ] {
        let answer = action(target);
        let follow = format!(
            "?callbackURL={};push",
            vestibule::percent::encode_component(back)
        );
        assert_eq!(answer.status, 401, "{target}");
        assert!(
            answer
                .header("x-action-redirect")
                .is_some_and(|said| said.ends_with(&follow)),
            "{target}: {:?}",
            answer.header("x-action-redirect")
        );
    }
    assert_eq!(app.count(), 0);
}

/// The sign-in page of a locked-down app is no place to come back to.
#[test]
fn nobody_is_sent_back_to_the_sign_in_page() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.pages.sign_in = "https://login.test/in?app=7".into();
    setup.routes.sign_in_path = None;
    setup.routes.routes = Vec::new();
    let gateway = setup.start();
    assert_eq!(
        gateway.document("/d", &[]).header("location"),
        Some("https://login.test/in?app=7&callbackURL=%2Fd"),
        "another origin, whose own parameters stay"
    );
    let mut setup = Setup::in_front_of(app.address);
    setup.routes.routes = vec![route(
        "/sign-in",
        rule(conditions(|c| c.step_up = Some(Duration::from_secs(1)))),
    )];
    let gateway = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| setup.start())) {
        Ok(gateway) => gateway,
        // A table in which nobody could sign in is refused before it serves anybody, which is as good.
        Err(_) => return,
    };
    assert_eq!(
        gateway.document("/sign-in", &[]).header("location"),
        Some("/sign-in")
    );
}

// ------------------------------------------------------------------------------------------------------------------ cookies

/// Cleared are exactly those of the session that were sent, with the attributes they were set with.
#[test]
fn a_dead_session_goes_with_all_its_cookies_and_their_own_attributes() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.cookies = names::Settings {
        prefix: Some("shop".into()),
        secure_cookies: Some(true),
        cross_subdomain: true,
        domain: Some("example.com".into()),
        default_attributes: Attributes {
            path: Some("/app".into()),
            same_site: Some("none".into()),
            partitioned: Some(true),
            ..Attributes::default()
        },
        ..names::Settings::default()
    };
    let gateway = setup.start();
    let token = cookie("gone").replace("better-auth.", "__Secure-shop.");
    let sent = format!(
        "theme=dark; {token}; __Secure-shop.session_data.0=a; __Secure-shop.session_data.1=b; __Secure-shop.session_data.x=c; \
         __Secure-shop.dont_remember=d; __Secure-shop.account_data=e; shop.session_token=f; __Secure-shop.session_token.0=g"
    );
    let answer = gateway.document("/d", &[("cookie", &sent)]);
    let attributes =
        "Max-Age=0; Domain=example.com; Path=/app; HttpOnly; Secure; SameSite=None; Partitioned";
    let expected: Vec<String> = [
        "__Secure-shop.dont_remember",
        "__Secure-shop.session_data.0",
        "__Secure-shop.session_data.1",
        "__Secure-shop.session_token",
    ]
    .iter()
    .map(|name| format!("{name}=; {attributes}"))
    .collect();
    assert_eq!(answer.all("set-cookie"), expected);
    // The second time memory says so, not the store: that is not enough.
    let again = gateway.document("/d", &[("cookie", &sent)]);
    assert_eq!((again.status, again.all("set-cookie").len()), (302, 0));
    assert_eq!(gateway.store.asked(), 1);
}

/// A replica that lags behind the sign-in must not sign anybody out again.
#[test]
fn a_session_just_issued_is_not_cleared_when_the_store_does_not_know_it_yet() {
    let issued = format!("{}; Path=/; HttpOnly", cookie("brand-new"));
    let app = App::scripted(move |_, stream| reply(stream, 200, &[("set-cookie", &issued)], b""));
    let gateway = Gateway::in_front_of(&app);
    assert_eq!(
        gateway
            .send("POST", "/api/auth/sign-in/email", &[], b"{}")
            .status,
        200
    );
    for lookups in 1..4 {
        let answer = gateway.document("/d", &[("cookie", &cookie("brand-new"))]);
        assert_eq!((answer.status, answer.all("set-cookie").len()), (302, 0));
        // Each time anew, and again and again before it is believed.
        assert_eq!(gateway.store.asked(), 5 * lookups);
    }
    gateway.store.put(record("brand-new", "ada"));
    assert_eq!(
        gateway
            .document("/d", &[("cookie", &cookie("brand-new"))])
            .status,
        200
    );
}

// --------------------------------------------------------------------------------------------------------------- what returns

/// An app that answers with the headers its `x-want` asks for, `name: value` by `|`.
fn obliging() -> App {
    App::scripted(|seen, stream| {
        let want = seen.header("x-want").unwrap_or_default().to_owned();
        let headers: Vec<(&str, &str)> = want
            .split('|')
            .filter_map(|pair| pair.split_once(": "))
            .collect();
        reply(stream, 200, &headers, b"x");
    })
}

#[test]
fn no_shared_cache_keeps_what_was_made_for_one_person() {
    let app = obliging();
    let mut setup = Setup::in_front_of(app.address);
    let mut cached = route("/cached/:path*", signed_in());
    cached.app_caches = true;
    setup.routes.routes.push(cached);
    let gateway = setup.start();
    gateway.store.put(record("t", "ada"));
    let session = cookie("t");
    let ask = |path: &str, want: &str| gateway.get(path, &[("cookie", &session), ("x-want", want)]);
    for said in [
        "",
        "cache-control: public, max-age=31536000",
        "cache-control: s-maxage=60, stale-while-revalidate",
        "cache-control: private|cache-control: s-maxage=9",
    ] {
        for path in ["/dashboard", "/optional/x"] {
            let answer = ask(path, said);
            assert_eq!(
                answer.all("cache-control"),
                ["private, no-store"],
                "{path} {said}"
            );
        }
    }
    assert_eq!(
        ask("/dashboard", "cache-control: no-cache, no-transform").all("cache-control"),
        ["private, no-store, no-transform"]
    );
    let shared = "expires: Thu, 01 Jan 2099 00:00:00 GMT|surrogate-control: max-age=9|cdn-cache-control: max-age=9|vercel-cdn-cache-control: max-age=9|age: 3|etag: \"x\"";
    let answer = ask("/dashboard", shared);
    for name in [
        "expires",
        "surrogate-control",
        "cdn-cache-control",
        "vercel-cdn-cache-control",
    ] {
        assert!(answer.header(name).is_none(), "{name}");
    }
    assert_eq!(answer.header("etag"), Some("\"x\""));
    // The twins: public pages are the app's business, and so are routes that say so.
    for path in ["/public/x", "/cached/x"] {
        let answer = ask(
            path,
            "cache-control: public, s-maxage=60|cdn-cache-control: max-age=9",
        );
        assert_eq!(
            answer.all("cache-control"),
            ["public, s-maxage=60"],
            "{path}"
        );
        assert_eq!(
            answer.header("cdn-cache-control"),
            Some("max-age=9"),
            "{path}"
        );
    }
    let anonymous = gateway.get(
        "/optional/x",
        &[("x-want", "cache-control: public, s-maxage=60")],
    );
    assert_eq!(anonymous.all("cache-control"), ["public, s-maxage=60"]);
}

#[test]
fn lines_of_set_cookie_stay_apart_and_identities_stay_inside() {
    let app = obliging();
    let gateway = Gateway::in_front_of(&app);
    gateway.store.put(record("t", "ada"));
    let want = "set-cookie: a=1; Expires=Thu, 01 Jan 2099 00:00:00 GMT|set-cookie: b=2; Path=/|set-cookie: a=3\
                |x-auth-user-id: ada|X-Auth-Assertion: ey.J.x|remote-user: ada|x-forwarded-user: ada|x-forwarded-groups: admin|x-custom: kept";
    for path in ["/dashboard", "/public/x"] {
        let answer = gateway.get(path, &[("cookie", &cookie("t")), ("x-want", want)]);
        assert_eq!(
            answer.all("set-cookie"),
            [
                "a=1; Expires=Thu, 01 Jan 2099 00:00:00 GMT",
                "b=2; Path=/",
                "a=3"
            ]
        );
        for name in [
            "x-auth-user-id",
            "x-auth-assertion",
            "remote-user",
            "x-forwarded-user",
            "x-forwarded-groups",
        ] {
            assert!(answer.header(name).is_none(), "{name} on {path}");
        }
        assert_eq!(answer.header("x-custom"), Some("kept"));
        assert_eq!(
            answer.header("x-request-id"),
            app.last().header("x-request-id")
        );
    }
}

// ---------------------------------------------------------------------------------------------------------------------- CORS

#[test]
fn only_listed_origins_may_read_answers_of_the_gateway() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.cors_origins = vec!["https://spa.test".into()];
    let gateway = setup.start();
    gateway.store.put(record("t", "ada"));
    gateway.store.put(record("t2", "ada"));
    let (session, unknown) = (cookie("t"), cookie("t2"));
    for (path, headers, status) in [
        ("/dashboard", vec![], 401),
        ("/admin/x", vec![("cookie", session.as_str())], 403),
        ("/closed/x", vec![], 403),
        ("/strict/x", vec![("cookie", unknown.as_str())], 503),
    ] {
        gateway.store.fail(status == 503);
        let ask = |origin: &str| {
            let mut all = headers.clone();
            all.push(("origin", origin));
            gateway.get(path, &all)
        };
        let listed = ask("https://spa.test");
        assert_eq!(listed.status, status, "{path}");
        assert_eq!(
            listed.all("access-control-allow-origin"),
            ["https://spa.test"]
        );
        assert_eq!(listed.all("access-control-allow-credentials"), ["true"]);
        assert_eq!(listed.all("vary"), ["Origin"]);
        for origin in [
            "https://evil.test",
            "https://spa.test.evil.test",
            "http://spa.test",
            "https://spa.test:444",
            "null",
            "*",
            "HTTPS://SPA.TEST",
        ] {
            let other = ask(origin);
            assert_eq!(other.status, status, "{path} {origin}");
            assert!(
                other.header("access-control-allow-origin").is_none(),
                "{origin}"
            );
            assert!(
                other.header("access-control-allow-credentials").is_none(),
                "{origin}"
            );
            assert_eq!(
                other.all("vary"),
                ["Origin"],
                "a cache must not mix them up"
            );
        }
    }
    gateway.store.fail(false);
    // What the app answers is the app's to open.
    let passed = gateway.get(
        "/dashboard",
        &[("cookie", &session), ("origin", "https://spa.test")],
    );
    assert_eq!(
        (passed.status, passed.header("access-control-allow-origin")),
        (200, None)
    );
    // Without a list there are no such headers at all.
    let gateway = Gateway::in_front_of(&app);
    let refused = gateway.get("/dashboard", &[("origin", "https://spa.test")]);
    assert_eq!(
        (
            refused.header("access-control-allow-origin"),
            refused.header("vary")
        ),
        (None, None)
    );
}

// ------------------------------------------------------------------------------------------------------------------- the app

#[test]
fn an_app_that_is_not_there_is_a_502_and_the_answer_has_the_form_of_the_request() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|gone| gone.local_addr())
        .expect("an address");
    let gateway = Setup::in_front_of(nobody).start();
    let document = gateway.document("/public/x", &[]);
    assert_eq!(
        (document.status, document.header("content-type")),
        (502, Some("text/html; charset=utf-8"))
    );
    let program = gateway.get("/public/x", &[]);
    assert_eq!(
        (program.status, program.header("content-type")),
        (502, Some("application/problem+json"))
    );
    let action = gateway.send("POST", "/public/x", &[("next-action", "40aa")], b"");
    assert_eq!(
        (action.status, action.header("content-type")),
        (502, Some("text/plain; charset=utf-8"))
    );
    for answer in [document, program, action] {
        assert_eq!(answer.all("cache-control"), ["private, no-store"]);
    }
}

/// A body over the limit is the client's doing, and the answer says so.
#[test]
fn a_body_over_the_limit_is_not_blamed_on_the_app() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let declared =
        gateway.raw("POST /public/x HTTP/1.1\r\nhost: app.test\r\ncontent-length: 1048577\r\n\r\n");
    assert_eq!(declared.status, 413);
    assert!(
        declared.text().contains("body_too_large"),
        "{}",
        declared.text()
    );
    let piece = format!("100001\r\n{}\r\n0\r\n\r\n", "a".repeat(0x10_0001));
    let found = gateway.raw(format!(
        "POST /public/x HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n{piece}"
    ));
    assert_eq!(found.status, 413);
    assert!(found.text().contains("body_too_large"), "{}", found.text());
    let fits = format!("100000\r\n{}\r\n0\r\n\r\n", "a".repeat(0x10_0000));
    let passed = gateway.raw(format!(
        "POST /public/x HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n{fits}"
    ));
    assert_eq!(passed.status, 200);
    // The one that was cut off may be recorded after this one.
    assert!(app.seen().iter().any(|seen| seen.body.len() == 0x10_0000));
}

/// Addresses are known before anybody is let in.
#[test]
fn the_very_first_request_after_a_start_reaches_the_app() {
    let app = App::start();
    for _ in 0..6 {
        let gateway = Gateway::in_front_of(&app);
        assert_eq!(gateway.get("/public/x", &[]).status, 200);
    }
}

/// One address for two listeners would be served by whichever gets there first.
#[test]
fn the_public_and_the_admin_listener_cannot_share_an_address() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.admin = Some(setup.server.listen[0]);
    let gateway = setup.assemble(Arc::<Store>::default(), Arc::new(ManualClock::at(NOW)));
    match run::start(gateway) {
        Err(run::StartError::Listen { key, .. }) => assert_eq!(key, "admin"),
        other => panic!("{:?}", other.err()),
    }
}
