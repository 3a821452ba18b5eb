//! A report for a terminal: tables with bars.

use std::fmt::Write as _;

use super::report::{Report, Status};
use super::{counted, float, shown};

/// Letters of a bar, from an eighth to a whole one.
const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
/// Letters of the longest bar.
const BAR_LETTERS: f64 = 24.0;

/// A bar as long as this share of the longest. What is there at all is seen.
fn bar(share: f64) -> String {
    let eighths = (share.clamp(0.0, 1.0) * BAR_LETTERS * 8.0).round().max(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let eighths = eighths as usize;
    let mut out = "█".repeat(eighths / 8);
    if let Some(letter) = (eighths % 8)
        .checked_sub(1)
        .and_then(|rest| EIGHTHS.get(rest))
    {
        out.push(*letter);
    }
    out
}

/// Where a time stands among others, when tiers are a thousandfold apart: by powers of ten.
fn share(ns: f64, least: f64, most: f64) -> f64 {
    let (low, high) = (least.max(1.0).log10() - 0.5, most.max(1.0).log10());
    match high > low {
        true => (ns.max(1.0).log10() - low) / (high - low),
        false => 1.0,
    }
}

/// The text.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    for (name, value) in super::markdown::facts(report) {
        let _ = writeln!(out, "{name:<14}{value}");
    }
    out.push('\n');
    for check in &report.checks {
        let mark = match check.status {
            Status::Passed => "ok    ",
            Status::Failed => "FAILED",
            Status::NotChecked => "  –   ",
        };
        let _ = writeln!(out, "{mark}  {}: {}", check.name, check.detail);
    }
    if !report.is_correct() {
        out.push_str("\na check failed: there are no figures\n");
        return out;
    }
    tiers(&mut out, report);
    if !report.load.is_empty() {
        out.push_str("\nthrough the gateway, at fixed rates\n");
        let most = report
            .load
            .iter()
            .map(|point| point.p99_ns)
            .max()
            .unwrap_or(1);
        for point in &report.load {
            let _ = writeln!(
                out,
                "{:>8}/s  p50 {:>8}  p99 {:>8}  {}",
                counted(point.per_second),
                shown(float(point.p50_ns)),
                shown(float(point.p99_ns)),
                bar(float(point.p99_ns) / float(most.max(1)))
            );
        }
    }
    if !report.ratios.is_empty() {
        out.push('\n');
        for ratio in &report.ratios {
            let [low, middle, high] = ratio.quartiles;
            let _ = writeln!(
                out,
                "{} / {}, {}: {middle:.2} (quartiles {low:.2} to {high:.2}, {} rounds)",
                ratio.above,
                ratio.below,
                ratio.of,
                ratio.rounds.len()
            );
        }
    }
    for held in &report.budgets {
        let word = if held.over { "OVER" } else { "held" };
        let _ = writeln!(
            out,
            "budget {}.{} = {}: {word}, measured {}",
            held.tier,
            held.metric,
            shown(float(held.limit_ns)),
            shown(held.actual_ns)
        );
    }
    out.push('\n');
    for skipped in &report.skipped {
        let _ = writeln!(out, "not measured: {} – {}", skipped.id, skipped.why);
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

fn tiers(out: &mut String, report: &Report) {
    let medians = || report.tiers.iter().map(|tier| float(tier.seen.p50_ns));
    let (least, most) = (
        medians().fold(f64::MAX, f64::min),
        medians().fold(f64::MIN, f64::max),
    );
    let widest = report
        .tiers
        .iter()
        .map(|tier| tier.id.len())
        .max()
        .unwrap_or(0);
    let _ = writeln!(
        out,
        "\n{:<widest$}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  p50, by powers of ten",
        "tier", "p50", "p99", "p99.9", "CPU", "a second"
    );
    for tier in &report.tiers {
        let seen = &tier.seen;
        let _ = writeln!(
            out,
            "{:<widest$}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:<24} {}",
            tier.id,
            shown(float(seen.p50_ns)),
            shown(float(seen.p99_ns)),
            shown(float(seen.p999_ns)),
            tier.cpu_ns.map_or_else(|| "–".to_owned(), shown),
            counted(seen.per_second),
            bar(share(float(seen.p50_ns), least, most)),
            tier.about
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::sample;

    #[test]
    fn bars_are_as_long_as_what_they_stand_for() {
        assert_eq!(bar(0.0), "▏");
        assert_eq!(bar(1.0).chars().count(), 24);
        assert!(bar(2.0) == bar(1.0));
        assert!(bar(0.5).chars().count() < bar(0.75).chars().count());
    }

    #[test]
    fn figures_are_shown_only_when_every_check_passed() {
        let mut report = sample();
        report.conclude(&[]).unwrap();
        let good = text(&report);
        assert!(good.contains("p99.9") && good.contains("proxy / direct, p50: 3.00"));
        let mut report = sample();
        report.tiers[1].seen.errors = 1;
        report.conclude(&[]).unwrap();
        let bad = text(&report);
        assert!(bad.contains("FAILED") && bad.contains("no figures"));
        assert!(!bad.contains("p99.9") && !bad.contains("proxy / direct"));
    }
}
