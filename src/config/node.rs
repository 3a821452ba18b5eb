//! The configuration as a tree: values from the file, with what the environment and the command line put over them.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Deepest nesting of keys a variable or flag may name. The format itself has five; more is a mistake, not a wish.
const DEPTH_MAX: usize = 8;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// Bytes of the file.
    File(Range<usize>),
    /// An environment variable.
    Environment(String),
    /// A flag on the command line.
    Flag(String),
    /// Nowhere: it is missing.
    Nowhere,
}

impl At {
    /// Whether lists, numbers and booleans come as plain text from here.
    pub fn is_text_only(&self) -> bool {
        matches!(self, Self::Environment(_) | Self::Flag(_))
    }

    /// The bytes of the file, when it was written there.
    pub fn span(&self) -> Option<Range<usize>> {
        match self {
            Self::File(span) => Some(span.clone()),
            Self::Environment(_) | Self::Flag(_) | Self::Nowhere => None,
        }
    }
}

/// One value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it was written.
    pub at: At,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A yes or no.
    Bool(bool),
    /// Several values.
    List(Vec<Node>),
    /// Named values, in file order.
    Table(Vec<Entry>),
    /// What no key takes: a float, a date, a number beyond 64 bits.
    Other(&'static str),
}

impl Value {
    /// The word for it in messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(noun) => noun,
        }
    }
}

/// One named value of a table.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name.
    pub key: String,
    /// Where the name stands.
    pub key_at: At,
    /// The value.
    pub node: Node,
}

/// What is wrong with the text itself: words and bytes.
#[derive(Debug)]
pub struct SyntaxError {
    /// The parser's words. They may quote what was written, so callers print them without the text around.
    pub message: String,
    /// Where, when the parser knows.
    pub span: Option<Range<usize>>,
}

/// Reads TOML text.
///
/// # Errors
/// Every place where the text is no TOML.
pub fn parse(text: &str) -> Result<Node, Vec<SyntaxError>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors
            .iter()
            .map(|error| SyntaxError {
                message: error.message().to_owned(),
                span: error.span(),
            })
            .collect());
    }
    let span = document.span();
    Ok(Node {
        value: Value::Table(entries(document.get_ref())),
        at: At::File(span.start..span.start),
    })
}

fn entries(table: &DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_at: At::File(key.span()),
            node: Node {
                value: convert(value.get_ref()),
                at: At::File(value.span()),
            },
        })
        .collect();
    // The parser sorts by name; messages read better in the order of the file.
    entries.sort_by_key(|entry| entry.key_at.span().map_or(0, |span| span.start));
    entries
}

fn convert(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number that is too large"), Value::Integer),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node {
                    value: convert(item.get_ref()),
                    at: At::File(item.span()),
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(entries(table)),
    }
}

impl Node {
    /// The value under a name, when this is a table that has it.
    pub fn child(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.node),
            _ => None,
        }
    }

    /// Puts text at a path of names, over whatever stands there. Returns `false` when the path is empty or too deep.
    pub fn put(&mut self, path: &[String], text: &str, at: &At) -> bool {
        if path.len() > DEPTH_MAX {
            return false;
        }
        let Some((first, rest)) = path.split_first() else {
            return false;
        };
        if !matches!(self.value, Value::Table(_)) {
            // `secret = "…"` in the file gives way to `…__SECRET__FILE` in the environment.
            self.value = Value::Table(Vec::new());
            self.at = at.clone();
        }
        let Value::Table(entries) = &mut self.value else {
            return false;
        };
        let found = entries.iter().position(|e| e.key == *first);
        let place = found.unwrap_or_else(|| {
            entries.push(Entry {
                key: first.clone(),
                key_at: at.clone(),
                node: Node {
                    value: Value::Table(Vec::new()),
                    at: at.clone(),
                },
            });
            entries.len() - 1
        });
        let Some(entry) = entries.get_mut(place) else {
            return false;
        };
        if rest.is_empty() {
            entry.key_at = at.clone();
            entry.node = Node {
                value: Value::Text(text.to_owned()),
                at: at.clone(),
            };
            return true;
        }
        entry.node.put(rest, text, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_later_wins_and_the_rest_stays() {
        let mut tree = parse("listen = \"a\"\n[sessions]\nsource = \"x\"\n").expect("toml");
        let at = At::Environment("V".into());
        assert!(tree.put(&["sessions".into(), "cache_ttl".into()], "5s", &at));
        assert!(tree.put(&["listen".into()], "b", &at));
        let text = |node: Option<&Node>| match node.map(|n| &n.value) {
            Some(Value::Text(text)) => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text(tree.child("listen")), "b");
        let sessions = tree.child("sessions").expect("there");
        assert_eq!(text(sessions.child("source")), "x");
        assert_eq!(text(sessions.child("cache_ttl")), "5s");
    }

    #[test]
    fn a_value_gives_way_to_a_table_under_its_name() {
        let mut tree = parse("admin_token = \"a\"\n").expect("toml");
        assert!(tree.put(
            &["admin_token".into(), "file".into()],
            "/f",
            &At::Flag("--x".into())
        ));
        assert!(
            tree.child("admin_token")
                .and_then(|t| t.child("file"))
                .is_some()
        );
    }

    #[test]
    fn every_syntax_error_is_told() {
        let errors = parse("a = \nb = 1\nc = [\n").expect_err("broken");
        assert!(errors.len() >= 2, "{errors:?}");
    }
}
