//! What `vestibule bench` measures and how it tells of it: the tiers as data, histograms and what is read off them, budgets, reports.
//!
//! Nothing here touches a clock or a socket: whoever measures hands in durations.

pub mod budget;
mod chart;
pub mod html;
pub mod markdown;
pub mod pace;
pub mod report;
pub mod summary;
pub mod terminal;
pub mod tier;

/// A time as people read it: three digits and a unit.
pub fn shown(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A count as people read it.
pub fn counted(count: f64) -> String {
    match count {
        count if count >= 1e6 => format!("{:.2} M", count / 1e6),
        count if count >= 1e4 => format!("{:.0} k", count / 1e3),
        count if count >= 1e3 => format!("{:.1} k", count / 1e3),
        count => format!("{count:.0}"),
    }
}

/// A whole number in the arithmetic of charts and ratios. Latencies and counts stay far below 2^53, so nothing is lost.
#[allow(clippy::cast_precision_loss)]
pub(crate) const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_with_three_digits() {
        for (nanoseconds, text) in [
            (0.0, "0.00 ns"),
            (612.4, "612 ns"),
            (1_540.0, "1.54 us"),
            (15_400.0, "15.4 us"),
            (200_000.0, "200 us"),
            (2_300_000.0, "2.30 ms"),
            (4_000_000_000.0, "4.00 s"),
        ] {
            assert_eq!(shown(nanoseconds), text);
        }
        assert_eq!(counted(912.0), "912");
        assert_eq!(counted(4_100.0), "4.1 k");
        assert_eq!(counted(1_450_000.0), "1.45 M");
    }
}
