//! Its live sessions.
//!
//! Source: @workos-inc/node 7, src/user-management/session.ts: a seal (see [`iron`]) around access token, refresh token and user. The
//! access token lives for minutes; whether its session does is read from the user's list of sessions, which spends nothing. A refresh
//! token works once: it is only used when the operator says so, for afterwards the old cookie is dead.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::migration::dialogue::{Moment, Unreachable};
use crate::migration::provider::reading::token::{self, Claims, Keys};
use crate::migration::provider::reading::{
    self, Outcome, Reader, alive, cookie, iron, key, outside, unavailable, when, with_answer,
};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "cookie_password",
        KeyKind::Secrets,
        "`WORKOS_COOKIE_PASSWORD`, the current one first: opens the sealed cookies. Needed to take sessions over.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "The cookie's name. Default: `wos-session`.",
    ),
    key(
        "issuer",
        KeyKind::Texts,
        "Issuers of access tokens that count. Default: `https://api.workos.com`, with and without the path of `client_id`.",
    ),
    key(
        "refresh",
        KeyKind::Flag,
        "Whether an expired session is proved by its refresh token. It works once: rolling back signs those users out. Default: `false`, the list of sessions is read.",
    ),
    token::JWKS_URL,
    token::JWKS,
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

/// Tokens are made and checked by different clocks.
const SKEW: Duration = Duration::from_secs(5);

/// Most pages of a user's sessions read, of a hundred each.
const PAGES_MAX: usize = 3;

struct WorkOs {
    cookie: String,
    passwords: Vec<Secret>,
    issuer: Vec<String>,
    client: String,
    keys: Keys,
    api: url::Url,
    api_key: Option<Secret>,
    refresh: bool,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    let own = [
        "cookie_password",
        "cookie_name",
        "issuer",
        "refresh",
        "jwks",
        "jwks_url",
    ];
    if !reading::any(fields, &own) {
        return match fields.text("api_key") {
            Some(_) => Ok(None),
            None => Err("`cookie_password` is missing".into()),
        };
    }
    let passwords = reading::secrets(fields, "cookie_password")?;
    let client = fields.required("client_id")?.expose().to_owned();
    let api = fields.url("api_url", "https://api.workos.com")?;
    let base = api.as_str().trim_end_matches('/').to_owned();
    let issuers = [
        base.clone(),
        format!("{base}/"),
        format!("{base}/user_management/{client}"),
    ];
    let issuers: Vec<&str> = issuers.iter().map(String::as_str).collect();
    let published = format!("{base}/sso/jwks/{client}");
    Ok(reading::boxed(WorkOs {
        cookie: reading::text(fields, "cookie_name", "wos-session"),
        passwords,
        issuer: reading::texts(fields, "issuer", &issuers),
        keys: Keys::configured(fields, &published)?,
        api_key: fields.text("api_key").cloned(),
        refresh: fields.flag("refresh", false),
        client,
        api,
    }))
}

/// What a request brings: the sealed cookie, or an access token alone.
enum Brought {
    Seal(Secret),
    Token(Secret),
}

/// What the seal says besides the token.
#[derive(Default)]
struct Around {
    user: Option<String>,
    email: Option<String>,
    refresh: Option<Secret>,
    impersonator: Option<String>,
}

impl Reader for WorkOs {
    type Found = Brought;

    fn concerns(&self, cookie: &[u8]) -> bool {
        cookie == self.cookie.as_bytes()
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Brought>, Refusal> {
        Ok(match presented {
            Presented::Bearer(token) => Some(Brought::Token(Secret::new(*token))),
            Presented::Cookies(headers) => {
                cookie::one(headers, &self.cookie)?.map(|seal| Brought::Seal(Secret::new(seal)))
            }
        })
    }

    fn begin(self: Arc<Self>, found: Brought, moment: Moment<'_>) -> Outcome {
        let (token, around) = match found {
            Brought::Token(token) => (token, Around::default()),
            Brought::Seal(seal) => self.unseal(&seal, moment)?,
        };
        let reader = Arc::clone(&self);
        self.keys
            .check(token, token::RS256, moment, move |claims, moment| {
                reader.weigh(&claims, around, moment)
            })
    }
}

impl WorkOs {
    fn unseal(&self, seal: &Secret, moment: Moment<'_>) -> Result<(Secret, Around), Refusal> {
        let opened = iron::open(seal.expose(), &self.passwords, moment.now)?;
        let says = |path: &str| reading::at(&opened.data, path).and_then(Value::as_str);
        let token = says("accessToken").ok_or(Refusal::Malformed)?;
        let impersonator = opened.data.get("impersonator");
        let impersonator = impersonator.filter(|value| !value.is_null()).map(|value| {
            let email = value.get("email").and_then(reading::id);
            email.unwrap_or_else(|| "unknown".to_owned())
        });
        let around = Around {
            user: says("user.id").map(str::to_owned),
            email: says("user.email").and_then(reading::address),
            refresh: says("refreshToken").map(Secret::new),
            impersonator,
        };
        Ok((Secret::new(token), around))
    }

    fn weigh(self: &Arc<Self>, claims: &Claims, around: Around, moment: Moment<'_>) -> Outcome {
        claims.issued_by(&self.issuer)?;
        // The keys are this client's own; where the token names a client too, it is the same.
        let other = |name: &str| {
            claims
                .text(name)
                .is_some_and(|client| client != self.client)
        };
        if other("client_id") {
            return Err(Refusal::BadAudience);
        }
        let subject = claims.subject()?;
        if around.user.as_ref().is_some_and(|user| *user != subject) {
            return Err(Refusal::SubjectMismatch);
        }
        let session = claims.id("sid").ok_or(Refusal::NotASessionToken)?;
        let organization = claims.id("org_id").map(|id| {
            let role = claims.text("role").map(str::to_owned);
            (id.to_owned(), role)
        });
        let found = OldSession {
            session: Secret::new(session),
            subject: Subject::Source(subject.clone()),
            authenticated_at: claims.signed_in(),
            impersonator: claims.actor().or(around.impersonator),
            organization,
            email: around.email,
            ..OldSession::default()
        };
        match claims.in_time(moment.now, SKEW) {
            Ok(()) => alive(found),
            Err(Refusal::Expired) => match (&self.api_key, around.refresh) {
                (None, _) => Err(Refusal::Expired),
                (Some(key), Some(token)) if self.refresh => self.spend(found, subject, key, &token),
                (Some(_), _) => self.list(found, subject, None, 1),
            },
            Err(refusal) => Err(refusal),
        }
    }

    /// Looks for the session among those of its user.
    fn list(
        self: &Arc<Self>,
        mut found: OldSession,
        subject: String,
        after: Option<&str>,
        page: usize,
    ) -> Outcome {
        let Some(key) = &self.api_key else {
            return Err(Refusal::Expired);
        };
        let steps = ["user_management", "users", subject.as_str(), "sessions"];
        let mut url = outside::below(&self.api, &steps);
        url.query_pairs_mut().append_pair("limit", "100");
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after);
        }
        let ask = outside::bearer(outside::get(url), key.expose()).or(Err(Refusal::Expired))?;
        let reader = Arc::clone(self);
        with_answer(ask, move |answer, moment| {
            match answer.status {
                200 => {}
                404 => return Err(Refusal::UnknownSession),
                _ => return unavailable(Unreachable::Refused),
            }
            let body = answer.json().unwrap_or_default();
            let Some(list) = body.get("data").and_then(Value::as_array) else {
                return unavailable(Unreachable::Garbage);
            };
            let text = |one: &Value, name: &str| -> Option<String> {
                one.get(name)?.as_str().map(str::to_owned)
            };
            let ours = |one: &&Value| text(one, "id").as_deref() == Some(found.session.expose());
            if let Some(one) = list.iter().find(ours) {
                if text(one, "user_id").is_some_and(|user| user != subject) {
                    return Err(Refusal::SubjectMismatch);
                }
                if text(one, "status").as_deref() != Some("active") {
                    return Err(Refusal::UnknownSession);
                }
                let moment_of = |name: &str| one.get(name).and_then(when::of_json);
                found.expires_at = moment_of("expires_at");
                if found.expires_at.is_some_and(|at| at <= moment.now) {
                    return Err(Refusal::Expired);
                }
                found.authenticated_at = moment_of("created_at").or(found.authenticated_at);
                if let Some(email) = reading::at(one, "impersonator.email") {
                    let named = reading::id(email);
                    found.impersonator = Some(named.unwrap_or_else(|| "unknown".to_owned()));
                }
                return alive(found);
            }
            let after = reading::at(&body, "list_metadata.after").and_then(Value::as_str);
            match after {
                Some(after) if page < PAGES_MAX => {
                    reader.list(found, subject, Some(after), page + 1)
                }
                // Somebody with more sessions than that: not found out is not ended.
                Some(_) => unavailable(Unreachable::Garbage),
                None => Err(Refusal::UnknownSession),
            }
        })
    }

    /// Spends the refresh token.
    fn spend(
        self: &Arc<Self>,
        mut found: OldSession,
        subject: String,
        key: &Secret,
        refresh: &Secret,
    ) -> Outcome {
        let url = outside::below(&self.api, &["user_management", "authenticate"]);
        let ask = outside::post(
            url,
            &json!({
                "grant_type": "refresh_token",
                "client_id": self.client,
                "client_secret": key.expose(),
                "refresh_token": refresh.expose(),
            }),
        );
        with_answer(ask, move |answer, _| {
            match answer.status {
                200 => {}
                400 | 401 | 403 | 404 => return Err(Refusal::UnknownSession),
                _ => return unavailable(Unreachable::Refused),
            }
            let body = answer.json().unwrap_or_default();
            match reading::at(&body, "user.id").and_then(Value::as_str) {
                Some(user) if user == subject => {}
                Some(_) => return Err(Refusal::SubjectMismatch),
                None => return unavailable(Unreachable::Garbage),
            }
            if let Some(email) = reading::at(&body, "impersonator.email") {
                let named = reading::id(email);
                found.impersonator = Some(named.unwrap_or_else(|| "unknown".to_owned()));
            }
            alive(found)
        })
    }
}
