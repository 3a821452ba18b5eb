//! Any home-grown system.

mod check;
mod export;

use crate::kind::Kind;

use super::Build;
use crate::migration::import::source::Export;

/// Any home-grown system.
pub(super) const KIND: Kind<Build> = Kind {
    name: "generic",
    about: "any https endpoint of your own that checks a password",
    build: Build {
        experimental: &[],
        keys: &[check::KEYS],
        check: check::BUILD,
        sessions: None,
    },
};

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "generic",
    about: "any list of users: JSON, a JSON object a line, or CSV, with a mapping of its columns",
    build: export::EXPORT,
};
