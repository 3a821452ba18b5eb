//! Better Auth's own hash: `salt:key`, both hex, with the salt used as the text it is.
//!
//! Source: better-auth 1.4 to 1.7, packages/better-auth/src/crypto/password.ts: scrypt with N=16384, r=16, p=1, 64 bytes, over the
//! password in NFKC. Lucia 3 (Oslo) writes the same.

use data_encoding::HEXLOWER;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use super::cost::Cost;
use super::encoding::{Bytes, same};
use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;
use crate::secret::Secret;

/// The scheme.
pub const KIND: Kind<Parse> = Kind {
    name: "better-auth-scrypt",
    about: "Better Auth's own: salt:key in hex",
    build: parse,
};

/// Oslo's, which is the same.
pub const OSLO: Kind<Parse> = Kind {
    name: "oslo-scrypt",
    about: "Lucia 3 (Oslo), the same as Better Auth's own",
    build: parse,
};

/// What one verification takes.
pub const COST: Cost = Cost::Scrypt {
    n: 1 << LOG_N,
    r: R,
    p: 1,
};

const LOG_N: u8 = 14;
pub(super) const R: u32 = 16;
const KEY_BYTES: usize = 64;
const SALT_BYTES: usize = 16;

/// Whether a text in `account.password` is a hash of the framework's own making: nothing of the gateway's business. Others have the
/// same shape (Node's default scrypt, Lucia 1), which is why the scheme of an imported hash is told and never seen from its shape.
pub fn is_native(text: &str) -> bool {
    let lower = |part: &str| {
        part.bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    text.split_once(':').is_some_and(|(salt, key)| {
        salt.len() == 2 * SALT_BYTES && key.len() == 2 * KEY_BYTES && lower(salt) && lower(key)
    })
}

/// Hashes a password as the framework does. `salt`: random, for this hash alone.
pub fn hash(password: &[u8], salt: [u8; SALT_BYTES]) -> Secret {
    let salt = HEXLOWER.encode(&salt);
    // No key cannot come about, as the parameters are constants; were it to, an empty hash fits nobody.
    let key = derive(password, salt.as_bytes(), R).unwrap_or_default();
    let mut text = String::with_capacity(2 * (SALT_BYTES + KEY_BYTES) + 1);
    text.push_str(&salt);
    text.push(':');
    HEXLOWER.encode_append(&key, &mut text);
    Secret::new(text)
}

/// Does the work of one verification and says nothing: for accounts that nobody has, so that time does not tell them.
pub fn decoy(password: &[u8]) {
    let password = password
        .get(..super::PASSWORD_BYTES_MAX)
        .unwrap_or(password);
    std::hint::black_box(derive(password, &[b'0'; 2 * SALT_BYTES], R));
}

/// The key of a password, in NFKC, for this salt; `r` is what tells the framework's from older ones.
pub(super) fn derive(password: &[u8], salt: &[u8], r: u32) -> Option<Bytes> {
    let normal = normal(password);
    let params = scrypt::Params::new(LOG_N, r, 1).ok()?;
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    scrypt::scrypt(normal.as_bytes(), salt, &params, &mut key).ok()?;
    Some(key)
}

/// The password in NFKC. Bytes that are no text cannot come from JSON; they are read as the runtime of the framework reads them.
fn normal(password: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(String::from_utf8_lossy(password).into_owned());
    // Counted first: a text that grows while it is written leaves pieces of itself behind.
    let bytes = text.nfkc().map(char::len_utf8).sum();
    let mut normal = Zeroizing::new(String::with_capacity(bytes));
    normal.extend(text.nfkc());
    normal
}

fn parse(stored: &Stored) -> Result<Box<dyn Hash>, Unusable> {
    read(stored.hash.expose(), R)
}

/// Reads `salt:key`. Further parts are ignored and the key is compared as text, as the framework does.
pub(super) fn read(text: &str, r: u32) -> Result<Box<dyn Hash>, Unusable> {
    let mut parts = text.split(':');
    let (Some(salt), Some(key)) = (parts.next(), parts.next()) else {
        return Err(Unusable::Malformed("it has no colon"));
    };
    if salt.is_empty() || key.is_empty() {
        return Err(Unusable::Malformed("a part is empty"));
    }
    if !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Unusable::Malformed("not hex"));
    }
    Ok(Box::new(Native {
        salt: salt.to_owned(),
        key: Secret::new(key),
        r,
    }))
}

struct Native {
    salt: String,
    key: Secret,
    r: u32,
}

impl Hash for Native {
    fn cost(&self) -> Cost {
        Cost::Scrypt {
            n: 1 << LOG_N,
            r: self.r,
            p: 1,
        }
    }

    fn verify(&self, password: &[u8]) -> bool {
        let Some(key) = derive(password, self.salt.as_bytes(), self.r) else {
            return false;
        };
        let key = Zeroizing::new(HEXLOWER.encode(&key));
        same(key.as_bytes(), self.key.expose().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::cost::Ceilings;
    use super::*;

    #[test]
    fn what_is_hashed_here_is_native_and_verifies() {
        let hash = hash("pässwörd".as_bytes(), [7; 16]);
        assert!(is_native(hash.expose()));
        let stored = Stored::plain(hash);
        let check = |password: &str| {
            let password = password.as_bytes();
            super::super::check(&stored, KIND.name, password, &Ceilings::DEFAULT)
        };
        assert_eq!(check("pässwörd"), Ok(true));
        assert_eq!(check("pa\u{308}sswo\u{308}rd"), Ok(true), "NFD is the same");
        assert_eq!(check("passwörd"), Ok(false));
    }

    #[test]
    fn foreign_shapes_are_not_native() {
        let native = hash(b"x", [1; 16]);
        let native = native.expose();
        assert!(!is_native(&native.to_uppercase()));
        assert!(!is_native(&format!("{native}:")));
        assert!(!is_native(&format!("s2:{native}")));
        assert!(!is_native(
            "$2b$10$CwTycUXWue0Thq9StjUM0uJ8p3a0vJ9H0o0b6Wv4hQ3b6m3rX8K8i"
        ));
        assert!(!is_native("") && !is_native(":"));
        assert_eq!(COST.bytes() / 1024 / 1024, 32);
    }
}
