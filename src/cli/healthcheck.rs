//! `vestibule healthcheck`: one question to the admin listener, for containers without `curl`.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use url::Url;

use super::{DONE, Edges, Failure, Given, UNREACHABLE, USAGE, World};

/// How long the answer may take in all. Orchestrators themselves give up after a few seconds.
const DEADLINE: Duration = Duration::from_secs(2);
/// As much of the answer as holds its status line.
const ANSWER_BYTES_MAX: usize = 256;

/// Arguments of `healthcheck`.
#[derive(Debug, clap::Args)]
pub struct Healthcheck {
    /// The configuration, for the address of the admin listener.
    #[command(flatten)]
    pub given: Given,
    /// Ask here instead, and read no configuration.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

impl Healthcheck {
    /// Asks whether the gateway is ready.
    ///
    /// # Errors
    /// When it is not, or does not answer.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let (address, host, target) = match &self.url {
            Some(url) => from_url(url)?,
            None => match self.given.load(world, edges)? {
                Ok(loaded) => from_admin(loaded.config.server.admin)?,
                Err(problems) => {
                    let style = world.style();
                    world.complain(&problems.render(style));
                    return Ok(USAGE);
                }
            },
        };
        let status = ask(address, &host, &target)
            .map_err(|error| not_ready(format!("{address} does not answer: {error}")))?;
        if status == 200 {
            world.say("ready\n");
            return Ok(DONE);
        }
        Err(not_ready(format!("{address} answers {status}")))
    }
}

fn not_ready(message: String) -> Failure {
    Failure {
        message,
        advice: "`/readyz?verbose` on the admin listener says what is missing".into(),
        code: UNREACHABLE,
    }
}

fn usage(message: &str, advice: &str) -> Failure {
    Failure {
        message: message.into(),
        advice: advice.into(),
        code: USAGE,
    }
}

pub(super) fn from_admin(
    admin: Option<SocketAddr>,
) -> Result<(SocketAddr, String, String), Failure> {
    let mut address = admin.ok_or_else(|| {
        usage(
            "the admin listener is off",
            "set `admin`, or ask elsewhere with `--url`",
        )
    })?;
    // "Everywhere" is an address to listen on, not one to ask.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok((address, address.to_string(), "/readyz".into()))
}

fn from_url(text: &str) -> Result<(SocketAddr, String, String), Failure> {
    let wrong = || {
        usage(
            "`--url` wants a plain http address",
            "as in `--url http://127.0.0.1:8081/readyz`",
        )
    };
    let url = Url::parse(text)
        .ok()
        .filter(|url| url.scheme() == "http")
        .ok_or_else(wrong)?;
    let host = url.host_str().ok_or_else(wrong)?;
    let port = url.port_or_known_default().ok_or_else(wrong)?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let address = (name, port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .ok_or_else(|| not_ready(format!("{host} has no address")))?;
    let path = if url.path() == "/" {
        "/readyz"
    } else {
        url.path()
    };
    let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
    Ok((address, format!("{host}:{port}"), format!("{path}{query}")))
}

/// The status of one GET, or what went wrong; never later than the deadline.
fn ask(address: SocketAddr, host: &str, target: &str) -> std::io::Result<u16> {
    let end = Instant::now() + DEADLINE;
    let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let left = || {
        end.checked_duration_since(Instant::now())
            .filter(|d| !d.is_zero())
            .ok_or_else(late)
    };
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_write_timeout(Some(left()?))?;
    // In one piece: formatting straight into a socket sends a packet for every part.
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; ANSWER_BYTES_MAX];
    while !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
        stream.set_read_timeout(Some(left()?))?;
        let read = stream.read(&mut piece)?;
        if read == 0 {
            break;
        }
        answer.extend(piece.iter().take(read));
    }
    let line = String::from_utf8_lossy(&answer);
    let mut words = line.split_ascii_whitespace();
    words
        .next()
        .filter(|version| version.starts_with("HTTP/1."))
        .and(words.next())
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "this is no HTTP"))
}
