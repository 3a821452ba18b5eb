//! Reads and writes that end in time, with one timer for each connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use pingora::protocols::Stream;
use pingora::{Error, ErrorSource, ErrorType, OrErr as _, Result};
use tokio::io::AsyncWrite as _;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Downstream;

/// Where a timer stands that nobody has set, and how long it waits at most: longer than anything lives.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A timer that is set before each wait and hardly ever rings. To set it is to write down a number: it is moved only when it rings too
/// early, or would ring too late. There is none before the first wait.
pub struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
    due: Instant,
    /// When the next wait begins, as far as anybody has looked: to ask what time it is costs more than to write it down.
    now: Instant,
    /// Whether time went by since.
    is_stale: bool,
}

impl Deadline {
    /// Not set.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            sleep: None,
            due: now + FAR,
            now,
            is_stale: false,
        }
    }

    /// Something else was waited for.
    pub const fn time_went_by(&mut self) {
        self.is_stale = true;
    }

    /// Somebody has looked what time it is.
    pub fn is_now(&mut self, now: std::time::Instant) {
        (self.now, self.is_stale) = (now.into(), false);
    }

    /// When the next wait begins.
    pub fn now(&mut self) -> std::time::Instant {
        if self.is_stale {
            (self.now, self.is_stale) = (Instant::now(), false);
        }
        self.now.into_std()
    }

    fn set(&mut self, within: Duration) {
        self.due = Instant::from_std(self.now()) + within.min(FAR);
        if let Some(sleep) = &mut self.sleep
            && self.due < sleep.deadline()
        {
            sleep.as_mut().reset(self.due);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.time_went_by();
        let due = self.due;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if due <= sleep.deadline() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

/// How many timers are kept while nobody waits: few are enough, because each is put back within a request.
const SPARE_MAX: usize = 64;

/// Timers that nobody needs now. To make one and to take it away again costs two locks a request; and to set the only one there is costs
/// a system call, which wakes whoever sleeps until the next of them.
pub struct Spare(Mutex<Vec<Deadline>>);

impl Spare {
    /// None yet.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// One of them, or a new one.
    pub fn take(&self) -> Deadline {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(Deadline::new)
    }

    /// Keeps it for the next.
    pub fn put(&self, mut deadline: Deadline) {
        deadline.time_went_by();
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(deadline);
        }
    }
}

/// Waits, and says whether it was not done at once.
pub async fn noticed<T>(mut waited: Pin<&mut impl Future<Output = T>>) -> (T, bool) {
    let mut has_waited = false;
    let done = poll_fn(|cx| {
        let polled = waited.as_mut().poll(cx);
        has_waited |= polled.is_pending();
        polled
    });
    (done.await, has_waited)
}

/// Waits for the first bytes of a request; none: the end, or nobody waits any longer. There is no buffer while nothing comes.
pub async fn first(
    stream: &mut Stream,
    most: usize,
    within: Duration,
    deadline: &mut Deadline,
    mut is_over: impl FnMut(&mut Context<'_>) -> bool,
) -> io::Result<BytesMut> {
    deadline.set(within);
    poll_fn(|cx| {
        let mut came = BytesMut::with_capacity(most);
        match poll_read(stream, &mut came, cx) {
            Poll::Ready(Ok(_)) => return Poll::Ready(Ok(came)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
        if is_over(cx) || deadline.poll(cx).is_ready() {
            return Poll::Ready(Ok(BytesMut::new()));
        }
        Poll::Pending
    })
    .await
}

/// Reads more of an answer, while the client stays. Says how much came; 0: the end.
pub async fn answer(
    app: &mut Stream,
    client: &mut impl Downstream,
    came: &mut BytesMut,
    within: Duration,
    deadline: &mut Deadline,
) -> Result<usize> {
    deadline.set(within);
    poll_fn(|cx| {
        if let Poll::Ready(read) = poll_read(app, came, cx) {
            let read = read.or_err(ErrorType::ReadError, "while reading an answer");
            return Poll::Ready(read.map_err(|error| error.into_up()));
        }
        if let Poll::Ready(left) = client.poll_left(cx) {
            return Poll::Ready(Err(left));
        }
        if deadline.poll(cx).is_ready() {
            let late = Error::explain(ErrorType::ReadTimedout, "while reading an answer");
            return Poll::Ready(Err(late.into_up()));
        }
        Poll::Pending
    })
    .await
}

/// Whether the app's connection was closed over there: what was asked over it was not answered, and is nobody's.
pub fn was_reset(error: &Error) -> bool {
    if *error.esource() != ErrorSource::Upstream {
        return false;
    }
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.raw_os_error().is_some())
}

/// Writes all of it.
pub async fn write(
    stream: &mut Stream,
    mut rest: &[u8],
    within: Duration,
    deadline: &mut Deadline,
) -> Result<()> {
    written(within, deadline, |cx| poll_write(stream, &mut rest, cx)).await
}

/// Writes some of it; after the last of it, flushes. Says whether that was all.
pub fn poll_write(
    stream: &mut Stream,
    rest: &mut &[u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    let stream = Pin::new(stream);
    if rest.is_empty() {
        return stream.poll_flush(cx).map_ok(|()| true);
    }
    let length = ready!(stream.poll_write(cx, rest))?;
    if length == 0 {
        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
    }
    *rest = rest.get(length..).unwrap_or_default();
    Poll::Ready(Ok(false))
}

/// Writes until that was all, and waits so long whenever nothing moves.
pub async fn written(
    within: Duration,
    deadline: &mut Deadline,
    mut write: impl FnMut(&mut Context<'_>) -> Poll<io::Result<bool>>,
) -> Result<()> {
    let mut is_set = false;
    let written = poll_fn(|cx| {
        loop {
            match write(cx) {
                Poll::Ready(Ok(true)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(false)) => is_set = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if !is_set {
                        deadline.set(within);
                        is_set = true;
                    }
                    ready!(deadline.poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
    });
    written.await.map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => ErrorType::WriteTimedout,
            _ => ErrorType::WriteError,
        };
        Error::because(kind, "while writing", error)
    })
}

/// Reads into what is free of a buffer.
fn poll_read(
    stream: &mut Stream,
    into: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut read = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(stream, into));
    read.as_mut().poll(cx)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BytesMut;
    use pingora::protocols::Stream;
    use pingora::{ErrorSource, ErrorType};
    use tokio::io::AsyncWriteExt as _;

    use super::{Deadline, answer, first, write};
    use crate::server::plain::h1::Caller;

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(60);

    fn pair() -> (Stream, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(16);
        (Box::new(ours), theirs)
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_not_written_to_for_ever() {
        let (mut client, _theirs) = pair();
        let mut deadline = Deadline::new();
        // Set for later before, as a connection's timer mostly is.
        deadline.set(LATE);
        let written = write(&mut client, &[0; 64], SOON, &mut deadline).await;
        let error = written.expect_err("nobody reads");
        assert_eq!(*error.etype(), ErrorType::WriteTimedout);
    }

    #[tokio::test]
    async fn silence_ends_a_wait_and_a_timer_that_rang_serves_again() {
        let (mut app, mut theirs) = pair();
        let (client, _stays) = pair();
        let mut client = Caller(client);
        let (mut deadline, mut came) = (Deadline::new(), BytesMut::with_capacity(16));
        for turn in 0..2 {
            let began = std::time::Instant::now();
            let late = answer(&mut app, &mut client, &mut came, SOON, &mut deadline).await;
            let late = late.expect_err("the app is silent");
            assert_eq!(*late.etype(), ErrorType::ReadTimedout);
            assert_eq!(*late.esource(), ErrorSource::Upstream);
            // What was waited before is not taken off it.
            assert!(turn == 0 || began.elapsed() >= SOON);
        }
        theirs.write_all(b"here").await.expect("there is room");
        let read = answer(&mut app, &mut client, &mut came, LATE, &mut deadline).await;
        assert_eq!((read.ok(), &came[..]), (Some(4), &b"here"[..]));
        let nothing = first(&mut client.0, 16, SOON, &mut deadline, |_| false).await;
        assert!(nothing.expect("no end").is_empty());
    }

    #[tokio::test]
    async fn whoever_leaves_is_told_apart_from_whoever_breaks_off() {
        let (mut app, _stays) = pair();
        let (client, theirs) = pair();
        let mut client = Caller(client);
        let (mut deadline, mut came) = (Deadline::new(), BytesMut::with_capacity(16));
        drop(theirs);
        let left = answer(&mut app, &mut client, &mut came, LATE, &mut deadline).await;
        let left = left.expect_err("the client left");
        assert_eq!(*left.esource(), ErrorSource::Downstream);
        assert!(!super::was_reset(&left));
    }
}
