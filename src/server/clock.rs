//! The system's clock: the only place that reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::{Clock, UnixMs};

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMs {
        // A clock before 1970 is broken; zero makes every session look expired in the far future, so nobody gets in by it.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}
