//! A GET and its answer, byte by byte: what is written to the app, what becomes of every form of answer, and what happens when either
//! side goes away. The same requests are put to the gateway in a form that goes Pingora's way, and both are compared.

use std::time::Duration;

use crate::support::wire::{RawApp, Wire, header, headers, lines_told};
use crate::support::{App, Gateway, Setup, cookie, record, reply};

const GET: &str = "GET /public/page HTTP/1.1\r\nhost: app.test\r\n";

fn gateway_before(app: &RawApp) -> Gateway {
    let gateway = Setup::in_front_of(app.address).start();
    gateway.store.put(record("token-of-ada", "ada"));
    gateway
}

/// The two ways of one request: `TE` is for the next neighbour alone, so it takes the second.
const WAYS: [&str; 2] = ["", "te: trailers\r\n"];

#[test]
fn what_the_app_is_told_is_the_same_on_both_ways() {
    let app = RawApp::start();
    let gateway = gateway_before(&app);
    let request = format!(
        "GET /dashboard?a=%2F&b HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, http2-settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\nCookie: first=1\r\nCookie: {}\r\nX-Custom: one\r\nx-custom: two\r\n\
         x_auth_user_id: mallory\r\nX-Auth-User-Id: mallory\r\nX-Forwarded-For: 198.51.100.1\r\ntracestate: a=1\r\nx-request-id: not valid\r\n",
        cookie("token-of-ada"),
    );
    let told = WAYS.map(|way| {
        let mut client = Wire::to(gateway.address);
        client.write(format!("{request}{way}\r\n"));
        let mut server = app.accept();
        let head = server.read_head();
        server.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        client.read_head();
        assert_eq!(header(&head, "x-auth-user-id"), Some("ada"), "{head}");
        assert!(!head.contains("mallory"), "{head}");
        lines_told(&head)
    });
    assert_eq!(told[0], told[1]);
    assert_eq!(
        told[0]
            .iter()
            .filter(|line| line.starts_with("cookie:"))
            .count(),
        1
    );
}

/// A form of answer: its name, how it is written after the status line, how long its body is, whether its connection serves again.
pub type Form = (&'static str, String, usize, bool);

pub fn forms() -> [Form; 6] {
    let big = "x".repeat(300_000);
    let chunked = format!("5\r\nhello\r\n{:x}\r\n{big}\r\n0\r\n\r\n", big.len());
    [
        ("a length", "content-length: 5\r\n\r\nhello".into(), 5, true),
        (
            "a long body",
            format!("content-length: {}\r\n\r\n{big}", big.len()),
            big.len(),
            true,
        ),
        ("nothing", "content-length: 0\r\n\r\n".into(), 0, true),
        (
            "chunks",
            format!("transfer-encoding: chunked\r\n\r\n{chunked}"),
            5 + big.len(),
            true,
        ),
        ("until the end", format!("\r\n{big}"), big.len(), false),
        (
            "said to close",
            "connection: close\r\ncontent-length: 2\r\n\r\nok".into(),
            2,
            false,
        ),
    ]
}

/// The status and the body of an answer, after any early hints.
fn read_answer(client: &mut Wire) -> (u16, Vec<u8>) {
    let head = loop {
        let head = client.read_head();
        if !head.starts_with("HTTP/1.1 1") {
            break head;
        }
    };
    let status = head[9..12].parse().expect("a status");
    let body = match header(&head, "content-length") {
        Some(length) => client.read_exactly(length.parse().expect("a length")),
        None => {
            let mut body = Vec::new();
            loop {
                let chunk = client.read_chunk();
                if chunk.is_empty() {
                    break;
                }
                body.extend(chunk);
            }
            assert_eq!(client.read_exactly(2), b"\r\n");
            body
        }
    };
    (status, body)
}

#[test]
fn every_form_of_answer_arrives_whole_and_its_connections_serve_again_where_they_may() {
    for way in WAYS {
        for (what, answer, length, is_kept) in forms() {
            let app = RawApp::start();
            let gateway = gateway_before(&app);
            let mut client = Wire::to(gateway.address);
            client.write(format!("{GET}{way}\r\n"));
            let mut server = app.accept();
            server.read_head();
            server.write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
            // Whoever writes much waits for whoever reads it.
            let writing = std::thread::spawn(move || {
                server.write(format!("HTTP/1.1 200 OK\r\n{answer}"));
                if is_kept {
                    return Some(server);
                }
                server.close();
                None
            });
            let (status, body) = read_answer(&mut client);
            assert_eq!((status, body.len()), (200, length), "{what} {way}");
            let server = writing.join().expect("the app has written");

            client.write(format!("{GET}{way}\r\n"));
            let mut server = server.unwrap_or_else(|| app.accept());
            server.read_head();
            server.write("HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nagain");
            assert_eq!(
                read_answer(&mut client),
                (404, b"again".to_vec()),
                "{what} {way}"
            );
            let connections = if is_kept { 1 } else { 2 };
            assert_eq!(app.connections(), connections, "{what} {way}");
        }
    }
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    for way in WAYS {
        let app = RawApp::start();
        let gateway = gateway_before(&app);
        let mut client = Wire::to(gateway.address);
        let mut server = None;
        for status in ["204 No Content", "304 Not Modified"] {
            client.write(format!("{GET}{way}\r\n"));
            let server = server.get_or_insert_with(|| app.accept());
            server.read_head();
            server.write(format!("HTTP/1.1 {status}\r\netag: \"a\"\r\n\r\n"));
            let head = client.read_head();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
            assert_eq!(header(&head, "etag"), Some("\"a\""));
            assert_eq!(header(&head, "transfer-encoding"), None, "{head}");
        }
        assert_eq!(app.connections(), 1);
    }
}

#[test]
fn a_part_of_a_stream_arrives_before_the_next_is_written() {
    for way in WAYS {
        let app = RawApp::start();
        let gateway = gateway_before(&app);
        let mut client = Wire::to(gateway.address);
        client.write(format!("{GET}{way}\r\n"));
        let mut server = app.accept();
        server.read_head();
        server.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        client.read_head();
        for part in ["one", "two", "three"] {
            server.write_chunk(part);
            assert_eq!(client.read_chunks(part.len()), part.as_bytes());
        }
        server.write_chunk("");
        assert!(client.read_chunk().is_empty());
    }
}

#[test]
fn a_client_that_leaves_ends_the_connection_to_the_app() {
    for way in WAYS {
        for begun in [false, true] {
            let app = RawApp::start();
            let gateway = gateway_before(&app);
            let mut client = Wire::to(gateway.address);
            client.write(format!("{GET}{way}\r\n"));
            let mut server = app.accept();
            server.read_head();
            if begun {
                server.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                client.read_head();
            }
            client.close();
            assert!(server.read_to_end().is_empty());
        }
    }
}

#[test]
fn an_app_that_breaks_off_is_never_a_whole_answer() {
    for way in WAYS {
        for (answer, status) in [
            ("", 502),
            ("HTTP/1.1 200 OK\r\ncontent-le", 502),
            (
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
                502,
            ),
            ("no answer at all\r\n\r\n", 502),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncontent-length: 11\r\n\r\nhello",
                502,
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", 0),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nhello",
                0,
            ),
        ] {
            let app = RawApp::start();
            let gateway = gateway_before(&app);
            let mut client = Wire::to(gateway.address);
            client.write(format!("{GET}{way}\r\n"));
            let mut server = app.accept();
            server.read_head();
            server.write(answer);
            server.close();
            let told = String::from_utf8(client.read_to_end()).expect("text");
            if status > 0 {
                assert!(
                    told.starts_with(&format!("HTTP/1.1 {status}")),
                    "{answer:?} {way}: {told}"
                );
            } else {
                // Whatever came of it, it is not the end of ten bytes, nor of the chunks.
                assert!(!told.ends_with("0\r\n\r\n"), "{way}: {told}");
                let body = told.split("\r\n\r\n").nth(1).unwrap_or_default();
                assert!(body.len() < 10 + "ff\r\n".len(), "{way}: {told}");
            }
        }
    }
}

#[test]
fn a_connection_that_the_app_closes_while_it_waits_is_closed_here_too() {
    let app = RawApp::start();
    let gateway = gateway_before(&app);
    let mut client = Wire::to(gateway.address);
    let ask = |client: &mut Wire| client.write(format!("{GET}\r\n"));
    ask(&mut client);
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    client.read_head();
    server.end_writing();
    // Nobody asks for anything meanwhile.
    assert!(server.read_to_end().is_empty());
    ask(&mut client);
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 200"));
}

#[test]
fn what_an_app_says_unasked_on_a_waiting_connection_is_nobodys_answer() {
    let app = RawApp::start();
    let gateway = gateway_before(&app);
    let mut client = Wire::to(gateway.address);
    client.write(format!("{GET}\r\n"));
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    client.read_head();
    assert!(server.try_write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"));
    // It is taken off before anybody uses it.
    assert!(server.read_to_end().is_empty());
    client.write(format!("{GET}\r\n"));
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine");
    assert_eq!(read_answer(&mut client), (200, b"mine".to_vec()));
}

#[test]
fn many_at_once_each_get_their_own_answer() {
    let app = App::scripted(|request, stream| {
        let target = request.line.split(' ').nth(1).unwrap_or_default();
        reply(stream, 200, &[], target.as_bytes());
    });
    let gateway = Setup::in_front_of(app.address).start();
    std::thread::scope(|scope| {
        for worker in 0..16 {
            let address = gateway.address;
            scope.spawn(move || {
                let mut client = Wire::to(address);
                for turn in 0..40 {
                    let target = format!("/public/{worker}/{turn}");
                    client.write(format!("GET {target} HTTP/1.1\r\nhost: app.test\r\n\r\n"));
                    assert_eq!(read_answer(&mut client), (200, target.into_bytes()));
                }
            });
        }
    });
}

#[test]
fn an_app_that_is_silent_is_answered_for_in_time() {
    for way in WAYS {
        let app = RawApp::start();
        let mut setup = Setup::in_front_of(app.address);
        for upstream in &mut setup.server.upstreams {
            upstream.first_byte_timeout = Duration::from_millis(50);
        }
        let gateway = setup.start();
        let mut client = Wire::to(gateway.address);
        client.write(format!("{GET}{way}\r\n"));
        let mut server = app.accept();
        server.read_head();
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 504"), "{way}: {head}");
        assert!(server.read_to_end().is_empty());
        assert!(headers(&head, "x-request-id").len() == 1, "{head}");
    }
}

/// Reads the head of an answer, and that nothing but it came before the next.
fn status_of(head: &str) -> u16 {
    head[9..12].parse().expect("a status")
}

#[test]
fn one_connection_serves_requests_of_every_kind_in_turn() {
    let app = App::scripted(|request, stream| {
        let target = request.line.split(' ').nth(1).unwrap_or_default();
        reply(stream, 200, &[], target.as_bytes());
    });
    let gateway = Setup::in_front_of(app.address).start();
    let mut client = Wire::to(gateway.address);
    for turn in 0..3 {
        // Plain, in two pieces, with something for the next neighbour, refused, with a body, and not for us.
        client.write(format!(
            "GET /public/{turn}/a HTTP/1.1\r\nhost: app.test\r\n\r\n"
        ));
        assert_eq!(
            read_answer(&mut client),
            (200, format!("/public/{turn}/a").into_bytes())
        );
        client.write(format!("GET /public/{turn}/b HTTP/1.1\r\nho"));
        std::thread::yield_now();
        client.write("st: app.test\r\n\r\n");
        assert_eq!(
            read_answer(&mut client),
            (200, format!("/public/{turn}/b").into_bytes())
        );
        client.write(format!(
            "GET /public/{turn}/c HTTP/1.1\r\nhost: app.test\r\nte: trailers\r\n\r\n"
        ));
        assert_eq!(
            read_answer(&mut client),
            (200, format!("/public/{turn}/c").into_bytes())
        );
        client.write("GET /dashboard HTTP/1.1\r\nhost: app.test\r\n\r\n");
        assert_eq!(read_answer(&mut client).0, 401);
        client.write(format!(
            "POST /public/{turn}/d HTTP/1.1\r\nhost: app.test\r\ncontent-length: 2\r\n\r\nab"
        ));
        assert_eq!(
            read_answer(&mut client),
            (200, format!("/public/{turn}/d").into_bytes())
        );
    }
}

#[test]
fn an_answer_to_head_has_no_body_whatever_length_it_says() {
    for way in WAYS {
        let app = RawApp::start();
        let gateway = gateway_before(&app);
        let mut client = Wire::to(gateway.address);
        let mut server = None;
        for length in ["content-length: 5", "transfer-encoding: chunked"] {
            client.write(format!(
                "HEAD /public/page HTTP/1.1\r\nhost: app.test\r\n{way}\r\n"
            ));
            let server = server.get_or_insert_with(|| app.accept());
            assert!(
                server
                    .read_head()
                    .starts_with("HEAD /public/page HTTP/1.1\r\n")
            );
            server.write(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n"));
            assert_eq!(status_of(&client.read_head()), 200);
        }
        // Ours has none either.
        client.write(format!(
            "HEAD /dashboard HTTP/1.1\r\nhost: app.test\r\n{way}\r\n"
        ));
        assert_eq!(status_of(&client.read_head()), 401);
        client.write(format!(
            "HEAD /public/page HTTP/1.1\r\nhost: app.test\r\n{way}\r\n"
        ));
        let server = server.as_mut().expect("connected");
        server.read_head();
        server.write("HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\n");
        assert_eq!(status_of(&client.read_head()), 404, "{way}");
    }
}

#[test]
fn a_client_that_wants_no_more_is_let_go_after_its_answer() {
    for way in WAYS {
        let app = RawApp::start();
        let gateway = gateway_before(&app);
        let mut client = Wire::to(gateway.address);
        client.write(format!("{GET}connection: close\r\n{way}\r\n"));
        let mut server = app.accept();
        server.read_head();
        server.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        let head = client.read_head();
        assert_eq!(header(&head, "connection"), Some("close"), "{head}");
        assert_eq!(client.read_to_end(), b"ok");
    }
}

#[test]
fn trailers_of_an_answer_stay_with_us() {
    for way in WAYS {
        let app = RawApp::start();
        let gateway = gateway_before(&app);
        let mut client = Wire::to(gateway.address);
        client.write(format!("{GET}{way}\r\n"));
        let mut server = app.accept();
        server.read_head();
        server.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-auth-user-id: mallory\r\n\r\n");
        assert_eq!(read_answer(&mut client), (200, b"hello".to_vec()), "{way}");
        // The connection to the app is at its next answer.
        client.write(format!("{GET}{way}\r\n"));
        server.read_head();
        server.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext");
        assert_eq!(read_answer(&mut client), (200, b"next".to_vec()), "{way}");
    }
}

#[test]
fn a_request_sent_before_its_turn_is_never_part_of_another() {
    let app = RawApp::start();
    let gateway = gateway_before(&app);
    let mut client = Wire::to(gateway.address);
    client.write(format!(
        "{GET}\r\nGET /dashboard HTTP/1.1\r\nhost: app.test\r\n\r\n"
    ));
    let mut server = app.accept();
    let head = server.read_head();
    assert!(head.starts_with("GET /public/page "), "{head}");
    server.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert_eq!(read_answer(&mut client), (200, b"ok".to_vec()));
    // Nothing of the second goes to the app without having been judged.
    let rest = String::from_utf8(client.read_to_end()).expect("text");
    assert!(
        rest.is_empty() || rest.starts_with("HTTP/1.1 401"),
        "{rest}"
    );
}

#[test]
fn chunks_that_are_none_are_a_bad_gateway_when_nothing_was_said_yet() {
    let app = RawApp::start();
    let gateway = gateway_before(&app);
    let mut client = Wire::to(gateway.address);
    client.write(format!("{GET}\r\n"));
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
    let head = client.read_head();
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
}

#[test]
fn a_client_that_breaks_off_is_not_asked_for_a_second_time_nor_held_against_the_app() {
    let app = RawApp::start();
    let gateway = gateway_before(&app);
    let mut client = Wire::to(gateway.address);
    // Over a connection that waits: only there is anything asked again.
    client.write(format!("{GET}\r\n"));
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n");
    client.read_head();
    server.write("unread");
    client.write(format!("{GET}\r\n"));
    server.read_head();
    // What is unread makes a reset of it.
    drop(client);
    assert!(server.read_to_end().is_empty());
    // Whoever comes next is the first that is heard of again.
    let mut client = Wire::to(gateway.address);
    client.write("GET /public/next HTTP/1.1\r\nhost: app.test\r\n\r\n");
    let mut server = app.accept();
    let head = server.read_head();
    assert!(head.starts_with("GET /public/next "), "{head}");
    server.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 200"));
    let counted = gateway.running.gateway.metrics.render();
    assert!(
        counted.contains("\nvestibule_upstream_failures_total 0\n"),
        "{counted}"
    );
}

#[test]
fn an_answer_until_the_end_that_says_so_as_it_was_said_once_arrives_whole() {
    let app = RawApp::start();
    let gateway = gateway_before(&app);
    let mut client = Wire::to(gateway.address);
    client.write(format!("{GET}\r\n"));
    let mut server = app.accept();
    server.read_head();
    server.write("HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nhello");
    server.close();
    assert_eq!(read_answer(&mut client), (200, b"hello".to_vec()));
}
