//! Auth.js's tables, as JSON, as a dump, or each as a file of its own. They are the app's own database: ids stay what they are.
//!
//! Source: the schemas of the adapters (Prisma's names, and those of SQL).

use serde_json::Value;

use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, Draft, text};
use crate::migration::import::record::{Note, Oddity, Record, SocialAccount};
use crate::migration::import::source::{
    About, Entry, Export, Form, Fragment, Input, Joined, Lists, Options,
};
use crate::secret::Secret;

const KEYS: &[Key] = &[
    Key {
        name: "password_column",
        about: "the app's own column of hashes in the table of users; default: password, passwordHash or hashedPassword",
        kind: KeyKind::Text,
    },
    Key {
        name: "algorithm",
        about: "the scheme of these hashes, where they do not name it themselves; see `vestibule hash schemes`",
        kind: KeyKind::Text,
    },
    Key {
        name: "pepper",
        about: "what the app put to every password before hashing it",
        kind: KeyKind::Secret,
    },
];

const FORMS: &[Form] = &[Form::Csv, Form::Json, Form::Ndjson];

/// Auth.js.
pub(super) const EXPORT: Export = Export {
    inputs: &[
        Input {
            name: "tables",
            about: "all tables: one JSON object with a list for each, or an SQL dump",
            required: false,
            forms: &[Form::Json, Form::Sql],
            lists: Lists::Any,
            part: |entry, options| match entry.table_name().as_str() {
                "user" | "users" => user_part(entry, options),
                "account" | "accounts" => account_part(entry, options),
                "authenticator" | "authenticators" => by_user(entry, "passkey"),
                _ => Ok(Vec::new()),
            },
        },
        Input {
            name: "users",
            about: "the table of users alone",
            required: false,
            forms: FORMS,
            lists: Lists::Named(&["User", "users", "data"]),
            part: user_part,
        },
        Input {
            name: "accounts",
            about: "the table of accounts alone",
            required: false,
            forms: FORMS,
            lists: Lists::Named(&["Account", "accounts", "data"]),
            part: account_part,
        },
    ],
    keys: &[KEYS],
    compose,
    pages: None,
    queries: &[],
    experimental: false,
};

fn user_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    entry.fragment(About::User, "/id", "user")
}

fn account_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    by_user(entry, "account")
}

fn by_user(entry: &Entry, part: &'static str) -> Result<Vec<Fragment>, Note> {
    let pointer = ["/userId", "/user_id", "/userid"];
    let found = pointer
        .iter()
        .find(|pointer| entry.value.pointer(pointer).is_some());
    entry.fragment(About::User, found.copied().unwrap_or("/userId"), part)
}

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    let Some(user) = joined.newest("user", "/updatedAt") else {
        return vec![normalise::refused(
            joined,
            Oddity::Dangling,
            "an account of nobody: no such user is in the export",
        )];
    };
    let value = &user.value;
    let first = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| value.get(*name).filter(|value| !value.is_null()))
    };
    let mut draft = Draft::new(joined.place(), joined.key.clone());
    if joined.differs("user") {
        draft.note(
            Oddity::RepeatedId,
            "the id stands there more than once: the newest counts",
        );
    }
    // A date, and in tables of one's own a flag.
    let verified = first(&["emailVerified", "email_verified"]).is_some_and(|verified| {
        normalise::flag(Some(verified)).unwrap_or_else(|| text(Some(verified)).is_some())
    });
    draft.email(text(value.get("email")), verified);
    draft.full_name(value.get("name"));
    draft.username(value.get("username"));
    draft.image(value.get("image"));
    if let Some(created) = first(&["createdAt", "created_at"]) {
        draft.created(Some(created));
    }
    draft.updated(first(&["updatedAt", "updated_at"]));
    let own = options.fields.text("password_column").map(Secret::expose);
    let columns = own.map_or_else(
        || {
            vec![
                "password",
                "passwordHash",
                "hashedPassword",
                "password_hash",
                "hashed_password",
            ]
        },
        |own| vec![own],
    );
    if let Some(hash) = text(first(&columns)) {
        let algorithm = options.fields.text("algorithm").map(Secret::expose);
        let pepper = options.fields.text("pepper").cloned();
        let beside: Vec<(&str, Secret)> = pepper
            .map(|pepper| ("pepper", pepper))
            .into_iter()
            .collect();
        draft.hash(
            algorithm.or_else(|| normalise::scheme_of(&hash)),
            &hash,
            &beside,
            options,
        );
    }
    for account in joined.all("account") {
        self::account(&mut draft, &account.value, options);
    }
    draft.passkeys(joined.all("passkey").count());
    // Links by mail leave no account.
    if verified && !draft.has_password() && joined.all("account").next().is_none() {
        draft.enters();
    }
    vec![draft.finish()]
}

fn account(draft: &mut Draft, account: &Value, options: &Options) {
    let first = |names: [&str; 2]| names.iter().find_map(|name| account.get(*name));
    let provider = text(account.get("provider")).unwrap_or_default();
    let kind = text(account.get("type")).unwrap_or_default();
    if matches!(kind.as_str(), "email" | "credentials") {
        draft.enters();
        return;
    }
    let secret = |value: Option<&Value>| text(value).map(Secret::new);
    let scope = text(account.get("scope"));
    draft.social(SocialAccount {
        provider: normalise::social_provider(&provider, options),
        account_id: text(first(["providerAccountId", "provider_account_id"])),
        scope: scope.map(|scope| scope.split_whitespace().collect::<Vec<_>>().join(",")),
        access_token: secret(account.get("access_token")),
        refresh_token: secret(account.get("refresh_token")),
        id_token: secret(account.get("id_token")),
        // In seconds.
        access_token_expires_at: account
            .get("expires_at")
            .and_then(|at| normalise::instant(at).ok().flatten()),
    });
}
