//! Its live sessions.
//!
//! Source: Ory Kratos 1.3, session/handler.go (`GET /sessions/whoami`). What a browser holds is opaque: every reading asks.

use std::sync::Arc;

use http::HeaderName;
use http::header::COOKIE;
use serde_json::Value;

use crate::migration::dialogue::{Ask, Moment, Unreachable};
use crate::migration::provider::reading::{
    self, Outcome, Reader, alive, cookie, key, outside, token, unavailable, when, with_answer,
};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;

/// The keys of its sessions. `public_url` and `email_trait` are those of the live check.
pub(super) const KEYS: &[Key] = &[key(
    "cookie_name",
    KeyKind::Text,
    "The cookie's name (`session.cookie.name`). Default: `ory_kratos_session`.",
)];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

struct Kratos {
    cookie: String,
    url: url::Url,
    email: String,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    fields.required("public_url")?;
    Ok(reading::boxed(Kratos {
        cookie: reading::text(fields, "cookie_name", "ory_kratos_session"),
        url: outside::below(&fields.url("public_url", "")?, &["sessions", "whoami"]),
        email: format!("/identity{}", super::check::email_trait(fields)),
    }))
}

impl Reader for Kratos {
    type Found = Ask;

    fn concerns(&self, cookie: &[u8]) -> bool {
        cookie == self.cookie.as_bytes()
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Ask>, Refusal> {
        let ask = outside::get(self.url.clone());
        match presented {
            Presented::Bearer(token) => {
                let header = HeaderName::from_static("x-session-token");
                outside::with(ask, header, token).map(Some)
            }
            Presented::Cookies(headers) => {
                let Some(value) = cookie::one(headers, &self.cookie)? else {
                    return Ok(None);
                };
                // Only this cookie goes there, and nothing in it that would make two of it.
                let plain = |b: u8| matches!(b, 0x21..=0x7e) && !b"\";,\\".contains(&b);
                if !value.bytes().all(plain) {
                    return Err(Refusal::Malformed);
                }
                outside::with(ask, COOKIE, &format!("{}={value}", self.cookie)).map(Some)
            }
        }
    }

    fn begin(self: Arc<Self>, ask: Ask, _moment: Moment<'_>) -> Outcome {
        with_answer(ask, move |answer, moment| {
            match answer.status {
                200 => {}
                401 => return Err(Refusal::UnknownSession),
                // The second factor is owed there.
                403 | 422 => return Err(Refusal::SessionPending),
                _ => return unavailable(Unreachable::Garbage),
            }
            let Some(body) = answer.json() else {
                return unavailable(Unreachable::Garbage);
            };
            let says = |path: &str| reading::at(&body, path).and_then(reading::id);
            let (Some(session), Some(subject)) = (says("id"), says("identity.id")) else {
                return unavailable(Unreachable::Garbage);
            };
            if body.get("active") != Some(&Value::Bool(true)) {
                return Err(Refusal::UnknownSession);
            }
            if says("identity.state").is_some_and(|state| state != "active") {
                return Err(Refusal::NotAUser);
            }
            let at = |name: &str| body.get(name).and_then(when::of_json);
            let ends = at("expires_at");
            if ends.is_some_and(|at| at <= moment.now) {
                return Err(Refusal::Expired);
            }
            let level = says("authenticator_assurance_level");
            let methods = body.get("authentication_methods");
            let email = body.pointer(&self.email).and_then(reading::id);
            alive(OldSession {
                session: Secret::new(session),
                subject: Subject::Source(subject),
                authenticated_at: at("authenticated_at"),
                expires_at: ends,
                second_factor: level
                    .map(|level| level == "aal2")
                    .or_else(|| methods.map(token::shows_second_factor)),
                email: email.and_then(|email| reading::address(&email)),
                ..OldSession::default()
            })
        })
    }
}
