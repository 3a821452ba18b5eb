//! Passwords checked there while it runs.
//!
//! Written after the documentation of the Authentication API ("Resource Owner Password", "Multi-factor authentication", "Revoke refresh
//! token", "Standard error responses") and of the Management API v2 (`users-by-email`, `users`); not tried against a tenant.

use std::net::IpAddr;
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
        "domain",
        "The tenant's domain, or its custom domain: https://TENANT.eu.auth0.com.",
        KeyKind::Text,
    ),
    key(
        "client_id",
        "The application with the grants Password and MFA: the live check needs it.",
        KeyKind::Text,
    ),
    key(
        "client_secret",
        "Its secret: the live check needs it, and Auth0 believes the client's address only of who has one.",
        KeyKind::Secret,
    ),
    key(
        "realm",
        "The database connection. Default: \"Username-Password-Authentication\".",
        KeyKind::Text,
    ),
    key(
        "management_client_id",
        "A machine-to-machine application with read:users (to mirror: create:users, update:users). Without it nobody is looked up, and who has a second factor cannot be checked.",
        KeyKind::Text,
    ),
    key("management_client_secret", "Its secret.", KeyKind::Secret),
    key(
        "management_domain",
        "The tenant's own domain, where `domain` is a custom one. Default: `domain`.",
        KeyKind::Text,
    ),
    support::IDENTIFY_BY,
];

/// Builds the live check from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildCheck> = Some(build);

/// The grant that names a connection.
const PASSWORD_REALM: &str = "http://auth0.com/oauth/grant-type/password-realm";
/// The grant of a code from an authenticator.
const MFA_OTP: &str = "http://auth0.com/oauth/grant-type/mfa-otp";
/// The grant of a recovery code.
const MFA_RECOVERY: &str = "http://auth0.com/oauth/grant-type/mfa-recovery-code";

fn build(fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    let needed = ["domain", "client_id", "client_secret"];
    let own = ["realm", "management_client_id", "management_client_secret"];
    if !support::wanted(fields, &needed, &own)? {
        return Ok(None);
    }
    let domain = support::address(fields, "domain")?;
    let management = match fields.text("management_client_id") {
        Some(id) => Some(Management {
            domain: match fields.text("management_domain") {
                Some(_) => support::address(fields, "management_domain")?,
                None => domain.clone(),
            },
            id: id.clone(),
            secret: fields.required("management_client_secret")?.clone(),
        }),
        None => None,
    };
    let realm = fields.text("realm").map(Secret::expose);
    Ok(Some(Box::new(Auth0(Arc::new(Tenant {
        domain,
        client_id: fields.required("client_id")?.clone(),
        client_secret: fields.required("client_secret")?.clone(),
        realm: realm
            .unwrap_or("Username-Password-Authentication")
            .to_owned(),
        identifier: support::Identifier::of(fields)?,
        management,
    })))))
}

struct Auth0(Arc<Tenant>);

struct Tenant {
    domain: Url,
    client_id: Secret,
    client_secret: Secret,
    realm: String,
    identifier: support::Identifier,
    management: Option<Management>,
}

/// What asks for users and changes them.
#[derive(Clone)]
struct Management {
    domain: Url,
    id: Secret,
    secret: Secret,
}

impl Management {
    fn token(&self) -> Ask {
        let audience = support::below(&self.domain, &["api", "v2", ""]);
        support::post_form(
            support::below(&self.domain, &["oauth", "token"]),
            &[
                ("grant_type", "client_credentials"),
                ("client_id", self.id.expose()),
                ("client_secret", self.secret.expose()),
                ("audience", audience.as_str()),
            ],
        )
    }

    fn find(&self, email: &str) -> Ask {
        let url = support::below(&self.domain, &["api", "v2", "users-by-email"]);
        support::get(support::with_query(url, &[("email", email)]))
    }
}

/// Asks for a token of the management, and goes on with it.
fn managed<T: Send + 'static>(
    management: &Management,
    failed: impl FnOnce(Unreachable) -> T + Send + 'static,
    then: impl FnOnce(&str) -> Next<T> + Send + 'static,
) -> Next<T> {
    ask(management.token(), move |answer, _| {
        match support::read(answer) {
            Err(why) => Next::Done(failed(why)),
            Ok((answer, json)) => match (answer.status, text(&json, "/access_token")) {
                (200, Some(token)) => then(token),
                (429, _) => Next::Done(failed(Unreachable::Refused)),
                _ => Next::Done(failed(Unreachable::Unconfigured)),
            },
        }
    })
}

impl Tenant {
    fn form(&self, parts: &[&str], pairs: &[(&str, &str)]) -> Ask {
        let mut all = vec![
            ("client_id", self.client_id.expose()),
            ("client_secret", self.client_secret.expose()),
        ];
        all.extend_from_slice(pairs);
        support::post_form(support::below(&self.domain, parts), &all)
    }

    fn from(ask: Ask, client: IpAddr) -> Ask {
        ask.header("auth0-forwarded-for", &support::client(client))
    }

    /// The grant makes no session there; a rule of the tenant may still hand out a refresh token.
    fn revoke(&self, refresh: &str) -> Ask {
        self.form(&["oauth", "revoke"], &[("token", refresh)])
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
            let claims = text(&json, "/id_token").and_then(support::claims);
            let Some(profile) = claims.as_ref().and_then(claimed) else {
                return support::unavailable(Unreachable::Garbage);
            };
            let checked = Checked::Right(profile);
            return match text(&json, "/refresh_token") {
                Some(refresh) => ending(checked, self.revoke(refresh), support::is_success),
                None => Next::Done(checked),
            };
        }
        let said = text(&json, "/error_description").unwrap_or_default();
        Next::Done(
            match (answer.status, text(&json, "/error").unwrap_or_default()) {
                (_, "invalid_grant" | "invalid_user_password") => Checked::Wrong,
                (_, "mfa_required") => return self.mfa(&json, email),
                // The account, or this address for it, is blocked after too many attempts; nothing else is meant by this word.
                (_, "too_many_attempts") => Checked::Limited(support::retry_after(&answer, now)),
                (429, _) => Checked::Unavailable(Unreachable::Refused),
                (_, "unauthorized") if said.contains("blocked") => {
                    Checked::Blocked("blocked_there")
                }
                (_, "unauthorized" | "access_denied" | "blocked_user") => {
                    Checked::Blocked("denied_there")
                }
                // Found in a breach: Auth0 lets nobody in with it, and does not say whether it is right.
                (_, "password_leaked" | "password_expired") => Checked::NoPassword,
                (_, "requires_validation" | "requires_verification") => {
                    Checked::Unavailable(Unreachable::Challenge)
                }
                (
                    _,
                    "unauthorized_client"
                    | "invalid_client"
                    | "unsupported_grant_type"
                    | "invalid_request"
                    | "server_error",
                ) => Checked::Unavailable(Unreachable::Unconfigured),
                _ => Checked::Unavailable(Unreachable::Garbage),
            },
        )
    }

    /// The password is right, and the answer does not say whose it is: the management is asked.
    fn mfa(self: Arc<Self>, json: &Value, email: Option<String>) -> Next<Checked> {
        let Some(pending) = text(json, "/mfa_token").map(Secret::new) else {
            return support::unavailable(Unreachable::Garbage);
        };
        let (Some(management), Some(email)) = (self.management.clone(), email) else {
            return Next::Done(Checked::Blocked("second_factor_needs_management"));
        };
        let tenant = Arc::clone(&self);
        managed(&management, Checked::Unavailable, move |token| {
            let Some(management) = &tenant.management else {
                return support::unavailable(Unreachable::Unconfigured);
            };
            let find = management.find(&email).bearer(token);
            ask(find, move |answer, _| {
                Next::Done(match found(answer, &email, &self.realm) {
                    Ok(Some(mut profile)) => {
                        profile.second_factor = true;
                        let pending = Some(pending);
                        Checked::SecondFactor { profile, pending }
                    }
                    Ok(None) => Checked::Blocked("second_factor_of_nobody_known"),
                    Err(why) => Checked::Unavailable(why),
                })
            })
        })
    }
}

impl Check for Auth0 {
    /// Ten wrong passwords in a row block an address for an account there, a hundred a day an address. Source:
    /// auth0.com/docs/secure/attack-protection/brute-force-protection.
    fn limit(&self) -> Limit {
        Limit {
            most: 8,
            within: Duration::from_secs(24 * 60 * 60),
        }
    }

    fn check(&self, attempt: &Attempt) -> Box<dyn Dialogue<Checked>> {
        let tenant = Arc::clone(&self.0);
        let Some(name) = tenant.identifier.choose(attempt) else {
            return support::settled(Checked::Wrong);
        };
        if !support::is_askable(attempt) {
            return support::settled(Checked::Wrong);
        }
        let first = tenant.form(
            &["oauth", "token"],
            &[
                ("grant_type", PASSWORD_REALM),
                ("realm", &tenant.realm),
                ("username", &name),
                ("password", attempt.password.expose()),
                ("scope", "openid profile email"),
            ],
        );
        let first = Tenant::from(first, attempt.client);
        let email = attempt.email.as_ref().map(|email| email.to_lowercase());
        support::talk(first, move |answer, moment| {
            tenant.judge(answer, email, moment.now)
        })
    }

    fn look_up(&self, email: &str) -> Option<Box<dyn Dialogue<Option<LookedUp>>>> {
        let management = self.0.management.clone()?;
        let (realm, email) = (self.0.realm.clone(), email.to_lowercase());
        Some(support::talk_at(move |_| {
            let find = management.find(&email);
            managed(
                &management,
                |why| Some(Err(why)),
                move |token| {
                    ask(find.bearer(token), move |answer, _| {
                        Next::Done(Some(found(answer, &email, &realm)))
                    })
                },
            )
        }))
    }

    fn check_factor(
        &self,
        source_id: &str,
        pending: Option<&Secret>,
        code: &Secret,
    ) -> Option<Box<dyn Dialogue<FactorChecked>>> {
        let pending = pending?;
        let digits = code.expose().trim();
        let is_otp = digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_digit());
        let (grant, name) = if is_otp {
            (MFA_OTP, "otp")
        } else {
            (MFA_RECOVERY, "recovery_code")
        };
        let first = self.0.form(
            &["oauth", "token"],
            &[
                ("grant_type", grant),
                ("mfa_token", pending.expose()),
                (name, digits),
            ],
        );
        let (tenant, source_id) = (Arc::clone(&self.0), source_id.to_owned());
        Some(support::talk(first, move |answer, _| {
            let (answer, json) = match support::read(answer) {
                Ok(read) => read,
                Err(why) => return factor(FactorChecked::Unavailable(why)),
            };
            if answer.status == 200 {
                let claims = text(&json, "/id_token").and_then(support::claims);
                let whose = claims.as_ref().and_then(|claims| text(claims, "/sub"));
                let found = support::theirs(whose, &source_id);
                return match text(&json, "/refresh_token") {
                    Some(refresh) => support::factor_ending(tenant.revoke(refresh), found),
                    None => factor(found),
                };
            }
            factor(
                match (answer.status, text(&json, "/error").unwrap_or_default()) {
                    (_, "invalid_grant" | "expired_token" | "access_denied" | "invalid_token") => {
                        FactorChecked::Wrong
                    }
                    (429, _) => FactorChecked::Unavailable(Unreachable::Refused),
                    (401 | 403, _) => FactorChecked::Unavailable(Unreachable::Unconfigured),
                    _ => FactorChecked::Unavailable(Unreachable::Garbage),
                },
            )
        }))
    }

    fn mirror(&self, what: &Mirror) -> Option<Box<dyn Dialogue<Option<Mirrored>>>> {
        let management = self.0.management.clone()?;
        let users = support::below(&management.domain, &["api", "v2", "users"]);
        let realm = Json::Text(&self.0.realm);
        let (change, id) = match what {
            Mirror::SignUp { profile, password } => {
                let body = [
                    ("connection", realm),
                    ("email", Json::Text(profile.email.as_deref()?)),
                    ("email_verified", Json::Flag(profile.email_verified)),
                    ("verify_email", Json::Flag(false)),
                    // A database connection takes nobody without one.
                    ("password", Json::Text(password.as_ref()?.expose())),
                ];
                (support::post_json(users, &body), None)
            }
            Mirror::Email {
                id,
                email,
                verified,
            } => {
                let body = [
                    ("connection", realm),
                    ("email", Json::Text(email)),
                    ("email_verified", Json::Flag(*verified)),
                    ("verify_email", Json::Flag(false)),
                ];
                let user = support::below(&users, &[id]);
                (
                    support::with_json(Method::PATCH, user, &body),
                    Some(id.clone()),
                )
            }
            Mirror::Password { id, password } => {
                let body = [
                    ("connection", realm),
                    ("password", Json::Text(password.expose())),
                ];
                let user = support::below(&users, &[id]);
                (
                    support::with_json(Method::PATCH, user, &body),
                    Some(id.clone()),
                )
            }
            Mirror::Name { id, name } => {
                let user = support::below(&users, &[id]);
                let body = [("name", Json::Text(name))];
                (
                    support::with_json(Method::PATCH, user, &body),
                    Some(id.clone()),
                )
            }
            Mirror::Delete { id } => {
                let user = support::below(&users, &[id]);
                (support::request(Method::DELETE, user), Some(id.clone()))
            }
            // Hashes of Better Auth are not taken there.
            Mirror::Hash { .. } => return None,
        };
        Some(support::talk_at(move |_| {
            managed(
                &management,
                |why| Some(Err(why)),
                move |token| {
                    ask(change.bearer(token), move |answer, _| {
                        Next::Done(support::mirrored_as(answer, id, "/user_id"))
                    })
                },
            )
        }))
    }
}

/// Auth0 uses the address as a name where there is none.
fn name(json: &Value, email: Option<&str>) -> String {
    let name = text(json, "/name").unwrap_or_default().trim();
    let is_address = email.is_some_and(|email| name.eq_ignore_ascii_case(email));
    if is_address {
        String::new()
    } else {
        name.to_owned()
    }
}

fn claimed(claims: &Value) -> Option<Profile> {
    let email = support::email(claims, "/email");
    Some(Profile {
        id: text(claims, "/sub")?.to_owned(),
        email_verified: support::flag(claims, "/email_verified"),
        name: name(claims, email.as_deref()),
        email,
        image: text(claims, "/picture").map(str::to_owned),
        ..Profile::default()
    })
}

/// The account of this connection among all with this address.
fn found(answer: Result<Answer, Unreachable>, email: &str, realm: &str) -> LookedUp {
    let (answer, json) = support::read(answer)?;
    match answer.status {
        200 => {}
        429 => return Err(Unreachable::Refused),
        401 | 403 => return Err(Unreachable::Unconfigured),
        _ => return Err(Unreachable::Garbage),
    }
    let users = json.as_array().ok_or(Unreachable::Garbage)?;
    let user = users.iter().find(|user| {
        let of_realm = |identity: &Value| text(identity, "/connection") == Some(realm);
        support::email(user, "/email").as_deref() == Some(email)
            && support::list(user, "/identities").iter().any(of_realm)
    });
    let Some(user) = user else { return Ok(None) };
    let phone_verified = support::flag(user, "/phone_verified");
    Ok(Some(Profile {
        id: text(user, "/user_id")
            .ok_or(Unreachable::Garbage)?
            .to_owned(),
        email: Some(email.to_owned()),
        email_verified: support::flag(user, "/email_verified"),
        name: name(user, Some(email)),
        image: text(user, "/picture").map(str::to_owned),
        username: text(user, "/username").map(str::to_owned),
        phone: support::phone(user, "/phone_number").map(|phone| (phone, phone_verified)),
        created_at: support::moment(user, "/created_at"),
        blocked: support::flag(user, "/blocked"),
        second_factor: !support::list(user, "/multifactor").is_empty(),
    }))
}
