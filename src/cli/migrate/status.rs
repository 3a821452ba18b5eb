//! `vestibule migrate status`.

use serde_json::json;

use super::super::{DONE, Edges, Failure, World};
use super::Manner;
use super::ground::failed;
use super::ground::{self, now};
use super::report::counted;
use crate::migration::import::target::Standing;
use crate::migration::state::State;

/// Who is stuck is listed, so many of them.
const STUCK: usize = 20;

/// Days over which the rate is taken.
const WEEK: i64 = 7;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// How to tell.
    #[command(flatten)]
    pub manner: Manner,
}

/// How it goes.
struct Pace {
    waiting: u64,
    a_day: f64,
    days_left: Option<f64>,
}

fn pace(standing: &Standing, today: i64) -> Pace {
    let of = |wanted: &[State]| -> u64 {
        let all = standing.states.iter();
        all.filter(|(state, _)| wanted.contains(state))
            .map(|(_, count)| count)
            .sum()
    };
    let waiting = of(&[
        State::Imported,
        State::Pending,
        State::Reset,
        State::ResetSent,
    ]);
    let recent = standing
        .moved_by_day
        .iter()
        .filter(|(day, _)| today - day < WEEK);
    let moved: u64 = recent.map(|(_, count)| count).sum();
    // Counts of users are far below what this loses.
    #[allow(clippy::cast_precision_loss)]
    let (a_day, waiting_now) = (moved as f64 / WEEK as f64, waiting as f64);
    Pace {
        waiting,
        a_day,
        days_left: (moved > 0).then(|| waiting_now / a_day),
    }
}

impl Status {
    /// Does it.
    ///
    /// # Errors
    /// When the configuration cannot be used, or the database cannot be reached.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let ground = match ground::open(&self.manner, None, world, edges)? {
            Ok(ground) => ground,
            Err(code) => return Ok(code),
        };
        let present = now();
        let standing = ground
            .runtime
            .block_on(ground.target.standing(present, STUCK));
        let standing = standing.map_err(|error| failed(&error))?;
        let pace = pace(&standing, present.0.div_euclid(DAY_MS));
        let told = match self.manner.json {
            true => format!("{}\n", told(&standing, &pace)),
            false => text(&standing, &pace, present.0),
        };
        world.say(&told);
        Ok(DONE)
    }
}

fn told(standing: &Standing, pace: &Pace) -> serde_json::Value {
    let states: serde_json::Map<String, serde_json::Value> = standing
        .states
        .iter()
        .map(|(state, count)| (state.as_str().to_owned(), (*count).into()))
        .collect();
    let stuck: Vec<_> = standing
        .stuck
        .iter()
        .map(|(user, state, since)| json!({ "user_id": user, "state": state.as_str(), "since_ms": since.0 }))
        .collect();
    let runs: Vec<_> = standing
        .runs
        .iter()
        .map(|run| {
            json!({
                "run": run.id,
                "from": run.provider,
                "state": run.state,
                "began_ms": run.began_at.0,
                "ended_ms": run.ended_at.map(|at| at.0),
                "came_to": counted(&run.tally),
            })
        })
        .collect();
    json!({
        "states": states,
        "old_hashes_kept": standing.old_hashes,
        "parked": standing.parked,
        "waiting": pace.waiting,
        "moved_a_day": pace.a_day,
        "days_left": pace.days_left,
        "stuck": stuck,
        "runs": runs,
    })
}

fn text(standing: &Standing, pace: &Pace, now: i64) -> String {
    let mut out = String::new();
    for (state, count) in &standing.states {
        out.push_str(&format!("  {count:>9}  {}\n", state.as_str()));
    }
    out.push_str(&format!(
        "  {:>9}  parked\n  {:>9}  old hashes kept\n",
        standing.parked, standing.old_hashes
    ));
    let left = match pace.days_left {
        Some(days) => format!("at this rate the last come in {days:.0} days"),
        None => "nobody has come in the last week".to_owned(),
    };
    out.push_str(&format!(
        "{} still wait, {:.1} a day have come in the last week: {left}\n",
        pace.waiting, pace.a_day
    ));
    for (user, state, since) in &standing.stuck {
        out.push_str(&format!(
            "  stuck: {user} is {} since {} days\n",
            state.as_str(),
            (now - since.0).max(0) / DAY_MS
        ));
    }
    for run in &standing.runs {
        let began = chrono::DateTime::from_timestamp_millis(run.began_at.0).unwrap_or_default();
        out.push_str(&format!(
            "run {}: {} from {}, began {}, {} rows\n",
            run.id,
            run.state,
            run.provider,
            began.format("%Y-%m-%d %H:%M:%SZ"),
            run.tally.total()
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_what_waits_at_the_rate_of_a_week() {
        let standing = Standing {
            states: vec![(State::Pending, 90), (State::Reset, 10), (State::Done, 500)],
            moved_by_day: vec![(1, 1000), (95, 35), (100, 35)],
            ..Standing::default()
        };
        let found = pace(&standing, 100);
        assert_eq!(found.waiting, 100);
        assert!((found.a_day - 10.0).abs() < 0.001);
        assert!((found.days_left.unwrap() - 10.0).abs() < 0.001);
        assert!(pace(&standing, 200).days_left.is_none());
    }
}
