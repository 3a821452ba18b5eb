//! What is stored of people, to be held against what was exported, and against what was written.

use std::collections::btree_map::Entry;

use sha2::{Digest as _, Sha256};

use super::*;

/// Columns of users that are read back.
pub(super) const USER: [&str; 16] = [
    "user.id",
    "user.email",
    "user.emailVerified",
    "user.name",
    "user.image",
    "user.createdAt",
    "user.updatedAt",
    "user.role",
    "user.banned",
    "user.banReason",
    "user.banExpires",
    "user.twoFactorEnabled",
    "user.username",
    "user.displayUsername",
    "user.phoneNumber",
    "user.phoneNumberVerified",
];

/// Those after [`USER`].
pub(super) const MORE: [&str; 2] = ["user.isAnonymous", schema::METADATA];

const DATES: [&str; 3] = ["user.createdAt", "user.updatedAt", "user.banExpires"];

const FLAGS: [&str; 5] = [
    "user.emailVerified",
    "user.banned",
    "user.twoFactorEnabled",
    "user.phoneNumberVerified",
    "user.isAnonymous",
];

/// What tells that somebody is as they were written: dates aside, which some columns round, and metadata, which some sort.
pub(super) fn digest(
    fields: &BTreeMap<String, String>,
    accounts: &BTreeSet<(String, String, Option<String>)>,
    factors: &BTreeSet<String>,
) -> String {
    let mut told = Sha256::new();
    let mut tell = |text: &str| {
        told.update(signed(u64::try_from(text.len()).unwrap_or(0)).to_be_bytes());
        told.update(text.as_bytes());
    };
    for (name, value) in fields {
        let logical = format!("user.{name}");
        let quiet = DATES.contains(&logical.as_str()) || logical == schema::METADATA;
        // What was never set and what is not so are the same.
        let unset = value.is_empty() || (FLAGS.contains(&logical.as_str()) && value == "false");
        if !(quiet || unset || name == "id") {
            tell(name);
            tell(value);
        }
    }
    for (provider, id, password) in accounts {
        tell(provider);
        tell(id);
        tell(&password.as_deref().map(fingerprint).unwrap_or_default());
    }
    for secret in factors {
        tell(&fingerprint(secret));
    }
    let digest = told.finalize();
    data_encoding::HEXLOWER.encode(digest.get(..16).unwrap_or(&[]))
}

/// Of a secret: it is compared, and never read.
fn fingerprint(secret: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(secret.as_bytes()))
}

/// Somebody with all that a digest is made of.
#[derive(Default)]
pub(super) struct Whole {
    pub(super) stored: Stored,
    pub(super) accounts: BTreeSet<(String, String, Option<String>)>,
    pub(super) factors: BTreeSet<String>,
}

impl Whole {
    pub(super) fn digest(&self) -> String {
        digest(&self.stored.fields, &self.accounts, &self.factors)
    }

    pub(super) fn updated_at(&self) -> Option<i64> {
        self.stored.fields.get("updatedAt")?.parse().ok()
    }
}

impl<B: Backend> Store<B> {
    pub(super) async fn stored_of(
        &self,
        provider: &str,
        source_ids: &[String],
    ) -> Result<BTreeMap<String, Stored>, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin_wide(&plan, deadline).await?;
        let rows = work
            .listed(
                |asked| {
                    asked
                        .text("SELECT provider, source_user_id, user_id, state FROM ")
                        .own("legacy_identity")
                        .text(" WHERE source_user_id")
                },
                source_ids,
                |asked, id| asked.value(id),
                "",
            )
            .await?;
        let mine = rows.iter().filter(|row| cell(row, 0) == Some(provider));
        let mut whose: BTreeMap<String, (String, State)> = BTreeMap::new();
        for row in mine {
            if let (Some(source), Some(user_id)) = (cell(row, 1), cell(row, 2)) {
                let standing = state(cell(row, 3))?;
                whose.insert(source.to_owned(), (user_id.to_owned(), standing));
            }
        }
        let ids: BTreeSet<String> = whose.values().map(|(id, _)| id.clone()).collect();
        let ids: Vec<String> = ids.into_iter().collect();
        let found = work.whole(&ids).await?;
        let mut by_source = BTreeMap::new();
        for (source, (user_id, standing)) in whose {
            let Some(whole) = found.get(&user_id) else {
                continue;
            };
            let mut stored = whole.stored.clone();
            stored.state = Some(stored.state.unwrap_or(standing));
            by_source.insert(source, stored);
        }
        work.leave(by_source).await
    }
}

impl<B: Backend> Work<'_, B> {
    /// Everything of these users.
    pub(super) async fn whole(
        &mut self,
        ids: &[String],
    ) -> Result<BTreeMap<String, Whole>, Undone> {
        let mut found: BTreeMap<String, Whole> = BTreeMap::new();
        let (plan, zone) = (self.plan, self.zone);
        let columns: Vec<&str> = USER.iter().chain(&MORE).copied().collect();
        let rows = self
            .listed(
                |asked| {
                    asked
                        .text("SELECT ")
                        .shown(&columns)
                        .text(" FROM ")
                        .table("user")
                        .text(" WHERE ")
                        .column("user.id")
                },
                ids,
                |asked, id| asked.id("user.id", id),
                "",
            )
            .await?;
        for row in &rows {
            let mut whole = Whole::default();
            for (at, logical) in columns.iter().enumerate() {
                let Some(text) = cell(row, at) else { continue };
                let value = if DATES.contains(logical) {
                    let moment = record::moment(text, zone);
                    moment.map(|at| at.0.to_string())
                } else if FLAGS.contains(logical) {
                    record::truth(text).map(|flag| flag.to_string())
                } else {
                    Some(text.to_owned())
                };
                let value = value.unwrap_or_else(|| text.to_owned());
                let (_, name) = logical.split_once('.').unwrap_or_default();
                whole.stored.fields.insert(name.to_owned(), value);
            }
            whole.stored.user_id = cell(row, 0).unwrap_or_default().to_owned();
            found.insert(whole.stored.user_id.clone(), whole);
        }
        let rows = self
            .listed(
                |asked| {
                    asked
                        .text("SELECT ")
                        .shown(&[
                            "account.userId",
                            "account.providerId",
                            "account.accountId",
                            "account.password",
                        ])
                        .text(" FROM ")
                        .table("account")
                        .text(" WHERE ")
                        .column("account.userId")
                },
                ids,
                |asked, id| asked.id("account.userId", id),
                "",
            )
            .await?;
        for row in &rows {
            let Some(whole) = cell(row, 0).and_then(|id| found.get_mut(id)) else {
                continue;
            };
            let provider = cell(row, 1).unwrap_or_default().to_owned();
            let account = cell(row, 2).unwrap_or_default().to_owned();
            let password = cell(row, 3);
            if provider == CREDENTIAL && password.is_some() {
                whole.stored.password = password.map(Secret::new);
            }
            let listed = (provider.clone(), account.clone(), password.is_some());
            whole.stored.accounts.push(listed);
            let password = password.map(str::to_owned);
            whole.accounts.insert((provider, account, password));
        }
        if plan.table("twoFactor").is_some() {
            let rows = self
                .listed(
                    |asked| {
                        asked
                            .text("SELECT ")
                            .shown(&["twoFactor.userId", "twoFactor.secret"])
                            .text(" FROM ")
                            .table("twoFactor")
                            .text(" WHERE ")
                            .column("twoFactor.userId")
                    },
                    ids,
                    |asked, id| asked.id("twoFactor.userId", id),
                    "",
                )
                .await?;
            for row in &rows {
                if let Some(whole) = cell(row, 0).and_then(|id| found.get_mut(id)) {
                    whole.stored.factor.0 = true;
                    let secret = cell(row, 1).unwrap_or_default().to_owned();
                    whole.factors.insert(secret);
                }
            }
        }
        let rows = self
            .listed(
                |asked| {
                    asked
                        .text("SELECT user_id, scheme, sealed, state FROM ")
                        .own("legacy_credential")
                        .text(" WHERE user_id")
                },
                ids,
                |asked, id| asked.value(id),
                "",
            )
            .await?;
        for row in &rows {
            let Some(whole) = cell(row, 0).and_then(|id| found.get_mut(id)) else {
                continue;
            };
            whole.stored.state = Some(state(cell(row, 3))?);
            let sealed = cell(row, 2).filter(|sealed| !sealed.is_empty());
            whole.stored.old = sealed.map(|sealed| {
                let scheme = cell(row, 1).unwrap_or_default().to_owned();
                (scheme, Secret::new(sealed))
            });
        }
        let rows = self
            .listed(
                |asked| {
                    asked
                        .text("SELECT user_id, sealed FROM ")
                        .own("legacy_factor")
                        .text(" WHERE user_id")
                },
                ids,
                |asked, id| asked.value(id),
                "",
            )
            .await?;
        for row in &rows {
            if let Some(whole) = cell(row, 0).and_then(|id| found.get_mut(id)) {
                whole.stored.factor.1 = Some(cell(row, 1).is_some());
            }
        }
        Ok(found)
    }

    /// Where users stand by what is kept of them: the hash, else the identity.
    pub(super) async fn standings(
        &mut self,
        ids: &[String],
    ) -> Result<BTreeMap<String, State>, Undone> {
        let mut standings = BTreeMap::new();
        for table in ["legacy_credential", "legacy_identity"] {
            let rows = self
                .listed(
                    |asked| {
                        asked
                            .text("SELECT user_id, state FROM ")
                            .own(table)
                            .text(" WHERE user_id")
                    },
                    ids,
                    |asked, id| asked.value(id),
                    "",
                )
                .await?;
            for row in &rows {
                if let Entry::Vacant(vacant) =
                    standings.entry(cell(row, 0).unwrap_or_default().to_owned())
                {
                    vacant.insert(state(cell(row, 1))?);
                }
            }
        }
        Ok(standings)
    }
}
