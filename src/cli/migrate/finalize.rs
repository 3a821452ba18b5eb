//! `vestibule migrate finalize`.

use serde_json::json;

use super::super::{DONE, Edges, Failure, PROBLEMS, World};
use super::Manner;
use super::ground::failed;
use super::ground::{self, now};
use crate::migration::state::State;

/// Hashes erased in one transaction.
const PAGE: usize = 1_000;

/// Arguments of `finalize`.
#[derive(Debug, clap::Args)]
pub struct Finalize {
    /// Do it. Without it, what would be lost is told.
    #[arg(long)]
    pub yes: bool,
    /// How to tell.
    #[command(flatten)]
    pub manner: Manner,
}

impl Finalize {
    /// Does it.
    ///
    /// # Errors
    /// When the configuration cannot be used, or the database cannot be reached.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let ground = match ground::open(&self.manner, None, world, edges)? {
            Ok(ground) => ground,
            Err(code) => return Ok(code),
        };
        let standing = ground.runtime.block_on(ground.target.standing(now(), 0));
        let standing = standing.map_err(|error| failed(&error))?;
        let pending: u64 = standing
            .states
            .iter()
            .filter(|(state, _)| matches!(state, State::Pending))
            .map(|(_, count)| count)
            .sum();
        if !self.yes {
            world.say(&match self.manner.json {
                true => format!(
                    "{}\n",
                    json!({ "applied": false, "old_hashes": standing.old_hashes, "pending": pending })
                ),
                false => format!(
                    "{} old hashes would be erased for good, and no run could be undone any more\n\
                     {pending} users have not come yet: they would have to reset their passwords\n\
                     who they were in the old system is kept\ndo it with `--yes`\n",
                    standing.old_hashes
                ),
            });
            return Ok(PROBLEMS);
        }
        let mut erased = 0;
        loop {
            let some = ground.runtime.block_on(ground.target.erase(PAGE, now()));
            match some.map_err(|error| failed(&error))? {
                0 => break,
                some => erased += some,
            }
        }
        let marked = ground.runtime.block_on(ground.target.finalized(now()));
        marked.map_err(|error| failed(&error))?;
        world.say(&match self.manner.json {
            true => format!("{}\n", json!({ "applied": true, "erased": erased })),
            false => format!("{erased} old hashes are erased\n"),
        });
        Ok(DONE)
    }
}
