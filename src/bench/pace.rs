//! When requests are meant to begin.
//!
//! A client that waits for each answer before it asks again asks least while the server is slowest, and so leaves out the very
//! requests that would have been slow: coordinated omission. At a fixed rate every request has a moment at which it was meant to begin,
//! and its latency counts from there, whenever it could be sent.

use std::time::Duration;

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Again as soon as it has an answer: tells what can be done at most, and nothing of waiting.
    Closed,
    /// So many times a second, whether or not the answers come.
    Fixed {
        /// Requests a second.
        per_second: f64,
    },
}

/// Requests a second that can be asked for: far above what one machine does, and small enough to count with.
pub const RATE_MAX: f64 = 10_000_000.0;

impl Pace {
    /// When the request of this number, from zero, is meant to begin. `None`: whenever the one before is done.
    pub fn intended(self, number: u64) -> Option<Duration> {
        match self {
            Self::Closed => None,
            Self::Fixed { per_second } => {
                Duration::try_from_secs_f64(super::float(number) / per_second).ok()
            }
        }
    }

    /// What a request took that began and ended then, all counted from the beginning of the run.
    pub fn latency(self, number: u64, began: Duration, ended: Duration) -> Duration {
        // A request that begins before its time waited for nobody.
        let from = self
            .intended(number)
            .map_or(began, |intended| intended.min(began));
        ended.saturating_sub(from)
    }

    /// Requests a second, where that is fixed.
    pub const fn rate(self) -> Option<f64> {
        match self {
            Self::Closed => None,
            Self::Fixed { per_second } => Some(per_second),
        }
    }

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Fixed { .. } => "fixed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::summary::Recorder;

    const SERVICE: Duration = Duration::from_micros(100);

    /// One client on one connection, at a server that answers in 100 us but stands still once, for two seconds of ten.
    fn stalled(pace: Pace) -> Recorder {
        let mut recorder = Recorder::default();
        let (mut now, mut number) = (Duration::ZERO, 0);
        let mut has_stalled = false;
        loop {
            let began = pace.intended(number).map_or(now, |at| at.max(now));
            if began >= Duration::from_secs(10) {
                return recorder;
            }
            let mut ended = began + SERVICE;
            if !has_stalled && began >= Duration::from_secs(4) {
                has_stalled = true;
                ended += Duration::from_secs(2);
            }
            recorder.record(pace.latency(number, began, ended));
            now = ended;
            number += 1;
        }
    }

    #[test]
    fn a_stall_shows_in_the_tail_of_a_fixed_rate() {
        let fixed = stalled(Pace::Fixed { per_second: 1000.0 }).summary(Duration::from_secs(10));
        // Two of ten seconds: a fifth of the requests was meant to begin while nobody answered, and more had to queue behind them.
        assert_eq!(fixed.count, 10_000);
        assert!(fixed.p50_ns < 200_000, "{}", fixed.p50_ns);
        assert!(fixed.p90_ns > 900_000_000, "{}", fixed.p90_ns);
        assert!(fixed.p99_ns > 1_700_000_000, "{}", fixed.p99_ns);
    }

    #[test]
    fn a_closed_loop_does_not_see_the_stall_and_says_that_it_is_one() {
        let closed = stalled(Pace::Closed).summary(Duration::from_secs(10));
        assert!(closed.p99_ns < 200_000, "{}", closed.p99_ns);
        assert!(closed.max_ns > 1_900_000_000);
        assert_eq!(Pace::Closed.as_str(), "closed");
    }

    #[test]
    fn a_request_on_time_counts_from_its_own_beginning() {
        let pace = Pace::Fixed { per_second: 100.0 };
        assert_eq!(pace.intended(7), Some(Duration::from_millis(70)));
        let early = pace.latency(7, Duration::from_millis(69), Duration::from_millis(71));
        assert_eq!(early, Duration::from_millis(2));
        let late = pace.latency(7, Duration::from_millis(90), Duration::from_millis(91));
        assert_eq!(late, Duration::from_millis(21));
    }
}
