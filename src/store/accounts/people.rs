//! The app's own rows: users, what signs them in, their second factors.

use super::standing::stand_in;
use super::*;

/// Rows one text may match before the bytes are compared: some collations fold case.
const MATCHES: &str = " LIMIT 8";

/// `account.providerId` of what a password signs in.
pub(super) const CREDENTIAL: &str = "credential";

/// `account.issuer` of the same, where there is such a column.
pub(super) const ISSUER: &str = "local:credential";

/// What [`Store::person`] reads, in order.
const PERSON: [&str; 9] = [
    "user.id",
    "user.email",
    "user.username",
    "user.phoneNumber",
    "user.emailVerified",
    "user.banned",
    "user.banExpires",
    "user.twoFactorEnabled",
    "user.isAnonymous",
];

/// What [`credential`] reads, in order.
const CREDENTIALS: [&str; 6] = [
    "account.id",
    "account.accountId",
    "account.providerId",
    "account.password",
    "account.createdAt",
    "account.updatedAt",
];

/// A credential row.
pub(super) struct Credential {
    id: String,
    password: Option<Secret>,
    pub(super) created_at: Option<UnixMs>,
    pub(super) updated_at: Option<UnixMs>,
}

impl Credential {
    pub(super) const fn has_password(&self) -> bool {
        self.password.is_some()
    }
}

/// The credential row of a user among their accounts; that with a password, were there two.
pub(super) fn credential(
    rows: &[Row],
    user_id: &str,
    zone: i32,
) -> Result<Option<Credential>, Undone> {
    let mine = rows.iter().filter(|row| {
        cell(row, 0).is_some() && cell(row, 1) == Some(user_id) && cell(row, 2) == Some(CREDENTIAL)
    });
    let found = mine.max_by_key(|row| cell(row, 3).is_some());
    let Some(row) = found else {
        return Ok(None);
    };
    Ok(Some(Credential {
        id: cell(row, 0).unwrap_or_default().to_owned(),
        password: cell(row, 3).map(Secret::new),
        created_at: date(row, 4, zone)?,
        updated_at: date(row, 5, zone)?,
    }))
}

fn date(row: &Row, at: usize, zone: i32) -> Result<Option<UnixMs>, Undone> {
    let read = cell(row, at).map(|text| record::moment(text, zone));
    match read {
        None => Ok(None),
        Some(Some(at)) => Ok(Some(at)),
        Some(None) => Err(Undone::schema("a column of dates holds none")),
    }
}

fn flag(row: &Row, at: usize) -> Result<bool, Undone> {
    let read = cell(row, at).map(record::truth);
    match read {
        None => Ok(false),
        Some(Some(flag)) => Ok(flag),
        Some(None) => Err(Undone::schema("a column of flags holds none")),
    }
}

/// The time: a ban ends without anybody writing it down.
#[allow(clippy::disallowed_methods)]
fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    UnixMs(i64::try_from(ms).unwrap_or(i64::MAX))
}

impl<B: Backend> Store<B> {
    /// The rows [`credential`] chooses from.
    pub(super) fn credentials<'p>(&self, plan: &'p Plan, user_id: &str) -> Statement<'p, B> {
        credentials(plan, self.zone(), user_id)
    }

    pub(super) async fn find(&self, by: &Identifier) -> Result<Option<Account>, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let (column, at, wanted) = match by {
            Identifier::Email(text) => ("user.email", 1, text.clone()),
            Identifier::Username(text) => ("user.username", 2, text.clone()),
            Identifier::Phone(text) => ("user.phoneNumber", 3, text.clone()),
            Identifier::UserId(id) => ("user.id", 0, id.clone()),
            Identifier::Source(provider, id) => {
                match self.owner_of(&plan, provider, id, deadline).await? {
                    Some(user_id) => ("user.id", 0, user_id),
                    None => return Ok(None),
                }
            }
        };
        // No column, no such plugin; no such text in any column.
        if plan.column(column).is_none()
            || wanted.contains('\0')
            || (at == 0 && !plan.may_be_id::<B>(column, &wanted))
        {
            return Ok(None);
        }
        self.person(&plan, column, at, &wanted, deadline).await
    }

    async fn person(
        &self,
        plan: &Plan,
        column: &str,
        at: usize,
        wanted: &str,
        deadline: Instant,
    ) -> Result<Option<Account>, Undone> {
        let asked = Statement::<B>::new(plan, self.zone())
            .text("SELECT ")
            .shown(&PERSON)
            .text(" FROM ")
            .table("user")
            .text(" WHERE ")
            .column(column)
            .text(" = ");
        let asked = match at {
            0 => asked.id(column, wanted),
            _ => asked.value(wanted),
        };
        let rows = self.ask(asked.text(MATCHES), wanted, deadline).await?;
        let Some(row) = rows.iter().find(|row| cell(row, at) == Some(wanted)) else {
            return Ok(None);
        };
        let Some(user_id) = cell(row, 0).map(str::to_owned) else {
            return Err(Undone::schema("a user has no id"));
        };
        let banned_until = date(row, 6, self.zone())?;
        let banned = flag(row, 5)? && banned_until.is_none_or(|until| until > now());
        let accounts = self.credentials(plan, &user_id);
        let accounts = self.ask(accounts, &user_id, deadline).await?;
        let credential = credential(&accounts, &user_id, self.zone())?;
        let kept = self.kept(plan, &user_id, deadline).await?;
        let factor = match kept.factor {
            Some((mut factor, Some(digest))) if plan.table("twoFactor").is_some() => {
                let asked = factors(plan, self.zone(), &user_id);
                let rows = self.ask(asked, &user_id, deadline).await?;
                let secrets = rows.iter().filter_map(|row| cell(row, 0)).map(Secret::new);
                factor.native = secrets
                    .into_iter()
                    .find(|secret| stand_in(secret) == digest);
                Some(factor)
            }
            Some((factor, _)) => Some(factor),
            None => None,
        };
        let has_credential = credential.is_some();
        let (password, password_changed_at) = match credential {
            Some(credential) => (credential.password, credential.updated_at),
            None => (None, None),
        };
        Ok(Some(Account {
            email: cell(row, 1).unwrap_or_default().to_owned(),
            email_verified: flag(row, 4)?,
            banned,
            two_factor: flag(row, 7)?,
            anonymous: flag(row, 8)?,
            has_credential,
            password,
            password_changed_at,
            old: kept.old,
            sources: kept.sources,
            factor,
            user_id,
        }))
    }

    pub(super) async fn replace_password(
        &self,
        replacement: &Replacement,
        deadline: Instant,
    ) -> Result<bool, Undone> {
        let user_id = replacement.user_id.as_str();
        let at = replacement.at;
        if let Some((scheme, _)) = &replacement.keep {
            keys(&[user_id, scheme])?;
        }
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        if !work.lock(user_id).await? {
            return work.leave(false).await;
        }
        let accounts = credentials::<B>(&plan, self.zone(), user_id).text(B::OWN.locked);
        let accounts = work.rows(accounts).await?;
        let found = credential(&accounts, user_id, self.zone())?;
        let there = found.as_ref().and_then(|found| found.password.as_ref());
        if there != replacement.seen.as_ref() {
            return work.leave(false).await;
        }
        let standing = work.standing(user_id).await?;
        if standing.is_some_and(|now| !now.may_become(replacement.state)) {
            return work.leave(false).await;
        }
        // The old one is safe before it is replaced.
        if let Some((scheme, sealed)) = &replacement.keep {
            let old = OldCredential {
                scheme: scheme.clone(),
                sealed: sealed.clone(),
                state: replacement.state,
                exported_at: None,
            };
            work.put_credential(user_id, &old, at).await?;
        }
        work.move_to(user_id, replacement.state, at).await?;
        match found {
            Some(found) => {
                let mut written = work
                    .say()
                    .text("UPDATE ")
                    .table("account")
                    .text(" SET ")
                    .column("account.password")
                    .text(" = ")
                    .secret(&replacement.native);
                if plan.column("account.updatedAt").is_some() {
                    written = written
                        .text(", ")
                        .column("account.updatedAt")
                        .text(" = ")
                        .date("account.updatedAt", at);
                }
                let written = written
                    .text(" WHERE ")
                    .column("account.id")
                    .text(" = ")
                    .id("account.id", &found.id);
                if work.change(written).await? != 1 {
                    return work.leave(false).await;
                }
            }
            None => match work.add_credential(user_id, &replacement.native, at).await {
                Ok(()) => {}
                // The app made one at the same time.
                Err(Undone::Broken(broken)) if broken.unique => return Ok(false),
                Err(error) => return Err(error),
            },
        }
        work.wrote_password(user_id, at).await?;
        work.commit().await?;
        Ok(true)
    }

    pub(super) async fn create(
        &self,
        user: &NewUser,
        at: UnixMs,
        deadline: Instant,
    ) -> Result<String, Undone> {
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        if let Some(taken) = work.taken(user).await? {
            return work.leave(()).await.and(Err(Undone::Taken(taken)));
        }
        let wanted = user.id.as_deref().and_then(|id| plan.wanted_id(id));
        let made = work.add_user(user, wanted, at).await;
        let user_id = match made {
            Ok(user_id) => user_id,
            Err(Undone::Broken(broken)) if broken.unique => {
                // Somebody came between: say what it is that they have.
                drop(work);
                let mut work = self.begin(&plan, deadline).await?;
                let taken = work.taken(user).await?.unwrap_or("address");
                return work.leave(()).await.and(Err(Undone::Taken(taken)));
            }
            Err(error) => return Err(error),
        };
        let state = match user.password {
            Some(_) => State::Jit,
            None => State::Imported,
        };
        if let Some((provider, id)) = &user.source {
            keys(&[provider, id])?;
            if !work.add_identity(&user_id, provider, id, state, at).await? {
                return work.leave(()).await.and(Err(Undone::Taken("id")));
            }
        }
        if let Some(native) = &user.password {
            work.add_credential(&user_id, native, at).await?;
            work.wrote_password(&user_id, at).await?;
        }
        if user.had_second_factor {
            let unknown = OldFactor {
                sealed: None,
                digits: 6,
                period: 30,
                algorithm: "SHA1".to_owned(),
                last_step: None,
                native: None,
            };
            work.put_factor(&user_id, &unknown, None, at).await?;
        }
        work.commit().await?;
        Ok(user_id)
    }

    pub(super) async fn keep_factor(
        &self,
        user_id: &str,
        factor: &OldFactor,
        backup_codes: &Secret,
        at: UnixMs,
        deadline: Instant,
    ) -> Result<bool, Undone> {
        keys(&[user_id, &factor.algorithm])?;
        let plan = self.plan(deadline).await;
        let has_plugin =
            plan.table("twoFactor").is_some() && plan.column("user.twoFactorEnabled").is_some();
        let mut work = self.begin(&plan, deadline).await?;
        if !work.lock(user_id).await? {
            return work.leave(false).await;
        }
        if !has_plugin {
            work.put_factor(user_id, factor, None, at).await?;
            work.commit().await?;
            return Ok(false);
        }
        let rows = work.rows(factors(&plan, self.zone(), user_id)).await?;
        let secrets = rows.iter().filter_map(|row| cell(row, 0)).map(Secret::new);
        let there: Vec<String> = secrets.map(|secret| stand_in(&secret)).collect();
        let asked = work
            .say()
            .text("SELECT stand_in FROM ")
            .own("legacy_factor")
            .text(" WHERE user_id = ")
            .value(user_id);
        let known = work.rows(asked).await?;
        let ours = known.first().and_then(|row| cell(row, 0));
        let stands = ours.filter(|ours| there.iter().any(|digest| digest == ours));
        if stands.is_none() && !there.is_empty() {
            // The user has one of their own here: it is what counts.
            return work.leave(true).await;
        }
        let stands = match (stands, &factor.native) {
            (Some(stands), _) => Some(stands.to_owned()),
            (None, Some(native)) => {
                let values = vec![
                    ("twoFactor.userId", Value::Id(user_id)),
                    ("twoFactor.secret", Value::Secret(native)),
                    ("twoFactor.backupCodes", Value::Secret(backup_codes)),
                    ("twoFactor.verified", Value::Flag(true)),
                    ("twoFactor.failedVerificationCount", Value::Number(0)),
                ];
                work.insert_with_id("twoFactor", None, values, "twoFactor.id")
                    .await?;
                Some(stand_in(native))
            }
            (None, None) => None,
        };
        work.put_factor(user_id, factor, stands.as_deref(), at)
            .await?;
        let enabled = work
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
        work.change(enabled).await?;
        work.commit().await?;
        Ok(true)
    }

    pub(super) async fn verification(
        &self,
        identifier: &str,
        now: UnixMs,
    ) -> Result<Option<Secret>, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        if plan.table("verification").is_none() || identifier.contains('\0') {
            return Ok(None);
        }
        let asked = Statement::<B>::new(&plan, self.zone())
            .text("SELECT ")
            .shown(&[
                "verification.identifier",
                "verification.value",
                "verification.expiresAt",
            ])
            .text(" FROM ")
            .table("verification")
            .text(" WHERE ")
            .column("verification.identifier")
            .text(" = ")
            .value(identifier);
        let rows = self.ask(asked, identifier, deadline).await?;
        let mut newest: Option<(UnixMs, &str)> = None;
        for row in rows.iter().filter(|row| cell(row, 0) == Some(identifier)) {
            // One without an end is over.
            let until = date(row, 2, self.zone())?.unwrap_or(UnixMs(0));
            if until > now
                && newest.is_none_or(|(known, _)| known < until)
                && let Some(value) = cell(row, 1)
            {
                newest = Some((until, value));
            }
        }
        Ok(newest.map(|(_, value)| Secret::new(value)))
    }
}

/// The rows [`credential`] chooses from.
pub(super) fn credentials<'p, B: Backend>(
    plan: &'p Plan,
    zone: i32,
    user_id: &str,
) -> Statement<'p, B> {
    Statement::new(plan, zone)
        .text("SELECT ")
        .shown(&CREDENTIALS)
        .text(" FROM ")
        .table("account")
        .text(" WHERE ")
        .column("account.userId")
        .text(" = ")
        .id("account.userId", user_id)
}

/// The secrets of a user's second factors.
fn factors<'p, B: Backend>(plan: &'p Plan, zone: i32, user_id: &str) -> Statement<'p, B> {
    Statement::new(plan, zone)
        .text("SELECT ")
        .shown(&["twoFactor.secret"])
        .text(" FROM ")
        .table("twoFactor")
        .text(" WHERE ")
        .column("twoFactor.userId")
        .text(" = ")
        .id("twoFactor.userId", user_id)
}

impl<B: Backend> Work<'_, B> {
    /// What somebody else has already of what a new user is to have.
    async fn taken(&mut self, user: &NewUser) -> Result<Option<&'static str>, Undone> {
        let plan = self.plan;
        let phone = user.phone.as_ref().map(|(number, _)| number.as_str());
        let id = user.id.as_deref().and_then(|id| plan.wanted_id(id));
        // As it will be written.
        let username = user.username.as_ref().map(|name| name.to_lowercase());
        let claims = [
            ("address", "user.email", Some(user.email.as_str())),
            ("username", "user.username", username.as_deref()),
            ("phone number", "user.phoneNumber", phone),
            ("id", "user.id", id),
        ];
        for (what, column, claimed) in claims {
            let Some(claimed) = claimed.filter(|_| plan.column(column).is_some()) else {
                continue;
            };
            let asked = self
                .say()
                .text("SELECT ")
                .shown(&["user.id"])
                .text(" FROM ")
                .table("user")
                .text(" WHERE ")
                .column(column)
                .text(" = ");
            let asked = match column {
                "user.id" => asked.id(column, claimed),
                _ => asked.value(claimed),
            };
            if !self.rows(asked.text(" LIMIT 1")).await?.is_empty() {
                return Ok(Some(what));
            }
        }
        if let Some((provider, id)) = &user.source {
            let asked = self
                .say()
                .text("SELECT user_id FROM ")
                .own("legacy_identity")
                .text(" WHERE provider = ")
                .value(provider)
                .text(" AND source_user_id = ")
                .value(id);
            if !self.rows(asked).await?.is_empty() {
                return Ok(Some("id"));
            }
        }
        Ok(None)
    }

    pub(super) async fn add_user(
        &mut self,
        user: &NewUser,
        wanted: Option<&str>,
        at: UnixMs,
    ) -> Result<String, Undone> {
        let username = user.username.as_ref().map(|name| name.to_lowercase());
        // The old system's columns were longer, or knew no bounds: nobody is kept out by a name or a picture.
        let letters = user.name.chars().filter(|letter| *letter != '\0');
        let name: String = letters.take(self.plan.letters_max("user.name")).collect();
        let image = user.image.as_ref().filter(|image| {
            !image.contains('\0') && image.chars().count() <= self.plan.letters_max("user.image")
        });
        let mut values = vec![
            ("user.email", Value::Text(&user.email)),
            ("user.emailVerified", Value::Flag(user.email_verified)),
            ("user.name", Value::Text(&name)),
            ("user.createdAt", Value::Date(user.created_at.unwrap_or(at))),
            ("user.updatedAt", Value::Date(at)),
            ("user.twoFactorEnabled", Value::Flag(user.had_second_factor)),
            ("user.banned", Value::Flag(false)),
            ("user.isAnonymous", Value::Flag(false)),
        ];
        if let Some(image) = image {
            values.push(("user.image", Value::Text(image)));
        }
        if let (Some(username), Some(shown)) = (&username, &user.username) {
            values.push(("user.username", Value::Text(username)));
            values.push(("user.displayUsername", Value::Text(shown)));
        }
        if let Some((number, verified)) = &user.phone {
            values.push(("user.phoneNumber", Value::Text(number)));
            values.push(("user.phoneNumberVerified", Value::Flag(*verified)));
        }
        self.insert_with_id("user", wanted, values, "user.id").await
    }

    /// Makes the row that a password signs in.
    async fn add_credential(
        &mut self,
        user_id: &str,
        native: &Secret,
        at: UnixMs,
    ) -> Result<(), Undone> {
        let values = vec![
            ("account.accountId", Value::Id(user_id)),
            ("account.providerId", Value::Text(CREDENTIAL)),
            ("account.userId", Value::Id(user_id)),
            ("account.password", Value::Secret(native)),
            ("account.issuer", Value::Text(ISSUER)),
            ("account.createdAt", Value::Date(at)),
            ("account.updatedAt", Value::Date(at)),
        ];
        self.insert_with_id("account", None, values, "account.id")
            .await?;
        Ok(())
    }

    /// Notes that the password was written by us: what changes it later is the user.
    async fn wrote_password(&mut self, user_id: &str, at: UnixMs) -> Result<(), Undone> {
        self.raise_floor(user_id, "password_written_at", at).await
    }
}
