//! The seals of @hapi/iron, in which iron-session and WorkOS keep sessions.
//!
//! Source: iron-webcrypto 1.2 and iron-session 8: `Fe26.2*<password id>*<salt>*<iv>*<ciphertext>*<expires ms>*<mac salt>*<mac>`, keys by
//! PBKDF2-SHA-1 in one round over the salt's own letters, AES-256-CBC, HMAC-SHA-256 over the first six fields; `~2` for version 2.

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Refusal;
use crate::secret::Secret;
use crate::time::UnixMs;

/// How far clocks may be apart.
const SKEW_MS: i64 = 60_000;

/// Longest salt, in letters: the library writes 64.
const SALT_LETTERS_MAX: usize = 256;

/// What was in a seal.
pub struct Opened {
    /// The data.
    pub data: Value,
    /// When the seal itself ends.
    pub expires_at: Option<UnixMs>,
    /// The seal as it was made. The version behind it is under no seal: with or without it, this is the same one.
    pub seal: Secret,
}

/// Opens a seal with whichever of the passwords it was made with. The password's id selects nothing here: it is under the seal like
/// the rest, and each is tried.
pub fn open(text: &str, passwords: &[Secret], now: UnixMs) -> Result<Opened, Refusal> {
    let (seal, version) = match text.split_once('~') {
        Some((seal, "2")) => (seal, 2),
        Some(_) => return Err(Refusal::BadSeal),
        None => (text, 1),
    };
    let (signed, rest) = split(seal).ok_or(Refusal::BadSeal)?;
    let mut fields = signed.split('*');
    let mut next = || fields.next();
    let ("Fe26.2", Some(_), Some(salt), Some(iv), Some(sealed), Some(expires), None) = (
        next().unwrap_or_default(),
        next(),
        next(),
        next(),
        next(),
        next(),
        next(),
    ) else {
        return Err(Refusal::BadSeal);
    };
    let Some((mac_salt, mac)) = rest.split_once('*') else {
        return Err(Refusal::BadSeal);
    };
    if salt.len() > SALT_LETTERS_MAX || mac_salt.len() > SALT_LETTERS_MAX {
        return Err(Refusal::BadSeal);
    }
    let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| Refusal::BadSeal)?;
    let right = |password: &&Secret| {
        let key = derive(password, mac_salt);
        let hmac = <Hmac<Sha256>>::new_from_slice(key.as_slice());
        hmac.is_ok_and(|mut hmac| {
            hmac.update(signed.as_bytes());
            hmac.verify_slice(&mac).is_ok()
        })
    };
    let password = passwords.iter().find(right).ok_or(Refusal::BadSeal)?;
    let expires_at = match expires {
        "" => None,
        digits => Some(UnixMs(digits.parse().map_err(|_| Refusal::BadSeal)?)),
    };
    if expires_at.is_some_and(|at| at.0.saturating_add(SKEW_MS) <= now.0) {
        return Err(Refusal::Expired);
    }
    let plain = decrypt(&derive(password, salt), iv, sealed).ok_or(Refusal::BadSeal)?;
    let mut data: Value = serde_json::from_slice(&plain).map_err(|_| Refusal::Malformed)?;
    // Version 1 keeps what outlives a request apart.
    if version == 1
        && let Some(persistent) = data.get_mut("persistent")
    {
        data = persistent.take();
    }
    Ok(Opened {
        data,
        expires_at,
        seal: Secret::new(seal),
    })
}

/// The first six fields, and the rest.
fn split(seal: &str) -> Option<(&str, &str)> {
    let (at, _) = seal.match_indices('*').nth(5)?;
    Some((seal.get(..at)?, seal.get(at + 1..)?))
}

fn derive(password: &Secret, salt: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let password = password.expose().as_bytes();
    pbkdf2::pbkdf2_hmac::<Sha1>(password, salt.as_bytes(), 1, key.as_mut_slice());
    key
}

fn decrypt(key: &[u8; 32], iv: &str, sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
    let iv: [u8; 16] = URL_SAFE_NO_PAD.decode(iv).ok()?.try_into().ok()?;
    let mut plain = Zeroizing::new(URL_SAFE_NO_PAD.decode(sealed).ok()?);
    let key = UnboundCipherKey::new(&AES_256, key).ok()?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let length = key.decrypt(&mut plain, context).ok()?.len();
    plain.truncate(length);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn noise_never_opens(text in "(Fe26\\.2)?[*~a-f0-9]{0,80}") {
            let passwords = [Secret::new("a password of thirty-two letters")];
            prop_assert!(open(&text, &passwords, UnixMs(0)).is_err());
        }
    }
}
