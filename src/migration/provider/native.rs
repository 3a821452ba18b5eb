//! Better Auth's own hash as other systems read it. Its salt is used as the text it is written as, so that the hash can be told to any
//! system that knows scrypt, without the password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use data_encoding::HEXLOWER_PERMISSIVE;

use crate::secret::Secret;

/// Letters of the salt and of the key.
const SALT_LETTERS: usize = 32;
const KEY_LETTERS: usize = 128;

/// The salt, as text, and the key, in hexadecimal, of a native hash; none of anything else.
fn parts(native: &Secret) -> Option<(&str, &str)> {
    let (salt, key) = native.expose().split_once(':')?;
    let is_hex = |text: &str| text.bytes().all(|letter| letter.is_ascii_hexdigit());
    let fits = salt.len() == SALT_LETTERS && key.len() == KEY_LETTERS;
    (fits && is_hex(salt) && is_hex(key)).then_some((salt, key))
}

/// As Werkzeug writes it, which Clerk calls `scrypt_werkzeug`.
pub(super) fn werkzeug(native: &Secret) -> Option<Secret> {
    let (salt, key) = parts(native)?;
    let key = key.to_ascii_lowercase();
    Some(Secret::new(format!("scrypt:16384:16:1${salt}${key}")))
}

/// As a PHC string, which WorkOS calls `scrypt`.
pub(super) fn phc(native: &Secret) -> Option<Secret> {
    let (salt, key) = parts(native)?;
    let key = HEXLOWER_PERMISSIVE.decode(key.as_bytes()).ok()?;
    let (salt, key) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(key));
    Some(Secret::new(format!("$scrypt$ln=14,r=16,p=1${salt}${key}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a library that reads the form makes of a password.
    fn scrypt(password: &str, salt: &[u8]) -> Vec<u8> {
        let mut key = vec![0; 64];
        let params = scrypt::Params::new(14, 16, 1).unwrap();
        scrypt::scrypt(password.as_bytes(), salt, &params, &mut key).unwrap();
        key
    }

    #[test]
    fn both_forms_are_the_same_hash() {
        let salt = "00112233445566778899aabbccddeeff";
        let key = scrypt("correct horse", salt.as_bytes());
        let native = Secret::new(format!("{salt}:{}", data_encoding::HEXLOWER.encode(&key)));

        let werkzeug = werkzeug(&native).unwrap();
        let parts: Vec<&str> = werkzeug.expose().split('$').collect();
        assert_eq!(parts[0], "scrypt:16384:16:1");
        assert_eq!(parts[1], salt);
        assert_eq!(parts[2], data_encoding::HEXLOWER.encode(&key));

        let phc = phc(&native).unwrap();
        let parts: Vec<&str> = phc.expose().split('$').collect();
        assert_eq!(&parts[..3], ["", "scrypt", "ln=14,r=16,p=1"]);
        let salt = STANDARD_NO_PAD.decode(parts[3]).unwrap();
        assert_eq!(scrypt("correct horse", &salt), key);
        assert_eq!(STANDARD_NO_PAD.decode(parts[4]).unwrap(), key);
    }

    #[test]
    fn anything_else_is_not_told_to_anybody() {
        for other in ["", ":", "aa:bb", "$2b$10$x", &"0".repeat(161)] {
            assert!(werkzeug(&Secret::new(other)).is_none(), "{other}");
            assert!(phc(&Secret::new(other)).is_none(), "{other}");
        }
    }
}
