//! Being asked to stop: what was made is taken away before the command ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Whether somebody wants us to stop.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Hears SIGINT, SIGTERM and SIGHUP from now on; the second of them ends the process at once.
    pub(super) fn on_signals(runtime: &tokio::runtime::Runtime) -> Self {
        let stop = Self::default();
        let asked = stop.clone();
        let _inside = runtime.enter();
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        for mut heard in kinds.into_iter().filter_map(|kind| signal(kind).ok()) {
            let asked = asked.clone();
            runtime.spawn(async move {
                while heard.recv().await.is_some() {
                    if asked.0.swap(true, Ordering::SeqCst) {
                        std::process::exit(130);
                    }
                }
            });
        }
        stop
    }

    /// Whether it was said.
    pub(super) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
