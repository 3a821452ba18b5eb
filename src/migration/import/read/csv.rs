//! CSV, RFC 4180, strictly: a row whose width is not that of the row of names is refused, and never read shifted.
//!
//! Written here, since readers at hand take a quote that is never closed for a cell as long as the rest of the file: rows would be lost
//! and memory would not be bounded. A test holds it against such a reader for everything else.

use serde_json::{Map, Value};

use super::super::record::Oddity;
use super::{ENTRY_BYTES_MAX, Found, Stop, Tell, note, too_long};

/// Most columns of a file. The widest known, of Firebase, has 52.
const COLUMNS_MAX: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first letter of a cell.
    Begin,
    /// In a cell without quotes.
    Plain,
    /// Within quotes.
    Quoted,
    /// After a quote within quotes: the end of the cell, or half of a doubled one.
    Quote,
    /// After a carriage return that ended a row.
    Return,
}

/// Rows out of bytes.
pub(super) struct Rows {
    delimiter: u8,
    /// The names of the columns, once they were read; none where the form has none.
    names: Option<Vec<String>>,
    named: bool,
    at: At,
    /// The cells of the row, one after the other.
    cells: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// Whether anything of the row was quoted: a row of one empty cell is a blank line otherwise.
    quoted: bool,
    line: u64,
    /// The line on which the row, and the open quote, began.
    begun: u64,
    opened: u64,
    wrong: Option<&'static str>,
    long: bool,
}

impl Rows {
    pub(super) fn new(named: bool, head: &[u8]) -> Self {
        Self {
            delimiter: delimiter(head),
            names: None,
            named,
            at: At::Begin,
            cells: Vec::new(),
            ends: Vec::new(),
            quoted: false,
            line: 1,
            begun: 1,
            opened: 1,
            wrong: None,
            long: false,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], tell: Tell<'_>) -> Result<(), Stop> {
        for byte in bytes {
            self.byte(*byte, tell)?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, tell: Tell<'_>) -> Result<(), Stop> {
        if self.at == At::Quoted {
            let what = "a quote is never closed";
            let opened = self.opened;
            tell(Found {
                table: "",
                row: self.begun,
                what: Err(note(Oddity::Unreadable, what)),
            });
            return Err(Stop::CutOff(
                opened,
                format!("{what}: rows after it may be lost"),
            ));
        }
        let begins = self.at == At::Begin || self.at == At::Return;
        if !(begins && self.ends.is_empty() && self.cells.is_empty()) {
            self.row(tell)?;
        }
        if self.named && self.names.is_none() {
            return Err(Stop::Form("it is empty: not even a row of names".into()));
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8, tell: Tell<'_>) -> Result<(), Stop> {
        if self.at == At::Return {
            self.at = At::Begin;
            if byte == b'\n' {
                return Ok(());
            }
        }
        match self.at {
            At::Quoted => {
                match byte {
                    b'"' => self.at = At::Quote,
                    byte => {
                        self.line += u64::from(byte == b'\n');
                        self.push(byte);
                    }
                }
                return Ok(());
            }
            At::Quote if byte == b'"' => {
                self.at = At::Quoted;
                self.push(byte);
                return Ok(());
            }
            _ => {}
        }
        match byte {
            b'\n' | b'\r' => {
                self.row(tell)?;
                self.line += 1;
                self.begun = self.line;
                if byte == b'\r' {
                    self.at = At::Return;
                }
            }
            byte if byte == self.delimiter => self.cell()?,
            b'"' if self.at == At::Begin => {
                self.at = At::Quoted;
                self.quoted = true;
                self.opened = self.line;
            }
            byte => {
                if self.at == At::Quote {
                    self.wrong = Some("something stands after a closing quote");
                }
                self.at = At::Plain;
                self.push(byte);
            }
        }
        Ok(())
    }

    fn push(&mut self, byte: u8) {
        if self.cells.len() < ENTRY_BYTES_MAX {
            self.cells.push(byte);
        } else {
            self.long = true;
        }
    }

    fn cell(&mut self) -> Result<(), Stop> {
        self.at = At::Begin;
        if self.ends.len() >= COLUMNS_MAX {
            self.long = true;
            return Ok(());
        }
        self.ends.push(self.cells.len());
        Ok(())
    }

    fn row(&mut self, tell: Tell<'_>) -> Result<(), Stop> {
        self.cell()?;
        let blank = self.ends.len() == 1 && self.cells.is_empty() && !self.quoted;
        let result = if blank { Ok(()) } else { self.whole_row(tell) };
        self.cells.clear();
        self.ends.clear();
        self.quoted = false;
        self.wrong = None;
        self.long = false;
        result
    }

    fn whole_row(&mut self, tell: Tell<'_>) -> Result<(), Stop> {
        let texts = self.texts();
        let row = self.begun;
        let mut refuse = |what: Oddity, detail: String| {
            tell(Found {
                table: "",
                row,
                what: Err(note(what, detail)),
            });
        };
        if self.named && self.names.is_none() {
            return match texts {
                Some(texts) if self.wrong.is_none() && !self.long => self.header(texts),
                _ => Err(Stop::Form("its row of names cannot be read".into())),
            };
        }
        if self.long {
            let long = too_long();
            refuse(long.what, long.detail);
            return Ok(());
        }
        if let Some(wrong) = self.wrong {
            refuse(Oddity::Unreadable, wrong.into());
            return Ok(());
        }
        let Some(texts) = texts else {
            refuse(Oddity::Unreadable, "it is not UTF-8".into());
            return Ok(());
        };
        let value = match &self.names {
            None => Value::Array(texts.into_iter().map(Value::String).collect()),
            Some(names) if names.len() == texts.len() => {
                let cells = names.iter().zip(texts);
                let cells = cells.map(|(name, text)| match text.as_str() {
                    "" => (name.clone(), Value::Null),
                    _ => (name.clone(), Value::String(text)),
                });
                Value::Object(cells.collect::<Map<_, _>>())
            }
            Some(names) => {
                let detail = format!(
                    "it has {} cells, and the row of names {}",
                    texts.len(),
                    names.len()
                );
                refuse(Oddity::WrongWidth, detail);
                return Ok(());
            }
        };
        tell(Found {
            table: "",
            row,
            what: Ok(value),
        });
        Ok(())
    }

    fn header(&mut self, texts: Vec<String>) -> Result<(), Stop> {
        let names: Vec<String> = texts.iter().map(|text| text.trim().to_owned()).collect();
        for (at, name) in names.iter().enumerate() {
            let before = names.iter().take(at);
            if !name.is_empty() && before.clone().any(|other| other == name) {
                return Err(Stop::Form(format!("two columns are called `{name}`")));
            }
        }
        self.names = Some(names);
        Ok(())
    }

    /// The cells as texts; none where one is not UTF-8.
    fn texts(&self) -> Option<Vec<String>> {
        let mut begin = 0;
        let cells = self.ends.iter().map(|end| {
            let cell = self.cells.get(begin..*end)?;
            begin = *end;
            std::str::from_utf8(cell).ok().map(str::to_owned)
        });
        cells.collect()
    }
}

/// What stands between cells: a comma, or where the first line has none a semicolon or a tab, as spreadsheets write it in half of the
/// world.
fn delimiter(head: &[u8]) -> u8 {
    let line = head.split(|byte| *byte == b'\n' || *byte == b'\r').next();
    let line = line.unwrap_or_default();
    let others = [b',', b';', b'\t'];
    let found = others.into_iter().find(|byte| line.contains(byte));
    found.unwrap_or(b',')
}
