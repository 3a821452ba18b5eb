//! Supabase's exports: the tables of its schema `auth` as JSON, CSV or a dump, the pages of the admin API (without hashes), or the database.
//!
//! Source: supabase/auth, migrations and `internal/models`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::super::support::{below, get, with_query};
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, Draft, flag, text};
use crate::migration::import::pages::{self, Listing};
use crate::migration::import::record::{Note, Oddity, Record};
use crate::migration::import::source::{
    About, Entry, Export, Form, Fragment, Input, Joined, Lists, Options, Query, members,
};

/// Users of a page.
const PAGE: usize = 1000;

const KEYS: &[Key] = &[
    Key {
        name: "url",
        about: "the project, https://REF.supabase.co, to walk the pages of its admin API (which has no hashes)",
        kind: KeyKind::Text,
    },
    Key {
        name: "service_role_key",
        about: "the service_role key, for the same",
        kind: KeyKind::Secret,
    },
    Key {
        name: "database_url",
        about: "the project's own database, postgres://..., to read it directly, hashes included",
        kind: KeyKind::Secret,
    },
];

const FORMS: &[Form] = &[Form::Csv, Form::Json, Form::Ndjson, Form::Sql];

/// Supabase.
pub(super) const EXPORT: Export = Export {
    inputs: &[
        Input {
            name: "users",
            about: "auth.users as JSON or CSV, a dump of the schema auth, or pages of GET /auth/v1/admin/users",
            required: true,
            forms: FORMS,
            lists: Lists::Named(&["users"]),
            part: |entry, _| match entry.table_name().as_str() {
                "" | "users" => entry.fragment(About::User, "/id", "user"),
                "identities" => entry.fragment(About::User, "/user_id", "identity"),
                "mfa_factors" => entry.fragment(About::User, "/user_id", "factor"),
                _ => Ok(Vec::new()),
            },
        },
        Input {
            name: "identities",
            about: "auth.identities as JSON or CSV",
            required: false,
            forms: FORMS,
            lists: Lists::Named(&["identities"]),
            part: |entry, _| one_table(entry, "identities", "identity"),
        },
        Input {
            name: "factors",
            about: "auth.mfa_factors as JSON or CSV",
            required: false,
            forms: FORMS,
            lists: Lists::Named(&["mfa_factors", "factors"]),
            part: |entry, _| one_table(entry, "mfa_factors", "factor"),
        },
    ],
    keys: &[KEYS],
    compose,
    pages: Some(pages),
    queries: &[
        Query {
            input: "users",
            table: "auth.users",
            // One-time tokens are of no use to anybody here.
            sql: "SELECT (to_jsonb(u) - ARRAY['confirmation_token', 'recovery_token', 'email_change_token_new', \
                  'email_change_token_current', 'phone_change_token', 'reauthentication_token'])::text FROM auth.users u ORDER BY u.id",
        },
        Query {
            input: "identities",
            table: "auth.identities",
            // Older schemas have no id of one column.
            sql: "SELECT to_jsonb(i)::text FROM auth.identities i ORDER BY i.user_id, i.provider, i.id::text",
        },
        Query {
            input: "factors",
            table: "auth.mfa_factors",
            sql: "SELECT to_jsonb(f)::text FROM auth.mfa_factors f ORDER BY f.id",
        },
    ],
    experimental: false,
};

fn one_table(entry: &Entry, table: &str, part: &'static str) -> Result<Vec<Fragment>, Note> {
    let found = entry.table_name();
    if found.is_empty() || found == table {
        entry.fragment(About::User, "/user_id", part)
    } else {
        Ok(Vec::new())
    }
}

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    vec![user(joined, options)]
}

fn user(joined: &Joined, options: &Options) -> Record {
    let Some(newest) = joined.newest("user", "/updated_at") else {
        return normalise::refused(
            joined,
            Oddity::Dangling,
            "an identity of nobody: no such user is in the export",
        );
    };
    let value = &newest.value;
    let there = |name: &str| text(value.get(name)).is_some();
    let mut draft = Draft::new(joined.place(), joined.key.clone());
    if joined.differs("user") {
        draft.note(
            Oddity::RepeatedId,
            "the id stands there more than once: the newest counts",
        );
    }
    let of_user = members(
        value
            .get("raw_user_meta_data")
            .or_else(|| value.get("user_metadata")),
    );
    let of_app = members(
        value
            .get("raw_app_meta_data")
            .or_else(|| value.get("app_metadata")),
    );
    draft.email(text(value.get("email")), there("email_confirmed_at"));
    names(&mut draft, &of_user);
    phone(&mut draft, value, there("phone_confirmed_at"));
    draft.created(value.get("created_at"));
    draft.updated(value.get("updated_at"));
    draft.signed_in(value.get("last_sign_in_at"));
    ban(&mut draft, value, options);
    if there("deleted_at") {
        draft.note(Oddity::Deleted, "the old system has deleted them");
    }
    if flag(value.get("is_anonymous")) == Some(true) {
        draft.anonymous();
    }
    if flag(value.get("is_sso_user")) == Some(true) {
        single_sign_on(&mut draft);
    }
    if let Some(hash) = text(value.get("encrypted_password")) {
        if hash.trim_start().starts_with('{') {
            draft.unusable_hash("the hash is encrypted with a key of the project's own");
        } else {
            draft.hash(
                normalise::scheme_of(&hash).or(Some("supabase")),
                &hash,
                &[],
                options,
            );
        }
    } else if value.get("encrypted_password").is_none() && has_email_identity(value) {
        // The admin API leaves hashes out.
        draft.password_elsewhere();
    }
    let nested = value.get("identities").and_then(Value::as_array);
    let identities = joined.all("identity").map(|one| &one.value);
    for identity in identities.chain(nested.into_iter().flatten()) {
        self::identity(&mut draft, identity, options);
    }
    let nested = value.get("factors").and_then(Value::as_array);
    let factors = joined.all("factor").map(|one| &one.value);
    for factor in factors.chain(nested.into_iter().flatten()) {
        self::factor(&mut draft, factor);
    }
    draft.metadata("user_metadata", Value::Object(of_user));
    draft.metadata("app_metadata", Value::Object(of_app));
    draft.finish()
}

fn names(draft: &mut Draft, of_user: &Map<String, Value>) {
    let first = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| of_user.get(*name).filter(|name| text(Some(name)).is_some()))
    };
    draft.full_name(first(&["full_name", "name"]));
    draft.names(
        first(&["first_name", "given_name"]),
        first(&["last_name", "family_name"]),
    );
    draft.display_name(first(&[
        "display_name",
        "preferred_username",
        "user_name",
        "nickname",
    ]));
    draft.image(first(&["avatar_url", "picture"]));
}

/// Kept without the plus.
fn phone(draft: &mut Draft, value: &Value, verified: bool) {
    let Some(digits) = text(value.get("phone")) else {
        return;
    };
    let digits = digits.trim();
    let number = if digits.starts_with('+') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.to_owned()
    } else {
        format!("+{digits}")
    };
    draft.phone(Some(&Value::String(number)), verified);
}

fn ban(draft: &mut Draft, value: &Value, options: &Options) {
    let Some(until) = text(value.get("banned_until")) else {
        return;
    };
    match normalise::instant(&Value::String(until)) {
        Ok(Some(until)) if until <= options.now => {}
        Ok(until) => draft.ban(None, until),
        // For good: `infinity`, or a year far away.
        Err(_) => draft.ban(None, None),
    }
}

fn single_sign_on(draft: &mut Draft) {
    draft.enters();
    let detail = "they sign in by their company's directory: set the sso plugin up";
    draft.note(Oddity::SingleSignOn, detail);
}

fn has_email_identity(value: &Value) -> bool {
    let listed = value.get("identities").and_then(Value::as_array);
    let mut listed = listed.into_iter().flatten();
    listed.any(|identity| identity.get("provider").and_then(Value::as_str) == Some("email"))
}

fn identity(draft: &mut Draft, identity: &Value, options: &Options) {
    let provider = text(identity.get("provider")).unwrap_or_default();
    match provider.as_str() {
        // Codes and links by mail or phone sign in as well as a password.
        "email" | "phone" => draft.enters(),
        "" => {}
        provider if provider.starts_with("sso:") => single_sign_on(draft),
        provider => {
            let data = members(identity.get("identity_data"));
            // Older schemas had the provider's id in the column `id`.
            let id = text(identity.get("provider_id"))
                .or_else(|| text(data.get("sub")))
                .or_else(|| text(identity.get("id")));
            draft.social_id(provider, id, options);
        }
    }
}

fn factor(draft: &mut Draft, factor: &Value) {
    let kind = text(factor.get("factor_type")).unwrap_or_default();
    let confirmed = text(factor.get("status")).as_deref() == Some("verified");
    match kind.as_str() {
        "webauthn" if confirmed => draft.passkeys(1),
        "totp" if !confirmed => {
            let detail = "the second factor was begun and never confirmed: it is not carried over";
            draft.note(Oddity::FactorWithoutKey, detail);
        }
        "totp" => match text(factor.get("secret")) {
            Some(secret) if secret.trim_start().starts_with('{') => {
                draft.factor_lost("its key is encrypted with a key of the project's own");
            }
            Some(secret) => draft.factor_base32(&secret),
            None => draft.factor(None),
        },
        "phone" if confirmed => draft.factor(None),
        _ => {}
    }
}

fn pages(options: &Options) -> Result<Vec<Listing>, String> {
    let base = options.fields.url("url", "")?;
    let key = options.fields.required("service_role_key")?.clone();
    Ok(vec![Listing {
        input: "users",
        name: "/auth/v1/admin/users",
        rate: pages::share(50, Duration::from_secs(10)),
        ask: Box::new(move |cursor| {
            let page = cursor.token().unwrap_or("1");
            let url = below(&base, &["auth", "v1", "admin", "users"]);
            get(with_query(
                url,
                &[("page", page), ("per_page", &PAGE.to_string())],
            ))
            .bearer(key.expose())
            .secret_header("apikey", key.expose())
        }),
        page: |cursor, answer, headers| {
            let mut page = pages::by_offset(cursor, answer, "/users", PAGE)?;
            // A proxy may give fewer than were asked for; then the header says that there are more.
            let links = headers.get_all(http::header::LINK).iter();
            let mut links = links.filter_map(|link| link.to_str().ok());
            let more = page.next.is_some() || links.any(|link| link.contains("rel=\"next\""));
            let at: u64 = cursor.token().map_or(Ok(1), str::parse).unwrap_or(1);
            let more = more && !page.entries.is_empty();
            page.next = more.then(|| pages::Cursor((at + 1).to_string()));
            Ok(page)
        },
        shifts: true,
        each: Vec::new(),
    }])
}
