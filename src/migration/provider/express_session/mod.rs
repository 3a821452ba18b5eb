//! express-session with Passport.

mod session;

use crate::kind::Kind;

use super::Build;

/// express-session with Passport.
pub(super) const KIND: Kind<Build> = Kind {
    name: "express_session",
    about: "express-session: signed cookies, sessions in Redis or a table",
    build: Build {
        experimental: &[],
        keys: &[session::KEYS],
        check: None,
        sessions: session::BUILD,
    },
};
