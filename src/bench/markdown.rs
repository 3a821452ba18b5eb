//! A report as Markdown.

use std::fmt::Write as _;

use super::report::{Report, Status};
use super::{counted, float, shown};

/// Where and how it was measured, line by line.
pub(super) fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let (build, machine, method) = (&report.build, &report.machine, &report.method);
    let load =
        |load: Option<f64>| load.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"));
    vec![
        (
            "vestibule",
            format!(
                "{} ({}), commit {}, {}, Pingora {}",
                build.vestibule, build.profile, build.commit, build.target, build.data_plane
            ),
        ),
        (
            "machine",
            format!(
                "{}, {} cores, {}",
                machine.cpu, machine.cores, machine.kernel
            ),
        ),
        (
            "load",
            format!(
                "{} before, {} after",
                load(machine.load_before),
                load(machine.load_after)
            ),
        ),
        (
            "configuration",
            format!(
                "{}, sha256 {}, store {}",
                report.config.file, report.config.hash, report.config.store
            ),
        ),
        (
            "method",
            format!(
                "{} sessions in turn; each tier {} ms, after {} ms of warming up; {} rounds in turn; {} connections, {} threads of the gateway, answers of {} bytes; reading the clock takes {} and is in every latency",
                method.sessions,
                method.duration_ms,
                method.warm_up_ms,
                method.rounds,
                method.connections,
                method.gateway_threads,
                method.answer_bytes,
                shown(machine.clock_ns)
            ),
        ),
    ]
}

/// The text of a cell: nothing of it ends the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// The document.
pub fn document(report: &Report) -> String {
    let mut out = String::from("# vestibule bench\n\n");
    // Writing to a string cannot fail.
    if !report.is_correct() {
        out.push_str("**A check failed: there are no figures.**\n\n");
    }
    if !report.tiers.is_empty() {
        out.push_str("| tier | what | p50 | p90 | p99 | p99.9 | max | CPU | a second | pace |\n|---|---|--:|--:|--:|--:|--:|--:|--:|---|\n");
        for tier in &report.tiers {
            let seen = &tier.seen;
            let time = |ns: u64| shown(float(ns));
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                cell(&tier.id),
                cell(&tier.about),
                time(seen.p50_ns),
                time(seen.p90_ns),
                time(seen.p99_ns),
                time(seen.p999_ns),
                time(seen.max_ns),
                tier.cpu_ns.map_or_else(|| "–".to_owned(), shown),
                counted(seen.per_second),
                tier.rate.map_or_else(
                    || tier.pace.to_owned(),
                    |rate| format!("{} {}/s", tier.pace, counted(rate))
                )
            );
        }
        out.push('\n');
    }
    if !report.load.is_empty() {
        out.push_str("| asked a second | answered | p50 | p90 | p99 |\n|--:|--:|--:|--:|--:|\n");
        for point in &report.load {
            let time = |ns: u64| shown(float(ns));
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} |",
                counted(point.rate),
                counted(point.per_second),
                time(point.p50_ns),
                time(point.p90_ns),
                time(point.p99_ns)
            );
        }
        out.push('\n');
    }
    if !report.ratios.is_empty() {
        out.push_str("| ratio | of | lower quartile | median | upper quartile | rounds |\n|---|---|--:|--:|--:|--:|\n");
        for ratio in &report.ratios {
            let [low, middle, high] = ratio.quartiles;
            let _ = writeln!(
                out,
                "| {} / {} | {} | {low:.2} | {middle:.2} | {high:.2} | {} |",
                cell(&ratio.above),
                cell(&ratio.below),
                ratio.of,
                ratio.rounds.len()
            );
        }
        out.push('\n');
    }
    for held in &report.budgets {
        let word = if held.over { "over" } else { "held" };
        let _ = writeln!(
            out,
            "- budget {}.{}={}: {word}, measured {}",
            held.tier,
            held.metric,
            shown(float(held.limit_ns)),
            shown(held.actual_ns)
        );
    }
    out.push_str("\n| check | came out | seen |\n|---|---|---|\n");
    for check in &report.checks {
        let word = match check.status {
            Status::Passed => "passed",
            Status::Failed => "**failed**",
            Status::NotChecked => "not checked",
        };
        let _ = writeln!(
            out,
            "| {} | {word} | {} |",
            cell(&check.name),
            cell(&check.detail)
        );
    }
    out.push('\n');
    for (name, value) in facts(report) {
        let _ = writeln!(out, "- {name}: {value}");
    }
    for skipped in &report.skipped {
        let _ = writeln!(out, "- not measured: {}: {}", skipped.id, skipped.why);
    }
    for note in &report.notes {
        let _ = writeln!(out, "- {note}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::sample;

    #[test]
    fn every_row_has_as_many_cells_as_its_head() {
        let mut report = sample();
        report.tiers[0].about = "a | b\nc".into();
        let document = document(&report);
        for table in document.split("\n\n").filter(|part| part.starts_with('|')) {
            let cells = |line: &str| line.replace("\\|", "").matches('|').count();
            let mut lines = table.lines();
            let head = cells(lines.next().unwrap());
            assert!(lines.clone().count() >= 2, "{table}");
            assert!(lines.all(|line| cells(line) == head), "{table}");
        }
    }
}
