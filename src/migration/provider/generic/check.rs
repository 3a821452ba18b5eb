//! Any system of your own: it is told what was typed, and says whose that is.
//!
//! What it is asked and what its answers mean is a protocol of ours, bent by a few keys where a system is there already; docs/migration
//! describes it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::migration::dialogue::{Answer, Ask, Dialogue, Unreachable};
use crate::migration::provider::native;
use crate::migration::provider::support::{
    Json, Next, client, email, flag, is_success, moment, phone, post_json, read, retry_after,
    settled, talk, text,
};
use crate::migration::provider::{
    Attempt, BuildCheck, Check, Checked, FactorChecked, Fields, Key, KeyKind, Limit, LookedUp,
    Mirror, Mirrored, Profile,
};
use crate::secret::Secret;

/// Tries of one account a minute, where nothing else is said.
const PER_MINUTE: u64 = 8;

/// Longest code passed on, in bytes.
const CODE_BYTES_MAX: usize = 64;

const fn texts(name: &'static str, about: &'static str) -> Key {
    Key {
        name,
        about,
        kind: KeyKind::Text,
    }
}

/// The keys of the live check.
pub(super) const KEYS: &[Key] = &[
    texts(
        "check_url",
        "where passwords are checked: https, POST of JSON with `email`, `password` and what else is known",
    ),
    texts(
        "look_up_url",
        "where users are looked up by `email`. Default: they are not",
    ),
    texts(
        "factor_url",
        "where codes of a second factor are checked: `id`, `code`, `pending`. Default: they are not",
    ),
    texts(
        "mirror_url",
        "where changes are written in the mode `dual_write`: `operation` and what changed. Default: nowhere",
    ),
    Key {
        name: "token",
        about: "sent as `Authorization: Bearer` to all of them, so that nobody else can try passwords there",
        kind: KeyKind::Secret,
    },
    Key {
        name: "right_status",
        about: "statuses of a right password. Default: [\"200\"]",
        kind: KeyKind::Texts,
    },
    Key {
        name: "wrong_status",
        about: "statuses of a wrong password or an unknown user. Default: [\"401\", \"404\"]",
        kind: KeyKind::Texts,
    },
    texts(
        "right_path",
        "where in the answer stands whether the password is right, as `data.ok`. Default: the status alone says it",
    ),
    texts(
        "right_value",
        "what stands there when it is right. Default: \"true\"",
    ),
    texts(
        "user_path",
        "where in the answer the user stands, as `data.user`. Default: the answer is the user",
    ),
    texts(
        "id_path",
        "where in the user the id stands. Default: \"id\"",
    ),
    texts("email_path", "where the address stands. Default: \"email\""),
    texts(
        "email_verified_path",
        "where stands whether it is verified. Default: \"email_verified\"",
    ),
    texts("name_path", "where the name stands. Default: \"name\""),
    texts(
        "second_factor_path",
        "where stands whether a second factor must follow. Default: \"second_factor\"",
    ),
    texts(
        "blocked_path",
        "where stands whether the account must not get in. Default: \"blocked\"",
    ),
    Key {
        name: "per_minute",
        about: "tries of one account a minute. Default: 8",
        kind: KeyKind::Number,
    },
    Key {
        name: "per_second",
        about: "requests a second, of everybody together. Default: 30",
        kind: KeyKind::Number,
    },
];

/// Builds the live check from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildCheck> = Some(build);

fn build(fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    fields.required("check_url")?;
    let optional = |key: &str| match fields.text(key) {
        Some(_) => fields.url(key, "").map(Some),
        None => Ok(None),
    };
    let path = |key: &str, default: &str| pointer(fields.text(key).map_or(default, Secret::expose));
    let statuses = |key: &str, default: &[u16]| {
        match fields.list(key) {
        list if list.is_empty() => Ok(default.to_vec()),
        list => list
            .iter()
            .map(|status| {
                let status = status.expose().parse().ok();
                status
                    .filter(|status| (200..500).contains(status) && *status != 429)
                    .ok_or_else(|| {
                        format!("`{key}` holds what is no status from 200 to 499, or 429, which means too many")
                    })
            })
            .collect(),
    }
    };
    let right = statuses("right_status", &[200])?;
    let wrong = statuses("wrong_status", &[401, 404])?;
    if right.iter().any(|status| wrong.contains(status)) {
        return Err("`right_status` and `wrong_status` share a status".to_owned());
    }
    let number = |key: &str, default: u64| match fields.number(key, default) {
        number @ 1..=1_000 => Ok(u32::try_from(number).unwrap_or(1)),
        _ => Err(format!("`{key}` is a number from 1 to 1000")),
    };
    Ok(Some(Box::new(Generic(Arc::new(Settings {
        check: fields.url("check_url", "")?,
        look_up: optional("look_up_url")?,
        factor: optional("factor_url")?,
        mirror: optional("mirror_url")?,
        token: fields.text("token").cloned(),
        right,
        wrong,
        right_path: fields.text("right_path").map(|path| pointer(path.expose())),
        right_value: fields
            .text("right_value")
            .map_or("true", Secret::expose)
            .to_owned(),
        user: path("user_path", ""),
        id: path("id_path", "id"),
        email: path("email_path", "email"),
        email_verified: path("email_verified_path", "email_verified"),
        name: path("name_path", "name"),
        second_factor: path("second_factor_path", "second_factor"),
        blocked: path("blocked_path", "blocked"),
        per_minute: number("per_minute", PER_MINUTE)?,
        per_second: number("per_second", 30)?,
    })))))
}

/// `data.user` as a JSON pointer.
fn pointer(path: &str) -> String {
    path.split('.')
        .filter(|part| !part.is_empty())
        .map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1")))
        .collect()
}

struct Generic(Arc<Settings>);

struct Settings {
    check: Url,
    look_up: Option<Url>,
    factor: Option<Url>,
    mirror: Option<Url>,
    token: Option<Secret>,
    right: Vec<u16>,
    wrong: Vec<u16>,
    right_path: Option<String>,
    right_value: String,
    user: String,
    id: String,
    email: String,
    email_verified: String,
    name: String,
    second_factor: String,
    blocked: String,
    per_minute: u32,
    per_second: u32,
}

impl Settings {
    fn post(&self, url: &Url, pairs: &[(&str, Json<'_>)]) -> Ask {
        let ask = post_json(url.clone(), pairs);
        match &self.token {
            Some(token) => ask.bearer(token.expose()),
            None => ask,
        }
    }

    /// Whoever the answer names. An id may be a number; it is kept as text.
    fn profile(&self, answer: &Value) -> Option<Profile> {
        let user = answer.pointer(&self.user)?;
        let id = match user.pointer(&self.id)? {
            Value::String(id) if !id.is_empty() => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => return None,
        };
        Some(Profile {
            id,
            email: email(user, &self.email),
            email_verified: flag(user, &self.email_verified),
            name: text(user, &self.name).unwrap_or_default().to_owned(),
            image: text(user, "/image").map(str::to_owned),
            username: text(user, "/username").map(str::to_lowercase),
            phone: phone(user, "/phone").map(|number| (number, flag(user, "/phone_verified"))),
            created_at: moment(user, "/created_at"),
            blocked: flag(user, &self.blocked),
            second_factor: flag(user, &self.second_factor),
        })
    }

    fn checked(&self, status: u16, json: &Value, wait: Option<Duration>) -> Checked {
        if self.right.contains(&status) {
            if let Some(path) = &self.right_path {
                let says = match json.pointer(path) {
                    Some(Value::String(text)) => text.clone(),
                    Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
                    // What should say it is not there: that is no answer.
                    _ => return Checked::Unavailable(Unreachable::Garbage),
                };
                if says != self.right_value {
                    return Checked::Wrong;
                }
            }
            return match self.profile(json) {
                None => Checked::Unavailable(Unreachable::Garbage),
                Some(profile) if profile.blocked => Checked::Blocked("blocked"),
                Some(profile) if profile.second_factor => Checked::SecondFactor {
                    profile,
                    pending: text(json, "/pending").map(Secret::new),
                },
                Some(profile) => Checked::Right(profile),
            };
        }
        match status {
            status if self.wrong.contains(&status) => Checked::Wrong,
            403 => Checked::Blocked("blocked"),
            409 => Checked::NoPassword,
            429 => Checked::Limited(wait),
            _ => Checked::Unavailable(Unreachable::Garbage),
        }
    }
}

impl Check for Generic {
    fn limit(&self) -> Limit {
        Limit {
            most: self.0.per_minute,
            within: Duration::from_secs(60),
        }
    }

    fn overall(&self) -> Limit {
        Limit {
            most: self.0.per_second,
            within: Duration::from_secs(1),
        }
    }

    fn check(&self, attempt: &Attempt) -> Box<dyn Dialogue<Checked>> {
        if attempt.password.expose().is_empty() {
            return settled(Checked::Wrong);
        }
        let ip = client(attempt.client);
        let mut pairs = vec![
            ("password", Json::Text(attempt.password.expose())),
            ("ip_address", Json::Text(&ip)),
            ("user_agent", Json::Text(&attempt.user_agent)),
        ];
        let known = [
            ("email", &attempt.email),
            ("username", &attempt.username),
            ("phone", &attempt.phone),
            ("id", &attempt.source_id),
        ];
        for (name, value) in known {
            pairs.extend(value.as_deref().map(|value| (name, Json::Text(value))));
        }
        let settings = Arc::clone(&self.0);
        talk(self.0.post(&self.0.check, &pairs), move |answer, moment| {
            let wait = waits(&answer, moment.now);
            Next::Done(match read(answer) {
                Ok((answer, json)) => settings.checked(answer.status, &json, wait),
                Err(why) => Checked::Unavailable(why),
            })
        })
    }

    fn look_up(&self, email: &str) -> Option<Box<dyn Dialogue<Option<LookedUp>>>> {
        let url = self.0.look_up.as_ref()?;
        let settings = Arc::clone(&self.0);
        let first = self.0.post(url, &[("email", Json::Text(email))]);
        let email = email.to_owned();
        Some(talk(first, move |answer, _| {
            let found = read(answer).and_then(|(answer, json)| match answer.status {
                200 => match settings.profile(&json) {
                    // Somebody else was named.
                    Some(profile) if profile.email.as_deref().is_some_and(|is| is != email) => {
                        Err(Unreachable::Garbage)
                    }
                    Some(profile) => Ok(Some(profile)),
                    None => Err(Unreachable::Garbage),
                },
                404 => Ok(None),
                401 | 403 | 429 => Err(Unreachable::Refused),
                _ => Err(Unreachable::Garbage),
            });
            Next::Done(Some(found))
        }))
    }

    fn check_factor(
        &self,
        source_id: &str,
        pending: Option<&Secret>,
        code: &Secret,
    ) -> Option<Box<dyn Dialogue<FactorChecked>>> {
        let url = self.0.factor.as_ref()?;
        let code = code.expose().trim();
        if code.is_empty() || code.len() > CODE_BYTES_MAX {
            return Some(settled(FactorChecked::Wrong));
        }
        let mut pairs = vec![("id", Json::Text(source_id)), ("code", Json::Text(code))];
        pairs.extend(pending.map(|pending| ("pending", Json::Text(pending.expose()))));
        Some(talk(self.0.post(url, &pairs), |answer, _| {
            Next::Done(match read(answer) {
                Ok((answer, _)) => match answer.status {
                    200 | 204 => FactorChecked::Right,
                    401 | 404 | 422 => FactorChecked::Wrong,
                    403 | 429 => FactorChecked::Unavailable(Unreachable::Refused),
                    _ => FactorChecked::Unavailable(Unreachable::Garbage),
                },
                Err(why) => FactorChecked::Unavailable(why),
            })
        }))
    }

    fn mirror(&self, what: &Mirror) -> Option<Box<dyn Dialogue<Option<Mirrored>>>> {
        let url = self.0.mirror.as_ref()?;
        let hash;
        let (operation, id, pairs) = match what {
            Mirror::SignUp { profile, password } => {
                let mut pairs = vec![
                    ("local_id", Json::Text(&profile.id)),
                    ("name", Json::Text(&profile.name)),
                    ("email_verified", Json::Flag(profile.email_verified)),
                ];
                let email = profile.email.as_deref();
                pairs.extend(email.map(|email| ("email", Json::Text(email))));
                let password = password.as_ref();
                pairs.extend(password.map(|text| ("password", Json::Text(text.expose()))));
                ("sign_up", None, pairs)
            }
            Mirror::Email {
                id,
                email,
                verified,
            } => {
                let pairs = vec![
                    ("email", Json::Text(email)),
                    ("email_verified", Json::Flag(*verified)),
                ];
                ("email", Some(id), pairs)
            }
            Mirror::Password { id, password } => {
                let pairs = vec![("password", Json::Text(password.expose()))];
                ("password", Some(id), pairs)
            }
            Mirror::Hash { id, native } => {
                hash = native::phc(native)?;
                let pairs = vec![("password_hash", Json::Text(hash.expose()))];
                ("password", Some(id), pairs)
            }
            Mirror::Name { id, name } => ("name", Some(id), vec![("name", Json::Text(name))]),
            Mirror::Delete { id } => ("delete", Some(id), Vec::new()),
        };
        let mut all = vec![("operation", Json::Text(operation))];
        all.extend(id.map(|id| ("id", Json::Text(id))));
        all.extend(pairs);
        let (first, settings, id) = (self.0.post(url, &all), Arc::clone(&self.0), id.cloned());
        Some(talk(first, move |answer, _| {
            let done = read(answer).and_then(|(answer, json)| match answer.status {
                status if is_success(status) => match id {
                    Some(id) => Ok(Some(id)),
                    // A new one is of no use to anybody without its id.
                    None => settings
                        .profile(&json)
                        .map(|profile| Some(profile.id))
                        .ok_or(Unreachable::Garbage),
                },
                404 if id.is_some() => Ok(id),
                401 | 403 | 429 => Err(Unreachable::Refused),
                _ => Err(Unreachable::Garbage),
            });
            Next::Done(Some(done))
        }))
    }
}

fn waits(answer: &Result<Answer, Unreachable>, now: crate::time::UnixMs) -> Option<Duration> {
    retry_after(answer.as_ref().ok()?, now)
}
