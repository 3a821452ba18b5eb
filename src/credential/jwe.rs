//! Encrypted tokens in five parts whose key is shared (`dir`): what the framework's cookie cache, Auth.js and Auth0 seal sessions with.
//!
//! Source: RFC 7516 (compact serialization), RFC 7518 5.2 (`A256CBC-HS512`) and 5.3 (`A256GCM`). Compression, wrapped keys and keys made
//! of passwords (whose cost the token itself would name) are never accepted.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::Zeroizing;

/// Half of a SHA-512.
const CBC_TAG_BYTES: usize = 32;

/// Longest header looked at, in letters. Those known hold an algorithm, a key id and three times.
const HEADER_LETTERS_MAX: usize = 2048;

/// What such a token is encrypted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// AES-256-CBC with HMAC-SHA-512.
    A256CbcHs512,
    /// AES-256-GCM.
    A256Gcm,
}

impl Encryption {
    /// Its word in the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A256CbcHs512 => "A256CBC-HS512",
            Self::A256Gcm => "A256GCM",
        }
    }

    /// The one of this word.
    pub fn named(word: &str) -> Option<Self> {
        [Self::A256CbcHs512, Self::A256Gcm]
            .into_iter()
            .find(|each| each.as_str() == word)
    }

    /// How long its keys are, in bytes.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::A256CbcHs512 => 64,
            Self::A256Gcm => 32,
        }
    }
}

/// The parts of a compact token, before anybody has checked them.
pub struct Jwe<'t> {
    /// What is in its header.
    pub header: Map<String, Value>,
    /// What it says it is encrypted with.
    pub encryption: Encryption,
    protected: &'t str,
    iv: Vec<u8>,
    ciphertext: Vec<u8>,
    tag: Vec<u8>,
}

impl<'t> Jwe<'t> {
    /// Takes a token apart. `None`: it is none, or none with a shared key.
    pub fn parse(text: &'t str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut next = || parts.next();
        let (protected, key, iv, ciphertext, tag) = (next()?, next()?, next()?, next()?, next()?);
        // With `dir` there is no key in it.
        if next().is_some() || !key.is_empty() || protected.len() > HEADER_LETTERS_MAX {
            return None;
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Map<String, Value> = serde_json::from_slice(&decode(protected)?).ok()?;
        let says = |key: &str| header.get(key).and_then(Value::as_str);
        if says("alg") != Some("dir") || header.contains_key("crit") || header.contains_key("zip") {
            return None;
        }
        let encryption = Encryption::named(says("enc")?)?;
        Some(Self {
            protected,
            encryption,
            iv: decode(iv)?,
            ciphertext: decode(ciphertext)?,
            tag: decode(tag)?,
            header,
        })
    }
}

/// A key such tokens are opened and sealed with.
pub struct ContentKey {
    /// Its RFC 7638 thumbprint by SHA-256, which may stand as `kid`.
    pub thumbprint: String,
    cipher: Cipher,
}

enum Cipher {
    Cbc(Box<Cbc>),
    Gcm(Box<LessSafeKey>),
}

struct Cbc {
    mac: Hmac<Sha512>,
    encrypting: PaddedBlockEncryptingKey,
    decrypting: PaddedBlockDecryptingKey,
}

impl ContentKey {
    /// A key of these bytes. `None`: not as many as the encryption takes.
    pub fn new(encryption: Encryption, key: &[u8]) -> Option<Self> {
        if key.len() != encryption.key_bytes() {
            return None;
        }
        let spelled = Zeroizing::new(URL_SAFE_NO_PAD.encode(key));
        let jwk = Zeroizing::new(format!(r#"{{"k":"{}","kty":"oct"}}"#, spelled.as_str()));
        let cipher = match encryption {
            Encryption::A256CbcHs512 => {
                let (mac, aes) = key.split_at_checked(32)?;
                let unbound = || UnboundCipherKey::new(&AES_256, aes).ok();
                Cipher::Cbc(Box::new(Cbc {
                    mac: Hmac::new_from_slice(mac).ok()?,
                    encrypting: PaddedBlockEncryptingKey::cbc_pkcs7(unbound()?).ok()?,
                    decrypting: PaddedBlockDecryptingKey::cbc_pkcs7(unbound()?).ok()?,
                }))
            }
            Encryption::A256Gcm => {
                let key = UnboundKey::new(&AES_256_GCM, key).ok()?;
                Cipher::Gcm(Box::new(LessSafeKey::new(key)))
            }
        };
        Some(Self {
            thumbprint: URL_SAFE_NO_PAD.encode(Sha256::digest(jwk.as_bytes())),
            cipher,
        })
    }

    /// What is in a token; `None` when it was not sealed with this key, or not this way.
    pub fn open(&self, token: &Jwe<'_>) -> Option<Zeroizing<Vec<u8>>> {
        let mut plain = Zeroizing::new(token.ciphertext.clone());
        let length = match (&self.cipher, token.encryption) {
            (Cipher::Cbc(cbc), Encryption::A256CbcHs512) => {
                let tag: [u8; CBC_TAG_BYTES] = token.tag.as_slice().try_into().ok()?;
                let iv: [u8; 16] = token.iv.as_slice().try_into().ok()?;
                let mac = cbc.mac(token.protected, &token.iv, &token.ciphertext);
                mac.verify_truncated_left(&tag).ok()?;
                let context = DecryptionContext::Iv128(FixedLength::from(iv));
                cbc.decrypting.decrypt(&mut plain, context).ok()?.len()
            }
            (Cipher::Gcm(key), Encryption::A256Gcm) => {
                let nonce = Nonce::try_assume_unique_for_key(&token.iv).ok()?;
                // A shorter tag is a weaker one: the algorithm has 16 bytes.
                let _: [u8; 16] = token.tag.as_slice().try_into().ok()?;
                plain.extend_from_slice(&token.tag);
                let aad = Aad::from(token.protected.as_bytes());
                key.open_in_place(nonce, aad, &mut plain).ok()?.len()
            }
            (Cipher::Cbc(_) | Cipher::Gcm(_), _) => return None,
        };
        plain.truncate(length);
        Some(plain)
    }

    /// A token with this header and text, by `A256CBC-HS512`; the key is for nothing else here.
    pub fn seal_cbc(&self, header: &str, iv: [u8; 16], mut text: Vec<u8>) -> Option<String> {
        let Cipher::Cbc(cbc) = &self.cipher else {
            return None;
        };
        let header = URL_SAFE_NO_PAD.encode(header);
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        cbc.encrypting.less_safe_encrypt(&mut text, context).ok()?;
        let mac = cbc.mac(&header, &iv, &text).finalize().into_bytes();
        let tag = mac.get(..CBC_TAG_BYTES)?;
        Some(format!(
            "{header}..{}.{}.{}",
            URL_SAFE_NO_PAD.encode(iv),
            URL_SAFE_NO_PAD.encode(&text),
            URL_SAFE_NO_PAD.encode(tag)
        ))
    }
}

impl Cbc {
    /// Over the header, the IV and the ciphertext; half of it is the tag.
    fn mac(&self, header: &str, iv: &[u8], sealed: &[u8]) -> Hmac<Sha512> {
        let mut mac = self.mac.clone();
        mac.update(header.as_bytes());
        mac.update(iv);
        mac.update(sealed);
        mac.update(&(header.len() as u64).wrapping_mul(8).to_be_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cbc() -> ContentKey {
        ContentKey::new(Encryption::A256CbcHs512, &[7; 64]).unwrap()
    }

    fn sealed() -> String {
        let header = r#"{"alg":"dir","enc":"A256CBC-HS512"}"#;
        cbc().seal_cbc(header, [3; 16], b"text".to_vec()).unwrap()
    }

    #[test]
    fn a_token_opens_with_its_key_and_no_other() {
        let token = sealed();
        let parsed = Jwe::parse(&token).unwrap();
        assert_eq!(cbc().open(&parsed).unwrap().as_slice(), b"text");
        let other = ContentKey::new(Encryption::A256CbcHs512, &[8; 64]).unwrap();
        assert!(other.open(&parsed).is_none());
        let gcm = ContentKey::new(Encryption::A256Gcm, &[7; 32]).unwrap();
        assert!(gcm.open(&parsed).is_none());
    }

    #[test]
    fn a_header_that_asks_for_more_is_refused() {
        let rest = sealed();
        let rest = rest.split_once('.').unwrap().1;
        for header in [
            r#"{"alg":"dir","enc":"A256CBC-HS512","zip":"DEF"}"#,
            r#"{"alg":"dir","enc":"A256CBC-HS512","crit":["exp"]}"#,
            r#"{"alg":"PBES2-HS512+A256KW","p2c":2147483647,"p2s":"AA","enc":"A256CBC-HS512"}"#,
            r#"{"alg":"dir","enc":"A128GCM"}"#,
            r#"{"enc":"A256GCM"}"#,
            "[]",
        ] {
            let token = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
            assert!(Jwe::parse(&token).is_none(), "{header}");
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(text in ".{0,80}") {
            if let Some(token) = Jwe::parse(&text) {
                prop_assert!(cbc().open(&token).is_none());
            }
        }

        #[test]
        fn a_changed_letter_never_opens(at in 0_usize..4096, letter in "[A-Za-z0-9_-]") {
            let token = sealed();
            let at = at % token.len();
            let mut changed = token.clone();
            changed.replace_range(at..=at, &letter);
            prop_assume!(changed != token);
            let opened = Jwe::parse(&changed).and_then(|parsed| cbc().open(&parsed));
            prop_assert!(opened.is_none());
        }
    }
}
