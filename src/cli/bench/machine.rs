//! What the machine tells: its processor, how busy it is, and the processor's time that threads took.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};

use crate::bench::report::{Build, Machine};
use crate::cli::read_bounded;

/// The version of Pingora in use; a test holds it against the list of dependencies.
const PINGORA: &str = "0.9.1";

/// Longest file of `/proc` read. Those we read have some kilobytes, and a few hundred for machines with many processors.
const PROC_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most threads of one process looked at.
const THREADS_MAX: usize = 10_000;

/// What was built.
pub(super) fn build() -> Build {
    Build {
        vestibule: env!("CARGO_PKG_VERSION"),
        // Given by whoever builds releases; a build from an archive has no history to ask.
        commit: option_env!("VESTIBULE_COMMIT").unwrap_or("unknown"),
        profile: match cfg!(debug_assertions) {
            true => "debug",
            false => "release",
        },
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        data_plane: PINGORA,
    }
}

/// What it runs on.
pub(super) fn machine() -> Machine {
    let line = |path: &str| proc_line(path).unwrap_or_else(|| "unknown".to_owned());
    let cpu = proc_text("/proc/cpuinfo").and_then(|text| {
        let named = text.lines().find_map(|line| {
            Some(
                line.strip_prefix("model name")?
                    .split_once(':')?
                    .1
                    .trim()
                    .to_owned(),
            )
        });
        // What an Arm says of itself is numbers.
        named.or_else(|| {
            let mut parts = text.lines().filter(|line| line.starts_with("CPU part"));
            Some(format!("arm, {}", parts.next()?.split_once(':')?.1.trim()))
        })
    });
    Machine {
        cpu: cpu.unwrap_or_else(|| "unknown".to_owned()),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        kernel: format!(
            "{} {}",
            line("/proc/sys/kernel/ostype"),
            line("/proc/sys/kernel/osrelease")
        ),
        load_before: load(),
        load_after: None,
        clock_ns: clock_cost(),
    }
}

/// How many wanted to run in the last minute.
pub(super) fn load() -> Option<f64> {
    proc_line("/proc/loadavg")?.split(' ').next()?.parse().ok()
}

fn proc_text(path: &str) -> Option<String> {
    read_bounded(Path::new(path), PROC_BYTES_MAX).ok()
}

fn proc_line(path: &str) -> Option<String> {
    Some(proc_text(path)?.lines().next()?.trim().to_owned())
}

/// What reading the clock twice takes, as the median of many.
fn clock_cost() -> f64 {
    let mut taken: Vec<u128> = (0..1001)
        .map(|_| {
            let began = Instant::now();
            began.elapsed().as_nanos()
        })
        .collect();
    taken.sort_unstable();
    let middle = taken.get(taken.len() / 2).copied().unwrap_or_default();
    f64::from(u32::try_from(middle).unwrap_or(u32::MAX))
}

/// The processor's time of the thread that asks.
pub(super) fn thread_cpu() -> Option<Duration> {
    let taken = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
    Some(taken.into())
}

/// The processor's time of this process, all threads of it.
pub(super) fn own_cpu() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Some(Duration::from_micros(u64::try_from(micros).ok()?))
}

/// The processor's time of a process, or of those of its threads whose name is listed. Ended threads are not in it.
pub(super) fn process_cpu(process: &str, named: Option<&[&str]>) -> Option<Duration> {
    let mut all = Duration::ZERO;
    let mut found = false;
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    for thread in threads.take(THREADS_MAX).flatten() {
        let path = thread.path();
        // It may end while it is looked at.
        let Some(name) = path.join("comm").to_str().and_then(proc_line) else {
            continue;
        };
        if named.is_some_and(|named| !named.contains(&name.as_str())) {
            continue;
        }
        let Some(taken) = on_processor(&path) else {
            continue;
        };
        found = true;
        all += taken;
    }
    found.then_some(all)
}

/// Nanoseconds from the scheduler where it counts them, else hundredths of a second.
fn on_processor(thread: &Path) -> Option<Duration> {
    let scheduled = thread.join("schedstat");
    let counted = scheduled.to_str().and_then(proc_line).and_then(|line| {
        let first = line.split(' ').next()?.parse().ok()?;
        (first > 0).then(|| Duration::from_nanos(first))
    });
    if counted.is_some() {
        return counted;
    }
    let stat = proc_line(thread.join("stat").to_str()?)?;
    // The name stands in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let field = |number: usize| rest.split_whitespace().nth(number)?.parse::<u64>().ok();
    Some(Duration::from_millis((field(11)? + field(12)?) * 10))
}

/// The processor's time for each of so many.
pub(super) fn each(before: Option<Duration>, after: Option<Duration>, count: u64) -> Option<f64> {
    let taken = after?.checked_sub(before?)?;
    #[allow(clippy::cast_precision_loss)]
    (count > 0).then(|| taken.as_nanos() as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_named_is_the_one_in_use() {
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("pingora = {{ version = \"{PINGORA}\"")));
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"pingora\"\nversion = \"{PINGORA}\"")));
    }

    #[test]
    fn time_of_the_processor_grows_with_work() {
        let before = (thread_cpu().unwrap(), own_cpu().unwrap());
        let mut sum = 0u64;
        while thread_cpu().unwrap() < before.0 + Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(own_cpu().unwrap() >= before.1 + Duration::from_millis(2));
        assert!(process_cpu("self", None).is_some());
        assert_eq!(process_cpu("self", Some(&["no such thread"])), None);
        assert_eq!(
            each(Some(Duration::ZERO), Some(Duration::from_micros(3)), 2),
            Some(1500.0)
        );
        assert_eq!(each(None, Some(Duration::ZERO), 2), None);
        assert_eq!(each(Some(Duration::ZERO), Some(Duration::ZERO), 0), None);
    }
}
