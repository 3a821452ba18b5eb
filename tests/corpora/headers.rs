//! Header names: whatever an app server could read as one of ours never arrives, and everything else does, as it was sent.

use std::collections::BTreeMap;
use std::net::TcpStream;

use super::node::{Node, Read};
use crate::differential::dice::Dice;
use crate::support::tls::{Certificate, H2};
use crate::support::{Gateway, Setup, connect, cookie, exchange_on, record};

/// What the gateway tells an app about a caller, whatever the preset it is told by in these tests.
const IDENTITY: &[&str] = &[
    "x-auth-user-id",
    "x-auth-user-email",
    "x-auth-user-name",
    "x-auth-role",
    "x-auth-session-id",
    "x-auth-org-id",
    "x-auth-org-role",
    "x-auth-team-id",
    "x-auth-impersonated-by",
    "x-auth-method",
    "x-auth-assertion",
];

/// What a proxy says about a client, and what Next.js says to itself.
const OTHERS: &[&str] = &[
    "forwarded",
    "x-forwarded",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-real-ip",
    "x-client-ip",
    "next-resume",
    "x-matched-path",
    "x-next-resume-state-length",
    "x-now-route-matches",
    "x-prerender-revalidate",
    "x-nextjs-data",
];

/// Families: everything that begins so.
const FAMILIES: &[&str] = &["x-forwarded-", "x-middleware-", "x-invoke-"];

/// Names we write under one spelling; under every other they would be somebody else's word.
const WRITTEN: &[&str] = &["x-request-id"];

/// What a token may hold besides letters and digits (RFC 9110, 5.6.2).
const SEPARATORS: &[u8] = b"!#$%&'*+-.^_`|~";

/// Names with a meaning of their own between two hops, which the corpus of requests is about.
const HOPS: &[&str] = &[
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// A name as the coarsest of app servers reads it: CGI and WSGI put `_` for `-`, PHP also for `.`, some for everything but letters
/// and digits; none of them tells capitals apart.
fn folded(name: &str) -> String {
    name.chars()
        .map(|letter| match letter.is_ascii_alphanumeric() {
            true => letter.to_ascii_uppercase(),
            false => '_',
        })
        .collect()
}

/// Whether some app server could read this name as one that only we may set.
pub fn is_owned(name: &str) -> bool {
    let name = folded(name);
    let mut owned = IDENTITY.iter().chain(OTHERS);
    owned.any(|owned| folded(owned) == name)
        || FAMILIES
            .iter()
            .any(|family| name.starts_with(&folded(family)))
}

/// What an app behind us could take for our word and is not, when the caller is a stranger.
pub fn leaks(read: &Read) -> Option<String> {
    leaks_of(read, None)
}

/// The same, when the caller may be somebody.
fn leaks_of(read: &Read, user: Option<&str>) -> Option<String> {
    if let Some((name, _)) = read.trailers.iter().find(|(name, _)| is_owned(name)) {
        return Some(format!("{name} reached {} behind the body", read.target));
    }
    let keys = read.joined.keys();
    let names = read.headers.iter().map(|(name, _)| name).chain(keys);
    for name in names {
        let plain = name.to_ascii_lowercase();
        let written = WRITTEN.iter().any(|ours| folded(ours) == folded(name));
        if !is_owned(name) && !written {
            continue;
        }
        let values = read.all(name);
        let ours = match (plain.as_str(), user) {
            ("x-forwarded-for", _) => values == ["127.0.0.1"],
            ("x-forwarded-proto", _) => values == ["http"] || values == ["https"],
            ("x-forwarded-host", _) => values == read.all("host"),
            ("x-request-id", _) => values.len() == 1,
            ("x-auth-user-id", Some(user)) => values == [user],
            (name, Some(user)) if IDENTITY.contains(&name) => {
                let forged = |value: &&str| value.contains("forged");
                values.len() == 1 && !values.iter().any(forged) && !user.is_empty()
            }
            _ => false,
        };
        if !ours {
            return Some(format!("{name}: {values:?} reached {}", read.target));
        }
    }
    None
}

#[test]
fn a_leak_is_told_from_what_is_ours() {
    let read = |headers: &[(&str, &str)]| {
        let headers = serde_json::json!(headers);
        let joined = serde_json::json!({});
        serde_json::from_value::<Read>(serde_json::json!({
            "method": "GET", "target": "/", "headers": headers, "joined": joined, "body": "", "whole": true
        }))
        .expect("a request")
    };
    let ours = [("host", "app.test"), ("X-Forwarded-Host", "app.test")];
    assert_eq!(leaks(&read(&ours)), None);
    for leak in [
        ("x_auth_user_id", "1"),
        ("X-Auth-User-Id", "1"),
        ("x.forwarded.for", "127.0.0.1"),
        ("x-forwarded-host", "evil.example"),
        ("x_request_id", "1"),
        ("x-middleware~subrequest", "1"),
    ] {
        assert!(leaks(&read(&[leak])).is_some(), "{leak:?}");
    }
    assert_eq!(
        leaks_of(&read(&[("x-auth-user-id", "ada")]), Some("ada")),
        None
    );
    assert!(leaks_of(&read(&[("x-auth-user-id", "eve")]), Some("ada")).is_some());
}

/// A number from the environment, so that a run can be made longer or repeated.
pub fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}"))
    })
}

/// A name like one of ours: with other separators, in other capitals, a letter more or less, or the very same.
fn spelled(dice: &mut Dice, owned: &str) -> String {
    let mut name = String::new();
    for letter in owned.chars() {
        match letter {
            '-' if dice.once_in(2) => name.push(char::from(*dice.pick(SEPARATORS))),
            letter if dice.once_in(4) => name.push(letter.to_ascii_uppercase()),
            letter => name.push(letter),
        }
    }
    match dice.below(10) {
        0 => name.push(char::from(*dice.pick(SEPARATORS))),
        1 => name.insert(0, char::from(*dice.pick(SEPARATORS))),
        2 => name.push(char::from(*dice.pick(b"abcsz0129"))),
        3 => {
            let at = dice.below(name.len());
            name.remove(at);
        }
        4 => {
            let at = dice.below(name.len());
            name.insert(at, char::from(*dice.pick(SEPARATORS)));
        }
        _ => {}
    }
    name
}

fn name(dice: &mut Dice) -> String {
    let word = |dice: &mut Dice| -> String {
        (0..=dice.below(9))
            .map(|_| char::from(*dice.pick(b"abcdefghijklmnopqrstuvwxyz0123456789ABCXYZ-_.")))
            .collect()
    };
    match dice.below(8) {
        0..=3 => {
            let owned = *dice.pick(IDENTITY);
            spelled(dice, owned)
        }
        4 => {
            let owned = *dice.pick(OTHERS);
            spelled(dice, owned)
        }
        5 => {
            let of_a_family = format!("{}{}", dice.pick(FAMILIES), word(dice));
            spelled(dice, &of_a_family)
        }
        6 => {
            let written = *dice.pick(WRITTEN);
            spelled(dice, written)
        }
        _ => word(dice),
    }
}

/// What of these must arrive, by name.
fn expected(sent: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in sent {
        let alias = WRITTEN.iter().any(|ours| folded(ours) == folded(name));
        if !is_owned(name) && !alias {
            all.entry(name.to_ascii_lowercase())
                .or_default()
                .push(value.clone());
        }
    }
    all
}

/// Where a request goes, with the session it needs.
const PATHS: &[(&str, bool)] = &[
    ("/public/x", false),
    ("/", false),
    ("/optional/x", false),
    ("/optional/x", true),
    ("/sign-in", false),
    ("/dashboard", true),
    ("/strict/x", true),
    ("/api/auth/get-session", false),
    ("/_next/static/x.js", false),
];

struct Line {
    gateway: Gateway,
    stream: TcpStream,
}

impl Line {
    fn to(node: &Node) -> Self {
        let gateway = Setup::in_front_of(node.app).start();
        gateway.store.put(record("token-of-ada", "ada"));
        let stream = connect(gateway.address);
        Self { gateway, stream }
    }

    fn send(&mut self, target: &str, headers: &[(String, String)]) -> u16 {
        let mut head = format!("GET {target} HTTP/1.1\r\nhost: app.test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let status = exchange_on(&mut self.stream, head.as_bytes()).status;
        // What is refused as malformed ends the connection.
        if !matches!(status, 200 | 401) {
            self.stream = connect(self.gateway.address);
        }
        status
    }
}

/// Sends many names by `send`, which gives the status, and looks at what Node says arrived.
fn no_alias_arrives(
    node: &Node,
    seed: u64,
    what: &str,
    lower: bool,
    mut send: impl FnMut(&str, &[(String, String)]) -> u16,
) {
    let rounds = number("VESTIBULE_CASES", 60);
    println!("{what}: seed {seed}, {rounds} requests");
    let mut dice = Dice::new(seed);
    let (mut sent_names, mut arrived_names) = (0, 0);
    for round in 0..rounds {
        let (target, signed_in) = *dice.pick(PATHS);
        let mut headers: Vec<(String, String)> = Vec::new();
        for at in 0..=dice.below(40) {
            let mut name = name(&mut dice);
            if lower {
                name = name.to_ascii_lowercase();
            }
            if !HOPS.contains(&name.to_ascii_lowercase().as_str()) {
                headers.push((name, format!("forged {round}.{at}")));
            }
        }
        let expected = expected(&headers);
        sent_names += headers.len();
        if signed_in {
            headers.push(("cookie".into(), cookie("token-of-ada")));
        }
        let status = send(target, &headers);
        assert_eq!(
            status, 200,
            "seed {seed}, round {round}: {target} {headers:?}"
        );
        let records = node.take();
        let [record] = &records[..] else {
            panic!("seed {seed}, round {round}: {records:?}")
        };
        let read = record.read().expect("a request");
        let user = signed_in.then_some("ada");
        if let Some(leak) = leaks_of(read, user) {
            panic!("seed {seed}, round {round}: {leak}");
        }
        for (name, values) in &expected {
            arrived_names += values.len();
            assert_eq!(
                &read.all(name),
                values,
                "seed {seed}, round {round}: {name}"
            );
        }
        let told = read
            .headers
            .iter()
            .filter(|(_, value)| value.starts_with("forged"));
        assert_eq!(told.count(), expected.values().map(Vec::len).sum::<usize>());
    }
    println!("{what}: {sent_names} names, {arrived_names} of them not ours, all told apart");
    assert!(arrived_names * 20 > sent_names && arrived_names < sent_names);
}

#[test]
fn over_http1_no_name_that_could_be_read_as_ours_arrives_and_every_other_does() {
    let node = Node::start();
    let mut line = Line::to(&node);
    let seed = number("VESTIBULE_SEED", 6_001);
    no_alias_arrives(&node, seed, "HTTP/1", false, |target, headers| {
        line.send(target, headers)
    });
}

#[test]
fn over_http2_no_name_that_could_be_read_as_ours_arrives_and_every_other_does() {
    let node = Node::start();
    let certificate = Certificate::self_signed();
    let mut setup = Setup::in_front_of(node.app);
    setup.server.tls = Some(certificate.files.clone());
    let gateway = setup.start();
    gateway.store.put(record("token-of-ada", "ada"));
    let client = H2::to(gateway.address, &certificate);
    let seed = number("VESTIBULE_SEED", 6_002);
    no_alias_arrives(&node, seed, "HTTP/2", true, |target, headers| {
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        client.get(target, &headers).status().as_u16()
    });
}

#[test]
fn what_is_no_name_at_all_is_refused_and_not_mended() {
    // PHP reads a blank and a bracket as `_` as well; HTTP knows no such names.
    let node = Node::start();
    let gateway = Setup::in_front_of(node.app).start();
    for letter in [
        " ", "[", "]", "(", "{", ",", ";", "=", "@", "\\", "\"", "/", "?", "\0", "\u{a0}",
    ] {
        let name = "x-auth-user-id".replace('-', letter);
        let answer = gateway.get("/public/x", &[(name.as_str(), "forged")]);
        assert!(
            matches!(answer.status, 400 | 0),
            "{name}: {}",
            answer.status
        );
        assert!(node.take().is_empty(), "{name}");
    }
    assert_eq!(
        gateway.get("/public/x", &[("x-auth-user-ids", "1")]).status,
        200
    );
    assert_eq!(node.take().len(), 1);
}

#[test]
fn connection_takes_nothing_away_that_the_app_should_see_and_nothing_of_ours() {
    let node = Node::start();
    let mut line = Line::to(&node);
    let seed = number("VESTIBULE_SEED", 6_003);
    let mut dice = Dice::new(seed);
    println!("nominations: seed {seed}");
    let session = ("cookie".to_owned(), cookie("token-of-ada"));
    let lawful = ["close", "keep-alive", "te", "Keep-Alive", ""];
    for round in 0..number("VESTIBULE_CASES", 60) {
        let mut honest = true;
        let mut lines = Vec::new();
        for _ in 0..=dice.below(2) {
            let mut options = Vec::new();
            for _ in 0..=dice.below(3) {
                options.push(if dice.once_in(3) {
                    let name = match dice.below(3) {
                        0 => "cookie".to_owned(),
                        1 => "authorization".to_owned(),
                        _ => name(&mut dice),
                    };
                    honest &= lawful.iter().any(|known| known.eq_ignore_ascii_case(&name));
                    name
                } else {
                    (*dice.pick(&lawful)).to_owned()
                });
            }
            lines.push((
                "Connection".to_owned(),
                options.join(*dice.pick(&[",", ", ", " ,\t"])),
            ));
        }
        lines.push(session.clone());
        lines.push(("authorization".into(), "Basic eA==".into()));
        let status = line.send("/dashboard", &lines);
        let records = node.take();
        if honest {
            let read = records[0].read().expect("a request");
            assert_eq!(
                (status, records.len()),
                (200, 1),
                "seed {seed}, round {round}: {lines:?}"
            );
            assert_eq!(read.all("x-auth-user-id"), ["ada"]);
            assert_eq!(read.all("cookie"), [session.1.as_str()]);
            assert_eq!(read.all("authorization"), ["Basic eA=="]);
            line.stream = connect(line.gateway.address);
        } else {
            assert_eq!(
                (status, records.len()),
                (400, 0),
                "seed {seed}, round {round}: {lines:?}"
            );
        }
    }
}
