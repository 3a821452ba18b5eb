//! `judge` alone, tier by tier: no socket, no proxy.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use http::{HeaderMap, Method};
use tokio::runtime::Runtime;

use super::ground::{Fitted, Ground};
use super::machine;
use super::stop::Stop;
use crate::bench::pace::Pace;
use crate::bench::report::Measured;
use crate::bench::summary::Recorder;
use crate::bench::tier::{Asked, Expects, Presents, Tier};
use crate::gate::Decision;
use crate::policy::Verdict;
use crate::request::RequestView;
use crate::session::feed::{Ended, TokenDigest};
use crate::target::{Ambiguity, Target};

/// Credentials of a tier at whose first sight something is worked out: made anew when all were shown.
const FRESH_AT_ONCE: usize = 500;

/// Batches of one tier at most.
const BATCHES_MAX: u64 = 100_000;

/// How much older than memory keeps it the last cookie must be: no cookie counts that was written within seconds of the gateway's start
/// or of a revocation, because clocks differ.
const COOKIES_OLDER: Duration = Duration::from_secs(6);

/// Requests judged between two looks at the clock of the run where each takes less than that look.
const LOOK_EVERY: usize = 64;

/// A wait that a thread sleeps through; shorter ones are waited for awake, because sleeping is not that exact.
const SLEEP_FROM: Duration = Duration::from_micros(300);

/// Requests of one session at once.
pub(super) const STAMPEDE: usize = 64;

/// Stampedes of one run at most.
const STAMPEDES_MAX: u64 = 200;

/// How long is measured.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    pub(super) pace: Pace,
}

/// One request, ready to be judged.
struct Ready {
    headers: HeaderMap,
    path: String,
    host: String,
}

impl Ready {
    fn view(&self) -> Result<RequestView<'_>, Ambiguity> {
        Ok(RequestView {
            method: &Method::GET,
            target: Target::parse(self.path.as_bytes())?,
            host: &self.host,
            headers: &self.headers,
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        })
    }
}

/// Judges requests of one gateway.
struct Judge<'g> {
    fitted: &'g Fitted,
    runtime: &'g Runtime,
}

impl Judge<'_> {
    /// Judges one request, target and all. What memory knows is answered without a wait.
    fn judge(&self, ready: &Ready) -> Option<Decision> {
        let view = ready.view().ok()?;
        let mut judged = pin!(self.fitted.gateway.gate.judge(&view));
        let decision = match judged.as_mut().now_or_never() {
            Some(decision) => decision,
            None => self.runtime.block_on(judged),
        };
        decision.ok()
    }

    /// Whether the answer is as it must be.
    fn is_right(&self, ready: &Ready, expects: Expects) -> bool {
        self.judge(ready)
            .is_some_and(|decision| fits(&decision, expects))
    }
}

fn fits(decision: &Decision, expects: Expects) -> bool {
    let allowed = matches!(decision.verdict, Verdict::Allow(_));
    allowed == expects.allowed && decision.tier == expects.tier
}

/// Why a tier is not measured.
pub(super) enum Unmeasured {
    /// It cannot be, here.
    Skipped(&'static str),
    /// Somebody wants us to stop.
    Stopped,
    /// What keeps sessions did not do as it was told.
    Failed(crate::cli::Failure),
}

/// Measures one tier.
pub(super) fn measure(
    ground: &Ground,
    fitted: &Fitted,
    tier: &Tier,
    span: Span,
    sessions: usize,
    stop: &Stop,
) -> Result<Measured, Unmeasured> {
    let runtime = new_runtime()?;
    let judge = Judge {
        fitted,
        runtime: &runtime,
    };
    let mut measured = Measured {
        id: tier.id.into(),
        about: tier.about.into(),
        how: "in_process",
        ..Measured::default()
    }
    .paced(span.pace);
    if tier.presents == Presents::Revoked {
        let (recorder, took, cpu) = revoked(ground, &judge, tier, stop)?;
        measured.cpu_ns = machine::each(Some(Duration::ZERO), cpu, recorder.count());
        measured.cpu_of = "process";
        measured.seen = recorder.summary(took);
        return Ok(measured);
    }
    let make = |many: usize| -> Option<Vec<Ready>> {
        (0..many)
            .map(|number| {
                Some(Ready {
                    headers: ground.headers(tier.presents, fitted, number)?,
                    path: ground.path(tier.route.path()),
                    host: ground.host(),
                })
            })
            .collect()
    };
    let sessions = sessions.min(ground.distinct(tier.presents)).max(1);
    let cannot = Unmeasured::Skipped(
        "this configuration has nothing of the kind, or only the app could make it",
    );
    if tier.first_sight {
        let fresh = || -> Option<Vec<Ready>> {
            match tier.presents {
                // What was seen is old then, and what is made is younger than anything that was revoked.
                Presents::CookieCache(_) => {
                    let stale = ground.config.sessions.cache_ttl + COOKIES_OLDER;
                    if !ground.clock.jump(stale) {
                        return None;
                    }
                }
                Presents::Live => fitted.gateway.gate.sessions.cache().forget_all(),
                // New ones each time.
                _ => {}
            }
            make(sessions.min(FRESH_AT_ONCE))
        };
        let before = fresh().ok_or(cannot)?;
        let warm_from = Instant::now();
        for ready in before.iter() {
            if warm_from.elapsed() > span.warm_up || stop.is_asked() {
                break;
            }
            judge.is_right(ready, tier.expects);
        }
        let (mut recorder, mut took, mut cpu) =
            (Recorder::default(), Duration::ZERO, Some(Duration::ZERO));
        let mut batches = 0;
        while took < span.duration && batches < BATCHES_MAX {
            let Some(some) = fresh() else { break };
            batches += 1;
            let part = Span {
                duration: span.duration - took,
                ..span
            };
            let began_cpu = machine::own_cpu();
            let (seen, lasted) = timed(&judge, &some, tier.expects, part, true, stop)?;
            let ended_cpu = machine::own_cpu();
            cpu = cpu
                .zip(
                    ended_cpu
                        .zip(began_cpu)
                        .and_then(|(after, before)| after.checked_sub(before)),
                )
                .map(|(sum, more)| sum + more);
            recorder.add(&seen);
            took += lasted;
        }
        measured.cpu_ns = machine::each(Some(Duration::ZERO), cpu, recorder.count());
        measured.cpu_of = "process";
        measured.seen = recorder.summary(took);
        return Ok(measured);
    }

    let all = make(sessions).filter(|all| !all.is_empty()).ok_or(cannot)?;
    ground.clock.stand(true);
    // Whoever is to be remembered is seen once.
    for ready in &all {
        judge.judge(ready);
        if stop.is_asked() {
            ground.clock.stand(false);
            return Err(Unmeasured::Stopped);
        }
    }
    let warm = Span {
        duration: span.warm_up,
        pace: Pace::Closed,
        ..span
    };
    let done = timed(&judge, &all, tier.expects, warm, false, stop)
        .and_then(|_| timed(&judge, &all, tier.expects, span, false, stop))
        .map(|(recorder, took)| {
            (
                recorder.summary(took),
                cpu_each(&judge, &all, tier.expects, span),
            )
        });
    ground.clock.stand(false);
    let (seen, cpu) = done?;
    measured.seen = seen;
    measured.cpu_ns = cpu;
    measured.cpu_of = "thread";
    Ok(measured)
}

fn new_runtime() -> Result<Runtime, Unmeasured> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| {
        Unmeasured::Failed(super::ground::broken("no runtime to measure on", &error))
    })
}

/// Judges in turn until the time is over, or once where each is shown once only.
fn timed(
    judge: &Judge<'_>,
    all: &[Ready],
    expects: Expects,
    span: Span,
    once: bool,
    stop: &Stop,
) -> Result<(Recorder, Duration), Unmeasured> {
    let mut recorder = Recorder::default();
    let run = Instant::now();
    let mut ended = Duration::ZERO;
    for (number, ready) in all.iter().cycle().enumerate() {
        if once && number >= all.len() {
            break;
        }
        if number % LOOK_EVERY == 0 && stop.is_asked() {
            return Err(Unmeasured::Stopped);
        }
        let number = number as u64;
        if let Some(at) = span.pace.intended(number) {
            if at >= span.duration {
                break;
            }
            wait_until(run, at);
        }
        let began = run.elapsed();
        if began >= span.duration && number > 0 {
            // What was meant to begin by now has waited since.
            let late = (number..).map_while(|number| Some((number, span.pace.intended(number)?)));
            for (number, _) in late.take_while(|(_, at)| *at < span.duration && !once) {
                recorder.record_unbegun(span.pace.latency(number, began, began));
            }
            break;
        }
        let decision = judge.judge(ready);
        ended = run.elapsed();
        recorder.record(span.pace.latency(number, began, ended));
        if !decision.is_some_and(|decision| fits(&decision, expects)) {
            recorder.unexpected += 1;
        }
    }
    Ok((recorder, ended))
}

fn wait_until(run: Instant, at: Duration) {
    loop {
        let Some(left) = at.checked_sub(run.elapsed()).filter(|left| !left.is_zero()) else {
            return;
        };
        match left > SLEEP_FROM {
            true => std::thread::sleep(left - SLEEP_FROM / 2),
            false => std::hint::spin_loop(),
        }
    }
}

/// The processor's time of one judgement, without the clock being read around each.
fn cpu_each(judge: &Judge<'_>, all: &[Ready], expects: Expects, span: Span) -> Option<f64> {
    let run = Instant::now();
    let before = machine::thread_cpu();
    let mut done = 0;
    while run.elapsed() < span.duration / 4 {
        for ready in all
            .iter()
            .cycle()
            .skip(done as usize % all.len())
            .take(LOOK_EVERY)
        {
            if !judge.is_right(ready, expects) {
                return None;
            }
            done += 1;
        }
    }
    machine::each(before, machine::thread_cpu(), done)
}

/// The first request of each session after it was ended. Each can be seen once.
fn revoked(
    ground: &Ground,
    judge: &Judge<'_>,
    tier: &Tier,
    stop: &Stop,
) -> Result<(Recorder, Duration, Option<Duration>), Unmeasured> {
    let all: Vec<Ready> = (0..ground.doomed.len())
        .filter_map(|number| {
            Some(Ready {
                headers: ground.headers(tier.presents, judge.fitted, number)?,
                path: ground.path(tier.route.path()),
                host: ground.host(),
            })
        })
        .collect();
    if all.is_empty() {
        return Err(Unmeasured::Skipped("no session could be made to be ended"));
    }
    // They live, and are remembered: else their end would show nothing.
    let mut living = 0;
    for ready in &all {
        let decision = judge.judge(ready);
        living += usize::from(decision.is_some_and(|one| matches!(one.verdict, Verdict::Allow(_))));
    }
    ground.end_doomed().map_err(Unmeasured::Failed)?;
    for token in &ground.doomed {
        let ended = Ended::Token(TokenDigest::of(token.expose()));
        judge.fitted.gateway.gate.sessions.cache().end(&ended);
    }
    let span = Span {
        warm_up: Duration::ZERO,
        duration: Duration::from_secs(60),
        pace: Pace::Closed,
    };
    let before = machine::own_cpu();
    let (mut recorder, took) = timed(judge, &all, tier.expects, span, true, stop)?;
    let cpu = machine::own_cpu()
        .zip(before)
        .and_then(|(after, before)| after.checked_sub(before));
    recorder.unexpected += (all.len() - living) as u64;
    Ok((recorder, took, cpu))
}

/// Many cold requests of one session at once, again and again: how long each waited, and how often the store was asked for all of them.
pub(super) fn stampede(
    ground: &Ground,
    fitted: &Fitted,
    span: Span,
    stop: &Stop,
) -> Result<(Measured, u64), Unmeasured> {
    let source = ground
        .source
        .as_ref()
        .ok_or(Unmeasured::Skipped("there is no store"))?;
    let headers = ground.headers(Presents::Live, fitted, 0);
    let ready = Ready {
        headers: headers.ok_or(Unmeasured::Skipped("there is no session to present"))?,
        path: ground.path(Asked::Cached.path()),
        host: ground.host(),
    };
    let runtime = new_runtime()?;
    let gate = &fitted.gateway.gate;
    let mut recorder = Recorder::default();
    let (mut rounds, mut calls, mut took) = (0, 0, Duration::ZERO);
    let cpu = machine::own_cpu();
    let run = Instant::now();
    while rounds < STAMPEDES_MAX && (rounds < 3 || run.elapsed() < span.duration) {
        if stop.is_asked() {
            return Err(Unmeasured::Stopped);
        }
        gate.sessions.cache().forget_all();
        let before = source.calls();
        let began = Instant::now();
        let one = || async {
            let Ok(view) = ready.view() else {
                return (false, began.elapsed());
            };
            let judged = gate.judge(&view).await;
            let allowed =
                judged.is_ok_and(|decision| matches!(decision.verdict, Verdict::Allow(_)));
            (allowed, began.elapsed())
        };
        let answers = runtime.block_on(join_all((0..STAMPEDE).map(|_| one())));
        took += began.elapsed();
        for (allowed, waited) in answers {
            recorder.record(waited);
            recorder.unexpected += u64::from(!allowed);
        }
        calls += source.calls() - before;
        rounds += 1;
    }
    let measured = Measured {
        id: "stampede".into(),
        about: format!("{STAMPEDE} cold requests of one session at once"),
        how: "in_process",
        store_calls: Some(calls),
        cpu_ns: machine::each(cpu, machine::own_cpu(), recorder.count()),
        cpu_of: "process",
        seen: recorder.summary(took),
        ..Measured::default()
    };
    Ok((measured.paced(Pace::Closed), rounds))
}
