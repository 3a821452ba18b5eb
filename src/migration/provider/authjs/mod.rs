//! Auth.js, formerly NextAuth.

mod session;

use crate::kind::Kind;

use super::Build;

/// Auth.js, formerly NextAuth.
pub(super) const KIND: Kind<Build> = Kind {
    name: "authjs",
    about: "Auth.js v5 and v4 (NextAuth): encrypted cookies, or its sessions table",
    build: Build {
        experimental: &[],
        keys: &[session::KEYS],
        check: None,
        sessions: session::BUILD,
    },
};
