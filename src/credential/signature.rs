//! Better Auth's signed cookies: `token "." base64(HMAC-SHA256(secret, token))`.
//!
//! Source: better-call 1.x, `crypto.ts` (`signCookieValue`, `verifySignature`) and `cookies.ts`; golden data in
//! `tests/golden/signed-cookies.json`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use memchr::{memchr, memrchr};
use sha2::Sha256;

use crate::secret::Secret;

/// Length of a signature as text: 32 bytes in padded base64.
const SIGNATURE_LETTERS: usize = 44;

/// The alphabet of `atob`: standard, and the unused bits of the last letter may be anything.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// What a cookie value splits into: still unproven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<'r> {
    /// The text before the last dot.
    pub value: Cow<'r, str>,
    /// The decoded signature; `None` when it has the right shape but does not decode, so cannot be right.
    pub signature: Option<[u8; 32]>,
}

impl<'r> Signed<'r> {
    /// Splits a cookie value as browsers send it, still encoded, without copying it: escapes stand in the signature only, if at all.
    /// `None` says nothing: whatever is spelled otherwise is for [`Self::parse`] to judge, after decoding.
    pub fn parse_plain(raw: &'r [u8]) -> Option<Self> {
        let dot = memrchr(b'.', raw).filter(|at| *at > 0)?;
        let (value, escaped) = (raw.get(..dot)?, raw.get(dot + 1..)?);
        if value.starts_with(b"\"") || memchr(b'%', value).is_some() {
            return None;
        }
        let letters = unescape(escaped)?;
        // A dot that was escaped moves the split.
        if letters.last() != Some(&b'=') || !letters.is_ascii() || letters.contains(&b'.') {
            return None;
        }
        Some(Self {
            value: Cow::Borrowed(std::str::from_utf8(value).ok()?),
            signature: decode_signature(&letters),
        })
    }

    /// Splits a decoded cookie value. `None`: not in the form of a signed cookie at all, which the framework treats as absent.
    pub fn parse(text: Cow<'r, [u8]>) -> Option<Self> {
        let text = match text {
            Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).ok()?),
        };
        let dot = text.rfind('.').filter(|&at| at > 0)?;
        let letters = text.get(dot + 1..)?;
        if letters.len() != SIGNATURE_LETTERS || !letters.ends_with('=') {
            return None;
        }
        let signature = decode_signature(letters.as_bytes());
        let value = match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.get(..dot)?),
            Cow::Owned(mut text) => {
                text.truncate(dot);
                Cow::Owned(text)
            }
        };
        Some(Self { value, signature })
    }
}

/// A signature without its escapes; `None` when it is not as long as one.
fn unescape(escaped: &[u8]) -> Option<[u8; SIGNATURE_LETTERS]> {
    let mut letters = [0; SIGNATURE_LETTERS];
    let (mut free, mut rest) = (&mut letters[..], escaped);
    loop {
        let (run, after) = rest.split_at(memchr(b'%', rest).unwrap_or(rest.len()));
        free.split_off_mut(..run.len())?.copy_from_slice(run);
        let Some(([_, high, low], after)) = after.split_first_chunk() else {
            let is_whole = after.is_empty() && free.is_empty();
            return is_whole.then_some(letters);
        };
        let digit = |letter: u8| char::from(letter).to_digit(16);
        let letter = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
        *free.split_off_first_mut()? = letter;
        rest = after;
    }
}

/// The bytes of a signature; `None` when the letters do not decode to as many.
fn decode_signature(letters: &[u8]) -> Option<[u8; 32]> {
    // `decode_slice` wants room for its estimate, one byte more than a signature takes.
    let mut room = [0; 33];
    match LENIENT.decode_slice(letters, &mut room) {
        Ok(32) => room.first_chunk::<32>().copied(),
        _ => None,
    }
}

/// The keyed digest of a session token under the current secret: its signature, and our key for it in memory. It tells nobody
/// the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seal([u8; 32]);

impl Seal {
    /// Sixteen of its letters' worth: enough to spread over tables.
    pub fn spread(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Eight more of them: the same for whatever is known of one token, and hardly ever for two.
    pub fn mark(&self) -> u32 {
        let [.., a, b, c, d] = self.0;
        u32::from_le_bytes([a, b, c, d])
    }

    /// The key under which memory keeps what a token proves when it comes by `method`: the app is told how a caller came, so the
    /// same token by two ways is two entries.
    #[must_use]
    pub fn by(&self, method: crate::credential::Method) -> Self {
        if method == crate::credential::Method::SESSION {
            return *self;
        }
        let mut bytes = self.0;
        for (byte, letter) in bytes.iter_mut().zip(method.as_str().bytes()) {
            *byte ^= letter;
        }
        Self(bytes)
    }

    /// The name of a cookie that came with the token: of its whole value, so that no other one is taken for it.
    #[must_use]
    pub fn with(&self, cookie: &[u8]) -> Self {
        use sha2::Digest as _;

        Self(
            Sha256::new()
                .chain_update(self.0)
                .chain_update(cookie)
                .finalize()
                .into(),
        )
    }

    /// The digest.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Seal {
    // With the token in hand the seal is the cookie's other half: do not print it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

/// Signs and verifies under one secret. The key schedule is computed once.
#[derive(Clone)]
pub struct Signer {
    mac: Hmac<Sha256>,
}

impl Signer {
    /// A signer under `secret`, used as it is: UTF-8, no derivation.
    #[allow(clippy::missing_panics_doc)]
    pub fn new(secret: &Secret) -> Self {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.expose().as_bytes());
        // Invariant: HMAC takes keys of every length.
        #[allow(clippy::expect_used)]
        Self {
            mac: mac.expect("HMAC takes a key of any length"),
        }
    }

    /// The signature of `value`.
    pub fn seal(&self, value: &str) -> Seal {
        let mut mac = self.mac.clone();
        mac.update(value.as_bytes());
        Seal(mac.finalize().into_bytes().into())
    }

    /// The seal of a signed value whose signature is right, compared in constant time.
    pub fn verify(&self, signed: &Signed<'_>) -> Option<Seal> {
        use subtle::ConstantTimeEq as _;

        let theirs = signed.signature?;
        let ours = self.seal(&signed.value);
        bool::from(ours.0.ct_eq(&theirs)).then_some(ours)
    }

    /// The cookie value the framework would issue for `value`, percent-encoded.
    pub fn issue(&self, value: &str) -> String {
        let signature = STANDARD.encode(self.seal(value).0);
        crate::percent::encode_component(&format!("{value}.{signature}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::credential::cookies;

    proptest! {
        #[test]
        fn the_short_way_agrees_with_the_long_one(
            value in "[a-zA-Z0-9.%\"é-]{0,12}",
            signature in prop_oneof![
                "[A-Za-z0-9+/]{40,44}=?",
                "([A-Za-z0-9]|%2B|%2b|%2F|%2E|%3|%zz|%C3%A9){38,44}(=|%3D|%3d)",
            ],
        ) {
            let raw = format!("{value}.{signature}");
            if let Some(short) = Signed::parse_plain(raw.as_bytes()) {
                prop_assert_eq!(Some(short), Signed::parse(cookies::decode(raw.as_bytes())));
            }
        }

        #[test]
        fn a_cookie_as_it_is_issued_takes_the_short_way(token in "[a-zA-Z0-9]{32}", secret in "[!-~]{32}") {
            let signer = Signer::new(&Secret::new(secret));
            let issued = signer.issue(&token);
            let signed = Signed::parse_plain(issued.as_bytes());
            prop_assert_eq!(signed.as_ref().map(|signed| &*signed.value), Some(&*token));
            prop_assert!(signed.is_some_and(|signed| signer.verify(&signed).is_some()));
        }
    }
}
