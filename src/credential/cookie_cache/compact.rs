//! `compact`: JSON and its HMAC, in base64. Readable by everybody, written by the app alone.
//!
//! What is signed is not what stands in the cookie: the framework parses the JSON, turns dates into dates, and signs what it writes
//! of that again, with the expiry as last key.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use super::json::Json;
use super::{Build, Context, Entropy, Opened, Payload, Strategy, base64, shape};
use crate::kind::Kind;
use crate::time::UnixMs;

/// The entry in the family's table.
pub(super) const KIND: Kind<Build> = Kind {
    name: "compact",
    about: "JSON with an HMAC",
    build,
};

fn build(context: &Context<'_>) -> Box<dyn Strategy> {
    // Only the current secret signs and verifies.
    let mac = Hmac::<Sha256>::new_from_slice(context.secrets.current.expose().as_bytes());
    Box::new(Compact { mac: mac.ok() })
}

struct Compact {
    /// Always there: HMAC takes keys of every length.
    mac: Option<Hmac<Sha256>>,
}

impl Compact {
    fn mac(&self, signed: &str) -> Option<Hmac<Sha256>> {
        let mut mac = self.mac.clone()?;
        mac.update(signed.as_bytes());
        Some(mac)
    }
}

impl Strategy for Compact {
    fn open(&self, value: &str, _now: UnixMs) -> Option<Opened> {
        let json = String::from_utf8(base64::decode_either(value)?).ok()?;
        let Json::Object(outer) = Json::parse(&json)? else {
            return None;
        };
        let outer = Json::Object(outer);
        let (Json::Object(payload), Json::Number(expires_at)) =
            (outer.get("session")?, outer.get("expiresAt")?)
        else {
            return None;
        };
        let signature = base64::decode_either(outer.get("signature")?.text()?)?;
        let mut signed = payload.clone();
        match signed.iter_mut().find(|(key, _)| key == "expiresAt") {
            Some((_, inner)) => *inner = Json::Number(*expires_at),
            None => signed.push(("expiresAt".into(), Json::Number(*expires_at))),
        }
        let mut text = String::with_capacity(json.len());
        Json::Object(signed).write(&mut text)?;
        self.mac(&text)?.verify_slice(&signature).ok()?;
        let expires_at = shape::moment(&Value::from(*expires_at))?;
        match Json::Object(payload.clone()).into_value()? {
            Value::Object(payload) => Some(Opened {
                payload,
                expires_at,
            }),
            _ => None,
        }
    }

    fn seal(&self, payload: &Payload, _now: UnixMs, _entropy: &Entropy) -> Option<String> {
        let expires_at = Value::from(payload.expires_at.0);
        let signed = payload.claims(vec![("expiresAt", expires_at.clone())])?;
        let signature = base64::encode(&self.mac(&signed)?.finalize().into_bytes());
        let outer = Json::Object(vec![
            ("session".into(), payload.sealed()),
            ("expiresAt".into(), Json::from(&expires_at)),
            ("signature".into(), Json::Text(signature)),
        ]);
        let mut text = String::new();
        outer.write(&mut text)?;
        Some(base64::encode(text.as_bytes()))
    }

    fn browser_session_age(&self) -> Duration {
        Duration::from_secs(60)
    }
}
