//! Heads of answers, and where their bodies end.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, StatusCode, Version};
use pingora::http::{ResponseHeader, header_value_from_raw};
use pingora::{Error, ErrorType, OrErr as _, Result};

/// How many headers an answer has at most: what Pingora allows.
const HEADERS_MAX: usize = 256;

/// How long the head of an answer is at most. Far above what browsers take.
const HEAD_BYTES_MAX: usize = 1024 * 1024;

/// How long the line of a chunk's size is at most, extensions included, and how long all trailers are.
const CHUNK_LINE_MAX: usize = 16 * 1024;

/// The head of an answer, and what came after it.
pub struct Received {
    /// The head.
    pub head: ResponseHeader,
    /// The same as the app wrote it.
    pub came: Bytes,
    /// What is still to come.
    pub body: Body,
    /// What came of it already.
    pub rest: Bytes,
    /// Whether the connection serves again after it.
    pub keeps: bool,
}

/// Reads the head of an answer. The inner error: it is not whole yet.
///
/// # Errors
/// When it is no head of an answer, or nobody knows where its body ends.
pub fn read(came: Bytes, bodiless: bool) -> Result<std::result::Result<Received, BytesMut>> {
    let mut places = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut read = httparse::Response::new(&mut []);
    // As lenient as Pingora.
    let mut parser = httparse::ParserConfig::default();
    parser.allow_spaces_after_header_name_in_responses(true);
    parser.allow_obsolete_multiline_headers_in_responses(true);
    let parsed = parser
        .parse_response_with_uninit_headers(&mut read, &came, &mut places)
        .or_err(ErrorType::InvalidHTTPHeader, "the head of an answer")?;
    let httparse::Status::Complete(length) = parsed else {
        if came.len() > HEAD_BYTES_MAX {
            return invalid("the head of an answer is too long");
        }
        return Ok(Err(came.try_into_mut().unwrap_or_else(BytesMut::from)));
    };
    // Without a second map for how each name is spelled: `came` tells.
    let status = read.code.unwrap_or(0);
    let mut head = ResponseHeader::build_no_case(status, Some(read.headers.len() + 2))?;
    head.set_reason_phrase(read.reason)?;
    head.set_version(match read.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    });
    // What frames the answer is noticed as it passes: most answers have a length, and nothing else of it.
    let mut framing = Framing::default();
    for header in read.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .or_err(ErrorType::InvalidHTTPHeader, "the name of a header")?;
        framing.has_connection |= name == CONNECTION;
        framing.has_encoding |= name == TRANSFER_ENCODING;
        framing.lengths += usize::from(name == CONTENT_LENGTH);
        let value = header_value_from_raw(came.slice_ref(header.value));
        head.append_header(name, value)?;
    }
    let body = body_of(&mut head, &framing, bodiless)?;
    let keeps = !body.ends_with_connection() && says_to_keep(&head, &framing);
    let rest = came.slice(length..);
    Ok(Ok(Received {
        head,
        came: came.slice(..length),
        body,
        rest,
        keeps,
    }))
}

/// Which headers there are that frame an answer.
#[derive(Default)]
struct Framing {
    has_connection: bool,
    has_encoding: bool,
    lengths: usize,
}

fn invalid<T>(why: &'static str) -> Result<T> {
    Error::e_explain(ErrorType::InvalidHTTPHeader, why)
}

/// Whether an app leaves its connection open.
fn says_to_keep(head: &ResponseHeader, framing: &Framing) -> bool {
    let mut says = None;
    let lines = framing
        .has_connection
        .then(|| head.headers.get_all(CONNECTION).iter());
    for line in lines.into_iter().flatten() {
        for option in line.as_bytes().split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"close") {
                return false;
            }
            if option.eq_ignore_ascii_case(b"keep-alive") {
                says = Some(true);
            }
        }
    }
    // Whoever frames by chunks in HTTP/1.0 is not to be trusted with another request (RFC 9112, section 6.1).
    says.unwrap_or(head.version == Version::HTTP_11)
        && (head.version == Version::HTTP_11 || !framing.has_encoding)
}

/// Where the body of an answer to a GET ends (RFC 9112, section 6.3).
fn body_of(head: &mut ResponseHeader, framing: &Framing, bodiless: bool) -> Result<Body> {
    let has_none = bodiless
        || head.status.is_informational()
        || matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    if has_none {
        return Ok(Body {
            left: Left::Nothing,
        });
    }
    if framing.has_encoding
        && let Some(line) = head.headers.get_all(TRANSFER_ENCODING).iter().next_back()
    {
        let last = line.as_bytes().rsplit(|byte| *byte == b',').next();
        let last = last.unwrap_or_default().trim_ascii();
        let left = if last.eq_ignore_ascii_case(b"chunked") {
            Left::Chunks(Chunk::Size)
        } else if last.eq_ignore_ascii_case(b"identity") {
            // What old servers say who write until they close.
            Left::UntilClosed
        } else {
            return invalid("an answer whose last transfer encoding is not chunked");
        };
        // Lengths and chunks: the chunks count.
        head.remove_header(&CONTENT_LENGTH);
        return Ok(Body { left });
    }
    let length = match framing.lengths {
        0 => None,
        _ => length_of(&head.headers)?,
    };
    if let Some(length) = length
        && framing.lengths > 1
    {
        head.insert_header(CONTENT_LENGTH, length.to_string())?;
    }
    Ok(Body {
        left: length.map_or(Left::UntilClosed, Left::of),
    })
}

/// The length that a head declares, when all who say one say the same.
fn length_of(headers: &HeaderMap) -> Result<Option<u64>> {
    let mut length = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        for said in line.as_bytes().split(|byte| *byte == b',') {
            let said = said.trim_ascii();
            let number = std::str::from_utf8(said)
                .ok()
                .filter(|said| said.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|said| said.parse::<u64>().ok());
            match (number, length) {
                (Some(number), None) => length = Some(number),
                (Some(number), Some(before)) if number == before => {}
                _ => return invalid("an answer whose length is not one number"),
            }
        }
    }
    Ok(length)
}

/// Takes what came of a body, as it goes to a client.
pub trait Sink {
    /// A piece of it. `framed`: whoever needs to know where it ends is told with it.
    fn piece(&mut self, piece: &[u8], framed: bool);

    /// The end of one whose pieces were framed.
    fn end(&mut self);
}

/// HTTP/1.1: in chunks.
impl Sink for Vec<u8> {
    fn piece(&mut self, piece: &[u8], framed: bool) {
        if framed {
            write_chunk(piece, self);
        } else {
            self.extend_from_slice(piece);
        }
    }

    fn end(&mut self) {
        self.extend_from_slice(LAST_CHUNK);
    }
}

/// What is still to come of a body.
pub struct Body {
    left: Left,
}

enum Left {
    Nothing,
    Bytes(u64),
    Chunks(Chunk),
    UntilClosed,
}

impl Left {
    const fn of(bytes: u64) -> Self {
        match bytes {
            0 => Self::Nothing,
            bytes => Self::Bytes(bytes),
        }
    }
}

/// Where in a chunk something is.
enum Chunk {
    /// At the line of its size.
    Size,
    /// In its data, of which so much is to come.
    Data(u64),
    /// At the end of the line after its data.
    End,
    /// In the trailers, after so many bytes of them.
    Trailers(usize),
}

impl Body {
    /// Whether all of it came.
    pub const fn is_done(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    /// Whether its end is the connection's.
    pub const fn ends_with_connection(&self) -> bool {
        matches!(self.left, Left::UntilClosed)
    }

    /// Hands on what came of it as it goes to the client, framed anew where it is framed. Says how much of what came was used: what was
    /// not is not whole yet, or not of this body.
    ///
    /// # Errors
    /// When it is not framed as it says.
    pub fn take(&mut self, came: &[u8], wire: &mut impl Sink) -> Result<usize> {
        match &mut self.left {
            Left::Nothing => Ok(0),
            Left::Bytes(left) => {
                let piece = came.get(..whole(*left, came.len())).unwrap_or(came);
                wire.piece(piece, false);
                self.left = Left::of(*left - piece.len() as u64);
                Ok(piece.len())
            }
            Left::UntilClosed => {
                wire.piece(came, true);
                Ok(came.len())
            }
            Left::Chunks(_) => self.take_chunks(came, wire),
        }
    }

    fn take_chunks(&mut self, came: &[u8], wire: &mut impl Sink) -> Result<usize> {
        let mut used = 0;
        while let Left::Chunks(chunk) = &mut self.left {
            let rest = came.get(used..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match chunk {
                Chunk::Size => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((length, 0))) => {
                        used += length;
                        *chunk = Chunk::Trailers(0);
                    }
                    Ok(httparse::Status::Complete((length, size))) => {
                        used += length;
                        *chunk = Chunk::Data(size);
                    }
                    Ok(httparse::Status::Partial) if rest.len() < CHUNK_LINE_MAX => break,
                    _ => return invalid("the size of a chunk"),
                },
                Chunk::Data(left) => {
                    let piece = rest.get(..whole(*left, rest.len())).unwrap_or(rest);
                    wire.piece(piece, true);
                    used += piece.len();
                    *left -= piece.len() as u64;
                    if *left == 0 {
                        *chunk = Chunk::End;
                    }
                }
                Chunk::End => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        *chunk = Chunk::Size;
                    }
                    [b'\r'] => break,
                    _ => return invalid("the end of a chunk"),
                },
                Chunk::Trailers(before) => {
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                        if *before + rest.len() > CHUNK_LINE_MAX {
                            return invalid("the trailers of an answer are too long");
                        }
                        break;
                    };
                    used += end + 1;
                    *before += end + 1;
                    if *before > CHUNK_LINE_MAX {
                        return invalid("the trailers of an answer are too long");
                    }
                    let line = rest.get(..end).unwrap_or_default();
                    if matches!(line, [] | [b'\r']) {
                        // Trailers stay here: nobody has looked at them.
                        wire.end();
                        self.left = Left::Nothing;
                    }
                }
            }
        }
        Ok(used)
    }

    /// The app's connection ended.
    ///
    /// # Errors
    /// When the body had not.
    pub fn end(&mut self, wire: &mut impl Sink) -> Result<()> {
        if !self.ends_with_connection() {
            let cut = "the app broke off in the body of its answer";
            return Error::e_explain(ErrorType::ConnectionClosed, cut);
        }
        wire.end();
        self.left = Left::Nothing;
        Ok(())
    }
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How much of what came is of so many bytes.
fn whole(left: u64, came: usize) -> usize {
    usize::try_from(left).map_or(came, |left| left.min(came))
}

fn write_chunk(piece: &[u8], wire: &mut Vec<u8>) {
    use std::io::Write as _;

    if piece.is_empty() {
        return;
    }
    // Writing to memory does not fail.
    let _ = write!(wire, "{:x}\r\n", piece.len());
    wire.extend_from_slice(piece);
    wire.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{Body, Chunk, LAST_CHUNK, Left, Received, read};

    fn received(answer: &str) -> pingora::Result<Received> {
        let came = Bytes::copy_from_slice(answer.as_bytes());
        read(came, false).map(|read| read.expect("a whole head"))
    }

    #[test]
    fn a_body_ends_where_its_head_says() {
        for (head, is_done, until_closed, keeps) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n",
                true,
                false,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
                false,
                false,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n",
                false,
                false,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n",
                false,
                false,
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n",
                false,
                false,
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nConnection: Keep-Alive\r\n",
                false,
                false,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\ncontent-length: 5\r\n",
                false,
                false,
                true,
            ),
            ("HTTP/1.1 200 OK\r\n", false, true, false),
            ("HTTP/1.1 204 No Content\r\n", true, false, true),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\ncontent-length: 5\r\n",
                false,
                true,
                false,
            ),
            (
                "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: gzip\r\n",
                true,
                false,
                true,
            ),
            (
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n",
                true,
                false,
                true,
            ),
        ] {
            let read = received(&format!("{head}\r\n")).expect("a head");
            let found = (
                read.body.is_done(),
                read.body.ends_with_connection(),
                read.keeps,
            );
            assert_eq!(found, (is_done, until_closed, keeps), "{head}");
        }
        for odd in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
            "SMTP/1.1 200 OK\r\n\r\n",
        ] {
            assert!(received(odd).is_err(), "{odd}");
        }
    }

    fn chunked() -> Body {
        Body {
            left: Left::Chunks(Chunk::Size),
        }
    }

    #[test]
    fn chunks_that_are_none_are_refused() {
        for odd in [
            "g\r\n",
            "5\r\nhello!\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "-1\r\n",
            "fffffffffffffffff\r\n",
        ] {
            assert!(
                chunked().take(odd.as_bytes(), &mut Vec::new()).is_err(),
                "{odd}"
            );
        }
    }

    proptest! {
        /// However an answer is cut on its way, the same body comes of it, and what follows it stays.
        #[test]
        fn a_chunked_body_is_the_same_however_it_is_cut(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in prop::collection::vec(1..9_usize, 1..40),
            trailer in any::<bool>(),
        ) {
            let mut wire = Vec::new();
            for piece in &pieces {
                wire.extend_from_slice(format!("{:X};ext=1\r\n", piece.len()).as_bytes());
                wire.extend_from_slice(piece);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n");
            wire.extend_from_slice(if trailer { b"x-a: b\r\n\r\n" } else { b"\r\n" });
            wire.extend_from_slice(b"next");

            let (mut body, mut came, mut out) = (chunked(), Vec::new(), Vec::new());
            let mut rest = &wire[..];
            let mut cuts = cuts.into_iter().cycle();
            while !body.is_done() {
                let length = cuts.next().unwrap_or(1).min(rest.len());
                prop_assert!(length > 0, "the body has no end");
                came.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
                let used = body.take(&came, &mut out).expect("chunks");
                came.drain(..used);
            }
            came.extend_from_slice(rest);
            prop_assert_eq!(&came[..], b"next");
            prop_assert!(out.ends_with(LAST_CHUNK));

            let (mut again, mut text) = (chunked(), Vec::new());
            let used = again.take(&out, &mut text).expect("our own chunks");
            prop_assert_eq!((used, again.is_done()), (out.len(), true));
            let mut data = Vec::new();
            let mut at = &out[..];
            while let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(at) {
                let size = usize::try_from(size).expect("a size");
                data.extend_from_slice(&at[line..line + size]);
                at = &at[line + size + 2..];
                if size == 0 {
                    break;
                }
            }
            prop_assert_eq!(data, pieces.concat());
        }
    }
}
