//! Passwords checked there while it runs. The meaning of most error codes is not published, so this is experimental.
//!
//! Written after the Descope API reference (`/v1/auth/password/signin`, `/v1/auth/totp/verify`, `/v1/auth/logout`, `/v2/mgmt/user/search`);
//! and the error codes its SDKs name; not tried against a project.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use crate::migration::dialogue::{Answer, Ask, Dialogue, Unreachable};
use crate::migration::provider::support::{self, Json, Next, ending, factor, key, text};
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
        "management_key",
        "A management key: users are looked up with it. Default: nobody is.",
        KeyKind::Secret,
    ),
    key(
        "api_url",
        "Where the API is. Default: \"https://api.descope.com\".",
        KeyKind::Text,
    ),
    support::IDENTIFY_BY,
];

/// Builds the live check from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildCheck> = Some(build);

fn build(fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    if !support::wanted(fields, &["project_id"], &["management_key"])? {
        return Ok(None);
    }
    Ok(Some(Box::new(Descope(Arc::new(Project {
        api: fields.url("api_url", "https://api.descope.com")?,
        id: fields.required("project_id")?.clone(),
        management: fields.text("management_key").cloned(),
        identifier: support::Identifier::of(fields)?,
    })))))
}

struct Descope(Arc<Project>);

struct Project {
    api: Url,
    id: Secret,
    management: Option<Secret>,
    identifier: support::Identifier,
}

impl Project {
    /// The project, and with it a token or a key.
    fn with(&self, ask: Ask, more: Option<&str>) -> Ask {
        match more {
            Some(more) => ask.bearer(&Zeroizing::new(format!("{}:{more}", self.id.expose()))),
            None => ask.bearer(self.id.expose()),
        }
    }

    fn post(&self, parts: &[&str], body: &[(&str, Json<'_>)]) -> Ask {
        self.with(
            support::post_json(support::below(&self.api, parts), body),
            None,
        )
    }

    fn log_out(&self, refresh: &str) -> Ask {
        let url = support::below(&self.api, &["v1", "auth", "logout"]);
        self.with(support::with_json(Method::POST, url, &[]), Some(refresh))
    }

    fn judge(
        &self,
        answer: Result<Answer, Unreachable>,
        login: &str,
        now: UnixMs,
    ) -> Next<Checked> {
        let (answer, json) = match support::read(answer) {
            Ok(read) => read,
            Err(why) => return support::unavailable(why),
        };
        if answer.status != 200 {
            return Next::Done(refused(&answer, &json, now));
        }
        let claims = text(&json, "/sessionJwt").and_then(support::claims);
        let subject = claims.as_ref().and_then(|claims| text(claims, "/sub"));
        let profile = json.get("user").and_then(profile);
        let checked = match (profile, subject) {
            // Who is signed in is said by the token; what is known of them stands beside it.
            (Some(profile), Some(subject)) if profile.id != subject => {
                Checked::Unavailable(Unreachable::Garbage)
            }
            (Some(profile), Some(_)) if profile.blocked => Checked::Blocked("user_disabled"),
            (Some(profile), Some(_)) if profile.second_factor => Checked::SecondFactor {
                profile,
                // Codes are checked by what people sign in with.
                pending: Some(Secret::new(login)),
            },
            (Some(profile), Some(_)) => Checked::Right(profile),
            _ => Checked::Unavailable(Unreachable::Garbage),
        };
        match text(&json, "/refreshJwt") {
            Some(refresh) => ending(checked, self.log_out(refresh), support::is_gone),
            // In a cookie, where the project says so: whose name and domain are not ours to guess.
            None => Next::Done(support::session_left(checked)),
        }
    }
}

impl Check for Descope {
    /// Projects lock an account after a number of wrong passwords that they choose, three at least.
    fn limit(&self) -> Limit {
        Limit {
            most: 3,
            within: Duration::from_secs(30 * 60),
        }
    }

    fn check(&self, attempt: &Attempt) -> Box<dyn Dialogue<Checked>> {
        let project = Arc::clone(&self.0);
        let Some(login) = project.identifier.choose(attempt) else {
            return support::settled(Checked::Wrong);
        };
        if !support::is_askable(attempt) {
            return support::settled(Checked::Wrong);
        }
        let first = project.post(
            &["v1", "auth", "password", "signin"],
            &[
                ("loginId", Json::Text(&login)),
                ("password", Json::Text(attempt.password.expose())),
            ],
        );
        support::talk(first, move |answer, moment| {
            project.judge(answer, &login, moment.now)
        })
    }

    fn look_up(&self, email: &str) -> Option<Box<dyn Dialogue<Option<LookedUp>>>> {
        let key = self.0.management.as_ref()?;
        let email = email.to_lowercase();
        let url = support::below(&self.0.api, &["v2", "mgmt", "user", "search"]);
        let emails = [Json::Text(&email)];
        let body = [("emails", Json::List(&emails)), ("limit", Json::Number(2))];
        let find = self
            .0
            .with(support::post_json(url, &body), Some(key.expose()));
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
        let body = [
            ("loginId", Json::Text(pending?.expose())),
            ("code", Json::Text(code.expose().trim())),
        ];
        let verify = self.0.post(&["v1", "auth", "totp", "verify"], &body);
        let (project, source_id) = (Arc::clone(&self.0), source_id.to_owned());
        Some(support::talk(verify, move |answer, _| {
            let (answer, json) = match support::read(answer) {
                Ok(read) => read,
                Err(why) => return factor(FactorChecked::Unavailable(why)),
            };
            if answer.status != 200 {
                return factor(match (answer.status, text(&json, "/errorCode")) {
                    (429, _) => FactorChecked::Unavailable(Unreachable::Refused),
                    (_, Some(code)) if is_of_auth(code) => FactorChecked::Wrong,
                    (400..=404, _) => FactorChecked::Unavailable(Unreachable::Unconfigured),
                    _ => FactorChecked::Unavailable(Unreachable::Garbage),
                });
            }
            let claims = text(&json, "/sessionJwt").and_then(support::claims);
            let whose = claims.as_ref().and_then(|claims| text(claims, "/sub"));
            let found = support::theirs(whose, &source_id);
            match text(&json, "/refreshJwt") {
                Some(refresh) => support::factor_ending(project.log_out(refresh), found),
                None => factor(found),
            }
        }))
    }
}

/// Codes of the service that checks credentials, and of users that are not there; the others are about the request and its keys.
fn is_of_auth(code: &str) -> bool {
    code.starts_with("E06") || matches!(code, "E112102" | "E111102")
}

fn refused(answer: &Answer, json: &Value, now: UnixMs) -> Checked {
    let code = text(json, "/errorCode").unwrap_or_default();
    let said = text(json, "/errorDescription")
        .unwrap_or_default()
        .to_lowercase();
    match (answer.status, code) {
        // Of the project or of our address, not of the account.
        (_, "E130429") => Checked::Unavailable(Unreachable::Refused),
        (429, code) if is_of_auth(code) => Checked::Limited(support::retry_after(answer, now)),
        (429, _) => Checked::Unavailable(Unreachable::Refused),
        (_, code) if is_of_auth(code) && said.contains("lock") => {
            Checked::Limited(support::retry_after(answer, now))
        }
        (_, code) if is_of_auth(code) && said.contains("disabled") => {
            Checked::Blocked("user_disabled")
        }
        (_, code) if is_of_auth(code) && said.contains("expired") => Checked::NoPassword,
        (400 | 401 | 404, code) if is_of_auth(code) => Checked::Wrong,
        (403, code) if is_of_auth(code) => Checked::Blocked("denied_there"),
        // The form of the name or the password: no account could have it.
        (400, "E011003" | "E011004") => Checked::Wrong,
        (400..=404, _) if !code.is_empty() => Checked::Unavailable(Unreachable::Unconfigured),
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
    let users = json.get("users").and_then(Value::as_array);
    let users = users.ok_or(Unreachable::Garbage)?;
    let user = users
        .iter()
        .find(|user| support::email(user, "/email").as_deref() == Some(email));
    match user {
        Some(user) => profile(user).map(Some).ok_or(Unreachable::Garbage),
        None => Ok(None),
    }
}

fn profile(user: &Value) -> Option<Profile> {
    let (first, last) = (text(user, "/givenName"), text(user, "/familyName"));
    let name = text(user, "/name").map(|name| name.trim().to_owned());
    let phone_verified = support::flag(user, "/verifiedPhone");
    let seconds = user.get("createdTime").and_then(Value::as_i64);
    Some(Profile {
        id: text(user, "/userId")?.to_owned(),
        email: support::email(user, "/email"),
        email_verified: support::flag(user, "/verifiedEmail"),
        name: name.unwrap_or_else(|| support::full_name(first, last)),
        image: text(user, "/picture").map(str::to_owned),
        username: None,
        phone: support::phone(user, "/phone").map(|phone| (phone, phone_verified)),
        created_at: seconds.map(|seconds| UnixMs(seconds.saturating_mul(1000))),
        blocked: text(user, "/status") == Some("disabled"),
        second_factor: support::flag(user, "/TOTP"),
    })
}
