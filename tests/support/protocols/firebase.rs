//! Firebase Auth.

use serde_json::{Value, json as value};

use super::*;

pub fn start() -> Vendor {
    Vendor::start(&[], answer)
}

fn error(status: u16, message: &str) -> Reply {
    json(
        status,
        value!({ "error": { "code": status, "message": message } }),
    )
}

fn id_token(person: &Person) -> String {
    token(&value!({ "sub": person.id, "user_id": person.id, "email_verified": true }))
}

fn answer(asked: &Asked, _: &Sessions) -> Reply {
    if asked.is("POST", "/token") {
        let assertion = asked.form("assertion").to_owned();
        let payload = assertion.split('.').nth(1).expect("a token");
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert_eq!(claims["iss"], "vestibule@project.example");
        assert!(claims["aud"].as_str().unwrap().ends_with("/token"));
        assert!(claims["exp"].as_i64() > claims["iat"].as_i64());
        return json(200, value!({ "access_token": "tok-service" }));
    }
    if asked.path.starts_with("/v1/projects/project-1/") {
        if asked.bearer() != "tok-service" {
            return error(401, "UNAUTHENTICATED");
        }
        let found: Vec<Value> = person(asked.text("/email/0"))
            .map(|person| value!({ "localId": person.id, "email": person.email, "emailVerified": true,
                "displayName": "Grace Hopper", "createdAt": "1704067200000", "disabled": person.id == BLOCKED.id,
                "mfaInfo": if person.id == FACTOR.id { value!([{ "mfaEnrollmentId": "e1" }]) } else { value!([]) } }))
            .into_iter()
            .collect();
        return match asked.path.ends_with("accounts:lookup") {
            true => json(200, value!({ "users": found })),
            false => json(200, value!({ "localId": "new-user" })),
        };
    }
    if asked.query("key") != "key&1" {
        return error(400, "API key not valid. Please pass a valid API key.");
    }
    if asked.is("POST", "/v2/accounts/mfaSignIn:finalize") {
        let right = asked.text("/mfaPendingCredential") == "tok-pending"
            && asked.text("/mfaEnrollmentId") == "e1";
        return match (right, asked.text("/totpVerificationInfo/verificationCode")) {
            (true, CODE) => json(
                200,
                value!({ "idToken": id_token(&FACTOR), "refreshToken": "tok-refresh" }),
            ),
            (true, _) => error(400, "INVALID_CODE : The code is wrong"),
            _ => error(400, "INVALID_MFA_PENDING_CREDENTIAL"),
        };
    }
    assert!(
        asked.is("POST", "/v1/accounts:signInWithPassword"),
        "{}",
        asked.path
    );
    let Some(person) = person(asked.text("/email")) else {
        // Where addresses are protected: INVALID_LOGIN_CREDENTIALS, as for a wrong password.
        return error(400, "EMAIL_NOT_FOUND");
    };
    if person.id == LIMITED.id {
        return error(
            400,
            "TOO_MANY_ATTEMPTS_TRY_LATER : Access to this account has been temporarily disabled",
        );
    }
    if asked.text("/password") != PASSWORD {
        return error(400, "INVALID_LOGIN_CREDENTIALS");
    }
    match person.id {
        id if id == BLOCKED.id => error(400, "USER_DISABLED"),
        id if id == UNFINISHED.id => error(400, "PASSWORD_DOES_NOT_MEET_REQUIREMENTS : too short"),
        id if id == FACTOR.id => json(
            200,
            value!({
                "localId": id, "email": person.email, "registered": true, "mfaPendingCredential": "tok-pending",
                "mfaInfo": [{ "mfaEnrollmentId": "e0", "phoneInfo": "+49*****67" }, { "mfaEnrollmentId": "e1", "totpInfo": {} }],
            }),
        ),
        id => json(
            200,
            value!({
                "localId": id, "email": person.email, "displayName": "Grace Hopper",
                "idToken": id_token(person), "refreshToken": "tok-refresh", "expiresIn": "3600",
            }),
        ),
    }
}
