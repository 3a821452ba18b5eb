//! A live session of the old system, at first contact: read, judged, claimed once, and handed out as the app's own, to the app and to
//! the browser.
//!
//! ```text
//!  no session of ours ──▶ memory ▸ one flight per old session ▸ readers ▸ account ▸ rules ▸ (Redis) ▸ claim ──▶ cookies
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, ORIGIN, RETRY_AFTER, SET_COOKIE, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Around, Arrival, Arrivals, Common, Provider, fill};
use crate::client_ip;
use crate::credential::cookie_cache::{CookieCache, Entropy, Payload, Remembered, date};
use crate::credential::names::CookieSpec;
use crate::credential::signature::{Seal, Signer};
use crate::credential::{Method, cookies};
use crate::gate::Gate;
use crate::migration::accounts::{
    Account, AccountsError, Claimed, Identifier, NewSession, OldSessionKey,
};
use crate::migration::bridge::{self, Beside, By, Known, Plan, Users, Word, Written};
use crate::migration::control::{Mechanism, Reach, Window};
use crate::migration::provider::{OldSession, Presented, Reading};
use crate::migration::vault::Purpose;
use crate::request::RequestView;
use crate::secret::Secret;
use crate::server::respond::{self, Answer};
use crate::session::flight::Flights;
use crate::session::limit::Limiter;
use crate::session::resolve::{Resolution, Sessions, Who};
use crate::session::{Freshness, Keeper};
use crate::time::UnixMs;

/// Where a token from browser storage is handed in.
pub const PATH: &str = "/_vestibule/bridge";

/// The header by which a script says that it means it: a form of another site cannot set it.
pub const HEADER: &str = "x-vestibule-bridge";

/// How long what does not count is remembered: a browser keeps sending it with every request.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// How long an old system that cannot be asked is left alone for one session.
const UNAVAILABLE_FOR: Duration = Duration::from_secs(2);

/// How long a session that was made is handed to whoever still comes with the old one: the rest of a page load, with time to spare.
const MADE_FOR: Duration = Duration::from_secs(60);

/// Most old sessions remembered, whatever became of them. An entry takes about 500 bytes.
const REMEMBERED_MAX: u64 = 10_000;

/// Old sessions of one address that count for nothing: a stranger who makes them up, or whose dead ones are many, must not keep the
/// old system busy. As many as sessions nobody knows (`better_auth.unknown_tokens_per_minute`).
const MISSES_PER_MINUTE: u32 = 600;
const MISSES_AT_ONCE: u32 = 120;

/// Longest bearer token, in bytes. Those of the vendors take up to 8 KiB.
const BEARER_BYTES_MAX: usize = 16 * 1024;

/// Longest body of the endpoint, in bytes: it holds the name of a provider.
pub const BODY_BYTES_MAX: usize = 4096;

/// Letters of a session's token and of its id.
const ID_LETTERS: usize = 32;

/// What the bridge stands on.
#[derive(Default)]
pub struct Stores {
    /// Where the app keeps sessions beside the database.
    pub beside: Option<Arc<dyn Beside>>,
    /// Whole users, where the cookie is the session.
    pub users: Option<Arc<dyn Users>>,
}

/// What the operator wants of the bridge.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The rules.
    pub rules: bridge::Settings,
    /// Whether the app keeps its sessions in its database.
    pub in_database: bool,
    /// The database of the old systems, where it is not the app's own.
    pub old_database: Option<crate::store::Settings>,
    /// The Redis of the old systems.
    pub old_redis: Option<crate::store::Settings>,
}

/// Takes old sessions over.
pub struct Bridge {
    inner: Arc<Inner>,
}

struct Inner {
    common: Arc<Common>,
    settings: Settings,
    stores: Stores,
    sessions: Arc<Sessions>,
    /// Where the cookie is the session.
    cookie_cache: Option<Arc<CookieCache>>,
    token: CookieSpec,
    marker: CookieSpec,
    addresses: client_ip::Settings,
    /// Names what was presented, and tells nobody what it was.
    namer: Signer,
    remembered: moka::sync::Cache<Seal, (Outcome, UnixMs)>,
    flights: Flights<Outcome>,
    misses: Limiter,
}

/// What became of what was presented.
#[derive(Clone)]
enum Outcome {
    /// This session.
    Made(Arc<Made>),
    /// It does not count.
    Refused,
    /// It could not be found out.
    Unavailable,
}

/// A session that stands for an old one.
struct Made {
    key: OldSessionKey,
    token: Secret,
    expires_at: UnixMs,
    /// `Set-Cookie` lines.
    lines: Vec<HeaderValue>,
    /// The cookies in them, as a browser would send them back. Empty: it has none of this name.
    cookies: Vec<(String, String)>,
}

/// What is presented, by whom.
#[derive(Clone)]
struct Visit {
    /// Its cookies.
    headers: HeaderMap,
    /// Or a token from browser storage, and of which old system.
    bearer: Option<(Secret, Option<String>)>,
    client: IpAddr,
    user_agent: String,
}

impl Visit {
    fn presented(&self) -> Presented<'_> {
        match &self.bearer {
            Some((token, _)) => Presented::Bearer(token.expose()),
            None => Presented::Cookies(&self.headers),
        }
    }

    fn concerns(&self, provider: &Provider) -> bool {
        let Some(sessions) = &provider.sessions else {
            return false;
        };
        match &self.bearer {
            Some((_, Some(name))) => name == provider.name,
            Some((_, None)) => true,
            None => cookies::pairs(&self.headers).any(|(name, _)| sessions.concerns(name)),
        }
    }
}

/// An old session that is alive.
struct Alive {
    provider: &'static str,
    old: Box<OldSession>,
    account: Option<Account>,
}

/// Nothing can be said now: a store, or an old system, does not answer.
struct Outage;

impl From<AccountsError> for Outage {
    fn from(error: AccountsError) -> Self {
        tracing::warn!(
            cause = error.as_str(),
            advice = error.advice(),
            "an old session cannot be taken over: {error}"
        );
        Self
    }
}

impl Bridge {
    /// A bridge for these readers. `None`: no old system has sessions that can be read.
    pub fn new(
        common: &Arc<Common>,
        settings: Settings,
        stores: Stores,
        around: &Around<'_>,
    ) -> Option<Self> {
        if common.providers.iter().all(|one| one.sessions.is_none()) {
            return None;
        }
        let mut key = [0; 32];
        fill(&mut key);
        let keeper = around.sessions.keeper();
        let cache = around.cookie_cache.filter(|_| keeper == Keeper::Cookie);
        let remembered = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED_MAX)
            .time_to_live(MADE_FOR)
            .build();
        Some(Self {
            inner: Arc::new(Inner {
                common: Arc::clone(common),
                settings,
                stores,
                sessions: Arc::clone(around.sessions),
                cookie_cache: cache.cloned(),
                token: around.cookies.cookie("session_token"),
                marker: around.cookies.cookie("dont_remember"),
                addresses: client_ip::Settings::default(),
                namer: Signer::new(&Secret::new(data_encoding::HEXLOWER.encode(&key))),
                remembered,
                flights: Flights::default(),
                misses: Limiter::new(MISSES_PER_MINUTE, MISSES_AT_ONCE),
            }),
        })
    }

    /// What ends old sessions when people sign out here.
    pub fn farewell(&self) -> super::farewell::Farewell {
        let bridge = Self {
            inner: Arc::clone(&self.inner),
        };
        super::farewell::Farewell::new(Arc::clone(&self.inner.common), bridge)
    }

    /// The old sessions that a request presents, by what identifies them: from memory, or by asking. Those that cannot be told are left
    /// out.
    pub(super) async fn keys(&self, headers: &HeaderMap) -> Vec<OldSessionKey> {
        let visit = self.inner.visit(headers, None, IpAddr::from([0, 0, 0, 0]));
        let name = self.inner.name(&visit);
        let known = self.inner.remembered.get(&name);
        self.inner.remembered.invalidate(&name);
        let mut keys = Vec::new();
        if let Some((Outcome::Made(made), _)) = known {
            keys.push(made.key.clone());
        }
        for provider in &self.inner.common.providers {
            let Some(reader) = provider
                .sessions
                .as_ref()
                .filter(|_| visit.concerns(provider))
            else {
                continue;
            };
            // What is remembered is of one of them: the same person may have brought a session of another one too.
            if keys.iter().any(|key| key.provider == provider.name) {
                continue;
            }
            let dialogue = reader.read(&visit.presented());
            let outbound = &self.inner.common.outbound;
            match outbound.run(provider.name, dialogue).await {
                Reading::Alive(old) => keys.extend(bridge::key(provider.name, &old)),
                Reading::Unavailable(why) => tracing::warn!(
                    provider = provider.name,
                    cause = why.as_str(),
                    "a session of the old system was signed out here and cannot be named: it lives on there"
                ),
                Reading::Nothing | Reading::Refused(_) => {}
            }
        }
        keys
    }

    /// Forgets what was made of what a request presents.
    pub(super) fn forget(&self, headers: &HeaderMap) {
        let visit = self.inner.visit(headers, None, IpAddr::from([0, 0, 0, 0]));
        self.inner.remembered.invalidate(&self.inner.name(&visit));
    }
}

impl Arrivals for Bridge {
    fn concerns(&self, headers: &HeaderMap) -> bool {
        self.inner.concerns(headers)
    }

    fn arrive<'a>(
        &'a self,
        request: &'a RequestView<'a>,
        gate: &'a Gate,
    ) -> BoxFuture<'a, Option<Arrival>> {
        Box::pin(self.inner.arrive(request, gate))
    }

    fn hand_in<'a>(
        &'a self,
        request: &'a RequestView<'a>,
        body: &'a [u8],
        gate: &'a Gate,
        request_id: &'a str,
    ) -> BoxFuture<'a, Answer> {
        Box::pin(self.inner.hand_in(request, body, gate, request_id))
    }
}

impl Inner {
    fn concerns(&self, headers: &HeaderMap) -> bool {
        let readers = || {
            let providers = self.common.providers.iter();
            providers.filter_map(|provider| provider.sessions.as_deref())
        };
        cookies::pairs(headers).any(|(name, _)| readers().any(|reader| reader.concerns(name)))
    }

    fn is_open(&self, now: UnixMs) -> bool {
        let control = &self.common.control;
        control.window(now) == Window::Open
            && !control.disabled.contains(&Mechanism::Bridge)
            && self.settings.rules.is_open(now)
    }

    fn visit(
        &self,
        headers: &HeaderMap,
        bearer: Option<(Secret, Option<String>)>,
        client: IpAddr,
    ) -> Visit {
        let mut kept = HeaderMap::new();
        if bearer.is_none() {
            for line in headers.get_all(COOKIE) {
                kept.append(COOKIE, line.clone());
            }
        }
        let user_agent = headers.get(USER_AGENT);
        Visit {
            headers: kept,
            bearer,
            client,
            user_agent: user_agent
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// Names what is presented: everything the readers may look at, and nothing else.
    fn name(&self, visit: &Visit) -> Seal {
        let mut digest = Sha256::new();
        if let Some((token, only)) = &visit.bearer {
            digest.update(only.as_deref().unwrap_or("*"));
            digest.update(b"\0");
            digest.update(token.expose());
        }
        for (name, value) in cookies::pairs(&visit.headers) {
            let mut providers = self.common.providers.iter();
            let sessions = |provider: &Provider| {
                provider
                    .sessions
                    .as_ref()
                    .is_some_and(|sessions| sessions.concerns(name))
            };
            if providers.any(sessions) {
                for part in [name, value] {
                    digest.update(part.len().to_le_bytes());
                    digest.update(part);
                }
            }
        }
        self.namer.seal("old session").with(&digest.finalize())
    }

    async fn arrive(self: &Arc<Self>, request: &RequestView<'_>, gate: &Gate) -> Option<Arrival> {
        if !self.is_open(self.common.clock.now()) {
            return None;
        }
        match gate.who(request).await {
            // Ours counts; and where it cannot be found out whether it does, that is answered as it always is.
            Resolution::Verified(_) | Resolution::Unavailable => return None,
            Resolution::Anonymous | Resolution::Rejected(_) => {}
        }
        let origin = &self.common.public_url;
        if let Err(word) = bridge::may_arrive(request.method, request.headers, origin) {
            self.count("any", word.as_str());
            return None;
        }
        let visit = self.visit(request.headers, None, request.client);
        match self.find_out(visit).await {
            Outcome::Made(made) => Some(Arrival {
                cookie: with_cookies(request.headers, &made.cookies),
                set: made.lines.clone(),
                unavailable: false,
            }),
            Outcome::Refused => None,
            // Nothing would have been made of it either: what the app answers stays as it is.
            Outcome::Unavailable if self.common.control.shadow => None,
            Outcome::Unavailable => Some(Arrival {
                unavailable: true,
                ..Arrival::default()
            }),
        }
    }

    /// What becomes of what is presented: as memory knows, or as one of those who bring it at the same time finds out for all.
    async fn find_out(self: &Arc<Self>, visit: Visit) -> Outcome {
        let name = self.name(&visit);
        let now = self.common.clock.now();
        if let Some((outcome, until)) = self.remembered.get(&name)
            && now < until
        {
            match &outcome {
                Outcome::Made(made) if !self.lives(made).await => self.remembered.invalidate(&name),
                _ => return outcome,
            }
        }
        // A try of its address, given back when it was no miss.
        if self.misses.check(visit.client, now).is_err() {
            self.count("any", "limited");
            return Outcome::Unavailable;
        }
        let (inner, client) = (Arc::clone(self), visit.client);
        let outcome = self
            .flights
            .wait(name, || {
                Box::pin(async move {
                    let outcome = inner.take_over(&visit).await;
                    let how_long = match outcome {
                        Outcome::Made(_) => MADE_FOR,
                        Outcome::Refused => REFUSED_FOR,
                        Outcome::Unavailable => UNAVAILABLE_FOR,
                    };
                    let until = inner.common.clock.now().plus(how_long);
                    inner.remembered.insert(name, (outcome.clone(), until));
                    outcome
                })
            })
            .await;
        if !matches!(outcome, Outcome::Refused) {
            self.misses.give_back(client);
        }
        outcome
    }

    /// Whether a session that was made is still there.
    async fn lives(&self, made: &Made) -> bool {
        if made.expires_at <= self.common.clock.now() {
            return false;
        }
        match self.sessions.keeper() {
            // What ended here is known here: the cookie does not count then, whoever brings it.
            Keeper::Cookie => true,
            Keeper::Store => {
                let token = made.token.expose();
                let freshness = Freshness::Cached;
                let seal = self.sessions.signer().seal(token);
                let now = self.common.clock.now();
                let known = self
                    .sessions
                    .recall(&seal, Method::SESSION, freshness, now)
                    .map(|(known, _)| known);
                let known = match known {
                    Some(known) => known,
                    None => {
                        let asked = self.sessions.find(token, Method::SESSION, freshness, None);
                        asked.await.0
                    }
                };
                !matches!(known, Resolution::Rejected(_))
            }
        }
    }

    async fn take_over(&self, visit: &Visit) -> Outcome {
        match self.try_to_take_over(visit).await {
            Ok(Some(made)) => Outcome::Made(Arc::new(made)),
            Ok(None) => Outcome::Refused,
            Err(Outage) => Outcome::Unavailable,
        }
    }

    async fn try_to_take_over(&self, visit: &Visit) -> Result<Option<Made>, Outage> {
        let mut alive = self.read(visit).await?;
        let mut people: Vec<&str> = alive
            .iter()
            .filter_map(|one| one.account.as_ref())
            .map(|account| account.user_id.as_str())
            .collect();
        people.sort_unstable();
        people.dedup();
        if people.len() > 1 {
            self.count("any", Word::Ambiguous.as_str());
            return Ok(None);
        }
        alive.sort_by_key(|one| one.account.is_none());
        let Some(one) = alive.into_iter().next() else {
            return Ok(None);
        };
        let named = match (&one.account, bridge::whose(&one.old)) {
            // By their address, so that everybody takes part in all of the migration or in none of it.
            (Some(account), _) if !account.email.is_empty() => account.email.to_lowercase(),
            (_, Some(By::Source(id) | By::Local(id) | By::Email(id))) => id.to_owned(),
            (_, None) => String::new(),
        };
        let reach = self.common.reach(Mechanism::Bridge, &named);
        if reach == Reach::Off {
            self.count(one.provider, Word::Off.as_str());
            return Ok(None);
        }
        let decided = self.decide(&one).await?;
        match (decided, reach) {
            (Err(word), _) => {
                self.refuse(&one, word);
                Ok(None)
            }
            (Ok(plan), Reach::On) => match self.make(&one, plan, visit).await? {
                Ok(made) => Ok(Some(made)),
                Err(word) => {
                    self.refuse(&one, word);
                    Ok(None)
                }
            },
            (Ok(plan), _) => {
                self.count(one.provider, "shadow");
                tracing::info!(
                    target: "vestibule::audit",
                    event = "bridge",
                    outcome = "shadow",
                    provider = one.provider,
                    user_id = plan.user_id,
                    "an old session would have been taken over"
                );
                Ok(None)
            }
        }
    }

    /// The old sessions that are alive, each with its account.
    async fn read(&self, visit: &Visit) -> Result<Vec<Alive>, Outage> {
        let mut alive = Vec::new();
        let mut outage = false;
        for provider in &self.common.providers {
            let Some(reader) = provider
                .sessions
                .as_ref()
                .filter(|_| visit.concerns(provider))
            else {
                continue;
            };
            let dialogue = reader.read(&visit.presented());
            match self.common.outbound.run(provider.name, dialogue).await {
                Reading::Nothing => {}
                Reading::Refused(why) => self.count(provider.name, why.as_str()),
                Reading::Unavailable(why) => {
                    self.count(provider.name, why.as_str());
                    outage = true;
                }
                Reading::Alive(old) => {
                    let account = self.account(provider.name, &old).await?;
                    alive.push(Alive {
                        provider: provider.name,
                        old,
                        account,
                    });
                }
            }
        }
        if alive.is_empty() && outage {
            return Err(Outage);
        }
        Ok(alive)
    }

    async fn account(
        &self,
        provider: &str,
        old: &OldSession,
    ) -> Result<Option<Account>, AccountsError> {
        let by = match bridge::whose(old) {
            Some(By::Source(id)) => Identifier::Source(provider.to_owned(), id.to_owned()),
            Some(By::Local(id)) => Identifier::UserId(id.to_owned()),
            Some(By::Email(email)) => Identifier::Email(email.to_owned()),
            None => return Ok(None),
        };
        self.common.accounts.find(&by).await
    }

    async fn decide(&self, one: &Alive) -> Result<Result<Plan, Word>, Outage> {
        let accounts = &self.common.accounts;
        let (mut count_from, mut behind) = (None, None);
        if let Some(account) = &one.account {
            count_from = accounts.sessions_count_from(&account.user_id).await?;
            if let Some(id) = one.old.impersonator.as_ref() {
                let by = Identifier::Source(one.provider.to_owned(), id.clone());
                let found = accounts.find(&by).await?;
                behind = found.filter(|admin| !admin.banned);
            }
        }
        let known = Known {
            provider: one.provider,
            old: &one.old,
            account: one.account.as_ref(),
            count_from,
            impersonator: behind.as_ref().map(|admin| admin.user_id.as_str()),
        };
        let now = self.common.clock.now();
        Ok(bridge::decide(known, now, &self.settings.rules))
    }

    async fn make(
        &self,
        one: &Alive,
        plan: Plan,
        visit: &Visit,
    ) -> Result<Result<Made, Word>, Outage> {
        let Some(key) = bridge::key(one.provider, &one.old) else {
            return Ok(Err(Word::Nameless));
        };
        let now = self.common.clock.now();
        let token = letters();
        let session = plan.session(
            id_of(&token),
            token,
            self.addresses.write(visit.client),
            visit.user_agent.clone(),
            self.settings.in_database,
            now,
        );
        let owner = format!("{}:{}", key.provider, key.digest);
        let vault = &self.common.vault;
        let sealed = vault.seal(
            Purpose::Token,
            &owner,
            session.token.expose().as_bytes(),
            self.common.random(),
        );
        // First where the app looks for it: a claim without its session would sign its user out for good, a session without a claim is
        // one whose token nobody has.
        if let Some(beside) = &self.stores.beside {
            match beside.write(&session).await {
                Ok(Written::There) => {}
                Ok(Written::Ended) => return Ok(Err(Word::Outdated)),
                Err(error) => {
                    self.sessions.failed(&error);
                    return Err(Outage);
                }
            }
        }
        let claimed = self.common.accounts.claim(&key, &session, &sealed).await?;
        if !matches!(claimed, Claimed::Made)
            && let Some(beside) = &self.stores.beside
            && let Err(error) = beside.withdraw(&session).await
        {
            self.sessions.failed(&error);
        }
        match claimed {
            Claimed::Made => {
                let seal = self.sessions.signer().seal(session.token.expose());
                self.sessions.cache().issued(seal);
                let made = self.hand_out(key, &session, visit).await?;
                self.count(one.provider, "made");
                let source_id = match bridge::whose(&one.old) {
                    Some(By::Source(id) | By::Local(id)) => id,
                    Some(By::Email(_)) | None => "",
                };
                tracing::info!(
                    target: "vestibule::audit",
                    event = "bridge",
                    outcome = "made",
                    provider = one.provider,
                    source_id,
                    user_id = session.user_id,
                    session_id = session.id,
                    old_session = made.key.digest,
                    expires_at = %date::write(session.expires_at),
                    impersonated_by = session.impersonated_by,
                    "an old session was taken over"
                );
                Ok(Ok(made))
            }
            Claimed::Dead => Ok(Err(Word::SignedOut)),
            Claimed::Before {
                sealed_token,
                expires_at,
            } => {
                // Sealed under another key, or somebody else's: nobody can say any more what it made.
                let opened = vault.open(Purpose::Token, &owner, &sealed_token).ok();
                let token =
                    opened.and_then(|bytes| std::str::from_utf8(&bytes).ok().map(Secret::new));
                let Some(token) = token.filter(|_| now < expires_at) else {
                    return Ok(Err(Word::Spent));
                };
                let session = NewSession {
                    id: id_of(&token),
                    token,
                    expires_at,
                    ..session
                };
                if !self.is_of(&session).await? {
                    return Ok(Err(Word::Spent));
                }
                let made = self.hand_out(key, &session, visit).await?;
                self.count(one.provider, "joined");
                Ok(Ok(made))
            }
        }
    }

    /// Whether the session that somebody else made of the same old one is there, and of the same user.
    async fn is_of(&self, session: &NewSession) -> Result<bool, Outage> {
        if self.sessions.keeper() == Keeper::Cookie {
            return Ok(true);
        }
        let token = session.token.expose();
        // Perhaps a moment ago, on another gateway: the store may lag.
        let cache = self.sessions.cache();
        cache.issued(self.sessions.signer().seal(token));
        let asked = self
            .sessions
            .find(token, Method::SESSION, Freshness::Strict, None);
        match asked.await.0 {
            Resolution::Verified(Who::Known(entry)) => Ok(*entry.user_id() == *session.user_id),
            Resolution::Verified(Who::SignatureOnly)
            | Resolution::Anonymous
            | Resolution::Rejected(_) => Ok(false),
            Resolution::Unavailable => Err(Outage),
        }
    }

    /// The cookies of a session, for the app and for the browser.
    async fn hand_out(
        &self,
        key: OldSessionKey,
        session: &NewSession,
        visit: &Visit,
    ) -> Result<Made, Outage> {
        let now = self.common.clock.now();
        let signer = self.sessions.signer();
        let rest = session.expires_at.since(now).as_secs();
        let lives = |spec: &CookieSpec| {
            let mut spec = spec.clone();
            let age = spec.attributes.max_age;
            spec.attributes.max_age = Some(age.map_or(rest, |age| age.min(rest)));
            spec
        };
        let mut lines = Vec::new();
        if let Some(cache) = &self.cookie_cache {
            lines.extend(self.sealed(cache, session, visit, now).await?);
        }
        let token = signer.issue(session.token.expose());
        lines.push(lives(&self.token).set_cookie(&token));
        if session.impersonated_by.is_some() {
            // The framework extends no session that carries this: somebody who acts for somebody else has an hour, and no more.
            lines.push(lives(&self.marker).set_cookie(&signer.issue("true")));
        }
        let cookies = lines.iter().filter_map(|line| {
            let pair = line.split(';').next()?;
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        let cookies = cookies.collect();
        let lines = lines.into_iter().filter_map(|line| {
            let mut line = HeaderValue::try_from(line).ok()?;
            line.set_sensitive(true);
            Some(line)
        });
        Ok(Made {
            key,
            token: session.token.clone(),
            expires_at: session.expires_at,
            lines: lines.collect(),
            cookies,
        })
    }

    /// The session itself, where the cookie is all there is.
    async fn sealed(
        &self,
        cache: &CookieCache,
        session: &NewSession,
        visit: &Visit,
        now: UnixMs,
    ) -> Result<Vec<String>, Outage> {
        let users = self.stores.users.as_ref().ok_or(Outage)?;
        let user = users.shown(&session.user_id).await.map_err(|error| {
            self.sessions.failed(&error);
            Outage
        })?;
        let document = serde_json::json!({
            "session": {
                "id": session.id,
                "token": session.token.expose(),
                "userId": session.user_id,
                "expiresAt": date::write(session.expires_at),
                "createdAt": date::write(session.created_at),
                "updatedAt": date::write(session.updated_at),
                "ipAddress": session.ip_address,
                "userAgent": session.user_agent,
                "impersonatedBy": session.impersonated_by,
            },
            "user": user.ok_or(Outage)?,
        });
        let said = Payload::of_document(&document.to_string(), session.expires_at, now);
        let mut entropy = Entropy([0; 32]);
        fill(&mut entropy.0);
        let value = said.and_then(|said| cache.seal(&said, Remembered::Yes, now, &entropy));
        let value = value.ok_or(Outage)?;
        // What would not open is no session: the app would remove it.
        let opens = cache.open_value(value.as_bytes(), session.token.expose(), now);
        if let Err(miss) = opens {
            tracing::warn!(
                cause = miss.as_str(),
                "a session that was taken over does not open again"
            );
            return Err(Outage);
        }
        Ok(cache.set_cookies(&value, Remembered::Yes, &visit.headers))
    }

    fn refuse(&self, one: &Alive, word: Word) {
        self.count(one.provider, word.as_str());
        let user_id = one.account.as_ref().map(|account| account.user_id.as_str());
        tracing::info!(
            target: "vestibule::audit",
            event = "bridge",
            outcome = word.as_str(),
            provider = one.provider,
            user_id,
            "an old session was not taken over"
        );
    }

    fn count(&self, provider: &'static str, outcome: &'static str) {
        self.common.metrics.bridged(provider, outcome);
    }

    /// A token from browser storage, handed in by a script of the app's own pages.
    async fn hand_in(
        self: &Arc<Self>,
        request: &RequestView<'_>,
        body: &[u8],
        gate: &Gate,
        request_id: &str,
    ) -> Answer {
        let no = |status: StatusCode, code: &str| {
            let title = status.canonical_reason().unwrap_or("Error");
            respond::problem(status, title, code, request_id)
        };
        let headers = request.headers;
        let origin = headers.get(ORIGIN).and_then(|value| value.to_str().ok());
        let ours = origin.is_some_and(|origin| {
            headers.get_all(ORIGIN).iter().count() == 1
                && bridge::is_our_origin(origin, headers, &self.common.public_url)
        });
        let site = request.header("sec-fetch-site");
        let same_site = site.is_none_or(|site| site == "same-origin");
        if !ours || !same_site || request.header(HEADER) != Some("1") {
            self.count("any", Word::CrossSite.as_str());
            return no(StatusCode::FORBIDDEN, "not_same_origin");
        }
        let kind = headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let essence = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
        if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
            return no(StatusCode::UNSUPPORTED_MEDIA_TYPE, "json_wanted");
        }
        if !self.is_open(self.common.clock.now()) {
            return no(StatusCode::NOT_FOUND, "not_found");
        }
        let only = match provider_in(body) {
            Ok(only) => only,
            Err(()) => return no(StatusCode::BAD_REQUEST, "malformed"),
        };
        let known = |name: &str| {
            let mut providers = self.common.providers.iter();
            providers.any(|provider| provider.name == name && provider.sessions.is_some())
        };
        if only.as_deref().is_some_and(|name| !known(name)) {
            return no(StatusCode::BAD_REQUEST, "unknown_provider");
        }
        let mut said = headers.get_all(AUTHORIZATION).iter();
        let token = match (
            said.next().and_then(|value| value.to_str().ok()),
            said.next(),
        ) {
            (Some(line), None) => bearer(line),
            _ => None,
        };
        let Some(token) = token else {
            return no(StatusCode::UNAUTHORIZED, "bearer_wanted");
        };
        // The token is for the old system: whoever is signed in here has come with cookies.
        let mut without_token = headers.clone();
        without_token.remove(AUTHORIZATION);
        let signed_in = RequestView {
            headers: &without_token,
            ..*request
        };
        match gate.who(&signed_in).await {
            Resolution::Verified(_) => return done(&[]),
            Resolution::Unavailable => return later(no),
            Resolution::Anonymous | Resolution::Rejected(_) => {}
        }
        let visit = self.visit(headers, Some((token, only)), request.client);
        match self.find_out(visit).await {
            Outcome::Made(made) => done(&made.lines),
            Outcome::Refused => no(StatusCode::UNAUTHORIZED, "not_bridged"),
            Outcome::Unavailable => later(no),
        }
    }
}

fn done(lines: &[HeaderValue]) -> Answer {
    let mut answer = respond::text(StatusCode::NO_CONTENT, "");
    answer.headers.retain(|(name, _)| *name != CONTENT_TYPE);
    let lines = lines.iter().map(|line| (SET_COOKIE, line.clone()));
    answer.headers.extend(lines);
    answer
}

fn later(no: impl Fn(StatusCode, &str) -> Answer) -> Answer {
    let mut answer = no(StatusCode::SERVICE_UNAVAILABLE, "unavailable");
    answer.push(RETRY_AFTER, "2");
    answer
}

/// The provider that a body names, if any.
fn provider_in(body: &[u8]) -> Result<Option<String>, ()> {
    if body.is_empty() {
        return Ok(None);
    }
    if body.len() > BODY_BYTES_MAX {
        return Err(());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => match fields.get("provider") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) => Ok(Some(name.clone())),
            Some(_) => Err(()),
        },
        _ => Err(()),
    }
}

fn bearer(line: &str) -> Option<Secret> {
    let (scheme, token) = line.split_once(' ')?;
    let token = token.trim();
    let fits = (1..=BEARER_BYTES_MAX).contains(&token.len());
    (scheme.eq_ignore_ascii_case("bearer") && fits).then(|| Secret::new(token))
}

/// The cookies of a request with others put in the place of those of the same names.
fn with_cookies(headers: &HeaderMap, ours: &[(String, String)]) -> Option<HeaderValue> {
    let mut whole: Vec<u8> = Vec::new();
    let mut add = |name: &[u8], value: &[u8]| {
        if !whole.is_empty() {
            whole.extend_from_slice(b"; ");
        }
        whole.extend_from_slice(name);
        whole.push(b'=');
        whole.extend_from_slice(value);
    };
    for (name, value) in cookies::pairs(headers) {
        if !ours.iter().any(|(replaced, _)| replaced.as_bytes() == name) {
            add(name, value);
        }
    }
    for (name, value) in ours.iter().filter(|(_, value)| !value.is_empty()) {
        add(name.as_bytes(), value.as_bytes());
    }
    let mut value = HeaderValue::from_bytes(&whole).ok()?;
    value.set_sensitive(true);
    Some(value)
}

const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Letters as the framework makes its tokens: every one as likely as any other.
fn letters() -> Secret {
    let mut text = String::with_capacity(ID_LETTERS);
    while text.len() < ID_LETTERS {
        let mut bytes = [0; ID_LETTERS * 2];
        fill(&mut bytes);
        // 248 is the largest multiple of 62 that a byte holds.
        for byte in bytes.into_iter().filter(|byte| *byte < 248) {
            if text.len() < ID_LETTERS
                && let Some(letter) = ALPHABET.get(usize::from(byte % 62))
            {
                text.push(char::from(*letter));
            }
        }
    }
    Secret::new(text)
}

/// The id of the session with this token: where the cookie is the session, every gateway must write the same one.
fn id_of(token: &Secret) -> String {
    let digest = Sha256::new()
        .chain_update(b"vestibule session id\0")
        .chain_update(token.expose())
        .finalize();
    let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 62)).copied();
    digest.iter().filter_map(letter).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_look_like_the_frameworks_own() {
        let one = letters();
        assert_eq!(one.expose().len(), 32);
        assert!(one.expose().bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(one, letters());
        assert_eq!(id_of(&one), id_of(&one));
        assert_eq!(id_of(&one).len(), 32);
        assert_ne!(id_of(&one), one.expose());
    }

    #[test]
    fn cookies_of_ours_take_the_place_of_older_ones_and_leave_the_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; s=old; b=2"));
        headers.append(COOKIE, HeaderValue::from_static("s=older; d.0=x"));
        let ours = [
            ("s".to_owned(), "new".to_owned()),
            ("d.0".to_owned(), String::new()),
        ];
        let line = with_cookies(&headers, &ours).unwrap();
        assert_eq!(line, "a=1; b=2; s=new");
    }

    #[test]
    fn a_body_names_one_provider_or_none() {
        for (body, named) in [
            ("", Ok(None)),
            ("{}", Ok(None)),
            (r#"{"provider":"clerk"}"#, Ok(Some("clerk".to_owned()))),
            (r#"{"provider":7}"#, Err(())),
            ("[]", Err(())),
            ("clerk", Err(())),
        ] {
            assert_eq!(provider_in(body.as_bytes()), named, "{body}");
        }
    }
}
