//! WorkOS's exports: the pages of its API. It hands over neither hashes nor keys of second factors.
//!
//! Source: the API's reference, and workos-node for the shapes of its answers.

use std::time::Duration;

use serde_json::{Map, Value};

use super::super::support::{below, get, with_query};
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, Draft, flag, text};
use crate::migration::import::pages::{self, Cursor, Each, Listing, ReadPage};
use crate::migration::import::record::Note;
use crate::migration::import::record::{ImportedInvitation, ImportedMember, Oddity, Record};
use crate::migration::import::source::{
    About, Entry, Export, Form, Fragment, Input, Joined, Lists, Options, id,
};

const KEYS: &[Key] = &[
    Key {
        name: "api_key",
        about: "the secret key, to walk the API's pages",
        kind: KeyKind::Secret,
    },
    Key {
        name: "api_url",
        about: "where the API is; default https://api.workos.com",
        kind: KeyKind::Text,
    },
];

const JSON: &[Form] = &[Form::Json, Form::Ndjson];

/// WorkOS.
pub(super) const EXPORT: Export = Export {
    inputs: &[
        Input {
            name: "users",
            about: "pages of GET /user_management/users",
            required: true,
            forms: JSON,
            lists: Lists::Named(&["data", "users"]),
            part: |entry, _| entry.fragment(About::User, "/id", "user"),
        },
        Input {
            name: "identities",
            about: "GET /user_management/users/{id}/identities: an object of lists by user id, or objects with a user_id",
            required: false,
            forms: JSON,
            lists: Lists::Any,
            part: |entry, _| of_user(entry, "identity"),
        },
        Input {
            name: "auth_factors",
            about: "GET /user_management/users/{id}/auth_factors, the same",
            required: false,
            forms: JSON,
            lists: Lists::Any,
            part: |entry, _| of_user(entry, "factor"),
        },
        Input {
            name: "organizations",
            about: "pages of GET /organizations",
            required: false,
            forms: JSON,
            lists: Lists::Named(&["data"]),
            part: |entry, _| entry.fragment(About::Organization, "/id", "organization"),
        },
        Input {
            name: "memberships",
            about: "pages of GET /user_management/organization_memberships",
            required: false,
            forms: JSON,
            lists: Lists::Named(&["data"]),
            part: |entry, _| entry.fragment(About::Member, "/id", "member"),
        },
        Input {
            name: "invitations",
            about: "pages of GET /user_management/invitations",
            required: false,
            forms: JSON,
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

/// Whose it is: said in the object, or by the list it stands in.
fn of_user(entry: &Entry, part: &'static str) -> Result<Vec<Fragment>, Note> {
    if entry.table.is_empty() || entry.value.get("user_id").is_some() {
        return entry.fragment(About::User, "/user_id", part);
    }
    Ok(vec![entry.fragment_of(
        About::User,
        entry.table.clone(),
        part,
    )])
}

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    vec![match joined.about {
        About::User => user(joined, options),
        About::Organization => organization(joined),
        About::Member => member(joined, options),
        About::Invitation => invitation(joined, options),
    }]
}

fn user(joined: &Joined, options: &Options) -> Record {
    let Some(newest) = joined.newest("user", "/updated_at") else {
        return normalise::refused(joined, Oddity::OnlyInOne, "not among the users");
    };
    let value = &newest.value;
    let mut draft = Draft::new(joined.place(), joined.key.clone());
    if joined.differs("user") {
        draft.note(
            Oddity::RepeatedId,
            "the id stands there more than once: the newest counts",
        );
    }
    draft.email(
        text(value.get("email")),
        flag(value.get("email_verified")) == Some(true),
    );
    draft.names(value.get("first_name"), value.get("last_name"));
    draft.image(value.get("profile_picture_url"));
    draft.created(value.get("created_at"));
    draft.updated(value.get("updated_at"));
    draft.signed_in(value.get("last_sign_in_at"));
    // Who has a password is not said: whoever types one is asked about there.
    draft.password_elsewhere();
    for identity in joined.all("identity") {
        let provider = text(identity.value.get("provider")).unwrap_or_default();
        if text(identity.value.get("type")).is_some_and(|kind| kind.eq_ignore_ascii_case("sso")) {
            let detail = "they sign in by their company's directory: set the sso plugin up";
            draft.note(Oddity::SingleSignOn, detail);
            continue;
        }
        draft.social_id(&provider, text(identity.value.get("idp_id")), options);
    }
    if joined
        .all("factor")
        .any(|factor| text(factor.value.get("type")).as_deref() == Some("totp"))
    {
        draft.factor(None);
    }
    for name in ["metadata", "external_id", "locale"] {
        draft.metadata(name, value.get(name).cloned().unwrap_or_default());
    }
    draft.finish()
}

fn organization(joined: &Joined) -> Record {
    let Some(newest) = joined.newest("organization", "/updated_at") else {
        return missing(joined);
    };
    let mut metadata = Map::new();
    for name in ["metadata", "external_id", "domains"] {
        match newest.value.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) if map.is_empty() => {}
            Some(value) => drop(metadata.insert(name.to_owned(), value.clone())),
        }
    }
    normalise::organization(joined, &newest.value, metadata)
}

fn member(joined: &Joined, options: &Options) -> Record {
    let newest = joined.newest("member", "/updated_at").map(|one| &one.value);
    let ids = newest.and_then(|value| {
        Some((
            value,
            id(value, "/organization_id")?,
            id(value, "/user_id")?,
        ))
    });
    let Some((value, organization, user)) = ids else {
        return missing(joined);
    };
    match text(value.get("status")).as_deref() {
        None | Some("active") => {}
        Some("pending") => {
            return normalise::refused(
                joined,
                Oddity::Over,
                "it is pending: its invitation stands for it",
            );
        }
        Some(status) => {
            let detail = format!("it is {}", normalise::shown(status));
            return normalise::refused(joined, Oddity::Over, detail);
        }
    }
    let mut notes = Vec::new();
    let word = text(value.pointer("/role/slug")).unwrap_or_default();
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

fn invitation(joined: &Joined, options: &Options) -> Record {
    let newest = joined
        .newest("invitation", "/updated_at")
        .map(|one| &one.value);
    let known =
        newest.and_then(|value| Some((value, normalise::email(&text(value.get("email"))?)?)));
    let Some((value, email)) = known else {
        return missing(joined);
    };
    let state = text(value.get("state")).unwrap_or_else(|| "pending".into());
    if state != "pending" {
        return normalise::refused(
            joined,
            Oddity::Over,
            format!("it is {}", normalise::shown(&state)),
        );
    }
    let Some(organization) = id(value, "/organization_id") else {
        return normalise::refused(
            joined,
            Oddity::Over,
            "it is to the app and to no organization",
        );
    };
    let mut notes = Vec::new();
    let word = text(value.get("role_slug")).unwrap_or_default();
    Record::Invitation(ImportedInvitation {
        place: joined.place(),
        source_id: joined.key.clone(),
        organization,
        email,
        role: normalise::member_role(&word, &word, options, &mut notes),
        inviter: id(value, "/inviter_user_id"),
        expires_at: normalise::instant(value.get("expires_at").unwrap_or(&Value::Null))
            .unwrap_or(None),
        created_at: normalise::created(value.get("created_at"), &mut notes),
        notes,
    })
}

fn missing(joined: &Joined) -> Record {
    normalise::refused(
        joined,
        Oddity::Unreadable,
        "it does not say of whom or what it is",
    )
}

fn pages(options: &Options) -> Result<Vec<Listing>, String> {
    let base = options.fields.url("api_url", "https://api.workos.com")?;
    let key = options.fields.required("api_key")?.clone();
    // Reads: 1000 in 10 seconds, and everything together 6000 in 60.
    let rate = pages::share(1000, Duration::from_secs(10));
    let ask = move |path: &[&str], cursor: &Cursor, more: Option<(&str, &str)>| {
        let mut pairs = vec![("limit", "100"), ("order", "asc")];
        pairs.extend(cursor.token().map(|after| ("after", after)));
        pairs.extend(more);
        get(with_query(below(&base, path), &pairs)).bearer(key.expose())
    };
    let page: ReadPage = |_, answer, _| pages::by_token(answer, "/data", "/list_metadata/after");
    let each = |input: &'static str, name: &'static str, last: &'static str| {
        let ask = ask.clone();
        Each {
            input,
            name,
            of: |user| id(user, "/id"),
            ask: Box::new(move |id, cursor| {
                ask(&["user_management", "users", id, last], cursor, None)
            }),
            page: |_, answer, _| match answer {
                // Identities come as a bare list.
                Value::Array(entries) => Ok(pages::Page {
                    entries: entries.clone(),
                    ..pages::Page::default()
                }),
                answer => pages::by_token(answer, "/data", "/list_metadata/after"),
            },
        }
    };
    let (users, organizations, memberships, invitations) =
        (ask.clone(), ask.clone(), ask.clone(), ask.clone());
    Ok(vec![
        Listing {
            input: "users",
            name: "/user_management/users",
            rate,
            ask: Box::new(move |cursor| users(&["user_management", "users"], cursor, None)),
            page,
            shifts: false,
            each: vec![
                each(
                    "identities",
                    "/user_management/users/{id}/identities",
                    "identities",
                ),
                each(
                    "auth_factors",
                    "/user_management/users/{id}/auth_factors",
                    "auth_factors",
                ),
            ],
        },
        Listing {
            input: "organizations",
            name: "/organizations",
            rate,
            ask: Box::new(move |cursor| organizations(&["organizations"], cursor, None)),
            page,
            shifts: false,
            each: vec![Each {
                input: "memberships",
                name: "/user_management/organization_memberships",
                of: |organization| id(organization, "/id"),
                ask: Box::new(move |id, cursor| {
                    let of = Some(("organization_id", id));
                    memberships(&["user_management", "organization_memberships"], cursor, of)
                }),
                page,
            }],
        },
        Listing {
            input: "invitations",
            name: "/user_management/invitations",
            rate,
            ask: Box::new(move |cursor| {
                invitations(&["user_management", "invitations"], cursor, None)
            }),
            page,
            shifts: false,
            each: Vec::new(),
        },
    ])
}
