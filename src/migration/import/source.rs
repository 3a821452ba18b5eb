//! What an old system exports, told as data: its inputs, how an entry of each becomes fragments, and how the fragments of one id become
//! records.
//!
//! A user's facts may stand in several files and pages: a row with the hash, an object with the profile, a list of accounts elsewhere.
//! Each entry becomes [`Fragment`]s under the id that joins them. Whoever runs an import keeps the fragments outside of memory, gives
//! them back grouped by id, and asks the source to compose each group.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::pages::Listing;
use super::record::{Note, Oddity, Place, Record};
use crate::migration::provider::{Field, Fields, Key, KeyKind};
use crate::secret::Secret;
use crate::time::UnixMs;

/// The listings of an API, or which of the options they need is missing.
pub type Listings = fn(&Options) -> Result<Vec<Listing>, String>;

/// What can be taken out of one old system. One constant per provider, listed in `provider::EXPORTS`.
pub struct Export {
    /// What it can be given.
    pub inputs: &'static [Input],
    /// The keys of its options file.
    pub keys: &'static [&'static [Key]],
    /// All fragments of one id, to the records they come to: at least one of them, so that nobody is lost.
    pub compose: fn(&Joined, &Options) -> Vec<Record>,
    /// The listings of its API, in the order in which they are walked.
    pub pages: Option<Listings>,
    /// Queries of its own database, for reading it directly.
    pub queries: &'static [Query],
    /// It was written from documentation: no export of the real system was tried.
    pub experimental: bool,
}

impl Export {
    /// The input of this name.
    pub fn input(&self, name: &str) -> Option<&'static Input> {
        self.inputs.iter().find(|input| input.name == name)
    }
}

/// One file, or one listing of an API.
pub struct Input {
    /// The word before `=` in `--input NAME=FILE`, and of the listing that fills it.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Whether nothing can be imported without it.
    pub required: bool,
    /// The forms it comes in.
    pub forms: &'static [Form],
    /// Where the entries are in a file that is one JSON object.
    pub lists: Lists,
    /// How one entry becomes fragments: at least one, or the reason why there is none. None at all is for rows of tables that say nothing
    /// of users.
    pub part: fn(&Entry, &Options) -> Result<Vec<Fragment>, Note>,
}

/// A form of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// RFC 4180, the first row names the columns. An entry is an object of texts; an empty cell is null.
    Csv,
    /// The same without a row of names. An entry is a list of texts.
    Cells,
    /// A JSON list, an object that holds one, one object after another.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// What `pg_dump` or `mysqldump` writes. An entry is an object of texts; NULL is null.
    Sql,
}

/// Where the entries are in a file that is one JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// In these members. An object that has none of them is an entry itself.
    Named(&'static [&'static str]),
    /// In every member that is a list: the member's name is the entry's table (a database as JSON; lists by user id).
    Any,
}

/// One row, object or line, read and not yet understood.
#[derive(Clone, PartialEq)]
pub struct Entry {
    /// The table or the member of the file it stood in; empty where there is none.
    pub table: String,
    /// Where.
    pub place: Place,
    /// What it says.
    pub value: Value,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Rows hold hashes and tokens.
        write!(out, "Entry({:?})", self.place)
    }
}

/// Whom or what a fragment is about. In this order everything is written: a membership needs its user and its organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// Somebody.
    User,
    /// An organization.
    Organization,
    /// A membership.
    Member,
    /// An invitation.
    Invitation,
}

/// Part of what is known of one id. Fragments of one `about` and one `key` belong together.
#[derive(Clone, PartialEq)]
pub struct Fragment {
    /// Whom or what it is about.
    pub about: About,
    /// The id that joins.
    pub key: String,
    /// Which part of it.
    pub part: Cow<'static, str>,
    /// Where it was read.
    pub place: Place,
    /// What was read. May hold hashes and tokens.
    pub value: Value,
}

impl std::fmt::Debug for Fragment {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "Fragment({:?}, {}, {:?})",
            self.about, self.part, self.place
        )
    }
}

/// An entry that became nothing. It goes into the report as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where.
    pub place: Place,
    /// The id in the old system, where at least that could be read.
    pub source_id: Option<String>,
    /// Why.
    pub note: Note,
}

impl From<Refusal> for Record {
    fn from(refusal: Refusal) -> Self {
        Self::Refused {
            place: refusal.place,
            source_id: refusal.source_id,
            note: refusal.note,
        }
    }
}

/// A query of the old system's own database.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The input its rows go to.
    pub input: &'static str,
    /// The table, with its schema. Where there is none, there is nothing to read, unless the input is required.
    pub table: &'static str,
    /// Answers one column: the row as JSON, in an order that is always the same.
    pub sql: &'static str,
}

/// All fragments of one id, in the order in which they were read.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Whom or what they are about.
    pub about: About,
    /// The id.
    pub key: String,
    /// At least one.
    pub fragments: Vec<Fragment>,
}

impl Joined {
    /// Where the first of them was read.
    pub fn place(&self) -> Place {
        let first = self.fragments.first().map(|first| first.place.clone());
        first.unwrap_or_else(|| Place {
            input: "".into(),
            row: 0,
        })
    }

    /// The fragments of a part.
    pub fn all(&self, part: &'static str) -> impl Iterator<Item = &Fragment> {
        self.fragments.iter().filter(move |one| one.part == part)
    }

    /// The newest fragment of a part: the one whose member of this name is biggest, the last one among equals. Lists that are walked
    /// while somebody signs up repeat users.
    pub fn newest(&self, part: &'static str, stamp: &str) -> Option<&Fragment> {
        let stamped = |one: &&Fragment| {
            let value = one.value.pointer(stamp)?;
            super::normalise::instant(value).ok().flatten()
        };
        self.all(part).max_by_key(stamped)
    }

    /// Whether a part stands there twice with different content.
    pub fn differs(&self, part: &'static str) -> bool {
        let mut all = self.all(part).map(|one| &one.value);
        let first = all.next();
        first.is_some_and(|first| all.any(|other| other != first))
    }
}

/// What the operator said besides the inputs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The values of the source's own keys.
    pub fields: Fields,
    /// Our field, and where the source has it: the name of a column, or a JSON pointer.
    pub columns: BTreeMap<String, String>,
    /// The old system's word for a role, and Better Auth's.
    pub roles: BTreeMap<String, String>,
    /// The old system's word for a provider of social accounts, and Better Auth's.
    pub providers: BTreeMap<String, String>,
    /// Names of the inputs that are given in this run.
    pub given: BTreeSet<String>,
    /// When the export was made, where it is known.
    pub exported_at: Option<UnixMs>,
    /// The present.
    pub now: UnixMs,
}

/// Members of every options file, besides the source's own keys.
const COMMON: [&str; 3] = ["columns", "roles", "providers"];

/// Most entries of one table of an options file. A mapping is written by hand.
const MAPPED_MAX: usize = 1000;

impl Options {
    /// Understands an options file that was read as JSON or TOML. `resolve` gives what `{ env = "NAME" }` and `{ file = "PATH" }` name.
    ///
    /// # Errors
    /// Everything that is wrong with it, with the names of the keys.
    pub fn understand(
        export: &Export,
        document: &Value,
        resolve: &mut dyn FnMut(&str, &str) -> Result<Secret, String>,
    ) -> Result<Self, Vec<String>> {
        let mut options = Self::default();
        let mut wrong = Vec::new();
        let Some(members) = document.as_object() else {
            return Err(vec!["options must be a table".into()]);
        };
        let keys: Vec<&Key> = export.keys.iter().copied().flatten().collect();
        for (name, value) in members {
            if COMMON.contains(&name.as_str()) {
                match texts(value) {
                    Ok(map) => match name.as_str() {
                        "columns" => options.columns = map,
                        "roles" => options.roles = map,
                        _ => options.providers = map,
                    },
                    Err(what) => wrong.push(format!("`{name}` {what}")),
                }
                continue;
            }
            let Some(key) = keys.iter().find(|key| key.name == name) else {
                let known: Vec<&str> = keys.iter().map(|key| key.name).chain(COMMON).collect();
                wrong.push(format!(
                    "unknown option `{name}`; known are {}",
                    known.join(", ")
                ));
                continue;
            };
            match field(key.kind, value, resolve) {
                Ok(field) => drop(options.fields.values.insert(name.clone(), field)),
                Err(what) => wrong.push(format!("`{name}` {what}")),
            }
        }
        if wrong.is_empty() {
            Ok(options)
        } else {
            Err(wrong)
        }
    }

    /// Whether an input is given in this run.
    pub fn is_given(&self, input: &str) -> bool {
        self.given.contains(input)
    }

    /// Better Auth's word for a role of the old system, and whether the operator said so.
    pub fn role(&self, word: &str) -> Option<&str> {
        self.roles.get(word).map(String::as_str)
    }
}

fn texts(value: &Value) -> Result<BTreeMap<String, String>, &'static str> {
    let map = value.as_object().ok_or("must be a table of texts")?;
    if map.len() > MAPPED_MAX {
        return Err("has more than 1000 entries");
    }
    let pairs = map.iter().map(|(key, value)| {
        let text = value.as_str().ok_or("must be a table of texts")?;
        Ok((key.clone(), text.to_owned()))
    });
    pairs.collect()
}

fn field(
    kind: KeyKind,
    value: &Value,
    resolve: &mut dyn FnMut(&str, &str) -> Result<Secret, String>,
) -> Result<Field, String> {
    let mut secret = |value: &Value| match value {
        Value::String(text) => Ok(Secret::new(text.clone())),
        Value::Object(map) if map.len() == 1 => {
            let named = map
                .iter()
                .find_map(|(how, name)| Some((how, name.as_str()?)));
            match named {
                Some((how, name)) if how == "env" || how == "file" => resolve(how, name),
                _ => Err("must be a text, { env = \"NAME\" } or { file = \"PATH\" }".to_owned()),
            }
        }
        _ => Err("must be a text, { env = \"NAME\" } or { file = \"PATH\" }".to_owned()),
    };
    match (kind, value) {
        (KeyKind::Text, Value::String(text)) => Ok(Field::Text(Secret::new(text.clone()))),
        (KeyKind::Text, _) => Err("must be a text".into()),
        (KeyKind::Secret, value) => Ok(Field::Text(secret(value)?)),
        (KeyKind::Secrets | KeyKind::Texts, Value::Array(list)) => {
            let list: Result<Vec<Secret>, String> = list.iter().map(secret).collect();
            Ok(Field::List(list?))
        }
        (KeyKind::Secrets | KeyKind::Texts, value) => Ok(Field::List(vec![secret(value)?])),
        (KeyKind::Flag, Value::Bool(flag)) => Ok(Field::Flag(*flag)),
        (KeyKind::Flag, _) => Err("must be true or false".into()),
        (KeyKind::Number, value) => {
            let number = value.as_u64().map(Field::Number);
            number.ok_or_else(|| "must be a whole number".to_owned())
        }
        // No source has one.
        (KeyKind::Duration, _) => Err("cannot be a duration".into()),
    }
}

// ------------------------------------------------------------------------------------------------- what sources are written with

impl Entry {
    /// A fragment of this entry, under the id that stands at a pointer.
    ///
    /// # Errors
    /// When there is no id.
    pub fn fragment(
        &self,
        about: About,
        pointer: &str,
        part: &'static str,
    ) -> Result<Vec<Fragment>, Note> {
        match id(&self.value, pointer) {
            Some(key) => Ok(vec![self.fragment_of(about, key, part)]),
            None => Err(Note {
                what: Oddity::NoId,
                detail: format!("no id at `{}`", pointer.trim_start_matches('/')),
            }),
        }
    }

    /// The table's own name: without its schema, lower-case.
    pub fn table_name(&self) -> String {
        let name = self.table.rsplit('.').next().unwrap_or_default();
        name.trim_matches(['"', '`']).to_lowercase()
    }

    /// A fragment of this entry, under an id that is known.
    pub fn fragment_of(&self, about: About, key: String, part: &'static str) -> Fragment {
        Fragment {
            about,
            key,
            part: Cow::Borrowed(part),
            place: self.place.clone(),
            value: self.value.clone(),
        }
    }

    /// The reason why nothing can be made of it.
    pub fn unreadable<T>(&self, why: &str) -> Result<T, Note> {
        Err(Note {
            what: Oddity::Unreadable,
            detail: why.to_owned(),
        })
    }
}

/// An id: a text that is not empty, or a whole number.
pub fn id(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        // Mongo's extended JSON.
        Value::Object(map) => match map.get("$oid") {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// The members of an object that are there: none where it is no object, or a text that holds none.
pub fn members(value: Option<&Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(map)) => map.clone(),
        // CSV and dumps hold JSON in a text.
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        },
        _ => Map::new(),
    }
}
