//! The framework's checks of a key, in its order, without any I/O.

use std::time::Duration;

use super::{Counters, DEFAULT_CONFIG, Row, Settings};
use crate::session::Rejection;
use crate::time::UnixMs;

/// Whether a key holds at all: it belongs to the configuration, is switched on and not past its expiry.
///
/// # Errors
/// Why it does not.
pub fn standing(row: &Row, settings: &Settings, now: UnixMs) -> Result<(), Rejection> {
    if !same_config(row.config_id.as_deref(), &settings.config_id) {
        return Err(Rejection::Unknown { told_now: false });
    }
    if row.enabled == Some(false) {
        return Err(Rejection::Disabled);
    }
    // At the very millisecond it still holds.
    if row.expires_at.is_some_and(|until| until < now) {
        return Err(Rejection::Expired { told_now: false });
    }
    Ok(())
}

/// What one use makes of `remaining`.
///
/// # Errors
/// When there is none left, and when there will be.
pub fn take(row: &Row, mut counters: Counters, now: UnixMs) -> Result<Counters, Rejection> {
    let Some(remaining) = counters.remaining else {
        return Ok(counters);
    };
    let due = row.refill().filter(|refill| {
        let since = counters.last_refill.unwrap_or(row.created_at);
        now.since(since) > refill.every
    });
    let left = match due {
        Some(refill) => {
            counters.last_refill = Some(now);
            refill.amount
        }
        None => remaining,
    };
    if left <= 0 {
        let row = Row {
            counters,
            ..row.clone()
        };
        return Err(used_up(&row, now));
    }
    counters.remaining = Some(left - 1);
    Ok(counters)
}

/// The answer to whoever has used a key up.
pub fn used_up(row: &Row, now: UnixMs) -> Rejection {
    let due = |every: Duration| {
        // The framework refills after the interval, not at its very end.
        let at = row.refilled_at().plus(every + Duration::from_millis(1));
        at.since(now)
    };
    Rejection::Limited {
        retry_after: row.refill().map(|refill| due(refill.every)),
    }
}

/// What one use makes of the rate limit: the counters after it, and what is to be written of it.
///
/// # Errors
/// When the key was used too often, and when it may be used again.
pub fn rate(
    row: &Row,
    settings: &Settings,
    mut counters: Counters,
    now: UnixMs,
) -> Result<(Counters, Rate), Rejection> {
    counters.updated_at = Some(now);
    if !settings.rate_limit || row.rate_limited == Some(false) {
        counters.last_request = Some(now);
        return Ok((counters, Rate::Noted));
    }
    let (Some(window), Some(max)) = (row.rate_window, row.rate_max) else {
        return Ok((counters, Rate::Untouched));
    };
    let Some(last) = counters.last_request else {
        (counters.requests, counters.last_request) = (1, Some(now));
        let before = minus(now, window);
        return Ok((counters, Rate::Begins { before }));
    };
    // Each use moves the window: it is the silence since the last one that counts.
    let silence = now.0.saturating_sub(last.0);
    let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    if silence > window_ms {
        (counters.requests, counters.last_request) = (1, Some(now));
        let before = minus(now, window);
        return Ok((counters, Rate::Begins { before }));
    }
    if counters.requests >= max {
        let wait = window_ms.saturating_sub(silence);
        return Err(Rejection::Limited {
            retry_after: Some(Duration::from_millis(u64::try_from(wait).unwrap_or(0))),
        });
    }
    counters.requests = counters.requests.saturating_add(1);
    counters.last_request = Some(now);
    Ok((counters, Rate::Counted))
}

/// What a use is to the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// The key has no rate limit, and the framework notes nothing of it.
    Untouched,
    /// Not limited, but noted when it was.
    Noted,
    /// One more in the window.
    Counted,
    /// The first of a window: the last request of the one before was not after this instant.
    Begins {
        /// That instant.
        before: UnixMs,
    },
}

/// All checks of one use, in the framework's order: the counters after it, or why it is refused with the counters as they are then.
/// What was taken from `remaining` stays taken when the rate limit refuses, as in the framework.
///
/// # Errors
/// Why it is refused.
pub fn decide(
    row: &Row,
    settings: &Settings,
    now: UnixMs,
) -> Result<Counters, (Rejection, Counters)> {
    let before = row.counters;
    standing(row, settings, now).map_err(|why| (why, before))?;
    let taken = take(row, before, now).map_err(|why| (why, before))?;
    let (after, _) = rate(row, settings, taken, now).map_err(|why| (why, taken))?;
    Ok(after)
}

/// Whether a key of one configuration counts in another: those that name none are of the default one.
fn same_config(of_key: Option<&str>, expected: &str) -> bool {
    let or_default = |id: &'_ str| id.is_empty() || id == DEFAULT_CONFIG;
    let of_key = of_key.unwrap_or_default();
    of_key == expected || (or_default(of_key) && or_default(expected))
}

fn minus(now: UnixMs, by: Duration) -> UnixMs {
    UnixMs(
        now.0
            .saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMs = UnixMs(1_781_524_800_250);
    const DAY: Duration = Duration::from_secs(86_400);

    fn row() -> Row {
        Row {
            id: "k".into(),
            config_id: Some("default".into()),
            enabled: Some(true),
            expires_at: None,
            created_at: NOW,
            rate_limited: Some(true),
            rate_window: Some(DAY),
            rate_max: Some(10),
            refill_interval: None,
            refill_amount: None,
            counters: Counters::default(),
        }
    }

    fn limited(wait_ms: u64) -> Rejection {
        Rejection::Limited {
            retry_after: Some(Duration::from_millis(wait_ms)),
        }
    }

    #[test]
    fn a_key_of_another_configuration_does_not_count_and_none_is_the_default_one() {
        let settings = Settings::default();
        let other = Settings {
            config_id: "machines".into(),
            ..Settings::default()
        };
        for (of_key, default_fits, other_fits) in [
            (None, true, false),
            (Some(""), true, false),
            (Some("default"), true, false),
            (Some("machines"), false, true),
        ] {
            let row = Row {
                config_id: of_key.map(Into::into),
                ..row()
            };
            assert_eq!(standing(&row, &settings, NOW).is_ok(), default_fits);
            assert_eq!(standing(&row, &other, NOW).is_ok(), other_fits);
        }
    }

    #[test]
    fn disabled_comes_before_expired_and_expiry_is_inclusive() {
        let settings = Settings::default();
        let mut row = Row {
            enabled: Some(false),
            expires_at: Some(UnixMs(NOW.0 - 1)),
            ..row()
        };
        assert_eq!(standing(&row, &settings, NOW), Err(Rejection::Disabled));
        row.enabled = None;
        assert_eq!(
            standing(&row, &settings, NOW),
            Err(Rejection::Expired { told_now: false })
        );
        row.expires_at = Some(NOW);
        assert_eq!(standing(&row, &settings, NOW), Ok(()));
    }

    #[test]
    fn a_refill_sets_what_remains_whatever_it_was_and_not_before_its_time() {
        let mut row = Row {
            refill_interval: Some(Duration::from_secs(60)),
            refill_amount: Some(3),
            ..row()
        };
        row.counters.remaining = Some(9);
        let at = |ms: i64| UnixMs(NOW.0 + ms);
        let left = |row: &Row, ms| take(row, row.counters, at(ms)).map(|after| after.remaining);
        assert_eq!(left(&row, 60_000), Ok(Some(8)), "not after the interval");
        assert_eq!(left(&row, 60_001), Ok(Some(2)));
        row.counters.remaining = Some(0);
        assert_eq!(left(&row, 59_000), Err(limited(1_001)));
        assert_eq!(left(&row, 60_001), Ok(Some(2)));
        // Zero is no refill.
        row.refill_amount = Some(0);
        assert_eq!(
            left(&row, 60_001),
            Err(Rejection::Limited { retry_after: None })
        );
    }

    #[test]
    fn the_rate_limit_refuses_after_a_use_was_taken() {
        let mut row = row();
        row.counters = Counters {
            remaining: Some(5),
            requests: 10,
            last_request: Some(NOW),
            ..Counters::default()
        };
        let at = UnixMs(NOW.0 + 1000);
        let (why, counters) = decide(&row, &Settings::default(), at).unwrap_err();
        assert_eq!(why, limited(86_399_000));
        assert_eq!(counters.remaining, Some(4));
        assert_eq!(counters.requests, 10);
        assert_eq!(counters.last_request, Some(NOW));
    }

    #[test]
    fn a_row_without_window_or_maximum_has_no_rate_limit() {
        for (window, max) in [(None, Some(1)), (Some(DAY), None)] {
            let row = Row {
                rate_window: window,
                rate_max: max,
                ..row()
            };
            let (after, rate) = rate(&row, &Settings::default(), row.counters, NOW).unwrap();
            assert_eq!(rate, Rate::Untouched);
            assert_eq!((after.requests, after.last_request), (0, None));
        }
    }

    proptest! {
        /// However uses are spread over time, no more pass within a window than the limit, and every one that passes is counted.
        #[test]
        fn no_more_pass_than_allowed(gaps in prop::collection::vec(0i64..3_000, 1..60), max in 1i64..6) {
            let mut row = Row { rate_window: Some(Duration::from_secs(2)), rate_max: Some(max), ..row() };
            let mut now = NOW;
            let mut run = 0;
            for gap in gaps {
                now = UnixMs(now.0 + gap);
                let quiet = row.counters.last_request.is_none_or(|last| now.0 - last.0 > 2_000);
                if quiet {
                    run = 0;
                }
                match decide(&row, &Settings::default(), now) {
                    Ok(after) => {
                        run += 1;
                        prop_assert_eq!(after.requests, run);
                        prop_assert!(run <= max);
                        row.counters = after;
                    }
                    Err((Rejection::Limited { retry_after: Some(wait) }, _)) => {
                        prop_assert_eq!(run, max);
                        prop_assert!(wait <= Duration::from_secs(2));
                    }
                    Err(other) => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
