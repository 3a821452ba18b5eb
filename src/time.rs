//! Time is an argument. The core never asks the operating system what time it is.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// This instant moved into the future by `by`, saturating.
    pub fn plus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this instant is; zero when it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Whatever tells the time: the system clock in `server/`, a [`ManualClock`] in tests.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> UnixMs;

    /// Waits. Only for what is worth asking again, never on the way of a request that can be answered.
    fn pause(&self, how_long: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A clock that only moves when told to.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock standing at `at`.
    pub fn at(at: UnixMs) -> Self {
        Self(AtomicI64::new(at.0))
    }

    /// Moves the clock to `at`, in either direction.
    pub fn set(&self, at: UnixMs) {
        self.0.store(at.0, Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let now = self.now().plus(by);
        self.set(now);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMs {
        UnixMs(self.0.load(Ordering::SeqCst))
    }

    /// Over at once: no test sleeps.
    fn pause(&self, _how_long: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}
