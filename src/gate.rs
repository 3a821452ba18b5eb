//! The pipeline: the whole story of a decision, on one screen.

use std::sync::Arc;

use crate::credential::{Extract, Presented};
use crate::policy::{self, Circumstances, Reason, Verdict};
use crate::request::{Form, RequestView};
use crate::route::{Route, RouteId, RouteTable};
use crate::session::resolve::{Resolution, Sessions, Tier};
use crate::session::{Freshness, Rejection};
use crate::target::Ambiguity;
use crate::time::Clock;

/// Judges requests. Built whole from the configuration; a new configuration makes a new gate.
pub struct Gate {
    /// Which route a request asks for.
    pub routes: RouteTable,
    /// The kinds of credential, in the order they are tried.
    pub credentials: Vec<Box<dyn Extract>>,
    /// Who a credential proves.
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
    /// The kind of request.
    pub form: Form,
    /// How far finding out went.
    pub tier: Tier,
    /// Why the credential did not count, if so.
    pub rejection: Option<Rejection>,
    /// Whether any of the rules turns strangers away: then no shared cache may keep the answer.
    pub protected: bool,
}

impl Gate {
    /// Judges one request. The proxy, `explain` and the benches all call this.
    ///
    /// # Errors
    /// When the target has readings that contradict each other: it must not reach the app.
    pub async fn judge(&self, request: &RequestView<'_>) -> Result<Decision, Ambiguity> {
        let found = self.routes.find(request)?;
        let form = request.form();
        let rules = || found.all().map(|id| (id, self.routes.route(id)));
        let (resolution, tier) = match freshness(rules().map(|(_, route)| route)) {
            Some(freshness) if form != Form::Preflight => {
                let presented = self.extract(request);
                self.sessions
                    .resolve(&presented, freshness, self.clock.now())
                    .await // the only wait
            }
            _ => (Resolution::Anonymous, Tier::None),
        };
        let at = Circumstances {
            form,
            now: self.clock.now(),
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
        Ok(Decision {
            verdict,
            reason,
            route,
            destination: found.primary,
            form,
            tier,
            rejection: match resolution {
                Resolution::Rejected(why) => Some(why),
                Resolution::Anonymous | Resolution::Verified(_) | Resolution::Unavailable => None,
            },
            protected: rules().any(|(_, route)| route.rule.need.protects()),
        })
    }

    /// The first credential presented, by the declared order of kinds. One that is malformed does not fall through to a weaker one.
    pub fn extract<'r>(&self, request: &RequestView<'r>) -> Presented<'r> {
        self.credentials
            .iter()
            .map(|kind| kind.extract(request))
            .find(|presented| *presented != Presented::Absent)
            .unwrap_or(Presented::Absent)
    }
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
