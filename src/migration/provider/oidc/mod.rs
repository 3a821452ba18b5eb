//! Any OpenID provider, by bearer token.

mod session;

use crate::kind::Kind;

use super::Build;

/// Any OpenID provider, by bearer token.
pub(super) const KIND: Kind<Build> = Kind {
    name: "oidc",
    about: "any OpenID provider: bearer tokens handed to the bridge",
    build: Build {
        experimental: &[],
        keys: &[session::KEYS],
        check: None,
        sessions: session::BUILD,
    },
};
