//! Ory Kratos: its public and its admin API behind one address.

use serde_json::{Value, json as value};

use super::*;

pub fn start() -> Vendor {
    Vendor::start(&["/logout/api"], answer)
}

fn identity(person: &Person) -> Value {
    let state = if person.id == BLOCKED.id {
        "inactive"
    } else {
        "active"
    };
    value!({ "id": person.id, "state": state, "created_at": "2024-01-01T00:00:00Z",
             "traits": { "contact": { "mail": person.email }, "name": { "first": "Grace", "last": "Hopper" } },
             "verifiable_addresses": [{ "value": person.email, "verified": person.id != UNFINISHED.id, "via": "email" }] })
}

fn flow(id: u64) -> Reply {
    json(
        400,
        value!({ "id": "flow-1", "ui": { "action": "https://public.example/self-service/login?flow=flow-1",
        "messages": [{ "id": id, "type": "error", "text": "no" }], "nodes": [] } }),
    )
}

fn answer(asked: &Asked, sessions: &Sessions) -> Reply {
    let token = asked.header("x-session-token");
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/self-service/login/api") if asked.query("aal") == "aal2" => {
            match sessions.whose(token) {
                Some(_) => json(
                    200,
                    value!({ "id": "flow-2", "requested_aal": "aal2", "ui": {} }),
                ),
                None => json(401, value!({ "error": { "id": "session_inactive" } })),
            }
        }
        ("GET", "/self-service/login/api") => {
            json(200, value!({ "id": "flow-1", "type": "api", "ui": {} }))
        }
        ("POST", "/self-service/login") if asked.query("flow") == "flow-1" => {
            password(asked, sessions)
        }
        ("POST", "/self-service/login") if asked.query("flow") == "flow-2" => {
            assert_eq!(asked.text("/method"), "totp");
            match asked.text("/totp_code") {
                CODE => json(
                    200,
                    value!({ "session_token": token, "session": { "id": "s2", "active": true,
                    "authenticator_assurance_level": "aal2", "identity": identity(&FACTOR) } }),
                ),
                _ => flow(4_000_008),
            }
        }
        ("DELETE", "/self-service/logout/api") => {
            empty(if sessions.end(asked.text("/session_token")) {
                204
            } else {
                401
            })
        }
        ("GET", "/admin/sessions/s1") if asked.bearer() == "key-of-the-operator" => {
            json(200, value!({ "id": "s1", "identity": identity(&FACTOR) }))
        }
        ("GET", "/admin/identities") if asked.bearer() == "key-of-the-operator" => {
            let found: Vec<Value> = person(asked.query("credentials_identifier"))
                .map(identity)
                .into_iter()
                .collect();
            json(200, value!(found))
        }
        _ => json(404, value!({ "error": { "code": 404 } })),
    }
}

fn password(asked: &Asked, sessions: &Sessions) -> Reply {
    assert_eq!(asked.text("/method"), "password");
    let Some(person) = person(asked.text("/identifier")) else {
        return flow(4_000_006);
    };
    if person.id == LIMITED.id {
        return json(429, value!({ "error": { "code": 429 } })).with("retry-after", "30");
    }
    if asked.text("/password") != PASSWORD {
        return flow(4_000_006);
    }
    if person.id == UNFINISHED.id {
        return flow(4_000_010);
    }
    if person.id == BLOCKED.id {
        return json(
            401,
            value!({ "error": { "code": 401, "message": "identity is disabled" } }),
        );
    }
    let token = sessions.open(person.id);
    // Who has more to prove is not told whose session it is.
    let whose = if person.id == FACTOR.id {
        Value::Null
    } else {
        identity(person)
    };
    json(
        200,
        value!({ "session_token": token, "session": { "id": "s1", "active": true, "identity": whose } }),
    )
}
