//! What the other parts of the migration do for a sign-in.

use super::limits::{self, RetryAfter, Ticket};
use super::{Common, Posted};
use crate::migration::attempt::{self, Endpoint};

/// Whether the framework would refuse a request for where it comes from.
pub fn refused_by_origin(
    common: &Common,
    posted: &Posted<'_>,
    endpoint: Endpoint,
    content_type: &str,
) -> bool {
    let callbacks = attempt::callbacks(endpoint, content_type, posted.body);
    common.would_pass(posted, callbacks.as_ref()).is_err()
}

/// Takes a try for whoever was typed.
pub async fn try_of(
    common: &Common,
    posted: &Posted<'_>,
    account: &str,
) -> Result<Ticket, RetryAfter> {
    let attempt = limits::Attempt {
        client: posted.client,
        identifier: account,
        headers: posted.request.headers,
    };
    common.limits.check(&attempt).await
}

pub use super::second_factor::require as require_second_factor;
