//! Arguments in, exit code out.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use vestibule::cli::{self, World};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The allocator's own variable: `1` asks for pages of 2 MiB, for whoever holds very many sessions.
#[cfg(target_os = "linux")]
const LARGE_PAGES: &str = "MIMALLOC_ALLOW_THP";

/// Has the program's memory come in pages of 4 KiB. The allocator asks for pages of 2 MiB, of which each thread then touches a little:
/// more than half of what an idle gateway would hold. Runs before anything else, as the first page taken is as large as the last.
#[cfg(target_os = "linux")]
extern "C" fn take_small_pages() {
    // A system that cannot do it gives large ones, and the program runs all the same.
    let _ = nix::sys::prctl::set_thp_disable(true);
    if std::env::var_os(LARGE_PAGES).is_some_and(|value| value == "1") {
        let _ = nix::sys::prctl::set_thp_disable(false);
    }
}

// SAFETY: the section holds functions of this form, which the loader calls before `main`; this one asks nothing of what is set up there.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array.00099")]
static FIRST: extern "C" fn() = take_small_pages;

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
