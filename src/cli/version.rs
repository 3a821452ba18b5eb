//! `vestibule version`.

use serde_json::json;

use super::{DONE, World};

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
pub struct Version {
    /// Print it as JSON: `{"version", "commit", "target"}`; `commit` is null when the build did not know.
    #[arg(long)]
    pub json: bool,
}

impl Version {
    /// Tells which version this is.
    pub fn run(self, world: &mut World<'_>) -> u8 {
        let version = env!("CARGO_PKG_VERSION");
        // Given by whoever builds releases; a build from an archive has no history to ask.
        let commit = option_env!("VESTIBULE_COMMIT");
        let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        if self.json {
            let answer = json!({ "version": version, "commit": commit, "target": target });
            world.say(&format!("{answer:#}\n"));
        } else {
            let commit = commit.map_or_else(String::new, |c| format!(" ({c})"));
            world.say(&format!("vestibule {version}{commit} {target}\n"));
        }
        DONE
    }
}
