//! Keycloak.

mod check;
mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

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

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "keycloak",
    about: "Keycloak: the export of a realm with its users",
    build: export::EXPORT,
};
