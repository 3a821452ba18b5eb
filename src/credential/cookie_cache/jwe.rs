//! `jwe`: encrypted. Every listed secret opens it, the current one seals it.
//!
//! Source: better-auth 1.7, crypto/jwt.ts (`symmetricEncodeJWT`): `dir` with `A256CBC-HS512` (RFC 7518, 5.2), the key derived by
//! HKDF-SHA-256, its RFC 7638 thumbprint as `kid`.

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::Zeroizing;

use super::{Build, Context, Entropy, Opened, Payload, Strategy, base64, jwt};
use crate::kind::Kind;
use crate::secret::Secret;
use crate::time::UnixMs;

/// The entry in the family's table.
pub(super) const KIND: Kind<Build> = Kind {
    name: "jwe",
    about: "an encrypted JWT",
    build,
};

const SALT: &[u8] = b"better-auth-session";
const INFO: &[u8] = b"BetterAuth.js Generated Encryption Key";
const ENCRYPTION: &str = "A256CBC-HS512";
const TAG_BYTES: usize = 32;

fn build(context: &Context<'_>) -> Box<dyn Strategy> {
    Box::new(Jwe {
        keys: context.secrets.all().filter_map(Key::derive).collect(),
    })
}

struct Jwe {
    /// The current one first.
    keys: Vec<Key>,
}

struct Key {
    kid: String,
    mac: Hmac<Sha512>,
    encrypting: PaddedBlockEncryptingKey,
    decrypting: PaddedBlockDecryptingKey,
}

impl Key {
    fn derive(secret: &Secret) -> Option<Self> {
        let mut key = Zeroizing::new([0; 64]);
        Hkdf::<Sha256>::new(Some(SALT), secret.expose().as_bytes())
            .expand(INFO, key.as_mut_slice())
            .ok()?;
        let spelled = Zeroizing::new(base64::encode(key.as_slice()));
        let jwk = Zeroizing::new(format!(r#"{{"k":"{}","kty":"oct"}}"#, spelled.as_str()));
        let (mac, aes) = key.split_at_checked(32)?;
        let unbound = || UnboundCipherKey::new(&AES_256, aes).ok();
        Some(Self {
            kid: base64::encode(&Sha256::digest(jwk.as_bytes())),
            mac: Hmac::new_from_slice(mac).ok()?,
            encrypting: PaddedBlockEncryptingKey::cbc_pkcs7(unbound()?).ok()?,
            decrypting: PaddedBlockDecryptingKey::cbc_pkcs7(unbound()?).ok()?,
        })
    }

    /// Over the header, the IV and the ciphertext; half of it is the tag.
    fn mac(&self, header: &str, iv: &[u8], sealed: &[u8]) -> Hmac<Sha512> {
        let mut mac = self.mac.clone();
        mac.update(header.as_bytes());
        mac.update(iv);
        mac.update(sealed);
        mac.update(&(header.len() as u64).wrapping_mul(8).to_be_bytes());
        mac
    }

    fn open(&self, sealed: &Sealed<'_>) -> Option<Vec<u8>> {
        let mac = self.mac(sealed.header, &sealed.iv, &sealed.ciphertext);
        mac.verify_truncated_left(&sealed.tag).ok()?;
        let context = DecryptionContext::Iv128(FixedLength::from(sealed.iv));
        let mut plain = sealed.ciphertext.clone();
        let length = self.decrypting.decrypt(&mut plain, context).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

/// The parts of a compact JWE.
struct Sealed<'v> {
    header: &'v str,
    iv: [u8; 16],
    ciphertext: Vec<u8>,
    tag: [u8; TAG_BYTES],
}

impl<'v> Sealed<'v> {
    fn parse(value: &'v str) -> Option<Self> {
        let mut parts = value.split('.');
        let mut next = || parts.next();
        let (header, key, iv, ciphertext, tag) = (next()?, next()?, next()?, next()?, next()?);
        // With `dir` there is no key in it.
        if next().is_some() || !key.is_empty() {
            return None;
        }
        Some(Self {
            header,
            iv: base64::decode_strict(iv)?.try_into().ok()?,
            ciphertext: base64::decode_strict(ciphertext)?,
            tag: base64::decode_strict(tag)?.try_into().ok()?,
        })
    }
}

impl Strategy for Jwe {
    fn open(&self, value: &str, now: UnixMs) -> Option<Opened> {
        let sealed = Sealed::parse(value)?;
        let header: Map<String, Value> =
            serde_json::from_slice(&base64::decode_strict(sealed.header)?).ok()?;
        let says = |key: &str| header.get(key).and_then(Value::as_str);
        // Claims repeated in the header, compression and extensions: nothing the framework writes has them.
        let foreign = ["crit", "zip", "iss", "sub", "aud"];
        if says("alg") != Some("dir")
            || says("enc") != Some(ENCRYPTION)
            || foreign.iter().any(|key| header.contains_key(*key))
        {
            return None;
        }
        let plain = match header.get("kid") {
            None => self.keys.iter().find_map(|key| key.open(&sealed)),
            Some(kid) => {
                let key = self
                    .keys
                    .iter()
                    .find(|key| kid.as_str() == Some(&key.kid))?;
                key.open(&sealed)
            }
        };
        let plain = Zeroizing::new(plain?);
        jwt::open_claims(serde_json::from_slice(&plain).ok()?, now)
    }

    fn seal(&self, payload: &Payload, now: UnixMs, entropy: &Entropy) -> Option<String> {
        let key = self.keys.first()?;
        let header = format!(
            r#"{{"alg":"dir","enc":"{ENCRYPTION}","kid":"{}"}}"#,
            key.kid
        );
        let header = base64::encode(header.as_bytes());
        let (iv, id) = entropy.0.split_first_chunk::<16>()?;
        let mut claims = payload
            .claims(vec![
                ("iat", now.0.div_euclid(1000).into()),
                ("exp", payload.expires_at.0.div_euclid(1000).into()),
                ("jti", random_uuid(id.first_chunk()?).into()),
            ])?
            .into_bytes();
        let context = EncryptionContext::Iv128(FixedLength::from(*iv));
        key.encrypting
            .less_safe_encrypt(&mut claims, context)
            .ok()?;
        let mac = key.mac(&header, iv, &claims).finalize().into_bytes();
        let tag = mac.get(..TAG_BYTES)?;
        Some(format!(
            "{header}..{}.{}.{}",
            base64::encode(iv),
            base64::encode(&claims),
            base64::encode(tag)
        ))
    }
}

/// A UUID of version 4.
fn random_uuid(bytes: &[u8; 16]) -> String {
    uuid::Builder::from_random_bytes(*bytes)
        .into_uuid()
        .to_string()
}
