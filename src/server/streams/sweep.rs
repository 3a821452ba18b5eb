//! Streams judged again: when a revocation touches one, when its session should be over, and every now and then.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use super::{Stream, due, keys};
use crate::credential::Method;
use crate::policy::{self, Circumstances, Verdict};
use crate::server::proxy::Gateway;
use crate::session::cache::Entry;
use crate::session::resolve::{Resolution, Who};
use crate::session::{Freshness, Keeper, Rejection};
use crate::time::UnixMs;

/// Most of them judged again at once. Everybody's turn comes, and the store stays free for requests.
const JUDGED_AT_ONCE: usize = 16;

/// How often it is looked whether a turn has come.
const TICK: Duration = Duration::from_millis(250);

/// How long the store may be silent about a session that was touched or has expired. Then it ends: whoever opens another asks again.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long the store may lack a session that was issued a moment ago and touched since: one of several replicas may lag behind.
const LAG_MAX: Duration = Duration::from_secs(2);

/// Judges streams again, for as long as the server runs.
pub struct Sweeping(pub Arc<Gateway>);

#[async_trait]
impl BackgroundService for Sweeping {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Streams outlive the order to stop for as long as requests in flight may; so does this, until the server is gone.
                told = shutdown.changed() => if told.is_err() { return },
                _ = self.0.streams.more.notified() => {}
                _ = tick.tick() => {}
            }
            self.0.line.catch_up();
            self.sweep().await;
            self.0.metrics.open_streams(self.0.streams.len());
        }
    }
}

/// What becomes of a stream.
enum Fate {
    GoesOn(Arc<Entry>),
    /// The store is silent.
    Unknown,
    /// The store does not have it, and it was issued a moment ago: it had it when the stream was opened.
    Missing,
    Ends(&'static str),
}

impl Sweeping {
    async fn sweep(&self) {
        let turns = std::iter::from_fn(|| self.0.streams.take(self.0.gate.clock.now()));
        futures_util::stream::iter(turns)
            .for_each_concurrent(JUDGED_AT_ONCE, |(id, stream, touched)| {
                self.judge_again(id, stream, touched)
            })
            .await;
    }

    async fn judge_again(&self, id: u64, stream: Stream, touched: bool) {
        let gateway = &self.0;
        // Silence about what was touched or has expired is remembered until somebody breaks it.
        let urgent = touched
            || stream.silent_since.is_some()
            || stream.entry.is_expired(gateway.gate.clock.now());
        let fate = self.fate(&stream, urgent).await;
        let now = gateway.gate.clock.now();
        let mut kept = stream;
        match fate {
            Fate::GoesOn(entry) => {
                kept.keys = keys(&entry, |token| gateway.gate.sessions.signer().seal(token));
                kept.due = due(&entry, now, gateway.recheck);
                kept.silent_since = None;
                kept.entry = entry;
            }
            Fate::Unknown | Fate::Missing if !urgent => {
                kept.due = due(&kept.entry, now, gateway.recheck);
            }
            fate @ (Fate::Unknown | Fate::Missing) => {
                let (patience, why) = match fate {
                    Fate::Missing => (LAG_MAX, "revoked"),
                    _ => (SILENCE_MAX, "store"),
                };
                let since = *kept.silent_since.get_or_insert(now);
                if now.since(since) >= patience {
                    return self.end(id, &kept, why);
                }
                kept.due = UnixMs(now.0.saturating_add(1000));
            }
            Fate::Ends(why) => return self.end(id, &kept, why),
        }
        let mut table = gateway.streams.lock();
        // It may have been touched again while it was judged, or have gone.
        let touched = table.touched.contains(&id);
        if table.remove(id).is_some() {
            let stands = kept
                .entry
                .stands(&gateway.gate.sessions.cache().revocations);
            // One that cannot be asked about stays as it was, and a silent one has its turn.
            let again = !stands && kept.silent_since.is_none() && self.can_ask(&kept.entry);
            table.insert(id, kept);
            if touched || again {
                table.touched.insert(id);
            }
        }
    }

    /// Whether somebody knows more of it than we do: a session that is kept in a store.
    fn can_ask(&self, entry: &Entry) -> bool {
        let method = entry.method();
        (method == Method::SESSION || method == Method::Bearer)
            && !entry.expose_token().is_empty()
            && self.0.gate.sessions.keeper() == Keeper::Store
    }

    async fn fate(&self, stream: &Stream, urgent: bool) -> Fate {
        let gate = &self.0.gate;
        let (entry, now) = (&stream.entry, gate.clock.now());
        let token = entry.expose_token();
        let method = entry.method();
        let resolution = if !self.can_ask(entry) {
            if entry.is_expired(now) {
                return Fate::Ends("expired");
            }
            // What proved it has not been kept, so it cannot be proved again: whoever still can opens another. A token that proves itself
            // would do so until it expires.
            if urgent && method != Method::Jwt {
                return Fate::Ends("revoked");
            }
            Resolution::Verified(Who::Known(Arc::clone(entry)))
        } else {
            let seal = gate.sessions.signer().seal(token);
            let remembered = match urgent {
                true => None,
                false => gate
                    .sessions
                    .recall(&seal, method, Freshness::Cached, now)
                    .map(|(resolution, _)| resolution),
            };
            match remembered {
                Some(known @ Resolution::Verified(Who::Known(_))) => known,
                _ => {
                    let freshness = if urgent {
                        Freshness::Strict
                    } else {
                        Freshness::Cached
                    };
                    let asked = gate
                        .sessions
                        .find_again(token, method, freshness, stream.client);
                    asked.await.0
                }
            }
        };
        let known = match &resolution {
            Resolution::Verified(Who::Known(known)) => Arc::clone(known),
            Resolution::Rejected(
                Rejection::Unknown { told_now: false } | Rejection::Expired { told_now: false },
            ) => return Fate::Missing,
            Resolution::Unavailable | Resolution::Verified(Who::SignatureOnly) => {
                return Fate::Unknown;
            }
            Resolution::Rejected(Rejection::Expired { .. }) => return Fate::Ends("expired"),
            Resolution::Rejected(_) | Resolution::Anonymous => return Fate::Ends("revoked"),
        };
        // As it was asked then: who had just signed in for it need not do so again.
        let at = Circumstances {
            form: stream.form,
            now: stream.opened_at,
            reauth: false,
        };
        match policy::decide(&gate.routes.route(stream.route).rule, &resolution, at).0 {
            Verdict::Allow(permit) if permit.principal().is_some() => Fate::GoesOn(known),
            _ => Fate::Ends("refused"),
        }
    }

    fn end(&self, id: u64, stream: &Stream, why: &'static str) {
        // Whoever comes first; the other end may be closing it by itself.
        if self.0.streams.lock().remove(id).is_none() {
            return;
        }
        self.0.metrics.stream_ended();
        let route = self.0.gate.routes.route(stream.route).pattern.as_str();
        tracing::info!(route, why, "a stream was ended with its session");
        stream.end.now();
    }
}
