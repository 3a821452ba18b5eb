//! API keys: what the app's store says of one, what it may still be used for, and how its use is counted.
//!
//! Source: better-auth 1.4 (`plugins/api-key`) and @better-auth/api-key 1.5 to 1.7 (`routes/verify-api-key.ts`, `rate-limit.ts`);
//! golden data in `tests/golden/api-keys.json`.
//!
//! **What is exact, and across whom.** `remaining` is taken by the store itself, in a conditional update: however many gateways and
//! apps use a key at once, no more uses pass than there were. The rate limit is counted in memory: exact within one gateway. What it
//! counted is written to the row as an addition within [`keys::WRITE_EVERY`], and what others wrote is read back then, so several
//! gateways (and the app) may together let pass more than the limit by what they let pass within that time. The row itself ends up
//! with every use counted. A gateway that is killed, rather than stopped, loses the rate counts of that time, and never a `remaining`.
//!
//! **What the gateway does not do.** The framework deletes the row of a key that is expired or used up, at its next use. Here it is
//! refused and left: the app deletes it when it sees it, and an operator may still raise it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::session::{BoxFuture, Record, SourceError};
use crate::time::UnixMs;

mod account;
pub mod check;
mod claim;
pub mod keys;

/// Later than any clock, and safe to add to: the latest instant a JavaScript `Date` can hold.
pub const FOREVER: UnixMs = UnixMs(8_640_000_000_000_000);

/// How the app's plugin is set up (`[better_auth.api_key]`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// `apiKeyHeaders`: the first that is not empty holds the key.
    pub headers: Vec<http::HeaderName>,
    /// `defaultKeyLength`: whatever is shorter is refused without a lookup.
    pub key_letters_min: usize,
    /// Whether the store holds SHA-256 digests (not `disableKeyHashing`).
    pub hashing: bool,
    /// `configId` of the configuration that gives sessions. Keys of others are refused.
    pub config_id: String,
    /// `rateLimit.enabled`.
    pub rate_limit: bool,
    /// Who counts the uses.
    pub usage: Usage,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            headers: vec![http::HeaderName::from_static("x-api-key")],
            key_letters_min: 64,
            hashing: true,
            config_id: DEFAULT_CONFIG.into(),
            rate_limit: true,
            usage: Usage::Gateway,
        }
    }
}

/// `configId` of keys that name none.
pub const DEFAULT_CONFIG: &str = "default";

/// Who counts the uses of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The gateway: it writes to the rows.
    Gateway,
    /// The app, which checks the same key again: counted here too, every use would count twice.
    App,
}

/// The form in which a key is stored.
pub fn stored_form(key: &str, hashing: bool) -> String {
    if hashing {
        URL_SAFE_NO_PAD.encode(Sha256::digest(key.as_bytes()))
    } else {
        key.to_owned()
    }
}

/// What the store says of a key. The key itself is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `id`.
    pub id: Box<str>,
    /// `configId`; none before 1.5.
    pub config_id: Option<Box<str>>,
    /// `enabled`. Null counts as enabled.
    pub enabled: Option<bool>,
    /// `expiresAt`.
    pub expires_at: Option<UnixMs>,
    /// `createdAt`: refills count from here until there was one.
    pub created_at: UnixMs,
    /// `rateLimitEnabled`. Null counts as enabled.
    pub rate_limited: Option<bool>,
    /// `rateLimitTimeWindow`. Null: the key has no rate limit (the plugin's defaults are written when a key is made, not read here).
    pub rate_window: Option<Duration>,
    /// `rateLimitMax`. Null: the key has no rate limit.
    pub rate_max: Option<i64>,
    /// `refillInterval`.
    pub refill_interval: Option<Duration>,
    /// `refillAmount`.
    pub refill_amount: Option<i64>,
    /// What changes with every use.
    pub counters: Counters,
}

impl Row {
    /// Refills, when there are any. Zero of either is none, as in the framework.
    pub fn refill(&self) -> Option<Refill> {
        let refill = Refill {
            every: self.refill_interval?,
            amount: self.refill_amount?,
        };
        (!refill.every.is_zero() && refill.amount != 0).then_some(refill)
    }

    /// Since when the next refill is waited for.
    pub fn refilled_at(&self) -> UnixMs {
        self.counters.last_refill.unwrap_or(self.created_at)
    }
}

/// How uses come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refill {
    /// `refillInterval`.
    pub every: Duration,
    /// `refillAmount`: what `remaining` becomes, whatever it was.
    pub amount: i64,
}

/// What changes with every use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `remaining`. None: as often as one likes.
    pub remaining: Option<i64>,
    /// `lastRefillAt`.
    pub last_refill: Option<UnixMs>,
    /// `requestCount`, within the window of the rate limit.
    pub requests: i64,
    /// `lastRequest`.
    pub last_request: Option<UnixMs>,
    /// `updatedAt`.
    pub updated_at: Option<UnixMs>,
}

/// A key with its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub row: Row,
    /// The user it belongs to, in the shape of a session: the key's id for the session's, the key's expiry for its expiry, and no
    /// token. None when no user has that id: the user is gone, or the key belongs to an organization.
    pub owner: Option<Record>,
}

/// Uses asked for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How many.
    pub uses: i64,
    /// A refill that seems to be due; the store makes sure that it still is.
    pub due: Option<Refill>,
    /// The present.
    pub now: UnixMs,
}

/// Uses that were taken from `remaining`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many of those asked for, from none to all.
    Uses {
        /// How many.
        granted: i64,
        /// What the row holds now, where the store looked.
        counters: Option<Counters>,
    },
    /// There is no such key any more.
    Gone,
}

/// Uses to be written to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// How many count towards the rate limit.
    pub requests: i64,
    /// A window of the rate limit began with the first of them. They are the whole count then, if the row's last request is none or
    /// not after this instant; otherwise somebody else has begun the window, and they are added.
    pub restart: Option<UnixMs>,
    /// The latest of them, where that is written.
    pub last_request: Option<UnixMs>,
    /// When the latest of them was.
    pub updated_at: UnixMs,
}

impl Used {
    /// These, and then `later` ones.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        if later.restart.is_some() {
            return later;
        }
        Self {
            requests: self.requests.saturating_add(later.requests),
            restart: self.restart,
            last_request: later.last_request.max(self.last_request),
            updated_at: later.updated_at.max(self.updated_at),
        }
    }

    /// What they make of a row's counters.
    pub fn added_to(&self, mut row: Counters) -> Counters {
        let begins = self
            .restart
            .is_some_and(|before| row.last_request.is_none_or(|last| last <= before));
        row.requests = match begins {
            true => self.requests,
            false => row.requests.saturating_add(self.requests),
        };
        row.last_request = row.last_request.max(self.last_request);
        row.updated_at = row.updated_at.max(Some(self.updated_at));
        row
    }
}

/// Why uses were not written.
#[derive(Clone, Debug)]
pub struct Unwritten {
    /// What went wrong.
    pub error: SourceError,
    /// Nobody knows whether they were written after all: the connection broke when they were on their way.
    pub unsure: bool,
}

/// Where keys are kept. Implemented by `store/`. Every call answers within the store's own deadline, and is carried through to its
/// end even when the caller goes away.
pub trait ApiKeys: Send + Sync {
    /// The word in logs and metrics.
    fn name(&self) -> &'static str;

    /// Reads the key with this stored form, compared byte for byte, and its owner.
    fn find<'a>(&'a self, stored: &'a str) -> BoxFuture<'a, Result<Option<Found>, SourceError>>;

    /// Takes uses from `remaining`, as many as there are: atomically, whoever else takes some.
    fn take<'a>(&'a self, id: &'a str, wanted: Wanted)
    -> BoxFuture<'a, Result<Taken, SourceError>>;

    /// Adds uses to what the row counts, whoever else does. `None`: there is no such key any more.
    fn write<'a>(
        &'a self,
        id: &'a str,
        used: Used,
    ) -> BoxFuture<'a, Result<Option<Counters>, Unwritten>>;

    /// What the row counts now.
    fn counters<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Counters>, SourceError>>;
}
