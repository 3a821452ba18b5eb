//! One lookup, however many requests wait for the same token.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{Shared, WeakShared};

use super::BoxFuture;
use crate::credential::signature::Seal;

type Waiting<T> = Shared<BoxFuture<'static, T>>;

/// The lookups under way, each with a number of its own. Held weakly: a lookup lives as long as somebody waits for it.
type UnderWay<T> = HashMap<Seal, (u64, WeakShared<BoxFuture<'static, T>>)>;

/// Lookups under way. A caller who goes away leaves the lookup to the others; when the last one goes, it ends.
pub struct Flights<T: Clone> {
    under_way: Arc<Mutex<UnderWay<T>>>,
    next: AtomicU64,
    waiting: AtomicUsize,
}

impl<T: Clone> Default for Flights<T> {
    fn default() -> Self {
        Self {
            under_way: Arc::default(),
            next: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// Waits for the lookup under way for `seal`, or for one that begins now.
    pub async fn wait(&self, seal: Seal, begin: impl FnOnce() -> BoxFuture<'static, T>) -> T {
        let flight = self.join(seal, begin);
        let _seat = Seat::take(&self.waiting);
        flight.await
    }

    fn join(&self, seal: Seal, begin: impl FnOnce() -> BoxFuture<'static, T>) -> Waiting<T> {
        // A flight that ends takes this lock to sign off. It must never be dropped while we hold it: it leaves this block alive.
        let mut under_way = lock(&self.under_way);
        let found = under_way
            .get(&seal)
            .and_then(|(_, flight)| flight.upgrade());
        if let Some(flight) = found {
            return flight;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let landing = Landing {
            under_way: Arc::clone(&self.under_way),
            seal,
            id,
        };
        let lookup = begin();
        let flight: Waiting<T> = async move {
            let outcome = lookup.await;
            drop(landing);
            outcome
        }
        .boxed()
        .shared();
        if let Some(weak) = flight.downgrade() {
            under_way.insert(seal, (id, weak));
        }
        flight
    }

    /// How many callers wait, for whatever lookup.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        lock(&self.under_way).len()
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One caller who waits, for as long as it does.
struct Seat<'f>(&'f AtomicUsize);

impl<'f> Seat<'f> {
    fn take(waiting: &'f AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Signs the flight off, however it ends.
struct Landing<T: Clone> {
    under_way: Arc<Mutex<UnderWay<T>>>,
    seal: Seal,
    id: u64,
}

impl<T: Clone> Drop for Landing<T> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.under_way);
        if under_way
            .get(&self.seal)
            .is_some_and(|(id, _)| *id == self.id)
        {
            under_way.remove(&self.seal);
        }
    }
}

/// Nobody panics under this lock, and if somebody did the map would still be whole.
fn lock<M>(mutex: &Mutex<M>) -> MutexGuard<'_, M> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
