//! Its live sessions.
//!
//! Source: iron-session 8: one seal (see [`iron`]) in a cookie of the app's choice, holding whatever the app put into it.

use std::sync::Arc;

use crate::migration::dialogue::Moment;
use crate::migration::provider::reading::{self, Outcome, Reader, alive, cookie, iron, key};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "cookie_name",
        KeyKind::Text,
        "The cookie's name (`cookieName`). Needed.",
    ),
    key(
        "cookie_password",
        KeyKind::Secrets,
        "The passwords of the seals, the current one first. Needed.",
    ),
    key(
        "user_id_path",
        KeyKind::Text,
        "Where in the session the user's id stands, with dots: `user.id`. Default: `userId`.",
    ),
    key(
        "session_id_path",
        KeyKind::Text,
        "Where an id of the session itself stands, if the app keeps one. Default: the seal is its own id.",
    ),
    key(
        "shared_tables",
        KeyKind::Flag,
        "Whether that id is Better Auth's own user id too, because the tables stayed. Default: `false`.",
    ),
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

struct IronSession {
    cookie: String,
    passwords: Vec<Secret>,
    user: String,
    session: Option<String>,
    shared: bool,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    Ok(reading::boxed(IronSession {
        cookie: fields.required("cookie_name")?.expose().to_owned(),
        passwords: reading::secrets(fields, "cookie_password")?,
        user: reading::text(fields, "user_id_path", "userId"),
        session: fields
            .text("session_id_path")
            .map(|path| path.expose().to_owned()),
        shared: fields.flag("shared_tables", false),
    }))
}

impl Reader for IronSession {
    type Found = Secret;

    fn concerns(&self, cookie: &[u8]) -> bool {
        cookie == self.cookie.as_bytes()
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Secret>, Refusal> {
        match presented {
            Presented::Bearer(_) => Ok(None),
            Presented::Cookies(headers) => Ok(cookie::one(headers, &self.cookie)?.map(Secret::new)),
        }
    }

    fn begin(self: Arc<Self>, seal: Secret, moment: Moment<'_>) -> Outcome {
        let opened = iron::open(seal.expose(), &self.passwords, moment.now)?;
        let user = reading::at(&opened.data, &self.user).and_then(reading::id);
        let user = user.ok_or(Refusal::NoSubject)?;
        let session = match &self.session {
            Some(path) => {
                let id = reading::at(&opened.data, path).and_then(reading::id);
                Secret::new(id.ok_or(Refusal::NotASessionToken)?)
            }
            None => opened.seal,
        };
        alive(OldSession {
            session,
            subject: match self.shared {
                true => Subject::Local(user),
                false => Subject::Source(user),
            },
            expires_at: opened.expires_at,
            data: Some(opened.data),
            ..OldSession::default()
        })
    }
}
