//! Arguments in, exit code out.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use vestibule::cli::{self, World};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let terminal = err.is_terminal();
    let mut world = World {
        // A variable that is no text cannot be one of ours.
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        folder: std::path::PathBuf::new(),
        out: &mut out,
        err: &mut err,
        terminal,
    };
    ExitCode::from(cli::run(std::env::args_os(), &mut world, cli::edges()))
}
