//! What is counted while users are moved in. Schemes and providers are words of our own tables: nothing a client sends becomes a label.

use std::time::Duration;

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use super::metrics::described;

/// Bounds of the histogram of old hashes, in seconds: from one pass of a digest to the dearest that is allowed, behind a full queue.
const HASH_SECONDS: &[f64] = &[
    1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Handles, ready to be counted on.
pub(super) struct Counts {
    pub(super) sign_ins: IntCounterVec,
    pub(super) moves: IntCounterVec,
    pub(super) hashes: HistogramVec,
    pub(super) success: GaugeVec,
    pub(super) resets: IntCounterVec,
    pub(super) late: IntCounter,
}

impl Counts {
    /// What is labelled exists from the start: a series that does not cannot be watched for its first increase.
    pub(super) fn begin_at_zero(&self) {
        self.sign_ins.with_label_values(&["native", "none", "done"]);
        self.moves
            .with_label_values(&["hash", "pending", "rehashed"]);
        self.hashes.with_label_values(&["none"]);
        // Nobody has failed yet.
        self.success.with_label_values(&["native", "none"]).set(1.0);
        self.resets.with_label_values(&["sent"]);
    }

    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name, labels: &[&str]| {
            let made = IntCounterVec::new(opts(name), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let (name, help) = described("vestibule_migration_hash_seconds");
        let hashes = HistogramVec::new(
            HistogramOpts::new(name, help).buckets(HASH_SECONDS.to_vec()),
            &["scheme"],
        )?;
        registry.register(Box::new(hashes.clone()))?;
        let success = GaugeVec::new(
            opts("vestibule_migration_success_ratio"),
            &["mechanism", "scheme"],
        )?;
        registry.register(Box::new(success.clone()))?;
        let late = IntCounter::with_opts(opts("vestibule_migration_late_total"))?;
        registry.register(Box::new(late.clone()))?;
        Ok(Self {
            sign_ins: counters(
                "vestibule_migration_sign_ins_total",
                &["mechanism", "scheme", "outcome"],
            )?,
            moves: counters(
                "vestibule_migration_moves_total",
                &["mechanism", "from", "to"],
            )?,
            hashes,
            success,
            resets: counters("vestibule_migration_resets_total", &["outcome"])?,
            late,
        })
    }
}

fn opts(name: &'static str) -> Opts {
    let (name, help) = described(name);
    Opts::new(name, help)
}

impl super::metrics::Metrics {
    /// A sign-in came to its end.
    pub fn migration_sign_in(&self, mechanism: &str, scheme: &str, outcome: &str) {
        let labels = [mechanism, scheme, outcome];
        self.migration().sign_ins.with_label_values(&labels).inc();
    }

    /// A user took a step.
    pub fn migration_moved(&self, mechanism: &str, from: &str, to: &str) {
        let labels = [mechanism, from, to];
        self.migration().moves.with_label_values(&labels).inc();
    }

    /// An old hash was checked, and it took this long.
    pub fn migration_hash(&self, scheme: &str, took: Duration) {
        let hashes = self.migration().hashes.with_label_values(&[scheme]);
        hashes.observe(took.as_secs_f64());
    }

    /// Of so many sign-ins so many succeeded.
    pub fn migration_success(&self, mechanism: &str, scheme: &str, tried: u64, succeeded: u64) {
        // Both are small: a window holds an hour.
        let ratio = succeeded as f64 / tried.max(1) as f64;
        let gauge = self
            .migration()
            .success
            .with_label_values(&[mechanism, scheme]);
        gauge.set(ratio);
    }

    /// A reset mail was asked for, or not.
    pub fn migration_reset(&self, outcome: &str) {
        self.migration().resets.with_label_values(&[outcome]).inc();
    }

    /// A failed sign-in took longer than failed ones are held.
    pub fn migration_late(&self) {
        self.migration().late.inc();
    }
}
