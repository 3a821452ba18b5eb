//! Where users stand, who they are in the old system, and the old hash and second factor kept for them.

use super::*;
use sha2::{Digest as _, Sha256};

/// States in which nobody has signed in with what is kept, so that it may be replaced.
const UNTRIED: [State; 4] = [
    State::Imported,
    State::Pending,
    State::Reset,
    State::ResetSent,
];

/// What is kept of a user beside the app's rows.
pub(super) struct Kept {
    pub(super) old: Option<OldCredential>,
    pub(super) sources: Vec<Source>,
    /// With the digest of the row that stands in.
    pub(super) factor: Option<(OldFactor, Option<String>)>,
}

/// What tells the app's own row that stands in for an old second factor from one the user made.
pub(super) fn stand_in(secret: &Secret) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(secret.expose().as_bytes()))
}

impl<B: Backend> Store<B> {
    fn say<'p>(&self, plan: &'p Plan) -> Statement<'p, B> {
        Statement::new(plan, self.zone())
    }

    /// Whose identity this is.
    pub(super) async fn owner_of(
        &self,
        plan: &Plan,
        provider: &str,
        id: &str,
        deadline: Instant,
    ) -> Result<Option<String>, Undone> {
        if keys(&[provider, id]).is_err() {
            return Ok(None);
        }
        let asked = self
            .say(plan)
            .text("SELECT provider, source_user_id, user_id FROM ")
            .own("legacy_identity")
            .text(" WHERE source_user_id = ")
            .value(id);
        let rows = self.ask(asked, id, deadline).await?;
        let same = |row: &&Row| cell(row, 0) == Some(provider) && cell(row, 1) == Some(id);
        Ok(rows
            .iter()
            .find(same)
            .and_then(|row| cell(row, 2))
            .map(str::to_owned))
    }

    /// Everything kept of a user.
    pub(super) async fn kept(
        &self,
        plan: &Plan,
        user_id: &str,
        deadline: Instant,
    ) -> Result<Kept, Undone> {
        let asked = self
            .say(plan)
            .text("SELECT scheme, sealed, state, ")
            .digits("exported_at")
            .text(" FROM ")
            .own("legacy_credential")
            .text(" WHERE user_id = ")
            .value(user_id);
        let rows = self.ask(asked, user_id, deadline).await?;
        let old = match rows.first() {
            // An erased hash is none.
            Some(row) if !cell(row, 1).unwrap_or_default().is_empty() => Some(OldCredential {
                scheme: cell(row, 0).unwrap_or_default().to_owned(),
                sealed: Secret::new(cell(row, 1).unwrap_or_default()),
                state: state(cell(row, 2))?,
                exported_at: number(row, 3)?.map(UnixMs),
            }),
            Some(_) | None => None,
        };
        let asked = self
            .say(plan)
            .text("SELECT provider, source_user_id, state FROM ")
            .own("legacy_identity")
            .text(" WHERE user_id = ")
            .value(user_id)
            .text(" ORDER BY provider");
        let rows = self.ask(asked, user_id, deadline).await?;
        let sources = rows.iter().map(|row| {
            Ok(Source {
                provider: cell(row, 0).unwrap_or_default().to_owned(),
                id: cell(row, 1).unwrap_or_default().to_owned(),
                state: state(cell(row, 2))?,
            })
        });
        let sources = sources.collect::<Result<Vec<Source>, Undone>>()?;
        let asked = self
            .say(plan)
            .text("SELECT sealed, ")
            .digits("digits")
            .text(", ")
            .digits("period")
            .text(", algorithm, ")
            .digits("last_step")
            .text(", stand_in FROM ")
            .own("legacy_factor")
            .text(" WHERE user_id = ")
            .value(user_id);
        let rows = self.ask(asked, user_id, deadline).await?;
        let factor = match rows.first() {
            Some(row) => Some((
                OldFactor {
                    sealed: cell(row, 0).map(Secret::new),
                    digits: small(number(row, 1)?)?,
                    period: small(number(row, 2)?)?,
                    algorithm: cell(row, 3).unwrap_or_default().to_owned(),
                    last_step: number(row, 4)?,
                    native: None,
                },
                cell(row, 5).map(str::to_owned),
            )),
            None => None,
        };
        Ok(Kept {
            old,
            sources,
            factor,
        })
    }

    pub(super) async fn move_state(
        &self,
        user_id: &str,
        next: State,
        at: UnixMs,
        deadline: Instant,
    ) -> Result<bool, Undone> {
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        if !work.lock(user_id).await? {
            return work.leave(false).await;
        }
        match work.standing(user_id).await? {
            Some(now) if now.may_become(next) => {}
            Some(_) | None => return work.leave(false).await,
        }
        work.move_to(user_id, next, at).await?;
        work.commit().await?;
        Ok(true)
    }

    pub(super) async fn map(
        &self,
        user_id: &str,
        provider: &str,
        id: &str,
        at: UnixMs,
        deadline: Instant,
    ) -> Result<bool, Undone> {
        keys(&[user_id, provider, id])?;
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        if !work.lock(user_id).await? {
            return work.leave(false).await;
        }
        let state = work.standing(user_id).await?.unwrap_or(State::Imported);
        // The row is locked: nobody adds another meanwhile. Only an import gives a user several, on request.
        let has_one = work
            .say()
            .text("SELECT source_user_id FROM ")
            .own("legacy_identity")
            .text(" WHERE user_id = ")
            .value(user_id)
            .text(" AND provider = ")
            .value(provider);
        let has_one = !work.rows(has_one).await?.is_empty();
        if !has_one && work.add_identity(user_id, provider, id, state, at).await? {
            work.commit().await?;
            return Ok(true);
        }
        // It is this user's already, or the user has another there, or it is somebody else's.
        let asked = work
            .say()
            .text("SELECT user_id FROM ")
            .own("legacy_identity")
            .text(" WHERE provider = ")
            .value(provider)
            .text(" AND source_user_id = ")
            .value(id);
        let rows = work.rows(asked).await?;
        let mine = rows.iter().any(|row| cell(row, 0) == Some(user_id));
        work.leave(mine).await
    }

    pub(super) async fn keep(
        &self,
        user_id: &str,
        old: &OldCredential,
        at: UnixMs,
        deadline: Instant,
    ) -> Result<bool, Undone> {
        keys(&[user_id, &old.scheme])?;
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        if !work.lock(user_id).await? {
            return work.leave(false).await;
        }
        let now = work.standing(user_id).await?;
        if now.is_some_and(|now| !UNTRIED.contains(&now)) {
            return work.leave(false).await;
        }
        work.put_credential(user_id, old, at).await?;
        if now.is_some_and(|now| now.may_become(old.state)) {
            work.move_to(user_id, old.state, at).await?;
        }
        work.commit().await?;
        Ok(true)
    }

    pub(super) async fn use_step(
        &self,
        user_id: &str,
        step: i64,
        deadline: Instant,
    ) -> Result<bool, Undone> {
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let used = work
            .say()
            .text("UPDATE ")
            .own("legacy_factor")
            .text(" SET last_step = ")
            .number(step)
            .text(" WHERE user_id = ")
            .value(user_id)
            .text(" AND (last_step IS NULL OR last_step < ")
            .number(step)
            .text(")");
        let met = work.change(used).await?;
        work.commit().await?;
        Ok(met > 0)
    }

    pub(super) async fn forget_factor(
        &self,
        user_id: &str,
        deadline: Instant,
    ) -> Result<bool, Undone> {
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let forgotten = work
            .say()
            .text("DELETE FROM ")
            .own("legacy_factor")
            .text(" WHERE user_id = ")
            .value(user_id);
        let met = work.change(forgotten).await?;
        work.commit().await?;
        Ok(met > 0)
    }

    pub(super) async fn count(&self) -> Result<Vec<(State, u64)>, Undone> {
        let deadline = self.deadline();
        let (credential, identity) = (
            own_tables::name::<B>("legacy_credential"),
            own_tables::name::<B>("legacy_identity"),
        );
        // All that is kept of one user is in one state.
        let counted = (B::DIALECT.text)("COUNT(*)", "bigint");
        let sql: Arc<str> = format!(
            "SELECT state, {counted} FROM (SELECT user_id, state FROM {credential} UNION ALL \
             SELECT i.user_id, MIN(i.state) AS state FROM {identity} i \
             WHERE NOT EXISTS (SELECT 1 FROM {credential} c WHERE c.user_id = i.user_id) GROUP BY i.user_id) users \
             GROUP BY state"
        )
        .into();
        let rows = self.core().ask(&sql, None, deadline).await?;
        let counts = rows.iter().map(|row| {
            let users = number(row, 1)?.and_then(|users| u64::try_from(users).ok());
            Ok((state(cell(row, 0))?, users.unwrap_or(0)))
        });
        let mut counts = counts.collect::<Result<Vec<(State, u64)>, Undone>>()?;
        counts.sort_unstable();
        Ok(counts)
    }
}

fn small<T: TryFrom<i64>>(number: Option<i64>) -> Result<T, Undone> {
    let fits = number.and_then(|number| T::try_from(number).ok());
    fits.ok_or_else(|| Undone::schema("an old second factor has parameters that none can have"))
}

impl<B: Backend> Work<'_, B> {
    /// Where a user stands; `None`: nothing is kept of them.
    pub(super) async fn standing(&mut self, user_id: &str) -> Result<Option<State>, Undone> {
        for table in ["legacy_credential", "legacy_identity"] {
            let asked = self
                .say()
                .text("SELECT state FROM ")
                .own(table)
                .text(" WHERE user_id = ")
                .value(user_id);
            if let Some(row) = self.rows(asked).await?.first() {
                return state(cell(row, 0)).map(Some);
            }
        }
        Ok(None)
    }

    /// Everything kept of a user goes to one state. Whoever calls has seen that it may.
    pub(super) async fn move_to(
        &mut self,
        user_id: &str,
        next: State,
        at: UnixMs,
    ) -> Result<(), Undone> {
        let mut moved = self
            .say()
            .text("UPDATE ")
            .own("legacy_credential")
            .text(" SET state = ")
            .value(next.as_str())
            .text(", moved_at = ")
            .number(at.0);
        if next == State::Rehashed {
            moved = moved.text(", verified_at = ").number(at.0);
        }
        if next == State::Done {
            // Nothing is left to do, so nothing is left to steal.
            moved = moved.text(", sealed = ''");
        }
        let moved = moved.text(" WHERE user_id = ").value(user_id);
        self.change(moved).await?;
        let moved = self
            .say()
            .text("UPDATE ")
            .own("legacy_identity")
            .text(" SET state = ")
            .value(next.as_str())
            .text(", moved_at = ")
            .number(at.0)
            .text(" WHERE user_id = ")
            .value(user_id);
        self.change(moved).await?;
        Ok(())
    }

    /// `false`: the identity is known, or the user has one there.
    pub(super) async fn add_identity(
        &mut self,
        user_id: &str,
        provider: &str,
        id: &str,
        state: State,
        at: UnixMs,
    ) -> Result<bool, Undone> {
        let added = self
            .say()
            .text("INSERT INTO ")
            .own("legacy_identity")
            .text(" (provider, source_user_id, user_id, state, imported_at, moved_at) VALUES (")
            .value(provider)
            .text(", ")
            .value(id)
            .text(", ")
            .value(user_id)
            .text(", ")
            .value(state.as_str())
            .text(", ")
            .number(at.0)
            .text(", ")
            .number(at.0)
            .text(")");
        Ok(self.insert_once(added).await?)
    }

    /// Keeps an old hash in place of another.
    pub(super) async fn put_credential(
        &mut self,
        user_id: &str,
        old: &OldCredential,
        at: UnixMs,
    ) -> Result<(), Undone> {
        let replaced = self
            .say()
            .text("DELETE FROM ")
            .own("legacy_credential")
            .text(" WHERE user_id = ")
            .value(user_id);
        self.change(replaced).await?;
        let kept = self
            .say()
            .text("INSERT INTO ")
            .own("legacy_credential")
            .text(" (user_id, scheme, sealed, state, exported_at, kept_at, moved_at) VALUES (")
            .value(user_id)
            .text(", ")
            .value(&old.scheme)
            .text(", ")
            .secret(&old.sealed)
            .text(", ")
            .value(old.state.as_str())
            .text(", ")
            .maybe(old.exported_at.map(|at| at.0))
            .text(", ")
            .number(at.0)
            .text(", ")
            .number(at.0)
            .text(")");
        self.change(kept).await?;
        Ok(())
    }

    /// Keeps what is known of an old second factor. What was used of it stays used.
    pub(super) async fn put_factor(
        &mut self,
        user_id: &str,
        factor: &OldFactor,
        stand_in: Option<&str>,
        at: UnixMs,
    ) -> Result<(), Undone> {
        let asked = self
            .say()
            .text("SELECT ")
            .digits("last_step")
            .text(" FROM ")
            .own("legacy_factor")
            .text(" WHERE user_id = ")
            .value(user_id);
        let rows = self.rows(asked).await?;
        let before = rows.first().map(|row| number(row, 0)).transpose()?;
        let last_step = factor.last_step.max(before.flatten());
        let replaced = self
            .say()
            .text("DELETE FROM ")
            .own("legacy_factor")
            .text(" WHERE user_id = ")
            .value(user_id);
        self.change(replaced).await?;
        let mut kept = self
            .say()
            .text("INSERT INTO ")
            .own("legacy_factor")
            .text(
                " (user_id, digits, period, algorithm, last_step, sealed, stand_in, kept_at) VALUES (",
            )
            .value(user_id)
            .text(", ")
            .number(i64::from(factor.digits))
            .text(", ")
            .number(i64::from(factor.period))
            .text(", ")
            .value(&factor.algorithm)
            .text(", ")
            .maybe(last_step)
            .text(", ");
        kept = match &factor.sealed {
            Some(sealed) => kept.secret(sealed),
            None => kept.text("NULL"),
        };
        kept = kept.text(", ");
        kept = match stand_in {
            Some(stand_in) => kept.value(stand_in),
            None => kept.text("NULL"),
        };
        let kept = kept.text(", ").number(at.0).text(")");
        self.change(kept).await?;
        Ok(())
    }
}
