//! `vestibule serve`.

use super::{DONE, Edges, Failure, Given, World};

/// The allocator's own variable: `1` keeps pages of 2 MiB, for whoever holds very many sessions.
const LARGE_PAGES: &str = "MIMALLOC_ALLOW_THP";

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// The configuration.
    #[command(flatten)]
    pub given: Given,
    /// Address and port of the public listener, over `listen`.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
}

impl Serve {
    /// Runs the gateway until it is told to stop.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn run(mut self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        if world
            .environment
            .get(LARGE_PAGES)
            .is_none_or(|value| value != "1")
        {
            take_small_pages();
        }
        if let Some(address) = &self.listen {
            self.given.set.push(format!("listen={address}"));
        }
        match self.given.load_or_tell(world, edges)? {
            Ok(loaded) => (edges.serve)(loaded).map(|()| DONE),
            Err(code) => Ok(code),
        }
    }
}

/// Asks for memory in pages of 4 KiB. The allocator asks for pages of 2 MiB, of which each thread then touches a little: more than half of
/// what an idle gateway would hold.
fn take_small_pages() {
    #[cfg(target_os = "linux")]
    // A system that cannot do it gives large ones, and the gateway runs all the same.
    let _ = nix::sys::prctl::set_thp_disable(true);
}
