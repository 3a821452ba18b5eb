//! What ends elsewhere: told by the app's store, or by other gateways in front of the same app.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{BoxFuture, SourceError};
use crate::time::UnixMs;

/// The name of the line, wherever there is one: PostgreSQL's channel, Redis' channel.
pub const CHANNEL: &str = "vestibule_ended";

/// Longest notice read, in bytes. PostgreSQL carries 8000; ours hold one id.
const NOTICE_BYTES_MAX: usize = 8000;

/// SHA-256 of a session token: names it to whoever has seen it, and gives it to nobody. Stores and other gateways can compute it
/// without any secret of ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a session token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let digit = char::from(*digit).to_digit(16)?;
                *byte = (*byte << 4) | u8::try_from(digit).ok()?;
            }
        }
        Some(Self(bytes))
    }

    /// 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Enough of it to spread over tables.
    pub fn spread(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// What no longer counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The session whose token has this digest.
    Token(TokenDigest),
    /// Every session of this user.
    User(Box<str>),
    /// Every session in which this organization is the active one.
    Organization(Box<str>),
    /// Whatever this API key, by its stored form, proves.
    ApiKey(Box<str>),
    /// Everything.
    All,
}

impl Ended {
    /// Kind and value, as they travel.
    pub fn as_text(&self) -> (&'static str, Option<std::borrow::Cow<'_, str>>) {
        match self {
            Self::Token(digest) => ("session", Some(digest.to_hex().into())),
            Self::User(id) => ("user", Some(id.as_ref().into())),
            Self::Organization(id) => ("organization", Some(id.as_ref().into())),
            Self::ApiKey(key) => ("api_key", Some(key.as_ref().into())),
            Self::All => ("all", None),
        }
    }
}

/// What travels on a line, as JSON: `{"kind":"user","value":"…","at":1795000000000,"from":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What ended.
    pub what: Ended,
    /// When, by the sender's clock.
    pub at: Option<UnixMs>,
    /// The gateway that says so, in a word it chose at its start; nothing when it is the store itself.
    pub from: Option<Box<str>>,
}

#[derive(Serialize, Deserialize)]
struct Wire<'t> {
    kind: std::borrow::Cow<'t, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<std::borrow::Cow<'t, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<std::borrow::Cow<'t, str>>,
}

impl Notice {
    /// Reads one. `None`: nothing we understand; whoever hears it had better forget everything.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > NOTICE_BYTES_MAX {
            return None;
        }
        let wire: Wire<'_> = serde_json::from_str(text).ok()?;
        let value = wire.value.as_deref();
        let what = match &*wire.kind {
            "session" => Ended::Token(TokenDigest::from_hex(value?)?),
            "user" => Ended::User(value?.into()),
            "organization" => Ended::Organization(value?.into()),
            "api_key" => Ended::ApiKey(value?.into()),
            "all" => Ended::All,
            _ => return None,
        };
        Some(Self {
            what,
            at: wire.at.map(UnixMs),
            from: wire.from.map(|from| from.into_owned().into()),
        })
    }

    /// Writes one.
    pub fn to_text(&self) -> String {
        let (kind, value) = self.what.as_text();
        let wire = Wire {
            kind: kind.into(),
            value,
            at: self.at.map(|at| at.0),
            from: self.from.as_deref().map(Into::into),
        };
        // Texts and numbers always serialize.
        serde_json::to_string(&wire).unwrap_or_default()
    }
}

/// Who is told. Called from the feed's own threads; never blocks.
pub trait Listener: Send + Sync {
    /// Something ended, as the store said at `at` (its own clock), where it says.
    fn ended(&self, what: &Ended, at: Option<UnixMs>);

    /// Nothing can be heard from now on: what is remembered may be outdated, so it is not used.
    fn lost(&self);

    /// It can be heard again. What passed meanwhile is not known, so everything is forgotten.
    fn regained(&self);
}

/// A line on which revocations travel. It is lost until it says [`Listener::regained`] for the first time.
pub trait Feed: Send + Sync {
    /// The word in logs and metrics (`postgres`, `redis`).
    fn name(&self) -> &'static str;

    /// Listens for as long as it is polled, connecting again whenever the line breaks.
    fn listen<'a>(&'a self, listener: &'a dyn Listener) -> BoxFuture<'a, ()>;

    /// Tells the other gateways. On an error nobody may have heard it, and whoever asked says it again.
    fn tell<'a>(&'a self, what: &'a Ended) -> BoxFuture<'a, Result<(), SourceError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_reads_as_it_was_written() {
        for what in [
            Ended::Token(TokenDigest::of("a token")),
            Ended::User("u\"1".into()),
            Ended::Organization("o".into()),
            Ended::ApiKey("k".into()),
            Ended::All,
        ] {
            let notice = Notice {
                what,
                at: Some(UnixMs(1_795_000_000_000)),
                from: Some("me".into()),
            };
            assert_eq!(Notice::parse(&notice.to_text()), Some(notice));
        }
    }

    #[test]
    fn what_stores_write_is_understood_and_nonsense_is_not() {
        let hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let text = format!(r#"{{"kind": "session", "value": "{hex}", "at": 5, "more": 1}}"#);
        let notice = Notice::parse(&text).unwrap();
        assert_eq!(notice.what, Ended::Token(TokenDigest::of("hello")));
        assert_eq!((notice.at, notice.from), (Some(UnixMs(5)), None));
        for text in [
            "",
            "all",
            "{}",
            r#"{"kind":"user"}"#,
            r#"{"kind":"session","value":"2cf2"}"#,
            r#"{"kind":"session","value":"hello"}"#,
            r#"{"kind":"more","value":"x"}"#,
        ] {
            assert_eq!(Notice::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_digest_is_not_printed() {
        assert_eq!(format!("{:?}", TokenDigest::of("x")), "TokenDigest(..)");
    }
}
