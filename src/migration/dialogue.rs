//! Conversations with the outside, described and not held: what is to be asked next, and what to make of the answer.
//!
//! A live password check, a look-up of a user and the reading of an old session are each a [`Dialogue`]: a small state machine that
//! says what it needs. Whoever runs it does the I/O, within one deadline for the whole of it; tests run it without any.

use std::collections::BTreeMap;

use http::{HeaderMap, Method};

use crate::credential::key_set::KeySet;
use crate::secret::Secret;
use crate::session::BoxFuture;
use crate::time::UnixMs;

/// Most steps of one dialogue. The longest known (a flow, a password, a second factor, the session ended again) takes five.
pub const STEPS_MAX: usize = 8;

/// Longest answer of an old system that is read, in bytes. Answers hold one user or one session.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// One request to the old system.
#[derive(Clone)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// The whole address: https, or http on loopback. Redirections are not followed.
    pub url: url::Url,
    /// Headers. Those that hold secrets are marked sensitive.
    pub headers: HeaderMap,
    /// The body. May hold a password, hence secret; empty for none.
    pub body: Secret,
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Queries and headers hold keys of the old system's API.
        f.debug_struct("Ask")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; at most [`ANSWER_BYTES_MAX`]. Holds tokens: not printed.
    pub body: Secret,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_str(self.body.expose()).ok()
    }
}

/// What a dialogue needs to go on.
#[derive(Debug)]
pub enum Need {
    /// The answer to a request.
    Answer(Box<Ask>),
    /// The key set published at this address.
    Keys(url::Url),
    /// One row of the old system's own tables, which are beside the app's or in a database of their own.
    Row(RowQuery),
    /// One value of the old system's own Redis.
    Value(Secret),
}

/// A row, by one column that is equal to a text.
#[derive(Clone, Debug)]
pub struct RowQuery {
    /// The table, as the operator or the old system names it; may hold its schema before a dot.
    pub table: String,
    /// The column that identifies it.
    pub key: String,
    /// What it is equal to, byte for byte.
    pub value: Secret,
    /// The columns to read. Dates and numbers come as text, as the database writes them.
    pub columns: Vec<String>,
}

/// A row: its columns by name; `None` is NULL.
pub type Row = BTreeMap<String, Option<Secret>>;

/// What was found out. An outage is `Err`, and never the same as "there is none".
pub enum Given {
    /// Nothing yet: the beginning.
    Nothing,
    /// An answer, of whatever status.
    Answer(Result<Answer, Unreachable>),
    /// A key set.
    Keys(Result<std::sync::Arc<KeySet>, Unreachable>),
    /// A row, or that there is none.
    Row(Result<Option<Row>, Unreachable>),
    /// A value, or that there is none.
    Value(Result<Option<Secret>, Unreachable>),
}

/// Nothing could be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// No connection, or it broke.
    #[error("it cannot be reached")]
    Connect,
    /// An answer nobody can read: too long, not in the documented form.
    #[error("it answered what we cannot read")]
    Garbage,
    /// It says that it is overloaded or broken (429 for all of us, 5xx).
    #[error("it says that it cannot answer now")]
    Refused,
    /// It wants something only a browser has: a captcha solved, an app attested.
    #[error("it wants a proof that only a browser can give")]
    Challenge,
    /// Nothing of this kind is configured, here or there.
    #[error("nothing to ask is configured")]
    Unconfigured,
}

impl Unreachable {
    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Garbage => "garbage",
            Self::Refused => "refused",
            Self::Challenge => "challenge",
            Self::Unconfigured => "unconfigured",
        }
    }
}

/// The old system's own tables and its Redis, where the operator names them. Implemented by `store/`.
pub trait OldStore: Send + Sync {
    /// One row. Answers within a deadline of its own.
    fn row<'a>(
        &'a self,
        provider: &'a str,
        query: &'a RowQuery,
    ) -> BoxFuture<'a, Result<Option<Row>, Unreachable>>;

    /// One value.
    fn value<'a>(
        &'a self,
        provider: &'a str,
        key: &'a Secret,
    ) -> BoxFuture<'a, Result<Option<Secret>, Unreachable>>;
}

/// The next step.
pub enum Step<T> {
    /// This first.
    Need(Need),
    /// That is it.
    Done(T),
}

/// When and with what randomness a step is made.
#[derive(Clone, Copy)]
pub struct Moment<'m> {
    /// Now.
    pub now: UnixMs,
    /// Fills a buffer with bytes nobody can guess.
    pub random: &'m (dyn Fn(&mut [u8]) + Sync),
}

/// A conversation under way.
pub trait Dialogue<T>: Send {
    /// Goes on with what was found out. The first call is given [`Given::Nothing`].
    fn step(&mut self, given: Given, moment: Moment<'_>) -> Step<T>;
}

/// A dialogue that is over before it began.
pub struct Settled<T>(pub Option<T>);

impl<T: Send + Default> Dialogue<T> for Settled<T> {
    fn step(&mut self, _given: Given, _moment: Moment<'_>) -> Step<T> {
        Step::Done(self.0.take().unwrap_or_default())
    }
}
