//! Amazon Cognito.

mod check;
mod export;
mod session;
mod srp;

use crate::kind::Kind;
use crate::migration::import::source::Export;

use super::Build;

/// Amazon Cognito.
pub(super) const KIND: Kind<Build> = Kind {
    name: "cognito",
    about: "Amazon Cognito: live check (password or SRP), Amplify cookies, tokens",
    build: Build {
        experimental: &[],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "cognito",
    about: "Amazon Cognito: what list-users answers; it hands over no hashes",
    build: export::EXPORT,
};
