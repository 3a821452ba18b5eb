//! ASP.NET Identity's tables, as JSON, a dump, or each as CSV.
//!
//! Source: dotnet/aspnetcore, Identity/EntityFrameworkCore; not tried against a system.

use serde_json::Value;

use super::super::tables::{TABLE, TABLES, begin, of_user, others};
use crate::migration::import::normalise::{self, flag, text};
use crate::migration::import::record::{Note, Record};
use crate::migration::import::source::{
    About, Entry, Export, Fragment, Input, Joined, Lists, Options,
};
use crate::secret::Secret;

/// ASP.NET Identity.
pub(super) const EXPORT: Export = Export {
    inputs: &[
        Input {
            name: "tables",
            about: "all AspNet tables: a dump, or one JSON object with a list for each",
            required: false,
            forms: TABLES,
            lists: Lists::Any,
            part: |entry, options| match entry.table_name().as_str() {
                "aspnetusers" => user_part(entry, options),
                "aspnetuserlogins" => login_part(entry, options),
                "aspnetusertokens" => token_part(entry, options),
                _ => Ok(Vec::new()),
            },
        },
        Input {
            name: "users",
            about: "AspNetUsers alone",
            required: false,
            forms: TABLE,
            lists: Lists::Named(&["AspNetUsers", "users"]),
            part: user_part,
        },
        Input {
            name: "logins",
            about: "AspNetUserLogins alone",
            required: false,
            forms: TABLE,
            lists: Lists::Named(&["AspNetUserLogins"]),
            part: login_part,
        },
        Input {
            name: "tokens",
            about: "AspNetUserTokens alone: keys of second factors and recovery codes",
            required: false,
            forms: TABLE,
            lists: Lists::Named(&["AspNetUserTokens"]),
            part: token_part,
        },
    ],
    keys: &[],
    compose,
    pages: None,
    queries: &[],
    experimental: true,
};

fn user_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    entry.fragment(About::User, "/Id", "user")
}

fn login_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    of_user(entry, &["UserId"], "login")
}

fn token_part(entry: &Entry, _: &Options) -> Result<Vec<Fragment>, Note> {
    of_user(entry, &["UserId"], "token")
}

const OURS: &[&str] = &[
    "Id",
    "UserName",
    "NormalizedUserName",
    "Email",
    "NormalizedEmail",
    "EmailConfirmed",
    "PasswordHash",
    "SecurityStamp",
    "ConcurrencyStamp",
    "PhoneNumber",
    "PhoneNumberConfirmed",
    "TwoFactorEnabled",
    "LockoutEnd",
    "LockoutEnabled",
    "AccessFailedCount",
];

/// Lockouts as far away as this are no lockouts after wrong passwords.
const LOCKOUT_MS: i64 = 30 * 24 * 60 * 60 * 1000;

fn compose(joined: &Joined, options: &Options) -> Vec<Record> {
    use crate::migration::import::record::Oddity;
    let (value, mut draft) = match begin(joined, "/LockoutEnd") {
        Ok(begun) => begun,
        Err(refused) => return vec![*refused],
    };
    draft.email(
        text(value.get("Email")),
        flag(value.get("EmailConfirmed")) == Some(true),
    );
    // The username is the address unless the app says otherwise.
    if text(value.get("UserName")) != text(value.get("Email")) {
        draft.username(value.get("UserName"));
    }
    draft.phone(
        value.get("PhoneNumber"),
        flag(value.get("PhoneNumberConfirmed")) == Some(true),
    );
    if let Some(hash) = text(value.get("PasswordHash")) {
        draft.hash(Some("aspnet-identity"), &hash, &[], options);
    }
    if let Some(until) = text(value.get("LockoutEnd")) {
        match normalise::instant(&Value::String(until)) {
            Ok(Some(until)) if until <= options.now => {}
            Ok(Some(until)) if until.0 - options.now.0 < LOCKOUT_MS => {
                draft.note(
                    Oddity::Locked,
                    "locked for a while after wrong passwords, which is no ban: not carried over",
                );
            }
            Ok(until) => draft.ban(None, until),
            Err(_) => draft.ban(None, None),
        }
    }
    for login in joined.all("login") {
        if let Some(provider) = text(login.value.get("LoginProvider")) {
            draft.social_id(&provider, text(login.value.get("ProviderKey")), options);
        }
    }
    if flag(value.get("TwoFactorEnabled")) == Some(true) {
        let token = |name: &str| {
            let found = joined
                .all("token")
                .find(|one| text(one.value.get("Name")).as_deref() == Some(name));
            found.and_then(|one| text(one.value.get("Value")))
        };
        match token("AuthenticatorKey") {
            Some(key) => draft.factor_base32(&key),
            None => draft.factor(None),
        }
        if let (Some(factor), Some(codes)) = (draft.factor_mut(), token("RecoveryCodes")) {
            factor.backup_codes = codes
                .split(';')
                .filter(|code| !code.is_empty())
                .map(Secret::new)
                .collect();
        }
    }
    draft.metadata("fields", others(value, OURS));
    vec![draft.finish()]
}
