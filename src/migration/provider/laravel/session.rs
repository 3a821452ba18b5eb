//! Its live sessions.
//!
//! Source: Laravel 11, Illuminate/Encryption/Encrypter.php, Cookie/CookieValuePrefix.php, Session/Store.php, Auth/SessionGuard.php (by
//! knowledge of them, to be confirmed against a live app): the cookie is an encrypted session id, the session a row or a value of Redis
//! in PHP's own format.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::migration::dialogue::{Moment, RowQuery};
use crate::migration::provider::reading::{
    self, Outcome, Reader, alive, cookie, key, php, when, with_row, with_value,
};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;
use crate::time::UnixMs;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "app_key",
        KeyKind::Secrets,
        "`APP_KEY`, `base64:...`, then `APP_PREVIOUS_KEYS`. Needed.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "The cookie's name (`SESSION_COOKIE`). Default: `laravel_session`.",
    ),
    key(
        "store",
        KeyKind::Text,
        "`table`: sessions are rows (`SESSION_DRIVER=database`); `redis`: values of the old system's Redis. Default: `table`.",
    ),
    key(
        "session_table",
        KeyKind::Text,
        "The sessions table. Default: `sessions`.",
    ),
    key(
        "prefix",
        KeyKind::Text,
        "What stands before the id in Redis: the prefixes of connection and cache, `laravel_database_laravel_cache_:`. Needed with `redis`.",
    ),
    key(
        "lifetime",
        KeyKind::Duration,
        "`SESSION_LIFETIME`: how long a session may idle. Default: `2h`.",
    ),
    key(
        "guard",
        KeyKind::Text,
        "The guard users sign in with. Default: `web`.",
    ),
    key(
        "users_table",
        KeyKind::Text,
        "The users table, whose `password` must still be the one the session knows. Default: none, not checked.",
    ),
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

/// SHA-1 of `Illuminate\Auth\SessionGuard`, which stands in the session's keys.
const GUARD_DIGEST: &str = "59ba36addc2b2f9401580f014c7f58ea4e30989d";

/// What newer versions digest password hashes with before they keep them in sessions.
const PASSWORD_KEY: &[u8] = b"base-key-for-password-hash-mac";

struct Laravel {
    cookie: String,
    keys: Vec<Zeroizing<Vec<u8>>>,
    store: Store,
    lifetime: Duration,
    guard: String,
    users: Option<String>,
}

enum Store {
    Table(String),
    Redis(String),
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    let keys = reading::secrets(fields, "app_key")?;
    let keys = keys.iter().map(|key| {
        let bytes = match key.expose().strip_prefix("base64:") {
            Some(letters) => STANDARD.decode(letters).ok(),
            None => Some(key.expose().as_bytes().to_vec()),
        };
        let bytes = bytes.filter(|bytes| bytes.len() == 32).map(Zeroizing::new);
        bytes.ok_or("`app_key` holds 32 bytes, as `base64:...`".to_owned())
    });
    let store = match reading::text(fields, "store", "table").as_str() {
        "table" => Store::Table(reading::text(fields, "session_table", "sessions")),
        "redis" => Store::Redis(fields.required("prefix")?.expose().to_owned()),
        _ => return Err("`store` is `table` or `redis`".into()),
    };
    Ok(reading::boxed(Laravel {
        cookie: reading::text(fields, "cookie_name", "laravel_session"),
        keys: keys.collect::<Result<_, _>>()?,
        store,
        lifetime: fields.duration("lifetime", Duration::from_secs(120 * 60)),
        guard: reading::text(fields, "guard", "web"),
        users: fields
            .text("users_table")
            .map(|table| table.expose().to_owned()),
    }))
}

impl Reader for Laravel {
    type Found = String;

    fn concerns(&self, cookie: &[u8]) -> bool {
        cookie == self.cookie.as_bytes()
    }

    fn leaves_with(&self, cookie: &[u8]) -> bool {
        let remember = format!("remember_{}_{GUARD_DIGEST}", self.guard);
        self.concerns(cookie) || cookie == remember.as_bytes()
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<String>, Refusal> {
        match presented {
            Presented::Bearer(_) => Ok(None),
            Presented::Cookies(headers) => cookie::one(headers, &self.cookie),
        }
    }

    fn begin(self: Arc<Self>, value: String, _moment: Moment<'_>) -> Outcome {
        let id = self.open(&value)?;
        let reader = Arc::clone(&self);
        match &self.store {
            Store::Table(table) => {
                let columns = ["id", "payload", "last_activity"];
                let query = RowQuery {
                    table: table.clone(),
                    key: "id".to_owned(),
                    value: id.clone(),
                    also: None,
                    columns: columns.map(str::to_owned).to_vec(),
                };
                with_row(query, move |row, moment| {
                    let row = row.ok_or(Refusal::UnknownSession)?;
                    let column =
                        |name: &str| row.get(name).and_then(Option::as_ref).map(Secret::expose);
                    // Some databases compare texts without regard to case.
                    if column("id").is_some_and(|stored| stored != id.expose()) {
                        return Err(Refusal::UnknownSession);
                    }
                    let last = column("last_activity").and_then(when::parse);
                    let ends = last.ok_or(Refusal::Malformed)?.plus(reader.lifetime);
                    if ends <= moment.now {
                        return Err(Refusal::Expired);
                    }
                    let payload = column("payload").ok_or(Refusal::Malformed)?;
                    let payload = STANDARD.decode(payload).or(Err(Refusal::Malformed))?;
                    let data = unserialize(&payload).ok_or(Refusal::Malformed)?;
                    reader.weigh(id, &data, Some(ends))
                })
            }
            // Redis lets a session expire itself.
            Store::Redis(prefix) => {
                let key = Secret::new(format!("{prefix}{}", id.expose()));
                with_value(key, move |stored, _| {
                    let stored = stored.ok_or(Refusal::UnknownSession)?;
                    let data = unserialize(stored.expose().as_bytes());
                    // The cache packs the text it is given once more.
                    let data = match data {
                        Some(Value::String(inner)) => unserialize(inner.as_bytes()),
                        other => other,
                    };
                    reader.weigh(id, &data.ok_or(Refusal::Malformed)?, None)
                })
            }
        }
    }
}

/// PHP's own format, or JSON where the app says so (`session.serialization`).
fn unserialize(text: &[u8]) -> Option<Value> {
    match text.first()? {
        b'{' => reading::json(text),
        _ => php::parse(text),
    }
}

impl Laravel {
    /// The session id in an encrypted cookie.
    fn open(&self, value: &str) -> Result<Secret, Refusal> {
        // PHP leaves its escapes to browsers, and some send them back doubled.
        let outer = STANDARD.decode(value).or(Err(Refusal::Malformed))?;
        let parts = reading::json(&outer).ok_or(Refusal::Malformed)?;
        let says = |name: &str| parts.get(name).and_then(Value::as_str);
        let (Some(iv), Some(sealed)) = (says("iv"), says("value")) else {
            return Err(Refusal::Malformed);
        };
        let tag = says("tag").unwrap_or_default();
        let (plain, key) = match tag {
            "" => {
                let mac = says("mac").and_then(|mac| HEXLOWER.decode(mac.as_bytes()).ok());
                let mac = mac.ok_or(Refusal::BadSignature)?;
                let right = |key: &&Zeroizing<Vec<u8>>| {
                    let hmac = <Hmac<Sha256>>::new_from_slice(key);
                    hmac.is_ok_and(|hmac| {
                        let hmac = hmac.chain_update(iv).chain_update(sealed);
                        hmac.verify_slice(&mac).is_ok()
                    })
                };
                let key = self.keys.iter().find(right).ok_or(Refusal::BadSignature)?;
                (cbc(key, iv, sealed), key)
            }
            tag => {
                let mut keys = self.keys.iter();
                let opened = keys.find_map(|key| Some((gcm(key, iv, sealed, tag)?, key)));
                let (plain, key) = opened.ok_or(Refusal::Undecryptable)?;
                (Some(plain), key)
            }
        };
        let plain = plain.ok_or(Refusal::Undecryptable)?;
        let plain = std::str::from_utf8(&plain).or(Err(Refusal::Malformed))?;
        // The name of the cookie is bound to its value, so that no other cookie of the app passes for it.
        let (bound, id) = plain.split_once('|').ok_or(Refusal::Malformed)?;
        let mac = <Hmac<Sha1>>::new_from_slice(key).or(Err(Refusal::Malformed))?;
        let mac = mac.chain_update(self.cookie.as_bytes()).chain_update(b"v2");
        let bound = HEXLOWER
            .decode(bound.as_bytes())
            .or(Err(Refusal::BadSignature))?;
        if mac.verify_slice(&bound).is_err() {
            return Err(Refusal::BadSignature);
        }
        let plain = id.len() == 40 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        plain.then(|| Secret::new(id)).ok_or(Refusal::Malformed)
    }

    fn weigh(self: &Arc<Self>, session: Secret, data: &Value, ends: Option<UnixMs>) -> Outcome {
        let guard = format!("login_{}_{GUARD_DIGEST}", self.guard);
        let user = data.get(&guard).and_then(reading::id);
        let user = user.ok_or(Refusal::NoSubject)?;
        let known = data.get(&format!("password_hash_{}", self.guard));
        let known = known.and_then(Value::as_str).map(Secret::new);
        let found = OldSession {
            session,
            subject: Subject::Source(user.clone()),
            expires_at: ends,
            ..OldSession::default()
        };
        // An app without the middleware that checks it keeps no digest of the password.
        let (Some(table), Some(known)) = (&self.users, known) else {
            return alive(found);
        };
        let query = RowQuery {
            table: table.clone(),
            key: "id".to_owned(),
            value: Secret::new(user),
            also: None,
            columns: vec!["id".to_owned(), "password".to_owned()],
        };
        with_row(query, move |row, _| {
            let row = row.ok_or(Refusal::NoSubject)?;
            let stored = row.get("password").and_then(Option::as_ref);
            let stored = stored.ok_or(Refusal::PasswordChanged)?.expose().as_bytes();
            let same = bool::from(stored.ct_eq(known.expose().as_bytes()));
            let digest = || {
                let mac = <Hmac<Sha256>>::new_from_slice(PASSWORD_KEY).ok()?;
                let theirs = HEXLOWER.decode(known.expose().as_bytes()).ok()?;
                mac.chain_update(stored).verify_slice(&theirs).ok()
            };
            match same || digest().is_some() {
                true => alive(found),
                false => Err(Refusal::PasswordChanged),
            }
        })
    }
}

fn cbc(key: &[u8], iv: &str, sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
    let iv: [u8; 16] = STANDARD.decode(iv).ok()?.try_into().ok()?;
    let mut plain = Zeroizing::new(STANDARD.decode(sealed).ok()?);
    let key = UnboundCipherKey::new(&AES_256, key).ok()?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let length = key.decrypt(&mut plain, context).ok()?.len();
    plain.truncate(length);
    Some(plain)
}

fn gcm(key: &[u8], iv: &str, sealed: &str, tag: &str) -> Option<Zeroizing<Vec<u8>>> {
    let nonce = Nonce::try_assume_unique_for_key(&STANDARD.decode(iv).ok()?).ok()?;
    let tag: [u8; 16] = STANDARD.decode(tag).ok()?.try_into().ok()?;
    let mut plain = Zeroizing::new(STANDARD.decode(sealed).ok()?);
    plain.extend_from_slice(&tag);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    let length = key
        .open_in_place(nonce, Aad::empty(), &mut plain)
        .ok()?
        .len();
    plain.truncate(length);
    Some(plain)
}
