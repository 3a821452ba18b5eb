//! Clients that speak HTTP/1.1: one request after the other on a connection.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use pingora::apps::HttpServerApp as _;
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use pingora::{Error, ErrorType, Result};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};

use super::answer::Body;
use super::lines::{self, Ours};
use super::wait::{self, Deadline};
use super::{
    ANSWER_BYTES, Downstream, Exchange, Plain, Said, Wire, address_of, is_special, request,
};
use crate::server::proxy::Gateway;
use crate::server::respond::Answer;
use crate::server::streams;

/// How long a new connection may be silent: what Pingora allows.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(60);

/// How long a head of a request mostly is at most. What is longer arrives in pieces, and is Pingora's.
const REQUEST_BYTES: usize = 8 * 1024;

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
    /// Answers one request after the other, until either side has had enough.
    pub(super) async fn serve_connection(&self, stream: Stream, shutdown: &ShutdownWatch) {
        let digest = stream.get_socket_digest();
        let mut connection = Connection {
            gateway: &self.gateway,
            client: Caller(stream),
            peer: address_of(digest.as_ref().and_then(|digest| digest.peer_addr())),
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
                    let mut session = ServerSession::new_http1(connection.client.0);
                    session.set_keepalive(Some(silent.as_secs().max(1)));
                    session.set_pipelined_prefix(came);
                    let served = self.pingora.process_new_http(session, shutdown).await;
                    let Some(served) = served else { return };
                    // What else it says of a connection is about pipelining, which is off.
                    (connection.client.0, _) = served.consume();
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

/// A connection of a client.
struct Connection<'g> {
    gateway: &'g Arc<Gateway>,
    client: Caller,
    peer: IpAddr,
    deadline: Deadline,
    shutdown: ShutdownWatch,
}

impl Connection<'_> {
    /// Says goodbye, but not for longer than anything is written: a client that reads nothing would keep the connection for ever.
    async fn close(mut self) {
        let within = self.gateway.settings.timeouts.response_write;
        let _ = tokio::time::timeout(within, self.client.0.shutdown()).await;
    }

    /// Waits for the next request. `None`: there is none.
    async fn first_bytes(
        &mut self,
        within: Duration,
        mut stopped: Pin<&mut impl Future>,
    ) -> Option<BytesMut> {
        let read = wait::first(
            &mut self.client.0,
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
        let mut said = Said::nothing(keeps && !*self.shutdown.borrow());
        let mut exchange = Exchange {
            gateway: self.gateway,
            client: &mut self.client,
            peer: self.peer,
            deadline: &mut self.deadline,
        };
        exchange.serve(&head, &mut said).await;
        if said.keeps { Next::Again } else { Next::End }
    }
}

/// A client at the other end of a connection.
pub struct Caller(pub Stream);

impl Downstream for Caller {
    type Wire = Outgoing;

    fn poll_write(
        &mut self,
        wire: &mut Outgoing,
        _ends: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        if wire.bytes.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let mut rest = wire.bytes.get(wire.written..).unwrap_or_default();
        let is_all = ready!(wait::poll_write(&mut self.0, &mut rest, cx))?;
        wire.written = wire.bytes.len() - rest.len();
        if is_all {
            wire.bytes.clear();
            wire.written = 0;
        }
        Poll::Ready(Ok(is_all))
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        let mut one = [0; 1];
        let mut more = ReadBuf::new(&mut one);
        let left = ready!(Pin::new(&mut self.0).poll_read(cx, &mut more));
        Poll::Ready(left_early(left.map(|()| more.filled().len())))
    }
}

/// A client that closes, or sends more than it said.
fn left_early(left: io::Result<usize>) -> Box<Error> {
    let error = match left {
        Ok(0) => Error::explain(ErrorType::ConnectionClosed, "the client left"),
        Ok(_) => Error::explain(ErrorType::InvalidHTTPHeader, "a body that was not declared"),
        Err(error) => Error::because(ErrorType::ReadError, "the client left", error),
    };
    error.into_down()
}

/// Bytes as they go over a connection.
pub struct Outgoing {
    bytes: Vec<u8>,
    /// How many of them have left.
    written: usize,
}

impl Wire for Outgoing {
    fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(ANSWER_BYTES),
            written: 0,
        }
    }

    fn put_early(&mut self, response: &ResponseHeader, came: &[u8]) {
        lines::write_early(response, came, &mut self.bytes);
    }

    fn put_head(&mut self, response: ResponseHeader, came: &[u8], ours: &Ours<'_>) -> Result<()> {
        lines::write(&response, came, ours, &mut self.bytes);
        Ok(())
    }

    fn put_answer(&mut self, answer: Answer, method: &Method, ours: &Ours<'_>) -> Result<()> {
        lines::write_answer(&answer, method, ours, &mut self.bytes);
        Ok(())
    }

    fn put_piece(&mut self, body: &mut Body, came: &Bytes) -> Result<usize> {
        let taken = body.take(came, &mut self.bytes);
        taken.map_err(|error| error.into_up())
    }

    fn put_end(&mut self, body: &mut Body) -> Result<()> {
        body.end(&mut self.bytes).map_err(|error| error.into_up())
    }
}
