//! Ceilings of what one verification may take, held before any work: a stored hash may be hostile.

use super::Unusable;

/// What one verification takes, by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// One pass of a fast digest, or a few.
    Digest,
    /// So many rounds of a digest or HMAC over short input.
    Rounds(u64),
    /// bcrypt's cost: two to this power.
    Bcrypt(u32),
    /// argon2: memory in KiB, passes, lanes.
    Argon2 {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// scrypt: N, r, p.
    Scrypt {
        /// N itself, not its logarithm.
        n: u64,
        /// Block size.
        r: u32,
        /// Parallelisation.
        p: u32,
    },
}

/// What one verification may take at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// argon2: memory in KiB.
    pub argon2_memory_kib: u32,
    /// argon2: passes.
    pub argon2_passes: u32,
    /// argon2: lanes.
    pub argon2_lanes: u32,
    /// scrypt: bytes gone through, 128·N·r·p. Memory is less or equal.
    pub scrypt_bytes: u64,
    /// Rounds of PBKDF2 and of iterated digests, over all blocks of the key.
    pub rounds: u64,
    /// bcrypt's cost.
    pub bcrypt: u32,
}

impl Ceilings {
    /// Four to a hundred times what products write by default, and seconds rather than minutes on one core:
    ///
    /// - argon2: products write 7 to 64 MiB; libsodium's "sensitive" preset asks for 1 GiB and 4 passes.
    /// - scrypt: N=2^17, r=8, p=1 (128 MiB) is what OWASP names; twice that is allowed.
    /// - PBKDF2: products write up to 1.3 million rounds.
    /// - bcrypt: 10 to 12 is usual, 14 is seen; 16 takes some four seconds.
    pub const DEFAULT: Self = Self {
        argon2_memory_kib: 1024 * 1024,
        argon2_passes: 20,
        argon2_lanes: 64,
        scrypt_bytes: 256 * 1024 * 1024,
        rounds: 10_000_000,
        bcrypt: 16,
    };
}

impl Default for Ceilings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Cost {
    /// Whether it is within the ceilings.
    ///
    /// # Errors
    /// Says which one it breaks.
    pub fn allow(self, ceilings: &Ceilings) -> Result<(), Unusable> {
        let refused = match self {
            Self::Digest => None,
            Self::Rounds(rounds) => (rounds > ceilings.rounds).then_some("rounds"),
            Self::Bcrypt(cost) => (cost > ceilings.bcrypt).then_some("bcrypt's cost"),
            Self::Argon2 { memory_kib, .. } if memory_kib > ceilings.argon2_memory_kib => {
                Some("memory of argon2")
            }
            Self::Argon2 { passes, .. } if passes > ceilings.argon2_passes => {
                Some("passes of argon2")
            }
            Self::Argon2 { lanes, .. } => {
                (lanes > ceilings.argon2_lanes).then_some("lanes of argon2")
            }
            Self::Scrypt { n, r, p } => {
                let through = u64::from(r)
                    .checked_mul(u64::from(p))
                    .and_then(|rp| rp.checked_mul(128))
                    .and_then(|bytes| bytes.checked_mul(n));
                through
                    .is_none_or(|bytes| bytes > ceilings.scrypt_bytes)
                    .then_some("memory of scrypt")
            }
        };
        refused.map_or(Ok(()), |what| Err(Unusable::TooCostly(what)))
    }

    /// Memory it takes, in bytes, once it is within the ceilings.
    pub fn bytes(self) -> u64 {
        /// Tables and buffers of what is not made to need memory.
        const SMALL: u64 = 16 * 1024;
        match self {
            Self::Digest | Self::Rounds(_) | Self::Bcrypt(_) => SMALL,
            Self::Argon2 { memory_kib, .. } => u64::from(memory_kib) * 1024 + SMALL,
            Self::Scrypt { n, r, p } => u64::from(r)
                .saturating_mul(128)
                .saturating_mul(n.saturating_add(u64::from(p)))
                .saturating_add(SMALL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_ceiling_is_allowed_and_one_more_is_not() {
        let argon2 = |memory_kib, passes, lanes| Cost::Argon2 {
            memory_kib,
            passes,
            lanes,
        };
        let scrypt = |n, r, p| Cost::Scrypt { n, r, p };
        let pairs = [
            (Cost::Rounds(10_000_000), Cost::Rounds(10_000_001)),
            (Cost::Bcrypt(16), Cost::Bcrypt(17)),
            (argon2(1 << 20, 1, 1), argon2((1 << 20) + 1, 1, 1)),
            (argon2(64, 20, 1), argon2(64, 21, 1)),
            (argon2(512, 1, 64), argon2(512, 1, 65)),
            (scrypt(1 << 18, 8, 1), scrypt(1 << 18, 8, 2)),
            (scrypt(1 << 14, 16, 8), scrypt(1 << 14, 16, 9)),
        ];
        for (allowed, refused) in pairs {
            assert_eq!(allowed.allow(&Ceilings::DEFAULT), Ok(()), "{allowed:?}");
            assert!(
                matches!(
                    refused.allow(&Ceilings::DEFAULT),
                    Err(Unusable::TooCostly(_))
                ),
                "{refused:?}"
            );
        }
        assert!(
            scrypt(u64::MAX, u32::MAX, u32::MAX)
                .allow(&Ceilings::DEFAULT)
                .is_err()
        );
    }

    #[test]
    fn the_native_hash_takes_32_mib() {
        let native = Cost::Scrypt {
            n: 16384,
            r: 16,
            p: 1,
        };
        assert_eq!(native.bytes() / (1024 * 1024), 32);
    }
}
