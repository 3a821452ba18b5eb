//! Requests that are none, and addresses that lead elsewhere: hundreds of each, fired at the gateway in front of Node's own parser.
//!
//! Each request is refused, or reaches the app as exactly one request that both read the same; whatever follows it on the connection is
//! answered as a request of its own, or not at all. `corpora/README.md` says how the data is made.

mod headers;
mod http2;
mod node;
mod paths;
mod reading;
mod table;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use self::node::{Node, Read, Record};
use self::reading::Reading;
use crate::support::{Setup, connect, cookie, record};

const REQUESTS: &str = include_str!("corpora/requests.jsonl");
const REDIRECTS: &str = include_str!("corpora/redirects.jsonl");

/// Shown of all that failed: the first few say what is wrong.
const SHOWN: usize = 25;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpora")
}

#[test]
fn the_corpora_are_what_their_generator_makes() {
    let made = Command::new("node")
        .arg(folder().join("generate.mjs"))
        .arg("--check")
        .output()
        .expect("node is installed");
    assert!(
        made.status.success(),
        "run `node tests/corpora/generate.mjs`: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}

// ------------------------------------------------------------------------------------------------------------- requests

/// One request of the corpus; texts hold one letter for each byte.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    bytes: String,
    must: Option<Must>,
    /// A server waits for more.
    #[serde(default)]
    incomplete: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Must {
    Refuse,
    Pass,
}

/// How what follows a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Following {
    /// Once the answer is there.
    Afterwards,
    /// Right behind it.
    Pipelined,
}

/// A client that counts the answers on its connection.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Status(u16),
    /// The connection ended.
    Nothing,
    /// Nobody answered and nobody hung up.
    Waiting,
}

impl Client {
    fn to(address: SocketAddr) -> Self {
        Self {
            stream: connect(address),
            buffer: Vec::new(),
        }
    }

    /// Sends; the other side may have hung up already.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn more(&mut self) -> Option<Came> {
        let mut piece = [0; 8192];
        match self.stream.read(&mut piece) {
            Ok(0) => Some(Came::Nothing),
            Ok(read) => {
                self.buffer.extend_from_slice(&piece[..read]);
                None
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                Some(Came::Waiting)
            }
            Err(_) => Some(Came::Nothing),
        }
    }

    /// The next final answer. Those of the gateway and of the app behind it say their length.
    fn answer(&mut self, to_head: bool) -> Came {
        loop {
            let end = loop {
                if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                    break at + 4;
                }
                if let Some(ended) = self.more() {
                    return ended;
                }
            };
            let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
            self.buffer.drain(..end);
            let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
            let status: u16 = status.unwrap_or_else(|| panic!("no answer: {head}"));
            if status < 200 {
                continue;
            }
            let length = head
                .split("\r\n")
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |length| length.trim().parse().expect("a length"));
            // Only Node itself answers in chunks here, and there is nothing in them.
            let length = match head.contains("transfer-encoding: chunked") {
                true => b"0\r\n\r\n".len(),
                false => length,
            };
            while !to_head && self.buffer.len() < length {
                if let Some(ended) = self.more() {
                    return ended;
                }
            }
            self.buffer.drain(..if to_head { 0 } else { length });
            return Came::Status(status);
        }
    }
}

fn bytes_of(text: &str) -> Vec<u8> {
    text.chars()
        .map(|letter| u8::try_from(u32::from(letter)).expect("one byte a letter"))
        .collect()
}

/// What the gateway and HTTP itself put into a request or take out of it on the way.
fn is_of_the_way(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "content-length"
            | "upgrade"
            | "http2-settings"
            | "host"
            | "cookie"
            | "expect"
            | "x-request-id"
            | "traceparent"
            | "tracestate"
    ) || headers::is_owned(name)
}

/// What both sides read, compared; the difference when there is one.
fn difference(sent: &Reading, read: &Read) -> Option<String> {
    if (&sent.method, &sent.target) != (&read.method, &read.target) {
        return Some(format!("read as {} {}", read.method, read.target));
    }
    let host = |headers: &[(String, String)]| -> Vec<String> {
        let of = headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("host"));
        of.map(|(_, value)| value.clone()).collect()
    };
    if host(&sent.headers) != host(&read.headers) {
        return Some(format!("the host is {:?}", host(&read.headers)));
    }
    if read.whole && sent.body != read.body {
        return Some(format!("the body is {:?}", read.body));
    }
    let grouped = |headers: &[(String, String)]| {
        let mut all = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            if !is_of_the_way(&name) {
                all.entry(name).or_default().push(value.clone());
            }
        }
        all
    };
    let (sent, read) = (grouped(&sent.headers), grouped(&read.headers));
    (sent != read).then(|| format!("headers {sent:?} arrive as {read:?}"))
}

/// Fires one case and says what is wrong with what happened.
fn wrong(
    case: &Case,
    number: usize,
    following: Following,
    address: SocketAddr,
    node: &Node,
) -> Option<String> {
    let after = format!("/public/after-{number}-{following:?}");
    let second = format!("GET {after} HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let mut client = Client::to(address);
    let mut bytes = bytes_of(&case.bytes);
    if following == Following::Pipelined {
        bytes.extend_from_slice(second.as_bytes());
    }
    client.send(&bytes);
    if case.incomplete {
        let _ = client.stream.shutdown(Shutdown::Write);
    }
    let first = client.answer(case.bytes.trim_start().starts_with("HEAD "));
    let next = match (&first, following) {
        (Came::Status(_), Following::Afterwards) => {
            client.send(second.as_bytes());
            client.answer(false)
        }
        (Came::Status(_), Following::Pipelined) => client.answer(false),
        _ => Came::Nothing,
    };
    if first == Came::Waiting || next == Came::Waiting {
        return Some(format!("nobody answers: {first:?}, {next:?}"));
    }
    drop(client);

    let records = node.take();
    let reads: Vec<&Read> = records.iter().filter_map(Record::read).collect();
    let (followed, reached): (Vec<&Read>, Vec<&Read>) =
        reads.into_iter().partition(|read| read.target == after);
    let refused: Vec<&str> = records
        .iter()
        .filter_map(|record| match record {
            Record::Refused { code } => Some(code.as_deref().unwrap_or("unknown")),
            _ => None,
        })
        .collect();
    if followed.len() > 1 || reached.len() > 1 {
        return Some(format!("reached the app several times: {records:?}"));
    }
    if next == Came::Status(200) && followed.is_empty() {
        return Some("the second request was answered and never made".into());
    }
    if let [read] = followed[..]
        && (read.method != "GET" || !read.body.is_empty() || headers::leaks(read).is_some())
    {
        return Some(format!("the second request arrived as {read:?}"));
    }
    let Some(read) = reached.first() else {
        // Refused, by one of the two.
        return match (case.must, &first) {
            (Some(Must::Pass), _) => Some(format!("does not pass: {first:?}")),
            (_, Came::Status(400..=599) | Came::Nothing) => None,
            // Its upgrade was turned down, or it was for an endpoint of the gateway's own.
            (_, other) => Some(format!("{other:?}, and the app saw nothing")),
        };
    };
    if case.must == Some(Must::Refuse) {
        return Some(format!("reached the app: {read:?}"));
    }
    if !refused.is_empty() && case.must == Some(Must::Pass) {
        return Some(format!(
            "what reached the app is no request to it: {refused:?}"
        ));
    }
    if let Some(leak) = headers::leaks(read) {
        return Some(leak);
    }
    let pages = node.pages(&[&read.target]);
    if matches!(&pages[0], Some((path, decoded)) if !is_open(path) || !is_open(decoded)) {
        return Some(format!("a stranger reached {}", read.target));
    }
    if !read.whole {
        // Its body went wrong on the way: whoever sent it is told, and the app was told that there is no more to come.
        let told = matches!(first, Came::Status(400..=599) | Came::Nothing);
        return (!told || case.must == Some(Must::Pass))
            .then(|| format!("{first:?}, and the app waits: {read:?}"));
    }
    let pipelined = format!("{}{}", case.bytes, second);
    let sent = match following {
        Following::Afterwards => &case.bytes,
        Following::Pipelined => &pipelined,
    };
    match reading::of(sent) {
        None => Some(format!("what is no request reached the app as {read:?}")),
        Some(sent) => difference(&sent, read),
    }
}

/// What strangers may see.
fn is_open(path: &str) -> bool {
    path == "/" || path == "/sign-in" || path.starts_with("/public/")
}

fn cases() -> Vec<Case> {
    REQUESTS
        .lines()
        .map(|line| serde_json::from_str(line).expect("a case"))
        .collect()
}

/// The same without a gateway: else nothing would say that the corpus can tell.
#[test]
fn the_corpus_finds_what_is_wrong_where_nobody_stands_in_front() {
    let node = Node::start();
    let (mut run, mut failed) = (0, 0);
    for (number, case) in cases().iter().enumerate() {
        // Node waits for the rest of what it takes for the beginning of a request; only whole ones are of use here.
        if case.incomplete
            || !case.name.starts_with("target path: ") && !case.name.starts_with("host: ")
        {
            continue;
        }
        run += 1;
        let what = wrong(case, number, Following::Afterwards, node.app, &node);
        failed += usize::from(what.is_some());
    }
    println!("{failed} of {run} are told");
    assert!(run > 50 && failed * 2 > run);
}

#[test]
fn what_two_parsers_read_differently_is_told() {
    let read = |line: &str, body: &str| -> Read {
        let (method, target) = line.split_once(' ').expect("two words");
        serde_json::from_value(serde_json::json!({
            "method": method, "target": target, "headers": [["Host", "app.test"], ["x-a", "b"]],
            "joined": {}, "body": body, "whole": true
        }))
        .expect("a request")
    };
    let sent = |bytes: &str| reading::of(bytes).expect("a request");
    let post = "POST /x HTTP/1.1\r\nHost: app.test\r\nX-A: b\r\n";
    let one = sent(&format!("{post}Content-Length: 3\r\n\r\nabcGET /"));
    let other = sent(&format!(
        "{post}Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\n\r\nGET /"
    ));
    for sent in [&one, &other] {
        assert_eq!(difference(sent, &read("POST /x", "abc")), None);
        for (line, body) in [("POST /x", "ab"), ("POST /y", "abc"), ("GET /x", "abc")] {
            assert!(
                difference(sent, &read(line, body)).is_some(),
                "{line} {body}"
            );
        }
    }
    assert!(
        difference(
            &sent("POST /x HTTP/1.1\r\nHost: b\r\nX-A: b\r\n\r\n"),
            &read("POST /x", "")
        )
        .is_some()
    );
    assert!(
        difference(
            &sent("POST /x HTTP/1.1\r\nHost: app.test\r\n\r\n"),
            &read("POST /x", "")
        )
        .is_some()
    );
    for none in [
        "GET /x HTTP/1.2\r\n\r\n",
        "GET /x HTTP/1.1\r\nA : b\r\n\r\n",
        "GET /x HTTP/1.1\r\n A: b\r\n\r\n",
        "GET /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "GET /x HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
        "GET /x HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a",
    ] {
        assert!(reading::of(none).is_none(), "{none:?}");
    }
}

#[test]
fn every_odd_request_is_refused_or_reaches_the_app_as_the_one_request_that_both_read() {
    let node = Node::start();
    let gateway = Setup::in_front_of(node.app).start();
    let cases = cases();
    let (mut run, mut failed) = (0, Vec::new());
    for (number, case) in cases.iter().enumerate() {
        for following in [Following::Afterwards, Following::Pipelined] {
            run += 1;
            if let Some(what) = wrong(case, number, following, gateway.address, &node) {
                failed.push(format!("{} ({following:?}): {what}", case.name));
            }
        }
    }
    // What came too late to be seen with its own case.
    drop(gateway);
    let late: Vec<Record> = node.take();
    let stray = |record: &&Record| {
        record
            .read()
            .is_none_or(|read| !read.target.starts_with("/public/after-"))
    };
    failed.extend(
        late.iter()
            .filter(stray)
            .map(|late| format!("afterwards: {late:?}")),
    );
    println!(
        "{} requests found, {run} run, {} failed",
        cases.len(),
        failed.len()
    );
    assert!(cases.len() > 1000, "the corpus is not whole");
    assert!(
        failed.is_empty(),
        "{} of {run} failed:\n{}",
        failed.len(),
        failed[..failed.len().min(SHOWN)].join("\n")
    );
}

// ------------------------------------------------------------------------------------------------------------ redirects

/// A browser's base: the page it asked for.
const SITE: &str = "http://app.test";

/// Every address in an answer a browser may go to: as it stands, and where the sign-in page would send people afterwards (as it is read
/// from the query once, and by somebody who decodes it once more).
fn addresses(answer: &crate::support::Answer) -> Vec<String> {
    let mut all = Vec::new();
    let location = answer.all("location").into_iter().map(str::to_owned);
    let action = answer.all("x-action-redirect").into_iter();
    let action = action.map(|value| value.split(';').next().unwrap_or_default().to_owned());
    for location in location.chain(action) {
        if let Some((_, query)) = location.split_once('?') {
            for (_, back) in url::form_urlencoded::parse(query.as_bytes()) {
                if let Some(twice) = vestibule::percent::decode(back.as_bytes()) {
                    all.push(String::from_utf8_lossy(&twice).into_owned());
                }
                all.push(back.into_owned());
            }
        }
        all.push(location);
    }
    all
}

#[test]
fn no_address_of_the_corpus_leads_off_the_site() {
    let node = Node::start();
    let gateway = Setup::in_front_of(node.app).start();
    gateway.store.put(record("token-of-ada", "ada"));
    let mut fresh = record("token-of-root", "root");
    fresh.role = Some("admin".into());
    gateway.store.put(fresh);
    let addresses_found: Vec<String> = REDIRECTS
        .lines()
        .map(|line| serde_json::from_str(line).expect("an address"))
        .collect();
    let page = [("accept", "text/html"), ("sec-fetch-dest", "document")];
    let mut led = Vec::new();
    let (mut run, mut redirected) = (0, 0);
    let mut ask = |method: &str, target: &str, headers: &[(&str, &str)], payload: &str| {
        run += 1;
        let answer = gateway.send(method, target, headers, b"");
        assert_ne!(answer.status, 0, "{target:?}");
        // The sign-in page's own redirect of whoever is signed in is remembered for a minute.
        let cookies = answer.all("set-cookie");
        let ours = |cookie: &&str| cookie.starts_with("vestibule-rounds=");
        assert!(cookies.iter().all(ours), "{target:?}: {answer:?}");
        assert!(answer.all("location").len() <= 1, "{target:?}: {answer:?}");
        let found = addresses(&answer);
        redirected += usize::from(!found.is_empty());
        led.extend(
            found
                .into_iter()
                .map(|address| (payload.to_owned(), target.to_owned(), address)),
        );
    };
    let session = cookie("token-of-ada");
    for payload in &addresses_found {
        let encoded = vestibule::percent::encode_component(payload);
        // As it could stand in a request line, and with what could not encoded.
        let written: String = payload
            .chars()
            .map(|letter| match letter {
                '!'..='~' if letter != '#' => letter.to_string(),
                letter => vestibule::percent::encode_component(&letter.to_string()),
            })
            .collect();
        let path = match written.strip_prefix('/') {
            Some(_) => written.clone(),
            None => format!("/{written}"),
        };
        ask("GET", &path, &page, payload);
        ask("GET", &format!("/dashboard{path}"), &page, payload);
        for name in ["callbackURL", "redirectTo", "next"] {
            ask(
                "GET",
                &format!("/dashboard?{name}={written}"),
                &page,
                payload,
            );
            ask(
                "GET",
                &format!("/dashboard?{name}={encoded}"),
                &page,
                payload,
            );
        }
        let mut signed_in = page.to_vec();
        signed_in.push(("cookie", &session));
        ask(
            "GET",
            &format!("/sign-in?callbackURL={written}"),
            &signed_in,
            payload,
        );
        ask(
            "GET",
            &format!("/sign-in?callbackURL={encoded}"),
            &signed_in,
            payload,
        );
        ask("POST", &path, &page, payload);
        ask("POST", &path, &[("next-action", "a")], payload);
        ask(
            "POST",
            &format!("/dashboard?callbackURL={encoded}"),
            &[("next-action", "a")],
            payload,
        );
        let mut named = page.to_vec();
        for header in [
            "referer",
            "origin",
            "x-forwarded-host",
            "x-forwarded-prefix",
            "x-original-url",
        ] {
            named.push((header, &encoded));
        }
        ask("GET", "/dashboard", &named, payload);
    }
    println!(
        "{} addresses found, {run} requests run, {redirected} redirected, {} places to look at",
        addresses_found.len(),
        led.len()
    );
    let questions: Vec<(&str, &str)> = led
        .iter()
        .map(|(_, _, address)| (SITE, address.as_str()))
        .collect();
    let by_node = node.origins(&questions);
    let base = url::Url::parse(SITE).expect("a URL");
    let mut off = Vec::new();
    for ((payload, target, address), by_node) in led.iter().zip(by_node) {
        let by_crate = base
            .join(address)
            .map(|url| url.origin().ascii_serialization());
        let stays = by_node.as_deref() == Some(SITE) && by_crate.as_deref() == Ok(SITE);
        let path = address.split('?').next().unwrap_or_default();
        if !stays || path.contains(['\r', '\n', '\t', '\\']) {
            off.push(format!(
                "{payload:?} by {target:?}: {address:?} is {by_node:?} and {by_crate:?}"
            ));
        }
    }
    assert!(addresses_found.len() > 500 && redirected > addresses_found.len());
    assert!(
        off.is_empty(),
        "{} lead away:\n{}",
        off.len(),
        off[..off.len().min(SHOWN)].join("\n")
    );
}

#[test]
fn an_address_that_leads_away_is_told_from_one_that_stays() {
    let node = Node::start();
    let away = [
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "https:evil.example",
        "javascript:alert(1)",
    ];
    let questions: Vec<(&str, &str)> = away.iter().map(|address| (SITE, *address)).collect();
    // To a page that came by http, `https:x` is another scheme's; all of them leave.
    assert!(
        node.origins(&questions)
            .iter()
            .all(|origin| origin.as_deref() != Some(SITE))
    );
    let stays = ["/a", "a", "?x=//evil.example", "/@evil.example", "http:a"];
    let questions: Vec<(&str, &str)> = stays.iter().map(|address| (SITE, *address)).collect();
    assert!(
        node.origins(&questions)
            .iter()
            .all(|origin| origin.as_deref() == Some(SITE))
    );
}
