//! `vestibule migrate verify`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use super::super::{DONE, Edges, Failure, PROBLEMS, World};
use super::ground::failed;
use super::ground::{Ground, now};
use super::progress::Progress;
use super::reading::{Numbered, Reading};
use super::report::Report;
use super::{Manner, Whence};
use crate::migration::import::decide::{self, Duplicates, Intent};
use crate::migration::import::outcome::Outcome;
use crate::migration::import::record::{ImportedUser, Password, Record};
use crate::migration::import::source::About;
use crate::migration::import::target::{Facts, Kind, Row, Stored, UserWrite, Write};
use crate::migration::import::{outcome, prepare};
use crate::migration::password::keeping;
use crate::migration::state::State;
use crate::time::UnixMs;

/// Dates of some columns are whole seconds, and some databases round.
const SECOND_MS: i64 = 1000;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Where people come from.
    #[command(flatten)]
    pub whence: Whence,
    /// How many users, drawn at random, are shown with every field of both sides.
    #[arg(long, default_value_t = 5, value_name = "NUMBER")]
    pub sample: usize,
    /// Write every difference into a file (CSV; JSON lines where the name ends in json).
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// The folder for what is read. Default: the system's temporary folder.
    #[arg(long, value_name = "FOLDER")]
    pub spool: Option<PathBuf>,
    /// How to tell.
    #[command(flatten)]
    pub manner: Manner,
}

/// What was found.
#[derive(Default)]
struct Found {
    users: u64,
    equal: u64,
    moved_on: u64,
    missing: u64,
    parked: u64,
    refused: u64,
    differences: BTreeMap<String, u64>,
    hashes: BTreeMap<String, u64>,
    unusable: u64,
    states: BTreeMap<&'static str, u64>,
    shared: u64,
    rows: Vec<Row>,
    sample: Vec<serde_json::Value>,
}

/// Differences that are shown.
const SHOWN: usize = 20;

impl Verify {
    /// Does it.
    ///
    /// # Errors
    /// When the configuration or an input cannot be used, or the database cannot be reached.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let mut progress = Progress::new(world.terminal, self.manner.quiet);
        let opened = super::import::open(
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
        let mut report = match &self.report {
            Some(path) => Some(Report::create(path, world)?),
            None => None,
        };
        let looked = ground
            .runtime
            .block_on(self.look(&ground, &mut reading, &mut report));
        ground.runtime.block_on(async {
            match &looked {
                Ok(_) => reading.close().await,
                Err(_) => reading.leave().await,
            }
        });
        let found = looked?;
        if let Some(report) = report {
            report.close()?;
        }
        let fine = found.differences.is_empty() && found.missing == 0 && found.unusable == 0;
        if self.manner.json {
            let told = json!({
                "users": found.users,
                "equal": found.equal,
                "moved_on": found.moved_on,
                "missing": found.missing,
                "parked": found.parked,
                "refused": found.refused,
                "differences": found.differences,
                "hashes_kept": found.hashes,
                "hashes_unusable": found.unusable,
                "states": found.states,
                "several_rows_of_one_user": found.shared,
                "sample": found.sample,
            });
            world.say(&format!("{told}\n"));
        } else {
            world.say(&text(&found));
        }
        Ok(if fine { DONE } else { PROBLEMS })
    }

    async fn look(
        &self,
        ground: &Ground,
        reading: &mut Reading,
        report: &mut Option<Report>,
    ) -> Result<Found, Failure> {
        let mut found = Found::default();
        let mut after = 0;
        loop {
            let page = reading.page(About::User, after, false).await?;
            let Some(last) = page.last() else { break };
            after = last.sequence;
            self.page(ground, reading, page, report, &mut found).await?;
        }
        Ok(found)
    }

    async fn page(
        &self,
        ground: &Ground,
        reading: &Reading,
        page: Vec<Numbered>,
        report: &mut Option<Report>,
        found: &mut Found,
    ) -> Result<(), Failure> {
        let provider = reading.kind.name;
        let mut users = Vec::new();
        for one in page {
            match one.record {
                Record::User(user) => users.push((*user, one.contested)),
                Record::Refused { .. } => found.refused += 1,
                Record::Organization(_) | Record::Member(_) | Record::Invitation(_) => {}
            }
        }
        let ids: Vec<String> = users
            .iter()
            .map(|(user, _)| user.source_id.clone())
            .collect();
        let stored = ground.target.stored(provider, &ids).await;
        let stored = stored.map_err(|error| failed(&error))?;
        let questions = crate::migration::import::target::Questions {
            provider: provider.to_owned(),
            source_ids: ids,
            ..Default::default()
        };
        let known = ground.target.look(&questions).await;
        let known = known.map_err(|error| failed(&error))?;
        let abilities = ground.target.abilities();
        let rules = reading.rules(Duplicates::Park, None, now());
        for (user, contested) in users {
            found.users += 1;
            let Some(there) = stored.get(&user.source_id) else {
                if known.parked.contains_key(&user.source_id) {
                    found.parked += 1;
                    continue;
                }
                let decided =
                    decide::decide(&user, &contested, &Facts::default(), &abilities, &rules);
                if decided.outcome == Outcome::Refused {
                    found.refused += 1;
                    continue;
                }
                found.missing += 1;
                note(found, report, &user, None, &["missing".to_owned()])?;
                continue;
            };
            if let Some(state) = there.state {
                *found.states.entry(state.as_str()).or_default() += 1;
            }
            // As it would be written, were nobody there.
            let decided = decide::decide(&user, &contested, &Facts::default(), &abilities, &rules);
            let Intent::Create(wanted) = decided.intent else {
                found.refused += 1;
                continue;
            };
            // Whoever was merged is what the other row is.
            let merged = contested.email_lost_to.is_some()
                || there.fields.get("email") != Some(&wanted.email)
                    && known.identities.contains_key(&user.source_id);
            if contested.email_lost_to.is_some() {
                found.shared += 1;
            }
            let differs = match merged && contested.email_lost_to.is_some() {
                true => Vec::new(),
                false => differences(&wanted, &user, there, ground),
            };
            // Of two rows that became one, the password of the first counts.
            if contested.email_lost_to.is_none() {
                self.hash(&user, there, found, ground);
            }
            if self.sample > found.sample.len() || drawn(found.users, self.sample) {
                let shown = side_by_side(&wanted, there);
                if found.sample.len() < self.sample {
                    found.sample.push(shown);
                } else if let Some(place) = pick(found.sample.len())
                    && let Some(slot) = found.sample.get_mut(place)
                {
                    *slot = shown;
                }
            }
            let written = there.fields.get("updatedAt").and_then(|at| at.parse().ok());
            let touched = written.is_some_and(|at: i64| {
                let came = known.identities.get(&user.source_id);
                came.is_some_and(|known| at > known.imported_at.0 + SECOND_MS)
            });
            match (differs.is_empty(), touched) {
                (true, _) => found.equal += 1,
                // They, or the app, changed it since: that is no fault of the import.
                (false, true) => found.moved_on += 1,
                (false, false) => {
                    for field in &differs {
                        *found.differences.entry(field.clone()).or_default() += 1;
                    }
                    note(found, report, &user, Some(there), &differs)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the old hash that is kept can be read, and is that of the export.
    fn hash(&self, user: &ImportedUser, there: &Stored, found: &mut Found, ground: &Ground) {
        let Some((scheme, sealed)) = &there.old else {
            return;
        };
        *found.hashes.entry(scheme.clone()).or_default() += 1;
        let opened = keeping::open(&ground.sealer.0, &there.user_id, scheme, sealed);
        let reads = opened.ok().is_some_and(|stored| {
            let ceilings = crate::migration::password::cost::Ceilings::DEFAULT;
            let same = match &user.password {
                // What is wrapped cannot be compared.
                Password::Hash {
                    stored: exported, ..
                } if !scheme.starts_with("native(") => exported.hash == stored.hash,
                Password::Hash { .. }
                | Password::None
                | Password::NotExported
                | Password::Unusable => true,
            };
            same && crate::migration::password::read(&stored, scheme, &ceilings).is_ok()
        });
        if !reads {
            found.unusable += 1;
        }
    }
}

fn drawn(users: u64, sample: usize) -> bool {
    let most = u64::try_from(sample).unwrap_or(0);
    let mut bytes = [0u8; 8];
    super::ground::random(&mut bytes);
    most > 0 && u64::from_le_bytes(bytes) % users.max(1) < most
}

fn pick(most: usize) -> Option<usize> {
    let mut bytes = [0u8; 8];
    super::ground::random(&mut bytes);
    usize::try_from(u64::from_le_bytes(bytes))
        .ok()?
        .checked_rem(most)
}

fn note(
    found: &mut Found,
    report: &mut Option<Report>,
    user: &ImportedUser,
    there: Option<&Stored>,
    fields: &[String],
) -> Result<(), Failure> {
    let row = Row {
        sequence: 0,
        kind: Kind::User,
        place: user.place.clone(),
        source_id: Some(user.source_id.clone()),
        target_id: there.map(|there| there.user_id.clone()),
        outcome: Outcome::Updated,
        reason: fields.join(","),
        detail: outcome::told(&user.notes).0,
        write: Write::Nothing,
    };
    if let Some(report) = report {
        report.row(&row)?;
    }
    if found.rows.len() < SHOWN {
        found.rows.push(row);
    }
    Ok(())
}

/// What is expected of a field, as it is read back.
fn expected(wanted: &UserWrite) -> BTreeMap<&'static str, Option<String>> {
    let (phone, phone_verified) = match &wanted.phone {
        Some((number, verified)) => (Some(number.clone()), *verified),
        None => (None, false),
    };
    let ban = wanted.ban.as_ref();
    [
        ("email", Some(wanted.email.clone())),
        ("emailVerified", Some(wanted.email_verified.to_string())),
        ("name", Some(wanted.name.clone())),
        ("image", wanted.image.clone()),
        ("username", wanted.username.clone()),
        ("displayUsername", wanted.display_username.clone()),
        ("phoneNumber", phone),
        ("phoneNumberVerified", Some(phone_verified.to_string())),
        ("banned", Some(ban.is_some().to_string())),
        ("banReason", ban.and_then(|(reason, _)| reason.clone())),
        ("role", wanted.role.clone()),
        ("isAnonymous", Some(wanted.anonymous.to_string())),
        ("metadata", wanted.metadata.clone()),
    ]
    .into()
}

fn same(field: &str, wanted: Option<&str>, there: Option<&str>) -> bool {
    let unset =
        |value: Option<&str>| value.is_none_or(|value| value.is_empty() || value == "false");
    if wanted == there || (unset(wanted) && unset(there)) {
        return true;
    }
    let json = |text: Option<&str>| {
        text.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
    };
    field == "metadata" && json(wanted).is_some() && json(wanted) == json(there)
}

/// The fields that are not as they should be.
fn differences(
    wanted: &UserWrite,
    user: &ImportedUser,
    there: &Stored,
    ground: &Ground,
) -> Vec<String> {
    let abilities = ground.target.abilities();
    let mut differs = Vec::new();
    for (field, value) in expected(wanted) {
        let has = abilities.has(&format!("user.{field}"));
        let found = there.fields.get(field).map(String::as_str);
        if has && !same(field, value.as_deref(), found) {
            differs.push(field.to_owned());
        }
    }
    let created = there
        .fields
        .get("createdAt")
        .and_then(|at| at.parse::<i64>().ok());
    if let (Some(UnixMs(wanted)), Some(found)) = (user.created_at, created)
        && (wanted - found).abs() >= SECOND_MS
    {
        differs.push("createdAt".to_owned());
    }
    for account in &wanted.ties.accounts {
        let has = |(provider, id, _): &(String, String, bool)| {
            *provider == account.provider && *id == account.account_id
        };
        if !there.accounts.iter().any(has) {
            differs.push(format!("account:{}", account.provider));
        }
    }
    // In the state in which it was imported the password is what was exported.
    let untouched = matches!(
        there.state,
        Some(State::Pending | State::Imported | State::Reset)
    );
    let made = matches!(user.password, Password::Hash { .. })
        && !prepare::is_slow(&user.password)
        && untouched;
    if matches!(user.password, Password::Hash { .. }) && untouched {
        let usable = !made || prepare::password(&user.password, [0; 16]).note.is_none();
        if usable && there.old.is_none() && there.password.is_none() {
            differs.push("password".to_owned());
        }
    }
    if user.factor.is_some() && there.factor == (false, None) {
        differs.push("secondFactor".to_owned());
    }
    differs
}

fn side_by_side(wanted: &UserWrite, there: &Stored) -> serde_json::Value {
    let fields: serde_json::Map<String, serde_json::Value> = expected(wanted)
        .into_iter()
        .map(|(field, value)| {
            let found = there.fields.get(field);
            (
                field.to_owned(),
                json!({ "source": value, "target": found }),
            )
        })
        .collect();
    let accounts: Vec<_> = there
        .accounts
        .iter()
        .map(|(provider, id, _)| json!([provider, id]))
        .collect();
    json!({
        "source_id": wanted.ties.identity.1,
        "user_id": there.user_id,
        "fields": fields,
        "accounts": accounts,
        "state": there.state.map(State::as_str),
        "old_hash": there.old.as_ref().map(|(scheme, _)| scheme),
    })
}

fn text(found: &Found) -> String {
    let mut out = format!(
        "{} users: {} equal, {} changed here since, {} parked, {} refused, {} missing\n",
        found.users, found.equal, found.moved_on, found.parked, found.refused, found.missing
    );
    for (field, count) in &found.differences {
        out.push_str(&format!("  {count:>9}  differ in {field}\n"));
    }
    for (state, count) in &found.states {
        out.push_str(&format!("  {count:>9}  are {state}\n"));
    }
    for (scheme, count) in &found.hashes {
        out.push_str(&format!("  {count:>9}  old hashes of {scheme}\n"));
    }
    if found.unusable > 0 {
        out.push_str(&format!(
            "  {:>9}  old hashes cannot be read, or are not those of the export\n",
            found.unusable
        ));
    }
    for row in &found.rows {
        out.push_str(&format!(
            "  {}:{} {}: {}\n",
            row.place.input,
            row.place.row,
            row.source_id.as_deref().unwrap_or("-"),
            row.reason
        ));
    }
    if !found.sample.is_empty() {
        out.push_str("drawn at random:\n");
    }
    for one in &found.sample {
        out.push_str(&format!("  {one}\n"));
    }
    out
}
