//! Keys, looked up and remembered; their uses, counted and written behind.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::account::{Account, Chore, Known, Slots};
use super::check;
use super::{ApiKeys, Found, Settings, Taken, Usage, Wanted, stored_form};
use crate::credential::Method;
use crate::credential::signature::Seal;
use crate::session::cache::{Entry, Memory};
use crate::session::entry::Finding;
use crate::session::flight::Flights;
use crate::session::limit::Limiter;
use crate::session::resolve::{Resolution, Sessions, Tier};
use crate::session::revocation::Moment;
use crate::session::{BoxFuture, Freshness, Principal, Rejection, SourceError};
use crate::time::UnixMs;

/// How long counted uses wait before they are written: what a gateway that is killed forgets at most, and how much later others
/// learn of them. One write a second for each key in use costs a database nothing.
pub const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Most keys remembered, about 2.5 KiB each. Keys with uses that are not written yet are never forgotten, so this bounds them too.
const ACCOUNTS_MAX: usize = 50_000;

/// How many remembered keys are looked at for one to forget.
const LOOKED_AT_MAX: usize = 64;

/// Writes under way at once: the store has a few connections for keys, and lookups want some of them.
const WRITES_MAX: usize = 2;

/// How often one lookup asks the store, when revocations overtake its answers.
const LOOKUPS_MAX: usize = 3;

/// The word for this kind of credential.
pub const METHOD: Method = Method::ApiKey;

/// How a key is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// How fresh the answer must be.
    pub freshness: Freshness,
    /// Whether the caller is let through by it, which counts as a use.
    pub is_use: bool,
    /// The present.
    pub now: UnixMs,
}

/// Keys, looked up and remembered.
#[derive(Clone)]
pub struct Keys {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    store: Arc<dyn ApiKeys>,
    sessions: Arc<Sessions>,
    /// How old what is remembered may be, and what refuses somebody.
    ttls: (Duration, Duration),
    /// By the seal of the stored form: nobody learns a key from it.
    accounts: RwLock<HashMap<Seal, Arc<Account>>>,
    flights: Flights<Looked>,
    /// How often an address may present a key that nobody knows.
    guesses: Limiter,
    /// Keys with uses to be written. No more than there are accounts.
    to_write: Mutex<Vec<Arc<Account>>>,
    /// Held by whoever writes.
    writing: futures_util::lock::Mutex<()>,
}

/// What a lookup brought.
#[derive(Clone)]
enum Looked {
    Known(Arc<Account>),
    Missing,
    Failed,
}

/// What is known of a key without a lookup.
enum Remembered {
    Known(Arc<Account>),
    Missing,
    Nothing,
}

impl Keys {
    /// Keys kept in `store`. An address may present as many unknown ones as `guesses` lets it. What they prove is remembered as long as sessions are, and revoked with them.
    pub fn new(
        settings: Settings,
        sessions: Arc<Sessions>,
        limits: &crate::session::Settings,
        guesses: Limiter,
        store: Arc<dyn ApiKeys>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                settings,
                store,
                sessions,
                ttls: (limits.cache_ttl, limits.negative_ttl),
                accounts: RwLock::default(),
                flights: Flights::default(),
                guesses,
                to_write: Mutex::default(),
                writing: futures_util::lock::Mutex::new(()),
            }),
        }
    }

    /// How the app's plugin is set up.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Who a key proves, as far as memory can tell; a use of it is counted then. `None`: the store must be asked.
    pub fn recall(&self, key: &str, asking: Asking) -> Option<(Resolution, Tier)> {
        let inner = &self.inner;
        if key.len() < inner.settings.key_letters_min {
            return Some((Resolution::Rejected(Rejection::Malformed), Tier::Forged));
        }
        if asking.freshness == Freshness::Strict {
            return None;
        }
        let stored = stored_form(key, inner.settings.hashing);
        match inner.remembered(&inner.sessions.signer().seal(&stored), asking.now) {
            Remembered::Known(account) => {
                let judged = inner.judge(&account, asking)?;
                Some((judged, Tier::Memory))
            }
            Remembered::Missing => Some((unknown(), Tier::Negative)),
            Remembered::Nothing => None,
        }
    }

    /// Asks the store who a key proves, and for a use of it where uses are limited.
    pub async fn find(&self, key: &str, asking: Asking, client: IpAddr) -> (Resolution, Tier) {
        let inner = &self.inner;
        let stored: Box<str> = stored_form(key, inner.settings.hashing).into();
        let seal = inner.sessions.signer().seal(&stored);
        let remembered = match asking.freshness {
            Freshness::Strict => Remembered::Nothing,
            Freshness::Cached | Freshness::Optimistic => inner.remembered(&seal, asking.now),
        };
        let account = match remembered {
            Remembered::Known(account) => account,
            Remembered::Missing => return (unknown(), Tier::Negative),
            Remembered::Nothing => match inner.ask(seal, stored, asking, client).await {
                Ok(account) => account,
                Err(resolution) => return (resolution, Tier::Store),
            },
        };
        let now = inner.sessions.clock().now();
        let resolution = match inner.judge(&account, Asking { now, ..asking }) {
            Some(known) => known,
            None => inner.take(&account).await,
        };
        (resolution, Tier::Store)
    }

    /// Writes the uses that were counted. Whoever calls while somebody else does waits for its turn, so that afterwards everything
    /// counted before is written, unless the store failed.
    pub async fn write(&self) {
        let _mine = self.inner.writing.lock().await;
        let due = std::mem::take(&mut *lock(&self.inner.to_write));
        let down = AtomicBool::new(false);
        stream::iter(due)
            .for_each_concurrent(WRITES_MAX, |account| {
                let (inner, down) = (&self.inner, &down);
                async move {
                    // When the store fails for one it fails for all: the rest waits for the next time.
                    if down.load(Ordering::SeqCst) || !inner.write_one(&account).await {
                        down.store(true, Ordering::SeqCst);
                        lock(&inner.to_write).push(account);
                    }
                }
            })
            .await;
    }

    /// Keys remembered now.
    pub fn len(&self) -> usize {
        let accounts = self.inner.accounts.read();
        accounts.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Uses counted and not written yet.
    pub fn unwritten(&self) -> i64 {
        let accounts = self.inner.accounts.read();
        let accounts = accounts.unwrap_or_else(PoisonError::into_inner);
        accounts.values().map(|account| account.unwritten()).sum()
    }

    /// How many requests wait for a lookup they share with others.
    pub fn waiting(&self) -> usize {
        self.inner.flights.waiting()
    }
}

/// Never `told_now`: that would have the browser's session cookie cleared, which is another credential.
const fn unknown() -> Resolution {
    Resolution::Rejected(Rejection::Unknown { told_now: false })
}

impl Inner {
    fn account(&self, seal: &Seal) -> Option<Arc<Account>> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts.get(seal).map(Arc::clone)
    }

    fn remembered(&self, seal: &Seal, now: UnixMs) -> Remembered {
        let cache = self.sessions.cache();
        if let Some(account) = self.account(seal) {
            let fresh = cache.is_trusted()
                && account.is_fresh(now, self.ttls, &self.settings, &cache.revocations);
            return match fresh {
                true => Remembered::Known(account),
                false => Remembered::Nothing,
            };
        }
        match cache.recall(seal, METHOD, now) {
            Memory::Missing => Remembered::Missing,
            Memory::Known(_) | Memory::Nothing => Remembered::Nothing,
        }
    }

    async fn ask(
        self: &Arc<Self>,
        seal: Seal,
        stored: Box<str>,
        asking: Asking,
        client: IpAddr,
    ) -> Result<Arc<Account>, Resolution> {
        if let Err(wait) = self.guesses.check(client, asking.now) {
            return Err(Resolution::Rejected(Rejection::Limited {
                retry_after: Some(wait),
            }));
        }
        let lookup = || Arc::clone(self).look_up(seal, stored);
        // A strict lookup may not join one that began before the request came: what that brings may be older than the request.
        let looked = match asking.freshness {
            Freshness::Strict => lookup().await,
            Freshness::Cached | Freshness::Optimistic => {
                self.flights.wait(seal, || Box::pin(lookup())).await
            }
        };
        match looked {
            Looked::Known(account) => {
                self.guesses.give_back(client);
                Ok(account)
            }
            Looked::Missing => Err(unknown()),
            Looked::Failed => {
                self.guesses.give_back(client);
                Err(Resolution::Unavailable)
            }
        }
    }

    async fn look_up(self: Arc<Self>, seal: Seal, stored: Box<str>) -> Looked {
        // When a revocation passes by while an answer is on its way, that answer may be from before it: then it is asked again.
        for _ in 0..LOOKUPS_MAX {
            if let Some(looked) = self.ask_once(&seal, &stored).await {
                return looked;
            }
        }
        Looked::Failed
    }

    /// `None`: the answer was overtaken.
    async fn ask_once(&self, seal: &Seal, stored: &str) -> Option<Looked> {
        let cache = self.sessions.cache();
        let (asked_at, since) = (self.sessions.clock().now(), cache.revocations.moment());
        let turns = self.account(seal).map(|account| account.turns());
        let found = match self.store.find(stored).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.forget(seal);
                cache.remember_missing(*seal, METHOD, asked_at, since);
                return Some(Looked::Missing);
            }
            Err(error) => {
                self.sessions.failed(&error);
                return Some(Looked::Failed);
            }
        };
        let slots = Slots::of(seal, stored, &found.row.id);
        let (found, owner) = with_entry(found, seal, asked_at, since);
        let stands = owner
            .as_ref()
            .is_none_or(|owner| owner.stands(&cache.revocations));
        if !stands || !slots.untouched(since, &cache.revocations) {
            return None;
        }
        Some(
            match self.open(seal, found, owner, slots, (asked_at, since), turns) {
                Some(account) => Looked::Known(account),
                None => {
                    // Uses of so many keys wait to be written that no further one can be counted.
                    self.sessions.failed(&SourceError::Busy {
                        source_name: self.store.name(),
                        waiting: ACCOUNTS_MAX,
                    });
                    Looked::Failed
                }
            },
        )
    }

    /// The account of a key, with what the store said of it just now. `None`: there is no room for another one.
    fn open(
        &self,
        seal: &Seal,
        found: Found,
        owner: Option<Arc<Entry>>,
        slots: Slots,
        at: (UnixMs, Moment),
        turns: Option<u64>,
    ) -> Option<Arc<Account>> {
        let mut accounts = self
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts
            .get(seal)
            .filter(|account| account.id == found.row.id)
        {
            let known = Known {
                row: found.row,
                owner,
                asked_at: at.0,
                since: at.1,
            };
            // It was opened while the store was asked: then nothing is certain about its counters.
            account.adopt(known, turns.unwrap_or(u64::MAX));
            return Some(Arc::clone(account));
        }
        if accounts.len() >= ACCOUNTS_MAX && !accounts.contains_key(seal) {
            // Nobody uses it now, and nothing of it waits to be written: those hold it too.
            let idle = accounts
                .iter()
                .take(LOOKED_AT_MAX)
                .find(|(_, account)| Arc::strong_count(account) == 1)
                .map(|(seal, _)| *seal)?;
            accounts.remove(&idle);
        }
        let account = Arc::new(Account::new(found, owner, slots, at));
        accounts.insert(*seal, Arc::clone(&account));
        Some(account)
    }

    /// A key is gone. What waits to be written of it has its own hold on the account.
    fn forget(&self, seal: &Seal) {
        let mut accounts = self
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        accounts.remove(seal);
    }

    /// Whether the caller may use the key, and counts that. `None`: the store has to give a use.
    fn judge(&self, account: &Arc<Account>, asking: Asking) -> Option<Resolution> {
        let (known, now) = (account.known(), asking.now);
        if let Err(why) = check::standing(&known.row, &self.settings, now) {
            return Some(Resolution::Rejected(why));
        }
        if !asking.is_use {
            return Some(self.admit(&known));
        }
        match self.settings.usage {
            Usage::App => {
                let row = account.row();
                Some(match check::take(&row, row.counters, now) {
                    Ok(_) => self.admit(&known),
                    Err(why) => Resolution::Rejected(why),
                })
            }
            Usage::Gateway if account.is_limited() => {
                let revocations = &self.sessions.cache().revocations;
                let spent =
                    asking.freshness != Freshness::Strict && account.is_spent(now, revocations);
                spent.then(|| Resolution::Rejected(check::used_up(&account.row(), now)))
            }
            Usage::Gateway => Some(self.count(account, &known, now)),
        }
    }

    /// Counts a use towards the rate limit.
    fn count(&self, account: &Arc<Account>, known: &Known, now: UnixMs) -> Resolution {
        match account.count(&self.settings, now) {
            Ok(first) => {
                if first {
                    lock(&self.to_write).push(Arc::clone(account));
                }
                self.admit(known)
            }
            Err(why) => Resolution::Rejected(why),
        }
    }

    /// The framework looks at the owner last, after the use is counted.
    fn admit(&self, known: &Known) -> Resolution {
        match &known.owner {
            Some(owner) => self.sessions.judge(Arc::clone(owner)),
            None => unknown(),
        }
    }

    /// Has the store give a use, together with everybody who wants one of the same key now.
    async fn take(self: &Arc<Self>, account: &Arc<Account>) -> Resolution {
        let (inner, of) = (Arc::clone(self), Arc::clone(account));
        let (taken, place) = account
            .claims
            .wait(move |turn| {
                Box::pin(async move { inner.take_for_all(&of, turn.come().await).await })
                    as BoxFuture<'static, _>
            })
            .await;
        let now = self.sessions.clock().now();
        match taken {
            Ok(Taken::Uses { granted, .. }) if place < granted => {
                self.count(account, &account.known(), now)
            }
            Ok(Taken::Uses { .. }) => Resolution::Rejected(check::used_up(&account.row(), now)),
            Ok(Taken::Gone) => unknown(),
            Err(_) => Resolution::Unavailable,
        }
    }

    async fn take_for_all(&self, account: &Account, uses: i64) -> Result<Taken, SourceError> {
        let now = self.sessions.clock().now();
        let since = self.sessions.cache().revocations.moment();
        let due = account.due(now);
        let wanted = Wanted { uses, due, now };
        let taken = self.store.take(&account.id, wanted).await;
        match &taken {
            Ok(taken) => {
                account.took(uses, taken, since, now.plus(self.ttls.1));
            }
            Err(error) => self.sessions.failed(error),
        }
        taken
    }

    /// Writes what waits of one account. `false`: the store failed.
    async fn write_one(&self, account: &Account) -> bool {
        loop {
            let failed = match account.chore() {
                Chore::Nothing => return true,
                Chore::Clear => match self.store.counters(&account.id).await {
                    Ok(row) => {
                        account.cleared(row);
                        None
                    }
                    Err(error) => Some(error),
                },
                Chore::Write(used) => match self.store.write(&account.id, used).await {
                    Ok(row) => {
                        account.written(row);
                        None
                    }
                    Err(unwritten) => {
                        account.not_written(unwritten.unsure);
                        Some(unwritten.error)
                    }
                },
            };
            if let Some(error) = failed {
                self.sessions.failed(&error);
                return false;
            }
        }
    }
}

/// The owner as an identity the app can be told of.
fn with_entry(
    mut found: Found,
    seal: &Seal,
    asked_at: UnixMs,
    since: Moment,
) -> (Found, Option<Arc<Entry>>) {
    let owner = found.owner.take().map(|record| {
        let principal = Principal {
            record,
            method: METHOD,
        };
        Finding::new(principal, seal, asked_at, since).pack()
    });
    (found, owner)
}

/// Nobody panics under these locks, and if somebody did the lists would still be whole.
fn lock<M>(mutex: &Mutex<M>) -> MutexGuard<'_, M> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
