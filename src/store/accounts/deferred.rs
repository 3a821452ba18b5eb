//! What did not arrive in the old system. It holds whose it is and what was to be done, never what with.

use super::*;

impl<B: Backend> Store<B> {
    pub(super) async fn defer(
        &self,
        user_id: &str,
        operation: &str,
        due: UnixMs,
    ) -> Result<(), Undone> {
        keys(&[user_id, operation])?;
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let written = Statement::<B>::new(&plan, self.zone())
            .text("INSERT INTO ")
            .own("deferred")
            .text(" (user_id, operation, tries, due_at) VALUES (")
            .value(user_id)
            .text(", ")
            .value(operation)
            .text(", 0, ")
            .number(due.0)
            .text(")");
        self.write(written, deadline).await
    }

    pub(super) async fn due(&self, now: UnixMs, most: usize) -> Result<Vec<Deferred>, Undone> {
        let deadline = self.deadline();
        let text = |column: &str| (B::DIALECT.text)(column, "bigint");
        let table = own_tables::name::<B>("deferred");
        // Numbers of ours, so they stand in the text.
        let sql: Arc<str> = format!(
            "SELECT {}, user_id, operation, {}, {} FROM {table} WHERE due_at <= {} ORDER BY {table}.due_at, {table}.id LIMIT {most}",
            text("id"),
            text("tries"),
            text("due_at"),
            now.0
        )
        .into();
        let rows = self.core().ask(&sql, None, deadline).await?;
        let read = rows.iter().map(|row| {
            let tries = number(row, 3)?.and_then(|tries| u32::try_from(tries).ok());
            Ok(Deferred {
                id: number(row, 0)?.ok_or_else(|| Undone::schema("a row has no number"))?,
                user_id: cell(row, 1).unwrap_or_default().to_owned(),
                operation: cell(row, 2).unwrap_or_default().to_owned(),
                tries: tries.unwrap_or(u32::MAX),
                due: number(row, 4)?.map(UnixMs),
            })
        });
        read.collect()
    }

    pub(super) async fn settle(
        &self,
        id: i64,
        again: Option<Option<UnixMs>>,
    ) -> Result<(), Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let statement = Statement::<B>::new(&plan, self.zone());
        let settled = match again {
            None => statement.text("DELETE FROM ").own("deferred"),
            Some(due) => statement
                .text("UPDATE ")
                .own("deferred")
                .text(" SET tries = tries + 1, due_at = ")
                .maybe(due.map(|due| due.0)),
        };
        let settled = settled.text(" WHERE id = ").number(id);
        self.write(settled, deadline).await
    }

    async fn write(&self, statement: Statement<'_, B>, deadline: Instant) -> Result<(), Undone> {
        let (sql, parameters): (Arc<str>, Vec<Parameter>) = statement.done();
        let changed = self.core().change(&sql, &parameters, deadline).await;
        changed.map_err(|unchanged| Undone::from(unchanged.failure))?;
        Ok(())
    }
}
