//! When a session is due to live longer: the framework's own rules, for a request that the framework will not see.
//!
//! Source: better-auth 1.4 to 1.7, `get-session`; golden data in `tests/golden/get-session.json`.

use std::time::Duration;

use http::HeaderMap;

use crate::credential::signature::Signer;
use crate::credential::{Presented, Proof, session_cookie};
use crate::time::UnixMs;

/// How long sessions live, and when they are extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `session.expiresIn`.
    pub expires_in: Duration,
    /// `session.updateAge`: how long after its last extension a session is due. Zero: at every read.
    pub update_age: Duration,
}

impl Rules {
    /// Whether a live session is due. One that ends later than a full length from now (the length was lowered) is not, until its
    /// end comes near.
    pub fn is_due(&self, expires_at: UnixMs, now: UnixMs) -> bool {
        let ms = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        let due = expires_at
            .0
            .saturating_sub(ms(self.expires_in))
            .saturating_add(ms(self.update_age));
        now <= expires_at && due <= now.0
    }

    /// When a session ends that is extended now.
    pub fn until(&self, now: UnixMs) -> UnixMs {
        now.plus(self.expires_in)
    }
}

/// Whether a request asks for its session to be left as it is: the user wanted to be forgotten when the browser closes, or is
/// impersonated. Only a marker the app has signed says so, whatever its text; one that is lost or forged says nothing, and the
/// session is extended like any other, as the framework does it.
pub fn is_marked_short(headers: &HeaderMap, marker_cookie: &str, signer: &Signer) -> bool {
    match session_cookie::read(headers, marker_cookie) {
        Presented::Found(credential) => match &credential.proof {
            Proof::Signed(signed) => !signed.value.is_empty() && signer.verify(signed).is_some(),
            _ => false,
        },
        Presented::Absent | Presented::Malformed => false,
    }
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;
    use crate::secret::Secret;

    const DAY: i64 = 86_400_000;
    const RULES: Rules = Rules {
        expires_in: Duration::from_secs(7 * 86_400),
        update_age: Duration::from_secs(86_400),
    };

    #[test]
    fn a_session_is_due_from_the_very_millisecond_until_it_ends() {
        let end = UnixMs(100 * DAY);
        let due = 94 * DAY;
        for (now, expected) in [
            (due - 1, false),
            (due, true),
            (due + 1, true),
            (100 * DAY, true),
            (100 * DAY + 1, false),
        ] {
            assert_eq!(RULES.is_due(end, UnixMs(now)), expected, "{now}");
        }
        assert_eq!(RULES.until(UnixMs(due)), UnixMs(101 * DAY));
    }

    #[test]
    fn a_session_longer_than_the_present_length_is_left_alone() {
        assert!(!RULES.is_due(UnixMs(130 * DAY), UnixMs(100 * DAY)));
    }

    #[test]
    fn without_an_update_age_every_read_is_due() {
        let rules = Rules {
            update_age: Duration::ZERO,
            ..RULES
        };
        assert!(rules.is_due(UnixMs(107 * DAY), UnixMs(100 * DAY)));
        assert!(!rules.is_due(UnixMs(107 * DAY + 1), UnixMs(100 * DAY)));
    }

    #[test]
    fn extremes_do_not_overflow() {
        for end in [i64::MIN, -1, 0, i64::MAX] {
            for now in [i64::MIN, 0, i64::MAX] {
                let _ = RULES.is_due(UnixMs(end), UnixMs(now));
            }
        }
        let rules = Rules {
            expires_in: Duration::MAX,
            update_age: Duration::MAX,
        };
        let _ = rules.is_due(UnixMs(0), UnixMs(0));
    }

    #[test]
    fn only_a_signed_marker_keeps_a_session_short() {
        let signer = Signer::new(&Secret::new("secret"));
        let other = Signer::new(&Secret::new("another"));
        let marked = |cookie: String| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, cookie.parse().unwrap());
            is_marked_short(&headers, "m", &signer)
        };
        assert!(marked(format!("m={}", signer.issue("true"))));
        assert!(!marked(format!("m={}", other.issue("true"))));
        assert!(!marked("m=true".into()));
        assert!(!marked(format!("n={}", signer.issue("true"))));
        assert!(!is_marked_short(&HeaderMap::new(), "m", &signer));
    }
}
