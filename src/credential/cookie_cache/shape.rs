//! What a payload must say before anything in it is believed.
//!
//! Source: better-auth 1.7, cookies/cache.ts (`cookieCachePayloadSchema`) and core/src/db/schema: texts, and dates the framework
//! has revived. A text that looks like a date has become one, so it is no text any more.

use serde_json::{Map, Value};

use super::{Opened, Payload, date};
use crate::time::UnixMs;

/// Checks a payload, and puts in what the framework puts in.
pub(super) fn check(opened: Opened) -> Option<Payload> {
    let mut fields = opened.payload;
    let (Value::Object(mut session), Value::Object(mut user)) =
        (fields.remove("session")?, fields.remove("user")?)
    else {
        return None;
    };
    check_core(&session)?;
    text(session.get("token")?)?;
    optional_text(session.get("ipAddress"))?;
    optional_text(session.get("userAgent"))?;
    let session_expires_at = instant(session.get("expiresAt")?)?;
    // Whatever it is becomes text there, but it must be something.
    let user_id = session.get_mut("userId")?;
    if !user_id.is_string() {
        *user_id = user_id.to_string().into();
    }

    check_core(&user)?;
    text(user.get("name")?)?;
    optional_text(user.get("image"))?;
    let email = text(user.get("email")?)?.to_lowercase();
    user.insert("email".into(), email.into());
    if !user
        .entry("emailVerified")
        .or_insert(Value::Bool(false))
        .is_boolean()
    {
        return None;
    }

    let updated_at = moment(fields.get("updatedAt")?)?;
    let version = match fields.get("version") {
        None => None,
        Some(version) => Some(text(version)?.to_owned()),
    };
    Some(Payload {
        session,
        user,
        updated_at,
        version,
        expires_at: opened.expires_at,
        session_expires_at,
    })
}

fn check_core(fields: &Map<String, Value>) -> Option<()> {
    text(fields.get("id")?)?;
    for key in ["createdAt", "updatedAt"] {
        if let Some(value) = fields.get(key) {
            instant(value)?;
        }
    }
    Some(())
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| date::parse(text).is_none())
}

fn optional_text(value: Option<&Value>) -> Option<()> {
    match value {
        None | Some(Value::Null) => Some(()),
        Some(value) => text(value).map(|_| ()),
    }
}

fn instant(value: &Value) -> Option<UnixMs> {
    date::parse(value.as_str()?).map(|date| date.at)
}

/// A number of milliseconds; what is finer goes.
pub(super) fn moment(value: &Value) -> Option<UnixMs> {
    // A number too large for a moment becomes the last one there is.
    #[allow(clippy::cast_possible_truncation)]
    value.as_f64().map(|ms| UnixMs(ms.floor() as i64))
}
