//! Passwords checked there while it runs. This is the consumer API; members of organizations (B2B) are not checked.
//!
//! Written after the Stytch consumer API reference (`/v1/passwords/authenticate`, `/v1/totps/authenticate`, `/v1/totps/recover`,
//! `/v1/users/search`, error references 400, 401, 404, 429); not tried against a project. Experimental.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::migration::dialogue::{Answer, Ask, Dialogue, Unreachable};
use crate::migration::provider::support::{self, Json, Next, factor, key, text};
use crate::migration::provider::{
    Attempt, BuildCheck, Check, Checked, FactorChecked, Fields, Key, KeyKind, Limit, LookedUp,
    Profile,
};
use crate::secret::Secret;
use crate::time::UnixMs;

/// The keys of the live check.
pub(super) const KEYS: &[Key] = &[
    support::CHECK,
    key(
        "project_id",
        "The project: the live check needs it.",
        KeyKind::Text,
    ),
    key(
        "secret",
        "A secret of the project: the live check needs it.",
        KeyKind::Secret,
    ),
    key(
        "api_url",
        "Where the API is. Default: \"https://api.stytch.com\", or \"https://test.stytch.com\" for a test project.",
        KeyKind::Text,
    ),
];

/// Builds the live check from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildCheck> = Some(build);

fn build(fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    if !support::wanted(fields, &["project_id", "secret"], &[])? {
        return Ok(None);
    }
    let project = fields.required("project_id")?.clone();
    let default = match project.expose().starts_with("project-test-") {
        true => "https://test.stytch.com",
        false => "https://api.stytch.com",
    };
    Ok(Some(Box::new(Stytch(Arc::new(Project {
        api: fields.url("api_url", default)?,
        id: project,
        secret: fields.required("secret")?.clone(),
    })))))
}

struct Stytch(Arc<Project>);

struct Project {
    api: Url,
    id: Secret,
    secret: Secret,
}

impl Project {
    fn post(&self, parts: &[&str], body: &[(&str, Json<'_>)]) -> Ask {
        support::post_json(support::below(&self.api, parts), body)
            .basic(self.id.expose(), self.secret.expose())
    }
}

impl Check for Stytch {
    /// Ten wrong passwords lock a user for an hour, where that is switched on. Source: stytch.com/docs/resources/platform/user-locks.
    fn limit(&self) -> Limit {
        Limit {
            most: 8,
            within: Duration::from_secs(60 * 60),
        }
    }

    fn check(&self, attempt: &Attempt) -> Box<dyn Dialogue<Checked>> {
        let Some(email) = attempt
            .email
            .as_ref()
            .filter(|_| support::is_askable(attempt))
        else {
            return support::settled(Checked::Wrong);
        };
        // Without a duration no session is made.
        let first = self.0.post(
            &["v1", "passwords", "authenticate"],
            &[
                ("email", Json::Text(email)),
                ("password", Json::Text(attempt.password.expose())),
            ],
        );
        support::talk(first, |answer, moment| {
            Next::Done(judge(answer, moment.now))
        })
    }

    fn look_up(&self, email: &str) -> Option<Box<dyn Dialogue<Option<LookedUp>>>> {
        let email = email.to_lowercase();
        let values = [Json::Text(&email)];
        let operand = [
            ("filter_name", Json::Text("email_address")),
            ("filter_value", Json::List(&values)),
        ];
        let operands = [Json::Object(&operand)];
        let query = [
            ("operator", Json::Text("AND")),
            ("operands", Json::List(&operands)),
        ];
        let find = self.0.post(
            &["v1", "users", "search"],
            &[("limit", Json::Number(2)), ("query", Json::Object(&query))],
        );
        Some(support::talk(find, move |answer, _| {
            Next::Done(Some(found(answer, &email)))
        }))
    }

    fn check_factor(
        &self,
        source_id: &str,
        pending: Option<&Secret>,
        code: &Secret,
    ) -> Option<Box<dyn Dialogue<FactorChecked>>> {
        // What was kept is whose password it was: the code must be of the same.
        if pending.is_some_and(|id| id.expose() != source_id) {
            return Some(support::settled(FactorChecked::Wrong));
        }
        let code = code.expose().trim();
        let is_totp = code.len() == 6 && code.bytes().all(|digit| digit.is_ascii_digit());
        let (what, name) = match is_totp {
            true => ("authenticate", "totp_code"),
            false => ("recover", "recovery_code"),
        };
        let verify = self.0.post(
            &["v1", "totps", what],
            &[("user_id", Json::Text(source_id)), (name, Json::Text(code))],
        );
        let source_id = source_id.to_owned();
        Some(support::talk(verify, move |answer, _| {
            let (answer, json) = match support::read(answer) {
                Ok(read) => read,
                Err(why) => return factor(FactorChecked::Unavailable(why)),
            };
            factor(match (answer.status, word(&json)) {
                (200, _) if text(&json, "/user_id") == Some(&source_id) => FactorChecked::Right,
                (200, _) => FactorChecked::Wrong,
                (_, word) if is_of_the_keys(word) => {
                    FactorChecked::Unavailable(Unreachable::Unconfigured)
                }
                (429, word) if word != "user_lock_limit_reached" => {
                    FactorChecked::Unavailable(Unreachable::Refused)
                }
                (400..=499, _) => FactorChecked::Wrong,
                _ => FactorChecked::Unavailable(Unreachable::Garbage),
            })
        }))
    }
}

fn word(json: &Value) -> &str {
    text(json, "/error_type").unwrap_or_default()
}

/// Errors about the project and its secret, not about who signs in.
fn is_of_the_keys(word: &str) -> bool {
    matches!(
        word,
        "invalid_project_id_authentication"
            | "invalid_secret_authentication"
            | "invalid_authorization_header"
            | "project_not_found"
            | "invalid_project_id"
            | "project_is_inactive"
            | "endpoint_not_authorized_for_sdk"
            | "consumer_endpoints_not_supported_for_b2b_project"
            | "passwords_not_enabled"
    )
}

fn judge(answer: Result<Answer, Unreachable>, now: UnixMs) -> Checked {
    let (answer, json) = match support::read(answer) {
        Ok(read) => read,
        Err(why) => return Checked::Unavailable(why),
    };
    match (answer.status, word(&json)) {
        (200, _) => match json.get("user").and_then(profile) {
            // Who is signed in is said twice, and must be the same.
            Some(profile) if text(&json, "/user_id") != Some(&profile.id) => {
                Checked::Unavailable(Unreachable::Garbage)
            }
            Some(profile) if profile.blocked => Checked::Blocked("user_not_active"),
            Some(profile) if profile.second_factor => Checked::SecondFactor {
                pending: Some(Secret::new(profile.id.as_str())),
                profile,
            },
            Some(profile) => Checked::Right(profile),
            None => Checked::Unavailable(Unreachable::Garbage),
        },
        (
            _,
            "unauthorized_credentials" | "email_not_found" | "user_not_found" | "invalid_email",
        ) => Checked::Wrong,
        // It was found in a breach, or belongs to an address that was proved in another way since: it is good for nothing there.
        (_, "reset_password") => Checked::NoPassword,
        (_, "no_user_password" | "user_has_no_password" | "password_not_found") => {
            Checked::NoPassword
        }
        (_, "user_lock_limit_reached" | "user_locked") => {
            Checked::Limited(support::retry_after(&answer, now))
        }
        (_, "captcha_required" | "invalid_captcha_token" | "captcha_token_required") => {
            Checked::Unavailable(Unreachable::Challenge)
        }
        (429, _) => Checked::Unavailable(Unreachable::Refused),
        (_, word) if is_of_the_keys(word) => Checked::Unavailable(Unreachable::Unconfigured),
        (401 | 403, _) => Checked::Unavailable(Unreachable::Unconfigured),
        _ => Checked::Unavailable(Unreachable::Garbage),
    }
}

fn found(answer: Result<Answer, Unreachable>, email: &str) -> LookedUp {
    let (answer, json) = support::read(answer)?;
    match answer.status {
        200 => {}
        429 => return Err(Unreachable::Refused),
        401 | 403 => return Err(Unreachable::Unconfigured),
        _ => return Err(Unreachable::Garbage),
    }
    let users = json.get("results").and_then(Value::as_array);
    let users = users.ok_or(Unreachable::Garbage)?;
    let has_address = |user: &&Value| {
        let emails = support::list(user, "/emails").iter();
        emails
            .filter_map(|each| support::email(each, "/email"))
            .any(|each| each == email)
    };
    match users.iter().find(has_address) {
        Some(user) => profile(user).map(Some).ok_or(Unreachable::Garbage),
        None => Ok(None),
    }
}

fn profile(user: &Value) -> Option<Profile> {
    let email = support::list(user, "/emails").first();
    let phone = support::list(user, "/phone_numbers").first();
    let verified = |of: Option<&Value>| of.is_some_and(|each| support::flag(each, "/verified"));
    let (first, last) = (
        text(user, "/name/first_name"),
        text(user, "/name/last_name"),
    );
    let totps = support::list(user, "/totps").iter();
    Some(Profile {
        id: text(user, "/user_id")?.to_owned(),
        email: email.and_then(|email| support::email(email, "/email")),
        email_verified: verified(email),
        name: support::full_name(first, last),
        phone: phone
            .and_then(|each| support::phone(each, "/phone_number"))
            .map(|number| (number, verified(phone))),
        created_at: support::moment(user, "/created_at"),
        blocked: text(user, "/status").is_some_and(|status| status == "deleted")
            || support::flag(user, "/is_locked"),
        second_factor: totps
            .into_iter()
            .any(|totp| support::flag(totp, "/verified")),
        ..Profile::default()
    })
}
