//! How far what the app sealed into a cookie counts.
//!
//! A cookie that opens says what was true when the app wrote it. Beside a store that is worth as much as a lookup of that moment:
//! it counts while a lookup of that moment would, and while nothing about it was revoked since. Where there is no store the cookie is
//! the session, and counts for its whole life.

use std::sync::Arc;
use std::time::Duration;

use super::entry::Finding;
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
        let entry = Finding::new(principal, brought.seal, payload.updated_at, since)
            .until(deadline, brought.renew_from)
            .pack();
        if entry.is_expired(now) {
            return None;
        }
        let written = payload.updated_at;
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
                if freshness == Freshness::Strict || entry.organization_id().is_some() {
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

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use serde_json::json;

    use super::*;
    use crate::credential::signature::Signer;
    use crate::secret::Secret;
    use crate::session::cache::Forgotten;
    use crate::session::feed::{Ended, TokenDigest};
    use crate::session::{BoxFuture, Settings, Source, SourceError};
    use crate::time::ManualClock;

    const NOW: UnixMs = UnixMs(1_795_229_535_028);

    /// Nobody but the browser.
    struct Nowhere;

    impl Source for Nowhere {
        fn name(&self) -> &'static str {
            "nowhere"
        }

        fn find<'a>(
            &'a self,
            _token: &'a str,
        ) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
            Box::pin(std::future::ready(Ok(None)))
        }

        fn keeper(&self) -> Keeper {
            Keeper::Cookie
        }

        fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
            Box::pin(std::future::ready(Ok(())))
        }
    }

    fn sessions() -> Arc<Sessions> {
        let settings = Settings {
            cache_ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(5),
            entries_max: 10,
            bytes_max: 1 << 20,
            negative_max: 10,
            enforce_bans: false,
        };
        Arc::new(Sessions::new(
            &settings,
            Signer::new(&Secret::new("secret")),
            Arc::new(Nowhere),
            Arc::new(ManualClock::at(NOW)),
            Box::new(|_| {}),
        ))
    }

    /// What the gateway makes of a request with ada's cookie.
    fn ask(sessions: &Sessions) -> Option<Resolution> {
        let fields = |value: serde_json::Value| value.as_object().cloned().unwrap_or_default();
        let later = UnixMs(NOW.0 + 600_000);
        let payload = Payload {
            session: fields(json!({
                "id": "s", "token": "token", "userId": "ada", "expiresAt": later.0, "createdAt": NOW.0 - 1000,
            })),
            user: fields(json!({ "id": "ada", "email": "ada@example.com", "name": "Ada" })),
            updated_at: NOW,
            version: None,
            expires_at: later,
            session_expires_at: later,
        };
        let seal = sessions.signer().seal("token");
        let cookie = seal.with(b"sealed");
        if let Some((known, _)) = sessions.recall_cookie(&cookie, NOW) {
            return Some(known);
        }
        let brought = Brought {
            seal: &seal,
            cookie: &cookie,
            renew_from: None,
        };
        let said = sessions.believe(&payload, brought, Freshness::Cached, NOW);
        said.map(|(resolution, _)| resolution)
    }

    #[test]
    fn a_request_in_the_midst_of_a_sign_out_does_not_bring_the_session_back() {
        for ended in [
            Ended::Token(TokenDigest::of("token")),
            Ended::User("ada".into()),
        ] {
            let sessions = sessions();
            assert!(matches!(ask(&sessions), Some(Resolution::Verified(_))));
            // What is told last is where another thread may be quick.
            let asking: Arc<OnceLock<Arc<Sessions>>> = Arc::default();
            let asked = Arc::clone(&asking);
            sessions
                .cache()
                .set_witness(Box::new(move |_: Forgotten<'_>| {
                    if let Some(sessions) = asked.get() {
                        let _ = ask(sessions);
                    }
                }));
            assert!(asking.set(Arc::clone(&sessions)).is_ok());
            sessions.cache().end(&ended);
            assert!(
                matches!(ask(&sessions), Some(Resolution::Rejected(_))),
                "{ended:?}"
            );
        }
    }
}
