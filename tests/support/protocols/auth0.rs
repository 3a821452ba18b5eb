//! Auth0.

use serde_json::{Value, json as value};

use super::*;

pub fn start() -> Vendor {
    Vendor::start(&["/oauth/revoke"], answer)
}

pub fn id(person: &Person) -> String {
    format!("auth0|{}", person.id)
}

fn error(status: u16, error: &str, said: &str) -> Reply {
    json(
        status,
        value!({ "error": error, "error_description": said }),
    )
}

fn right(person: &Person, sessions: &Sessions) -> Reply {
    let claims = value!({
        "sub": id(person), "email": person.email, "email_verified": true,
        "name": person.email, "picture": "https://old.example/p.png",
    });
    // A rule of this tenant hands out refresh tokens.
    let refresh = sessions.open(person.id);
    json(
        200,
        value!({ "access_token": "tok-access", "id_token": token(&claims), "refresh_token": refresh }),
    )
}

fn answer(asked: &Asked, sessions: &Sessions) -> Reply {
    if asked.path.starts_with("/api/v2/") {
        return management(asked);
    }
    let grant = asked.form("grant_type");
    if grant == "client_credentials" {
        let known = asked.form("client_id") == "manager"
            && asked.form("client_secret") == "key-of-the-operator";
        assert!(asked.form("audience").ends_with("/api/v2/"));
        return match known {
            true => json(200, value!({ "access_token": "tok-management" })),
            false => error(401, "access_denied", "Unauthorized"),
        };
    }
    if asked.form("client_id") != "app" || asked.form("client_secret") != "s3cret&" {
        return error(401, "invalid_client", "Client authentication is required");
    }
    if asked.is("POST", "/oauth/revoke") {
        sessions.end(asked.form("token"));
        return empty(200);
    }
    if grant.ends_with("/mfa-otp") {
        return match (asked.form("mfa_token"), asked.form("otp")) {
            ("tok-mfa", CODE) => right(&FACTOR, sessions),
            ("tok-mfa", _) => error(403, "invalid_grant", "Invalid otp_code."),
            _ => error(401, "expired_token", "mfa_token is expired"),
        };
    }
    assert_eq!(grant, "http://auth0.com/oauth/grant-type/password-realm");
    assert_eq!(asked.form("realm"), "Users");
    // Without it the gateway's own address would be blocked, for everybody.
    assert_eq!(asked.header("auth0-forwarded-for"), "203.0.113.7");
    let wrong = || error(403, "invalid_grant", "Wrong email or password.");
    let Some(person) = person(asked.form("username")) else {
        return wrong();
    };
    if person.id == LIMITED.id {
        return error(429, "too_many_attempts", "Your account has been blocked");
    }
    if asked.form("password") != PASSWORD {
        return wrong();
    }
    match person.id {
        id if id == BLOCKED.id => error(403, "unauthorized", "user is blocked"),
        id if id == FACTOR.id => json(
            403,
            value!({ "error": "mfa_required", "mfa_token": "tok-mfa" }),
        ),
        id if id == UNFINISHED.id => {
            error(401, "password_leaked", "disclosed through a data breach")
        }
        _ => right(person, sessions),
    }
}

fn management(asked: &Asked) -> Reply {
    if asked.bearer() != "tok-management" {
        return json(401, value!({ "statusCode": 401 }));
    }
    if asked.method == "GET" {
        let found: Vec<Value> = person(asked.query("email"))
            .into_iter()
            .flat_map(|person| {
                [
                    value!({ "user_id": "google-oauth2|1", "email": person.email,
                             "identities": [{ "connection": "google-oauth2" }] }),
                    value!({ "user_id": id(person), "email": person.email, "email_verified": true,
                             "name": "Grace Hopper", "created_at": "2024-01-01T00:00:00.000Z",
                             "identities": [{ "connection": "Users" }] }),
                ]
            })
            .collect();
        return json(200, value!(found));
    }
    json(201, value!({ "user_id": "auth0|new-user" }))
}
