//! What a finding rests on: the first rows, and how many there are in all.

use serde::Serialize;

use crate::migration::import::record::Place;

/// Rows named at a finding. Enough to look at a pattern; the report of an import names every row.
pub const ROWS_MAX: usize = 20;

/// Rows that show something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// How many there are.
    pub count: u64,
    /// The first of them, at most [`ROWS_MAX`].
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The input it stands in.
    pub input: String,
    /// The line, or the number of the object.
    pub row: u64,
}

impl From<&Place> for Row {
    fn from(place: &Place) -> Self {
        Self {
            input: place.input.to_string(),
            row: place.row,
        }
    }
}

impl Evidence {
    /// One more.
    pub fn add(&mut self, place: &Place) {
        self.count += 1;
        if self.rows.len() < ROWS_MAX {
            self.rows.push(place.into());
        }
    }

    /// So many of which no row is known.
    pub const fn counted(count: u64) -> Self {
        Self {
            count,
            rows: Vec::new(),
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// In words: `users.csv 3, 7; api 12 and 4 more`.
    pub fn told(&self) -> String {
        let mut text = String::new();
        let mut before: Option<&str> = None;
        for row in &self.rows {
            match before {
                Some(input) if input == row.input => text.push_str(", "),
                _ => {
                    if before.is_some() {
                        text.push_str("; ");
                    }
                    text.push_str(&row.input);
                    text.push_str(" row ");
                }
            }
            text.push_str(&row.row.to_string());
            before = Some(&row.input);
        }
        let named = u64::try_from(self.rows.len()).unwrap_or(u64::MAX);
        if named > 0 && self.count > named {
            text.push_str(&format!(" and {} more", self.count - named));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rows_are_named_and_the_rest_is_counted() {
        let mut evidence = Evidence::default();
        assert_eq!(evidence.told(), "");
        for row in 1..=25 {
            let input = if row < 3 { "a.csv" } else { "b.json" };
            evidence.add(&Place {
                input: input.into(),
                row,
            });
        }
        assert_eq!((evidence.count, evidence.rows.len()), (25, ROWS_MAX));
        let told = evidence.told();
        assert!(
            told.starts_with("a.csv row 1, 2; b.json row 3, 4,"),
            "{told}"
        );
        assert!(told.ends_with("20 and 5 more"), "{told}");
    }
}
