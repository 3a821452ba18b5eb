//! Laravel.

mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

use super::Build;

/// Laravel.
pub(super) const KIND: Kind<Build> = Kind {
    name: "laravel",
    about: "Laravel: encrypted session cookies and the sessions table",
    build: Build {
        experimental: &["sessions"],
        keys: &[session::KEYS],
        check: None,
        sessions: session::BUILD,
    },
};

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "laravel",
    about: "Laravel: the table of users as CSV, JSON or a dump",
    build: export::EXPORT,
};
