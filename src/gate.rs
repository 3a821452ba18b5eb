//! The pipeline: the whole story of a decision, on one screen.

use std::sync::Arc;

use crate::authenticator::{Asked, Authenticator};
use crate::credential::Presented;
use crate::policy::{self, Circumstances, Need, Reason, Verdict};
use crate::request::{Form, RequestView};
use crate::route::{Matches, Route, RouteId, RouteTable};
use crate::session::resolve::{Resolution, Sessions, Tier};
use crate::session::{Freshness, Rejection};
use crate::target::Ambiguity;
use crate::time::{Clock, UnixMs};

/// Judges requests. Built whole from the configuration; a new configuration makes a new gate.
pub struct Gate {
    /// Which route a request asks for.
    pub routes: RouteTable,
    /// The kinds of credential, in the order they are tried.
    pub authenticators: Vec<Box<dyn Authenticator>>,
    /// Whether a credential that does not count leaves the word to the next kind.
    pub fall_through: bool,
    /// Sessions, looked up and remembered.
    pub sessions: Arc<Sessions>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// A verdict with its route and reason: what is logged, counted and explained.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What happens.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The route whose rule decided.
    pub route: RouteId,
    /// The route that says where the request goes: the one its target names as it stands.
    pub destination: RouteId,
    /// When it was made.
    pub at: UnixMs,
    /// The kind of request.
    pub form: Form,
    /// How far finding out went.
    pub tier: Tier,
    /// Why the credential did not count, if so.
    pub rejection: Option<Rejection>,
    /// Whether any of the rules turns strangers away: then no shared cache may keep the answer.
    pub protected: bool,
}

/// What was found out about a caller.
struct Known {
    resolution: Resolution,
    tier: Tier,
    /// When.
    at: UnixMs,
}

impl Known {
    const fn nobody(at: UnixMs) -> Self {
        Self {
            resolution: Resolution::Anonymous,
            tier: Tier::None,
            at,
        }
    }
}

impl Gate {
    /// Judges one request. The proxy, `explain` and the benches all call this.
    ///
    /// # Errors
    /// When the target has readings that contradict each other: it must not reach the app.
    pub async fn judge(&self, request: &RequestView<'_>) -> Result<Decision, Ambiguity> {
        let found = self.routes.find(request)?;
        Ok(self.weigh(request, &found, true).await)
    }

    /// Judges a request once more, when its body has named Server Actions: the rules of these routes hold besides those it asks for.
    /// `is_use`: whether looking at its credential counts as using it, which it does once.
    ///
    /// # Errors
    /// When the target has readings that contradict each other.
    pub async fn judge_with(
        &self,
        request: &RequestView<'_>,
        routes: &[RouteId],
        is_use: bool,
    ) -> Result<Decision, Ambiguity> {
        let mut found = self.routes.find(request)?;
        found.add(routes);
        Ok(self.weigh(request, &found, is_use).await)
    }

    async fn weigh(&self, request: &RequestView<'_>, found: &Matches, is_use: bool) -> Decision {
        let form = request.form();
        let rules = || found.all().map(|id| (id, self.routes.route(id)));
        let known = match freshness(rules().map(|(_, route)| route)) {
            Some(freshness) if form != Form::Preflight => {
                let order = declared(rules().map(|(_, route)| route));
                self.authenticate(request, order, freshness, is_use).await // the only wait
            }
            _ => Known::nobody(self.clock.now()),
        };
        let Known {
            resolution,
            tier,
            at: now,
        } = known;
        let at = Circumstances {
            form,
            now,
            reauth: asks_to_sign_in_again(request),
        };

        // Every reading of the target has its say, and the strictest verdict holds.
        let mut decided = None;
        for (id, route) in rules() {
            let (verdict, reason) = policy::decide(&route.rule, &resolution, at);
            let stricter = decided
                .as_ref()
                .is_none_or(|(than, _, _)| policy::is_stricter(than, &verdict));
            if stricter {
                decided = Some((verdict, reason, id));
            }
        }
        // Invariant: `found` holds at least its primary route. Without any, nobody passes.
        let (verdict, reason, route) =
            decided.unwrap_or((Verdict::Forbidden, Reason::Denied, found.primary));
        Decision {
            verdict,
            reason,
            route,
            destination: found.primary,
            at: now,
            form,
            tier,
            rejection: match resolution {
                Resolution::Rejected(why) => Some(why),
                Resolution::Anonymous | Resolution::Verified(_) | Resolution::Unavailable => None,
            },
            protected: rules().any(|(_, route)| route.rule.need.protects()),
        }
    }

    /// Who is calling, at most `cache_ttl` ago, without it counting as a use.
    pub async fn who(&self, request: &RequestView<'_>) -> Resolution {
        let asked = self.authenticate(request, &[], Freshness::Cached, false);
        asked.await.resolution
    }

    /// Who is calling by one kind of credential, at most `cache_ttl` ago: for what passes by and ends sessions. `None`: none of that
    /// kind is presented.
    pub async fn who_by(
        &self,
        kind: &dyn Authenticator,
        request: &RequestView<'_>,
    ) -> Option<Resolution> {
        let now = self.clock.now();
        let asked = self.ask(kind, request, Freshness::Cached, false, now);
        asked.await.map(|known| known.resolution)
    }

    /// Who is calling: the first kind of credential that is presented says so. One that does not count leaves the word to the next
    /// only where the operator said so.
    async fn authenticate(
        &self,
        request: &RequestView<'_>,
        order: &[String],
        freshness: Freshness,
        is_use: bool,
    ) -> Known {
        let mut refused = None;
        let mut now = self.clock.now();
        for kind in self.in_order(order) {
            let asked = self.ask(kind, request, freshness, is_use, now);
            let Some(known) = asked.await else {
                continue;
            };
            now = known.at;
            match known.resolution {
                Resolution::Rejected(_) if self.fall_through => {
                    refused.get_or_insert(known);
                }
                _ => return known,
            }
        }
        refused.unwrap_or(Known::nobody(now))
    }

    /// What one kind of credential says of who is calling. `None`: none of that kind is presented.
    async fn ask(
        &self,
        kind: &dyn Authenticator,
        request: &RequestView<'_>,
        freshness: Freshness,
        is_use: bool,
        now: UnixMs,
    ) -> Option<Known> {
        let credential = match kind.extract(request) {
            Presented::Absent => return None,
            Presented::Malformed => {
                return Some(Known {
                    resolution: Resolution::Rejected(Rejection::Malformed),
                    tier: Tier::Forged,
                    at: now,
                });
            }
            Presented::Found(credential) => credential,
        };
        let asked = Asked {
            credential: &credential,
            request,
            freshness,
            is_use,
            now,
        };
        let (known, at) = match kind.at_once(&asked) {
            Some(known) => (known, now),
            // Somebody was asked, and time went by.
            None => (kind.find_out(&asked).await, self.clock.now()),
        };
        let (resolution, tier) = known;
        Some(Known {
            resolution,
            tier,
            at,
        })
    }

    /// The first credential presented, with its kind.
    pub fn presented<'r>(
        &self,
        request: &RequestView<'r>,
    ) -> Option<(&dyn Authenticator, Presented<'r>)> {
        self.in_order(&[])
            .map(|kind| (kind, kind.extract(request)))
            .find(|(_, presented)| *presented != Presented::Absent)
    }

    /// The kinds a route declares, in its order, and then all others: what it does not accept is still told from nothing at all.
    fn in_order<'g>(&'g self, order: &[String]) -> impl Iterator<Item = &'g dyn Authenticator> {
        let named = move |kind: &dyn Authenticator| {
            let word = kind.method().as_str();
            order.iter().any(|declared| declared == word)
        };
        let declared = order.iter().filter_map(|word| {
            let kinds = self.authenticators.iter();
            kinds
                .map(|kind| &**kind)
                .find(|kind| kind.method().as_str() == word)
        });
        let others = self
            .authenticators
            .iter()
            .map(|kind| &**kind)
            .filter(move |kind| !named(*kind));
        declared.chain(others)
    }
}

/// The order of kinds that the first rule declares which declares any.
fn declared<'t>(mut routes: impl Iterator<Item = &'t Route>) -> &'t [String] {
    routes
        .find_map(|route| match &route.rule.need {
            Need::SignedIn(conditions) if !conditions.credentials.is_empty() => {
                Some(conditions.credentials.as_slice())
            }
            _ => None,
        })
        .unwrap_or_default()
}

/// The strictest freshness among the rules that ask who is calling; `None` when none does.
fn freshness<'t>(routes: impl Iterator<Item = &'t Route>) -> Option<Freshness> {
    routes
        .filter(|route| route.rule.need.asks_who())
        .map(|route| route.rule.freshness)
        .max()
}

fn asks_to_sign_in_again(request: &RequestView<'_>) -> bool {
    request
        .target
        .query()
        .is_some_and(|query| query.split('&').any(|pair| pair == "reauth=1"))
}
