//! `vestibule migrate reset --pending`: links by mail for those who have not come over, through the app's own endpoint.
//!
//! Each gets one: where they stand is noted behind each mail, so whoever is stopped goes on where they were. A mail that went out and
//! could not be noted is told, and is the only one that goes out again.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ground::failed;
use super::{Manner, plan};
use crate::cli::{DONE, Edges, Failure, PROBLEMS, USAGE, World, gateway};
use crate::migration::accounts::{Account, Accounts, Identifier};
use crate::migration::leaving::roster::{Roster, Waiting};
use crate::migration::state::State;
use crate::server::clock::SystemClock;
use crate::server::migration::reset::{App, Said};
use crate::store;
use crate::time::Clock as _;

/// Mails a minute where nobody says: 900 an hour, below the 1000 that `migration.reset.per_hour` lets the gateway send in its own way.
const PER_MINUTE: u32 = 15;

/// Failures one after the other at which it stops: one address may be refused by a mail server, five in a row are a reason.
const FAILURES_MAX: u32 = 5;

/// How often one user is asked for again where the app says that it was asked too often.
const WAITS_MAX: u32 = 5;

/// How long is waited where it does not say for how long, and at most where it does.
const WAIT: Duration = Duration::from_secs(60);
const WAIT_MAX: Duration = Duration::from_secs(900);

/// Users looked up at once.
const PAGE: usize = 200;

/// Arguments of `migrate reset`.
#[derive(Debug, clap::Args)]
pub struct Reset {
    /// Everybody who has not come over: an old hash nobody has met, or nothing that could check a password.
    #[arg(long, required = true)]
    pub pending: bool,
    /// Send. Without it, only who would get a mail is counted.
    #[arg(long)]
    pub apply: bool,
    /// How it is told.
    #[command(flatten)]
    pub manner: Manner,
    /// Mails a minute at most.
    #[arg(long, value_name = "NUMBER", default_value_t = PER_MINUTE, value_parser = clap::value_parser!(u32).range(1..=6000))]
    pub per_minute: u32,
    /// Mails in this run at most.
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<u64>,
    /// Where the link leads. Default: `migration.reset.redirect_to`.
    #[arg(long, value_name = "PATH")]
    pub redirect_to: Option<String>,
}

/// What became of everybody.
#[derive(Debug, Default, serde::Serialize)]
struct Told {
    /// Whether mails were sent, or only counted.
    applied: bool,
    /// Who was looked at.
    waiting: u64,
    /// Who got a mail, or would.
    sent: u64,
    /// Who needs none: they sign in in another way, have a password by now, or are gone.
    skipped: u64,
    /// Who has no address that anybody reads, or may not sign in.
    unreachable: u64,
    /// For whom the app sent none.
    failed: u64,
    /// Whose mail went out and could not be noted: they get another in the next run.
    unnoted: u64,
    /// Why it stopped before the end.
    stopped: Option<String>,
}

/// Everything that is needed.
struct Desk {
    roster: Arc<dyn Roster>,
    accounts: Arc<dyn Accounts>,
    app: App,
}

impl Reset {
    /// Does it.
    ///
    /// # Errors
    /// When the configuration cannot be used, or the database cannot be reached.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let loaded = match self.manner.given.load_or_tell(world, edges)? {
            Ok(loaded) => loaded,
            Err(code) => return Ok(code),
        };
        let config = &loaded.config;
        let migration = config.migration.as_ref().ok_or_else(|| Failure {
            message: "the configuration has no `[migration]`".into(),
            advice: "name the one the gateway runs with".into(),
            code: USAGE,
        })?;
        let configured = migration.sign_in.reset.as_ref();
        let redirect_to = self
            .redirect_to
            .as_deref()
            .or(configured.map(|reset| reset.redirect_to.as_str()))
            .ok_or_else(|| Failure {
                message: "nobody says where the link leads".into(),
                advice: "write `redirect_to` into `[migration.reset]`, or give --redirect-to"
                    .into(),
                code: USAGE,
            })?;
        let app = App::new(
            gateway::app_urls(config, "")?,
            &config.server.public_url,
            redirect_to,
        );
        let app = app.map_err(|message| Failure {
            message,
            advice: String::new(),
            code: PROBLEMS,
        })?;
        let database = plan::database(config)?;
        let runtime = gateway::store_runtime()?;
        let mut told = Told {
            applied: self.apply,
            ..Told::default()
        };
        let say = |line: &str, world: &mut World<'_>| {
            if !self.manner.quiet && !self.manner.json {
                world.complain(line);
            }
        };
        runtime.block_on(async {
            let opened = store::open_accounts(database).await;
            let accounts = opened.map_err(|error| gateway::cannot_open(&error))?;
            let opened = store::open_roster(database, false).await;
            let roster = opened.map_err(|error| gateway::cannot_open(&error))?;
            let desk = Desk {
                roster,
                accounts,
                app,
            };
            self.everybody(&desk, &mut told, &mut |line| say(line, world))
                .await
        })?;
        if self.manner.json {
            // Numbers and texts always serialize.
            let text = serde_json::to_string(&told).unwrap_or_default();
            world.say(&format!("{text}\n"));
        } else {
            world.say(&told.line());
        }
        let whole = told.failed == 0 && told.unnoted == 0 && told.stopped.is_none();
        Ok(if whole { DONE } else { PROBLEMS })
    }

    async fn everybody(
        &self,
        desk: &Desk,
        told: &mut Told,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), Failure> {
        const WHO: [State; 3] = [State::Reset, State::Pending, State::Imported];
        let (mut after, mut in_a_row) = (String::new(), 0);
        let between = Duration::from_secs(60) / self.per_minute;
        let mut due = Instant::now();
        loop {
            let page = desk.roster.waiting(&WHO, &after, PAGE).await;
            let page = page.map_err(|error| failed(&error))?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            let next = last.user_id.clone();
            let full = page.len() == PAGE;
            // Somebody who came from two systems stands there twice.
            let mut before = None;
            for waiting in page {
                if before.as_ref() == Some(&waiting.user_id) {
                    continue;
                }
                before = Some(waiting.user_id.clone());
                told.waiting += 1;
                let Some(account) = due_for(desk, &waiting, told).await? else {
                    continue;
                };
                if self.limit.is_some_and(|limit| told.sent >= limit) {
                    told.stopped = Some("--limit is reached".into());
                    return Ok(());
                }
                if !self.apply {
                    told.sent += 1;
                    continue;
                }
                tokio::time::sleep_until(due).await;
                due = Instant::now() + between;
                match ask(&desk.app, &account.email).await {
                    Ok(()) => {
                        in_a_row = 0;
                        told.sent += 1;
                        note(desk, &account, told, say).await;
                    }
                    Err(why) => {
                        in_a_row += 1;
                        told.failed += 1;
                        say(&format!("{}: {why}\n", account.user_id));
                        if in_a_row >= FAILURES_MAX {
                            told.stopped =
                                Some(format!("{FAILURES_MAX} in a row failed, the last: {why}"));
                            return Ok(());
                        }
                    }
                }
                if told.sent > 0 && told.sent.is_multiple_of(100) {
                    say(&format!("{} mails\n", told.sent));
                }
            }
            if !full {
                return Ok(());
            }
            after = next;
        }
    }
}

/// Whether somebody is to get a mail.
async fn due_for(
    desk: &Desk,
    waiting: &Waiting,
    told: &mut Told,
) -> Result<Option<Account>, Failure> {
    let by = Identifier::UserId(waiting.user_id.clone());
    let found = desk
        .accounts
        .find(&by)
        .await
        .map_err(|error| failed(&error))?;
    let Some(account) = found else {
        told.skipped += 1;
        return Ok(None);
    };
    // Where there is a password by now, nothing is lost; whoever was only ever known by a social account never had one.
    let without = account.old.is_none() && waiting.state == State::Imported;
    let elsewhere = without && signs_in_elsewhere(desk, &waiting.user_id).await?;
    if account.password.is_some() || elsewhere {
        told.skipped += 1;
        return Ok(None);
    }
    if account.banned || account.anonymous || !account.email.contains('@') {
        told.unreachable += 1;
        return Ok(None);
    }
    Ok(Some(account))
}

async fn signs_in_elsewhere(desk: &Desk, user_id: &str) -> Result<bool, Failure> {
    let elsewhere = desk.roster.has_account_elsewhere(user_id).await;
    elsewhere.map_err(|error| failed(&error))
}

/// Asks for one mail, and waits where the app says that it was asked too often.
async fn ask(app: &App, email: &str) -> Result<(), String> {
    let mut waits = 0;
    loop {
        match app.ask(email, IpAddr::V4(Ipv4Addr::LOCALHOST)).await {
            Ok(Said { status, .. }) if status.is_success() => return Ok(()),
            Ok(Said {
                status,
                retry_after,
            }) if status.as_u16() == 429 && waits < WAITS_MAX => {
                waits += 1;
                tokio::time::sleep(retry_after.unwrap_or(WAIT).min(WAIT_MAX)).await;
            }
            Ok(Said { status, .. }) => {
                return Err(match status.as_u16() {
                    429 => "the app says that it is asked too often: raise its rate limit for /request-password-reset meanwhile".into(),
                    status => format!("the app answers {status}: is `emailAndPassword.sendResetPassword` set, and the link's target trusted?"),
                });
            }
            Err(error) => return Err(format!("the app cannot be asked: {}", error.without_url())),
        }
    }
}

/// Notes that somebody got a mail.
async fn note(desk: &Desk, account: &Account, told: &mut Told, say: &mut dyn FnMut(&str)) {
    let now = SystemClock.now();
    match desk
        .accounts
        .move_state(&account.user_id, State::ResetSent, now)
        .await
    {
        // Not moved: they came over while the mail was asked for.
        Ok(_) => tracing::info!(
            target: "vestibule::audit",
            user_id = account.user_id,
            to = State::ResetSent.as_str(),
            mechanism = "reset",
            "moved"
        ),
        Err(error) => {
            told.unnoted += 1;
            say(&format!(
                "{}: a mail went out, which cannot be noted: {error}\n",
                account.user_id
            ));
        }
    }
}

impl Told {
    fn line(&self) -> String {
        let verb = if self.applied { "got" } else { "would get" };
        let mut text = format!(
            "{} waiting: {} {verb} a mail, {} need none, {} cannot be reached, {} failed\n",
            self.waiting, self.sent, self.skipped, self.unreachable, self.failed
        );
        if self.unnoted > 0 {
            text.push_str(&format!(
                "{} got a mail that could not be noted\n",
                self.unnoted
            ));
        }
        if let Some(why) = &self.stopped {
            text.push_str(&format!("stopped: {why}\n"));
        }
        if !self.applied {
            text.push_str("nothing was sent: say --apply\n");
        }
        text
    }
}
