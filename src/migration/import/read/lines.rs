//! One JSON object a line: a broken line is refused, and the next one is read.

use serde_json::Value;

use super::super::record::Oddity;
use super::{ENTRY_BYTES_MAX, Found, Tell, note, too_long};

/// Objects out of bytes.
#[derive(Default)]
pub(super) struct Objects {
    line: Vec<u8>,
    long: bool,
    before: u64,
}

impl Objects {
    pub(super) fn feed(&mut self, bytes: &[u8], tell: Tell<'_>) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.push(line);
            self.end(tell);
            rest = after.get(1..).unwrap_or_default();
        }
        self.push(rest);
    }

    pub(super) fn finish(&mut self, tell: Tell<'_>) {
        self.end(tell);
    }

    fn push(&mut self, part: &[u8]) {
        if self.line.len() + part.len() > ENTRY_BYTES_MAX {
            self.long = true;
            self.line.clear();
        }
        if !self.long {
            self.line.extend_from_slice(part);
        }
    }

    fn end(&mut self, tell: Tell<'_>) {
        self.before += 1;
        let long = std::mem::take(&mut self.long);
        let line = self.line.trim_ascii();
        let what = match serde_json::from_slice(line) {
            _ if long => Err(too_long()),
            _ if line.is_empty() => return,
            Ok(value @ Value::Object(_)) => Ok(value),
            Ok(_) => Err(note(Oddity::Unreadable, "it is no JSON object")),
            Err(error) => Err(note(Oddity::Unreadable, json_error(&error))),
        };
        tell(Found {
            table: "",
            row: self.before,
            what,
        });
        self.line.clear();
    }
}

/// What is wrong with a JSON text, without a word of it: an error's own text may quote what it found.
pub(super) fn json_error(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Eof => "it ends in the middle",
        Category::Syntax | Category::Data | Category::Io => "it is no JSON",
    };
    format!(
        "{what}, at letter {} of its line {}",
        error.column(),
        error.line()
    )
}
