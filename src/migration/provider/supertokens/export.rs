//! SuperTokens's tables, as a dump or as JSON.
//!
//! Source: supertokens-postgresql-plugin, the names of its tables; not tried against a system.

use super::super::tables::{TABLES, begin, first, of_user};
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, text};
use crate::migration::import::record::{Factor, FactorKey, Record};
use crate::migration::import::source::{Export, Input, Joined, Lists, Options};
use crate::migration::second_factor;
use crate::secret::Secret;

const KEYS: &[Key] = &[Key {
    name: "firebase_signer_key",
    about: "`firebase_password_hashing_signer_key` of the core, where users came from Firebase",
    kind: KeyKind::Secret,
}];

/// SuperTokens.
pub(super) const EXPORT: Export = Export {
    inputs: &[Input {
        name: "tables",
        about: "a dump of the core's database, or its tables in one JSON object",
        required: true,
        forms: TABLES,
        lists: Lists::Any,
        part: |entry, _| match entry.table_name().as_str() {
            "emailpassword_users" | "thirdparty_users" | "passwordless_users" => {
                of_user(entry, &["user_id"], "user")
            }
            "emailverification_verified_emails" => of_user(entry, &["user_id"], "verified"),
            "userid_mapping" => of_user(entry, &["supertokens_user_id"], "mapping"),
            "user_metadata" => of_user(entry, &["user_id"], "metadata"),
            "user_roles" => of_user(entry, &["user_id"], "role"),
            "totp_user_devices" => of_user(entry, &["user_id"], "factor"),
            _ => Ok(Vec::new()),
        },
    }],
    keys: &[KEYS],
    compose,
    pages: None,
    queries: &[],
    experimental: true,
};

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    let (value, mut draft) = match begin(joined, "/time_joined") {
        Ok(begun) => begun,
        Err(refused) => return vec![*refused],
    };
    // The app knows them by the id it mapped.
    if let Some(external) = joined
        .all("mapping")
        .find_map(|one| text(one.value.get("external_user_id")))
    {
        draft.renamed(external);
    }
    let email = text(value.get("email"));
    let verified = joined.all("verified").any(|one| {
        let of = text(one.value.get("email"));
        of.as_deref().and_then(normalise::email) == email.as_deref().and_then(normalise::email)
    });
    draft.email(email, verified);
    draft.phone(value.get("phone_number"), true);
    draft.created(value.get("time_joined"));
    for row in joined.all("user").map(|one| &one.value) {
        if let Some(hash) = text(row.get("password_hash")) {
            let signer = options.fields.text("firebase_signer_key").cloned();
            let beside: Vec<(&str, Secret)> =
                signer.map(|key| ("signerKey", key)).into_iter().collect();
            draft.hash(
                normalise::scheme_of(&hash).or(Some("supertokens")),
                &hash,
                &beside,
                options,
            );
        } else if let Some(provider) = text(row.get("third_party_id")) {
            draft.social_id(&provider, text(row.get("third_party_user_id")), options);
        } else {
            draft.enters();
        }
    }
    for factor in joined.all("factor").map(|one| &one.value) {
        let key = text(factor.get("secret_key")).and_then(|key| second_factor::from_base32(&key));
        let period = text(factor.get("period")).and_then(|period| period.parse().ok());
        draft.factor_of(Factor {
            key: key.map(FactorKey),
            digits: 6,
            period: period.unwrap_or(30),
            algorithm: "SHA1".into(),
            backup_codes: Vec::new(),
        });
    }
    for role in joined.all("role") {
        draft.foreign_role(&text(role.value.get("role")).unwrap_or_default(), options);
    }
    for one in joined.all("metadata") {
        let kept = first(&one.value, &["user_metadata"]);
        let kept = crate::migration::import::source::members(kept);
        draft.names(kept.get("first_name"), kept.get("last_name"));
        draft.metadata("user_metadata", serde_json::Value::Object(kept));
    }
    vec![draft.finish()]
}
