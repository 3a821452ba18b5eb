//! Sessions that are due are extended beside the requests that show it: once, off their way, and the browser hears of it with
//! this answer or the next.
//!
//! A gateway that answers from memory keeps the framework from seeing the requests that would have extended a session. Without
//! this, people who use the app every day are signed out after `expires_in`.
//!
//! What counts is what the framework would do for this very request. So a bearer token is extended as a cookie is, and the only
//! thing that keeps a session short is a signed `dont_remember` cookie in the same request. Its cookies are not sent to a client
//! that came with a bearer token: it holds the token already, which does not change.
//!
//! Where the app also seals sessions into a cookie (the cookie cache), that cookie is written anew with the other one, as the framework
//! does: what the browser holds would say for minutes that the session ends soon.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use moka::ops::compute::Op;
use tokio::sync::Semaphore;

use super::outage::Outage;
use crate::credential::Method;
use crate::credential::cookie_cache::{CookieCache, Entropy, Payload, Remembered};
use crate::credential::names::{self, CookieSpec};
use crate::credential::signature::Seal;
use crate::request::RequestView;
use crate::session::cache::Entry;
use crate::session::carried::Carried;
use crate::session::document;
use crate::session::extend::Extend;
use crate::session::resolve::Sessions;
use crate::session::slide::{self, Rules};
use crate::session::{Source, SourceError};
use crate::telemetry::metrics::Metrics;
use crate::time::{Clock, UnixMs};

/// Extensions under way at most. A session is due once a day, so this is far above what even a busy app needs; what finds no room is
/// extended with a later request.
const UNDER_WAY_MAX: usize = 64;

/// Sessions whose extension was begun that are remembered at most. Beyond it the oldest are forgotten: then one may be tried twice,
/// which changes nothing.
const BEGUN_MAX: u64 = 100_000;

/// The least time between two attempts for one session.
const AGAIN_AFTER_MIN: Duration = Duration::from_secs(1);

/// Kinds of credential that are a session token. All others prove something else, and the framework extends nothing for them.
const TOKENS: [&str; 2] = ["session", "bearer"];

/// How sessions are extended.
#[derive(Clone)]
pub struct Settings {
    /// When.
    pub rules: Rules,
    /// By whom.
    pub by: By,
}

/// Who extends a session.
#[derive(Clone)]
pub enum By {
    /// The app, asked at its own `get-session`: the first of its addresses that answers. Its hooks run, and nothing of ours needs
    /// to write.
    App(Vec<Arc<dyn Source>>),
    /// The gateway itself, in the app's store.
    Store(Arc<dyn Extend>),
}

/// Extends sessions.
pub struct Slider {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    marker_cookie: String,
    token_cookie: CookieSpec,
    /// The app's cookie cache, where it has one.
    cookie_cache: Option<Arc<CookieCache>>,
    again_after: Duration,
    begun: moka::sync::Cache<Seal, UnixMs>,
    under_way: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    told: Outage,
}

impl Slider {
    /// A slider. `cache_ttl` is also the least time between two extensions of one session, for apps that extend at every read.
    pub fn new(
        settings: Settings,
        cookies: &names::Settings,
        cookie_cache: Option<Arc<CookieCache>>,
        cache_ttl: Duration,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                settings,
                marker_cookie: cookies.cookie("dont_remember").name,
                token_cookie: cookies.cookie("session_token"),
                cookie_cache,
                again_after: cache_ttl.max(AGAIN_AFTER_MIN),
                begun: moka::sync::Cache::builder().max_capacity(BEGUN_MAX).build(),
                under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
                clock,
                metrics,
                told: Outage::default(),
            }),
        }
    }

    /// How many extensions are under way.
    pub fn under_way(&self) -> usize {
        UNDER_WAY_MAX.saturating_sub(self.inner.under_way.available_permits())
    }

    /// Whether the session of an identity is due. Costs a comparison; nearly always the answer is no.
    pub fn is_due(&self, entry: &Entry, now: UnixMs) -> bool {
        self.inner.settings.rules.is_due(entry.expires_at(), now)
    }

    /// Begins to extend the session of a request, unless it is not due, is not to be extended, or somebody has begun already.
    /// Returns at once.
    pub fn begin(
        &self,
        entry: &Arc<Entry>,
        request: &RequestView<'_>,
        sessions: &Arc<Sessions>,
        now: UnixMs,
    ) {
        if !self.is_due(entry, now) || !TOKENS.contains(&entry.method().as_str()) {
            return;
        }
        let inner = &self.inner;
        let signer = sessions.signer();
        if slide::is_marked_short(request.headers, &inner.marker_cookie, signer) {
            return;
        }
        let Ok(room) = Arc::clone(&inner.under_way).try_acquire_owned() else {
            return;
        };
        let seal = signer.seal(entry.expose_token());
        if !inner.is_first(seal, now) {
            return;
        }
        let work = Work {
            seal,
            entry: Arc::clone(entry),
            carried: Carried::by(request),
            sessions: Arc::clone(sessions),
        };
        let inner = Arc::clone(inner);
        tokio::spawn(async move {
            let _room = room;
            inner.extend(work).await;
        });
    }
}

/// One session to extend.
struct Work {
    seal: Seal,
    entry: Arc<Entry>,
    carried: Carried,
    sessions: Arc<Sessions>,
}

impl Inner {
    /// Whether nobody has begun with this session a moment ago.
    fn is_first(&self, seal: Seal, now: UnixMs) -> bool {
        let lately = |begun: UnixMs| begun <= now && now.since(begun) < self.again_after;
        if self.begun.get(&seal).is_some_and(lately) {
            return false;
        }
        let mut first = false;
        self.begun
            .entry(seal)
            .and_compute_with(|found| match found {
                Some(begun) if lately(*begun.value()) => Op::Nop,
                _ => {
                    first = true;
                    Op::Put(now)
                }
            });
        first
    }

    async fn extend(&self, work: Work) {
        let done = match &self.settings.by {
            By::App(addresses) => self.by_app(addresses, &work).await,
            By::Store(store) => self.in_store(&**store, &work).await,
        };
        if let Err(error) = done {
            self.metrics.source_failed(error.as_str());
            self.told
                .tell(&error, "a session that is due was not extended");
        }
    }

    async fn by_app(&self, addresses: &[Arc<dyn Source>], work: &Work) -> Result<(), SourceError> {
        let token = work.entry.expose_token();
        let mut answer = Ok(None);
        for address in addresses {
            answer = address.find_for(token, &work.carried).await;
            if !matches!(answer, Err(SourceError::Unreachable { .. })) {
                break;
            }
        }
        match answer? {
            Some(told) => {
                let (until, updated) = (told.record.expires_at, told.record.updated_at);
                self.renewed(work, until, updated, told.set_cookie);
            }
            // It has ended meanwhile, and the app has said so itself.
            None => work.sessions.cache().forget_token(&work.seal),
        }
        Ok(())
    }

    async fn in_store(&self, store: &dyn Extend, work: &Work) -> Result<(), SourceError> {
        let now = self.clock.now();
        let until = self.settings.rules.until(now);
        let token = work.entry.expose_token();
        // Somebody else may have been first, or the session may be gone: then there is nothing to tell.
        let seen = work.entry.expires_at();
        if store.extend(token, seen, until, now).await? {
            let lines = self.cookies(work, until, now).await;
            let lines = lines.iter().filter_map(|line| {
                let mut line = HeaderValue::from_str(line).ok()?;
                line.set_sensitive(true);
                Some(line)
            });
            self.renewed(work, until, Some(now), lines.collect());
        }
        Ok(())
    }

    /// The `Set-Cookie` texts by which the framework would tell of a session that it has just extended, in its order.
    async fn cookies(&self, work: &Work, until: UnixMs, now: UnixMs) -> Vec<String> {
        let token = work.entry.expose_token();
        let renewed = || {
            let value = work.sessions.signer().issue(token);
            self.token_cookie.set_cookie(&value)
        };
        let Some(cache) = &self.cookie_cache else {
            return vec![renewed()];
        };
        if work.entry.method() != Method::SESSION {
            // Nobody is told.
            return Vec::new();
        }
        let request = &work.carried.headers;
        let unusable = cache.clear_unusable(request, token, now);
        let mut lines: Vec<String> = unusable.into_iter().collect();
        lines.push(renewed());
        // Where it cannot be written, the app does so when it is next asked.
        if let Some(value) = self.sealed(cache, work, until, now).await {
            lines.extend(cache.set_cookies(&value, Remembered::Yes, request));
        }
        lines
    }

    /// The session and its user, sealed. Remembered, for a session with a marker is never extended.
    async fn sealed(
        &self,
        cache: &CookieCache,
        work: &Work,
        until: UnixMs,
        now: UnixMs,
    ) -> Option<String> {
        let token = work.entry.expose_token();
        // Read again, as the framework does: the app would believe for minutes whatever memory still holds of the user.
        let record = work.sessions.source().find(token).await.ok()??;
        let said = document::moved(record.document.as_deref()?, until, Some(now))?;
        let said = Payload::of_document(&said, until, now)?;
        let mut entropy = Entropy([0; 32]);
        aws_lc_rs::rand::fill(&mut entropy.0).ok()?;
        let value = cache.seal(&said, Remembered::Yes, now, &entropy)?;
        // What would not open is worse than nothing: the app would remove it.
        cache.open_value(value.as_bytes(), token, now).ok()?;
        Some(value)
    }

    fn renewed(
        &self,
        work: &Work,
        until: UnixMs,
        updated: Option<UnixMs>,
        lines: Vec<HeaderValue>,
    ) {
        let cache = work.sessions.cache();
        cache.renew(work.seal, &work.entry, until, updated);
        if work.entry.method() == Method::SESSION {
            cache.owe(work.seal, &work.entry, lines);
        }
    }
}
