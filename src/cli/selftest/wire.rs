//! Sockets of the self-test: bytes out as they are, one connection at a time, everything bounded.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use crate::cli::tls::Tls;
use crate::selftest::answer::{Answer, HEARD_BYTES_MAX, Reading};

/// Connections of one run. The catalogue needs some six hundred per protected path; more would be another program.
const EXCHANGES_MAX: usize = 5000;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// What came back on one connection.
#[derive(Debug, Default)]
pub struct Brought {
    /// Answers, in their order.
    pub answers: Vec<Answer>,
    /// Whether the time was over before the other side said that this is all.
    pub late: bool,
}

/// Why nothing more is sent.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Nobody accepts.
    #[error("{0} does not accept connections: {1}")]
    Unreachable(SocketAddr, std::io::Error),
    /// The time or the number of requests of the run is used up.
    #[error("{0}")]
    Spent(&'static str),
}

/// The way to the stack.
pub struct Wire {
    /// Where it is.
    pub address: SocketAddr,
    /// How TLS is spoken, where it is.
    pub tls: Option<Tls>,
    /// Waited before each request, so that limits are not tripped.
    pub pause: Duration,
    /// The longest wait for one exchange.
    pub wait: Duration,
    /// When the run ends, whatever is left.
    pub end: Instant,
    /// Connections so far.
    pub made: usize,
}

impl Wire {
    /// Sends bytes on a connection of their own and reads what comes back.
    ///
    /// # Errors
    /// When nobody accepts, or the run has used up what it may.
    pub fn exchange(&mut self, sent: &[u8], reading: Reading) -> Result<Brought, Stop> {
        if self.made >= EXCHANGES_MAX {
            return Err(Stop::Spent("this run has sent as many requests as it may"));
        }
        self.made += 1;
        std::thread::sleep(self.pause);
        let now = Instant::now();
        let end = (now + self.wait).min(self.end);
        if now >= self.end {
            return Err(Stop::Spent(
                "the time of this run is over: give it more with `--limit`",
            ));
        }
        let stream = self.connect()?;
        let Some(tls) = &self.tls else {
            return Ok(converse(stream, sent, reading, end));
        };
        let connection = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone())
            .map_err(|error| Stop::Unreachable(self.address, std::io::Error::other(error)))?;
        let mut stream = StreamOwned::new(connection, stream);
        let handshake = |stream: &mut StreamOwned<ClientConnection, TcpStream>| {
            while stream.conn.is_handshaking() {
                set_timeouts(&stream.sock, end)?;
                stream.conn.complete_io(&mut stream.sock)?;
            }
            Ok(())
        };
        handshake(&mut stream).map_err(|error| Stop::Unreachable(self.address, error))?;
        Ok(converse(stream, sent, reading, end))
    }

    fn connect(&self) -> Result<TcpStream, Stop> {
        // A stack that is busy may turn one connection away.
        let stream = TcpStream::connect_timeout(&self.address, CONNECT)
            .or_else(|_| TcpStream::connect_timeout(&self.address, CONNECT))
            .map_err(|error| Stop::Unreachable(self.address, error))?;
        // Small writes are whole requests: none waits for another.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

fn set_timeouts(stream: &TcpStream, end: Instant) -> std::io::Result<()> {
    let left = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
        .ok_or_else(|| std::io::Error::from(ErrorKind::TimedOut))?;
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))
}

/// Something read and written whose waits can be bounded.
trait Bounded: Read + Write {
    fn bound(&mut self, end: Instant) -> std::io::Result<()>;
}

impl Bounded for TcpStream {
    fn bound(&mut self, end: Instant) -> std::io::Result<()> {
        set_timeouts(self, end)
    }
}

impl Bounded for StreamOwned<ClientConnection, TcpStream> {
    fn bound(&mut self, end: Instant) -> std::io::Result<()> {
        set_timeouts(&self.sock, end)
    }
}

fn converse(mut stream: impl Bounded, sent: &[u8], reading: Reading, end: Instant) -> Brought {
    // Whoever refuses early closes before everything is read, and its answer is there all the same.
    let _ = stream
        .bound(end)
        .and_then(|()| stream.write_all(sent))
        .and_then(|()| stream.flush());
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    let mut late = false;
    while bytes.len() < HEARD_BYTES_MAX && !reading.is_done(&bytes) {
        match stream.bound(end).and_then(|()| stream.read(&mut piece)) {
            Ok(0) => break,
            Ok(read) => bytes.extend(piece.iter().take(read)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                break;
            }
        }
    }
    Brought {
        answers: reading.answers(&bytes),
        late,
    }
}
