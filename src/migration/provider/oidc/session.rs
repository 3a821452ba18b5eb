//! Its live sessions.
//!
//! Source: OpenID Connect Core 1.0, RFC 9068. For whatever has no reader of its own: a token that names a user, from this issuer and for
//! this audience, handed to the bridge by an app that keeps it in browser storage.

use std::sync::Arc;
use std::time::Duration;

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
        "The issuer of tokens, to the letter. Needed.",
    ),
    key(
        "audience",
        KeyKind::Texts,
        "Whom tokens must be for (`aud`). Needed.",
    ),
    key(
        "authorized_parties",
        KeyKind::Texts,
        "Clients whose tokens count (`azp`). Default: any of this audience.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "A cookie that holds such a token, where there is one. Default: bearers alone.",
    ),
    token::JWKS_URL,
    token::JWKS,
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

const SKEW: Duration = Duration::from_secs(5);

struct Oidc {
    issuer: [String; 1],
    audience: Vec<String>,
    parties: Vec<String>,
    cookie: Option<String>,
    keys: Keys,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    let issuer = fields.required("issuer")?.expose().to_owned();
    fields.required("audience")?;
    Ok(reading::boxed(Oidc {
        audience: reading::texts(fields, "audience", &[]),
        parties: reading::texts(fields, "authorized_parties", &[]),
        cookie: fields
            .text("cookie_name")
            .map(|name| name.expose().to_owned()),
        // Where keys are is in the issuer's metadata; nothing is guessed.
        keys: Keys::configured(fields, "")?,
        issuer: [issuer],
    }))
}

impl Reader for Oidc {
    type Found = Secret;

    fn concerns(&self, cookie: &[u8]) -> bool {
        self.cookie
            .as_ref()
            .is_some_and(|name| cookie == name.as_bytes())
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Secret>, Refusal> {
        match (presented, &self.cookie) {
            (Presented::Bearer(token), _) => Ok(Some(Secret::new(*token))),
            (Presented::Cookies(headers), Some(name)) => {
                Ok(cookie::one(headers, name)?.map(Secret::new))
            }
            (Presented::Cookies(_), None) => Ok(None),
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

impl Oidc {
    fn weigh(&self, claims: &Claims, moment: Moment<'_>) -> Outcome {
        claims.issued_by(&self.issuer)?;
        if !claims.is_for(&self.audience) {
            return Err(Refusal::BadAudience);
        }
        let party = claims.text("azp").or_else(|| claims.text("client_id"));
        let known = |party: &str| self.parties.iter().any(|each| each == party);
        if !self.parties.is_empty() && !party.is_some_and(known) {
            return Err(Refusal::BadAuthorizedParty);
        }
        claims.in_time(moment.now, SKEW)?;
        let subject = claims.subject()?;
        if is_client(claims, &subject, party) {
            return Err(Refusal::NotAUser);
        }
        let begun = claims.moment("auth_time").or(claims.moment("iat"));
        let session = match claims.id("sid") {
            Some(id) => id.to_owned(),
            None => {
                let since = begun.ok_or(Refusal::NotASessionToken)?;
                format!("{subject}:{}", since.0)
            }
        };
        alive(OldSession {
            session: Secret::new(session),
            authenticated_at: claims.signed_in(),
            subject: Subject::Source(subject),
            second_factor: claims.second_factor(),
            impersonator: claims.actor(),
            organization: claims.id("org_id").map(|id| (id.to_owned(), None)),
            email: claims.text("email").and_then(reading::address),
            ..OldSession::default()
        })
    }
}

/// Whether a program got the token for itself, in any of the ways issuers say so.
fn is_client(claims: &Claims, subject: &str, party: Option<&str>) -> bool {
    let grant = claims.text("gty").or_else(|| claims.text("grant_type"));
    grant.is_some_and(|grant| grant.replace('_', "-").contains("client-credentials"))
        || subject.ends_with("@clients")
        || party == Some(subject)
}
