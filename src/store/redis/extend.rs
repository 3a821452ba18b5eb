//! A longer life for an entry, written as the framework writes it.
//!
//! Source: better-auth 1.7.24, `internal-adapter` (`updateSession`, `setActiveSessionReferences`).

use std::sync::Arc;

use redis::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::entry::{Entry, Verbatim};
use super::line::Failure;
use super::{Redis, Secondary, VALUE_BYTES_MAX, garbage, may_be_token};
use crate::secret::Secret;
use crate::session::document;
use crate::session::extend::Extend;
use crate::session::{BoxFuture, SourceError};
use crate::time::UnixMs;

/// Writes entry and list, if both are still what was seen. Answers 1 when written, 0 when the entry is another one by now, 2 when the
/// list is.
const WRITE: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[4] then return 2 end
redis.call('SETEX', KEYS[1], ARGV[3], ARGV[2])
redis.call('SETEX', KEYS[2], ARGV[6], ARGV[5])
return 1";

/// How often the write is tried while the user signs in and out elsewhere.
const WRITES_MAX: usize = 3;

/// An expiry to move.
#[derive(Clone, Copy)]
pub(super) struct Move {
    pub(super) seen: UnixMs,
    pub(super) until: UnixMs,
    pub(super) now: UnixMs,
}

impl Extend for Secondary {
    fn extend<'a>(
        &'a self,
        token: &'a str,
        seen: UnixMs,
        until: UnixMs,
        now: UnixMs,
    ) -> BoxFuture<'a, Result<bool, SourceError>> {
        let (redis, token) = (Arc::clone(&self.0), Secret::new(token));
        Box::pin(self.0.line.at_home(async move {
            let to = Move { seen, until, now };
            redis.extend(token.expose(), to).await
        }))
    }
}

impl Redis {
    async fn extend(&self, token: &str, to: Move) -> Result<bool, SourceError> {
        if !may_be_token(token) {
            return Ok(false);
        }
        let began = Instant::now();
        let deadline = began + self.line.timeout;
        let told = |failure: Failure| failure.into_source_error(began);
        for _ in 0..WRITES_MAX {
            let seen = self.value(token, VALUE_BYTES_MAX, deadline).await;
            let seen = seen.map_err(told)?;
            if seen.is_empty() {
                return Ok(false);
            }
            let Some(entry) = Entry::read(&seen, token, None).map_err(garbage)? else {
                return Ok(false);
            };
            // A session that was ended stays so, even where its entry outlived that: a longer one could outlive the mark as well.
            if entry.record.expires_at != to.seen
                || self.is_revoked(&entry, deadline).await.map_err(told)?
            {
                return Ok(false);
            }
            let list_name = format!("active-sessions-{}", entry.record.user_id);
            let list = self.value(&list_name, VALUE_BYTES_MAX, deadline).await;
            let list = list.map_err(told)?;
            let unwritable = || garbage("the entry of a session cannot be written anew");
            let longer = longer_entry(&seen, to).ok_or_else(unwritable)?;
            let (longer_list, furthest) = longer_list(&list, token, to);
            let (Some(seconds), Some(list_seconds)) =
                (seconds(to.now, to.until), seconds(to.now, furthest))
            else {
                return Ok(false);
            };
            let mut write = redis::cmd("EVAL");
            write.arg(WRITE).arg(2);
            write.arg(self.key(token)).arg(self.key(&list_name));
            write.arg(seen).arg(longer).arg(seconds);
            write.arg(list).arg(longer_list).arg(list_seconds);
            match self.line.ask(&write, deadline).await.map_err(told)? {
                Value::Int(1) => return Ok(true),
                Value::Int(0) => return Ok(false),
                _ => {}
            }
        }
        Ok(false)
    }
}

/// Whole seconds of life left, rounded down. `None`: none.
pub(super) fn seconds(now: UnixMs, until: UnixMs) -> Option<i64> {
    Some(until.0.saturating_sub(now.0) / 1000).filter(|seconds| *seconds > 0)
}

/// The entry with its new expiry. Everything else stays as it is written: what we do not know of is the app's.
fn longer_entry(bytes: &[u8], to: Move) -> Option<String> {
    let entry = Verbatim::parse(std::str::from_utf8(bytes).ok()?)?;
    let session = Verbatim::parse(entry.get("session")?)?;
    let session = session.with(&[("expiresAt", iso(to.until)?), ("updatedAt", iso(to.now)?)]);
    let user = entry.get("user")?;
    Some(format!(r#"{{"session":{session},"user":{user}}}"#))
}

/// The list of the user's sessions with the new expiry among them, and the furthest of all. The dead are left out, and a list that
/// cannot be read begins anew, as in the framework.
pub(super) fn longer_list(bytes: &[u8], token: &str, to: Move) -> (String, UnixMs) {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let entries: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    let mut kept: Vec<(UnixMs, String)> = entries
        .into_iter()
        .filter_map(|entry| {
            let value: serde_json::Value = serde_json::from_str(entry.get()).ok()?;
            let expires_at = document::moment(value.get("expiresAt")?)?;
            let other = value.get("token")?.as_str()? != token;
            (other && expires_at > to.now).then(|| (expires_at, entry.get().to_owned()))
        })
        .collect();
    let own = serde_json::Value::from(token);
    kept.push((
        to.until,
        format!(r#"{{"token":{own},"expiresAt":{}}}"#, to.until.0),
    ));
    kept.sort_by_key(|(expires_at, _)| *expires_at);
    let furthest = kept.last().map_or(to.until, |(expires_at, _)| *expires_at);
    let texts: Vec<String> = kept.into_iter().map(|(_, text)| text).collect();
    (format!("[{}]", texts.join(",")), furthest)
}

/// The list without one token; nothing where that was the last. Letter for letter otherwise: whether others are dead is not asked.
pub(super) fn without(bytes: &[u8], token: &str) -> String {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let entries: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    let other = |entry: &&RawValue| {
        let value = serde_json::from_str::<serde_json::Value>(entry.get());
        value.is_ok_and(|value| {
            value.get("token").and_then(serde_json::Value::as_str) != Some(token)
        })
    };
    let kept: Vec<&str> = entries
        .into_iter()
        .filter(other)
        .map(RawValue::get)
        .collect();
    match kept.is_empty() {
        true => String::new(),
        false => format!("[{}]", kept.join(",")),
    }
}

/// A date as JavaScript's `JSON.stringify` writes it, quotes included. `None`: beyond the year 9999.
pub(super) fn iso(at: UnixMs) -> Option<String> {
    use chrono::Datelike as _;

    let at = chrono::DateTime::from_timestamp_millis(at.0)?;
    (0..=9999)
        .contains(&at.year())
        .then(|| at.format("\"%Y-%m-%dT%H:%M:%S%.3fZ\"").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Move = Move {
        seen: UnixMs(2_000_000),
        until: UnixMs(1_795_834_086_039),
        now: UnixMs(1_795_229_286_039),
    };

    #[test]
    fn an_entry_keeps_what_it_has() {
        let written = r#"{"user":{"id":"u","n":1.50},"session":{"id":"s","expiresAt":2000000,"x":[],"createdAt":5}}"#;
        assert_eq!(
            longer_entry(written.as_bytes(), TO).unwrap(),
            r#"{"session":{"id":"s","expiresAt":"2026-11-28T02:48:06.039Z","x":[],"createdAt":5,"updatedAt":"2026-11-21T02:48:06.039Z"},"user":{"id":"u","n":1.50}}"#
        );
        for text in ["", "[]", "{}", r#"{"session":[],"user":{}}"#] {
            assert_eq!(longer_entry(text.as_bytes(), TO), None, "{text}");
        }
    }

    #[test]
    fn a_list_is_sorted_and_loses_its_dead() {
        let list = r#"[{"token":"dead","expiresAt":1795229286039},{"token":"me","expiresAt":9},{"token":"far","expiresAt":1795834086040},{"token":"near","expiresAt":1795229286040}]"#;
        let (list, furthest) = longer_list(list.as_bytes(), "me", TO);
        assert_eq!(
            list,
            r#"[{"token":"near","expiresAt":1795229286040},{"token":"me","expiresAt":1795834086039},{"token":"far","expiresAt":1795834086040}]"#
        );
        assert_eq!(furthest, UnixMs(1_795_834_086_040));
        for nonsense in ["", "{}", "[", "null"] {
            let (list, furthest) = longer_list(nonsense.as_bytes(), "me", TO);
            assert_eq!(list, r#"[{"token":"me","expiresAt":1795834086039}]"#);
            assert_eq!(furthest, TO.until);
        }
    }

    #[test]
    fn seconds_are_whole_and_rounded_down() {
        assert_eq!(seconds(UnixMs(0), UnixMs(1999)), Some(1));
        assert_eq!(seconds(UnixMs(0), UnixMs(999)), None);
        assert_eq!(seconds(UnixMs(5), UnixMs(0)), None);
    }
}
