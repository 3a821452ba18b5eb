//! Assertions signed a moment ago, which tell the same of a caller's next requests.

use http::HeaderValue;

use crate::session::entry::Serial;
use crate::time::UnixMs;

/// Most bytes they take: the callers of half an assertion's life (30 seconds), some twenty thousand of them at 800 bytes each. Beyond it
/// the least used are forgotten, which costs a signature with their next request.
const BYTES_MAX: u64 = 16 << 20;

/// What one takes besides its text: the handle, what shares the text, the memory's own bookkeeping. Measured, and rounded up.
const OVERHEAD_BYTES: u64 = 192;

/// What one takes in all, as a rule.
const USUAL_BYTES: u64 = 800;

/// An assertion as it is sent.
#[derive(Clone)]
struct Signed {
    of: Serial,
    at: UnixMs,
    value: HeaderValue,
}

#[derive(Clone)]
struct Weigher;

impl quick_cache::Weighter<u32, Signed> for Weigher {
    fn weight(&self, _: &u32, signed: &Signed) -> u64 {
        OVERHEAD_BYTES + signed.value.len() as u64
    }
}

/// The memory of them, one for a session: that of an identity takes the place of its predecessor's. Each counts for the identity it was
/// signed for and no other, so nobody is ever told of as they were before.
pub struct Recent(quick_cache::sync::Cache<u32, Signed, Weigher>);

impl Recent {
    /// The assertion of an identity, if it was signed less than `age` ago. One from the future (the clock was set back) does not count.
    pub fn find(&self, of: Serial, now: UnixMs, age: std::time::Duration) -> Option<HeaderValue> {
        let signed = self.0.get(&of.session)?;
        let counts = signed.of == of && signed.at <= now && now.since(signed.at) < age;
        counts.then_some(signed.value)
    }

    /// Remembers what was signed just now.
    pub fn put(&self, of: Serial, at: UnixMs, value: HeaderValue) {
        self.0.insert(of.session, Signed { of, at, value });
    }

    /// Bytes they take, as reckoned for the bound.
    pub fn weight(&self) -> u64 {
        self.0.weight()
    }
}

impl Default for Recent {
    fn default() -> Self {
        let usual = usize::try_from(BYTES_MAX / USUAL_BYTES).unwrap_or(usize::MAX);
        Self(quick_cache::sync::Cache::with_weighter(
            usual, BYTES_MAX, Weigher,
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const AGE: Duration = Duration::from_secs(30);

    #[test]
    fn an_assertion_counts_for_its_age_and_its_identity_and_not_from_the_future() {
        let recent = Recent::default();
        let (one, successor, other) = (Serial::next(1), Serial::next(1), Serial::next(2));
        recent.put(one, UnixMs(50_000), HeaderValue::from_static("a.b.c"));
        for (of, now, counts) in [
            (one, 50_000, true),
            (one, 79_999, true),
            (one, 80_000, false),
            (one, 49_999, false),
            (successor, 50_000, false),
            (other, 50_000, false),
        ] {
            let found = recent.find(of, UnixMs(now), AGE);
            assert_eq!(found.is_some(), counts, "{of:?} at {now}");
        }
        let weight = recent.weight();
        recent.put(successor, UnixMs(80_000), HeaderValue::from_static("d.e.f"));
        assert_eq!(
            recent.find(successor, UnixMs(80_000), AGE).unwrap(),
            "d.e.f"
        );
        assert!(recent.find(one, UnixMs(50_000), AGE).is_none());
        assert_eq!(recent.weight(), weight, "the old one is gone");
    }

    #[test]
    fn however_many_are_signed_they_stay_within_their_bound() {
        let recent = Recent::default();
        let value = HeaderValue::try_from("a".repeat(4000)).unwrap();
        for session in 0..20_000 {
            recent.put(Serial::next(session), UnixMs(0), value.clone());
        }
        assert!(recent.weight() <= BYTES_MAX, "{}", recent.weight());
        assert!(recent.weight() > BYTES_MAX / 2, "and it is put to use");
    }
}
