//! `vestibule bench`: how long the validation of a session takes, tier by tier and end to end, on this machine and set-up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

mod checks;
mod elsewhere;
mod ground;
mod inprocess;
mod machine;
mod own;
mod stop;
mod turns;
mod upstream;
mod wire;

use ground::broken;
use stop::Stop;

use super::{
    DONE, Edges, Failure, Given, OVER_BUDGET, PROBLEMS, USAGE, World, gateway as made, read_bounded,
};
use crate::bench::budget::Budget;
use crate::bench::pace::{Pace, RATE_MAX};
use crate::bench::report::{FORM, Method, Report};
use crate::bench::{html, markdown, terminal, tier};
use crate::config;
use crate::secret::Secret;
use crate::server::clock::SystemClock;
use crate::time::Clock as _;

/// Longest file with cookies, in bytes: a thousand sessions with their cookie caches.
const COOKIES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Sessions in turn at most: beyond it making them takes longer than measuring.
const SESSIONS_MAX: usize = 100_000;

/// Connections at most: the client is one thread.
const CONNECTIONS_MAX: usize = 10_000;

/// Longest `--duration` of one tier. All tiers together then end within the life of scratch sessions.
const DURATION_MAX: Duration = Duration::from_secs(600);

/// Rounds at most.
const ROUNDS_MAX: usize = 1000;

/// Bytes of an answer of the own upstream.
const ANSWER_BYTES: usize = 1024;

/// How a report is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables with bars.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For pull requests.
    Markdown,
    /// One page with curves, which stands by itself.
    Html,
}

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// Your own settings and store. Without it: an SQLite file, an upstream and a secret of the benchmark's own.
    #[command(flatten)]
    pub given: Given,
    /// Measure a gateway, or an app, that runs there, over the wire.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Measure the app's own check beside it, in rounds in turn: its `get-session`, or a page behind its own check.
    #[arg(long, value_name = "URL")]
    pub against: Option<String>,
    /// A file with the `Cookie` header of a live session, or of several, one a line. Nothing is written anywhere then.
    #[arg(long, value_name = "FILE")]
    pub cookie_file: Option<PathBuf>,
    /// A file with the `Cookie` header of a session that was signed out, to check that the URL refuses it.
    #[arg(long, value_name = "FILE")]
    pub revoked_cookie_file: Option<PathBuf>,
    /// A file with the `Cookie` header of a session that is over, to check that the URL refuses it.
    #[arg(long, value_name = "FILE")]
    pub expired_cookie_file: Option<PathBuf>,
    /// Check the certificate of an https URL against this authority (PEM).
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Make a scratch schema, database or prefix on the server that keeps the app's sessions, and take it away again.
    #[arg(long)]
    pub allow_write: bool,
    /// Measure these tiers only: ids, separated by commas. `--list` tells them.
    #[arg(long, value_name = "TIER", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Tell the tiers, and measure nothing.
    #[arg(long)]
    pub list: bool,
    /// End with 5 when it takes longer: METRIC=TIME for every tier but the references, or TIER.METRIC=TIME. May be given several times.
    #[arg(long, value_name = "[TIER.]METRIC=TIME", value_parser = Budget::read)]
    pub budget: Vec<Budget>,
    /// Sessions in turn.
    #[arg(long, default_value_t = 1000)]
    pub sessions: usize,
    /// Connections over the wire.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Requests a second, instead of again as soon as there is an answer: latency counts from the intended beginning.
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// How long each tier is measured.
    #[arg(long, value_name = "TIME", default_value = "800ms", value_parser = time)]
    pub duration: Duration,
    /// How long each tier is warmed up before. In no figure.
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = time)]
    pub warm_up: Duration,
    /// Rounds in turn, where two are compared.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Wait at most this long for one answer over the wire.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub wait: Duration,
    /// Read the processor's time of this process, which must run on this machine: that of `--url`.
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Print the report so.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// The same as `--format json`.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Write the report to a file as well, in the form its name ends in: .json, .md, .html, .txt. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Say nothing while it is measured.
    #[arg(long, short)]
    pub quiet: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    let read = config::duration(text).filter(|time| !time.is_zero());
    read.ok_or_else(|| "write a time with its unit: 500ms, 5s or 2m".into())
}

fn usage(message: impl Into<String>, advice: impl Into<String>) -> Failure {
    Failure {
        message: message.into(),
        advice: advice.into(),
        code: USAGE,
    }
}

/// How a run ends before its end.
enum Ending {
    Stopped,
    Failed(Failure),
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Bench {
    /// Measures.
    ///
    /// # Errors
    /// When the arguments do not fit together, or something that is needed cannot be had.
    pub fn run(mut self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        if self.list {
            for id in tier::ids() {
                let about = tier::about(id).unwrap_or_default();
                world.say(&format!("{id:<22} {about}\n"));
            }
            return Ok(DONE);
        }
        self.check_arguments()?;
        self.ca_file = self.ca_file.map(|path| world.path(&path));
        let loaded = match &self.given.config {
            None => None,
            Some(_) => match self.given.load_or_tell(world, edges)? {
                Ok(loaded) => Some(loaded.config),
                Err(code) => return Ok(code),
            },
        };
        let given = match &self.cookie_file {
            Some(path) => cookies(world, path)?,
            None => Vec::new(),
        };
        let mut report = self.blank();
        let signals = made::store_runtime()?;
        let stop = Stop::on_signals(&signals);
        let done = match &self.url {
            Some(url) => self.measure_url(url, &given, &mut report, &stop, world),
            None => self.measure_own(loaded, given, &mut report, &stop, world),
        };
        match done {
            Ok(()) if !stop.is_asked() => {}
            Ok(()) | Err(Ending::Stopped) => {
                world.complain("vestibule: stopped; what was made to be measured is gone\n");
                return Ok(STOPPED);
            }
            Err(Ending::Failed(failure)) => return Err(failure),
        }
        self.tell(report, world)
    }

    fn check_arguments(&self) -> Result<(), Failure> {
        let within = |name: &str, value: usize, most: usize| match (1..=most).contains(&value) {
            true => Ok(()),
            false => Err(usage(
                format!("`--{name} {value}` is beyond what is measured"),
                format!("write a number from 1 to {most}"),
            )),
        };
        within("sessions", self.sessions, SESSIONS_MAX)?;
        within("connections", self.connections, CONNECTIONS_MAX)?;
        within("rounds", self.rounds, ROUNDS_MAX)?;
        for (name, time) in [
            ("duration", self.duration),
            ("warm-up", self.warm_up),
            ("wait", self.wait),
        ] {
            if time > DURATION_MAX {
                return Err(usage(
                    format!("`--{name}` is longer than anything is measured"),
                    "write at most 10m",
                ));
            }
        }
        if self
            .rate
            .is_some_and(|rate| !(0.1..=RATE_MAX).contains(&rate))
        {
            return Err(usage(
                "`--rate` is no rate",
                "write requests a second, as 4000",
            ));
        }
        if let Some(id) = self.only.iter().find(|id| tier::about(id).is_none()) {
            return Err(usage(
                format!("`{id}` is no tier"),
                "`vestibule bench --list` tells them",
            ));
        }
        if self.cookie_file.is_some()
            && self.url.is_none()
            && self.against.is_none()
            && self.given.config.is_none()
        {
            return Err(usage(
                "the benchmark's own store knows nobody else's session",
                "name the server with `--url`, or the settings with `--config`",
            ));
        }
        if (self.against.is_some() || self.url.is_some()) && self.cookie_file.is_none() {
            return Err(usage(
                "somebody else's server knows no session of ours",
                "give the `Cookie` header of a live session in a file, with `--cookie-file`",
            ));
        }
        if self.pid.is_some() && self.url.is_none() {
            return Err(usage(
                "`--pid` belongs to a server that runs elsewhere",
                "name it with `--url`; without, the gateway runs in this process and is told apart",
            ));
        }
        if let Some(path) = self.output.iter().find(|path| form_of(path).is_none()) {
            return Err(usage(
                format!("`{}` does not say in which form", path.display()),
                "end its name in .json, .md, .html or .txt",
            ));
        }
        if self.given.config.is_none() && self.given.env_file.iter().any(|_| true) {
            return Err(usage(
                "`--env-file` belongs to a configuration",
                "name it with `--config`",
            ));
        }
        Ok(())
    }

    fn blank(&self) -> Report {
        Report {
            form: FORM,
            verdict: "incorrect",
            began_ms: SystemClock.now().0,
            build: machine::build(),
            machine: machine::machine(),
            method: Method {
                sessions: self.sessions,
                connections: self.connections,
                gateway_threads: 0,
                warm_up_ms: u64::try_from(self.warm_up.as_millis()).unwrap_or(u64::MAX),
                duration_ms: u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
                rounds: self.rounds,
                answer_bytes: ANSWER_BYTES,
            },
            ..Report::default()
        }
    }

    fn pace(&self) -> Pace {
        match self.rate {
            Some(per_second) => Pace::Fixed { per_second },
            None => Pace::Closed,
        }
    }

    fn wants(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == id)
    }

    /// Comes to a verdict and tells it.
    fn tell(&self, mut report: Report, world: &mut World<'_>) -> Result<u8, Failure> {
        report.machine.load_after = machine::load();
        if report.build.profile == "debug" {
            report.notes.push(
                "a debug build: its figures say nothing of a release, but for what is counted"
                    .into(),
            );
        }
        if report.tiers.is_empty() && report.is_correct() {
            return Err(usage(
                "nothing was measured",
                "look at `--only`, and at what is skipped",
            ));
        }
        report.conclude(&self.budget).map_err(|budget| {
            let tier = budget.tier.unwrap_or_else(|| "any tier".into());
            usage(
                format!(
                    "there is a budget for `{}` of {tier}, and that was not measured",
                    budget.metric.as_str()
                ),
                "measure it too, or leave the budget out",
            )
        })?;
        let format = if self.json { Format::Json } else { self.format };
        let text = written(&report, format)?;
        world.say(&text);
        for path in &self.output {
            let text = written(&report, form_of(path).unwrap_or_default())?;
            std::fs::write(world.path(path), text).map_err(|error| Failure {
                message: format!("{} cannot be written: {error}", path.display()),
                advice: "name a file in a folder that can be written".into(),
                code: PROBLEMS,
            })?;
        }
        for held in report.budgets.iter().filter(|held| held.over) {
            world.complain(&format!(
                "over budget: {}.{} is {}, and may be {}\n",
                held.tier,
                held.metric,
                crate::bench::shown(held.actual_ns),
                crate::bench::shown(crate::bench::float(held.limit_ns))
            ));
        }
        Ok(match report.verdict {
            "ok" => DONE,
            "over_budget" => OVER_BUDGET,
            _ => PROBLEMS,
        })
    }

    fn progress(&self, world: &mut World<'_>, what: &str) {
        if world.terminal && !self.quiet {
            world.complain(&format!("measuring {what}\n"));
        }
    }
}

/// Exit code after a signal, as shells have it.
const STOPPED: u8 = 130;

/// The cookies in a file, one header a line. Comments and empty lines are none.
fn cookies(world: &World<'_>, path: &Path) -> Result<Vec<Secret>, Failure> {
    let text = read_bounded(&world.path(path), COOKIES_BYTES_MAX).map_err(|error| {
        usage(
            format!("{} cannot be read: {error}", path.display()),
            "name a file with the `Cookie` header of a session",
        )
    })?;
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let cookies: Vec<Secret> = lines
        .map(|line| {
            let value = match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("cookie") => value.trim(),
                _ => line,
            };
            Secret::new(value)
        })
        .take(SESSIONS_MAX)
        .collect();
    let fits = |cookie: &Secret| {
        let bytes = cookie.expose().as_bytes();
        bytes.contains(&b'=') && bytes.iter().all(|byte| (0x20..0x7f).contains(byte))
    };
    match !cookies.is_empty() && cookies.iter().all(fits) {
        true => Ok(cookies),
        // Not quoted: it may be a session all the same.
        false => Err(usage(
            format!("{} holds no `Cookie` header", path.display()),
            "one line for each session: `better-auth.session_token=…`",
        )),
    }
}

/// The form that the name of a file ends in.
fn form_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "json" => Some(Format::Json),
        "md" => Some(Format::Markdown),
        "html" => Some(Format::Html),
        "txt" => Some(Format::Text),
        _ => None,
    }
}

fn written(report: &Report, format: Format) -> Result<String, Failure> {
    Ok(match format {
        Format::Text => terminal::text(report),
        Format::Markdown => markdown::document(report),
        Format::Html => html::page(report),
        Format::Json => {
            let json = serde_json::to_string_pretty(report);
            json.map_err(|error| broken("the report cannot be written", &error))? + "\n"
        }
    })
}
