//! WebSockets, event streams and other long answers: they end when the session they were opened with does.
//!
//! A request is judged once, and its answer may go on for hours. So those of people who are signed in are kept in a list. When a
//! revocation touches one, and every now and then, it is judged again as if it began now; when it would not be let in, it ends, also
//! when nothing moves on it. What merely could have been revoked goes on.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::task::AtomicWaker;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::Notify;

use super::proxy::{Gateway, Shared};
use crate::credential::Method;
use crate::credential::signature::Seal;
use crate::policy::{self, Circumstances, Verdict};
use crate::request::Form;
use crate::route::RouteId;
use crate::session::cache::{Entry, Forgotten};
use crate::session::feed::{Ended, TokenDigest};
use crate::session::resolve::{Resolution, Who};
use crate::session::{Freshness, Keeper, Rejection};
use crate::time::UnixMs;

/// Most streams that are watched at once; more are refused (503). Each takes two sockets and about a kilobyte here: the system runs out
/// of the former long before.
const STREAMS_MAX: usize = 250_000;

/// An answer that still sends after this long is a stream, whatever it calls itself. Ordinary ones have ended by then and cost nothing.
pub const LONG: Duration = Duration::from_secs(5);

/// Most of them judged again at once. Everybody's turn comes, and the store stays free for requests.
const JUDGED_AT_ONCE: usize = 16;

/// How often it is looked whether a turn has come.
const TICK: Duration = Duration::from_millis(250);

/// How long the store may be silent about a session that was touched or has expired. Then it ends: whoever opens another asks again.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long the store may lack a session that was issued a moment ago and touched since: one of several replicas may lag behind.
const LAG_MAX: Duration = Duration::from_secs(2);

/// How soon a silent store is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a stream is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Session([u8; 32]),
    Digest(TokenDigest),
    User(Box<str>),
    Organization(Box<str>),
    Method(Method),
}

/// A stream that is open.
#[derive(Clone)]
struct Stream {
    entry: Arc<Entry>,
    keys: Vec<Key>,
    route: RouteId,
    form: Form,
    client: IpAddr,
    opened_at: UnixMs,
    due: UnixMs,
    /// Since when the store has been silent about it.
    silent_since: Option<UnixMs>,
    end: Arc<End>,
}

/// All streams that are open.
#[derive(Default)]
pub struct Streams {
    table: Mutex<Table>,
    more: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Stream>,
    by_key: HashMap<Key, HashSet<u64>>,
    by_due: BTreeSet<(UnixMs, u64)>,
    touched: BTreeSet<u64>,
}

/// A place in the list, for as long as the stream is open.
pub struct Place {
    streams: Arc<Streams>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.lock().remove(self.id);
    }
}

/// What is kept of a request whose answer goes on.
pub struct Opened {
    /// Who it is from.
    pub entry: Arc<Entry>,
    /// The route that let it in.
    pub route: RouteId,
    /// The kind of request.
    pub form: Form,
    /// The client. An app that is asked about it counts requests by address.
    pub client: IpAddr,
}

impl Streams {
    /// Keeps a stream in the list. `None`: there are too many.
    pub fn open(
        self: &Arc<Self>,
        opened: Opened,
        end: Arc<End>,
        gateway: &Gateway,
    ) -> Option<Place> {
        let sessions = &gateway.gate.sessions;
        let now = gateway.gate.clock.now();
        let stream = Stream {
            keys: keys(&opened.entry, |token| sessions.signer().seal(token)),
            due: due(&opened.entry, now, gateway.recheck),
            entry: opened.entry,
            route: opened.route,
            form: opened.form,
            client: opened.client,
            opened_at: now,
            silent_since: None,
            end,
        };
        let mut table = self.lock();
        if table.open.len() >= STREAMS_MAX {
            return None;
        }
        let id = table.next;
        table.next += 1;
        let entry = Arc::clone(&stream.entry);
        table.insert(id, stream);
        // It may have been revoked between the decision and the answer. Looked at only now, because from now on it is told.
        if !entry.stands(&sessions.cache().revocations) {
            table.touched.insert(id);
        }
        drop(table);
        self.more.notify_one();
        Some(Place {
            streams: Arc::clone(self),
            id,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Something was forgotten: the streams it concerns are judged again.
    pub fn touch(&self, what: Forgotten<'_>) {
        let mut table = self.lock();
        if table.open.is_empty() {
            return;
        }
        let key = match what {
            Forgotten::Session(seal) => Key::Session(*seal.bytes()),
            Forgotten::Named(Ended::Token(digest)) => Key::Digest(*digest),
            Forgotten::Named(Ended::User(id)) => Key::User(id.clone()),
            Forgotten::Named(Ended::Organization(id)) => Key::Organization(id.clone()),
            // Which key a stream was opened with is not remembered.
            Forgotten::Named(Ended::ApiKey(_)) => Key::Method(Method::of("api_key")),
            Forgotten::Named(Ended::All) => {
                let table = &mut *table;
                table.touched.extend(table.open.keys());
                return self.more.notify_one();
            }
        };
        let table = &mut *table;
        if let Some(ids) = table.by_key.get(&key) {
            table.touched.extend(ids);
            self.more.notify_one();
        }
    }

    /// Takes the next of them whose turn has come, and whether it was touched.
    fn take(&self, now: UnixMs) -> Option<(u64, Stream, bool)> {
        let mut table = self.lock();
        loop {
            let (id, touched) = match table.touched.pop_first() {
                Some(id) => (id, true),
                None => {
                    let (due, id) = *table.by_due.first()?;
                    if due > now {
                        return None;
                    }
                    (id, false)
                }
            };
            let Some(stream) = table.open.get(&id).cloned() else {
                continue;
            };
            // Out of the way while it is being judged.
            table.by_due.remove(&(stream.due, id));
            return Some((id, stream, touched));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, id: u64, stream: Stream) {
        for key in &stream.keys {
            self.by_key.entry(key.clone()).or_default().insert(id);
        }
        self.by_due.insert((stream.due, id));
        self.open.insert(id, stream);
    }

    fn remove(&mut self, id: u64) -> Option<Stream> {
        let stream = self.open.remove(&id)?;
        for key in &stream.keys {
            if let Some(ids) = self.by_key.get_mut(key) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
        self.by_due.remove(&(stream.due, id));
        self.touched.remove(&id);
        Some(stream)
    }
}

fn keys(entry: &Entry, seal: impl Fn(&str) -> Seal) -> Vec<Key> {
    let record = &entry.principal.record;
    let mut keys = vec![
        Key::User(record.user_id.clone()),
        Key::Method(entry.principal.method),
    ];
    let token = record.token.expose();
    if !token.is_empty() {
        keys.push(Key::Session(*seal(token).bytes()));
        keys.push(Key::Digest(TokenDigest::of(token)));
    }
    keys.extend(record.organization_id.clone().map(Key::Organization));
    keys
}

/// When a stream is judged again without being touched: just after its session expires as far as we know, or after a while.
fn due(entry: &Entry, now: UnixMs, recheck: Duration) -> UnixMs {
    let expired = UnixMs(entry.principal.record.expires_at.0.saturating_add(1));
    let after = |wait: Duration| {
        UnixMs(
            now.0
                .saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)),
        )
    };
    let soonest = after(ASK_AGAIN);
    if recheck.is_zero() {
        return expired.max(soonest);
    }
    expired.max(soonest).min(after(recheck))
}

/// Whether an answer is a stream from its first byte.
pub fn is_stream(status: StatusCode, headers: &HeaderMap) -> bool {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return true;
    }
    headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            [
                "text/event-stream",
                "application/x-ndjson",
                "application/jsonl",
                "application/stream+json",
                "multipart/x-mixed-replace",
            ]
            .iter()
            .any(|known| kind.eq_ignore_ascii_case(known))
                || kind.to_ascii_lowercase().starts_with("application/grpc")
        })
}

// --------------------------------------------------------------------------------------------------------- judging them again

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
        let method = entry.principal.method;
        (method == Method::SESSION || method == Method::of("bearer"))
            && !entry.principal.record.token.expose().is_empty()
            && self.0.gate.sessions.keeper() == Keeper::Store
    }

    async fn fate(&self, stream: &Stream, urgent: bool) -> Fate {
        let gate = &self.0.gate;
        let (entry, now) = (&stream.entry, gate.clock.now());
        let token = entry.principal.record.token.expose();
        let method = entry.principal.method;
        let resolution = if !self.can_ask(entry) {
            if entry.is_expired(now) {
                return Fate::Ends("expired");
            }
            // What proved it has not been kept, so it cannot be proved again: whoever still can opens another. A token that proves itself
            // would do so until it expires.
            if urgent && method != Method::of("jwt") {
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

// -------------------------------------------------------------------------------------------------------------- ending them

/// Ends one exchange from outside.
#[derive(Default)]
pub struct End {
    over: AtomicBool,
    waker: AtomicWaker,
}

impl End {
    fn now(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    fn is_over(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.over.load(Ordering::SeqCst)
    }
}

tokio::task_local! {
    /// How the exchange that this task carries out is ended, if anybody may want to.
    static END: RefCell<Option<Arc<End>>>;
}

/// The way to end the exchange of this task from outside. `None`: it cannot be.
pub fn end_of_this_exchange() -> Option<Arc<End>> {
    END.try_with(|end| Arc::clone(end.borrow_mut().get_or_insert_with(Arc::default)))
        .ok()
}

/// The proxy, whose exchanges can be ended from outside: dropped, wherever they are, with both of their connections.
pub struct Endable(pub Arc<HttpProxy<Shared>>);

#[async_trait]
impl HttpServerApp for Endable {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let mut exchange = self.0.process_new_http(session, shutdown);
        let until_ended = poll_fn(|cx| {
            if let Poll::Ready(done) = exchange.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            let over = END.with(|end| end.borrow().as_ref().is_some_and(|end| end.is_over(cx)));
            if over {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
        });
        END.scope(RefCell::new(None), until_ended).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.0.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.0.server_options()
    }

    async fn http_cleanup(&self) {
        self.0.http_cleanup().await;
    }
}
