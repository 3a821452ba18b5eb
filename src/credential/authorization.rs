//! Reading the `Authorization` header the way Better Auth's bearer plugin does.
//!
//! Source: better-auth 1.7, plugins/bearer; golden data in `tests/golden/bearer.json`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::signature::{Signed, Signer};

/// Longest session token looked at, signature included. The framework's take 32 letters, 77 with their signature; this leaves room for
/// custom generators, fully escaped. Longer is malformed and costs nothing more.
const TOKEN_BYTES_MAX: usize = 2048;

const SCHEME: &[u8] = b"bearer ";

/// Stops nowhere: padding and unused bits may be anything.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// What stands behind `Bearer ` in the first `Authorization` line, trimmed. `None`: another scheme, or nothing behind it.
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty()).then_some(token)
}

/// A bearer token as the framework takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token<'r> {
    /// A session token without its signature.
    Bare(&'r str),
    /// A session token whose signature is right.
    Signed(Signed<'r>),
    /// Its signature is right, and spelled in a way in which the framework then does not read it: it takes the place of the cookie, and
    /// leads to nobody.
    Misspelled,
    /// None of ours: whoever it is for reads it.
    Foreign,
}

impl<'r> Token<'r> {
    /// Tells what a token is. Its signature, if it has one, is checked.
    pub fn read(token: &'r [u8], signer: &Signer) -> Self {
        if token.len() > TOKEN_BYTES_MAX {
            // What has three parts may be somebody's JWT; nothing else of this length is anything.
            return match token.contains(&b'.') {
                true => Self::Foreign,
                false => Self::Misspelled,
            };
        }
        let Ok(text) = std::str::from_utf8(token) else {
            return Self::Misspelled;
        };
        if !text.contains('.') {
            return Self::Bare(text);
        }
        let decoded = crate::percent::decode(token).unwrap_or(Cow::Borrowed(token));
        if !is_signed(&decoded, signer) {
            return Self::Foreign;
        }
        // The framework has written it into the cookie by now, and reads it as one.
        match Signed::parse(decoded).filter(|signed| signer.verify(signed).is_some()) {
            Some(signed) => Self::Signed(signed),
            None => Self::Misspelled,
        }
    }
}

/// Whether the text between the first dot and the second is the signature of what stands before, in whatever base64.
fn is_signed(token: &[u8], signer: &Signer) -> bool {
    let mut parts = token.split(|byte| *byte == b'.');
    let (Some(value), Some(letters)) = (parts.next(), parts.next()) else {
        return false;
    };
    let Ok(value) = std::str::from_utf8(value) else {
        return false;
    };
    let letters = letters
        .split(|byte| *byte == b'=')
        .next()
        .unwrap_or_default();
    let engine = match letters.iter().any(|byte| matches!(byte, b'-' | b'_')) {
        true => URL_SAFE,
        false => STANDARD,
    };
    // Room for one byte more than a signature takes: a longer text, as in a JWT, ends here.
    let mut room = [0; 33];
    let signature = match engine.decode_slice(letters, &mut room) {
        Ok(32) => room.first_chunk::<32>().copied(),
        _ => None,
    };
    let claimed = Signed {
        value: Cow::Borrowed(value),
        signature,
    };
    signer.verify(&claimed).is_some()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::secret::Secret;

    fn headers(value: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        headers
    }

    #[test]
    fn only_the_scheme_with_its_one_space_counts() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bEARER abc", Some("abc")),
            ("Bearer   abc  ", Some("abc")),
            ("Bearer\tabc", None),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearerabc", None),
            ("Basic abc", None),
            ("abc", None),
        ] {
            let found = bearer(&headers(value.as_bytes())).map(<[u8]>::to_vec);
            assert_eq!(
                found,
                token.map(|token| token.as_bytes().to_vec()),
                "{value}"
            );
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn a_signature_that_the_cookie_would_not_bear_is_not_foreign() {
        let signer = Signer::new(&Secret::new("secret"));
        let issued = signer.issue("token");
        assert!(matches!(
            Token::read(issued.as_bytes(), &signer),
            Token::Signed(_)
        ));
        let bare = issued.trim_end_matches("%3D");
        assert_eq!(Token::read(bare.as_bytes(), &signer), Token::Misspelled);
        let more = format!("{issued}.x");
        assert_eq!(Token::read(more.as_bytes(), &signer), Token::Misspelled);
        let other = Signer::new(&Secret::new("other")).issue("token");
        assert_eq!(Token::read(other.as_bytes(), &signer), Token::Foreign);
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..80)) {
            let signer = Signer::new(&Secret::new("secret"));
            let _ = Token::read(&noise, &signer);
        }

        #[test]
        fn nothing_without_the_secret_is_signed(text in "[ -~]{0,100}") {
            let signer = Signer::new(&Secret::new("secret"));
            let read = Token::read(text.as_bytes(), &signer);
            prop_assert!(!matches!(read, Token::Signed(_) | Token::Misspelled));
        }
    }
}
