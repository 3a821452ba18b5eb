//! Signs people up and in, lets some sessions die in every way they can, and collects the credentials of all of them.

use std::net::SocketAddr;

use serde_json::{Value, json};
use vestibule::credential::signature::Signer;
use vestibule::secret::Secret;

use super::case::{CacheCookies, Cookie, Materials};
use super::server::{Browser, PASSWORD};
use super::world::World;

/// Names of the users there are.
const USERS: [&str; 3] = ["ada", "bob", "cleo"];

/// One more, whose whole name is longer than a cookie may be.
const LONG: &str = "eve";

/// In a world where nobody has been yet.
pub fn seed(world: &World) -> Materials {
    let at = world.server.address;
    for name in USERS.into_iter().chain(["root", "dora", LONG]) {
        Browser::sign_up(at, name);
    }
    if !world.has_database() {
        return again(world);
    }
    world
        .server
        .sql(r#"UPDATE "user" SET "role" = 'admin' WHERE "name" = 'root'"#);
    Browser::sign_in(at, "dora", true).done(
        at,
        "/two-factor/enable",
        &json!({ "password": PASSWORD }),
    );
    again(world)
}

/// In a world where everybody is known already.
pub fn again(world: &World) -> Materials {
    let at = world.server.address;
    let names = world.server.ask("cookies", json!({}));
    let named = |key: &str| names[key].as_str().expect("a cookie's name").to_owned();
    let mut materials = Materials {
        session_name: named("sessionToken"),
        cache_name: named("sessionData"),
        nothing_else: !world.has_database(),
        ..Materials::default()
    };

    let mut live = Vec::new();
    for name in USERS {
        live.push(Browser::sign_in(at, name, true));
        live.push(Browser::sign_in(at, name, false));
    }
    let mut long = Browser::sign_in(at, LONG, true);
    let name = "Evelyn ".repeat(800);
    long.done(at, "/update-user", &json!({ "name": name }));
    live.push(long);
    let mut pending = Browser::default();
    if world.has_database() {
        // An admin, at work as herself and as somebody else.
        let ada = user_id(&mut live[0].clone(), at);
        let mut admin = Browser::sign_in(at, "root", true);
        live.push(admin.clone());
        admin.done(at, "/admin/impersonate-user", &json!({ "userId": ada }));
        live.push(admin);
        // A device with two sessions.
        let mut device = live[0].clone();
        assert_eq!(device.sign_in_here(at, "bob", true).status, 200);
        live.push(device);
        // Half signed in: the second factor is due.
        let asked = pending.sign_in_here(at, "dora", true);
        assert!(
            asked.text().contains("twoFactorRedirect"),
            "{}",
            asked.text()
        );
    }

    for browser in &live {
        materials.add("live", browser);
    }
    for what in ["signed out", "expired", "deleted", "revoked"] {
        if !world.has_database() && what != "signed out" {
            continue;
        }
        let mut browser = Browser::sign_in(at, "bob", true);
        let kept = browser.clone();
        let token = browser.session_token();
        match what {
            "signed out" => {
                browser.done(at, "/sign-out", &json!({}));
            }
            "revoked" => {
                browser.done(at, "/revoke-session", &json!({ "token": token }));
            }
            "expired" => world.expire(&token),
            _ => world.delete(&token),
        }
        materials.add(what, &kept);
    }
    let strangers = Signer::new(&Secret::new("another app's secret, thirty-two letters"));
    let forged = strangers.issue(&live[0].session_token());
    materials.sessions.push((
        "another secret",
        Cookie {
            name: materials.session_name.clone(),
            value: forged,
        },
    ));

    for (name, value) in live
        .iter()
        .chain([&pending])
        .flat_map(|browser| &browser.seen)
    {
        if *name != materials.session_name && !name.starts_with(&materials.cache_name) {
            materials.others.push(Cookie {
                name: name.clone(),
                value: value.clone(),
            });
        }
    }
    let needed: &[&str] = match world.has_database() {
        true => &["two_factor", "dont_remember", "admin_session", "_multi-"],
        false => &["dont_remember"],
    };
    for needed in needed {
        assert!(
            materials
                .others
                .iter()
                .any(|cookie| cookie.name.contains(needed)),
            "there is no {needed} cookie"
        );
    }
    materials.others.push(account_data(world));
    if world.has("apiKey") {
        api_keys(world, &mut materials);
    }
    if let Some(strategy) = world.cache() {
        assert!(
            materials.caches.iter().any(|cache| cache.pieces.len() > 1),
            "no cache in pieces"
        );
        forged_caches(world, &live[..2], strategy, &mut materials);
    }
    materials.bearer = world.has("bearer");
    if world.reads_jwts() {
        jwts(world, &mut materials);
    }
    materials
}

/// The other cookie that the framework seals with its secret, as it writes it after a sign-in elsewhere.
fn account_data(world: &World) -> Cookie {
    let names = world.server.ask("cookies", json!({}));
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let account = json!({
        "id": "account", "accountId": "1", "providerId": "github", "userId": "somebody", "accessToken": "token", "refreshToken": null,
        "scope": "user:email", "createdAt": now, "updatedAt": now,
    });
    let how = json!({ "strategy": "jwe", "salt": "better-auth-account", "payload": account, "expiresIn": 300 });
    Cookie {
        name: names["accountData"].as_str().expect("a name").to_owned(),
        value: world
            .server
            .ask("seal", how)
            .as_str()
            .expect("a sealed text")
            .to_owned(),
    }
}

/// What a request with this session cookie carries when its cache says something of our choice.
fn forged_caches(world: &World, live: &[Browser], strategy: &str, materials: &mut Materials) {
    let at = world.server.address;
    let mut facts = live.iter().map(|browser| -> Value {
        let answer = browser
            .clone()
            .get(at, "/api/auth/get-session?disableRefresh=true");
        serde_json::from_slice(&answer.body).expect("a session")
    });
    let (mine, theirs) = (facts.next().expect("one"), facts.next().expect("another"));
    let now = jsonwebtoken::get_current_timestamp();
    let honest = || json!({ "session": mine["session"], "user": mine["user"], "updatedAt": now * 1000, "version": "1" });
    let session = Cookie {
        name: materials.session_name.clone(),
        value: live[0].cookies[&materials.session_name].clone(),
    };
    let mut add = |what: &'static str, payload: Value, how: Value| {
        let mut wanted = json!({ "strategy": strategy, "payload": payload, "expiresIn": 300 });
        for (key, value) in how.as_object().expect("a table") {
            wanted[key] = value.clone();
        }
        let sealed = world.server.ask("seal", wanted);
        let piece = Cookie {
            name: materials.cache_name.clone(),
            value: sealed.as_str().expect("a sealed text").to_owned(),
        };
        let cache = CacheCookies {
            session: session.clone(),
            pieces: vec![piece],
        };
        materials.forged.push((what, cache));
    };
    for _ in 0..8 {
        add("forged: honest", honest(), json!({}));
    }
    // One fact changed: where it stands, and what stands there then. Nothing: it is missing.
    let iso = |seconds: i64| {
        let at = i64::try_from(now).expect("now") + seconds;
        let at = chrono::DateTime::from_timestamp(at, 0).expect("a moment");
        at.format("%Y-%m-%dT%H:%M:%S").to_string()
    };
    let changes: Vec<(&'static str, &str, Option<Value>)> = vec![
        (
            "forged: another's token",
            "/session/token",
            Some(theirs["session"]["token"].clone()),
        ),
        ("forged: no token", "/session/token", None),
        ("forged: token no text", "/session/token", Some(json!(7))),
        (
            "forged: ended",
            "/session/expiresAt",
            Some(format!("{}.000Z", iso(-60)).into()),
        ),
        (
            "forged: ends otherwise",
            "/session/expiresAt",
            Some(json!((now + 3600) * 1000)),
        ),
        (
            "forged: ends otherwise",
            "/session/expiresAt",
            Some(format!("{}Z", iso(3600)).into()),
        ),
        (
            "forged: ends otherwise",
            "/session/expiresAt",
            Some(format!("{}.5Z", iso(3600)).into()),
        ),
        (
            "forged: ends otherwise",
            "/session/expiresAt",
            Some(format!("{}.000000Z", iso(3600)).into()),
        ),
        (
            "forged: ends otherwise",
            "/session/expiresAt",
            Some(format!("{}.000+00:00", iso(3600)).into()),
        ),
        (
            "forged: ends otherwise",
            "/session/expiresAt",
            Some("2036-02-30T00:00:00.000Z".into()),
        ),
        (
            "forged: ends otherwise",
            "/session/expiresAt",
            Some("2036-01-02".into()),
        ),
        (
            "forged: ends otherwise",
            "/session/expiresAt",
            Some("+012036-01-02T00:00:00.000Z".into()),
        ),
        ("forged: no end", "/session/expiresAt", None),
        ("forged: no end", "/session/expiresAt", Some(Value::Null)),
        ("forged: another version", "/version", Some("2".into())),
        ("forged: another version", "/version", Some(json!(1))),
        ("forged: no version", "/version", None),
        ("forged: empty version", "/version", Some("".into())),
        ("forged: no version", "/version", Some(Value::Null)),
        ("forged: made otherwise", "/updatedAt", Some("now".into())),
        ("forged: made otherwise", "/updatedAt", None),
        (
            "forged: made long ago",
            "/updatedAt",
            Some(json!((now - 864_000) * 1000)),
        ),
        (
            "forged: made tomorrow",
            "/updatedAt",
            Some(json!((now + 86_400) * 1000)),
        ),
        (
            "forged: another's user",
            "/user",
            Some(theirs["user"].clone()),
        ),
        (
            "forged: another's user id",
            "/user/id",
            Some("somebody".into()),
        ),
        (
            "forged: another's user id",
            "/session/userId",
            Some("somebody".into()),
        ),
        ("forged: user id no text", "/user/id", Some(json!(7))),
        ("forged: user id no text", "/session/userId", Some(json!(7))),
        ("forged: no user id", "/session/userId", None),
        ("forged: no user id", "/user/id", None),
        ("forged: no session id", "/session/id", None),
        ("forged: odd e-mail", "/user/email", None),
        (
            "forged: odd e-mail",
            "/user/email",
            Some("ADA@Example.com".into()),
        ),
        ("forged: odd e-mail", "/user/email", Some(json!(7))),
        ("forged: odd name", "/user/name", None),
        (
            "forged: odd name",
            "/user/name",
            Some("2024-01-02T03:04:05.678Z".into()),
        ),
        (
            "forged: odd name",
            "/user/name",
            Some("2024-01-02T03:04:05Z".into()),
        ),
        (
            "forged: odd name",
            "/user/name",
            Some("Zo\u{eb} \u{1f600} \u{2028}\u{0}\u{7f}\"\\/".into()),
        ),
        ("forged: odd name", "/user/name", Some(json!(1.5e300))),
        ("forged: odd flag", "/user/emailVerified", Some(json!(1))),
        (
            "forged: odd flag",
            "/user/emailVerified",
            Some("true".into()),
        ),
        ("forged: odd flag", "/user/emailVerified", Some(Value::Null)),
        ("forged: odd flag", "/user/emailVerified", None),
        ("forged: odd picture", "/user/image", Some(json!(7))),
        ("forged: odd picture", "/user/image", None),
        ("forged: odd address", "/session/ipAddress", Some(json!(7))),
        ("forged: odd address", "/session/ipAddress", None),
        (
            "forged: odd beginning",
            "/session/createdAt",
            Some("yesterday".into()),
        ),
        (
            "forged: odd beginning",
            "/session/createdAt",
            Some(json!(now * 1000)),
        ),
        ("forged: odd beginning", "/session/createdAt", None),
        (
            "forged: odd beginning",
            "/session/updatedAt",
            Some(Value::Null),
        ),
        (
            "forged: odd beginning",
            "/user/createdAt",
            Some(Value::Null),
        ),
        (
            "forged: more facts",
            "/user/more",
            Some(json!({ "10": 1, "9": [1.0, 1e21, -0.0, 0.1, 1e-7], "a": { "b": null } })),
        ),
        (
            "forged: more facts",
            "/session/more",
            Some(json!([{ "2": 1, "1": 2 }, "2024-01-02T03:04:05Z"])),
        ),
        ("forged: role", "/user/role", Some("admin".into())),
        ("forged: nobody", "/user", Some(Value::Null)),
        ("forged: nobody", "/user", None),
        ("forged: nobody", "/user", Some(json!([]))),
        ("forged: no session", "/session", Some(Value::Null)),
        ("forged: no session", "/session", None),
    ];
    for (what, place, fact) in changes {
        let mut payload = honest();
        let (parent, key) = place.rsplit_once('/').expect("a place");
        let parent = payload
            .pointer_mut(parent)
            .and_then(Value::as_object_mut)
            .expect("a table");
        match fact {
            Some(fact) => parent.insert(key.to_owned(), fact),
            None => parent.remove(key),
        };
        add(what, payload, json!({}));
    }
    // Honest facts, sealed otherwise.
    for (what, how) in [
        ("forged: sealed too long ago", json!({ "expiresIn": -30 })),
        (
            "forged: sealed just too long ago",
            json!({ "expiresIn": -5 }),
        ),
        (
            "forged: sealed by another secret",
            json!({ "secret": "another app's secret, thirty-two letters" }),
        ),
        ("forged: sealed otherwise", json!({ "strategy": "compact" })),
        ("forged: sealed otherwise", json!({ "strategy": "jwt" })),
        ("forged: sealed otherwise", json!({ "strategy": "jwe" })),
        (
            "forged: as account data",
            json!({ "strategy": "jwe", "salt": "better-auth-account" }),
        ),
        (
            "forged: other algorithm",
            json!({ "strategy": "jwt", "alg": "HS384" }),
        ),
        (
            "forged: other algorithm",
            json!({ "strategy": "jwt", "alg": "HS512" }),
        ),
        (
            "forged: other header",
            json!({ "strategy": "jwt", "header": { "typ": "JWT", "kid": "x" } }),
        ),
        (
            "forged: sealed for tomorrow",
            json!({ "strategy": "jwt", "notBefore": 3600 }),
        ),
        (
            "forged: sealed for ever",
            json!({ "strategy": "jwt", "expiresIn": null }),
        ),
    ] {
        add(what, honest(), how);
    }
    if strategy == "jwks" {
        forged_by_its_key(&mine, &theirs, now, |what, how| add(what, honest(), how));
    }
}

/// Honest facts under the right key, and something else about the token that no session cache of the framework's has.
fn forged_by_its_key(
    mine: &Value,
    theirs: &Value,
    now: u64,
    mut add: impl FnMut(&'static str, Value),
) {
    let user = |of: &Value| of["user"]["id"].clone();
    let session = |of: &Value| of["session"]["token"].clone();
    const AUDIENCE: &str = "better-auth:session-cache";
    for (what, name, value) in [
        ("forged: another issuer", "iss", json!("http://other.test")),
        ("forged: another issuer", "iss", json!("http://app.test/")),
        ("forged: another issuer", "iss", json!(AUDIENCE)),
        ("forged: another issuer", "iss", json!(["http://app.test"])),
        ("forged: no issuer", "iss", Value::Null),
        (
            "forged: audience of the API",
            "aud",
            json!("http://app.test"),
        ),
        ("forged: another audience", "aud", json!([])),
        ("forged: no audience", "aud", Value::Null),
        (
            "forged: one audience of two",
            "aud",
            json!(["http://app.test", AUDIENCE]),
        ),
        ("forged: another's subject", "sub", user(theirs)),
        ("forged: no subject", "sub", Value::Null),
        ("forged: another's sid", "sid", session(theirs)),
        ("forged: no sid", "sid", Value::Null),
        ("forged: sealed for ever", "exp", Value::Null),
        ("forged: odd end", "exp", json!((now + 300).to_string())),
        ("forged: odd end", "exp", json!(1e300)),
        ("forged: ends at a fraction", "exp", json!(0.5)),
        ("forged: sealed for tomorrow", "nbf", json!(now + 3600)),
        ("forged: odd beginning", "nbf", json!("now")),
        ("forged: sealed tomorrow", "iat", json!(now + 86_400)),
        ("forged: odd beginning", "iat", json!("now")),
        ("forged: id of a token", "jti", json!(7)),
    ] {
        add(what, json!({ "claims": { name: value } }));
    }
    // Another person's facts cannot be told by them either.
    let both = json!({ "sub": user(theirs), "sid": session(theirs) });
    add("forged: another's subject", json!({ "claims": both }));
    let more =
        json!({ "claims": { "user": theirs["user"], "sub": user(theirs), "sid": session(mine) } });
    add("forged: another's user", more);
    for (what, name, value) in [
        ("forged: a token of the API", "typ", Value::Null),
        ("forged: another type", "typ", json!("JWT")),
        (
            "forged: another type",
            "typ",
            json!("Better-Auth.Session-Cache+JWT"),
        ),
        (
            "forged: another type",
            "typ",
            json!("application/better-auth.session-cache+jwt"),
        ),
        ("forged: another key", "kid", json!("nobody's")),
        ("forged: another key", "kid", json!("")),
        ("forged: no key", "kid", Value::Null),
        ("forged: more in the header", "x", json!({ "y": 1 })),
    ] {
        add(what, json!({ "header": { name: value } }));
    }
}

/// Tokens of people, tokens with facts nobody vouches for, and tokens signed by others.
fn jwts(world: &World, materials: &mut Materials) {
    let server = &world.server;
    let mut add = |what: &'static str, token: String| materials.jwts.push((what, token));
    let token_of = |at: SocketAddr, name: &str| {
        let answer = Browser::sign_in(at, name, true).get(at, "/api/auth/token");
        let said: Value = serde_json::from_slice(&answer.body).expect("a token");
        said["token"].as_str().expect("a token").to_owned()
    };
    for name in USERS {
        add("good jwt", token_of(server.address, name));
    }
    let now = jsonwebtoken::get_current_timestamp();
    for (what, payload) in [
        ("good jwt", json!({ "sub": "somebody", "role": "user" })),
        (
            "good jwt",
            json!({ "sub": "somebody", "aud": ["http://elsewhere.test", "http://app.test"] }),
        ),
        (
            "jwt: signed tomorrow",
            json!({ "sub": "somebody", "iat": now + 86_400, "exp": now + 90_000 }),
        ),
        (
            "jwt: expired",
            json!({ "sub": "somebody", "exp": now - 3600 }),
        ),
        (
            "jwt: long ago",
            json!({ "sub": "somebody", "iat": 1, "exp": 2 }),
        ),
        (
            "jwt: not yet",
            json!({ "sub": "somebody", "nbf": now + 3600 }),
        ),
        (
            "jwt: another issuer",
            json!({ "sub": "somebody", "iss": "http://elsewhere.test" }),
        ),
        (
            "jwt: nearly the issuer",
            json!({ "sub": "somebody", "iss": "http://app.test/" }),
        ),
        (
            "jwt: another audience",
            json!({ "sub": "somebody", "aud": "http://elsewhere.test" }),
        ),
        ("jwt: nobody", json!({ "sub": "" })),
        ("jwt: no subject", json!({ "role": "admin" })),
    ] {
        let token = server.ask("signJwt", json!({ "payload": payload }));
        add(what, token.as_str().expect("a token").to_owned());
    }
    // The same app elsewhere: same secret, same issuer, same people, keys of its own.
    let elsewhere = World::start(world.plan_again());
    Browser::sign_up(elsewhere.server.address, "ada");
    add(
        "jwt: another's key",
        token_of(elsewhere.server.address, "ada"),
    );
    let published = Browser::default().get(server.address, "/api/auth/jwks");
    let published: Value = serde_json::from_slice(&published.body).expect("keys");
    let key = &published["keys"][0];
    let claims = json!({ "sub": "somebody", "iss": "http://app.test", "aud": "http://app.test", "exp": now + 900 });
    for (what, secret) in [
        (
            "jwt: signed by the secret",
            crate::support::SECRET.to_owned(),
        ),
        ("jwt: signed by the public key", key.to_string()),
        (
            "jwt: signed by the public key",
            key["x"].as_str().expect("x").to_owned(),
        ),
    ] {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = key["kid"].as_str().map(str::to_owned);
        let by = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        add(
            what,
            jsonwebtoken::encode(&header, &claims, &by).expect("a token"),
        );
    }
}

/// Keys of people and organizations, and keys that count no longer.
fn api_keys(world: &World, materials: &mut Materials) {
    let server = &world.server;
    let mut owner = Browser::sign_in(server.address, "ada", true);
    let ada = user_id(&mut owner, server.address);
    let create = |mut body: Value| {
        body["rateLimitEnabled"] = false.into();
        let made = server.ask("createApiKey", json!({ "body": body }));
        let text = |field: &str| made[field].as_str().expect("a new key").to_owned();
        (text("id"), text("key"))
    };
    let mut add = |what: &'static str, key: String| materials.api_keys.push((what, key));
    for name in USERS {
        let user = user_id(
            &mut Browser::sign_in(server.address, name, true),
            server.address,
        );
        add("good key", create(json!({ "userId": user })).1);
        add(
            "good key",
            create(json!({ "userId": user, "prefix": "shop_", "expiresIn": 86_400 })).1,
        );
    }
    for (what, change) in [
        ("key: disabled", r#""enabled" = false"#),
        (
            "key: expired",
            r#""expiresAt" = '2026-01-02T03:04:05.678Z'"#,
        ),
        ("key: used up", r#""remaining" = 0"#),
        ("key: of nobody", r#""referenceId" = 'nobody'"#),
        ("key: another's row", r#""key" = 'x'"#),
    ] {
        let (id, key) = create(json!({ "userId": ada }));
        server.sql(&format!(
            r#"UPDATE "apikey" SET {change} WHERE "id" = '{id}'"#
        ));
        add(what, key);
    }
    let (id, key) = create(json!({ "userId": ada }));
    server.sql(&format!(r#"DELETE FROM "apikey" WHERE "id" = '{id}'"#));
    add("key: deleted", key);
    add(
        "key: of another configuration",
        create(json!({ "userId": ada, "configId": "other" })).1,
    );
    let body = json!({ "name": "keys", "slug": "keys" });
    let organization = owner.done(server.address, "/organization/create", &body);
    let body =
        json!({ "userId": ada, "configId": "organization", "organizationId": organization["id"] });
    add("key: of an organization", create(body).1);
    let stranger: String = ('a'..='z').cycle().take(64).collect();
    add("key: of nowhere", stranger);
    // A session token is no key, and a short text none either.
    add("key: session token", owner.session_token());
}

impl Materials {
    /// Adds what a browser holds now.
    pub fn add(&mut self, what: &'static str, browser: &Browser) {
        let session = Cookie {
            name: self.session_name.clone(),
            value: browser.cookies[&self.session_name].clone(),
        };
        let cookies = browser.cookies.iter();
        let mut pieces: Vec<Cookie> = cookies
            .filter(|(name, _)| name.starts_with(&self.cache_name))
            .map(|(name, value)| Cookie {
                name: name.clone(),
                value: value.clone(),
            })
            .collect();
        if !pieces.is_empty() {
            // By number: ten comes after nine.
            pieces.sort_by_key(|piece| (piece.name.len(), piece.name.clone()));
            self.caches.push(CacheCookies {
                session: session.clone(),
                pieces,
            });
        }
        self.sessions.push((what, session));
    }
}

/// Whom a browser is signed in as.
pub fn user_id(browser: &mut Browser, at: SocketAddr) -> String {
    let answer = browser.get(at, "/api/auth/get-session");
    let said: Value = serde_json::from_slice(&answer.body).expect("a session");
    said["user"]["id"].as_str().expect("a user").to_owned()
}
