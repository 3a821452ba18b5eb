//! How the parts of stored hashes are written. Strict: what does not decode is malformed, and never another text's twin.

use data_encoding::{BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

use super::Unusable;

/// Longest key of a derivation, in bytes. passport-local-mongoose writes 512.
pub const KEY_BYTES_MAX: usize = 1024;

/// Bytes that are wiped.
pub type Bytes = Zeroizing<Vec<u8>>;

/// Hex, in either case; at least one byte.
pub fn hex(text: &str) -> Result<Bytes, Unusable> {
    let decoded = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    some(decoded.map_err(|_| Unusable::Malformed("not hex"))?)
}

/// Base64 in either alphabet, padded or not; at least one byte.
pub fn base64(text: &str) -> Result<Bytes, Unusable> {
    some(any_base64(text)?.to_vec())
}

/// Base64 that may say nothing.
pub fn any_base64(text: &str) -> Result<Bytes, Unusable> {
    let bare = text.strip_suffix("==").or_else(|| text.strip_suffix('='));
    let bare = bare.unwrap_or(text);
    let standard: Vec<u8> = bare
        .bytes()
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    let decoded = BASE64_NOPAD.decode(&standard);
    let decoded = decoded.map_err(|_| Unusable::Malformed("not base64"))?;
    Ok(Zeroizing::new(decoded))
}

/// passlib's base64: `.` for `+`, no padding. Source: passlib 1.7, utils/binary.py, `ab64_encode`.
pub fn dotted_base64(text: &str) -> Result<Bytes, Unusable> {
    let standard = text.replace('.', "+");
    let decoded = BASE64_NOPAD.decode(standard.as_bytes());
    some(decoded.map_err(|_| Unusable::Malformed("not base64"))?)
}

fn some(bytes: Vec<u8>) -> Result<Bytes, Unusable> {
    if bytes.is_empty() {
        return Err(Unusable::Malformed("a part is empty"));
    }
    Ok(Zeroizing::new(bytes))
}

/// A text that says something.
pub fn text(text: &str) -> Result<Bytes, Unusable> {
    some(text.as_bytes().to_vec())
}

/// A decimal number without sign.
pub fn number(text: &str) -> Result<u64, Unusable> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Unusable::Malformed("not a number"));
    }
    text.parse()
        .map_err(|_| Unusable::TooCostly("a number is too long"))
}

/// A decimal number of at most 32 bits. What is longer can only be a cost.
pub fn small(text: &str) -> Result<u32, Unusable> {
    u32::try_from(number(text)?).map_err(|_| Unusable::TooCostly("a number is too long"))
}

/// Exactly so many parts between separators.
pub fn parts<const N: usize>(text: &str, separator: char) -> Result<[&str; N], Unusable> {
    let mut parts = [""; N];
    let mut found = text.split(separator);
    for part in &mut parts {
        *part = found
            .next()
            .ok_or(Unusable::Malformed("a part is missing"))?;
    }
    if found.next().is_some() {
        return Err(Unusable::Malformed("there is a part too many"));
    }
    Ok(parts)
}

/// The value of `name=value` in a list between commas. A name stands there once.
pub fn setting<'t>(list: &'t str, name: &'static str) -> Result<&'t str, Unusable> {
    let mut found = list.split(',').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    });
    match (found.next(), found.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(Unusable::Malformed("a setting is missing or doubled")),
    }
}

/// Whether a list between commas has these names and no others.
pub fn only(list: &str, names: &[&str]) -> Result<(), Unusable> {
    let known = list.split(',').all(|pair| {
        pair.split_once('=')
            .is_some_and(|(key, _)| names.contains(&key))
    });
    known
        .then_some(())
        .ok_or(Unusable::Malformed("there is a setting nobody knows"))
}

/// The letters crypt, phpass and Drupal count with.
pub const CRYPT_LETTERS: &[u8; 64] =
    b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Bytes as crypt writes them: three in four letters, the lowest six bits first.
pub fn crypt_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut value = 0_usize;
        for byte in three.iter().rev() {
            value = (value << 8) | usize::from(*byte);
        }
        for _ in 0..=three.len() {
            let letter = CRYPT_LETTERS.get(value & 63).copied();
            text.push(char::from(letter.unwrap_or(b'.')));
            value >>= 6;
        }
    }
    text
}

/// What [`crypt_text`] writes; `None` for anything else.
pub fn crypt_bytes(text: &str) -> Option<Bytes> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    for four in text.as_bytes().chunks(4) {
        let mut value = 0_u32;
        for letter in four.iter().rev() {
            let digit = CRYPT_LETTERS.iter().position(|known| known == letter)?;
            value = (value << 6) | u32::try_from(digit).ok()?;
        }
        let count = four.len().checked_sub(1).filter(|count| *count > 0)?;
        let [a, b, c, _] = value.to_le_bytes();
        // Bits beyond the last byte say nothing, and are zero.
        if value >> (8 * count) != 0 {
            return None;
        }
        bytes.extend([a, b, c].into_iter().take(count));
    }
    Some(bytes)
}

/// Bytes that a format which reads the whole password in every round may go through: some seconds. The ceilings bound the rounds; this
/// bounds what a long password makes of them.
const THROUGH_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Whether so many rounds over a password can be afforded. What is not is as wrong as a password that is too long.
pub fn affordable(rounds: u64, password: &[u8]) -> bool {
    let length = u64::try_from(password.len()).unwrap_or(u64::MAX);
    rounds.saturating_mul(length) <= THROUGH_BYTES_MAX
}

/// Whether two byte strings are the same, in a time that does not tell where they differ.
pub fn same(ours: &[u8], stored: &[u8]) -> bool {
    use subtle::ConstantTimeEq as _;
    ours.ct_eq(stored).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded_strictly() {
        assert_eq!(hex("00fF").unwrap().as_slice(), [0, 255]);
        assert!(hex("").is_err() && hex("0").is_err() && hex("zz").is_err());
        assert_eq!(base64("-_8=").unwrap(), base64("+/8").unwrap());
        assert!(base64("+/9=").is_err(), "bits beyond the last byte");
        assert!(base64("").is_err() && any_base64("").is_ok());
        assert_eq!(dotted_base64("./8").unwrap(), base64("+/8").unwrap());
        assert_eq!(number("0012"), Ok(12));
        assert!(number("+1").is_err() && number("").is_err() && number("1e3").is_err());
        assert_eq!(
            number("99999999999999999999999"),
            Err(Unusable::TooCostly("a number is too long"))
        );
        for length in 0..20 {
            let bytes: Vec<u8> = (0..length).map(|byte| (byte * 13) ^ 200).collect();
            assert_eq!(*crypt_bytes(&crypt_text(&bytes)).unwrap(), bytes);
        }
        assert!(crypt_bytes("a").is_none() && crypt_bytes("zz").is_none());
        assert_eq!(parts::<2>("a$b", '$'), Ok(["a", "b"]));
        assert!(parts::<2>("a", '$').is_err() && parts::<2>("a$b$c", '$').is_err());
        assert_eq!(setting("m=1,t=2", "t"), Ok("2"));
        assert!(setting("m=1,m=2", "m").is_err() && setting("m", "m").is_err());
    }
}
