//! What readers of old sessions have in common: how a conversation goes on, cookies, signed tokens, seals, dates, PHP's own format.

pub mod cookie;
pub mod iron;
pub mod outside;
pub mod php;
pub mod token;
pub mod when;

use std::sync::Arc;

use http::HeaderMap;
use serde_json::Value;

use super::{Fields, Key, KeyKind, OldSession, Presented, Reading, Refusal, Sessions};
use crate::credential::key_set::KeySet;
use crate::migration::dialogue::{
    Answer, Ask, Dialogue, Given, Moment, Need, Row, RowQuery, Step, Unreachable,
};
use crate::secret::Secret;

/// Longest id of a user or session that is taken from an old system, in bytes. The longest known are addresses and Auth0's.
const ID_BYTES_MAX: usize = 512;

/// What a step of a reading comes to.
pub type Outcome = Result<Turn, Refusal>;

type Next = Box<dyn FnOnce(Given, Moment<'_>) -> Outcome + Send>;

/// Over, or to be gone on with once something is found out.
pub enum Turn {
    /// That is it.
    Over(Reading),
    /// This first, then that.
    First(Need, Next),
}

/// Somebody's session, alive.
pub fn alive(session: OldSession) -> Outcome {
    Ok(Turn::Over(Reading::Alive(Box::new(session))))
}

/// Nothing of this system.
pub fn nothing() -> Outcome {
    Ok(Turn::Over(Reading::Nothing))
}

/// It could not be found out.
pub fn unavailable(why: Unreachable) -> Outcome {
    Ok(Turn::Over(Reading::Unavailable(why)))
}

/// Asks for a key set and goes on with it.
pub fn with_keys(
    url: &url::Url,
    then: impl FnOnce(Arc<KeySet>, Moment<'_>) -> Outcome + Send + 'static,
) -> Outcome {
    let next: Next = Box::new(move |given, moment| match given {
        Given::Keys(Ok(set)) => then(set, moment),
        Given::Keys(Err(why)) => unavailable(why),
        _ => unavailable(Unreachable::Garbage),
    });
    Ok(Turn::First(Need::Keys(url.clone()), next))
}

/// Asks for a row and goes on with it.
pub fn with_row(
    query: RowQuery,
    then: impl FnOnce(Option<Row>, Moment<'_>) -> Outcome + Send + 'static,
) -> Outcome {
    let next: Next = Box::new(move |given, moment| match given {
        Given::Row(Ok(row)) => then(row, moment),
        Given::Row(Err(why)) => unavailable(why),
        _ => unavailable(Unreachable::Garbage),
    });
    Ok(Turn::First(Need::Row(query), next))
}

/// Asks for a value of the old system's Redis and goes on with it.
pub fn with_value(
    key: Secret,
    then: impl FnOnce(Option<Secret>, Moment<'_>) -> Outcome + Send + 'static,
) -> Outcome {
    let next: Next = Box::new(move |given, moment| match given {
        Given::Value(Ok(value)) => then(value, moment),
        Given::Value(Err(why)) => unavailable(why),
        _ => unavailable(Unreachable::Garbage),
    });
    Ok(Turn::First(Need::Value(key), next))
}

/// Asks the old system and goes on with its answer. One that says it cannot answer now, or does not know us, has told nothing of the
/// session.
pub fn with_answer(
    ask: Ask,
    then: impl FnOnce(Answer, Moment<'_>) -> Outcome + Send + 'static,
) -> Outcome {
    let next: Next = Box::new(move |given, moment| match given {
        Given::Answer(Ok(answer)) if answer.status == 429 || answer.status >= 500 => {
            unavailable(Unreachable::Refused)
        }
        Given::Answer(Ok(answer)) => then(answer, moment),
        Given::Answer(Err(why)) => unavailable(why),
        _ => unavailable(Unreachable::Garbage),
    });
    Ok(Turn::First(Need::Answer(Box::new(ask)), next))
}

/// A reading under way.
struct Conversation(Option<Next>);

impl Dialogue<Reading> for Conversation {
    fn step(&mut self, given: Given, moment: Moment<'_>) -> Step<Reading> {
        let Some(next) = self.0.take() else {
            return Step::Done(Reading::Nothing);
        };
        match next(given, moment) {
            Ok(Turn::Over(reading)) => Step::Done(reading),
            Ok(Turn::First(need, next)) => {
                self.0 = Some(next);
                Step::Need(need)
            }
            Err(refusal) => Step::Done(Reading::Refused(refusal)),
        }
    }
}

/// How one system's sessions are read: what of a request is its own, and what to make of that.
pub trait Reader: Send + Sync + 'static {
    /// What is taken from a request.
    type Found: Send + 'static;

    /// Whether a cookie of this name may be one of its session cookies.
    fn concerns(&self, cookie: &[u8]) -> bool;

    /// Whether a cookie of this name goes with the session when it ends.
    fn leaves_with(&self, cookie: &[u8]) -> bool {
        self.concerns(cookie)
    }

    /// Takes what is its own from what is presented.
    fn find(&self, presented: &Presented<'_>) -> Result<Option<Self::Found>, Refusal>;

    /// Begins to read it.
    fn begin(self: Arc<Self>, found: Self::Found, moment: Moment<'_>) -> Outcome;
}

/// A reader as the bridge calls it.
struct Shared<R>(Arc<R>);

/// Boxes a reader.
pub fn boxed(reader: impl Reader) -> Option<Box<dyn Sessions>> {
    Some(Box::new(Shared(Arc::new(reader))))
}

impl<R: Reader> Sessions for Shared<R> {
    fn concerns(&self, cookie: &[u8]) -> bool {
        self.0.concerns(cookie)
    }

    fn read(&self, presented: &Presented<'_>) -> Box<dyn Dialogue<Reading>> {
        let reader = Arc::clone(&self.0);
        let found = reader.find(presented);
        let begin: Next = Box::new(move |_, moment| match found? {
            Some(found) => reader.begin(found, moment),
            None => nothing(),
        });
        Box::new(Conversation(Some(begin)))
    }

    fn clear(&self, request: &HeaderMap, host: &str) -> Vec<String> {
        cookie::clear(request, host, |name| self.0.leaves_with(name))
    }
}

/// One key of a table.
pub const fn key(name: &'static str, kind: KeyKind, about: &'static str) -> Key {
    Key { name, about, kind }
}

/// Whether any of these keys was written: then the sessions are meant to be read.
pub fn any(fields: &Fields, keys: &[&str]) -> bool {
    keys.iter().any(|key| fields.values.contains_key(*key))
}

/// A text, or its default.
pub fn text(fields: &Fields, key: &str, default: &str) -> String {
    fields.text(key).map_or(default, Secret::expose).to_owned()
}

/// Texts, or their default.
pub fn texts(fields: &Fields, key: &str, default: &[&str]) -> Vec<String> {
    let written = fields.list(key);
    if written.is_empty() {
        return default.iter().map(|each| (*each).to_owned()).collect();
    }
    written
        .iter()
        .map(|each| each.expose().to_owned())
        .collect()
}

/// Secrets of which there must be one, none of them empty.
///
/// # Errors
/// Says which key is missing.
pub fn secrets(fields: &Fields, key: &str) -> Result<Vec<Secret>, String> {
    /// More than anybody rotates through; each is tried.
    const SECRETS_MAX: usize = 10;
    let written = fields.list(key);
    if written.is_empty() || written.iter().any(|each| each.expose().is_empty()) {
        return Err(format!("`{key}` is missing"));
    }
    if written.len() > SECRETS_MAX {
        return Err(format!("`{key}` may hold {SECRETS_MAX} at most"));
    }
    Ok(written)
}

/// An id as old systems write them: a text, or a whole number.
pub fn id(value: &Value) -> Option<String> {
    let id = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => return None,
    };
    is_id(&id).then_some(id)
}

/// Whether a text may be an id: not empty, not endless, nothing in it that splits lines.
pub fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// What stands at a dotted path of a value. Numbers name places of lists.
pub fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, step| match value {
        Value::Object(map) => map.get(step),
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// JSON of an old system's session. The parser bounds its depth itself.
pub fn json(text: &[u8]) -> Option<Value> {
    serde_json::from_slice(text).ok()
}

/// An address in the form in which addresses are kept: lower-case. `None`: it is none.
pub fn address(text: &str) -> Option<String> {
    let lower = text.trim().to_lowercase();
    (lower.contains('@') && is_id(&lower)).then_some(lower)
}
