//! The digests old hashes are made of, by the name that stands beside them.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use hmac::digest::Digest;
use hmac::{EagerHash, Hmac, KeyInit as _, Mac as _};
use zeroize::Zeroizing;

use super::encoding::Bytes;

/// A digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// MD4. Broken, and still found.
    Md4,
    /// MD5. Broken, and still found.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The one of this name, as `sha256`, `SHA-256`, `sha-256`.
    pub fn named(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase().replace(['-', '_'], "");
        Some(match word.as_str() {
            "md4" => Self::Md4,
            "md5" => Self::Md5,
            "sha1" => Self::Sha1,
            "sha224" => Self::Sha224,
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            _ => return None,
        })
    }

    /// Length of its result, in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Md4 | Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of these parts, one after the other.
    pub fn digest(self, parts: &[&[u8]]) -> Bytes {
        match self {
            Self::Md4 => digest::<md4::Md4>(parts),
            Self::Md5 => digest::<md5::Md5>(parts),
            Self::Sha1 => digest::<sha1::Sha1>(parts),
            Self::Sha224 => digest::<sha2::Sha224>(parts),
            Self::Sha256 => digest::<sha2::Sha256>(parts),
            Self::Sha384 => digest::<sha2::Sha384>(parts),
            Self::Sha512 => digest::<sha2::Sha512>(parts),
        }
    }

    /// HMAC of a message.
    pub fn hmac(self, key: &[u8], message: &[u8]) -> Bytes {
        match self {
            Self::Md4 => hmac::<md4::Md4>(key, message),
            Self::Md5 => hmac::<md5::Md5>(key, message),
            Self::Sha1 => hmac::<sha1::Sha1>(key, message),
            Self::Sha224 => hmac::<sha2::Sha224>(key, message),
            Self::Sha256 => hmac::<sha2::Sha256>(key, message),
            Self::Sha384 => hmac::<sha2::Sha384>(key, message),
            Self::Sha512 => hmac::<sha2::Sha512>(key, message),
        }
    }

    /// PBKDF2 with HMAC over it.
    pub fn pbkdf2(self, password: &[u8], salt: &[u8], rounds: NonZeroU32, length: usize) -> Bytes {
        let mut key = Zeroizing::new(vec![0; length]);
        // Where aws-lc has the digest, it does a round in a third of the time.
        let fast = match self {
            Self::Sha1 => Some(pbkdf2::PBKDF2_HMAC_SHA1),
            Self::Sha256 => Some(pbkdf2::PBKDF2_HMAC_SHA256),
            Self::Sha384 => Some(pbkdf2::PBKDF2_HMAC_SHA384),
            Self::Sha512 => Some(pbkdf2::PBKDF2_HMAC_SHA512),
            Self::Md4 | Self::Md5 | Self::Sha224 => None,
        };
        if let Some(algorithm) = fast {
            pbkdf2::derive(algorithm, rounds, salt, password, &mut key);
            return key;
        }
        let slow = match self {
            Self::Md4 => ::pbkdf2::pbkdf2_hmac::<md4::Md4>,
            Self::Md5 => ::pbkdf2::pbkdf2_hmac::<md5::Md5>,
            _ => ::pbkdf2::pbkdf2_hmac::<sha2::Sha224>,
        };
        slow(password, salt, rounds.get(), &mut key);
        key
    }
}

fn digest<D: Digest>(parts: &[&[u8]]) -> Bytes {
    let mut hasher = D::new();
    for part in parts {
        hasher.update(part);
    }
    Zeroizing::new(hasher.finalize().to_vec())
}

fn hmac<D: EagerHash>(key: &[u8], message: &[u8]) -> Bytes {
    // HMAC takes keys of any length; were it not to, the result is one that no stored hash has.
    let Ok(mut mac) = Hmac::<D>::new_from_slice(key) else {
        return Zeroizing::new(Vec::new());
    };
    mac.update(message);
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    const ALL: [Algorithm; 7] = [
        Algorithm::Md4,
        Algorithm::Md5,
        Algorithm::Sha1,
        Algorithm::Sha224,
        Algorithm::Sha256,
        Algorithm::Sha384,
        Algorithm::Sha512,
    ];

    #[test]
    fn every_result_is_as_long_as_is_said() {
        let one = NonZeroU32::MIN;
        for algorithm in ALL {
            assert_eq!(algorithm.digest(&[b"a", b"b"]), algorithm.digest(&[b"ab"]));
            assert_eq!(algorithm.digest(&[]).len(), algorithm.bytes());
            assert_eq!(algorithm.hmac(b"k", b"m").len(), algorithm.bytes());
            assert_eq!(algorithm.pbkdf2(b"p", b"s", one, 77).len(), 77);
        }
    }

    #[test]
    fn known_answers() {
        // RFC 1320, appendix A.5.
        assert_eq!(
            HEXLOWER.encode(&Algorithm::Md4.digest(&[b"abc"])),
            "a448017aaf21d8525fc10ae87aa6729d"
        );
        // RFC 6070.
        let rounds = NonZeroU32::new(4096).unwrap();
        assert_eq!(
            HEXLOWER.encode(&Algorithm::Sha1.pbkdf2(b"password", b"salt", rounds, 20)),
            "4b007901b765489abead49d926f721d065a429c1"
        );
        for algorithm in [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512] {
            let mut other = vec![0; 40];
            match algorithm {
                Algorithm::Sha1 => {
                    ::pbkdf2::pbkdf2_hmac::<sha1::Sha1>(b"p", b"s", 3, &mut other);
                }
                Algorithm::Sha256 => {
                    ::pbkdf2::pbkdf2_hmac::<sha2::Sha256>(b"p", b"s", 3, &mut other);
                }
                _ => ::pbkdf2::pbkdf2_hmac::<sha2::Sha512>(b"p", b"s", 3, &mut other),
            }
            let three = NonZeroU32::new(3).unwrap();
            assert_eq!(*algorithm.pbkdf2(b"p", b"s", three, 40), other);
        }
    }
}
