//! Organizations, their members and invitations, made ready to be written.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Failure;
use super::ground::failed;
use super::preparing::{Preparing, Ready};
use super::reading::Reading;
use crate::migration::import::decide;
use crate::migration::import::outcome::{self, Outcome};
use crate::migration::import::record::{
    ImportedInvitation, ImportedMember, ImportedOrganization, Note, Oddity, Place,
};
use crate::migration::import::source::About;
use crate::migration::import::target::{
    InvitationWrite, Kind, MemberWrite, OrganizationWrite, Questions, Row, Write,
};
use crate::time::UnixMs;

/// How long an invitation counts that does not say. Source: better-auth, plugins/organization, `invitationExpiresIn`.
const INVITED_MS: i64 = 48 * 3600 * 1000;

/// What they are made ready with.
pub struct Organizations<'w> {
    /// What everybody is made ready with.
    pub with: &'w Preparing<'w>,
    /// Slugs that were given in this run, for a run that writes nothing.
    pub slugs: BTreeSet<String>,
}

impl Organizations<'_> {
    /// Makes organizations ready.
    ///
    /// # Errors
    /// When the database or the spool fails.
    pub async fn organizations(
        &mut self,
        all: Vec<(u64, ImportedOrganization)>,
    ) -> Result<Vec<Ready>, Failure> {
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let provider = self.with.rules.provider.clone();
        let ids: Vec<String> = all.iter().map(|(_, of)| of.source_id.clone()).collect();
        let known = self
            .with
            .target
            .objects(Kind::Organization, &provider, &ids)
            .await;
        let known = known.map_err(|error| failed(&error))?;
        let slugs: Vec<String> = all.iter().map(|(_, of)| of.slug.clone()).collect();
        let taken = self.with.target.slugs(&slugs).await;
        let taken = taken.map_err(|error| failed(&error))?;
        let mut ready = Vec::with_capacity(all.len());
        for (sequence, of) in all {
            let mut notes = of.notes.clone();
            let came_to = if let Some(id) = known.get(&of.source_id) {
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
                let most = self.with.abilities.letters_max("organization.metadata");
                let metadata = metadata.filter(|text| text.len() <= most);
                let cut = |text: &str, column: &str| -> String {
                    text.replace('\0', "")
                        .chars()
                        .take(self.with.abilities.letters_max(column))
                        .collect()
                };
                let write = OrganizationWrite {
                    wanted_id: Some(of.source_id.clone()),
                    source_id: of.source_id.clone(),
                    name: cut(&of.name, "organization.name"),
                    slug,
                    logo: of.logo.clone(),
                    metadata,
                    created_at: of.created_at.unwrap_or(self.with.rules.at),
                };
                (Outcome::Created, None, Write::Organization(Box::new(write)))
            };
            ready.push(made(
                (sequence, Kind::Organization),
                of.place,
                of.source_id,
                &notes,
                came_to,
            ));
        }
        Ok(ready)
    }

    fn without_organizations(&self) -> Option<Note> {
        (!self.with.abilities.has("organization.id")).then(|| Note {
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
            provider: self.with.rules.provider.clone(),
            source_ids: ids.clone(),
            ..Questions::default()
        };
        let facts = self.with.look(&questions).await?;
        let known = facts.identities.into_iter();
        let mut known: BTreeMap<String, String> =
            known.map(|(id, known)| (id, known.user_id)).collect();
        if !self.with.writes {
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
        let provider = &self.with.rules.provider;
        let known = self
            .with
            .target
            .objects(Kind::Organization, provider, &ids)
            .await;
        let mut known = known.map_err(|error| failed(&error))?;
        if !self.with.writes && self.without_organizations().is_none() {
            for id in reading.has(About::Organization, &ids).await? {
                known.entry(id).or_default();
            }
        }
        Ok(known)
    }

    /// Makes members ready.
    ///
    /// # Errors
    /// When the database or the spool fails.
    pub async fn members(
        &mut self,
        reading: &mut Reading,
        all: Vec<(u64, ImportedMember)>,
    ) -> Result<Vec<Ready>, Failure> {
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let provider = self.with.rules.provider.clone();
        let ids: Vec<String> = all.iter().map(|(_, of)| of.source_id.clone()).collect();
        let known = self
            .with
            .target
            .objects(Kind::Member, &provider, &ids)
            .await;
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
        let there = self.with.target.members(&pairs).await;
        let mut there = there.map_err(|error| failed(&error))?;
        let mut ready = Vec::with_capacity(all.len());
        for (sequence, of) in all {
            let mut notes = of.notes.clone();
            let over = notes.iter().any(|note| note.what == Oddity::Over);
            let pair = organizations
                .get(&of.organization)
                .zip(users.get(&of.user))
                .map(|(organization, user)| (organization.clone(), user.clone()));
            let came_to = if let Some(id) = known.get(&of.source_id) {
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
                            created_at: of.created_at.unwrap_or(self.with.rules.at),
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
            ready.push(made(
                (sequence, Kind::Member),
                of.place,
                of.source_id,
                &notes,
                came_to,
            ));
        }
        Ok(ready)
    }

    /// Makes invitations ready.
    ///
    /// # Errors
    /// When the database or the spool fails.
    pub async fn invitations(
        &mut self,
        reading: &mut Reading,
        all: Vec<(u64, ImportedInvitation)>,
    ) -> Result<Vec<Ready>, Failure> {
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let provider = self.with.rules.provider.clone();
        let ids: Vec<String> = all.iter().map(|(_, of)| of.source_id.clone()).collect();
        let known = self
            .with
            .target
            .objects(Kind::Invitation, &provider, &ids)
            .await;
        let known = known.map_err(|error| failed(&error))?;
        let inviters = all.iter().filter_map(|(_, of)| of.inviter.clone());
        let inviters = self.users(reading, inviters.collect()).await?;
        let of = all.iter().map(|(_, of)| of.organization.clone()).collect();
        let organizations = self.organizations_of(reading, of).await?;
        let real = organizations.values().filter(|id| !id.is_empty());
        let owners = self
            .with
            .target
            .owners(&real.cloned().collect::<Vec<String>>())
            .await;
        let owners = owners.map_err(|error| failed(&error))?;
        let dry = !self.with.writes;
        let mut ready = Vec::with_capacity(all.len());
        for (sequence, of) in all {
            let mut notes = of.notes.clone();
            let organization = organizations.get(&of.organization);
            let inviter = of.inviter.as_ref().and_then(|id| inviters.get(id));
            let inviter = inviter
                .or_else(|| owners.get(organization?))
                .cloned()
                .or_else(|| dry.then(String::new));
            let came_to = if let Some(id) = known.get(&of.source_id) {
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
                let until = self.with.rules.at.0.saturating_add(INVITED_MS);
                let write = InvitationWrite {
                    source_id: of.source_id.clone(),
                    organization_id: organization.clone(),
                    email: of.email.clone(),
                    role: of.role.clone(),
                    inviter_id,
                    expires_at: of.expires_at.unwrap_or(UnixMs(until)),
                    created_at: of.created_at.unwrap_or(self.with.rules.at),
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
            ready.push(made(
                (sequence, Kind::Invitation),
                of.place,
                of.source_id,
                &notes,
                came_to,
            ));
        }
        Ok(ready)
    }
}

/// A row, with what it came to.
fn made(
    (sequence, kind): (u64, Kind),
    place: Place,
    source_id: String,
    notes: &[Note],
    (outcome, target_id, write): (Outcome, Option<String>, Write),
) -> Ready {
    let (reason, detail) = outcome::told(notes);
    Ready {
        row: Row {
            sequence,
            kind,
            place,
            source_id: Some(source_id),
            target_id,
            outcome,
            reason,
            detail,
            write,
        },
        no_column: Vec::new(),
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
