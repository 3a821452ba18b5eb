//! What the tests stand on: an app that says what it saw, a store that does what it is told, and a gateway between them.

pub mod databases;
pub mod keys;
pub mod naive;
pub mod protocols;
pub mod redis;
pub mod seeds;
pub mod tls;
pub mod vendors;
pub mod wire;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use vestibule::api_key::{self, ApiKeys};
use vestibule::authenticator;
use vestibule::credential::names;
use vestibule::credential::signature::Signer;
use vestibule::identity;
use vestibule::policy::{Conditions, Need, Rule, redirect};
use vestibule::route::{self, RouteSpec, RouteTable, SourceSpec};
use vestibule::secret::Secret;
use vestibule::server::run::{self, Parts, Running};
use vestibule::server::{Limits, Settings, Timeouts, Upstream, UpstreamAddress};
use vestibule::session::{self, BoxFuture, Freshness, Record, Source, SourceError};
use vestibule::telemetry;
use vestibule::time::{Clock, ManualClock, UnixMs};

pub const SECRET: &str = "a secret of the tests, forty-two letters long";
pub const NOW: UnixMs = UnixMs(1_795_000_000_000);

/// Waits at most this long for anything; only a failing test gets there.
pub const PATIENCE: Duration = Duration::from_secs(20);

// ---------------------------------------------------------------------------------------------------------------- the app

/// One request as the app saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    /// All values of a header, by its exact (lower-cased) name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// What the app does with a request: writes the whole answer itself.
pub type Script = dyn Fn(&Seen, &mut TcpStream) + Send + Sync;

/// An app on a free port that records what it saw.
pub struct App {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl App {
    /// Answers everything with 200 and a small body.
    pub fn start() -> Self {
        Self::scripted(|_, stream| reply(stream, 200, &[("content-type", "text/plain")], b"app"))
    }

    pub fn scripted(script: impl Fn(&Seen, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (script, record): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&seen));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, record) = (Arc::clone(&script), Arc::clone(&record));
                thread::spawn(move || serve(stream, &*script, &record));
            }
        });
        Self { address, seen }
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.seen.lock().expect("not poisoned").len()
    }

    /// The last request; panics when there was none.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the app saw a request")
    }
}

fn serve(mut stream: TcpStream, script: &Script, record: &Mutex<Vec<Seen>>) {
    let mut buffer = Vec::new();
    loop {
        let Some(end) = read_until_head(&mut stream, &mut buffer) else {
            return;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut seen = Seen {
            line,
            headers,
            body: Vec::new(),
        };
        if let Some(length) = seen
            .header("content-length")
            .and_then(|text| text.parse::<usize>().ok())
        {
            while buffer.len() < length {
                if !read_more(&mut stream, &mut buffer) {
                    break;
                }
            }
            seen.body = buffer.drain(..length.min(buffer.len())).collect();
        } else if seen.header("transfer-encoding").is_some() {
            seen.body = read_chunked(&mut stream, &mut buffer);
        }
        record.lock().expect("not poisoned").push(seen.clone());
        script(&seen, &mut stream);
        if seen.header("upgrade").is_some() {
            return;
        }
    }
}

fn read_chunked(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let at = loop {
            if let Some(at) = buffer.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            if !read_more(stream, buffer) {
                return body;
            }
        };
        let size =
            usize::from_str_radix(String::from_utf8_lossy(&buffer[..at]).trim(), 16).unwrap_or(0);
        while buffer.len() < at + 2 + size + 2 {
            if !read_more(stream, buffer) {
                return body;
            }
        }
        body.extend_from_slice(&buffer[at + 2..at + 2 + size]);
        buffer.drain(..at + 2 + size + 2);
        if size == 0 {
            return body;
        }
    }
}

fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece) {
        Ok(0) | Err(_) => false,
        Ok(read) => {
            buffer.extend_from_slice(&piece[..read]);
            true
        }
    }
}

fn read_until_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            return Some(at + 4);
        }
        if !read_more(stream, buffer) {
            return None;
        }
    }
}

/// Writes a whole answer with a length.
pub fn reply(stream: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &[u8]) {
    let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    // In one piece: two small ones would wait for each other's acknowledgement.
    let mut whole = head.into_bytes();
    whole.extend_from_slice(body);
    let _ = stream.write_all(&whole);
}

// -------------------------------------------------------------------------------------------------------------- the store

/// A store in memory that counts, and fails or waits when told to.
#[derive(Default)]
pub struct Store {
    rows: Mutex<HashMap<String, Record>>,
    asked: AtomicUsize,
    failing: Mutex<bool>,
    gate: (Mutex<bool>, Condvar),
    released: tokio::sync::Notify,
}

impl Store {
    pub fn put(&self, record: Record) {
        self.rows
            .lock()
            .expect("not poisoned")
            .insert(record.token.expose().to_owned(), record);
    }

    pub fn remove(&self, token: &str) {
        self.rows.lock().expect("not poisoned").remove(token);
    }

    /// Lookups so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// From now on every lookup fails, or none does.
    pub fn fail(&self, failing: bool) {
        *self.failing.lock().expect("not poisoned") = failing;
    }

    /// Lookups from now on wait until `release`.
    pub fn hold(&self) {
        *self.gate.0.lock().expect("not poisoned") = true;
    }

    pub fn release(&self) {
        *self.gate.0.lock().expect("not poisoned") = false;
        self.released.notify_waiters();
    }

    fn is_held(&self) -> bool {
        *self.gate.0.lock().expect("not poisoned")
    }

    /// Waits until `count` lookups were asked for.
    pub fn await_asked(&self, count: usize) {
        await_until("the store to be asked", || self.asked() >= count);
    }
}

impl Source for Store {
    fn name(&self) -> &'static str {
        "test"
    }

    fn find<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let row = self.rows.lock().expect("not poisoned").get(token).cloned();
            loop {
                let released = self.released.notified();
                if !self.is_held() {
                    break;
                }
                released.await;
            }
            if *self.failing.lock().expect("not poisoned") {
                return Err(SourceError::Unreachable {
                    source_name: "test",
                    cause: "told to fail".into(),
                });
            }
            Ok(row)
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            match *self.failing.lock().expect("not poisoned") {
                true => Err(SourceError::Unreachable {
                    source_name: "test",
                    cause: "told to fail".into(),
                }),
                false => Ok(()),
            }
        })
    }
}

/// A live session of `user`, whose token is `token`, signed in a minute before [`NOW`].
pub fn record(token: &str, user: &str) -> Record {
    Record {
        session_id: format!("session-{token}").into(),
        token: Secret::new(token),
        expires_at: UnixMs(NOW.0 + 7 * 86_400_000),
        created_at: Some(UnixMs(NOW.0 - 60_000)),
        updated_at: Some(UnixMs(NOW.0 - 60_000)),
        impersonated_by: None,
        organization_id: None,
        organization_role: None,
        user_id: user.into(),
        email: Some(format!("{user}@example.com").into()),
        email_verified: false,
        name: Some(user.into()),
        role: Some("user".into()),
        banned: false,
        ban_expires: None,
        team_id: None,
        document: None,
    }
}

/// The cookie header of a signed session token.
pub fn cookie(token: &str) -> String {
    format!(
        "better-auth.session_token={}",
        Signer::new(&Secret::new(SECRET)).issue(token)
    )
}

// ------------------------------------------------------------------------------------------------------------ the gateway

/// A gateway on a free port, in front of an app, with a store and a clock of its own.
pub struct Gateway {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub store: Arc<Store>,
    pub clock: Arc<ManualClock>,
    pub running: Running,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.store.release();
        self.running.stop();
    }
}

/// What a test may change before the gateway starts.
pub struct Setup {
    pub server: Settings,
    pub routes: route::Settings,
    /// Kinds of credential.
    pub authenticator: authenticator::Settings,
    /// Where keys of tokens are published.
    pub keys: run::KeySources,
    pub sessions: session::Settings,
    /// API keys: how they are set up, and where they are kept.
    pub api_keys: Option<(api_key::Settings, Arc<dyn ApiKeys>)>,
    pub revocation: vestibule::server::line::Settings,
    pub cookies: names::Settings,
    pub identity: identity::Settings,
    pub pages: redirect::Settings,
    /// Who extends sessions.
    pub sliding: Option<vestibule::server::slide::Settings>,
    /// Whether get-session is answered at the door.
    pub door: Option<vestibule::server::door::Settings>,
    /// How users are moved in, made anew for every try to start.
    pub migration: Option<MakeMigration>,
    /// What the app signs with.
    pub secret: Secret,
    /// The app's folder, where its build is known.
    pub app_folder: Option<std::path::PathBuf>,
    /// What the app's build says.
    pub build: Option<vestibule::app::App>,
}

pub type MakeMigration = Arc<dyn Fn() -> vestibule::server::migration::Parts>;

/// A port that was free a moment ago. Who is told its port cannot be told by us which one it got, so these lie below those the system
/// gives out: nothing that asks for "any port" takes one in between. A node of a Redis cluster adds 10,000 for its own port.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let turn = std::process::id()
            .wrapping_mul(61)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + (turn % 10_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub const fn rule(need: Need) -> Rule {
    Rule {
        need,
        freshness: Freshness::Cached,
    }
}

pub fn signed_in() -> Rule {
    rule(Need::SignedIn(Conditions::default()))
}

/// A route with one source and rule.
pub fn route(source: &str, rule: Rule) -> RouteSpec {
    RouteSpec {
        sources: vec![SourceSpec {
            source: source.into(),
            locale: true,
            ..SourceSpec::default()
        }],
        methods: Vec::new(),
        hosts: Vec::new(),
        upstream: 0,
        rule,
        app_caches: false,
        line: None,
    }
}

impl Setup {
    /// Everything needs a session, but for `/`, `/public/…`, the sign-in page (for guests) and what is always reachable; `/admin/…`
    /// needs the role; `/strict/…` asks the store; `/optional/…` does not mind.
    pub fn in_front_of(app: SocketAddr) -> Self {
        let admin = Conditions {
            role: vec!["admin".into()],
            ..Conditions::default()
        };
        let strict = Rule {
            need: Need::SignedIn(Conditions::default()),
            freshness: Freshness::Strict,
        };
        let [public, private] = [(); 2].map(|()| free_port());
        Self {
            server: Settings {
                listen: vec![SocketAddr::from(([127, 0, 0, 1], public))],
                admin: Some(SocketAddr::from(([127, 0, 0, 1], private))),
                admin_token: Some(Secret::new("admin token of the tests")),
                public_url: "http://app.test".into(),
                hosts: vec!["app.test".into()],
                trusted_proxies: Vec::new(),
                threads: Some(2),
                tls: None,
                upstreams: vec![Upstream {
                    name: "app".into(),
                    addresses: vec![UpstreamAddress {
                        host: app.ip().to_string(),
                        port: app.port(),
                        tls: false,
                    }],
                    health_path: None,
                    health_interval: Duration::from_secs(5),
                    connect_timeout: Duration::from_secs(2),
                    first_byte_timeout: Duration::from_secs(30),
                    write_timeout: Duration::from_secs(30),
                    idle_timeout: Duration::from_secs(4),
                }],
                limits: Limits {
                    header_bytes: 32 * 1024,
                    target_bytes: 8 * 1024,
                    body_bytes: 1024 * 1024,
                    connections_idle: 64,
                },
                timeouts: Timeouts {
                    idle: Duration::from_secs(60),
                    body_read: Duration::from_secs(30),
                    response_write: Duration::from_secs(30),
                    tunnel_idle: Duration::from_secs(600),
                    stop: Duration::from_secs(5),
                },
                cors_origins: Vec::new(),
                forward_auth: None,
            },
            routes: route::Settings {
                nextjs: vestibule::app::NextJs::default(),
                routes: vec![
                    route("/", rule(Need::Public)),
                    route("/public/:path*", rule(Need::Public)),
                    route("/optional/:path*", rule(Need::Optional)),
                    route("/sign-in", rule(Need::Guest)),
                    route("/admin/:path*", rule(Need::SignedIn(admin))),
                    route("/strict/:path*", strict),
                    route("/closed/:path*", rule(Need::Deny)),
                ],
                default: signed_in(),
                default_upstream: 0,
                same_app: Vec::new(),
                auth_base_path: "/api/auth".into(),
                auth_upstream: 0,
                sign_in_path: Some("/sign-in".into()),
                dev: false,
            },
            authenticator: authenticator::Settings::default(),
            keys: run::KeySources::default(),
            sessions: session::Settings {
                cache_ttl: Duration::from_secs(30),
                negative_ttl: Duration::from_secs(5),
                entries_max: 1000,
                bytes_max: 16 * 1024 * 1024,
                negative_max: 1000,
                enforce_bans: false,
            },
            api_keys: None,
            revocation: vestibule::server::line::Settings::default(),
            cookies: names::Settings {
                base_url: Some("http://app.test".into()),
                ..names::Settings::default()
            },
            identity: identity::Settings {
                preset: "vestibule",
                assertion: true,
                issuer: "http://app.test".into(),
                audience: "http://app.test".into(),
                lifetime: Duration::from_secs(60),
                key: None,
            },
            pages: redirect::Settings {
                sign_in: "/sign-in".into(),
                return_param: "callbackURL".into(),
                signed_in_home: "/dashboard".into(),
                forbidden: None,
                base_path: String::new(),
            },
            sliding: None,
            door: None,
            migration: None,
            app_folder: None,
            secret: Secret::new(SECRET),
            build: None,
        }
    }

    pub fn start(self) -> Gateway {
        let store = Arc::new(Store::default());
        let source = Arc::clone(&store) as Arc<dyn Source>;
        self.start_with(store, source)
    }

    /// Starts on exactly the addresses of the settings, or says why not.
    pub fn try_start(self) -> Result<Gateway, run::StartError> {
        let (store, clock) = (Arc::new(Store::default()), Arc::new(ManualClock::at(NOW)));
        let gateway = self.assemble(Arc::clone(&store) as Arc<dyn Source>, Arc::clone(&clock));
        let running = run::start(gateway)?;
        Ok(Gateway {
            address: self.server.listen[0],
            admin: self.server.admin.expect("an admin listener"),
            store,
            clock,
            running,
        })
    }

    /// Starts with another source of sessions than the store in memory.
    pub fn start_from(self, source: Arc<dyn Source>) -> Gateway {
        self.start_with(Arc::default(), source)
    }

    fn start_with(mut self, store: Arc<Store>, source: Arc<dyn Source>) -> Gateway {
        let clock = Arc::new(ManualClock::at(NOW));
        // Somebody else may have taken the ports since they were found free: then others are tried.
        let running = (0..10)
            .find_map(|_| {
                let gateway = self.assemble(Arc::clone(&source), Arc::clone(&clock));
                match run::start(gateway) {
                    Ok(running) => Some(running),
                    Err(run::StartError::Listen { .. }) => {
                        let [listen, admin] = [(); 2].map(|()| free_port());
                        self.server.listen[0].set_port(listen);
                        self.server.admin = Some(SocketAddr::from(([127, 0, 0, 1], admin)));
                        None
                    }
                    Err(error) => panic!("{error}"),
                }
            })
            .expect("two free ports");
        Gateway {
            address: self.server.listen[0],
            admin: self.server.admin.expect("an admin listener"),
            store,
            clock,
            running,
        }
    }

    /// The gateway these make, not yet listening.
    pub fn assemble(
        &self,
        source: Arc<dyn Source>,
        clock: Arc<ManualClock>,
    ) -> vestibule::server::proxy::Gateway {
        let routes =
            RouteTable::build(&self.routes).unwrap_or_else(|problems| panic!("{problems:#?}"));
        if let Some(build) = &self.build {
            routes.know(Some(Arc::new(build.clone())));
        }
        if let Some(folder) = &self.app_folder {
            let files = vestibule::server::build::Folder(folder.clone());
            let app = vestibule::app::next::read(&files).expect("a build");
            routes.know(Some(Arc::new(app)));
        }
        run::assemble(
            Parts {
                app_folder: self.app_folder.clone(),
                server: self.server.clone(),
                auth_base_path: self.routes.auth_base_path.clone(),
                routes,
                cookies: self.cookies.clone(),
                secrets: vestibule::credential::secrets::Settings::single(self.secret.clone()),
                authenticator: self.authenticator.clone(),
                sessions: self.sessions.clone(),
                source,
                api_keys: self.api_keys.clone(),
                keys: self.keys.clone(),
                revocation: self.revocation.clone(),
                pages: self.pages.clone(),
                identity: self.identity.clone(),
                sliding: self.sliding.clone(),
                door: self.door,
                migration: self.migration.as_ref().map(|make| make()),
                telemetry: telemetry::Settings {
                    level: "info".into(),
                    json: false,
                    access: true,
                },
            },
            clock as Arc<dyn Clock>,
        )
        .expect("a gateway")
    }
}

impl Gateway {
    /// The usual gateway in front of `app`.
    pub fn in_front_of(app: &App) -> Self {
        Setup::in_front_of(app.address).start()
    }

    /// Sends bytes as they are on a connection of their own and reads all answers until the gateway closes or nothing more is due.
    pub fn raw(&self, bytes: impl AsRef<[u8]>) -> Answer {
        exchange(self.address, bytes.as_ref())
    }

    /// A GET with headers; `Host` is there already.
    pub fn get(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", target, headers, b"")
    }

    pub fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: app.test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.raw(bytes)
    }

    /// A document, as a browser asks for one.
    pub fn document(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![
            ("accept", "text/html"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        all.extend_from_slice(headers);
        self.get(target, &all)
    }
}

/// One answer off the wire.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What came after it on the same connection.
    pub rest: Vec<u8>,
}

impl Answer {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends bytes, reads one answer (by its length, chunks or the end of the connection).
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = connect(address);
    exchange_on(&mut stream, bytes)
}

/// The same on a connection that is open already.
pub fn exchange_on(stream: &mut TcpStream, bytes: &[u8]) -> Answer {
    // The gateway may refuse before it has read everything.
    let _ = stream.write_all(bytes);
    if bytes.starts_with(b"HEAD ") {
        read_answer_head(stream)
    } else {
        read_answer(stream)
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the gateway accepts");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a read timeout");
    stream
}

/// Reads one answer; a connection that ends before one is status 0.
pub fn read_answer(stream: &mut TcpStream) -> Answer {
    read(stream, true)
}

/// Reads the answer to a HEAD, which has no body whatever its length says.
pub fn read_answer_head(stream: &mut TcpStream) -> Answer {
    read(stream, false)
}

/// Whether the other side has closed; waits until it has, or has something to say.
pub fn is_closed(stream: &mut TcpStream) -> bool {
    let mut one = [0];
    !matches!(stream.read(&mut one), Ok(1))
}

fn read(stream: &mut TcpStream, body: bool) -> Answer {
    let mut buffer = Vec::new();
    let Some(end) = read_until_head(stream, &mut buffer) else {
        return Answer {
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
            rest: buffer,
        };
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end);
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
        rest: Vec::new(),
    };
    if !body || (100..200).contains(&status) || matches!(status, 204 | 304) {
        answer.rest = buffer;
    } else if answer.header("transfer-encoding").is_some() {
        answer.body = read_chunked(stream, &mut buffer);
        answer.rest = buffer;
    } else if let Some(length) = answer
        .header("content-length")
        .and_then(|text| text.parse::<usize>().ok())
    {
        while buffer.len() < length {
            if !read_more(stream, &mut buffer) {
                break;
            }
        }
        answer.body = buffer.drain(..length.min(buffer.len())).collect();
        answer.rest = buffer;
    } else {
        while read_more(stream, &mut buffer) {}
        answer.body = buffer;
    }
    answer
}

/// Waits until something holds; a test that gets to the end of its patience fails.
pub fn await_until(what: &str, holds: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::yield_now();
    }
}
