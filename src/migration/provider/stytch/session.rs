//! Its live sessions.
//!
//! Source: Stytch's documentation of session JWTs and `/v1/sessions/authenticate`. The JWT lives for five minutes; with the secret of the
//! project the opaque token beside it is asked about, which neither ends nor extends the session.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::migration::dialogue::{Moment, Unreachable};
use crate::migration::provider::reading::token::{self, Claims, Keys};
use crate::migration::provider::reading::{
    self, Outcome, Reader, alive, cookie, key, outside, unavailable, when, with_answer,
};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "jwt_cookie_name",
        KeyKind::Text,
        "The cookie of the session JWT. Default: `stytch_session_jwt`.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "The cookie of the opaque token. Default: `stytch_session`.",
    ),
    key(
        "sessions",
        KeyKind::Flag,
        "Whether sessions are taken over, with `project_id`. Default: `true`.",
    ),
    token::JWKS_URL,
    token::JWKS,
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

const SKEW: Duration = Duration::from_secs(5);

/// The claim in which the session stands.
const SESSION: &str = "https://stytch.com/session";

struct Stytch {
    project: [String; 1],
    issuers: [String; 2],
    cookie: String,
    jwt_cookie: String,
    keys: Keys,
    online: Option<(url::Url, Secret)>,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    if !fields.flag("sessions", true) {
        return Ok(None);
    }
    let project = fields.required("project_id")?.expose().to_owned();
    let api = match project.starts_with("project-test-") {
        true => "https://test.stytch.com",
        false => "https://api.stytch.com",
    };
    let api = fields.url("api_url", api)?;
    let published = outside::below(&api, &["v1", "sessions", "jwks", &project]);
    let url = outside::below(&api, &["v1", "sessions", "authenticate"]);
    Ok(reading::boxed(Stytch {
        issuers: [
            format!("stytch.com/{project}"),
            api.as_str().trim_end_matches('/').to_owned(),
        ],
        cookie: reading::text(fields, "cookie_name", "stytch_session"),
        jwt_cookie: reading::text(fields, "jwt_cookie_name", "stytch_session_jwt"),
        keys: Keys::configured(fields, published.as_str())?,
        online: fields.text("secret").map(|secret| (url, secret.clone())),
        project: [project],
    }))
}

/// What a request brings.
struct Brought {
    jwt: Option<Secret>,
    opaque: Option<Secret>,
}

impl Reader for Stytch {
    type Found = Brought;

    fn concerns(&self, cookie: &[u8]) -> bool {
        cookie == self.cookie.as_bytes() || cookie == self.jwt_cookie.as_bytes()
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Brought>, Refusal> {
        let (jwt, opaque) = match presented {
            Presented::Bearer(token) if token::has_shape(token) => {
                (Some(Secret::new(*token)), None)
            }
            Presented::Bearer(token) => (None, Some(Secret::new(*token))),
            Presented::Cookies(headers) => (
                cookie::one(headers, &self.jwt_cookie)?.map(Secret::new),
                cookie::one(headers, &self.cookie)?.map(Secret::new),
            ),
        };
        match (&jwt, &opaque) {
            (None, None) => Ok(None),
            // Nothing to ask with, and nothing to read.
            (None, Some(_)) if self.online.is_none() => Ok(None),
            _ => Ok(Some(Brought { jwt, opaque })),
        }
    }

    fn begin(self: Arc<Self>, found: Brought, moment: Moment<'_>) -> Outcome {
        let Brought { jwt, opaque } = found;
        match (jwt, opaque) {
            (Some(jwt), opaque) => {
                let reader = Arc::clone(&self);
                let sent = jwt.clone();
                self.keys
                    .check(jwt, token::RS256, moment, move |claims, moment| {
                        reader.weigh(&claims, &sent, opaque, moment)
                    })
            }
            (None, Some(opaque)) => self.ask(None, &json!({ "session_token": opaque.expose() })),
            (None, None) => reading::nothing(),
        }
    }
}

impl Stytch {
    fn weigh(
        self: &Arc<Self>,
        claims: &Claims,
        jwt: &Secret,
        opaque: Option<Secret>,
        moment: Moment<'_>,
    ) -> Outcome {
        claims.issued_by(&self.issuers)?;
        if !claims.is_for(&self.project) {
            return Err(Refusal::BadAudience);
        }
        let subject = claims.subject()?;
        let inner = claims.0.get(SESSION).ok_or(Refusal::NotASessionToken)?;
        let session = inner.get("id").and_then(reading::id);
        let session = session.ok_or(Refusal::NotASessionToken)?;
        let found = read(inner, session, subject.clone());
        match claims.in_time(moment.now, SKEW) {
            Ok(()) if found.expires_at.is_some_and(|at| at <= moment.now) => Err(Refusal::Expired),
            Ok(()) => alive(found),
            // The session goes on without its token, which is asked for by either.
            Err(Refusal::Expired) if self.online.is_some() => {
                let body = match &opaque {
                    Some(opaque) => json!({ "session_token": opaque.expose() }),
                    None => json!({ "session_jwt": jwt.expose() }),
                };
                self.ask(Some(subject), &body)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Asks whether the session lives. `expected`: whose it must be.
    fn ask(&self, expected: Option<String>, body: &Value) -> Outcome {
        let Some((url, secret)) = &self.online else {
            return Err(Refusal::Expired);
        };
        let [project] = &self.project;
        let ask = outside::basic(outside::post(url.clone(), body), project, secret);
        with_answer(ask.or(Err(Refusal::Expired))?, move |answer, moment| {
            let body = answer.json().unwrap_or_default();
            if answer.status != 200 {
                let kind = body.get("error_type").and_then(Value::as_str);
                return match (answer.status, kind) {
                    // Our own secret is not known there: nothing is said of the session.
                    (401, Some("unauthorized_credentials")) => unavailable(Unreachable::Refused),
                    (400 | 401 | 404, _) => Err(Refusal::UnknownSession),
                    _ => unavailable(Unreachable::Refused),
                };
            }
            let says = |path: &str| reading::at(&body, path).and_then(reading::id);
            let (Some(session), Some(user)) = (says("session.session_id"), says("session.user_id"))
            else {
                return unavailable(Unreachable::Garbage);
            };
            if expected.is_some_and(|subject| subject != user) {
                return Err(Refusal::SubjectMismatch);
            }
            let found = read(&body["session"], session, user);
            match found.expires_at.is_some_and(|at| at <= moment.now) {
                true => Err(Refusal::Expired),
                false => alive(found),
            }
        })
    }
}

/// A session as both the claim and the answer describe it.
fn read(inner: &Value, session: String, subject: String) -> OldSession {
    let at = |name: &str| inner.get(name).and_then(when::of_json);
    let factors = inner
        .get("authentication_factors")
        .and_then(Value::as_array);
    OldSession {
        session: Secret::new(session),
        subject: Subject::Source(subject),
        authenticated_at: at("started_at"),
        expires_at: at("expires_at"),
        second_factor: factors.map(|factors| factors.len() > 1),
        ..OldSession::default()
    }
}
