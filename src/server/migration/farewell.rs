//! Whoever signs out here stays signed out: what they still hold of the old system makes no session any more, and its cookies go.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::bridge::Bridge;
use super::{After, Arrivals as _, Common, Course, Mechanism, Posted};
use crate::migration::accounts::{AccountsError, Identifier};
use crate::server::respond::Answer;
use crate::session::resolve::{Resolution, Who};

/// Whose old sessions an endpoint ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// The one presented with the request.
    Presented,
    /// All of the caller's; with the browser's own cookies, or without them.
    Callers {
        leaves: bool,
    },
    /// All of the user whose id stands in the body.
    UserInBody,
    /// All of the user to whom a token of a reset mail was sent.
    ResetToken,
    /// All of the user with this address or number in the body.
    Email,
    Phone,
}

/// The endpoints, below the base path. A session whose token is named (`/revoke-session`) needs none of it: the old one made that
/// session, and makes no second one.
const ENDPOINTS: &[(&str, Ends)] = &[
    ("/sign-out", Ends::Presented),
    ("/revoke-sessions", Ends::Callers { leaves: true }),
    ("/revoke-other-sessions", Ends::Callers { leaves: false }),
    ("/change-password", Ends::Callers { leaves: false }),
    ("/set-password", Ends::Callers { leaves: false }),
    ("/delete-user", Ends::Callers { leaves: true }),
    ("/reset-password", Ends::ResetToken),
    ("/email-otp/reset-password", Ends::Email),
    ("/phone-number/reset-password", Ends::Phone),
    ("/admin/ban-user", Ends::UserInBody),
    ("/admin/set-user-password", Ends::UserInBody),
    ("/admin/remove-user", Ends::UserInBody),
    ("/admin/revoke-user-sessions", Ends::UserInBody),
];

/// Ends old sessions when people sign out here.
pub struct Farewell {
    common: Arc<Common>,
    bridge: Arc<Bridge>,
}

impl Farewell {
    pub(super) fn new(common: Arc<Common>, bridge: Bridge) -> Self {
        Self {
            common,
            bridge: Arc::new(bridge),
        }
    }

    /// Of whom all old sessions are to end. Found out before the app acts: afterwards the session or the token is gone.
    async fn whose(
        &self,
        ends: Ends,
        posted: &Posted<'_>,
    ) -> Result<Option<String>, AccountsError> {
        let in_body = |key: &str| {
            let body: Value = serde_json::from_slice(posted.body).ok()?;
            Some(body.get(key)?.as_str()?.to_owned())
        };
        let accounts = &self.common.accounts;
        let by = match ends {
            Ends::Presented => return Ok(None),
            Ends::Callers { .. } => {
                return Ok(match posted.gate.who(posted.request).await {
                    Resolution::Verified(Who::Known(entry)) => Some(entry.user_id().to_owned()),
                    _ => None,
                });
            }
            Ends::UserInBody => return Ok(in_body("userId")),
            Ends::ResetToken => {
                let query = posted.request.target.query().unwrap_or_default();
                let in_query = || {
                    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
                    pairs
                        .find(|(key, _)| key == "token")
                        .map(|(_, token)| token.into_owned())
                };
                let Some(token) = in_body("token").or_else(in_query) else {
                    return Ok(None);
                };
                let identifier = format!("reset-password:{token}");
                let now = self.common.clock.now();
                let found = accounts.verification(&identifier, now).await?;
                return Ok(found.map(|user_id| user_id.expose().to_owned()));
            }
            Ends::Email => in_body("email").map(|email| Identifier::Email(email.to_lowercase())),
            Ends::Phone => in_body("phoneNumber").map(Identifier::Phone),
        };
        match by {
            Some(by) => Ok(accounts.find(&by).await?.map(|account| account.user_id)),
            None => Ok(None),
        }
    }
}

impl Mechanism for Farewell {
    fn concerns(&self, endpoint: &str) -> bool {
        ENDPOINTS.iter().any(|(known, _)| *known == endpoint)
    }

    fn course<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Course> {
        Box::pin(async move {
            let known = ENDPOINTS
                .iter()
                .find(|(known, _)| *known == posted.endpoint);
            let Some((_, ends)) = known.copied() else {
                return Course::Pass;
            };
            let user_id = match self.whose(ends, &posted).await {
                Ok(user_id) => user_id,
                Err(error) => {
                    report(&error);
                    None
                }
            };
            let leaves = matches!(ends, Ends::Presented | Ends::Callers { leaves: true });
            let presents = leaves && self.bridge.concerns(posted.request.headers);
            if user_id.is_none() && !presents {
                return Course::Pass;
            }
            let after = Ending {
                common: Arc::clone(&self.common),
                bridge: Arc::clone(&self.bridge),
                user_id,
                presented: presents.then(|| posted.request.headers.clone()),
                host: posted.request.host.to_owned(),
                owes: Vec::new(),
            };
            Course::Forward {
                body: None,
                after: Some(Box::new(after)),
            }
        })
    }
}

fn report(error: &AccountsError) {
    tracing::warn!(
        cause = error.as_str(),
        advice = error.advice(),
        "old sessions that end here cannot be written down: {error}"
    );
}

/// What ends when the app has said yes.
struct Ending {
    common: Arc<Common>,
    bridge: Arc<Bridge>,
    user_id: Option<String>,
    /// The headers of a request that leaves with cookies of the old system.
    presented: Option<HeaderMap>,
    host: String,
    owes: Vec<HeaderValue>,
}

impl After for Ending {
    fn answered<'a>(
        &'a mut self,
        status: StatusCode,
        _headers: &'a HeaderMap,
    ) -> BoxFuture<'a, Option<Answer>> {
        Box::pin(async move {
            if !status.is_success() {
                return None;
            }
            let (accounts, now) = (&self.common.accounts, self.common.clock.now());
            if let Some(user_id) = &self.user_id
                && let Err(error) = accounts.bury_all(user_id, now).await
            {
                report(&error);
            }
            if let Some(headers) = &self.presented {
                for key in self.bridge.keys(headers).await {
                    if let Err(error) = accounts.bury(&key, now).await {
                        report(&error);
                    }
                    self.common
                        .metrics
                        .bridged(self.common.named(&key.provider), "buried");
                }
                self.bridge.forget(headers);
                let readers = self.common.providers.iter();
                let readers = readers.filter_map(|provider| provider.sessions.as_deref());
                let lines = readers.flat_map(|reader| reader.clear(headers, &self.host));
                self.owes = lines
                    .filter_map(|line| HeaderValue::try_from(line).ok())
                    .collect();
            }
            None
        })
    }

    fn owes(&mut self) -> Vec<HeaderValue> {
        std::mem::take(&mut self.owes)
    }
}
