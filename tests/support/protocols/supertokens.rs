//! The SuperTokens core.

use serde_json::{Value, json as value};

use super::*;

pub fn start() -> Vendor {
    Vendor::start(&[], answer)
}

fn user(person: &Person) -> Value {
    value!({ "id": person.id, "timeJoined": 1_704_067_200_000_i64, "emails": [person.email], "phoneNumbers": [],
             "loginMethods": [{ "recipeId": "thirdparty", "email": "other@example.com", "verified": true },
                              { "recipeId": "emailpassword", "email": person.email, "verified": true }] })
}

fn answer(asked: &Asked, _: &Sessions) -> Reply {
    if asked.header("api-key") != "key-of-the-operator" {
        return Reply {
            status: 401,
            headers: Vec::new(),
            body: "Invalid API key".to_owned(),
        };
    }
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/appid-shop/t1/recipe/signin") => match person(asked.text("/email")) {
            Some(person) if person.id == LIMITED.id => empty(429),
            Some(person) if asked.text("/password") == PASSWORD => json(
                200,
                value!({ "status": "OK", "user": user(person), "recipeUserId": person.id }),
            ),
            _ => json(200, value!({ "status": "WRONG_CREDENTIALS_ERROR" })),
        },
        ("GET", "/appid-shop/t1/recipe/totp/device/list") => {
            let verified = asked.query("userId") == FACTOR.id;
            json(
                200,
                value!({ "status": "OK", "devices": [{ "name": "d", "verified": verified }] }),
            )
        }
        ("POST", "/appid-shop/t1/recipe/totp/verify") => {
            assert_eq!(asked.text("/userId"), FACTOR.id);
            let status = if asked.text("/totp") == CODE {
                "OK"
            } else {
                "INVALID_TOTP_ERROR"
            };
            json(200, value!({ "status": status }))
        }
        ("GET", "/appid-shop/t1/users/by-accountinfo") => {
            let found: Vec<Value> = person(asked.query("email")).map(user).into_iter().collect();
            json(200, value!({ "status": "OK", "users": found }))
        }
        _ => Reply {
            status: 404,
            headers: Vec::new(),
            body: "Not found".to_owned(),
        },
    }
}
