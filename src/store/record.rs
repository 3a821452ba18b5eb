//! From a row of texts to a [`Record`].
//!
//! Every lookup casts its columns to text in SQL, so that one decoder serves every database and every column type the
//! framework's adapters have used: real date types, ISO text, integers in seconds or milliseconds, booleans as words or numbers.

use chrono::{NaiveDate, NaiveTime};
use serde_json::{Map, Value};

use super::FieldKind;
use super::schema::{Answered, FIELDS};
use crate::credential::key_set::StoredKey;
use crate::secret::Secret;
use crate::session::{Record, document};
use crate::time::UnixMs;

/// One row: the selected columns as text, in the order of [`super::schema::FIELDS`].
pub(super) type Row = Vec<Option<String>>;

/// Numbers below this are seconds, numbers from it on are milliseconds: 10^11 s lies in the year 5138, 10^11 ms in 1973.
const SECONDS_BELOW: u64 = 100_000_000_000;

/// The latest instant a JavaScript `Date` can hold. PostgreSQL's `infinity` becomes this: later than any clock, and safe to add to.
const FOREVER: UnixMs = UnixMs(8_640_000_000_000_000);

/// What a row held that we cannot use: the logical column, never its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{column}` holds {what}")]
pub(super) struct Unreadable {
    pub(super) column: &'static str,
    pub(super) what: &'static str,
}

/// Reads the columns of one row by position.
struct Columns<'r> {
    cells: std::slice::IterMut<'r, Option<String>>,
    zone_offset_seconds: i32,
}

impl Columns<'_> {
    /// The next column. A row that is too short reads as NULL, and NULL where it may not be is refused.
    fn text(&mut self) -> Option<Box<str>> {
        self.cells
            .next()
            .and_then(Option::take)
            .map(String::into_boxed_str)
    }

    fn id(&mut self, column: &'static str) -> Result<Box<str>, Unreadable> {
        let what = "no value";
        self.text().ok_or(Unreadable { column, what })
    }

    fn date(&mut self, column: &'static str) -> Result<Option<UnixMs>, Unreadable> {
        let what = "no date we can read";
        self.text()
            .map(|text| moment(&text, self.zone_offset_seconds).ok_or(Unreadable { column, what }))
            .transpose()
    }

    fn flag(&mut self, column: &'static str) -> Result<bool, Unreadable> {
        let what = "neither true nor false";
        self.text().map_or(Ok(false), |text| {
            truth(&text).ok_or(Unreadable { column, what })
        })
    }
}

/// Decodes one row in the order of [`super::schema::FIELDS`].
///
/// A missing expiry counts as long past, as it does in the framework (`null < new Date()`).
///
/// What follows these columns is the framework's answer, field by field.
pub(super) fn decode(
    row: &mut Row,
    zone_offset_seconds: i32,
    document: &[Answered],
) -> Result<Record, Unreadable> {
    let document = answer(row.get(FIELDS.len()..), document, zone_offset_seconds);
    let mut columns = Columns {
        cells: row.iter_mut(),
        zone_offset_seconds,
    };
    Ok(Record {
        session_id: columns.id("session.id")?,
        token: Secret::new(columns.id("session.token")?),
        user_id: columns.id("session.userId")?,
        expires_at: columns.date("session.expiresAt")?.unwrap_or(UnixMs(0)),
        created_at: columns.date("session.createdAt")?,
        updated_at: columns.date("session.updatedAt")?,
        impersonated_by: columns.text(),
        organization_id: columns.text(),
        team_id: columns.text(),
        email: columns.text(),
        email_verified: columns.flag("user.emailVerified")?,
        name: columns.text(),
        role: columns.text(),
        banned: columns.flag("user.banned")?,
        ban_expires: columns.date("user.banExpires")?,
        document,
        organization_role: columns.text(),
    })
}

/// What the framework would answer. `None` where nobody wants to know, or where a cell holds what its type cannot be: then the app
/// is left to answer.
fn answer(
    cells: Option<&[Option<String>]>,
    fields: &[Answered],
    zone_offset_seconds: i32,
) -> Option<Box<str>> {
    let cells = cells.filter(|cells| !fields.is_empty() && cells.len() == fields.len())?;
    let (mut session, mut user) = (Map::new(), Map::new());
    for (field, cell) in fields.iter().zip(cells) {
        let value = match cell {
            None => Value::Null,
            Some(text) => json(text, field.kind, zone_offset_seconds)?,
        };
        let part = if field.of_session {
            &mut session
        } else {
            &mut user
        };
        part.insert(field.name.clone(), value);
    }
    let document = serde_json::json!({ "session": session, "user": user });
    Some(document.to_string().into_boxed_str())
}

pub(super) fn json(text: &str, kind: FieldKind, zone_offset_seconds: i32) -> Option<Value> {
    match kind {
        FieldKind::Text => Some(text.into()),
        FieldKind::Boolean => truth(text).map(Value::Bool),
        FieldKind::Date => moment(text, zone_offset_seconds)
            .and_then(document::iso)
            .map(Value::String),
        // A whole number stays whole: JavaScript writes 1.0 as 1.
        FieldKind::Number => match text.parse::<i64>() {
            Ok(whole) => Some(whole.into()),
            Err(_) => {
                let number = text.parse::<f64>().ok()?;
                match whole(number) {
                    Some(whole) => Some(whole.into()),
                    None => serde_json::Number::from_f64(number).map(Value::Number),
                }
            }
        },
        FieldKind::Json => serde_json::from_str(text).ok(),
    }
}

/// A whole number that JavaScript holds exactly.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    // Within these bounds nothing is cut off.
    #[allow(clippy::cast_possible_truncation)]
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// A row of [`super::schema::KEY_FIELDS`]. An end that cannot be read is over: a key without one would never end.
pub(super) fn decode_key(row: &Row, zone_offset_seconds: i32) -> Option<StoredKey> {
    let cell = |at: usize| row.get(at)?.clone();
    Some(StoredKey {
        id: cell(0)?,
        public: cell(1)?,
        expires_at: cell(3).map(|text| moment(&text, zone_offset_seconds).unwrap_or(UnixMs(0))),
        algorithm: cell(4).filter(|word| !word.is_empty()),
    })
}

/// How a stored date is written, for `vestibule check`.
pub(super) fn encoding(text: &str) -> &'static str {
    match number(text) {
        Some((_, _, true)) => "seconds",
        Some((_, _, false)) => "milliseconds",
        None => "date text",
    }
}

/// The instant a stored date means, in milliseconds, finer digits cut off as JavaScript's `Date` does.
///
/// Text without a zone is UTC wall-clock time moved by `zone_offset_seconds`.
pub(super) fn moment(text: &str, zone_offset_seconds: i32) -> Option<UnixMs> {
    let text = text.trim();
    match text {
        "infinity" => return Some(FOREVER),
        "-infinity" => return Some(UnixMs(0)),
        _ => {}
    }
    if let Some((whole, thousandths, seconds)) = number(text) {
        return if seconds {
            whole
                .checked_mul(1000)?
                .checked_add(thousandths)
                .map(UnixMs)
        } else {
            Some(UnixMs(whole))
        };
    }
    calendar(text, zone_offset_seconds)
}

/// A plain decimal number: its whole part, its first three decimals (signed like it), and whether its size says seconds.
///
/// Works on digits, not on floats: 1795229535.028 must not become …027.
fn number(text: &str) -> Option<(i64, i64, bool)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !(whole.bytes().chain(decimals.bytes())).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let seconds = whole.unsigned_abs() < SECONDS_BELOW;
    Some((sign * whole, sign * thousandths(decimals), seconds))
}

/// The first three of some decimal digits, as a number of thousandths.
fn thousandths(decimals: &str) -> i64 {
    let mut digits = decimals.bytes().map(|b| i64::from(b.saturating_sub(b'0')));
    (0..3).fold(0, |sum, _| sum * 10 + digits.next().unwrap_or(0))
}

/// `YYYY-MM-DD`, optionally with `T` or a space and `HH:MM[:SS[.digits]]`, optionally with `Z` or an offset such as `+00`, `+0530`, `+05:30`.
fn calendar(text: &str, zone_offset_seconds: i32) -> Option<UnixMs> {
    let (date, rest) = match text.find(['T', 't', ' ']) {
        Some(at) => (text.get(..at)?, Some(text.get(at + 1..)?)),
        None => (text, None),
    };
    let day = day(date)?;
    let Some(rest) = rest else {
        return instant(day, NaiveTime::MIN, 0, zone_offset_seconds);
    };
    let zone_at = rest.find(['Z', 'z', '+', '-']);
    let (clock, zone) = match zone_at {
        Some(at) => (rest.get(..at)?, Some(rest.get(at..)?)),
        None => (rest, None),
    };
    let offset = match zone {
        Some(zone) => zone_seconds(zone)?,
        None => zone_offset_seconds,
    };
    let (time, ms) = time_of_day(clock.trim_end())?;
    instant(day, time, ms, offset)
}

fn day(date: &str) -> Option<NaiveDate> {
    let mut parts = date.splitn(3, '-');
    let year = parts.next()?;
    let (month, day) = (two_digits(parts.next()?)?, two_digits(parts.next()?)?);
    if !(4..=6).contains(&year.len()) || !year.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    NaiveDate::from_ymd_opt(year.parse().ok()?, month, day)
}

fn time_of_day(clock: &str) -> Option<(NaiveTime, i64)> {
    let mut parts = clock.splitn(3, ':');
    let (hour, minute) = (two_digits(parts.next()?)?, two_digits(parts.next()?)?);
    let seconds = parts.next().unwrap_or("00");
    let (second, decimals) = seconds.split_once('.').unwrap_or((seconds, "0"));
    if decimals.is_empty() || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let time = NaiveTime::from_hms_opt(hour, minute, two_digits(second)?)?;
    Some((time, thousandths(decimals)))
}

fn two_digits(text: &str) -> Option<u32> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Seconds east of UTC.
pub(super) fn zone_seconds(zone: &str) -> Option<i32> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, digits) = match zone.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, zone.strip_prefix('+')?),
    };
    let digits = digits.replace(':', "");
    if !matches!(digits.len(), 2 | 4 | 6) {
        return None;
    }
    let part = |at: usize| digits.get(at..at + 2).map_or(Some(0), two_digits);
    let seconds = part(0)? * 3600 + part(2)? * 60 + part(4)?;
    Some(sign * i32::try_from(seconds).ok()?)
}

fn instant(day: NaiveDate, time: NaiveTime, ms: i64, offset_seconds: i32) -> Option<UnixMs> {
    let seconds = day.and_time(time).and_utc().timestamp() - i64::from(offset_seconds);
    Some(UnixMs(seconds.checked_mul(1000)?.checked_add(ms)?))
}

/// What a stored boolean means. MySQL's `BIT(1)` arrives as the byte itself.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.trim_matches(' ') {
        "1" | "1.0" | "t" | "true" | "TRUE" | "True" | "\u{1}" => Some(true),
        "" | "0" | "0.0" | "f" | "false" | "FALSE" | "False" | "\0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: UnixMs = UnixMs(1_795_229_535_028); // 2026-11-21T02:52:15.028Z

    #[test]
    fn every_way_of_writing_one_instant_reads_as_that_instant() {
        for text in [
            "2026-11-21T02:52:15.028Z",
            "2026-11-21 02:52:15.028",
            "2026-11-21 02:52:15.028+00",
            "2026-11-21 02:52:15.028000",
            "2026-11-21 02:52:15.028999+00",
            "2026-11-21T08:22:15.028+05:30",
            "2026-11-21T08:22:15.028+0530",
            "2026-11-20T21:52:15.028-05",
            "1795229535028",
            "1795229535028.0",
            "1795229535028.9",
            "1795229535.028",
            " 1795229535028 ",
        ] {
            assert_eq!(moment(text, 0), Some(AT), "{text}");
        }
    }

    #[test]
    fn coarser_dates_read_as_their_beginning() {
        assert_eq!(moment("1795229535", 0), Some(UnixMs(1_795_229_535_000)));
        assert_eq!(
            moment("2026-11-21T02:52Z", 0),
            Some(UnixMs(1_795_229_520_000))
        );
        assert_eq!(moment("2026-11-21", 0), Some(UnixMs(1_795_219_200_000)));
        assert_eq!(moment("infinity", 0), Some(FOREVER));
        assert_eq!(moment("-infinity", 0), Some(UnixMs(0)));
        assert_eq!(moment("0", 0), Some(UnixMs(0)));
        assert_eq!(moment("-1.5", 0), Some(UnixMs(-1500)));
    }

    #[test]
    fn the_border_between_seconds_and_milliseconds() {
        assert_eq!(moment("99999999999", 0), Some(UnixMs(99_999_999_999_000)));
        assert_eq!(moment("100000000000", 0), Some(UnixMs(100_000_000_000)));
    }

    #[test]
    fn a_zone_offset_moves_text_without_a_zone_and_nothing_else() {
        assert_eq!(moment("2026-11-20 21:52:15.028", -18_000), Some(AT));
        assert_eq!(moment("2026-11-21T02:52:15.028Z", -18_000), Some(AT));
        assert_eq!(moment("1795229535028", -18_000), Some(AT));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "never",
            "0000-00-00 00:00:00",
            "2026-13-01",
            "2026-02-30",
            "2026-11-21 25:00:00",
            "2026-11-21 02:52:15.",
            "2026-11-21 02:52:15+5",
            "2026-11-21 02:52:15 BC",
            "20261121",
            "1e12x",
            "1.7e12",
            "--1",
            "99999999999999999999",
            "é026-11-21",
        ] {
            if text == "20261121" {
                // Digits alone are a number of seconds; nothing can tell otherwise.
                assert!(moment(text, 0).is_some());
            } else {
                assert_eq!(moment(text, 0), None, "{text}");
            }
        }
    }

    #[test]
    fn booleans_of_every_database() {
        for text in ["1", "true", "t", "\u{1}", "1.0"] {
            assert_eq!(truth(text), Some(true), "{text}");
        }
        for text in ["0", "false", "f", "\0", "0.0", ""] {
            assert_eq!(truth(text), Some(false), "{text}");
        }
        assert_eq!(truth("maybe"), None);
    }

    fn row() -> Row {
        [
            "s1",
            "tok",
            "u1",
            "2037-01-02T03:04:05.678Z",
            "1795229535028",
            "1795229535",
            "admin",
            "org",
            "team",
            "ada@example.com",
            "1",
            "Ada",
            "user,admin",
            "0",
            "",
            "owner",
        ]
        .map(|text| (!text.is_empty()).then(|| text.to_owned()))
        .to_vec()
    }

    #[test]
    fn a_full_row_becomes_a_record() {
        let record = decode(&mut row(), 0, &[]).unwrap();
        assert_eq!(&*record.session_id, "s1");
        assert_eq!(record.token.expose(), "tok");
        assert_eq!(&*record.user_id, "u1");
        assert_eq!(record.expires_at, UnixMs(2_114_478_245_678));
        assert_eq!(record.created_at, Some(AT));
        assert_eq!(record.updated_at, Some(UnixMs(1_795_229_535_000)));
        assert_eq!(record.impersonated_by.as_deref(), Some("admin"));
        assert_eq!(record.organization_id.as_deref(), Some("org"));
        assert_eq!(record.team_id.as_deref(), Some("team"));
        assert_eq!(record.email.as_deref(), Some("ada@example.com"));
        assert!(record.email_verified);
        assert_eq!(record.name.as_deref(), Some("Ada"));
        assert_eq!(record.role.as_deref(), Some("user,admin"));
        assert!(!record.banned);
        assert_eq!(record.ban_expires, None);
        assert_eq!(record.organization_role.as_deref(), Some("owner"));
    }

    #[test]
    fn an_unreadable_cell_names_its_column_and_never_its_value() {
        for (at, column) in [
            (0, "session.id"),
            (1, "session.token"),
            (2, "session.userId"),
        ] {
            let mut row = row();
            row[at] = None;
            assert_eq!(decode(&mut row, 0, &[]).unwrap_err().column, column);
        }
        for (at, column) in [
            (3, "session.expiresAt"),
            (10, "user.emailVerified"),
            (13, "user.banned"),
            (14, "user.banExpires"),
        ] {
            let mut row = row();
            row[at] = Some("hunter2".into());
            let error = decode(&mut row, 0, &[]).unwrap_err();
            assert_eq!(error.column, column);
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn a_missing_expiry_is_long_past() {
        let mut row = row();
        row[3] = None;
        assert_eq!(decode(&mut row, 0, &[]).unwrap().expires_at, UnixMs(0));
    }

    proptest! {
        #[test]
        fn noise_never_panics(text in ".{0,40}", offset in -90_000i32..90_000) {
            let _ = moment(&text, offset);
            let _ = truth(&text);
            let _ = encoding(&text);
        }

        #[test]
        fn iso_text_and_milliseconds_agree(ms in 100_000_000_000i64..253_402_300_799_999) {
            let text = chrono::DateTime::from_timestamp_millis(ms).unwrap()
                .format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
            prop_assert_eq!(moment(&text, 0), Some(UnixMs(ms)));
            prop_assert_eq!(moment(&ms.to_string(), 0), Some(UnixMs(ms)));
        }
    }
}
