//! Signed tokens in three parts: their form, before anybody has checked them.
//!
//! Source: RFC 7515 (compact serialization) and RFC 7519.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Longest key id looked at.
const KEY_ID_BYTES_MAX: usize = 512;

/// A token in three parts whose header is JSON and names an algorithm.
pub struct Jws<'t> {
    /// What is signed: header, dot, payload.
    pub signed: &'t str,
    header: Map<String, Value>,
    payload: &'t str,
    signature: &'t str,
}

impl<'t> Jws<'t> {
    /// Takes a token apart. `None`: it is none.
    pub fn parse(text: &'t str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        let header = object(header)?;
        header.get("alg").filter(|alg| alg.is_string())?;
        Some(Self {
            signed,
            header,
            payload,
            signature,
        })
    }

    /// The algorithm it says it is signed by.
    pub fn algorithm(&self) -> &str {
        self.text("alg").unwrap_or_default()
    }

    /// The id of the key it says it is signed by.
    pub fn key_id(&self) -> Option<&str> {
        self.text("kid")
            .filter(|id| (1..=KEY_ID_BYTES_MAX).contains(&id.len()))
    }

    /// What kind of token it says it is.
    pub fn kind(&self) -> Option<&str> {
        self.text("typ")
    }

    /// Whether it asks its reader to understand more than this one does.
    pub fn is_critical(&self) -> bool {
        self.header.contains_key("crit") || self.header.contains_key("b64")
    }

    /// The signature; `None` when it does not decode.
    pub fn signature(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.signature).ok()
    }

    /// The payload; `None` when it is no JSON object.
    pub fn claims(&self) -> Option<Map<String, Value>> {
        object(self.payload)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.header.get(key).and_then(Value::as_str)
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(json: &str) -> String {
        URL_SAFE_NO_PAD.encode(json)
    }

    #[test]
    fn three_parts_and_a_header_with_an_algorithm_make_one() {
        let good = format!(
            "{}.{}.c2ln",
            part(r#"{"alg":"EdDSA","kid":"k"}"#),
            part("{}")
        );
        let jws = Jws::parse(&good).unwrap();
        assert_eq!((jws.algorithm(), jws.key_id()), ("EdDSA", Some("k")));
        assert_eq!(jws.signature().as_deref(), Some(&b"sig"[..]));
        assert!(jws.claims().unwrap().is_empty() && !jws.is_critical());
        for bad in [
            String::new(),
            "a.b".into(),
            "a.b.c".into(),
            format!("{good}.x"),
            format!("{}.e30.", part("{}")),
            format!("{}.e30.", part(r#"{"alg":1}"#)),
            format!("{}.e30.", part("[]")),
        ] {
            assert!(Jws::parse(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_endless_key_id_is_no_key_id() {
        let header = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, "k".repeat(513));
        let token = format!("{}.e30.", part(&header));
        assert_eq!(Jws::parse(&token).unwrap().key_id(), None);
    }

    proptest! {
        #[test]
        fn noise_never_panics(text in ".{0,60}", header in ".{0,20}") {
            let _ = Jws::parse(&text);
            let token = format!("{}.{text}.{text}", part(&header));
            if let Some(jws) = Jws::parse(&token) {
                let _ = (jws.claims(), jws.signature(), jws.key_id());
            }
        }
    }
}
