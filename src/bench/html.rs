//! A report as one page that stands by itself: no script, no font, no picture from elsewhere.

use std::fmt::Write as _;

use super::chart::{Axis, Line, draw, plain};
use super::report::{Measured, Report, Status};
use super::{counted, float, shown};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .5rem;border-bottom:1px solid #ddd;text-align:right}th:first-child,td:first-child,td.text,th.text{text-align:left}\
.failed{color:#a00;font-weight:600}.bar{background:#0072b2;height:.7rem;display:inline-block;min-width:1px}\
svg{width:100%;height:auto}svg text{font-size:12px;fill:currentColor}svg polyline{fill:none;stroke-width:2}svg .grid{stroke:#8884;stroke-width:1}\
small{color:#666}\
@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}th,td{border-color:#444}.failed{color:#f77}small{color:#aaa}}";

/// The page.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>vestibule bench</title><style>{STYLE}</style></head><body><h1>vestibule bench</h1>"
    );
    let verdict = match report.verdict {
        "ok" => "every check passed",
        "over_budget" => "over budget",
        _ => "a check failed: there are no figures",
    };
    let class = match report.verdict {
        "ok" => "",
        _ => "failed",
    };
    let _ = write!(out, "<p class=\"{class}\">{verdict}</p>");
    tiers(&mut out, report);
    charts(&mut out, report);
    comparisons(&mut out, report);
    checks(&mut out, report);
    about(&mut out, report);
    out.push_str("</body></html>\n");
    out
}

fn tiers(out: &mut String, report: &Report) {
    if report.tiers.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Tiers</h2><table><tr><th>tier</th><th class=\"text\">what</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th>\
         <th>CPU</th><th>a second</th><th>pace</th></tr>",
    );
    for tier in &report.tiers {
        let seen = &tier.seen;
        let time = |ns: u64| shown(float(ns));
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"text\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            plain(&tier.id),
            plain(&tier.about),
            time(seen.p50_ns),
            time(seen.p90_ns),
            time(seen.p99_ns),
            time(seen.p999_ns),
            time(seen.max_ns),
            tier.cpu_ns.map_or_else(|| "–".to_owned(), shown),
            counted(seen.per_second),
            plain(tier.pace)
        );
    }
    out.push_str("</table><p><small>A closed loop asks again as soon as it has an answer; at a fixed pace latency counts from the intended beginning, so that a stall shows. CPU is the processor's time for one request.</small></p>");
}

fn charts(out: &mut String, report: &Report) {
    let curve = |tier: &Measured| Line {
        name: tier.id.clone(),
        points: tier
            .seen
            .curve
            .iter()
            .map(|point| (point.percentile, float(point.ns)))
            .collect(),
    };
    let curves: Vec<Line> = report.tiers.iter().map(curve).collect();
    let _ = write!(
        out,
        "<h2>Latency by percentile</h2>{}",
        draw(
            "latency by percentile",
            (Axis::Nines, "percentile"),
            (Axis::Time, "latency"),
            &curves,
        )
    );
    let turned: Vec<Line> = curves
        .into_iter()
        .map(|line| Line {
            name: line.name,
            points: line
                .points
                .iter()
                .map(|(across, up)| (*up, *across))
                .collect(),
        })
        .collect();
    let percent = |value: f64| format!("{value:.0}%");
    let _ = write!(
        out,
        "<h2>Share of requests answered within a time (CDF)</h2>{}",
        draw(
            "cumulative distribution",
            (Axis::Time, "latency"),
            (Axis::Even(percent), "answered"),
            &turned,
        )
    );
    if !report.load.is_empty() {
        let line = |name: &str, of: fn(&super::report::LoadPoint) -> u64| Line {
            name: name.to_owned(),
            points: report
                .load
                .iter()
                .map(|point| (point.per_second, float(of(point))))
                .collect(),
        };
        let lines = [
            line("p50", |point| point.p50_ns),
            line("p90", |point| point.p90_ns),
            line("p99", |point| point.p99_ns),
        ];
        let _ = write!(
            out,
            "<h2>Latency against throughput, through the gateway</h2>{}",
            draw(
                "latency against throughput",
                (Axis::Even(counted), "answers a second"),
                (Axis::Time, "latency"),
                &lines,
            )
        );
    }
}

fn comparisons(out: &mut String, report: &Report) {
    if !report.ratios.is_empty() {
        out.push_str("<h2>Compared</h2><table><tr><th>ratio</th><th class=\"text\">of</th><th>lower quartile</th><th>median</th><th>upper quartile</th><th>rounds</th></tr>");
        for ratio in &report.ratios {
            let [low, middle, high] = ratio.quartiles;
            let _ = write!(
                out,
                "<tr><td>{} / {}</td><td class=\"text\">{}</td><td>{low:.2}</td><td>{middle:.2}</td><td>{high:.2}</td><td>{}</td></tr>",
                plain(&ratio.above),
                plain(&ratio.below),
                ratio.of,
                ratio.rounds.len()
            );
        }
        out.push_str("</table>");
    }
    if !report.budgets.is_empty() {
        out.push_str("<h2>Budgets</h2><table><tr><th>budget</th><th>limit</th><th>measured</th><th></th></tr>");
        for held in &report.budgets {
            let (class, word) = match held.over {
                true => ("failed", "over"),
                false => ("", "held"),
            };
            let _ = write!(
                out,
                "<tr><td>{}.{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{word}</td></tr>",
                plain(&held.tier),
                held.metric,
                shown(float(held.limit_ns)),
                shown(held.actual_ns)
            );
        }
        out.push_str("</table>");
    }
}

fn checks(out: &mut String, report: &Report) {
    out.push_str("<h2>Checks of the same run</h2><table><tr><th>check</th><th class=\"text\">came out</th><th class=\"text\">seen</th></tr>");
    for check in &report.checks {
        let (class, word) = match check.status {
            Status::Passed => ("text", "passed"),
            Status::Failed => ("text failed", "failed"),
            Status::NotChecked => ("text", "not checked"),
        };
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"{class}\">{word}</td><td class=\"text\">{}</td></tr>",
            plain(&check.name),
            plain(&check.detail)
        );
    }
    out.push_str("</table>");
}

fn about(out: &mut String, report: &Report) {
    out.push_str("<h2>Where and how</h2><table>");
    for (name, value) in super::markdown::facts(report) {
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"text\">{}</td></tr>",
            plain(name),
            plain(&value)
        );
    }
    out.push_str("</table>");
    if !report.skipped.is_empty() || !report.notes.is_empty() {
        out.push_str("<h2>Notes</h2><ul>");
        for skipped in &report.skipped {
            let _ = write!(
                out,
                "<li>not measured: {} – {}</li>",
                plain(&skipped.id),
                plain(&skipped.why)
            );
        }
        for note in &report.notes {
            let _ = write!(out, "<li>{}</li>", plain(note));
        }
        out.push_str("</ul>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::sample;

    #[test]
    fn the_page_stands_by_itself_and_shows_every_curve() {
        let mut report = sample();
        report.verdict = "ok";
        let page = page(&report);
        for elsewhere in [
            "http:", "https:", "//", "<script", "<link", "@import", "url(", "src=",
        ] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        // Two tiers in two charts, three lines in the third.
        assert_eq!(page.matches("<polyline").count(), 7);
        assert!(page.contains("a &lt;tier&gt; &amp; more") && !page.contains("<tier>"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn a_page_without_figures_has_no_curves() {
        let mut report = sample();
        report.tiers[0].seen.unexpected = 1;
        report.conclude(&[]).unwrap();
        let page = page(&report);
        assert!(page.contains("a check failed") && !page.contains("<svg"));
    }
}
