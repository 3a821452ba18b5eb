//! One batch, in one transaction.

use serde_json::json;

use super::super::people::ISSUER;
use super::super::standing::stand_in;
use super::stored::{MORE, USER, digest};
use super::*;
use crate::migration::import::outcome::Outcome;
use crate::migration::import::target::{
    AccountWrite, Change, FactorWrite, InvitationWrite, Joining, MemberWrite, OrganizationWrite,
    Parked, PasswordWrite, Ties, UserWrite, Write,
};

/// Dates of some columns are whole seconds, and some databases round to them: what is written of ours is none that can be rounded up, or
/// a password would seem to have been changed after it came.
const SECOND_MS: i64 = 1000;

/// What stood in the columns of a changed user, in bytes as it is written: more is not kept for the way back. The text column it is noted
/// in holds 64 KiB on MySQL, and what was added to the user stands there too.
const BEFORE_KEPT_MAX: usize = 48 * 1024;

/// Longest detail of a row, in bytes: it stands in a text column that holds 64 KiB on MySQL, and who refuses a row must be able to say so.
const DETAIL_BYTES_MAX: usize = 4 * 1024;

const ACCOUNT: [&str; 13] = [
    "account.id",
    "account.accountId",
    "account.providerId",
    "account.userId",
    "account.issuer",
    "account.password",
    "account.accessToken",
    "account.refreshToken",
    "account.idToken",
    "account.accessTokenExpiresAt",
    "account.scope",
    "account.createdAt",
    "account.updatedAt",
];

const FACTOR: [&str; 6] = [
    "twoFactor.id",
    "twoFactor.userId",
    "twoFactor.secret",
    "twoFactor.backupCodes",
    "twoFactor.verified",
    "twoFactor.failedVerificationCount",
];

const ROW: [&str; 14] = [
    "run",
    "phase",
    "sequence",
    "kind",
    "input",
    "line",
    "source_id",
    "target_id",
    "outcome",
    "reason",
    "detail",
    "digest",
    "written_at",
    "added",
];

/// `account.issuer` of an account elsewhere, where there is such a column. Source: better-auth 1.7.0 to 1.7.2.
fn issuer(provider: &str) -> String {
    match provider {
        "google" => "https://accounts.google.com".to_owned(),
        other => format!("local:oauth:{}", in_component(other)),
    }
}

/// As `encodeURIComponent` writes it.
fn in_component(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte);
        match plain {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What writing a row left behind.
#[derive(Default)]
struct Left {
    target_id: Option<String>,
    digest: Option<String>,
    written_at: Option<i64>,
    added: Option<String>,
}

impl<B: Backend> Store<B> {
    pub(super) async fn write_batch(&self, batch: &Batch, seal: &dyn Seal) -> Result<(), Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        if let Some(unhurried) = B::OWN.unhurried {
            // A batch that a failing server forgets is written again: the cursor is forgotten with it. That all is done is said by a
            // transaction that waits for itself and for everything before it.
            work.change(work.say().text(unhurried)).await?;
        }
        work.fence(&batch.holder).await?;
        let at = UnixMs(batch.at.0 - batch.at.0.rem_euclid(SECOND_MS));
        let users: Vec<&UserWrite> = batch
            .rows
            .iter()
            .filter_map(|row| match &row.write {
                Write::User(user) => Some(&**user),
                _ => None,
            })
            .collect();
        let mut made = work.add_users(&users, seal, at).await?.into_iter();
        let mut rows = own_rows::<B>("migration_row", &ROW);
        for row in &batch.rows {
            let left = match &row.write {
                Write::Nothing => Left {
                    target_id: row.target_id.clone(),
                    ..Left::default()
                },
                Write::User(_) => made.next().unwrap_or_default(),
                Write::Join(joining) => work.join(joining, seal, at).await?,
                Write::Change(change) => work.change_user(change, seal, at).await?,
                Write::Park(parked) => work.park(parked, batch.run, at).await?,
                Write::Organization(organization) => {
                    work.add_organization(organization, batch, at).await?
                }
                Write::Member(member) => work.add_member(member, batch).await?,
                Write::Invitation(invitation) => work.add_invitation(invitation, batch).await?,
            };
            // A run over what is there already leaves no rows, only counts.
            if matches!(row.outcome, Outcome::Unchanged | Outcome::Skipped) {
                continue;
            }
            rows.rows.push(vec![
                Parameter::Number(signed(batch.run)),
                Parameter::Number(i64::from(batch.cursor.phase)),
                Parameter::Number(signed(row.sequence)),
                text(row.kind.as_str()),
                text(&short(&row.place.input)),
                Parameter::Number(signed(row.place.row)),
                maybe_text(row.source_id.as_deref().map(short).as_deref()),
                maybe_text(left.target_id.as_deref()),
                text(row.outcome.as_str()),
                text(&row.reason),
                text(&cut(&row.detail, DETAIL_BYTES_MAX)),
                maybe_text(left.digest.as_deref()),
                maybe_number(left.written_at),
                maybe_text(left.added.as_deref()),
            ]);
        }
        work.insert(&rows).await?;
        let gone_on = work
            .say()
            .text("UPDATE ")
            .own("migration_run")
            .text(" SET phase = ")
            .number(i64::from(batch.cursor.phase))
            .text(", sequence = ")
            .number(signed(batch.cursor.sequence))
            .text(", tally = ")
            .value(&batch.tally.written())
            .text(" WHERE id = ")
            .number(signed(batch.run))
            .text(" AND phase = ")
            .number(i64::from(batch.before.phase))
            .text(" AND sequence = ")
            .number(signed(batch.before.sequence));
        if work.change(gone_on).await? != 1 {
            // After a failure a server may stand where it stood before what it said was done; so may the one that takes its place.
            return Err(Undone::Broken(Broken::because(
                Fault::Denied,
                "the database does not stand where the last batch left off",
            )));
        }
        work.commit().await?;
        Ok(())
    }
}

/// What a key holds of a text that is only told.
fn short(text: &str) -> String {
    cut(text, KEY_LETTERS_MAX)
}

/// As much of a text as is at most so many bytes, in whole letters, without those that some databases do not take.
fn cut(text: &str, most: usize) -> String {
    let plain = text.chars().filter(|letter| *letter != '\0');
    let mut out = String::new();
    for letter in plain {
        if out.len() + letter.len_utf8() > most {
            break;
        }
        out.push(letter);
    }
    out
}

/// What stood in columns, by their names, as far as there is room for it, and the names of those for which there is none. The short ones
/// come first: no picture pushes out an address.
fn kept<'f>(
    mut before: Vec<(&'f str, Option<&'f String>)>,
    most: usize,
) -> (BTreeMap<&'f str, Option<&'f String>>, Vec<&'f str>) {
    // As it is written: quoting one letter may take six.
    let bytes = |value: Option<&String>| value.map_or(0, |text| json!(text).to_string().len());
    before.sort_by_cached_key(|(name, value)| (bytes(*value), *name));
    let (mut kept, mut lost) = (BTreeMap::new(), Vec::new());
    let mut sum = 0_usize;
    for (name, value) in before {
        sum = sum.saturating_add(bytes(value));
        match sum > most {
            true => lost.push(name),
            false => {
                kept.insert(name, value);
            }
        }
    }
    (kept, lost)
}

/// What a user is, in the columns of [`USER`] and [`MORE`].
fn values_of<'u>(user: &'u UserWrite, id: Option<&'u str>) -> Vec<Option<Value<'u>>> {
    let ban = user.ban.as_ref();
    let phone = user.phone.as_ref();
    let flag = |flag: bool| Some(Value::Flag(flag));
    let text = |text: &'u Option<String>| text.as_deref().map(Value::Text);
    vec![
        id.map(Value::Id),
        Some(Value::Text(&user.email)),
        flag(user.email_verified),
        Some(Value::Text(&user.name)),
        text(&user.image),
        Some(Value::Date(user.created_at)),
        Some(Value::Date(user.updated_at)),
        text(&user.role),
        flag(ban.is_some()),
        ban.and_then(|(reason, _)| reason.as_deref())
            .map(Value::Text),
        ban.and_then(|(_, until)| *until).map(Value::Date),
        flag(user.ties.factor.is_some()),
        text(&user.username),
        text(&user.display_username),
        phone.map(|(number, _)| Value::Text(number)),
        flag(phone.is_some_and(|(_, verified)| *verified)),
        flag(user.anonymous),
        text(&user.metadata),
    ]
}

/// What a user is, as it is read back.
fn told_of(plan: &Plan, user: &UserWrite) -> BTreeMap<String, String> {
    let columns = USER.iter().chain(&MORE);
    let values = columns.zip(values_of(user, None));
    let there = values.filter(|(logical, _)| plan.column(logical).is_some());
    let told = there.filter_map(|(logical, value)| {
        let (_, name) = logical.split_once('.').unwrap_or_default();
        let value = match value? {
            Value::Text(text) | Value::Id(text) => text.to_owned(),
            Value::Secret(secret) => secret.expose().to_owned(),
            Value::Flag(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Date(at) => at.0.to_string(),
        };
        Some((name.to_owned(), value))
    });
    told.collect()
}

impl<B: Backend> Work<'_, B> {
    /// Ids for new rows of a table; none where the database counts.
    fn new_id(&self, table: &str) -> Option<String> {
        match self.plan.ids(table) {
            Ids::Database => None,
            Ids::Uuid => Some(uuid::Uuid::new_v4().to_string()),
            Ids::Letters => Some(letters()),
        }
    }

    /// The id of a new user, in the spelling in which it comes back.
    fn user_id(&self, wanted: Option<&str>) -> Option<String> {
        match wanted.and_then(|wanted| self.plan.wanted_id(wanted)) {
            Some(wanted) if self.plan.kind("user.id") == "uuid" => {
                Some(wanted.to_ascii_lowercase())
            }
            Some(wanted) => Some(wanted.to_owned()),
            None => self.new_id("user"),
        }
    }

    async fn add_users(
        &mut self,
        users: &[&UserWrite],
        seal: &dyn Seal,
        at: UnixMs,
    ) -> Result<Vec<Left>, Undone> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let (plan, zone) = (self.plan, self.zone);
        let columns: Vec<&'static str> = USER.iter().chain(&MORE).copied().collect();
        let mut ids: Vec<Option<String>> = users
            .iter()
            .map(|user| self.user_id(user.wanted_id.as_deref()))
            .collect();
        let counted = plan.ids("user") == Ids::Database;
        let named = match counted {
            true => columns.get(1..).unwrap_or_default(),
            false => &columns,
        };
        let mut adding = Adding::<B>::new(plan, zone, "user", named);
        for (user, id) in users.iter().zip(&ids) {
            let values = values_of(user, id.as_deref());
            let values = if counted {
                values.get(1..)
            } else {
                Some(&*values)
            };
            adding.add(values.unwrap_or_default());
        }
        self.insert(&adding.rows).await?;
        if counted {
            let emails: Vec<String> = users.iter().map(|user| user.email.clone()).collect();
            let rows = self
                .listed(
                    |asked| {
                        asked
                            .text("SELECT ")
                            .shown(&["user.email", "user.id"])
                            .text(" FROM ")
                            .table("user")
                            .text(" WHERE ")
                            .column("user.email")
                    },
                    &emails,
                    |asked, email| asked.value(email),
                    "",
                )
                .await?;
            let by_email: BTreeMap<&str, &str> = rows
                .iter()
                .filter_map(|row| Some((cell(row, 0)?, cell(row, 1)?)))
                .collect();
            for (user, id) in users.iter().zip(&mut ids) {
                *id = by_email.get(user.email.as_str()).map(|id| (*id).to_owned());
            }
        }
        let mut of_ties = OfTies::new(self);
        let mut left = Vec::with_capacity(users.len());
        for (user, id) in users.iter().zip(ids) {
            let id = id.ok_or_else(|| Undone::schema("the database gave a new row no id"))?;
            let (accounts, factors) = of_ties.add(self, &user.ties, &id, seal, at);
            left.push(Left {
                digest: Some(digest(&told_of(plan, user), &accounts, &factors)),
                written_at: plan.column("user.updatedAt").map(|_| user.updated_at.0),
                added: Some(json!({ "state": user.ties.state.as_str() }).to_string()),
                target_id: Some(id),
            });
        }
        of_ties.write(self).await?;
        Ok(left)
    }

    /// More for somebody who is here. What they have here already stays.
    async fn join(
        &mut self,
        joining: &Joining,
        seal: &dyn Seal,
        at: UnixMs,
    ) -> Result<Left, Undone> {
        let user_id = joining.user_id.as_str();
        if !self.lock(user_id).await? {
            return Err(Undone::schema("a user is gone who was to get more"));
        }
        let added = self.add_ties(user_id, &joining.ties, seal, at).await?;
        Ok(Left {
            target_id: Some(user_id.to_owned()),
            added: Some(added.to_string()),
            ..Left::default()
        })
    }

    /// What ties somebody to the old system, without what is there. Gives what was added.
    async fn add_ties(
        &mut self,
        user_id: &str,
        ties: &Ties,
        seal: &dyn Seal,
        at: UnixMs,
    ) -> Result<serde_json::Value, Undone> {
        let before = self.whole(&[user_id.to_owned()]).await?.remove(user_id);
        let before = before.unwrap_or_default();
        let standing = self.standing(user_id).await?;
        let mut added = serde_json::Map::new();
        let mut accounts = Vec::new();
        for account in &ties.accounts {
            let has = |(provider, id, _): &(String, String, bool)| {
                *provider == account.provider && *id == account.account_id
            };
            if !before.stored.accounts.iter().any(has) {
                accounts.push(self.add_account(user_id, account, at).await?);
            }
        }
        let signs_in = before.stored.password.is_some() || before.stored.old.is_some();
        match &ties.password {
            // Nobody's own password is ever written over.
            _ if signs_in => {}
            PasswordWrite::None => {}
            PasswordWrite::Native(native) => {
                let values = vec![
                    ("account.accountId", Value::Id(user_id)),
                    ("account.providerId", Value::Text(CREDENTIAL)),
                    ("account.userId", Value::Id(user_id)),
                    ("account.password", Value::Secret(native)),
                    ("account.issuer", Value::Text(ISSUER)),
                    ("account.createdAt", Value::Date(at)),
                    ("account.updatedAt", Value::Date(at)),
                ];
                let there = before.stored.accounts.iter();
                // One without a password is the app's to fill.
                if !there.clone().any(|(provider, ..)| provider == CREDENTIAL) {
                    let id = self
                        .insert_with_id("account", None, values, "account.id")
                        .await?;
                    accounts.push(id);
                }
            }
            PasswordWrite::Old {
                scheme,
                text,
                exported_at,
            } => {
                let old = OldCredential {
                    scheme: scheme.clone(),
                    sealed: seal.hash(user_id, &text.0),
                    state: ties.state,
                    exported_at: *exported_at,
                };
                self.put_credential(user_id, &old, at).await?;
                added.insert("credential".to_owned(), true.into());
            }
        }
        if let Some(factor) = &ties.factor
            && before.stored.factor == (false, None)
            && self.plan.table("twoFactor").is_some()
        {
            let id = self.add_factor(user_id, factor, seal, at).await?;
            added.insert("factor".to_owned(), id.into());
        }
        added.insert("accounts".to_owned(), accounts.into());
        // Whoever has a password here needs none of the old system's.
        let own = signs_in && standing.is_none();
        let standing = match (standing, own) {
            (Some(standing), _) => standing,
            (None, true) => State::Done,
            (None, false) => ties.state,
        };
        let (provider, source) = (&ties.identity.0, &ties.identity.1);
        let new = self
            .add_identity(user_id, provider, source, standing, at)
            .await?;
        added.insert("identity".to_owned(), new.into());
        added.insert("state".to_owned(), standing.as_str().into());
        Ok(added.into())
    }

    async fn add_account(
        &mut self,
        user_id: &str,
        account: &AccountWrite,
        at: UnixMs,
    ) -> Result<String, Undone> {
        let issuer = issuer(&account.provider);
        let mut values = vec![
            ("account.accountId", Value::Text(&account.account_id)),
            ("account.providerId", Value::Text(&account.provider)),
            ("account.userId", Value::Id(user_id)),
            ("account.issuer", Value::Text(&issuer)),
            ("account.createdAt", Value::Date(at)),
            ("account.updatedAt", Value::Date(at)),
        ];
        for (column, secret) in [
            ("account.accessToken", &account.access_token),
            ("account.refreshToken", &account.refresh_token),
            ("account.idToken", &account.id_token),
        ] {
            values.extend(
                secret
                    .as_ref()
                    .map(|secret| (column, Value::Secret(secret))),
            );
        }
        if let Some(scope) = &account.scope {
            values.push(("account.scope", Value::Text(scope)));
        }
        if let Some(until) = account.access_token_expires_at {
            values.push(("account.accessTokenExpiresAt", Value::Date(until)));
        }
        self.insert_with_id("account", None, values, "account.id")
            .await
    }

    async fn add_factor(
        &mut self,
        user_id: &str,
        factor: &FactorWrite,
        seal: &dyn Seal,
        at: UnixMs,
    ) -> Result<String, Undone> {
        let values = vec![
            ("twoFactor.userId", Value::Id(user_id)),
            ("twoFactor.secret", Value::Secret(&factor.secret)),
            ("twoFactor.backupCodes", Value::Secret(&factor.backup_codes)),
            ("twoFactor.verified", Value::Flag(true)),
            ("twoFactor.failedVerificationCount", Value::Number(0)),
        ];
        let id = self
            .insert_with_id("twoFactor", None, values, "twoFactor.id")
            .await?;
        if factor.kept_here {
            let kept = OldFactor {
                sealed: factor.key.as_ref().map(|key| seal.factor(user_id, &key.0)),
                digits: factor.digits,
                period: factor.period,
                algorithm: factor.algorithm.clone(),
                last_step: None,
                native: None,
            };
            let stands = stand_in(&factor.secret);
            self.put_factor(user_id, &kept, Some(&stands), at).await?;
        }
        let enabled = self
            .say()
            .text("UPDATE ")
            .table("user")
            .text(" SET ")
            .column("user.twoFactorEnabled")
            .text(" = ")
            .flag("user.twoFactorEnabled", true)
            .text(" WHERE ")
            .column("user.id")
            .text(" = ")
            .id("user.id", user_id);
        if self.plan.column("user.twoFactorEnabled").is_some() {
            self.change(enabled).await?;
        }
        Ok(id)
    }

    /// What has changed in the old system since.
    async fn change_user(
        &mut self,
        change: &Change,
        seal: &dyn Seal,
        at: UnixMs,
    ) -> Result<Left, Undone> {
        let (user_id, plan) = (change.user_id.as_str(), self.plan);
        if !self.lock(user_id).await? {
            return Err(Undone::schema("a user is gone who was to be changed"));
        }
        let before = self.whole(&[user_id.to_owned()]).await?.remove(user_id);
        let before = before.unwrap_or_default();
        let columns = USER.iter().chain(&MORE);
        let values = columns.zip(values_of(&change.user, None));
        let wanted = values.filter(|(logical, _)| {
            change.columns.contains(logical) && plan.column(logical).is_some()
        });
        let mut written = self.say().text("UPDATE ").table("user").text(" SET ");
        let mut first = true;
        for (logical, value) in wanted {
            written = written
                .text(if first { "" } else { ", " })
                .column(logical)
                .text(" = ");
            written = match value {
                Some(value) => written.put(logical, &value),
                None => written.text("NULL"),
            };
            first = false;
        }
        let written = written
            .text(" WHERE ")
            .column("user.id")
            .text(" = ")
            .id("user.id", user_id);
        if !first {
            self.change(written).await?;
        }
        // A newer hash replaces one that nobody has signed in with.
        let standing = self.standing(user_id).await?;
        let untried = standing.is_some_and(|now| {
            matches!(
                now,
                State::Imported | State::Pending | State::Reset | State::ResetSent
            )
        });
        let mut ties = change.user.ties.clone();
        let mut has_newer_hash = false;
        if let (
            PasswordWrite::Old {
                scheme,
                text,
                exported_at,
            },
            true,
        ) = (&ties.password, untried)
            && before.stored.password.is_none()
        {
            let old = OldCredential {
                scheme: scheme.clone(),
                sealed: seal.hash(user_id, &text.0),
                state: State::Pending,
                exported_at: *exported_at,
            };
            self.put_credential(user_id, &old, at).await?;
            has_newer_hash = before.stored.old.is_some();
            if standing.is_some_and(|now| now.may_become(State::Pending)) {
                self.move_to(user_id, State::Pending, at).await?;
            }
            ties.password = PasswordWrite::None;
        }
        let added = self.add_ties(user_id, &ties, seal, at).await?;
        let after = self.whole(&[user_id.to_owned()]).await?.remove(user_id);
        let after = after.unwrap_or_default();
        let told = change.columns.iter().filter_map(|logical| {
            let (_, name) = logical.split_once('.')?;
            Some((name, before.stored.fields.get(name)))
        });
        let (told, mut lost) = kept(told.collect(), BEFORE_KEPT_MAX);
        let metadata = schema::METADATA.split_once('.').map(|(_, name)| name);
        let all = lost.len();
        lost.retain(|name| Some(*name) != metadata);
        let has_lost_metadata = lost.len() < all;
        // Whoever takes it back may not know where metadata were written.
        let column = plan.column(schema::METADATA);
        let column = column.map(|column| (&column.name, &column.kind));
        let added = json!({ "before": told, "ties": added, "newer_hash": has_newer_hash, "lost_metadata": has_lost_metadata,
            "lost": lost, "metadata_column": column });
        Ok(Left {
            target_id: Some(user_id.to_owned()),
            digest: Some(after.digest()),
            written_at: after.updated_at(),
            added: Some(added.to_string()),
        })
    }

    async fn park(&mut self, parked: &Parked, run: u64, at: UnixMs) -> Result<Left, Undone> {
        keys(&[&parked.provider, &parked.source_id])?;
        let replaced = self
            .say()
            .text("DELETE FROM ")
            .own("migration_parked")
            .text(" WHERE source_user_id = ")
            .value(&parked.source_id)
            .text(" AND provider = ")
            .value(&parked.provider);
        self.change(replaced).await?;
        let mut rows = own_rows::<B>(
            "migration_parked",
            &[
                "provider",
                "source_user_id",
                "email",
                "user_id",
                "reason",
                "profile",
                "scheme",
                "sealed",
                "run",
                "parked_at",
            ],
        );
        let email = parked.email.as_deref().map(short);
        let (scheme, sealed) = match &parked.hash {
            Some((scheme, sealed)) => (Some(scheme.as_str()), Some(sealed.expose())),
            None => (None, None),
        };
        rows.rows.push(vec![
            text(&parked.provider),
            text(&parked.source_id),
            maybe_text(email.as_deref()),
            maybe_text(parked.user_id.as_deref()),
            text(&parked.reason),
            text(parked.profile.expose()),
            maybe_text(scheme),
            maybe_text(sealed),
            Parameter::Number(signed(run)),
            Parameter::Number(at.0),
        ]);
        self.insert(&rows).await?;
        Ok(Left::default())
    }

    async fn note_object(
        &mut self,
        kind: Kind,
        source_id: &str,
        target_id: &str,
        batch: &Batch,
    ) -> Result<(), Undone> {
        keys(&[source_id, target_id])?;
        let mut rows = own_rows::<B>(
            "migration_object",
            &["kind", "provider", "source_id", "target_id", "run"],
        );
        rows.rows.push(vec![
            text(kind.as_str()),
            text(&batch.provider),
            text(source_id),
            text(target_id),
            Parameter::Number(signed(batch.run)),
        ]);
        self.insert(&rows).await
    }

    async fn add_organization(
        &mut self,
        organization: &OrganizationWrite,
        batch: &Batch,
        at: UnixMs,
    ) -> Result<Left, Undone> {
        let kind = self.plan.kind("organization.id");
        let is_text = kind.is_empty() || kind.contains("char") || kind.contains("text");
        let most = if kind.contains("char") { 36 } else { 255 };
        let fits = |wanted: &&str| is_text && (1..=most).contains(&wanted.chars().count());
        let wanted = organization.wanted_id.as_deref().filter(fits);
        let mut values = vec![
            ("organization.name", Value::Text(&organization.name)),
            ("organization.slug", Value::Text(&organization.slug)),
            (
                "organization.createdAt",
                Value::Date(organization.created_at),
            ),
        ];
        if let Some(logo) = &organization.logo {
            values.push(("organization.logo", Value::Text(logo)));
        }
        if let Some(metadata) = &organization.metadata {
            values.push(("organization.metadata", Value::Text(metadata)));
        }
        let id = self
            .insert_with_id("organization", wanted, values, "organization.id")
            .await
            .map_err(taken)?;
        self.note_object(Kind::Organization, &organization.source_id, &id, batch)
            .await?;
        Ok(Left {
            digest: Some(super::taking_back::digest_of(&[
                &organization.name,
                &organization.slug,
            ])),
            written_at: Some(at.0),
            target_id: Some(id),
            added: None,
        })
    }

    async fn add_member(&mut self, member: &MemberWrite, batch: &Batch) -> Result<Left, Undone> {
        let values = vec![
            ("member.organizationId", Value::Id(&member.organization_id)),
            ("member.userId", Value::Id(&member.user_id)),
            ("member.role", Value::Text(&member.role)),
            ("member.createdAt", Value::Date(member.created_at)),
        ];
        let id = self
            .insert_with_id("member", None, values, "member.id")
            .await
            .map_err(taken)?;
        self.note_object(Kind::Member, &member.source_id, &id, batch)
            .await?;
        Ok(Left {
            digest: Some(super::taking_back::digest_of(&[&member.role])),
            target_id: Some(id),
            ..Left::default()
        })
    }

    async fn add_invitation(
        &mut self,
        invitation: &InvitationWrite,
        batch: &Batch,
    ) -> Result<Left, Undone> {
        let values = vec![
            (
                "invitation.organizationId",
                Value::Id(&invitation.organization_id),
            ),
            ("invitation.email", Value::Text(&invitation.email)),
            ("invitation.role", Value::Text(&invitation.role)),
            ("invitation.status", Value::Text("pending")),
            ("invitation.expiresAt", Value::Date(invitation.expires_at)),
            ("invitation.createdAt", Value::Date(invitation.created_at)),
            ("invitation.inviterId", Value::Id(&invitation.inviter_id)),
        ];
        let id = self
            .insert_with_id("invitation", None, values, "invitation.id")
            .await
            .map_err(taken)?;
        self.note_object(Kind::Invitation, &invitation.source_id, &id, batch)
            .await?;
        Ok(Left {
            digest: Some(super::taking_back::digest_of(&["pending"])),
            target_id: Some(id),
            ..Left::default()
        })
    }
}

fn taken(undone: Undone) -> Undone {
    match undone {
        Undone::Broken(broken) if broken.unique => Undone::Taken("slug or id"),
        other => other,
    }
}

/// Rows of what belongs to new users, gathered over a batch.
struct OfTies<'p, B: Backend> {
    accounts: Adding<'p, B>,
    counted: bool,
    factors: Adding<'p, B>,
    factors_counted: bool,
    identities: super::super::super::database::Rows,
    credentials: super::super::super::database::Rows,
    kept_factors: super::super::super::database::Rows,
}

type Digested = (BTreeSet<(String, String, Option<String>)>, BTreeSet<String>);

impl<'p, B: Backend> OfTies<'p, B> {
    fn new(work: &Work<'p, B>) -> Self {
        let (plan, zone) = (work.plan, work.zone);
        let counted = plan.ids("account") == Ids::Database;
        let factors_counted = plan.ids("twoFactor") == Ids::Database;
        let from = |columns: &'static [&'static str], counted: bool| {
            columns.get(usize::from(counted)..).unwrap_or_default()
        };
        Self {
            accounts: Adding::new(plan, zone, "account", from(&ACCOUNT, counted)),
            counted,
            factors: Adding::new(plan, zone, "twoFactor", from(&FACTOR, factors_counted)),
            factors_counted,
            identities: own_rows::<B>(
                "legacy_identity",
                &[
                    "provider",
                    "source_user_id",
                    "user_id",
                    "state",
                    "imported_at",
                    "moved_at",
                ],
            ),
            credentials: own_rows::<B>(
                "legacy_credential",
                &[
                    "user_id",
                    "scheme",
                    "sealed",
                    "state",
                    "exported_at",
                    "kept_at",
                    "moved_at",
                ],
            ),
            kept_factors: own_rows::<B>(
                "legacy_factor",
                &[
                    "user_id",
                    "sealed",
                    "digits",
                    "period",
                    "algorithm",
                    "stand_in",
                    "kept_at",
                ],
            ),
        }
    }

    /// What belongs to one of them. Gives what a digest is made of.
    fn add(
        &mut self,
        work: &Work<'p, B>,
        ties: &Ties,
        user_id: &str,
        seal: &dyn Seal,
        at: UnixMs,
    ) -> Digested {
        let (mut accounts, mut factors) = (BTreeSet::new(), BTreeSet::new());
        let put = |values: &[Option<Value<'_>>], adding: &mut Adding<'p, B>, counted: bool| {
            adding.add(values.get(usize::from(counted)..).unwrap_or_default());
        };
        let date = || Some(Value::Date(at));
        if let PasswordWrite::Native(native) = &ties.password {
            let id = work.new_id("account");
            let values = [
                id.as_deref().map(Value::Id),
                Some(Value::Id(user_id)),
                Some(Value::Text(CREDENTIAL)),
                Some(Value::Id(user_id)),
                Some(Value::Text(ISSUER)),
                Some(Value::Secret(native)),
                None,
                None,
                None,
                None,
                None,
                date(),
                date(),
            ];
            put(&values, &mut self.accounts, self.counted);
            let password = Some(native.expose().to_owned());
            accounts.insert((CREDENTIAL.to_owned(), user_id.to_owned(), password));
        }
        for account in &ties.accounts {
            let id = work.new_id("account");
            let issuer = issuer(&account.provider);
            let values = [
                id.as_deref().map(Value::Id),
                Some(Value::Text(&account.account_id)),
                Some(Value::Text(&account.provider)),
                Some(Value::Id(user_id)),
                Some(Value::Text(&issuer)),
                None,
                account.access_token.as_ref().map(Value::Secret),
                account.refresh_token.as_ref().map(Value::Secret),
                account.id_token.as_ref().map(Value::Secret),
                account.access_token_expires_at.map(Value::Date),
                account.scope.as_deref().map(Value::Text),
                date(),
                date(),
            ];
            put(&values, &mut self.accounts, self.counted);
            accounts.insert((account.provider.clone(), account.account_id.clone(), None));
        }
        if let PasswordWrite::Old {
            scheme,
            text: sealable,
            exported_at,
        } = &ties.password
        {
            let sealed = seal.hash(user_id, &sealable.0);
            self.credentials.rows.push(vec![
                text(user_id),
                text(scheme),
                text(sealed.expose()),
                text(ties.state.as_str()),
                maybe_number(exported_at.map(|at| at.0)),
                Parameter::Number(at.0),
                Parameter::Number(at.0),
            ]);
        }
        if let Some(factor) = &ties.factor {
            let has_plugin = work.plan.table("twoFactor").is_some();
            if has_plugin {
                let id = work.new_id("twoFactor");
                let values = [
                    id.as_deref().map(Value::Id),
                    Some(Value::Id(user_id)),
                    Some(Value::Secret(&factor.secret)),
                    Some(Value::Secret(&factor.backup_codes)),
                    Some(Value::Flag(true)),
                    Some(Value::Number(0)),
                ];
                put(&values, &mut self.factors, self.factors_counted);
                factors.insert(factor.secret.expose().to_owned());
            }
            if factor.kept_here {
                let sealed = factor.key.as_ref().map(|key| seal.factor(user_id, &key.0));
                let stands = has_plugin.then(|| stand_in(&factor.secret));
                self.kept_factors.rows.push(vec![
                    text(user_id),
                    maybe_text(sealed.as_ref().map(Secret::expose)),
                    Parameter::Number(i64::from(factor.digits)),
                    Parameter::Number(i64::from(factor.period)),
                    text(&factor.algorithm),
                    maybe_text(stands.as_deref()),
                    Parameter::Number(at.0),
                ]);
            }
        }
        let (provider, source) = &ties.identity;
        self.identities.rows.push(vec![
            text(provider),
            text(source),
            text(user_id),
            text(ties.state.as_str()),
            Parameter::Number(at.0),
            Parameter::Number(at.0),
        ]);
        (accounts, factors)
    }

    async fn write(self, work: &mut Work<'p, B>) -> Result<(), Undone> {
        for rows in [
            &self.accounts.rows,
            &self.factors.rows,
            &self.identities,
            &self.credentials,
            &self.kept_factors,
        ] {
            work.insert(rows).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_before_is_kept_while_there_is_room_and_a_picture_pushes_out_no_address() {
        let (email, name) = ("a@m.example".to_owned(), "\"".repeat(20));
        let image = format!("data:image/png;base64,{}", "A".repeat(100));
        let before = vec![
            ("image", Some(&image)),
            ("email", Some(&email)),
            ("name", Some(&name)),
            ("role", None),
        ];
        // 13 + 42 + 124 as they are written.
        let (all, none) = kept(before.clone(), 179);
        assert_eq!((all.len(), none), (4, vec![]));
        let (some, lost) = kept(before.clone(), 178);
        assert_eq!(lost, ["image"]);
        assert_eq!(some[&"email"], Some(&email));
        assert!(some.contains_key("role"));
        let (some, lost) = kept(before, 54);
        assert_eq!(lost, ["name", "image"]);
        assert_eq!(some[&"email"], Some(&email));
    }

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(cut("zo\u{0}\u{e9}", 4), "zo\u{e9}");
        assert_eq!(cut("zo\u{e9}", 3), "zo");
        assert_eq!(cut("\u{1F98A}", 3), "");
    }
}
