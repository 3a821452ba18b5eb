//! Where the cookie is the session, the gateway keeps it alive as the app would, and lets it die when people sign out.
//!
//! The framework writes the cookie anew near its end, with the next request that asks it who is calling. A gateway that answers that
//! question itself keeps such requests away, so it writes the cookie. The session in it ends when it would have ended anyway.
//!
//! Source: better-auth 1.7, api/routes/session.ts, `cookieRefreshCache`; golden data in
//! `tests/golden/stateless-and-plugin-cookies.json`.

use std::sync::Arc;

use http::header::SET_COOKIE;
use http::{HeaderMap, Method, StatusCode};

use crate::credential::cookie_cache::{CookieCache, Entropy, Remembered};
use crate::credential::names::{self, CookieSpec};
use crate::credential::{Presented, Proof, cookies, session_cookie};
use crate::percent;
use crate::session::cache::Entry;
use crate::session::feed::{Ended, TokenDigest};
use crate::session::resolve::Sessions;
use crate::time::UnixMs;

/// Endpoints that end the session of a request, when their answer also removes its cookie.
const ENDINGS: [&str; 4] = [
    "/sign-out",
    "/delete-user",
    "/delete-user/callback",
    "/delete-anonymous-user",
];

/// Most cookies of one request that are ended. A device holds five sessions unless told otherwise.
const ENDED_MAX: usize = 32;

/// Keeps cookies that are sessions.
pub struct Renewer {
    cache: Arc<CookieCache>,
    token: CookieSpec,
    dont_remember: String,
}

/// An answer of the app, as far as it matters here.
pub struct Answered<'a> {
    /// The method of the request.
    pub method: &'a Method,
    /// The path of the request.
    pub path: &'a str,
    /// The headers of the request.
    pub request: &'a HeaderMap,
    /// The status.
    pub status: StatusCode,
    /// The headers of the answer.
    pub response: &'a HeaderMap,
}

impl Renewer {
    /// Keeps cookies as the app names them.
    pub fn new(cache: Arc<CookieCache>, cookies: &names::Settings) -> Self {
        Self {
            cache,
            token: cookies.cookie("session_token"),
            dont_remember: cookies.cookie("dont_remember").name,
        }
    }

    /// The `Set-Cookie` texts owed to the browser of this identity: none, but near the end of its cookie's life. None either when the
    /// app has set a session cookie itself.
    pub fn cookies_to_set(
        &self,
        entry: &Entry,
        answered: &Answered<'_>,
        sessions: &Sessions,
        now: UnixMs,
    ) -> Vec<String> {
        let is_due = entry.renew_from().is_some_and(|from| from <= now);
        if !is_due || self.sets_session(answered.response) || sessions.cache().has_ended(entry) {
            return Vec::new();
        }
        let mut entropy = Entropy([0; 32]);
        if aws_lc_rs::rand::fill(&mut entropy.0).is_err() {
            return Vec::new();
        }
        self.renewed(entry, answered.request, sessions, now, &entropy)
            .unwrap_or_default()
    }

    fn renewed(
        &self,
        entry: &Entry,
        request: &HeaderMap,
        sessions: &Sessions,
        now: UnixMs,
        entropy: &Entropy,
    ) -> Option<Vec<String>> {
        let token = entry.expose_token();
        let payload = self.cache.open(request, token, now).ok()?;
        // The framework gives the content its whole age here, even where the session ends with the browser.
        let value = self.cache.seal(&payload, Remembered::Yes, now, entropy)?;
        let mut lines = self.cache.set_cookies(&value, Remembered::Yes, request);
        // Nothing but removals would end the session: what there is lasts a while longer.
        let removals = |line: &String| line.contains("=; Max-Age=0");
        if lines.iter().all(removals) {
            return None;
        }
        let mut spec = self.token.clone();
        if self.is_forgotten_with_the_browser(request, sessions) {
            spec.attributes.max_age = None;
        }
        lines.push(spec.set_cookie(&sessions.signer().issue(token)));
        Some(lines)
    }

    fn is_forgotten_with_the_browser(&self, request: &HeaderMap, sessions: &Sessions) -> bool {
        signed(request, &self.dont_remember, sessions).is_some()
    }

    /// Ends what a request has asked to end, if the answer says that it is done. From then on the cookie counts for nothing here,
    /// whoever still has it.
    pub fn end_sessions(&self, answered: &Answered<'_>, base_path: &str, sessions: &Sessions) {
        let done = answered.status.is_success() || answered.status.is_redirection();
        if !done || !is_ending(answered, base_path) || !self.removes_token(answered.response) {
            return;
        }
        let names = cookies::pairs(answered.request)
            .filter_map(|(name, _)| std::str::from_utf8(name).ok())
            .filter(|name| *name == self.token.name || name.contains("_multi-"));
        for name in names.take(ENDED_MAX) {
            if let Some(token) = signed(answered.request, name, sessions) {
                sessions.cache().end(&Ended::Token(TokenDigest::of(&token)));
            }
        }
    }

    fn sets_session(&self, response: &HeaderMap) -> bool {
        set_cookies(response).any(|(name, _)| {
            name == self.token.name
                || name
                    .strip_prefix(self.cache.name())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    fn removes_token(&self, response: &HeaderMap) -> bool {
        set_cookies(response).any(|(name, value)| name == self.token.name && value.is_empty())
    }
}

/// The value of a signed cookie that is genuine.
fn signed(request: &HeaderMap, name: &str, sessions: &Sessions) -> Option<String> {
    let Presented::Found(found) = session_cookie::read(request, name) else {
        return None;
    };
    match found.proof {
        Proof::Signed(signed) => {
            sessions.signer().verify(&signed)?;
            Some(signed.value.into_owned())
        }
        Proof::Text(_) => None,
    }
}

/// Names and values of the cookies an answer sets.
fn set_cookies(response: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    response.get_all(SET_COOKIE).iter().filter_map(|line| {
        let pair = line.to_str().ok()?.split(';').next()?;
        let (name, value) = pair.split_once('=')?;
        Some((name.trim(), value.trim()))
    })
}

fn is_ending(answered: &Answered<'_>, base_path: &str) -> bool {
    if answered.method != Method::POST && answered.method != Method::GET {
        return false;
    }
    // The framework may match what is decoded.
    let Some(path) = percent::decode(answered.path.as_bytes()) else {
        return false;
    };
    let endpoint = std::str::from_utf8(&path)
        .ok()
        .and_then(|path| path.strip_prefix(base_path));
    endpoint
        .is_some_and(|endpoint| ENDINGS.contains(&endpoint.strip_suffix('/').unwrap_or(endpoint)))
}
