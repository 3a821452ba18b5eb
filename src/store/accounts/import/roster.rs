//! Everybody in the order of their ids, for reading alone: no table is made for it.

use super::*;
use crate::migration::import::assessment::{self, Plugin};
use crate::migration::leaving::roster::{Event, Person, Roster, Waiting};

/// A database whose people are read.
struct DatabaseRoster<B: Backend>(Arc<Store<B>>);

/// Opens a database for reading its people.
pub(in crate::store) async fn open_roster<B: Backend>(
    backend: B,
    settings: Settings,
) -> Result<Arc<dyn Roster>, OpenError> {
    let place = backend.place();
    let schema_error = |cause| OpenError::Schema {
        store: B::NAME,
        place: place.clone(),
        cause,
    };
    let checked = schema::check(
        &settings.schema,
        settings.documents.as_ref(),
        B::HAS_SCHEMAS,
        B::NAME,
    );
    checked.map_err(schema_error)?;
    let database = Database::unopened(backend, settings);
    let began = Instant::now();
    let deadline = began + database.core.settings.timeout;
    let plan = Plan::read_for(&database.core, For::Import, deadline).await;
    let plan = plan.map_err(|failure| database::open_error::<B>(failure, &place, began))?;
    let plan = plan.map_err(schema_error)?;
    Ok(Arc::new(DatabaseRoster(Arc::new(Store {
        database,
        plan: RwLock::new(Arc::new(plan)),
        reading_layout: tokio::sync::Mutex::new(()),
    }))))
}

impl<B: Backend> Roster for DatabaseRoster<B> {
    fn look(&self) -> Done<'_, assessment::Target> {
        let store = Arc::clone(&self.0);
        Box::pin(async move { store.look_at_all().await.map_err(Undone::told) })
    }

    fn waiting<'a>(
        &'a self,
        states: &'a [State],
        after: &'a str,
        most: usize,
    ) -> Done<'a, Vec<Waiting>> {
        let store = Arc::clone(&self.0);
        Box::pin(async move {
            let waiting = store.waiting(states, after, most).await;
            waiting.map_err(Undone::told)
        })
    }

    fn has_account_elsewhere<'a>(&'a self, user_id: &'a str) -> Done<'a, bool> {
        let store = Arc::clone(&self.0);
        Box::pin(async move {
            let found = store.one_of_all(user_id).await.map_err(Undone::told)?;
            let accounts = found.iter().flat_map(|whole| &whole.accounts);
            Ok(accounts
                .into_iter()
                .any(|(provider, _, _)| provider != CREDENTIAL))
        })
    }

    fn people<'a>(&'a self, after: Option<&'a str>, most: usize) -> Done<'a, Vec<Person>> {
        let store = Arc::clone(&self.0);
        Box::pin(async move { store.people(after, most).await.map_err(Undone::told) })
    }

    fn note<'a>(&'a self, event: &'a Event) -> Done<'a, ()> {
        let store = Arc::clone(&self.0);
        Box::pin(async move { store.note_event(event).await.map_err(Undone::told) })
    }
}

impl<B: Backend> Store<B> {
    async fn look_at_all(&self) -> Result<assessment::Target, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let count = (B::DIALECT.text)("COUNT(*)", "bigint");
        let asked = Statement::<B>::new(&plan, self.zone())
            .text(&format!("SELECT {count} FROM "))
            .table("user");
        let rows = self.core().ask(&asked.sql(), None, deadline).await?;
        let users = rows.first().and_then(|row| cell(row, 0)?.parse().ok());
        let has = |plugin: &Plugin| match plugin {
            Plugin::Admin => plan.column("user.banned").is_some(),
            Plugin::Anonymous => plan.column("user.isAnonymous").is_some(),
            Plugin::Organization => plan.table("organization").is_some(),
            Plugin::PhoneNumber => plan.column("user.phoneNumber").is_some(),
            Plugin::TwoFactor => plan.table("twoFactor").is_some(),
            Plugin::Username => plan.column("user.username").is_some(),
            // Nothing of theirs is imported, so nobody looks for their tables.
            Plugin::Passkey | Plugin::Sso => true,
        };
        Ok(assessment::Target {
            kind: B::NAME.to_owned(),
            users: users.unwrap_or(0),
            ids: match (plan.ids("user"), plan.kind("user.id")) {
                (Ids::Database, _) => assessment::Ids::Number,
                (_, "uuid") => assessment::Ids::Uuid,
                (Ids::Letters | Ids::Uuid, _) => assessment::Ids::Text,
            },
            plugins: Plugin::ALL.into_iter().filter(has).collect(),
        })
    }

    async fn waiting(
        &self,
        states: &[State],
        after: &str,
        most: usize,
    ) -> Result<Vec<Waiting>, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let mut asked = work
            .say()
            .text("SELECT user_id, provider, state FROM (SELECT user_id, provider, state FROM ")
            .own("legacy_identity")
            // Whoever came with a hash alone.
            .text(" UNION ALL SELECT user_id, '', state FROM ")
            .own("legacy_credential")
            .text(") waiting")
            .text(" WHERE user_id > ")
            .value(after)
            .text(" AND state IN (");
        for (at, state) in states.iter().enumerate() {
            asked = asked
                .text(if at > 0 { ", " } else { "" })
                .value(state.as_str());
        }
        let asked = asked.text(&format!(") ORDER BY user_id LIMIT {most}"));
        let rows = work.rows(asked).await?;
        let mut waiting = Vec::with_capacity(rows.len());
        for row in &rows {
            if let (Some(user_id), Some(provider)) = (cell(row, 0), cell(row, 1)) {
                waiting.push(Waiting {
                    user_id: user_id.to_owned(),
                    provider: provider.to_owned(),
                    state: super::super::state(cell(row, 2))?,
                });
            }
        }
        work.leave(waiting).await
    }

    async fn one_of_all(&self, user_id: &str) -> Result<Option<stored::Whole>, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let found = work.whole(&[user_id.to_owned()]).await?;
        work.leave(found.into_values().next()).await
    }

    async fn people(&self, after: Option<&str>, most: usize) -> Result<Vec<Person>, Undone> {
        let deadline = self.deadline();
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let mut asked = work.say().text("SELECT ").shown(&["user.id"]);
        asked = asked.text(" FROM ").table("user");
        if let Some(after) = after {
            asked = asked
                .text(" WHERE ")
                .column("user.id")
                .text(" > ")
                .id("user.id", after);
        }
        let asked = asked
            .text(" ORDER BY ")
            .table("user")
            .text(".")
            .column("user.id");
        let rows = work.rows(asked.text(&format!(" LIMIT {most}"))).await?;
        let ids: Vec<String> = rows
            .iter()
            .filter_map(|row| cell(row, 0))
            .map(str::to_owned)
            .collect();
        let mut found = work.whole(&ids).await?;
        let rows = work
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
        let mut identities: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
        for row in &rows {
            if let (Some(user_id), Some(provider), Some(id)) =
                (cell(row, 0), cell(row, 1), cell(row, 2))
            {
                let known = identities.entry(user_id).or_default();
                known.push((provider.to_owned(), id.to_owned()));
            }
        }
        let mut people = Vec::with_capacity(ids.len());
        for id in &ids {
            // Taken away between two statements.
            let Some(whole) = found.remove(id) else {
                continue;
            };
            let elsewhere = whole.accounts.into_iter();
            let elsewhere = elsewhere.filter(|(provider, _, _)| provider != CREDENTIAL);
            people.push(Person {
                user_id: id.clone(),
                fields: whole.stored.fields,
                password: whole.stored.password,
                accounts: elsewhere.map(|(provider, id, _)| (provider, id)).collect(),
                identities: identities.remove(id.as_str()).unwrap_or_default(),
            });
        }
        work.leave(people).await
    }

    async fn note_event(&self, event: &Event) -> Result<(), Undone> {
        keys(&[&event.what, &event.fingerprint])?;
        let deadline = self.deadline();
        // Nobody may have imported anything here yet.
        own_tables::install_imports(self.core(), deadline).await?;
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        let next = (B::DIALECT.text)("COALESCE(MAX(id), 0) + 1", "bigint");
        let asked = work.say().text(&format!("SELECT {next} FROM "));
        let rows = work.rows(asked.own("migration_run")).await?;
        let id = rows.first().and_then(|row| cell(row, 0)?.parse().ok());
        let tally = serde_json::json!({ "outcomes": [], "reasons": { "left": event.users } });
        // State `left`: no run that could be gone on with, undone or verified.
        let noted = work
            .say()
            .text("INSERT INTO ")
            .own("migration_run")
            .text(" (id, provider, fingerprint, state, began_at, ended_at, phase, sequence, tally) VALUES (")
            .number(id.unwrap_or(1))
            .text(", ")
            .value(&event.what)
            .text(", ")
            .value(&event.fingerprint)
            .text(", 'left', ")
            .number(event.began_at.0)
            .text(", ")
            .number(event.ended_at.0)
            .text(", 0, 0, ")
            .value(&tally.to_string())
            .text(")");
        work.change(noted).await?;
        work.commit().await?;
        Ok(())
    }
}
