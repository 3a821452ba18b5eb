//! In which order it is done: by whom, how long it takes, how one sees that it worked, and how it is taken back.

use std::time::Duration;

use serde::Serialize;

use super::effort::Role;
use super::{Assessor, Expected, Outlook};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its place, from 1.
    pub order: usize,
    /// What is done.
    pub what: String,
    /// The command, where there is one.
    pub command: Option<String>,
    /// How long it takes, in words.
    pub duration: String,
    /// Who does it.
    pub owner: Role,
    /// How one sees that it worked.
    pub check: String,
    /// How it is taken back.
    pub rollback: String,
}

/// Users an import writes in a second, reckoned low: measured numbers are in docs/migrate-plan.md.
const USERS_A_SECOND: u64 = 2_000;

/// Digests wrapped in a second on one core: each is a native hash of some 50 ms.
const WRAPPED_A_SECOND: u64 = 15;

/// Identities fetched in a second from WorkOS, at 80 per cent of its limit of reads.
const WORKOS_A_SECOND: u64 = 80;

/// Mails an hour, as `migration.reset.per_hour` has it by default.
const MAILS_AN_HOUR: u64 = 1_000;

/// A duration as people say it: the two largest units that matter.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600, seconds / 60);
    match seconds {
        0..60 => "less than a minute".into(),
        60..7200 => format!("{minutes} min"),
        7200..172_800 => format!("{hours} h"),
        _ => format!("{days} days"),
    }
}

struct List(Vec<Step>);

impl List {
    #[allow(clippy::too_many_arguments)] // One row of a table.
    fn add(
        &mut self,
        owner: Role,
        what: impl Into<String>,
        command: &str,
        duration: impl Into<String>,
        check: &str,
        rollback: &str,
    ) {
        self.0.push(Step {
            order: self.0.len() + 1,
            what: what.into(),
            command: (!command.is_empty()).then(|| command.to_owned()),
            duration: duration.into(),
            owner,
            check: check.into(),
            rollback: rollback.into(),
        });
    }
}

/// In which order.
pub(super) fn steps(from: &Assessor, expected: &Expected) -> Vec<Step> {
    use Role::{Backend, Frontend, Operations, Support};
    let (n, facts) = (&from.numbers, from.facts);
    let name = &from.settings.source;
    let days = from.settings.window.as_secs() / 86_400;
    let wrapping = n.weak / WRAPPED_A_SECOND;
    let import = span(Duration::from_secs(n.users / USERS_A_SECOND + wrapping));
    let fetching = match name.as_str() {
        "workos" => format!(
            "{} h, and {} for the identities",
            facts.export.0,
            span(Duration::from_secs(n.users / WORKOS_A_SECOND))
        ),
        _ => format!("{} h", facts.export.0),
    };
    let mut list = List(Vec::new());
    list.add(
        Backend,
        "Settle the blockers and answer the questions of this plan",
        "",
        "days",
        "`plan` shows no blocker",
        "nothing has changed",
    );
    list.add(
        Backend,
        "Better Auth in the app, with the options of the draft; run its migration",
        "",
        "days",
        "`vestibule migrate plan --config` misses no plugin",
        "leave it unused",
    );
    if facts.hosted_pages {
        list.add(
            Frontend,
            "Pages of your own in place of the hosted ones, behind a flag",
            "",
            "days",
            "sign-in, sign-up and reset work with a test user",
            "the flag",
        );
    }
    list.add(
        Operations,
        "Vestibule in front of the app, without `[migration]`",
        "vestibule check",
        "1 h",
        "`vestibule doctor`, `vestibule selftest`",
        "send traffic to the app itself",
    );
    list.add(
        Backend,
        format!("Export from {}: {}", facts.label, facts.export.1),
        "",
        fetching,
        "as many users as the old system counts",
        "destroy the files",
    );
    list.add(
        Backend,
        "Rehearse with a copy of the database",
        &format!("vestibule migrate import --from {name} --input … --config copy.toml --apply"),
        import.clone(),
        "`vestibule migrate verify` exits 0; `undo` leaves the copy as it was",
        "throw the copy away",
    );
    list.add(
        Support,
        "Tell those who will notice",
        &format!("vestibule migrate plan --from {name} --input … --list-affected affected.csv"),
        "1 week before",
        "bounced mails are followed up",
        "-",
    );
    list.add(Operations, "Stop or mirror sign-ups: `[migration.sign_up] mode = \"freeze\"` for a short switch, `trickle` for a long one", "", "minutes", "a new account is made, or refused, as chosen", "`mode = \"open\"`");
    list.add(
        Operations,
        "Import, then the delta of what changed since the export",
        &format!(
            "vestibule migrate import --from {name} --input … --apply, then again with --since"
        ),
        import,
        "outcomes add up to the rows; a second run changes nothing",
        "vestibule migrate undo",
    );
    list.add(
        Operations,
        "Prove it",
        "vestibule migrate verify",
        "minutes",
        "exit code 0",
        "vestibule migrate undo",
    );
    list.add(
        Operations,
        "Switch `[migration]` on with `shadow = true`, then for a few per cent, then for all",
        "",
        "hours",
        "vestibule_migration_success_ratio stays above 0.95, for each scheme",
        "`disable = [\"hash\", \"jit\", \"bridge\"]`, or take `[migration]` away",
    );
    if from.sessions() != Outlook::Lost {
        list.add(
            Operations,
            "Take live sessions over",
            "",
            format!("{days} days"),
            "nobody is signed out: vestibule_migration_… by provider",
            "`disable = [\"bridge\"]`",
        );
    }
    let (most, mails) = (
        expected.resets_after.most,
        expected.resets_after.most.div_ceil(MAILS_AN_HOUR),
    );
    list.add(
        Operations,
        "Watch how many are still pending",
        "vestibule migrate status",
        format!("{days} days"),
        "the tail becomes shorter every week",
        "-",
    );
    if most > 0 {
        list.add(
            Operations,
            format!("Send the rest a link: to {most} users at most"),
            "vestibule migrate reset --pending --apply",
            span(Duration::from_secs(mails * 3600)),
            "`status` shows nobody pending",
            "mails cannot be taken back; passwords go on working until they are changed",
        );
    }
    list.add(
        Operations,
        "Erase old hashes, take keys back, switch the old system off",
        "vestibule migrate finalize",
        "1 h",
        "`status` shows only `done`; the old keys are refused",
        "none: from here on there is no way back",
    );
    list.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_people_do() {
        for (seconds, told) in [
            (0, "less than a minute"),
            (61, "1 min"),
            (7199, "119 min"),
            (7200, "2 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), told);
        }
    }
}
