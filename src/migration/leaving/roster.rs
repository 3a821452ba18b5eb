//! Reading everybody in order, a page at a time: who still waits, who leaves, and what is there before anybody comes. Changes nothing,
//! and makes no tables.

use std::collections::BTreeMap;

use crate::migration::accounts::Done;
use crate::migration::import::assessment::Target;
use crate::migration::state::State;
use crate::secret::Secret;
use crate::time::UnixMs;

/// Somebody who has not come over yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// `user.id`.
    pub user_id: String,
    /// The old system.
    pub provider: String,
    /// Where they stand.
    pub state: State,
}

/// Somebody with all that another system takes.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// `user.id`.
    pub user_id: String,
    /// The columns of `user` that are there, by the framework's names; dates in milliseconds, flags as `true` and `false`.
    pub fields: BTreeMap<String, String>,
    /// `account.password` of the credential row.
    pub password: Option<Secret>,
    /// `account.providerId`, `account.accountId`, without the credential row.
    pub accounts: Vec<(String, String)>,
    /// Who they were: provider, id there.
    pub identities: Vec<(String, String)>,
}

impl Person {
    /// A column, where it holds something.
    pub fn field(&self, name: &str) -> Option<&str> {
        let value = self.fields.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// A column that is a flag.
    pub fn flag(&self, name: &str) -> bool {
        self.field(name) == Some("true")
    }
}

/// Somebody did something that is noted among the runs.
#[derive(Clone, Debug)]
pub struct Event {
    /// What, and of which system: `export:clerk`.
    pub what: String,
    /// What tells two of them apart.
    pub fingerprint: String,
    /// Users it was about.
    pub users: u64,
    /// When it began.
    pub began_at: UnixMs,
    /// When it ended.
    pub ended_at: UnixMs,
}

/// Everybody, in the order of their ids.
pub trait Roster: Send + Sync {
    /// What the database looks like.
    fn look(&self) -> Done<'_, Target>;

    /// Users who stand in one of these states, after this id, at most so many.
    fn waiting<'a>(
        &'a self,
        states: &'a [State],
        after: &'a str,
        most: usize,
    ) -> Done<'a, Vec<Waiting>>;

    /// Whether somebody has an account elsewhere that signs them in.
    fn has_account_elsewhere<'a>(&'a self, user_id: &'a str) -> Done<'a, bool>;

    /// Users after this id, at most so many.
    fn people<'a>(&'a self, after: Option<&'a str>, most: usize) -> Done<'a, Vec<Person>>;

    /// Notes something among the runs.
    fn note<'a>(&'a self, event: &'a Event) -> Done<'a, ()>;
}
