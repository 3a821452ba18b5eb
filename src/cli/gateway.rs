//! From a configuration to a gateway: where the commands meet `server`, `store` and `gate`.

use std::sync::Arc;

use http::header::{COOKIE, SET_COOKIE};

use super::explain::{Asked, ExplainedRoute, Explanation};
use super::{Failure, PROBLEMS, UNREACHABLE, USAGE};
use crate::config::{Config, Loaded, RouteFinding};
use crate::credential::Presented;
use crate::gate::Decision;
use crate::policy::Verdict;
use crate::request::RequestView;
use crate::route::{self, RouteTable, Severity};
use crate::secret::Secret;
use crate::server::clock::SystemClock;
use crate::server::forward::{self, Client, Outgoing, Trace};
use crate::server::proxy::Gateway;
use crate::server::run::{self, Parts, StartError};
use crate::server::slide;
use crate::session::resolve::Tier;
use crate::session::{BoxFuture, Freshness, Record, Source, SourceError};
use crate::target::Target;
use crate::{store, telemetry};

/// Threads of the runtime on which the store's drivers live. They only wait and decode.
const STORE_THREADS: usize = 2;

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
    let listen = config.server.listen.clone();
    let (admin, public_url) = (config.server.admin, config.server.public_url.clone());
    let sliding = {
        // Connections to the app belong to the runtime of the store.
        let _inside = runtime.enter();
        sliding(&config, &opened)?
    };
    let parts = Parts {
        sliding,
        ..parts(config, opened.source)?
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
    running.stop_on_signal();
    tracing::info!("stopped");
    // The threads of the store may still wait for a database that does not answer.
    runtime.shutdown_background();
    Ok(())
}

/// Judges one request as the gateway would.
///
/// # Errors
/// When the gateway could not start with this configuration, or the store the credential needs cannot be opened.
pub fn explain(config: &Config, asked: &Asked) -> Result<Explanation, Failure> {
    let runtime = store_runtime()?;
    // Without a cookie nobody is looked up, and the database need not run.
    let source = match &config.store {
        Some(settings) if asked.headers.contains_key(COOKIE) => runtime
            .block_on(store::open(settings))
            .map_err(|error| cannot_open(&error))?,
        _ => Arc::new(Unasked),
    };
    let gateway = run::assemble(parts(config.clone(), source)?, Arc::new(SystemClock))
        .map_err(|error| cannot_start(&error))?;
    runtime.block_on(explain_with(&gateway, asked))
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

fn parts(config: Config, source: Arc<dyn Source>) -> Result<Parts, Failure> {
    let routes = RouteTable::build(&config.routes).map_err(|problems| Failure {
        message: problems
            .first()
            .map_or_else(String::new, |problem| problem.message.clone()),
        advice: "run `vestibule check`".into(),
        code: USAGE,
    })?;
    Ok(Parts {
        auth_base_path: config.routes.auth_base_path.clone(),
        routes,
        server: config.server,
        cookies: config.cookies,
        secrets: config.secrets,
        authenticator: config.authenticator,
        sessions: config.sessions,
        source,
        pages: config.redirects,
        identity: config.identity,
        // Looking at a request must not extend anything.
        sliding: None,
        door: config.door,
        telemetry: config.log,
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

fn store_runtime() -> Result<tokio::runtime::Runtime, Failure> {
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

fn cannot_open(error: &store::OpenError) -> Failure {
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

fn cannot_start(error: &StartError) -> Failure {
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

fn no_store() -> Failure {
    Failure {
        message: "`sessions.source` is missing".into(),
        advice: "name the app's database, as `sqlite:app.db`, `postgres://…` or `mysql://…`, or where its Better Auth is, as `http://127.0.0.1:3000/api/auth`".into(),
        code: USAGE,
    }
}

/// A source nobody asks: `explain` without a cookie.
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
