//! Percent escapes, as JavaScript writes and reads them.

use std::borrow::Cow;

/// Decodes percent escapes once. `None` when an escape is broken or the result is not UTF-8.
pub fn decode(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !text.contains(&b'%') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            out.push(first);
            rest = tail;
            continue;
        }
        let [high, low, after @ ..] = tail else {
            return None;
        };
        let digit = |b: u8| {
            char::from(b)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        out.push(digit(*high)? << 4 | digit(*low)?);
        rest = after;
    }
    std::str::from_utf8(&out).is_ok().then_some(Cow::Owned(out))
}

/// JavaScript's `encodeURIComponent`.
pub fn encode_component(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            // Both indices are four bits wide.
            #[allow(clippy::indexing_slicing)]
            out.extend([byte >> 4, byte & 15].map(|digit| char::from(HEX[usize::from(digit)])));
        }
    }
    out
}
