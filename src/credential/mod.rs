//! What a request presents, still unproven: the forms in which it comes, and the ciphers that tell whether it is genuine.

use std::borrow::Cow;
use std::fmt;

pub mod authorization;
pub mod cipher;
pub mod cookie_cache;
pub mod cookies;
pub mod jwe;
pub mod jws;
pub mod key_ring;
pub mod key_set;
pub mod names;
pub mod secrets;
pub mod session_cookie;
pub mod signature;

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

/// A credential nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential<'r> {
    /// Its kind.
    pub method: Method,
    /// What is to be checked.
    pub proof: Proof<'r>,
}

/// What is to be checked.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof<'r> {
    /// A session token with its signature.
    Signed(signature::Signed<'r>),
    /// Anything else, as it came: a bare session token, a JWT, an API key.
    Text(Cow<'r, str>),
}

impl fmt::Debug for Proof<'_> {
    // Whoever reads it could use it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signed(_) => "Signed(..)",
            Self::Text(_) => "Text(..)",
        })
    }
}

/// How the caller proved who they are: the word in the configuration, in `X-Auth-Method` and in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// The signed session cookie.
    Session,
    /// A session token in `Authorization`.
    Bearer,
    /// A signed token that says itself who it is.
    Jwt,
    /// An API key.
    ApiKey,
}

impl Method {
    /// The signed session cookie.
    pub const SESSION: Self = Self::Session;

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Bearer => "bearer",
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
        }
    }
}
