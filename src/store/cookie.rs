//! No store at all: the app's Better Auth has no database, and the sealed cookie is the session.
//!
//! Source: better-auth 1.4 to 1.7, the mode without `database` and `secondaryStorage`.

use std::sync::Arc;

use super::{Address, Build, Detected, OpenError, Opened, Settings};
use crate::kind::Kind;
use crate::session::{BoxFuture, Keeper, Record, Source, SourceError};

/// `cookie:`.
pub(super) const KIND: Kind<Build> = Kind {
    name: "cookie",
    about: "no database: the app's sealed cookie is the session: cookie:",
    build: Build::plain(&[("cookie", "cookie")], Address::Browser, |settings| {
        Box::pin(open(settings))
    }),
};

struct Cookie;

impl Source for Cookie {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn find<'a>(&'a self, _token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        // A token alone is no session here.
        Box::pin(std::future::ready(Ok(None)))
    }

    fn keeper(&self) -> Keeper {
        Keeper::Cookie
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

async fn open(_settings: Settings) -> Result<Opened, OpenError> {
    Ok(Opened {
        source: Arc::new(Cookie),
        detected: Detected {
            kind: KIND.name,
            place: "the browser".into(),
            version: "cache".into(),
            tables: Vec::new(),
            columns: Vec::new(),
            dates: None,
            warnings: Vec::new(),
        },
        extend: None,
        feed: None,
        keys: None,
    })
}
