//! Forward-auth: the same gate for people who keep their proxy. The proxy asks about each request before it passes it on; what was
//! asked of it is judged as if it had come here, and the answer says whether it may go to the app, and as whom.
//!
//! Whoever may ask chooses the method, the host and the path that are judged, and is told who is calling. So only peers that are
//! named as forward-auth peers are answered, and what they leave unclear is refused. Nothing depends on the endpoint's own path, and
//! no body is read.
//!
//! The app's answers do not pass by here. So no session of an old system is taken over: that somebody signed out of it again would not
//! be seen, and the old cookie would sign him in once more.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use pingora::http::RequestHeader;

use super::clock::SystemClock;
use super::forward;
use super::proxy::Gateway;
use super::renew::Answered;
use super::respond::{self, Answer, PRIVATE};
use crate::credential;
use crate::gate::Decision;
use crate::kind::Kind;
use crate::policy::{Permit, Verdict};
use crate::request::RequestView;
use crate::session::cache::Entry;
use crate::target::{Ambiguity, Target};
use crate::time::Clock as _;

mod caddy;
mod envoy;
mod haproxy;
mod nginx;
mod original;
mod traefik;

use original::{Original, Unclear};

/// The proxies whose questions are understood.
static KINDS: &[Kind<Proxy>] = &[
    nginx::KIND,
    nginx::REFUSAL,
    traefik::KIND,
    caddy::KIND,
    envoy::KIND,
    haproxy::KIND,
];

/// The endpoints are below this, by the names of the kinds.
const PREFIX: &str = "/_vestibule/verify/";

/// `Set-Cookie` lines handed over by number. A session takes two, a chunked cookie cache some more; half of one is worth less than
/// none, so above this none is handed over, and the app renews its cookies itself when it is next asked.
const NUMBERED_MAX: usize = 8;

/// By which of them, for proxies that can hold only one line of a name.
static NUMBERED: [HeaderName; NUMBERED_MAX] = [
    HeaderName::from_static("x-set-cookie-1"),
    HeaderName::from_static("x-set-cookie-2"),
    HeaderName::from_static("x-set-cookie-3"),
    HeaderName::from_static("x-set-cookie-4"),
    HeaderName::from_static("x-set-cookie-5"),
    HeaderName::from_static("x-set-cookie-6"),
    HeaderName::from_static("x-set-cookie-7"),
    HeaderName::from_static("x-set-cookie-8"),
];

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `forward_auth.peers`. Not `trusted_proxies`: a load balancer named there passes on what clients say of `X-Forwarded-Uri`, and
    /// whoever asks here is believed exactly that.
    pub peers: Vec<IpNet>,
}

impl Settings {
    fn includes(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.peers.iter().any(|net| net.contains(&peer))
    }
}

/// One proxy: how it asks, and how it wants to be answered.
struct Proxy {
    /// Where the path that was asked for stands.
    place: Place,
    /// What was asked of it. The bytes are those after the endpoint's path.
    original: for<'h> fn(&'h RequestHeader, &'h [u8]) -> Result<Original<'h>, Unclear>,
    /// The answer in the form it passes on.
    answer: fn(Told) -> Answer,
}

/// Where a proxy puts the path that was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a header. A query of the endpoint's says nothing: Caddy repeats the client's there.
    Header,
    /// Behind the endpoint's path.
    Appended,
}

/// What a proxy is told, before it is put into its form.
enum Told {
    /// The request may go on, with these headers.
    Allow(Answer),
    /// It may not: this is the answer to it.
    Refuse(Answer),
}

/// For proxies that pass every answer on but a 2xx, which lets the request through.
fn as_it_is(told: Told) -> Answer {
    match told {
        Told::Allow(answer) | Told::Refuse(answer) => answer,
    }
}

/// Numbers the `Set-Cookie` lines, for proxies that see only one of them.
fn number_cookies(answer: &mut Answer) {
    let lines: Vec<HeaderValue> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == SET_COOKIE)
        .map(|(_, line)| line.clone())
        .collect();
    if lines.len() <= NUMBERED_MAX {
        answer.headers.extend(NUMBERED.iter().cloned().zip(lines));
    }
}

/// A question as it came.
pub(super) struct Question<'q> {
    /// Its head.
    pub head: &'q RequestHeader,
    /// Who asks.
    pub peer: IpAddr,
    /// The client behind it, as far as we believe it.
    pub client: IpAddr,
    /// What ties it to the logs.
    pub request_id: &'q str,
}

/// What became of it.
pub(super) struct Verified {
    /// The answer.
    pub answer: Answer,
    /// The decision and how long it took, where there was one.
    pub decision: Option<(Decision, Duration)>,
    /// Why there was none.
    pub refused: Option<&'static str>,
}

impl Verified {
    fn refused(reason: &'static str, answer: Answer) -> Self {
        Self {
            answer,
            decision: None,
            refused: Some(reason),
        }
    }
}

/// Whether a target is one of the endpoints.
pub(super) fn is_asked(target: &[u8]) -> bool {
    target.starts_with(PREFIX.as_bytes())
}

/// The path of an endpoint as it may stand in a log: what a proxy appended to it may hold tokens.
pub(super) fn without_original(path: &str) -> &str {
    let Some(rest) = path.strip_prefix(PREFIX) else {
        return path;
    };
    let name = rest.find('/').unwrap_or(rest.len());
    path.get(..PREFIX.len() + name).unwrap_or(PREFIX)
}

/// The kind that is asked, and what follows its path.
fn find(target: &[u8]) -> Option<(&'static Proxy, &[u8])> {
    let rest = target.strip_prefix(PREFIX.as_bytes())?;
    KINDS.iter().find_map(|kind| {
        let after = rest.strip_prefix(kind.name.as_bytes())?;
        let fits = match kind.build.place {
            Place::Header => matches!(after.first(), None | Some(b'?')),
            Place::Appended => after.first() == Some(&b'/'),
        };
        fits.then_some((&kind.build, after))
    })
}

/// Answers a proxy's question.
pub(super) async fn answer(
    gateway: &Gateway,
    settings: &Settings,
    question: &Question<'_>,
) -> Verified {
    let id = question.request_id;
    let nothing = || respond::problem(StatusCode::NOT_FOUND, "Not Found", "not_found", id);
    if !settings.includes(question.peer) {
        tell(|| {
            tracing::warn!(
                peer = %question.peer,
                advice = "if this is a proxy of yours, list it in `forward_auth.peers`",
                "forward-auth was asked by a peer that is not listed"
            );
        });
        return Verified::refused("forward_auth_peer", nothing());
    }
    let Some((proxy, rest)) = find(question.head.raw_path()) else {
        return Verified::refused("forward_auth_endpoint", nothing());
    };
    let (told, decision, refused) = match judge(gateway, proxy, rest, question).await {
        Ok((told, decision, took)) => (told, Some((decision, took)), None),
        Err(refused) => {
            let answer = respond::problem(
                refused.status,
                refused.status.canonical_reason().unwrap_or("Error"),
                refused.reason,
                id,
            );
            (Told::Refuse(answer), None, Some(refused.reason))
        }
    };
    Verified {
        answer: (proxy.answer)(told),
        decision,
        refused,
    }
}

/// Why a question is refused before anybody asks who sent it.
struct Refused {
    status: StatusCode,
    reason: &'static str,
}

impl From<Ambiguity> for Refused {
    fn from(ambiguity: Ambiguity) -> Self {
        Self::bad(ambiguity.as_str())
    }
}

impl Refused {
    const fn bad(reason: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            reason,
        }
    }
}

async fn judge(
    gateway: &Gateway,
    proxy: &Proxy,
    rest: &[u8],
    question: &Question<'_>,
) -> Result<(Told, Decision, Duration), Refused> {
    let original = (proxy.original)(question.head, rest).map_err(|unclear| {
        tell(|| {
            tracing::warn!(
                peer = %question.peer,
                header = unclear.header,
                advice = "set it in the proxy as in config/examples/forward-auth/",
                "forward-auth cannot tell what was asked of the proxy: {unclear}"
            );
        });
        Refused::bad("forward_auth_original")
    })?;
    let method = Method::from_bytes(original.method.as_bytes())
        .map_err(|_| Refused::bad("forward_auth_original"))?;
    let host = forward::host_in(original.host).ok_or(Refused::bad("host"))?;
    if !forward::answers_for(&gateway.settings.hosts, &host) {
        return Err(Refused {
            status: StatusCode::MISDIRECTED_REQUEST,
            reason: "host_not_served",
        });
    }
    if original.target.len() > gateway.settings.limits.target_bytes {
        return Err(Refused {
            status: StatusCode::URI_TOO_LONG,
            reason: "target_too_long",
        });
    }
    let target = Target::parse(original.target)?;
    if forward::has_internal_query(&target) {
        return Err(Refused::bad("internal_query"));
    }
    let headers = judged(question.head, original.host);
    let request = RequestView {
        method: &method,
        target,
        host: &host,
        headers: &headers,
        client: question.client,
    };
    let began = Instant::now();
    let decision = gateway.gate.judge(&request).await?;
    let took = began.elapsed();
    let refusal = gateway
        .responder
        .refuse(&request, &decision, question.request_id);
    let told = match (refusal, &decision.verdict) {
        (None, Verdict::Allow(permit)) => allow(gateway, permit, &request, question.request_id),
        (Some(answer), _) => Told::Refuse(answer),
        (None, _) => Told::Refuse(broken(question.request_id)),
    };
    Ok((told, decision, took))
}

/// The headers to judge: those of the client, without what the proxy says of them.
fn judged(head: &RequestHeader, host: &str) -> HeaderMap {
    let mut headers = head.headers.clone();
    let said: Vec<HeaderName> = headers
        .keys()
        .filter(|name| original::is_said_by_proxies(name.as_str()))
        .cloned()
        .collect();
    for name in said {
        headers.remove(name);
    }
    // A preflight passes without a session because it brings no body and asks for no upgrade. Proxies leave out both when they ask,
    // so nothing counts as a preflight here: some servers upgrade whatever the method.
    headers.remove(ACCESS_CONTROL_REQUEST_METHOD);
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert(HOST, host);
    }
    headers
}

/// The answer that lets a request through: who is calling, and what the browser is owed.
fn allow(gateway: &Gateway, permit: &Permit, request: &RequestView<'_>, request_id: &str) -> Told {
    let mut answer = Answer {
        status: StatusCode::OK,
        headers: vec![(CACHE_CONTROL, HeaderValue::from_static(PRIVATE))],
        body: Bytes::new(),
    };
    let Some(entry) = permit.principal() else {
        return Told::Allow(answer);
    };
    let now = gateway.gate.clock.now();
    answer.headers.extend(gateway.identity.headers(entry));
    match gateway.identity.assertion(entry, now) {
        Ok(assertion) => answer.headers.extend(assertion),
        Err(error) => {
            tracing::error!(advice = error.advice(), "identity assertion: {error}");
            return Told::Refuse(broken(request_id));
        }
    }
    let at_auth = request
        .target
        .path()
        .strip_prefix(gateway.auth_base_path.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if at_auth {
        // The app's Better Auth reads this request itself, and sets its cookies itself.
        return Told::Allow(answer);
    }
    if let Some(slider) = &gateway.slider {
        slider.begin(entry, request, &gateway.gate.sessions, now);
    }
    // What the app sets in its answer is not seen here, and a sign-out must have the last word: cookies go with reads only.
    if matches!(*request.method, Method::GET | Method::HEAD) {
        let lines = owed(gateway, entry, request);
        answer
            .headers
            .extend(lines.into_iter().map(|line| (SET_COOKIE, line)));
    }
    Told::Allow(answer)
}

/// The `Set-Cookie` lines that the browser of this session is owed.
fn owed(gateway: &Gateway, entry: &Entry, request: &RequestView<'_>) -> Vec<HeaderValue> {
    let sessions = &gateway.gate.sessions;
    let mut lines = Vec::new();
    if let Some(renewer) = &gateway.renewer {
        let answered = Answered {
            method: request.method,
            path: request.target.path(),
            request: request.headers,
            status: StatusCode::OK,
            response: &HeaderMap::new(),
        };
        let renewed = renewer.cookies_to_set(entry, &answered, sessions, gateway.gate.clock.now());
        lines.extend(renewed.iter().filter_map(|line| {
            let mut line = HeaderValue::from_str(line).ok()?;
            line.set_sensitive(true);
            Some(line)
        }));
    }
    // Whoever came with the same token as a bearer is not the browser that waits for it.
    if entry.method() == credential::Method::SESSION
        && entry.stands(&sessions.cache().revocations)
        && let Some(owed) = entry.take_owed()
    {
        lines.extend(owed.iter().cloned());
    }
    lines
}

fn broken(request_id: &str) -> Answer {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    respond::problem(status, "Internal Server Error", "internal", request_id)
}

/// Says something at most once a second: what is wrong with one question is wrong with all of them.
fn tell(say: impl FnOnce()) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let second = u64::try_from(SystemClock.now().0).unwrap_or(0) / 1000;
    if LAST.swap(second, Ordering::Relaxed) != second {
        say();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proxy_is_found_by_its_own_path_only() {
        let name = |target: &str| {
            find(target.as_bytes()).map(|(_, rest)| String::from_utf8_lossy(rest).into_owned())
        };
        for kind in KINDS {
            let path = format!("{PREFIX}{}", kind.name);
            let (bare, appended) = (name(&path), name(&format!("{path}/x?y")));
            match kind.build.place {
                Place::Header => assert_eq!(bare.as_deref(), Some(""), "{path}"),
                Place::Appended => {
                    assert_eq!((bare, appended.as_deref()), (None, Some("/x?y")), "{path}");
                }
            }
            let queried = name(&format!("{path}?x"));
            assert_eq!(queried.is_some(), kind.build.place == Place::Header);
        }
        let mut names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KINDS.len());
        for other in [
            "", "apache", "nginx/", "nginx/x", "nginx%20", "envoy", "NGINX",
        ] {
            assert_eq!(name(&format!("{PREFIX}{other}")), None, "{other}");
        }
    }

    #[test]
    fn logs_show_the_endpoint_and_not_what_was_appended_to_it() {
        for (path, shown) in [
            (
                "/_vestibule/verify/envoy/api/auth/reset-password/token",
                "/_vestibule/verify/envoy",
            ),
            ("/_vestibule/verify/nginx", "/_vestibule/verify/nginx"),
            ("/_vestibule/verify/", "/_vestibule/verify/"),
            ("/verify/x", "/verify/x"),
        ] {
            assert_eq!(without_original(path), shown);
        }
    }

    #[test]
    fn more_cookies_than_can_be_numbered_are_not_handed_over_in_part() {
        let with = |count: usize| {
            let mut answer = Answer {
                status: StatusCode::OK,
                headers: vec![(SET_COOKIE, HeaderValue::from_static("a=b")); count],
                body: Bytes::new(),
            };
            number_cookies(&mut answer);
            answer.headers.len() - count
        };
        assert_eq!((with(0), with(2), with(8), with(9)), (0, 2, 8, 0));
    }
}
