//! Supabase Auth.

mod check;
mod session;

use crate::kind::Kind;

use super::Build;

/// Supabase Auth.
pub(super) const KIND: Kind<Build> = Kind {
    name: "supabase",
    about: "Supabase Auth: live check, `sb-...-auth-token` cookies and tokens",
    build: Build {
        experimental: &[],
        keys: &[check::KEYS, session::KEYS],
        check: check::BUILD,
        sessions: session::BUILD,
    },
};
