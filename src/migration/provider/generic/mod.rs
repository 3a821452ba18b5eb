//! Any home-grown system.

mod check;

use crate::kind::Kind;

use super::Build;

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
