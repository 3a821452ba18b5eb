//! HTTP/2 as no client speaks it: requests that are none, and floods of frames that cost the sender nothing.

use std::cell::RefCell;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use super::headers::leaks;
use super::node::{Node, Read, Record};
use crate::support::tls::{Certificate, H2, Outcome, frame, h2_headers, raw};
use crate::support::{App, Gateway, PATIENCE, Setup, await_until, cookie, record};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Kinds of frames and their flags (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Frames sent before a flood counts as borne: far beyond what any client needs, little enough for a slow machine.
const FLOOD: u32 = 20_000;

/// Asks, behind a flood, whether it was borne.
const LAST_PING: &[u8; 8] = b"the last";

/// Frames that go out in one write.
const BATCH: u32 = 200;

fn over_tls(app: &App) -> (Gateway, Certificate) {
    let certificate = Certificate::self_signed();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.tls = Some(certificate.files.clone());
    let gateway = setup.start();
    gateway.store.put(record("token-of-ada", "ada"));
    (gateway, certificate)
}

/// One field, neither indexed nor packed.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name, value] {
        block.push(
            u8::try_from(text.len())
                .ok()
                .filter(|len| *len < 127)
                .expect("short"),
        );
        block.extend_from_slice(text.as_bytes());
    }
    block
}

fn request(path: &str) -> Vec<u8> {
    [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "app.test"),
        (":path", path),
    ]
    .iter()
    .flat_map(|(name, value)| field(name, value))
    .collect()
}

/// T48, T50: what RFC 9113, 8.2 and 8.3, call malformed.
#[test]
fn http2_requests_with_fields_that_must_not_be_there_never_reach_the_app() {
    const GOOD: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "app.test"),
        (":path", "/public/a"),
    ];
    let app = App::start();
    let (gateway, certificate) = over_tls(&app);
    let send = |fields: &[(&str, &str)]| h2_headers(gateway.address, &certificate, fields);
    let without = |name: &str| -> Vec<(&str, &str)> {
        GOOD.into_iter()
            .filter(|(found, _)| *found != name)
            .collect()
    };
    let with = |name, value| {
        let mut fields = GOOD.to_vec();
        fields.push((name, value));
        fields
    };
    let instead = |name: &'static str, value: &'static str| {
        GOOD.map(|(found, kept)| (found, if found == name { value } else { kept }))
            .to_vec()
    };
    let mut bad = vec![
        without(":method"),
        without(":path"),
        without(":scheme"),
        without(":authority"),
        with(":status", "200"),
        with(":method", "GET"),
        with(":scheme", "https"),
        with(":authority", "app.test"),
        with(":authority", "evil.example"),
        with("host", "evil.example"),
        with("keep-alive", "1"),
        with("proxy-connection", "close"),
        with("upgrade", "websocket"),
        with("connection", "close"),
        with("transfer-encoding", "identity"),
        with("x-lf", "a\nb"),
        with("x-cr", "a\rb"),
        with("x\r\ny", "1"),
        with("x:y", "1"),
        with("X-AUTH-USER-ID", "root"),
        with("content-length", "x"),
        with("content-length", "5"),
        with("content-length", "+0"),
        instead(":path", "/public/../vault"),
        instead(":path", "//app.test/public"),
        instead(":path", "/public/%2e%2e/vault"),
        instead(":path", "http://app.test/public/a"),
        instead(":path", "/public\\..\\vault"),
        instead(":path", "/public/\ta"),
        instead(":authority", "evil.example"),
        instead(":authority", "app.test@evil.example"),
        instead(":authority", "app.test, evil.example"),
        instead(":authority", ""),
        instead(":method", "CONNECT"),
        instead(":method", "GE T"),
        instead(":method", ""),
        vec![(":method", "CONNECT"), (":authority", "app.test:443")],
        vec![(":method", "CONNECT"), (":authority", "127.0.0.1:22")],
        vec![
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/public/a"),
            (":authority", "app.test"),
        ],
        // A pseudo-header behind another field.
        vec![
            ("x-a", "1"),
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.test"),
            (":path", "/public/a"),
        ],
        vec![],
    ];
    let lengths = [("content-length", "0"), ("content-length", "1")];
    bad.push(GOOD.into_iter().chain(lengths).collect());
    for fields in &bad {
        let outcome = send(fields);
        assert_ne!(outcome, Outcome::Answered(0x88), "{fields:?}");
        assert_eq!(app.count(), 0, "{fields:?}: {:?}", app.seen());
    }
    // A fragment is gone before anybody sees it: what is judged is what the app gets.
    assert_ne!(
        send(&instead(":path", "/vault#/../public/a")),
        Outcome::Answered(0x88)
    );
    assert_eq!(app.count(), 0);
    assert_eq!(
        send(&instead(":path", "/public/a#/../vault")),
        Outcome::Answered(0x88)
    );
    assert_eq!(app.last().line, "GET /public/a HTTP/1.1");
    // The twins: index 8 of the static table is `:status: 200`.
    for fields in [
        GOOD.to_vec(),
        with("host", "app.test"),
        with("te", "trailers"),
        with("content-length", "0"),
        with("x-a", ""),
    ] {
        assert_eq!(send(&fields), Outcome::Answered(0x88), "{fields:?}");
    }
}

/// What a flood came to.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The gateway ended the connection.
    Ended,
    /// All of it was borne.
    Borne,
}

/// A connection that sends more than it should.
struct Flood {
    stream: StreamOwned<ClientConnection, TcpStream>,
    unread: Vec<u8>,
}

impl Flood {
    fn to(address: SocketAddr, certificate: &Certificate) -> Self {
        let stream = raw(address, certificate, "h2");
        stream
            .sock
            .set_write_timeout(Some(PATIENCE))
            .expect("a socket");
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Sends; says whether the other side was still there.
    fn send(&mut self, bytes: &[u8]) -> bool {
        match self
            .stream
            .write_all(bytes)
            .and_then(|()| self.stream.flush())
        {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the gateway neither reads nor hangs up")
            }
            Err(_) => false,
        }
    }

    /// Reads what is there, without waiting for more; what it means when the connection is over.
    fn drain(&mut self) -> Option<End> {
        self.stream.sock.set_nonblocking(true).expect("a socket");
        let mut end = None;
        while end.is_none() {
            match self.read() {
                Ok(found) => end = found,
                Err(_) => break,
            }
        }
        self.stream.sock.set_nonblocking(false).expect("a socket");
        end
    }

    /// Reads once. `Err`: nothing is there.
    fn read(&mut self) -> Result<Option<End>, ()> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => return Ok(Some(End::Ended)),
            Ok(read) => self.unread.extend_from_slice(&piece[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(());
            }
            Err(_) => return Ok(Some(End::Ended)),
        }
        while let [a, b, c, kind, flags, _, _, _, _, rest @ ..] = &self.unread[..] {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            let Some(payload) = rest.get(..length) else {
                break;
            };
            let over = match *kind {
                GOAWAY => Some(End::Ended),
                PING if *flags & ACK != 0 && payload == LAST_PING => Some(End::Borne),
                _ => None,
            };
            if over.is_some() {
                return Ok(over);
            }
            self.unread.drain(..9 + length);
        }
        Ok(None)
    }

    /// Sends frames, made one by one, for as long as they are taken; then asks whether anybody is still there.
    fn run(mut self, first: &[u8], mut next: impl FnMut(u32) -> Vec<u8>, last: &[u8]) -> End {
        let mut opening = PREFACE.to_vec();
        opening.extend_from_slice(&frame(SETTINGS, 0, 0, &[]));
        opening.extend_from_slice(first);
        if !self.send(&opening) {
            return End::Ended;
        }
        for batch in 0..FLOOD / BATCH {
            let bytes: Vec<u8> = (0..BATCH).flat_map(|at| next(batch * BATCH + at)).collect();
            if !self.send(&bytes) {
                return End::Ended;
            }
            if let Some(end) = self.drain() {
                return end;
            }
        }
        let mut closing = last.to_vec();
        closing.extend_from_slice(&frame(PING, 0, 0, LAST_PING));
        if !self.send(&closing) {
            return End::Ended;
        }
        loop {
            match self.read() {
                Ok(Some(end)) => return end,
                Ok(None) => {}
                Err(()) => panic!("the gateway neither answers nor hangs up"),
            }
        }
    }
}

/// What Node read, once it has read a whole request.
fn await_whole(node: &Node) -> Read {
    let found = RefCell::new(None);
    await_until("the app to read a request", || {
        let records = node.take();
        let mut whole = records
            .iter()
            .filter_map(Record::read)
            .filter(|read| read.whole);
        *found.borrow_mut() = whole.next().cloned();
        found.borrow().is_some()
    });
    found.into_inner().expect("a request")
}

#[test]
fn a_body_over_http2_ends_where_it_says_and_brings_nothing_of_ours_behind_it() {
    let node = Node::start();
    let certificate = Certificate::self_signed();
    let mut setup = Setup::in_front_of(node.app);
    setup.server.tls = Some(certificate.files.clone());
    let gateway = setup.start();
    let post = |length: Option<&str>| {
        let mut block: Vec<u8> = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "app.test"),
            (":path", "/public/a"),
        ]
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect();
        block.extend(
            length
                .iter()
                .flat_map(|length| field("content-length", length)),
        );
        frame(HEADERS, END_HEADERS, 1, &block)
    };
    let send = |frames: &[Vec<u8>]| {
        let flood = Flood::to(gateway.address, &certificate);
        let mut all = PREFACE.to_vec();
        all.extend_from_slice(&frame(SETTINGS, 0, 0, &[]));
        all.extend(frames.concat());
        (flood, all)
    };
    let claims: Vec<u8> = [
        ("x-auth-user-id", "forged"),
        ("x_auth_role", "forged"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-harmless", "1"),
    ]
    .iter()
    .flat_map(|(name, value)| field(name, value))
    .collect();
    // Behind the body, where some servers add them to the headers.
    let (mut sender, bytes) = send(&[
        post(None),
        frame(DATA, 0, 1, b"abc"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &claims),
    ]);
    assert!(sender.send(&bytes));
    let read = await_whole(&node);
    assert_eq!((read.method.as_str(), read.body.as_str()), ("POST", "abc"));
    assert_eq!(leaks(&read), None);
    // Shorter or longer than declared: the app never takes it for whole.
    for body in [&b"ab"[..], b"abcd"] {
        let (mut sender, bytes) = send(&[post(Some("3")), frame(DATA, END_STREAM, 1, body)]);
        sender.send(&bytes);
        sender.send(&frame(PING, 0, 0, LAST_PING));
        while matches!(sender.read(), Ok(None)) {}
        // A request of somebody else's, behind which everything before it has been seen.
        let (mut other, bytes) = send(&[post(Some("3")), frame(DATA, END_STREAM, 1, b"xyz")]);
        assert!(other.send(&bytes));
        assert_eq!(await_whole(&node).body, "xyz", "{body:?}");
    }
}

/// Memory of this process that is in use, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = text.split(' ').nth(1).expect("a number");
    pages.parse::<usize>().expect("a number") * 4096
}

/// T51: rapid reset, CONTINUATION without end, empty frames, and their kin. Each is cut off or costs next to nothing, and everybody
/// else is served meanwhile.
#[test]
fn floods_of_frames_are_cut_off_or_cost_nothing_and_others_are_served_meanwhile() {
    let app = App::start();
    let (gateway, certificate) = over_tls(&app);
    let other = H2::to(gateway.address, &certificate);
    let session = cookie("token-of-ada");
    let stream = |at: u32| 2 * at + 1;
    let cancel = 8_u32.to_be_bytes();
    let open = frame(HEADERS, END_HEADERS, 1, &request("/public/a"));
    let before = resident();
    let mut ended = Vec::new();
    let over = frame(CONTINUATION, END_HEADERS, 1, &[]);
    let mut run = |what: &'static str, first: &[u8], next: &mut dyn FnMut(u32) -> Vec<u8>| {
        let last: &[u8] = if what.contains("CONTINUATION") {
            &over
        } else {
            &[]
        };
        let end = Flood::to(gateway.address, &certificate).run(first, next, last);
        let served = other.get("/dashboard", &[("cookie", &session)]);
        assert_eq!(served.status(), 200, "after {what}");
        ended.push((what, end));
    };
    run("rapid reset", &[], &mut |at| {
        let mut both = frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream(at),
            &request("/public/a"),
        );
        both.extend_from_slice(&frame(RST_STREAM, 0, stream(at), &cancel));
        both
    });
    run("reset by a broken frame", &[], &mut |at| {
        let mut both = frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream(at),
            &request("/public/a"),
        );
        // A window that grows by nothing is an error of the stream: the server resets it.
        both.extend_from_slice(&frame(WINDOW_UPDATE, 0, stream(at), &[0; 4]));
        both
    });
    run("malformed requests", &[], &mut |at| {
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream(at),
            &field("Bad", "1"),
        )
    });
    let begun = frame(HEADERS, END_STREAM, 1, &request("/public/a"));
    run("CONTINUATION without end", &begun, &mut |at| {
        frame(CONTINUATION, 0, 1, &field(&format!("x-{at}"), "1"))
    });
    run("empty CONTINUATION", &begun, &mut |_| {
        frame(CONTINUATION, 0, 1, &[])
    });
    run("empty DATA", &open, &mut |_| frame(DATA, 0, 1, &[]));
    run("PING", &[], &mut |_| frame(PING, 0, 0, &[0; 8]));
    run("SETTINGS", &[], &mut |_| frame(SETTINGS, 0, 0, &[]));
    run("PRIORITY", &[], &mut |at| {
        frame(PRIORITY, 0, stream(at), &[0, 0, 0, 0, 1])
    });
    run("streams left open", &[], &mut |at| {
        frame(HEADERS, END_HEADERS, stream(at), &request("/public/a"))
    });
    println!(
        "{ended:?}, {} KiB more than before",
        resident().saturating_sub(before) / 1024
    );
    for what in [
        "reset by a broken frame",
        "malformed requests",
        "CONTINUATION without end",
        "rapid reset",
    ] {
        assert!(
            ended.contains(&(what, End::Ended)),
            "{what} was borne: {ended:?}"
        );
    }
    // Other tests share this process: the bound is one no leak of this size would stay below.
    assert!(resident().saturating_sub(before) < 512 * 1024 * 1024);
    assert!(
        app.seen()
            .iter()
            .all(|seen| seen.line.starts_with("GET /public/a ")
                || seen.line.starts_with("GET /dashboard "))
    );
}
