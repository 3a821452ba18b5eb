//! One stream of a client that speaks HTTP/2, and what is written to it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method};
use pingora::http::ResponseHeader;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::{Error, ErrorType, Result};

use crate::server::forward::{RequestId, X_REQUEST_ID};
use crate::server::plain::answer::{Body, Sink};
use crate::server::plain::lines::Ours;
use crate::server::plain::{Downstream, PIECE_BYTES, Wire};
use crate::server::proxy;
use crate::server::respond::Answer;

/// Pieces of a body from this long are handed on in the buffer they came in, which is held until they have left. Shorter ones are
/// gathered in one of their own: else each of them would hold a whole buffer, for as long as the client reads nothing. Thus twice what is
/// to be written is held at most.
const HANDED_ON_FROM: usize = PIECE_BYTES / 2;

/// A client that waits for the answer on one stream.
pub struct Asker<'s> {
    stream: &'s mut HttpSession,
    /// Where the body goes, once the head is written.
    body: Option<SendStream<Bytes>>,
    has_ended: bool,
}

impl<'s> Asker<'s> {
    /// It has got nothing yet.
    pub const fn new(stream: &'s mut HttpSession) -> Self {
        Self {
            stream,
            body: None,
            has_ended: false,
        }
    }

    /// Writes a head, and nothing after it when `ends` says so.
    fn write_head(&mut self, head: Box<ResponseHeader>, ends: bool) -> io::Result<()> {
        let written = self.stream.write_response_header(head, ends);
        written.map_err(io::Error::other)?;
        self.body = self.stream.take_response_body_writer();
        self.has_ended = ends;
        Ok(())
    }
}

impl Drop for Asker<'_> {
    /// An answer that broke off is never taken for a whole one.
    fn drop(&mut self) {
        match &mut self.body {
            Some(body) if !self.has_ended => body.send_reset(Reason::INTERNAL_ERROR),
            Some(_) => {}
            None => self.stream.shutdown(),
        }
    }
}

impl Downstream for Asker<'_> {
    type Wire = Pieces;

    fn poll_write(
        &mut self,
        wire: &mut Pieces,
        ends: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        wire.settle();
        if let Some(head) = wire.head.take() {
            self.write_head(head, ends && wire.pieces.is_empty())?;
        }
        let Some(body) = &mut self.body else {
            // An early answer: Pingora writes none either.
            return Poll::Ready(Ok(true));
        };
        let is_last = ends && wire.pieces.len() == 1;
        if let Some(piece) = wire.pieces.front_mut() {
            // A piece has one wait in all: a client that grants a byte now and then would be waited for again with each.
            while !piece.is_empty() {
                body.reserve_capacity(piece.len());
                let mut free = body.capacity();
                // That of a moment ago may be gone again.
                while free == 0 {
                    free = match ready!(body.poll_capacity(cx)) {
                        Some(free) => free.map_err(io::Error::other)?,
                        None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                    };
                }
                let part = piece.split_to(free.min(piece.len()));
                self.has_ended = is_last && piece.is_empty();
                let sent = body.send_data(part, self.has_ended);
                sent.map_err(io::Error::other)?;
            }
            wire.pieces.pop_front();
        } else if ends && !self.has_ended {
            self.has_ended = true;
            let sent = body.send_data(Bytes::new(), true);
            sent.map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(wire.pieces.is_empty()))
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        let left = match &mut self.body {
            Some(body) => ready!(body.poll_reset(cx)).map_err(io::Error::other),
            None => ready!(Pin::new(&mut self.stream.idle()).poll(cx)).map_err(io::Error::other),
        };
        let why = "the client left";
        let error = match left {
            Ok(_) => Error::explain(ErrorType::ConnectionClosed, why),
            Err(cause) => Error::because(ErrorType::ConnectionClosed, why, cause),
        };
        Poll::Ready(error.into_down())
    }
}

/// A head and pieces of a body, which frames are made of.
pub struct Pieces {
    head: Option<Box<ResponseHeader>>,
    pieces: VecDeque<Bytes>,
    /// Short ones, which follow those.
    gathered: Vec<u8>,
}

impl Pieces {
    /// A piece in the buffer it came in.
    fn put_whole(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.settle();
            self.pieces.push_back(piece);
        }
    }

    fn settle(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces
                .push_back(std::mem::take(&mut self.gathered).into());
        }
    }
}

impl Wire for Pieces {
    fn new() -> Self {
        Self {
            head: None,
            pieces: VecDeque::new(),
            gathered: Vec::new(),
        }
    }

    fn put_early(&mut self, _response: &ResponseHeader, _came: &[u8]) {
        // Pingora writes none either.
    }

    fn put_head(
        &mut self,
        mut response: ResponseHeader,
        _came: &[u8],
        ours: &Ours<'_>,
    ) -> Result<()> {
        if let Some(caches) = ours.caches {
            response.insert_header(CACHE_CONTROL, HeaderValue::from_static(caches))?;
        }
        response.insert_header(X_REQUEST_ID, once(ours.request_id))?;
        self.head = Some(Box::new(response));
        Ok(())
    }

    fn put_answer(&mut self, mut answer: Answer, method: &Method, ours: &Ours<'_>) -> Result<()> {
        let mut head = proxy::head_of(&mut answer, ours.request_id)?;
        if head.headers.contains_key(X_REQUEST_ID) {
            head.insert_header(X_REQUEST_ID, once(ours.request_id))?;
        }
        self.head = Some(Box::new(head));
        if *method != Method::HEAD {
            self.put_whole(answer.body);
        }
        Ok(())
    }

    fn put_piece(&mut self, body: &mut Body, came: &Bytes) -> Result<usize> {
        let taken = body.take(came, &mut Cut { came, into: self });
        taken.map_err(|error| error.into_up())
    }

    fn put_end(&mut self, body: &mut Body) -> Result<()> {
        let came = &Bytes::new();
        let ended = body.end(&mut Cut { came, into: self });
        ended.map_err(|error| error.into_up())
    }
}

/// The name of a request, to be left out of the table that both ends keep of what is sent again and again (RFC 7541, section 7.1.3): it
/// never is, and pushed everything else out of it.
fn once(request_id: &RequestId) -> HeaderValue {
    let mut value = request_id.to_value();
    value.set_sensitive(true);
    value
}

/// Pieces of what came. Frames of HTTP/2 say themselves where they end.
struct Cut<'p> {
    came: &'p Bytes,
    into: &'p mut Pieces,
}

impl Sink for Cut<'_> {
    fn piece(&mut self, piece: &[u8], _framed: bool) {
        if piece.len() >= HANDED_ON_FROM {
            self.into.put_whole(self.came.slice_ref(piece));
        } else {
            self.into.gathered.extend_from_slice(piece);
        }
    }

    fn end(&mut self) {}
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use http::{Method, StatusCode};
    use pingora::http::ResponseHeader;

    use super::{HANDED_ON_FROM, Pieces, Wire as _};
    use crate::server::forward::RequestId;
    use crate::server::plain::answer;
    use crate::server::plain::lines::Ours;
    use crate::server::respond::Answer;

    fn put(answer: &str) -> (Bytes, Vec<Bytes>) {
        let came = Bytes::copy_from_slice(answer.as_bytes());
        let read = answer::read(came, false).expect("a head");
        let mut received = read.expect("a whole head");
        let mut wire = Pieces::new();
        let rest = received.rest;
        let used = wire.put_piece(&mut received.body, &rest).expect("a body");
        assert_eq!((used, received.body.is_done()), (rest.len(), true));
        wire.settle();
        (rest, wire.pieces.into())
    }

    #[test]
    fn short_pieces_are_gathered_in_their_place_and_long_ones_are_not_copied() {
        let long = "x".repeat(HANDED_ON_FROM);
        let (came, pieces) = put(&format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n{HANDED_ON_FROM:x}\r\n{long}\r\n1\r\nd\r\n0\r\n\r\n"
        ));
        assert_eq!(pieces, ["abc", long.as_str(), "d"]);
        assert!(came.as_ptr_range().contains(&pieces[1].as_ptr()));
        assert!(!came.as_ptr_range().contains(&pieces[0].as_ptr()));
        let (_, pieces) = put("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert!(pieces.is_empty());
    }

    #[test]
    fn the_name_of_a_request_pushes_nothing_out_of_what_both_ends_remember() {
        let request_id = RequestId::from("one");
        let ours = Ours {
            keeps: true,
            request_id: &request_id,
            caches: Some("private"),
        };
        let head = ResponseHeader::build_no_case(200, None).expect("a head");
        let answer = Answer {
            status: StatusCode::FOUND,
            headers: Vec::new(),
            body: Bytes::new(),
        };
        let (mut theirs, mut own) = (Pieces::new(), Pieces::new());
        theirs.put_head(head, &[], &ours).expect("a head");
        own.put_answer(answer, &Method::GET, &ours).expect("a head");
        for wire in [&theirs, &own] {
            let head = wire.head.as_ref().expect("a head");
            let names: Vec<_> = head.headers.get_all("x-request-id").iter().collect();
            assert_eq!(names, ["one"]);
            assert!(names[0].is_sensitive());
        }
        let caches = &theirs.head.as_ref().expect("a head").headers["cache-control"];
        assert!(!caches.is_sensitive());
    }
}
