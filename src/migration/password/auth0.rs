//! Auth0's `custom_password_hash`: a document that says how the hash it holds was made.
//!
//! Source: Auth0, "Bulk user import database schema and examples".

use data_encoding::HEXLOWER;
use serde_json::Value;

use super::algorithm::Algorithm;
use super::digest::{Digested, Letters, Piece, Recipe, joined};
use super::encoding::{Bytes, base64, hex, small, text};
use super::scrypt::Hashed;
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;
use crate::secret::Secret;

/// The scheme.
pub const KIND: Kind<Parse> = Kind {
    name: "auth0-custom",
    about: "Auth0: the `custom_password_hash` of a user, as JSON",
    build: parse,
};

const FORM: Unusable = Unusable::Malformed("it is not Auth0's JSON");

/// A `{value, encoding}`. What is no encoding here is refused: letters would be read as others.
fn value(part: &Value) -> Result<Bytes, Unusable> {
    let found = part.get("value").and_then(Value::as_str).ok_or(FORM)?;
    match part
        .get("encoding")
        .and_then(Value::as_str)
        .unwrap_or("utf8")
    {
        "utf8" | "ascii" => text(found),
        "hex" => hex(found),
        "base64" => base64(found),
        _ => Err(Unusable::Malformed("nobody knows its `encoding`")),
    }
}

fn parse(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let document: Value = serde_json::from_str(stored.hash.expose()).map_err(|_| FORM)?;
    let algorithm = document
        .get("algorithm")
        .and_then(Value::as_str)
        .ok_or(FORM)?;
    let hash = document.get("hash").ok_or(FORM)?;
    let letters = document
        .pointer("/password/encoding")
        .and_then(Value::as_str);
    let letters = match letters.unwrap_or("utf8") {
        "utf8" | "ascii" => Letters::Utf8,
        "utf16le" | "ucs2" => Letters::Utf16,
        _ => {
            return Err(Unusable::Malformed(
                "nobody knows how its letters are written",
            ));
        }
    };
    let whole = match algorithm {
        "argon2" | "bcrypt" | "pbkdf2" | "ldap" => Some(whole(algorithm, hash)?),
        "scrypt" => Some(scrypt(&document, hash)?),
        _ => None,
    };
    if let Some(whole) = whole {
        // Those are never made of anything but UTF-8 by whom they come from.
        if letters != Letters::Utf8 {
            return Err(Unusable::Malformed(
                "nobody knows how its letters are written",
            ));
        }
        return Ok(whole);
    }
    let (digest, recipe) = if algorithm == "hmac" {
        let digest = hash.get("digest").and_then(Value::as_str).ok_or(FORM)?;
        (digest, Recipe::Keyed(value(hash.get("key").ok_or(FORM)?)?))
    } else {
        (algorithm, salted(&document)?)
    };
    let digest = Algorithm::named(digest).ok_or(Unusable::Malformed("nobody knows its digest"))?;
    let mut husk = document.clone();
    if let Some(hash) = husk.get_mut("hash").and_then(Value::as_object_mut) {
        let nothing = HEXLOWER.encode(&vec![0; digest.bytes()]);
        hash.insert("value".to_owned(), nothing.into());
        hash.insert("encoding".to_owned(), "hex".into());
    }
    Digested {
        letters,
        ..Digested::once(digest, recipe, value(hash)?, husk.to_string())
    }
    .sound()
}

fn salted(document: &Value) -> Result<Recipe, Unusable> {
    let Some(salt) = document.get("salt") else {
        return Ok(Recipe::Joined(vec![Piece::Password]));
    };
    let position = salt.get("position").and_then(Value::as_str);
    joined(value(salt)?, position.unwrap_or("prefix"))
}

/// A text that says everything itself.
fn whole(algorithm: &str, hash: &Value) -> Result<Box<dyn Hash>, Unusable> {
    let found = hash.get("value").and_then(Value::as_str).ok_or(FORM)?;
    let scheme = match algorithm {
        "pbkdf2" => "phc-pbkdf2",
        other => other,
    };
    let kind = super::find(scheme).ok_or(Unusable::Unknown)?;
    (kind.build)(&Stored::plain(Secret::new(found)))
}

fn scrypt(document: &Value, hash: &Value) -> Result<Box<dyn Hash>, Unusable> {
    let cost = |name: &str, usual: u32| match document.get(name) {
        None => Ok(usual),
        Some(Value::Number(number)) => small(&number.to_string()),
        Some(_) => Err(FORM),
    };
    let key = value(hash)?;
    if let Ok(length) = usize::try_from(cost("keylen", 0)?)
        && length != 0
        && length != key.len()
    {
        return Err(Unusable::Malformed("its key is of another length"));
    }
    let salt = value(document.get("salt").ok_or(FORM)?)?;
    let n = cost("cost", 16384)?.into();
    let (r, p) = (cost("blockSize", 8)?, cost("parallelization", 1)?);
    Ok(Box::new(Hashed::of(n, r, p, salt, key)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(document: &Value) -> Result<Box<dyn Hash>, Unusable> {
        parse(&Stored::plain(Secret::new(document.to_string())))
    }

    #[test]
    fn a_document_says_how_it_was_made() {
        let salt = hex("b8ac3c4e15b4ed7d").unwrap();
        let digest = HEXLOWER.encode(&Algorithm::Sha256.digest(&[&salt, b"pw"]));
        let mut document = serde_json::json!({
            "algorithm": "sha256",
            "hash": { "value": digest, "encoding": "hex" },
            "salt": { "value": "b8ac3c4e15b4ed7d", "encoding": "hex", "position": "prefix" },
        });
        let hash = parsed(&document).ok().unwrap();
        assert!(hash.verify(b"pw") && !hash.verify(b"pv"));
        let husk = hash.digest().unwrap().husk();
        assert!(!husk.contains(&digest) && husk.contains("b8ac3c4e15b4ed7d"));
        document["hash"]["encoding"] = "rot13".into();
        assert!(parsed(&document).is_err());

        let mac = HEXLOWER.encode(&Algorithm::Sha256.hmac(&salt, b"pw"));
        let hmac = parsed(&serde_json::json!({
            "algorithm": "hmac",
            "hash": {
                "value": mac, "encoding": "hex", "digest": "sha256",
                "key": { "value": "b8ac3c4e15b4ed7d", "encoding": "hex" },
            },
        }));
        assert!(hmac.as_ref().is_ok_and(|hash| hash.verify(b"pw")));
        let bcrypt = parsed(&serde_json::json!({
            "algorithm": "bcrypt",
            "hash": { "value": "$2b$04$fOZRXqpgcnvxfD3/VzxkguUaOqcsJX/DgKwy28fpeaC5vyj0tZHaW" },
        }));
        assert!(bcrypt.is_ok_and(|hash| hash.verify(b"correct horse battery staple")));
    }
}
