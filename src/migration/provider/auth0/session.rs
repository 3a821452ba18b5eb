//! Its live sessions.
//!
//! Source: @auth0/nextjs-auth0 4.30, server/cookies.ts and server/session; express-openid-connect 3.4, lib/appSession.js, whose format
//! nextjs-auth0 3 shares: an encrypted token under a key of the app's secret, in pieces where it is long.

use std::sync::Arc;
use std::time::Duration;

use hkdf::Hkdf;
use serde_json::{Map, Value};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::credential::jwe::{ContentKey, Encryption, Jwe};
use crate::migration::dialogue::Moment;
use crate::migration::provider::reading::{self, Outcome, Reader, alive, cookie, key, when};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;
use crate::time::UnixMs;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "secret",
        KeyKind::Secrets,
        "`AUTH0_SECRET` (`secret` of express-openid-connect), the current one first. Needed to take sessions over.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "The cookie's name, where the app renamed it. Default: `__session` (v4) and `appSession` (v3, express).",
    ),
    key(
        "absolute_duration",
        KeyKind::Duration,
        "How long a session of v4 lives at most, where the cookie does not say (`absoluteDuration`). Default: `3d`.",
    ),
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

/// As the library reads cookies.
const SKEW: Duration = Duration::from_secs(15);

/// Between a name and the number of a piece: v4's, and v3's.
const BETWEEN: &[&str] = &["__", "."];

struct Auth0 {
    names: Vec<String>,
    keys: Vec<ContentKey>,
    absolute: Duration,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    if !reading::any(fields, &["secret", "cookie_name", "absolute_duration"]) {
        return match fields.values.is_empty() {
            true => Err("`secret` is missing".into()),
            false => Ok(None),
        };
    }
    let secrets = reading::secrets(fields, "secret")?;
    Ok(reading::boxed(Auth0 {
        names: reading::texts(fields, "cookie_name", &["__session", "appSession"]),
        keys: secrets.iter().filter_map(derive).collect(),
        absolute: fields.duration("absolute_duration", Duration::from_secs(3 * 24 * 3600)),
    }))
}

fn derive(secret: &Secret) -> Option<ContentKey> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, secret.expose().as_bytes())
        .expand(b"JWE CEK", key.as_mut_slice())
        .ok()?;
    ContentKey::new(Encryption::A256Gcm, key.as_slice())
}

impl Reader for Auth0 {
    type Found = Secret;

    fn concerns(&self, cookie: &[u8]) -> bool {
        self.names
            .iter()
            .any(|name| cookie::belongs(cookie, name, BETWEEN))
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Secret>, Refusal> {
        let Presented::Cookies(headers) = presented else {
            return Ok(None);
        };
        for name in &self.names {
            match cookie::pieces(headers, name, BETWEEN)? {
                // Clerk's and Firebase's cookie of the same name has three parts.
                Some(value) if value.bytes().filter(|b| *b == b'.').count() == 4 => {
                    return Ok(Some(Secret::new(value)));
                }
                Some(_) | None => {}
            }
        }
        Ok(None)
    }

    fn begin(self: Arc<Self>, value: Secret, moment: Moment<'_>) -> Outcome {
        let token = Jwe::parse(value.expose()).ok_or(Refusal::Undecryptable)?;
        let plain = self.keys.iter().find_map(|key| key.open(&token));
        let plain = plain.ok_or(Refusal::Undecryptable)?;
        let Some(Value::Object(data)) = reading::json(&plain) else {
            return Err(Refusal::Malformed);
        };
        let (begun, ends) = self.times(&token.header, &data)?;
        if ends.plus(SKEW) <= moment.now {
            return Err(Refusal::Expired);
        }
        let data = Value::Object(data);
        let says = |path: &str| reading::at(&data, path).and_then(reading::id);
        let subject = says("user.sub").ok_or(Refusal::NoSubject)?;
        // The id of the session at the tenant; without one the cookie is its own, however often it is written anew.
        let session = says("internal.sid").or_else(|| says("user.sid"));
        alive(OldSession {
            session: session.map(Secret::new).unwrap_or(value),
            subject: Subject::Source(subject),
            authenticated_at: begun,
            expires_at: Some(ends),
            second_factor: reading::at(&data, "user.amr").map(reading::token::shows_second_factor),
            impersonator: reading::at(&data, "user.act.sub").and_then(reading::id),
            organization: says("user.org_id").map(|id| (id, None)),
            email: says("user.email").and_then(|email| reading::address(&email)),
            ..OldSession::default()
        })
    }
}

impl Auth0 {
    /// When it began and when it ends: in the header (v3, express), in the claims (later v4), or by when it was made.
    fn times(
        &self,
        header: &Map<String, Value>,
        data: &Map<String, Value>,
    ) -> Result<(Option<UnixMs>, UnixMs), Refusal> {
        let seconds = |value: Option<&Value>| value.and_then(when::whole).map(when::of_number);
        let made = data
            .get("internal")
            .and_then(|inner| inner.get("createdAt"));
        let begun = seconds(made).or_else(|| seconds(header.get("iat")));
        let absolute = seconds(made).map(|made| made.plus(self.absolute));
        let stated = seconds(header.get("exp").or_else(|| data.get("exp")));
        let ends = match (stated, absolute) {
            (Some(stated), Some(absolute)) => stated.min(absolute),
            (Some(one), None) | (None, Some(one)) => one,
            // A session that never ends is none.
            (None, None) => return Err(Refusal::Malformed),
        };
        Ok((begun, ends))
    }
}
