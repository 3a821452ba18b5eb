//! WordPress.

mod session;

use crate::kind::Kind;

use super::Build;

/// WordPress.
pub(super) const KIND: Kind<Build> = Kind {
    name: "wordpress",
    about: "WordPress: `wordpress_logged_in_...` cookies",
    build: Build {
        experimental: &["sessions"],
        keys: &[session::KEYS],
        check: None,
        sessions: session::BUILD,
    },
};
