//! Several statements on one connection, all of them or none.
//!
//! A transaction that is not brought to its end takes its connection with it: the database undoes what was begun when the connection
//! closes, whatever became of us.

use std::sync::Arc;

use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::database::{
    Backend, CHANGE_AFTER_REST_MAX, Core, Failure, Fault, Parameter, Rows, diagnose, not_connected,
};
use super::record::Row;

/// A transaction that did not come to its end.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// A unique key is taken.
    pub(super) unique: bool,
    /// Other rows refer to one that was to go.
    pub(super) refers: bool,
    /// A value of a row is one that it does not take: what is wrong, in words without the value.
    pub(super) unfit: Option<String>,
    /// The database itself chose to undo it, for the sake of another: it may be tried again.
    pub(super) undone: bool,
    /// The end was on its way: it may have been reached all the same.
    pub(super) unsure: bool,
}

impl Broken {
    /// The fault is ours, or that of what was found.
    pub(super) fn because(fault: Fault, cause: impl Into<String>) -> Self {
        Self {
            failure: Failure {
                fault,
                cause: cause.into(),
            },
            unique: false,
            refers: false,
            unfit: None,
            undone: false,
            unsure: false,
        }
    }

    fn slow() -> Self {
        Self::because(Fault::Slow, "the deadline passed")
    }

    fn of<B: Backend>(error: &sqlx::Error) -> Self {
        let mut failure = diagnose::<B>(error);
        let (mut unique, mut undone, mut refers) = (false, false, false);
        let mut unfit = None;
        if let sqlx::Error::Database(error) = error {
            unique = error.is_unique_violation();
            refers = error.is_foreign_key_violation();
            undone = B::undid(&**error);
            unfit = B::unfit(&**error).filter(|_| !unique && !undone);
            // Messages about values repeat them: an address, a hash. Those about columns do not.
            let names_columns = matches!(
                error.kind(),
                sqlx::error::ErrorKind::NotNullViolation
                    | sqlx::error::ErrorKind::ForeignKeyViolation
            );
            if failure.fault == Fault::Unreadable && !names_columns {
                let code = error.code().unwrap_or_default();
                failure.cause = format!("{} error {code}", B::NAME);
            }
        }
        Self {
            failure,
            unique,
            refers,
            unfit,
            undone,
            unsure: false,
        }
    }
}

/// An open transaction. Dropped before [`Self::commit`], it is undone.
pub(super) struct Transaction<'c, B: Backend> {
    core: &'c Core<B>,
    link: B::Link,
    born: Instant,
    deadline: Instant,
    _slot: SemaphorePermit<'c>,
}

impl<B: Backend> Core<B> {
    /// Begins a transaction that will write.
    pub(super) async fn begin(&self, deadline: Instant) -> Result<Transaction<'_, B>, Broken> {
        // A closed semaphore cannot be: nothing closes it. It would read as slowness.
        let Ok(Ok(slot)) = timeout_at(deadline, self.slots.acquire()).await else {
            return Err(Broken::slow());
        };
        let mut kept = self.wake();
        loop {
            let now = Instant::now();
            let (mut link, born, rested) = match kept.take() {
                Some(rest) => (rest.link, rest.born, Some(now - rest.since)),
                None => match timeout_at(deadline, self.backend.connect()).await {
                    Ok(Ok(link)) => (link, now, None),
                    Ok(Err(error)) => {
                        let mut broken = Broken::of::<B>(&error);
                        broken.failure = not_connected::<B>(&error);
                        return Err(broken);
                    }
                    Err(_) => return Err(Broken::slow()),
                },
            };
            // One that rested may have been cut without a word, so it gets half of the time that is left.
            let suspect = rested.is_some_and(|rested| rested >= CHANGE_AFTER_REST_MAX);
            let until = match suspect {
                true => now + deadline.saturating_duration_since(now) / 2,
                false => deadline,
            };
            let begun = timeout_at(until, async {
                for statement in B::BEGIN {
                    self.backend.plain(&mut link, statement).await?;
                }
                Ok(())
            });
            let broken = match begun.await {
                Ok(Ok(())) => {
                    return Ok(Transaction {
                        core: self,
                        link,
                        born,
                        deadline,
                        _slot: slot,
                    });
                }
                Ok(Err(error)) => Broken::of::<B>(&error),
                Err(_) => Broken::slow(),
            };
            // Nothing was begun, so another connection may try. Where the database is merely busy it would fare no better.
            let dead = broken.failure.fault.fresh_may_help() || suspect;
            if rested.is_none() || !dead || broken.failure.fault == Fault::Denied {
                return Err(broken);
            }
            self.resting_links().clear();
        }
    }
}

impl<B: Backend> Transaction<'_, B> {
    /// Runs a statement and gives its rows.
    pub(super) async fn rows(
        &mut self,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> Result<Vec<Row>, Broken> {
        let asked = self.core.backend.select(&mut self.link, sql, parameters);
        match timeout_at(self.deadline, asked).await {
            Ok(answer) => answer.map_err(|error| Broken::of::<B>(&error)),
            Err(_) => Err(Broken::slow()),
        }
    }

    /// Runs a statement that changes rows, and says how many it met.
    pub(super) async fn change(
        &mut self,
        sql: &Arc<str>,
        parameters: &[Parameter],
    ) -> Result<u64, Broken> {
        let changed = self.core.backend.alter(&mut self.link, sql, parameters);
        match timeout_at(self.deadline, changed).await {
            Ok(answer) => answer.map_err(|error| Broken::of::<B>(&error)),
            Err(_) => Err(Broken::slow()),
        }
    }

    /// Adds rows to a table.
    pub(super) async fn insert(&mut self, rows: &Rows) -> Result<(), Broken> {
        if rows.rows.is_empty() {
            return Ok(());
        }
        let added = self.core.backend.insert(&mut self.link, rows);
        match timeout_at(self.deadline, added).await {
            Ok(answer) => answer.map_err(|error| Broken::of::<B>(&error)),
            Err(_) => Err(Broken::slow()),
        }
    }

    /// Runs statements as they are.
    pub(super) async fn plain(&mut self, sql: &str) -> Result<(), Broken> {
        let run = self.core.backend.plain(&mut self.link, sql);
        match timeout_at(self.deadline, run).await {
            Ok(answer) => answer.map_err(|error| Broken::of::<B>(&error)),
            Err(_) => Err(Broken::slow()),
        }
    }

    /// Makes it so.
    pub(super) async fn commit(self) -> Result<(), Broken> {
        self.end("COMMIT").await
    }

    /// Undoes it, and keeps the connection.
    pub(super) async fn undo(self) -> Result<(), Broken> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, word: &'static str) -> Result<(), Broken> {
        let ending = self.core.backend.plain(&mut self.link, word);
        match timeout_at(self.deadline, ending).await {
            Ok(Ok(())) => {
                self.core.rest(self.link, self.born);
                Ok(())
            }
            Ok(Err(error)) => {
                let mut broken = Broken::of::<B>(&error);
                // What the database itself refuses it has not done; when it goes down over it, nobody knows.
                broken.unsure = !matches!(error, sqlx::Error::Database(_))
                    || broken.failure.fault == Fault::Unreachable;
                Err(broken)
            }
            Err(_) => Err(Broken {
                unsure: true,
                ..Broken::slow()
            }),
        }
    }
}
