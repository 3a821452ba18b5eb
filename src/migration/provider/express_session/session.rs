//! Its live sessions.
//!
//! Source: express-session 1.19, index.js; cookie-signature 1.2; connect-redis 8, connect-pg-simple 10. The cookie is `s:<id>.<HMAC>`, the
//! session JSON in Redis or a table; who it is stands where the app (or passport) put it.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::migration::dialogue::{Moment, RowQuery};
use crate::migration::provider::reading::{
    self, Outcome, Reader, alive, cookie, key, when, with_row, with_value,
};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;
use crate::time::UnixMs;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "secret",
        KeyKind::Secrets,
        "`secret` of express-session, the current one first. Needed.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "The cookie's name. Default: `connect.sid`.",
    ),
    key(
        "store",
        KeyKind::Text,
        "`redis`: sessions are values of the old system's Redis; `table`: rows of its database. Default: `redis`.",
    ),
    key(
        "prefix",
        KeyKind::Text,
        "What stands before the id in Redis. Default: `sess:`.",
    ),
    key(
        "table",
        KeyKind::Text,
        "The table, with `table`. Default: `session`.",
    ),
    key(
        "columns",
        KeyKind::Texts,
        "Its columns for id, session and expiry. Default: `[\"sid\", \"sess\", \"expire\"]`.",
    ),
    key(
        "user_id_path",
        KeyKind::Text,
        "Where in the session the user's id stands, with dots. Default: `passport.user`.",
    ),
    key(
        "shared_tables",
        KeyKind::Flag,
        "Whether that id is Better Auth's own user id too, because the tables stayed. Default: `false`.",
    ),
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

/// As Node's `crypto` writes it, without its padding.
const STANDARD: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

struct Express {
    cookie: String,
    secrets: Vec<Secret>,
    store: Store,
    user: String,
    shared: bool,
}

enum Store {
    Redis { prefix: String },
    Table { table: String, columns: [String; 3] },
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    let store = match reading::text(fields, "store", "redis").as_str() {
        "redis" => Store::Redis {
            prefix: reading::text(fields, "prefix", "sess:"),
        },
        "table" => Store::Table {
            table: reading::text(fields, "table", "session"),
            columns: reading::texts(fields, "columns", &["sid", "sess", "expire"])
                .try_into()
                .map_err(|_| "`columns` names three: id, session and expiry")?,
        },
        _ => return Err("`store` is `redis` or `table`".into()),
    };
    Ok(reading::boxed(Express {
        cookie: reading::text(fields, "cookie_name", "connect.sid"),
        secrets: reading::secrets(fields, "secret")?,
        store,
        user: reading::text(fields, "user_id_path", "passport.user"),
        shared: fields.flag("shared_tables", false),
    }))
}

impl Reader for Express {
    type Found = String;

    fn concerns(&self, cookie: &[u8]) -> bool {
        cookie == self.cookie.as_bytes()
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<String>, Refusal> {
        match presented {
            Presented::Bearer(_) => Ok(None),
            Presented::Cookies(headers) => cookie::one(headers, &self.cookie),
        }
    }

    fn begin(self: Arc<Self>, value: String, _moment: Moment<'_>) -> Outcome {
        let id = self.verify(&value)?;
        let session = Secret::new(&id);
        match &self.store {
            Store::Redis { prefix } => {
                let key = Secret::new(format!("{prefix}{id}"));
                let reader = Arc::clone(&self);
                with_value(key, move |stored, moment| {
                    let stored = stored.ok_or(Refusal::UnknownSession)?;
                    reader.weigh(session, stored.expose(), None, moment)
                })
            }
            Store::Table { table, columns } => {
                let [key, data, expires] = columns.clone();
                let query = RowQuery {
                    table: table.clone(),
                    key: key.clone(),
                    value: session.clone(),
                    also: None,
                    columns: vec![key.clone(), data.clone(), expires.clone()],
                };
                let reader = Arc::clone(&self);
                with_row(query, move |row, moment| {
                    let row = row.ok_or(Refusal::UnknownSession)?;
                    let column = |name: &str| row.get(name).and_then(Option::as_ref);
                    // Some databases compare texts without regard to case.
                    if column(&key).is_some_and(|stored| *stored != session) {
                        return Err(Refusal::UnknownSession);
                    }
                    let ends = column(&expires).and_then(|text| when::parse(text.expose()));
                    let ends = ends.ok_or(Refusal::Malformed)?;
                    let data = column(&data).ok_or(Refusal::Malformed)?;
                    reader.weigh(session, data.expose(), Some(ends), moment)
                })
            }
        }
    }
}

impl Express {
    /// The id in a signed cookie.
    fn verify(&self, value: &str) -> Result<String, Refusal> {
        let signed = value.strip_prefix("s:").ok_or(Refusal::Malformed)?;
        let (id, letters) = signed.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let signature = STANDARD.decode(letters).or(Err(Refusal::BadSignature))?;
        let right = |secret: &Secret| {
            let mac = <Hmac<Sha256>>::new_from_slice(secret.expose().as_bytes());
            mac.is_ok_and(|mut mac| {
                mac.update(id.as_bytes());
                mac.verify_slice(&signature).is_ok()
            })
        };
        match self.secrets.iter().any(right) {
            true if reading::is_id(id) => Ok(id.to_owned()),
            true => Err(Refusal::Malformed),
            false => Err(Refusal::BadSignature),
        }
    }

    fn weigh(
        &self,
        session: Secret,
        stored: &str,
        row_ends: Option<UnixMs>,
        moment: Moment<'_>,
    ) -> Outcome {
        let data = reading::json(stored.as_bytes()).ok_or(Refusal::Malformed)?;
        let expires = reading::at(&data, "cookie.expires").filter(|value| !value.is_null());
        let cookie_ends = match expires {
            Some(value) => Some(when::of_json(value).ok_or(Refusal::Malformed)?),
            None => None,
        };
        let ends = [row_ends, cookie_ends].into_iter().flatten().min();
        if ends.is_some_and(|at| at <= moment.now) {
            return Err(Refusal::Expired);
        }
        let user = reading::at(&data, &self.user).and_then(|user| match user {
            // Some apps have passport keep the whole user.
            Value::Object(map) => map
                .get("id")
                .or_else(|| map.get("_id"))
                .and_then(reading::id),
            plain => reading::id(plain),
        });
        let user = user.ok_or(Refusal::NoSubject)?;
        alive(OldSession {
            session,
            subject: match self.shared {
                true => Subject::Local(user),
                false => Subject::Source(user),
            },
            expires_at: ends,
            data: Some(data),
            ..OldSession::default()
        })
    }
}
