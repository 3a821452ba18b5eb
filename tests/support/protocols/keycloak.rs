//! Keycloak.

use serde_json::{Value, json as value};

use super::*;

pub fn start() -> Vendor {
    Vendor::start(&["/logout"], answer)
}

fn error(status: u16, error: &str, said: &str) -> Reply {
    json(
        status,
        value!({ "error": error, "error_description": said }),
    )
}

fn answer(asked: &Asked, sessions: &Sessions) -> Reply {
    if asked.path.starts_with("/admin/realms/my%20realm/users") {
        return admin(asked);
    }
    let endpoint = asked
        .path
        .strip_prefix("/realms/my%20realm/protocol/openid-connect/");
    if asked.form("grant_type") == "client_credentials" {
        let known = asked.form("client_id") == "admin"
            && asked.form("client_secret") == "key-of-the-operator";
        return match known {
            true => json(200, value!({ "access_token": "tok-admin" })),
            false => error(
                401,
                "unauthorized_client",
                "Invalid client or Invalid client credentials",
            ),
        };
    }
    if asked.form("client_id") != "door" || asked.form("client_secret") != "s3cret&" {
        return error(
            401,
            "unauthorized_client",
            "Invalid client or Invalid client credentials",
        );
    }
    match endpoint {
        Some("logout") => {
            return empty(if sessions.end(asked.form("refresh_token")) {
                204
            } else {
                400
            });
        }
        Some("token") => {}
        _ => return error(404, "not_found", "no"),
    }
    assert_eq!(asked.header("x-forwarded-for"), "203.0.113.7");
    let wrong = || error(401, "invalid_grant", "Invalid user credentials");
    let Some(person) = person(asked.form("username")) else {
        return wrong();
    };
    if person.id == BLOCKED.id {
        return error(400, "invalid_grant", "Account disabled");
    }
    // A lock after too many attempts and a missing code look like a wrong password.
    if asked.form("password") != PASSWORD || person.id == FACTOR.id || person.id == LIMITED.id {
        return wrong();
    }
    if person.id == UNFINISHED.id {
        return error(400, "invalid_grant", "Account is not fully set up");
    }
    let refresh = sessions.open(person.id);
    let claims = value!({ "sub": person.id, "email": person.email, "email_verified": true,
                          "given_name": "Grace", "family_name": "Hopper", "preferred_username": "grace" });
    json(
        200,
        value!({ "access_token": token(&value!({ "scope": "openid" })), "refresh_token": refresh, "id_token": token(&claims) }),
    )
}

fn admin(asked: &Asked) -> Reply {
    if asked.bearer() != "tok-admin" {
        return json(401, value!({ "error": "HTTP 401 Unauthorized" }));
    }
    let rest = asked
        .path
        .trim_start_matches("/admin/realms/my%20realm/users");
    let whole = |person: &Person| {
        value!({ "id": person.id, "username": "grace", "email": person.email,
        "emailVerified": person.id != UNFINISHED.id, "enabled": person.id != BLOCKED.id,
        "firstName": "Grace", "lastName": "Hopper", "createdTimestamp": 1_704_067_200_000_i64,
        "attributes": { "plan": ["pro"] } })
    };
    match (asked.method.as_str(), rest) {
        ("GET", "") => {
            let found: Vec<Value> = person(asked.query("email"))
                .map(whole)
                .into_iter()
                .collect();
            json(200, value!(found))
        }
        ("GET", rest) if rest.ends_with("/credentials") => {
            let mut all = vec![value!({ "type": "password" })];
            if rest.contains(FACTOR.id) {
                all.push(value!({ "type": "otp" }));
            }
            json(200, value!(all))
        }
        ("GET", _) => json(200, whole(&GOOD)),
        ("POST", "") => empty(201).with(
            "location",
            "http://sso.example/admin/realms/r/users/new-user",
        ),
        _ => empty(204),
    }
}
