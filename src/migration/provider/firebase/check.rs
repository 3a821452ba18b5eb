//! Passwords checked there while it runs. Experimental.
//!
//! Written after the Identity Toolkit REST reference (`accounts:signInWithPassword`, `accounts:lookup`, `accounts:update`,
//! `v2/accounts/mfaSignIn:finalize`) and the error codes the client SDK documents; not tried against a project.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::migration::dialogue::{Answer, Ask, Dialogue, Moment, Unreachable};
use crate::migration::provider::support::{self, Json, Next, ask, factor, key, text};
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
        "api_key",
        "The web API key, without a restriction by referrer: the live check needs it.",
        KeyKind::Secret,
    ),
    key(
        "tenant_id",
        "The tenant, where Identity Platform has several. Default: none.",
        KeyKind::Text,
    ),
    key(
        "service_account",
        "The JSON file of a service account, as { file = \"PATH\" }: users are looked up and changes are mirrored with it. Default: neither is done.",
        KeyKind::Secret,
    ),
    key(
        "identity_toolkit",
        "Where the API is. Default: \"https://identitytoolkit.googleapis.com\".",
        KeyKind::Text,
    ),
];

/// Builds the live check from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildCheck> = Some(build);

/// What a service account asks to be allowed.
const SCOPE: &str = "https://www.googleapis.com/auth/identitytoolkit";

/// How long a signed request for a token is good, in seconds.
const ASSERTION_SECONDS: i64 = 300;

fn build(fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    let own = ["service_account", "identity_toolkit"];
    if !support::wanted(fields, &["api_key"], &own)? {
        return Ok(None);
    }
    let service = match fields.text("service_account") {
        Some(file) => Some(ServiceAccount::read(file)?),
        None => None,
    };
    Ok(Some(Box::new(Firebase(Arc::new(Project {
        api: fields.url("identity_toolkit", "https://identitytoolkit.googleapis.com")?,
        key: fields.required("api_key")?.clone(),
        tenant: fields
            .text("tenant_id")
            .map(|text| text.expose().to_owned()),
        service,
    })))))
}

struct Firebase(Arc<Project>);

struct Project {
    api: Url,
    key: Secret,
    tenant: Option<String>,
    service: Option<ServiceAccount>,
}

/// Who may look users up and change them.
#[derive(Clone)]
struct ServiceAccount {
    project: String,
    email: String,
    token_url: Url,
    key: Arc<jsonwebtoken::EncodingKey>,
}

impl ServiceAccount {
    fn read(file: &Secret) -> Result<Self, String> {
        let wrong = || "`service_account` is not the JSON file of a service account".to_owned();
        let json: Value = serde_json::from_str(file.expose()).map_err(|_| wrong())?;
        let field = |pointer: &str| text(&json, pointer).ok_or_else(wrong);
        let key = jsonwebtoken::EncodingKey::from_rsa_pem(field("/private_key")?.as_bytes());
        let mut fields = Fields::default();
        let token = text(&json, "/token_uri").unwrap_or("https://oauth2.googleapis.com/token");
        let token = crate::migration::provider::Field::Text(Secret::new(token));
        fields.values.insert("token_uri".to_owned(), token);
        Ok(Self {
            project: field("/project_id")?.to_owned(),
            email: field("/client_email")?.to_owned(),
            token_url: fields.url("token_uri", "")?,
            key: Arc::new(key.map_err(|_| wrong())?),
        })
    }

    /// A request for a token. Source: developers.google.com/identity/protocols/oauth2/service-account, "HTTP/REST".
    fn token(&self, moment: Moment<'_>) -> Option<Ask> {
        let now = moment.now.0 / 1000;
        let claims = serde_json::json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.token_url.as_str(),
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
        });
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
        let assertion = jsonwebtoken::encode(&header, &claims, &self.key).ok()?;
        Some(support::post_form(
            self.token_url.clone(),
            &[
                ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                ("assertion", &assertion),
            ],
        ))
    }
}

/// Asks for a token of the service account, and then what `next` says.
fn managed<T: Default + Send + 'static>(
    service: ServiceAccount,
    next: Ask,
    failed: fn(Unreachable) -> T,
    then: impl FnOnce(Result<Answer, Unreachable>) -> T + Send + 'static,
) -> Box<dyn Dialogue<T>> {
    support::talk_at(move |moment| {
        let Some(token) = service.token(moment) else {
            return Next::Done(failed(Unreachable::Unconfigured));
        };
        ask(token, move |answer, _| match support::read(answer) {
            Err(why) => Next::Done(failed(why)),
            Ok((answer, json)) => match (answer.status, text(&json, "/access_token")) {
                (200, Some(token)) => ask(next.bearer(token), |answer, _| Next::Done(then(answer))),
                (429, _) => Next::Done(failed(Unreachable::Refused)),
                _ => Next::Done(failed(Unreachable::Unconfigured)),
            },
        })
    })
}

impl Project {
    /// The address of a question that anybody may ask who has the key.
    fn open(&self, parts: &[&str]) -> Url {
        let url = support::below(&self.api, parts);
        support::with_query(url, &[("key", self.key.expose())])
    }

    fn with_tenant<'a>(&'a self, mut body: Vec<(&'a str, Json<'a>)>) -> Vec<(&'a str, Json<'a>)> {
        if let Some(tenant) = &self.tenant {
            body.push(("tenantId", Json::Text(tenant)));
        }
        body
    }

    /// The address of a question only a service account may ask.
    fn closed(&self, service: &ServiceAccount, what: &str) -> Url {
        match &self.tenant {
            Some(tenant) => support::below(
                &self.api,
                &["v1", "projects", &service.project, "tenants", tenant, what],
            ),
            None => support::below(&self.api, &["v1", "projects", &service.project, what]),
        }
    }
}

impl Check for Firebase {
    /// The number of `TOO_MANY_ATTEMPTS_TRY_LATER` is not published; reports begin at about ten a minute.
    fn limit(&self) -> Limit {
        Limit {
            most: 5,
            within: Duration::from_secs(5 * 60),
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
        let body = self.0.with_tenant(vec![
            ("email", Json::Text(email)),
            ("password", Json::Text(attempt.password.expose())),
            ("returnSecureToken", Json::Flag(true)),
        ]);
        let url = self.0.open(&["v1", "accounts:signInWithPassword"]);
        support::talk(support::post_json(url, &body), |answer, moment| {
            Next::Done(judge(answer, moment.now))
        })
    }

    fn look_up(&self, email: &str) -> Option<Box<dyn Dialogue<Option<LookedUp>>>> {
        let service = self.0.service.clone()?;
        let email = email.to_lowercase();
        let url = self.0.closed(&service, "accounts:lookup");
        let body = [("email", Json::List(&[Json::Text(&email)]))];
        let find = support::post_json(url, &body);
        Some(managed(
            service,
            find,
            |why| Some(Err(why)),
            move |answer| Some(found(answer, &email)),
        ))
    }

    fn check_factor(
        &self,
        source_id: &str,
        pending: Option<&Secret>,
        code: &Secret,
    ) -> Option<Box<dyn Dialogue<FactorChecked>>> {
        let pending: Value = serde_json::from_str(pending?.expose()).ok()?;
        let code = [("verificationCode", Json::Text(code.expose().trim()))];
        let body = self.0.with_tenant(vec![
            (
                "mfaPendingCredential",
                Json::Text(text(&pending, "/credential")?),
            ),
            ("mfaEnrollmentId", Json::Text(text(&pending, "/enrolment")?)),
            ("totpVerificationInfo", Json::Object(&code)),
        ]);
        let url = self.0.open(&["v2", "accounts", "mfaSignIn:finalize"]);
        let source_id = source_id.to_owned();
        Some(support::talk(
            support::post_json(url, &body),
            move |answer, _| {
                let (answer, json) = match support::read(answer) {
                    Ok(read) => read,
                    Err(why) => return factor(FactorChecked::Unavailable(why)),
                };
                if answer.status == 200 {
                    let claims = text(&json, "/idToken").and_then(support::claims);
                    let whose = claims.as_ref().and_then(|claims| text(claims, "/sub"));
                    return factor(support::theirs(whose, &source_id));
                }
                factor(match word(&json) {
                    "INVALID_CODE"
                    | "MISSING_CODE"
                    | "INVALID_VERIFICATION_CODE"
                    | "INVALID_MFA_PENDING_CREDENTIAL"
                    | "INVALID_PENDING_TOKEN"
                    | "MFA_ENROLLMENT_NOT_FOUND"
                    | "TOTP_CHALLENGE_TIMEOUT"
                    | "SESSION_EXPIRED"
                    | "INVALID_SESSION_INFO" => FactorChecked::Wrong,
                    word => FactorChecked::Unavailable(outage(answer.status, word)),
                })
            },
        ))
    }

    fn mirror(&self, what: &Mirror) -> Option<Box<dyn Dialogue<Option<Mirrored>>>> {
        let service = self.0.service.clone()?;
        let (what, id, body) = match what {
            Mirror::SignUp { profile, password } => {
                let mut body = vec![
                    ("email", Json::Text(profile.email.as_deref()?)),
                    ("emailVerified", Json::Flag(profile.email_verified)),
                    ("displayName", Json::Text(&profile.name)),
                ];
                if let Some(password) = password {
                    body.push(("password", Json::Text(password.expose())));
                }
                ("accounts", None, body)
            }
            Mirror::Email {
                id,
                email,
                verified,
            } => {
                let body = vec![
                    ("localId", Json::Text(id)),
                    ("email", Json::Text(email)),
                    ("emailVerified", Json::Flag(*verified)),
                ];
                ("accounts:update", Some(id.clone()), body)
            }
            Mirror::Password { id, password } => {
                let body = vec![
                    ("localId", Json::Text(id)),
                    ("password", Json::Text(password.expose())),
                ];
                ("accounts:update", Some(id.clone()), body)
            }
            Mirror::Name { id, name } => {
                let body = vec![
                    ("localId", Json::Text(id)),
                    ("displayName", Json::Text(name)),
                ];
                ("accounts:update", Some(id.clone()), body)
            }
            Mirror::Delete { id } => {
                let body = vec![("localId", Json::Text(id))];
                ("accounts:delete", Some(id.clone()), body)
            }
            // Hashes of Better Auth are not taken there.
            Mirror::Hash { .. } => return None,
        };
        let change = support::post_json(self.0.closed(&service, what), &body);
        Some(managed(
            service,
            change,
            |why| Some(Err(why)),
            move |answer| support::mirrored_as(answer, id, "/localId"),
        ))
    }
}

/// What an error is called; some say more after a colon.
fn word(json: &Value) -> &str {
    let message = text(json, "/error/message").unwrap_or_default();
    message.split([' ', ':']).next().unwrap_or_default()
}

/// Errors that say nothing about the account.
fn outage(status: u16, word: &str) -> Unreachable {
    match word {
        "CAPTCHA_CHECK_FAILED"
        | "MISSING_RECAPTCHA_TOKEN"
        | "INVALID_RECAPTCHA_TOKEN"
        | "INVALID_RECAPTCHA_ACTION"
        | "MISSING_CLIENT_TYPE"
        | "MISSING_RECAPTCHA_VERSION"
        | "INVALID_RECAPTCHA_VERSION"
        | "RECAPTCHA_NOT_ENABLED"
        | "INVALID_APP_CREDENTIAL"
        | "MISSING_APP_CREDENTIAL"
        | "INVALID_APP_CHECK_TOKEN"
        | "Firebase" => Unreachable::Challenge,
        "QUOTA_EXCEEDED" | "RESOURCE_EXHAUSTED" | "INTERNAL_ERROR" => Unreachable::Refused,
        _ if status == 429 => Unreachable::Refused,
        "OPERATION_NOT_ALLOWED"
        | "PASSWORD_LOGIN_DISABLED"
        | "CONFIGURATION_NOT_FOUND"
        | "PROJECT_NOT_FOUND"
        | "INVALID_TENANT_ID"
        | "TENANT_ID_MISMATCH"
        | "TENANT_NOT_FOUND"
        | "ADMIN_ONLY_OPERATION"
        | "PERMISSION_DENIED"
        | "UNSUPPORTED_TENANT_OPERATION" => Unreachable::Unconfigured,
        // "API key not valid", "Requests from referer <empty> are blocked".
        "API" | "Requests" => Unreachable::Unconfigured,
        _ if matches!(status, 401 | 403 | 404) => Unreachable::Unconfigured,
        _ => Unreachable::Garbage,
    }
}

fn judge(answer: Result<Answer, Unreachable>, now: UnixMs) -> Checked {
    let (answer, json) = match support::read(answer) {
        Ok(read) => read,
        Err(why) => return Checked::Unavailable(why),
    };
    if answer.status == 200 {
        return right(&json);
    }
    match word(&json) {
        // One word for both where addresses are protected from being guessed, two where they are not.
        "INVALID_LOGIN_CREDENTIALS"
        | "INVALID_PASSWORD"
        | "EMAIL_NOT_FOUND"
        | "INVALID_EMAIL"
        | "USER_NOT_FOUND"
        | "MISSING_PASSWORD" => Checked::Wrong,
        "USER_DISABLED" => Checked::Blocked("user_disabled"),
        "BLOCKING_FUNCTION_ERROR_RESPONSE" => Checked::Blocked("denied_by_function"),
        "TOO_MANY_ATTEMPTS_TRY_LATER" => Checked::Limited(support::retry_after(&answer, now)),
        // It may be right, and is below what is asked of one by now: there it must be reset too.
        "PASSWORD_DOES_NOT_MEET_REQUIREMENTS" => Checked::NoPassword,
        word => Checked::Unavailable(outage(answer.status, word)),
    }
}

fn right(json: &Value) -> Checked {
    let claims = text(json, "/idToken").and_then(support::claims);
    let claims = claims.unwrap_or_default();
    // Where both are there they are of one answer; who is signed in is said by the token.
    let id = text(&claims, "/sub").or_else(|| text(json, "/localId"));
    let Some(id) = id.map(str::to_owned) else {
        return Checked::Unavailable(Unreachable::Garbage);
    };
    let name = text(json, "/displayName").or_else(|| text(&claims, "/name"));
    let image = text(json, "/profilePicture").or_else(|| text(&claims, "/picture"));
    let profile = Profile {
        id,
        email: support::email(json, "/email"),
        email_verified: support::flag(&claims, "/email_verified"),
        name: name.unwrap_or_default().trim().to_owned(),
        image: image.map(str::to_owned),
        second_factor: json.get("mfaPendingCredential").is_some(),
        ..Profile::default()
    };
    let Some(credential) = text(json, "/mfaPendingCredential") else {
        return match text(json, "/idToken") {
            Some(_) => Checked::Right(profile),
            None => Checked::Unavailable(Unreachable::Garbage),
        };
    };
    let totp = support::list(json, "/mfaInfo")
        .iter()
        .find(|factor| factor.get("totpInfo").is_some())
        .and_then(|factor| text(factor, "/mfaEnrollmentId"));
    let pending = totp.map(|enrolment| {
        support::json(&[
            ("credential", Json::Text(credential)),
            ("enrolment", Json::Text(enrolment)),
        ])
    });
    Checked::SecondFactor { profile, pending }
}

fn found(answer: Result<Answer, Unreachable>, email: &str) -> LookedUp {
    let (answer, json) = support::read(answer)?;
    if answer.status != 200 {
        return Err(outage(answer.status, word(&json)));
    }
    let user = support::list(&json, "/users")
        .iter()
        .find(|user| support::email(user, "/email").as_deref() == Some(email));
    let Some(user) = user else { return Ok(None) };
    Ok(Some(Profile {
        id: text(user, "/localId")
            .ok_or(Unreachable::Garbage)?
            .to_owned(),
        email: Some(email.to_owned()),
        email_verified: support::flag(user, "/emailVerified"),
        name: text(user, "/displayName")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        image: text(user, "/photoUrl").map(str::to_owned),
        username: None,
        // A number is only there once it was verified.
        phone: support::phone(user, "/phoneNumber").map(|phone| (phone, true)),
        created_at: support::moment(user, "/createdAt"),
        blocked: support::flag(user, "/disabled"),
        second_factor: !support::list(user, "/mfaInfo").is_empty(),
    }))
}
