//! Firebase Auth.

mod check;
mod session;

use crate::kind::Kind;

use super::Build;

/// Firebase Auth.
pub(super) const KIND: Kind<Build> = Kind {
    name: "firebase",
    about: "Firebase Auth: live check, session cookies, ID tokens",
    build: Build {
        experimental: &["live check"],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};
