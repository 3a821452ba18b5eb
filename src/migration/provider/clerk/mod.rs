//! Clerk.

mod check;
mod export;
mod session;

use crate::kind::Kind;

use super::Build;
use crate::migration::import::source::Export;

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

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "clerk",
    about: "Clerk: the CSV of its dashboard, joined with the pages of its Backend API",
    build: export::EXPORT,
};
