//! Telling the operator that the store does not answer.

use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::SystemClock;
use crate::time::Clock as _;

/// Says a failure of the store at most once a second: an outage meets every request.
#[derive(Default)]
pub(super) struct Outage(AtomicU64);

impl Outage {
    pub(super) fn tell(&self, error: &crate::session::SourceError, what: &str) {
        let second = u64::try_from(SystemClock.now().0).unwrap_or(0) / 1000;
        if self.0.swap(second, Ordering::Relaxed) != second {
            tracing::warn!(
                cause = error.as_str(),
                advice = error.advice(),
                "{what}: {error}"
            );
        }
    }
}
