//! What a run found, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Failure, PROBLEMS};
use crate::selftest::answer::Answer;
use crate::selftest::{Check, Heard, Outcome, UNSEEN};

/// A whole run. Its JSON is this struct, names and all: names are only ever added.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The URL as given.
    pub url: String,
    /// The address that was asked.
    pub address: String,
    /// What `Host` said.
    pub host: String,
    /// The protected pages.
    pub protected: Vec<String>,
    /// The public page, if one is known.
    pub public: Option<String>,
    /// The page that reports what the app saw, if one is known.
    pub echo: Option<String>,
    /// Whether there was a session.
    pub session: bool,
    /// Connections made.
    pub requests: usize,
    /// What could not be used, and why.
    pub notes: Vec<String>,
    /// How many checks came out how.
    pub counts: Counts,
    /// Every check, in the order of the catalogue.
    pub checks: Vec<Shown>,
    /// Known bypasses that cannot be seen from outside.
    pub unseen: Vec<Hidden>,
}

/// How many checks came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// As expected.
    pub passed: usize,
    /// Not as expected.
    pub failed: usize,
    /// Not made, or without a clear result.
    pub not_checked: usize,
}

/// One check and what came of it.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Its id.
    pub id: &'static str,
    /// Its family.
    pub family: &'static str,
    /// What must hold.
    pub name: &'static str,
    /// `passed`, `failed` or `not_checked`.
    pub status: &'static str,
    /// Why it was not checked.
    pub reason: Option<String>,
    /// Why it matters.
    pub why: &'static str,
    /// What to do when it fails.
    pub fix: &'static str,
    /// What was sent.
    pub probes: Vec<Sent>,
}

/// One thing sent.
#[derive(Debug, Serialize)]
pub struct Sent {
    /// The bytes, escaped, without cookies of the session.
    pub sent: String,
    /// What was expected.
    pub expected: String,
    /// What came back.
    pub got: String,
    /// `passed`, `failed` or `not_checked`.
    pub status: &'static str,
}

/// A known bypass that cannot be seen from outside.
#[derive(Debug, Serialize)]
pub struct Hidden {
    /// Its id.
    pub id: &'static str,
    /// Why it is not checked.
    pub why: &'static str,
}

/// Those of the catalogue.
pub fn unseen() -> Vec<Hidden> {
    UNSEEN
        .iter()
        .map(|unseen| Hidden {
            id: unseen.id,
            why: unseen.why,
        })
        .collect()
}

impl Shown {
    /// A check and what came of it.
    pub fn new(check: &Check, outcome: Outcome, probes: Vec<Sent>) -> Self {
        let (status, reason) = match outcome {
            Outcome::Passed => ("passed", None),
            Outcome::Failed => ("failed", None),
            Outcome::NotChecked(why) => ("not_checked", Some(why)),
        };
        Self {
            id: check.id,
            family: check.family,
            name: check.name,
            status,
            reason,
            why: check.why,
            fix: check.fix,
            probes,
        }
    }
}

impl Counts {
    /// Counts them.
    pub fn of(checks: &[Shown]) -> Self {
        let count = |status: &str| checks.iter().filter(|check| check.status == status).count();
        Self {
            passed: count("passed"),
            failed: count("failed"),
            not_checked: count("not_checked"),
        }
    }
}

impl Report {
    /// For a person.
    pub fn to_text(&self, verbose: bool) -> String {
        let mut out = String::new();
        let mut say = |line: &str| {
            out.push_str(line);
            out.push('\n');
        };
        say(&format!(
            "{} (Host: {}), protected: {}, public: {}, echo: {}, session: {}",
            self.url,
            self.host,
            self.protected.join(" "),
            self.public.as_deref().unwrap_or("none"),
            self.echo.as_deref().unwrap_or("none"),
            if self.session { "yes" } else { "no" },
        ));
        for note in &self.notes {
            say(&format!("note: {note}"));
        }
        let mut family = "";
        for check in &self.checks {
            if check.family != family {
                family = check.family;
                say(&format!("\n{family}"));
            }
            say(&row(check));
            if verbose || check.status == "failed" {
                say(&details(check, verbose));
            }
        }
        let hidden: Vec<&str> = self.unseen.iter().map(|unseen| unseen.id).collect();
        say(&format!(
            "\n{} passed, {} failed, {} not checked, in {} requests",
            self.counts.passed, self.counts.failed, self.counts.not_checked, self.requests
        ));
        say(&format!(
            "Not visible from outside, so not checked either: {}. `vestibule selftest --list` says why.",
            hidden.join(", ")
        ));
        out
    }

    /// For a program.
    ///
    /// # Errors
    /// Never, with these types.
    pub fn to_json(&self) -> Result<String, Failure> {
        serde_json::to_string_pretty(self)
            .map(|json| format!("{json}\n"))
            .map_err(|error| Failure {
                message: format!("the report cannot be written: {error}"),
                advice: "leave `--json` out".into(),
                code: PROBLEMS,
            })
    }
}

fn row(check: &Shown) -> String {
    let status = match check.status {
        "passed" => "passed     ",
        "failed" => "FAILED     ",
        _ => "not checked",
    };
    let reason = check
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(" ({reason})"));
    format!("  {:<6}{status}  {}{reason}", check.id, check.name)
}

/// Probes of one failed check that are shown: the first ones say what is wrong, `--verbose` shows all.
const FAILURES_SHOWN: usize = 3;

fn details(check: &Shown, verbose: bool) -> String {
    let mut out = String::new();
    let failed = check.probes.iter().filter(|probe| probe.status == "failed");
    let shown: Vec<&Sent> = if verbose {
        check.probes.iter().collect()
    } else {
        failed.clone().take(FAILURES_SHOWN).collect()
    };
    for probe in &shown {
        // Formatting into a string cannot fail.
        let _ = writeln!(out, "         sent      {}", probe.sent);
        let _ = writeln!(out, "         expected  {}", probe.expected);
        let _ = writeln!(out, "         got       {}", probe.got);
    }
    if !verbose && failed.clone().count() > shown.len() {
        let more = failed.count() - shown.len();
        let _ = writeln!(out, "         … and {more} more (`--verbose`)");
    }
    let _ = writeln!(out, "         why       {}", check.why);
    let _ = write!(out, "         fix       {}", check.fix);
    out
}

/// What came back, in a line.
pub fn got(heard: &Heard, late: bool) -> String {
    let mut said: Vec<String> = heard.answers.iter().map(one).collect();
    if said.is_empty() {
        said.push(if late {
            "nothing in time".into()
        } else {
            "closed without an answer".into()
        });
    }
    if let Some(after) = &heard.afterwards {
        said.push(format!("afterwards {}", one(after)));
    }
    said.join(", then ")
}

fn one(answer: &Answer) -> String {
    if answer.status == 0 {
        return format!("{} bytes that are no HTTP", answer.body.len());
    }
    let location = answer
        .header("location")
        .map_or_else(String::new, |location| format!(" to `{location}`"));
    format!("{}{location} ({} bytes)", answer.status, answer.body.len())
}

/// A check of the catalogue, for programs.
#[derive(Serialize)]
struct Listed {
    id: &'static str,
    family: &'static str,
    name: &'static str,
    needs: Vec<&'static str>,
    why: &'static str,
}

/// The catalogue.
pub fn list(checks: &[&'static Check], json: bool) -> String {
    if json {
        let listed: Vec<Listed> = checks
            .iter()
            .map(|check| Listed {
                id: check.id,
                family: check.family,
                name: check.name,
                needs: check.needs.iter().map(|need| need.as_str()).collect(),
                why: check.why,
            })
            .collect();
        let whole = serde_json::json!({ "checks": listed, "unseen": unseen() });
        return format!("{whole:#}\n");
    }
    let mut out = String::new();
    let mut family = "";
    for check in checks {
        if check.family != family {
            family = check.family;
            let _ = writeln!(out, "{family}");
        }
        let needs: Vec<&str> = check.needs.iter().map(|need| need.as_str()).collect();
        let needs = match needs.is_empty() {
            true => String::new(),
            false => format!(" (needs {})", needs.join(", ")),
        };
        let _ = writeln!(out, "  {:<6}{}{needs}", check.id, check.name);
    }
    let _ = writeln!(out, "not visible from outside");
    for unseen in UNSEEN {
        let _ = writeln!(out, "  {:<6}{}", unseen.id, unseen.why);
    }
    out
}
