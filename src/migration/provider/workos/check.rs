//! WorkOS: passwords and second factors checked, users looked up, changes mirrored.
//!
//! Source: `@workos-inc/node` and the API reference; not tried against an environment. A right password makes a session there, which is
//! revoked at once by the `sid` of its access token.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use url::Url;

use crate::migration::dialogue::{Answer, Ask, Dialogue, Unreachable};
use crate::migration::provider::native;
use crate::migration::provider::support::{
    Json, Next, ask, below, claims, client, email, ending, flag, full_name, get, is_gone,
    is_success, list, mirrored, moment, post_json, read, request, retry_after, session_left,
    settled, talk, text, wanted, with_json, with_query,
};
use crate::migration::provider::{
    Attempt, BuildCheck, Check, Checked, FactorChecked, Fields, Key, KeyKind, Limit, LookedUp,
    Mirror, Mirrored, Profile,
};
use crate::secret::Secret;

/// WorkOS' own address.
const API: &str = "https://api.workos.com";

/// Tries of one address a minute: WorkOS stops at ten, and then refuses its owner too.
const PER_MINUTE: u32 = 8;

/// Longest code passed on, in bytes.
const CODE_BYTES_MAX: usize = 64;

const MFA_GRANT: &str = "urn:workos:oauth:grant-type:mfa-totp";

/// The keys of the live check.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "api_key",
        about: "the API key, `sk_…`. With it and `client_id` passwords are checked and users looked up at WorkOS",
        kind: KeyKind::Secret,
    },
    Key {
        name: "client_id",
        about: "the client id, `client_…`",
        kind: KeyKind::Text,
    },
    Key {
        name: "api_url",
        about: "where the API is. Default: \"https://api.workos.com\"",
        kind: KeyKind::Text,
    },
    Key {
        name: "check",
        about: "whether passwords are checked there. Default: whether `api_key` and `client_id` are written",
        kind: KeyKind::Flag,
    },
];

/// Builds the live check from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildCheck> = Some(build);

fn build(fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    if !wanted(fields, &["api_key", "client_id"], &["api_key"])? {
        return Ok(None);
    }
    Ok(Some(Box::new(WorkOs(Arc::new(Api {
        base: fields.url("api_url", API)?,
        key: fields.required("api_key")?.clone(),
        client_id: fields.required("client_id")?.expose().to_owned(),
    })))))
}

struct WorkOs(Arc<Api>);

struct Api {
    base: Url,
    key: Secret,
    client_id: String,
}

impl Api {
    fn at(&self, parts: &[&str]) -> Url {
        below(&self.base, parts)
    }

    fn users_at(&self, parts: &[&str]) -> Url {
        let all: Vec<&str> = ["user_management", "users"]
            .iter()
            .chain(parts)
            .copied()
            .collect();
        self.at(&all)
    }

    fn get(&self, url: Url) -> Ask {
        get(url).bearer(self.key.expose())
    }

    fn send(&self, method: Method, url: Url, pairs: &[(&str, Json<'_>)]) -> Ask {
        with_json(method, url, pairs).bearer(self.key.expose())
    }

    /// Signs somebody in. The client names itself in the body.
    fn authenticate(&self, grant: &str, pairs: &[(&str, Json<'_>)]) -> Ask {
        let mut all = vec![
            ("grant_type", Json::Text(grant)),
            ("client_id", Json::Text(&self.client_id)),
            ("client_secret", Json::Text(self.key.expose())),
        ];
        all.extend_from_slice(pairs);
        post_json(self.at(&["user_management", "authenticate"]), &all)
    }

    fn by_email(&self, email: &str) -> Ask {
        let pairs = [("email", email), ("limit", "2")];
        self.get(with_query(self.users_at(&[]), &pairs))
    }

    /// Ends a session that was just made; none where its token does not name it.
    fn revoke(&self, signed_in: &Value) -> Option<Ask> {
        let claims = claims(text(signed_in, "/access_token")?)?;
        let session = text(&claims, "/sid")?;
        let url = self.at(&["user_management", "sessions", "revoke"]);
        Some(self.send(Method::POST, url, &[("session_id", Json::Text(session))]))
    }
}

impl Check for WorkOs {
    fn limit(&self) -> Limit {
        Limit {
            most: PER_MINUTE,
            within: Duration::from_secs(60),
        }
    }

    fn overall(&self) -> Limit {
        // Four fifths of the five hundred writes in ten seconds that WorkOS allows a key.
        Limit {
            most: 400,
            within: Duration::from_secs(10),
        }
    }

    fn check(&self, attempt: &Attempt) -> Box<dyn Dialogue<Checked>> {
        let Some(address) = attempt.email.clone() else {
            return settled(Checked::Wrong);
        };
        if attempt.password.expose().is_empty() {
            return settled(Checked::Wrong);
        }
        let ip = client(attempt.client);
        let first = self.0.authenticate(
            "password",
            &[
                ("email", Json::Text(&address)),
                ("password", Json::Text(attempt.password.expose())),
                ("ip_address", Json::Text(&ip)),
                ("user_agent", Json::Text(&attempt.user_agent)),
            ],
        );
        let api = Arc::clone(&self.0);
        talk(first, move |answer, now| {
            let wait = answer
                .as_ref()
                .ok()
                .map(|answer| retry_after(answer, now.now));
            let (status, json) = match read(answer) {
                Ok((answer, json)) => (answer.status, json),
                Err(why) => return Next::Done(Checked::Unavailable(why)),
            };
            if is_success(status) {
                let checked = match json.pointer("/user").and_then(profile) {
                    Some(profile) => Checked::Right(profile),
                    None => Checked::Unavailable(Unreachable::Garbage),
                };
                return match api.revoke(&json) {
                    Some(end) => ending(checked, end, is_gone),
                    None => Next::Done(session_left(checked)),
                };
            }
            let right: fn(Profile, &Value) -> Checked = match (status, code(&json)) {
                (_, "mfa_challenge") => |mut profile, json| {
                    profile.second_factor = true;
                    let pending = pending(json);
                    Checked::SecondFactor { profile, pending }
                },
                (_, "email_verification_required") => {
                    |profile, _| Checked::RightBut(profile, "email_not_verified")
                }
                (_, "mfa_enrollment") => |profile, _| Checked::RightBut(profile, "mfa_enrollment"),
                (_, "organization_selection_required") => {
                    |profile, _| Checked::RightBut(profile, "organization_selection")
                }
                (400 | 401 | 403 | 422, "invalid_credentials") => {
                    return Next::Done(Checked::Wrong);
                }
                (404, "user_not_found" | "entity_not_found") => {
                    return Next::Done(Checked::Wrong);
                }
                // Says nothing of the password: it was not looked at.
                (_, "sso_required") => return Next::Done(Checked::NoPassword),
                (429, _) => return Next::Done(Checked::Limited(wait.flatten())),
                // The key, not the person.
                (401 | 403, _) => {
                    return Next::Done(Checked::Unavailable(Unreachable::Refused));
                }
                _ => return Next::Done(Checked::Unavailable(Unreachable::Garbage)),
            };
            // The answer need not say who that is; the address it was about does.
            if let Some(profile) = json.pointer("/user").and_then(profile) {
                return Next::Done(right(profile, &json));
            }
            ask(api.by_email(&address), move |answer, _| {
                Next::Done(match one(answer, &address) {
                    Ok(Some(user)) => match profile(&user) {
                        Some(profile) => right(profile, &json),
                        None => Checked::Unavailable(Unreachable::Garbage),
                    },
                    Ok(None) => Checked::Unavailable(Unreachable::Garbage),
                    Err(why) => Checked::Unavailable(why),
                })
            })
        })
    }

    fn look_up(&self, address: &str) -> Option<Box<dyn Dialogue<Option<LookedUp>>>> {
        let (api, address) = (Arc::clone(&self.0), address.to_owned());
        Some(talk(api.by_email(&address), move |answer, _| {
            let mut profile = match one(answer, &address) {
                Ok(Some(user)) => match profile(&user) {
                    Some(profile) => profile,
                    None => return Next::Done(Some(Err(Unreachable::Garbage))),
                },
                Ok(None) => return Next::Done(Some(Ok(None))),
                Err(why) => return Next::Done(Some(Err(why))),
            };
            // Their second factor stands elsewhere, and must not be lost.
            let url = api.users_at(&[&profile.id, "auth_factors"]);
            ask(
                api.get(with_query(url, &[("limit", "1")])),
                move |answer, _| {
                    Next::Done(Some(match said(answer) {
                        Ok((200, json)) if json.pointer("/data").is_some_and(Value::is_array) => {
                            profile.second_factor = !list(&json, "/data").is_empty();
                            Ok(Some(profile))
                        }
                        Ok(_) => Err(Unreachable::Garbage),
                        Err(why) => Err(why),
                    }))
                },
            )
        }))
    }

    fn check_factor(
        &self,
        source_id: &str,
        pending: Option<&Secret>,
        code_typed: &Secret,
    ) -> Option<Box<dyn Dialogue<FactorChecked>>> {
        let kept: Value = serde_json::from_str(pending?.expose()).ok()?;
        let token = Secret::new(text(&kept, "/token")?);
        let factor = text(&kept, "/factor")?;
        let typed = code_typed.expose().trim();
        if typed.is_empty() || typed.len() > CODE_BYTES_MAX {
            return Some(settled(FactorChecked::Wrong));
        }
        let typed = Secret::new(typed);
        let url = self.0.at(&["auth", "factors", factor, "challenge"]);
        let first = self.0.send(Method::POST, url, &[]);
        let (api, source_id) = (Arc::clone(&self.0), source_id.to_owned());
        Some(talk(first, move |answer, _| {
            let challenge = match said(answer) {
                Ok((status, json)) if is_success(status) => {
                    // Newer versions put it one level down.
                    let id = text(&json, "/id").or_else(|| text(&json, "/challenge/id"));
                    id.map(str::to_owned).ok_or(Unreachable::Garbage)
                }
                Ok(_) => Err(Unreachable::Garbage),
                Err(why) => Err(why),
            };
            let challenge = match challenge {
                Ok(challenge) => challenge,
                Err(why) => return Next::Done(FactorChecked::Unavailable(why)),
            };
            let second = api.authenticate(
                MFA_GRANT,
                &[
                    ("code", Json::Text(typed.expose())),
                    ("pending_authentication_token", Json::Text(token.expose())),
                    ("authentication_challenge_id", Json::Text(&challenge)),
                ],
            );
            ask(second, move |answer, _| {
                factor_checked(&api, answer, &source_id)
            })
        }))
    }

    fn mirror(&self, what: &Mirror) -> Option<Box<dyn Dialogue<Option<Mirrored>>>> {
        match what {
            Mirror::SignUp { profile, password } => {
                let address = profile.email.clone()?;
                let api = Arc::clone(&self.0);
                Some(sign_up(api, profile, address, password.as_ref()))
            }
            Mirror::Email {
                id,
                email,
                verified,
            } => Some(self.put(
                id,
                &[
                    ("email", Json::Text(email)),
                    ("email_verified", Json::Flag(*verified)),
                ],
            )),
            Mirror::Password { id, password } => {
                Some(self.put(id, &[("password", Json::Text(password.expose()))]))
            }
            Mirror::Hash { id, native } => {
                let hash = native::phc(native)?;
                Some(self.put(
                    id,
                    &[
                        ("password_hash", Json::Text(hash.expose())),
                        ("password_hash_type", Json::Text("scrypt")),
                    ],
                ))
            }
            Mirror::Name { id, name } => {
                let (first, last) = names(name);
                Some(self.put(
                    id,
                    &[
                        ("first_name", Json::Text(first)),
                        ("last_name", Json::Text(last)),
                    ],
                ))
            }
            Mirror::Delete { id } => {
                let first = request(Method::DELETE, self.0.users_at(&[id]));
                let id = id.clone();
                Some(talk(first.bearer(self.0.key.expose()), move |answer, _| {
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

impl WorkOs {
    fn put(&self, id: &str, pairs: &[(&str, Json<'_>)]) -> Box<dyn Dialogue<Option<Mirrored>>> {
        let first = self.0.send(Method::PUT, self.0.users_at(&[id]), pairs);
        let id = id.to_owned();
        talk(first, move |answer, _| Next::Done(mirrored(answer, &id)))
    }
}

/// What it said of a code. A right one makes a session, which is revoked.
fn factor_checked(
    api: &Api,
    answer: Result<Answer, Unreachable>,
    source_id: &str,
) -> Next<FactorChecked> {
    let (status, json) = match said(answer) {
        Ok(said) => said,
        Err(why) => return Next::Done(FactorChecked::Unavailable(why)),
    };
    if is_success(status) {
        let checked = match text(&json, "/user/id") {
            Some(id) if id == source_id => FactorChecked::Right,
            // Somebody else's code.
            Some(_) => FactorChecked::Wrong,
            None => FactorChecked::Unavailable(Unreachable::Garbage),
        };
        return match api.revoke(&json) {
            Some(end) => ask(end, move |_, _| Next::Done(checked)),
            None => Next::Done(checked),
        };
    }
    let code = code(&json);
    let begins = |starts: &[&str]| starts.iter().any(|start| code.starts_with(start));
    let wrong = begins(&[
        "invalid_one_time_code",
        "one_time_code",
        "invalid_code",
        "invalid_credentials",
        "authentication_challenge",
        "invalid_authentication_challenge",
        // It has expired: whoever is right signs in again.
        "invalid_pending_authentication_token",
        "pending_authentication",
    ]);
    Next::Done(match status {
        // What follows the code there is nothing that is needed here.
        403 if code == "organization_selection_required" => FactorChecked::Right,
        400 | 401 | 403 | 404 | 422 if wrong => FactorChecked::Wrong,
        401 | 403 => FactorChecked::Unavailable(Unreachable::Refused),
        _ => FactorChecked::Unavailable(Unreachable::Garbage),
    })
}

/// An answer as JSON, where a limit is one for all of us.
fn said(answer: Result<Answer, Unreachable>) -> Result<(u16, Value), Unreachable> {
    let (answer, json) = read(answer)?;
    match answer.status {
        429 => Err(Unreachable::Refused),
        status => Ok((status, json)),
    }
}

/// The word for what is wrong: newer errors and those of OAuth call it differently.
fn code(json: &Value) -> &str {
    text(json, "/code")
        .or_else(|| text(json, "/error"))
        .unwrap_or_default()
}

/// The user of this address in a list.
fn one(answer: Result<Answer, Unreachable>, address: &str) -> Result<Option<Value>, Unreachable> {
    match said(answer)? {
        (200, json) if json.pointer("/data").is_some_and(Value::is_array) => {
            let wanted = address.trim().to_lowercase();
            let mut users = list(&json, "/data").iter();
            let user = users.find(|user| email(user, "/email").as_deref() == Some(&wanted));
            Ok(user.cloned())
        }
        // What cannot be anybody's: not in the form of an address, say.
        (400 | 422, json) if !code(&json).is_empty() => Ok(None),
        (401 | 403, _) => Err(Unreachable::Refused),
        _ => Err(Unreachable::Garbage),
    }
}

/// What is wanted back with a code: the token, and the factor the code is of.
fn pending(json: &Value) -> Option<Secret> {
    let token = text(json, "/pending_authentication_token")?;
    let mut factors = list(json, "/authentication_factors").iter();
    let factor = factors.find(|factor| text(factor, "/type") == Some("totp"))?;
    let factor = text(factor, "/id")?;
    Some(crate::migration::provider::support::json(&[
        ("token", Json::Text(token)),
        ("factor", Json::Text(factor)),
    ]))
}

fn profile(user: &Value) -> Option<Profile> {
    Some(Profile {
        id: text(user, "/id")?.to_owned(),
        email: email(user, "/email"),
        email_verified: flag(user, "/email_verified"),
        name: full_name(text(user, "/first_name"), text(user, "/last_name")),
        image: text(user, "/profile_picture_url").map(str::to_owned),
        created_at: moment(user, "/created_at"),
        ..Profile::default()
    })
}

/// A name in two parts, as WorkOS keeps it.
fn names(name: &str) -> (&str, &str) {
    let name = name.trim();
    name.split_once(' ')
        .map_or((name, ""), |(first, last)| (first, last.trim()))
}

fn sign_up(
    api: Arc<Api>,
    profile: &Profile,
    address: String,
    password: Option<&Secret>,
) -> Box<dyn Dialogue<Option<Mirrored>>> {
    let (first, last) = names(&profile.name);
    let mut pairs = vec![
        ("email", Json::Text(&address)),
        ("email_verified", Json::Flag(profile.email_verified)),
        ("first_name", Json::Text(first)),
        ("last_name", Json::Text(last)),
        // By this a second try knows the user the first one made.
        ("external_id", Json::Text(&profile.id)),
    ];
    if let Some(password) = password {
        pairs.push(("password", Json::Text(password.expose())));
    }
    let first = api.send(Method::POST, api.users_at(&[]), &pairs);
    let ours = profile.id.clone();
    talk(first, move |answer, _| match said(answer) {
        Ok((status, user)) if is_success(status) => Next::Done(Some(match text(&user, "/id") {
            Some(id) => Ok(Some(id.to_owned())),
            None => Err(Unreachable::Garbage),
        })),
        Ok((400 | 409 | 422, json)) if !code(&json).is_empty() => {
            ask(api.by_email(&address), move |answer, _| {
                Next::Done(Some(match one(answer, &address) {
                    Ok(Some(user)) if text(&user, "/external_id") == Some(&ours) => {
                        Ok(text(&user, "/id").map(str::to_owned))
                    }
                    Ok(_) => Err(Unreachable::Garbage),
                    Err(why) => Err(why),
                }))
            })
        }
        Ok((401 | 403, _)) => Next::Done(Some(Err(Unreachable::Refused))),
        Ok(_) => Next::Done(Some(Err(Unreachable::Garbage))),
        Err(why) => Next::Done(Some(Err(why))),
    })
}
