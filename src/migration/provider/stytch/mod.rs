//! Stytch.

mod check;
mod session;

use crate::kind::Kind;

use super::Build;

/// Stytch.
pub(super) const KIND: Kind<Build> = Kind {
    name: "stytch",
    about: "Stytch: live check, `stytch_session` cookies",
    build: Build {
        experimental: &["live check", "sessions"],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};
