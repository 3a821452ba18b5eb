//! Its live sessions.
//!
//! Source: @auth/core 0.41, jwt.ts and lib/utils/cookie.ts; next-auth 4, jwt/index.ts. An encrypted token in a cookie, in pieces where
//! it is long; or, with the database strategy, the key of a row of its sessions table.

use std::sync::Arc;
use std::time::Duration;

use hkdf::Hkdf;
use serde_json::Value;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::credential::jwe::{ContentKey, Encryption, Jwe};
use crate::migration::dialogue::{Moment, RowQuery};
use crate::migration::provider::reading::token::Claims;
use crate::migration::provider::reading::{
    self, Outcome, Reader, alive, cookie, key, when, with_row,
};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "strategy",
        KeyKind::Text,
        "`jwt`: sessions are encrypted cookies; `database`: rows of its sessions table. Default: `jwt`.",
    ),
    key(
        "secret",
        KeyKind::Secrets,
        "`AUTH_SECRET` or `NEXTAUTH_SECRET`, the current one first. Needed with `jwt`.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "The cookie's name, where the app renamed it (`cookies.sessionToken.name`). Default: the names of v5 and v4, with and without `__Secure-`.",
    ),
    key(
        "adapter",
        KeyKind::Flag,
        "Whether the app used a database adapter, so that a token's subject is the user's id in the shared tables. Default: `false`, an imported id.",
    ),
    key(
        "trust_email",
        KeyKind::Flag,
        "Whether a token without an adapter's id may be matched by the address it names. Only where every sign-in verified addresses. Default: `false`.",
    ),
    key(
        "table",
        KeyKind::Text,
        "The sessions table, with `database`. Default: `sessions`; Prisma's is `Session`, Drizzle's `session`.",
    ),
    key(
        "columns",
        KeyKind::Texts,
        "Its columns for token, user and expiry. Default: `[\"sessionToken\", \"userId\", \"expires\"]`.",
    ),
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

/// As the library reads tokens.
const SKEW: Duration = Duration::from_secs(15);

/// What cookies are called, the safest first, and whether it is the older library's.
const COOKIES: [(&str, bool); 4] = [
    ("__Secure-authjs.session-token", false),
    ("authjs.session-token", false),
    ("__Secure-next-auth.session-token", true),
    ("next-auth.session-token", true),
];

/// Between a name and the number of a piece.
const BETWEEN: &[&str] = &["."];

struct AuthJs {
    names: Vec<String>,
    strategy: Strategy,
    adapter: bool,
    trust_email: bool,
}

enum Strategy {
    /// Keys by the name of the cookie: the name is part of how they are made.
    Tokens(Vec<(String, Vec<ContentKey>)>),
    Rows {
        table: String,
        columns: [String; 3],
    },
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    let names: Vec<String> = match fields.text("cookie_name") {
        Some(name) => vec![name.expose().to_owned()],
        None => COOKIES.iter().map(|(name, _)| (*name).to_owned()).collect(),
    };
    let strategy = match reading::text(fields, "strategy", "jwt").as_str() {
        "jwt" => {
            let secrets = reading::secrets(fields, "secret")?;
            let keys = names.iter().map(|name| {
                let keys = secrets.iter().flat_map(|secret| keys(name, secret));
                (name.clone(), keys.collect())
            });
            Strategy::Tokens(keys.collect())
        }
        "database" => Strategy::Rows {
            table: reading::text(fields, "table", "sessions"),
            columns: reading::texts(fields, "columns", &["sessionToken", "userId", "expires"])
                .try_into()
                .map_err(|_| "`columns` names three: token, user and expiry")?,
        },
        _ => return Err("`strategy` is `jwt` or `database`".into()),
    };
    Ok(reading::boxed(AuthJs {
        names,
        strategy,
        adapter: fields.flag("adapter", false),
        trust_email: fields.flag("trust_email", false),
    }))
}

/// The keys a secret gives for a cookie: of v5 with either cipher, and of v4.
fn keys(cookie: &str, secret: &Secret) -> Vec<ContentKey> {
    let v5 = format!("Auth.js Generated Encryption Key ({cookie})");
    let v4 = "NextAuth.js Generated Encryption Key";
    let made = [
        (Encryption::A256CbcHs512, cookie, v5.as_str()),
        (Encryption::A256Gcm, cookie, v5.as_str()),
        (Encryption::A256Gcm, "", v4),
    ];
    let known = COOKIES.iter().find(|(name, _)| *name == cookie);
    let made = made.into_iter().filter(|(_, salt, _)| match known {
        // A name tells the version; one the app chose does not.
        Some((_, older)) => salt.is_empty() == *older,
        None => true,
    });
    made.filter_map(|(encryption, salt, info)| {
        let mut key = Zeroizing::new(vec![0; encryption.key_bytes()]);
        Hkdf::<Sha256>::new(Some(salt.as_bytes()), secret.expose().as_bytes())
            .expand(info.as_bytes(), &mut key)
            .ok()?;
        ContentKey::new(encryption, &key)
    })
    .collect()
}

impl Reader for AuthJs {
    /// The names of its cookies that are there, and their values.
    type Found = Vec<(String, Secret)>;

    fn concerns(&self, cookie: &[u8]) -> bool {
        self.names
            .iter()
            .any(|name| cookie::belongs(cookie, name, BETWEEN))
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Self::Found>, Refusal> {
        let Presented::Cookies(headers) = presented else {
            return Ok(None);
        };
        let mut found = Vec::new();
        for name in &self.names {
            if let Some(value) = cookie::pieces(headers, name, BETWEEN)? {
                found.push((name.clone(), Secret::new(value)));
            }
        }
        Ok((!found.is_empty()).then_some(found))
    }

    fn begin(self: Arc<Self>, found: Self::Found, moment: Moment<'_>) -> Outcome {
        match &self.strategy {
            Strategy::Tokens(keys) => self.open_all(keys, found, moment),
            Strategy::Rows { table, columns } => match found.into_iter().next() {
                Some((_, value)) => self.look_up(value, table, columns),
                None => reading::nothing(),
            },
        }
    }
}

impl AuthJs {
    /// The one whose session they are. A sibling domain can add a cookie of another of the names: which of two people it is must not
    /// depend on the order of the names.
    fn open_all(
        &self,
        keys: &[(String, Vec<ContentKey>)],
        found: Vec<(String, Secret)>,
        moment: Moment<'_>,
    ) -> Outcome {
        let mut first: Option<OldSession> = None;
        let mut refused = None;
        for (name, value) in found {
            let keys = keys.iter().find(|(known, _)| *known == name);
            let keys = keys.map(|(_, keys)| keys.as_slice()).unwrap_or_default();
            match (self.open(keys, value, moment), &first) {
                (Ok(session), Some(known)) if known.subject != session.subject => {
                    return Err(Refusal::Ambiguous);
                }
                (Ok(session), None) => first = Some(session),
                (Ok(_), Some(_)) => {}
                (Err(refusal), _) => {
                    refused.get_or_insert(refusal);
                }
            }
        }
        match (first, refused) {
            (Some(session), _) => alive(session),
            (None, Some(refusal)) => Err(refusal),
            (None, None) => reading::nothing(),
        }
    }

    fn open(
        &self,
        keys: &[ContentKey],
        value: Secret,
        moment: Moment<'_>,
    ) -> Result<OldSession, Refusal> {
        // A piece that is missing makes another text, or none: either way nothing opens.
        let token = Jwe::parse(value.expose()).ok_or(Refusal::Undecryptable)?;
        let plain = keys.iter().find_map(|key| key.open(&token));
        let plain = plain.ok_or(Refusal::Undecryptable)?;
        let claims = match serde_json::from_slice(&plain) {
            Ok(Value::Object(claims)) => Claims(claims),
            _ => return Err(Refusal::Malformed),
        };
        claims.in_time(moment.now, SKEW)?;
        let email = claims.text("email").and_then(reading::address);
        let subject = claims.0.get("sub").and_then(reading::id);
        let subject = match (subject, &email) {
            (Some(id), _) if self.adapter => Subject::Local(id),
            (_, Some(address)) if self.trust_email => Subject::Email(address.clone()),
            (Some(id), _) => Subject::Source(id),
            (None, _) => return Err(Refusal::NoSubject),
        };
        let session = claims.id("jti").map(Secret::new).unwrap_or(value);
        Ok(OldSession {
            session,
            subject,
            // The library makes the token anew, `iat` and all, whenever a page asks for the session.
            authenticated_at: claims.signed_in(),
            expires_at: claims.moment("exp"),
            email,
            data: Some(Value::Object(claims.0)),
            ..OldSession::default()
        })
    }

    fn look_up(&self, token: Secret, table: &str, columns: &[String; 3]) -> Outcome {
        // An encrypted token is no key of a row.
        if token.expose().len() > 512 || token.expose().contains('.') {
            return Err(Refusal::Malformed);
        }
        let [key, user, expires] = columns.clone();
        let query = RowQuery {
            table: table.to_owned(),
            key: key.clone(),
            value: token.clone(),
            also: None,
            columns: vec![key.clone(), user.clone(), expires.clone()],
        };
        with_row(query, move |row, moment| {
            let row = row.ok_or(Refusal::UnknownSession)?;
            let column = |name: &str| row.get(name).and_then(Option::as_ref).map(Secret::expose);
            // Some databases compare texts without regard to case.
            if column(&key).is_some_and(|stored| stored != token.expose()) {
                return Err(Refusal::UnknownSession);
            }
            let ends = column(&expires).and_then(when::parse);
            let ends = ends.ok_or(Refusal::Malformed)?;
            if ends <= moment.now {
                return Err(Refusal::Expired);
            }
            let user = column(&user).filter(|user| reading::is_id(user));
            alive(OldSession {
                session: token,
                subject: Subject::Local(user.ok_or(Refusal::NoSubject)?.to_owned()),
                expires_at: Some(ends),
                ..OldSession::default()
            })
        })
    }
}
