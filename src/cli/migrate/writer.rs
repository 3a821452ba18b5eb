//! The import itself: page after page is looked at, decided, made ready and written.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::super::{Failure, PROBLEMS, UNREACHABLE, USAGE};
use super::reading::{Numbered, Reading};
use crate::migration::accounts::AccountsError;
use crate::migration::import::decide::{self, Contested, Decided, Duplicates, Intent, Rules};
use crate::migration::import::outcome::{self, Outcome, Tally};
use crate::migration::import::prepare;
use crate::migration::import::record::{
    ImportedInvitation, ImportedMember, ImportedOrganization, ImportedUser, Note, Oddity, Record,
};
use crate::migration::import::source::About;
use crate::migration::import::target::{
    self, Abilities, Batch, Cursor, Facts, InvitationWrite, Kind, MemberWrite, OrganizationWrite,
    Parked, Questions, Resident, Row, Seal, Target, Ties, Write,
};
use crate::migration::second_factor::{BackupCodes, Totp};
use crate::migration::vault::{Purpose, Vault};
use crate::secret::Secret;
use crate::time::UnixMs;

/// How long a holder of the lock may be silent. Only somebody on another machine waits that long: here it is seen that a process is gone.
pub const LEASE_MS: i64 = 120_000;

/// How long an invitation counts that does not say. Source: better-auth, plugins/organization, `invitationExpiresIn`.
const INVITED_MS: i64 = 48 * 3600 * 1000;

/// Metadata is left out of a parked profile that is longer, in bytes: what a text of MySQL holds, encrypted and encoded.
const PROFILE_BYTES_MAX: usize = 40 * 1024;

/// The phases, in their order.
const PHASES: [Phase; 6] = [
    Phase::Of(About::User, false),
    Phase::Of(About::User, true),
    Phase::Of(About::Organization, false),
    Phase::Of(About::Member, false),
    Phase::Of(About::Invitation, false),
    Phase::Refusals,
];

#[derive(Clone, Copy)]
enum Phase {
    /// Groups about this; `true`: only those that lost an address.
    Of(About, bool),
    /// What could not be read at all.
    Refusals,
}

/// Seals under `migration.key`.
pub struct Sealer(pub Vault);

/// Fills a buffer with bytes nobody can guess.
pub fn random(bytes: &mut [u8]) {
    // The system's generator fails only before it was ever seeded; whoever goes on then would make guessable keys.
    if aws_lc_rs::rand::fill(bytes).is_err() {
        std::process::abort();
    }
}

fn drawn<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    random(&mut bytes);
    bytes
}

impl Seal for Sealer {
    fn hash(&self, user_id: &str, text: &[u8]) -> Secret {
        self.0.seal(Purpose::Hash, user_id, text, drawn())
    }

    fn factor(&self, user_id: &str, key: &[u8]) -> Secret {
        self.0.seal(Purpose::Factor, user_id, key, drawn())
    }
}

/// How the app keeps second factors.
pub struct App {
    /// Its secrets.
    pub secrets: crate::credential::secrets::Settings,
    /// How it stores backup codes.
    pub backup_codes: BackupCodes,
    /// How it makes codes.
    pub totp: Totp,
}

/// A database that does not do what it is asked.
pub fn failed(error: &AccountsError) -> Failure {
    Failure {
        message: error.to_string(),
        advice: error.advice().to_owned(),
        code: match error {
            AccountsError::Timeout | AccountsError::Unreachable(_) => UNREACHABLE,
            AccountsError::Schema(_) => USAGE,
            AccountsError::Denied(_) | AccountsError::Taken(_) | AccountsError::Unfit(_) => {
                PROBLEMS
            }
        },
    }
}

/// A run under way.
pub struct Writer<'w> {
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
    /// The run and who holds the lock; none: nothing is written.
    pub run: Option<(u64, String)>,
    /// What has become of all rows so far.
    pub tally: Tally,
    /// Gives the time.
    pub now: &'w (dyn Fn() -> UnixMs + Sync),
    /// Is told of every row.
    pub told: &'w mut dyn FnMut(&Row, &Tally),
    /// Slugs that were given in this run, for a run that writes nothing.
    slugs: BTreeSet<String>,
}

/// What a user becomes, made ready.
struct Ready {
    row: Row,
    no_column: Vec<&'static str>,
}

impl<'w> Writer<'w> {
    /// A writer of a run.
    #[allow(clippy::too_many_arguments)] // All that a run needs.
    pub fn new(
        target: &'w dyn Target,
        sealer: &'w Sealer,
        app: &'w App,
        rules: Rules,
        run: Option<(u64, String)>,
        tally: Tally,
        now: &'w (dyn Fn() -> UnixMs + Sync),
        told: &'w mut dyn FnMut(&Row, &Tally),
    ) -> Self {
        Self {
            abilities: target.abilities(),
            target,
            sealer,
            app,
            rules,
            run,
            tally,
            now,
            told,
            slugs: BTreeSet::new(),
        }
    }

    /// Goes through everything, from `from`.
    ///
    /// # Errors
    /// When the spool or the database fails. What was written stays, and a later run goes on there.
    pub async fn go(&mut self, reading: &mut Reading, from: Cursor) -> Result<(), Failure> {
        for (number, phase) in (0u8..).zip(PHASES) {
            if number < from.phase {
                continue;
            }
            let mut after = match number == from.phase {
                true => from.sequence,
                false => 0,
            };
            loop {
                let page = match phase {
                    Phase::Of(about, lost) => reading.page(about, after, lost).await?,
                    Phase::Refusals => reading.refusals(after).await?,
                };
                let Some(last) = page.last() else { break };
                after = last.sequence;
                self.page(reading, number, phase, page).await?;
            }
        }
        Ok(())
    }

    async fn page(
        &mut self,
        reading: &mut Reading,
        number: u8,
        phase: Phase,
        page: Vec<Numbered>,
    ) -> Result<(), Failure> {
        // In the first phase whoever lost an address waits for the second; in the second everybody else is done.
        let losers = matches!(phase, Phase::Of(About::User, true));
        let users = matches!(phase, Phase::Of(About::User, _));
        let mut people = Vec::new();
        let (mut organizations, mut members) = (Vec::new(), Vec::new());
        let (mut invitations, mut rest) = (Vec::new(), Vec::new());
        for one in page {
            let lost = one.contested.email_lost_to.is_some();
            if users && lost != losers {
                continue;
            }
            match one.record {
                Record::User(user) => people.push((one.sequence, *user, one.contested)),
                Record::Organization(of) => organizations.push((one.sequence, of)),
                Record::Member(member) => members.push((one.sequence, member)),
                Record::Invitation(of) => invitations.push((one.sequence, of)),
                Record::Refused {
                    place,
                    source_id,
                    note,
                } => {
                    let (reason, detail) = outcome::told(&[note]);
                    let kind = match phase {
                        Phase::Of(About::User, _) => Kind::User,
                        Phase::Of(About::Organization, _) => Kind::Organization,
                        Phase::Of(About::Member, _) => Kind::Member,
                        Phase::Of(About::Invitation, _) => Kind::Invitation,
                        Phase::Refusals => Kind::Unreadable,
                    };
                    rest.push(Ready {
                        row: Row {
                            sequence: one.sequence,
                            kind,
                            place,
                            source_id,
                            target_id: None,
                            outcome: Outcome::Refused,
                            reason,
                            detail,
                            write: Write::Nothing,
                        },
                        no_column: Vec::new(),
                    });
                }
            }
        }
        if !people.is_empty() {
            self.people(number, people).await?;
        }
        rest.extend(self.organizations(organizations).await?);
        rest.extend(self.members(reading, members).await?);
        rest.extend(self.invitations(reading, invitations).await?);
        rest.sort_by_key(|ready| ready.row.sequence);
        match self.write(number, rest).await? {
            Ok(()) => Ok(()),
            Err((rest, _)) => self.one_by_one(number, rest).await,
        }
    }

    /// Writes rows, or gives them back when somebody was faster than we, or the database does not take one of them.
    async fn write(
        &mut self,
        phase: u8,
        ready: Vec<Ready>,
    ) -> Result<Result<(), (Vec<Ready>, AccountsError)>, Failure> {
        let Some(last) = ready.last() else {
            return Ok(Ok(()));
        };
        let cursor = Cursor {
            phase,
            sequence: last.row.sequence,
        };
        let mut tally = self.tally.clone();
        for one in &ready {
            // What was odd was told when they came.
            let mut reasons = match one.row.outcome {
                Outcome::Unchanged | Outcome::Skipped => String::new(),
                _ => one.row.reason.clone(),
            };
            for field in &one.no_column {
                reasons.push_str(",no-column:");
                reasons.push_str(field);
            }
            tally.count(one.row.kind, one.row.outcome, &reasons);
        }
        if let Some((run, holder)) = &self.run {
            let at = (self.now)();
            let columns: Vec<Vec<&'static str>> =
                ready.iter().map(|one| one.no_column.clone()).collect();
            let batch = Batch {
                run: *run,
                holder: holder.clone(),
                provider: self.rules.provider.clone(),
                rows: ready.into_iter().map(|one| one.row).collect(),
                cursor,
                tally: tally.clone(),
                at,
            };
            match self.target.write(&batch, self.sealer).await {
                Ok(()) => {}
                Err(error @ (AccountsError::Taken(_) | AccountsError::Unfit(_))) => {
                    let rows = batch.rows.into_iter().zip(columns);
                    let back = rows.map(|(row, no_column)| Ready { row, no_column });
                    return Ok(Err((back.collect(), error)));
                }
                Err(error) => return Err(failed(&error)),
            }
            self.tally = tally;
            for row in &batch.rows {
                (self.told)(row, &self.tally);
            }
            return Ok(Ok(()));
        }
        self.tally = tally;
        for one in &ready {
            (self.told)(&one.row, &self.tally);
        }
        Ok(Ok(()))
    }

    /// One of these rows collides with something that the database holds to be the same, or is none it takes: it is found, and refused.
    async fn one_by_one(&mut self, phase: u8, rows: Vec<Ready>) -> Result<(), Failure> {
        for one in rows {
            if let Err((back, why)) = self.write(phase, vec![one]).await? {
                let refused = back.into_iter().map(|one| collided(one, &why)).collect();
                if let Err((_, why)) = self.write(phase, refused).await? {
                    return Err(failed(&why));
                }
            }
        }
        Ok(())
    }

    /// Users, halved as long as one of them collides, or is none the database takes.
    async fn people(
        &mut self,
        phase: u8,
        people: Vec<(u64, ImportedUser, Contested)>,
    ) -> Result<(), Failure> {
        let mut waiting = vec![people];
        while let Some(some) = waiting.pop() {
            let ready = self.decided(&some).await?;
            if let Err((back, why)) = self.write(phase, ready).await? {
                if some.len() <= 1 {
                    // Looked at again a moment ago, and taken all the same.
                    let refused = back.into_iter().map(|one| collided(one, &why)).collect();
                    if let Err((_, why)) = self.write(phase, refused).await? {
                        return Err(failed(&why));
                    }
                    continue;
                }
                let mut first = some;
                let second = first.split_off(first.len() / 2);
                waiting.push(second);
                waiting.push(first);
            }
        }
        Ok(())
    }

    /// What is there already of what these users claim.
    async fn facts(&self, people: &[(u64, ImportedUser, Contested)]) -> Result<Facts, Failure> {
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
        if self.run.is_none() {
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
                    });
                }
            }
        }
        Ok(facts)
    }

    async fn look(&self, questions: &Questions) -> Result<Facts, Failure> {
        let looked = self.target.look(questions).await;
        looked.map_err(|error| failed(&error))
    }

    async fn decided(
        &mut self,
        people: &[(u64, ImportedUser, Contested)],
    ) -> Result<Vec<Ready>, Failure> {
        let facts = self.facts(people).await?;
        let decided: Vec<Decided> = people
            .iter()
            .map(|(_, user, contested)| {
                decide::decide(user, contested, &facts, &self.abilities, &self.rules)
            })
            .collect();
        self.renew().await?;
        // A run that writes nothing makes nothing ready that takes time.
        let wet = self.run.is_some();
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
        let me: &Self = self;
        if slow < 2 {
            return jobs.into_iter().map(|job| me.ready(job, wet)).collect();
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

    /// Says that we are still here.
    async fn renew(&self) -> Result<(), Failure> {
        let Some((_, holder)) = &self.run else {
            return Ok(());
        };
        let until = UnixMs((self.now)().0.saturating_add(LEASE_MS));
        let renewed = self.target.renew(holder, until).await;
        match renewed.map_err(|error| failed(&error))? {
            true => Ok(()),
            false => Err(Failure {
                message: "another import has taken over".into(),
                advice: "one at a time; `vestibule migrate status` tells of runs".into(),
                code: PROBLEMS,
            }),
        }
    }

    async fn organizations(
        &mut self,
        all: Vec<(u64, ImportedOrganization)>,
    ) -> Result<Vec<Ready>, Failure> {
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let provider = self.rules.provider.clone();
        let ids: Vec<String> = all.iter().map(|(_, of)| of.source_id.clone()).collect();
        let known = self
            .target
            .objects(Kind::Organization, &provider, &ids)
            .await;
        let known = known.map_err(|error| failed(&error))?;
        let slugs: Vec<String> = all.iter().map(|(_, of)| of.slug.clone()).collect();
        let taken = self.target.slugs(&slugs).await;
        let taken = taken.map_err(|error| failed(&error))?;
        let mut ready = Vec::with_capacity(all.len());
        for (sequence, of) in all {
            let mut notes = of.notes.clone();
            let (outcome, target_id, write) = if let Some(id) = known.get(&of.source_id) {
                (Outcome::Unchanged, Some(id.clone()), Write::Nothing)
            } else if let Some(note) = self.without_organizations() {
                notes.push(note);
                (Outcome::Refused, None, Write::Nothing)
            } else if of.source_id.len() > decide::SOURCE_ID_BYTES_MAX {
                notes.push(too_long());
                (Outcome::Refused, None, Write::Nothing)
            } else {
                let mut slug = of.slug.clone();
                if taken.contains(&slug) || self.slugs.contains(&slug) {
                    // Of its id, so that it is the same whenever it is asked for.
                    let digest = short_digest(&of.source_id);
                    slug = format!("{slug}-{digest}");
                    notes.push(Note {
                        what: Oddity::SlugTaken,
                        detail: format!("another organization has its slug: it becomes {slug}"),
                    });
                }
                self.slugs.insert(slug.clone());
                let metadata = (!of.metadata.is_empty()).then(|| {
                    serde_json::Value::Object(of.metadata.clone())
                        .to_string()
                        .replace("\\u0000", "")
                });
                let most = self.abilities.letters_max("organization.metadata");
                let metadata = metadata.filter(|text| text.len() <= most);
                let cut = |text: &str, column: &str| -> String {
                    text.replace('\0', "")
                        .chars()
                        .take(self.abilities.letters_max(column))
                        .collect()
                };
                let write = OrganizationWrite {
                    wanted_id: Some(of.source_id.clone()),
                    source_id: of.source_id.clone(),
                    name: cut(&of.name, "organization.name"),
                    slug,
                    logo: of.logo.clone(),
                    metadata,
                    created_at: of.created_at.unwrap_or(self.rules.at),
                };
                (Outcome::Created, None, Write::Organization(Box::new(write)))
            };
            let (reason, detail) = outcome::told(&notes);
            ready.push(Ready {
                row: Row {
                    sequence,
                    kind: Kind::Organization,
                    place: of.place,
                    source_id: Some(of.source_id),
                    target_id,
                    outcome,
                    reason,
                    detail,
                    write,
                },
                no_column: Vec::new(),
            });
        }
        Ok(ready)
    }

    fn without_organizations(&self) -> Option<Note> {
        (!self.abilities.has("organization.id")).then(|| Note {
            what: Oddity::NoColumn,
            detail: "the app has no tables of the organization plugin".to_owned(),
        })
    }

    /// Who these users are here; in a run that writes nothing, whoever the export has counts as there.
    async fn users(
        &self,
        reading: &mut Reading,
        ids: Vec<String>,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let questions = Questions {
            provider: self.rules.provider.clone(),
            source_ids: ids.clone(),
            ..Questions::default()
        };
        let facts = self.look(&questions).await?;
        let known = facts.identities.into_iter();
        let mut known: BTreeMap<String, String> =
            known.map(|(id, known)| (id, known.user_id)).collect();
        if self.run.is_none() {
            for id in reading.has(About::User, &ids).await? {
                known.entry(id).or_default();
            }
        }
        Ok(known)
    }

    /// What these organizations are here, by the same rule.
    async fn organizations_of(
        &self,
        reading: &mut Reading,
        ids: Vec<String>,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let provider = &self.rules.provider;
        let known = self
            .target
            .objects(Kind::Organization, provider, &ids)
            .await;
        let mut known = known.map_err(|error| failed(&error))?;
        if self.run.is_none() && self.without_organizations().is_none() {
            for id in reading.has(About::Organization, &ids).await? {
                known.entry(id).or_default();
            }
        }
        Ok(known)
    }

    async fn members(
        &mut self,
        reading: &mut Reading,
        all: Vec<(u64, ImportedMember)>,
    ) -> Result<Vec<Ready>, Failure> {
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let provider = self.rules.provider.clone();
        let ids: Vec<String> = all.iter().map(|(_, of)| of.source_id.clone()).collect();
        let known = self.target.objects(Kind::Member, &provider, &ids).await;
        let known = known.map_err(|error| failed(&error))?;
        let users = all.iter().map(|(_, of)| of.user.clone()).collect();
        let users = self.users(reading, users).await?;
        let of = all.iter().map(|(_, of)| of.organization.clone()).collect();
        let organizations = self.organizations_of(reading, of).await?;
        let pairs: Vec<(String, String)> = all
            .iter()
            .filter_map(|(_, of)| {
                let organization = organizations.get(&of.organization)?;
                Some((organization.clone(), users.get(&of.user)?.clone()))
            })
            .filter(|(organization, user)| !organization.is_empty() && !user.is_empty())
            .collect();
        let there = self.target.members(&pairs).await;
        let mut there = there.map_err(|error| failed(&error))?;
        let mut ready = Vec::with_capacity(all.len());
        for (sequence, of) in all {
            let mut notes = of.notes.clone();
            let over = notes.iter().any(|note| note.what == Oddity::Over);
            let pair = organizations
                .get(&of.organization)
                .zip(users.get(&of.user))
                .map(|(organization, user)| (organization.clone(), user.clone()));
            let (outcome, target_id, write) = if let Some(id) = known.get(&of.source_id) {
                (Outcome::Unchanged, Some(id.clone()), Write::Nothing)
            } else if over {
                (Outcome::Refused, None, Write::Nothing)
            } else if let Some(note) = self.without_organizations() {
                notes.push(note);
                (Outcome::Refused, None, Write::Nothing)
            } else if of.source_id.len() > decide::SOURCE_ID_BYTES_MAX {
                notes.push(too_long());
                (Outcome::Refused, None, Write::Nothing)
            } else if let Some((organization_id, user_id)) = pair {
                let new =
                    user_id.is_empty() || there.insert((organization_id.clone(), user_id.clone()));
                match new {
                    false => (Outcome::Unchanged, None, Write::Nothing),
                    true => {
                        let write = MemberWrite {
                            source_id: of.source_id.clone(),
                            organization_id,
                            user_id,
                            role: of.role.clone(),
                            created_at: of.created_at.unwrap_or(self.rules.at),
                        };
                        (Outcome::Created, None, Write::Member(Box::new(write)))
                    }
                }
            } else {
                notes.push(Note {
                    what: Oddity::Dangling,
                    detail: "its user or its organization did not come along".to_owned(),
                });
                (Outcome::Refused, None, Write::Nothing)
            };
            let (reason, detail) = outcome::told(&notes);
            ready.push(Ready {
                row: Row {
                    sequence,
                    kind: Kind::Member,
                    place: of.place,
                    source_id: Some(of.source_id),
                    target_id,
                    outcome,
                    reason,
                    detail,
                    write,
                },
                no_column: Vec::new(),
            });
        }
        Ok(ready)
    }

    async fn invitations(
        &mut self,
        reading: &mut Reading,
        all: Vec<(u64, ImportedInvitation)>,
    ) -> Result<Vec<Ready>, Failure> {
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let provider = self.rules.provider.clone();
        let ids: Vec<String> = all.iter().map(|(_, of)| of.source_id.clone()).collect();
        let known = self.target.objects(Kind::Invitation, &provider, &ids).await;
        let known = known.map_err(|error| failed(&error))?;
        let inviters = all.iter().filter_map(|(_, of)| of.inviter.clone());
        let inviters = self.users(reading, inviters.collect()).await?;
        let of = all.iter().map(|(_, of)| of.organization.clone()).collect();
        let organizations = self.organizations_of(reading, of).await?;
        let real = organizations.values().filter(|id| !id.is_empty());
        let owners = self
            .target
            .owners(&real.cloned().collect::<Vec<String>>())
            .await;
        let owners = owners.map_err(|error| failed(&error))?;
        let dry = self.run.is_none();
        let mut ready = Vec::with_capacity(all.len());
        for (sequence, of) in all {
            let mut notes = of.notes.clone();
            let organization = organizations.get(&of.organization);
            let inviter = of.inviter.as_ref().and_then(|id| inviters.get(id));
            let inviter = inviter
                .or_else(|| owners.get(organization?))
                .cloned()
                .or_else(|| dry.then(String::new));
            let (outcome, target_id, write) = if let Some(id) = known.get(&of.source_id) {
                (Outcome::Unchanged, Some(id.clone()), Write::Nothing)
            } else if notes.iter().any(|note| note.what == Oddity::Over) {
                (Outcome::Refused, None, Write::Nothing)
            } else if let Some(note) = self.without_organizations() {
                notes.push(note);
                (Outcome::Refused, None, Write::Nothing)
            } else if of.source_id.len() > decide::SOURCE_ID_BYTES_MAX {
                notes.push(too_long());
                (Outcome::Refused, None, Write::Nothing)
            } else if let Some((organization, inviter_id)) = organization.zip(inviter) {
                let until = self.rules.at.0.saturating_add(INVITED_MS);
                let write = InvitationWrite {
                    source_id: of.source_id.clone(),
                    organization_id: organization.clone(),
                    email: of.email.clone(),
                    role: of.role.clone(),
                    inviter_id,
                    expires_at: of.expires_at.unwrap_or(UnixMs(until)),
                    created_at: of.created_at.unwrap_or(self.rules.at),
                };
                (Outcome::Created, None, Write::Invitation(Box::new(write)))
            } else {
                notes.push(Note {
                    what: Oddity::Dangling,
                    detail:
                        "its organization did not come along, or has nobody who could have invited"
                            .to_owned(),
                });
                (Outcome::Refused, None, Write::Nothing)
            };
            let (reason, detail) = outcome::told(&notes);
            ready.push(Ready {
                row: Row {
                    sequence,
                    kind: Kind::Invitation,
                    place: of.place,
                    source_id: Some(of.source_id),
                    target_id,
                    outcome,
                    reason,
                    detail,
                    write,
                },
                no_column: Vec::new(),
            });
        }
        Ok(ready)
    }
}

fn too_long() -> Note {
    Note {
        what: Oddity::NoId,
        detail: format!(
            "the id is longer than {} bytes",
            decide::SOURCE_ID_BYTES_MAX
        ),
    }
}

fn short_digest(text: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(text.as_bytes());
    data_encoding::HEXLOWER.encode(digest.get(..4).unwrap_or(&[]))
}

/// A row that the database will not have beside another, or at all.
fn collided(mut one: Ready, error: &AccountsError) -> Ready {
    one.row.outcome = Outcome::Refused;
    one.row.write = Write::Nothing;
    one.row.target_id = None;
    one.no_column.clear();
    let (oddity, why) = match error {
        AccountsError::Unfit(what) => (Oddity::Unfit, format!("the database does not take it: {what}")),
        _ => (
            Oddity::DuplicateEmail,
            "the database holds its address, username, phone number or id to be the same as another's"
                .to_owned(),
        ),
    };
    let word = outcome::word(oddity);
    if !one.row.reason.split(',').any(|reason| reason == word) {
        if !one.row.reason.is_empty() {
            one.row.reason.push(',');
        }
        one.row.reason.push_str(word);
    }
    if !one.row.detail.is_empty() {
        one.row.detail.push_str("; ");
    }
    one.row.detail.push_str(&why);
    one
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

/// The word of `--duplicates`.
pub fn duplicates(word: &str) -> Result<Duplicates, String> {
    match word {
        "park" => Ok(Duplicates::Park),
        "merge" => Ok(Duplicates::Merge),
        _ => Err("known are `park` and `merge`".to_owned()),
    }
}
