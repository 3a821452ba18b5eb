//! A signed token in `Authorization: Bearer`: one that the app's JWT plugin issued, or another issuer that is listed.
//!
//! What such a token says was true when it was signed, and nobody can take it back before it ends: no session is looked up. Where a
//! route asks for the present (`strict`), it does not count.
//!
//! Source: better-auth 1.7, plugins/jwt (`verifyJWT`, and the claim checks of jose 6); golden data in `tests/golden/jwt.json`. One thing
//! is stricter here: a token must say when it ends.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Asked, Authenticator, Build, Context};
use crate::credential::cookie_cache::date;
use crate::credential::jws::Jws;
use crate::credential::key_ring::{KeyRing, Said};
use crate::credential::key_set::Algorithm;
use crate::credential::signature::Seal;
use crate::credential::{Credential, Method, Presented, Proof, authorization};
use crate::kind::Kind;
use crate::request::RequestView;
use crate::secret::Secret;
use crate::session::entry::Finding;
use crate::session::resolve::{Resolution, Sessions, Tier, Who};
use crate::session::revocation::Moment;
use crate::session::{BoxFuture, Freshness, Principal, Record, Rejection};
use crate::time::{Clock, UnixMs};

/// The entry in the family's table.
pub(super) const KIND: Kind<Build> = Kind {
    name: "jwt",
    about: "signed token in the Authorization header (JWT plugin, other issuers)",
    build,
};

const METHOD: Method = Method::Jwt;

/// The `typ` of a session cookie cache signed by the same keys. It is a cookie, and nothing to show to an API.
const CACHE_TYPE: &str = "better-auth.session-cache+jwt";

/// Whose tokens count, and how they are read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The app's JWT plugin (`[better_auth.jwt]`).
    pub app: Issuer,
    /// Others, by name (`[better_auth.jwt.issuers.NAME]`).
    pub issuers: BTreeMap<String, Issuer>,
    /// Longest token read (`better_auth.jwt.max_token_bytes`).
    pub token_bytes_max: usize,
    /// How often a key that is not known is asked for (`better_auth.jwt.refetch_interval`).
    pub refetch: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            app: Issuer::default(),
            issuers: BTreeMap::new(),
            token_bytes_max: 8 * 1024,
            refetch: Duration::from_secs(10),
        }
    }
}

/// One issuer of tokens.
#[derive(Clone, Debug, Default)]
pub struct Issuer {
    /// `iss`.
    pub issuer: String,
    /// `aud`: one of these.
    pub audience: Vec<String>,
    /// Where its keys are.
    pub keys: Keys,
    /// What keys are for that do not say it themselves.
    pub algorithm: Option<Algorithm>,
    /// What its claims are called.
    pub claims: Claims,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Published by the app, at this path below its base path.
    App {
        /// `jwks.jwksPath`.
        path: String,
    },
    /// In the table `jwks` of the store.
    Store {
        /// How long a key counts after its end (`jwks.gracePeriod`).
        grace: Duration,
    },
    /// Published at this address.
    At(String),
}

impl Default for Keys {
    fn default() -> Self {
        Self::App {
            path: "/jwks".into(),
        }
    }
}

/// What an issuer calls its claims. The subject is always `sub` unless said otherwise.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The user's id.
    pub subject: String,
    /// E-mail address.
    pub email: String,
    /// Whether that is verified.
    pub email_verified: String,
    /// Name.
    pub name: String,
    /// Roles: a comma list, or a list. None: nobody gets a role by this issuer's word.
    pub role: Option<String>,
    /// Whether the user is banned, and until when.
    pub banned: Option<[String; 2]>,
}

impl Default for Claims {
    /// Those of the app's JWT plugin: the fields of its users.
    fn default() -> Self {
        Self {
            subject: "sub".into(),
            email: "email".into(),
            email_verified: "emailVerified".into(),
            name: "name".into(),
            role: Some("role".into()),
            banned: Some(["banned".into(), "banExpires".into()]),
        }
    }
}

impl Claims {
    /// Those of OpenID Connect.
    pub fn of_others() -> Self {
        Self {
            email_verified: "email_verified".into(),
            role: None,
            banned: None,
            ..Self::default()
        }
    }
}

fn build(context: &Context<'_>) -> Option<Box<dyn Authenticator>> {
    if !context.has("jwt") {
        return None;
    }
    let settings = &context.settings.jwt;
    let keys = context.key_rings;
    let others = settings
        .issuers
        .iter()
        .filter_map(|(name, issuer)| Some((issuer, keys.issuers.get(name)?)));
    let known = keys
        .app
        .iter()
        .map(|ring| (&settings.app, ring))
        .chain(others);
    Some(Box::new(SignedToken {
        verifiers: known
            .map(|(issuer, ring)| {
                Verifier::new(issuer.clone(), Arc::clone(ring), Arc::clone(context.clock))
            })
            .collect(),
        token_bytes_max: settings.token_bytes_max,
        sessions: Arc::clone(context.sessions),
    }))
}

/// Checks the tokens of one issuer.
pub struct Verifier {
    issuer: Issuer,
    keys: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
}

impl Verifier {
    /// Checks the tokens of this issuer by these keys.
    pub fn new(issuer: Issuer, keys: Arc<KeyRing>, clock: Arc<dyn Clock>) -> Self {
        Self {
            issuer,
            keys,
            clock,
        }
    }

    /// Who a token proves, as far as its keys are known. `None`: they must be asked for, see [`Self::find_out`].
    pub fn verify(&self, token: &str, now: UnixMs) -> Option<Result<Record, Rejection>> {
        self.verify_by(token, now, |jws, issued_at| {
            self.keys.check(jws, issued_at, now)
        })
    }

    /// Asks for the keys, and then again who a token proves. `None`: that cannot be told now.
    pub async fn find_out(&self, token: &str) -> Option<Result<Record, Rejection>> {
        let asked = self.keys.ask().await;
        let now = self.clock.now();
        match asked {
            true => self.verify_by(token, now, |jws, _| self.keys.check_again(jws, now)),
            false => self.verify(token, now),
        }
    }

    fn verify_by(
        &self,
        token: &str,
        now: UnixMs,
        check: impl Fn(&Jws<'_>, Option<UnixMs>) -> Said,
    ) -> Option<Result<Record, Rejection>> {
        let Some(jws) = Jws::parse(token) else {
            return Some(Err(Rejection::Malformed));
        };
        let Some(claims) = jws.claims().filter(|_| jws.kind() != Some(CACHE_TYPE)) else {
            return Some(Err(Rejection::Malformed));
        };
        // What costs nothing to see comes before the signature.
        let record = match self.read(&claims, now) {
            Ok(record) => record,
            Err(why) => return Some(Err(why)),
        };
        let issued_at = claims.get("iat").and_then(Value::as_f64).map(milliseconds);
        match check(&jws, issued_at) {
            Said::Good => Some(Ok(record)),
            Said::Bad => Some(Err(Rejection::BadSignature)),
            Said::Unknown => None,
        }
    }

    /// What the claims say, if they say it to us and at this time.
    fn read(&self, claims: &Map<String, Value>, now: UnixMs) -> Result<Record, Rejection> {
        let Issuer {
            issuer,
            audience,
            claims: names,
            ..
        } = &self.issuer;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let ours = |found: &Value| {
            let listed = |value: &Value| audience.iter().any(|ours| value == ours.as_str());
            match found {
                Value::Array(list) => list.iter().any(listed),
                one => listed(one),
            }
        };
        if text("iss") != Some(issuer) || !claims.get("aud").is_some_and(ours) {
            return Err(Rejection::BadSignature);
        }
        // Whole seconds, as the framework counts: at the very second `exp` names, a token has ended.
        let second = seconds(now.0.div_euclid(1000));
        let expires = moment(claims, "exp")?.ok_or(Rejection::Malformed)?;
        if expires <= second {
            return Err(Rejection::Expired { told_now: false });
        }
        if moment(claims, "nbf")?.is_some_and(|begins| begins > second) {
            return Err(Rejection::Stale);
        }
        moment(claims, "iat")?;
        let subject = text(&names.subject).filter(|id| !id.is_empty());
        let owned = |name: &str| text(name).map(Into::into);
        let bans = names.banned.as_ref();
        let is_true = |name: &str| claims.get(name) == Some(&Value::Bool(true));
        Ok(Record {
            session_id: text("sid").unwrap_or_default().into(),
            // There is none: nothing can be looked up or written by it.
            token: Secret::new(""),
            expires_at: milliseconds(expires),
            created_at: None,
            updated_at: None,
            impersonated_by: None,
            organization_id: None,
            organization_role: None,
            user_id: subject.ok_or(Rejection::Malformed)?.into(),
            email: owned(&names.email),
            email_verified: is_true(&names.email_verified),
            name: owned(&names.name),
            role: names
                .role
                .as_ref()
                .and_then(|name| roles(claims.get(name)?)),
            banned: bans.is_some_and(|[banned, _]| is_true(banned)),
            ban_expires: bans.and_then(|[_, until]| Some(date::parse(text(until)?)?.at)),
            team_id: None,
            document: None,
        })
    }
}

/// Seconds since the epoch; nothing when the claim is not there.
fn moment(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Rejection> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(Rejection::Malformed),
        },
    }
}

// Exact below 2⁵³; any year that is written is.
#[allow(clippy::cast_precision_loss)]
fn seconds(whole: i64) -> f64 {
    whole as f64
}

fn milliseconds(seconds: f64) -> UnixMs {
    // Casting saturates; a token for all eternity lasts as long as time is counted.
    #[allow(clippy::cast_possible_truncation)]
    UnixMs((seconds * 1000.0) as i64)
}

/// Roles as the framework stores them: a comma list.
fn roles(claim: &Value) -> Option<Box<str>> {
    match claim {
        Value::String(list) => Some(list.as_str().into()),
        Value::Array(list) => {
            // A role with a comma in it would be two.
            let roles = list.iter().filter_map(Value::as_str);
            let roles: Vec<&str> = roles.filter(|role| !role.contains(',')).collect();
            (!roles.is_empty()).then(|| roles.join(",").into())
        }
        _ => None,
    }
}

struct SignedToken {
    verifiers: Vec<Verifier>,
    token_bytes_max: usize,
    sessions: Arc<Sessions>,
}

impl SignedToken {
    /// Whoever checks the tokens of the issuer that this one says it is of.
    fn verifier(&self, token: &str) -> Option<&Verifier> {
        /// What is looked at before anything is proven.
        #[derive(Deserialize)]
        struct Peek<'p> {
            #[serde(borrow)]
            iss: Cow<'p, str>,
        }
        let mut parts = token.split('.');
        let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next())
        else {
            return None;
        };
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let peek: Peek<'_> = serde_json::from_slice(&payload).ok()?;
        let mut verifiers = self.verifiers.iter();
        verifiers.find(|verifier| *verifier.issuer.issuer == *peek.iss)
    }

    /// Who the token is remembered to prove.
    fn recall(&self, seal: &Seal, asked: &Asked<'_, '_>) -> Option<(Resolution, Tier)> {
        let (resolution, tier) = self
            .sessions
            .recall(seal, METHOD, asked.freshness, asked.now)?;
        match &resolution {
            // A session lives through the millisecond of its expiry, a token does not.
            Resolution::Verified(Who::Known(entry)) if entry.expires_at() <= asked.now => None,
            Resolution::Verified(_) | Resolution::Rejected(Rejection::Banned) => {
                Some((resolution, tier))
            }
            Resolution::Anonymous | Resolution::Rejected(_) | Resolution::Unavailable => None,
        }
    }

    /// What comes of a token that was checked. `since`: from before that.
    fn settle(
        &self,
        verified: Result<Record, Rejection>,
        seal: &Seal,
        since: Moment,
    ) -> (Resolution, Tier) {
        match verified {
            Ok(record) => {
                let principal = Principal {
                    record,
                    method: METHOD,
                };
                let now = self.sessions.clock().now();
                let entry = Finding::new(principal, seal, now, since).pack();
                self.sessions.cache().remember(*seal, Arc::clone(&entry));
                (self.sessions.judge(entry), Tier::Signature)
            }
            Err(why) => (Resolution::Rejected(why), Tier::Forged),
        }
    }
}

impl Authenticator for SignedToken {
    fn method(&self) -> Method {
        METHOD
    }

    fn extract<'r>(&self, request: &RequestView<'r>) -> Presented<'r> {
        let token = authorization::bearer(request.headers)
            .and_then(|token| std::str::from_utf8(token).ok());
        let Some(token) = token.filter(|token| self.verifier(token).is_some()) else {
            return Presented::Absent;
        };
        if token.len() > self.token_bytes_max {
            return Presented::Malformed;
        }
        Presented::Found(Credential {
            method: METHOD,
            proof: Proof::Text(Cow::Borrowed(token)),
        })
    }

    fn at_once(&self, asked: &Asked<'_, '_>) -> Option<(Resolution, Tier)> {
        let Proof::Text(token) = &asked.credential.proof else {
            return Some((Resolution::Rejected(Rejection::Malformed), Tier::Forged));
        };
        if asked.freshness == Freshness::Strict {
            return Some((Resolution::Rejected(Rejection::Stale), Tier::Signature));
        }
        let seal = self.sessions.signer().seal(token);
        self.recall(&seal, asked).or_else(|| {
            let Some(verifier) = self.verifier(token) else {
                return Some((Resolution::Rejected(Rejection::Malformed), Tier::Forged));
            };
            let since = self.sessions.cache().revocations.moment();
            let verified = verifier.verify(token, asked.now)?;
            Some(self.settle(verified, &seal, since))
        })
    }

    fn find_out<'a>(&'a self, asked: &'a Asked<'_, '_>) -> BoxFuture<'a, (Resolution, Tier)> {
        Box::pin(async move {
            let Proof::Text(token) = &asked.credential.proof else {
                return (Resolution::Rejected(Rejection::Malformed), Tier::Forged);
            };
            let Some(verifier) = self.verifier(token) else {
                return (Resolution::Rejected(Rejection::Malformed), Tier::Forged);
            };
            let seal = self.sessions.signer().seal(token);
            let since = self.sessions.cache().revocations.moment();
            match verifier.find_out(token).await {
                Some(verified) => self.settle(verified, &seal, since),
                None => (Resolution::Unavailable, Tier::Store),
            }
        })
    }
}
