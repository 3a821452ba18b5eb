//! Passwords checked there while it runs. Experimental.
//!
//! Written after the SuperTokens Core Driver Interface (`/recipe/signin`, `/recipe/totp/device/list`, `/recipe/totp/verify`,
//! `/users/by-accountinfo`); not tried against a core.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::migration::dialogue::{Answer, Ask, Dialogue, Unreachable};
use crate::migration::provider::support::{self, Json, Next, ask, factor, key, text};
use crate::migration::provider::{
    Attempt, BuildCheck, Check, Checked, FactorChecked, Fields, Key, KeyKind, Limit, LookedUp,
    Profile,
};
use crate::secret::Secret;

/// The keys of the live check.
pub(super) const KEYS: &[Key] = &[
    support::CHECK,
    key(
        "core_url",
        "The core: the live check needs it.",
        KeyKind::Text,
    ),
    key(
        "core_api_key",
        "Its API key, where it has one.",
        KeyKind::Secret,
    ),
    key(
        "tenant_id",
        "The tenant. Default: \"public\".",
        KeyKind::Text,
    ),
    key(
        "app_id",
        "The app, where the core serves several. Default: \"public\".",
        KeyKind::Text,
    ),
];

/// Builds the live check from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildCheck> = Some(build);

fn build(fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    if !support::wanted(fields, &["core_url"], &["core_api_key"])? {
        return Ok(None);
    }
    let named = |key: &str| fields.text(key).map(|text| text.expose().to_owned());
    let named = |key: &str| named(key).filter(|name| name != "public");
    Ok(Some(Box::new(SuperTokens(Arc::new(Core {
        url: fields.url("core_url", "")?,
        key: fields.text("core_api_key").cloned(),
        app: named("app_id").map(|app| format!("appid-{app}")),
        tenant: named("tenant_id"),
    })))))
}

struct SuperTokens(Arc<Core>);

struct Core {
    url: Url,
    key: Option<Secret>,
    app: Option<String>,
    tenant: Option<String>,
}

impl Core {
    fn at(&self, parts: &[&str]) -> Url {
        let mut all: Vec<&str> = self.app.as_deref().into_iter().collect();
        all.extend(self.tenant.as_deref());
        all.extend_from_slice(parts);
        support::below(&self.url, &all)
    }

    fn open(&self, ask: Ask, recipe: &str) -> Ask {
        let ask = ask.header("rid", recipe);
        match &self.key {
            Some(key) => ask.secret_header("api-key", key.expose()),
            None => ask,
        }
    }

    fn judge(self: Arc<Self>, answer: Result<Answer, Unreachable>) -> Next<Checked> {
        let json = match read(answer) {
            Ok(json) => json,
            Err(why) => return support::unavailable(why),
        };
        let profile = match text(&json, "/status") {
            Some("OK") => json.get("user").and_then(profile),
            Some("WRONG_CREDENTIALS_ERROR") => return Next::Done(Checked::Wrong),
            _ => None,
        };
        let Some(mut profile) = profile else {
            return support::unavailable(Unreachable::Garbage);
        };
        // The core makes no session, and the second factor is the SDK's affair: only the list of devices tells of one.
        let url = self.at(&["recipe", "totp", "device", "list"]);
        let url = support::with_query(url, &[("userId", &profile.id)]);
        ask(self.open(support::get(url), "totp"), move |answer, _| {
            // 402: the feature is not licensed; 404: the core is older than it. Nobody has a device then.
            if let Ok(answer) = &answer
                && matches!(answer.status, 402 | 404)
            {
                return Next::Done(Checked::Right(profile));
            }
            let json = match read(answer) {
                Ok(json) => json,
                Err(why) => return support::unavailable(why),
            };
            let devices = support::list(&json, "/devices").iter();
            profile.second_factor = devices
                .into_iter()
                .any(|device| support::flag(device, "/verified"));
            Next::Done(match (text(&json, "/status"), profile.second_factor) {
                (Some("OK"), true) => Checked::SecondFactor {
                    pending: Some(Secret::new(profile.id.as_str())),
                    profile,
                },
                (Some("OK" | "TOTP_NOT_ENABLED_ERROR" | "UNKNOWN_USER_ID_ERROR"), false) => {
                    Checked::Right(profile)
                }
                _ => Checked::Unavailable(Unreachable::Garbage),
            })
        })
    }
}

impl Check for SuperTokens {
    /// The core locks nobody; a managed one has a limit for the whole app.
    fn limit(&self) -> Limit {
        Limit {
            most: 10,
            within: Duration::from_secs(60),
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
        let body = [
            ("email", Json::Text(email)),
            ("password", Json::Text(attempt.password.expose())),
        ];
        let core = Arc::clone(&self.0);
        let first = support::post_json(core.at(&["recipe", "signin"]), &body);
        support::talk(core.open(first, "emailpassword"), move |answer, _| {
            core.judge(answer)
        })
    }

    fn look_up(&self, email: &str) -> Option<Box<dyn Dialogue<Option<LookedUp>>>> {
        let email = email.to_lowercase();
        let url = self.0.at(&["users", "by-accountinfo"]);
        let pairs = [("email", email.as_str()), ("doUnionOfAccountInfo", "false")];
        let find = support::get(support::with_query(url, &pairs));
        Some(support::talk(
            self.0.open(find, "emailpassword"),
            move |answer, _| {
                let found = read(answer).and_then(|json| {
                    let users = json.get("users").and_then(Value::as_array);
                    let users = users.ok_or(Unreachable::Garbage)?.iter();
                    let profiles = users.filter_map(profile);
                    let mut with_address =
                        profiles.filter(|profile| profile.email.as_deref() == Some(&email));
                    Ok(with_address.next())
                });
                Next::Done(Some(found))
            },
        ))
    }

    fn check_factor(
        &self,
        source_id: &str,
        pending: Option<&Secret>,
        code: &Secret,
    ) -> Option<Box<dyn Dialogue<FactorChecked>>> {
        // What was kept is whose password it was: the code must be of the same.
        let id = pending.map_or(source_id, Secret::expose);
        if id != source_id {
            return Some(support::settled(FactorChecked::Wrong));
        }
        let body = [
            ("userId", Json::Text(id)),
            ("totp", Json::Text(code.expose().trim())),
            ("allowUnverifiedDevices", Json::Flag(false)),
        ];
        let url = self.0.at(&["recipe", "totp", "verify"]);
        let verify = self.0.open(support::post_json(url, &body), "totp");
        Some(support::talk(verify, |answer, _| {
            let json = match read(answer) {
                Ok(json) => json,
                Err(why) => return factor(FactorChecked::Unavailable(why)),
            };
            factor(match text(&json, "/status") {
                Some("OK") => FactorChecked::Right,
                Some(
                    "INVALID_TOTP_ERROR"
                    | "LIMIT_REACHED_ERROR"
                    | "TOTP_NOT_ENABLED_ERROR"
                    | "UNKNOWN_USER_ID_ERROR",
                ) => FactorChecked::Wrong,
                _ => FactorChecked::Unavailable(Unreachable::Garbage),
            })
        }))
    }
}

/// What the core answers: everything it understands is a 200 with a status in words.
fn read(answer: Result<Answer, Unreachable>) -> Result<Value, Unreachable> {
    let answer = answer?;
    if let Some(outage) = support::outage(answer.status) {
        return Err(outage);
    }
    match answer.status {
        200 => answer.json().ok_or(Unreachable::Garbage),
        429 => Err(Unreachable::Refused),
        401..=404 => Err(Unreachable::Unconfigured),
        _ => Err(Unreachable::Garbage),
    }
}

/// A user: one address each in cores before account linking, lists of them and of ways to sign in since.
fn profile(user: &Value) -> Option<Profile> {
    let method = support::list(user, "/loginMethods")
        .iter()
        .find(|method| text(method, "/recipeId") == Some("emailpassword"));
    let email = method
        .and_then(|method| support::email(method, "/email"))
        .or_else(|| support::email(user, "/email"))
        .or_else(|| support::email(user, "/emails/0"));
    Some(Profile {
        id: text(user, "/id")?.to_owned(),
        email,
        email_verified: method.is_some_and(|method| support::flag(method, "/verified")),
        phone: support::phone(user, "/phoneNumbers/0").map(|phone| (phone, true)),
        created_at: support::moment(user, "/timeJoined"),
        ..Profile::default()
    })
}
