//! What may stand in the configuration file: every table and key, with the words editors show for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::node::{Node, Value};
use super::problem::Fault;
use super::read::{
    Found, Named, PagePath, Read, Reader, SecretText, Size, SizeLimit, closest, short, words,
};
use crate::kind::{self, Kind};
use crate::migration::provider::{self, Field, KeyKind};
use crate::secret::Secret;
use crate::time::UnixMs;

/// Declares a table once: its keys, how it is read, what is unknown in it, and its JSON Schema. One list, so that none of the
/// four can fall behind.
macro_rules! tables {
    ($( $(#[doc = $about:literal])* $Name:ident { $( $(#[doc = $doc:literal])* $key:ident: $T:ty, )* } )*) => { $(
        $(#[doc = $about])*
        #[derive(Debug, Default)]
        pub(super) struct $Name { $( $(#[doc = $doc])* pub(super) $key: Option<Found<$T>>, )* }

        impl $Name {
            /// The keys that may stand in it.
            pub(super) const KEYS: &'static [&'static str] = &[ $( bare(stringify!($key)) ),* ];
        }

        impl Read for $Name {
            fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
                let mut out = Self::default();
                for entry in reader.table(node)? {
                    let key = entry.key.as_str();
                    $( if key == bare(stringify!($key)) { out.$key = reader.field(entry); continue; } )*
                    reader.unknown(entry, Self::KEYS);
                }
                Some(out)
            }
            fn schema(generator: &mut SchemaGenerator) -> Schema {
                generator.subschema_for::<Self>()
            }
        }

        impl JsonSchema for $Name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Name).into()
            }
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let mut properties = serde_json::Map::new();
                $(
                    let mut one = <$T as Read>::schema(generator);
                    one.insert("description".into(), concat!($($doc, "\n"),*).trim().replace("\n ", "\n").into());
                    properties.insert(bare(stringify!($key)).into(), one.to_value());
                )*
                json_schema!({
                    "type": "object",
                    "description": concat!($($about, "\n"),*).trim(),
                    "properties": properties,
                    "additionalProperties": false,
                })
            }
        }
    )* };
}

/// The name of a key whose Rust name had to be escaped.
const fn bare(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

tables! {
    /// The configuration of Vestibule.
    File {
        /// Address and port of the public listener, or a list of them. Default: `127.0.0.1:8080`.
        listen: Vec<Found<SocketAddr>>,
        /// Address and port of the admin listener (health, metrics), or `off`. Default: `127.0.0.1:8081`.
        admin: AdminAddress,
        /// Bearer token the admin listener asks for.
        admin_token: SecretText,
        /// Scheme, host and port as browsers see them. Default: the origin of `better_auth.base_url`, else on loopback `http://localhost` with the port of `listen`.
        public_url: String,
        /// Hosts that are answered; any other is refused with 421. `*.example.com` matches every name below. Default: the host of `public_url`.
        hosts: Vec<Found<String>>,
        /// Addresses or networks of proxies whose `X-Forwarded-*` headers count. Default: nobody's.
        trusted_proxies: Vec<Found<IpNet>>,
        /// Threads of the proxy, or `auto`: as many as there are cores.
        threads: Threads,
        /// Certificate and key of the public listener. With them it speaks TLS and HTTP/2.
        tls: Tls,
        /// The app.
        upstream: Upstream,
        /// Other apps, by name, for `upstream = "NAME"` in a route.
        upstreams: Named<Upstream>,
        /// What the app's Better Auth is configured to.
        better_auth: BetterAuth,
        /// Where sessions are looked up, and how long they are remembered.
        sessions: Sessions,
        /// How gateways hear of sessions that end elsewhere.
        revocation: Revocation,
        /// The parts of `next.config` that change what a path means.
        nextjs: NextJs,
        /// What holds for every route.
        routes: Routes,
        /// One rule for some paths.
        route: Vec<Found<Route>>,
        /// How the app is told who is calling.
        identity: Identity,
        /// Cross-origin reading of answers the gateway makes itself.
        cors: Cors,
        /// Upper bounds of what a client may send.
        limits: Limits,
        /// How long the gateway waits.
        timeouts: Timeouts,
        /// How users are moved in from an old auth system.
        migration: Migration,
        /// What is logged, and how.
        log: Log,
    }

    /// How users are moved in from an old auth system.
    Migration {
        /// The app's database, with a role that may write. Default: `sessions.source`, or `sessions.database` beside a Redis.
        database: SecretText,
        /// What old hashes and second factors are encrypted under: 32 letters or more, kept until `finalize`. Not the app's secret.
        key: SecretText,
        /// When the migration begins, as `2026-12-01` or `2026-12-01T08:00:00Z`. Default: at once.
        opens: Day,
        /// When it ends. Default: never.
        closes: Day,
        /// Accounts made before this day are in the old system; stands in the message people see. Default: the day of `opens`.
        before: Day,
        /// Mechanisms that are switched off: `hash`, `jit`, `reset`, `second_factor`, `sign_up`, `bridge`. Default: none.
        disable: Vec<Found<String>>,
        /// Whether everything is looked at and reported, and nothing changed. Default: `false`.
        shadow: bool,
        /// Who takes part, in per cent of the addresses. Default: everybody.
        percent: u64,
        /// Addresses that take part whatever the per cent, as `*@example.com`. Alone, without `percent`, only they do.
        addresses: Vec<Found<String>>,
        /// The old systems, by their names.
        from: Named<OldSystem>,
        /// Old hashes, and what checking them may cost.
        passwords: MigrationPasswords,
        /// What a failed sign-in looks like, and how often one may be tried.
        sign_in: MigrationSignIn,
        /// How often sign-ins may fail: so many at once, then one each `…_within` divided by that.
        limits: MigrationLimits,
        /// How the app's two-factor plugin is configured.
        second_factor: MigrationSecondFactor,
        /// Reset mails for those whose password nobody can check.
        reset: MigrationReset,
        /// New accounts during the migration.
        sign_up: MigrationSignUp,
        /// Sessions of the old system that are still alive.
        bridge: MigrationBridge,
    }

    /// Old hashes, and what checking them may cost.
    MigrationPasswords {
        /// Schemes of hashes that sit in `account.password` itself, as some published guides put them there: `bcrypt`, `argon2` ... Default: none.
        in_account: Vec<Found<String>>,
        /// Threads that check and make hashes. Default: as many as there are cores, less one.
        threads: u64,
        /// Sign-ins that may wait for them at most; more are answered with 503. Default: 64.
        queue: u64,
    }

    /// What a failed sign-in looks like, and how often one may be tried.
    MigrationSignIn {
        /// `uniform`: every failed sign-in is the same, whatever the address. `explicit`: the answer names the reason by a code. Default: `uniform`.
        failures: FailuresWord,
        /// How long a failed sign-in takes at least, so that its time tells nothing. Default: `1s`.
        hold: Duration,
    }

    /// How often sign-ins may fail: so many at once, then one each `…_within` divided by that.
    MigrationLimits {
        /// Of one client address (IPv6: one /64). Default: 60.
        address: u64,
        /// Default: `15m`.
        address_within: Duration,
        /// Of one account, from wherever, known devices aside. Default: 30.
        account: u64,
        /// Default: `1h`.
        account_within: Duration,
        /// Of one account from one address. Default: 5.
        pair: u64,
        /// Default: `5m`.
        pair_within: Duration,
        /// Of one account from a device that signed in to it before, which has this budget and no other. Default: 10.
        device: u64,
        /// Default: `15m`.
        device_within: Duration,
        /// How long a device is known after its last sign-in. Default: `90d`.
        device_lifetime: Duration,
        /// A Redis in which gateways count together, as `redis://HOST/NUMBER`. Default: each counts for itself.
        redis: SecretText,
    }

    /// How the app's two-factor plugin is configured.
    MigrationSecondFactor {
        /// `totpOptions.digits`: 6 or 8. Default: 6.
        digits: u64,
        /// `totpOptions.period`. Default: `30s`.
        period: Duration,
        /// `backupCodeOptions.storeBackupCodes`: `encrypted` or `plain`. Default: `encrypted`.
        store_backup_codes: String,
    }

    /// Reset mails for those whose password nobody can check.
    MigrationReset {
        /// Where the link leads: `redirectTo` of Better Auth's `request-password-reset`. Without it no mails are sent.
        redirect_to: String,
        /// Mails an hour at most, to everybody together. Default: 1000.
        per_hour: u64,
    }

    /// New accounts during the migration.
    MigrationSignUp {
        /// `open`, `freeze`, `trickle` or `dual_write`. Default: `open`.
        mode: SignUpWord,
        /// With `freeze`: when accounts can be made again, as `2026-12-01`. Stands in the answer. Default: not said.
        until: Day,
    }

    /// Sessions of the old system that are still alive.
    MigrationBridge {
        /// When taking over begins. Default: `migration.opens`.
        opens: Day,
        /// When it ends. Default: `migration.closes`.
        closes: Day,
        /// How long a session that was taken over lives at most. Default: `better_auth.expires_in`.
        lifetime: Duration,
        /// Whether anonymous sessions are taken over: the app has the anonymous plugin. Default: `false`.
        anonymous: bool,
        /// Whether sessions in which somebody acts for somebody else are taken over, for an hour and with `impersonatedBy`. Default: `false`.
        impersonated: bool,
        /// The database of the old systems, for sessions that are rows there. Default: `migration.database`.
        database: SecretText,
        /// The Redis of the old systems, for sessions that are values there. Default: none.
        redis: SecretText,
    }

    /// Certificate and key.
    Tls {
        /// PEM file with the certificate chain.
        cert: PathBuf,
        /// PEM file with the private key.
        key: PathBuf,
    }

    /// An app server.
    Upstream {
        /// `http://host:port` or `https://host:port`, without a path.
        url: String,
        /// Several addresses of the same app, in place of `url`.
        urls: Vec<Found<String>>,
        /// How addresses are checked; only used with several.
        health: Health,
        /// Longest wait for a connection. Default: `2s`.
        connect_timeout: Duration,
        /// Longest wait for the first byte of the answer, and between two reads of it (event streams and WebSockets excepted). Default: `60s`.
        first_byte_timeout: Duration,
        /// Longest wait for one write. Default: `30s`.
        write_timeout: Duration,
        /// How long an unused connection is kept; keep it below the app's own limit (Node: 5 s). Default: `4s`.
        idle_timeout: Duration,
    }

    /// How the addresses of an upstream are checked.
    Health {
        /// Path asked with GET; 2xx and 3xx are healthy. Default: a TCP connection suffices.
        path: String,
        /// Time between two checks. Default: `5s`.
        interval: Duration,
    }

    /// What the app's Better Auth is configured to.
    BetterAuth {
        /// `basePath`. Default: `/api/auth`.
        base_path: PagePath,
        /// `baseURL`. Default: the variable `BETTER_AUTH_URL`.
        base_url: String,
        /// `baseURL.protocol`, when the base URL is a dynamic one.
        dynamic_protocol: Protocol,
        /// Whether the app runs with `NODE_ENV=production`. Default: the variable `NODE_ENV`, else whether `public_url` is https.
        production: bool,
        /// Name of the upstream that serves the auth endpoints. Default: `app`.
        upstream: String,
        /// `secret`. Default: the variables `BETTER_AUTH_SECRET`, then `AUTH_SECRET`.
        secret: SecretText,
        /// `secrets`, the current one first. Default: the variable `BETTER_AUTH_SECRETS`.
        secrets: Vec<Found<VersionedSecret>>,
        /// Kinds of credentials accepted besides the session cookie. Default: none.
        enable: Vec<Found<String>>,
        /// The API-key plugin, for `enable = ["api_key"]`.
        api_key: ApiKey,
        /// Whether a credential that does not count leaves the word to the next kind. Default: `false`.
        fall_through: bool,
        /// Tokens that turn out to be nobody's, for each client address (IPv6: each /64); more are answered with 429. Default: 600.
        unknown_tokens_per_minute: u64,
        /// The bearer plugin.
        bearer: Bearer,
        /// The JWT plugin, and other issuers of tokens.
        jwt: Jwt,
        /// `advanced.cookiePrefix`. Default: `better-auth`.
        cookie_prefix: String,
        /// `advanced.crossSubDomainCookies.domain`.
        cookie_domain: String,
        /// `advanced.crossSubDomainCookies.enabled`. Default: `false`.
        cross_subdomain: bool,
        /// `advanced.useSecureCookies`. Default: as Better Auth decides, by `base_url` and `production`.
        secure_cookies: bool,
        /// `advanced.cookies.<key>.name`, by key (`session_token`, `session_data`, `dont_remember`, `two_factor`).
        names: Named<String>,
        /// `advanced.defaultCookieAttributes`.
        default_attributes: Attributes,
        /// `advanced.cookies.<key>.attributes`, by key.
        attributes: Named<Attributes>,
        /// `session.expiresIn`. Default: `7d`.
        expires_in: Duration,
        /// `session.updateAge`: how old a session is when the app prolongs it. Default: `1d`.
        update_age: Duration,
        /// `session.cookieCache.maxAge`. Default: `5m`; with `cookie:` as source, `expires_in`.
        cache_max_age: Duration,
        /// Refuse users whose `banned` is set, which Better Auth itself only does at sign-in. Default: `false`.
        enforce_bans: bool,
        /// `session.disableSessionRefresh`: sessions are never extended. Default: `false`.
        disable_session_refresh: bool,
        /// `session.deferSessionRefresh`: the app's pages extend sessions themselves. Default: `false`.
        defer_session_refresh: bool,
        /// `trustedOrigins`: origins and patterns besides that of `base_url` from which people sign in. Default: the variable `BETTER_AUTH_TRUSTED_ORIGINS`, which counts besides.
        trusted_origins: Vec<Found<String>>,
        /// `advanced.disableCSRFCheck`. Default: `false`.
        disable_csrf_check: bool,
        /// `advanced.disableOriginCheck`, which takes the other along unless that is written. Default: `false`.
        disable_origin_check: bool,
        /// `session.cookieCache`: how the app seals sessions into cookies. Read with `enable = ["cookie_cache"]`, and where `sessions.source` is `cookie:`.
        cookie_cache: CookieCache,
    }

    /// `session.cookieCache`: how the app seals sessions into cookies.
    CookieCache {
        /// `strategy`: `compact`, `jwt`, `jwe`, or `jwks` where the JWT plugin signs (`sessionCookieCache`). Default: `compact`; with `cookie:` as source, `jwe`.
        strategy: String,
        /// `version`, when it is text. Default: `1`.
        version: String,
        /// `refreshCache.updateAge`: how long before its end a cookie is written anew. Only with `cookie:` as source. Default: a fifth of `cache_max_age`.
        update_age: Duration,
    }

    /// The API-key plugin with `enableSessionForAPIKeys`.
    ApiKey {
        /// `apiKeyHeaders`: the first header that is not empty holds the key. Default: `x-api-key`.
        headers: Vec<Found<String>>,
        /// `defaultKeyLength`: whatever is shorter is refused without a lookup. Default: 64.
        key_length: u64,
        /// Whether digests of keys are stored (not `disableKeyHashing`). Default: `true`.
        hashing: bool,
        /// `configId` of the configuration whose keys give sessions. Default: `default`.
        config_id: String,
        /// `rateLimit.enabled`. Default: `true`.
        rate_limit: bool,
        /// Who counts the uses of a key: `gateway`, or `app` where it checks the same key again. Default: `gateway`.
        usage: KeyUsage,
        /// Where keys are kept: `database` or `secondary` (`storage` of the plugin). Default: `database`.
        storage: KeyStorage,
    }

    /// The bearer plugin.
    Bearer {
        /// `requireSignature`: a session token without its signature does not count. Default: `false`.
        require_signature: bool,
    }

    /// The JWT plugin, and other issuers of tokens.
    Jwt {
        /// Where its keys are read: published by the `app`, or in its table in the `store`. Default: `app`.
        keys: KeysWord,
        /// `jwks.jwksPath`, below the base path. Default: `/jwks`.
        jwks_path: PagePath,
        /// `jwt.issuer`. Default: the origin of `base_url`.
        issuer: String,
        /// `jwt.audience`, or a list of which one must be there. Default: the origin of `base_url`.
        audience: Vec<Found<String>>,
        /// `jwks.keyPairConfig.alg`: what keys are for that do not say it. Default: `EdDSA`.
        algorithm: AlgorithmWord,
        /// `jwks.gracePeriod`: how long a key in the store counts after its end. Default: `30d`.
        grace: Duration,
        /// Longest token read. Default: `8KiB`.
        max_token_bytes: Size,
        /// How often a key nobody has heard of is asked for. Default: `10s`.
        refetch_interval: Duration,
        /// Other issuers, by a name of your choice.
        issuers: Named<Issuer>,
    }

    /// Another issuer of tokens.
    Issuer {
        /// `iss` of its tokens. Required.
        issuer: String,
        /// `aud` of the tokens that are meant for the app, or a list of which one must be there. Required.
        audience: Vec<Found<String>>,
        /// Where it publishes its keys: https, or http on this machine. Required.
        jwks_url: String,
        /// What keys are for that do not say it. Default: the usual of their kind (RSA: `RS256`).
        algorithm: AlgorithmWord,
        /// What it calls its claims.
        claims: Claims,
    }

    /// What an issuer calls its claims.
    Claims {
        /// The user's id. Default: `sub`.
        sub: String,
        /// E-mail address. Default: `email`.
        email: String,
        /// Whether that is verified. Default: `email_verified`.
        email_verified: String,
        /// Name. Default: `name`.
        name: String,
        /// Roles: a comma list, or a list. Default: none, so that nobody has a role in the app by another's word.
        role: String,
    }

    /// Attributes of a cookie.
    Attributes {
        /// `secure`.
        secure: bool,
        /// `sameSite`.
        same_site: SameSite,
        /// `path`.
        path: String,
        /// `httpOnly`.
        http_only: bool,
        /// `partitioned`.
        partitioned: bool,
        /// `domain`.
        domain: String,
        /// `maxAge`.
        max_age: Duration,
    }

    /// Where sessions are looked up, and how long they are remembered.
    Sessions {
        /// `sqlite:PATH`, `postgres://…`, `mysql://…` or `redis://…`; `http://HOST:PORT/api/auth`, to ask the app itself; `cookie:` for an app without a store. Default: the variable `DATABASE_URL` or `REDIS_URL`.
        source: SecretText,
        /// What comes before every key in Redis. Default: `better-auth:`.
        key_prefix: String,
        /// The database the app has beside Redis. Default: the variable `DATABASE_URL`, with `store_in_database`.
        database: SecretText,
        /// `session.storeSessionInDatabase`: sessions that Redis does not know may be in the database. Default: `false`.
        store_in_database: bool,
        /// `session.preserveSessionInDatabase`: what is in the database may have ended. Default: `false`.
        preserve_in_database: bool,
        /// Who extends sessions that are due, where the gateway keeps the app from noticing: `app`, `store` (the gateway itself, which must be allowed to write) or `off`. Default: `app`.
        sliding: SlidingWord,
        /// How stale a remembered identity may be. `0s`: nothing is remembered. Default: `30s`.
        cache_ttl: Duration,
        /// How long "no such session" is remembered. Default: `5s`.
        negative_ttl: Duration,
        /// Most sessions remembered. Default: 1,000,000.
        max_cached: u64,
        /// Most bytes they may take. Default: `512MiB`.
        max_cached_bytes: Size,
        /// Most "no such session" answers remembered. Default: 100,000.
        max_negative: u64,
        /// Longest wait for one lookup, connecting included. Default: `2s`.
        timeout: Duration,
        /// Connections to the database at most. Default: 10.
        connections: u64,
        /// Lookups that may wait for a connection; more are answered with 503. Default: 1,000.
        max_waiting: u64,
        /// Offset from UTC in which MySQL dates were written: `UTC`, `+02:00`. Default: `UTC`.
        zone: String,
        /// Whether the gateway answers `get-session` from memory where the app would answer the same. Not for apps with `customSession`, unless `source` asks the app. Default: `false`.
        answer_get_session: bool,
        /// Fields of the app's own in that answer, each with its type: `user.plan:string` (`string`, `number`, `boolean`, `date`, `json`). Default: none.
        fields: Vec<Found<String>>,
        /// Fields that are not in that answer (`returned: false`), as `user.note`. Default: none.
        hidden_fields: Vec<Found<String>>,
        /// How the app is asked, where it is.
        http: SessionHttp,
        /// Names of tables and columns that differ from what is detected.
        schema: SessionSchema,
    }

    /// How the app is asked about sessions.
    SessionHttp {
        /// Whether `Host` names the address in `source`, as a server for many hosts needs it, instead of the host browsers ask for. Default: `false`.
        own_host: bool,
    }

    /// Names of tables and columns that differ from what is detected.
    SessionSchema {
        /// PostgreSQL schema. Default: the connection's `search_path`.
        schema: String,
        /// Stored name by Better Auth's table: `session`, `user`, `member`, `jwks`, `apikey`.
        tables: Named<String>,
        /// Stored name by Better Auth's column, as `"session.userId"`.
        columns: Named<String>,
    }

    /// How gateways hear of sessions that end elsewhere.
    Revocation {
        /// `auto`: over the source of sessions, where it can; `store`: the same, and nothing is believed from memory until it works; `redis`: over the Redis of `url`; `off`. Default: `auto`.
        feed: FeedWord,
        /// The address of the line, where it is not `sessions.source`: a direct connection past a pooler, or a Redis.
        url: SecretText,
        /// How often the session behind an open WebSocket or event stream is looked at again. `0s`: only when told. Default: `1m`.
        recheck: Duration,
    }

    /// The parts of `next.config` that change what a path means.
    NextJs {
        /// `basePath`. Default: none.
        base_path: String,
        /// `i18n.locales`. Default: none.
        locales: Vec<Found<String>>,
        /// `i18n.defaultLocale`. Default: the first of `locales`.
        default_locale: String,
        /// `trailingSlash`. Default: `false`.
        trailing_slash: bool,
        /// The app's folder, counted from this file: the keys above are then read from its build, and targets that lead nowhere in the
        /// app are never public. Default: what the app serves is not known.
        app: PathBuf,
    }

    /// What holds for every route.
    Routes {
        /// The rule for every path without a route. Required.
        default: RuleText,
        /// The sign-in page: a path, or an absolute URL. Default: `/sign-in`.
        sign_in: String,
        /// Name of the query parameter that brings people back. Default: `callbackURL`.
        return_param: String,
        /// Where people who are signed in go from a `guest` page. Default: `/`.
        signed_in_home: PagePath,
        /// Page a document gets in place of the built-in 403.
        forbidden: PagePath,
    }

    /// One rule for some paths.
    Route {
        /// A Next.js matcher source, or a list of them.
        path: Vec<Found<Path>>,
        /// What it takes to pass: a word, or a table of conditions.
        rule: RuleText,
        /// How fresh the identity must be. Default: `cached`.
        freshness: FreshnessWord,
        /// Methods it is narrowed to. Default: all.
        methods: Vec<Found<http::Method>>,
        /// Hosts it is narrowed to. Default: all.
        hosts: Vec<Found<String>>,
        /// Name of the upstream. Default: `app`.
        upstream: String,
        /// Who says what may be cached: `gateway` (`private, no-store` on protected routes) or `app`. Default: `gateway`.
        cache: Caching,
    }

    /// A source with conditions.
    PathTable {
        /// A Next.js matcher source.
        source: String,
        /// All of these must hold.
        has: Vec<Found<Condition>>,
        /// None of these may hold.
        missing: Vec<Found<Condition>>,
        /// `false`: the source is matched against the path with its locale. Default: `true`.
        locale: bool,
    }

    /// One entry of `has` or `missing`.
    Condition {
        /// What is looked at.
        r#type: ConditionWord,
        /// Its name; none for `host`.
        key: String,
        /// JavaScript regular expression for its whole value. Default: any value.
        value: String,
    }

    /// Conditions somebody signed in must meet.
    RuleTable {
        /// The user has one of these roles.
        role: Vec<Found<String>>,
        /// The user has one of these roles in the active organization.
        organization_role: Vec<Found<String>>,
        /// The e-mail address is verified. Only `true` makes sense.
        email_verified: bool,
        /// They signed in at most this long ago.
        step_up: Duration,
        /// Kinds of credentials that count. Default: every kind that is enabled.
        credentials: Vec<Found<String>>,
        /// How fresh the identity must be. Default: `cached`.
        freshness: FreshnessWord,
    }

    /// How the app is told who is calling.
    Identity {
        /// Names of the headers: `vestibule`, `oauth2-proxy` or `remote`. Default: `vestibule`.
        preset: Preset,
        /// Whether the signed assertion is sent. Default: `true`.
        assertion: bool,
        /// `iss` of the assertion. Default: `public_url`.
        issuer: String,
        /// `aud` of the assertion. Default: `public_url`.
        audience: String,
        /// Life of an assertion, at most `60s`. Default: `60s`.
        lifetime: Duration,
        /// What the signing key is made from. Default: the current secret, with a label of its own.
        key: SecretText,
    }

    /// Cross-origin reading of answers the gateway makes itself.
    Cors {
        /// Origins that may, as `https://app.example.com`. Default: none.
        origins: Vec<Found<String>>,
    }

    /// Upper bounds of what a client may send.
    Limits {
        /// Bytes of a request's head; 431 above. Default: `32KiB`.
        header_bytes: Size,
        /// Bytes of path and query; 414 above. Default: `8KiB`.
        target_bytes: Size,
        /// Bytes of a request's body, or `unlimited`; 413 above. Default: `100MiB`.
        body_bytes: SizeLimit,
        /// Unused connections to upstreams kept in all. Default: 512.
        connections_idle: u64,
    }

    /// How long the gateway waits.
    Timeouts {
        /// Between two requests of one client connection. Default: `60s`.
        idle: Duration,
        /// Between two reads of a request's body. Default: `30s`.
        body_read: Duration,
        /// For one write toward the client. Default: `30s`.
        response_write: Duration,
        /// Silence after which a WebSocket or event stream is closed. Default: `1h`.
        tunnel_idle: Duration,
        /// For requests in flight, once asked to stop. Default: `25s`.
        stop: Duration,
    }

    /// What is logged, and how.
    Log {
        /// `error`, `warn`, `info`, `debug` or `trace`. Default: `info`.
        level: Level,
        /// `text` or `json`. Default: `text`.
        format: LogFormat,
        /// One line for each request. Default: `true`.
        access: bool,
    }
}

words!(/// `baseURL.protocol`.
    Protocol, "protocol" { Http = "http", Https = "https", Auto = "auto" });
words!(/// Who counts the uses of a key.
    KeyUsage, "word for `usage`" { Gateway = "gateway", App = "app" });
words!(/// Where API keys are kept.
    KeyStorage, "storage of API keys" { Database = "database", Secondary = "secondary" });
words!(/// Where the keys of the JWT plugin are read.
    KeysWord, "place of keys" { App = "app", Store = "store" });
words!(/// Ways of signing a token.
AlgorithmWord, "algorithm" {
    EdDsa = "EdDSA", Es256 = "ES256", Es384 = "ES384", Es512 = "ES512", Rs256 = "RS256", Rs384 = "RS384", Rs512 = "RS512",
    Ps256 = "PS256", Ps384 = "PS384", Ps512 = "PS512",
});
words!(/// `sameSite`, lower-case.
    SameSite, "same-site rule" { Lax = "lax", Strict = "strict", None = "none" });
words!(/// How fresh an identity must be.
    FreshnessWord, "freshness" { Optimistic = "optimistic", Cached = "cached", Strict = "strict" });
words!(/// Who extends sessions.
    SlidingWord, "word for `sliding`" { App = "app", Store = "store", Off = "off" });
words!(/// Who says what may be cached.
    Caching, "word for `cache`" { Gateway = "gateway", App = "app" });
words!(/// What a condition looks at.
    ConditionWord, "type of condition" { Header = "header", Cookie = "cookie", Query = "query", Host = "host" });
words!(/// Names of the identity headers.
    Preset, "preset" { Vestibule = "vestibule", OAuth2Proxy = "oauth2-proxy", Remote = "remote" });
words!(/// How revocations made elsewhere are heard of.
    FeedWord, "word for `feed`" { Auto = "auto", Store = "store", Redis = "redis", Off = "off" });
words!(/// Log levels.
    Level, "log level" { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" });
words!(/// Log formats.
    LogFormat, "log format" { Text = "text", Json = "json" });
words!(/// Rules that are a word.
    RuleWord, "rule" { Public = "public", Optional = "optional", SignedIn = "signed-in", Guest = "guest", Deny = "deny" });

words!(/// What a failed sign-in tells.
    FailuresWord, "word for `failures`" { Uniform = "uniform", Explicit = "explicit" });
words!(/// What becomes of sign-ups.
    SignUpWord, "mode" { Open = "open", Freeze = "freeze", Trickle = "trickle", DualWrite = "dual_write" });

/// A day, or a moment of it, in UTC.
#[derive(Clone, Debug)]
pub(super) struct Day {
    /// Its first millisecond.
    pub(super) at: UnixMs,
    /// As it was written.
    pub(super) text: String,
}

impl Read for Day {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = String::read(node, reader)?;
        let whole = match text.len() {
            10 => format!("{text}T00:00:00Z"),
            _ => text.clone(),
        };
        let at = chrono::DateTime::parse_from_rfc3339(&whole)
            .ok()
            .map(|moment| UnixMs(moment.timestamp_millis()));
        if at.is_none() {
            let what = format!("`{}` is no day", short(&text));
            let advice = "write \"2026-12-01\" or \"2026-12-01T08:00:00Z\"".to_owned();
            reader.wrong(Fault::Form { what, advice }, &node.at);
        }
        Some(Self { at: at?, text })
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["2026-12-01", "2026-12-01T08:00:00Z"] })
    }
}

/// The table of an old system: its keys are the provider's own.
#[derive(Clone, Debug)]
pub(super) struct OldSystem {
    /// Which.
    pub(super) kind: &'static Kind<provider::Build>,
    /// What was written.
    pub(super) values: BTreeMap<String, Field>,
}

impl Read for OldSystem {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let path = reader.path().to_owned();
        let name = path.rsplit('.').next().unwrap_or_default();
        let kind = match kind::find("old system", provider::KINDS, name) {
            Ok(kind) => kind,
            Err(what) => {
                let advice = "name the table after the system: `[migration.from.clerk]`".to_owned();
                reader.wrong(Fault::Form { what, advice }, &node.at);
                return None;
            }
        };
        let keys: Vec<&provider::Key> = kind.build.keys.iter().copied().flatten().collect();
        let names: Vec<&'static str> = keys.iter().map(|key| key.name).collect();
        let mut values = BTreeMap::new();
        for entry in reader.table(node)? {
            let Some(key) = keys.iter().find(|key| key.name == entry.key) else {
                reader.unknown(entry, &names);
                continue;
            };
            let texts = |found: Found<Vec<Found<SecretText>>>| {
                Field::List(found.value.into_iter().map(|each| each.value.0).collect())
            };
            let value = match key.kind {
                KeyKind::Text => reader
                    .field::<String>(entry)
                    .map(|found| Field::Text(Secret::new(found.value))),
                KeyKind::Secret => reader
                    .field::<SecretText>(entry)
                    .map(|found| Field::Text(found.value.0)),
                KeyKind::Secrets | KeyKind::Texts => reader.field(entry).map(texts),
                KeyKind::Flag => reader.field(entry).map(|found| Field::Flag(found.value)),
                KeyKind::Duration => reader
                    .field(entry)
                    .map(|found| Field::Duration(found.value)),
                KeyKind::Number => reader.field(entry).map(|found| Field::Number(found.value)),
            };
            if let Some(value) = value {
                values.insert(entry.key.clone(), value);
            }
        }
        Some(Self { kind, values })
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "properties": {} })
    }
}

/// `admin`: an address, or `off`.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdminAddress(pub(super) Option<SocketAddr>);

impl Read for AdminAddress {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "off" => Some(Self(None)),
            _ => SocketAddr::read(node, reader).map(|address| Self(Some(address))),
        }
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["127.0.0.1:8081", "off"] })
    }
}

/// `threads`: a number, or `auto`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Threads(pub(super) Option<u64>);

impl Read for Threads {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "auto" => Some(Self(None)),
            Value::Text(_) if !node.at.is_text_only() => {
                reader.wrong(
                    Fault::WrongType {
                        wanted: "`\"auto\"`, or a number without quotes",
                        found: node.value.noun(),
                    },
                    &node.at,
                );
                None
            }
            _ => u64::read(node, reader).map(|number| Self(Some(number))),
        }
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }] })
    }
}

tables! {
    /// One of several secrets.
    SecretTable {
        /// Its number; no two the same.
        version: u64,
        /// The secret.
        value: SecretText,
    }
}

/// One of `secrets`: a table, or `VERSION:SECRET` as in `BETTER_AUTH_SECRETS`.
#[derive(Debug)]
pub(super) struct VersionedSecret {
    pub(super) version: u64,
    pub(super) value: Secret,
}

impl Read for VersionedSecret {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if let Value::Text(text) = &node.value {
            let read = text.trim().split_once(':').and_then(|(version, value)| {
                let version = version.trim().parse().ok()?;
                (!value.is_empty()).then(|| Self {
                    version,
                    value: Secret::new(value),
                })
            });
            if read.is_none() {
                reader.wrong(
                    Fault::Form {
                        what: "this is no number and secret with `:` between".into(),
                        advice: "write `2:NEW,1:OLD` as for the framework, the current one first"
                            .into(),
                    },
                    &node.at,
                );
            }
            return read;
        }
        let table = SecretTable::read(node, reader)?;
        match (table.version, table.value) {
            (Some(version), Some(value)) => Some(Self {
                version: version.value,
                value: value.value.0,
            }),
            (None, Some(_)) => {
                missing(
                    reader,
                    node,
                    "version",
                    "give each secret its number, as in the app",
                );
                None
            }
            // A secret that could not be read has been told; one that is not there has not.
            (_, None) => {
                if node.child("value").is_none() {
                    missing(
                        reader,
                        node,
                        "value",
                        "give `{ version = 1, value = { env = \"NAME\" } }`",
                    );
                }
                None
            }
        }
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<SecretTable>();
        json_schema!({ "anyOf": [{ "type": "string", "pattern": "^[0-9]+:" }, table] })
    }
}

fn missing(reader: &mut Reader<'_>, node: &Node, key: &'static str, advice: &'static str) {
    reader.wrong(Fault::Missing { key, advice }, &node.at);
}

/// One entry of `path`: text, or a table with conditions.
#[derive(Debug)]
pub(super) enum Path {
    Plain(String),
    Table(Box<PathTable>),
}

impl Read for Path {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(Self::Plain(text.clone())),
            Value::Table(_) => {
                let table = PathTable::read(node, reader)?;
                if node.child("source").is_none() {
                    missing(
                        reader,
                        node,
                        "source",
                        "write `{ source = \"/account/:path*\", has = […] }`",
                    );
                    return None;
                }
                // A condition that could not be read would open the path to more than was written.
                let dropped = table.source.is_none()
                    || (node.child("has").is_some() && table.has.is_none())
                    || (node.child("missing").is_some() && table.missing.is_none());
                (!dropped).then(|| Self::Table(Box::new(table)))
            }
            other => {
                reader.wrong(
                    Fault::WrongType {
                        wanted: "a path in quotes, or a table with `source`",
                        found: other.noun(),
                    },
                    &node.at,
                );
                None
            }
        }
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<PathTable>();
        json_schema!({ "anyOf": [{ "type": "string", "pattern": "^/" }, table] })
    }
}

/// A rule: a word, or a table of conditions.
#[derive(Debug)]
pub(super) enum RuleText {
    Word(RuleWord),
    Table(Box<RuleTable>),
}

impl Read for RuleText {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if RuleTable::KEYS.contains(&text.as_str()) => {
                reader.wrong(
                    Fault::Form {
                        what: format!("`{}` is a condition, and stands in a table", short(text)),
                        advice: format!(
                            "write `{{ {text} = … }}`, as in `{{ role = [\"admin\"] }}`"
                        ),
                    },
                    &node.at,
                );
                None
            }
            Value::Text(_) => RuleWord::read(node, reader).map(Self::Word),
            Value::Table(entries) => {
                // `{ public = true }` and the like: the word stands alone.
                let words: Vec<&str> = RuleWord::ALL.iter().map(|(word, _)| *word).collect();
                if let Some(entry) = entries
                    .iter()
                    .find(|e| closest(&e.key, &words) == Some(e.key.as_str()))
                {
                    reader.wrong(
                        Fault::Form {
                            what: format!("`{}` is a rule of its own, not a condition", entry.key),
                            advice: format!("write `rule = \"{}\"`", entry.key),
                        },
                        &entry.key_at,
                    );
                    return None;
                }
                RuleTable::read(node, reader).map(|table| Self::Table(Box::new(table)))
            }
            other => {
                reader.wrong(
                    Fault::WrongType {
                        wanted: "a word such as `\"signed-in\"`, or a table such as `{ role = [\"admin\"] }`",
                        found: other.noun(),
                    },
                    &node.at,
                );
                None
            }
        }
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let word = RuleWord::schema(generator);
        let table = generator.subschema_for::<RuleTable>();
        json_schema!({ "anyOf": [word, table] })
    }
}
