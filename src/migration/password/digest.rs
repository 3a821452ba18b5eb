//! Plain digests and HMACs, in hex or base64, with the salt beside them.

use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::cost::Cost;
use super::encoding::{Bytes, base64, hex, same, text};
use super::{Digest, Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// One line per algorithm: its three kinds.
macro_rules! kinds {
    ($($algorithm:ident $plain:ident $salted:ident $hmac:ident: $plain_name:literal $salted_name:literal $hmac_name:literal,)*) => { $(
        #[doc = concat!("`", $plain_name, "`.")]
        pub const $plain: Kind<Parse> = Kind {
            name: $plain_name,
            about: concat!("a bare digest; `encoding` (hex, base64), `iterations` beside it: ", $plain_name),
            build: |stored| plain(stored, Algorithm::$algorithm),
        };

        #[doc = concat!("`", $salted_name, "`.")]
        pub const $salted: Kind<Parse> = Kind {
            name: $salted_name,
            about: concat!("a digest with `salt`, `salt_position` (prefix, suffix), `salt_encoding` (text, hex, base64) beside it: ", $salted_name),
            build: |stored| salted(stored, Algorithm::$algorithm),
        };

        #[doc = concat!("`", $hmac_name, "`.")]
        pub const $hmac: Kind<Parse> = Kind {
            name: $hmac_name,
            about: concat!("an HMAC with `key`, `key_encoding` (text, hex, base64) beside it: ", $hmac_name),
            build: |stored| hmac(stored, Algorithm::$algorithm),
        };
    )* };
}

kinds! {
    Md4 MD4 MD4_SALTED MD4_HMAC: "md4-hex" "md4-hex-salted" "hmac-md4-hex",
    Md5 MD5 MD5_SALTED MD5_HMAC: "md5-hex" "md5-hex-salted" "hmac-md5-hex",
    Sha1 SHA1 SHA1_SALTED SHA1_HMAC: "sha1-hex" "sha1-hex-salted" "hmac-sha1-hex",
    Sha224 SHA224 SHA224_SALTED SHA224_HMAC: "sha224-hex" "sha224-hex-salted" "hmac-sha224-hex",
    Sha256 SHA256 SHA256_SALTED SHA256_HMAC: "sha256-hex" "sha256-hex-salted" "hmac-sha256-hex",
    Sha384 SHA384 SHA384_SALTED SHA384_HMAC: "sha384-hex" "sha384-hex-salted" "hmac-sha384-hex",
    Sha512 SHA512 SHA512_SALTED SHA512_HMAC: "sha512-hex" "sha512-hex-salted" "hmac-sha512-hex",
}

/// A piece of what is fed to the digest.
pub(super) enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// The password.
    Password,
}

/// What is fed to the digest.
pub(super) enum Recipe {
    /// Pieces, one after the other.
    Joined(Vec<Piece>),
    /// The salt, on either side: the vendor does not say.
    Either(Bytes),
    /// An HMAC with this key.
    Keyed(Bytes),
}

/// How the letters of a password become bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Letters {
    /// UTF-8, as they come.
    Utf8,
    /// UTF-16, little-endian.
    Utf16,
}

impl Letters {
    /// A password's bytes.
    pub(super) fn bytes(self, password: &[u8]) -> Bytes {
        if self == Self::Utf8 {
            return Bytes::new(password.to_vec());
        }
        let text = Zeroizing::new(String::from_utf8_lossy(password).into_owned());
        let mut bytes = Bytes::new(Vec::with_capacity(2 * text.len()));
        for unit in text.encode_utf16() {
            bytes.extend(unit.to_le_bytes());
        }
        bytes
    }
}

/// A digest taken apart. Every scheme that is a digest over salt and password, of whatever spelling, becomes one.
pub(super) struct Digested {
    pub(super) algorithm: Algorithm,
    pub(super) recipe: Recipe,
    pub(super) letters: Letters,
    /// How often it is made in all: each time after the first over what was made.
    pub(super) times: u32,
    pub(super) expected: Bytes,
    /// The stored text without its digest.
    pub(super) husk: String,
}

impl Digested {
    /// Made once, of letters in UTF-8.
    pub(super) const fn once(
        algorithm: Algorithm,
        recipe: Recipe,
        expected: Bytes,
        husk: String,
    ) -> Self {
        Self {
            algorithm,
            recipe,
            letters: Letters::Utf8,
            times: 1,
            expected,
            husk,
        }
    }

    /// Refuses a digest of another length.
    pub(super) fn sound(self) -> Result<Box<dyn Hash>, Unusable> {
        if self.expected.len() != self.algorithm.bytes() {
            return Err(Unusable::Malformed("its digest is of another length"));
        }
        Ok(Box::new(self))
    }
}

impl Hash for Digested {
    fn cost(&self) -> Cost {
        if self.times > 1 {
            return Cost::Rounds(self.times.into());
        }
        Cost::Digest
    }

    fn verify(&self, password: &[u8]) -> bool {
        one_of(self, password)
    }

    fn digest(&self) -> Option<&dyn Digest> {
        Some(self)
    }
}

impl Digest for Digested {
    fn expected(&self) -> &[u8] {
        &self.expected
    }

    fn made(&self, password: &[u8]) -> Vec<Bytes> {
        let password = self.letters.bytes(password);
        let password = password.as_slice();
        let digest = |parts: &[&[u8]]| self.algorithm.digest(parts);
        let mut made = match &self.recipe {
            Recipe::Joined(pieces) => {
                let parts: Vec<&[u8]> = pieces
                    .iter()
                    .map(|piece| match piece {
                        Piece::Bytes(bytes) => bytes.as_slice(),
                        Piece::Password => password,
                    })
                    .collect();
                vec![digest(&parts)]
            }
            Recipe::Either(salt) => vec![digest(&[salt, password]), digest(&[password, salt])],
            Recipe::Keyed(key) => vec![self.algorithm.hmac(key, password)],
        };
        for each in &mut made {
            for _ in 1..self.times {
                *each = digest(&[each.as_slice()]);
            }
        }
        made
    }

    fn husk(&self) -> String {
        self.husk.clone()
    }
}

/// Whether one of what a password makes is what is stored; all are looked at.
pub(super) fn one_of(digest: &dyn Digest, password: &[u8]) -> bool {
    let made = digest.made(password);
    made.iter()
        .fold(false, |found, made| found | same(made, digest.expected()))
}

/// So many zeros in hex: a digest's place in a husk.
pub(super) fn zeros(algorithm: Algorithm) -> String {
    "0".repeat(2 * algorithm.bytes())
}

/// A digest as it is told to be written, and that nothing in the same form.
fn read(stored: &Stored, algorithm: Algorithm) -> Result<(Bytes, String), Unusable> {
    let text = stored.hash.expose();
    match stored.param("encoding").unwrap_or("hex") {
        "hex" => Ok((hex(text)?, zeros(algorithm))),
        "base64" => {
            let nothing = data_encoding::BASE64.encode(&vec![0; algorithm.bytes()]);
            Ok((base64(text)?, nothing))
        }
        _ => Err(Unusable::Malformed("nobody knows its `encoding`")),
    }
}

/// A value beside a hash, as it is told to be written.
pub(super) fn beside(
    stored: &Stored,
    name: &'static str,
    encoding: &str,
) -> Result<Bytes, Unusable> {
    let value = stored.need(name)?;
    match stored.param(encoding).unwrap_or("text") {
        "text" | "utf8" => text(value),
        "hex" => hex(value),
        "base64" => base64(value),
        _ => Err(Unusable::Malformed(
            "nobody knows how a value beside it is written",
        )),
    }
}

fn plain(stored: &Stored, algorithm: Algorithm) -> Result<Box<dyn Hash>, Unusable> {
    let (expected, husk) = read(stored, algorithm)?;
    let recipe = Recipe::Joined(vec![Piece::Password]);
    let times = times(stored)?;
    Digested {
        times,
        ..Digested::once(algorithm, recipe, expected, husk)
    }
    .sound()
}

fn salted(stored: &Stored, algorithm: Algorithm) -> Result<Box<dyn Hash>, Unusable> {
    let (expected, husk) = read(stored, algorithm)?;
    let salt = beside(stored, "salt", "salt_encoding")?;
    let recipe = joined(salt, stored.need("salt_position")?)?;
    let times = times(stored)?;
    Digested {
        times,
        ..Digested::once(algorithm, recipe, expected, husk)
    }
    .sound()
}

/// How often the digest is made; once, unless it is said.
fn times(stored: &Stored) -> Result<u32, Unusable> {
    let times = super::encoding::small(stored.param("iterations").unwrap_or("1"))?;
    if times == 0 {
        return Err(Unusable::Malformed("it has no rounds"));
    }
    Ok(times)
}

/// A salt on its side of the password.
pub(super) fn joined(salt: Bytes, position: &str) -> Result<Recipe, Unusable> {
    let salt = Piece::Bytes(salt);
    Ok(Recipe::Joined(match position {
        "prefix" => vec![salt, Piece::Password],
        "suffix" => vec![Piece::Password, salt],
        _ => return Err(Unusable::Malformed("nobody knows its `salt_position`")),
    }))
}

fn hmac(stored: &Stored, algorithm: Algorithm) -> Result<Box<dyn Hash>, Unusable> {
    let (expected, husk) = read(stored, algorithm)?;
    let recipe = Recipe::Keyed(beside(stored, "key", "key_encoding")?);
    Digested::once(algorithm, recipe, expected, husk).sound()
}
