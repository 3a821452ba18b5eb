//! Entries out of bytes, as they come: whatever the size of a file, no more than one entry of it is in memory.
//!
//! A broken entry is refused with its place, and the next one is read. Where it cannot be known where the next one begins, reading
//! stops with an error that says so: a file never ends silently in its middle.

mod csv;
mod json;
mod lines;
mod sql;

use std::sync::Arc;

use serde_json::Value;

use super::record::{Note, Oddity, Place};
use super::source::{Entry, Form, Fragment, Input, Lists, Options, Refusal};

/// Longest entry that is read, in bytes. Vendors bound what an app keeps beside a user to some ten kilobytes, Firebase's pictures and
/// homemade tables to whatever a column holds; more than this is a file that is not what it is said to be.
pub const ENTRY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How much of a file is looked at to tell its form, in bytes. A row of names, or the first object, nearly always fits.
const SNIFF_BYTES: usize = 64 * 1024;

/// The rest of an input cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is in none of the forms of the input.
    #[error("{0}: {1}")]
    Form(Arc<str>, String),
    /// It ends in the middle.
    #[error(
        "{input}: it ends in the middle, at line {line}: {what}; it was cut off, or a quote or bracket is missing"
    )]
    CutOff {
        /// The file.
        input: Arc<str>,
        /// Its last line, or that on which what is open began.
        line: u64,
        /// What is open.
        what: String,
    },
    /// Where the next entry begins cannot be known.
    #[error("{input}: what follows line {line} cannot be read: {what}")]
    Lost {
        /// The file.
        input: Arc<str>,
        /// The line.
        line: u64,
        /// Why.
        what: String,
    },
}

impl Broken {
    /// The operator's next step.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Form(..) => {
                "compare the file with the forms of this input in the documentation, and export it again"
            }
            Self::CutOff { .. } => {
                "export it again; what was read before this line stands in the report"
            }
            Self::Lost { .. } => {
                "mend the file at this line, or export it again; what was read before it stands in the report"
            }
        }
    }
}

/// What was read of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries: rows, objects, lines.
    pub entries: u64,
    /// Of these, how many became a refusal. Every other one became at least one fragment.
    pub refused: u64,
    /// What they became.
    pub fragments: u64,
    /// Rows of tables that say nothing of users, in a dump of many. They are no entries.
    pub passed_over: u64,
}

/// What a machine finds: an entry, or why there is none at this place.
struct Found<'f> {
    table: &'f str,
    row: u64,
    what: Result<Value, Note>,
}

/// Whoever is told what a machine finds.
type Tell<'t> = &'t mut dyn FnMut(Found<'_>);

enum Machine {
    Csv(csv::Rows),
    Json(json::Values),
    Lines(lines::Objects),
    Sql(sql::Dump),
}

/// Reads one input, a piece after the other.
pub struct Reader<'o> {
    input: &'static Input,
    options: &'o Options,
    name: Arc<str>,
    /// The name with the table that was read last.
    table: (String, Arc<str>),
    head: Vec<u8>,
    machine: Option<Machine>,
    tally: Tally,
}

/// Reads all of an input that is in memory or comes in pieces.
///
/// # Errors
/// When its rest cannot be read. What was emitted before counts.
pub fn read<'b>(
    input: &'static Input,
    name: &str,
    options: &Options,
    pieces: impl IntoIterator<Item = &'b [u8]>,
    emit: &mut dyn FnMut(Result<Fragment, Refusal>),
) -> Result<Tally, Broken> {
    let mut reader = Reader::new(input, name, options);
    for piece in pieces {
        reader.feed(piece, emit)?;
    }
    reader.finish(emit)
}

/// What becomes of one entry that was read elsewhere: of a page of an API, of a row of a database. `row`: its number, from 1.
pub fn take(
    input: &'static Input,
    options: &Options,
    entry: &Entry,
    emit: &mut dyn FnMut(Result<Fragment, Refusal>),
) -> Tally {
    let mut tally = Tally {
        entries: 1,
        ..Tally::default()
    };
    match (input.part)(entry, options) {
        // A row of another table.
        Ok(fragments) if fragments.is_empty() => {
            tally.entries = 0;
            tally.passed_over = 1;
        }
        Ok(fragments) => {
            tally.fragments = fragments.len() as u64;
            for fragment in fragments {
                emit(Ok(fragment));
            }
        }
        Err(note) => {
            tally.refused = 1;
            emit(Err(Refusal {
                place: entry.place.clone(),
                source_id: super::source::id(&entry.value, "/id"),
                note,
            }));
        }
    }
    tally
}

impl<'o> Reader<'o> {
    /// A reader of an input. `name`: what reports call the file.
    pub fn new(input: &'static Input, name: &str, options: &'o Options) -> Self {
        let name: Arc<str> = name.into();
        Self {
            input,
            options,
            table: (String::new(), name.clone()),
            name,
            head: Vec::new(),
            machine: None,
            tally: Tally::default(),
        }
    }

    /// What was read so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Reads the next piece.
    ///
    /// # Errors
    /// When the rest cannot be read.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        emit: &mut dyn FnMut(Result<Fragment, Refusal>),
    ) -> Result<(), Broken> {
        if self.machine.is_some() {
            return self.pass(bytes, false, emit);
        }
        self.head.extend_from_slice(bytes);
        if self.head.len() < SNIFF_BYTES {
            return Ok(());
        }
        self.begin(emit)
    }

    /// There are no more pieces.
    ///
    /// # Errors
    /// When it ends in the middle.
    pub fn finish(
        mut self,
        emit: &mut dyn FnMut(Result<Fragment, Refusal>),
    ) -> Result<Tally, Broken> {
        if self.machine.is_none() {
            self.begin(emit)?;
        }
        self.pass(&[], true, emit)?;
        Ok(self.tally)
    }

    fn begin(&mut self, emit: &mut dyn FnMut(Result<Fragment, Refusal>)) -> Result<(), Broken> {
        let head = std::mem::take(&mut self.head);
        let text = match head.as_slice() {
            [0xEF, 0xBB, 0xBF, rest @ ..] => rest,
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => {
                return Err(self.form("it is UTF-16: save it as UTF-8"));
            }
            [0x1F, 0x8B, ..] => return Err(self.form("it is compressed: unpack it first")),
            all => all,
        };
        let machine = match sniff(text, self.input) {
            Some(Form::Csv) => Machine::Csv(csv::Rows::new(true, text)),
            Some(Form::Cells) => Machine::Csv(csv::Rows::new(false, text)),
            Some(Form::Json) => Machine::Json(json::Values::new(self.input.lists)),
            Some(Form::Ndjson) => Machine::Lines(lines::Objects::default()),
            Some(Form::Sql) => Machine::Sql(sql::Dump::new(text)),
            None => {
                let known: Vec<&str> = self.input.forms.iter().map(|form| form.word()).collect();
                let known = known.join(", ");
                return Err(self.form(&format!("it is none of these: {known}")));
            }
        };
        self.machine = Some(machine);
        self.pass(text, false, emit)
    }

    fn form(&self, what: &str) -> Broken {
        Broken::Form(self.name.clone(), what.to_owned())
    }

    fn pass(
        &mut self,
        bytes: &[u8],
        ends: bool,
        emit: &mut dyn FnMut(Result<Fragment, Refusal>),
    ) -> Result<(), Broken> {
        let Some(mut machine) = self.machine.take() else {
            return Ok(());
        };
        let name = self.name.clone();
        let tell = &mut |found: Found<'_>| self.found(found, emit);
        let result = match (&mut machine, ends) {
            (Machine::Csv(rows), false) => rows.feed(bytes, tell),
            (Machine::Csv(rows), true) => rows.finish(tell),
            (Machine::Json(values), false) => values.feed(bytes, tell),
            (Machine::Json(values), true) => values.finish(tell),
            (Machine::Lines(lines), false) => {
                lines.feed(bytes, tell);
                Ok(())
            }
            (Machine::Lines(lines), true) => {
                lines.finish(tell);
                Ok(())
            }
            (Machine::Sql(dump), false) => dump.feed(bytes, tell),
            (Machine::Sql(dump), true) => dump.finish(tell),
        };
        self.machine = Some(machine);
        result.map_err(|stop| stop.of(name))
    }

    fn found(&mut self, found: Found<'_>, emit: &mut dyn FnMut(Result<Fragment, Refusal>)) {
        if self.table.0 != found.table {
            let place = match found.table {
                "" => self.name.clone(),
                table => format!("{}#{table}", self.name).into(),
            };
            self.table = (found.table.to_owned(), place);
        }
        let place = Place {
            input: self.table.1.clone(),
            row: found.row,
        };
        let one = match found.what {
            Ok(value) => {
                let entry = Entry {
                    table: found.table.to_owned(),
                    place,
                    value,
                };
                take(self.input, self.options, &entry, emit)
            }
            Err(note) => {
                emit(Err(Refusal {
                    place,
                    source_id: None,
                    note,
                }));
                Tally {
                    entries: 1,
                    refused: 1,
                    ..Tally::default()
                }
            }
        };
        self.tally.entries += one.entries;
        self.tally.refused += one.refused;
        self.tally.fragments += one.fragments;
        self.tally.passed_over += one.passed_over;
    }
}

impl Form {
    /// The word in messages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Csv => "CSV with a row of names",
            Self::Cells => "CSV without a row of names",
            Self::Json => "JSON",
            Self::Ndjson => "a JSON object a line",
            Self::Sql => "an SQL dump",
        }
    }
}

/// Why a machine stops, before the file's name is known.
enum Stop {
    Form(String),
    CutOff(u64, String),
    Lost(u64, String),
}

impl Stop {
    fn of(self, input: Arc<str>) -> Broken {
        match self {
            Self::Form(what) => Broken::Form(input, what),
            Self::CutOff(line, what) => Broken::CutOff { input, line, what },
            Self::Lost(line, what) => Broken::Lost { input, line, what },
        }
    }
}

fn note(what: Oddity, detail: impl Into<String>) -> Note {
    Note {
        what,
        detail: detail.into(),
    }
}

fn too_long() -> Note {
    note(
        Oddity::Unreadable,
        format!("it is longer than {ENTRY_BYTES_MAX} bytes"),
    )
}

/// The form of a file, by how it begins, among those its input has.
fn sniff(head: &[u8], input: &Input) -> Option<Form> {
    let has = |form: Form| input.forms.contains(&form).then_some(form);
    let begin = head.trim_ascii_start();
    match begin.first() {
        Some(b'[') => has(Form::Json).or_else(|| has(Form::Ndjson)),
        Some(b'{') => {
            if is_lines(begin, input.lists) {
                has(Form::Ndjson).or_else(|| has(Form::Json))
            } else {
                has(Form::Json).or_else(|| has(Form::Ndjson))
            }
        }
        _ if begin.is_empty() => input.forms.first().copied(),
        _ => {
            let sql = has(Form::Sql).filter(|_| is_sql(begin));
            sql.or_else(|| has(Form::Csv)).or_else(|| has(Form::Cells))
        }
    }
}

/// Whether each line is an object of its own: the first line is all of one, and no object that holds the entries.
fn is_lines(begin: &[u8], lists: Lists) -> bool {
    let Some(end) = begin.iter().position(|byte| *byte == b'\n') else {
        return false;
    };
    let line = begin.get(..end).unwrap_or_default().trim_ascii();
    match serde_json::from_slice::<Value>(line) {
        Ok(Value::Object(map)) => match lists {
            Lists::Named(names) => !names
                .iter()
                .any(|name| map.get(*name).is_some_and(Value::is_array)),
            Lists::Any => true,
        },
        Ok(_) => false,
        // A first line that is broken, of a file of lines.
        Err(_) => line.len() > 2 && line.ends_with(b"}"),
    }
}

fn is_sql(begin: &[u8]) -> bool {
    let text = String::from_utf8_lossy(begin);
    text.starts_with("--")
        || text.starts_with("/*")
        || text.lines().take(200).any(|line| {
            let line = line.trim_start().to_ascii_uppercase();
            ["COPY ", "INSERT INTO ", "CREATE TABLE ", "SET "]
                .iter()
                .any(|word| line.starts_with(word))
        })
}
