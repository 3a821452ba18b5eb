//! The connection to Redis: shared by every lookup, replaced when it breaks, and never waited for longer than allowed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, RedisError, TlsCertificates, Value,
};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::NAME;
use crate::session::SourceError;
use crate::store::{OpenError, Settings};

/// A connection is replaced at this age, so that a failover by DNS or a changed password takes hold.
const AGE_MAX: Duration = Duration::from_secs(1800);

/// A connection that has rested this long may have been cut without a word, so it gets only half of the time that is left.
const SUSPECT_AFTER: Duration = Duration::from_secs(10);

/// A connection that has rested longer than this is tried before a change is made on it, which spares the doubt whether it was made.
const CHANGE_AFTER_REST_MAX: Duration = Duration::from_secs(1);

/// When the system begins to ask whether the other end is still there. Common firewalls and load balancers forget idle connections
/// after about four minutes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Most letters of the server's words that reach a log.
const CAUSE_LETTERS_MAX: usize = 240;

/// Largest file of certificates that is read, in bytes: a whole system's authorities take about 200 KiB.
const CA_BYTES_MAX: u64 = 4 << 20;

/// What an answer that is none means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It took too long.
    Slow,
    /// No connection, or it broke, or the server cannot answer yet.
    Unreachable,
    /// The server knows us and says no.
    Denied,
    /// The key is on another node of a cluster.
    Cluster,
    /// A replica, where a primary is needed.
    ReadOnly,
    /// Anything else.
    Unreadable,
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    cause: String,
}

impl Failure {
    fn slow() -> Self {
        Self {
            fault: Fault::Slow,
            cause: "the deadline passed".to_owned(),
        }
    }

    /// An answer of another form than the question has.
    pub(super) fn unexpected(what: &str) -> Self {
        Self {
            fault: Fault::Unreadable,
            cause: what.to_owned(),
        }
    }

    fn of(error: &RedisError) -> Self {
        let code = error.code().unwrap_or_default();
        let (fault, cause) = match (error.kind(), code) {
            (ErrorKind::Io, _) if error.is_timeout() => return Self::slow(),
            (ErrorKind::Io, _) => (Fault::Unreachable, error.to_string()),
            (ErrorKind::AuthenticationFailed, _) | (_, "WRONGPASS") => (
                Fault::Denied,
                "user name or password are not accepted".to_owned(),
            ),
            (_, "NOAUTH") => (Fault::Denied, "it wants a password".to_owned()),
            (_, "NOPERM") => (Fault::Denied, said(code, error)),
            (_, "MOVED" | "ASK" | "CROSSSLOT" | "TRYAGAIN" | "CLUSTERDOWN") => (
                Fault::Cluster,
                format!("it is one node of a Redis Cluster ({code})"),
            ),
            (_, "READONLY") => (Fault::ReadOnly, "it is a read-only replica".to_owned()),
            (_, "LOADING" | "MASTERDOWN" | "BUSY") => (Fault::Unreachable, said(code, error)),
            (ErrorKind::Parse, _) => (
                Fault::Unreadable,
                "it does not speak the protocol of Redis".to_owned(),
            ),
            (_, "") => (Fault::Unreadable, error.category().to_owned()),
            _ => (Fault::Unreadable, said(code, error)),
        };
        let cause = cause.chars().filter(|c| !c.is_control());
        Self {
            fault,
            cause: cause.take(CAUSE_LETTERS_MAX).collect(),
        }
    }

    /// Why there is no connection. Whoever speaks another language at this address, or says that it has no room, is no store to
    /// read from: that is an address to check, and no answer.
    fn not_connected(error: &RedisError) -> Self {
        let mut failure = Self::of(error);
        if failure.fault == Fault::Unreadable {
            // A database number that does not exist is the operator's to change.
            let refused = error.to_string().contains("database");
            failure.fault = if refused {
                Fault::Denied
            } else {
                Fault::Unreachable
            };
        }
        failure
    }

    /// Whether the connection can take the next question.
    const fn keeps_connection(&self) -> bool {
        match self.fault {
            Fault::Denied | Fault::Cluster | Fault::Unreadable => true,
            // A primary that became a replica: the address may lead to the new primary by now.
            Fault::Slow | Fault::Unreachable | Fault::ReadOnly => false,
        }
    }

    /// Whether a new connection may fare better.
    const fn fresh_may_help(&self) -> bool {
        match self.fault {
            Fault::Unreachable => true,
            Fault::Slow | Fault::Denied | Fault::Cluster | Fault::ReadOnly | Fault::Unreadable => {
                false
            }
        }
    }

    /// For whoever waits for a session.
    pub(super) fn into_source_error(self, began: Instant) -> SourceError {
        let (source_name, cause) = (NAME, self.cause);
        match self.fault {
            Fault::Slow => SourceError::Timeout {
                source_name,
                waited: began.elapsed(),
            },
            Fault::Unreachable | Fault::Denied | Fault::ReadOnly => {
                SourceError::Unreachable { source_name, cause }
            }
            Fault::Cluster | Fault::Unreadable => SourceError::Garbage { source_name, cause },
        }
    }

    /// For whoever starts the gateway.
    pub(super) fn into_open_error(self, place: &str, began: Instant) -> OpenError {
        let (store, place, cause) = (NAME, place.to_owned(), self.cause);
        match self.fault {
            Fault::Slow => OpenError::Timeout {
                store,
                place,
                waited: began.elapsed(),
            },
            Fault::Unreachable => OpenError::Unreachable {
                store,
                place,
                cause,
            },
            Fault::Denied | Fault::ReadOnly => OpenError::Denied {
                store,
                place,
                cause,
            },
            Fault::Cluster => OpenError::Cluster { place, cause },
            Fault::Unreadable => OpenError::Garbage {
                store,
                place,
                cause,
            },
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.cause)
    }
}

/// What the server said, without what it quotes: a command that it does not know comes back with its arguments, and they are tokens.
fn said(code: &str, error: &RedisError) -> String {
    let detail = error.detail().unwrap_or_default();
    let detail = detail.split(", with args").next().unwrap_or_default();
    let mut quoted = false;
    let plain: String = detail
        .chars()
        .filter(|c| {
            let mark = matches!(c, '\'' | '"' | '`');
            quoted ^= mark;
            !quoted && !mark
        })
        .collect();
    format!("{code} {plain}").trim().to_owned()
}

/// An open connection. Whoever clones it asks beside all others.
#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    number: u64,
    born: Instant,
    /// Milliseconds from birth to the last answer.
    answered: Arc<AtomicU64>,
}

impl Open {
    fn answered_now(&self) {
        let ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.answered.fetch_max(ms, Ordering::Relaxed);
    }

    fn has_rested(&self) -> bool {
        let last = Duration::from_millis(self.answered.load(Ordering::Relaxed));
        self.born.elapsed().saturating_sub(last) >= CHANGE_AFTER_REST_MAX
    }

    fn is_suspect(&self) -> bool {
        let last = Duration::from_millis(self.answered.load(Ordering::Relaxed));
        self.born.elapsed().saturating_sub(last) >= SUSPECT_AFTER
    }
}

/// A line to one Redis.
pub(super) struct Line {
    client: Client,
    /// Host and port, or socket; for people.
    pub(super) place: String,
    /// The number of the database.
    pub(super) database: i64,
    /// Longest wait for one lookup.
    pub(super) timeout: Duration,
    current: Mutex<Option<Open>>,
    /// Held by whoever connects. Holds why the last one could not, and when.
    connecting: tokio::sync::Mutex<Option<(Instant, Failure)>>,
    connected: AtomicU64,
    home: Handle,
    admitted: Arc<Semaphore>,
    waiting_max: usize,
}

impl Line {
    /// A line along `settings.url`. Connects at the first question.
    pub(super) fn new(settings: &Settings) -> Result<Self, OpenError> {
        let (client, place) = client(settings.url.expose())?;
        let admitted = (settings.connections as usize).saturating_add(settings.waiting_max);
        Ok(Self {
            database: client.get_connection_info().redis_settings().db(),
            client,
            place,
            timeout: settings.timeout,
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(None),
            connected: AtomicU64::new(0),
            home: Handle::current(),
            admitted: Arc::new(Semaphore::new(admitted.clamp(1, Semaphore::MAX_PERMITS))),
            waiting_max: settings.waiting_max,
        })
    }

    /// Asks one question, and answers by `deadline` in any case. A question may be asked twice, when the first connection was dead.
    pub(super) async fn ask(&self, question: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        let mut earlier = None;
        loop {
            let began = Instant::now();
            let mut open = match self.open(deadline).await {
                Ok(open) => open,
                Err(failure) => return Err(earlier.unwrap_or(failure)),
            };
            let fresh = open.born >= began || earlier.is_some();
            let suspect = !fresh && open.is_suspect();
            let until = if suspect {
                began + deadline.saturating_duration_since(began) / 2
            } else {
                deadline
            };
            let answer = timeout_at(until, open.connection.send_packed_command(question)).await;
            let failure = match answer.map(|answer| answer.and_then(Value::extract_error)) {
                Ok(Ok(value)) => {
                    open.answered_now();
                    return Ok(value);
                }
                Ok(Err(error)) => Failure::of(&error),
                Err(_) => Failure::slow(),
            };
            if failure.keeps_connection() {
                open.answered_now();
                return Err(failure);
            }
            // Others may still wait on it, each with a deadline of its own; nobody begins to.
            self.give_up(open.number);
            if fresh || !(suspect || failure.fresh_may_help()) {
                return Err(failure);
            }
            earlier = Some(failure);
        }
    }

    /// Makes a change, on a connection known to be alive, and never twice. With a failure it says whether the change may have been made
    /// all the same.
    pub(super) async fn change(
        &self,
        change: &Cmd,
        deadline: Instant,
    ) -> Result<Value, (Failure, bool)> {
        // A connection at rest may have died without a word; a question is asked again on a new one, a change is not.
        let rested = self.usable().is_some_and(|open| open.has_rested());
        if rested {
            let alive = self.ask(&redis::cmd("PING"), deadline).await;
            alive.map_err(|failure| (failure, false))?;
        }
        let mut open = self
            .open(deadline)
            .await
            .map_err(|failure| (failure, false))?;
        let answer = timeout_at(deadline, open.connection.send_packed_command(change)).await;
        match answer.map(|answer| answer.and_then(Value::extract_error)) {
            Ok(Ok(value)) => {
                open.answered_now();
                Ok(value)
            }
            Ok(Err(error)) => {
                let failure = Failure::of(&error);
                // What the server itself refuses it has not done.
                let unsure = error.code().is_none();
                match failure.keeps_connection() {
                    true => open.answered_now(),
                    false => self.give_up(open.number),
                }
                Err((failure, unsure))
            }
            Err(_) => {
                self.give_up(open.number);
                Err((Failure::slow(), true))
            }
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        // Holders only put and take, so what is there is whole.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self, number: u64) {
        self.current().take_if(|open| open.number == number);
    }

    fn usable(&self) -> Option<Open> {
        let mut current = self.current();
        current.take_if(|open| open.born.elapsed() >= AGE_MAX);
        current.clone()
    }

    /// The open connection, or a new one. Only one caller connects at a time, and those who waited for it share its failure.
    async fn open(&self, deadline: Instant) -> Result<Open, Failure> {
        if let Some(open) = self.usable() {
            return Ok(open);
        }
        let began = Instant::now();
        let Ok(mut last) = timeout_at(deadline, self.connecting.lock()).await else {
            return Err(Failure::slow());
        };
        if let Some(open) = self.usable() {
            return Ok(open);
        }
        if let Some((at, failure)) = &*last
            && *at >= began
        {
            return Err(failure.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let connecting = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        match timeout_at(deadline, connecting).await {
            Ok(Ok(connection)) => {
                let open = Open {
                    connection,
                    number: self.connected.fetch_add(1, Ordering::Relaxed),
                    born: Instant::now(),
                    answered: Arc::default(),
                };
                *self.current() = Some(open.clone());
                Ok(open)
            }
            Ok(Err(error)) => {
                let failure = Failure::not_connected(&error);
                *last = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
            // Not shared: whoever waited behind us has a deadline of its own, and may have more patience left than we had.
            Err(_) => Err(Failure::slow()),
        }
    }

    /// A connection of its own, for listening.
    pub(super) async fn listen(&self, deadline: Instant) -> Result<PubSub, Failure> {
        match timeout_at(deadline, self.client.get_async_pubsub()).await {
            Ok(Ok(listening)) => Ok(listening),
            Ok(Err(error)) => Err(Failure::not_connected(&error)),
            Err(_) => Err(Failure::slow()),
        }
    }

    /// What an error on a listening connection means.
    pub(super) fn failed(error: &RedisError) -> Failure {
        Failure::of(error)
    }

    /// Runs `work` where the connections live. It runs to its own deadline even when the caller goes away.
    pub(super) async fn at_home<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SourceError>> + Send + 'static,
    ) -> Result<T, SourceError> {
        let Ok(admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            return Err(SourceError::Busy {
                source_name: NAME,
                waiting: self.waiting_max,
            });
        };
        let task = self.home.spawn(async move {
            let _admitted = admitted;
            work.await
        });
        task.await.unwrap_or_else(|join| {
            let cause = if join.is_panic() {
                "the driver gave up on the answer"
            } else {
                "we are shutting down"
            };
            Err(SourceError::Unreachable {
                source_name: NAME,
                cause: cause.to_owned(),
            })
        })
    }
}

/// The driver's client for a URL, and the place it leads to.
fn client(url: &str) -> Result<(Client, String), OpenError> {
    let unusable = |cause: &str| OpenError::Url {
        store: NAME,
        cause: cause.to_owned(),
    };
    let mut url = Url::parse(url).map_err(|error| unusable(&error.to_string()))?;
    if url.fragment().is_some() {
        return Err(unusable(
            "it ends in `#…`: certificates are always checked, and a `#` in the password is written %23",
        ));
    }
    let is_socket = url.scheme().ends_with("+unix");
    if !is_socket && url.host_str().is_none_or(str::is_empty) {
        return Err(unusable("the host is missing"));
    }
    let mut authorities = None;
    let mut database = None;
    let mut kept = Vec::new();
    for (key, value) in url.query_pairs() {
        match &*key {
            "sslrootcert" | "ssl-ca" => authorities = Some(value.into_owned()),
            "db" if !is_socket => database = Some(value.into_owned()),
            "db" | "user" | "pass" => kept.push((key.into_owned(), value.into_owned())),
            // The app's own tools understand more (`family`, `keepAlive`); none of it concerns us.
            _ => {}
        }
    }
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    if let Some(database) = database
        && url.path().trim_matches('/').is_empty()
    {
        url.set_path(&format!("/{database}"));
    }
    // The driver's words on a URL are fixed texts: they never quote it.
    let info = url
        .into_connection_info()
        .map_err(|error| unusable(&error.to_string()))?;
    let greeting = info
        .redis_settings()
        .clone()
        .set_lib_name("vestibule", env!("CARGO_PKG_VERSION"));
    let info = info
        .set_redis_settings(greeting)
        .set_tcp_settings(tcp_settings());
    let place = info.addr().to_string();
    let client = match info.addr() {
        ConnectionAddr::TcpTls { .. } => over_tls(info, authorities.as_deref()),
        _ if authorities.is_some() => Err("`sslrootcert` is for `rediss://`".to_owned()),
        _ => Client::open(info).map_err(|error| error.to_string()),
    };
    Ok((client.map_err(|cause| unusable(&cause))?, place))
}

fn tcp_settings() -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE))
}

/// A client that checks the server's certificate: against the authorities in a file, or those every browser knows.
fn over_tls(info: ConnectionInfo, authorities: Option<&str>) -> Result<Client, String> {
    use std::io::Read as _;

    // The driver takes the process's provider. When somebody else has chosen one already, it is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root_cert = match authorities {
        None => None,
        Some(path) => {
            let unusable = |why: &str| format!("`sslrootcert={path}`: {why}");
            let mut pem = Vec::new();
            let read = std::fs::File::open(path)
                .and_then(|file| file.take(CA_BYTES_MAX + 1).read_to_end(&mut pem));
            read.map_err(|error| unusable(&error.to_string()))?;
            if pem.len() as u64 > CA_BYTES_MAX {
                return Err(unusable("it is too large for a file of certificates"));
            }
            if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
                return Err(unusable("it holds no certificate"));
            }
            Some(pem)
        }
    };
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert,
    };
    Client::build_with_tls(info, certificates).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Result<(String, i64), String> {
        client(url)
            .map(|(client, place)| (place, client.get_connection_info().redis_settings().db()))
            .map_err(|error| format!("{error} {error:?}"))
    }

    #[test]
    fn urls_of_every_spelling() {
        for (url, at) in [
            ("redis://cache", ("cache:6379", 0)),
            ("redis://cache:7000/3", ("cache:7000", 3)),
            ("redis://cache?db=4&family=6", ("cache:6379", 4)),
            ("redis://:p%40ss@[::1]:7000/3", ("::1:7000", 3)),
            ("valkey://ada:secret@cache", ("cache:6379", 0)),
            ("rediss://cache", ("cache:6379", 0)),
            ("valkeys://cache:1", ("cache:1", 0)),
            ("redis+unix:///run/redis.sock?db=2", ("/run/redis.sock", 2)),
        ] {
            let (name, number) = at;
            assert_eq!(place(url).unwrap(), (name.to_owned(), number), "{url}");
        }
    }

    #[test]
    fn urls_that_cannot_be_meant_show_no_password() {
        for url in [
            "redis://ada:hunter2@",
            "redis://ada:hunter2@h/one",
            "redis://ada:hunter2@h:port/",
            "rediss://ada:hunter2@h/#insecure",
            "redis://ada:hunter2@0.0.0.0",
            "redis://ada:hunter2@h/?sslrootcert=/etc/ca.pem",
            "rediss://ada:hunter2@h/?sslrootcert=/nowhere/ca.pem",
        ] {
            let error = place(url).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_the_server_quotes_is_not_repeated() {
        for line in [
            "-ERR unknown command 'GETRANGE', with args beginning with: 'better-auth:hunter2' '0'\r\n",
            "-ERR unknown command `GETRANGE`, with args beginning with: `better-auth:hunter2`, `0`\r\n",
            "-NOPERM No permissions to access the 'better-auth:hunter2' key\r\n",
            "-MOVED 3999 hunter2:6381\r\n",
        ] {
            let value = redis::parse_redis_value(line.as_bytes()).unwrap();
            let failure = Failure::of(&value.extract_error().unwrap_err());
            assert!(!failure.cause.contains("hunter2"), "{}", failure.cause);
            assert!(failure.cause.len() > 5, "{}", failure.cause);
        }
    }
}
