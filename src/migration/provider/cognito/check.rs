//! Passwords checked there while it runs.
//!
//! Written after the Amazon Cognito user pools API reference (`InitiateAuth`, `RespondToAuthChallenge`, `RevokeToken`), developer guide
//! ("Authentication flows", "Computing secret hash values", "Quotas"); not tried against a pool.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use serde_json::Value;
use sha2::Sha256;
use url::Url;

use super::srp;
use crate::migration::dialogue::{Answer, Ask, Dialogue, Unreachable};
use crate::migration::provider::support::{self, Json, Next, ask, ending, factor, key, text};
use crate::migration::provider::{
    Attempt, BuildCheck, Check, Checked, FactorChecked, Fields, Key, KeyKind, Limit, Profile,
};
use crate::secret::Secret;
use crate::time::UnixMs;

/// The keys of the live check.
pub(super) const KEYS: &[Key] = &[
    support::CHECK,
    key(
        "user_pool_id",
        "The user pool: REGION_NAME. The live check needs it.",
        KeyKind::Text,
    ),
    key(
        "client_id",
        "An app client of the pool: the live check needs it.",
        KeyKind::Text,
    ),
    key(
        "client_secret",
        "Its secret, where it has one.",
        KeyKind::Secret,
    ),
    key(
        "flow",
        "\"srp\": the password is proved and not sent (ALLOW_USER_SRP_AUTH); \"password\": it is sent (ALLOW_USER_PASSWORD_AUTH, off by default there). Default: \"srp\".",
        KeyKind::Text,
    ),
    key(
        "forward_client",
        "Whether the client's address is told: for clients with a secret and EnablePropagateAdditionalUserContextData. Default: false.",
        KeyKind::Flag,
    ),
    key(
        "endpoint",
        "Where the API is. Default: \"https://cognito-idp.REGION.amazonaws.com\".",
        KeyKind::Text,
    ),
    support::IDENTIFY_BY,
];

/// Builds the live check from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildCheck> = Some(build);

fn build(fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    if !support::wanted(
        fields,
        &["user_pool_id", "client_id"],
        &["flow", "endpoint"],
    )? {
        return Ok(None);
    }
    let pool = fields.required("user_pool_id")?.expose();
    let (region, name) = pool
        .split_once('_')
        .filter(|(region, name)| is_region(region) && !name.is_empty())
        .ok_or("`user_pool_id` is REGION_NAME, as in eu-west-1_AbCdEfGhI")?;
    let flow = match fields.text("flow").map(Secret::expose) {
        None | Some("srp") => Flow::Srp,
        Some("password") => Flow::Password,
        Some(_) => return Err("`flow` is \"srp\" or \"password\"".to_owned()),
    };
    let default = format!("https://cognito-idp.{region}.amazonaws.com");
    Ok(Some(Box::new(Cognito(Arc::new(Pool {
        endpoint: fields.url("endpoint", &default)?,
        name: name.to_owned(),
        client_id: fields.required("client_id")?.clone(),
        client_secret: fields.text("client_secret").cloned(),
        flow,
        forward_client: fields.flag("forward_client", false),
        identifier: support::Identifier::of(fields)?,
    })))))
}

fn is_region(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// How a password is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Srp,
    Password,
}

struct Cognito(Arc<Pool>);

struct Pool {
    endpoint: Url,
    /// The id after the underscore.
    name: String,
    client_id: Secret,
    client_secret: Option<Secret>,
    flow: Flow,
    forward_client: bool,
    identifier: support::Identifier,
}

impl Pool {
    fn call(&self, what: &str, body: &[(&str, Json<'_>)]) -> Ask {
        let mut ask = support::post_json(self.endpoint.clone(), body);
        let amazon_json = HeaderValue::from_static("application/x-amz-json-1.1");
        ask.headers.insert(http::header::CONTENT_TYPE, amazon_json);
        ask.header(
            "x-amz-target",
            &format!("AWSCognitoIdentityProviderService.{what}"),
        )
    }

    /// What proves, beside the user's name, that the client knows its secret.
    fn hash(&self, user: &str) -> Option<String> {
        let secret = self.client_secret.as_ref()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).ok()?;
        mac.update(user.as_bytes());
        mac.update(self.client_id.expose().as_bytes());
        Some(STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn initiate(&self, flow: &str, parameters: &[(&str, Json<'_>)], client: IpAddr) -> Ask {
        let address = support::client(client);
        let context = [("IpAddress", Json::Text(&address))];
        let mut body = vec![
            ("AuthFlow", Json::Text(flow)),
            ("ClientId", Json::Text(self.client_id.expose())),
            ("AuthParameters", Json::Object(parameters)),
        ];
        if self.forward_client {
            body.push(("UserContextData", Json::Object(&context)));
        }
        self.call("InitiateAuth", &body)
    }

    fn respond(
        &self,
        challenge: &str,
        session: Option<&str>,
        user: &str,
        with: &[(&str, &str)],
    ) -> Ask {
        let hash = self.hash(user);
        let mut responses = vec![("USERNAME", Json::Text(user))];
        responses.extend(with.iter().map(|(name, value)| (*name, Json::Text(value))));
        if let Some(hash) = &hash {
            responses.push(("SECRET_HASH", Json::Text(hash)));
        }
        let mut body = vec![
            ("ChallengeName", Json::Text(challenge)),
            ("ClientId", Json::Text(self.client_id.expose())),
            ("ChallengeResponses", Json::Object(&responses)),
        ];
        if let Some(session) = session {
            body.push(("Session", Json::Text(session)));
        }
        self.call("RespondToAuthChallenge", &body)
    }

    /// Ends what this refresh token stands for, and nothing else: `GlobalSignOut` would end everything the user has there.
    fn revoke(&self, refresh: &str) -> Ask {
        let mut body = vec![
            ("Token", Json::Text(refresh)),
            ("ClientId", Json::Text(self.client_id.expose())),
        ];
        if let Some(secret) = &self.client_secret {
            body.push(("ClientSecret", Json::Text(secret.expose())));
        }
        self.call("RevokeToken", &body)
    }

    /// Makes of the answer to a password, or to the proof of one, what it means.
    fn judge(&self, answer: Result<Answer, Unreachable>, now: UnixMs) -> Next<Checked> {
        let (answer, json) = match support::read(answer) {
            Ok(read) => read,
            Err(why) => return support::unavailable(why),
        };
        if answer.status != 200 {
            return Next::Done(refused(&answer, &json, now));
        }
        if let Some(challenge) = text(&json, "/ChallengeName") {
            return Next::Done(challenged(challenge, &json));
        }
        let claims = text(&json, "/AuthenticationResult/IdToken").and_then(support::claims);
        let Some(profile) = claims.as_ref().and_then(claimed) else {
            return support::unavailable(Unreachable::Garbage);
        };
        let checked = Checked::Right(profile);
        match text(&json, "/AuthenticationResult/RefreshToken") {
            Some(refresh) => ending(checked, self.revoke(refresh), support::is_success),
            None => Next::Done(checked),
        }
    }

    /// Proves the password.
    fn prove(
        self: Arc<Self>,
        answer: Result<Answer, Unreachable>,
        client: &srp::Client,
        password: &Secret,
        now: UnixMs,
    ) -> Next<Checked> {
        let (answer, json) = match support::read(answer) {
            Ok(read) => read,
            Err(why) => return support::unavailable(why),
        };
        if answer.status != 200 {
            return Next::Done(refused(&answer, &json, now));
        }
        if text(&json, "/ChallengeName") != Some("PASSWORD_VERIFIER") {
            return support::unavailable(Unreachable::Garbage);
        }
        let parameter = |name: &str| text(&json, &format!("/ChallengeParameters/{name}"));
        let (Some(user), Some(public), Some(salt), Some(block)) = (
            parameter("USER_ID_FOR_SRP"),
            parameter("SRP_B"),
            parameter("SALT"),
            parameter("SECRET_BLOCK"),
        ) else {
            return support::unavailable(Unreachable::Garbage);
        };
        let challenge = srp::Challenge {
            pool: &self.name,
            user,
            public,
            salt,
            block,
        };
        let Some(proof) = client.prove(&challenge, password, now) else {
            return support::unavailable(Unreachable::Garbage);
        };
        let respond = self.respond(
            "PASSWORD_VERIFIER",
            text(&json, "/Session"),
            user,
            &[
                ("PASSWORD_CLAIM_SECRET_BLOCK", block),
                ("PASSWORD_CLAIM_SIGNATURE", &proof.signature),
                ("TIMESTAMP", &proof.timestamp),
            ],
        );
        ask(respond, move |answer, moment| {
            self.judge(answer, moment.now)
        })
    }

    /// Makes of the answer to a code what it means.
    fn judge_code(
        &self,
        answer: Result<Answer, Unreachable>,
        source_id: &str,
    ) -> Next<FactorChecked> {
        let (answer, json) = match support::read(answer) {
            Ok(read) => read,
            Err(why) => return factor(FactorChecked::Unavailable(why)),
        };
        if answer.status != 200 {
            return factor(refused_code(&answer, &json));
        }
        let claims = text(&json, "/AuthenticationResult/IdToken").and_then(support::claims);
        let whose = claims.as_ref().and_then(|claims| text(claims, "/sub"));
        let found = support::theirs(whose, source_id);
        match text(&json, "/AuthenticationResult/RefreshToken") {
            Some(refresh) => support::factor_ending(self.revoke(refresh), found),
            None => factor(found),
        }
    }
}

impl Check for Cognito {
    /// The fifth wrong password locks an account, for a second at first and a quarter of an hour at last. Source: developer guide,
    /// "Lockout behavior".
    fn limit(&self) -> Limit {
        Limit {
            most: 4,
            within: Duration::from_secs(15 * 60),
        }
    }

    fn check(&self, attempt: &Attempt) -> Box<dyn Dialogue<Checked>> {
        let pool = Arc::clone(&self.0);
        let Some(user) = pool.identifier.choose(attempt) else {
            return support::settled(Checked::Wrong);
        };
        if !support::is_askable(attempt) {
            return support::settled(Checked::Wrong);
        }
        let (password, address) = (attempt.password.clone(), attempt.client);
        let hash = pool.hash(&user);
        if pool.flow == Flow::Password {
            let mut parameters = vec![
                ("USERNAME", Json::Text(&user)),
                ("PASSWORD", Json::Text(password.expose())),
            ];
            if let Some(hash) = &hash {
                parameters.push(("SECRET_HASH", Json::Text(hash)));
            }
            let first = pool.initiate("USER_PASSWORD_AUTH", &parameters, address);
            return support::talk(first, move |answer, moment| pool.judge(answer, moment.now));
        }
        support::talk_at(move |moment| {
            let client = srp::Client::new(moment.random);
            let public = client.public();
            let mut parameters = vec![
                ("USERNAME", Json::Text(&user)),
                ("SRP_A", Json::Text(&public)),
            ];
            if let Some(hash) = &hash {
                parameters.push(("SECRET_HASH", Json::Text(hash)));
            }
            let first = pool.initiate("USER_SRP_AUTH", &parameters, address);
            ask(first, move |answer, moment| {
                pool.prove(answer, &client, &password, moment.now)
            })
        })
    }

    fn check_factor(
        &self,
        source_id: &str,
        pending: Option<&Secret>,
        code: &Secret,
    ) -> Option<Box<dyn Dialogue<FactorChecked>>> {
        let pending: Value = serde_json::from_str(pending?.expose()).ok()?;
        let user = text(&pending, "/user")?.to_owned();
        let session = text(&pending, "/session")?;
        let (pool, source_id) = (Arc::clone(&self.0), source_id.to_owned());
        let code = Secret::new(code.expose().trim());
        if !support::flag(&pending, "/choose") {
            let with = [("SOFTWARE_TOKEN_MFA_CODE", code.expose())];
            let respond = pool.respond("SOFTWARE_TOKEN_MFA", Some(session), &user, &with);
            return Some(support::talk(respond, move |answer, _| {
                pool.judge_code(answer, &source_id)
            }));
        }
        let with = [("ANSWER", "SOFTWARE_TOKEN_MFA")];
        let choose = pool.respond("SELECT_MFA_TYPE", Some(session), &user, &with);
        Some(support::talk(choose, move |answer, _| {
            let (answer, json) = match support::read(answer) {
                Ok(read) => read,
                Err(why) => return factor(FactorChecked::Unavailable(why)),
            };
            if answer.status != 200 {
                return factor(refused_code(&answer, &json));
            }
            let with = [("SOFTWARE_TOKEN_MFA_CODE", code.expose())];
            let session = text(&json, "/Session");
            let respond = pool.respond("SOFTWARE_TOKEN_MFA", session, &user, &with);
            ask(respond, move |answer, _| {
                pool.judge_code(answer, &source_id)
            })
        }))
    }
}

/// What an error is called: `__type`, which may have a name before `#`, or a header with one after `:`.
fn word<'a>(answer: &'a Answer, json: &'a Value) -> &'a str {
    let header = || answer.headers.get("x-amzn-errortype")?.to_str().ok();
    let whole = text(json, "/__type").or_else(header).unwrap_or_default();
    let whole = whole.split(':').next().unwrap_or_default();
    whole.rsplit('#').next().unwrap_or_default()
}

/// Errors that say nothing about the account.
fn outage(word: &str) -> Unreachable {
    match word {
        "TooManyRequestsException"
        | "LimitExceededException"
        | "ThrottlingException"
        | "InternalErrorException"
        | "ServiceUnavailableException" => Unreachable::Refused,
        // Of the firewall before the pool.
        "ForbiddenException" => Unreachable::Challenge,
        "ResourceNotFoundException"
        | "InvalidParameterException"
        | "InvalidUserPoolConfigurationException"
        | "InvalidLambdaResponseException"
        | "UnexpectedLambdaException"
        | "UserPoolAddOnNotEnabledException"
        | "UnsupportedOperationException"
        | "OperationNotEnabledException" => Unreachable::Unconfigured,
        _ => Unreachable::Garbage,
    }
}

fn refused(answer: &Answer, json: &Value, now: UnixMs) -> Checked {
    let said = text(json, "/message").or_else(|| text(json, "/Message"));
    let said = said.unwrap_or_default();
    match word(answer, json) {
        "UserNotFoundException" => Checked::Wrong,
        // One word for what only the text tells apart.
        "NotAuthorizedException" => match said {
            said if said.starts_with("Incorrect username or password") => Checked::Wrong,
            said if said.starts_with("Password attempts exceeded") => {
                Checked::Limited(support::retry_after(answer, now))
            }
            said if said.starts_with("User is disabled") => Checked::Blocked("user_disabled"),
            said if said.starts_with("Temporary password has expired") => Checked::NoPassword,
            said if said.contains("ecret hash")
                || said.contains("SECRET_HASH")
                || said.starts_with("Client ") =>
            {
                Checked::Unavailable(Unreachable::Unconfigured)
            }
            _ => Checked::Blocked("not_authorized"),
        },
        // An operator there asked for a new password: nothing is said about this one.
        "PasswordResetRequiredException" => Checked::NoPassword,
        // The password is right then, and the answer does not say whose it is.
        "UserNotConfirmedException" => Checked::Blocked("user_not_confirmed"),
        "UserLambdaValidationException" => Checked::Blocked("denied_by_trigger"),
        // Beside a flow that is switched off: names and passwords that no account could have.
        "InvalidParameterException"
            if !said.contains("not enabled") && !said.contains("SECRET_HASH") =>
        {
            Checked::Wrong
        }
        _ if answer.status == 429 => Checked::Unavailable(Unreachable::Refused),
        word => Checked::Unavailable(outage(word)),
    }
}

fn refused_code(answer: &Answer, json: &Value) -> FactorChecked {
    match word(answer, json) {
        // The session of the challenge is over, or was used: whoever types the code signs in again.
        "CodeMismatchException"
        | "ExpiredCodeException"
        | "NotAuthorizedException"
        | "EnableSoftwareTokenMFAException"
        | "SoftwareTokenMFANotFoundException" => FactorChecked::Wrong,
        _ if answer.status == 429 => FactorChecked::Unavailable(Unreachable::Refused),
        word => FactorChecked::Unavailable(outage(word)),
    }
}

/// The password is right, and something is to follow.
fn challenged(challenge: &str, json: &Value) -> Checked {
    let user = text(json, "/ChallengeParameters/USER_ID_FOR_SRP");
    // Where people sign in with an address, the user's name is the `sub`. A name of their own does not say who they are elsewhere.
    let known = user.filter(|user| uuid::Uuid::try_parse(user).is_ok());
    let profile = known.map(|user| Profile {
        id: user.to_owned(),
        second_factor: challenge != "NEW_PASSWORD_REQUIRED" && challenge != "MFA_SETUP",
        ..Profile::default()
    });
    let Some(profile) = profile else {
        return match challenge {
            "NEW_PASSWORD_REQUIRED" => Checked::NoPassword,
            _ => Checked::Blocked("challenge_without_subject"),
        };
    };
    let choices = text(json, "/ChallengeParameters/MFAS_CAN_CHOOSE").unwrap_or_default();
    let choose = match challenge {
        "NEW_PASSWORD_REQUIRED" => return Checked::RightBut(profile, "must_change_password"),
        "MFA_SETUP" => return Checked::RightBut(profile, "must_enrol_second_factor"),
        "SOFTWARE_TOKEN_MFA" => false,
        "SELECT_MFA_TYPE" if choices.contains("SOFTWARE_TOKEN_MFA") => true,
        "SELECT_MFA_TYPE" | "SMS_MFA" | "EMAIL_OTP" | "SMS_OTP" => {
            let pending = None;
            return Checked::SecondFactor { profile, pending };
        }
        _ => return Checked::Blocked("unknown_challenge"),
    };
    let pending = match (user, text(json, "/Session")) {
        (Some(user), Some(session)) => Some(support::json(&[
            ("user", Json::Text(user)),
            ("session", Json::Text(session)),
            ("choose", Json::Flag(choose)),
        ])),
        _ => None,
    };
    Checked::SecondFactor { profile, pending }
}

fn claimed(claims: &Value) -> Option<Profile> {
    let (first, last) = (text(claims, "/given_name"), text(claims, "/family_name"));
    let name = text(claims, "/name").map(str::to_owned);
    let phone_verified = support::flag(claims, "/phone_number_verified");
    let username = text(claims, "/cognito:username");
    Some(Profile {
        id: text(claims, "/sub")?.to_owned(),
        email: support::email(claims, "/email"),
        email_verified: support::flag(claims, "/email_verified"),
        name: name.unwrap_or_else(|| support::full_name(first, last)),
        image: text(claims, "/picture").map(str::to_owned),
        username: username
            .filter(|name| uuid::Uuid::try_parse(name).is_err() && !name.contains('@'))
            .map(str::to_owned),
        phone: support::phone(claims, "/phone_number").map(|phone| (phone, phone_verified)),
        ..Profile::default()
    })
}
