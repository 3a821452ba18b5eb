//! Django.

mod export;
mod session;

use crate::kind::Kind;
use crate::migration::import::source::Export;

use super::Build;

/// Django.
pub(super) const KIND: Kind<Build> = Kind {
    name: "django",
    about: "Django: `sessionid` cookies and the django_session table",
    build: Build {
        experimental: &[],
        keys: &[session::KEYS],
        check: None,
        sessions: session::BUILD,
    },
};

/// Its exports.
pub(super) const EXPORT: Kind<Export> = Kind {
    name: "django",
    about: "Django: dumpdata or a dump, with allauth and django-otp",
    build: export::EXPORT,
};
