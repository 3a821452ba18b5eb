//! A real Better Auth server as a child process, and a browser's memory of the cookies it sets.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::{Value, json};
use vestibule::percent;

use crate::support::{Answer, connect, exchange_on};

/// What every user of the tests signs in with.
pub const PASSWORD: &str = "correct horse battery staple";

/// A running server. It ends when its standard input does, so also when this process is gone, however it went.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    input: Option<ChildStdin>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts one with this configuration (see `oracle/server.mjs`).
    pub fn start(configuration: &Value) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/differential/oracle");
        assert!(
            folder.join("node_modules/better-auth").is_dir(),
            "this test needs a real Better Auth: run `scripts/oracle` (scripts/test does)"
        );
        let mut child = Command::new("node")
            .arg("server.mjs")
            .current_dir(&folder)
            // What this shell happens to hold must not configure it.
            .env_remove("BETTER_AUTH_SECRET")
            .env_remove("BETTER_AUTH_SECRETS")
            .env_remove("BETTER_AUTH_URL")
            .env_remove("AUTH_SECRET")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is installed");
        let mut input = child.stdin.take().expect("its input");
        let output = child.stdout.take().expect("its output");
        writeln!(input, "{configuration}").expect("it reads its configuration");
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it says its port");
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let port = said["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_else(|| panic!("Better Auth did not start: {said}"));
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            child,
            input: Some(input),
        }
    }

    /// Asks what only the test may ask.
    pub fn ask(&self, what: &str, mut with: Value) -> Value {
        with["ask"] = what.into();
        let answer = request(self.address, "POST", "/oracle", &[], Some(&with));
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        assert_eq!(answer.status, 200, "{what} {with}: {said}");
        said["answer"].clone()
    }

    /// Runs one statement on the server's database.
    pub fn sql(&self, statement: &str) -> Value {
        self.ask("sql", json!({ "sql": statement }))
    }
}

/// One request of a client that says where it comes from, as a browser would.
pub fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Answer {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: app.test\r\n");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("origin"))
    {
        head.push_str("origin: http://app.test\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        head.push_str(&format!(
            "content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        ));
    }
    exchange_on(
        &mut connect(address),
        format!("{head}\r\n{body}").as_bytes(),
    )
}

/// A browser: sends the cookies it was given.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    /// Values as they were set, still percent-encoded.
    pub cookies: BTreeMap<String, String>,
    /// Every credential it was ever handed, also those taken back since, as `(cookie, value)`.
    pub seen: Vec<(String, String)>,
    /// The last `set-auth-token`.
    pub token: Option<String>,
    /// The last `set-auth-jwt`.
    pub jwt: Option<String>,
}

impl Browser {
    /// Signs a new user up.
    pub fn sign_up(at: SocketAddr, name: &str) -> Self {
        let mut browser = Self::default();
        let body =
            json!({ "name": name, "email": format!("{name}@example.com"), "password": PASSWORD });
        let answer = browser.post(at, "/sign-up/email", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        browser
    }

    /// Signs a user in.
    pub fn sign_in(at: SocketAddr, name: &str, remember: bool) -> Self {
        let mut browser = Self::default();
        let answer = browser.sign_in_here(at, name, remember);
        assert_eq!(answer.status, 200, "{}", answer.text());
        browser
    }

    /// Signs a user in, in this browser.
    pub fn sign_in_here(&mut self, at: SocketAddr, name: &str, remember: bool) -> Answer {
        let body = json!({ "email": format!("{name}@example.com"), "password": PASSWORD, "rememberMe": remember });
        self.post(at, "/sign-in/email", &body)
    }

    /// Posts to one of the auth endpoints.
    pub fn post(&mut self, at: SocketAddr, endpoint: &str, body: &Value) -> Answer {
        self.send(at, "POST", &format!("/api/auth{endpoint}"), Some(body))
    }

    /// Posts, and expects to be obeyed.
    pub fn done(&mut self, at: SocketAddr, endpoint: &str, body: &Value) -> Value {
        let answer = self.post(at, endpoint, body);
        assert_eq!(answer.status, 200, "{endpoint}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// Gets any page.
    pub fn get(&mut self, at: SocketAddr, target: &str) -> Answer {
        self.send(at, "GET", target, None)
    }

    fn send(&mut self, at: SocketAddr, method: &str, target: &str, body: Option<&Value>) -> Answer {
        let cookies = self.header();
        let mut headers = Vec::new();
        if !cookies.is_empty() {
            headers.push(("cookie", cookies.as_str()));
        }
        let answer = request(at, method, target, &headers, body);
        self.remember(&answer);
        answer
    }

    /// The `Cookie` header.
    pub fn header(&self) -> String {
        let pairs = self.cookies.iter();
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    /// Takes in what an answer hands out.
    pub fn remember(&mut self, answer: &Answer) {
        for line in answer.all("set-cookie") {
            let mut parts = line.split("; ");
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            if value.is_empty() || parts.any(|part| part == "Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.into(), value.into());
                self.seen.push((name.into(), value.into()));
            }
        }
        if let Some(token) = answer.header("set-auth-token") {
            self.token = Some(token.into());
        }
        if let Some(jwt) = answer.header("set-auth-jwt") {
            self.jwt = Some(jwt.into());
        }
    }

    /// The value of its session cookie, decoded: token, dot, signature.
    pub fn signed(&self) -> String {
        let found = self
            .cookies
            .iter()
            .find(|(name, _)| name.ends_with("session_token"));
        let (_, value) = found.expect("it is signed in");
        decoded(value)
    }

    /// Its session token.
    pub fn session_token(&self) -> String {
        let signed = self.signed();
        let (token, _) = signed.split_once('.').expect("a dot");
        token.to_owned()
    }
}

/// A cookie's value, decoded.
pub fn decoded(value: &str) -> String {
    let bytes = percent::decode(value.as_bytes()).expect("escapes the framework wrote");
    String::from_utf8(bytes.into_owned()).expect("text")
}

/// A connection that is opened again when the other side has closed it.
pub struct Line {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Line {
    pub fn to(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
        }
    }

    /// Sends these very bytes and reads the answer.
    pub fn exchange(&mut self, bytes: &[u8]) -> Answer {
        // A kept connection may have been closed since: then, and only then, the request goes out once more.
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
            if !closes && matches!(answer.status, 200 | 401) && answer.rest.is_empty() {
                self.stream = Some(stream);
            }
            return answer;
        }
        unreachable!("the second attempt returns")
    }
}
