//! From a tree to typed values, collecting every problem on the way instead of stopping at the first.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::node::{At, Entry, Node, Value};
use super::problem::Fault;
use crate::secret::Secret;

/// Most values in one list. More is a mistake in a template, and every one costs memory for as long as the gateway runs.
const LIST_LEN_MAX: usize = 10_000;
/// Longest text of a secret read from a file, in bytes: a mistaken path must not read a disk.
pub(super) const SECRET_FILE_BYTES_MAX: usize = 64 * 1024;

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    /// The value.
    pub(super) value: T,
    /// Where it was written.
    pub(super) at: At,
    /// The key it stands under, written out.
    pub(super) key: String,
}

/// What reading needs from outside, and what it gathers.
pub(super) struct Reader<'s> {
    /// The environment, for `{ env = "NAME" }`.
    pub(super) environment: &'s BTreeMap<String, String>,
    /// Reads a file, for `{ file = "PATH" }`.
    pub(super) read_file: &'s dyn Fn(&Path) -> std::io::Result<String>,
    /// What is wrong so far.
    pub(super) problems: Vec<(Fault, String, At)>,
    /// Bytes of the file that must not be shown.
    pub(super) masked: Vec<Range<usize>>,
    text: &'s str,
    path: String,
}

impl<'s> Reader<'s> {
    pub(super) fn new(
        text: &'s str,
        environment: &'s BTreeMap<String, String>,
        read_file: &'s dyn Fn(&Path) -> std::io::Result<String>,
    ) -> Self {
        Self {
            environment,
            read_file,
            problems: Vec::new(),
            masked: Vec::new(),
            text,
            path: String::new(),
        }
    }

    /// The key being read, written out.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The line of a byte of the file, from 1.
    pub(super) fn line(&self, byte: usize) -> usize {
        self.text
            .get(..byte)
            .map_or(0, |before| before.matches('\n').count())
            + 1
    }

    /// Notes a problem with the value being read.
    pub(super) fn wrong(&mut self, fault: Fault, at: &At) {
        let key = self.path.clone();
        self.problems.push((fault, key, at.clone()));
    }

    /// Notes a problem with a value already read.
    pub(super) fn blame<T>(&mut self, found: &Found<T>, fault: Fault) {
        self.problems
            .push((fault, found.key.clone(), found.at.clone()));
    }

    /// Reads one value under a name.
    pub(super) fn field<T: Read>(&mut self, entry: &Entry) -> Option<Found<T>> {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(&entry.key);
        let found = self.found(&entry.node);
        self.path.truncate(before);
        found
    }

    fn found<T: Read>(&mut self, node: &Node) -> Option<Found<T>> {
        let key = self.path.clone();
        T::read(node, self).map(|value| Found {
            value,
            at: node.at.clone(),
            key,
        })
    }

    /// The entries of a table, or a problem.
    pub(super) fn table<'n>(&mut self, node: &'n Node) -> Option<&'n [Entry]> {
        match &node.value {
            Value::Table(entries) => Some(entries),
            other => {
                self.masked.extend(node.at.span());
                let wanted = if node.at.is_text_only() {
                    "a table, which only the file can hold"
                } else {
                    "a table"
                };
                self.wrong(
                    Fault::WrongType {
                        wanted,
                        found: other.noun(),
                    },
                    &node.at,
                );
                None
            }
        }
    }

    /// Notes a key nobody knows.
    pub(super) fn unknown(&mut self, entry: &Entry, known: &[&'static str]) {
        // It may be a misspelt secret.
        self.masked.extend(entry.node.at.span());
        let key = if self.path.is_empty() {
            entry.key.clone()
        } else {
            format!("{}.{}", self.path, entry.key)
        };
        let fault = Fault::UnknownKey {
            name: entry.key.clone(),
            meant: closest(&entry.key, known).map(str::to_owned),
            known: known.to_vec(),
        };
        self.problems.push((fault, key, entry.key_at.clone()));
    }

    fn text<'n>(&mut self, node: &'n Node, wanted: &'static str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            other => {
                self.wrong(
                    Fault::WrongType {
                        wanted,
                        found: other.noun(),
                    },
                    &node.at,
                );
                None
            }
        }
    }

    fn form<T>(&mut self, node: &Node, read: Result<T, (String, &str)>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err((what, advice)) => {
                self.wrong(
                    Fault::Form {
                        what,
                        advice: advice.to_owned(),
                    },
                    &node.at,
                );
                None
            }
        }
    }
}

/// A type a value of the configuration can be read as.
pub(super) trait Read: Sized {
    /// Reads it, or notes why not.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;
    /// What it looks like, for editors.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// The word among `known` that is close enough to have been meant.
pub(super) fn closest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|k| (distance(&word, &k.replace('-', "_")), *k))
        .min()
        .filter(|(far, k)| *far <= 1 + k.len() / 5)
        .map(|(_, k)| k)
}

/// How many letters must change, come, go or swap places with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut older: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |r: &[usize], k: usize| r.get(k).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, j) + usize::from(x != y))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&older, j - 1) + 1);
            }
            row.push(best);
        }
        older = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

impl Read for String {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(node, "text in quotes").map(str::to_owned)
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl Read for bool {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Bool(flag) => Some(*flag),
            Value::Text(text) if node.at.is_text_only() && text == "true" => Some(true),
            Value::Text(text) if node.at.is_text_only() && text == "false" => Some(false),
            other => {
                reader.wrong(
                    Fault::WrongType {
                        wanted: "`true` or `false`",
                        found: other.noun(),
                    },
                    &node.at,
                );
                None
            }
        }
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

impl Read for u64 {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let number = match &node.value {
            Value::Integer(number) => Self::try_from(*number).ok(),
            Value::Text(text) if node.at.is_text_only() => text.replace('_', "").parse().ok(),
            _ => None,
        };
        if number.is_none() {
            reader.wrong(
                Fault::WrongType {
                    wanted: "a whole number, zero or more, without quotes",
                    found: match &node.value {
                        Value::Integer(_) => "a negative number",
                        other => other.noun(),
                    },
                },
                &node.at,
            );
        }
        number
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }
}

impl Read for Duration {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a duration with its unit in quotes, as \"30s\"")?;
        let read = duration(text).ok_or_else(|| {
            (
                format!("`{}` is no duration", short(text)),
                "write a whole number and a unit: \"250ms\", \"30s\", \"5m\", \"2h\" or \"7d\"",
            )
        });
        reader.form(node, read)
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "examples": ["250ms", "30s", "5m", "2h"] })
    }
}

/// `250ms`, `30s`, `5m`, `2h`, `7d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl Read for Size {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a size with its unit in quotes, as \"32KiB\"")?;
        let read = size(text).map(Size).ok_or_else(|| {
            (
                format!("`{}` is no size", short(text)),
                "write a whole number and a unit: \"512B\", \"32KiB\", \"10MiB\" or \"1GiB\"",
            )
        });
        reader.form(node, read)
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)$", "examples": ["512B", "32KiB", "10MiB", "1GiB"] })
    }
}

fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let each: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(each)
}

/// A number of bytes, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SizeLimit(pub(super) Option<u64>);

impl Read for SizeLimit {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "unlimited" => Some(Self(None)),
            _ => Size::read(node, reader).map(|size| Self(Some(size.0))),
        }
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9]+(B|KiB|MiB|GiB|KB|MB|GB)|unlimited)$" })
    }
}

/// Several of something. One alone may stand without brackets.
impl<T: Read> Read for Vec<Found<T>> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let parts: Vec<Node>;
        let items: &[Node] = match &node.value {
            Value::List(items) => items,
            Value::Text(text) if node.at.is_text_only() => {
                parts = text
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(|part| Node {
                        value: Value::Text(part.to_owned()),
                        at: node.at.clone(),
                    })
                    .collect();
                &parts
            }
            _ => std::slice::from_ref(node),
        };
        if items.len() > LIST_LEN_MAX {
            reader.wrong(
                Fault::OutOfBounds {
                    bounds: format!("at most {LIST_LEN_MAX} long"),
                    why: "split it, or use patterns",
                },
                &node.at,
            );
            return None;
        }
        let single = !matches!(node.value, Value::List(_)) && items.len() == 1;
        let before = reader.path.len();
        let mut out = Self::with_capacity(items.len());
        let mut whole = true;
        for (index, item) in items.iter().enumerate() {
            if !single {
                reader.path.push_str(&format!("[{index}]"));
            }
            let found = reader.found(item);
            reader.path.truncate(before);
            whole &= found.is_some();
            out.extend(found);
        }
        // A list with a hole could mean more than was written: one role fewer, one host fewer.
        whole.then_some(out)
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let one = T::schema(generator);
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// Named values whose names the operator chooses.
pub(super) type Named<T> = BTreeMap<String, Found<T>>;

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let entries = reader.table(node)?;
        let mut out = Self::new();
        for entry in entries {
            if let Some(found) = reader.field(entry) {
                out.insert(entry.key.clone(), found);
            }
        }
        Some(out)
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let one = T::schema(generator);
        json_schema!({ "type": "object", "additionalProperties": one })
    }
}

/// Text that is secret, or says where the secret is.
#[derive(Clone, Debug)]
pub(super) struct SecretText(pub(super) Secret);

impl Read for SecretText {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        const FORMS: &str = "give `\"text\"`, `{ env = \"NAME\" }` or `{ file = \"PATH\" }`, and exactly one of them";
        let entries = match &node.value {
            Value::Text(text) if text.is_empty() => {
                reader.wrong(no_secret("it is empty", FORMS), &node.at);
                return None;
            }
            Value::Text(text) => return Some(Self(Secret::new(text.clone()))),
            Value::Table(entries) => entries,
            other => {
                reader.masked.extend(node.at.span());
                let fault = Fault::WrongType {
                    wanted: "text, `{ env = \"NAME\" }` or `{ file = \"PATH\" }`",
                    found: other.noun(),
                };
                reader.wrong(fault, &node.at);
                return None;
            }
        };
        for entry in entries {
            if entry.key != "env" && entry.key != "file" {
                reader.unknown(entry, &["env", "file"]);
            }
        }
        let reference: Vec<&Entry> = entries
            .iter()
            .filter(|e| e.key == "env" || e.key == "file")
            .collect();
        let [entry] = reference.as_slice() else {
            reader.wrong(
                no_secret("it says neither or both of `env` and `file`", FORMS),
                &node.at,
            );
            return None;
        };
        let Found { value, at, .. } = reader.field::<String>(entry)?;
        let text = if entry.key == "env" {
            from_environment(&value, &at, reader)?
        } else {
            from_file(&value, &at, reader)?
        };
        Some(Self(Secret::new(text)))
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "object", "properties": { "env": { "type": "string" } }, "required": ["env"], "additionalProperties": false },
            { "type": "object", "properties": { "file": { "type": "string" } }, "required": ["file"], "additionalProperties": false },
        ] })
    }
}

fn no_secret(what: impl Into<String>, advice: &'static str) -> Fault {
    Fault::NoSecret {
        what: what.into(),
        advice,
    }
}

fn from_environment(name: &str, at: &At, reader: &mut Reader<'_>) -> Option<String> {
    let found = reader
        .environment
        .get(name)
        .filter(|value| !value.is_empty());
    if found.is_none() {
        // The name is quoted only when it looks like one: somebody may have put the secret itself there.
        let shown = if is_variable_name(name) {
            format!("the environment variable {name} is not set")
        } else {
            reader.masked.extend(at.span());
            "`env` does not hold the name of an environment variable".to_owned()
        };
        reader.wrong(
            no_secret(
                shown,
                "set it where the gateway is started, or pass `--env-file .env`",
            ),
            at,
        );
    }
    found.cloned()
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

fn from_file(path: &str, at: &At, reader: &mut Reader<'_>) -> Option<String> {
    let read = (reader.read_file)(Path::new(path));
    let what = match read {
        Ok(text) if text.len() > SECRET_FILE_BYTES_MAX => {
            format!("the file holds more than {SECRET_FILE_BYTES_MAX} bytes")
        }
        Ok(text) => {
            // Editors and `echo` end files with a line break that is no part of the secret.
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            if !text.is_empty() {
                return Some(text.to_owned());
            }
            "the file is empty".to_owned()
        }
        Err(error) => format!("the file cannot be read: {}", error.kind()),
    };
    let advice = "the path counts from the folder the gateway is started in; the gateway's user must be able to read it";
    reader.wrong(no_secret(what, advice), at);
    None
}

/// A value with a fixed set of words.
macro_rules! words {
    ($(#[doc = $doc:literal])* $Name:ident, $family:literal { $( $Variant:ident = $word:literal ),* $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $Name { $( $Variant ),* }
        impl $Name {
            /// Every word.
            pub(super) const ALL: &'static [(&'static str, Self)] = &[ $( ($word, Self::$Variant) ),* ];
            /// The word for it.
            #[allow(dead_code, reason = "not every family needs its words back")]
            pub(super) const fn as_str(self) -> &'static str {
                match self { $( Self::$Variant => $word ),* }
            }
        }
        impl $crate::config::read::Read for $Name {
            fn read(node: &$crate::config::node::Node, reader: &mut $crate::config::read::Reader<'_>) -> Option<Self> {
                $crate::config::read::word(node, reader, $family, Self::ALL)
            }
            fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "enum": [ $( $word ),* ] })
            }
        }
    };
}
pub(super) use words;

/// One of several words.
pub(super) fn word<T: Copy>(
    node: &Node,
    reader: &mut Reader<'_>,
    family: &'static str,
    all: &[(&'static str, T)],
) -> Option<T> {
    let text = reader.text(node, "one of the known words, in quotes")?;
    let found = all
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value);
    if found.is_none() {
        let known: Vec<&str> = all.iter().map(|(word, _)| *word).collect();
        let fault = unknown_word(family, text, &known);
        reader.wrong(fault, &node.at);
    }
    found
}

/// The problem with a word that is none of those known.
pub(super) fn unknown_word(family: &'static str, word: &str, known: &[&str]) -> Fault {
    Fault::UnknownWord {
        family,
        word: short(word),
        meant: closest(word, known).map(str::to_owned),
        known: known.iter().map(|k| format!("`{k}`")).collect(),
    }
}

/// At most as much of a wrong value as a reader needs to find it again.
pub(super) fn short(text: &str) -> String {
    const LETTERS_MAX: usize = 40;
    if text.contains('@') {
        return "…".to_owned();
    }
    let cut: String = text
        .chars()
        .take(LETTERS_MAX)
        .filter(|c| !c.is_control())
        .collect();
    if text.chars().count() > LETTERS_MAX {
        format!("{cut}…")
    } else {
        cut
    }
}

impl Read for SocketAddr {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "an address and a port in quotes")?;
        let read = text.parse().map_err(|_| {
            (
                format!("`{}` is no address with a port", short(text)),
                "write an IP address and a port: \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\"",
            )
        });
        reader.form(node, read)
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["127.0.0.1:8080"] })
    }
}

impl Read for IpNet {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "an address or network in quotes")?;
        let read = text
            .parse::<Self>()
            .or_else(|_| text.parse::<IpAddr>().map(Self::from))
            .map_err(|_| {
                (
                    format!("`{}` is no address and no network", short(text)),
                    "write an IP address or a network: \"10.0.0.7\", \"10.0.0.0/8\" or \"fd00::/8\"",
                )
            });
        reader.form(node, read)
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["10.0.0.0/8"] })
    }
}

impl Read for PathBuf {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a path in quotes")?;
        let read = if text.is_empty() {
            Err(("the path is empty".to_owned(), "write the path of a file"))
        } else {
            Ok(Self::from(text))
        };
        reader.form(node, read)
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl Read for http::Method {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a method in quotes")?;
        let upper = text.to_ascii_uppercase();
        let read = match Self::from_bytes(text.as_bytes()) {
            Ok(method) if upper == text => Ok(method),
            // Methods are compared letter by letter, so `get` would never match.
            Ok(_) => Err((
                format!(
                    "`{}` is in lower case, and no client sends it so",
                    short(text)
                ),
                "write methods in capitals: \"GET\", \"POST\"",
            )),
            Err(_) => Err((
                format!("`{}` is no method", short(text)),
                "write \"GET\", \"POST\" and the like",
            )),
        };
        reader.form(node, read)
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Z][A-Z-]*$" })
    }
}

/// A path on this origin, as browsers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PagePath(pub(super) String);

impl Read for PagePath {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a path in quotes")?;
        let read = if is_page_path(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err((
                format!("`{}` is no path of a page", short(text)),
                "write a path that begins with one `/` and holds no `?`, `#`, backslash or white space: \"/dashboard\"",
            ))
        };
        reader.form(node, read)
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^/" })
    }
}

/// Whether text is a path that no browser takes for another origin.
pub(super) fn is_page_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.starts_with("//")
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'?' | b'#' | b'"' | b'<' | b'>'))
        && !text.split('/').any(|part| part == "." || part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_their_unit() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(604_800)));
        for wrong in [
            "30",
            "",
            "s",
            "-1s",
            "1.5s",
            "1 s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        assert_eq!(size("32KiB"), Some(32_768));
        for wrong in ["32", "32kib", "KiB", "18446744073709551615GiB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn close_words_are_found_and_far_ones_are_not() {
        let known = ["cache_ttl", "source", "max_cached"];
        assert_eq!(closest("cache-ttl", &known), Some("cache_ttl"));
        assert_eq!(closest("cahce_ttl", &known), Some("cache_ttl"));
        assert_eq!(closest("sourc", &known), Some("source"));
        assert_eq!(closest("banana", &known), None);
    }

    #[test]
    fn a_path_of_a_page_stays_on_this_origin() {
        for fine in ["/", "/sign-in", "/a/b.c", "/%61"] {
            assert!(is_page_path(fine), "{fine}");
        }
        for wrong in [
            "", "sign-in", "//evil", "/\\evil", "/a?b", "/a#b", "/a b", "/a/../b", "/ä",
        ] {
            assert!(!is_page_path(wrong), "{wrong}");
        }
    }
}
