//! The way back: what a run wrote is taken out, but for what has been changed or used since.

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::stored::Whole;
use super::*;
use crate::migration::import::outcome::Outcome;

/// Dates of some columns are whole seconds.
const SECOND_MS: i64 = 1000;

/// Of what was written of something that is no user.
pub(super) fn digest_of(texts: &[&str]) -> String {
    let mut told = Sha256::new();
    for text in texts {
        told.update(signed(u64::try_from(text.len()).unwrap_or(0)).to_be_bytes());
        told.update(text.as_bytes());
    }
    let digest = told.finalize();
    data_encoding::HEXLOWER.encode(digest.get(..16).unwrap_or(&[]))
}

/// One row of a run.
struct Noted {
    cursor: Cursor,
    kind: Kind,
    outcome: Outcome,
    source_id: Option<String>,
    target_id: Option<String>,
    digest: Option<String>,
    written_at: Option<i64>,
    added: Json,
    provider: String,
}

impl Noted {
    fn word(&self, key: &str) -> Option<&str> {
        self.added.get(key).and_then(Json::as_str)
    }
}

impl<B: Backend> Store<B> {
    pub(super) async fn take_back(
        &self,
        run: u64,
        before: Option<Cursor>,
        most: usize,
        at: UnixMs,
    ) -> Result<TakenBack, Undone> {
        let mut most = most.max(1);
        loop {
            match again(|| self.take_back_some(run, before, most, at, false)).await {
                // Rows of the app refer to one of them: the fewer are tried at once, the fewer are kept for it.
                Err(Undone::Broken(broken)) if is_referred_to(&broken) && most > 1 => most /= 2,
                Err(Undone::Broken(broken)) if is_referred_to(&broken) => {
                    return again(|| self.take_back_some(run, before, 1, at, true)).await;
                }
                other => return other,
            }
        }
    }

    async fn take_back_some(
        &self,
        run: u64,
        before: Option<Cursor>,
        most: usize,
        at: UnixMs,
        is_referred_to: bool,
    ) -> Result<TakenBack, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let noted = work.noted(run, before, most).await?;
        let mut back = TakenBack {
            next: noted
                .last()
                .filter(|_| noted.len() == most)
                .map(|row| row.cursor),
            ..TakenBack::default()
        };
        if is_referred_to {
            for row in &noted {
                back.kept.push((
                    row.target_id.clone().unwrap_or_default(),
                    "rows of the app refer to it".to_owned(),
                ));
            }
            return work.leave(back).await;
        }
        // What was added to users goes before them.
        for row in &noted {
            match (row.kind, row.outcome) {
                (Kind::User, Outcome::Created) => {}
                (Kind::User, Outcome::Linked | Outcome::Merged) => {
                    work.take_ties(row, &row.added, &mut back).await?;
                }
                (Kind::User, Outcome::Updated) => work.change_back(row, at, &mut back).await?,
                (Kind::User, Outcome::Parked) => {
                    let removed = work
                        .say()
                        .text("DELETE FROM ")
                        .own("migration_parked")
                        .text(" WHERE source_user_id = ")
                        .value(row.source_id.as_deref().unwrap_or_default())
                        .text(" AND provider = ")
                        .value(&row.provider)
                        .text(" AND run = ")
                        .number(signed(run));
                    work.change(removed).await?;
                    back.removed += 1;
                }
                (Kind::Organization | Kind::Member | Kind::Invitation, Outcome::Created) => {
                    work.take_object(row, &mut back).await?;
                }
                _ => back.nothing += 1,
            }
        }
        let users: Vec<&Noted> = noted
            .iter()
            .filter(|row| row.kind == Kind::User && row.outcome == Outcome::Created)
            .collect();
        work.take_users(&users, &mut back).await?;
        work.commit().await?;
        Ok(back)
    }
}

fn is_referred_to(broken: &Broken) -> bool {
    broken.refers
}

impl<B: Backend> Work<'_, B> {
    /// Rows of a run, the last first.
    async fn noted(
        &mut self,
        run: u64,
        before: Option<Cursor>,
        most: usize,
    ) -> Result<Vec<Noted>, Undone> {
        let mut asked = self
            .say()
            .text("SELECT ")
            .digits("phase")
            .text(", ")
            .digits("sequence")
            .text(", kind, outcome, source_id, target_id, digest, ")
            .digits("written_at")
            .text(", added, (SELECT provider FROM ")
            .own("migration_run")
            .text(" r WHERE r.id = run) FROM ")
            .own("migration_row")
            .text(" WHERE run = ")
            .number(signed(run));
        if let Some(before) = before {
            asked = asked
                .text(" AND (phase < ")
                .number(i64::from(before.phase))
                .text(" OR (phase = ")
                .number(i64::from(before.phase))
                .text(" AND sequence < ")
                .number(signed(before.sequence))
                .text("))");
        }
        let row = own_tables::name::<B>("migration_row");
        let asked = asked.text(&format!(
            " ORDER BY {row}.phase DESC, {row}.sequence DESC LIMIT {most}"
        ));
        let rows = self.rows(asked).await?;
        let mut noted = Vec::with_capacity(rows.len());
        for row in &rows {
            let unknown = || Undone::schema("a row of an import has words that are none of ours");
            let text = |at: usize| cell(row, at).map(str::to_owned);
            let phase = number(row, 0)?.and_then(|phase| u8::try_from(phase).ok());
            noted.push(Noted {
                cursor: Cursor {
                    phase: phase.unwrap_or(0),
                    sequence: unsigned(number(row, 1)?),
                },
                kind: cell(row, 2).and_then(Kind::named).ok_or_else(unknown)?,
                outcome: cell(row, 3).and_then(Outcome::named).ok_or_else(unknown)?,
                source_id: text(4),
                target_id: text(5),
                digest: text(6),
                written_at: number(row, 7)?,
                added: cell(row, 8)
                    .and_then(|text| serde_json::from_str(text).ok())
                    .unwrap_or(Json::Null),
                provider: text(9).unwrap_or_default(),
            });
        }
        Ok(noted)
    }

    /// Whoever was made by the run, has not been here since, and is as they were written.
    async fn take_users(&mut self, users: &[&Noted], back: &mut TakenBack) -> Result<(), Undone> {
        let ids: Vec<String> = users
            .iter()
            .filter_map(|row| row.target_id.clone())
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        // Nobody signs in while it is looked at.
        self.listed(
            |asked| {
                asked
                    .text("SELECT ")
                    .shown(&["user.id"])
                    .text(" FROM ")
                    .table("user")
                    .text(" WHERE ")
                    .column("user.id")
            },
            &ids,
            |asked, id| asked.id("user.id", id),
            B::OWN.locked,
        )
        .await?;
        let found = self.whole(&ids).await?;
        let standings = self.standings(&ids).await?;
        let mut used: BTreeMap<String, &'static str> = BTreeMap::new();
        let apps = [
            ("session", "session.userId", "has signed in since"),
            (
                "member",
                "member.userId",
                "has become a member of an organization since",
            ),
            (
                "invitation",
                "invitation.inviterId",
                "has invited somebody since",
            ),
        ];
        for (table, column, why) in apps {
            if self.plan.table(table).is_none() {
                continue;
            }
            let rows = self
                .listed(
                    |asked| {
                        asked
                            .text("SELECT ")
                            .shown(&[column])
                            .text(" FROM ")
                            .table(table)
                            .text(" WHERE ")
                            .column(column)
                    },
                    &ids,
                    |asked, id| asked.id(column, id),
                    "",
                )
                .await?;
            used.extend(rows.into_iter().flatten().flatten().map(|id| (id, why)));
        }
        for (table, why) in [
            ("legacy_session", "has come with an old session since"),
            ("sessions_floor", "has changed the password since"),
        ] {
            let rows = self
                .listed(
                    |asked| {
                        asked
                            .text("SELECT user_id FROM ")
                            .own(table)
                            .text(" WHERE user_id")
                    },
                    &ids,
                    |asked, id| asked.value(id),
                    "",
                )
                .await?;
            used.extend(rows.into_iter().flatten().flatten().map(|id| (id, why)));
        }
        let mut gone: Vec<String> = Vec::new();
        for row in users {
            let Some(id) = &row.target_id else { continue };
            let why = match (used.get(id), found.get(id)) {
                (Some(why), _) => Some(*why),
                (None, None) => None,
                (None, Some(whole)) => changed(row, whole, standings.get(id).copied()),
            };
            match why {
                Some(why) => back.kept.push((id.clone(), why.to_owned())),
                None => {
                    gone.push(id.clone());
                    back.removed += 1;
                }
            }
        }
        self.remove_users(&gone).await
    }

    async fn remove_users(&mut self, ids: &[String]) -> Result<(), Undone> {
        for (table, column) in [
            ("twoFactor", "twoFactor.userId"),
            ("account", "account.userId"),
            ("user", "user.id"),
        ] {
            if self.plan.table(table).is_none() {
                continue;
            }
            self.change_listed(
                |asked| {
                    asked
                        .text("DELETE FROM ")
                        .table(table)
                        .text(" WHERE ")
                        .column(column)
                },
                ids,
                |asked, id| asked.id(column, id),
            )
            .await?;
        }
        for table in ["legacy_factor", "legacy_credential", "legacy_identity"] {
            self.change_listed(
                |asked| asked.text("DELETE FROM ").own(table).text(" WHERE user_id"),
                ids,
                |asked, id| asked.value(id),
            )
            .await?;
        }
        Ok(())
    }

    /// What was added to somebody who was here before.
    async fn take_ties(
        &mut self,
        row: &Noted,
        added: &Json,
        back: &mut TakenBack,
    ) -> Result<(), Undone> {
        let Some(user_id) = row.target_id.as_deref() else {
            back.nothing += 1;
            return Ok(());
        };
        if !self.lock(user_id).await? {
            back.nothing += 1;
            return Ok(());
        }
        let standing = self.standing(user_id).await?;
        let before = added
            .get("state")
            .and_then(Json::as_str)
            .and_then(State::named);
        if standing.is_some() && standing != before {
            let why = "has signed in, or was moved on, since".to_owned();
            back.kept.push((user_id.to_owned(), why));
            return Ok(());
        }
        let accounts = added.get("accounts").and_then(Json::as_array);
        let accounts = accounts.into_iter().flatten().filter_map(Json::as_str);
        for (table, column, id) in accounts.map(|id| ("account", "account.id", id)).chain(
            added
                .get("factor")
                .and_then(Json::as_str)
                .map(|id| ("twoFactor", "twoFactor.id", id)),
        ) {
            let removed = self
                .say()
                .text("DELETE FROM ")
                .table(table)
                .text(" WHERE ")
                .column(column)
                .text(" = ")
                .id(column, id);
            self.change(removed).await?;
        }
        let is = |key: &str| added.get(key).and_then(Json::as_bool).unwrap_or(false);
        if added.get("factor").is_some() {
            let removed = self
                .say()
                .text("DELETE FROM ")
                .own("legacy_factor")
                .text(" WHERE user_id = ")
                .value(user_id);
            self.change(removed).await?;
            if self.plan.column("user.twoFactorEnabled").is_some() {
                let off = self
                    .say()
                    .text("UPDATE ")
                    .table("user")
                    .text(" SET ")
                    .column("user.twoFactorEnabled")
                    .text(" = ")
                    .flag("user.twoFactorEnabled", false)
                    .text(" WHERE ")
                    .column("user.id")
                    .text(" = ")
                    .id("user.id", user_id);
                self.change(off).await?;
            }
        }
        if is("credential") {
            let removed = self
                .say()
                .text("DELETE FROM ")
                .own("legacy_credential")
                .text(" WHERE user_id = ")
                .value(user_id);
            self.change(removed).await?;
        }
        if is("identity") {
            let removed = self
                .say()
                .text("DELETE FROM ")
                .own("legacy_identity")
                .text(" WHERE provider = ")
                .value(&row.provider)
                .text(" AND source_user_id = ")
                .value(row.source_id.as_deref().unwrap_or_default());
            self.change(removed).await?;
        }
        back.removed += 1;
        Ok(())
    }

    /// What a delta run changed becomes what it was.
    async fn change_back(
        &mut self,
        row: &Noted,
        at: UnixMs,
        back: &mut TakenBack,
    ) -> Result<(), Undone> {
        let Some(user_id) = row.target_id.as_deref() else {
            return Ok(());
        };
        if !self.lock(user_id).await? {
            back.nothing += 1;
            return Ok(());
        }
        let found = self.whole(&[user_id.to_owned()]).await?.remove(user_id);
        let now = found.unwrap_or_default();
        // Metadata is in no digest: who changed that alone shows by the date.
        if moved(row, &now) || row.digest.as_deref() != Some(now.digest().as_str()) {
            let why = "has been changed since".to_owned();
            back.kept.push((user_id.to_owned(), why));
            return Ok(());
        }
        let before = row.added.get("before").and_then(Json::as_object);
        let mut written = self.say().text("UPDATE ").table("user").text(" SET ");
        let mut first = true;
        for (name, value) in before.into_iter().flatten() {
            if schema::METADATA.strip_prefix("user.") == Some(name) {
                let column = row.added.get("metadata_column");
                let word = |at: usize| column.and_then(|column| column.get(at)?.as_str());
                if let (Some(column), Some(kind)) = (word(0), word(1)) {
                    written = written
                        .text(if first { "" } else { ", " })
                        .text(&B::DIALECT.name(column))
                        .text(" = ");
                    first = false;
                    written = match value.as_str() {
                        Some(text) => written.text_of_kind(kind, text),
                        None => written.text("NULL"),
                    };
                }
                continue;
            }
            let logical = super::stored::USER
                .iter()
                .chain(&super::stored::MORE)
                .find(|logical| logical.strip_prefix("user.") == Some(name));
            let Some(logical) = logical.filter(|logical| self.plan.column(logical).is_some())
            else {
                continue;
            };
            written = written
                .text(if first { "" } else { ", " })
                .column(logical)
                .text(" = ");
            first = false;
            written = match (value.as_str(), *logical) {
                (None, _) => written.text("NULL"),
                (Some(text), "user.createdAt" | "user.updatedAt" | "user.banExpires") => {
                    let moment = text.parse().map_or(at, UnixMs);
                    written.date(logical, moment)
                }
                (Some(text @ ("true" | "false")), logical)
                    if logical.ends_with("erified")
                        || logical == "user.banned"
                        || logical.ends_with("Enabled") =>
                {
                    written.flag(logical, text == "true")
                }
                (Some(text), logical) => written.put(logical, &Value::Text(text)),
            };
        }
        let written = written
            .text(" WHERE ")
            .column("user.id")
            .text(" = ")
            .id("user.id", user_id);
        if !first {
            self.change(written).await?;
        }
        let ties = row.added.get("ties").cloned().unwrap_or(Json::Null);
        self.take_ties(row, &ties, back).await?;
        for (key, why) in [
            (
                "newer_hash",
                "keeps the newer hash of the old password: the one before is gone",
            ),
            (
                "lost_metadata",
                "keeps the newer metadata: those before were too much to be kept",
            ),
        ] {
            if row.added.get(key).and_then(Json::as_bool) == Some(true) {
                back.kept.push((user_id.to_owned(), why.to_owned()));
            }
        }
        let lost = row.added.get("lost").and_then(Json::as_array);
        for name in lost.into_iter().flatten().filter_map(Json::as_str) {
            let why = format!("keeps the newer {name}: the one before was too much to be kept");
            back.kept.push((user_id.to_owned(), why));
        }
        Ok(())
    }

    async fn take_object(&mut self, row: &Noted, back: &mut TakenBack) -> Result<(), Undone> {
        let Some(id) = row.target_id.as_deref() else {
            return Ok(());
        };
        let (table, id_column, shown): (_, _, &[&str]) = match row.kind {
            Kind::Organization => (
                "organization",
                "organization.id",
                &["organization.name", "organization.slug"],
            ),
            Kind::Member => ("member", "member.id", &["member.role"]),
            Kind::Invitation | Kind::User | Kind::Unreadable => {
                ("invitation", "invitation.id", &["invitation.status"])
            }
        };
        if self.plan.table(table).is_none() {
            back.nothing += 1;
            return Ok(());
        }
        let asked = self
            .say()
            .text("SELECT ")
            .shown(shown)
            .text(" FROM ")
            .table(table)
            .text(" WHERE ")
            .column(id_column)
            .text(" = ")
            .id(id_column, id)
            .text(B::OWN.locked);
        let found = self.rows(asked).await?;
        if let Some(found) = found.first() {
            let texts: Vec<&str> = (0..shown.len())
                .map(|at| cell(found, at).unwrap_or_default())
                .collect();
            let mut why = (row.digest.as_deref() != Some(digest_of(&texts).as_str()))
                .then_some("has been changed since");
            if row.kind == Kind::Organization {
                for (table, column) in [
                    ("member", "member.organizationId"),
                    ("invitation", "invitation.organizationId"),
                ] {
                    let asked = self
                        .say()
                        .text("SELECT ")
                        .shown(&[column])
                        .text(" FROM ")
                        .table(table)
                        .text(" WHERE ")
                        .column(column)
                        .text(" = ")
                        .id(column, id)
                        .text(" LIMIT 1");
                    if !self.rows(asked).await?.is_empty() {
                        why = Some("has members or invitations that came since");
                    }
                }
            }
            if row.kind == Kind::Member && self.plan.table("session").is_some() {
                // Whoever is here stays a member.
                let asked = self
                    .say()
                    .text("SELECT ")
                    .shown(&["session.userId"])
                    .text(" FROM ")
                    .table("session")
                    .text(" WHERE ")
                    .column("session.userId")
                    .text(" IN (SELECT ")
                    .column("member.userId")
                    .text(" FROM ")
                    .table("member")
                    .text(" WHERE ")
                    .column(id_column)
                    .text(" = ")
                    .id(id_column, id)
                    .text(") LIMIT 1");
                if !self.rows(asked).await?.is_empty() {
                    why = why.or(Some("is of a user who has signed in since"));
                }
            }
            if let Some(why) = why {
                back.kept.push((id.to_owned(), why.to_owned()));
                return Ok(());
            }
            let removed = self
                .say()
                .text("DELETE FROM ")
                .table(table)
                .text(" WHERE ")
                .column(id_column)
                .text(" = ")
                .id(id_column, id);
            self.change(removed).await?;
        }
        let forgotten = self
            .say()
            .text("DELETE FROM ")
            .own("migration_object")
            .text(" WHERE kind = ")
            .value(row.kind.as_str())
            .text(" AND provider = ")
            .value(&row.provider)
            .text(" AND source_id = ")
            .value(row.source_id.as_deref().unwrap_or_default());
        self.change(forgotten).await?;
        back.removed += 1;
        Ok(())
    }
}

/// What has become of somebody since they were written.
fn changed(row: &Noted, whole: &Whole, standing: Option<State>) -> Option<&'static str> {
    let before = row.word("state").and_then(State::named);
    if standing != before {
        return Some("has signed in, or was moved on, since");
    }
    let same = row.digest.as_deref() == Some(whole.digest().as_str());
    (moved(row, whole) || !same).then_some("has been changed since")
}

/// Whether the date of the last change is another than was written.
fn moved(row: &Noted, whole: &Whole) -> bool {
    match (row.written_at, whole.updated_at()) {
        (Some(written), Some(now)) => (now - written).abs() >= SECOND_MS,
        _ => false,
    }
}
