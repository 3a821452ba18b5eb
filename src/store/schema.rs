//! Which tables and columns hold the sessions: read from the live database, overridden name by name, never guessed between two.
//!
//! Source of the logical names: better-auth 1.4 to 1.7, core tables `user` and `session`, admin and organization plugins.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Documents, FieldKind, SchemaOverrides, Settings};
use crate::credential::cookie_cache::date;
use crate::session::document::Fields;

/// One logical column a lookup reads.
pub(super) struct Field {
    /// `table.column` in the framework's own names.
    pub(super) logical: &'static str,
    /// Without it nothing can be looked up.
    required: bool,
}

const fn required(logical: &'static str) -> Field {
    Field {
        logical,
        required: true,
    }
}

const fn optional(logical: &'static str) -> Field {
    Field {
        logical,
        required: false,
    }
}

/// What a lookup selects, in order; [`super::record::decode`] reads the same order. An absent optional column is selected as NULL.
pub(super) const FIELDS: &[Field] = &[
    required("session.id"),
    required("session.token"),
    required("session.userId"),
    required("session.expiresAt"),
    optional("session.createdAt"),
    optional("session.updatedAt"),
    optional("session.impersonatedBy"),
    optional("session.activeOrganizationId"),
    optional("session.activeTeamId"),
    optional("user.email"),
    optional("user.emailVerified"),
    optional("user.name"),
    optional("user.role"),
    optional("user.banned"),
    optional("user.banExpires"),
    optional("member.role"),
];

/// Columns that only join tables.
const JOINED: &[Field] = &[
    required("user.id"),
    optional("member.organizationId"),
    optional("member.userId"),
];

/// What is read of the JWT plugin's keys, in order. The last two columns came with version 1.7.
pub(super) const KEY_FIELDS: &[Field] = &[
    required("jwks.id"),
    required("jwks.publicKey"),
    required("jwks.createdAt"),
    optional("jwks.expiresAt"),
    optional("jwks.alg"),
];

/// Columns the framework always makes, which tell its table from another of the same name in the other number: `users` may be the
/// app's own, or another library's, beside the framework's `user`.
const ALWAYS: &[(&str, &[&str])] = &[
    ("session", &["createdat", "updatedat"]),
    (
        "user",
        &["name", "email", "emailverified", "createdat", "updatedat"],
    ),
    ("member", &["createdat"]),
    ("apikey", &["name", "start", "prefix", "metadata"]),
    ("jwks", &["privatekey", "createdat"]),
    ("account", &["accesstoken", "createdat", "updatedat"]),
    ("verification", &["createdat", "updatedat"]),
    ("twoFactor", &[]),
    ("organization", &["name", "slug", "createdat"]),
    ("invitation", &["email", "status", "expiresat"]),
];

/// What the framework answers of a session and its user by itself: its own fields and those of its plugins. Every other column is
/// the app's, and may be one that it keeps to itself (`returned: false`).
///
/// Source: better-auth 1.7, core schema and the schemas of the admin, organization, two-factor, username, phone-number, anonymous
/// and last-login-method plugins.
const ANSWERED: &[(&str, FieldKind)] = &[
    ("session.id", FieldKind::Text),
    ("session.expiresAt", FieldKind::Date),
    ("session.token", FieldKind::Text),
    ("session.createdAt", FieldKind::Date),
    ("session.updatedAt", FieldKind::Date),
    ("session.ipAddress", FieldKind::Text),
    ("session.userAgent", FieldKind::Text),
    ("session.userId", FieldKind::Text),
    ("session.impersonatedBy", FieldKind::Text),
    ("session.activeOrganizationId", FieldKind::Text),
    ("session.activeTeamId", FieldKind::Text),
    ("user.id", FieldKind::Text),
    ("user.name", FieldKind::Text),
    ("user.email", FieldKind::Text),
    ("user.emailVerified", FieldKind::Boolean),
    ("user.image", FieldKind::Text),
    ("user.createdAt", FieldKind::Date),
    ("user.updatedAt", FieldKind::Date),
    ("user.role", FieldKind::Text),
    ("user.banned", FieldKind::Boolean),
    ("user.banReason", FieldKind::Text),
    ("user.banExpires", FieldKind::Date),
    ("user.twoFactorEnabled", FieldKind::Boolean),
    ("user.username", FieldKind::Text),
    ("user.displayUsername", FieldKind::Text),
    ("user.phoneNumber", FieldKind::Text),
    ("user.phoneNumberVerified", FieldKind::Boolean),
    ("user.isAnonymous", FieldKind::Boolean),
    ("user.lastLoginMethod", FieldKind::Text),
];

const TABLES: &[&str] = &[
    "session",
    "user",
    "member",
    "jwks",
    "apikey",
    "account",
    "verification",
    "twoFactor",
    "organization",
    "invitation",
];

/// What is read and written of accounts, by who moves users in. Plugins' columns are used where they are.
///
/// Source: better-auth 1.4 to 1.7, core schema and the schemas of the admin, anonymous, phone-number, two-factor, username and
/// organization plugins; `account.issuer` is of 1.7.0 to 1.7.2 alone.
pub(super) const ACCOUNT_FIELDS: &[Field] = &[
    required("user.id"),
    required("user.email"),
    required("user.emailVerified"),
    required("user.name"),
    optional("user.image"),
    optional("user.createdAt"),
    optional("user.updatedAt"),
    optional("user.role"),
    optional("user.banned"),
    optional("user.banExpires"),
    optional("user.twoFactorEnabled"),
    optional("user.username"),
    optional("user.displayUsername"),
    optional("user.phoneNumber"),
    optional("user.phoneNumberVerified"),
    optional("user.isAnonymous"),
    required("account.id"),
    required("account.accountId"),
    required("account.providerId"),
    required("account.userId"),
    required("account.password"),
    optional("account.issuer"),
    optional("account.createdAt"),
    optional("account.updatedAt"),
    required("session.id"),
    required("session.token"),
    required("session.userId"),
    required("session.expiresAt"),
    optional("session.createdAt"),
    optional("session.updatedAt"),
    optional("session.ipAddress"),
    optional("session.userAgent"),
    optional("session.impersonatedBy"),
    optional("session.activeOrganizationId"),
    required("verification.identifier"),
    required("verification.value"),
    required("verification.expiresAt"),
    required("twoFactor.id"),
    required("twoFactor.secret"),
    required("twoFactor.backupCodes"),
    required("twoFactor.userId"),
    optional("twoFactor.verified"),
    optional("twoFactor.failedVerificationCount"),
    optional("twoFactor.lockedUntil"),
];

/// What else an import writes. A column for metadata is the app's own, so it counts only where the operator names it.
///
/// Source: better-auth 1.4 to 1.7, core schema, admin and organization plugins.
pub(super) const IMPORT_FIELDS: &[Field] = &[
    optional("user.banReason"),
    optional("user.metadata"),
    optional("account.accessToken"),
    optional("account.refreshToken"),
    optional("account.idToken"),
    optional("account.accessTokenExpiresAt"),
    optional("account.scope"),
    required("organization.id"),
    required("organization.name"),
    required("organization.slug"),
    optional("organization.logo"),
    optional("organization.metadata"),
    optional("organization.createdAt"),
    required("member.id"),
    required("member.organizationId"),
    required("member.userId"),
    required("member.role"),
    optional("member.createdAt"),
    required("invitation.id"),
    required("invitation.organizationId"),
    required("invitation.email"),
    optional("invitation.role"),
    required("invitation.status"),
    required("invitation.expiresAt"),
    optional("invitation.createdAt"),
    required("invitation.inviterId"),
];

/// The column that holds whatever else an old system kept of somebody.
pub(super) const METADATA: &str = "user.metadata";

/// Tables of organizations: an app has all of them or none.
const ORGANIZATION_TABLES: [&str; 3] = ["organization", "member", "invitation"];

/// Tables of accounts, each with whether there are no accounts without it: sessions and verifications may be in secondary storage.
const ACCOUNT_TABLES: &[(&str, bool)] = &[
    ("user", true),
    ("account", true),
    ("session", false),
    ("verification", false),
    ("twoFactor", false),
];

/// What a lookup of an API key selects, in order; [`super::api_keys`] reads the same order. Whatever limits a key is required: a
/// column that we fail to recognize would otherwise limit nothing.
///
/// Source: better-auth 1.4, plugins/api-key/schema.ts; @better-auth/api-key 1.5 to 1.7, schema.ts.
pub(super) const API_KEY_FIELDS: &[Field] = &[
    required("apikey.id"),
    required("apikey.key"),
    optional("apikey.configId"),
    required("apikey.enabled"),
    required("apikey.expiresAt"),
    required("apikey.createdAt"),
    required("apikey.rateLimitEnabled"),
    required("apikey.rateLimitTimeWindow"),
    required("apikey.rateLimitMax"),
    required("apikey.refillInterval"),
    required("apikey.refillAmount"),
    required("apikey.remaining"),
    required("apikey.lastRefillAt"),
    required("apikey.requestCount"),
    required("apikey.lastRequest"),
    required("apikey.updatedAt"),
    // The owner: by the first in 1.5 and later, by the second before.
    optional("apikey.referenceId"),
    optional("apikey.userId"),
];

/// Stored keys read at most, newest first: more than a set keeps, because some may have ended.
const KEYS_MAX: usize = 2 * crate::credential::key_set::KEYS_MAX;

/// Rows one token may match before the bytes are compared: collations that fold case or pad with spaces can match neighbours.
/// Eight is far above what a token column holds by accident and keeps the answer small.
const MATCHES_MAX: usize = 8;

/// Longest table or column name accepted, in bytes; the databases themselves stop at 64 (MySQL) and 63 (PostgreSQL).
const NAME_BYTES_MAX: usize = 128;

/// A column of the live database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// The database's word for its type, in lower case.
    pub(super) kind: String,
    /// Some index begins with it.
    pub(super) indexed: bool,
}

/// A table of the live database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// The PostgreSQL schema it lives in.
    pub(super) schema: Option<String>,
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
}

/// What the live database and the overrides do not settle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// No such table.
    #[error("found no table for `{logical}`: looked for {looked_for}")]
    NoTable {
        /// The framework's name.
        logical: &'static str,
        /// The stored names tried.
        looked_for: String,
    },
    /// No such column.
    #[error("table `{table}` has no column for `{logical}`: looked for {looked_for}")]
    NoColumn {
        /// The stored table.
        table: String,
        /// The framework's name, with its table.
        logical: &'static str,
        /// The stored names tried.
        looked_for: String,
    },
    /// More than one table could be it.
    #[error("both {candidates} could be the `{logical}` table")]
    WhichTable {
        /// The framework's name.
        logical: &'static str,
        /// The stored names that fit.
        candidates: String,
    },
    /// More than one column could be it.
    #[error("table `{table}` has {candidates}, and each could be `{logical}`")]
    WhichColumn {
        /// The stored table.
        table: String,
        /// The framework's name, with its table.
        logical: &'static str,
        /// The stored names that fit.
        candidates: String,
    },
    /// An override for something we do not read.
    #[error("`sessions.schema` maps `{key}`, which is not a name we read; known are {known}")]
    UnknownKey {
        /// The key in the configuration.
        key: String,
        /// What may be mapped.
        known: String,
    },
    /// A name that we do not put into SQL.
    #[error("the name `{name}` holds characters we do not accept (letters, digits, `_`, `$`, `-`)")]
    BadName {
        /// The name, made printable.
        name: String,
    },
    /// A field of the app's own that is not there.
    #[error("`sessions.fields` lists `{logical}`, and its table has no such column")]
    NoShown {
        /// The field, with its table.
        logical: String,
    },
    /// Columns nobody has said anything about.
    #[error(
        "nobody has said whether the app's answers show {columns}: `answer_get_session` must know it, and `sliding = \"store\"` beside a \
         cookie cache, which holds the same"
    )]
    Unlisted {
        /// Table and column, in the database's own words.
        columns: String,
    },
    /// Columns that a new row would have to fill, and that are nobody's we know.
    #[error(
        "nobody knows what a new row of table `{table}` is to hold in {columns}, which must hold something and has no default"
    )]
    Unfillable {
        /// The stored table.
        table: String,
        /// The stored columns.
        columns: String,
    },
    /// The gateway's own tables are not ours to use.
    #[error("the gateway's own tables: {cause}")]
    OwnTables {
        /// What is wrong with them.
        cause: String,
    },
    /// A schema name was given for a database that has none.
    #[error("`sessions.schema.schema` is for PostgreSQL; {store} has no schemas")]
    NoSchemas {
        /// Which database.
        store: &'static str,
    },
}

impl SchemaError {
    /// The operator's next step.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::NoTable { .. } => {
                "run Better Auth's migration on this database, or name the table under `[sessions.schema.tables]`; on PostgreSQL also \
                 check `sessions.schema.schema` and the search path"
            }
            Self::NoColumn { .. } => {
                "run Better Auth's migration, or name the column under `[sessions.schema.columns]`"
            }
            Self::WhichTable { .. } => "say which one under `[sessions.schema.tables]`",
            Self::WhichColumn { .. } => "say which one under `[sessions.schema.columns]`",
            Self::UnknownKey { .. } => "remove the key, or correct its spelling",
            Self::BadName { .. } => "rename it, or map another under `[sessions.schema]`",
            Self::NoSchemas { .. } => "remove the key",
            Self::Unfillable { .. } => {
                "give it a default, or let it be NULL: the gateway makes users, credentials and sessions in the app's tables"
            }
            Self::OwnTables { .. } => {
                "`vestibule db tables print` shows the statements that make them; `vestibule db tables install` runs them"
            }
            Self::NoShown { .. } => {
                "correct its spelling, or name its column under `[sessions.schema.columns]`"
            }
            Self::Unlisted { .. } => {
                "list each under `sessions.fields` (with its type, as \"user.plan:string\"), or under `sessions.hidden_fields` where the \
                 app's configuration has `returned: false`"
            }
        }
    }
}

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) session: Table,
    pub(super) user: Table,
    /// Only with the organization plugin.
    pub(super) member: Option<Table>,
    /// Logical to stored, in the order of [`FIELDS`] and then the joining columns.
    pub(super) columns: Vec<(&'static str, Column)>,
    /// What the framework would answer, where that is wanted and known.
    pub(super) document: Vec<Answered>,
    /// Columns that keep it from being known.
    pub(super) unlisted: Vec<String>,
}

/// One field of the framework's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// Whether it belongs to the session; else to the user.
    pub(super) of_session: bool,
    /// Its name in the answer.
    pub(super) name: String,
    pub(super) kind: FieldKind,
    column: Column,
}

impl Layout {
    pub(super) fn column(&self, logical: &str) -> Option<&Column> {
        self.columns
            .iter()
            .find(|(name, _)| *name == logical)
            .map(|(_, column)| column)
    }
}

/// How two spellings of one name are told to be the same: `userId`, `user_id` and `UserID` all fold to `userid`.
pub(super) fn fold(name: &str) -> String {
    name.chars()
        .filter(|c| *c != '_')
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Whether a name may be put, quoted, into SQL.
pub(super) fn sane(name: &str) -> Result<&str, SchemaError> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'-'));
    if fits {
        Ok(name)
    } else {
        let name = name.chars().take(40).flat_map(char::escape_default);
        Err(SchemaError::BadName {
            name: name.collect(),
        })
    }
}

/// Refuses overrides that name nothing we read, or hold characters we do not quote.
pub(super) fn check(
    overrides: &SchemaOverrides,
    documents: Option<&Documents>,
    has_schemas: bool,
    store: &'static str,
) -> Result<(), SchemaError> {
    if let Some(schema) = &overrides.schema {
        if !has_schemas {
            return Err(SchemaError::NoSchemas { store });
        }
        sane(schema)?;
    }
    let unknown = |key: &str, known: String| SchemaError::UnknownKey {
        key: key.chars().take(80).collect(),
        known,
    };
    for (key, name) in &overrides.tables {
        if !TABLES.contains(&key.as_str()) {
            return Err(unknown(key, TABLES.join(", ")));
        }
        sane(name)?;
    }
    for (key, name) in &overrides.columns {
        let answered = || ANSWERED.iter().map(|(logical, _)| *logical);
        let shown = |documents: &Documents| documents.shown.iter().any(|(name, _)| name == key);
        if !fields().any(|field| field.logical == key)
            && !ACCOUNT_FIELDS.iter().any(|field| field.logical == key)
            && !IMPORT_FIELDS.iter().any(|field| field.logical == key)
            && !answered().any(|logical| logical == key)
            && !documents.is_some_and(shown)
        {
            let all = fields().chain(ACCOUNT_FIELDS);
            let mut known: Vec<&str> = all.map(|field| field.logical).collect();
            known.extend(answered());
            known.sort_unstable();
            known.dedup();
            return Err(unknown(key, known.join(", ")));
        }
        sane(name)?;
    }
    Ok(())
}

fn fields() -> impl Iterator<Item = &'static Field> + Clone {
    FIELDS
        .iter()
        .chain(JOINED)
        .chain(KEY_FIELDS)
        .chain(API_KEY_FIELDS)
}

/// The folded names of tables worth reading from the catalog, as an SQL list. Only names that [`check`] accepted get here.
pub(super) fn wanted_tables(overrides: &SchemaOverrides) -> String {
    let detected = TABLES
        .iter()
        .flat_map(|t| [fold(t), format!("{}s", fold(t))]);
    let named = overrides.tables.values().map(|name| fold(name));
    let quoted: Vec<String> = detected
        .chain(named)
        .map(|name| format!("'{name}'"))
        .collect();
    quoted.join(",")
}

/// Where API keys and their owners are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiKeyLayout {
    pub(super) keys: Table,
    pub(super) user: Table,
    columns: Vec<(&'static str, Column)>,
}

impl ApiKeyLayout {
    pub(super) fn column(&self, logical: &str) -> Option<&Column> {
        self.columns
            .iter()
            .find(|(name, _)| *name == logical)
            .map(|(_, column)| column)
    }

    /// The column with the owner's id.
    pub(super) fn owner(&self) -> Option<&Column> {
        self.column("apikey.referenceId")
            .or_else(|| self.column("apikey.userId"))
    }
}

/// Finds the table of users and its columns: the owners of keys that are kept elsewhere.
pub(super) fn detect_owners(
    catalog: &[Table],
    overrides: &SchemaOverrides,
) -> Result<Found, SchemaError> {
    table(catalog, overrides, "user")
}

/// Finds the tables and columns of API keys, or says what is missing or unclear.
pub(super) fn detect_api_keys(
    catalog: &[Table],
    overrides: &SchemaOverrides,
) -> Result<ApiKeyLayout, SchemaError> {
    let (keys, mut columns) = table(catalog, overrides, "apikey")?;
    let (user, of_user) = table(catalog, overrides, "user")?;
    columns.extend(of_user);
    let layout = ApiKeyLayout {
        keys,
        user,
        columns,
    };
    if layout.owner().is_none() {
        return Err(SchemaError::NoColumn {
            table: layout.keys.name,
            logical: "apikey.referenceId",
            looked_for: "`referenceId`, `reference_id`, `userId` and `user_id`".to_owned(),
        });
    }
    Ok(layout)
}

/// Finds the tables and columns, or says what is missing or unclear.
pub(super) fn detect(
    catalog: &[Table],
    overrides: &SchemaOverrides,
    documents: Option<&Documents>,
) -> Result<Layout, SchemaError> {
    let (session, mut columns) = table(catalog, overrides, "session")?;
    let (user, of_user) = table(catalog, overrides, "user")?;
    columns.extend(of_user);
    let organization = columns
        .iter()
        .any(|(logical, _)| *logical == "session.activeOrganizationId");
    let mut member = None;
    if organization {
        match table(catalog, overrides, "member") {
            Ok((found, of_member)) => {
                let joins = ["member.organizationId", "member.userId", "member.role"];
                let whole = joins
                    .iter()
                    .all(|join| of_member.iter().any(|(logical, _)| logical == join));
                if whole {
                    columns.extend(of_member);
                    member = Some(found);
                }
            }
            // Sessions can do without it; a name the operator gave must exist, and an unclear one must be settled.
            Err(SchemaError::NoTable { .. }) if !overrides.tables.contains_key("member") => {}
            Err(error) => return Err(error),
        }
    }
    let (document, unlisted) = match documents {
        Some(documents) => answered(&session, &user, overrides, documents)?,
        None => (Vec::new(), Vec::new()),
    };
    Ok(Layout {
        session,
        user,
        member,
        columns,
        document,
        unlisted,
    })
}

/// What the framework would answer of these tables, and the columns nobody has said anything about. With any of these, nothing is
/// answered: what the app keeps to itself must not get out.
fn answered(
    session: &Table,
    user: &Table,
    overrides: &SchemaOverrides,
    documents: &Documents,
) -> Result<(Vec<Answered>, Vec<String>), SchemaError> {
    let (mut document, mut unlisted) = (Vec::new(), Vec::new());
    for (logical_table, table) in [("session", session), ("user", user)] {
        for column in &table.columns {
            let is = |logical: &str| {
                let (of, name) = logical.split_once('.').unwrap_or_default();
                of == logical_table
                    && match overrides.columns.get(logical) {
                        Some(stored) => stored.eq_ignore_ascii_case(&column.name),
                        None => fold(name) == fold(&column.name),
                    }
            };
            if documents.hidden.iter().any(|name| is(name)) {
                continue;
            }
            let shown = documents.shown.iter();
            let shown = shown.map(|(name, kind)| (name.as_str(), *kind));
            let known = shown.chain(ANSWERED.iter().copied());
            let mut found = known.filter(|(logical, _)| is(logical));
            let Some((logical, kind)) = found.next() else {
                unlisted.push(format!("`{}.{}`", table.name, column.name));
                continue;
            };
            sane(&column.name)?;
            let (_, name) = logical.split_once('.').unwrap_or_default();
            document.push(Answered {
                of_session: logical_table == "session",
                name: name.to_owned(),
                kind,
                column: column.clone(),
            });
        }
    }
    for (logical, _) in &documents.shown {
        let there = document.iter().any(|field| {
            let of = if field.of_session { "session" } else { "user" };
            *logical == format!("{of}.{}", field.name)
        });
        if !there {
            return Err(SchemaError::NoShown {
                logical: logical.clone(),
            });
        }
    }
    if !unlisted.is_empty() {
        document.clear();
    }
    Ok((document, unlisted))
}

/// The framework's answer about a session and its user that are stored as JSON, hidden fields and all. `None`: it cannot be known, for
/// there is a field nobody has said anything about, or one that holds what its type cannot be.
pub(super) fn answer(session: &Fields, user: &Fields, documents: &Documents) -> Option<String> {
    let part = |of: &str, stored: &Fields| -> Option<Fields> {
        let mut fields = Fields::new();
        for (name, value) in stored {
            let logical = format!("{of}.{name}");
            if documents.hidden.contains(&logical) {
                continue;
            }
            let shown = documents.shown.iter();
            let mut known = shown
                .map(|(name, kind)| (name.as_str(), *kind))
                .chain(ANSWERED.iter().copied());
            let (_, kind) = known.find(|(known, _)| *known == logical)?;
            let mut value = value.clone();
            if !value.is_null() && !is_of(kind, &value) {
                return None;
            }
            date::write_in_full(&mut value);
            fields.insert(name.clone(), value);
        }
        Some(fields)
    };
    let (session, user) = (part("session", session)?, part("user", user)?);
    // The framework turns these into dates whatever they are; what that makes of nothing is its own to say.
    let dated = |fields: &Fields, names: &[&str]| {
        let mut names = names.iter();
        names.all(|name| fields.get(*name).is_some_and(Value::is_string))
    };
    if !dated(&session, &["expiresAt", "createdAt", "updatedAt"])
        || !dated(&user, &["createdAt", "updatedAt"])
    {
        return None;
    }
    Some(serde_json::json!({ "session": session, "user": user }).to_string())
}

/// What a column of the user table is called in the framework's answers, and what it is there.
pub(super) fn user_field(column: &Column, settings: &Settings) -> (String, FieldKind) {
    let shown = settings.documents.iter().flat_map(|known| &known.shown);
    let shown = shown.map(|(name, kind)| (name.as_str(), *kind));
    let known = shown.chain(ANSWERED.iter().copied());
    let named = |logical: &str| match settings.schema.columns.get(logical) {
        Some(stored) => stored.eq_ignore_ascii_case(&column.name),
        None => logical
            .strip_prefix("user.")
            .is_some_and(|name| fold(name) == fold(&column.name)),
    };
    for (logical, kind) in known {
        if let Some(name) = logical.strip_prefix("user.").filter(|_| named(logical)) {
            return (name.to_owned(), kind);
        }
    }
    // What the app has of its own is called as its schema says, which most generators turn into snake case.
    let mut name = String::with_capacity(column.name.len());
    for part in column.name.split('_').filter(|part| !part.is_empty()) {
        let mut letters = part.chars();
        if let (false, Some(first)) = (name.is_empty(), letters.clone().next()) {
            letters.next();
            name.push(first.to_ascii_uppercase());
        }
        name.push_str(letters.as_str());
    }
    (name, super::old::kind_of_column(&column.kind))
}

/// Whether the framework shows a field of the user in its answers.
pub(super) fn is_shown(name: &str, documents: Option<&Documents>) -> bool {
    let logical = format!("user.{name}");
    if documents.is_some_and(|known| known.hidden.contains(&logical)) {
        return false;
    }
    let mut shown = documents.iter().flat_map(|known| &known.shown);
    ANSWERED.iter().any(|(known, _)| *known == logical) || shown.any(|(known, _)| *known == logical)
}

fn is_of(kind: FieldKind, value: &Value) -> bool {
    /// The largest whole number that JavaScript reads as it stands.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match (kind, value) {
        (FieldKind::Text, Value::String(_))
        | (FieldKind::Boolean, Value::Bool(_))
        | (FieldKind::Json, _) => true,
        (FieldKind::Number, Value::Number(number)) => {
            number.as_f64().is_some_and(|number| number.abs() <= EXACT)
        }
        (FieldKind::Date, Value::String(text)) => date::parse(text).is_some(),
        (FieldKind::Text | FieldKind::Boolean | FieldKind::Number | FieldKind::Date, _) => false,
    }
}

/// A table with the columns found in it.
pub(super) type Found = (Table, Vec<(&'static str, Column)>);

/// Most organizations of one user that are read. Nobody's screen shows as many.
const MEMBERSHIPS_MAX: usize = 1000;

/// Finds the table of memberships alone. `None`: the app has none.
pub(super) fn members(
    catalog: &[Table],
    overrides: &SchemaOverrides,
) -> Result<Option<Found>, SchemaError> {
    match table(catalog, overrides, "member") {
        Ok((found, columns)) => {
            let has = |logical: &str| columns.iter().any(|(name, _)| *name == logical);
            let whole = MEMBERSHIP.iter().all(|logical| has(logical));
            Ok(whole.then_some((found, columns)))
        }
        Err(SchemaError::NoTable { .. }) if !overrides.tables.contains_key("member") => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a membership says.
const MEMBERSHIP: [&str; 3] = ["member.userId", "member.organizationId", "member.role"];

/// Where the JWT plugin keeps its keys. Sessions do without it, so it is looked for on its own.
pub(super) fn detect_keys(
    catalog: &[Table],
    overrides: &SchemaOverrides,
) -> Result<Found, SchemaError> {
    table(catalog, overrides, "jwks")
}

/// Finds the tables of accounts, those that are there.
pub(super) fn detect_accounts(
    catalog: &[Table],
    overrides: &SchemaOverrides,
) -> Result<Vec<(&'static str, Found)>, SchemaError> {
    let mut tables = Vec::new();
    for (logical, needed) in ACCOUNT_TABLES {
        match table_with(catalog, overrides, logical, ACCOUNT_FIELDS.iter()) {
            Ok(found) => tables.push((*logical, found)),
            // A name the operator gave must exist, and an unclear one must be settled.
            Err(SchemaError::NoTable { .. })
                if !needed && !overrides.tables.contains_key(*logical) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tables)
}

/// Finds the tables an import writes: those of accounts with more of their columns, and those of organizations where they are.
pub(super) fn detect_import(
    catalog: &[Table],
    overrides: &SchemaOverrides,
) -> Result<Vec<(&'static str, Found)>, SchemaError> {
    let wanted = || {
        let named = overrides.columns.contains_key(METADATA);
        let mine = IMPORT_FIELDS.iter();
        let mine = mine.filter(move |field| named || field.logical != METADATA);
        ACCOUNT_FIELDS.iter().chain(mine)
    };
    let mut tables = Vec::new();
    for (logical, needed) in ACCOUNT_TABLES {
        match table_with(catalog, overrides, logical, wanted()) {
            Ok(found) => tables.push((*logical, found)),
            Err(SchemaError::NoTable { .. })
                if !needed && !overrides.tables.contains_key(*logical) => {}
            Err(error) => return Err(error),
        }
    }
    let mut organizations = Vec::new();
    for logical in ORGANIZATION_TABLES {
        match table_with(catalog, overrides, logical, wanted()) {
            Ok(found) => organizations.push((logical, found)),
            Err(SchemaError::NoTable { .. }) if !overrides.tables.contains_key(logical) => {}
            // A table of the app's own that has the name of one of these.
            Err(SchemaError::NoColumn { .. }) if !overrides.tables.contains_key(logical) => {}
            Err(error) => return Err(error),
        }
    }
    if organizations.len() == ORGANIZATION_TABLES.len() {
        tables.extend(organizations);
    }
    Ok(tables)
}

fn table(
    catalog: &[Table],
    overrides: &SchemaOverrides,
    logical: &'static str,
) -> Result<Found, SchemaError> {
    table_with(catalog, overrides, logical, fields())
}

fn table_with(
    catalog: &[Table],
    overrides: &SchemaOverrides,
    logical: &'static str,
    wanted: impl Iterator<Item = &'static Field> + Clone,
) -> Result<Found, SchemaError> {
    let named = overrides.tables.get(logical);
    let candidates: Vec<&Table> = match named {
        Some(name) => exactly(catalog, name, |table| &table.name),
        None => {
            let (one, plural) = (fold(logical), fold(logical) + "s");
            let fits = |name: &str| name == one || name == plural;
            catalog.iter().filter(|t| fits(&fold(&t.name))).collect()
        }
    };
    let mut fitting = Vec::new();
    let mut wrong = None;
    for candidate in candidates {
        match columns(candidate, overrides, logical, wanted.clone()) {
            Ok(columns) => fitting.push((candidate.clone(), columns)),
            Err(error) => wrong = wrong.or(Some(error)),
        }
    }
    if fitting.len() > 1 {
        let whole: Vec<Found> = fitting
            .iter()
            .filter(|(table, _)| is_whole(table, logical))
            .cloned()
            .collect();
        if whole.len() == 1 {
            fitting = whole;
        }
    }
    match (fitting.len(), wrong) {
        // An unclear column in the only candidate, or a missing one, is the news; with another candidate that fits it is not.
        (0, Some(error)) => Err(error),
        (0, None) => Err(SchemaError::NoTable {
            logical,
            looked_for: match named {
                Some(name) => format!("`{name}`"),
                None => format!("`{logical}`, `{logical}s`"),
            },
        }),
        (1, _) => fitting.pop().ok_or(SchemaError::NoTable {
            logical,
            looked_for: String::new(),
        }),
        _ => Err(SchemaError::WhichTable {
            logical,
            candidates: list(fitting.iter().map(|(table, _)| table.name.as_str())),
        }),
    }
}

/// Whether a table has every column the framework always makes.
fn is_whole(table: &Table, logical: &str) -> bool {
    let always = ALWAYS.iter().find(|(of, _)| *of == logical);
    always.is_some_and(|(_, columns)| {
        columns.iter().all(|wanted| {
            table
                .columns
                .iter()
                .any(|column| fold(&column.name) == *wanted)
        })
    })
}

/// Tables or columns of this very name; if none, of this name in other capitals, which SQLite and MySQL hold to be the same.
fn exactly<'c, T>(items: &'c [T], name: &str, of: fn(&T) -> &String) -> Vec<&'c T> {
    let same: Vec<&T> = items.iter().filter(|item| of(item) == name).collect();
    if same.is_empty() {
        let alike = items
            .iter()
            .filter(|item| of(item).eq_ignore_ascii_case(name));
        return alike.collect();
    }
    same
}

fn columns(
    table: &Table,
    overrides: &SchemaOverrides,
    logical_table: &str,
    wanted: impl Iterator<Item = &'static Field>,
) -> Result<Vec<(&'static str, Column)>, SchemaError> {
    sane(&table.name)?;
    table.schema.as_deref().map_or(Ok(""), sane)?;
    let mut found = Vec::new();
    for field in wanted {
        let Some((of, logical)) = field.logical.split_once('.') else {
            continue;
        };
        if of != logical_table {
            continue;
        }
        let named = overrides.columns.get(field.logical);
        let candidates: Vec<&Column> = match named {
            Some(name) => exactly(&table.columns, name, |column| &column.name),
            None => {
                let wanted = fold(logical);
                let fits = |column: &&Column| fold(&column.name) == wanted;
                table.columns.iter().filter(fits).collect()
            }
        };
        match candidates.as_slice() {
            [one] => {
                sane(&one.name)?;
                found.push((field.logical, (*one).clone()));
            }
            [] if field.required || named.is_some() => {
                return Err(SchemaError::NoColumn {
                    table: table.name.clone(),
                    logical: field.logical,
                    looked_for: match named {
                        Some(name) => format!("`{name}`"),
                        None => list([logical, &snake(logical)].into_iter()),
                    },
                });
            }
            [] => {}
            several => {
                return Err(SchemaError::WhichColumn {
                    table: table.name.clone(),
                    logical: field.logical,
                    candidates: list(several.iter().map(|column| column.name.as_str())),
                });
            }
        }
    }
    Ok(found)
}

/// Names for a message, each once, in backticks.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    quoted.dedup();
    quoted.join(" and ")
}

fn snake(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// What differs between the databases' SQL.
pub(super) struct Dialect {
    /// Around names.
    pub(super) quote: char,
    /// The first parameter.
    pub(super) parameter: &'static str,
    /// An expression of this column type, as text.
    pub(super) text: fn(expression: &str, kind: &str) -> String,
    /// Whether columns of these two types can be compared as they are.
    pub(super) comparable: fn(left: &str, right: &str) -> bool,
    /// Whether a quoted number is a number to a column of numbers.
    pub(super) quotes_numbers: bool,
}

impl Dialect {
    /// A name, quoted.
    pub(super) fn name(&self, name: &str) -> String {
        let quote = self.quote;
        format!("{quote}{name}{quote}")
    }

    /// A table with its schema, quoted.
    pub(super) fn table(&self, table: &Table) -> String {
        match &table.schema {
            Some(schema) => format!("{}.{}", self.name(schema), self.name(&table.name)),
            None => self.name(&table.name),
        }
    }

    /// `left = right`, as text when their types do not compare. The usual, equal types keep their indexes.
    pub(super) fn equal(&self, (left, a): (&str, &Column), (right, b): (&str, &Column)) -> String {
        if (self.comparable)(&a.kind, &b.kind) {
            return format!("{left} = {right}");
        }
        let (left, right) = ((self.text)(left, &a.kind), (self.text)(right, &b.kind));
        format!("{left} = {right}")
    }

    /// One query per lookup: the session with its user, and the user's role in the active organization.
    ///
    /// A session without a user gives no row. The role is a subquery, so that a user who is a member twice is still one row.
    pub(super) fn lookup(&self, layout: &Layout) -> String {
        let at = |alias: &str, logical: &str| {
            let column = layout.column(logical)?;
            Some((format!("{alias}.{}", self.name(&column.name)), column))
        };
        let mut selected: Vec<String> = Vec::with_capacity(FIELDS.len());
        for field in FIELDS {
            let expression = match field.logical.split_once('.') {
                Some(("session", _)) => at("s", field.logical),
                Some(("user", _)) => at("u", field.logical),
                _ => None,
            };
            selected.push(match expression {
                Some((expression, column)) => (self.text)(&expression, &column.kind),
                None if field.logical == "member.role" => self.member_role(layout, at),
                None => "NULL".to_owned(),
            });
        }
        selected.extend(layout.document.iter().map(|field| {
            let alias = if field.of_session { "s" } else { "u" };
            let expression = format!("{alias}.{}", self.name(&field.column.name));
            (self.text)(&expression, &field.column.kind)
        }));
        let mut sql = format!("SELECT {}", selected.join(", "));
        let _ = write!(
            sql,
            " FROM {} s JOIN {} u",
            self.table(&layout.session),
            self.table(&layout.user)
        );
        // `detect` found the required columns, so these are always there.
        if let (Some((of, a)), Some((id, b)), Some((token, _))) = (
            at("s", "session.userId"),
            at("u", "user.id"),
            at("s", "session.token"),
        ) {
            let same = self.equal((&of, a), (&id, b));
            let _ = write!(
                sql,
                " ON {same} WHERE {token} = {} LIMIT {MATCHES_MAX}",
                self.parameter
            );
        }
        sql
    }

    /// The parameter at this place, counted from one.
    pub(super) fn parameter_at(&self, place: usize) -> String {
        match self.parameter.strip_suffix('1') {
            Some(mark) => format!("{mark}{place}"),
            None => self.parameter.to_owned(),
        }
    }

    fn member_role<'l>(
        &self,
        layout: &Layout,
        at: impl Fn(&str, &str) -> Option<(String, &'l Column)>,
    ) -> String {
        let role = || {
            let member = layout.member.as_ref()?;
            let (role, kind) = at("m", "member.role")?;
            let (member_of, a) = at("m", "member.organizationId")?;
            let (active, b) = at("s", "session.activeOrganizationId")?;
            let (member_user, c) = at("m", "member.userId")?;
            let (session_user, d) = at("s", "session.userId")?;
            Some(format!(
                "(SELECT {} FROM {} m WHERE {} AND {} LIMIT 1)",
                (self.text)(&role, &kind.kind),
                self.table(member),
                self.equal((&member_of, a), (&active, b)),
                self.equal((&member_user, c), (&session_user, d)),
            ))
        };
        role().unwrap_or_else(|| "NULL".to_owned())
    }

    /// Every membership of one user: user, organization and role.
    pub(super) fn membership(&self, table: &Table, columns: &[(&'static str, Column)]) -> String {
        let of = |logical: &str| columns.iter().find(|(name, _)| *name == logical);
        let text = |logical: &str| {
            of(logical).map_or_else(
                || "NULL".to_owned(),
                |(_, column)| (self.text)(&self.name(&column.name), &column.kind),
            )
        };
        let [user, organization, role] = MEMBERSHIP;
        // A text is compared as it is, so that an index serves.
        let compared = match of(user) {
            Some((_, column)) if (self.comparable)("text", &column.kind) => self.name(&column.name),
            _ => text(user),
        };
        format!(
            "SELECT {}, {}, {} FROM {} WHERE {compared} = {} LIMIT {MEMBERSHIPS_MAX}",
            text(user),
            text(organization),
            text(role),
            self.table(table),
            self.parameter
        )
    }

    /// The stored keys, newest first.
    pub(super) fn keys(&self, (table, columns): &Found) -> String {
        let stored = |logical: &str| {
            let mut columns = columns.iter();
            columns.find(|(name, _)| *name == logical)
        };
        let selected: Vec<String> = KEY_FIELDS
            .iter()
            .map(|field| match stored(field.logical) {
                Some((_, column)) => (self.text)(&self.name(&column.name), &column.kind),
                None => "NULL".to_owned(),
            })
            .collect();
        let mut sql = format!("SELECT {} FROM {}", selected.join(", "), self.table(table));
        // `detect_keys` found it.
        if let Some((_, created)) = stored("jwks.createdAt") {
            let _ = write!(sql, " ORDER BY {} DESC", self.name(&created.name));
        }
        let _ = write!(sql, " LIMIT {KEYS_MAX}");
        sql
    }

    /// One stored expiry, to tell how dates are written.
    pub(super) fn sample(&self, layout: &Layout) -> Option<String> {
        let expiry = layout.column("session.expiresAt")?;
        Some(format!(
            "SELECT {} FROM {} s LIMIT 1",
            (self.text)(&format!("s.{}", self.name(&expiry.name)), &expiry.kind),
            self.table(&layout.session)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECT: Dialect = Dialect {
        quote: '"',
        parameter: "?",
        text: |expression, _| format!("text({expression})"),
        comparable: |a, b| a == b,
        quotes_numbers: true,
    };

    fn made(name: &str, columns: &str) -> Table {
        let columns = columns.split_whitespace().map(|column| {
            let (name, kind) = column.split_once(':').unwrap_or((column, "text"));
            Column {
                name: name.into(),
                kind: kind.into(),
                indexed: false,
            }
        });
        Table {
            schema: None,
            name: name.into(),
            columns: columns.collect(),
        }
    }

    fn session(name: &str) -> Table {
        made(name, "id token userId expiresAt")
    }

    fn user(name: &str) -> Table {
        made(name, "id email")
    }

    fn none() -> SchemaOverrides {
        SchemaOverrides::default()
    }

    #[test]
    fn every_mix_of_plural_and_snake_case_is_found() {
        for sessions in ["session", "sessions", "Session", "SESSIONS"] {
            for columns in [
                "id token userId expiresAt",
                "id token user_id expires_at",
                "ID TOKEN user_id expiresAt",
            ] {
                for users in ["user", "users", "User"] {
                    let layout =
                        detect(&[made(sessions, columns), user(users)], &none(), None).unwrap();
                    assert_eq!(layout.session.name, sessions);
                    assert_eq!(layout.user.name, users);
                }
            }
        }
    }

    #[test]
    fn of_two_tables_the_one_that_fits_is_taken_and_two_that_fit_are_asked_about() {
        let other = made("sessions", "id sessionToken expires");
        let layout = detect(&[session("session"), other, user("user")], &none(), None).unwrap();
        assert_eq!(layout.session.name, "session");

        let both = [session("session"), session("sessions"), user("user")];
        let error = detect(&both, &none(), None).unwrap_err();
        assert!(matches!(
            error,
            SchemaError::WhichTable {
                logical: "session",
                ..
            }
        ));

        let mut said = none();
        said.tables.insert("session".into(), "sessions".into());
        assert_eq!(detect(&both, &said, None).unwrap().session.name, "sessions");
    }

    #[test]
    fn a_table_of_the_apps_own_beside_the_frameworks_is_not_taken_for_it() {
        let own = made("users", "id email name password");
        let whole = "id name email emailVerified createdAt updatedAt";
        let both = [session("session"), made("user", whole), own.clone()];
        assert_eq!(detect(&both, &none(), None).unwrap().user.name, "user");
        let both = [
            session("session"),
            own,
            made("Users", whole),
            made("user", whole),
        ];
        let error = detect(&both, &none(), None).unwrap_err();
        assert!(matches!(
            error,
            SchemaError::WhichTable {
                logical: "user",
                ..
            }
        ));
    }

    #[test]
    fn of_two_columns_none_is_guessed() {
        let both = [
            made("session", "id token userId user_id expiresAt"),
            user("user"),
        ];
        let error = detect(&both, &none(), None).unwrap_err();
        assert!(matches!(
            error,
            SchemaError::WhichColumn {
                logical: "session.userId",
                ..
            }
        ));

        let mut said = none();
        said.columns
            .insert("session.userId".into(), "user_id".into());
        let layout = detect(&both, &said, None).unwrap();
        assert_eq!(layout.column("session.userId").unwrap().name, "user_id");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = detect(&[user("user")], &none(), None).unwrap_err();
        assert!(
            error.to_string().contains("`session`, `sessions`"),
            "{error}"
        );
        let error = detect(
            &[made("session", "id token expiresAt"), user("user")],
            &none(),
            None,
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("`session.userId`") && error.contains("`user_id`"),
            "{error}"
        );
        let mut said = none();
        said.columns.insert("user.role".into(), "rank".into());
        let error = detect(&[session("session"), user("user")], &said, None).unwrap_err();
        assert!(error.to_string().contains("`rank`"), "{error}");
    }

    #[test]
    fn overrides_are_checked_before_they_reach_sql() {
        let mut said = none();
        said.tables.insert("sessions".into(), "s".into());
        assert!(matches!(
            check(&said, None, true, "x"),
            Err(SchemaError::UnknownKey { .. })
        ));
        let mut said = none();
        said.columns.insert("session.user".into(), "s".into());
        assert!(matches!(
            check(&said, None, true, "x"),
            Err(SchemaError::UnknownKey { .. })
        ));
        for name in ["a\"b", "a b", "", "a;b", "a`b", "é", "a'b"] {
            let mut said = none();
            said.tables.insert("session".into(), name.into());
            assert!(
                matches!(
                    check(&said, None, true, "x"),
                    Err(SchemaError::BadName { .. })
                ),
                "{name}"
            );
        }
        let mut said = none();
        said.schema = Some("auth".into());
        assert_eq!(check(&said, None, true, "x"), Ok(()));
        assert!(matches!(
            check(&said, None, false, "x"),
            Err(SchemaError::NoSchemas { .. })
        ));
        said.schema = None;
        said.tables
            .insert("session".into(), "auth_session-1$".into());
        said.columns.insert("member.userId".into(), "uid".into());
        assert_eq!(check(&said, None, false, "x"), Ok(()));
    }

    #[test]
    fn the_lookup_selects_only_what_exists_and_always_in_one_shape() {
        let plain = detect(&[session("session"), user("users")], &none(), None).unwrap();
        let sql = DIALECT.lookup(&plain);
        assert_eq!(sql.matches("NULL").count(), 11, "{sql}");
        assert!(sql.ends_with(r#" FROM "session" s JOIN "users" u ON s."userId" = u."id" WHERE s."token" = ? LIMIT 8"#), "{sql}");

        let organization = [
            made(
                "session",
                "id token user_id:uuid expires_at active_organization_id",
            ),
            made("user", "id:uuid email role banned"),
            made("members", "organization_id:uuid user_id:uuid role"),
        ];
        let sql = DIALECT.lookup(&detect(&organization, &none(), None).unwrap());
        assert!(sql.contains(r#"(SELECT text(m."role") FROM "members" m WHERE text(m."organization_id") = text(s."active_organization_id") AND m."user_id" = s."user_id" LIMIT 1)"#), "{sql}");
        assert!(sql.contains(r#"text(u."banned")"#), "{sql}");
    }

    #[test]
    fn a_member_table_counts_only_with_an_active_organization() {
        let member = made("member", "organizationId userId role");
        let without = [session("session"), user("user"), member.clone()];
        assert_eq!(detect(&without, &none(), None).unwrap().member, None);
        let with = [
            made("session", "id token userId expiresAt activeOrganizationId"),
            user("user"),
            member.clone(),
        ];
        assert_eq!(detect(&with, &none(), None).unwrap().member, Some(member));
        let half = [
            with[0].clone(),
            user("user"),
            made("member", "id userId role"),
        ];
        assert_eq!(detect(&half, &none(), None).unwrap().member, None);
    }
}
