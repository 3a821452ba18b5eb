//! Its live sessions.
//!
//! Source: Keycloak 26, services/oidc; what its cookies hold lives on its own host, so an app hands its access token to the bridge.

use std::sync::Arc;
use std::time::Duration;

use crate::migration::dialogue::Moment;
use crate::migration::provider::reading::token::{self, Claims, Keys};
use crate::migration::provider::reading::{self, Outcome, Reader, alive, key};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "issuer",
        KeyKind::Text,
        "The realm, `https://HOST/realms/REALM`. Needed to take sessions over, with `client_id`.",
    ),
    token::JWKS_URL,
    token::JWKS,
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

const SKEW: Duration = Duration::from_secs(5);

struct Keycloak {
    issuer: [String; 1],
    client: String,
    keys: Keys,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    if !reading::any(fields, &["issuer", "jwks", "jwks_url"]) {
        return match fields.values.is_empty() {
            true => Err("`issuer` is missing".into()),
            false => Ok(None),
        };
    }
    let issuer = fields.required("issuer")?.expose().to_owned();
    let client = fields.required("client_id")?.expose().to_owned();
    let published = format!(
        "{}/protocol/openid-connect/certs",
        issuer.trim_end_matches('/')
    );
    Ok(reading::boxed(Keycloak {
        keys: Keys::configured(fields, &published)?,
        issuer: [issuer],
        client,
    }))
}

impl Reader for Keycloak {
    type Found = Secret;

    fn concerns(&self, _cookie: &[u8]) -> bool {
        false
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Secret>, Refusal> {
        match presented {
            Presented::Bearer(token) => Ok(Some(Secret::new(*token))),
            Presented::Cookies(_) => Ok(None),
        }
    }

    fn begin(self: Arc<Self>, token: Secret, moment: Moment<'_>) -> Outcome {
        let reader = Arc::clone(&self);
        self.keys
            .check(token, token::OPENID, moment, move |claims, moment| {
                reader.weigh(&claims, moment)
            })
    }
}

impl Keycloak {
    fn weigh(&self, claims: &Claims, moment: Moment<'_>) -> Outcome {
        claims.issued_by(&self.issuer)?;
        // Access tokens are `Bearer`; ID, refresh and logout tokens are not for this.
        if claims.text("typ") != Some("Bearer") {
            return Err(Refusal::NotASessionToken);
        }
        // `azp` is who got it; `aud` of an access token names the services it opens.
        if claims.text("azp") != Some(self.client.as_str()) {
            return Err(Refusal::BadAudience);
        }
        claims.in_time(moment.now, SKEW)?;
        let subject = claims.subject()?;
        let name = claims.text("preferred_username").unwrap_or_default();
        if name.starts_with("service-account-") {
            return Err(Refusal::NotAUser);
        }
        let session = claims.id("sid").or_else(|| claims.id("session_state"));
        alive(OldSession {
            session: Secret::new(session.ok_or(Refusal::NotASessionToken)?),
            subject: Subject::Source(subject),
            authenticated_at: claims.signed_in(),
            second_factor: claims.second_factor(),
            impersonator: claims.actor(),
            email: claims.text("email").and_then(reading::address),
            ..OldSession::default()
        })
    }
}
