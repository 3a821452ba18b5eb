//! Load over the wire: connections that stay open, each request timed from when it was meant to begin.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

use super::machine;
use super::stop::Stop;
use crate::bench::pace::Pace;
use crate::bench::summary::Recorder;
use crate::cli::tls::Tls;

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Longest answer read. More is no page whose latency anybody means.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a connection that failed waits before it is made again, so that a server that is down is not hammered.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);

/// Whom to ask, and for what.
#[derive(Clone)]
pub(super) struct Asked {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// TLS to this name.
    pub(super) tls: Option<Tls>,
    /// Whole requests, asked in turn.
    pub(super) requests: Arc<Vec<Vec<u8>>>,
    /// The statuses an answer may have.
    pub(super) statuses: Statuses,
    /// The longest wait for one answer.
    pub(super) wait: Duration,
}

/// Which statuses an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statuses {
    /// It is let in: 2xx.
    Good,
    /// It is sent away: elsewhere, or 401 or 403.
    Refused,
    /// This one.
    Exactly(u16),
}

impl Statuses {
    pub(super) const fn has(self, status: u16) -> bool {
        match self {
            Self::Good => matches!(status, 200..=299),
            Self::Refused => matches!(status, 301 | 302 | 303 | 307 | 308 | 401 | 403),
            Self::Exactly(one) => status == one,
        }
    }
}

/// How much to ask.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) pace: Pace,
    pub(super) connections: usize,
    pub(super) duration: Duration,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Came {
    pub(super) recorder: Recorder,
    /// From the first request to the last answer.
    pub(super) took: Duration,
    /// The processor's time of the client.
    pub(super) client_cpu: Option<Duration>,
}

/// One answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The head, as it came.
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    keeps_alive: bool,
}

/// Asks on a thread of its own until the time is over.
pub(super) fn load(asked: &Asked, load: Load, stop: &Stop) -> std::io::Result<Came> {
    let (asked, stop) = (asked.clone(), stop.clone());
    let client = std::thread::Builder::new().name("bench-client".into());
    let client = client.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let before = machine::thread_cpu();
        let mut came = runtime.block_on(ask_all(asked, load, stop));
        came.client_cpu = machine::thread_cpu()
            .zip(before)
            .and_then(|(after, before)| after.checked_sub(before));
        runtime.shutdown_background();
        Ok(came)
    })?;
    let gone = || std::io::Error::other("the client ended without a word");
    client.join().map_err(|_| gone())?
}

/// Asks once.
pub(super) fn ask_once(asked: &Asked, request: &[u8]) -> std::io::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let once = async {
        let mut link = Link::open(asked).await?;
        link.ask(request, true).await
    };
    runtime.block_on(async {
        match tokio::time::timeout(asked.wait, once).await {
            Ok(answered) => answered,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    })
}

/// What all connections share.
struct Run {
    asked: Asked,
    load: Load,
    stop: Stop,
    began: Instant,
    /// Requests that may begin.
    due: Semaphore,
    /// The number of the next one.
    next: AtomicU64,
    /// Requests in all, at a fixed pace.
    total: u64,
    /// When nobody waits any more, whatever is left.
    over: Instant,
}

async fn ask_all(asked: Asked, load: Load, stop: Stop) -> Came {
    let began = Instant::now();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let total = load.pace.rate().map_or(u64::MAX, |rate| {
        (rate * load.duration.as_secs_f64()).ceil() as u64
    });
    let run = Arc::new(Run {
        // What is left over at the end may still be asked for, as long as one answer may take.
        over: began + load.duration + asked.wait,
        asked,
        load,
        stop,
        began,
        due: Semaphore::new(0),
        next: AtomicU64::new(0),
        total,
    });
    let pacer = run.load.pace.rate().is_some().then(|| {
        let run = Arc::clone(&run);
        tokio::spawn(async move { run.release().await })
    });
    let connections: Vec<_> = (0..run.load.connections)
        .map(|_| {
            let run = Arc::clone(&run);
            tokio::spawn(async move { run.connection().await })
        })
        .collect();
    let mut came = Came::default();
    for connection in connections {
        match connection.await {
            Ok((recorder, last)) => {
                came.recorder.add(&recorder);
                came.took = came.took.max(last);
            }
            Err(_) => came.recorder.errors += 1,
        }
    }
    if let Some(pacer) = pacer {
        pacer.abort();
        // What was meant to begin and never did has waited all the same: it counts with what it had waited when nobody waited any more.
        if !run.stop.is_asked() {
            let over = run.began.elapsed();
            for number in run.next.load(Ordering::SeqCst).min(run.total)..run.total {
                came.recorder
                    .record_unbegun(run.load.pace.latency(number, over, over));
            }
        }
    }
    came.took = came.took.max(run.load.duration);
    came
}

impl Run {
    /// Lets requests begin when they are meant to.
    async fn release(&self) {
        let timer = Timer::new();
        let mut released = 0;
        while released < self.total {
            let elapsed = self.began.elapsed();
            let due = |number: u64| {
                self.load
                    .pace
                    .intended(number)
                    .is_some_and(|at| at <= elapsed)
            };
            let before = released;
            while released < self.total && due(released) {
                released += 1;
            }
            let many = usize::try_from(released - before).unwrap_or(usize::MAX);
            self.due.add_permits(many.min(Semaphore::MAX_PERMITS / 2));
            if let Some(next) = self.load.pace.intended(released) {
                timer.until(self.began + next).await;
            }
        }
        // One more for each connection, which tells it that there is nothing left.
        self.due.add_permits(self.load.connections);
    }

    /// The number of the next request, once it may begin. `None`: there is none.
    async fn next(&self) -> Option<u64> {
        if self.stop.is_asked() {
            return None;
        }
        if self.load.pace.rate().is_none() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            // The first is asked however late it is: a busy machine may let the whole time pass before anything begins.
            let more = number == 0 || self.began.elapsed() < self.load.duration;
            return more.then_some(number);
        }
        let left = self.over.checked_duration_since(Instant::now())?;
        let permit = tokio::time::timeout(left, self.due.acquire()).await;
        permit.ok()?.ok()?.forget();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.total).then_some(number)
    }

    /// Asks over one connection, made again when it fails. Gives what it saw and when the last answer came.
    async fn connection(&self) -> (Recorder, Duration) {
        let mut recorder = Recorder::default();
        let mut last = Duration::ZERO;
        let mut link: Option<Link> = None;
        let count = self.asked.requests.len().max(1) as u64;
        while let Some(number) = self.next().await {
            let began = self.began.elapsed();
            let place = usize::try_from(number % count).unwrap_or_default();
            let request = self
                .asked
                .requests
                .get(place)
                .map_or(&[][..], Vec::as_slice);
            let answered = tokio::time::timeout(self.asked.wait, async {
                let open = match &mut link {
                    Some(open) => open,
                    none => none.insert(Link::open(&self.asked).await?),
                };
                open.ask(request, false).await
            })
            .await;
            let ended = self.began.elapsed();
            match answered {
                Ok(Ok(answer)) => {
                    last = ended;
                    recorder.record(self.load.pace.latency(number, began, ended));
                    if !self.asked.statuses.has(answer.status) {
                        recorder.unexpected += 1;
                    }
                    if !answer.keeps_alive {
                        link = None;
                    }
                }
                Ok(Err(_)) | Err(_) => {
                    recorder.errors += 1;
                    link = None;
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
        (recorder, last)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection.
struct Link {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Link {
    async fn open(asked: &Asked) -> std::io::Result<Self> {
        let stream = TcpStream::connect(asked.address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &asked.tls {
            None => Box::new(stream),
            Some(tls) => {
                let connector = TlsConnector::from(Arc::clone(&tls.config));
                Box::new(connector.connect(tls.name.clone(), stream).await?)
            }
        };
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(8 * 1024),
        })
    }

    /// Asks, and reads the answer to its end; keeps head and body only where they are wanted.
    async fn ask(&mut self, request: &[u8], keep: bool) -> std::io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let (end, mut answer, length) = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer.get(..at + 4).unwrap_or_default();
                let (answer, length) = read_head(head, keep)?;
                // Such as 103: the answer is still to come.
                if !(100..200).contains(&answer.status) {
                    break (at + 4, answer, length);
                }
                self.buffer.drain(..at + 4);
                continue;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            self.more().await?;
        };
        self.buffer.drain(..end);
        match length {
            Length::Known(bytes) => self.take(bytes, keep, &mut answer).await?,
            Length::Chunked => self.chunks(keep, &mut answer).await?,
            Length::UntilEnd => {
                while self.buffer.len() <= BODY_BYTES_MAX {
                    if self.stream.read_buf(&mut self.buffer).await? == 0 {
                        break;
                    }
                }
                if keep {
                    answer.body.append(&mut self.buffer);
                }
                answer.keeps_alive = false;
            }
        }
        Ok(answer)
    }

    async fn more(&mut self) -> std::io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn take(&mut self, bytes: usize, keep: bool, answer: &mut Answer) -> std::io::Result<()> {
        if bytes > BODY_BYTES_MAX || answer.body.len() > BODY_BYTES_MAX {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let mut left = bytes;
        loop {
            let here = left.min(self.buffer.len());
            if keep {
                answer.body.extend(self.buffer.drain(..here));
            } else {
                self.buffer.drain(..here);
            }
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.more().await?;
        }
    }

    async fn chunks(&mut self, keep: bool, answer: &mut Answer) -> std::io::Result<()> {
        let bad = || std::io::Error::from(std::io::ErrorKind::InvalidData);
        let mut seen = 0usize;
        loop {
            let line = loop {
                match find(&self.buffer, b"\r\n") {
                    Some(at) => break at,
                    None if self.buffer.len() > HEAD_BYTES_MAX => return Err(bad()),
                    None => self.more().await?,
                }
            };
            let text = self.buffer.get(..line).unwrap_or_default();
            let text = std::str::from_utf8(text).map_err(|_| bad())?;
            let digits = text.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).map_err(|_| bad())?;
            self.buffer.drain(..line + 2);
            seen = seen.saturating_add(size);
            if seen > BODY_BYTES_MAX {
                return Err(bad());
            }
            if size == 0 {
                break;
            }
            self.take(size, keep, answer).await?;
            self.take(2, false, answer).await?;
        }
        // Trailers, and the empty line after them.
        loop {
            match find(&self.buffer, b"\r\n") {
                Some(0) => {
                    self.buffer.drain(..2);
                    return Ok(());
                }
                Some(at) => drop(self.buffer.drain(..at + 2)),
                None if self.buffer.len() > HEAD_BYTES_MAX => return Err(bad()),
                None => self.more().await?,
            }
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

enum Length {
    Known(usize),
    Chunked,
    UntilEnd,
}

fn read_head(head: &[u8], keep: bool) -> std::io::Result<(Answer, Length)> {
    let bad = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next().and_then(|line| std::str::from_utf8(line).ok());
    let first = first.ok_or_else(bad)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|code| code.trim().parse().ok());
    let mut answer = Answer {
        status: status.ok_or_else(bad)?,
        keeps_alive: first.starts_with("HTTP/1.1"),
        ..Answer::default()
    };
    let mut length = Length::UntilEnd;
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let value = std::str::from_utf8(value.get(1..).unwrap_or_default()).unwrap_or_default();
        let value = value.trim();
        if name.eq_ignore_ascii_case(b"content-length") {
            if !matches!(length, Length::Chunked) {
                length = Length::Known(value.parse().map_err(|_| bad())?);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            length = Length::Chunked;
        } else if name.eq_ignore_ascii_case(b"connection") && value.eq_ignore_ascii_case("close") {
            answer.keeps_alive = false;
        }
    }
    if matches!(answer.status, 100..=199 | 204 | 304) {
        length = Length::Known(0);
    }
    if keep {
        answer.head = head.to_vec();
    }
    Ok((answer, length))
}

/// Waits more finely than the runtime's own timer, which counts in milliseconds.
struct Timer {
    #[cfg(target_os = "linux")]
    fine: Option<AsyncFd<Descriptor>>,
}

#[cfg(target_os = "linux")]
impl Timer {
    fn new() -> Self {
        use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
        let made = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        );
        // What replaces it is unsafe, because types may lie about the descriptor they hold. Ours owns one, and never lets go of it.
        #[allow(deprecated)]
        let register = |timer| AsyncFd::new(Descriptor(timer)).ok();
        Self {
            fine: made.ok().and_then(register),
        }
    }

    async fn until(&self, at: Instant) {
        use nix::sys::timerfd::{Expiration, TimerSetTimeFlags};
        let Some(left) = at
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        else {
            // Late already: others get a word in between.
            return tokio::task::yield_now().await;
        };
        let Some(timer) = &self.fine else {
            return tokio::time::sleep(left).await;
        };
        let once = Expiration::OneShot(left.into());
        if timer
            .get_ref()
            .0
            .set(once, TimerSetTimeFlags::empty())
            .is_err()
        {
            return tokio::time::sleep(left).await;
        }
        if let Ok(mut ready) = timer.readable().await {
            // Reading takes what was due, so that the next wait is one.
            let _ = timer.get_ref().0.wait();
            ready.clear_ready();
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Timer {
    fn new() -> Self {
        Self {}
    }

    async fn until(&self, at: Instant) {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// A timer as the runtime takes it.
#[cfg(target_os = "linux")]
struct Descriptor(nix::sys::timerfd::TimerFd);

#[cfg(target_os = "linux")]
impl std::os::fd::AsFd for Descriptor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(target_os = "linux")]
impl std::os::fd::AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        use std::os::fd::AsFd as _;
        self.0.as_fd().as_raw_fd()
    }
}
