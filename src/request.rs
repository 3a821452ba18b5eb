//! A request as the core sees it: borrowed, already canonical, without a socket.

use std::net::IpAddr;

use http::{HeaderMap, Method};

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
        let has = |name: &str| request.headers.contains_key(name);
        if is_preflight(request) {
            return Self::Preflight;
        }
        if has("upgrade") {
            return Self::Program;
        }
        let read = request.method == Method::GET || request.method == Method::HEAD;
        if !read && has("next-action") {
            return Self::ServerAction;
        }
        if has("rsc")
            || has("next-router-prefetch")
            || has("x-nextjs-data")
            || request.target.is_next_data()
            || request.target.is_next_image()
            || request
                .header("purpose")
                .is_some_and(|v| v.contains("prefetch"))
            || request
                .header("sec-purpose")
                .is_some_and(|v| v.contains("prefetch"))
        {
            return Self::Program;
        }
        // Browsers say outright what they are after; only without that do we go by what is accepted.
        match request.header("sec-fetch-dest") {
            Some("document" | "iframe" | "frame") => {}
            Some(_) => return Self::Program,
            None => {
                if request
                    .header("sec-fetch-mode")
                    .is_some_and(|mode| mode != "navigate")
                {
                    return Self::Program;
                }
                if request
                    .header("x-requested-with")
                    .is_some_and(|v| v.eq_ignore_ascii_case("XMLHttpRequest"))
                {
                    return Self::Program;
                }
                if !request
                    .header("accept")
                    .is_some_and(|accept| accept.contains("text/html"))
                {
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

/// Whether a browser asks ahead of a cross-origin request. Preflights pass without a session, so nothing counts as one that brings
/// what would be acted on: a body, or a wish to upgrade (some servers upgrade whatever the method). Browsers send neither.
///
/// Source: Fetch standard, CORS-preflight fetch.
fn is_preflight(request: &RequestView<'_>) -> bool {
    let has = |name: &str| request.headers.contains_key(name);
    let bodiless = !has("transfer-encoding")
        && request
            .headers
            .get_all("content-length")
            .iter()
            .all(|length| length == "0");
    request.method == Method::OPTIONS
        && has("origin")
        && has("access-control-request-method")
        && bodiless
        && !has("upgrade")
}
