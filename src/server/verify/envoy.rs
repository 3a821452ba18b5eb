//! Envoy's `ext_authz` over HTTP. It repeats method and host, and appends the path to ours; it passes any answer on that is not 200.

use super::{Place, Proxy, as_it_is, original};
use crate::kind::Kind;

pub(super) const KIND: Kind<Proxy> = Kind {
    name: "envoy",
    about: "ext_authz: method and host as they came, the path behind ours",
    build: Proxy {
        place: Place::Appended,
        original: original::repeated,
        answer: as_it_is,
    },
};
