//! When something was last revoked, by the clock on the wall: what a cookie says was true when it was written, and no later.
//!
//! Memory knows only the order of things ([`super::revocation`]), which is enough for what we have looked up ourselves. A cookie was
//! written by the app, at a moment of its own clock. And where the cookie is all there is, two sessions that fall into one slot must
//! not share their end: here nothing is folded together.

use std::collections::{HashMap, VecDeque};
use std::sync::{PoisonError, RwLock};

use sha2::{Digest as _, Sha256};

use super::Keeper;
use super::feed::TokenDigest;
use crate::credential::signature::Seal;
use crate::time::UnixMs;

/// Most revocations kept beside a store, about 10 MiB. Beyond it the oldest become a floor: cookies from before it are not believed,
/// which costs a lookup each. Cookies beside a store live for minutes, so that takes hundreds of sign-outs a second.
const BESIDE_A_STORE_MAX: usize = 100_000;

/// Most revocations kept where the cookie is all there is, about 100 MiB when full. Such a cookie lives for a week by default. Beyond
/// this the oldest are forgotten, as the framework forgets every sign-out: a floor would sign out people who have not asked for it.
const WITHOUT_A_STORE_MAX: usize = 1_000_000;

/// The name of something that can be revoked. Two different things never have the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark([u8; 32]);

impl Mark {
    /// A token, as we name it.
    pub fn of_token(seal: &Seal) -> Self {
        Self::of("token", seal.bytes())
    }

    /// A token, as others name it.
    pub fn of_digest(digest: &TokenDigest) -> Self {
        Self::of("digest", digest.to_hex().as_bytes())
    }

    /// A user.
    pub fn of_user(user_id: &str) -> Self {
        Self::of("user", user_id.as_bytes())
    }

    /// An organization.
    pub fn of_organization(organization_id: &str) -> Self {
        Self::of("organization", organization_id.as_bytes())
    }

    fn of(kind: &str, name: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(kind).chain_update([0]);
        Self(digest.chain_update(name).finalize().into())
    }
}

/// The last revocation of whatever was revoked lately.
pub struct Ledger {
    entries_max: usize,
    overflow: Overflow,
    inner: RwLock<Inner>,
}

#[derive(Clone, Copy)]
enum Overflow {
    RaisesTheFloor,
    Forgets,
}

#[derive(Default)]
struct Inner {
    at: HashMap<Mark, UnixMs>,
    /// Each once, in the order they came. The moment is the one for which a mark got its place.
    order: VecDeque<(Mark, UnixMs)>,
    floor: Option<UnixMs>,
}

impl Ledger {
    /// An empty one.
    pub fn new(keeper: Keeper) -> Self {
        let (entries_max, overflow) = match keeper {
            Keeper::Store => (BESIDE_A_STORE_MAX, Overflow::RaisesTheFloor),
            Keeper::Cookie => (WITHOUT_A_STORE_MAX, Overflow::Forgets),
        };
        Self {
            entries_max,
            overflow,
            inner: RwLock::default(),
        }
    }

    /// It was revoked at `at`.
    pub fn note(&self, mark: Mark, at: UnixMs) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = inner.at.get_mut(&mark) {
            // It keeps its one place: whoever signs out over and over must not push out what others have ended.
            *last = at.max(*last);
            return;
        }
        inner.at.insert(mark, at);
        inner.order.push_back((mark, at));
        while inner.order.len() > self.entries_max {
            let Some((oldest, at)) = inner.order.pop_front() else {
                break;
            };
            // Revoked again since: it is as young as that, and stands there from now on.
            if let Some(last) = inner.at.get(&oldest).copied().filter(|last| *last > at) {
                inner.order.push_back((oldest, last));
                continue;
            }
            inner.at.remove(&oldest);
            match self.overflow {
                Overflow::RaisesTheFloor => inner.floor = inner.floor.max(Some(at)),
                Overflow::Forgets => {}
            }
        }
    }

    /// Everything was revoked at `at`.
    pub fn note_all(&self, at: UnixMs) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.floor = inner.floor.max(Some(at));
    }

    /// The last revocation of any of these. `None`: not within memory.
    pub fn last(&self, marks: impl IntoIterator<Item = Mark>) -> Option<UnixMs> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        if inner.at.is_empty() {
            return inner.floor;
        }
        let found = marks.into_iter().filter_map(|mark| inner.at.get(&mark));
        found.copied().max().max(inner.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(overflow: Overflow) -> Ledger {
        Ledger {
            entries_max: 2,
            overflow,
            inner: RwLock::default(),
        }
    }

    #[test]
    fn the_latest_of_what_is_asked_about_counts() {
        let ledger = Ledger::new(Keeper::Store);
        let (ada, bob) = (Mark::of_user("ada"), Mark::of_user("bob"));
        assert_eq!(ledger.last([ada, bob]), None);
        ledger.note(ada, UnixMs(5));
        ledger.note(ada, UnixMs(3));
        assert_eq!(ledger.last([ada]), Some(UnixMs(5)));
        assert_eq!(ledger.last([bob]), None);
        assert_eq!(ledger.last([Mark::of_organization("ada")]), None);
        ledger.note(bob, UnixMs(9));
        assert_eq!(ledger.last([ada, bob]), Some(UnixMs(9)));
        ledger.note_all(UnixMs(20));
        assert_eq!(ledger.last([ada]), Some(UnixMs(20)));
        assert_eq!(ledger.last([]), Some(UnixMs(20)));
    }

    #[test]
    fn beside_a_store_what_finds_no_room_becomes_a_floor() {
        let ledger = small(Overflow::RaisesTheFloor);
        for (at, user) in (1..).zip(["a", "b", "c"]) {
            ledger.note(Mark::of_user(user), UnixMs(at));
        }
        assert_eq!(ledger.last([Mark::of_user("a")]), Some(UnixMs(1)));
        assert_eq!(ledger.last([Mark::of_user("stranger")]), Some(UnixMs(1)));
        assert_eq!(ledger.last([Mark::of_user("c")]), Some(UnixMs(3)));
    }

    #[test]
    fn without_a_store_what_finds_no_room_hits_nobody_else() {
        let ledger = small(Overflow::Forgets);
        for (at, user) in (1..).zip(["a", "b", "c"]) {
            ledger.note(Mark::of_user(user), UnixMs(at));
        }
        assert_eq!(ledger.last([Mark::of_user("stranger")]), None);
        assert_eq!(ledger.last([Mark::of_user("b")]), Some(UnixMs(2)));
        assert_eq!(ledger.last([Mark::of_user("c")]), Some(UnixMs(3)));
    }

    #[test]
    fn who_signs_out_over_and_over_makes_nobody_elses_sign_out_forgotten() {
        for overflow in [Overflow::Forgets, Overflow::RaisesTheFloor] {
            let ledger = small(overflow);
            let (ada, mallory) = (Mark::of_user("ada"), Mark::of_user("mallory"));
            ledger.note(ada, UnixMs(1));
            for at in 2..10 {
                ledger.note(mallory, UnixMs(at));
            }
            assert_eq!(ledger.last([ada]), Some(UnixMs(1)));
            assert_eq!(ledger.last([mallory]), Some(UnixMs(9)));
            assert_eq!(ledger.last([Mark::of_user("stranger")]), None);
        }
    }

    #[test]
    fn what_is_revoked_again_is_as_young_as_its_last_time() {
        let ledger = small(Overflow::RaisesTheFloor);
        let (a, b, c) = (Mark::of_user("a"), Mark::of_user("b"), Mark::of_user("c"));
        ledger.note(a, UnixMs(1));
        ledger.note(b, UnixMs(2));
        ledger.note(a, UnixMs(3));
        assert_eq!(ledger.last([a]), Some(UnixMs(3)));
        assert_eq!(ledger.last([b]), Some(UnixMs(2)));
        ledger.note(c, UnixMs(4));
        assert_eq!(ledger.last([a]), Some(UnixMs(3)));
        assert_eq!(ledger.last([Mark::of_user("stranger")]), Some(UnixMs(2)));
    }
}
