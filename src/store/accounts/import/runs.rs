//! Runs: who is at it, how far they came, and what there is to tell of the whole.

use super::*;
use crate::migration::import::outcome::{Outcome, Tally};
use crate::migration::import::record::Place;
use crate::migration::import::target::Write;

/// The name of the lock.
const LOCK: &str = "import";

/// Whoever was sent a link so long ago, and did not come back, is stuck.
const STUCK_AFTER_MS: i64 = 7 * 24 * 3600 * 1000;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Runs that are told of.
const RUNS_MAX: usize = 20;

impl<B: Backend> Store<B> {
    pub(super) async fn begin_run(&self, begin: &Begin) -> Result<Begun, Undone> {
        keys(&[&begin.provider, &begin.fingerprint, &begin.holder])?;
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let made = work
            .say()
            .text("INSERT INTO ")
            .own("migration_lock")
            .text(" (name, holder, until) VALUES (")
            .value(LOCK)
            .text(", '', 0)");
        work.insert_once(made).await?;
        let (holder, until) = work.lock_row().await?;
        let free = holder.is_empty() || holder == begin.holder || begin.holder_is_gone;
        if !free && until > begin.at {
            return work.leave(Begun::Held { holder, until }).await;
        }
        work.take_lock(&begin.holder, begin.lease_until).await?;
        let last = work.runs(Some(begin), 1).await?.into_iter().next();
        let run = match last.filter(|run| run.state == "running") {
            Some(run) => run,
            None => work.new_run(begin).await?,
        };
        work.commit().await?;
        Ok(Begun::Run(run))
    }

    pub(super) async fn renew(&self, holder: &str, until: UnixMs) -> Result<bool, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        if work.lock_row().await?.0 != holder {
            return work.leave(false).await;
        }
        work.take_lock(holder, until).await?;
        work.commit().await?;
        Ok(true)
    }

    pub(super) async fn let_go(&self, holder: &str) -> Result<(), Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        if work.lock_row().await?.0 != holder {
            return work.leave(()).await;
        }
        work.take_lock("", UnixMs(0)).await?;
        work.commit().await?;
        Ok(())
    }

    pub(super) async fn end_run(&self, run: u64, holder: &str, at: UnixMs) -> Result<(), Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        work.fence(holder).await?;
        let ended = work
            .say()
            .text("UPDATE ")
            .own("migration_run")
            .text(" SET state = 'done', ended_at = ")
            .number(at.0)
            .text(" WHERE id = ")
            .number(signed(run));
        work.change(ended).await?;
        work.take_lock("", UnixMs(0)).await?;
        work.commit().await?;
        Ok(())
    }

    /// `None`: all runs.
    pub(super) async fn mark_run(
        &self,
        run: Option<u64>,
        word: &str,
        at: UnixMs,
    ) -> Result<(), Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let mut marked = work
            .say()
            .text("UPDATE ")
            .own("migration_run")
            .text(" SET ended_at = COALESCE(ended_at, ")
            .number(at.0)
            .text("), state = ")
            .value(word)
            .text(" WHERE state <> 'undone'");
        if let Some(run) = run {
            marked = marked.text(" AND id = ").number(signed(run));
        }
        work.change(marked).await?;
        work.commit().await?;
        Ok(())
    }

    pub(super) async fn standing_of_all(
        &self,
        now: UnixMs,
        most: usize,
    ) -> Result<Standing, Undone> {
        let states = self.count().await?;
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let count = (B::DIALECT.text)("COUNT(*)", "bigint");
        let day = (B::DIALECT.text)("day", "bigint");
        let identity = own_tables::name::<B>("legacy_identity");
        let moved = work.say().text(&format!(
            "SELECT {day}, {count} FROM (SELECT moved_at - moved_at % {DAY_MS} AS day FROM {identity} \
             WHERE moved_at > imported_at) moves GROUP BY day ORDER BY day"
        ));
        let mut moved_by_day = Vec::new();
        for row in work.rows(moved).await? {
            let day = number(&row, 0)?.unwrap_or(0) / DAY_MS;
            moved_by_day.push((day, unsigned(number(&row, 1)?)));
        }
        let mut counted = async |table: &str, condition: &str| -> Result<u64, Undone> {
            let asked = work
                .say()
                .text(&format!("SELECT {count} FROM "))
                .own(table)
                .text(condition);
            let rows = work.rows(asked).await?;
            Ok(unsigned(
                rows.first()
                    .map(|row| number(row, 0))
                    .transpose()?
                    .flatten(),
            ))
        };
        let old_hashes = counted("legacy_credential", " WHERE sealed <> ''").await?;
        let parked = counted("migration_parked", "").await?;
        let asked = work
            .say()
            .text("SELECT user_id, state, ")
            .digits("moved_at")
            .text(" FROM ")
            .own("legacy_identity")
            .text(" WHERE state = 'blocked' OR (state = 'reset-sent' AND moved_at < ")
            .number(now.0.saturating_sub(STUCK_AFTER_MS))
            .text(&format!(") ORDER BY {identity}.moved_at LIMIT {most}"));
        let mut stuck = Vec::new();
        for row in work.rows(asked).await? {
            let since = UnixMs(number(&row, 2)?.unwrap_or(0));
            let who = cell(&row, 0).unwrap_or_default().to_owned();
            stuck.push((who, state(cell(&row, 1))?, since));
        }
        let runs = work.runs(None, RUNS_MAX).await?;
        work.leave(Standing {
            states,
            moved_by_day,
            old_hashes,
            parked,
            stuck,
            runs,
        })
        .await
    }

    pub(super) async fn reported(
        &self,
        run: u64,
        after: Cursor,
        most: usize,
    ) -> Result<Vec<(Cursor, Reported)>, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let asked = work
            .say()
            .text("SELECT kind, input, ")
            .digits("line")
            .text(", source_id, target_id, outcome, reason, detail, ")
            .digits("sequence")
            .text(", ")
            .digits("phase")
            .text(" FROM ")
            .own("migration_row")
            .text(" WHERE run = ")
            .number(signed(run))
            .text(" AND (outcome <> 'created' OR reason <> '') AND (phase > ")
            .number(i64::from(after.phase))
            .text(" OR (phase = ")
            .number(i64::from(after.phase))
            .text(" AND sequence > ")
            .number(signed(after.sequence))
            .text(&format!(
                ")) ORDER BY {row}.phase, {row}.sequence LIMIT {most}",
                row = own_tables::name::<B>("migration_row")
            ));
        let rows = work.rows(asked).await?;
        let mut reported = Vec::with_capacity(rows.len());
        for row in &rows {
            let phase = number(row, 9)?.and_then(|phase| u8::try_from(phase).ok());
            let cursor = Cursor {
                phase: phase.unwrap_or(0),
                sequence: unsigned(number(row, 8)?),
            };
            reported.push((cursor, told_row(row)?));
        }
        work.leave(reported).await
    }

    pub(super) async fn erase_hashes(&self, most: usize, at: UnixMs) -> Result<u64, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let asked = work
            .say()
            .text("SELECT user_id, state FROM ")
            .own("legacy_credential")
            .text(&format!(
                " WHERE sealed <> '' ORDER BY user_id LIMIT {most}{}",
                B::OWN.locked
            ));
        let rows = work.rows(asked).await?;
        let mut erased = 0;
        for next in [State::Reset, State::Done] {
            let mut whom = Vec::new();
            for row in &rows {
                let now = state(cell(row, 1))?;
                let waits = !matches!(now, State::Rehashed | State::Jit | State::Done);
                if waits == (next == State::Reset) {
                    whom.extend(cell(row, 0).map(str::to_owned));
                }
            }
            erased += u64::try_from(whom.len()).unwrap_or(0);
            for (table, sealed) in [
                ("legacy_credential", ", sealed = ''"),
                ("legacy_identity", ""),
            ] {
                work.change_listed(
                    |asked| {
                        asked
                            .text("UPDATE ")
                            .own(table)
                            .text(" SET state = ")
                            .value(next.as_str())
                            .text(", moved_at = ")
                            .number(at.0)
                            .text(sealed)
                            .text(" WHERE state <> 'blocked' AND user_id")
                    },
                    &whom,
                    |asked, id| asked.value(id),
                )
                .await?;
            }
            // Whoever is blocked stays so; what is kept of them goes all the same.
            work.change_listed(
                |asked| {
                    asked
                        .text("UPDATE ")
                        .own("legacy_credential")
                        .text(" SET sealed = '' WHERE user_id")
                },
                &whom,
                |asked, id| asked.value(id),
            )
            .await?;
        }
        if rows.is_empty() {
            let parked = work
                .say()
                .text("UPDATE ")
                .own("migration_parked")
                .text(" SET sealed = NULL WHERE sealed IS NOT NULL");
            work.change(parked).await?;
        }
        work.commit().await?;
        Ok(erased)
    }
}

fn told_row(row: &Row) -> Result<Reported, Undone> {
    let unknown = || Undone::schema("a row of an import has words that are none of ours");
    Ok(Reported {
        sequence: unsigned(number(row, 8)?),
        kind: cell(row, 0).and_then(Kind::named).ok_or_else(unknown)?,
        place: Place {
            input: cell(row, 1).unwrap_or_default().into(),
            row: unsigned(number(row, 2)?),
        },
        source_id: cell(row, 3).map(str::to_owned),
        target_id: cell(row, 4).map(str::to_owned),
        outcome: cell(row, 5).and_then(Outcome::named).ok_or_else(unknown)?,
        reason: cell(row, 6).unwrap_or_default().to_owned(),
        detail: cell(row, 7).unwrap_or_default().to_owned(),
        write: Write::Nothing,
    })
}

impl<B: Backend> Work<'_, B> {
    /// Who holds the lock, and until when; it is ours to change until the end.
    async fn lock_row(&mut self) -> Result<(String, UnixMs), Undone> {
        let asked = self
            .say()
            .text("SELECT holder, ")
            .digits("until")
            .text(" FROM ")
            .own("migration_lock")
            .text(" WHERE name = ")
            .value(LOCK)
            .text(B::OWN.locked);
        let rows = self.rows(asked).await?;
        let Some(row) = rows.first() else {
            return Ok((String::new(), UnixMs(0)));
        };
        let until = UnixMs(number(row, 1)?.unwrap_or(0));
        Ok((cell(row, 0).unwrap_or_default().to_owned(), until))
    }

    async fn take_lock(&mut self, holder: &str, until: UnixMs) -> Result<(), Undone> {
        let taken = self
            .say()
            .text("UPDATE ")
            .own("migration_lock")
            .text(" SET holder = ")
            .value(holder)
            .text(", until = ")
            .number(until.0)
            .text(" WHERE name = ")
            .value(LOCK);
        self.change(taken).await?;
        Ok(())
    }

    /// Nobody writes who has lost the lock.
    pub(super) async fn fence(&mut self, holder: &str) -> Result<(), Undone> {
        let (now, _) = self.lock_row().await?;
        match now == holder {
            true => Ok(()),
            false => Err(Undone::Broken(Broken::because(
                Fault::Denied,
                "another import has taken over",
            ))),
        }
    }

    async fn new_run(&mut self, begin: &Begin) -> Result<Run, Undone> {
        let text = (B::DIALECT.text)("MAX(id)", "bigint");
        let asked = self
            .say()
            .text(&format!("SELECT {text} FROM "))
            .own("migration_run");
        let rows = self.rows(asked).await?;
        let last = rows
            .first()
            .map(|row| number(row, 0))
            .transpose()?
            .flatten();
        let run = Run {
            id: unsigned(last).saturating_add(1),
            provider: begin.provider.clone(),
            fingerprint: begin.fingerprint.clone(),
            began_at: begin.at,
            ended_at: None,
            state: "running".to_owned(),
            cursor: Cursor::default(),
            tally: Tally::default(),
        };
        let made = self
            .say()
            .text("INSERT INTO ")
            .own("migration_run")
            .text(" (id, provider, fingerprint, state, began_at, phase, sequence, tally) VALUES (")
            .number(signed(run.id))
            .text(", ")
            .value(&run.provider)
            .text(", ")
            .value(&run.fingerprint)
            .text(", 'running', ")
            .number(begin.at.0)
            .text(", 0, 0, ")
            .value(&run.tally.written())
            .text(")");
        self.change(made).await?;
        Ok(run)
    }

    /// The newest first; those of one fingerprint, or all.
    async fn runs(&mut self, of: Option<&Begin>, most: usize) -> Result<Vec<Run>, Undone> {
        let mut asked = self
            .say()
            .text("SELECT ")
            .digits("id")
            .text(", provider, fingerprint, state, ")
            .digits("began_at")
            .text(", ")
            .digits("ended_at")
            .text(", ")
            .digits("phase")
            .text(", ")
            .digits("sequence")
            .text(", tally FROM ")
            .own("migration_run");
        if let Some(begin) = of {
            asked = asked
                .text(" WHERE provider = ")
                .value(&begin.provider)
                .text(" AND fingerprint = ")
                .value(&begin.fingerprint);
        }
        let rows = self
            .rows(asked.text(&format!(
                " ORDER BY {}.id DESC LIMIT {most}",
                own_tables::name::<B>("migration_run")
            )))
            .await?;
        let mut runs = Vec::with_capacity(rows.len());
        for row in &rows {
            let word = |at: usize| cell(row, at).unwrap_or_default().to_owned();
            let phase = number(row, 6)?.and_then(|phase| u8::try_from(phase).ok());
            runs.push(Run {
                id: unsigned(number(row, 0)?),
                provider: word(1),
                fingerprint: word(2),
                state: word(3),
                began_at: UnixMs(number(row, 4)?.unwrap_or(0)),
                ended_at: number(row, 5)?.map(UnixMs),
                cursor: Cursor {
                    phase: phase.unwrap_or(0),
                    sequence: unsigned(number(row, 7)?),
                },
                tally: Tally::read(&word(8)),
            });
        }
        Ok(runs)
    }
}
