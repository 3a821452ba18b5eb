//! Sessions found by asking the app's own `get-session`: what it is sent, what is believed of its answers, and whom its cookies
//! reach. The app here is a script that answers as Better Auth does; `tests/sliding.rs` has a real one.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use vestibule::credential::names;
use vestibule::secret::Secret;
use vestibule::store;

use crate::support::databases::settings;
use crate::support::{App, Gateway, PATIENCE, SECRET, Seen, Setup, await_until, cookie, reply};

/// What `get-session` answers.
#[derive(Clone)]
pub enum Says {
    /// This session, with these cookies.
    Session(Value, Vec<String>),
    /// Nobody.
    Null,
    /// Another status, with a body.
    Status(u16, &'static str),
    /// Nothing, and holds the line.
    Hangs,
    /// These bytes.
    Raw(Vec<u8>),
}

/// The session `token` of `user` as Better Auth would tell it.
pub fn session(token: &str, user: &str) -> Value {
    json!({
        "session": {
            "id": format!("session-{token}"), "token": token, "userId": user, "expiresAt": "2036-01-02T03:04:05.678Z",
            "createdAt": "2026-11-01T00:00:00.000Z", "updatedAt": "2026-11-01T00:00:00.000Z", "ipAddress": "", "userAgent": null,
        },
        "user": {
            "id": user, "name": user, "email": format!("{user}@example.com"), "emailVerified": true, "image": null,
            "createdAt": "2026-11-01T00:00:00.000Z", "updatedAt": "2026-11-01T00:00:00.000Z", "role": "user,admin",
        },
    })
}

/// An app whose `get-session` says what it is told to say, and whose other pages say nothing of interest.
pub struct Scripted {
    pub app: App,
    says: Arc<Mutex<Says>>,
    held: Arc<AtomicBool>,
}

impl Scripted {
    pub fn new(says: Says) -> Self {
        let says = Arc::new(Mutex::new(says));
        let held = Arc::new(AtomicBool::new(false));
        let (told, hold) = (Arc::clone(&says), Arc::clone(&held));
        let app = App::scripted(move |seen, stream| {
            if !seen.line.contains("/get-session") {
                return reply(stream, 200, &[("content-type", "text/plain")], b"app");
            }
            await_until("the answer to be let go", || !hold.load(Ordering::SeqCst));
            let says = told.lock().unwrap().clone();
            // As the framework: without a session cookie there is no session.
            let says = match seen.header("cookie") {
                None if matches!(says, Says::Session(..)) => Says::Null,
                _ => says,
            };
            answer(&says, stream);
        });
        Self { app, says, held }
    }

    pub fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// The lookups so far, without the one that is made at the start.
    pub fn lookups(&self) -> Vec<Seen> {
        let mut seen = self.app.seen();
        seen.retain(|seen| seen.line.contains("/get-session") && seen.header("cookie").is_some());
        seen
    }

    /// The settings of a source that asks it.
    pub fn settings(&self) -> store::Settings {
        asking(&format!("http://{}/api/auth", self.app.address))
    }

    /// A gateway in front of it that looks sessions up by asking it.
    pub fn gateway(&self, change: impl FnOnce(&mut Setup)) -> (Gateway, tokio::runtime::Runtime) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let source = runtime.block_on(store::open(&self.settings())).unwrap();
        let mut setup = Setup::in_front_of(self.app.address);
        change(&mut setup);
        (setup.start_from(source), runtime)
    }
}

/// Settings of a source at this base URL, for the app of the tests.
pub fn asking(url: &str) -> store::Settings {
    store::Settings {
        app: store::App {
            cookies: names::Settings {
                base_url: Some("http://app.test".into()),
                ..names::Settings::default()
            },
            secret: Secret::new(SECRET),
            public_url: "http://app.test".into(),
            own_host: false,
        },
        ..settings(url)
    }
}

fn answer(says: &Says, stream: &mut TcpStream) {
    let json = ("content-type", "application/json");
    match says {
        Says::Session(body, cookies) => {
            let mut headers = vec![json];
            headers.extend(cookies.iter().map(|line| ("set-cookie", line.as_str())));
            reply(stream, 200, &headers, body.to_string().as_bytes());
        }
        Says::Null => reply(stream, 200, &[json], b"null"),
        Says::Status(status, body) => reply(
            stream,
            *status,
            &[json, ("location", "http://127.0.0.1:1/")],
            body.as_bytes(),
        ),
        Says::Hangs => {
            let mut one = [0];
            let _ = std::io::Read::read(stream, &mut one);
        }
        Says::Raw(bytes) => {
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn plain(_: &mut Setup) {}

#[test]
fn the_app_is_asked_once_and_then_remembered() {
    let app = Scripted::new(Says::Session(session("tok", "ada"), Vec::new()));
    let (gateway, _runtime) = app.gateway(plain);
    for _ in 0..3 {
        assert_eq!(
            gateway
                .get("/dashboard", &[("cookie", &cookie("tok"))])
                .status,
            200
        );
    }
    assert_eq!(app.lookups().len(), 1);
    let seen = app.app.last();
    assert_eq!(seen.header("x-auth-user-id"), Some("ada"));
    assert_eq!(seen.header("x-auth-user-email"), Some("ada@example.com"));
    // A role of the document counts.
    assert_eq!(
        gateway
            .get("/admin/x", &[("cookie", &cookie("tok"))])
            .status,
        200
    );
    // Nobody is asked about a forged cookie.
    let forged = cookie("tok").replace("tok.", "tok2.");
    assert_eq!(
        gateway.get("/dashboard", &[("cookie", &forged)]).status,
        401
    );
    assert_eq!(app.lookups().len(), 1);
}

#[test]
fn the_app_sees_what_the_browser_sent_and_who_it_was() {
    let app = Scripted::new(Says::Session(session("tok", "ada"), Vec::new()));
    let (gateway, _runtime) = app.gateway(|setup| {
        setup.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let marker = cookie("true").replace("session_token", "dont_remember");
    let cookies = format!(
        "theme=dark; {}; {marker}; better-auth.session_data=stale",
        cookie("tok")
    );
    let answer = gateway.get(
        "/dashboard",
        &[
            ("cookie", &cookies),
            ("x-forwarded-for", "203.0.113.7"),
            ("authorization", "Basic something"),
        ],
    );
    assert_eq!(answer.status, 200);
    let lookups = app.lookups();
    let asked = lookups.first().unwrap();
    assert!(
        asked
            .line
            .starts_with("GET /api/auth/get-session?disableCookieCache=true HTTP"),
        "{}",
        asked.line
    );
    // The session and the marker that keeps it short; nothing else of the browser's.
    assert_eq!(
        asked.header("cookie"),
        Some(format!("{}; {marker}", cookie("tok")).as_str())
    );
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(asked.all("x-forwarded-for"), ["203.0.113.7"]);
    assert_eq!(asked.header("x-forwarded-proto"), Some("http"));
    assert_eq!(asked.header("x-forwarded-host"), Some("app.test"));
    assert_eq!(asked.header("host"), Some("app.test"));
}

#[test]
fn by_the_token_alone_nothing_is_extended() {
    let app = Scripted::new(Says::Session(session("tok", "ada"), Vec::new()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let source = runtime.block_on(store::open(&app.settings())).unwrap();
    let record = runtime.block_on(source.find("tok")).unwrap().unwrap();
    assert_eq!(&*record.user_id, "ada");
    let asked = app.lookups().pop().unwrap();
    assert!(asked.line.contains("disableRefresh=true"), "{}", asked.line);
    assert_eq!(asked.header("x-forwarded-for"), None);
}

#[test]
fn the_cookies_of_its_answer_reach_that_browser_once_and_nobody_else() {
    let renewed = format!("{}; Max-Age=604800; Path=/; HttpOnly", cookie("tok"));
    let data = "better-auth.session_data=abc; Max-Age=300; Path=/";
    let chunk = "better-auth.session_data.1=def; Max-Age=300; Path=/";
    let lines = [
        renewed.as_str(),
        data,
        chunk,
        "AWSALB=sticky; Path=/",
        "better-auth.session_data.x=1; Path=/",
    ];
    let app = Scripted::new(Says::Session(
        session("tok", "ada"),
        lines.map(str::to_owned).to_vec(),
    ));
    let (gateway, _runtime) = app.gateway(plain);
    let first = gateway.get("/dashboard", &[("cookie", &cookie("tok"))]);
    assert_eq!(first.all("set-cookie"), [renewed.as_str(), data, chunk]);
    assert_eq!(first.header("cache-control"), Some("private, no-store"));
    // From memory: the browser has them already.
    let second = gateway.get("/dashboard", &[("cookie", &cookie("tok"))]);
    assert_eq!(second.all("set-cookie"), [""; 0]);
    // Somebody else's session is looked up for itself.
    app.say(Says::Session(session("other", "bob"), Vec::new()));
    let other = gateway.get("/dashboard", &[("cookie", &cookie("other"))]);
    assert_eq!((other.status, other.all("set-cookie").len()), (200, 0));
}

#[test]
fn what_the_app_would_set_for_a_bearer_token_no_browser_gets() {
    // Asked without the browser's cookies, the app cannot know that the session was to end with the browser.
    let renewed = format!("{}; Max-Age=604800; Path=/; HttpOnly", cookie("tok"));
    let app = Scripted::new(Says::Session(session("tok", "ada"), vec![renewed]));
    let (gateway, _runtime) = app.gateway(|setup| {
        setup.authenticator.enabled.insert("bearer".into());
    });
    let program = gateway.get("/dashboard", &[("authorization", "Bearer tok")]);
    assert_eq!((program.status, program.all("set-cookie").len()), (200, 0));
    app.say(Says::Session(session("tok", "ada"), Vec::new()));
    let browser = gateway.get("/dashboard", &[("cookie", &cookie("tok"))]);
    assert_eq!((browser.status, browser.all("set-cookie").len()), (200, 0));
}

#[test]
fn a_cookie_of_another_session_is_never_handed_over() {
    let foreign = format!("{}; Path=/", cookie("mallory"));
    let several = format!(
        "{}; Path=/",
        cookie("mallory").replace("session_token", "session_token_multi-mallory")
    );
    let app = Scripted::new(Says::Session(session("tok", "ada"), vec![foreign, several]));
    let (gateway, _runtime) = app.gateway(plain);
    let answer = gateway.get("/dashboard", &[("cookie", &cookie("tok"))]);
    assert_eq!((answer.status, answer.all("set-cookie").len()), (200, 0));
}

#[test]
fn an_answer_about_another_session_lets_nobody_in() {
    let app = Scripted::new(Says::Session(session("other", "admin"), Vec::new()));
    let (gateway, _runtime) = app.gateway(plain);
    let answer = gateway.get("/dashboard", &[("cookie", &cookie("tok"))]);
    assert_eq!(answer.status, 503);
    // A cache in between that mixes two users up.
    let mut mixed = session("tok", "ada");
    mixed["user"]["id"] = json!("admin");
    app.say(Says::Session(mixed, Vec::new()));
    assert_eq!(
        gateway
            .get("/dashboard", &[("cookie", &cookie("tok"))])
            .status,
        503
    );
    app.say(Says::Session(session("tok", "ada"), Vec::new()));
    assert_eq!(
        gateway
            .get("/dashboard", &[("cookie", &cookie("tok"))])
            .status,
        200
    );
}

#[test]
fn null_is_nobody_and_everything_else_is_no_answer() {
    let app = Scripted::new(Says::Null);
    let (gateway, _runtime) = app.gateway(|setup| {
        setup.sessions.negative_ttl = Duration::ZERO;
    });
    let ask = |path: &str| gateway.document(path, &[("cookie", &cookie("tok"))]);
    let nobody = ask("/dashboard");
    assert_eq!(nobody.status, 302);
    // The app has said so itself and now, so the dead cookie goes.
    assert!(
        nobody
            .header("set-cookie")
            .is_some_and(|line| line.contains("Max-Age=0"))
    );

    let huge = format!("{{\"session\":\"{}\"}}", "x".repeat(300 * 1024));
    let huge = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{huge}",
        huge.len()
    );
    let endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ses".to_vec();
    for says in [
        Says::Status(429, "{}"),
        Says::Status(500, "{\"code\":\"FAILED_TO_GET_SESSION\"}"),
        Says::Status(503, "null"),
        Says::Status(302, "null"),
        Says::Status(401, "null"),
        Says::Status(404, "null"),
        Says::Status(204, ""),
        Says::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>".to_vec()),
        Says::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfalse".to_vec()),
        Says::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()),
        Says::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\nnull".to_vec()),
        Says::Raw(b"nonsense\r\n\r\n".to_vec()),
        Says::Raw(Vec::new()),
        Says::Raw(endless),
        Says::Raw(huge.into_bytes()),
    ] {
        app.say(says);
        let answer = ask("/dashboard");
        // Not even a public page's cookie is touched by an outage.
        assert_eq!((answer.status, answer.all("set-cookie").len()), (503, 0));
        let optional = ask("/optional/page");
        assert_eq!(
            (optional.status, optional.all("set-cookie").len()),
            (200, 0)
        );
    }
    app.say(Says::Session(session("tok", "ada"), Vec::new()));
    assert_eq!(ask("/dashboard").status, 200, "and it recovers");
}

#[test]
fn a_custom_answer_counts_as_far_as_it_can() {
    let mut custom = session("tok", "ada");
    custom["session"].as_object_mut().unwrap().remove("token");
    custom["permissions"] = json!(["write"]);
    let app = Scripted::new(Says::Session(custom.clone(), Vec::new()));
    let (gateway, _runtime) = app.gateway(plain);
    assert_eq!(
        gateway
            .get("/dashboard", &[("cookie", &cookie("tok"))])
            .status,
        200
    );
    // Without an end nobody knows how long it counts: that is no reason to sign anybody out.
    custom["session"]
        .as_object_mut()
        .unwrap()
        .remove("expiresAt");
    app.say(Says::Session(custom, Vec::new()));
    let answer = gateway.document("/strict/page", &[("cookie", &cookie("tok"))]);
    assert_eq!((answer.status, answer.all("set-cookie").len()), (503, 0));
}

#[test]
fn an_app_that_hangs_is_given_up_on_in_time() {
    let app = Scripted::new(Says::Hangs);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let settings = store::Settings {
        timeout: Duration::from_millis(200),
        ..app.settings()
    };
    // It is only warned about at the start: it may come up behind us.
    app.say(Says::Null);
    let source = runtime.block_on(store::open(&settings)).unwrap();
    app.say(Says::Hangs);
    let began = std::time::Instant::now();
    let error = runtime.block_on(source.find("tok")).unwrap_err();
    assert_eq!(error.as_str(), "timeout");
    assert!(began.elapsed() < PATIENCE / 4);
}

#[test]
fn an_app_that_is_not_up_yet_is_warned_about_and_then_found() {
    let port = crate::support::free_port();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let settings = asking(&format!("http://127.0.0.1:{port}/api/auth"));
    let opened = runtime.block_on(store::inspect(&settings)).unwrap();
    assert!(
        opened
            .detected
            .warnings
            .iter()
            .any(|warning| warning.contains("does not answer yet"))
    );
    let error = runtime.block_on(opened.source.find("tok")).unwrap_err();
    assert_eq!(error.as_str(), "unreachable");
    assert!(runtime.block_on(opened.source.ping()).is_err());
}

#[test]
fn an_address_that_is_no_better_auth_is_refused_at_the_start() {
    let pages = App::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = format!("http://{}/api/auth", pages.address);
    let Err(error) = runtime.block_on(store::open(&asking(&url))) else {
        panic!("a page is no session");
    };
    assert!(error.to_string().contains("base path"), "{error}");
    // Nothing there at all.
    let nothing = App::scripted(|_, stream| reply(stream, 404, &[], b""));
    let url = format!("http://{}/wrong", nothing.address);
    assert!(runtime.block_on(store::open(&asking(&url))).is_err());
}

#[test]
fn a_hundred_cold_requests_ask_once_and_the_renewed_cookie_comes_back() {
    let renewed = format!("{}; Max-Age=604800; Path=/", cookie("tok"));
    let app = Scripted::new(Says::Session(session("tok", "ada"), vec![renewed.clone()]));
    let (gateway, _runtime) = app.gateway(plain);
    app.hold(true);
    let sessions = &gateway.running.gateway.gate.sessions;
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| gateway.get("/dashboard", &[("cookie", &cookie("tok"))])))
            .collect();
        await_until("everybody to wait", || sessions.waiting() == 100);
        app.hold(false);
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(app.lookups().len(), 1);
    let given = answers.iter().flat_map(|answer| answer.all("set-cookie"));
    assert_eq!(
        given.collect::<Vec<_>>(),
        [renewed.as_str()],
        "to one of them"
    );
}

#[test]
fn a_sign_out_ends_what_was_asked_for() {
    let app = Scripted::new(Says::Session(session("tok", "ada"), Vec::new()));
    let (gateway, _runtime) = app.gateway(plain);
    let ask = || {
        gateway
            .get("/dashboard", &[("cookie", &cookie("tok"))])
            .status
    };
    assert_eq!(ask(), 200);
    app.say(Says::Null);
    assert_eq!(ask(), 200, "remembered");
    gateway.send(
        "POST",
        "/api/auth/sign-out",
        &[("cookie", &cookie("tok"))],
        b"",
    );
    assert_eq!(ask(), 401);
}
