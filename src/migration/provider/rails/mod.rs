//! Rails with Devise.

mod session;

use crate::kind::Kind;

use super::Build;

/// Rails with Devise.
pub(super) const KIND: Kind<Build> = Kind {
    name: "rails",
    about: "Rails: encrypted session cookies with Devise",
    build: Build {
        experimental: &["sessions"],
        keys: &[session::KEYS],
        check: None,
        sessions: session::BUILD,
    },
};
