//! Firebase Auth.

mod check;
mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

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

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "firebase",
    about: "Firebase Auth: auth:export as JSON or CSV, with the project's hash parameters",
    build: export::EXPORT,
};
