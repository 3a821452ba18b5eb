//! Sessions in use that are due are extended beside the requests that show it: exactly once, by the framework's own rules, and
//! their browsers get the renewed cookie.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Runtime;

use vestibule::credential::cookie_cache::{self, CookieCache, Payload};
use vestibule::credential::{names, secrets};
use vestibule::secret::Secret;
use vestibule::server::slide::{By, Settings};
use vestibule::session::document::iso;
use vestibule::session::extend::Extend;
use vestibule::session::slide::Rules;
use vestibule::session::{BoxFuture, Record, SourceError};
use vestibule::store;
use vestibule::time::{Clock as _, UnixMs};

use crate::http_source::{Says, Scripted, session};
use crate::support::{Gateway, NOW, SECRET, Setup, await_until, cookie, record};

const DAY: i64 = 86_400_000;

const RULES: Rules = Rules {
    expires_in: Duration::from_secs(7 * 86_400),
    update_age: Duration::from_secs(86_400),
};

/// The marker of a session that ends with the browser.
fn marker() -> String {
    cookie("true").replace("session_token", "dont_remember")
}

/// A session that was extended last so many milliseconds before the present.
fn aged(token: &str, age: i64) -> Record {
    Record {
        expires_at: UnixMs(NOW.0 - age + 7 * DAY),
        ..record(token, "ada")
    }
}

/// What the app answers that has extended the session now.
fn extended(token: &str) -> Says {
    let mut body = session(token, "ada");
    body["session"]["expiresAt"] = json!(iso(UnixMs(NOW.0 + 7 * DAY)).unwrap());
    body["session"]["updatedAt"] = json!(iso(NOW).unwrap());
    Says::Session(body, vec![renewed(token)])
}

fn renewed(token: &str) -> String {
    format!(
        "{}; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax",
        cookie(token)
    )
}

/// A gateway that has sessions of its store extended by the app.
fn by_app(app: &Scripted, rules: Rules) -> (Gateway, Runtime) {
    let runtime = Runtime::new().unwrap();
    let mut setup = Setup::in_front_of(app.app.address);
    let source = {
        let _inside = runtime.enter();
        store::app(&app.settings()).unwrap()
    };
    setup.sliding = Some(Settings {
        rules,
        by: By::App(vec![source]),
    });
    (setup.start(), runtime)
}

fn ask(gateway: &Gateway, path: &str, cookies: &str) -> Vec<String> {
    let answer = gateway.get(path, &[("cookie", cookies)]);
    assert_eq!(answer.status, 200, "{path}");
    let lines = answer.all("set-cookie");
    lines.into_iter().map(str::to_owned).collect()
}

/// Asks until the renewed cookie comes: with this answer, or with one of the next.
fn await_renewed(gateway: &Gateway, token: &str) -> Vec<String> {
    await_renewed_with(gateway, &cookie(token))
}

fn await_renewed_with(gateway: &Gateway, cookies: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let found = std::cell::RefCell::new(&mut lines);
    await_until("the renewed cookie", || {
        let set = ask(gateway, "/dashboard", cookies);
        found.borrow_mut().extend(set);
        !found.borrow().is_empty()
    });
    lines
}

/// Has the session extended, and nobody told of it yet: the app takes its time until the answer to the first request is through.
fn extend_untold(app: &Scripted, gateway: &Gateway) {
    app.hold(true);
    assert_eq!(ask(gateway, "/dashboard", &cookie("tok")), [""; 0]);
    app.hold(false);
    await_until("the extension", || {
        remembered_end(gateway, "tok") != Some(UnixMs(NOW.0 + 6 * DAY))
    });
}

/// When memory believes the session to end.
fn remembered_end(gateway: &Gateway, token: &str) -> Option<UnixMs> {
    let sessions = &gateway.running.gateway.gate.sessions;
    let seal = sessions.signer().seal(token);
    let method = vestibule::credential::Method::SESSION;
    match sessions.cache().recall(&seal, method, gateway.clock.now()) {
        vestibule::session::cache::Memory::Known(entry) => Some(entry.expires_at()),
        _ => None,
    }
}

#[test]
fn a_session_in_use_is_extended_by_the_app_and_its_browser_hears_of_it_once() {
    let app = Scripted::new(extended("tok"));
    let (gateway, _runtime) = by_app(&app, RULES);
    gateway.store.put(aged("tok", DAY));
    assert_eq!(await_renewed(&gateway, "tok"), [renewed("tok")]);
    assert_eq!(
        remembered_end(&gateway, "tok"),
        Some(UnixMs(NOW.0 + 7 * DAY))
    );
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "/dashboard", &cookie("tok")), [""; 0]);
    }
    assert_eq!(app.lookups().len(), 1);
    let asked = app.lookups().pop().unwrap();
    assert!(!asked.line.contains("disableRefresh"), "{}", asked.line);
    assert_eq!(asked.all("x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn a_session_that_is_not_due_is_left_alone() {
    let app = Scripted::new(extended("tok"));
    let (gateway, _runtime) = by_app(&app, RULES);
    gateway.store.put(aged("tok", DAY - 1));
    // One that ends later than it should: its length was lowered since.
    gateway.store.put(aged("long", -30 * DAY));
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "/dashboard", &cookie("tok")), [""; 0]);
        assert_eq!(ask(&gateway, "/dashboard", &cookie("long")), [""; 0]);
    }
    assert_eq!(app.lookups().len(), 0);
    // Its twin, a millisecond later.
    gateway.clock.advance(Duration::from_millis(1));
    assert_eq!(await_renewed(&gateway, "tok"), [renewed("tok")]);
}

#[test]
fn who_wanted_to_be_forgotten_is_not_remembered_for_another_week() {
    let app = Scripted::new(extended("tok"));
    let (gateway, _runtime) = by_app(&app, RULES);
    gateway.store.put(aged("tok", 6 * DAY));
    let short = format!("{}; {}", cookie("tok"), marker());
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "/dashboard", &short), [""; 0]);
    }
    assert_eq!(app.lookups().len(), 0);
    // A marker the app has not signed says nothing, there as here.
    let forged = format!("{}; better-auth.dont_remember=true.AAAA", cookie("tok"));
    ask(&gateway, "/dashboard", &forged);
    await_until("the app to be asked", || app.lookups().len() == 1);
    let seen = app.lookups().pop().unwrap();
    assert_eq!(
        seen.header("cookie"),
        Some(forged.as_str()),
        "and the app judges for itself"
    );
}

#[test]
fn fifty_requests_at_once_extend_a_session_once() {
    let app = Scripted::new(extended("tok"));
    let (gateway, _runtime) = by_app(&app, RULES);
    gateway.store.put(aged("tok", 2 * DAY));
    let mut given: Vec<String> = std::thread::scope(|scope| {
        let path = |at: usize| {
            if usize::is_multiple_of(at, 2) {
                "/dashboard"
            } else {
                "/strict/page"
            }
        };
        let gateway = &gateway;
        let asking: Vec<_> = (0..50)
            .map(|at| scope.spawn(move || ask(gateway, path(at), &cookie("tok"))))
            .collect();
        asking
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    if given.is_empty() {
        given = await_renewed(&gateway, "tok");
    }
    assert_eq!(given, [renewed("tok")], "once, to one of them");
    assert_eq!(app.lookups().len(), 1);
}

#[test]
fn a_request_is_never_kept_waiting_for_an_extension() {
    let app = Scripted::new(extended("tok"));
    app.hold(true);
    let (gateway, _runtime) = by_app(&app, RULES);
    gateway.store.put(aged("tok", DAY));
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "/dashboard", &cookie("tok")), [""; 0]);
    }
    await_until("the app to be asked", || app.app.count() == 4);
    app.hold(false);
    assert_eq!(await_renewed(&gateway, "tok"), [renewed("tok")]);
}

#[test]
fn an_app_that_extends_at_every_read_is_asked_once_in_a_while() {
    let app = Scripted::new(extended("tok"));
    let rules = Rules {
        update_age: Duration::ZERO,
        ..RULES
    };
    let (gateway, _runtime) = by_app(&app, rules);
    gateway.store.put(aged("tok", 0));
    assert_eq!(await_renewed(&gateway, "tok"), [renewed("tok")]);
    for _ in 0..20 {
        assert_eq!(ask(&gateway, "/dashboard", &cookie("tok")), [""; 0]);
    }
    assert_eq!(app.lookups().len(), 1);
    gateway.clock.advance(Duration::from_secs(30));
    assert_eq!(await_renewed(&gateway, "tok"), [renewed("tok")]);
    assert_eq!(app.lookups().len(), 2);
}

#[test]
fn an_app_that_fails_is_asked_again_later_and_nobody_notices() {
    let app = Scripted::new(Says::Status(500, "{}"));
    let (gateway, _runtime) = by_app(&app, RULES);
    gateway.store.put(aged("tok", DAY));
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "/dashboard", &cookie("tok")), [""; 0]);
    }
    await_until("the app to be asked", || app.lookups().len() == 1);
    app.say(extended("tok"));
    assert_eq!(ask(&gateway, "/dashboard", &cookie("tok")), [""; 0]);
    gateway.clock.advance(Duration::from_secs(30));
    assert_eq!(await_renewed(&gateway, "tok"), [renewed("tok")]);
    assert_eq!(app.lookups().len(), 2);
}

#[test]
fn a_session_the_app_no_longer_knows_is_forgotten() {
    let app = Scripted::new(Says::Null);
    let (gateway, _runtime) = by_app(&app, RULES);
    gateway.store.put(aged("tok", DAY));
    ask(&gateway, "/dashboard", &cookie("tok"));
    gateway.store.remove("tok");
    await_until("it to be forgotten", || {
        gateway
            .get("/dashboard", &[("cookie", &cookie("tok"))])
            .status
            == 401
    });
    let asked = gateway.store.asked();
    assert_eq!(
        asked, 2,
        "the store was asked again at once, not after `cache_ttl`"
    );
}

#[test]
fn what_the_app_sets_itself_is_not_set_again() {
    // The app answers its pages with a session cookie of its own.
    let own = format!("{}; Max-Age=60; Path=/", cookie("tok"));
    let line = own.clone();
    let app = crate::support::App::scripted(move |seen, stream| {
        if seen.line.contains("/get-session") {
            let Says::Session(body, cookies) = extended("tok") else {
                return;
            };
            let headers = [
                ("content-type", "application/json"),
                ("set-cookie", cookies[0].as_str()),
            ];
            crate::support::reply(stream, 200, &headers, body.to_string().as_bytes());
        } else if seen.line.contains("/own") {
            crate::support::reply(stream, 200, &[("set-cookie", line.as_str())], b"");
        } else {
            crate::support::reply(stream, 200, &[], b"");
        }
    });
    let runtime = Runtime::new().unwrap();
    let mut setup = Setup::in_front_of(app.address);
    let source = {
        let _inside = runtime.enter();
        store::app(&crate::http_source::asking(&format!(
            "http://{}/api/auth",
            app.address
        )))
        .unwrap()
    };
    setup.sliding = Some(Settings {
        rules: RULES,
        by: By::App(vec![source]),
    });
    let gateway = setup.start();
    gateway.store.put(aged("tok", DAY));
    ask(&gateway, "/own", &cookie("tok"));
    await_until("the extension", || {
        remembered_end(&gateway, "tok") != Some(UnixMs(NOW.0 + 6 * DAY))
    });
    assert_eq!(ask(&gateway, "/own", &cookie("tok")), [own]);
    assert_eq!(
        ask(&gateway, "/dashboard", &cookie("tok")),
        [""; 0],
        "it has it now"
    );
}

#[test]
fn the_app_reads_its_own_endpoints_itself() {
    let app = Scripted::new(extended("tok"));
    let (gateway, _runtime) = by_app(&app, RULES);
    gateway.store.put(aged("tok", DAY));
    for path in ["/api/auth/list-sessions", "/api/auth", "/public/page", "/"] {
        ask(&gateway, path, &cookie("tok"));
    }
    assert_eq!(app.lookups().len(), 0, "but for what a browser asked");
    assert_eq!(gateway.running.gateway.gate.sessions.cache().len(), 0);
}

#[test]
fn the_renewed_cookie_waits_for_the_browser_when_the_same_token_comes_as_a_bearer() {
    let app = Scripted::new(extended("tok"));
    let runtime = Runtime::new().unwrap();
    let mut setup = Setup::in_front_of(app.app.address);
    let source = {
        let _inside = runtime.enter();
        store::app(&app.settings()).unwrap()
    };
    setup.authenticator.enabled.insert("bearer".into());
    setup.sliding = Some(Settings {
        rules: RULES,
        by: By::App(vec![source]),
    });
    let gateway = setup.start();
    gateway.store.put(aged("tok", DAY));
    extend_untold(&app, &gateway);
    for _ in 0..3 {
        let answer = gateway.get("/dashboard", &[("authorization", "Bearer tok")]);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.all("set-cookie"), [""; 0], "it is no browser's");
    }
    assert_eq!(await_renewed(&gateway, "tok"), [renewed("tok")]);
}

#[test]
fn a_signed_out_browser_gets_no_session_back() {
    let app = Scripted::new(extended("tok"));
    let (gateway, _runtime) = by_app(&app, RULES);
    gateway.store.put(aged("tok", DAY));
    extend_untold(&app, &gateway);
    let out = gateway.send(
        "POST",
        "/api/auth/sign-out",
        &[("cookie", &cookie("tok"))],
        b"",
    );
    assert_eq!(out.all("set-cookie"), [""; 0]);
    // The row may still be there on a replica.
    assert_eq!(ask(&gateway, "/dashboard", &cookie("tok")), [""; 0]);
}

/// A store that counts who is first.
#[derive(Default)]
struct Writer {
    asked: AtomicUsize,
    seen: std::sync::Mutex<Option<(String, UnixMs, UnixMs, UnixMs)>>,
    late: bool,
}

impl Extend for Writer {
    fn extend<'a>(
        &'a self,
        token: &'a str,
        seen: UnixMs,
        until: UnixMs,
        now: UnixMs,
    ) -> BoxFuture<'a, Result<bool, SourceError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        *self.seen.lock().unwrap() = Some((token.to_owned(), seen, until, now));
        Box::pin(std::future::ready(Ok(!self.late)))
    }
}

fn in_store(writer: &Arc<Writer>) -> Gateway {
    let app = Scripted::new(Says::Null);
    let mut setup = Setup::in_front_of(app.app.address);
    setup.sliding = Some(Settings {
        rules: RULES,
        by: By::Store(Arc::clone(writer) as Arc<dyn Extend>),
    });
    setup.start()
}

#[test]
fn the_gateway_extends_in_the_store_itself_where_it_is_told_to() {
    let writer = Arc::new(Writer::default());
    let gateway = in_store(&writer);
    gateway.store.put(aged("tok", 3 * DAY));
    assert_eq!(await_renewed(&gateway, "tok"), [renewed("tok")]);
    assert_eq!(writer.asked.load(Ordering::SeqCst), 1);
    let until = UnixMs(NOW.0 + 7 * DAY);
    assert_eq!(
        *writer.seen.lock().unwrap(),
        Some(("tok".into(), UnixMs(NOW.0 + 4 * DAY), until, NOW))
    );
    assert_eq!(remembered_end(&gateway, "tok"), Some(until));
}

#[test]
fn who_comes_second_tells_nobody_anything() {
    let writer = Arc::new(Writer {
        late: true,
        ..Writer::default()
    });
    let gateway = in_store(&writer);
    gateway.store.put(aged("tok", 3 * DAY));
    ask(&gateway, "/dashboard", &cookie("tok"));
    await_until("the store to be asked", || {
        writer.asked.load(Ordering::SeqCst) == 1
    });
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "/dashboard", &cookie("tok")), [""; 0]);
    }
    assert_eq!(writer.asked.load(Ordering::SeqCst), 1);
}

// ------------------------------------------------------------------------------------------------- beside a cookie cache

fn cache(strategy: &str) -> (cookie_cache::Settings, CookieCache) {
    let settings = cookie_cache::Settings {
        strategy: strategy.into(),
        ..cookie_cache::Settings::default()
    };
    let names = names::Settings {
        base_url: Some("http://app.test".into()),
        ..names::Settings::default()
    };
    let secrets = secrets::Settings::single(Secret::new(SECRET));
    let context = cookie_cache::Context {
        secrets: &secrets,
        published: None,
    };
    let cache = CookieCache::new(&settings, &names, &context).unwrap();
    (settings, cache)
}

/// A gateway that extends in the store of an app that seals sessions into cookies.
fn beside_a_cache(settings: &cookie_cache::Settings, writer: &Arc<Writer>) -> Gateway {
    let app = Scripted::new(Says::Null);
    let mut setup = Setup::in_front_of(app.app.address);
    setup.authenticator.cookie_cache = Some(settings.clone());
    setup.sliding = Some(Settings {
        rules: RULES,
        by: By::Store(Arc::clone(writer) as Arc<dyn Extend>),
    });
    setup.start()
}

/// The same session with the answer that the app would give about it.
fn told(record: Record, name: &str) -> Record {
    let ends = iso(record.expires_at).unwrap();
    let document = json!({
        "session": {
            "id": "s1", "token": record.token.expose(), "userId": "ada", "expiresAt": ends,
            "createdAt": ends, "updatedAt": ends, "ipAddress": null, "userAgent": null,
        },
        "user": {"id": "ada", "email": "ada@example.com", "emailVerified": true, "name": name, "plan": "pro"},
    });
    Record {
        document: Some(document.to_string().into()),
        ..record
    }
}

/// What stands in the cookie that one of these lines sets.
fn sealed(cache: &CookieCache, line: &str, now: UnixMs) -> Payload {
    let (pair, attributes) = line.split_once("; ").unwrap();
    assert_eq!(attributes, "Max-Age=300; Path=/; HttpOnly; SameSite=Lax");
    let value = pair.strip_prefix("better-auth.session_data=").unwrap();
    cache.open_value(value.as_bytes(), "tok", now).unwrap()
}

#[test]
fn the_cookie_cache_tells_of_the_longer_life_at_once() {
    for strategy in ["compact", "jwt", "jwe"] {
        let (settings, cache) = cache(strategy);
        let gateway = beside_a_cache(&settings, &Arc::default());
        gateway.store.put(told(aged("tok", 3 * DAY), "Ada"));
        let lines = await_renewed(&gateway, "tok");
        assert_eq!(lines.len(), 2, "{strategy}: {lines:?}");
        assert_eq!(lines[0], renewed("tok"));
        let said = sealed(&cache, &lines[1], NOW);
        let until = UnixMs(NOW.0 + 7 * DAY);
        assert_eq!(said.session["expiresAt"], json!(iso(until).unwrap()));
        assert_eq!(said.session["updatedAt"], json!(iso(NOW).unwrap()));
        assert_eq!(said.session_expires_at, until);
        assert_eq!(
            (&said.user["name"], &said.user["plan"]),
            (&json!("Ada"), &json!("pro"))
        );
        assert_eq!(said.expires_at, UnixMs(NOW.0 + 300_000));
        assert_eq!(ask(&gateway, "/dashboard", &cookie("tok")), [""; 0]);
    }
}

#[test]
fn the_cookie_cache_holds_who_the_user_is_now_and_not_a_moment_ago() {
    let (settings, cache) = cache("compact");
    let gateway = beside_a_cache(&settings, &Arc::default());
    gateway.store.put(told(aged("tok", DAY - 10_000), "Ada"));
    assert_eq!(ask(&gateway, "/dashboard", &cookie("tok")), [""; 0]);
    gateway
        .store
        .put(told(aged("tok", DAY - 10_000), "Countess"));
    gateway.clock.advance(Duration::from_secs(10));
    let lines = await_renewed(&gateway, "tok");
    let said = sealed(&cache, &lines[1], gateway.clock.now());
    assert_eq!(said.user["name"], "Countess");
}

#[test]
fn a_cookie_cache_that_does_not_open_is_removed_first() {
    let (settings, cache) = cache("compact");
    let gateway = beside_a_cache(&settings, &Arc::default());
    gateway.store.put(told(aged("tok", 3 * DAY), "Ada"));
    let cookies = format!(
        "{}; better-auth.session_data=old; better-auth.session_data.0=older",
        cookie("tok")
    );
    let lines = await_renewed_with(&gateway, &cookies);
    let removed = |name: &str| format!("{name}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[0], removed("better-auth.session_data"));
    assert_eq!(lines[1], renewed("tok"));
    assert_eq!(lines[2], removed("better-auth.session_data.0"));
    sealed(&cache, &lines[3], NOW);
}

#[test]
fn without_an_answer_to_seal_the_session_is_extended_all_the_same() {
    let (settings, _) = cache("compact");
    // No document; one that would not open again; a store that falls silent once it was written.
    let odd = Record {
        document: Some(
            json!({"session": {"token": "tok"}, "user": {}})
                .to_string()
                .into(),
        ),
        ..aged("tok", 3 * DAY)
    };
    for record in [aged("tok", 3 * DAY), odd] {
        let gateway = beside_a_cache(&settings, &Arc::default());
        gateway.store.put(record);
        assert_eq!(await_renewed(&gateway, "tok"), [renewed("tok")]);
    }
    let gateway = beside_a_cache(&settings, &Arc::default());
    gateway.store.put(told(aged("tok", DAY - 10_000), "Ada"));
    ask(&gateway, "/dashboard", &cookie("tok"));
    gateway.store.fail(true);
    gateway.clock.advance(Duration::from_secs(10));
    assert_eq!(await_renewed(&gateway, "tok"), [renewed("tok")]);
}

#[test]
fn a_session_that_ends_with_the_browser_gets_no_cookie_cache() {
    let (settings, _) = cache("compact");
    let writer = Arc::new(Writer::default());
    let gateway = beside_a_cache(&settings, &writer);
    gateway.store.put(told(aged("tok", 3 * DAY), "Ada"));
    for _ in 0..5 {
        let short = format!("{}; {}", cookie("tok"), marker());
        assert_eq!(ask(&gateway, "/dashboard", &short), [""; 0]);
    }
    assert_eq!(writer.asked.load(Ordering::SeqCst), 0);
}
