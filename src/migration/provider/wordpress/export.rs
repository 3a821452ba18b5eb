//! WordPress's tables: `wp_users`, and `wp_usermeta` for names and roles.

use serde_json::{Map, Value};

use super::super::reading::php;
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, Draft, text};
use crate::migration::import::record::{Note, Oddity, Record};
use crate::migration::import::source::{
    About, Entry, Export, Form, Fragment, Input, Joined, Lists, Options,
};

const KEYS: &[Key] = &[Key {
    name: "assume_verified",
    about: "whether addresses count as verified: WordPress does not say; default false",
    kind: KeyKind::Flag,
}];

const FORMS: &[Form] = &[Form::Csv, Form::Json, Form::Ndjson, Form::Sql];

/// WordPress.
pub(super) const EXPORT: Export = Export {
    inputs: &[
        Input {
            name: "users",
            about: "the table wp_users as CSV or JSON, or a dump with wp_users and wp_usermeta",
            required: true,
            forms: FORMS,
            lists: Lists::Named(&["users", "wp_users", "data"]),
            part: |entry, _| {
                let table = entry.table_name();
                if table.is_empty() || table.ends_with("users") {
                    entry.fragment(About::User, "/ID", "user")
                } else if table.ends_with("usermeta") {
                    meta_part(entry)
                } else {
                    Ok(Vec::new())
                }
            },
        },
        Input {
            name: "meta",
            about: "the table wp_usermeta as CSV or JSON",
            required: false,
            forms: FORMS,
            lists: Lists::Named(&["usermeta", "wp_usermeta", "data"]),
            part: |entry, _| meta_part(entry),
        },
    ],
    keys: &[KEYS],
    compose,
    pages: None,
    queries: &[],
    experimental: false,
};

fn meta_part(entry: &Entry) -> Result<Vec<Fragment>, Note> {
    let wanted = text(entry.value.get("meta_key")).is_some_and(|key| {
        matches!(key.as_str(), "first_name" | "last_name" | "nickname")
            || key.ends_with("capabilities")
    });
    // The rest is how somebody likes the dashboard.
    if !wanted {
        return Ok(Vec::new());
    }
    entry.fragment(About::User, "/user_id", "meta")
}

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    let Some(newest) = joined.newest("user", "/user_registered") else {
        return vec![normalise::refused(
            joined,
            Oddity::Dangling,
            "a row of nobody: no such user is in the export",
        )];
    };
    let value = &newest.value;
    let metas = joined.all("meta");
    let meta: Map<String, Value> = metas
        .filter_map(|one| {
            Some((
                text(one.value.get("meta_key"))?,
                one.value.get("meta_value")?.clone(),
            ))
        })
        .collect();
    let mut draft = Draft::new(joined.place(), joined.key.clone());
    if joined.differs("user") {
        draft.note(
            Oddity::RepeatedId,
            "the id stands there more than once: the newest counts",
        );
    }
    draft.email(
        text(value.get("user_email")),
        options.fields.flag("assume_verified", false),
    );
    // What is shown is what they chose; WordPress makes it of the two others.
    draft.full_name(value.get("display_name"));
    draft.names(meta.get("first_name"), meta.get("last_name"));
    draft.display_name(meta.get("nickname"));
    draft.username(value.get("user_login"));
    draft.created(value.get("user_registered"));
    if let Some(hash) = text(value.get("user_pass")) {
        draft.hash(Some(scheme(&hash)), &hash, &[], options);
    }
    let url = text(value.get("user_url"));
    draft.metadata("url", url.map(Value::String).unwrap_or_default());
    let capabilities = meta.iter().find(|(key, _)| key.ends_with("capabilities"));
    for role in capabilities
        .map(|(_, value)| roles(value))
        .unwrap_or_default()
    {
        draft.foreign_role(&role, options);
    }
    vec![draft.finish()]
}

fn scheme(hash: &str) -> &'static str {
    match hash {
        hash if hash.starts_with("$wp$") => "wordpress-6.8",
        hash if hash.starts_with("$P$") || hash.starts_with("$H$") => "phpass",
        hash if hash.starts_with("$2") => "bcrypt",
        hash if hash.len() == 32 => "md5-hex",
        _ => "wordpress",
    }
}

/// `a:1:{s:13:"administrator";b:1;}`: the roles are the keys.
fn roles(value: &Value) -> Vec<String> {
    let text = text(Some(value)).unwrap_or_default();
    let Some(Value::Object(map)) = php::parse(text.as_bytes()) else {
        return Vec::new();
    };
    let given = map
        .into_iter()
        .filter(|(_, value)| normalise::flag(Some(value)) == Some(true));
    given.map(|(role, _)| role).collect()
}
