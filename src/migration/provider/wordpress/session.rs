//! Its live sessions.
//!
//! Source: WordPress 6.8, wp-includes/pluggable.php (`wp_validate_auth_cookie`), class-wp-session-tokens.php (by knowledge of them, to be
//! confirmed against a live site): `login|expiry|token|HMAC`, whose key holds four letters of the password hash; the token's digest stands
//! in the user's metadata as long as the session lives.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::migration::dialogue::{Moment, RowQuery};
use crate::migration::provider::reading::{
    self, Outcome, Reader, alive, cookie, key, php, when, with_row,
};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;
use crate::time::UnixMs;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "logged_in_key",
        KeyKind::Secret,
        "`LOGGED_IN_KEY` of wp-config.php. Needed.",
    ),
    key(
        "logged_in_salt",
        KeyKind::Secret,
        "`LOGGED_IN_SALT`. Needed.",
    ),
    key(
        "site_url",
        KeyKind::Text,
        "The site's address as WordPress knows it (`siteurl`), to the letter: names the cookie. Needed.",
    ),
    key(
        "users_table",
        KeyKind::Text,
        "The users table. Default: `wp_users`.",
    ),
    key(
        "meta_table",
        KeyKind::Text,
        "The table of their metadata. Default: `wp_usermeta`.",
    ),
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

struct WordPress {
    /// What the names of this site's cookies end with.
    suffix: String,
    cookie: String,
    secret: Secret,
    users: String,
    meta: String,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    let (key, salt) = (
        fields.required("logged_in_key")?,
        fields.required("logged_in_salt")?,
    );
    if key.expose().is_empty() || salt.expose().is_empty() {
        return Err("`logged_in_key` and `logged_in_salt` are missing".into());
    }
    let site = fields.required("site_url")?.expose();
    let suffix = HEXLOWER.encode(&Md5::digest(site.as_bytes()));
    Ok(reading::boxed(WordPress {
        cookie: format!("wordpress_logged_in_{suffix}"),
        suffix,
        secret: Secret::new(format!("{}{}", key.expose(), salt.expose())),
        users: reading::text(fields, "users_table", "wp_users"),
        meta: reading::text(fields, "meta_table", "wp_usermeta"),
    }))
}

/// The parts of a cookie.
struct Brought {
    login: String,
    expires: String,
    token: Secret,
    mac: Vec<u8>,
}

impl Reader for WordPress {
    type Found = Brought;

    fn concerns(&self, cookie: &[u8]) -> bool {
        cookie == self.cookie.as_bytes()
    }

    fn leaves_with(&self, cookie: &[u8]) -> bool {
        ["wordpress_logged_in_", "wordpress_sec_", "wordpress_"]
            .iter()
            .any(|name| cookie == format!("{name}{}", self.suffix).as_bytes())
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Brought>, Refusal> {
        let Presented::Cookies(headers) = presented else {
            return Ok(None);
        };
        let Some(value) = cookie::one(headers, &self.cookie)? else {
            return Ok(None);
        };
        let parts: Vec<&str> = value.split('|').collect();
        let [login, expires, token, mac] = parts.as_slice() else {
            return Err(Refusal::Malformed);
        };
        if !reading::is_id(login) || !reading::is_id(token) {
            return Err(Refusal::Malformed);
        }
        Ok(Some(Brought {
            login: (*login).to_owned(),
            expires: (*expires).to_owned(),
            token: Secret::new(*token),
            mac: HEXLOWER
                .decode(mac.as_bytes())
                .or(Err(Refusal::BadSignature))?,
        }))
    }

    fn begin(self: Arc<Self>, found: Brought, moment: Moment<'_>) -> Outcome {
        let seconds: i64 = found.expires.parse().or(Err(Refusal::Malformed))?;
        let ends = UnixMs(seconds.saturating_mul(1000));
        if ends <= moment.now {
            return Err(Refusal::Expired);
        }
        let columns = ["ID", "user_login", "user_pass"];
        let query = RowQuery {
            table: self.users.clone(),
            key: "user_login".to_owned(),
            value: Secret::new(&found.login),
            also: None,
            columns: columns.map(str::to_owned).to_vec(),
        };
        let reader = Arc::clone(&self);
        with_row(query, move |row, _| {
            let row = row.ok_or(Refusal::NoSubject)?;
            let column = |name: &str| row.get(name).and_then(Option::as_ref).map(Secret::expose);
            let stored = column("user_pass").ok_or(Refusal::NoSubject)?;
            let user = column("ID").filter(|id| reading::is_id(id));
            let user = user.ok_or(Refusal::NoSubject)?.to_owned();
            reader.verify(&found, stored)?;
            reader.look_up(user, found.token, ends)
        })
    }
}

impl WordPress {
    fn verify(&self, found: &Brought, stored: &str) -> Result<(), Refusal> {
        let fragment = match stored.starts_with("$P$") || stored.starts_with("$2y$") {
            true => stored.get(8..12),
            // Since 6.8 the last four letters of everything else.
            false => stored.get(stored.len().saturating_sub(4)..),
        };
        let fragment = fragment.ok_or(Refusal::PasswordChanged)?;
        let (login, expires, token) = (&found.login, &found.expires, found.token.expose());
        let secret = self.secret.expose().as_bytes();
        let mac = <Hmac<Md5>>::new_from_slice(secret).or(Err(Refusal::BadSignature))?;
        let mac = mac.chain_update(format!("{login}|{fragment}|{expires}|{token}"));
        let key = HEXLOWER.encode(&mac.finalize().into_bytes());
        let mac = <Hmac<Sha256>>::new_from_slice(key.as_bytes()).or(Err(Refusal::BadSignature))?;
        let mac = mac.chain_update(format!("{login}|{expires}|{token}"));
        // A changed password looks the same.
        mac.verify_slice(&found.mac).or(Err(Refusal::BadSignature))
    }

    /// The session among those of its user.
    fn look_up(&self, user: String, token: Secret, ends: UnixMs) -> Outcome {
        let query = RowQuery {
            table: self.meta.clone(),
            key: "user_id".to_owned(),
            value: Secret::new(&user),
            also: Some(("meta_key".to_owned(), "session_tokens".to_owned())),
            columns: vec!["meta_value".to_owned()],
        };
        with_row(query, move |row, moment| {
            let row = row.ok_or(Refusal::UnknownSession)?;
            let text = row.get("meta_value").and_then(Option::as_ref);
            let text = text.ok_or(Refusal::UnknownSession)?.expose();
            let sessions = php::parse(text.as_bytes()).ok_or(Refusal::Malformed)?;
            let verifier = HEXLOWER.encode(&Sha256::digest(token.expose().as_bytes()));
            let session = sessions.get(&verifier).ok_or(Refusal::UnknownSession)?;
            // Long ago the moment of its end stood there alone.
            let until = session.get("expiration").unwrap_or(session);
            let until = when::of_json(until).ok_or(Refusal::Malformed)?;
            if until <= moment.now {
                return Err(Refusal::Expired);
            }
            alive(OldSession {
                session: Secret::new(verifier),
                subject: Subject::Source(user),
                authenticated_at: session.get("login").and_then(when::of_json),
                expires_at: Some(until.min(ends)),
                ..OldSession::default()
            })
        })
    }
}
