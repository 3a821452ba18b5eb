//! What must not be seen anywhere: secrets are planted in everything the gateway is given, and looked for in everything it says.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;
use vestibule::api_key::stored_form;
use vestibule::credential::signature::Signer;
use vestibule::secret::Secret;
use vestibule::session::{BoxFuture, Record, Source, SourceError};
use vestibule::{store, telemetry};

use crate::support::keys::{self, KeyStore};
use crate::support::{Answer, App, Gateway, SECRET, Setup, connect, exchange, record, reply};

const TOKEN: &str = "planted-token-ohzee7Eing";
const DEAD_TOKEN: &str = "planted-dead-token-Xee4oh";
const NEW_TOKEN: &str = "planted-new-token-aeYah3";
const FORGED: &str = "planted-forged-cookie-eiT8oo";
const RESET: &str = "planted-reset-token-Ahf0ai";
const CODE: &str = "planted-oauth-code-gee3Xu";
pub const PASSWORD: &str = "planted-password-Iew9oo";
const DATABASE: &str = "planted-database-password-uN4ohB";
pub const EMAIL: &str = "planted-email-ceix1o@example.com";
const BEARER: &str = "planted-bearer-Ohph7e";
const ADMIN: &str = "planted-admin-token-naiV5k";
const KEY: &str = "planted-api-key-aiNg3eequaiY1iesh5jeiThahW4ooxo0Aijei6ahr4ieThu";
const UNKNOWN_KEY: &str = "planted-unknown-api-key-eiHeeNg7aeg4iechaeK5oozei9oozeeloh7Ahpo";

/// Logged on purpose, to prove that what is written is looked at.
const CANARY: &str = "planted-canary-Rohm8a";

/// Everything that was planted, and what the gateway makes of it.
fn planted() -> Vec<String> {
    let signer = Signer::new(&Secret::new(SECRET));
    let mut all: Vec<String> = [
        TOKEN, DEAD_TOKEN, NEW_TOKEN, FORGED, RESET, CODE, PASSWORD, DATABASE, EMAIL, BEARER,
        ADMIN, SECRET,
    ]
    .map(str::to_owned)
    .to_vec();
    for key in [KEY, UNKNOWN_KEY] {
        // What is stored is as good as the key to whoever can write the store.
        all.extend([key.to_owned(), stored_form(key, true)]);
    }
    for token in [TOKEN, DEAD_TOKEN, NEW_TOKEN] {
        // The signature alone is worth as much as the cookie, to whoever knows the token.
        let issued = signer.issue(token);
        all.extend(
            issued
                .split_once('.')
                .map(|(_, signature)| signature.to_owned()),
        );
    }
    all
}

// -------------------------------------------------------------------------------------------------------------------- the log

/// What was logged that should not have been, and how often the canary sang.
#[derive(Default)]
pub struct Found {
    pub leaks: Vec<String>,
    canaries: usize,
    access_lines: usize,
    /// Steps of users who are moved in.
    pub audited: usize,
}

/// Reads along with what the whole test binary logs; keeps only what matters.
#[derive(Clone)]
struct Listening {
    planted: Arc<Vec<String>>,
    found: Arc<Mutex<Found>>,
}

impl io::Write for Listening {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let mut found = self.found.lock().expect("not poisoned");
        found.canaries += usize::from(line.contains(CANARY));
        found.audited += usize::from(line.contains("vestibule::audit"));
        found.access_lines += usize::from(line.contains("vestibule::access"));
        if self.planted.iter().any(|secret| line.contains(secret)) {
            found.leaks.push(line.into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Listening {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Installs the program's own subscriber, at its most talkative, for the whole process: proxy threads have no other.
pub fn listening() -> Arc<Mutex<Found>> {
    static LISTENING: OnceLock<Arc<Mutex<Found>>> = OnceLock::new();
    let found = LISTENING.get_or_init(|| {
        let listening = Listening {
            planted: Arc::new(planted()),
            found: Arc::default(),
        };
        let found = Arc::clone(&listening.found);
        let settings = telemetry::Settings {
            level: "debug".into(),
            json: true,
            access: true,
        };
        let subscriber = telemetry::log::subscriber(&settings, listening);
        // With `log` bridged, through which the HTTP library speaks.
        subscriber
            .try_init()
            .expect("no test but this one installs one");
        found
    });
    Arc::clone(found)
}

fn assert_clean(what: &str, text: &str) {
    for secret in planted() {
        assert!(!text.contains(&secret), "{what} holds `{secret}`: {text}");
    }
}

/// Everything an answer of the gateway's own holds.
fn whole(answer: &Answer) -> String {
    format!("{} {:?} {}", answer.status, answer.headers, answer.text())
}

// ------------------------------------------------------------------------------------------------------------------- the run

fn app() -> App {
    let issued = format!(
        "better-auth.session_token={}; Path=/; HttpOnly",
        Signer::new(&Secret::new(SECRET)).issue(NEW_TOKEN)
    );
    App::scripted(move |seen, stream| {
        if seen.line.contains("/hang-up") {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        } else if seen.line.contains("/garbage") {
            let _ = stream.write_all(b"GARBAGE\r\n\r\n");
        } else {
            reply(stream, 200, &[("set-cookie", &issued)], b"");
        }
    })
}

/// Good and bad requests with something planted in every corner. Gives the answers the gateway made itself.
fn run(gateway: &Gateway) -> Vec<Answer> {
    let signer = Signer::new(&Secret::new(SECRET));
    let good = format!("better-auth.session_token={}", signer.issue(TOKEN));
    let dead = format!(
        "better-auth.session_token={}; better-auth.session_data={FORGED}",
        signer.issue(DEAD_TOKEN)
    );
    let forged = format!(
        "better-auth.session_token={FORGED}.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D"
    );
    let malformed = format!("better-auth.session_token={FORGED}");
    let bearer = format!("Bearer {BEARER}");
    let login = format!(r#"{{"email":"{EMAIL}","password":"{PASSWORD}"}}"#);
    let revoke = format!(r#"{{"token":"{TOKEN}"}}"#);
    let reset = format!("/api/auth/reset-password/{RESET}?callbackURL=/x&token={RESET}");
    let callback = format!("/api/auth/callback/github?code={CODE}&state={CODE}");
    let verify = format!("/api/auth/verify-email?token={RESET}");
    let page = format!("/public/x?token={RESET}&code={CODE}");
    let own = [
        gateway.get(&format!("/dashboard%00?token={RESET}"), &[]),
        gateway.get(&format!("/public/../x?token={RESET}"), &[("cookie", &good)]),
        gateway.get("/dashboard", &[("cookie", &forged), ("authorization", &bearer)]),
        gateway.get("/dashboard", &[("cookie", &malformed), ("x-api-key", BEARER)]),
        gateway.get("/dashboard", &[("x-api-key", UNKNOWN_KEY)]),
        gateway.get("/strict/x", &[("x-api-key", UNKNOWN_KEY)]),
        gateway.document("/closed/x", &[("x-api-key", KEY)]),
        gateway.get("/admin/x", &[("x-api-key", KEY)]),
        gateway.get("/dashboard", &[("cookie", &dead)]),
        gateway.document("/strict/x", &[("cookie", &dead)]),
        gateway.get("/admin/x", &[("cookie", &good)]),
        gateway.document("/closed/x", &[("cookie", &good), ("referer", &page)]),
        gateway.send("POST", "/dashboard", &[("next-action", "40aa"), ("cookie", &forged)], login.as_bytes()),
        gateway.send("POST", "/dashboard", &[("connection", BEARER), ("cookie", &good)], login.as_bytes()),
        gateway.get(&format!("/hang-up?token={RESET}"), &[("cookie", &good)]),
        gateway.get("/public/garbage", &[("cookie", &good)]),
        gateway.document("/public/hang-up", &[("cookie", &good)]),
        gateway.raw(format!("GET /x HTTP/1.1\r\nHost: {BEARER}\r\nCookie: {good}\r\n\r\n")),
        gateway.raw(format!("GET /x HTTP/9.9\r\nHost: app.test\r\nCookie: {good}\r\n\r\n")),
        gateway.raw(format!("GET /x HTTP/1.1\r\nHost: app.test\r\nCookie: {good}\r\nbroken {BEARER}\r\n\r\n")),
        gateway.raw(format!("POST /public/x?token={RESET} HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: x\r\nCookie: {good}\r\n\r\n")),
        gateway.raw(format!("GET /public/x?token={RESET}{} HTTP/1.1\r\nHost: app.test\r\n\r\n", "x".repeat(9000))),
    ];
    for (method, target) in [
        ("GET", "/dashboard"),
        ("GET", page.as_str()),
        ("GET", callback.as_str()),
        ("GET", verify.as_str()),
        ("GET", reset.as_str()),
        ("POST", reset.as_str()),
    ] {
        gateway.send(
            method,
            target,
            &[
                ("cookie", &good),
                ("authorization", &bearer),
                ("x-request-id", &bearer),
            ],
            b"",
        );
        gateway.send(
            method,
            target,
            &[
                ("cookie", &forged),
                ("x-forwarded-for", BEARER),
                ("traceparent", BEARER),
            ],
            b"",
        );
    }
    for path in [
        "/api/auth/sign-in/email",
        "/api/auth/sign-up/email",
        "/api/auth/change-password",
        "/api/auth//reset-password",
        "/api/auth/%72eset-password/",
    ] {
        gateway.send(
            "POST",
            &format!("{path}/{RESET}"),
            &[("cookie", &good)],
            login.as_bytes(),
        );
        gateway.send("POST", path, &[("cookie", &good)], login.as_bytes());
    }
    gateway.send(
        "POST",
        "/api/auth/revoke-session",
        &[("cookie", &good)],
        revoke.as_bytes(),
    );
    gateway.send("POST", "/api/auth/sign-out", &[("cookie", &good)], b"");
    // Other proxies ask about requests; what they are told of who is calling is theirs.
    for (target, url) in [
        (format!("/_vestibule/verify/envoy{reset}"), String::new()),
        (format!("/_vestibule/verify/envoy{page}"), String::new()),
        (
            format!("/_vestibule/verify/envoy/../{reset}"),
            String::new(),
        ),
        (
            "/_vestibule/verify/nginx".into(),
            format!("http://app.test{reset}"),
        ),
        ("/_vestibule/verify/nginx".into(), format!("ftp://{RESET}")),
        (format!("/_vestibule/verify/nginx?{RESET}"), RESET.into()),
        (format!("/_vestibule/verify/nobody/{RESET}"), String::new()),
    ] {
        gateway.get(
            &target,
            &[
                ("cookie", &good),
                ("x-original-method", "GET"),
                ("x-original-url", &url),
            ],
        );
    }
    // A client that leaves in the middle of its secret.
    let mut gone = connect(gateway.address);
    let _ = gone.write_all(format!("POST /dashboard?token={RESET} HTTP/1.1\r\nhost: app.test\r\ncookie: {good}\r\ncontent-length: 900\r\n\r\n{login}").as_bytes());
    drop(gone);
    own.into()
}

fn admin_pages(gateway: &Gateway) -> Vec<Answer> {
    let evict = format!(r#"{{"token":"{TOKEN}","nonsense":"{PASSWORD}"}}"#);
    let post = |authorization: &str| {
        format!(
            "POST /sessions/evict HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {authorization}\r\ncontent-length: {}\r\n\r\n{evict}",
            evict.len()
        )
    };
    [
        "/",
        "/livez",
        "/readyz",
        "/readyz?verbose",
        "/metrics",
        "/nowhere",
    ]
    .iter()
    .map(|path| {
        format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {ADMIN}\r\n\r\n")
    })
    .chain([post(ADMIN), post(BEARER)])
    .map(|bytes| exchange(gateway.admin, bytes.as_bytes()))
    .collect()
}

#[test]
fn nothing_planted_shows_up_in_logs_metrics_admin_pages_or_errors() {
    let found = listening();
    let app = app();
    let mut setup = Setup::in_front_of(app.address);
    setup.authenticator.enabled = ["bearer".to_owned(), "jwt".to_owned()].into();
    setup.server.admin_token = Some(Secret::new(ADMIN));
    setup.server.forward_auth = Some(vestibule::server::verify::Settings {
        peers: vec!["127.0.0.1/32".parse().expect("a network")],
    });
    let keys = Arc::new(KeyStore::default());
    let mut limited = keys::row("key-1");
    limited.counters.remaining = Some(20);
    let owner = keys::owner(&limited, "kate");
    keys.put(KEY, limited, Some(owner));
    setup.authenticator.enabled.insert("api_key".into());
    setup.api_keys = Some((
        vestibule::api_key::Settings {
            key_letters_min: 32,
            ..Default::default()
        },
        Arc::clone(&keys) as _,
    ));
    let gateway = setup.start();
    assert_eq!(gateway.get("/dashboard", &[("x-api-key", KEY)]).status, 200);
    let mut ada = record(TOKEN, "ada");
    // An id of its own: that one may be shown.
    ada.session_id = "session-1".into();
    ada.email = Some(EMAIL.into());
    gateway.store.put(ada);

    for failing in [false, true, false] {
        gateway.store.fail(failing);
        keys.fail(failing);
        for answer in run(&gateway).iter().chain(&admin_pages(&gateway)) {
            // A return address is the visitor's own, and goes to nobody else.
            assert_clean("an answer", &whole(answer));
        }
        gateway.clock.advance(Duration::from_secs(60));
    }
    let metrics = exchange(
        gateway.admin,
        b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    )
    .text();
    assert!(
        metrics.contains("vestibule_decisions_total"),
        "the metrics were read"
    );
    assert_clean("the metrics", &metrics);

    tracing::info!("{CANARY}");
    let found = found.lock().expect("not poisoned");
    assert!(
        found.canaries > 0 && found.access_lines > 0,
        "the log was read"
    );
    assert!(
        found.leaks.is_empty(),
        "{} lines, the first: {}",
        found.leaks.len(),
        found.leaks[0]
    );
}

/// A store that says more than it should is quoted only as far as it was checked.
struct Down;

impl Source for Down {
    fn name(&self) -> &'static str {
        "test"
    }

    fn find<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        Box::pin(async {
            Err(SourceError::Timeout {
                source_name: "test",
                waited: Duration::from_secs(1),
            })
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async { self.find("").await.map(drop) })
    }
}

#[test]
fn the_password_of_the_database_shows_up_nowhere() {
    let found = listening();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|gone| gone.local_addr())
        .expect("an address");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    for url in [
        format!("postgres://user:{DATABASE}@{closed}/app"),
        format!("mysql://user:{DATABASE}@{closed}/app"),
        format!("postgres://user:{DATABASE}@{closed}:notaport/app"),
        format!("postgres://user:{DATABASE}@[{closed}/app?sslmode={DATABASE}"),
        format!("mysql://{DATABASE}"),
        format!("sqlite:/nowhere/{DATABASE}.db?mode={DATABASE}"),
        format!("mongodb://user:{DATABASE}@{closed}/app"),
        format!("redis://user:{DATABASE}@{closed}/1"),
        format!("rediss://user:{DATABASE}@{closed}"),
        format!("redis://user:{DATABASE}@{closed}/{DATABASE}"),
        DATABASE.to_owned(),
    ] {
        let settings = store::Settings {
            url: Secret::new(url.clone()),
            timeout: Duration::from_secs(2),
            connections: 1,
            waiting_max: 1,
            schema: store::SchemaOverrides::default(),
            zone_offset_seconds: 0,
            app: store::App::default(),
            documents: None,
            extend: false,
            secondary: store::SecondaryStorage {
                database: Some(Secret::new(url.clone())),
                ..store::SecondaryStorage::default()
            },
        };
        assert_clean("the settings", &format!("{settings:?}"));
        let Err(error) = runtime.block_on(store::open(&settings)) else {
            panic!("{url} opened");
        };
        // The name of a file is no password.
        if !url.starts_with("sqlite:") {
            let mut told = format!("{error} {error:?} {}", error.advice());
            let mut cause = std::error::Error::source(&error);
            while let Some(deeper) = cause {
                told.push_str(&format!(" {deeper} {deeper:?}"));
                cause = deeper.source();
            }
            assert_clean(&url, &told);
        }
    }
    let app = App::start();
    let gateway = Setup::in_front_of(app.address).start_from(Arc::new(Down));
    let answer = gateway.get("/dashboard", &[("cookie", &crate::support::cookie(TOKEN))]);
    assert_eq!(answer.status, 503);
    assert_clean("the answer", &whole(&answer));
    let found = found.lock().expect("not poisoned");
    assert!(
        found.leaks.is_empty(),
        "{} lines, the first: {}",
        found.leaks.len(),
        found.leaks[0]
    );
}
