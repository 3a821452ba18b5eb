//! Sliding sessions, the source that asks the app, and the door, with a real Better Auth behind the gateway: what the framework
//! wrote and answered is the measure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vestibule::server::door;
use vestibule::server::slide::{By, Settings};
use vestibule::session::document::{iso, moment};
use vestibule::session::slide::Rules;
use vestibule::store::{self, Documents};
use vestibule::time::UnixMs;

use crate::differential::server::{Browser, Server};
use crate::http_source::asking;
use crate::support::databases::{Folder, settings};
use crate::support::{Answer, Gateway, SECRET, Setup, await_until};

const DAY: i64 = 86_400_000;

const RULES: Rules = Rules {
    expires_in: Duration::from_secs(7 * 86_400),
    update_age: Duration::from_secs(86_400),
};

/// A real Better Auth with its own database.
struct Real {
    server: Server,
    folder: Folder,
}

impl Real {
    fn start() -> Self {
        let folder = Folder::new("better-auth");
        let server = Server::start(&json!({
            "options": { "baseURL": "http://app.test", "secret": SECRET },
            "sqlite": folder.join("app.sqlite"),
        }));
        Self { server, folder }
    }

    fn base(&self) -> String {
        format!("http://{}/api/auth", self.server.address)
    }

    fn database(&self) -> store::Settings {
        settings(&format!(
            "sqlite:{}",
            self.folder.join("app.sqlite").display()
        ))
    }

    /// Makes a session look as if it had been extended last so long ago.
    fn age(&self, token: &str, age: i64) {
        let ends = iso(UnixMs(now().0 - age + 7 * DAY)).unwrap();
        self.server.sql(&format!(
            "UPDATE session SET expiresAt = '{ends}' WHERE token = '{token}'"
        ));
    }

    /// When a session ends, as its row says.
    fn end(&self, token: &str) -> Option<UnixMs> {
        let rows = self.server.sql(&format!(
            "SELECT expiresAt FROM session WHERE token = '{token}'"
        ));
        moment(&rows[0]["expiresAt"])
    }

    /// Whether a session ends a whole week after this test.
    fn is_extended(&self, token: &str) -> bool {
        self.end(token)
            .is_some_and(|end| (now().0 + 7 * DAY - end.0).abs() < 60_000)
    }
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMs(i64::try_from(since.as_millis()).unwrap())
}

/// A gateway in front of it, whose clock shows the present.
fn gateway(setup: Setup, settings: &store::Settings, runtime: &Runtime) -> Gateway {
    let source = runtime.block_on(store::open(settings)).unwrap();
    let gateway = setup.start_from(source);
    gateway.clock.set(now());
    gateway
}

fn ask(gateway: &Gateway, browser: &mut Browser) -> Answer {
    let answer = gateway.get("/dashboard", &[("cookie", &browser.header())]);
    browser.remember(&answer);
    answer
}

/// Asks until the renewed session cookie comes.
fn await_renewed(gateway: &Gateway, browser: &Browser) -> String {
    let line = std::cell::OnceCell::new();
    await_until("the renewed cookie", || {
        let answer = ask(gateway, &mut browser.clone());
        assert_eq!(answer.status, 200);
        let mut lines = answer.all("set-cookie").into_iter();
        if let Some(found) = lines.find(|line| line.contains("session_token=")) {
            let _ = line.set(found.to_owned());
        }
        line.get().is_some()
    });
    line.into_inner().unwrap()
}

#[test]
fn a_real_better_auth_is_asked_and_its_renewed_cookie_reaches_the_browser() {
    let (real, runtime) = (Real::start(), Runtime::new().unwrap());
    let mut ada = Browser::sign_up(real.server.address, "ada");
    let token = ada.session_token();
    let gateway = gateway(
        Setup::in_front_of(real.server.address),
        &asking(&real.base()),
        &runtime,
    );
    real.age(&token, 2 * DAY);
    let answer = ask(&gateway, &mut ada);
    assert_eq!(answer.status, 200);
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(told["told"]["x-auth-user-email"], "ada@example.com");
    let set = answer.all("set-cookie");
    assert!(
        set.iter()
            .any(|line| line.contains("session_token=") && line.contains("Max-Age=604800")),
        "{set:?}"
    );
    assert!(real.is_extended(&token));
    // It is remembered; then it signs out through the gateway, and is gone for both.
    assert_eq!(ask(&gateway, &mut ada).all("set-cookie"), [""; 0]);
    let cookies = ada.header();
    let out = ada.clone().post(gateway.address, "/sign-out", &json!({}));
    assert_eq!(out.status, 200);
    let after = gateway.get("/dashboard", &[("cookie", &cookies)]);
    assert_eq!(after.status, 401);
}

#[test]
fn a_real_better_auth_leaves_a_short_session_short() {
    let (real, runtime) = (Real::start(), Runtime::new().unwrap());
    Browser::sign_up(real.server.address, "ada");
    let mut short = Browser::sign_in(real.server.address, "ada", false);
    assert!(short.header().contains("dont_remember"));
    let token = short.session_token();
    let before = real.end(&token);
    let setup = Setup::in_front_of(real.server.address);
    let gateway = gateway(setup, &asking(&real.base()), &runtime);
    let answer = ask(&gateway, &mut short);
    assert_eq!((answer.status, answer.all("set-cookie").len()), (200, 0));
    assert_eq!(real.end(&token), before, "not extended");
    // Its twin, from a browser that lost the marker: the framework extends it, so it is extended.
    short
        .cookies
        .retain(|name, _| !name.contains("dont_remember"));
    gateway.running.gateway.gate.sessions.cache().forget_all();
    assert_eq!(ask(&gateway, &mut short).status, 200);
    assert!(real.is_extended(&token));
}

#[test]
fn sessions_of_a_database_are_extended_by_a_real_better_auth_once() {
    let (real, runtime) = (Real::start(), Runtime::new().unwrap());
    let ada = Browser::sign_up(real.server.address, "ada");
    let short = Browser::sign_in(real.server.address, "ada", false);
    let (token, kept) = (ada.session_token(), short.session_token());
    let mut setup = Setup::in_front_of(real.server.address);
    let app = {
        let _inside = runtime.enter();
        store::app(&asking(&real.base())).unwrap()
    };
    setup.sliding = Some(Settings {
        rules: RULES,
        by: By::App(vec![app]),
    });
    let gateway = gateway(setup, &real.database(), &runtime);
    real.age(&token, 2 * DAY);
    let before = real.end(&kept);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(ask(&gateway, &mut short.clone()).status, 200));
        }
    });
    let line = await_renewed(&gateway, &ada);
    assert!(line.contains("Max-Age=604800"), "{line}");
    assert!(real.is_extended(&token));
    assert_eq!(real.end(&kept), before, "who wanted to be forgotten is");
}

#[test]
fn what_the_gateway_extends_itself_a_real_better_auth_believes() {
    let (real, runtime) = (Real::start(), Runtime::new().unwrap());
    let mut ada = Browser::sign_up(real.server.address, "ada");
    let token = ada.session_token();
    let settings = store::Settings {
        extend: true,
        ..real.database()
    };
    let opened = runtime.block_on(store::inspect(&settings)).unwrap();
    let mut setup = Setup::in_front_of(real.server.address);
    setup.sliding = Some(Settings {
        rules: RULES,
        by: By::Store(opened.extend.unwrap()),
    });
    let gateway = gateway(setup, &settings, &runtime);
    real.age(&token, 6 * DAY);
    let line = await_renewed(&gateway, &ada);
    assert!(
        line.contains(&ada.cookies["better-auth.session_token"]),
        "the same value"
    );
    assert!(real.is_extended(&token));
    let answer = ada.get(real.server.address, "/api/auth/get-session");
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(moment(&body["session"]["expiresAt"]), real.end(&token));
}

#[test]
fn the_door_answers_what_a_real_better_auth_answers() {
    let (real, runtime) = (Real::start(), Runtime::new().unwrap());
    let mut ada = Browser::sign_up(real.server.address, "ada");
    let mut setup = Setup::in_front_of(real.server.address);
    setup.door = Some(door::Settings {
        rules: Some(RULES),
        app_adds: false,
    });
    let settings = store::Settings {
        documents: Some(Documents::default()),
        ..real.database()
    };
    let gateway = gateway(setup, &settings, &runtime);
    let theirs = ada.get(real.server.address, "/api/auth/get-session");
    let ours = gateway.get("/api/auth/get-session", &[("cookie", &ada.header())]);
    let parse = |answer: &Answer| serde_json::from_slice::<Value>(&answer.body).unwrap();
    assert_eq!(parse(&ours), parse(&theirs));
    assert!(parse(&ours)["session"]["token"].is_string());
    for name in ["cache-control", "pragma", "content-type"] {
        assert_eq!(ours.header(name), theirs.header(name), "{name}");
    }
    // The app was not asked: nothing of its own is on the answer.
    real.server.sql("UPDATE user SET name = 'Countess'");
    let remembered = gateway.get("/api/auth/get-session", &[("cookie", &ada.header())]);
    assert_eq!(parse(&remembered)["user"]["name"], "ada");
    // A column of the app's own that nobody has listed: better no answer than one with what the app keeps to itself.
    real.server
        .sql("ALTER TABLE user ADD COLUMN internalNote text");
    let Err(error) = runtime.block_on(store::inspect(&settings)) else {
        panic!("an unlisted column was let through");
    };
    let told = format!("{error} {}", error.advice());
    assert!(
        told.contains("`user.internalNote`") && told.contains("hidden_fields"),
        "{told}"
    );
    let hidden = store::Settings {
        documents: Some(Documents {
            hidden: vec!["user.internalNote".into()],
            ..Documents::default()
        }),
        ..settings
    };
    let source = runtime.block_on(store::open(&hidden)).unwrap();
    let record = runtime
        .block_on(source.find(&ada.session_token()))
        .unwrap()
        .unwrap();
    let document = record.document.unwrap();
    assert!(
        !document.contains("internalNote") && document.contains("Countess"),
        "{document}"
    );
}
