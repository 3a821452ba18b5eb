//! Which texts the framework turns into dates when it reads JSON, and how it writes dates.
//!
//! Source: better-auth 1.7, packages/core/src/utils/json.ts, `reviveDate`; ECMAScript, `Date.parse` and `toISOString`.

use serde_json::Value;

use crate::time::UnixMs;

/// A text that is a date to the framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// The instant, finer digits cut off.
    pub at: UnixMs,
    /// Whether it would be written the same way again.
    pub is_canonical: bool,
}

const DAY_MS: i64 = 86_400_000;

/// `YYYY-MM-DDTHH:MM:SS[.digits]Z`, if that is an instant.
pub fn parse(text: &str) -> Option<Date> {
    let (head, tail) = text.as_bytes().split_at_checked(19)?;
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        n1,
        n2,
        b':',
        s1,
        s2,
    ] = head
    else {
        return None;
    };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0, |sum, digit| {
            Some(sum * 10 + i64::from(char::from(**digit).to_digit(10)?))
        })
    };
    let (year, month, day) = (
        number(&[y1, y2, y3, y4])?,
        number(&[m1, m2])?,
        number(&[d1, d2])?,
    );
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[n1, n2])?, number(&[s1, s2])?);
    let decimals = match tail {
        [b'Z'] => &[][..],
        [b'.', decimals @ .., b'Z'] if !decimals.is_empty() => decimals,
        _ => return None,
    };
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let ms = (0..3).fold(0, |sum, at| {
        sum * 10 + decimals.get(at).map_or(0, |digit| i64::from(digit - b'0'))
    });
    let midnight = hour == 24 && minute == 0 && second == 0 && ms == 0;
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || (hour > 23 && !midnight)
        || minute > 59
        || second > 59
    {
        return None;
    }
    // JavaScript takes the 31st of every month and counts on.
    let days = days_before(year, month) + day - 1;
    let at = UnixMs(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + ms);
    Some(Date {
        at,
        is_canonical: decimals.len() == 3 && write(at) == text,
    })
}

/// As `toISOString` writes it, for the years 0 to 9999; others are cut to those.
pub fn write(at: UnixMs) -> String {
    let (first, last) = (
        days_before(0, 1) * DAY_MS,
        days_before(10_000, 1) * DAY_MS - 1,
    );
    let ms = at.0.clamp(first, last);
    let (days, ms) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil(days);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Writes every date in a value as the framework does that has read it.
pub fn write_in_full(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(date) = parse(text).filter(|date| !date.is_canonical) {
                *text = write(date.at);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(write_in_full),
        Value::Object(map) => map.values_mut().for_each(write_in_full),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Days from the epoch to the first of a month, in the Gregorian calendar. The year begins in March here, so that the leap day is
/// its last.
fn days_before(year: i64, month: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, in_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month = (month + 9) % 12;
    let in_year = (153 * month + 2) / 5;
    era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719_468
}

/// Year, month and day of a day counted from the epoch.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, in_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (year + era * 400 + next, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_javascript_takes_for_dates() {
        for (text, written) in [
            ("2024-02-30T00:00:00.000Z", Some("2024-03-01T00:00:00.000Z")),
            ("2024-04-31T00:00:00.000Z", Some("2024-05-01T00:00:00.000Z")),
            ("2024-01-01T24:00:00.000Z", Some("2024-01-02T00:00:00.000Z")),
            ("2024-01-02T03:04:05Z", Some("2024-01-02T03:04:05.000Z")),
            (
                "2024-01-02T03:04:05.6789Z",
                Some("2024-01-02T03:04:05.678Z"),
            ),
            ("2024-01-02T03:04:05.6Z", Some("2024-01-02T03:04:05.600Z")),
            ("0000-01-01T00:00:00.000Z", Some("0000-01-01T00:00:00.000Z")),
            ("2024-01-32T00:00:00.000Z", None),
            ("2024-13-01T00:00:00.000Z", None),
            ("2024-00-01T00:00:00.000Z", None),
            ("2024-01-00T00:00:00.000Z", None),
            ("2024-01-01T24:00:01.000Z", None),
            ("2024-01-01T23:60:00.000Z", None),
            ("2024-01-01T23:59:60.000Z", None),
            ("2024-01-01T00:00:00.Z", None),
            ("2024-01-01T00:00:00", None),
            ("2024-01-01T00:00:00+00:00", None),
            ("2024-01-01", None),
            ("é024-01-01T00:00:00Z", None),
            ("", None),
        ] {
            let date = parse(text);
            assert_eq!(
                date.map(|date| write(date.at)).as_deref(),
                written,
                "{text}"
            );
            assert_eq!(
                date.is_some_and(|date| date.is_canonical),
                written == Some(text),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_calendar(ms in -62_167_219_200_000i64..253_402_300_800_000) {
            let text = chrono::DateTime::from_timestamp_millis(ms).unwrap()
                .format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
            prop_assert_eq!(write(UnixMs(ms)), text.as_str());
            prop_assert_eq!(parse(&text), Some(Date { at: UnixMs(ms), is_canonical: true }));
        }

        #[test]
        fn noise_never_panics(text in ".{0,40}", ms in any::<i64>()) {
            let _ = parse(&text);
            let _ = write(UnixMs(ms));
        }
    }
}
