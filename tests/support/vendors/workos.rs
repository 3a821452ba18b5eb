//! WorkOS' user management. Source: its API reference and `@workos-inc/node`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Asked, Known, Person, Vendor};

pub const KEY: &str = "sk_workos-of-the-tests";
pub const CLIENT: &str = "client_of_the_tests";

pub fn start() -> Vendor {
    Vendor::start(speaks)
}

fn error(status: u16, code: &str) -> (u16, Value) {
    (
        status,
        json!({ "code": code, "message": code, "errors": [] }),
    )
}

fn document(person: &Person) -> Value {
    json!({
        "object": "user", "id": person.id, "email": person.email,
        "email_verified": person.verified,
        "first_name": person.first_name, "last_name": person.last_name,
        "profile_picture_url": null, "external_id": person.external_id,
        "created_at": "2022-03-01T09:30:15.123Z", "updated_at": "2022-03-01T09:30:15.123Z",
        "metadata": {},
    })
}

fn signed_in(known: &mut Known, person: &Person) -> (u16, Value) {
    known.made += 1;
    let session = format!("session_{}", known.made);
    let claims = json!({ "sid": session, "sub": person.id, "iss": "https://api.workos.com" });
    known.sessions.push(session);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!(
        "{}.{}.c2ln",
        part(&json!({ "alg": "RS256" })),
        part(&claims)
    );
    let user = document(person);
    (
        200,
        json!({ "user": user, "organization_id": null, "access_token": token,
                "refresh_token": "rt_secret-of-the-tests", "authentication_method": "Password" }),
    )
}

fn authenticate(known: &mut Known, asked: &Asked) -> (u16, Value) {
    if asked.text("client_id") != CLIENT || asked.text("client_secret") != KEY {
        return (401, json!({ "message": "Unauthorized" }));
    }
    if asked.text("grant_type") == "urn:workos:oauth:grant-type:mfa-totp" {
        let token = asked.text("pending_authentication_token");
        let Some(person) = known.by_id(token.trim_start_matches("pat_")).cloned() else {
            return error(400, "invalid_pending_authentication_token");
        };
        let fits = person.code == Some(asked.text("code"))
            && asked.text("authentication_challenge_id") == format!("challenge_{}", person.id);
        return match fits {
            true => signed_in(known, &person),
            false => error(400, "invalid_one_time_code"),
        };
    }
    let found = known.by_email(&asked.text("email")).cloned();
    let Some(person) = found.filter(|person| person.password == Some(asked.text("password")))
    else {
        return error(401, "invalid_credentials");
    };
    if !person.verified {
        let body = json!({ "code": "email_verification_required", "message": "x", "email": person.email,
                           "pending_authentication_token": "pat_x" });
        return (403, body);
    }
    if person.code.is_some() {
        let factors = json!([{ "id": format!("factor_{}", person.id), "type": "totp" }]);
        let body = json!({ "code": "mfa_challenge", "message": "x", "user": null,
                           "pending_authentication_token": format!("pat_{}", person.id),
                           "authentication_factors": factors });
        return (403, body);
    }
    signed_in(known, &person)
}

fn speaks(known: &mut Known, asked: &Asked) -> (u16, Value) {
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    if let ["user_management", "authenticate"] = path.as_slice() {
        return authenticate(known, asked);
    }
    if asked.bearer != KEY {
        return (401, json!({ "message": "Unauthorized" }));
    }
    match (asked.method.as_str(), path.as_slice()) {
        ("POST", ["user_management", "sessions", "revoke"]) => {
            let session = asked.text("session_id");
            known.sessions.retain(|alive| *alive != session);
            (200, json!({}))
        }
        ("POST", ["auth", "factors", factor, "challenge"]) => {
            let id = factor.trim_start_matches("factor_");
            (
                201,
                json!({ "object": "authentication_challenge", "id": format!("challenge_{id}") }),
            )
        }
        ("GET", ["user_management", "users"]) => {
            let email = asked.query("email").unwrap_or_default();
            let found = known.people.iter().filter(|person| person.email == email);
            let data: Vec<Value> = found.map(document).collect();
            let metadata = json!({ "before": null, "after": null });
            (
                200,
                json!({ "object": "list", "data": data, "list_metadata": metadata }),
            )
        }
        ("GET", ["user_management", "users", id, "auth_factors"]) => {
            let has = known.by_id(id).is_some_and(|person| person.code.is_some());
            let factor = json!({ "object": "authentication_factor", "type": "totp" });
            let data = if has { vec![factor] } else { Vec::new() };
            (
                200,
                json!({ "object": "list", "data": data, "list_metadata": {} }),
            )
        }
        ("POST", ["user_management", "users"]) => {
            let email = asked.text("email");
            if known.by_email(&email).is_some() {
                return error(422, "user_creation_error");
            }
            let id = format!("user_made{}", known.people.len());
            let mut person = Person::new(&id, &email, "");
            person.password = asked.body["password"].as_str().map(str::to_owned);
            person.external_id = asked.body["external_id"].as_str().map(str::to_owned);
            person.verified = asked.body["email_verified"] == true;
            person.first_name = asked.text("first_name");
            person.last_name = asked.text("last_name");
            let said = document(&person);
            known.people.push(person);
            (201, said)
        }
        ("PUT", ["user_management", "users", id]) => match known.by_id(id) {
            None => error(404, "entity_not_found"),
            Some(person) => {
                if let Some(email) = asked.body["email"].as_str() {
                    person.email = email.into();
                }
                if let Some(verified) = asked.body["email_verified"].as_bool() {
                    person.verified = verified;
                }
                if let Some(password) = asked.body["password"].as_str() {
                    (person.password, person.hash) = (Some(password.into()), None);
                }
                if let Some(hash) = asked.body["password_hash"].as_str() {
                    person.hash = Some((asked.text("password_hash_type"), hash.into()));
                    person.password = None;
                }
                if asked.body["first_name"].is_string() {
                    person.first_name = asked.text("first_name");
                    person.last_name = asked.text("last_name");
                }
                (200, document(person))
            }
        },
        ("DELETE", ["user_management", "users", id]) => {
            known.people.retain(|person| person.id != *id);
            (202, Value::Null)
        }
        _ => error(404, "entity_not_found"),
    }
}
