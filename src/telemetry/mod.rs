//! Names, labels and units of metrics and log fields, in one place.

pub mod access;
pub mod log;
pub mod metrics;
mod migration;

/// How logs are written.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `log.level`: `error`, `warn`, `info`, `debug`, `trace`.
    pub level: String,
    /// `log.format`: JSON lines instead of text.
    pub json: bool,
    /// `log.access`: one line per request.
    pub access: bool,
}
