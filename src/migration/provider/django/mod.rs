//! Django.

mod session;

use crate::kind::Kind;

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
