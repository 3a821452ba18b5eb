//! How far what the app sealed into a cookie counts.
//!
//! A cookie that opens says what was true when the app wrote it. Beside a store that is worth as much as a lookup of that moment:
//! it counts while a lookup of that moment would, and while nothing about it was revoked since. Where there is no store the cookie is
//! the session, and counts for its whole life.

use std::sync::Arc;
use std::time::Duration;

use super::cache::Entry;
use super::resolve::{Resolution, Sessions, Tier};
use super::{Freshness, Keeper, Principal, Record, Rejection};
use crate::credential::Method;
use crate::credential::cookie_cache::Payload;
use crate::credential::signature::Seal;
use crate::time::UnixMs;

/// How far the app's clock may be from ours. A cookie written within this after a revocation may be from before it.
const CLOCKS_APART: Duration = Duration::from_secs(5);

/// What a request brought along with its session token.
#[derive(Clone, Copy, Debug)]
pub struct Brought<'b> {
    /// The seal of the token.
    pub seal: &'b Seal,
    /// What names this very cookie with this very token.
    pub cookie: &'b Seal,
    /// From when on the cookie is to be written anew. Only where it is all there is.
    pub renew_from: Option<UnixMs>,
}

impl Sessions {
    /// Who a cookie seen before belongs to, when that still counts for its whole life.
    pub fn recall_cookie(&self, cookie: &Seal, now: UnixMs) -> Option<(Resolution, Tier)> {
        let entry = self.cache().recall_cookie(cookie, now)?;
        Some((self.judge(entry), Tier::Memory))
    }

    /// Who a payload proves the caller to be, if it counts at this freshness. `None`: somebody must be asked.
    pub fn believe(
        &self,
        payload: &Payload,
        brought: Brought<'_>,
        freshness: Freshness,
        now: UnixMs,
    ) -> Option<(Resolution, Tier)> {
        let cache = self.cache();
        // Before anything is asked about revocations: one that passes meanwhile ends what comes of this.
        let since = cache.revocations.moment();
        let record = Record::from_document(&payload.session, &payload.user).ok()?;
        let deadline = payload.expires_at.min(payload.session_expires_at);
        let principal = Principal {
            record,
            method: Method::SESSION,
        };
        let entry = Entry::new(principal, brought.seal, payload.updated_at, since)
            .until(deadline, brought.renew_from);
        if entry.is_expired(now) {
            return None;
        }
        let written = payload.updated_at;
        let entry = Arc::new(entry);
        match self.keeper() {
            Keeper::Cookie => {
                if cache.has_ended(&entry) {
                    let rejection = Rejection::Unknown { told_now: false };
                    return Some((Resolution::Rejected(rejection), Tier::Cookie));
                }
                cache.remember_cookie(*brought.cookie, Arc::clone(&entry));
            }
            Keeper::Store => {
                // What somebody may do in an organization stands in the store alone.
                if freshness == Freshness::Strict
                    || entry.principal.record.organization_id.is_some()
                {
                    return None;
                }
                let revoked = cache.last_revocation(brought.seal, &entry);
                if revoked.is_some_and(|at| written < at.plus(CLOCKS_APART)) {
                    return None;
                }
                // What passed before our time nobody has told us.
                let is_fresh = cache.is_fresh(&entry, now)
                    && cache.is_trusted()
                    && written >= self.began().plus(CLOCKS_APART);
                if is_fresh {
                    cache.remember(*brought.seal, Arc::clone(&entry));
                } else if freshness == Freshness::Cached {
                    return None;
                } else {
                    cache.remember_cookie(*brought.cookie, Arc::clone(&entry));
                }
            }
        }
        Some((self.judge(entry), Tier::Cookie))
    }
}
