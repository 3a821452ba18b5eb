//! Kratos's export: the identities of its admin API, with their credentials.
//!
//! Source: ory/kratos, the reference of the admin API and `identity/credentials_*.go`.

use std::time::Duration;

use serde_json::Value;

use super::super::support::{below, get, with_query};
use super::super::{Key, KeyKind};
use crate::migration::import::normalise::{self, Draft, flag, text};
use crate::migration::import::pages::{self, Cursor, Listing, Page};
use crate::migration::import::record::{Factor, FactorKey, Oddity, Record};
use crate::migration::import::source::{
    About, Export, Form, Input, Joined, Lists, Options, members,
};
use crate::migration::second_factor;
use crate::secret::Secret;

const KEYS: &[Key] = &[
    Key {
        name: "email_trait",
        about: "where the traits have the address, a JSON pointer; default /email",
        kind: KeyKind::Text,
    },
    Key {
        name: "admin_url",
        about: "the admin API, to walk its pages",
        kind: KeyKind::Text,
    },
    Key {
        name: "admin_token",
        about: "a token before it, where there is one (Ory Network)",
        kind: KeyKind::Secret,
    },
];

/// Kratos.
pub(super) const EXPORT: Export = Export {
    inputs: &[Input {
        name: "identities",
        about: "pages of GET /admin/identities with include_credential for password, totp and oidc",
        required: true,
        forms: &[Form::Json, Form::Ndjson],
        lists: Lists::Named(&["identities"]),
        part: |entry, _| entry.fragment(About::User, "/id", "user"),
    }],
    keys: &[KEYS],
    compose,
    pages: Some(pages),
    queries: &[],
    experimental: false,
};

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    vec![user(joined, options)]
}

fn user(joined: &Joined, options: &Options) -> Record {
    let Some(newest) = joined.newest("user", "/updated_at") else {
        return normalise::refused(joined, Oddity::Unreadable, "it is empty");
    };
    let value = &newest.value;
    let traits = value.get("traits").cloned().unwrap_or_default();
    let mut draft = Draft::new(joined.place(), joined.key.clone());
    if joined.differs("user") {
        draft.note(
            Oddity::RepeatedId,
            "the id stands there more than once: the newest counts",
        );
    }
    addresses(&mut draft, value, &traits, options);
    match traits.get("name") {
        Some(Value::Object(name)) => {
            let first = |names: [&str; 3]| names.iter().find_map(|at| name.get(*at));
            draft.names(
                first(["first", "given", "first_name"]),
                first(["last", "family", "last_name"]),
            );
        }
        name => draft.full_name(name),
    }
    draft.names(
        traits.get("first_name").or_else(|| traits.get("firstName")),
        traits.get("last_name").or_else(|| traits.get("lastName")),
    );
    draft.username(traits.get("username"));
    draft.image(traits.get("picture"));
    draft.created(value.get("created_at"));
    draft.updated(value.get("updated_at"));
    if text(value.get("state")).as_deref() == Some("inactive") {
        draft.ban(None, None);
    }
    let credentials = value.get("credentials").cloned().unwrap_or_default();
    credentials_of(&mut draft, &credentials, options);
    draft.metadata("traits", others(&traits, options));
    for name in ["metadata_public", "metadata_admin"] {
        draft.metadata(name, Value::Object(members(value.get(name))));
    }
    draft.finish()
}

fn email_pointer(options: &Options) -> &str {
    options
        .fields
        .text("email_trait")
        .map_or("/email", Secret::expose)
}

fn addresses(draft: &mut Draft, value: &Value, traits: &Value, options: &Options) {
    let listed = value.get("verifiable_addresses").and_then(Value::as_array);
    let listed: &[Value] = listed.map_or(&[], Vec::as_slice);
    let verified = |address: &str, via: &str| {
        listed.iter().any(|one| {
            text(one.get("via")).as_deref().unwrap_or("email") == via
                && text(one.get("value"))
                    .is_some_and(|value| value.trim().eq_ignore_ascii_case(address.trim()))
                && flag(one.get("verified")) == Some(true)
        })
    };
    let email = text(traits.pointer(email_pointer(options)));
    let is_verified = email.as_ref().is_some_and(|email| verified(email, "email"));
    draft.email(email, is_verified);
    for one in listed
        .iter()
        .filter(|one| text(one.get("via")).as_deref() == Some("email"))
    {
        if let Some(address) = text(one.get("value")) {
            draft.other_email(&address, flag(one.get("verified")) == Some(true));
        }
    }
    if let Some(phone) = text(traits.get("phone")).or_else(|| text(traits.get("phone_number"))) {
        let is_verified = verified(&phone, "sms");
        draft.phone(Some(&Value::String(phone)), is_verified);
    }
}

/// What of the traits has no column of ours.
fn others(traits: &Value, options: &Options) -> Value {
    let mut others = members(Some(traits));
    let email = email_pointer(options).trim_start_matches('/');
    for name in [
        email,
        "name",
        "first_name",
        "firstName",
        "last_name",
        "lastName",
        "username",
        "picture",
        "phone",
        "phone_number",
    ] {
        others.remove(name);
    }
    Value::Object(others)
}

fn credentials_of(draft: &mut Draft, credentials: &Value, options: &Options) {
    if let Some(password) = credentials.pointer("/password/config") {
        match text(password.get("hashed_password")) {
            Some(hash) => draft.hash(
                normalise::scheme_of(&hash).or(Some("kratos")),
                &hash,
                &[],
                options,
            ),
            // Kratos itself asks another system.
            None if flag(password.get("use_password_migration_hook")) == Some(true) => {
                draft.password_elsewhere()
            }
            None => {}
        }
    } else if credentials.get("password").is_some() {
        // Credentials that were not asked for have no config.
        draft.password_elsewhere();
    }
    let providers = credentials
        .pointer("/oidc/config/providers")
        .and_then(Value::as_array);
    for provider in providers.into_iter().flatten() {
        if let Some(name) = text(provider.get("provider")) {
            draft.social_id(&name, text(provider.get("subject")), options);
        }
    }
    let identifiers = credentials
        .pointer("/oidc/identifiers")
        .and_then(Value::as_array);
    for identifier in identifiers.into_iter().flatten().filter_map(Value::as_str) {
        if let Some((provider, subject)) = identifier.split_once(':') {
            draft.social_id(provider, Some(subject.to_owned()), options);
        }
    }
    if credentials.get("code").is_some() {
        draft.enters();
    }
    for kind in ["webauthn", "passkey"] {
        let keys = credentials
            .pointer(&format!("/{kind}/config/credentials"))
            .and_then(Value::as_array);
        draft.passkeys(keys.map_or(0, Vec::len));
    }
    if credentials.get("totp").is_some() {
        match text(credentials.pointer("/totp/config/totp_url")) {
            Some(url) => totp(draft, &url),
            None => draft.factor(None),
        }
    }
}

/// `otpauth://totp/LABEL?secret=&algorithm=&digits=&period=`. In SQL it is enciphered, which no address begins like.
fn totp(draft: &mut Draft, text: &str) {
    let Ok(url) = url::Url::parse(text) else {
        draft.factor_lost("its address is enciphered");
        return;
    };
    let of = |name: &str| {
        let found = url.query_pairs().find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    };
    let key = of("secret").and_then(|secret| second_factor::from_base32(&secret));
    if key.is_none() {
        draft.factor_lost("its key is not in base32");
        return;
    }
    draft.factor_of(Factor {
        key: key.map(FactorKey),
        digits: of("digits")
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(6),
        period: of("period")
            .and_then(|period| period.parse().ok())
            .unwrap_or(30),
        algorithm: of("algorithm").map_or_else(|| "SHA1".into(), |word| word.to_uppercase()),
        backup_codes: Vec::new(),
    });
}

fn pages(options: &Options) -> Result<Vec<Listing>, String> {
    let base = options.fields.url("admin_url", "")?;
    let token = options.fields.text("admin_token").cloned();
    Ok(vec![Listing {
        input: "identities",
        name: "/admin/identities",
        // Ones own machine: no more than is polite.
        rate: pages::share(100, Duration::from_secs(1)),
        ask: Box::new(move |cursor| {
            let kinds = ["password", "totp", "oidc", "webauthn", "passkey"];
            let mut pairs = vec![("page_size", "250")];
            pairs.extend(cursor.token().map(|token| ("page_token", token)));
            pairs.extend(kinds.map(|kind| ("include_credential", kind)));
            let ask = get(with_query(below(&base, &["admin", "identities"]), &pairs));
            match &token {
                Some(token) => ask.bearer(token.expose()),
                None => ask,
            }
        }),
        page: |_, answer, headers| {
            let entries = answer
                .as_array()
                .ok_or("no list stands where one was expected")?
                .clone();
            let links = headers.get_all(http::header::LINK).iter();
            let next = links
                .filter_map(|link| link.to_str().ok())
                .flat_map(|link| link.split(','));
            let next = next
                .filter(|link| link.contains("rel=\"next\""))
                .find_map(|link| {
                    let (_, rest) = link.split_once("page_token=")?;
                    let token: String = rest
                        .chars()
                        .take_while(|letter| !matches!(letter, '&' | '>'))
                        .collect();
                    Some(Cursor(token)).filter(|cursor| !cursor.0.is_empty())
                });
            Ok(Page {
                entries,
                next,
                total: None,
            })
        },
        shifts: false,
        each: Vec::new(),
    }])
}
