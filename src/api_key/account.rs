//! One key that is remembered: what the store said of it, and its uses since.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::check::{self, Rate};
use super::claim::Claims;
use super::{Counters, Found, Refill, Row, Settings, Taken, Usage, Used};
use crate::credential::signature::Seal;
use crate::session::cache::Entry;
use crate::session::revocation::{Moment, Revocations, Slot};
use crate::session::{Rejection, SourceError};
use crate::time::UnixMs;

/// What the store said of a key, and when.
pub(super) struct Known {
    pub(super) row: Row,
    /// None: no user has that id.
    pub(super) owner: Option<Arc<Entry>>,
    pub(super) asked_at: UnixMs,
    pub(super) since: Moment,
}

/// Where a key stands in the table of revocations.
#[derive(Clone, Copy)]
pub(super) struct Slots {
    seal: Slot,
    stored: Slot,
    id: Slot,
}

impl Slots {
    pub(super) fn of(seal: &Seal, stored: &str, id: &str) -> Self {
        Self {
            seal: Slot::of_token(seal),
            stored: Slot::of_api_key(stored),
            // Whoever changes a key names its id. No id looks like a stored form, so both have room in one table.
            id: Slot::of_api_key(id),
        }
    }

    /// Whether nothing about the key was revoked since.
    pub(super) fn untouched(&self, since: Moment, revocations: &Revocations) -> bool {
        [self.seal, self.stored, self.id]
            .into_iter()
            .all(|slot| revocations.untouched(since, slot))
    }
}

/// A remembered key.
pub(super) struct Account {
    pub(super) id: Box<str>,
    slots: Slots,
    state: Mutex<State>,
    /// Questions for uses of `remaining`.
    pub(super) claims: Claims<Result<Taken, SourceError>>,
}

struct State {
    known: Arc<Known>,
    /// As far as we know, with the uses that are not written yet.
    counters: Counters,
    /// Uses to be written.
    waiting: Option<Used>,
    /// Uses on their way.
    on_their_way: Option<Used>,
    /// Uses of which nobody knows whether they were written.
    unsure: Option<Used>,
    /// How many writes have begun or ended: counters read while one did say nothing certain.
    turns: u64,
    /// Somebody is going to write what waits.
    listed: bool,
    /// There was nothing left to take, and until when that is believed.
    spent: Option<(Moment, UnixMs)>,
}

/// What is to be done about an account's uses.
pub(super) enum Chore {
    /// Write these.
    Write(Used),
    /// Find out whether earlier ones were written.
    Clear,
    /// Nothing.
    Nothing,
}

impl Account {
    pub(super) fn new(
        found: Found,
        owner: Option<Arc<Entry>>,
        slots: Slots,
        at: (UnixMs, Moment),
    ) -> Self {
        let counters = found.row.counters;
        Self {
            id: found.row.id.clone(),
            slots,
            state: Mutex::new(State {
                known: Arc::new(Known {
                    row: found.row,
                    owner,
                    asked_at: at.0,
                    since: at.1,
                }),
                counters,
                waiting: None,
                on_their_way: None,
                unsure: None,
                turns: 0,
                listed: false,
                spent: None,
            }),
            claims: Claims::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nobody panics under this lock, and if somebody did the counters would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known(&self) -> Arc<Known> {
        Arc::clone(&self.state().known)
    }

    /// Whether what the store said may still be believed at `now`: it is at most `ttl` old and nothing about it was revoked since.
    /// What refuses a caller is only believed for as long as "no such key" would be.
    pub(super) fn is_fresh(
        &self,
        now: UnixMs,
        (ttl, negative_ttl): (Duration, Duration),
        settings: &Settings,
        revocations: &Revocations,
    ) -> bool {
        let state = self.state();
        let known = &state.known;
        let refuses = known.owner.is_none()
            || check::standing(&known.row, settings, now).is_err()
            || (settings.usage == Usage::App
                && state.counters.remaining.is_some_and(|left| left <= 0));
        let ttl = if refuses { ttl.min(negative_ttl) } else { ttl };
        known.asked_at <= now
            && now.since(known.asked_at) < ttl
            && self.slots.untouched(known.since, revocations)
            && known
                .owner
                .as_ref()
                .is_none_or(|owner| owner.stands(revocations))
    }

    /// How many writes have begun or ended. Take it before the row is read.
    pub(super) fn turns(&self) -> u64 {
        self.state().turns
    }

    /// Takes over what the store said of the key to a lookup that began after so many turns.
    pub(super) fn adopt(&self, known: Known, turns: u64) {
        let mut state = self.state();
        // Lookups may overtake each other: the later question has the better answer.
        if known.asked_at < state.known.asked_at {
            return;
        }
        let read = known.row.counters;
        let certain =
            state.turns == turns && state.on_their_way.is_none() && state.unsure.is_none();
        state.counters = if certain {
            state.waiting.map_or(read, |used| used.added_to(read))
        } else {
            Counters {
                remaining: read.remaining,
                last_refill: read.last_refill,
                ..state.counters
            }
        };
        state.known = Arc::new(known);
    }

    /// The row, with the uses that are not written yet.
    pub(super) fn row(&self) -> Row {
        let state = self.state();
        Row {
            counters: state.counters,
            ..state.known.row.clone()
        }
    }

    /// Whether uses are taken from `remaining`.
    pub(super) fn is_limited(&self) -> bool {
        self.state().counters.remaining.is_some()
    }

    /// Counts one use towards the rate limit, or refuses it. Says whether somebody has to be told that there is something to write.
    pub(super) fn count(&self, settings: &Settings, now: UnixMs) -> Result<bool, Rejection> {
        let mut state = self.state();
        let (counters, rate) = check::rate(&state.known.row, settings, state.counters, now)?;
        state.counters = counters;
        let (requests, restart) = match rate {
            Rate::Untouched | Rate::Noted => (0, None),
            Rate::Counted => (1, None),
            Rate::Begins { before } => (1, Some(before)),
        };
        let used = Used {
            requests,
            restart,
            last_request: (rate != Rate::Untouched).then_some(now),
            updated_at: now,
        };
        state.waiting = Some(state.waiting.map_or(used, |earlier| earlier.and(used)));
        Ok(!std::mem::replace(&mut state.listed, true))
    }

    /// How many uses are not written yet.
    pub(super) fn unwritten(&self) -> i64 {
        let state = self.state();
        [state.waiting, state.on_their_way, state.unsure]
            .into_iter()
            .flatten()
            .map(|used| used.requests.max(1))
            .sum()
    }

    /// What is to be done next about uses that are not written. Until it is done, say so with [`Self::written`],
    /// [`Self::not_written`] or [`Self::cleared`].
    pub(super) fn chore(&self) -> Chore {
        let mut state = self.state();
        if state.unsure.is_some() {
            return Chore::Clear;
        }
        let Some(used) = state.waiting.take() else {
            state.listed = false;
            return Chore::Nothing;
        };
        state.turns = state.turns.wrapping_add(1);
        state.on_their_way = Some(used);
        Chore::Write(used)
    }

    /// They were written, and this is what the row counts now. `None`: the row is gone, and nobody counts any more.
    pub(super) fn written(&self, counters: Option<Counters>) {
        let mut state = self.state();
        state.turns = state.turns.wrapping_add(1);
        state.on_their_way = None;
        if let Some(read) = counters {
            state.counters = state.waiting.map_or(read, |used| used.added_to(read));
        }
    }

    /// They were not written, or nobody knows.
    pub(super) fn not_written(&self, unsure: bool) {
        let mut state = self.state();
        state.turns = state.turns.wrapping_add(1);
        let Some(used) = state.on_their_way.take() else {
            return;
        };
        if unsure {
            state.unsure = Some(used);
        } else {
            state.waiting = Some(state.waiting.map_or(used, |later| used.and(later)));
        }
    }

    /// The row was looked at to find out whether uses were written: they were if the row has been used since. `None`: it is gone.
    pub(super) fn cleared(&self, row: Option<Counters>) {
        let mut state = self.state();
        let Some(used) = state.unsure.take() else {
            return;
        };
        let written = row.is_none_or(|row| {
            row.last_request >= used.last_request && row.updated_at >= Some(used.updated_at)
        });
        if !written {
            state.waiting = Some(state.waiting.map_or(used, |later| used.and(later)));
        }
    }

    /// A refill that seems to be due.
    pub(super) fn due(&self, now: UnixMs) -> Option<Refill> {
        let row = self.row();
        row.refill()
            .filter(|refill| now.since(row.refilled_at()) > refill.every)
    }

    /// So many uses were asked for, and this came of it.
    pub(super) fn took(&self, wanted: i64, taken: &Taken, since: Moment, until: UnixMs) {
        let Taken::Uses { granted, counters } = taken else {
            return;
        };
        let mut state = self.state();
        if let Some(row) = counters {
            state.counters.remaining = row.remaining;
            state.counters.last_refill = row.last_refill;
        }
        state.spent = (*granted < wanted).then_some((since, until));
    }

    /// Whether there was nothing left a moment ago.
    pub(super) fn is_spent(&self, now: UnixMs, revocations: &Revocations) -> bool {
        self.state()
            .spent
            .is_some_and(|(since, until)| now < until && self.slots.untouched(since, revocations))
    }
}
