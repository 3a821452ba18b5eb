//! What Clerk alone writes: a digest with its salt behind it, and an HMAC over UTF-16.

use data_encoding::BASE64;

use super::algorithm::Algorithm;
use super::digest::{Digested, Letters, Recipe, joined, zeros};
use super::encoding::{base64, hex, parts, text};
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// `md5_salted`.
pub const MD5_SALTED: Kind<Parse> = Kind {
    name: "clerk-md5-salted",
    about: "Clerk: md5 in hex$salt; on which side the salt goes is not documented: `salt_position`, or either",
    build: |stored| salted(stored, Algorithm::Md5),
};

/// `sha256_salted`.
pub const SHA256_SALTED: Kind<Parse> = Kind {
    name: "clerk-sha256-salted",
    about: "Clerk: sha256 in hex$salt; on which side the salt goes is not documented: `salt_position`, or either",
    build: |stored| salted(stored, Algorithm::Sha256),
};

/// `hmac_sha256_utf16_b64`.
pub const HMAC_UTF16: Kind<Parse> = Kind {
    name: "clerk-hmac-sha256-utf16-b64",
    about: "Clerk: base64$key, HMAC-SHA256 over UTF-16 (experimental: not documented)",
    build: hmac,
};

fn salted(stored: &Stored, algorithm: Algorithm) -> Result<Box<dyn Hash>, Unusable> {
    let [digest, salt] = parts(stored.hash.expose(), '$')?;
    let husk = format!("{}${salt}", zeros(algorithm));
    let salt = text(salt)?;
    let recipe = match stored.param("salt_position") {
        Some(position) => joined(salt, position)?,
        None => Recipe::Either(salt),
    };
    Digested::once(algorithm, recipe, hex(digest)?, husk).sound()
}

fn hmac(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let found = stored.hash.expose();
    let found = found
        .strip_prefix("hmac_sha256_utf16_b64$")
        .unwrap_or(found);
    let [digest, key] = parts(found, '$')?;
    let husk = format!("{}${key}", BASE64.encode(&[0; 32]));
    let letters = Letters::Utf16;
    let recipe = Recipe::Keyed(letters.bytes(&text(key)?));
    Digested {
        letters,
        ..Digested::once(Algorithm::Sha256, recipe, base64(digest)?, husk)
    }
    .sound()
}
