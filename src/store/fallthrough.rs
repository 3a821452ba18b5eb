//! Redis first, then the database, as the framework does it when both hold sessions.
//!
//! Source: better-auth 1.7.24, `internal-adapter` (`findSession`, `updateSession`).

use std::sync::Arc;

use super::{OpenError, Opened, SecondaryStorage, Settings};
use crate::session::extend::Extend;
use crate::session::{BoxFuture, Record, Source, SourceError};
use crate::time::UnixMs;

/// What the store that is asked first says of a token.
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

/// A store, and the database behind it.
struct Fallthrough {
    first: Arc<dyn Ahead>,
    second: Arc<dyn Source>,
    /// Whether sessions that the first does not know may be in the second. With `preserveSessionInDatabase` rows outlive their sessions,
    /// so none of them revives one.
    holds_sessions: bool,
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
    let behind = Box::pin(super::inspect(&behind)).await?;
    let holds_sessions = store_in_database && !preserve_in_database;
    let mut detected = opened.detected;
    let also = behind.detected;
    detected.version = format!("{}; {} {}", detected.version, also.kind, also.version);
    detected.place = format!("{}, {}", detected.place, also.place);
    detected.tables = also.tables;
    detected.columns = also.columns;
    detected.dates = also.dates;
    detected.warnings.extend(also.warnings);
    let extend = opened.extend.map(|first| -> Arc<dyn Extend> {
        Arc::new(Both {
            first,
            second: behind.extend.filter(|_| store_in_database),
            holds_sessions,
        })
    });
    Ok(Opened {
        source: Arc::new(Fallthrough {
            first,
            second: behind.source,
            holds_sessions,
        }),
        detected,
        extend,
        feed: opened.feed,
        keys: behind.keys,
    })
}

impl Source for Fallthrough {
    fn name(&self) -> &'static str {
        self.first.name()
    }

    fn find<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        Box::pin(async move {
            match self.first.word(token).await? {
                Word::Known(record) => Ok(Some(record)),
                Word::Silent if self.holds_sessions => self.second.find(token).await,
                Word::Silent | Word::Ended => Ok(None),
            }
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            let (first, second) = futures_util::join!(self.first.ping(), self.second.ping());
            first.and(second)
        })
    }

    fn parts(&self) -> Vec<&dyn Source> {
        vec![&*self.first, &*self.second]
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
