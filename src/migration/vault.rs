//! What the gateway keeps of old hashes and second factors, encrypted under a key of the migration's own.
//!
//! XChaCha20-Poly1305 under a key derived (HKDF-SHA256) from `migration.key`, written `v1:` and base64url of nonce and ciphertext. What a
//! text is for, and whose it is, is bound to it: what was sealed as one user's hash never opens as another's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::secret::Secret;

const PREFIX: &str = "v1:";
const NONCE_BYTES: usize = 24;

/// Longest text opened, in letters.
const LETTERS_MAX: usize = 64 * 1024;

/// What a sealed text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An old hash with its parameters.
    Hash,
    /// A second factor's secret.
    Factor,
    /// A session's token, for whoever comes second.
    Token,
    /// What the old system wants back with a code.
    Pending,
    /// Everything known of somebody who was set aside.
    Profile,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Factor => "factor",
            Self::Token => "token",
            Self::Pending => "pending",
            Self::Profile => "profile",
        }
    }
}

/// It does not open: another key, another purpose, another owner, or changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not open with `migration.key`")]
pub struct Shut;

/// Seals and opens.
pub struct Vault {
    cipher: XChaCha20Poly1305,
}

impl Vault {
    /// A vault under a key.
    pub fn new(key: &Secret) -> Self {
        let mut derived = Zeroizing::new([0u8; 32]);
        // Cannot fail: 32 bytes are within what HKDF-SHA256 gives. Were it to, the key would be none that was used before.
        let _ = Hkdf::<Sha256>::new(None, key.expose().as_bytes())
            .expand(b"vestibule migration vault v1", derived.as_mut_slice());
        Self {
            cipher: XChaCha20Poly1305::new(Key::from_slice(derived.as_slice())),
        }
    }

    /// Seals a text. `owner`: the user, provider or session it belongs to. `nonce`: random, never used twice.
    pub fn seal(
        &self,
        purpose: Purpose,
        owner: &str,
        text: &[u8],
        nonce: [u8; NONCE_BYTES],
    ) -> Secret {
        let bound = bound(purpose, owner);
        let payload = Payload {
            msg: text,
            aad: bound.as_bytes(),
        };
        // Fails only for texts longer than the cipher takes (256 GiB).
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload);
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed.unwrap_or_default());
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Opens what was sealed for the same purpose and owner.
    ///
    /// # Errors
    /// When it does not open.
    pub fn open(
        &self,
        purpose: Purpose,
        owner: &str,
        sealed: &Secret,
    ) -> Result<Zeroizing<Vec<u8>>, Shut> {
        let text = sealed.expose();
        if text.len() > LETTERS_MAX {
            return Err(Shut);
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(Shut)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Shut)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(Shut)?;
        let bound = bound(purpose, owner);
        let payload = Payload {
            msg: sealed,
            aad: bound.as_bytes(),
        };
        let opened = self.cipher.decrypt(&XNonce::from(*nonce), payload);
        opened.map(Zeroizing::new).map_err(|_| Shut)
    }
}

fn bound(purpose: Purpose, owner: &str) -> String {
    format!("{}:{owner}", purpose.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_owner_only() {
        let vault = Vault::new(&Secret::new("k".repeat(32)));
        let sealed = vault.seal(Purpose::Hash, "u1", b"$2b$10$abc", [7; 24]);
        assert!(!sealed.expose().contains("$2b"));
        let opened = vault.open(Purpose::Hash, "u1", &sealed).unwrap();
        assert_eq!(opened.as_slice(), b"$2b$10$abc");
        assert!(vault.open(Purpose::Hash, "u2", &sealed).is_err());
        assert!(vault.open(Purpose::Factor, "u1", &sealed).is_err());
        let other = Vault::new(&Secret::new("j".repeat(32)));
        assert!(other.open(Purpose::Hash, "u1", &sealed).is_err());
        for broken in ["", "v1:", "v1:AAAA", "v2:AAAA", "v1:!!"] {
            assert!(
                vault
                    .open(Purpose::Hash, "u1", &Secret::new(broken))
                    .is_err()
            );
        }
    }
}
