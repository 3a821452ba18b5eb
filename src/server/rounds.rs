//! Browsers that go round between the sign-in page and a page that asks to sign in: noticed, and told why.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};

use http::header::{LOCATION, REFERER, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use url::Url;

use super::intercept;
use super::proxy::Gateway;
use super::respond::{self, Answer};
use crate::credential::cookies;
use crate::gate::Decision;
use crate::policy::rounds::{self, Address, Course, MARK, Rounds, Sent};
use crate::policy::{Ask, Reason, To, Verdict};
use crate::request::{Form, RequestView};
use crate::session::Rejection;
use crate::target::Target;
use crate::time::UnixMs;

/// One warning in this time, in milliseconds: a loop is one mistake, whoever goes round, and everybody does.
const WARN_EVERY_MS: i64 = 60_000;

/// Most names of cookies that are shown, and the longest.
const NAMES_SHOWN_MAX: usize = 20;
const NAME_LETTERS_MAX: usize = 64;

/// When the operator was warned last.
#[derive(Debug, Default)]
pub struct Warned(AtomicI64);

impl Warned {
    /// Whether it is time to say it again.
    fn is_due(&self, now: UnixMs) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        now.0.saturating_sub(last) >= WARN_EVERY_MS
            && self
                .0
                .compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl Gateway {
    /// Looks at an answer that refuses a request: a browser that is sent to sign in may be going round.
    pub(super) fn watch_rounds(
        &self,
        request: &RequestView<'_>,
        decision: &Decision,
        request_id: &str,
        mut answer: Answer,
    ) -> Answer {
        if decision.form != Form::Document || request.method != Method::GET {
            return answer;
        }
        let now = self.gate.clock.now();
        match decision.verdict {
            Verdict::Redirect(To::SignIn(ask)) => {
                let before = Rounds::read(request.headers, now);
                let sent = Sent {
                    address: Address::of(request.target.path(), request.target.query()),
                    from_sign_in: self.comes_from_sign_in(request)
                        || (before.is_some() && is_marked(&request.target)),
                    elsewhere: self.responder.pages.is_elsewhere(),
                    now,
                };
                match rounds::next(before, sent) {
                    Course::Explain => self.explain_round(request, decision, request_id, now),
                    Course::SignIn { remember, mark } => {
                        self.send_on(request, ask, remember, mark, &mut answer);
                        answer
                    }
                }
            }
            // Somebody we take for signed in here and, maybe, not there.
            Verdict::Redirect(To::Home) => {
                if self.was_sent(request.target.query())
                    && let Some(rounds) =
                        self.bounced_to(request.headers, &self.responder.pages.signed_in_home, now)
                {
                    answer.push(SET_COOKIE, &rounds.set(self.is_secure()));
                }
                answer
            }
            Verdict::Allow(_)
            | Verdict::Unauthorized(_)
            | Verdict::Forbidden
            | Verdict::TooMany { .. }
            | Verdict::Unavailable => answer,
        }
    }

    fn send_on(
        &self,
        request: &RequestView<'_>,
        ask: Ask,
        remember: Option<Rounds>,
        mark: bool,
        answer: &mut Answer,
    ) {
        if mark {
            answer.headers.retain(|(name, _)| *name != LOCATION);
            let location = self.responder.pages.sign_in_marked(&request.target, ask);
            answer.push(LOCATION, &location);
        }
        if let Some(rounds) = remember {
            answer.push(SET_COOKIE, &rounds.set(self.is_secure()));
        }
    }

    /// A document that somebody may see, with our mark in its address: the same address without it.
    pub(super) fn take_mark_off(&self, request: &RequestView<'_>, form: Form) -> Option<Answer> {
        if !self.responder.pages.is_elsewhere()
            || form != Form::Document
            || !is_marked(&request.target)
        {
            return None;
        }
        let back = self.responder.pages.return_address(&request.target)?;
        let mut answer = respond::redirect_to(StatusCode::FOUND, &back);
        answer.push(SET_COOKIE, &Rounds::clear(self.is_secure()));
        Some(answer)
    }

    /// Looks at a redirect of the app: the sign-in page sends whoever was sent there and counts as signed in away by itself. Only
    /// then does its answer get a cookie of ours, and this says so: no shared cache may keep it.
    pub(super) fn watch_bounce(
        &self,
        head: &RequestHeader,
        response: &mut ResponseHeader,
    ) -> pingora::Result<bool> {
        let uri = &head.uri;
        if head.method != Method::GET
            || !self.is_sign_in_page(uri.path())
            || !self.was_sent(uri.query())
        {
            return Ok(false);
        }
        let location = response.headers.get(LOCATION);
        let Some(location) = location.and_then(|location| location.to_str().ok()) else {
            return Ok(false);
        };
        if let Some(rounds) = self.bounced_to(&head.headers, location, self.gate.clock.now()) {
            response.append_header(SET_COOKIE, rounds.set(self.is_secure()))?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether a query is that of somebody who was sent to the sign-in page, and did not come there by themselves.
    fn was_sent(&self, query: Option<&str>) -> bool {
        let parameter = self.responder.pages.return_param.as_str();
        query.is_some_and(|query| {
            query.split('&').any(|pair| {
                pair.split_once('=')
                    .is_some_and(|(name, _)| name == parameter)
            })
        })
    }

    /// What the cookie is to say of a redirect away from the sign-in page; `None` for one to another origin or sign-in page.
    fn bounced_to(&self, headers: &HeaderMap, location: &str, now: UnixMs) -> Option<Rounds> {
        let here = Url::parse(&self.settings.public_url).ok()?;
        let to = here.join(location).ok()?;
        if to.host_str() != here.host_str() || self.is_sign_in_page(to.path()) {
            return None;
        }
        let address = Address::of(to.path(), to.query());
        Some(rounds::bounced(Rounds::read(headers, now), address, now))
    }

    /// Whether the referrer is the sign-in page: the whole address on our own origin, the origin elsewhere.
    fn comes_from_sign_in(&self, request: &RequestView<'_>) -> bool {
        let Some(referrer) = request
            .header(REFERER.as_str())
            .and_then(|text| Url::parse(text).ok())
        else {
            return false;
        };
        let pages = &self.responder.pages;
        if pages.is_elsewhere() {
            return Url::parse(&pages.sign_in)
                .is_ok_and(|sign_in| sign_in.origin() == referrer.origin());
        }
        referrer.host_str() == Some(request.host) && self.is_sign_in_page(referrer.path())
    }

    /// Whether a path is that of the sign-in page, in any locale.
    fn is_sign_in_page(&self, path: &str) -> bool {
        let sign_in = self.responder.pages.sign_in_path();
        sign_in.starts_with('/') && path.trim_end_matches('/').ends_with(sign_in)
    }

    fn is_secure(&self) -> bool {
        self.settings.public_url.starts_with("https://")
    }

    /// Tells somebody who goes round what was seen and what to look at, and the operator too.
    fn explain_round(
        &self,
        request: &RequestView<'_>,
        decision: &Decision,
        request_id: &str,
        now: UnixMs,
    ) -> Answer {
        let expected = self.responder.session_cookies.token_name();
        let sent = names(request.headers);
        let cause = cause(decision.reason, expected, &sent);
        self.metrics.went_round(decision.reason.as_str());
        if self.warned_of_rounds.is_due(now) {
            tracing::warn!(
                reason = decision.reason.as_str(),
                path = %intercept::loggable_path(request.target.path(), &self.auth_base_path),
                cookie = expected,
                cookie_sent = sent.iter().any(|name| name == expected),
                advice = cause.advice,
                request_id,
                "a browser goes round between the sign-in page and a page that asks to sign in: {}",
                cause.what
            );
        }
        let mut list = String::new();
        for name in sent.iter().take(NAMES_SHOWN_MAX) {
            let short: String = name.chars().take(NAME_LETTERS_MAX).collect();
            // Formatting into a string cannot fail.
            let _ = write!(list, "<li><code>{}</code></li>", escape(&short));
        }
        if sent.len() > NAMES_SHOWN_MAX {
            let _ = write!(list, "<li>and {} more</li>", sent.len() - NAMES_SHOWN_MAX);
        }
        let seen = if list.is_empty() {
            "<p>Your browser sent no cookie at all.</p>".to_owned()
        } else {
            format!("<p>Your browser sent these cookies:</p><ul>{list}</ul>")
        };
        let again = self.responder.pages.return_address(&request.target);
        let again = escape(again.as_deref().unwrap_or("/"));
        let body = format!(
            "<p>You were sent to sign in and came back {rounds} times within a minute, and still do not count as signed in here. \
             Going on would not end.</p>{seen}\
             <p>Reason: <code>{reason}</code>. {what}</p><p>For whoever runs this site: {advice}</p>\
             <p><a href=\"{again}\">Try again</a></p>",
            rounds = rounds::ROUNDS_MAX,
            reason = decision.reason.as_str(),
            what = escape(&cause.what),
            advice = escape(cause.advice),
        );
        // Not a 5xx: whoever stands in front of us would take a mistake in one browser for a gateway that is broken.
        let mut answer = respond::page_of(
            StatusCode::UNAUTHORIZED,
            "Signing in goes round in circles",
            &body,
            request_id,
        );
        // Trying again begins anew.
        answer.push(SET_COOKIE, &Rounds::clear(self.is_secure()));
        answer
    }
}

/// Why somebody who signed in does not count as signed in.
struct Cause {
    what: String,
    advice: &'static str,
}

fn cause(reason: Reason, expected: &str, sent: &[String]) -> Cause {
    let has = |name: &str| sent.iter().any(|sent| sent == name);
    let other = sent
        .iter()
        .find(|name| *name != expected && name.ends_with("session_token"));
    let (what, advice): (String, &'static str) = match reason {
        Reason::NoCredential => match other {
            Some(other) if !has(expected) => (
                format!(
                    "The cookie of a session is expected to be called {expected}; {other} was sent."
                ),
                "set `better_auth.cookie_prefix`, `better_auth.secure_cookies` or `better_auth.names` as in the app, and `public_url` to what the app's BETTER_AUTH_URL says.",
            ),
            _ => (
                format!("The cookie {expected} did not come with the request."),
                "look at the cookie in the browser: a `Secure` one is not sent over http, one of another host or with another Domain is not sent here, \
                 and `better_auth.cookie_prefix` names it as the app does. `public_url`, the app's BETTER_AUTH_URL and the address bar have to agree.",
            ),
        },
        Reason::Rejected(Rejection::BadSignature) => (
            format!(
                "The cookie {expected} came, and it is signed with another secret than the gateway's."
            ),
            "`better_auth.secret` has to be the app's own BETTER_AUTH_SECRET.",
        ),
        Reason::Rejected(Rejection::Malformed) => (
            format!("The cookie {expected} came, and is not one that Better Auth issues."),
            "something else sets a cookie of this name: give one of them another (`better_auth.cookie_prefix`).",
        ),
        Reason::Rejected(Rejection::Unknown { .. }) => (
            format!(
                "The cookie {expected} came and is genuine, and the store has no such session."
            ),
            "`sessions.source` has to be the database (or Redis) that the app writes its sessions to.",
        ),
        Reason::Rejected(Rejection::Expired { .. }) => (
            "The session came and is past its expiry.".to_owned(),
            "compare the clocks of the app, its database and the gateway.",
        ),
        Reason::Rejected(Rejection::Stale) => (
            "The session is known from memory only, and this page asks the store.".to_owned(),
            "the sign-in page believes the cookie cache where this page does not: look at `freshness` of both routes.",
        ),
        Reason::Rejected(Rejection::Banned | Rejection::Disabled | Rejection::Limited { .. }) => (
            "The account may not sign in.".to_owned(),
            "the app lets it sign in and the gateway does not: look at `sessions.enforce_bans`.",
        ),
        Reason::StepUp => (
            "This page asks to have signed in lately, and the session is older.".to_owned(),
            "the sign-in page has to let people sign in again where its address says `reauth=1`, and not to send them back.",
        ),
        Reason::Public
        | Reason::Denied
        | Reason::Preflight
        | Reason::Anonymous
        | Reason::SignedIn
        | Reason::Role
        | Reason::OrganizationRole
        | Reason::EmailUnverified
        | Reason::Credential
        | Reason::AlreadySignedIn
        | Reason::Store => (
            "The session does not count here.".to_owned(),
            "run `vestibule explain` for this address.",
        ),
    };
    Cause { what, advice }
}

fn is_marked(target: &Target<'_>) -> bool {
    target
        .query()
        .is_some_and(|query| query.split('&').any(|pair| pair == MARK))
}

/// The names of the cookies of a request, each once; the one that counts rounds is no news.
fn names(headers: &HeaderMap) -> Vec<String> {
    let mut names: Vec<String> = cookies::pairs(headers)
        .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
        .filter(|name| !name.is_empty() && name != rounds::COOKIE)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter if letter.is_control() => safe.push('\u{fffd}'),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_cookies_are_shown_and_neither_values_nor_markup() {
        let mut headers = HeaderMap::new();
        let line = "b=secret; <script>=x; b=again; vestibule-rounds=1.s.0.1; lonely";
        headers.insert("cookie", http::HeaderValue::from_static(line));
        assert_eq!(names(&headers), ["<script>", "b"]);
        assert_eq!(
            escape("<a href='\"&\u{7}"),
            "&lt;a href=&#39;&quot;&amp;\u{fffd}"
        );
    }

    #[test]
    fn the_operator_is_warned_once_a_minute() {
        let warned = Warned::default();
        let now = UnixMs(1_795_000_000_000);
        assert!(warned.is_due(now));
        assert!(!warned.is_due(UnixMs(now.0 + WARN_EVERY_MS - 1)));
        assert!(warned.is_due(UnixMs(now.0 + WARN_EVERY_MS)));
    }
}
