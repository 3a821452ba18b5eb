//! Addresses: whatever a real Next.js app would serve of a protected page, a stranger is refused, and what he is not refused serves
//! nothing of one. The app says which is which: it is asked directly and through the gateway.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;
use vestibule::policy::{Conditions, Need};
use vestibule::session::Freshness;

use super::headers::number;
use crate::differential::dice::Dice;
use crate::support::{
    Answer, Gateway, Setup, connect, cookie, exchange_on, record, route, rule, signed_in,
};

/// The built example app (`next.mjs`). It ends when its standard input does.
struct Next {
    address: SocketAddr,
    build: String,
    child: Child,
    input: Option<ChildStdin>,
}

impl Drop for Next {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

impl Next {
    fn start() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        assert!(
            root.join("examples/nextjs/.next/BUILD_ID").is_file(),
            "this test needs the built example app: run `scripts/example-app` (scripts/test does)"
        );
        let mut child = Command::new("node")
            .arg(root.join("tests/corpora/next.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is installed");
        let input = child.stdin.take().expect("its input");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("it says its port");
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let port = said["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], port.expect("the app started"))),
            build: said["build"].as_str().expect("a build").to_owned(),
            child,
            input: Some(input),
        }
    }
}

/// Protected pages, and what only they say, whatever form they come in.
const PAGES: &[(&str, &str)] = &[
    ("/dashboard", "What the app received"),
    ("/dashboard/settings", "settings-email"),
    ("/dashboard/activity", "activity-email"),
    ("/admin", "Only administrators see this"),
    ("/legacy", "legacy-email"),
    ("/legacy/7", "legacy-email"),
    ("/api/hello", "\"hello\":\"world\""),
];

/// What the data of protected pages says, beside what the pages do.
const DATA: &[&str] = &["\"pageProps\":{\"email\"", "\"pageProps\":{\"id\""];

fn marker(answer: &Answer) -> Option<&'static str> {
    let text = answer.text();
    let pages = PAGES.iter().map(|(_, marker)| *marker);
    pages
        .chain(DATA.iter().copied())
        .find(|marker| text.contains(marker))
}

/// One connection, opened again when the other side closed it.
struct Line {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Line {
    const fn to(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
        }
    }

    fn ask(&mut self, bytes: &[u8]) -> Answer {
        for kept in [true, false] {
            let mut stream = match self.stream.take() {
                Some(stream) if kept => stream,
                _ => connect(self.address),
            };
            let answer = exchange_on(&mut stream, bytes);
            if answer.status == 0 && kept {
                continue;
            }
            let closes = answer
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"));
            if !closes && answer.status != 400 && answer.rest.is_empty() {
                self.stream = Some(stream);
            }
            return answer;
        }
        unreachable!("the second attempt returns")
    }
}

fn head(target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("GET {target} HTTP/1.1\r\nhost: app.test\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// Encodes some letters of a path: once or twice, in small or capital digits.
fn encoded(dice: &mut Dice, path: &str, slashes: bool) -> String {
    let often = 1 + dice.below(6);
    path.chars()
        .map(|letter| match letter {
            '/' if !slashes => letter.to_string(),
            letter if letter.is_ascii_graphic() && dice.once_in(often) => {
                let code = u32::from(letter);
                match dice.below(8) {
                    0..=3 => format!("%{code:02x}"),
                    4..=6 => format!("%{code:02X}"),
                    _ => format!("%25{code:02x}"),
                }
            }
            letter => letter.to_string(),
        })
        .collect()
}

/// Ways in that lead somewhere else first.
const DETOURS: &[&str] = &[
    "/sign-in/..",
    "/public/..",
    "/_next/static/..",
    "/_next/static/chunks/../../..",
    "/api/auth/../..",
    "/favicon.ico/..",
    "/x/%2e%2e",
    "/sign-in/%2E%2E",
    "/_next/static/.%2e/..",
    "/sign-in/..;",
    "/x/..%2f..",
    "/x%2f..",
    "/x%5c..",
    "/.",
    "/%2e",
    "/",
    "//",
    "/\\",
    "/%2f",
    "/%5c",
    "/;",
    "/index",
    "/_next",
    "/_next/data/BUILD",
    "/_next/data/BUILD/..",
    "/_next/data/x",
    "/en",
    "/default",
    "/undefined",
    "http://app.test",
    "http://evil.example",
    "HTTP://app.test/sign-in/..",
    "app.test",
    "//app.test",
    "/http://app.test",
];

/// What may stand behind a page without being part of its name.
const TAILS: &[&str] = &[
    "/",
    "//",
    "/.",
    "/..",
    "/./",
    "/%2e",
    "/x/..",
    "/x/%2e%2e",
    "/sign-in/../",
    "%2f",
    "%5c",
    "\\",
    ";",
    ";x=1",
    ";/sign-in",
    "%3b",
    "%00",
    "%20",
    "+",
    "%0a",
    "%09",
    ".rsc",
    ".RSC",
    ".json",
    ".txt",
    ".html",
    ".segments/_tree.segment.rsc",
    ".segments/_full.segment.rsc",
    ".prefetch.rsc",
    ".action",
    "/index",
    "/index.rsc",
    "/index.json",
    "/_next/static/x",
    "/page",
    "/route",
    "/layout",
    "/__PAGE__",
    "?",
    "?x=/sign-in",
    "?_rsc=abc",
    "?__nextDataReq=1",
    "?__nextLocale=en",
    "?nxtPid=7",
    "?amp=1",
    "?x=1#y",
    "#",
    "#/../sign-in",
    "%23",
    "%23/../sign-in",
    "%3f",
    "%3fx",
    "%",
    "%zz",
    "%c0%af",
    "%ef%bc%8f",
    "\u{e9}",
    ".",
    "..",
    "...",
    "%2e",
    ".%2e",
];

const HEADERS: &[&[(&str, &str)]] = &[
    &[],
    &[],
    &[("rsc", "1")],
    &[("rsc", "1"), ("next-router-prefetch", "1")],
    &[
        ("rsc", "1"),
        ("next-router-prefetch", "1"),
        ("next-router-segment-prefetch", "/_tree"),
    ],
    &[("x-nextjs-data", "1")],
    &[("purpose", "prefetch")],
    &[(
        "x-middleware-subrequest",
        "middleware:middleware:middleware:middleware:middleware",
    )],
    &[
        ("x-matched-path", "/sign-in"),
        ("x-invoke-path", "/sign-in"),
        ("x-now-route-matches", "1=sign-in"),
    ],
    &[
        ("x-original-url", "/sign-in"),
        ("x-rewrite-url", "/sign-in"),
        ("x-forwarded-uri", "/sign-in"),
    ],
    &[
        ("accept", "text/html"),
        ("sec-fetch-dest", "document"),
        ("sec-fetch-mode", "navigate"),
    ],
];

/// What may stand in the middle of a path.
const INSIDE: &[&str] = &[
    "//",
    "/./",
    "/x/../",
    "/%2e/",
    "/x/%2e%2e/",
    "\\",
    "%2f",
    "%5c",
    "/;/",
    ";/",
    "/%20/",
];

/// Pages and files anybody may have.
const OPEN: &[&str] = &[
    "/",
    "/sign-in",
    "/sign-up",
    "/403",
    "/_next/static/x.js",
    "/favicon.ico",
    "/api/auth/ok",
];

/// One change to an address, of the kinds by which gateways and apps have come to disagree.
fn change(dice: &mut Dice, path: &str, build: &str) -> String {
    match dice.below(12) {
        0..=1 => encoded(dice, path, false),
        2 => encoded(dice, path, true),
        3 => {
            let at = dice.below(path.len());
            path.char_indices()
                .map(|(index, letter)| match index >= at {
                    true => letter.to_ascii_uppercase(),
                    false => letter,
                })
                .collect()
        }
        4 => {
            let inside = *dice.pick(INSIDE);
            match path.rfind('/').filter(|at| *at > 0) {
                Some(at) => format!("{}{inside}{}", &path[..at], &path[at + 1..]),
                None => format!("{inside}{}", path.get(1..).unwrap_or_default()),
            }
        }
        5..=7 => format!("{}{path}", dice.pick(DETOURS)),
        8..=9 => format!("{path}{}", dice.pick(TAILS)),
        _ => {
            let id = if dice.once_in(6) { "x" } else { build };
            let prefix = format!("/_next/data/{id}");
            let prefix = match dice.once_in(4) {
                true => encoded(dice, &prefix, false),
                false => prefix,
            };
            let suffix = dice.pick(&[
                ".json",
                ".json",
                ".json",
                "/index.json",
                ".JSON",
                ".json/",
                "%2ejson",
                ".js%6fn",
                "",
            ]);
            format!("{prefix}{path}{suffix}")
        }
    }
}

/// A protected page by another name that Next serves it by.
fn alias(dice: &mut Dice, build: &str) -> String {
    let page = dice.pick(PAGES).0;
    let way = *dice.pick(&[
        "/x/..",
        "/sign-in/..",
        "/.",
        "/%2e",
        "/x/%2e%2E",
        "/_next/static/../..",
        "/api/auth/x/../../..",
        "/x/y/%2e./..",
    ]);
    let query = *dice.pick(&[
        "?x=/sign-in",
        "?",
        "?x=1#y",
        "#/../sign-in",
        "?__nextLocale=en",
        "?a=%2e%2e",
        "?/public",
    ]);
    match dice.below(5) {
        0 => format!("{way}{page}"),
        1 => format!("{page}{query}"),
        2 => format!("{way}{page}{query}"),
        3 => {
            let name = *dice.pick(&[
                "7",
                "%37",
                "a%20b",
                "caf%C3%A9",
                "..%2f",
                "%2e.",
                "a;b",
                "sign-in",
                "7.rsc",
                "7.json",
                "..a",
                "%25",
            ]);
            format!("/legacy/{name}")
        }
        _ => {
            let page = *dice.pick(&["/legacy", "/legacy/7", "/legacy/%37"]);
            format!("/_next/data/{build}{page}.json")
        }
    }
}

/// A page, mostly a protected one, by a name it may or may not have.
fn target(dice: &mut Dice, build: &str) -> String {
    if dice.once_in(3) {
        return alias(dice, build);
    }
    let mut path = match dice.once_in(6) {
        true => (*dice.pick(OPEN)).to_owned(),
        false => dice.pick(PAGES).0.to_owned(),
    };
    for _ in 0..=dice.below(5) / 2 {
        path = change(dice, &path, build);
    }
    path.replace("BUILD", build)
}

/// How often a client follows a redirect.
const HOPS: usize = 4;

/// The rules of `config/examples/nextjs.toml`.
fn in_front_of(app: SocketAddr) -> Gateway {
    let mut setup = Setup::in_front_of(app);
    let admin = Conditions {
        role: vec!["admin".into()],
        ..Conditions::default()
    };
    let mut administrators = rule(Need::SignedIn(admin));
    administrators.freshness = Freshness::Strict;
    setup.routes.routes = vec![
        route("/", rule(Need::Public)),
        route("/403", rule(Need::Public)),
        route("/sign-in", rule(Need::Guest)),
        route("/sign-up", rule(Need::Guest)),
        route("/admin/:path*", administrators),
    ];
    setup.routes.default = signed_in();
    let gateway = setup.start();
    let mut root = record("token-of-root", "root");
    root.role = Some("admin".into());
    gateway.store.put(root);
    gateway
}

#[test]
fn no_stranger_gets_what_a_real_next_serves_of_a_protected_page() {
    let next = Next::start();
    let gateway = in_front_of(next.address);
    let seed = number("VESTIBULE_SEED", 6_004);
    let rounds = number("VESTIBULE_CASES", 1_000);
    println!(
        "addresses: seed {seed}, {rounds} of them, build {}",
        next.build
    );
    let mut dice = Dice::new(seed);
    let (mut direct, mut through) = (Line::to(next.address), Line::to(gateway.address));

    // The twins first: who is signed in gets every page, and they say what they should.
    let session = cookie("token-of-root");
    for (page, marker) in PAGES {
        let answer = through.ask(&head(page, &[("cookie", &session)]));
        assert_eq!(answer.status, 200, "{page}: {}", answer.text());
        assert!(answer.text().contains(marker), "{page}: {}", answer.text());
        let refused = through.ask(&head(page, &[]));
        assert_eq!(refused.status, 401, "{page}");
    }

    let base = url::Url::parse("http://app.test").expect("a URL");
    let (mut served, mut passed) = (0, 0);
    for round in 0..rounds {
        let mut target = target(&mut dice, &next.build);
        let headers = *dice.pick(HEADERS);
        // Next sends clients on to the spelling it wants; those who go there are strangers all the same.
        for _ in 0..HOPS {
            let bytes = head(&target, headers);
            let context = format!("seed {seed}, round {round}: {target:?} {headers:?}");
            let answer = through.ask(&bytes);
            assert!(
                marker(&answer).is_none(),
                "{context}: {:?} got out",
                marker(&answer)
            );
            for location in answer.all("location") {
                let led = base.join(location).map(|url| url.origin());
                assert_eq!(led, Ok(base.origin()), "{context}: to {location}");
            }
            passed += u64::from(matches!(answer.status, 200 | 404));
            // Whatever Next itself makes of the address, asked by somebody who walks around the gateway.
            let open = direct.ask(&bytes);
            if let Some(marker) = marker(&open) {
                served += 1;
                assert!(
                    matches!(answer.status, 302 | 303 | 400..=499),
                    "{context}: Next serves {marker:?}, the gateway says {}",
                    answer.status
                );
            }
            match open.header("location") {
                Some(location) if location.starts_with('/') && !location.starts_with("//") => {
                    target = location.to_owned();
                }
                _ => break,
            }
        }
    }
    println!(
        "addresses: Next serves a protected page for {served} of {rounds}, {passed} pass the gateway, none shows one"
    );
    // Else nothing was tried.
    assert!(served * 5 > rounds, "only {served} of {rounds} are served");
    assert!(passed > 0, "nothing passes");
}
