//! Clerk's Backend API, as far as users are concerned. Source: its OpenAPI description.

use serde_json::{Value, json};

use super::{Asked, Known, Person, Vendor};

pub const KEY: &str = "sk_live_clerk-of-the-tests";

pub fn start() -> Vendor {
    Vendor::start(speaks)
}

fn error(status: u16, code: &str) -> (u16, Value) {
    let errors = json!([{ "code": code, "message": code, "long_message": code, "meta": {} }]);
    (status, json!({ "errors": errors, "clerk_trace_id": "t" }))
}

fn document(person: &Person) -> Value {
    let status = if person.verified {
        "verified"
    } else {
        "unverified"
    };
    json!({
        "id": person.id, "object": "user", "username": null,
        "first_name": person.first_name, "last_name": person.last_name,
        "external_id": person.external_id,
        "image_url": "https://img.example.com/default.png", "has_image": false,
        "primary_email_address_id": format!("idn_{}", person.id),
        "primary_phone_number_id": null,
        "password_enabled": person.password.is_some() || person.hash.is_some(),
        "two_factor_enabled": person.code.is_some(), "totp_enabled": person.code.is_some(),
        "email_addresses": [
            { "id": format!("idn_{}", person.id), "object": "email_address", "email_address": person.email,
              "verification": { "status": status, "strategy": "email_code" } },
            { "id": "idn_other", "object": "email_address", "email_address": "somebody.elses@example.com",
              "verification": { "status": "unverified" } },
        ],
        "phone_numbers": [], "external_accounts": [],
        "banned": person.banned, "locked": false, "lockout_expires_in_seconds": null,
        "created_at": 1_646_127_015_123_i64, "updated_at": 1_646_127_015_123_i64,
    })
}

fn speaks(known: &mut Known, asked: &Asked) -> (u16, Value) {
    if asked.bearer != KEY {
        return error(401, "authentication_invalid");
    }
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    match (asked.method.as_str(), path.as_slice()) {
        ("GET", ["v1", "users"]) => {
            let email = asked.query("email_address").unwrap_or_default();
            // Any of a user's addresses is found by, as the documentation says.
            let found = known
                .people
                .iter()
                .filter(|person| person.email == email || email == "somebody.elses@example.com");
            (200, found.map(document).collect())
        }
        ("GET", ["v1", "users", id]) => match known.by_id(id) {
            Some(person) => (200, document(person)),
            None => error(404, "resource_not_found"),
        },
        ("POST", ["v1", "users", id, "verify_password"]) => match known.by_id(id) {
            None => error(404, "resource_not_found"),
            Some(person) => match &person.password {
                None => error(400, "no_password_set"),
                Some(password) if *password == asked.text("password") => {
                    (200, json!({ "verified": true }))
                }
                Some(_) => error(422, "incorrect_password"),
            },
        },
        ("POST", ["v1", "users", id, "verify_totp"]) => match known.by_id(id) {
            None => error(404, "resource_not_found"),
            Some(person) if person.code == Some(asked.text("code")) => {
                (200, json!({ "verified": true, "code_type": "totp" }))
            }
            Some(_) => error(422, "form_code_incorrect"),
        },
        ("POST", ["v1", "users"]) => {
            let email = asked.body["email_address"][0].as_str().unwrap_or_default();
            if known.by_email(email).is_some() {
                return error(422, "form_identifier_exists");
            }
            let id = format!("user_made{}", known.people.len());
            let mut person = Person::new(&id, email, "");
            person.password = asked.body["password"].as_str().map(str::to_owned);
            person.external_id = asked.body["external_id"].as_str().map(str::to_owned);
            person.first_name = asked.text("first_name");
            person.last_name = asked.text("last_name");
            let said = document(&person);
            known.people.push(person);
            (200, said)
        }
        ("PATCH", ["v1", "users", id]) => match known.by_id(id) {
            None => error(404, "resource_not_found"),
            Some(person) => {
                if let Some(password) = asked.body["password"].as_str() {
                    (person.password, person.hash) = (Some(password.into()), None);
                }
                if let Some(digest) = asked.body["password_digest"].as_str() {
                    person.hash = Some((asked.text("password_hasher"), digest.into()));
                    person.password = None;
                }
                if asked.body["first_name"].is_string() {
                    person.first_name = asked.text("first_name");
                    person.last_name = asked.text("last_name");
                }
                (200, document(person))
            }
        },
        ("DELETE", ["v1", "users", id]) => {
            known.people.retain(|person| person.id != *id);
            (200, json!({ "id": id, "object": "user", "deleted": true }))
        }
        ("POST", ["v1", "email_addresses"]) => {
            let (id, email) = (asked.text("user_id"), asked.text("email_address"));
            match known.by_id(&id) {
                None => error(404, "resource_not_found"),
                Some(person) => {
                    person.email = email;
                    person.verified = asked.body["verified"] == true;
                    (200, json!({ "id": "idn_new", "object": "email_address" }))
                }
            }
        }
        ("PATCH", ["v1", "email_addresses", id]) => {
            let id = id.trim_start_matches("idn_");
            if let (Some(person), Some(verified)) =
                (known.by_id(id), asked.body["verified"].as_bool())
            {
                person.verified = verified;
            }
            (200, json!({ "object": "email_address" }))
        }
        ("DELETE", ["v1", "email_addresses", _]) => (200, json!({ "deleted": true })),
        _ => error(404, "resource_not_found"),
    }
}
