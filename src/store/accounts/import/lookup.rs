//! What is there already of what a batch is about.

use super::*;
use crate::migration::import::target::{Known, Resident};

impl<B: Backend> Store<B> {
    /// Whether anybody has an account elsewhere.
    pub(super) async fn has_socials(&self, deadline: Instant) -> Result<bool, Undone> {
        let plan = self.plan(deadline).await;
        let mut work = self.begin_wide(&plan, deadline).await?;
        let asked = work
            .say()
            .text("SELECT ")
            .shown(&["account.id"])
            .text(" FROM ")
            .table("account")
            .text(" WHERE ")
            .column("account.providerId")
            .text(" <> ")
            .value(CREDENTIAL)
            .text(" LIMIT 1");
        let found = !work.rows(asked).await?.is_empty();
        work.leave(found).await
    }

    pub(super) async fn look(&self, questions: &Questions) -> Result<Facts, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin_wide(&plan, deadline).await?;
        let mut facts = Facts::default();
        let provider = questions.provider.as_str();
        let rows = work
            .listed(
                |asked| {
                    asked
                        .text("SELECT provider, source_user_id, user_id, state, ")
                        .digits("imported_at")
                        .text(" FROM ")
                        .own("legacy_identity")
                        .text(" WHERE source_user_id")
                },
                &questions.source_ids,
                |asked, id| asked.value(id),
                "",
            )
            .await?;
        for row in rows.iter().filter(|row| cell(row, 0) == Some(provider)) {
            if let (Some(source), Some(user_id)) = (cell(row, 1), cell(row, 2)) {
                let known = Known {
                    user_id: user_id.to_owned(),
                    state: state(cell(row, 3))?,
                    imported_at: UnixMs(number(row, 4)?.unwrap_or(0)),
                    updated_at: None,
                };
                facts.identities.insert(source.to_owned(), known);
            }
        }
        if questions.changes {
            let ids: BTreeSet<String> = facts
                .identities
                .values()
                .map(|known| known.user_id.clone())
                .collect();
            let ids: Vec<String> = ids.into_iter().collect();
            let found = work.whole(&ids).await?;
            for known in facts.identities.values_mut() {
                let whole = found.get(&known.user_id);
                known.updated_at = whole.and_then(|whole| whole.updated_at()).map(UnixMs);
            }
        }
        let rows = work
            .listed(
                |asked| {
                    asked
                        .text("SELECT provider, source_user_id, reason FROM ")
                        .own("migration_parked")
                        .text(" WHERE source_user_id")
                },
                &questions.source_ids,
                |asked, id| asked.value(id),
                "",
            )
            .await?;
        for row in rows.iter().filter(|row| cell(row, 0) == Some(provider)) {
            if let (Some(source), Some(reason)) = (cell(row, 1), cell(row, 2)) {
                facts.parked.insert(source.to_owned(), reason.to_owned());
            }
        }
        work.residents(provider, &questions.emails, &mut facts)
            .await?;
        for (column, values, found) in [
            ("user.username", &questions.usernames, &mut facts.usernames),
            ("user.phoneNumber", &questions.phones, &mut facts.phones),
        ] {
            if plan.column(column).is_none() {
                continue;
            }
            let rows = work
                .listed(
                    |asked| {
                        asked
                            .text("SELECT ")
                            .shown(&[column, "user.id"])
                            .text(" FROM ")
                            .table("user")
                            .text(" WHERE ")
                            .column(column)
                    },
                    values,
                    |asked, value| asked.value(value),
                    "",
                )
                .await?;
            for row in &rows {
                if let (Some(value), Some(user_id)) = (cell(row, 0), cell(row, 1)) {
                    found.insert(value.to_owned(), user_id.to_owned());
                }
            }
        }
        let ids: Vec<String> = questions.socials.iter().map(|(_, id)| id.clone()).collect();
        let rows = work
            .listed(
                |asked| {
                    asked
                        .text("SELECT ")
                        .shown(&["account.providerId", "account.accountId", "account.userId"])
                        .text(" FROM ")
                        .table("account")
                        .text(" WHERE ")
                        .column("account.accountId")
                },
                &ids,
                |asked, id| asked.id("account.accountId", id),
                "",
            )
            .await?;
        for row in &rows {
            if let (Some(of), Some(id), Some(user)) = (cell(row, 0), cell(row, 1), cell(row, 2)) {
                let key = (of.to_owned(), id.to_owned());
                facts.socials.insert(key, user.to_owned());
            }
        }
        let wanted = questions.ids.iter();
        let wanted = wanted.filter(|id| plan.may_be_id::<B>("user.id", id));
        let wanted: Vec<String> = wanted.cloned().collect();
        let rows = work
            .listed(
                |asked| {
                    asked
                        .text("SELECT ")
                        .shown(&["user.id"])
                        .text(" FROM ")
                        .table("user")
                        .text(" WHERE ")
                        .column("user.id")
                },
                &wanted,
                |asked, id| asked.id("user.id", id),
                "",
            )
            .await?;
        let ids = rows.into_iter().flatten().flatten();
        facts.ids.extend(ids);
        work.leave(facts).await
    }

    pub(super) async fn objects(
        &self,
        kind: Kind,
        provider: &str,
        source_ids: &[String],
    ) -> Result<BTreeMap<String, String>, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin_wide(&plan, deadline).await?;
        let rows = work
            .listed(
                |asked| {
                    asked
                        .text("SELECT kind, provider, source_id, target_id FROM ")
                        .own("migration_object")
                        .text(" WHERE source_id")
                },
                source_ids,
                |asked, id| asked.value(id),
                "",
            )
            .await?;
        let mut found = BTreeMap::new();
        for row in &rows {
            let same = cell(row, 0) == Some(kind.as_str()) && cell(row, 1) == Some(provider);
            if let (true, Some(source), Some(target)) = (same, cell(row, 2), cell(row, 3)) {
                found.insert(source.to_owned(), target.to_owned());
            }
        }
        work.leave(found).await
    }

    pub(super) async fn slugs(&self, slugs: &[String]) -> Result<BTreeSet<String>, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        if plan.table("organization").is_none() {
            return Ok(BTreeSet::new());
        }
        let mut work = self.begin_wide(&plan, deadline).await?;
        let rows = work
            .listed(
                |asked| {
                    asked
                        .text("SELECT ")
                        .shown(&["organization.slug"])
                        .text(" FROM ")
                        .table("organization")
                        .text(" WHERE ")
                        .column("organization.slug")
                },
                slugs,
                |asked, slug| asked.value(slug),
                "",
            )
            .await?;
        work.leave(rows.into_iter().flatten().flatten().collect())
            .await
    }

    pub(super) async fn members(
        &self,
        pairs: &[(String, String)],
    ) -> Result<BTreeSet<(String, String)>, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        if plan.table("member").is_none() {
            return Ok(BTreeSet::new());
        }
        let mut work = self.begin_wide(&plan, deadline).await?;
        let users: BTreeSet<&String> = pairs.iter().map(|(_, user)| user).collect();
        let users: Vec<String> = users.into_iter().cloned().collect();
        let rows = work
            .listed(
                |asked| {
                    asked
                        .text("SELECT ")
                        .shown(&["member.organizationId", "member.userId"])
                        .text(" FROM ")
                        .table("member")
                        .text(" WHERE ")
                        .column("member.userId")
                },
                &users,
                |asked, id| asked.id("member.userId", id),
                "",
            )
            .await?;
        let pairs = rows
            .iter()
            .filter_map(|row| Some((cell(row, 0)?.to_owned(), cell(row, 1)?.to_owned())));
        work.leave(pairs.collect()).await
    }

    pub(super) async fn owners(
        &self,
        organizations: &[String],
    ) -> Result<BTreeMap<String, String>, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        if plan.table("member").is_none() {
            return Ok(BTreeMap::new());
        }
        let mut work = self.begin_wide(&plan, deadline).await?;
        let rows = work
            .listed(
                |asked| {
                    asked
                        .text("SELECT ")
                        .shown(&["member.organizationId", "member.userId", "member.role"])
                        .text(" FROM ")
                        .table("member")
                        .text(" WHERE ")
                        .column("member.organizationId")
                },
                organizations,
                |asked, id| asked.id("member.organizationId", id),
                "",
            )
            .await?;
        let mut found: BTreeMap<String, (u8, String)> = BTreeMap::new();
        for row in &rows {
            let (Some(organization), Some(user)) = (cell(row, 0), cell(row, 1)) else {
                continue;
            };
            let roles = cell(row, 2).unwrap_or_default();
            let has = |wanted: &str| roles.split(',').any(|role| role.trim() == wanted);
            let rank = match (has("owner"), has("admin")) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => 2,
            };
            let better = (rank, user.to_owned());
            let known = found
                .entry(organization.to_owned())
                .or_insert_with(|| better.clone());
            if better < *known {
                *known = better;
            }
        }
        let owners = found.into_iter().map(|(of, (_, user))| (of, user));
        work.leave(owners.collect()).await
    }
}

impl<B: Backend> Work<'_, B> {
    /// Who has these addresses.
    async fn residents(
        &mut self,
        provider: &str,
        emails: &[String],
        facts: &mut Facts,
    ) -> Result<(), Undone> {
        let rows = self
            .listed(
                |asked| {
                    asked
                        .text("SELECT ")
                        .shown(&[
                            "user.email",
                            "user.id",
                            "user.emailVerified",
                            "user.twoFactorEnabled",
                        ])
                        .text(" FROM ")
                        .table("user")
                        .text(" WHERE ")
                        .column("user.email")
                },
                emails,
                |asked, email| asked.value(email),
                "",
            )
            .await?;
        let wanted: BTreeSet<&str> = emails.iter().map(String::as_str).collect();
        // Some collations fold case, and more.
        let same = rows
            .iter()
            .filter(|row| cell(row, 0).is_some_and(|email| wanted.contains(email)));
        let ids: Vec<String> = same
            .clone()
            .filter_map(|row| cell(row, 1).map(str::to_owned))
            .collect();
        let mut with_password: BTreeSet<String> = BTreeSet::new();
        let native = self
            .listed(
                |asked| {
                    asked
                        .text("SELECT ")
                        .shown(&["account.userId"])
                        .text(" FROM ")
                        .table("account")
                        .text(" WHERE ")
                        .column("account.password")
                        .text(" IS NOT NULL AND ")
                        .column("account.userId")
                },
                &ids,
                |asked, id| asked.id("account.userId", id),
                "",
            )
            .await?;
        with_password.extend(native.into_iter().flatten().flatten());
        let kept = self
            .listed(
                |asked| {
                    asked
                        .text("SELECT user_id FROM ")
                        .own("legacy_credential")
                        .text(" WHERE sealed <> '' AND user_id")
                },
                &ids,
                |asked, id| asked.value(id),
                "",
            )
            .await?;
        with_password.extend(kept.into_iter().flatten().flatten());
        let known = self
            .listed(
                |asked| {
                    asked
                        .text("SELECT user_id, provider, source_user_id FROM ")
                        .own("legacy_identity")
                        .text(" WHERE user_id")
                },
                &ids,
                |asked, id| asked.value(id),
                "",
            )
            .await?;
        let mut came_as: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for row in known.iter().filter(|row| cell(row, 1) == Some(provider)) {
            if let (Some(user_id), Some(source)) = (cell(row, 0), cell(row, 2)) {
                let ids = came_as.entry(user_id).or_default();
                ids.push(source.to_owned());
            }
        }
        for row in same {
            let (Some(email), Some(user_id)) = (cell(row, 0), cell(row, 1)) else {
                continue;
            };
            let flag = |at: usize| cell(row, at).and_then(record::truth).unwrap_or(false);
            let resident = Resident {
                user_id: user_id.to_owned(),
                email_verified: flag(2),
                has_password: with_password.contains(user_id),
                has_factor: flag(3),
                came_as: came_as.get(user_id).cloned().unwrap_or_default(),
            };
            facts.emails.insert(email.to_owned(), resident);
        }
        Ok(())
    }
}
