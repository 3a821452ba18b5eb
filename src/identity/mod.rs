//! Who is calling, told to the app: headers nobody else can set, and a signed assertion.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::kind::Kind;
use crate::secret::Secret;
use crate::session::Principal;
use crate::session::cache::Entry;
use crate::time::UnixMs;

pub mod assertion;
pub mod owned;
mod signed;

use assertion::{Actor, Claims, Key, PublicKey};
use owned::Owned;
use signed::Recent;

/// How the app is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names of the headers (`identity.preset`): `vestibule`, `oauth2-proxy` or `remote`.
    pub preset: &'static str,
    /// Whether `X-Auth-Assertion` is sent (`identity.assertion`).
    pub assertion: bool,
    /// `iss` of the assertion (`identity.issuer`, default `public_url`).
    pub issuer: String,
    /// `aud` of the assertion (`identity.audience`, default `public_url`).
    pub audience: String,
    /// Life of an assertion, 60 s at most (`identity.lifetime`).
    pub lifetime: Duration,
    /// Seed material of the signing key (`identity.key`); by default derived from the current secret.
    pub key: Option<Secret>,
}

/// What the identity headers are called. `None`: this preset has no such header.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names {
    user_id: Option<&'static str>,
    user_email: Option<&'static str>,
    user_name: Option<&'static str>,
    role: Option<&'static str>,
    session_id: Option<&'static str>,
    organization_id: Option<&'static str>,
    organization_role: Option<&'static str>,
    team_id: Option<&'static str>,
    impersonated_by: Option<&'static str>,
    method: Option<&'static str>,
}

/// The header of the assertion, under every preset.
const ASSERTION: &str = "x-auth-assertion";

/// The presets (`identity.preset`).
pub static PRESETS: &[Kind<Names>] = &[
    Kind {
        name: "vestibule",
        about: "X-Auth-User-Id, -User-Email, -User-Name, -Role, -Session-Id, -Org-Id, -Org-Role, -Team-Id, -Impersonated-By, -Method",
        build: Names {
            user_id: Some("x-auth-user-id"),
            user_email: Some("x-auth-user-email"),
            user_name: Some("x-auth-user-name"),
            role: Some("x-auth-role"),
            session_id: Some("x-auth-session-id"),
            organization_id: Some("x-auth-org-id"),
            organization_role: Some("x-auth-org-role"),
            team_id: Some("x-auth-team-id"),
            impersonated_by: Some("x-auth-impersonated-by"),
            method: Some("x-auth-method"),
        },
    },
    Kind {
        name: "oauth2-proxy",
        about: "X-Forwarded-User, -Email, -Preferred-Username, -Groups",
        build: Names {
            user_id: Some("x-forwarded-user"),
            user_email: Some("x-forwarded-email"),
            user_name: Some("x-forwarded-preferred-username"),
            role: Some("x-forwarded-groups"),
            session_id: None,
            organization_id: None,
            organization_role: None,
            team_id: None,
            impersonated_by: None,
            method: None,
        },
    },
    Kind {
        name: "remote",
        about: "Remote-User, Remote-Email, Remote-Name, Remote-Groups",
        build: Names {
            user_id: Some("remote-user"),
            user_email: Some("remote-email"),
            user_name: Some("remote-name"),
            role: Some("remote-groups"),
            session_id: None,
            organization_id: None,
            organization_role: None,
            team_id: None,
            impersonated_by: None,
            method: None,
        },
    },
];

/// Every header by which an app may learn who is asking, under every preset, lower-case.
pub fn header_names() -> impl Iterator<Item = &'static str> {
    PRESETS
        .iter()
        .flat_map(|kind| kind.build.all())
        .chain([ASSERTION])
}

impl Names {
    fn all(&self) -> impl Iterator<Item = &'static str> {
        [
            self.user_id,
            self.user_email,
            self.user_name,
            self.role,
            self.session_id,
            self.organization_id,
            self.organization_role,
            self.team_id,
            self.impersonated_by,
            self.method,
        ]
        .into_iter()
        .flatten()
    }
}

/// Why the app cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The signing key does not work.
    #[error("the key of the identity assertion does not work")]
    Key,
    /// The facts do not fit.
    #[error("the identity assertion is too long for a header")]
    TooLong,
}

impl IdentityError {
    /// The operator's next step.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Key => "set `identity.key` to another secret, or switch `identity.assertion` off",
            Self::TooLong => "shorten the user's roles or name, or switch `identity.assertion` off",
        }
    }
}

/// Tells the app who is calling.
pub struct Identity {
    names: Names,
    owned: Owned,
    key: Option<Key>,
    /// Public keys of secrets that were current before: what a replica not yet reloaded signs can still be checked.
    older: Vec<PublicKey>,
    issuer: String,
    audience: String,
    lifetime: Duration,
    recent: Recent,
}

impl Identity {
    /// Builds it. `current` is the secret whose key signs unless a key is configured; `older` ones stay in the key set.
    ///
    /// # Errors
    /// When the key does not work.
    pub fn new(
        settings: &Settings,
        current: &Secret,
        older: &[Secret],
    ) -> Result<Self, IdentityError> {
        let preset = PRESETS.iter().find(|kind| kind.name == settings.preset);
        let names = preset.map(|kind| kind.build).unwrap_or_default();
        // The names of every preset are owned, whichever is in force: an app that reads another one's must not believe a client.
        let owned = PRESETS
            .iter()
            .flat_map(|kind| kind.build.all())
            .chain([ASSERTION]);
        let material = settings.key.as_ref().unwrap_or(current);
        let older = match &settings.key {
            Some(_) => Vec::new(),
            None => older
                .iter()
                .map(|secret| Key::derive(secret).map(|key| key.public))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            names,
            owned: Owned::new(owned.map(str::to_owned).collect()),
            key: settings
                .assertion
                .then(|| Key::derive(material))
                .transpose()?,
            older,
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            lifetime: settings.lifetime,
            recent: Recent::default(),
        })
    }

    /// The names to remove from every request.
    pub fn owned(&self) -> &Owned {
        &self.owned
    }

    /// The identity headers of a caller, made once per remembered identity.
    pub fn headers<'e>(&self, entry: &'e Entry) -> &'e [(HeaderName, HeaderValue)] {
        entry
            .headers
            .get_or_init(|| self.make_headers(&entry.principal))
    }

    /// The assertion of a caller and its header: signed anew once per remembered identity and half its life, and for whoever was
    /// forgotten meanwhile. Nothing is held while it is signed, so two threads may both sign one.
    ///
    /// # Errors
    /// When it cannot be signed or is too long.
    pub fn assertion(
        &self,
        entry: &Entry,
        now: UnixMs,
    ) -> Result<Option<(HeaderName, HeaderValue)>, IdentityError> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        let name = HeaderName::from_static(ASSERTION);
        if let Some(value) = self.recent.find(entry.serial(), now, self.lifetime / 2) {
            return Ok(Some((name, value)));
        }
        let mut claims = self.claims(&entry.principal, now);
        let token = match key.sign(&claims) {
            // People choose their names; nobody is locked out by a long one.
            Err(IdentityError::TooLong) => {
                claims.name = None;
                key.sign(&claims)?
            }
            signed => signed?,
        };
        let value = HeaderValue::try_from(token).map_err(|_| IdentityError::Key)?;
        self.recent.put(entry.serial(), now, value.clone());
        Ok(Some((name, value)))
    }

    /// Bytes that assertions signed a moment ago take, as reckoned for their bound.
    pub fn assertions_weight(&self) -> u64 {
        self.recent.weight()
    }

    /// The key set, as JSON.
    pub fn key_set(&self) -> serde_json::Value {
        let keys: Vec<&PublicKey> = self
            .key
            .iter()
            .map(|key| &key.public)
            .chain(&self.older)
            .collect();
        serde_json::json!({ "keys": keys })
    }

    fn claims<'a>(&'a self, principal: &'a Principal, now: UnixMs) -> Claims<'a> {
        let record = &principal.record;
        let iat = now.0.div_euclid(1000);
        // Never past the session itself.
        let exp = now
            .plus(self.lifetime)
            .min(record.expires_at)
            .0
            .div_euclid(1000);
        Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: &record.user_id,
            sid: &record.session_id,
            iat,
            exp: exp.max(iat),
            method: principal.method.as_str(),
            email: record.email.as_deref(),
            email_verified: record.email_verified,
            name: record.name.as_deref(),
            role: record.role.as_deref(),
            org: record.organization_id.as_deref(),
            org_role: record.organization_role.as_deref(),
            team: record.team_id.as_deref(),
            act: record.impersonated_by.as_deref().map(|sub| Actor { sub }),
        }
    }

    fn make_headers(&self, principal: &Principal) -> Box<[(HeaderName, HeaderValue)]> {
        let record = &principal.record;
        let facts = [
            (self.names.user_id, Some(&*record.user_id)),
            (self.names.user_email, record.email.as_deref()),
            (self.names.user_name, record.name.as_deref()),
            (self.names.role, record.role.as_deref()),
            (self.names.session_id, Some(&*record.session_id)),
            (
                self.names.organization_id,
                record.organization_id.as_deref(),
            ),
            (
                self.names.organization_role,
                record.organization_role.as_deref(),
            ),
            (self.names.team_id, record.team_id.as_deref()),
            (
                self.names.impersonated_by,
                record.impersonated_by.as_deref(),
            ),
            (self.names.method, Some(principal.method.as_str())),
        ];
        facts
            .into_iter()
            .filter_map(|(name, value)| {
                Some((HeaderName::from_static(name?), header_value(value?)?))
            })
            .collect()
    }
}

/// A fact as a header value: percent-encoded where it holds `%`, spaces or bytes outside visible ASCII. Empty facts are left out.
fn header_value(fact: &str) -> Option<HeaderValue> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if fact.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(fact.len());
    for byte in fact.bytes() {
        if (0x21..0x7f).contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            // Both indices are four bits wide.
            #[allow(clippy::indexing_slicing)]
            out.extend([
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
    }
    HeaderValue::from_bytes(&out).ok()
}
