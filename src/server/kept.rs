//! Connections to an app that wait for the next request.
//!
//! Pingora's own pool gives each waiting connection a task that watches it, and takes it back from that task when it is needed. Here
//! they stand in a row: the last one put down is the first one taken, so that what is not needed grows old at the other end; and one
//! look a second at all of them finds those that the app has closed.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use pingora::protocols::Stream;
use tokio::io::AsyncReadExt as _;

/// How often connections that wait are looked at: an app that closes one waits for us to do the same.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The connections of one upstream.
pub struct Kept {
    waiting: Mutex<Vec<Waiting>>,
    /// How many wait at most.
    most: usize,
    /// How long each waits at most.
    idle: Duration,
}

struct Waiting {
    stream: Stream,
    to: SocketAddr,
    /// The name in the certificate that was asked for; empty without TLS.
    name: String,
    since: Instant,
}

impl Kept {
    /// None yet.
    pub const fn new(most: usize, idle: Duration) -> Self {
        Self {
            waiting: Mutex::new(Vec::new()),
            most,
            idle,
        }
    }

    /// A connection to this address that is still good at `now`, as far as anybody can know before using it.
    pub fn take(&self, to: SocketAddr, name: &str, now: Instant) -> Option<Stream> {
        loop {
            let mut found = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let at = waiting
                    .iter()
                    .rposition(|each| each.to == to && each.name == name)?;
                waiting.remove(at)
            };
            if now.saturating_duration_since(found.since) < self.idle && is_quiet(&mut found.stream)
            {
                return Some(found.stream);
            }
        }
    }

    /// Puts one down after use, at `now`. With too many waiting already, it is closed.
    pub fn put(&self, stream: Stream, to: SocketAddr, name: &str, now: Instant) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < self.most {
            waiting.push(Waiting {
                stream,
                to,
                name: name.to_owned(),
                since: now,
            });
        }
    }

    /// Closes those that waited too long, and those that the app has closed.
    pub fn sweep(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain_mut(|each| each.since.elapsed() < self.idle && is_quiet(&mut each.stream));
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

/// Whether nothing came on a connection that waits. Whatever comes then, an end or bytes nobody asked for, spoils it.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut one = [0; 1];
    // Not held back by the scheduler: "not now" must mean that there is nothing.
    tokio::task::unconstrained(stream.read(&mut one))
        .now_or_never()
        .is_none()
}
