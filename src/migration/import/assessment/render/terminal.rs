//! One page for a terminal of 80 columns.

use std::fmt::Write as _;

use super::{counted, shown};
use crate::migration::import::assessment::{Assessment, Role, Severity};

const WIDTH: usize = 80;

/// The page. `color`: whether it goes to a terminal that shows colours.
pub fn terminal(a: &Assessment, color: bool) -> String {
    let mut page = Page {
        out: String::new(),
        color,
    };
    page.title(&format!("Moving in from {}", a.label));
    page.expected(a);
    page.risks(a);
    page.title("Numbers");
    for (what, count) in counted(&a.numbers) {
        page.line(&format!("  {count:>9}  {what}"));
    }
    if !a.numbers.by_scheme.is_empty() {
        page.line("  hashes by scheme:");
        for (scheme, count) in &a.numbers.by_scheme {
            page.line(&format!("  {count:>9}  {}", shown(scheme)));
        }
    }
    if !a.numbers.by_provider.is_empty() {
        page.line("  accounts elsewhere:");
        for (provider, count) in &a.numbers.by_provider {
            page.line(&format!("  {count:>9}  {}", shown(provider)));
        }
    }
    page.effort(a);
    page.steps(a);
    if !a.questions.is_empty() {
        page.title("Open questions");
        for question in &a.questions {
            page.item("?", question);
        }
    }
    page.title("Drafts");
    page.wrapped("  ", "vestibule.toml, Better Auth's options and the variables both read: with --markdown FILE, --draft FILE, or --json.");
    page.out
}

struct Page {
    out: String,
    color: bool,
}

// Formatting into a string cannot fail.
impl Page {
    fn title(&mut self, text: &str) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        let text = self.painted("1", text);
        let _ = writeln!(self.out, "{text}");
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A paragraph, broken between words.
    fn wrapped(&mut self, indent: &str, text: &str) {
        self.hanging(indent, indent, text);
    }

    /// A paragraph behind a mark.
    fn item(&mut self, mark: &str, text: &str) {
        self.hanging(&format!("  {mark} "), "    ", text);
    }

    /// A paragraph whose first line begins otherwise. Both beginnings are as wide as the second.
    fn hanging(&mut self, first: &str, rest: &str, text: &str) {
        let room = WIDTH.saturating_sub(rest.len().max(6));
        let (mut begin, mut line, mut letters) = (first, String::new(), 0);
        for word in text.split_whitespace() {
            let length = word.chars().count();
            if letters > 0 && letters + 1 + length > room {
                let _ = writeln!(self.out, "{begin}{line}");
                begin = rest;
                line.clear();
                letters = 0;
            }
            if letters > 0 {
                line.push(' ');
                letters += 1;
            }
            line.push_str(word);
            letters += length;
        }
        if letters > 0 {
            let _ = writeln!(self.out, "{begin}{line}");
        }
    }

    fn expected(&mut self, a: &Assessment) {
        let e = &a.expected;
        self.line(&format!(
            "  {:<24}{:>26}{:>28}",
            "", "published scripts", "with the gateway"
        ));
        let rows = [
            ("forced resets", &e.resets_before, &e.resets_after),
            ("forced sign-outs", &e.sign_outs_before, &e.sign_outs_after),
        ];
        for (what, before, after) in rows {
            self.line(&format!(
                "  {what:<24}{:>26}{:>28}",
                before.told(),
                after.told()
            ));
        }
        self.wrapped(
            "  ",
            &format!(
                "Passwords: {}. Window: {} days.",
                e.passwords_after, a.window_days
            ),
        );
        self.wrapped("  ", &format!("Sessions: {}.", e.sessions_after));
    }

    fn risks(&mut self, a: &Assessment) {
        for (severity, title, code) in [
            (Severity::Blocker, "Blockers", "1;31"),
            (Severity::Warning, "Warnings", "33"),
            (Severity::Unknown, "Unknown", "36"),
            (Severity::Note, "Notes", "2"),
        ] {
            let risks: Vec<_> = a
                .risks
                .iter()
                .filter(|risk| risk.severity == severity)
                .collect();
            if risks.is_empty() {
                continue;
            }
            self.title(&format!("{title} ({})", risks.len()));
            let mark = self.painted(code, "*");
            for risk in risks {
                let users = risk
                    .users
                    .map_or_else(String::new, |users| format!(" [{users}]"));
                self.item(&mark, &format!("{}{users}", risk.title));
                if !risk.evidence.rows.is_empty() {
                    self.wrapped("    ", &shown_rows(&risk.evidence.told()));
                }
                self.hanging("    -> ", "       ", &risk.remedy);
            }
        }
    }

    fn effort(&mut self, a: &Assessment) {
        self.title(&format!(
            "Effort: {} ({} hours)",
            a.effort.size.as_str(),
            a.effort.hours
        ));
        for role in Role::ALL {
            let hours = a.effort.of(role);
            if hours > 0 {
                self.line(&format!("  {hours:>5} h  {}", role.as_str()));
            }
        }
        let known = if a.cost.complete {
            "Cost"
        } else {
            "Cost, as far as prices were given"
        };
        self.title(&format!("{known}: {:.2}", a.cost.known));
        for sum in &a.cost.sums {
            let amount = sum
                .amount
                .map_or_else(|| "?".to_owned(), |amount| format!("{amount:.2}"));
            self.line(&format!("  {amount:>12}  {}", sum.what));
            self.wrapped("                ", &sum.reckoned);
        }
    }

    fn steps(&mut self, a: &Assessment) {
        self.title("Steps");
        for step in &a.steps {
            self.item(
                &format!("{}.", step.order),
                &format!("{} ({}, {})", step.what, step.owner.as_str(), step.duration),
            );
            if let Some(command) = &step.command {
                self.hanging("    $ ", "      ", command);
            }
            self.wrapped(
                "      ",
                &format!("check: {}; back: {}", step.check, step.rollback),
            );
        }
    }
}

/// Rows may name files by any text.
fn shown_rows(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
