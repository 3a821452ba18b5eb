//! Better Auth's session record, who it proves to be, and how that is found out.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::credential::Method;
use crate::time::UnixMs;
use carried::{Carried, Told};

pub mod cache;
pub mod carried;
pub mod cookie;
pub mod document;
pub mod entry;
pub mod extend;
pub mod feed;
pub mod flight;
pub mod ledger;
pub mod limit;
pub mod resolve;
pub mod revocation;
pub mod slide;

/// A session record with its user, as read from the app's own store.
///
/// Source of the fields: better-auth 1.4 to 1.7, tables `session` and `user` (and `member` with the organization plugin).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `session.id`; integer and uuid ids as their text.
    pub session_id: Box<str>,
    /// `session.token`, as stored. Compared byte for byte with what was asked for, because some collations fold case.
    pub token: crate::secret::Secret,
    /// `session.expiresAt`.
    pub expires_at: UnixMs,
    /// `session.createdAt`, when the user signed in. Step-up counts from here.
    pub created_at: Option<UnixMs>,
    /// `session.updatedAt`.
    pub updated_at: Option<UnixMs>,
    /// `session.impersonatedBy` (admin plugin): the admin's user id.
    pub impersonated_by: Option<Box<str>>,
    /// `session.activeOrganizationId` (organization plugin).
    pub organization_id: Option<Box<str>>,
    /// `member.role` of the user in the active organization: a comma list.
    pub organization_role: Option<Box<str>>,
    /// `user.id` (equal to `session.userId`).
    pub user_id: Box<str>,
    /// `user.email`.
    pub email: Option<Box<str>>,
    /// `user.emailVerified`.
    pub email_verified: bool,
    /// `user.name`.
    pub name: Option<Box<str>>,
    /// `user.role` (admin plugin): a comma list.
    pub role: Option<Box<str>>,
    /// `user.banned` (admin plugin).
    pub banned: bool,
    /// `user.banExpires` (admin plugin).
    pub ban_expires: Option<UnixMs>,
    /// `session.activeTeamId` (organization plugin with teams).
    pub team_id: Option<Box<str>>,
    /// Everything the app would answer about this session, as `{"session":{…},"user":{…}}` in its own spelling. Only read when it is
    /// needed: to answer `get-session` ourselves, or to write a session on.
    pub document: Option<Box<str>>,
}

/// Who a credential proved to be. Made only by resolving a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// What the store said.
    pub record: Record,
    /// How it was proved.
    pub method: Method,
}

/// Why a presented credential does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// Not in the form the framework issues.
    Malformed,
    /// The signature is not ours.
    BadSignature,
    /// Validly signed, but the store has no such session.
    Unknown {
        /// The store itself said so, for this very request.
        told_now: bool,
    },
    /// Validly signed, known, and past its expiry.
    Expired {
        /// The store itself said so, for this very request.
        told_now: bool,
    },
    /// The user is banned (only with `enforce_bans`).
    Banned,
    /// Genuine, and switched off by its owner.
    Disabled,
    /// It proves who somebody was, and the route asks who it is now.
    Stale,
    /// Used too often.
    Limited {
        /// When to come back, where that is known.
        retry_after: Option<Duration>,
    },
}

impl Rejection {
    /// The word in logs, metrics and `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadSignature => "bad_signature",
            Self::Unknown { .. } => "unknown",
            Self::Expired { .. } => "expired",
            Self::Banned => "banned",
            Self::Disabled => "disabled",
            Self::Stale => "stale",
            Self::Limited { .. } => "limited",
        }
    }

    /// Whether the store has said, itself and now, that a validly signed token is dead. Only then may a cookie be cleared.
    pub const fn store_said_dead_now(self) -> bool {
        matches!(
            self,
            Self::Unknown { told_now: true } | Self::Expired { told_now: true }
        )
    }
}

/// How fresh an identity must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Freshness {
    /// The signature is good; no lookup.
    Optimistic,
    /// At most `cache_ttl` old.
    #[default]
    Cached,
    /// The store, now.
    Strict,
}

/// Why a store could not answer. The operator reads it in the log; clients never see it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    /// It did not answer in time.
    #[error("{source_name} did not answer in {waited:?}")]
    Timeout {
        /// Which source.
        source_name: &'static str,
        /// How long we waited.
        waited: Duration,
    },
    /// It could not be reached, or the connection broke.
    #[error("{source_name} cannot be reached: {cause}")]
    Unreachable {
        /// Which source.
        source_name: &'static str,
        /// The driver's words, free of secrets.
        cause: String,
    },
    /// It answered something we cannot use.
    #[error("{source_name} answered what we cannot read: {cause}")]
    Garbage {
        /// Which source.
        source_name: &'static str,
        /// What was wrong, free of secrets and row contents.
        cause: String,
    },
    /// Too many lookups wait already.
    #[error("{source_name} has too many lookups waiting ({waiting})")]
    Busy {
        /// Which source.
        source_name: &'static str,
        /// How many were waiting.
        waiting: usize,
    },
    /// It answered, and that it would not say.
    #[error("{source_name} answered with status {status}")]
    Refused {
        /// Which source.
        source_name: &'static str,
        /// The HTTP status.
        status: u16,
    },
}

impl SourceError {
    /// The operator's next step.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => {
                "raise `sessions.timeout`, or look for slow queries on the session table"
            }
            Self::Unreachable { .. } => {
                "check that the database runs and that `sessions.source` names it"
            }
            Self::Garbage { .. } => {
                "run `vestibule check`, and map names under `[sessions.schema]` where they differ"
            }
            Self::Busy { .. } => {
                "raise `sessions.connections`, or find out why the database is slow"
            }
            Self::Refused { status: 429, .. } => {
                "the app's rate limit counts us: raise it for `/get-session`, and see that the app believes `X-Forwarded-For`"
            }
            Self::Refused { .. } => "look into the app's own log",
        }
    }

    /// The label in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Unreachable { .. } => "unreachable",
            Self::Garbage { .. } => "garbage",
            Self::Busy { .. } => "busy",
            Self::Refused { .. } => "refused",
        }
    }
}

/// A future in a box, as a trait object must return it. Only a cache miss pays for one.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who keeps the sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeper {
    /// A store, which can be asked.
    #[default]
    Store,
    /// Nobody but the browser: the sealed cookie is the session.
    Cookie,
}

/// Where sessions are looked up. Implemented by `store/`.
pub trait Source: Send + Sync {
    /// The word in logs and metrics (`sqlite`, `postgres`, `mysql`).
    fn name(&self) -> &'static str;

    /// Reads the session with this token and its user, whatever its expiry. `Ok(None)` means that the store answered and has
    /// no such session, or that its user is gone. Answers within the deadline the source was built with.
    fn find<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>>;

    /// Whether it asks the app itself, which then reads more of a request than the token. Only such a source is told what the
    /// request carried: nobody else pays for the copy.
    fn asks_the_app(&self) -> bool {
        false
    }

    /// Like [`Self::find`], on behalf of a request: what the app would do for it (extend the session, renew its cookies), it does.
    fn find_for<'a>(
        &'a self,
        token: &'a str,
        _carried: &'a Carried,
    ) -> BoxFuture<'a, Result<Option<Told>, SourceError>> {
        Box::pin(async move { Ok(self.find(token).await?.map(Told::from)) })
    }

    /// Who keeps the sessions. Where it is the browser, [`Self::find`] never finds any.
    fn keeper(&self) -> Keeper {
        Keeper::Store
    }

    /// Whether the source answers at all (readiness).
    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>>;

    /// The sources it is made of, where they are several (readiness).
    fn parts(&self) -> Vec<&dyn Source> {
        Vec::new()
    }
}

/// What sessions may cost and how old they may be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How stale a remembered identity may be (`sessions.cache_ttl`). Zero: nothing is remembered.
    pub cache_ttl: Duration,
    /// How long "no such session" is remembered (`sessions.negative_ttl`).
    pub negative_ttl: Duration,
    /// Most sessions remembered (`sessions.max_cached`).
    pub entries_max: u64,
    /// Most bytes they may take (`sessions.max_cached_bytes`).
    pub bytes_max: u64,
    /// Most "no such session" answers remembered (`sessions.max_negative`).
    pub negative_max: u64,
    /// Refuse users whose `banned` is set (`better_auth.enforce_bans`). The framework itself does not look at it.
    pub enforce_bans: bool,
}
