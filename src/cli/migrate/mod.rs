//! `vestibule migrate`: the move from an old auth system, with its proof and the way back.

mod gather;
mod plan;
mod private;

use std::path::PathBuf;

use super::{Edges, Failure, Given, PROBLEMS, UNREACHABLE, World};
use crate::migration::accounts::AccountsError;

/// Arguments of `migrate`.
#[derive(Debug, clap::Args)]
pub struct Migrate {
    /// What to do.
    #[command(subcommand)]
    pub part: Part,
}

/// The steps of a move. One line and one file each.
#[derive(Debug, clap::Subcommand)]
pub enum Part {
    /// Tell what a move would come to: risks, numbers, effort, steps, drafts. Changes nothing.
    #[command(
        after_help = "Example:\n  vestibule migrate plan --from clerk --input users.csv\n  vestibule migrate plan --from clerk --input users.csv --config vestibule.toml --markdown plan.md --list-affected affected.csv\n  vestibule migrate plan --from workos --input users.json --window 60 --hourly-rate 90 --json\n\nExit codes: 0 nothing blocks the move, 1 something does, 2 usage or configuration, 3 the database cannot be reached"
    )]
    Plan(Box<plan::Plan>),
}

/// Where people come from: the arguments of every step that reads an export.
#[derive(Clone, Debug, clap::Args)]
pub struct Whence {
    /// The old system: clerk, workos, auth0, supabase, firebase, generic and others.
    #[arg(long, value_name = "NAME")]
    pub from: String,
    /// A file of its export; `NAME=FILE` where the system has several. May be given several times.
    #[arg(long = "input", short = 'i', value_name = "[NAME=]FILE")]
    pub inputs: Vec<String>,
    /// What the export itself does not say: a mapping of fields, parameters of hashes, where metadata goes (TOML).
    #[arg(long, value_name = "FILE")]
    pub options: Option<PathBuf>,
}

/// How a step tells what it does: the arguments of every step.
#[derive(Clone, Debug, clap::Args)]
pub struct Manner {
    /// The configuration, with the database in `[migration]`.
    #[command(flatten)]
    pub given: Given,
    /// Write JSON.
    #[arg(long)]
    pub json: bool,
    /// Write nothing but results and problems.
    #[arg(long)]
    pub quiet: bool,
}

impl Migrate {
    /// Does it.
    ///
    /// # Errors
    /// When the configuration or an input cannot be used, or the database cannot be reached.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        match self.part {
            Part::Plan(plan) => plan.run(world, edges),
        }
    }
}

/// The database did not do what it was asked.
fn failed(error: &AccountsError) -> Failure {
    let unreachable = matches!(
        error,
        AccountsError::Timeout | AccountsError::Unreachable(_)
    );
    Failure {
        message: error.to_string(),
        advice: error.advice().into(),
        code: if unreachable { UNREACHABLE } else { PROBLEMS },
    }
}
