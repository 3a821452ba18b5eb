//! Its live sessions.
//!
//! Source: lucia 2 and 3: the cookie is the key of a row of the sessions table. In the design that followed it, the row's key is the
//! SHA-256 of the cookie, in hexadecimal.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::migration::dialogue::{Moment, RowQuery};
use crate::migration::provider::reading::{
    self, Outcome, Reader, alive, cookie, key, when, with_row,
};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "version",
        KeyKind::Text,
        "`2` or `3`: which columns its sessions table has. Needed.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "The cookie's name. Default: `auth_session`.",
    ),
    key(
        "id",
        KeyKind::Text,
        "`plain`: the cookie is the row's key; `sha256-hex`: its digest is. Default: `plain`.",
    ),
    key(
        "table",
        KeyKind::Text,
        "The sessions table, as the app named it. Default: `session`.",
    ),
    key(
        "columns",
        KeyKind::Texts,
        "Its columns for id, user and expiry. Default: `[\"id\", \"user_id\", \"expires_at\"]`, with version 2 `idle_expires` last.",
    ),
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

struct Lucia {
    cookie: String,
    digest: bool,
    table: String,
    columns: [String; 3],
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    let expires = match fields.required("version")?.expose() {
        "2" => "idle_expires",
        "3" => "expires_at",
        _ => return Err("`version` is `2` or `3`".into()),
    };
    let digest = match reading::text(fields, "id", "plain").as_str() {
        "plain" => false,
        "sha256-hex" => true,
        _ => return Err("`id` is `plain` or `sha256-hex`".into()),
    };
    Ok(reading::boxed(Lucia {
        cookie: reading::text(fields, "cookie_name", "auth_session"),
        digest,
        table: reading::text(fields, "table", "session"),
        columns: reading::texts(fields, "columns", &["id", "user_id", expires])
            .try_into()
            .map_err(|_| "`columns` names three: id, user and expiry")?,
    }))
}

impl Reader for Lucia {
    type Found = Secret;

    fn concerns(&self, cookie: &[u8]) -> bool {
        cookie == self.cookie.as_bytes()
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Secret>, Refusal> {
        let token = match presented {
            Presented::Cookies(headers) => cookie::one(headers, &self.cookie)?,
            // Lucia's apps for phones send the session's id as a bearer.
            Presented::Bearer(token) => Some((*token).to_owned()),
        };
        match token {
            Some(token) if reading::is_id(&token) => Ok(Some(Secret::new(token))),
            Some(_) => Err(Refusal::Malformed),
            None => Ok(None),
        }
    }

    fn begin(self: Arc<Self>, token: Secret, _moment: Moment<'_>) -> Outcome {
        let id = match self.digest {
            true => {
                let digest = Sha256::digest(token.expose().as_bytes());
                Secret::new(data_encoding::HEXLOWER.encode(&digest))
            }
            false => token,
        };
        let [key, user, expires] = self.columns.clone();
        let query = RowQuery {
            table: self.table.clone(),
            key: key.clone(),
            value: id.clone(),
            also: None,
            columns: vec![key.clone(), user.clone(), expires.clone()],
        };
        with_row(query, move |row, moment| {
            let row = row.ok_or(Refusal::UnknownSession)?;
            let column = |name: &str| row.get(name).and_then(Option::as_ref).map(Secret::expose);
            // Some databases compare texts without regard to case.
            if column(&key).is_some_and(|stored| stored != id.expose()) {
                return Err(Refusal::UnknownSession);
            }
            let ends = column(&expires).and_then(when::parse);
            let ends = ends.ok_or(Refusal::Malformed)?;
            if ends <= moment.now {
                return Err(Refusal::Expired);
            }
            let user = column(&user).filter(|user| reading::is_id(user));
            alive(OldSession {
                session: id,
                subject: Subject::Local(user.ok_or(Refusal::NoSubject)?.to_owned()),
                expires_at: Some(ends),
                ..OldSession::default()
            })
        })
    }
}
