//! Lucia.

mod session;

use crate::kind::Kind;

use super::Build;

/// Lucia.
pub(super) const KIND: Kind<Build> = Kind {
    name: "lucia",
    about: "Lucia: its sessions table",
    build: Build {
        experimental: &[],
        keys: &[session::KEYS],
        check: None,
        sessions: session::BUILD,
    },
};
