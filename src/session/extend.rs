//! Sessions that are due to live longer.

use super::{BoxFuture, SourceError};
use crate::time::UnixMs;

/// Writes that a session lives longer. Implemented by `store/` where the app's own store may be written.
pub trait Extend: Send + Sync {
    /// Moves the expiry of a session to `until`, and its `updatedAt` to `now`, if the expiry is still the one that was `seen`.
    /// `Ok(false)`: somebody else was first, or the session is gone; nothing was written.
    fn extend<'a>(
        &'a self,
        token: &'a str,
        seen: UnixMs,
        until: UnixMs,
        now: UnixMs,
    ) -> BoxFuture<'a, Result<bool, SourceError>>;
}
