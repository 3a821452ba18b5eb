//! The Node server behind the gateway (`upstream.mjs`), and what it says it read.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support::exchange;

/// A running server. It ends when its standard input does, so also when this process is gone, however it went.
pub struct Node {
    /// Where the gateway sends requests.
    pub app: SocketAddr,
    control: SocketAddr,
    child: Child,
    input: Option<ChildStdin>,
}

/// What was read since it was last asked for.
#[derive(Debug, Deserialize)]
pub struct Taken {
    pub records: Vec<Record>,
}

/// One thing that arrived.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    Request(Read),
    Upgrade(Read),
    Connect(Read),
    /// Bytes that Node's parser took for no request.
    Refused {
        code: Option<String>,
    },
}

/// A request as Node's parser read it; texts hold one letter for each byte.
#[derive(Clone, Debug, Deserialize)]
pub struct Read {
    pub method: String,
    pub target: String,
    /// Line by line.
    pub headers: Vec<(String, String)>,
    /// As an app looks them up.
    pub joined: serde_json::Map<String, Value>,
    pub body: String,
    /// Whether it came to its end.
    pub whole: bool,
    #[serde(default)]
    pub trailers: Vec<(String, String)>,
}

impl Read {
    /// All values of a header, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

impl Record {
    /// The request, whatever became of it; `None` for what was none.
    pub fn read(&self) -> Option<&Read> {
        match self {
            Self::Request(read) | Self::Upgrade(read) | Self::Connect(read) => Some(read),
            Self::Refused { .. } => None,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

impl Node {
    pub fn start() -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpora/upstream.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is installed");
        let input = child.stdin.take().expect("its input");
        let output = child.stdout.take().expect("its output");
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it says its ports");
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let port = |name: &str| {
            let port = said[name]
                .as_u64()
                .and_then(|port| u16::try_from(port).ok());
            let port = port.unwrap_or_else(|| panic!("the upstream did not start: {line}"));
            SocketAddr::from(([127, 0, 0, 1], port))
        };
        Self {
            app: port("app"),
            control: port("control"),
            child,
            input: Some(input),
        }
    }

    /// What it read since it was last asked.
    pub fn take(&self) -> Vec<Record> {
        self.ask::<Taken>("/take", "").records
    }

    /// The origin a reference leads to from a base, by Node's own URL; `None` when it is no URL.
    pub fn origins(&self, questions: &[(&str, &str)]) -> Vec<Option<String>> {
        self.ask("/resolve", &serde_json::json!(questions).to_string())
    }

    /// The paths of targets by Node's own URL, as they are and decoded once; `None` where there is none.
    pub fn pages(&self, targets: &[&str]) -> Vec<Option<(String, String)>> {
        self.ask("/pages", &serde_json::json!(targets).to_string())
    }

    fn ask<T: DeserializeOwned>(&self, what: &str, body: &str) -> T {
        let head = format!(
            "POST {what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(self.control, head.as_bytes());
        serde_json::from_slice(&answer.body)
            .unwrap_or_else(|error| panic!("{what}: {error}: {}", answer.text()))
    }
}
