//! What the other parts of the migration do for a sign-in.

use super::{Common, Posted};
use crate::migration::accounts::{Account, AccountsError};
use crate::migration::attempt::Endpoint;
use crate::server::respond::Answer;

/// A try that is counted.
pub struct Held;

impl Held {
    pub fn succeeded(self) {}
    pub async fn failed(self) {}
}

pub fn refused_by_origin(_: &Common, _: &Posted<'_>, _: Endpoint, _: &str) -> bool {
    false
}

pub async fn held_back(_: &Common, _: &Posted<'_>, _: &str) -> Result<Held, Answer> {
    Ok(Held)
}

pub async fn require_second_factor(_: &Common, account: &Account) -> Result<bool, AccountsError> {
    Ok(account.two_factor)
}
