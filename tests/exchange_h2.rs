//! A GET over HTTP/2 and its answer: what the app is told, what becomes of every form of answer, and what happens when either side goes
//! away. The same requests are put to the gateway in a form that goes Pingora's way, and both are compared.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use vestibule::session::feed::{Ended, Listener as _};

use crate::support::tls::{
    Certificate, H2, Open, Outcome, frame, h2_headers, headers, hello, http1, next_frame, raw,
};
use crate::support::wire::{RawApp, Wire, header, lines_told};
use crate::support::{App, Gateway, PATIENCE, Setup, await_until, cookie, record, reply};

const PAGE: &str = "/public/page";

/// The two ways of one request: `Trailer` is for the next neighbour alone, so it takes the second.
const WAYS: [&[(&str, &str)]; 2] = [&[], &[("trailer", "x-nothing")]];

/// With both, and Ada signed in.
fn started(mut setup: Setup) -> (Gateway, Certificate) {
    let certificate = Certificate::self_signed();
    setup.server.tls = Some(certificate.files.clone());
    let gateway = setup.start();
    gateway.store.put(record("token-of-ada", "ada"));
    (gateway, certificate)
}

/// An app, the gateway before it, and a client of that.
fn client_before(app: &RawApp) -> (Gateway, H2) {
    let (gateway, certificate) = started(Setup::in_front_of(app.address));
    let client = H2::to(gateway.address, &certificate);
    (gateway, client)
}

/// A client with windows of this many bytes for each stream, and much room for all of them together.
fn client_with_windows(gateway: &Gateway, certificate: &Certificate, bytes: u32) -> H2 {
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(bytes);
    settings.initial_connection_window_size(16 * 1024 * 1024);
    H2::with(gateway.address, certificate, &settings)
}

fn status(stream: &mut Open<'_>) -> u16 {
    let (head, _) = stream.head().expect("an answer, not a reset");
    head.status().as_u16()
}

#[test]
fn what_the_app_is_told_over_http2_is_the_same_on_both_ways() {
    let app = RawApp::start();
    let (_gateway, client) = client_before(&app);
    let session = cookie("token-of-ada");
    let request = [
        ("cookie", "first=1"),
        ("cookie", session.as_str()),
        ("te", "trailers"),
        ("x-custom", "one"),
        ("x-custom", "two"),
        ("x_auth_user_id", "mallory"),
        ("x-auth-user-id", "mallory"),
        ("x-forwarded-for", "198.51.100.1"),
        ("x-forwarded-host", "mallory.test"),
        ("tracestate", "a=1"),
        ("x-request-id", "not valid"),
    ];
    for host in [None, Some(("host", "app.test"))] {
        let told = WAYS.map(|way| {
            let headers = [&request, way, host.as_slice()].concat();
            let mut stream = client.open("GET", "/dashboard?a=%2F&b", &headers);
            let mut server = app.accept();
            let head = server.read_head();
            server.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            assert_eq!(status(&mut stream), 200);
            assert_eq!(header(&head, "x-auth-user-id"), Some("ada"), "{head}");
            assert_eq!(header(&head, "host"), Some("app.test"), "{head}");
            assert!(!head.contains("mallory"), "{head}");
            lines_told(&head)
        });
        assert_eq!(told[0], told[1]);
    }
}

#[test]
fn plain_streams_go_our_way_over_the_connections_that_http1_uses_too() {
    let app = App::start();
    let (gateway, certificate) = started(Setup::in_front_of(app.address));
    let client = H2::to(gateway.address, &certificate);
    let kept = || gateway.running.gateway.apps[0].kept.len();
    let odd = client.send("POST", PAGE, &[], b"a").expect("an answer");
    assert_eq!(odd.status(), 200);
    assert_eq!(client.get(PAGE, WAYS[1]).status(), 200);
    assert_eq!(kept(), 0);
    // What browsers send with each request is not odd.
    for headers in [WAYS[0], &[("te", "trailers"), ("priority", "u=1, i")]] {
        assert_eq!(client.get(PAGE, headers).status(), 200);
        await_until("the connection to wait", || kept() == 1);
    }
    let answer = http1(
        gateway.address,
        &certificate,
        &format!("GET {PAGE} HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n"),
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(kept(), 1);
}

#[test]
fn a_host_without_an_authority_is_the_host_and_with_neither_there_is_no_request() {
    let app = App::start();
    let (gateway, certificate) = started(Setup::in_front_of(app.address));
    let send = |fields: &[(&str, &str)]| {
        let line = [(":method", "GET"), (":scheme", "https"), (":path", PAGE)];
        h2_headers(gateway.address, &certificate, &[&line, fields].concat())
    };
    // Index 8 of the static table is `:status: 200`.
    for way in WAYS {
        let fields = [&[("host", "app.test")], way].concat();
        assert_eq!(send(&fields), Outcome::Answered(0x88));
        assert_eq!(app.last().all("host"), ["app.test"]);
        assert_eq!(app.last().all("x-forwarded-host"), ["app.test"]);
    }
    let before = app.count();
    for fields in [
        &[][..],
        &[("host", "evil.test")],
        &[("host", "app.test"), ("host", "app.test")],
        &[("host", "me@app.test")],
        &[(":authority", "me@app.test")],
    ] {
        for way in WAYS {
            let fields = [fields, way].concat();
            assert_ne!(send(&fields), Outcome::Answered(0x88), "{fields:?}");
        }
    }
    assert_eq!(app.count(), before);
}

#[test]
fn every_form_of_answer_arrives_whole_over_http2() {
    for way in WAYS {
        for (what, answer, length, is_kept) in crate::exchange::forms() {
            let app = RawApp::start();
            let (_gateway, client) = client_before(&app);
            let mut stream = client.open("GET", PAGE, way);
            let mut server = app.accept();
            server.read_head();
            server.write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
            // Whoever writes much waits for whoever reads it.
            let writing = thread::spawn(move || {
                server.write(format!("HTTP/1.1 200 OK\r\n{answer}"));
                if is_kept {
                    return Some(server);
                }
                server.close();
                None
            });
            assert_eq!(status(&mut stream), 200, "{what} {way:?}");
            let body = stream.rest().expect("a whole body");
            assert_eq!(body.len(), length, "{what} {way:?}");
            let server = writing.join().expect("the app has written");

            let mut stream = client.open("GET", PAGE, way);
            let mut server = server.unwrap_or_else(|| app.accept());
            server.read_head();
            server.write("HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nagain");
            assert_eq!(status(&mut stream), 404, "{what} {way:?}");
            assert_eq!(stream.rest().expect("a body"), b"again", "{what} {way:?}");
            let connections = if is_kept { 1 } else { 2 };
            assert_eq!(app.connections(), connections, "{what} {way:?}");
        }
    }
}

#[test]
fn answers_without_a_body_end_with_their_head_over_http2() {
    for way in WAYS {
        let app = RawApp::start();
        let (_gateway, client) = client_before(&app);
        let mut server = None;
        for (method, answer, length) in [
            ("GET", "204 No Content\r\n", None),
            ("GET", "304 Not Modified\r\netag: \"a\"\r\n", None),
            ("GET", "200 OK\r\ncontent-length: 0\r\n", Some("0")),
            ("HEAD", "200 OK\r\ncontent-length: 5\r\n", Some("5")),
            ("HEAD", "200 OK\r\ntransfer-encoding: chunked\r\n", None),
        ] {
            let mut stream = client.open(method, PAGE, way);
            let server = server.get_or_insert_with(|| app.accept());
            let asked = server.read_head();
            assert!(asked.starts_with(&format!("{method} {PAGE} HTTP/1.1\r\n")));
            server.write(format!("HTTP/1.1 {answer}\r\n"));
            let (head, _) = stream.head().expect("an answer");
            assert_eq!(head.status().as_str(), &answer[..3]);
            let said = head.headers().get("content-length");
            assert_eq!(said.map(|said| said.to_str().unwrap()), length, "{answer}");
            assert_eq!(stream.rest().expect("an end"), b"", "{answer}");
        }
        // Ours has none either.
        let mut stream = client.open("HEAD", "/dashboard", way);
        assert_eq!(status(&mut stream), 401);
        assert_eq!(stream.rest().expect("an end"), b"");
        assert_eq!(app.connections(), 1);
    }
}

#[test]
fn an_answer_without_a_body_is_one_frame() {
    let app = RawApp::start();
    let (_gateway, client) = client_before(&app);
    let mut stream = client.open("GET", PAGE, &[]);
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 204 No Content\r\n\r\n");
    let (_, is_all) = stream.head().expect("an answer");
    assert!(is_all);
}

#[test]
fn what_concerns_the_connection_to_the_app_does_not_reach_a_client_over_http2() {
    let answers = WAYS.map(|way| {
        let app = RawApp::start();
        let (_gateway, client) = client_before(&app);
        let mut stream = client.open("GET", PAGE, way);
        let mut server = app.accept();
        server.read_head();
        server.write(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\n\
             Transfer-Encoding: chunked\r\nX-Auth-User-Id: mallory\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Own: Yes\r\n\r\n2\r\nok\r\n0\r\nx-trailer: 1\r\n\r\n",
        );
        let (head, _) = stream.head().expect("an answer");
        assert_eq!(stream.rest().expect("a body"), b"ok");
        let mut lines: Vec<String> = head
            .headers()
            .iter()
            .filter(|(name, _)| *name != "date" && *name != "x-request-id")
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        lines.sort();
        lines
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(
        answers[0],
        ["set-cookie: a=1", "set-cookie: b=2", "x-own: Yes"]
    );
}

#[test]
fn a_part_of_a_stream_arrives_over_http2_before_the_next_is_written() {
    for way in WAYS {
        let app = RawApp::start();
        let (_gateway, client) = client_before(&app);
        let mut stream = client.open("GET", PAGE, way);
        let mut server = app.accept();
        server.read_head();
        server.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(status(&mut stream), 200);
        for part in ["one", "two", "three"] {
            server.write_chunk(part);
            assert_eq!(stream.piece().expect("more").expect("a part"), part);
        }
        server.write_chunk("");
        assert_eq!(stream.rest().expect("an end"), b"");
    }
}

#[test]
fn a_client_that_resets_its_stream_ends_the_connection_to_the_app_and_one_that_waits_is_answered() {
    for way in WAYS {
        for begun in [false, true] {
            let app = RawApp::start();
            let (_gateway, client) = client_before(&app);
            let ask = || {
                let mut stream = client.open("GET", PAGE, way);
                let mut server = app.accept();
                server.read_head();
                if begun {
                    server.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n");
                    assert_eq!(status(&mut stream), 200);
                }
                (stream, server)
            };
            let (leaves, mut left) = ask();
            let (mut waits, mut server) = ask();
            leaves.reset();
            assert!(left.read_to_end().is_empty());
            if !begun {
                server.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n");
                assert_eq!(status(&mut waits), 200);
            }
            server.write("ok");
            assert_eq!(waits.rest().expect("a body"), b"ok", "{way:?}");
        }
    }
}

#[test]
fn a_client_that_closes_its_connection_ends_all_its_streams() {
    for way in WAYS {
        let app = RawApp::start();
        let (gateway, client) = client_before(&app);
        let mut servers = Vec::new();
        for _ in 0..2 {
            client.open("GET", PAGE, way);
            let mut server = app.accept();
            server.read_head();
            servers.push(server);
        }
        drop(client);
        for mut server in servers {
            assert!(server.read_to_end().is_empty());
        }
        await_until("nothing to be in flight", || {
            let counted = gateway.running.gateway.metrics.render();
            counted.contains("\nvestibule_requests_in_flight 0\n")
        });
        let counted = gateway.running.gateway.metrics.render();
        assert!(
            counted.contains("\nvestibule_upstream_failures_total 0\n"),
            "{counted}"
        );
    }
}

#[test]
fn an_app_that_breaks_off_is_never_a_whole_answer_over_http2() {
    for way in WAYS {
        for (answer, expected) in [
            ("", 502),
            ("HTTP/1.1 200 OK\r\ncontent-le", 502),
            (
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
                502,
            ),
            ("no answer at all\r\n\r\n", 502),
            ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", 0),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nhello",
                0,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
                0,
            ),
        ] {
            let app = RawApp::start();
            let (_gateway, client) = client_before(&app);
            let mut stream = client.open("GET", PAGE, way);
            let mut server = app.accept();
            server.read_head();
            server.write(answer);
            server.close();
            if expected > 0 {
                assert_eq!(status(&mut stream), expected, "{answer:?} {way:?}");
                assert!(stream.rest().is_ok());
            } else {
                // A reset may overtake the head.
                let whole = stream.head().and_then(|_| stream.rest());
                assert!(whole.is_err(), "{answer:?} {way:?}: {whole:?}");
            }
        }
    }
}

#[test]
fn an_app_that_is_silent_is_answered_for_in_time_over_http2() {
    for way in WAYS {
        let app = RawApp::start();
        let mut setup = Setup::in_front_of(app.address);
        for upstream in &mut setup.server.upstreams {
            upstream.first_byte_timeout = Duration::from_millis(50);
        }
        let (gateway, certificate) = started(setup);
        let client = H2::to(gateway.address, &certificate);
        let mut stream = client.open("GET", PAGE, way);
        let mut server = app.accept();
        server.read_head();
        assert_eq!(status(&mut stream), 504);
        assert!(server.read_to_end().is_empty());
    }
}

#[test]
fn many_streams_at_once_each_get_their_own_answer() {
    let app = App::scripted(|request, stream| {
        let target = request.line.split(' ').nth(1).unwrap_or_default();
        reply(stream, 200, &[], target.as_bytes());
    });
    let (gateway, certificate) = started(Setup::in_front_of(app.address));
    let client = H2::to(gateway.address, &certificate);
    for round in 0..3 {
        let targets: Vec<String> = (0..60)
            .map(|nth| format!("/public/{round}/{nth}"))
            .collect();
        let ask = |(nth, target): (usize, &String)| {
            client.open("GET", target, WAYS[usize::from(nth % 5 == 4)])
        };
        let streams: Vec<Open<'_>> = targets.iter().enumerate().map(ask).collect();
        for (mut stream, target) in streams.into_iter().zip(&targets) {
            assert_eq!(status(&mut stream), 200);
            assert_eq!(stream.rest().expect("a body"), target.as_bytes());
        }
    }
}

#[test]
fn one_connection_over_http2_serves_requests_of_every_kind() {
    let app = App::scripted(|request, stream| {
        let target = request.line.split(' ').nth(1).unwrap_or_default();
        reply(
            stream,
            200,
            &[],
            &[target.as_bytes(), &request.body].concat(),
        );
    });
    let (gateway, certificate) = started(Setup::in_front_of(app.address));
    let client = H2::to(gateway.address, &certificate);
    let session = cookie("token-of-ada");
    for _ in 0..3 {
        assert_eq!(client.get("/public/a", &[]).body(), b"/public/a");
        let posted = client.send("POST", "/public/b", &[], b"!");
        assert_eq!(posted.expect("an answer").body(), b"/public/b!");
        assert_eq!(client.get("/dashboard", &[]).status(), 401);
        let let_in = client.get("/dashboard", &[("cookie", &session)]);
        assert_eq!(let_in.body(), b"/dashboard");
        // A GET with a body is none of ours either.
        let odd = client.send("GET", "/public/c", &[], b"?");
        assert_eq!(odd.expect("an answer").body(), b"/public/c?");
        assert_eq!(client.get("/public/d", WAYS[1]).body(), b"/public/d");
    }
}

/// Bytes that tell where they stand.
fn counted(bytes: usize) -> Vec<u8> {
    (0..bytes / 8).flat_map(usize::to_be_bytes).collect()
}

#[test]
fn a_large_answer_arrives_through_small_windows_and_holds_up_no_other() {
    const BYTES: usize = 4 * 1024 * 1024;
    for chunked in [false, true] {
        let app = App::scripted(move |request, stream| {
            if request.line.contains("/small") {
                return reply(stream, 200, &[], b"small");
            }
            let body = counted(BYTES);
            let mut server = Wire::new(stream.try_clone().expect("a connection"));
            if chunked {
                server.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                // Of lengths that no window is a multiple of.
                let mut lengths = [1, 700, 5000, 40_001].into_iter().cycle();
                let mut rest = &body[..];
                while !rest.is_empty() {
                    let length = lengths.next().unwrap_or(1).min(rest.len());
                    if !server.try_write(format!("{length:x}\r\n"))
                        || !server.try_write(&rest[..length])
                        || !server.try_write("\r\n")
                    {
                        return;
                    }
                    rest = &rest[length..];
                }
                server.try_write("0\r\n\r\n");
            } else {
                server.try_write(format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n"
                ));
                server.try_write(&body);
            }
        });
        let (gateway, certificate) = started(Setup::in_front_of(app.address));
        for way in WAYS {
            let client = client_with_windows(&gateway, &certificate, 10_000);
            let mut stalls = client.open("GET", "/public/large", way);
            assert_eq!(status(&mut stalls), 200);
            // Nobody reads it, and others are answered.
            let mut reads = client.open("GET", "/public/large", way);
            assert_eq!(client.get("/public/small", way).body(), b"small");
            assert_eq!(status(&mut reads), 200);
            let whole = reads.rest().expect("a whole body");
            assert!(whole == counted(BYTES), "{} bytes of {way:?}", whole.len());
            let whole = stalls.rest().expect("a whole body");
            assert!(whole == counted(BYTES), "{} bytes of {way:?}", whole.len());
        }
    }
}

#[test]
fn a_stream_that_nobody_reads_is_ended_in_time() {
    for way in WAYS {
        let app = RawApp::start();
        let mut setup = Setup::in_front_of(app.address);
        setup.server.timeouts.response_write = Duration::from_millis(50);
        let (gateway, certificate) = started(setup);
        let client = client_with_windows(&gateway, &certificate, 1000);
        let mut stream = client.open("GET", PAGE, way);
        let mut server = app.accept();
        server.read_head();
        server.write("HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n");
        server.write([b'x'; 1500]);
        assert_eq!(status(&mut stream), 200);
        assert!(server.read_to_end().is_empty());
        assert!(stream.rest().is_err(), "{way:?}");
    }
}

#[test]
fn a_client_that_takes_a_byte_now_and_then_is_not_waited_for_with_each() {
    for way in WAYS {
        let app = RawApp::start();
        let mut setup = Setup::in_front_of(app.address);
        setup.server.timeouts.response_write = Duration::from_millis(100);
        let (gateway, certificate) = started(setup);
        let client = client_with_windows(&gateway, &certificate, 2);
        let mut stream = client.open("GET", PAGE, way);
        let mut server = app.accept();
        server.read_head();
        server.write("HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n");
        server.write([b'x'; 2000]);
        assert_eq!(status(&mut stream), 200);
        // All of it would take many times as long as one write may.
        let mut came = 0;
        let ended = loop {
            match stream.piece() {
                Some(Ok(piece)) => {
                    came += piece.len();
                    thread::sleep(Duration::from_millis(5));
                    if let Err(error) = stream.release(piece.len()) {
                        break Err(error);
                    }
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            }
        };
        assert!(ended.is_err() && came < 1000, "{way:?}: {came}");
    }
}

#[test]
fn an_app_that_nobody_reaches_is_a_bad_gateway_over_http2() {
    // Taken, and nobody listens.
    let place = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = place.local_addr().expect("an address");
    drop(place);
    for way in WAYS {
        let (gateway, certificate) = started(Setup::in_front_of(address));
        let client = H2::to(gateway.address, &certificate);
        let mut stream = client.open("GET", PAGE, way);
        assert_eq!(status(&mut stream), 502, "{way:?}");
        assert!(!stream.rest().expect("a body").is_empty());
    }
}

#[test]
fn a_stop_lets_streams_in_flight_end() {
    for way in WAYS {
        let app = RawApp::start();
        let mut setup = Setup::in_front_of(app.address);
        setup.server.timeouts.stop = 10 * PATIENCE;
        let (gateway, certificate) = started(setup);
        let client = H2::to(gateway.address, &certificate);
        let mut stream = client.open("GET", PAGE, way);
        let mut server = app.accept();
        server.read_head();
        let stopped = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                gateway.running.stop();
                stopped.store(true, Ordering::SeqCst);
            });
            await_until("the listener to close", || {
                std::net::TcpStream::connect(gateway.address).is_err()
            });
            assert!(!stopped.load(Ordering::SeqCst));
            server.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone");
            assert_eq!(status(&mut stream), 200);
            assert_eq!(stream.rest().expect("a body"), b"done");
        });
    }
}

#[test]
fn a_connection_without_streams_is_let_go_in_time_and_one_with_a_stream_is_not() {
    let app = RawApp::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.timeouts.idle = Duration::from_millis(50);
    let (gateway, certificate) = started(setup);
    let client = H2::to(gateway.address, &certificate);
    let mut stream = client.open("GET", PAGE, &[]);
    let mut server = app.accept();
    server.read_head();
    // Whoever begins later is let go meanwhile.
    assert_let_go(&gateway, &certificate, &hello());
    server.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert_eq!(status(&mut stream), 200);
    assert_eq!(stream.rest().expect("a body"), b"ok");
}

#[test]
fn a_client_that_does_not_even_say_hello_is_let_go_in_time() {
    let app = RawApp::start();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.timeouts.idle = Duration::from_millis(50);
    let (gateway, certificate) = started(setup);
    for begun in [&hello()[..0], &hello()[..10]] {
        assert_let_go(&gateway, &certificate, begun);
    }
}

/// A client that says this and nothing more.
fn assert_let_go(gateway: &Gateway, certificate: &Certificate, says: &[u8]) {
    let mut client = raw(gateway.address, certificate, "h2");
    client.write_all(says).expect("it is sent");
    let end = client.read_to_end(&mut Vec::new());
    let end = end.map_err(|end| end.kind());
    assert!(
        matches!(end, Ok(_) | Err(ErrorKind::UnexpectedEof)),
        "{end:?}"
    );
}

#[test]
fn a_connection_stays_while_any_of_its_streams_is_open() {
    // The first of them is carried out by the connection's own task, the others by theirs.
    for stays in 0..2 {
        for way in WAYS {
            let app = RawApp::start();
            let mut setup = Setup::in_front_of(app.address);
            setup.server.timeouts.idle = Duration::from_millis(50);
            let (gateway, certificate) = started(setup);
            let client = H2::to(gateway.address, &certificate);
            let mut open = Vec::new();
            for _ in 0..2 {
                let stream = client.open("GET", PAGE, way);
                let mut server = app.accept();
                server.read_head();
                open.push((stream, server));
            }
            let (mut stream, mut server) = open.remove(stays);
            let (mut first, mut its_server) = open.remove(0);
            its_server.write("HTTP/1.1 204 No Content\r\n\r\n");
            assert_eq!(status(&mut first), 204);
            // Longer than a connection without streams is kept.
            assert_let_go(&gateway, &certificate, &hello());
            assert_let_go(&gateway, &certificate, &hello());
            server.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            assert_eq!(status(&mut stream), 200, "{stays} {way:?}");
            assert_eq!(stream.rest().expect("a body"), b"ok");
        }
    }
}

#[test]
fn answers_that_a_slow_client_has_not_taken_yet_are_not_cut_and_it_is_not_waited_for_for_ever() {
    // More than the system holds of a connection, and less of each than the gateway does.
    const STREAMS: u32 = 40;
    const BYTES: usize = 380 * 1024;
    let app = App::scripted(|_, stream| reply(stream, 200, &[], &vec![b'x'; BYTES]));
    for (waits, is_whole) in [(2, true), (10, false)] {
        let mut setup = Setup::in_front_of(app.address);
        setup.server.timeouts.idle = Duration::from_millis(200);
        let (gateway, certificate) = started(setup);
        let mut client = raw(gateway.address, &certificate, "h2");
        // Windows as large as they can be, for each stream and for all of them.
        let window = [&[0, 4][..], &0x7fff_ffff_u32.to_be_bytes()].concat();
        let mut says = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        says.extend(frame(4, 0, 0, &window));
        says.extend(frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
        for nth in 0..STREAMS {
            let page = [
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "app.test"),
                (":path", PAGE),
            ];
            says.extend(headers(2 * nth + 1, &page));
        }
        let before = app.seen().len();
        client.write_all(&says).expect("it is sent");
        await_until("all to be answered", || {
            let counted = gateway.running.gateway.metrics.render();
            counted.contains("\nvestibule_requests_in_flight 0\n")
                && app.seen().len() == before + STREAMS as usize
        });
        // Each of them as long as a connection without streams is kept.
        for _ in 0..waits {
            assert_let_go(&gateway, &certificate, &hello());
        }
        let mut came = 0;
        while let Some((kind, _, payload)) = next_frame(&mut client) {
            if kind == 0 {
                came += payload.len();
            }
            if came == STREAMS as usize * BYTES {
                break;
            }
        }
        assert_eq!(came == STREAMS as usize * BYTES, is_whole, "{came}");
    }
}

#[test]
fn a_client_that_sends_requests_that_are_none_again_and_again_is_let_go() {
    const NONE: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "https"), (":path", PAGE)];
    let app = App::start();
    let (gateway, certificate) = started(Setup::in_front_of(app.address));
    // Those without a host are refused one by one; then one that is fine follows.
    for (bad, is_served) in [(31, true), (32, false)] {
        let before = app.seen().len();
        let mut client = raw(gateway.address, &certificate, "h2");
        client.write_all(&hello()).expect("it is sent");
        for nth in 0..bad {
            let sent = client.write_all(&headers(2 * nth + 1, &NONE));
            sent.expect("it is sent");
            let refused = std::iter::from_fn(|| next_frame(&mut client)).find(|frame| frame.0 == 1);
            // The last of too many may find the connection closed.
            assert!(refused.is_some() || nth == 31, "{nth}");
        }
        let mut fine = NONE.to_vec();
        fine.insert(2, (":authority", "app.test"));
        let sent = client.write_all(&headers(2 * bad + 1, &fine));
        let answer = sent.ok().and_then(|()| {
            std::iter::from_fn(|| next_frame(&mut client)).find(|frame| frame.0 == 1)
        });
        assert_eq!(answer.is_some(), is_served, "{bad}");
        assert_eq!(app.seen().len() - before, usize::from(is_served), "{bad}");
    }
}

#[test]
fn an_answer_that_lasts_ends_over_http2_when_its_session_does() {
    for way in WAYS {
        let app = RawApp::start();
        let (gateway, client) = client_before(&app);
        gateway.store.put(record("token-of-bob", "bob"));
        let open = |token: &str| {
            let session = cookie(token);
            let headers = [&[("cookie", session.as_str())], way].concat();
            let mut stream = client.open("GET", "/dashboard", &headers);
            let mut server = app.accept();
            server.read_head();
            server.write("HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n");
            assert_eq!(status(&mut stream), 200);
            server.write_chunk("1\n");
            assert_eq!(stream.piece().expect("more").expect("a part"), "1\n");
            (stream, server)
        };
        let (mut ada, mut told_ada) = open("token-of-ada");
        let (mut bob, mut told_bob) = open("token-of-bob");
        gateway.store.remove("token-of-ada");
        let line = &gateway.running.gateway.line;
        line.ended(&Ended::User("ada".into()), None);
        assert!(ada.rest().is_err(), "{way:?}");
        assert!(told_ada.read_to_end().is_empty());
        told_bob.write_chunk("2\n");
        assert_eq!(bob.piece().expect("more").expect("a part"), "2\n");
    }
}
