//! Second factors of the old system: codes of a secret that Better Auth cannot keep, and the code it wants in their place.
//!
//! Better Auth's key is the UTF-8 text of what it stores (RFC 6238 with SHA-1, one step either way). Twenty random bytes are hardly ever
//! such a text, so most old secrets cannot be stored there: a stand-in is, with a secret nobody knows, and whoever has a right old code is
//! given the stand-in's. (Releases since 1.7.25 also read `base32:…`; which release an app runs is not ours to know.)
//!
//! Source: better-auth 1.4 to 1.7.25, plugins/two-factor; @better-auth/utils, otp.ts; RFC 4226, RFC 6238.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::credential::cipher::{self, CipherError};
use crate::credential::secrets;
use crate::secret::Secret;
use crate::time::UnixMs;

/// Longest secret that is read, in letters. The longest that systems make has 103 (64 bytes).
const SECRET_LETTERS_MAX: usize = 1024;

/// What the framework puts before a secret of another system, since 1.7.25.
const BASE32_PREFIX: &str = "base32:";

/// How many steps a code may be early or late: the framework's own window.
const WINDOW: i64 = 1;

/// Letters of a secret, and of a backup code, as the framework draws them.
const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Backup codes of a stand-in.
const BACKUP_CODES: usize = 10;

/// What a code is hashed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The usual one.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The one of this word, as systems spell it: `SHA1`, `sha-256`, `HmacSHA512`.
    pub fn named(word: &str) -> Option<Self> {
        let plain: String = word
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|letter| letter.to_ascii_lowercase())
            .collect();
        match plain.strip_prefix("hmac").unwrap_or(&plain) {
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }
}

/// How codes are made of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totp {
    /// What with.
    pub algorithm: Algorithm,
    /// How many digits: 6 to 8.
    pub digits: u8,
    /// Seconds a code lives: never zero.
    pub period: u32,
}

impl Default for Totp {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Sha1,
            digits: 6,
            period: 30,
        }
    }
}

impl Totp {
    /// Codes as they are described beside a secret; none if nobody makes such codes.
    pub fn of(algorithm: &str, digits: u8, period: u32) -> Option<Self> {
        let algorithm = Algorithm::named(algorithm)?;
        let fine = (6..=8).contains(&digits) && (1..=3600).contains(&period);
        fine.then_some(Self {
            algorithm,
            digits,
            period,
        })
    }

    /// The step at a moment.
    pub fn step(self, now: UnixMs) -> i64 {
        now.0
            .div_euclid(1000)
            .div_euclid(i64::from(self.period.max(1)))
    }

    /// The code of a step.
    pub fn code(self, key: &[u8], step: i64) -> String {
        let number = hotp(self.algorithm, key, step);
        let digits = u32::from(self.digits.min(9));
        let code = number % 10u32.pow(digits);
        format!("{code:0width$}", width = usize::from(self.digits))
    }

    /// The step a code is of: this one, the one before or the one after. All of them are looked at, whichever it is.
    pub fn matches(self, key: &[u8], code: &str, now: UnixMs) -> Option<i64> {
        let here = self.step(now);
        let mut found = None;
        for step in here.saturating_sub(WINDOW)..=here.saturating_add(WINDOW) {
            let due = Zeroizing::new(self.code(key, step));
            if bool::from(due.as_bytes().ct_eq(code.as_bytes())) {
                found = Some(step);
            }
        }
        found
    }
}

/// The truncated digest of a counter (RFC 4226, section 5.3).
fn hotp(algorithm: Algorithm, key: &[u8], step: i64) -> u32 {
    let counter = step.to_be_bytes();
    macro_rules! digest {
        ($Hash:ty) => {
            // Cannot fail: HMAC takes keys of any length.
            Hmac::<$Hash>::new_from_slice(key).map_or_else(
                |_| Vec::new(),
                |mut mac| {
                    mac.update(&counter);
                    mac.finalize().into_bytes().to_vec()
                },
            )
        };
    }
    let digest = Zeroizing::new(match algorithm {
        Algorithm::Sha1 => digest!(Sha1),
        Algorithm::Sha256 => digest!(Sha256),
        Algorithm::Sha512 => digest!(Sha512),
    });
    let at = usize::from(digest.last().copied().unwrap_or(0) & 15);
    let four = digest.get(at..).and_then(<[u8]>::first_chunk::<4>);
    four.map_or(0, |four| u32::from_be_bytes(*four) & 0x7fff_ffff)
}

/// The bytes of a secret as systems write it: base32 in either case, with blanks, dashes and padding or without. None: it is none.
pub fn from_base32(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if text.len() > SECRET_LETTERS_MAX {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 5 / 8));
    let (mut bits, mut held) = (0u32, 0u32);
    let plain = text.trim_end().trim_end_matches('=');
    for letter in plain.chars().filter(|c| !matches!(c, ' ' | '-')) {
        let value = match letter.to_ascii_uppercase() {
            letter @ 'A'..='Z' => u32::from(letter) - u32::from('A'),
            letter @ '2'..='7' => u32::from(letter) - u32::from('2') + 26,
            _ => return None,
        };
        bits = bits << 5 | value;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

/// The text under which Better Auth of any release makes the same codes; none where it never does. It is then stored encrypted, in a row
/// of its own, and there is nothing left to translate.
pub fn storable_natively(secret: &[u8], totp: Totp) -> Option<&str> {
    let text = std::str::from_utf8(secret).ok()?;
    // A newer release would take such a text for the base32 of something else.
    (totp == Totp::default() && !text.is_empty() && !text.starts_with(BASE32_PREFIX))
        .then_some(text)
}

/// The code Better Auth wants now for a secret as it stores it. `totp`: how the app's plugin is configured.
///
/// # Errors
/// When the secret does not open.
pub fn native_code(
    secrets: &secrets::Settings,
    stored: &Secret,
    totp: Totp,
    now: UnixMs,
) -> Result<Secret, CipherError> {
    let text = cipher::open(secrets, stored.expose())?;
    let step = totp.step(now);
    let code = match text.expose().strip_prefix(BASE32_PREFIX) {
        Some(base32) => {
            let key = from_base32(base32).ok_or(CipherError::Form)?;
            totp.code(&key, step)
        }
        None => totp.code(text.expose().as_bytes(), step),
    };
    Ok(Secret::new(code))
}

/// How the app stores backup codes (`backupCodeOptions.storeBackupCodes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackupCodes {
    /// Under its secret: the plugin's own default.
    #[default]
    Encrypted,
    /// As they are.
    Plain,
}

/// A row that stands in for a second factor Better Auth cannot keep: a secret and backup codes that nobody knows, both as it stores them.
pub struct StandIn {
    /// `twoFactor.secret`.
    pub secret: Secret,
    /// `twoFactor.backupCodes`.
    pub backup_codes: Secret,
}

impl StandIn {
    /// A fresh one. `random`: fills a buffer with bytes nobody can guess.
    ///
    /// # Errors
    /// Never for texts as short as these.
    pub fn new(
        secrets: &secrets::Settings,
        storage: BackupCodes,
        random: &(dyn Fn(&mut [u8]) + Sync),
    ) -> Result<Self, CipherError> {
        let nonce = || {
            let mut nonce = [0; 24];
            random(&mut nonce);
            nonce
        };
        let text = Zeroizing::new(letters(32, random));
        let secret = cipher::seal(secrets, &text, nonce())?;
        let codes: Vec<String> = (0..BACKUP_CODES)
            .map(|_| format!("{}-{}", letters(5, random), letters(5, random)))
            .collect();
        let list = Zeroizing::new(serde_json::Value::from(codes).to_string());
        let backup_codes = match storage {
            BackupCodes::Plain => list.to_string(),
            BackupCodes::Encrypted => cipher::seal(secrets, &list, nonce())?,
        };
        Ok(Self {
            secret: Secret::new(secret),
            backup_codes: Secret::new(backup_codes),
        })
    }
}

/// So many letters, each as likely as any other.
fn letters(count: usize, random: &(dyn Fn(&mut [u8]) + Sync)) -> String {
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let mut bytes = Zeroizing::new([0u8; 32]);
        random(bytes.as_mut_slice());
        // What is over a multiple of their number would make the first ones likelier.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        let drawn = fair.filter_map(|byte| LETTERS.get(usize::from(byte % 62)));
        text.extend(drawn.map(|byte| char::from(*byte)).take(count - text.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: eight digits of three secrets at six moments.
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret =
            |len: usize| -> Vec<u8> { b"1234567890".iter().copied().cycle().take(len).collect() };
        for (at, sha1, sha256, sha512) in [
            (59, "94287082", "46119246", "90693936"),
            (1_111_111_109, "07081804", "68084774", "25091201"),
            (1_111_111_111, "14050471", "67062674", "99943326"),
            (1_234_567_890, "89005924", "91819424", "93441116"),
            (2_000_000_000, "69279037", "90698825", "38618901"),
            (20_000_000_000, "65353130", "77737706", "47863826"),
        ] {
            for (algorithm, len, code) in [
                ("SHA1", 20, sha1),
                ("sha-256", 32, sha256),
                ("HmacSHA512", 64, sha512),
            ] {
                let totp = Totp::of(algorithm, 8, 30).unwrap();
                let now = UnixMs(at * 1000);
                assert_eq!(
                    totp.code(&secret(len), totp.step(now)),
                    code,
                    "{algorithm} {at}"
                );
                assert_eq!(totp.matches(&secret(len), code, now), Some(at / 30));
            }
        }
    }

    #[test]
    fn a_code_counts_one_step_early_and_one_late() {
        let (totp, key) = (Totp::default(), b"12345678901234567890");
        let now = UnixMs(1_763_700_015_000);
        let step = totp.step(now);
        for (off, fine) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let code = totp.code(key, step + off);
            assert_eq!(totp.matches(key, &code, now).is_some(), fine, "{off}");
        }
        for noise in ["", "12345", "1234567", "００００００", "      "] {
            assert_eq!(totp.matches(key, noise, now), None, "{noise}");
        }
    }

    #[test]
    fn secrets_are_read_however_they_are_written() {
        for (text, bytes) in [
            ("MZXW6YTBOI======", Some(&b"foobar"[..])),
            ("mzxw 6ytb-oi", Some(b"foobar")),
            ("MZXW6YTBOI", Some(b"foobar")),
            ("MZXW6YTB1I", None),
            ("", None),
            ("A", None),
        ] {
            assert_eq!(
                from_base32(text).as_deref().map(Vec::as_slice),
                bytes,
                "{text}"
            );
        }
        assert!(from_base32(&"A".repeat(2000)).is_none());
    }

    #[test]
    fn only_what_the_framework_makes_the_same_codes_of_is_stored_there() {
        let usual = Totp::default();
        assert_eq!(storable_natively(b"fiMkhEmNZ", usual), Some("fiMkhEmNZ"));
        assert_eq!(storable_natively(&[0xff, 0xfe], usual), None);
        assert_eq!(storable_natively(b"base32:MZXW", usual), None);
        for other in [("SHA256", 6, 30), ("SHA1", 8, 30), ("SHA1", 6, 60)] {
            let totp = Totp::of(other.0, other.1, other.2).unwrap();
            assert_eq!(storable_natively(b"fiMkhEmNZ", totp), None, "{other:?}");
        }
        for none in [("MD5", 6, 30), ("SHA1", 5, 30), ("SHA1", 6, 0)] {
            assert_eq!(Totp::of(none.0, none.1, none.2), None, "{none:?}");
        }
    }

    #[test]
    fn a_stand_in_opens_with_the_app_s_secret_and_is_nobody_s() {
        let secrets = secrets::Settings::single(Secret::new("s".repeat(40)));
        let random = |bytes: &mut [u8]| aws_lc_rs::rand::fill(bytes).unwrap();
        let one = StandIn::new(&secrets, BackupCodes::Encrypted, &random).unwrap();
        let other = StandIn::new(&secrets, BackupCodes::Plain, &random).unwrap();
        let text = cipher::open(&secrets, one.secret.expose()).unwrap();
        assert_eq!(text.expose().len(), 32);
        assert_ne!(text, cipher::open(&secrets, other.secret.expose()).unwrap());
        let codes = cipher::open(&secrets, one.backup_codes.expose()).unwrap();
        for list in [codes.expose(), other.backup_codes.expose()] {
            let codes: Vec<String> = serde_json::from_str(list).unwrap();
            assert_eq!(codes.len(), 10);
            assert!(
                codes
                    .iter()
                    .all(|code| code.len() == 11 && code.as_bytes()[5] == b'-')
            );
        }
        let now = UnixMs(1_763_700_000_000);
        let totp = Totp::default();
        let code = native_code(&secrets, &one.secret, totp, now).unwrap();
        let due = totp.code(text.expose().as_bytes(), totp.step(now));
        assert_eq!(code.expose(), due);
        let stranger = secrets::Settings::single(Secret::new("t".repeat(40)));
        assert!(native_code(&stranger, &one.secret, totp, now).is_err());
    }
}
