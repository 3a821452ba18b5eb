//! Counts of sign-ins that several gateways share.
//!
//! Every step is one script, so that two gateways never give the same try twice. The time is the server's: gateways may disagree about
//! it, and a bucket must not refill by that. All keys bear one tag, so that a cluster keeps them on one node.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::line::Line;
use crate::migration::limits::{Down, Key, Limited, Shared, Taken, Wanted};
use crate::secret::Secret;
use crate::session::{BoxFuture, SourceError};
use crate::store::{OpenError, SchemaOverrides, SecondaryStorage, Settings};

/// Longest wait for one answer: whoever signs in waits for it, and a Redis nearby takes a millisecond.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Sign-ins that may wait for it at once. Beyond that it is taken for one that does not answer.
const WAITING_MAX: usize = 1024;

/// Longest list of those who are limited, besides which it forgets those whose time is over first. About 1 MiB.
const LISTED_MAX: usize = 10_000;

/// One of each, or nothing. Arguments: for each key from the second, how long a try takes to come back and how far it may be ahead.
/// Answers the place of the spent one, from 1, and how long until there is a try; or 0. The first key lists who is limited.
const TAKE: &str = "\
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local full = {}
local spent, wait = 0, 0
for i = 2, #KEYS do
  local every, ahead = tonumber(ARGV[2*i-3]), tonumber(ARGV[2*i-2])
  local at = tonumber(redis.call('GET', KEYS[i]) or 0)
  if at < now then at = now end
  if at > now + ahead + every then at = now + ahead + every end
  if at - now > ahead and at - now - ahead > wait then spent, wait = i - 1, at - now - ahead end
  full[i] = at + every
end
local function list(i, free)
  redis.call('ZADD', KEYS[1], string.format('%.0f', free), KEYS[i])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now))
  local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[#ARGV])
  if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1) end
  redis.call('EXPIRE', KEYS[1], 172800)
end
if spent > 0 then
  list(spent + 1, now + wait)
  return {spent, string.format('%.0f', wait)}
end
for i = 2, #KEYS do
  local ahead = tonumber(ARGV[2*i-2])
  redis.call('SET', KEYS[i], string.format('%.0f', full[i]), 'PX', math.ceil((full[i] - now) / 1000) + 1)
  if full[i] - now > ahead then list(i, full[i] - ahead) end
end
return {0, '0'}";

/// One of each back. Arguments as above.
const GIVE_BACK: &str = "\
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
for i = 2, #KEYS do
  local every, ahead = tonumber(ARGV[2*i-3]), tonumber(ARGV[2*i-2])
  local at = tonumber(redis.call('GET', KEYS[i]) or 0) - every
  if at > now then
    redis.call('SET', KEYS[i], string.format('%.0f', at), 'PX', math.ceil((at - now) / 1000) + 1)
  else
    redis.call('DEL', KEYS[i])
  end
  if at - now <= ahead then redis.call('ZREM', KEYS[1], KEYS[i]) end
end
return 0";

/// All of them anew. Answers how many were counted.
const FORGET: &str = "\
local known = 0
for i = 2, #KEYS do
  known = known + redis.call('DEL', KEYS[i])
  redis.call('ZREM', KEYS[1], KEYS[i])
end
return known";

/// Who is limited, the longest first: keys and how long. Argument: how many at most.
const LIMITED: &str = "\
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local found = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', string.format('(%.0f', now), 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[1]))
for i = 2, #found, 2 do found[i] = string.format('%.0f', tonumber(found[i]) - now) end
return found";

/// Most keys of one script.
const KEYS_MAX: usize = 500;

/// Counts in one Redis.
struct Counts(Arc<Inner>);

struct Inner {
    line: Line,
    prefix: String,
}

/// Opens them. Connects at the first question.
pub(in crate::store) fn open(url: &Secret, name: &str) -> Result<Arc<dyn Shared>, OpenError> {
    let line = Line::new(&Settings {
        url: url.clone(),
        timeout: WAIT_MAX,
        connections: 1,
        waiting_max: WAITING_MAX,
        schema: SchemaOverrides::default(),
        zone_offset_seconds: 0,
        app: super::super::App::default(),
        documents: None,
        extend: false,
        secondary: SecondaryStorage::default(),
    })?;
    let prefix = format!("vestibule:{{sign-ins-{name}}}:");
    Ok(Arc::new(Counts(Arc::new(Inner { line, prefix }))))
}

impl Inner {
    fn script<'k>(&self, text: &str, keys: impl ExactSizeIterator<Item = &'k Key>) -> Cmd {
        let mut script = redis::cmd("EVAL");
        script.arg(text).arg(keys.len() + 1);
        script.arg(format!("{}limited", self.prefix));
        for key in keys {
            script.arg(format!("{}{}", self.prefix, key.as_str()));
        }
        script
    }

    /// Runs a script, once.
    async fn run(&self, script: Cmd) -> Result<Value, SourceError> {
        let began = Instant::now();
        let answer = self.line.change(&script, began + WAIT_MAX).await;
        answer.map_err(|(failure, _)| failure.into_source_error(began))
    }
}

impl Counts {
    async fn run(&self, script: Cmd) -> Result<Value, Down> {
        let inner = Arc::clone(&self.0);
        let done = self.0.line.at_home(async move { inner.run(script).await });
        done.await.map_err(|error| Down(error.to_string()))
    }
}

impl Shared for Counts {
    fn take<'a>(&'a self, wanted: &'a [Wanted]) -> BoxFuture<'a, Result<Taken, Down>> {
        Box::pin(async move {
            let mut script = self.0.script(TAKE, wanted.iter().map(|one| &one.key));
            for one in wanted {
                script.arg(one.budget.every_us()).arg(one.budget.ahead_us());
            }
            script.arg(LISTED_MAX);
            let Value::Array(answer) = self.run(script).await? else {
                return Err(unreadable());
            };
            let [Value::Int(spent), wait] = answer.as_slice() else {
                return Err(unreadable());
            };
            let place = usize::try_from(*spent).map_err(|_| unreadable())?;
            let Some(place) = place.checked_sub(1) else {
                return Ok(Taken::All);
            };
            let scope = wanted.get(place).and_then(|one| one.key.scope());
            Ok(Taken::Spent {
                scope: scope.ok_or_else(unreadable)?,
                wait: microseconds(wait).ok_or_else(unreadable)?,
            })
        })
    }

    fn give_back<'a>(&'a self, wanted: &'a [Wanted]) -> BoxFuture<'a, Result<(), Down>> {
        Box::pin(async move {
            let mut script = self.0.script(GIVE_BACK, wanted.iter().map(|one| &one.key));
            for one in wanted {
                script.arg(one.budget.every_us()).arg(one.budget.ahead_us());
            }
            self.run(script).await.map(drop)
        })
    }

    fn forget<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<u64, Down>> {
        Box::pin(async move {
            let mut known = 0;
            for keys in keys.chunks(KEYS_MAX) {
                let Value::Int(more) = self.run(self.0.script(FORGET, keys.iter())).await? else {
                    return Err(unreadable());
                };
                known += u64::try_from(more).unwrap_or(0);
            }
            Ok(known)
        })
    }

    fn limited<'a>(&'a self, most: usize) -> BoxFuture<'a, Result<Vec<Limited>, Down>> {
        Box::pin(async move {
            let mut script = self.0.script(LIMITED, [].iter());
            script.arg(most.min(LISTED_MAX));
            let Value::Array(answer) = self.run(script).await? else {
                return Err(unreadable());
            };
            let pairs = answer.chunks_exact(2).filter_map(|pair| {
                let [Value::BulkString(key), wait] = pair else {
                    return None;
                };
                let key = std::str::from_utf8(key).ok()?;
                let key = Key::parse(key.strip_prefix(&self.0.prefix)?)?;
                let wait = microseconds(wait)?;
                Some(Limited { key, wait })
            });
            Ok(pairs.collect())
        })
    }
}

fn unreadable() -> Down {
    Down("an answer of another form than the question has".to_owned())
}

fn microseconds(value: &Value) -> Option<Duration> {
    let Value::BulkString(text) = value else {
        return None;
    };
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok().map(Duration::from_micros)
}
