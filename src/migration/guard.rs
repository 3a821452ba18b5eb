//! What keeps the gateway from harming an old system, or being harmed by one: how often it is asked for one account and by all of us,
//! and when it is left alone because it does not answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::provider::Limit;
use crate::time::UnixMs;

/// Most accounts counted at once, of all old systems together: about 20 MiB. Beyond it those seen longest ago begin anew; whoever
/// tries more accounts than that within a minute is held back by the rate of all of us.
const ACCOUNTS_MAX: usize = 100_000;

/// Most tries of one account remembered: more than any vendor allows.
const TRIES_MAX: usize = 64;

/// How many outages in a row open the breaker. One is a hiccup; after so many it is no use to let people wait.
pub const STREAK: u32 = 5;

/// How long an old system is left alone at first, and at most. Each probe that fails doubles it.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long a probe may take until it counts as lost: longer than any conversation lives.
const PROBE_MAX: Duration = Duration::from_secs(20);

/// How long one outage makes the old system doubtful, when nobody has asked since.
const DOUBT: Duration = Duration::from_secs(10);

/// How often each account may be asked about. Nothing vague: the moments themselves are kept, so that no window of any place ever
/// holds more than allowed, however the vendor counts.
pub struct PerAccount {
    tries: quick_cache::sync::Cache<[u8; 32], Arc<Mutex<VecDeque<UnixMs>>>>,
}

impl Default for PerAccount {
    fn default() -> Self {
        Self {
            tries: quick_cache::sync::Cache::new(ACCOUNTS_MAX),
        }
    }
}

impl PerAccount {
    /// Takes one try of an account at an old system.
    ///
    /// # Errors
    /// When there is none left: how long until there is.
    pub fn take(
        &self,
        provider: &str,
        account: &str,
        limit: Limit,
        now: UnixMs,
    ) -> Result<(), Duration> {
        let mut digest = Sha256::new();
        digest.update(provider.as_bytes());
        digest.update([0]);
        digest.update(account.as_bytes());
        let key: [u8; 32] = digest.finalize().into();
        let none = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(tries) = self.tries.get_or_insert_with(&key, none);
        let mut tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
        take(&mut tries, limit, TRIES_MAX, now)
    }
}

/// How often an old system is asked by all of us.
#[derive(Default)]
pub struct Overall {
    asked: VecDeque<UnixMs>,
}

/// Most requests remembered: above the highest rate configured.
const ASKED_MAX: usize = 4_096;

impl Overall {
    /// Takes one request.
    ///
    /// # Errors
    /// When there is none left: how long until there is.
    pub fn take(&mut self, limit: Limit, now: UnixMs) -> Result<(), Duration> {
        take(&mut self.asked, limit, ASKED_MAX, now)
    }

    /// Counts a request that may not be held back, because a conversation under way must come to its end.
    pub fn count(&mut self, now: UnixMs) {
        if self.asked.len() < ASKED_MAX {
            self.asked.push_back(now);
        }
    }
}

fn take(
    tries: &mut VecDeque<UnixMs>,
    limit: Limit,
    remembered: usize,
    now: UnixMs,
) -> Result<(), Duration> {
    // A moment in the future: the clock was set back since.
    tries.retain(|at| *at <= now && now.since(*at) < limit.within);
    let most = usize::try_from(limit.most).unwrap_or(remembered);
    if tries.len() >= most.clamp(1, remembered) {
        let first = tries.front().copied().unwrap_or(now);
        return Err(limit.within.saturating_sub(now.since(first)));
    }
    tries.push_back(now);
    Ok(())
}

/// Whether an old system answers at all.
#[derive(Debug, Default)]
pub struct Breaker {
    /// Outages since the last answer.
    streak: u32,
    /// When the last one was.
    last: UnixMs,
    /// When it last answered what nobody can read.
    garbled: Option<UnixMs>,
    /// It is left alone until then.
    until: Option<UnixMs>,
    /// How long it was left alone.
    pause: Duration,
    /// Since when somebody tries whether it answers again.
    probe: Option<UnixMs>,
}

impl Breaker {
    /// Whether somebody may ask now. While it is open that is one at a time, and only when the pause is over; whoever was let through
    /// tells what became of it.
    pub fn admit(&mut self, now: UnixMs) -> bool {
        let Some(until) = self.until else {
            return true;
        };
        // Too far ahead: the clock was set back.
        let over = now >= until || until.since(now) > PAUSE_MAX;
        let probed = self
            .probe
            .is_some_and(|since| since <= now && now.since(since) < PROBE_MAX);
        if !over || probed {
            return false;
        }
        self.probe = Some(now);
        true
    }

    /// It answered, whatever it said.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// It did not. Says whether it is left alone from now on, having been asked until now.
    pub fn failed(&mut self, now: UnixMs) -> bool {
        self.streak = self.streak.saturating_add(1);
        self.last = now;
        let probed = self.probe.take().is_some();
        let was_open = self.until.is_some();
        if was_open && !probed {
            // One that began before it was opened says nothing new.
            return false;
        }
        if self.streak < STREAK {
            return false;
        }
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.until = Some(now.plus(self.pause));
        !was_open
    }

    /// It answered what nobody can read. Leaving it alone would win nothing, and strangers might find a way to provoke such answers.
    pub fn garbled(&mut self, now: UnixMs) {
        self.probe = None;
        self.garbled = Some(now);
    }

    /// Whoever was let through found out nothing about it.
    pub fn released(&mut self) {
        self.probe = None;
    }

    /// Whether it is left alone.
    pub const fn is_open(&self) -> bool {
        self.until.is_some()
    }

    /// Whether its last word was none: what needs it cannot be answered, and nobody is to be told by a difference who needs it.
    pub fn is_down(&self, now: UnixMs) -> bool {
        let lately = |at: UnixMs| at <= now && now.since(at) < DOUBT;
        self.is_open() || (self.streak > 0 && lately(self.last)) || self.garbled.is_some_and(lately)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: i64) -> UnixMs {
        UnixMs(1_795_000_000_000 + seconds * 1_000)
    }

    #[test]
    fn an_account_is_asked_about_so_often_in_any_minute_and_others_are_not_held_back() {
        let limits = PerAccount::default();
        let limit = Limit {
            most: 8,
            within: MINUTE,
        };
        for second in 0..8 {
            assert_eq!(limits.take("workos", "a@b.c", limit, at(second)), Ok(()));
        }
        let wait = limits.take("workos", "a@b.c", limit, at(8)).unwrap_err();
        assert_eq!(wait, Duration::from_secs(52));
        assert_eq!(limits.take("workos", "d@b.c", limit, at(8)), Ok(()));
        assert_eq!(limits.take("clerk", "a@b.c", limit, at(8)), Ok(()));
        // The first one is a minute old; there is room for one, and not for nine.
        assert_eq!(limits.take("workos", "a@b.c", limit, at(60)), Ok(()));
        assert!(limits.take("workos", "a@b.c", limit, at(60)).is_err());
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let limits = PerAccount::default();
        let limit = Limit {
            most: 1,
            within: MINUTE,
        };
        assert_eq!(limits.take("clerk", "a", limit, at(1_000)), Ok(()));
        assert_eq!(limits.take("clerk", "a", limit, at(0)), Ok(()));
        let mut breaker = Breaker::default();
        for _ in 0..STREAK {
            breaker.failed(at(100_000));
        }
        assert!(!breaker.admit(at(100_000)));
        assert!(breaker.admit(at(0)));
    }

    #[test]
    fn all_of_us_together_are_bounded_and_what_is_under_way_counts() {
        let mut overall = Overall::default();
        let limit = Limit {
            most: 3,
            within: Duration::from_secs(10),
        };
        assert!(overall.take(limit, at(0)).is_ok());
        assert!(overall.take(limit, at(0)).is_ok());
        overall.count(at(0));
        assert!(overall.take(limit, at(9)).is_err());
        assert!(overall.take(limit, at(10)).is_ok());
    }

    #[test]
    fn the_breaker_opens_after_a_streak_and_lets_one_probe_through() {
        let mut breaker = Breaker::default();
        for n in 1..=STREAK {
            assert!(breaker.admit(at(0)));
            assert_eq!(breaker.failed(at(0)), n == STREAK);
        }
        assert!(!breaker.admit(at(1)));
        assert!(breaker.is_down(at(1)));
        assert!(breaker.admit(at(2)), "the pause is over");
        assert!(!breaker.admit(at(2)), "one at a time");
        breaker.failed(at(2));
        assert!(!breaker.admit(at(5)), "the pause has doubled");
        assert!(breaker.admit(at(6)));
        breaker.answered();
        assert!(breaker.admit(at(6)) && breaker.admit(at(6)));
        assert!(!breaker.is_down(at(6)));
    }

    #[test]
    fn outages_between_answers_do_not_open_it() {
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            for _ in 1..STREAK {
                assert!(!breaker.failed(at(0)));
            }
            breaker.answered();
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_single_outage_makes_it_doubtful_for_a_while() {
        let mut breaker = Breaker::default();
        breaker.failed(at(0));
        assert!(breaker.is_down(at(9)) && breaker.admit(at(9)));
        assert!(!breaker.is_down(at(10)));
    }

    #[test]
    fn a_lost_probe_is_not_waited_for_forever() {
        let mut breaker = Breaker::default();
        for _ in 0..STREAK {
            breaker.failed(at(0));
        }
        assert!(breaker.admit(at(10)));
        assert!(!breaker.admit(at(29)));
        assert!(breaker.admit(at(30)));
        breaker.released();
        assert!(breaker.admit(at(30)));
    }
}
