//! Clerk's Backend API: passwords and second factors checked, users looked up, changes mirrored.
//!
//! Source: the API's OpenAPI description, `@clerk/backend`; not tried against an instance. Checking a password makes no session there.
//! Its answer names nobody and says nothing of a second factor, so the user is read too.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use url::Url;

use crate::migration::dialogue::{Answer, Ask, Dialogue, Unreachable};
use crate::migration::provider::native;
use crate::migration::provider::support::{
    Json, Next, ask, below, get, is_success, list, mirrored, phone, post_json, read, request,
    settled, talk, text, wanted, with_json, with_query,
};
use crate::migration::provider::{
    Attempt, BuildCheck, Check, Checked, FactorChecked, Fields, Key, KeyKind, Limit, LookedUp,
    Mirror, Mirrored, Profile,
};
use crate::secret::Secret;
use crate::time::UnixMs;

/// Clerk's own address.
const API: &str = "https://api.clerk.com";

/// Tries of one account a minute. Clerk locks an account after a hundred wrong ones; nobody is locked out there through us.
const PER_MINUTE: u32 = 10;

/// Longest code passed on, in bytes. Backup codes have eight letters.
const CODE_BYTES_MAX: usize = 64;

/// The keys of the live check.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "secret_key",
        about: "the instance's secret key, `sk_live_…`. With it passwords are checked and users looked up at Clerk",
        kind: KeyKind::Secret,
    },
    Key {
        name: "api_url",
        about: "where the Backend API is. Default: \"https://api.clerk.com\"",
        kind: KeyKind::Text,
    },
    Key {
        name: "check",
        about: "whether passwords are checked there. Default: whether `secret_key` is written",
        kind: KeyKind::Flag,
    },
];

/// Builds the live check from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildCheck> = Some(build);

fn build(fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    if !wanted(fields, &["secret_key"], &[])? {
        return Ok(None);
    }
    Ok(Some(Box::new(Clerk(Arc::new(Api {
        base: fields.url("api_url", API)?,
        key: fields.required("secret_key")?.clone(),
    })))))
}

struct Clerk(Arc<Api>);

struct Api {
    base: Url,
    key: Secret,
}

impl Api {
    fn at(&self, parts: &[&str]) -> Url {
        let all: Vec<&str> = ["v1"].iter().chain(parts).copied().collect();
        below(&self.base, &all)
    }

    fn get(&self, url: Url) -> Ask {
        get(url).bearer(self.key.expose())
    }

    fn send(&self, method: Method, url: Url, pairs: &[(&str, Json<'_>)]) -> Ask {
        with_json(method, url, pairs).bearer(self.key.expose())
    }

    fn user(&self, id: &str) -> Ask {
        self.get(self.at(&["users", id]))
    }

    /// Users by something they sign in with. More than one cannot be meant, and two show that.
    fn users(&self, by: &str, value: &str) -> Ask {
        let pairs = [(by, value), ("limit", "2")];
        self.get(with_query(self.at(&["users"]), &pairs))
    }
}

impl Check for Clerk {
    fn limit(&self) -> Limit {
        Limit {
            most: PER_MINUTE,
            within: Duration::from_secs(60),
        }
    }

    fn overall(&self) -> Limit {
        // Four fifths of what Clerk allows: a thousand for a live instance, a hundred for one in development.
        let most = match self.0.key.expose().starts_with("sk_test_") {
            true => 80,
            false => 800,
        };
        Limit {
            most,
            within: Duration::from_secs(10),
        }
    }

    fn check(&self, attempt: &Attempt) -> Box<dyn Dialogue<Checked>> {
        if attempt.password.expose().is_empty() {
            return settled(Checked::Wrong);
        }
        let api = Arc::clone(&self.0);
        let password = attempt.password.clone();
        if let Some(id) = &attempt.source_id {
            let id = id.clone();
            let first = verify_ask(&api, &id, &password);
            return talk(first, move |answer, _| {
                verified(answer, || {
                    // Who that is, and whether a second factor must follow, stands with the user.
                    ask(api.user(&id), move |answer, _| {
                        Next::Done(match user(answer) {
                            Ok(Some(user)) if text(&user, "/id") == Some(&id) => admitted(&user),
                            Ok(Some(_)) => Checked::Unavailable(Unreachable::Garbage),
                            Ok(None) => Checked::Wrong,
                            Err(why) => Checked::Unavailable(why),
                        })
                    })
                })
            });
        }
        let by = [
            ("email_address", &attempt.email),
            ("username", &attempt.username),
            ("phone_number", &attempt.phone),
        ];
        let Some((by, Some(value))) = by.into_iter().find(|(_, value)| value.is_some()) else {
            return settled(Checked::Wrong);
        };
        let (value, first) = (value.clone(), self.0.users(by, value));
        talk(first, move |answer, _| {
            let user = match one(answer, by, &value) {
                Ok(Some(user)) => user,
                Ok(None) => return Next::Done(Checked::Wrong),
                Err(why) => return Next::Done(Checked::Unavailable(why)),
            };
            if user.pointer("/password_enabled") == Some(&Value::Bool(false)) {
                return Next::Done(Checked::NoPassword);
            }
            let Some(id) = text(&user, "/id") else {
                return Next::Done(Checked::Unavailable(Unreachable::Garbage));
            };
            let second = verify_ask(&api, id, &password);
            ask(second, move |answer, _| {
                verified(answer, || Next::Done(admitted(&user)))
            })
        })
    }

    fn look_up(&self, email: &str) -> Option<Box<dyn Dialogue<Option<LookedUp>>>> {
        let (first, email) = (self.0.users("email_address", email), email.to_owned());
        Some(talk(first, move |answer, _| {
            let found = one(answer, "email_address", &email);
            Next::Done(Some(found.and_then(|user| match user {
                Some(user) => profile(&user).map(Some).ok_or(Unreachable::Garbage),
                None => Ok(None),
            })))
        }))
    }

    fn check_factor(
        &self,
        source_id: &str,
        _pending: Option<&Secret>,
        code: &Secret,
    ) -> Option<Box<dyn Dialogue<FactorChecked>>> {
        let code = code.expose().trim();
        if code.is_empty() || code.len() > CODE_BYTES_MAX {
            return Some(settled(FactorChecked::Wrong));
        }
        let url = self.0.at(&["users", source_id, "verify_totp"]);
        let first = post_json(url, &[("code", Json::Text(code))]).bearer(self.0.key.expose());
        Some(talk(first, |answer, _| {
            Next::Done(match said(answer) {
                Ok((200, json)) if json.pointer("/verified") == Some(&Value::Bool(true)) => {
                    FactorChecked::Right
                }
                // Wrong, used before, or nothing of the kind is set up there: nobody gets in by it.
                Ok((400 | 404 | 422, json)) if has_errors(&json) => FactorChecked::Wrong,
                Ok(_) => FactorChecked::Unavailable(Unreachable::Garbage),
                Err(why) => FactorChecked::Unavailable(why),
            })
        }))
    }

    fn mirror(&self, what: &Mirror) -> Option<Box<dyn Dialogue<Option<Mirrored>>>> {
        let api = Arc::clone(&self.0);
        match what {
            Mirror::SignUp { profile, password } => {
                let email = profile.email.clone()?;
                Some(sign_up(api, profile, email, password.as_ref()))
            }
            Mirror::Email {
                id,
                email,
                verified,
            } => Some(change_email(api, id.clone(), email.clone(), *verified)),
            Mirror::Password { id, password } => Some(self.patch(
                id,
                &[
                    ("password", Json::Text(password.expose())),
                    ("skip_password_checks", Json::Flag(true)),
                ],
            )),
            Mirror::Hash { id, native } => {
                let digest = native::werkzeug(native)?;
                Some(self.patch(
                    id,
                    &[
                        ("password_digest", Json::Text(digest.expose())),
                        ("password_hasher", Json::Text("scrypt_werkzeug")),
                        ("skip_password_checks", Json::Flag(true)),
                    ],
                ))
            }
            Mirror::Name { id, name } => {
                let (first, last) = names(name);
                Some(self.patch(
                    id,
                    &[
                        ("first_name", Json::Text(first)),
                        ("last_name", Json::Text(last)),
                    ],
                ))
            }
            Mirror::Delete { id } => {
                let url = self.0.at(&["users", id]);
                let first = request(Method::DELETE, url).bearer(self.0.key.expose());
                let id = id.clone();
                Some(talk(first, move |answer, _| {
                    Next::Done(match answer {
                        // Gone is gone, whoever did it.
                        Ok(answer) if answer.status == 404 => Some(Ok(Some(id))),
                        answer => mirrored(answer, &id),
                    })
                }))
            }
        }
    }
}

impl Clerk {
    fn patch(&self, id: &str, pairs: &[(&str, Json<'_>)]) -> Box<dyn Dialogue<Option<Mirrored>>> {
        let url = self.0.at(&["users", id]);
        let id = id.to_owned();
        talk(self.0.send(Method::PATCH, url, pairs), move |answer, _| {
            Next::Done(mirrored(answer, &id))
        })
    }
}

fn verify_ask(api: &Api, id: &str, password: &Secret) -> Ask {
    let url = api.at(&["users", id, "verify_password"]);
    post_json(url, &[("password", Json::Text(password.expose()))]).bearer(api.key.expose())
}

/// What Clerk said of a password; `right`: what comes next when it fits.
fn verified(
    answer: Result<Answer, Unreachable>,
    right: impl FnOnce() -> Next<Checked>,
) -> Next<Checked> {
    let (status, json) = match said(answer) {
        Ok(said) => said,
        Err(why) => return Next::Done(Checked::Unavailable(why)),
    };
    let codes = codes(&json);
    let has = |start: &str| codes.iter().any(|code| code.starts_with(start));
    Next::Done(match (status, json.pointer("/verified")) {
        (200, Some(Value::Bool(true))) => return right(),
        (200, Some(Value::Bool(false))) => Checked::Wrong,
        // The second is what is said of passwords it would never have accepted.
        (422, _) if has("incorrect_password") || has("form_password") => Checked::Wrong,
        (404, _) if !codes.is_empty() => Checked::Wrong,
        (400, _) if !codes.is_empty() && !has("request_") && !has("form_") => Checked::NoPassword,
        (403, _) if has("user_locked") => Checked::Limited(None),
        (401 | 403, _) => Checked::Unavailable(Unreachable::Refused),
        _ => Checked::Unavailable(Unreachable::Garbage),
    })
}

/// What becomes of a user whose password is right.
fn admitted(user: &Value) -> Checked {
    let Some(profile) = profile(user) else {
        return Checked::Unavailable(Unreachable::Garbage);
    };
    if profile.blocked {
        Checked::Blocked("banned")
    } else if user.pointer("/locked") == Some(&Value::Bool(true)) {
        let seconds = user.pointer("/lockout_expires_in_seconds");
        let seconds = seconds.and_then(Value::as_u64);
        Checked::Limited(seconds.map(Duration::from_secs))
    } else if profile.second_factor {
        Checked::SecondFactor {
            profile,
            pending: None,
        }
    } else {
        Checked::Right(profile)
    }
}

/// An answer as JSON. A limit is one for all of us, and so is a key that is not accepted.
fn said(answer: Result<Answer, Unreachable>) -> Result<(u16, Value), Unreachable> {
    let (answer, json) = read(answer)?;
    match answer.status {
        429 => Err(Unreachable::Refused),
        status => Ok((status, json)),
    }
}

fn codes(json: &Value) -> Vec<&str> {
    let errors = list(json, "/errors").iter();
    errors.filter_map(|error| text(error, "/code")).collect()
}

fn has_errors(json: &Value) -> bool {
    !codes(json).is_empty()
}

/// The user in an answer; none where there is no such user.
fn user(answer: Result<Answer, Unreachable>) -> Result<Option<Value>, Unreachable> {
    match said(answer)? {
        (200, json) if text(&json, "/id").is_some() => Ok(Some(json)),
        (404, json) if has_errors(&json) => Ok(None),
        (401 | 403, _) => Err(Unreachable::Refused),
        _ => Err(Unreachable::Garbage),
    }
}

/// The one user of a list whose **primary** address, or whose username or number, this is. Somebody may have written any address beside
/// their own, and is not its owner for that.
fn one(
    answer: Result<Answer, Unreachable>,
    by: &str,
    value: &str,
) -> Result<Option<Value>, Unreachable> {
    let users = match said(answer)? {
        (200, Value::Array(users)) => users,
        // What cannot be anybody's: not in the form of an address, say.
        (422, json) if codes(&json).iter().any(|code| code.starts_with("form_")) => {
            return Ok(None);
        }
        (401 | 403, _) => return Err(Unreachable::Refused),
        _ => return Err(Unreachable::Garbage),
    };
    let mut fitting = users.into_iter().filter(|user| {
        let has = match by {
            "email_address" => primary_email(user).map(|(address, _)| address),
            "username" => text(user, "/username").map(str::to_lowercase),
            _ => primary_phone(user).map(|(number, _)| number),
        };
        has.is_some_and(|has| has == value.trim().to_lowercase())
    });
    let first = fitting.next();
    match fitting.next() {
        None => Ok(first),
        Some(_) => Err(Unreachable::Garbage),
    }
}

/// The entry of a list that another field names as the primary one.
fn primary<'u>(user: &'u Value, name: &str, entries: &str) -> Option<&'u Value> {
    let id = text(user, name)?;
    let mut entries = list(user, entries).iter();
    entries.find(|entry| text(entry, "/id") == Some(id))
}

fn is_verified(entry: &Value) -> bool {
    text(entry, "/verification/status") == Some("verified")
}

fn primary_email(user: &Value) -> Option<(String, bool)> {
    let entry = primary(user, "/primary_email_address_id", "/email_addresses")?;
    let address = crate::migration::provider::support::email(entry, "/email_address")?;
    Some((address, is_verified(entry)))
}

fn primary_phone(user: &Value) -> Option<(String, bool)> {
    let entry = primary(user, "/primary_phone_number_id", "/phone_numbers")?;
    Some((phone(entry, "/phone_number")?, is_verified(entry)))
}

fn profile(user: &Value) -> Option<Profile> {
    let is_true = |key: &str| user.pointer(key) == Some(&Value::Bool(true));
    let username = text(user, "/username").map(str::to_lowercase);
    let name = crate::migration::provider::support::full_name(
        text(user, "/first_name"),
        text(user, "/last_name"),
    );
    let name = match name.is_empty() {
        true => username.clone().unwrap_or_default(),
        false => name,
    };
    let (email, email_verified) = primary_email(user).unzip();
    Some(Profile {
        id: text(user, "/id")?.to_owned(),
        email,
        email_verified: email_verified.unwrap_or(false),
        name,
        image: text(user, "/image_url")
            .filter(|_| is_true("/has_image"))
            .map(str::to_owned),
        username,
        phone: primary_phone(user),
        created_at: user
            .pointer("/created_at")
            .and_then(Value::as_i64)
            .map(UnixMs),
        blocked: is_true("/banned"),
        second_factor: is_true("/two_factor_enabled"),
    })
}

/// A name in two parts, as Clerk keeps it.
fn names(name: &str) -> (&str, &str) {
    let name = name.trim();
    name.split_once(' ')
        .map_or((name, ""), |(first, last)| (first, last.trim()))
}

// -------------------------------------------------------------------------------------------------------------------- mirror

fn sign_up(
    api: Arc<Api>,
    profile: &Profile,
    email: String,
    password: Option<&Secret>,
) -> Box<dyn Dialogue<Option<Mirrored>>> {
    let (first, last) = names(&profile.name);
    let addresses = [Json::Text(&email)];
    let mut pairs = vec![
        ("email_address", Json::List(&addresses)),
        ("first_name", Json::Text(first)),
        ("last_name", Json::Text(last)),
        // By this a second try knows the user the first one made.
        ("external_id", Json::Text(&profile.id)),
        ("skip_password_checks", Json::Flag(true)),
    ];
    if let Some(username) = &profile.username {
        pairs.push(("username", Json::Text(username)));
    }
    match password {
        Some(password) => pairs.push(("password", Json::Text(password.expose()))),
        None => pairs.push(("skip_password_requirement", Json::Flag(true))),
    }
    let first = api.send(Method::POST, api.at(&["users"]), &pairs);
    let (ours, verified) = (profile.id.clone(), profile.email_verified);
    talk(first, move |answer, _| match said(answer) {
        Ok((status, user)) if is_success(status) => settle_address(&api, &user, verified),
        Ok((422, json)) if codes(&json).iter().any(|code| code.ends_with("_exists")) => {
            let second = api.users("email_address", &email);
            ask(second, move |answer, _| {
                match one(answer, "email_address", &email) {
                    Ok(Some(user)) if text(&user, "/external_id") == Some(&ours) => {
                        settle_address(&api, &user, verified)
                    }
                    Ok(_) => Next::Done(Some(Err(Unreachable::Garbage))),
                    Err(why) => Next::Done(Some(Err(why))),
                }
            })
        }
        Ok((401 | 403, _)) => Next::Done(Some(Err(Unreachable::Refused))),
        Ok(_) => Next::Done(Some(Err(Unreachable::Garbage))),
        Err(why) => Next::Done(Some(Err(why))),
    })
}

/// Clerk takes an address that comes by its API as verified. One that nobody has verified must not become so on this way.
fn settle_address(api: &Api, user: &Value, verified: bool) -> Next<Option<Mirrored>> {
    let (Some(id), address) = (text(user, "/id"), text(user, "/primary_email_address_id")) else {
        return Next::Done(Some(Err(Unreachable::Garbage)));
    };
    let id = id.to_owned();
    match address {
        Some(address) if !verified => {
            let url = api.at(&["email_addresses", address]);
            let pairs = [("verified", Json::Flag(false))];
            ask(api.send(Method::PATCH, url, &pairs), move |answer, _| {
                Next::Done(mirrored(answer, &id))
            })
        }
        _ => Next::Done(Some(Ok(Some(id)))),
    }
}

/// The new address is added as the primary one, and the old one taken away: nobody signs in with it any more.
fn change_email(
    api: Arc<Api>,
    id: String,
    email: String,
    verified: bool,
) -> Box<dyn Dialogue<Option<Mirrored>>> {
    talk(api.user(&id), move |answer, _| {
        let user = match user(answer) {
            Ok(Some(user)) => user,
            // Gone there: nothing is left to change.
            Ok(None) => return Next::Done(Some(Ok(None))),
            Err(why) => return Next::Done(Some(Err(why))),
        };
        if primary_email(&user).is_some_and(|(address, _)| address == email) {
            return Next::Done(Some(Ok(Some(id))));
        }
        let before = text(&user, "/primary_email_address_id").map(str::to_owned);
        let pairs = [
            ("user_id", Json::Text(&id)),
            ("email_address", Json::Text(&email)),
            ("verified", Json::Flag(verified)),
            ("primary", Json::Flag(true)),
        ];
        let second = api.send(Method::POST, api.at(&["email_addresses"]), &pairs);
        ask(second, move |answer, _| {
            let added = mirrored(answer, &id);
            match (&added, before) {
                (Some(Ok(_)), Some(before)) => {
                    let url = api.at(&["email_addresses", &before]);
                    let third = request(Method::DELETE, url).bearer(api.key.expose());
                    ask(third, move |answer, _| {
                        Next::Done(match answer {
                            Ok(answer) if answer.status == 404 => Some(Ok(Some(id))),
                            answer => mirrored(answer, &id),
                        })
                    })
                }
                _ => Next::Done(added),
            }
        })
    })
}
