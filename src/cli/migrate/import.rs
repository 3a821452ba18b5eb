//! `vestibule migrate import`.

use std::path::PathBuf;

use serde_json::json;

use super::super::{DONE, Edges, Failure, PROBLEMS, USAGE, World};
use super::emit::Emit;
use super::fetch::News;
use super::ground::{self, Ground, failed, now};
use super::preparing::Preparing;
use super::progress::Progress;
use super::reading::Reading;
use super::report::{self, Examples, Report};
use super::writer::{self, Writer};
use super::{Manner, Whence};
use crate::migration::import::decide::Duplicates;
use crate::migration::import::normalise;
use crate::migration::import::outcome::{Outcome, Tally};
use crate::migration::import::target::{Cursor, Row, Run};
use crate::time::UnixMs;

/// Rows of a report that are asked for at once.
const PAGE: usize = 1_000;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// Where people come from.
    #[command(flatten)]
    pub whence: Whence,
    /// Write. Without it, nothing is changed and what would be is told.
    #[arg(long)]
    pub apply: bool,
    /// What becomes of whoever has the address of another row: `park` sets them aside, `merge` makes them one where both addresses are
    /// verified.
    #[arg(long, default_value = "park", value_name = "park|merge", value_parser = writer::duplicates)]
    pub duplicates: Duplicates,
    /// Of those imported before, only who changed since this date (2026-12-01, 2026-12-01T08:00:00Z) or since this run began.
    #[arg(long, value_name = "DATE|RUN")]
    pub since: Option<String>,
    /// Write every row that was not simply created into a file, with line and reason (CSV; JSON lines where the name ends in json).
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// The same, of all rows.
    #[arg(long, value_name = "FILE")]
    pub diff: Option<PathBuf>,
    /// The folder for what is read until it is written, about twice the size of the export. Default: the system's temporary folder.
    #[arg(long, value_name = "FOLDER")]
    pub spool: Option<PathBuf>,
    /// For databases the gateway has no adapter of.
    #[command(flatten)]
    pub emit: Emit,
    /// How to tell.
    #[command(flatten)]
    pub manner: Manner,
}

impl Import {
    /// Does it.
    ///
    /// # Errors
    /// When the configuration or an input cannot be used, or the database cannot be reached.
    pub fn run(mut self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        if !self.emit.is_asked() {
            return self.import(world, edges);
        }
        let environment = self.manner.given.environment(world)?;
        self.emit.check(&environment)?;
        let staging = self.emit.stage(self.spool.as_deref())?;
        self.manner.staging = Some(staging.path());
        let ended = self.import(world, edges)?;
        if !self.apply || ended == USAGE {
            return Ok(ended);
        }
        let wishes = super::reading::wishes(&self.whence, &world.folder, &environment)?;
        let column = wishes.metadata_column.as_deref();
        let left = self.emit.leave(&staging, &environment, column, world)?;
        Ok(ended.max(left))
    }

    fn import(&self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let mut progress = Progress::new(world.terminal, self.manner.quiet);
        let opened = open(
            &self.whence,
            self.spool.as_deref(),
            &self.manner,
            &mut progress,
            world,
            edges,
        );
        let (ground, mut reading) = match opened? {
            Ok(opened) => opened,
            Err(code) => return Ok(code),
        };
        let done = self.go(world, &ground, &mut reading, &mut progress);
        // What cannot be written now is written by the next run, which need not fetch it again.
        ground.runtime.block_on(async {
            match &done {
                Ok(_) => reading.close().await,
                Err(_) => reading.leave().await,
            }
        });
        done
    }

    fn go(
        &self,
        world: &mut World<'_>,
        ground: &Ground,
        reading: &mut Reading,
        progress: &mut Progress,
    ) -> Result<u8, Failure> {
        let since = self.since(ground)?;
        let rules = reading.rules(self.duplicates, since, now());
        let holder = ground::holder();
        let run = match self.apply {
            false => None,
            true => Some(ground.runtime.block_on(ground::begin(
                &*ground.target,
                reading.kind.name,
                &self.fingerprint(reading),
                &holder,
            ))?),
        };
        let worked = self.work(
            world,
            ground,
            reading,
            progress,
            rules,
            run.as_ref(),
            &holder,
        );
        if run.is_some() && worked.is_err() {
            // Whoever comes next need not wait. Were the database gone, the lock is free when its time is over.
            let _ = ground.runtime.block_on(ground.target.let_go(&holder));
        }
        let (tally, examples) = worked?;
        if let Some(run) = &run {
            let ended = ground
                .runtime
                .block_on(ground.target.end(run.id, &holder, now()));
            ended.map_err(|error| failed(&error))?;
        }
        if let (Some(path), Some(run)) = (&self.report, &run) {
            let mut report = Report::create(path, world)?;
            ground
                .runtime
                .block_on(reported(ground, run.id, &mut report))?;
            report.close()?;
        }
        let left = tally.with(Outcome::Refused) + tally.with(Outcome::Parked);
        self.tell(world, ground, reading, run.as_ref(), &tally, &examples);
        Ok(if left > 0 { PROBLEMS } else { DONE })
    }

    #[allow(clippy::too_many_arguments)] // A run, and how to tell of it.
    fn work(
        &self,
        world: &mut World<'_>,
        ground: &Ground,
        reading: &mut Reading,
        progress: &mut Progress,
        rules: crate::migration::import::decide::Rules,
        run: Option<&Run>,
        holder: &str,
    ) -> Result<(Tally, Examples), Failure> {
        let mut diff = match &self.diff {
            Some(path) => Some(Report::create(path, world)?),
            None => None,
        };
        let mut dry = match (&self.report, run) {
            (Some(path), None) => Some(Report::create(path, world)?),
            _ => None,
        };
        let mut examples = Examples::default();
        let mut trouble: Option<Failure> = None;
        let total = reading.records;
        let tally = run.map(|run| run.tally.clone()).unwrap_or_default();
        let from = run.map_or_else(Cursor::default, |run| run.cursor);
        let mut told = |row: &Row, tally: &Tally| {
            examples.note(row);
            let plain = row.outcome == Outcome::Created && row.reason.is_empty();
            let mut put = |report: &mut Option<Report>| {
                if let (Some(report), None) = (report, &trouble) {
                    trouble = report.row(row).err();
                }
            };
            put(&mut diff);
            if !plain {
                put(&mut dry);
            }
            if let Some(line) = progress.done(tally, total) {
                world.complain(&line);
            }
        };
        let preparing = Preparing {
            target: &*ground.target,
            sealer: &ground.sealer,
            app: &ground.app,
            abilities: ground.target.abilities(),
            rules,
            writes: run.is_some(),
        };
        let by = run.map(|run| (run.id, holder.to_owned()));
        let mut writer = Writer::new(&preparing, by, tally, &now, &mut told);
        let went = writer.go(&ground.runtime, reading, from);
        let tally = writer.tally.clone();
        drop(writer);
        let over = progress.over();
        world.complain(&over);
        went?;
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        for report in [diff, dry].into_iter().flatten() {
            report.close()?;
        }
        // Every row comes to exactly one thing.
        if tally.total() != total {
            return Err(Failure {
                message: format!(
                    "{} rows were read, and {} have come to something: this is a fault of ours",
                    total,
                    tally.total()
                ),
                advice: "report it; what was written is noted, and `undo` takes it out".into(),
                code: PROBLEMS,
            });
        }
        Ok((tally, examples))
    }

    fn tell(
        &self,
        world: &mut World<'_>,
        ground: &Ground,
        reading: &Reading,
        run: Option<&Run>,
        tally: &Tally,
        examples: &Examples,
    ) {
        let place = ground.target.abilities().place;
        if self.manner.json {
            let mut told = report::counted(tally);
            if let Some(told) = told.as_object_mut() {
                told.insert("run".to_owned(), json!(run.map(|run| run.id)));
                told.insert("applied".to_owned(), run.is_some().into());
                told.insert("from".to_owned(), reading.kind.name.into());
                told.insert("target".to_owned(), place.into());
            }
            world.say(&format!("{told}\n"));
            return;
        }
        if self.manner.quiet {
            return;
        }
        let head = match run {
            Some(run) => format!(
                "run {}: {} rows from {} to {place}\n",
                run.id,
                tally.total(),
                reading.kind.name
            ),
            None => format!(
                "nothing was written; so {} rows from {} would come to {place}:\n",
                tally.total(),
                reading.kind.name
            ),
        };
        world.say(&head);
        world.say(&report::summary(tally));
        let rows = examples.text();
        if !rows.is_empty() {
            world.say(&format!("for example (file:line, id):\n{rows}"));
        }
        if reading.kind.build.experimental {
            world.say("this source is experimental: no export of the real system was tried\n");
        }
        match run {
            Some(run) => world.say(&format!(
                "next: `vestibule migrate verify`; back: `vestibule migrate undo {}`\n",
                run.id
            )),
            None => world.say("do it with `--apply`\n"),
        }
    }

    /// The export, and whatever else decides what becomes of it.
    fn fingerprint(&self, reading: &Reading) -> String {
        let how = match self.duplicates {
            Duplicates::Park => "park",
            Duplicates::Merge => "merge",
        };
        let since = self.since.as_deref().unwrap_or_default();
        format!(
            "{}/{how}/{}",
            reading.fingerprint,
            since.get(..40).unwrap_or(since)
        )
    }

    fn since(&self, ground: &Ground) -> Result<Option<UnixMs>, Failure> {
        let Some(text) = &self.since else {
            return Ok(None);
        };
        if let Ok(number) = text.parse::<u64>()
            && number < 1_000_000
        {
            let standing = ground.runtime.block_on(ground.target.standing(now(), 0));
            let standing = standing.map_err(|error| failed(&error))?;
            let run = standing.runs.into_iter().find(|run| run.id == number);
            return run.map(|run| Some(run.began_at)).ok_or_else(|| Failure {
                message: format!("there is no run {number}"),
                advice: "`vestibule migrate status` lists them".into(),
                code: USAGE,
            });
        }
        let value = serde_json::Value::String(text.clone());
        match normalise::instant(&value) {
            Ok(Some(at)) => Ok(Some(at)),
            Ok(None) | Err(_) => Err(Failure {
                message: format!("`--since {text}` is no date and no run"),
                advice: "write it as 2026-12-01 or 2026-12-01T08:00:00Z".into(),
                code: USAGE,
            }),
        }
    }
}

/// Opens the database, and reads everything into the spool. The inner error: the configuration cannot be used, and that has been told.
pub(super) fn open(
    whence: &Whence,
    spool: Option<&std::path::Path>,
    manner: &Manner,
    progress: &mut Progress,
    world: &mut World<'_>,
    edges: Edges,
) -> Result<Result<(Ground, Reading), u8>, Failure> {
    let environment = manner.given.environment(world)?;
    let base = world.folder.clone();
    let wishes = super::reading::wishes(whence, &base, &environment)?;
    let column = wishes.metadata_column.as_deref();
    let ground = match ground::open(manner, column, world, edges)? {
        Ok(ground) => ground,
        Err(code) => return Ok(Err(code)),
    };
    let mut tell = |news: News<'_>| match news {
        News::Line(line) => world.complain(line),
        News::Entries(entries) => {
            if let Some(line) = progress.read(entries) {
                world.complain(&line);
            }
        }
    };
    let reading = ground.runtime.block_on(Reading::open(
        whence,
        spool,
        &base,
        &ground.environment,
        now(),
        &mut tell,
    ));
    let over = progress.next();
    world.complain(&over);
    Ok(Ok((ground, reading?)))
}

/// Every row of a run that was not simply created, those of earlier starts too.
async fn reported(ground: &Ground, run: u64, report: &mut Report) -> Result<(), Failure> {
    let mut after = Cursor::default();
    loop {
        let rows = ground.target.reported(run, after, PAGE).await;
        let rows = rows.map_err(|error| failed(&error))?;
        let Some((cursor, _)) = rows.last() else {
            return Ok(());
        };
        after = *cursor;
        for (_, row) in &rows {
            report.row(row)?;
        }
    }
}
