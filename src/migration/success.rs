//! How many sign-ins succeed, by cohort, over the last hour: a scheme that nobody gets in with has a wrong parameter, and is not
//! forgotten by all its users at once.

use std::time::Duration;

use crate::time::UnixMs;

/// The whole window.
pub const WINDOW: Duration = Duration::from_secs(3600);

/// It moves in steps of this length.
const STEP: Duration = Duration::from_secs(300);

const STEPS: usize = 12;

/// Below so many per cent somebody must look.
pub const ALARM_PERCENT: u64 = 95;

/// So many attempts it takes before a rate says anything: one wrong password among a few is everyday life.
pub const ATTEMPTS_MIN: u64 = 50;

/// Attempts and successes of one cohort.
#[derive(Clone, Debug, Default)]
pub struct Success {
    steps: [Step; STEPS],
    below: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Step {
    /// Number of the step since the epoch.
    number: i64,
    tried: u64,
    succeeded: u64,
}

/// What an attempt did to the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Nothing to be said.
    Quiet,
    /// It has just fallen below what is expected.
    Fell {
        /// Attempts in the window.
        tried: u64,
        /// How many of them succeeded.
        succeeded: u64,
    },
    /// It is as expected again.
    Recovered,
}

impl Success {
    /// Counts an attempt.
    pub fn count(&mut self, succeeded: bool, now: UnixMs) -> Alarm {
        let number = number(now);
        let place = usize::try_from(number.rem_euclid(STEPS as i64)).unwrap_or(0);
        if let Some(step) = self.steps.get_mut(place) {
            if step.number != number {
                *step = Step {
                    number,
                    ..Step::default()
                };
            }
            step.tried += 1;
            step.succeeded += u64::from(succeeded);
        }
        let (tried, succeeded) = self.totals(now);
        let below = tried >= ATTEMPTS_MIN && succeeded * 100 < tried * ALARM_PERCENT;
        match (std::mem::replace(&mut self.below, below), below) {
            (false, true) => Alarm::Fell { tried, succeeded },
            (true, false) => Alarm::Recovered,
            _ => Alarm::Quiet,
        }
    }

    /// Attempts in the window, and how many of them succeeded.
    pub fn totals(&self, now: UnixMs) -> (u64, u64) {
        let last = number(now);
        let within = |step: &&Step| step.number > last - STEPS as i64 && step.number <= last;
        self.steps
            .iter()
            .filter(within)
            .fold((0, 0), |(tried, succeeded), step| {
                (tried + step.tried, succeeded + step.succeeded)
            })
    }
}

fn number(now: UnixMs) -> i64 {
    now.0
        .div_euclid(i64::try_from(STEP.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_795_000_000_000);

    #[test]
    fn the_alarm_sounds_once_when_the_rate_falls_and_again_after_it_recovered() {
        let mut success = Success::default();
        let mut told = Vec::new();
        let mut count = |succeeded: bool, times: u64, at: UnixMs| {
            for _ in 0..times {
                match success.count(succeeded, at) {
                    Alarm::Quiet => {}
                    alarm => told.push(alarm),
                }
            }
        };
        count(false, 49, NOW);
        count(false, 20, NOW);
        count(true, 2000, NOW);
        count(false, 120, NOW);
        assert_eq!(
            told,
            [
                Alarm::Fell {
                    tried: 50,
                    succeeded: 0
                },
                Alarm::Recovered,
                Alarm::Fell {
                    tried: 2106,
                    succeeded: 2000
                },
            ]
        );
    }

    #[test]
    fn what_is_over_an_hour_ago_does_not_count() {
        let mut success = Success::default();
        for minute in 0..120i64 {
            let _ = success.count(minute >= 60, UnixMs(NOW.0 + minute * 60_000));
        }
        let end = UnixMs(NOW.0 + 119 * 60_000);
        let (tried, succeeded) = success.totals(end);
        assert!((55..=60).contains(&tried), "{tried}");
        assert_eq!(tried, succeeded);
        assert_eq!(success.totals(end.plus(WINDOW * 2)), (0, 0));
        // A clock that is set back forgets, and does not panic.
        assert_eq!(success.totals(UnixMs(0)), (0, 0));
        let _ = success.count(true, UnixMs(-1));
    }
}
