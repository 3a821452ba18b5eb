//! Its live sessions.
//!
//! Source: supertokens-node 20, recipe/session/jwt.ts and accessToken.ts. The access token alone is read: a refresh token spent here would
//! look like a stolen one to the core, which then ends every session of its family.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::migration::dialogue::Moment;
use crate::migration::provider::reading::token::{self, Claims, Keys};
use crate::migration::provider::reading::{self, Outcome, Reader, alive, cookie, key};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "issuer",
        KeyKind::Text,
        "`apiDomain` and `apiBasePath` together, `https://api.example.com/auth`: issuer and place of the keys. Needed to take sessions over.",
    ),
    key(
        "tenant",
        KeyKind::Texts,
        "Tenants whose sessions count. Default: `public`.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "The cookie's name. Default: `sAccessToken`.",
    ),
    token::JWKS_URL,
    token::JWKS,
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

const SKEW: Duration = Duration::from_secs(5);

struct SuperTokens {
    issuer: [String; 1],
    tenants: Vec<String>,
    cookie: String,
    keys: Keys,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    if !reading::any(
        fields,
        &["issuer", "tenant", "cookie_name", "jwks", "jwks_url"],
    ) {
        return match fields.values.is_empty() {
            true => Err("`issuer` is missing".into()),
            false => Ok(None),
        };
    }
    let issuer = fields.required("issuer")?.expose().to_owned();
    let published = format!("{}/jwt/jwks.json", issuer.trim_end_matches('/'));
    Ok(reading::boxed(SuperTokens {
        tenants: reading::texts(fields, "tenant", &["public"]),
        cookie: reading::text(fields, "cookie_name", "sAccessToken"),
        keys: Keys::configured(fields, &published)?,
        issuer: [issuer],
    }))
}

impl Reader for SuperTokens {
    type Found = Secret;

    fn concerns(&self, cookie: &[u8]) -> bool {
        cookie == self.cookie.as_bytes()
    }

    fn leaves_with(&self, cookie: &[u8]) -> bool {
        const OWN: [&[u8]; 4] = [
            b"sRefreshToken",
            b"sFrontToken",
            b"sIdRefreshToken",
            b"sAntiCsrf",
        ];
        self.concerns(cookie) || OWN.contains(&cookie)
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Secret>, Refusal> {
        Ok(match presented {
            Presented::Bearer(token) => Some(Secret::new(*token)),
            Presented::Cookies(headers) => cookie::one(headers, &self.cookie)?.map(Secret::new),
        })
    }

    fn begin(self: Arc<Self>, token: Secret, moment: Moment<'_>) -> Outcome {
        let reader = Arc::clone(&self);
        self.keys
            .check(token, token::RS256, moment, move |claims, moment| {
                reader.weigh(&claims, moment)
            })
    }
}

impl SuperTokens {
    fn weigh(&self, claims: &Claims, moment: Moment<'_>) -> Outcome {
        claims.issued_by(&self.issuer)?;
        // The JWT recipe signs other tokens with the same keys; a session's names itself.
        let session = claims
            .id("sessionHandle")
            .ok_or(Refusal::NotASessionToken)?;
        let tenant = claims.text("tId").unwrap_or("public");
        if !self.tenants.iter().any(|each| each == tenant) {
            return Err(Refusal::BadAudience);
        }
        let subject = claims.subject()?;
        claims.in_time(moment.now, SKEW)?;
        // Verified factors by name, with when; more than one is a second.
        let factors = claims.0.get("st-mfa").map(|claim| {
            let completed = claim.get("c").and_then(Value::as_object);
            completed.is_some_and(|factors| factors.len() > 1)
        });
        alive(OldSession {
            session: Secret::new(session),
            subject: Subject::Source(subject),
            authenticated_at: claims.signed_in(),
            second_factor: factors,
            email: claims.text("email").and_then(reading::address),
            ..OldSession::default()
        })
    }
}
