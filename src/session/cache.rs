//! What we remember of sessions.

use super::Principal;

/// A remembered identity.
#[derive(Debug)]
pub struct Entry {
    /// Who it is.
    pub principal: Principal,
}
