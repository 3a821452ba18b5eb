//! `vestibule bench`: how long the validation of a session takes, tier by tier and end to end, on this machine and set-up.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use url::Url;

mod ground;
mod inprocess;
mod machine;
mod stop;
mod tls;
mod upstream;
mod wire;

use ground::{Fitted, Ground, OPEN, Plan, broken};
use inprocess::{Span, Unmeasured};
use stop::Stop;
use wire::{Answer, Came, Load, Statuses};

use super::{
    DONE, Edges, Failure, Given, OVER_BUDGET, PROBLEMS, UNREACHABLE, USAGE, World, gateway as made,
    read_bounded,
};
use crate::bench::budget::Budget;
use crate::bench::pace::{Pace, RATE_MAX};
use crate::bench::report::{
    Check, ConfigUsed, FORM, LoadPoint, Measured, Method, Ratio, Report, Skipped, Status,
};
use crate::bench::summary::Summary;
use crate::bench::tier::{Asked, Presents, TIERS, Tier};
use crate::bench::{html, markdown, terminal, tier};
use crate::config;
use crate::secret::Secret;
use crate::server::clock::SystemClock;
use crate::server::run::{self, Running};
use crate::session::feed::{Ended, TokenDigest};
use crate::session::resolve;
use crate::telemetry;
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

/// Shares of the highest throughput at which latency is looked at.
const SHARES: [f64; 4] = [0.25, 0.5, 0.75, 0.9];

/// What a request of ours says it is from somebody who pretends.
const SPOOFED: &str = "spoofed-by-vestibule-bench";

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
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        if self.list {
            for id in tier::ids() {
                let about = tier::about(id).unwrap_or_default();
                world.say(&format!("{id:<22} {about}\n"));
            }
            return Ok(DONE);
        }
        self.check_arguments()?;
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

    // --------------------------------------------------------------------------------------------------------------- own ground

    fn measure_own(
        &self,
        loaded: Option<config::Config>,
        given: Vec<Secret>,
        report: &mut Report,
        stop: &Stop,
        world: &mut World<'_>,
    ) -> Result<(), Ending> {
        let file = self.given.file(world).display().to_string();
        let overrides = self.given.overrides()?;
        let most = loaded.as_ref().map_or(usize::MAX, |config| {
            usize::try_from(config.sessions.entries_max / 2).unwrap_or(usize::MAX)
        });
        let sessions = self.sessions.min(most).max(1);
        if sessions < self.sessions {
            report.notes.push(format!(
                "{sessions} sessions in turn: `sessions.max_cached` holds no more of them for sure"
            ));
        }
        report.method.sessions = sessions;
        let plan = Plan {
            given: match &loaded {
                Some(_) => given.clone(),
                // They are for the app's own check alone.
                None => Vec::new(),
            },
            config: loaded.map(|config| (config, file)),
            overrides: &overrides,
            sessions,
            allow_write: self.allow_write,
            answer_bytes: ANSWER_BYTES,
        };
        let mut ground = None;
        let laid = Ground::lay(plan, made::store_runtime()?, &mut ground, world);
        let measured = laid.map_err(Ending::from).and_then(|()| match &ground {
            Some(ground) => self.measure_on(ground, &given, sessions, report, stop, world),
            None => Ok(()),
        });
        let cleared = ground.as_mut().map_or(Ok(()), Ground::clear);
        if let Some(ground) = ground {
            ground.finish();
        }
        match (measured, cleared) {
            // What is still there is worse news than why.
            (_, Err(failure)) => Err(failure.into()),
            (measured, Ok(())) => measured,
        }
    }

    fn measure_on(
        &self,
        ground: &Ground,
        given: &[Secret],
        sessions: usize,
        report: &mut Report,
        stop: &Stop,
        world: &mut World<'_>,
    ) -> Result<(), Ending> {
        report.config = ConfigUsed {
            file: ground.file.clone(),
            hash: ground.hash.clone(),
            store: ground.kind().to_owned(),
        };
        let log = std::fs::File::create(ground.folder.path().join("log"));
        let log = log.map_err(|error| broken("no log can be written", &error))?;
        // As a gateway logs, into a file: what that costs is in the figures.
        let _log = telemetry::log::start_into(&ground.config.log, log);
        let fitted = ground.gateway(Presents::Live, world)?;
        report.notes.push(format!(
            "the gateway logs {} into a file, and counts its metrics",
            match ground.config.log.access {
                true => "every request",
                false => "no requests, as configured,",
            }
        ));
        if !ground.built_in {
            report.notes.push(
                "the user's settings, with an upstream and routes of the benchmark's own; nobody is moved in and no session extended".into(),
            );
        }
        if let Some(scratch) = &ground.scratch
            && !ground.built_in
        {
            report.notes.push(format!(
                "sessions stand in `{}`, with tables like the app's and no rows of its own; removed again",
                scratch.name()
            ));
        }
        let plain = fitted;
        for tier in TIERS.iter().filter(|tier| self.wants(tier.id)) {
            if stop.is_asked() {
                return Err(Ending::Stopped);
            }
            if let Some(why) = self.unfit(ground, tier) {
                report.skipped.push(Skipped {
                    id: tier.id.into(),
                    why: why.into(),
                });
                continue;
            }
            self.progress(world, tier.id);
            let own;
            let fitted: &Fitted = match tier.presents.needs().is_some() && ground.built_in {
                true => {
                    own = ground.gateway(tier.presents, world)?;
                    &own
                }
                false => &plain,
            };
            let span = Span {
                warm_up: self.warm_up,
                duration: self.duration,
                pace: self.pace(),
            };
            match inprocess::measure(ground, fitted, tier, span, sessions, stop) {
                Ok(measured) => report.tiers.push(measured),
                Err(Unmeasured::Skipped(why)) => report.skipped.push(Skipped {
                    id: tier.id.into(),
                    why: why.into(),
                }),
                Err(Unmeasured::Stopped) => return Err(Ending::Stopped),
                Err(Unmeasured::Failed(failure)) => return Err(failure.into()),
            }
            if tier.id == "store_miss" {
                self.stampede(ground, &plain, report, stop)?;
            }
        }
        if !self.wants("store_miss") && self.wants("stampede") {
            self.stampede(ground, &plain, report, stop)?;
        }
        self.over_the_wire(ground, plain, given, report, stop, world)
    }

    /// Why a tier cannot be measured here.
    fn unfit(&self, ground: &Ground, tier: &Tier) -> Option<&'static str> {
        let has_sessions = !ground.live.is_empty() || !ground.given.is_empty();
        let kept = &ground.config.sessions;
        match tier.expects.tier {
            resolve::Tier::Memory | resolve::Tier::Cookie if kept.cache_ttl.is_zero() => {
                return Some("nothing is remembered: `sessions.cache_ttl` is zero");
            }
            resolve::Tier::Negative if kept.negative_ttl.is_zero() => {
                return Some("nothing unknown is remembered: `sessions.negative_ttl` is zero");
            }
            _ => {}
        }
        match tier.presents {
            Presents::Live if !has_sessions => {
                Some("no session can be made at this source: give one with `--cookie-file`")
            }
            Presents::CookieCache(_) | Presents::Revoked if ground.live.is_empty() => {
                Some("no session can be made at this source, or one was given")
            }
            // Who is asked about the unknown is the user's app or store: it would be flooded, or limit us.
            Presents::Unknown if tier.route == Asked::Cached && ground.scratch.is_none() => {
                Some("every one of them would be asked for at the app's own store")
            }
            _ => None,
        }
    }

    fn stampede(
        &self,
        ground: &Ground,
        fitted: &Fitted,
        report: &mut Report,
        stop: &Stop,
    ) -> Result<(), Ending> {
        if !self.wants("stampede") {
            return Ok(());
        }
        let span = Span {
            warm_up: self.warm_up,
            duration: self.duration,
            pace: Pace::Closed,
        };
        match inprocess::stampede(ground, fitted, span, stop) {
            Ok((measured, rounds)) => {
                let calls = measured.store_calls.unwrap_or_default();
                report.checks.push(check(
                    "stampede",
                    "a stampede of one session asks the store once",
                    calls == rounds,
                    format!(
                        "{calls} store calls in {rounds} stampedes of {} requests",
                        inprocess::STAMPEDE
                    ),
                ));
                report.tiers.push(measured);
                Ok(())
            }
            Err(Unmeasured::Skipped(why)) => {
                report.skipped.push(Skipped {
                    id: "stampede".into(),
                    why: why.into(),
                });
                Ok(())
            }
            Err(Unmeasured::Stopped) => Err(Ending::Stopped),
            Err(Unmeasured::Failed(failure)) => Err(failure.into()),
        }
    }

    // -------------------------------------------------------------------------------------------------------------- over the wire

    fn over_the_wire(
        &self,
        ground: &Ground,
        fitted: Fitted,
        given: &[Secret],
        report: &mut Report,
        stop: &Stop,
        world: &mut World<'_>,
    ) -> Result<(), Ending> {
        let presented = if ground.live.is_empty() {
            ground.given.len()
        } else {
            report.method.sessions
        };
        let heads: Vec<http::HeaderMap> = (0..presented)
            .filter_map(|number| ground.headers(Presents::Live, &fitted, number))
            .collect();
        let (running, address) = serve(fitted)?;
        let done = self.ask_gateway(
            ground, &heads, given, &running, address, report, stop, world,
        );
        running.stop();
        done
    }

    #[allow(clippy::too_many_arguments)]
    fn ask_gateway(
        &self,
        ground: &Ground,
        heads: &[http::HeaderMap],
        given: &[Secret],
        running: &Running,
        address: SocketAddr,
        report: &mut Report,
        stop: &Stop,
        world: &mut World<'_>,
    ) -> Result<(), Ending> {
        report.method.gateway_threads = running
            .gateway
            .settings
            .threads
            .unwrap_or(report.machine.cores);
        self.progress(world, "whether the right ones are let in");
        check_gateway(ground, running, address, self.wait, report)?;
        if heads.is_empty() {
            for id in ["proxy", "proxy_fixed", "direct"] {
                report.skipped.push(Skipped {
                    id: id.into(),
                    why: "no session can be made at this source: give one with `--cookie-file`"
                        .into(),
                });
            }
            return Ok(());
        }
        if !report.is_correct() {
            // What lets the wrong ones in is not worth a figure.
            return Ok(());
        }
        let path = ground.path(Asked::Cached.path());
        let requests: Vec<Vec<u8>> = heads.iter().map(|head| request(&path, head)).collect();
        let asked = |address: SocketAddr| wire::Asked {
            address,
            tls: None,
            requests: Arc::new(requests.clone()),
            statuses: Statuses::Good,
            wait: self.wait,
        };
        let (ours, alone) = (asked(address), asked(ground.upstream.address));
        if let Some(url) = &self.against {
            let other = self.other(url, given)?;
            check_other(&other, report);
            if !report.is_correct() {
                return Ok(());
            }
            let sides = [
                Side::new("proxy", &ours, Cpu::Threads),
                Side::new("against", &other, Cpu::Nobody),
            ];
            return self.compare(sides, ["against", "proxy"], report, stop, world);
        }
        if self.wants("proxy") || self.wants("direct") {
            let sides = [
                Side::new("proxy", &ours, Cpu::Threads),
                Side::new("direct", &alone, Cpu::Nobody),
            ];
            self.compare(sides, ["proxy", "direct"], report, stop, world)?;
        }
        if self.wants("proxy_fixed") && self.rate.is_none() {
            self.load_curve(&ours, report, stop, world)?;
        }
        Ok(())
    }

    /// Two in rounds in turn, and the ratio of the one named first to the other.
    fn compare(
        &self,
        sides: [Side<'_>; 2],
        ratio: [&str; 2],
        report: &mut Report,
        stop: &Stop,
        world: &mut World<'_>,
    ) -> Result<(), Ending> {
        let load = Load {
            pace: self.pace(),
            connections: self.connections,
            duration: self.duration,
        };
        let [mut one, mut other] = sides;
        self.progress(world, &format!("{} and {} in turn", one.id, other.id));
        for side in [&one, &other] {
            let warm = Load {
                pace: Pace::Closed,
                duration: self.warm_up,
                ..load
            };
            wire::load(side.asked, warm, stop).map_err(|error| broken("no load", &error))?;
        }
        for round in 0..self.rounds {
            // Whoever comes first in a round comes second in the next.
            let pair = match round % 2 {
                0 => [&mut one, &mut other],
                _ => [&mut other, &mut one],
            };
            for side in pair {
                side.round(load, stop)?;
            }
            if stop.is_asked() {
                return Err(Ending::Stopped);
            }
        }
        let [above, below] = ratio;
        let rounds = |id: &str, of: fn(&Summary) -> f64| -> Vec<f64> {
            let side = if one.id == id { &one } else { &other };
            side.rounds.iter().map(of).collect()
        };
        for (name, of) in [
            (
                "p50",
                (|seen: &Summary| crate::bench::float(seen.p50_ns)) as fn(&Summary) -> f64,
            ),
            ("p99", |seen| crate::bench::float(seen.p99_ns)),
            ("throughput", |seen| seen.per_second),
        ] {
            let pairs: Vec<(f64, f64)> = rounds(above, of)
                .into_iter()
                .zip(rounds(below, of))
                .collect();
            report.ratios.extend(Ratio::of(above, below, name, &pairs));
        }
        for side in [one, other] {
            let measured = side.measured(load.pace);
            report.tiers.push(measured);
        }
        Ok(())
    }

    /// Latency at growing shares of what the gateway did at most.
    fn load_curve(
        &self,
        ours: &wire::Asked,
        report: &mut Report,
        stop: &Stop,
        world: &mut World<'_>,
    ) -> Result<(), Ending> {
        let closed = report.tiers.iter().find(|tier| tier.id == "proxy");
        let most = match closed {
            Some(tier) => tier.seen.per_second,
            None => {
                let load = Load {
                    pace: Pace::Closed,
                    connections: self.connections,
                    duration: self.duration,
                };
                let came =
                    wire::load(ours, load, stop).map_err(|error| broken("no load", &error))?;
                came.recorder.summary(came.took).per_second
            }
        };
        for share in SHARES {
            let rate = (most * share).max(1.0);
            self.progress(world, &format!("through the gateway at {rate:.0} a second"));
            let load = Load {
                pace: Pace::Fixed { per_second: rate },
                connections: self.connections,
                duration: self.duration,
            };
            let mut side = Side::new("proxy_fixed", ours, Cpu::Threads);
            side.round(load, stop)?;
            if stop.is_asked() {
                return Err(Ending::Stopped);
            }
            let measured = side.measured(load.pace);
            let seen = &measured.seen;
            report.load.push(LoadPoint {
                rate,
                per_second: seen.per_second,
                p50_ns: seen.p50_ns,
                p90_ns: seen.p90_ns,
                p99_ns: seen.p99_ns,
            });
            if (share - 0.5).abs() < f64::EPSILON {
                report.tiers.push(measured);
            }
        }
        Ok(())
    }

    // ----------------------------------------------------------------------------------------------------------- somebody else's

    /// Somebody else's server, asked with the sessions that were given.
    fn other(&self, url: &str, given: &[Secret]) -> Result<wire::Asked, Failure> {
        let place = Place::read(url)?;
        let requests = given
            .iter()
            .map(|cookie| place.request(Some(cookie.expose())))
            .collect();
        Ok(place.asked(requests, Statuses::Good, self.wait))
    }

    fn measure_url(
        &self,
        url: &str,
        given: &[Secret],
        report: &mut Report,
        stop: &Stop,
        world: &mut World<'_>,
    ) -> Result<(), Ending> {
        report.config = ConfigUsed {
            file: "that of the server at the URL".into(),
            hash: "unknown".into(),
            store: "that of the server at the URL".into(),
        };
        report.method.sessions = given.len();
        report.method.answer_bytes = 0;
        let place = Place::read(url)?;
        let good = self.other(url, given)?;
        let none = place.asked(vec![place.request(None)], Statuses::Refused, self.wait);
        let forged: Vec<Vec<u8>> = given
            .iter()
            .map(|cookie| place.request(Some(&bent(cookie.expose()))))
            .collect();
        let forged = place.asked(forged, Statuses::Refused, self.wait);
        self.check_url(&place, &good, &none, &forged, report, world)?;
        if !report.is_correct() {
            return Ok(());
        }
        let pid = self.pid.map_or(Cpu::Nobody, Cpu::Process);
        if let Some(against) = &self.against {
            let other = self.other(against, given)?;
            check_other(&other, report);
            if !report.is_correct() {
                return Ok(());
            }
            let sides = [
                Side::new("url", &good, pid),
                Side::new("against", &other, Cpu::Nobody),
            ];
            self.compare(sides, ["against", "url"], report, stop, world)?;
        } else if self.wants("url") {
            self.alone("url", &good, pid, report, stop, world)?;
        }
        for (id, asked) in [("url_forged", &forged), ("url_none", &none)] {
            if self.wants(id) {
                self.alone(id, asked, pid, report, stop, world)?;
            }
        }
        Ok(())
    }

    fn alone(
        &self,
        id: &'static str,
        asked: &wire::Asked,
        cpu: Cpu,
        report: &mut Report,
        stop: &Stop,
        world: &mut World<'_>,
    ) -> Result<(), Ending> {
        self.progress(world, id);
        let load = Load {
            pace: self.pace(),
            connections: self.connections,
            duration: self.duration,
        };
        let warm = Load {
            pace: Pace::Closed,
            duration: self.warm_up,
            ..load
        };
        wire::load(asked, warm, stop).map_err(|error| broken("no load", &error))?;
        let mut side = Side::new(id, asked, cpu);
        side.round(load, stop)?;
        if stop.is_asked() {
            return Err(Ending::Stopped);
        }
        let measured = side.measured(load.pace);
        report.tiers.push(measured);
        Ok(())
    }

    fn check_url(
        &self,
        place: &Place,
        good: &wire::Asked,
        none: &wire::Asked,
        forged: &wire::Asked,
        report: &mut Report,
        world: &World<'_>,
    ) -> Result<(), Failure> {
        for (id, name, asked) in [
            ("good", "a good session is let in", good),
            ("none", "nobody without a session is", none),
            ("forged", "nor a forged one", forged),
        ] {
            let answer = first(asked)?;
            let right = asked.statuses.has(answer.status);
            report
                .checks
                .push(check(id, name, right, answer.status.to_string()));
        }
        for (id, name, path) in [
            (
                "revoked",
                "nor one that was signed out",
                &self.revoked_cookie_file,
            ),
            ("expired", "nor one that is over", &self.expired_cookie_file),
        ] {
            let Some(path) = path else {
                report.checks.push(Check {
                    id: id.into(),
                    name: name.into(),
                    status: Status::NotChecked,
                    detail: format!("no such session was given: `--{id}-cookie-file`"),
                });
                continue;
            };
            for cookie in cookies(world, path)? {
                let requests = vec![place.request(Some(cookie.expose()))];
                let answer = first(&place.asked(requests, Statuses::Refused, self.wait))?;
                let right = Statuses::Refused.has(answer.status);
                report
                    .checks
                    .push(check(id, name, right, answer.status.to_string()));
            }
        }
        report.checks.push(Check {
            id: "spoofed".into(),
            name: "what only the gateway may say is removed from what comes in".into(),
            status: Status::NotChecked,
            detail:
                "the app behind the URL is not ours: `vestibule selftest URL --echo PATH` sees it"
                    .into(),
        });
        Ok(())
    }
}

/// Exit code after a signal, as shells have it.
const STOPPED: u8 = 130;

/// Whose processor's time is told.
#[derive(Clone, Copy)]
enum Cpu {
    Nobody,
    /// Threads of the gateway in this process.
    Threads,
    Process(u32),
}

/// Names of the gateway's threads: those of the proxy, and those of the store.
const GATEWAY_THREADS: [&str; 2] = ["proxy", "store"];

impl Cpu {
    fn now(self) -> Option<Duration> {
        match self {
            Self::Nobody => None,
            Self::Threads => machine::process_cpu("self", Some(&GATEWAY_THREADS)),
            Self::Process(pid) => machine::process_cpu(&pid.to_string(), None),
        }
    }

    const fn whose(self) -> &'static str {
        match self {
            Self::Nobody => "client",
            Self::Threads => "gateway",
            Self::Process(_) => "process",
        }
    }
}

/// One of two that are asked in turn.
struct Side<'a> {
    id: &'static str,
    asked: &'a wire::Asked,
    cpu: Cpu,
    all: Came,
    rounds: Vec<Summary>,
    taken: Option<Duration>,
}

impl<'a> Side<'a> {
    fn new(id: &'static str, asked: &'a wire::Asked, cpu: Cpu) -> Self {
        Self {
            id,
            asked,
            cpu,
            all: Came::default(),
            rounds: Vec::new(),
            taken: Some(Duration::ZERO),
        }
    }

    fn round(&mut self, load: Load, stop: &Stop) -> Result<(), Failure> {
        let before = self.cpu.now();
        let came = wire::load(self.asked, load, stop).map_err(|error| broken("no load", &error))?;
        let taken = match self.cpu {
            Cpu::Nobody => came.client_cpu,
            _ => self
                .cpu
                .now()
                .zip(before)
                .and_then(|(after, before)| after.checked_sub(before)),
        };
        self.taken = self.taken.zip(taken).map(|(sum, more)| sum + more);
        self.rounds.push(came.recorder.summary(came.took));
        self.all.recorder.add(&came.recorder);
        self.all.took += came.took;
        Ok(())
    }

    fn measured(self, pace: Pace) -> Measured {
        let seen = self.all.recorder.summary(self.all.took);
        Measured {
            id: self.id.into(),
            about: tier::about(self.id).unwrap_or_default().into(),
            how: "wire",
            cpu_ns: machine::each(Some(Duration::ZERO), self.taken, seen.count - seen.unbegun),
            cpu_of: self.cpu.whose(),
            seen,
            ..Measured::default()
        }
        .paced(pace)
    }
}

/// Where somebody else's server is, and what is asked of it.
struct Place {
    address: SocketAddr,
    tls: Option<tls::Tls>,
    authority: String,
    target: String,
}

impl Place {
    fn read(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            usage(
                "this is no URL to measure",
                "write http://HOST:PORT/PATH or https://HOST/PATH",
            )
        };
        let url = Url::parse(text).map_err(|_| wrong())?;
        let tls = match url.scheme() {
            "http" => None,
            "https" => {
                let name = url.host_str().ok_or_else(wrong)?;
                Some(tls::Tls::to(name).map_err(|why| usage(why, "name a host"))?)
            }
            _ => return Err(wrong()),
        };
        let (host, port) = (
            url.host_str().ok_or_else(wrong)?,
            url.port_or_known_default(),
        );
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.ok_or_else(wrong)?;
        let unreachable = |why: String| Failure {
            message: format!("{host} cannot be found: {why}"),
            advice: "check the URL".into(),
            code: UNREACHABLE,
        };
        let mut found = (bare, port)
            .to_socket_addrs()
            .map_err(|error| unreachable(error.to_string()))?;
        let address = found
            .next()
            .ok_or_else(|| unreachable("it has no address".into()))?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self {
            address,
            tls,
            authority,
            target,
        })
    }

    fn request(&self, cookie: Option<&str>) -> Vec<u8> {
        let cookie = cookie.map_or_else(String::new, |cookie| format!("cookie: {cookie}\r\n"));
        format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: vestibule-bench\r\naccept: */*\r\n{cookie}\r\n",
            self.target, self.authority
        )
        .into_bytes()
    }

    fn asked(&self, requests: Vec<Vec<u8>>, statuses: Statuses, wait: Duration) -> wire::Asked {
        wire::Asked {
            address: self.address,
            tls: self.tls.clone(),
            requests: Arc::new(requests),
            statuses,
            wait,
        }
    }
}

/// A request for a page of ours.
fn request(path: &str, headers: &http::HeaderMap) -> Vec<u8> {
    let mut bytes = format!("GET {path} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A cookie header whose signatures are no longer good: the last letter of every value's signature is another one.
fn bent(cookies: &str) -> String {
    let bend = |pair: &str| {
        let Some((name, value)) = pair.split_once('=') else {
            return pair.to_owned();
        };
        // The signature comes after the last point, and ends in an equals sign, escaped or not: its first letter is changed.
        match value.rsplit_once('.') {
            Some((token, signature)) => {
                let mut letters = signature.chars();
                let first = letters.next().unwrap_or('A');
                let other = if first == 'A' { 'B' } else { 'A' };
                format!("{name}={token}.{other}{}", letters.as_str())
            }
            None => format!("{name}=x{value}"),
        }
    };
    cookies.split("; ").map(bend).collect::<Vec<_>>().join("; ")
}

fn first(asked: &wire::Asked) -> Result<Answer, Failure> {
    let request = asked.requests.first().map_or(&[][..], Vec::as_slice);
    wire::ask_once(asked, request).map_err(|error| Failure {
        message: format!("{} does not answer: {error}", asked.address),
        advice: "start it, or name another URL".into(),
        code: UNREACHABLE,
    })
}

fn check(id: &str, name: &str, right: bool, detail: String) -> Check {
    Check {
        id: id.into(),
        name: name.into(),
        status: match right {
            true => Status::Passed,
            false => Status::Failed,
        },
        detail,
    }
}

/// Whether the app's own check lets the session in. `get-session` says null with 200 to whoever has none.
fn check_other(other: &wire::Asked, report: &mut Report) {
    let answered = first(other);
    let (right, detail) = match &answered {
        Ok(answer) => (
            other.statuses.has(answer.status) && answer.body.trim_ascii() != b"null",
            match answer.body.trim_ascii() == b"null" {
                true => format!("{}, and it knows no session", answer.status),
                false => answer.status.to_string(),
            },
        ),
        Err(failure) => (false, failure.message.clone()),
    };
    report.checks.push(check(
        "against",
        "the app's own check lets the session in",
        right,
        detail,
    ));
}

/// Whether a gateway of ours lets in whom it must, and nobody else.
fn check_gateway(
    ground: &Ground,
    running: &Running,
    address: SocketAddr,
    wait: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    let ask = |path: &str, cookie: Option<&str>, more: &[(String, String)]| {
        let mut text = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\naccept: */*\r\n",
            ground.host()
        );
        if let Some(cookie) = cookie {
            text.push_str(&format!("cookie: {cookie}\r\n"));
        }
        for (name, value) in more {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let asked = wire::Asked {
            address,
            tls: None,
            requests: Arc::new(vec![text.into_bytes()]),
            statuses: Statuses::Good,
            wait,
        };
        first(&asked)
    };
    let page = ground.path(Asked::Cached.path());
    let live = match (ground.live.first(), ground.given.first()) {
        (Some(token), _) => Some(ground.cookie(token.expose())),
        (None, Some(given)) => Some(given.expose().to_owned()),
        (None, None) => None,
    };
    let mut note = |id: &str, name: &str, wanted: Statuses, cookie: Option<&str>| {
        let answer = ask(&page, cookie, &[])?;
        let right = wanted.has(answer.status);
        report
            .checks
            .push(check(id, name, right, answer.status.to_string()));
        Ok::<(), Failure>(())
    };
    if let Some(live) = &live {
        note(
            "good",
            "a good session is let in",
            Statuses::Exactly(200),
            Some(live),
        )?;
        note(
            "forged_live",
            "nor the same with a bent signature",
            Statuses::Exactly(401),
            Some(&bent(live)),
        )?;
    }
    note(
        "none",
        "nobody without a session is",
        Statuses::Exactly(401),
        None,
    )?;
    let forged = ground.forged(&ground::token());
    note(
        "forged",
        "nor a forged one",
        Statuses::Exactly(401),
        Some(&forged),
    )?;
    if ground.scratch.is_some() {
        let unknown = ground.cookie(&ground::token());
        note(
            "unknown",
            "nor one that nobody knows",
            Statuses::Exactly(401),
            Some(&unknown),
        )?;
    }
    if let Some(expired) = &ground.expired {
        let cookie = ground.cookie(expired.expose());
        note(
            "expired",
            "nor one that is over",
            Statuses::Exactly(401),
            Some(&cookie),
        )?;
    }
    if let Some(token) = ground.doomed.first() {
        let cookie = ground.cookie(token.expose());
        // The tier may have ended them already; here one is ended whatever was measured.
        ground.end_doomed()?;
        let ended = Ended::Token(TokenDigest::of(token.expose()));
        running.gateway.gate.sessions.cache().end(&ended);
        note(
            "revoked",
            "nor one that was signed out",
            Statuses::Exactly(401),
            Some(&cookie),
        )?;
    }
    // What only the gateway may say, said by somebody else: on an open page and on a closed one.
    let owned = running.gateway.identity.owned();
    let spoofed: Vec<(String, String)> = [
        "X-Auth-User-Id",
        "X-Auth-Role",
        "X_Auth_User_Id",
        "X-Auth-Assertion",
        "Remote-User",
        "X-Forwarded-User",
    ]
    .iter()
    .filter(|name| owned.is_identity(&name.to_ascii_lowercase()))
    .map(|name| ((*name).to_owned(), SPOOFED.to_owned()))
    .collect();
    let mut pages = vec![(ground.echo(&format!("{OPEN}/page")), None)];
    if let Some(live) = &live {
        pages.push((ground.echo(Asked::Cached.path()), Some(live.as_str())));
    }
    for (page, cookie) in pages {
        let answer = ask(&page, cookie, &spoofed)?;
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        let right = answer.status == 200 && told.starts_with("GET ") && !told.contains(SPOOFED);
        report.checks.push(check(
            "spoofed",
            "what only the gateway may say is removed from what comes in",
            right && !spoofed.is_empty(),
            format!(
                "{} headers sent on {page}, {}",
                spoofed.len(),
                match right {
                    true => "none arrived".to_owned(),
                    false => format!("status {}", answer.status),
                }
            ),
        ));
    }
    Ok(())
}

/// Starts a gateway on a port that is free.
fn serve(fitted: Fitted) -> Result<(Running, SocketAddr), Failure> {
    let mut gateway = fitted.gateway;
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.map_err(|error| broken("no port is free", &error))?;
    gateway.settings.listen = vec![address];
    match run::start(gateway) {
        Ok(running) => Ok((running, address)),
        Err(error) => Err(made::cannot_start(&error)),
    }
}

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
