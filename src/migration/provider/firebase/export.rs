//! Firebase's exports: what `firebase auth:export` writes, as JSON or as CSV without a row of names, and the project's parameters of hashes.
//!
//! Source: firebase-tools, src/accountExporter.ts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::super::support::{below, get, with_query};
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, Draft, flag, text};
use crate::migration::import::pages::{self, Listing};
use crate::migration::import::record::{Note, Oddity, Record};
use crate::migration::import::source::{
    About, Entry, Export, Form, Fragment, Input, Joined, Lists, Options, members,
};
use crate::secret::Secret;

const KEYS: &[Key] = &[
    Key {
        name: "hash_config",
        about: "the project's password hash parameters, as the console shows them or as JSON: a file",
        kind: KeyKind::Secret,
    },
    Key {
        name: "project_id",
        about: "the project, to walk the pages of its API",
        kind: KeyKind::Text,
    },
    Key {
        name: "access_token",
        about: "a token for that: gcloud auth print-access-token",
        kind: KeyKind::Secret,
    },
    Key {
        name: "api_url",
        about: "where the API is; default https://identitytoolkit.googleapis.com",
        kind: KeyKind::Text,
    },
];

/// Firebase.
pub(super) const EXPORT: Export = Export {
    inputs: &[Input {
        name: "users",
        about: "what `firebase auth:export` writes: users.json, or users.csv without a row of names",
        required: true,
        forms: &[Form::Json, Form::Ndjson, Form::Cells],
        lists: Lists::Named(&["users"]),
        part: user_part,
    }],
    keys: &[KEYS],
    compose,
    pages: Some(pages),
    queries: &[],
    experimental: false,
};

/// The columns of every version, then the providers: of each an id, an address, a name and a picture.
const FIRST: [&str; 7] = [
    "localId",
    "email",
    "emailVerified",
    "passwordHash",
    "salt",
    "displayName",
    "photoUrl",
];

/// The four providers of every version stand at 7.
const PROVIDERS: [&str; 4] = ["google.com", "facebook.com", "twitter.com", "github.com"];

/// What follows them.
const LAST: [&str; 5] = [
    "createdAt",
    "lastSignedInAt",
    "phoneNumber",
    "disabled",
    "customAttributes",
];

/// Providers of newer versions stand behind.
const NEWER: [&str; 6] = [
    "apple.com",
    "microsoft.com",
    "gc.apple.com",
    "playgames.google.com",
    "linkedin.com",
    "yahoo.com",
];

fn user_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    let Value::Array(cells) = &entry.value else {
        return entry.fragment(About::User, "/localId", "user");
    };
    let named = Entry {
        value: named(cells)?,
        ..entry.clone()
    };
    named.fragment(About::User, "/localId", "user")
}

/// A row without a row of names: its columns are known by how many there are, each row ending in a comma.
fn named(cells: &[Value]) -> Result<Value, Note> {
    let count = match cells {
        [rest @ .., Value::String(last)]
            if last.is_empty() && matches!(rest.len(), 28 | 29 | 52) =>
        {
            rest.len()
        }
        cells => cells.len(),
    };
    if !matches!(count, 28 | 29 | 52) {
        return Err(Note {
            what: Oddity::WrongWidth,
            detail: format!(
                "it has {} cells; Firebase writes 52, and earlier 28 or 29",
                cells.len()
            ),
        });
    }
    let cell = |at: usize| cells.get(at).filter(|cell| cell.as_str() != Some(""));
    let mut user = Map::new();
    let mut put = |name: &str, at: usize| {
        if let Some(value) = cell(at) {
            user.insert(name.to_owned(), value.clone());
        }
    };
    for (at, name) in FIRST.iter().enumerate() {
        put(name, at);
    }
    for (at, name) in LAST.iter().enumerate() {
        put(name, 23 + at);
    }
    let older = PROVIDERS
        .iter()
        .enumerate()
        .map(|(at, name)| (7 + 4 * at, name));
    let newer = NEWER
        .iter()
        .enumerate()
        .map(|(at, name)| (28 + 4 * at, name));
    let newer = newer.filter(|_| count == 52);
    let accounts = older.chain(newer).filter_map(|(at, provider)| {
        let id = cell(at)?;
        let pair = [
            ("providerId", Value::from(*provider)),
            ("rawId", id.clone()),
        ];
        Some(Value::Object(Map::from_iter(
            pair.map(|(name, value)| (name.to_owned(), value)),
        )))
    });
    user.insert("providerUserInfo".into(), Value::Array(accounts.collect()));
    Ok(Value::Object(user))
}

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    vec![user(joined, options)]
}

fn user(joined: &Joined, options: &Options) -> Record {
    let Some(newest) = joined.newest("user", "/lastSignedInAt") else {
        return normalise::refused(joined, Oddity::Unreadable, "it is empty");
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
        flag(value.get("emailVerified")) == Some(true),
    );
    draft.full_name(value.get("displayName"));
    // Whoever signs in by phone has shown that it is theirs.
    draft.phone(value.get("phoneNumber"), true);
    draft.image(value.get("photoUrl"));
    draft.created(value.get("createdAt"));
    let signed_in = value
        .get("lastSignedInAt")
        .or_else(|| value.get("lastLoginAt"));
    draft.signed_in(signed_in);
    if flag(value.get("disabled")) == Some(true) {
        draft.ban(None, None);
    }
    if let Some(hash) = text(value.get("passwordHash")) {
        draft.hash(
            Some("firebase-scrypt"),
            &hash,
            &beside(value, options),
            options,
        );
    }
    let mut elsewhere = false;
    for account in list(value, "providerUserInfo") {
        match text(account.get("providerId")).unwrap_or_default().as_str() {
            "password" | "" => {}
            "phone" => draft.enters(),
            provider => {
                elsewhere = true;
                draft.social_id(provider, text(account.get("rawId")), options);
            }
        }
    }
    let reachable = text(value.get("email")).is_some() || text(value.get("phoneNumber")).is_some();
    if !reachable && !elsewhere && !draft.has_password() {
        draft.anonymous();
    }
    if text(value.get("phoneNumber")).is_some() && text(value.get("email")).is_none() {
        draft.enters();
    }
    // Numbers, or keys that are not exported.
    if !list(value, "mfaInfo").is_empty() {
        draft.factor(None);
    }
    let claims = members(value.get("customAttributes"));
    if let Some(role) = claims.get("role").and_then(Value::as_str) {
        draft.foreign_role(role, options);
    }
    draft.metadata("custom_claims", Value::Object(claims));
    draft.metadata(
        "tenantId",
        value.get("tenantId").cloned().unwrap_or_default(),
    );
    draft.finish()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    let list = value.get(name).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// The user's salt, and the project's parameters under the names of the scheme.
fn beside(value: &Value, options: &Options) -> Vec<(&'static str, Secret)> {
    let salt = text(value.get("salt")).map(|salt| ("salt", Secret::new(salt)));
    let config = options.fields.text("hash_config").map(Secret::expose);
    let config = config.map(parameters).unwrap_or_default();
    let names = [
        ("base64_signer_key", "signerKey"),
        ("base64_salt_separator", "saltSeparator"),
        ("rounds", "rounds"),
        ("mem_cost", "memCost"),
    ];
    let of_project = names
        .into_iter()
        .filter_map(|(theirs, ours)| Some((ours, Secret::new(config.get(theirs)?.clone()))));
    salt.into_iter().chain(of_project).collect()
}

/// The parameters as JSON, or as the console shows them: `key: value,` in a block `hash_config`.
fn parameters(text: &str) -> BTreeMap<String, String> {
    if let Ok(Value::Object(map)) = serde_json::from_str(text) {
        let inner = map
            .get("hash_config")
            .and_then(Value::as_object)
            .unwrap_or(&map);
        let pairs = inner.iter();
        return pairs
            .filter_map(|(name, value)| Some((name.clone(), normalise::text(Some(value))?)))
            .collect();
    }
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| {
            let value = value.trim().trim_end_matches(',').trim().trim_matches('"');
            (name.trim().trim_matches('"').to_owned(), value.to_owned())
        })
        .collect()
}

fn pages(options: &Options) -> Result<Vec<Listing>, String> {
    let base = options
        .fields
        .url("api_url", "https://identitytoolkit.googleapis.com")?;
    let project = options.fields.required("project_id")?.clone();
    let token = options.fields.required("access_token")?.clone();
    Ok(vec![Listing {
        input: "users",
        name: "/v1/projects/{id}/accounts:batchGet",
        rate: pages::share(100, Duration::from_secs(10)),
        ask: Box::new(move |cursor| {
            let url = below(
                &base,
                &["v1", "projects", project.expose(), "accounts:batchGet"],
            );
            let mut pairs = vec![("maxResults", "1000")];
            pairs.extend(cursor.token().map(|token| ("nextPageToken", token)));
            get(with_query(url, &pairs)).bearer(token.expose())
        }),
        page: |_, answer, _| match answer.get("users") {
            // The last page has none.
            None => Ok(pages::Page::default()),
            Some(_) => pages::by_token(answer, "/users", "/nextPageToken"),
        },
        shifts: false,
        each: Vec::new(),
    }])
}
