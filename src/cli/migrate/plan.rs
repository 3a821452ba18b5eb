//! `vestibule migrate plan`: what a move would come to. Changes nothing.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fetch::News;
use super::ground::failed;
use super::ground::now;
use super::private::{Private, cell};
use super::progress::Progress;
use super::reading::Reading;
use super::{Manner, Whence};
use crate::cli::{DONE, Edges, Failure, PROBLEMS, USAGE, World, gateway};
use crate::migration::import::assessment::{self, Assessment, Assessor, Prices, Settings, Target};
use crate::migration::import::record::Record;
use crate::migration::import::source::About;
use crate::store;
use crate::time::UnixMs;

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
    /// The folder for what is read until it is counted, about twice the size of the export. Default: the system's temporary folder.
    #[arg(long, value_name = "FOLDER")]
    pub spool: Option<PathBuf>,
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
        let environment = self.manner.given.environment(world)?;
        let target = match &self.manner.given.config {
            None => None,
            Some(_) => match self.look(world, edges)? {
                Ok(target) => Some(target),
                Err(code) => return Ok(code),
            },
        };
        let now = now();
        let mut assessor = Assessor::new(self.settings(now));
        let mut progress = Progress::new(world.terminal, self.manner.quiet);
        let base = world.folder.clone();
        let runtime = gateway::store_runtime()?;
        let listed = runtime.block_on(async {
            let mut tell = |news: News<'_>| match news {
                News::Line(line) => world.complain(line),
                News::Entries(entries) => {
                    if let Some(line) = progress.read(entries) {
                        world.complain(&line);
                    }
                }
            };
            let spool = self.spool.as_deref();
            let reading = Reading::open(&self.whence, spool, &base, &environment, now, &mut tell);
            let mut reading = reading.await?;
            let looked = self.look_at_all(&mut reading, &mut assessor, &base).await;
            match &looked {
                Ok(_) => reading.close().await,
                Err(_) => reading.leave().await,
            }
            looked
        });
        let over = progress.over();
        world.complain(&over);
        let listed = listed?;
        let assessment = assessor.finish(target.as_ref());
        if let (Some(count), Some(path)) = (listed, &self.list_affected)
            && !self.manner.quiet
        {
            world.complain(&format!("{count} users will notice: {}\n", path.display()));
        }
        let drafted = assessment.draft.vestibule.clone();
        for (path, text) in [
            (&self.markdown, assessment::markdown(&assessment)),
            (&self.draft, drafted),
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

    /// Looks at everybody, and then once more for the list: who shares an address is known only at the end.
    async fn look_at_all(
        &self,
        reading: &mut Reading,
        assessor: &mut Assessor,
        base: &Path,
    ) -> Result<Option<u64>, Failure> {
        each(reading, &mut |record| {
            assessor.add(record);
            Ok(())
        })
        .await?;
        let Some(path) = &self.list_affected else {
            return Ok(None);
        };
        let failed = |error: std::io::Error| cannot_write(path, &error);
        let mut list = List::begin(&base.join(path)).map_err(failed)?;
        each(reading, &mut |record| {
            list.add(record, assessor).map_err(failed)
        })
        .await?;
        list.finish().map(Some).map_err(failed)
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
            roster.look().await.map_err(|error| failed(&error))
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

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure {
        message: format!("{} cannot be written: {error}", path.display()),
        advice: "name a file in a folder that may be written".into(),
        code: PROBLEMS,
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = Private::begin(path)?;
    file.write_all(text.as_bytes())?;
    file.finish()
}

/// Everything that was read, one record after the other.
async fn each(
    reading: &mut Reading,
    take: &mut dyn FnMut(&Record) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for about in [
        About::User,
        About::Organization,
        About::Member,
        About::Invitation,
    ] {
        let mut after = 0;
        loop {
            let page = reading.page(about, after, false).await?;
            let Some(last) = page.last() else { break };
            after = last.sequence;
            for numbered in &page {
                take(&numbered.record)?;
            }
        }
    }
    let mut after = 0;
    loop {
        let page = reading.refusals(after).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.sequence;
        for numbered in &page {
            take(&numbered.record)?;
        }
    }
}

/// Who will notice, as a table.
struct List {
    file: std::io::BufWriter<Private>,
    count: u64,
}

impl List {
    fn begin(path: &Path) -> std::io::Result<Self> {
        let mut file = std::io::BufWriter::new(Private::begin(path)?);
        file.write_all(b"email,name,source_id,reset,signed_out,reasons,input,row\n")?;
        Ok(Self { file, count: 0 })
    }

    fn add(&mut self, record: &Record, assessor: &mut Assessor) -> std::io::Result<()> {
        let Record::User(user) = record else {
            return Ok(());
        };
        let Some(affected) = assessor.affected(user) else {
            return Ok(());
        };
        self.count += 1;
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
        writeln!(self.file, "{}", cells.join(","))
    }

    fn finish(self) -> std::io::Result<u64> {
        let file = self.file.into_inner();
        file.map_err(std::io::IntoInnerError::into_error)?
            .finish()?;
        Ok(self.count)
    }
}
