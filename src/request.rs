//! A request as the core sees it: borrowed, already canonical, without a socket.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Method};

use crate::target::Target;

/// One request. Everything in it is borrowed from the exchange; nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'r> {
    /// The method, compared case-sensitively.
    pub method: &'r Method,
    /// The request target: what is matched here is what is forwarded.
    pub target: Target<'r>,
    /// The host asked for: lower-case, without port.
    pub host: &'r str,
    /// The headers as received.
    pub headers: &'r HeaderMap,
    /// The address of the client, as far as we believe it: what is counted by address counts here.
    pub client: IpAddr,
}

impl<'r> RequestView<'r> {
    /// The first value of a header, when it is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&'r str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// What kind of request this is.
    pub fn form(&self) -> Form {
        Form::of(self)
    }
}

/// The kinds of request that want differently shaped answers. Every sign of them is under the client's control: they choose
/// the form of a refusal and never whether to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A page a person looks at: GET or HEAD.
    Document,
    /// A form post by a person, with or without a Server Action behind it.
    DocumentPost,
    /// Anything a program asks for: RSC, prefetch, `_next/data`, image, font, fetch, event stream, WebSocket.
    Program,
    /// A Server Action called by script.
    ServerAction,
    /// A CORS preflight.
    Preflight,
}

impl Form {
    /// The word in logs, metrics and `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::DocumentPost => "document_post",
            Self::Program => "program",
            Self::ServerAction => "server_action",
            Self::Preflight => "preflight",
        }
    }

    fn of(request: &RequestView<'_>) -> Self {
        if is_preflight(request) {
            return Self::Preflight;
        }
        let signs = Signs::of(request.headers);
        if signs.upgrade {
            return Self::Program;
        }
        let read = request.method == Method::GET || request.method == Method::HEAD;
        if !read && signs.next_action {
            return Self::ServerAction;
        }
        if signs.next_program || request.target.is_next_data() || request.target.is_next_image() {
            return Self::Program;
        }
        // Browsers say outright what they are after; only without that do we go by what is accepted.
        match text(signs.fetch_dest) {
            Some("document" | "iframe" | "frame") => {}
            Some(_) => return Self::Program,
            None => {
                if text(signs.fetch_mode).is_some_and(|mode| mode != "navigate") {
                    return Self::Program;
                }
                if text(signs.requested_with)
                    .is_some_and(|v| v.eq_ignore_ascii_case("XMLHttpRequest"))
                {
                    return Self::Program;
                }
                if !text(signs.accept).is_some_and(|accept| accept.contains("text/html")) {
                    return Self::Program;
                }
            }
        }
        if read {
            Self::Document
        } else if request.method == Method::POST {
            Self::DocumentPost
        } else {
            Self::Program
        }
    }
}

/// What the headers say of the kind of a request, read in one pass: a request has few headers, and looking up a dozen names costs more.
#[derive(Default)]
struct Signs<'r> {
    upgrade: bool,
    next_action: bool,
    /// Whether a script of Next.js asks, or a browser ahead of its user.
    next_program: bool,
    // The first of each.
    fetch_dest: Option<&'r HeaderValue>,
    fetch_mode: Option<&'r HeaderValue>,
    requested_with: Option<&'r HeaderValue>,
    accept: Option<&'r HeaderValue>,
    purpose: Option<&'r HeaderValue>,
    sec_purpose: Option<&'r HeaderValue>,
}

impl<'r> Signs<'r> {
    fn of(headers: &'r HeaderMap) -> Self {
        let mut signs = Self::default();
        for (name, value) in headers {
            let place = match name.as_str() {
                "accept" => &mut signs.accept,
                "sec-fetch-dest" => &mut signs.fetch_dest,
                "sec-fetch-mode" => &mut signs.fetch_mode,
                "x-requested-with" => &mut signs.requested_with,
                "purpose" => &mut signs.purpose,
                "sec-purpose" => &mut signs.sec_purpose,
                "upgrade" => {
                    signs.upgrade = true;
                    continue;
                }
                "next-action" => {
                    signs.next_action = true;
                    continue;
                }
                "rsc" | "next-router-prefetch" | "x-nextjs-data" => {
                    signs.next_program = true;
                    continue;
                }
                _ => continue,
            };
            place.get_or_insert(value);
        }
        signs.next_program |= [signs.purpose, signs.sec_purpose]
            .into_iter()
            .any(|purpose| text(purpose).is_some_and(|purpose| purpose.contains("prefetch")));
        signs
    }
}

/// A value, when it is visible ASCII.
fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}

/// Whether a browser asks ahead of a cross-origin request. Preflights pass without a session, so nothing counts as one that brings
/// what would be acted on: a body, or a wish to upgrade (some servers upgrade whatever the method). Browsers send neither.
///
/// Source: Fetch standard, CORS-preflight fetch.
fn is_preflight(request: &RequestView<'_>) -> bool {
    if request.method != Method::OPTIONS {
        return false;
    }
    let has = |name: &str| request.headers.contains_key(name);
    let bodiless = !has("transfer-encoding")
        && request
            .headers
            .get_all("content-length")
            .iter()
            .all(|length| length == "0");
    has("origin") && has("access-control-request-method") && bodiless && !has("upgrade")
}
