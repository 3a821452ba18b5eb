//! WebSockets, event streams and other long answers: they end when the session they were opened with does.
//!
//! A request is judged once, and its answer may go on for hours. So those of people who are signed in are kept in a list. When a
//! revocation touches one, and every now and then, it is judged again as if it began now; when it would not be let in, it ends, also
//! when nothing moves on it. What merely could have been revoked goes on.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::task::AtomicWaker;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use pingora::apps::{HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;
use tokio::sync::Notify;

use crate::credential::Method;
use crate::credential::signature::Seal;
use crate::gate::Gate;
use crate::request::Form;
use crate::route::RouteId;
use crate::session::cache::{Entry, Forgotten};
use crate::session::feed::{Ended, TokenDigest};
use crate::time::UnixMs;

pub mod sweep;

/// Most streams that are watched at once; more are refused (503). Each takes two sockets and about a kilobyte here: the system runs out
/// of the former long before.
const STREAMS_MAX: usize = 250_000;

/// An answer that still sends after this long is a stream, whatever it calls itself. Ordinary ones have ended by then and cost nothing.
pub const LONG: Duration = Duration::from_secs(5);

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
        gate: &Gate,
        recheck: Duration,
    ) -> Option<Place> {
        let sessions = &gate.sessions;
        let now = gate.clock.now();
        let stream = Stream {
            keys: keys(&opened.entry, |token| sessions.signer().seal(token)),
            due: due(&opened.entry, now, recheck),
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
            Forgotten::Named(Ended::ApiKey(_)) => Key::Method(Method::ApiKey),
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
    let mut keys = vec![
        Key::User(entry.user_id().into()),
        Key::Method(entry.method()),
    ];
    let token = entry.expose_token();
    if !token.is_empty() {
        keys.push(Key::Session(*seal(token).bytes()));
        keys.push(Key::Digest(TokenDigest::of(token)));
    }
    keys.extend(
        entry
            .organization_id()
            .map(|id| Key::Organization(id.into())),
    );
    keys
}

/// When a stream is judged again without being touched: just after its session expires as far as we know, or after a while.
fn due(entry: &Entry, now: UnixMs, recheck: Duration) -> UnixMs {
    let expired = UnixMs(entry.expires_at().0.saturating_add(1));
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

/// Within this, exchanges can be ended from outside: one at a time, by [`until_ended`].
pub async fn endable<T>(exchanges: impl Future<Output = T>) -> T {
    END.scope(RefCell::new(None), exchanges).await
}

/// Carries out an exchange until it is done or ended from outside (`None`). It is not moved: that would copy kilobytes for each.
pub async fn until_ended<T>(
    mut exchange: Pin<&mut (impl Future<Output = T> + ?Sized)>,
) -> Option<T> {
    // Of the one before.
    END.with(RefCell::take);
    poll_fn(|cx| {
        if let Poll::Ready(done) = exchange.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        let over = END.with(|end| end.borrow().as_ref().is_some_and(|end| end.is_over(cx)));
        if over {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// The proxy, whose exchanges can be ended from outside: dropped, wherever they are, with both of their connections.
pub struct Endable<A>(pub Arc<A>);

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Endable<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let mut exchange = self.0.process_new_http(session, shutdown);
        endable(until_ended(exchange.as_mut())).await.flatten()
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.0.h2_options()
    }

    async fn http_cleanup(&self) {
        self.0.http_cleanup().await;
    }
}
