//! What Better Auth encrypts in its store: private keys of its JWKS, second factors, OAuth tokens.
//!
//! XChaCha20-Poly1305 under the SHA-256 of a secret, written as hex of nonce, ciphertext and tag. With a list of secrets the text
//! is `$ba$<version>$<hex>`; bare hex then is from before the list, and only the legacy secret opens it.
//!
//! Source: better-auth 1.4 to 1.7, packages/better-auth/src/crypto/index.ts; golden data in `tests/golden/encryption.json`.

use chacha20poly1305::aead::{Aead, KeyInit as _};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::secrets;
use crate::secret::Secret;

const PREFIX: &str = "$ba$";
const NONCE_BYTES: usize = 24;

/// Longest ciphertext opened, in letters. Keys and tokens take a few thousand; what is longer was not written by the framework.
const LETTERS_MAX: usize = 1 << 20;

/// Why a ciphertext does not open. Never says what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// Neither hex nor an envelope.
    #[error("is no ciphertext of Better Auth")]
    Form,
    /// The secret it names is not listed.
    #[error("was encrypted under secret version {version}, which is not in `better_auth.secrets`")]
    Retired {
        /// The version.
        version: u64,
    },
    /// From before there was a list, and nobody gave the secret of that time.
    #[error(
        "was encrypted before there was a list of secrets, and `better_auth.secret` is not set"
    )]
    NoLegacy,
    /// Another secret, or changed since.
    #[error("does not open with the app's secret")]
    Refused,
}

/// Opens a ciphertext with whichever secret it was made under.
///
/// # Errors
/// See [`CipherError`].
pub fn open(secrets: &secrets::Settings, text: &str) -> Result<Secret, CipherError> {
    if secrets.versions.is_empty() {
        return open_hex(&secrets.current, text);
    }
    if let Some((version, hex)) = envelope(text) {
        let listed = secrets.versions.iter().find(|(known, _)| *known == version);
        let (_, secret) = listed.ok_or(CipherError::Retired { version })?;
        return open_hex(secret, hex);
    }
    match &secrets.legacy {
        Some(legacy) => open_hex(legacy, text),
        None => Err(CipherError::NoLegacy),
    }
}

/// Encrypts under the current secret. `nonce` must be random and never used twice.
///
/// # Errors
/// Only for plaintexts longer than the cipher takes (256 GiB).
pub fn seal(
    secrets: &secrets::Settings,
    plaintext: &str,
    nonce: [u8; NONCE_BYTES],
) -> Result<String, CipherError> {
    let sealed = cipher(&secrets.current)
        .encrypt(&XNonce::from(nonce), plaintext.as_bytes())
        .map_err(|_| CipherError::Form)?;
    let mut text = match secrets.versions.first() {
        Some((version, _)) => format!("{PREFIX}{version}$"),
        None => String::new(),
    };
    for byte in nonce.iter().chain(&sealed) {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(nibble), 16));
        }
    }
    Ok(text)
}

fn open_hex(secret: &Secret, hex: &str) -> Result<Secret, CipherError> {
    let bytes = Zeroizing::new(unhex(hex).ok_or(CipherError::Form)?);
    let (nonce, sealed) = bytes
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(CipherError::Form)?;
    let opened = cipher(secret)
        .decrypt(&XNonce::from(*nonce), sealed)
        .map_err(|_| CipherError::Refused)?;
    String::from_utf8(opened).map(Secret::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        CipherError::Refused
    })
}

fn cipher(secret: &Secret) -> XChaCha20Poly1305 {
    let key = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(secret.expose())));
    XChaCha20Poly1305::new(Key::from_slice(key.as_slice()))
}

/// Version and hex of an envelope. The version is read as JavaScript reads numbers: leading blanks, a sign, digits, and whatever
/// follows does not matter.
fn envelope(text: &str) -> Option<(u64, &str)> {
    let (version, hex) = text.strip_prefix(PREFIX)?.split_once('$')?;
    let version = version.trim_start();
    let version = version.strip_prefix('+').unwrap_or(version);
    let digits = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    Some((version.get(..digits)?.parse().ok()?, hex))
}

/// Bytes from hex in either case.
fn unhex(hex: &str) -> Option<Vec<u8>> {
    if hex.len() > LETTERS_MAX || !hex.len().is_multiple_of(2) {
        return None;
    }
    let digit = |letter: u8| char::from(letter).to_digit(16);
    hex.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn versioned() -> secrets::Settings {
        secrets::Settings::listed(
            (2, Secret::new("two")),
            vec![(1, Secret::new("one"))],
            Some(Secret::new("legacy")),
        )
    }

    #[test]
    fn what_was_sealed_under_an_older_secret_opens_after_a_rollover() {
        let before = secrets::Settings::listed((1, Secret::new("one")), Vec::new(), None);
        let sealed = seal(&before, "key", [7; 24]).unwrap();
        assert!(sealed.starts_with("$ba$1$"));
        assert_eq!(open(&versioned(), &sealed).unwrap().expose(), "key");
        let retired = secrets::Settings::listed((3, Secret::new("three")), Vec::new(), None);
        assert_eq!(
            open(&retired, &sealed),
            Err(CipherError::Retired { version: 1 })
        );
    }

    #[test]
    fn bare_hex_beside_a_list_opens_with_the_legacy_secret_alone() {
        for (secret, opens) in [("legacy", true), ("one", false), ("two", false)] {
            let single = secrets::Settings::single(Secret::new(secret));
            let sealed = seal(&single, "key", [7; 24]).unwrap();
            assert_eq!(open(&versioned(), &sealed).is_ok(), opens, "{secret}");
        }
        let listed = secrets::Settings::listed((2, Secret::new("two")), Vec::new(), None);
        assert_eq!(open(&listed, "00"), Err(CipherError::NoLegacy));
    }

    #[test]
    fn versions_are_read_leniently() {
        for (text, version) in [
            ("$ba$2$ff", Some(2)),
            ("$ba$ 2$ff", Some(2)),
            ("$ba$+2$ff", Some(2)),
            ("$ba$2x$ff", Some(2)),
            ("$ba$-2$ff", None),
            ("$ba$x$ff", None),
            ("$ba$2", None),
            ("ba$2$ff", None),
        ] {
            assert_eq!(
                envelope(text).map(|(version, _)| version),
                version,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_a_changed_letter_does_not(
            plaintext in ".{0,60}", nonce in any::<[u8; 24]>(), at in any::<prop::sample::Index>(),
        ) {
            let secrets = secrets::Settings::single(Secret::new("secret"));
            let sealed = seal(&secrets, &plaintext, nonce).unwrap();
            let opened = open(&secrets, &sealed).unwrap();
            prop_assert_eq!(opened.expose(), &*plaintext);
            let mut changed = sealed.into_bytes();
            let at = at.index(changed.len());
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            prop_assert!(open(&secrets, std::str::from_utf8(&changed).unwrap()).is_err());
        }

        #[test]
        fn noise_never_panics(text in ".{0,80}") {
            let _ = open(&versioned(), &text);
            let _ = open(&versioned(), &format!("$ba${text}"));
        }
    }
}
