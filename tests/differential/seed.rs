//! Signs people up and in, lets some sessions die in every way they can, and collects the credentials of all of them.

use std::net::SocketAddr;

use serde_json::{Value, json};
use vestibule::credential::signature::Signer;
use vestibule::secret::Secret;

use super::case::{CacheCookies, Cookie, Materials};
use super::server::{Browser, PASSWORD};
use super::world::World;

/// Names of the users there are; one is longer than a cookie may be.
const USERS: [&str; 3] = ["ada", "bob", "cleo"];

/// In a world where nobody has been yet.
pub fn seed(world: &World) -> Materials {
    let at = world.server.address;
    for name in USERS.into_iter().chain(["root", "dora"]) {
        Browser::sign_up(at, name);
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
        ..Materials::default()
    };

    let mut live = Vec::new();
    for name in USERS {
        live.push(Browser::sign_in(at, name, true));
        live.push(Browser::sign_in(at, name, false));
    }
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
    let mut pending = Browser::default();
    let asked = pending.sign_in_here(at, "dora", true);
    assert!(
        asked.text().contains("twoFactorRedirect"),
        "{}",
        asked.text()
    );

    for browser in &live {
        materials.add("live", browser);
    }
    for what in ["signed out", "expired", "deleted", "revoked"] {
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
    for needed in ["two_factor", "dont_remember", "admin_session", "_multi-"] {
        assert!(
            materials
                .others
                .iter()
                .any(|cookie| cookie.name.contains(needed)),
            "there is no {needed} cookie"
        );
    }
    if world.has("apiKey") {
        api_keys(world, &mut materials);
    }
    materials.bearer = world.has("bearer");
    if world.has("jwt") {
        jwts(world, &mut materials);
    }
    materials
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
