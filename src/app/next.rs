//! Reads the manifests of a Next.js build. They are Next's own and undocumented: versions 15 and 16 are read, whatever builds them.
//!
//! What cannot be read is an error and never an app without routes: whoever asks keeps what it knew, or does not start.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::actions::ActionList;
use super::paths::{Domain, NextJs, PREFETCH, RSC, SEGMENT, SEGMENTS};
use super::{App, AppRoute, Files, Images, Kind, Matcher, Redirect, Rewrite, Unreadable};

/// The folder of the build below the app's, unless `distDir` says otherwise.
pub const BUILD_FOLDER: &str = ".next";
/// Every manifest that is read, below the folder of the build. When one of them changes, the app was built again.
pub const MANIFESTS: [&str; 10] = [
    BUILD_ID, REQUIRED, ROUTES, APP_PATHS, PRERENDER, IMAGES, PAGES, FUNCTIONS, MIDDLEWARE, ACTIONS,
];
/// Versions of `routes-manifest.json` that are known.
const ROUTES_VERSIONS: [u64; 1] = [3];
/// Routes an app may have; each takes a place in the index. The largest sites have a few thousand, `public/` some ten thousand files.
const ROUTES_MAX: usize = 200_000;
/// Rewrites and redirects, each; Next.js itself warns from a thousand on.
const REWRITES_MAX: usize = 10_000;
/// What a prefetch of a part of a page is called, and how a page's other forms end: as the readings of a target know them.
const SUFFIXES: [(&str, &str); 4] = [
    ("suffix", RSC),
    ("prefetchSuffix", PREFETCH),
    ("prefetchSegmentSuffix", SEGMENT),
    ("prefetchSegmentDirSuffix", SEGMENTS),
];

const BUILD_ID: &str = "BUILD_ID";
const REQUIRED: &str = "required-server-files.json";
const ROUTES: &str = "routes-manifest.json";
const APP_PATHS: &str = "app-path-routes-manifest.json";
const PRERENDER: &str = "prerender-manifest.json";
const IMAGES: &str = "images-manifest.json";
const PAGES: &str = "server/pages-manifest.json";
const FUNCTIONS: &str = "server/functions-config-manifest.json";
const MIDDLEWARE: &str = "server/middleware-manifest.json";
const ACTIONS: &str = "server/server-reference-manifest.json";

const BUILD_AGAIN: &str =
    "build the app again; if it stays, this version of Next.js is not known yet";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoutesFile {
    version: u64,
    #[serde(default)]
    base_path: String,
    #[serde(default)]
    case_sensitive: bool,
    i18n: Option<I18n>,
    redirects: Vec<RuleOfPaths>,
    rewrites: Option<RewritesOfFile>,
    dynamic_routes: Vec<PageOfFile>,
    static_routes: Vec<PageOfFile>,
    #[serde(default)]
    data_routes: Vec<DataRoute>,
    #[serde(default)]
    rsc: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageOfFile {
    page: String,
    /// An address for platforms in front, which the server itself does not know.
    #[serde(default)]
    skip_internal_routing: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataRoute {
    page: String,
    data_route_regex: String,
}

#[derive(Deserialize)]
struct RuleOfPaths {
    source: String,
    #[serde(default)]
    destination: String,
    regex: String,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    has: Vec<IgnoredAny>,
    #[serde(default)]
    missing: Vec<IgnoredAny>,
}

/// An array of them stands for `afterFiles`.
#[derive(Deserialize)]
#[serde(untagged)]
enum RewritesOfFile {
    Array(Vec<RuleOfPaths>),
    #[serde(rename_all = "camelCase")]
    Phases {
        before_files: Vec<RuleOfPaths>,
        after_files: Vec<RuleOfPaths>,
        fallback: Vec<RuleOfPaths>,
    },
}

#[derive(Deserialize, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct I18n {
    locales: Vec<String>,
    default_locale: String,
    #[serde(default)]
    domains: Vec<DomainOfFile>,
}

#[derive(Deserialize, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct DomainOfFile {
    domain: String,
    default_locale: String,
}

#[derive(Deserialize)]
struct RequiredFile {
    config: Config,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    dist_dir: String,
    #[serde(default)]
    base_path: String,
    #[serde(default)]
    trailing_slash: bool,
    i18n: Option<I18n>,
    images: Option<ImagesOfConfig>,
}

#[derive(Deserialize)]
struct ImagesOfConfig {
    path: String,
}

#[derive(Deserialize)]
struct ImagesFile {
    images: ImagesOfFile,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImagesOfFile {
    path: String,
    local_patterns: Option<Vec<LocalPattern>>,
}

#[derive(Deserialize)]
struct LocalPattern {
    #[serde(default)]
    pathname: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PrerenderFile {
    routes: BTreeMap<String, Prerendered>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prerendered {
    #[serde(default)]
    data_route: Option<String>,
    #[serde(default)]
    prefetch_data_route: Option<String>,
}

#[derive(Deserialize)]
struct MiddlewareFile {
    #[serde(default)]
    middleware: BTreeMap<String, MiddlewareOfFile>,
}

#[derive(Deserialize)]
struct FunctionsFile {
    #[serde(default)]
    functions: BTreeMap<String, MiddlewareOfFile>,
}

#[derive(Deserialize)]
struct MiddlewareOfFile {
    matchers: Option<Vec<MatcherOfFile>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MatcherOfFile {
    regexp: String,
    original_source: String,
    has: Option<serde_json::Value>,
    missing: Option<serde_json::Value>,
    locale: Option<bool>,
}

/// Reads an app's build. Paths are relative to the app's folder, which may be one made by `output: "standalone"`.
///
/// # Errors
/// When it was never built, is being built, or a manifest is none that we know.
pub fn read(files: &dyn Files) -> Result<App, Unreadable> {
    let folder = build_folder(files)?;
    let build = Build {
        files,
        folder: &folder,
    };
    let build_id = build.text(BUILD_ID)?.trim().to_owned();
    let manifest: RoutesFile = build.must(ROUTES)?;
    if !ROUTES_VERSIONS.contains(&manifest.version) {
        return Err(build.wrong(
            ROUTES,
            &format!("its version is {}", manifest.version),
            "this version of Next.js is not known yet: 15 and 16 are",
        ));
    }
    build.check_suffixes(&manifest, &build_id)?;
    let config = build
        .maybe::<RequiredFile>(REQUIRED)?
        .map(|file| file.config);
    let nextjs = build.nextjs(&manifest, config.as_ref())?;
    let mut routes = build.routes(&manifest, &nextjs)?;
    build.public_files(&mut routes)?;
    if routes.is_empty() {
        return Err(build.wrong(ROUTES, "the build names no route at all", BUILD_AGAIN));
    }
    if routes.len() > ROUTES_MAX {
        return Err(build.wrong(ROUTES, "the app has too many routes", BUILD_AGAIN));
    }
    let mut app = App {
        build_id,
        nextjs,
        routes,
        matchers: build.matchers()?,
        images: build.images(config.as_ref())?,
        case_sensitive: manifest.case_sensitive,
        ..App::default()
    };
    build.take_rules(manifest, &mut app)?;
    match build.maybe::<ActionList>(ACTIONS)? {
        Some(list) => app.actions = list.actions(),
        // Every build of an app router has one, empty as it may be. Without it the actions of all pages would be anybody's.
        None if files.read(&build.path(APP_PATHS))?.is_some() => {
            return Err(build.wrong(ACTIONS, "it is missing", BUILD_AGAIN));
        }
        None => {}
    }
    Ok(app)
}

/// The folder of the build below the app's: `.next`, or the one whose own configuration calls it `distDir`.
///
/// # Errors
/// When there is none, or more than one.
pub fn build_folder(files: &dyn Files) -> Result<String, Unreadable> {
    let id = |folder: &str| files.read(&format!("{folder}/{BUILD_ID}"));
    let mut found = Vec::new();
    // Where the other one is served, this is what was left of a time before `distDir`.
    if id(BUILD_FOLDER)?.is_some() {
        found.push(BUILD_FOLDER.to_owned());
    }
    let mut open = vec![String::new()];
    while let Some(parent) = open.pop() {
        for name in files.folders(&parent)? {
            // Nobody builds there, and it is large.
            if matches!(
                name.as_str(),
                "node_modules" | "public" | ".git" | BUILD_FOLDER
            ) {
                continue;
            }
            let folder = if parent.is_empty() {
                name
            } else {
                format!("{parent}/{name}")
            };
            if id(&folder)?.is_none() {
                // `distDir: "build/next"` is as deep as people go.
                if parent.is_empty() {
                    open.push(folder);
                }
                continue;
            }
            let Some(text) = files.read(&format!("{folder}/{REQUIRED}"))? else {
                continue;
            };
            let file: RequiredFile = parse(&format!("{folder}/{REQUIRED}"), &text)?;
            let named = file.config.dist_dir.replace('\\', "/");
            let named = named.trim_start_matches("./").trim_end_matches('/');
            if named == folder {
                found.push(folder);
            }
        }
    }
    match (found.pop(), found.pop()) {
        (Some(one), None) => Ok(one),
        (Some(one), Some(other)) => Err(Unreadable {
            message: format!("there are two builds: `{one}` and `{other}`"),
            advice: "remove the one that is not served",
        }),
        (None, _) => Err(Unreadable {
            message: "there is no build: `.next/BUILD_ID` is missing".to_owned(),
            advice: "build the app first (`next build`), or name the folder that holds `.next`",
        }),
    }
}

struct Build<'b> {
    files: &'b dyn Files,
    folder: &'b str,
}

impl Build<'_> {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn wrong(&self, name: &str, what: &str, advice: &'static str) -> Unreadable {
        Unreadable {
            message: format!("`{}`: {what}", self.path(name)),
            advice,
        }
    }

    fn text(&self, name: &str) -> Result<String, Unreadable> {
        self.files
            .read(&self.path(name))?
            .ok_or_else(|| self.wrong(name, "it is missing", BUILD_AGAIN))
    }

    fn must<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Unreadable> {
        parse(&self.path(name), &self.text(name)?)
    }

    fn maybe<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Unreadable> {
        let path = self.path(name);
        self.files
            .read(&path)?
            .map(|text| parse(&path, &text))
            .transpose()
    }

    /// A form of a page that we do not read as that page would be a way past its rule.
    fn check_suffixes(&self, manifest: &RoutesFile, build_id: &str) -> Result<(), Unreadable> {
        let unknown = |name: &str, what: String| {
            self.wrong(
                name,
                &what,
                "this version of Next.js spells pages in a way that is not known yet: rules would not cover it",
            )
        };
        for (key, value) in &manifest.rsc {
            let Some(text) = value.as_str().filter(|_| key.ends_with("uffix")) else {
                continue;
            };
            let known = SUFFIXES.contains(&(key.as_str(), text));
            if !known {
                return Err(unknown(ROUTES, format!("`rsc.{key}` is `{text}`")));
            }
        }
        let data = format!("/_next/data/{build_id}/");
        for route in &manifest.data_routes {
            // Expressions escape some letters; without them they spell the address.
            if !route.data_route_regex.replace('\\', "").contains(&data) {
                let what = format!(
                    "the data of `{}` belongs to another build than `{build_id}`",
                    route.page
                );
                return Err(self.wrong(ROUTES, &what, BUILD_AGAIN));
            }
        }
        let Some(file) = self.maybe::<PrerenderFile>(PRERENDER)? else {
            return Ok(());
        };
        for page in file.routes.values() {
            let forms = page.data_route.iter().chain(&page.prefetch_data_route);
            if let Some(form) = forms
                .into_iter()
                .find(|form| !form.ends_with(".rsc") && !form.ends_with(".json"))
            {
                return Err(unknown(PRERENDER, format!("a page is also at `{form}`")));
            }
        }
        Ok(())
    }

    fn nextjs(&self, manifest: &RoutesFile, config: Option<&Config>) -> Result<NextJs, Unreadable> {
        let base_path = manifest.base_path.trim_end_matches('/');
        let i18n = manifest.i18n.as_ref();
        if let Some(config) = config
            && (config.base_path.trim_end_matches('/') != base_path || config.i18n.as_ref() != i18n)
        {
            let what = format!("it contradicts `{ROUTES}` about `basePath` or `i18n`");
            return Err(self.wrong(REQUIRED, &what, BUILD_AGAIN));
        }
        // The redirect that puts slashes at the end is Next's own.
        let adds_slashes = |rule: &RuleOfPaths| {
            rule.internal && !rule.source.ends_with('/') && rule.destination.ends_with('/')
        };
        Ok(NextJs {
            base_path: base_path.to_owned(),
            locales: i18n.map_or_else(Vec::new, |i18n| i18n.locales.clone()),
            default_locale: i18n.map(|i18n| i18n.default_locale.clone()),
            trailing_slash: config.map_or_else(
                || manifest.redirects.iter().any(adds_slashes),
                |config| config.trailing_slash,
            ),
            domains: i18n.map_or_else(Vec::new, |i18n| {
                let domains = i18n.domains.iter();
                let domain = |each: &DomainOfFile| Domain {
                    host: host_of(&each.domain),
                    default_locale: each.default_locale.clone(),
                };
                domains.map(domain).collect()
            }),
        })
    }

    fn routes(&self, manifest: &RoutesFile, nextjs: &NextJs) -> Result<Vec<AppRoute>, Unreadable> {
        let mut seen = BTreeSet::new();
        let mut routes = Vec::new();
        let mut add = |page: String, kind: Kind| {
            if is_address(&page) && seen.insert(page.clone()) {
                routes.push(AppRoute {
                    source: source_of(&page),
                    page,
                    kind,
                });
            }
        };
        // An app without an `app` folder has none.
        let served = self.maybe::<BTreeMap<String, String>>(APP_PATHS)?;
        for (file, page) in served.unwrap_or_default() {
            let kind = if file.ends_with("/route") {
                Kind::Handler
            } else {
                Kind::Page
            };
            add(page, kind);
        }
        for (page, file) in self.must::<BTreeMap<String, String>>(PAGES)? {
            // Pages that were written out stand there once for each locale.
            let page = match nextjs.locales.iter().find(|l| begins_with(&page, l)) {
                Some(locale) if file.ends_with(".html") => page
                    .get(1 + locale.len()..)
                    .filter(|rest| !rest.is_empty())
                    .unwrap_or("/")
                    .to_owned(),
                _ => page,
            };
            let kind = if begins_with(&page, "api") {
                Kind::PagesApi
            } else {
                Kind::PagesPage
            };
            add(page, kind);
        }
        // Nothing that the server routes to may be missing above. If it ever is, it is known all the same.
        for route in manifest
            .dynamic_routes
            .iter()
            .chain(&manifest.static_routes)
        {
            if !route.skip_internal_routing {
                add(route.page.clone(), Kind::Page);
            }
        }
        Ok(routes)
    }

    /// What lies in `public/`, and in the `static/` of old times.
    fn public_files(&self, routes: &mut Vec<AppRoute>) -> Result<(), Unreadable> {
        for (folder, prefix) in [("public", ""), ("static", "/static")] {
            let mut files = self.files.list(folder)?;
            files.sort_unstable();
            routes.extend(files.into_iter().map(|file| {
                let page = format!("{prefix}/{file}");
                AppRoute {
                    source: escaped(&page),
                    page,
                    kind: Kind::PublicFile,
                }
            }));
        }
        Ok(())
    }

    fn images(&self, config: Option<&Config>) -> Result<Images, Unreadable> {
        if let Some(file) = self.maybe::<ImagesFile>(IMAGES)? {
            let patterns = file.images.local_patterns;
            return Ok(Images {
                path: file.images.path,
                local: patterns.map(|patterns| {
                    let paths = patterns.into_iter().filter_map(|pattern| pattern.pathname);
                    paths.collect()
                }),
            });
        }
        let path = config.and_then(|config| config.images.as_ref());
        Ok(Images {
            path: path.map_or_else(|| "/_next/image".to_owned(), |images| images.path.clone()),
            local: None,
        })
    }

    fn matchers(&self) -> Result<Option<Vec<Matcher>>, Unreadable> {
        let edge = self.maybe::<MiddlewareFile>(MIDDLEWARE)?;
        let node = self.maybe::<FunctionsFile>(FUNCTIONS)?;
        let edge = edge.and_then(|mut file| file.middleware.remove("/"));
        let node = node.and_then(|mut file| file.functions.remove("/_middleware"));
        let Some(found) = edge.or(node) else {
            return Ok(None);
        };
        let everything = || {
            vec![MatcherOfFile {
                regexp: ".*".to_owned(),
                original_source: "/:path*".to_owned(),
                has: None,
                missing: None,
                locale: None,
            }]
        };
        let matchers = found.matchers.unwrap_or_else(everything).into_iter();
        let matcher = |each: MatcherOfFile| {
            let mut conditions = serde_json::Map::new();
            let of_path = each.locale.filter(|locale| !locale).map(Into::into);
            for (key, value) in [
                ("has", each.has),
                ("missing", each.missing),
                ("locale", of_path),
            ] {
                if let Some(value) = value {
                    conditions.insert(key.to_owned(), value);
                }
            }
            Matcher {
                source: each.original_source,
                regex: each.regexp,
                conditions: (!conditions.is_empty())
                    .then(|| serde_json::Value::Object(conditions).to_string()),
            }
        };
        Ok(Some(matchers.map(matcher).collect()))
    }

    fn take_rules(&self, manifest: RoutesFile, app: &mut App) -> Result<(), Unreadable> {
        let redirects = manifest.redirects.into_iter().filter(|rule| !rule.internal);
        app.redirects = redirects
            .map(|rule| Redirect {
                is_conditional: !rule.has.is_empty() || !rule.missing.is_empty(),
                source: rule.source,
                regex: rule.regex,
            })
            .collect();
        let (before, after, fallback) = match manifest.rewrites {
            None => (Vec::new(), Vec::new(), Vec::new()),
            Some(RewritesOfFile::Array(after)) => (Vec::new(), after, Vec::new()),
            Some(RewritesOfFile::Phases {
                before_files,
                after_files,
                fallback,
            }) => (before_files, after_files, fallback),
        };
        let taken = |rules: Vec<RuleOfPaths>| {
            rules
                .into_iter()
                // A route that intercepts another shows at that one's address, under that one's rule.
                .filter(|rule| !intercepts(&rule.destination))
                .map(|rule| Rewrite {
                    is_conditional: !rule.has.is_empty() || !rule.missing.is_empty(),
                    source: rule.source,
                    destination: rule.destination,
                    regex: rule.regex,
                })
                .collect()
        };
        app.rewrites.before_files = taken(before);
        app.rewrites.after_files = taken(after);
        app.rewrites.fallback = taken(fallback);
        let rewrites = &app.rewrites;
        let count =
            rewrites.before_files.len() + rewrites.after_files.len() + rewrites.fallback.len();
        if count > REWRITES_MAX || app.redirects.len() > REWRITES_MAX {
            return Err(self.wrong(ROUTES, "it has too many rewrites or redirects", BUILD_AGAIN));
        }
        Ok(())
    }
}

/// Whether a page has an address of its own.
fn is_address(page: &str) -> bool {
    const INTERNAL: [&str; 8] = [
        "/_app",
        "/_document",
        "/_error",
        "/_not-found",
        "/_global-error",
        "/404",
        "/500",
        "/_offline",
    ];
    page.starts_with('/') && !INTERNAL.contains(&page) && !intercepts(page) && !page.contains("/@")
}

/// Whether a path goes to a route that intercepts another: `(.)photo`, `(..)photo`, `(...)photo`.
fn intercepts(path: &str) -> bool {
    path.split('/').any(|part| {
        // Destinations escape the marks.
        let part = part.replace('\\', "");
        ["(.)", "(..)", "(...)"]
            .iter()
            .any(|mark| part.starts_with(mark))
    })
}

/// Whether the first segment of a path is this.
fn begins_with(path: &str, first: &str) -> bool {
    path.split('/').nth(1) == Some(first)
}

fn host_of(domain: &str) -> String {
    let host = domain.split(':').next().unwrap_or_default();
    host.to_ascii_lowercase()
}

/// What a segment of a page's path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'p> {
    /// `dashboard`
    Fixed(&'p str),
    /// `[id]`
    One(&'p str),
    /// `[...path]`
    Some(&'p str),
    /// `[[...path]]`
    Any(&'p str),
}

/// The segments of a page's path.
pub fn parts(page: &str) -> impl Iterator<Item = Part<'_>> {
    page.split('/').filter(|part| !part.is_empty()).map(|part| {
        let inside =
            |open: &str, close: &str| part.strip_prefix(open).and_then(|p| p.strip_suffix(close));
        if let Some(name) = inside("[[...", "]]") {
            Part::Any(name)
        } else if let Some(name) = inside("[...", "]") {
            Part::Some(name)
        } else if let Some(name) = inside("[", "]") {
            Part::One(name)
        } else {
            Part::Fixed(part)
        }
    })
}

/// `/docs/[...path]` as a source: `/docs/:path+`.
pub fn source_of(page: &str) -> String {
    // Names in folders may hold what names in sources may not: `[post-id]`.
    let plain = |name: &str| {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        name.chars().map(letter).collect::<String>()
    };
    let source: String = parts(page)
        .map(|part| match part {
            Part::Fixed(text) => format!("/{}", escaped(text)),
            Part::One(name) => format!("/:{}", plain(name)),
            Part::Some(name) => format!("/:{}+", plain(name)),
            Part::Any(name) => format!("/:{}*", plain(name)),
        })
        .collect();
    if source.is_empty() {
        "/".to_owned()
    } else {
        source
    }
}

/// A path as a source: letters that mean something there are escaped.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for letter in path.chars() {
        if r":*+?(){}\".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

fn parse<T: serde::de::DeserializeOwned>(path: &str, text: &str) -> Result<T, Unreadable> {
    // The reader of shapes would take an array for a record.
    if !text.trim_start().starts_with('{') {
        return Err(Unreadable {
            message: format!("`{path}` is no manifest we know: it holds no record"),
            advice: BUILD_AGAIN,
        });
    }
    serde_json::from_str(text).map_err(|error| Unreadable {
        // A message of the parser may quote a value, and one manifest holds a key.
        message: format!(
            "`{path}` is no manifest we know: {:?} error at line {}, column {}",
            error.classify(),
            error.line(),
            error.column()
        ),
        advice: BUILD_AGAIN,
    })
}
