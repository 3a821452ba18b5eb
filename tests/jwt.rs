//! Signed tokens in the Authorization header: of the app's JWT plugin, and of other issuers.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vestibule::authenticator::jwt::{Claims, Issuer};
use vestibule::credential::cookie_cache;
use vestibule::credential::key_ring::KeySource;
use vestibule::credential::key_set::Algorithm;
use vestibule::policy::{Conditions, Need, Rule};
use vestibule::session::Freshness;
use vestibule::store::{self, keys_http, keys_table};
use vestibule::time::{Clock as _, ManualClock, UnixMs};

use crate::support::databases::{Dialect, Folder, settings, shared};
use crate::support::{
    Answer, App, Gateway, NOW, Seen, Setup, await_until, connect, cookie, read_answer, record,
    reply, route, rule, signed_in,
};

const ISSUER: &str = "http://app.test";

/// Seconds of [`NOW`].
const SECOND: i64 = NOW.0 / 1000;

fn pair(key: &str) -> Ed25519KeyPair {
    let mut seed = [0; 32];
    for (place, byte) in seed.iter_mut().zip(key.bytes()) {
        *place = byte;
    }
    Ed25519KeyPair::from_seed_unchecked(&seed).expect("a key pair")
}

fn public(key: &str) -> Value {
    let x = URL_SAFE_NO_PAD.encode(pair(key).public_key().as_ref());
    json!({ "kty": "OKP", "crv": "Ed25519", "x": x })
}

/// A key set as the plugin publishes it.
fn published(keys: &[&str]) -> String {
    let keys = keys.iter().map(|key| {
        let mut jwk = public(key);
        jwk["kid"] = json!(key);
        jwk["alg"] = json!("EdDSA");
        jwk
    });
    json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
}

fn sign(key: &str, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(pair(key).sign(signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}

/// What the plugin puts into a token of ada's, an hour ago.
fn claims() -> Value {
    json!({
        "id": "ada", "name": "Ada L", "email": "ada@example.com", "emailVerified": true, "role": "admin",
        "iat": SECOND - 3600, "sub": "ada", "exp": SECOND + 900, "iss": ISSUER, "aud": ISSUER,
    })
}

/// The same, changed.
fn claims_with(changes: &[(&str, Value)]) -> Value {
    let mut claims = claims();
    for (name, value) in changes {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(*name)),
            value => claims[*name] = value.clone(),
        }
    }
    claims
}

fn token_by(key: &str, claims: &Value) -> String {
    sign(key, &json!({ "alg": "EdDSA", "kid": key }), claims)
}

fn token(claims: &Value) -> String {
    token_by("key-1", claims)
}

// ----------------------------------------------------------------------------------------------------------- whoever publishes keys

type Answering = Box<dyn Fn(&Seen, &mut std::net::TcpStream) + Send + Sync>;

/// Publishes keys, or does whatever it is told to.
struct Publisher {
    app: App,
    answering: Arc<Mutex<Answering>>,
    fetched: Arc<AtomicUsize>,
}

impl Publisher {
    fn of(keys: &[&str]) -> Self {
        let answering: Arc<Mutex<Answering>> = Arc::new(Mutex::new(Box::new(|_, _| {})));
        let fetched = Arc::new(AtomicUsize::new(0));
        let (answers, count) = (Arc::clone(&answering), Arc::clone(&fetched));
        let app = App::scripted(move |seen, stream| {
            if seen.line.starts_with("GET /api/auth/jwks") {
                count.fetch_add(1, Ordering::SeqCst);
                answers.lock().expect("not poisoned")(seen, stream);
            } else {
                reply(stream, 200, &[], b"app");
            }
        });
        let publisher = Self {
            app,
            answering,
            fetched,
        };
        publisher.publish(keys);
        publisher
    }

    fn publish(&self, keys: &[&str]) {
        let body = published(keys);
        self.answer(move |_, stream| {
            let headers = [("content-type", "application/json")];
            reply(stream, 200, &headers, body.as_bytes());
        });
    }

    fn answer(&self, with: impl Fn(&Seen, &mut std::net::TcpStream) + Send + Sync + 'static) {
        *self.answering.lock().expect("not poisoned") = Box::new(with);
    }

    fn fetched(&self) -> usize {
        self.fetched.load(Ordering::SeqCst)
    }
}

/// A gateway in front of a publisher. The runtime is where keys are fetched.
struct World {
    publisher: Publisher,
    gateway: Gateway,
    _runtime: Runtime,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn keys_at(address: SocketAddr, runtime: &Runtime) -> Arc<dyn KeySource> {
    let settings = keys_http::Settings {
        urls: vec![
            format!("http://{address}/api/auth/jwks")
                .parse()
                .expect("a URL"),
        ],
        host: Some("app.test".into()),
        algorithm: Some(Algorithm::EdDsa),
    };
    keys_http::open(settings, runtime.handle().clone()).expect("a source of keys")
}

fn issuer() -> Issuer {
    Issuer {
        issuer: ISSUER.into(),
        audience: vec![ISSUER.into()],
        algorithm: Some(Algorithm::EdDsa),
        ..Issuer::default()
    }
}

fn setup(app: SocketAddr, keys: Arc<dyn KeySource>) -> Setup {
    let mut setup = Setup::in_front_of(app);
    setup.authenticator.enabled = ["bearer".to_owned(), "jwt".to_owned()].into();
    setup.authenticator.jwt.app = issuer();
    setup.keys.app = Some(keys);
    setup
}

impl World {
    fn new(change: impl FnOnce(&mut Setup)) -> Self {
        let (publisher, runtime) = (Publisher::of(&["key-1"]), runtime());
        let keys = keys_at(publisher.app.address, &runtime);
        let mut setup = setup(publisher.app.address, keys);
        change(&mut setup);
        Self {
            gateway: setup.start(),
            publisher,
            _runtime: runtime,
        }
    }

    fn usual() -> Self {
        Self::new(|_| {})
    }

    fn get(&self, path: &str, token: &str) -> Answer {
        self.gateway
            .get(path, &[("authorization", &format!("Bearer {token}"))])
    }

    fn ask(&self, token: &str) -> u16 {
        self.get("/dashboard", token).status
    }

    fn told(&self, header: &str) -> Option<String> {
        self.publisher.app.last().header(header).map(str::to_owned)
    }
}

// ---------------------------------------------------------------------------------------------------------- who passes, and as whom

#[test]
fn a_token_of_the_plugin_signs_in_and_tells_the_app_who_it_is() {
    let world = World::usual();
    let good = token(&claims());
    for _ in 0..3 {
        assert_eq!(world.ask(&good), 200);
        for (header, value) in [
            ("x-auth-user-id", "ada"),
            ("x-auth-user-email", "ada@example.com"),
            ("x-auth-user-name", "Ada%20L"),
            ("x-auth-method", "jwt"),
        ] {
            assert_eq!(world.told(header).as_deref(), Some(value), "{header}");
        }
        assert_eq!(world.told("x-auth-session-id"), None);
        let forwarded = world.told("authorization");
        assert_eq!(forwarded, Some(format!("Bearer {good}")));
    }
    assert_eq!(
        world.get("/admin/x", &good).status,
        200,
        "by the role in it"
    );
    assert_eq!(world.publisher.fetched(), 1);
    assert_eq!(world.gateway.store.asked(), 0, "no session is looked up");
    let with_session = token(&claims_with(&[
        ("sid", json!("session-7")),
        ("role", Value::Null),
    ]));
    assert_eq!(world.ask(&with_session), 200);
    let told = world.told("x-auth-session-id");
    assert_eq!(told.as_deref(), Some("session-7"));
    assert_eq!(world.get("/admin/x", &with_session).status, 403);
}

#[test]
fn each_refusal_has_a_twin_that_passes() {
    let world = World::usual();
    let header = |header: Value| sign("key-1", &header, &claims());
    for (wrong, right) in [
        (
            claims_with(&[("exp", json!(SECOND))]),
            claims_with(&[("exp", json!(SECOND + 1))]),
        ),
        (
            claims_with(&[("exp", Value::Null)]),
            claims_with(&[("iat", Value::Null)]),
        ),
        (
            claims_with(&[("exp", json!("soon"))]),
            claims_with(&[("exp", json!(SECOND + 60))]),
        ),
        (
            claims_with(&[("nbf", json!(SECOND + 1))]),
            claims_with(&[("nbf", json!(SECOND))]),
        ),
        (
            claims_with(&[("iat", json!("now"))]),
            claims_with(&[("iat", json!(SECOND + 60))]),
        ),
        (
            claims_with(&[("aud", json!("other"))]),
            claims_with(&[("aud", json!(["other", ISSUER]))]),
        ),
        (
            claims_with(&[("aud", Value::Null)]),
            claims_with(&[("aud", json!([ISSUER]))]),
        ),
        (
            claims_with(&[("sub", json!(""))]),
            claims_with(&[("sub", json!("bob"))]),
        ),
        (
            claims_with(&[("sub", json!(7))]),
            claims_with(&[("sub", json!("7"))]),
        ),
        (
            claims_with(&[("pad", json!("x".repeat(8 * 1024)))]),
            claims_with(&[("pad", json!("x".repeat(1024)))]),
        ),
    ] {
        assert_eq!(world.ask(&token(&wrong)), 401, "{wrong}");
        assert_eq!(world.ask(&token(&right)), 200, "{right}");
    }
    for (wrong, right) in [
        (
            json!({"alg": "none", "kid": "key-1"}),
            json!({"alg": "EdDSA", "kid": "key-1"}),
        ),
        (
            json!({"alg": "HS256", "kid": "key-1"}),
            json!({"alg": "EdDSA", "kid": "key-1", "typ": "JWT"}),
        ),
        (
            json!({"alg": "EdDSA"}),
            json!({"alg": "EdDSA", "kid": "key-1", "cty": "x"}),
        ),
        (
            json!({"alg": "EdDSA", "kid": "key-1", "crit": ["exp"]}),
            json!({"alg": "EdDSA", "kid": "key-1", "x": 1}),
        ),
        (
            json!({"alg": "EdDSA", "kid": "key-1", "typ": "better-auth.session-cache+jwt"}),
            json!({"alg": "EdDSA", "kid": "key-1", "typ": "at+jwt"}),
        ),
    ] {
        assert_eq!(world.ask(&header(wrong.clone())), 401, "{wrong}");
        assert_eq!(world.ask(&header(right.clone())), 200, "{right}");
    }
    // Another key under the name of ours.
    let forged = sign("key-2", &json!({"alg": "EdDSA", "kid": "key-1"}), &claims());
    assert_eq!(world.ask(&forged), 401);
    assert_eq!(world.publisher.fetched(), 1);
}

#[test]
fn a_remembered_token_lends_nothing_to_another() {
    let world = World::usual();
    let good = token(&claims());
    assert_eq!(world.ask(&good), 200);
    for at in [good.len() - 2, good.len() / 2, 3] {
        let mut letters = good.clone().into_bytes();
        letters[at] = if letters[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(letters).expect("letters");
        assert_eq!(world.ask(&changed), 401, "letter {at}");
    }
    let unsigned = good.rsplit_once('.').expect("parts").0;
    assert_eq!(world.ask(&format!("{unsigned}.")), 401);
    assert_eq!(world.ask(&good), 200);
}

#[test]
fn a_remembered_token_ends_at_its_second() {
    let world = World::usual();
    let brief = token(&claims_with(&[("exp", json!(SECOND + 10))]));
    assert_eq!(world.ask(&brief), 200);
    world.gateway.clock.advance(Duration::from_millis(9_999));
    assert_eq!(world.ask(&brief), 200);
    world.gateway.clock.advance(Duration::from_millis(1));
    assert_eq!(world.ask(&brief), 401);
}

#[test]
fn a_bad_token_of_ours_is_refused_whatever_cookie_comes_with_it() {
    let world = World::usual();
    world.gateway.store.put(record("bob-token", "bob"));
    let with_cookie = |token: &str| {
        let headers = [
            ("authorization", &*format!("Bearer {token}")),
            ("cookie", &cookie("bob-token")),
        ];
        world.gateway.get("/dashboard", &headers).status
    };
    let forged = sign("key-2", &json!({"alg": "EdDSA", "kid": "key-1"}), &claims());
    assert_eq!(with_cookie(&forged), 401);
    let over = token(&claims_with(&[("exp", json!(SECOND))]));
    assert_eq!(with_cookie(&over), 401);
    // A good one wins, and one of an issuer nobody listed is somebody else's.
    assert_eq!(with_cookie(&token(&claims())), 200);
    assert_eq!(world.told("x-auth-user-id").as_deref(), Some("ada"));
    for iss in [json!("https://other.example"), Value::Null, json!(7)] {
        let foreign = token(&claims_with(&[("iss", iss)]));
        assert_eq!(with_cookie(&foreign), 200);
        assert_eq!(world.told("x-auth-user-id").as_deref(), Some("bob"));
        let forwarded = world.told("authorization");
        assert_eq!(forwarded, Some(format!("Bearer {foreign}")));
        assert_eq!(world.ask(&foreign), 401);
    }
}

#[test]
fn where_a_route_asks_for_the_present_a_token_does_not_count() {
    let world = World::usual();
    let good = token(&claims());
    assert_eq!(world.ask(&good), 200);
    assert_eq!(world.get("/strict/x", &good).status, 401);
    world.gateway.store.put(record("ada-token", "ada"));
    assert_eq!(world.get("/strict/x", "ada-token").status, 200);
}

#[test]
fn a_route_may_want_tokens_and_nothing_else() {
    let world = World::new(|setup| {
        let only = Conditions {
            credentials: vec!["jwt".into()],
            ..Conditions::default()
        };
        let only = rule(Need::SignedIn(only));
        setup.routes.routes.push(route("/api/:path*", only));
    });
    world.gateway.store.put(record("ada-token", "ada"));
    assert_eq!(world.get("/api/x", &token(&claims())).status, 200);
    assert_eq!(world.get("/api/x", "ada-token").status, 403);
    assert_eq!(world.get("/dashboard", "ada-token").status, 200);
}

#[test]
fn what_ends_sessions_has_tokens_checked_again_and_they_are_still_good() {
    let world = World::usual();
    let good = token(&claims());
    assert_eq!(world.ask(&good), 200);
    let sessions = Arc::clone(&world.gateway.running.gateway.gate.sessions);
    sessions.cache().forget_user("ada");
    // Taken out meanwhile, its key no longer says so.
    world.publisher.publish(&["key-2"]);
    assert_eq!(world.ask(&good), 200, "nobody can take a token back");
    sessions.cache().forget_user("ada");
    let second = token_by("key-2", &claims());
    world.gateway.clock.advance(Duration::from_secs(10));
    assert_eq!(world.ask(&second), 200);
    assert_eq!(world.ask(&good), 401);
}

#[test]
fn the_ban_in_a_token_counts_where_bans_do() {
    let banned = token(&claims_with(&[("banned", json!(true))]));
    assert_eq!(World::usual().ask(&banned), 200);
    let strict = World::new(|setup| setup.sessions.enforce_bans = true);
    assert_eq!(strict.ask(&banned), 401);
    for (until, status) in [(NOW.0 - 1, 200), (NOW.0 + 60_000, 401)] {
        let for_a_while = [("banned", json!(true)), ("banExpires", json!(date(until)))];
        assert_eq!(strict.ask(&token(&claims_with(&for_a_while))), status);
    }
    assert_eq!(strict.ask(&token(&claims())), 200);
}

// --------------------------------------------------------------------------------------------------------------------------- keys

#[test]
fn keys_are_asked_for_at_the_app_by_its_public_host() {
    let world = World::usual();
    assert_eq!(world.ask(&token(&claims())), 200);
    let seen = world.publisher.app.seen();
    let asked = seen.iter().find(|seen| seen.line.contains("/jwks"));
    let asked = asked.expect("keys were asked for");
    assert_eq!(asked.all("host"), ["app.test"]);
    assert_eq!(asked.all("cookie"), [""; 0]);
    assert_eq!(asked.all("authorization"), [""; 0]);
}

#[test]
fn many_at_once_cost_one_fetch() {
    let world = World::usual();
    let released = Arc::new(AtomicBool::new(false));
    let (gate, body) = (Arc::clone(&released), published(&["key-1"]));
    world.publisher.answer(move |_, stream| {
        while !gate.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        reply(stream, 200, &[], body.as_bytes());
    });
    let mut waiting: Vec<_> = (0..50)
        .map(|number| {
            let token = token(&claims_with(&[("sub", json!(format!("user-{number}")))]));
            let mut stream = connect(world.gateway.address);
            let request = format!(
                "GET /dashboard HTTP/1.1\r\nhost: app.test\r\nauthorization: Bearer {token}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).expect("it is sent");
            stream
        })
        .collect();
    await_until("the keys to be asked for", || {
        world.publisher.fetched() == 1
    });
    released.store(true, Ordering::SeqCst);
    let answers = waiting.iter_mut().map(|stream| read_answer(stream).status);
    let answers: Vec<u16> = answers.collect();
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    assert_eq!(world.publisher.fetched(), 1);
}

#[test]
fn a_storm_of_unknown_keys_does_not_reach_the_app() {
    let world = World::usual();
    assert_eq!(world.ask(&token(&claims())), 200);
    for round in 1..=3 {
        world.gateway.clock.advance(Duration::from_secs(10));
        for number in 0..50 {
            let kid = format!("made-up-{number}");
            let header = json!({ "alg": "EdDSA", "kid": kid });
            // A token older than the keys we have can have no other; of a newer one nobody can tell.
            let new = claims_with(&[("iat", json!(SECOND + 10 * round))]);
            assert_eq!(world.ask(&sign("key-2", &header, &claims())), 401);
            assert_eq!(world.ask(&sign("key-2", &header, &new)), 503);
        }
        assert_eq!(
            world.publisher.fetched(),
            1 + usize::try_from(round).expect("small")
        );
    }
    assert_eq!(world.ask(&token(&claims())), 200);
}

#[test]
fn a_new_key_counts_once_it_is_published_and_an_old_one_until_it_is_not() {
    let world = World::usual();
    let just_now = claims_with(&[("iat", json!(SECOND))]);
    let (old, new) = (token(&claims()), token_by("key-2", &just_now));
    assert_eq!(world.ask(&old), 200);
    world.publisher.publish(&["key-2", "key-1"]);
    // It was asked for a moment ago: nobody can tell yet, and nobody is signed out.
    assert_eq!(world.ask(&new), 503);
    world.gateway.clock.advance(Duration::from_secs(10));
    assert_eq!(world.ask(&new), 200);
    assert_eq!(world.ask(&old), 200);
    world.publisher.publish(&["key-2"]);
    // Fetched behind an answer; from then on the old key is gone, as soon as what is remembered grows old.
    world.gateway.clock.advance(Duration::from_secs(300));
    let before = world.publisher.fetched();
    assert_eq!(world.ask(&new), 200);
    await_until("the keys to be fetched", || {
        world.publisher.fetched() == before + 1
    });
    // Another token each time: one that came before the keys did is remembered.
    let asked = AtomicUsize::new(0);
    await_until("the old key to be gone", || {
        let name = format!("eve-{}", asked.fetch_add(1, Ordering::SeqCst));
        let other = token(&claims_with(&[("sub", json!(name))]));
        world.ask(&other) == 401
    });
    assert_eq!(world.ask(&new), 200);
}

#[test]
fn an_empty_set_right_after_deployment_is_no_reason_to_stay_out() {
    let world = World::usual();
    world.publisher.publish(&[]);
    assert_eq!(world.ask(&token(&claims())), 401);
    world.publisher.publish(&["key-1"]);
    world.gateway.clock.advance(Duration::from_secs(10));
    assert_eq!(world.ask(&token(&claims())), 200);
}

/// Nobody is signed out, nobody gets in, and once keys can be had again all is well.
fn trouble(what: &str, with: impl Fn(&Seen, &mut std::net::TcpStream) + Send + Sync + 'static) {
    let world = World::usual();
    world.publisher.answer(with);
    let good = token(&claims());
    assert_eq!(world.ask(&good), 503, "{what}");
    assert_eq!(world.get("/public/x", &good).status, 200, "{what}");
    assert_eq!(world.get("/optional/x", &good).status, 200, "{what}");
    assert_eq!(world.told("x-auth-user-id"), None, "{what}");
    // What no key makes right is refused all the same.
    let unsigned = sign("key-1", &json!({"alg": "none"}), &claims());
    assert_eq!(world.ask(&unsigned), 401, "{what}");
    let fetched = world.publisher.fetched();
    assert_eq!(world.ask(&good), 503, "{what}");
    assert_eq!(
        world.publisher.fetched(),
        fetched,
        "{what}: not asked at every request"
    );
    world.publisher.publish(&["key-1"]);
    world.gateway.clock.advance(Duration::from_secs(1));
    assert_eq!(world.ask(&good), 200, "{what}");
}

#[test]
fn keys_that_are_an_error_page() {
    trouble("an error page", |_, stream| {
        reply(stream, 500, &[], b"{\"keys\":[]}");
    });
}

#[test]
fn keys_that_are_elsewhere() {
    trouble("a redirect", |_, stream| {
        let headers = [("location", "http://127.0.0.1:1/jwks")];
        reply(stream, 302, &headers, b"");
    });
}

#[test]
fn keys_that_are_garbage() {
    trouble("garbage", |_, stream| {
        reply(stream, 200, &[], b"<html>not keys</html>");
    });
}

#[test]
fn keys_without_end() {
    trouble("an endless body", |_, stream| {
        let head = "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        while stream.write_all(chunk.as_bytes()).is_ok() {}
    });
}

#[test]
fn keys_that_never_come() {
    // The whole wait passes, so this one takes its three seconds.
    let silent: Mutex<Vec<std::net::TcpStream>> = Mutex::default();
    trouble("silence", move |_, stream| {
        let kept = stream.try_clone().expect("a handle");
        silent.lock().expect("not poisoned").push(kept);
    });
}

#[test]
fn keys_that_are_cut_off() {
    trouble("a cut connection", |_, stream| {
        let head = "HTTP/1.1 200 X\r\ncontent-length: 500\r\n\r\n{\"keys\":[";
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
}

#[test]
fn nobody_there_to_publish_keys() {
    let runtime = runtime();
    let app = App::start();
    let nobody = SocketAddr::from(([127, 0, 0, 1], crate::support::free_port()));
    let gateway = setup(app.address, keys_at(nobody, &runtime)).start();
    let headers = [("authorization", &*format!("Bearer {}", token(&claims())))];
    assert_eq!(gateway.get("/dashboard", &headers).status, 503);
    assert_eq!(gateway.get("/public/x", &headers).status, 200);
}

#[test]
fn keys_known_before_an_outage_count_through_it() {
    let world = World::usual();
    assert_eq!(world.ask(&token(&claims())), 200);
    world
        .publisher
        .answer(|_, stream| reply(stream, 502, &[], b""));
    world.gateway.clock.advance(Duration::from_secs(3600));
    let later = |key: &str, hours: i64| {
        let second = SECOND + 3600 * hours;
        token_by(key, &claims_with(&[("exp", json!(second + 900))]))
    };
    assert_eq!(world.ask(&later("key-1", 1)), 200);
    // This may be of a new key: nobody can tell.
    assert_eq!(world.ask(&later("key-2", 1)), 503);
    world.gateway.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(world.ask(&later("key-1", 25)), 503, "a day is enough");
}

// ------------------------------------------------------------------------------------------------------------------ other issuers

#[test]
fn another_issuer_counts_for_what_it_is_trusted_with() {
    let corporate = Publisher::of(&["corporate-1"]);
    let more = runtime();
    let other = keys_at(corporate.app.address, &more);
    let world = World::new(|setup| {
        let keys = Arc::clone(&other);
        let mut add = |name: &str, iss: &str, claims: Claims| {
            let issuer = Issuer {
                issuer: iss.into(),
                audience: vec!["vestibule".into()],
                claims,
                algorithm: None,
                ..Issuer::default()
            };
            let jwt = &mut setup.authenticator.jwt;
            jwt.issuers.insert(name.into(), issuer);
            setup.keys.issuers.insert(name.into(), Arc::clone(&keys));
        };
        add("plain", "https://plain.example", Claims::of_others());
        let mapped = Claims {
            subject: "uid".into(),
            email: "mail".into(),
            role: Some("groups".into()),
            ..Claims::of_others()
        };
        add("mapped", "https://mapped.example", mapped);
    });
    let of = |iss: &str, changes: &[(&str, Value)]| {
        let mut all = vec![("iss", json!(iss)), ("aud", json!("vestibule"))];
        all.extend_from_slice(changes);
        token_by("corporate-1", &claims_with(&all))
    };
    let plain = of("https://plain.example", &[("email_verified", json!(true))]);
    assert_eq!(world.ask(&plain), 200);
    assert_eq!(world.told("x-auth-user-id").as_deref(), Some("ada"));
    assert_eq!(world.told("x-auth-role"), None);
    assert_eq!(world.get("/admin/x", &plain).status, 403, "not by its word");

    let names = [
        ("uid", json!("u-7")),
        ("mail", json!("seven@corp.example")),
        ("groups", json!(["admin", "a,dmin"])),
    ];
    let mapped = of("https://mapped.example", &names);
    assert_eq!(world.get("/admin/x", &mapped).status, 200);
    assert_eq!(world.told("x-auth-user-id").as_deref(), Some("u-7"));
    assert_eq!(
        world.told("x-auth-user-email").as_deref(),
        Some("seven@corp.example")
    );

    // Its keys are good for its own tokens only, and only for those meant for us.
    assert_eq!(world.ask(&token_by("corporate-1", &claims())), 401);
    let elsewhere = of("https://plain.example", &[("aud", json!("another-app"))]);
    assert_eq!(world.ask(&elsewhere), 401);
    let ours = claims_with(&[
        ("iss", json!("https://plain.example")),
        ("aud", json!("vestibule")),
    ]);
    assert_eq!(world.ask(&token_by("key-1", &ours)), 401);
    assert_eq!(world.ask(&token(&claims())), 200);
}

// ----------------------------------------------------------------------------------------------------- as it is configured

#[test]
fn a_configured_gateway_finds_the_keys_of_the_app_and_of_others_by_itself() {
    let (publisher, other) = (Publisher::of(&["key-1"]), Publisher::of(&["corporate-1"]));
    let mut config = crate::config::fine(&format!(
        "[upstream]
url = \"http://{}\"
[better_auth]
secret = {{ env = \"BETTER_AUTH_SECRET\" }}
base_url = \"http://localhost:8080\"
enable = [\"jwt\"]
[better_auth.jwt.issuers.corporate]
issuer = \"https://corporate.example\"
audience = \"us\"
jwks_url = \"http://{}/api/auth/jwks?with=query\"
claims = {{ role = \"groups\" }}
[sessions]
source = \"{}\"
[routes]
default = \"signed-in\"
",
        publisher.app.address, other.app.address, "sqlite:app.db",
    ));
    // Judging a token needs no session.
    config.store = None;
    let explain = |token: &str| {
        let value = format!("Bearer {token}").parse().expect("a header value");
        let asked = vestibule::cli::explain::Asked {
            method: http::Method::GET,
            target: "/x".into(),
            host: "localhost".into(),
            headers: [(http::header::AUTHORIZATION, value)].into_iter().collect(),
        };
        vestibule::cli::gateway::explain(&config, &asked)
            .unwrap_or_else(|error| panic!("{}", error.message))
    };
    let second = chrono::Utc::now().timestamp();
    let own = "http://localhost:8080";
    let of = |iss: &str, aud: &str, exp: i64| {
        claims_with(&[
            ("iss", json!(iss)),
            ("aud", json!(aud)),
            ("exp", json!(exp)),
        ])
    };
    let good = explain(&token(&of(own, own, second + 60)));
    assert_eq!((&*good.credential, &*good.verdict), ("jwt", "allow"));
    assert!(
        good.stamped
            .contains(&("x-auth-user-id".into(), "ada".into()))
    );
    assert_eq!(publisher.fetched(), 1);
    let over = explain(&token(&of(own, own, second - 60)));
    assert_eq!(over.resolution, "rejected: expired");

    let by_other = |exp| token_by("corporate-1", &of("https://corporate.example", "us", exp));
    assert_eq!(explain(&by_other(second + 60)).verdict, "allow");
    assert_eq!(
        explain(&by_other(second - 60)).resolution,
        "rejected: expired"
    );
    let asked = other.app.last().line;
    assert!(
        asked.starts_with("GET /api/auth/jwks?with=query "),
        "{asked}"
    );
}

// ------------------------------------------------------------------------------------------- the cookie cache under the same key

#[test]
fn the_cookie_cache_that_the_plugin_signs_is_believed_once_its_keys_are_here() {
    let world = World::new(|setup| {
        setup.authenticator.cookie_cache = Some(cookie_cache::Settings {
            strategy: "jwks".into(),
            ..cookie_cache::Settings::default()
        });
        let quick = Rule {
            freshness: Freshness::Optimistic,
            ..signed_in()
        };
        setup.routes.routes.push(route("/quick/:path*", quick));
    });
    let session_token = "abcdefghijklmnopqrstuvwxyz012345";
    let sealed = |key: &str, changes: &[(&str, Value)]| {
        let mut claims = json!({
            "session": {
                "id": "session-7", "token": session_token, "userId": "ada", "expiresAt": date(NOW.0 + 86_400_000),
                "createdAt": date(NOW.0), "updatedAt": date(NOW.0), "ipAddress": "", "userAgent": "",
            },
            "user": {
                "id": "ada", "email": "ada@example.com", "name": "Ada", "emailVerified": true,
                "createdAt": date(NOW.0), "updatedAt": date(NOW.0),
            },
            "updatedAt": NOW.0, "version": "1", "sid": session_token, "sub": "ada",
            "iat": SECOND, "exp": SECOND + 300, "iss": ISSUER, "aud": "better-auth:session-cache",
        });
        for (name, value) in changes {
            claims[*name] = value.clone();
        }
        let header =
            json!({ "alg": "EdDSA", "kid": "key-1", "typ": "better-auth.session-cache+jwt" });
        let data = sign(key, &header, &claims);
        format!("{}; better-auth.session_data={data}", cookie(session_token))
    };
    let told = |cookies: &str| {
        let answer = world.gateway.get("/quick/x", &[("cookie", cookies)]);
        assert_eq!(answer.status, 200);
        world.told("x-auth-user-id")
    };
    let good = sealed("key-1", &[]);
    // Nobody waits for keys: the signature of the token suffices on this route.
    assert_eq!(told(&good), None);
    await_until("the keys to be here", || {
        told(&good).as_deref() == Some("ada")
    });
    assert_eq!(world.publisher.fetched(), 1);
    for (key, changes) in [
        ("key-2", vec![]),
        ("key-1", vec![("sid", json!("another"))]),
        ("key-1", vec![("sub", json!("bob"))]),
        ("key-1", vec![("iss", json!("https://other.example"))]),
        ("key-1", vec![("aud", json!(ISSUER))]),
        ("key-1", vec![("exp", json!(SECOND - 1))]),
    ] {
        assert_eq!(told(&sealed(key, &changes)), None, "{key} {changes:?}");
    }
    assert_eq!(world.gateway.store.asked(), 0);
}

// ------------------------------------------------------------------------------------------------------------- keys in the store

const TABLES: &str = "CREATE TABLE \"user\" (id varchar(36) PRIMARY KEY, email text);
    CREATE TABLE session (id varchar(36) PRIMARY KEY, token varchar(64) UNIQUE, \"userId\" varchar(36), \"expiresAt\" varchar(40));";

/// Asks a gateway that reads its keys from the table of this database.
async fn with_table(url: &str, tokens: &[(String, u16)]) {
    let opened = store::inspect(&settings(url)).await.expect("a store");
    let table = keys_table::Settings {
        algorithm: Algorithm::EdDsa,
        grace: Duration::from_secs(60),
    };
    let clock = Arc::new(ManualClock::at(NOW));
    assert_eq!(clock.now(), NOW);
    let rows = opened.keys.expect("the store reads keys");
    let keys = keys_table::open(rows, table, clock, tokio::runtime::Handle::current());
    let tokens = tokens.to_vec();
    let asking = tokio::task::spawn_blocking(move || {
        let app = App::start();
        let gateway = setup(app.address, keys).start();
        for (token, wanted) in &tokens {
            let headers = [("authorization", &*format!("Bearer {token}"))];
            let answer = gateway.get("/dashboard", &headers);
            assert_eq!(answer.status, *wanted, "{token}");
        }
    });
    asking.await.expect("no panic");
}

fn date(at: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at).expect("a date");
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn rows(table: &str) -> String {
    let [private, public_key, created, expires] =
        ["privateKey", "publicKey", "createdAt", "expiresAt"].map(|name| format!("\"{name}\""));
    let insert = |id: &str, expires_at: Option<i64>, alg: &str| {
        let end = expires_at.map_or("NULL".into(), |at| format!("'{}'", date(at)));
        format!(
            "INSERT INTO {table} (id, {public_key}, {private}, {created}, {expires}, alg) VALUES ('{id}', '{}', 'x', '{}', {end}, {alg});",
            public(id),
            date(NOW.0),
        )
    };
    format!(
        "CREATE TABLE {table} (id varchar(36) PRIMARY KEY, {public_key} text, {private} text, {created} varchar(40), {expires} varchar(40), alg varchar(20));
         {} {} {} {} {}",
        insert("live", None, "'EdDSA'"),
        insert("older", None, "NULL"),
        insert("ended", Some(NOW.0 - 60_000), "'EdDSA'"),
        insert("gone", Some(NOW.0 - 60_001), "'EdDSA'"),
        insert("other", None, "'ES256'"),
    )
}

fn by_each_key() -> Vec<(String, u16)> {
    [
        ("live", 200),
        ("older", 200),
        ("ended", 200),
        ("gone", 401),
        ("other", 401),
        ("nobodys", 401),
    ]
    .map(|(key, wanted)| (token_by(key, &claims()), wanted))
    .to_vec()
}

async fn sqlite(sql: &str) -> (String, Folder) {
    let folder = Folder::new("jwks");
    let url = format!("sqlite:{}", folder.join("app.db").display());
    let mut app = <sqlx::SqliteConnection as sqlx::Connection>::connect(&format!("{url}?mode=rwc"))
        .await
        .expect("a database");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
        .execute(&mut app)
        .await
        .expect("tables");
    (url, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_read_from_sqlite() {
    let (url, _folder) = sqlite(&format!("{TABLES} {}", rows("jwks"))).await;
    with_table(&url, &by_each_key()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_read_from_postgres() {
    let server = shared(Dialect::Postgres);
    let database = server.database();
    server.sql(&database, &format!("{TABLES} {}", rows("jwks")));
    with_table(&server.url(&database), &by_each_key()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_read_from_mysql() {
    let server = shared(Dialect::MySql);
    let database = server.database();
    let sql = format!("{TABLES} {}", rows("jwks")).replace('"', "`");
    // The public keys are JSON: their quotes are the only ones that stay.
    let sql = sql.replace("{`", "{\"").replace("`:`", "\":\"");
    let sql = sql.replace("`,`", "\",\"").replace("`}", "\"}");
    server.sql(&database, &sql);
    with_table(&server.url(&database), &by_each_key()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_from_before_algorithms_is_read_and_a_missing_one_is_an_outage() {
    let before = rows("jwks")
        .replace(", alg varchar(20)", "")
        .replace(", alg)", ")")
        .replace(", 'EdDSA');", ");")
        .replace(", 'ES256');", ");")
        .replace(", NULL, NULL);", ", NULL);");
    let (url, _folder) = sqlite(&format!("{TABLES} {before}")).await;
    with_table(&url, &[(token_by("live", &claims()), 200)]).await;
    let (url, _folder) = sqlite(TABLES).await;
    with_table(&url, &[(token_by("live", &claims()), 503)]).await;
    assert_eq!(UnixMs(SECOND * 1000), NOW);
}
