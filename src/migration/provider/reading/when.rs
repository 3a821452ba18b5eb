//! Moments as databases and old systems write them.

use serde_json::Value;

use crate::time::UnixMs;

/// From here on a number counts milliseconds: as seconds it would be the year 5138.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// A moment: ISO 8601 with `T` or a blank, with an offset or none (then it is UTC), or a number of seconds or milliseconds.
pub fn parse(text: &str) -> Option<UnixMs> {
    let text = text.trim();
    if text.len() > 64 {
        return None;
    }
    let digits = text.split('.').next().unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return digits.parse().ok().map(of_number);
    }
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let end = rest.find(['Z', 'z', '+', '-', ' ']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at_checked(end)?;
    let moment =
        chrono::NaiveDateTime::parse_from_str(&format!("{date}T{time}"), "%Y-%m-%dT%H:%M:%S%.f");
    let ms = moment.ok()?.and_utc().timestamp_millis();
    Some(UnixMs(ms.checked_sub(offset_ms(zone.trim())?)?))
}

/// A number of seconds or milliseconds.
pub fn of_number(number: i64) -> UnixMs {
    match number {
        ms if ms.abs() >= MILLISECONDS_FROM => UnixMs(ms),
        seconds => UnixMs(seconds.saturating_mul(1000)),
    }
}

/// A moment in JSON: a number or a text.
pub fn of_json(value: &Value) -> Option<UnixMs> {
    match value {
        Value::Number(_) => whole(value).map(of_number),
        Value::String(text) => parse(text),
        _ => None,
    }
}

/// A whole number, fractions cut off; none that would not fit.
pub fn whole(value: &Value) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let number = value.as_f64().filter(|number| number.abs() < 9e15)?;
    // Below 2^53, and fractions are to be cut off.
    #[allow(clippy::cast_possible_truncation)]
    Some(number as i64)
}

fn offset_ms(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.as_bytes() {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return (zone.eq_ignore_ascii_case("utc")).then_some(0),
    };
    let mut numbers = digits
        .iter()
        .filter(|b| **b != b':')
        .map(|b| char::from(*b).to_digit(10).map(i64::from));
    let mut two = |required: bool| match (numbers.next(), required) {
        (Some(ten), _) => Some(ten? * 10 + numbers.next()??),
        (None, false) => Some(0),
        (None, true) => None,
    };
    let minutes = two(true)? * 60 + two(false)?;
    Some(sign * minutes * 60_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_database_s_spelling_is_the_same_moment() {
        for text in [
            "2025-11-21T04:40:00.000Z",
            "2025-11-21 04:40:00+00",
            "2025-11-21 04:40:00",
            "2025-11-21 06:40:00.000000+02:00",
            "2025-11-20T23:10:00-0530",
            "2025-11-21 04:40:00 UTC",
            "2025-11-21 04:40:00 +0000",
            "1763700000",
            "1763700000000",
            "1763700000.25",
        ] {
            assert_eq!(parse(text), Some(UnixMs(1_763_700_000_000)), "{text}");
        }
        for text in [
            "",
            "soon",
            "2025-11-21",
            "2025-13-21 00:00:00",
            "-5",
            "2025-11-21 04:40:00+x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
