//! The command line: arguments in, text and an exit code out.
//!
//! Exit codes: 0 done; 1 problems found; 2 wrong usage, or a configuration that cannot be used; 3 a dependency cannot be
//! reached; 4 the decision is a refusal (`explain --exit-code`); 5 over budget (`bench --budget`).
// This edge measures and waits: it may look at the clock.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Parser, Subcommand};

pub mod bans;
pub mod bench;
pub mod check;
pub mod db;
pub mod dev;
pub mod env_file;
pub mod explain;
pub mod gateway;
pub mod hash;
pub mod healthcheck;
pub mod init;
pub mod migrate;
pub mod routes;
pub mod selftest;
pub mod serve;
mod tls;
pub mod version;

use crate::app;
use crate::config::{self, Loaded, Override, Problems, RouteCheck, Sources, Style};
use crate::server::build;

/// Everything went well.
pub const DONE: u8 = 0;
/// Problems were found, or the command could not do all of its work.
pub const PROBLEMS: u8 = 1;
/// Wrong arguments, or a configuration that cannot be used.
pub const USAGE: u8 = 2;
/// A dependency cannot be reached.
pub const UNREACHABLE: u8 = 3;
/// The decision is a refusal.
pub const REFUSED: u8 = 4;
/// It took longer than it may.
pub const OVER_BUDGET: u8 = 5;

/// Where the configuration is looked for when nobody says.
const DEFAULT_FILES: [&str; 2] = ["vestibule.toml", "config/vestibule.toml"];

/// What the command line meets of the world. Handed in, so that tests bring their own.
pub struct World<'w> {
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The folder relative paths count from.
    pub folder: PathBuf,
    /// Where results go.
    pub out: &'w mut dyn Write,
    /// Where problems go.
    pub err: &'w mut dyn Write,
    /// Whether problems go to a person at a terminal.
    pub terminal: bool,
}

impl World<'_> {
    /// Writes a result. A reader that has gone away is no problem of ours.
    pub fn say(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
    }

    /// Writes a problem.
    pub fn complain(&mut self, text: &str) {
        let _ = self.err.write_all(text.as_bytes());
    }

    /// How problems are written.
    pub fn style(&self) -> Style {
        if self.terminal {
            Style::Terminal {
                color: !self.environment.contains_key("NO_COLOR"),
            }
        } else {
            Style::Plain
        }
    }

    /// A path, counted from the folder.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

/// What the commands need of the rest of the program.
#[derive(Clone, Copy)]
pub struct Edges {
    /// Builds the table of routes and tells what it finds.
    pub route_check: RouteCheck,
    /// Runs the gateway until it is told to stop.
    pub serve: fn(Loaded) -> Result<(), Failure>,
    /// Runs the gateway beside something else: calls back once it runs, and stops when that returns.
    pub serve_while: fn(Loaded, &mut dyn FnMut()) -> Result<(), Failure>,
    /// Writes, puts there or takes away the triggers of the store.
    pub triggers: fn(&config::Config, &db::Asked) -> Result<String, Failure>,
    /// Writes, or makes, the gateway's own tables.
    pub tables: fn(&config::Config, &db::AskedTables) -> Result<String, Failure>,
    /// Judges one request as the gateway would.
    pub explain: fn(&config::Config, &explain::Asked) -> Result<explain::Explanation, Failure>,
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What happened.
    pub message: String,
    /// What to do.
    pub advice: String,
    /// The exit code.
    pub code: u8,
}

/// An auth gateway in front of apps that use Better Auth.
#[derive(Debug, Parser)]
#[command(
    name = "vestibule",
    version,
    disable_help_subcommand = true,
    after_help = "Example:\n  vestibule init && vestibule check --env-file .env && vestibule serve --env-file .env\n\nExit codes: 0 done, 1 problems found, 2 usage or configuration, 3 a dependency cannot be reached, 4 refused (explain --exit-code), 5 over budget (bench --budget)"
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway.
    #[command(
        after_help = "Example:\n  vestibule serve --config vestibule.toml\n  vestibule serve --set sessions.cache_ttl=5s --set log.level=debug"
    )]
    Serve(serve::Serve),
    /// Start the app's own command and the gateway in front of it; both stop together.
    #[command(
        after_help = "Example:\n  vestibule dev -- npm run dev\n  vestibule dev --config vestibule.toml --listen 127.0.0.1:8090 -- npx next dev --turbopack\n\nExit codes: the command's (128 and more: ended by a signal); 2 usage or configuration, 3 a port is taken, the app never listens, or a dependency cannot be reached"
    )]
    Dev(dev::Dev),
    /// Tell every problem of the configuration, with line and advice.
    #[command(
        after_help = "Example:\n  vestibule check --config vestibule.toml\n  vestibule check --app .\n  vestibule check --app . --import-proxy --let-pass /pricing\n  vestibule check --app . --import-proxy --draft > routes.toml\n  vestibule check --schema > vestibule.schema.json\n\nExit codes: 0 usable (warnings allowed), 1 problems found, 2 the file, or the build below --app, cannot be read"
    )]
    Check(check::Check),
    /// Tell what the gateway would do with one request, and why.
    #[command(
        after_help = "Example:\n  vestibule explain GET /admin/users -H 'accept: text/html'\n  vestibule explain --json --exit-code POST https://app.example.com/api/orders"
    )]
    Explain(explain::Explain),
    /// What the gateway puts into the app's database: triggers, and tables of its own.
    #[command(
        after_help = "Example:\n  vestibule db triggers print > triggers.sql\n  vestibule db triggers install --database-url-env ADMIN_DATABASE_URL\n  vestibule db tables install --database-url-env ADMIN_DATABASE_URL\n\nExit codes: 0 done, 2 usage or configuration, 3 the database cannot be reached or has no such triggers"
    )]
    Db(db::Db),
    /// Write a configuration for an app, from its `.env` and its build.
    #[command(
        after_help = "Example:\n  vestibule init --app .\n  vestibule init --app ../shop --output config/vestibule.toml --force\n\nExit codes: 0 written, 1 the file exists or cannot be written, 2 usage"
    )]
    Init(init::Init),
    /// Ask a running gateway whether it is ready, for containers.
    #[command(
        after_help = "Example:\n  vestibule healthcheck --config vestibule.toml\n  vestibule healthcheck --url http://127.0.0.1:8081/readyz\n\nExit codes: 0 ready, 2 usage or configuration, 3 not ready or not reachable"
    )]
    Healthcheck(healthcheck::Healthcheck),
    /// Measure how long the validation of a session takes, tier by tier and end to end.
    #[command(
        after_help = "Example:\n  vestibule bench\n  vestibule bench --config vestibule.toml --allow-write --output report.html\n  vestibule bench --url http://127.0.0.1:8080/dashboard --cookie-file cookie.txt --rate 2000 --duration 10s\n  vestibule bench --only hit,proxy --budget hit.p99=5us --budget proxy.p99=2ms\n\nExit codes: 0 measured, 1 a check failed, 2 usage or configuration, 3 something cannot be reached, 5 over budget, 130 stopped by a signal"
    )]
    Bench(Box<bench::Bench>),
    /// Tell which scheme an old password hash may be of, and whether a password fits it.
    #[command(
        after_help = "Example:\n  vestibule hash identify < hash.txt\n  vestibule hash verify --scheme bcrypt"
    )]
    Hash(hash::Hash),
    /// Tell who has failed to sign in too often, and let them try again.
    #[command(
        after_help = "Example:\n  vestibule bans list --config vestibule.toml\n  vestibule bans lift --account ann@example.com\n  vestibule bans lift --address 192.0.2.1\n\nExit codes: 0 done, 1 nobody was limited (lift), 2 usage or configuration, 3 the gateway or what it shares cannot be reached"
    )]
    Bans(bans::Bans),
    /// Try the known ways around an auth gateway on your own running stack.
    #[command(
        after_help = "Example:\n  vestibule selftest http://127.0.0.1:8080 --protected /dashboard --public /\n  vestibule selftest http://127.0.0.1:8080 --config vestibule.toml --cookie-file cookie.txt --echo /api/debug/headers --json\n  vestibule selftest --list\n\nExit codes: 0 all passed or not checked, 1 a check failed or a page is not protected at all, 2 usage, 3 the stack cannot be reached"
    )]
    Selftest(Box<selftest::Selftest>),
    /// Move users in from an old auth system: plan, import, verify, and take it back.
    #[command(
        after_help = "Example:\n  vestibule migrate import --from clerk --input users.csv\n  vestibule migrate import --from clerk --input users.csv --apply\n  vestibule migrate verify --from clerk --input users.csv\n  vestibule migrate undo 1 --apply\n\nExit codes: 0 done, 1 done in part or differences found, 2 usage or configuration, 3 a dependency cannot be reached"
    )]
    Migrate(Box<migrate::Migrate>),
    /// List every route of the app beside the rule that holds for it.
    #[command(
        after_help = "Example:\n  vestibule routes --app .\n  vestibule routes --app ../shop --json > routes.json\n\nExit codes: 0 every route has a rule, 1 some have none but the default, 2 usage, configuration, or no build"
    )]
    Routes(routes::Routes),
    /// Tell which version this is.
    #[command(after_help = "Example:\n  vestibule version --json")]
    Version(version::Version),
}

/// Where the configuration is, and what is put over it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Given {
    /// The configuration file. Default: the variable VESTIBULE_CONFIG, else vestibule.toml, else config/vestibule.toml.
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read variables from a file such as `.env`; those of the environment win. May be given several times, the first wins.
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Set one key over file and environment; lists are separated by commas. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Whether the app may not have been built yet, as while it is developed. No flag: `dev` says so.
    #[arg(skip)]
    pub build_may_be_missing: bool,
    /// The app's folder, where the command was told another than `nextjs.app`, counted from where it runs. No flag of all commands.
    /// What is wrong with its build the command says itself.
    #[arg(skip)]
    pub app: Option<PathBuf>,
}

/// Runs one command and says how the process should end.
pub fn run<I>(arguments: I, world: &mut World<'_>, edges: Edges) -> u8
where
    I: IntoIterator<Item = OsString>,
{
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let text = error.to_string();
            // Asking for help or the version is no mistake.
            if error.use_stderr() {
                world.complain(&text);
                return USAGE;
            }
            world.say(&text);
            return DONE;
        }
    };
    let done = match arguments.command {
        Command::Serve(serve) => serve.run(world, edges),
        Command::Dev(dev) => dev.run(world, edges),
        Command::Check(check) => check.run(world, edges),
        Command::Explain(explain) => explain.run(world, edges),
        Command::Db(db) => db.run(world, edges),
        Command::Init(init) => init.run(world),
        Command::Healthcheck(healthcheck) => healthcheck.run(world, edges),
        Command::Bench(bench) => bench.run(world, edges),
        Command::Hash(hash) => hash.run(world),
        Command::Bans(bans) => bans.run(world, edges),
        Command::Migrate(migrate) => migrate.run(world, edges),
        Command::Selftest(selftest) => selftest.run(world, edges),
        Command::Routes(routes) => routes.run(world, edges),
        Command::Version(version) => Ok(version.run(world)),
    };
    done.unwrap_or_else(|failure| {
        world.complain(&format!("vestibule: {}\n", failure.message));
        if !failure.advice.is_empty() {
            world.complain(&format!("    {}\n", failure.advice));
        }
        failure.code
    })
}

/// What came of reading a configuration.
pub type Read = Result<Loaded, Problems>;

impl Given {
    /// Reads the configuration.
    ///
    /// # Errors
    /// When the file, or one of the files with variables, cannot be read; what is wrong inside it is in the result.
    pub fn load(&self, world: &World<'_>, edges: Edges) -> Result<Read, Failure> {
        let path = self.file(world);
        let text =
            read_bounded(&world.path(&path), config::FILE_BYTES_MAX).map_err(|error| Failure {
                message: format!("{} cannot be read: {error}", path.display()),
                advice: "name the file with `--config FILE`, or write one with `vestibule init`"
                    .into(),
                code: USAGE,
            })?;
        self.load_text(&path.display().to_string(), &text, world, edges)
    }

    /// Reads a configuration that is no file.
    ///
    /// # Errors
    /// When one of the files with variables cannot be read; what is wrong inside it is in the result.
    pub fn load_text(
        &self,
        name: &str,
        text: &str,
        world: &World<'_>,
        edges: Edges,
    ) -> Result<Read, Failure> {
        let environment = self.environment(world)?;
        let overrides = self.overrides()?;
        let folder = world.folder.clone();
        let read_file = |path: &Path| read_bounded(&folder.join(path), SECRET_BYTES_MAX);
        Ok(config::load(&Sources {
            name,
            text,
            environment: &environment,
            overrides: &overrides,
            read_file: &read_file,
            route_check: edges.route_check,
            read_build: &|folder: &Path| {
                // Counted from the file: what serves may be started anywhere.
                let beside = Path::new(name).parent().unwrap_or_else(|| Path::new(""));
                let beside = world.path(&beside.join(folder));
                let folder = self.app.as_ref().map_or(beside, |app| world.path(app));
                let files = build::Folder(folder.clone());
                match app::next::read(&files) {
                    Ok(app) => Ok(Some(config::Build {
                        folder,
                        app: Arc::new(app),
                    })),
                    Err(_) if self.build_may_be_missing || self.app.is_some() => Ok(None),
                    Err(unreadable) => Err(app::Unreadable {
                        message: format!("{}: {}", folder.display(), unreadable.message),
                        ..unreadable
                    }),
                }
            },
        }))
    }

    /// Reads the configuration, and tells what is wrong with it.
    ///
    /// # Errors
    /// When it cannot be used; that has been told already.
    pub fn load_or_tell(
        &self,
        world: &mut World<'_>,
        edges: Edges,
    ) -> Result<Result<Loaded, u8>, Failure> {
        let style = world.style();
        match self.load(world, edges)? {
            Ok(loaded) => {
                world.complain(&loaded.warnings.render(style));
                Ok(Ok(loaded))
            }
            Err(problems) => {
                world.complain(&problems.render(style));
                Ok(Err(USAGE))
            }
        }
    }

    /// Which file it is.
    pub fn file(&self, world: &World<'_>) -> PathBuf {
        if let Some(path) = &self.config {
            return path.clone();
        }
        if let Some(path) = world
            .environment
            .get("VESTIBULE_CONFIG")
            .filter(|p| !p.is_empty())
        {
            return PathBuf::from(path);
        }
        let [first, second] = DEFAULT_FILES.map(PathBuf::from);
        if !world.path(&first).exists() && world.path(&second).exists() {
            return second;
        }
        first
    }

    fn environment(&self, world: &World<'_>) -> Result<BTreeMap<String, String>, Failure> {
        let mut all = world.environment.clone();
        for path in &self.env_file {
            let text =
                read_bounded(&world.path(path), config::FILE_BYTES_MAX).map_err(|error| {
                    Failure {
                        message: format!("{} cannot be read: {error}", path.display()),
                        advice: "name a file with lines NAME=VALUE".into(),
                        code: USAGE,
                    }
                })?;
            for (name, value) in env_file::parse(&text) {
                all.entry(name).or_insert(value);
            }
        }
        Ok(all)
    }

    fn overrides(&self) -> Result<Vec<Override>, Failure> {
        self.set
            .iter()
            .map(|set| {
                let (key, value) = set.split_once('=').ok_or_else(|| Failure {
                    // Not quoted: it may be a secret.
                    message: "`--set` wants KEY=VALUE".into(),
                    advice: "as in `--set sessions.cache_ttl=5s`".into(),
                    code: USAGE,
                })?;
                Ok(Override {
                    key: key.trim().to_owned(),
                    value: value.to_owned(),
                    flag: format!("--set {}", key.trim()),
                })
            })
            .collect()
    }
}

/// Longest file with one secret, in bytes; one more is read, so that `config` can tell that it is too long.
const SECRET_BYTES_MAX: usize = 64 * 1024 + 1;

/// Reads a text file, but no more than `bytes_max` bytes of it and one: a mistaken path must not read a device for ever.
///
/// # Errors
/// The system's, and when it is no text.
pub fn read_bounded(path: &Path, bytes_max: usize) -> std::io::Result<String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path)?;
    let mut text = String::new();
    file.take(
        u64::try_from(bytes_max)
            .unwrap_or(u64::MAX)
            .saturating_add(1),
    )
    .read_to_string(&mut text)?;
    Ok(text)
}

/// The edges of this program.
pub fn edges() -> Edges {
    Edges {
        route_check: gateway::check_routes,
        serve: gateway::serve,
        serve_while: gateway::serve_while,
        triggers: gateway::triggers,
        tables: gateway::tables,
        explain: gateway::explain,
    }
}
