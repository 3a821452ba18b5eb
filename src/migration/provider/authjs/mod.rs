//! Auth.js, formerly NextAuth.

mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

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

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "authjs",
    about: "Auth.js (NextAuth): its tables as JSON, a dump, or CSV each",
    build: export::EXPORT,
};
