//! Supabase Auth.

use serde_json::{Value, json as value};

use super::*;

pub fn start() -> Vendor {
    Vendor::start(&["/logout"], answer)
}

fn user(person: &Person) -> Value {
    let confirmed = person.id != UNFINISHED.id;
    let factors = match person.id == FACTOR.id {
        true => value!([{ "id": "factor-0", "status": "unverified", "factor_type": "totp" },
                        { "id": "factor-1", "status": "verified", "factor_type": "totp" }]),
        false => value!([]),
    };
    value!({
        "id": person.id, "email": person.email, "phone": "491701234567",
        "email_confirmed_at": confirmed.then_some("2024-01-01T00:00:00Z"),
        "created_at": "2024-01-01T00:00:00.123456Z",
        "user_metadata": { "full_name": "Grace Hopper" }, "factors": factors,
    })
}

fn refused(status: u16, code: &str) -> Reply {
    json(
        status,
        value!({ "code": status, "error_code": code, "msg": "no" }),
    )
}

fn answer(asked: &Asked, sessions: &Sessions) -> Reply {
    if asked.path.starts_with("/auth/v1/admin/") {
        return admin(asked);
    }
    if asked.header("apikey") != "anon" {
        return json(401, value!({ "message": "Invalid API key" }));
    }
    let bearer = asked.bearer();
    if asked.is("POST", "/auth/v1/token") {
        assert_eq!(asked.query("grant_type"), "password");
        let Some(person) = person(asked.text("/email")) else {
            return refused(400, "invalid_credentials");
        };
        if person.id == BLOCKED.id {
            return refused(400, "user_banned");
        }
        if person.id == LIMITED.id {
            return refused(429, "over_request_rate_limit");
        }
        if asked.text("/password") != PASSWORD {
            return refused(400, "invalid_credentials");
        }
        if person.id == UNFINISHED.id {
            return refused(400, "email_not_confirmed");
        }
        let token = sessions.open(person.id);
        return json(
            200,
            value!({ "access_token": token, "refresh_token": "tok-refresh", "user": user(person) }),
        );
    }
    if asked.is("POST", "/auth/v1/logout") {
        assert_eq!(
            asked.query("scope"),
            "local",
            "every session would be ended"
        );
        return empty(if sessions.end(bearer) { 204 } else { 401 });
    }
    if sessions.whose(bearer).as_deref() == Some(FACTOR.id) {
        if asked.is("POST", "/auth/v1/factors/factor-1/challenge") {
            return json(200, value!({ "id": "challenge-1", "expires_at": 1 }));
        }
        if asked.is("POST", "/auth/v1/factors/factor-1/verify") {
            if asked.text("/challenge_id") != "challenge-1" || asked.text("/code") != CODE {
                return refused(422, "mfa_verification_failed");
            }
            sessions.end(bearer);
            let token = sessions.open(FACTOR.id);
            return json(
                200,
                value!({ "access_token": token, "user": user(&FACTOR) }),
            );
        }
    }
    refused(404, "not_found")
}

fn admin(asked: &Asked) -> Reply {
    if asked.header("apikey") != "key-of-the-operator" || asked.bearer() != "key-of-the-operator" {
        return refused(401, "not_admin");
    }
    if asked.method == "GET" {
        // The filter is a part of the address: others are found too, and one of a company's own sign-in.
        let mut users =
            vec![value!({ "id": "sso", "email": asked.query("filter"), "is_sso_user": true })];
        users.extend(person(asked.query("filter")).map(user));
        return json(200, value!({ "users": users, "aud": "x" }));
    }
    json(200, value!({ "id": "new-user" }))
}
