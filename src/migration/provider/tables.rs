//! What the exports of systems with tables of their own are written with: rows of a dump, of a database as JSON, or of a table's own CSV.

use serde_json::{Map, Value};

use crate::migration::import::normalise::Draft;
use crate::migration::import::record::{Note, Oddity, Record};
use crate::migration::import::source::{About, Entry, Form, Fragment, Joined, id, members};
use crate::migration::import::{normalise, record::Place};

/// The forms of one table.
pub(super) const TABLE: &[Form] = &[Form::Csv, Form::Json, Form::Ndjson, Form::Sql];

/// The forms of all tables.
pub(super) const TABLES: &[Form] = &[Form::Sql, Form::Json];

/// The first of these columns that is there.
pub(super) fn first<'v>(value: &'v Value, names: &[&str]) -> Option<&'v Value> {
    names
        .iter()
        .find_map(|name| value.get(*name).filter(|value| !value.is_null()))
}

/// A fragment about the user whose id stands in one of these columns.
pub(super) fn of_user(
    entry: &Entry,
    columns: &[&str],
    part: &'static str,
) -> Result<Vec<Fragment>, Note> {
    let found = columns
        .iter()
        .find_map(|column| id(&entry.value, &format!("/{column}")));
    match found {
        Some(key) => Ok(vec![entry.fragment_of(About::User, key, part)]),
        None => {
            let column = columns.first().copied().unwrap_or_default();
            entry.fragment(About::User, &format!("/{column}"), part)
        }
    }
}

/// The newest row of a user, and a draft that begins with them.
pub(super) fn begin<'j>(
    joined: &'j Joined,
    stamp: &str,
) -> Result<(&'j Value, Draft), Box<Record>> {
    let Some(newest) = joined.newest("user", stamp) else {
        let why = "a row of nobody: no such user is in the export";
        return Err(Box::new(normalise::refused(joined, Oddity::Dangling, why)));
    };
    let place: Place = joined.place();
    let mut draft = Draft::new(place, joined.key.clone());
    if joined.differs("user") {
        draft.note(
            Oddity::RepeatedId,
            "the id stands there more than once: the newest counts",
        );
    }
    Ok((&newest.value, draft))
}

/// Members that none of these names takes.
pub(super) fn others(value: &Value, ours: &[&str]) -> Value {
    let all = members(Some(value)).into_iter();
    let others = all.filter(|(name, value)| !ours.contains(&name.as_str()) && !value.is_null());
    Value::Object(others.collect::<Map<_, _>>())
}
