//! Vestibule beside a real Better Auth: the same requests to both, and never a stranger let in that the framework would not know.
//!
//! `oracle/` is the framework as people install it, `server.rs` runs it, `gateway.rs` runs the program, `case.rs` bends real
//! credentials in every way we could think of, `compare.rs` asks both. What the framework's plugins do through a gateway is in
//! `plugins.rs`.
//!
//! `VESTIBULE_DIFFERENTIAL_SEED` and `VESTIBULE_DIFFERENTIAL_CASES` choose another run; `VESTIBULE_DIFFERENTIAL_LABELS` also prints
//! how often each change was made and let in. Ids and secrets are the framework's own and new in every run, so that a seed
//! repeats what is done to them, not the bytes.

mod case;
mod compare;
pub mod dice;
pub mod gateway;
mod plugins;
mod seed;
pub mod server;
mod world;

use serde_json::{Value, json};

use compare::compare;
use seed::seed;
use world::{Plan, Store, World};

/// The plugins that make cookies and sessions of their own.
fn plugins() -> Value {
    json!({
        "admin": {},
        "organization": { "teams": { "enabled": true } },
        "twoFactor": { "skipVerificationOnEnable": true },
        "multiSession": {},
    })
}

#[test]
fn the_session_cookie() {
    let world = World::start(Plan {
        server: json!({ "plugins": plugins() }),
        ..Plan::default()
    });
    compare("session cookie", &world, &seed(&world), 2000).finish();
}

#[test]
fn the_session_cookie_under_another_name_in_postgres() {
    let world = World::start(Plan {
        store: Store::Postgres,
        server: json!({
            "options": { "advanced": { "useSecureCookies": true, "cookiePrefix": "shop" } },
            "plugins": plugins(),
        }),
        better_auth: "secure_cookies = true\ncookie_prefix = \"shop\"",
        ..Plan::default()
    });
    let materials = seed(&world);
    assert_eq!(materials.session_name, "__Secure-shop.session_token");
    compare("secure session cookie, PostgreSQL", &world, &materials, 700).finish();
}

#[test]
fn sessions_in_redis() {
    let world = World::start(Plan {
        store: Store::Redis,
        server: json!({ "plugins": plugins() }),
        ..Plan::default()
    });
    compare("sessions in Redis", &world, &seed(&world), 700).finish();
}

/// What the old secret signed is refused by the framework the moment a new one is first in the list.
#[test]
fn a_rotated_secret() {
    const OLD: &str = "the secret before, thirty-two letters long";
    const NEW: &str = "the secret now, also thirty-two letters long";
    let mut world = World::start(Plan {
        server: json!({ "plugins": plugins(), "options": { "secrets": [{ "version": 1, "value": OLD }] } }),
        better_auth: r#"secrets = [{ version = 2, value = "the secret now, also thirty-two letters long" }, { version = 1, value = "the secret before, thirty-two letters long" }]"#,
        ..Plan::default()
    });
    let mut before = seed(&world);
    let secrets = json!([{ "version": 2, "value": NEW }, { "version": 1, "value": OLD }]);
    world.restart("secrets", secrets);
    for (what, _) in &mut before.sessions {
        *what = "rotated";
    }
    let mut materials = seed::again(&world);
    materials.sessions.append(&mut before.sessions);
    compare("rotated secret", &world, &materials, 700).finish();
}

#[test]
fn api_keys_in_place_of_sessions() {
    let mut plugins = plugins();
    plugins["apiKey"] = json!([
        { "configId": "default", "enableSessionForAPIKeys": true },
        { "configId": "other" },
        { "configId": "organization", "references": "organization" },
    ]);
    let world = World::start(Plan {
        server: json!({ "plugins": plugins }),
        better_auth: r#"enable = ["api_key"]"#,
        ..Plan::default()
    });
    compare("API keys", &world, &seed(&world), 1000).finish();
}

#[test]
fn bearer_tokens() {
    for (name, options, better_auth) in [
        ("bearer", json!({}), r#"enable = ["bearer"]"#),
        (
            "bearer with a signature",
            json!({ "requireSignature": true }),
            "enable = [\"bearer\"]\nbearer = { require_signature = true }",
        ),
    ] {
        let mut plugins = plugins();
        plugins["bearer"] = options;
        let world = World::start(Plan {
            server: json!({ "plugins": plugins }),
            better_auth,
            ..Plan::default()
        });
        compare(name, &world, &seed(&world), 1000).finish();
    }
}

#[test]
fn jwts() {
    for (name, better_auth) in [
        ("jwt", r#"enable = ["jwt"]"#),
        (
            "jwt, keys in the store",
            "enable = [\"jwt\"]\njwt = { keys = \"store\" }",
        ),
        (
            "jwt and bearer, falling through",
            "enable = [\"jwt\", \"bearer\"]\nfall_through = true",
        ),
    ] {
        let mut plugins = plugins();
        plugins["jwt"] = json!({});
        if better_auth.contains("bearer") {
            plugins["bearer"] = json!({});
        }
        let world = World::start(Plan {
            server: json!({ "plugins": plugins }),
            better_auth,
            ..Plan::default()
        });
        compare(name, &world, &seed(&world), 700).finish();
    }
}

/// Whether a sealed cookie saves the lookup, and never makes anybody of it whom the framework would not.
fn cookie_cache(name: &str, strategy: &str, signed_by_keys: bool, better_auth: &'static str) {
    let mut plugins = plugins();
    if signed_by_keys {
        plugins["jwt"] = json!({ "sessionCookieCache": true });
    }
    let cache = json!({ "enabled": true, "maxAge": 300, "strategy": strategy });
    let world = World::start(Plan {
        server: json!({ "plugins": plugins, "options": { "session": { "cookieCache": cache } } }),
        better_auth,
        // What the store does not have is forgotten at once here, so that the sealed cookie has its say.
        sessions: "cache_ttl = \"5m\"\nnegative_ttl = \"1ms\"",
        ..Plan::default()
    });
    compare(name, &world, &seed(&world), 1200).finish();
}

#[test]
fn a_compact_session_cache() {
    cookie_cache(
        "compact session cache",
        "compact",
        false,
        "enable = [\"cookie_cache\"]",
    );
}

#[test]
fn a_session_cache_signed_by_the_secret() {
    let better_auth = "enable = [\"cookie_cache\"]\ncookie_cache = { strategy = \"jwt\" }";
    cookie_cache("jwt session cache", "jwt", false, better_auth);
}

#[test]
fn a_sealed_session_cache() {
    let better_auth = "enable = [\"cookie_cache\"]\ncookie_cache = { strategy = \"jwe\" }";
    cookie_cache("jwe session cache", "jwe", false, better_auth);
}

/// The one kind that is checked by public keys: those the app publishes, and those in its table.
#[test]
fn a_session_cache_signed_by_the_keys_of_the_app() {
    for (name, better_auth) in [
        (
            "jwks session cache",
            "enable = [\"cookie_cache\"]\ncookie_cache = { strategy = \"jwks\" }",
        ),
        (
            "jwks session cache, keys in the store, beside JWTs",
            "enable = [\"cookie_cache\", \"jwt\"]\njwt = { keys = \"store\" }\ncookie_cache = { strategy = \"jwks\" }",
        ),
    ] {
        cookie_cache(name, "jwt", true, better_auth);
    }
}

/// A session cache that the gateway does not read.
#[test]
fn a_session_cache_that_is_left_alone() {
    let cache = json!({ "enabled": true, "maxAge": 300 });
    let world = World::start(Plan {
        server: json!({ "plugins": plugins(), "options": { "session": { "cookieCache": cache } } }),
        ..Plan::default()
    });
    compare("session cache left alone", &world, &seed(&world), 500).finish();
}

/// Caches whose time is over, as browsers send them that were asleep: what the store says counts, and nothing else.
#[test]
fn session_caches_that_have_run_out() {
    for (name, strategy, signed_by_keys, better_auth) in [
        (
            "compact session cache, run out",
            "compact",
            false,
            "enable = [\"cookie_cache\"]",
        ),
        (
            "jwt session cache, run out",
            "jwt",
            false,
            "enable = [\"cookie_cache\"]\ncookie_cache = { strategy = \"jwt\" }",
        ),
        (
            "jwe session cache, run out",
            "jwe",
            false,
            "enable = [\"cookie_cache\"]\ncookie_cache = { strategy = \"jwe\" }",
        ),
        (
            "jwks session cache, run out",
            "jwt",
            true,
            "enable = [\"cookie_cache\"]\ncookie_cache = { strategy = \"jwks\" }",
        ),
    ] {
        let mut plugins = plugins();
        if signed_by_keys {
            plugins["jwt"] = json!({ "sessionCookieCache": true });
        }
        let cache = json!({ "enabled": true, "maxAge": 1, "strategy": strategy });
        let world = World::start(Plan {
            server: json!({ "plugins": plugins, "options": { "session": { "cookieCache": cache } } }),
            better_auth,
            sessions: "cache_ttl = \"5m\"\nnegative_ttl = \"1ms\"",
            ..Plan::default()
        });
        let mut materials = seed(&world);
        // Those sealed by hand last longer. Nothing is left to tell apart but which session a cookie is of.
        materials.forged.clear();
        // The framework goes by the clock on the wall, and there is no other to move.
        std::thread::sleep(std::time::Duration::from_secs(2));
        compare(name, &world, &materials, 300).finish();
    }
}

#[test]
fn an_app_without_a_database() {
    let mut world = World::start(Plan {
        store: Store::Nowhere,
        ..Plan::default()
    });
    let materials = seed(&world);
    // It forgets whatever else it knows of its sessions: what is left is in the cookies, as for any other process of the app.
    world.restart("appName", "the same".into());
    compare("no database", &world, &materials, 700).finish();
}

/// The comparison itself: a gateway that believes an old secret is found out, and so is one that refuses without a reason.
#[test]
fn a_gateway_that_is_looser_or_stricter_is_noticed() {
    const OLD: &str = "the secret before, thirty-two letters long";
    let mut world = World::start(Plan {
        server: json!({ "plugins": plugins(), "options": { "secret": OLD } }),
        better_auth: r#"secret = "the secret before, thirty-two letters long""#,
        ..Plan::default()
    });
    let before = seed(&world);
    world.restart(
        "secret",
        "the secret now, also thirty-two letters long".into(),
    );
    let report = compare("", &world, &before, 100);
    assert!(!report.looser.is_empty() && report.unexplained.is_empty());
    let after = seed::again(&world);
    let report = compare("", &world, &after, 100);
    assert!(report.looser.is_empty() && !report.unexplained.is_empty());
}
