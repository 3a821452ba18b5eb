//! Requests that want the same thing of the store at once ask for it together: all that come while one question is on its way are
//! the next question.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{Shared, WeakShared};

use crate::session::BoxFuture;

type Question<T> = Shared<BoxFuture<'static, T>>;

/// Questions about one thing, one at a time.
pub(super) struct Claims<T: Clone> {
    state: Arc<Mutex<State<T>>>,
}

struct State<T: Clone> {
    /// The question that can still be joined.
    open: Option<Open<T>>,
    /// The question before it.
    last: Option<WeakShared<BoxFuture<'static, T>>>,
    next: u64,
}

struct Open<T: Clone> {
    id: u64,
    askers: i64,
    question: WeakShared<BoxFuture<'static, T>>,
}

/// What a question waits for before it is asked.
pub(super) struct Turn<T: Clone> {
    state: Arc<Mutex<State<T>>>,
    id: u64,
    previous: Option<Question<T>>,
}

impl<T: Clone> Default for Claims<T> {
    fn default() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                open: None,
                last: None,
                next: 0,
            })),
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Claims<T> {
    /// Waits for the answer to the next question, and says which of its askers this one is, counted from zero. `ask` makes the
    /// question when there is none to join; it has to wait for its turn before it asks.
    pub(super) async fn wait(
        &self,
        ask: impl FnOnce(Turn<T>) -> BoxFuture<'static, T>,
    ) -> (T, i64) {
        let (question, place) = self.join(ask);
        (question.await, place)
    }

    fn join(&self, ask: impl FnOnce(Turn<T>) -> BoxFuture<'static, T>) -> (Question<T>, i64) {
        let mut state = lock(&self.state);
        if let Some(open) = &mut state.open
            && let Some(question) = open.question.upgrade()
        {
            let place = open.askers;
            open.askers = place.saturating_add(1);
            return (question, place);
        }
        let id = state.next;
        state.next = id.wrapping_add(1);
        let turn = Turn {
            state: Arc::clone(&self.state),
            id,
            previous: state.last.take().and_then(|last| last.upgrade()),
        };
        let question = ask(turn).shared();
        if let Some(weak) = question.downgrade() {
            state.last = Some(weak.clone());
            state.open = Some(Open {
                id,
                askers: 1,
                question: weak,
            });
        }
        (question, 0)
    }
}

impl<T: Clone> Turn<T> {
    /// Waits until the question before has its answer. Nobody joins from then on: says how many asked.
    pub(super) async fn come(self) -> i64 {
        if let Some(previous) = self.previous {
            previous.await;
        }
        let mut state = lock(&self.state);
        match state.open.take_if(|open| open.id == self.id) {
            Some(open) => open.askers,
            // Cannot be: nobody else closes it.
            None => 0,
        }
    }
}

/// Nobody panics under this lock, and if somebody did the state would still be whole.
fn lock<M>(mutex: &Mutex<M>) -> MutexGuard<'_, M> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    /// Asks; each question says how many asked it.
    async fn asked(claims: &Arc<Claims<i64>>, total: &Arc<AtomicI64>) -> (i64, i64) {
        let total = Arc::clone(total);
        claims
            .wait(|turn| {
                Box::pin(async move {
                    let askers = turn.come().await;
                    tokio::task::yield_now().await;
                    total.fetch_add(askers, Ordering::SeqCst);
                    askers
                })
            })
            .await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everybody_has_a_place_and_nobody_is_counted_twice() {
        let (claims, total) = (Arc::new(Claims::default()), Arc::new(AtomicI64::new(0)));
        let mut tasks = Vec::new();
        for _ in 0..500 {
            let (claims, total) = (Arc::clone(&claims), Arc::clone(&total));
            tasks.push(tokio::spawn(async move { asked(&claims, &total).await }));
        }
        let mut questions = std::collections::BTreeMap::new();
        for task in tasks {
            let (askers, place) = task.await.unwrap();
            assert!((0..askers).contains(&place), "{place} of {askers}");
            *questions.entry(askers).or_insert(0) += 1;
        }
        assert_eq!(total.load(Ordering::SeqCst), 500);
    }

    #[tokio::test]
    async fn a_question_whose_askers_went_away_holds_nobody_up() {
        let claims = Claims::<i64>::default();
        let stuck = || {
            claims.wait(|turn| {
                Box::pin(async move {
                    turn.come().await;
                    std::future::pending().await
                })
            })
        };
        assert!(stuck().now_or_never().is_none());
        let answer = claims.wait(|turn| Box::pin(turn.come())).now_or_never();
        assert_eq!(answer, Some((1, 0)));
    }
}
