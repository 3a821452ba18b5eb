//! Stytch.

mod check;
mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

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

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "stytch",
    about: "Stytch: what its search answers, and hashes from support",
    build: export::EXPORT,
};
