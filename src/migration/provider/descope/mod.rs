//! Descope.

mod check;
mod session;

use crate::kind::Kind;

use super::Build;

/// Descope.
pub(super) const KIND: Kind<Build> = Kind {
    name: "descope",
    about: "Descope: live check, `DS` cookies",
    build: Build {
        experimental: &["live check", "sessions"],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};
