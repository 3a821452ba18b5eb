//! `get-session` answered at the door, from memory, where the app would answer the same.
//!
//! Clients ask it often (every open tab, every focus), and the answer is nearly always what it was. Whatever the app would do besides
//! answering (extend a session, set or expire a cookie, add a header) is left to the app: such a request passes on.
//!
//! Source: better-auth 1.7, `get-session`; golden data in `tests/golden/get-session.json`.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ORIGIN, PRAGMA, SET_COOKIE};
use http::{HeaderValue, Method, StatusCode};

use super::respond::Answer;
use crate::credential::signature::Signer;
use crate::credential::{self, Presented, Proof, cookies, names};
use crate::gate::Gate;
use crate::request::RequestView;
use crate::session::Freshness;
use crate::session::cache::Entry;
use crate::session::resolve::{Resolution, Who};
use crate::session::slide::{self, Rules};

/// The endpoint, below the base path.
const ENDPOINT: &str = "/get-session";

/// When `get-session` may be answered at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When the app extends sessions; none where it never does.
    pub rules: Option<Rules>,
    /// Whether the app does more with its answers than we can: it sets a cookie of its own with each (the cookie cache), or a
    /// header (the JWT plugin).
    pub app_adds: bool,
}

/// Answers `get-session`.
pub struct Door {
    settings: Settings,
    path: String,
    marker_cookie: String,
    data_cookie: String,
    public_origin: String,
}

impl Door {
    /// A door in front of the endpoints at `base_path`.
    pub fn new(
        settings: Settings,
        base_path: &str,
        cookies: &names::Settings,
        public_url: &str,
    ) -> Self {
        Self {
            settings,
            path: format!("{base_path}{ENDPOINT}"),
            marker_cookie: cookies.cookie("dont_remember").name,
            data_cookie: cookies.cookie("session_data").name,
            public_origin: public_url.to_owned(),
        }
    }

    /// The answer, where it is ours to give; `None`: it is the app's. Asks the store at most once, as any request would.
    pub async fn answer(&self, request: &RequestView<'_>, gate: &Gate) -> Option<Answer> {
        if !self.is_plain(request) {
            return None;
        }
        let (kind, presented) = gate.presented(request)?;
        let Presented::Found(credential) = presented else {
            return None;
        };
        // Whatever stands in for the cookie (a bearer token, an API key) the app answers in its own way.
        if credential.method != credential::Method::SESSION {
            return None;
        }
        let seal = kind.session(&credential)?;
        let Proof::Signed(signed) = &credential.proof else {
            return None;
        };
        let sessions = &gate.sessions;
        let (method, freshness) = (credential::Method::SESSION, Freshness::Cached);
        let known = sessions.recall(&seal, method, freshness, gate.clock.now());
        let (resolution, _) = match known {
            Some(known) => known,
            None => {
                sessions
                    .find(&signed.value, method, freshness, Some(request))
                    .await
            }
        };
        let Resolution::Verified(Who::Known(entry)) = resolution else {
            return None;
        };
        if self.app_would_act(request, &entry, sessions.signer(), gate) {
            return None;
        }
        let document = entry.document()?;
        let mut answer = Answer {
            status: StatusCode::OK,
            headers: vec![
                (CACHE_CONTROL, HeaderValue::from_static("no-store")),
                (PRAGMA, HeaderValue::from_static("no-cache")),
                (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            ],
            body: Bytes::copy_from_slice(document.as_bytes()),
        };
        if entry.stands(&sessions.cache().revocations) {
            let owed = entry.take_owed().unwrap_or_default();
            let lines = owed.iter().map(|line| (SET_COOKIE, line.clone()));
            answer.headers.extend(lines);
        }
        Some(answer)
    }

    /// Whether it is this endpoint, asked in the one way whose answer we know.
    fn is_plain(&self, request: &RequestView<'_>) -> bool {
        let own_origin = |origin: &HeaderValue| origin.as_bytes() == self.public_origin.as_bytes();
        !self.settings.app_adds
            && request.method == Method::GET
            && request.target.path() == self.path
            && request.target.query().is_none_or(str::is_empty)
            && request.headers.get_all(ORIGIN).iter().all(own_origin)
            && !cookies::pairs(request.headers).any(|(name, _)| self.is_data(name))
    }

    /// Whether a cookie is a cookie cache, or a piece of one. Where the cache is off, the app expires those that were left behind.
    fn is_data(&self, name: &[u8]) -> bool {
        name.strip_prefix(self.data_cookie.as_bytes())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
    }

    /// Whether the app would extend the session with its answer.
    fn app_would_act(
        &self,
        request: &RequestView<'_>,
        entry: &Arc<Entry>,
        signer: &Signer,
        gate: &Gate,
    ) -> bool {
        self.settings.rules.is_some_and(|rules| {
            rules.is_due(entry.expires_at(), gate.clock.now())
                && !slide::is_marked_short(request.headers, &self.marker_cookie, signer)
        })
    }
}
