//! HAProxy, which asks by a few lines of Lua: what they pass on is whatever is answered.

use super::{Place, Proxy, as_it_is, original};
use crate::kind::Kind;

pub(super) const KIND: Kind<Proxy> = Kind {
    name: "haproxy",
    about: "Lua: X-Forwarded-Method, -Proto, -Host, -Uri",
    build: Proxy {
        place: Place::Header,
        original: |head, _| original::forwarded(head),
        answer: as_it_is,
    },
};
