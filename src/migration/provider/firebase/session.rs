//! Its live sessions.
//!
//! Source: firebase-admin-node 12, src/auth/token-verifier.ts; Identity Toolkit v1, `sessionCookiePublicKeys`. Session cookies and ID
//! tokens are told apart by their issuer, and only what the operator accepts counts.

use std::sync::Arc;
use std::time::Duration;

use crate::migration::dialogue::Moment;
use crate::migration::provider::reading::token::{self, Claims, Keys};
use crate::migration::provider::reading::{self, Outcome, Reader, alive, cookie, key};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "project_id",
        KeyKind::Text,
        "The project's id: issuer and audience of its tokens. Needed to take sessions over.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "The session cookie's name. Default: `__session`.",
    ),
    key(
        "accepted",
        KeyKind::Texts,
        "What counts: `session-cookie` (cookies), `id-token` (bearers handed to the bridge). Default: both.",
    ),
    key(
        "id_token_jwks_url",
        KeyKind::Text,
        "Where the keys of ID tokens are published. Default: where Google documents them.",
    ),
    token::JWKS_URL,
    token::JWKS,
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

const COOKIE_KEYS: &str = "https://identitytoolkit.googleapis.com/v1/sessionCookiePublicKeys";
const ID_TOKEN_KEYS: &str =
    "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com";

/// Longest user id there is.
const SUBJECT_BYTES_MAX: usize = 128;

struct Firebase {
    cookie: String,
    project: [String; 1],
    cookies: Option<Accepted>,
    id_tokens: Option<Accepted>,
}

/// One kind of token, as far as it is accepted.
struct Accepted {
    issuer: [String; 1],
    keys: Keys,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    let own = [
        "project_id",
        "cookie_name",
        "accepted",
        "id_token_jwks_url",
        "jwks",
        "jwks_url",
    ];
    if !reading::any(fields, &own) {
        return match fields.values.is_empty() {
            true => Err("`project_id` is missing".into()),
            false => Ok(None),
        };
    }
    let project = fields.required("project_id")?.expose();
    let accepted = reading::texts(fields, "accepted", &["session-cookie", "id-token"]);
    let known = |word: &String| word == "session-cookie" || word == "id-token";
    if !accepted.iter().all(known) {
        return Err("`accepted` may hold `session-cookie` and `id-token`".into());
    }
    let takes = |word: &str| accepted.iter().any(|each| each == word);
    let cookies = takes("session-cookie").then(|| {
        Keys::configured(fields, COOKIE_KEYS).map(|keys| Accepted {
            issuer: [format!("https://session.firebase.google.com/{project}")],
            keys,
        })
    });
    let id_tokens = takes("id-token").then(|| {
        let keys = match fields.text("jwks") {
            Some(_) => Keys::configured(fields, "")?,
            None => Keys::Published(fields.url("id_token_jwks_url", ID_TOKEN_KEYS)?),
        };
        Ok::<_, String>(Accepted {
            issuer: [format!("https://securetoken.google.com/{project}")],
            keys,
        })
    });
    Ok(reading::boxed(Firebase {
        cookie: reading::text(fields, "cookie_name", "__session"),
        project: [project.to_owned()],
        cookies: cookies.transpose()?,
        id_tokens: id_tokens.transpose()?,
    }))
}

impl Reader for Firebase {
    /// The token, and whether it is a cookie.
    type Found = (Secret, bool);

    fn concerns(&self, cookie: &[u8]) -> bool {
        self.cookies.is_some() && cookie == self.cookie.as_bytes()
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<(Secret, bool)>, Refusal> {
        match presented {
            Presented::Bearer(token) => Ok(Some((Secret::new(*token), false))),
            Presented::Cookies(headers) => {
                let found = cookie::one(headers, &self.cookie)?;
                // Auth0's cookie of the same name has five parts.
                let found = found.filter(|token| token::has_shape(token));
                Ok(found.map(|token| (Secret::new(token), true)))
            }
        }
    }

    fn begin(self: Arc<Self>, found: (Secret, bool), moment: Moment<'_>) -> Outcome {
        let (token, is_cookie) = found;
        let reader = Arc::clone(&self);
        let accepted = match is_cookie {
            true => &self.cookies,
            false => &self.id_tokens,
        };
        let Some(accepted) = accepted else {
            return reading::nothing();
        };
        accepted
            .keys
            .check(token, token::RS256, moment, move |claims, moment| {
                reader.weigh(&claims, is_cookie, moment)
            })
    }
}

impl Firebase {
    fn weigh(&self, claims: &Claims, is_cookie: bool, moment: Moment<'_>) -> Outcome {
        if !claims.is_for(&self.project) {
            return Err(Refusal::BadAudience);
        }
        let accepted = match is_cookie {
            true => &self.cookies,
            false => &self.id_tokens,
        };
        let accepted = accepted.as_ref().ok_or(Refusal::NotASessionToken)?;
        claims.issued_by(&accepted.issuer)?;
        let subject = claims.subject()?;
        if subject.len() > SUBJECT_BYTES_MAX {
            return Err(Refusal::NoSubject);
        }
        claims.in_time(moment.now, Duration::ZERO)?;
        // Five minutes: Google's clocks and ours; a sign-in of tomorrow is none.
        let signed_in = claims.moment("auth_time").ok_or(Refusal::Malformed)?;
        claims.not_before("auth_time", moment.now, Duration::from_secs(300))?;
        claims.not_before("iat", moment.now, Duration::from_secs(300))?;
        let firebase = claims.0.get("firebase").cloned().unwrap_or_default();
        let provider = reading::at(&firebase, "sign_in_provider").and_then(|word| word.as_str());
        // Neither kind names its session: a user who signed in at one moment has one.
        let session = format!("{subject}:{}", signed_in.0);
        alive(OldSession {
            session: Secret::new(session),
            subject: Subject::Source(subject),
            authenticated_at: Some(signed_in),
            expires_at: match is_cookie {
                true => claims.moment("exp"),
                false => None,
            },
            second_factor: Some(firebase.get("sign_in_second_factor").is_some()),
            anonymous: provider == Some("anonymous"),
            email: claims.text("email").and_then(reading::address),
            ..OldSession::default()
        })
    }
}
