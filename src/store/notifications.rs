//! Revocations over PostgreSQL's `LISTEN` and `NOTIFY`.
//!
//! What a trigger or another gateway sends comes within milliseconds of its commit, in order, and never twice. What is sent while
//! nobody listens is gone; so the line says at once when it is down, and a silent one is asked whether it still stands. A pooler that
//! shares connections takes a `LISTEN` and delivers nothing, so a new line counts only when it has delivered something.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use sqlx::{PgPool, Postgres};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::session::feed::{CHANNEL, Ended, Feed, Listener, Notice};
use crate::session::{BoxFuture, SourceError};

/// How long a line may be silent before it is asked whether it still stands.
const SILENT_MAX: Duration = Duration::from_secs(2);

/// How long the answer may take. Together they bound how long a connection that was cut without a word goes unnoticed.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long connecting may take, until the line has delivered something.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long after a line broke it is tried again, at first and at most.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How long the connection for telling is kept unused.
const TELLING_IDLE_MAX: Duration = Duration::from_secs(180);

/// Sends one notice, dated by the server's clock: every listener measures against the same one.
const TELL: &str = "SELECT pg_catalog.pg_notify($1, pg_catalog.json_build_object('kind', $2::text, 'value', $3::text, \
    'at', (EXTRACT(EPOCH FROM pg_catalog.clock_timestamp()) * 1000)::bigint, 'from', $4::text)::text)";

/// One gateway's line.
pub(super) struct Notifications {
    options: PgConnectOptions,
    /// Who we are: what we said ourselves is not news, and what comes on the channel of this name proves that the line delivers.
    me: String,
    telling: OnceCell<PgPool>,
}

/// Why a line is down. Which of them it was makes no difference to what has to be done.
struct Broken;

impl From<sqlx::Error> for Broken {
    fn from(_: sqlx::Error) -> Self {
        Self
    }
}

impl From<tokio::time::error::Elapsed> for Broken {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self
    }
}

impl Notifications {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        // Whoever looks at the server's list of connections should see why this one does nothing.
        let name = options.get_application_name().unwrap_or("vestibule");
        let name = format!("{name} (revocations)");
        let options = options.application_name(&name);
        // Gateways must only differ from one another: no one gains anything from knowing it.
        let random = RandomState::new().hash_one(std::process::id());
        Self {
            options,
            me: format!("{CHANNEL}_{random:016x}"),
            telling: OnceCell::new(),
        }
    }

    /// Connects, and returns once the line has delivered something.
    async fn connect(&self, listener: &dyn Listener) -> Result<PgListener, Broken> {
        let deadline = Instant::now() + CONNECT_WITHIN;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(CONNECT_WITHIN)
            .connect_lazy_with(self.options.clone());
        let mut line = timeout_at(deadline, PgListener::connect_with(&pool)).await??;
        line.ignore_pool_close_event(true);
        // Whoever connects again behind our back would miss what passed meanwhile.
        line.eager_reconnect(false);
        timeout_at(deadline, line.listen_all([CHANNEL, &self.me])).await??;
        let probe = sqlx::query::<Postgres>("SELECT pg_catalog.pg_notify($1, '')")
            .persistent(false)
            .bind(&self.me);
        timeout_at(deadline, probe.execute(&mut line)).await??;
        loop {
            let heard = timeout_at(deadline, line.try_recv()).await??;
            let heard = heard.ok_or(Broken)?;
            if heard.channel() == self.me {
                return Ok(line);
            }
            self.hear(&heard, listener);
        }
    }

    /// Listens until the line breaks.
    async fn attend(&self, line: &mut PgListener, listener: &dyn Listener) -> Broken {
        loop {
            match timeout(SILENT_MAX, line.try_recv()).await {
                Ok(Ok(Some(heard))) => self.hear(&heard, listener),
                Ok(Ok(None) | Err(_)) => return Broken,
                Err(_) => {
                    let question = sqlx::query::<Postgres>("SELECT 1").persistent(false);
                    match timeout(ANSWER_WITHIN, question.execute(&mut *line)).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(_)) | Err(_) => return Broken,
                    }
                }
            }
        }
    }

    fn hear(&self, heard: &PgNotification, listener: &dyn Listener) {
        if heard.channel() != CHANNEL {
            return;
        }
        match Notice::parse(heard.payload()) {
            Some(notice) if notice.from.as_deref() == Some(&*self.me) => {}
            Some(notice) => listener.ended(&notice.what, notice.at),
            // Somebody, perhaps a later version, says that something ended, and we cannot tell what.
            None => listener.ended(&Ended::All, None),
        }
    }

    async fn telling(&self) -> &PgPool {
        let begin = || async {
            PgPoolOptions::new()
                .max_connections(1)
                .min_connections(0)
                .idle_timeout(TELLING_IDLE_MAX)
                .acquire_timeout(ANSWER_WITHIN)
                .connect_lazy_with(self.options.clone())
        };
        self.telling.get_or_init(begin).await
    }
}

impl Feed for Notifications {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn listen<'a>(&'a self, listener: &'a dyn Listener) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut pause = TRY_AGAIN.0;
            let mut tried = false;
            loop {
                match self.connect(listener).await {
                    Ok(mut line) => {
                        pause = TRY_AGAIN.0;
                        listener.regained();
                        let Broken = self.attend(&mut line, listener).await;
                        listener.lost();
                    }
                    Err(Broken) if !tried => listener.lost(),
                    Err(Broken) => {}
                }
                tried = true;
                sleep(pause).await;
                pause = (pause * 2).min(TRY_AGAIN.1);
            }
        })
    }

    fn tell<'a>(&'a self, what: &'a Ended) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let (kind, value) = what.as_text();
            let pool = self.telling().await;
            sqlx::query::<Postgres>(TELL)
                .persistent(false)
                .bind(CHANNEL)
                .bind(kind)
                .bind(value.as_deref())
                .bind(&self.me)
                .execute(pool)
                .await
                .map(drop)
                .map_err(|error| SourceError::Unreachable {
                    source_name: "postgres",
                    // A database's own words may quote what it was sent.
                    cause: match error {
                        sqlx::Error::Io(error) => error.to_string(),
                        _ => "the notice was not taken".to_owned(),
                    },
                })
        })
    }
}
