//! What comes back over a socket, read as leniently as a client may: a stack under test may answer anything.

/// Bytes read of one exchange. A page is smaller, and its first part tells pages apart.
pub const HEARD_BYTES_MAX: usize = 1024 * 1024;

/// One answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status; 0 for bytes that are no HTTP.
    pub status: u16,
    /// Header lines, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body, without its chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All values of a header.
    pub fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether the request was answered with what it asked for.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How much of an exchange is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// One answer.
    One,
    /// One answer to HEAD: it has no body, whatever its length says.
    Head,
    /// Everything until the other side closes.
    All,
}

impl Reading {
    /// Whether these bytes are all there is to wait for.
    pub fn is_done(self, bytes: &[u8]) -> bool {
        match self {
            Self::All => false,
            Self::One | Self::Head => {
                let mut rest = bytes;
                loop {
                    match next(rest, self == Self::Head) {
                        // What precedes the answer is not the answer.
                        Some((answer, read)) if (100..200).contains(&answer.status) => {
                            if answer.status == 101 {
                                return true;
                            }
                            rest = rest.get(read..).unwrap_or_default();
                        }
                        Some(_) => return true,
                        None => return false,
                    }
                }
            }
        }
    }

    /// The answers in bytes after which nothing came any more.
    pub fn answers(self, bytes: &[u8]) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            match next(rest, self == Self::Head) {
                Some((answer, read)) => {
                    rest = rest.get(read..).unwrap_or_default();
                    if answer.status == 101 {
                        answers.push(answer);
                        // Whatever is spoken from here on: an answer in it was given to somebody nobody checked.
                        continue;
                    }
                    if answer.status >= 200 {
                        answers.push(answer);
                    }
                }
                None => {
                    answers.push(unfinished(rest));
                    break;
                }
            }
        }
        answers
    }
}

/// An answer that ends with its connection, or bytes that are none.
fn unfinished(bytes: &[u8]) -> Answer {
    match head(bytes) {
        Some((mut answer, read)) => {
            answer.body = bytes.get(read..).unwrap_or_default().to_vec();
            answer
        }
        None => Answer {
            status: 0,
            headers: Vec::new(),
            body: bytes.to_vec(),
        },
    }
}

/// The next whole answer and its length in bytes. `None`: not whole yet, or it ends with the connection.
fn next(bytes: &[u8], no_body: bool) -> Option<(Answer, usize)> {
    let (mut answer, at) = head(bytes)?;
    let rest = bytes.get(at..)?;
    let chunked = answer
        .header("transfer-encoding")
        .is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"));
    if no_body || answer.status < 200 || matches!(answer.status, 204 | 304) {
        return Some((answer, at));
    }
    if chunked {
        let (body, read) = unchunked(rest)?;
        answer.body = body;
        return Some((answer, at + read));
    }
    let length: usize = answer.header("content-length")?.trim().parse().ok()?;
    answer.body = rest.get(..length)?.to_vec();
    Some((answer, at + length))
}

fn head(bytes: &[u8]) -> Option<(Answer, usize)> {
    if !bytes.starts_with(b"HTTP/") {
        return None;
    }
    let end = find(bytes, b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(bytes.get(..end)?);
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect();
    let answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    Some((answer, end + 4))
}

fn unchunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0_usize);
    loop {
        let rest = bytes.get(at..)?;
        let line = find(rest, b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..line)?).ok()?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size > HEARD_BYTES_MAX {
            return None;
        }
        let piece = rest.get(line + 2..line + 2 + size)?;
        if size == 0 {
            // Trailers end with an empty line.
            let trailers = rest.get(line + 2..)?;
            if trailers.starts_with(b"\r\n") {
                return Some((body, at + line + 4));
            }
            let end = find(trailers, b"\r\n\r\n")?;
            return Some((body, at + line + 2 + end + 4));
        }
        body.extend_from_slice(piece);
        at += line + 2 + size + 2;
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_answer_is_done_when_its_framing_says_so_and_not_before() {
        for whole in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
        ] {
            assert!(Reading::One.is_done(whole));
            assert_eq!(Reading::One.answers(whole).len(), 1);
            for end in 0..whole.len() {
                assert!(!Reading::One.is_done(&whole[..end]), "{end}");
            }
        }
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert!(Reading::Head.is_done(head) && !Reading::One.is_done(head));
        assert!(Reading::One.is_done(b"HTTP/1.1 101 Switching\r\n\r\n"));
    }

    #[test]
    fn answers_behind_each_other_are_told_apart() {
        let bytes =
            b"HTTP/1.1 400 Bad\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\nto the end";
        let answers = Reading::All.answers(bytes);
        assert_eq!(
            answers.iter().map(|a| a.status).collect::<Vec<_>>(),
            [400, 200]
        );
        assert_eq!(answers[1].body, b"to the end");
        let tunnel = b"HTTP/1.1 101 Go\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let answers = Reading::All.answers(tunnel);
        assert_eq!(
            answers.iter().map(|a| a.status).collect::<Vec<_>>(),
            [101, 200]
        );
        assert_eq!(Reading::One.answers(b"Unauthorized")[0].status, 0);
        assert!(Reading::One.answers(b"").is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "HTTP/1.1 [0-9]{3} X\r\n(content-length: [0-9]{1,4}\r\n|transfer-encoding: chunked\r\n){0,2}\r\n([0-9a-f]{1,3}\r\n){0,4}"
                    .prop_map(String::into_bytes),
            ]
        ) {
            for reading in [Reading::One, Reading::Head, Reading::All] {
                reading.is_done(&bytes);
                reading.answers(&bytes);
            }
        }
    }
}
