//! Auth0.

mod check;
mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

use super::Build;

/// Auth0.
pub(super) const KIND: Kind<Build> = Kind {
    name: "auth0",
    about: "Auth0: live check by the password-realm grant, cookies of its Next.js and Express SDKs",
    build: Build {
        experimental: &[],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "auth0",
    about: "Auth0: an export job's lines, support's hashes, organizations",
    build: export::EXPORT,
};
