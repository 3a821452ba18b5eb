//! `jwt`: a JWT under an HMAC of the secret. Readable by everybody, written by the app alone.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value};
use sha2::{Sha256, Sha384, Sha512};

use super::{Build, Context, Entropy, Opened, Payload, Strategy, base64};
use crate::kind::Kind;
use crate::time::UnixMs;

/// The entry in the family's table.
pub(super) const KIND: Kind<Build> = Kind {
    name: "jwt",
    about: "a JWT under the app's secret",
    build,
};

fn build(context: &Context<'_>) -> Box<dyn Strategy> {
    // Only the current secret signs and verifies. The framework pins no algorithm: whoever knows the secret may use any of three.
    let key = context.secrets.current.expose().as_bytes();
    Box::new(Jwt {
        hs256: Hmac::new_from_slice(key).ok(),
        hs384: Hmac::new_from_slice(key).ok(),
        hs512: Hmac::new_from_slice(key).ok(),
    })
}

/// Always all three: HMAC takes keys of every length.
struct Jwt {
    hs256: Option<Hmac<Sha256>>,
    hs384: Option<Hmac<Sha384>>,
    hs512: Option<Hmac<Sha512>>,
}

impl Strategy for Jwt {
    fn open(&self, value: &str, now: UnixMs) -> Option<Opened> {
        let (signed, signature) = value.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let signature = base64::decode_strict(signature)?;
        let header = object(header)?;
        if header.contains_key("crit") {
            return None;
        }
        match header.get("alg")?.as_str()? {
            "HS256" => verify(self.hs256.clone()?, signed, &signature),
            "HS384" => verify(self.hs384.clone()?, signed, &signature),
            "HS512" => verify(self.hs512.clone()?, signed, &signature),
            _ => None,
        }?;
        open_claims(object(claims)?, now).filter(|opened| {
            // At its last second a JWT is over.
            now.0.div_euclid(1000) < opened.expires_at.0.div_euclid(1000)
        })
    }

    fn seal(&self, payload: &Payload, now: UnixMs, _entropy: &Entropy) -> Option<String> {
        let header = base64::encode(br#"{"alg":"HS256"}"#);
        let claims = payload.claims(vec![
            ("iat", now.0.div_euclid(1000).into()),
            ("exp", payload.expires_at.0.div_euclid(1000).into()),
        ])?;
        let signed = format!("{header}.{}", base64::encode(claims.as_bytes()));
        let mut mac = self.hs256.clone()?;
        mac.update(signed.as_bytes());
        let signature = base64::encode(&mac.finalize().into_bytes());
        Some(format!("{signed}.{signature}"))
    }
}

fn verify<M: hmac::Mac>(mut mac: M, signed: &str, signature: &[u8]) -> Option<()> {
    mac.update(signed.as_bytes());
    mac.verify_slice(signature).ok()
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&base64::decode_strict(part)?).ok()
}

/// The claims every JWT of the framework has: when it was issued, from when it counts, until when.
pub(super) fn open_claims(claims: Map<String, Value>, now: UnixMs) -> Option<Opened> {
    let seconds = |key| match claims.get(key) {
        None => Some(None),
        // Whole seconds as the framework writes them; a fraction is cut towards the past.
        #[allow(clippy::cast_possible_truncation)]
        Some(value) => value.as_f64().map(|seconds| Some(seconds.floor() as i64)),
    };
    seconds("iat")?;
    if seconds("nbf")?.is_some_and(|from| now.0.div_euclid(1000) < from) {
        return None;
    }
    // The framework would take one without an end; it never writes one.
    let expires_at = UnixMs(seconds("exp")??.saturating_mul(1000));
    Some(Opened {
        payload: claims,
        expires_at,
    })
}
