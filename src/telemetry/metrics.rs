//! Every metric: name, labels, unit. Each gateway has a registry of its own, and label sets are fixed at start: nothing a client
//! sends becomes a label.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use crate::session::resolve::Tier;
use crate::target::Ambiguity;

/// Bounds of the validation histogram, in seconds: from a hit in memory (under a microsecond) to a store at its deadline.
const VALIDATION_SECONDS: &[f64] = &[
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2,
    5e-2, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// Every metric's name and meaning, for the documentation and the test that holds it to this table.
pub const NAMES: &[(&str, &str)] = &[
    (
        "vestibule_requests_total",
        "Requests answered, by status class.",
    ),
    (
        "vestibule_decisions_total",
        "Decisions, by verdict and reason.",
    ),
    (
        "vestibule_refused_targets_total",
        "Requests refused as malformed or ambiguous before any decision, by reason.",
    ),
    (
        "vestibule_validation_seconds",
        "Time to find out who is calling, by tier.",
    ),
    ("vestibule_cache_entries", "Identities remembered."),
    (
        "vestibule_cache_bytes",
        "Bytes they take, as reckoned for the bound.",
    ),
    (
        "vestibule_cache_evictions_total",
        "Sessions forgotten because a revocation passed by, by what was forgotten.",
    ),
    (
        "vestibule_source_failures_total",
        "Lookups the store could not answer, by cause.",
    ),
    ("vestibule_requests_in_flight", "Requests being answered."),
    (
        "vestibule_upstream_failures_total",
        "Requests the app could not be asked or did not answer.",
    ),
];

/// Handles to the metrics, ready to be counted on.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    by_class: [IntCounter; 6],
    decisions: IntCounterVec,
    refused: IntCounterVec,
    validation: [Histogram; Tier::ALL.len()],
    cache_entries: IntGauge,
    cache_bytes: IntGauge,
    evictions: IntCounterVec,
    source_failures: IntCounterVec,
    in_flight: IntGauge,
    upstream_failures: IntCounter,
}

impl Metrics {
    /// A fresh set, all at zero.
    ///
    /// # Errors
    /// When two metrics have one name: a defect.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let requests = counters(&registry, 0, &["class"])?;
        let validation = HistogramVec::new(
            HistogramOpts::new(name(3), help(3)).buckets(VALIDATION_SECONDS.to_vec()),
            &["tier"],
        )?;
        registry.register(Box::new(validation.clone()))?;
        let made = Self {
            by_class: ["other", "1xx", "2xx", "3xx", "4xx", "5xx"]
                .map(|class| requests.with_label_values(&[class])),
            requests,
            decisions: counters(&registry, 1, &["verdict", "reason"])?,
            refused: counters(&registry, 2, &["reason"])?,
            validation: Tier::ALL.map(|tier| validation.with_label_values(&[tier.as_str()])),
            cache_entries: gauge(&registry, 4)?,
            cache_bytes: gauge(&registry, 5)?,
            evictions: counters(&registry, 6, &["what"])?,
            source_failures: counters(&registry, 7, &["cause"])?,
            in_flight: gauge(&registry, 8)?,
            upstream_failures: IntCounter::with_opts(Opts::new(name(9), help(9)))?,
            registry,
        };
        made.registry
            .register(Box::new(made.upstream_failures.clone()))?;
        made.begin_at_zero();
        Ok(made)
    }

    /// A series that does not exist cannot be watched for its first increase, so the common ones are there from the start.
    fn begin_at_zero(&self) {
        for (verdict, reason) in [
            ("allow", "public"),
            ("allow", "signed_in"),
            ("redirect", "no_credential"),
            ("unauthorized", "no_credential"),
            ("unavailable", "store"),
        ] {
            self.decisions.with_label_values(&[verdict, reason]);
        }
        for ambiguity in Ambiguity::ALL {
            self.refused.with_label_values(&[ambiguity.as_str()]);
        }
        for what in ["session", "user", "all", "admin"] {
            self.evictions.with_label_values(&[what]);
        }
        for cause in ["timeout", "unreachable", "garbage", "busy", "refused"] {
            self.source_failures.with_label_values(&[cause]);
        }
    }

    /// One request was answered with `status`.
    pub fn answered(&self, status: u16) {
        // The array has a place for each class; anything else goes to the first.
        let class = usize::from(status / 100);
        if let Some(counter) = self.by_class.get(class).or_else(|| self.by_class.first()) {
            counter.inc();
        }
    }

    /// A decision fell.
    pub fn decided(&self, verdict: &'static str, reason: &'static str) {
        self.decisions.with_label_values(&[verdict, reason]).inc();
    }

    /// A request was refused before any decision.
    pub fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// Finding out who is calling took this long.
    pub fn validated(&self, tier: Tier, took: Duration) {
        let at = Tier::ALL.iter().position(|each| *each == tier);
        if let Some(histogram) = at.and_then(|at| self.validation.get(at)) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// The memory's size now.
    pub fn cache_size(&self, entries: usize, bytes: u64) {
        self.cache_entries
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.cache_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A revocation passed by.
    pub fn evicted(&self, what: &'static str) {
        self.evictions.with_label_values(&[what]).inc();
    }

    /// A lookup failed.
    pub fn source_failed(&self, cause: &'static str) {
        self.source_failures.with_label_values(&[cause]).inc();
    }

    /// The app could not be asked.
    pub fn upstream_failed(&self) {
        self.upstream_failures.inc();
    }

    /// A request began.
    pub fn began(&self) {
        self.in_flight.inc();
    }

    /// A request ended.
    pub fn ended(&self) {
        self.in_flight.dec();
    }

    /// Requests being answered now.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// All of it in the Prometheus text format.
    pub fn render(&self) -> String {
        // The encoder fails only on families without metrics, which the registry never hands out.
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }

    /// Requests answered so far, by status class: for tests.
    pub fn collector(&self) -> &dyn Collector {
        &self.requests
    }
}

fn name(at: usize) -> &'static str {
    NAMES.get(at).map_or("", |(name, _)| name)
}

fn help(at: usize) -> &'static str {
    NAMES.get(at).map_or("", |(_, help)| help)
}

fn counters(
    registry: &Registry,
    at: usize,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let made = IntCounterVec::new(Opts::new(name(at), help(at)), labels)?;
    registry.register(Box::new(made.clone()))?;
    Ok(made)
}

fn gauge(registry: &Registry, at: usize) -> Result<IntGauge, prometheus::Error> {
    let made = IntGauge::new(name(at), help(at))?;
    registry.register(Box::new(made.clone()))?;
    Ok(made)
}
