//! `jwks`: a JWT under the key pair of the JWT plugin (`sessionCookieCache`, since better-auth 1.7). Whoever has the public keys can
//! read and check it; only the app can write one.
//!
//! Source: better-auth 1.7, plugins/jwt; golden data in `tests/golden/cookie-cache-jwks.json`. The endpoint lets nothing count past
//! its end, whatever tolerance its library has: neither do we.

use serde_json::Value;

use super::{Build, Context, Entropy, Opened, Payload, Published, Strategy, jwt};
use crate::credential::jws::Jws;
use crate::credential::key_ring::Said;
use crate::kind::Kind;
use crate::time::UnixMs;

/// The entry in the family's table.
pub(super) const KIND: Kind<Build> = Kind {
    name: "jwks",
    about: "a JWT under the JWT plugin's key",
    build,
};

const TYPE: &str = "better-auth.session-cache+jwt";

/// `aud`, and `iss` where the app has no base URL.
const SESSION_CACHE: &str = "better-auth:session-cache";

fn build(context: &Context<'_>) -> Box<dyn Strategy> {
    Box::new(Jwks {
        published: context.published.clone(),
    })
}

struct Jwks {
    published: Option<Published>,
}

impl Strategy for Jwks {
    fn open(&self, value: &str, now: UnixMs) -> Option<Opened> {
        let Published { keys, issuer } = self.published.as_ref()?;
        let token = Jws::parse(value).filter(|token| token.kind() == Some(TYPE))?;
        let claims = token.claims()?;
        let says =
            |name: &str, wanted: &str| claims.get(name).and_then(Value::as_str) == Some(wanted);
        let ours = |audience: &Value| match audience {
            Value::Array(list) => list.iter().any(|one| one == SESSION_CACHE),
            one => one == SESSION_CACHE,
        };
        let issuer = issuer.as_deref().unwrap_or(SESSION_CACHE);
        let text = |table: &str, field: &str| claims.get(table)?.get(field)?.as_str();
        let whole = says("iss", issuer)
            && claims.get("aud").is_some_and(ours)
            && says("sub", text("user", "id")?)
            && says("sid", text("session", "token")?);
        if !whole {
            return None;
        }
        match keys.check(&token, now) {
            Said::Good => jwt::open_claims(claims, now),
            Said::Bad => None,
            Said::Unknown => {
                // The lookup that follows knows better than to wait for a key; the next cookie finds it here.
                keys.refresh();
                None
            }
        }
    }

    fn seal(&self, _payload: &Payload, _now: UnixMs, _entropy: &Entropy) -> Option<String> {
        None
    }
}
