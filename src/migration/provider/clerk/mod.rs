//! Clerk.

mod check;
mod session;

use crate::kind::Kind;

use super::Build;

/// Clerk.
pub(super) const KIND: Kind<Build> = Kind {
    name: "clerk",
    about: "Clerk: live check and lookup by its Backend API, `__session` cookies and tokens",
    build: Build {
        experimental: &[],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};
