//! What the framework's plugins do, through the gateway: everything here goes the way a browser's requests go.

use serde_json::{Value, json};

use super::compare::{Opinion, gateways_opinion};
use super::plugins;
use super::server::{Browser, PASSWORD, request};
use super::world::{Plan, World};
use crate::support::Answer;

/// A world in which everything is remembered for half a minute: what is felt at once was forgotten, not outlived.
fn world() -> World {
    let mut plugins = plugins();
    plugins["bearer"] = json!({});
    plugins["jwt"] = json!({});
    World::start(Plan {
        server: json!({
            "plugins": plugins,
            "origins": ["https://elsewhere.test"],
            "options": { "trustedOrigins": ["https://elsewhere.test"] },
        }),
        ..Plan::default()
    })
}

/// What the app is told about this browser, by the page that lets an old answer count.
fn told(world: &World, browser: &mut Browser) -> Value {
    let answer = browser.get(world.gateway.address, "/cached/x");
    if answer.status != 200 {
        return Value::Null;
    }
    let said: Value = serde_json::from_slice(&answer.body).expect("the app's answer");
    said["told"].clone()
}

/// The same, one header of it.
fn header(world: &World, browser: &mut Browser, name: &str) -> Option<String> {
    told(world, browser)[name].as_str().map(str::to_owned)
}

fn user(world: &World, browser: &mut Browser) -> Option<String> {
    header(world, browser, "x-auth-user-name")
}

/// A field of the session as the framework itself sees it.
fn session(world: &World, browser: &mut Browser, field: &str) -> Option<String> {
    let answer = browser.get(world.server.address, "/api/auth/get-session");
    let said: Value = serde_json::from_slice(&answer.body).expect("a session");
    said["session"][field].as_str().map(str::to_owned)
}

fn id(world: &World, name: &str) -> String {
    let rows = world
        .server
        .sql(&format!("SELECT id FROM user WHERE name = '{name}'"));
    rows[0]["id"].as_str().expect("a user").to_owned()
}

#[test]
fn nobody_is_signed_in_before_the_second_factor() {
    let world = world();
    let at = world.gateway.address;
    let mut dora = Browser::sign_up(at, "dora");
    dora.done(at, "/two-factor/enable", &json!({ "password": PASSWORD }));
    assert_eq!(user(&world, &mut dora).as_deref(), Some("dora"));

    let mut pending = Browser::default();
    let answer = pending.sign_in_here(at, "dora", true);
    assert!(
        answer.text().contains("twoFactorRedirect"),
        "{}",
        answer.text()
    );
    assert!(pending.cookies.contains_key("better-auth.two_factor"));
    assert_eq!(user(&world, &mut pending), None);
    // Nor with anything it was handed on the way, put where a session belongs.
    for (_, value) in pending.seen.clone() {
        let mut forged = pending.clone();
        forged
            .cookies
            .insert("better-auth.session_token".into(), value);
        assert_eq!(user(&world, &mut forged), None, "{:?}", forged.cookies);
    }
    // A wrong code changes nothing, the right one everything.
    pending.done(at, "/two-factor/send-otp", &json!({}));
    let code = world
        .server
        .ask("mailed", json!({ "email": "dora@example.com" }));
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let refused = pending.post(at, "/two-factor/verify-otp", &json!({ "code": wrong }));
    assert_eq!(refused.status, 401, "{}", refused.text());
    assert_eq!(user(&world, &mut pending), None);
    pending.done(at, "/two-factor/verify-otp", &json!({ "code": code }));
    assert_eq!(user(&world, &mut pending).as_deref(), Some("dora"));
}

#[test]
fn an_admin_is_somebody_else_from_one_request_to_the_next_and_back() {
    let world = world();
    let at = world.gateway.address;
    let mut ada = Browser::sign_up(at, "ada");
    Browser::sign_up(at, "root");
    world
        .server
        .sql("UPDATE user SET role = 'admin' WHERE name = 'root'");
    let mut root = Browser::sign_in(at, "root", true);
    let own = root.header();
    assert_eq!(user(&world, &mut root).as_deref(), Some("root"));
    assert_eq!(header(&world, &mut root, "x-auth-impersonated-by"), None);

    root.done(
        at,
        "/admin/impersonate-user",
        &json!({ "userId": id(&world, "ada") }),
    );
    let impersonation = root.header();
    assert_eq!(user(&world, &mut root).as_deref(), Some("ada"));
    assert_eq!(
        header(&world, &mut root, "x-auth-role").as_deref(),
        Some("user")
    );
    assert_eq!(
        header(&world, &mut root, "x-auth-impersonated-by"),
        Some(id(&world, "root"))
    );
    // She herself is nobody's puppet.
    assert_eq!(user(&world, &mut ada).as_deref(), Some("ada"));
    assert_eq!(header(&world, &mut ada, "x-auth-impersonated-by"), None);

    root.done(at, "/admin/stop-impersonating", &json!({}));
    assert_eq!(user(&world, &mut root).as_deref(), Some("root"));
    assert_eq!(header(&world, &mut root, "x-auth-impersonated-by"), None);
    // The session that was hers is over, for whoever kept it.
    let old = ask(&world, &[("cookie", &impersonation)]);
    assert!(matches!(old, Opinion::Nobody(_)), "{old:?}");
    assert!(matches!(
        ask(&world, &[("cookie", &own)]),
        Opinion::Somebody { .. }
    ));
}

/// The gateway's opinion of a request with these headers.
fn ask(world: &World, headers: &[(&str, &str)]) -> Opinion {
    gateways_opinion(&request(
        world.gateway.address,
        "GET",
        "/cached/x",
        headers,
        None,
    ))
}

#[test]
fn the_active_organization_and_team_are_felt_at_once() {
    let world = world();
    let at = world.gateway.address;
    let mut ada = Browser::sign_up(at, "ada");
    let fact = |browser: &mut Browser, name: &str| header(&world, browser, name);
    assert_eq!(fact(&mut ada, "x-auth-org-id"), None);
    let made = |browser: &mut Browser, name: &str| {
        let body = json!({ "name": name, "slug": name });
        let said = browser.done(at, "/organization/create", &body);
        said["id"].as_str().expect("an organization").to_owned()
    };
    let acme = made(&mut ada, "acme");
    assert_eq!(fact(&mut ada, "x-auth-org-id").as_ref(), Some(&acme));
    assert_eq!(fact(&mut ada, "x-auth-org-role").as_deref(), Some("owner"));
    let zeta = made(&mut ada, "zeta");
    assert_eq!(fact(&mut ada, "x-auth-org-id").as_ref(), Some(&zeta));
    for active in [&acme, &zeta, &acme] {
        let body = json!({ "organizationId": active });
        ada.done(at, "/organization/set-active", &body);
        assert_eq!(fact(&mut ada, "x-auth-org-id").as_ref(), Some(active));
    }

    let body = json!({ "name": "red", "organizationId": acme });
    let team = ada.done(at, "/organization/create-team", &body);
    let team = team["id"].as_str().expect("a team").to_owned();
    let body = json!({ "teamId": team, "userId": id(&world, "ada") });
    ada.done(at, "/organization/add-team-member", &body);
    // The framework has a team of its own choice active, here and whenever the organization changes.
    let agreed = |browser: &mut Browser| {
        let told = header(&world, browser, "x-auth-team-id");
        assert_eq!(told, session(&world, browser, "activeTeamId"));
        told
    };
    assert_ne!(agreed(&mut ada).as_ref(), Some(&team));
    ada.done(
        at,
        "/organization/set-active-team",
        &json!({ "teamId": team }),
    );
    assert_eq!(agreed(&mut ada).as_ref(), Some(&team));
    ada.done(
        at,
        "/organization/set-active-team",
        &json!({ "teamId": null }),
    );
    assert_eq!(agreed(&mut ada), None);
    ada.done(
        at,
        "/organization/set-active",
        &json!({ "organizationId": zeta }),
    );
    agreed(&mut ada);
    ada.done(
        at,
        "/organization/set-active",
        &json!({ "organizationId": null }),
    );
    agreed(&mut ada);
    assert_eq!(fact(&mut ada, "x-auth-org-id"), None);
    assert_eq!(fact(&mut ada, "x-auth-org-role"), None);
}

#[test]
fn a_role_in_the_organization_is_the_one_the_member_table_says() {
    let world = world();
    let at = world.gateway.address;
    let (mut ada, mut bob) = (Browser::sign_up(at, "ada"), Browser::sign_up(at, "bob"));
    let body = json!({ "name": "acme", "slug": "acme" });
    let acme = ada.done(at, "/organization/create", &body);
    let acme = acme["id"].as_str().expect("an organization").to_owned();
    let body = json!({ "email": "bob@example.com", "role": "member" });
    let invitation = ada.done(at, "/organization/invite-member", &body);
    let body = json!({ "invitationId": invitation["id"] });
    bob.done(at, "/organization/accept-invitation", &body);
    let role = |browser: &mut Browser| header(&world, browser, "x-auth-org-role");
    assert_eq!(
        header(&world, &mut bob, "x-auth-org-id").as_ref(),
        Some(&acme)
    );
    assert_eq!(role(&mut bob).as_deref(), Some("member"));
    assert_eq!(role(&mut ada).as_deref(), Some("owner"));

    // Somebody else changes it: bob's own session hears of it with the next request.
    let members = world.server.sql(&format!(
        "SELECT id FROM member WHERE userId = '{}'",
        id(&world, "bob")
    ));
    let body = json!({ "memberId": members[0]["id"], "role": ["admin", "member"], "organizationId": acme });
    ada.done(at, "/organization/update-member-role", &body);
    assert_eq!(role(&mut bob).as_deref(), Some("admin,member"));
    let body = json!({ "memberIdOrEmail": "bob@example.com", "organizationId": acme });
    ada.done(at, "/organization/remove-member", &body);
    assert_eq!(role(&mut bob), None);
    assert_eq!(role(&mut ada).as_deref(), Some("owner"));
}

#[test]
fn a_device_with_several_sessions_switches_between_them() {
    let world = world();
    let at = world.gateway.address;
    Browser::sign_up(at, "bob");
    let mut device = Browser::sign_up(at, "ada");
    let adas = device.session_token();
    assert_eq!(device.sign_in_here(at, "bob", true).status, 200);
    let bobs = device.session_token();
    assert_eq!(user(&world, &mut device).as_deref(), Some("bob"));
    for (token, name) in [(&adas, "ada"), (&bobs, "bob"), (&adas, "ada")] {
        device.done(
            at,
            "/multi-session/set-active",
            &json!({ "sessionToken": token }),
        );
        assert_eq!(user(&world, &mut device).as_deref(), Some(name));
    }
    // Bob's session ends from within ada's, and she stays.
    let mut copy = device.clone();
    copy.done(
        at,
        "/multi-session/set-active",
        &json!({ "sessionToken": bobs }),
    );
    assert_eq!(user(&world, &mut copy).as_deref(), Some("bob"));
    device.done(
        at,
        "/multi-session/revoke",
        &json!({ "sessionToken": bobs }),
    );
    assert_eq!(user(&world, &mut copy), None);
    assert_eq!(user(&world, &mut device).as_deref(), Some("ada"));
    // The whole device signs out.
    let kept = device.header();
    device.done(at, "/sign-out", &json!({}));
    assert!(matches!(
        ask(&world, &[("cookie", &kept)]),
        Opinion::Nobody(_)
    ));
}

#[test]
fn a_client_on_another_origin_gets_all_it_was_promised() {
    const ELSEWHERE: (&str, &str) = ("origin", "https://elsewhere.test");
    let world = world();
    let at = world.gateway.address;
    let both = |method: &str, target: &str, headers: &[(&str, &str)], body: Option<&Value>| {
        let direct = request(world.server.address, method, target, headers, body);
        let through = request(at, method, target, headers, body);
        assert_eq!(through.status, direct.status, "{method} {target}");
        (direct, through)
    };
    let cors = |answer: &Answer| {
        let of_cors = |(name, value): &(String, String)| {
            let name = name.to_ascii_lowercase();
            (name.starts_with("access-control-") || name == "vary").then(|| (name, value.clone()))
        };
        let mut all: Vec<_> = answer.headers.iter().filter_map(of_cors).collect();
        all.sort();
        all
    };
    // What goes ahead of the request, also to pages that only those signed in may see.
    for target in [
        "/api/auth/sign-up/email",
        "/api/auth/get-session",
        "/strict/x",
    ] {
        let headers = [
            ELSEWHERE,
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "authorization,content-type",
            ),
        ];
        let (direct, through) = both("OPTIONS", target, &headers, None);
        assert_eq!(through.status, 204);
        assert_eq!(cors(&through), cors(&direct));
        assert_eq!(
            through.header("access-control-allow-origin"),
            Some(ELSEWHERE.1)
        );
    }
    // The tokens a client without cookies lives on.
    let body = json!({ "name": "ada", "email": "ada@example.com", "password": PASSWORD });
    let answer = request(
        at,
        "POST",
        "/api/auth/sign-up/email",
        &[ELSEWHERE],
        Some(&body),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let exposed = |answer: &Answer| answer.all("access-control-expose-headers").join(",");
    assert!(
        exposed(&answer).contains("set-auth-token"),
        "{:?}",
        answer.headers
    );
    let mut ada = Browser::default();
    ada.remember(&answer);
    assert_eq!(ada.token.as_ref(), Some(&ada.signed()));

    let cookies = ada.header();
    let headers = [ELSEWHERE, ("cookie", cookies.as_str())];
    let (direct, through) = both("GET", "/api/auth/get-session", &headers, None);
    assert_eq!(cors(&through), cors(&direct));
    assert!(
        exposed(&through).contains("set-auth-jwt"),
        "{:?}",
        through.headers
    );
    ada.remember(&through);
    let named = world.server.ask("verifyJwt", json!({ "token": ada.jwt }));
    assert_eq!(named, json!(id(&world, "ada")));

    // The app's own pages keep what the app says about who may read them.
    let (direct, through) = both("GET", "/public/x", &[ELSEWHERE], None);
    assert_eq!(cors(&through), cors(&direct));
    let page = request(at, "GET", "/cached/x", &headers, None);
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("access-control-allow-origin"),
        Some(ELSEWHERE.1)
    );
    assert_eq!(
        page.header("access-control-allow-credentials"),
        Some("true")
    );
}
