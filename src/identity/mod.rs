//! Who is calling, told to the app: headers nobody else can set, and a signed assertion.

use std::time::Duration;

use crate::secret::Secret;

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
