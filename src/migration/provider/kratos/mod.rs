//! Ory Kratos.

mod check;
mod session;

use crate::kind::Kind;

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
