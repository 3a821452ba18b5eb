//! People and sessions that are made to be measured, in tables that hold nobody else.

use super::*;

/// Rows written in one transaction: large enough that its end does not count, small enough for a deadline.
const ROWS_AT_ONCE: usize = 250;

/// Makes these sessions, each with a user of its own.
pub(in crate::store) async fn fill<B: Backend>(
    backend: B,
    settings: Settings,
    sessions: Vec<NewSession>,
) -> Result<(), OpenError> {
    let opened = opened(backend, settings).await?;
    for some in sessions.chunks(ROWS_AT_ONCE) {
        opened.done(opened.store.fill(some, opened.store.deadline()).await)?;
    }
    Ok(())
}

/// Ends these sessions.
pub(in crate::store) async fn end<B: Backend>(
    backend: B,
    settings: Settings,
    tokens: Vec<Secret>,
) -> Result<(), OpenError> {
    let opened = opened(backend, settings).await?;
    for some in tokens.chunks(ROWS_AT_ONCE) {
        opened.done(opened.store.end(some, opened.store.deadline()).await)?;
    }
    Ok(())
}

struct Scratched<B: Backend> {
    store: Store<B>,
    place: String,
    began: Instant,
}

async fn opened<B: Backend>(backend: B, settings: Settings) -> Result<Scratched<B>, OpenError> {
    let place = backend.place();
    let began = Instant::now();
    let database = Database::unopened(backend, with_time_to_make(settings));
    let deadline = began + database.core.settings.timeout;
    let plan = Plan::read(&database.core, deadline).await;
    let plan = plan.map_err(|failure| database::open_error::<B>(failure, &place, began))?;
    let plan = plan.map_err(|cause| OpenError::Schema {
        store: B::NAME,
        place: place.clone(),
        cause,
    })?;
    Ok(Scratched {
        store: Store {
            database,
            plan: RwLock::new(Arc::new(plan)),
            reading_layout: tokio::sync::Mutex::new(()),
        },
        place,
        began,
    })
}

impl<B: Backend> Scratched<B> {
    fn done(&self, done: Result<(), Undone>) -> Result<(), OpenError> {
        done.map_err(|undone| match undone {
            Undone::Broken(broken) => {
                database::open_error::<B>(broken.failure, &self.place, self.began)
            }
            Undone::Taken(what) => OpenError::Garbage {
                store: B::NAME,
                place: self.place.clone(),
                cause: format!("a scratch table holds this {what} already"),
            },
        })
    }
}

impl<B: Backend> Store<B> {
    async fn fill(&self, sessions: &[NewSession], deadline: Instant) -> Result<(), Undone> {
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        for session in sessions {
            let user = NewUser {
                email: format!("{}@scratch.invalid", session.user_id.to_lowercase()),
                email_verified: true,
                name: "Scratch".to_owned(),
                ..NewUser::default()
            };
            let wanted = plan.wanted_id(&session.user_id);
            let user_id = work.add_user(&user, wanted, session.created_at).await?;
            let session = NewSession {
                user_id,
                ..session.clone()
            };
            work.add_session(&session).await?;
        }
        work.commit().await?;
        Ok(())
    }

    async fn end(&self, tokens: &[Secret], deadline: Instant) -> Result<(), Undone> {
        let plan = self.plan(deadline).await;
        let mut work = self.begin(&plan, deadline).await?;
        for token in tokens {
            let ended = work
                .say()
                .text("DELETE FROM ")
                .table("session")
                .text(" WHERE ")
                .column("session.token")
                .text(" = ")
                .secret(token);
            work.change(ended).await?;
        }
        work.commit().await?;
        Ok(())
    }
}
