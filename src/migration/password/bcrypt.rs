//! bcrypt, under its four names, with or without a pepper.
//!
//! Only the first 72 bytes of a password count. `$2a$`, `$2b$` and `$2y$` are one algorithm; `$2x$` marks hashes made by crypt_blowfish
//! before 1.1, which took bytes from 0x80 on as negative numbers.

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::cost::Cost;
use super::encoding::{number, same};
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;
use crate::secret::Secret;

/// The scheme.
pub const KIND: Kind<Parse> = Kind {
    name: "bcrypt",
    about: "bcrypt: $2a$, $2b$, $2y$, $2x$",
    build: |stored| Ok(Box::new(Bcrypt::read(stored.hash.expose())?)),
};

/// What crypt_blowfish made before 1.1.
pub const TWO_X: Kind<Parse> = Kind {
    name: "bcrypt-2x",
    about: "bcrypt with the sign bug of crypt_blowfish before 1.1: $2x$",
    build: |stored| {
        let bcrypt = Bcrypt::read(stored.hash.expose())?;
        if !bcrypt.signed {
            return Err(Unusable::Malformed("it is not $2x$"));
        }
        Ok(Box::new(bcrypt))
    },
};

/// With a secret that stands beside the table: `pepper`, and `pepper_position` (`suffix`, unless it is said).
pub const PEPPERED: Kind<Parse> = Kind {
    name: "bcrypt-pepper-suffix",
    about: "bcrypt over password and pepper, as Devise does; `pepper` beside it, or after a $ as Clerk writes it",
    build: |stored| peppered(stored, "suffix"),
};

/// With the pepper first.
pub const PEPPER_FIRST: Kind<Parse> = Kind {
    name: "bcrypt-pepper-prefix",
    about: "bcrypt over pepper and password; `pepper` beside it",
    build: |stored| peppered(stored, "prefix"),
};

/// With the pepper as the key of an HMAC.
pub const PEPPER_HMAC: Kind<Parse> = Kind {
    name: "bcrypt-pepper-hmac-sha256",
    about: "bcrypt over the base64 of HMAC-SHA256 of the password, keyed with `pepper`",
    build: |stored| peppered(stored, "hmac-sha256"),
};

/// Length of `$2b$10$`, salt and digest.
const LETTERS: usize = 60;
const SALT_LETTERS: usize = 22;
const PASSWORD_BYTES: usize = 72;
const DIGEST_BYTES: usize = 23;

/// Bits beyond the salt's last byte are ignored, as every implementation does.
const SALT: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

const DIGEST: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// A hash taken apart.
pub(super) struct Bcrypt {
    cost: u32,
    salt: [u8; 16],
    digest: Zeroizing<[u8; DIGEST_BYTES]>,
    signed: bool,
}

impl Bcrypt {
    /// Reads `$2b$10$…`: exactly 60 letters.
    pub(super) fn read(text: &str) -> Result<Self, Unusable> {
        if text.len() != LETTERS || !text.is_ascii() {
            return Err(Unusable::Malformed("it is not 60 letters"));
        }
        let rest = text
            .strip_prefix("$2")
            .ok_or(Unusable::Malformed("it does not begin with $2"))?;
        let (version, rest) = rest
            .split_once('$')
            .ok_or(Unusable::Malformed("it has no version"))?;
        let signed = match version {
            "a" | "b" | "y" => false,
            "x" => true,
            _ => return Err(Unusable::Malformed("nobody knows its version")),
        };
        let (cost, rest) = rest
            .split_once('$')
            .ok_or(Unusable::Malformed("it has no cost"))?;
        let (salt, digest) = rest
            .split_at_checked(SALT_LETTERS)
            .ok_or(Unusable::Malformed("it has no salt"))?;
        Self::of(cost, salt, digest, signed)
    }

    /// From its parts: a cost of two digits, 22 letters of salt, 31 of digest.
    pub(super) fn of(cost: &str, salt: &str, digest: &str, signed: bool) -> Result<Self, Unusable> {
        if cost.len() != 2 {
            return Err(Unusable::Malformed("its cost is not two digits"));
        }
        let cost = u32::try_from(number(cost)?).unwrap_or(u32::MAX);
        if !(4..=31).contains(&cost) {
            return Err(Unusable::Malformed("its cost is not from 4 to 31"));
        }
        let malformed = |_| Unusable::Malformed("not bcrypt's base64");
        let salt = SALT.decode(salt).map_err(malformed)?;
        let digest = Zeroizing::new(DIGEST.decode(digest).map_err(malformed)?);
        let length = |_| Unusable::Malformed("a part is too short");
        Ok(Self {
            cost,
            salt: salt.as_slice().try_into().map_err(length)?,
            digest: Zeroizing::new(digest.as_slice().try_into().map_err(length)?),
            signed,
        })
    }

    /// The words crypt_blowfish before 1.1 made of a password: each byte is or-ed in with its sign, so that one from 0x80 on sets every
    /// bit above it. The 18 words, written out, are the key that a right implementation reads the same words from.
    fn signed_key(password: &[u8]) -> Zeroizing<[u8; PASSWORD_BYTES]> {
        let mut key = Zeroizing::new([0; PASSWORD_BYTES]);
        // That implementation read up to the first NUL, and began again after it.
        let end = password.iter().position(|byte| *byte == 0);
        let text = password
            .get(..end.unwrap_or(password.len()))
            .unwrap_or(password);
        let mut bytes = text.iter().copied().chain([0]).cycle();
        for word in key.chunks_exact_mut(4) {
            let mut value: u32 = 0;
            for byte in bytes.by_ref().take(4) {
                value = (value << 8) | i32::from(byte.cast_signed()).cast_unsigned();
            }
            word.copy_from_slice(&value.to_be_bytes());
        }
        key
    }
}

impl Hash for Bcrypt {
    fn cost(&self) -> Cost {
        Cost::Bcrypt(self.cost)
    }

    fn verify(&self, password: &[u8]) -> bool {
        let digest = if self.signed {
            ::bcrypt::bcrypt(self.cost, self.salt, Self::signed_key(password).as_slice())
        } else {
            // With the NUL that ends it, as far as that fits.
            let counted = password.get(..PASSWORD_BYTES).unwrap_or(password);
            let mut key = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES));
            key.extend_from_slice(counted);
            if key.len() < PASSWORD_BYTES {
                key.push(0);
            }
            ::bcrypt::bcrypt(self.cost, self.salt, &key)
        };
        let digest = Zeroizing::new(digest);
        let (digest, _) = digest.split_at(DIGEST_BYTES);
        same(digest, self.digest.as_slice())
    }
}

#[derive(Clone, Copy)]
enum Position {
    Suffix,
    Prefix,
    Key,
}

struct Peppered {
    bcrypt: Bcrypt,
    pepper: Secret,
    position: Position,
}

fn peppered(stored: &Stored, position: &str) -> Result<Box<dyn Hash>, Unusable> {
    let text = stored.hash.expose();
    // Clerk writes it behind the hash: `$2a$10$…$pepper`.
    let (hash, behind) = match text.split_at_checked(LETTERS) {
        Some((hash, behind)) => (hash, behind.strip_prefix('$')),
        None => (text, None),
    };
    let hash = if behind.is_some() { hash } else { text };
    let pepper = match behind {
        Some(pepper) => pepper,
        None => stored.need("pepper")?,
    };
    if pepper.is_empty() {
        return Err(Unusable::Missing("pepper"));
    }
    let position = match stored.param("pepper_position").unwrap_or(position) {
        "suffix" => Position::Suffix,
        "prefix" => Position::Prefix,
        "hmac-sha256" => Position::Key,
        _ => return Err(Unusable::Malformed("nobody knows its `pepper_position`")),
    };
    Ok(Box::new(Peppered {
        bcrypt: Bcrypt::read(hash)?,
        pepper: Secret::new(pepper),
        position,
    }))
}

impl Hash for Peppered {
    fn cost(&self) -> Cost {
        self.bcrypt.cost()
    }

    fn verify(&self, password: &[u8]) -> bool {
        let pepper = self.pepper.expose().as_bytes();
        let joined = Zeroizing::new(match self.position {
            Position::Suffix => [password, pepper].concat(),
            Position::Prefix => [pepper, password].concat(),
            Position::Key => {
                let mac = super::algorithm::Algorithm::Sha256.hmac(pepper, password);
                data_encoding::BASE64.encode(&mac).into_bytes()
            }
        });
        self.bcrypt.verify(&joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_bug_is_where_it_was_and_nowhere_else() {
        // crypt_blowfish 1.3, wrapper.c: one text under both names, and what each of them takes for it.
        let of = |version: &str, rest: &str| {
            Bcrypt::read(&format!("${version}$05${rest}")).ok().unwrap()
        };
        let rest = "/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e";
        assert!(of("2x", rest).verify(b"\xa3"));
        assert!(of("2x", rest).verify(b"\xff\xff\xa3"));
        assert!(of("2y", rest).verify(b"\xff\xff\xa3"));
        assert!(!of("2y", rest).verify(b"\xa3"));
        let rest = "/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq";
        assert!(of("2y", rest).verify(b"\xa3") && of("2a", rest).verify(b"\xa3"));
        let rest = "6bNw2HLQYeqHYyBfLMsv/OiwqTymGIGzFsA4hOTWebfehXHNprcAS";
        assert!(of("2x", rest).verify(b"\xd1\x91"));
        let ascii = "CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert!(of("2x", ascii).verify(b"U*U") && of("2y", ascii).verify(b"U*U"));
    }

    #[test]
    fn a_pepper_may_stand_behind_the_hash_as_clerk_writes_it() {
        let plain = "$2a$05$7UjSSSMoMUxlk1Nb6tC81erEIbXMWpBHh9/IWpS5Mw97QjucLPqrm";
        let behind = Stored::plain(Secret::new(format!("{plain}$dev-pepper-3f9a1c77")));
        let hash = (PEPPERED.build)(&behind).ok().unwrap();
        assert!(hash.verify(b"correct horse battery staple"));
        assert!(!hash.verify(b"correct horse battery staplex"));
        let missing = (PEPPERED.build)(&Stored::plain(Secret::new(plain)));
        assert_eq!(missing.err(), Some(Unusable::Missing("pepper")));
    }
}
