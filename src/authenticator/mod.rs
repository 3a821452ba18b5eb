//! Kinds of credential: how each is found in a request, and how it is proven.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api_key::keys::Keys;
use crate::credential::key_ring::KeyRings;
use crate::credential::signature::Seal;
use crate::credential::{Credential, Method, Presented, names, secrets};
use crate::kind::Kind;
use crate::request::RequestView;
use crate::session::resolve::{Resolution, Sessions, Tier};
use crate::session::{BoxFuture, Freshness, limit};
use crate::time::{Clock, UnixMs};

mod api_key;
pub mod bearer;
pub mod jwt;
mod session;

/// Every kind of credential, in the order in which the framework lets one take the place of another.
pub static KINDS: &[Kind<Build>] = &[api_key::KIND, bearer::KIND, jwt::KIND, session::KIND];

/// How a kind is built. `None`: the app does not have it, so it is not looked for.
pub type Build = fn(&Context<'_>) -> Option<Box<dyn Authenticator>>;

/// Every kind the app has.
pub fn build(context: &Context<'_>) -> Vec<Box<dyn Authenticator>> {
    KINDS
        .iter()
        .filter_map(|kind| (kind.build)(context))
        .collect()
}

/// Which kinds the app has, and how they are set up there.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Kinds accepted besides the session cookie (`better_auth.enable`).
    pub enabled: BTreeSet<String>,
    /// Whether a credential that does not count leaves the word to the next kind (`better_auth.fall_through`). Off: who presents
    /// a revoked key is refused, whatever cookie comes with it.
    pub fall_through: bool,
    /// How often one address may present what nobody knows (`better_auth.unknown_tokens_per_minute`).
    pub guesses: limit::Settings,
    /// The bearer plugin.
    pub bearer: bearer::Settings,
    /// The JWT plugin, and other issuers.
    pub jwt: jwt::Settings,
}

/// What the kinds are built from.
pub struct Context<'c> {
    /// Which kinds there are.
    pub settings: &'c Settings,
    /// Names of cookies.
    pub cookies: &'c names::Settings,
    /// What signs and seals.
    pub secrets: &'c secrets::Settings,
    /// Sessions, looked up and remembered.
    pub sessions: &'c Arc<Sessions>,
    /// Keys by which tokens are checked.
    pub key_rings: &'c KeyRings,
    /// API keys, looked up and remembered; none unless the app has them.
    pub api_keys: Option<&'c Keys>,
    /// What time it is.
    pub clock: &'c Arc<dyn Clock>,
}

impl Context<'_> {
    /// Whether the app has this kind.
    pub fn has(&self, kind: &str) -> bool {
        self.settings.enabled.contains(kind)
    }
}

/// One kind of credential.
pub trait Authenticator: Send + Sync {
    /// Its word.
    fn method(&self) -> Method;

    /// What the request presents of this kind. Nothing is looked up; what the framework would leave alone is `Absent`.
    fn extract<'r>(&self, request: &RequestView<'r>) -> Presented<'r>;

    /// Who it proves, as far as that can be told without waiting: by its signature, and from memory. `None`: somebody must be asked.
    fn at_once(&self, asked: &Asked<'_, '_>) -> Option<(Resolution, Tier)>;

    /// Who it proves. Waits for whoever knows. Only asked after [`Self::at_once`] had no answer.
    fn find_out<'a>(&'a self, asked: &'a Asked<'_, '_>) -> BoxFuture<'a, (Resolution, Tier)>;

    /// The session token it carries, when it is genuine: what a sign-out that passes by in its name ends.
    fn session(&self, _credential: &Credential<'_>) -> Option<Seal> {
        None
    }
}

/// What an authenticator is asked.
pub struct Asked<'a, 'r> {
    /// What was presented.
    pub credential: &'a Credential<'r>,
    /// The request it came with.
    pub request: &'a RequestView<'r>,
    /// How fresh the answer must be.
    pub freshness: Freshness,
    /// The present.
    pub now: UnixMs,
}
