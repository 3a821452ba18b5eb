//! The signed assertion: the same facts as the headers, in a form an app can check for itself.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use jsonwebtoken::{Algorithm, Header};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::IdentityError;
use crate::secret::Secret;

/// Separates this key from everything else that is derived from the same secret.
const LABEL: &[u8] = b"vestibule identity assertion ed25519 v1";

/// Longest assertion, in bytes: Node refuses request heads of more than 16 KiB.
const ASSERTION_BYTES_MAX: usize = 4096;

/// A signature in base64url, with the dot before it.
const SIGNATURE_LETTERS: usize = 87;

/// One signing key with its public half.
pub struct Key {
    /// Held ready: to read it from its encoded form at each signature takes as long as to sign.
    pair: Ed25519KeyPair,
    /// The header of every token it signs and the dot after it, as they are sent.
    head: String,
    /// The public key as a JSON Web Key.
    pub public: PublicKey,
}

/// A public key as it stands in the key set (RFC 7517, RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicKey {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    kid: String,
    x: String,
}

impl Key {
    /// The key that belongs to `material`. The same material gives the same key, so replicas agree without talking.
    ///
    /// # Errors
    /// When the crypto library refuses the key: a defect, not a setting.
    pub fn derive(material: &Secret) -> Result<Self, IdentityError> {
        let mut seed = [0; 32];
        Hkdf::<Sha256>::new(None, material.expose().as_bytes())
            .expand(LABEL, &mut seed)
            .map_err(|_| IdentityError::Key)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| IdentityError::Key)?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        // RFC 7638: the members in this order, and nothing else.
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(format!(
            r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#
        )));
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(kid.clone());
        let header = serde_json::to_vec(&header).map_err(|_| IdentityError::Key)?;
        Ok(Self {
            pair,
            head: format!("{}.", URL_SAFE_NO_PAD.encode(header)),
            public: PublicKey {
                kty: "OKP",
                crv: "Ed25519",
                alg: "EdDSA",
                usage: "sig",
                kid,
                x,
            },
        })
    }

    /// Signs `claims`.
    ///
    /// # Errors
    /// When they cannot be signed, or the result would be too long for a header.
    pub fn sign(&self, claims: &Claims<'_>) -> Result<String, IdentityError> {
        let claims = serde_json::to_vec(claims).map_err(|_| IdentityError::Key)?;
        let letters = base64::encoded_len(claims.len(), false).unwrap_or_default();
        let mut token = String::with_capacity(self.head.len() + letters + SIGNATURE_LETTERS);
        token.push_str(&self.head);
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
        let signature = self.pair.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        if token.len() > ASSERTION_BYTES_MAX {
            return Err(IdentityError::TooLong);
        }
        Ok(token)
    }
}

/// What an assertion says.
#[derive(Serialize)]
pub struct Claims<'a> {
    /// Who says it: `identity.issuer`.
    pub iss: &'a str,
    /// To whom: `identity.audience`.
    pub aud: &'a str,
    /// The user's id.
    pub sub: &'a str,
    /// The session's id.
    pub sid: &'a str,
    /// Since when, in seconds.
    pub iat: i64,
    /// Until when, in seconds.
    pub exp: i64,
    /// How the caller proved who they are.
    pub method: &'static str,
    /// The user's e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<&'a str>,
    /// Whether it is verified.
    pub email_verified: bool,
    /// The user's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// The user's roles, a comma list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'a str>,
    /// The active organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<&'a str>,
    /// The user's roles in it, a comma list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_role: Option<&'a str>,
    /// The active team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<&'a str>,
    /// Who acts in the user's name, if it is not the user (RFC 8693, section 4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor<'a>>,
}

/// Who acts in another's name.
#[derive(Serialize)]
pub struct Actor<'a> {
    /// Their user id.
    pub sub: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(name: &str) -> Claims<'_> {
        Claims {
            iss: "i",
            aud: "a",
            sub: "u",
            sid: "s",
            iat: 0,
            exp: 60,
            method: "session",
            email: None,
            email_verified: false,
            name: Some(name),
            role: None,
            org: None,
            org_role: None,
            team: None,
            act: None,
        }
    }

    #[test]
    fn the_same_material_gives_the_same_key_and_other_material_another() {
        let key = |material: &str| Key::derive(&Secret::new(material)).map(|key| key.public);
        assert_eq!(key("one"), key("one"));
        assert_ne!(key("one"), key("two"));
    }

    #[test]
    fn a_token_is_byte_for_byte_what_a_jwt_library_makes_of_the_same_and_its_key_verifies_it() {
        use jsonwebtoken::{DecodingKey, EncodingKey, Validation};

        /// What comes before the 32 bytes of seed in the PKCS #8 form of an Ed25519 key (RFC 8410).
        const PKCS8_PREFIX: [u8; 16] = [
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        let key = Key::derive(&Secret::new("material")).unwrap();
        let mut seed = [0; 32];
        Hkdf::<Sha256>::new(None, b"material")
            .expand(LABEL, &mut seed)
            .unwrap();
        let encoding = EncodingKey::from_ed_der(&[&PKCS8_PREFIX[..], &seed].concat());
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.public.kid.clone());
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&["a"]);
        validation.validate_exp = false;
        let other = Key::derive(&Secret::new("other")).unwrap();
        for name in ["", "A", "Ad", "Ada", "Ada \u{fffd} \"Lovelace\""] {
            let claims = claims(name);
            let token = key.sign(&claims).unwrap();
            assert_eq!(
                token,
                jsonwebtoken::encode(&header, &claims, &encoding).unwrap()
            );
            let read = |by: &Key| {
                let public = DecodingKey::from_ed_components(&by.public.x).unwrap();
                jsonwebtoken::decode::<serde_json::Value>(&token, &public, &validation)
            };
            assert_eq!(read(&key).unwrap().claims["name"], *name);
            assert!(read(&other).is_err());
        }
    }

    #[test]
    fn what_does_not_fit_a_header_is_refused_and_what_fits_is_signed() {
        let key = Key::derive(&Secret::new("material")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            key.sign(&claims(&"n".repeat(5000))),
            Err(IdentityError::TooLong)
        );
        assert!(key.sign(&claims("Ada")).is_ok());
    }
}
