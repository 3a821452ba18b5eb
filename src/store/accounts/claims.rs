//! Old sessions: each becomes one session here, once for all replicas, unless it was signed out.

use super::people::{credential, credentials};
use super::*;

/// Dates of some columns are whole seconds, of others rounded to them.
const SECOND_MS: i64 = 1000;

impl<B: Backend> Store<B> {
    pub(super) async fn claim(
        &self,
        key: &OldSessionKey,
        session: &NewSession,
        sealed_token: &Secret,
        deadline: Instant,
    ) -> Result<Claimed, Undone> {
        keys(&[&key.provider, &key.digest, &session.user_id])?;
        let plan = self.plan(deadline).await;
        if session.in_database && plan.table("session").is_none() {
            return Err(Undone::schema("it has no table of sessions"));
        }
        let mut work = self.begin(&plan, deadline).await?;
        // Whoever is gone has no session any more.
        if !work.lock(&session.user_id).await? {
            return work.leave(Claimed::Dead).await;
        }
        let floor = work.floor(&session.user_id).await?;
        if floor.is_some_and(|since| session.created_at < since) {
            return work.leave(Claimed::Dead).await;
        }
        let noted = work
            .say()
            .text("INSERT INTO ")
            .own("legacy_session")
            .text(" (provider, digest, user_id, sealed_token, expires_at, bridged_at) VALUES (")
            .value(&key.provider)
            .text(", ")
            .value(&key.digest)
            .text(", ")
            .value(&session.user_id)
            .text(", ")
            .secret(sealed_token)
            .text(", ")
            .number(session.expires_at.0)
            .text(", ")
            .number(session.updated_at.0)
            .text(")");
        if !work.insert_once(noted).await? {
            let before = work.claimed_before(key, &session.user_id).await?;
            return work.leave(before).await;
        }
        if session.in_database {
            work.add_session(session).await?;
        }
        work.commit().await?;
        Ok(Claimed::Made)
    }

    pub(super) async fn bury(
        &self,
        key: &OldSessionKey,
        at: UnixMs,
        deadline: Instant,
    ) -> Result<(), Undone> {
        keys(&[&key.provider, &key.digest])?;
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let noted = work
            .say()
            .text("INSERT INTO ")
            .own("legacy_session")
            .text(" (provider, digest, revoked_at) VALUES (")
            .value(&key.provider)
            .text(", ")
            .value(&key.digest)
            .text(", ")
            .number(at.0)
            .text(")");
        if !work.insert_once(noted).await? {
            let buried = work
                .say()
                .text("UPDATE ")
                .own("legacy_session")
                .text(" SET revoked_at = ")
                .number(at.0)
                .text(" WHERE provider = ")
                .value(&key.provider)
                .text(" AND digest = ")
                .value(&key.digest)
                .text(" AND revoked_at IS NULL");
            work.change(buried).await?;
        }
        work.commit().await?;
        Ok(())
    }

    pub(super) async fn bury_all(
        &self,
        user_id: &str,
        at: UnixMs,
        deadline: Instant,
    ) -> Result<(), Undone> {
        keys(&[user_id])?;
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        // A claim that is under way ends before, and is below the floor from then on. Whoever is gone needs none.
        if !work.lock(user_id).await? {
            return work.leave(()).await;
        }
        work.raise_floor(user_id, "since", at).await?;
        work.commit().await?;
        Ok(())
    }

    pub(super) async fn sessions_count_from(
        &self,
        user_id: &str,
    ) -> Result<Option<UnixMs>, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        if !plan.may_be_id::<B>("user.id", user_id) {
            return Ok(None);
        }
        let accounts = self.ask(self.credentials(&plan, user_id), user_id, deadline);
        let accounts = accounts.await?;
        let floor = self.ask(floor(&plan, self.zone(), user_id), user_id, deadline);
        let floor = floor.await?;
        let known = self.ask(known_since(&plan, self.zone(), user_id), user_id, deadline);
        let known = known.await?;
        counts_from(&accounts, &floor, &known, user_id, self.zone())
    }
}

/// The floor of a user.
fn floor<'p, B: Backend>(plan: &'p Plan, zone: i32, user_id: &str) -> Statement<'p, B> {
    Statement::new(plan, zone)
        .text("SELECT ")
        .digits("since")
        .text(", ")
        .digits("password_written_at")
        .text(" FROM ")
        .own("sessions_floor")
        .text(" WHERE user_id = ")
        .value(user_id)
}

/// Since when a user is known to be one of the old system's.
fn known_since<'p, B: Backend>(plan: &'p Plan, zone: i32, user_id: &str) -> Statement<'p, B> {
    Statement::new(plan, zone)
        .text("SELECT ")
        .digits("MIN(imported_at)")
        .text(" FROM ")
        .own("legacy_identity")
        .text(" WHERE user_id = ")
        .value(user_id)
}

/// The later of the last sign-out everywhere and the last change of the password by the user.
fn counts_from(
    accounts: &[Row],
    floor: &[Row],
    known: &[Row],
    user_id: &str,
    zone: i32,
) -> Result<Option<UnixMs>, Undone> {
    let of_floor = |at: usize| floor.first().map(|row| number(row, at)).transpose();
    let since = of_floor(0)?.flatten().map(UnixMs);
    let written = of_floor(1)?.flatten();
    let imported = known
        .first()
        .map(|row| number(row, 0))
        .transpose()?
        .flatten();
    let found = credential(accounts, user_id, zone)?.filter(|found| found.has_password());
    let Some(found) = found else {
        return Ok(since);
    };
    let Some(updated) = found.updated_at.or(found.created_at) else {
        return Ok(since);
    };
    let whole = updated.0 % SECOND_MS == 0;
    let ours = written.is_some_and(|written| {
        updated.0 == written || (whole && (updated.0 - written).abs() < SECOND_MS)
    });
    // A row as it was made came with an import of somebody else's, unless we knew the user before: then a link by mail made it.
    let as_made = found
        .created_at
        .is_some_and(|created| (updated.0 - created.0).abs() < SECOND_MS);
    let imported_before = imported.is_some_and(|imported| imported < updated.0);
    let changed = !ours && (!as_made || imported_before);
    Ok(since.max(changed.then_some(updated)))
}

impl<B: Backend> Work<'_, B> {
    async fn floor(&mut self, user_id: &str) -> Result<Option<UnixMs>, Undone> {
        let (plan, zone) = (self.plan, self.zone);
        let accounts = self.rows(credentials(plan, zone, user_id)).await?;
        let floor = self.rows(floor(plan, zone, user_id)).await?;
        let known = self.rows(known_since(plan, zone, user_id)).await?;
        counts_from(&accounts, &floor, &known, user_id, zone)
    }

    /// Moves a date of a user's floor on, never back. The user's row is locked.
    pub(super) async fn raise_floor(
        &mut self,
        user_id: &str,
        column: &str,
        at: UnixMs,
    ) -> Result<(), Undone> {
        let raised = self
            .say()
            .text("UPDATE ")
            .own("sessions_floor")
            .text(&format!(
                " SET {column} = CASE WHEN {column} IS NULL OR {column} < "
            ))
            .number(at.0)
            .text(" THEN ")
            .number(at.0)
            .text(&format!(" ELSE {column} END WHERE user_id = "))
            .value(user_id);
        if self.change(raised).await? == 0 {
            let made = self
                .say()
                .text("INSERT INTO ")
                .own("sessions_floor")
                .text(&format!(" (user_id, {column}) VALUES ("))
                .value(user_id)
                .text(", ")
                .number(at.0)
                .text(")");
            self.change(made).await?;
        }
        Ok(())
    }

    /// What became of a session somebody claimed, or buried, before.
    async fn claimed_before(
        &mut self,
        key: &OldSessionKey,
        user_id: &str,
    ) -> Result<Claimed, Undone> {
        let asked = self
            .say()
            .text("SELECT user_id, sealed_token, ")
            .digits("expires_at")
            .text(", ")
            .digits("revoked_at")
            .text(" FROM ")
            .own("legacy_session")
            .text(" WHERE provider = ")
            .value(&key.provider)
            .text(" AND digest = ")
            .value(&key.digest);
        let rows = self.rows(asked).await?;
        let Some(row) = rows.first() else {
            return Err(Undone::schema("an old session was noted and is gone"));
        };
        let alive = number(row, 3)?.is_none() && cell(row, 0) == Some(user_id);
        match (cell(row, 1), number(row, 2)?) {
            (Some(token), Some(expires_at)) if alive => Ok(Claimed::Before {
                sealed_token: Secret::new(token),
                expires_at: UnixMs(expires_at),
            }),
            _ => Ok(Claimed::Dead),
        }
    }

    pub(super) async fn add_session(&mut self, session: &NewSession) -> Result<(), Undone> {
        let mut values = vec![
            ("session.token", Value::Secret(&session.token)),
            ("session.userId", Value::Id(&session.user_id)),
            ("session.expiresAt", Value::Date(session.expires_at)),
            ("session.createdAt", Value::Date(session.created_at)),
            ("session.updatedAt", Value::Date(session.updated_at)),
            ("session.ipAddress", Value::Text(&session.ip_address)),
            ("session.userAgent", Value::Text(&session.user_agent)),
        ];
        if let Some(by) = &session.impersonated_by {
            values.push(("session.impersonatedBy", Value::Id(by)));
        }
        if let Some(id) = &session.organization_id {
            values.push(("session.activeOrganizationId", Value::Id(id)));
        }
        let wanted = match self.plan.ids("session") {
            Ids::Letters => Some(session.id.as_str()),
            Ids::Uuid | Ids::Database => None,
        };
        self.insert_with_id("session", wanted, values, "session.id")
            .await?;
        Ok(())
    }
}
