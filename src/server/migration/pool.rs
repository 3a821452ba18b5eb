//! Threads of their own for hashing, so that a flood of sign-ins slows sign-ins and nothing else.
//!
//! A sign-in is *admitted* before anybody knows whether its account exists: an overload answers the same for all. Once admitted it is
//! never turned away again; it waits its turn for each of its jobs. Bounded are the sign-ins that are admitted, the jobs that run at
//! once (threads), and the memory that those take.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::telemetry::metrics::Metrics;

/// Memory that running jobs take at most, in bytes: sixteen native hashes. One that takes more runs alone.
pub const MEMORY_BYTES: u64 = 512 * 1024 * 1024;

/// When to come back: as long as a short queue takes.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Sign-ins that may wait when nobody says how many: at a tenth of a second for each, the last waits some seconds.
pub const QUEUE: usize = 64;

/// How much there is of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Threads that check and make hashes.
    pub threads: usize,
    /// Sign-ins that may wait for them.
    pub queue: usize,
}

impl Default for Settings {
    /// A thread for each core but one, which is left to everything else.
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            threads: cores.saturating_sub(1).max(1),
            queue: QUEUE,
        }
    }
}

/// No room. To be answered with 503 and [`RETRY_AFTER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked")]
pub struct Busy;

/// The threads.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    state: Mutex<State>,
    changed: Condvar,
    metrics: Arc<Metrics>,
}

struct State {
    open: bool,
    admitted: usize,
    waiting: VecDeque<Job>,
    running: usize,
    bytes: u64,
}

struct Job {
    bytes: u64,
    /// Does the work, unless whoever asked for it has gone away.
    work: Box<dyn FnOnce() + Send>,
    is_wanted: Box<dyn Fn() -> bool + Send>,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let settings = Settings {
            threads: settings.threads.max(1),
            ..settings
        };
        let shared = Arc::new(Shared {
            settings,
            state: Mutex::new(State {
                open: true,
                admitted: 0,
                waiting: VecDeque::new(),
                running: 0,
                bytes: 0,
            }),
            changed: Condvar::new(),
            metrics,
        });
        // Stops those that began when a later one cannot.
        let pool = Self { shared };
        for number in 0..settings.threads {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new()
                .name(format!("hashing-{number}"))
                .spawn(move || shared.serve())?;
        }
        Ok(pool)
    }

    /// Lets a sign-in in, before anything is known of its account. What it holds is given back when it is dropped.
    ///
    /// # Errors
    /// When as many are in as may be.
    pub fn admit(&self) -> Result<Admission, Busy> {
        let mut state = self.shared.lock();
        let most = self
            .shared
            .settings
            .threads
            .saturating_add(self.shared.settings.queue);
        if !state.open || state.admitted >= most {
            drop(state);
            self.shared.metrics.hashing_refused();
            return Err(Busy);
        }
        state.admitted += 1;
        Ok(Admission {
            shared: Arc::clone(&self.shared),
        })
    }

    /// Runs one job that is no part of a sign-in. `bytes`: the memory it takes (`Cost::bytes`).
    ///
    /// # Errors
    /// When there is no room.
    pub async fn run<T, W>(&self, bytes: u64, work: W) -> Result<T, Busy>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        self.admit()?.run(bytes, work).await
    }

    /// Lets nobody in any more. Jobs that wait are still done, then the threads end.
    pub fn stop(&self) {
        self.shared.lock().open = false;
        self.shared.changed.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A sign-in that was let in.
pub struct Admission {
    shared: Arc<Shared>,
}

impl Admission {
    /// Runs a job. It waits for its turn, and is never refused. `bytes`: the memory it takes. When the caller goes away, a job that
    /// has not begun is skipped.
    ///
    /// # Errors
    /// When the job broke, or the threads ended before it.
    pub async fn run<T, W>(&self, bytes: u64, work: W) -> Result<T, Busy>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let answer = Arc::new(Mutex::new(Some(answer)));
        let asked = Arc::clone(&answer);
        let job = Job {
            bytes,
            work: Box::new(move || {
                let made = work();
                let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(answer) = answer {
                    // Nobody waits any more: what was made is dropped.
                    let _ = answer.send(made);
                }
            }),
            is_wanted: Box::new(move || {
                let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
                asked.as_ref().is_some_and(|answer| !answer.is_closed())
            }),
        };
        self.shared.push(job)?;
        answered.await.map_err(|_| Busy)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.admitted = state.admitted.saturating_sub(1);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic is done under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), Busy> {
        let mut state = self.lock();
        if !state.open {
            drop(state);
            self.metrics.hashing_refused();
            return Err(Busy);
        }
        state.waiting.push_back(job);
        self.tell(&state);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn tell(&self, state: &State) {
        self.metrics.hashing(state.waiting.len(), state.running);
    }

    /// One thread.
    fn serve(&self) {
        while let Some(job) = self.next() {
            let bytes = job.bytes;
            // A job that breaks takes its waiter's answer with it, and nothing else.
            let _ = catch_unwind(AssertUnwindSafe(job.work));
            let mut state = self.lock();
            state.running -= 1;
            state.bytes -= bytes;
            self.tell(&state);
            drop(state);
            // Whoever waited for memory may go on.
            self.changed.notify_all();
        }
    }

    /// The next job, in the order they came; `None` when there is nothing left to do for ever.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            while let Some(job) = state.waiting.front() {
                if !(job.is_wanted)() {
                    let skipped = state.waiting.pop_front();
                    self.tell(&state);
                    // What it holds may want the lock when it goes.
                    drop(state);
                    drop(skipped);
                    state = self.lock();
                    continue;
                }
                // The first one is never passed by, or a large one would wait for ever.
                let fits = state.bytes.saturating_add(job.bytes) <= MEMORY_BYTES;
                if !fits && state.running > 0 {
                    break;
                }
                let job = state.waiting.pop_front()?;
                state.running += 1;
                state.bytes = state.bytes.saturating_add(job.bytes);
                self.tell(&state);
                return Some(job);
            }
            if !state.open && state.waiting.is_empty() {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    fn pool(threads: usize, queue: usize) -> Pool {
        let metrics = Arc::new(Metrics::new().unwrap());
        Pool::new(Settings { threads, queue }, metrics).unwrap()
    }

    /// A job that says when it has begun, and ends when it is told to.
    fn held() -> (
        impl FnOnce() -> u8 + Send + 'static,
        mpsc::Receiver<()>,
        mpsc::Sender<()>,
    ) {
        let (begun, has_begun) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let work = move || {
            begun.send(()).unwrap();
            ends.recv().unwrap();
            7
        };
        (work, has_begun, end)
    }

    #[tokio::test]
    async fn as_many_as_may_be_are_let_in_and_no_more() {
        let pool = pool(1, 2);
        let mut inside: Vec<Admission> = (0..3).map(|_| pool.admit().ok().unwrap()).collect();
        assert_eq!(pool.admit().err(), Some(Busy));
        assert_eq!(pool.run(0, || 1).await, Err(Busy));
        assert!(pool.shared.metrics.render().contains("refused_total 2"));
        inside.pop();
        assert_eq!(pool.run(0, || 1).await, Ok(1));
    }

    #[tokio::test]
    async fn a_job_whose_waiter_went_away_is_skipped() {
        let pool = pool(1, 8);
        let (work, begun, end) = held();
        let first = pool.admit().ok().unwrap();
        let first = tokio::spawn(async move { first.run(0, work).await });
        tokio::task::spawn_blocking(move || begun.recv().unwrap())
            .await
            .unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&ran);
        let mut gone = Box::pin(pool.run(0, move || counted.fetch_add(1, Ordering::SeqCst)));
        assert!(futures_util::poll!(&mut gone).is_pending());
        drop(gone);
        end.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(7));
        assert_eq!(pool.run(0, || 9).await, Ok(9), "and the next one is done");
        assert_eq!(ran.load(Ordering::SeqCst), 0);
        assert_eq!(pool.shared.lock().admitted, 0);
    }

    #[tokio::test]
    async fn jobs_that_take_too_much_memory_together_run_one_after_the_other() {
        let pool = Arc::new(pool(4, 8));
        let most = Arc::new(Mutex::new((0, 0)));
        let mut running = Vec::new();
        for _ in 0..8 {
            let (pool, most) = (Arc::clone(&pool), Arc::clone(&most));
            running.push(tokio::spawn(async move {
                let work = move || {
                    let mut state = most.lock().unwrap();
                    state.0 += 1;
                    state.1 = state.1.max(state.0);
                    drop(state);
                    thread::yield_now();
                    most.lock().unwrap().0 -= 1;
                };
                pool.run(MEMORY_BYTES / 2 + 1, work).await
            }));
        }
        for each in running {
            each.await.unwrap().unwrap();
        }
        assert_eq!(most.lock().unwrap().1, 1);
        assert_eq!(
            pool.run(MEMORY_BYTES * 2, || 3).await,
            Ok(3),
            "alone, it runs"
        );
    }

    #[tokio::test]
    async fn a_job_that_breaks_breaks_nothing_else() {
        let pool = pool(1, 1);
        let broken = pool.run(5, || -> u8 { panic!("a defect") }).await;
        assert_eq!(broken, Err(Busy));
        assert_eq!(pool.run(5, || 1).await, Ok(1));
        // The thread gives the room back after the answer.
        let taken = || {
            let state = pool.shared.lock();
            (state.running, state.bytes, state.admitted)
        };
        while taken() != (0, 0, 0) {
            thread::yield_now();
        }
    }

    #[tokio::test]
    async fn what_waits_when_it_stops_is_still_done() {
        let pool = pool(1, 8);
        let (work, begun, end) = held();
        let (one, two) = (pool.admit().ok().unwrap(), pool.admit().ok().unwrap());
        let late = pool.admit().ok().unwrap();
        let first = tokio::spawn(async move { one.run(0, work).await });
        tokio::task::spawn_blocking(move || begun.recv().unwrap())
            .await
            .unwrap();
        let mut second = Box::pin(two.run(0, || 2));
        assert!(futures_util::poll!(&mut second).is_pending());
        let weak = Arc::downgrade(&pool.shared);
        drop(pool);
        assert_eq!(late.run(0, || 3).await, Err(Busy));
        end.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(7));
        assert_eq!(second.await, Ok(2));
        drop((two, late));
        // The thread lets go of what it shares when it ends.
        while weak.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
