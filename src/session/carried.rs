//! What goes along with a lookup that asks the app itself: what the request carried, and what its answer owes the browser.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderValue};

use super::Record;
use crate::request::RequestView;

/// What the app's own `get-session` would read of the request besides its session token.
#[derive(Clone)]
pub struct Carried {
    /// The `Cookie` and `Host` lines as they came; nothing else.
    pub headers: HeaderMap,
    /// The client, as far as we believe it: the app counts requests by address.
    pub client: IpAddr,
    /// Whether somebody waits who can be told of a renewed cookie. Without, nothing may be extended.
    pub may_renew: bool,
}

impl Carried {
    /// Takes it off a request.
    pub fn by(request: &RequestView<'_>) -> Self {
        let mut headers = HeaderMap::new();
        for name in [COOKIE, HOST] {
            for value in request.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Self {
            headers,
            client: request.client,
            may_renew: true,
        }
    }

    /// What is left of a request whose answer goes on: whose it was.
    pub fn later(client: IpAddr) -> Self {
        Self {
            headers: HeaderMap::new(),
            client,
            may_renew: false,
        }
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carried(..)")
    }
}

/// What a source told of a token.
#[derive(Clone)]
pub struct Told {
    /// The session.
    pub record: Record,
    /// `Set-Cookie` lines that belong to it: for the browser that holds this session, and for nobody else.
    pub set_cookie: Vec<HeaderValue>,
}

impl From<Record> for Told {
    fn from(record: Record) -> Self {
        Self {
            record,
            set_cookie: Vec::new(),
        }
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told")
            .field("record", &self.record)
            .field("set_cookie", &self.set_cookie.len())
            .finish()
    }
}

/// `Set-Cookie` lines that the next answer to a session's browser takes along. Whoever takes them has them: they go out once.
#[derive(Default)]
pub struct Owed(ArcSwapOption<Vec<HeaderValue>>);

impl Owed {
    /// Lines for the next answer. Newer ones replace older ones: each lookup names every cookie it wants set.
    pub fn put(&self, lines: Vec<HeaderValue>) {
        if !lines.is_empty() {
            self.0.store(Some(Arc::new(lines)));
        }
    }

    /// Whether nothing is owed. Costs one look at a pointer.
    pub fn is_empty(&self) -> bool {
        self.0.load().is_none()
    }

    /// Takes what is owed.
    pub fn take(&self) -> Option<Arc<Vec<HeaderValue>>> {
        if self.is_empty() {
            return None;
        }
        self.0.swap(None)
    }
}

impl fmt::Debug for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owed(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_goes_out_once() {
        let owed = Owed::default();
        assert!(owed.is_empty() && owed.take().is_none());
        owed.put(Vec::new());
        assert!(owed.is_empty());
        owed.put(vec![HeaderValue::from_static("a=b")]);
        assert_eq!(owed.take().unwrap().len(), 1);
        assert!(owed.take().is_none());
    }
}
