//! What a request presents, still unproven.

use crate::kind::Kind;
use crate::request::RequestView;

pub mod cookies;
pub mod names;
pub mod secrets;
pub mod session_cookie;
pub mod signature;

/// Every kind of credential, in the order they are tried.
pub static KINDS: &[Kind<Build>] = &[session_cookie::KIND];

/// How a kind is built from the settings.
pub type Build = fn(&Settings) -> Box<dyn Extract>;

/// What the kinds are built from.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Names of cookies.
    pub cookies: names::Settings,
}

/// Finds one kind of credential in a request.
pub trait Extract: Send + Sync {
    /// What the request presents of this kind. Reads only: nothing is proved here.
    fn extract<'r>(&self, request: &RequestView<'r>) -> Presented<'r>;
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented<'r> {
    /// Nothing of this kind.
    Absent,
    /// Something in the right form.
    Found(Credential<'r>),
    /// Something in no form the framework issues. Not absent, and not good either.
    Malformed,
}

/// A credential: a signed session token whose signature nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential<'r> {
    /// Its kind.
    pub method: Method,
    /// The token with its signature.
    pub signed: signature::Signed<'r>,
}

/// How the caller proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// The signed session cookie.
    Session,
}

impl Method {
    /// The word in `X-Auth-Method` and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
        }
    }
}
