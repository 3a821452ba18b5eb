//! Caddy's `forward_auth`. It passes any answer on that is not 2xx. Of several header lines of one name it can hand one on, so cookies
//! are also numbered.

use super::{Place, Proxy, Told, as_it_is, number_cookies, original};
use crate::kind::Kind;

pub(super) const KIND: Kind<Proxy> = Kind {
    name: "caddy",
    about: "forward_auth: X-Forwarded-Method, -Proto, -Host, -Uri",
    build: Proxy {
        place: Place::Header,
        original: |head, _| original::forwarded(head),
        answer: |mut told| {
            if let Told::Allow(answer) = &mut told {
                number_cookies(answer);
            }
            as_it_is(told)
        },
    },
};
