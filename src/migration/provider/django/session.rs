//! Its live sessions.
//!
//! Source: Django 5.2, contrib/sessions, core/signing.py, contrib/auth/__init__.py (`_get_user`). The cookie is the key of a row whose data
//! is signed; the session also holds a digest of the user's password hash, so that changing the password ends it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::{Decompress, FlushDecompress, Status};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

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
        "secret_key",
        KeyKind::Secrets,
        "`SECRET_KEY`, then `SECRET_KEY_FALLBACKS`. Needed.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "`SESSION_COOKIE_NAME`. Default: `sessionid`.",
    ),
    key(
        "backend",
        KeyKind::Text,
        "`database`: sessions are rows (also `cached_db`); `signed_cookies`: the cookie holds them. Default: `database`.",
    ),
    key(
        "cookie_age",
        KeyKind::Duration,
        "`SESSION_COOKIE_AGE`, with `signed_cookies`. Default: `14d`.",
    ),
    key(
        "sessions_table",
        KeyKind::Text,
        "The sessions table. Default: `django_session`.",
    ),
    key(
        "users_table",
        KeyKind::Text,
        "The users table. Default: `auth_user`.",
    ),
    key(
        "users_columns",
        KeyKind::Texts,
        "Its columns for id and password hash. Default: `[\"id\", \"password\"]`.",
    ),
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

/// Most bytes a compressed session may hold. Half a megabyte is already no session.
const DATA_BYTES_MAX: usize = 512 * 1024;

const ROW_SALT: &str = "django.contrib.sessions.SessionStore";
const COOKIE_SALT: &str = "django.contrib.sessions.backends.signed_cookies";
const HASH_SALT: &str = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash";

struct Django {
    cookie: String,
    secrets: Vec<Secret>,
    /// How long sessions in cookies live; none where they are rows.
    cookie_age: Option<Duration>,
    sessions: String,
    users: String,
    columns: [String; 2],
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    let age = fields.duration("cookie_age", Duration::from_secs(14 * 24 * 3600));
    Ok(reading::boxed(Django {
        cookie: reading::text(fields, "cookie_name", "sessionid"),
        secrets: reading::secrets(fields, "secret_key")?,
        cookie_age: match reading::text(fields, "backend", "database").as_str() {
            "database" => None,
            "signed_cookies" => Some(age),
            _ => return Err("`backend` is `database` or `signed_cookies`".into()),
        },
        sessions: reading::text(fields, "sessions_table", "django_session"),
        users: reading::text(fields, "users_table", "auth_user"),
        columns: reading::texts(fields, "users_columns", &["id", "password"])
            .try_into()
            .map_err(|_| "`users_columns` names two: id and password hash")?,
    }))
}

impl Reader for Django {
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

    fn begin(self: Arc<Self>, value: Secret, moment: Moment<'_>) -> Outcome {
        if let Some(age) = self.cookie_age {
            let data = self.open(value.expose(), COOKIE_SALT)?;
            let ends = data.signed_at.plus(age);
            if ends <= moment.now {
                return Err(Refusal::Expired);
            }
            return self.weigh(value, data, ends);
        }
        let plain = |b: u8| b.is_ascii_alphanumeric();
        if value.expose().len() > 64 || !value.expose().bytes().all(plain) {
            return Err(Refusal::Malformed);
        }
        let columns = ["session_key", "session_data", "expire_date"];
        let query = RowQuery {
            table: self.sessions.clone(),
            key: "session_key".to_owned(),
            value: value.clone(),
            also: None,
            columns: columns.map(str::to_owned).to_vec(),
        };
        let reader = Arc::clone(&self);
        with_row(query, move |row, moment| {
            let row = row.ok_or(Refusal::UnknownSession)?;
            let column = |name: &str| row.get(name).and_then(Option::as_ref).map(Secret::expose);
            // Some databases compare texts without regard to case.
            if column("session_key").is_some_and(|stored| stored != value.expose()) {
                return Err(Refusal::UnknownSession);
            }
            let data = column("session_data").ok_or(Refusal::Malformed)?;
            let data = reader.open(data, ROW_SALT)?;
            let ends = column("expire_date").and_then(when::parse);
            let ends = ends.ok_or(Refusal::Malformed)?;
            if ends <= moment.now {
                return Err(Refusal::Expired);
            }
            reader.weigh(value, data, ends)
        })
    }
}

/// What was signed.
struct Data {
    value: Value,
    signed_at: UnixMs,
}

impl Django {
    /// `data:time:signature`, the data compressed where it begins with a dot.
    fn open(&self, text: &str, salt: &str) -> Result<Data, Refusal> {
        let (signed, signature) = text.rsplit_once(':').ok_or(Refusal::Malformed)?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .or(Err(Refusal::BadSignature))?;
        let salt = format!("{salt}signer");
        let right = |secret: &Secret| {
            let mac = salted(&salt, secret).map(|mac| mac.chain_update(signed.as_bytes()));
            mac.is_some_and(|mac| mac.verify_slice(&signature).is_ok())
        };
        if !self.secrets.iter().any(right) {
            return Err(Refusal::BadSignature);
        }
        let (data, time) = signed.rsplit_once(':').ok_or(Refusal::Malformed)?;
        let signed_at = base62(time).ok_or(Refusal::Malformed)?;
        let bytes = match data.strip_prefix('.') {
            Some(letters) => decompress(
                &URL_SAFE_NO_PAD
                    .decode(letters)
                    .or(Err(Refusal::Malformed))?,
            ),
            None => URL_SAFE_NO_PAD.decode(data).ok(),
        };
        let value = bytes.and_then(|bytes| reading::json(&bytes));
        Ok(Data {
            value: value.ok_or(Refusal::Malformed)?,
            signed_at: UnixMs(signed_at.saturating_mul(1000)),
        })
    }

    fn weigh(self: Arc<Self>, session: Secret, data: Data, ends: UnixMs) -> Outcome {
        let Data { value, .. } = data;
        let user = value.get("_auth_user_id").and_then(reading::id);
        let user = user.ok_or(Refusal::NoSubject)?;
        let [id, password] = self.columns.clone();
        let query = RowQuery {
            table: self.users.clone(),
            key: id.clone(),
            value: Secret::new(&user),
            also: None,
            columns: vec![id, password.clone()],
        };
        let reader = Arc::clone(&self);
        with_row(query, move |row, _| {
            let row = row.ok_or(Refusal::NoSubject)?;
            let stored = row.get(&password).and_then(Option::as_ref);
            let stored = stored.ok_or(Refusal::PasswordChanged)?;
            let digest = value.get("_auth_user_hash").and_then(Value::as_str);
            let digest =
                digest.and_then(|text| data_encoding::HEXLOWER.decode(text.as_bytes()).ok());
            let digest = digest.ok_or(Refusal::PasswordChanged)?;
            let right = |secret: &Secret| {
                let mac = salted(HASH_SALT, secret)
                    .map(|mac| mac.chain_update(stored.expose().as_bytes()));
                mac.is_some_and(|mac| mac.verify_slice(&digest).is_ok())
            };
            if !reader.secrets.iter().any(right) {
                return Err(Refusal::PasswordChanged);
            }
            alive(OldSession {
                // A session in a cookie has no id: the digest of the password and when it was signed tell it apart.
                session,
                subject: Subject::Source(user),
                // When it was signed is when it was last written, not when its user signed in.
                expires_at: Some(ends),
                // django-otp.
                second_factor: Some(value.get("otp_device_id").is_some()),
                ..OldSession::default()
            })
        })
    }
}

/// An HMAC under a key of the secret and the salt together.
fn salted(salt: &str, secret: &Secret) -> Option<Hmac<Sha256>> {
    let key = Sha256::new()
        .chain_update(salt.as_bytes())
        .chain_update(secret.expose().as_bytes())
        .finalize();
    <Hmac<Sha256>>::new_from_slice(&key).ok()
}

/// A number in sixty-two digits: 0 to 9, A to Z, a to z.
fn base62(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    text.bytes().try_fold(0_i64, |sum, letter| {
        let digit = match letter {
            b'0'..=b'9' => letter - b'0',
            b'A'..=b'Z' => letter - b'A' + 10,
            b'a'..=b'z' => letter - b'a' + 36,
            _ => return None,
        };
        sum.checked_mul(62)?.checked_add(i64::from(digit))
    })
}

/// What zlib packed, as long as it is no more than a session.
fn decompress(packed: &[u8]) -> Option<Vec<u8>> {
    let mut plain =
        Vec::with_capacity(DATA_BYTES_MAX.min(packed.len().saturating_mul(4)).max(1024));
    let mut zlib = Decompress::new(true);
    loop {
        let read = usize::try_from(zlib.total_in()).ok()?;
        let before = plain.len();
        let rest = packed.get(read..)?;
        let status = zlib
            .decompress_vec(rest, &mut plain, FlushDecompress::Finish)
            .ok()?;
        match status {
            Status::StreamEnd => return Some(plain),
            _ if plain.len() >= DATA_BYTES_MAX => return None,
            // Nothing moved though there was room: it is cut off.
            _ if plain.len() == before && plain.len() < plain.capacity() => return None,
            Status::Ok | Status::BufError => {
                let more = plain.capacity().min(DATA_BYTES_MAX - plain.len());
                plain.reserve(more.max(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(plain.len() + 1024);
        let mut zlib = flate2::Compress::new(flate2::Compression::best(), true);
        let done = zlib.compress_vec(plain, &mut out, flate2::FlushCompress::Finish);
        assert_eq!(done.unwrap(), Status::StreamEnd);
        out
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        assert!(decompress(&packed(&vec![b' '; 64 * 1024 * 1024])).is_none());
        let fits = vec![b'x'; 300 * 1024];
        assert_eq!(decompress(&packed(&fits)), Some(fits));
    }

    #[test]
    fn a_time_in_sixty_two_digits_is_read() {
        assert_eq!(base62("10"), Some(62));
        assert_eq!(base62("zz"), Some(61 * 62 + 61));
        assert_eq!(
            (base62(""), base62("-1"), base62("zzzzzzzzzzz")),
            (None, None, None)
        );
    }

    proptest! {
        #[test]
        fn cut_streams_end(at in 0_usize..200, noise in proptest::collection::vec(any::<u8>(), 0..100)) {
            let whole = packed(b"some session, some session, some session");
            let cut = whole.get(..at.min(whole.len() - 1)).unwrap();
            prop_assert!(decompress(cut).is_none());
            let _ = decompress(&noise);
        }
    }
}
