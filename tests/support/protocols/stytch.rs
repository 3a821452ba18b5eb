//! Stytch, the consumer API.

use serde_json::{Value, json as value};

use super::*;

pub fn start() -> Vendor {
    Vendor::start(&[], answer)
}

fn error(status: u16, kind: &str) -> Reply {
    json(
        status,
        value!({ "status_code": status, "error_type": kind, "error_message": "no" }),
    )
}

fn user(person: &Person) -> Value {
    let totps = match person.id == FACTOR.id {
        true => value!([{ "totp_id": "t1", "verified": true }]),
        false => value!([{ "totp_id": "t0", "verified": false }]),
    };
    value!({ "user_id": person.id, "name": { "first_name": "Grace", "last_name": "Hopper" }, "status": "active",
             "emails": [{ "email": person.email, "verified": true }], "phone_numbers": [],
             "created_at": "2024-01-01T00:00:00Z", "totps": totps, "is_locked": person.id == BLOCKED.id })
}

fn answer(asked: &Asked, _: &Sessions) -> Reply {
    // project-test-1:key-of-the-operator
    if asked.header("authorization") != "Basic cHJvamVjdC10ZXN0LTE6a2V5LW9mLXRoZS1vcGVyYXRvcg==" {
        return error(401, "invalid_secret_authentication");
    }
    match asked.path.as_str() {
        "/v1/passwords/authenticate" => {
            assert!(
                asked.json.get("session_duration_minutes").is_none(),
                "a session would be made"
            );
            match person(asked.text("/email")) {
                None => error(404, "email_not_found"),
                Some(person) if person.id == LIMITED.id => {
                    error(429, "user_lock_limit_reached").with("retry-after", "120")
                }
                Some(_) if asked.text("/password") != PASSWORD => {
                    error(401, "unauthorized_credentials")
                }
                Some(person) if person.id == UNFINISHED.id => error(400, "reset_password"),
                Some(person) => json(
                    200,
                    value!({ "status_code": 200, "user_id": person.id, "user": user(person) }),
                ),
            }
        }
        "/v1/totps/authenticate" => match (asked.text("/user_id"), asked.text("/totp_code")) {
            (id, CODE) if id == FACTOR.id => {
                json(200, value!({ "status_code": 200, "user_id": id }))
            }
            _ => error(401, "unauthorized_credentials"),
        },
        "/v1/users/search" => {
            let found: Vec<Value> = person(asked.text("/query/operands/0/filter_value/0"))
                .map(user)
                .into_iter()
                .collect();
            json(200, value!({ "status_code": 200, "results": found }))
        }
        _ => error(404, "route_not_found"),
    }
}
