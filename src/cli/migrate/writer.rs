//! The import itself: page after page is looked at, decided, made ready and written.

use std::collections::BTreeSet;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::super::{Failure, PROBLEMS};
use super::ground::{LEASE_MS, failed};
use super::organizations::Organizations;
use super::preparing::{Person, Preparing, Ready};
use super::reading::{Numbered, Reading};
use crate::migration::accounts::AccountsError;
use crate::migration::import::decide::Duplicates;
use crate::migration::import::outcome::{self, Outcome, Tally};
use crate::migration::import::record::{
    ImportedInvitation, ImportedMember, ImportedOrganization, Oddity, Record,
};
use crate::migration::import::source::About;
use crate::migration::import::target::{Batch, Cursor, Kind, Row, Write};
use crate::time::UnixMs;

/// How often it is said that we are still here: a lease has room for some that come late.
const RENEWED_EVERY_MS: i64 = LEASE_MS / 6;

/// So many rows that the database does not take, for the same reason and before it took any, are no matter of these rows.
const UNFIT_IN_A_ROW_MAX: usize = 200;

/// Pages made ready before they can be written. One is enough for nobody to wait, and more would be memory.
const AHEAD_MAX: usize = 1;

/// The phases, in their order.
const PHASES: [Phase; 6] = [
    Phase::Of(About::User, false),
    Phase::Of(About::User, true),
    Phase::Of(About::Organization, false),
    Phase::Of(About::Member, false),
    Phase::Of(About::Invitation, false),
    Phase::Refusals,
];

#[derive(Clone, Copy)]
enum Phase {
    /// Groups about this; `true`: only those that lost an address.
    Of(About, bool),
    /// What could not be read at all.
    Refusals,
}

/// A run under way.
pub struct Writer<'w> {
    /// What everybody is made ready with.
    pub preparing: &'w Preparing<'w>,
    /// The run and who holds the lock; none: nothing is written.
    pub run: Option<(u64, String)>,
    /// What has become of all rows so far.
    pub tally: Tally,
    /// Gives the time.
    pub now: &'w (dyn Fn() -> UnixMs + Sync),
    /// Is told of every row.
    pub told: &'w mut dyn FnMut(&Row, &Tally),
    organizations: Organizations<'w>,
    renewed_at: UnixMs,
    /// Where the last batch left off.
    cursor: Cursor,
    /// Rows that the database did not take for the same words one after the other, and whether it ever took any.
    refusals: (String, usize),
    has_written: bool,
}

/// A page on its way: whoever may have to be looked at again, and all of its rows in their order.
struct Page {
    people: Vec<Person>,
    ready: Vec<Ready>,
}

impl<'w> Writer<'w> {
    /// A writer of a run.
    pub fn new(
        preparing: &'w Preparing<'w>,
        run: Option<(u64, String)>,
        tally: Tally,
        now: &'w (dyn Fn() -> UnixMs + Sync),
        told: &'w mut dyn FnMut(&Row, &Tally),
    ) -> Self {
        Self {
            organizations: Organizations {
                with: preparing,
                slugs: BTreeSet::new(),
            },
            preparing,
            run,
            tally,
            renewed_at: UnixMs(0),
            cursor: Cursor::default(),
            refusals: (String::new(), 0),
            has_written: false,
            now,
            told,
        }
    }

    /// Goes through everything, from `from`.
    ///
    /// # Errors
    /// When the spool or the database fails. What was written stays, and a later run goes on there.
    pub fn go(
        &mut self,
        runtime: &Runtime,
        reading: &mut Reading,
        from: Cursor,
    ) -> Result<(), Failure> {
        self.cursor = from;
        for (number, phase) in (0u8..).zip(PHASES) {
            if number < from.phase {
                continue;
            }
            let after = match number == from.phase {
                true => from.sequence,
                false => 0,
            };
            match phase {
                Phase::Of(About::User, false) if self.is_unrelated() => {
                    self.ahead(runtime, reading, number, phase, after)?;
                }
                _ => runtime.block_on(self.in_turn(reading, number, phase, after))?,
            }
        }
        Ok(())
    }

    /// Whether no two users who lost nothing have to do with each other. Those who came before and changed since may have left an address,
    /// or a name, for another to take: whoever is looked at must find what the page before has written.
    fn is_unrelated(&self) -> bool {
        self.run.is_some() && self.preparing.rules.since.is_none()
    }

    /// One page after the other.
    async fn in_turn(
        &mut self,
        reading: &mut Reading,
        number: u8,
        phase: Phase,
        mut after: u64,
    ) -> Result<(), Failure> {
        loop {
            let page = next(reading, phase, after).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.sequence;
            let sorted = sorted(page, phase);
            let mut made = sorted.made;
            let around = &mut self.organizations;
            made.extend(around.organizations(sorted.organizations).await?);
            made.extend(around.members(reading, sorted.members).await?);
            made.extend(around.invitations(reading, sorted.invitations).await?);
            let page = ready(self.preparing, sorted.people, made).await?;
            self.page(number, page).await?;
        }
    }

    /// The next page is made ready while one is being written: we work and the database works. Of users only who lost nothing: no two of
    /// them have to do with each other, so it is the same whether the page before is there already. Where it was not the same after all
    /// (the database holds more to be equal than we do), it says so when they are written, and they are looked at again.
    fn ahead(
        &mut self,
        runtime: &Runtime,
        reading: &mut Reading,
        number: u8,
        phase: Phase,
        mut after: u64,
    ) -> Result<(), Failure> {
        let preparing = self.preparing;
        std::thread::scope(|scope| {
            let (give, take) = sync_channel::<Result<Page, Failure>>(AHEAD_MAX);
            let thread = scope.spawn(move || {
                loop {
                    let made = runtime.block_on(async {
                        let page = next(reading, phase, after).await?;
                        let Some(last) = page.last() else {
                            return Ok(None);
                        };
                        after = last.sequence;
                        let sorted = sorted(page, phase);
                        ready(preparing, sorted.people, sorted.made).await.map(Some)
                    });
                    let Some(made) = made.transpose() else { return };
                    let over = made.is_err();
                    // Whoever takes them may have given up.
                    if give.send(made).is_err() || over {
                        return;
                    }
                }
            });
            let patience = Duration::from_millis(RENEWED_EVERY_MS.unsigned_abs());
            let mut written = || {
                loop {
                    match take.recv_timeout(patience) {
                        Ok(page) => runtime.block_on(self.page(number, page?))?,
                        Err(RecvTimeoutError::Timeout) => runtime.block_on(self.renew())?,
                        Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    }
                }
            };
            let written = written();
            // It ends with its page where nobody takes the next one.
            drop(take);
            let ended = thread.join().map_err(|_| Failure {
                message: "the thread that makes users ready has ended".into(),
                advice: "what was written is noted: run it again".into(),
                code: PROBLEMS,
            });
            written.and(ended)
        })
    }

    /// Writes a page, halved as long as one of its people collides, or is none the database takes.
    async fn page(&mut self, number: u8, page: Page) -> Result<(), Failure> {
        self.renew().await?;
        let Err((back, _)) = self.write(number, page.ready).await? else {
            return Ok(());
        };
        let mut waiting = halved(page.people, back);
        while let Some((people, made)) = waiting.pop() {
            self.renew().await?;
            let page = ready(self.preparing, people, made).await?;
            if let Err((back, _)) = self.write(number, page.ready).await? {
                match page.people.len() {
                    // Looked at a moment ago, and taken all the same.
                    0 | 1 => self.one_by_one(number, back).await?,
                    _ => waiting.extend(halved(page.people, back)),
                }
            }
        }
        Ok(())
    }

    /// Writes rows, or gives them back when somebody was faster than we, or the database does not take one of them.
    async fn write(
        &mut self,
        phase: u8,
        ready: Vec<Ready>,
    ) -> Result<Result<(), (Vec<Ready>, AccountsError)>, Failure> {
        let Some(last) = ready.last() else {
            return Ok(Ok(()));
        };
        let cursor = Cursor {
            phase,
            sequence: last.row.sequence,
        };
        let mut tally = self.tally.clone();
        for one in &ready {
            // What was odd was told when they came.
            let mut reasons = match one.row.outcome {
                Outcome::Unchanged | Outcome::Skipped => String::new(),
                _ => one.row.reason.clone(),
            };
            for field in &one.no_column {
                reasons.push_str(",no-column:");
                reasons.push_str(field);
            }
            tally.count(one.row.kind, one.row.outcome, &reasons);
        }
        if let Some((run, holder)) = &self.run {
            let at = (self.now)();
            let columns: Vec<Vec<&'static str>> =
                ready.iter().map(|one| one.no_column.clone()).collect();
            let batch = Batch {
                run: *run,
                holder: holder.clone(),
                provider: self.preparing.rules.provider.clone(),
                before: self.cursor,
                rows: ready.into_iter().map(|one| one.row).collect(),
                cursor,
                tally: tally.clone(),
                at,
            };
            match self
                .preparing
                .target
                .write(&batch, self.preparing.sealer)
                .await
            {
                Ok(()) => {}
                Err(error @ (AccountsError::Taken(_) | AccountsError::Unfit(_))) => {
                    let rows = batch.rows.into_iter().zip(columns);
                    let back = rows.map(|(row, no_column)| Ready { row, no_column });
                    return Ok(Err((back.collect(), error)));
                }
                Err(error) => return Err(failed(&error)),
            }
            self.tally = tally;
            self.cursor = cursor;
            let writes = |row: &Row| !matches!(row.write, Write::Nothing);
            self.has_written |= batch.rows.iter().any(writes);
            for row in &batch.rows {
                (self.told)(row, &self.tally);
            }
            return Ok(Ok(()));
        }
        self.tally = tally;
        for one in &ready {
            (self.told)(&one.row, &self.tally);
        }
        Ok(Ok(()))
    }

    /// One of these rows collides with something that the database holds to be the same, or is none it takes: it is found, and refused.
    async fn one_by_one(&mut self, phase: u8, rows: Vec<Ready>) -> Result<(), Failure> {
        for one in rows {
            self.renew().await?;
            let Err((back, why)) = self.write(phase, vec![one]).await? else {
                continue;
            };
            self.count_refusal(&why)?;
            let (least, rest): (Vec<Ready>, Vec<Ready>) = back.into_iter().partition(keeps_out);
            let least = match self
                .write(phase, least.into_iter().map(cut_down).collect())
                .await?
            {
                Ok(()) => Vec::new(),
                Err((back, _)) => back,
            };
            let refused = rest.into_iter().chain(least);
            let refused = refused.map(|one| collided(one, &why)).collect();
            if let Err((_, why)) = self.write(phase, refused).await? {
                return Err(failed(&why));
            }
        }
        Ok(())
    }

    /// A fault of the whole table is not told of a million rows, one after the other.
    fn count_refusal(&mut self, why: &AccountsError) -> Result<(), Failure> {
        let AccountsError::Unfit(words) = why else {
            return Ok(());
        };
        if self.refusals.0 == *words {
            self.refusals.1 += 1;
        } else {
            self.refusals = (words.clone(), 1);
        }
        match !self.has_written && self.refusals.1 >= UNFIT_IN_A_ROW_MAX {
            true => Err(failed(why)),
            false => Ok(()),
        }
    }

    /// Says now and then that we are still here.
    async fn renew(&mut self) -> Result<(), Failure> {
        let Some((_, holder)) = &self.run else {
            return Ok(());
        };
        let at = (self.now)();
        if at.0.saturating_sub(self.renewed_at.0) < RENEWED_EVERY_MS {
            return Ok(());
        }
        let until = UnixMs(at.0.saturating_add(LEASE_MS));
        let renewed = self.preparing.target.renew(holder, until).await;
        match renewed.map_err(|error| failed(&error))? {
            true => {
                self.renewed_at = at;
                Ok(())
            }
            false => Err(Failure {
                message: "another import has taken over".into(),
                advice: "one at a time; `vestibule migrate status` tells of runs".into(),
                code: PROBLEMS,
            }),
        }
    }
}

/// The next records after a number.
async fn next(reading: &mut Reading, phase: Phase, after: u64) -> Result<Vec<Numbered>, Failure> {
    match phase {
        Phase::Of(about, lost) => reading.page(about, after, lost).await,
        Phase::Refusals => reading.refusals(after).await,
    }
}

/// Records by what they are about.
#[derive(Default)]
struct Sorted {
    people: Vec<Person>,
    organizations: Vec<(u64, ImportedOrganization)>,
    members: Vec<(u64, ImportedMember)>,
    invitations: Vec<(u64, ImportedInvitation)>,
    /// What needs no looking at.
    made: Vec<Ready>,
}

fn sorted(page: Vec<Numbered>, phase: Phase) -> Sorted {
    // In the first phase whoever lost an address waits for the second; in the second everybody else is done.
    let losers = matches!(phase, Phase::Of(About::User, true));
    let users = matches!(phase, Phase::Of(About::User, _));
    let mut sorted = Sorted::default();
    for one in page {
        let lost = one.contested.email_lost_to.is_some();
        if users && lost != losers {
            continue;
        }
        match one.record {
            Record::User(user) => sorted.people.push((one.sequence, *user, one.contested)),
            Record::Organization(of) => sorted.organizations.push((one.sequence, of)),
            Record::Member(member) => sorted.members.push((one.sequence, member)),
            Record::Invitation(of) => sorted.invitations.push((one.sequence, of)),
            Record::Refused {
                place,
                source_id,
                note,
            } => {
                let (reason, detail) = outcome::told(&[note]);
                let kind = match phase {
                    Phase::Of(About::User, _) => Kind::User,
                    Phase::Of(About::Organization, _) => Kind::Organization,
                    Phase::Of(About::Member, _) => Kind::Member,
                    Phase::Of(About::Invitation, _) => Kind::Invitation,
                    Phase::Refusals => Kind::Unreadable,
                };
                sorted.made.push(Ready {
                    row: Row {
                        sequence: one.sequence,
                        kind,
                        place,
                        source_id,
                        target_id: None,
                        outcome: Outcome::Refused,
                        reason,
                        detail,
                        write: Write::Nothing,
                    },
                    no_column: Vec::new(),
                });
            }
        }
    }
    sorted
}

/// People and what is ready already, in the order of their numbers: where a run was cut off, everything before that number is done.
async fn ready(
    preparing: &Preparing<'_>,
    people: Vec<Person>,
    made: Vec<Ready>,
) -> Result<Page, Failure> {
    let mut ready = match people.is_empty() {
        true => Vec::new(),
        false => preparing.users(&people).await?,
    };
    ready.extend(made);
    ready.sort_by_key(|ready| ready.row.sequence);
    Ok(Page { people, ready })
}

/// People who have to be looked at again, with the rows among them that need not: the last half first, as a stack is emptied.
fn halved(mut people: Vec<Person>, rows: Vec<Ready>) -> Vec<(Vec<Person>, Vec<Ready>)> {
    let again: BTreeSet<u64> = people.iter().map(|(sequence, ..)| *sequence).collect();
    let others = rows.into_iter();
    let others = others.filter(|ready| !again.contains(&ready.row.sequence));
    let second = people.split_off(people.len().div_ceil(2));
    let Some((middle, ..)) = second.first() else {
        return vec![(people, others.collect())];
    };
    let (before, after) = others.partition(|ready| ready.row.sequence < *middle);
    vec![(second, after), (people, before)]
}

/// Whether a row of somebody who is here already would keep them out, or ask more of them.
fn keeps_out(one: &Ready) -> bool {
    matches!(&one.row.write, Write::Change(change) if change.user.ban.is_some() || change.user.ties.factor.is_some())
}

/// What keeps them out, alone. The rest of the row stays undone, and that is told.
fn cut_down(mut one: Ready) -> Ready {
    if let Write::Change(change) = &mut one.row.write {
        let kept = ["user.banned", "user.banReason", "user.banExpires"];
        change.columns.retain(|column| kept.contains(column));
        change.user.ties.accounts.clear();
        one.row.detail = joined(
            std::mem::take(&mut one.row.detail),
            "the database does not take all of it: only the ban and the second factor were brought up to date",
            "; ",
        );
        let word = outcome::word(Oddity::Unfit);
        one.row.reason = joined(std::mem::take(&mut one.row.reason), word, ",");
    }
    one
}

fn joined(mut text: String, more: &str, by: &str) -> String {
    if !text.is_empty() {
        text.push_str(by);
    }
    text.push_str(more);
    text
}

/// A row that the database will not have beside another, or at all.
fn collided(mut one: Ready, error: &AccountsError) -> Ready {
    if keeps_out(&one) {
        let by_hand = "they are banned or have a second factor there, and are here already: keep them out by hand";
        one.row.detail = joined(std::mem::take(&mut one.row.detail), by_hand, "; ");
    }
    one.row.outcome = Outcome::Refused;
    one.row.write = Write::Nothing;
    one.row.target_id = None;
    one.no_column.clear();
    let (oddity, why) = match error {
        AccountsError::Unfit(what) => (Oddity::Unfit, format!("the database does not take it: {what}")),
        _ => (
            Oddity::DuplicateEmail,
            "the database holds its address, username, phone number or id to be the same as another's"
                .to_owned(),
        ),
    };
    let word = outcome::word(oddity);
    if !one.row.reason.split(',').any(|reason| reason == word) {
        if !one.row.reason.is_empty() {
            one.row.reason.push(',');
        }
        one.row.reason.push_str(word);
    }
    if !one.row.detail.is_empty() {
        one.row.detail.push_str("; ");
    }
    one.row.detail.push_str(&why);
    one
}

/// The word of `--duplicates`.
pub fn duplicates(word: &str) -> Result<Duplicates, String> {
    match word {
        "park" => Ok(Duplicates::Park),
        "merge" => Ok(Duplicates::Merge),
        _ => Err("known are `park` and `merge`".to_owned()),
    }
}
