//! `vestibule serve`.

use super::{DONE, Edges, Failure, Given, World};

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
        if let Some(address) = &self.listen {
            self.given.set.push(format!("listen={address}"));
        }
        match self.given.load_or_tell(world, edges)? {
            Ok(loaded) => (edges.serve)(loaded).map(|()| DONE),
            Err(code) => Ok(code),
        }
    }
}
