//! Sessions extended in the app's own database: the one thing that is ever written there, and only where the operator asked for it.
//!
//! The new dates are written as the old ones are: ISO text, numbers of seconds or milliseconds, timestamps with and without a zone.
//! Nothing is written unless the row still says what was seen, so of several gateways (and the app) one is first.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::OpenError;
use super::database::{Backend, Core, Parameter, garbage, source_error};
use super::record::{self, Row};
use super::schema::{Dialect, Layout};
use crate::secret::Secret;
use crate::session::extend::Extend;
use crate::session::{BoxFuture, SourceError};
use crate::time::UnixMs;

/// Writes through connections of its own, so that lookups never wait behind it.
pub(super) struct Extender<B: Backend> {
    reader: Arc<Core<B>>,
    writer: Arc<Core<B>>,
    home: Handle,
}

impl<B: Backend> Extender<B> {
    /// Proves that it may write, by changing nothing.
    pub(super) async fn open(
        reader: Arc<Core<B>>,
        writer: Arc<Core<B>>,
        wait: Duration,
    ) -> Result<Self, OpenError> {
        let refused = |cause: String| OpenError::Denied {
            store: B::NAME,
            place: writer.backend.place(),
            cause: format!("`sessions.sliding = \"store\"` must be allowed to write: {cause}"),
        };
        let plan = reader.plan();
        let probe = plan
            .as_ref()
            .and_then(|plan| B::DIALECT.untouched(&plan.layout));
        let Some(sql) = probe else {
            return Err(refused("no layout is known".to_owned()));
        };
        let nobody = [Parameter::Text("vestibule-probe".to_owned())];
        let deadline = Instant::now() + wait;
        writer
            .change(&sql.into(), &nobody, deadline)
            .await
            .map_err(|unchanged| refused(unchanged.failure.cause))?;
        Ok(Self {
            reader,
            writer,
            home: Handle::current(),
        })
    }
}

impl<B: Backend> Extend for Extender<B> {
    fn extend<'a>(
        &'a self,
        token: &'a str,
        seen: UnixMs,
        until: UnixMs,
        now: UnixMs,
    ) -> BoxFuture<'a, Result<bool, SourceError>> {
        let (reader, writer) = (Arc::clone(&self.reader), Arc::clone(&self.writer));
        let token = Secret::new(token);
        let task = self
            .home
            .spawn(async move { write(&reader, &writer, &token, seen, until, now).await });
        Box::pin(async move {
            task.await
                .unwrap_or_else(|_| Err(garbage::<B>("the driver gave up on the answer")))
        })
    }
}

async fn write<B: Backend>(
    reader: &Core<B>,
    writer: &Core<B>,
    token: &Secret,
    seen: UnixMs,
    until: UnixMs,
    now: UnixMs,
) -> Result<bool, SourceError> {
    let began = Instant::now();
    let deadline = began + writer.settings.timeout;
    let told = |failure| source_error::<B>(failure, began);
    let Some(plan) = reader.plan() else {
        return Err(garbage::<B>("no layout is known"));
    };
    let Some(sql) = B::DIALECT.dates(&plan.layout) else {
        return Err(garbage::<B>("no layout is known"));
    };
    let rows = writer
        .ask(&sql.into(), Some(token), deadline)
        .await
        .map_err(told)?;
    let zone = writer.backend.zone_offset_seconds();
    let same = |row: &Row| row.first().and_then(Option::as_deref) == Some(token.expose());
    let Some(row) = rows.into_iter().find(same) else {
        return Ok(false);
    };
    let mut cells = row.into_iter().skip(1);
    let Some(expiry) = cells.next().flatten() else {
        return Ok(false);
    };
    if record::moment(&expiry, zone) != Some(seen) {
        return Ok(false);
    }
    let updated = cells.next().flatten().unwrap_or_else(|| expiry.clone());
    let sql = B::DIALECT
        .extension(&plan.layout, &expiry, &updated, until, now, zone)
        .ok_or_else(|| garbage::<B>("`session.expiresAt` is written in a way we cannot repeat"))?;
    let token = [Parameter::Text(token.expose().to_owned())];
    let changed = writer.change(&sql.into(), &token, deadline).await;
    let changed = changed.map_err(|unchanged| unchanged.failure);
    changed.map(|rows| rows > 0).map_err(told)
}

impl Dialect {
    /// An update that touches nothing.
    fn untouched(&self, layout: &Layout) -> Option<String> {
        let (token, expiry) = (
            layout.column("session.token")?,
            layout.column("session.expiresAt")?,
        );
        let (token, expiry) = (self.name(&token.name), self.name(&expiry.name));
        let table = self.table(&layout.session);
        let parameter = self.parameter;
        Some(format!(
            "UPDATE {table} SET {expiry} = {expiry} WHERE {token} = {parameter}"
        ))
    }

    /// Selects token, expiry and last update of a session.
    fn dates(&self, layout: &Layout) -> Option<String> {
        let text = |logical: &str| {
            let column = layout.column(logical)?;
            Some((self.text)(&self.name(&column.name), &column.kind))
        };
        let token = self.name(&layout.column("session.token")?.name);
        Some(format!(
            "SELECT {}, {}, {} FROM {} WHERE {token} = {}",
            text("session.token")?,
            text("session.expiresAt")?,
            text("session.updatedAt").unwrap_or_else(|| "NULL".to_owned()),
            self.table(&layout.session),
            self.parameter
        ))
    }

    /// Moves the expiry of a session, if it still reads as it did.
    fn extension(
        &self,
        layout: &Layout,
        expiry: &str,
        updated: &str,
        until: UnixMs,
        now: UnixMs,
        zone: i32,
    ) -> Option<String> {
        // It came out of the database as the text of a date, and goes back into a statement.
        let plain =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'.' | b'+' | b'-' | b' ');
        if !expiry.bytes().all(plain) {
            return None;
        }
        let column = layout.column("session.expiresAt")?;
        let name = self.name(&column.name);
        let mut set = format!("{name} = {}", self.date(expiry, &column.kind, until, zone)?);
        if let Some(column) = layout.column("session.updatedAt") {
            let value = self.date(updated, &column.kind, now, zone)?;
            set.push_str(&format!(", {} = {value}", self.name(&column.name)));
        }
        let token = self.name(&layout.column("session.token")?.name);
        Some(format!(
            "UPDATE {} SET {set} WHERE {token} = {} AND {} = '{expiry}'",
            self.table(&layout.session),
            self.parameter,
            (self.text)(&name, &column.kind)
        ))
    }

    /// An instant, written as `like` is.
    pub(super) fn date(&self, like: &str, kind: &str, at: UnixMs, zone: i32) -> Option<String> {
        let like = like.trim();
        let number = match record::encoding(like) {
            "milliseconds" => Some(at.0),
            "seconds" => Some(at.0.div_euclid(1000)),
            _ => None,
        };
        if let Some(number) = number {
            // A quoted number fits columns of numbers and of text alike, but for SQLite, which would keep the text.
            return Some(match self.quotes_numbers {
                true => format!("'{number}'"),
                false => number.to_string(),
            });
        }
        let separator = if like.contains('T') { 'T' } else { ' ' };
        let clock = like.split(['T', ' ']).nth(1).unwrap_or_default();
        let suffix = clock
            .find(['Z', '+', '-'])
            .and_then(|from| clock.get(from..));
        let (suffix, offset) = match suffix {
            Some(suffix) => (suffix, record::zone_seconds(suffix)?),
            // It is read as UTC, and must not be written in the zone of the connection.
            None if kind == "timestamp with time zone" => ("+00", 0),
            None => ("", zone),
        };
        let wall = at.0.checked_add(i64::from(offset) * 1000)?;
        let wall = DateTime::from_timestamp_millis(wall)?;
        let day = wall.format("%Y-%m-%d");
        let time = wall.format("%H:%M:%S%.3f");
        Some(format!("'{day}{separator}{time}{suffix}'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: UnixMs = UnixMs(1_795_229_535_028); // 2026-11-21T02:52:15.028Z

    fn dialect(quotes_numbers: bool) -> Dialect {
        Dialect {
            quote: '"',
            parameter: "?",
            text: |expression, _| expression.to_owned(),
            comparable: |_, _| true,
            quotes_numbers,
        }
    }

    #[test]
    fn dates_are_written_as_the_old_ones_are() {
        for (like, kind, zone, written) in [
            (
                "2026-11-01T00:00:00.000Z",
                "date",
                0,
                "'2026-11-21T02:52:15.028Z'",
            ),
            (
                "2026-11-01 00:00:00",
                "timestamp(3)",
                0,
                "'2026-11-21 02:52:15.028'",
            ),
            (
                "2026-11-01 00:00:00.5",
                "datetime",
                -18_000,
                "'2026-11-20 21:52:15.028'",
            ),
            (
                "2026-11-01 00:00:00",
                "timestamp with time zone",
                0,
                "'2026-11-21 02:52:15.028+00'",
            ),
            (
                "2026-11-01 00:00:00+05:30",
                "text",
                0,
                "'2026-11-21 08:22:15.028+05:30'",
            ),
            ("1795000000000", "integer", 0, "1795229535028"),
            ("1795000000000.0", "real", 0, "1795229535028"),
            ("1795000000", "integer", 0, "1795229535"),
        ] {
            let got = dialect(false).date(like, kind, AT, zone);
            assert_eq!(got.as_deref(), Some(written), "{like}");
        }
        let quoted = dialect(true).date("1795000000000", "bigint", AT, 0);
        assert_eq!(quoted.as_deref(), Some("'1795229535028'"));
    }

    #[test]
    fn what_is_written_reads_as_what_was_meant() {
        for like in [
            "2026-11-01T00:00:00.000Z",
            "2026-11-01 00:00:00",
            "1795000000000",
            "2026-11-01 00:00:00-0330",
        ] {
            let written = dialect(false).date(like, "text", AT, -18_000).unwrap();
            assert_eq!(
                record::moment(written.trim_matches('\''), -18_000),
                Some(AT),
                "{like}"
            );
        }
    }
}
