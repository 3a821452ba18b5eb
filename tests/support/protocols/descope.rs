//! Descope.

use serde_json::{Value, json as value};

use super::*;

pub fn start() -> Vendor {
    Vendor::start(&["/v1/auth/logout"], answer)
}

fn error(status: u16, code: &str, said: &str) -> Reply {
    json(
        status,
        value!({ "errorCode": code, "errorDescription": said, "ok": false }),
    )
}

fn user(person: &Person) -> Value {
    let status = if person.id == BLOCKED.id {
        "disabled"
    } else {
        "enabled"
    };
    value!({ "userId": person.id, "loginIds": [person.email], "email": person.email, "verifiedEmail": true,
             "name": "Grace Hopper", "status": status, "TOTP": person.id == FACTOR.id, "createdTime": 1_704_067_200 })
}

fn right(person: &Person, sessions: &Sessions) -> Reply {
    let refresh = sessions.open(person.id);
    json(
        200,
        value!({ "sessionJwt": token(&value!({ "sub": person.id })), "refreshJwt": refresh, "user": user(person) }),
    )
}

fn answer(asked: &Asked, sessions: &Sessions) -> Reply {
    let Some(rest) = asked.bearer().strip_prefix("project-1") else {
        return error(401, "E011002", "Request is missing required arguments");
    };
    let more = rest.strip_prefix(':').unwrap_or_default();
    match asked.path.as_str() {
        "/v1/auth/password/signin" => match person(asked.text("/loginId")) {
            Some(person) if person.id == LIMITED.id => {
                error(429, "E062404", "locked").with("retry-after", "60")
            }
            Some(person) if asked.text("/password") == PASSWORD => right(person, sessions),
            _ => error(401, "E062504", "Failed to sign in"),
        },
        "/v1/auth/totp/verify" => match (asked.text("/loginId"), asked.text("/code")) {
            (email, CODE) if email == FACTOR.email => right(&FACTOR, sessions),
            _ => error(401, "E061102", "Invalid code"),
        },
        "/v1/auth/logout" => empty(if sessions.end(more) { 200 } else { 401 }),
        "/v2/mgmt/user/search" if more == "key-of-the-operator" => {
            let found: Vec<Value> = person(asked.text("/emails/0"))
                .map(user)
                .into_iter()
                .collect();
            json(200, value!({ "users": found, "total": 1 }))
        }
        _ => error(404, "E011001", "no"),
    }
}
