//! The log: text or JSON lines, written by a thread of its own, many at once. When the disk cannot keep up lines are dropped, not
//! requests.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{Settings, access};

/// Bytes of lines that wait to be written at most; lines beyond are dropped, and their number is told. Ten thousand lines or more: what
/// a busy gateway says in a second.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// From so many bytes on they are written at once.
const WRITE_AT_BYTES: usize = 64 << 10;

/// How long lines wait for others, to be written with one call. One call for each line costs the processor more than the line itself.
const WRITE_WITHIN: Duration = Duration::from_millis(10);

/// How long the end of the process waits for what is still to be written: whoever reads it may be stuck.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Flushes the log when dropped.
pub struct Guard {
    lines: Lines,
    written: Option<mpsc::Receiver<()>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.lines.close();
        if let Some(written) = self.written.take() {
            // Either it has all been written, or nobody takes it.
            let _ = written.recv_timeout(FLUSH_WITHIN);
        }
    }
}

/// Sends this process's log to standard error. Once per process; later calls change nothing.
pub fn start(settings: &Settings) -> Guard {
    start_writing(settings, io::stderr())
}

/// Sends this process's log to a file instead, by the same way. Once per process; later calls change nothing.
pub fn start_into(settings: &Settings, file: std::fs::File) -> Guard {
    start_writing(settings, file)
}

fn start_writing(settings: &Settings, mut out: impl Write + Send + 'static) -> Guard {
    let lines = Lines::default();
    let (done, written) = mpsc::channel();
    let writing = lines.clone();
    let thread = thread::Builder::new().name("log".into()).spawn(move || {
        writing.write_to(&mut out);
        // Gone if nobody waits any more.
        let _ = done.send(());
    });
    // A second gateway in one process (tests) writes to the log of the first.
    match thread {
        Ok(_) => {
            let is_first = subscriber(settings, lines.clone()).try_init().is_ok();
            if is_first && !settings.json && level(settings) >= tracing::Level::INFO {
                access::write_into(lines.clone());
            }
        }
        // Without a thread to spare, slowly, and to standard error.
        Err(_) => {
            let _ = subscriber(settings, io::stderr).try_init();
        }
    }
    Guard {
        lines,
        written: Some(written),
    }
}

/// Lines on their way to the log. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Lines that found no room since this was told of last.
    dropped: u64,
    /// Whether there is nobody left to write them.
    closed: bool,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Bytes are bytes, whoever panicked beside them.
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one whole line.
    pub(super) fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        let before = waiting.bytes.len();
        let after = before + line.len();
        if after > WAITING_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        // The writer waits for the first line, and then for more of them.
        if before == 0 || (before < WRITE_AT_BYTES && after >= WRITE_AT_BYTES) {
            self.0.more.notify_one();
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.0.more.notify_one();
    }

    /// Writes lines as they come, until it is closed and all are written.
    fn write_to(&self, out: &mut dyn Write) {
        let mut batch = Vec::new();
        loop {
            let mut waiting = self.lock();
            while waiting.bytes.is_empty() && !waiting.closed {
                let woken = self.0.more.wait(waiting);
                waiting = woken.unwrap_or_else(PoisonError::into_inner);
            }
            if !waiting.closed && waiting.bytes.len() < WRITE_AT_BYTES {
                let few =
                    |waiting: &mut Waiting| !waiting.closed && waiting.bytes.len() < WRITE_AT_BYTES;
                let woken = self.0.more.wait_timeout_while(waiting, WRITE_WITHIN, few);
                waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
            std::mem::swap(&mut waiting.bytes, &mut batch);
            let dropped = std::mem::take(&mut waiting.dropped);
            let closed = waiting.closed;
            drop(waiting);
            if batch.is_empty() && dropped == 0 && closed {
                return;
            }
            // There is nowhere to say that nothing can be said.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            // A burst is over; its memory is not kept.
            batch.shrink_to(4 * WRITE_AT_BYTES);
            if dropped > 0 {
                tracing::warn!(
                    lines = dropped,
                    "the log is not read fast enough: lines were dropped"
                );
            }
        }
    }
}

impl Write for Lines {
    /// Takes one whole line: that is how they come.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn level(settings: &Settings) -> tracing::Level {
    settings.level.parse().unwrap_or(tracing::Level::INFO)
}

/// What turns events into lines.
pub fn subscriber<W>(settings: &Settings, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let level = level(settings);
    let least = level.min(tracing::Level::WARN);
    // Whatever is asked for, these say warnings and errors only: below `info` they print whole header maps and statements, cookies
    // and tokens among them, and at `info` nothing an operator has asked for.
    let targets = Targets::new().with_default(level).with_targets(
        [
            "pingora",
            "pingora_core",
            "pingora_proxy",
            "h2",
            "hyper",
            "rustls",
            "sqlx",
            "pingora_http",
        ]
        .map(|name| (name, least)),
    );
    let registry = tracing_subscriber::registry().with(targets);
    if settings.json {
        Box::new(
            registry.with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(writer),
            ),
        )
    } else {
        Box::new(
            registry.with(
                tracing_subscriber::fmt::layer()
                    .with_ansi(false)
                    .with_writer(writer),
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands still until it is let go, and keeps what it is given.
    struct Stuck {
        go: mpsc::Receiver<()>,
        begun: mpsc::Sender<()>,
        calls: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.begun.send(());
            let _ = self.go.recv();
            self.calls.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_come_while_others_are_written_are_written_with_one_call_and_none_is_lost() {
        let lines = Lines::default();
        let (go, stuck) = mpsc::channel();
        let (begun, begins) = mpsc::channel();
        let calls = Arc::default();
        let mut out = Stuck {
            go: stuck,
            begun,
            calls: Arc::clone(&calls),
        };
        let writing = lines.clone();
        let writer = thread::spawn(move || writing.write_to(&mut out));
        lines.push(b"first\n");
        begins.recv().unwrap();
        for number in 0..1000 {
            lines.push(format!("{number}\n").as_bytes());
        }
        drop(go);
        lines.close();
        writer.join().unwrap();
        let calls = calls.lock().unwrap();
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(*calls, [b"first\n".to_vec(), expected.into_bytes()]);
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_what_is_dropped_is_counted() {
        let lines = Lines::default();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..4 {
            lines.push(&line);
        }
        assert_eq!(lines.lock().dropped, 0);
        lines.push(b"one too many");
        let waiting = lines.lock();
        assert_eq!(
            (waiting.bytes.len(), waiting.dropped),
            (WAITING_BYTES_MAX, 1)
        );
    }

    #[test]
    fn lines_of_many_threads_stay_whole() {
        let lines = Lines::default();
        let (line, threads, each) = ("0123456789 abcdefghij\n", 8, 2000);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..each).for_each(|_| lines.push(line.as_bytes())));
            }
        });
        lines.close();
        let mut out = Vec::new();
        lines.write_to(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), line.repeat(threads * each));
    }
}
