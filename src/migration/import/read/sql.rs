//! Dumps of databases: what `pg_dump` writes (COPY, or INSERT), and `mysqldump` (INSERT). No SQL is run: only rows are taken out.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::record::{Note, Oddity};
use super::{ENTRY_BYTES_MAX, Found, Stop, Tell, note, too_long};

/// Most words of the head of a statement that is looked at. A table of a thousand columns has two thousand.
const HEAD_MAX: usize = 10_000;

/// Most tables whose columns are remembered.
const TABLES_MAX: usize = 5_000;

/// Longest tag of a text between dollars, in bytes.
const TAG_MAX: usize = 64;

/// A piece of SQL.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A name or a number, as it is written.
    Word(String),
    /// A name in quotes.
    Name(String),
    /// A text.
    Text(String),
    /// A text that is not UTF-8, or too long.
    Unread(bool),
    /// Anything else.
    Mark(u8),
}

/// Where in the letters.
#[derive(Clone, PartialEq)]
enum At {
    Between,
    Word,
    /// In quotes; whether a backslash means something.
    Quoted(u8, bool),
    /// After a quote in quotes: the end, or half of a doubled one.
    Quote(u8, bool),
    Escaped(u8),
    /// After one of `-`, `/`: perhaps a comment.
    Dash,
    Slash,
    Line,
    Block(bool),
    /// In the tag of a text between dollars, and in the text.
    Tag(Vec<u8>),
    Dollars(Vec<u8>, Vec<u8>),
    /// In the rest of the line of a COPY, and in its rows.
    Copy,
    Rows,
}

/// Where in the statement.
#[derive(Clone, PartialEq)]
enum Statement {
    Begin,
    Head(Vec<Token>),
    /// After VALUES.
    Values,
    Skip,
}

/// Rows out of bytes.
pub(super) struct Dump {
    at: At,
    statement: Statement,
    /// Whether the dialect takes a backslash for more than itself.
    escapes: bool,
    text: Vec<u8>,
    long: bool,
    line: u64,
    begun: u64,
    columns: BTreeMap<String, Vec<String>>,
    /// The rows that are being read: of which table, and of which columns.
    table: String,
    names: Vec<String>,
    /// How many rows of each table came from INSERT.
    counts: BTreeMap<String, u64>,
    depth: usize,
    row: Vec<Value>,
    row_bytes: usize,
    cell: Option<Value>,
    wrong: Option<Note>,
}

impl Dump {
    pub(super) fn new(head: &[u8]) -> Self {
        let has = |word: &[u8]| head.windows(word.len()).any(|part| part == word);
        let escapes = has(b"MySQL dump")
            || has(b"MariaDB dump")
            || has(b"phpMyAdmin")
            || has(b"INSERT INTO `");
        Self {
            at: At::Between,
            statement: Statement::Begin,
            escapes,
            text: Vec::new(),
            long: false,
            line: 1,
            begun: 1,
            columns: BTreeMap::new(),
            table: String::new(),
            names: Vec::new(),
            counts: BTreeMap::new(),
            depth: 0,
            row: Vec::new(),
            row_bytes: 0,
            cell: None,
            wrong: None,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], tell: Tell<'_>) -> Result<(), Stop> {
        for byte in bytes {
            self.byte(*byte, tell)?;
            self.line += u64::from(*byte == b'\n');
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, tell: Tell<'_>) -> Result<(), Stop> {
        match &self.at {
            At::Rows | At::Copy => {
                if !self.text.is_empty() {
                    self.copy_row(tell);
                }
                let what = "rows of a COPY do not end with `\\.`";
                Err(Stop::CutOff(self.line, what.into()))
            }
            At::Quoted(..) | At::Escaped(_) | At::Block(_) | At::Dollars(..) => {
                if self.depth > 0 {
                    self.refuse(tell, note(Oddity::Unreadable, "it ends in the middle"));
                }
                Err(Stop::CutOff(
                    self.begun,
                    "a text or a comment is never closed".into(),
                ))
            }
            _ => {
                if self.at == At::Word {
                    self.end_word(tell)?;
                }
                if self.depth > 0 {
                    self.refuse(tell, note(Oddity::Unreadable, "it ends in the middle"));
                    return Err(Stop::CutOff(self.line, "a row is never closed".into()));
                }
                Ok(())
            }
        }
    }

    fn byte(&mut self, byte: u8, tell: Tell<'_>) -> Result<(), Stop> {
        match &mut self.at {
            At::Rows => {
                if byte == b'\n' {
                    self.copy_row(tell);
                } else {
                    self.push(byte);
                }
                return Ok(());
            }
            At::Copy => {
                if byte == b'\n' {
                    self.at = At::Rows;
                }
                return Ok(());
            }
            At::Line => {
                if byte == b'\n' {
                    self.at = At::Between;
                }
                return Ok(());
            }
            At::Block(star) => {
                if *star && byte == b'/' {
                    self.at = At::Between;
                } else {
                    *star = byte == b'*';
                }
                return Ok(());
            }
            At::Escaped(quote) => {
                let quote = *quote;
                self.push(unescaped(byte));
                self.at = At::Quoted(quote, true);
                return Ok(());
            }
            At::Quoted(quote, escapes) => {
                let (quote, escapes) = (*quote, *escapes);
                if byte == quote {
                    self.at = At::Quote(quote, escapes);
                } else if byte == b'\\' && escapes {
                    self.at = At::Escaped(quote);
                } else {
                    self.push(byte);
                }
                return Ok(());
            }
            At::Quote(quote, escapes) => {
                let (quote, escapes) = (*quote, *escapes);
                if byte == quote {
                    self.push(byte);
                    self.at = At::Quoted(quote, escapes);
                    return Ok(());
                }
                self.at = At::Between;
                let token = self.text(quote);
                self.token(token, tell)?;
            }
            At::Tag(tag) => {
                if byte == b'$' {
                    let tag = std::mem::take(tag);
                    self.at = At::Dollars(tag, Vec::new());
                    return Ok(());
                }
                if tag.len() < TAG_MAX && (byte.is_ascii_alphanumeric() || byte == b'_') {
                    tag.push(byte);
                    return Ok(());
                }
                self.at = At::Between;
            }
            At::Dollars(tag, end) => {
                // The end is `$tag$`; what may be the beginning of it is remembered.
                if byte == b'$' {
                    if end.first() == Some(&b'$') && end.get(1..) == Some(tag.as_slice()) {
                        self.at = At::Between;
                        return self.token(Token::Text(String::new()), tell);
                    }
                    end.clear();
                    end.push(b'$');
                } else if !end.is_empty() {
                    if end.len() <= tag.len() {
                        end.push(byte);
                    } else {
                        end.clear();
                    }
                }
                return Ok(());
            }
            At::Dash => {
                self.at = At::Between;
                if byte == b'-' {
                    self.at = At::Line;
                    return Ok(());
                }
                self.token(Token::Mark(b'-'), tell)?;
            }
            At::Slash => {
                self.at = At::Between;
                if byte == b'*' {
                    self.at = At::Block(false);
                    self.begun = self.line;
                    return Ok(());
                }
                self.token(Token::Mark(b'/'), tell)?;
            }
            At::Word => {
                let goes_on = byte.is_ascii_alphanumeric()
                    || matches!(byte, b'_' | b'.' | b'$')
                    || byte >= 0x80;
                if goes_on {
                    self.push(byte);
                    return Ok(());
                }
                // `E'...'` takes backslashes for more than themselves.
                if byte == b'\'' && self.text.eq_ignore_ascii_case(b"e") {
                    self.open(byte, true);
                    return Ok(());
                }
                self.end_word(tell)?;
            }
            At::Between => {}
        }
        self.between(byte, tell)
    }

    fn between(&mut self, byte: u8, tell: Tell<'_>) -> Result<(), Stop> {
        if matches!(self.at, At::Copy | At::Rows) {
            // The semicolon of a COPY: its rows begin on the next line.
            if byte == b'\n' {
                self.at = At::Rows;
            }
            return Ok(());
        }
        match byte {
            b'\'' => self.open(byte, self.escapes),
            b'"' | b'`' => self.open(byte, false),
            b'-' => self.at = At::Dash,
            b'/' => self.at = At::Slash,
            b'#' if self.escapes => self.at = At::Line,
            // A command of psql.
            b'\\' if self.statement == Statement::Begin => self.at = At::Line,
            b'$' => {
                self.begun = self.line;
                self.at = At::Tag(Vec::new());
            }
            byte if byte.is_ascii_whitespace() => {}
            byte if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 => {
                self.text.clear();
                self.long = false;
                self.at = At::Word;
                self.push(byte);
            }
            byte => return self.token(Token::Mark(byte), tell),
        }
        Ok(())
    }

    fn open(&mut self, quote: u8, escapes: bool) {
        self.text.clear();
        self.long = false;
        self.begun = self.line;
        self.at = At::Quoted(quote, escapes);
    }

    fn push(&mut self, byte: u8) {
        if self.text.len() < ENTRY_BYTES_MAX {
            self.text.push(byte);
        } else {
            self.long = true;
        }
    }

    fn text(&mut self, quote: u8) -> Token {
        let text = std::mem::take(&mut self.text);
        match String::from_utf8(text) {
            _ if self.long => Token::Unread(true),
            Err(_) => Token::Unread(false),
            Ok(text) if quote == b'\'' => Token::Text(text),
            // MySQL may put texts into double quotes.
            Ok(text) if quote == b'"' && self.escapes => Token::Text(text),
            Ok(text) => Token::Name(text),
        }
    }

    fn end_word(&mut self, tell: Tell<'_>) -> Result<(), Stop> {
        self.at = At::Between;
        let text = std::mem::take(&mut self.text);
        let token = match String::from_utf8(text) {
            _ if self.long => Token::Unread(true),
            Err(_) => Token::Unread(false),
            Ok(word) => Token::Word(word),
        };
        self.token(token, tell)
    }

    fn token(&mut self, token: Token, tell: Tell<'_>) -> Result<(), Stop> {
        if token == Token::Mark(b';') && self.depth == 0 {
            let ended = std::mem::replace(&mut self.statement, Statement::Begin);
            if let Statement::Head(head) = ended {
                self.whole(&head);
            }
            return Ok(());
        }
        match &mut self.statement {
            Statement::Begin => {
                let known = ["COPY", "INSERT", "REPLACE", "CREATE"];
                let is_known = matches!(&token, Token::Word(word) if known.iter().any(|known| word.eq_ignore_ascii_case(known)));
                self.statement = if is_known {
                    Statement::Head(vec![token])
                } else {
                    Statement::Skip
                };
            }
            Statement::Head(head) => {
                let first = head.first();
                let inserts = matches!(first, Some(Token::Word(word)) if !word.eq_ignore_ascii_case("copy") && !word.eq_ignore_ascii_case("create"));
                let values =
                    matches!(&token, Token::Word(word) if word.eq_ignore_ascii_case("values"));
                if inserts && values {
                    let head = std::mem::take(head);
                    self.begin_values(&head);
                } else if head.len() >= HEAD_MAX {
                    self.statement = Statement::Skip;
                } else {
                    head.push(token);
                }
            }
            Statement::Values => self.value(token, tell),
            Statement::Skip => {}
        }
        Ok(())
    }

    /// A statement without rows in it has ended.
    fn whole(&mut self, head: &[Token]) {
        let word = |at: usize| match head.get(at) {
            Some(Token::Word(word)) => word.to_ascii_uppercase(),
            _ => String::new(),
        };
        if word(0) == "COPY" {
            let from = head.iter().any(
                |token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("stdin")),
            );
            if from {
                self.begin_rows(head.get(1..).unwrap_or_default());
                self.at = At::Copy;
                self.text.clear();
                self.long = false;
            }
            return;
        }
        let table = (0..head.len().min(4)).find(|at| word(*at) == "TABLE");
        let Some(table) = table else {
            return;
        };
        let after = if word(table + 1) == "IF" {
            table + 4
        } else {
            table + 1
        };
        let rest = head.get(after..).unwrap_or_default();
        let (name, rest) = name(rest);
        if self.columns.len() < TABLES_MAX {
            self.columns.insert(name, defined(rest));
        }
    }

    fn begin_values(&mut self, head: &[Token]) {
        let into = head.iter().position(
            |token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("into")),
        );
        let rest = into.and_then(|at| head.get(at + 1..));
        match rest {
            Some(rest) => {
                self.begin_rows(rest);
                self.statement = Statement::Values;
            }
            None => self.statement = Statement::Skip,
        }
    }

    /// `schema.table (column, column)`; without columns those of CREATE TABLE.
    fn begin_rows(&mut self, tokens: &[Token]) {
        let (name, rest) = name(tokens);
        let listed = match rest.first() {
            Some(Token::Mark(b'(')) => {
                let inner = rest
                    .iter()
                    .skip(1)
                    .take_while(|token| **token != Token::Mark(b')'));
                let names = inner.filter_map(|token| match token {
                    Token::Word(name) | Token::Name(name) => Some(name.clone()),
                    _ => None,
                });
                names.collect()
            }
            _ => self.columns.get(&name).cloned().unwrap_or_default(),
        };
        self.names = listed;
        self.table = name;
    }

    /// What stands after VALUES.
    fn value(&mut self, token: Token, tell: Tell<'_>) {
        match (self.depth, token) {
            (0, Token::Mark(b'(')) => {
                self.depth = 1;
                self.row.clear();
                self.row_bytes = 0;
                self.cell = None;
                self.wrong = None;
            }
            (0, _) => {}
            (depth, Token::Mark(b'(' | b'[')) => self.depth = depth + 1,
            (1, Token::Mark(b')')) => {
                self.cell_ends();
                self.depth = 0;
                self.tuple(tell);
            }
            (depth, Token::Mark(b')' | b']')) if depth > 1 => self.depth = depth - 1,
            (1, Token::Mark(b',')) => self.cell_ends(),
            (1, Token::Text(text)) => {
                self.row_bytes += text.len();
                self.cell = Some(Value::String(text));
            }
            (1, Token::Word(word)) => {
                // A cast or a character set stands beside a text.
                if self.cell.is_none() {
                    self.cell = Some(match word.to_ascii_uppercase().as_str() {
                        "NULL" => Value::Null,
                        "TRUE" => Value::Bool(true),
                        "FALSE" => Value::Bool(false),
                        _ => Value::String(word),
                    });
                }
            }
            (_, Token::Unread(long)) => {
                self.wrong = Some(if long {
                    too_long()
                } else {
                    note(Oddity::Unreadable, "it is not UTF-8")
                });
            }
            // The minus of a number: none of ours is negative.
            (_, _) => {}
        }
    }

    fn cell_ends(&mut self) {
        let cell = self.cell.take().unwrap_or_default();
        if self.row.len() < HEAD_MAX && self.row_bytes <= ENTRY_BYTES_MAX {
            self.row.push(cell);
        } else if self.wrong.is_none() {
            self.wrong = Some(too_long());
        }
    }

    fn tuple(&mut self, tell: Tell<'_>) {
        let count = self.counts.entry(self.table.clone()).or_default();
        *count += 1;
        let row = *count;
        let cells = std::mem::take(&mut self.row);
        let what = match self.wrong.take() {
            Some(wrong) => Err(wrong),
            None => object(&self.names, cells),
        };
        tell(Found {
            table: &self.table,
            row,
            what,
        });
    }

    fn refuse(&mut self, tell: Tell<'_>, wrong: Note) {
        self.depth = 0;
        self.wrong = Some(wrong);
        self.tuple(tell);
    }

    /// A line of a COPY has ended.
    fn copy_row(&mut self, tell: Tell<'_>) {
        let line = std::mem::take(&mut self.text);
        let long = std::mem::take(&mut self.long);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line == b"\\." {
            self.at = At::Between;
            return;
        }
        let cells = line.split(|byte| *byte == b'\t').map(copied);
        let cells: Option<Vec<Value>> = cells.collect();
        let what = match cells {
            _ if long => Err(too_long()),
            None => Err(note(Oddity::Unreadable, "it is not UTF-8")),
            Some(cells) => object(&self.names, cells),
        };
        tell(Found {
            table: &self.table,
            row: self.line,
            what,
        });
    }
}

/// The name of a table, with its schema, and what follows.
fn name(tokens: &[Token]) -> (String, &[Token]) {
    let mut name = String::new();
    let mut rest = tokens;
    while let Some((first, after)) = rest.split_first() {
        match first {
            Token::Word(part) | Token::Name(part) if name.is_empty() || name.ends_with('.') => {
                name.push_str(part)
            }
            Token::Mark(b'.') => name.push('.'),
            _ => break,
        }
        rest = after;
    }
    (name, rest)
}

/// The columns that CREATE TABLE defines: the first word after the bracket and after each comma within it.
fn defined(tokens: &[Token]) -> Vec<String> {
    const CONSTRAINTS: [&str; 10] = [
        "PRIMARY",
        "KEY",
        "UNIQUE",
        "CONSTRAINT",
        "FOREIGN",
        "INDEX",
        "FULLTEXT",
        "SPATIAL",
        "CHECK",
        "EXCLUDE",
    ];
    let mut depth = 0_usize;
    let mut begins = false;
    let mut names = Vec::new();
    for token in tokens {
        match token {
            Token::Mark(b'(') => {
                depth += 1;
                begins = depth == 1;
            }
            Token::Mark(b')') => depth = depth.saturating_sub(1),
            Token::Mark(b',') if depth == 1 => begins = true,
            Token::Name(name) if begins => {
                names.push(name.clone());
                begins = false;
            }
            Token::Word(name) if begins => {
                if !CONSTRAINTS
                    .iter()
                    .any(|word| name.eq_ignore_ascii_case(word))
                {
                    names.push(name.clone());
                }
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn object(names: &[String], cells: Vec<Value>) -> Result<Value, Note> {
    if names.is_empty() {
        let why = "its columns are not known: neither it nor a CREATE TABLE before it names them";
        return Err(note(Oddity::Unreadable, why));
    }
    if names.len() != cells.len() {
        let detail = format!(
            "it has {} cells, and its table {}",
            cells.len(),
            names.len()
        );
        return Err(note(Oddity::WrongWidth, detail));
    }
    let pairs = names.iter().cloned().zip(cells);
    Ok(Value::Object(pairs.collect::<Map<_, _>>()))
}

/// What a backslash and a letter mean in a text of MySQL.
fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'0' => 0,
        b'b' => 8,
        b'Z' => 26,
        other => other,
    }
}

/// A cell of a COPY. Source: PostgreSQL, "COPY", text format. None: it is not UTF-8.
fn copied(cell: &[u8]) -> Option<Value> {
    if cell == b"\\N" {
        return Some(Value::Null);
    }
    if !cell.contains(&b'\\') {
        return std::str::from_utf8(cell)
            .ok()
            .map(|text| Value::String(text.to_owned()));
    }
    let mut out = Vec::with_capacity(cell.len());
    let mut rest = cell.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'b') => out.push(8),
            Some(b'f') => out.push(12),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(b'v') => out.push(11),
            Some(b'x') => {
                out.push(number(&mut rest, 16, 0));
            }
            Some(digit @ b'0'..=b'7') => {
                out.push(number(&mut rest, 8, u32::from(digit - b'0')));
            }
            Some(other) => out.push(other),
            None => out.push(b'\\'),
        }
    }
    String::from_utf8(out).ok().map(Value::String)
}

/// Up to two more digits of a number.
fn number(rest: &mut std::iter::Peekable<impl Iterator<Item = u8>>, radix: u32, begun: u32) -> u8 {
    let mut value = begun;
    for _ in 0..2 {
        let digit = rest
            .peek()
            .and_then(|next| char::from(*next).to_digit(radix));
        let Some(digit) = digit else { break };
        value = value * radix + digit;
        rest.next();
    }
    u8::try_from(value & 0xFF).unwrap_or_default()
}
