//! Auth0's exports: the job's lines, those of the Import/Export extension, the hashes that support hands over, organizations.
//!
//! Source: Auth0's reference of the Management API and of bulk imports; auth0-user-import-export-extension for its titles.

use std::time::Duration;

use serde_json::{Map, Value};

use super::super::support::{below, get, with_query};
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, Draft, flag, text};
use crate::migration::import::pages::{self, Cursor, Each, Listing};
use crate::migration::import::record::{ImportedMember, Note, Oddity, Record};
use crate::migration::import::source::{
    About, Entry, Export, Form, Fragment, Input, Joined, Lists, Options, id, members,
};

/// Users the API lists at most, whatever the page.
const LISTED_MAX: u64 = 1000;

const KEYS: &[Key] = &[
    Key {
        name: "domain_url",
        about: "the tenant, https://TENANT.eu.auth0.com, to walk the API's pages",
        kind: KeyKind::Text,
    },
    Key {
        name: "management_token",
        about: "a token of the Management API with read:users, read:organizations, read:organization_members",
        kind: KeyKind::Secret,
    },
];

const JSON: &[Form] = &[Form::Ndjson, Form::Json];

/// Auth0.
pub(super) const EXPORT: Export = Export {
    inputs: &[
        Input {
            name: "users",
            about: "the file of an export job or of the extension, or pages of GET /api/v2/users",
            required: true,
            forms: &[Form::Ndjson, Form::Json, Form::Csv],
            lists: Lists::Named(&["users"]),
            part: user_part,
        },
        Input {
            name: "hashes",
            about: "the hashes of passwords, as support hands them over",
            required: false,
            forms: JSON,
            lists: Lists::Named(&["users"]),
            part: |entry, _| hash_part(entry, "hash"),
        },
        Input {
            name: "factors",
            about: "the secrets of second factors, as support hands them over (experimental: its form is not published)",
            required: false,
            forms: JSON,
            lists: Lists::Named(&["users"]),
            part: |entry, _| hash_part(entry, "factor"),
        },
        Input {
            name: "organizations",
            about: "pages of GET /api/v2/organizations",
            required: false,
            forms: JSON,
            lists: Lists::Named(&["organizations"]),
            part: |entry, _| entry.fragment(About::Organization, "/id", "organization"),
        },
        Input {
            name: "members",
            about: "GET /api/v2/organizations/{id}/members with roles: an object of lists by organization id",
            required: false,
            forms: JSON,
            lists: Lists::Any,
            part: member_part,
        },
    ],
    keys: &[KEYS],
    compose,
    pages: Some(pages),
    queries: &[],
    experimental: false,
};

/// A member by its name in the API, or by the extension's title: `given_name`, `Given Name`.
fn of<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let members = value.as_object()?;
    let found = members.get(name).or_else(|| {
        let title = |key: &String| key.to_lowercase().replace(' ', "_") == name;
        members
            .iter()
            .find(|(key, _)| title(key))
            .map(|(_, value)| value)
    });
    found.filter(|value| !value.is_null())
}

fn user_id(value: &Value) -> Option<String> {
    text(of(value, "user_id").or_else(|| of(value, "id"))).map(|id| id.trim().to_owned())
}

fn user_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    match user_id(&entry.value) {
        Some(id) => Ok(vec![entry.fragment_of(About::User, id, "user")]),
        None => entry.fragment(About::User, "/user_id", "user"),
    }
}

/// The id of the database connection's user is half of the tenant's.
fn hash_part(entry: &Entry, part: &'static str) -> Result<Vec<Fragment>, Note> {
    let whole = user_id(&entry.value).filter(|id| id.contains('|'));
    let half = id(&entry.value, "/_id").map(|id| format!("auth0|{id}"));
    match whole.or(half) {
        Some(id) => Ok(vec![entry.fragment_of(About::User, id, part)]),
        None => entry.fragment(About::User, "/_id", part),
    }
}

fn member_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    let organization = id(&entry.value, "/organization_id")
        .or_else(|| Some(entry.table.clone()).filter(|id| !id.is_empty()));
    match (organization, user_id(&entry.value)) {
        (Some(organization), Some(user)) => {
            let mut fragment =
                entry.fragment_of(About::Member, format!("{organization}/{user}"), "member");
            if let Value::Object(map) = &mut fragment.value {
                map.insert("organization_id".into(), Value::String(organization));
            }
            Ok(vec![fragment])
        }
        _ => entry.unreadable("it does not say whose membership of what it is"),
    }
}

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    vec![match joined.about {
        About::User => user(joined, options),
        About::Organization => organization(joined),
        About::Member => member(joined, options),
        About::Invitation => {
            normalise::refused(joined, Oddity::Unreadable, "invitations are not read")
        }
    }]
}

fn user(joined: &Joined, options: &Options) -> Record {
    let Some(newest) = joined.newest("user", "/updated_at") else {
        return normalise::refused(
            joined,
            Oddity::OnlyInOne,
            "a hash of nobody: no such user is in the export",
        );
    };
    let value = &newest.value;
    let mut draft = Draft::new(joined.place(), joined.key.clone());
    if joined.differs("user") {
        draft.note(
            Oddity::RepeatedId,
            "the id stands there more than once: the newest counts",
        );
    }
    let email = text(of(value, "email"));
    draft.email(
        email.clone(),
        flag(of(value, "email_verified")) == Some(true),
    );
    draft.names(of(value, "given_name"), of(value, "family_name"));
    // A user without a name is called by the address there.
    let name = of(value, "name").filter(|name| name.as_str() != email.as_deref());
    draft.display_name(name);
    draft.username(of(value, "username"));
    draft.phone(
        of(value, "phone_number"),
        flag(of(value, "phone_verified")) == Some(true),
    );
    draft.image(of(value, "picture"));
    draft.created(of(value, "created_at"));
    draft.updated(of(value, "updated_at"));
    draft.signed_in(of(value, "last_login"));
    if flag(of(value, "blocked")) == Some(true) {
        draft.ban(None, None);
    }
    password(&mut draft, joined, options);
    identities(&mut draft, value, joined, options);
    factor(&mut draft, value, joined);
    for name in ["user_metadata", "app_metadata"] {
        draft.metadata(name, Value::Object(members(of(value, name))));
    }
    let roles = value
        .pointer("/app_metadata/roles")
        .and_then(Value::as_array);
    for role in roles.into_iter().flatten().filter_map(Value::as_str) {
        draft.foreign_role(role, options);
    }
    draft.finish()
}

fn password(draft: &mut Draft, joined: &Joined, options: &Options) {
    let Some(hash) = joined.newest("hash", "/date") else {
        return;
    };
    let custom = hash
        .value
        .get("custom_password_hash")
        .filter(|custom| custom.is_object());
    if let Some(custom) = custom {
        draft.hash(Some("auth0-custom"), &custom.to_string(), &[], options);
    } else if let Some(hash) = ["passwordHash", "password_hash"]
        .iter()
        .find_map(|name| text(hash.value.get(*name)))
    {
        draft.hash(Some("bcrypt"), &hash, &[], options);
    } else {
        draft.unusable_hash("the file of hashes has this user, and no hash of theirs");
    }
}

fn identities(draft: &mut Draft, value: &Value, joined: &Joined, options: &Options) {
    let listed = of(value, "identities").and_then(Value::as_array);
    // The extension leaves them out unless it is asked for: the id names the first one.
    let first = joined.key.split_once('|').map(|(provider, id)| {
        let pair = [("provider", provider), ("user_id", id)];
        let pair = pair.map(|(name, text)| (name.to_owned(), Value::String(text.to_owned())));
        Value::Object(Map::from_iter(pair))
    });
    let alone: Vec<Value> = first.into_iter().collect();
    for identity in listed.map_or(alone.as_slice(), Vec::as_slice) {
        let provider = text(identity.get("provider")).unwrap_or_default();
        match provider.as_str() {
            "auth0" => draft.password_elsewhere(),
            "email" | "sms" => draft.enters(),
            "samlp" | "adfs" | "ad" | "okta" | "oidc" | "pingfederate" | "google-apps"
            | "office365" => {
                draft.enters();
                let detail = "they sign in by their company's directory: set the sso plugin up";
                draft.note(Oddity::SingleSignOn, detail);
            }
            "" => {}
            provider => draft.social_id(provider, text(identity.get("user_id")), options),
        }
    }
}

fn factor(draft: &mut Draft, value: &Value, joined: &Joined) {
    let exported = joined.all("factor").find_map(|one| {
        let names = ["totp_secret", "otp_secret", "secret"];
        names.iter().find_map(|name| text(one.value.get(*name)))
    });
    let listed = |name: &str| {
        of(value, name)
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
    };
    if let Some(secret) = exported {
        draft.factor_base32(&secret);
    } else if listed("multifactor")
        || listed("mfa_factors")
        || flag(of(value, "use_mfa")) == Some(true)
    {
        draft.factor(None);
    }
}

fn organization(joined: &Joined) -> Record {
    let Some(newest) = joined.newest("organization", "/updated_at") else {
        return normalise::refused(joined, Oddity::Unreadable, "it is empty");
    };
    // Its `name` is what others call a slug.
    let mut value = members(Some(&newest.value));
    if let Some(slug) = value.get("name").cloned() {
        value.insert("slug".into(), slug.clone());
        if let Some(name) = value
            .get("display_name")
            .cloned()
            .filter(|name| text(Some(name)).is_some())
        {
            value.insert("name".into(), name);
        }
    }
    let logo = newest.value.pointer("/branding/logo_url").cloned();
    value.insert("logo".into(), logo.unwrap_or_default());
    let metadata = members(newest.value.get("metadata"));
    normalise::organization(joined, &Value::Object(value), metadata)
}

fn member(joined: &Joined, options: &Options) -> Record {
    let newest = joined.newest("member", "/updated_at").map(|one| &one.value);
    let ids =
        newest.and_then(|value| Some((value, id(value, "/organization_id")?, user_id(value)?)));
    let Some((value, organization, user)) = ids else {
        return normalise::refused(
            joined,
            Oddity::Unreadable,
            "it does not say of whom or what it is",
        );
    };
    let mut notes = Vec::new();
    let first = value.pointer("/roles/0");
    let word = first
        .and_then(|role| text(role.get("name")).or_else(|| text(Some(role))))
        .unwrap_or_default();
    Record::Member(ImportedMember {
        place: joined.place(),
        source_id: joined.key.clone(),
        organization,
        user,
        role: normalise::member_role(&word, &word, options, &mut notes),
        created_at: normalise::created(value.get("created_at"), &mut notes),
        notes,
    })
}

fn pages(options: &Options) -> Result<Vec<Listing>, String> {
    let base = options.fields.url("domain_url", "")?;
    let token = options.fields.required("management_token")?.clone();
    // What a free tenant may ask.
    let rate = pages::share(10, Duration::from_secs(5));
    let ask = move |path: &[&str], cursor: &Cursor, more: (&str, &str)| {
        let page = (cursor.offset() / 100).to_string();
        let pairs = [
            ("page", page.as_str()),
            ("per_page", "100"),
            ("include_totals", "true"),
            more,
        ];
        let whole: Vec<&str> = ["api", "v2"]
            .into_iter()
            .chain(path.iter().copied())
            .collect();
        get(with_query(below(&base, &whole), &pairs)).bearer(token.expose())
    };
    let (users, organizations) = (ask.clone(), ask.clone());
    Ok(vec![
        Listing {
            input: "users",
            name: "/api/v2/users",
            rate,
            ask: Box::new(move |cursor| users(&["users"], cursor, ("sort", "created_at:1"))),
            page: |cursor, answer, _| {
                let page = pages::by_offset(cursor, answer, "/users", 100)?;
                match page.total {
                    Some(total) if total > LISTED_MAX => Err(
                        "there are more than 1000 users, which this API never lists: give the file of an export job",
                    ),
                    _ => Ok(page),
                }
            },
            shifts: true,
            each: Vec::new(),
        },
        Listing {
            input: "organizations",
            name: "/api/v2/organizations",
            rate,
            ask: Box::new(move |cursor| {
                organizations(&["organizations"], cursor, ("sort", "name:1"))
            }),
            page: |cursor, answer, _| pages::by_offset(cursor, answer, "/organizations", 100),
            shifts: true,
            each: vec![Each {
                input: "members",
                name: "/api/v2/organizations/{id}/members",
                of: |organization| id(organization, "/id"),
                ask: Box::new(move |id, cursor| {
                    ask(
                        &["organizations", id, "members"],
                        cursor,
                        ("fields", "user_id,roles"),
                    )
                }),
                page: |cursor, answer, _| pages::by_offset(cursor, answer, "/members", 100),
            }],
        },
    ])
}
