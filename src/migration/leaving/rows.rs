//! Rows as another database, or an endpoint, takes them.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::time::UnixMs;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Text, ids, hashes.
    Text,
    /// Yes or no.
    Flag,
    /// An instant.
    Date,
    /// A whole number.
    Number,
}

/// One table that is written.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name; that of the gateway's own without their prefix.
    pub name: &'static str,
    /// Whether it is one of the gateway's own.
    pub own: bool,
    /// What tells two rows apart.
    pub key: &'static [&'static str],
    /// Its columns.
    pub columns: &'static [(&'static str, Holds)],
}

use Holds::{Date, Flag, Number, Text};

/// Every table, in the order in which they are written: whoever is pointed at comes first.
///
/// Source: better-auth 1.4 to 1.7, the core schema and the plugins admin, anonymous, organization, phone-number, two-factor, username.
pub const TABLES: &[Table] = &[
    Table {
        name: "user",
        own: false,
        key: &["id"],
        columns: &[
            ("id", Text),
            ("name", Text),
            ("email", Text),
            ("emailVerified", Flag),
            ("image", Text),
            ("createdAt", Date),
            ("updatedAt", Date),
            ("username", Text),
            ("displayUsername", Text),
            ("phoneNumber", Text),
            ("phoneNumberVerified", Flag),
            ("role", Text),
            ("banned", Flag),
            ("banReason", Text),
            ("banExpires", Date),
            ("twoFactorEnabled", Flag),
            ("isAnonymous", Flag),
            ("metadata", Text),
        ],
    },
    Table {
        name: "account",
        own: false,
        key: &["id"],
        columns: &[
            ("id", Text),
            ("accountId", Text),
            ("providerId", Text),
            ("userId", Text),
            ("accessToken", Text),
            ("refreshToken", Text),
            ("idToken", Text),
            ("accessTokenExpiresAt", Date),
            ("refreshTokenExpiresAt", Date),
            ("scope", Text),
            ("password", Text),
            ("createdAt", Date),
            ("updatedAt", Date),
        ],
    },
    Table {
        name: "twoFactor",
        own: false,
        key: &["id"],
        columns: &[
            ("id", Text),
            ("secret", Text),
            ("backupCodes", Text),
            ("userId", Text),
        ],
    },
    Table {
        name: "organization",
        own: false,
        key: &["id"],
        columns: &[
            ("id", Text),
            ("name", Text),
            ("slug", Text),
            ("logo", Text),
            ("createdAt", Date),
            ("metadata", Text),
        ],
    },
    Table {
        name: "member",
        own: false,
        key: &["id"],
        columns: &[
            ("id", Text),
            ("organizationId", Text),
            ("userId", Text),
            ("role", Text),
            ("createdAt", Date),
        ],
    },
    Table {
        name: "invitation",
        own: false,
        key: &["id"],
        columns: &[
            ("id", Text),
            ("organizationId", Text),
            ("email", Text),
            ("role", Text),
            ("status", Text),
            ("expiresAt", Date),
            ("createdAt", Date),
            ("inviterId", Text),
        ],
    },
    Table {
        name: "legacy_identity",
        own: true,
        key: &["source_user_id", "provider"],
        columns: &[
            ("provider", Text),
            ("source_user_id", Text),
            ("user_id", Text),
            ("state", Text),
            ("imported_at", Number),
            ("moved_at", Number),
        ],
    },
    Table {
        name: "legacy_credential",
        own: true,
        key: &["user_id"],
        columns: &[
            ("user_id", Text),
            ("scheme", Text),
            ("sealed", Text),
            ("state", Text),
            ("exported_at", Number),
            ("kept_at", Number),
            ("verified_at", Number),
            ("moved_at", Number),
        ],
    },
    Table {
        name: "legacy_factor",
        own: true,
        key: &["user_id"],
        columns: &[
            ("user_id", Text),
            ("sealed", Text),
            ("digits", Number),
            ("period", Number),
            ("algorithm", Text),
            ("last_step", Number),
            ("stand_in", Text),
            ("kept_at", Number),
        ],
    },
];

/// Columns that MySQL keeps short: the framework makes them `varchar(255)` there, so that they can be indexed.
const SHORT: &[(&str, &str)] = &[
    ("user", "name"),
    ("user", "email"),
    ("user", "username"),
    ("user", "phoneNumber"),
    ("organization", "name"),
    ("organization", "slug"),
    ("member", "role"),
    ("invitation", "email"),
    ("invitation", "role"),
];

/// What makes the app's tables where nothing is written but by us: as the framework itself would on SQLite, as wide as they are where the
/// rows go.
pub fn staging(towards: Option<Dialect>) -> String {
    let short = |table: &str, column: &str| {
        towards == Some(Dialect::MySql) && SHORT.contains(&(table, column))
    };
    let mut out = String::new();
    for table in TABLES.iter().filter(|table| !table.own) {
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|(name, holds)| {
                let kind = match holds {
                    Text if short(table.name, name) => "varchar(255)",
                    Text => "text",
                    Flag | Number => "integer",
                    Date => "date",
                };
                let rest = match (*name, table.name) {
                    ("id", _) => " NOT NULL PRIMARY KEY",
                    ("email", "user") | ("slug", _) => " NOT NULL UNIQUE",
                    ("username" | "phoneNumber", "user") => " UNIQUE",
                    ("userId" | "organizationId" | "providerId" | "accountId", _) => " NOT NULL",
                    _ => "",
                };
                format!("\"{name}\" {kind}{rest}")
            })
            .collect();
        // Formatting into a string cannot fail.
        let _ = writeln!(
            out,
            "CREATE TABLE \"{}\" ({});",
            table.name,
            columns.join(", ")
        );
    }
    out.push_str(
        "CREATE TABLE \"session\" (\"id\" text NOT NULL PRIMARY KEY, \"expiresAt\" date NOT NULL, \"token\" text NOT NULL UNIQUE, \
         \"createdAt\" date NOT NULL, \"updatedAt\" date NOT NULL, \"ipAddress\" text, \"userAgent\" text, \"userId\" text NOT NULL);\n\
         CREATE TABLE \"verification\" (\"id\" text NOT NULL PRIMARY KEY, \"identifier\" text NOT NULL, \"value\" text NOT NULL, \
         \"expiresAt\" date NOT NULL, \"createdAt\" date, \"updatedAt\" date);\n\
         CREATE INDEX account_user ON account (\"userId\");\nCREATE INDEX member_user ON member (\"userId\");\n",
    );
    out
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// Text.
    Text(String),
    /// Yes or no.
    Flag(bool),
    /// An instant.
    Date(UnixMs),
    /// A whole number.
    Number(i64),
}

/// What a file of statements is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite, libSQL, D1.
    Sqlite,
    /// PostgreSQL, and what speaks like it.
    Postgres,
    /// MySQL and MariaDB, and what speaks like them.
    MySql,
}

impl Dialect {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Sqlite, Self::Postgres, Self::MySql];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|dialect| dialect.as_str() == name)
    }

    /// What a file begins with. All of it is one transaction, where the database lets it be.
    pub const fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN;\n",
            Self::Postgres => {
                "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\nBEGIN;\n"
            }
            Self::MySql => {
                "SET NAMES utf8mb4;\nSET time_zone = '+00:00';\nSET sql_mode = 'STRICT_ALL_TABLES';\nSTART TRANSACTION;\n"
            }
        }
    }

    fn name(self, name: &str) -> String {
        match self {
            Self::MySql => format!("`{}`", name.replace('`', "``")),
            Self::Sqlite | Self::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    }

    fn table(self, table: &Table) -> String {
        match (table.own, self) {
            (false, _) => self.name(table.name),
            (true, Self::Postgres) => format!("\"vestibule\".\"{}\"", table.name),
            (true, _) => self.name(&format!("vestibule_{}", table.name)),
        }
    }

    /// A value, as it stands in a statement. A text can hold anything and stays a text.
    pub fn literal(self, cell: &Cell) -> String {
        match cell {
            Cell::Null => "NULL".into(),
            Cell::Number(number) => number.to_string(),
            Cell::Flag(flag) => match self {
                Self::Postgres => if *flag { "TRUE" } else { "FALSE" }.into(),
                Self::Sqlite | Self::MySql => u8::from(*flag).to_string(),
            },
            Cell::Date(at) => match self {
                Self::MySql => format!("'{}'", written(*at, "%Y-%m-%d %H:%M:%S%.3f")),
                Self::Sqlite | Self::Postgres => format!("'{}'", rfc3339(*at)),
            },
            Cell::Text(text) => self.text(text),
        }
    }

    fn text(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 2);
        out.push('\'');
        for letter in text.chars() {
            match (letter, self) {
                ('\'', _) => out.push_str("''"),
                ('\\', Self::MySql) => out.push_str("\\\\"),
                ('\u{1a}', Self::MySql) => out.push_str("\\Z"),
                // Clients that read line by line would take these for ends.
                ('\n', Self::MySql) => out.push_str("\\n"),
                ('\r', Self::MySql) => out.push_str("\\r"),
                // Nowhere part of a text of an export: PostgreSQL has no such text, and a file would end there.
                ('\0', _) => {}
                (letter, _) => out.push(letter),
            }
        }
        out.push('\'');
        out
    }

    /// One statement for some rows, in these columns by these names. Whoever is there already stays as they are, so that a file may be
    /// run again.
    pub fn insert(self, table: &Table, columns: &[(usize, &str)], rows: &[Vec<Cell>]) -> String {
        let names: Vec<String> = columns.iter().map(|(_, name)| self.name(name)).collect();
        let mut out = format!(
            "INSERT INTO {} ({}) VALUES\n",
            self.table(table),
            names.join(", ")
        );
        for (number, row) in rows.iter().enumerate() {
            let cells = columns
                .iter()
                .map(|(at, _)| row.get(*at).unwrap_or(&Cell::Null));
            let cells: Vec<String> = cells.map(|cell| self.literal(cell)).collect();
            let end = if number + 1 < rows.len() { "," } else { "" };
            // Formatting into a string cannot fail.
            let _ = writeln!(out, "({}){end}", cells.join(", "));
        }
        let key: Vec<String> = table.key.iter().map(|name| self.name(name)).collect();
        out.push_str(&match self {
            Self::Sqlite | Self::Postgres => {
                format!("ON CONFLICT ({}) DO NOTHING;\n", key.join(", "))
            }
            Self::MySql => {
                let same: Vec<String> = key.iter().map(|name| format!("{name} = {name}")).collect();
                format!("ON DUPLICATE KEY UPDATE {};\n", same.join(", "))
            }
        });
        out
    }
}

/// One row as JSON, without what is null: `{"table":"user","row":{...}}`.
pub fn json(table: &Table, row: &[Cell]) -> Value {
    let mut fields = Map::new();
    for ((name, _), cell) in table.columns.iter().zip(row) {
        let value = match cell {
            Cell::Null => continue,
            Cell::Text(text) => Value::from(text.as_str()),
            Cell::Flag(flag) => Value::from(*flag),
            Cell::Date(at) => Value::from(rfc3339(*at)),
            Cell::Number(number) => Value::from(*number),
        };
        fields.insert((*name).to_owned(), value);
    }
    serde_json::json!({ "table": table.name, "row": fields })
}

fn rfc3339(at: UnixMs) -> String {
    written(at, "%Y-%m-%dT%H:%M:%S%.3fZ")
}

fn written(at: UnixMs, format: &str) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at.0).unwrap_or_default();
    at.format(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_gets_out_of_its_quotes() {
        let hostile = "a'b\\'; DROP TABLE user; --\n\r\u{1a}\0\"`";
        let text = |dialect: Dialect| dialect.literal(&Cell::Text(hostile.into()));
        for dialect in [Dialect::Sqlite, Dialect::Postgres] {
            assert_eq!(
                text(dialect),
                "'a''b\\''; DROP TABLE user; --\n\r\u{1a}\"`'"
            );
        }
        assert_eq!(
            text(Dialect::MySql),
            "'a''b\\\\''; DROP TABLE user; --\\n\\r\\Z\"`'"
        );
    }

    #[test]
    fn values_are_written_as_each_database_reads_them() {
        let at = Cell::Date(UnixMs(1_700_000_000_123));
        let of = |cell: &Cell| Dialect::ALL.map(|dialect| dialect.literal(cell));
        assert_eq!(of(&at)[0], "'2023-11-14T22:13:20.123Z'");
        assert_eq!(of(&at)[2], "'2023-11-14 22:13:20.123'");
        assert_eq!(of(&Cell::Flag(true)), ["1", "TRUE", "1"]);
        assert_eq!(of(&Cell::Null), ["NULL"; 3]);
        assert_eq!(of(&Cell::Number(-5)), ["-5"; 3]);
    }

    #[test]
    fn a_file_may_be_run_again() {
        let table = TABLES
            .iter()
            .find(|table| table.name == "legacy_identity")
            .unwrap();
        let rows = [vec![Cell::Text("clerk".into()), Cell::Text("u".into())]];
        let of = |dialect: Dialect| {
            dialect.insert(table, &[(0, "provider"), (1, "source_user_id")], &rows)
        };
        assert_eq!(
            of(Dialect::Postgres),
            "INSERT INTO \"vestibule\".\"legacy_identity\" (\"provider\", \"source_user_id\") VALUES\n('clerk', 'u')\n\
             ON CONFLICT (\"source_user_id\", \"provider\") DO NOTHING;\n"
        );
        assert!(of(Dialect::Sqlite).starts_with("INSERT INTO \"vestibule_legacy_identity\""));
        assert!(of(Dialect::MySql).ends_with("ON DUPLICATE KEY UPDATE `source_user_id` = `source_user_id`, `provider` = `provider`;\n"));
    }
}
