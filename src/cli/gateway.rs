//! From a configuration to a gateway: where the commands meet `server`, `store` and `gate`.

use std::sync::Arc;

use http::header::SET_COOKIE;
use tokio::runtime::Handle;
use url::Url;

use super::db;
use super::explain::{Asked, ExplainedRoute, Explanation};
use super::{Failure, PROBLEMS, UNREACHABLE, USAGE};
use crate::api_key::{self, ApiKeys};
use crate::authenticator::jwt;
use crate::config::{self, Config, Loaded, RouteFinding};
use crate::credential::Presented;
use crate::credential::key_ring::{KeySource, KeysError};
use crate::credential::key_set::{Algorithm, StoredKey};
use crate::gate::Decision;
use crate::migration::dialogue::OldStore;
use crate::migration::limits as budgets;
use crate::policy::Verdict;
use crate::request::RequestView;
use crate::route::{self, RouteTable, Severity};
use crate::secret::Secret;
use crate::server::clock::SystemClock;
use crate::server::forward::{self, Client, Outgoing, Trace};
use crate::server::line;
use crate::server::migration;
use crate::server::proxy::Gateway;
use crate::server::run::{self, KeySources, Parts, StartError};
use crate::server::slide;
use crate::session::resolve::Tier;
use crate::session::{BoxFuture, Freshness, Record, Source, SourceError};
use crate::store::{StoredKeys, keys_http, keys_table};
use crate::target::Target;
use crate::{store, telemetry};

/// Threads of the runtime on which the store's drivers live: they only wait and decode, and each takes memory of its own.
const STORE_THREADS: usize = 1;

/// What the table of routes says about the routes it was given.
pub fn check_routes(settings: &route::Settings) -> Vec<RouteFinding> {
    let problems = match RouteTable::build(settings) {
        Ok(table) => table.warnings().to_vec(),
        Err(problems) => problems,
    };
    problems
        .into_iter()
        .map(|problem| RouteFinding {
            line: problem.lines.first().copied(),
            key: problem.key,
            warning: problem.severity == Severity::Warning,
            message: problem.message,
            advice: problem.advice.to_owned(),
        })
        .collect()
}

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// When it cannot start.
pub fn serve(loaded: Loaded) -> Result<(), Failure> {
    serve_until(loaded, &mut run::Running::stop_on_signal)
}

/// Runs the gateway until `wait` returns, which is called once it runs.
///
/// # Errors
/// When it cannot start.
pub fn serve_while(loaded: Loaded, wait: &mut dyn FnMut()) -> Result<(), Failure> {
    serve_until(loaded, &mut |running| {
        wait();
        running.stop();
    })
}

fn serve_until(loaded: Loaded, stop: &mut dyn FnMut(&run::Running)) -> Result<(), Failure> {
    let config = loaded.config;
    let _log = telemetry::log::start(&config.log);
    let runtime = store_runtime()?;
    let settings = config.store.as_ref().ok_or_else(no_store)?;
    let opened = runtime
        .block_on(store::inspect(settings))
        .map_err(|error| cannot_open(&error))?;
    for warning in &opened.detected.warnings {
        tracing::warn!("sessions.source: {warning}");
    }
    let revocation = revocation(&config, settings, &opened, &runtime)?;
    let listen = config.server.listen.clone();
    let (admin, public_url) = (config.server.admin, config.server.public_url.clone());
    let sliding = {
        // Connections to the app belong to the runtime of the store.
        let _inside = runtime.enter();
        sliding(&config, &opened)?
    };
    let keys = keys(&config, opened.keys, runtime.handle())?;
    let api_keys = open_api_keys(&runtime, &config, settings)?;
    let migration = open_migration(&runtime, &config)?;
    let parts = Parts {
        sliding,
        migration,
        ..parts(config, opened.source, keys, api_keys, revocation)?
    };
    let gateway =
        run::assemble(parts, Arc::new(SystemClock)).map_err(|error| cannot_start(&error))?;
    let running = run::start(gateway).map_err(|error| cannot_start(&error))?;
    for address in listen {
        tracing::info!(%address, public_url, "listening");
    }
    if let Some(address) = admin {
        tracing::info!(%address, "admin listening");
    }
    stop(&running);
    tracing::info!("stopped");
    // The threads of the store may still wait for a database that does not answer.
    runtime.shutdown_background();
    Ok(())
}

/// How the gateway hears of revocations made elsewhere.
fn revocation(
    config: &Config,
    settings: &store::Settings,
    opened: &store::Opened,
    runtime: &tokio::runtime::Runtime,
) -> Result<line::Settings, Failure> {
    let wanted = &config.revocation;
    let feed = match &wanted.feed {
        config::Feed::Off => None,
        config::Feed::Source(None) => opened.feed.clone(),
        config::Feed::Source(Some(kind)) => opened.feed.clone().filter(|feed| feed.name() == *kind),
        config::Feed::At(url) => {
            let settings = store::Settings {
                url: url.clone(),
                ..settings.clone()
            };
            runtime
                .block_on(store::line(&settings))
                .map_err(|error| cannot_open(&error))?
        }
    };
    if feed.is_none() && wanted.promised {
        return Err(Failure {
            message: "`revocation`: no line can be had where it is asked for".into(),
            advice:
                "name a PostgreSQL or a Redis by `revocation.url`, or leave `revocation.feed` out"
                    .into(),
            code: USAGE,
        });
    }
    Ok(line::Settings {
        feed,
        promised: wanted.promised,
        recheck: wanted.recheck,
    })
}

/// Writes, puts there or takes away the triggers of the store.
///
/// # Errors
/// When the store cannot have any, cannot be reached, or does not let this role do it.
pub fn triggers(config: &Config, asked: &db::Asked) -> Result<String, Failure> {
    let mut settings = config.store.clone().ok_or_else(no_store)?;
    if let Some(url) = &asked.url {
        settings.url = url.clone();
    }
    let runtime = store_runtime()?;
    let written = runtime
        .block_on(store::triggers(&settings))
        .map_err(|error| cannot_open(&error))?;
    let Some(written) = written else {
        if store::has_keyspace_events(&settings.url) {
            return redis_events(&settings, asked.action, &runtime);
        }
        return Err(Failure {
            message: "this store has no triggers that could tell of revocations".into(),
            advice: "revocations that pass through a gateway count at once; for the others keep `sessions.cache_ttl` short, or send \
                     them to `POST /sessions/evict` of the admin listener"
                .into(),
            code: UNREACHABLE,
        });
    };
    let (sql, done) = match asked.action {
        db::Action::Print => return Ok(written.install),
        db::Action::Install => (&written.install, "installed on"),
        db::Action::Remove => (&written.remove, "removed from"),
    };
    runtime
        .block_on(store::run_triggers(&settings, sql))
        .map_err(|error| cannot_open(&error))?;
    Ok(format!("{done} {}\n", written.tables.join(", ")))
}

/// Writes, or makes, the gateway's own tables.
///
/// # Errors
/// When there is no migration, or the database cannot be reached or does not let this role do it.
pub fn tables(config: &Config, asked: &db::AskedTables) -> Result<String, Failure> {
    let migration = config.migration.as_ref().ok_or_else(|| Failure {
        message: "the configuration has no `[migration]`, and no other part of the gateway has tables of its own".into(),
        advice: "add `[migration]` first".into(),
        code: USAGE,
    })?;
    let mut settings = migration.database.clone();
    if let Some(url) = &asked.url {
        settings.url = url.clone();
    }
    match asked.action {
        db::TablesAction::Print => {
            let statements = store::table_statements(&settings.url);
            let statements = statements.map_err(|error| cannot_open(&error))?;
            Ok(statements.join(";\n") + ";\n")
        }
        db::TablesAction::Install => {
            store_runtime()?
                .block_on(store::install_tables(&settings))
                .map_err(|error| cannot_open(&error))?;
            Ok("the tables are there\n".to_owned())
        }
    }
}

/// A Redis needs no triggers: it tells of its keys where it is told to.
fn redis_events(
    settings: &store::Settings,
    action: db::Action,
    runtime: &tokio::runtime::Runtime,
) -> Result<String, Failure> {
    if action == db::Action::Print {
        return Ok(
            "# Redis tells by itself. These letters are added to those that are there; keep them in redis.conf too.\n\
             CONFIG SET notify-keyspace-events Kg$x\n"
                .into(),
        );
    }
    let events = runtime
        .block_on(store::keyspace_events(
            settings,
            action == db::Action::Install,
        ))
        .map_err(|error| cannot_open(&error))?;
    Ok(format!(
        "notify-keyspace-events: \"{}\", was \"{}\"\nthe server forgets it at its next start: write it into redis.conf too\n",
        events.after, events.before
    ))
}

/// Judges one request as the gateway would.
///
/// # Errors
/// When the gateway could not start with this configuration, or the store the credential needs cannot be opened.
pub fn explain(config: &Config, asked: &Asked) -> Result<Explanation, Failure> {
    let runtime = store_runtime()?;
    let mut config = config.clone();
    if let Some((keys, _)) = &mut config.api_keys {
        // Explaining is no use of the key.
        keys.usage = api_key::Usage::App;
    }
    let assemble = |source, stored, api_keys| {
        let keys = keys(&config, stored, runtime.handle())?;
        run::assemble(
            parts(
                config.clone(),
                source,
                keys,
                api_keys,
                line::Settings::default(),
            )?,
            Arc::new(SystemClock),
        )
        .map_err(|error| cannot_start(&error))
    };
    let mut gateway = assemble(Arc::new(Unasked), Some(Arc::new(nothing_stored)), None)?;
    // Where nothing is presented nobody is looked up, and the database need not run.
    let has_key = config.api_keys.as_ref().is_some_and(|(keys, _)| {
        let mut names = keys.headers.iter();
        names.any(|name| asked.headers.contains_key(name))
    });
    if let Some(settings) = &config.store
        && (has_key || presents_something(&gateway, asked))
    {
        let opened = runtime
            .block_on(store::inspect(settings))
            .map_err(|error| cannot_open(&error))?;
        let api_keys = open_api_keys(&runtime, &config, settings)?;
        gateway = assemble(opened.source, opened.keys, api_keys)?;
    }
    runtime.block_on(explain_with(&gateway, asked))
}

/// Whether the request carries a credential of any kind the app has.
fn presents_something(gateway: &Gateway, asked: &Asked) -> bool {
    let Ok(target) = Target::parse(asked.target.as_bytes()) else {
        return false;
    };
    let request = RequestView {
        method: &asked.method,
        target,
        host: &asked.host,
        headers: &asked.headers,
        client: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    gateway.gate.presented(&request).is_some()
}

async fn explain_with(gateway: &Gateway, asked: &Asked) -> Result<Explanation, Failure> {
    let mut told = Explanation {
        method: asked.method.to_string(),
        host: asked.host.clone(),
        target: asked.target.clone(),
        verdict: "bad request".into(),
        status: Some(400),
        ..Explanation::default()
    };
    let host = match asked.host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => &asked.host,
    }
    .to_ascii_lowercase();
    if !forward::answers_for(&gateway.settings.hosts, &host) {
        (told.status, told.reason) = (Some(421), "host_not_served".into());
        return Ok(told);
    }
    let target = match Target::parse(asked.target.as_bytes()) {
        Ok(target) => target,
        Err(ambiguity) => {
            told.reason = ambiguity.as_str().into();
            return Ok(told);
        }
    };
    if forward::has_internal_query(&target) {
        told.reason = "internal_query".into();
        return Ok(told);
    }
    let request = RequestView {
        method: &asked.method,
        target,
        host: &host,
        headers: &asked.headers,
        client: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let judged = gateway.gate.judge(&request).await;
    let readings = gateway.gate.routes.readings(target);
    let (decision, readings) = match (judged, readings) {
        (Ok(decision), Ok(readings)) => (decision, readings),
        (Err(ambiguity), _) | (_, Err(ambiguity)) => {
            told.reason = ambiguity.as_str().into();
            return Ok(told);
        }
    };
    told.readings = readings.into_iter().map(|(_, path)| path).collect();
    told.readings.dedup();
    describe(gateway, &request, &decision, &mut told);
    if let Some(answer) = gateway.responder.refuse(&request, &decision, "") {
        told.status = Some(answer.status.as_u16());
        for (name, value) in &answer.headers {
            let value = value.to_str().unwrap_or_default();
            if *name == SET_COOKIE {
                told.cleared
                    .push(value.split('=').next().unwrap_or_default().to_owned());
            } else if *name == http::header::LOCATION || name.as_str() == "x-action-redirect" {
                told.location = Some(value.to_owned());
            }
        }
    } else {
        told.status = None;
        let destination = gateway.gate.routes.route(decision.destination);
        told.upstream = gateway
            .apps
            .get(destination.upstream)
            .map(|app| app.name().to_owned());
        told.stamped = stamped(gateway, asked, &decision)?;
    }
    Ok(told)
}

fn describe(
    gateway: &Gateway,
    request: &RequestView<'_>,
    decision: &Decision,
    told: &mut Explanation,
) {
    let route = gateway.gate.routes.route(decision.route);
    told.route = ExplainedRoute {
        pattern: route.pattern.clone(),
        line: route.line,
        built_in: route.built_in.map(str::to_owned),
    };
    told.app_route = gateway.gate.routes.app_route(request);
    told.action = gateway.gate.routes.action_called(request);
    told.kind = decision.form.as_str().into();
    told.rule = route.rule.need.as_str().into();
    told.freshness = match route.rule.freshness {
        Freshness::Optimistic => "optimistic",
        Freshness::Cached => "cached",
        Freshness::Strict => "strict",
    }
    .into();
    told.verdict = decision.verdict.as_str().into();
    told.reason = decision.reason.as_str().into();
    let presented = gateway.gate.presented(request);
    told.credential = match &presented {
        None => "none".into(),
        Some((kind, Presented::Malformed)) => format!("{}, malformed", kind.method().as_str()),
        Some((kind, _)) => kind.method().as_str().into(),
    };
    let known = matches!(&decision.verdict, Verdict::Allow(permit) if permit.principal().is_some());
    told.resolution = match (&presented, decision.rejection, decision.tier) {
        _ if !route.rule.need.asks_who() => "not asked".into(),
        (_, Some(why), _) => format!("rejected: {}", why.as_str()),
        (None, ..) => "anonymous".into(),
        (_, _, Tier::Signature) => "verified by its signature alone".into(),
        (_, _, Tier::Store) if !known && decision.reason.as_str() == "store" => {
            "unavailable".into()
        }
        (_, _, Tier::None) => "not asked".into(),
        _ => "verified".into(),
    };
}

/// What the app would receive from the gateway. Assertions are shown without their signature: this is no place to mint them.
fn stamped(
    gateway: &Gateway,
    asked: &Asked,
    decision: &Decision,
) -> Result<Vec<(String, String)>, Failure> {
    let internal = |error: &dyn std::fmt::Display| Failure {
        message: format!("the request cannot be built: {error}"),
        advice: String::new(),
        code: PROBLEMS,
    };
    let Verdict::Allow(permit) = &decision.verdict else {
        return Ok(Vec::new());
    };
    let mut outgoing = Outgoing::build(asked.method.clone(), asked.target.as_bytes(), None)
        .map_err(|e| internal(&e))?;
    for (name, value) in &asked.headers {
        outgoing
            .append_header(name.clone(), value.clone())
            .map_err(|e| internal(&e))?;
    }
    let client = Client::read(
        &gateway.settings,
        &gateway.believed,
        std::net::Ipv4Addr::LOCALHOST.into(),
        &asked.headers,
    );
    let trace = Trace {
        request_id: "(made for each request)".into(),
        new_parent: None,
    };
    let principal = permit.principal().map(|entry| &**entry);
    forward::stamp(
        &mut outgoing,
        &gateway.identity,
        principal,
        client,
        gateway.gate.clock.now(),
        &trace,
    )
    .map_err(|e| internal(&e))?;
    let ours = |name: &http::HeaderName| {
        name == "x-request-id"
            || name.as_str().starts_with("x-forwarded-")
            || gateway.identity.owned().is_identity(name.as_str())
    };
    Ok(outgoing
        .headers
        .iter()
        .filter(|(name, _)| ours(name))
        .map(|(name, value)| {
            let value = value.to_str().unwrap_or_default();
            let shown = match value.rsplit_once('.') {
                Some((unsigned, _)) if name == "x-auth-assertion" => {
                    format!("{unsigned}.(signature)")
                }
                _ => value.to_owned(),
            };
            (name.to_string(), shown)
        })
        .collect())
}

/// The app's API keys, where they are accepted.
fn open_api_keys(
    runtime: &tokio::runtime::Runtime,
    config: &Config,
    settings: &store::Settings,
) -> Result<Option<AppKeys>, Failure> {
    let Some((keys, storage)) = &config.api_keys else {
        return Ok(None);
    };
    let access = match keys.usage {
        api_key::Usage::Gateway => store::KeyAccess::Write,
        api_key::Usage::App => store::KeyAccess::Read,
    };
    runtime
        .block_on(store::open_api_keys(settings, access, *storage))
        .map(|opened| Some((keys.clone(), opened)))
        .map_err(|error| cannot_open(&error))
}

/// The accounts of the app, where users are moved in.
fn open_migration(
    runtime: &tokio::runtime::Runtime,
    config: &Config,
) -> Result<Option<migration::Parts>, Failure> {
    let Some(settings) = &config.migration else {
        return Ok(None);
    };
    for caution in super::check::cautions(config) {
        tracing::warn!("{caution}");
    }
    let accounts = runtime
        .block_on(store::open_accounts(&settings.database))
        .map_err(|error| cannot_open(&error))?;
    let (old, stores) = {
        // Connections belong to the runtime of the stores.
        let _inside = runtime.enter();
        open_bridge(config, settings).map_err(|error| cannot_open(&error))?
    };
    Ok(Some(migration::Parts {
        settings: settings.clone(),
        accounts,
        shared_limits: open_limits(runtime, settings)?,
        home: runtime.handle().clone(),
        old: Some(old),
        stores,
        app: app_urls(config, "")?,
    }))
}

/// Where gateways count sign-ins together. Connects at the first of them: a Redis that is down keeps nobody from starting.
fn open_limits(
    runtime: &tokio::runtime::Runtime,
    settings: &migration::Settings,
) -> Result<Option<Arc<dyn budgets::Shared>>, Failure> {
    let Some(url) = &settings.limits.redis else {
        return Ok(None);
    };
    let _home = runtime.enter();
    let name = budgets::Keys::new(&settings.key, &settings.limits).name();
    store::open_limits(url, &name)
        .map(Some)
        .map_err(|error| cannot_open(&error))
}
/// What the bridge stands on: the old systems' own tables, and where the app keeps its sessions.
fn open_bridge(
    config: &Config,
    settings: &migration::Settings,
) -> Result<(Arc<dyn OldStore>, migration::bridge::Stores), store::OpenError> {
    let bridge = &settings.bridge;
    let database = bridge.old_database.as_ref().unwrap_or(&settings.database);
    let old = store::old::open_old(Some(database), bridge.old_redis.as_ref())?;
    let beside = match &config.store {
        Some(source) => store::open_beside(source, &settings.database)?,
        None => None,
    };
    let users = Some(store::old::open_users(&settings.database)?);
    Ok((old, migration::bridge::Stores { beside, users }))
}

type AppKeys = (api_key::Settings, Arc<dyn ApiKeys>);

/// Where the keys of tokens are published, as far as the app has such tokens.
fn keys(config: &Config, stored: Option<StoredKeys>, home: &Handle) -> Result<KeySources, Failure> {
    let authenticator = &config.authenticator;
    let has_tokens = authenticator.enabled.contains("jwt");
    let cache = authenticator.cookie_cache.as_ref();
    if !has_tokens && cache.is_none_or(|cache| cache.strategy != "jwks") {
        return Ok(KeySources::default());
    }
    let source = |issuer: &jwt::Issuer| match &issuer.keys {
        jwt::Keys::App { path } => published(app_urls(config, path)?, Some(config), issuer, home),
        jwt::Keys::At(url) => published(vec![parsed(url)?], None, issuer, home),
        jwt::Keys::Store { grace } => {
            let rows = stored.clone().ok_or_else(|| Failure {
                message: "`better_auth.jwt.keys = \"store\"`: this source of sessions has no table of keys".into(),
                advice: "use `keys = \"app\"`".into(),
                code: USAGE,
            })?;
            let settings = keys_table::Settings {
                algorithm: issuer.algorithm.unwrap_or(Algorithm::EdDsa),
                grace: *grace,
            };
            Ok(keys_table::open(
                rows,
                settings,
                Arc::new(SystemClock),
                home.clone(),
            ))
        }
    };
    let issuers = authenticator.jwt.issuers.iter().filter(|_| has_tokens);
    Ok(KeySources {
        app: Some(source(&authenticator.jwt.app)?),
        issuers: issuers
            .map(|(name, issuer)| Ok((name.clone(), source(issuer)?)))
            .collect::<Result<_, Failure>>()?,
    })
}

/// Keys published at these addresses. The app's own is asked as the gateway asks it: by the public host.
fn published(
    urls: Vec<Url>,
    app: Option<&Config>,
    issuer: &jwt::Issuer,
    home: &Handle,
) -> Result<Arc<dyn KeySource>, Failure> {
    let public = app.and_then(|config| Url::parse(&config.server.public_url).ok());
    let settings = keys_http::Settings {
        urls,
        host: public.map(|url| url.authority().to_owned()),
        algorithm: issuer.algorithm,
    };
    keys_http::open(settings, home.clone()).map_err(|error| Failure {
        message: format!("keys of tokens: {error}"),
        advice: "check `[better_auth.jwt]`, and that this machine has root certificates".into(),
        code: USAGE,
    })
}

/// The addresses of the app that serves the auth endpoints, with the path of its key set.
pub(super) fn app_urls(config: &Config, path: &str) -> Result<Vec<Url>, Failure> {
    let routes = &config.routes;
    let app = config.server.upstreams.get(routes.auth_upstream);
    let addresses = app.into_iter().flat_map(|app| &app.addresses);
    addresses
        .map(|address| {
            let scheme = if address.tls { "https" } else { "http" };
            let host = match address.host.contains(':') && !address.host.starts_with('[') {
                true => format!("[{}]", address.host),
                false => address.host.clone(),
            };
            parsed(&format!(
                "{scheme}://{host}:{}{}{path}",
                address.port, routes.auth_base_path
            ))
        })
        .collect()
}

fn parsed(url: &str) -> Result<Url, Failure> {
    Url::parse(url).map_err(|error| Failure {
        message: format!("`{url}` is no address to fetch keys from: {error}"),
        advice: "check `[better_auth.jwt]`".into(),
        code: USAGE,
    })
}

/// A table nobody asks for keys.
fn nothing_stored() -> futures_util::future::BoxFuture<'static, Result<Vec<StoredKey>, KeysError>> {
    Box::pin(std::future::ready(Ok(Vec::new())))
}

pub(super) fn parts(
    config: Config,
    source: Arc<dyn Source>,
    keys: KeySources,
    api_keys: Option<AppKeys>,
    revocation: line::Settings,
) -> Result<Parts, Failure> {
    let routes = RouteTable::build(&config.routes).map_err(|problems| Failure {
        message: problems
            .first()
            .map_or_else(String::new, |problem| problem.message.clone()),
        advice: "run `vestibule check`".into(),
        code: USAGE,
    })?;
    let app_folder = config.build.as_ref().map(|build| build.folder.clone());
    routes.know(config.build.map(|build| build.app));
    Ok(Parts {
        app_folder,
        auth_base_path: config.routes.auth_base_path.clone(),
        routes,
        server: config.server,
        cookies: config.cookies,
        secrets: config.secrets,
        authenticator: config.authenticator,
        sessions: config.sessions,
        source,
        api_keys,
        keys,
        revocation,
        pages: config.redirects,
        identity: config.identity,
        // Looking at a request must not extend anything.
        sliding: None,
        door: config.door,
        telemetry: config.log,
        // Nor move anybody.
        migration: None,
    })
}

/// Who extends sessions that are due.
fn sliding(config: &Config, opened: &store::Opened) -> Result<Option<slide::Settings>, Failure> {
    let (Some(sliding), Some(settings)) = (config.sliding, &config.store) else {
        return Ok(None);
    };
    let by = if sliding.in_store {
        slide::By::Store(opened.extend.clone().ok_or_else(|| Failure {
            message:
                "`sessions.sliding = \"store\"`: this kind of source cannot be written to".into(),
            advice: "leave `sliding` out, so that the app extends sessions".into(),
            code: USAGE,
        })?)
    } else {
        let upstream = config.server.upstreams.get(config.routes.auth_upstream);
        let addresses = upstream.map_or_else(Vec::new, |upstream| upstream.addresses.clone());
        let apps = addresses.iter().map(|address| {
            let scheme = if address.tls { "https" } else { "http" };
            let (host, port) = (&address.host, address.port);
            let base = &config.routes.auth_base_path;
            store::app(&store::Settings {
                url: Secret::new(format!("{scheme}://{host}:{port}{base}")),
                ..settings.clone()
            })
        });
        let apps = apps.collect::<Result<_, _>>();
        slide::By::App(apps.map_err(|error| cannot_open(&error))?)
    };
    let rules = sliding.rules;
    Ok(Some(slide::Settings { rules, by }))
}

pub(super) fn store_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(STORE_THREADS)
        .thread_name("store")
        .enable_all()
        .build()
        .map_err(|error| Failure {
            message: format!("no threads for the store: {error}"),
            advice: String::new(),
            code: PROBLEMS,
        })
}

pub(super) fn cannot_open(error: &store::OpenError) -> Failure {
    let code = if error.is_configuration() {
        USAGE
    } else {
        UNREACHABLE
    };
    Failure {
        message: error.to_string(),
        advice: error.advice().to_string(),
        code,
    }
}

pub(super) fn cannot_start(error: &StartError) -> Failure {
    let code = match error {
        StartError::Internal(_) => PROBLEMS,
        error if error.is_dependency() => UNREACHABLE,
        _ => USAGE,
    };
    Failure {
        message: error.to_string(),
        advice: error.advice().into(),
        code,
    }
}

pub(super) fn no_store() -> Failure {
    Failure {
        message: "`sessions.source` is missing".into(),
        advice: "name the app's database, as `sqlite:app.db`, `postgres://…` or `mysql://…`, or where its Better Auth is, as `http://127.0.0.1:3000/api/auth`".into(),
        code: USAGE,
    }
}

/// A source nobody asks: `explain` without a credential.
struct Unasked;

impl Source for Unasked {
    fn name(&self) -> &'static str {
        "none"
    }

    fn find<'a>(&'a self, _token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        Box::pin(std::future::ready(Err(SourceError::Unreachable {
            source_name: "none",
            cause: "not opened".into(),
        })))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
