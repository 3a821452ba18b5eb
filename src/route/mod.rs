//! Which route a request asks for, by every reading of its target.

use crate::app::NextJs;
use crate::policy::Rule;

mod actions;
mod build;
pub mod comparison;
mod condition;
pub mod coverage;
pub mod expression;
mod index;
pub mod known;
pub mod pattern;
mod reading;
mod scan;
pub mod table;

pub use scan::Scanner;
pub use table::{Matches, RouteTable};

/// All that decides which route a request asks for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the Next.js app is configured to.
    pub nextjs: NextJs,
    /// The routes written in the configuration, in file order.
    pub routes: Vec<RouteSpec>,
    /// The rule for everything else.
    pub default: Rule,
    /// Index of the upstream for everything else.
    pub default_upstream: usize,
    /// Indices of other upstreams that are the same app: it stands at one of their addresses too.
    pub same_app: Vec<usize>,
    /// Better Auth's base path: always reachable.
    pub auth_base_path: String,
    /// Index of the upstream that serves it.
    pub auth_upstream: usize,
    /// The sign-in page's path, when it is on this origin: always reachable.
    pub sign_in_path: Option<String>,
    /// Also make the development server's hot-module paths reachable.
    pub dev: bool,
}

/// One `[[route]]` as configured: several sources may share a rule.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// The sources of `path`.
    pub sources: Vec<SourceSpec>,
    /// Methods it is narrowed to; empty: all.
    pub methods: Vec<http::Method>,
    /// Hosts it is narrowed to, lower-case, as [`host_is`] takes them; empty: all.
    pub hosts: Vec<String>,
    /// Index of the upstream.
    pub upstream: usize,
    /// What it needs.
    pub rule: Rule,
    /// `cache = "app"`.
    pub app_caches: bool,
    /// Line in the configuration file, for messages.
    pub line: Option<usize>,
}

/// One Next.js matcher source with its conditions.
#[derive(Clone, Debug, Default)]
pub struct SourceSpec {
    /// As `config.matcher` takes it: `/account/:path*`.
    pub source: String,
    /// Line in the configuration file, for messages.
    pub line: Option<usize>,
    /// All must hold.
    pub has: Vec<ConditionSpec>,
    /// None may hold.
    pub missing: Vec<ConditionSpec>,
    /// `locale: false` takes the source literally against the path with its locale.
    pub locale: bool,
}

/// One entry of `has` or `missing`.
#[derive(Clone, Debug)]
pub struct ConditionSpec {
    /// What is looked at.
    pub on: ConditionOn,
    /// A JavaScript regular expression anchored at both ends; without it, presence with a value counts.
    pub value: Option<String>,
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConditionOn {
    /// A header by name.
    Header(String),
    /// A cookie by name.
    Cookie(String),
    /// A query key.
    Query(String),
    /// The host.
    Host,
}

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

/// Whether `host` (lower-case, without port) is meant by `pattern`: that very name, or with `*.example.com` any name below it.
pub fn host_is(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host
            .strip_suffix(parent)
            .is_some_and(|label| label.len() > 1 && label.ends_with('.')),
        None => pattern == host,
    }
}

/// A route's place in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u32);

/// Something wrong with the routes of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it stops the configuration from being used.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The operator's next step.
    pub advice: &'static str,
    /// Where, in the configuration file.
    pub lines: Vec<usize>,
    /// The key it is about: `route[2].path[0]`, counting from zero.
    pub key: String,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It works, though probably not as meant.
    Warning,
}
