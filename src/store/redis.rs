//! Sessions in Redis or Valkey: the framework's secondary storage.
//!
//! Reads are `GETRANGE`, so that nobody's value can fill our memory; besides, a gateway needs `PING`, and `SUBSCRIBE` and `PUBLISH`
//! where it listens. Nothing is written unless sessions are prolonged.
//!
//! Source: better-auth 1.7.24, `internal-adapter`; @better-auth/redis-storage 1.7.5; golden data in `tests/golden/redis.json`.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use self::entry::Entry;
use self::line::{Failure, Line};
use super::fallthrough::{self, Ahead, Word};
use super::scratch;
use super::{Address, Build, Detected, Documents, OpenError, Opened, Settings};
use crate::kind::Kind;
use crate::migration::accounts::NewSession;
use crate::migration::dialogue::{self, RowQuery, Unreachable};
use crate::secret::Secret;
use crate::session::feed::Feed;
use crate::session::{BoxFuture, Record, Source, SourceError};

mod bridge;
mod entry;
mod extend;
mod feed;
mod keys;
mod limits;
mod line;

pub(super) use limits::open as open_limits;

const NAME: &str = "redis";

/// `redis://USER:PASSWORD@HOST/NUMBER`.
pub(super) const KIND: Kind<Build> = Kind {
    name: NAME,
    about: "Redis or Valkey: redis://USER:PASSWORD@HOST/NUMBER, rediss:// with TLS[?sslrootcert=…], redis+unix:///SOCKET",
    build: Build {
        key_storage: Some(|settings, access, owners| {
            Box::pin(keys::open(settings, access, owners))
        }),
        line: Some(line),
        beside_sessions: Some(|settings, users| bridge::open(&settings, users)),
        values: Some(bridge::open_values),
        scratch: Some(scratch::By {
            make: |settings, place| Box::pin(std::future::ready(Ok(prefixed(settings, &place)))),
            fill: |settings, sessions| Box::pin(fill(settings, sessions)),
            end: |settings, sessions| Box::pin(end(settings, sessions)),
            remove: |settings, place, sessions| Box::pin(end(prefixed(settings, &place), sessions)),
        }),
        keyspace_events: Some(|settings, enable| Box::pin(feed::keyspace_events(settings, enable))),
        ..Build::plain(
            &[
                ("redis", "redis"),
                ("rediss", "rediss"),
                ("valkey", "redis"),
                ("valkeys", "rediss"),
                ("redis+unix", "redis+unix"),
                ("valkey+unix", "redis+unix"),
            ],
            Address::Server,
            |settings| Box::pin(open(settings)),
        )
    },
};

/// Opening may take longer than a lookup: it resolves names, connects and negotiates TLS, once.
const OPEN_WAIT_MIN: Duration = Duration::from_secs(5);

/// Longest value that is read, in bytes. A session with its user takes about 500; some apps keep a picture in the user.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// Longest `revoked-sessions-before-…` that is read, in bytes. The framework writes 13 digits.
const MOMENT_BYTES_MAX: usize = 64;

/// Keys that the framework keeps beside the sessions. Whoever presents one of these names as a token has none.
const OTHER_KEYS: [&str; 2] = ["active-sessions-", REVOKED_BEFORE];

const REVOKED_BEFORE: &str = "revoked-sessions-before-";

/// Sessions in one Redis.
struct Redis {
    line: Line,
    prefix: Box<str>,
    /// What belongs to the framework's answers, where they are wanted.
    documents: Option<Documents>,
}

/// The same server, with a prefix of its own before every key.
fn prefixed(mut settings: Settings, place: &scratch::Place) -> Settings {
    settings.secondary.key_prefix = format!("{}:", place.name);
    settings
}

async fn fill(settings: Settings, sessions: Vec<NewSession>) -> Result<(), OpenError> {
    let writer = bridge::open(&settings, Arc::new(Anybody))?;
    for session in &sessions {
        let written = writer.write(session).await;
        written.map_err(|error| not_made(&error))?;
    }
    Ok(())
}

async fn end(settings: Settings, sessions: Vec<NewSession>) -> Result<(), OpenError> {
    let writer = bridge::open(&settings, Arc::new(Anybody))?;
    for session in &sessions {
        let gone = writer.withdraw(session).await;
        gone.map_err(|error| not_made(&error))?;
    }
    Ok(())
}

fn not_made(error: &SourceError) -> OpenError {
    OpenError::Unreachable {
        store: NAME,
        place: "the place of scratch sessions".to_owned(),
        cause: error.to_string(),
    }
}

/// Users who are made up as they are asked for.
struct Anybody;

impl super::old::Tables for Anybody {
    fn row<'a>(
        &'a self,
        _query: &'a RowQuery,
    ) -> BoxFuture<'a, Result<Option<dialogue::Row>, Unreachable>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn user<'a>(
        &'a self,
        user_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<serde_json::Map<String, serde_json::Value>>, SourceError>>
    {
        let user = serde_json::json!({
            "id": user_id,
            "email": format!("{}@scratch.invalid", user_id.to_lowercase()),
            "emailVerified": true,
            "name": "Scratch",
        });
        let user = user.as_object().cloned();
        Box::pin(std::future::ready(Ok(user)))
    }
}

/// The line alone.
fn line(settings: Settings) -> Result<Arc<dyn Feed>, OpenError> {
    Ok(Arc::new(feed::Channel::new(Redis::new(&settings)?)))
}

async fn open(settings: Settings) -> Result<Opened, OpenError> {
    let redis = Redis::new(&settings)?;
    let opened = Opened {
        detected: redis.inspect().await?,
        source: Arc::new(Secondary(Arc::clone(&redis))),
        extend: Some(Arc::new(Secondary(Arc::clone(&redis)))),
        feed: Some(Arc::new(feed::Channel::new(Arc::clone(&redis)))),
        keys: None,
    };
    match &settings.secondary.database {
        None => Ok(opened),
        Some(_) => fallthrough::open(Arc::new(Secondary(redis)), opened, settings).await,
    }
}

/// Whether a text may be the token of a session, by the keys that hold other things: rate limits (`<address>|<path>`), verifications
/// and API keys (`kind:…`).
fn may_be_token(text: &str) -> bool {
    !text.is_empty()
        && !text.contains([':', '|'])
        && !OTHER_KEYS.iter().any(|other| text.starts_with(other))
}

impl Redis {
    /// Connects at the first question.
    fn new(settings: &Settings) -> Result<Arc<Self>, OpenError> {
        Ok(Arc::new(Self {
            line: Line::new(settings)?,
            prefix: settings.secondary.key_prefix.as_str().into(),
            documents: settings.documents.clone(),
        }))
    }

    /// Proves that lookups run, and says what there is.
    async fn inspect(&self) -> Result<Detected, OpenError> {
        let began = Instant::now();
        let deadline = began + self.line.timeout.max(OPEN_WAIT_MIN);
        let failed = |failure: Failure| failure.into_open_error(&self.line.place, began);
        self.value("vestibule-probe", VALUE_BYTES_MAX, deadline)
            .await
            .map_err(failed)?;
        let mut warnings = Vec::new();
        // Who may read keys may still not be told about the server: then nothing is known about it, and nothing is wrong.
        let about = self.text(redis::cmd("INFO"), deadline).await;
        let said = |name: &str| {
            let lines = about.iter().flat_map(|text| text.lines());
            lines
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim().to_owned())
        };
        if said("cluster_enabled").as_deref() == Some("1") {
            self.refuse_cluster(deadline).await?;
        }
        if said("maxmemory_policy").is_some_and(|policy| policy.starts_with("allkeys")) {
            warnings.push(
                "the server forgets keys at will when its memory is full (`maxmemory-policy`), and signs people out with them: choose \
                 `noeviction` or a `volatile-` policy"
                    .to_owned(),
            );
        }
        warnings.extend(self.events_warning(deadline).await);
        Ok(Detected {
            kind: NAME,
            place: self.line.place.clone(),
            version: match said("valkey_version") {
                Some(version) => format!("{version} (Valkey)"),
                None => said("redis_version").unwrap_or_default(),
            },
            tables: Vec::new(),
            columns: Vec::new(),
            dates: None,
            warnings,
        })
    }

    /// A cluster of one node is as good as none. Of several, each holds a part of the sessions only.
    async fn refuse_cluster(&self, deadline: Instant) -> Result<(), OpenError> {
        let mut question = redis::cmd("CLUSTER");
        question.arg("INFO");
        let about = self.text(question, deadline).await.unwrap_or_default();
        let size = about
            .lines()
            .find_map(|line| line.strip_prefix("cluster_size:"));
        match size.map(str::trim) {
            None | Some("0" | "1") => Ok(()),
            Some(size) => Err(OpenError::Cluster {
                place: self.line.place.clone(),
                cause: format!("it is one of {size} shards of a Redis Cluster"),
            }),
        }
    }

    /// An answer that is a text and holds no secrets. `None`: the server does not say.
    async fn text(&self, question: redis::Cmd, deadline: Instant) -> Option<String> {
        match self.line.ask(&question, deadline).await.ok()? {
            Value::BulkString(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Value::SimpleString(text) => Some(text),
            Value::VerbatimString { text, .. } => Some(text.to_string()),
            _ => None,
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What stands under a name; nothing and empty are the same to the framework.
    async fn value(
        &self,
        name: &str,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let mut question = redis::cmd("GETRANGE");
        question.arg(self.key(name)).arg(0).arg(bytes_max);
        match self.line.ask(&question, deadline).await? {
            Value::BulkString(bytes) if bytes.len() <= bytes_max => Ok(bytes),
            Value::BulkString(_) => Err(Failure::unexpected(
                "a value is larger than any session should be",
            )),
            Value::Nil => Ok(Vec::new()),
            _ => Err(Failure::unexpected("the answer is no text")),
        }
    }

    /// What is said of a token, in two questions. A script would ask both at once, saving a round trip in one lookup of many, but it
    /// takes nine times the server's time (15 µs against 1.7 µs, of a thread that the app shares) and rights that readers lack.
    async fn look_up(&self, token: &str) -> Result<Word, SourceError> {
        let began = Instant::now();
        let deadline = began + self.line.timeout;
        let told = |failure: Failure| failure.into_source_error(began);
        let bytes = self
            .value(token, VALUE_BYTES_MAX, deadline)
            .await
            .map_err(told)?;
        if bytes.is_empty() {
            return Ok(Word::Silent);
        }
        let entry = Entry::read(&bytes, token, self.documents.as_ref()).map_err(garbage)?;
        let Some(entry) = entry else {
            return Ok(Word::Ended);
        };
        let revoked = self.is_revoked(&entry, deadline).await.map_err(told)?;
        Ok(if revoked {
            Word::Ended
        } else {
            Word::Known(entry.record)
        })
    }

    /// Whether the user ended all sessions after this one began. To be asked after the entry was read: the framework writes this key
    /// before it deletes entries, so one of the two is seen.
    async fn is_revoked(&self, entry: &Entry, deadline: Instant) -> Result<bool, Failure> {
        let name = format!("{REVOKED_BEFORE}{}", entry.record.user_id);
        let before = self.value(&name, MOMENT_BYTES_MAX, deadline).await?;
        Ok(entry.is_before(&before))
    }
}

fn garbage(cause: impl std::fmt::Display) -> SourceError {
    SourceError::Garbage {
        source_name: NAME,
        cause: cause.to_string(),
    }
}

/// Sessions in Redis, for whoever asks on whatever thread.
struct Secondary(Arc<Redis>);

impl Ahead for Secondary {
    fn word<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Word, SourceError>> {
        Box::pin(async move {
            if !may_be_token(token) {
                return Ok(Word::Ended);
            }
            let (redis, token) = (Arc::clone(&self.0), Secret::new(token));
            let work = async move { redis.look_up(token.expose()).await };
            self.0.line.at_home(work).await
        })
    }
}

impl Source for Secondary {
    fn name(&self) -> &'static str {
        NAME
    }

    fn find<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        Box::pin(async move {
            match self.word(token).await? {
                Word::Known(record) => Ok(Some(record)),
                Word::Ended | Word::Silent => Ok(None),
            }
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        let redis = Arc::clone(&self.0);
        Box::pin(self.0.line.at_home(async move {
            let began = Instant::now();
            let deadline = began + redis.line.timeout;
            let answer = redis.line.ask(&redis::cmd("PING"), deadline).await;
            answer
                .map(drop)
                .map_err(|failure| failure.into_source_error(began))
        }))
    }
}
