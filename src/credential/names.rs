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

/// A cookie's name and the attributes it is issued (and must be cleared) with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieSpec {
    /// The full name, `__Secure-` included.
    pub name: String,
    /// Its attributes, all decided.
    pub attributes: Attributes,
}

impl Settings {
    /// Name and attributes of the cookie behind `key`: `session_token`, `session_data`, `dont_remember`, `account_data`, or a
    /// plugin's.
    pub fn cookie(&self, key: &str) -> CookieSpec {
        let secure = self.secure();
        let plain = self.names.get(key).cloned().unwrap_or_else(|| {
            format!("{}.{key}", self.prefix.as_deref().unwrap_or("better-auth"))
        });
        let mut attributes = Attributes {
            secure: Some(secure),
            same_site: Some("lax".into()),
            path: Some("/".into()),
            http_only: Some(true),
            domain: self.cross_subdomain.then(|| self.cookie_domain()).flatten(),
            ..Attributes::default()
        };
        attributes.overlay(&self.default_attributes);
        attributes.max_age = match key {
            "session_token" => Some(self.expires_in.unwrap_or(604_800)),
            "session_data" | "account_data" => Some(self.cache_max_age.unwrap_or(300)),
            _ => attributes.max_age,
        };
        if let Some(own) = self.attributes.get(key) {
            attributes.overlay(own);
        }
        let prefix = if secure { "__Secure-" } else { "" };
        CookieSpec {
            name: format!("{prefix}{plain}"),
            attributes,
        }
    }

    /// Whether cookies are `Secure` and carry `__Secure-`. The first option that decides wins.
    fn secure(&self) -> bool {
        if let Some(said) = self.secure_cookies {
            return said;
        }
        match self.dynamic_protocol.as_deref() {
            Some("https") => return true,
            Some("http") => return false,
            _ => {}
        }
        match &self.base_url {
            Some(url) => url.starts_with("https://"),
            None => self.production,
        }
    }

    /// The configured domain, else the host of the base URL (not its parent).
    fn cookie_domain(&self) -> Option<String> {
        self.domain.clone().or_else(|| {
            let url = url::Url::parse(self.base_url.as_deref()?).ok()?;
            url.host_str().map(str::to_owned)
        })
    }
}

impl Attributes {
    /// Takes over what `later` says.
    fn overlay(&mut self, later: &Self) {
        fn take<T: Clone>(mine: &mut Option<T>, theirs: &Option<T>) {
            if theirs.is_some() {
                mine.clone_from(theirs);
            }
        }
        take(&mut self.secure, &later.secure);
        take(&mut self.same_site, &later.same_site);
        take(&mut self.path, &later.path);
        take(&mut self.http_only, &later.http_only);
        take(&mut self.partitioned, &later.partitioned);
        take(&mut self.domain, &later.domain);
        take(&mut self.max_age, &later.max_age);
    }
}

impl CookieSpec {
    /// The `Set-Cookie` text for an already encoded value, in the order the framework writes it. A `__Secure-` name is always
    /// `Secure`: browsers drop it otherwise.
    pub fn set_cookie(&self, encoded_value: &str) -> String {
        use std::fmt::Write as _;

        let attributes = &self.attributes;
        let mut text = format!("{}={encoded_value}", self.name);
        // Writing to a String cannot fail.
        if let Some(seconds) = attributes.max_age {
            let _ = write!(text, "; Max-Age={seconds}");
        }
        if let Some(domain) = &attributes.domain {
            let _ = write!(text, "; Domain={domain}");
        }
        if let Some(path) = &attributes.path {
            let _ = write!(text, "; Path={path}");
        }
        if attributes.http_only == Some(true) {
            text.push_str("; HttpOnly");
        }
        if attributes.secure == Some(true) || self.name.starts_with("__Secure-") {
            text.push_str("; Secure");
        }
        if let Some(same_site) = &attributes.same_site {
            let mut letters = same_site.chars();
            if let Some(first) = letters.next() {
                let _ = write!(
                    text,
                    "; SameSite={}{}",
                    first.to_ascii_uppercase(),
                    letters.as_str()
                );
            }
        }
        if attributes.partitioned == Some(true) {
            text.push_str("; Partitioned");
        }
        text
    }

    /// The `Set-Cookie` text that removes this cookie: empty, unsigned, with its own domain and path.
    pub fn clear(&self) -> String {
        self.named(&self.name).clear_here()
    }

    /// The same attributes under another name (chunks of a cookie).
    pub fn named(&self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            attributes: self.attributes.clone(),
        }
    }

    fn clear_here(mut self) -> String {
        self.attributes.max_age = Some(0);
        self.set_cookie("")
    }
}
