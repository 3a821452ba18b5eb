//! The migration on the way of a request: what passes the auth endpoints is looked at by those of its mechanisms it concerns, and a live
//! session of the old system is taken over at first contact.
//!
//! The core (`crate::migration`) decides; what is here asks databases, old systems and the app, and waits.

pub mod audit;
pub mod bans;
pub mod bridge;
pub mod farewell;
pub mod limits;
pub mod outbound;
pub mod passage;
pub mod pool;
pub mod reset;
mod seam;
pub mod second_factor;
pub mod sign_in;
pub mod sign_up;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::respond::Answer;
use crate::credential::cookie_cache::CookieCache;
use crate::credential::{names, secrets};
use crate::gate::Gate;
use crate::kind::Kind;
use crate::migration::accounts::Accounts;
use crate::migration::control::{self, Mechanism as Word, Reach};
use crate::migration::dialogue::OldStore;
use crate::migration::limits as budgets;
use crate::migration::origin;
use crate::migration::provider::{Build, Check, Fields, Sessions};
use crate::migration::vault::Vault;
use crate::request::RequestView;
use crate::secret::Secret;
use crate::session::resolve;
use crate::store;
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;

/// What the operator wants of the migration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For whom and when.
    pub control: control::Settings,
    /// Where accounts are written: the app's own database.
    pub database: store::Settings,
    /// What old hashes are sealed under.
    pub key: Secret,
    /// The old systems, in the order of the file.
    pub providers: Vec<Configured>,
    /// Threads for hashing.
    pub pool: pool::Settings,
    /// Sign-ins.
    pub sign_in: sign_in::Settings,
    /// Where sign-ins may come from.
    pub origins: origin::Settings,
    /// How often they may fail.
    pub limits: budgets::Settings,
    /// Sessions of theirs that are still alive.
    pub bridge: bridge::Settings,
    /// New accounts meanwhile.
    pub sign_up: crate::migration::sign_up::Settings,
    /// How the app's two-factor plugin is configured.
    pub second_factor: second_factor::Settings,
}

/// One old system as it was configured.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Which.
    pub kind: &'static Kind<Build>,
    /// Its table.
    pub fields: Fields,
}

/// What the migration is made of.
pub struct Parts {
    /// What the operator wants.
    pub settings: Settings,
    /// Accounts, opened for writing.
    pub accounts: Arc<dyn Accounts>,
    /// Counts of sign-ins that gateways share, where they do.
    pub shared_limits: Option<Arc<dyn budgets::Shared>>,
    /// The runtime on which connections to databases, old systems and the app live.
    pub home: tokio::runtime::Handle,
    /// The old systems' own tables, where the operator names them.
    pub old: Option<Arc<dyn OldStore>>,
    /// What the bridge stands on.
    pub stores: bridge::Stores,
    /// Where the app's Better Auth is, its base path included: for what the gateway asks it itself.
    pub app: Vec<url::Url>,
}

/// What is already there when the migration is built.
pub struct Around<'a> {
    /// Better Auth's base path.
    pub auth_base_path: &'a str,
    /// The origin browsers see.
    pub public_url: &'a str,
    /// What the app's cookies are called.
    pub cookies: &'a names::Settings,
    /// What it signs with.
    pub secrets: &'a secrets::Settings,
    /// Who knows sessions.
    pub sessions: &'a Arc<resolve::Sessions>,
    /// The app's cookie cache, where it has one.
    pub cookie_cache: Option<&'a Arc<CookieCache>>,
    /// The time.
    pub clock: &'a Arc<dyn Clock>,
    /// Counts.
    pub metrics: &'a Arc<Metrics>,
}

/// Builds the migration.
///
/// # Errors
/// Says which provider lacks what.
pub fn build(parts: Parts, around: &Around<'_>) -> Result<Migration, String> {
    let mut providers = Vec::new();
    for configured in &parts.settings.providers {
        let (name, build) = (configured.kind.name, &configured.kind.build);
        let said = |error: String| format!("from.{name}: {error}");
        let check = build.check.map(|check| check(&configured.fields));
        let sessions = build.sessions.map(|sessions| sessions(&configured.fields));
        providers.push(Provider {
            name,
            check: check.transpose().map_err(said)?.flatten(),
            sessions: sessions.transpose().map_err(said)?.flatten(),
        });
    }
    let systems = providers.iter().map(|provider| {
        let check = provider.check.as_deref();
        (provider.name, check.map(Check::overall))
    });
    let outbound = outbound::Outbound::new(
        systems,
        parts.old,
        parts.home.clone(),
        Arc::clone(around.clock),
        Arc::clone(around.metrics),
    )?;
    let limits = limits::Limits::new(limits::Parts {
        settings: parts.settings.limits,
        key: &parts.settings.key,
        shared: parts.shared_limits,
        cookies: around.cookies,
        auth_base_path: around.auth_base_path,
        home: parts.home.clone(),
        clock: Arc::clone(around.clock),
        metrics: Arc::clone(around.metrics),
    });
    let common = Arc::new(Common {
        outbound: Arc::new(outbound),
        control: parts.settings.control,
        origins: parts.settings.origins,
        limits,
        second_factor: parts.settings.second_factor,
        pending: second_factor::Pending::default(),
        accounts: parts.accounts,
        vault: Vault::new(&parts.settings.key),
        providers,
        auth_base_path: around.auth_base_path.to_owned(),
        public_url: around.public_url.to_owned(),
        cookies: around.cookies.clone(),
        secrets: around.secrets.clone(),
        clock: Arc::clone(around.clock),
        metrics: Arc::clone(around.metrics),
        pool: pool::Pool::new(parts.settings.pool, Arc::clone(around.metrics))
            .map_err(|error| format!("the system gives no threads for hashing: {error}"))?,
    });
    let factors = second_factor::SecondFactor::new(
        Arc::clone(&common),
        parts.app.clone(),
        parts.home.clone(),
    )?;
    let resets = match &parts.settings.sign_in.reset {
        None => None,
        Some(settings) => {
            let desk = reset::Desk {
                app: parts.app,
                public_url: around.public_url.to_owned(),
                accounts: Arc::clone(&common.accounts),
                clock: Arc::clone(around.clock),
                metrics: Arc::clone(around.metrics),
            };
            Some(reset::Resets::new(settings, desk, &parts.home)?)
        }
    };
    let sign_in = sign_in::SignIn::new(
        Arc::clone(&common),
        parts.settings.sign_in,
        resets,
        parts.home.clone(),
    );
    let mut mechanisms: Vec<Box<dyn Mechanism>> = vec![Box::new(sign_in), Box::new(factors)];
    let bridge = bridge::Bridge::new(&common, parts.settings.bridge, parts.stores, around);
    if let Some(bridge) = &bridge {
        mechanisms.push(Box::new(bridge.farewell()));
    }
    let sign_up = sign_up::SignUp::new(
        parts.settings.sign_up,
        Arc::clone(&common),
        parts.home.clone(),
    );
    mechanisms.push(Box::new(sign_up));
    Ok(Migration {
        mechanisms,
        arrivals: bridge.map(|bridge| Box::new(bridge) as Box<dyn Arrivals>),
        common,
    })
}

/// One old system, ready to be asked.
pub struct Provider {
    /// Its name.
    pub name: &'static str,
    /// Checks passwords there, where that is configured.
    pub check: Option<Box<dyn Check>>,
    /// Reads its sessions, where that is configured.
    pub sessions: Option<Box<dyn Sessions>>,
}

/// What every mechanism works with.
pub struct Common {
    /// For whom and when.
    pub control: control::Settings,
    /// Where sign-ins may come from.
    pub origins: origin::Settings,
    /// How often they may fail.
    pub limits: Arc<limits::Limits>,
    /// How the app's two-factor plugin is configured.
    pub second_factor: second_factor::Settings,
    /// What old systems want back with a code.
    pub pending: second_factor::Pending,
    /// Accounts, and what is kept beside them.
    pub accounts: Arc<dyn Accounts>,
    /// Seals what is kept.
    pub vault: Vault,
    /// The old systems.
    pub providers: Vec<Provider>,
    /// Asks them.
    pub outbound: Arc<outbound::Outbound>,
    /// Better Auth's base path.
    pub auth_base_path: String,
    /// The origin browsers see.
    pub public_url: String,
    /// What the app's cookies are called.
    pub cookies: names::Settings,
    /// What it signs with.
    pub secrets: secrets::Settings,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Threads for hashing.
    pub pool: pool::Pool,
}

impl Common {
    /// How far a mechanism goes for an account now.
    pub fn reach(&self, mechanism: Word, account: &str) -> Reach {
        self.control.reach(mechanism, account, self.clock.now())
    }

    /// Whether Better Auth itself would let a request through to its endpoint. `body`: its fields, where it is an object.
    ///
    /// # Errors
    /// With what it would refuse it: the request then passes to the app untouched.
    pub fn would_pass(
        &self,
        posted: &Posted<'_>,
        body: Option<&serde_json::Map<String, serde_json::Value>>,
    ) -> Result<(), origin::Code> {
        let query = posted.request.target.query().unwrap_or_default();
        let mut fields = url::form_urlencoded::parse(query.as_bytes());
        let callback = fields.find(|(name, _)| name == "callbackURL");
        let asked = origin::Asked {
            method: posted.request.method,
            endpoint: posted.endpoint,
            headers: posted.request.headers,
            callback: callback.as_ref().map(|(_, address)| &**address),
            body,
            own: &self.public_url,
        };
        origin::would_pass(&asked, &self.origins)
    }

    /// The name of an old system as the metrics know it.
    pub fn named(&self, provider: &str) -> &'static str {
        let mut providers = self.providers.iter();
        let found = providers.find(|known| known.name == provider);
        found.map_or("any", |known| known.name)
    }

    /// Bytes nobody can guess.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        fill(&mut bytes);
        bytes
    }
}

/// Fills a buffer with bytes nobody can guess.
pub fn fill(bytes: &mut [u8]) {
    // The system's generator fails only before it was ever seeded; whoever goes on then would hand out guessable secrets.
    if aws_lc_rs::rand::fill(bytes).is_err() {
        std::process::abort();
    }
}

/// A POST to one of Better Auth's endpoints, with its body.
#[derive(Clone, Copy)]
pub struct Posted<'r> {
    /// The request.
    pub request: &'r RequestView<'r>,
    /// Its path below the base path: `/sign-in/email`.
    pub endpoint: &'r str,
    /// The whole body; at most 60 KiB.
    pub body: &'r Bytes,
    /// The client's own address.
    pub client: IpAddr,
    /// The id of the request, for answers and logs.
    pub request_id: &'r str,
    /// Who judges: for whose session the request brings.
    pub gate: &'r Gate,
}

/// What becomes of it.
pub enum Course {
    /// It goes on as it came, and so does the app's answer.
    Pass,
    /// We answer it.
    Answer(Answer),
    /// It goes on.
    Forward {
        /// With this body in place of its own.
        body: Option<Bytes>,
        /// And this hears the app's answer first.
        after: Option<Box<dyn After>>,
    },
}

/// Hears the app's answer to a request that was let through.
pub trait After: Send + Sync {
    /// The app has answered with this head. What is given is sent in its place. May wait.
    fn answered<'a>(
        &'a mut self,
        status: StatusCode,
        headers: &'a HeaderMap,
    ) -> BoxFuture<'a, Option<Answer>>;

    /// `Set-Cookie` lines the answer is to carry besides its own. Asked once, after [`Self::answered`].
    fn owes(&mut self) -> Vec<HeaderValue> {
        Vec::new()
    }

    /// Headers the answer is to carry besides its own, in place of any of the same name. Asked once, after [`Self::answered`].
    fn adds(&mut self) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }

    /// Whether the body of the answer is to be read along: at most 60 KiB of it.
    fn reads(&self) -> bool {
        false
    }

    /// The answer is through, with its body as far as it was read along. Must not wait: what takes time is spawned.
    fn finished(&mut self, _body: &[u8]) {}
}

/// One mechanism at the auth endpoints.
pub trait Mechanism: Send + Sync {
    /// Whether a POST to this endpoint, below the base path, concerns it.
    fn concerns(&self, endpoint: &str) -> bool;

    /// Whether nothing may pass unseen: a body that is too long to be held is refused then.
    fn insists(&self, _endpoint: &str) -> bool {
        false
    }

    /// What becomes of the request.
    fn course<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Course>;
}

/// A live session of the old system, at first contact.
pub trait Arrivals: Send + Sync {
    /// Whether a request brings anything of an old system: names of cookies are compared, and no more.
    fn concerns(&self, headers: &HeaderMap) -> bool;

    /// Takes the old session over, where the request has no valid session of ours.
    fn arrive<'a>(
        &'a self,
        request: &'a RequestView<'a>,
        gate: &'a Gate,
    ) -> BoxFuture<'a, Option<Arrival>>;

    /// Answers a script of the app that hands in a token from browser storage.
    fn hand_in<'a>(
        &'a self,
        request: &'a RequestView<'a>,
        body: &'a [u8],
        gate: &'a Gate,
        request_id: &'a str,
    ) -> BoxFuture<'a, Answer>;
}

/// A session that was taken over, or cookies that must go.
#[derive(Debug, Default)]
pub struct Arrival {
    /// The `Cookie` header the request goes on with.
    pub cookie: Option<HeaderValue>,
    /// `Set-Cookie` lines for the answer.
    pub set: Vec<HeaderValue>,
    /// It could not be found out whether the old session lives: whoever would be sent to sign in is told to try again instead.
    pub unavailable: bool,
}

/// The migration.
pub struct Migration {
    /// What passes the auth endpoints, in this order.
    pub mechanisms: Vec<Box<dyn Mechanism>>,
    /// What arrives with an old session.
    pub arrivals: Option<Box<dyn Arrivals>>,
    /// What they work with.
    pub common: Arc<Common>,
}

impl Migration {
    /// Whether a POST to this endpoint is to be held.
    pub fn concerns(&self, endpoint: &str) -> bool {
        self.mechanisms.iter().any(|each| each.concerns(endpoint))
    }

    /// Whether a POST to this endpoint must not pass unseen.
    pub fn insists(&self, endpoint: &str) -> bool {
        let mut concerned = self
            .mechanisms
            .iter()
            .filter(|each| each.concerns(endpoint));
        concerned.any(|each| each.insists(endpoint))
    }

    /// What becomes of a request: the mechanisms in their order, until one answers. Each gets the body as the one before left it.
    pub async fn course(
        &self,
        posted: Posted<'_>,
    ) -> (Result<Option<Bytes>, Answer>, Vec<Box<dyn After>>) {
        let mut body: Option<Bytes> = None;
        let mut heard = Vec::new();
        for each in self
            .mechanisms
            .iter()
            .filter(|each| each.concerns(posted.endpoint))
        {
            let now = body.clone();
            let posted = Posted {
                body: now.as_ref().unwrap_or(posted.body),
                ..posted
            };
            match each.course(posted).await {
                Course::Pass => {}
                Course::Answer(answer) => return (Err(answer), heard),
                Course::Forward { body: other, after } => {
                    body = other.or(body);
                    heard.extend(after);
                }
            }
        }
        (Ok(body), heard)
    }
}
