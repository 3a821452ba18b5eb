//! Plain exchanges: a GET and its answer, over connections to the app that we read and write ourselves.
//!
//! Pingora's own way serves every request there is, with bodies, upgrades, caches and trailers, and each pays for all of them: a session
//! per request, two channels, a task that watches each waiting connection, several copies of each head. Most requests are a GET whose
//! head came in one piece. These go this way: one head read, one head out, one head back, and pieces of the answer as they come.
//! Whatever is not as plain is given to Pingora as it came, before anybody has looked at it, and the connection is taken back afterwards.
//!
//! What is asked, judged, passed on and answered is written once. How a client is read and written is its protocol's: `h1` and `h2`.

mod answer;
mod h1;
mod h2;
mod lines;
mod request;
mod wait;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes, BytesMut};
use http::header::TRANSFER_ENCODING;
use http::{Method, StatusCode};
use pingora::apps::{HttpServerApp as _, ServerApp};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use pingora::{Error, ErrorType, OkOrErr as _, Result};

use self::answer::{Body, Received};
use self::lines::Ours;
use self::wait::Deadline;
use super::forward::{self, Client, Trace};
use super::proxy::{self, Ctx, Gateway, Shared};
use super::respond::Answer;
use super::streams::{self, Endable};
use super::upstream::{ATTEMPTS_MAX, App, Place};
use super::verify;

/// How much of an answer is read at once: its head, and mostly all of it.
const ANSWER_BYTES: usize = 8 * 1024;

/// How much of the rest of it is read at once: few calls for a long one, and not much memory for each of many.
const PIECE_BYTES: usize = 32 * 1024;

/// Takes connections, answers what is plain, and gives Pingora the rest.
pub struct Plain {
    gateway: Arc<Gateway>,
    pingora: Arc<Endable<HttpProxy<Shared>>>,
    http2: Arc<h2::Http2>,
}

impl Plain {
    /// In front of it.
    pub fn new(gateway: Arc<Gateway>, pingora: Arc<Endable<HttpProxy<Shared>>>) -> Self {
        let http2 = h2::Http2::new(Arc::clone(&gateway), Arc::clone(&pingora));
        Self {
            gateway,
            pingora,
            http2: Arc::new(http2),
        }
    }
}

#[async_trait]
impl ServerApp for Plain {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            // Apart: what it takes is not held for each connection of HTTP/1.1.
            Box::pin(self.http2.serve_connection(stream, shutdown)).await;
            return None;
        }
        streams::endable(self.serve_connection(stream, shutdown)).await;
        None
    }

    async fn cleanup(&self) {
        self.pingora.http_cleanup().await;
    }
}

/// The client's side of an exchange.
trait Downstream {
    /// What is written to it at once.
    type Wire: Wire;

    /// Writes some of it. Says whether that was all. `ends`: nothing of this answer follows.
    fn poll_write(
        &mut self,
        wire: &mut Self::Wire,
        ends: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>>;

    /// Notices that it leaves, or sends more than it said.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Box<Error>>;
}

/// What is about to be written to a client, as its protocol writes it.
trait Wire: Send {
    /// Nothing.
    fn new() -> Self;

    /// The head of an early answer, which the app wrote as `came`.
    fn put_early(&mut self, response: &ResponseHeader, came: &[u8]);

    /// The head of the last one.
    fn put_head(&mut self, response: ResponseHeader, came: &[u8], ours: &Ours<'_>) -> Result<()>;

    /// An answer of ours, as far as one to this method is.
    fn put_answer(&mut self, answer: Answer, method: &Method, ours: &Ours<'_>) -> Result<()>;

    /// What came of the app's. Says how much of it was used.
    fn put_piece(&mut self, body: &mut Body, came: &Bytes) -> Result<usize>;

    /// Nothing more comes of it.
    fn put_end(&mut self, body: &mut Body) -> Result<()>;
}

/// One request of a client.
struct Exchange<'e, D> {
    gateway: &'e Arc<Gateway>,
    client: &'e mut D,
    peer: IpAddr,
    deadline: &'e mut Deadline,
}

/// What was said of one exchange so far.
struct Said {
    /// The status of the answer; 0: there was none.
    status: u16,
    /// Whether anything was written, of an early head too: another answer would follow in the middle of it.
    has_begun: bool,
    /// Whether the client's connection serves again.
    keeps: bool,
    /// When all of it was, if anybody has looked.
    ended: Option<Instant>,
}

impl Said {
    /// Nothing yet.
    const fn nothing(keeps: bool) -> Self {
        Self {
            status: 0,
            has_begun: false,
            keeps,
            ended: None,
        }
    }

    /// The last answer goes out.
    const fn begin(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.has_begun = true;
    }
}

impl<D: Downstream + Send> Exchange<'_, D> {
    /// Answers it.
    async fn serve(&mut self, head: &RequestHeader, said: &mut Said) {
        let gateway = self.gateway;
        let mut ctx = Ctx::new(&gateway.metrics, self.deadline.now());
        let error = self.exchange(head, &mut ctx, said).await.err();
        if let Some(error) = &error {
            said.keeps = false;
            let (_, answer) = gateway.failure(error, said.has_begun, &mut ctx);
            tracing::error!("{}: {error}", gateway.summary(head));
            if let Some(answer) = answer {
                // The client may be gone: then there is nobody left to tell.
                let _ = self.answer(head, answer, &ctx.trace, said).await;
            }
        }
        let ended = said.ended.unwrap_or_else(Instant::now);
        self.deadline.is_now(ended);
        gateway.tell(head, said.status, error.as_deref(), ended, &mut ctx);
    }

    async fn exchange(
        &mut self,
        head: &RequestHeader,
        ctx: &mut Ctx,
        said: &mut Said,
    ) -> Result<()> {
        let gateway = self.gateway;
        ctx.trace = Trace::read(&head.headers, || gateway.random());
        let client = Client::read(
            &gateway.settings,
            &gateway.believed,
            self.peer,
            &head.headers,
        );
        ctx.client = Some(client);
        let (considered, has_waited) = {
            let considered = std::pin::pin!(gateway.consider(head, client, ctx));
            wait::noticed(considered).await
        };
        if has_waited {
            self.deadline.time_went_by();
        } else {
            self.deadline.is_now(ctx.decided_at);
        }
        let answer = match considered {
            Ok(None) => return self.pass(head, ctx, said).await,
            Ok(Some(answer)) => answer,
            Err(malformed) => {
                // Whoever frames a request badly may have sent the next one along.
                said.keeps = false;
                gateway.turn_down(&malformed, ctx)
            }
        };
        self.answer(head, answer, &ctx.trace, said).await
    }

    /// Gives the client an answer of ours.
    async fn answer(
        &mut self,
        head: &RequestHeader,
        answer: Answer,
        trace: &Trace,
        said: &mut Said,
    ) -> Result<()> {
        let status = answer.status;
        let ours = Ours {
            keeps: said.keeps,
            request_id: &trace.request_id,
            caches: None,
        };
        let mut wire = D::Wire::new();
        wire.put_answer(answer, &head.method, &ours)?;
        said.begin(status);
        self.tell_client(&mut wire, true).await
    }

    async fn tell_client(&mut self, wire: &mut D::Wire, ends: bool) -> Result<()> {
        let within = self.gateway.settings.timeouts.response_write;
        let Self {
            client, deadline, ..
        } = self;
        let written = wait::written(within, deadline, |cx| client.poll_write(wire, ends, cx));
        written.await.map_err(|error| error.into_down())
    }

    /// Passes a request on, and its answer back.
    async fn pass(&mut self, head: &RequestHeader, ctx: &mut Ctx, said: &mut Said) -> Result<()> {
        let gateway = self.gateway;
        let (Some(app), Some(permit), Some(client)) =
            (gateway.apps.get(ctx.app), &ctx.permit, ctx.client)
        else {
            return Error::e_explain(ErrorType::InternalError, "no permit");
        };
        let wire = forward::to_wire(
            head,
            &gateway.identity,
            permit.principal().map(|entry| &**entry),
            client,
            gateway.passed_at(ctx),
            &ctx.trace,
        )?;
        let asked = self.ask(app, &wire, head.method == Method::HEAD, ctx);
        let (mut stream, place, mut received) = asked.await?;
        loop {
            let status = received.head.status;
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                break;
            }
            let mut early = D::Wire::new();
            early.put_early(&received.head, &received.came);
            said.has_begun = true;
            self.tell_client(&mut early, false).await?;
            // It is whole.
            said.has_begun = false;
            let bodiless = head.method == Method::HEAD;
            received = self
                .next_head(app, &mut stream, received.rest, bodiless)
                .await?
                .or_err(ErrorType::ConnectionClosed, "no answer after an early one")
                .map_err(|error| error.into_up())?;
        }
        let keeps = self
            .give(app, &mut stream, received, head, ctx, said)
            .await?;
        if keeps {
            let ended = Instant::now();
            said.ended = Some(ended);
            app.kept.put(stream, place.address, &place.name, ended);
        }
        Ok(())
    }

    /// Asks the app, over a connection that waits or a new one. A GET that a dead connection took may be asked again.
    async fn ask(
        &mut self,
        app: &App,
        wire: &[u8],
        bodiless: bool,
        ctx: &mut Ctx,
    ) -> Result<(Stream, Place, Received)> {
        let mut waiting_too = true;
        loop {
            ctx.attempts += 1;
            let place = app.place().ok_or_else(|| {
                Error::explain(
                    ErrorType::ConnectError,
                    "the upstream's name does not resolve",
                )
            })?;
            let now = self.deadline.now();
            let kept = waiting_too.then(|| app.kept.take(place.address, &place.name, now));
            let (mut stream, is_kept) = match kept.flatten() {
                Some(stream) => (stream, true),
                None => {
                    let connected = app.connect(&place).await;
                    self.deadline.time_went_by();
                    match connected {
                        Ok(stream) => (stream, false),
                        // Nothing was sent yet: another address may be asked.
                        Err(_) if ctx.attempts < ATTEMPTS_MAX => continue,
                        Err(error) => return Err(error.into_up()),
                    }
                }
            };
            // The app may have closed it while it waited. Then nothing of an answer is seen, and others may be as dead.
            waiting_too = false;
            let within = app.write_timeout();
            let sent = wait::write(&mut stream, wire, within, self.deadline).await;
            match sent {
                Ok(()) => {}
                Err(_) if is_kept => continue,
                Err(error) => return Err(error.into_up()),
            }
            match self
                .next_head(app, &mut stream, Bytes::new(), bodiless)
                .await?
            {
                Some(received) => return Ok((stream, place, received)),
                None if is_kept => {}
                None => {
                    let nothing = "the app closed the connection without an answer";
                    return Err(Error::explain(ErrorType::ConnectionClosed, nothing).into_up());
                }
            }
        }
    }

    /// Reads more of an answer, or notices that the client leaves. Says how much came; 0: the end.
    async fn more(&mut self, app: &App, stream: &mut Stream, came: &mut BytesMut) -> Result<usize> {
        let within = app.first_byte_timeout();
        wait::answer(stream, self.client, came, within, self.deadline).await
    }

    /// Reads the next head of an answer, or notices that the client leaves. `None`: the connection ended before any of it.
    async fn next_head(
        &mut self,
        app: &App,
        stream: &mut Stream,
        rest: Bytes,
        bodiless: bool,
    ) -> Result<Option<Received>> {
        let mut came = rest.try_into_mut().unwrap_or_else(BytesMut::from);
        loop {
            if !came.is_empty() {
                let whole = std::mem::take(&mut came).freeze();
                match answer::read(whole, bodiless).map_err(|error| error.into_up())? {
                    Ok(received) => return Ok(Some(received)),
                    Err(partial) => came = partial,
                }
            }
            came.reserve(ANSWER_BYTES);
            let read = self.more(app, stream, &mut came);
            match read.await {
                Ok(0) if came.is_empty() => return Ok(None),
                // What a closed connection says: it was reset before any answer.
                Err(error) if came.is_empty() && wait::was_reset(&error) => return Ok(None),
                Ok(0) => {
                    let cut = "the app broke off in the head of its answer";
                    return Err(Error::explain(ErrorType::ConnectionClosed, cut).into_up());
                }
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the client the app's answer. Says whether the connection to the app serves again.
    async fn give(
        &mut self,
        app: &App,
        stream: &mut Stream,
        received: Received,
        request: &RequestHeader,
        ctx: &mut Ctx,
        said: &mut Said,
    ) -> Result<bool> {
        let Received {
            head: mut response,
            came: written,
            mut body,
            rest,
            keeps,
        } = received;
        if body.ends_with_connection() {
            // The client's stays.
            response.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
        let gateway = self.gateway;
        let caches = gateway.answered(request, &mut response, ctx).await?;
        let status = response.status;
        let ours = Ours {
            keeps: said.keeps,
            request_id: &ctx.trace.request_id,
            caches,
        };
        let mut wire = D::Wire::new();
        wire.put_head(response, &written, &ours)?;
        let used = wire.put_piece(&mut body, &rest)?;
        said.begin(status);
        self.tell_client(&mut wire, body.is_done()).await?;
        if body.is_done() {
            return Ok(keeps && used == rest.len());
        }
        let mut came = left_over(rest, used);
        while !body.is_done() {
            gateway.goes_on(ctx)?;
            came.reserve(PIECE_BYTES);
            let read = self.more(app, stream, &mut came);
            if read.await? == 0 {
                wire.put_end(&mut body)?;
                self.tell_client(&mut wire, true).await?;
            } else {
                let piece = std::mem::take(&mut came).freeze();
                let used = wire.put_piece(&mut body, &piece)?;
                self.tell_client(&mut wire, body.is_done()).await?;
                came = left_over(piece, used);
            }
        }
        Ok(keeps && came.is_empty())
    }
}

/// What of it was not used, in the same buffer when nobody else holds it.
fn left_over(came: Bytes, used: usize) -> BytesMut {
    match came.try_into_mut() {
        Ok(mut came) => {
            came.advance(used.min(came.len()));
            came
        }
        Err(came) => BytesMut::from(came.get(used..).unwrap_or_default()),
    }
}

/// The address of a client; that of nobody where none is known.
fn address_of(peer: Option<&SocketAddr>) -> IpAddr {
    peer.and_then(SocketAddr::as_inet)
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip())
}

/// Whether a request is for a part of the gateway that speaks Pingora's language only, or for one that may take long.
fn is_special(gateway: &Gateway, head: &RequestHeader) -> bool {
    let asks = || verify::is_asked(proxy::target_bytes(head));
    (gateway.settings.forward_auth.is_some() && asks())
        || proxy::accepts_events(head)
        || gateway
            .migration
            .as_ref()
            .and_then(|migration| migration.arrivals.as_ref())
            .is_some_and(|arrivals| arrivals.concerns(&head.headers))
}
