//! Whoever is next, made ready to be written: what is there of them is looked at, what becomes of them is decided, and what takes time
//! is done.

use zeroize::Zeroizing;

use super::super::{Failure, PROBLEMS, USAGE};
use super::ground::{App, Sealer, drawn, failed, random};
use crate::migration::import::decide::{self, Contested, Decided, Intent, Rules};
use crate::migration::import::outcome;
use crate::migration::import::prepare;
use crate::migration::import::record::{ImportedUser, Note, Oddity};
use crate::migration::import::target::{
    self, Abilities, Facts, Kind, Parked, Questions, Resident, Row, Target, Ties, Write,
};
use crate::migration::vault::Purpose;

/// Metadata is left out of a parked profile that is longer, in bytes: what a text of MySQL holds, encrypted and encoded.
const PROFILE_BYTES_MAX: usize = 40 * 1024;

/// A user, with the number of their row and what they lost to others.
pub type Person = (u64, ImportedUser, Contested);

/// A row, made ready.
pub struct Ready {
    /// The row.
    pub row: Row,
    /// What it had that the app has no column for.
    pub no_column: Vec<&'static str>,
}

/// What everybody is made ready with.
pub struct Preparing<'w> {
    /// Where to.
    pub target: &'w dyn Target,
    /// Seals what is kept.
    pub sealer: &'w Sealer,
    /// How the app keeps second factors.
    pub app: &'w App,
    /// What new rows can hold.
    pub abilities: Abilities,
    /// What is done with whom.
    pub rules: Rules,
    /// Whether anything will be written.
    pub writes: bool,
}

impl Preparing<'_> {
    /// What is there already of what these users claim.
    async fn facts(&self, people: &[Person]) -> Result<Facts, Failure> {
        let since = self.rules.since.is_some();
        let questions = Questions {
            provider: self.rules.provider.clone(),
            source_ids: people
                .iter()
                .map(|(_, user, _)| user.source_id.clone())
                .collect(),
            changes: since,
            ..Questions::default()
        };
        let mut facts = self.look(&questions).await?;
        let mut questions = Questions {
            provider: self.rules.provider.clone(),
            ..Questions::default()
        };
        for (_, user, _) in people {
            if facts.identities.contains_key(&user.source_id) && !since {
                continue;
            }
            questions
                .emails
                .extend(decide::address(user, &self.rules).map(|(email, _)| email));
            questions.usernames.extend(user.username.clone());
            questions
                .phones
                .extend(user.phone.as_ref().map(|(number, _)| number.clone()));
            if self.abilities.has_socials {
                let socials = user.socials.iter();
                questions.socials.extend(socials.filter_map(|social| {
                    Some((social.provider.clone(), social.account_id.clone()?))
                }));
            }
            questions.ids.push(user.source_id.clone());
        }
        let more = self.look(&questions).await?;
        facts.emails = more.emails;
        facts.usernames = more.usernames;
        facts.phones = more.phones;
        facts.socials = more.socials;
        facts.ids = more.ids;
        if !self.writes {
            // Nothing is written, so whoever won an address is not there: it is as if they were.
            for (_, user, contested) in people {
                if let (Some(_), Some((email, verified))) =
                    (&contested.email_lost_to, decide::address(user, &self.rules))
                {
                    // The verified come first: were the winner not, this one would not be either.
                    facts.emails.entry(email).or_insert(Resident {
                        user_id: String::new(),
                        email_verified: verified,
                        has_password: false,
                        has_factor: false,
                        came_as: Vec::new(),
                    });
                }
            }
        }
        Ok(facts)
    }

    /// What is there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn look(&self, questions: &Questions) -> Result<Facts, Failure> {
        let looked = self.target.look(questions).await;
        looked.map_err(|error| failed(&error))
    }

    /// Makes users ready.
    ///
    /// # Errors
    /// When the database fails, or the app's secret encrypts nothing.
    pub async fn users(&self, people: &[Person]) -> Result<Vec<Ready>, Failure> {
        let facts = self.facts(people).await?;
        let decided: Vec<Decided> = people
            .iter()
            .map(|(_, user, contested)| {
                decide::decide(user, contested, &facts, &self.abilities, &self.rules)
            })
            .collect();
        // A run that writes nothing makes nothing ready that takes time.
        let wet = self.writes;
        let jobs: Vec<Job<'_>> = people
            .iter()
            .zip(decided)
            .map(|((sequence, user, _), decided)| Job {
                sequence: *sequence,
                user,
                decided,
            })
            .collect();
        let slow = jobs.iter().filter(|job| wet && job.is_slow()).count();
        if slow < 2 {
            return jobs.into_iter().map(|job| self.ready(job, wet)).collect();
        }
        // Hashes that are wrapped take as long as sign-ins: every processor makes some.
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = jobs.len().div_ceil(threads.min(slow)).max(1);
        let mut shares: Vec<Vec<Job<'_>>> = Vec::new();
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            shares.push(jobs.by_ref().take(share).collect());
        }
        let abilities = &self.abilities;
        let (app, sealer, rules) = (self.app, self.sealer, &self.rules);
        let made: Vec<Result<Vec<Ready>, Failure>> = std::thread::scope(|scope| {
            let threads: Vec<_> = shares
                .into_iter()
                .map(|share| {
                    scope.spawn(move || {
                        share
                            .into_iter()
                            .map(|job| ready(job, wet, abilities, app, sealer, rules))
                            .collect()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|_| {
                        Err(Failure {
                            message: "a thread that makes hashes ready has ended".into(),
                            advice: String::new(),
                            code: PROBLEMS,
                        })
                    })
                })
                .collect()
        });
        let mut all = Vec::with_capacity(people.len());
        for some in made {
            all.extend(some?);
        }
        Ok(all)
    }

    fn ready(&self, job: Job<'_>, wet: bool) -> Result<Ready, Failure> {
        ready(
            job,
            wet,
            &self.abilities,
            self.app,
            self.sealer,
            &self.rules,
        )
    }
}

/// One user on the way.
struct Job<'j> {
    sequence: u64,
    user: &'j ImportedUser,
    decided: Decided,
}

impl Job<'_> {
    fn is_slow(&self) -> bool {
        let writes = !matches!(self.decided.intent, Intent::Nothing);
        writes && prepare::is_slow(&self.user.password)
    }
}

/// Makes password and second factor ready.
fn ready(
    job: Job<'_>,
    wet: bool,
    abilities: &Abilities,
    app: &App,
    sealer: &Sealer,
    rules: &Rules,
) -> Result<Ready, Failure> {
    let Job {
        sequence,
        user,
        mut decided,
    } = job;
    let mut no_column = decided.no_column;
    let mut ties = |ties: &mut Ties, notes: &mut Vec<Note>| -> Result<(), Failure> {
        let slow = !wet && prepare::is_slow(&user.password);
        if !slow {
            let made = prepare::password(&user.password, drawn());
            let said = notes.iter().any(|note| note.what == Oddity::InvalidHash);
            notes.extend(made.note.filter(|_| !said));
            ties.password = made.write;
            ties.state = made.state;
        }
        let Some(factor) = &user.factor else {
            return Ok(());
        };
        if !abilities.has("twoFactor.secret") || !abilities.has("user.twoFactorEnabled") {
            no_column.push("second factor");
        }
        let made = prepare::factor(
            factor,
            prepare::App {
                secrets: &app.secrets,
                backup_codes: app.backup_codes,
                totp: app.totp,
                random: &random,
            },
        );
        ties.factor = Some(made.map_err(|error| Failure {
            message: format!("the app's secret encrypts nothing: {error}"),
            advice: "see `better_auth.secret`".into(),
            code: USAGE,
        })?);
        Ok(())
    };
    let write = match decided.intent {
        Intent::Nothing => Write::Nothing,
        Intent::Create(mut made) => {
            ties(&mut made.ties, &mut decided.notes)?;
            Write::User(made)
        }
        Intent::Join(mut joining) => {
            ties(&mut joining.ties, &mut decided.notes)?;
            Write::Join(joining)
        }
        Intent::Change(mut change) => {
            ties(&mut change.user.ties, &mut decided.notes)?;
            Write::Change(change)
        }
        Intent::Park { user_id } => match wet {
            true => Write::Park(Box::new(parked(
                user,
                user_id,
                sealer,
                rules,
                &decided.notes,
            ))),
            false => Write::Nothing,
        },
    };
    let (reason, detail) = outcome::told(&decided.notes);
    Ok(Ready {
        row: Row {
            sequence,
            kind: Kind::User,
            place: user.place.clone(),
            source_id: Some(user.source_id.clone()),
            target_id: decided.user_id.filter(|id| !id.is_empty()),
            outcome: decided.outcome,
            reason,
            detail,
            write,
        },
        no_column,
    })
}

fn parked(
    user: &ImportedUser,
    user_id: Option<String>,
    sealer: &Sealer,
    rules: &Rules,
    notes: &[Note],
) -> Parked {
    // Nobody is signed in with it: it is bound to who they were there.
    let owner = format!("parked:{}:{}", rules.provider, user.source_id);
    let socials: Vec<_> = user
        .socials
        .iter()
        .map(|social| serde_json::json!([social.provider, social.account_id]))
        .collect();
    let mut profile = serde_json::json!({
        "email": user.email,
        "email_verified": user.email_verified,
        "name": user.name,
        "username": user.username,
        "phone": user.phone,
        "image": user.image,
        "created_at": user.created_at.map(|at| at.0),
        "roles": user.roles,
        "socials": socials,
        "metadata": user.metadata,
    });
    let mut text = Zeroizing::new(profile.to_string());
    if text.len() > PROFILE_BYTES_MAX
        && let Some(profile) = profile.as_object_mut()
    {
        profile.remove("metadata");
        text = Zeroizing::new(serde_json::Value::Object(profile.clone()).to_string());
    }
    let hash = match prepare::password(&user.password, drawn()).write {
        target::PasswordWrite::Old { scheme, text, .. } => {
            let sealed = sealer.0.seal(Purpose::Hash, &owner, &text.0, drawn());
            Some((scheme, sealed))
        }
        target::PasswordWrite::Native(hash) => {
            let text = hash.expose().as_bytes();
            let sealed = sealer.0.seal(Purpose::Hash, &owner, text, drawn());
            Some(("better-auth-scrypt".to_owned(), sealed))
        }
        target::PasswordWrite::None => None,
    };
    Parked {
        provider: rules.provider.clone(),
        source_id: user.source_id.clone(),
        email: user.email.clone(),
        user_id,
        reason: outcome::told(notes).0,
        profile: sealer
            .0
            .seal(Purpose::Profile, &owner, text.as_bytes(), drawn()),
        hash,
    }
}
