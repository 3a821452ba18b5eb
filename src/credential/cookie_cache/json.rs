//! JSON in the order and the spelling of JavaScript.
//!
//! The compact strategy signs what `JSON.stringify` made of the payload, and verifies what it makes of it again after parsing: the
//! order of keys, the digits of numbers and the form of dates all count.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::date;

/// The largest whole number up to which JavaScript keeps every one apart.
const WHOLE_MAX: u64 = 1 << 53;

/// A JSON value that keeps the order of keys. Nesting is bounded by the parser (128 levels).
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Truth(bool),
    /// A number, as JavaScript holds it.
    Number(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object, keys in the order they came.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses a text.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            // The last one counts when a key stands twice.
            Self::Object(fields) => {
                let mut fields = fields.iter().rev();
                fields
                    .find(|(found, _)| found == key)
                    .map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The same without the order. `None` when a key stands twice somewhere, or is one that JavaScript treats as more than a key:
    /// nothing the framework writes has either.
    pub fn into_value(self) -> Option<Value> {
        Some(match self {
            Self::Null => Value::Null,
            Self::Truth(truth) => Value::Bool(truth),
            Self::Number(number) => Value::Number(plain(number)?),
            Self::Text(text) => Value::String(text),
            Self::List(list) => Value::Array(
                list.into_iter()
                    .map(Self::into_value)
                    .collect::<Option<_>>()?,
            ),
            Self::Object(fields) => {
                let mut map = Map::new();
                for (key, value) in fields {
                    if key == "__proto__" || map.insert(key, value.into_value()?).is_some() {
                        return None;
                    }
                }
                Value::Object(map)
            }
        })
    }

    /// Writes it as `JSON.stringify` does, dates as `toISOString` does. `None` for texts that are dates to the framework and would
    /// come out otherwise than they went in.
    pub fn write(&self, out: &mut String) -> Option<()> {
        match self {
            Self::Null => out.push_str("null"),
            Self::Truth(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Self::Number(number) => write_number(*number, out)?,
            Self::Text(text) => {
                if date::parse(text).is_some_and(|date| !date.is_canonical) {
                    return None;
                }
                write_text(text, out)?;
            }
            Self::List(list) => {
                out.push('[');
                for (at, value) in list.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    value.write(out)?;
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (at, (key, value)) in in_js_order(fields).into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_text(key, out)?;
                    out.push(':');
                    value.write(out)?;
                }
                out.push('}');
            }
        }
        Some(())
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Truth(*truth),
            // Every number in a payload came from JavaScript, or is a moment in milliseconds.
            Value::Number(number) => number.as_f64().map_or(Self::Null, Self::Number),
            // What the framework would read as a date is written as one.
            Value::String(text) => Self::Text(match date::parse(text) {
                Some(date) if !date.is_canonical => date::write(date.at),
                _ => text.clone(),
            }),
            Value::Array(list) => Self::List(list.iter().map(Self::from).collect()),
            Value::Object(map) => Self::from(map),
        }
    }
}

impl From<&Map<String, Value>> for Json {
    fn from(map: &Map<String, Value>) -> Self {
        let fields = map.iter();
        Self::Object(
            fields
                .map(|(key, value)| (key.clone(), value.into()))
                .collect(),
        )
    }
}

/// Keys that are array indices come first, by number; the rest as they came.
fn in_js_order(fields: &[(String, Json)]) -> Vec<&(String, Json)> {
    let mut ordered: Vec<_> = fields.iter().collect();
    ordered.sort_by_key(|(key, _)| index(key).map_or((1, 0), |index| (0, index)));
    ordered
}

fn index(key: &str) -> Option<u32> {
    let canonical = key == "0" || !key.starts_with('0');
    let digits = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && digits)
        .then(|| key.parse().ok())?
        .filter(|index| *index < u32::MAX)
}

fn plain(number: f64) -> Option<Number> {
    // Within these bounds every whole f64 is exact.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    if number.fract() == 0.0 && number.abs() <= WHOLE_MAX as f64 {
        return Some(Number::from(number as i64));
    }
    Number::from_f64(number)
}

/// `serde_json` escapes as `JSON.stringify` does: the short forms, `\u00xx` in lower case, and nothing above.
fn write_text(text: &str, out: &mut String) -> Option<()> {
    out.push_str(&serde_json::to_string(text).ok()?);
    Some(())
}

/// `Number::toString` of ECMAScript: the shortest digits that mean this number, with an exponent only outside 1e-6 to 1e21.
fn write_number(number: f64, out: &mut String) -> Option<()> {
    use std::fmt::Write as _;

    if !number.is_finite() {
        return None;
    }
    if number == 0.0 {
        out.push('0');
        return Some(());
    }
    let shortest = format!("{:e}", number.abs());
    let (digits, exponent) = shortest.split_once('e')?;
    let digits = digits.replace('.', "");
    let exponent: i32 = exponent.parse().ok()?;
    let length = i32::try_from(digits.len()).ok()?;
    if number < 0.0 {
        out.push('-');
    }
    // Where the decimal point stands, counted in digits.
    let point = exponent + 1;
    if (1..=21).contains(&point) {
        if length <= point {
            out.push_str(&digits);
            (length..point).for_each(|_| out.push('0'));
        } else {
            let (whole, rest) = digits.split_at_checked(usize::try_from(point).ok()?)?;
            write!(out, "{whole}.{rest}").ok()?;
        }
    } else if (-5..=0).contains(&point) {
        out.push_str("0.");
        (point..0).for_each(|_| out.push('0'));
        out.push_str(&digits);
    } else {
        let (first, rest) = digits.split_at_checked(1)?;
        let dot = if rest.is_empty() { "" } else { "." };
        write!(out, "{first}{dot}{rest}e{exponent:+}").ok()?;
    }
    Some(())
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Json, E> {
        Ok(Json::Truth(truth))
    }

    // JavaScript has no other numbers: what is larger loses its last digits there too.
    #[allow(clippy::cast_precision_loss)]
    fn visit_i64<E: Error>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    #[allow(clippy::cast_precision_loss)]
    fn visit_u64<E: Error>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            fields.push(entry);
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn again(text: &str) -> Option<String> {
        let mut out = String::new();
        Json::parse(text)?.write(&mut out)?;
        Some(out)
    }

    #[test]
    fn numbers_are_written_as_javascript_writes_them() {
        for (given, written) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("1.0", "1"),
            ("1e3", "1000"),
            ("0.1", "0.1"),
            ("-12.50", "-12.5"),
            ("1781525100250", "1781525100250"),
            ("9007199254740993", "9007199254740992"),
            ("123456789012345680000", "123456789012345680000"),
            ("1e20", "100000000000000000000"),
            ("1e21", "1e+21"),
            ("1.5e300", "1.5e+300"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("1.25e-9", "1.25e-9"),
            ("5e-324", "5e-324"),
            ("52.520006599999998", "52.520006599999995"),
            ("0.30000000000000004", "0.30000000000000004"),
        ] {
            assert_eq!(again(given).as_deref(), Some(written), "{given}");
        }
    }

    #[test]
    fn keys_that_are_indices_come_first_by_number() {
        assert_eq!(
            again(r#"{"b":1,"10":1,"2":1,"01":1,"4294967295":1,"4294967294":1,"-1":2,"a":0}"#),
            Some(
                r#"{"2":1,"10":1,"4294967294":1,"b":1,"01":1,"4294967295":1,"-1":2,"a":0}"#.into()
            )
        );
    }

    #[test]
    fn texts_are_written_as_javascript_writes_them() {
        let text = r#""\u0041\/\u2028\u007f\b\f\n\r\t\u000b\u0001\"\\é""#;
        let written = "\"A/\u{2028}\u{7f}\\b\\f\\n\\r\\t\\u000b\\u0001\\\"\\\\é\"";
        assert_eq!(again(text).as_deref(), Some(written));
    }

    #[test]
    fn a_date_that_would_come_out_otherwise_is_refused() {
        assert_eq!(again(r#""2024-01-02T03:04:05Z""#), None);
        assert_eq!(again(r#""2024-02-30T03:04:05.678Z""#), None);
        for unchanged in [
            r#""2024-01-02T03:04:05.678Z""#,
            r#""2024-13-02T03:04:05Z""#,
            r#""2024-01-02T03:04:05+00:00""#,
        ] {
            assert_eq!(again(unchanged).as_deref(), Some(unchanged));
        }
    }

    #[test]
    fn what_stands_twice_has_no_value() {
        let twice = Json::parse(r#"{"a":{"b":1,"b":2}}"#).unwrap();
        assert_eq!(twice.into_value(), None);
        assert_eq!(
            Json::parse(r#"{"__proto__":1}"#).unwrap().into_value(),
            None
        );
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |levels| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Json::parse(&deep(100)).is_some());
        assert!(Json::parse(&deep(200)).is_none());
    }

    proptest! {
        #[test]
        fn every_number_survives(number in any::<f64>().prop_filter("JSON has no others", |n| n.is_finite())) {
            let mut text = String::new();
            write_number(number, &mut text).unwrap();
            prop_assert_eq!(text.parse::<f64>().unwrap(), number);
            prop_assert_eq!(again(&text), Some(text));
        }

        #[test]
        fn noise_never_panics(text in ".{0,60}") {
            let _ = again(&text);
        }
    }
}
