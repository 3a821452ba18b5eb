//! On ground of our own: every tier in process, and a gateway and an app of ours over the wire.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use super::ground::{Fitted, Ground, Plan, broken};
use super::inprocess::{self, Span, Unmeasured};
use super::stop::Stop;
use super::turns::{Cpu, Side};
use super::wire::{self, Load, Statuses};
use super::{ANSWER_BYTES, Bench, Ending, checks};
use crate::bench::pace::Pace;
use crate::bench::report::{ConfigUsed, LoadPoint, Report, Skipped};
use crate::bench::tier::{Asked, Presents, TIERS, Tier};
use crate::cli::{Failure, World, gateway as made};
use crate::config;
use crate::secret::Secret;
use crate::server::run::{self, Running};
use crate::session::resolve;
use crate::telemetry;

/// Shares of the highest throughput at which latency is looked at.
const SHARES: [f64; 4] = [0.25, 0.5, 0.75, 0.9];

impl Bench {
    pub(super) fn measure_own(
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

    pub(super) fn measure_on(
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
    pub(super) fn unfit(&self, ground: &Ground, tier: &Tier) -> Option<&'static str> {
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

    pub(super) fn stampede(
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
                report.checks.push(checks::check(
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

    pub(super) fn over_the_wire(
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
    pub(super) fn ask_gateway(
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
        checks::check_gateway(ground, running, address, self.wait, report)?;
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
            checks::check_other(&other, report);
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

    /// Latency at growing shares of what the gateway did at most.
    pub(super) fn load_curve(
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
}

/// A request for a page of ours.
pub(super) fn request(path: &str, headers: &http::HeaderMap) -> Vec<u8> {
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

/// Starts a gateway on a port that is free.
pub(super) fn serve(fitted: Fitted) -> Result<(Running, SocketAddr), Failure> {
    let mut gateway = fitted.gateway;
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.map_err(|error| broken("no port is free", &error))?;
    gateway.settings.listen = vec![address];
    match run::start(gateway) {
        Ok(running) => Ok((running, address)),
        Err(error) => Err(made::cannot_start(&error)),
    }
}
