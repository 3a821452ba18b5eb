//! Two that are asked in turn, or one alone.

use std::time::Duration;

use super::ground::broken;
use super::machine;
use super::stop::Stop;
use super::wire::{self, Came, Load};
use super::{Bench, Ending};
use crate::bench::pace::Pace;
use crate::bench::report::{Measured, Ratio, Report};
use crate::bench::summary::Summary;
use crate::bench::tier;
use crate::cli::{Failure, World};

impl Bench {
    /// Two in rounds in turn, and the ratio of the one named first to the other.
    pub(super) fn compare(
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

    pub(super) fn alone(
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
}

/// Whose processor's time is told.
#[derive(Clone, Copy)]
pub(super) enum Cpu {
    Nobody,
    /// Threads of the gateway in this process.
    Threads,
    Process(u32),
}

/// Names of the gateway's threads: those of the proxy, and those of the store.
const GATEWAY_THREADS: [&str; 2] = ["proxy", "store"];

impl Cpu {
    pub(super) fn now(self) -> Option<Duration> {
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
pub(super) struct Side<'a> {
    id: &'static str,
    asked: &'a wire::Asked,
    cpu: Cpu,
    all: Came,
    rounds: Vec<Summary>,
    taken: Option<Duration>,
}

impl<'a> Side<'a> {
    pub(super) fn new(id: &'static str, asked: &'a wire::Asked, cpu: Cpu) -> Self {
        Self {
            id,
            asked,
            cpu,
            all: Came::default(),
            rounds: Vec::new(),
            taken: Some(Duration::ZERO),
        }
    }

    pub(super) fn round(&mut self, load: Load, stop: &Stop) -> Result<(), Failure> {
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

    pub(super) fn measured(self, pace: Pace) -> Measured {
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
