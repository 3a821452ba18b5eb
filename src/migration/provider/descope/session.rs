//! Its live sessions.
//!
//! Source: @descope/node-sdk 1, src/lib; Descope's documentation of session tokens. The cookie `DS` is a short JWT, `DSR` the refresh JWT
//! of the same session; an expired `DS` is confirmed by asking whose `DSR` is (`/v1/auth/me`), which spends nothing.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

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
        "cookie_name",
        KeyKind::Text,
        "The session cookie's name. Default: `DS`.",
    ),
    key(
        "refresh_cookie_name",
        KeyKind::Text,
        "The refresh cookie's name. Default: `DSR`.",
    ),
    key(
        "issuer",
        KeyKind::Texts,
        "Issuers that count. Default: the project, as its id alone and as `https://api.descope.com/<project>`.",
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

struct Descope {
    project: String,
    issuers: Vec<String>,
    cookie: String,
    refresh_cookie: String,
    keys: Keys,
    me: url::Url,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    if !fields.flag("sessions", true) {
        return Ok(None);
    }
    let project = fields.required("project_id")?.expose().to_owned();
    let api = fields.url("api_url", "https://api.descope.com")?;
    let below = outside::below(&api, &[&project]).to_string();
    let versioned = outside::below(&api, &["v1", "apps", &project]).to_string();
    let published = outside::below(&api, &["v2", "keys", &project]);
    Ok(reading::boxed(Descope {
        issuers: reading::texts(fields, "issuer", &[&project, &below, &versioned]),
        cookie: reading::text(fields, "cookie_name", "DS"),
        refresh_cookie: reading::text(fields, "refresh_cookie_name", "DSR"),
        keys: Keys::configured(fields, published.as_str())?,
        me: outside::below(&api, &["v1", "auth", "me"]),
        project,
    }))
}

/// What a request brings.
struct Brought {
    session: Option<Secret>,
    refresh: Option<Secret>,
}

impl Reader for Descope {
    type Found = Brought;

    fn concerns(&self, cookie: &[u8]) -> bool {
        cookie == self.cookie.as_bytes() || cookie == self.refresh_cookie.as_bytes()
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Brought>, Refusal> {
        let (session, refresh) = match presented {
            Presented::Bearer(token) => (Some(Secret::new(*token)), None),
            Presented::Cookies(headers) => (
                cookie::one(headers, &self.cookie)?.map(Secret::new),
                cookie::one(headers, &self.refresh_cookie)?.map(Secret::new),
            ),
        };
        let any = session.is_some() || refresh.is_some();
        Ok(any.then_some(Brought { session, refresh }))
    }

    fn begin(self: Arc<Self>, found: Brought, moment: Moment<'_>) -> Outcome {
        let Brought { session, refresh } = found;
        let reader = Arc::clone(&self);
        match (session, refresh) {
            (Some(session), refresh) => {
                self.keys
                    .check(session, token::PUBLIC, moment, move |claims, moment| {
                        reader.weigh(&claims, refresh, moment)
                    })
            }
            (None, Some(refresh)) => self.renew(None, refresh, moment),
            (None, None) => reading::nothing(),
        }
    }
}

impl Descope {
    fn weigh(
        self: &Arc<Self>,
        claims: &Claims,
        refresh: Option<Secret>,
        moment: Moment<'_>,
    ) -> Outcome {
        claims.issued_by(&self.issuers)?;
        // `DS` or `DSR`, as the project calls its cookies; keys for programs are neither.
        if claims.text("drn") == Some("DSR") {
            return Err(Refusal::NotASessionToken);
        }
        let subject = claims.subject()?;
        let found = self.read(claims, &subject)?;
        match (claims.in_time(moment.now, SKEW), refresh) {
            (Ok(()), _) => alive(found),
            (Err(Refusal::Expired), Some(refresh)) => self.renew(Some(subject), refresh, moment),
            (Err(refusal), _) => Err(refusal),
        }
    }

    fn read(&self, claims: &Claims, subject: &str) -> Result<OldSession, Refusal> {
        // The end of the refresh token is the same for every token of one session.
        let ends = claims.0.get("rexp").and_then(when::of_json);
        let since = ends.or(claims.moment("exp")).ok_or(Refusal::Malformed)?;
        let tenants = claims.0.get("tenants").and_then(Value::as_object);
        let tenant = claims.id("dct").map(str::to_owned).or_else(|| {
            let tenants = tenants.filter(|tenants| tenants.len() == 1)?;
            tenants.keys().next().cloned()
        });
        Ok(OldSession {
            session: Secret::new(format!("{subject}:{}", since.0)),
            subject: Subject::Source(subject.to_owned()),
            authenticated_at: claims.signed_in(),
            expires_at: ends,
            second_factor: claims.second_factor(),
            impersonator: claims.actor(),
            organization: tenant.map(|id| (id, None)),
            email: claims.text("email").and_then(reading::address),
            ..OldSession::default()
        })
    }

    /// Checks the refresh token here, and then asks whose it is.
    fn renew(
        self: &Arc<Self>,
        expected: Option<String>,
        refresh: Secret,
        moment: Moment<'_>,
    ) -> Outcome {
        let reader = Arc::clone(self);
        let sent = refresh.clone();
        self.keys
            .check(refresh, token::PUBLIC, moment, move |claims, moment| {
                claims.issued_by(&reader.issuers)?;
                if claims.text("drn").is_some_and(|kind| kind != "DSR") {
                    return Err(Refusal::NotASessionToken);
                }
                claims.in_time(moment.now, SKEW)?;
                let subject = claims.subject()?;
                if expected.is_some_and(|expected| expected != subject) {
                    return Err(Refusal::SubjectMismatch);
                }
                let mut found = reader.read(&claims, &subject)?;
                found.expires_at = found.expires_at.or(claims.moment("exp"));
                let token = format!("{}:{}", reader.project, sent.expose());
                let ask = outside::bearer(outside::get(reader.me.clone()), &token)?;
                with_answer(ask, move |answer, _| {
                    match answer.status {
                        200 => {}
                        400 | 401 | 403 | 404 => return Err(Refusal::UnknownSession),
                        _ => return unavailable(Unreachable::Garbage),
                    }
                    let body = answer.json().unwrap_or_default();
                    let user = body
                        .get("userId")
                        .or_else(|| reading::at(&body, "user.userId"));
                    match user.and_then(Value::as_str) {
                        Some(user) if user == subject => alive(found),
                        Some(_) => Err(Refusal::SubjectMismatch),
                        None => unavailable(Unreachable::Garbage),
                    }
                })
            })
    }
}
