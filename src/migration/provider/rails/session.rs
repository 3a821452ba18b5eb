//! Its live sessions.
//!
//! Source: Rails 7, action_dispatch/middleware/cookies.rb and active_support/message_encryptor.rb; warden 1.2, devise 4 (by knowledge of
//! them, to be confirmed against a live app): the whole session is an encrypted cookie, JSON inside, and devise keeps the user's id beside
//! the salt of the password, so that changing the password ends it.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::migration::dialogue::{Moment, RowQuery};
use crate::migration::provider::reading::{
    self, Outcome, Reader, alive, cookie, key, when, with_row,
};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;
use crate::time::UnixMs;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "secret_key_base",
        KeyKind::Secrets,
        "`secret_key_base`, the current one first. Needed.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "The session cookie, `_app_session`. Needed.",
    ),
    key(
        "digest",
        KeyKind::Text,
        "How keys are derived (`key_generator_hash_digest_class`): `SHA256` since Rails 7, `SHA1` before. Default: either.",
    ),
    key(
        "scope",
        KeyKind::Text,
        "Devise's scope, the model in small letters. Default: `user`.",
    ),
    key(
        "user_id_path",
        KeyKind::Text,
        "Where the user's id stands in sessions of an app without devise. Default: none, devise's place.",
    ),
    key(
        "users_table",
        KeyKind::Text,
        "The users table, with devise. Default: `users`.",
    ),
    key(
        "users_columns",
        KeyKind::Texts,
        "Its columns for id and password hash. Default: `[\"id\", \"encrypted_password\"]`.",
    ),
    key(
        "timeout",
        KeyKind::Duration,
        "Devise's `timeout_in`, where it is used. Default: none.",
    ),
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

const SALT: &[u8] = b"authenticated encrypted cookie";
const ROUNDS: u32 = 1000;

/// How much of a bcrypt hash is version, cost and salt: what devise keeps in the session.
const BCRYPT_SALT_LETTERS: usize = 29;

struct Rails {
    cookie: String,
    keys: Vec<LessSafeKey>,
    user: Place,
    timeout: Option<Duration>,
}

/// Where the user stands.
enum Place {
    Path(String),
    Devise {
        scope: String,
        table: String,
        columns: [String; 2],
    },
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    let secrets = reading::secrets(fields, "secret_key_base")?;
    let digest = reading::text(fields, "digest", "").to_ascii_uppercase();
    if !["", "SHA1", "SHA256"].contains(&digest.as_str()) {
        return Err("`digest` is `SHA256` or `SHA1`".into());
    }
    let keys = secrets.iter().flat_map(|secret| {
        let secret = secret.expose().as_bytes();
        let mut made = Vec::new();
        let mut key = Zeroizing::new([0; 32]);
        if digest != "SHA1" {
            pbkdf2::pbkdf2_hmac::<Sha256>(secret, SALT, ROUNDS, key.as_mut_slice());
            made.extend(UnboundKey::new(&AES_256_GCM, key.as_slice()));
        }
        if digest != "SHA256" {
            pbkdf2::pbkdf2_hmac::<Sha1>(secret, SALT, ROUNDS, key.as_mut_slice());
            made.extend(UnboundKey::new(&AES_256_GCM, key.as_slice()));
        }
        made.into_iter().map(LessSafeKey::new)
    });
    let user = match fields.text("user_id_path") {
        Some(path) => Place::Path(path.expose().to_owned()),
        None => Place::Devise {
            scope: reading::text(fields, "scope", "user"),
            table: reading::text(fields, "users_table", "users"),
            columns: reading::texts(fields, "users_columns", &["id", "encrypted_password"])
                .try_into()
                .map_err(|_| "`users_columns` names two: id and password hash")?,
        },
    };
    Ok(reading::boxed(Rails {
        cookie: fields.required("cookie_name")?.expose().to_owned(),
        keys: keys.collect(),
        user,
        timeout: match fields.duration("timeout", Duration::ZERO) {
            Duration::ZERO => None,
            some => Some(some),
        },
    }))
}

impl Reader for Rails {
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

    fn begin(self: Arc<Self>, value: String, moment: Moment<'_>) -> Outcome {
        let plain = self.decrypt(&value).ok_or(Refusal::Undecryptable)?;
        // Ruby's own format (Marshal) is not read: what reads it can be made to run code.
        let envelope = reading::json(&plain).ok_or(Refusal::Malformed)?;
        let envelope = envelope.get("_rails").ok_or(Refusal::Malformed)?;
        let purpose = format!("cookie.{}", self.cookie);
        if envelope.get("pur").and_then(Value::as_str) != Some(purpose.as_str()) {
            return Err(Refusal::NotASessionToken);
        }
        let ends = match envelope.get("exp").filter(|value| !value.is_null()) {
            Some(value) => Some(when::of_json(value).ok_or(Refusal::Malformed)?),
            None => None,
        };
        if ends.is_some_and(|at| at <= moment.now) {
            return Err(Refusal::Expired);
        }
        let session = match (envelope.get("message"), envelope.get("data")) {
            (Some(Value::String(text)), _) => {
                let bytes = STANDARD.decode(text).or(Err(Refusal::Malformed))?;
                reading::json(&bytes).ok_or(Refusal::Malformed)?
            }
            (None, Some(Value::String(text))) => {
                reading::json(text.as_bytes()).ok_or(Refusal::Malformed)?
            }
            (None, Some(data)) => data.clone(),
            _ => return Err(Refusal::Malformed),
        };
        self.weigh(&value, session, ends, moment)
    }
}

impl Rails {
    /// `data--iv--tag`, each in base64.
    fn decrypt(&self, value: &str) -> Option<Zeroizing<Vec<u8>>> {
        let mut parts = value.split("--");
        let mut next = || parts.next();
        let (data, iv, tag, None) = (next()?, next()?, next()?, next()) else {
            return None;
        };
        let data = Zeroizing::new(STANDARD.decode(data).ok()?);
        let iv = STANDARD.decode(iv).ok()?;
        // A shorter tag is a weaker one: Rails writes 16 bytes.
        let tag: [u8; 16] = STANDARD.decode(tag).ok()?.try_into().ok()?;
        self.keys.iter().find_map(|key| {
            let nonce = Nonce::try_assume_unique_for_key(&iv).ok()?;
            let mut plain = data.clone();
            plain.extend_from_slice(&tag);
            let length = key
                .open_in_place(nonce, Aad::empty(), &mut plain)
                .ok()?
                .len();
            plain.truncate(length);
            Some(plain)
        })
    }

    fn weigh(
        &self,
        value: &str,
        session: Value,
        ends: Option<UnixMs>,
        moment: Moment<'_>,
    ) -> Outcome {
        let id = session.get("session_id").and_then(reading::id);
        let mut found = OldSession {
            session: Secret::new(id.unwrap_or_else(|| value.to_owned())),
            expires_at: ends,
            ..OldSession::default()
        };
        let (scope, table, columns) = match &self.user {
            Place::Path(path) => {
                let user = reading::at(&session, path).and_then(reading::id);
                found.subject = Subject::Source(user.ok_or(Refusal::NoSubject)?);
                return alive(found);
            }
            Place::Devise {
                scope,
                table,
                columns,
            } => (scope, table, columns),
        };
        // `[[id], salt]`; in older versions the model's name stands first.
        let warden = session.get(&format!("warden.user.{scope}.key"));
        let warden = warden.ok_or(Refusal::NoSubject)?;
        let list = warden.as_array().ok_or(Refusal::Malformed)?;
        let user = list.iter().find_map(|part| reading::id(part.get(0)?));
        let user = user.ok_or(Refusal::NoSubject)?;
        let salt = list.last().and_then(Value::as_str).unwrap_or_default();
        let salt = Secret::new(salt);
        if let Some(timeout) = self.timeout {
            let inner = session.get(&format!("warden.user.{scope}.session"));
            let last = inner.and_then(|inner| inner.get("last_request_at"));
            let last = last.and_then(when::of_json).ok_or(Refusal::Expired)?;
            let idle_ends = last.plus(timeout);
            if idle_ends <= moment.now {
                return Err(Refusal::Expired);
            }
            found.expires_at = Some(
                found
                    .expires_at
                    .map_or(idle_ends, |ends| ends.min(idle_ends)),
            );
        }
        let [id, password] = columns.clone();
        let query = RowQuery {
            table: table.clone(),
            key: id.clone(),
            value: Secret::new(&user),
            also: None,
            columns: vec![id, password.clone()],
        };
        found.subject = Subject::Source(user);
        with_row(query, move |row, _| {
            let row = row.ok_or(Refusal::NoSubject)?;
            let stored = row.get(&password).and_then(Option::as_ref);
            let stored = stored.ok_or(Refusal::PasswordChanged)?.expose();
            let expected = stored.get(..BCRYPT_SALT_LETTERS);
            let expected = expected.ok_or(Refusal::PasswordChanged)?;
            match bool::from(expected.as_bytes().ct_eq(salt.expose().as_bytes())) {
                true => alive(found),
                false => Err(Refusal::PasswordChanged),
            }
        })
    }
}
