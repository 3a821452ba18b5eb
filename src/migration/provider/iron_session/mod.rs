//! iron-session.

mod session;

use crate::kind::Kind;

use super::Build;

/// iron-session.
pub(super) const KIND: Kind<Build> = Kind {
    name: "iron_session",
    about: "iron-session: sealed cookies",
    build: Build {
        experimental: &[],
        keys: &[session::KEYS],
        check: None,
        sessions: session::BUILD,
    },
};
