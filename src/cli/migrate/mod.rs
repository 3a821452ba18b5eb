//! `vestibule migrate`: the move from an old auth system, with its proof and the way back.

mod emit;
mod fetch;
mod ground;
mod organizations;
mod preparing;
mod private;
mod progress;
mod reading;
mod report;
mod writer;

pub mod export;
pub mod finalize;
pub mod import;
pub mod plan;
pub mod reset;
pub mod status;
pub mod undo;
pub mod verify;

use std::path::PathBuf;

use super::{Edges, Failure, Given, World};

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
    /// Send links to those who have not come over, through the app's own mails.
    #[command(
        after_help = "Example:\n  vestibule migrate reset --pending --config vestibule.toml\n  vestibule migrate reset --pending --config vestibule.toml --per-minute 30 --apply\n\nExit codes: 0 everybody got theirs, 1 not everybody did: run it again, 2 usage or configuration, 3 the database cannot be reached"
    )]
    Reset(Box<reset::Reset>),
    /// The way back: users with their password hashes, in another system's form, encrypted.
    #[command(
        after_help = "Example:\n  age-keygen -o key.txt   # on another machine\n  vestibule migrate export --for clerk --recipient age1... --output users.age --i-know-this-exports-password-hashes\n  age --decrypt -i key.txt users.age\n\nExit codes: 0 written, 1 not written, 2 usage or configuration, 3 the database cannot be reached"
    )]
    Export(Box<export::Export>),
    /// Move people in: tells what it would do, and does it with `--apply`.
    #[command(
        after_help = "Example:\n  vestibule migrate import --from clerk --input users.csv --input api=page1.json\n  vestibule migrate import --from clerk --input users.csv --apply --report report.csv\n  vestibule migrate import --from clerk --input users.csv --apply --since 2026-12-01\n\nExit codes: 0 all rows moved, 1 some were refused or parked, 2 usage or configuration, 3 the database cannot be reached"
    )]
    Import(Box<import::Import>),
    /// Hold everybody in the database against the export, field by field.
    #[command(
        after_help = "Example:\n  vestibule migrate verify --from clerk --input users.csv\n  vestibule migrate verify --from clerk --input users.csv --sample 20 --json\n\nExit codes: 0 all is as it should be, 1 there are differences, 2 usage or configuration, 3 the database cannot be reached"
    )]
    Verify(Box<verify::Verify>),
    /// Tell where everybody stands.
    #[command(
        after_help = "Example:\n  vestibule migrate status\n  vestibule migrate status --json\n\nExit codes: 0 done, 2 usage or configuration, 3 the database cannot be reached"
    )]
    Status(Box<status::Status>),
    /// Take a run out again, but for what was changed or used since.
    #[command(
        after_help = "Example:\n  vestibule migrate undo 3\n  vestibule migrate undo 3 --apply --kept kept.csv\n\nExit codes: 0 all of it is out, 1 some was kept, 2 usage or configuration, or it cannot be undone any more, 3 the database cannot be reached"
    )]
    Undo(Box<undo::Undo>),
    /// Erase old hashes for good: nothing can be undone afterwards.
    #[command(
        after_help = "Example:\n  vestibule migrate finalize\n  vestibule migrate finalize --yes\n\nExit codes: 0 done, 1 it was not confirmed, 2 usage or configuration, 3 the database cannot be reached"
    )]
    Finalize(Box<finalize::Finalize>),
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
    /// Read the old system itself, besides files: the pages of its API, or its own database. Its keys stand in the file of --options.
    #[arg(long, value_name = "api|database", value_parser = fetch::live)]
    pub fetch: Option<fetch::Live>,
    /// Of the API, leave this out: an input that only fills up with what nobody needs, or that the key may not read.
    #[arg(long, value_name = "NAME", requires = "fetch")]
    pub without: Vec<String>,
    /// Keep what was fetched of the API for the next steps, for a day: encrypted under the key of the API, beside the spool.
    #[arg(long, requires = "fetch")]
    pub keep_fetched: bool,
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
    /// The database of our own that stands in for that of the configuration, where rows leave. No flag.
    #[arg(skip)]
    pub staging: Option<PathBuf>,
}

impl Migrate {
    /// Does it.
    ///
    /// # Errors
    /// When the configuration or an input cannot be used, or the database cannot be reached.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        match self.part {
            Part::Plan(plan) => plan.run(world, edges),
            Part::Import(import) => import.run(world, edges),
            Part::Verify(verify) => verify.run(world, edges),
            Part::Status(status) => status.run(world, edges),
            Part::Reset(reset) => reset.run(world, edges),
            Part::Undo(undo) => undo.run(world, edges),
            Part::Finalize(finalize) => finalize.run(world, edges),
            Part::Export(export) => export.run(world, edges),
        }
    }
}
