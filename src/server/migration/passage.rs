//! One request on its way through the migration: what it carries between Pingora's phases.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

use super::After;
use crate::server::body::HELD_BYTES_MAX;
use crate::server::respond::Answer;

/// What a request carries through the phases.
#[derive(Default)]
pub struct Passage {
    /// The body it goes on with, in place of its own.
    body: Option<Bytes>,
    heard: Vec<Box<dyn After>>,
    /// The body of the answer that is sent in place of the app's.
    answer: Option<Bytes>,
    read: BytesMut,
    /// Cookies for the answer.
    set: Vec<HeaderValue>,
}

impl Passage {
    /// A request that goes on with this body, and whose answer these hear.
    pub fn forward(&mut self, body: Option<Bytes>, heard: Vec<Box<dyn After>>) {
        (self.body, self.heard) = (body, heard);
    }

    /// Cookies the answer is to carry.
    pub fn owe(&mut self, lines: Vec<HeaderValue>) {
        self.set.extend(lines);
    }

    /// Whether it carries anything.
    pub fn is_plain(&self) -> bool {
        self.body.is_none() && self.heard.is_empty() && self.set.is_empty()
    }

    /// Takes the cookies the answer is to carry, for an answer of our own.
    pub fn take_cookies(&mut self) -> Vec<HeaderValue> {
        std::mem::take(&mut self.set)
    }

    /// Frames the outgoing request after its new body. May be called again on a retry.
    pub fn frame(&self, outgoing: &mut RequestHeader) -> Result<()> {
        if let Some(body) = &self.body {
            outgoing.remove_header(&TRANSFER_ENCODING);
            outgoing.insert_header(CONTENT_LENGTH, body.len().to_string())?;
        }
        Ok(())
    }

    /// Puts the new body in the place of the old one, which comes in one piece because it was held.
    pub fn replace_body(&self, piece: &mut Option<Bytes>) {
        if let (Some(body), Some(_)) = (&self.body, &piece) {
            *piece = Some(body.clone());
        }
    }

    /// Lets everybody hear the app's answer, and puts another in its place where one of them wants that.
    pub async fn hear(&mut self, response: &mut ResponseHeader) -> Result<()> {
        let (mut replaced, mut added) = (None, Vec::new());
        for after in &mut self.heard {
            let other = after.answered(response.status, &response.headers).await;
            replaced = other.or(replaced);
            self.set.extend(after.owes());
            added.extend(after.adds());
        }
        if let Some(answer) = replaced {
            self.put(answer, response)?;
        }
        for (name, value) in added {
            response.insert_header(name, value)?;
        }
        let ours = std::mem::take(&mut self.set);
        let name = |line: &HeaderValue| {
            let line = line.as_bytes();
            line.split(|byte| *byte == b'=').next().map(<[u8]>::to_vec)
        };
        let said: Vec<_> = response
            .headers
            .get_all(SET_COOKIE)
            .iter()
            .map(name)
            .collect();
        // What the app says about a cookie itself comes later than what we found at its arrival.
        for line in ours.into_iter().filter(|line| !said.contains(&name(line))) {
            response.append_header(SET_COOKIE, line)?;
        }
        Ok(())
    }

    fn put(&mut self, answer: Answer, response: &mut ResponseHeader) -> Result<()> {
        // An answer that has no body by its head has been framed already: ours then has none either.
        let empty = response.status == StatusCode::NO_CONTENT
            || response.status == StatusCode::NOT_MODIFIED
            || response
                .headers
                .get(CONTENT_LENGTH)
                .is_some_and(|length| length == "0");
        let body = if empty { Bytes::new() } else { answer.body };
        let mut head = ResponseHeader::build(answer.status, Some(answer.headers.len() + 2))?;
        for (name, value) in answer.headers {
            head.append_header(name, value)?;
        }
        head.insert_header(CONTENT_LENGTH, body.len().to_string())?;
        *response = head;
        self.answer = Some(body);
        Ok(())
    }

    /// A piece of the app's answer passes, or is dropped because another answer is sent.
    pub fn pass(&mut self, piece: &mut Option<Bytes>, end: bool) {
        if let Some(body) = &mut self.answer {
            // With the first piece: the last one may come without any.
            let ours = std::mem::take(body);
            *piece = (!ours.is_empty()).then_some(ours);
        } else if let Some(piece) = piece
            && self.heard.iter().any(|after| after.reads())
        {
            let room = HELD_BYTES_MAX.saturating_sub(self.read.len());
            self.read
                .extend_from_slice(piece.get(..room).unwrap_or(piece));
        }
        if end {
            let body = std::mem::take(&mut self.read);
            for mut after in self.heard.drain(..) {
                after.finished(&body);
            }
        }
    }
}
