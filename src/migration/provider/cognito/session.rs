//! Its live sessions.
//!
//! Source: AWS documentation of user-pool tokens; aws-amplify 6, packages/auth, tokenProvider: one cookie for each token, with the client
//! and the user in its name, and `LastAuthUser` saying whose counts.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::migration::dialogue::{Moment, Unreachable};
use crate::migration::provider::reading::token::{self, Claims, Keys};
use crate::migration::provider::reading::{
    self, Outcome, Reader, alive, cookie, key, outside, unavailable, with_answer,
};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "issuer",
        KeyKind::Text,
        "The pool, `https://cognito-idp.REGION.amazonaws.com/POOL_ID`. Needed to take sessions over.",
    ),
    key(
        "refresh",
        KeyKind::Flag,
        "Whether an expired session is proved by its refresh token, which lasts unless the pool rotates them. Default: `false`.",
    ),
    token::JWKS_URL,
    token::JWKS,
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

const SKEW: Duration = Duration::from_secs(5);

struct Cognito {
    issuer: [String; 1],
    client: [String; 1],
    /// What the client's cookies begin with.
    prefix: String,
    keys: Keys,
    refresh: Option<(url::Url, Option<Secret>)>,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    if !reading::any(fields, &["issuer", "refresh", "jwks", "jwks_url"]) {
        return match fields.values.is_empty() {
            true => Err("`issuer` is missing".into()),
            false => Ok(None),
        };
    }
    let issuer = fields.required("issuer")?.expose().to_owned();
    let client = fields.required("client_id")?.expose().to_owned();
    let refresh = match fields.flag("refresh", false) {
        true => {
            let mut url = fields.url("issuer", "")?;
            url.set_path("/");
            Some((url, fields.text("client_secret").cloned()))
        }
        false => None,
    };
    let published = format!("{issuer}/.well-known/jwks.json");
    Ok(reading::boxed(Cognito {
        keys: Keys::configured(fields, &published)?,
        prefix: format!("CognitoIdentityServiceProvider.{client}."),
        issuer: [issuer],
        client: [client],
        refresh,
    }))
}

/// What a request brings.
struct Brought {
    token: Secret,
    /// The other token, which must be the same user's.
    other: Option<Secret>,
    refresh: Option<Secret>,
}

impl Reader for Cognito {
    type Found = Brought;

    fn concerns(&self, cookie: &[u8]) -> bool {
        cookie
            .strip_prefix(self.prefix.as_bytes())
            .is_some_and(|rest| rest.ends_with(b".accessToken") || rest.ends_with(b".idToken"))
    }

    fn leaves_with(&self, cookie: &[u8]) -> bool {
        cookie.starts_with(self.prefix.as_bytes())
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Brought>, Refusal> {
        let headers = match presented {
            Presented::Cookies(headers) => headers,
            Presented::Bearer(token) => {
                return Ok(Some(Brought {
                    token: Secret::new(*token),
                    other: None,
                    refresh: None,
                }));
            }
        };
        let Some(user) = self.user(headers)? else {
            return Ok(None);
        };
        let read = |what: &str| -> Result<Option<Secret>, Refusal> {
            let name = format!("{}{user}.{what}", self.prefix);
            Ok(cookie::one(headers, &name)?.map(Secret::new))
        };
        let (access, id) = (read("accessToken")?, read("idToken")?);
        let (token, other) = match (access, id) {
            (Some(access), id) => (access, id),
            (None, Some(id)) => (id, None),
            (None, None) => return Ok(None),
        };
        Ok(Some(Brought {
            token,
            other,
            refresh: read("refreshToken")?,
        }))
    }

    fn begin(self: Arc<Self>, found: Brought, moment: Moment<'_>) -> Outcome {
        let Brought {
            token,
            other,
            refresh,
        } = found;
        let reader = Arc::clone(&self);
        self.keys
            .check(token, token::RS256, moment, move |claims, moment| {
                let Some(other) = other else {
                    return reader.weigh(&claims, None, refresh, moment);
                };
                let inner = Arc::clone(&reader);
                reader
                    .keys
                    .check(other, token::RS256, moment, move |second, moment| {
                        inner.weigh(&claims, Some(&second), refresh, moment)
                    })
            })
    }
}

impl Cognito {
    /// Whose cookies count, as they are spelled in names: the last user's, or the only one's.
    fn user(&self, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
        let last = cookie::one(headers, &format!("{}LastAuthUser", self.prefix))?;
        let mut users: Vec<String> = Vec::new();
        for (name, _) in crate::credential::cookies::pairs(headers) {
            let Some(rest) = name.strip_prefix(self.prefix.as_bytes()) else {
                continue;
            };
            let user = [".accessToken", ".idToken"]
                .iter()
                .find_map(|end| rest.strip_suffix(end.as_bytes()));
            let Some(user) = user.and_then(|user| std::str::from_utf8(user).ok()) else {
                continue;
            };
            if !users.iter().any(|known| known == user) {
                users.push(user.to_owned());
            }
        }
        let decoded = |user: &String| {
            let plain = crate::credential::cookies::decode_escapes(user.as_bytes());
            String::from_utf8_lossy(&plain).into_owned()
        };
        match last {
            Some(last) => Ok(users
                .into_iter()
                .find(|user| *user == last || decoded(user) == last)),
            None if users.len() > 1 => Err(Refusal::Ambiguous),
            None => Ok(users.pop()),
        }
    }

    /// Holds one token to the pool and the client, by its use.
    fn hold(&self, claims: &Claims) -> Result<(), Refusal> {
        claims.issued_by(&self.issuer)?;
        let ours = match claims.text("token_use") {
            Some("access") => claims.text("client_id") == Some(&self.client[0]),
            Some("id") => claims.is_for(&self.client),
            _ => return Err(Refusal::NotASessionToken),
        };
        match ours {
            true => Ok(()),
            false => Err(Refusal::BadAudience),
        }
    }

    fn weigh(
        &self,
        claims: &Claims,
        second: Option<&Claims>,
        refresh: Option<Secret>,
        moment: Moment<'_>,
    ) -> Outcome {
        self.hold(claims)?;
        let subject = claims.subject()?;
        if let Some(second) = second {
            self.hold(second)?;
            if second.text("sub") != Some(&subject) {
                return Err(Refusal::SubjectMismatch);
            }
        }
        let begun = claims.moment("auth_time").or(claims.moment("iat"));
        // The same for every token of one sign-in.
        let session = match claims.id("origin_jti") {
            Some(id) => id.to_owned(),
            None => {
                let since = begun.ok_or(Refusal::NotASessionToken)?;
                format!("{subject}:{}", since.0)
            }
        };
        let username = claims.text("username").or(claims.text("cognito:username"));
        let username = username.map(str::to_owned);
        let email = second.unwrap_or(claims).text("email");
        let found = OldSession {
            session: Secret::new(session),
            subject: Subject::Source(subject.clone()),
            authenticated_at: claims.signed_in(),
            second_factor: claims.second_factor(),
            email: email.and_then(reading::address),
            ..OldSession::default()
        };
        match claims.in_time(moment.now, SKEW) {
            Ok(()) => alive(found),
            Err(Refusal::Expired) => match (&self.refresh, refresh, username) {
                (Some((url, secret)), Some(token), Some(username)) => {
                    let client = &self.client[0];
                    let ask = self.ask(url, secret.as_ref(), client, &username, &token);
                    self.renew(ask, found, subject)
                }
                _ => Err(Refusal::Expired),
            },
            Err(refusal) => Err(refusal),
        }
    }

    fn ask(
        &self,
        url: &url::Url,
        secret: Option<&Secret>,
        client: &str,
        username: &str,
        token: &Secret,
    ) -> crate::migration::dialogue::Ask {
        let mut parameters = json!({ "REFRESH_TOKEN": token.expose() });
        let mac = secret
            .and_then(|secret| <Hmac<Sha256>>::new_from_slice(secret.expose().as_bytes()).ok());
        if let (Some(mut mac), Some(map)) = (mac, parameters.as_object_mut()) {
            mac.update(username.as_bytes());
            mac.update(client.as_bytes());
            let hash = STANDARD.encode(mac.finalize().into_bytes());
            map.insert("SECRET_HASH".to_owned(), Value::String(hash));
        }
        let body = json!({
            "AuthFlow": "REFRESH_TOKEN_AUTH",
            "ClientId": client,
            "AuthParameters": parameters,
        });
        let mut ask = outside::post(url.clone(), &body);
        let kind = HeaderValue::from_static("application/x-amz-json-1.1");
        ask.headers.insert(http::header::CONTENT_TYPE, kind);
        ask.headers.insert(
            HeaderName::from_static("x-amz-target"),
            HeaderValue::from_static("AWSCognitoIdentityProviderService.InitiateAuth"),
        );
        ask
    }

    /// A new token shows that the session lives, when it is the same user's.
    fn renew(
        &self,
        ask: crate::migration::dialogue::Ask,
        found: OldSession,
        subject: String,
    ) -> Outcome {
        let (keys, issuer) = (self.keys.clone(), self.issuer.clone());
        with_answer(ask, move |answer, moment| {
            let body = answer.json().unwrap_or_default();
            if answer.status != 200 {
                let kind = body
                    .get("__type")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                return match kind.rsplit('#').next() {
                    Some("NotAuthorizedException" | "UserNotFoundException") => {
                        Err(Refusal::UnknownSession)
                    }
                    _ => unavailable(Unreachable::Refused),
                };
            }
            let token = reading::at(&body, "AuthenticationResult.AccessToken");
            let Some(token) = token.and_then(Value::as_str) else {
                return unavailable(Unreachable::Garbage);
            };
            let token = Secret::new(token);
            keys.check(token, token::RS256, moment, move |claims, _| {
                claims.issued_by(&issuer)?;
                match claims.text("sub") == Some(&subject) {
                    true => alive(found),
                    false => Err(Refusal::SubjectMismatch),
                }
            })
        })
    }
}
