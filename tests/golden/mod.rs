//! Vectors made by the real Better Auth and Next.js, driven through the functions the proxy calls.

mod api_keys;
mod client_ip;
mod cookie_cache;
mod cookies;
mod databases;
mod get_session;
mod passwords;
mod redis;
mod tokens;

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;

mod nextjs_matcher;

/// Where the vectors are: `VESTIBULE_GOLDEN`, or this folder.
pub fn folder() -> PathBuf {
    std::env::var_os("VESTIBULE_GOLDEN").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden"),
        PathBuf::from,
    )
}

/// Reads one vector file.
pub fn load(file: &str) -> Value {
    let path = folder().join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Counts what was found, run and failed in one file.
pub struct Tally {
    file: &'static str,
    found: usize,
    run: usize,
    failed: Vec<String>,
}

impl Tally {
    /// A tally over a file that holds `found` cases.
    pub fn new(file: &'static str, found: usize) -> Self {
        Self {
            file,
            found,
            run: 0,
            failed: Vec::new(),
        }
    }

    /// Counts one case; an `Err` says what was wrong with it.
    pub fn case(&mut self, id: &str, outcome: Result<(), String>) {
        self.run += 1;
        if let Err(wrong) = outcome {
            self.failed.push(format!("{id}: {wrong}"));
        }
    }

    /// Prints something worth knowing about a case, past the test runner's capture.
    pub fn note(&self, what: &str) {
        let line = format!("golden {}: {what}\n", self.file);
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    /// Prints the counts (past the test runner's capture) and fails the test when a case failed, was left out, or none was found.
    pub fn finish(self) {
        let line = format!(
            "golden {}: {} found, {} run, {} failed\n",
            self.file,
            self.found,
            self.run,
            self.failed.len()
        );
        let _ = std::io::stderr().write_all(line.as_bytes());
        assert!(self.found > 0, "{}: no cases found", self.file);
        assert_eq!(
            self.run, self.found,
            "{}: not every case was run",
            self.file
        );
        assert!(
            self.failed.is_empty(),
            "{}:\n{}",
            self.file,
            self.failed.join("\n")
        );
    }
}
