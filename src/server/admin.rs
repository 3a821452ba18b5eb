//! The admin listener: health, metrics, and forgetting sessions. On a port of its own, on a thread that no request keeps busy.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Response, StatusCode};
use pingora::apps::ServerApp as _;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use super::migration::bans;
use super::proxy::Gateway;
use crate::secret::Secret;
use crate::session::Keeper;
use crate::session::feed::{Ended, TokenDigest};
use crate::session::resolve::Sessions;

/// Longest body read, in bytes: it holds one id.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// How soon a connection is accepted again after one could not be.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Answers on the admin listener.
pub struct Admin {
    /// The gateway it speaks of.
    pub gateway: Arc<Gateway>,
    /// Where it listens.
    pub address: SocketAddr,
    /// What `Authorization: Bearer` must carry.
    pub token: Option<Secret>,
    /// Whether the gateway was asked to stop.
    pub stopping: Arc<AtomicBool>,
}

/// What `POST /sessions/evict` takes: exactly one of these. It is forgotten here at once, and the other gateways are told.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Evict {
    /// One session, by its token.
    token: Option<String>,
    /// Every session of a user, by id.
    #[serde(alias = "user_id")]
    user: Option<String>,
    /// Every session in which an organization is the active one, by id.
    organization: Option<String>,
    /// An API key, by its id or in the form in which the app stores it.
    api_key: Option<String>,
    /// Everything.
    all: bool,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, exchange: &mut ServerSession) -> Response<Vec<u8>> {
        // One answer a connection: nothing is left open when the gateway stops.
        exchange.set_keepalive(None);
        let head = exchange.req_header();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let verbose = head.uri.query() == Some("verbose");
        let headers = head.headers.clone();
        if !host_is_ours(&headers) {
            return plain(
                StatusCode::MISDIRECTED_REQUEST,
                "this listener answers to IP addresses and localhost only\n",
            );
        }
        let read = method == Method::GET || method == Method::HEAD;
        match path.as_str() {
            "/livez" if read => return plain(StatusCode::OK, "ok\n"),
            "/readyz" if read => return self.ready(verbose).await,
            "/metrics" if read => return self.metrics(),
            _ => {}
        }
        // State-changing calls always need the token; off loopback, everything else does too.
        let guarded = !read || path == "/bans" || !self.address.ip().is_loopback();
        if guarded && !self.is_authorized(&headers) {
            let mut answer = plain(
                StatusCode::UNAUTHORIZED,
                "send `Authorization: Bearer <admin_token>`\n",
            );
            answer
                .headers_mut()
                .insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
            return answer;
        }
        match (method, path.as_str()) {
            (Method::POST, "/sessions/evict") => self.evict(exchange).await,
            (Method::GET, "/bans") => bans::list(&self.gateway).await,
            (Method::POST, "/bans/lift") => match read_body(exchange).await {
                Ok(body) => bans::lift(&self.gateway, &body).await,
                Err(answer) => answer,
            },
            (Method::GET | Method::HEAD, "/") => plain(
                StatusCode::OK,
                "vestibule\n\n/livez\n/readyz?verbose\n/metrics\nPOST /sessions/evict\n/bans\nPOST /bans/lift\n",
            ),
            _ => plain(StatusCode::NOT_FOUND, "not found\n"),
        }
    }
}

impl Admin {
    /// Answers whoever connects, until it is dropped.
    pub async fn listen(self, listener: std::net::TcpListener) {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
            return;
        };
        let admin = Arc::new(self);
        // Each connection is for one answer: none is left that has to be told of a stop.
        let (_running, shutdown) = watch::channel(false);
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, mostly: there may be some again.
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            };
            // Head and body are two writes; without it the second may wait for the first to be acknowledged.
            let _ = stream.set_nodelay(true);
            let (admin, shutdown) = (Arc::clone(&admin), shutdown.clone());
            tokio::spawn(async move {
                let stream = Box::new(l4::stream::Stream::from(stream));
                admin.process_new(stream, &shutdown).await;
            });
        }
    }

    async fn ready(&self, verbose: bool) -> Response<Vec<u8>> {
        let stopping = self.stopping.load(Ordering::SeqCst);
        // A store that is down does not take the gateway out of service: public pages and remembered sessions go on.
        let ready = !stopping;
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        if !verbose {
            return plain(status, if ready { "ok\n" } else { "stopping\n" });
        }
        // Asked only for people: a store that hangs must not make a probe wait until it gives up on us.
        let source = self.gateway.gate.sessions.source();
        let mut parts = source.parts();
        if parts.is_empty() {
            parts.push(source);
        }
        let word = |ok: bool| if ok { "ok" } else { "failing" };
        let answers = join_all(parts.iter().map(|part| part.ping())).await;
        let stores: String = parts
            .iter()
            .zip(answers)
            .map(|(part, answer)| {
                format!("[{}] sessions ({})\n", word(answer.is_ok()), part.name())
            })
            .collect();
        let line = match self.gateway.line.state() {
            Some((name, up)) => format!("[{}] revocations ({name})\n", word(up)),
            None => "[off] revocations made elsewhere count after `sessions.cache_ttl`\n".into(),
        };
        let report = format!(
            "[{}] accepting\n{stores}{line}sessions remembered: {}\nstreams open: {}\n",
            word(!stopping),
            self.gateway.gate.sessions.cache().len(),
            self.gateway.streams.len(),
        );
        answer(status, "text/plain; charset=utf-8", report.into_bytes())
    }

    fn metrics(&self) -> Response<Vec<u8>> {
        let cache = self.gateway.gate.sessions.cache();
        self.gateway.metrics.cache_size(cache.len(), cache.weight());
        let identity = &self.gateway.identity;
        self.gateway
            .metrics
            .assertions_size(identity.assertions_weight());
        if let Some(keys) = &self.gateway.api_keys {
            self.gateway.metrics.keys(keys.len(), keys.unwritten());
        }
        answer(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            self.gateway.metrics.render().into_bytes(),
        )
    }

    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return false;
        };
        let said = headers
            .get(AUTHORIZATION)
            .map(http::HeaderValue::as_bytes)
            .unwrap_or_default();
        let said = match said.split_at_checked(7) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer ") => rest,
            _ => return false,
        };
        bool::from(said.ct_eq(token.expose().as_bytes()))
    }

    async fn evict(&self, exchange: &mut ServerSession) -> Response<Vec<u8>> {
        let body = match read_body(exchange).await {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let line = &self.gateway.line;
        let Evict {
            token,
            user,
            organization,
            api_key,
            all,
        } = serde_json::from_slice(&body).unwrap_or_default();
        match (token, user, organization, api_key, all) {
            (Some(token), None, None, None, false) => {
                let seal = line.sessions().signer().seal(&token);
                line.end_session(&seal, Some(TokenDigest::of(&token)));
                end_for_good(line.sessions(), &Ended::Token(TokenDigest::of(&token)));
            }
            (None, Some(user), None, None, false) => {
                let user = Ended::User(user.into());
                end_for_good(line.sessions(), &user);
                line.end(user);
            }
            (None, None, Some(organization), None, false) => {
                line.end(Ended::Organization(organization.into()));
            }
            (None, None, None, Some(api_key), false) => line.end(Ended::ApiKey(api_key.into())),
            (None, None, None, None, true) => line.end(Ended::All),
            _ => {
                let help = "send one of {\"token\": \"…\"}, {\"user\": \"…\"}, {\"organization\": \"…\"}, \
                            {\"api_key\": \"…\"} or {\"all\": true}\n";
                return plain(StatusCode::BAD_REQUEST, help);
            }
        }
        self.gateway.metrics.evicted("admin");
        answer(
            StatusCode::NO_CONTENT,
            "text/plain; charset=utf-8",
            Vec::new(),
        )
    }
}

/// A body that holds one id.
async fn read_body(exchange: &mut ServerSession) -> Result<Vec<u8>, Response<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        match exchange.read_request_body().await {
            Ok(Some(piece)) if body.len() + piece.len() <= BODY_BYTES_MAX => {
                body.extend_from_slice(&piece)
            }
            Ok(Some(_)) => {
                let help = "the body holds one id\n";
                return Err(plain(StatusCode::PAYLOAD_TOO_LARGE, help));
            }
            Ok(None) => return Ok(body),
            Err(_) => {
                let help = "the body could not be read\n";
                return Err(plain(StatusCode::BAD_REQUEST, help));
            }
        }
    }
}

/// Whether `Host` is an IP address or `localhost`: a name that somebody points at this machine later is neither.
fn host_is_ours(headers: &HeaderMap) -> bool {
    let Some(said) = headers.get(HOST).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let host = match said.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.is_empty() =>
        {
            host
        }
        _ => said,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

pub(super) fn plain(status: StatusCode, body: &str) -> Response<Vec<u8>> {
    answer(
        status,
        "text/plain; charset=utf-8",
        body.as_bytes().to_vec(),
    )
}

pub(super) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
) -> Response<Vec<u8>> {
    let length = body.len();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    headers.insert(
        http::header::CONTENT_LENGTH,
        http::HeaderValue::from(length),
    );
    headers.insert(
        http::header::CACHE_CONTROL,
        http::HeaderValue::from_static("no-store"),
    );
    headers.insert(
        "x-content-type-options",
        http::HeaderValue::from_static("nosniff"),
    );
    answer
}

/// Where the cookie is the session, to forget it is not enough: it would be believed again. Beside a store that is as it should be.
fn end_for_good(sessions: &Sessions, what: &Ended) {
    if sessions.keeper() == Keeper::Cookie {
        sessions.cache().end(what);
    }
}
