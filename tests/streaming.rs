//! Nothing is held back: WebSockets, event streams, uploads and downloads of any size, and answers passed as they are.

use std::time::Duration;

use crate::support::wire::{RawApp, Wire, header, headers};
use crate::support::{App, Gateway, Setup, await_until, cookie, record, reply};

const MIB: usize = 1024 * 1024;

/// A gateway in front of an app of bare connections, with Ada signed in.
fn gateway(app: &RawApp, change: impl FnOnce(&mut Setup)) -> Gateway {
    let mut setup = Setup::in_front_of(app.address);
    change(&mut setup);
    let gateway = setup.start();
    gateway.store.put(record("token-of-ada", "ada"));
    gateway
}

/// A request head, with Ada's cookie.
fn request(line: &str, headers: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nhost: app.test\r\ncookie: {}\r\n{headers}\r\n",
        cookie("token-of-ada")
    )
}

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn a_websocket_opens_for_somebody_signed_in_and_carries_bytes_both_ways() {
    let app = RawApp::start();
    let gateway = gateway(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write(request("GET /live", UPGRADE));
    let mut server = app.accept();
    let head = server.read_head();
    assert_eq!(header(&head, "x-auth-user-id"), Some("ada"));
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(
        header(&head, "sec-websocket-key"),
        Some("dGhlIHNhbXBsZSBub25jZQ==")
    );
    server.write(SWITCHED);
    let answer = client.read_head();
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert_eq!(
        header(&answer, "sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    for round in 0..3 {
        // Each side waits for the other: a frame kept back would stop the exchange.
        // Frames as browsers send them, which are no UTF-8.
        let (ping, pong) = ([0x81, 0x85, 0xff, round], [0x82, 0x7e, 0x00, round]);
        client.write(ping);
        assert_eq!(server.read_exactly(ping.len()), ping);
        server.write(pong);
        assert_eq!(client.read_exactly(pong.len()), pong);
    }
    server.close();
    assert_eq!(client.read_to_end(), b"");
}

#[test]
fn a_websocket_is_refused_before_it_opens_when_signed_out() {
    let app = RawApp::start();
    let gateway = gateway(&app, |_| {});
    let answer = gateway.raw(format!(
        "GET /live HTTP/1.1\r\nhost: app.test\r\n{UPGRADE}\r\n"
    ));
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(app.connections(), 0);
}

#[test]
fn a_silent_websocket_outlives_every_timeout_of_requests() {
    let app = RawApp::start();
    let short = Duration::from_millis(50);
    let gateway = gateway(&app, |setup| {
        setup.server.timeouts.body_read = short;
        setup.server.timeouts.response_write = short;
        for upstream in &mut setup.server.upstreams {
            upstream.first_byte_timeout = short;
            upstream.write_timeout = short;
        }
    });
    let mut client = Wire::to(gateway.address);
    client.write(request("GET /live", UPGRADE));
    let mut server = app.accept();
    server.read_head();
    server.write(SWITCHED);
    client.read_head();
    // Requests under the same timeouts that begin later run into them, one after the other: by then the tunnel was silent for longer.
    for _ in 0..3 {
        assert_eq!(gateway.get("/public/slow", &[]).status, 504);
    }
    client.write("still there?");
    assert_eq!(server.read_exactly(12), b"still there?");
    server.write("yes");
    assert_eq!(client.read_exactly(3), b"yes");
}

#[test]
fn a_websocket_that_stays_silent_for_longer_than_tunnel_idle_is_closed() {
    let app = RawApp::start();
    let gateway = gateway(&app, |setup| {
        setup.server.timeouts.tunnel_idle = Duration::from_millis(50);
    });
    let mut client = Wire::to(gateway.address);
    client.write(request("GET /live", UPGRADE));
    let mut server = app.accept();
    server.read_head();
    server.write(SWITCHED);
    client.read_head();
    assert_eq!(client.read_to_end(), b"");
    assert_eq!(server.read_to_end(), b"");
}

#[test]
fn events_arrive_one_by_one() {
    let app = RawApp::start();
    let short = Duration::from_millis(50);
    let gateway = gateway(&app, |setup| {
        setup.server.timeouts.body_read = short;
        setup.server.timeouts.response_write = short;
        for upstream in &mut setup.server.upstreams {
            upstream.first_byte_timeout = short;
        }
    });
    let mut client = Wire::to(gateway.address);
    client.write(request("GET /events", "accept: text/event-stream\r\n"));
    let mut server = app.accept();
    server.read_head();
    // Silent for longer than an ordinary answer may be.
    assert_eq!(gateway.get("/public/slow", &[]).status, 504);
    server.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache, no-transform\r\ntransfer-encoding: chunked\r\n\r\n");
    let head = client.read_head();
    assert_eq!(header(&head, "content-type"), Some("text/event-stream"));
    assert_eq!(
        header(&head, "cache-control"),
        Some("private, no-store, no-transform")
    );
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        server.write_chunk(&event);
        // The app sends the next one only once this one is here.
        assert_eq!(client.read_chunks(event.len()), event.as_bytes());
    }
    server.write("0\r\n\r\n");
    assert!(client.read_chunk().is_empty());
}

#[test]
fn events_without_chunks_arrive_one_by_one_too() {
    let app = RawApp::start();
    let gateway = gateway(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write(request("GET /events", "accept: text/event-stream\r\n"));
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n");
    let head = client.read_head();
    let chunked = header(&head, "transfer-encoding").is_some();
    for number in 0..3 {
        let event = format!("data: {number}\n\n");
        server.write(&event);
        let seen = if chunked {
            client.read_chunks(event.len())
        } else {
            client.read_exactly(event.len())
        };
        assert_eq!(seen, event.as_bytes());
    }
    server.close();
    if chunked {
        assert!(client.read_chunk().is_empty());
    } else {
        assert_eq!(client.read_to_end(), b"");
    }
}

#[test]
fn an_upload_reaches_the_app_piece_by_piece_before_it_is_over() {
    let app = RawApp::start();
    let gateway = gateway(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write(request("POST /upload", "transfer-encoding: chunked\r\n"));
    let mut server = app.accept();
    let head = server.read_head();
    assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(header(&head, "content-length"), None);
    for number in 0..4 {
        let piece = format!("piece {number}");
        client.write_chunk(&piece);
        // The client goes on only once the app has this one.
        assert_eq!(server.read_chunks(piece.len()), piece.as_bytes());
    }
    client.write("0\r\n\r\n");
    assert!(server.read_chunk().is_empty());
    assert_eq!(server.read_line(), "");
    server.write("HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\ndone");
    assert!(client.read_head().starts_with("HTTP/1.1 201"));
    assert_eq!(client.read_exactly(4), b"done");
}

/// Resident memory of this process now, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("its resident size");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("KiB");
    kib * 1024
}

#[test]
fn large_bodies_pass_both_ways_without_being_kept() {
    const SIZE: usize = 64 * MIB;
    const PIECE: usize = 64 * 1024;
    let app = RawApp::start();
    let gateway = gateway(&app, |setup| setup.server.limits.body_bytes = 0);
    let before = resident();
    let mut client = Wire::to(gateway.address);
    client.write(request(
        "POST /large",
        &format!("content-length: {SIZE}\r\n"),
    ));
    let mut server = app.accept();
    let piece = vec![7_u8; PIECE];
    let mut most = 0;
    std::thread::scope(|scope| {
        let piece = &piece;
        scope.spawn(move || {
            server.read_head();
            server.skip(SIZE);
            server.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"));
            for _ in 0..SIZE / PIECE {
                server.write(piece);
            }
        });
        for sent in 0..SIZE / PIECE {
            client.write(piece);
            if sent % 64 == 0 {
                most = most.max(resident());
            }
        }
        client.read_head();
        for _ in 0..SIZE / PIECE / 64 {
            client.skip(PIECE * 64);
            most = most.max(resident());
        }
    });
    // Other tests run in this process meanwhile; holding either body would show all the same.
    let grown = most.saturating_sub(before);
    assert!(grown < SIZE / 2, "resident memory grew by {grown} bytes");
}

#[test]
fn a_client_that_goes_away_ends_the_answer_it_was_getting() {
    let app = RawApp::start();
    let gateway = gateway(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write(request("GET /events", "accept: text/event-stream\r\n"));
    let mut server = app.accept();
    server.read_head();
    server.write(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    client.read_head();
    server.write_chunk("data: 1\n\n");
    client.read_chunk();
    client.close();
    // The app is told by the end of its connection, without having to write first.
    assert_eq!(server.read_to_end(), b"");
    await_until("nothing to be in flight", || {
        gateway.running.gateway.metrics.in_flight() == 0
    });
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_an_upload_leaves_no_half_request_behind() {
    let app = RawApp::start();
    let gateway = gateway(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write(request("POST /upload", "content-length: 100\r\n"));
    let mut server = app.accept();
    server.read_head();
    client.write("only this");
    assert_eq!(server.read_exactly(9), b"only this");
    client.close();
    assert_eq!(server.read_to_end(), b"");
}

#[test]
fn an_app_that_breaks_off_is_not_taken_for_one_that_finished() {
    let app = RawApp::start();
    let gateway = gateway(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write(request("GET /page", ""));
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    client.read_head();
    assert_eq!(client.read_chunk(), b"hello");
    server.close();
    // No closing chunk: the client can tell.
    assert!(!client.read_to_end().ends_with(b"0\r\n\r\n"));
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_from_the_app() {
    let app = RawApp::start();
    let gateway = gateway(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write(request(
        "POST /upload",
        "expect: 100-continue\r\ncontent-length: 4\r\n",
    ));
    let mut server = app.accept();
    let head = server.read_head();
    assert_eq!(header(&head, "expect"), Some("100-continue"));
    server.write("HTTP/1.1 100 Continue\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 100"));
    client.write("body");
    assert_eq!(server.read_exactly(4), b"body");
    server.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert!(client.read_head().starts_with("HTTP/1.1 200"));
    assert_eq!(client.read_exactly(2), b"ok");
}

#[test]
fn somebody_signed_out_who_waits_for_100_continue_is_refused_without_it() {
    let app = RawApp::start();
    let gateway = gateway(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write("POST /upload HTTP/1.1\r\nhost: app.test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    let head = client.read_head();
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    assert_eq!(app.connections(), 0);
}

#[test]
fn early_hints_pass_and_the_answer_follows() {
    let app = RawApp::start();
    let gateway = gateway(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write(request("GET /page", ""));
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n");
    let hints = client.read_head();
    assert!(hints.starts_with("HTTP/1.1 103"), "{hints}");
    server.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert!(client.read_head().starts_with("HTTP/1.1 200"));
    assert_eq!(client.read_exactly(2), b"ok");
}

#[test]
fn answers_without_a_body_leave_the_connection_in_step() {
    let app = App::scripted(|seen, stream| {
        let answer: &[u8] = match seen.line.as_str() {
            line if line.starts_with("HEAD") => {
                b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\netag: \"x\"\r\n\r\n"
            }
            line if line.contains("/none") => b"HTTP/1.1 204 No Content\r\n\r\n",
            line if line.contains("/same") => {
                b"HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncontent-length: 1234\r\n\r\n"
            }
            _ => return reply(stream, 200, &[], b"body"),
        };
        let _ = std::io::Write::write_all(stream, answer);
    });
    let gateway = Gateway::in_front_of(&app);
    let mut client = Wire::to(gateway.address);
    for (line, status, length) in [
        ("HEAD /public/a", "HTTP/1.1 200", Some("1234")),
        ("GET /public/none", "HTTP/1.1 204", None),
        ("GET /public/same", "HTTP/1.1 304", Some("1234")),
        ("GET /public/a", "HTTP/1.1 200", Some("4")),
    ] {
        client.write(format!("{line} HTTP/1.1\r\nhost: app.test\r\n\r\n"));
        let head = client.read_head();
        assert!(head.starts_with(status), "{line}: {head}");
        if status.ends_with("200") {
            assert_eq!(header(&head, "content-length"), length, "{line}");
        }
        if line.ends_with("/same") || line.starts_with("HEAD") {
            assert_eq!(header(&head, "etag"), Some("\"x\""));
        }
    }
    assert_eq!(client.read_exactly(4), b"body");
    // A refusal of a HEAD has no body either.
    client.write("HEAD /account HTTP/1.1\r\nhost: app.test\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 401"));
    client.write("GET /public/a HTTP/1.1\r\nhost: app.test\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 200"));
}

#[test]
fn trailers_of_an_answer_do_not_break_the_next_one() {
    let app = RawApp::start();
    let gateway = gateway(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write(request("GET /a", "te: trailers\r\n"));
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\nx-auth-user-id: root\r\n\r\n");
    client.read_head();
    assert_eq!(client.read_chunk(), b"hello");
    assert!(client.read_chunk().is_empty());
    let mut trailers = Vec::new();
    loop {
        let line = client.read_line();
        if line.is_empty() {
            break;
        }
        trailers.push(line);
    }
    assert!(
        !trailers.iter().any(|line| line.starts_with("x-auth")),
        "{trailers:?}"
    );
    client.write(request("GET /b", "connection: close\r\n"));
    // Whether the app's connection is used again is the gateway's business.
    let mut again = if app.connections() > 1 {
        app.accept()
    } else {
        match server.try_read_head() {
            Some(_) => server,
            None => app.accept(),
        }
    };
    again.write("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb");
    assert!(client.read_head().starts_with("HTTP/1.1 200"));
    assert_eq!(client.read_to_end(), b"b");
}

#[test]
fn an_oauth_callback_passes_as_it_is() {
    const TARGET: &str = "/api/auth/callback/github?code=4%2F0AX4XfWh~a%20b+c&state=xyz.%3D%3d&scope=email%20profile&iss=https://accounts.example";
    const LOCATION: &str = "https://app.test/dashboard?from=%2Fa%20b&x=%3D";
    const COOKIES: [&str; 3] = [
        "better-auth.session_token=abc.def%3D; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax",
        "better-auth.state=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax",
        "other=1, 2; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
    ];
    let app = App::scripted(|_, stream| {
        let mut headers = vec![("Location", LOCATION)];
        headers.extend(COOKIES.map(|cookie| ("Set-Cookie", cookie)));
        reply(stream, 302, &headers, b"");
    });
    let gateway = Gateway::in_front_of(&app);
    let answer = gateway.document(TARGET, &[("cookie", "better-auth.state=signed.value")]);
    assert_eq!(answer.status, 302);
    assert_eq!(answer.header("location"), Some(LOCATION));
    assert_eq!(answer.all("set-cookie"), COOKIES);
    let seen = app.last();
    assert_eq!(seen.line, format!("GET {TARGET} HTTP/1.1"));
    assert_eq!(seen.all("cookie"), ["better-auth.state=signed.value"]);
}

#[test]
fn header_lines_of_the_app_stay_lines() {
    let app = RawApp::start();
    let gateway = gateway(&app, |_| {});
    let mut client = Wire::to(gateway.address);
    client.write(request("GET /page", "connection: close\r\n"));
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nVary: RSC\r\nSet-Cookie: b=2\r\nVary: Accept\r\nX-Bytes: \u{e9}\r\ncontent-length: 0\r\n\r\n");
    let head = client.read_head();
    assert_eq!(headers(&head, "set-cookie"), ["a=1", "b=2"]);
    assert_eq!(headers(&head, "vary"), ["RSC", "Accept"]);
    assert_eq!(headers(&head, "x-bytes"), ["\u{e9}"]);
}
