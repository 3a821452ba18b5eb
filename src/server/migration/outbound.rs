//! Holds conversations with the old systems: whatever a [`Dialogue`] needs is asked here, within one deadline for the whole of it, and
//! no more often than the old system likes.
//!
//! A conversation lives on the runtime `home` and goes on when whoever wanted it is gone or has waited long enough: what it began there,
//! a session above all, it also ends there.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::CONTENT_LENGTH;
use reqwest::redirect::Policy;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::fill;
use crate::credential::key_set::KeySet;
use crate::migration::dialogue::{
    ANSWER_BYTES_MAX, Answer, Ask, Dialogue, Given, Moment, Need, OldStore, STEPS_MAX, Step,
    Unreachable,
};
use crate::migration::guard::{Breaker, Overall, PerAccount};
use crate::migration::provider::{
    Attempt, Check, Checked, FactorChecked, Limit, LookedUp, Mirror, Mirrored, OVERALL, Reading,
};
use crate::secret::Secret;
use crate::store::keys_http;
use crate::telemetry::metrics::Metrics;
use crate::time::{Clock, UnixMs};

/// How long whoever signs in waits for an old system at most, whatever it takes there.
pub const DEADLINE: Duration = Duration::from_secs(3);

/// How long a conversation may go on behind the answer, to end what it began.
const LIFE_MAX: Duration = Duration::from_secs(10);

/// Longest wait for a connection: with an address that does not answer, there is time left for another.
const CONNECT_MAX: Duration = Duration::from_millis(1_500);

/// How long an unused connection is kept: below the five seconds after which Node closes its end.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Most conversations with one old system at once. An old system that answers in 100 ms is asked 640 times a second with these, more
/// than any vendor allows; one that hangs costs no more than this.
const AT_ONCE_MAX: usize = 64;

/// Most addresses keys are remembered of: each provider has one or two.
const KEY_PLACES_MAX: usize = 64;

/// How old keys may be before they are fetched anew behind the answer, how soon after that those that lack a key are, and how old they
/// may be when they cannot be fetched.
const KEYS_FRESH: Duration = Duration::from_secs(5 * 60);
const KEYS_AGAIN: Duration = Duration::from_secs(10);
const KEYS_RETRY: Duration = Duration::from_secs(1);
const KEYS_STALE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Something a conversation comes to.
pub trait Outcome: Send + 'static {
    /// The word in metrics for what was asked.
    const ASKED: &'static str;

    /// Nothing could be found out.
    fn unavailable(why: Unreachable) -> Self;

    /// We do not ask for a while.
    fn limited(wait: Duration) -> Self;

    /// The word in metrics for what was said.
    fn said(&self) -> &'static str;

    /// Why nothing could be found out, if so.
    fn outage(&self) -> Option<Unreachable>;
}

impl Outcome for Checked {
    const ASKED: &'static str = "password";

    fn unavailable(why: Unreachable) -> Self {
        Self::Unavailable(why)
    }

    fn limited(wait: Duration) -> Self {
        Self::Limited(Some(wait))
    }

    fn said(&self) -> &'static str {
        match self {
            Self::Right(_) => "right",
            Self::SecondFactor { .. } => "second_factor",
            Self::RightBut(..) => "right_but",
            Self::Wrong => "wrong",
            Self::NoPassword => "no_password",
            Self::Blocked(_) => "blocked",
            Self::Limited(_) => "limited",
            Self::Unavailable(why) => why.as_str(),
        }
    }

    fn outage(&self) -> Option<Unreachable> {
        match self {
            Self::Unavailable(why) => Some(*why),
            _ => None,
        }
    }
}

impl Outcome for FactorChecked {
    const ASKED: &'static str = "factor";

    fn unavailable(why: Unreachable) -> Self {
        Self::Unavailable(why)
    }

    fn limited(_wait: Duration) -> Self {
        Self::Unavailable(Unreachable::Refused)
    }

    fn said(&self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::Unavailable(why) => why.as_str(),
        }
    }

    fn outage(&self) -> Option<Unreachable> {
        match self {
            Self::Unavailable(why) => Some(*why),
            Self::Right | Self::Wrong => None,
        }
    }
}

impl Outcome for Option<LookedUp> {
    const ASKED: &'static str = "look_up";

    fn unavailable(why: Unreachable) -> Self {
        Some(Err(why))
    }

    fn limited(_wait: Duration) -> Self {
        Some(Err(Unreachable::Refused))
    }

    fn said(&self) -> &'static str {
        match self {
            Some(Ok(Some(_))) => "found",
            Some(Ok(None)) => "none",
            Some(Err(why)) => why.as_str(),
            None => Unreachable::Garbage.as_str(),
        }
    }

    fn outage(&self) -> Option<Unreachable> {
        match self {
            Some(Ok(_)) => None,
            Some(Err(why)) => Some(*why),
            None => Some(Unreachable::Garbage),
        }
    }
}

impl Outcome for Option<Mirrored> {
    const ASKED: &'static str = "mirror";

    fn unavailable(why: Unreachable) -> Self {
        Some(Err(why))
    }

    fn limited(_wait: Duration) -> Self {
        Some(Err(Unreachable::Refused))
    }

    fn said(&self) -> &'static str {
        match self {
            Some(Ok(_)) => "done",
            Some(Err(why)) => why.as_str(),
            None => Unreachable::Garbage.as_str(),
        }
    }

    fn outage(&self) -> Option<Unreachable> {
        match self {
            Some(Ok(_)) => None,
            Some(Err(why)) => Some(*why),
            None => Some(Unreachable::Garbage),
        }
    }
}

impl Outcome for Reading {
    const ASKED: &'static str = "session";

    fn unavailable(why: Unreachable) -> Self {
        Self::Unavailable(why)
    }

    fn limited(_wait: Duration) -> Self {
        Self::Unavailable(Unreachable::Refused)
    }

    fn said(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Refused(_) => "refused",
            Self::Alive(_) => "alive",
            Self::Unavailable(why) => why.as_str(),
        }
    }

    fn outage(&self) -> Option<Unreachable> {
        match self {
            Self::Unavailable(why) => Some(*why),
            Self::Nothing | Self::Refused(_) | Self::Alive(_) => None,
        }
    }
}

/// Whoever asks the old systems.
pub struct Outbound {
    inner: Arc<Inner>,
}

struct Inner {
    home: Handle,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    old: Option<Arc<dyn OldStore>>,
    systems: BTreeMap<&'static str, System>,
    accounts: PerAccount,
    keys: Mutex<HashMap<Url, Arc<KeyPlace>>>,
}

/// One old system.
struct System {
    limit: Limit,
    overall: Mutex<Overall>,
    breaker: Mutex<Breaker>,
    at_once: Arc<Semaphore>,
}

impl Outbound {
    /// Somebody who asks these old systems, each no more often than it may be. `old`: the old systems' own tables.
    ///
    /// # Errors
    /// When TLS does not work on this machine.
    pub fn new(
        systems: impl IntoIterator<Item = (&'static str, Option<Limit>)>,
        old: Option<Arc<dyn OldStore>>,
        home: Handle,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        // Somebody else may have chosen one already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            // Passwords go to the address that was configured and to no other; what stands in the environment is for other programs.
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_MAX)
            .timeout(LIFE_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .user_agent(concat!("vestibule/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("no connection to an old system can be prepared: {error}"))?;
        let systems: BTreeMap<_, _> = systems
            .into_iter()
            .map(|(name, limit)| {
                metrics.old_system_down(name, false);
                let system = System {
                    limit: limit.unwrap_or(OVERALL),
                    overall: Mutex::default(),
                    breaker: Mutex::default(),
                    at_once: Arc::new(Semaphore::new(AT_ONCE_MAX)),
                };
                (name, system)
            })
            .collect();
        Ok(Self {
            inner: Arc::new(Inner {
                home,
                client,
                clock,
                metrics,
                old,
                systems,
                accounts: PerAccount::default(),
                keys: Mutex::default(),
            }),
        })
    }

    /// Holds a conversation with an old system. Gives what it came to within [`DEADLINE`]; afterwards, and when nobody waits any more,
    /// it still goes on to its end.
    pub async fn run<T: Outcome>(&self, provider: &str, dialogue: Box<dyn Dialogue<T>>) -> T {
        let Some((name, system)) = self.inner.systems.get_key_value(provider) else {
            return T::unavailable(Unreachable::Unconfigured);
        };
        // Nobody waits for a turn: whoever is turned away comes back, and an old system that hangs does not fill our memory.
        let Ok(turn) = Arc::clone(&system.at_once).try_acquire_owned() else {
            self.inner.counted(name, T::ASKED, "busy");
            return T::unavailable(Unreachable::Refused);
        };
        let (tell, told) = oneshot::channel();
        let talk = Talk {
            inner: Arc::clone(&self.inner),
            name,
            admitted: Arc::default(),
            keys_seen: Vec::new(),
        };
        self.inner.home.spawn(talk.hold(dialogue, turn, tell));
        match told.await {
            Ok(outcome) => outcome,
            // It was given up with the runtime.
            Err(_) => T::unavailable(Unreachable::Timeout),
        }
    }

    /// Asks whether a password fits, no more often for one account than the old system likes.
    pub async fn check(&self, provider: &str, check: &dyn Check, attempt: &Attempt) -> Checked {
        if attempt.password.expose().is_empty() {
            // To some systems an empty password is nobody in particular, who is always let in.
            return Checked::Wrong;
        }
        // Whichever the old system counts by: we do not know which it will be.
        let names = [
            ("id", &attempt.source_id),
            ("email", &attempt.email),
            ("username", &attempt.username),
            ("phone", &attempt.phone),
        ];
        let mut named = false;
        for (what, name) in names {
            let Some(name) = name else { continue };
            named = true;
            let account = format!("{what} {name}");
            if let Err(wait) = self.take(provider, &account, check.limit()) {
                self.inner.counted(provider, Checked::ASKED, "held_back");
                return Checked::limited(wait);
            }
        }
        if !named {
            return Checked::Wrong;
        }
        self.run(provider, check.check(attempt)).await
    }

    /// Looks a user up by address. `Ok(None)` also where the old system has no such question.
    ///
    /// # Errors
    /// When it could not be found out.
    pub async fn look_up(&self, provider: &str, check: &dyn Check, email: &str) -> LookedUp {
        match check.look_up(email) {
            Some(dialogue) => {
                let found = self.run(provider, dialogue).await;
                found.unwrap_or(Err(Unreachable::Garbage))
            }
            None => Ok(None),
        }
    }

    /// Checks a code of the second factor, no more often for one account than passwords. `None`: it cannot be checked there.
    pub async fn check_factor(
        &self,
        provider: &str,
        check: &dyn Check,
        source_id: &str,
        pending: Option<&Secret>,
        code: &Secret,
    ) -> Option<FactorChecked> {
        let dialogue = check.check_factor(source_id, pending, code)?;
        let account = format!("factor of {source_id}");
        if let Err(wait) = self.take(provider, &account, check.limit()) {
            self.inner
                .counted(provider, FactorChecked::ASKED, "held_back");
            return Some(FactorChecked::limited(wait));
        }
        Some(self.run(provider, dialogue).await)
    }

    /// Mirrors a change. `None`: the old system cannot take it.
    pub async fn mirror(
        &self,
        provider: &str,
        check: &dyn Check,
        what: &Mirror,
    ) -> Option<Mirrored> {
        let done = self.run(provider, check.mirror(what)?).await;
        Some(done.unwrap_or(Err(Unreachable::Garbage)))
    }

    /// Whether the last word of an old system was none. Then whoever failed to sign in is told what those are told who need it, so
    /// that nobody learns who does. Ask it all the same: that is how it is found out that it is back.
    pub fn is_down(&self, provider: &str) -> bool {
        let system = self.inner.systems.get(provider);
        system.is_some_and(|system| locked(&system.breaker).is_down(self.inner.clock.now()))
    }

    /// The same of any of them.
    pub fn any_is_down(&self) -> bool {
        let now = self.inner.clock.now();
        let mut systems = self.inner.systems.values();
        systems.any(|system| locked(&system.breaker).is_down(now))
    }

    fn take(&self, provider: &str, account: &str, limit: Limit) -> Result<(), Duration> {
        let now = self.inner.clock.now();
        self.inner.accounts.take(provider, account, limit, now)
    }
}

impl Inner {
    fn counted(&self, provider: &str, asked: &'static str, outcome: &'static str) {
        if let Some((name, _)) = self.systems.get_key_value(provider) {
            self.metrics.old_system_asked(name, asked, outcome);
        }
    }

    /// What a conversation came to tells whether the old system answers.
    fn heard(&self, name: &'static str, outage: Option<Unreachable>) {
        let Some(system) = self.systems.get(name) else {
            return;
        };
        let now = self.clock.now();
        let mut breaker = locked(&system.breaker);
        let was_open = breaker.is_open();
        match outage {
            None => breaker.answered(),
            Some(Unreachable::Unconfigured) => breaker.released(),
            Some(Unreachable::Garbage | Unreachable::Challenge) => breaker.garbled(now),
            Some(Unreachable::Timeout | Unreachable::Connect | Unreachable::Refused) => {
                breaker.failed(now);
            }
        }
        let open = breaker.is_open();
        drop(breaker);
        if open == was_open {
            return;
        }
        self.metrics.old_system_down(name, open);
        match open {
            true => tracing::warn!(
                provider = name,
                "the old system does not answer: it is left alone, and asked now and then whether it is back"
            ),
            false => tracing::info!(provider = name, "the old system answers again"),
        }
    }

    /// Keys published at an address. `again`: the ones given before in this conversation were not enough.
    async fn keys(self: &Arc<Self>, url: Url, again: bool) -> Result<Arc<KeySet>, Unreachable> {
        if !may_be_asked(&url) {
            return Err(Unreachable::Unconfigured);
        }
        let place = {
            let mut places = locked(&self.keys);
            match places.get(&url) {
                Some(place) => Arc::clone(place),
                None if places.len() >= KEY_PLACES_MAX => return Err(Unreachable::Refused),
                None => Arc::clone(places.entry(url.clone()).or_default()),
            }
        };
        let now = self.clock.now();
        if let Some(held) = place.held(now) {
            let age = now.since(held.at);
            if !again || age < KEYS_AGAIN {
                if age >= KEYS_FRESH {
                    let (inner, place) = (Arc::clone(self), Arc::clone(&place));
                    self.home.spawn(async move {
                        inner.fetch(&place, url, KEYS_FRESH).await;
                    });
                }
                return Ok(held.set);
            }
        }
        let older_than = match again {
            true => KEYS_AGAIN,
            false => KEYS_FRESH,
        };
        self.fetch(&place, url, older_than).await;
        place
            .held(self.clock.now())
            .map(|held| held.set)
            .ok_or(Unreachable::Connect)
    }

    /// Fetches keys, one at a time, unless somebody did that meanwhile.
    async fn fetch(&self, place: &KeyPlace, url: Url, older_than: Duration) {
        let mut tried = place.tried.lock().await;
        let now = self.clock.now();
        let fresh = place
            .held(now)
            .is_some_and(|held| now.since(held.at) < older_than);
        let just_tried = tried.is_some_and(|at| at <= now && now.since(at) < KEYS_RETRY);
        if fresh || just_tried {
            return;
        }
        *tried = Some(now);
        let settings = keys_http::Settings {
            urls: vec![url],
            host: None,
            algorithm: None,
        };
        let Ok(source) = keys_http::open(settings, self.home.clone()) else {
            return;
        };
        let (tell, told) = oneshot::channel();
        let fetching = source.fetch(Box::new(move |fetched| {
            // Whoever waited is gone.
            let _ = tell.send(fetched);
        }));
        fetching.await;
        match told.await {
            Ok(Ok(set)) => {
                self.metrics.keys_fetched("fetched");
                *locked(&place.held) = Some(HeldKeys {
                    set: Arc::new(set),
                    at: now,
                });
            }
            Ok(Err(error)) => {
                self.metrics.keys_fetched(error.as_str());
                tracing::warn!(place = source.name(), error = %error, "the keys of an old system cannot be fetched");
            }
            Err(_) => self.metrics.keys_fetched("given_up"),
        }
    }

    /// Asks, and reads the answer.
    async fn ask(&self, ask: Ask) -> Result<Answer, Unreachable> {
        let Ask {
            method,
            url,
            headers,
            body,
        } = ask;
        let mut request = self.client.request(method, url).headers(headers);
        if !body.expose().is_empty() {
            let body = Zeroizing::new(body.expose().as_bytes().to_vec());
            request = request.body(bytes::Bytes::from_owner(body));
        }
        let mut answer = request.send().await.map_err(|error| diagnose(&error))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let declared = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
            .unwrap_or(8 * 1024);
        if declared > ANSWER_BYTES_MAX {
            return Err(Unreachable::Garbage);
        }
        // Made in one piece where that is possible: what is left behind when it grows is not wiped.
        let mut body = Zeroizing::new(Vec::with_capacity(declared));
        while let Some(piece) = answer.chunk().await.map_err(|error| diagnose(&error))? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(Unreachable::Garbage);
            }
            body.extend_from_slice(&piece);
        }
        let text = String::from_utf8(std::mem::take(&mut *body)).map_err(|error| {
            drop(Zeroizing::new(error.into_bytes()));
            Unreachable::Garbage
        })?;
        Ok(Answer {
            status,
            headers,
            body: Secret::new(text),
        })
    }
}

/// One conversation.
struct Talk {
    inner: Arc<Inner>,
    name: &'static str,
    /// Whether it asks with the breaker's leave, and so has to tell it what became of that.
    admitted: Arc<AtomicBool>,
    /// Addresses whose keys it was given.
    keys_seen: Vec<Url>,
}

impl Talk {
    async fn hold<T: Outcome>(
        mut self,
        mut dialogue: Box<dyn Dialogue<T>>,
        turn: OwnedSemaphorePermit,
        tell: oneshot::Sender<T>,
    ) {
        let began = Instant::now();
        let (inner, name) = (Arc::clone(&self.inner), self.name);
        let admitted = Arc::clone(&self.admitted);
        let finished = {
            let mut talking = Box::pin(timeout(LIFE_MAX, self.talk(dialogue.as_mut())));
            match timeout_at(began + DEADLINE, &mut talking).await {
                Ok(outcome) => outcome.ok(),
                Err(_) => {
                    if admitted.load(Ordering::SeqCst) {
                        inner.heard(name, Some(Unreachable::Timeout));
                        inner.metrics.old_system_took(name, began.elapsed());
                    }
                    inner.counted(name, T::ASKED, Unreachable::Timeout.as_str());
                    // Whoever waited may be gone.
                    let _ = tell.send(T::unavailable(Unreachable::Timeout));
                    // What it began there it ends there.
                    let _ = talking.await;
                    drop(turn);
                    return;
                }
            }
        };
        let outcome = finished.unwrap_or_else(|| T::unavailable(Unreachable::Timeout));
        let admitted = admitted.load(Ordering::SeqCst);
        if admitted {
            inner.heard(name, outcome.outage());
            inner.metrics.old_system_took(name, began.elapsed());
        }
        if admitted || outcome.outage().is_some() {
            inner.counted(name, T::ASKED, outcome.said());
        }
        drop(turn);
        let _ = tell.send(outcome);
    }

    async fn talk<T: Outcome>(&mut self, dialogue: &mut dyn Dialogue<T>) -> T {
        let mut given = Given::Nothing;
        for _ in 0..=STEPS_MAX {
            let moment = Moment {
                now: self.inner.clock.now(),
                random: &fill,
            };
            given = match dialogue.step(given, moment) {
                Step::Done(outcome) => return outcome,
                Step::Need(need) => self.find(need).await,
            };
        }
        T::unavailable(Unreachable::Garbage)
    }

    async fn find(&mut self, need: Need) -> Given {
        match need {
            Need::Answer(ask) => Given::Answer(self.ask(*ask).await),
            Need::Keys(url) => {
                let again = self.keys_seen.contains(&url);
                self.keys_seen.push(url.clone());
                Given::Keys(self.inner.keys(url, again).await)
            }
            Need::Row(query) => Given::Row(match &self.inner.old {
                Some(old) => old.row(self.name, &query).await,
                None => Err(Unreachable::Unconfigured),
            }),
            Need::Value(key) => Given::Value(match &self.inner.old {
                Some(old) => old.value(self.name, &key).await,
                None => Err(Unreachable::Unconfigured),
            }),
        }
    }

    async fn ask(&mut self, ask: Ask) -> Result<Answer, Unreachable> {
        if !may_be_asked(&ask.url) {
            return Err(Unreachable::Unconfigured);
        }
        self.admit()?;
        self.inner.ask(ask).await
    }

    /// Whether it may ask. Only the first time it may be told no: whoever began there must be able to end it there.
    fn admit(&mut self) -> Result<(), Unreachable> {
        let Some(system) = self.inner.systems.get(self.name) else {
            return Err(Unreachable::Unconfigured);
        };
        let now = self.inner.clock.now();
        if self.admitted.load(Ordering::SeqCst) {
            locked(&system.overall).count(now);
            return Ok(());
        }
        if !locked(&system.breaker).admit(now) {
            return Err(Unreachable::Connect);
        }
        if locked(&system.overall).take(system.limit, now).is_err() {
            locked(&system.breaker).released();
            return Err(Unreachable::Refused);
        }
        self.admitted.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// Where keys are published, and what was found there.
#[derive(Default)]
struct KeyPlace {
    held: Mutex<Option<HeldKeys>>,
    /// When they were last asked for.
    tried: tokio::sync::Mutex<Option<UnixMs>>,
}

#[derive(Clone)]
struct HeldKeys {
    set: Arc<KeySet>,
    at: UnixMs,
}

impl KeyPlace {
    fn held(&self, now: UnixMs) -> Option<HeldKeys> {
        let held = locked(&self.held).clone();
        held.filter(|held| now.since(held.at) <= KEYS_STALE_MAX)
    }
}

/// Whether a password may go there: https, or this machine itself.
fn may_be_asked(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

fn diagnose(error: &reqwest::Error) -> Unreachable {
    if error.is_timeout() {
        Unreachable::Timeout
    } else {
        // Their words may hold the address with its query: they are not kept.
        Unreachable::Connect
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
