//! Histograms, and what is read off them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::float;

/// The longest latency told apart. What takes longer than an hour is a defect, and counted as an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Digits of a latency that count. Three are a thousandth: finer than any machine repeats itself, in some 250 kB.
const DIGITS: u8 = 3;

/// Percentiles of the curves: dense where tails are.
const CURVE: [f64; 40] = [
    0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0, 60.0, 65.0, 70.0, 75.0,
    80.0, 85.0, 90.0, 91.0, 92.0, 93.0, 94.0, 95.0, 96.0, 97.0, 98.0, 99.0, 99.25, 99.5, 99.75,
    99.9, 99.925, 99.95, 99.975, 99.99, 99.995, 99.999, 99.9999, 100.0,
];

/// Takes latencies in.
#[derive(Clone, Debug)]
pub struct Recorder {
    histogram: Histogram<u64>,
    /// Requests without an answer.
    pub errors: u64,
    /// Requests with another answer than they must have.
    pub unexpected: u64,
    /// Requests that could not begin in time; they are among the latencies, with what they had waited.
    pub unbegun: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        // Invariant: the limits are constants within what the histogram takes.
        #[allow(clippy::expect_used)]
        let histogram =
            Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("limits of a histogram");
        Self {
            histogram,
            errors: 0,
            unexpected: 0,
            unbegun: 0,
        }
    }
}

impl Recorder {
    /// Takes one latency in.
    pub fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(nanoseconds.max(1));
    }

    /// Takes in what a request had waited that did not begin before nobody waited any more: it took that long at least.
    pub fn record_unbegun(&mut self, waited: Duration) {
        self.record(waited);
        self.unbegun = self.unbegun.saturating_add(1);
    }

    /// Takes everything another one took in. Both have the same limits, so nothing is lost.
    pub fn add(&mut self, other: &Self) {
        let _ = self.histogram.add(&other.histogram);
        self.errors = self.errors.saturating_add(other.errors);
        self.unexpected = self.unexpected.saturating_add(other.unexpected);
        self.unbegun = self.unbegun.saturating_add(other.unbegun);
    }

    /// Latencies taken in.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// What was seen in so much time.
    pub fn summary(&self, over: Duration) -> Summary {
        let at = |percentile: f64| self.histogram.value_at_percentile(percentile);
        let seconds = over.as_secs_f64();
        let count = self.histogram.len();
        Summary {
            count,
            errors: self.errors,
            unexpected: self.unexpected,
            unbegun: self.unbegun,
            seconds,
            per_second: match seconds > 0.0 {
                true => float(count.saturating_sub(self.unbegun)) / seconds,
                false => 0.0,
            },
            min_ns: self.histogram.min(),
            mean_ns: self.histogram.mean(),
            stdev_ns: self.histogram.stdev(),
            p50_ns: at(50.0),
            p75_ns: at(75.0),
            p90_ns: at(90.0),
            p95_ns: at(95.0),
            p99_ns: at(99.0),
            p999_ns: at(99.9),
            p9999_ns: at(99.99),
            max_ns: self.histogram.max(),
            curve: self.curve(),
        }
    }

    /// The curve, up to where one more step would say nothing: of a thousand latencies none is the 99.999th percentile.
    fn curve(&self) -> Vec<Point> {
        let count = float(self.histogram.len());
        if count == 0.0 {
            return Vec::new();
        }
        let told =
            |percentile: &&f64| **percentile == 100.0 || (100.0 - **percentile) * count >= 100.0;
        CURVE
            .iter()
            .filter(told)
            .map(|percentile| Point {
                percentile: *percentile,
                ns: self.histogram.value_at_percentile(*percentile),
            })
            .collect()
    }
}

/// What was seen. Times are in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Latencies in it.
    pub count: u64,
    /// Requests without an answer; they are in no latency.
    pub errors: u64,
    /// Requests with another answer than they must have.
    pub unexpected: u64,
    /// Latencies of requests that could not begin in time, with what they had waited.
    pub unbegun: u64,
    /// How long was measured, warming up apart.
    pub seconds: f64,
    /// Answers a second.
    pub per_second: f64,
    /// The shortest.
    pub min_ns: u64,
    /// The mean.
    pub mean_ns: f64,
    /// The standard deviation.
    pub stdev_ns: f64,
    /// The median.
    pub p50_ns: u64,
    /// Three of four were shorter.
    pub p75_ns: u64,
    /// Nine of ten were shorter.
    pub p90_ns: u64,
    /// 19 of 20 were shorter.
    pub p95_ns: u64,
    /// 99 of 100 were shorter.
    pub p99_ns: u64,
    /// 999 of 1,000 were shorter.
    pub p999_ns: u64,
    /// 9,999 of 10,000 were shorter.
    pub p9999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The curve from the shortest to the longest.
    pub curve: Vec<Point>,
}

/// One point of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// So many percent were at most this long.
    pub percentile: f64,
    /// This long.
    pub ns: u64,
}

/// Lower quartile, median and upper quartile of some numbers, between two by the straight line. `None`: there are none.
pub fn quartiles(numbers: &[f64]) -> Option<[f64; 3]> {
    let mut sorted: Vec<f64> = numbers.iter().copied().filter(|n| n.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = float(sorted.len().checked_sub(1)? as u64);
    let at = |share: f64| {
        let place = last * share;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let below = place.floor() as usize;
        let low = sorted.get(below)?;
        let high = sorted.get(below + 1).unwrap_or(low);
        Some(low + (high - low) * place.fract())
    };
    Some([at(0.25)?, at(0.5)?, at(0.75)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_in_can_be_read_off() {
        let mut recorder = Recorder::default();
        for micros in 1..=1000 {
            recorder.record(Duration::from_micros(micros));
        }
        recorder.errors = 3;
        let summary = recorder.summary(Duration::from_secs(2));
        assert_eq!((summary.count, summary.errors), (1000, 3));
        assert!((summary.per_second - 500.0).abs() < 1e-9);
        let near = |ns: u64, micros: f64| (float(ns) / 1000.0 / micros - 1.0).abs() < 0.002;
        assert!(near(summary.p50_ns, 500.0) && near(summary.p99_ns, 990.0));
        assert!(near(summary.min_ns, 1.0) && near(summary.max_ns, 1000.0));
        // The curve rises, and ends where there is nothing more to tell.
        assert!(
            summary
                .curve
                .windows(2)
                .all(|pair| pair[0].ns <= pair[1].ns)
        );
        assert!(
            summary
                .curve
                .iter()
                .all(|p| p.percentile <= 99.9 || p.percentile == 100.0)
        );
    }

    #[test]
    fn what_is_beyond_all_bounds_is_counted_at_the_bound() {
        let mut recorder = Recorder::default();
        recorder.record(Duration::MAX);
        recorder.record(Duration::ZERO);
        let summary = recorder.summary(Duration::from_secs(1));
        assert_eq!(summary.count, 2);
        assert!(near_an_hour(summary.max_ns));
        assert_eq!(summary.min_ns, 1);
    }

    fn near_an_hour(ns: u64) -> bool {
        (float(ns) / float(LONGEST_NS) - 1.0).abs() < 0.01
    }

    #[test]
    fn nothing_measured_is_nothing_told() {
        let summary = Recorder::default().summary(Duration::ZERO);
        assert_eq!((summary.count, summary.curve.len()), (0, 0));
        assert!(summary.per_second == 0.0 && summary.mean_ns == 0.0);
    }

    #[test]
    fn quartiles_of_few_and_many() {
        assert_eq!(quartiles(&[]), None);
        assert_eq!(quartiles(&[2.0]), Some([2.0, 2.0, 2.0]));
        assert_eq!(quartiles(&[4.0, 1.0, 3.0, 2.0, 5.0]), Some([2.0, 3.0, 4.0]));
        assert_eq!(quartiles(&[1.0, f64::NAN, 2.0]), Some([1.25, 1.5, 1.75]));
    }
}
