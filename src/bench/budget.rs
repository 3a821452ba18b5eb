//! What a tier may cost at most: `p99=200us`, or for one tier `hit.p99=2us`.

use serde::Serialize;

use super::report::Measured;
use super::tier;

/// One limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Whose; `None`: every tier measured, but for the references.
    pub tier: Option<String>,
    /// Of what.
    pub metric: Metric,
    /// At most so many nanoseconds.
    pub limit_ns: u64,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The mean.
    Mean,
    /// The median.
    P50,
    /// Three quarters.
    P75,
    /// Nine tenths.
    P90,
    /// 95 of 100.
    P95,
    /// 99 of 100.
    P99,
    /// 999 of 1,000.
    P999,
    /// 9,999 of 10,000.
    P9999,
    /// The longest.
    Max,
    /// The processor's time.
    Cpu,
}

impl Metric {
    /// Every one, by its word.
    pub const ALL: [(&'static str, Self); 10] = [
        ("mean", Self::Mean),
        ("p50", Self::P50),
        ("p75", Self::P75),
        ("p90", Self::P90),
        ("p95", Self::P95),
        ("p99", Self::P99),
        ("p99.9", Self::P999),
        ("p99.99", Self::P9999),
        ("max", Self::Max),
        ("cpu", Self::Cpu),
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, one)| *one == self);
        found.map_or("", |(word, _)| word)
    }

    /// What was measured of it. `None`: nothing was.
    fn of(self, measured: &Measured) -> Option<f64> {
        let seen = &measured.seen;
        if seen.count == 0 {
            return None;
        }
        Some(match self {
            Self::Mean => seen.mean_ns,
            Self::P50 => super::float(seen.p50_ns),
            Self::P75 => super::float(seen.p75_ns),
            Self::P90 => super::float(seen.p90_ns),
            Self::P95 => super::float(seen.p95_ns),
            Self::P99 => super::float(seen.p99_ns),
            Self::P999 => super::float(seen.p999_ns),
            Self::P9999 => super::float(seen.p9999_ns),
            Self::Max => super::float(seen.max_ns),
            Self::Cpu => measured.cpu_ns?,
        })
    }
}

impl Budget {
    /// Reads `[TIER.]METRIC=TIME`; `time` reads a time, in nanoseconds.
    ///
    /// # Errors
    /// When it is none; the text says why.
    pub fn read(text: &str) -> Result<Self, String> {
        let (what, limit) = text
            .split_once('=')
            .ok_or("write METRIC=TIME or TIER.METRIC=TIME, as p99=200us or hit.p99=2us")?;
        let word = |word: &str| {
            let mut all = Metric::ALL.iter();
            all.find(|(known, _)| *known == word.trim())
                .map(|(_, one)| *one)
        };
        // A metric may have a point in it.
        let (tier, metric) = match word(what) {
            Some(metric) => (None, metric),
            None => {
                let (tier, metric) = what.split_once('.').unwrap_or(("", what));
                let metric = word(metric).ok_or_else(|| {
                    let words: Vec<&str> = Metric::ALL.iter().map(|(word, _)| *word).collect();
                    format!("`{metric}` is no metric; known are {}", words.join(", "))
                })?;
                let tier = tier.trim();
                if tier::about(tier).is_none() {
                    let ids: Vec<&str> = tier::ids().collect();
                    return Err(format!("`{tier}` is no tier; known are {}", ids.join(", ")));
                }
                (Some(tier.to_owned()), metric)
            }
        };
        Ok(Self {
            tier,
            metric,
            limit_ns: nanoseconds(limit.trim())
                .ok_or("write a time with its unit: 800ns, 200us, 1.5ms or 2s")?,
        })
    }

    /// Holds it against what was measured. `None`: nothing was measured that it could be held against.
    pub fn hold(&self, measured: &[Measured]) -> Option<Vec<Held>> {
        let mine = |one: &&Measured| match &self.tier {
            Some(tier) => one.id == *tier,
            None => !tier::REFERENCES.contains(&one.id.as_str()),
        };
        let held: Option<Vec<Held>> = measured
            .iter()
            .filter(mine)
            .map(|one| {
                let actual_ns = self.metric.of(one)?;
                Some(Held {
                    tier: one.id.clone(),
                    metric: self.metric.as_str(),
                    limit_ns: self.limit_ns,
                    actual_ns,
                    over: actual_ns > super::float(self.limit_ns),
                })
            })
            .collect();
        held.filter(|held| !held.is_empty())
    }
}

/// A limit, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    /// The tier.
    pub tier: String,
    /// The metric.
    pub metric: &'static str,
    /// The limit.
    pub limit_ns: u64,
    /// What was measured.
    pub actual_ns: f64,
    /// Whether that is more.
    pub over: bool,
}

/// A time with its unit. Nothing, zero and what is beyond an hour is none.
fn nanoseconds(text: &str) -> Option<u64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    let value = number.parse::<f64>().ok()? * unit;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (1.0..=3.6e12).contains(&value).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::summary::Summary;

    fn measured(id: &str, p99_ns: u64, cpu_ns: Option<f64>) -> Measured {
        Measured {
            id: id.into(),
            cpu_ns,
            seen: Summary {
                count: 10,
                p99_ns,
                ..Summary::default()
            },
            ..Measured::default()
        }
    }

    #[test]
    fn a_budget_is_a_metric_and_a_time() {
        let budget = Budget::read("p99=200us").unwrap();
        assert_eq!(
            (budget.tier, budget.metric, budget.limit_ns),
            (None, Metric::P99, 200_000)
        );
        let budget = Budget::read("hit.p99.9=1.5ms").unwrap();
        assert_eq!(budget.tier.as_deref(), Some("hit"));
        assert_eq!((budget.metric, budget.limit_ns), (Metric::P999, 1_500_000));
        for wrong in [
            "p99",
            "p98=1us",
            "hits.p99=1us",
            "p99=1",
            "p99=us",
            "p99=0ns",
            "p99=-1us",
            "p99=2h",
            "hit.=1us",
            "",
        ] {
            assert!(Budget::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn over_is_over_and_at_the_limit_is_not() {
        let seen = [
            measured("hit", 2_000, Some(700.0)),
            measured("direct", 900_000, None),
        ];
        let over = |text: &str| {
            Budget::read(text)
                .unwrap()
                .hold(&seen)
                .unwrap()
                .iter()
                .any(|held| held.over)
        };
        assert!(!over("hit.p99=2us"));
        assert!(over("hit.p99=1999ns"));
        assert!(over("hit.cpu=600ns") && !over("hit.cpu=1us"));
        // What others cost is nobody's budget, unless somebody says so.
        assert!(!over("p99=2us") && over("direct.p99=2us"));
    }

    #[test]
    fn what_was_not_measured_is_held_by_nothing() {
        let seen = [measured("hit", 2_000, None)];
        assert_eq!(Budget::read("proxy.p99=1s").unwrap().hold(&seen), None);
        assert_eq!(Budget::read("hit.cpu=1s").unwrap().hold(&seen), None);
        assert_eq!(Budget::read("p99=1s").unwrap().hold(&[]), None);
    }
}
