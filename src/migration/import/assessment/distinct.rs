//! Which values more than one user has, in bounded memory.
//!
//! A value is remembered as 64 bits of a digest: among four million values the chance that any two differ and look alike is below one in
//! a million, and what it costs is a row in a report that somebody looks at.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use crate::migration::import::record::Place;

use super::evidence::Evidence;

/// Values that are remembered: those of a million users with an address, a username and a number each. A table for so many takes some
/// 70 MB and 35 MB more while it grows for the last time; further values are counted as not compared.
pub const VALUES_MAX: usize = 3_600_000;

/// Bits of an entry that hold the row; the others hold the number of the input, and whether it was counted.
const ROW_BITS: u32 = 48;
const COUNTED: u64 = 1 << 63;

/// What kinds of values are compared: equal ones of different kinds are not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// Addresses, lower-case.
    Email,
    /// Usernames, lower-case.
    Username,
    /// Numbers.
    Phone,
    /// Accounts elsewhere.
    Social,
}

/// Values met so far.
#[derive(Debug, Default)]
pub struct Seen {
    values: HashMap<u64, u64>,
    inputs: Vec<Arc<str>>,
    input_numbers: HashMap<Arc<str>, u64>,
    /// Values that came when there was no place left.
    pub not_compared: u64,
    max: Option<usize>,
}

impl Seen {
    /// With place for this many values.
    #[cfg(test)]
    pub fn with_room(max: usize) -> Self {
        Self {
            max: Some(max),
            ..Self::default()
        }
    }

    /// Notes a value at a row. Where somebody had it before, both rows go into the evidence, each once.
    pub fn meet(&mut self, of: Of, parts: &[&str], place: &Place, evidence: &mut Evidence) {
        let input = self.input(&place.input);
        let row = place.row & ((1 << ROW_BITS) - 1);
        let room = self.values.len() < self.max.unwrap_or(VALUES_MAX);
        match self.values.entry(fingerprint(of, parts)) {
            Entry::Occupied(mut first) => {
                let known = *first.get();
                if known & COUNTED == 0 {
                    first.insert(known | COUNTED);
                    let number = usize::try_from(known >> ROW_BITS).unwrap_or(usize::MAX);
                    let input = self.inputs.get(number).cloned();
                    evidence.add(&Place {
                        input: input.unwrap_or_else(|| "?".into()),
                        row: known & ((1 << ROW_BITS) - 1),
                    });
                }
                evidence.add(place);
            }
            Entry::Vacant(free) if room => {
                free.insert(input << ROW_BITS | row);
            }
            Entry::Vacant(_) => self.not_compared += 1,
        }
    }

    /// Whether more than one user was met with a value.
    pub fn is_shared(&self, of: Of, parts: &[&str]) -> bool {
        let known = self.values.get(&fingerprint(of, parts));
        known.is_some_and(|known| known & COUNTED != 0)
    }

    fn input(&mut self, name: &Arc<str>) -> u64 {
        if let Some(number) = self.input_numbers.get(name) {
            return *number;
        }
        // As many as the bits hold; whatever comes later is told as the last.
        let most = (COUNTED >> ROW_BITS) - 1;
        let number = u64::try_from(self.inputs.len()).unwrap_or(most).min(most);
        if number < most {
            self.inputs.push(Arc::clone(name));
            self.input_numbers.insert(Arc::clone(name), number);
        }
        number
    }
}

fn fingerprint(of: Of, parts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    for part in parts {
        // With its length, so that the parts cannot run into each other.
        part.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(row: u64) -> Place {
        Place {
            input: "users.csv".into(),
            row,
        }
    }

    #[test]
    fn all_who_share_a_value_are_named_once_each() {
        let (mut seen, mut evidence) = (Seen::default(), Evidence::default());
        for (row, value) in [(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "c")] {
            seen.meet(Of::Email, &[value], &at(row), &mut evidence);
        }
        let rows: Vec<u64> = evidence.rows.iter().map(|row| row.row).collect();
        assert_eq!((rows, evidence.count), (vec![1, 3, 4], 3));
        assert!(evidence.rows.iter().all(|row| row.input == "users.csv"));
        assert!(seen.is_shared(Of::Email, &["a"]));
        assert!(!seen.is_shared(Of::Email, &["b"]));
        assert!(!seen.is_shared(Of::Phone, &["a"]));
    }

    #[test]
    fn what_has_no_place_is_said_to_be_not_compared() {
        let (mut seen, mut evidence) = (Seen::with_room(2), Evidence::default());
        for (row, value) in [(1, "a"), (2, "b"), (3, "c"), (4, "c"), (5, "b")] {
            seen.meet(Of::Username, &[value], &at(row), &mut evidence);
        }
        assert_eq!((evidence.count, seen.not_compared), (2, 2));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = fingerprint(Of::Social, &["ab", "c"]);
        assert_ne!(one, fingerprint(Of::Social, &["a", "bc"]));
        assert_ne!(one, fingerprint(Of::Email, &["ab", "c"]));
    }
}
