//! Supabase Auth.

mod check;
mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

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

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "supabase",
    about: "Supabase Auth: auth.users and its neighbours as JSON, CSV or a dump, or the database",
    build: export::EXPORT,
};
