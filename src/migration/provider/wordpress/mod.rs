//! WordPress.

mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

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

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "wordpress",
    about: "WordPress: wp_users and wp_usermeta as CSV, JSON or a dump",
    build: export::EXPORT,
};
