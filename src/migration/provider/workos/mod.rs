//! WorkOS AuthKit.

mod check;
mod session;

use crate::kind::Kind;

use super::Build;

/// WorkOS AuthKit.
pub(super) const KIND: Kind<Build> = Kind {
    name: "workos",
    about: "WorkOS AuthKit: live check by its API, sealed `wos-session` cookies",
    build: Build {
        experimental: &[],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};
