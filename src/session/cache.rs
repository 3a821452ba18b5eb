//! What we remember of sessions: identities, and that there was none. Never a decision.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;

use super::carried::Owed;
pub use super::entry::Entry;
use super::feed::{Ended, TokenDigest};
use super::ledger::{Ledger, Mark};
use super::revocation::{Moment, Revocations, Slot};
use super::{Keeper, Settings};
use crate::credential::Method;
use crate::credential::signature::Seal;
use crate::time::{Clock, UnixMs};

/// What the table takes for one entry: its key, its place in a list, its part of the index, and room that is not in use yet. Measured
/// as 77 with a million entries, 90 with a hundred thousand and 113 with ten thousand.
const PLACE_BYTES: u64 = 112;

/// What one entry takes in all, as a rule (`tests/memory.rs`).
const ENTRY_BYTES: u64 = 336;

/// How long a token seen in a passing `Set-Cookie` is never remembered as missing: replicas of the store may lag.
const JUST_ISSUED: Duration = Duration::from_secs(30);

/// Most tokens remembered as just issued. Beyond it the oldest are forgotten, which costs a lookup each.
const JUST_ISSUED_MAX: u64 = 10_000;

/// How soon after a session was called dead that is noted again. Cookies that the app writes within five seconds are not believed
/// anyway (see `session::cookie`), and those who share its slot pay a lookup each time.
const DEAD_AGAIN: Duration = Duration::from_secs(5);

/// How long `Set-Cookie` lines wait for the next answer to their browser. Later, the app sets new ones anyway.
const OWED: Duration = Duration::from_secs(600);

/// Most sessions that are owed something. Beyond it the oldest are forgotten, which costs them one renewal of a cookie.
const OWED_MAX: u64 = 10_000;

/// What memory knows of a token.
#[derive(Clone, Debug)]
pub enum Memory {
    /// This identity: fresh enough, not expired, not revoked.
    Known(Arc<Entry>),
    /// The store said a moment ago that there is none.
    Missing,
    /// Nothing that counts.
    Nothing,
}

#[derive(Clone)]
struct Weigher {
    /// Weight of the lightest entry, so that the bound in bytes also bounds the number.
    least: u64,
}

impl quick_cache::Weighter<Seal, Arc<Entry>> for Weigher {
    fn weight(&self, _: &Seal, entry: &Arc<Entry>) -> u64 {
        (PLACE_BYTES + entry.bytes() as u64).max(self.least)
    }
}

#[derive(Clone, Copy)]
struct Absence {
    told_at: UnixMs,
    since: Moment,
}

/// What is being forgotten, for whoever keeps more than memory does.
#[derive(Clone, Copy, Debug)]
pub enum Forgotten<'f> {
    /// One session, by its seal.
    Session(&'f Seal),
    /// What the digest, the user, the organization or the key names; or everything.
    Named(&'f Ended),
}

/// Is told what is being forgotten, after it has been. Must not block, and must not ask the memory to forget more.
pub type Witness = Box<dyn Fn(Forgotten<'_>) + Send + Sync>;

/// The memory. Reads take no lock that is held across a wait.
pub struct Cache {
    ttl: Duration,
    negative_ttl: Duration,
    known: quick_cache::sync::Cache<Seal, Arc<Entry>, Weigher>,
    // The library's own expiry only frees memory; whether an entry counts is decided here, on the given clock.
    missing: moka::sync::Cache<Seal, Absence>,
    just_issued: moka::sync::Cache<Seal, ()>,
    owed: moka::sync::Cache<Seal, Arc<Owed>>,
    /// Revocations seen.
    pub revocations: Revocations,
    keeper: Keeper,
    /// The same by the clock on the wall, for what we have not looked up ourselves.
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    /// Revocations may be happening that nobody tells us of.
    deaf: AtomicBool,
    witness: OnceLock<Witness>,
}

impl Cache {
    /// A memory within the bounds of `settings`, of sessions that `keeper` keeps.
    pub fn new(settings: &Settings, keeper: Keeper, clock: Arc<dyn Clock>) -> Self {
        let entries = settings.entries_max.max(1);
        let least = (settings.bytes_max / entries).max(1);
        Self {
            ttl: settings.cache_ttl,
            negative_ttl: settings.negative_ttl,
            known: quick_cache::sync::Cache::with_weighter(
                usize::try_from(entries.min(settings.bytes_max / ENTRY_BYTES))
                    .unwrap_or(usize::MAX),
                settings.bytes_max,
                Weigher { least },
            ),
            missing: moka::sync::Cache::builder()
                .max_capacity(settings.negative_max)
                .time_to_live(settings.negative_ttl)
                .build(),
            just_issued: moka::sync::Cache::builder()
                .max_capacity(JUST_ISSUED_MAX)
                .time_to_live(JUST_ISSUED)
                .build(),
            owed: moka::sync::Cache::builder()
                .max_capacity(OWED_MAX)
                .time_to_live(OWED)
                .build(),
            revocations: Revocations::default(),
            keeper,
            ledger: Ledger::new(keeper),
            clock,
            deaf: AtomicBool::new(false),
            witness: OnceLock::new(),
        }
    }

    /// Whether what was found out at the age of an entry may still be believed.
    pub fn is_fresh(&self, entry: &Entry, now: UnixMs) -> bool {
        entry.is_fresh(now, self.ttl)
    }

    /// What is remembered of a cookie, under its own name. It counts for its whole life, unless it was revoked.
    pub fn recall_cookie(&self, cookie: &Seal, now: UnixMs) -> Option<Arc<Entry>> {
        let entry = self.known.get(cookie)?;
        (!entry.is_expired(now) && entry.stands(&self.revocations)).then_some(entry)
    }

    /// Remembers what a cookie says, under its own name: a request that does not bring it is not answered from it.
    pub fn remember_cookie(&self, cookie: Seal, entry: Arc<Entry>) {
        if !self.ttl.is_zero() && entry.stands(&self.revocations) {
            self.known.insert(cookie, entry);
        }
    }

    /// When anything about an identity was last revoked, as far as it was seen passing or told.
    pub fn last_revocation(&self, seal: &Seal, entry: &Entry) -> Option<UnixMs> {
        let organization = entry.organization_id();
        let marks = [
            Mark::of_token(seal),
            Mark::of_digest(&TokenDigest::of(entry.expose_token())),
            Mark::of_user(entry.user_id()),
        ];
        self.ledger.last(
            marks
                .into_iter()
                .chain(organization.map(Mark::of_organization)),
        )
    }

    /// Whether a session was ended, where the cookie is all there is: its token, whenever the cookie was written; or its user, after
    /// it began.
    pub fn has_ended(&self, entry: &Entry) -> bool {
        let token = Mark::of_digest(&TokenDigest::of(entry.expose_token()));
        let user = Mark::of_user(entry.user_id());
        let began = entry.created_at().unwrap_or(entry.asked_at());
        self.ledger.last([token]).is_some()
            || self.ledger.last([user]).is_some_and(|at| began <= at)
    }

    /// Ends something for good. Where the cookie is all there is, forgetting it means no more than to look at the cookie again: only
    /// what ends here does not come back.
    pub fn end(&self, what: &Ended) {
        // Written down before it is forgotten: a request that looks at the cookie again in between would bring it back for good.
        let now = self.clock.now();
        match what {
            Ended::Token(digest) => self.ledger.note(Mark::of_digest(digest), now),
            Ended::User(user_id) => self.ledger.note(Mark::of_user(user_id), now),
            // Nobody's session ends with an organization or a key; and to end all of them is to change the secret.
            Ended::Organization(_) | Ended::ApiKey(_) | Ended::All => {}
        }
        self.forget(what);
    }

    /// Notes a revocation for cookies from before it. Beside a store only: there they cost a lookup.
    fn note(&self, mark: Mark) {
        if self.keeper == Keeper::Store {
            self.ledger.note(mark, self.clock.now());
        }
    }

    /// Has everything that is forgotten from now on told to `witness`. The first one counts.
    pub fn set_witness(&self, witness: Witness) {
        // A second one would be a defect of the caller's; the first keeps its place.
        let _ = self.witness.set(witness);
    }

    /// From now on revocations may pass unheard: no identity counts unless the store was asked for it.
    pub fn distrust(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// Revocations are heard again. Those that were missed are unknown, so everything is forgotten first.
    pub fn trust(&self) {
        self.forget_all();
        self.deaf.store(false, Ordering::SeqCst);
    }

    /// Whether what is remembered, here or in a cookie, may be believed for as long as `cache_ttl` allows.
    pub fn is_trusted(&self) -> bool {
        !self.deaf.load(Ordering::Acquire)
    }

    /// What is remembered of the token behind `seal`.
    pub fn recall(&self, seal: &Seal, method: Method, now: UnixMs) -> Memory {
        if let Some(entry) = self.known.get(&seal.by(method)) {
            // The app may have extended the session behind our back: past the expiry we know of, the store is asked again.
            let counts =
                self.is_trusted() && entry.is_fresh(now, self.ttl) && !entry.is_expired(now);
            if counts && entry.stands(&self.revocations) {
                return Memory::Known(entry);
            }
            return Memory::Nothing;
        }
        if let Some(absence) = self.missing.get(seal) {
            let fresh = absence.told_at <= now && now.since(absence.told_at) < self.negative_ttl;
            if fresh
                && self
                    .revocations
                    .untouched(absence.since, Slot::of_token(seal))
            {
                return Memory::Missing;
            }
        }
        Memory::Nothing
    }

    /// Remembers an identity, unless it was revoked while it was looked up.
    pub fn remember(&self, seal: Seal, entry: Arc<Entry>) {
        if !self.ttl.is_zero() && entry.stands(&self.revocations) {
            self.missing.invalidate(&seal);
            self.known.insert(seal.by(entry.method()), entry);
        }
    }

    /// What is remembered of a session that was extended shows its new end, unless something newer is remembered by now.
    pub fn renew(&self, seal: Seal, old: &Arc<Entry>, until: UnixMs, updated: Option<UnixMs>) {
        let remembered = self.known.get(&seal.by(old.method()));
        if remembered.is_some_and(|found| Arc::ptr_eq(&found, old)) {
            self.remember(seal, old.renewed(until, updated));
        }
    }

    /// Remembers that the store has no such session, unless the token was issued a moment ago.
    pub fn remember_missing(&self, seal: Seal, method: Method, told_at: UnixMs, since: Moment) {
        self.known.remove(&seal.by(method));
        if self.was_just_issued(&seal) {
            return;
        }
        // Only by the session cookie: anybody can make up tokens that nobody signed, and fill the ledger with them.
        let since = match method == Method::SESSION && self.keeper == Keeper::Store {
            true => self.disbelieve_cookies(&seal, told_at).unwrap_or(since),
            false => since,
        };
        if !self.negative_ttl.is_zero() {
            self.missing.insert(seal, Absence { told_at, since });
            // Issued meanwhile: whoever does that after this look takes the absence away itself.
            if self.was_just_issued(&seal) {
                self.missing.invalidate(&seal);
            }
        }
    }

    /// The store has called a session dead: what the app has sealed of it before says nothing any more, longer than we remember
    /// that it is dead. Whoever asks again and again does that once in a while. The moment from which on it holds.
    fn disbelieve_cookies(&self, seal: &Seal, told_at: UnixMs) -> Option<Moment> {
        let mark = Mark::of_token(seal);
        let known = self.ledger.last([mark]);
        if known.is_some_and(|at| at <= told_at && told_at.since(at) < DEAD_AGAIN) {
            return None;
        }
        self.ledger.note(mark, told_at);
        self.revocations.revoke(Slot::of_token(seal));
        Some(self.revocations.moment())
    }

    /// Whether the token passed by in a `Set-Cookie` a moment ago.
    pub fn was_just_issued(&self, seal: &Seal) -> bool {
        self.just_issued.contains_key(seal)
    }

    /// The token has ended, whenever it was issued: that the store does not know it is no lag any more.
    pub fn withdrawn(&self, seal: &Seal) {
        self.just_issued.invalidate(seal);
    }

    /// What is owed to the browser with this session, shared by everything that is remembered of it.
    pub fn owed(&self, seal: &Seal) -> Option<Arc<Owed>> {
        self.owed.get(seal)
    }

    /// The next answer to this session's browser takes these lines along, even if the entry is replaced or dropped before.
    pub fn owe(&self, seal: Seal, entry: &Entry, lines: Vec<HeaderValue>) {
        if !lines.is_empty() {
            let owed = entry.share_owed();
            owed.put(lines);
            self.owed.insert(seal, owed);
        }
    }

    /// A token passed by in a `Set-Cookie`: whatever is remembered of it is outdated. The session itself lives.
    pub fn issued(&self, seal: Seal) {
        self.just_issued.insert(seal, ());
        self.drop_token(&seal);
    }

    /// Forgets one session.
    pub fn forget_token(&self, seal: &Seal) {
        self.note(Mark::of_token(seal));
        self.drop_token(seal);
        self.tell(Forgotten::Session(seal));
    }

    fn drop_token(&self, seal: &Seal) {
        self.revocations.revoke(Slot::of_token(seal));
        self.known.remove(seal);
        self.missing.invalidate(seal);
        self.owed.invalidate(seal);
    }

    /// Forgets every session of a user.
    pub fn forget_user(&self, user_id: &str) {
        self.forget(&Ended::User(user_id.into()));
    }

    /// Forgets every session in which an organization is the active one.
    pub fn forget_organization(&self, organization_id: &str) {
        self.forget(&Ended::Organization(organization_id.into()));
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        self.forget(&Ended::All);
    }

    /// Forgets whatever has ended.
    pub fn forget(&self, what: &Ended) {
        self.note_end(what);
        let slot = match what {
            Ended::Token(digest) => Slot::of_digest(digest),
            Ended::User(user_id) => Slot::of_user(user_id),
            Ended::Organization(organization_id) => Slot::of_organization(organization_id),
            Ended::ApiKey(stored) => Slot::of_api_key(stored),
            Ended::All => {
                self.revocations.revoke_all();
                self.known.clear();
                self.missing.invalidate_all();
                self.owed.invalidate_all();
                return self.tell(Forgotten::Named(what));
            }
        };
        self.revocations.revoke(slot);
        self.tell(Forgotten::Named(what));
    }

    fn note_end(&self, what: &Ended) {
        match what {
            Ended::Token(digest) => self.note(Mark::of_digest(digest)),
            Ended::User(user_id) => self.note(Mark::of_user(user_id)),
            Ended::Organization(id) => self.note(Mark::of_organization(id)),
            Ended::ApiKey(_) => {}
            Ended::All if self.keeper == Keeper::Store => self.ledger.note_all(self.clock.now()),
            Ended::All => {}
        }
    }

    fn tell(&self, what: Forgotten<'_>) {
        if let Some(witness) = self.witness.get() {
            witness(what);
        }
    }

    /// Identities remembered now.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Bytes they take, as reckoned for the bound.
    pub fn weight(&self) -> u64 {
        self.known.weight()
    }
}
