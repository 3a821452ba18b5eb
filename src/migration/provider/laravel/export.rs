//! Laravel's table of users, as CSV, JSON or a dump, with Spatie's roles.
//!
//! Source: laravel/laravel and laravel/fortify, their migrations; not tried against a system.

use super::super::tables::{TABLE, begin, first, of_user, others};
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::text;
use crate::migration::import::record::Record;
use crate::migration::import::source::{About, Export, Input, Joined, Lists, Options};
use crate::secret::Secret;

const KEYS: &[Key] = &[Key {
    name: "algorithm",
    about: "the scheme of the hashes, where it is neither bcrypt nor argon2",
    kind: KeyKind::Text,
}];

/// Laravel.
pub(super) const EXPORT: Export = Export {
    inputs: &[Input {
        name: "users",
        about: "the table of users, or a dump with it and model_has_roles",
        required: true,
        forms: TABLE,
        lists: Lists::Named(&["users"]),
        part: |entry, _| match entry.table_name().as_str() {
            "" | "users" => entry.fragment(About::User, "/id", "user"),
            "social_accounts" | "connected_accounts" => of_user(entry, &["user_id"], "account"),
            _ => Ok(Vec::new()),
        },
    }],
    keys: &[KEYS],
    compose,
    pages: None,
    queries: &[],
    experimental: true,
};

const OURS: &[&str] = &[
    "id",
    "name",
    "email",
    "email_verified_at",
    "password",
    "remember_token",
    "username",
    "phone",
    "created_at",
    "updated_at",
    "deleted_at",
    "two_factor_secret",
    "two_factor_recovery_codes",
    "two_factor_confirmed_at",
    "profile_photo_path",
    "avatar",
];

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    use crate::migration::import::record::Oddity;
    let (value, mut draft) = match begin(joined, "/updated_at") {
        Ok(begun) => begun,
        Err(refused) => return vec![*refused],
    };
    draft.email(
        text(value.get("email")),
        text(value.get("email_verified_at")).is_some(),
    );
    draft.full_name(value.get("name"));
    draft.username(value.get("username"));
    draft.phone(value.get("phone"), false);
    draft.image(value.get("avatar"));
    draft.created(value.get("created_at"));
    draft.updated(value.get("updated_at"));
    if text(value.get("deleted_at")).is_some() {
        draft.note(Oddity::Deleted, "the old system has deleted them");
    }
    if let Some(hash) = text(value.get("password")) {
        let said = options.fields.text("algorithm").map(Secret::expose);
        let scheme = said.or_else(|| crate::migration::import::normalise::scheme_of(&hash));
        draft.hash(Some(scheme.unwrap_or("laravel")), &hash, &[], options);
    }
    for account in joined.all("account") {
        let of = |names: &[&str]| text(first(&account.value, names));
        if let Some(provider) = of(&["provider", "provider_name"]) {
            draft.social_id(&provider, of(&["provider_id", "provider_user_id"]), options);
        }
    }
    // Encrypted with the app's key.
    if text(value.get("two_factor_secret")).is_some() {
        draft.factor_lost("its key is encrypted with the app's own key");
    }
    draft.metadata("fields", others(value, OURS));
    vec![draft.finish()]
}
