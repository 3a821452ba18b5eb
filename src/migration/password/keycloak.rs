//! Keycloak's credentials: JSON, with JSON in its strings. The document names its algorithm.

use argon2::{Algorithm as Type, Version};
use serde_json::Value;

use super::algorithm::Algorithm;
use super::argon2::Hashed;
use super::encoding::{base64, small};
use super::pbkdf2::Derived;
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// PBKDF2 with SHA-256.
pub const PBKDF2_SHA256: Kind<Parse> = Kind {
    name: "keycloak-pbkdf2-sha256",
    about: "Keycloak: the credential as JSON, pbkdf2-sha256",
    build: |stored| parse(stored, false),
};

/// PBKDF2 with SHA-512.
pub const PBKDF2_SHA512: Kind<Parse> = Kind {
    name: "keycloak-pbkdf2-sha512",
    about: "Keycloak: the credential as JSON, pbkdf2-sha512",
    build: |stored| parse(stored, false),
};

/// PBKDF2 with whichever digest the document names.
pub const PBKDF2: Kind<Parse> = Kind {
    name: "keycloak-pbkdf2",
    about: "Keycloak: the credential as JSON, pbkdf2 with the digest it names (SHA-1 for none)",
    build: |stored| parse(stored, false),
};

/// argon2.
pub const ARGON2: Kind<Parse> = Kind {
    name: "keycloak-argon2",
    about: "Keycloak 25 and later: the credential as JSON, argon2",
    build: |stored| parse(stored, true),
};

const FORM: Unusable = Unusable::Malformed("it is not Keycloak's JSON");

/// JSON, or JSON in a string.
fn inner(document: &Value, name: &str) -> Result<Value, Unusable> {
    match document.get(name) {
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| FORM),
        Some(object @ Value::Object(_)) => Ok(object.clone()),
        _ => Err(FORM),
    }
}

/// A text or a number; alone, or in a list of one.
fn word(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(list) if list.len() == 1 => word(list.first()),
        _ => None,
    }
}

fn parse(stored: &Stored, argon2: bool) -> Result<Box<dyn Hash>, Unusable> {
    let document: Value = serde_json::from_str(stored.hash.expose()).map_err(|_| FORM)?;
    let (data, secret) = (
        inner(&document, "credentialData")?,
        inner(&document, "secretData")?,
    );
    let of = |from: &Value, name: &str| word(from.get(name)).ok_or(FORM);
    let salt = base64(&of(&secret, "salt")?)?;
    let key = base64(&of(&secret, "value")?)?;
    let rounds = small(&of(&data, "hashIterations")?)?;
    let algorithm = of(&data, "algorithm")?;
    if !argon2 {
        let digest = match algorithm.as_str() {
            "pbkdf2" => Some(Algorithm::Sha1),
            other => other.strip_prefix("pbkdf2-").and_then(Algorithm::named),
        };
        let digest = digest.ok_or(Unusable::Malformed("nobody knows its algorithm"))?;
        return Ok(Box::new(Derived::of(digest, rounds, salt, key)?));
    }
    if algorithm != "argon2" {
        return Err(Unusable::Malformed("nobody knows its algorithm"));
    }
    let more = data.get("additionalParameters").ok_or(FORM)?;
    let kind = match of(more, "type")?.as_str() {
        "id" => Type::Argon2id,
        "i" => Type::Argon2i,
        "d" => Type::Argon2d,
        _ => return Err(Unusable::Malformed("nobody knows its type")),
    };
    let version = match of(more, "version")?.as_str() {
        "1.3" => Version::V0x13,
        "1.0" => Version::V0x10,
        _ => return Err(Unusable::Malformed("nobody knows its version")),
    };
    Hashed {
        kind,
        version,
        memory_kib: small(&of(more, "memory")?)?,
        passes: rounds,
        lanes: small(&of(more, "parallelism")?)?,
        salt,
        key,
        pepper: None,
    }
    .sound()
}
