//! passport-local-mongoose: hash and salt in fields of their own, and the salt used as the text it is.

use super::algorithm::Algorithm;
use super::encoding::{base64, hex, small, text};
use super::pbkdf2::Derived;
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// The scheme.
pub const KIND: Kind<Parse> = Kind {
    name: "passport-local-mongoose",
    about: "passport-local-mongoose: hex; `salt`, and `iterations` (25000), `digest` (sha256), `encoding` (hex, base64) beside it",
    build: parse,
};

fn parse(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let key = match stored.param("encoding").unwrap_or("hex") {
        "hex" => hex(stored.hash.expose())?,
        "base64" => base64(stored.hash.expose())?,
        _ => return Err(Unusable::Malformed("nobody knows its `encoding`")),
    };
    let salt = text(stored.need("salt")?)?;
    let algorithm = Algorithm::named(stored.param("digest").unwrap_or("sha256"));
    let algorithm = algorithm.ok_or(Unusable::Malformed("nobody knows its digest"))?;
    let rounds = small(stored.param("iterations").unwrap_or("25000"))?;
    Ok(Box::new(Derived::of(algorithm, rounds, salt, key)?))
}
