//! Clerk's exports: the CSV of the dashboard, which has the hashes and nothing else that the API lacks, and the pages of the Backend API.
//!
//! Source: clerk/migration-tool and the Backend API's specification; the columns of the CSV are those of the dashboard's export.

use std::time::Duration;

use serde_json::{Map, Value};

use super::super::support::{below, get, with_query};
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, Draft, flag, text};
use crate::migration::import::pages::{self, Cursor, Each, Listing, ReadPage};
use crate::migration::import::record::{
    ImportedInvitation, ImportedMember, Note, Oddity, Record, SocialAccount,
};
use crate::migration::import::source::{
    About, Export, Form, Input, Joined, Lists, Options, id, members,
};

/// Users of a page. The API gives 500 at most.
const PAGE: usize = 500;

const KEYS: &[Key] = &[
    Key {
        name: "secret_key",
        about: "the secret key of the Backend API, to read what the CSV lacks",
        kind: KeyKind::Secret,
    },
    Key {
        name: "api_url",
        about: "where the Backend API is; default https://api.clerk.com/v1",
        kind: KeyKind::Text,
    },
    Key {
        name: "assume_verified",
        about: "whether addresses of a support export, which does not say, count as verified; default false",
        kind: KeyKind::Flag,
    },
];

/// Clerk.
pub(super) const EXPORT: Export = Export {
    inputs: &[
        Input {
            name: "users",
            about: "the CSV of the dashboard, or the JSON of a support export: it has the hashes",
            required: false,
            forms: &[Form::Csv, Form::Json, Form::Ndjson],
            lists: Lists::Named(&["users", "data"]),
            part: |entry, _| entry.fragment(About::User, "/id", "row"),
        },
        Input {
            name: "api",
            about: "pages of GET /v1/users: dates, accounts elsewhere, metadata, bans",
            required: false,
            forms: &[Form::Json, Form::Ndjson],
            lists: Lists::Named(&["users", "data"]),
            part: |entry, _| entry.fragment(About::User, "/id", "api"),
        },
        Input {
            name: "organizations",
            about: "pages of GET /v1/organizations",
            required: false,
            forms: &[Form::Json, Form::Ndjson],
            lists: Lists::Named(&["data"]),
            part: |entry, _| entry.fragment(About::Organization, "/id", "organization"),
        },
        Input {
            name: "memberships",
            about: "pages of GET /v1/organization_memberships",
            required: false,
            forms: &[Form::Json, Form::Ndjson],
            lists: Lists::Named(&["data"]),
            part: |entry, _| entry.fragment(About::Member, "/id", "member"),
        },
        Input {
            name: "invitations",
            about: "pages of GET /v1/organizations/{id}/invitations",
            required: false,
            forms: &[Form::Json, Form::Ndjson],
            lists: Lists::Named(&["data"]),
            part: |entry, _| entry.fragment(About::Invitation, "/id", "invitation"),
        },
    ],
    keys: &[KEYS],
    compose,
    pages: Some(pages),
    queries: &[],
    experimental: false,
};

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    match joined.about {
        About::User => vec![user(joined, options)],
        About::Organization => vec![organization(joined)],
        About::Member => vec![member(joined, options)],
        About::Invitation => vec![invitation(joined, options)],
    }
}

fn user(joined: &Joined, options: &Options) -> Record {
    let null = Value::Null;
    let row = joined.newest("row", "/updated_at").map(|one| &one.value);
    let api = joined.newest("api", "/updated_at").map(|one| &one.value);
    let mut draft = Draft::new(joined.place(), joined.key.clone());
    if options.is_given("users") && options.is_given("api") && (row.is_none() || api.is_none()) {
        let detail = match row {
            Some(_) => "in the CSV and not in the API: deleted since, or another instance",
            None => {
                "in the API and not in the CSV: they signed up since, and their hash is missing"
            }
        };
        draft.note(Oddity::OnlyInOne, detail);
    }
    if joined.differs("row") || joined.differs("api") {
        draft.note(
            Oddity::RepeatedId,
            "the id stands there more than once: the newest counts",
        );
    }
    // The API's answer is exact where a spreadsheet may not be.
    let first = |name: &str| [api, row].into_iter().flatten().find_map(|of| of.get(name));
    draft.names(first("first_name"), first("last_name"));
    emails(&mut draft, row, api, options);
    draft.username(
        first("username")
            .filter(|name| !name.is_null())
            .or_else(|| row?.get("username")),
    );
    phones(&mut draft, row, api);

    let (row, api_or_null) = (row.unwrap_or(&null), api.unwrap_or(&null));
    if let Some(digest) = text(row.get("password_digest")) {
        let hasher = text(row.get("password_hasher"));
        draft.hash(hasher.as_deref(), &digest, &[], options);
    } else if flag(api_or_null.get("password_enabled")) == Some(true) {
        draft.password_elsewhere();
    }
    if let Some(secret) = text(row.get("totp_secret")) {
        draft.factor_base32(&secret);
    } else if flag(api_or_null.get("totp_enabled")) == Some(true) {
        draft.factor(None);
    }
    for name in ["public_metadata", "private_metadata", "unsafe_metadata"] {
        if let Some(value) = first(name) {
            draft.metadata(name, value.clone());
        }
    }
    if let Some(api) = api {
        only_in_api(&mut draft, api, options);
    }
    draft.finish()
}

/// What the CSV does not have.
fn only_in_api(draft: &mut Draft, api: &Value, options: &Options) {
    draft.created(api.get("created_at"));
    draft.updated(api.get("updated_at"));
    draft.signed_in(api.get("last_sign_in_at"));
    if flag(api.get("has_image")) != Some(false) {
        draft.image(api.get("image_url"));
    }
    if flag(api.get("banned")) == Some(true) {
        draft.ban(None, None);
    }
    if flag(api.get("locked")) == Some(true) {
        let detail = "locked for a while after wrong passwords, which is no ban: not carried over";
        draft.note(Oddity::Locked, detail);
    }
    if let Some(external) = text(api.get("external_id")) {
        draft.metadata("external_id", Value::String(external));
    }
    for account in list(api, "external_accounts") {
        let provider = text(account.get("provider")).unwrap_or_default();
        if account
            .pointer("/verification/status")
            .and_then(Value::as_str)
            != Some("verified")
        {
            let detail = format!(
                "the account at {} was never verified: it is left out",
                normalise::shown(&provider)
            );
            draft.note(Oddity::SocialUnverified, detail);
            continue;
        }
        let scope = text(account.get("approved_scopes"));
        draft.social(SocialAccount {
            provider: normalise::social_provider(&provider, options),
            account_id: text(account.get("provider_user_id")),
            // Better Auth keeps them with commas.
            scope: scope.map(|scope| scope.split_whitespace().collect::<Vec<_>>().join(",")),
            access_token: None,
            refresh_token: None,
            id_token: None,
            access_token_expires_at: None,
        });
    }
    for wallet in list(api, "web3_wallets") {
        if let Some(address) = text(wallet.get("web3_wallet")) {
            draft.social_id("siwe", Some(format!("{address}:1")), options);
        }
    }
    let directories = list(api, "saml_accounts").len() + list(api, "enterprise_accounts").len();
    if directories > 0 {
        draft.enters();
        let detail = "they sign in by their company's directory: set the sso plugin up";
        draft.note(Oddity::SingleSignOn, detail);
    }
    draft.passkeys(list(api, "passkeys").len());
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    let list = value.get(name).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// Several values in one cell: Clerk writes `|`, and its own tool also takes commas.
fn several(value: Option<&Value>) -> Vec<String> {
    let cell = text(value).unwrap_or_default();
    let parts = cell.split(['|', ',']).map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

fn emails(draft: &mut Draft, row: Option<&Value>, api: Option<&Value>, options: &Options) {
    let is_verified = |one: &Value| {
        one.pointer("/verification/status").and_then(Value::as_str) == Some("verified")
    };
    let listed = api.map_or(&[][..], |api| list(api, "email_addresses"));
    let primary_id = api.and_then(|api| text(api.get("primary_email_address_id")));
    let primary = listed
        .iter()
        .find(|one| primary_id.is_some() && text(one.get("id")) == primary_id);
    let verified = several(row.and_then(|row| row.get("verified_email_addresses")));
    let unverified = several(row.and_then(|row| row.get("unverified_email_addresses")));
    // Of a support export, which does not say what is verified; the first one is the main one.
    let undecided = several(row.and_then(|row| row.get("email_addresses")));
    let assumed = options.fields.flag("assume_verified", false);
    if let Some(primary) = primary {
        draft.email(text(primary.get("email_address")), is_verified(primary));
    } else if let Some(primary) = row.and_then(|row| text(row.get("primary_email_address"))) {
        let same = |other: &String| normalise::email(other) == normalise::email(&primary);
        let is_verified = verified.iter().any(same);
        draft.email(Some(primary), is_verified);
    } else {
        draft.email(undecided.first().cloned(), assumed);
    }
    for one in listed {
        if let Some(address) = text(one.get("email_address")) {
            draft.other_email(&address, is_verified(one));
        }
    }
    // What the API lists is newer than the row.
    if listed.is_empty() {
        let decided = [(verified, true), (unverified, false), (undecided, assumed)];
        for (addresses, verified) in decided {
            for address in addresses {
                draft.other_email(&address, verified);
            }
        }
    }
}

fn phones(draft: &mut Draft, row: Option<&Value>, api: Option<&Value>) {
    let listed = api.map_or(&[][..], |api| list(api, "phone_numbers"));
    let primary_id = api.and_then(|api| text(api.get("primary_phone_number_id")));
    let primary = listed
        .iter()
        .find(|one| primary_id.is_some() && text(one.get("id")) == primary_id);
    if let Some(primary) = primary {
        let status = primary.pointer("/verification/status");
        let verified = status.and_then(Value::as_str) == Some("verified");
        draft.phone(primary.get("phone_number"), verified);
    } else if let Some(row) = row {
        let verified = several(row.get("verified_phone_numbers"));
        let number = text(row.get("primary_phone_number"))
            .or_else(|| several(row.get("phone_numbers")).first().cloned());
        if let Some(number) = number {
            let is_verified = verified.contains(&number);
            draft.phone(Some(&Value::String(number)), is_verified);
        }
    }
}

fn organization(joined: &Joined) -> Record {
    let Some(newest) = joined.newest("organization", "/updated_at") else {
        return missing(joined);
    };
    let value = &newest.value;
    let mut metadata = Map::new();
    for name in ["public_metadata", "private_metadata"] {
        let kept = members(value.get(name));
        if !kept.is_empty() {
            metadata.insert(name.to_owned(), Value::Object(kept));
        }
    }
    normalise::organization(joined, value, metadata)
}

fn member(joined: &Joined, options: &Options) -> Record {
    let newest = joined.newest("member", "/updated_at").map(|one| &one.value);
    let ids = newest.and_then(|value| {
        let organization =
            id(value, "/organization/id").or_else(|| id(value, "/organization_id"))?;
        Some((value, organization, id(value, "/public_user_data/user_id")?))
    });
    let Some((value, organization, user)) = ids else {
        return missing(joined);
    };
    let mut notes = Vec::new();
    let creator = value
        .pointer("/organization/created_by")
        .and_then(Value::as_str);
    let role = if creator == Some(user.as_str()) {
        "owner".to_owned()
    } else {
        role(value.get("role"), options, &mut notes)
    };
    Record::Member(ImportedMember {
        place: joined.place(),
        source_id: joined.key.clone(),
        organization,
        user,
        role,
        created_at: created(value.get("created_at"), &mut notes),
        notes,
    })
}

fn invitation(joined: &Joined, options: &Options) -> Record {
    let newest = joined
        .newest("invitation", "/updated_at")
        .map(|one| &one.value);
    let known = newest.and_then(|value| {
        let email = normalise::email(&text(value.get("email_address"))?)?;
        Some((value, email, id(value, "/organization_id")?))
    });
    let Some((value, email, organization)) = known else {
        return missing(joined);
    };
    let status = text(value.get("status")).unwrap_or_else(|| "pending".into());
    if status != "pending" {
        return over(joined, &status);
    }
    let mut notes = Vec::new();
    Record::Invitation(ImportedInvitation {
        place: joined.place(),
        source_id: joined.key.clone(),
        organization,
        email,
        role: role(value.get("role"), options, &mut notes),
        inviter: id(value, "/inviter_id").or_else(|| id(value, "/inviter_user_id")),
        expires_at: normalise::instant(value.get("expires_at").unwrap_or(&Value::Null))
            .unwrap_or(None),
        created_at: created(value.get("created_at"), &mut notes),
        notes,
    })
}

/// Clerk's roles begin with `org:`.
fn role(value: Option<&Value>, options: &Options, notes: &mut Vec<Note>) -> String {
    let word = text(value).unwrap_or_default();
    normalise::member_role(
        &word,
        word.strip_prefix("org:").unwrap_or(&word),
        options,
        notes,
    )
}

fn created(value: Option<&Value>, notes: &mut Vec<Note>) -> Option<crate::time::UnixMs> {
    normalise::created(value, notes)
}

fn missing(joined: &Joined) -> Record {
    normalise::refused(
        joined,
        Oddity::Unreadable,
        "it does not say of whom or what it is",
    )
}

fn over(joined: &Joined, status: &str) -> Record {
    let detail = format!("it is over: {}", normalise::shown(status));
    normalise::refused(joined, Oddity::Over, detail)
}

fn pages(options: &Options) -> Result<Vec<Listing>, String> {
    let base = options.fields.url("api_url", "https://api.clerk.com/v1")?;
    let key = options.fields.required("secret_key")?.clone();
    // Test instances are given a tenth.
    let is_test = key.expose().starts_with("sk_test_");
    let rate = pages::share(if is_test { 100 } else { 1000 }, Duration::from_secs(10));
    let ask = move |path: &[&str], cursor: &Cursor, more: (&str, &str)| {
        let (limit, offset) = (PAGE.to_string(), cursor.offset().to_string());
        let pairs = [("limit", limit.as_str()), ("offset", offset.as_str()), more];
        get(with_query(below(&base, path), &pairs)).bearer(key.expose())
    };
    let of_data: ReadPage = |cursor, answer, _| pages::by_offset(cursor, answer, "/data", PAGE);
    // Oldest first: whoever signs up meanwhile comes at the end and shifts nobody.
    let oldest = ("order_by", "+created_at");
    let (users, organizations, memberships) = (ask.clone(), ask.clone(), ask.clone());
    Ok(vec![
        Listing {
            input: "api",
            name: "/users",
            rate,
            ask: Box::new(move |cursor| users(&["users"], cursor, oldest)),
            page: |cursor, answer, _| pages::by_offset(cursor, answer, "", PAGE),
            shifts: true,
            each: Vec::new(),
        },
        Listing {
            input: "organizations",
            name: "/organizations",
            rate,
            ask: Box::new(move |cursor| organizations(&["organizations"], cursor, oldest)),
            page: of_data,
            shifts: true,
            each: vec![Each {
                input: "invitations",
                name: "/organizations/{id}/invitations",
                of: |organization| id(organization, "/id"),
                ask: Box::new(move |id, cursor| {
                    ask(
                        &["organizations", id, "invitations"],
                        cursor,
                        ("status", "pending"),
                    )
                }),
                page: of_data,
            }],
        },
        Listing {
            input: "memberships",
            name: "/organization_memberships",
            rate,
            ask: Box::new(move |cursor| {
                memberships(
                    &["organization_memberships"],
                    cursor,
                    ("order_by", "+created_at"),
                )
            }),
            page: of_data,
            shifts: true,
            each: Vec::new(),
        },
    ])
}
