//! Base64 as the framework's own decoder reads it.
//!
//! Source: @better-auth/utils 0.5, base64.ts: a `-` or `_` anywhere chooses the URL-safe alphabet, padding may be missing, the bits
//! left over do not matter.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::RequireNone);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The bytes of a text in either alphabet, up to its padding.
pub fn decode_either(text: &str) -> Option<Vec<u8>> {
    let url_safe = text.contains(['-', '_']);
    let letters = text.split('=').next().unwrap_or_default();
    let engine = if url_safe { &URL_SAFE } else { &STANDARD };
    engine.decode(letters).ok()
}

/// The bytes of a part of a JWT: the one spelling there is.
pub fn decode_strict(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// URL-safe, without padding.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
