//! The ground a benchmark stands on: a configuration, a store of its own, gateways, and the credentials that are presented.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::upstream::{ECHO, Upstream};
use crate::api_key::{
    self, ApiKeys, Counters, Found, Row, Taken, Unwritten, Used, Wanted, stored_form,
};
use crate::bench::tier::{Asked, Presents};
use crate::cli::gateway as made;
use crate::cli::{Failure, PROBLEMS, USAGE, World};
use crate::config::{self, Config, Override, Sources};
use crate::credential::cookie_cache::{self, CookieCache, Entropy, Payload, Remembered};
use crate::credential::key_ring::{KeySource, KeysError, Then};
use crate::credential::key_set::{Algorithm, KeySet};
use crate::credential::signature::Signer;
use crate::migration::accounts::NewSession;
use crate::policy::{Conditions, Need, Rule};
use crate::route::{RouteSpec, SourceSpec};
use crate::secret::Secret;
use crate::server::clock::SystemClock;
use crate::server::line;
use crate::server::proxy::Gateway;
use crate::server::run::{self, KeySources};
use crate::server::settings::UpstreamAddress;
use crate::session::carried::{Carried, Told};
use crate::session::{BoxFuture, Freshness, Keeper, Record, Source, SourceError};
use crate::store::{self, scratch};
use crate::time::{Clock, UnixMs};

/// How long scratch sessions live: longer than any run, and short enough that what is left in a Redis after a kill ends by itself.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Sessions that are ended on the way, to see what comes of the next request.
pub(super) const DOOMED: usize = 200;

/// The path that everybody may see and that answers with what it was sent.
pub(super) const OPEN: &str = "/vestibule-bench/open";

/// The host of the configuration that is built in.
const HOST: &str = "bench.test";

/// Letters of a made API key: what the plugin makes.
const KEY_LETTERS: usize = 64;

/// The key of the tokens made here.
const KEY_ID: &str = "vestibule-bench";

// ------------------------------------------------------------------------------------------------------------------- the clock

/// The system's clock, which can be told to stand still or to jump. It reads the system's all the same: that is part of the cost.
#[derive(Default)]
pub(super) struct BenchClock {
    offset_ms: AtomicI64,
    /// Zero: it goes.
    stands_at: AtomicI64,
}

impl BenchClock {
    /// Jumps ahead. `false`: so far that sessions of ours would be over, and it does not.
    pub(super) fn jump(&self, by: Duration) -> bool {
        let most = i64::try_from(LIFE.as_millis() / 2).unwrap_or(i64::MAX);
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let to = self.offset_ms.load(Ordering::SeqCst).saturating_add(by);
        if to > most {
            return false;
        }
        self.offset_ms.store(to, Ordering::SeqCst);
        true
    }

    /// Stands still: nothing grows old while it is measured.
    pub(super) fn stand(&self, still: bool) {
        let at = if still { SystemClock.now().0 } else { 0 };
        self.stands_at.store(at, Ordering::SeqCst);
    }
}

impl Clock for BenchClock {
    fn now(&self) -> UnixMs {
        let goes = SystemClock.now().0;
        let base = match self.stands_at.load(Ordering::Relaxed) {
            0 => goes,
            stands => stands,
        };
        UnixMs(base.saturating_add(self.offset_ms.load(Ordering::Relaxed)))
    }

    fn pause(&self, how_long: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        SystemClock.pause(how_long)
    }
}

// -------------------------------------------------------------------------------------------------------- what counts and pretends

/// A store whose lookups are counted.
pub(super) struct Counted {
    source: Arc<dyn Source>,
    calls: AtomicU64,
}

impl Counted {
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Source for Counted {
    fn name(&self) -> &'static str {
        self.source.name()
    }

    fn find<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.source.find(token)
    }

    fn asks_the_app(&self) -> bool {
        self.source.asks_the_app()
    }

    fn find_for<'a>(
        &'a self,
        token: &'a str,
        carried: &'a Carried,
    ) -> BoxFuture<'a, Result<Option<Told>, SourceError>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.source.find_for(token, carried)
    }

    fn keeper(&self) -> Keeper {
        self.source.keeper()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        self.source.ping()
    }
}

/// API keys that are kept here: no key is written anywhere.
struct OwnKeys(BTreeMap<String, Found>);

impl ApiKeys for OwnKeys {
    fn name(&self) -> &'static str {
        "bench"
    }

    fn find<'a>(&'a self, stored: &'a str) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(std::future::ready(Ok(self.0.get(stored).cloned())))
    }

    fn take<'a>(
        &'a self,
        _id: &'a str,
        wanted: Wanted,
    ) -> BoxFuture<'a, Result<Taken, SourceError>> {
        Box::pin(std::future::ready(Ok(Taken::Uses {
            granted: wanted.uses,
            counters: None,
        })))
    }

    fn write<'a>(
        &'a self,
        _id: &'a str,
        _used: Used,
    ) -> BoxFuture<'a, Result<Option<Counters>, Unwritten>> {
        Box::pin(std::future::ready(Ok(Some(Counters::default()))))
    }

    fn counters<'a>(
        &'a self,
        _id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Counters>, SourceError>> {
        Box::pin(std::future::ready(Ok(Some(Counters::default()))))
    }
}

/// The key of tokens made here, in the place of the app's.
struct OwnKeySet(String);

impl KeySource for OwnKeySet {
    fn name(&self) -> &str {
        "a key of the benchmark's own"
    }

    fn fetch(&self, then: Then) -> futures_util::future::BoxFuture<'static, ()> {
        let parsed = KeySet::parse(self.0.as_bytes(), Some(Algorithm::EdDsa));
        then(parsed.map_err(|error| KeysError::Garbage {
            cause: error.to_string(),
        }));
        std::future::ready(()).boxed()
    }
}

// ------------------------------------------------------------------------------------------------------------------- the ground

/// A folder that is gone when nobody needs it any more.
pub(super) struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!("vestibule-bench-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        // It holds sessions and a log: nobody else's to read.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What everything is measured on.
pub(super) struct Ground {
    pub(super) config: Config,
    /// As given, or `built in`.
    pub(super) file: String,
    pub(super) built_in: bool,
    pub(super) hash: String,
    pub(super) upstream: Upstream,
    pub(super) clock: Arc<BenchClock>,
    pub(super) source: Option<Arc<Counted>>,
    pub(super) scratch: Option<scratch::Scratch>,
    pub(super) live: Vec<Secret>,
    pub(super) doomed: Vec<Secret>,
    pub(super) expired: Option<Secret>,
    /// Whole `Cookie` headers that were given, in the place of sessions of our own.
    pub(super) given: Vec<Secret>,
    pub(super) folder: Folder,
    key: Ed25519KeyPair,
    api_keys: Vec<Secret>,
    /// The last: connections belong to it.
    pub(super) runtime: tokio::runtime::Runtime,
}

/// What a ground is made of.
pub(super) struct Plan<'a> {
    /// The user's own, with the name of its file; else the one built in.
    pub(super) config: Option<(Config, String)>,
    /// Flags over the one built in.
    pub(super) overrides: &'a [Override],
    pub(super) sessions: usize,
    pub(super) given: Vec<Secret>,
    pub(super) allow_write: bool,
    pub(super) answer_bytes: usize,
}

pub(super) fn broken(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure {
        message: format!("{what}: {error}"),
        advice: String::new(),
        code: PROBLEMS,
    }
}

/// The configuration when none is given: the framework's own tables in a file of ours, an app of ours, a secret of ours.
fn built_in(
    upstream: &Upstream,
    source: &Path,
    secret: &str,
    more: &str,
    overrides: &[Override],
    world: &mut World<'_>,
) -> Result<Config, Failure> {
    let text = format!(
        "admin = \"off\"\npublic_url = \"http://{HOST}\"\n{more}\
         better_auth.secret = \"{secret}\"\nupstream.url = \"http://{}\"\nsessions.source = \"sqlite:{}\"\n\
         routes.default = \"signed-in\"\nroutes.sign_in = \"/sign-in\"\n",
        upstream.address,
        source.display()
    );
    let nobody = BTreeMap::new();
    let loaded = config::load(&Sources {
        name: "built in",
        text: &text,
        // Whatever is set here for another gateway is not for this one.
        environment: &nobody,
        overrides,
        read_file: &|path| crate::cli::read_bounded(path, 0),
        route_check: made::check_routes,
        read_build: &|_| Ok(None),
    });
    match loaded {
        Ok(loaded) => Ok(loaded.config),
        Err(problems) => {
            world.complain(&problems.render(world.style()));
            Err(Failure {
                message: "the built-in configuration cannot be used".into(),
                advice: "look at the flags given with `--set`".into(),
                code: USAGE,
            })
        }
    }
}

impl Ground {
    /// Lays it into `slot`, as far as it gets: what was made is to be cleared whatever failed. The runtime is where the store's
    /// connections live.
    pub(super) fn lay(
        wanted: Plan<'_>,
        runtime: tokio::runtime::Runtime,
        slot: &mut Option<Self>,
        world: &mut World<'_>,
    ) -> Result<(), Failure> {
        let folder =
            Folder::new().map_err(|error| broken("no folder for scratch files", &error))?;
        let upstream = Upstream::start(wanted.answer_bytes)
            .map_err(|error| broken("no upstream can be started", &error))?;
        let (mut config, file, built) = match wanted.config {
            Some((config, file)) => (config, file, false),
            None => {
                let secret = token() + &token();
                let path = folder.path().join("scratch.db");
                let config = built_in(&upstream, &path, &secret, "", wanted.overrides, world)?;
                (config, "built in".to_owned(), true)
            }
        };
        let hash = fingerprint(&config, built);
        prepare(&mut config, &upstream)?;
        let place = scratch::Place {
            name: format!(
                "vestibule_bench_{}_{}",
                SystemClock.now().0 / 1000,
                short(&token())
            ),
            folder: folder.path().to_owned(),
        };
        let ground = slot.insert(Self {
            config,
            file,
            built_in: built,
            hash,
            upstream,
            clock: Arc::default(),
            source: None,
            scratch: None,
            live: Vec::new(),
            doomed: Vec::new(),
            expired: None,
            given: wanted.given,
            folder,
            key: new_key().map_err(|error| broken("no key for tokens", &error))?,
            api_keys: Vec::new(),
            runtime,
        });
        ground.api_keys = (0..wanted.sessions.min(100))
            .map(|_| Secret::new(letters(KEY_LETTERS)))
            .collect();
        ground.make_sessions(wanted.sessions, wanted.allow_write, place)
    }

    /// Lets go of everything. The threads of the store may still wait for a database that does not answer.
    pub(super) fn finish(self) {
        let Self {
            runtime, source, ..
        } = self;
        drop(source);
        runtime.shutdown_background();
    }

    fn make_sessions(
        &mut self,
        sessions: usize,
        allow_write: bool,
        place: scratch::Place,
    ) -> Result<(), Failure> {
        let Some(mut settings) = self.config.store.clone() else {
            return Err(made::no_store());
        };
        // A measurement extends nothing.
        settings.extend = false;
        let failed = |error: store::OpenError| made::cannot_open(&error);
        if self.built_in {
            let made = scratch::Scratch::make_file(settings.clone(), self.folder.path());
            settings = self.runtime.block_on(made).map_err(failed)?;
        }
        let is_given = !self.given.is_empty();
        if !is_given && scratch::can_be_made(&settings) {
            if !self.built_in && scratch::writes_beside_the_app(&settings) && !allow_write {
                return Err(Failure {
                    message: "sessions would have to be made on the server that keeps the app's own".into(),
                    advice: "with `--allow-write` a scratch schema, database or prefix is made there and taken away again; or give a session \
                             with `--cookie-file`, and nothing is written"
                        .into(),
                    code: USAGE,
                });
            }
            let made = match self.built_in {
                // The file is ours as it is: a copy of it would be empty too.
                true => scratch::Scratch::adopt(settings.clone(), place).map_err(failed)?,
                false => self
                    .runtime
                    .block_on(scratch::Scratch::beside(&settings, place))
                    .map_err(failed)?,
            };
            settings = made.settings().clone();
            self.scratch = Some(made);
            self.fill(sessions)?;
        }
        let opened = self
            .runtime
            .block_on(store::open(&settings))
            .map_err(failed)?;
        self.source = Some(Arc::new(Counted {
            source: opened,
            calls: AtomicU64::new(0),
        }));
        Ok(())
    }

    fn fill(&mut self, sessions: usize) -> Result<(), Failure> {
        let now = SystemClock.now();
        let ago = |by: Duration| UnixMs(now.0 - i64::try_from(by.as_millis()).unwrap_or_default());
        let new = |expires_at: UnixMs| NewSession {
            id: token(),
            token: Secret::new(token()),
            user_id: token(),
            expires_at,
            created_at: ago(Duration::from_secs(60)),
            updated_at: ago(Duration::from_secs(60)),
            ip_address: "127.0.0.1".into(),
            user_agent: "vestibule bench".into(),
            impersonated_by: None,
            organization_id: None,
            in_database: true,
        };
        let living: Vec<NewSession> = (0..sessions + DOOMED)
            .map(|_| new(now.plus(LIFE)))
            .collect();
        let tokens = living.iter().map(|session| session.token.clone());
        self.live = tokens.clone().take(sessions).collect();
        self.doomed = tokens.skip(sessions).collect();
        let over = new(ago(Duration::from_secs(30)));
        // A Redis keeps nothing that is over.
        let keeps_expired = self.kind() != "redis";
        let mut all = living;
        if keeps_expired {
            self.expired = Some(over.token.clone());
            all.push(over);
        }
        let Some(scratch) = &mut self.scratch else {
            return Ok(());
        };
        let filled = self.runtime.block_on(scratch.fill(all));
        filled.map_err(|error| made::cannot_open(&error))
    }

    /// The kind of store, as its URL names it.
    pub(super) fn kind(&self) -> &'static str {
        let url = self.config.store.as_ref().map(|store| store.url.expose());
        let scheme = url
            .and_then(|url| url.split_once(':'))
            .map(|(scheme, _)| scheme);
        scheme
            .and_then(store::kind_of_scheme)
            .map_or("none", |kind| kind.name)
    }

    /// Takes away what was made.
    pub(super) fn clear(&mut self) -> Result<(), Failure> {
        let Some(scratch) = &mut self.scratch else {
            return Ok(());
        };
        let removed = self.runtime.block_on(scratch.remove());
        let name = scratch.name().to_owned();
        self.scratch = None;
        removed.map_err(|error| Failure {
            message: format!("what was made to be measured is still there: {error}"),
            advice: format!("remove the schema, database or keys named `{name}`"),
            code: PROBLEMS,
        })
    }

    /// Ends the sessions that are doomed, where they are kept.
    pub(super) fn end_doomed(&self) -> Result<(), Failure> {
        let Some(scratch) = &self.scratch else {
            return Ok(());
        };
        let ended = self.runtime.block_on(scratch.end(&self.doomed));
        ended.map_err(|error| made::cannot_open(&error))
    }

    /// A gateway of this configuration; built in, one of an app that has also what is presented.
    pub(super) fn gateway(
        &self,
        presents: Presents,
        world: &mut World<'_>,
    ) -> Result<Fitted, Failure> {
        let mut config = self.config.clone();
        if self.built_in
            && let Some(more) = presents.needs()
        {
            let path = self.folder.path().join("scratch.db");
            let secret = config.secrets.current.expose().to_owned();
            config = built_in(&self.upstream, &path, &secret, &more, &[], world)?;
            prepare(&mut config, &self.upstream)?;
        }
        let source = self.source.clone().ok_or_else(made::no_store)?;
        let keys = match config.authenticator.enabled.contains("jwt")
            || config.authenticator.cookie_cache.is_some()
        {
            true => {
                let set: Arc<dyn KeySource> = Arc::new(OwnKeySet(self.key_set()));
                KeySources {
                    app: Some(set),
                    issuers: BTreeMap::new(),
                }
            }
            false => KeySources::default(),
        };
        // Only the app's own tokens are presented, so nobody else's keys are fetched.
        config.authenticator.jwt.issuers.clear();
        let api_keys = config.api_keys.clone().map(|(settings, _)| {
            let found = self.api_keys.iter().enumerate().map(|(number, key)| {
                let stored = stored_form(key.expose(), settings.hashing);
                (stored, self.api_key(number, &settings))
            });
            let keys: Arc<dyn ApiKeys> = Arc::new(OwnKeys(found.collect()));
            (settings, keys)
        });
        let context = cookie_cache::Context {
            secrets: &config.secrets,
            published: None,
        };
        let cookie_cache = match &config.authenticator.cookie_cache {
            // With keys of the app's, only the app can write one.
            Some(settings) if settings.strategy != cookie_cache::STRATEGY_OF_THE_APP => {
                let cache = CookieCache::new(settings, &config.cookies, &context);
                Some(cache.map_err(|error| broken("the cookie cache", &error))?)
            }
            Some(_) | None => None,
        };
        let strategy = config
            .authenticator
            .cookie_cache
            .clone()
            .map(|cache| cache.strategy);
        let app = &config.authenticator.jwt.app;
        let public = config.server.public_url.clone();
        let issuer = match app.issuer.is_empty() {
            true => public.clone(),
            false => app.issuer.clone(),
        };
        let audience = app.audience.first().cloned().unwrap_or(public);
        let has_tokens = config.authenticator.enabled.contains("jwt");
        let parts = made::parts(config, source, keys, api_keys, line::Settings::default())?;
        let clock: Arc<dyn Clock> = self.clock.clone();
        let gateway = run::assemble(parts, clock).map_err(|error| made::cannot_start(&error))?;
        Ok(Fitted {
            gateway,
            cookie_cache,
            strategy,
            issuer,
            audience,
            has_tokens,
        })
    }

    fn api_key(&self, number: usize, settings: &api_key::Settings) -> Found {
        let now = self.clock.now();
        let row = Row {
            id: format!("key-{number}").into(),
            config_id: Some(settings.config_id.as_str().into()),
            enabled: Some(true),
            expires_at: None,
            created_at: now,
            rate_limited: Some(false),
            rate_window: None,
            rate_max: None,
            refill_interval: None,
            refill_amount: None,
            counters: Counters::default(),
        };
        let mut owner = record(&format!("owner-{number}"), now);
        owner.session_id = row.id.clone();
        owner.expires_at = api_key::FOREVER;
        Found {
            row,
            owner: Some(owner),
        }
    }

    fn key_set(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": KEY_ID, "x": x }] })
            .to_string()
    }

    /// What the app's JWT plugin would issue now.
    fn signed_token(&self, fitted: &Fitted, number: usize) -> String {
        let now = self.clock.now().0 / 1000;
        let claims = json!({
            "id": format!("user-{number}"), "sub": format!("user-{number}"), "jti": token(), "name": "Scratch",
            "email": format!("user-{number}@scratch.invalid"), "emailVerified": true,
            "iat": now, "exp": now + 3600, "iss": fitted.issuer, "aud": fitted.audience,
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({ "alg": "EdDSA", "kid": KEY_ID, "typ": "JWT" });
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }

    /// The host that is asked for.
    pub(super) fn host(&self) -> String {
        let hosts = &self.config.server.hosts;
        let host = hosts.first().map_or(HOST, String::as_str);
        match host.strip_prefix("*.") {
            Some(parent) => format!("bench.{parent}"),
            None => host.to_owned(),
        }
    }

    /// A path of ours under the app's base path.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.config.routes.nextjs.base_path)
    }

    /// A path of ours that answers with what it was sent.
    pub(super) fn echo(&self, path: &str) -> String {
        let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
        self.path(&format!("{folder}{ECHO}"))
    }

    /// How many of these can be told apart; beyond it the same ones come again.
    pub(super) fn distinct(&self, presents: Presents) -> usize {
        match presents {
            Presents::Live if !self.given.is_empty() => self.given.len(),
            Presents::Live | Presents::CookieCache(_) => self.live.len(),
            Presents::Revoked => self.doomed.len(),
            Presents::Nothing => 1,
            Presents::ApiKey => self.api_keys.len(),
            // Made anew each time.
            Presents::Unknown | Presents::Forged | Presents::Token => usize::MAX,
        }
    }

    /// The signed cookie of a session.
    pub(super) fn cookie(&self, token: &str) -> String {
        let name = self.config.cookies.cookie("session_token").name;
        let signer = Signer::new(&self.config.secrets.current);
        format!("{name}={}", signer.issue(token))
    }

    /// The same with a signature that is not ours.
    pub(super) fn forged(&self, token: &str) -> String {
        let name = self.config.cookies.cookie("session_token").name;
        let signer = Signer::new(&Secret::new("the secret of somebody else, long enough"));
        format!("{name}={}", signer.issue(token))
    }

    /// Headers of a browser that presents something. `None`: this ground has nothing of it.
    pub(super) fn headers(
        &self,
        presents: Presents,
        fitted: &Fitted,
        number: usize,
    ) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        let mut put = |name: &str, value: &str| -> Option<()> {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.insert(name, HeaderValue::from_str(value).ok()?);
            Some(())
        };
        for (name, value) in [
            ("accept", "text/html,application/xhtml+xml"),
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101",
            ),
            ("accept-encoding", "gzip, deflate, br"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ] {
            put(name, value)?;
        }
        put("host", &self.host())?;
        let nth = |tokens: &[Secret]| {
            let at = number.checked_rem(tokens.len())?;
            tokens.get(at).map(|token| token.expose().to_owned())
        };
        let among = |cookie: &str| format!("theme=dark; {cookie}; lang=en");
        match presents {
            Presents::Nothing => {}
            Presents::Live if !self.given.is_empty() => put("cookie", &nth(&self.given)?)?,
            Presents::Live => put("cookie", &among(&self.cookie(&nth(&self.live)?)))?,
            Presents::Revoked => put("cookie", &among(&self.cookie(&nth(&self.doomed)?)))?,
            Presents::Unknown => put("cookie", &among(&self.cookie(&token())))?,
            Presents::Forged => put("cookie", &among(&self.forged(&token())))?,
            Presents::CookieCache(strategy) => {
                if fitted.strategy.as_deref() != Some(strategy) {
                    return None;
                }
                let cookie = self.cookie(&nth(&self.live)?);
                let sealed = self.sealed(fitted, number)?;
                put("cookie", &among(&format!("{cookie}; {sealed}")))?;
            }
            Presents::Token if !fitted.has_tokens => return None,
            Presents::Token => {
                let token = self.signed_token(fitted, number);
                put("authorization", &format!("Bearer {token}"))?;
            }
            Presents::ApiKey => {
                let keys = fitted.gateway.api_keys.as_ref()?;
                let name = keys.settings().headers.first()?.as_str().to_owned();
                put(&name, &nth(&self.api_keys)?)?;
            }
        }
        Some(headers)
    }

    /// The cookie cache of a session, as the app would write it now. `None`: the app has none, or one that only it can write.
    fn sealed(&self, fitted: &Fitted, number: usize) -> Option<String> {
        let cache = fitted.cookie_cache.as_ref()?;
        let token = self
            .live
            .get(number.checked_rem(self.live.len())?)?
            .expose();
        let now = self.clock.now();
        let ends = now.plus(LIFE);
        let document = json!({
            "session": { "id": format!("session-{number}"), "token": token, "userId": format!("user-{number}"), "expiresAt": iso(ends)?,
                "createdAt": iso(now)?, "updatedAt": iso(now)?, "ipAddress": "127.0.0.1", "userAgent": "vestibule bench" },
            "user": { "id": format!("user-{number}"), "name": "Scratch", "email": format!("user-{number}@scratch.invalid"),
                "emailVerified": true, "image": null, "createdAt": iso(now)?, "updatedAt": iso(now)? },
        });
        let payload = Payload::of_document(&document.to_string(), ends, now)?;
        let mut entropy = Entropy([0; 32]);
        aws_lc_rs::rand::fill(&mut entropy.0).ok()?;
        let value = cache.seal(&payload, Remembered::Yes, now, &entropy)?;
        let lines = cache.set_cookies(&value, Remembered::Yes, &HeaderMap::new());
        let pairs = lines.iter().filter_map(|line| line.split(';').next());
        Some(pairs.collect::<Vec<_>>().join("; "))
    }
}

/// A gateway, and what belongs to it.
pub(super) struct Fitted {
    pub(super) gateway: Gateway,
    cookie_cache: Option<CookieCache>,
    strategy: Option<String>,
    issuer: String,
    audience: String,
    has_tokens: bool,
}

/// Makes a configuration one to be measured: our routes, our app in the place of every upstream, nothing of the user's touched.
fn prepare(config: &mut Config, upstream: &Upstream) -> Result<(), Failure> {
    let rule = |need: Need, freshness: Freshness| Rule { need, freshness };
    let signed_in = || Need::SignedIn(Conditions::default());
    let open = format!("{OPEN}/:path*");
    for (source, rule) in [
        (Asked::Cached.source(), rule(signed_in(), Freshness::Cached)),
        (
            Asked::Optimistic.source(),
            rule(signed_in(), Freshness::Optimistic),
        ),
        (open.as_str(), rule(Need::Public, Freshness::Cached)),
    ] {
        config.routes.routes.push(RouteSpec {
            sources: vec![SourceSpec {
                source: source.to_owned(),
                locale: true,
                ..SourceSpec::default()
            }],
            methods: Vec::new(),
            hosts: Vec::new(),
            upstream: 0,
            rule,
            app_caches: false,
            line: None,
        });
    }
    for app in &mut config.server.upstreams {
        app.addresses = vec![UpstreamAddress {
            host: upstream.address.ip().to_string(),
            port: upstream.address.port(),
            tls: false,
        }];
        app.health_path = None;
    }
    // What the build serves is not asked for here, and what it does not is not ours to be refused.
    config.build = None;
    config.server.tls = None;
    config.server.admin = None;
    // A measurement moves nobody, extends nothing and writes no log of its own to the terminal.
    config.migration = None;
    config.sliding = None;
    if config.server.upstreams.is_empty() {
        return Err(Failure {
            message: "the configuration has no upstream".into(),
            advice: "run `vestibule check`".into(),
            code: USAGE,
        });
    }
    Ok(())
}

/// SHA-256 over the settings. Secrets print nothing, so none is in it; nor is the port our app happens to have.
fn fingerprint(config: &Config, built_in: bool) -> String {
    let mut config = config.clone();
    config.build = None;
    for app in &mut config.server.upstreams {
        let on_loopback = |address: &UpstreamAddress| address.host == "127.0.0.1" && built_in;
        app.addresses.retain(|address| !on_loopback(address));
    }
    data_encoding::HEXLOWER.encode(&Sha256::digest(format!("{config:?}").as_bytes()))
}

/// 32 letters and digits, as the framework's tokens have.
pub(super) fn token() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn letters(many: usize) -> String {
    let mut text = String::new();
    while text.len() < many {
        text.push_str(&token());
    }
    text.truncate(many);
    text
}

fn short(token: &str) -> &str {
    token.get(..8).unwrap_or(token)
}

fn iso(at: UnixMs) -> Option<String> {
    let at = chrono::DateTime::from_timestamp_millis(at.0)?;
    Some(at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

fn new_key() -> Result<Ed25519KeyPair, aws_lc_rs::error::Unspecified> {
    Ed25519KeyPair::generate()
}

fn record(user: &str, now: UnixMs) -> Record {
    Record {
        session_id: "".into(),
        token: Secret::new(""),
        expires_at: now.plus(LIFE),
        created_at: None,
        updated_at: None,
        impersonated_by: None,
        organization_id: None,
        organization_role: None,
        user_id: user.into(),
        email: Some(format!("{user}@scratch.invalid").into()),
        email_verified: true,
        name: Some("Scratch".into()),
        role: None,
        banned: false,
        ban_expires: None,
        team_id: None,
        document: None,
    }
}
