//! The answers the gateway gives itself: the only place that picks status codes.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE,
    LOCATION, RETRY_AFTER, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::credential::names::CookieSpec;
use crate::credential::{cookies, names};
use crate::gate::Decision;
use crate::policy::{Ask, To, Verdict, redirect};
use crate::request::{Form, RequestView};

/// What every answer about who somebody is says to caches.
pub const PRIVATE: &str = "private, no-store";

/// Seconds after which a client may ask again when the store could not answer.
const RETRY_AFTER_SECONDS: &str = "2";

/// An answer made by the gateway.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, `Content-Length` aside.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// What answers are made of.
pub struct Responder {
    /// Where people are sent.
    pub pages: redirect::Settings,
    /// Cookies of a session, as the app issues them.
    pub session_cookies: SessionCookies,
    /// Origins that may read our answers.
    pub cors_origins: Vec<String>,
}

/// The cookies that make up a session.
pub struct SessionCookies {
    token: CookieSpec,
    data: CookieSpec,
    dont_remember: CookieSpec,
}

impl SessionCookies {
    /// As the app names them.
    pub fn new(settings: &names::Settings) -> Self {
        Self {
            token: settings.cookie("session_token"),
            data: settings.cookie("session_data"),
            dont_remember: settings.cookie("dont_remember"),
        }
    }

    /// The name of the session cookie.
    pub fn token_name(&self) -> &str {
        &self.token.name
    }

    /// `Set-Cookie` texts that remove those of them that the request carries.
    fn clear(&self, headers: &HeaderMap) -> Vec<String> {
        let mut sent: Vec<&str> = cookies::pairs(headers)
            .filter_map(|(name, _)| std::str::from_utf8(name).ok())
            .collect();
        sent.sort_unstable();
        sent.dedup();
        sent.into_iter()
            .filter_map(|name| {
                let chunk_of = |spec: &CookieSpec| {
                    name.strip_prefix(&spec.name)
                        .and_then(|rest| rest.strip_prefix('.'))
                        .is_some_and(|index| {
                            !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit())
                        })
                };
                let spec = [&self.token, &self.data, &self.dont_remember]
                    .into_iter()
                    .find(|spec| {
                        spec.name == name || (chunk_of(spec) && spec.name == self.data.name)
                    })?;
                Some(spec.named(name).clear())
            })
            .collect()
    }
}

impl Responder {
    /// The answer to a request that may not go to the app; `None` for one that may.
    pub fn refuse(
        &self,
        request: &RequestView<'_>,
        decision: &Decision,
        request_id: &str,
    ) -> Option<Answer> {
        let form = decision.form;
        let mut answer = match &decision.verdict {
            Verdict::Allow(_) => return None,
            Verdict::Redirect(To::Home) => {
                redirect_to(StatusCode::FOUND, &self.pages.signed_in_home)
            }
            Verdict::Redirect(To::SignIn(ask)) => redirect_to(
                redirect_status(form),
                &self.pages.sign_in_for(&request.target, *ask),
            ),
            Verdict::Unauthorized(ask) => self.unauthorized(request, form, *ask, request_id),
            Verdict::Forbidden => self.forbidden(request, form, request_id),
            Verdict::TooMany { retry_after } => too_many(form, *retry_after, request_id),
            Verdict::Unavailable => unavailable(form, request_id),
        };
        let challenged = matches!(decision.verdict, Verdict::Redirect(To::SignIn(_)));
        if challenged
            && form == Form::Document
            && decision
                .rejection
                .is_some_and(|why| why.store_said_dead_now())
        {
            for cookie in self.session_cookies.clear(request.headers) {
                answer.push(SET_COOKIE, &cookie);
            }
        }
        self.allow_origin(request, &mut answer);
        Some(answer)
    }

    fn unauthorized(
        &self,
        request: &RequestView<'_>,
        form: Form,
        ask: Ask,
        request_id: &str,
    ) -> Answer {
        let code = match ask {
            Ask::SignIn => "unauthorized",
            Ask::StepUp => "step_up_required",
        };
        if form == Form::ServerAction {
            // The client router follows this header on any status, but only with a content type that is not its own.
            let mut answer = text(StatusCode::UNAUTHORIZED, "Sign in to continue.\n");
            let location = self.pages.sign_in_for(&request.target, ask);
            answer.push(
                HeaderName::from_static("x-action-redirect"),
                &format!("{location};push"),
            );
            return answer;
        }
        problem(StatusCode::UNAUTHORIZED, "Unauthorized", code, request_id)
    }

    fn forbidden(&self, request: &RequestView<'_>, form: Form, request_id: &str) -> Answer {
        match (form, &self.pages.forbidden) {
            (Form::Document | Form::DocumentPost, Some(page)) if page != request.target.path() => {
                redirect_to(redirect_status(form), page)
            }
            (Form::Document | Form::DocumentPost, _) => page(
                StatusCode::FORBIDDEN,
                "You may not see this page",
                "You are signed in, or not asked to be, and this page is not for you.",
                request_id,
            ),
            (Form::ServerAction, _) => text(StatusCode::FORBIDDEN, "Forbidden.\n"),
            (Form::Program | Form::Preflight, _) => {
                problem(StatusCode::FORBIDDEN, "Forbidden", "forbidden", request_id)
            }
        }
    }

    /// Lets pages of the origins that are listed read an answer of ours.
    pub(super) fn allow_origin(&self, request: &RequestView<'_>, answer: &mut Answer) {
        if self.cors_origins.is_empty() {
            return;
        }
        answer.push(VARY, "Origin");
        if let Some(origin) = request.header("origin")
            && self.cors_origins.iter().any(|listed| listed == origin)
        {
            answer.push(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.push(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
    }
}

impl Answer {
    /// Adds a header. A value that cannot be one is left out.
    pub fn push(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
    }
}

/// The form of a redirect: after a post, the next page is fetched with GET.
const fn redirect_status(form: Form) -> StatusCode {
    match form {
        Form::DocumentPost => StatusCode::SEE_OTHER,
        Form::Document | Form::Program | Form::ServerAction | Form::Preflight => StatusCode::FOUND,
    }
}

fn bare(status: StatusCode) -> Answer {
    Answer {
        status,
        headers: vec![(CACHE_CONTROL, HeaderValue::from_static(PRIVATE))],
        body: Bytes::new(),
    }
}

pub(super) fn redirect_to(status: StatusCode, location: &str) -> Answer {
    let mut answer = bare(status);
    answer.push(LOCATION, location);
    answer
}

/// A short plain text.
pub fn text(status: StatusCode, body: &'static str) -> Answer {
    let mut answer = bare(status);
    answer.push(CONTENT_TYPE, "text/plain; charset=utf-8");
    answer.body = Bytes::from_static(body.as_bytes());
    answer
}

/// A JSON document.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    let mut answer = bare(status);
    answer.push(CONTENT_TYPE, "application/json");
    answer.body = Bytes::from(body.to_string());
    answer
}

/// An answer to a program (RFC 9457). The client is told the status and a request id, never why a credential failed.
pub fn problem(status: StatusCode, title: &str, code: &str, request_id: &str) -> Answer {
    let mut answer = bare(status);
    answer.push(CONTENT_TYPE, "application/problem+json");
    answer.body = Bytes::from(
        serde_json::json!({
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "code": code,
            "request_id": request_id,
        })
        .to_string(),
    );
    answer
}

pub(super) fn too_many(form: Form, retry_after: Option<Duration>, request_id: &str) -> Answer {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let mut answer = match form {
        Form::Document | Form::DocumentPost => page(
            status,
            "Too many requests",
            "This was asked for too often. Please try again later.",
            request_id,
        ),
        Form::ServerAction => text(status, "Too many requests. Please try again later.\n"),
        Form::Program | Form::Preflight => {
            problem(status, "Too Many Requests", "too_many_requests", request_id)
        }
    };
    if let Some(wait) = retry_after {
        // Rounded up: whoever comes back at that second is served.
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        answer.push(RETRY_AFTER, &seconds.to_string());
    }
    answer
}

pub(super) fn unavailable(form: Form, request_id: &str) -> Answer {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut answer = match form {
        Form::Document | Form::DocumentPost => page(
            status,
            "Try again in a moment",
            "We cannot check right now who you are. You are still signed in.",
            request_id,
        ),
        Form::ServerAction => text(status, "Try again in a moment.\n"),
        Form::Program | Form::Preflight => {
            problem(status, "Service Unavailable", "unavailable", request_id)
        }
    };
    answer.push(RETRY_AFTER, RETRY_AFTER_SECONDS);
    answer
}

/// A small page for people. All its texts are ours, but for the request id, which holds letters, digits and dashes only.
pub fn page(status: StatusCode, title: &str, message: &str, request_id: &str) -> Answer {
    page_of(status, title, &format!("<p>{message}</p>"), request_id)
}

/// The same with markup for its body, in which whatever is not ours is escaped already.
pub(super) fn page_of(status: StatusCode, title: &str, body: &str, request_id: &str) -> Answer {
    let mut answer = bare(status);
    answer.push(CONTENT_TYPE, "text/html; charset=utf-8");
    answer.push(
        HeaderName::from_static("content-security-policy"),
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    );
    answer.body = Bytes::from(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>body{{font:16px/1.5 system-ui,sans-serif;margin:20vh auto;max-width:32rem;padding:0 1rem}}\
         small{{color:#777}}</style><h1>{title}</h1>{body}<small>{request_id}</small></html>\n"
    ));
    answer
}
