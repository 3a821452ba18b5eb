//! Django's tables: what `manage.py dumpdata` writes, or a dump of the database, with those of allauth and django-otp.

use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, Draft, flag, text};
use crate::migration::import::record::{Factor, FactorKey, Note, Oddity, Record};
use crate::migration::import::source::{
    About, Entry, Export, Form, Fragment, Input, Joined, Lists, Options, id, members,
};

const KEYS: &[Key] = &[
    Key {
        name: "user_model",
        about: "the model of users, where the app has its own: accounts.user; default auth.user, or the one that ends so",
        kind: KeyKind::Text,
    },
    Key {
        name: "assume_verified",
        about: "whether addresses count as verified where allauth does not say; default false",
        kind: KeyKind::Flag,
    },
];

/// Letters that Django's columns of names hold.
const COLUMN_LETTERS: usize = 150;

/// Django.
pub(super) const EXPORT: Export = Export {
    inputs: &[Input {
        name: "dump",
        about: "what `manage.py dumpdata auth.user account socialaccount otp_totp` writes, or a dump of the database",
        required: true,
        forms: &[Form::Json, Form::Ndjson, Form::Sql, Form::Csv],
        lists: Lists::Named(&[]),
        part,
    }],
    keys: &[KEYS],
    compose,
    pages: None,
    queries: &[],
    experimental: false,
};

/// A row of a dump and one of `dumpdata` are the same: columns, with the key among them.
fn part(entry: &Entry, options: &Options) -> Result<Vec<Fragment>, Note> {
    if !entry.value.is_object() {
        return entry.unreadable("it is no object");
    }
    let model = text(entry.value.get("model"));
    let name = model.map_or_else(
        || entry.table_name(),
        |model| model.to_lowercase().replace('.', "_"),
    );
    let mut fields = members(entry.value.get("fields"));
    if fields.is_empty() {
        fields = members(Some(&entry.value));
    }
    if let Some(key) = entry.value.get("pk") {
        fields.insert("id".into(), key.clone());
    }
    let own = options
        .fields
        .text("user_model")
        .map(|own| own.expose().to_lowercase().replace('.', "_"));
    let is_user = match own {
        Some(own) => name == own,
        None => {
            name.is_empty()
                || name == "auth_user"
                || (name.ends_with("_user") && fields.contains_key("password"))
        }
    };
    let row = Entry {
        value: Value::Object(fields),
        ..entry.clone()
    };
    let by_user = |part: &'static str| {
        let pointer = if row.value.get("user").is_some() {
            "/user"
        } else {
            "/user_id"
        };
        row.fragment(About::User, pointer, part)
    };
    match name.as_str() {
        _ if is_user => row.fragment(About::User, "/id", "user"),
        "account_emailaddress" => by_user("email"),
        "socialaccount_socialaccount" => by_user("social"),
        "otp_totp_totpdevice" => by_user("factor"),
        _ => Ok(Vec::new()),
    }
}

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    let Some(newest) = joined.newest("user", "/last_login") else {
        return vec![normalise::refused(
            joined,
            Oddity::Dangling,
            "a row of nobody: no such user is in the export",
        )];
    };
    let value = &newest.value;
    let mut draft = Draft::new(joined.place(), joined.key.clone());
    if joined.differs("user") {
        draft.note(
            Oddity::RepeatedId,
            "the id stands there more than once: the newest counts",
        );
    }
    let assumed = options.fields.flag("assume_verified", false);
    draft.email(text(value.get("email")), assumed);
    for one in joined.all("email") {
        if let Some(address) = text(one.value.get("email")) {
            draft.other_email(&address, flag(one.value.get("verified")) == Some(true));
        }
    }
    draft.names(value.get("first_name"), value.get("last_name"));
    let full = ["first_name", "last_name"]
        .iter()
        .filter_map(|name| text(value.get(*name)));
    if full
        .into_iter()
        .any(|name| name.chars().count() == COLUMN_LETTERS)
    {
        let detail = "a name is as long as its column in the old system, which may have cut it";
        draft.note(Oddity::NameCut, detail);
    }
    draft.username(value.get("username"));
    draft.created(value.get("date_joined"));
    draft.signed_in(value.get("last_login"));
    if flag(value.get("is_active")) == Some(false) {
        draft.ban(None, None);
    }
    for role in ["superuser", "staff"] {
        if flag(value.get(format!("is_{role}"))) == Some(true) {
            draft.foreign_role(role, options);
        }
    }
    if let Some(hash) = text(value.get("password")) {
        draft.hash(Some(scheme(&hash)), &hash, &[], options);
    }
    for social in joined.all("social") {
        if let Some(provider) = text(social.value.get("provider")) {
            draft.social_id(&provider, id(&social.value, "/uid"), options);
        }
    }
    for factor in joined.all("factor") {
        self::factor(&mut draft, &factor.value);
    }
    draft.metadata("fields", others(value));
    vec![draft.finish()]
}

/// The hasher a text names. What it names otherwise is none of Django's.
fn scheme(hash: &str) -> &'static str {
    match hash.split_once('$').map(|(word, _)| word) {
        Some("pbkdf2_sha256") => "django-pbkdf2-sha256",
        Some("pbkdf2_sha1") => "django-pbkdf2-sha1",
        Some("argon2") => "django-argon2",
        Some("bcrypt_sha256") => "django-bcrypt-sha256",
        Some("bcrypt") => "django-bcrypt",
        Some("scrypt") => "django-scrypt",
        Some("md5") => "django-md5",
        Some("sha1") => "django-sha1",
        _ => "django",
    }
}

/// django-otp keeps keys in hex.
fn factor(draft: &mut Draft, device: &Value) {
    if flag(device.get("confirmed")) == Some(false) {
        let detail = "the second factor was begun and never confirmed: it is not carried over";
        draft.note(Oddity::FactorWithoutKey, detail);
        return;
    }
    let key = text(device.get("key"))
        .and_then(|key| HEXLOWER_PERMISSIVE.decode(key.trim().as_bytes()).ok());
    let number = |name: &str| text(device.get(name)).and_then(|number| number.parse::<u32>().ok());
    draft.factor_of(Factor {
        key: key.map(|key| FactorKey(Zeroizing::new(key))),
        digits: number("digits")
            .and_then(|digits| u8::try_from(digits).ok())
            .unwrap_or(6),
        period: number("step").unwrap_or(30),
        algorithm: "SHA1".into(),
        backup_codes: Vec::new(),
    });
}

/// The app's own columns.
fn others(value: &Value) -> Value {
    const OURS: [&str; 13] = [
        "id",
        "password",
        "last_login",
        "is_superuser",
        "username",
        "first_name",
        "last_name",
        "email",
        "is_staff",
        "is_active",
        "date_joined",
        "groups",
        "user_permissions",
    ];
    let all = members(Some(value)).into_iter();
    let others = all.filter(|(name, value)| !OURS.contains(&name.as_str()) && !value.is_null());
    Value::Object(others.collect::<Map<_, _>>())
}
