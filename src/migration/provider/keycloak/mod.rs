//! Keycloak.

mod check;
mod session;

use crate::kind::Kind;

use super::Build;

/// Keycloak.
pub(super) const KIND: Kind<Build> = Kind {
    name: "keycloak",
    about: "Keycloak: live check by direct access grants, access tokens",
    build: Build {
        experimental: &["live check", "sessions"],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};
