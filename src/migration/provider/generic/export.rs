//! Any list of users: the layout of the guides for "other services" as it stands, every other one by a mapping of its columns.

use serde_json::{Map, Value};

use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, Draft, flag, text};
use crate::migration::import::record::{Note, Oddity, Record, SocialAccount};
use crate::migration::import::source::{
    About, Entry, Export, Form, Fragment, Input, Joined, Lists, Options, id,
};
use crate::secret::Secret;

const KEYS: &[Key] = &[
    Key {
        name: "algorithm",
        about: "the scheme of all hashes of which no column names it; see `vestibule hash schemes`",
        kind: KeyKind::Text,
    },
    Key {
        name: "pepper",
        about: "what the old app put to every password before hashing it",
        kind: KeyKind::Secret,
    },
    Key {
        name: "assume_verified",
        about: "whether addresses count as verified where no column says so; default false",
        kind: KeyKind::Flag,
    },
];

/// Any list.
pub(super) const EXPORT: Export = Export {
    inputs: &[Input {
        name: "users",
        about: "the list: JSON, a JSON object a line, or CSV",
        required: true,
        forms: &[Form::Csv, Form::Json, Form::Ndjson, Form::Sql],
        lists: Lists::Named(&["users", "data", "items", "results", "rows"]),
        part: user_part,
    }],
    keys: &[KEYS],
    compose,
    pages: None,
    queries: &[],
    experimental: false,
};

/// Our fields, with the names they go by. [`plain`] ones: letters of either case and underscores are the same.
const NAMES: &[(&str, &[&str])] = &[
    ("id", &["id", "userid", "uid"]),
    ("email", &["email", "emailaddress", "mail"]),
    (
        "emailVerified",
        &[
            "emailverified",
            "emailconfirmed",
            "verified",
            "isemailverified",
        ],
    ),
    ("name", &["name", "fullname", "displayname"]),
    ("firstName", &["firstname", "givenname"]),
    ("lastName", &["lastname", "familyname", "surname"]),
    ("username", &["username", "login"]),
    ("phone", &["phone", "phonenumber", "mobile"]),
    (
        "phoneVerified",
        &["phoneverified", "phonenumberverified", "phoneconfirmed"],
    ),
    (
        "image",
        &[
            "image",
            "picture",
            "avatar",
            "avatarurl",
            "profilepictureurl",
        ],
    ),
    (
        "createdAt",
        &["createdat", "created", "datejoined", "registeredat"],
    ),
    ("updatedAt", &["updatedat", "updated", "modifiedat"]),
    (
        "lastSignInAt",
        &["lastsigninat", "lastlogin", "lastloginat"],
    ),
    ("banned", &["banned", "blocked", "disabled"]),
    ("banReason", &["banreason"]),
    ("role", &["role", "roles"]),
    (
        "passwordHash",
        &[
            "passwordhash",
            "passworddigest",
            "hashedpassword",
            "encryptedpassword",
        ],
    ),
    (
        "passwordAlgorithm",
        &[
            "passwordalgorithm",
            "passwordhasher",
            "passwordhashtype",
            "hashalgorithm",
        ],
    ),
    ("passwordSalt", &["passwordsalt", "salt"]),
    ("oauthProvider", &["oauthprovider", "provider"]),
    (
        "oauthId",
        &[
            "oauthid",
            "oauthsubject",
            "provideraccountid",
            "provideruserid",
        ],
    ),
    ("accounts", &["accounts"]),
    (
        "totpSecret",
        &["totpsecret", "otpsecret", "twofactorsecret"],
    ),
    ("metadata", &["metadata"]),
];

/// A name without what is written in more than one way.
fn plain(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '_' | '-' | ' ' => {}
            letter if letter.is_ascii() => out.push(letter.to_ascii_lowercase()),
            letter => out.extend(letter.to_lowercase()),
        }
    }
    out
}

/// One row, by our fields.
struct Row<'r> {
    value: &'r Value,
    options: &'r Options,
    /// What its columns are called, [`plain`] and as they stand: every field is looked for among them.
    columns: Vec<(String, &'r str)>,
}

impl<'r> Row<'r> {
    fn new(value: &'r Value, options: &'r Options) -> Self {
        let members = value.as_object();
        let names = members.into_iter().flat_map(Map::keys);
        Self {
            columns: names.map(|name| (plain(name), name.as_str())).collect(),
            value,
            options,
        }
    }

    /// The name of the column a field stands in.
    fn column(&self, field: &str) -> Option<&'r str> {
        if let Some(column) = self.options.columns.get(field) {
            return Some(column);
        }
        let (_, names) = NAMES.iter().find(|(name, _)| *name == field)?;
        let columns = || self.columns.iter();
        names.iter().find_map(|name| {
            columns()
                .find(|(plain, _)| plain == name)
                .map(|(_, column)| *column)
        })
    }

    fn get(&self, field: &str) -> Option<&'r Value> {
        let column = self.column(field)?;
        let found = if column.starts_with('/') {
            self.value.pointer(column)
        } else {
            self.value.get(column)
        };
        found.filter(|value| !value.is_null())
    }

    fn text(&self, field: &str) -> Option<String> {
        text(self.get(field))
    }

    fn id(&self) -> Option<String> {
        id(&serde_json::json!([self.get("id")?]), "/0")
    }

    /// Whether the row has flags and numbers of its own: then a flag that is a text is odd.
    fn is_typed(&self) -> bool {
        let members = self.value.as_object();
        let mut values = members.into_iter().flat_map(Map::values);
        values.any(|value| matches!(value, Value::Bool(_) | Value::Number(_)))
    }

    fn flag(&self, field: &str, draft: &mut Draft) -> Option<bool> {
        let value = self.get(field)?;
        let flag = flag(Some(value));
        if flag.is_none() {
            let detail = format!("`{field}` is no flag: it counts as not set");
            draft.note(Oddity::OddFlag, detail);
        } else if value.is_string() && self.is_typed() {
            draft.note(Oddity::OddFlag, format!("`{field}` is written as a text"));
        }
        flag
    }
}

fn user_part(entry: &Entry, options: &Options) -> Result<Vec<Fragment>, Note> {
    if !entry.value.is_object() {
        return entry.unreadable("it is no object");
    }
    let row = Row::new(&entry.value, options);
    // Rows move when the list is exported again, addresses do not. As it is exported: letter case tells two people apart.
    let key = row
        .id()
        .or_else(|| row.text("email").map(|email| email.trim().to_owned()));
    let key = key.unwrap_or_else(|| format!("row-{}", entry.place.row));
    Ok(vec![entry.fragment_of(About::User, key, "row")])
}

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    let has_id = |fragment: &Fragment| {
        let row = Row::new(&fragment.value, options);
        row.id().is_some()
    };
    if joined.fragments.iter().all(has_id) {
        let newest = joined.all("row").max_by_key(|one| {
            let row = Row::new(&one.value, options);
            row.get("updatedAt")
                .and_then(|at| normalise::instant(at).ok().flatten())
        });
        let Some(newest) = newest else {
            return Vec::new();
        };
        let repeated = joined.differs("row");
        return vec![user(newest, joined.key.clone(), repeated, options)];
    }
    // Without ids, two rows of one address are two rows.
    let numbered = joined.fragments.iter().enumerate();
    numbered
        .map(|(at, fragment)| {
            let id = match at {
                0 => joined.key.clone(),
                at => format!("{}#{}", joined.key, at + 1),
            };
            user(fragment, id, false, options)
        })
        .collect()
}

fn user(fragment: &Fragment, source_id: String, repeated: bool, options: &Options) -> Record {
    let row = Row::new(&fragment.value, options);
    let mut draft = Draft::new(fragment.place.clone(), source_id);
    if repeated {
        draft.note(
            Oddity::RepeatedId,
            "the id stands there more than once: the newest counts",
        );
    }
    let assumed = options.fields.flag("assume_verified", false);
    let verified = row.flag("emailVerified", &mut draft);
    draft.email(row.text("email"), verified.unwrap_or(assumed));
    draft.names(row.get("firstName"), row.get("lastName"));
    draft.display_name(row.get("name"));
    draft.username(row.get("username"));
    let phone_verified = row.flag("phoneVerified", &mut draft);
    draft.phone(row.get("phone"), phone_verified.unwrap_or(false));
    draft.image(row.get("image"));
    // A list without such a column has no dates to miss.
    if row.column("createdAt").is_some() {
        draft.created(row.get("createdAt"));
    }
    draft.updated(row.get("updatedAt"));
    draft.signed_in(row.get("lastSignInAt"));
    if row.flag("banned", &mut draft) == Some(true) {
        draft.ban(row.text("banReason"), None);
    }
    match row.get("role") {
        Some(Value::Array(roles)) => {
            for role in roles.iter().filter_map(Value::as_str) {
                draft.role(role, options);
            }
        }
        Some(Value::String(roles)) => roles.split(',').for_each(|role| draft.role(role, options)),
        _ => {}
    }
    password(&mut draft, &row);
    socials(&mut draft, &row);
    if let Some(secret) = row.text("totpSecret") {
        draft.factor_base32(&secret);
    }
    metadata(&mut draft, &row);
    draft.finish()
}

fn password(draft: &mut Draft, row: &Row<'_>) {
    let Some(hash) = row.text("passwordHash") else {
        return;
    };
    let named = row.text("passwordAlgorithm");
    let usual = row.options.fields.text("algorithm").map(Secret::expose);
    let declared = named.as_deref().map(str::trim).or(usual);
    let mut beside: Vec<(&str, Secret)> = Vec::new();
    if let Some(salt) = row.text("passwordSalt") {
        beside.push(("salt", Secret::new(salt)));
    }
    if let Some(pepper) = row.options.fields.text("pepper") {
        beside.push(("pepper", pepper.clone()));
    }
    // Parameters of other names: `columns = { "password.iterations" = "iter" }`.
    let others = row.options.columns.keys();
    let others = others.filter_map(|field| Some((field, field.strip_prefix("password.")?)));
    for (field, name) in others {
        if let Some(value) = row.text(field) {
            beside.push((name, Secret::new(value)));
        }
    }
    // The guides say `firebase-scrypt` of the text in which Clerk and others put all parameters.
    let declared = match declared {
        Some("firebase-scrypt" | "scrypt_firebase" | "firebase")
            if hash.matches('$').count() == 5 =>
        {
            Some("clerk-scrypt-firebase")
        }
        other => other,
    };
    draft.hash(declared, &hash, &beside, row.options);
}

fn socials(draft: &mut Draft, row: &Row<'_>) {
    if let Some(provider) = row.text("oauthProvider") {
        draft.social_id(provider.trim(), row.text("oauthId"), row.options);
    }
    let Some(Value::Array(accounts)) = row.get("accounts") else {
        return;
    };
    for account in accounts {
        let of = |names: [&str; 3]| names.iter().find_map(|name| text(account.get(name)));
        let Some(provider) = of(["provider", "providerId", "provider_id"]) else {
            continue;
        };
        draft.social(SocialAccount {
            provider: normalise::social_provider(&provider, row.options),
            account_id: of(["accountId", "account_id", "providerAccountId"])
                .or_else(|| of(["subject", "sub", "id"])),
            scope: text(account.get("scope")),
            access_token: None,
            refresh_token: None,
            id_token: None,
            access_token_expires_at: None,
        });
    }
}

/// What stands in no column of ours.
fn metadata(draft: &mut Draft, row: &Row<'_>) {
    if let Some(metadata) = row.get("metadata") {
        draft.metadata("metadata", metadata.clone());
    }
    let Some(members) = row.value.as_object() else {
        return;
    };
    let fields = NAMES.iter().map(|(field, _)| *field);
    let fields = fields.chain(row.options.columns.keys().map(String::as_str));
    let taken: Vec<&str> = fields.filter_map(|field| row.column(field)).collect();
    let is_taken = |name: &String| {
        taken.iter().any(|column| {
            column == name
                || column
                    .strip_prefix('/')
                    .is_some_and(|path| path.split('/').next() == Some(name))
        })
    };
    let others = members
        .iter()
        .filter(|(name, value)| !value.is_null() && !is_taken(name));
    let others: Map<String, Value> = others
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    draft.metadata("fields", Value::Object(others));
}
