//! The line to whoever else ends sessions: what they say is forgotten here, what is seen here is told to them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::credential::signature::Seal;
use crate::session::feed::{Ended, Feed, Listener, TokenDigest};
use crate::session::resolve::Sessions;
use crate::telemetry::metrics::Metrics;
use crate::time::{Clock, UnixMs};

/// Most endings that wait to be told. Beyond, they become one: everything.
const UNTOLD_MAX: usize = 1024;

/// Longest wait for one telling.
const TELL_WITHIN: Duration = Duration::from_secs(5);

/// How long after a telling that failed it is tried again, at first and at most.
const TELL_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Everything is forgotten for the sake of somebody unknown at most this often: whoever can reset passwords at will must not be able
/// to keep the store busy.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// How revocations travel.
#[derive(Clone, Default)]
pub struct Settings {
    /// The line there is, if any.
    pub feed: Option<Arc<dyn Feed>>,
    /// Whether the operator asked for it by name (`revocation.feed`). Then memory does not count until it is up for the first time;
    /// else a line that never came up is one that there is not.
    pub promised: bool,
    /// How often it is asked whether those who hold streams open are still signed in (`revocation.recheck`). Zero: only when told.
    pub recheck: Duration,
}

/// One gateway's end of the line.
pub struct Line {
    sessions: Arc<Sessions>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    feed: Option<Arc<dyn Feed>>,
    promised: bool,
    /// Whether it is up, and whether it ever was.
    up: AtomicBool,
    proven: AtomicBool,
    untold: Mutex<VecDeque<Ended>>,
    /// Whether something is being told right now.
    telling: AtomicBool,
    more: Notify,
    flushed: Mutex<Flushed>,
}

#[derive(Default)]
struct Flushed {
    last: Option<Instant>,
    due: bool,
}

impl Line {
    /// A line that nobody listens on yet.
    pub fn new(
        settings: &Settings,
        sessions: Arc<Sessions>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        if settings.promised && settings.feed.is_some() {
            sessions.cache().distrust();
        }
        Self {
            sessions,
            clock,
            metrics,
            feed: settings.feed.clone(),
            promised: settings.promised,
            up: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            untold: Mutex::default(),
            telling: AtomicBool::new(false),
            more: Notify::new(),
            flushed: Mutex::default(),
        }
    }

    /// Sessions, looked up and remembered.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Its word, and whether it is up; `None`: there is none.
    pub fn state(&self) -> Option<(&'static str, bool)> {
        let feed = self.feed.as_ref()?;
        Some((feed.name(), self.up.load(Ordering::SeqCst)))
    }

    /// One session has ended: it is forgotten here at once, and the others are told.
    pub fn end_session(&self, seal: &Seal, digest: Option<TokenDigest>) {
        self.sessions.cache().forget_token(seal);
        if let Some(digest) = digest {
            self.tell(Ended::Token(digest));
        }
    }

    /// Something has ended: it is forgotten here at once, and the others are told.
    pub fn end(&self, what: Ended) {
        self.sessions.cache().forget(&what);
        self.tell(what);
    }

    /// Sessions have ended of somebody who cannot be named. Everything is forgotten, now or, if that was a moment ago, in a moment.
    pub fn end_unnamed(&self) {
        let mut flushed = lock(&self.flushed);
        if flushed
            .last
            .is_some_and(|last| last.elapsed() < FLUSH_EVERY)
        {
            flushed.due = true;
            return;
        }
        flushed.last = Some(Instant::now());
        drop(flushed);
        self.end(Ended::All);
    }

    /// Does what [`Self::end_unnamed`] put off. Called every moment.
    pub fn catch_up(&self) {
        let mut flushed = lock(&self.flushed);
        if flushed.due
            && flushed
                .last
                .is_none_or(|last| last.elapsed() >= FLUSH_EVERY)
        {
            *flushed = Flushed {
                last: Some(Instant::now()),
                due: false,
            };
            drop(flushed);
            self.end(Ended::All);
        }
    }

    fn tell(&self, what: Ended) {
        if self.feed.is_none() {
            return;
        }
        let mut untold = lock(&self.untold);
        // What waits has not been sent yet, so whoever hears it hears it after this has ended too.
        if untold.contains(&what) || untold.contains(&Ended::All) {
            return;
        }
        if untold.len() >= UNTOLD_MAX {
            untold.clear();
            untold.push_back(Ended::All);
        } else {
            untold.push_back(what);
        }
        drop(untold);
        self.more.notify_one();
    }

    /// Whether the others have been told everything that ended here.
    pub fn has_told_all(&self) -> bool {
        lock(&self.untold).is_empty() && !self.telling.load(Ordering::SeqCst)
    }

    fn next_untold(&self) -> Option<Ended> {
        let mut untold = lock(&self.untold);
        let next = untold.pop_front();
        self.telling.store(next.is_some(), Ordering::SeqCst);
        next
    }

    /// Listens and tells, for as long as it is polled.
    pub async fn run(&self) {
        let Some(feed) = &self.feed else {
            return;
        };
        tokio::join!(feed.listen(self), self.tell_on(&**feed));
    }

    async fn tell_on(&self, feed: &dyn Feed) {
        let mut pause = TELL_AGAIN.0;
        loop {
            // Taken out while it is being sent: the same may end again meanwhile, and then must be told again.
            let Some(what) = self.next_untold() else {
                self.more.notified().await;
                continue;
            };
            match tokio::time::timeout(TELL_WITHIN, feed.tell(&what)).await {
                Ok(Ok(())) => pause = TELL_AGAIN.0,
                Ok(Err(_)) | Err(_) => {
                    self.tell(what);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(TELL_AGAIN.1);
                }
            }
        }
    }
}

impl Listener for Line {
    fn ended(&self, what: &Ended, at: Option<UnixMs>) {
        self.sessions.cache().forget(what);
        let lag = at.map(|at| self.clock.now().since(at));
        self.metrics.told(what, lag);
    }

    fn lost(&self) {
        let name = self.feed.as_ref().map_or("", |feed| feed.name());
        let counts = self.promised || self.proven.load(Ordering::SeqCst);
        if counts {
            // Before anybody can see that it is down.
            self.sessions.cache().distrust();
        }
        if self.up.swap(false, Ordering::SeqCst) {
            self.metrics.line(false);
            tracing::warn!(
                line = name,
                "revocations cannot be heard: every request asks the store until they can"
            );
        } else if !counts {
            tracing::warn!(
                line = name,
                "revocations made elsewhere cannot be heard: they count after `sessions.cache_ttl`"
            );
        }
    }

    fn regained(&self) {
        self.proven.store(true, Ordering::SeqCst);
        self.sessions.cache().trust();
        if !self.up.swap(true, Ordering::SeqCst) {
            self.metrics.line(true);
            let name = self.feed.as_ref().map_or("", |feed| feed.name());
            tracing::info!(line = name, "listening for revocations");
        }
    }
}

/// Nobody panics under these locks, and if somebody did what they guard would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
