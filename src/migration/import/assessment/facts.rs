//! What is true of each old system, whoever its users are: one entry a system.
//!
//! What becomes of passwords and sessions is the table of the migration's own mechanisms: hashes that are checked here, live checks, and
//! sessions that are taken over. A promise that hangs on a condition names it.

use serde::Serialize;

/// How far something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outlook {
    /// For everybody, under the condition told.
    Kept,
    /// For some; how many cannot be seen in an export.
    Partly,
    /// For nobody.
    Lost,
}

/// One line of the table `[migration.from.NAME]` of the draft.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The key.
    pub key: &'static str,
    /// Its value, as TOML.
    pub value: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Whether it is written as a comment, to be chosen.
    pub optional: bool,
}

/// What is true of one old system.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Its name, as in `--from`.
    pub name: &'static str,
    /// Its name as people write it.
    pub label: &'static str,
    /// The table of the configuration it is named in; none where the gateway neither asks it nor reads its sessions.
    pub table: Option<&'static str>,
    /// How its passwords come over.
    pub passwords: &'static str,
    /// Whether whoever answers for it says yes to password checks: the live check can be counted on without the operator's word.
    pub live_check: bool,
    /// What becomes of its sessions.
    pub sessions: Outlook,
    /// Under which condition.
    pub sessions_about: &'static str,
    /// Whether a code of a second factor can be checked there, where its secret was not exported.
    pub remote_factor: bool,
    /// Whether it served the pages on which users sign in, which have to be built anew.
    pub hosted_pages: bool,
    /// Whether somebody pays for it by the active user.
    pub paid_by_user: bool,
    /// What a move by the published scripts, or by hand, does to its passwords.
    pub naive: &'static str,
    /// Hours the export takes somebody, and what they do.
    pub export: (u32, &'static str),
    /// The table of the configuration.
    pub draft: &'static [Line],
    /// What only the operator can answer.
    pub questions: &'static [&'static str],
    /// What to say to whoever decides.
    pub remarks: &'static [&'static str],
}

const fn line(key: &'static str, value: &'static str, about: &'static str) -> Line {
    Line {
        key,
        value,
        about,
        optional: false,
    }
}

const fn maybe(key: &'static str, value: &'static str, about: &'static str) -> Line {
    Line {
        optional: true,
        ..line(key, value, about)
    }
}

const FOREIGN: &str =
    "Better Auth checks only hashes of its own form: every other one fails or throws";
const NONE_EXPORTED: &str = "no hashes are exported, so the published guide resets everybody";
const SOCIAL_CLIENTS: &str = "Are the OAuth clients of Google, GitHub and others your own, or shared ones of the vendor? With new clients Apple, Microsoft, Facebook and LinkedIn give other ids.";

/// What is assumed of a system that is not in the table.
const OTHER: Facts = Facts {
    name: "generic",
    label: "your own system",
    table: Some("generic"),
    passwords: "as good as the file: hashes in it are checked here; without them an endpoint of your own can be asked",
    live_check: false,
    sessions: Outlook::Lost,
    sessions_about: "a file holds no sessions; where tokens are OpenID Connect, `[migration.from.oidc]` takes them over",
    remote_factor: false,
    hosted_pages: false,
    paid_by_user: false,
    naive: FOREIGN,
    export: (
        4,
        "write the query that exports users, and the mapping file",
    ),
    draft: &[
        maybe(
            "check_url",
            "\"https://old.example.com/internal/check-password\"",
            "an endpoint of your own that checks a password: docs/migration/providers.md",
        ),
        maybe(
            "token",
            "{ env = \"CHECK_TOKEN\" }",
            "what it is asked with",
        ),
    ],
    questions: &[
        "Does a secret stand beside the hashes: a pepper, a key, a salt column? Without it no password will ever fit.",
        "Which scheme does the app really use? Look at its code, not at the letters of a hash.",
        "Can the old system still check a password during the window?",
    ],
    remarks: &[],
};

/// Every system.
pub static TABLE: &[Facts] = &[
    Facts {
        name: "clerk",
        label: "Clerk",
        table: Some("clerk"),
        passwords: "hashes stand in the dashboard's CSV; whoever is missing there is checked live",
        live_check: true,
        sessions: Outlook::Kept,
        sessions_about: "with the secret key: an expired token and one look-up of its session. Offline, only within 60 seconds",
        remote_factor: true,
        hosted_pages: true,
        paid_by_user: true,
        naive: "the published script writes no passwords at all, so everybody is reset",
        export: (
            1,
            "an admin exports the CSV in the dashboard; fetch the API's pages for dates, metadata and social accounts",
        ),
        draft: &[
            line(
                "secret_key",
                "{ env = \"CLERK_SECRET_KEY\" }",
                "checks passwords and looks users and sessions up",
            ),
            line(
                "publishable_key",
                "\"pk_live_Y2xlcmsuZXhhbXBsZS5jb20k\"",
                "takes sessions over",
            ),
        ],
        questions: &[
            "Are there users on bcrypt with a pepper? The pepper is not in the CSV.",
            SOCIAL_CLIENTS,
            "Which roles and permissions of Clerk does the app ask for? They are mapped by hand.",
        ],
        remarks: &[
            "You own the data, at a flat cost, and run it yourself.",
            "Clerk's hosted components (sign-in, user button, organization switcher) have to be built anew.",
            "Webhooks become database hooks of Better Auth.",
            "Sessions are cookies with a row behind them, and no longer tokens of 60 seconds: where others plan that everybody signs in again, the bridge takes them over.",
        ],
    },
    Facts {
        name: "workos",
        label: "WorkOS",
        table: Some("workos"),
        passwords: "no hashes are exported: whoever signs in while the API lives is checked there once, the dormant rest is reset",
        live_check: true,
        sessions: Outlook::Kept,
        sessions_about: "for apps with the sealed cookie: its password, and the list of sessions. None for apps that keep tokens in the browser",
        remote_factor: true,
        hosted_pages: true,
        paid_by_user: true,
        naive: NONE_EXPORTED,
        export: (
            2,
            "an API key; `import` walks the pages within the rate limit (identities: one request a user)",
        ),
        draft: &[
            line(
                "api_key",
                "{ env = \"WORKOS_API_KEY\" }",
                "checks passwords and looks users up",
            ),
            line("client_id", "\"client_01HXYZ\"", "the app's client"),
            line(
                "cookie_password",
                "{ env = \"WORKOS_COOKIE_PASSWORD\" }",
                "opens sealed cookies, to take sessions over",
            ),
        ],
        questions: &[
            "Does the app seal its session into a cookie (`wos-session`), or keep tokens in the browser?",
            "How long may the API stay up? Every week of it saves resets.",
            "Are there SSO connections or directories? They are set up anew.",
            SOCIAL_CLIENTS,
        ],
        remarks: &[
            "Passwords are asked ten times a minute and address at most; the gateway stops at eight.",
        ],
    },
    OTHER,
    Facts {
        name: "authjs",
        label: "Auth.js",
        table: Some("authjs"),
        passwords: "it has none of its own; those of the app are in a column of its users table, and are checked here",
        live_check: false,
        sessions: Outlook::Kept,
        sessions_about: "with its secret (encrypted cookies), or its sessions table",
        remote_factor: false,
        hosted_pages: false,
        paid_by_user: false,
        naive: FOREIGN,
        export: (2, "a query of the app's own database"),
        draft: &[
            line(
                "secret",
                "{ env = \"OLD_AUTH_SECRET\" }",
                "opens its cookies",
            ),
            line(
                "adapter",
                "true",
                "a token's subject is the user's id in the app's tables",
            ),
            maybe(
                "strategy",
                "\"database\"",
                "where sessions are rows of its table, and not cookies",
            ),
        ],
        questions: &[
            "In which column does the app keep passwords, and of which scheme are they?",
            "Is there a database adapter? Without one, tokens name nobody but an address.",
        ],
        remarks: &[],
    },
    Facts {
        name: "auth0",
        label: "Auth0",
        table: Some("auth0"),
        passwords: "hashes come by a support ticket on paid plans, in days to more than a week; until then, and without it, the live check",
        live_check: true,
        sessions: Outlook::Kept,
        sessions_about: "cookies of the Next.js and Express SDKs, with their secret. Apps in the browser alone: silent login on the same domain",
        remote_factor: true,
        hosted_pages: true,
        paid_by_user: true,
        naive: FOREIGN,
        export: (
            6,
            "the export job, and a support ticket for hashes and second factors with a PGP key of 4096 bits",
        ),
        draft: &[
            line("domain", "\"https://TENANT.eu.auth0.com\"", "the tenant"),
            line(
                "client_id",
                "\"YOUR_CLIENT_ID\"",
                "an application with the grants Password and MFA",
            ),
            line(
                "client_secret",
                "{ env = \"AUTH0_CLIENT_SECRET\" }",
                "its secret",
            ),
            line(
                "secret",
                "{ env = \"AUTH0_SECRET\" }",
                "opens the SDK's cookies, to take sessions over",
            ),
        ],
        questions: &[
            "Which plan is it? The free one gets no hashes.",
            "Has the support ticket for hashes (and second factors) been sent? Nobody promises a date.",
            "Is the same address in several connections one person?",
            SOCIAL_CLIENTS,
        ],
        remarks: &["Actions and rules become hooks of Better Auth."],
    },
    Facts {
        name: "supabase",
        label: "Supabase Auth",
        table: Some("supabase"),
        passwords: "hashes stand in its own PostgreSQL",
        live_check: true,
        sessions: Outlook::Kept,
        sessions_about: "with cookies (@supabase/ssr). Apps that keep tokens in the browser need the one-line snippet",
        remote_factor: false,
        hosted_pages: false,
        paid_by_user: true,
        naive: FOREIGN,
        export: (2, "the database password, and a dump of the schema auth"),
        draft: &[
            line("project_ref", "\"abcdefghijklmnopqrst\"", "the project"),
            line(
                "anon_key",
                "{ env = \"SUPABASE_ANON_KEY\" }",
                "checks passwords of those whose hash is missing",
            ),
            line(
                "service_role_key",
                "{ env = \"SUPABASE_SERVICE_ROLE_KEY\" }",
                "looks users up",
            ),
        ],
        questions: &[
            "Do policies use `auth.uid()`? They need a token that takes its place.",
            "Does the app keep tokens in cookies or in the browser's storage?",
            SOCIAL_CLIENTS,
        ],
        remarks: &[
            "Row level security reads the subject of Supabase's tokens: plan what replaces them.",
        ],
    },
    Facts {
        name: "firebase",
        label: "Firebase Auth",
        table: Some("firebase"),
        passwords: "hashes are exported, and useless without the project's hash parameters",
        live_check: true,
        sessions: Outlook::Partly,
        sessions_about: "apps with session cookies: yes. Apps with the client library alone need the one-line snippet",
        remote_factor: false,
        hosted_pages: false,
        paid_by_user: true,
        naive: FOREIGN,
        export: (
            2,
            "`firebase auth:export`, and the hash parameters of the console",
        ),
        draft: &[
            line("project_id", "\"my-project\"", "takes sessions over"),
            line(
                "api_key",
                "{ env = \"FIREBASE_API_KEY\" }",
                "checks passwords of those whose hash is missing",
            ),
        ],
        questions: &[
            "Are the hash parameters those of this project (and tenant)? Try one hash with a password you know.",
            "Does the app use session cookies, or ID tokens in the browser?",
        ],
        remarks: &["Users whose hash version is not 0 are exported without a hash."],
    },
    Facts {
        name: "cognito",
        label: "Amazon Cognito",
        table: Some("cognito"),
        passwords: "no hashes, ever: whoever signs in while the pool lives is checked there once, the dormant rest is reset",
        live_check: true,
        sessions: Outlook::Partly,
        sessions_about: "cookies of Amplify: yes. Tokens in the browser's storage: by the snippet. Hosted pages: by a redirect",
        remote_factor: true,
        hosted_pages: true,
        paid_by_user: true,
        naive: NONE_EXPORTED,
        export: (2, "`aws cognito-idp list-users`, all pages"),
        draft: &[
            line("user_pool_id", "\"eu-central-1_ABCDEFGHI\"", "the pool"),
            line(
                "client_id",
                "\"YOUR_CLIENT_ID\"",
                "an app client with ALLOW_USER_SRP_AUTH",
            ),
            line(
                "issuer",
                "\"https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_ABCDEFGHI\"",
                "takes sessions over",
            ),
            maybe(
                "client_secret",
                "{ env = \"COGNITO_CLIENT_SECRET\" }",
                "where the client has one",
            ),
        ],
        questions: &[
            "Which flows does the app client allow? Without SRP or USER_PASSWORD_AUTH nobody can be checked.",
            "How long may the pool stay up?",
        ],
        remarks: &["Lambda triggers become hooks of Better Auth."],
    },
    Facts {
        name: "keycloak",
        label: "Keycloak",
        table: Some("keycloak"),
        passwords: "hashes stand in the realm export; users of LDAP are checked live",
        live_check: true,
        sessions: Outlook::Partly,
        sessions_about: "bearer tokens: yes. Browsers: by a redirect with prompt=none",
        remote_factor: false,
        hosted_pages: true,
        paid_by_user: false,
        naive: FOREIGN,
        export: (
            2,
            "`kc.sh export --users different_files`: the admin API has no credentials",
        ),
        draft: &[
            line("url", "\"https://sso.example.com\"", "the server"),
            line("realm", "\"my-realm\"", "the realm"),
            line(
                "client_id",
                "\"vestibule\"",
                "a client with direct access grants",
            ),
            line(
                "issuer",
                "\"https://sso.example.com/realms/my-realm\"",
                "takes sessions over",
            ),
            maybe(
                "client_secret",
                "{ env = \"KEYCLOAK_CLIENT_SECRET\" }",
                "where the client has one",
            ),
        ],
        questions: &[
            "Is there user federation (LDAP)? Those users have no hash here, and are asked live.",
        ],
        remarks: &["Keys of second factors are text and become Better Auth's own."],
    },
    Facts {
        name: "kratos",
        label: "Ory Kratos",
        table: Some("kratos"),
        passwords: "hashes come with the admin API when asked for, or stand in its database",
        live_check: true,
        sessions: Outlook::Kept,
        sessions_about: "each is asked for at Kratos while it lives",
        remote_factor: false,
        hosted_pages: true,
        paid_by_user: false,
        naive: FOREIGN,
        export: (
            3,
            "the admin API with include_credential, all pages; find where the address is among the traits",
        ),
        draft: &[
            line(
                "public_url",
                "\"https://kratos.example.com\"",
                "checks passwords, takes sessions over",
            ),
            maybe(
                "admin_url",
                "\"http://kratos.internal:4434\"",
                "looks users up",
            ),
        ],
        questions: &[
            "Are secrets of second factors enciphered in the database? Then the cipher secret is needed.",
        ],
        remarks: &[],
    },
    Facts {
        name: "django",
        label: "Django",
        table: Some("django"),
        passwords: "hashes stand in its own database",
        live_check: false,
        sessions: Outlook::Kept,
        sessions_about: "with SECRET_KEY and the session table",
        remote_factor: false,
        hosted_pages: false,
        paid_by_user: false,
        naive: FOREIGN,
        export: (1, "`manage.py dumpdata auth.user`"),
        draft: &[line(
            "secret_key",
            "{ env = \"DJANGO_SECRET_KEY\" }",
            "reads its sessions",
        )],
        questions: &["Is django-allauth there? It alone knows which addresses are verified."],
        remarks: &[],
    },
    Facts {
        name: "wordpress",
        label: "WordPress",
        table: Some("wordpress"),
        passwords: "hashes stand in its own database",
        live_check: false,
        sessions: Outlook::Kept,
        sessions_about: "with LOGGED_IN_KEY, LOGGED_IN_SALT and the tables of users",
        remote_factor: false,
        hosted_pages: false,
        paid_by_user: false,
        naive: FOREIGN,
        export: (1, "a query of wp_users and wp_usermeta"),
        draft: &[
            line(
                "logged_in_key",
                "{ env = \"WORDPRESS_LOGGED_IN_KEY\" }",
                "of wp-config.php",
            ),
            line(
                "logged_in_salt",
                "{ env = \"WORDPRESS_LOGGED_IN_SALT\" }",
                "of wp-config.php",
            ),
            line(
                "site_url",
                "\"https://blog.example.com\"",
                "names the cookie",
            ),
        ],
        questions: &[
            "WordPress verifies no addresses: may they count as verified, or is a mail due?",
        ],
        remarks: &[],
    },
    Facts {
        name: "supertokens",
        label: "SuperTokens",
        table: Some("supertokens"),
        passwords: "hashes stand in its database",
        live_check: true,
        sessions: Outlook::Kept,
        sessions_about: "its access tokens, with the keys it publishes",
        remote_factor: false,
        hosted_pages: false,
        paid_by_user: true,
        naive: FOREIGN,
        export: (
            3,
            "queries of its tables, the mapping of user ids among them",
        ),
        draft: &[
            line(
                "core_url",
                "\"http://supertokens.internal:3567\"",
                "checks passwords",
            ),
            line(
                "issuer",
                "\"https://api.example.com/auth\"",
                "takes sessions over",
            ),
            maybe(
                "core_api_key",
                "{ env = \"SUPERTOKENS_API_KEY\" }",
                "where it has one",
            ),
        ],
        questions: &["Is there a user id mapping? The app knows the external ids."],
        remarks: &[],
    },
    Facts {
        name: "stytch",
        label: "Stytch",
        table: Some("stytch"),
        passwords: "hashes come by a support request; until then, and without it, the live check",
        live_check: true,
        sessions: Outlook::Kept,
        sessions_about: "while its API lives",
        remote_factor: false,
        hosted_pages: true,
        paid_by_user: true,
        naive: NONE_EXPORTED,
        export: (4, "the search API, and a support request for hashes"),
        draft: &[
            line(
                "project_id",
                "\"project-live-00000000-0000-0000-0000-000000000000\"",
                "the project",
            ),
            line("secret", "{ env = \"STYTCH_SECRET\" }", "checks passwords"),
        ],
        questions: &["Has the support request for hashes been sent?"],
        remarks: &[],
    },
    Facts {
        name: "descope",
        label: "Descope",
        table: Some("descope"),
        passwords: "hashes come by a support request; until then, and without it, the live check",
        live_check: true,
        sessions: Outlook::Kept,
        sessions_about: "while its API lives",
        remote_factor: false,
        hosted_pages: true,
        paid_by_user: true,
        naive: NONE_EXPORTED,
        export: (
            4,
            "the search API, and a support request for hashes: ask which scheme they are of",
        ),
        draft: &[
            line(
                "project_id",
                "\"P2abcdefghijklmnopqrstuvwxyz\"",
                "the project",
            ),
            maybe(
                "management_key",
                "{ env = \"DESCOPE_MANAGEMENT_KEY\" }",
                "looks users up",
            ),
        ],
        questions: &["Has the support request for hashes been sent, and do you know their scheme?"],
        remarks: &[],
    },
    Facts {
        name: "lucia",
        label: "Lucia",
        table: Some("lucia"),
        passwords: "Lucia's own hashes are Better Auth's own: they are copied",
        live_check: false,
        sessions: Outlook::Kept,
        sessions_about: "the same table",
        remote_factor: false,
        hosted_pages: false,
        paid_by_user: false,
        naive: "Oslo's hashes work as they are; any other fails or throws",
        export: (2, "a query of the app's own database"),
        draft: &[line(
            "version",
            "\"3\"",
            "which columns its sessions table has",
        )],
        questions: &["Which hash does the app use: Oslo's scrypt, bcrypt or argon2?"],
        remarks: &[],
    },
    Facts {
        name: "devise",
        label: "Rails with Devise",
        table: Some("rails"),
        passwords: "hashes stand in its own database; with a pepper, that too is needed",
        live_check: false,
        sessions: Outlook::Kept,
        sessions_about: "with secret_key_base",
        remote_factor: false,
        hosted_pages: false,
        paid_by_user: false,
        naive: FOREIGN,
        export: (1, "a query of its users table"),
        draft: &[
            line(
                "secret_key_base",
                "{ env = \"SECRET_KEY_BASE\" }",
                "reads its sessions",
            ),
            line("cookie_name", "\"_app_session\"", "its session cookie"),
        ],
        questions: &["Is `config.pepper` set? Without it no password will ever fit."],
        remarks: &[],
    },
    Facts {
        name: "laravel",
        label: "Laravel",
        table: Some("laravel"),
        passwords: "hashes stand in its own database",
        live_check: false,
        sessions: Outlook::Kept,
        sessions_about: "with APP_KEY and its store of sessions",
        remote_factor: false,
        hosted_pages: false,
        paid_by_user: false,
        naive: FOREIGN,
        export: (1, "a query of its users table; second factors need APP_KEY"),
        draft: &[line(
            "app_key",
            "{ env = \"LARAVEL_APP_KEY\" }",
            "reads its sessions",
        )],
        questions: &[
            "Where are sessions: in the database, Redis, or files? Those in files cannot be taken over.",
        ],
        remarks: &[],
    },
    Facts {
        name: "aspnet",
        label: "ASP.NET Identity",
        table: None,
        passwords: "hashes stand in its own database",
        live_check: false,
        sessions: Outlook::Lost,
        sessions_about: "its cookies are under a data-protection key ring, which is not read",
        remote_factor: false,
        hosted_pages: false,
        paid_by_user: false,
        naive: FOREIGN,
        export: (
            1,
            "queries of AspNetUsers, AspNetUserLogins, AspNetUserTokens and AspNetUserRoles",
        ),
        draft: &[],
        questions: &["Is there a custom password hasher?"],
        remarks: &[],
    },
];

/// Other names of the same.
const ALIASES: &[(&str, &str)] = &[("rails", "devise"), ("nextauth", "authjs")];

/// What is true of this system; of one that is not in the table, what is true of any file.
pub fn of(name: &str) -> &'static Facts {
    let named = |name: &str| TABLE.iter().find(|facts| facts.name == name);
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    named(name)
        .or_else(|| alias.and_then(|(_, name)| named(name)))
        .unwrap_or(&OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::provider::{self, KeyKind};

    #[test]
    fn what_is_promised_of_a_system_the_gateway_can_do() {
        for facts in TABLE {
            let Some(table) = facts.table else {
                assert!(
                    !facts.live_check && facts.sessions == Outlook::Lost && facts.draft.is_empty()
                );
                continue;
            };
            let kind = provider::KINDS.iter().find(|kind| kind.name == table);
            let kind = kind.unwrap_or_else(|| panic!("{table} is no table of [migration.from]"));
            assert!(
                !facts.live_check || kind.build.check.is_some(),
                "{table}: live check"
            );
            let read = kind.build.sessions.is_some();
            assert!(facts.sessions == Outlook::Lost || read, "{table}: sessions");
            for line in facts.draft {
                let mut known = kind.build.keys.iter().flat_map(|keys| keys.iter());
                let key = known.find(|key| key.name == line.key);
                let key = key.unwrap_or_else(|| panic!("{table}.{} is no key", line.key));
                let secret = matches!(key.kind, KeyKind::Secret | KeyKind::Secrets);
                assert!(
                    secret || !line.value.starts_with('{'),
                    "{table}.{} takes no variable",
                    line.key
                );
            }
        }
    }

    #[test]
    fn names_are_unique_and_others_fall_back() {
        let mut names: Vec<&str> = TABLE.iter().map(|facts| facts.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(of("rails").name, "devise");
        assert_eq!(of("something").name, "generic");
    }
}
