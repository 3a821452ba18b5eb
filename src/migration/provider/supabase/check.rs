//! Passwords checked there while it runs.
//!
//! Written after the source of supabase/auth (the password grant, factors, logout, admin users, error codes), not tried against a
//! project.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use url::Url;

use crate::migration::dialogue::{Answer, Ask, Dialogue, Unreachable};
use crate::migration::provider::support::{self, Json, Next, ask, ending, factor, key, text};
use crate::migration::provider::{
    Attempt, BuildCheck, Check, Checked, FactorChecked, Fields, Key, KeyKind, Limit, LookedUp,
    Mirror, Mirrored, Profile,
};
use crate::secret::Secret;
use crate::time::UnixMs;

/// The keys of the live check.
pub(super) const KEYS: &[Key] = &[
    support::CHECK,
    key(
        "url",
        "The project's address, or that of a server of one's own. Default: \"https://REF.supabase.co\" with `project_ref`.",
        KeyKind::Text,
    ),
    key(
        "anon_key",
        "The anon or publishable key: the live check needs it.",
        KeyKind::Secret,
    ),
    key(
        "service_role_key",
        "The service_role or secret key: users are looked up and changes are mirrored with it. Default: neither is done.",
        KeyKind::Secret,
    ),
];

/// Builds the live check from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildCheck> = Some(build);

fn build(fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    if !support::wanted(fields, &["anon_key"], &["service_role_key"])? {
        return Ok(None);
    }
    let url = match (fields.text("url"), fields.text("project_ref")) {
        (Some(_), _) => fields.url("url", "")?,
        (None, Some(name)) => {
            fields.url("url", &format!("https://{}.supabase.co", name.expose()))?
        }
        (None, None) => return Err("`url` is missing, which the live check needs".to_owned()),
    };
    Ok(Some(Box::new(Supabase(Arc::new(Project {
        auth: support::below(&url, &["auth", "v1"]),
        anon: fields.required("anon_key")?.clone(),
        service: fields.text("service_role_key").cloned(),
    })))))
}

/// Users of one page of a look-up. The filter is a part of the address, so others may match; fifty of them are nobody's accident.
const LOOK_UP_MAX: usize = 50;

struct Supabase(Arc<Project>);

struct Project {
    /// Where its Auth server is.
    auth: Url,
    anon: Secret,
    service: Option<Secret>,
}

impl Project {
    fn at(&self, parts: &[&str]) -> Url {
        support::below(&self.auth, parts)
    }

    /// A request in the name of the project.
    fn open(&self, ask: Ask) -> Ask {
        ask.secret_header("apikey", self.anon.expose())
    }

    /// A request in the name of a user.
    fn own(&self, ask: Ask, token: &str) -> Ask {
        self.open(ask).bearer(token)
    }

    /// A request in the name of the operator.
    fn admin(service: &Secret, ask: Ask) -> Ask {
        let ask = ask.secret_header("apikey", service.expose());
        // Keys of the new kind are no tokens, and the server refuses them as such.
        if service.expose().starts_with("sb_secret_") {
            ask
        } else {
            ask.bearer(service.expose())
        }
    }

    /// `scope=local`: this session alone. Without it everything the user has there would be signed out.
    fn log_out(&self, token: &str) -> Ask {
        let url = support::with_query(self.at(&["logout"]), &[("scope", "local")]);
        self.own(support::request(Method::POST, url), token)
    }

    fn find(&self, service: &Secret, email: &str) -> Ask {
        let most = LOOK_UP_MAX.to_string();
        let url = support::with_query(
            self.at(&["admin", "users"]),
            &[("filter", email), ("page", "1"), ("per_page", &most)],
        );
        Self::admin(service, support::get(url))
    }

    fn judge(
        self: Arc<Self>,
        answer: Result<Answer, Unreachable>,
        email: Option<String>,
        now: UnixMs,
    ) -> Next<Checked> {
        let (answer, json) = match support::read(answer) {
            Ok(read) => read,
            Err(why) => return support::unavailable(why),
        };
        if answer.status == 200 {
            return self.right(&json, now);
        }
        Next::Done(match (answer.status, word(&json)) {
            (429, _) => Checked::Unavailable(Unreachable::Refused),
            (_, "invalid_credentials" | "validation_failed" | "user_not_found") => Checked::Wrong,
            // The password is right then, but the answer does not say whose it is.
            (_, "email_not_confirmed") => match (&self.service, email) {
                (Some(service), Some(email)) => {
                    let find = self.find(service, &email);
                    return ask(find, move |answer, moment| {
                        Next::Done(match found(answer, &email, moment.now) {
                            Ok(Some(profile)) => Checked::RightBut(profile, "email_not_confirmed"),
                            Ok(None) => Checked::Blocked("email_not_confirmed"),
                            Err(why) => Checked::Unavailable(why),
                        })
                    });
                }
                _ => Checked::Blocked("email_not_confirmed"),
            },
            (_, "phone_not_confirmed") => Checked::Blocked("phone_not_confirmed"),
            // Said before the password is looked at.
            (_, "user_banned") => Checked::Blocked("user_banned"),
            (_, "user_sso_managed") => Checked::NoPassword,
            (_, "captcha_failed") => Checked::Unavailable(Unreachable::Challenge),
            (401 | 403 | 404, _)
            | (_, "email_provider_disabled" | "phone_provider_disabled" | "provider_disabled") => {
                Checked::Unavailable(Unreachable::Unconfigured)
            }
            _ => Checked::Unavailable(Unreachable::Garbage),
        })
    }

    fn right(&self, json: &Value, now: UnixMs) -> Next<Checked> {
        let (Some(token), Some(user)) = (text(json, "/access_token"), json.get("user")) else {
            return support::unavailable(Unreachable::Garbage);
        };
        let Some(profile) = profile(user, now) else {
            return support::unavailable(Unreachable::Garbage);
        };
        let end = self.log_out(token);
        if profile.blocked {
            return ending(Checked::Blocked("user_banned"), end, support::is_gone);
        }
        if !profile.second_factor {
            return ending(Checked::Right(profile), end, support::is_gone);
        }
        let totp = verified_factors(user)
            .find(|factor| text(factor, "/factor_type") == Some("totp"))
            .and_then(|factor| text(factor, "/id"));
        match totp {
            // The code can only be checked in this session: it is ended with it.
            Some(factor) => Next::Done(Checked::SecondFactor {
                profile,
                pending: Some(support::json(&[
                    ("token", Json::Text(token)),
                    ("factor", Json::Text(factor)),
                ])),
            }),
            None => {
                let pending = None;
                let checked = Checked::SecondFactor { profile, pending };
                ending(checked, end, support::is_gone)
            }
        }
    }

    fn challenged(
        self: Arc<Self>,
        answer: Result<Answer, Unreachable>,
        pending: &Value,
        source_id: String,
        code: &Secret,
    ) -> Next<FactorChecked> {
        let (answer, json) = match support::read(answer) {
            Ok(read) => read,
            Err(why) => return factor(FactorChecked::Unavailable(why)),
        };
        let (Some(token), Some(factor_id)) = (text(pending, "/token"), text(pending, "/factor"))
        else {
            return factor(FactorChecked::Wrong);
        };
        let Some(challenge) = text(&json, "/id").filter(|_| support::is_success(answer.status))
        else {
            return factor(match answer.status {
                429 => FactorChecked::Unavailable(Unreachable::Refused),
                // The session is over: whoever types the code signs in again.
                _ => FactorChecked::Wrong,
            });
        };
        let url = self.at(&["factors", factor_id, "verify"]);
        let verify = support::post_json(
            url,
            &[
                ("challenge_id", Json::Text(challenge)),
                ("code", Json::Text(code.expose())),
            ],
        );
        let verify = self.own(verify, token);
        ask(verify, move |answer, _| {
            let (answer, json) = match support::read(answer) {
                Ok(read) => read,
                Err(why) => return factor(FactorChecked::Unavailable(why)),
            };
            match (answer.status, text(&json, "/access_token")) {
                (200, Some(token)) => {
                    let found = support::theirs(text(&json, "/user/id"), &source_id);
                    support::factor_ending(self.log_out(token), found)
                }
                (429, _) => factor(FactorChecked::Unavailable(Unreachable::Refused)),
                (400..=499, _) => factor(FactorChecked::Wrong),
                _ => factor(FactorChecked::Unavailable(Unreachable::Garbage)),
            }
        })
    }
}

impl Check for Supabase {
    /// Accounts are not locked there; one address may ask 30 times in five minutes at once. Source: supabase.com/docs/guides/auth/rate-limits.
    fn limit(&self) -> Limit {
        Limit {
            most: 10,
            within: Duration::from_secs(60),
        }
    }

    /// 1800 requests an hour from one address: ours, where the key does not let the client's be told. A check takes two.
    fn overall(&self) -> Limit {
        Limit {
            most: 60,
            within: Duration::from_secs(60),
        }
    }

    fn check(&self, attempt: &Attempt) -> Box<dyn Dialogue<Checked>> {
        let (name, who) = match (&attempt.email, &attempt.phone) {
            (Some(email), _) => ("email", email),
            (None, Some(phone)) => ("phone", phone),
            (None, None) => return support::settled(Checked::Wrong),
        };
        if !support::is_askable(attempt) {
            return support::settled(Checked::Wrong);
        }
        let url = self.0.at(&["token"]);
        let first = support::post_json(
            support::with_query(url, &[("grant_type", "password")]),
            &[
                (name, Json::Text(who)),
                ("password", Json::Text(attempt.password.expose())),
            ],
        );
        let first = self
            .0
            .open(first)
            .header("sb-forwarded-for", &support::client(attempt.client));
        let project = Arc::clone(&self.0);
        let email = attempt.email.as_ref().map(|email| email.to_lowercase());
        support::talk(first, move |answer, moment| {
            project.judge(answer, email, moment.now)
        })
    }

    fn look_up(&self, email: &str) -> Option<Box<dyn Dialogue<Option<LookedUp>>>> {
        let service = self.0.service.as_ref()?;
        let email = email.to_lowercase();
        let find = self.0.find(service, &email);
        Some(support::talk(find, move |answer, moment| {
            Next::Done(Some(found(answer, &email, moment.now)))
        }))
    }

    fn check_factor(
        &self,
        source_id: &str,
        pending: Option<&Secret>,
        code: &Secret,
    ) -> Option<Box<dyn Dialogue<FactorChecked>>> {
        let pending: Value = serde_json::from_str(pending?.expose()).ok()?;
        let (token, factor_id) = (text(&pending, "/token")?, text(&pending, "/factor")?);
        let url = self.0.at(&["factors", factor_id, "challenge"]);
        let challenge = self.0.own(support::post_json(url, &[]), token);
        let (project, code) = (Arc::clone(&self.0), code.clone());
        let source_id = source_id.to_owned();
        Some(support::talk(challenge, move |answer, _| {
            project.challenged(answer, &pending, source_id, &code)
        }))
    }

    fn mirror(&self, what: &Mirror) -> Option<Box<dyn Dialogue<Option<Mirrored>>>> {
        let service = self.0.service.as_ref()?;
        let users = |id: &str| self.0.at(&["admin", "users", id]);
        let (change, id) = match what {
            Mirror::SignUp { profile, password } => {
                let metadata = [("name", Json::Text(&profile.name))];
                let mut body = vec![
                    ("email", Json::Text(profile.email.as_deref()?)),
                    ("email_confirm", Json::Flag(profile.email_verified)),
                    ("user_metadata", Json::Object(&metadata)),
                ];
                if let Some(password) = password {
                    body.push(("password", Json::Text(password.expose())));
                }
                (
                    support::post_json(self.0.at(&["admin", "users"]), &body),
                    None,
                )
            }
            Mirror::Email {
                id,
                email,
                verified,
            } => {
                let body = [
                    ("email", Json::Text(email)),
                    ("email_confirm", Json::Flag(*verified)),
                ];
                (
                    support::with_json(Method::PUT, users(id), &body),
                    Some(id.clone()),
                )
            }
            Mirror::Password { id, password } => {
                let body = [("password", Json::Text(password.expose()))];
                (
                    support::with_json(Method::PUT, users(id), &body),
                    Some(id.clone()),
                )
            }
            Mirror::Name { id, name } => {
                let metadata = [("name", Json::Text(name))];
                let body = [("user_metadata", Json::Object(&metadata))];
                (
                    support::with_json(Method::PUT, users(id), &body),
                    Some(id.clone()),
                )
            }
            Mirror::Delete { id } => (
                support::request(Method::DELETE, users(id)),
                Some(id.clone()),
            ),
            // Hashes of Better Auth are not taken there.
            Mirror::Hash { .. } => return None,
        };
        let change = Project::admin(service, change);
        Some(support::talk(change, move |answer, _| {
            Next::Done(support::mirrored_as(answer, id, "/id"))
        }))
    }
}

/// What an error is called: servers have written it in three ways.
fn word(json: &Value) -> &str {
    if let Some(word) = text(json, "/error_code").or_else(|| text(json, "/code")) {
        return word;
    }
    // Before there were codes.
    match text(json, "/error_description").or_else(|| text(json, "/msg")) {
        Some("Invalid login credentials") => "invalid_credentials",
        Some("Email not confirmed") => "email_not_confirmed",
        Some("Phone not confirmed") => "phone_not_confirmed",
        Some(text) if text.starts_with("captcha") => "captcha_failed",
        _ => "",
    }
}

fn verified_factors(user: &Value) -> impl Iterator<Item = &Value> {
    support::list(user, "/factors")
        .iter()
        .filter(|factor| text(factor, "/status") == Some("verified"))
}

fn profile(user: &Value, now: UnixMs) -> Option<Profile> {
    let first_of = |pointers: &[&str]| pointers.iter().find_map(|pointer| text(user, pointer));
    let names = ["/user_metadata/full_name", "/user_metadata/name"];
    let pictures = ["/user_metadata/avatar_url", "/user_metadata/picture"];
    let phone_verified = text(user, "/phone_confirmed_at").is_some();
    let banned_until = support::moment(user, "/banned_until");
    Some(Profile {
        id: text(user, "/id")?.to_owned(),
        email: support::email(user, "/email"),
        email_verified: text(user, "/email_confirmed_at").is_some(),
        name: first_of(&names).unwrap_or_default().trim().to_owned(),
        image: first_of(&pictures).map(str::to_owned),
        username: None,
        phone: support::phone(user, "/phone").map(|phone| (phone, phone_verified)),
        created_at: support::moment(user, "/created_at"),
        blocked: banned_until.is_some_and(|until| until > now)
            || text(user, "/deleted_at").is_some(),
        second_factor: verified_factors(user).next().is_some(),
    })
}

fn found(answer: Result<Answer, Unreachable>, email: &str, now: UnixMs) -> LookedUp {
    let (answer, json) = support::read(answer)?;
    match answer.status {
        200 => {}
        429 => return Err(Unreachable::Refused),
        401 | 403 | 404 => return Err(Unreachable::Unconfigured),
        _ => return Err(Unreachable::Garbage),
    }
    let users = json.get("users").and_then(Value::as_array);
    let users = users.ok_or(Unreachable::Garbage)?;
    // An account of a company's own sign-in may have the same address, and has no password.
    let user = users.iter().find(|user| {
        support::email(user, "/email").as_deref() == Some(email)
            && !support::flag(user, "/is_sso_user")
            && text(user, "/deleted_at").is_none()
    });
    match user {
        Some(user) => profile(user, now).map(Some).ok_or(Unreachable::Garbage),
        None if users.len() < LOOK_UP_MAX => Ok(None),
        None => Err(Unreachable::Garbage),
    }
}
