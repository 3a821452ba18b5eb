//! `vestibule migrate plan`: what a move would come to. Changes nothing.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use super::gather::Gathered;
use super::private::{Private, cell};
use super::{Manner, Whence};
use crate::cli::{DONE, Edges, Failure, PROBLEMS, USAGE, World, gateway};
use crate::migration::import::assessment::{self, Assessment, Assessor, Prices, Settings, Target};
use crate::migration::import::record::Record;
use crate::server::clock::SystemClock;
use crate::store;
use crate::time::{Clock as _, UnixMs};

/// Longest window that is planned with, in days: nobody keeps two systems for longer.
const WINDOW_DAYS_MAX: u64 = 3650;

/// Arguments of `migrate plan`.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// Where people come from.
    #[command(flatten)]
    pub whence: Whence,
    /// How it is told. With --config the database they go to is looked at, too.
    #[command(flatten)]
    pub manner: Manner,
    /// Days the old system stays up after the switch.
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    pub window: u64,
    /// Whether the old system may be asked for passwords meanwhile. Default: as is usual for it.
    #[arg(long, value_name = "YES|NO", value_parser = yes_or_no)]
    pub live_check: Option<bool>,
    /// Whether its sessions can be taken over. Default: as is usual for it.
    #[arg(long, value_name = "YES|NO", value_parser = yes_or_no)]
    pub sessions: Option<bool>,
    /// The day on which the old system ends, as 2026-12-31.
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub ends: Option<UnixMs>,
    /// What an hour of work costs.
    #[arg(long, value_name = "PRICE", value_parser = price)]
    pub hourly_rate: Option<f64>,
    /// What the old system costs by active user and month.
    #[arg(long, value_name = "PRICE", value_parser = price)]
    pub price_per_user: Option<f64>,
    /// Users that are active in a month. Default: all of them.
    #[arg(long, value_name = "NUMBER")]
    pub active_users: Option<u64>,
    /// What runs for it costs a month: database, gateway.
    #[arg(long, value_name = "PRICE", value_parser = price)]
    pub infrastructure: Option<f64>,
    /// What a thousand mails cost.
    #[arg(long, value_name = "PRICE", value_parser = price)]
    pub price_per_thousand_mails: Option<f64>,
    /// Write the plan in Markdown, too.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write the draft of the configuration.
    #[arg(long, value_name = "FILE")]
    pub draft: Option<PathBuf>,
    /// Write who will notice, and how, as CSV: for telling them beforehand.
    #[arg(long, value_name = "FILE")]
    pub list_affected: Option<PathBuf>,
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("yes or no".into()),
    }
}

fn day(text: &str) -> Result<UnixMs, String> {
    let day =
        chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| "a day, as 2026-12-31")?;
    let midnight = day.and_hms_opt(0, 0, 0).ok_or("a day, as 2026-12-31")?;
    Ok(UnixMs(midnight.and_utc().timestamp_millis()))
}

fn price(text: &str) -> Result<f64, String> {
    let price: f64 = text.parse().map_err(|_| "a number")?;
    let fits = price.is_finite() && (0.0..1e9).contains(&price);
    fits.then_some(price)
        .ok_or_else(|| "a price of 0 or more".into())
}

impl Plan {
    /// Does it.
    ///
    /// # Errors
    /// When an input cannot be used, or the database cannot be reached.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let now = SystemClock.now();
        let environment = self.manner.given.environment(world)?;
        let target = match &self.manner.given.config {
            None => None,
            Some(_) => match self.look(world, edges)? {
                Ok(target) => Some(target),
                Err(code) => return Ok(code),
            },
        };
        let gathered = Gathered::read(&self.whence, &environment, now, world)?;
        let mut assessor = Assessor::new(self.settings(now));
        gathered.each(&mut |record| assessor.add(record));
        let assessment = assessor.finish(target.as_ref());
        if let Some(path) = &self.list_affected {
            let count = list(&gathered, &mut assessor, &world.path(path))
                .map_err(|error| cannot_write(path, &error))?;
            if !self.manner.quiet {
                world.complain(&format!("{count} users will notice: {}\n", path.display()));
            }
        }
        for (path, text) in [
            (&self.markdown, assessment::markdown(&assessment)),
            (&self.draft, assessment.draft.vestibule.clone()),
        ] {
            if let Some(path) = path {
                write(&world.path(path), &text).map_err(|error| cannot_write(path, &error))?;
            }
        }
        self.tell(&assessment, world);
        Ok(if assessment.is_blocked() {
            PROBLEMS
        } else {
            DONE
        })
    }

    fn tell(&self, assessment: &Assessment, world: &mut World<'_>) {
        if self.manner.json {
            world.say(&assessment.json());
        } else if !self.manner.quiet {
            let color = world.terminal
                && std::io::stdout().is_terminal()
                && !world.environment.contains_key("NO_COLOR");
            world.say(&assessment::terminal(assessment, color));
        }
    }

    fn settings(&self, now: UnixMs) -> Settings {
        let days = self.window.clamp(1, WINDOW_DAYS_MAX);
        Settings {
            window: Duration::from_secs(days * 24 * 3600),
            live_check: self.live_check,
            sessions: self.sessions,
            ends: self.ends,
            prices: Prices {
                hour: self.hourly_rate,
                user_month: self.price_per_user,
                infrastructure_month: self.infrastructure,
                thousand_mails: self.price_per_thousand_mails,
                active_users: self.active_users,
            },
            ..Settings::of(&self.whence.from, now)
        }
    }

    /// What the database looks like; read and never written.
    fn look(&self, world: &mut World<'_>, edges: Edges) -> Result<Result<Target, u8>, Failure> {
        let loaded = match self.manner.given.load_or_tell(world, edges)? {
            Ok(loaded) => loaded,
            Err(code) => return Ok(Err(code)),
        };
        let settings = database(&loaded.config)?;
        let runtime = gateway::store_runtime()?;
        let target = runtime.block_on(async {
            let roster = store::open_roster(settings, false).await;
            let roster = roster.map_err(|error| gateway::cannot_open(&error))?;
            roster.look().await.map_err(|error| super::failed(&error))
        });
        Ok(Ok(target?))
    }
}

/// The database of the migration; that of sessions where there is none yet.
pub(super) fn database(config: &crate::config::Config) -> Result<&store::Settings, Failure> {
    let migration = config
        .migration
        .as_ref()
        .map(|migration| &migration.database);
    migration.or(config.store.as_ref()).ok_or_else(|| Failure {
        message: "the configuration names no database".into(),
        advice: "write `database` into `[migration]`, or `source` into `[sessions]`".into(),
        code: USAGE,
    })
}

fn cannot_write(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure {
        message: format!("{} cannot be written: {error}", path.display()),
        advice: "name a file in a folder that may be written".into(),
        code: PROBLEMS,
    }
}

fn write(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let mut file = Private::begin(path)?;
    file.write_all(text.as_bytes())?;
    file.finish()
}

/// Who will notice. Gives how many.
fn list(
    gathered: &Gathered,
    assessor: &mut Assessor,
    path: &std::path::Path,
) -> std::io::Result<u64> {
    let mut file = std::io::BufWriter::new(Private::begin(path)?);
    let mut count = 0;
    let mut done = file.write_all(b"email,name,source_id,reset,signed_out,reasons,input,row\n");
    gathered.each(&mut |record| {
        let Record::User(user) = record else { return };
        let Some(affected) = assessor.affected(user) else {
            return;
        };
        count += 1;
        let place = user.place.row.to_string();
        let cells = [
            user.email.as_deref().unwrap_or_default(),
            &user.name,
            &user.source_id,
            affected.reset.as_str(),
            affected.signed_out.as_str(),
            &affected.reasons.join("; "),
            &user.place.input,
            &place,
        ]
        .map(cell);
        if done.is_ok() {
            done = writeln!(file, "{}", cells.join(","));
        }
    });
    done?;
    file.into_inner()
        .map_err(|error| error.into_error())?
        .finish()?;
    Ok(count)
}
