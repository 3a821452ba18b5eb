//! Which route a request asks for, by every reading of its target.

use crate::policy::Rule;
use crate::request::RequestView;

pub mod target;

/// One route: what matches it, where it goes, and what it needs.
#[derive(Clone, Debug)]
pub struct Route {
    /// The pattern as written in the configuration, or the built-in's.
    pub pattern: String,
    /// Where it stands in the configuration; `None` for built-in routes and the default.
    pub line: Option<usize>,
    /// Why it exists when nobody wrote it: `auth endpoints`, `sign-in page`, `static assets`, `default` ...
    pub built_in: Option<&'static str>,
    /// Index of the upstream in the settings.
    pub upstream: usize,
    /// What it needs.
    pub rule: Rule,
    /// `cache = "app"`: the app's own caching headers stay.
    pub app_caches: bool,
}

/// A route's place in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u32);
