//! Descope.

mod check;
mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

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

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "descope",
    about: "Descope: what its search answers, and hashes from support",
    build: export::EXPORT,
};
