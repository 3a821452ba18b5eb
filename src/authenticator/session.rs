//! The signed `session_token` cookie.

use std::sync::Arc;

use super::{Asked, Authenticator, Build, Context};
use crate::credential::signature::Seal;
use crate::credential::{Credential, Method, Presented, Proof, session_cookie};
use crate::kind::Kind;
use crate::request::RequestView;
use crate::session::resolve::{Resolution, Sessions, Tier};
use crate::session::{BoxFuture, Rejection};

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
    }))
}

struct SessionCookie {
    name: String,
    sessions: Arc<Sessions>,
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
        self.sessions
            .recall(&seal, Method::SESSION, asked.freshness, asked.now)
            .or_else(|| Sessions::by_signature(&signed.value, asked.freshness))
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
