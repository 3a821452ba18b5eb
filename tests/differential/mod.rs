//! Vestibule beside a real Better Auth: the same requests to both, and never a stranger let in that the framework would not know.
//!
//! `oracle/` is the framework as people install it, `server.rs` runs it, `case.rs` bends real credentials in every way we could think
//! of, `compare.rs` asks both. What the framework's plugins do through a gateway is in `plugins.rs`.

mod case;
mod compare;
mod dice;
mod plugins;
pub mod server;

use serde_json::json;

use case::{Cookie, Materials};
use compare::{Plan, World, compare};
use server::Browser;

use crate::support::Setup;

/// Names of the users there are.
const USERS: [&str; 3] = ["ada", "bob", "cleo"];

/// Signs people up and in, lets some sessions die in every way they can, and collects the credentials of all of them.
fn seed(world: &World) -> Materials {
    let at = world.server.address;
    let server = &world.server;
    let mut materials = Materials::default();
    let names = server.ask("cookies", json!({}));
    let named = |key: &str| names[key].as_str().expect("a cookie's name").to_owned();
    materials.session_name = named("sessionToken");
    materials.cache_name = named("sessionData");

    let mut live = Vec::new();
    for name in USERS {
        live.push(Browser::sign_up(at, name));
        live.push(Browser::sign_in(at, name, true));
        live.push(Browser::sign_in(at, name, false));
    }
    // An admin at work as somebody else, with a session that is theirs to come back to.
    Browser::sign_up(at, "root");
    let ada = user_id(&mut live[0].clone(), at);
    server.sql("UPDATE user SET role = 'admin' WHERE name = 'root'");
    let mut admin = Browser::sign_in(at, "root", true);
    live.push(admin.clone());
    admin.done(at, "/admin/impersonate-user", &json!({ "userId": ada }));
    live.push(admin.clone());
    // Half signed in: the second factor is due.
    let mut dora = Browser::sign_up(at, "dora");
    dora.done(
        at,
        "/two-factor/enable",
        &json!({ "password": server::PASSWORD }),
    );
    live.push(dora.clone());
    let mut pending = Browser::default();
    let asked = pending.sign_in_here(at, "dora", true);
    assert!(
        asked.text().contains("twoFactorRedirect"),
        "{}",
        asked.text()
    );

    let session_name = materials.session_name.clone();
    let session_of = |browser: &Browser| Cookie {
        name: session_name.clone(),
        value: browser.cookies[&session_name].clone(),
    };
    for browser in &live {
        materials.sessions.push(("live", session_of(browser)));
    }
    let mut gone = |what: &'static str, end: &dyn Fn(&mut Browser)| {
        let mut browser = Browser::sign_in(at, "bob", true);
        let session = session_of(&browser);
        end(&mut browser);
        materials.sessions.push((what, session));
    };
    gone("signed out", &|browser| {
        browser.done(at, "/sign-out", &json!({}));
    });
    gone("expired", &|browser| {
        let token = browser.session_token();
        server.sql(&format!(
            "UPDATE session SET expiresAt = '2026-01-02T03:04:05.678Z' WHERE token = '{token}'"
        ));
    });
    gone("deleted", &|browser| {
        let token = browser.session_token();
        server.sql(&format!("DELETE FROM session WHERE token = '{token}'"));
    });
    gone("revoked", &|browser| {
        let token = browser.session_token();
        browser.done(at, "/revoke-session", &json!({ "token": token }));
    });
    let strangers = vestibule::credential::signature::Signer::new(&vestibule::secret::Secret::new(
        "another app's secret, thirty-two letters",
    ));
    let token = live[0].session_token();
    materials.sessions.push((
        "another secret",
        Cookie {
            name: session_name.clone(),
            value: strangers.issue(&token),
        },
    ));

    for browser in live.iter().chain([&pending]) {
        for (name, value) in &browser.seen {
            if *name != session_name && !name.starts_with(&materials.cache_name) {
                materials.others.push(Cookie {
                    name: name.clone(),
                    value: value.clone(),
                });
            }
        }
    }
    for needed in ["two_factor", "dont_remember", "admin_session", "_multi-"] {
        assert!(
            materials
                .others
                .iter()
                .any(|cookie| cookie.name.contains(needed)),
            "there is no {needed} cookie among {:?}",
            materials.others
        );
    }
    materials
}

fn user_id(browser: &mut Browser, at: std::net::SocketAddr) -> String {
    let answer = browser.get(at, "/api/auth/get-session");
    let said: serde_json::Value = serde_json::from_slice(&answer.body).expect("a session");
    said["user"]["id"].as_str().expect("a user").to_owned()
}

/// The plugins that make cookies and sessions of their own.
fn plugins() -> serde_json::Value {
    json!({ "admin": {}, "organization": { "teams": { "enabled": true } }, "twoFactor": { "skipVerificationOnEnable": true }, "multiSession": {} })
}

fn usual(setup: &mut Setup) {
    setup.routes.routes.push(compare::cached());
}

#[test]
fn the_session_cookie() {
    let world = World::start(&Plan {
        server: json!({ "plugins": plugins() }),
        gateway: usual,
    });
    let materials = seed(&world);
    compare("session cookie", &world, &materials, 3000);
}

#[test]
fn the_session_cookie_under_a_secure_name() {
    let world = World::start(&Plan {
        server: json!({
            "options": { "advanced": { "useSecureCookies": true, "cookiePrefix": "shop" } },
            "plugins": plugins(),
        }),
        gateway: |setup| {
            usual(setup);
            setup.cookies.secure_cookies = Some(true);
            setup.cookies.prefix = Some("shop".into());
        },
    });
    let materials = seed(&world);
    assert_eq!(materials.session_name, "__Secure-shop.session_token");
    compare(
        "session cookie with a secure name",
        &world,
        &materials,
        1000,
    );
}
