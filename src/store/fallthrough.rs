//! Redis first, then the database, as the framework does it when both hold sessions.
//!
//! Source: better-auth 1.7.24, `internal-adapter` (`findSession`, `updateSession`).

use std::sync::Arc;

use super::{OpenError, Opened, SecondaryStorage, Settings, StoredKeys};
use crate::session::extend::Extend;
use crate::session::{BoxFuture, Record, Source, SourceError};
use crate::time::UnixMs;

/// What the store that is asked first says of a token.
// There is one at a time, on its way to whoever asked.
#[allow(clippy::large_enum_variant)]
pub(super) enum Word {
    /// This session.
    Known(Record),
    /// There is something, and it is no session that counts. Nobody else is asked.
    Ended,
    /// It knows nothing of it.
    Silent,
}

/// A store that another one stands behind.
pub(super) trait Ahead: Source {
    /// What it says of a token.
    fn word<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Word, SourceError>>;
}

/// Who has which role in which organization.
pub(super) trait Members: Send + Sync {
    /// The role of a user in an organization: a comma list.
    fn role<'a>(
        &'a self,
        user_id: &'a str,
        organization_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Box<str>>, SourceError>>;

    /// Where it is read, for readiness.
    fn source(&self) -> &dyn Source;
}

/// A store, and the database behind it.
struct Fallthrough {
    first: Arc<dyn Ahead>,
    /// Where sessions are that the first does not know. None with `preserveSessionInDatabase`: rows outlive their sessions then, so none
    /// of them revives one.
    second: Option<Arc<dyn Source>>,
    members: Option<Arc<dyn Members>>,
}

/// Opens the database behind `first`.
pub(super) async fn open(
    first: Arc<dyn Ahead>,
    opened: Opened,
    settings: Settings,
) -> Result<Opened, OpenError> {
    let SecondaryStorage {
        database,
        store_in_database,
        preserve_in_database,
        ..
    } = settings.secondary.clone();
    let Some(url) = database else {
        return Ok(opened);
    };
    let behind = Settings {
        url,
        secondary: SecondaryStorage::default(),
        ..settings
    };
    let Beside { members, keys } = beside(&behind).await?;
    let holds_sessions = store_in_database && !preserve_in_database;
    let mut detected = opened.detected;
    let mut second = None;
    // Otherwise the framework's migration makes no table of sessions.
    if store_in_database {
        let opened = Box::pin(super::inspect(&behind)).await?;
        let also = opened.detected.clone();
        detected.version = format!("{}; {} {}", detected.version, also.kind, also.version);
        detected.place = format!("{}, {}", detected.place, also.place);
        detected.tables = also.tables;
        detected.columns = also.columns;
        detected.dates = also.dates;
        detected.warnings.extend(also.warnings);
        second = Some(opened);
    } else if members.is_none() {
        detected.warnings.push(
            "`sessions.database` holds no `member` table, and sessions are not looked for in it: only keys of tokens are"
                .to_owned(),
        );
    }
    let (source, second_extend) = match second {
        Some(second) => (Some(second.source), second.extend),
        None => (None, None),
    };
    let extend = opened.extend.map(|first| -> Arc<dyn Extend> {
        Arc::new(Both {
            first,
            second: second_extend,
            holds_sessions,
        })
    });
    Ok(Opened {
        source: Arc::new(Fallthrough {
            first,
            second: source.filter(|_| holds_sessions),
            members,
        }),
        detected,
        extend,
        feed: opened.feed,
        keys: Some(keys),
    })
}

/// What the app keeps in its database when its sessions are elsewhere.
pub(super) struct Beside {
    /// Roles in organizations. None: the app has no organizations.
    pub(super) members: Option<Arc<dyn Members>>,
    /// Keys of the JWT plugin.
    pub(super) keys: StoredKeys,
}

async fn beside(settings: &Settings) -> Result<Beside, OpenError> {
    let kind = super::kind_of(&settings.url)?;
    match kind.build.beside {
        Some(open) => open(settings.clone()).await,
        None => Err(OpenError::Url {
            store: kind.name,
            cause: "`sessions.database` wants an SQL database".to_owned(),
        }),
    }
}

impl Source for Fallthrough {
    fn name(&self) -> &'static str {
        self.first.name()
    }

    fn find<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        Box::pin(async move {
            match (self.first.word(token).await?, &self.second) {
                (Word::Known(record), _) => Ok(Some(self.with_role(record).await?)),
                (Word::Silent, Some(second)) => second.find(token).await,
                (Word::Silent, None) | (Word::Ended, _) => Ok(None),
            }
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            for part in self.parts() {
                part.ping().await?;
            }
            Ok(())
        })
    }

    fn parts(&self) -> Vec<&dyn Source> {
        let mut parts: Vec<&dyn Source> = vec![&*self.first];
        match (&self.second, &self.members) {
            (Some(second), _) => parts.push(&**second),
            (None, Some(members)) => parts.push(members.source()),
            (None, None) => {}
        }
        parts
    }
}

impl Fallthrough {
    /// The role in the active organization, which Redis does not hold. When it cannot be found out, nobody knows what the user may do.
    async fn with_role(&self, mut record: Record) -> Result<Record, SourceError> {
        if let (Some(members), Some(organization)) = (&self.members, &record.organization_id) {
            record.organization_role = members.role(&record.user_id, organization).await?;
        }
        Ok(record)
    }
}

/// Writes a longer life to both, as the framework does.
struct Both {
    first: Arc<dyn Extend>,
    second: Option<Arc<dyn Extend>>,
    holds_sessions: bool,
}

impl Extend for Both {
    fn extend<'a>(
        &'a self,
        token: &'a str,
        seen: UnixMs,
        until: UnixMs,
        now: UnixMs,
    ) -> BoxFuture<'a, Result<bool, SourceError>> {
        Box::pin(async move {
            let extended = self.first.extend(token, seen, until, now).await?;
            let Some(second) = &self.second else {
                return Ok(extended);
            };
            if !extended && !self.holds_sessions {
                return Ok(false);
            }
            match second.extend(token, seen, until, now).await {
                Ok(behind) => Ok(extended || behind),
                // The first decides how long a session lives, and it has the new expiry.
                Err(error) if extended => {
                    tracing::warn!(%error, "a session was prolonged in Redis and not in the database behind it");
                    Ok(true)
                }
                Err(error) => Err(error),
            }
        })
    }
}
