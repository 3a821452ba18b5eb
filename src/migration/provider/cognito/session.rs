//! Its live sessions.

use crate::migration::provider::{BuildSessions, Key};

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = None;
