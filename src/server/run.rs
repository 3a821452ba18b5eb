//! Start, run, stop.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{
    ExecutionPhase, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
};
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service;
use tokio::sync::watch;

use super::admin::Admin;
use super::build;
use super::door::{self, Door};
use super::doubt::Doubt;
use super::kept;
use super::line::{self, Line};
use super::migration;
use super::outage::Outage;
use super::plain::Plain;
use super::proxy::{Gateway, Shared};
use super::renew::Renewer;
use super::respond::{Responder, SessionCookies};
use super::settings::Settings;
use super::slide::{self, Slider};
use super::streams::sweep::Sweeping;
use super::streams::{Endable, Streams};
use super::tls;
use super::upstream::App;
use crate::api_key::keys::{Keys, WRITE_EVERY};
use crate::api_key::{self, ApiKeys};
use crate::credential::cookie_cache::{self, CookieCache, Published};
use crate::credential::key_ring::{KeyRing, KeyRings, KeySource, OnFetch};
use crate::credential::{names, secrets, signature::Signer};
use crate::gate::Gate;
use crate::identity::{self, Identity, IdentityError};
use crate::policy::redirect;
use crate::route::RouteTable;
use crate::session::{self, Keeper, Source, resolve};
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;
use crate::{authenticator, client_ip, telemetry};

/// How long nothing must be in flight before a stop ends: a request may be between two phases.
const QUIET: Duration = Duration::from_millis(100);

/// How often a stop looks whether everything has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a stop waits for the uses of API keys to be written. The store answers or fails within its own deadline, twice.
const WRITE_AT_STOP_WITHIN: Duration = Duration::from_secs(5);

/// How long a stop waits for the other gateways to be told of what ended here. A line that is down must not keep us.
const TELL_AT_STOP_WITHIN: Duration = Duration::from_secs(2);

/// How long a start waits for the apps' names to resolve. Longer, and whoever started us takes us for stuck.
const FIND_WITHIN: Duration = Duration::from_secs(2);

/// What a gateway is made of.
pub struct Parts {
    /// Listeners, upstreams, limits, timeouts.
    pub server: Settings,
    /// Which route a request asks for.
    pub routes: RouteTable,
    /// Better Auth's base path.
    pub auth_base_path: String,
    /// What the cookies are called.
    pub cookies: names::Settings,
    /// What the app signs and seals with.
    pub secrets: secrets::Settings,
    /// Which kinds of credential the app has.
    pub authenticator: authenticator::Settings,
    /// What sessions may cost.
    pub sessions: session::Settings,
    /// Where sessions are kept.
    pub source: Arc<dyn Source>,
    /// How the app's API keys are set up, and where they are kept; none unless they are accepted.
    pub api_keys: Option<(api_key::Settings, Arc<dyn ApiKeys>)>,
    /// Where the keys of tokens are published.
    pub keys: KeySources,
    /// How revocations travel.
    pub revocation: line::Settings,
    /// Where people are sent.
    pub pages: redirect::Settings,
    /// How the app is told.
    pub identity: identity::Settings,
    /// How sessions that are due are extended; none where nobody is to.
    pub sliding: Option<slide::Settings>,
    /// When `get-session` is answered at the door; none where it never is.
    pub door: Option<door::Settings>,
    /// What is logged.
    pub telemetry: telemetry::Settings,
    /// How users are moved in; none where nobody is to be.
    pub migration: Option<migration::Parts>,
    /// The app's folder, where its build is looked at again; none where what it serves is not known.
    pub app_folder: Option<PathBuf>,
}

/// Where the keys of tokens are published.
#[derive(Clone, Default)]
pub struct KeySources {
    /// The app's own.
    pub app: Option<Arc<dyn KeySource>>,
    /// Those of other issuers, by their names in the configuration.
    pub issuers: BTreeMap<String, Arc<dyn KeySource>>,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else listens there, or the address is not ours.
    #[error("`{key}`: cannot listen on {address}: {cause}")]
    Listen {
        /// The key in the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's words.
        cause: std::io::Error,
    },
    /// Certificate or key are no good.
    #[error("{cause}")]
    Tls {
        /// What is wrong.
        cause: String,
    },
    /// The app cannot be told who is calling.
    #[error("`identity`: {0}")]
    Identity(#[from] IdentityError),
    /// The migration does not fit together.
    #[error("`migration`: {0}")]
    Migration(String),
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

impl StartError {
    /// The operator's next step.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Listen { cause, .. } if cause.kind() == std::io::ErrorKind::AddrInUse => {
                "stop what listens there, or choose another port"
            }
            Self::Listen { cause, .. } if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                "choose a port from 1024 on, or grant the right to listen on low ports"
            }
            Self::Listen { .. } => "choose an address of this machine",
            Self::Tls { .. } => "point `tls.cert` and `tls.key` at a PEM chain and its PEM key",
            Self::Identity(error) => error.advice(),
            Self::Migration(_) => {
                "see `[migration]` in config/vestibule.toml, and docs/migration.md"
            }
            Self::Internal(_) => "this is a defect of Vestibule: please report it",
        }
    }

    /// Whether something outside is missing (exit 3) rather than the configuration wrong (exit 2).
    pub const fn is_dependency(&self) -> bool {
        matches!(self, Self::Listen { .. })
    }
}

/// Builds the gateway, without listening.
///
/// # Errors
/// When the identity key does not work, or by a defect.
pub fn assemble(parts: Parts, clock: Arc<dyn Clock>) -> Result<Gateway, StartError> {
    let metrics =
        Arc::new(Metrics::new().map_err(|error| StartError::Internal(error.to_string()))?);
    let counted = Arc::clone(&metrics);
    let told = Outage::default();
    let sessions = resolve::Sessions::new(
        &parts.sessions,
        Signer::new(&parts.secrets.current),
        parts.source,
        Arc::clone(&clock),
        Box::new(move |error| {
            counted.source_failed(error.as_str());
            told.tell(error, "sessions cannot be looked up");
        }),
    );
    let sessions = Arc::new(sessions);
    let key_rings = key_rings(parts.keys, &parts.authenticator.jwt, &clock, &metrics);
    let published = key_rings.app.as_ref().map(|keys| Published {
        keys: Arc::clone(keys),
        issuer: parts.cookies.base_url.as_deref().and_then(origin),
    });
    let cookie_cache = match &parts.authenticator.cookie_cache {
        None => None,
        Some(settings) => {
            let context = cookie_cache::Context {
                secrets: &parts.secrets,
                published,
            };
            let cache = CookieCache::new(settings, &parts.cookies, &context);
            Some(Arc::new(cache.map_err(StartError::Internal)?))
        }
    };
    let api_keys = parts.api_keys.map(|(settings, store)| {
        let guesses = parts.authenticator.guesses.limiter();
        let sessions = Arc::clone(&sessions);
        Keys::new(settings, sessions, &parts.sessions, guesses, store)
    });
    let context = authenticator::Context {
        api_keys: api_keys.as_ref(),
        settings: &parts.authenticator,
        cookies: &parts.cookies,
        secrets: &parts.secrets,
        sessions: &sessions,
        cookie_cache: cookie_cache.as_ref(),
        key_rings: &key_rings,
        clock: &clock,
    };
    let authenticators = authenticator::build(&context);
    let renewer = cookie_cache
        .clone()
        .filter(|_| sessions.keeper() == Keeper::Cookie)
        .map(|cache| Renewer::new(cache, &parts.cookies));
    let door = parts.door.map(|settings| {
        let public_url = &parts.server.public_url;
        Door::new(settings, &parts.auth_base_path, &parts.cookies, public_url)
    });
    let migrated_cache = cookie_cache.clone();
    let slider = parts.sliding.map(|settings| {
        let (clock, metrics) = (Arc::clone(&clock), Arc::clone(&metrics));
        Slider::new(
            settings,
            &parts.cookies,
            cookie_cache,
            parts.sessions.cache_ttl,
            clock,
            metrics,
        )
    });
    let line = Line::new(
        &parts.revocation,
        Arc::clone(&sessions),
        Arc::clone(&clock),
        Arc::clone(&metrics),
    );
    let migration = match parts.migration {
        None => None,
        Some(given) => {
            let around = migration::Around {
                auth_base_path: &parts.auth_base_path,
                public_url: &parts.server.public_url,
                cookies: &parts.cookies,
                secrets: &parts.secrets,
                sessions: &sessions,
                cookie_cache: migrated_cache.as_ref(),
                clock: &clock,
                metrics: &metrics,
            };
            Some(migration::build(given, &around).map_err(StartError::Migration)?)
        }
    };
    let streams = Arc::new(Streams::default());
    let touched = Arc::clone(&streams);
    sessions
        .cache()
        .set_witness(Box::new(move |what| touched.touch(what)));
    if let Some(app) = parts.routes.app() {
        metrics.build_known(&app.build_id);
    }
    Ok(Gateway {
        app_folder: parts.app_folder,
        api_keys,
        identity: Identity::new(
            &parts.identity,
            &parts.secrets.current,
            &parts.secrets.older,
        )?,
        gate: Gate {
            routes: parts.routes,
            authenticators,
            fall_through: parts.authenticator.fall_through,
            sessions,
            clock,
        },
        responder: Responder {
            pages: parts.pages,
            session_cookies: SessionCookies::new(&parts.cookies),
            cors_origins: parts.server.cors_origins.clone(),
        },
        apps: parts
            .server
            .upstreams
            .iter()
            .map(|upstream| {
                let most = parts.server.limits.connections_idle;
                App::new(upstream, &parts.server.timeouts, most)
            })
            .collect(),
        auth_base_path: parts.auth_base_path,
        renewer,
        slider,
        door,
        migration,
        believed: client_ip::Settings {
            trusted: parts.server.trusted_proxies.clone(),
            ipv6_bits: 128,
            ..client_ip::Settings::default()
        },
        settings: parts.server,
        line: Arc::new(line),
        streams,
        recheck: parts.revocation.recheck,
        metrics,
        doubt: Doubt::default(),
        warned_of_rounds: super::rounds::Warned::default(),
        access_log: parts.telemetry.access,
        seed: RandomState::new().hash_one("seed"),
        drawn: AtomicU64::new(0),
    })
}

/// The keys of every issuer, with somebody who tells the operator what became of fetching them.
fn key_rings(
    sources: KeySources,
    settings: &authenticator::jwt::Settings,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> KeyRings {
    let counted = Arc::clone(metrics);
    let on_fetch: OnFetch = Arc::new(move |place, fetched| match fetched {
        Ok(keys) => {
            counted.keys_fetched("fetched");
            tracing::debug!(place, keys, "keys fetched");
        }
        Err(error) => {
            counted.keys_fetched(error.as_str());
            tracing::warn!(
                place,
                cause = error.as_str(),
                advice = error.advice(),
                "keys of tokens cannot be fetched: {error}"
            );
        }
    });
    let ring = |source| {
        let (clock, told) = (Arc::clone(clock), Arc::clone(&on_fetch));
        Arc::new(KeyRing::new(source, clock, settings.refetch, told))
    };
    KeyRings {
        app: sources.app.map(ring),
        issuers: sources
            .issuers
            .into_iter()
            .map(|(name, source)| (name, ring(source)))
            .collect(),
    }
}

/// The origin of an address, as the framework names itself.
fn origin(url: &str) -> Option<String> {
    Some(url::Url::parse(url).ok()?.origin().ascii_serialization())
}

/// A gateway that runs.
pub struct Running {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    stopping: Arc<AtomicBool>,
    stop: watch::Sender<Stop>,
    hang_up: watch::Sender<Stop>,
    stop_within: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    Gently,
    Now,
}

/// Starts listening. Returns once connections are accepted.
///
/// # Errors
/// When an address cannot be listened on, or the certificate is no good.
pub fn start(gateway: Gateway) -> Result<Running, StartError> {
    let settings = gateway.settings.clone();
    // All of them at once: one address given twice is taken when its second turn comes.
    let mut tried = Vec::new();
    for address in &settings.listen {
        tried.push(try_listening("listen", *address)?);
    }
    if let Some(address) = settings.admin {
        tried.push(try_listening("admin", address)?);
    }
    drop(tried);

    find_apps(&gateway.apps);
    let gateway = Arc::new(gateway);
    let stopping = Arc::new(AtomicBool::new(false));
    let (stop, stopped) = watch::channel(Stop::No);
    let threads = settings
        .threads
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let mut server = pingora(ServerConf {
        threads,
        upstream_keepalive_pool_size: settings.limits.connections_idle,
        max_retries: super::upstream::ATTEMPTS_MAX,
        ..conf(&settings)
    });

    let proxy = http_proxy(&server.configuration, Shared(Arc::clone(&gateway)));
    let mut service = Service::new(
        "proxy".into(),
        Plain::new(Arc::clone(&gateway), Arc::new(Endable(Arc::new(proxy)))),
    );
    for address in &settings.listen {
        match &settings.tls {
            // Heads and bodies are read in large pieces already: a buffer below would only copy them, and take 64 KiB a connection.
            None => service.add_listener(
                ListenerConfig::tcp(address.to_string())
                    .l4_buffer(L4BufferSettings::default().read(0)),
            ),
            Some(files) => {
                service.add_tls_with_settings(
                    &address.to_string(),
                    None,
                    tls::listener(files).map_err(|cause| StartError::Tls { cause })?,
                );
            }
        }
    }
    let proxy = server.add_service(service);
    let mut tended: Vec<Tended> = Vec::new();
    for app in &gateway.apps {
        tended.push(app.balancer());
    }
    if let Some(keys) = &gateway.api_keys {
        tended.push(Arc::new(Counting(keys.clone())));
    }
    tended.push(Arc::new(Sweeping(Arc::clone(&gateway))));
    tended.push(Arc::new(Tidying(Arc::clone(&gateway))));
    if let Some(folder) = &gateway.app_folder {
        tended.push(Arc::new(Watching {
            gateway: Arc::clone(&gateway),
            folder: folder.clone(),
        }));
    }
    // Listening waits until the upstreams' names were asked for once: the first request finds an address.
    proxy.add_dependency(server.add_service(background_service("beside", Beside(tended))));
    run(server, stopped)?;
    // Not of the server, because it stays while that stops: `/readyz` says so, `/metrics` shows how far it is.
    let (hang_up, hung_up) = watch::channel(Stop::No);
    let admin = settings.admin.map(|address| Admin {
        gateway: Arc::clone(&gateway),
        address,
        token: settings.admin_token.clone(),
        stopping: Arc::clone(&stopping),
    });
    stay(Arc::clone(&gateway.line), admin, hung_up)?;
    for address in settings.listen.iter().chain(&settings.admin) {
        await_accepting(*address)?;
    }
    Ok(Running {
        gateway,
        stopping,
        stop,
        hang_up,
        stop_within: settings.timeouts.stop,
    })
}

/// Listens on the line and answers on the admin listener, on a thread of its own, however busy the proxy and the store are, until the
/// gateway has stopped or is gone.
fn stay(
    line: Arc<Line>,
    admin: Option<Admin>,
    mut hung_up: watch::Receiver<Stop>,
) -> Result<(), StartError> {
    let has_line = line.state().is_some();
    if !has_line && admin.is_none() {
        return Ok(());
    }
    let listener = match &admin {
        Some(admin) => {
            let listener = try_listening("admin", admin.address)?;
            let set = listener.set_nonblocking(true);
            set.map_err(|cause| StartError::Internal(cause.to_string()))?;
            Some(listener)
        }
        None => None,
    };
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        runtime.block_on(async {
            // Tasks of their own: a defect in one does not end the other.
            let holding = tokio::spawn(async move {
                if has_line {
                    line.run().await;
                }
            });
            let answering = tokio::spawn(async move {
                if let Some((admin, listener)) = admin.zip(listener) {
                    admin.listen(listener).await;
                }
            });
            tokio::select! {
                _ = hung_up.wait_for(|stop| *stop != Stop::No) => {}
                _ = futures_util::future::join(holding, answering) => {}
            }
        });
        // A connection that hangs must not keep us.
        runtime.shutdown_background();
    });
    Ok(())
}

fn conf(settings: &Settings) -> ServerConf {
    // In whole seconds, so rounded up: nothing is cut before its time. Our own wait ends as soon as nothing is in flight.
    let within = settings.timeouts.stop;
    let seconds = within.as_secs() + u64::from(within.subsec_nanos() > 0);
    ServerConf {
        grace_period_seconds: Some(seconds),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

fn pingora(conf: ServerConf) -> Server {
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    server
}

/// Runs a server on a thread of its own, and waits until it does.
fn run(server: Server, stopped: watch::Receiver<Stop>) -> Result<(), StartError> {
    let mut phases = server.watch_execution_phase();
    let (running, is_running) = mpsc::channel();
    thread::spawn(move || {
        while let Ok(phase) = phases.blocking_recv() {
            if matches!(phase, ExecutionPhase::Running) {
                // The other end is gone only if starting was given up.
                let _ = running.send(());
                break;
            }
        }
    });
    let signal = Signal { stop: stopped };
    thread::spawn(move || {
        server.run(RunArgs {
            shutdown_signal: Box::new(signal),
        })
    });
    is_running
        .recv()
        .map_err(|_| StartError::Internal("the server ended while it started".into()))
}

impl Running {
    /// Stops: no new connections, and what is in flight may end, for as long as configured. Returns as soon as nothing is left.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stop.send_replace(Stop::Gently);
        let began = Instant::now();
        let mut quiet_since = None;
        while began.elapsed() < self.stop_within {
            if self.gateway.metrics.in_flight() > 0 {
                quiet_since = None;
            } else if quiet_since.get_or_insert_with(Instant::now).elapsed() >= QUIET {
                break;
            }
            thread::sleep(LOOK_EVERY);
        }
        if let Some(keys) = &self.gateway.api_keys {
            write_uses(keys, WRITE_AT_STOP_WITHIN);
        }
        let began = Instant::now();
        while !self.gateway.line.has_told_all() && began.elapsed() < TELL_AT_STOP_WITHIN {
            thread::sleep(LOOK_EVERY);
        }
        self.hang_up.send_replace(Stop::Now);
    }

    /// Waits for SIGTERM or SIGINT, then stops; a second signal ends it at once.
    pub fn stop_on_signal(&self) {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        runtime.block_on(any_signal());
        let stop = self.stop.clone();
        thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            {
                runtime.block_on(any_signal());
                stop.send_replace(Stop::Now);
                std::process::exit(130);
            }
        });
        tracing::info!("stopping: waiting for requests in flight");
        self.stop();
    }
}

/// Writes the uses of API keys that were counted and not written yet; for so long, whatever the store does.
fn write_uses(keys: &Keys, within: Duration) {
    let keys = keys.clone();
    // On a thread of its own: the caller may be on a runtime, where waiting is not allowed.
    let writing = thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        let written = runtime.block_on(async { tokio::time::timeout(within, keys.write()).await });
        let lost = keys.unwritten();
        if written.is_err() || lost > 0 {
            tracing::warn!(
                uses = lost,
                "stopping before all uses of API keys are written"
            );
        }
    });
    let _ = writing.join();
}

async fn any_signal() {
    use tokio::signal::unix::{SignalKind, signal};

    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Tells Pingora to stop when we say so, and not on signals of its own.
struct Signal {
    stop: watch::Receiver<Stop>,
}

#[async_trait]
impl ShutdownSignalWatch for Signal {
    async fn recv(&self) -> ShutdownSignal {
        let mut stop = self.stop.clone();
        let said = stop
            .wait_for(|stop| *stop != Stop::No)
            .await
            .map(|stop| *stop);
        match said {
            Ok(Stop::Gently) => ShutdownSignal::GracefulTerminate,
            // The handle was dropped: nobody is left who could want it to run.
            Ok(Stop::Now | Stop::No) | Err(_) => ShutdownSignal::FastShutdown,
        }
    }
}

/// Something that is looked after for as long as the server runs.
type Tended = Arc<dyn BackgroundService + Send + Sync>;

/// What is looked after beside the requests: all of it on one thread, because a thread holds memory of its own. Each is a task, and a
/// defect in one ends no other.
struct Beside(Vec<Tended>);

#[async_trait]
impl BackgroundService for Beside {
    async fn start_with_ready_notifier(
        &self,
        shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let mut tasks = Vec::new();
        let mut unready = Vec::new();
        for tended in &self.0 {
            let (sender, is_ready) = watch::channel(false);
            unready.push(is_ready);
            let (tended, shutdown) = (Arc::clone(tended), shutdown.clone());
            tasks.push(tokio::spawn(async move {
                let notifier = ServiceReadyNotifier::new(sender);
                tended.start_with_ready_notifier(shutdown, notifier).await;
            }));
        }
        for mut is_ready in unready {
            // Said by dropping the other end.
            while is_ready.changed().await.is_ok() {}
        }
        ready.notify_ready();
        join_all(tasks).await;
    }
}

/// Closes connections to the apps that waited too long or were closed over there, for as long as the server runs.
struct Tidying(Arc<Gateway>);

#[async_trait]
impl BackgroundService for Tidying {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut look = tokio::time::interval(kept::LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Requests in flight outlive the order to stop; so does this, until the server is gone.
                told = shutdown.changed() => if told.is_err() { return },
                _ = look.tick() => {}
            }
            for app in &self.0.apps {
                app.kept.sweep();
            }
        }
    }
}

/// Looks whether the app was built again, for as long as the server runs.
struct Watching {
    gateway: Arc<Gateway>,
    folder: PathBuf,
}

#[async_trait]
impl BackgroundService for Watching {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut watch = Some(build::Watch::new(self.folder.clone()));
        loop {
            tokio::select! {
                () = tokio::time::sleep(build::LOOK_EVERY) => {}
                _ = shutdown.changed() => return,
            }
            let (gateway, looking) = (Arc::clone(&self.gateway), watch.take());
            // A disk may be slow, and an app large: no request waits for it.
            let looked = tokio::task::spawn_blocking(move || {
                let mut watch = looking?;
                build::take(watch.look(), &gateway.gate.routes, &gateway.metrics);
                Some(watch)
            });
            watch = match looked.await {
                Ok(Some(looked)) => Some(looked),
                // A defect in reading must not end the looking.
                _ => Some(build::Watch::new(self.folder.clone())),
            };
        }
    }
}

/// Writes the uses of API keys behind, for as long as the server runs.
struct Counting(Keys);

#[async_trait]
impl BackgroundService for Counting {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(WRITE_EVERY) => {}
                // What is counted from now on is written when the last request has ended.
                _ = shutdown.changed() => return,
            }
            // Never cut short: a write on its way would be in doubt.
            self.0.write().await;
        }
    }
}

fn try_listening(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|cause| StartError::Listen {
        key,
        address,
        cause,
    })
}

/// Looks the apps' addresses up before anybody can ask for them: the first requests would meet none. A name that does not
/// resolve in time is looked up again in the background.
fn find_apps(apps: &[App]) {
    let balancers: Vec<_> = apps.iter().map(App::balancer).collect();
    // On a thread of its own: the caller may be on a runtime, where waiting is not allowed.
    let looking = thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        runtime.block_on(async {
            let all = join_all(balancers.iter().map(|balancer| balancer.update()));
            let _ = tokio::time::timeout(FIND_WITHIN, all).await;
        });
        // A resolver that hangs must not keep us.
        runtime.shutdown_background();
    });
    let _ = looking.join();
}

/// Connects to ourselves until somebody accepts: the listeners open a moment after the server says that it runs.
fn await_accepting(mut address: SocketAddr) -> Result<(), StartError> {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        if std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
            return Ok(());
        }
        thread::sleep(LOOK_EVERY);
    }
    Err(StartError::Internal(format!("nobody accepts on {address}")))
}
