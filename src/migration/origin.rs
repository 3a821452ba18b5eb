//! Better Auth's own rules about where a request may come from, asked before anything is done for it: what the framework would refuse
//! must not have cost a hash, or a question to the old system. It passes to the app untouched, which refuses it in its own words.
//!
//! Source: better-auth 1.7.25, `api/middlewares/origin-check.ts`, `auth/trusted-origins.ts`, `utils/url.ts`, `utils/wildcard.ts`; golden
//! data in `tests/golden/origin-check.json`. Older releases allow a little more (1.4: a cookie-less sign-in with a foreign `Origin` and no
//! `Sec-Fetch-*`): there a request passes to the app without the help of the migration, and nothing worse.

use http::{HeaderMap, Method};
use serde_json::{Map, Value};
use url::Url;

/// Where relative addresses are tried: no host of anybody.
const NOWHERE: &str = "https://better-auth.invalid";

/// Longest address of a body that is held against patterns, in bytes. Whatever is longer is nobody's page.
const ADDRESS_BYTES_MAX: usize = 8 * 1024;

/// Endpoints below the base path that sign in without a session, and hence look at `Origin` and `Sec-Fetch-*` even without cookies.
const FORMS: [&str; 4] = [
    "/sign-in/email",
    "/sign-up/email",
    "/sign-in/email-otp",
    "/sign-in/magic-link",
];

/// Addresses a body may name, with the refusal of each, in the order in which the framework looks at them.
const ADDRESSES: [(&str, Code); 4] = [
    ("callbackURL", Code::InvalidCallbackUrl),
    ("redirectTo", Code::InvalidRedirectUrl),
    ("errorCallbackURL", Code::InvalidErrorCallbackUrl),
    ("newUserCallbackURL", Code::InvalidNewUserCallbackUrl),
];

/// What the app's Better Auth is configured to.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The origin of `baseURL`; without one it is where the request arrived.
    pub base: Option<String>,
    /// `trustedOrigins` and `BETTER_AUTH_TRUSTED_ORIGINS`.
    pub trusted: Vec<String>,
    /// `advanced.disableCSRFCheck`; `None`: not written, which is not the same as `false`.
    pub disable_csrf_check: Option<bool>,
    /// `advanced.disableOriginCheck`.
    pub disable_origin_check: bool,
    /// `advanced.trustedProxyHeaders`.
    pub trusted_proxy_headers: bool,
}

/// Why the framework would refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Cookies, or a browser, and no word where from.
    MissingOrNullOrigin,
    /// From an origin nobody trusts.
    InvalidOrigin,
    /// A form of another site.
    CrossSiteNavigation,
    /// `callbackURL` leads away.
    InvalidCallbackUrl,
    /// `redirectTo` leads away.
    InvalidRedirectUrl,
    /// `errorCallbackURL` leads away.
    InvalidErrorCallbackUrl,
    /// `newUserCallbackURL` leads away.
    InvalidNewUserCallbackUrl,
    /// One of them is no text.
    NotText,
}

impl Code {
    /// The framework's `code`; it has none for what is no text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingOrNullOrigin => "MISSING_OR_NULL_ORIGIN",
            Self::InvalidOrigin => "INVALID_ORIGIN",
            Self::CrossSiteNavigation => "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED",
            Self::InvalidCallbackUrl => "INVALID_CALLBACK_URL",
            Self::InvalidRedirectUrl => "INVALID_REDIRECT_URL",
            Self::InvalidErrorCallbackUrl => "INVALID_ERROR_CALLBACK_URL",
            Self::InvalidNewUserCallbackUrl => "INVALID_NEW_USER_CALLBACK_URL",
            Self::NotText => "BAD_REQUEST",
        }
    }
}

/// A request to an endpoint of the framework.
#[derive(Clone, Copy)]
pub struct Asked<'r> {
    /// The method.
    pub method: &'r Method,
    /// The path below the base path: `/sign-in/email`.
    pub endpoint: &'r str,
    /// The headers.
    pub headers: &'r HeaderMap,
    /// `callbackURL` of the query, decoded.
    pub callback: Option<&'r str>,
    /// The body, where it is an object.
    pub body: Option<&'r Map<String, Value>>,
    /// The origin at which the app sees the request: counts where it has no base URL, and for `Origin: null` of its own pages.
    pub own: &'r str,
}

/// Whether the framework would let a request through to its endpoint.
///
/// # Errors
/// With what it would refuse it.
pub fn would_pass(asked: &Asked<'_>, settings: &Settings) -> Result<(), Code> {
    let method = asked.method;
    if method == Method::GET || method == Method::OPTIONS || method == Method::HEAD {
        return Ok(());
    }
    let rules = Rules::new(asked, settings);
    if rules.csrf {
        if asked.headers.contains_key("cookie") {
            rules.origin(asked)?;
        } else if FORMS.contains(&asked.endpoint) {
            rules.form(asked)?;
        }
    }
    if settings.disable_origin_check {
        return Ok(());
    }
    rules.addresses(asked)
}

/// What holds for one request.
struct Rules<'r> {
    csrf: bool,
    /// Origins are looked at; else only fetch metadata is.
    origins: bool,
    base: Option<String>,
    trusted: &'r [String],
    trusted_proxy_headers: bool,
}

impl<'r> Rules<'r> {
    fn new(asked: &Asked<'_>, settings: &'r Settings) -> Self {
        let off = settings.disable_csrf_check == Some(true)
            // `disableOriginCheck` alone takes the other along.
            || settings.disable_origin_check && settings.disable_csrf_check.is_none();
        let inferred = || inferred(asked, settings.trusted_proxy_headers);
        Self {
            csrf: !off,
            origins: !settings.disable_origin_check,
            base: settings.base.clone().or_else(inferred),
            trusted: &settings.trusted,
            trusted_proxy_headers: settings.trusted_proxy_headers,
        }
    }

    fn origin(&self, asked: &Asked<'_>) -> Result<(), Code> {
        if !self.origins {
            return Ok(());
        }
        let origin = text(asked.headers, "origin");
        let own_page = origin.as_deref() == Some("null")
            && text(asked.headers, "sec-fetch-site").as_deref() == Some("same-origin");
        let own = own_page
            .then(|| inferred(asked, self.trusted_proxy_headers))
            .flatten();
        let from = own
            .or_else(|| origin.filter(|origin| !origin.is_empty()))
            .or_else(|| text(asked.headers, "referer"))
            .unwrap_or_default();
        if from.is_empty() || from == "null" {
            return Err(Code::MissingOrNullOrigin);
        }
        if self.trusts(&from, false) {
            Ok(())
        } else {
            Err(Code::InvalidOrigin)
        }
    }

    fn form(&self, asked: &Asked<'_>) -> Result<(), Code> {
        let said = |name| text(asked.headers, name).filter(|text| !text.trim().is_empty());
        let (site, mode) = (said("sec-fetch-site"), said("sec-fetch-mode"));
        let fetch = site.is_some() || mode.is_some() || said("sec-fetch-dest").is_some();
        if site.as_deref() == Some("cross-site") && mode.as_deref() == Some("navigate") {
            return Err(Code::CrossSiteNavigation);
        }
        let told = |name| text(asked.headers, name).is_some_and(|text| !text.is_empty());
        if fetch || told("origin") || told("referer") {
            return self.origin(asked);
        }
        Ok(())
    }

    fn addresses(&self, asked: &Asked<'_>) -> Result<(), Code> {
        for (name, code) in ADDRESSES {
            let written = asked
                .body
                .and_then(|body| body.get(name))
                .filter(|v| truthy(v));
            let address = match written {
                Some(Value::String(address)) => address.as_str(),
                Some(_) => return Err(Code::NotText),
                None => match asked.callback.filter(|text| !text.is_empty()) {
                    Some(callback) if name == "callbackURL" => callback,
                    _ => continue,
                },
            };
            if !self.trusts(address, true) {
                return Err(code);
            }
        }
        Ok(())
    }

    fn trusts(&self, address: &str, relative: bool) -> bool {
        if address.len() > ADDRESS_BYTES_MAX {
            return false;
        }
        let patterns = self.base.iter().chain(self.trusted);
        patterns
            .filter(|pattern| !pattern.is_empty())
            .any(|pattern| matches(address, pattern, relative))
    }
}

/// The origin the framework takes a request to be for, where it has no base URL.
fn inferred(asked: &Asked<'_>, trusted_proxy_headers: bool) -> Option<String> {
    if trusted_proxy_headers
        && let Some(host) = text(asked.headers, "x-forwarded-host")
        && let Some(proto) = text(asked.headers, "x-forwarded-proto")
        && (proto == "http" || proto == "https")
        && is_host(&host)
    {
        return origin_of(&format!("{proto}://{host}"));
    }
    origin_of(asked.own)
}

/// Whether a forwarded host is one, alone.
fn is_host(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    !text.is_empty() && !text.starts_with('.') && !text.contains("..") && text.chars().all(fine)
}

/// A header as the framework's runtime reads it: several of one name are one list.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let all: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// What JavaScript takes for true.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// `URL.origin`; none for schemes that have none.
fn origin_of(address: &str) -> Option<String> {
    let origin = Url::parse(address).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// `URL.host`: with the port where it is not the scheme's own.
fn host_of(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    let host = url.host_str().unwrap_or_default();
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    (!host.is_empty()).then_some(host)
}

/// Whether an address fits a trusted origin or a pattern of them.
fn matches(address: &str, pattern: &str, relative: bool) -> bool {
    if address.starts_with('/') {
        return relative && is_safe_relative(address);
    }
    let wild = pattern.contains(['*', '?']);
    let Some((_, pattern_rest)) = pattern.split_once("://") else {
        if wild {
            return host_of(address).is_some_and(|host| fits(pattern, &host, pattern));
        }
        return match Url::parse(address) {
            Ok(url) if !is_web(&url) => custom(address, pattern, false),
            _ => origin_of(address).as_deref() == Some(pattern),
        };
    };
    match Url::parse(address) {
        Ok(url) if !is_web(&url) => custom(address, pattern, wild),
        _ => {
            let Some(origin) = origin_of(address) else {
                return false;
            };
            if !wild {
                return origin == pattern;
            }
            let authority = origin.split_once("://").map_or("", |(_, rest)| rest);
            is_glob(pattern, &origin) && is_allowed_range(pattern_rest, authority)
        }
    }
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

fn fits(pattern: &str, authority: &str, whole: &str) -> bool {
    is_glob(pattern, authority) && is_allowed_range(whole, authority)
}

/// A pattern of digits, dots and wildcards names a range of addresses: `10.*` is not `10.evil.com`.
fn is_allowed_range(pattern: &str, authority: &str) -> bool {
    let pattern = pattern.split(':').next().unwrap_or_default();
    let letters = |c: char| c.is_ascii_digit() || matches!(c, '*' | '?' | '.');
    let range = pattern.contains(|c: char| c.is_ascii_digit()) && pattern.chars().all(letters);
    let host = authority.split(':').next().unwrap_or_default();
    !range || host.parse::<std::net::Ipv4Addr>().is_ok()
}

/// A custom scheme, taken apart without the rules of web addresses.
struct Custom {
    scheme: String,
    authority: String,
    path: String,
}

impl Custom {
    fn parse(text: &str, wild: bool) -> Option<Self> {
        if text.chars().any(char::is_control) {
            return None;
        }
        let (scheme, rest) = text
            .split_once(':')
            .filter(|(scheme, _)| !scheme.is_empty())?;
        let ends = |c: char| c == '#' || c == '?' && !wild;
        let (authority, rest) = match rest.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find(|c| c == '/' || ends(c)).unwrap_or(rest.len());
                rest.split_at_checked(end)?
            }
            None => ("", rest),
        };
        let path = rest.split(ends).next().unwrap_or_default();
        Some(Self {
            scheme: scheme.to_lowercase(),
            authority: authority.to_lowercase(),
            path: resolved(path),
        })
    }
}

/// A path without its `.` and `..`, after decoding; empty for the root.
fn resolved(path: &str) -> String {
    let decoded = percent_decoded(path);
    let mut segments = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            ".." => {
                segments.pop();
            }
            "." | "" => {}
            segment => segments.push(segment),
        }
    }
    segments
        .iter()
        .map(|segment| format!("/{segment}"))
        .collect()
}

/// `decodeURIComponent`, or the text as it is where that would throw.
fn percent_decoded(text: &str) -> String {
    let bytes = crate::credential::cookies::decode_escapes(text.as_bytes());
    String::from_utf8(bytes.into_owned()).unwrap_or_else(|_| text.to_owned())
}

fn custom(address: &str, pattern: &str, wild: bool) -> bool {
    let (Some(one), Some(of)) = (Custom::parse(address, false), Custom::parse(pattern, wild))
    else {
        return false;
    };
    if one.scheme != of.scheme {
        return false;
    }
    if wild {
        let authority =
            of.authority.is_empty() || fits(&of.authority, &one.authority, &of.authority);
        let path = if one.path.is_empty() { "/" } else { &one.path };
        return !one.authority.contains('@')
            && authority
            && (of.path.is_empty() || is_glob(&of.path, path));
    }
    let authority = of.authority.is_empty() || one.authority == of.authority;
    let below = one.path.strip_prefix(of.path.as_str());
    authority
        && below.is_some_and(|rest| of.path.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// A path of this origin that neither a browser nor a router takes for another's.
fn is_safe_relative(address: &str) -> bool {
    if address.starts_with("//") || address.contains('\\') || address.chars().any(char::is_control)
    {
        return false;
    }
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let path = path.to_ascii_lowercase();
    if path.contains("%2f") || path.contains("%5c") {
        return false;
    }
    let nowhere = Url::parse(NOWHERE);
    nowhere.is_ok_and(|nowhere| {
        let joined = nowhere.join(address);
        joined.is_ok_and(|joined| joined.origin() == nowhere.origin())
    })
}

/// `*` is any letters, `?` one, `\` takes the next as it is.
fn is_glob(pattern: &str, text: &str) -> bool {
    enum Piece {
        Any,
        One,
        Is(char),
    }
    let mut pieces = Vec::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '*' => pieces.push(Piece::Any),
            '?' => pieces.push(Piece::One),
            // The last letter of a pattern escapes nothing, and is dropped.
            '\\' => pieces.extend(letters.next().map(Piece::Is)),
            letter => pieces.push(Piece::Is(letter)),
        }
    }
    // Which beginnings of the pattern the text so far fits: bounded by pattern times text, however many stars there are.
    let mut fits = vec![false; pieces.len() + 1];
    let reach = |fits: &mut Vec<bool>| {
        for (at, piece) in pieces.iter().enumerate() {
            let here = fits.get(at).copied().unwrap_or(false);
            if here
                && matches!(piece, Piece::Any)
                && let Some(next) = fits.get_mut(at + 1)
            {
                *next = true;
            }
        }
    };
    if let Some(first) = fits.first_mut() {
        *first = true;
    }
    reach(&mut fits);
    for letter in text.chars() {
        let mut next = vec![false; pieces.len() + 1];
        for (at, piece) in pieces.iter().enumerate() {
            if !fits.get(at).copied().unwrap_or(false) {
                continue;
            }
            let to = match piece {
                Piece::Any => Some(at),
                // `.` of JavaScript is no line's end.
                Piece::One if !matches!(letter, '\n' | '\r' | '\u{2028}' | '\u{2029}') => {
                    Some(at + 1)
                }
                Piece::Is(other) if *other == letter => Some(at + 1),
                Piece::One | Piece::Is(_) => None,
            };
            if let Some(place) = to.and_then(|to| next.get_mut(to)) {
                *place = true;
            }
        }
        reach(&mut next);
        fits = next;
    }
    fits.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_hold_as_the_framework_reads_them() {
        for (address, pattern, fine) in [
            ("https://a.example.net", "https://*.example.net", true),
            ("https://example.net", "https://*.example.net", false),
            (
                "https://example.net.evil.org",
                "https://*.example.net",
                false,
            ),
            (
                "https://evil.org/?https://a.example.net",
                "https://*.example.net",
                false,
            ),
            ("http://a.example.net", "*.example.net", true),
            ("http://a.example.net:81", "*.example.net", false),
            (
                "https://preview-7.example.net",
                "https://preview-?.example.net",
                true,
            ),
            (
                "https://preview-77.example.net",
                "https://preview-?.example.net",
                false,
            ),
            ("http://192.168.1.7:3000", "http://192.168.*.*:3000", true),
            ("http://192.168.evil.org", "http://192.168.*", false),
            ("myapp://host/cb", "myapp://", true),
            ("myapp://host/cb", "myapp://host", true),
            ("myapp://host/cb/x", "myapp://host/cb", true),
            ("myapp://host/cb/../evil", "myapp://host/cb", false),
            ("myapp://other/cb", "myapp://host", false),
            ("myapp://a.host/cb", "myapp://*.host", true),
            ("myapp://evil@a.host/cb", "myapp://*.host", false),
            ("javascript:alert(1)", "https://app.example.com", false),
            (
                "https://APP.example.com:443/x",
                "https://app.example.com",
                true,
            ),
            (
                "https://app.example.com@evil.org",
                "https://app.example.com",
                false,
            ),
            ("no address", "https://app.example.com", false),
        ] {
            assert_eq!(
                matches(address, pattern, false),
                fine,
                "{address} {pattern}"
            );
        }
    }

    #[test]
    fn relative_addresses_stay_at_home() {
        for (address, fine) in [
            ("/ok?x=1#y", true),
            ("/ok?to=https%3A%2F%2Fother", true),
            ("//evil.org", false),
            ("/\\evil.org", false),
            ("/%2fevil.org", false),
            ("/%5Cevil.org", false),
            ("/a\nb", false),
        ] {
            assert_eq!(is_safe_relative(address), fine, "{address:?}");
        }
    }

    #[test]
    fn many_stars_cost_little() {
        let pattern = "*a".repeat(200);
        assert!(!is_glob(&pattern, &"a".repeat(199)));
        assert!(is_glob(&pattern, &"a".repeat(200)));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let body = serde_json::json!({ "callbackURL": ["https://app.example.com"] });
        let (method, headers) = (Method::POST, HeaderMap::new());
        let asked = |body| Asked {
            method: &method,
            endpoint: "/sign-in/email",
            headers: &headers,
            callback: None,
            body,
            own: "https://app.example.com",
        };
        let settings = Settings::default();
        assert_eq!(
            would_pass(&asked(body.as_object()), &settings),
            Err(Code::NotText)
        );
        let nothing = serde_json::json!({ "callbackURL": null });
        assert_eq!(would_pass(&asked(nothing.as_object()), &settings), Ok(()));
    }
}
