//! Stytch's exports: users or members as its search answers them, organizations, and hashes if support hands them over.
//!
//! Source: the API's reference; not tried against a system.

use std::time::Duration;

use serde_json::Value;

use super::super::support::{Json, below, post_json};
use super::super::tables::{begin, first};
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, flag, text};
use crate::migration::import::pages::{self, Listing};
use crate::migration::import::record::Note;
use crate::migration::import::record::{ImportedInvitation, ImportedMember, Oddity, Record};
use crate::migration::import::source::{
    About, Entry, Export, Form, Fragment, Input, Joined, Lists, Options, id,
};

/// Users of a page. The search answers 1000 at most.
const PAGE: i64 = 1000;

const KEYS: &[Key] = &[
    Key {
        name: "project_id",
        about: "the consumer project, to walk its users",
        kind: KeyKind::Text,
    },
    Key {
        name: "secret",
        about: "a secret of the project, for the same",
        kind: KeyKind::Secret,
    },
    Key {
        name: "api_url",
        about: "where the API is; default https://api.stytch.com, or https://test.stytch.com for a test project",
        kind: KeyKind::Text,
    },
];

const JSON: &[Form] = &[Form::Json, Form::Ndjson];

/// Stytch.
pub(super) const EXPORT: Export = Export {
    inputs: &[
        Input {
            name: "users",
            about: "answers of POST /v1/users/search, or of /v1/b2b/organizations/members/search",
            required: true,
            forms: JSON,
            lists: Lists::Named(&["results", "users", "members"]),
            part: user_part,
        },
        Input {
            name: "hashes",
            about: "hashes from support: JSON or CSV with user_id, hash and hash_type",
            required: false,
            forms: &[Form::Csv, Form::Json, Form::Ndjson],
            lists: Lists::Named(&["users"]),
            part: |entry, _| {
                super::super::tables::of_user(entry, &["user_id", "member_id"], "hash")
            },
        },
        Input {
            name: "organizations",
            about: "answers of POST /v1/b2b/organizations/search",
            required: false,
            forms: JSON,
            lists: Lists::Named(&["organizations"]),
            part: |entry, _| {
                entry.fragment(About::Organization, "/organization_id", "organization")
            },
        },
    ],
    keys: &[KEYS],
    compose,
    pages: Some(pages),
    queries: &[],
    experimental: true,
};

fn user_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    let mut all = super::super::tables::of_user(entry, &["user_id", "member_id"], "user")?;
    if let (Some(member), Some(organization)) = (
        id(&entry.value, "/member_id"),
        id(&entry.value, "/organization_id"),
    ) {
        let invited = matches!(
            text(entry.value.get("status")).as_deref(),
            Some("invited" | "pending")
        );
        let about = if invited {
            About::Invitation
        } else {
            About::Member
        };
        all.push(entry.fragment_of(about, format!("{organization}/{member}"), "member"));
    }
    Ok(all)
}

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    vec![match joined.about {
        About::User => user(joined, options),
        About::Organization => organization(joined),
        About::Member | About::Invitation => member(joined, options),
    }]
}

fn user(joined: &Joined, options: &Options) -> Record {
    let (value, mut draft) = match begin(joined, "/updated_at") {
        Ok(begun) => begun,
        Err(refused) => return *refused,
    };
    let list = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    match text(value.get("email_address")) {
        Some(email) => draft.email(
            Some(email),
            flag(value.get("email_address_verified")) == Some(true),
        ),
        None => {
            let mut emails = list("emails").map(|one| {
                (
                    text(one.get("email")),
                    flag(one.get("verified")) == Some(true),
                )
            });
            let (main, verified) = emails.next().unwrap_or_default();
            draft.email(main, verified);
            for (other, verified) in emails {
                draft.other_email(&other.unwrap_or_default(), verified);
            }
        }
    }
    match value.get("name") {
        Some(Value::Object(name)) => draft.names(name.get("first_name"), name.get("last_name")),
        name => draft.full_name(name),
    }
    let phone = list("phone_numbers").next();
    let (number, verified) = match phone {
        Some(phone) => (phone.get("phone_number"), flag(phone.get("verified"))),
        None => (
            value.get("mfa_phone_number"),
            flag(value.get("mfa_phone_number_verified")),
        ),
    };
    draft.phone(number, verified == Some(true));
    draft.created(value.get("created_at"));
    draft.updated(value.get("updated_at"));
    match joined.all("hash").next() {
        Some(hash) => {
            let text_of = |names: &[&str]| text(first(&hash.value, names));
            let declared = text_of(&["hash_type", "type", "algorithm"]);
            let hash = text_of(&["hash", "password_hash"]).unwrap_or_default();
            draft.hash(
                declared.as_deref().or_else(|| normalise::scheme_of(&hash)),
                &hash,
                &[],
                options,
            );
        }
        None if value
            .get("password")
            .is_some_and(|password| !password.is_null())
            || text(value.get("member_password_id")).is_some() =>
        {
            draft.password_elsewhere();
        }
        None => {}
    }
    for provider in list("providers").chain(list("oauth_registrations")) {
        let kind = text(first(provider, &["provider_type", "provider"])).unwrap_or_default();
        draft.social_id(&kind, text(provider.get("provider_subject")), options);
    }
    if list("sso_registrations").next().is_some() {
        draft.enters();
        draft.note(
            Oddity::SingleSignOn,
            "they sign in by their company's directory: set the sso plugin up",
        );
    }
    draft.passkeys(list("webauthn_registrations").count());
    if list("totps").next().is_some() || text(value.get("totp_registration_id")).is_some() {
        draft.factor(None);
    }
    // Links and codes by mail sign everybody in.
    draft.enters();
    for name in ["trusted_metadata", "untrusted_metadata"] {
        draft.metadata(name, value.get(name).cloned().unwrap_or_default());
    }
    draft.finish()
}

fn organization(joined: &Joined) -> Record {
    let Some(newest) = joined.newest("organization", "/updated_at") else {
        return normalise::refused(joined, Oddity::Unreadable, "it is empty");
    };
    let mut value = crate::migration::import::source::members(Some(&newest.value));
    for (theirs, ours) in [
        ("organization_name", "name"),
        ("organization_slug", "slug"),
        ("organization_logo_url", "logo"),
    ] {
        if let Some(found) = value.get(theirs).cloned() {
            value.insert(ours.to_owned(), found);
        }
    }
    let metadata = crate::migration::import::source::members(newest.value.get("trusted_metadata"));
    normalise::organization(joined, &Value::Object(value), metadata)
}

fn member(joined: &Joined, options: &Options) -> Record {
    let newest = joined.newest("member", "/updated_at").map(|one| &one.value);
    let ids = newest.and_then(|value| {
        Some((
            value,
            id(value, "/organization_id")?,
            id(value, "/member_id")?,
        ))
    });
    let Some((value, organization, user)) = ids else {
        return normalise::refused(
            joined,
            Oddity::Unreadable,
            "it does not say of whom or what it is",
        );
    };
    let mut notes = Vec::new();
    let word = text(value.pointer("/roles/0/role_id")).unwrap_or_default();
    let plain = match word.as_str() {
        "stytch_admin" => "admin",
        "stytch_member" => "member",
        other => other,
    };
    let role = normalise::member_role(&word, plain, options, &mut notes);
    let created_at = normalise::created(value.get("created_at"), &mut notes);
    let (place, source_id) = (joined.place(), joined.key.clone());
    match text(value.get("status")).as_deref() {
        None | Some("active") => Record::Member(ImportedMember {
            place,
            source_id,
            organization,
            user,
            role,
            created_at,
            notes,
        }),
        Some("invited" | "pending") => match text(value.get("email_address"))
            .as_deref()
            .and_then(normalise::email)
        {
            Some(email) => Record::Invitation(ImportedInvitation {
                place,
                source_id,
                organization,
                email,
                role,
                inviter: None,
                expires_at: None,
                created_at,
                notes,
            }),
            None => normalise::refused(
                joined,
                Oddity::InvalidEmail,
                "the invitation is to no address",
            ),
        },
        Some(status) => normalise::refused(
            joined,
            Oddity::Over,
            format!("it is {}", normalise::shown(status)),
        ),
    }
}

/// Members of organizations (B2B) are searched organization by organization, and not walked.
fn pages(options: &Options) -> Result<Vec<Listing>, String> {
    let project = options.fields.required("project_id")?.clone();
    let secret = options.fields.required("secret")?.clone();
    let default = match project.expose().starts_with("project-test-") {
        true => "https://test.stytch.com",
        false => "https://api.stytch.com",
    };
    let base = options.fields.url("api_url", default)?;
    Ok(vec![Listing {
        input: "users",
        name: "/v1/users/search",
        rate: pages::share(150, Duration::from_secs(60)),
        ask: Box::new(move |cursor| {
            let mut body = vec![("limit", Json::Number(PAGE))];
            body.extend(cursor.token().map(|token| ("cursor", Json::Text(token))));
            post_json(below(&base, &["v1", "users", "search"]), &body)
                .basic(project.expose(), secret.expose())
        }),
        page: |_, answer, _| pages::by_token(answer, "/results", "/results_metadata/next_cursor"),
        shifts: false,
        each: Vec::new(),
    }])
}
