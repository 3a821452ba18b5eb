//! What is wrong with a configuration, said so that the reader knows where and what to do. Never shows a secret.

use std::fmt;
use std::fmt::Write as _;
use std::ops::Range;

use serde_json::json;

use super::node::{At, Node, Value};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is not used.
    Error,
    /// It is used; somebody should look.
    Warning,
}

impl Severity {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong, without its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The text is no TOML.
    #[error("this is not TOML: {0}")]
    Syntax(String),
    /// A key that does not exist.
    #[error("unknown key `{name}`")]
    UnknownKey {
        /// As written.
        name: String,
        /// The closest key, when one is close.
        meant: Option<String>,
        /// Every key that may stand there.
        known: Vec<&'static str>,
    },
    /// A word that is none of those allowed.
    #[error("`{word}` is no {family}")]
    UnknownWord {
        /// What the word should have been.
        family: &'static str,
        /// As written.
        word: String,
        /// The closest word, when one is close.
        meant: Option<String>,
        /// Every word allowed.
        known: Vec<String>,
    },
    /// A word we know and cannot do yet.
    #[error("{what} is not supported by this version")]
    NotYet {
        /// The word.
        what: String,
        /// What there is.
        instead: &'static str,
    },
    /// The wrong type of value.
    #[error("wants {wanted}, and this is {found}")]
    WrongType {
        /// What it takes.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// Text in the wrong form. Never quotes the text.
    #[error("{what}")]
    Form {
        /// What is wrong.
        what: String,
        /// What right ones look like.
        advice: String,
    },
    /// A number or duration outside its bounds.
    #[error("must be {bounds}")]
    OutOfBounds {
        /// The bounds, in words.
        bounds: String,
        /// Why they are there.
        why: &'static str,
    },
    /// A key that must be given.
    #[error("`{key}` is missing")]
    Missing {
        /// Which.
        key: &'static str,
        /// How to give it.
        advice: &'static str,
    },
    /// Two keys that exclude each other.
    #[error("{what}")]
    Conflict {
        /// What contradicts what.
        what: String,
        /// How to resolve it.
        advice: &'static str,
    },
    /// A secret that could not be had from where it is said to be.
    #[error("{what}")]
    NoSecret {
        /// What happened, without the secret.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// Better Auth's published default secret.
    #[error("this is Better Auth's published default secret: with it anyone can sign in as anyone")]
    PublicSecret,
    /// A short secret.
    #[error("the secret has {letters} letters, and fewer than 32 can be guessed")]
    ShortSecret {
        /// How many it has.
        letters: usize,
    },
    /// The app's variables name two places where sessions could be.
    #[error("DATABASE_URL and REDIS_URL are both set, and nothing says where the sessions are")]
    TwoSources,
    /// A rule that cannot be checked at the freshness asked for.
    #[error("`freshness = \"optimistic\"` looks nobody up, so `{condition}` cannot be known")]
    Optimistic {
        /// The condition that needs a lookup.
        condition: &'static str,
    },
    /// A setting that opens more than it seems to.
    #[error("{what}")]
    Risky {
        /// What is opened.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// A setting that does nothing, or two that probably belong together.
    #[error("{what}")]
    Suspicious {
        /// What is odd.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// A rule that keeps everybody from signing in.
    #[error("with this rule on {page} nobody could sign in")]
    NobodyCouldSignIn {
        /// What is closed.
        page: &'static str,
    },
    /// What the table of routes says about its entries.
    #[error("{what}")]
    Routes {
        /// Its words.
        what: String,
        /// Its advice.
        advice: String,
    },
    /// What the table of routes finds odd.
    #[error("{what}")]
    RoutesOdd {
        /// Its words.
        what: String,
        /// Its advice.
        advice: String,
    },
}

impl Fault {
    /// The operator's next step.
    pub fn advice(&self) -> String {
        match self {
            Self::Syntax(_) => {
                "text values need quotes, tables are `[name]`, lists are `[\"a\", \"b\"]`".into()
            }
            Self::UnknownKey { meant: Some(meant), .. } => format!("did you mean `{meant}`?"),
            Self::UnknownKey { known, .. } if known.is_empty() => "remove it".into(),
            Self::UnknownKey { known, .. } => format!("known here are {}", known.join(", ")),
            Self::UnknownWord { meant: Some(meant), .. } => format!("did you mean `{meant}`?"),
            Self::UnknownWord { known, .. } => format!("known are {}", known.join(", ")),
            Self::NotYet { instead, .. } => (*instead).into(),
            Self::WrongType { wanted, .. } => format!("write {wanted}"),
            Self::Form { advice, .. }
            | Self::Routes { advice, .. }
            | Self::RoutesOdd { advice, .. } => advice.clone(),
            Self::OutOfBounds { why, .. } => (*why).into(),
            Self::Missing { advice, .. }
            | Self::Conflict { advice, .. }
            | Self::NoSecret { advice, .. }
            | Self::Risky { advice, .. }
            | Self::Suspicious { advice, .. } => (*advice).into(),
            Self::PublicSecret => {
                "make one with `openssl rand -base64 32`, and give it to the app and to the gateway"
                    .into()
            }
            Self::ShortSecret { .. } => {
                "make a longer one with `openssl rand -base64 32`; changing it signs everybody out"
                    .into()
            }
            Self::TwoSources => {
                "say it in the file: `source = { env = \"DATABASE_URL\" }` or `source = { env = \"REDIS_URL\" }` under [sessions]"
                    .into()
            }
            Self::Optimistic { .. } => {
                "use `cached` (the default) or `strict`, or drop the condition".into()
            }
            Self::NobodyCouldSignIn { .. } => {
                "leave it `public`, `optional` or `guest`, or remove the route: it is reachable by default"
                    .into()
            }
        }
    }

    /// The word programs tell faults apart by.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "syntax",
            Self::UnknownKey { .. } => "unknown_key",
            Self::UnknownWord { .. } => "unknown_word",
            Self::NotYet { .. } => "not_supported",
            Self::WrongType { .. } => "wrong_type",
            Self::Form { .. } => "form",
            Self::OutOfBounds { .. } => "out_of_bounds",
            Self::Missing { .. } => "missing",
            Self::Conflict { .. } => "conflict",
            Self::NoSecret { .. } => "no_secret",
            Self::PublicSecret => "public_secret",
            Self::ShortSecret { .. } => "short_secret",
            Self::TwoSources => "two_sources",
            Self::Optimistic { .. } => "optimistic",
            Self::Risky { .. } => "risky",
            Self::Suspicious { .. } => "suspicious",
            Self::NobodyCouldSignIn { .. } => "nobody_could_sign_in",
            Self::Routes { .. } | Self::RoutesOdd { .. } => "routes",
        }
    }

    /// How bad it is.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::ShortSecret { .. }
            | Self::Risky { .. }
            | Self::Suspicious { .. }
            | Self::RoutesOdd { .. } => Severity::Warning,
            Self::Syntax(_)
            | Self::UnknownKey { .. }
            | Self::UnknownWord { .. }
            | Self::NotYet { .. }
            | Self::WrongType { .. }
            | Self::Form { .. }
            | Self::OutOfBounds { .. }
            | Self::Missing { .. }
            | Self::Conflict { .. }
            | Self::NoSecret { .. }
            | Self::PublicSecret
            | Self::TwoSources
            | Self::Optimistic { .. }
            | Self::NobodyCouldSignIn { .. }
            | Self::Routes { .. } => Severity::Error,
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What.
    pub fault: Fault,
    /// The key, as `sessions.cache_ttl` or `route[2].rule`. Empty for the file as a whole.
    pub key: String,
    /// Where it was written.
    pub at: At,
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// Column in that line, in characters, from 1.
    pub column: Option<usize>,
}

impl Problem {
    /// How bad it is.
    pub const fn severity(&self) -> Severity {
        self.fault.severity()
    }
}

/// Everything that is wrong with one configuration.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    /// What the file is called.
    file: String,
    /// Its text, with every secret blotted out, byte for byte as long as the real one.
    shown: String,
    list: Vec<Problem>,
}

/// How problems are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One line each, and one for the advice: for logs, files and pipes.
    Plain,
    /// With the lines they are about, for a person at a terminal.
    Terminal {
        /// Whether to use colour.
        color: bool,
    },
}

impl Problems {
    /// Sorts problems by place and finds their lines. `shown` is the text without its secrets.
    pub(super) fn new(
        file: &str,
        text: &str,
        shown: String,
        list: Vec<(Fault, String, At)>,
    ) -> Self {
        let mut list: Vec<Problem> = list
            .into_iter()
            .map(|(fault, key, at)| {
                let place = at.span().map(|span| place(text, span.start));
                Problem {
                    fault,
                    key,
                    line: place.map(|(line, _)| line),
                    column: place.map(|(_, column)| column),
                    at,
                }
            })
            .collect();
        list.sort_by_key(|p| (p.severity(), p.at.span().map_or(usize::MAX, |s| s.start)));
        Self {
            file: file.to_owned(),
            shown,
            list,
        }
    }

    /// All of them: errors first, each in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether one of them keeps the configuration from being used.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|p| p.severity() == Severity::Error)
    }

    /// All of them as text.
    pub fn render(&self, style: Style) -> String {
        match style {
            Style::Plain => self.to_string(),
            Style::Terminal { color } => self.render_for_terminal(color),
        }
    }

    /// All of them for programs: `{"problems": [{severity, code, file, line, column, key, origin, message, advice}]}`.
    /// `line` and `column` are null when it is not the file that is wrong, and `origin` then names the variable or flag.
    pub fn to_json(&self) -> serde_json::Value {
        let problems: Vec<serde_json::Value> = self
            .list
            .iter()
            .map(|p| {
                json!({
                    "severity": p.severity().as_str(),
                    "code": p.fault.code(),
                    "file": self.file,
                    "line": p.line,
                    "column": p.column,
                    "key": p.key,
                    "origin": match &p.at {
                        At::File(_) | At::Nowhere => None,
                        At::Environment(name) | At::Flag(name) => Some(name),
                    },
                    "message": p.fault.to_string(),
                    "advice": p.fault.advice(),
                })
            })
            .collect();
        json!({ "problems": problems })
    }

    fn where_is(&self, problem: &Problem) -> String {
        match (&problem.at, problem.line, problem.column) {
            (At::Environment(name), ..) => format!("environment variable {name}"),
            (At::Flag(name), ..) => format!("flag {name}"),
            (At::File(_), Some(line), Some(column)) => format!("{}:{line}:{column}", self.file),
            (At::File(_) | At::Nowhere, ..) => self.file.clone(),
        }
    }

    fn render_for_terminal(&self, color: bool) -> String {
        let theme = if color {
            miette::GraphicalTheme::unicode()
        } else {
            miette::GraphicalTheme::unicode_nocolor()
        };
        let handler = miette::GraphicalReportHandler::new_themed(theme)
            .with_links(false)
            .with_context_lines(1);
        let source = miette::NamedSource::new(&self.file, self.shown.clone());
        let mut out = String::new();
        for problem in &self.list {
            let snippet = Snippet {
                problem,
                title: title(problem),
                place: self.where_is(problem),
                source: &source,
            };
            if handler.render_report(&mut out, &snippet).is_err() {
                // Formatting into a string cannot fail; were it to, the plain line still tells all.
                let _ = writeln!(out, "{}: {}", snippet.place, snippet.title);
            }
        }
        out
    }
}

/// One line for each problem, and one for its advice.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            writeln!(
                f,
                "{}: {}: {}",
                self.where_is(problem),
                problem.severity().as_str(),
                title(problem)
            )?;
            writeln!(f, "    {}", problem.fault.advice())?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

fn title(problem: &Problem) -> String {
    if problem.key.is_empty() {
        problem.fault.to_string()
    } else {
        format!("{}: {}", problem.key, problem.fault)
    }
}

/// Line and column, both from 1, of a byte.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}

/// One problem as the snippet printer wants it.
#[derive(Debug)]
struct Snippet<'p> {
    problem: &'p Problem,
    title: String,
    place: String,
    source: &'p miette::NamedSource<String>,
}

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem.at {
            // The snippet says where in the file; the other places have none.
            At::File(_) => f.write_str(&self.title),
            At::Environment(_) | At::Flag(_) | At::Nowhere => {
                write!(f, "{}: {}", self.place, self.title)
            }
        }
    }
}

impl std::error::Error for Snippet<'_> {}

impl miette::Diagnostic for Snippet<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity() {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.problem.fault.advice()))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.problem
            .at
            .span()
            .map(|_| self.source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let span = self.problem.at.span()?;
        let label = miette::LabeledSpan::new_with_span(Some("here".into()), span);
        Some(Box::new(std::iter::once(label)))
    }
}

/// Words that make a name sound like a secret's, however it is misspelt around them.
const SECRET_WORDS: [&str; 5] = ["secr", "token", "passw", "source", "seed"];

/// The bytes of a file that are or may be secret: text under keys that are, or sound like, secrets, and any address with a
/// user in it. Looks at the file as written, because a secret that a variable overrides is still one.
pub(super) fn secret_spans(root: &Node) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    collect(root, false, &mut spans);
    spans
}

fn collect(node: &Node, secret: bool, spans: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Text(text) if secret || text.contains('@') => spans.extend(node.at.span()),
        Value::Integer(_) | Value::Other(_) if secret => spans.extend(node.at.span()),
        Value::Text(_) | Value::Integer(_) | Value::Other(_) | Value::Bool(_) => {}
        Value::List(items) => {
            for item in items {
                collect(item, secret, spans);
            }
        }
        Value::Table(entries) => {
            for entry in entries {
                // Sources and keys of routes are patterns and names; those of everything else may be secrets.
                if entry.key == "route" {
                    continue;
                }
                let name = entry.key.to_ascii_lowercase();
                let sounds = SECRET_WORDS.iter().any(|word| name.contains(word))
                    || name == "key"
                    || name == "value";
                let reference = secret && (name == "env" || name == "file");
                // What is in a table under a secret's name is secret too, except where it only says where the secret is.
                collect(&entry.node, (secret || sounds) && !reference, spans);
            }
        }
    }
}

/// A copy of `text`, byte for byte as long, without the spans and without comments that sound like secrets: people comment
/// old ones out.
pub(super) fn blot(text: &str, spans: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in spans {
        blot_span(&mut bytes, span.clone());
    }
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(hash) = line.find('#') {
            let comment = line.get(hash..).unwrap_or_default().to_ascii_lowercase();
            if comment.contains('@') || SECRET_WORDS.iter().any(|word| comment.contains(word)) {
                blot_span(&mut bytes, start + hash..start + line.len());
            }
        }
        start += line.len();
    }
    finish(bytes)
}

/// The same for text that could not be parsed, where nobody knows what is a value: only names before a `=`, table headings
/// and layout stay.
pub(super) fn blot_values(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let heading = line.trim_start().starts_with('[') && !line.contains(['"', '\'', '=']);
        let name = line.split('=').next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
        let from = if heading {
            line.len()
        } else if name.len() < line.len() && name.chars().all(plain) {
            name.len() + 1
        } else {
            0
        };
        blot_span(&mut bytes, start + from..start + line.len());
        start += line.len();
    }
    finish(bytes)
}

fn finish(bytes: Vec<u8>) -> String {
    // Whole characters were replaced by as many ASCII bytes as they had, so this is UTF-8; were it not, showing nothing is safe.
    String::from_utf8(bytes).unwrap_or_default()
}

fn blot_span(bytes: &mut [u8], span: Range<usize>) {
    for byte in bytes.get_mut(span).unwrap_or_default() {
        // Quotes and layout stay, so that the reader sees where the value is.
        if !matches!(byte, b'"' | b'\'' | b'\n' | b'\r' | b' ' | b'{' | b'}') {
            *byte = b'*';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        assert_eq!(place("a\nbé = 1", 0), (1, 1));
        assert_eq!(place("a\nbé = 1", 5), (2, 3));
    }

    #[test]
    fn what_sounds_like_a_secret_is_blotted_and_the_rest_stays() {
        let text = "listen = \"1.2.3.4:80\"\n# secret = \"old\"\nsecrte = 'hunter2 hunter2'\nurl = \"http://a:b@c\"\nhome = \"http://c\"\nadmin_token = { env = \"NAME\" }\n[[route]]\npath = [{ source = \"/x\" }]\n";
        let tree = super::super::node::parse(text).expect("toml");
        let shown = blot(text, &secret_spans(&tree));
        assert_eq!(shown.len(), text.len());
        for gone in ["hunter2", "old", "a:b"] {
            assert!(!shown.contains(gone), "{shown}");
        }
        for there in ["1.2.3.4:80", "http://c\"", "{ env = \"NAME\" }", "\"/x\""] {
            assert!(shown.contains(there), "{shown}");
        }
    }

    #[test]
    fn text_that_is_no_toml_shows_names_only() {
        let shown =
            blot_values("[a]\nsecret = \"\"\"\nhunter2\n\"\"\"\nb = hunter2\nhunter2 \"x\n");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("[a]") && shown.contains("secret ="));
    }
}
