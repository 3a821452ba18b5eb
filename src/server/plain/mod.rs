//! Plain exchanges: a GET over HTTP/1.1, and its answer, over connections that we read and write ourselves.
//!
//! Pingora's own way serves every request there is, with bodies, upgrades, caches and trailers, and each pays for all of them: a session
//! per request, two channels, a task that watches each waiting connection, several copies of each head. Most requests are a GET whose
//! head came in one piece. These go this way: one head read, one head out, one head back, and pieces of the answer as they come.
//! Whatever is not as plain is given to Pingora as it came, before anybody has looked at it, and the connection is taken back afterwards.

mod answer;
mod lines;
mod request;
mod wait;

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::TRANSFER_ENCODING;
use http::{Method, StatusCode};
use pingora::apps::{HttpServerApp as _, ServerApp};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use pingora::{Error, ErrorType, OkOrErr as _, Result};

use self::answer::Received;
use self::lines::Ours;
use self::wait::Deadline;
use super::forward::{self, Client, Trace};
use super::proxy::{self, Ctx, Gateway, Shared};
use super::respond::Answer;
use super::streams::{self, Endable};
use super::upstream::{ATTEMPTS_MAX, App, Place};
use super::verify;

/// How long a new connection may be silent: what Pingora allows.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(60);

/// How long a head of a request mostly is at most. What is longer arrives in pieces, and is Pingora's.
const REQUEST_BYTES: usize = 8 * 1024;

/// How much of an answer is read at once: its head, and mostly all of it.
const ANSWER_BYTES: usize = 8 * 1024;

/// How much of the rest of it is read at once: few calls for a long one, and not much memory for each of many.
const PIECE_BYTES: usize = 32 * 1024;

/// Takes connections, answers what is plain, and gives Pingora the rest.
pub struct Plain {
    gateway: Arc<Gateway>,
    pingora: Arc<Endable<HttpProxy<Shared>>>,
}

/// What a connection is to do next.
enum Next {
    /// This request is not plain: Pingora reads what came once more.
    Pingora(BytesMut),
    /// Another request.
    Again,
    /// Nothing.
    End,
}

impl Plain {
    /// In front of it.
    pub const fn new(gateway: Arc<Gateway>, pingora: Arc<Endable<HttpProxy<Shared>>>) -> Self {
        Self { gateway, pingora }
    }

    /// Answers one request after the other, until either side has had enough.
    async fn serve_connection(&self, stream: Stream, shutdown: &ShutdownWatch) {
        let address = stream
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr()?.as_inet().copied());
        let mut connection = Connection {
            gateway: &self.gateway,
            stream,
            peer: address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip()),
            deadline: Deadline::new(),
            shutdown: shutdown.clone(),
        };
        let mut silent = FIRST_REQUEST_WITHIN;
        let mut stopping = shutdown.clone();
        let mut stopped = std::pin::pin!(stopping.wait_for(|stops| *stops));
        loop {
            let Some(came) = connection.first_bytes(silent, stopped.as_mut()).await else {
                return connection.close().await;
            };
            // Let go before the connection is taken apart.
            let next = {
                let served = std::pin::pin!(connection.serve(came));
                streams::until_ended(served).await
            };
            match next {
                Some(Next::Again) => {}
                Some(Next::Pingora(came)) => {
                    let mut session = ServerSession::new_http1(connection.stream);
                    session.set_keepalive(Some(silent.as_secs().max(1)));
                    session.set_pipelined_prefix(came);
                    let served = self.pingora.process_new_http(session, shutdown).await;
                    let Some(served) = served else { return };
                    // What else it says of a connection is about pipelining, which is off.
                    (connection.stream, _) = served.consume();
                    connection.deadline.time_went_by();
                }
                Some(Next::End) => return connection.close().await,
                // Ended from outside.
                None => return,
            }
            silent = self.gateway.settings.timeouts.idle;
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
            return self.pingora.process_new(stream, shutdown).await;
        }
        streams::endable(self.serve_connection(stream, shutdown)).await;
        None
    }

    async fn cleanup(&self) {
        self.pingora.http_cleanup().await;
    }
}

/// A connection of a client.
struct Connection<'g> {
    gateway: &'g Arc<Gateway>,
    stream: Stream,
    peer: IpAddr,
    deadline: Deadline,
    shutdown: ShutdownWatch,
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
    /// The last answer goes out.
    const fn begin(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.has_begun = true;
    }
}

impl Connection<'_> {
    /// Says goodbye, but not for longer than anything is written: a client that reads nothing would keep the connection for ever.
    async fn close(mut self) {
        let within = self.gateway.settings.timeouts.response_write;
        let _ = tokio::time::timeout(within, self.stream.shutdown()).await;
    }

    /// Waits for the next request. `None`: there is none.
    async fn first_bytes(
        &mut self,
        within: Duration,
        mut stopped: Pin<&mut impl Future>,
    ) -> Option<BytesMut> {
        let read = wait::first(
            &mut self.stream,
            REQUEST_BYTES,
            within,
            &mut self.deadline,
            |cx| stopped.as_mut().poll(cx).is_ready(),
        );
        read.await.ok().filter(|came| !came.is_empty())
    }

    /// Answers one request.
    async fn serve(&mut self, came: BytesMut) -> Next {
        let came = came.freeze();
        let read = request::plain(&came).filter(|(head, _)| !is_special(self.gateway, head));
        let Some((head, keeps)) = read else {
            return Next::Pingora(came.try_into_mut().unwrap_or_else(BytesMut::from));
        };
        let mut ctx = Ctx::new(&self.gateway.metrics, self.deadline.now());
        let mut said = Said {
            status: 0,
            has_begun: false,
            keeps: keeps && !*self.shutdown.borrow(),
            ended: None,
        };
        let exchanged = self.exchange(&head, &mut ctx, &mut said).await;
        let error = exchanged.err();
        if let Some(error) = &error {
            said.keeps = false;
            let (_, answer) = self.gateway.failure(error, said.has_begun, &mut ctx);
            tracing::error!("{}: {error}", self.gateway.summary(&head));
            if let Some(answer) = answer {
                // The client may be gone: then there is nobody left to tell.
                let _ = self.answer(&head, answer, &ctx.trace, &mut said).await;
            }
        }
        let gateway = self.gateway;
        let ended = said.ended.unwrap_or_else(Instant::now);
        self.deadline.is_now(ended);
        gateway.tell(&head, said.status, error.as_deref(), ended, &mut ctx);
        if said.keeps { Next::Again } else { Next::End }
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
        let mut wire = Vec::with_capacity(ANSWER_BYTES);
        let ours = Ours {
            keeps: said.keeps,
            request_id: trace.request_id.as_bytes(),
            caches: None,
        };
        lines::write_answer(&answer, &head.method, &ours, &mut wire);
        said.begin(answer.status);
        self.tell_client(&wire).await
    }

    async fn tell_client(&mut self, wire: &[u8]) -> Result<()> {
        let within = self.gateway.settings.timeouts.response_write;
        let written = wait::write(&mut self.stream, wire, within, &mut self.deadline).await;
        written.map_err(|error| error.into_down())
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
            let mut early = Vec::new();
            lines::write_early(&received.head, &received.came, &mut early);
            said.has_begun = true;
            self.tell_client(&early).await?;
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
                None => match app.connect(&place).await {
                    Ok(stream) => {
                        self.deadline.time_went_by();
                        (stream, false)
                    }
                    // Nothing was sent yet: another address may be asked.
                    Err(_) if ctx.attempts < ATTEMPTS_MAX => continue,
                    Err(error) => return Err(error.into_up()),
                },
            };
            // The app may have closed it while it waited. Then nothing of an answer is seen, and others may be as dead.
            waiting_too = false;
            let within = app.write_timeout();
            let sent = wait::write(&mut stream, wire, within, &mut self.deadline).await;
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
        wait::answer(stream, &mut self.stream, came, within, &mut self.deadline).await
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
        let mut wire = Vec::with_capacity(ANSWER_BYTES);
        let ours = Ours {
            keeps: said.keeps,
            request_id: ctx.trace.request_id.as_bytes(),
            caches,
        };
        lines::write(&response, &written, &ours, &mut wire);
        let used = body.take(&rest, &mut wire).map_err(|e| e.into_up())?;
        said.begin(response.status);
        self.tell_client(&wire).await?;
        if body.is_done() {
            return Ok(keeps && used == rest.len());
        }
        let mut came = BytesMut::from(rest.get(used..).unwrap_or_default());
        while !body.is_done() {
            gateway.goes_on(ctx)?;
            came.reserve(PIECE_BYTES);
            let read = self.more(app, stream, &mut came);
            wire.clear();
            if read.await? == 0 {
                body.end(&mut wire).map_err(|error| error.into_up())?;
            } else {
                let used = body.take(&came, &mut wire).map_err(|e| e.into_up())?;
                let _ = came.split_to(used);
            }
            if !wire.is_empty() {
                self.tell_client(&wire).await?;
            }
        }
        Ok(keeps && came.is_empty())
    }
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
