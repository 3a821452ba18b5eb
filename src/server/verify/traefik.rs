//! Traefik's `forwardAuth`. It passes any answer on that is not 2xx; `preserveLocationHeader` must be set, or it makes our relative
//! addresses point at us.

use super::{Place, Proxy, as_it_is, original};
use crate::kind::Kind;

pub(super) const KIND: Kind<Proxy> = Kind {
    name: "traefik",
    about: "forwardAuth: X-Forwarded-Method, -Proto, -Host, -Uri",
    build: Proxy {
        place: Place::Header,
        original: |head, _| original::forwarded(head),
        answer: as_it_is,
    },
};
