//! Sessions taken over from an old system, written as the framework writes its own; and the old system's own values.
//!
//! Source: better-auth 1.7.24, `internal-adapter` (`createSession`, `setActiveSessionReferences`, `isRevokedSession`); golden data in
//! `tests/golden/redis.json`.

use std::sync::Arc;

use redis::Value;
use serde_json::{Map, json};
use tokio::time::Instant;

use super::entry::number;
use super::extend::{Move, iso, longer_list, seconds, without};
use super::line::{Failure, Fault};
use super::{MOMENT_BYTES_MAX, REVOKED_BEFORE, Redis, VALUE_BYTES_MAX, garbage, may_be_token};
use crate::migration::accounts::NewSession;
use crate::migration::bridge::{Beside, Written};
use crate::migration::dialogue::Unreachable;
use crate::secret::Secret;
use crate::session::{BoxFuture, SourceError};
use crate::store::old::{Tables, Values};
use crate::store::{OpenError, Settings};
use crate::time::UnixMs;

/// Writes an entry that is not there yet, and the list if it is still what was seen. Answers 1 when written, 0 when the entry is
/// there, 2 when the list is another one by now.
const WRITE: &str = "\
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[3] then return 2 end
redis.call('SETEX', KEYS[1], ARGV[2], ARGV[1])
redis.call('SETEX', KEYS[2], ARGV[5], ARGV[4])
return 1";

/// Takes an entry away, and its place in the list if that is still what was seen.
const WITHDRAW: &str = "\
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then return 2 end
redis.call('DEL', KEYS[1])
if ARGV[2] == '' then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], ARGV[2], 'KEEPTTL') end
return 1";

/// How often a write is tried while the user signs in and out elsewhere: ten devices may come at once.
const WRITES_MAX: usize = 12;

/// Opens the writer. Connects at the first question.
pub(super) fn open(
    settings: &Settings,
    users: Arc<dyn Tables>,
) -> Result<Arc<dyn Beside>, OpenError> {
    let redis = Redis::new(settings)?;
    Ok(Arc::new(Writer { redis, users }))
}

/// Opens the old system's own values.
pub(super) fn open_values(mut settings: Settings) -> Result<Arc<dyn Values>, OpenError> {
    // Its keys are its own.
    settings.secondary.key_prefix = String::new();
    Ok(Arc::new(OldValues(Redis::new(&settings)?)))
}

struct Writer {
    redis: Arc<Redis>,
    users: Arc<dyn Tables>,
}

impl Beside for Writer {
    fn write<'a>(&'a self, session: &'a NewSession) -> BoxFuture<'a, Result<Written, SourceError>> {
        Box::pin(async move {
            let Some(user) = self.users.user(&session.user_id).await? else {
                return Ok(Written::Ended);
            };
            let (redis, session) = (Arc::clone(&self.redis), session.clone());
            let work = async move { redis.write_new(&session, &user).await };
            self.redis.line.at_home(work).await
        })
    }

    fn withdraw<'a>(&'a self, session: &'a NewSession) -> BoxFuture<'a, Result<(), SourceError>> {
        let (redis, session) = (Arc::clone(&self.redis), session.clone());
        let work = async move { redis.withdraw(&session).await };
        Box::pin(self.redis.line.at_home(work))
    }
}

impl Redis {
    async fn write_new(
        &self,
        session: &NewSession,
        user: &Map<String, serde_json::Value>,
    ) -> Result<Written, SourceError> {
        let token = session.token.expose();
        let unwritable = || garbage("a session that was taken over cannot be written");
        if !may_be_token(token) {
            return Err(unwritable());
        }
        let began = Instant::now();
        let deadline = began + self.line.timeout;
        let told = |failure: Failure| failure.into_source_error(began);
        let to = Move {
            seen: session.expires_at,
            until: session.expires_at,
            now: session.updated_at,
        };
        let entry = entry(session, user).ok_or_else(unwritable)?;
        let life = seconds(to.now, to.until).ok_or_else(unwritable)?;
        let list_name = format!("active-sessions-{}", session.user_id);
        let revoked_name = format!("{REVOKED_BEFORE}{}", session.user_id);
        for _ in 0..WRITES_MAX {
            let list = self.value(&list_name, VALUE_BYTES_MAX, deadline).await;
            let list = list.map_err(told)?;
            let (longer, furthest) = longer_list(&list, token, to);
            let list_life = seconds(to.now, furthest).ok_or_else(unwritable)?;
            let mut write = redis::cmd("EVAL");
            write.arg(WRITE).arg(2);
            write.arg(self.key(token)).arg(self.key(&list_name));
            write.arg(&entry).arg(life);
            write.arg(list).arg(longer).arg(list_life);
            let written = self.line.ask(&write, deadline).await.map_err(told)?;
            // Ours: nobody else has this token. The connection broke after it had been written, and it was asked again.
            if let Value::Int(0 | 1) = written {
                // Asked after the entry is there: whoever ends all sessions writes this first, and deletes what the list names then.
                let before = self.value(&revoked_name, MOMENT_BYTES_MAX, deadline).await;
                #[allow(clippy::cast_precision_loss)]
                let created = session.created_at.0 as f64;
                if number(&before.map_err(told)?).is_some_and(|before| created < before) {
                    self.withdraw(session).await?;
                    return Ok(Written::Ended);
                }
                return Ok(Written::There);
            }
        }
        Err(SourceError::Timeout {
            source_name: super::NAME,
            waited: began.elapsed(),
        })
    }

    async fn withdraw(&self, session: &NewSession) -> Result<(), SourceError> {
        let token = session.token.expose();
        let began = Instant::now();
        let deadline = began + self.line.timeout;
        let told = |failure: Failure| failure.into_source_error(began);
        let list_name = format!("active-sessions-{}", session.user_id);
        for _ in 0..WRITES_MAX {
            let list = self.value(&list_name, VALUE_BYTES_MAX, deadline).await;
            let list = list.map_err(told)?;
            let shorter = without(&list, token);
            let mut write = redis::cmd("EVAL");
            write.arg(WITHDRAW).arg(2);
            write.arg(self.key(token)).arg(self.key(&list_name));
            write.arg(list).arg(shorter);
            if self.line.ask(&write, deadline).await.map_err(told)? == Value::Int(1) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What stands under the token of a session that has just begun. `None`: its dates are beyond the year 9999.
fn entry(session: &NewSession, user: &Map<String, serde_json::Value>) -> Option<String> {
    let date = |at: UnixMs| serde_json::from_str::<serde_json::Value>(&iso(at)?).ok();
    let mut fields = json!({
        "id": session.id,
        "ipAddress": session.ip_address,
        "userAgent": session.user_agent,
        "expiresAt": date(session.expires_at)?,
        "userId": session.user_id,
        "token": session.token.expose(),
        "createdAt": date(session.created_at)?,
        "updatedAt": date(session.updated_at)?,
    });
    for (name, value) in [
        ("impersonatedBy", &session.impersonated_by),
        ("activeOrganizationId", &session.organization_id),
    ] {
        if let (Some(value), Some(fields)) = (value, fields.as_object_mut()) {
            fields.insert(name.to_owned(), value.as_str().into());
        }
    }
    Some(json!({ "session": fields, "user": user }).to_string())
}

struct OldValues(Arc<Redis>);

impl Values for OldValues {
    fn value<'a>(&'a self, key: &'a Secret) -> BoxFuture<'a, Result<Option<Secret>, Unreachable>> {
        let (redis, key) = (Arc::clone(&self.0), key.clone());
        Box::pin(async move {
            let work = async move {
                let deadline = Instant::now() + redis.line.timeout;
                let read = redis.value(key.expose(), VALUE_BYTES_MAX, deadline).await;
                Ok(read.map_err(|failure| match failure.fault {
                    Fault::Slow => Unreachable::Timeout,
                    Fault::Unreachable => Unreachable::Connect,
                    Fault::Denied => Unreachable::Refused,
                    Fault::Cluster | Fault::ReadOnly | Fault::Unreadable => Unreachable::Garbage,
                }))
            };
            let done = self.0.line.at_home(work).await;
            let bytes = done.unwrap_or(Err(Unreachable::Refused))?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let text = String::from_utf8(bytes).map_err(|_| Unreachable::Garbage)?;
            Ok(Some(Secret::new(text)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Entry;
    use super::*;

    #[test]
    fn an_entry_reads_as_the_session_it_was_made_for() {
        let session = NewSession {
            id: "s".into(),
            token: Secret::new("abcdefghijklmnopqrstuvwxyzABCDEF"),
            user_id: "ada".into(),
            expires_at: UnixMs(1_795_834_086_039),
            created_at: UnixMs(1_795_000_000_000),
            updated_at: UnixMs(1_795_229_286_039),
            ip_address: "192.0.2.1".into(),
            user_agent: "browser".into(),
            impersonated_by: Some("grace".into()),
            organization_id: None,
            in_database: false,
        };
        let user = json!({ "id": "ada", "email": "ada@example.com", "plan": "gold" });
        let text = entry(&session, user.as_object().unwrap()).unwrap();
        let token = session.token.expose();
        let read = Entry::read(text.as_bytes(), token, None).unwrap().unwrap();
        assert_eq!(&*read.record.user_id, "ada");
        assert_eq!(read.record.expires_at, session.expires_at);
        assert_eq!(read.record.created_at, Some(session.created_at));
        assert_eq!(read.record.updated_at, Some(session.updated_at));
        assert_eq!(read.record.impersonated_by.as_deref(), Some("grace"));
        assert!(text.contains(r#""plan":"gold""#) && !text.contains("activeOrganizationId"));
    }
}
