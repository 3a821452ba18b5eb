//! A session and its user as the framework writes them in JSON: in the answer of `get-session`, in Redis, in the cookie cache.
//!
//! Source: better-auth 1.7, the output of `parseSessionOutput` and `parseUserOutput`; golden data in `tests/golden/cookie-cache.json`.

use chrono::DateTime;
use serde_json::{Map, Value};

use super::Record;
use crate::secret::Secret;
use crate::time::UnixMs;

/// An object of a document, as JSON reads it.
pub type Fields = Map<String, Value>;

/// What stands in a document and cannot be used: the field, never its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` holds {what}")]
pub struct Unreadable {
    /// The framework's name of the field, as `session.userId`.
    pub field: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Record {
    /// Reads a session and its user. Ids may be numbers, as serial ones are in some stores; dates are ISO text with a zone, or
    /// milliseconds. A missing expiry counts as long past, as it does in the framework.
    ///
    /// # Errors
    /// When a field that decides something is missing or of another type. Fields that only describe somebody are checked as well:
    /// what the app is told must be what the framework would say.
    pub fn from_document(session: &Fields, user: &Fields) -> Result<Self, Unreadable> {
        let in_session = |key, field| Field {
            value: session.get(key),
            field,
        };
        let in_user = |key, field| Field {
            value: user.get(key),
            field,
        };
        Ok(Self {
            session_id: in_session("id", "session.id").id()?,
            token: Secret::new(in_session("token", "session.token").required()?),
            expires_at: in_session("expiresAt", "session.expiresAt")
                .date()?
                .unwrap_or(UnixMs(0)),
            created_at: in_session("createdAt", "session.createdAt").date()?,
            updated_at: in_session("updatedAt", "session.updatedAt").date()?,
            impersonated_by: in_session("impersonatedBy", "session.impersonatedBy")
                .optional_id()?,
            organization_id: in_session("activeOrganizationId", "session.activeOrganizationId")
                .optional_id()?,
            organization_role: None,
            user_id: in_user("id", "user.id").id()?,
            email: in_user("email", "user.email").text()?,
            email_verified: in_user("emailVerified", "user.emailVerified").flag()?,
            name: in_user("name", "user.name").text()?,
            role: in_user("role", "user.role").text()?,
            banned: in_user("banned", "user.banned").flag()?,
            ban_expires: in_user("banExpires", "user.banExpires").date()?,
            team_id: in_session("activeTeamId", "session.activeTeamId").optional_id()?,
            document: None,
        })
    }

    /// The same, keeping the document as it came.
    ///
    /// # Errors
    /// As [`Self::from_document`].
    pub fn with_document(session: &Fields, user: &Fields) -> Result<Self, Unreadable> {
        let document = serde_json::json!({ "session": session, "user": user });
        Ok(Self {
            document: Some(document.to_string().into_boxed_str()),
            ..Self::from_document(session, user)?
        })
    }
}

/// A document whose session lives longer. `None` when it is no document: then nobody reads it.
pub fn moved(document: &str, until: UnixMs, updated: Option<UnixMs>) -> Option<Box<str>> {
    let mut whole: Value = serde_json::from_str(document).ok()?;
    let session = whole.get_mut("session")?.as_object_mut()?;
    session.insert("expiresAt".to_owned(), iso(until)?.into());
    if let Some(updated) = updated {
        session.insert("updatedAt".to_owned(), iso(updated)?.into());
    }
    Some(whole.to_string().into_boxed_str())
}

/// A date as JavaScript writes it, milliseconds and all.
pub fn iso(at: UnixMs) -> Option<String> {
    let at = DateTime::from_timestamp_millis(at.0)?;
    Some(at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// One field, with its name for the operator.
struct Field<'d> {
    value: Option<&'d Value>,
    field: &'static str,
}

impl Field<'_> {
    fn wrong(&self, what: &'static str) -> Unreadable {
        Unreadable {
            field: self.field,
            what,
        }
    }

    fn text(&self) -> Result<Option<Box<str>>, Unreadable> {
        match self.value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str().into())),
            Some(_) => Err(self.wrong("something other than text")),
        }
    }

    fn required(&self) -> Result<Box<str>, Unreadable> {
        self.text()?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.wrong("no value"))
    }

    fn optional_id(&self) -> Result<Option<Box<str>>, Unreadable> {
        match self.value {
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => {
                Ok(Some(number.to_string().into_boxed_str()))
            }
            _ => self.text(),
        }
    }

    fn id(&self) -> Result<Box<str>, Unreadable> {
        self.optional_id()?
            .filter(|id| !id.is_empty())
            .ok_or_else(|| self.wrong("no value"))
    }

    fn flag(&self) -> Result<bool, Unreadable> {
        match self.value {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            // Rows of databases without booleans, where an adapter did not turn them.
            Some(Value::Number(number)) if number.as_u64() == Some(0) => Ok(false),
            Some(Value::Number(number)) if number.as_u64() == Some(1) => Ok(true),
            Some(_) => Err(self.wrong("neither true nor false")),
        }
    }

    fn date(&self) -> Result<Option<UnixMs>, Unreadable> {
        match self.value {
            None | Some(Value::Null) => Ok(None),
            // A date that somebody copied as if it were a plain object: nothing is left of it.
            Some(Value::Object(empty)) if empty.is_empty() => Ok(None),
            Some(value) => moment(value)
                .map(Some)
                .ok_or_else(|| self.wrong("no date we can read")),
        }
    }
}

/// The instant a date in a document means: ISO text with a zone, finer digits cut off, or milliseconds.
pub fn moment(value: &Value) -> Option<UnixMs> {
    /// The furthest instant a JavaScript date can hold.
    const FURTHEST: i64 = 8_640_000_000_000_000;
    let ms = match value {
        Value::String(text) => DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis(),
        Value::Number(number) => match number.as_i64() {
            Some(ms) => ms,
            // Larger than any date is checked below; the fraction goes.
            #[allow(clippy::cast_possible_truncation)]
            None => number.as_f64()? as i64,
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (-FURTHEST..=FURTHEST).contains(&ms).then_some(UnixMs(ms))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(session: &Value, user: &Value) -> Result<Record, Unreadable> {
        Record::from_document(session.as_object().unwrap(), user.as_object().unwrap())
    }

    fn session() -> Value {
        json!({
            "id": "s1", "token": "tok", "userId": "u1", "expiresAt": "2037-01-02T03:04:05.678Z",
            "createdAt": 1_795_229_535_028_i64, "updatedAt": "2026-11-21T02:52:15.028Z",
            "impersonatedBy": "admin", "activeOrganizationId": 7, "activeTeamId": null,
        })
    }

    fn user() -> Value {
        json!({
            "id": "u1", "email": "ada@example.com", "name": "Ada", "emailVerified": true,
            "role": "user,admin", "banned": false, "banExpires": null,
        })
    }

    #[test]
    fn a_full_document_becomes_a_record() {
        let record = read(&session(), &user()).unwrap();
        assert_eq!(&*record.session_id, "s1");
        assert_eq!(record.token.expose(), "tok");
        assert_eq!(record.expires_at, UnixMs(2_114_478_245_678));
        assert_eq!(record.created_at, Some(UnixMs(1_795_229_535_028)));
        assert_eq!(record.updated_at, Some(UnixMs(1_795_229_535_028)));
        assert_eq!(record.impersonated_by.as_deref(), Some("admin"));
        assert_eq!(record.organization_id.as_deref(), Some("7"));
        assert_eq!(record.team_id, None);
        assert_eq!(&*record.user_id, "u1");
        assert_eq!(record.email.as_deref(), Some("ada@example.com"));
        assert!(record.email_verified && !record.banned);
        assert_eq!(record.role.as_deref(), Some("user,admin"));
        assert_eq!(record.document, None);
    }

    #[test]
    fn serial_ids_read_as_their_text() {
        let mut user = user();
        user["id"] = json!(42);
        assert_eq!(&*read(&session(), &user).unwrap().user_id, "42");
        user["id"] = json!(4.2);
        assert_eq!(read(&session(), &user).unwrap_err().field, "user.id");
    }

    #[test]
    fn a_missing_expiry_is_long_past() {
        for nothing in [Value::Null, json!({})] {
            let mut session = session();
            session["expiresAt"] = nothing;
            assert_eq!(read(&session, &user()).unwrap().expires_at, UnixMs(0));
        }
        let mut session = session();
        session.as_object_mut().unwrap().remove("expiresAt");
        assert_eq!(read(&session, &user()).unwrap().expires_at, UnixMs(0));
    }

    #[test]
    fn what_is_of_another_type_is_refused_by_name() {
        for (key, value) in [
            ("id", json!(null)),
            ("id", json!("")),
            ("token", json!(7)),
            ("token", json!("")),
            ("expiresAt", json!("never")),
            ("expiresAt", json!("2037-01-02")),
            ("expiresAt", json!("2037-01-02T03:04:05")),
            ("expiresAt", json!(1e300)),
            ("expiresAt", json!(true)),
            ("createdAt", json!({"a": 1})),
            ("activeOrganizationId", json!(["o"])),
        ] {
            let mut session = session();
            session[key] = value;
            let error = read(&session, &user()).unwrap_err();
            assert_eq!(error.field, format!("session.{key}"));
        }
        for (key, value) in [
            ("id", json!(true)),
            ("email", json!(1)),
            ("emailVerified", json!("true")),
            ("banned", json!(2)),
            ("role", json!(["admin"])),
        ] {
            let mut user = user();
            user[key] = value;
            assert_eq!(
                read(&session(), &user).unwrap_err().field,
                format!("user.{key}")
            );
        }
    }

    #[test]
    fn the_document_is_kept_only_when_asked() {
        let (session, user) = (session(), user());
        let kept = Record::with_document(session.as_object().unwrap(), user.as_object().unwrap());
        let kept: Value = serde_json::from_str(&kept.unwrap().document.unwrap()).unwrap();
        assert_eq!(kept, json!({ "session": session, "user": user }));
    }

    proptest! {
        #[test]
        fn noise_never_panics(text in ".{0,40}", number in any::<f64>()) {
            let _ = moment(&json!(text));
            let _ = moment(&json!(number));
        }
    }
}
