//! Ceilings of what one verification may take, held before any work: a stored hash may be hostile.

/// What one verification takes, by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// One pass of a fast digest.
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
