//! What the other parts of the migration do for a sign-in.

use super::{Common, Posted};
use crate::migration::accounts::{Account, AccountsError};
use crate::migration::attempt::{self, Endpoint};
use crate::server::respond::Answer;

/// A try that is counted.
pub struct Held;

impl Held {
    pub fn succeeded(self) {}
    pub async fn failed(self) {}
}

/// Whether the framework would refuse a request for where it comes from. `callbacks`: the fields of the body that name addresses.
pub fn refused_by_origin(
    common: &Common,
    posted: &Posted<'_>,
    endpoint: Endpoint,
    content_type: &str,
) -> bool {
    let callbacks = attempt::callbacks(endpoint, content_type, posted.body);
    common.would_pass(posted, callbacks.as_ref()).is_err()
}

pub async fn held_back(_: &Common, _: &Posted<'_>, _: &str) -> Result<Held, Answer> {
    Ok(Held)
}

pub async fn require_second_factor(_: &Common, account: &Account) -> Result<bool, AccountsError> {
    Ok(account.two_factor)
}
