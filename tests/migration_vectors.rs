//! Vectors of the migration: hashes, second factors and sessions as the old systems write them, driven through the functions the proxy
//! calls. `VESTIBULE_MIGRATION_DATA` names another folder of the same shape (`vectors/` and `exports/` in it).

mod passwords;
mod sessions;
mod two_factor;

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;

/// Who runs a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Password hashes.
    Passwords,
    /// Second factors.
    TwoFactor,
    /// Sessions of old systems.
    Sessions,
}

impl Family {
    /// Whose a file is, by its name. What is nobody else's is read as password hashes, and fails there when it holds none: a file that
    /// nobody knows is never passed over.
    pub fn of(file: &str) -> Self {
        if file.starts_with("two_factor") {
            Self::TwoFactor
        } else if file.starts_with("legacy_sessions") || file.starts_with("framework_sessions") {
            Self::Sessions
        } else {
            Self::Passwords
        }
    }
}

/// The data: `VESTIBULE_MIGRATION_DATA`, or what is in this repository.
pub fn data() -> PathBuf {
    std::env::var_os("VESTIBULE_MIGRATION_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/migration"),
        PathBuf::from,
    )
}

/// The vector files of a family, in the order of their names.
pub fn files(family: Family) -> Vec<String> {
    let folder = data().join("vectors");
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Family::of(name) == family)
        .collect();
    names.sort();
    names
}

/// Reads one vector file.
pub fn load(file: &str) -> Value {
    let path = data().join("vectors").join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Counts what was found, run and failed in one file.
pub struct Tally {
    file: String,
    found: usize,
    run: usize,
    failed: Vec<String>,
    open: Vec<String>,
}

impl Tally {
    /// A tally over a file that holds `found` cases.
    pub fn new(file: &str, found: usize) -> Self {
        Self {
            file: file.to_owned(),
            found,
            run: 0,
            failed: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Counts one case; an `Err` says what was wrong with it.
    pub fn case(&mut self, id: &str, outcome: Result<(), String>) {
        self.run += 1;
        if let Err(wrong) = outcome {
            self.failed.push(format!("{id}: {wrong}"));
        }
    }

    /// Counts one case that we know not to meet, and why. It must err on the side that lets nobody in.
    pub fn left_open(&mut self, id: &str, why: &str) {
        self.run += 1;
        self.open.push(format!("{id}: {why}"));
    }

    /// Prints the counts (past the test runner's capture) and fails the test when a case failed, was left out, or none was found.
    pub fn finish(self) {
        let mut line = format!(
            "migration {}: {} found, {} run, {} failed\n",
            self.file,
            self.found,
            self.run,
            self.failed.len()
        );
        for open in &self.open {
            line.push_str(&format!("migration {}: left open: {open}\n", self.file));
        }
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

#[test]
fn every_file_is_somebody_s() {
    let all: usize = [Family::Passwords, Family::TwoFactor, Family::Sessions]
        .map(|family| files(family).len())
        .iter()
        .sum();
    let folder = data().join("vectors");
    assert_eq!(all, std::fs::read_dir(folder).unwrap().count());
    assert!(!files(Family::Passwords).is_empty());
    assert_eq!(Family::of("what_is_this.json"), Family::Passwords);
}
