//! What is said to whoever does not get in, and when: by default the same to all, at a moment that says nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::attempt::Endpoint;

/// What is the matter, as far as it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sorry {
    /// The password is wrong, or there is no such account, or there is nothing to check it by: all the same.
    Wrong,
    /// An old system, or the accounts, cannot be asked now.
    Unavailable,
    /// Too many sign in at once.
    Overloaded,
    /// Only where the reason may be named: a link was sent.
    Reset,
    /// Only where the reason may be named: the account signs in by other means.
    NoPassword,
    /// Only where the reason may be named: the old system was asked too often for this account.
    Limited,
    /// Only where the reason may be named: the account must not get in.
    Blocked,
    /// Only where the reason may be named: the second factor of the old account cannot be asked for.
    SecondFactor,
}

/// The mail that the message speaks of.
#[derive(Clone, Copy, Debug)]
pub struct Promise<'p> {
    /// The day before which accounts are in the old system, as the operator wrote it.
    pub before: Option<&'p str>,
}

/// What is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The status.
    pub status: u16,
    /// The body, as the framework shapes it: `message`, `code`.
    pub body: Value,
    /// Seconds after which it is worth trying again.
    pub retry_after: Option<u64>,
}

/// Says it. `promise`: none where no mails are sent.
pub fn say(sorry: Sorry, endpoint: Endpoint, promise: Option<Promise<'_>>) -> Said {
    let link = |promise: Promise<'_>| match promise.before {
        Some(day) => format!(
            "If you had an account before {day}, we have sent you a link to set a new password."
        ),
        None => {
            "If you had an account before we moved, we have sent you a link to set a new password."
                .to_owned()
        }
    };
    let wrong = || match promise {
        Some(promise) => format!("{}. {}", endpoint.message(), link(promise)),
        None => endpoint.message().to_owned(),
    };
    let (status, code, message, retry_after) = match sorry {
        Sorry::Wrong => (401, endpoint.code(), wrong(), None),
        Sorry::Unavailable => (
            503,
            "legacy_provider_unavailable",
            "We cannot check your password right now. Please try again in a moment.".into(),
            Some(10),
        ),
        Sorry::Overloaded => (
            503,
            "overloaded",
            "Too many people are signing in right now. Please try again in a moment.".into(),
            Some(2),
        ),
        Sorry::Reset => (
            401,
            "PASSWORD_RESET_REQUIRED",
            promise.map_or_else(|| endpoint.message().to_owned(), link),
            None,
        ),
        Sorry::NoPassword => (
            401,
            "PASSWORD_NOT_SET",
            "This account has no password. Sign in the way you did before.".into(),
            None,
        ),
        Sorry::Limited => (
            429,
            "legacy_provider_limited",
            "This was tried too often. Please try again later.".into(),
            Some(60),
        ),
        Sorry::Blocked => (
            401,
            "ACCOUNT_BLOCKED",
            "This account cannot sign in with a password. Please contact support.".into(),
            None,
        ),
        Sorry::SecondFactor => (
            401,
            "SECOND_FACTOR_UNAVAILABLE",
            "The second factor of this account cannot be checked here. Please contact support."
                .into(),
            None,
        ),
    };
    Said {
        status,
        body: json!({ "message": message, "code": code }),
        retry_after,
    }
}

/// When an answer goes out, counted from the beginning of the request: at the hold, and whatever is late for it at the next half of it.
/// Steps and not a moment of its own, or it would tell how long the work took.
pub fn release(took: Duration, hold: Duration) -> Duration {
    if took <= hold {
        return hold;
    }
    let step = (hold / 2).as_nanos();
    if step == 0 {
        return took;
    }
    let steps = (took - hold).as_nanos().div_ceil(step);
    let late = step.saturating_mul(steps);
    hold + Duration::from_nanos(u64::try_from(late).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_the_same_for_all_and_promises_no_mail_that_does_not_come() {
        let dated = Promise {
            before: Some("2026-12-01"),
        };
        let said = say(Sorry::Wrong, Endpoint::Email, Some(dated));
        assert_eq!(
            (said.status, said.body),
            (
                401,
                json!({
                    "message": "Invalid email or password. If you had an account before 2026-12-01, we have sent you a link to set a new password.",
                    "code": "INVALID_EMAIL_OR_PASSWORD",
                })
            )
        );
        let said = say(Sorry::Wrong, Endpoint::Username, None);
        assert_eq!(
            said.body,
            json!({ "message": "Invalid username or password", "code": "INVALID_USERNAME_OR_PASSWORD" })
        );
        let said = say(Sorry::Unavailable, Endpoint::Phone, Some(dated));
        assert_eq!((said.status, said.retry_after), (503, Some(10)));
        assert!(!said.body.to_string().contains("link"));
    }

    #[test]
    fn answers_go_out_in_steps() {
        let ms = Duration::from_millis;
        for (took, out) in [
            (0, 1000),
            (999, 1000),
            (1000, 1000),
            (1001, 1500),
            (1500, 1500),
            (1501, 2000),
            (3050, 3500),
        ] {
            assert_eq!(release(ms(took), ms(1000)), ms(out), "{took}");
        }
        assert_eq!(release(ms(7), Duration::ZERO), ms(7));
    }
}
