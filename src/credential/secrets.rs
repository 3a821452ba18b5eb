//! What Better Auth signs with.
//!
//! Source: better-auth 1.7, `secrets` and `secret`: only the current one verifies cookies and tokens; older ones open what was
//! encrypted under them.

use crate::secret::Secret;

/// The app's secrets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The one that signs: `better_auth.secret`, or the first of `better_auth.secrets`.
    pub current: Secret,
    /// Those before it, newest first. They never verify a signature.
    pub older: Vec<Secret>,
}
