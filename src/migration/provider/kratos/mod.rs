//! Ory Kratos.

mod check;
mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

use super::Build;

/// Ory Kratos.
pub(super) const KIND: Kind<Build> = Kind {
    name: "kratos",
    about: "Ory Kratos: live check by the API flow, `ory_kratos_session` cookies",
    build: Build {
        experimental: &["second factor"],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "kratos",
    about: "Ory Kratos: the identities of its admin API, with credentials",
    build: export::EXPORT,
};
