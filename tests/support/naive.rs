//! A proxy as one writes it at first: it lets everything pass but what it knows to be protected, in front of an app that reads
//! addresses as generously as some app somewhere does. Each of its defences can be switched off by itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::PATIENCE;

/// A session that may see the protected page, and one that was signed out.
pub const LIVE: &str = "token-of-ada.c2lnbmF0dXJlLW9mLWFkYQ";
pub const ENDED: &str = "token-of-bob.c2lnbmF0dXJlLW9mLWJvYg";

/// Every defence, and the checks that must fail without it.
pub const DEFENCES: &[(&str, &[&str])] = &[
    // Headers.
    ("identity with underscores is removed", &["T1"]),
    ("identity with other marks is removed", &["T2"]),
    ("identity in any case is removed", &["T3"]),
    ("identity beside a session is removed", &["T4"]),
    // Its names stand in the first lines of T6 as well.
    ("identity of anonymous requests is removed", &["T5", "T6"]),
    ("every line of identity is removed", &["T6"]),
    ("internal headers skip nothing", &["T7"]),
    ("internal headers are removed", &["T8"]),
    ("internal parameters are refused", &["T9"]),
    // Hop by hop.
    ("forwarded headers may not be nominated", &["T10"]),
    ("identity may not be nominated", &["T11"]),
    ("cookies may not be nominated", &["T12"]),
    // Paths.
    ("dot segments are refused", &["T13"]),
    ("encoded dots and slashes are refused", &["T14"]),
    ("the target is forwarded as it came", &["T15"]),
    ("marks in the path are refused", &["T16"]),
    ("paths are compared without case", &["T17"]),
    ("empty segments are refused", &["T18"]),
    ("path parameters are cut off", &["T19"]),
    ("the query decides nothing", &["T20"]),
    ("a slash at the end changes nothing", &["T23"]),
    ("segments that end in dots are refused", &["T25"]),
    ("paths are compared decoded", &["A1"]),
    ("endings change nothing", &["A2"]),
    // Next.js.
    ("data addresses are their pages", &["T21"]),
    ("transport suffixes are cut off", &["T22"]),
    ("inner addresses of images are compared", &["A3"]),
    ("locales are cut off", &["A4"]),
    ("prefetches are checked", &["A5"]),
    ("prefetches are not redirected", &["A6"]),
    ("actions want a session", &["A7"]),
    ("previews are checked", &["A8"]),
    ("only preflights pass", &["A9"]),
    ("every method is checked", &["A10"]),
    // Forwarded data.
    ("no header names the path", &["T26"]),
    ("the scheme of strangers is removed", &["T27"]),
    ("the host of strangers is not used", &["T28"]),
    ("no address is trusted", &["T29"]),
    ("no agent is trusted", &["T30"]),
    ("forwarded data is removed", &["T31"]),
    // Sessions.
    ("unreadable cookies are nobody's", &["T34"]),
    ("signatures are compared", &["T34b"]),
    ("dead cookies are taken back", &["T35"]),
    ("cookies are told apart by name", &["T36"]),
    // Redirects.
    ("the return address is our own", &["T44"]),
    ("targets are not decoded into headers", &["T44b"]),
    ("other hosts are refused", &["A11"]),
    ("absolute targets are refused", &["A12"]),
    ("strange hosts are refused", &["A13"]),
    // Upgrades.
    ("no tunnel without 101", &["T45"]),
    ("CONNECT is refused", &["T48"]),
    ("absolute upgrades are refused", &["T49"]),
    ("upgrades are checked", &["T52"]),
    ("TRACE is refused", &["A14"]),
    // Framing.
    ("a length with chunks is refused", &["T46a"]),
    ("odd encodings are refused", &["T46b"]),
    ("two lengths are refused", &["T46c"]),
    ("odd lengths are refused", &["T46d"]),
    ("a space before the colon is refused", &["T46e"]),
    ("folded lines are refused", &["T46f"]),
    ("control bytes are refused", &["T46g"]),
    ("a lone line feed is refused", &["T46h"]),
    ("odd chunks are refused", &["T46i"]),
    ("chunks in HTTP/1.0 are refused", &["T46j"]),
    ("refused bodies are read away", &["T46k"]),
    ("odd versions are refused", &["T46l"]),
    ("heads are bounded", &["T46m"]),
    // Answers.
    ("refusals are not kept", &["A15"]),
    ("protected pages are not kept", &["A16"]),
    ("identity is removed from answers", &["A17"]),
];

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
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-preferred-username",
    "x-forwarded-groups",
    "remote-user",
    "remote-email",
    "remote-name",
    "remote-groups",
];

/// What the app answers.
pub fn page(path: &str, line: &str, headers: &[(&str, &str)]) -> (u16, String) {
    match path {
        "/dashboard" => (
            200,
            "The dashboard of somebody who is signed in: balance 4711, three open invoices, a letter from the bank.".into(),
        ),
        "/public/page" | "/" => (200, "Welcome. Anybody may read this page about us.".into()),
        "/sign-in" => (200, "Please sign in with mail address and password.".into()),
        "/optional/echo" => {
            let mut body = format!("{line}\n");
            for (name, value) in headers {
                body.push_str(&format!("{name}: {value}\n"));
            }
            (200, body)
        }
        _ => (404, "There is no such page.".into()),
    }
}

/// A proxy with an app behind it, on a free port.
pub struct Naive {
    pub address: SocketAddr,
}

impl Naive {
    /// Starts it without one of its defences, or (`""`) with all.
    pub fn without(defence: &'static str) -> Self {
        assert!(
            defence.is_empty() || DEFENCES.iter().any(|(name, _)| *name == defence),
            "{defence}"
        );
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let proxy = Proxy { off: defence };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || proxy.serve(stream));
            }
        });
        Self { address }
    }
}

#[derive(Clone, Copy)]
struct Proxy {
    off: &'static str,
}

#[derive(Default)]
struct Request {
    method: String,
    target: String,
    old: bool,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    fn header(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn new(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What is wrong with a request, as a status.
type Bad = u16;

/// Bytes to be read on.
struct Input {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Input {
    fn more(&mut self) -> Option<()> {
        let mut piece = [0; 64 * 1024];
        let read = self.stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        self.bytes.extend_from_slice(&piece[..read]);
        Some(())
    }

    fn until(&mut self, mark: &[u8], most: usize) -> Option<Result<Vec<u8>, Bad>> {
        loop {
            if let Some(at) = self.bytes.windows(mark.len()).position(|w| w == mark) {
                if at > most {
                    return Some(Err(431));
                }
                let taken = self.bytes.drain(..at + mark.len()).take(at).collect();
                return Some(Ok(taken));
            }
            if self.bytes.len() > most {
                return Some(Err(431));
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.bytes.len() < count {
            self.more()?;
        }
        Some(self.bytes.drain(..count).collect())
    }
}

impl Proxy {
    fn has(&self, defence: &str) -> bool {
        assert!(
            DEFENCES.iter().any(|(name, _)| *name == defence),
            "{defence}"
        );
        self.off != defence
    }

    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let mut input = Input {
            stream,
            bytes: Vec::new(),
        };
        let mut tunnel = false;
        loop {
            let (answer, mut close) = match self.read(&mut input) {
                None => return,
                Some(Err(status)) => (Answer::new(status, "no"), true),
                Some(Ok((mut request, framing))) => {
                    let answer = self.answer(&request, tunnel);
                    let refused = matches!(answer.status, 401 | 302);
                    let body = match framing {
                        // Nobody reads what nobody is let in with.
                        _ if refused && !self.has("refused bodies are read away") => {
                            Some(Ok(Vec::new()))
                        }
                        Framing::None => Some(Ok(Vec::new())),
                        Framing::Length(length) => input.exactly(length).map(Ok),
                        Framing::Chunks => self.chunks(&mut input),
                    };
                    let answer = match body {
                        None => return,
                        Some(Err(status)) => Answer::new(status, "no"),
                        Some(Ok(body)) => {
                            request.body = String::from_utf8_lossy(&body).into_owned();
                            match refused {
                                true => answer,
                                false => self.answer(&request, tunnel),
                            }
                        }
                    };
                    let connection = request.header("connection").to_ascii_lowercase();
                    let upgrades = request.has("upgrade");
                    if upgrades && answer.status == 200 && !self.has("no tunnel without 101") {
                        tunnel = true;
                    }
                    let keeps = (!request.old || connection.contains("keep-alive"))
                        && !connection.contains("close")
                        && (!upgrades || tunnel);
                    let close = !keeps || answer.status == 400;
                    (answer, close)
                }
            };
            close |= answer.status == 431;
            let mut head = format!(
                "HTTP/1.1 {} X\r\nContent-Length: {}\r\n",
                answer.status,
                answer.body.len()
            );
            for (name, value) in &answer.headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            let whole = format!("{head}\r\n{}", answer.body);
            if input.stream.write_all(whole.as_bytes()).is_err() || close {
                return;
            }
        }
    }

    // ------------------------------------------------------------------------------------------------------- framing

    fn read(&self, input: &mut Input) -> Option<Result<(Request, Framing), Bad>> {
        let bounded = self.has("heads are bounded");
        let most = if bounded { 32 * 1024 } else { 1024 * 1024 };
        let head = match input.until(b"\r\n\r\n", most)? {
            Ok(head) => head,
            Err(status) => return Some(Err(status)),
        };
        Some(self.parse(&head, bounded))
    }

    fn parse(&self, head: &[u8], bounded: bool) -> Result<(Request, Framing), Bad> {
        let head: String = head.iter().map(|byte| char::from(*byte)).collect();
        let mut lines = head.split("\r\n");
        let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [method, target, version] = words[..] else {
            return Err(400);
        };
        if !matches!(version, "HTTP/1.1" | "HTTP/1.0") && self.has("odd versions are refused") {
            return Err(400);
        }
        let mut request = Request {
            method: method.into(),
            target: target.into(),
            old: version == "HTTP/1.0",
            ..Request::default()
        };
        for line in lines {
            if line.starts_with([' ', '\t']) {
                if self.has("folded lines are refused") {
                    return Err(400);
                }
                if let Some((_, value)) = request.headers.last_mut() {
                    value.push_str(line);
                }
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(400);
            };
            if name.ends_with([' ', '\t']) && self.has("a space before the colon is refused") {
                return Err(400);
            }
            if value.contains(['\0', '\r']) && self.has("control bytes are refused") {
                return Err(400);
            }
            if value.contains('\n') && self.has("a lone line feed is refused") {
                return Err(400);
            }
            request.headers.push((name.into(), value.trim().into()));
        }
        if bounded && request.headers.len() > 200 {
            return Err(431);
        }
        let framing = self.framing(&request)?;
        Ok((request, framing))
    }

    fn framing(&self, request: &Request) -> Result<Framing, Bad> {
        let codings = request.all("transfer-encoding");
        let lengths = request.all("content-length");
        if let Some(first) = codings.first() {
            if !lengths.is_empty() && self.has("a length with chunks is refused") {
                return Err(400);
            }
            if request.old && self.has("chunks in HTTP/1.0 are refused") {
                return Err(400);
            }
            let chunked = first.eq_ignore_ascii_case("chunked");
            if (codings.len() > 1 || !chunked) && self.has("odd encodings are refused") {
                return Err(400);
            }
            return Ok(if chunked {
                Framing::Chunks
            } else {
                Framing::None
            });
        }
        let Some(first) = lengths.first() else {
            return Ok(Framing::None);
        };
        if (lengths.len() > 1 || first.contains(',')) && self.has("two lengths are refused") {
            return Err(400);
        }
        let first = first.split(',').next().unwrap_or_default();
        match first.parse::<usize>() {
            Ok(length) if first.bytes().all(|b| b.is_ascii_digit()) => Ok(Framing::Length(length)),
            _ if self.has("odd lengths are refused") => Err(400),
            _ => Ok(Framing::None),
        }
    }

    fn chunks(&self, input: &mut Input) -> Option<Result<Vec<u8>, Bad>> {
        let strict = self.has("odd chunks are refused");
        let end: &[u8] = if strict { b"\r\n" } else { b"\n" };
        let mut body = Vec::new();
        loop {
            let line = match input.until(end, 64 * 1024)? {
                Ok(line) => line,
                Err(status) => return Some(Err(status)),
            };
            let line = String::from_utf8_lossy(&line)
                .trim_end_matches('\r')
                .to_owned();
            let plain = !line.is_empty() && line.bytes().all(|b| b.is_ascii_hexdigit());
            let size = usize::from_str_radix(&line, 16).ok().filter(|_| plain);
            let size = match size {
                Some(size) => size,
                None if strict => return Some(Err(400)),
                None => 0,
            };
            body.extend(input.exactly(size)?);
            if let Err(status) = input.until(end, 64 * 1024)? {
                return Some(Err(status));
            }
            if size == 0 {
                return Some(Ok(body));
            }
        }
    }

    // ------------------------------------------------------------------------------------------------------- judging

    fn answer(&self, request: &Request, tunnel: bool) -> Answer {
        let refuse = |status| Answer::new(status, "no");
        if request.method == "CONNECT" {
            let through = !self.has("CONNECT is refused");
            return if through {
                Answer::new(200, "")
            } else {
                refuse(405)
            };
        }
        if let Some(status) = self.malformed(request) {
            return refuse(status);
        }
        if !request.target.starts_with('/') {
            // What the server behind would do: fetch it, or send the client there.
            return match request.has("upgrade") {
                true => Answer::new(200, "fetched"),
                false => Answer::new(308, "").with("Location", &request.target),
            };
        }
        if matches!(request.method.as_str(), "TRACE" | "TRACK") {
            if self.has("TRACE is refused") {
                return refuse(405);
            }
            let said: String = request
                .headers
                .iter()
                .map(|(n, v)| format!("{n}: {v}\n"))
                .collect();
            return Answer::new(200, &said);
        }
        let session = self.session(request);
        let protected = self.is_protected(request) && !tunnel;
        if protected && session != Session::Live && !self.is_skipped(request) {
            return self.challenge(request, session);
        }
        self.forward(request, session, protected)
    }

    fn malformed(&self, request: &Request) -> Option<u16> {
        let hosts = request.all("host");
        let host = hosts.first().copied().unwrap_or("app.test");
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".:-".contains(&b);
        if (hosts.len() != 1 || host.is_empty() || !host.bytes().all(plain))
            && self.has("strange hosts are refused")
        {
            return Some(400);
        }
        let name = host
            .split(':')
            .next()
            .unwrap_or_default()
            .trim_end_matches('.');
        if !name.eq_ignore_ascii_case("app.test") && self.has("other hosts are refused") {
            return Some(421);
        }
        if !request.target.starts_with('/') {
            let defence = match request.has("upgrade") {
                true => "absolute upgrades are refused",
                false => "absolute targets are refused",
            };
            return self.has(defence).then_some(400);
        }
        let mut keys = request
            .query()
            .split('&')
            .map(|pair| decode(pair.split('=').next().unwrap_or_default()));
        if keys.any(|key| key.starts_with("nxtP") || key.starts_with("nxtI"))
            && self.has("internal parameters are refused")
        {
            return Some(400);
        }
        if self
            .nominated(request)
            .any(|name| self.has(nomination(&name)))
        {
            return Some(400);
        }
        self.ambiguous(request.path()).then_some(400)
    }

    fn nominated(&self, request: &Request) -> impl Iterator<Item = String> {
        let lines: Vec<String> = request
            .all("connection")
            .iter()
            .map(|l| l.to_ascii_lowercase())
            .collect();
        lines
            .join(",")
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !["", "close", "keep-alive", "upgrade", "te"].contains(&name.as_str()))
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn ambiguous(&self, path: &str) -> bool {
        let lower = path.to_ascii_lowercase();
        let decoded = decode(path);
        let segments = || lower.split('/');
        let dotted = segments().any(|segment| matches!(segment, "." | ".."));
        let encoded = ["%2e", "%2f", "%5c", "%25", "\\"]
            .iter()
            .any(|mark| lower.contains(mark));
        let marked = ["#", "%23", "%3f"].iter().any(|mark| lower.contains(mark));
        let cut = segments()
            .any(|s| matches!(s.split([';']).next(), Some("." | "..")) && s.contains(';'));
        let beside =
            segments().any(|s| s.ends_with("..") && s != ".." && !s.contains(['%', '\\', ';']));
        let control = decoded
            .chars()
            .any(|c| c.is_control() || c == ' ' || c == '\u{fffd}')
            || bad_escape(path);
        let empty = path.contains("//") || (!encoded && decoded.contains("//"));
        (dotted && self.has("dot segments are refused"))
            || (encoded && self.has("encoded dots and slashes are refused"))
            || (marked && self.has("marks in the path are refused"))
            || (cut && self.has("path parameters are cut off"))
            || (beside && self.has("segments that end in dots are refused"))
            || (control && self.has("paths are compared decoded"))
            || (empty && self.has("empty segments are refused"))
    }

    /// Whether any reading of the target is the protected page.
    fn is_protected(&self, request: &Request) -> bool {
        let target = match request.header("x-rewrite-url") {
            named if !named.is_empty() && !self.has("no header names the path") => named,
            _ => &request.target,
        };
        let path = target.split('?').next().unwrap_or_default();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        if query.contains("/public/page") && !self.has("the query decides nothing") {
            return false;
        }
        let mut readings = vec![path.to_owned()];
        let mut add = |made: Vec<String>| {
            for reading in made {
                if !readings.contains(&reading) {
                    readings.push(reading);
                }
            }
        };
        let bare = without_parameters(path);
        if ends(&bare) && !self.has("endings change nothing") {
            return false;
        }
        let plain = decode(path);
        if self.has("paths are compared decoded") {
            add(vec![plain.clone()]);
        }
        if self.has("path parameters are cut off") && plain.contains(';') {
            let cut = [bare.clone(), without_parameters(&plain)];
            add(cut
                .iter()
                .map(|path| path.trim_end_matches('/').to_owned())
                .collect());
        }
        if self.has("endings change nothing") {
            add(vec![without_ending(&bare), without_ending(&plain)]);
        }
        if self.has("transport suffixes are cut off") && !plain.starts_with("/_next/data/") {
            add(vec![without_suffix(&plain)]);
        }
        if self.has("locales are cut off") {
            add(vec![without_locale(&plain)]);
        }
        if self.has("data addresses are their pages") && plain.starts_with("/_next/data/") {
            add(vec![without_locale(&page_of_data(&plain))]);
        }
        if plain.trim_end_matches('/') == "/_next/image"
            && self.has("inner addresses of images are compared")
        {
            add(vec![resolve(&inner(query))]);
        }
        if self.has("paths are compared without case") {
            add(readings_lowered(path, &plain));
        }
        let slash = self.has("a slash at the end changes nothing");
        readings.iter().any(|path| {
            path == "/dashboard"
                || (path.starts_with("/dashboard/") && (slash || path != "/dashboard/"))
        })
    }

    /// What lets a request pass unseen where a defence is missing.
    fn is_skipped(&self, request: &Request) -> bool {
        let asks = request.has("access-control-request-method");
        let preflight = request.method == "OPTIONS"
            && asks
            && request.has("origin")
            && !request.has("content-length")
            && !request.has("upgrade");
        let skips = |defence, sign: bool| sign && !self.has(defence);
        preflight
            || skips("only preflights pass", asks)
            || skips(
                "internal headers skip nothing",
                request
                    .header("x-middleware-subrequest")
                    .contains("middleware"),
            )
            || skips(
                "prefetches are checked",
                request.header("purpose") == "prefetch",
            )
            || skips(
                "previews are checked",
                request.header("cookie").contains("__prerender_bypass="),
            )
            || skips("every method is checked", request.method == "PROPFIND")
            || skips(
                "no address is trusted",
                request.header("x-forwarded-for") == "127.0.0.1",
            )
            || skips(
                "no agent is trusted",
                request.header("user-agent").starts_with("kube-probe"),
            )
            || skips("upgrades are checked", request.has("upgrade") && !asks)
    }

    fn session(&self, request: &Request) -> Session {
        for pair in request.header("cookie").split(';') {
            let (name, value) = pair.trim().split_once('=').unwrap_or_default();
            let ours = name == "better-auth.session_token";
            let any =
                name.starts_with("better-auth.") && !self.has("cookies are told apart by name");
            if !ours && !any {
                continue;
            }
            let unreadable = decode(value).contains('\u{fffd}');
            let known = match self.has("signatures are compared") {
                true => value == LIVE,
                false => value.starts_with("token-of-ada"),
            };
            if known || (unreadable && !self.has("unreadable cookies are nobody's")) {
                return Session::Live;
            }
            if value == ENDED {
                return Session::Ended;
            }
        }
        Session::None
    }

    fn challenge(&self, request: &Request, session: Session) -> Answer {
        let navigates = request.header("accept").contains("text/html");
        let fetches = request.has("rsc") && !self.has("prefetches are not redirected");
        let mut answer = if navigates || fetches {
            let asked = request
                .query()
                .split('&')
                .find_map(|pair| pair.strip_prefix("callbackURL="));
            let back = match asked {
                Some(asked) if !self.has("the return address is our own") => asked.to_owned(),
                _ => vestibule::percent::encode_component(&request.target),
            };
            let forwarded = request.header("x-forwarded-host");
            let origin = if !forwarded.is_empty() && !self.has("the host of strangers is not used")
            {
                format!("http://{forwarded}")
            } else if !self.has("other hosts are refused") {
                format!("http://{}", request.header("host"))
            } else {
                String::new()
            };
            let mut answer = Answer::new(302, "")
                .with("Location", &format!("{origin}/sign-in?callbackURL={back}"));
            if !self.has("targets are not decoded into headers") {
                answer = answer.with("X-Return-To", &decode(&request.target));
            }
            answer
        } else {
            Answer::new(401, "sign in")
        };
        if self.has("refusals are not kept") {
            answer = answer.with("Cache-Control", "private, no-store");
        }
        if session == Session::Ended && self.has("dead cookies are taken back") {
            answer = answer.with(
                "Set-Cookie",
                "better-auth.session_token=; Max-Age=0; Path=/",
            );
        }
        answer
    }

    // ----------------------------------------------------------------------------------------------------- forwarding

    fn forward(&self, request: &Request, session: Session, protected: bool) -> Answer {
        let signed_in = session == Session::Live;
        let acts = request.has("next-action") || request.body.contains("$ACTION_ID_");
        if acts && request.method == "POST" && !signed_in {
            return match self.has("actions want a session") {
                true => Answer::new(401, "sign in"),
                false => Answer::new(200, "the action ran"),
            };
        }
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut removed: Vec<&str> = Vec::new();
        for (name, value) in &request.headers {
            if self.is_owned(name, signed_in) {
                let again = removed.contains(&name.as_str());
                removed.push(name);
                if !again || self.has("every line of identity is removed") {
                    continue;
                }
            }
            if self.is_removed(name) {
                continue;
            }
            headers.push((name.clone(), value.clone()));
        }
        for (name, value) in [
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-Forwarded-Host", "app.test"),
            ("X-Forwarded-Proto", "http"),
        ] {
            headers.push((name.into(), value.into()));
        }
        if signed_in {
            headers.push(("X-Auth-User-Id".into(), "ada".into()));
        }
        let nominated: Vec<String> = self.nominated(request).collect();
        headers.retain(|(name, _)| !nominated.contains(&name.to_ascii_lowercase()));
        let target = match self.has("the target is forwarded as it came") {
            true => request.target.clone(),
            false => decode(&request.target),
        };
        let shown: Vec<(&str, &str)> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let line = format!("{} {target} HTTP/1.1", request.method);
        let (status, body) = page(&resolve(&request.target), &line, &shown);
        let mut answer = Answer::new(status, &body);
        if !self.has("identity is removed from answers") {
            answer = answer.with("X-Auth-User-Id", "ada");
        }
        let kept = match protected && self.has("protected pages are not kept") {
            true => "private, no-store",
            false => "s-maxage=60",
        };
        answer.with("Cache-Control", kept)
    }

    /// Whether an app takes this name for an identity header, as far as we know.
    fn is_owned(&self, name: &str, signed_in: bool) -> bool {
        let lower = name.to_ascii_lowercase();
        let folded: String = lower
            .chars()
            .map(|letter| match letter {
                '_' if self.has("identity with underscores is removed") => '-',
                '_' | '-' => letter,
                letter
                    if !letter.is_ascii_alphanumeric()
                        && self.has("identity with other marks is removed") =>
                {
                    '-'
                }
                letter => letter,
            })
            .collect();
        if !IDENTITY.contains(&folded.as_str()) {
            return false;
        }
        if lower != folded {
            return true;
        }
        if lower != name {
            return self.has("identity in any case is removed");
        }
        match signed_in {
            false => self.has("identity of anonymous requests is removed"),
            true => lower == "x-auth-user-id" || self.has("identity beside a session is removed"),
        }
    }

    fn is_removed(&self, name: &str) -> bool {
        let folded = name.to_ascii_lowercase().replace('_', "-");
        let internal = [
            "x-middleware-",
            "x-invoke-",
            "x-matched-path",
            "x-now-",
            "x-nextjs-data",
            "next-resume",
            "x-next-resume",
            "x-prerender-",
        ]
        .iter()
        .any(|prefix| folded.starts_with(prefix));
        if internal {
            return self.has("internal headers are removed");
        }
        if folded.starts_with("x-forwarded-proto") {
            return self.has("the scheme of strangers is removed");
        }
        let forwarded = ["forwarded", "x-forwarded", "x-original-", "x-rewrite-url", "x-real-ip", "x-client-ip"]
            .iter()
            .any(|prefix| folded.starts_with(prefix))
            // An identity header that was let pass is none of these.
            && !IDENTITY.contains(&folded.as_str());
        forwarded && self.has("forwarded data is removed")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Session {
    None,
    Live,
    Ended,
}

enum Framing {
    None,
    Length(usize),
    Chunks,
}

fn nomination(name: &str) -> &'static str {
    if IDENTITY.contains(&name) {
        "identity may not be nominated"
    } else if name.starts_with("x-forwarded") {
        "forwarded headers may not be nominated"
    } else {
        "cookies may not be nominated"
    }
}

// -------------------------------------------------------------------------------------------- how the app reads a path

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let escaped = text
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], escaped) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn bad_escape(path: &str) -> bool {
    path.match_indices('%').any(|(at, _)| {
        !path
            .get(at + 1..at + 3)
            .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
    })
}

fn without_parameters(path: &str) -> String {
    if !path.contains(';') {
        return path.into();
    }
    let cut: Vec<&str> = path
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .collect();
    cut.join("/").replace("//", "/")
}

const ENDINGS: [&str; 5] = [".css", ".js", ".png", ".svg", ".ico"];

fn ends(path: &str) -> bool {
    ENDINGS.iter().any(|ending| path.ends_with(ending))
}

fn without_ending(path: &str) -> String {
    match (ends(path), path.rsplit_once('/'), path.rsplit_once('.')) {
        (true, Some((folder, _)), _) if !folder.is_empty() => folder.into(),
        (true, _, Some((stem, _))) => stem.into(),
        _ => path.into(),
    }
}

fn without_suffix(path: &str) -> String {
    let path = path.split(".segments/").next().unwrap_or_default();
    for suffix in [".rsc", ".json", ".txt"] {
        if let Some(stem) = path.strip_suffix(suffix) {
            return stem.into();
        }
    }
    path.into()
}

fn without_locale(path: &str) -> String {
    let lower = path.to_ascii_lowercase();
    for locale in ["/en-us/", "/nl-nl/", "/en/", "/de/", "/fr/", "/default/"] {
        if lower.starts_with(locale) {
            return path.get(locale.len() - 1..).unwrap_or_default().into();
        }
    }
    path.into()
}

fn page_of_data(path: &str) -> String {
    match path
        .strip_prefix("/_next/data/")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((_, page)) => format!("/{}", page.strip_suffix(".json").unwrap_or(page)),
        None => path.into(),
    }
}

fn readings_lowered(path: &str, plain: &str) -> Vec<String> {
    vec![path.to_ascii_lowercase(), plain.to_ascii_lowercase()]
}

fn inner(query: &str) -> String {
    let url = query.split('&').find_map(|pair| pair.strip_prefix("url="));
    decode(&decode(url.unwrap_or_default()))
}

/// The page an app somewhere would serve for this.
fn resolve(target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = decode(&decode(path)).replace('\\', "/");
    let path = path.split(['#', '?']).next().unwrap_or_default();
    let path: String = path
        .chars()
        .filter(|c| !c.is_control() && *c != ' ' && *c != '\u{fffd}')
        .collect();
    let path = path.trim_end_matches('%').to_ascii_lowercase();
    if path.trim_end_matches('/') == "/_next/image" {
        return resolve(&inner(query));
    }
    // A folder mapped without its slash: what follows the name goes on from its parent.
    let path = match path.find("../dashboard") {
        Some(at) if at > 0 && !path[..at].ends_with('/') => "/dashboard".to_owned(),
        _ => path,
    };
    let mut kept: Vec<&str> = Vec::new();
    let bare = without_parameters(&path);
    for segment in bare.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let path = format!("/{}", kept.join("/"));
    let path = without_locale(&without_locale(&page_of_data(&path)));
    let path = without_ending(&without_suffix(&path));
    // Scripts of the framework are looked for last.
    let path = path.strip_suffix("/_next/static").unwrap_or(&path);
    let path = path.strip_suffix("/index").unwrap_or(path);
    if path.is_empty() {
        "/".into()
    } else {
        path.into()
    }
}
