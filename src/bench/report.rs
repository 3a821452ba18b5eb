//! What a run tells. Its JSON is these structs, names and all: names are only ever added.

use serde::Serialize;

use super::budget::{Budget, Held};
use super::pace::Pace;
use super::summary::{Summary, quartiles};

/// The number of the JSON's form.
pub const FORM: u32 = 1;

/// A whole run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The number of this form.
    pub form: u32,
    /// `ok`, `incorrect` (a check failed: there are no figures then) or `over_budget`.
    pub verdict: &'static str,
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// What was measured.
    pub build: Build,
    /// What it was measured on.
    pub machine: Machine,
    /// Under which configuration.
    pub config: ConfigUsed,
    /// How it was measured.
    pub method: Method,
    /// Whether the right ones are let in and the others are not.
    pub checks: Vec<Check>,
    /// What each tier took.
    pub tiers: Vec<Measured>,
    /// What one took by what another took, in rounds in turn.
    pub ratios: Vec<Ratio>,
    /// Latency as more and more is asked.
    pub load: Vec<LoadPoint>,
    /// Budgets, and whether they held.
    pub budgets: Vec<Held>,
    /// What was not measured, and why.
    pub skipped: Vec<Skipped>,
    /// What one should know of the figures.
    pub notes: Vec<String>,
}

/// What was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Build {
    /// The version of Vestibule.
    pub vestibule: &'static str,
    /// The commit, or `unknown`.
    pub commit: &'static str,
    /// `release` or `debug`.
    pub profile: &'static str,
    /// Processor and system it was built for.
    pub target: String,
    /// The version of Pingora, which the figures depend on.
    #[serde(rename = "pingora")]
    pub data_plane: &'static str,
}

/// What it was measured on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// How many may be used.
    pub cores: usize,
    /// The system's name and version.
    pub kernel: String,
    /// How many wanted to run in the last minute, at the beginning.
    pub load_before: Option<f64>,
    /// The same at the end: what ran beside us is in there too.
    pub load_after: Option<f64>,
    /// What reading the clock twice takes; every latency in process holds it once.
    pub clock_ns: f64,
}

/// Under which configuration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConfigUsed {
    /// The file, or `built in`.
    pub file: String,
    /// SHA-256 of the settings without secrets.
    pub hash: String,
    /// The kind of store.
    pub store: String,
}

/// How it was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Method {
    /// Sessions in turn.
    pub sessions: usize,
    /// Connections over the wire.
    pub connections: usize,
    /// Threads of the gateway.
    pub gateway_threads: usize,
    /// Milliseconds warmed up before each tier; in no figure.
    pub warm_up_ms: u64,
    /// Milliseconds measured of each tier.
    pub duration_ms: u64,
    /// Rounds in turn.
    pub rounds: usize,
    /// Bytes of the own upstream's answers.
    pub answer_bytes: usize,
}

/// Whether something holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its id.
    pub id: String,
    /// What must hold.
    pub name: String,
    /// `passed`, `failed` or `not_checked`.
    pub status: Status,
    /// What was seen, or why nothing was.
    pub detail: String,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it must be.
    Passed,
    /// Not as it must be.
    Failed,
    /// It could not be seen.
    NotChecked,
}

/// What one tier took.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// Its id.
    pub id: String,
    /// What it is.
    pub about: String,
    /// `in_process` or `wire`.
    pub how: &'static str,
    /// `closed` (again as soon as there is an answer) or `fixed` (counted from the intended beginning).
    pub pace: &'static str,
    /// Requests a second that were asked for, at a fixed pace.
    pub rate: Option<f64>,
    /// The processor's time for one request.
    pub cpu_ns: Option<f64>,
    /// Whose that is.
    pub cpu_of: &'static str,
    /// How often the store was asked, where that is counted.
    pub store_calls: Option<u64>,
    /// What was seen.
    pub seen: Summary,
}

impl Measured {
    /// Notes how it was asked.
    pub fn paced(mut self, pace: Pace) -> Self {
        self.pace = pace.as_str();
        self.rate = pace.rate();
        self
    }
}

/// What one took by what another took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The tier above the line.
    pub above: String,
    /// The tier below it.
    pub below: String,
    /// Of what: `p50`, `p99`, `throughput`.
    pub of: &'static str,
    /// One for each round.
    pub rounds: Vec<f64>,
    /// Lower quartile, median and upper quartile of the rounds.
    pub quartiles: [f64; 3],
}

impl Ratio {
    /// The ratios of rounds in turn. `None`: there were none, or nothing to divide by.
    pub fn of(above: &str, below: &str, of: &'static str, pairs: &[(f64, f64)]) -> Option<Self> {
        let divisible = |(_, below): &&(f64, f64)| *below > 0.0;
        let rounds: Vec<f64> = pairs
            .iter()
            .filter(divisible)
            .map(|(above, below)| above / below)
            .collect();
        Some(Self {
            above: above.to_owned(),
            below: below.to_owned(),
            of,
            quartiles: quartiles(&rounds)?,
            rounds,
        })
    }
}

/// Latency at one load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LoadPoint {
    /// Requests a second that were asked for.
    pub rate: f64,
    /// Answers a second that came.
    pub per_second: f64,
    /// The median.
    pub p50_ns: u64,
    /// Nine tenths.
    pub p90_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
}

/// What was not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The tier.
    pub id: String,
    /// Why.
    pub why: String,
}

impl Report {
    /// Whether no check failed.
    pub fn is_correct(&self) -> bool {
        self.checks
            .iter()
            .all(|check| check.status != Status::Failed)
    }

    /// Comes to a verdict. A tier with answers that must not be, or without any, is a failed check; when any failed, no figure is left.
    ///
    /// # Errors
    /// The first budget that nothing was measured for: nobody can say whether it holds.
    pub fn conclude(&mut self, budgets: &[Budget]) -> Result<(), Budget> {
        let wrong = self.tiers.iter().filter_map(|tier| {
            let seen = &tier.seen;
            let detail = match (seen.unexpected, seen.errors, seen.count) {
                (0, 0, 1..) => return None,
                (0, 0, 0) => "no request was answered".to_owned(),
                (0, errors, answers) => {
                    format!("{errors} requests without an answer, {answers} with one")
                }
                (wrong, _, answers) => {
                    format!("{wrong} of {answers} answers were not as they must be")
                }
            };
            Some(Check {
                id: format!("tier_{}", tier.id),
                name: format!("every request of `{}` is answered as it must be", tier.id),
                status: Status::Failed,
                detail,
            })
        });
        let wrong: Vec<Check> = wrong.collect();
        self.checks.extend(wrong);
        if !self.is_correct() {
            self.verdict = "incorrect";
            self.tiers.clear();
            self.ratios.clear();
            self.load.clear();
            return Ok(());
        }
        let late = self.tiers.iter().filter(|tier| tier.seen.unbegun > 0);
        let late = late.map(|tier| {
            format!(
                "{}: {} requests could not begin in time and count with what they had waited: the rate is more than it can do",
                tier.id, tier.seen.unbegun
            )
        });
        self.notes.extend(late);
        for budget in budgets {
            let held = budget.hold(&self.tiers).ok_or_else(|| budget.clone())?;
            self.budgets.extend(held);
        }
        self.verdict = match self.budgets.iter().any(|held| held.over) {
            true => "over_budget",
            false => "ok",
        };
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::summary::Recorder;

    /// A run with something of everything in it.
    pub fn sample() -> Report {
        let mut recorder = Recorder::default();
        for micros in 1..=2000 {
            recorder.record(Duration::from_micros(micros));
        }
        let seen = recorder.summary(Duration::from_secs(1));
        let tier = |id: &str| Measured {
            id: id.into(),
            about: "a <tier> & more".into(),
            how: "wire",
            cpu_ns: Some(1500.0),
            cpu_of: "gateway",
            seen: seen.clone(),
            ..Measured::default()
        };
        Report {
            form: FORM,
            checks: vec![Check {
                id: "good".into(),
                name: "a good session is let in".into(),
                status: Status::Passed,
                detail: "200".into(),
            }],
            tiers: vec![
                tier("proxy").paced(Pace::Closed),
                tier("direct").paced(Pace::Fixed { per_second: 9.0 }),
            ],
            ratios: vec![
                Ratio::of(
                    "proxy",
                    "direct",
                    "p50",
                    &[(3.0, 1.0), (2.0, 1.0), (4.0, 1.0)],
                )
                .unwrap(),
            ],
            load: [1000.0, 2000.0, 3000.0]
                .map(|rate| LoadPoint {
                    rate,
                    per_second: rate,
                    p50_ns: 100_000,
                    p90_ns: 200_000,
                    p99_ns: 900_000,
                })
                .to_vec(),
            notes: vec!["a note".into()],
            ..Report::default()
        }
    }

    #[test]
    fn a_wrong_answer_leaves_no_figures() {
        for (unexpected, errors, count) in [(1, 0, 10), (0, 1, 10), (0, 0, 0)] {
            let mut report = sample();
            report.tiers[0].seen.unexpected = unexpected;
            report.tiers[0].seen.errors = errors;
            report.tiers[0].seen.count = count;
            report.conclude(&[]).unwrap();
            assert_eq!(report.verdict, "incorrect");
            assert!(report.tiers.is_empty() && report.ratios.is_empty() && report.load.is_empty());
            assert!(
                report
                    .checks
                    .iter()
                    .any(|check| check.status == Status::Failed)
            );
        }
    }

    #[test]
    fn a_good_run_keeps_them_and_budgets_are_held_against_them() {
        let mut report = sample();
        report
            .conclude(&[Budget::read("proxy.p99=1s").unwrap()])
            .unwrap();
        assert_eq!((report.verdict, report.tiers.len()), ("ok", 2));
        let mut report = sample();
        report
            .conclude(&[Budget::read("proxy.p99=1us").unwrap()])
            .unwrap();
        assert_eq!(report.verdict, "over_budget");
        assert_eq!(report.tiers.len(), 2);
        let missing = Budget::read("hit.p99=1s").unwrap();
        assert_eq!(
            sample().conclude(std::slice::from_ref(&missing)),
            Err(missing)
        );
    }

    #[test]
    fn a_rate_that_is_too_high_is_told_and_is_no_mistake() {
        let mut report = sample();
        report.tiers[1].seen.unbegun = 7;
        report.conclude(&[]).unwrap();
        assert_eq!(report.verdict, "ok");
        assert!(
            report
                .notes
                .iter()
                .any(|note| note.contains("direct: 7 requests"))
        );
    }

    #[test]
    fn ratios_are_of_rounds_in_turn() {
        let ratio = Ratio::of(
            "a",
            "b",
            "p50",
            &[(2.0, 1.0), (9.0, 3.0), (4.0, 1.0), (1.0, 0.0)],
        )
        .unwrap();
        assert_eq!(ratio.rounds, [2.0, 3.0, 4.0]);
        assert_eq!(ratio.quartiles, [2.5, 3.0, 3.5]);
        assert_eq!(Ratio::of("a", "b", "p50", &[]), None);
    }
}
