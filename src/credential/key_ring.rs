//! Key sets that are published elsewhere and change now and then: remembered, and asked for again when that is due.
//!
//! Whoever checks a token is never kept waiting by keys that merely grew old: they are fetched anew behind the answer. Only a key
//! nobody has heard of is worth a wait, and as anybody can make one up, it is asked for no more often than once in an interval.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use super::jws::Jws;
use super::key_set::{Checked, KeySet};
use crate::time::{Clock, UnixMs};

/// How old keys may be before they are fetched again behind the answer. A key that was taken out counts this much longer; asking
/// more often would buy little, because tokens live for minutes themselves.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// How old keys may be and still count, when they cannot be fetched. A day outlasts a night's outage and a weekend's half; beyond it
/// nobody can know any more whether a key was taken out for a reason.
const STALE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How soon after a fetch that failed the next may begin.
const RETRY: Duration = Duration::from_secs(1);

/// Why keys could not be fetched. The operator reads it in the log; clients never see it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// No answer in time.
    #[error("no answer within {waited:?}")]
    Timeout {
        /// How long we waited.
        waited: Duration,
    },
    /// No connection, or it broke.
    #[error("it cannot be reached: {cause}")]
    Unreachable {
        /// What went wrong, free of secrets.
        cause: String,
    },
    /// An answer with another status than 200.
    #[error("it answered {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// An answer that is no key set, or too long to be one.
    #[error("it answered what we cannot read: {cause}")]
    Garbage {
        /// What was wrong with it.
        cause: String,
    },
    /// The database has no such table.
    #[error("the database has no table for keys: {cause}")]
    NoTable {
        /// What was looked for.
        cause: String,
    },
    /// Fetching ended without a word.
    #[error("fetching was given up")]
    GivenUp,
}

impl KeysError {
    /// The operator's next step.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Timeout { .. } | Self::Unreachable { .. } => {
                "check that whoever publishes the keys runs, and that the gateway may reach it"
            }
            Self::Status { .. } | Self::Garbage { .. } => {
                "check that the address is that of a JSON Web Key Set: `better_auth.jwt.jwks_path` as in the app, or `jwks_url`"
            }
            Self::NoTable { .. } => {
                "run the migration of Better Auth's JWT plugin, name the table under `[sessions.schema.tables]`, or use `keys = \"app\"`"
            }
            Self::GivenUp => "this is a defect of Vestibule: please report it",
        }
    }

    /// The label in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Unreachable { .. } => "unreachable",
            Self::Status { .. } => "status",
            Self::Garbage { .. } => "garbage",
            Self::NoTable { .. } => "no_table",
            Self::GivenUp => "given_up",
        }
    }
}

/// Hears what a fetch brought.
pub type Then = Box<dyn FnOnce(Result<KeySet, KeysError>) + Send>;

/// Where keys are published. Implemented by `store/`.
pub trait KeySource: Send + Sync {
    /// Where that is, for people.
    fn name(&self) -> &str;

    /// Begins to fetch them. That goes on to its end, within a deadline of the source's own, even when the future is dropped; `then`
    /// is called before the future is ready.
    fn fetch(&self, then: Then) -> BoxFuture<'static, ()>;
}

/// Hears of every fetch: where the keys are published, and how many there were.
pub type OnFetch = Arc<dyn Fn(&str, Result<usize, &KeysError>) + Send + Sync>;

/// What can be said of a token's signature at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is right.
    Good,
    /// It is wrong, or no key that is published has its id.
    Bad,
    /// Nobody can say before the keys were fetched: see [`KeyRing::ask`].
    Unknown,
}

/// The keys of one issuer.
pub struct KeyRing {
    inner: Arc<Inner>,
}

struct Inner {
    source: Arc<dyn KeySource>,
    clock: Arc<dyn Clock>,
    refetch: Duration,
    held: ArcSwapOption<Held>,
    /// When the last fetch began.
    asked_at: AtomicI64,
    failed: AtomicBool,
    flight: Mutex<Option<Flight>>,
    on_fetch: OnFetch,
}

struct Held {
    set: KeySet,
    asked_at: UnixMs,
}

#[derive(Clone)]
struct Flight {
    landing: Shared<BoxFuture<'static, ()>>,
    over: Arc<AtomicBool>,
}

impl KeyRing {
    /// The keys that `source` publishes. A key that is not known is asked for at most once in `refetch`.
    pub fn new(
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
        refetch: Duration,
        on_fetch: OnFetch,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                source,
                clock,
                refetch,
                held: ArcSwapOption::empty(),
                asked_at: AtomicI64::new(i64::MIN),
                failed: AtomicBool::new(false),
                flight: Mutex::new(None),
                on_fetch,
            }),
        }
    }

    /// Checks a token's signature by the keys that are known.
    pub fn check(&self, token: &Jws<'_>, now: UnixMs) -> Said {
        let held = self.inner.held.load();
        let held = held
            .as_deref()
            .filter(|held| now.since(held.asked_at) <= STALE_MAX);
        let Some(held) = held else {
            // What is wrong by any key need not wait for one.
            return match KeySet::default().check(token, now) {
                Checked::Bad => Said::Bad,
                Checked::Good | Checked::UnknownKey => Said::Unknown,
            };
        };
        let age = now.since(held.asked_at);
        match held.set.check(token, now) {
            Checked::Good => {
                if age >= FRESH {
                    self.begin(now);
                }
                Said::Good
            }
            Checked::Bad => Said::Bad,
            Checked::UnknownKey if age < self.inner.refetch => Said::Bad,
            Checked::UnknownKey => Said::Unknown,
        }
    }

    /// Fetches the keys, unless that was done a moment ago, and waits for them.
    pub async fn ask(&self) {
        if let Some(landing) = self.begin(self.inner.clock.now()) {
            landing.await;
        }
    }

    /// Has the keys fetched behind the answer, unless that was done a moment ago.
    pub fn refresh(&self) {
        self.begin(self.inner.clock.now());
    }

    fn begin(&self, now: UnixMs) -> Option<Shared<BoxFuture<'static, ()>>> {
        let inner = &self.inner;
        let mut flight = inner.flight.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = flight
            .as_ref()
            .filter(|flight| !flight.over.load(Ordering::SeqCst));
        if let Some(flight) = under_way {
            return Some(flight.landing.clone());
        }
        let asked_at = UnixMs(inner.asked_at.load(Ordering::SeqCst));
        let pause = match inner.failed.load(Ordering::SeqCst) {
            true => RETRY.min(inner.refetch),
            false => inner.refetch,
        };
        // A moment in the future: the clock was set back since.
        if asked_at <= now && now.since(asked_at) < pause {
            return None;
        }
        inner.asked_at.store(now.0, Ordering::SeqCst);
        let over = Arc::new(AtomicBool::new(false));
        let arrival = Arrival {
            inner: Arc::clone(inner),
            over: Arc::clone(&over),
            asked_at: now,
            told: false,
        };
        let landing = inner
            .source
            .fetch(Box::new(move |fetched| arrival.tell(fetched)))
            .shared();
        *flight = Some(Flight {
            landing: landing.clone(),
            over,
        });
        Some(landing)
    }
}

/// What becomes of a fetch, however it ends. Takes no lock: it may be told before the fetch was noted down.
struct Arrival {
    inner: Arc<Inner>,
    over: Arc<AtomicBool>,
    asked_at: UnixMs,
    told: bool,
}

impl Arrival {
    fn tell(mut self, fetched: Result<KeySet, KeysError>) {
        self.told = true;
        let inner = &self.inner;
        let told = fetched.as_ref().map(KeySet::len);
        (inner.on_fetch)(inner.source.name(), told);
        inner.failed.store(fetched.is_err(), Ordering::SeqCst);
        if let Ok(set) = fetched {
            inner.held.store(Some(Arc::new(Held {
                set,
                asked_at: self.asked_at,
            })));
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if !self.told {
            self.inner.failed.store(true, Ordering::SeqCst);
            (self.inner.on_fetch)(self.inner.source.name(), Err(&KeysError::GivenUp));
        }
        self.over.store(true, Ordering::SeqCst);
    }
}

/// The keys of every issuer there is.
#[derive(Default)]
pub struct KeyRings {
    /// The app's own.
    pub app: Option<Arc<KeyRing>>,
    /// Those of other issuers, by their names in the configuration.
    pub issuers: BTreeMap<String, Arc<KeyRing>>,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::time::ManualClock;

    const REFETCH: Duration = Duration::from_secs(10);

    /// Publishes what it is told to, at once or when it is told to.
    #[derive(Default)]
    struct Publisher {
        published: Mutex<Option<&'static str>>,
        asked: AtomicUsize,
        silent: AtomicBool,
        waiting: Mutex<Vec<Then>>,
    }

    fn pair(id: &str) -> Ed25519KeyPair {
        let seed = [id.as_bytes()[0]; 32];
        Ed25519KeyPair::from_seed_unchecked(&seed).unwrap()
    }

    fn token(id: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"EdDSA","kid":"{id}"}}"#));
        let signed = format!("{header}.e30");
        let signature = URL_SAFE_NO_PAD.encode(pair(id).sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }

    impl Publisher {
        fn publish(&self, id: Option<&'static str>) {
            *self.published.lock().unwrap() = id;
        }

        fn answer(&self) -> Result<KeySet, KeysError> {
            let Some(id) = *self.published.lock().unwrap() else {
                return Err(KeysError::Status { status: 502 });
            };
            let x = URL_SAFE_NO_PAD.encode(pair(id).public_key().as_ref());
            let set =
                format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}]}}"#);
            Ok(KeySet::parse(set.as_bytes(), None).unwrap())
        }

        fn speak(&self) {
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
            for then in waiting {
                then(self.answer());
            }
        }
    }

    impl KeySource for Publisher {
        fn name(&self) -> &str {
            "publisher"
        }

        fn fetch(&self, then: Then) -> BoxFuture<'static, ()> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            match self.silent.load(Ordering::SeqCst) {
                true => self.waiting.lock().unwrap().push(then),
                false => then(self.answer()),
            }
            Box::pin(std::future::ready(()))
        }
    }

    struct World {
        publisher: Arc<Publisher>,
        clock: Arc<ManualClock>,
        ring: KeyRing,
    }

    impl World {
        fn new(published: Option<&'static str>) -> Self {
            let publisher = Arc::new(Publisher::default());
            publisher.publish(published);
            let clock = Arc::new(ManualClock::at(UnixMs(1_795_000_000_000)));
            let ring = KeyRing::new(
                Arc::clone(&publisher) as Arc<dyn KeySource>,
                Arc::clone(&clock) as Arc<dyn Clock>,
                REFETCH,
                Arc::new(|_, _| {}),
            );
            Self {
                publisher,
                clock,
                ring,
            }
        }

        fn check(&self, id: &str) -> Said {
            let token = token(id);
            self.ring
                .check(&Jws::parse(&token).unwrap(), self.clock.now())
        }

        /// As a request does: at once, and after asking.
        fn find_out(&self, id: &str) -> Said {
            match self.check(id) {
                Said::Unknown => {
                    self.ring.ask().now_or_never().expect("no wait");
                    self.check(id)
                }
                said => said,
            }
        }

        fn asked(&self) -> usize {
            self.publisher.asked.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn keys_are_fetched_once_and_remembered() {
        let world = World::new(Some("a"));
        assert_eq!(world.find_out("a"), Said::Good);
        for _ in 0..100 {
            assert_eq!(world.check("a"), Said::Good);
        }
        assert_eq!(world.asked(), 1);
    }

    #[test]
    fn a_storm_of_unknown_keys_asks_once_in_an_interval() {
        let world = World::new(Some("a"));
        for _ in 0..5 {
            for _ in 0..100 {
                assert_eq!(world.find_out("x"), Said::Bad);
            }
            world.clock.advance(REFETCH);
        }
        assert_eq!(world.asked(), 5);
        assert_eq!(world.find_out("a"), Said::Good);
    }

    #[test]
    fn a_new_key_is_learned_and_the_old_one_forgotten() {
        let world = World::new(Some("a"));
        assert_eq!(world.find_out("a"), Said::Good);
        world.publisher.publish(Some("b"));
        world.clock.advance(REFETCH);
        assert_eq!(world.find_out("b"), Said::Good);
        assert_eq!(world.find_out("a"), Said::Bad);
    }

    #[test]
    fn keys_that_grew_old_are_fetched_behind_the_answer() {
        let world = World::new(Some("a"));
        assert_eq!(world.find_out("a"), Said::Good);
        world.publisher.silent.store(true, Ordering::SeqCst);
        world.publisher.publish(Some("b"));
        world.clock.advance(FRESH);
        for _ in 0..3 {
            assert_eq!(world.check("a"), Said::Good, "nobody waits");
        }
        assert_eq!(world.asked(), 2, "one fetch is under way");
        world.publisher.speak();
        assert_eq!(world.check("a"), Said::Bad, "it was taken out");
        assert_eq!(world.check("b"), Said::Good);
    }

    #[test]
    fn without_an_answer_old_keys_count_for_a_day_and_unknown_ones_stay_unknown() {
        let world = World::new(Some("a"));
        assert_eq!(world.find_out("a"), Said::Good);
        world.publisher.publish(None);
        world.clock.advance(STALE_MAX);
        assert_eq!(world.find_out("a"), Said::Good);
        assert_eq!(world.find_out("b"), Said::Unknown, "it may be a new one");
        world.clock.advance(Duration::from_millis(1));
        assert_eq!(world.find_out("a"), Said::Unknown);
        // And recovery is unaided.
        world.publisher.publish(Some("a"));
        world.clock.advance(RETRY);
        assert_eq!(world.find_out("a"), Said::Good);
    }

    #[test]
    fn an_outage_is_asked_about_once_a_second() {
        let world = World::new(None);
        for _ in 0..100 {
            assert_eq!(world.find_out("a"), Said::Unknown);
        }
        assert_eq!(world.asked(), 1);
        world.clock.advance(RETRY);
        world.publisher.publish(Some("a"));
        assert_eq!(world.find_out("a"), Said::Good);
    }

    #[test]
    fn what_no_key_makes_right_asks_nobody() {
        let world = World::new(Some("a"));
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS256","kid":"x"}"#,
            r#"{"alg":"EdDSA"}"#,
        ] {
            let token = format!("{}.e30.", URL_SAFE_NO_PAD.encode(header));
            let said = world
                .ring
                .check(&Jws::parse(&token).unwrap(), world.clock.now());
            assert_eq!(said, Said::Bad, "{header}");
        }
        assert_eq!(world.asked(), 0);
    }

    #[test]
    fn a_fetch_that_is_given_up_is_not_waited_for_forever() {
        let world = World::new(Some("a"));
        world.publisher.silent.store(true, Ordering::SeqCst);
        assert_eq!(world.find_out("a"), Said::Unknown);
        world.publisher.waiting.lock().unwrap().clear();
        world.publisher.silent.store(false, Ordering::SeqCst);
        world.clock.advance(RETRY);
        assert_eq!(world.find_out("a"), Said::Good);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_fetching() {
        let world = World::new(None);
        assert_eq!(world.find_out("a"), Said::Unknown);
        world.clock.set(UnixMs(1_700_000_000_000));
        world.publisher.publish(Some("a"));
        assert_eq!(world.find_out("a"), Said::Good);
    }
}
