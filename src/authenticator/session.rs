//! The signed `session_token` cookie.

use std::sync::Arc;

use super::{Asked, Authenticator, Build, Context};
use crate::credential::cookie_cache::{self, CookieCache};
use crate::credential::signature::Seal;
use crate::credential::{Credential, Method, Presented, Proof, session_cookie};
use crate::kind::Kind;
use crate::request::RequestView;
use crate::session::cookie::Brought;
use crate::session::resolve::{Resolution, Sessions, Tier};
use crate::session::{BoxFuture, Freshness, Keeper, Rejection};

/// The entry in the family's table.
pub(super) const KIND: Kind<Build> = Kind {
    name: "session",
    about: "Better Auth's signed session cookie",
    build,
};

/// The cookie needs no enabling: every app has it.
fn build(context: &Context<'_>) -> Option<Box<dyn Authenticator>> {
    Some(Box::new(SessionCookie {
        name: context.cookies.cookie("session_token").name,
        sessions: Arc::clone(context.sessions),
        cache: context.cookie_cache.map(Arc::clone),
    }))
}

struct SessionCookie {
    name: String,
    sessions: Arc<Sessions>,
    /// The app's cookie cache, where it has one.
    cache: Option<Arc<CookieCache>>,
}

impl SessionCookie {
    /// What the cookie beside the token says, as far as that counts.
    fn ask_cookie(
        &self,
        seal: &Seal,
        token: &str,
        asked: &Asked<'_, '_>,
    ) -> Option<(Resolution, Tier)> {
        let cache = self.cache.as_deref()?;
        let keeper = self.sessions.keeper();
        // Whoever asks past the cookie gets the store, where there is one.
        if keeper == Keeper::Store
            && (asked.freshness == Freshness::Strict
                || cookie_cache::is_disabled_by(asked.request.target.query()))
        {
            return None;
        }
        let value = cache.find(asked.request.headers)?;
        let cookie = seal.with(&value);
        if (keeper == Keeper::Cookie || asked.freshness == Freshness::Optimistic)
            && let Some(known) = self.sessions.recall_cookie(&cookie, asked.now)
        {
            return Some(known);
        }
        let payload = cache.open_value(&value, token, asked.now).ok()?;
        let brought = Brought {
            seal,
            cookie: &cookie,
            renew_from: (keeper == Keeper::Cookie).then(|| cache.renew_from(payload.expires_at)),
        };
        self.sessions
            .believe(&payload, brought, asked.freshness, asked.now)
    }
}

impl Authenticator for SessionCookie {
    fn method(&self) -> Method {
        Method::SESSION
    }

    fn extract<'r>(&self, request: &RequestView<'r>) -> Presented<'r> {
        session_cookie::read(request.headers, &self.name)
    }

    fn at_once(&self, asked: &Asked<'_, '_>) -> Option<(Resolution, Tier)> {
        let Some(seal) = self.session(asked.credential) else {
            return Some((Resolution::Rejected(Rejection::BadSignature), Tier::Forged));
        };
        let Proof::Signed(signed) = &asked.credential.proof else {
            return Some((Resolution::Rejected(Rejection::Malformed), Tier::Forged));
        };
        let (keeper, freshness) = (self.sessions.keeper(), asked.freshness);
        if keeper == Keeper::Cookie && freshness == Freshness::Strict {
            // There is nobody to ask. The configuration refuses such routes.
            return Some((Resolution::Unavailable, Tier::Cookie));
        }
        self.sessions
            .recall(&seal, Method::SESSION, freshness, asked.now)
            .or_else(|| self.ask_cookie(&seal, &signed.value, asked))
            .or_else(|| Sessions::by_signature(&signed.value, freshness))
            .or_else(|| match keeper {
                Keeper::Store => None,
                Keeper::Cookie => Some((
                    Resolution::Rejected(Rejection::Unknown { told_now: false }),
                    Tier::Cookie,
                )),
            })
    }

    fn find_out<'a>(&'a self, asked: &'a Asked<'_, '_>) -> BoxFuture<'a, (Resolution, Tier)> {
        Box::pin(async move {
            let Proof::Signed(signed) = &asked.credential.proof else {
                return (Resolution::Rejected(Rejection::Malformed), Tier::Forged);
            };
            self.sessions
                .find(
                    &signed.value,
                    Method::SESSION,
                    asked.freshness,
                    Some(asked.request),
                )
                .await
        })
    }

    fn session(&self, credential: &Credential<'_>) -> Option<Seal> {
        match &credential.proof {
            Proof::Signed(signed) => self.sessions.signer().verify(signed),
            Proof::Text(_) => None,
        }
    }
}
