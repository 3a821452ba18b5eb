//! What stands under a session's key: the framework's JSON, and what it means.
//!
//! Source: better-auth 1.7.24, `internal-adapter` (`findSession`, `isRevokedSession`, `updateSession`); golden data in
//! `tests/golden/redis.json`.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::session::Record;
use crate::session::document::Fields;
use crate::store::{Documents, schema};

/// What an entry holds that we cannot use; never its contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entry of a session {0}")]
pub(super) struct Unreadable(String);

impl Unreadable {
    fn because(what: &str) -> Self {
        Self(what.to_owned())
    }
}

/// One session as Redis holds it.
#[derive(Debug)]
pub(super) struct Entry {
    /// The session and its user.
    pub(super) record: Record,
    /// When it began, as JavaScript reckons: not a number where nothing is said.
    created_ms: f64,
}

impl Entry {
    /// Reads what stands under the key of `token`. `None`: what the framework takes for no session.
    ///
    /// With `documents`, the record carries the framework's whole answer, where it is known.
    pub(super) fn read(
        bytes: &[u8],
        token: &str,
        documents: Option<&Documents>,
    ) -> Result<Option<Self>, Unreadable> {
        let Some((document, is_whole)) = parse(bytes)? else {
            return Ok(None);
        };
        match &document {
            // What is false in JavaScript.
            Value::Null | Value::Bool(false) => return Ok(None),
            Value::String(text) if text.is_empty() => return Ok(None),
            Value::Number(number) if number.as_f64() == Some(0.0) => return Ok(None),
            _ => {}
        }
        let object = |key: &str| document.get(key).and_then(Value::as_object);
        // The framework answers 500 to what follows. Nobody knows then who it is, so nobody gets in and nobody is signed out.
        let (Some(session), Some(user)) = (object("session"), object("user")) else {
            return Err(Unreadable::because("lacks the session or its user"));
        };
        let mut record = Record::from_document(session, user)
            .map_err(|wrong| Unreadable(format!("cannot be used: {wrong}")))?;
        // Stricter than the framework, which takes the key's word for it: nobody may be told to be somebody else because an entry
        // was copied.
        if record.token.expose() != token {
            return Ok(None);
        }
        if id(session, "userId").as_deref() != Some(&*record.user_id) {
            return Err(Unreadable::because("names one user and holds another"));
        }
        // Entries hold what the app keeps to itself, too (`returned: false`).
        record.document = documents
            .filter(|_| is_whole)
            .and_then(|documents| schema::answer(session, user, documents))
            .map(String::into_boxed_str);
        #[allow(clippy::cast_precision_loss)]
        let created_ms = match (session.get("createdAt"), record.created_at) {
            (_, Some(at)) => at.0 as f64,
            // `new Date(null)` is the epoch, `new Date(undefined)` is no date.
            (Some(Value::Null), None) => 0.0,
            (_, None) => f64::NAN,
        };
        Ok(Some(Self { record, created_ms }))
    }

    /// Whether it is among those that `revoked-sessions-before-<userId>` ends.
    pub(super) fn is_before(&self, revoked_before: &[u8]) -> bool {
        number(revoked_before).is_some_and(|before| self.created_ms < before)
    }
}

/// An id as JavaScript puts it into a text.
fn id(fields: &Fields, key: &str) -> Option<Box<str>> {
    match fields.get(key)? {
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into_boxed_str()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What `Number(text)` makes of a text in decimal. `None`: nothing that compares.
pub(super) fn number(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim();
    match text {
        "" => Some(0.0),
        "Infinity" | "+Infinity" => Some(f64::INFINITY),
        // Rust would also read "inf" and "nan".
        text if text
            .bytes()
            .any(|b| b.is_ascii_alphabetic() && !matches!(b, b'e' | b'E')) =>
        {
            None
        }
        text => text.parse().ok().filter(|number: &f64| !number.is_nan()),
    }
}

/// A value, and whether it is held as it is written. `None`: no JSON. What is JSON and cannot be held is an error, so that nobody is
/// signed out over it.
fn parse(bytes: &[u8]) -> Result<Option<(Value, bool)>, Unreadable> {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(value) = serde_json::from_str(&text) {
        return Ok(Some((value, matches!(text, Cow::Borrowed(_)))));
    }
    // A name cut in the middle of an emoji: JavaScript writes half a character, which no Rust text can hold.
    if let Some(whole) = without_halves(&text)
        && let Ok(value) = serde_json::from_str(&whole)
    {
        return Ok(Some((value, false)));
    }
    match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        Ok(_) => Err(Unreadable::because("is JSON that cannot be held")),
        Err(_) => Ok(None),
    }
}

/// The text with every escape that is half of a surrogate pair replaced by U+FFFD. `None` when there is none.
fn without_halves(text: &str) -> Option<String> {
    let unit = |at: usize| -> Option<u16> {
        let escape = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(escape, 16).ok()
    };
    let mut whole = String::new();
    let (mut at, mut from) = (0, 0);
    while let Some(found) = text.get(at..)?.find('\\') {
        at += found;
        let length = match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                whole.push_str(text.get(from..at)?);
                whole.push_str("\\ufffd");
                from = at + 6;
                6
            }
            (Some(_), _) => 6,
            // Another escape: the letter behind it is not the beginning of one.
            (None, _) => 1 + text.get(at + 1..)?.chars().next().map_or(0, char::len_utf8),
        };
        at += length;
    }
    if from == 0 {
        return None;
    }
    whole.push_str(text.get(from..)?);
    Some(whole)
}

/// An object whose values stay as they are written, in their order.
pub(super) struct Verbatim<'t>(Vec<(String, &'t RawValue)>);

impl<'t> Verbatim<'t> {
    /// Splits an object. `None`: it is none.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The text of one value.
    pub(super) fn get(&self, key: &str) -> Option<&'t str> {
        // As in JavaScript, the last one counts.
        let found = self.0.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value.get())
    }

    /// The object as JavaScript would write it, with some values replaced where they stand, or added at its end.
    pub(super) fn with(&self, replaced: &[(&str, String)]) -> String {
        let mut members: Vec<(&str, &str)> = Vec::new();
        for (key, value) in &self.0 {
            let new = replaced.iter().find(|(name, _)| name == key);
            let value = new.map_or_else(|| value.get(), |(_, text)| text);
            match members.iter_mut().find(|(name, _)| name == key) {
                Some(member) => member.1 = value,
                None => members.push((key, value)),
            }
        }
        for (key, value) in replaced {
            if !members.iter().any(|(name, _)| name == key) {
                members.push((key, value));
            }
        }
        let members: Vec<String> = members
            .into_iter()
            .map(|(key, value)| format!("{}:{value}", Value::from(key)))
            .collect();
        format!("{{{}}}", members.join(","))
    }
}

impl<'de: 't, 't> serde::Deserialize<'de> for Verbatim<'t> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<'t>(std::marker::PhantomData<&'t ()>);

        impl<'de: 't, 't> serde::de::Visitor<'de> for Members<'t> {
            type Value = Verbatim<'t>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Verbatim(members))
            }
        }

        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn written(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut document = json!({
            "session": {
                "id": "s1", "token": "tok", "userId": "u1", "expiresAt": "2099-01-01T00:00:00.000Z",
                "createdAt": "2030-01-01T00:00:00.000Z", "updatedAt": "2030-01-01T00:00:00.000Z",
            },
            "user": {
                "id": "u1", "email": "ada@example.com", "emailVerified": true, "name": "Ada",
                "createdAt": "2030-01-01T00:00:00.000Z", "updatedAt": "2030-01-01T00:00:00.000Z",
            },
        });
        change(&mut document);
        document.to_string().into_bytes()
    }

    fn read(bytes: &[u8]) -> Result<Option<Entry>, Unreadable> {
        Entry::read(bytes, "tok", None)
    }

    #[test]
    fn an_entry_becomes_a_record() {
        let entry = read(&written(|_| {})).unwrap().unwrap();
        assert_eq!(&*entry.record.user_id, "u1");
        assert_eq!(entry.record.name.as_deref(), Some("Ada"));
    }

    /// The answer about an entry, where `user.plan` is shown and `user.note` is not.
    fn answered(change: impl FnOnce(&mut Value)) -> Option<Value> {
        use crate::store::FieldKind;

        let documents = Documents {
            shown: vec![
                ("user.plan".into(), FieldKind::Text),
                ("user.seats".into(), FieldKind::Number),
                ("user.since".into(), FieldKind::Date),
                ("session.device".into(), FieldKind::Json),
            ],
            hidden: vec!["user.note".into()],
        };
        let entry = Entry::read(&written(change), "tok", Some(&documents));
        let document = entry.unwrap().unwrap().record.document?;
        Some(serde_json::from_str(&document).unwrap())
    }

    #[test]
    fn the_answer_holds_what_is_listed_and_nothing_that_is_hidden() {
        let whole = |change: fn(&mut Value)| {
            let mut document: Value = serde_json::from_slice(&written(change)).unwrap();
            document["user"].as_object_mut().unwrap().remove("note");
            document
        };
        let fine: [fn(&mut Value); 5] = [
            |_| {},
            |entry| entry["user"]["note"] = json!("our secret"),
            |entry| entry["user"]["plan"] = json!("pro"),
            |entry| entry["user"]["seats"] = json!(3),
            |entry| entry["session"]["device"] = json!({"os": ["x"]}),
        ];
        for change in fine {
            assert_eq!(answered(change), Some(whole(change)));
        }
        let finer = answered(|entry| entry["user"]["since"] = json!("2030-01-01T00:00:00Z"));
        assert_eq!(finer.unwrap()["user"]["since"], "2030-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_field_that_nobody_has_listed_leaves_the_answer_to_the_app() {
        let odd: [fn(&mut Value); 10] = [
            |entry| entry["session"]["createdAt"] = json!(null),
            |entry| drop(entry["user"].as_object_mut().unwrap().remove("updatedAt")),
            |entry| entry["user"]["passportNumber"] = json!("x"),
            |entry| entry["session"]["riskScore"] = json!(null),
            // Hidden in one table is not hidden in the other.
            |entry| entry["session"]["note"] = json!("x"),
            |entry| entry["user"]["plan"] = json!(1),
            |entry| entry["user"]["seats"] = json!(12_345_678_901_234_567_890_u64),
            |entry| entry["user"]["since"] = json!(1_893_456_000_000_i64),
            |entry| entry["user"]["emailVerified"] = json!(1),
            |entry| entry["user"]["image"] = json!({"url": "x"}),
        ];
        for (at, change) in odd.into_iter().enumerate() {
            assert_eq!(answered(change), None, "{at}");
        }
        // Half a character was lost on the way.
        let text = String::from_utf8(written(|_| {})).unwrap();
        let text = text.replace("Ada", r"Ada \ud83d");
        let entry = Entry::read(text.as_bytes(), "tok", Some(&Documents::default()));
        assert_eq!(entry.unwrap().unwrap().record.document, None);
    }

    #[test]
    fn what_is_no_json_or_false_is_no_session() {
        for text in ["{oops", "null", "false", "0", "-0.0", "\"\"", "", "\u{1}"] {
            assert!(read(text.as_bytes()).unwrap().is_none(), "{text}");
        }
    }

    #[test]
    fn json_without_a_session_is_unreadable_and_not_absent() {
        for text in [
            "5",
            "true",
            "\"text\"",
            "[]",
            "[1]",
            "{}",
            "{\"session\":{}}",
            "1e999",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        for part in ["session", "user"] {
            let null = written(|document| document[part] = Value::Null);
            assert!(read(&null).is_err());
        }
        let other = written(|document| document["user"]["id"] = json!("u2"));
        assert!(read(&other).is_err());
        let nobody = written(|document| {
            document["session"]
                .as_object_mut()
                .unwrap()
                .remove("userId");
        });
        assert!(read(&nobody).is_err());
    }

    #[test]
    fn an_entry_under_another_key_is_not_its_session() {
        assert!(
            Entry::read(&written(|_| {}), "other", None)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn the_moment_of_revocation_counts_to_the_millisecond() {
        let entry = read(&written(|_| {})).unwrap().unwrap();
        for (before, ended) in [
            ("1893456000000", false),
            ("1893456000001", true),
            (" 1893456000001 ", true),
            ("1.893456000001e12", true),
            ("Infinity", true),
            ("", false),
            ("notanumber", false),
            ("inf", false),
            ("NaN", false),
            ("-1", false),
        ] {
            assert_eq!(entry.is_before(before.as_bytes()), ended, "{before}");
        }
        let no_date = read(&written(|document| {
            document["session"]
                .as_object_mut()
                .unwrap()
                .remove("createdAt");
        }));
        assert!(!no_date.unwrap().unwrap().is_before(b"1893456000001"));
        let null = read(&written(|document| {
            document["session"]["createdAt"] = Value::Null
        }));
        assert!(null.unwrap().unwrap().is_before(b"1"));
    }

    #[test]
    fn half_a_character_in_a_name_locks_nobody_out() {
        for (name, read_as) in [
            (r"Ada \ud83d", "Ada \u{fffd}"),
            (r"\ude00 Ada", "\u{fffd} Ada"),
            (r"\ud83d\ude00 \ud83d!", "\u{1f600} \u{fffd}!"),
            (r"\\ud83d \ud83d", "\\ud83d \u{fffd}"),
        ] {
            let text = String::from_utf8(written(|_| {})).unwrap();
            let text = text.replace("Ada", name);
            let entry = read(text.as_bytes()).unwrap().unwrap();
            assert_eq!(entry.record.name.as_deref(), Some(read_as));
        }
    }

    #[test]
    fn what_is_not_replaced_stays_letter_for_letter() {
        let text = r#"{"b": 1.50,"a":"\u00e9","b":[ ],"n":12345678901234567890}"#;
        let object = Verbatim::parse(text).unwrap();
        assert_eq!(object.get("b"), Some("[ ]"));
        assert_eq!(
            object.with(&[("a", "7".into()), ("z", "8".into())]),
            r#"{"b":[ ],"a":7,"n":12345678901234567890,"z":8}"#
        );
        assert!(Verbatim::parse("[]").is_none());
    }

    proptest! {
        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&bytes);
            let _ = number(&bytes);
        }

        #[test]
        fn broken_escapes_never_panic(text in r#"[\\ud8DcCé"{}:0-9a-f]{0,40}"#) {
            let _ = without_halves(&text);
            let _ = Verbatim::parse(&text);
        }
    }
}
