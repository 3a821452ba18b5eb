//! What ends elsewhere: told by the app's store, or by other gateways in front of the same app.

use super::BoxFuture;
use crate::secret::Secret;
use crate::time::UnixMs;

/// What no longer counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The session with this token.
    Token(Secret),
    /// Every session of this user.
    User(Box<str>),
    /// Every session in which this organization is the active one.
    Organization(Box<str>),
    /// Whatever this API key, by its stored form, proves.
    ApiKey(Box<str>),
    /// Everything.
    All,
}

/// Who is told. Called from the feed's own threads; never blocks.
pub trait Listener: Send + Sync {
    /// Something ended, as the store said at `at` (its own clock), where it says.
    fn ended(&self, what: &Ended, at: Option<UnixMs>);

    /// Nothing can be heard from now on: what is remembered may be outdated, so it is not used.
    fn lost(&self);

    /// It can be heard again. What passed meanwhile is not known, so everything is forgotten.
    fn regained(&self);
}

/// A line on which revocations travel.
pub trait Feed: Send + Sync {
    /// The word in logs and metrics (`postgres`, `redis`).
    fn name(&self) -> &'static str;

    /// Listens for as long as it is polled, connecting again whenever the line breaks.
    fn listen<'a>(&'a self, listener: &'a dyn Listener) -> BoxFuture<'a, ()>;

    /// Tells the other gateways. Best effort: whoever misses it has lost the line, and knows.
    fn tell<'a>(&'a self, what: &'a Ended) -> BoxFuture<'a, ()>;
}
