//! `vestibule check`.

use super::{DONE, Edges, Failure, Given, PROBLEMS, World};
use crate::config;
use crate::migration::provider;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The configuration.
    #[command(flatten)]
    pub given: Given,
    /// Print the JSON Schema of the configuration, and check nothing.
    #[arg(long)]
    pub schema: bool,
    /// Print problems as JSON.
    #[arg(long)]
    pub json: bool,
}

impl Check {
    /// Tells every problem.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        if self.schema {
            world.say(&schema_text());
            return Ok(DONE);
        }
        let file = self.given.file(world);
        let (problems, code, notes) = match self.given.load(world, edges)? {
            Ok(loaded) => (loaded.warnings, DONE, cautions(&loaded.config)),
            Err(problems) => (problems, PROBLEMS, Vec::new()),
        };
        if self.json {
            world.say(&format!("{:#}\n", problems.to_json()));
            return Ok(code);
        }
        world.complain(&problems.render(world.style()));
        for note in notes {
            world.complain(&format!("note: {note}\n"));
        }
        let errors = problems
            .iter()
            .filter(|p| p.severity() == config::Severity::Error)
            .count();
        let summary = match (errors, problems.len() - errors) {
            (0, 0) => "no problems".to_owned(),
            (0, warnings) => format!("usable, {}", counted(warnings, "warning")),
            (errors, 0) => counted(errors, "error"),
            (errors, warnings) => format!(
                "{}, {}",
                counted(errors, "error"),
                counted(warnings, "warning")
            ),
        };
        world.say(&format!("{}: {summary}\n", file.display()));
        Ok(code)
    }
}

/// What is experimental of what is configured: usable, so no problem, but to be known before a day like that.
pub fn cautions(config: &config::Config) -> Vec<String> {
    let migration = config.migration.iter();
    let providers = migration.flat_map(|migration| &migration.providers);
    providers
        .filter_map(|system| provider::caution(system.kind))
        .collect()
}

fn counted(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// The JSON Schema as it stands in `config/schema.json`.
pub fn schema_text() -> String {
    format!("{:#}\n", config::schema().as_value())
}
