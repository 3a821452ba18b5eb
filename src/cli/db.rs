//! `vestibule db`.

use super::{DONE, Edges, Failure, Given, USAGE, World};
use crate::secret::Secret;

/// Arguments of `db`.
#[derive(Debug, clap::Args)]
pub struct Db {
    /// What of it.
    #[command(subcommand)]
    pub part: Part,
}

/// Parts of the database that are ours.
#[derive(Debug, clap::Subcommand)]
pub enum Part {
    /// The triggers by which PostgreSQL tells gateways at once which sessions end, whoever ends them.
    #[command(
        after_help = "Example:\n  vestibule db triggers print > triggers.sql\n  vestibule db triggers install --database-url-env ADMIN_DATABASE_URL"
    )]
    Triggers(Triggers),
    /// The tables in which a migration keeps who users were in the old system, and how far each has come. A gateway makes them at its
    /// start where its role may.
    #[command(
        after_help = "Example:\n  vestibule db tables print > tables.sql\n  vestibule db tables install --database-url-env ADMIN_DATABASE_URL"
    )]
    Tables(Tables),
}

/// Arguments of `db tables`.
#[derive(Debug, clap::Args)]
pub struct Tables {
    /// What to do with them.
    #[arg(value_enum)]
    pub action: TablesAction,
    /// The configuration.
    #[command(flatten)]
    pub given: Given,
    /// The variable that holds the address of the database for a role that may do this. Default: `migration.database`.
    #[arg(long, value_name = "NAME")]
    pub database_url_env: Option<String>,
}

/// What to do with the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TablesAction {
    /// Print the statements that make them.
    Print,
    /// Make those that are missing.
    Install,
}

/// What is asked for of the tables.
#[derive(Clone, Debug)]
pub struct AskedTables {
    /// What to do.
    pub action: TablesAction,
    /// The database, where it is not `migration.database` by the same name.
    pub url: Option<Secret>,
}

/// Arguments of `db triggers`.
#[derive(Debug, clap::Args)]
pub struct Triggers {
    /// What to do with them.
    #[arg(value_enum)]
    pub action: Action,
    /// The configuration.
    #[command(flatten)]
    pub given: Given,
    /// The variable that holds the address of the database for a role that may do this. Default: `sessions.source`, whose role need
    /// not be able to do more than read.
    #[arg(long, value_name = "NAME")]
    pub database_url_env: Option<String>,
}

/// What to do with the triggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Action {
    /// Print the statements that put them there. Only reads which tables there are.
    Print,
    /// Put them there, in place of older ones.
    Install,
    /// Take them away without a trace.
    Remove,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What to do.
    pub action: Action,
    /// The database, where it is not the source of sessions by the same name.
    pub url: Option<Secret>,
}

impl Db {
    /// Does it.
    ///
    /// # Errors
    /// When the configuration cannot be used, or the database does not let us.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let (given, named) = match &self.part {
            Part::Triggers(triggers) => (&triggers.given, &triggers.database_url_env),
            Part::Tables(tables) => (&tables.given, &tables.database_url_env),
        };
        let loaded = match given.load_or_tell(world, edges)? {
            Ok(loaded) => loaded,
            Err(code) => return Ok(code),
        };
        let url = match named {
            None => None,
            Some(name) => {
                let environment = given.environment(world)?;
                let value = environment.get(name).filter(|value| !value.is_empty());
                Some(Secret::new(value.cloned().ok_or_else(|| Failure {
                    message: format!("the variable {name} is not set"),
                    advice: "it holds the address of the database for a role that may create triggers or tables".into(),
                    code: USAGE,
                })?))
            }
        };
        let told = match self.part {
            Part::Triggers(Triggers { action, .. }) => {
                (edges.triggers)(&loaded.config, &Asked { action, url })?
            }
            Part::Tables(Tables { action, .. }) => {
                (edges.tables)(&loaded.config, &AskedTables { action, url })?
            }
        };
        world.say(&told);
        Ok(DONE)
    }
}
