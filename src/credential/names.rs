//! What the cookies are called.
//!
//! Source: better-auth 1.4 to 1.7, packages/better-auth/src/cookies/index.ts, `createCookieGetter`; golden data in
//! `tests/golden/cookie-names.json`.

use std::collections::BTreeMap;

/// The framework options that decide names and attributes of cookies.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `advanced.cookiePrefix`; `better-auth` without it.
    pub prefix: Option<String>,
    /// `advanced.useSecureCookies`.
    pub secure_cookies: Option<bool>,
    /// The static `baseURL`, or `BETTER_AUTH_URL`.
    pub base_url: Option<String>,
    /// `baseURL.protocol` of a dynamic base URL (`http`, `https`, `auto`).
    pub dynamic_protocol: Option<String>,
    /// Whether `NODE_ENV` is `production`: decides only when nothing above does.
    pub production: bool,
    /// `advanced.cookies.<key>.name`.
    pub names: BTreeMap<String, String>,
    /// `advanced.crossSubDomainCookies.enabled`.
    pub cross_subdomain: bool,
    /// `advanced.crossSubDomainCookies.domain`.
    pub domain: Option<String>,
    /// `advanced.defaultCookieAttributes`.
    pub default_attributes: Attributes,
    /// `advanced.cookies.<key>.attributes`.
    pub attributes: BTreeMap<String, Attributes>,
    /// `session.expiresIn`, seconds; 604800 without it.
    pub expires_in: Option<u64>,
    /// `session.cookieCache.maxAge`, seconds; 300 without it.
    pub cache_max_age: Option<u64>,
}

/// Attributes of a cookie, each of which may be left unsaid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `secure`.
    pub secure: Option<bool>,
    /// `sameSite`, lower-case.
    pub same_site: Option<String>,
    /// `path`.
    pub path: Option<String>,
    /// `httpOnly`.
    pub http_only: Option<bool>,
    /// `partitioned`.
    pub partitioned: Option<bool>,
    /// `domain`.
    pub domain: Option<String>,
    /// `maxAge`, seconds.
    pub max_age: Option<u64>,
}
