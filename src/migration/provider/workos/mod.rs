//! WorkOS AuthKit.

mod check;
mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

use super::Build;

/// WorkOS AuthKit.
pub(super) const KIND: Kind<Build> = Kind {
    name: "workos",
    about: "WorkOS AuthKit: live check by its API, sealed `wos-session` cookies",
    build: Build {
        experimental: &[],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "workos",
    about: "WorkOS: the pages of its API, with identities, organizations and memberships",
    build: export::EXPORT,
};
