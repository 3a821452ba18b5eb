//! The Secure Remote Password protocol as Cognito speaks it: SRP-6a over the 3072-bit group of RFC 5054, SHA-256, integers in two's
//! complement, and a key derived with HKDF under a label of its own. The password itself never leaves.
//!
//! Source: amazon-cognito-identity-js 6, `src/AuthenticationHelper.js`, `src/CognitoUser.js` (`authenticateUserDefaultAuth`),
//! `src/DateHelper.js`. Both sides are run against each other in `tests/migration_checks.rs`, that client against the stand-in too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use num_bigint::BigUint;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::time::UnixMs;

/// The prime. Source: RFC 5054, appendix A (3072-bit group), which is RFC 3526, group 15.
const PRIME: &str = concat!(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD",
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F",
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510",
    "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7",
    "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C",
    "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF",
);

/// The generator.
const GENERATOR: u32 = 2;

/// What the key is derived for.
const LABEL: &[u8] = b"Caldera Derived Key";

/// Bytes of the client's secret exponent, as the vendor's own client takes them.
const EXPONENT_BYTES: usize = 128;

/// Longest public value in hexadecimal digits: the prime's, and a sign.
const PUBLIC_DIGITS_MAX: usize = PRIME.len() + 2;

/// Longest salt in hexadecimal digits. Cognito's are 32.
const SALT_DIGITS_MAX: usize = 256;

/// The client's side, after its first message.
pub(super) struct Client {
    secret: BigUint,
    public: BigUint,
}

/// What the server asks for a proof with.
pub(super) struct Challenge<'c> {
    /// The name of the pool: its id after the underscore.
    pub(super) pool: &'c str,
    /// `USER_ID_FOR_SRP`.
    pub(super) user: &'c str,
    /// `SRP_B`.
    pub(super) public: &'c str,
    /// `SALT`.
    pub(super) salt: &'c str,
    /// `SECRET_BLOCK`.
    pub(super) block: &'c str,
}

/// The answer to it.
pub(super) struct Proof {
    /// `PASSWORD_CLAIM_SIGNATURE`.
    pub(super) signature: String,
    /// `TIMESTAMP`.
    pub(super) timestamp: String,
}

impl Client {
    /// Begins, with bytes nobody can guess.
    pub(super) fn new(random: &(dyn Fn(&mut [u8]) + Sync)) -> Self {
        let mut bytes = Zeroizing::new([0; EXPONENT_BYTES]);
        random(&mut *bytes);
        let secret = BigUint::from_bytes_be(&*bytes);
        let public = BigUint::from(GENERATOR).modpow(&secret, &prime());
        Self { secret, public }
    }

    /// `SRP_A`.
    pub(super) fn public(&self) -> String {
        self.public.to_str_radix(16)
    }

    /// Proves that the password is known. `None`: what the server sent is not acceptable (zero, or no numbers at all), and a client
    /// that went on would give the password away.
    pub(super) fn prove(
        &self,
        challenge: &Challenge<'_>,
        password: &Secret,
        now: UnixMs,
    ) -> Option<Proof> {
        let prime = prime();
        let server = number(challenge.public, PUBLIC_DIGITS_MAX)?;
        let zero = BigUint::ZERO;
        if server >= prime || server == zero || self.public == zero {
            return None;
        }
        let scramble = hashed(&[&signed(&self.public), &signed(&server)]);
        if scramble == zero {
            return None;
        }
        let salt = number(challenge.salt, SALT_DIGITS_MAX)?;
        let mut exponent = private(&salt, challenge.pool, challenge.user, password);
        let multiplier = multiplier(&prime);
        // S = (B - k * g^x) ^ (a + u * x). The subtraction stays above zero by adding the prime.
        let mut verifier = BigUint::from(GENERATOR).modpow(&exponent, &prime);
        let base = (server + &prime - (multiplier * &verifier) % &prime) % &prime;
        let mut power = &self.secret + &scramble * &exponent;
        let mut shared = base.modpow(&power, &prime);
        let key = key(&shared, &scramble)?;
        for number in [&mut exponent, &mut verifier, &mut power, &mut shared] {
            wipe(number);
        }
        let timestamp = timestamp(now)?;
        let block = STANDARD.decode(challenge.block).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&*key).ok()?;
        for part in [
            challenge.pool.as_bytes(),
            challenge.user.as_bytes(),
            &block,
            timestamp.as_bytes(),
        ] {
            mac.update(part);
        }
        Some(Proof {
            signature: STANDARD.encode(mac.finalize().into_bytes()),
            timestamp,
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        wipe(&mut self.secret);
    }
}

fn prime() -> BigUint {
    // The constant is a number, which a test holds.
    BigUint::parse_bytes(PRIME.as_bytes(), 16).unwrap_or_default()
}

fn number(digits: &str, digits_max: usize) -> Option<BigUint> {
    if digits.is_empty() || digits.len() > digits_max {
        return None;
    }
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    BigUint::parse_bytes(digits.as_bytes(), 16)
}

/// A number as bytes with room for a sign: with a leading zero where the first bit is set. Zero is one zero.
fn signed(number: &BigUint) -> Zeroizing<Vec<u8>> {
    let bytes = Zeroizing::new(number.to_bytes_be());
    let mut room = Zeroizing::new(Vec::with_capacity(bytes.len() + 1));
    if bytes.first().is_some_and(|first| *first >= 0x80) {
        room.push(0);
    }
    room.extend_from_slice(&bytes);
    room
}

fn hashed(parts: &[&[u8]]) -> BigUint {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    BigUint::from_bytes_be(&digest.finalize())
}

/// k = H(N, g).
fn multiplier(prime: &BigUint) -> BigUint {
    hashed(&[&signed(prime), &signed(&BigUint::from(GENERATOR))])
}

/// x = H(salt, H(pool, user, ":", password)).
fn private(salt: &BigUint, pool: &str, user: &str, password: &Secret) -> BigUint {
    let mut digest = Sha256::new();
    for part in [pool, user, ":", password.expose()] {
        digest.update(part.as_bytes());
    }
    let inner = Zeroizing::new(<[u8; 32]>::from(digest.finalize()));
    hashed(&[&signed(salt), &*inner])
}

fn key(shared: &BigUint, scramble: &BigUint) -> Option<Zeroizing<[u8; 16]>> {
    let mut key = Zeroizing::new([0; 16]);
    Hkdf::<Sha256>::new(Some(&signed(scramble)), &signed(shared))
        .expand(LABEL, &mut *key)
        .ok()?;
    Some(key)
}

/// `Wed Nov 18 7:06:40 UTC 2026`, in English, without a zero before the day.
fn timestamp(now: UnixMs) -> Option<String> {
    let moment = chrono::DateTime::from_timestamp_millis(now.0)?;
    Some(moment.format("%a %b %-d %H:%M:%S UTC %Y").to_string())
}

/// Overwrites a number where it stands. The steps of a power leave more behind than this, which the library offers no way to wipe.
fn wipe(number: &mut BigUint) {
    let words = usize::try_from(number.bits().div_ceil(32)).unwrap_or(0);
    number.assign_from_slice(&vec![u32::MAX; words]);
    std::hint::black_box(&*number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_the_published_one() {
        let prime = prime();
        assert_eq!(prime.bits(), 3072);
        // The multiplier the vendor's client computes for it.
        assert_eq!(
            multiplier(&prime).to_str_radix(16),
            "538282c4354742d7cbbde2359fcf67f9f5b3a6b08791e5011b43b8a5b66d9ee6"
        );
    }

    #[test]
    fn numbers_are_signed_as_the_other_side_signs_them() {
        let of =
            |digits: &str| data_encoding::HEXLOWER.encode(&signed(&number(digits, 64).unwrap()));
        assert_eq!(of("0"), "00");
        assert_eq!(of("7f"), "7f");
        assert_eq!(of("80"), "0080");
        assert_eq!(of("fff"), "0fff");
        assert_eq!(of("0080"), "0080");
    }

    #[test]
    fn the_time_is_written_as_the_server_reads_it() {
        assert_eq!(
            timestamp(UnixMs(1_795_000_000_000)).unwrap(),
            "Wed Nov 18 11:06:40 UTC 2026"
        );
        assert_eq!(timestamp(UnixMs(0)).unwrap(), "Thu Jan 1 00:00:00 UTC 1970");
    }

    /// The server's side as RFC 5054 writes it, from the verifier.
    fn server(
        verifier: &BigUint,
        client: &BigUint,
        secret: &BigUint,
    ) -> (BigUint, BigUint, BigUint) {
        let prime = prime();
        let public = (multiplier(&prime) * verifier
            + BigUint::from(GENERATOR).modpow(secret, &prime))
            % &prime;
        let scramble = hashed(&[&signed(client), &signed(&public)]);
        let shared = (client * verifier.modpow(&scramble, &prime)).modpow(secret, &prime);
        (public, scramble, shared)
    }

    #[test]
    fn both_sides_agree_on_the_right_password_and_on_no_other() {
        for round in 0..4_u8 {
            let client = Client::new(&|bytes| bytes.fill(0x5a ^ round));
            let salt = BigUint::from(0xfeed_beef_u32 + u32::from(round));
            let right = Secret::new("correct horse");
            let exponent = private(&salt, "AbCdEf", "user-1", &right);
            let verifier = BigUint::from(GENERATOR).modpow(&exponent, &prime());
            let secret = BigUint::from_bytes_be(&[0x77 ^ round; 64]);
            let (public, scramble, shared) = server(&verifier, &client.public, &secret);
            let wanted = key(&shared, &scramble).unwrap();
            let now = UnixMs(1_795_000_000_000);
            let mut mac = Hmac::<Sha256>::new_from_slice(&*wanted).unwrap();
            mac.update(b"AbCdEfuser-1block");
            mac.update(timestamp(now).unwrap().as_bytes());
            let wanted = STANDARD.encode(mac.finalize().into_bytes());
            let (public, salt) = (public.to_str_radix(16), salt.to_str_radix(16));
            let challenge = Challenge {
                pool: "AbCdEf",
                user: "user-1",
                public: &public,
                salt: &salt,
                block: &STANDARD.encode("block"),
            };
            let proof = client.prove(&challenge, &right, now).unwrap();
            assert_eq!(proof.signature, wanted);
            let other = client
                .prove(&challenge, &Secret::new("correct horsf"), now)
                .unwrap();
            assert_ne!(other.signature, wanted);
        }
    }

    #[test]
    fn a_server_that_sends_zero_or_no_number_gets_no_proof() {
        let client = Client::new(&|bytes| bytes.fill(7));
        let twice = (prime() * 2_u32).to_str_radix(16);
        for public in [
            "0",
            "00",
            "",
            "xyz",
            "-5",
            "+5",
            &prime().to_str_radix(16),
            &twice,
        ] {
            let challenge = Challenge {
                pool: "p",
                user: "u",
                public,
                salt: "aa",
                block: "",
            };
            let proof = client.prove(&challenge, &Secret::new("x"), UnixMs(0));
            assert!(proof.is_none(), "{public:.8}");
        }
        let challenge = Challenge {
            pool: "p",
            user: "u",
            public: "5",
            salt: "aa",
            block: "",
        };
        assert!(
            client
                .prove(&challenge, &Secret::new("x"), UnixMs(0))
                .is_some()
        );
    }
}
