//! The cookie cache through the running gateway: when what the app sealed into `session_data` counts, and when it does not; and
//! deployments where it is all there is.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use vestibule::authenticator;
use vestibule::credential::cookie_cache::{
    self, CookieCache, Entropy, Payload, Remembered, Settings,
};
use vestibule::credential::signature::Signer;
use vestibule::credential::{names, secrets};
use vestibule::secret::Secret;
use vestibule::session::{BoxFuture, Freshness, Keeper, Record, Source, SourceError};
use vestibule::time::{Clock as _, UnixMs};

use crate::support::{
    App, Gateway, NOW, SECRET, Seen, Setup, cookie, record, reply, route, signed_in,
};

/// The framework's tokens are 32 letters and digits.
const TOKEN: &str = "4GGLPYz365f6Aowj9TVeTciHjffoV9Sc";

fn settings(strategy: &str) -> Settings {
    Settings {
        strategy: strategy.into(),
        ..Settings::default()
    }
}

fn cache(settings: &Settings) -> CookieCache {
    let names = names::Settings {
        base_url: Some("http://app.test".into()),
        cache_max_age: Some(settings.max_age.as_secs()),
        ..names::Settings::default()
    };
    let secrets = secrets::Settings::single(Secret::new(SECRET));
    let context = cookie_cache::Context {
        secrets: &secrets,
        published: None,
    };
    CookieCache::new(settings, &names, &context).expect("a strategy")
}

/// What the app says of ada's session when it writes the cookie.
fn said(token: &str, name: &str) -> Payload {
    let object = |value: serde_json::Value| value.as_object().expect("an object").clone();
    let expires_at = UnixMs(NOW.0 + 7 * 86_400_000);
    Payload {
        session: object(json!({
            "id": "s1", "token": token, "userId": "ada",
            "expiresAt": cookie_cache::date::write(expires_at),
            "createdAt": cookie_cache::date::write(UnixMs(NOW.0 - 60_000)),
        })),
        user: object(json!({
            "id": "ada", "email": "ada@example.com", "emailVerified": true, "name": name,
        })),
        updated_at: NOW,
        version: None,
        expires_at,
        session_expires_at: expires_at,
    }
}

/// Both cookies, the second one written at `at`.
fn cookies(cache: &CookieCache, said: &Payload, at: UnixMs) -> String {
    let value = cache.seal(said, Remembered::Yes, at, &Entropy([7; 32]));
    let value = value.expect("a sealed value");
    let lines = cache.set_cookies(&value, Remembered::Yes, &http::HeaderMap::new());
    let pairs = lines
        .iter()
        .map(|line| line.split(';').next().expect("a pair"));
    let token = said.session["token"].as_str().expect("a token");
    [cookie(token)]
        .into_iter()
        .chain(pairs.map(str::to_owned))
        .collect::<Vec<_>>()
        .join("; ")
}

/// A gateway that believes cookies, ten seconds after its start: what is written from then on is younger than anything it missed.
fn gateway(app: &App, settings: &Settings) -> Gateway {
    let mut setup = Setup::in_front_of(app.address);
    setup.authenticator.cookie_cache = Some(settings.clone());
    let mut optimistic = signed_in();
    optimistic.freshness = Freshness::Optimistic;
    setup
        .routes
        .routes
        .push(route("/optimistic/:path*", optimistic));
    let gateway = setup.start();
    gateway.clock.advance(Duration::from_secs(10));
    gateway
}

fn ask(gateway: &Gateway, path: &str, cookies: &str) -> u16 {
    gateway.get(path, &[("cookie", cookies)]).status
}

// ---------------------------------------------------------------------------------------------------------- beside a store

#[test]
fn a_fresh_cookie_saves_the_lookup_and_says_who_it_is() {
    for strategy in ["compact", "jwt", "jwe"] {
        let app = App::start();
        let settings = settings(strategy);
        let gateway = gateway(&app, &settings);
        let all = cookies(&cache(&settings), &said(TOKEN, "Ada"), gateway.clock.now());
        assert_eq!(ask(&gateway, "/dashboard", &all), 200, "{strategy}");
        assert_eq!(gateway.store.asked(), 0, "{strategy}");
        assert_eq!(app.last().header("x-auth-user-id"), Some("ada"));
        assert_eq!(
            app.last().header("x-auth-user-email"),
            Some("ada@example.com")
        );
        // What it said is remembered of the session, as a lookup of that moment would be.
        assert_eq!(ask(&gateway, "/dashboard", &cookie(TOKEN)), 200);
        assert_eq!(gateway.store.asked(), 0, "{strategy}");
    }
}

#[test]
fn a_cookie_older_than_cache_ttl_asks_the_store() {
    let app = App::start();
    let settings = settings("compact");
    let gateway = gateway(&app, &settings);
    let all = cookies(&cache(&settings), &said(TOKEN, "Ada"), gateway.clock.now());
    gateway.clock.advance(Duration::from_millis(29_999));
    assert_eq!(ask(&gateway, "/dashboard", &all), 200);
    assert_eq!(gateway.store.asked(), 0);
    // Memory does not make it younger.
    gateway.clock.advance(Duration::from_millis(1));
    assert_eq!(ask(&gateway, "/dashboard", &all), 401);
    assert_eq!(gateway.store.asked(), 1);
    gateway.clock.advance(Duration::from_secs(6));
    gateway.store.put(record(TOKEN, "ada"));
    assert_eq!(ask(&gateway, "/dashboard", &all), 200);
    assert_eq!(gateway.store.asked(), 2);
}

#[test]
fn a_cookie_from_the_future_or_from_before_our_start_asks_the_store() {
    let app = App::start();
    let settings = settings("compact");
    let gateway = gateway(&app, &settings);
    gateway.store.put(record(TOKEN, "ada"));
    let now = gateway.clock.now();
    for (at, lookups) in [
        (UnixMs(now.0 + 1), 1),
        (NOW, 1),
        (UnixMs(NOW.0 - 20_000), 1),
        (now, 0),
    ] {
        let token: String = format!("{:032}", at.0.unsigned_abs());
        gateway.store.put(record(&token, "ada"));
        let before = gateway.store.asked();
        let all = cookies(&cache(&settings), &said(&token, "Ada"), at);
        assert_eq!(ask(&gateway, "/dashboard", &all), 200);
        assert_eq!(gateway.store.asked() - before, lookups, "{at:?}");
    }
}

#[test]
fn at_optimistic_a_cookie_counts_for_its_life_and_at_strict_never() {
    let app = App::start();
    let settings = settings("jwe");
    let gateway = gateway(&app, &settings);
    let all = cookies(&cache(&settings), &said(TOKEN, "Ada"), gateway.clock.now());
    gateway.clock.advance(Duration::from_secs(200));
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "/optimistic/x", &all), 200);
        assert_eq!(app.last().header("x-auth-user-id"), Some("ada"));
    }
    assert_eq!(gateway.store.asked(), 0);
    // The token alone is genuine, and says nothing of anybody.
    assert_eq!(ask(&gateway, "/optimistic/x", &cookie(TOKEN)), 200);
    assert_eq!(app.last().header("x-auth-user-id"), None);
    // A strict route asks, whatever the cookie says.
    assert_eq!(ask(&gateway, "/strict/x", &all), 401);
    assert_eq!(gateway.store.asked(), 1);
    gateway.store.put(record(TOKEN, "ada"));
    assert_eq!(ask(&gateway, "/strict/x", &all), 200);
    assert_eq!(gateway.store.asked(), 2);
}

#[test]
fn what_is_not_whole_asks_the_store() {
    let app = App::start();
    let settings = settings("compact");
    let gateway = gateway(&app, &settings);
    let cache = cache(&settings);
    let now = gateway.clock.now();
    let good = cookies(&cache, &said(TOKEN, "Ada"), now);
    let other = "z".repeat(32);
    let of_another = {
        let theirs = cookies(&cache, &said(&other, "Eve"), now);
        let data = theirs.split("; ").nth(1).expect("session_data").to_owned();
        format!("{}; {data}", cookie(TOKEN))
    };
    let tampered = good.replace("session_data=ey", "session_data=fy");
    let cut = good[..good.len() - 10].to_owned();
    let newer = Settings {
        version: "2".into(),
        ..settings.clone()
    };
    let other_version = cookies(&self::cache(&newer), &said(TOKEN, "Ada"), now);
    let mut lookups = 0;
    for wrong in [of_another, tampered, cut, other_version] {
        assert_eq!(ask(&gateway, "/dashboard", &wrong), 401, "{wrong}");
        lookups += 1;
        assert_eq!(gateway.store.asked(), lookups, "{wrong}");
        // What the store has not is remembered as missing for a while.
        gateway.clock.advance(Duration::from_secs(6));
    }
    // And a whole one as old as they are, of a session that nobody has asked for yet.
    let whole = cookies(&cache, &said(&"w".repeat(32), "Ada"), now);
    assert_eq!(ask(&gateway, "/dashboard", &whole), 200);
    assert_eq!(gateway.store.asked(), lookups);
}

#[test]
fn a_session_the_store_has_called_dead_does_not_live_on_in_its_cookie() {
    let app = App::start();
    let settings = settings("compact");
    let gateway = gateway(&app, &settings);
    let cache = cache(&settings);
    let all = cookies(&cache, &said(TOKEN, "Ada"), gateway.clock.now());
    let bystander = cookies(&cache, &said(&"y".repeat(32), "Ada"), gateway.clock.now());
    for path in ["/optimistic/x", "/dashboard"] {
        assert_eq!(ask(&gateway, path, &all), 200);
        assert_eq!(app.last().header("x-auth-user-id"), Some("ada"));
    }
    assert_eq!(ask(&gateway, "/strict/x", &all), 401);
    // Also after it is no longer remembered that there is none.
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "/dashboard", &all), 401);
        gateway.clock.advance(Duration::from_secs(6));
    }
    // There the signature alone counts, and says nothing of anybody.
    assert_eq!(ask(&gateway, "/optimistic/x", &all), 200);
    assert_eq!(app.last().header("x-auth-user-id"), None);
    // Somebody else's counts on, and so does one that the app has written since.
    let asked = gateway.store.asked();
    assert_eq!(ask(&gateway, "/dashboard", &bystander), 200);
    let later = cookies(&cache, &said(TOKEN, "Ada"), gateway.clock.now());
    gateway.clock.advance(Duration::from_secs(6));
    assert_eq!(ask(&gateway, "/dashboard", &later), 200);
    assert_eq!(gateway.store.asked(), asked);
}

#[test]
fn a_cookie_without_a_session_token_is_nobody() {
    let app = App::start();
    let settings = settings("compact");
    let gateway = gateway(&app, &settings);
    let all = cookies(&cache(&settings), &said(TOKEN, "Ada"), gateway.clock.now());
    let alone = all.split("; ").nth(1).expect("session_data");
    assert_eq!(ask(&gateway, "/dashboard", alone), 401);
    assert_eq!(ask(&gateway, "/dashboard", &all), 200);
    assert_eq!(gateway.store.asked(), 0);
}

#[test]
fn a_long_cookie_is_read_in_chunks() {
    let app = App::start();
    let settings = settings("jwt");
    let gateway = gateway(&app, &settings);
    let long = "long ".repeat(1500);
    let all = cookies(&cache(&settings), &said(TOKEN, &long), gateway.clock.now());
    assert!(all.contains("session_data.2="), "{}", all.len());
    assert_eq!(ask(&gateway, "/dashboard", &all), 200);
    let without_first: Vec<&str> = all
        .split("; ")
        .filter(|pair| !pair.contains("data.0="))
        .collect();
    gateway.clock.advance(Duration::from_secs(31));
    assert_eq!(ask(&gateway, "/dashboard", &without_first.join("; ")), 401);
    assert_eq!(gateway.store.asked(), 1);
}

#[test]
fn a_cookie_from_before_a_sign_out_seen_passing_is_not_believed() {
    let app = App::start();
    let settings = settings("compact");
    let gateway = gateway(&app, &settings);
    let cache = cache(&settings);
    let all = cookies(&cache, &said(TOKEN, "Ada"), gateway.clock.now());
    let other = "y".repeat(32);
    let bystander = cookies(&cache, &said(&other, "Ada"), gateway.clock.now());
    assert_eq!(ask(&gateway, "/dashboard", &all), 200);
    let out = gateway.send("POST", "/api/auth/sign-out", &[("cookie", &all)], b"{}");
    assert_eq!(out.status, 200);
    for path in ["/dashboard", "/dashboard"] {
        assert_eq!(ask(&gateway, path, &all), 401);
    }
    assert!(gateway.store.asked() >= 1);
    // Somebody else's counts on.
    let asked = gateway.store.asked();
    assert_eq!(ask(&gateway, "/dashboard", &bystander), 200);
    assert_eq!(gateway.store.asked(), asked);
}

#[test]
fn a_cookie_from_before_its_user_was_evicted_is_not_believed_and_a_later_one_is() {
    let app = App::start();
    let settings = settings("compact");
    let gateway = gateway(&app, &settings);
    let cache = cache(&settings);
    let all = cookies(&cache, &said(TOKEN, "Ada"), gateway.clock.now());
    assert_eq!(ask(&gateway, "/dashboard", &all), 200);
    gateway
        .running
        .gateway
        .gate
        .sessions
        .cache()
        .forget_user("ada");
    assert_eq!(ask(&gateway, "/dashboard", &all), 401);
    assert_eq!(gateway.store.asked(), 1);
    gateway.clock.advance(Duration::from_secs(6));
    let later = cookies(&cache, &said(TOKEN, "Ada"), gateway.clock.now());
    assert_eq!(ask(&gateway, "/dashboard", &later), 200);
    assert_eq!(gateway.store.asked(), 1);
}

#[test]
fn a_session_with_an_active_organization_is_looked_up() {
    let app = App::start();
    let settings = settings("compact");
    let gateway = gateway(&app, &settings);
    let mut in_organization = said(TOKEN, "Ada");
    in_organization
        .session
        .insert("activeOrganizationId".into(), "acme".into());
    let all = cookies(&cache(&settings), &in_organization, gateway.clock.now());
    gateway.store.put(Record {
        organization_id: Some("acme".into()),
        organization_role: Some("owner".into()),
        ..record(TOKEN, "ada")
    });
    assert_eq!(ask(&gateway, "/dashboard", &all), 200);
    assert_eq!(gateway.store.asked(), 1);
}

#[test]
fn without_the_word_in_enable_no_cookie_is_believed() {
    let app = App::start();
    let gateway = Setup::in_front_of(app.address).start();
    gateway.clock.advance(Duration::from_secs(10));
    let all = cookies(
        &cache(&settings("compact")),
        &said(TOKEN, "Ada"),
        gateway.clock.now(),
    );
    assert_eq!(ask(&gateway, "/dashboard", &all), 401);
    assert_eq!(gateway.store.asked(), 1);
}

// --------------------------------------------------------------------------------------------------------- without a store

/// The app has no store.
struct Nowhere;

impl Source for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }

    fn find<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn keeper(&self) -> Keeper {
        Keeper::Cookie
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

const WEEK: Duration = Duration::from_secs(604_800);

fn stateless() -> Settings {
    Settings {
        strategy: cookie_cache::STRATEGY_WITHOUT_A_STORE.into(),
        max_age: WEEK,
        renew_within: WEEK / 5,
        ..Settings::default()
    }
}

/// An app that signs people out as the framework does, and sets a cookie of its own elsewhere when asked.
fn app_without_a_store() -> App {
    App::scripted(|seen: &Seen, stream| {
        let headers: &[(&str, &str)] = match seen.line.split(' ').nth(1).unwrap_or_default() {
            "/api/auth/sign-out" => &[(
                "set-cookie",
                "better-auth.session_token=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax",
            )],
            "/own" => &[("set-cookie", "better-auth.session_data=own; Path=/")],
            _ => &[],
        };
        reply(stream, 200, headers, b"ok");
    })
}

fn without_a_store(app: &App) -> Gateway {
    let mut setup = Setup::in_front_of(app.address);
    setup.cookies.expires_in = Some(WEEK.as_secs());
    setup.cookies.cache_max_age = Some(WEEK.as_secs());
    setup.authenticator = authenticator::Settings {
        cookie_cache: Some(stateless()),
        ..authenticator::Settings::default()
    };
    setup.start_from(Arc::new(Nowhere))
}

#[test]
fn where_the_cookie_is_the_session_it_counts_for_its_whole_life() {
    let app = app_without_a_store();
    let gateway = without_a_store(&app);
    let all = cookies(&cache(&stateless()), &said(TOKEN, "Ada"), NOW);
    for days in [0, 1, 5] {
        gateway.clock.set(UnixMs(NOW.0 + days * 86_400_000));
        assert_eq!(ask(&gateway, "/dashboard", &all), 200, "{days}");
        assert_eq!(app.last().header("x-auth-user-id"), Some("ada"));
        // The token without its cookie is nobody, whatever memory knows.
        assert_eq!(ask(&gateway, "/dashboard", &cookie(TOKEN)), 401);
    }
    gateway.clock.set(UnixMs(NOW.0 + 7 * 86_400_000 + 1000));
    assert_eq!(ask(&gateway, "/dashboard", &all), 401);
    // Nobody's cookies are taken away for it: the app may know better.
    let answer = gateway.document("/dashboard", &[("cookie", &all)]);
    assert_eq!(answer.all("set-cookie"), Vec::<&str>::new());
}

#[test]
fn near_its_end_the_cookie_is_written_anew_unless_the_app_does() {
    let app = app_without_a_store();
    let gateway = without_a_store(&app);
    let all = cookies(&cache(&stateless()), &said(TOKEN, "Ada"), NOW);
    let at = |ms: i64| gateway.clock.set(UnixMs(NOW.0 + ms));
    let window = i64::try_from((WEEK - WEEK / 5).as_millis()).expect("it fits");
    at(window - 2000);
    let answer = gateway.get("/dashboard", &[("cookie", &all)]);
    assert_eq!(answer.all("set-cookie"), Vec::<&str>::new());
    at(window + 2000);
    let answer = gateway.get("/dashboard", &[("cookie", &all)]);
    let lines = answer.all("set-cookie");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("better-auth.session_data=") && lines[0].contains("; Max-Age=604800;")
    );
    let token = format!(
        "{}; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax",
        cookie(TOKEN)
    );
    assert_eq!(lines[1], token);
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    // The new one carries on, for as long as the session in it.
    let renewed = lines[0].split(';').next().expect("a pair");
    let renewed = format!("{}; {renewed}", cookie(TOKEN));
    at(7 * 86_400_000 - 1000);
    assert_eq!(ask(&gateway, "/dashboard", &renewed), 200);
    at(7 * 86_400_000 + 1);
    assert_eq!(ask(&gateway, "/dashboard", &renewed), 401);
    // The app's own cookie stands.
    at(window + 2000);
    let answer = gateway.get("/own", &[("cookie", &all)]);
    assert_eq!(
        answer.all("set-cookie"),
        ["better-auth.session_data=own; Path=/"]
    );
}

#[test]
fn a_session_that_ends_with_the_browser_stays_one_when_it_is_written_anew() {
    let app = app_without_a_store();
    let gateway = without_a_store(&app);
    let all = cookies(&cache(&stateless()), &said(TOKEN, "Ada"), NOW);
    let marker = Signer::new(&Secret::new(SECRET)).issue("true");
    let all = format!("{all}; better-auth.dont_remember={marker}");
    gateway.clock.set(UnixMs(NOW.0 + 6 * 86_400_000));
    let answer = gateway.get("/dashboard", &[("cookie", &all)]);
    let lines = answer.all("set-cookie");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(
        lines[1],
        format!("{}; Path=/; HttpOnly; SameSite=Lax", cookie(TOKEN))
    );
}

#[test]
fn a_sign_out_seen_passing_ends_the_cookie_for_whoever_still_has_it() {
    let app = app_without_a_store();
    let gateway = without_a_store(&app);
    let cache = cache(&stateless());
    let all = cookies(&cache, &said(TOKEN, "Ada"), NOW);
    let elsewhere = cookies(&cache, &said(&"y".repeat(32), "Ada"), NOW);
    assert_eq!(ask(&gateway, "/dashboard", &all), 200);
    assert_eq!(ask(&gateway, "/dashboard", &elsewhere), 200);
    // Changes to the user forget what is remembered, and end nobody's session.
    gateway
        .running
        .gateway
        .gate
        .sessions
        .cache()
        .forget_user("ada");
    assert_eq!(ask(&gateway, "/dashboard", &all), 200);
    gateway.send("POST", "/api/auth/sign-out", &[("cookie", &all)], b"{}");
    assert_eq!(ask(&gateway, "/dashboard", &all), 401);
    // Nor does a copy that the app wrote later count, nor is it written anew.
    gateway.clock.set(UnixMs(NOW.0 + 6 * 86_400_000));
    let answer = gateway.get("/dashboard", &[("cookie", &all)]);
    assert_eq!((answer.status, answer.all("set-cookie")), (401, Vec::new()));
    let copy = cookies(&cache, &said(TOKEN, "Ada"), gateway.clock.now());
    assert_eq!(ask(&gateway, "/dashboard", &copy), 401);
    // The same person's other device stays signed in.
    assert_eq!(ask(&gateway, "/dashboard", &elsewhere), 200);
}

#[test]
fn what_an_operator_evicts_does_not_come_back() {
    let app = app_without_a_store();
    let gateway = without_a_store(&app);
    let cache = cache(&stateless());
    let one = cookies(&cache, &said(TOKEN, "Ada"), NOW);
    let two = cookies(&cache, &said(&"y".repeat(32), "Ada"), NOW);
    let evict = |body: &str| {
        let request = format!(
            "POST /sessions/evict HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer admin token of the tests\r\ncontent-length: {}\r\n\r\n{body}",
            gateway.admin,
            body.len()
        );
        crate::support::exchange(gateway.admin, request.as_bytes()).status
    };
    for all in [&one, &two] {
        assert_eq!(ask(&gateway, "/dashboard", all), 200);
    }
    assert_eq!(evict(&format!("{{\"token\":\"{TOKEN}\"}}")), 204);
    assert_eq!(ask(&gateway, "/dashboard", &one), 401);
    assert_eq!(ask(&gateway, "/dashboard", &two), 200);
    // A user who is evicted may sign in again.
    assert_eq!(evict("{\"user\":\"ada\"}"), 204);
    assert_eq!(ask(&gateway, "/dashboard", &two), 401);
    gateway.clock.advance(Duration::from_secs(1));
    let mut again = said(&"x".repeat(32), "Ada");
    let began = cookie_cache::date::write(gateway.clock.now());
    again.session.insert("createdAt".into(), began.into());
    let again = cookies(&cache, &again, gateway.clock.now());
    assert_eq!(ask(&gateway, "/dashboard", &again), 200);
}

#[test]
fn a_sign_out_that_the_app_refused_ends_nothing() {
    let app = App::scripted(|seen: &Seen, stream| {
        match seen.line.split(' ').nth(1).unwrap_or_default() {
            "/api/auth/sign-out" => reply(stream, 403, &[], b"no"),
            _ => reply(stream, 200, &[], b"ok"),
        }
    });
    let gateway = without_a_store(&app);
    let all = cookies(&cache(&stateless()), &said(TOKEN, "Ada"), NOW);
    gateway.send("POST", "/api/auth/sign-out", &[("cookie", &all)], b"{}");
    assert_eq!(ask(&gateway, "/dashboard", &all), 200);
}
