//! Every metric: name, labels, unit. Each gateway has a registry of its own, and label sets are fixed at start: nothing a client
//! sends becomes a label.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::session::feed::Ended;
use crate::session::resolve::Tier;
use crate::target::Ambiguity;

/// Bounds of the validation histogram, in seconds: from a hit in memory (under a microsecond) to a store at its deadline.
const VALIDATION_SECONDS: &[f64] = &[
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2,
    5e-2, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// Bounds of the revocation lag, in seconds: from the same machine to a line that was down.
const LAG_SECONDS: &[f64] = &[
    1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Decisions that most requests end in, by verdict and reason. There from the start: a series that does not exist cannot be watched for
/// its first increase.
const COMMON: [(&str, &str); 5] = [
    ("allow", "signed_in"),
    ("allow", "public"),
    ("redirect", "no_credential"),
    ("unauthorized", "no_credential"),
    ("unavailable", "store"),
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
    (
        "vestibule_assertion_bytes",
        "Bytes that assertions signed a moment ago take, as reckoned for their bound.",
    ),
    ("vestibule_api_key_entries", "API keys remembered."),
    (
        "vestibule_api_key_uses_in_flight",
        "Uses of API keys counted and not written to the store yet.",
    ),
    (
        "vestibule_key_fetches_total",
        "Fetches of the keys of tokens, by outcome.",
    ),
    (
        "vestibule_revocations_heard_total",
        "Revocations that the store or other gateways told of, by what ended.",
    ),
    (
        "vestibule_session_revocation_lag_seconds",
        "Time from a revocation, by the clock of whoever told of it, until it counted here.",
    ),
    (
        "vestibule_revocation_line_up",
        "Whether revocations made elsewhere can be heard: 1 or 0.",
    ),
    (
        "vestibule_revocation_line_lost_total",
        "How often they could not be heard any more.",
    ),
    (
        "vestibule_streams_in_flight",
        "WebSockets and other long answers that end when their session does.",
    ),
    (
        "vestibule_streams_ended_total",
        "WebSockets and other long answers ended because their session was.",
    ),
    (
        "vestibule_bridge_total",
        "Sessions of an old system that were presented, by system and what became of them.",
    ),
    (
        "vestibule_old_system_calls_total",
        "Conversations with old systems, by provider, by what was asked and by what they came to.",
    ),
    (
        "vestibule_old_system_seconds",
        "Time they took, by provider.",
    ),
    (
        "vestibule_old_system_up",
        "Whether an old system is asked: 1, or left alone because it does not answer: 0.",
    ),
    (
        "vestibule_migration_sign_ins_total",
        "Sign-ins while users are moved in, by mechanism, scheme of the old hash and outcome.",
    ),
    (
        "vestibule_migration_moves_total",
        "Steps of users on the way from the old system, by mechanism, from where and to where.",
    ),
    (
        "vestibule_migration_hash_seconds",
        "Time to check an old hash, waiting for its turn included, by scheme.",
    ),
    (
        "vestibule_migration_success_ratio",
        "Share of sign-ins of the last hour that succeeded, by mechanism and scheme.",
    ),
    (
        "vestibule_migration_resets_total",
        "Reset mails asked for, or not, by outcome.",
    ),
    (
        "vestibule_migration_late_total",
        "Failed sign-ins that took longer than `migration.sign_in.hold`.",
    ),
    (
        "vestibule_hash_queue_entries",
        "Checks of passwords that wait for a thread.",
    ),
    (
        "vestibule_hash_jobs_in_flight",
        "Checks of passwords under way.",
    ),
    (
        "vestibule_hash_jobs_refused_total",
        "Sign-ins refused because too many passwords were being checked.",
    ),
    (
        "vestibule_sign_ins_limited_total",
        "Sign-ins refused because too many failed before, by whose budget was spent.",
    ),
    (
        "vestibule_sign_in_limits_alone_total",
        "Times the shared counts of sign-ins could not be reached, so that this gateway counted alone.",
    ),
    (
        "vestibule_sign_ups_total",
        "Requests that would make an account while users are moved in, by what became of them.",
    ),
    (
        "vestibule_mirrored_total",
        "Changes told to an old system, by what changed and what became of it.",
    ),
    (
        "vestibule_sign_in_loops_total",
        "Browsers told that they go round between the sign-in page and a page that asks to sign in, by why their credential does not count.",
    ),
    (
        "vestibule_app_build_info",
        "The app's build that is known, by its name.",
    ),
    (
        "vestibule_app_build_reloads_total",
        "Builds of the app found while running, by whether they were taken.",
    ),
];

/// Handles to the metrics, ready to be counted on.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    by_class: [IntCounter; 6],
    decisions: IntCounterVec,
    /// Of the most common ones: looking a counter up by its labels costs more than counting.
    common: [((&'static str, &'static str), IntCounter); COMMON.len()],
    refused: IntCounterVec,
    validation: [Histogram; Tier::ALL.len()],
    cache_entries: IntGauge,
    cache_bytes: IntGauge,
    assertion_bytes: IntGauge,
    evictions: IntCounterVec,
    source_failures: IntCounterVec,
    in_flight: IntGauge,
    upstream_failures: IntCounter,
    api_keys: IntGauge,
    api_key_uses: IntGauge,
    key_fetches: IntCounterVec,
    heard: IntCounterVec,
    lag: Histogram,
    line_up: IntGauge,
    line_lost: IntCounter,
    open_streams: IntGauge,
    ended_streams: IntCounter,
    bridged: IntCounterVec,
    old_calls: IntCounterVec,
    old_seconds: HistogramVec,
    old_up: IntGaugeVec,
    migration: super::migration::Counts,
    hash_waiting: IntGauge,
    hash_running: IntGauge,
    hash_refused: IntCounter,
    sign_ins_limited: IntCounterVec,
    limits_alone: IntCounter,
    sign_ups: IntCounterVec,
    mirrored: IntCounterVec,
    loops: IntCounterVec,
    app_build: IntGaugeVec,
    app_builds: IntCounterVec,
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
        let at = place("vestibule_session_revocation_lag_seconds");
        let lag = Histogram::with_opts(
            HistogramOpts::new(name(at), help(at)).buckets(LAG_SECONDS.to_vec()),
        )?;
        registry.register(Box::new(lag.clone()))?;
        let at = place("vestibule_old_system_seconds");
        let old_seconds = HistogramVec::new(
            HistogramOpts::new(name(at), help(at)).buckets(LAG_SECONDS.to_vec()),
            &["provider"],
        )?;
        registry.register(Box::new(old_seconds.clone()))?;
        let at = place("vestibule_old_system_up");
        let old_up = IntGaugeVec::new(Opts::new(name(at), help(at)), &["provider"])?;
        registry.register(Box::new(old_up.clone()))?;
        let at = place("vestibule_app_build_info");
        let app_build = IntGaugeVec::new(Opts::new(name(at), help(at)), &["build"])?;
        registry.register(Box::new(app_build.clone()))?;
        let decisions = counters(&registry, 1, &["verdict", "reason"])?;
        let common = COMMON.map(|labels| {
            let counter = decisions.with_label_values(&[labels.0, labels.1]);
            (labels, counter)
        });
        let made = Self {
            app_build,
            app_builds: counters(
                &registry,
                place("vestibule_app_build_reloads_total"),
                &["outcome"],
            )?,
            by_class: ["other", "1xx", "2xx", "3xx", "4xx", "5xx"]
                .map(|class| requests.with_label_values(&[class])),
            requests,
            decisions,
            common,
            refused: counters(&registry, 2, &["reason"])?,
            validation: Tier::ALL.map(|tier| validation.with_label_values(&[tier.as_str()])),
            cache_entries: gauge(&registry, 4)?,
            cache_bytes: gauge(&registry, 5)?,
            assertion_bytes: gauge(&registry, place("vestibule_assertion_bytes"))?,
            evictions: counters(&registry, 6, &["what"])?,
            source_failures: counters(&registry, 7, &["cause"])?,
            in_flight: gauge(&registry, 8)?,
            upstream_failures: IntCounter::with_opts(Opts::new(name(9), help(9)))?,
            api_keys: gauge(&registry, place("vestibule_api_key_entries"))?,
            api_key_uses: gauge(&registry, place("vestibule_api_key_uses_in_flight"))?,
            key_fetches: counters(
                &registry,
                place("vestibule_key_fetches_total"),
                &["outcome"],
            )?,
            heard: counters(
                &registry,
                place("vestibule_revocations_heard_total"),
                &["what"],
            )?,
            lag,
            line_up: gauge(&registry, place("vestibule_revocation_line_up"))?,
            line_lost: counter(&registry, place("vestibule_revocation_line_lost_total"))?,
            open_streams: gauge(&registry, place("vestibule_streams_in_flight"))?,
            ended_streams: counter(&registry, place("vestibule_streams_ended_total"))?,
            bridged: counters(
                &registry,
                place("vestibule_bridge_total"),
                &["provider", "outcome"],
            )?,
            old_calls: counters(
                &registry,
                place("vestibule_old_system_calls_total"),
                &["provider", "asked", "outcome"],
            )?,
            old_seconds,
            old_up,
            migration: super::migration::Counts::new(&registry)?,
            hash_waiting: gauge(&registry, place("vestibule_hash_queue_entries"))?,
            hash_running: gauge(&registry, place("vestibule_hash_jobs_in_flight"))?,
            hash_refused: counter(&registry, place("vestibule_hash_jobs_refused_total"))?,
            sign_ins_limited: counters(
                &registry,
                place("vestibule_sign_ins_limited_total"),
                &["scope"],
            )?,
            limits_alone: counter(&registry, place("vestibule_sign_in_limits_alone_total"))?,
            sign_ups: counters(&registry, place("vestibule_sign_ups_total"), &["course"])?,
            mirrored: counters(
                &registry,
                place("vestibule_mirrored_total"),
                &["operation", "outcome"],
            )?,
            loops: counters(
                &registry,
                place("vestibule_sign_in_loops_total"),
                &["reason"],
            )?,
            registry,
        };
        made.registry
            .register(Box::new(made.upstream_failures.clone()))?;
        made.begin_at_zero();
        Ok(made)
    }

    /// A series that does not exist cannot be watched for its first increase, so the common ones are there from the start.
    fn begin_at_zero(&self) {
        for ambiguity in Ambiguity::ALL {
            self.refused.with_label_values(&[ambiguity.as_str()]);
        }
        for what in ["session", "user", "all", "admin"] {
            self.evictions.with_label_values(&[what]);
        }
        for what in ["session", "user", "organization", "api_key", "all"] {
            self.heard.with_label_values(&[what]);
        }
        // Which old systems there are is not known yet; a gateway without any has these alone.
        self.old_calls
            .with_label_values(&["none", "password", "right"]);
        self.old_seconds.with_label_values(&["none"]);
        self.old_up.with_label_values(&["none"]).set(1);
        self.sign_ups.with_label_values(&["passed"]);
        self.bridged.with_label_values(&["none", "made"]);
        self.mirrored.with_label_values(&["sign_up", "done"]);
        self.loops.with_label_values(&["no_credential"]);
        self.migration.begin_at_zero();
        self.app_build.with_label_values(&["none"]).set(1);
        for outcome in ["taken", "refused"] {
            self.app_builds.with_label_values(&[outcome]);
        }
        self.key_fetches.with_label_values(&["fetched"]);
        for scope in crate::migration::limits::Scope::ALL {
            self.sign_ins_limited.with_label_values(&[scope.as_str()]);
        }
        for cause in ["timeout", "unreachable", "garbage", "busy", "refused"] {
            self.source_failures.with_label_values(&[cause]);
        }
    }

    /// What is counted while users are moved in.
    pub(super) const fn migration(&self) -> &super::migration::Counts {
        &self.migration
    }

    /// This build of the app is known from the start.
    pub fn build_known(&self, build: &str) {
        // One at a time: the name of the one before would stay for ever.
        self.app_build.reset();
        self.app_build.with_label_values(&[build]).set(1);
    }

    /// The app was built again, and the new build is known.
    pub fn build_taken(&self, build: &str) {
        self.build_known(build);
        self.app_builds.with_label_values(&["taken"]).inc();
    }

    /// The app was built again, and what was known still holds.
    pub fn build_refused(&self) {
        self.app_builds.with_label_values(&["refused"]).inc();
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
        let labels = (verdict, reason);
        match self.common.iter().find(|(common, _)| *common == labels) {
            Some((_, counter)) => counter.inc(),
            None => self.decisions.with_label_values(&[verdict, reason]).inc(),
        }
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

    /// The size of the memory of assertions now.
    pub fn assertions_size(&self, bytes: u64) {
        self.assertion_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// API keys remembered now, and their uses that are not written yet.
    pub fn keys(&self, remembered: usize, unwritten: i64) {
        self.api_keys
            .set(i64::try_from(remembered).unwrap_or(i64::MAX));
        self.api_key_uses.set(unwritten);
    }

    /// A revocation passed by.
    pub fn evicted(&self, what: &'static str) {
        self.evictions.with_label_values(&[what]).inc();
    }

    /// Somebody told of a revocation, and it took so long to count here, as far as can be told.
    pub fn told(&self, what: &Ended, lag: Option<Duration>) {
        let (what, _) = what.as_text();
        self.heard.with_label_values(&[what]).inc();
        if let Some(lag) = lag {
            self.lag.observe(lag.as_secs_f64());
        }
    }

    /// Revocations made elsewhere can be heard from now on, or not any more.
    pub fn line(&self, up: bool) {
        self.line_up.set(i64::from(up));
        if !up {
            self.line_lost.inc();
        }
    }

    /// So many long answers are open.
    pub fn open_streams(&self, count: usize) {
        self.open_streams
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A long answer was ended because its session was.
    pub fn stream_ended(&self) {
        self.ended_streams.inc();
    }

    /// A conversation with an old system is over.
    pub fn old_system_asked(
        &self,
        provider: &'static str,
        asked: &'static str,
        outcome: &'static str,
    ) {
        self.old_calls
            .with_label_values(&[provider, asked, outcome])
            .inc();
    }

    /// It took this long.
    pub fn old_system_took(&self, provider: &'static str, took: Duration) {
        self.old_seconds
            .with_label_values(&[provider])
            .observe(took.as_secs_f64());
    }

    /// An old system is asked from now on, or left alone.
    pub fn old_system_up(&self, provider: &'static str, up: bool) {
        self.old_up
            .with_label_values(&[provider])
            .set(i64::from(up));
    }

    /// So many checks of passwords wait and are under way.
    pub fn hashing(&self, waiting: usize, running: usize) {
        self.hash_waiting
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.hash_running
            .set(i64::try_from(running).unwrap_or(i64::MAX));
    }

    /// A sign-in was refused because too many passwords were being checked.
    pub fn hashing_refused(&self) {
        self.hash_refused.inc();
    }
    /// A session of an old system was presented, and this became of it.
    pub fn bridged(&self, provider: &'static str, outcome: &'static str) {
        self.bridged.with_label_values(&[provider, outcome]).inc();
    }

    /// A request would make an account, and this became of it.
    pub fn sign_up(&self, course: &'static str) {
        self.sign_ups.with_label_values(&[course]).inc();
    }

    /// A browser was told that it goes round.
    pub fn went_round(&self, reason: &'static str) {
        self.loops.with_label_values(&[reason]).inc();
    }

    /// A change was told to an old system, or was not.
    pub fn mirrored(&self, operation: &'static str, outcome: &'static str) {
        self.mirrored.with_label_values(&[operation, outcome]).inc();
    }

    /// A lookup failed.
    pub fn source_failed(&self, cause: &'static str) {
        self.source_failures.with_label_values(&[cause]).inc();
    }

    /// A sign-in was refused because too many failed before.
    pub fn sign_in_limited(&self, scope: &'static str) {
        self.sign_ins_limited.with_label_values(&[scope]).inc();
    }

    /// The shared counts of sign-ins could not be reached.
    pub fn limits_alone(&self) {
        self.limits_alone.inc();
    }

    /// Keys were fetched, or were not.
    pub fn keys_fetched(&self, outcome: &'static str) {
        self.key_fetches.with_label_values(&[outcome]).inc();
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

/// A metric's name and meaning, out of the table.
pub(super) fn described(name: &'static str) -> (&'static str, &'static str) {
    (name, help(place(name)))
}

/// Where a metric stands in the table.
fn place(name: &str) -> usize {
    let at = NAMES.iter().position(|(known, _)| *known == name);
    at.unwrap_or(usize::MAX)
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

fn counter(registry: &Registry, at: usize) -> Result<IntCounter, prometheus::Error> {
    let made = IntCounter::with_opts(Opts::new(name(at), help(at)))?;
    registry.register(Box::new(made.clone()))?;
    Ok(made)
}

fn gauge(registry: &Registry, at: usize) -> Result<IntGauge, prometheus::Error> {
    let made = IntGauge::new(name(at), help(at))?;
    registry.register(Box::new(made.clone()))?;
    Ok(made)
}
