//! Public keys by which tokens are checked, each bound to one algorithm.
//!
//! Source: RFC 7517, RFC 7518, RFC 8037; better-auth 1.7, plugins/jwt (`/jwks`, table `jwks`); golden data in `tests/golden/jwt.json`.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::jws::Jws;
use crate::time::UnixMs;

/// Most bytes of a key set, or of one stored key. A set of a hundred of the longest keys fits.
pub const SET_BYTES_MAX: usize = 256 * 1024;

/// Most keys of a set. Beyond it the rest is left out: who publishes so many does not use them all.
pub const KEYS_MAX: usize = 100;

/// Longest key id kept.
const KEY_ID_BYTES_MAX: usize = 512;

/// A way of signing in which the public key cannot sign. Nothing else is ever accepted: not `none`, and no HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
}

impl Algorithm {
    /// Every one, by its word.
    pub const ALL: [(&'static str, Self); 10] = [
        ("EdDSA", Self::EdDsa),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("ES512", Self::Es512),
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
    ];

    /// The one of this name.
    pub fn named(word: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|(known, _)| *known == word).map(|(_, one)| *one)
    }

    /// What a key is for that does not say it itself. An RSA key may be for several: then the oldest of them.
    fn usual(jwk: &Jwk) -> Option<Self> {
        match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => Some(Self::EdDsa),
            ("EC", Some("P-256")) => Some(Self::Es256),
            ("EC", Some("P-384")) => Some(Self::Es384),
            ("EC", Some("P-521")) => Some(Self::Es512),
            ("RSA", _) => Some(Self::Rs256),
            _ => None,
        }
    }
}

/// How a key is written.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// One public key.
pub struct Key {
    id: Box<str>,
    algorithm: Algorithm,
    public: ParsedPublicKey,
    until: Option<UnixMs>,
}

impl Key {
    fn read(jwk: &Jwk, id: &str, word: Option<&str>, fallback: Option<Algorithm>) -> Option<Self> {
        if id.is_empty() || id.len() > KEY_ID_BYTES_MAX {
            return None;
        }
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        if jwk.r#use.as_deref().is_some_and(|word| word != "sig")
            || jwk.key_ops.as_ref().is_some_and(|ops| !verifies(ops))
        {
            return None;
        }
        let algorithm = match word {
            Some(word) => Algorithm::named(word)?,
            None => fallback.or_else(|| Algorithm::usual(jwk))?,
        };
        Some(Self {
            id: id.into(),
            algorithm,
            public: public(jwk, algorithm)?,
            until: None,
        })
    }

    fn counts(&self, now: UnixMs) -> bool {
        self.until.is_none_or(|until| now <= until)
    }
}

fn public(jwk: &Jwk, algorithm: Algorithm) -> Option<ParsedPublicKey> {
    match algorithm {
        Algorithm::EdDsa => {
            let x = bytes(jwk.x.as_ref()).filter(|_| is(jwk, "OKP", Some("Ed25519")))?;
            ParsedPublicKey::new(&ED25519, x).ok()
        }
        Algorithm::Es256 => point(jwk, "P-256", 32, &ECDSA_P256_SHA256_FIXED),
        Algorithm::Es384 => point(jwk, "P-384", 48, &ECDSA_P384_SHA384_FIXED),
        Algorithm::Es512 => point(jwk, "P-521", 66, &ECDSA_P521_SHA512_FIXED),
        Algorithm::Rs256 => modulus(jwk, &RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => modulus(jwk, &RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => modulus(jwk, &RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => modulus(jwk, &RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => modulus(jwk, &RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => modulus(jwk, &RSA_PSS_2048_8192_SHA512),
    }
}

fn is(jwk: &Jwk, family: &str, curve: Option<&str>) -> bool {
    jwk.kty == family && curve.is_none_or(|curve| jwk.crv.as_deref() == Some(curve))
}

fn bytes(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok()
}

/// A point of a curve, as its two coordinates of `length` bytes each.
fn point(
    jwk: &Jwk,
    curve: &str,
    length: usize,
    algorithm: &'static dyn VerificationAlgorithm,
) -> Option<ParsedPublicKey> {
    let (x, y) = (bytes(jwk.x.as_ref())?, bytes(jwk.y.as_ref())?);
    if !is(jwk, "EC", Some(curve)) || x.len() != length || y.len() != length {
        return None;
    }
    let mut point = vec![4];
    point.extend(x);
    point.extend(y);
    ParsedPublicKey::new(algorithm, point).ok()
}

/// An RSA key. Shorter than 2048 bits, it verifies nothing.
fn modulus(jwk: &Jwk, parameters: &'static RsaParameters) -> Option<ParsedPublicKey> {
    let (n, e) = (bytes(jwk.n.as_ref())?, bytes(jwk.e.as_ref())?);
    let plain = |number: &[u8]| number.first().is_some_and(|byte| *byte != 0);
    if !is(jwk, "RSA", None) || !plain(&n) || !plain(&e) {
        return None;
    }
    RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(parameters)
        .ok()
}

/// A row of the table `jwks`.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// `id`: the key id.
    pub id: String,
    /// `publicKey`: a public JWK as JSON.
    pub public: String,
    /// `alg`, where the table has the column and the row a value.
    pub algorithm: Option<String>,
    /// `expiresAt`.
    pub expires_at: Option<UnixMs>,
}

/// A text is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no JSON Web Key Set")]
pub struct NoKeySet;

/// What checking a token brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The signature is right.
    Good,
    /// The signature is wrong, or of a kind that is never right.
    Bad,
    /// No key here has its id.
    UnknownKey,
}

/// Public keys by their ids.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Reads a published key set. Keys that are for something else, or of a kind not known here, are left out. `fallback` is the
    /// algorithm of keys that name none; without it, the usual one of their kind.
    ///
    /// # Errors
    /// When the text is no key set at all.
    pub fn parse(text: &[u8], fallback: Option<Algorithm>) -> Result<Self, NoKeySet> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        if text.len() > SET_BYTES_MAX {
            return Err(NoKeySet);
        }
        let set: Set = serde_json::from_slice(text).map_err(|_| NoKeySet)?;
        let keys = set.keys.into_iter().take(KEYS_MAX).filter_map(|value| {
            let jwk: Jwk = serde_json::from_value(value).ok()?;
            Key::read(&jwk, jwk.kid.as_deref()?, jwk.alg.as_deref(), fallback)
        });
        Ok(Self {
            keys: keys.collect(),
        })
    }

    /// The keys of the app's table, newest first. An expired one still counts for `grace`, as long as the framework publishes it.
    pub fn of_rows(
        rows: impl IntoIterator<Item = StoredKey>,
        fallback: Algorithm,
        grace: std::time::Duration,
        now: UnixMs,
    ) -> Self {
        let keys = rows.into_iter().filter_map(|row| {
            if row.public.len() > SET_BYTES_MAX {
                return None;
            }
            let jwk: Jwk = serde_json::from_str(&row.public).ok()?;
            let mut key = Key::read(&jwk, &row.id, row.algorithm.as_deref(), Some(fallback))?;
            key.until = row.expires_at.map(|at| at.plus(grace));
            key.counts(now).then_some(key)
        });
        Self {
            keys: keys.take(KEYS_MAX).collect(),
        }
    }

    /// Checks the signature of a token by the key it names, with the algorithm of that key and no other.
    pub fn check(&self, token: &Jws<'_>, now: UnixMs) -> Checked {
        let Some(algorithm) = Algorithm::named(token.algorithm()) else {
            return Checked::Bad;
        };
        let (Some(id), false) = (token.key_id(), token.is_critical()) else {
            return Checked::Bad;
        };
        let mut named = self
            .keys
            .iter()
            .filter(|key| *key.id == *id && key.counts(now))
            .peekable();
        if named.peek().is_none() {
            return Checked::UnknownKey;
        }
        let right = named.find(|key| key.algorithm == algorithm);
        let (Some(key), Some(signature)) = (right, token.signature()) else {
            return Checked::Bad;
        };
        match key.public.verify_sig(token.signed.as_bytes(), &signature) {
            Ok(()) => Checked::Good,
            Err(_) => Checked::Bad,
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMs = UnixMs(1_795_000_000_000);

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn jwk(more: &str) -> String {
        let x = URL_SAFE_NO_PAD.encode(pair().public_key().as_ref());
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"{more}}}"#)
    }

    fn token(header: &str) -> String {
        let signed = format!("{}.e30", URL_SAFE_NO_PAD.encode(header));
        let signature = URL_SAFE_NO_PAD.encode(pair().sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }

    fn check(set: &KeySet, header: &str) -> Checked {
        set.check(&Jws::parse(&token(header)).unwrap(), NOW)
    }

    fn published(jwk: &str) -> KeySet {
        KeySet::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes(), None).unwrap()
    }

    #[test]
    fn a_token_is_checked_by_the_key_it_names_and_no_other() {
        let set = published(&jwk(r#","kid":"k","alg":"EdDSA""#));
        assert_eq!(check(&set, r#"{"alg":"EdDSA","kid":"k"}"#), Checked::Good);
        for (header, wanted) in [
            (r#"{"alg":"EdDSA","kid":"other"}"#, Checked::UnknownKey),
            (r#"{"alg":"EdDSA"}"#, Checked::Bad),
            (r#"{"alg":"EdDSA","kid":7}"#, Checked::Bad),
            (r#"{"alg":"ES256","kid":"k"}"#, Checked::Bad),
            (r#"{"alg":"none","kid":"k"}"#, Checked::Bad),
            (r#"{"alg":"HS256","kid":"k"}"#, Checked::Bad),
            // No reason to ask anybody for the key of what is never right.
            (r#"{"alg":"HS256","kid":"other"}"#, Checked::Bad),
            (
                r#"{"alg":"EdDSA","kid":"k","crit":["x"],"x":1}"#,
                Checked::Bad,
            ),
            (
                r#"{"alg":"EdDSA","kid":"k","crit":["b64"],"b64":true}"#,
                Checked::Bad,
            ),
        ] {
            assert_eq!(check(&set, header), wanted, "{header}");
        }
    }

    #[test]
    fn keys_for_something_else_are_left_out() {
        let good = r#"{"alg":"EdDSA","kid":"k"}"#;
        for more in [
            r#","kid":"k","use":"sig""#,
            r#","kid":"k","key_ops":["verify"]"#,
            r#","kid":"k""#,
        ] {
            assert_eq!(check(&published(&jwk(more)), good), Checked::Good, "{more}");
        }
        for more in [
            r#","kid":"k","use":"enc""#,
            r#","kid":"k","key_ops":["sign"]"#,
            r#","kid":"k","alg":"ES256""#,
            r#","kid":"k","alg":"HS256""#,
            r#","kid":"""#,
            "",
        ] {
            assert!(published(&jwk(more)).is_empty(), "{more}");
        }
        for other in [
            r#"{"kty":"oct","kid":"k","k":"c2VjcmV0","alg":"HS256"}"#,
            r#"{"kty":"OKP","kid":"k","crv":"X25519","x":"c2VjcmV0"}"#,
            r#"{"kty":"EC","kid":"k","crv":"P-256","x":"AA","y":"AA"}"#,
            r#"{"kty":"RSA","kid":"k","n":"","e":"AQAB"}"#,
            "7",
        ] {
            assert!(published(other).is_empty(), "{other}");
        }
        // Beside good ones they do no harm.
        let both = format!("7,{}", jwk(r#","kid":"k""#));
        assert_eq!(published(&both).len(), 1);
    }

    #[test]
    fn sets_are_bounded() {
        let many = vec![jwk(r#","kid":"k""#); KEYS_MAX + 1].join(",");
        assert_eq!(published(&many).len(), KEYS_MAX);
        let long = format!(r#"{{"keys":[],"x":"{}"}}"#, " ".repeat(SET_BYTES_MAX));
        assert!(KeySet::parse(long.as_bytes(), None).is_err());
        assert!(KeySet::parse(b"<html>", None).is_err());
        assert!(KeySet::parse(br#"{"keys":[]}"#, None).is_ok_and(|set| set.is_empty()));
    }

    #[test]
    fn a_stored_key_counts_until_its_grace_is_over() {
        let grace = Duration::from_secs(60);
        let of = |algorithm: Option<&str>, expires_at| {
            let row = StoredKey {
                id: "k".into(),
                public: jwk(""),
                algorithm: algorithm.map(str::to_owned),
                expires_at,
            };
            KeySet::of_rows([row], Algorithm::EdDsa, grace, NOW)
        };
        let header = r#"{"alg":"EdDSA","kid":"k"}"#;
        for (algorithm, expires_at, known) in [
            (None, None, true),
            (Some("EdDSA"), None, true),
            (Some("ES256"), None, false),
            (None, Some(NOW.0), true),
            (None, Some(NOW.0 - 60_000), true),
            (None, Some(NOW.0 - 60_001), false),
        ] {
            let set = of(algorithm, expires_at.map(UnixMs));
            let checked = check(&set, header);
            assert_eq!(
                checked == Checked::Good,
                known,
                "{algorithm:?} {expires_at:?}"
            );
        }
        // It also ends while it is remembered.
        let set = of(None, Some(UnixMs(NOW.0 - 60_000)));
        let token = token(header);
        let later = NOW.plus(Duration::from_millis(1));
        assert_eq!(
            set.check(&Jws::parse(&token).unwrap(), later),
            Checked::UnknownKey
        );
    }

    proptest! {
        #[test]
        fn noise_never_panics(text in ".{0,80}") {
            let _ = KeySet::parse(text.as_bytes(), None);
            let _ = KeySet::parse(format!(r#"{{"keys":[{text}]}}"#).as_bytes(), None);
        }

        #[test]
        fn a_flipped_bit_anywhere_is_refused(at in 0usize..1000, bit in 0u8..6) {
            let set = published(&jwk(r#","kid":"k""#));
            let mut bytes = token(r#"{"alg":"EdDSA","kid":"k"}"#).into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(text) = String::from_utf8(bytes)
                && let Some(jws) = Jws::parse(&text)
            {
                prop_assert_ne!(set.check(&jws, NOW), Checked::Good);
            }
        }
    }
}
