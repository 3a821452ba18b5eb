//! Auth0.

mod check;
mod session;

use crate::kind::Kind;

use super::Build;

/// Auth0.
pub(super) const KIND: Kind<Build> = Kind {
    name: "auth0",
    about: "Auth0: live check by the password-realm grant, cookies of its Next.js and Express SDKs",
    build: Build {
        experimental: &[],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};
