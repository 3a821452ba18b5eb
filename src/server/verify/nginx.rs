//! nginx's `auth_request`. It knows three answers, 2xx, 401 and 403, and drops the rest of them; everything else becomes a 500. So a
//! redirect is a 401 with its `Location`, and whoever wants the whole answer asks a second time, for the refusal.

use http::StatusCode;

use super::{Place, Proxy, Told, as_it_is, number_cookies, original};
use crate::kind::Kind;
use crate::server::respond::{self, Answer};

pub(super) const KIND: Kind<Proxy> = Kind {
    name: "nginx",
    about: "auth_request: X-Original-Method, X-Original-URL",
    build: Proxy {
        place: Place::Header,
        original: |head, _| original::address(head, "x-original-method", "x-original-url"),
        answer: |told| {
            let mut answer = as_it_is(told);
            answer.status = known(answer.status);
            number_cookies(&mut answer);
            answer
        },
    },
};

/// The answer to a request that was refused a moment ago, as it is.
pub(super) const REFUSAL: Kind<Proxy> = Kind {
    name: "nginx/refusal",
    about: "what a refused client is answered",
    build: Proxy {
        place: Place::Header,
        original: |head, _| original::address(head, "x-original-method", "x-original-url"),
        answer: |told| match told {
            Told::Refuse(answer) => answer,
            // Between the two questions the session came to life, or the store did. This answer goes to the client: nothing of an
            // identity may stand in it, and nothing that looks like the page.
            Told::Allow(_) => again(),
        },
    },
};

/// The nearest answer nginx knows. That nobody could find out (5xx) it makes a 500, which is not "you may not".
fn known(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::OK | StatusCode::UNAUTHORIZED => status,
        _ if status.is_redirection() => StatusCode::UNAUTHORIZED,
        _ if status.is_server_error() => status,
        _ => StatusCode::FORBIDDEN,
    }
}

fn again() -> Answer {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut answer = respond::problem(status, "Service Unavailable", "unavailable", "");
    answer.push(http::header::RETRY_AFTER, "1");
    answer
}

#[cfg(test)]
mod tests {
    use http::header::{LOCATION, SET_COOKIE};

    use super::*;

    fn answer(status: StatusCode) -> Answer {
        let mut answer = respond::text(status, "x");
        answer.push(LOCATION, "/sign-in");
        answer.push(SET_COOKIE, "secret=1");
        answer
    }

    #[test]
    fn every_answer_is_one_that_nginx_knows_and_keeps_where_to_go() {
        for (status, becomes) in [
            (200, 200),
            (302, 401),
            (303, 401),
            (401, 401),
            (400, 403),
            (403, 403),
            (421, 403),
            (429, 403),
            (503, 503),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let told = (KIND.build.answer)(Told::Refuse(answer(status)));
            assert_eq!(told.status.as_u16(), becomes);
            assert!(told.headers.iter().any(|(name, _)| name == LOCATION));
        }
    }

    #[test]
    fn who_is_allowed_meanwhile_is_told_nothing_by_the_refusal() {
        let told = (REFUSAL.build.answer)(Told::Allow(answer(StatusCode::OK)));
        assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(told.headers.iter().all(|(name, _)| name != SET_COOKIE));
        let told = (REFUSAL.build.answer)(Told::Refuse(answer(StatusCode::SEE_OTHER)));
        assert_eq!(told.status, StatusCode::SEE_OTHER);
        assert!(told.headers.iter().any(|(name, _)| name == SET_COOKIE));
    }
}
