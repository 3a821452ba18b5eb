//! From a credential to a resolution: the signature, then memory, then the store.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::cache::{Cache, Entry, Memory};
use super::carried::{Carried, Told};
use super::entry::Finding;
use super::flight::Flights;
use super::{Freshness, Keeper, Principal, Rejection, Settings, Source, SourceError};
use crate::credential::Method;
use crate::credential::signature::{Seal, Signer};
use crate::request::RequestView;
use crate::time::{Clock, UnixMs};

/// How far a resolution had to go: the label of the validation time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Nothing was presented, or nobody asked.
    None,
    /// The form or the signature was wrong.
    Forged,
    /// The signature alone (`optimistic`).
    Signature,
    /// Memory knew who it is.
    Memory,
    /// Memory knew that there is no such session.
    Negative,
    /// The app's own sealed cookie said it.
    Cookie,
    /// The store was asked.
    Store,
}

impl Tier {
    /// Every tier, for tables of metrics.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Forged,
        Self::Signature,
        Self::Memory,
        Self::Negative,
        Self::Cookie,
        Self::Store,
    ];

    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Forged => "forged",
            Self::Signature => "signature",
            Self::Memory => "memory",
            Self::Negative => "negative",
            Self::Cookie => "cookie",
            Self::Store => "store",
        }
    }
}

/// How often one lookup asks the store, when revocations overtake its answers. Those of strangers do so too, where they share a slot
/// or end everybody's sessions, and come in bursts: five questions outlast one, and a store that is slow is still not asked on and on.
const LOOKUPS_MAX: usize = 5;

/// How long is waited before a token that was issued a moment ago is looked up again, when the store does not know it yet: it may
/// be a replica. Most replicas lag by milliseconds; in all a request waits less than a second, and only with such a token.
const LAG_PAUSES: [Duration; 4] = [
    Duration::from_millis(25),
    Duration::from_millis(75),
    Duration::from_millis(200),
    Duration::from_millis(500),
];

/// What a lookup in the store brought.
#[derive(Clone, Debug)]
enum Found {
    Known(Arc<Entry>),
    Missing,
    Expired,
    Failed,
}

/// What is known of a caller whose credential holds.
#[derive(Clone, Debug)]
pub enum Who {
    /// The session was found (in memory or in the store) and is live.
    Known(Arc<Entry>),
    /// Only the signature was checked (`freshness = "optimistic"`): proves that the app once issued it, and nothing else.
    SignatureOnly,
}

/// The outcome of looking a credential up. "We could not find out" is never "you may not".
#[derive(Clone, Debug)]
pub enum Resolution {
    /// Nothing was presented.
    Anonymous,
    /// It holds.
    Verified(Who),
    /// It does not count.
    Rejected(Rejection),
    /// The store could not answer.
    Unavailable,
}

/// Resolves credentials.
pub struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    signer: Signer,
    source: Arc<dyn Source>,
    cache: Cache,
    flights: Flights<Found>,
    clock: Arc<dyn Clock>,
    keeper: Keeper,
    began: UnixMs,
    enforce_bans: bool,
    on_failure: Box<dyn Fn(&SourceError) + Send + Sync>,
}

impl Sessions {
    /// Sessions signed by `signer` and kept in `source`. `on_failure` hears of every lookup that failed, once each.
    pub fn new(
        settings: &Settings,
        signer: Signer,
        source: Arc<dyn Source>,
        clock: Arc<dyn Clock>,
        on_failure: Box<dyn Fn(&SourceError) + Send + Sync>,
    ) -> Self {
        let keeper = source.keeper();
        Self {
            inner: Arc::new(Inner {
                signer,
                source,
                cache: Cache::new(settings, keeper, Arc::clone(&clock)),
                flights: Flights::default(),
                keeper,
                began: clock.now(),
                clock,
                enforce_bans: settings.enforce_bans,
                on_failure,
            }),
        }
    }

    /// The signer, for what passes by.
    pub fn signer(&self) -> &Signer {
        &self.inner.signer
    }

    /// The memory, for what must be forgotten.
    pub fn cache(&self) -> &Cache {
        &self.inner.cache
    }

    /// How many requests wait for a lookup they share with others.
    pub fn waiting(&self) -> usize {
        self.inner.flights.waiting()
    }

    /// Where sessions are kept.
    pub fn source(&self) -> &dyn Source {
        &*self.inner.source
    }

    /// Who keeps them.
    pub fn keeper(&self) -> Keeper {
        self.inner.keeper
    }

    /// When we began to see what passes.
    pub fn began(&self) -> UnixMs {
        self.inner.began
    }

    /// Who the token behind `seal` is known to belong to, when it comes by `method`. `None`: memory cannot say.
    pub fn recall(
        &self,
        seal: &Seal,
        method: Method,
        freshness: Freshness,
        now: UnixMs,
    ) -> Option<(Resolution, Tier)> {
        // Where the cookie is all there is, the token alone proves nothing.
        if freshness == Freshness::Strict || self.inner.keeper == Keeper::Cookie {
            return None;
        }
        match self.inner.cache.recall(seal, method, now) {
            Memory::Known(entry) => Some((self.inner.judge_entry(entry), Tier::Memory)),
            Memory::Missing => Some((
                Resolution::Rejected(Rejection::Unknown { told_now: false }),
                Tier::Negative,
            )),
            Memory::Nothing => None,
        }
    }

    /// What a good signature alone is worth.
    ///
    /// The framework signs other things under the same key: a pending second factor, the state of an OAuth flow. What does not look
    /// like a session token of its making is looked up after all.
    pub fn by_signature(token: &str, freshness: Freshness) -> Option<(Resolution, Tier)> {
        (freshness == Freshness::Optimistic && looks_like_a_session_token(token))
            .then_some((Resolution::Verified(Who::SignatureOnly), Tier::Signature))
    }

    /// What is judged of an identity that was found out elsewhere, from what the request itself carries.
    pub fn judge(&self, entry: Arc<Entry>) -> Resolution {
        self.inner.judge_entry(entry)
    }

    /// What time it is.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Tells the operator of a lookup that failed.
    pub fn failed(&self, error: &SourceError) {
        (self.inner.on_failure)(error);
    }

    /// Asks the store who the session token belongs to. Whoever calls has made sure that it may be asked: the token is signed, or
    /// its sender is within the limits. Without a `request` the session is asked for by its token alone.
    pub async fn find(
        &self,
        token: &str,
        method: Method,
        freshness: Freshness,
        request: Option<&RequestView<'_>>,
    ) -> (Resolution, Tier) {
        let carried = || request.map(Carried::by);
        self.find_with(token, method, freshness, carried).await
    }

    /// Asks the store again, long after a request of `client` was let in with the session token. Nothing is extended by it: nobody
    /// could be told.
    pub async fn find_again(
        &self,
        token: &str,
        method: Method,
        freshness: Freshness,
        client: IpAddr,
    ) -> (Resolution, Tier) {
        let carried = || Some(Carried::later(client));
        self.find_with(token, method, freshness, carried).await
    }

    async fn find_with(
        &self,
        token: &str,
        method: Method,
        freshness: Freshness,
        carried: impl Fn() -> Option<Carried>,
    ) -> (Resolution, Tier) {
        let seal = self.inner.signer.seal(token);
        let lookup = || {
            let inner = Arc::clone(&self.inner);
            let carried = match inner.source.asks_the_app() {
                true => carried(),
                false => None,
            };
            Inner::look_up(inner, seal, token.into(), method, carried)
        };
        // A strict lookup may not join one that began before the request came: what that brings may be older than the request.
        let found = if freshness == Freshness::Strict {
            lookup().await
        } else {
            self.inner
                .flights
                .wait(seal.by(method), || Box::pin(lookup()))
                .await
        };
        // A replica may lag behind the token's birth, or its extension: then nobody may conclude that it is dead.
        let is_late = || self.inner.cache.was_just_issued(&seal);
        let resolution = match found {
            Found::Known(entry) => self.inner.judge_entry(entry),
            Found::Missing => {
                let told_now = self.inner.keeper == Keeper::Store && !is_late();
                Resolution::Rejected(Rejection::Unknown { told_now })
            }
            Found::Expired => {
                let told_now = !is_late();
                Resolution::Rejected(Rejection::Expired { told_now })
            }
            Found::Failed => Resolution::Unavailable,
        };
        (resolution, Tier::Store)
    }
}

impl Inner {
    fn judge_entry(&self, entry: Arc<Entry>) -> Resolution {
        let ban_over = || {
            let until = entry.ban_expires();
            until.is_some_and(|until| until < self.clock.now())
        };
        if self.enforce_bans && entry.banned() && !ban_over() {
            return Resolution::Rejected(Rejection::Banned);
        }
        Resolution::Verified(Who::Known(entry))
    }

    async fn look_up(
        self: Arc<Self>,
        seal: Seal,
        token: Box<str>,
        method: Method,
        carried: Option<Carried>,
    ) -> Found {
        // When a revocation passes by while an answer is on its way, that answer may be from before it: then it is asked again, and
        // whoever joined meanwhile gets the newer one. Overtaken every time, it has found nothing out.
        let mut lags = LAG_PAUSES.into_iter();
        let mut overtaken = 0;
        while overtaken < LOOKUPS_MAX {
            match self.ask_once(&seal, &token, method, carried.as_ref()).await {
                Found::Known(entry) if !entry.stands(&self.cache.revocations) => overtaken += 1,
                found @ (Found::Missing | Found::Expired) if self.cache.was_just_issued(&seal) => {
                    match lags.next() {
                        Some(pause) => self.clock.pause(pause).await,
                        None => return found,
                    }
                }
                found => return found,
            }
        }
        Found::Failed
    }

    async fn ask(
        &self,
        token: &str,
        carried: Option<&Carried>,
    ) -> Result<Option<Told>, SourceError> {
        match carried {
            Some(carried) => self.source.find_for(token, carried).await,
            None => Ok(self.source.find(token).await?.map(Told::from)),
        }
    }

    async fn ask_once(
        &self,
        seal: &Seal,
        token: &str,
        method: Method,
        carried: Option<&Carried>,
    ) -> Found {
        let since = self.cache.revocations.moment();
        let asked_at = self.clock.now();
        match self.ask(token, carried).await {
            // Some collations fold case: what was found must be what was asked for, byte for byte.
            Ok(Some(Told { record, set_cookie })) if record.token.expose() == token => {
                let found = Finding::new(Principal { record, method }, seal, asked_at, since);
                let entry = found.owing(self.cache.owed(seal)).pack();
                // For a bearer token the app was asked without what the browser would have sent: a session that is to end with it would
                // outlive it.
                if method == Method::SESSION {
                    self.cache.owe(*seal, &entry, set_cookie);
                }
                if entry.is_expired(self.clock.now()) {
                    self.cache.remember_missing(*seal, method, asked_at, since);
                    return Found::Expired;
                }
                self.cache.remember(*seal, Arc::clone(&entry));
                Found::Known(entry)
            }
            Ok(_) => {
                self.cache
                    .remember_missing(*seal, method, self.clock.now(), since);
                Found::Missing
            }
            Err(error) => {
                (self.on_failure)(&error);
                Found::Failed
            }
        }
    }
}

/// Whether a value has the form of the framework's own session tokens: 32 letters and digits.
fn looks_like_a_session_token(value: &str) -> bool {
    value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::secret::Secret;
    use crate::session::{BoxFuture, Record};
    use crate::target::Target;
    use crate::time::ManualClock;

    /// A store during whose first answers the session's user is revoked.
    struct Overtaken {
        times: usize,
        asked: AtomicUsize,
        sessions: OnceLock<Arc<Inner>>,
    }

    impl Source for Overtaken {
        fn name(&self) -> &'static str {
            "overtaken"
        }

        fn find<'a>(
            &'a self,
            token: &'a str,
        ) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
            if self.asked.fetch_add(1, Ordering::SeqCst) < self.times
                && let Some(sessions) = self.sessions.get()
            {
                sessions.cache.forget_user("ada");
            }
            let record = Record {
                session_id: "s".into(),
                token: Secret::new(token),
                expires_at: UnixMs(1_000_000),
                created_at: None,
                updated_at: None,
                impersonated_by: None,
                organization_id: None,
                organization_role: None,
                user_id: "ada".into(),
                email: None,
                email_verified: false,
                name: None,
                role: None,
                banned: false,
                ban_expires: None,
                team_id: None,
                document: None,
            };
            Box::pin(std::future::ready(Ok(Some(record))))
        }

        fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
            Box::pin(std::future::ready(Ok(())))
        }
    }

    /// What comes of a lookup that is overtaken so many times, and how often the store was asked.
    fn overtaken(times: usize) -> (Resolution, usize) {
        let store = Arc::new(Overtaken {
            times,
            asked: AtomicUsize::new(0),
            sessions: OnceLock::new(),
        });
        let settings = Settings {
            cache_ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(5),
            entries_max: 10,
            bytes_max: 1 << 20,
            negative_max: 10,
            enforce_bans: false,
        };
        let sessions = Sessions::new(
            &settings,
            Signer::new(&Secret::new("secret")),
            Arc::clone(&store) as Arc<dyn Source>,
            Arc::new(ManualClock::at(UnixMs(1000))),
            Box::new(|_| {}),
        );
        let _ = store.sessions.set(Arc::clone(&sessions.inner));
        let request = RequestView {
            method: &http::Method::GET,
            target: Target::parse(b"/").unwrap(),
            host: "app.test",
            headers: &http::HeaderMap::new(),
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let resolved = sessions
            .find("token", Method::SESSION, Freshness::Cached, Some(&request))
            .now_or_never();
        let (resolution, _) = resolved.unwrap_or((Resolution::Anonymous, Tier::None));
        (resolution, store.asked.load(Ordering::SeqCst))
    }

    #[test]
    fn an_answer_from_before_a_revocation_is_never_believed() {
        for times in 0..LOOKUPS_MAX {
            let (resolution, asked) = overtaken(times);
            assert!(
                matches!(resolution, Resolution::Verified(_)),
                "{times}: {resolution:?}"
            );
            assert_eq!(asked, times + 1);
        }
        let (resolution, asked) = overtaken(LOOKUPS_MAX);
        assert!(
            matches!(resolution, Resolution::Unavailable),
            "{resolution:?}"
        );
        assert_eq!(asked, LOOKUPS_MAX);
    }
}
