//! Joomla before 3.2: MD5 over password and salt, with the salt behind a colon.

use super::algorithm::Algorithm;
use super::digest::{Digested, joined, zeros};
use super::encoding::{hex, parts, text};
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// The scheme.
pub const KIND: Kind<Parse> = Kind {
    name: "joomla-md5",
    about: "Joomla before 3.2: md5:salt",
    build: parse,
};

fn parse(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    let [digest, salt] = parts(stored.hash.expose(), ':')?;
    let husk = format!("{}:{salt}", zeros(Algorithm::Md5));
    let recipe = joined(text(salt)?, "suffix")?;
    Digested::once(Algorithm::Md5, recipe, hex(digest)?, husk).sound()
}
