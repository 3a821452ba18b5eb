//! One line and one count for every step a user takes on the way from the old system. Ids and words; never an address, never a password.

use crate::migration::state::State;
use crate::telemetry::metrics::Metrics;

/// A step of one user.
#[derive(Clone, Copy, Debug)]
pub struct Moved<'m> {
    /// `user.id`.
    pub user_id: &'m str,
    /// The old system; empty where it does not matter.
    pub provider: &'m str,
    /// Where they stood; none when nothing was known.
    pub from: Option<State>,
    /// Where they stand.
    pub to: State,
    /// What moved them: `hash`, `jit`, `reset`, `native`, `second_factor` ...
    pub mechanism: &'static str,
    /// The scheme of the hash, where one was involved.
    pub scheme: &'m str,
    /// A word on why, where the step is none the user wanted.
    pub reason: &'static str,
}

/// Writes it down.
pub fn moved(metrics: &Metrics, step: &Moved<'_>) {
    let from = step.from.map_or("none", State::as_str);
    metrics.migration_moved(step.mechanism, from, step.to.as_str());
    tracing::info!(
        target: "vestibule::audit",
        user_id = step.user_id,
        provider = step.provider,
        from,
        to = step.to.as_str(),
        mechanism = step.mechanism,
        scheme = step.scheme,
        reason = step.reason,
        "moved"
    );
}
