//! `vestibule migrate export --for NAME`: the way back. Password hashes leave only by an explicit word, encrypted, and noted.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::ground::failed;
use super::private::Private;
use super::{Manner, plan};
use crate::cli::{DONE, Edges, Failure, PROBLEMS, USAGE, World, gateway, read_bounded};
use crate::migration::leaving::age::{self, Encryptor, Recipient};
use crate::migration::leaving::roster::{Event, Roster};
use crate::migration::leaving::{Form, line};
use crate::server::clock::SystemClock;
use crate::store;
use crate::time::Clock as _;

/// Users read at once: some two pages of memory each.
const PAGE: usize = 500;

/// Longest file of recipients, in bytes.
const RECIPIENTS_BYTES_MAX: usize = 64 * 1024;

/// Arguments of `migrate export`.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The system that is to take them: clerk, workos, auth0 or generic.
    #[arg(long = "for", value_name = "NAME", value_parser = form)]
    pub system: Form,
    /// The file to write: one JSON object a line, encrypted for the recipients.
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: PathBuf,
    /// Who can read it: an age recipient, `age1...`. May be given several times.
    #[arg(long, value_name = "RECIPIENT")]
    pub recipient: Vec<String>,
    /// The same from a file, one a line.
    #[arg(long, value_name = "FILE")]
    pub recipients_file: Option<PathBuf>,
    /// I know what this does: password hashes leave the database.
    #[arg(long)]
    pub i_know_this_exports_password_hashes: bool,
    /// How it is told.
    #[command(flatten)]
    pub manner: Manner,
}

fn form(name: &str) -> Result<Form, String> {
    let known = Form::ALL.map(Form::as_str).join(", ");
    Form::named(name).ok_or_else(|| format!("known are {known}"))
}

/// What left.
#[derive(Debug, Default, serde::Serialize)]
struct Left {
    users: u64,
    with_password: u64,
    output: PathBuf,
}

impl Export {
    /// Does it.
    ///
    /// # Errors
    /// When it is not said explicitly, nobody can read it, or it cannot be written.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        if !self.i_know_this_exports_password_hashes {
            return Err(usage(
                "password hashes would leave the database",
                "say --i-know-this-exports-password-hashes, if that is what you want",
            ));
        }
        let recipients = self.recipients(world)?;
        let path = world.path(&self.output);
        if path.exists() && !path.is_file() {
            return Err(usage(
                "hashes are written to a file, and nowhere else",
                "name one with --output",
            ));
        }
        let loaded = match self.manner.given.load_or_tell(world, edges)? {
            Ok(loaded) => loaded,
            Err(code) => return Ok(code),
        };
        let _log = crate::telemetry::log::start(&loaded.config.log);
        let database = plan::database(&loaded.config)?;
        let runtime = gateway::store_runtime()?;
        let began_at = SystemClock.now();
        let mut left = runtime.block_on(async {
            let opened = store::open_roster(database, true).await;
            let roster = opened.map_err(|error| gateway::cannot_open(&error))?;
            let (file, left) = self.write(&*roster, &recipients, &path).await?;
            let event = Event {
                what: format!("export:{}", self.system.as_str()),
                fingerprint: format!("{} recipients", recipients.len()),
                users: left.users,
                began_at,
                ended_at: SystemClock.now(),
            };
            // Noted before it is there: what cannot be noted does not leave.
            roster.note(&event).await.map_err(|error| failed(&error))?;
            file.finish().map_err(|error| self.cannot_write(&error))?;
            Ok::<_, Failure>(left)
        })?;
        left.output.clone_from(&self.output);
        tracing::warn!(
            target: "vestibule::audit",
            system = self.system.as_str(),
            users = left.users,
            with_password = left.with_password,
            recipients = recipients.len(),
            "password hashes were exported"
        );
        if self.manner.json {
            // Numbers and texts always serialize.
            let text = serde_json::to_string(&left).unwrap_or_default();
            world.say(&format!("{text}\n"));
        } else if !self.manner.quiet {
            world.say(&format!(
                "{} users, {} with their password: {}\n",
                left.users,
                left.with_password,
                self.output.display()
            ));
        }
        Ok(DONE)
    }

    fn recipients(&self, world: &World<'_>) -> Result<Vec<Recipient>, Failure> {
        let mut texts = self.recipient.clone();
        if let Some(path) = &self.recipients_file {
            let text = read_bounded(&world.path(path), RECIPIENTS_BYTES_MAX);
            let text = text.map_err(|error| {
                usage(
                    &format!("{} cannot be read: {error}", path.display()),
                    "name a file with recipients, one a line",
                )
            })?;
            let lines = text.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            texts.extend(lines.map(str::to_owned));
        }
        if texts.is_empty() || texts.len() > age::RECIPIENTS_MAX {
            return Err(usage(
                &format!(
                    "name whom the file is for: 1 to {} recipients",
                    age::RECIPIENTS_MAX
                ),
                "make a key with `age-keygen -o key.txt`, keep it elsewhere, and give its public half with --recipient",
            ));
        }
        let read = texts.iter().map(|text| Recipient::read(text));
        // The text is not told: it may be a secret key.
        read.collect::<Result<_, _>>()
            .map_err(|error| usage(&error.to_string(), "give the public half, `age1...`"))
    }

    fn cannot_write(&self, error: &std::io::Error) -> Failure {
        Failure {
            message: format!("{} cannot be written: {error}", self.output.display()),
            advice: "name a file in a folder that may be written".into(),
            code: PROBLEMS,
        }
    }

    /// Writes everybody, and does not put the file in its place yet.
    async fn write(
        &self,
        roster: &dyn Roster,
        recipients: &[Recipient],
        path: &Path,
    ) -> Result<(Private, Left), Failure> {
        let broken = |_| Failure {
            message: "nothing can be encrypted to these recipients".into(),
            advice: "make new ones with `age-keygen`".into(),
            code: USAGE,
        };
        let mut file = Private::begin(path).map_err(|error| self.cannot_write(&error))?;
        let mut out = Vec::new();
        let mut encryptor = Encryptor::begin(recipients, &randomness(recipients.len())?, &mut out)
            .map_err(broken)?;
        let (mut left, mut after) = (Left::default(), None::<String>);
        loop {
            let people = roster.people(after.as_deref(), PAGE).await;
            let people = people.map_err(|error| failed(&error))?;
            for person in &people {
                let (mut text, with_password) = line(self.system, person);
                text.push('\n');
                encryptor.push(text.as_bytes(), &mut out).map_err(broken)?;
                left.users += 1;
                left.with_password += u64::from(with_password);
            }
            file.write_all(&out)
                .map_err(|error| self.cannot_write(&error))?;
            out.clear();
            match people.last() {
                Some(last) => after = Some(last.user_id.clone()),
                None => break,
            }
        }
        encryptor.finish(&mut out).map_err(broken)?;
        file.write_all(&out)
            .map_err(|error| self.cannot_write(&error))?;
        Ok((file, left))
    }
}

fn usage(message: &str, advice: &str) -> Failure {
    Failure {
        message: message.into(),
        advice: advice.into(),
        code: USAGE,
    }
}

fn randomness(recipients: usize) -> Result<age::Randomness, Failure> {
    let none = |_| Failure {
        message: "the system gives no random numbers".into(),
        advice: String::new(),
        code: PROBLEMS,
    };
    let random = SystemRandom::new();
    let mut made = age::Randomness {
        file_key: Zeroizing::new([0; 16]),
        nonce: [0; 16],
        ephemeral: vec![Zeroizing::new([0; 32]); recipients],
    };
    random.fill(made.file_key.as_mut_slice()).map_err(none)?;
    random.fill(&mut made.nonce).map_err(none)?;
    for ephemeral in &mut made.ephemeral {
        random.fill(ephemeral.as_mut_slice()).map_err(none)?;
    }
    Ok(made)
}
