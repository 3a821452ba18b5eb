//! The log: text or JSON lines, written by a thread of its own. When the disk cannot keep up lines are dropped, not requests.

use tracing::Subscriber;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Settings;

/// Flushes the log when dropped.
pub struct Guard(#[allow(dead_code)] tracing_appender::non_blocking::WorkerGuard);

/// Sends this process's log to standard error. Once per process; later calls change nothing.
pub fn start(settings: &Settings) -> Guard {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    // A second gateway in one process (tests) writes to the log of the first.
    let _ = subscriber(settings, writer).try_init();
    Guard(guard)
}

/// Sends this process's log to a file instead, by the same way. Once per process; later calls change nothing.
pub fn start_into(settings: &Settings, file: std::fs::File) -> Guard {
    let (writer, guard) = tracing_appender::non_blocking(file);
    let _ = subscriber(settings, writer).try_init();
    Guard(guard)
}

/// What turns events into lines.
pub fn subscriber<W>(settings: &Settings, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let level = settings.level.parse().unwrap_or(tracing::Level::INFO);
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
