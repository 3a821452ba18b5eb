//! Passwords checked there while it runs. Experimental.
//!
//! Written from general knowledge of versions 17 and later (the direct access grant, the Admin REST API's `users`,
//! `users/{id}/credentials` and `users/{id}/reset-password`); not tried against a server.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use url::Url;

use crate::migration::dialogue::{Answer, Ask, Dialogue, Unreachable};
use crate::migration::provider::support::{self, Json, Next, ask, ending, key, text};
use crate::migration::provider::{
    Attempt, BuildCheck, Check, Checked, Fields, Key, KeyKind, Limit, LookedUp, Mirror, Mirrored,
    Profile,
};
use crate::secret::Secret;

/// The keys of the live check.
pub(super) const KEYS: &[Key] = &[
    support::CHECK,
    key(
        "url",
        "The server: https://sso.example.com, with /auth before version 17. The live check needs it.",
        KeyKind::Text,
    ),
    key(
        "realm",
        "The realm. The live check needs it.",
        KeyKind::Text,
    ),
    key(
        "client_id",
        "A client with direct access grants: the live check needs it.",
        KeyKind::Text,
    ),
    key(
        "client_secret",
        "Its secret, where it is confidential.",
        KeyKind::Secret,
    ),
    key(
        "admin_client_id",
        "A client with a service account and the roles view-users (to mirror: manage-users) of realm-management. Default: nobody is looked up.",
        KeyKind::Text,
    ),
    key("admin_client_secret", "Its secret.", KeyKind::Secret),
    support::IDENTIFY_BY,
];

/// Builds the live check from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildCheck> = Some(build);

fn build(fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    let own = ["client_secret", "admin_client_id", "admin_client_secret"];
    if !support::wanted(fields, &["url", "realm", "client_id"], &own)? {
        return Ok(None);
    }
    let admin = match fields.text("admin_client_id") {
        Some(id) => Some(Client {
            id: id.clone(),
            secret: Some(fields.required("admin_client_secret")?.clone()),
        }),
        None => None,
    };
    Ok(Some(Box::new(Keycloak(Arc::new(Realm {
        url: fields.url("url", "")?,
        name: fields.required("realm")?.expose().to_owned(),
        client: Client {
            id: fields.required("client_id")?.clone(),
            secret: fields.text("client_secret").cloned(),
        },
        admin,
        identifier: support::Identifier::of(fields)?,
    })))))
}

struct Keycloak(Arc<Realm>);

struct Realm {
    url: Url,
    name: String,
    client: Client,
    admin: Option<Client>,
    identifier: support::Identifier,
}

struct Client {
    id: Secret,
    secret: Option<Secret>,
}

impl Realm {
    fn endpoint(&self, name: &str) -> Url {
        let parts = ["realms", &self.name, "protocol", "openid-connect", name];
        support::below(&self.url, &parts)
    }

    fn form(&self, endpoint: &str, client: &Client, pairs: &[(&str, &str)]) -> Ask {
        let mut all = vec![("client_id", client.id.expose())];
        if let Some(secret) = &client.secret {
            all.push(("client_secret", secret.expose()));
        }
        all.extend_from_slice(pairs);
        support::post_form(self.endpoint(endpoint), &all)
    }

    fn admin(&self, parts: &[&str]) -> Url {
        let url = support::below(&self.url, &["admin", "realms", &self.name, "users"]);
        support::below(&url, parts)
    }

    fn find(&self, email: &str) -> Url {
        support::with_query(self.admin(&[]), &[("email", email), ("exact", "true")])
    }

    /// Asks for a token of the admin client, and goes on with it.
    fn managed<T: Send + 'static>(
        self: Arc<Self>,
        failed: impl FnOnce(Unreachable) -> T + Send + 'static,
        then: impl FnOnce(Arc<Self>, Secret) -> Next<T> + Send + 'static,
    ) -> Next<T> {
        let Some(admin) = &self.admin else {
            return Next::Done(failed(Unreachable::Unconfigured));
        };
        let token = self.form("token", admin, &[("grant_type", "client_credentials")]);
        ask(token, move |answer, _| match support::read(answer) {
            Err(why) => Next::Done(failed(why)),
            Ok((answer, json)) => match (answer.status, text(&json, "/access_token")) {
                (200, Some(token)) => {
                    let token = Secret::new(token);
                    then(self, token)
                }
                (429, _) => Next::Done(failed(Unreachable::Refused)),
                _ => Next::Done(failed(Unreachable::Unconfigured)),
            },
        })
    }

    fn judge(
        self: Arc<Self>,
        answer: Result<Answer, Unreachable>,
        email: Option<String>,
    ) -> Next<Checked> {
        let (answer, json) = match support::read(answer) {
            Ok(read) => read,
            Err(why) => return support::unavailable(why),
        };
        if answer.status == 200 {
            return self.right(&json);
        }
        let said = text(&json, "/error_description").unwrap_or_default();
        match (answer.status, text(&json, "/error").unwrap_or_default()) {
            (429, _) => support::unavailable(Unreachable::Refused),
            (_, "invalid_grant") => match said {
                said if said.starts_with("Account is not fully set up") => self.not_set_up(email),
                // Said before the password is looked at.
                said if said.contains("isabled") => {
                    Next::Done(Checked::Blocked("account_disabled"))
                }
                // A wrong password, nobody, too many attempts, a missing code: one answer for all.
                _ => self.wrong(email),
            },
            (
                _,
                "invalid_client"
                | "unauthorized_client"
                | "unsupported_grant_type"
                | "invalid_scope"
                | "Realm does not exist"
                | "not_allowed",
            ) => support::unavailable(Unreachable::Unconfigured),
            (403 | 404, _) => support::unavailable(Unreachable::Unconfigured),
            _ => support::unavailable(Unreachable::Garbage),
        }
    }

    fn right(&self, json: &Value) -> Next<Checked> {
        // A lightweight access token names nobody; the other token always does.
        let claims = ["/id_token", "/access_token"]
            .iter()
            .filter_map(|pointer| support::claims(text(json, pointer)?))
            .find_map(|claims| claimed(&claims));
        let end = match (text(json, "/refresh_token"), text(json, "/access_token")) {
            (Some(token), _) => self.form("logout", &self.client, &[("refresh_token", token)]),
            (None, Some(token)) => {
                let hint = ("token_type_hint", "access_token");
                self.form("revoke", &self.client, &[("token", token), hint])
            }
            (None, None) => return support::unavailable(Unreachable::Garbage),
        };
        let checked = match claims {
            Some(profile) => Checked::Right(profile),
            None => Checked::Unavailable(Unreachable::Garbage),
        };
        ending(checked, end, support::is_success)
    }

    /// The password is right and something must be done first there; the answer does not say whose it is.
    fn not_set_up(self: Arc<Self>, email: Option<String>) -> Next<Checked> {
        const WORD: &str = "account_not_set_up";
        self.found(email, Checked::Blocked(WORD), |_, _, profile| {
            Next::Done(Checked::RightBut(profile, WORD))
        })
    }

    /// Where a code is asked for, the right password without one is answered like a wrong one: then nothing can be checked.
    fn wrong(self: Arc<Self>, email: Option<String>) -> Next<Checked> {
        self.found(email, Checked::Wrong, |realm, token, profile| {
            let url = realm.admin(&[&profile.id, "credentials"]);
            ask(support::get(url).bearer(token.expose()), |answer, _| {
                let (answer, json) = match support::read(answer) {
                    Ok(read) => read,
                    Err(why) => return support::unavailable(why),
                };
                let Some(credentials) = json.as_array().filter(|_| answer.status == 200) else {
                    return support::unavailable(Unreachable::Unconfigured);
                };
                let otp = |credential: &Value| text(credential, "/type") == Some("otp");
                Next::Done(match credentials.iter().any(otp) {
                    true => Checked::NoPassword,
                    false => Checked::Wrong,
                })
            })
        })
    }

    /// Looks up who has this address, where that is configured, and goes on with them.
    fn found(
        self: Arc<Self>,
        email: Option<String>,
        nobody: Checked,
        then: impl FnOnce(Arc<Self>, Secret, Profile) -> Next<Checked> + Send + 'static,
    ) -> Next<Checked> {
        let (Some(_), Some(email)) = (&self.admin, email) else {
            return Next::Done(nobody);
        };
        self.managed(Checked::Unavailable, move |realm, token| {
            let find = support::get(realm.find(&email)).bearer(token.expose());
            ask(find, move |answer, _| match found(answer, &email) {
                Ok(Some(profile)) => then(realm, token, profile),
                Ok(None) => Next::Done(nobody),
                Err(why) => support::unavailable(why),
            })
        })
    }
}

impl Check for Keycloak {
    /// Thirty wrong passwords in twelve hours lock an account, where that is switched on. Source: server administration guide,
    /// "Password guess: brute force attacks" (Max login failures, Failure reset time).
    fn limit(&self) -> Limit {
        Limit {
            most: 20,
            within: Duration::from_secs(12 * 60 * 60),
        }
    }

    fn check(&self, attempt: &Attempt) -> Box<dyn Dialogue<Checked>> {
        let realm = Arc::clone(&self.0);
        let Some(name) = realm.identifier.choose(attempt) else {
            return support::settled(Checked::Wrong);
        };
        if !support::is_askable(attempt) {
            return support::settled(Checked::Wrong);
        }
        let first = realm.form(
            "token",
            &realm.client,
            &[
                ("grant_type", "password"),
                ("username", &name),
                ("password", attempt.password.expose()),
                ("scope", "openid"),
            ],
        );
        // Believed where `proxy-headers` and `proxy-trusted-addresses` say so.
        let first = first.header("x-forwarded-for", &support::client(attempt.client));
        let email = attempt.email.as_ref().map(|email| email.to_lowercase());
        support::talk(first, move |answer, _| realm.judge(answer, email))
    }

    fn look_up(&self, email: &str) -> Option<Box<dyn Dialogue<Option<LookedUp>>>> {
        self.0.admin.as_ref()?;
        let (realm, email) = (Arc::clone(&self.0), email.to_lowercase());
        Some(support::talk_at(move |_| {
            realm.managed(
                |why| Some(Err(why)),
                move |realm, token| {
                    let find = support::get(realm.find(&email)).bearer(token.expose());
                    ask(find, move |answer, _| {
                        Next::Done(Some(found(answer, &email)))
                    })
                },
            )
        }))
    }

    fn mirror(&self, what: &Mirror) -> Option<Box<dyn Dialogue<Option<Mirrored>>>> {
        self.0.admin.as_ref()?;
        let realm = Arc::clone(&self.0);
        let failed = |why| Some(Err(why));
        let (change, id) = match what {
            Mirror::SignUp { profile, password } => {
                let email = profile.email.as_deref()?;
                let credential = password.as_ref().map(|password| credential(password));
                let credential = credential.as_ref().map(|each| Json::Object(each));
                let mut body = vec![
                    (
                        "username",
                        Json::Text(profile.username.as_deref().unwrap_or(email)),
                    ),
                    ("email", Json::Text(email)),
                    ("emailVerified", Json::Flag(profile.email_verified)),
                    ("enabled", Json::Flag(true)),
                ];
                if let Some(credential) = &credential {
                    body.push(("credentials", Json::List(std::slice::from_ref(credential))));
                }
                (support::post_json(realm.admin(&[]), &body), None)
            }
            Mirror::Password { id, password } => {
                let url = realm.admin(&[id, "reset-password"]);
                let body = credential(password);
                (
                    support::with_json(Method::PUT, url, &body),
                    Some(id.clone()),
                )
            }
            Mirror::Delete { id } => (
                support::request(Method::DELETE, realm.admin(&[id])),
                Some(id.clone()),
            ),
            // Names are kept there in two parts, and one does not say where to part it. Hashes of Better Auth are not taken.
            Mirror::Name { .. } | Mirror::Hash { .. } => return None,
            Mirror::Email {
                id,
                email,
                verified,
            } => {
                return Some(change_email(realm, id.clone(), email.clone(), *verified));
            }
        };
        Some(support::talk_at(move |_| {
            realm.managed(failed, move |_, token| {
                ask(change.bearer(token.expose()), move |answer, _| {
                    Next::Done(created(answer, id))
                })
            })
        }))
    }
}

/// A password that is not to be changed at the next sign-in.
fn credential(password: &Secret) -> [(&str, Json<'_>); 3] {
    [
        ("type", Json::Text("password")),
        ("temporary", Json::Flag(false)),
        ("value", Json::Text(password.expose())),
    ]
}

/// The whole user is read and written back: what is left out of an update counts as removed.
fn change_email(
    realm: Arc<Realm>,
    id: String,
    email: String,
    verified: bool,
) -> Box<dyn Dialogue<Option<Mirrored>>> {
    let failed = |why| Some(Err(why));
    support::talk_at(move |_| {
        realm.managed(failed, move |realm, token| {
            let url = realm.admin(&[&id]);
            let user = support::get(url.clone()).bearer(token.expose());
            ask(user, move |answer, _| {
                let (answer, mut json) = match support::read(answer) {
                    Ok(read) => read,
                    Err(why) => return Next::Done(failed(why)),
                };
                let Some(user) = json.as_object_mut().filter(|_| answer.status == 200) else {
                    return Next::Done(failed(Unreachable::Garbage));
                };
                user.insert("email".to_owned(), Value::String(email));
                user.insert("emailVerified".to_owned(), Value::Bool(verified));
                let body: Vec<(&str, Json<'_>)> = user
                    .iter()
                    .map(|(key, value)| (key.as_str(), Json::Value(value)))
                    .collect();
                let change = support::with_json(Method::PUT, url, &body).bearer(token.expose());
                ask(change, move |answer, _| {
                    Next::Done(created(answer, Some(id)))
                })
            })
        })
    })
}

/// The id of a new user stands at the end of `Location`.
fn created(answer: Result<Answer, Unreachable>, id: Option<String>) -> Option<Mirrored> {
    let from_location = |answer: &Answer| {
        let location = answer.headers.get(http::header::LOCATION)?.to_str().ok()?;
        let id = location.rsplit('/').next()?;
        Some(id.to_owned()).filter(|id| !id.is_empty())
    };
    let id = id.or_else(|| answer.as_ref().ok().and_then(from_location));
    support::mirrored_as(answer, id, "/id")
}

fn claimed(claims: &Value) -> Option<Profile> {
    let (first, last) = (text(claims, "/given_name"), text(claims, "/family_name"));
    let name = text(claims, "/name").map(str::to_owned);
    let email = support::email(claims, "/email");
    let username = text(claims, "/preferred_username");
    Some(Profile {
        id: text(claims, "/sub")?.to_owned(),
        email_verified: support::flag(claims, "/email_verified"),
        name: name.unwrap_or_else(|| support::full_name(first, last)),
        username: username
            .filter(|name| !name.contains('@'))
            .map(str::to_owned),
        email,
        ..Profile::default()
    })
}

fn found(answer: Result<Answer, Unreachable>, email: &str) -> LookedUp {
    let (answer, json) = support::read(answer)?;
    match answer.status {
        200 => {}
        429 => return Err(Unreachable::Refused),
        401 | 403 | 404 => return Err(Unreachable::Unconfigured),
        _ => return Err(Unreachable::Garbage),
    }
    let users = json.as_array().ok_or(Unreachable::Garbage)?;
    let user = users
        .iter()
        .find(|user| support::email(user, "/email").as_deref() == Some(email));
    let Some(user) = user else { return Ok(None) };
    let (first, last) = (text(user, "/firstName"), text(user, "/lastName"));
    let username = text(user, "/username");
    Ok(Some(Profile {
        id: text(user, "/id").ok_or(Unreachable::Garbage)?.to_owned(),
        email: Some(email.to_owned()),
        email_verified: support::flag(user, "/emailVerified"),
        name: support::full_name(first, last),
        username: username
            .filter(|name| !name.contains('@'))
            .map(str::to_owned),
        created_at: support::moment(user, "/createdTimestamp"),
        blocked: user.get("enabled") == Some(&Value::Bool(false)),
        second_factor: support::flag(user, "/totp"),
        ..Profile::default()
    }))
}
