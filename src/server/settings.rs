//! How the gateway listens, forwards and stops.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::secret::Secret;

/// How the gateway listens, forwards and stops.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses of the public listener (`listen`).
    pub listen: Vec<SocketAddr>,
    /// Address of the admin listener (`admin`); none switches it off.
    pub admin: Option<SocketAddr>,
    /// Bearer token the admin listener asks for (`admin_token`).
    pub admin_token: Option<Secret>,
    /// `public_url`: scheme, host and port as browsers see them, without path.
    pub public_url: String,
    /// Hosts that are answered, lower-case, without port (`hosts`); `*.example.com` matches one label or more.
    pub hosts: Vec<String>,
    /// Peers whose `X-Forwarded-*` count (`trusted_proxies`).
    pub trusted_proxies: Vec<IpNet>,
    /// Threads of the proxy (`threads`); `None`: as many as cores.
    pub threads: Option<usize>,
    /// Certificate and key files (`[tls]`): with them the public listener speaks TLS and HTTP/2.
    pub tls: Option<Tls>,
    /// `[upstream]` first, then `[upstreams.*]`.
    pub upstreams: Vec<Upstream>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// Origins that may read answers the gateway makes itself (`cors.origins`).
    pub cors_origins: Vec<String>,
    /// Proxies that may ask about requests (`[forward_auth]`); none: nobody may.
    pub forward_auth: Option<super::verify::Settings>,
}

/// Certificate and key, PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// `tls.cert`: the chain.
    pub cert: PathBuf,
    /// `tls.key`.
    pub key: PathBuf,
}

/// One app server, with one or several addresses.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// `app` for `[upstream]`, else the name of the table.
    pub name: String,
    /// `url` or `urls`: `http://host:port` or `https://host:port`, no path.
    pub addresses: Vec<UpstreamAddress>,
    /// `health.path`: asked with GET; 2xx and 3xx are healthy. Without it, a TCP connection is the check. Only used with several addresses.
    pub health_path: Option<String>,
    /// `health.interval`.
    pub health_interval: Duration,
    /// `connect_timeout`.
    pub connect_timeout: Duration,
    /// `first_byte_timeout`: from the end of the request to the first byte of the answer, and between two reads of its body
    /// unless it is an event stream or a WebSocket.
    pub first_byte_timeout: Duration,
    /// `write_timeout`: of one write toward the app.
    pub write_timeout: Duration,
    /// `idle_timeout`: how long an unused connection is kept. Below Node's own 5 s, else a POST races its close.
    pub idle_timeout: Duration,
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAddress {
    /// Host name or IP.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether to speak TLS to it.
    pub tls: bool,
}

/// `[limits]`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `header_bytes`: request head in all; 431 above.
    pub header_bytes: usize,
    /// `target_bytes`: path and query; 414 above.
    pub target_bytes: usize,
    /// `body_bytes`: request body; 413 above. Zero: no limit.
    pub body_bytes: u64,
    /// `connections_idle`: unused connections to upstreams kept in all.
    pub connections_idle: usize,
}

/// `[timeouts]`.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// `idle`: between two requests of one client connection.
    pub idle: Duration,
    /// `body_read`: between two reads of a request body.
    pub body_read: Duration,
    /// `response_write`: one write toward the client.
    pub response_write: Duration,
    /// `tunnel_idle`: silence after which a WebSocket or event stream is closed.
    pub tunnel_idle: Duration,
    /// `stop`: how long requests in flight may go on once asked to stop.
    pub stop: Duration,
}
