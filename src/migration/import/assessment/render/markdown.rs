//! The same in Markdown, with the drafts.

use std::fmt::Write as _;

use super::{counted, shown};
use crate::migration::import::assessment::{Assessment, Severity};

/// The page.
// Formatting into a string cannot fail.
pub fn markdown(a: &Assessment) -> String {
    let mut out = format!("# Moving in from {}\n\n", a.label);
    let e = &a.expected;
    let _ = write!(
        out,
        "| | published scripts | with the gateway |\n|---|---|---|\n| forced resets | {} | {} |\n| forced sign-outs | {} | {} |\n\n",
        e.resets_before.told(),
        e.resets_after.told(),
        e.sign_outs_before.told(),
        e.sign_outs_after.told(),
    );
    let _ = writeln!(
        out,
        "Before: {}. After: {}. Sessions: {}. Window: {} days.\n",
        cell(e.passwords_before),
        cell(e.passwords_after),
        cell(e.sessions_after),
        a.window_days
    );
    out.push_str("## Risks\n\n| | users | what | rows | what to do |\n|---|---|---|---|---|\n");
    for risk in &a.risks {
        let severity = match risk.severity {
            Severity::Blocker => "**blocker**",
            Severity::Warning => "warning",
            Severity::Unknown => "unknown",
            Severity::Note => "note",
        };
        let users = risk
            .users
            .map_or_else(String::new, |users| users.to_string());
        let _ = writeln!(
            out,
            "| {severity} | {users} | {} | {} | {} |",
            cell(&risk.title),
            cell(&risk.evidence.told()),
            cell(&risk.remedy)
        );
    }
    out.push_str("\n## Numbers\n\n| | |\n|---|---|\n");
    for (what, count) in counted(&a.numbers) {
        let _ = writeln!(out, "| {what} | {count} |");
    }
    for (title, names) in [
        ("Hashes by scheme", &a.numbers.by_scheme),
        ("Accounts elsewhere", &a.numbers.by_provider),
        ("Roles", &a.numbers.by_role),
    ] {
        if !names.is_empty() {
            let _ = write!(out, "\n### {title}\n\n| | users |\n|---|---|\n");
            for (name, count) in names {
                let _ = writeln!(out, "| {} | {count} |", cell(&shown(name)));
            }
        }
    }
    if let Some(target) = &a.target {
        let plugins: Vec<&str> = target
            .plugins
            .iter()
            .map(|plugin| plugin.as_str())
            .collect();
        let _ = write!(
            out,
            "\n## Where they go\n\n{}, {} users, plugins: {}\n",
            target.kind,
            target.users,
            plugins.join(", ")
        );
    }
    let _ = write!(
        out,
        "\n## Effort: {} ({} hours)\n\n| task | who | hours |\n|---|---|---|\n",
        a.effort.size.as_str(),
        a.effort.hours
    );
    for task in &a.effort.tasks {
        let _ = writeln!(
            out,
            "| {} | {} | {} |",
            cell(&task.task),
            task.role.as_str(),
            task.hours
        );
    }
    let known = if a.cost.complete {
        "Cost"
    } else {
        "Cost, as far as prices were given"
    };
    let _ = write!(
        out,
        "\n## {known}: {:.2}\n\n| | reckoned | amount |\n|---|---|---|\n",
        a.cost.known
    );
    for sum in &a.cost.sums {
        let amount = sum
            .amount
            .map_or_else(|| "?".to_owned(), |amount| format!("{amount:.2}"));
        let _ = writeln!(
            out,
            "| {} | {} | {amount} |",
            cell(&sum.what),
            cell(&sum.reckoned)
        );
    }
    out.push_str(
        "\n## Steps\n\n| | what | who | how long | check | way back |\n|---|---|---|---|---|---|\n",
    );
    for step in &a.steps {
        let command = step.command.as_ref().map_or_else(String::new, |command| {
            format!(" `{}`", command.replace('`', "'"))
        });
        let _ = writeln!(
            out,
            "| {} | {}{command} | {} | {} | {} | {} |",
            step.order,
            cell(&step.what),
            step.owner.as_str(),
            cell(&step.duration),
            cell(&step.check),
            cell(&step.rollback)
        );
    }
    if !a.questions.is_empty() {
        out.push_str("\n## Open questions\n\n");
        for question in &a.questions {
            let _ = writeln!(out, "- {question}");
        }
    }
    if !a.remarks.is_empty() {
        out.push_str("\n## Worth knowing\n\n");
        for remark in &a.remarks {
            let _ = writeln!(out, "- {remark}");
        }
    }
    let _ = write!(
        out,
        "\n## Draft: vestibule.toml\n\n```toml\n{}```\n\n## Draft: options of Better Auth\n\n```ts\n{}```\n\n## Variables\n\n| name | holds |\n|---|---|\n",
        a.draft.vestibule, a.draft.better_auth
    );
    for variable in &a.draft.environment {
        let _ = writeln!(out, "| `{}` | {} |", variable.name, cell(&variable.about));
    }
    out
}

/// Text for a cell: on one line, and no markup of somebody else's.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '|' => out.push_str("\\|"),
            '<' => out.push_str("&lt;"),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}
