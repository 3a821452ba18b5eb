//! What an address of a Next.js app means: base path, locales, and the forms in which pages travel.

/// The parts of `next.config` that change what a path means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextJs {
    /// `basePath`.
    pub base_path: String,
    /// `i18n.locales`; the first is the default unless `default_locale` says otherwise.
    pub locales: Vec<String>,
    /// `i18n.defaultLocale`.
    pub default_locale: Option<String>,
    /// `trailingSlash`.
    pub trailing_slash: bool,
    /// `i18n.domains`: hosts with a default locale of their own. Only a build says so.
    pub domains: Vec<Domain>,
}

/// One of `i18n.domains`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The host, lower-case, without port.
    pub host: String,
    /// The locale of paths there that name none.
    pub default_locale: String,
}

impl NextJs {
    /// The locale of a path at `host` that names none, when the app has locales.
    pub fn implied_locale(&self, host: &str) -> Option<&str> {
        let first = self.locales.first()?;
        let mut domains = self.domains.iter();
        let domain = domains.find(|domain| domain.host == host);
        let default = domain.map(|domain| domain.default_locale.as_str());
        Some(default.unwrap_or_else(|| self.default_locale.as_deref().unwrap_or(first)))
    }

    /// The locale a path (below the base path) begins with, in any case, as configured.
    pub fn locale_of(&self, inner: &str) -> Option<&str> {
        let first = inner.strip_prefix('/')?.split('/').next()?;
        self.locales
            .iter()
            .map(String::as_str)
            .find(|locale| locale.eq_ignore_ascii_case(first))
    }
}

/// How the data of a page of the app router ends.
pub const RSC: &str = ".rsc";
/// The same for its prefetch, before prefetches came in segments.
pub const PREFETCH: &str = ".prefetch.rsc";
/// How the prefetch of one segment of a page ends.
pub const SEGMENT: &str = ".segment.rsc";
/// What stands between the page and its segment.
pub const SEGMENTS: &str = ".segments";

/// What stands before the build in the address of a page's data.
pub const DATA: &str = "/_next/data/";
