//! New accounts while the old system still has some of its own: which of the framework's endpoints make or change one, what is read of
//! such a request, and what becomes of it.
//!
//! Source: better-auth 1.4 to 1.7, `/sign-up/email`, `/request-password-reset`, `/change-password`, `/reset-password`, `/change-email`,
//! `/delete-user`, the plugins magic-link and email-otp; better-call, content types.

use serde_json::{Map, Value};

use super::provider::{LookedUp, Profile};
use crate::secret::Secret;

/// Longest address looked up, in bytes: none is longer.
const EMAIL_BYTES_MAX: usize = 254;

/// How often a change that did not arrive is tried again before somebody must look: over a day and a half in all.
pub const TRIES_MAX: u32 = 12;

/// What becomes of sign-ups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are made here; addresses the old system knows are kept for those they belong to.
    #[default]
    Open,
    /// None are made.
    Freeze,
    /// They are made here; who is known to the old system is adopted from there.
    Trickle,
    /// They are made here, and told to the old system, as changes of address and password are.
    DualWrite,
}

/// What the operator wants.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What becomes of sign-ups.
    pub mode: Mode,
    /// When they are possible again, as the operator wrote it; stands in the message.
    pub until: Option<(crate::time::UnixMs, String)>,
}

/// An endpoint of the framework that makes or changes an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A sign-up by address and password.
    SignUp,
    /// An account of nobody in particular.
    Anonymous,
    /// Something is sent to an address, and following it makes an account where there is none.
    Link,
    /// Something is sent to an address where there is an account.
    Forgot,
    /// A signed-in user changes the password.
    ChangePassword,
    /// A new password, by the token of a mail.
    ResetByToken,
    /// A new password, by address and code.
    ResetByCode,
    /// A signed-in user changes the address.
    ChangeEmail,
    /// A signed-in user changes the name.
    Update,
    /// A signed-in user leaves.
    Delete,
}

impl Endpoint {
    /// The one of this path below the base path. Apps may be set to take a slash at its end.
    pub fn of(path: &str) -> Option<Self> {
        Some(match path.strip_suffix('/').unwrap_or(path) {
            "/sign-up/email" => Self::SignUp,
            "/sign-in/anonymous" => Self::Anonymous,
            "/sign-in/magic-link" | "/email-otp/send-verification-otp" => Self::Link,
            "/request-password-reset"
            | "/forget-password"
            | "/forget-password/email-otp"
            | "/email-otp/request-password-reset" => Self::Forgot,
            "/change-password" => Self::ChangePassword,
            "/reset-password" => Self::ResetByToken,
            "/email-otp/reset-password" => Self::ResetByCode,
            "/change-email" => Self::ChangeEmail,
            "/update-user" => Self::Update,
            "/delete-user" => Self::Delete,
            _ => return None,
        })
    }

    /// Whether it concerns anybody in this mode.
    pub const fn concerns(self, mode: Mode) -> bool {
        match self {
            Self::SignUp => true,
            Self::Anonymous => matches!(mode, Mode::Freeze),
            Self::Link | Self::Forgot => matches!(mode, Mode::Trickle | Mode::DualWrite),
            Self::ChangePassword
            | Self::ResetByToken
            | Self::ResetByCode
            | Self::ChangeEmail
            | Self::Update
            | Self::Delete => matches!(mode, Mode::DualWrite),
        }
    }

    /// What is to be told to the old system when it was done; none of an endpoint that changes nothing there.
    pub const fn operation(self) -> Option<Operation> {
        match self {
            Self::SignUp => Some(Operation::SignUp),
            Self::ChangePassword | Self::ResetByToken | Self::ResetByCode => {
                Some(Operation::Password)
            }
            Self::ChangeEmail => Some(Operation::Email),
            Self::Update => Some(Operation::Name),
            Self::Delete => Some(Operation::Delete),
            Self::Anonymous | Self::Link | Self::Forgot => None,
        }
    }

    /// The field that holds the new password.
    const fn password_field(self) -> Option<&'static str> {
        match self {
            Self::SignUp | Self::ResetByCode => Some("password"),
            Self::ChangePassword | Self::ResetByToken => Some("newPassword"),
            _ => None,
        }
    }
}

/// What is told to the old system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A user signed up.
    SignUp,
    /// An address changed.
    Email,
    /// A password changed.
    Password,
    /// A name changed. Not tried again: it stands nowhere the gateway reads, and does no harm.
    Name,
    /// A user left.
    Delete,
}

impl Operation {
    /// The word in tables and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::Email => "email",
            Self::Password => "password",
            Self::Name => "name",
            Self::Delete => "delete",
        }
    }

    /// The one of this word.
    pub fn named(word: &str) -> Option<Self> {
        [
            Self::SignUp,
            Self::Email,
            Self::Password,
            Self::Name,
            Self::Delete,
        ]
        .into_iter()
        .find(|one| one.as_str() == word)
    }
}

/// What is read of a request.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    /// The address, lower-case; none where what stands there cannot be one.
    pub email: Option<String>,
    /// The new password.
    pub password: Option<Secret>,
    /// The name.
    pub name: Option<String>,
    /// The token of a mail.
    pub token: Option<Secret>,
}

/// A body nobody can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Reads a body. `Ok(None)`: of a kind the framework does not take, which says so itself.
///
/// # Errors
/// When it is of a kind the framework takes, and we cannot read it: what passed then might make an account nobody looked at.
pub fn read(
    endpoint: Endpoint,
    content_type: &str,
    query: Option<&str>,
    body: &[u8],
) -> Result<Option<Typed>, Unreadable> {
    let kind = content_type.to_ascii_lowercase();
    let fields: Map<String, Value> = if kind.contains("json") {
        // The last of two keys counts, as in JavaScript.
        serde_json::from_slice(body).map_err(|_| Unreadable)?
    } else if kind.contains("application/x-www-form-urlencoded") {
        let pairs = url::form_urlencoded::parse(body.strip_prefix(b"?").unwrap_or(body));
        pairs
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect()
    } else {
        return Ok(None);
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let in_query = |name: &str| {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        pairs
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.into_owned())
            .last()
    };
    let typed = Typed {
        email: text("email").and_then(address),
        password: endpoint
            .password_field()
            .and_then(text)
            .filter(|text| !text.is_empty())
            .map(Secret::new),
        name: text("name").map(str::to_owned),
        token: text("token")
            .map(Secret::new)
            .or_else(|| in_query("token").map(Secret::new)),
    };
    for (_, value) in fields {
        if let Value::String(text) = value {
            drop(Secret::new(text));
        }
    }
    Ok(Some(typed))
}

/// An address as it is stored; none where no account can have it.
fn address(text: &str) -> Option<String> {
    let fits = text.len() <= EMAIL_BYTES_MAX
        && text.contains('@')
        && !text
            .chars()
            .any(|letter| letter.is_whitespace() || letter.is_control());
    fits.then(|| text.to_lowercase())
}

/// What becomes of a request that would make an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// The framework deals with it.
    Pass,
    /// Somebody of the old system is made known here first: the provider, and who. Then the framework deals with it, as with anybody
    /// it knows.
    Adopt(&'static str, Profile),
    /// The address is kept for whom it belongs to.
    Refuse,
    /// It cannot be found out whether the old system knows the address.
    Unavailable,
}

/// Decides it. `known`: whether the address has an account here; `found`: what the old systems said, in their order.
pub fn course(
    endpoint: Endpoint,
    mode: Mode,
    known: bool,
    found: &[(&'static str, LookedUp)],
) -> Course {
    let makes = matches!(endpoint, Endpoint::SignUp | Endpoint::Link);
    let in_doubt = found.iter().any(|(_, found)| found.is_err());
    // Not even who has an account here: the difference would tell.
    if in_doubt && endpoint == Endpoint::SignUp {
        return Course::Unavailable;
    }
    if known {
        return Course::Pass;
    }
    let remote = found.iter().find_map(|(provider, found)| match found {
        Ok(Some(profile)) => Some((*provider, profile)),
        _ => None,
    });
    match (remote, mode) {
        (Some((_, profile)), _) if profile.blocked => match makes {
            true => Course::Refuse,
            false => Course::Pass,
        },
        (Some((provider, profile)), Mode::Trickle | Mode::DualWrite) => {
            Course::Adopt(provider, profile.clone())
        }
        (Some(_), Mode::Open | Mode::Freeze) => Course::Refuse,
        (None, _) if in_doubt && makes => Course::Unavailable,
        (None, _) => Course::Pass,
    }
}

/// When a change that did not arrive is due again, after so many tries; `None`: somebody must look.
pub fn again(tries: u32, now: crate::time::UnixMs) -> Option<crate::time::UnixMs> {
    if tries >= TRIES_MAX {
        return None;
    }
    // Five seconds, then four times as long each time, up to six hours.
    let seconds = 5u64
        .saturating_mul(4u64.saturating_pow(tries))
        .min(6 * 60 * 60);
    Some(now.plus(std::time::Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::dialogue::Unreachable;
    use crate::time::UnixMs;

    const JSON: &str = "application/json";

    fn somebody() -> Profile {
        Profile {
            id: "user_1".into(),
            email: Some("ann@example.com".into()),
            ..Profile::default()
        }
    }

    #[test]
    fn an_address_the_old_system_knows_makes_no_second_account() {
        let found = [("clerk", Ok(Some(somebody())))];
        let none = [("clerk", Ok(None))];
        let of = |mode, known, found: &[(&'static str, LookedUp)]| {
            course(Endpoint::SignUp, mode, known, found)
        };
        for mode in [Mode::Trickle, Mode::DualWrite] {
            assert_eq!(of(mode, false, &found), Course::Adopt("clerk", somebody()));
            assert_eq!(of(mode, false, &none), Course::Pass);
            assert_eq!(of(mode, true, &found), Course::Pass);
        }
        assert_eq!(of(Mode::Open, false, &found), Course::Refuse);
        assert_eq!(of(Mode::Open, false, &none), Course::Pass);
    }

    #[test]
    fn in_an_outage_no_account_is_made_and_mails_still_go_out() {
        let down = [("clerk", Err(Unreachable::Timeout)), ("workos", Ok(None))];
        for known in [false, true] {
            let sign_up = course(Endpoint::SignUp, Mode::Trickle, known, &down);
            assert_eq!(sign_up, Course::Unavailable, "{known}");
            let forgot = course(Endpoint::Forgot, Mode::Trickle, known, &down);
            assert_eq!(forgot, Course::Pass, "{known}");
        }
        let link = |known| course(Endpoint::Link, Mode::Trickle, known, &down);
        assert_eq!(link(false), Course::Unavailable);
        assert_eq!(link(true), Course::Pass);
        let one_knows = [
            ("clerk", Err(Unreachable::Timeout)),
            ("workos", Ok(Some(somebody()))),
        ];
        let adopted = course(Endpoint::Forgot, Mode::Trickle, false, &one_knows);
        assert_eq!(adopted, Course::Adopt("workos", somebody()));
    }

    #[test]
    fn who_is_blocked_there_makes_no_new_account_here() {
        let blocked = Profile {
            blocked: true,
            ..somebody()
        };
        let found = [("clerk", Ok(Some(blocked)))];
        let of = |endpoint| course(endpoint, Mode::Trickle, false, &found);
        assert_eq!(of(Endpoint::SignUp), Course::Refuse);
        assert_eq!(of(Endpoint::Forgot), Course::Pass, "and no mail goes out");
    }

    #[test]
    fn bodies_are_read_in_both_kinds_and_the_last_of_two_keys_counts() {
        let body =
            br#"{"email":"x@y.z","name":"Ann","password":"p\u00e4ss","email":"Ann@Example.com"}"#;
        let typed = read(Endpoint::SignUp, JSON, None, body).unwrap().unwrap();
        assert_eq!(typed.email.as_deref(), Some("ann@example.com"));
        assert_eq!(typed.password, Some(Secret::new("päss")));
        assert_eq!(typed.name.as_deref(), Some("Ann"));
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        let body = b"email=a%40b.c&email=Ann%40example.com&password=p%26q";
        let typed = read(Endpoint::SignUp, form, None, body).unwrap().unwrap();
        assert_eq!(typed.email.as_deref(), Some("ann@example.com"));
        assert_eq!(typed.password, Some(Secret::new("p&q")));
        let body = br#"{"newPassword":"new one"}"#;
        let typed = read(Endpoint::ResetByToken, JSON, Some("token=t1"), body);
        let typed = typed.unwrap().unwrap();
        assert_eq!(typed.token, Some(Secret::new("t1")));
        assert_eq!(typed.password, Some(Secret::new("new one")));
    }

    #[test]
    fn what_cannot_be_read_is_not_waved_through() {
        let of = |kind, body: &[u8]| read(Endpoint::SignUp, kind, None, body);
        assert_eq!(of(JSON, b"{").unwrap_err(), Unreadable);
        assert_eq!(of(JSON, b"[]").unwrap_err(), Unreadable);
        assert_eq!(
            of(JSON, br#"{"email":"a@b.c","name":"\ud800"}"#).unwrap_err(),
            Unreadable
        );
        assert!(of("text/plain", b"{}").unwrap().is_none());
        let none = of(JSON, br#"{"email":{"a":1},"password":1}"#)
            .unwrap()
            .unwrap();
        assert!(none.email.is_none() && none.password.is_none());
        for no_address in ["ann", "a b@c.d", &format!("{}@b.c", "a".repeat(255))] {
            assert!(address(no_address).is_none(), "{no_address:.9}");
        }
    }

    #[test]
    fn tries_grow_rarer_and_end() {
        let now = UnixMs(0);
        let waits: Vec<i64> = (0..TRIES_MAX)
            .map(|tries| again(tries, now).unwrap().0 / 1000)
            .collect();
        assert_eq!(&waits[..4], [5, 20, 80, 320]);
        assert!(waits.iter().all(|wait| *wait <= 6 * 60 * 60));
        assert!(waits.iter().sum::<i64>() > 24 * 60 * 60);
        assert_eq!(again(TRIES_MAX, now), None);
    }

    #[test]
    fn each_mode_looks_at_what_it_needs() {
        let of = |path: &str, mode| Endpoint::of(path).is_some_and(|one| one.concerns(mode));
        assert!(of("/sign-up/email", Mode::Open) && of("/sign-up/email/", Mode::Freeze));
        assert!(of("/sign-in/anonymous", Mode::Freeze) && !of("/sign-in/anonymous", Mode::Trickle));
        assert!(of("/request-password-reset", Mode::Trickle));
        assert!(!of("/request-password-reset", Mode::Open));
        assert!(of("/change-password", Mode::DualWrite) && !of("/change-password", Mode::Trickle));
        assert!(!of("/sign-in/email", Mode::DualWrite));
        for operation in ["sign_up", "email", "password", "name", "delete"] {
            assert_eq!(Operation::named(operation).unwrap().as_str(), operation);
        }
    }
}
