//! Which remembered identities no longer count, decided without touching them.
//!
//! A revocation is a moment. Every remembered identity carries the moment before its lookup began, so it counts only while
//! nothing about its user or token was revoked since. This also covers lookups that were on their way when the revocation
//! passed: what they bring back is already too old to be remembered.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use super::feed::TokenDigest;
use crate::credential::signature::Seal;

/// Slots in the table: 512 KiB, and two bytes to name one. Two users in one slot cost one needless lookup when either is revoked, nothing else.
const SLOTS: usize = 1 << 16;

/// A moment in the order of revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// Where a user or token stands in the table.
#[derive(Clone, Copy, Debug)]
pub struct Slot(pub(super) u16);

impl Slot {
    /// A user's slot.
    pub fn of_user(user_id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        user_id.hash(&mut hasher);
        Self::at(hasher.finish())
    }

    /// An organization's slot.
    pub fn of_organization(organization_id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        ("organization", organization_id).hash(&mut hasher);
        Self::at(hasher.finish())
    }

    /// A token's slot.
    pub fn of_token(seal: &Seal) -> Self {
        Self::at(seal.spread())
    }

    /// A token's other slot, for those who do not know our secret.
    pub fn of_digest(digest: &TokenDigest) -> Self {
        Self::at(digest.spread())
    }

    /// The slot of an API key, by its stored form.
    pub fn of_api_key(stored: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        ("api_key", stored).hash(&mut hasher);
        Self::at(hasher.finish())
    }

    fn at(spread: u64) -> Self {
        // The remainder is below SLOTS, so it fits.
        #[allow(clippy::cast_possible_truncation)]
        Self((spread % SLOTS as u64) as u16)
    }
}

/// The last revocation seen, by user and by token.
pub struct Revocations {
    latest: AtomicU64,
    /// Nothing from before this moment counts.
    floor: AtomicU64,
    slots: Box<[AtomicU64]>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self {
            latest: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Revocations {
    /// The present moment. Take it before a lookup begins.
    pub fn moment(&self) -> Moment {
        Moment(self.latest.load(Ordering::SeqCst))
    }

    /// Nothing remembered in this slot counts from now on.
    pub fn revoke(&self, slot: Slot) {
        let moment = self.latest.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(slot) = self.slots.get(usize::from(slot.0)) {
            slot.fetch_max(moment, Ordering::SeqCst);
        }
    }

    /// Nothing remembered at all counts from now on.
    pub fn revoke_all(&self) {
        let moment = self.latest.fetch_add(1, Ordering::SeqCst) + 1;
        self.floor.fetch_max(moment, Ordering::SeqCst);
    }

    /// Whether something looked up at `since` still counts in this slot.
    pub fn untouched(&self, since: Moment, slot: Slot) -> bool {
        let slot = self
            .slots
            .get(usize::from(slot.0))
            .map_or(u64::MAX, |slot| slot.load(Ordering::Acquire));
        slot <= since.0 && self.floor.load(Ordering::Acquire) <= since.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_ends_what_was_looked_up_before_and_leaves_what_comes_after() {
        let revocations = Revocations::default();
        let (ada, bob) = (Slot::of_user("ada"), Slot::of_user("bob"));
        let before = revocations.moment();
        assert!(revocations.untouched(before, ada));
        revocations.revoke(ada);
        assert!(!revocations.untouched(before, ada));
        assert!(revocations.untouched(before, bob));
        assert!(revocations.untouched(revocations.moment(), ada));
    }

    #[test]
    fn revoking_all_ends_everything_from_before() {
        let revocations = Revocations::default();
        let before = revocations.moment();
        revocations.revoke_all();
        assert!(!revocations.untouched(before, Slot::of_user("ada")));
        assert!(revocations.untouched(revocations.moment(), Slot::of_user("ada")));
    }
}
