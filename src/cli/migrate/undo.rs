//! `vestibule migrate undo`.

use std::path::PathBuf;

use serde_json::json;

use super::super::{DONE, Edges, Failure, PROBLEMS, USAGE, World};
use super::Manner;
use super::ground::failed;
use super::ground::{self, now};
use super::report::cell;
use crate::migration::import::target::{Cursor, Run};

/// Rows taken out at once.
const PAGE: usize = 500;

/// Those kept that are shown.
const SHOWN: usize = 20;

/// Arguments of `undo`.
#[derive(Debug, clap::Args)]
pub struct Undo {
    /// The run: `vestibule migrate status` lists them.
    #[arg(value_name = "RUN")]
    pub run: u64,
    /// Take it out. Without it, nothing is changed and what the run wrote is told.
    #[arg(long)]
    pub apply: bool,
    /// Write who was kept into a file (CSV), with the reason.
    #[arg(long, value_name = "FILE")]
    pub kept: Option<PathBuf>,
    /// How to tell.
    #[command(flatten)]
    pub manner: Manner,
}

impl Undo {
    /// Does it.
    ///
    /// # Errors
    /// When the configuration cannot be used, the run cannot be undone, or the database cannot be reached.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let ground = match ground::open(&self.manner, None, world, edges)? {
            Ok(ground) => ground,
            Err(code) => return Ok(code),
        };
        let standing = ground.runtime.block_on(ground.target.standing(now(), 0));
        let standing = standing.map_err(|error| failed(&error))?;
        let run = standing.runs.iter().find(|run| run.id == self.run);
        let run = run.ok_or_else(|| Failure {
            message: format!("there is no run {}", self.run),
            advice: "`vestibule migrate status` lists them".into(),
            code: USAGE,
        })?;
        if run.state == "finalized" {
            return Err(Failure {
                message: format!("run {} was made final", run.id),
                advice: "`finalize` erased the old hashes: there is no way back from it".into(),
                code: USAGE,
            });
        }
        if !self.apply {
            let rows = run.tally.total();
            world.say(&match self.manner.json {
                true => format!("{}\n", json!({ "run": run.id, "applied": false, "rows": rows })),
                false => format!(
                    "run {} came to this:\n{}whatever of it was not changed or used since is taken out with `--apply`\n",
                    run.id,
                    super::report::summary(&run.tally)
                ),
            });
            return Ok(DONE);
        }
        // Nobody imports meanwhile.
        let holder = ground::holder();
        let lock = format!("undo/{}", run.id);
        let begun = ground::begin(&*ground.target, &run.provider, &lock, &holder);
        let lock = ground.runtime.block_on(begun)?;
        let went = self.take_out(&ground, run, world, &holder);
        let ended = ground.target.end(lock.id, &holder, now());
        let ended = ground.runtime.block_on(ended);
        let code = went?;
        ended.map_err(|error| failed(&error))?;
        Ok(code)
    }

    fn take_out(
        &self,
        ground: &ground::Ground,
        run: &Run,
        world: &mut World<'_>,
        holder: &str,
    ) -> Result<u8, Failure> {
        let (mut removed, mut kept) = (0, Vec::new());
        let mut before: Option<Cursor> = None;
        loop {
            let lease = crate::time::UnixMs(now().0.saturating_add(super::ground::LEASE_MS));
            let renewed = ground.runtime.block_on(ground.target.renew(holder, lease));
            renewed.map_err(|error| failed(&error))?;
            let taken = ground
                .runtime
                .block_on(ground.target.undo(run.id, before, PAGE, now()));
            let taken = taken.map_err(|error| failed(&error))?;
            removed += taken.removed;
            kept.extend(taken.kept);
            match taken.next {
                Some(next) => before = Some(next),
                None => break,
            }
        }
        let marked = ground.runtime.block_on(ground.target.undone(run.id, now()));
        marked.map_err(|error| failed(&error))?;
        if let Some(path) = &self.kept {
            let mut text = String::from("id,reason\n");
            for (id, why) in &kept {
                text.push_str(&format!("{},{}\n", cell(id), cell(why)));
            }
            private(&world.path(path), &text)?;
        }
        if self.manner.json {
            let kept: Vec<_> = kept
                .iter()
                .map(|(id, why)| json!({ "id": id, "reason": why }))
                .collect();
            let told = json!({ "run": run.id, "applied": true, "removed": removed, "kept": kept });
            world.say(&format!("{told}\n"));
        } else {
            world.say(&format!(
                "run {}: {removed} taken out, {} kept\n",
                run.id,
                kept.len()
            ));
            for (id, why) in kept.iter().take(SHOWN) {
                world.say(&format!("  kept: {id} {why}\n"));
            }
            if kept.len() > SHOWN && self.kept.is_none() {
                world.say("  and more: `--kept FILE` lists all of them\n");
            }
        }
        Ok(if kept.is_empty() { DONE } else { PROBLEMS })
    }
}

/// Writes a file that only its owner may read.
fn private(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600);
    let written = file
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure {
        message: format!("{} cannot be written: {error}", path.display()),
        advice: "name another file".into(),
        code: PROBLEMS,
    })
}
