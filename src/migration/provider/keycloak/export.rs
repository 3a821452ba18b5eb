//! Keycloak's export of a realm: users with their credentials. The admin API has none.
//!
//! Source: keycloak, `UserRepresentation` and `CredentialRepresentation`.

use serde_json::Value;
use zeroize::Zeroizing;

use crate::migration::import::normalise::{self, Draft, flag, text};
use crate::migration::import::record::{Factor, FactorKey, Oddity, Record};
use crate::migration::import::source::{
    About, Export, Form, Input, Joined, Lists, Options, members,
};
use crate::migration::second_factor;

/// Keycloak.
pub(super) const EXPORT: Export = Export {
    inputs: &[Input {
        name: "users",
        about: "what `kc.sh export --users different_files` writes: realm-users-N.json, or a realm in one file",
        required: true,
        forms: &[Form::Json, Form::Ndjson],
        lists: Lists::Named(&["users"]),
        part: |entry, _| entry.fragment(About::User, "/id", "user"),
    }],
    keys: &[],
    compose,
    pages: None,
    queries: &[],
    experimental: false,
};

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    vec![user(joined, options)]
}

fn user(joined: &Joined, options: &Options) -> Record {
    let Some(newest) = joined.newest("user", "/createdTimestamp") else {
        return normalise::refused(joined, Oddity::Unreadable, "it is empty");
    };
    let value = &newest.value;
    let attributes = members(value.get("attributes"));
    let attribute = |name: &str| {
        attributes
            .get(name)
            .and_then(|list| list.get(0).or(Some(list)))
    };
    let mut draft = Draft::new(joined.place(), joined.key.clone());
    if joined.differs("user") {
        draft.note(
            Oddity::RepeatedId,
            "the id stands there more than once: the newest counts",
        );
    }
    draft.email(
        text(value.get("email")),
        flag(value.get("emailVerified")) == Some(true),
    );
    draft.names(value.get("firstName"), value.get("lastName"));
    draft.username(value.get("username"));
    let phone = attribute("phoneNumber").or_else(|| attribute("phone_number"));
    let verified = flag(attribute("phoneNumberVerified")) == Some(true);
    draft.phone(phone, verified);
    draft.image(attribute("picture"));
    draft.created(value.get("createdTimestamp"));
    if flag(value.get("enabled")) == Some(false) {
        draft.ban(None, None);
    }
    for credential in list(value, "credentials") {
        self::credential(&mut draft, credential, options);
    }
    // Users of a directory have no hash of their own.
    if text(value.get("federationLink")).is_some() {
        draft.password_elsewhere();
    }
    for identity in list(value, "federatedIdentities") {
        if let Some(provider) = text(identity.get("identityProvider")) {
            draft.social_id(&provider, text(identity.get("userId")), options);
        }
    }
    for role in list(value, "realmRoles").iter().filter_map(Value::as_str) {
        // Everybody has these.
        let usual = role.starts_with("default-roles-")
            || matches!(role, "offline_access" | "uma_authorization");
        if !usual {
            draft.foreign_role(role, options);
        }
    }
    draft.metadata("attributes", Value::Object(attributes));
    draft.metadata("groups", value.get("groups").cloned().unwrap_or_default());
    draft.finish()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    let list = value.get(name).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

fn credential(draft: &mut Draft, credential: &Value, options: &Options) {
    let data = members(credential.get("credentialData"));
    match text(credential.get("type")).unwrap_or_default().as_str() {
        "password" => {
            let algorithm = text(data.get("algorithm")).unwrap_or_default();
            let scheme = match algorithm.as_str() {
                "pbkdf2-sha256" => "keycloak-pbkdf2-sha256",
                "pbkdf2-sha512" => "keycloak-pbkdf2-sha512",
                "argon2" => "keycloak-argon2",
                _ => "keycloak-pbkdf2",
            };
            draft.hash(Some(scheme), &credential.to_string(), &[], options);
        }
        "otp" | "totp" => {
            if text(data.get("subType")).is_some_and(|kind| kind != "totp") {
                draft.factor_lost("its codes are counted, and not made of the time");
                return;
            }
            let secret = text(members(credential.get("secretData")).get("value"));
            let key = secret.and_then(|secret| match text(data.get("secretEncoding")).as_deref() {
                Some("BASE32") => second_factor::from_base32(&secret),
                // The letters themselves are the key.
                _ => Some(Zeroizing::new(secret.into_bytes())),
            });
            let number = |name: &str| data.get(name).and_then(Value::as_u64);
            draft.factor_of(Factor {
                key: key.map(FactorKey),
                digits: number("digits")
                    .and_then(|digits| u8::try_from(digits).ok())
                    .unwrap_or(6),
                period: number("period")
                    .and_then(|period| u32::try_from(period).ok())
                    .unwrap_or(30),
                algorithm: match text(data.get("algorithm")).as_deref() {
                    Some("HmacSHA256") => "SHA256".into(),
                    Some("HmacSHA512") => "SHA512".into(),
                    _ => "SHA1".into(),
                },
                backup_codes: Vec::new(),
            });
        }
        kind if kind.starts_with("webauthn") => draft.passkeys(1),
        _ => {}
    }
}
