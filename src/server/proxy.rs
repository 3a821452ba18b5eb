//! Pingora's phases: a view is made, the gate judges it, and the verdict is carried out. No permit, no upstream.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, EXPIRES, HOST, SET_COOKIE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session as Exchange};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::body::{self, Held};
use super::door::Door;
use super::doubt::Doubt;
use super::forward::{self, Client, RequestId, Trace};
use super::intercept::{self, Watch};
use super::line::Line;
use super::migration::bridge;
use super::migration::passage::Passage;
use super::migration::{Migration, Posted};
use super::renew::{Answered, Renewer};
use super::respond::{self, Answer, PRIVATE, Responder};
use super::settings::Settings;
use super::slide::Slider;
use super::streams::{self, Opened, Place, Streams};
use super::upstream::{ATTEMPTS_MAX, App, Manner};
use super::{userinfo, verify};
use crate::api_key::keys::Keys;
use crate::client_ip;
use crate::credential;
use crate::gate::{Decision, Gate};
use crate::identity::Identity;
use crate::policy::{Ask, Permit, Reason, To, Verdict};
use crate::request::{Form, RequestView};
use crate::route::{RouteId, Scanner};
use crate::session::resolve::Tier;
use crate::target::{Ambiguity, Target};
use crate::telemetry::access;
use crate::telemetry::metrics::Metrics;
use crate::time::UnixMs;

/// Where the public keys of the assertion are.
const KEY_SET_PATH: &str = "/.well-known/vestibule/jwks.json";

/// What answers about somebody say to caches when nobody may change them on their way.
const PRIVATE_UNCHANGED: &str = "private, no-store, no-transform";

/// Everything below is the gateway's own; nothing of it reaches the app.
const OWN_PREFIX: &str = "/_vestibule/";

/// Headers by which an app tells shared caches what to keep. On private answers they go.
const SHARED_CACHE_HEADERS: [HeaderName; 4] = [
    EXPIRES,
    HeaderName::from_static("surrogate-control"),
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("vercel-cdn-cache-control"),
];

/// The gateway, built whole from one configuration.
pub struct Gateway {
    /// The app's folder, where its build is looked at again.
    pub app_folder: Option<std::path::PathBuf>,
    /// Listeners, limits and timeouts.
    pub settings: Settings,
    /// Judges.
    pub gate: Gate,
    /// Tells the app.
    pub identity: Identity,
    /// API keys; none unless they are accepted.
    pub api_keys: Option<Keys>,
    /// Answers.
    pub responder: Responder,
    /// The apps, in the order of the settings.
    pub apps: Vec<App>,
    /// Better Auth's base path, where revocations pass by.
    pub auth_base_path: String,
    /// Keeps cookies that are sessions. Only where there is no store.
    pub renewer: Option<Renewer>,
    /// Extends sessions that are due.
    pub slider: Option<Slider>,
    /// Answers `get-session` itself.
    pub door: Option<Door>,
    /// Moves users in; none where nobody is to be.
    pub migration: Option<Migration>,
    /// Whose forwarded headers count.
    pub believed: client_ip::Settings,
    /// Where revocations come from and go to.
    pub line: Arc<Line>,
    /// Answers that go on.
    pub streams: Arc<Streams>,
    /// How often their sessions are looked at again.
    pub recheck: Duration,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Whether the secret may be somebody else's.
    pub doubt: Doubt,
    /// When browsers that go round were told of last.
    pub warned_of_rounds: super::rounds::Warned,
    /// One log line per request.
    pub access_log: bool,
    /// Where random numbers begin: ids of requests, nothing that guards anything.
    pub seed: u64,
    /// How many were drawn.
    pub drawn: AtomicU64,
}

/// What is known of one request between the phases.
pub struct Ctx {
    started: Instant,
    /// When it was judged; until then, when it came.
    pub(super) decided_at: Instant,
    pub(super) trace: Trace,
    pub(super) client: Option<Client>,
    pub(super) permit: Option<Permit>,
    decided: Option<Decided>,
    pub(super) app: usize,
    manner: Manner,
    pub(super) attempts: usize,
    private: bool,
    watch: Option<Watch>,
    /// Whether the app's Better Auth reads this request itself, and sets its cookies itself.
    at_auth: bool,
    place: Option<Place>,
    passage: Passage,
    /// Whether a session of the old system was presented of which nobody knows whether it lives.
    undecided: bool,
    /// The Server Actions its body names are looked for while it passes.
    actions: Option<Box<Scanner>>,
    /// Whether the body is held, and waits for nobody's leave.
    is_held: bool,
    /// Whether the credential was looked at already: the next look is no other use of it.
    is_asked: bool,
    /// The answer to a request that was refused when its head was with the app already.
    refusal: Option<Answer>,
    /// Whether that answer was given.
    is_turned_away: bool,
    body_seen: u64,
    refused: Option<&'static str>,
    _in_flight: InFlight,
}

impl Ctx {
    /// Nothing is known yet of a request whose head came at `started`.
    pub(super) fn new(metrics: &Arc<Metrics>, started: Instant) -> Self {
        Self {
            started,
            decided_at: started,
            trace: Trace {
                request_id: RequestId::default(),
                new_parent: None,
            },
            client: None,
            permit: None,
            decided: None,
            app: 0,
            manner: Manner::Exchange,
            attempts: 0,
            private: true,
            watch: None,
            at_auth: false,
            place: None,
            passage: Passage::default(),
            undecided: false,
            actions: None,
            is_held: false,
            is_asked: false,
            refusal: None,
            is_turned_away: false,
            body_seen: 0,
            refused: None,
            _in_flight: InFlight::begin(metrics),
        }
    }
}

/// The part of a decision that is logged and counted.
struct Decided {
    verdict: &'static str,
    reason: &'static str,
    form: Form,
    route: RouteId,
    took: Duration,
    /// When, by the clock on the wall.
    at: UnixMs,
}

/// Counts a request as being answered for as long as its context lives.
struct InFlight(Arc<Metrics>);

impl InFlight {
    fn begin(metrics: &Arc<Metrics>) -> Self {
        metrics.began();
        Self(Arc::clone(metrics))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// Why a request is refused before anybody asks who sent it.
pub(super) struct Malformed {
    status: StatusCode,
    reason: &'static str,
}

impl Malformed {
    const fn bad(reason: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            reason,
        }
    }
}

/// The gateway as Pingora's application, shared with the admin listener.
pub struct Shared(pub Arc<Gateway>);

impl std::ops::Deref for Shared {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.0
    }
}

#[async_trait]
impl ProxyHttp for Shared {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new(&self.metrics, Instant::now())
    }

    // Pingora's default is a compression module, switched off. We never touch bodies, so it need not be there.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, exchange: &mut Exchange, ctx: &mut Ctx) -> Result<()> {
        let timeouts = &self.settings.timeouts;
        let mut upgrade = exchange.req_header().headers.contains_key(UPGRADE);
        if upgrade && !forward::asks_to_upgrade(exchange.req_header()) {
            // Pingora would ask the app for it all the same, and an app that switches to nothing hangs up.
            exchange.req_header_mut().remove_header(&UPGRADE);
            upgrade = false;
        }
        let headers = &exchange.req_header().headers;
        ctx.manner = match upgrade {
            true => Manner::Tunnel,
            false if accepts_events(exchange.req_header()) => Manner::Events,
            false => Manner::Exchange,
        };
        ctx.trace = Trace::read(headers, || self.random());
        // HTTP/1.0 closes after each answer; ours of later versions stay open unless the client asked otherwise.
        let keeps = exchange.req_header().version > Version::HTTP_10;
        exchange.set_keepalive(keeps.then(|| timeouts.idle.as_secs().max(1)));
        // While the app makes up its mind about an upgrade, the client has nothing to send, unless it sends a body first.
        let waits = upgrade && !has_body(&exchange.req_header().headers);
        exchange.set_read_timeout(Some(if waits {
            timeouts.tunnel_idle
        } else {
            timeouts.body_read
        }));
        exchange.set_write_timeout(Some(timeouts.response_write));
        exchange.set_total_drain_timeout(Some(timeouts.body_read));
        Ok(())
    }

    async fn request_filter(&self, exchange: &mut Exchange, ctx: &mut Ctx) -> Result<bool> {
        let peer = exchange
            .client_addr()
            .and_then(|addr| addr.as_inet())
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |addr| addr.ip());
        let headers = &exchange.req_header().headers;
        let client = Client::read(&self.settings, &self.believed, peer, headers);
        ctx.client = Some(client);
        if let Some(settings) = &self.settings.forward_auth
            && verify::is_asked(target_bytes(exchange.req_header()))
        {
            return self.verify(settings, exchange, peer, client, ctx).await;
        }
        if let Some(migration) = &self.migration {
            self.arrive(migration, exchange, client, ctx).await?;
        }
        let handed_in = match &self.migration {
            Some(migration) => self.hand_in(migration, exchange, client, ctx).await?,
            None => None,
        };
        let head = exchange.req_header();
        let considered = if let Some(answered) = handed_in {
            answered
        } else if declares_two_framings(exchange) {
            Err(Malformed::bad("framing"))
        } else if hides_part_of_the_target(exchange) {
            Err(Malformed::bad(Ambiguity::Fragment.as_str()))
        } else {
            self.consider(head, client, ctx).await
        };
        let considered = match (considered, &self.migration) {
            (Ok(None), Some(migration)) if ctx.at_auth => {
                self.migrate(migration, exchange, client, ctx).await?
            }
            (considered, _) => considered,
        };
        let considered = match considered {
            Ok(None) if ctx.actions.is_some() => {
                self.look_for_actions(exchange, client, ctx).await?
            }
            considered => considered,
        };
        let answer = match considered {
            Ok(None) => return Ok(false),
            Ok(Some(mut answer)) => {
                let lines = ctx.passage.take_cookies();
                answer
                    .headers
                    .extend(lines.into_iter().map(|line| (SET_COOKIE, line)));
                answer
            }
            Err(malformed) => {
                // Whoever frames a request badly may have sent the next one along.
                exchange.set_keepalive(None);
                self.turn_down(&malformed, ctx)
            }
        };
        write(exchange, answer, &ctx.trace.request_id).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _exchange: &mut Exchange,
        ctx: &mut Ctx,
    ) -> Result<Box<HttpPeer>> {
        if ctx.permit.is_none() {
            return Error::e_explain(ErrorType::InternalError, "no permit");
        }
        ctx.attempts += 1;
        let app = self
            .apps
            .get(ctx.app)
            .ok_or_else(|| Error::explain(ErrorType::InternalError, "no such upstream"))?;
        let peer = app.peer(ctx.manner).ok_or_else(|| {
            Error::explain(
                ErrorType::ConnectError,
                "the upstream's name does not resolve",
            )
        })?;
        Ok(Box::new(peer))
    }

    fn fail_to_connect(
        &self,
        _exchange: &mut Exchange,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Nothing was sent yet: asking another address is safe, whatever the method.
        error.set_retry(ctx.attempts < ATTEMPTS_MAX);
        error
    }

    async fn upstream_request_filter(
        &self,
        _exchange: &mut Exchange,
        outgoing: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let (Some(permit), Some(client)) = (&ctx.permit, ctx.client) else {
            return Error::e_explain(ErrorType::InternalError, "no permit");
        };
        ctx.passage.frame(outgoing)?;
        if ctx.is_held {
            // We have asked for the body already.
            outgoing.remove_header(&EXPECT);
        }
        let principal = permit.principal().map(|entry| &**entry);
        forward::stamp(
            outgoing,
            &self.identity,
            principal,
            client,
            self.gate.clock.now(),
            &ctx.trace,
        )
    }

    async fn request_body_filter(
        &self,
        exchange: &mut Exchange,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if let Some(mut scanner) = ctx.actions.take() {
            let mut named = body.as_ref().is_some_and(|piece| scanner.read(piece));
            named |= end && scanner.finish();
            if named {
                self.judge_on_the_way(exchange.req_header(), scanner.routes(), ctx)
                    .await?;
            }
            ctx.actions = (!end).then_some(scanner);
        }
        let Some(piece) = body else { return Ok(()) };
        ctx.body_seen = ctx.body_seen.saturating_add(piece.len() as u64);
        let limit = self.settings.limits.body_bytes;
        // Only the app's 101 makes a tunnel of it: headers of the client alone lift no limit.
        if limit > 0 && ctx.body_seen > limit && !exchange.was_upgraded() {
            ctx.refused = Some("body_too_large");
            self.metrics.refused("body_too_large");
            return Error::e_explain(
                ErrorType::HTTPStatus(413),
                "request body over `limits.body_bytes`",
            );
        }
        if let Some(watch) = &mut ctx.watch {
            watch.read(piece);
        }
        ctx.passage.replace_body(body);
        Ok(())
    }

    async fn response_filter(
        &self,
        exchange: &mut Exchange,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let switches = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if response.status.is_informational() && !switches {
            return Ok(());
        }
        let caches = self.answered(exchange.req_header(), response, ctx).await?;
        if let Some(caches) = caches {
            response.insert_header(CACHE_CONTROL, HeaderValue::from_static(caches))?;
        }
        response.insert_header("X-Request-Id", ctx.trace.request_id.to_value())?;
        if switches {
            exchange.set_read_timeout(Some(self.settings.timeouts.tunnel_idle));
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _exchange: &mut Exchange,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        ctx.passage.pass(body, end);
        if !end {
            self.goes_on(ctx)?;
        }
        Ok(None)
    }

    async fn fail_to_proxy(
        &self,
        exchange: &mut Exchange,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        let is_begun = exchange.response_written().is_some();
        let (status, answer) = self.failure(error, is_begun, ctx);
        exchange.set_keepalive(None);
        if let Some(answer) = answer {
            // The client may be gone: then there is nobody left to tell.
            let _ = write(exchange, answer, &ctx.trace.request_id).await;
        }
        FailToProxy {
            error_code: status,
            can_reuse_downstream: false,
        }
    }

    // Turning somebody away is no error of ours.
    fn suppress_error_log(&self, _exchange: &Exchange, ctx: &Ctx, _error: &Error) -> bool {
        ctx.is_turned_away
    }

    fn request_summary(&self, exchange: &Exchange, _ctx: &Ctx) -> String {
        self.summary(exchange.req_header())
    }

    async fn logging(&self, exchange: &mut Exchange, error: Option<&Error>, ctx: &mut Ctx) {
        let status = exchange
            .response_written()
            .map_or(0, |response| response.status.as_u16());
        self.tell(exchange.req_header(), status, error, Instant::now(), ctx);
    }
}

impl Gateway {
    /// What an answer of the app (the last one to its request) becomes on its way to the client. Two headers are left to whoever sends
    /// it: `X-Request-Id`, and `Cache-Control` where that is ours to say: what it says then.
    ///
    /// # Errors
    /// When it cannot be changed as it must be: then it must not go out.
    pub(super) async fn answered(
        &self,
        head: &RequestHeader,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<Option<&'static str>> {
        if response.status == StatusCode::SWITCHING_PROTOCOLS && ctx.manner != Manner::Tunnel {
            // A client that did not ask would take whatever follows for its next answer.
            let unasked = "the app switches protocols unasked";
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, unasked).into_up());
        }
        if let Some(watch) = ctx.watch.take()
            && let Some(what) = watch.finish(response.status, &self.line)
        {
            self.metrics.evicted(what);
        }
        intercept::learn(
            &response.headers,
            &head.headers,
            &self.responder.session_cookies,
            &self.line,
        );
        if response.status.is_redirection() {
            ctx.private |= self.watch_bounce(head, response)?;
        }
        if let Some(renewer) = &self.renewer {
            self.keep_cookie(renewer, head, response, ctx)?;
        }
        if let Some(entry) = ctx.permit.as_ref().and_then(Permit::principal)
            && !ctx.at_auth
            // Whoever came with the same token as a bearer is not the browser that waits for it.
            && entry.method() == credential::Method::SESSION
            && entry.stands(&self.gate.sessions.cache().revocations)
            && let Some(owed) = entry.take_owed()
        {
            ctx.private |= hand_over(response, &owed)?;
        }
        if !ctx.passage.is_plain() {
            ctx.private = true;
            ctx.passage.hear(response).await?;
        }
        if streams::is_stream(response.status, &response.headers) {
            self.keep_watching(ctx)?;
        }
        let caches = ctx.private.then(|| keep_private(response));
        let leaked: Vec<HeaderName> = response
            .headers
            .keys()
            .filter(|name| self.identity.owned().is_identity(name.as_str()))
            .cloned()
            .collect();
        for name in &leaked {
            response.remove_header(name);
        }
        Ok(caches)
    }

    /// What becomes of an exchange that failed: its status (0: there is nobody left to tell), and the answer, unless one has begun.
    pub(super) fn failure(
        &self,
        error: &Error,
        is_begun: bool,
        ctx: &mut Ctx,
    ) -> (u16, Option<Answer>) {
        if let Some(answer) = ctx.refusal.take() {
            ctx.is_turned_away = true;
            return (answer.status.as_u16(), Some(answer).filter(|_| !is_begun));
        }
        let status = status_of(error);
        if *error.esource() == ErrorSource::Upstream {
            self.metrics.upstream_failed();
        }
        if status == 0 || is_begun {
            return (status, None);
        }
        let shown = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let form = ctx
            .decided
            .as_ref()
            .map_or(Form::Program, |decided| decided.form);
        let id = &ctx.trace.request_id;
        let (code, message) = match ctx.refused {
            Some(reason) => (reason, "The request was not accepted.\n"),
            None if shown.is_client_error() => ("request", "The request was not accepted.\n"),
            None => ("upstream", "The app did not answer.\n"),
        };
        let answer = match form {
            Form::Document | Form::DocumentPost => {
                respond::page(shown, title(shown), message.trim_end(), id)
            }
            Form::ServerAction => respond::text(shown, message),
            Form::Program | Form::Preflight => respond::problem(shown, title(shown), code, id),
        };
        (status, Some(answer))
    }

    /// The answer to a request that nobody looks at further.
    pub(super) fn turn_down(&self, malformed: &Malformed, ctx: &mut Ctx) -> Answer {
        ctx.refused = Some(malformed.reason);
        self.metrics.refused(malformed.reason);
        respond::problem(
            malformed.status,
            title(malformed.status),
            malformed.reason,
            &ctx.trace.request_id,
        )
    }

    /// A request in a few words. Queries carry reset tokens and OAuth codes: never in a log.
    pub(super) fn summary(&self, head: &RequestHeader) -> String {
        format!(
            "{} {}",
            head.method,
            intercept::loggable_path(
                verify::without_original(head.uri.path()),
                &self.auth_base_path
            )
        )
    }

    /// Counts a request that had its answer at `ended` (0: it has none), and tells of it in the access log.
    pub(super) fn tell(
        &self,
        head: &RequestHeader,
        status: u16,
        error: Option<&Error>,
        ended: Instant,
        ctx: &mut Ctx,
    ) {
        self.metrics.answered(status);
        if let Some(watch) = ctx.watch.take().filter(|_| ctx.attempts > 0)
            && let Some(what) = watch.abandon(&self.line)
        {
            self.metrics.evicted(what);
        }
        if !self.access_log {
            return;
        }
        let (verdict, reason, route, form, validation_us) = match &ctx.decided {
            Some(decided) => (
                decided.verdict,
                decided.reason,
                self.gate.routes.route(decided.route).pattern.as_str(),
                decided.form.as_str(),
                micros(decided.took),
            ),
            None => ("refused", ctx.refused.unwrap_or("own"), "", "", 0),
        };
        let path = verify::without_original(head.uri.path());
        let told = access::Request {
            method: head.method.as_str(),
            path: &intercept::loggable_path(path, &self.auth_base_path),
            status,
            verdict,
            reason: ctx.refused.unwrap_or(reason),
            route,
            kind: form,
            client: ctx.client.as_ref().map(|client| client.text.as_str()),
            duration_us: micros(ended.saturating_duration_since(ctx.started)),
            validation_us,
            request_id: &ctx.trace.request_id,
            error: error.map(|error| error.etype().as_str()),
        };
        told.tell();
    }

    /// What time a request is passed on at, by the clock on the wall: when it was judged, a moment ago.
    pub(super) fn passed_at(&self, ctx: &Ctx) -> UnixMs {
        let decided = ctx.decided.as_ref();
        decided.map_or_else(|| self.gate.clock.now(), |decided| decided.at)
    }

    /// A piece of an answer has passed, and it was not the last: one that lasts ends when the session it is for does.
    ///
    /// # Errors
    /// When no more of them can be watched.
    pub(super) fn goes_on(&self, ctx: &mut Ctx) -> Result<()> {
        if ctx.place.is_none() && ctx.started.elapsed() >= streams::LONG {
            self.keep_watching(ctx)?;
        }
        Ok(())
    }

    /// A proxy asks about a request of its own.
    async fn verify(
        &self,
        settings: &verify::Settings,
        exchange: &mut Exchange,
        peer: IpAddr,
        client: Client,
        ctx: &mut Ctx,
    ) -> Result<bool> {
        let id = ctx.trace.request_id.clone();
        let head = exchange.req_header();
        let framing = match declares_two_framings(exchange) {
            true => Err(Malformed::bad("framing")),
            false => self.check_framing(head),
        };
        if let Err(malformed) = framing {
            ctx.refused = Some(malformed.reason);
            self.metrics.refused(malformed.reason);
            exchange.set_keepalive(None);
            let (status, reason) = (malformed.status, malformed.reason);
            let answer = respond::problem(status, title(status), reason, &id);
            write(exchange, answer, &id).await?;
            return Ok(true);
        }
        let question = verify::Question {
            head,
            peer,
            client: client.address,
            request_id: &id,
        };
        let verified = verify::answer(self, settings, &question).await;
        if let Some((decision, took)) = &verified.decision {
            self.note(decision, *took, ctx);
        }
        if let Some(reason) = verified.refused {
            ctx.refused = Some(reason);
            self.metrics.refused(reason);
        }
        write(exchange, verified.answer, &id).await?;
        Ok(true)
    }

    /// A request that brings something of an old system, and nothing of ours: it may go on with a session.
    async fn arrive(
        &self,
        migration: &Migration,
        exchange: &mut Exchange,
        client: Client,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let Some(arrivals) = &migration.arrivals else {
            return Ok(());
        };
        let head = exchange.req_header();
        if !arrivals.concerns(&head.headers) {
            return Ok(());
        }
        // Whatever is malformed is refused later, with its reason.
        let (Some(host), Ok(target)) = (forward::host_of(head), Target::parse(target_bytes(head)))
        else {
            return Ok(());
        };
        if !forward::answers_for(&self.settings.hosts, &host) || self.check_framing(head).is_err() {
            return Ok(());
        }
        let request = RequestView {
            method: &head.method,
            target,
            host: &host,
            headers: &head.headers,
            client: client.address,
        };
        let Some(arrival) = arrivals.arrive(&request, &self.gate).await else {
            return Ok(());
        };
        if let Some(cookie) = arrival.cookie {
            exchange.req_header_mut().insert_header(COOKIE, cookie)?;
        }
        ctx.passage.owe(arrival.set);
        ctx.undecided = arrival.unavailable;
        Ok(())
    }

    /// A token of the old system from browser storage, handed in by a script. `None`: the request is another one.
    async fn hand_in(
        &self,
        migration: &Migration,
        exchange: &mut Exchange,
        client: Client,
        ctx: &Ctx,
    ) -> Result<Option<std::result::Result<Option<Answer>, Malformed>>> {
        let Some(arrivals) = &migration.arrivals else {
            return Ok(None);
        };
        let head = exchange.req_header();
        if head.method != Method::POST
            || !target_bytes(head).starts_with(bridge::PATH.as_bytes())
            || !Target::parse(target_bytes(head)).is_ok_and(|target| target.path() == bridge::PATH)
            || declares_two_framings(exchange)
            || self.check_framing(head).is_err()
            || !forward::host_of(head)
                .is_some_and(|host| forward::answers_for(&self.settings.hosts, &host))
        {
            // Whatever is malformed is refused later, with its reason.
            return Ok(None);
        }
        let too_long = || Malformed {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            reason: "body_too_large",
        };
        let body = match body::hold(exchange, self.settings.timeouts.body_read).await? {
            Held::Whole(body) => body,
            Held::Longer | Held::TooLong => return Ok(Some(Err(too_long()))),
        };
        let head = exchange.req_header();
        let (Some(host), Ok(target)) = (forward::host_of(head), Target::parse(target_bytes(head)))
        else {
            return Ok(None);
        };
        let request = RequestView {
            method: &head.method,
            target,
            host: &host,
            headers: &head.headers,
            client: client.address,
        };
        let id = &ctx.trace.request_id;
        let answered = arrivals.hand_in(&request, &body, &self.gate, id);
        Ok(Some(Ok(Some(answered.await))))
    }

    /// A request to an auth endpoint that the migration may look into.
    async fn migrate(
        &self,
        migration: &Migration,
        exchange: &mut Exchange,
        client: Client,
        ctx: &mut Ctx,
    ) -> Result<std::result::Result<Option<Answer>, Malformed>> {
        let head = exchange.req_header();
        let target = Target::parse(target_bytes(head)).ok();
        let endpoint = target
            .as_ref()
            .and_then(|target| target.path().strip_prefix(self.auth_base_path.as_str()))
            .filter(|endpoint| head.method == Method::POST && migration.concerns(endpoint));
        let Some(endpoint) = endpoint else {
            return Ok(Ok(None));
        };
        let insists = migration.insists(endpoint);
        let body = match body::hold(exchange, self.settings.timeouts.body_read).await? {
            Held::Whole(body) => body,
            Held::Longer if !insists => return Ok(Ok(None)),
            Held::Longer | Held::TooLong => {
                return Ok(Err(Malformed {
                    status: StatusCode::PAYLOAD_TOO_LARGE,
                    reason: "body_too_large",
                }));
            }
        };
        let head = exchange.req_header();
        let (Some(host), Ok(target)) = (forward::host_of(head), Target::parse(target_bytes(head)))
        else {
            return Ok(Ok(None));
        };
        let request = RequestView {
            method: &head.method,
            target,
            host: &host,
            headers: &head.headers,
            client: client.address,
        };
        let endpoint = target.path().strip_prefix(self.auth_base_path.as_str());
        let posted = Posted {
            request: &request,
            endpoint: endpoint.unwrap_or_default(),
            body: &body,
            client: client.address,
            request_id: &ctx.trace.request_id,
            gate: &self.gate,
        };
        let (becomes, heard) = migration.course(posted).await;
        Ok(Ok(match becomes {
            Ok(body) => {
                ctx.passage.forward(body, heard);
                None
            }
            Err(mut answer) => {
                self.responder.allow_origin(&request, &mut answer);
                Some(answer)
            }
        }))
    }

    /// Looks at a request until it is clear what happens to it: an answer of ours, or (`None`) the app's.
    pub(super) async fn consider(
        &self,
        head: &RequestHeader,
        client: Client,
        ctx: &mut Ctx,
    ) -> std::result::Result<Option<Answer>, Malformed> {
        self.check_framing(head)?;
        let host = forward::host_of(head).ok_or(Malformed::bad("host"))?;
        if !forward::answers_for(&self.settings.hosts, &host) {
            return Err(Malformed {
                status: StatusCode::MISDIRECTED_REQUEST,
                reason: "host_not_served",
            });
        }
        let target = Target::parse(target_bytes(head))
            .map_err(|ambiguity| Malformed::bad(ambiguity.as_str()))?;
        if forward::has_internal_query(&target) {
            return Err(Malformed::bad("internal_query"));
        }
        if self.settings.forward_auth.is_some() && target.path() == userinfo::PATH {
            let request = RequestView {
                method: &head.method,
                target,
                host: &host,
                headers: &head.headers,
                client: client.address,
            };
            let public_url = &self.settings.public_url;
            let id = &ctx.trace.request_id;
            let answer = userinfo::answer(&request, &self.gate, public_url, id).await;
            return Ok(Some(answer));
        }
        if let Some(answer) = self.own_endpoint(&head.method, target.path(), &ctx.trace.request_id)
        {
            return Ok(Some(answer));
        }

        let request = RequestView {
            method: &head.method,
            target,
            host: &host,
            headers: &head.headers,
            client: client.address,
        };
        let began = Instant::now();
        let mut decision = self
            .gate
            .judge(&request)
            .await
            .map_err(|ambiguity| Malformed::bad(ambiguity.as_str()))?;
        spare_the_undecided(&mut decision, ctx);
        ctx.is_asked = decision.tier != Tier::None;
        ctx.decided_at = Instant::now();
        let took = ctx.decided_at.saturating_duration_since(began);
        self.note(&decision, took, ctx);
        if let Some(answer) = self
            .responder
            .refuse(&request, &decision, &ctx.trace.request_id)
        {
            let id = &ctx.trace.request_id;
            return Ok(Some(self.watch_rounds(&request, &decision, id, answer)));
        }
        if let Some(answer) = self.take_mark_off(&request, decision.form) {
            return Ok(Some(answer));
        }
        if let Some(door) = &self.door
            && let Some(answer) = door.answer(&request, &self.gate).await
        {
            return Ok(Some(answer));
        }
        let destination = self.gate.routes.route(decision.destination);
        ctx.app = destination.upstream;
        let scanner = self.gate.routes.actions_in(&request, destination.upstream);
        ctx.actions = scanner.map(Box::new);
        ctx.watch = Watch::begin(&request, &self.auth_base_path, &self.gate).await;
        ctx.at_auth = is_below(&self.auth_base_path, target.path());
        if let (Some(slider), Verdict::Allow(permit)) = (&self.slider, &decision.verdict)
            && let Some(entry) = permit.principal()
            && !ctx.at_auth
        {
            slider.begin(entry, &request, &self.gate.sessions, decision.at);
        }
        if let Verdict::Allow(permit) = decision.verdict {
            ctx.private =
                (decision.protected || permit.principal().is_some()) && !destination.app_caches;
            ctx.permit = Some(permit);
        }
        Ok(None)
    }

    /// Looks through a short body for Server Actions before the app has anything of the request, so that it is told who is calling
    /// where an action asks for that. A longer one, or one of unknown length, is looked through on its way.
    async fn look_for_actions(
        &self,
        exchange: &mut Exchange,
        client: Client,
        ctx: &mut Ctx,
    ) -> Result<std::result::Result<Option<Answer>, Malformed>> {
        let length = exchange.req_header().headers.get(CONTENT_LENGTH);
        let is_short = length
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
            .is_some_and(|length| length <= body::HELD_BYTES_MAX);
        // What the migration looks into, it has held already.
        if !is_short || ctx.at_auth {
            return Ok(Ok(None));
        }
        let (Some(mut scanner), Held::Whole(body)) = (
            ctx.actions.take(),
            body::hold(exchange, self.settings.timeouts.body_read).await?,
        ) else {
            return Ok(Err(Malformed {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                reason: "body_too_large",
            }));
        };
        ctx.is_held = true;
        scanner.read(&body);
        scanner.finish();
        if scanner.routes().is_empty() {
            return Ok(Ok(None));
        }
        let judged = self
            .judge_actions(exchange.req_header(), client, scanner.routes(), ctx)
            .await;
        Ok(judged.map(|judged| match judged {
            Ok(permit) => {
                ctx.permit = Some(permit);
                None
            }
            Err(answer) => Some(answer),
        }))
    }

    /// A body that is on its way to the app has named Server Actions. The piece that does has not left yet, so on a refusal the app
    /// never has the whole of it, and runs nothing.
    async fn judge_on_the_way(
        &self,
        head: &RequestHeader,
        routes: &[RouteId],
        ctx: &mut Ctx,
    ) -> Result<()> {
        let Some(client) = ctx.client else {
            return Error::e_explain(ErrorType::InternalError, "no client");
        };
        let answer = match self.judge_actions(head, client, routes, ctx).await {
            // Who is calling stands in the head, which has left: an action that asks for somebody finds whom the path asked for.
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(answer)) => answer,
            Err(malformed) => {
                ctx.refused = Some(malformed.reason);
                let id = &ctx.trace.request_id;
                let (status, reason) = (malformed.status, malformed.reason);
                respond::problem(status, title(status), reason, id)
            }
        };
        let status = answer.status.as_u16();
        ctx.refusal = Some(answer);
        Error::e_explain(
            ErrorType::HTTPStatus(status),
            "the body names a server action that the caller may not run",
        )
    }

    /// Whether whoever sent a request may run the actions that its body names: what lets it pass, or our answer.
    async fn judge_actions(
        &self,
        head: &RequestHeader,
        client: Client,
        routes: &[RouteId],
        ctx: &mut Ctx,
    ) -> std::result::Result<std::result::Result<Permit, Answer>, Malformed> {
        let host = forward::host_of(head).ok_or(Malformed::bad("host"))?;
        let target = Target::parse(target_bytes(head))
            .map_err(|ambiguity| Malformed::bad(ambiguity.as_str()))?;
        let request = RequestView {
            method: &head.method,
            target,
            host: &host,
            headers: &head.headers,
            client: client.address,
        };
        let began = Instant::now();
        let mut decision = self
            .gate
            .judge_with(&request, routes, !ctx.is_asked)
            .await
            .map_err(|ambiguity| Malformed::bad(ambiguity.as_str()))?;
        spare_the_undecided(&mut decision, ctx);
        ctx.is_asked |= decision.tier != Tier::None;
        self.note(&decision, began.elapsed(), ctx);
        let id = &ctx.trace.request_id;
        if let Some(answer) = self.responder.refuse(&request, &decision, id) {
            return Ok(Err(answer));
        }
        let Verdict::Allow(permit) = decision.verdict else {
            // Every other verdict has an answer.
            return Err(Malformed::bad("verdict"));
        };
        let destination = self.gate.routes.route(decision.destination);
        ctx.private |=
            (decision.protected || permit.principal().is_some()) && !destination.app_caches;
        Ok(Ok(permit))
    }

    /// Where the cookie is the session: ends it when the app has, and writes it anew near its end.
    fn keep_cookie(
        &self,
        renewer: &Renewer,
        head: &RequestHeader,
        response: &mut ResponseHeader,
        ctx: &Ctx,
    ) -> Result<()> {
        let path = Target::parse(target_bytes(head)).map_or("", |target| target.path());
        let answered = Answered {
            method: &head.method,
            path,
            request: &head.headers,
            status: response.status,
            response: &response.headers,
        };
        let sessions = &self.gate.sessions;
        renewer.end_sessions(&answered, &self.auth_base_path, sessions);
        let entry = ctx.permit.as_ref().and_then(Permit::principal);
        // An answer that shared caches may keep must not carry anybody's session.
        let Some(entry) = entry.filter(|_| ctx.private) else {
            return Ok(());
        };
        let lines = renewer.cookies_to_set(entry, &answered, sessions, self.gate.clock.now());
        for line in lines {
            response.append_header(SET_COOKIE, line)?;
        }
        Ok(())
    }

    /// What the HTTP library lets through and an app might read differently.
    fn check_framing(&self, head: &RequestHeader) -> std::result::Result<(), Malformed> {
        let limits = &self.settings.limits;
        let headers = &head.headers;
        if target_bytes(head).len() > limits.target_bytes {
            return Err(Malformed {
                status: StatusCode::URI_TOO_LONG,
                reason: "target_too_long",
            });
        }
        // One look at each header, for all that is asked of it.
        let (mut bytes, mut lengths, mut encodings, mut hosts) = (0, 0, 0, 0);
        let (mut is_framed, mut is_honest) = (true, true);
        for (name, value) in headers {
            bytes += name.as_str().len() + value.len() + 4;
            if *name == CONTENT_LENGTH {
                lengths += 1;
                // `1, 1` is a length to some and nonsense to others.
                is_framed &= value.as_bytes().iter().all(u8::is_ascii_digit);
            } else if *name == TRANSFER_ENCODING {
                encodings += 1;
                // What else may stand there (`gzip, chunked`, `chunked, chunked`, `, chunked`) is read in as many ways as there are
                // servers.
                is_framed &= value
                    .as_bytes()
                    .trim_ascii()
                    .eq_ignore_ascii_case(b"chunked");
            } else if *name == HOST {
                hosts += 1;
            } else if *name == CONNECTION {
                is_honest &= forward::connection_is_honest(value);
            }
        }
        if bytes > limits.header_bytes {
            return Err(Malformed {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                reason: "headers_too_large",
            });
        }
        if head.version < Version::HTTP_2 && (!is_framed || lengths + encodings > 1) {
            return Err(Malformed::bad("framing"));
        }
        if hosts > 1 {
            return Err(Malformed::bad("host"));
        }
        if !is_honest {
            return Err(Malformed::bad("connection_nomination"));
        }
        if lengths == 0 {
            return Ok(());
        }
        let declared = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if limits.body_bytes > 0 && declared.is_some_and(|bytes| bytes > limits.body_bytes) {
            return Err(Malformed {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                reason: "body_too_large",
            });
        }
        Ok(())
    }

    fn own_endpoint(&self, method: &Method, path: &str, request_id: &str) -> Option<Answer> {
        let read = method == Method::GET || method == Method::HEAD;
        if path == KEY_SET_PATH && read {
            let mut answer = respond::json(StatusCode::OK, &self.identity.key_set());
            // Keys are public, and change with the secret: five minutes bridge a rollover.
            answer.headers.retain(|(name, _)| *name != CACHE_CONTROL);
            answer.push(CACHE_CONTROL, "public, max-age=300");
            return Some(answer);
        }
        let own = path.starts_with(OWN_PREFIX) || path == OWN_PREFIX.trim_end_matches('/');
        own.then(|| respond::problem(StatusCode::NOT_FOUND, "Not Found", "not_found", request_id))
    }

    /// The answer goes on: it ends when the session it is for does.
    fn keep_watching(&self, ctx: &mut Ctx) -> Result<()> {
        let (Some(permit), Some(decided), Some(client)) = (&ctx.permit, &ctx.decided, ctx.client)
        else {
            return Ok(());
        };
        let (Some(entry), None) = (permit.principal(), &ctx.place) else {
            return Ok(());
        };
        let opened = Opened {
            entry: Arc::clone(entry),
            route: decided.route,
            form: decided.form,
            client: client.address,
        };
        let full = || {
            Error::explain(
                ErrorType::HTTPStatus(503),
                "no stream can be watched any more",
            )
        };
        let end = streams::end_of_this_exchange().ok_or_else(full)?;
        let place = self.streams.open(opened, end, &self.gate, self.recheck);
        ctx.place = Some(place.ok_or_else(full)?);
        Ok(())
    }

    fn note(&self, decision: &Decision, took: Duration, ctx: &mut Ctx) {
        let (verdict, reason) = (decision.verdict.as_str(), decision.reason.as_str());
        self.metrics.decided(verdict, reason);
        self.metrics.validated(decision.tier, took);
        if self.doubt.arises(decision) {
            tracing::warn!(
                "every session cookie so far has a wrong signature: is `better_auth.secret` the app's own?"
            );
        }
        ctx.decided = Some(Decided {
            verdict,
            reason,
            form: decision.form,
            route: decision.route,
            took,
            at: decision.at,
        });
    }

    /// A number nobody needs to be unable to guess (SplitMix64).
    pub(super) fn random(&self) -> u64 {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        let mut mixed = self
            .seed
            .wrapping_add(drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// An outage of the old system signs nobody out: whoever may have a session there is not sent to sign in.
fn spare_the_undecided(decision: &mut Decision, ctx: &Ctx) {
    let challenges = matches!(
        decision.verdict,
        Verdict::Redirect(To::SignIn(Ask::SignIn)) | Verdict::Unauthorized(Ask::SignIn)
    );
    if ctx.undecided && challenges {
        (decision.verdict, decision.reason) = (Verdict::Unavailable, Reason::Store);
    }
}

/// Whether a path is the base path or below it.
fn is_below(base: &str, path: &str) -> bool {
    path.strip_prefix(base)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Gives the browser the cookies it is owed, but for those the app sets itself. Says whether there were any.
fn hand_over(response: &mut ResponseHeader, owed: &[HeaderValue]) -> Result<bool> {
    let name = |line: &HeaderValue| {
        let line = line.as_bytes();
        line.split(|byte| *byte == b'=')
            .next()
            .map(|name| name.trim_ascii().to_vec())
    };
    let set: Vec<_> = response
        .headers
        .get_all(SET_COOKIE)
        .iter()
        .map(name)
        .collect();
    let ours: Vec<_> = owed
        .iter()
        .filter(|line| !set.contains(&name(line)))
        .collect();
    for line in &ours {
        response.append_header(SET_COOKIE, (*line).clone())?;
    }
    Ok(!ours.is_empty())
}

/// The target as it came. HTTP/2 carries it in pieces, of which the path is one.
pub(super) fn target_bytes(head: &RequestHeader) -> &[u8] {
    head.raw_path()
}

fn has_body(headers: &http::HeaderMap) -> bool {
    headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING)
}

/// Whether a head says both how long its body is and that it comes in chunks. The HTTP library follows RFC 9112 and has dropped
/// the length by now; whoever stands in front of us may have followed it.
fn declares_two_framings(exchange: &Exchange) -> bool {
    if !exchange
        .req_header()
        .headers
        .contains_key(TRANSFER_ENCODING)
    {
        return false;
    }
    exchange.as_downstream().as_http1().is_some_and(|http1| {
        http1
            .get_headers_raw_bytes()
            .split(|byte| *byte == b'\n')
            .any(|line| {
                let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
                name.trim_ascii()
                    .eq_ignore_ascii_case(CONTENT_LENGTH.as_str().as_bytes())
            })
    })
}

/// Whether a request line names more than what is judged and forwarded. The HTTP library drops a fragment before anybody sees it;
/// whoever stands in front of us may have looked at it.
fn hides_part_of_the_target(exchange: &Exchange) -> bool {
    exchange.as_downstream().as_http1().is_some_and(|http1| {
        let raw = http1.get_headers_raw_bytes();
        let line = raw.trim_ascii_start();
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        line.contains(&b'#')
    })
}

pub(super) fn accepts_events(head: &RequestHeader) -> bool {
    head.headers
        .get(http::header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"))
}

/// No shared cache may keep this answer, whatever the app said: what `Cache-Control` says then. `no-transform` stays: it keeps streams
/// unbuffered.
fn keep_private(response: &mut ResponseHeader) -> &'static str {
    let no_transform = response.headers.get_all(CACHE_CONTROL).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.contains("no-transform"))
    });
    // Few apps send any: one look over the names is cheaper than four for them.
    let is_shared = |name: &HeaderName| SHARED_CACHE_HEADERS.contains(name);
    if response.headers.keys().any(is_shared) {
        for name in &SHARED_CACHE_HEADERS {
            response.remove_header(name);
        }
    }
    if no_transform {
        PRIVATE_UNCHANGED
    } else {
        PRIVATE
    }
}

/// The head of an answer of ours.
pub(super) fn head_of(answer: &mut Answer, request_id: &str) -> Result<ResponseHeader> {
    let mut header = ResponseHeader::build(answer.status, Some(answer.headers.len() + 2))?;
    for (name, value) in answer.headers.drain(..) {
        header.append_header(name, value)?;
    }
    header.insert_header(CONTENT_LENGTH, answer.body.len().to_string())?;
    if !request_id.is_empty() {
        header.insert_header("X-Request-Id", request_id)?;
    }
    Ok(header)
}

async fn write(exchange: &mut Exchange, mut answer: Answer, request_id: &str) -> Result<()> {
    let header = head_of(&mut answer, request_id)?;
    let no_body = answer.body.is_empty() || exchange.req_header().method == Method::HEAD;
    exchange
        .write_response_header(Box::new(header), no_body)
        .await?;
    if !no_body {
        exchange
            .write_response_body(Some(answer.body), true)
            .await?;
    }
    Ok(())
}

/// The status a failed exchange is answered with; 0 when there is nobody left to answer.
fn status_of(error: &Error) -> u16 {
    match error.etype() {
        ErrorType::HTTPStatus(status) => *status,
        ErrorType::ReadTimedout | ErrorType::ConnectTimedout
            if *error.esource() == ErrorSource::Upstream =>
        {
            504
        }
        ErrorType::ConnectTimedout => 504,
        ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed
            if *error.esource() == ErrorSource::Downstream =>
        {
            0
        }
        ErrorType::ReadTimedout if *error.esource() == ErrorSource::Downstream => 408,
        _ => match error.esource() {
            ErrorSource::Upstream => 502,
            ErrorSource::Downstream => 400,
            ErrorSource::Internal | ErrorSource::Unset => match error.etype() {
                ErrorType::ConnectError | ErrorType::ConnectRefused | ErrorType::ConnectNoRoute => {
                    502
                }
                _ => 500,
            },
        },
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}
