//! Signed tokens of old systems: by which keys, in which ways, for whom and until when.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value};
use sha2::Sha256;

use super::{Fields, Key, KeyKind, Moment, Outcome, Refusal, is_id, key, when, with_keys};
use crate::credential::jws::Jws;
use crate::credential::key_set::{Checked, KeySet};
use crate::secret::Secret;
use crate::time::UnixMs;

/// Longest token looked at, in bytes. Headers of 16 KiB hold no longer one.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Ways of signing in which the public key cannot sign, and that the systems here use.
pub const PUBLIC: &[&str] = &["RS256", "ES256"];

/// The oldest of them alone.
pub const RS256: &[&str] = &["RS256"];

/// Whatever an OpenID provider may be set to.
pub const OPENID: &[&str] = &[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
];

/// The key `jwks_url`.
pub const JWKS_URL: Key = key(
    "jwks_url",
    KeyKind::Text,
    "Where the public keys of its tokens are published. Default: where this system documents them.",
);

/// The key `jwks`.
pub const JWKS: Key = key(
    "jwks",
    KeyKind::Text,
    "The public keys themselves, as a JSON Web Key Set: nothing is fetched then. Default: none.",
);

/// Where public keys are from.
#[derive(Clone)]
pub enum Keys {
    /// Published at an address.
    Published(url::Url),
    /// Written in the configuration.
    Pinned(Arc<KeySet>),
}

impl Keys {
    /// As the keys `jwks` and `jwks_url` say; else published at `default`.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub fn configured(fields: &Fields, default: &str) -> Result<Self, String> {
        if let Some(text) = fields.text("jwks") {
            let set = KeySet::parse(text.expose().as_bytes(), None)
                .map_err(|error| format!("`jwks`: {error}"))?;
            if set.is_empty() {
                return Err("`jwks` holds no key that can be used".into());
            }
            return Ok(Self::Pinned(Arc::new(set)));
        }
        if fields.text("jwks_url").is_none() && default.is_empty() {
            return Err("`jwks_url` is missing".into());
        }
        Ok(Self::Published(fields.url("jwks_url", default)?))
    }

    /// Checks a token, signed in one of the `ways`, and goes on with what it says. A key nobody knows is asked for once more: the
    /// set may have been kept since before the keys changed.
    pub fn check(
        &self,
        token: Secret,
        ways: &'static [&'static str],
        moment: Moment<'_>,
        then: impl FnOnce(Claims, Moment<'_>) -> Outcome + Send + 'static,
    ) -> Outcome {
        // Before anything is fetched for it.
        parse(token.expose(), ways)?;
        match self {
            Self::Pinned(set) => {
                let claims = check(&token, ways, set, moment.now)?;
                then(claims, moment)
            }
            Self::Published(url) => {
                let again = url.clone();
                with_keys(url, move |set, moment| {
                    match check(&token, ways, &set, moment.now) {
                        Ok(claims) => then(claims, moment),
                        Err(Refusal::UnknownKey) => with_keys(&again, move |set, moment| {
                            let claims = check(&token, ways, &set, moment.now)?;
                            then(claims, moment)
                        }),
                        Err(refusal) => Err(refusal),
                    }
                })
            }
        }
    }
}

fn parse<'t>(token: &'t str, ways: &[&str]) -> Result<Jws<'t>, Refusal> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Refusal::Malformed);
    }
    let token = Jws::parse(token).ok_or(Refusal::Malformed)?;
    if token.is_critical() || !ways.contains(&token.algorithm()) {
        return Err(Refusal::BadAlgorithm);
    }
    Ok(token)
}

fn check(token: &Secret, ways: &[&str], set: &KeySet, now: UnixMs) -> Result<Claims, Refusal> {
    let token = parse(token.expose(), ways)?;
    match set.check(&token, now) {
        Checked::Good => token.claims().map(Claims).ok_or(Refusal::Malformed),
        Checked::Bad => Err(Refusal::BadSignature),
        Checked::UnknownKey => Err(Refusal::UnknownKey),
    }
}

/// Checks a token signed with a shared secret, HS256 and nothing else.
pub fn check_shared(token: &str, secrets: &[Secret]) -> Result<Claims, Refusal> {
    let token = parse(token, &["HS256"])?;
    let signature = token.signature().ok_or(Refusal::BadSignature)?;
    let right = |secret: &Secret| {
        let mac = <Hmac<Sha256>>::new_from_slice(secret.expose().as_bytes());
        mac.is_ok_and(|mut mac| {
            mac.update(token.signed.as_bytes());
            mac.verify_slice(&signature).is_ok()
        })
    };
    if !secrets.iter().any(right) {
        return Err(Refusal::BadSignature);
    }
    token.claims().map(Claims).ok_or(Refusal::Malformed)
}

/// The algorithm a token says it is signed by, and nothing checked.
pub fn algorithm(token: &str) -> Option<String> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    Jws::parse(token).map(|token| token.algorithm().to_owned())
}

/// Whether a text has the shape of a signed token: three parts.
pub fn has_shape(text: &str) -> bool {
    text.bytes().filter(|b| *b == b'.').count() == 2
}

/// What a token says, its signature checked.
pub struct Claims(pub Map<String, Value>);

impl Claims {
    /// A text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    /// A text that may be an id.
    pub fn id(&self, key: &str) -> Option<&str> {
        self.text(key).filter(|text| is_id(text))
    }

    /// A moment, in seconds.
    pub fn moment(&self, key: &str) -> Option<UnixMs> {
        let seconds = when::whole(self.0.get(key)?)?;
        Some(UnixMs(seconds.saturating_mul(1000)))
    }

    /// When its user signed in, where it says so. Not when it was made (`iat`): systems make new tokens of one session as long as it
    /// lives, and then whoever holds it would always have signed in just now, after every change of the password.
    pub fn signed_in(&self) -> Option<UnixMs> {
        self.moment("auth_time")
    }

    /// Whose it is.
    pub fn subject(&self) -> Result<String, Refusal> {
        self.id("sub").map(str::to_owned).ok_or(Refusal::NoSubject)
    }

    /// Holds the issuer to one of these.
    pub fn issued_by(&self, accepted: &[String]) -> Result<(), Refusal> {
        let issuer = self.text("iss").ok_or(Refusal::BadIssuer)?;
        match accepted.iter().any(|each| each == issuer) {
            true => Ok(()),
            false => Err(Refusal::BadIssuer),
        }
    }

    /// Whether one of these is among those it is for.
    pub fn is_for(&self, accepted: &[String]) -> bool {
        let fits = |value: &Value| {
            value
                .as_str()
                .is_some_and(|text| accepted.iter().any(|each| each == text))
        };
        match self.0.get("aud") {
            Some(Value::Array(list)) => list.iter().any(fits),
            Some(one) => fits(one),
            None => false,
        }
    }

    /// Holds it to its own times. Without an end it is no token of a session.
    pub fn in_time(&self, now: UnixMs, skew: Duration) -> Result<(), Refusal> {
        let skew = i64::try_from(skew.as_millis()).unwrap_or(i64::MAX);
        let expires = self.moment("exp").ok_or(Refusal::Malformed)?;
        if self.0.contains_key("nbf") {
            let begins = self.moment("nbf").ok_or(Refusal::Malformed)?;
            if begins.0 > now.0.saturating_add(skew) {
                return Err(Refusal::NotYetValid);
            }
        }
        if expires.0.saturating_add(skew) <= now.0 {
            return Err(Refusal::Expired);
        }
        Ok(())
    }

    /// Refuses a moment that is still to come.
    pub fn not_before(&self, key: &str, now: UnixMs, skew: Duration) -> Result<(), Refusal> {
        match self.moment(key) {
            Some(at) if at > now.plus(skew) => Err(Refusal::NotYetValid),
            _ => Ok(()),
        }
    }

    /// Who really is behind it: `act.sub`, whatever else `act` says.
    pub fn actor(&self) -> Option<String> {
        match self.0.get("act")? {
            Value::Null => None,
            act => Some(
                act.get("sub")
                    .and_then(super::id)
                    .unwrap_or_else(|| "unknown".to_owned()),
            ),
        }
    }

    /// Whether `amr` names a second factor; `None` when there is no `amr`.
    pub fn second_factor(&self) -> Option<bool> {
        self.0.get("amr").map(shows_second_factor)
    }
}

/// Whether a list of methods (`amr`, or objects with a `method`) shows a second factor.
pub fn shows_second_factor(methods: &Value) -> bool {
    const SECOND: &[&str] = &["mfa", "otp", "totp", "hwk", "swk", "sms", "mca"];
    let word = |value: &Value| -> Option<String> {
        let text = value.as_str().or_else(|| value.get("method")?.as_str())?;
        Some(text.to_ascii_lowercase())
    };
    let Value::Array(list) = methods else {
        return false;
    };
    let words: Vec<String> = list.iter().filter_map(word).collect();
    // A code alone is a first factor; beside another method it is the second.
    words
        .iter()
        .any(|word| word == "mfa" || word.starts_with("mfa/"))
        || (words.len() > 1 && words.iter().any(|word| SECOND.contains(&word.as_str())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        Claims(value.as_object().cloned().unwrap_or_default())
    }

    const NOW: UnixMs = UnixMs(1_000_000);

    #[test]
    fn times_hold_to_the_second_and_the_skew() {
        let at = |exp: i64, skew: u64| {
            claims(json!({ "exp": exp })).in_time(NOW, Duration::from_secs(skew))
        };
        assert_eq!(at(1001, 0), Ok(()));
        assert_eq!(at(1000, 0), Err(Refusal::Expired));
        assert_eq!(at(996, 5), Ok(()));
        assert_eq!(at(995, 5), Err(Refusal::Expired));
        let early = claims(json!({ "exp": 2000, "nbf": 1006 }));
        assert_eq!(
            early.in_time(NOW, Duration::from_secs(5)),
            Err(Refusal::NotYetValid)
        );
        assert_eq!(early.in_time(NOW, Duration::from_secs(6)), Ok(()));
        for odd in [
            json!({}),
            json!({ "exp": "soon" }),
            json!({ "exp": 2000, "nbf": "x" }),
        ] {
            assert_eq!(
                claims(odd).in_time(NOW, Duration::ZERO),
                Err(Refusal::Malformed)
            );
        }
    }

    #[test]
    fn a_second_factor_is_one_only_beside_a_first() {
        for (methods, shown) in [
            (json!(["pwd", "otp"]), true),
            (json!(["mfa"]), true),
            (
                json!([{ "method": "password" }, { "method": "totp" }]),
                true,
            ),
            (json!([{ "method": "mfa/totp" }]), true),
            (json!(["otp"]), false),
            (json!(["pwd"]), false),
            (json!("mfa"), false),
        ] {
            assert_eq!(shows_second_factor(&methods), shown, "{methods}");
        }
    }

    #[test]
    fn an_audience_is_one_of_those_named() {
        let ours = ["a".to_owned()];
        assert!(claims(json!({ "aud": "a" })).is_for(&ours));
        assert!(claims(json!({ "aud": ["b", "a"] })).is_for(&ours));
        for other in [
            json!({}),
            json!({ "aud": "b" }),
            json!({ "aud": [] }),
            json!({ "aud": 1 }),
        ] {
            assert!(!claims(other).is_for(&ours));
        }
    }
}
