//! The cookie cache: a session and its user, sealed by the framework into the cookie `session_data`.
//!
//! A cookie that opens says what the app knew when it wrote it. How far that counts now is decided in `session`.
//!
//! Source: better-auth 1.4 to 1.7, packages/better-auth/src/cookies/index.ts (`setCookieCache`, `decodeCookieCache`), cache.ts and
//! api/routes/session.ts; golden data in `tests/golden/cookie-cache.json`. Where the framework accepts what it never writes, we
//! refuse: a miss costs a lookup.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Map, Value};

use super::key_ring::KeyRing;
use super::names::{self, CookieSpec};
use super::secrets;
use crate::kind::Kind;
use crate::time::UnixMs;

mod base64;
pub mod chunks;
mod compact;
pub mod date;
pub mod json;
mod jwe;
mod jwks;
mod jwt;
mod shape;

/// Every way of sealing.
pub static STRATEGIES: &[Kind<Build>] = &[compact::KIND, jwt::KIND, jwe::KIND, jwks::KIND];

/// The framework's own default, where sessions are kept in a store.
pub const STRATEGY_BESIDE_A_STORE: &str = "compact";

/// The framework's own default, where the cookie is all there is.
pub const STRATEGY_WITHOUT_A_STORE: &str = "jwe";

/// The one that the app alone can write: its JWT plugin signs.
pub const STRATEGY_OF_THE_APP: &str = jwks::KIND.name;

/// How a strategy is built.
pub type Build = fn(&Context<'_>) -> Box<dyn Strategy>;

/// What strategies are built from.
pub struct Context<'c> {
    /// What signs and seals.
    pub secrets: &'c secrets::Settings,
    /// The keys of the JWT plugin, where the app has them sign.
    pub published: Option<Published>,
}

/// Who signs with a key pair, and where the public keys are.
#[derive(Clone)]
pub struct Published {
    /// The keys.
    pub keys: Arc<KeyRing>,
    /// The origin of the app's base URL, if it has one.
    pub issuer: Option<String>,
}

/// One way of sealing.
pub trait Strategy: Send + Sync {
    /// Opens a value that is genuine and, as far as this way of sealing tells, not over. What it says is not looked at.
    fn open(&self, value: &str, now: UnixMs) -> Option<Opened>;

    /// Seals a payload that counts until its `expires_at`. `None` where only the app can.
    fn seal(&self, payload: &Payload, now: UnixMs, entropy: &Entropy) -> Option<String>;

    /// How long a seal counts when the session ends with the browser.
    fn browser_session_age(&self) -> Duration {
        Duration::from_secs(300)
    }
}

/// What a strategy opened: genuine, not looked at yet.
pub struct Opened {
    /// The payload, dates as text.
    pub payload: Map<String, Value>,
    /// Until when the seal holds.
    pub expires_at: UnixMs,
}

/// Whether a session outlives the browser (`rememberMe`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// It does: the cookie has an age.
    Yes,
    /// It ends with the browser: the cookie has none, and its content counts for a short time only.
    No,
}

/// Random bytes for one seal. Never used twice.
pub struct Entropy(pub [u8; 32]);

/// How the app caches sessions in cookies.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `session.cookieCache.strategy`: a word of [`STRATEGIES`].
    pub strategy: String,
    /// `session.cookieCache.version`, when it is text.
    pub version: String,
    /// `session.cookieCache.maxAge`.
    pub max_age: Duration,
    /// `session.cookieCache.refreshCache.updateAge`: how long before its end a cookie is written anew. Only where the cookie is all
    /// there is.
    pub renew_within: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strategy: STRATEGY_BESIDE_A_STORE.to_owned(),
            version: "1".to_owned(),
            max_age: Duration::from_secs(300),
            renew_within: Duration::from_secs(60),
        }
    }
}

/// What a cookie said, checked as the framework checks it.
#[derive(Clone, PartialEq)]
pub struct Payload {
    /// The session.
    pub session: Map<String, Value>,
    /// Its user.
    pub user: Map<String, Value>,
    /// When the app wrote it.
    pub updated_at: UnixMs,
    /// The version it was written under; nothing counts as `1`.
    pub version: Option<String>,
    /// Until when the cookie counts.
    pub expires_at: UnixMs,
    /// Until when the session lives.
    pub session_expires_at: UnixMs,
}

impl fmt::Debug for Payload {
    // It holds a session token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payload(..)")
    }
}

impl Payload {
    /// What the app would write of a session now, by its own answer: `{"session":{…},"user":{…}}`. `None`: it is no such answer.
    pub fn of_document(document: &str, session_expires_at: UnixMs, now: UnixMs) -> Option<Self> {
        let Value::Object(mut whole) = serde_json::from_str(document).ok()? else {
            return None;
        };
        let mut object = |key| match whole.remove(key)? {
            Value::Object(fields) => Some(fields),
            _ => None,
        };
        Some(Self {
            session: object("session")?,
            user: object("user")?,
            updated_at: now,
            version: None,
            expires_at: session_expires_at,
            session_expires_at,
        })
    }

    /// What `get-session` answers from it: dates that are missing are the present there, and every date is written in full.
    pub fn answer(&self, now: UnixMs) -> Value {
        let dated = |fields: &Map<String, Value>| {
            let mut fields = fields.clone();
            fields.values_mut().for_each(date::write_in_full);
            for key in ["createdAt", "updatedAt"] {
                fields.entry(key).or_insert_with(|| date::write(now).into());
            }
            fields
        };
        serde_json::json!({ "session": dated(&self.session), "user": dated(&self.user) })
    }

    /// The fields that are sealed, in the framework's order.
    fn sealed(&self) -> json::Json {
        use json::Json;

        let mut fields = vec![
            ("session".to_owned(), Json::from(&self.session)),
            ("user".to_owned(), Json::from(&self.user)),
            (
                "updatedAt".to_owned(),
                Json::from(&Value::from(self.updated_at.0)),
            ),
        ];
        if let Some(version) = &self.version {
            fields.push(("version".to_owned(), Json::Text(version.clone())));
        }
        Json::Object(fields)
    }

    /// The same with more claims after them, as text.
    fn claims(&self, more: Vec<(&str, Value)>) -> Option<String> {
        let json::Json::Object(mut fields) = self.sealed() else {
            return None;
        };
        let more = more.iter();
        fields.extend(more.map(|(key, value)| ((*key).to_owned(), value.into())));
        let mut text = String::new();
        json::Json::Object(fields).write(&mut text)?;
        Some(text)
    }
}

/// Why a cookie is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Miss {
    /// There is none, or one too long to be the framework's.
    Absent,
    /// It does not open: not genuine, damaged, or its seal is over.
    Sealed,
    /// It opens, and does not say what a session is.
    Shape,
    /// It is of another session than the signed token.
    OtherToken,
    /// It was written under another version.
    Version,
    /// It, or the session in it, is over.
    Expired,
}

impl Miss {
    /// The word in `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Sealed => "sealed",
            Self::Shape => "shape",
            Self::OtherToken => "other_token",
            Self::Version => "version",
            Self::Expired => "expired",
        }
    }
}

/// Reads and writes the cookie cache of one app. Keys are derived once, here.
pub struct CookieCache {
    spec: CookieSpec,
    strategy: Box<dyn Strategy>,
    settings: Settings,
}

impl CookieCache {
    /// The cache of an app.
    ///
    /// # Errors
    /// When there is no such strategy; the text lists those there are.
    pub fn new(
        settings: &Settings,
        cookies: &names::Settings,
        context: &Context<'_>,
    ) -> Result<Self, String> {
        let kind = crate::kind::find("strategy", STRATEGIES, &settings.strategy)?;
        Ok(Self {
            spec: cookies.cookie("session_data"),
            strategy: (kind.build)(context),
            settings: settings.clone(),
        })
    }

    /// The value a request brings, put together and not looked at.
    pub fn find<'h>(&self, headers: &'h HeaderMap) -> Option<Cow<'h, [u8]>> {
        chunks::read(headers, &self.spec.name)
    }

    /// What the cookie of a request says about the session of `token`, which must have been proven by its signature.
    ///
    /// # Errors
    /// See [`Miss`].
    pub fn open(&self, headers: &HeaderMap, token: &str, now: UnixMs) -> Result<Payload, Miss> {
        let value = self.find(headers).ok_or(Miss::Absent)?;
        self.open_value(&value, token, now)
    }

    /// What a value says about the session of `token`.
    ///
    /// # Errors
    /// See [`Miss`].
    pub fn open_value(&self, value: &[u8], token: &str, now: UnixMs) -> Result<Payload, Miss> {
        let value = std::str::from_utf8(value).map_err(|_| Miss::Sealed)?;
        let opened = self.strategy.open(value, now).ok_or(Miss::Sealed)?;
        let payload = shape::check(opened).ok_or(Miss::Shape)?;
        if payload.session.get("token").and_then(Value::as_str) != Some(token) {
            return Err(Miss::OtherToken);
        }
        let version = payload.version.as_deref().filter(|text| !text.is_empty());
        if version.unwrap_or("1") != self.settings.version {
            return Err(Miss::Version);
        }
        if payload.expires_at < now || payload.session_expires_at < now {
            return Err(Miss::Expired);
        }
        Ok(payload)
    }

    /// From when on a cookie that counts until `expires_at` is written anew, where the cookie is all there is.
    pub fn renew_from(&self, expires_at: UnixMs) -> UnixMs {
        let within = i64::try_from(self.settings.renew_within.as_millis()).unwrap_or(i64::MAX);
        // The framework asks whether *less* is left.
        UnixMs(expires_at.0.saturating_sub(within).saturating_add(1))
    }

    /// Seals what is said of a session, as of now, for as long as the app lets it count. The value is what stands in the cookie.
    pub fn seal(
        &self,
        said: &Payload,
        remembered: Remembered,
        now: UnixMs,
        entropy: &Entropy,
    ) -> Option<String> {
        let age = match remembered {
            Remembered::Yes => self.settings.max_age,
            Remembered::No => self.strategy.browser_session_age(),
        };
        let payload = Payload {
            updated_at: now,
            version: Some(self.settings.version.clone()),
            expires_at: now.plus(age),
            ..said.clone()
        };
        self.strategy.seal(&payload, now, entropy)
    }

    /// The `Set-Cookie` texts for a sealed value, and for what is left of older ones in the request. Nothing but removals when the
    /// value is too long for cookies.
    pub fn set_cookies(
        &self,
        value: &str,
        remembered: Remembered,
        request: &HeaderMap,
    ) -> Vec<String> {
        let mut spec = self.spec.clone();
        spec.attributes.max_age = match remembered {
            Remembered::Yes => Some(self.settings.max_age.as_secs()),
            Remembered::No => None,
        };
        chunks::write(&spec, value, request)
    }

    /// The `Set-Cookie` texts that remove the cookie and whatever chunks the request brings.
    pub fn clear(&self, request: &HeaderMap) -> Vec<String> {
        let mut lines = vec![self.spec.clear()];
        let sent = chunks::names_sent(request, &self.spec.name).into_iter();
        let chunks = sent.filter(|name| *name != self.spec.name);
        lines.extend(chunks.map(|name| self.spec.named(&name).clear()));
        lines
    }

    /// The `Set-Cookie` text by which the framework removes what did not open, before it sets anything else. `None`: there was nothing,
    /// or it counts.
    pub fn clear_unusable(&self, request: &HeaderMap, token: &str, now: UnixMs) -> Option<String> {
        match self.open(request, token, now) {
            Ok(_) | Err(Miss::Absent) => None,
            Err(_) => Some(self.spec.clear()),
        }
    }

    /// The name of the cookie.
    pub fn name(&self) -> &str {
        &self.spec.name
    }
}

/// Whether a query asks for an answer that does not come from the cookie cache. The framework takes any text for yes, even `false`.
pub fn is_disabled_by(query: Option<&str>) -> bool {
    query.is_some_and(|query| {
        url::form_urlencoded::parse(query.as_bytes())
            .any(|(key, value)| key == "disableCookieCache" && !value.is_empty())
    })
}

#[cfg(test)]
mod tests;
