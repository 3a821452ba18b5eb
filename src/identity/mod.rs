//! Who is calling, told to the app: headers nobody else can set, and a signed assertion.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use http::{HeaderName, HeaderValue};

use crate::kind::Kind;
use crate::secret::Secret;
use crate::session::entry::{Entry, Fact, is_plain};
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

/// How long all values together mostly are at most.
const VALUES_BYTES: usize = 256;

/// Texts the app may be told.
const FACTS: usize = 9;

impl Names {
    /// In the order of the facts; then the method.
    fn each(&self) -> [Option<&'static str>; FACTS + 1] {
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
    }

    fn all(&self) -> impl Iterator<Item = &'static str> {
        self.each().into_iter().flatten()
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
    /// What tells of each fact, in their order; then of the method.
    names: [Option<HeaderName>; FACTS + 1],
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
            names: names.each().map(|name| name.map(HeaderName::from_static)),
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

    /// The identity headers of a caller.
    pub fn headers(&self, entry: &Entry) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        // One buffer for all values, and handles into it.
        let mut values = BytesMut::with_capacity(VALUES_BYTES);
        let mut made: [Option<(&HeaderName, usize)>; FACTS + 1] = [None; FACTS + 1];
        for (place, (name, fact)) in made.iter_mut().zip(self.told(entry)) {
            let before = values.len();
            put_value(fact, &mut values);
            *place = Some((name, values.len() - before));
        }
        let mut values = values.freeze();
        made.into_iter()
            .flatten()
            .filter_map(move |(name, length)| {
                let value = HeaderValue::from_maybe_shared(values.split_to(length)).ok()?;
                Some((name.clone(), value))
            })
    }

    /// Writes the same headers as lines.
    pub fn write(&self, entry: &Entry, wire: &mut Vec<u8>) {
        for (name, fact) in self.told(entry) {
            wire.extend_from_slice(name.as_str().as_bytes());
            wire.extend_from_slice(b": ");
            put_value(fact, wire);
            wire.extend_from_slice(b"\r\n");
        }
    }

    /// What the app is told, each with its name. Empty facts are left out.
    fn told<'i, 'e>(
        &'i self,
        entry: &'e Entry,
    ) -> impl Iterator<Item = (&'i HeaderName, Told<'e>)> {
        let [facts @ .., method] = &self.names;
        let facts = entry.facts().filter_map(|fact| {
            let name = facts.get(fact.text as usize)?.as_ref()?;
            (!fact.letters.is_empty()).then_some((name, fact.into()))
        });
        let letters = entry.method().as_str().as_bytes();
        let told = Told {
            letters,
            is_plain: true,
        };
        facts.chain(method.as_ref().map(|name| (name, told)))
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
        let mut claims = self.claims(entry, now);
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

    fn claims<'a>(&'a self, entry: &'a Entry, now: UnixMs) -> Claims<'a> {
        let iat = now.0.div_euclid(1000);
        // Never past the session itself.
        let exp = now
            .plus(self.lifetime)
            .min(entry.expires_at())
            .0
            .div_euclid(1000);
        Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: entry.user_id(),
            sid: entry.session_id(),
            iat,
            exp: exp.max(iat),
            method: entry.method().as_str(),
            email: entry.email(),
            email_verified: entry.email_verified(),
            name: entry.name(),
            role: entry.role(),
            org: entry.organization_id(),
            org_role: entry.organization_role(),
            team: entry.team_id(),
            act: entry.impersonated_by().map(|sub| Actor { sub }),
        }
    }
}

/// One value that is told.
struct Told<'t> {
    letters: &'t [u8],
    is_plain: bool,
}

impl<'t> From<Fact<'t>> for Told<'t> {
    fn from(fact: Fact<'t>) -> Self {
        Self {
            letters: fact.letters,
            is_plain: fact.is_plain,
        }
    }
}

/// Writes a value: percent-encoded where it holds `%`, spaces or bytes outside visible ASCII.
fn put_value(told: Told<'_>, into: &mut impl BufMut) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if told.is_plain {
        return into.put_slice(told.letters);
    }
    for &byte in told.letters {
        if is_plain(byte) {
            into.put_u8(byte);
        } else {
            // Both indices are four bits wide.
            #[allow(clippy::indexing_slicing)]
            into.put_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::credential::Method;
    use crate::credential::signature::Signer;
    use crate::session::entry::Finding;
    use crate::session::revocation::Revocations;
    use crate::session::{Principal, Record};

    const NOW: UnixMs = UnixMs(1_795_000_000_000);

    fn identity(preset: &'static str) -> Identity {
        let settings = Settings {
            preset,
            assertion: true,
            issuer: "i".into(),
            audience: "a".into(),
            lifetime: Duration::from_secs(60),
            key: None,
        };
        Identity::new(&settings, &Secret::new("material"), &[]).unwrap()
    }

    fn entry(method: Method) -> Arc<Entry> {
        let record = Record {
            session_id: "s%1".into(),
            token: Secret::new("hunter2"),
            expires_at: NOW.plus(Duration::from_secs(3600)),
            created_at: Some(NOW),
            updated_at: None,
            impersonated_by: Some("root".into()),
            organization_id: Some("o1".into()),
            organization_role: Some("owner,member".into()),
            user_id: "u1".into(),
            email: Some("ada@example.com".into()),
            email_verified: true,
            name: Some("Ada \u{e9}\r\n~".into()),
            role: Some("".into()),
            banned: false,
            ban_expires: None,
            team_id: None,
            document: None,
        };
        let seal = Signer::new(&Secret::new("secret")).seal("hunter2");
        let principal = Principal { record, method };
        let since = Revocations::default().moment();
        Finding::new(principal, &seal, NOW, since).pack()
    }

    #[test]
    fn facts_leave_percent_encoded_in_their_order_the_same_on_the_wire_and_in_a_map() {
        for (preset, expected) in [
            (
                "vestibule",
                "x-auth-user-id: u1\r\nx-auth-user-email: ada@example.com\r\nx-auth-user-name: Ada%20%C3%A9%0D%0A~\r\n\
                 x-auth-session-id: s%251\r\nx-auth-org-id: o1\r\nx-auth-org-role: owner,member\r\n\
                 x-auth-impersonated-by: root\r\nx-auth-method: bearer\r\n",
            ),
            (
                "remote",
                "remote-user: u1\r\nremote-email: ada@example.com\r\nremote-name: Ada%20%C3%A9%0D%0A~\r\n",
            ),
        ] {
            let (identity, entry) = (identity(preset), entry(Method::Bearer));
            let mut wire = Vec::new();
            identity.write(&entry, &mut wire);
            assert_eq!(String::from_utf8(wire).unwrap(), expected);
            let lines = identity
                .headers(&entry)
                .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()));
            assert_eq!(lines.collect::<String>(), expected);
        }
    }

    #[test]
    fn an_assertion_is_signed_anew_at_half_its_life_and_for_whoever_was_looked_up_anew() {
        let (identity, entry) = (identity("vestibule"), entry(Method::SESSION));
        let signed = |entry: &Entry, at: UnixMs| identity.assertion(entry, at).unwrap().unwrap().1;
        let at = |seconds| NOW.plus(Duration::from_secs(seconds));
        let first = signed(&entry, at(0));
        assert_eq!(signed(&entry, at(29)), first);
        let second = signed(&entry, at(30));
        assert_ne!(second, first);
        // The clock was set back: what was signed is from the future.
        assert_eq!(signed(&entry, at(0)), first);
        // The same session, renewed: what it says of its end may be new.
        let renewed = entry.renewed(at(5), None);
        assert_ne!(signed(&renewed, at(0)), first);
        assert_eq!(signed(&entry, at(0)), first);
        assert!(identity.assertions_weight() > 0);
    }
}
