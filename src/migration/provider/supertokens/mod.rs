//! SuperTokens.

mod check;
mod session;

use crate::kind::Kind;

use super::Build;

/// SuperTokens.
pub(super) const KIND: Kind<Build> = Kind {
    name: "supertokens",
    about: "SuperTokens: live check by its core, `sAccessToken` cookies and tokens",
    build: Build {
        experimental: &["live check", "sessions"],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};
