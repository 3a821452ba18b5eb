//! What LDAP directories keep: the algorithm in braces, then base64 of the digest with its salt behind it.

use data_encoding::BASE64;

use super::algorithm::Algorithm;
use super::digest::{Digested, Piece, Recipe, joined};
use super::encoding::base64;
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// One line per tag.
macro_rules! kinds {
    ($($constant:ident $name:literal $tag:literal $algorithm:ident $salted:literal,)*) => { $(
        #[doc = concat!("`", $tag, "`.")]
        pub const $constant: Kind<Parse> = Kind {
            name: $name,
            about: concat!("LDAP: ", $tag),
            build: |stored| parse(stored, $tag, Algorithm::$algorithm, $salted),
        };
    )* };
}

kinds! {
    SSHA "ldap-ssha" "{SSHA}" Sha1 true,
    SSHA256 "ldap-ssha256" "{SSHA256}" Sha256 true,
    SSHA384 "ldap-ssha384" "{SSHA384}" Sha384 true,
    SSHA512 "ldap-ssha512" "{SSHA512}" Sha512 true,
    SMD5 "ldap-smd5" "{SMD5}" Md5 true,
    SHA "ldap-sha" "{SHA}" Sha1 false,
    SHA256 "ldap-sha256" "{SHA256}" Sha256 false,
    SHA512 "ldap-sha512" "{SHA512}" Sha512 false,
    MD5 "ldap-md5" "{MD5}" Md5 false,
}

fn parse(
    stored: &Stored,
    tag: &str,
    algorithm: Algorithm,
    salted: bool,
) -> Result<Box<dyn Hash>, Unusable> {
    let text = stored.hash.expose();
    // RFC 2307 leaves the letters' case open.
    let (found, encoded) = text
        .split_at_checked(tag.len())
        .filter(|(found, _)| found.eq_ignore_ascii_case(tag))
        .ok_or(Unusable::Malformed("it begins with another word"))?;
    let bytes = base64(encoded)?;
    let (digest, salt) = bytes
        .split_at_checked(algorithm.bytes())
        .ok_or(Unusable::Malformed("its digest is of another length"))?;
    if salt.is_empty() == salted {
        return Err(Unusable::Malformed("its salt is missing, or one too many"));
    }
    let recipe = if salted {
        joined(salt.to_vec().into(), "suffix")?
    } else {
        Recipe::Joined(vec![Piece::Password])
    };
    let nothing = [vec![0; algorithm.bytes()].as_slice(), salt].concat();
    let husk = format!("{found}{}", BASE64.encode(&nothing));
    Digested::once(algorithm, recipe, digest.to_vec().into(), husk).sound()
}
