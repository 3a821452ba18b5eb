//! `jwe`: encrypted. Every listed secret opens it, the current one seals it.
//!
//! Source: better-auth 1.7, crypto/jwt.ts (`symmetricEncodeJWT`): `dir` with `A256CBC-HS512` (RFC 7518, 5.2), the key derived by
//! HKDF-SHA-256, its RFC 7638 thumbprint as `kid`.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Build, Context, Entropy, Opened, Payload, Strategy, jwt};
use crate::credential::jwe::{ContentKey, Encryption, Jwe as Token};
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
const ENCRYPTION: Encryption = Encryption::A256CbcHs512;

fn build(context: &Context<'_>) -> Box<dyn Strategy> {
    Box::new(Jwe {
        keys: context.secrets.all().filter_map(derive).collect(),
    })
}

struct Jwe {
    /// The current one first.
    keys: Vec<ContentKey>,
}

fn derive(secret: &Secret) -> Option<ContentKey> {
    let mut key = Zeroizing::new([0; 64]);
    Hkdf::<Sha256>::new(Some(SALT), secret.expose().as_bytes())
        .expand(INFO, key.as_mut_slice())
        .ok()?;
    ContentKey::new(ENCRYPTION, key.as_slice())
}

impl Strategy for Jwe {
    fn open(&self, value: &str, now: UnixMs) -> Option<Opened> {
        let sealed = Token::parse(value)?;
        // Claims repeated in the header: nothing the framework writes has them.
        let foreign = ["iss", "sub", "aud"];
        if sealed.encryption != ENCRYPTION
            || foreign.iter().any(|key| sealed.header.contains_key(*key))
        {
            return None;
        }
        let plain = match sealed.header.get("kid") {
            None => self.keys.iter().find_map(|key| key.open(&sealed)),
            Some(kid) => {
                let named = |key: &&ContentKey| kid.as_str() == Some(&key.thumbprint);
                self.keys.iter().find(named)?.open(&sealed)
            }
        };
        jwt::open_claims(serde_json::from_slice(&plain?).ok()?, now)
    }

    fn seal(&self, payload: &Payload, now: UnixMs, entropy: &Entropy) -> Option<String> {
        let key = self.keys.first()?;
        let header = format!(
            r#"{{"alg":"dir","enc":"{}","kid":"{}"}}"#,
            ENCRYPTION.as_str(),
            key.thumbprint
        );
        let (iv, id) = entropy.0.split_first_chunk::<16>()?;
        let claims = payload.claims(vec![
            ("iat", now.0.div_euclid(1000).into()),
            ("exp", payload.expires_at.0.div_euclid(1000).into()),
            ("jti", random_uuid(id.first_chunk()?).into()),
        ])?;
        key.seal_cbc(&header, *iv, claims.into_bytes())
    }
}

/// A UUID of version 4.
fn random_uuid(bytes: &[u8; 16]) -> String {
    uuid::Builder::from_random_bytes(*bytes)
        .into_uuid()
        .to_string()
}
