//! Lucia.

mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

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

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "lucia",
    about: "Lucia 2 and 3: the app's own tables as a dump, JSON or CSV",
    build: export::EXPORT,
};
