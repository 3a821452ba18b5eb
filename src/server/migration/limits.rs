//! Limits of sign-ins, as the gateway holds them: in memory, and in a Redis where several gateways count together.
//!
//! When that Redis cannot be reached, each gateway counts for itself: nobody is let through uncounted, and nobody is locked out.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::runtime::Handle;

use super::fill;
use crate::credential::names::{self, CookieSpec};
use crate::migration::limits::{
    AccountKey, Device, Down, Key, Keys, Limited, Local, Scope, Settings, Shared, Taken, Wanted,
};
use crate::secret::Secret;
use crate::server::respond::{Answer, PRIVATE};
use crate::telemetry::metrics::Metrics;
use crate::time::{Clock, UnixMs};

/// How long a Redis that did not answer is left alone: sign-ins do not wait for it one by one.
const REST: Duration = Duration::from_secs(5);

/// Most entries of a list for people.
pub const LISTED_MAX: usize = 1000;

/// The framework's own header beside `Retry-After`.
const X_RETRY_AFTER: HeaderName = HeaderName::from_static("x-retry-after");

/// The framework's own words.
const BODY: &[u8] = br#"{"message":"Too many requests. Please try again later."}"#;

/// Who tries to sign in, as far as limits look.
#[derive(Clone, Copy)]
pub struct Attempt<'r> {
    /// The client's own address.
    pub client: IpAddr,
    /// What they typed to say who they are.
    pub identifier: &'r str,
    /// The headers of the request: the device may be known.
    pub headers: &'r HeaderMap,
}

/// There are no tries left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    /// Which budget is spent.
    pub scope: Scope,
    /// Until there is a try.
    pub wait: Duration,
}

impl RetryAfter {
    /// The answer: the framework's own, whoever it was that tried, and whether or not there is such an account.
    pub fn answer(self) -> Answer {
        // Rounded up: whoever comes back then is let in.
        let seconds = self.wait.as_millis().div_ceil(1000).max(1);
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        Answer {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers: vec![
                (RETRY_AFTER, HeaderValue::from(seconds)),
                (X_RETRY_AFTER, HeaderValue::from(seconds)),
                (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (CACHE_CONTROL, HeaderValue::from_static(PRIVATE)),
            ],
            body: Bytes::from_static(BODY),
        }
    }
}

/// Limits of sign-ins.
pub struct Limits {
    settings: Settings,
    keys: Keys,
    local: Local,
    shared: Option<Arc<dyn Shared>>,
    /// Until when what is shared is left alone, in milliseconds since the epoch.
    rests_until: AtomicI64,
    cookie: CookieSpec,
    home: Handle,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// What limits are built of.
pub struct Parts<'a> {
    /// What the operator allows.
    pub settings: Settings,
    /// The migration's key.
    pub key: &'a Secret,
    /// Counts shared with other gateways.
    pub shared: Option<Arc<dyn Shared>>,
    /// What the app's cookies are called.
    pub cookies: &'a names::Settings,
    /// Better Auth's base path: the device's cookie goes nowhere else.
    pub auth_base_path: &'a str,
    /// Where connections live.
    pub home: Handle,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Limits {
    /// Limits with all budgets full.
    pub fn new(parts: Parts<'_>) -> Arc<Self> {
        let mut cookie = parts.cookies.cookie("known_device");
        let attributes = &mut cookie.attributes;
        attributes.http_only = Some(true);
        attributes.max_age = Some(parts.settings.device_lifetime.as_secs());
        attributes.path = Some(match parts.auth_base_path {
            "" => "/".to_owned(),
            path => path.to_owned(),
        });
        Arc::new(Self {
            keys: Keys::new(parts.key, &parts.settings),
            settings: parts.settings,
            local: Local::default(),
            shared: parts.shared,
            rests_until: AtomicI64::new(0),
            cookie,
            home: parts.home,
            clock: parts.clock,
            metrics: parts.metrics,
        })
    }

    /// Takes a try for an attempt to sign in, before anything is checked.
    ///
    /// # Errors
    /// When there is none left, for how long.
    pub async fn check(self: &Arc<Self>, attempt: &Attempt<'_>) -> Result<Ticket, RetryAfter> {
        let now = self.clock.now();
        let account = self.keys.account(attempt.identifier);
        let device = self
            .keys
            .device(attempt.headers, &self.cookie.name, &account, now);
        let wanted = self
            .settings
            .wanted(attempt.client, &account, device.as_ref());
        let (taken, place) = self.take(&wanted, now).await;
        if let Taken::Spent { scope, wait } = taken {
            self.metrics.sign_in_limited(scope.as_str());
            return Err(RetryAfter { scope, wait });
        }
        let renewed = self.word_for(attempt.headers, &account, now);
        Ok(Ticket {
            limits: Arc::clone(self),
            account,
            client: attempt.client,
            device,
            wanted,
            place,
            renewed,
        })
    }

    /// The `Set-Cookie` line by which a device is known from now on, for whoever finished a sign-in elsewhere than at its beginning.
    pub fn known_from_now(&self, headers: &HeaderMap, identifier: &str) -> Option<HeaderValue> {
        let account = self.keys.account(identifier);
        self.word_for(headers, &account, self.clock.now())
    }

    fn word_for(
        &self,
        headers: &HeaderMap,
        account: &AccountKey,
        now: UnixMs,
    ) -> Option<HeaderValue> {
        let mut random = [0; 12];
        fill(&mut random);
        let value = self
            .keys
            .remember(headers, &self.cookie.name, account, now, random)?;
        HeaderValue::from_str(&self.cookie.set_cookie(&value)).ok()
    }

    async fn take(&self, wanted: &[Wanted], now: UnixMs) -> (Taken, Place) {
        if let Some(shared) = self.awake(now) {
            match shared.take(wanted).await {
                Ok(taken) => return (taken, Place::Shared),
                Err(down) => self.rest(&down),
            }
        }
        (self.local.take(wanted, now), Place::Local)
    }

    fn awake(&self, now: UnixMs) -> Option<&Arc<dyn Shared>> {
        let shared = self.shared.as_ref()?;
        (now.0 >= self.rests_until.load(Ordering::Relaxed)).then_some(shared)
    }

    fn rest(&self, down: &Down) {
        let now = self.clock.now();
        let until = now.plus(REST).0;
        let before = self.rests_until.swap(until, Ordering::Relaxed);
        self.metrics.limits_alone();
        // Once for each rest, however many were waiting.
        if before <= now.0 {
            tracing::warn!(error = %down, "sign-ins are counted by this gateway alone");
        }
    }

    /// Settles what was taken: gives some back, and begins anew with others.
    fn settle(self: &Arc<Self>, back: Vec<Wanted>, anew: Vec<Key>, place: Place) {
        if place == Place::Local {
            self.local.give_back(&back);
        }
        self.local.forget(&anew);
        let Some(shared) = self.shared.clone() else {
            return;
        };
        let limits = Arc::clone(self);
        // Nobody waits for it: until it is there, a try is missing and none is too many.
        self.home.spawn(async move {
            let mut done = Ok(());
            if place == Place::Shared && !back.is_empty() {
                done = shared.give_back(&back).await;
            }
            if done.is_ok() && !anew.is_empty() {
                done = shared.forget(&anew).await.map(drop);
            }
            if let Err(down) = done {
                limits.rest(&down);
            }
        });
    }

    /// Who is limited now, the longest first. Whatever is counted here alone stands beside what is shared.
    ///
    /// # Errors
    /// When what is shared cannot be reached.
    pub async fn limited(&self) -> Result<Vec<Limited>, Down> {
        let now = self.clock.now();
        let mut all = self.local.limited(&self.settings, now, LISTED_MAX);
        if let Some(shared) = &self.shared {
            all.extend(shared.limited(LISTED_MAX).await?);
        }
        all.sort_by(|a, b| b.wait.cmp(&a.wait).then_with(|| a.key.cmp(&b.key)));
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|one| seen.insert(one.key.clone()));
        all.truncate(LISTED_MAX);
        Ok(all)
    }

    /// Lets somebody try again at once. Says how many counts were dropped.
    ///
    /// # Errors
    /// When what is shared cannot be reached; what is counted here is dropped all the same.
    pub async fn lift(&self, whom: &Whom) -> Result<u64, Down> {
        let now = self.clock.now();
        let mut listed = self.local.limited(&self.settings, now, usize::MAX);
        let mut failed = None;
        if let Some(shared) = &self.shared {
            match shared.limited(usize::MAX).await {
                Ok(more) => listed.extend(more),
                Err(down) => failed = Some(down),
            }
        }
        let named = match whom {
            Whom::Account(identifier) => Some(self.keys.account(identifier)),
            Whom::Address(_) | Whom::Key(_) | Whom::Everybody => None,
        };
        let address = match whom {
            Whom::Address(client) => Some(Keys::of_address(*client)),
            _ => None,
        };
        let concerned = |key: &Key| match whom {
            Whom::Everybody => true,
            Whom::Key(text) => key.as_str() == text || key.account() == Some(text),
            Whom::Account(_) => key.account() == named.as_ref().map(AccountKey::as_str),
            Whom::Address(_) => key.address() == address.as_ref().and_then(Key::address),
        };
        let mut keys: Vec<Key> = listed.into_iter().map(|one| one.key).collect();
        keys.retain(concerned);
        keys.extend(named.as_ref().map(Keys::of_account));
        keys.extend(address);
        keys.sort();
        keys.dedup();
        let mut dropped = self.local.forget(&keys);
        if let Some(shared) = &self.shared {
            match shared.forget(&keys).await {
                Ok(more) => dropped = dropped.saturating_add(more),
                Err(down) => failed = Some(down),
            }
        }
        failed.map_or(Ok(dropped), Err)
    }
}

/// Who may try again.
#[derive(Clone, Debug)]
pub enum Whom {
    /// An address, with whoever tried from it.
    Address(IpAddr),
    /// An account, by what its owner types.
    Account(String),
    /// A key of the list, or the account in it.
    Key(String),
    /// All.
    Everybody,
}

/// Where a try was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Local,
    Shared,
}

/// A try that was taken. Dropped without a word, it counts as a failure.
pub struct Ticket {
    limits: Arc<Limits>,
    account: AccountKey,
    client: IpAddr,
    device: Option<Device>,
    wanted: Vec<Wanted>,
    place: Place,
    renewed: Option<HeaderValue>,
}

impl Ticket {
    /// Whether the device signed in to this account before.
    pub fn is_known_device(&self) -> bool {
        self.device.is_some()
    }

    /// The account's opaque key, for logs: it names nobody.
    pub fn account(&self) -> &str {
        self.account.as_str()
    }

    /// It was a guess, and a wrong one.
    pub fn failed(self) {}

    /// It was no guess: nothing could be checked, or another step must follow.
    pub fn unknown(self) {
        self.limits.settle(self.wanted, Vec::new(), self.place);
    }

    /// Somebody is signed in: what they tried before from here is forgotten, and the device is known from now on. The answer is to
    /// carry the `Set-Cookie` line, where there is one.
    pub fn succeeded(self) -> Option<HeaderValue> {
        let own = match &self.device {
            Some(device) => Keys::of_device(&self.account, device),
            None => Keys::of_pair(&self.account, self.client),
        };
        let others = self.wanted.into_iter().filter(|one| one.key != own);
        self.limits.settle(others.collect(), vec![own], self.place);
        self.renewed
    }
}
