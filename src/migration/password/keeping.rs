//! How an old hash is kept: sealed for its user, with its parameters, and with fast digests wrapped first.
//!
//! A raw MD5 or SHA of a password is guessed in seconds by whoever gets at it. So only a native hash *of the digest* is kept, under the
//! scheme `native(md5-hex)`: the digest itself is gone, and the password still verifies.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::cost::{Ceilings, Cost};
use super::{Digest, Hash, Stored, Unusable, native};
use crate::migration::vault::{Purpose, Vault};
use crate::secret::Secret;

/// The parameter that holds how the digest is made: the stored text with nothing in the place of the digest.
const HUSK: &str = "husk";

/// Version of what is written inside the seal.
const VERSION: u8 = 1;

/// What can be kept: goes into `OldCredential`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The scheme's own name, never a provider's word for it; `native(…)` around that of a fast digest.
    pub scheme: String,
    /// Hash and parameters.
    pub sealed: Secret,
}

/// What an import needs that nobody can guess.
#[derive(Clone, Copy)]
pub struct Randomness {
    /// Of the seal. Never used twice.
    pub nonce: [u8; 24],
    /// Of the hash around a fast digest.
    pub salt: [u8; 16],
}

/// Why what is kept cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It does not open.
    #[error("it does not open with `migration.key`")]
    Shut,
    /// It opened, and is in no form that we wrote.
    #[error("it was written by another version, or is damaged")]
    Garbled,
}

/// Makes an old hash ready to be kept. It is parsed first: what can never verify is not kept but reported, and whoever has such a hash
/// needs a reset ([`Unusable::Disabled`] says that the old system wanted it so). Wrapping a fast digest takes as long as a native hash.
///
/// # Errors
/// When no password can ever be held against it.
pub fn keep(
    vault: &Vault,
    user_id: &str,
    scheme: &str,
    stored: &Stored,
    randomness: Randomness,
) -> Result<Kept, Unusable> {
    let ready = ready(scheme, stored, randomness.salt)?;
    Ok(Kept {
        sealed: vault.seal(Purpose::Hash, user_id, &ready.text, randomness.nonce),
        scheme: ready.scheme,
    })
}

/// What is to be sealed of an old hash, before it is known whose it is.
pub struct Ready {
    /// The scheme's own name; `native(…)` around that of a fast digest.
    pub scheme: String,
    /// Hash and parameters.
    pub text: Zeroizing<Vec<u8>>,
}

/// The first half of [`keep`], and all of its work.
///
/// # Errors
/// As [`keep`].
pub fn ready(scheme: &str, stored: &Stored, salt: [u8; 16]) -> Result<Ready, Unusable> {
    let hash = super::read(stored, scheme, &Ceilings::DEFAULT)?;
    let name = super::find(scheme).ok_or(Unusable::Unknown)?.name;
    let ready = |scheme: String, stored: &Stored| Ready {
        text: write(stored, &scheme),
        scheme,
    };
    Ok(match hash.digest() {
        None => ready(name.to_owned(), stored),
        Some(digest) => ready(format!("native({name})"), &wrap(stored, digest, salt)),
    })
}

/// Whether making a hash ready takes as long as a native hash: it is a fast digest, and is wrapped.
pub fn is_slow(scheme: &str, stored: &Stored) -> bool {
    super::read(stored, scheme, &Ceilings::DEFAULT).is_ok_and(|hash| hash.digest().is_some())
}

/// Opens what was kept for a user under this scheme.
///
/// # Errors
/// When it does not open, is damaged, or was kept under another scheme. Never the same as a wrong password.
pub fn open(vault: &Vault, user_id: &str, scheme: &str, sealed: &Secret) -> Result<Stored, Lost> {
    let text = vault.open(Purpose::Hash, user_id, sealed);
    read(&text.map_err(|_| Lost::Shut)?, scheme)
}

/// The form inside the seal.
#[derive(Serialize, Deserialize)]
struct Written {
    v: u8,
    /// Again, so that what stands beside the seal cannot be swapped.
    scheme: String,
    hash: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    params: BTreeMap<String, String>,
}

impl Drop for Written {
    fn drop(&mut self) {
        self.hash.zeroize();
        self.params.values_mut().for_each(String::zeroize);
    }
}

fn write(stored: &Stored, scheme: &str) -> Zeroizing<Vec<u8>> {
    let params = stored.params.iter();
    let written = Written {
        v: VERSION,
        scheme: scheme.to_owned(),
        hash: stored.hash.expose().to_owned(),
        params: params
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect(),
    };
    // Texts under texts always serialize.
    Zeroizing::new(serde_json::to_vec(&written).unwrap_or_default())
}

fn read(text: &[u8], scheme: &str) -> Result<Stored, Lost> {
    let written: Written = serde_json::from_slice(text).map_err(|_| Lost::Garbled)?;
    if written.v != VERSION || written.scheme != scheme {
        return Err(Lost::Garbled);
    }
    let params = written.params.iter();
    Ok(Stored {
        hash: Secret::new(written.hash.clone()),
        params: params
            .map(|(name, value)| (name.clone(), Secret::new(value.clone())))
            .collect(),
    })
}

fn wrap(stored: &Stored, digest: &dyn Digest, salt: [u8; 16]) -> Stored {
    let hex = Zeroizing::new(HEXLOWER.encode(digest.expected()));
    let mut params = stored.params.clone();
    params.insert(HUSK.to_owned(), Secret::new(digest.husk()));
    Stored {
        hash: native::hash(hex.as_bytes(), salt),
        params,
    }
}

/// Reads a wrapped digest: `inner` is the scheme of the digest.
pub(super) fn unwrap(stored: &Stored, inner: &str) -> Result<Box<dyn Hash>, Unusable> {
    let mut husk = stored.clone();
    husk.hash = husk.params.remove(HUSK).ok_or(Unusable::Missing(HUSK))?;
    let kind = super::find(inner).ok_or(Unusable::Unknown)?;
    let recipe = (kind.build)(&husk)?;
    recipe
        .digest()
        .ok_or(Unusable::Malformed("its scheme is no fast digest"))?;
    let native = native::read(stored.hash.expose(), native::R)?;
    Ok(Box::new(Wrapped { recipe, native }))
}

struct Wrapped {
    recipe: Box<dyn Hash>,
    native: Box<dyn Hash>,
}

impl Hash for Wrapped {
    fn cost(&self) -> Cost {
        // The digest itself is nothing beside it.
        native::COST
    }

    fn verify(&self, password: &[u8]) -> bool {
        let Some(digest) = self.recipe.digest() else {
            return false;
        };
        let mut fits = false;
        for made in digest.made(password) {
            let hex = Zeroizing::new(HEXLOWER.encode(&made));
            fits |= self.native.verify(hex.as_bytes());
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: &str = "user-1";

    fn vault() -> Vault {
        Vault::new(&Secret::new("k".repeat(32)))
    }

    fn randomness() -> Randomness {
        Randomness {
            nonce: [3; 24],
            salt: [5; 16],
        }
    }

    fn stored(hash: &str, params: &[(&str, &str)]) -> Stored {
        Stored {
            hash: Secret::new(hash),
            params: params
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)))
                .collect(),
        }
    }

    fn fits(kept: &Kept, password: &str) -> Result<bool, Unusable> {
        let opened = open(&vault(), WHO, &kept.scheme, &kept.sealed).unwrap();
        super::super::check(
            &opened,
            &kept.scheme,
            password.as_bytes(),
            &Ceilings::DEFAULT,
        )
    }

    #[test]
    fn a_slow_hash_is_kept_as_it_is() {
        let text = "$2b$04$fOZRXqpgcnvxfD3/VzxkguUaOqcsJX/DgKwy28fpeaC5vyj0tZHaW";
        let kept = keep(&vault(), WHO, "bcrypt", &stored(text, &[]), randomness()).unwrap();
        assert_eq!(kept.scheme, "bcrypt");
        let opened = open(&vault(), WHO, &kept.scheme, &kept.sealed).unwrap();
        assert_eq!(opened.hash.expose(), text);
        assert_eq!(fits(&kept, "correct horse battery staple"), Ok(true));
        assert_eq!(fits(&kept, "correct horse battery staplex"), Ok(false));
        assert_eq!(
            open(&vault(), "user-2", &kept.scheme, &kept.sealed).err(),
            Some(Lost::Shut)
        );
    }

    #[test]
    fn a_fast_digest_is_gone_once_it_is_kept_and_the_password_still_fits() {
        let salted: &[(&str, &str)] = &[("salt", "3271e26c19"), ("salt_position", "prefix")];
        for (scheme, text, params) in [
            ("md5-hex", "9cc2ae8a1ba7a93da39b46fc1019c481", &[][..]),
            ("md5-hex-salted", "c0381d1fcebb6b67b1c5b1bd854062f4", salted),
            (
                "hmac-md5-hex",
                "5292d4f8c5da54de7595abeaa2be6f7c",
                &[("key", "3271e26c19")][..],
            ),
        ] {
            let kept = keep(&vault(), WHO, scheme, &stored(text, params), randomness()).unwrap();
            assert_eq!(kept.scheme, format!("native({scheme})"));
            let opened = open(&vault(), WHO, &kept.scheme, &kept.sealed).unwrap();
            let everything: Vec<&str> = opened
                .params
                .values()
                .chain([&opened.hash])
                .map(Secret::expose)
                .collect();
            assert!(!everything.concat().contains(text), "{scheme}");
            assert_eq!(fits(&kept, "correct horse battery staple"), Ok(true));
            assert_eq!(fits(&kept, "correct horse battery staplex"), Ok(false));
            assert_eq!(fits(&kept, text), Ok(false), "the digest is no password");
        }
    }

    #[test]
    fn what_can_never_verify_is_not_kept() {
        for (scheme, text, why) in [
            ("md5-hex", "", Unusable::Disabled),
            ("bcrypt", "!", Unusable::Disabled),
            ("bcrypt", "*LK*", Unusable::Disabled),
            ("bcrypt", "NULL", Unusable::Disabled),
            ("what", "x", Unusable::Unknown),
            (
                "md5-hex-salted",
                "9cc2ae8a1ba7a93da39b46fc1019c481",
                Unusable::Missing("salt"),
            ),
        ] {
            let kept = keep(&vault(), WHO, scheme, &stored(text, &[]), randomness());
            assert_eq!(kept, Err(why), "{scheme} {text}");
        }
    }

    #[test]
    fn what_is_in_no_form_of_ours_is_garbled_and_not_wrong() {
        let vault = vault();
        for text in [
            "",
            "{}",
            "[]",
            r#"{"v":2,"scheme":"x","hash":"x"}"#,
            r#"{"v":1,"scheme":"y","hash":"x"}"#,
            r#"{"v":1,"scheme":"x"}"#,
        ] {
            let sealed = vault.seal(Purpose::Hash, WHO, text.as_bytes(), [1; 24]);
            assert_eq!(open(&vault, WHO, "x", &sealed).err(), Some(Lost::Garbled));
        }
        let bare = stored("9cc2ae8a1ba7a93da39b46fc1019c481", &[]);
        let checked = super::super::check(&bare, "native(md5-hex)", b"x", &Ceilings::DEFAULT);
        assert_eq!(checked, Err(Unusable::Missing(HUSK)));
        let nested = "native(native(md5-hex))";
        let checked = super::super::check(&bare, nested, b"x", &Ceilings::DEFAULT);
        assert!(checked.is_err());
    }
}
