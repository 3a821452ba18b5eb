//! Django's plain digests, long removed and still found: `md5$salt$hex`.

use super::algorithm::Algorithm;
use super::digest::{Digested, Piece, Recipe, joined, zeros};
use super::encoding::{hex, parts};
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// `md5$`.
pub const MD5: Kind<Parse> = Kind {
    name: "django-md5",
    about: "Django: md5$salt$hex, or hex alone",
    build: |stored| parse(stored, "md5", Algorithm::Md5),
};

/// `sha1$`.
pub const SHA1: Kind<Parse> = Kind {
    name: "django-sha1",
    about: "Django: sha1$salt$hex",
    build: |stored| parse(stored, "sha1", Algorithm::Sha1),
};

fn parse(stored: &Stored, word: &str, algorithm: Algorithm) -> Result<Box<dyn Hash>, Unusable> {
    let text = stored.hash.expose();
    // `UnsaltedMD5PasswordHasher` writes nothing before it.
    if algorithm == Algorithm::Md5 && !text.contains('$') {
        let recipe = Recipe::Joined(vec![Piece::Password]);
        return Digested::once(algorithm, recipe, hex(text)?, zeros(algorithm)).sound();
    }
    let [found, salt, digest] = parts(text, '$')?;
    if found != word {
        return Err(Unusable::Malformed("it begins with another word"));
    }
    let recipe = joined(salt.as_bytes().to_vec().into(), "prefix")?;
    let husk = format!("{word}${salt}${}", zeros(algorithm));
    Digested::once(algorithm, recipe, hex(digest)?, husk).sound()
}
