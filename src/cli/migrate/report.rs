//! What became of rows, for people and for programs.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::json;

use super::super::{Failure, PROBLEMS, World};
use crate::migration::import::outcome::{Outcome, Tally};
use crate::migration::import::target::Row;

/// Rows that are shown of one reason.
const SHOWN: usize = 5;

/// Reasons that are shown with rows.
const REASONS: usize = 40;

/// A file of rows, one each: CSV, or one JSON object a line where its name ends in `json` or `ndjson`. Only its owner may read it.
pub struct Report {
    file: BufWriter<std::fs::File>,
    path: String,
    json: bool,
}

impl Report {
    /// A new file. One that is there is written over.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &Path, world: &World<'_>) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(world.path(path))
            .map_err(|error| unwritable(&shown, &error))?;
        let extension = path.extension().and_then(|extension| extension.to_str());
        let mut report = Self {
            file: BufWriter::new(file),
            path: shown,
            json: extension.is_some_and(|extension| extension.ends_with("json")),
        };
        if !report.json {
            report.put("kind,input,line,source_id,target_id,outcome,reason,detail\n")?;
        }
        Ok(report)
    }

    fn put(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|error| unwritable(&self.path, &error))
    }

    /// One row.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn row(&mut self, row: &Row) -> Result<(), Failure> {
        let line = row.place.row.to_string();
        let cells = [
            row.kind.as_str(),
            &row.place.input,
            &line,
            row.source_id.as_deref().unwrap_or_default(),
            row.target_id.as_deref().unwrap_or_default(),
            row.outcome.as_str(),
            &row.reason,
            &row.detail,
        ];
        let text = match self.json {
            true => told(row).to_string(),
            false => cells.map(cell).join(","),
        };
        self.put(&format!("{text}\n"))
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn close(mut self) -> Result<(), Failure> {
        let closed = self.file.flush();
        closed.map_err(|error| unwritable(&self.path, &error))
    }
}

fn unwritable(path: &str, error: &std::io::Error) -> Failure {
    Failure {
        message: format!("{path} cannot be written: {error}"),
        advice: "name another file".into(),
        code: PROBLEMS,
    }
}

/// A row as an object.
pub fn told(row: &Row) -> serde_json::Value {
    json!({
        "kind": row.kind.as_str(),
        "input": &*row.place.input,
        "line": row.place.row,
        "source_id": row.source_id,
        "target_id": row.target_id,
        "outcome": row.outcome.as_str(),
        "reason": row.reason,
        "detail": row.detail,
    })
}

/// A cell of RFC 4180 that no spreadsheet takes for a formula.
pub fn cell(text: &str) -> String {
    let guarded = match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    };
    match guarded.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", guarded.replace('"', "\"\"")),
        false => guarded,
    }
}

/// Rows to be shown: the first of each reason.
#[derive(Default)]
pub struct Examples {
    by_reason: BTreeMap<(String, String), Vec<String>>,
}

impl Examples {
    /// One row. What was simply made is no example of anything.
    pub fn note(&mut self, row: &Row) {
        if row.reason.is_empty() || matches!(row.outcome, Outcome::Unchanged | Outcome::Skipped) {
            return;
        }
        for reason in row.reason.split(',') {
            let key = (row.outcome.as_str().to_owned(), reason.to_owned());
            if self.by_reason.len() >= REASONS && !self.by_reason.contains_key(&key) {
                continue;
            }
            let some = self.by_reason.entry(key).or_default();
            if some.len() < SHOWN {
                some.push(format!(
                    "{}:{} {}",
                    row.place.input,
                    row.place.row,
                    row.source_id.as_deref().unwrap_or("-")
                ));
            }
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for ((outcome, reason), rows) in &self.by_reason {
            out.push_str(&format!("  {outcome}, {reason}: {}\n", rows.join(", ")));
        }
        out
    }
}

/// A tally for people: outcomes by kind, and what has no column.
pub fn summary(tally: &Tally) -> String {
    let mut out = String::new();
    for (kind, outcome, count) in tally.rows() {
        out.push_str(&format!("  {count:>9}  {kind} {outcome}\n"));
    }
    let (columns, reasons): (Vec<_>, Vec<_>) = tally
        .reasons()
        .partition(|(reason, _)| reason.starts_with("no-column:"));
    if !reasons.is_empty() {
        out.push_str("what was odd:\n");
    }
    for (reason, count) in reasons {
        out.push_str(&format!("  {count:>9}  {reason}\n"));
    }
    for (reason, count) in columns {
        let field = reason.trim_start_matches("no-column:");
        out.push_str(&format!(
            "the database has no column for `{field}`: it was left out of {count} rows\n"
        ));
    }
    out
}

/// The same for programs.
pub fn counted(tally: &Tally) -> serde_json::Value {
    let mut outcomes = serde_json::Map::new();
    for (kind, outcome, count) in tally.rows() {
        let of_kind = outcomes.entry(kind).or_insert_with(|| json!({}));
        if let Some(of_kind) = of_kind.as_object_mut() {
            of_kind.insert(outcome.to_owned(), count.into());
        }
    }
    let reasons: serde_json::Map<String, serde_json::Value> = tally
        .reasons()
        .map(|(reason, count)| (reason.to_owned(), count.into()))
        .collect();
    json!({ "rows": tally.total(), "outcomes": outcomes, "reasons": reasons })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_no_formulas() {
        for (text, written) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=SUM(A1)", "'=SUM(A1)"),
            ("@x,y", "\"'@x,y\""),
            ("two\nlines", "\"two\nlines\""),
        ] {
            assert_eq!(cell(text), written);
        }
    }
}
