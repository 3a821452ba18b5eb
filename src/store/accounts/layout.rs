//! Where accounts are, and how their ids, dates and flags are written: as the types of their columns and the rows there are say.

use tokio::time::Instant;

use super::super::database::{self, Backend, Core, Failure};
use super::super::record::Row;
use super::super::schema::{self, Column, Found, SchemaError, Table};

/// Columns of which one row is looked at, to see how the others are written.
const SAMPLED: &[(&str, &str, &[&str])] = &[
    ("user", "user.id", &["user.createdAt", "user.updatedAt"]),
    (
        "account",
        "account.id",
        &["account.createdAt", "account.updatedAt"],
    ),
    ("session", "session.id", &["session.expiresAt"]),
    (
        "verification",
        "verification.identifier",
        &["verification.expiresAt"],
    ),
    ("twoFactor", "twoFactor.id", &[]),
    (
        "organization",
        "organization.id",
        &["organization.createdAt"],
    ),
    ("member", "member.id", &["member.createdAt"]),
    (
        "invitation",
        "invitation.id",
        &["invitation.expiresAt", "invitation.createdAt"],
    ),
];

/// Tables the gateway makes rows in.
pub(super) const FILLED: [&str; 4] = ["user", "account", "session", "twoFactor"];

/// Tables an import makes rows in besides. Where it cannot, there are no organizations for it.
const ORGANIZATIONS: [&str; 3] = ["organization", "member", "invitation"];

/// What a layout is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// The gateway.
    Accounts,
    /// Moving everybody at once.
    Import,
}

/// How ids of a table are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// 32 letters and digits, as the framework does.
    Letters,
    Uuid,
    /// The database counts.
    Database,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    tables: Vec<(&'static str, Found)>,
    /// Table, kind of column, text of a date there.
    dates: Vec<(&'static str, String, String)>,
    /// Tables whose ids are UUIDs in a column of text.
    uuids: Vec<&'static str>,
    what_for: For,
    pub(super) read_at: Instant,
}

impl Plan {
    /// Reads it from the live database.
    pub(super) async fn read<B: Backend>(
        core: &Core<B>,
        deadline: Instant,
    ) -> Result<Result<Self, SchemaError>, Failure> {
        Self::read_for(core, For::Accounts, deadline).await
    }

    /// The same, for what is to be done with it.
    pub(super) async fn read_for<B: Backend>(
        core: &Core<B>,
        what_for: For,
        deadline: Instant,
    ) -> Result<Result<Self, SchemaError>, Failure> {
        let overrides = &core.settings.schema;
        let wanted = schema::wanted_tables(overrides);
        let sql = core.backend.catalog(&wanted, overrides.schema.as_deref());
        let rows = core.ask(&sql.into(), None, deadline).await?;
        let catalog = database::tables(rows);
        let tables = match what_for {
            For::Accounts => schema::detect_accounts(&catalog, overrides),
            For::Import => schema::detect_import(&catalog, overrides),
        };
        let tables = match tables {
            Ok(tables) => tables,
            Err(error) => return Ok(Err(error)),
        };
        let mut plan = Self {
            tables,
            dates: Vec::new(),
            uuids: Vec::new(),
            what_for,
            read_at: Instant::now(),
        };
        let sql = core.backend.obligations(&wanted);
        let obligations = core.ask(&sql.into(), None, deadline).await?;
        if let Err(error) = plan.fills(&FILLED, &obligations) {
            return Ok(Err(error));
        }
        if plan.fills(&ORGANIZATIONS, &obligations).is_err() {
            plan.tables
                .retain(|(name, _)| !ORGANIZATIONS.contains(name));
        }
        for (table, id, dates) in SAMPLED {
            plan.sample(core, table, id, dates, deadline).await?;
        }
        Ok(Ok(plan))
    }

    /// The same, to be read again after the usual time.
    pub(super) fn renewed(&self) -> Self {
        Self {
            read_at: Instant::now(),
            ..self.clone()
        }
    }

    /// Whether a new row can fill every column that wants something.
    fn fills(&self, logical: &[&str], obligations: &[Row]) -> Result<(), SchemaError> {
        for logical in logical {
            let Some(table) = self.table(logical) else {
                continue;
            };
            let known = |name: &str| {
                self.tables
                    .iter()
                    .filter(|(of, _)| of == logical)
                    .any(|(_, (_, columns))| columns.iter().any(|(_, column)| column.name == name))
            };
            let unknown = obligations.iter().filter_map(|row| {
                let cell = |at: usize| row.get(at).and_then(Option::as_deref);
                let here = cell(0) == Some(&table.name) && cell(1) == table.schema.as_deref();
                cell(2).filter(|name| here && !known(name))
            });
            let mut unknown: Vec<String> = unknown.map(|name| format!("`{name}`")).collect();
            unknown.sort_unstable();
            if !unknown.is_empty() {
                return Err(SchemaError::Unfillable {
                    table: table.name.clone(),
                    columns: unknown.join(", "),
                });
            }
        }
        Ok(())
    }

    async fn sample<B: Backend>(
        &mut self,
        core: &Core<B>,
        table: &'static str,
        id: &str,
        dates: &[&str],
        deadline: Instant,
    ) -> Result<(), Failure> {
        let Some(stored) = self.table(table) else {
            return Ok(());
        };
        let untyped: Vec<Column> = dates
            .iter()
            .filter_map(|logical| self.column(logical))
            .filter(|column| B::calendar(&column.kind).is_none())
            .cloned()
            .collect();
        let Some(id) = self.column(id) else {
            return Ok(());
        };
        let text =
            |column: &Column| (B::DIALECT.text)(&B::DIALECT.name(&column.name), &column.kind);
        let selected = std::iter::once(text(id)).chain(untyped.iter().map(text));
        let selected: Vec<String> = selected.collect();
        let sql = format!(
            "SELECT {} FROM {} LIMIT 1",
            selected.join(", "),
            B::DIALECT.table(stored)
        );
        let rows = core.ask(&sql.into(), None, deadline).await?;
        let mut cells = rows.into_iter().next().unwrap_or_default().into_iter();
        if let Some(Some(id)) = cells.next()
            && uuid::Uuid::try_parse(&id).is_ok()
            && id.len() == 36
        {
            self.uuids.push(table);
        }
        let seen = untyped.into_iter().zip(cells);
        self.dates
            .extend(seen.filter_map(|(column, text)| Some((table, column.kind, text?))));
        Ok(())
    }

    /// Every column that is there, by the framework's name.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&'static str, &Column)> {
        let columns = self.tables.iter().flat_map(|(_, (_, columns))| columns);
        columns.map(|(logical, column)| (*logical, column))
    }

    /// What it was read for.
    pub(super) const fn what_for(&self) -> For {
        self.what_for
    }

    /// A table by the framework's name.
    pub(super) fn table(&self, logical: &str) -> Option<&Table> {
        let mut tables = self.tables.iter();
        let (_, (table, _)) = tables.find(|(name, _)| *name == logical)?;
        Some(table)
    }

    /// A column by the framework's name, with its table.
    pub(super) fn column(&self, logical: &str) -> Option<&Column> {
        let mut columns = self.tables.iter().flat_map(|(_, (_, columns))| columns);
        let (_, column) = columns.find(|(name, _)| *name == logical)?;
        Some(column)
    }

    pub(super) fn kind(&self, logical: &str) -> &str {
        self.column(logical)
            .map_or("", |column| column.kind.as_str())
    }

    /// The columns a new row of a table may get a value in.
    pub(super) fn filled<'p>(&'p self, table: &'p str) -> impl Iterator<Item = &'p str> {
        let counts = self.ids(table) == Ids::Database;
        let of = self.tables.iter().filter(move |(name, _)| *name == table);
        let columns = of.flat_map(|(_, (_, columns))| columns);
        let given = columns.filter(move |(logical, _)| !(counts && logical.ends_with(".id")));
        given.map(|(_, column)| column.name.as_str())
    }

    /// How ids of a table are made.
    pub(super) fn ids(&self, table: &str) -> Ids {
        let kind = self.kind(&format!("{table}.id"));
        if kind == "uuid" {
            return Ids::Uuid;
        }
        if kind.contains("int") || kind.contains("serial") {
            return Ids::Database;
        }
        match self.uuids.contains(&table) || self.uuids.contains(&"user") {
            true => Ids::Uuid,
            false => Ids::Letters,
        }
    }

    /// Whether a text may stand in an id column: the database would call another one a mistake of ours.
    pub(super) fn may_be_id<B: Backend>(&self, logical: &str, text: &str) -> bool {
        if text.contains('\0') {
            return false;
        }
        match B::cast_of_id(self.kind(logical)) {
            "" => true,
            // `urn:uuid:` parses here and is an error there; no row shows another spelling than this.
            "::uuid" => text.len() == 36 && uuid::Uuid::try_parse(text).is_ok(),
            "::bigint" => text.parse::<i64>().is_ok(),
            _ => text.parse::<i32>().is_ok(),
        }
    }

    /// The id wanted for a new user, where the column takes it.
    pub(super) fn wanted_id<'w>(&self, wanted: &'w str) -> Option<&'w str> {
        let kind = self.kind("user.id");
        let is_text = kind.is_empty() || kind.contains("char") || kind.contains("text");
        match self.ids("user") {
            Ids::Database => None,
            Ids::Uuid if !is_text => {
                (wanted.len() == 36 && uuid::Uuid::try_parse(wanted).is_ok()).then_some(wanted)
            }
            Ids::Uuid | Ids::Letters => {
                // Where the length is not said, it is that of the framework's own columns.
                let most = match kind.contains("char") {
                    true => said_letters(kind).unwrap_or(36),
                    false => 255,
                };
                let plain = |letter: char| !letter.is_control();
                let fits =
                    (1..=most).contains(&wanted.chars().count()) && wanted.chars().all(plain);
                fits.then_some(wanted)
            }
        }
    }

    /// How much a column holds, in letters.
    pub(super) fn letters_max(&self, logical: &str) -> usize {
        /// `TEXT` of MySQL is 65,535 bytes, and a letter four at most. Elsewhere a name of such a length helps nobody either.
        const TEXT_LETTERS: usize = 16_000;
        let kind = self.kind(logical);
        match (said_letters(kind), kind) {
            (Some(said), _) => said,
            (None, "tinytext") => 63,
            (None, kind) if kind.contains("char") => 255,
            (None, _) => TEXT_LETTERS,
        }
    }

    /// A date as it is written in columns of this table and kind.
    pub(super) fn like(&self, logical: &str) -> &str {
        let kind = self.kind(logical);
        let table = logical.split_once('.').map_or("", |(table, _)| table);
        let same_kind = || self.dates.iter().filter(|(_, of, _)| of == kind);
        let here = same_kind().find(|(of, ..)| *of == table);
        if let Some((_, _, text)) = here.or_else(|| same_kind().next()) {
            return text;
        }
        // No row yet. Drizzle makes columns of integers and writes milliseconds; Kysely's and Prisma's hold ISO text.
        let numbers = ["int", "num", "real", "dec", "double", "float"];
        match numbers.iter().any(|word| kind.contains(word)) {
            true => "1795000000000",
            false => "2026-11-21T00:00:00.000Z",
        }
    }
}

/// The length a kind of column says: `varchar(255)`.
fn said_letters(kind: &str) -> Option<usize> {
    let (_, rest) = kind.split_once('(')?;
    let (length, _) = rest.split_once(')')?;
    length.parse().ok()
}
