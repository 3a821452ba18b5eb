//! From a credential to a resolution.

use std::time::Duration;

/// What sessions may cost and how old they may be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How stale a remembered identity may be (`sessions.cache_ttl`). Zero: nothing is remembered.
    pub cache_ttl: Duration,
    /// How long "no such session" is remembered (`sessions.negative_ttl`).
    pub negative_ttl: Duration,
    /// Most sessions remembered (`sessions.max_cached`).
    pub entries_max: u64,
    /// Most bytes they may take (`sessions.max_cached_bytes`).
    pub bytes_max: u64,
    /// Most "no such session" answers remembered (`sessions.max_negative`).
    pub negative_max: u64,
    /// Refuse users whose `banned` is set (`better_auth.enforce_bans`). The framework itself does not look at it.
    pub enforce_bans: bool,
}
