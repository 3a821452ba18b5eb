//! Clients that speak HTTP/2: many requests at once on a connection, each a stream of it.
//!
//! A stream that is plain is answered here, over the connections to the app that HTTP/1.1 uses as well; others are Pingora's, and so are
//! the rules by which a stream is accepted at all. One stream at a time is carried out by the task of its connection, which is all there
//! is while a client asks one thing after the other: what is read, written and waited for wakes nobody else. Further ones get tasks of
//! their own, so that a connection that many share is not served by one processor.

mod stream;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::TE;
use pingora::apps::HttpServerApp as _;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{self, H2Accept, HttpSession};
use pingora::protocols::{Digest, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use self::stream::Asker;
use super::wait::Spare;
use super::{Exchange, Said, address_of, is_special, request};
use crate::server::proxy::{Gateway, Shared};
use crate::server::streams::{self, Endable};

/// With so many requests that are none a connection is closed. The bound is Pingora's.
const MALFORMED_MAX: usize = 32;

/// How often a connection is kept for as long again while it still holds parts of answers, which have ended as far as we are concerned: a
/// client on a slow line is taking them, and one that takes nothing is not waited for in vain for ever.
const LINGERS_MAX: u8 = 5;

/// Takes connections, answers streams that are plain, and gives Pingora the rest.
pub struct Http2 {
    gateway: Arc<Gateway>,
    pingora: Arc<Endable<HttpProxy<Shared>>>,
    timers: Spare,
}

impl Http2 {
    /// In front of it.
    pub const fn new(gateway: Arc<Gateway>, pingora: Arc<Endable<HttpProxy<Shared>>>) -> Self {
        Self {
            gateway,
            pingora,
            timers: Spare::new(),
        }
    }

    /// Answers streams until either side has had enough.
    pub async fn serve_connection(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) {
        let idle = self.gateway.settings.timeouts.idle;
        let digest = Arc::new(Digest {
            ssl_digest: stream.get_ssl_digest(),
            timing_digest: stream.get_timing_digest(),
            proxy_digest: stream.get_proxy_digest(),
            socket_digest: stream.get_socket_digest(),
        });
        let greeted = server::handshake(stream, self.pingora.h2_options());
        let Ok(Ok(client)) = timeout(idle, greeted).await else {
            return;
        };
        let mut connection = Connection {
            client,
            digest,
            own: Own(None),
            silence: Silence::new(idle),
            stops: false,
        };
        let mut malformed = 0;
        let mut stopping = shutdown.clone();
        let mut stopped = pin!(stopping.wait_for(|stops| *stops));
        while let Some(accepted) = poll_fn(|cx| connection.poll(stopped.as_mut(), cx)).await {
            match accepted {
                H2Accept::Session(stream) => self.take(stream, &mut connection, shutdown),
                H2Accept::Rejected => malformed += 1,
            }
            if malformed >= MALFORMED_MAX {
                tracing::warn!(
                    "a connection over HTTP/2 ends after {malformed} requests that are none"
                );
                break;
            }
        }
        let Connection {
            client, mut own, ..
        } = connection;
        // Its streams notice that nobody is there any more.
        drop(client);
        poll_fn(|cx| own.poll(cx)).await;
    }

    /// Has a stream carried out.
    fn take(
        self: &Arc<Self>,
        stream: HttpSession,
        connection: &mut Connection,
        shutdown: &ShutdownWatch,
    ) {
        let one = Arc::clone(self);
        let is_plain = self.is_plain(&stream);
        if is_plain && connection.own.0.is_none() {
            connection.own.0 = Some(Box::pin(one.answer(stream)));
            return;
        }
        let (shutdown, busy) = (shutdown.clone(), connection.silence.busy());
        tokio::spawn(async move {
            if is_plain {
                one.answer(stream).await;
            } else {
                let session = ServerSession::new_http2(stream);
                one.pingora.process_new_http(session, &shutdown).await;
            }
            drop(busy);
        });
    }

    /// Whether a stream is a plain request, and all of it is here.
    fn is_plain(&self, stream: &HttpSession) -> bool {
        let head = stream.req_header();
        request::is_plain(head) && stream.is_body_empty() && !is_special(&self.gateway, head)
    }

    /// Answers a request.
    async fn answer(self: Arc<Self>, mut stream: HttpSession) {
        streams::endable(self.serve(&mut stream)).await;
    }

    /// Answers a request. Its stream is not moved: it is most of a kilobyte.
    async fn serve(&self, stream: &mut HttpSession) {
        let (blank, ()) = http::Request::new(()).into_parts();
        let mut head = std::mem::replace(stream.req_header_mut(), RequestHeader::from(blank));
        // It is for us alone.
        head.remove_header(&TE);
        let peer = address_of(stream.client_addr());
        let mut client = Asker::new(stream);
        let mut deadline = self.timers.take();
        let mut said = Said::nothing(true);
        {
            let mut exchange = Exchange {
                gateway: &self.gateway,
                client: &mut client,
                peer,
                deadline: &mut deadline,
            };
            let served = pin!(exchange.serve(&head, &mut said));
            streams::until_ended(served).await;
        }
        self.timers.put(deadline);
    }
}

/// A connection of a client.
struct Connection {
    client: h2::server::Connection<Stream, Bytes>,
    digest: Arc<Digest>,
    own: Own,
    silence: Silence,
    stops: bool,
}

impl Connection {
    /// Carries it on until a stream is accepted. `None`: it is over.
    fn poll(
        &mut self,
        stopped: Pin<&mut impl Future>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<H2Accept>> {
        if self.own.0.is_some() && self.own.poll(cx).is_ready() {
            self.silence.begins();
        }
        if !self.stops && stopped.poll(cx).is_ready() {
            self.client.graceful_shutdown();
            self.stops = true;
        }
        // After its own stream: what that has written leaves at once. Nothing is lost when this is dropped while it waits.
        let accepted = HttpSession::from_h2_conn(&mut self.client, Arc::clone(&self.digest));
        if let Poll::Ready(accepted) = pin!(accepted).poll(cx) {
            return Poll::Ready(accepted.ok().flatten());
        }
        if self.own.0.is_some() {
            return Poll::Pending;
        }
        let is_sending = self.client.has_streams();
        self.silence.poll(is_sending, cx).map(|()| None)
    }
}

/// The stream that the task of its connection carries out, if there is one.
struct Own(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Own {
    /// Carries it on. A panic costs this stream, as it would in a task of its own.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(stream) = &mut self.0 {
            let polled = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(cx)));
            if matches!(polled, Ok(Poll::Pending)) {
                return Poll::Pending;
            }
            self.0 = None;
        }
        Poll::Ready(())
    }
}

/// How long a connection has had no stream. Looked at when its timer rings: a stream that ends only writes down when it did.
struct Silence {
    within: Duration,
    timer: Pin<Box<Sleep>>,
    /// When its own stream ended last.
    since: Instant,
    others: Arc<Others>,
    lingered: u8,
}

/// Streams of a connection that have tasks of their own.
struct Others {
    began: Instant,
    open: AtomicUsize,
    /// When the last one ended, in milliseconds since the connection began.
    ended: AtomicU64,
}

/// One of them is open.
struct Busy(Arc<Others>);

impl Silence {
    fn new(within: Duration) -> Self {
        let began = Instant::now();
        Self {
            within,
            timer: Box::pin(sleep_until(began + within)),
            since: began,
            others: Arc::new(Others {
                began,
                open: AtomicUsize::new(0),
                ended: AtomicU64::new(0),
            }),
            lingered: 0,
        }
    }

    /// Its own stream ended.
    fn begins(&mut self) {
        self.since = Instant::now();
        self.lingered = 0;
    }

    /// There is none until this is dropped.
    fn busy(&mut self) -> Busy {
        self.lingered = 0;
        self.others.open.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(&self.others))
    }

    /// Ready when it has lasted long enough.
    fn poll(&mut self, is_sending: bool, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let due = self.since() + self.within;
            let due = if due > self.timer.deadline() {
                due
            } else if is_sending && self.lingered < LINGERS_MAX {
                self.lingered += 1;
                Instant::now() + self.within
            } else {
                return Poll::Ready(());
            };
            self.timer.as_mut().reset(due);
        }
    }

    /// When it began; now, if it has not.
    fn since(&self) -> Instant {
        let others = &self.others;
        if others.open.load(Ordering::Acquire) > 0 {
            return Instant::now();
        }
        let ended = Duration::from_millis(others.ended.load(Ordering::Acquire));
        self.since.max(others.began + ended)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Others {
            began, open, ended, ..
        } = &*self.0;
        let lasted = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        ended.fetch_max(lasted, Ordering::AcqRel);
        open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use tokio::time::{Instant, timeout};

    use super::{LINGERS_MAX, Own, Silence};

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn a_panic_costs_its_own_stream_and_the_connection_goes_on() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut own = Own(Some(Box::pin(std::future::pending())));
        assert!(own.poll(&mut cx).is_pending() && own.0.is_some());
        own.0 = Some(Box::pin(async { panic!("a defect") }));
        assert!(own.poll(&mut cx).is_ready() && own.0.is_none());
        own.0 = Some(Box::pin(async {}));
        assert!(own.poll(&mut cx).is_ready() && own.0.is_none());
    }

    #[tokio::test]
    async fn silence_lasts_from_the_end_of_the_last_stream() {
        let mut silence = Silence::new(SOON);
        for own in [true, false] {
            let busy = silence.busy();
            let waited = timeout(3 * SOON, poll_fn(|cx| silence.poll(false, cx)));
            assert!(waited.await.is_err(), "a stream is open");
            if own {
                silence.begins();
            }
            let ended = Instant::now();
            drop(busy);
            poll_fn(|cx| silence.poll(false, cx)).await;
            // Ends are written down in whole milliseconds.
            assert!(ended.elapsed() + Duration::from_millis(1) >= SOON);
        }
    }

    #[tokio::test]
    async fn what_is_still_being_sent_is_waited_for_but_not_for_ever() {
        let mut silence = Silence::new(SOON);
        for _ in 0..2 {
            let began = Instant::now();
            poll_fn(|cx| silence.poll(true, cx)).await;
            assert!(began.elapsed() >= SOON * u32::from(LINGERS_MAX));
            // Another stream came and went.
            silence.begins();
        }
    }
}
