//! Descope's exports: users as its search answers them, tenants, and the CSV of hashes that support hands over.
//!
//! Source: the reference of the management API; not tried against a system.

use std::time::Duration;

use serde_json::Value;

use super::super::support::{Json, below, get, post_json};
use super::super::tables::{begin, first, of_user};
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, flag, text};
use crate::migration::import::pages::{self, Listing};
use crate::migration::import::record::{ImportedMember, Note, Oddity, Record};
use crate::migration::import::source::{
    About, Entry, Export, Form, Fragment, Input, Joined, Lists, Options, id,
};
use crate::secret::Secret;

/// Users of a page. The search answers 100 unless it is asked for another number.
const PAGE: usize = 100;

const KEYS: &[Key] = &[
    Key {
        name: "algorithm",
        about: "the scheme of the hashes, where neither they nor the file name it",
        kind: KeyKind::Text,
    },
    Key {
        name: "project_id",
        about: "the project, to walk its users",
        kind: KeyKind::Text,
    },
    Key {
        name: "management_key",
        about: "a management key, for the same",
        kind: KeyKind::Secret,
    },
    Key {
        name: "api_url",
        about: "where the API is; default https://api.descope.com",
        kind: KeyKind::Text,
    },
];

const JSON: &[Form] = &[Form::Json, Form::Ndjson];

/// Descope.
pub(super) const EXPORT: Export = Export {
    inputs: &[
        Input {
            name: "users",
            about: "answers of POST /v2/mgmt/user/search",
            required: true,
            forms: JSON,
            lists: Lists::Named(&["users"]),
            part: user_part,
        },
        Input {
            name: "hashes",
            about: "hashes from support: CSV or JSON with userId (or loginId of the user) and hash",
            required: false,
            forms: &[Form::Csv, Form::Json, Form::Ndjson],
            lists: Lists::Named(&["users"]),
            part: |entry, _| of_user(entry, &["userId", "user_id"], "hash"),
        },
        Input {
            name: "tenants",
            about: "answers of POST /v1/mgmt/tenant/search",
            required: false,
            forms: JSON,
            lists: Lists::Named(&["tenants"]),
            part: |entry, _| entry.fragment(About::Organization, "/id", "organization"),
        },
    ],
    keys: &[KEYS],
    compose,
    pages: Some(pages),
    queries: &[],
    experimental: true,
};

fn user_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    let mut all = of_user(entry, &["userId", "user_id"], "user")?;
    let user = all.first().map(|one| one.key.clone()).unwrap_or_default();
    let tenants = entry.value.get("userTenants").and_then(Value::as_array);
    for tenant in tenants.into_iter().flatten() {
        let Some(id) = id(tenant, "/tenantId") else {
            continue;
        };
        let mut fragment = entry.fragment_of(About::Member, format!("{id}/{user}"), "member");
        let roles = tenant.get("roleNames").cloned().unwrap_or_default();
        fragment.value = serde_json::json!({ "tenant": id, "user": user, "roles": roles });
        all.push(fragment);
    }
    Ok(all)
}

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    vec![match joined.about {
        About::User => user(joined, options),
        About::Organization => match joined.newest("organization", "/createdTime") {
            Some(newest) => normalise::organization(
                joined,
                &newest.value,
                crate::migration::import::source::members(newest.value.get("customAttributes")),
            ),
            None => normalise::refused(joined, Oddity::Unreadable, "it is empty"),
        },
        About::Member | About::Invitation => member(joined, options),
    }]
}

fn user(joined: &Joined, options: &Options) -> Record {
    let (value, mut draft) = match begin(joined, "/modifiedTime") {
        Ok(begun) => begun,
        Err(refused) => return *refused,
    };
    draft.email(
        text(value.get("email")),
        flag(value.get("verifiedEmail")) == Some(true),
    );
    draft.names(value.get("givenName"), value.get("familyName"));
    draft.display_name(first(value, &["name", "displayName"]));
    draft.phone(
        value.get("phone"),
        flag(value.get("verifiedPhone")) == Some(true),
    );
    draft.image(value.get("picture"));
    draft.created(value.get("createdTime"));
    match text(value.get("status")).as_deref() {
        Some("disabled") => draft.ban(None, None),
        Some("invited") => draft.enters(),
        _ => {}
    }
    match joined.all("hash").next() {
        Some(hash) => {
            let declared = text(first(&hash.value, &["algorithm", "hashType"]));
            let usual = options.fields.text("algorithm").map(Secret::expose);
            let hash =
                text(first(&hash.value, &["hash", "passwordHash", "hashed"])).unwrap_or_default();
            draft.hash(
                declared
                    .as_deref()
                    .or(usual)
                    .or_else(|| normalise::scheme_of(&hash)),
                &hash,
                &[],
                options,
            );
        }
        None if flag(value.get("password")) == Some(true) => draft.password_elsewhere(),
        None => {}
    }
    if let Some(Value::Object(map)) = value.get("OAuth").or_else(|| value.get("oauth")) {
        for (provider, told) in map {
            // A flag alone says that there is an account, and not which.
            if flag(Some(told)) != Some(false) {
                draft.social_id(
                    provider,
                    text(Some(told)).filter(|_| told.is_string()),
                    options,
                );
            }
        }
    }
    if flag(value.get("TOTP")).or_else(|| flag(value.get("totp"))) == Some(true) {
        draft.factor(None);
    }
    if flag(value.get("webauthn")) == Some(true) {
        draft.passkeys(1);
    }
    if flag(value.get("SAML")).or_else(|| flag(value.get("saml"))) == Some(true) {
        draft.enters();
        draft.note(
            Oddity::SingleSignOn,
            "they sign in by their company's directory: set the sso plugin up",
        );
    }
    let roles = value.get("roleNames").and_then(Value::as_array);
    for role in roles.into_iter().flatten().filter_map(Value::as_str) {
        draft.foreign_role(role, options);
    }
    // Links and codes by mail sign everybody in.
    draft.enters();
    for name in ["customAttributes", "loginIds"] {
        draft.metadata(name, value.get(name).cloned().unwrap_or_default());
    }
    draft.finish()
}

fn member(joined: &Joined, options: &Options) -> Record {
    let newest = joined.all("member").last().map(|one| &one.value);
    let ids = newest.and_then(|value| Some((value, id(value, "/tenant")?, id(value, "/user")?)));
    let Some((value, organization, user)) = ids else {
        return normalise::refused(
            joined,
            Oddity::Unreadable,
            "it does not say of whom or what it is",
        );
    };
    let mut notes = Vec::new();
    let word = text(value.pointer("/roles/0")).unwrap_or_default();
    let plain = if word == "Tenant Admin" {
        "admin"
    } else {
        &word
    };
    Record::Member(ImportedMember {
        place: joined.place(),
        source_id: joined.key.clone(),
        organization,
        user,
        role: normalise::member_role(&word, plain, options, &mut notes),
        created_at: None,
        notes,
    })
}

fn pages(options: &Options) -> Result<Vec<Listing>, String> {
    let base = options.fields.url("api_url", "https://api.descope.com")?;
    let project = options.fields.required("project_id")?;
    let key = options.fields.required("management_key")?;
    let token = Secret::new(format!("{}:{}", project.expose(), key.expose()));
    let (tenants, of_tenants) = (base.clone(), token.clone());
    // What the management API allows is not published: no more than is polite.
    let rate = pages::share(10, Duration::from_secs(1));
    Ok(vec![
        Listing {
            input: "users",
            name: "/v2/mgmt/user/search",
            rate,
            ask: Box::new(move |cursor| {
                let page = i64::try_from(cursor.offset() / PAGE as u64).unwrap_or(i64::MAX);
                let body = [
                    ("limit", Json::Number(PAGE as i64)),
                    ("page", Json::Number(page)),
                ];
                post_json(below(&base, &["v2", "mgmt", "user", "search"]), &body)
                    .bearer(token.expose())
            }),
            page: |cursor, answer, _| pages::by_offset(cursor, answer, "/users", PAGE),
            shifts: true,
            each: Vec::new(),
        },
        Listing {
            input: "tenants",
            name: "/v1/mgmt/tenant/all",
            rate,
            ask: Box::new(move |_| {
                get(below(&tenants, &["v1", "mgmt", "tenant", "all"])).bearer(of_tenants.expose())
            }),
            page: |_, answer, _| pages::by_token(answer, "/tenants", "/none"),
            shifts: false,
            each: Vec::new(),
        },
    ])
}
