//! Amazon Cognito.

mod check;
mod session;
mod srp;

use crate::kind::Kind;

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
