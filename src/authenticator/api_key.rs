//! An API key in a header, for apps that let keys stand for sessions (`enableSessionForAPIKeys`).
//!
//! There it takes the place of cookies: a key that does not count is an error, and no cookie is looked at.

use std::borrow::Cow;

use super::{Asked, Authenticator, Build, Context};
use crate::api_key::keys::{Keys, METHOD};
use crate::credential::{Credential, Method, Presented, Proof};
use crate::kind::Kind;
use crate::request::RequestView;
use crate::session::resolve::{Resolution, Tier};
use crate::session::{BoxFuture, Rejection};

/// Longest key looked up, in bytes: a prefix of 32 letters and a key of several times the usual length. Longer is malformed.
const KEY_BYTES_MAX: usize = 512;

/// The entry in the family's table.
pub(super) const KIND: Kind<Build> = Kind {
    name: "api_key",
    about: "an API key that stands for a session (enableSessionForAPIKeys)",
    build,
};

fn build(context: &Context<'_>) -> Option<Box<dyn Authenticator>> {
    let keys = context.api_keys.filter(|_| context.has(KIND.name))?;
    Some(Box::new(ApiKey { keys: keys.clone() }))
}

struct ApiKey {
    keys: Keys,
}

impl Authenticator for ApiKey {
    fn method(&self) -> Method {
        METHOD
    }

    fn extract<'r>(&self, request: &RequestView<'r>) -> Presented<'r> {
        for name in &self.keys.settings().headers {
            let mut values = request.headers.get_all(name).iter();
            let Some(value) = values.next() else { continue };
            // The app's server joins several with commas, and that is no key.
            if values.next().is_some() {
                return Presented::Malformed;
            }
            match value.to_str() {
                Ok("") => {}
                Ok(key) if key.len() <= KEY_BYTES_MAX => {
                    return Presented::Found(Credential {
                        method: METHOD,
                        proof: Proof::Text(Cow::Borrowed(key)),
                    });
                }
                _ => return Presented::Malformed,
            }
        }
        Presented::Absent
    }

    fn at_once(&self, asked: &Asked<'_, '_>) -> Option<(Resolution, Tier)> {
        match &asked.credential.proof {
            Proof::Text(key) => self.keys.recall(key, asked.freshness, asked.now),
            Proof::Signed(_) => Some(malformed()),
        }
    }

    fn find_out<'a>(&'a self, asked: &'a Asked<'_, '_>) -> BoxFuture<'a, (Resolution, Tier)> {
        Box::pin(async move {
            match &asked.credential.proof {
                Proof::Text(key) => {
                    let client = asked.request.client;
                    self.keys
                        .find(key, asked.freshness, client, asked.now)
                        .await
                }
                Proof::Signed(_) => malformed(),
            }
        })
    }
}

const fn malformed() -> (Resolution, Tier) {
    (Resolution::Rejected(Rejection::Malformed), Tier::Forged)
}
