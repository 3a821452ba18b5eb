//! Password hashes of every system people come from: one file and one line each.
//!
//! The scheme is told, never guessed: many hashes look alike. A stored hash is first parsed (a corrupt one is an error), then its cost
//! is held against the ceilings of [`cost`] (before any work), and only then is a password held against it (a wrong one is a result).

pub mod cost;

use std::collections::BTreeMap;

use crate::kind::Kind;
use crate::secret::Secret;
use cost::Cost;

/// Longest password that is hashed, in bytes. The framework's own maximum holds for new passwords only: whoever had a longer one in the
/// old system must get in once.
pub const PASSWORD_BYTES_MAX: usize = 4096;

/// Longest stored hash that is parsed, in bytes, parameters included.
pub const STORED_BYTES_MAX: usize = 16 * 1024;

/// An old hash as it was stored, with what stands beside it: a salt column, a pepper, a signer key.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The hash, exactly as the old system wrote it.
    pub hash: Secret,
    /// What the string itself does not hold, by name.
    pub params: BTreeMap<String, Secret>,
}

/// Why a stored hash cannot be used. Nothing about a password: the answer is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not in the form of its scheme.
    #[error("it is not in the form of its scheme: {0}")]
    Malformed(&'static str),
    /// Something it needs stands beside it in the old system, and was not imported.
    #[error("`{0}` is missing beside it")]
    Missing(&'static str),
    /// It asks for more than the ceilings allow.
    #[error("it costs more than is allowed: {0}")]
    TooCostly(&'static str),
    /// Nobody can have a password that fits: `!`, `*`, an empty text.
    #[error("it was switched off in the old system")]
    Disabled,
}

/// How a scheme reads what is stored.
pub type Parse = fn(&Stored) -> Result<Box<dyn Hash>, Unusable>;

/// A stored hash that makes sense.
pub trait Hash: Send + Sync {
    /// What one verification takes. Held against the ceilings before [`Hash::verify`] is called.
    fn cost(&self) -> Cost;

    /// Whether a password fits. Compared in constant time.
    fn verify(&self, password: &[u8]) -> bool;
}

/// Every scheme.
pub static KINDS: &[Kind<Parse>] = &[];
