//! Statements in the making. Parameters are numbered as they stand in the text, because MySQL knows no other order.

use std::sync::Arc;

use chrono::DateTime;

use super::super::database::{Backend, Parameter};
use super::layout::Plan;
use super::own_tables;
use crate::secret::Secret;
use crate::time::UnixMs;

/// What `TIMESTAMP` of MySQL and MariaDB holds, with a day on either side for the zone of the app.
const TIMESTAMP_MS: (i64, i64) = (86_400_000, 2_147_397_247_000);

/// A statement in the making.
pub(super) struct Statement<'p, B: Backend> {
    plan: &'p Plan,
    zone: i32,
    sql: String,
    parameters: Vec<Parameter>,
    _of: std::marker::PhantomData<B>,
}

/// What a new row holds in one column.
pub(super) enum Value<'v> {
    Text(&'v str),
    Secret(&'v Secret),
    /// An id, in the type its column has.
    Id(&'v str),
    Date(UnixMs),
    Flag(bool),
    Number(i64),
}

impl<'p, B: Backend> Statement<'p, B> {
    pub(super) fn new(plan: &'p Plan, zone: i32) -> Self {
        Self {
            plan,
            zone,
            sql: String::new(),
            parameters: Vec::new(),
            _of: std::marker::PhantomData,
        }
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        self.sql.push_str(text);
        self
    }

    /// One of the app's tables.
    pub(super) fn table(mut self, logical: &str) -> Self {
        if let Some(table) = self.plan.table(logical) {
            self.sql.push_str(&B::DIALECT.table(table));
        }
        self
    }

    /// One of ours.
    pub(super) fn own(self, table: &str) -> Self {
        let name = own_tables::name::<B>(table);
        self.text(&name)
    }

    pub(super) fn column(mut self, logical: &str) -> Self {
        if let Some(column) = self.plan.column(logical) {
            self.sql.push_str(&B::DIALECT.name(&column.name));
        }
        self
    }

    /// Columns of the app, as text; those it has not are NULL.
    pub(super) fn shown(mut self, logical: &[&str]) -> Self {
        let selected = logical
            .iter()
            .map(|logical| match self.plan.column(logical) {
                Some(column) => (B::DIALECT.text)(&B::DIALECT.name(&column.name), &column.kind),
                None => "NULL".to_owned(),
            });
        let selected: Vec<String> = selected.collect();
        self.sql.push_str(&selected.join(", "));
        self
    }

    /// A column of ours that holds a number, as text. Whoever orders by it must name its table too: PostgreSQL calls the text what the column
    /// is called, and would sort 10 before 9.
    pub(super) fn digits(self, column: &str) -> Self {
        let text = (B::DIALECT.text)(column, "bigint");
        self.text(&text)
    }

    fn parameter(mut self, parameter: Parameter, cast: &str) -> Self {
        self.parameters.push(parameter);
        self.sql
            .push_str(&B::DIALECT.parameter_at(self.parameters.len()));
        self.sql.push_str(cast);
        self
    }

    pub(super) fn value(self, value: &str) -> Self {
        self.parameter(Parameter::Text(value.to_owned()), "")
    }

    pub(super) fn secret(self, value: &Secret) -> Self {
        self.value(value.expose())
    }

    pub(super) fn number(self, number: i64) -> Self {
        self.parameter(Parameter::Number(number), "")
    }

    pub(super) fn maybe(self, number: Option<i64>) -> Self {
        match number {
            Some(number) => self.number(number),
            None => self.text("NULL"),
        }
    }

    /// An id, in the type of its column.
    pub(super) fn id(self, logical: &str, id: &str) -> Self {
        let cast = B::cast_of_id(self.plan.kind(logical));
        self.parameter(Parameter::Text(id.to_owned()), cast)
    }

    pub(super) fn flag(self, logical: &str, flag: bool) -> Self {
        let kind = self.plan.kind(logical);
        let boolean = kind == "boolean" && B::HAS_SCHEMAS;
        let text = kind.contains("text") || kind.contains("char");
        self.text(match (boolean, text, flag) {
            (true, _, true) => "TRUE",
            (true, _, false) => "FALSE",
            (_, true, true) => "'1'",
            (_, true, false) => "'0'",
            (_, _, true) => "1",
            (_, _, false) => "0",
        })
    }

    /// A date as the column holds it.
    pub(super) fn date(self, logical: &str, at: UnixMs) -> Self {
        let kind = self.plan.kind(logical);
        // A ban of a hundred years is one until the column's last moment.
        let at = match B::NAME == "mysql" && kind.starts_with("timestamp") {
            true => UnixMs(at.0.clamp(TIMESTAMP_MS.0, TIMESTAMP_MS.1)),
            false => at,
        };
        if let Some((cast, zone)) = B::calendar(kind) {
            let moved = i64::from(self.zone).saturating_mul(1000);
            let moved = UnixMs(at.0.saturating_add(moved));
            let text = written(moved, "%Y-%m-%d %H:%M:%S%.3f") + zone;
            return self.parameter(Parameter::Text(text), cast);
        }
        let like = self.plan.like(logical);
        match B::DIALECT.date(like, kind, at, self.zone) {
            Some(literal) => self.text(&literal),
            None => {
                let text = written(at, "%Y-%m-%dT%H:%M:%S%.3fZ");
                self.parameter(Parameter::Text(text), "")
            }
        }
    }

    /// A text for a column of this kind.
    pub(super) fn text_of_kind(self, kind: &str, text: &str) -> Self {
        self.parameter(Parameter::Text(text.to_owned()), B::cast_of_id(kind))
    }

    pub(super) fn put(self, logical: &str, value: &Value<'_>) -> Self {
        match value {
            // Metadata may be in a column of JSON.
            Value::Text(text) => self.id(logical, text),
            Value::Secret(secret) => self.secret(secret),
            Value::Id(id) => self.id(logical, id),
            Value::Date(at) => self.date(logical, *at),
            Value::Flag(flag) => self.flag(logical, *flag),
            Value::Number(number) => self.number(*number),
        }
    }

    /// A new row of one of the app's tables. Columns that it has not are left out.
    pub(super) fn insert(self, table: &str, values: &[(&str, Value<'_>)]) -> Self {
        let plan = self.plan;
        let there = || {
            let mut values = values.iter();
            std::iter::from_fn(move || values.find(|(logical, _)| plan.column(logical).is_some()))
        };
        let mut statement = self.text("INSERT INTO ").table(table).text(" (");
        for (at, (logical, _)) in there().enumerate() {
            statement = statement
                .text(if at > 0 { ", " } else { "" })
                .column(logical);
        }
        statement = statement.text(") VALUES (");
        for (at, (logical, value)) in there().enumerate() {
            statement = statement
                .text(if at > 0 { ", " } else { "" })
                .put(logical, value);
        }
        statement.text(")")
    }

    pub(super) fn done(self) -> (Arc<str>, Vec<Parameter>) {
        (self.sql.into(), self.parameters)
    }

    /// The statement alone, where it has one parameter at most.
    pub(super) fn sql(self) -> Arc<str> {
        self.sql.into()
    }
}

/// A date in a format of chrono's. Clocks are within its years.
fn written(at: UnixMs, format: &str) -> String {
    DateTime::from_timestamp_millis(at.0)
        .unwrap_or_default()
        .format(format)
        .to_string()
}
