//! Lucia's tables, of version 2 and 3: they are the app's own. Its hashes are the native ones, or nearly.
//!
//! Source: lucia, the schemas of its adapters; not tried against a system.

use super::super::tables::{TABLE, TABLES, begin, first, of_user, others};
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, flag, text};
use crate::migration::import::record::{Note, Record};
use crate::migration::import::source::{
    About, Entry, Export, Fragment, Input, Joined, Lists, Options,
};
use crate::secret::Secret;

const KEYS: &[Key] = &[
    Key {
        name: "password_column",
        about: "the column of hashes in the table of users (version 3); default password_hash, hashed_password or password",
        kind: KeyKind::Text,
    },
    Key {
        name: "algorithm",
        about: "the scheme of the hashes: oslo-scrypt (default), lucia-v2, lucia-v1, argon2id, bcrypt",
        kind: KeyKind::Text,
    },
];

/// Lucia.
pub(super) const EXPORT: Export = Export {
    inputs: &[
        Input {
            name: "tables",
            about: "a dump of the app's database, or its tables in one JSON object",
            required: false,
            forms: TABLES,
            lists: Lists::Any,
            part: |entry, options| match entry.table_name().as_str() {
                "user" | "users" | "auth_user" => entry.fragment(About::User, "/id", "user"),
                "key" | "keys" | "user_key" | "auth_key" => key_part(entry, options),
                "oauth_account" | "oauth_accounts" => account_part(entry, options),
                _ => Ok(Vec::new()),
            },
        },
        Input {
            name: "users",
            about: "the table of users alone",
            required: false,
            forms: TABLE,
            lists: Lists::Named(&["user", "users"]),
            part: |entry, _| entry.fragment(About::User, "/id", "user"),
        },
        Input {
            name: "keys",
            about: "the table of keys alone (version 2)",
            required: false,
            forms: TABLE,
            lists: Lists::Named(&["key", "keys"]),
            part: key_part,
        },
    ],
    keys: &[KEYS],
    compose,
    pages: None,
    queries: &[],
    experimental: true,
};

fn key_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    of_user(entry, &["user_id", "userId"], "key")
}

fn account_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    of_user(entry, &["user_id", "userId"], "account")
}

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    let (value, mut draft) = match begin(joined, "/updated_at") {
        Ok(begun) => begun,
        Err(refused) => return vec![*refused],
    };
    let keys = || {
        joined.all("key").filter_map(|one| {
            let id = text(one.value.get("id"))?;
            let (provider, user) = id.split_once(':')?;
            Some((provider.to_owned(), user.to_owned(), &one.value))
        })
    };
    // Version 2 may keep the address in the key alone.
    let of_key = keys()
        .find(|(provider, ..)| provider == "email")
        .map(|(_, user, _)| user);
    let verified = first(value, &["email_verified", "emailVerified"]);
    draft.email(
        text(value.get("email")).or(of_key),
        flag(verified) == Some(true),
    );
    draft.full_name(first(value, &["name", "full_name"]));
    draft.names(
        first(value, &["first_name", "firstName"]),
        first(value, &["last_name", "lastName"]),
    );
    draft.username(value.get("username"));
    draft.image(first(value, &["image", "avatar_url", "avatar"]));
    if let Some(created) = first(value, &["created_at", "createdAt"]) {
        draft.created(Some(created));
    }
    let own = options.fields.text("password_column").map(Secret::expose);
    let columns = own.map_or_else(
        || {
            vec![
                "password_hash",
                "passwordHash",
                "hashed_password",
                "hashedPassword",
                "password",
            ]
        },
        |own| vec![own],
    );
    if let Some(hash) = text(first(value, &columns)) {
        draft.hash(Some(scheme(&hash, options)), &hash, &[], options);
    }
    for (provider, user, row) in keys() {
        match text(first(row, &["hashed_password", "hashedPassword"])) {
            Some(hash) => draft.hash(Some(scheme(&hash, options)), &hash, &[], options),
            None if matches!(provider.as_str(), "email" | "username") => draft.enters(),
            None => draft.social_id(&provider, Some(user), options),
        }
    }
    for account in joined.all("account") {
        if let Some(provider) = text(first(
            &account.value,
            &["provider_id", "provider", "providerId"],
        )) {
            let id = text(first(
                &account.value,
                &["provider_user_id", "providerUserId"],
            ));
            draft.social_id(&provider, id, options);
        }
    }
    let ours = [
        &[
            "id",
            "email",
            "email_verified",
            "emailVerified",
            "name",
            "full_name",
            "first_name",
            "last_name",
            "firstName",
            "lastName",
            "username",
            "image",
            "avatar_url",
            "avatar",
            "created_at",
            "createdAt",
        ],
        columns.as_slice(),
    ]
    .concat();
    draft.metadata("fields", others(value, &ours));
    vec![draft.finish()]
}

/// What the operator says; else what the text says itself; else what Lucia makes by itself.
fn scheme<'o>(hash: &str, options: &'o Options) -> &'o str {
    let said = options.fields.text("algorithm").map(Secret::expose);
    said.or_else(|| normalise::scheme_of(hash))
        .unwrap_or("oslo-scrypt")
}
