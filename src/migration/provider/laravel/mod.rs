//! Laravel.

mod session;

use crate::kind::Kind;

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
