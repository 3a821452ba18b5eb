//! How often one address may be wrong: strangers who guess tokens must not keep the store busy.
//!
//! A lookup takes one try from its address before it begins, and one that finds something gives it back. So only misses count, and
//! at most `burst` guesses of one address are under way at any time, however many connections it has.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::time::UnixMs;

/// Most addresses counted at once, about 10 MiB. Beyond it those seen longest ago begin anew: whoever owns more addresses than that is
/// held back by the store's own bounds.
const ADDRESSES_MAX: usize = 100_000;

const MINUTE_US: i64 = 60_000_000;

/// How much earlier than the last one a request may have looked at the clock, in microseconds: one that another thread overtook since
/// must not pass for a clock that was set back.
const OVERTAKEN_US: i64 = 10_000_000;

/// How often one address may be wrong.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Misses in the long run (`better_auth.unknown_tokens_per_minute`).
    pub per_minute: u32,
}

impl Default for Settings {
    /// Ten in a second cost a store less than a hundredth of what it can do. People whose sessions ended behind one address, and whose
    /// devices keep asking, stay below: each is asked about once in `negative_ttl`.
    fn default() -> Self {
        Self { per_minute: 600 }
    }
}

impl Settings {
    /// A limiter of its own. Tries at once are a fifth of a minute's, because people behind one address come in bursts.
    pub fn limiter(self) -> Limiter {
        Limiter::new(self.per_minute, self.per_minute / 5)
    }
}

/// A bucket of tries for every address, refilled evenly.
pub struct Limiter {
    /// Microseconds until one try is back.
    every: i64,
    /// Microseconds that an address may be ahead.
    ahead: i64,
    /// By address, the moment at which its bucket is full again, in microseconds since the epoch.
    full_at: quick_cache::sync::Cache<IpAddr, Arc<AtomicI64>>,
}

impl Limiter {
    /// Allows `burst` tries at once, and `per_minute` in the long run. Zero of either is taken as one.
    pub fn new(per_minute: u32, burst: u32) -> Self {
        let every = MINUTE_US / i64::from(per_minute.max(1));
        Self {
            every,
            ahead: every.saturating_mul(i64::from(burst.max(1)) - 1),
            full_at: quick_cache::sync::Cache::new(ADDRESSES_MAX),
        }
    }

    /// Takes one try of `address`.
    ///
    /// # Errors
    /// When there is none left: how long until there is.
    pub fn check(&self, address: IpAddr, now: UnixMs) -> Result<(), Duration> {
        let now = now.0.saturating_mul(1000);
        let key = counted(address);
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::new(AtomicI64::new(now)));
        let Ok(bucket) = self.full_at.get_or_insert_with(&key, fresh);
        let taken = bucket.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |full_at| {
            let full_at = self.reckon(full_at, now);
            (full_at - now <= self.ahead).then_some(full_at + self.every)
        });
        match taken {
            Ok(_) => Ok(()),
            Err(full_at) => {
                let wait = self.reckon(full_at, now) - now - self.ahead;
                Err(Duration::from_micros(u64::try_from(wait).unwrap_or(0)))
            }
        }
    }

    /// Gives one try back: what it was taken for was no guess.
    pub fn give_back(&self, address: IpAddr) {
        if let Some(bucket) = self.full_at.get(&counted(address)) {
            bucket.fetch_sub(self.every, Ordering::SeqCst);
        }
    }

    /// When the bucket is full, not before the present. Later than it could ever be, the clock was set back: it begins anew.
    fn reckon(&self, full_at: i64, now: i64) -> i64 {
        if full_at - now > self.ahead + self.every + OVERTAKEN_US {
            return now;
        }
        full_at.max(now)
    }
}

/// What is counted as one address: a household has 2⁶⁴ of the long ones.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_795_229_535_028);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let limiter = Limiter::new(60, 3);
        let stranger = address("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(limiter.check(stranger, NOW), Ok(()));
        }
        let wait = limiter.check(stranger, NOW).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        let almost = NOW.plus(wait - Duration::from_millis(1));
        assert!(limiter.check(stranger, almost).is_err());
        assert_eq!(limiter.check(stranger, NOW.plus(wait)), Ok(()));
        assert!(limiter.check(stranger, NOW.plus(wait)).is_err());
        // Being refused costs nothing: whoever waits gets the whole burst back.
        let later = NOW.plus(Duration::from_secs(60));
        let passed = (0..10).filter(|_| limiter.check(stranger, later).is_ok());
        assert_eq!(passed.count(), 3);
    }

    #[test]
    fn what_was_no_guess_does_not_count() {
        let limiter = Limiter::new(1, 2);
        let office = address("192.0.2.1");
        for _ in 0..100 {
            assert_eq!(limiter.check(office, NOW), Ok(()));
            limiter.give_back(office);
        }
        assert_eq!(limiter.check(office, NOW), Ok(()));
        assert_eq!(limiter.check(office, NOW), Ok(()));
        assert!(limiter.check(office, NOW).is_err());
    }

    #[test]
    fn giving_back_more_than_was_taken_makes_nobody_rich() {
        let limiter = Limiter::new(1, 2);
        let office = address("192.0.2.1");
        assert_eq!(limiter.check(office, NOW), Ok(()));
        for _ in 0..100 {
            limiter.give_back(office);
        }
        let passed = (0..10).filter(|_| limiter.check(office, NOW).is_ok());
        assert_eq!(passed.count(), 2);
    }

    #[test]
    fn every_address_counts_for_itself_and_a_network_of_long_ones_as_one() {
        let limiter = Limiter::new(1, 1);
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.3", "::ffff:192.0.2.3", true),
            ("2001:db8:1:1::1", "2001:db8:1:1:ffff::2", true),
            ("2001:db8:2:1::1", "2001:db8:2:2::1", false),
        ] {
            assert_eq!(limiter.check(address(one), NOW), Ok(()));
            let again = limiter.check(address(other), NOW);
            assert_eq!(again.is_err(), same, "{one} and {other}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let limiter = Limiter::new(1, 1);
        let stranger = address("192.0.2.1");
        assert_eq!(limiter.check(stranger, NOW), Ok(()));
        assert!(limiter.check(stranger, NOW).is_err());
        let before = UnixMs(NOW.0 - 86_400_000);
        assert_eq!(limiter.check(stranger, before), Ok(()));
    }

    #[test]
    fn who_looked_at_the_clock_a_moment_before_another_gets_no_more_than_there_is() {
        let limiter = Limiter::new(60, 3);
        let stranger = address("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(limiter.check(stranger, NOW), Ok(()));
        }
        for behind in [1, 20, 5_000] {
            let before = UnixMs(NOW.0 - behind);
            assert!(limiter.check(stranger, before).is_err(), "{behind} ms");
        }
        assert!(limiter.check(stranger, NOW).is_err());
    }

    #[test]
    fn at_once_from_many_threads_no_more_pass_than_allowed() {
        let limiter = Limiter::new(1, 50);
        let stranger = address("192.0.2.1");
        let passed = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        if limiter.check(stranger, NOW).is_ok() {
                            passed.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 50);
    }
}
