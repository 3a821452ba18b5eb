//! What passes by on the auth endpoints and ends sessions: seen here, it is forgotten before the answer goes out.
//!
//! Source of the table: better-auth 1.4 to 1.7 and its plugins, the endpoints that create, change or revoke sessions.

use http::header::SET_COOKIE;
use http::{HeaderMap, Method, StatusCode};

use super::respond::SessionCookies;
use crate::credential::signature::{Seal, Signed};
use crate::credential::{Presented, Proof, cookies, session_cookie};
use crate::gate::Gate;
use crate::request::RequestView;
use crate::session::resolve::{Resolution, Sessions, Who};

/// Longest body read along for the id in it, in bytes. These bodies hold one id; longer ones are treated as unreadable.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// What an endpoint ends or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The session of the request.
    Current,
    /// Every session of its user.
    User,
    /// The session whose token stands in the body.
    TokenInBody(&'static str),
    /// Every session in which the organization is active that is named in the body, or is the caller's active one: members may
    /// have lost their role.
    Organization,
    /// Every session of the user whose id stands in the body. Only admins get through here.
    UserInBody(&'static str),
}

/// The endpoints, below the base path.
const ENDPOINTS: &[(&str, Effect)] = &[
    ("/sign-out", Effect::Current),
    ("/revoke-session", Effect::TokenInBody("token")),
    ("/revoke-sessions", Effect::User),
    ("/revoke-other-sessions", Effect::User),
    ("/change-password", Effect::User),
    ("/set-password", Effect::User),
    ("/update-user", Effect::User),
    ("/update-session", Effect::Current),
    ("/change-email", Effect::User),
    ("/verify-email", Effect::User),
    ("/delete-user", Effect::User),
    ("/delete-user/callback", Effect::User),
    ("/delete-anonymous-user", Effect::User),
    ("/two-factor/enable", Effect::User),
    ("/two-factor/disable", Effect::User),
    ("/two-factor/verify-totp", Effect::User),
    ("/two-factor/verify-otp", Effect::User),
    ("/two-factor/verify-backup-code", Effect::User),
    ("/phone-number/verify", Effect::User),
    ("/multi-session/set-active", Effect::Current),
    ("/multi-session/revoke", Effect::TokenInBody("sessionToken")),
    ("/organization/set-active", Effect::Current),
    ("/organization/set-active-team", Effect::Current),
    ("/organization/create", Effect::Current),
    ("/organization/delete", Effect::Organization),
    ("/organization/leave", Effect::Organization),
    ("/organization/remove-member", Effect::Organization),
    ("/organization/update-member-role", Effect::Organization),
    ("/organization/accept-invitation", Effect::Current),
    ("/admin/ban-user", Effect::UserInBody("userId")),
    ("/admin/unban-user", Effect::UserInBody("userId")),
    ("/admin/set-role", Effect::UserInBody("userId")),
    ("/admin/set-user-password", Effect::UserInBody("userId")),
    ("/admin/update-user", Effect::UserInBody("userId")),
    ("/admin/remove-user", Effect::UserInBody("userId")),
    ("/admin/revoke-user-sessions", Effect::UserInBody("userId")),
    (
        "/admin/revoke-user-session",
        Effect::TokenInBody("sessionToken"),
    ),
    ("/admin/impersonate-user", Effect::Current),
    ("/admin/stop-impersonating", Effect::Current),
];

/// A request on its way to an endpoint of the table.
#[derive(Debug)]
pub struct Watch {
    effect: Effect,
    current: Option<Seal>,
    user_id: Option<Box<str>>,
    organization_id: Option<Box<str>>,
    body: Vec<u8>,
    overflown: bool,
}

impl Watch {
    /// Watches a request, if its endpoint is in the table. Who it comes from is found out now: afterwards the session may be gone.
    pub async fn begin(request: &RequestView<'_>, base_path: &str, gate: &Gate) -> Option<Self> {
        if request.method != Method::POST && request.method != Method::GET {
            return None;
        }
        let effect = effect_of(request.target.path(), base_path)?;
        // A token without a signature proves nothing by itself: only one that leads to somebody may end more than itself.
        let (mut current, signed) = match gate.presented(request) {
            Some((kind, Presented::Found(credential))) => (
                kind.session(&credential),
                matches!(credential.proof, Proof::Signed(_)),
            ),
            Some((_, Presented::Malformed | Presented::Absent)) | None => (None, true),
        };
        let (user_id, organization_id) = match (effect, current) {
            (Effect::UserInBody(_), Some(_)) if !signed => {
                if !matches!(gate.who(request).await, Resolution::Verified(_)) {
                    current = None;
                }
                (None, None)
            }
            (Effect::User | Effect::TokenInBody(_) | Effect::Organization, Some(_)) => {
                match gate.who(request).await {
                    Resolution::Verified(Who::Known(entry)) => {
                        let record = &entry.principal.record;
                        (Some(record.user_id.clone()), record.organization_id.clone())
                    }
                    Resolution::Anonymous
                    | Resolution::Verified(Who::SignatureOnly)
                    | Resolution::Rejected(_)
                    | Resolution::Unavailable => {
                        current = current.filter(|_| signed);
                        (None, None)
                    }
                }
            }
            _ => (None, None),
        };
        Some(Self {
            effect,
            current,
            user_id,
            organization_id,
            body: Vec::new(),
            overflown: false,
        })
    }

    /// Reads a piece of the request's body along.
    pub fn read(&mut self, piece: &[u8]) {
        let wanted = match self.effect {
            Effect::TokenInBody(_) | Effect::UserInBody(_) | Effect::Organization => true,
            Effect::Current | Effect::User => false,
        };
        if !wanted || self.overflown {
            return;
        }
        if self.body.len() + piece.len() > BODY_BYTES_MAX {
            self.overflown = true;
            self.body = Vec::new();
        } else {
            self.body.extend_from_slice(piece);
        }
    }

    /// The app has answered: forgets what that ended. Says what was forgotten, for the metric.
    pub fn finish(&self, status: StatusCode, sessions: &Sessions) -> Option<&'static str> {
        if status.is_server_error() {
            // It may have failed after it had done it.
            return self.abandon(sessions);
        }
        if !status.is_success() && !status.is_redirection() {
            return None;
        }
        let cache = sessions.cache();
        if let Some(current) = &self.current {
            cache.forget_token(current);
        }
        match self.effect {
            Effect::Current => Some("session"),
            Effect::User => Some(self.forget_user(sessions)),
            Effect::TokenInBody(key) => match self.in_body(key) {
                Some(token) => {
                    cache.forget_token(&sessions.signer().seal(&token));
                    Some("session")
                }
                None => Some(self.forget_user(sessions)),
            },
            Effect::Organization => Some(self.forget_organizations(sessions)),
            Effect::UserInBody(key) => {
                if let Some(user_id) = self.in_body(key) {
                    cache.forget_user(&user_id);
                    Some("user")
                } else {
                    // An admin did something to somebody, and we cannot tell to whom.
                    cache.forget_all();
                    Some("all")
                }
            }
        }
    }

    /// Nobody knows how it went: the app failed, or it or the client went away first. What was asked for may have been done all the same,
    /// so what it would have ended is forgotten. Only a signed session counts here, and never everything goes: anybody can send
    /// a request and hang up.
    pub fn abandon(&self, sessions: &Sessions) -> Option<&'static str> {
        let current = self.current.as_ref()?;
        let cache = sessions.cache();
        cache.forget_token(current);
        match self.effect {
            Effect::Current => {}
            Effect::User => return Some(self.forget_known_user(sessions)),
            Effect::Organization => return Some(self.forget_organizations(sessions)),
            Effect::TokenInBody(key) => match self.in_body(key) {
                Some(token) => cache.forget_token(&sessions.signer().seal(&token)),
                None => return Some(self.forget_known_user(sessions)),
            },
            Effect::UserInBody(key) => {
                if let Some(user_id) = self.in_body(key) {
                    cache.forget_user(&user_id);
                    return Some("user");
                }
            }
        }
        Some("session")
    }

    fn forget_organizations(&self, sessions: &Sessions) -> &'static str {
        let named = self.in_body("organizationId");
        for organization_id in named
            .iter()
            .map(String::as_str)
            .chain(self.organization_id.as_deref())
        {
            sessions.cache().forget_organization(organization_id);
        }
        "organization"
    }

    fn forget_known_user(&self, sessions: &Sessions) -> &'static str {
        match &self.user_id {
            Some(user_id) => {
                sessions.cache().forget_user(user_id);
                "user"
            }
            None => "session",
        }
    }

    fn forget_user(&self, sessions: &Sessions) -> &'static str {
        match &self.user_id {
            Some(user_id) => {
                sessions.cache().forget_user(user_id);
                "user"
            }
            // A session whose user we could not find out ended others: none of them may live on in memory.
            None if self.current.is_some() => {
                sessions.cache().forget_all();
                "all"
            }
            None => "nothing",
        }
    }

    fn in_body(&self, key: &str) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        match body.get(key)? {
            serde_json::Value::String(text) => Some(text.clone()),
            // Serial ids may be sent as numbers.
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

/// Learns from the session cookies an answer sets, on whatever path: new tokens are expected to be missing from replicas for a
/// while, replaced and removed ones are forgotten.
pub fn learn(
    response: &HeaderMap,
    request: &HeaderMap,
    names: &SessionCookies,
    sessions: &Sessions,
) {
    for line in response.get_all(SET_COOKIE) {
        let Some(cookie) = line
            .to_str()
            .ok()
            .and_then(|text| cookie::Cookie::parse(text).ok())
        else {
            continue;
        };
        let removed =
            cookie.value().is_empty() || cookie.max_age().is_some_and(|age| age.is_zero());
        if cookie.name() != names.token_name() {
            // A device may hold several sessions, each in a signed cookie of its own: a sign-out ends them all.
            if removed
                && let Some(other) =
                    seal_of(&session_cookie::read(request, cookie.name()), sessions)
            {
                sessions.cache().forget_token(&other);
            }
            continue;
        }
        let current = seal_of(&session_cookie::read(request, names.token_name()), sessions);
        let issued = Signed::parse(cookies::decode(cookie.value().as_bytes()))
            .and_then(|signed| sessions.signer().verify(&signed));
        if let Some(seal) = issued.filter(|_| !removed) {
            sessions.cache().issued(seal);
        }
        if let Some(current) =
            current.filter(|current| removed || issued.is_some_and(|issued| issued != *current))
        {
            sessions.cache().forget_token(&current);
        }
    }
}

fn seal_of(presented: &Presented<'_>, sessions: &Sessions) -> Option<Seal> {
    match presented {
        Presented::Found(credential) => match &credential.proof {
            Proof::Signed(signed) => sessions.signer().verify(signed),
            Proof::Text(_) => None,
        },
        Presented::Absent | Presented::Malformed => None,
    }
}

fn effect_of(path: &str, base_path: &str) -> Option<Effect> {
    // The framework may match what is decoded: so do we. Forgetting too much costs one lookup.
    let path = crate::percent::decode(path.as_bytes())?;
    let path = std::str::from_utf8(&path).ok()?;
    let endpoint = path.strip_prefix(base_path)?;
    let endpoint = endpoint.strip_suffix('/').unwrap_or(endpoint);
    ENDPOINTS
        .iter()
        .find(|(known, _)| *known == endpoint)
        .map(|(_, effect)| *effect)
}

/// The path as it may stand in a log: below the auth endpoints paths carry tokens (`/reset-password/<token>`), so only the first
/// word there is kept.
pub fn loggable_path<'p>(path: &'p str, base_path: &str) -> std::borrow::Cow<'p, str> {
    let Some(endpoint) = path
        .strip_prefix(base_path)
        .and_then(|rest| rest.strip_prefix('/'))
    else {
        return path.into();
    };
    match endpoint.split_once('/') {
        Some((first, _)) => format!("{base_path}/{first}/…").into(),
        None => path.into(),
    }
}
