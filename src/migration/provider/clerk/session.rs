//! Its live sessions.
//!
//! Source: @clerk/backend 2, tokens/; Clerk's documentation of session tokens v1 and v2. A token lives for 60 seconds: a browser that
//! comes back nearly always brings an expired one, and the session it names is asked for once.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::Value;
use sha1::{Digest as _, Sha1};

use crate::migration::dialogue::{Moment, Unreachable};
use crate::migration::provider::reading::token::{self, Claims, Keys};
use crate::migration::provider::reading::{
    self, Outcome, Reader, alive, cookie, key, outside, unavailable, when, with_answer,
};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;
use crate::time::UnixMs;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "publishable_key",
        KeyKind::Text,
        "The publishable key, `pk_live_...`: names the issuer of tokens and the suffix of cookies. Needed to take sessions over.",
    ),
    key(
        "issuer",
        KeyKind::Text,
        "The issuer of tokens, where the frontend API is behind a proxy of the app's. Default: as `publishable_key` says.",
    ),
    key(
        "authorized_parties",
        KeyKind::Texts,
        "Origins whose tokens count (`azp`). Default: `public_url`.",
    ),
    key(
        "expired_at_most",
        KeyKind::Duration,
        "How long a token may have been expired whose session is asked for with `secret_key`. Default: `30d`.",
    ),
    token::JWKS_URL,
    token::JWKS,
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

/// As Clerk's own kits.
const SKEW: Duration = Duration::from_secs(5);

const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

struct Clerk {
    issuer: [String; 1],
    suffix: String,
    parties: Vec<String>,
    keys: Keys,
    api: url::Url,
    secret_key: Option<Secret>,
    expired_at_most: Duration,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    let own = [
        "publishable_key",
        "issuer",
        "authorized_parties",
        "jwks",
        "jwks_url",
    ];
    if !reading::any(fields, &own) {
        // Live checks alone; but an empty table is a mistake.
        return match fields.text("secret_key") {
            Some(_) => Ok(None),
            None => Err("`publishable_key` is missing".into()),
        };
    }
    let publishable = fields.required("publishable_key")?.expose();
    let host = frontend(publishable).ok_or("`publishable_key` is none")?;
    let digest = URL_SAFE.encode(Sha1::digest(publishable.as_bytes()));
    let issuer = reading::text(fields, "issuer", &format!("https://{host}"));
    let published = format!("{issuer}/.well-known/jwks.json");
    let parties = reading::texts(fields, "authorized_parties", &[&fields.public_origin]);
    if parties.iter().all(String::is_empty) {
        return Err("`authorized_parties` is missing".into());
    }
    Ok(reading::boxed(Clerk {
        issuer: [issuer],
        suffix: digest.get(..8).unwrap_or_default().to_owned(),
        parties,
        keys: Keys::configured(fields, &published)?,
        api: fields.url("api_url", "https://api.clerk.com")?,
        secret_key: fields.text("secret_key").cloned(),
        expired_at_most: fields.duration("expired_at_most", MONTH),
    }))
}

/// The host in a publishable key: `pk_live_`, then base64 of the host and a dollar sign.
fn frontend(key: &str) -> Option<String> {
    let letters = key
        .strip_prefix("pk_live_")
        .or_else(|| key.strip_prefix("pk_test_"))?;
    let text = String::from_utf8(STANDARD.decode(letters).ok()?).ok()?;
    let host = text.strip_suffix('$')?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    (!host.is_empty() && host.bytes().all(plain)).then(|| host.to_owned())
}

impl Clerk {
    fn suffixed(&self, name: &str) -> String {
        format!("{name}_{}", self.suffix)
    }
}

impl Reader for Clerk {
    type Found = Secret;

    fn concerns(&self, cookie: &[u8]) -> bool {
        match cookie.strip_prefix(b"__session") {
            Some(b"") => true,
            Some([b'_', suffix @ ..]) => suffix == self.suffix.as_bytes(),
            _ => false,
        }
    }

    fn leaves_with(&self, cookie: &[u8]) -> bool {
        const OWN: [&str; 4] = ["__session", "__client_uat", "__refresh", "__clerk_db_jwt"];
        OWN.iter()
            .any(|name| cookie == name.as_bytes() || cookie == self.suffixed(name).as_bytes())
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Secret>, Refusal> {
        let headers = match presented {
            Presented::Cookies(headers) => headers,
            Presented::Bearer(token) => return Ok(Some(Secret::new(*token))),
        };
        // Several instances share one host in development: the suffix says which is ours.
        let either = |name: &str| match cookie::one(headers, &self.suffixed(name))? {
            Some(value) => Ok(Some(value)),
            None => cookie::one(headers, name),
        };
        let Some(token) = either("__session")? else {
            return Ok(None);
        };
        // Auth0's cookie of the same name has five parts.
        if !token::has_shape(&token) {
            return Ok(None);
        }
        // The browser signed out, and a token was left behind.
        if either("__client_uat")?.as_deref() == Some("0") {
            return Err(Refusal::SignedOut);
        }
        Ok(Some(Secret::new(token)))
    }

    fn begin(self: Arc<Self>, token: Secret, moment: Moment<'_>) -> Outcome {
        let reader = Arc::clone(&self);
        self.keys
            .check(token, token::RS256, moment, move |claims, moment| {
                reader.weigh(&claims, moment)
            })
    }
}

impl Clerk {
    fn weigh(&self, claims: &Claims, moment: Moment<'_>) -> Outcome {
        claims.issued_by(&self.issuer)?;
        if let Some(party) = claims.0.get("azp") {
            let known = |text: &str| self.parties.iter().any(|each| each == text);
            if !party.as_str().is_some_and(known) {
                return Err(Refusal::BadAuthorizedParty);
            }
        }
        // Tokens made by a template for other services name no session.
        let session = claims.id("sid").ok_or(Refusal::NotASessionToken)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if !session.bytes().all(plain) {
            return Err(Refusal::Malformed);
        }
        let subject = claims.subject()?;
        match claims.0.get("sts") {
            None => {}
            Some(Value::String(status)) if status == "active" => {}
            Some(_) => return Err(Refusal::SessionPending),
        }
        claims.not_before("iat", moment.now, SKEW)?;
        let found = OldSession {
            session: Secret::new(session),
            subject: Subject::Source(subject.clone()),
            authenticated_at: authenticated_at(claims),
            second_factor: factor_age(claims, 1).map(|minutes| minutes >= 0),
            impersonator: claims.actor(),
            organization: organization(claims),
            ..OldSession::default()
        };
        match claims.in_time(moment.now, SKEW) {
            Ok(()) => alive(found),
            Err(Refusal::Expired) => self.confirm(found, subject, claims, moment),
            Err(refusal) => Err(refusal),
        }
    }

    /// An expired token of a session that may go on: the session itself is asked for.
    fn confirm(
        &self,
        mut found: OldSession,
        subject: String,
        claims: &Claims,
        moment: Moment<'_>,
    ) -> Outcome {
        let expired = claims.moment("exp").ok_or(Refusal::Malformed)?;
        let (Some(secret), true) = (
            &self.secret_key,
            moment.now.since(expired) <= self.expired_at_most,
        ) else {
            return Err(Refusal::Expired);
        };
        let url = outside::below(&self.api, &["v1", "sessions", found.session.expose()]);
        let ask = outside::bearer(outside::get(url), secret.expose()).or(Err(Refusal::Expired))?;
        with_answer(ask, move |answer, moment| {
            match answer.status {
                200 => {}
                404 | 410 => return Err(Refusal::UnknownSession),
                // It does not know us: that tells nothing of the session.
                _ => return unavailable(Unreachable::Refused),
            }
            let Some(body) = answer.json() else {
                return unavailable(Unreachable::Garbage);
            };
            let says = |name: &str| body.get(name).and_then(Value::as_str);
            match says("status") {
                Some("active") => {}
                Some("pending") => return Err(Refusal::SessionPending),
                Some(_) => return Err(Refusal::UnknownSession),
                None => return unavailable(Unreachable::Garbage),
            }
            if says("id") != Some(found.session.expose()) || says("user_id") != Some(&subject) {
                return Err(Refusal::SubjectMismatch);
            }
            found.expires_at = body.get("expire_at").and_then(when::of_json);
            if found.expires_at.is_some_and(|at| at <= moment.now) {
                return Err(Refusal::Expired);
            }
            if let Some(actor) = body.get("actor").filter(|actor| !actor.is_null()) {
                let named = actor.get("sub").and_then(reading::id);
                found.impersonator = Some(named.unwrap_or_else(|| "unknown".to_owned()));
            }
            alive(found)
        })
    }
}

/// Minutes since a factor was checked when the token was made; negative: never.
fn factor_age(claims: &Claims, factor: usize) -> Option<i64> {
    claims.0.get("fva")?.get(factor)?.as_i64()
}

fn authenticated_at(claims: &Claims) -> Option<UnixMs> {
    let issued = claims.moment("iat")?;
    let minutes = factor_age(claims, 0).filter(|minutes| *minutes >= 0)?;
    Some(UnixMs(
        issued.0.saturating_sub(minutes.saturating_mul(60_000)),
    ))
}

/// Version 2 keeps it in `o`, version 1 in claims of its own, where a role begins with `org:`.
fn organization(claims: &Claims) -> Option<(String, Option<String>)> {
    let (id, role) = match claims.0.get("o") {
        Some(inner) => (inner.get("id"), inner.get("rol")),
        None => (claims.0.get("org_id"), claims.0.get("org_role")),
    };
    let role = role.and_then(Value::as_str);
    let role = role.map(|role| role.strip_prefix("org:").unwrap_or(role).to_owned());
    Some((id.and_then(reading::id)?, role))
}
