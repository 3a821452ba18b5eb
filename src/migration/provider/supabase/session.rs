//! Its live sessions.
//!
//! Source: supabase/auth (GoTrue) 2, internal/tokens; @supabase/ssr 0.6, cookies.ts and utils/chunker.ts. Who it is comes from the
//! signed access token, never from the `user` object beside it. An expired one names a row of `auth.sessions`; a refresh token works
//! once, so it is only used when the operator says so.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use http::HeaderName;
use serde_json::{Value, json};

use crate::migration::dialogue::{Moment, RowQuery, Unreachable};
use crate::migration::provider::reading::token::{self, Claims, Keys};
use crate::migration::provider::reading::{
    self, Outcome, Reader, alive, cookie, key, outside, unavailable, when, with_answer, with_row,
};
use crate::migration::provider::{
    BuildSessions, Fields, Key, KeyKind, OldSession, Presented, Refusal, Sessions, Subject,
};
use crate::secret::Secret;
use crate::time::UnixMs;

/// The keys of its sessions.
pub(super) const KEYS: &[Key] = &[
    key(
        "project_ref",
        KeyKind::Text,
        "The project's reference, `https://<ref>.supabase.co`: names cookie, issuer and keys. Needed to take sessions over, or `issuer` and `cookie_name`.",
    ),
    key(
        "issuer",
        KeyKind::Text,
        "The issuer of access tokens. Default: `https://<ref>.supabase.co/auth/v1`.",
    ),
    key(
        "audience",
        KeyKind::Texts,
        "Whom access tokens are for. Default: `authenticated`.",
    ),
    key(
        "jwt_secret",
        KeyKind::Secrets,
        "The project's JWT secret, where tokens are still signed with it (HS256). Default: none, published keys alone count.",
    ),
    key(
        "cookie_name",
        KeyKind::Text,
        "The cookie's name. Default: `sb-<ref>-auth-token`.",
    ),
    key(
        "sessions_table",
        KeyKind::Text,
        "The table in which an expired token's session is looked up, `auth.sessions`, where the old database can be read. Default: none.",
    ),
    key(
        "refresh",
        KeyKind::Flag,
        "Whether an expired session is proved by its refresh token (with `anon_key`). It works once: rolling back signs those users out. Default: `false`.",
    ),
    token::JWKS_URL,
    token::JWKS,
];

/// Builds the reader from its keys; none where it is not there.
pub(super) const BUILD: Option<BuildSessions> = Some(build);

const SKEW: Duration = Duration::from_secs(5);

/// Between a name and the number of a piece.
const BETWEEN: &[&str] = &["."];

/// Base64url as the library reads it: padding may be missing or there.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

struct Supabase {
    cookie: String,
    issuer: [String; 1],
    audience: Vec<String>,
    secrets: Vec<Secret>,
    keys: Keys,
    table: Option<String>,
    /// Where a refresh token is spent, and with which key of the project.
    refresh: Option<(url::Url, Secret)>,
}

fn build(fields: &Fields) -> Result<Option<Box<dyn Sessions>>, String> {
    let own = [
        "project_ref",
        "issuer",
        "audience",
        "jwt_secret",
        "cookie_name",
        "sessions_table",
        "refresh",
        "jwks",
        "jwks_url",
    ];
    if !reading::any(fields, &own) {
        return match fields.values.is_empty() {
            true => Err("`project_ref` is missing".into()),
            false => Ok(None),
        };
    }
    let (cookie, issuer) = match fields.text("project_ref").map(Secret::expose) {
        Some(reference) => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            if reference.is_empty() || !reference.bytes().all(plain) {
                return Err("`project_ref` is none".into());
            }
            (
                format!("sb-{reference}-auth-token"),
                format!("https://{reference}.supabase.co/auth/v1"),
            )
        }
        None => (
            fields.required("cookie_name")?.expose().to_owned(),
            fields.required("issuer")?.expose().to_owned(),
        ),
    };
    let issuer = reading::text(fields, "issuer", &issuer);
    let secrets = match fields.list("jwt_secret").is_empty() {
        true => Vec::new(),
        false => reading::secrets(fields, "jwt_secret")?,
    };
    let base = issuer.trim_end_matches('/').to_owned();
    let refresh = match fields.flag("refresh", false) {
        true => {
            let address = format!("{base}/token?grant_type=refresh_token");
            let address = url::Url::parse(&address).map_err(|_| "`issuer` is no web address")?;
            Some((address, fields.required("anon_key")?.clone()))
        }
        false => None,
    };
    let published = format!("{base}/.well-known/jwks.json");
    Ok(reading::boxed(Supabase {
        cookie: reading::text(fields, "cookie_name", &cookie),
        issuer: [issuer],
        audience: reading::texts(fields, "audience", &["authenticated"]),
        secrets,
        keys: Keys::configured(fields, &published)?,
        table: fields
            .text("sessions_table")
            .map(|table| table.expose().to_owned()),
        refresh,
    }))
}

/// What a request brings.
struct Brought {
    access: Secret,
    refresh: Option<Secret>,
}

impl Reader for Supabase {
    type Found = Brought;

    fn concerns(&self, cookie: &[u8]) -> bool {
        cookie::belongs(cookie, &self.cookie, BETWEEN)
    }

    fn leaves_with(&self, cookie: &[u8]) -> bool {
        let verifier = format!("{}-code-verifier", self.cookie);
        self.concerns(cookie) || cookie == verifier.as_bytes()
    }

    fn find(&self, presented: &Presented<'_>) -> Result<Option<Brought>, Refusal> {
        let headers = match presented {
            Presented::Cookies(headers) => headers,
            Presented::Bearer(token) => {
                return Ok(Some(Brought {
                    access: Secret::new(*token),
                    refresh: None,
                }));
            }
        };
        let Some(value) = cookie::pieces(headers, &self.cookie, BETWEEN)? else {
            return Ok(None);
        };
        let text = match value.strip_prefix("base64-") {
            Some(letters) => LENIENT.decode(letters).map_err(|_| Refusal::Malformed)?,
            None => value.into_bytes(),
        };
        let value = reading::json(&text).ok_or(Refusal::Malformed)?;
        // Old helpers wrote a list, newer ones an object.
        let (access, refresh) = match &value {
            Value::Array(list) => (list.first(), list.get(1)),
            value => (value.get("access_token"), value.get("refresh_token")),
        };
        let access = access.and_then(Value::as_str).ok_or(Refusal::Malformed)?;
        Ok(Some(Brought {
            access: Secret::new(access),
            refresh: refresh.and_then(Value::as_str).map(Secret::new),
        }))
    }

    fn begin(self: Arc<Self>, found: Brought, moment: Moment<'_>) -> Outcome {
        let Brought { access, refresh } = found;
        let way = token::algorithm(access.expose()).ok_or(Refusal::Malformed)?;
        if way == "HS256" {
            if self.secrets.is_empty() {
                return Err(Refusal::BadAlgorithm);
            }
            let claims = token::check_shared(access.expose(), &self.secrets)?;
            return self.weigh(&claims, refresh, moment);
        }
        let reader = Arc::clone(&self);
        self.keys
            .check(access, token::PUBLIC, moment, move |claims, moment| {
                reader.weigh(&claims, refresh, moment)
            })
    }
}

impl Supabase {
    fn weigh(&self, claims: &Claims, refresh: Option<Secret>, moment: Moment<'_>) -> Outcome {
        // First: the keys of a project are tokens of nobody.
        let subject = claims.subject()?;
        claims.issued_by(&self.issuer)?;
        if !claims.is_for(&self.audience) {
            return Err(Refusal::BadAudience);
        }
        if claims.text("role") == Some("service_role") {
            return Err(Refusal::NotAUser);
        }
        // Tokens from before sessions had ids are told apart by when somebody signed in.
        let signed_in = claims.0.get("amr").and_then(first_sign_in);
        let session = match claims.id("session_id") {
            Some(id) => id.to_owned(),
            None => {
                let since = signed_in.or(claims.moment("iat"));
                format!("{subject}:{}", since.ok_or(Refusal::NotASessionToken)?.0)
            }
        };
        let found = OldSession {
            session: Secret::new(session),
            subject: Subject::Source(subject.clone()),
            authenticated_at: signed_in,
            second_factor: claims.text("aal").map(|level| level == "aal2"),
            anonymous: claims.0.get("is_anonymous") == Some(&Value::Bool(true)),
            impersonator: claims.actor(),
            email: claims.text("email").and_then(reading::address),
            ..OldSession::default()
        };
        match claims.in_time(moment.now, SKEW) {
            Ok(()) => alive(found),
            Err(Refusal::Expired) => self.confirm(found, subject, claims, refresh),
            Err(refusal) => Err(refusal),
        }
    }

    fn confirm(
        &self,
        found: OldSession,
        subject: String,
        claims: &Claims,
        refresh: Option<Secret>,
    ) -> Outcome {
        match (&self.table, claims.id("session_id"), &self.refresh, refresh) {
            (Some(table), Some(session), ..) => look_up(found, subject, table, session),
            (_, _, Some((url, key)), Some(token)) => spend(found, subject, url, key, &token),
            _ => Err(Refusal::Expired),
        }
    }
}

/// The row of the session.
fn look_up(mut found: OldSession, subject: String, table: &str, session: &str) -> Outcome {
    let columns = ["id", "user_id", "aal", "not_after", "created_at"];
    let query = RowQuery {
        table: table.to_owned(),
        key: "id".to_owned(),
        value: Secret::new(session),
        also: None,
        columns: columns.map(str::to_owned).to_vec(),
    };
    with_row(query, move |row, moment| {
        let row = row.ok_or(Refusal::UnknownSession)?;
        let column = |name: &str| row.get(name).and_then(Option::as_ref).map(Secret::expose);
        if column("user_id") != Some(&subject) {
            return Err(Refusal::SubjectMismatch);
        }
        if let Some(ends) = column("not_after") {
            let ends = when::parse(ends).ok_or(Refusal::Malformed)?;
            if ends <= moment.now {
                return Err(Refusal::Expired);
            }
            found.expires_at = Some(ends);
        }
        if let Some(level) = column("aal") {
            found.second_factor = Some(level == "aal2");
        }
        let made = column("created_at").and_then(when::parse);
        found.authenticated_at = made.or(found.authenticated_at);
        alive(found)
    })
}

/// Spends the refresh token.
fn spend(
    found: OldSession,
    subject: String,
    url: &url::Url,
    key: &Secret,
    refresh: &Secret,
) -> Outcome {
    let ask = outside::post(url.clone(), &json!({ "refresh_token": refresh.expose() }));
    let header = HeaderName::from_static("apikey");
    let ask = outside::with(ask, header, key.expose()).or(Err(Refusal::Expired))?;
    with_answer(ask, move |answer, _| {
        match answer.status {
            200 => {}
            // 401 is about the key of the project.
            400 | 403 | 404 | 422 => return Err(Refusal::UnknownSession),
            _ => return unavailable(Unreachable::Refused),
        }
        let body = answer.json().unwrap_or_default();
        match reading::at(&body, "user.id").and_then(Value::as_str) {
            Some(user) if user == subject => alive(found),
            Some(_) => Err(Refusal::SubjectMismatch),
            None => unavailable(Unreachable::Garbage),
        }
    })
}

/// When somebody signed in: the earliest of the methods.
fn first_sign_in(methods: &Value) -> Option<UnixMs> {
    let list = methods.as_array()?;
    let times = list
        .iter()
        .filter_map(|one| when::whole(one.get("timestamp")?));
    times.min().map(when::of_number)
}
