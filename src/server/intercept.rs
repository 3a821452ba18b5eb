//! What passes by on the auth endpoints and ends sessions: seen here, it is forgotten before the answer goes out.
//!
//! Source of the table: better-auth 1.4 to 1.7 and its plugins, the endpoints that create, change or revoke sessions.

use http::header::SET_COOKIE;
use http::{HeaderMap, Method, StatusCode};

use super::line::Line;
use super::respond::SessionCookies;
use crate::credential::signature::{Seal, Signed};
use crate::credential::{Presented, Proof, cookies, session_cookie};
use crate::gate::Gate;
use crate::request::RequestView;
use crate::session::Rejection;
use crate::session::feed::{Ended, TokenDigest};
use crate::session::resolve::{Resolution, Sessions, Who};

/// Longest body read along for the id in it, in bytes. These bodies hold one id; longer ones are treated as unreadable.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Most sessions of one device looked at. The framework keeps five unless told otherwise.
const DEVICE_SESSIONS_MAX: usize = 32;

/// What the name of each such cookie holds.
const DEVICE_COOKIE: &[u8] = b"_multi-";

/// What an endpoint ends or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The session of the request.
    Current,
    /// Every session the device holds.
    Device,
    /// Every session of its user.
    User,
    /// The session whose token stands in the body.
    TokenInBody(&'static str),
    /// Every session in which the organization is active that is named in the body, or is the caller's active one: members may
    /// have lost their role.
    Organization,
    /// Every session of the user whose id stands in the body. Only admins get through here.
    UserInBody(&'static str),
    /// Every session of somebody whom only the app knows.
    Somebody,
    /// The API key whose id stands in the body.
    KeyInBody(&'static str),
}

/// The endpoints, below the base path.
const ENDPOINTS: &[(&str, Effect)] = &[
    ("/sign-out", Effect::Device),
    ("/revoke-session", Effect::TokenInBody("token")),
    ("/revoke-sessions", Effect::User),
    ("/revoke-other-sessions", Effect::User),
    ("/change-password", Effect::User),
    ("/set-password", Effect::User),
    ("/reset-password", Effect::Somebody),
    ("/email-otp/reset-password", Effect::Somebody),
    ("/phone-number/reset-password", Effect::Somebody),
    ("/update-user", Effect::User),
    ("/update-session", Effect::User),
    ("/change-email", Effect::User),
    ("/verify-email", Effect::User),
    ("/email-otp/verify-email", Effect::User),
    ("/email-otp/change-email", Effect::User),
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
    ("/organization/remove-team", Effect::Organization),
    ("/organization/remove-team-member", Effect::Organization),
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
    ("/api-key/update", Effect::KeyInBody("keyId")),
    ("/api-key/delete", Effect::KeyInBody("keyId")),
];

/// A session, by the names under which it is forgotten here and elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named {
    seal: Seal,
    /// Unknown while the credential does not carry the token in a form we know.
    digest: Option<TokenDigest>,
}

/// Who a request comes from, by one of its credentials.
#[derive(Clone, Debug)]
enum Caller {
    /// This user, with this active organization.
    Known {
        user_id: Box<str>,
        organization_id: Option<Box<str>>,
    },
    /// We could not find out whose session it is.
    Unknown,
}

/// A request on its way to an endpoint of the table.
#[derive(Debug)]
pub struct Watch {
    effect: Effect,
    current: Vec<Named>,
    /// By each credential that the app may believe.
    callers: Vec<Caller>,
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
        // Of whatever kind: the app may believe another one than we would.
        let mut current: Vec<Named> = gate
            .authenticators
            .iter()
            .filter_map(|kind| match kind.extract(request) {
                Presented::Found(credential) => Some(Named {
                    seal: kind.session(&credential)?,
                    digest: match &credential.proof {
                        Proof::Signed(signed) => Some(TokenDigest::of(&signed.value)),
                        Proof::Text(_) => None,
                    },
                }),
                Presented::Malformed | Presented::Absent => None,
            })
            .collect();
        let needs_caller = match effect {
            Effect::User | Effect::TokenInBody(_) | Effect::Organization => true,
            Effect::Current | Effect::Device | Effect::UserInBody(_) | Effect::KeyInBody(_) => {
                current.iter().any(|session| session.digest.is_none())
            }
            Effect::Somebody => false,
        };
        let mut callers = Vec::new();
        if needs_caller {
            callers = identify(request, gate, &mut current).await;
            // A token without a signature proves nothing by itself: only one that leads to somebody may end anything.
            current.retain(|session| session.digest.is_some());
        }
        if effect == Effect::Device {
            current.extend(
                cookies::pairs(request.headers)
                    .filter_map(|(name, _)| std::str::from_utf8(name).ok())
                    .filter(|name| {
                        name.as_bytes()
                            .windows(DEVICE_COOKIE.len())
                            .any(|part| part == DEVICE_COOKIE)
                    })
                    .take(DEVICE_SESSIONS_MAX)
                    .filter_map(|name| {
                        named(&session_cookie::read(request.headers, name), &gate.sessions)
                    }),
            );
        }
        Some(Self {
            effect,
            current,
            callers,
            body: Vec::new(),
            overflown: false,
        })
    }

    /// Reads a piece of the request's body along.
    pub fn read(&mut self, piece: &[u8]) {
        let wanted = match self.effect {
            Effect::TokenInBody(_)
            | Effect::UserInBody(_)
            | Effect::Organization
            | Effect::KeyInBody(_) => true,
            Effect::Current | Effect::Device | Effect::User | Effect::Somebody => false,
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
    pub fn finish(&self, status: StatusCode, line: &Line) -> Option<&'static str> {
        if status.is_server_error() {
            // It may have failed after it had done it.
            return self.abandon(line);
        }
        let acted = match self.effect {
            Effect::Current | Effect::Device | Effect::User => {
                status.is_success() || status.is_redirection()
            }
            // Links that do not count are answered with a redirection.
            Effect::Somebody => status.is_success(),
            // So is a slash too many, whoever asks: of strangers nothing was taken.
            _ => status.is_success() || (status.is_redirection() && !self.current.is_empty()),
        };
        if !acted {
            return None;
        }
        self.end_current(line);
        match self.effect {
            Effect::Current | Effect::Device => Some("session"),
            Effect::User => Some(self.end_user(line)),
            Effect::TokenInBody(key) => match self.in_body(key) {
                Some(token) => {
                    end_token(&token, line);
                    Some("session")
                }
                None => Some(self.end_user(line)),
            },
            Effect::Organization => Some(self.end_organizations(line)),
            Effect::KeyInBody(key) => match self.in_body(key) {
                Some(id) => {
                    line.end(Ended::ApiKey(id.into()));
                    Some("api_key")
                }
                // Everybody has keys of their own.
                None => {
                    line.end_unnamed();
                    Some("all")
                }
            },
            Effect::UserInBody(key) => {
                if let Some(user_id) = self.in_body(key) {
                    line.end(Ended::User(user_id.into()));
                    Some("user")
                } else {
                    // An admin did something to somebody, and we cannot tell to whom. Redirected it may have been anybody.
                    if status.is_success() {
                        line.end(Ended::All);
                    } else {
                        line.end_unnamed();
                    }
                    Some("all")
                }
            }
            Effect::Somebody => {
                line.end_unnamed();
                Some("all")
            }
        }
    }

    /// Nobody knows how it went: the app failed, or it or the client went away first. What was asked for may have been done all the same,
    /// so what it would have ended is forgotten. Only a signed session counts here, and never everything goes: anybody can send
    /// a request and hang up.
    pub fn abandon(&self, line: &Line) -> Option<&'static str> {
        if self.current.is_empty() {
            return None;
        }
        self.end_current(line);
        match self.effect {
            Effect::Current | Effect::Device | Effect::Somebody => {}
            Effect::User => return Some(self.end_known_user(line)),
            Effect::Organization => return Some(self.end_organizations(line)),
            Effect::KeyInBody(key) => {
                line.end(Ended::ApiKey(self.in_body(key)?.into()));
                return Some("api_key");
            }
            Effect::TokenInBody(key) => match self.in_body(key) {
                Some(token) => end_token(&token, line),
                None => return Some(self.end_known_user(line)),
            },
            Effect::UserInBody(key) => {
                if let Some(user_id) = self.in_body(key) {
                    line.end(Ended::User(user_id.into()));
                    return Some("user");
                }
            }
        }
        Some("session")
    }

    fn end_current(&self, line: &Line) {
        // Who resets a password by a link may be signed in as somebody else.
        if matches!(self.effect, Effect::Somebody | Effect::KeyInBody(_)) {
            return;
        }
        for session in &self.current {
            line.end_session(&session.seal, session.digest);
        }
    }

    fn end_organizations(&self, line: &Line) -> &'static str {
        let active = self.callers.iter().filter_map(|caller| match caller {
            Caller::Known {
                organization_id, ..
            } => organization_id.clone(),
            Caller::Unknown => None,
        });
        let named = self.in_body("organizationId").map(Box::from);
        for organization_id in named.into_iter().chain(active) {
            line.end(Ended::Organization(organization_id));
        }
        "organization"
    }

    fn end_known_user(&self, line: &Line) -> &'static str {
        let mut ended = "session";
        for caller in &self.callers {
            if let Caller::Known { user_id, .. } = caller {
                line.end(Ended::User(user_id.clone()));
                ended = "user";
            }
        }
        ended
    }

    fn end_user(&self, line: &Line) -> &'static str {
        if self.callers.is_empty() {
            return "nothing";
        }
        let ended = self.end_known_user(line);
        let unknown = |caller: &Caller| matches!(caller, Caller::Unknown);
        if !self.callers.iter().any(unknown) {
            return ended;
        }
        // A session whose user we could not find out ended others: none of them may live on in memory.
        if !self.current.is_empty() {
            line.end_unnamed();
            return "all";
        }
        ended
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

/// Who is calling by each credential, and the digest of their session where the credential did not show it. All of them are looked
/// into: the app may pass over a key or a token that we know, or take one for a session that we do not.
async fn identify(request: &RequestView<'_>, gate: &Gate, current: &mut [Named]) -> Vec<Caller> {
    let just_issued = |session: &Named| gate.sessions.cache().was_just_issued(&session.seal);
    let is_late = current.iter().any(just_issued);
    let mut callers = Vec::new();
    for kind in &gate.authenticators {
        let Some(resolution) = gate.who_by(&**kind, request).await else {
            continue;
        };
        match resolution {
            Resolution::Verified(Who::Known(entry)) => {
                let token = entry.expose_token();
                let seal = gate.sessions.signer().seal(token);
                for session in current.iter_mut().filter(|session| session.seal == seal) {
                    session.digest = Some(TokenDigest::of(token));
                }
                callers.push(Caller::Known {
                    user_id: entry.user_id().into(),
                    organization_id: entry.organization_id().map(Box::from),
                });
            }
            // The store has no such session, and is not merely late: the app cannot have obeyed it.
            Resolution::Rejected(
                Rejection::Unknown { .. }
                | Rejection::Expired { .. }
                | Rejection::Malformed
                | Rejection::BadSignature
                | Rejection::Disabled,
            ) if !is_late => {}
            Resolution::Anonymous => {}
            Resolution::Verified(Who::SignatureOnly)
            | Resolution::Rejected(_)
            | Resolution::Unavailable => {
                // What carries no session ended none that we could not name.
                let is_session = match kind.extract(request) {
                    Presented::Found(credential) => kind.session(&credential).is_some(),
                    Presented::Malformed | Presented::Absent => false,
                };
                if is_session {
                    callers.push(Caller::Unknown);
                }
            }
        }
    }
    callers
}

fn end_token(token: &str, line: &Line) {
    let seal = line.sessions().signer().seal(token);
    line.sessions().cache().withdrawn(&seal);
    line.end_session(&seal, Some(TokenDigest::of(token)));
}

/// Learns from the session cookies an answer sets, on whatever path: new tokens are expected to be missing from replicas for a
/// while, replaced and removed ones are forgotten.
pub fn learn(response: &HeaderMap, request: &HeaderMap, names: &SessionCookies, line: &Line) {
    let sessions = line.sessions();
    for set in response.get_all(SET_COOKIE) {
        let Some(cookie) = set
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
                && let Some(other) = named(&session_cookie::read(request, cookie.name()), sessions)
            {
                sessions.cache().withdrawn(&other.seal);
                line.end_session(&other.seal, other.digest);
            }
            continue;
        }
        let current = named(&session_cookie::read(request, names.token_name()), sessions);
        let issued = Signed::parse(cookies::decode(cookie.value().as_bytes()))
            .and_then(|signed| sessions.signer().verify(&signed));
        if let Some(seal) = issued.filter(|_| !removed) {
            sessions.cache().issued(seal);
        }
        if let Some(current) =
            current.filter(|current| removed || issued.is_some_and(|issued| issued != current.seal))
        {
            if removed {
                sessions.cache().withdrawn(&current.seal);
            }
            line.end_session(&current.seal, current.digest);
        }
    }
}

fn named(presented: &Presented<'_>, sessions: &Sessions) -> Option<Named> {
    match presented {
        Presented::Found(credential) => match &credential.proof {
            Proof::Signed(signed) => Some(Named {
                seal: sessions.signer().verify(signed)?,
                digest: Some(TokenDigest::of(&signed.value)),
            }),
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
