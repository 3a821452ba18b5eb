//! Heads of answers as they go out: each line once, without a map of what is ours to say.

use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, DATE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::date::get_cached_date;

use crate::server::forward::{RequestId, X_REQUEST_ID};
use crate::server::respond::Answer;

/// What we say on every last answer, whatever the app said.
pub struct Ours<'a> {
    /// Whether the client's connection serves again.
    pub keeps: bool,
    /// `X-Request-Id`; none where it is empty.
    pub request_id: &'a RequestId,
    /// `Cache-Control`, where that is ours to say.
    pub caches: Option<&'static str>,
}

impl Ours<'_> {
    fn write(&self, wire: &mut Vec<u8>) {
        put(wire, b"Date", get_cached_date().as_bytes());
        let connection: &[u8] = if self.keeps { b"keep-alive" } else { b"close" };
        put(wire, b"Connection", connection);
        if let Some(caches) = self.caches {
            put(wire, b"Cache-Control", caches.as_bytes());
        }
        if !self.request_id.as_bytes().is_empty() {
            put(wire, b"X-Request-Id", self.request_id.as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
    }
}

/// Writes the head of the app's last answer to a request. `came` is the head as the app wrote it.
pub fn write(response: &ResponseHeader, came: &[u8], ours: &Ours<'_>, wire: &mut Vec<u8>) {
    put_status(wire, response.status, response.get_reason_phrase());
    for (name, value) in &response.headers {
        let is_ours = *name == DATE
            || *name == CONNECTION
            || *name == X_REQUEST_ID
            || (ours.caches.is_some() && *name == CACHE_CONTROL);
        if !is_ours {
            put_header(wire, came, name, value);
        }
    }
    ours.write(wire);
}

/// Writes the head of an early answer (1xx), as it came.
pub fn write_early(response: &ResponseHeader, came: &[u8], wire: &mut Vec<u8>) {
    put_status(wire, response.status, response.get_reason_phrase());
    for (name, value) in &response.headers {
        put_header(wire, came, name, value);
    }
    wire.extend_from_slice(b"\r\n");
}

/// Writes an answer of ours, whole, as far as one to this method is.
pub fn write_answer(answer: &Answer, method: &Method, ours: &Ours<'_>, wire: &mut Vec<u8>) {
    put_status(wire, answer.status, answer.status.canonical_reason());
    for (name, value) in &answer.headers {
        put_header(wire, &[], name, value);
    }
    put_header(wire, &[], &CONTENT_LENGTH, &answer.body.len().into());
    ours.write(wire);
    if method != Method::HEAD {
        wire.extend_from_slice(&answer.body);
    }
}

fn put_status(wire: &mut Vec<u8>, status: StatusCode, reason: Option<&str>) {
    wire.extend_from_slice(b"HTTP/1.1 ");
    wire.extend_from_slice(status.as_str().as_bytes());
    wire.push(b' ');
    wire.extend_from_slice(reason.unwrap_or_default().as_bytes());
    wire.extend_from_slice(b"\r\n");
}

fn put(wire: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    wire.extend_from_slice(name);
    wire.extend_from_slice(b": ");
    wire.extend_from_slice(value);
    wire.extend_from_slice(b"\r\n");
}

fn put_header(wire: &mut Vec<u8>, came: &[u8], name: &HeaderName, value: &HeaderValue) {
    match spelled(came, name, value) {
        Some(spelled) => put(wire, spelled, value.as_bytes()),
        None => put(wire, &titled(name.as_str()), value.as_bytes()),
    }
}

/// A name as the app spelled it: programs there are that read `Set-Cookie` and not `set-cookie`. The map of headers holds names in lower
/// case, but values where they came, and the name stands before its value. `None`: the line is not the app's.
fn spelled<'c>(came: &'c [u8], name: &HeaderName, value: &HeaderValue) -> Option<&'c [u8]> {
    let at = value.as_bytes().as_ptr().addr();
    let before = came.get(..at.checked_sub(came.as_ptr().addr())?)?;
    let before = before.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    let spelled = before.get(before.len().checked_sub(name.as_str().len())?..)?;
    let is_it = spelled.eq_ignore_ascii_case(name.as_str().as_bytes());
    is_it.then_some(spelled)
}

/// A name of ours, as names are mostly spelled in HTTP/1.1.
fn titled(name: &str) -> Vec<u8> {
    let mut begins = true;
    let letters = name.bytes().map(|letter| {
        let spelled = if begins {
            letter.to_ascii_uppercase()
        } else {
            letter
        };
        begins = letter == b'-';
        spelled
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::SET_COOKIE;
    use http::{HeaderValue, Method, StatusCode};

    use super::{Ours, write, write_answer};
    use crate::server::forward::RequestId;
    use crate::server::plain::answer;
    use crate::server::respond::Answer;

    fn lines(wire: &[u8]) -> Vec<&str> {
        let text = std::str::from_utf8(wire).expect("a head is text");
        text.split("\r\n")
            .filter(|line| !line.starts_with("Date: "))
            .collect()
    }

    #[test]
    fn names_are_spelled_as_the_app_does_and_what_is_ours_to_say_is_said_once() {
        let came = "HTTP/1.1 299 Quite fine\r\nSet-COOKIE: a=1\r\nDate: long ago\r\nx-Custom :b\r\nCache-control: public\r\n\
            connection: keep-alive\r\nset-cookie: c=2\r\nX-REQUEST-ID: theirs\r\nContent-length: 0\r\n\r\n";
        let read = answer::read(Bytes::from_static(came.as_bytes()), false);
        let mut received = read.expect("a head").expect("a whole one");
        let ours = HeaderValue::from_static("d=3");
        let appended = received.head.append_header(SET_COOKIE, ours);
        appended.expect("there is room");
        let mut wire = Vec::new();
        let mut ours = Ours {
            keeps: true,
            request_id: &RequestId::from("one"),
            caches: Some("private"),
        };
        write(&received.head, &received.came, &ours, &mut wire);
        assert_eq!(
            lines(&wire),
            [
                "HTTP/1.1 299 Quite fine",
                "Set-COOKIE: a=1",
                "set-cookie: c=2",
                "Set-Cookie: d=3",
                "x-Custom: b",
                "Content-length: 0",
                "Connection: keep-alive",
                "Cache-Control: private",
                "X-Request-Id: one",
                "",
                "",
            ]
        );
        ours.caches = None;
        wire.clear();
        write(&received.head, &received.came, &ours, &mut wire);
        assert!(lines(&wire).contains(&"Cache-control: public"));
    }

    #[test]
    fn an_answer_of_ours_has_a_length_and_to_head_no_body() {
        let answer = Answer {
            status: StatusCode::FOUND,
            headers: vec![(
                http::header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer"),
            )],
            body: Bytes::from_static(b"gone"),
        };
        let head = [
            "HTTP/1.1 302 Found",
            "Www-Authenticate: Bearer",
            "Content-Length: 4",
            "Connection: close",
            "",
        ];
        for (method, body) in [(Method::GET, "gone"), (Method::HEAD, "")] {
            let ours = Ours {
                keeps: false,
                request_id: &RequestId::default(),
                caches: None,
            };
            let mut wire = Vec::new();
            write_answer(&answer, &method, &ours, &mut wire);
            let all: Vec<&str> = head.into_iter().chain([body]).collect();
            assert_eq!(lines(&wire), all);
        }
    }
}
