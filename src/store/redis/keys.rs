//! API keys in Redis, as the plugin keeps them in secondary storage.
//!
//! A key is one JSON text, once under its stored form and once under its id. It is changed as a whole, and only while it is still what
//! was read, so gateways never lose each other's uses. The framework itself reads, changes and writes without a look back: uses that
//! it counts at the same instant may undo ours, here as among its own instances.
//!
//! Source: @better-auth/api-key 1.7.5, `adapter.ts` (`getStorageKeyByHashedKey`, `serializeApiKey`); golden data in
//! `tests/golden/redis.json` (`api-key`).

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use redis::Value;
use serde_json::Value as Json;
use tokio::time::Instant;

use super::line::{Failure, Fault, Line};
use super::{NAME, OPEN_WAIT_MIN, Redis, garbage};
use crate::api_key::{ApiKeys, Counters, Found, Row, Taken, Unwritten, Used, Wanted, check};
use crate::secret::Secret;
use crate::session::{BoxFuture, SourceError};
use crate::store::record::moment;
use crate::store::{KeyAccess, OpenError, Owners, Settings};
use crate::time::UnixMs;

/// Longest key that is read, in bytes. It takes about 600; some apps keep metadata in it.
const KEY_BYTES_MAX: usize = 256 * 1024;

/// How often a change is tried while others change the same key.
const TRIES_MAX: usize = 16;

/// Writes a key under both its names, if it is still what was read. Its life stays as long as it was.
const WRITE: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL', 'XX')
redis.call('SET', KEYS[2], ARGV[2], 'KEEPTTL', 'XX')
return 1";

/// Writes what is not there: nothing, and yet whoever may not write may not do it.
const WRITE_NOTHING: &str = "return redis.call('SET', KEYS[1], '', 'XX') and 1 or 0";

/// Opens the keys in the Redis that `settings.url` names, over a connection of their own.
pub(super) async fn open(
    settings: Settings,
    access: KeyAccess,
    owners: Arc<dyn Owners>,
) -> Result<Arc<dyn ApiKeys>, OpenError> {
    let redis = Redis {
        line: Line::new(&settings)?,
        prefix: settings.secondary.key_prefix.as_str().into(),
        documents: None,
    };
    let began = Instant::now();
    let deadline = began + redis.line.timeout.max(OPEN_WAIT_MIN);
    let place = redis.line.place.clone();
    let failed = |failure: Failure| failure.into_open_error(&place, began);
    redis
        .value(&by_form("vestibule-probe"), KEY_BYTES_MAX, deadline)
        .await
        .map_err(failed)?;
    if access == KeyAccess::Write {
        let mut probe = redis::cmd("EVAL");
        probe.arg(WRITE_NOTHING).arg(1);
        probe.arg(redis.key(&by_form("vestibule-probe")));
        let written = redis.line.ask(&probe, deadline).await;
        written.map_err(|failure| match failure.fault {
            Fault::Denied | Fault::ReadOnly | Fault::Unreadable => OpenError::ReadOnlyKeys {
                store: NAME,
                place: place.clone(),
                cause: failure.to_string(),
            },
            Fault::Slow | Fault::Unreachable | Fault::Cluster => failed(failure),
        })?;
    }
    Ok(Arc::new(RedisKeys {
        keys: Arc::new(Keys { redis, owners }),
    }))
}

fn by_form(stored: &str) -> String {
    format!("api-key:{stored}")
}

fn by_id(id: &str) -> String {
    format!("api-key:by-id:{id}")
}

struct Keys {
    redis: Redis,
    owners: Arc<dyn Owners>,
}

/// What stands in Redis, and what it says.
struct Stored {
    bytes: Vec<u8>,
    json: serde_json::Map<String, Json>,
    row: Row,
    form: Secret,
}

impl Stored {
    fn read(bytes: Vec<u8>) -> Result<Self, &'static str> {
        let Ok(Json::Object(json)) = serde_json::from_slice(&bytes) else {
            return Err("an API key is no JSON object");
        };
        let text = |name: &str| json.get(name).and_then(Json::as_str);
        let date = |name: &str| match json.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => moment(text, 0)
                .map(Some)
                .ok_or("a date of an API key is none"),
            Some(Json::Number(number)) => number
                .as_i64()
                .map(|ms| Some(UnixMs(ms)))
                .ok_or("a date of an API key is none"),
            Some(_) => Err("a date of an API key is none"),
        };
        let number = |name: &str| match json.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Number(number)) => number
                .as_i64()
                .map(Some)
                .ok_or("a number of an API key is not whole"),
            Some(_) => Err("a number of an API key is none"),
        };
        let flag = |name: &str| match json.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err("a flag of an API key is none"),
        };
        let length = |name: &str| {
            number(name)
                .map(|ms| ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
        };
        let row = Row {
            id: text("id").ok_or("an API key has no id")?.into(),
            config_id: text("configId").map(Into::into),
            enabled: flag("enabled")?,
            expires_at: date("expiresAt")?,
            created_at: date("createdAt")?.unwrap_or(UnixMs(0)),
            rate_limited: flag("rateLimitEnabled")?,
            rate_window: length("rateLimitTimeWindow")?,
            rate_max: number("rateLimitMax")?,
            refill_interval: length("refillInterval")?,
            refill_amount: number("refillAmount")?,
            counters: Counters {
                remaining: number("remaining")?,
                last_refill: date("lastRefillAt")?,
                requests: number("requestCount")?.unwrap_or(0),
                last_request: date("lastRequest")?,
                updated_at: date("updatedAt")?,
            },
        };
        let form = Secret::new(text("key").ok_or("an API key has no stored form")?);
        Ok(Self {
            bytes,
            json,
            row,
            form,
        })
    }

    /// The same with other counters. What we do not know of is the app's, and stays.
    fn counting(&self, counters: Counters) -> Vec<u8> {
        let mut json = self.json.clone();
        let date = |at: Option<UnixMs>| at.map_or(Json::Null, |at| Json::String(iso(at)));
        for (name, value) in [
            (
                "remaining",
                counters.remaining.map_or(Json::Null, Json::from),
            ),
            ("lastRefillAt", date(counters.last_refill)),
            ("requestCount", counters.requests.into()),
            ("lastRequest", date(counters.last_request)),
            ("updatedAt", date(counters.updated_at)),
        ] {
            json.insert(name.to_owned(), value);
        }
        Json::Object(json).to_string().into_bytes()
    }
}

/// A date as `JSON.stringify` writes it.
fn iso(at: UnixMs) -> String {
    DateTime::from_timestamp_millis(at.0)
        .unwrap_or_default()
        .format("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string()
}

/// Why a key was not changed.
struct Unchanged {
    error: SourceError,
    unsure: bool,
}

impl Keys {
    async fn stored(&self, name: &str, deadline: Instant) -> Result<Option<Stored>, SourceError> {
        let began = Instant::now();
        let bytes = self
            .redis
            .value(name, KEY_BYTES_MAX, deadline)
            .await
            .map_err(|failure| failure.into_source_error(began))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        Stored::read(bytes).map(Some).map_err(garbage)
    }

    async fn find(&self, form: &str) -> Result<Option<Found>, SourceError> {
        let deadline = Instant::now() + self.redis.line.timeout;
        let Some(stored) = self.stored(&by_form(form), deadline).await? else {
            return Ok(None);
        };
        // The copy under the id is found by no key, whatever the key looks like.
        if stored.form.expose() != form {
            return Ok(None);
        }
        let text = |name: &str| stored.json.get(name).and_then(Json::as_str);
        let owner = match text("referenceId").or_else(|| text("userId")) {
            Some(user_id) => self.owners.owner(user_id, &stored.row).await?,
            None => None,
        };
        Ok(Some(Found {
            row: stored.row,
            owner,
        }))
    }

    /// The key with this id, from where the framework reads it.
    async fn by_id(&self, id: &str, deadline: Instant) -> Result<Option<Stored>, SourceError> {
        let Some(copy) = self.stored(&by_id(id), deadline).await? else {
            return Ok(None);
        };
        let stored = self.stored(&by_form(copy.form.expose()), deadline).await?;
        Ok(stored.filter(|stored| &*stored.row.id == id))
    }

    /// Changes the counters of a key to what `change` makes of the key, however often others are quicker. `None`: there is no such key.
    async fn change<T>(
        &self,
        id: &str,
        change: impl Fn(&Row) -> (Counters, T),
    ) -> Result<Option<(Counters, T)>, Unchanged> {
        let began = Instant::now();
        let deadline = began + self.redis.line.timeout;
        let sure = |error| Unchanged {
            error,
            unsure: false,
        };
        for _ in 0..TRIES_MAX {
            let Some(stored) = self.by_id(id, deadline).await.map_err(sure)? else {
                return Ok(None);
            };
            let (counters, made) = change(&stored.row);
            if counters == stored.row.counters {
                return Ok(Some((counters, made)));
            }
            let mut write = redis::cmd("EVAL");
            write.arg(WRITE).arg(2);
            write.arg(self.redis.key(&by_form(stored.form.expose())));
            write.arg(self.redis.key(&by_id(id)));
            write.arg(stored.bytes.as_slice());
            write.arg(stored.counting(counters));
            let answer = self.redis.line.change(&write, deadline).await;
            match answer.map_err(|(failure, unsure)| Unchanged {
                error: failure.into_source_error(began),
                unsure,
            })? {
                Value::Int(1) => return Ok(Some((counters, made))),
                _ => tokio::task::yield_now().await,
            }
        }
        Err(sure(SourceError::Timeout {
            source_name: NAME,
            waited: began.elapsed(),
        }))
    }

    async fn take(&self, id: &str, wanted: Wanted) -> Result<Taken, SourceError> {
        let taken = self
            .change(id, |row| {
                let mut row = row.clone();
                let mut granted = 0;
                while granted < wanted.uses {
                    match check::take(&row, row.counters, wanted.now) {
                        Ok(after) => row.counters = after,
                        Err(_) => break,
                    }
                    granted += 1;
                }
                (row.counters, granted)
            })
            .await
            .map_err(|unchanged| unchanged.error)?;
        Ok(match taken {
            Some((counters, granted)) => Taken::Uses {
                granted,
                counters: Some(counters),
            },
            None => Taken::Gone,
        })
    }

    async fn write(&self, id: &str, used: Used) -> Result<Option<Counters>, Unwritten> {
        let written = self.change(id, |row| (used.added_to(row.counters), ()));
        match written.await {
            Ok(written) => Ok(written.map(|(counters, ())| counters)),
            Err(Unchanged { error, unsure }) => Err(Unwritten { error, unsure }),
        }
    }
}

struct RedisKeys {
    keys: Arc<Keys>,
}

impl ApiKeys for RedisKeys {
    fn name(&self) -> &'static str {
        NAME
    }

    fn find<'a>(&'a self, stored: &'a str) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        let (keys, stored) = (Arc::clone(&self.keys), Secret::new(stored));
        let work = async move { keys.find(stored.expose()).await };
        Box::pin(self.keys.redis.line.at_home(work))
    }

    fn take<'a>(
        &'a self,
        id: &'a str,
        wanted: Wanted,
    ) -> BoxFuture<'a, Result<Taken, SourceError>> {
        let (keys, id) = (Arc::clone(&self.keys), Box::<str>::from(id));
        let work = async move { keys.take(&id, wanted).await };
        Box::pin(self.keys.redis.line.at_home(work))
    }

    fn write<'a>(
        &'a self,
        id: &'a str,
        used: Used,
    ) -> BoxFuture<'a, Result<Option<Counters>, Unwritten>> {
        Box::pin(async move {
            let (keys, id) = (Arc::clone(&self.keys), Box::<str>::from(id));
            let work = async move { Ok(keys.write(&id, used).await) };
            // Refused at the door: nothing was begun.
            let told = self.keys.redis.line.at_home(work).await;
            told.unwrap_or_else(|error| {
                Err(Unwritten {
                    error,
                    unsure: false,
                })
            })
        })
    }

    fn counters<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Counters>, SourceError>> {
        let (keys, id) = (Arc::clone(&self.keys), Box::<str>::from(id));
        Box::pin(self.keys.redis.line.at_home(async move {
            let deadline = Instant::now() + keys.redis.line.timeout;
            let stored = keys.by_id(&id, deadline).await?;
            Ok(stored.map(|stored| stored.row.counters))
        }))
    }
}
