//! Sessions found by asking the app's own `get-session`: for every store the framework can use and we cannot read (D1, MongoDB, a
//! Prisma schema of its own), and for answers that only the app can make (`customSession`).
//!
//! What the framework would do for the browser, it does for the request we ask for: it extends a session that is due, renews its
//! cookies, and removes what has expired. So it must see what the browser sent (the `dont_remember` cookie above all: without it a
//! short session grows long), whose request it is (or its rate limit counts everybody as one client), and its `Set-Cookie` lines
//! must get back to that browser.
//!
//! Source: better-auth 1.4 to 1.7, `get-session`; golden data in `tests/golden/get-session.json`.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::redirect::Policy;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Address, Build, Detected, OpenError, Opened, Settings};
use crate::credential::signature::Signer;
use crate::credential::{cookies, names};
use crate::kind::Kind;
use crate::secret::Secret;
use crate::session::carried::{Carried, Told};
use crate::session::{BoxFuture, Record, Source, SourceError};

/// `http://…` or `https://…`.
pub(super) const KIND: Kind<Build> = Kind {
    name: "http",
    about: "the app itself, asked at its get-session: http://HOST:PORT/api/auth",
    build: Build::plain(
        &[("http", "http"), ("https", "https")],
        Address::App,
        |settings| Box::pin(open(settings)),
    ),
};

/// The word in logs and metrics.
const NAME: &str = "http";

/// Largest answer read, in bytes. A session and its user take about one kilobyte; `customSession` may add to it.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Largest dont_remember cookie sent on. The framework issues about 80 bytes.
const MARKER_BYTES_MAX: usize = 2048;

/// How long an unused connection is kept: below the five seconds after which Node closes its end.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Opening waits longer than a lookup: it resolves names, connects and negotiates TLS.
const OPEN_WAIT_MIN: Duration = Duration::from_secs(5);

/// What is known of the app, for whoever asks it.
#[derive(Clone, Debug)]
pub struct App {
    /// What its cookies are called.
    pub cookies: names::Settings,
    /// What it signs them with.
    pub secret: Secret,
    /// Scheme, host and port as browsers see them.
    pub public_url: String,
    /// Whether `Host` names the address asked instead of the one the browser asked for (`sessions.http.own_host`).
    pub own_host: bool,
}

impl Default for App {
    fn default() -> Self {
        Self {
            cookies: names::Settings::default(),
            secret: Secret::new(""),
            public_url: String::new(),
            own_host: false,
        }
    }
}

/// Opens the source, and asks once without a session: the answer to that is `null`, or it is not what we are looking for.
///
/// An app that does not answer yet is only warned about: it is often started at the same time, and some start it behind us.
async fn open(settings: Settings) -> Result<Opened, OpenError> {
    let endpoint = Endpoint::new(&settings)?;
    let mut warnings = Vec::new();
    let deadline = Instant::now() + settings.timeout.max(OPEN_WAIT_MIN);
    match endpoint.inner.ask(None, None, deadline).await {
        Ok(None) => {}
        Ok(Some(_)) => {
            return Err(endpoint.garbage("it knows a session without having been told a cookie"));
        }
        Err(SourceError::Garbage { cause, .. }) => return Err(endpoint.garbage(&cause)),
        Err(SourceError::Refused { status, .. })
            if (300..500).contains(&status) && status != 429 =>
        {
            return Err(endpoint.garbage(&format!("get-session answered {status}")));
        }
        Err(error) => warnings.push(format!(
            "the app does not answer yet: {error}; protected routes answer 503 until it does"
        )),
    }
    let detected = Detected {
        kind: NAME,
        place: endpoint.inner.place.clone(),
        version: String::new(),
        tables: Vec::new(),
        columns: Vec::new(),
        dates: None,
        warnings,
    };
    Ok(Opened {
        source: Arc::new(endpoint),
        detected,
        extend: None,
        feed: None,
        keys: None,
    })
}

/// The app at `settings.url`, without asking it anything yet: for whoever has sessions extended by it.
///
/// Must be called on a tokio runtime that outlives what it gives: connections belong to it.
///
/// # Errors
/// When the URL cannot be used.
pub fn app(settings: &Settings) -> Result<Arc<dyn Source>, OpenError> {
    Ok(Arc::new(Endpoint::new(settings)?))
}

/// The app's `get-session`.
struct Endpoint {
    inner: Arc<Inner>,
    home: Handle,
    admitted: Arc<Semaphore>,
}

struct Inner {
    client: reqwest::Client,
    url: Url,
    /// Scheme, host, port and path; for people.
    place: String,
    timeout: Duration,
    waiting_max: usize,
    slots: Semaphore,
    signer: Signer,
    token_cookie: String,
    marker_cookie: String,
    /// Names of the cookies whose renewal is passed on, all of which may come in chunks.
    renewed: [String; 4],
    public_host: Option<HeaderValue>,
    public_scheme: &'static str,
    own_host: bool,
}

impl Endpoint {
    fn new(settings: &Settings) -> Result<Self, OpenError> {
        let url = endpoint(settings.url.expose())?;
        // Whoever set one before us meant it; both are good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connections = settings.connections.max(1) as usize;
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(settings.timeout)
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(connections)
            .build()
            .map_err(|error| unusable(error.without_url().to_string()))?;
        let app = &settings.app;
        let cookie = |key: &str| app.cookies.cookie(key).name;
        let public = Url::parse(&app.public_url).ok();
        let public_host = public.as_ref().and_then(|url| {
            let host = url.host_str()?;
            let text = match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            };
            HeaderValue::from_str(&text).ok()
        });
        let admitted = connections.saturating_add(settings.waiting_max);
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                place: format!("{}{}", url.origin().ascii_serialization(), url.path()),
                url,
                timeout: settings.timeout,
                waiting_max: settings.waiting_max,
                slots: Semaphore::new(connections.min(Semaphore::MAX_PERMITS)),
                signer: Signer::new(&app.secret),
                token_cookie: cookie("session_token"),
                marker_cookie: cookie("dont_remember"),
                renewed: [
                    "session_token",
                    "session_data",
                    "dont_remember",
                    "account_data",
                ]
                .map(cookie),
                public_host,
                public_scheme: match app.public_url.starts_with("https://") {
                    true => "https",
                    false => "http",
                },
                own_host: app.own_host,
            }),
            home: Handle::current(),
            admitted: Arc::new(Semaphore::new(admitted.min(Semaphore::MAX_PERMITS))),
        })
    }

    fn garbage(&self, cause: &str) -> OpenError {
        OpenError::Garbage {
            store: NAME,
            place: self.inner.place.clone(),
            cause: format!(
                "{cause}; it must be where Better Auth is mounted, its base path included"
            ),
        }
    }

    /// Asks where the connections live. It goes on to its own deadline even when the caller goes away.
    async fn ask(
        &self,
        token: Secret,
        carried: Option<Carried>,
    ) -> Result<Option<Told>, SourceError> {
        let Ok(admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            return Err(SourceError::Busy {
                source_name: NAME,
                waiting: self.inner.waiting_max,
            });
        };
        let inner = Arc::clone(&self.inner);
        let task = self.home.spawn(async move {
            let _admitted = admitted;
            let deadline = Instant::now() + inner.timeout;
            inner.ask(Some(&token), carried.as_ref(), deadline).await
        });
        task.await.unwrap_or_else(|_| {
            Err(SourceError::Unreachable {
                source_name: NAME,
                cause: "we are shutting down".to_owned(),
            })
        })
    }
}

impl Source for Endpoint {
    fn name(&self) -> &'static str {
        NAME
    }

    /// By the token alone: nobody is told of a renewed cookie, so the app is asked not to extend anything.
    fn find<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        Box::pin(async move {
            let told = self.ask(Secret::new(token), None).await?;
            Ok(told.map(|told| told.record))
        })
    }

    fn asks_the_app(&self) -> bool {
        true
    }

    fn find_for<'a>(
        &'a self,
        token: &'a str,
        carried: &'a Carried,
    ) -> BoxFuture<'a, Result<Option<Told>, SourceError>> {
        Box::pin(self.ask(Secret::new(token), Some(carried.clone())))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        let inner = Arc::clone(&self.inner);
        let task = self.home.spawn(async move {
            let deadline = Instant::now() + inner.timeout;
            inner.ask(None, None, deadline).await
        });
        Box::pin(async move {
            match task.await {
                Ok(Ok(_)) => Ok(()),
                // It answers; that it has had enough of us is for the lookups to say.
                Ok(Err(SourceError::Refused { status: 429, .. })) => Ok(()),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(SourceError::Unreachable {
                    source_name: NAME,
                    cause: "we are shutting down".to_owned(),
                }),
            }
        })
    }
}

impl Inner {
    async fn ask(
        &self,
        token: Option<&Secret>,
        carried: Option<&Carried>,
        deadline: Instant,
    ) -> Result<Option<Told>, SourceError> {
        let began = Instant::now();
        let slow = || SourceError::Timeout {
            source_name: NAME,
            waited: began.elapsed(),
        };
        let Ok(Ok(_slot)) = timeout_at(deadline, self.slots.acquire()).await else {
            return Err(slow());
        };
        let mut tried = false;
        let answer = loop {
            let mut url = self.url.clone();
            // Its cookie cache is a memory like ours: we want to know what the store says. `customSession` gets both too.
            url.query_pairs_mut()
                .append_pair("disableCookieCache", "true");
            if carried.is_none() {
                url.query_pairs_mut().append_pair("disableRefresh", "true");
            }
            let request = self.client.get(url).headers(self.headers(token, carried));
            match timeout_at(deadline, request.send()).await {
                Ok(Ok(answer)) => break answer,
                // The app may close a resting connection just when it is used. Asking twice does no harm.
                Ok(Err(error)) if !tried && error.is_request() && !error.is_connect() => {
                    tried = true;
                }
                Ok(Err(error)) => return Err(unreachable(error)),
                Err(_) => return Err(slow()),
            }
        };
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(SourceError::Refused {
                source_name: NAME,
                status: status.as_u16(),
            });
        }
        let headers = answer.headers().clone();
        let Ok(body) = timeout_at(deadline, read(answer)).await else {
            return Err(slow());
        };
        self.understand(&body?, &headers, token)
    }

    fn headers(&self, token: Option<&Secret>, carried: Option<&Carried>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let host = carried
            .and_then(|carried| carried.headers.get(HOST))
            .or(self.public_host.as_ref());
        if let Some(host) = host {
            if !self.own_host {
                headers.insert(HOST, host.clone());
            }
            headers.insert(HeaderName::from_static("x-forwarded-host"), host.clone());
        }
        headers.insert(
            HeaderName::from_static("x-forwarded-proto"),
            HeaderValue::from_static(self.public_scheme),
        );
        if let Some(carried) = carried
            && let Ok(client) = HeaderValue::from_str(&carried.client.to_string())
        {
            // Exactly one address: of several, the framework believes none.
            headers.insert(HeaderName::from_static("x-forwarded-for"), client);
        }
        if let Some(token) = token {
            let mut text = format!(
                "{}={}",
                self.token_cookie,
                self.signer.issue(token.expose())
            );
            let marker = carried
                .and_then(|carried| cookies::find_raw(&carried.headers, &self.marker_cookie))
                .filter(|raw| raw.len() <= MARKER_BYTES_MAX)
                .and_then(|raw| std::str::from_utf8(raw).ok());
            if let Some(marker) = marker {
                text.push_str("; ");
                text.push_str(&self.marker_cookie);
                text.push('=');
                text.push_str(marker);
            }
            if let Ok(mut cookie) = HeaderValue::from_str(&text) {
                cookie.set_sensitive(true);
                headers.insert(COOKIE, cookie);
            }
        }
        headers
    }

    /// Reads an answer. `null` is "no such session"; everything that is neither that nor the session asked for is no answer at all.
    fn understand(
        &self,
        body: &[u8],
        headers: &HeaderMap,
        token: Option<&Secret>,
    ) -> Result<Option<Told>, SourceError> {
        let body: Value = serde_json::from_slice(body).map_err(|_| {
            let kind = headers
                .get(CONTENT_TYPE)
                .and_then(|kind| kind.to_str().ok());
            let kind = kind.unwrap_or("unknown");
            garbage(format!("no JSON (content type {kind:.60})"))
        })?;
        let body = match body {
            Value::Null => return Ok(None),
            Value::Object(body) => body,
            _ => return Err(garbage("neither null nor an object")),
        };
        let token = token.map(Secret::expose).unwrap_or_default();
        let record = record(body, token)?;
        let set_cookie = headers.get_all(SET_COOKIE).iter();
        let set_cookie = set_cookie.filter_map(|line| self.belongs(line, token));
        Ok(Some(Told {
            record,
            set_cookie: set_cookie.collect(),
        }))
    }

    /// A `Set-Cookie` line, if it renews a cookie of this very session. What a load balancer on the way sets is for us and not for
    /// the browser, and nobody is ever given another session.
    fn belongs(&self, line: &HeaderValue, token: &str) -> Option<HeaderValue> {
        let text = line.to_str().ok()?;
        let parsed = cookie::Cookie::parse(text).ok()?;
        let name = parsed.name();
        let rest = |known: &String| name.strip_prefix(known.as_str());
        let chunk = |rest: &str| {
            rest.is_empty()
                || rest.strip_prefix('.').is_some_and(|index| {
                    !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit())
                })
        };
        let several = rest(&self.token_cookie).is_some_and(|rest| rest.starts_with("_multi-"));
        if !several && !self.renewed.iter().filter_map(rest).any(chunk) {
            return None;
        }
        if name == self.token_cookie || several {
            let decoded = cookies::decode(parsed.value().as_bytes());
            let same = decoded
                .strip_prefix(token.as_bytes())
                .is_some_and(|rest| rest.starts_with(b"."));
            if !same {
                return None;
            }
        }
        let mut line = line.clone();
        line.set_sensitive(true);
        Some(line)
    }
}

/// The session in an answer, with the answer itself as its document.
///
/// `customSession` may have made it: what is left out then is filled in where that is safe (the token, which we know) and refused
/// where it is not (an expiry that is missing would read as long past, and sign people out).
fn record(body: Map<String, Value>, token: &str) -> Result<Record, SourceError> {
    let part = |key: &str| match body.get(key) {
        Some(Value::Object(part)) => Some(part.clone()),
        _ => None,
    };
    let custom = "a function of `customSession` must keep `session` with `id` and `expiresAt`, and `user` with `id`";
    let (Some(mut session), Some(mut user)) = (part("session"), part("user")) else {
        return Err(garbage(format!("no `session` and `user`: {custom}")));
    };
    if session.get("expiresAt").is_none_or(Value::is_null) {
        return Err(garbage(format!("no `session.expiresAt`: {custom}")));
    }
    match session.get("token") {
        None => {
            session.insert("token".to_owned(), token.into());
        }
        Some(found) if found.as_str() == Some(token) => {}
        Some(_) => return Err(garbage("another session than the one asked for")),
    }
    match (session.get("userId"), user.get("id")) {
        (Some(of), None) => {
            let of = of.clone();
            user.insert("id".to_owned(), of);
        }
        (Some(of), Some(id)) if of != id => {
            return Err(garbage("a session of one user with another user"));
        }
        _ => {}
    }
    let record = Record::from_document(&session, &user)
        .map_err(|unreadable| garbage(format!("{unreadable}: {custom}")))?;
    Ok(Record {
        document: Some(Value::Object(body).to_string().into_boxed_str()),
        ..record
    })
}

async fn read(mut answer: reqwest::Response) -> Result<Vec<u8>, SourceError> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(unreachable)? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(garbage(format!("more than {ANSWER_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn garbage(cause: impl Into<String>) -> SourceError {
    SourceError::Garbage {
        source_name: NAME,
        cause: cause.into(),
    }
}

fn unreachable(error: reqwest::Error) -> SourceError {
    let error = error.without_url();
    // The outermost words say least ("error sending request").
    let mut cause = error.to_string();
    let mut inner = std::error::Error::source(&error);
    while let Some(error) = inner {
        cause = error.to_string();
        inner = error.source();
    }
    SourceError::Unreachable {
        source_name: NAME,
        cause,
    }
}

fn unusable(cause: impl Into<String>) -> OpenError {
    OpenError::Url {
        store: NAME,
        cause: cause.into(),
    }
}

/// `get-session` below the base URL.
fn endpoint(base: &str) -> Result<Url, OpenError> {
    let mut url = Url::parse(base).map_err(|error| unusable(error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(unusable("a user name or password has no place in it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(unusable("`?` and `#` have no place in it"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(unusable("it names no host"));
    }
    let path = format!("{}/get-session", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn understand(body: &Value) -> Result<Record, String> {
        let body = body.as_object().unwrap().clone();
        record(body, "tok").map_err(|error| error.to_string())
    }

    fn whole() -> Value {
        json!({
            "session": {"id": "s", "token": "tok", "userId": "u", "expiresAt": "2037-01-02T03:04:05.678Z"},
            "user": {"id": "u", "email": "ada@example.com"},
        })
    }

    #[test]
    fn an_answer_becomes_a_record_with_the_answer_as_its_document() {
        let mut body = whole();
        body["roles"] = json!(["custom"]);
        let record = understand(&body).unwrap();
        assert_eq!(&*record.user_id, "u");
        let document: Value = serde_json::from_str(record.document.as_deref().unwrap()).unwrap();
        assert_eq!(document, body);
    }

    #[test]
    fn a_custom_answer_may_leave_out_what_we_know() {
        let mut body = whole();
        body["session"].as_object_mut().unwrap().remove("token");
        body["user"].as_object_mut().unwrap().remove("id");
        let record = understand(&body).unwrap();
        assert_eq!((record.token.expose(), &*record.user_id), ("tok", "u"));
    }

    #[test]
    fn an_answer_that_is_not_about_this_session_is_none() {
        for (part, key, value, complaint) in [
            ("session", "token", json!("other"), "another session"),
            ("session", "token", json!(null), "another session"),
            ("session", "expiresAt", json!(null), "expiresAt"),
            ("session", "expiresAt", json!("soon"), "expiresAt"),
            ("session", "id", json!(null), "session.id"),
            ("user", "id", json!("mallory"), "another user"),
        ] {
            let mut body = whole();
            body[part][key] = value;
            let error = understand(&body).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
        assert!(understand(&json!({"session": null, "user": null})).is_err());
        assert!(understand(&json!({"message": "hello"})).is_err());
    }

    #[test]
    fn the_address_is_that_of_the_endpoints() {
        for (base, url) in [
            (
                "http://127.0.0.1:3000/api/auth",
                "http://127.0.0.1:3000/api/auth/get-session",
            ),
            (
                "https://app.example.com/api/auth/",
                "https://app.example.com/api/auth/get-session",
            ),
            ("http://auth", "http://auth/get-session"),
        ] {
            assert_eq!(endpoint(base).unwrap().as_str(), url);
        }
        for wrong in [
            "http://",
            "http://u:p@h/api/auth",
            "http://h/api/auth?x=1",
            "http://h/api/auth#x",
        ] {
            let error = endpoint(wrong).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("u:p"), "{error}");
        }
    }
}
