//! Devise's table of users, as CSV, JSON or a dump.
//!
//! Source: heartcombo/devise, its migration's template; not tried against a system.

use super::super::tables::{TABLE, begin, first, others};
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::text;
use crate::migration::import::record::Record;
use crate::migration::import::source::{About, Export, Input, Joined, Lists, Options};
use crate::secret::Secret;

const KEYS: &[Key] = &[
    Key {
        name: "pepper",
        about: "`config.pepper` of Devise, where one is set",
        kind: KeyKind::Secret,
    },
    Key {
        name: "algorithm",
        about: "the scheme of the hashes; default bcrypt, with `pepper` bcrypt-pepper-suffix",
        kind: KeyKind::Text,
    },
];

/// Devise.
pub(super) const EXPORT: Export = Export {
    inputs: &[Input {
        name: "users",
        about: "the table of users",
        required: true,
        forms: TABLE,
        lists: Lists::Named(&["users"]),
        part: |entry, _| match entry.table_name().as_str() {
            "" | "users" => entry.fragment(About::User, "/id", "user"),
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
    "email",
    "encrypted_password",
    "password_digest",
    "confirmed_at",
    "unconfirmed_email",
    "name",
    "full_name",
    "first_name",
    "last_name",
    "username",
    "created_at",
    "updated_at",
    "current_sign_in_at",
    "last_sign_in_at",
    "provider",
    "uid",
    "locked_at",
    "otp_secret",
    "otp_required_for_login",
    "otp_backup_codes",
    "encrypted_otp_secret",
    "encrypted_otp_secret_iv",
    "encrypted_otp_secret_salt",
    "consumed_timestep",
    "reset_password_token",
    "reset_password_sent_at",
    "remember_created_at",
    "sign_in_count",
    "current_sign_in_ip",
    "last_sign_in_ip",
    "confirmation_token",
    "confirmation_sent_at",
    "failed_attempts",
    "unlock_token",
];

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    use crate::migration::import::record::Oddity;
    let (value, mut draft) = match begin(joined, "/updated_at") {
        Ok(begun) => begun,
        Err(refused) => return vec![*refused],
    };
    draft.email(
        text(value.get("email")),
        text(value.get("confirmed_at")).is_some(),
    );
    if let Some(other) = text(value.get("unconfirmed_email")) {
        draft.other_email(&other, false);
    }
    draft.full_name(first(value, &["name", "full_name"]));
    draft.names(value.get("first_name"), value.get("last_name"));
    draft.username(value.get("username"));
    draft.created(value.get("created_at"));
    draft.updated(value.get("updated_at"));
    draft.signed_in(first(value, &["current_sign_in_at", "last_sign_in_at"]));
    if text(value.get("locked_at")).is_some() {
        draft.note(
            Oddity::Locked,
            "locked after wrong passwords, which is no ban: not carried over",
        );
    }
    if let Some(hash) = text(first(value, &["encrypted_password", "password_digest"])) {
        let pepper = options.fields.text("pepper").cloned();
        // `has_secure_password` has none.
        let peppered = pepper.filter(|_| value.get("encrypted_password").is_some());
        let usual = if peppered.is_some() {
            "bcrypt-pepper-suffix"
        } else {
            "bcrypt"
        };
        let said = options.fields.text("algorithm").map(Secret::expose);
        let beside: Vec<(&str, Secret)> = peppered
            .map(|pepper| ("pepper", pepper))
            .into_iter()
            .collect();
        draft.hash(Some(said.unwrap_or(usual)), &hash, &beside, options);
    }
    if let Some(provider) = text(value.get("provider")) {
        draft.social_id(&provider, text(value.get("uid")), options);
    }
    let enrolled = crate::migration::import::normalise::flag(value.get("otp_required_for_login"))
        == Some(true);
    match text(value.get("otp_secret")) {
        // Active Record encrypts it, as JSON.
        Some(secret) if secret.trim_start().starts_with('{') => {
            draft.factor_lost("its key is encrypted with a key of the app's own")
        }
        Some(secret) if enrolled => draft.factor_base32(&secret),
        _ if enrolled => draft.factor(None),
        _ => {}
    }
    draft.metadata("fields", others(value, OURS));
    vec![draft.finish()]
}
