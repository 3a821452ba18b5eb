//! SuperTokens.

mod check;
mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

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

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "supertokens",
    about: "SuperTokens: its tables as a dump or JSON",
    build: export::EXPORT,
};
