//! Holds a table of routes against the compiled matchers of an app's own `proxy.ts` or `middleware.ts`.
//!
//! Whatever they covered must turn strangers away now. Every route of the app, and every path it rewrites, is asked for in every
//! spelling Next.js serves it by, with every method and every condition either side looks at, both ways. Matchers and rules of whole
//! segments treat all values that neither of them names alike, so for these the values tried stand for all; for expressions of their
//! own they are a sample.

use std::collections::HashSet;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;

use crate::app::NextJs;
use crate::app::{App, Kind};
use crate::request::RequestView;
use crate::route::coverage::{ANY, fillings, meet, segments_of_page, spelled};
use crate::route::expression::Expression;
use crate::route::known::{LOCALE, without_locales};
use crate::route::pattern::{Matcher, Pattern, Segment};
use crate::route::table::RouteTable;
use crate::route::{ConditionOn, ConditionSpec, RouteId, Settings, SourceSpec};
use crate::target::Target;

/// Requests that are tried: a few seconds of work. Only an app of many thousand routes comes near.
const CASES_MAX: usize = 2_000_000;
/// Words of expressions that are put in place of parameters. What rules of whole segments spell out is tried besides, all of it.
const WORDS_MAX: usize = 32;
/// Conditions that are tried in every combination; of more, each is tried alone and all but each.
const CONDITIONS_MAX: usize = 5;
/// Hosts that are tried.
const HOSTS_MAX: usize = 8;

/// What the comparison found.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// One for each route and sense.
    pub differences: Vec<Difference>,
    /// Requests tried.
    pub cases: usize,
    /// Those of them the old matchers covered.
    pub covered: usize,
    /// What was tried with samples, and is therefore likely and not proven.
    pub unproven: Vec<String>,
    /// Old matchers that cover no route of the app in any spelling.
    pub idle: Vec<String>,
    /// Whether the bound on requests was hit: then not every route was looked at.
    pub cut_short: bool,
}

/// Where the old matchers and the new rules differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which way.
    pub sense: Sense,
    /// The route of the app.
    pub page: String,
    /// The route of the table that let the first of them through, or kept it back.
    pub route: Option<RouteId>,
    /// The first request that shows it.
    pub example: Example,
    /// How many requests show it.
    pub cases: usize,
}

/// Which way two policies differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sense {
    /// Covered before, open now.
    Looser,
    /// Covered before, open now, as the operator says the old code did.
    LetPass,
    /// Covered before, open now, because nobody could sign in otherwise: the old code had to let it pass.
    NeededToSignIn,
    /// Left alone before, protected now.
    Stricter,
    /// The same, though only in spellings no link uses: data and transport forms, escapes. Most of them lead nowhere.
    StricterSpelling,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Its method.
    pub method: Method,
    /// Its host; empty: any.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// Headers it carries.
    pub headers: Vec<(String, String)>,
}

/// What is compared.
pub struct Sides<'s> {
    /// The app, with its old matchers.
    pub app: &'s App,
    /// The new policy.
    pub table: &'s RouteTable,
    /// What it was made from.
    pub settings: &'s Settings,
    /// Hosts the gateway answers for.
    pub hosts: &'s [String],
    /// Sources of what the old code let everybody see although its matchers covered it.
    pub let_pass: &'s [String],
}

/// `has` and `missing` of a matcher, as the build writes them.
#[derive(Default, Deserialize)]
struct ConditionsFile {
    #[serde(default)]
    has: Vec<ConditionFile>,
    #[serde(default)]
    missing: Vec<ConditionFile>,
}

#[derive(Deserialize)]
struct ConditionFile {
    r#type: String,
    #[serde(default)]
    key: String,
    value: Option<String>,
}

/// Compares both.
///
/// # Errors
/// When the app has no matchers, or one of them cannot be run here.
pub fn compare(sides: &Sides<'_>) -> Result<Comparison, String> {
    let matchers = sides.app.matchers.as_deref().ok_or(
        "the build has no `proxy.ts` or `middleware.ts`: there is nothing to compare with",
    )?;
    let mut old = Vec::new();
    for matcher in matchers {
        let mut spec = conditions_of(matcher.conditions.as_deref())
            .map_err(|why| format!("the conditions of matcher `{}`: {why}", matcher.source))?;
        spec.source.clone_from(&matcher.source);
        old.push((matcher.regex.clone(), spec));
    }
    let nextjs = &sides.app.nextjs;
    let each = old
        .iter()
        .map(|one| {
            Matcher::compiled(std::slice::from_ref(one), nextjs)
                .map_err(|why| format!("matcher `{}` cannot be run: {why}", one.1.source))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let let_pass: Vec<SourceSpec> = sides
        .let_pass
        .iter()
        .map(|source| SourceSpec {
            source: source.clone(),
            locale: true,
            ..SourceSpec::default()
        })
        .collect();
    let let_pass = if let_pass.is_empty() {
        None
    } else {
        Some(Matcher::compile(&let_pass, nextjs)?)
    };
    let mut work = Work {
        sides,
        is_idle: vec![true; each.len()],
        each,
        let_pass,
        found: Comparison::default(),
    };
    let specs: Vec<&SourceSpec> = old
        .iter()
        .map(|(_, spec)| spec)
        .chain(sides.settings.routes.iter().flat_map(|r| &r.sources))
        .collect();
    work.find_unproven(&specs, old.len());
    work.run(&specs);
    let Work { is_idle, found, .. } = work;
    let mut found = found;
    found.idle = is_idle
        .iter()
        .zip(matchers)
        .filter(|(idle, _)| **idle)
        .map(|(_, matcher)| matcher.source.clone())
        .collect();
    found
        .differences
        .sort_by(|a, b| (a.sense, &a.page).cmp(&(b.sense, &b.page)));
    Ok(found)
}

struct Work<'s> {
    sides: &'s Sides<'s>,
    each: Vec<Matcher>,
    is_idle: Vec<bool>,
    let_pass: Option<Matcher>,
    found: Comparison,
}

/// Headers, query and host under which every condition is decided one way or the other.
#[derive(Clone, Default)]
struct Setting {
    headers: HeaderMap,
    shown: Vec<(String, String)>,
    query: String,
    host: Option<String>,
}

/// One request, before it is put together.
#[derive(Clone, Copy)]
struct Asked<'a> {
    target: &'a str,
    is_plain: bool,
    setting: &'a Setting,
    method: &'a Method,
    host: &'a str,
}

/// What the app answers at: a route, or a path it rewrites.
struct Place {
    /// What it is called in the app.
    name: String,
    segments: Vec<Segment>,
    /// Whether there is one of it in each locale.
    localized: bool,
}

impl Work<'_> {
    /// Everything the app answers at. A rewrite that is no row of whole segments below the base path cannot be tried.
    fn places(&mut self) -> Vec<Place> {
        let app = self.sides.app;
        let routes = app.routes.iter().map(|route| Place {
            name: route.page.clone(),
            segments: segments_of_page(route),
            localized: route.kind == Kind::PagesPage,
        });
        let mut places: Vec<Place> = routes.collect();
        let rewrites = &app.rewrites;
        let phases = [
            &rewrites.before_files,
            &rewrites.after_files,
            &rewrites.fallback,
        ];
        for rewrite in phases.into_iter().flatten() {
            let base = app.nextjs.base_path.trim_end_matches('/');
            let source = without_locales(&rewrite.source);
            let inner = source
                .strip_prefix(base)
                .filter(|inner| inner.is_empty() || inner.starts_with('/'));
            let locale = format!("/:{LOCALE}");
            let (inner, localized) = match inner.and_then(|inner| inner.strip_prefix(&locale)) {
                Some(inner) => (Some(inner), true),
                None => (inner, false),
            };
            let segments = inner.and_then(|inner| {
                let inner = if inner.is_empty() { "/" } else { inner };
                Some(Pattern::parse(inner).ok()?.segments()?.to_vec())
            });
            match segments {
                Some(segments) => places.push(Place {
                    name: rewrite.source.clone(),
                    segments,
                    localized,
                }),
                None => self.found.unproven.push(format!(
                    "the app rewrites `{}`, an expression of its own: it was not tried",
                    rewrite.source
                )),
            }
        }
        places
    }

    fn find_unproven(&mut self, specs: &[&SourceSpec], old: usize) {
        for (index, spec) in specs.iter().enumerate() {
            let whose = if index < old { "matcher" } else { "rule" };
            let is_whole = Pattern::parse(&spec.source).is_ok_and(|p| p.segments().is_some());
            if !is_whole {
                self.found.unproven.push(format!(
                    "{whose} `{}` is an expression of its own: values were sampled",
                    spec.source
                ));
            }
            for condition in spec.has.iter().chain(&spec.missing) {
                if witness(condition).is_none() {
                    self.found.unproven.push(format!(
                        "{whose} `{}`: no value was found that meets the condition `{}`",
                        spec.source,
                        condition.value.as_deref().unwrap_or_default()
                    ));
                }
            }
        }
    }

    fn run(&mut self, specs: &[&SourceSpec]) {
        let places = self.places();
        let mut methods = vec![Method::GET, Method::HEAD, Method::POST];
        for method in self.sides.settings.routes.iter().flat_map(|r| &r.methods) {
            if !methods.contains(method) {
                methods.push(method.clone());
            }
        }
        // One that no rule names stands for all others.
        let others = [Method::PUT, Method::PATCH, Method::DELETE];
        let other = others.into_iter().find(|other| !methods.contains(other));
        methods.extend(other.or_else(|| Method::from_bytes(b"ANY-OTHER").ok()));
        let mut hosts: Vec<String> = self.sides.hosts.to_vec();
        let named = self.sides.settings.routes.iter().flat_map(|r| &r.hosts);
        for host in named.map(|host| host.replacen("*.", "any.", 1)) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        if hosts.is_empty() {
            hosts.push(String::new());
        }
        if hosts.len() > HOSTS_MAX {
            self.found.unproven.push(format!(
                "only {HOSTS_MAX} of {} hosts were tried",
                hosts.len()
            ));
            hosts.truncate(HOSTS_MAX);
        }
        let (settings, is_every) = settings(specs);
        if !is_every {
            self.found.unproven.push(format!(
                "more than {CONDITIONS_MAX} conditions: not every combination of them was tried"
            ));
        }
        let words = words(specs);
        let mut values: Vec<&str> = vec![ANY, "_any-value_.png", "1"];
        values.extend(words.iter().map(String::as_str));
        let app = self.sides.app;
        let rules: Vec<Vec<Segment>> = specs.iter().flat_map(|spec| segments_of(spec)).collect();
        for place in &places {
            let mut paths = fillings(&place.segments, &values);
            let mut known: HashSet<Vec<String>> = paths.iter().cloned().collect();
            let own = std::iter::once(&place.segments);
            for met in own
                .chain(&rules)
                .filter_map(|rule| meet(&place.segments, rule))
            {
                if known.insert(met.clone()) {
                    paths.push(met);
                }
            }
            for parts in paths {
                let spellings = aliases(&parts, &app.nextjs, &app.build_id, place.localized);
                for (index, target) in spellings.iter().enumerate() {
                    // The first is the path as a link has it.
                    let is_plain = index == 0;
                    for setting in &settings {
                        for method in &methods {
                            for host in &hosts {
                                if self.found.cases >= CASES_MAX {
                                    self.found.cut_short = true;
                                    return;
                                }
                                let asked = Asked {
                                    target,
                                    is_plain,
                                    setting,
                                    method,
                                    host,
                                };
                                self.case(&place.name, &asked);
                            }
                        }
                    }
                }
            }
        }
    }

    fn case(&mut self, page: &str, asked: &Asked<'_>) {
        let Asked {
            target: path,
            setting,
            method,
            ..
        } = *asked;
        let text = if setting.query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", setting.query)
        };
        // What is refused reaches no app: nothing is stricter than that, and there is nothing to compare.
        let Ok(target) = Target::parse(text.as_bytes()) else {
            return;
        };
        let host = setting.host.as_deref().unwrap_or(asked.host);
        let request = RequestView {
            method,
            target,
            host,
            headers: &setting.headers,
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        self.found.cases += 1;
        let mut was_covered = false;
        for (matcher, idle) in self.each.iter().zip(&mut self.is_idle) {
            if (!was_covered || *idle) && matcher.covers(&request) {
                was_covered = true;
                *idle = false;
            }
        }
        self.found.covered += usize::from(was_covered);
        let table = self.sides.table;
        let (is_protected, by) = match table.find(&request) {
            Err(_) => (true, None),
            Ok(found) => {
                let keeper = found.all().find(|id| table.route(*id).rule.need.protects());
                (keeper.is_some(), Some(keeper.unwrap_or(found.primary)))
            }
        };
        let sense = match (was_covered, is_protected) {
            (true, false) => {
                let built_in = by.and_then(|id| table.route(id).built_in);
                let passed = self.let_pass.as_ref();
                match built_in {
                    Some("auth endpoints" | "sign-in page" | "static assets") => {
                        Sense::NeededToSignIn
                    }
                    _ if passed.is_some_and(|matcher| matcher.covers(&request)) => Sense::LetPass,
                    _ => Sense::Looser,
                }
            }
            (false, true) if asked.is_plain => Sense::Stricter,
            (false, true) => Sense::StricterSpelling,
            (true, true) | (false, false) => return,
        };
        let known = self
            .found
            .differences
            .iter_mut()
            .find(|known| known.sense == sense && known.page == page);
        if let Some(known) = known {
            known.cases += 1;
            return;
        }
        self.found.differences.push(Difference {
            sense,
            page: page.to_owned(),
            route: by,
            example: Example {
                method: method.clone(),
                host: host.to_owned(),
                target: text,
                headers: setting.shown.clone(),
            },
            cases: 1,
        });
    }
}

/// Every spelling by which Next.js, or a platform in front of it, serves a path; the one of links first.
fn aliases(parts: &[String], nextjs: &NextJs, build: &str, localized: bool) -> Vec<String> {
    let base = nextjs.base_path.trim_end_matches('/');
    let path = spelled(parts);
    let mut inner = vec![path.clone()];
    if localized {
        for locale in &nextjs.locales {
            for locale in [locale.clone(), locale.to_ascii_uppercase()] {
                let under = if path == "/" { "" } else { path.as_str() };
                inner.push(format!("/{locale}{under}"));
            }
        }
    }
    let mut all: Vec<String> = Vec::new();
    for path in &inner {
        let page = if path == "/" { "/index" } else { path };
        let stem = if path == "/" { "" } else { path };
        for suffix in [
            "",
            "/",
            ".json",
            ".rsc",
            ".segments/_tree.segment.rsc",
            ".segments/__PAGE__.segment.rsc",
            ";x=1",
        ] {
            all.push(match (suffix, stem) {
                ("" | "/", "") => format!("{base}/"),
                (".json" | ".rsc", "") => format!("{base}/index{suffix}"),
                (_, "") => format!("{base}/index{suffix}"),
                _ => format!("{base}{stem}{suffix}"),
            });
        }
        if path == "/" {
            all.push(format!("{base}/index"));
            all.extend((!base.is_empty()).then(|| base.to_owned()));
        }
        for build in [build, "another-build"] {
            all.push(format!("{base}/_next/data/{build}{page}.json"));
        }
        all.extend(
            escaped(stem)
                .into_iter()
                .map(|path| format!("{base}{path}")),
        );
        let encoded = escaped(page);
        all.extend(
            encoded
                .into_iter()
                .map(|page| format!("{base}/_next/data/{build}{page}.json")),
        );
    }
    let mut seen = HashSet::new();
    all.retain(|path| seen.insert(path.clone()));
    all
}

/// The path with letters spelt as escapes: its first, the first of its last segment, and a slash.
fn escaped(path: &str) -> Vec<String> {
    let mut all = Vec::new();
    let starts = [path.find('/'), path.rfind('/')];
    for at in starts.into_iter().flatten() {
        let (head, tail) = path.split_at(at + 1);
        let mut letters = tail.chars();
        if let Some(letter) = letters.next().filter(char::is_ascii_alphanumeric) {
            let rest = letters.as_str();
            all.push(format!("{head}%{:02x}{rest}", u32::from(letter)));
            all.push(format!("{head}%{:02X}{rest}", u32::from(letter)));
        }
    }
    if let Some(at) = path.rfind('/').filter(|at| *at > 0) {
        let (head, tail) = path.split_at(at);
        let tail = tail.strip_prefix('/').unwrap_or(tail);
        all.push(format!("{head}%2f{tail}"));
    }
    all
}

/// The whole segments of a source; of one that spells its locale out, also those behind it.
fn segments_of(spec: &SourceSpec) -> Vec<Vec<Segment>> {
    let parsed = Pattern::parse(&spec.source).ok();
    let Some(segments) = parsed.as_ref().and_then(Pattern::segments) else {
        return Vec::new();
    };
    let behind = segments.get(1..).filter(|_| !spec.locale);
    let mut all = vec![segments.to_vec()];
    all.extend(behind.map(<[Segment]>::to_vec));
    all
}

/// Words that sources name: values that may make a difference.
fn words(specs: &[&SourceSpec]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for spec in specs {
        let letters = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        for (index, part) in spec.source.split(letters).enumerate() {
            let is_name = index > 0
                && spec
                    .source
                    .find(part)
                    .and_then(|at| spec.source.get(..at))
                    .is_some_and(|before| before.ends_with(':'));
            if part.len() > 1 && !is_name && !words.iter().any(|known| known == part) {
                words.push(part.to_owned());
            }
        }
    }
    words.truncate(WORDS_MAX);
    words
}

fn conditions_of(json: Option<&str>) -> Result<SourceSpec, String> {
    let file: ConditionsFile = match json {
        Some(text) => serde_json::from_str(text).map_err(|error| error.to_string())?,
        None => ConditionsFile::default(),
    };
    let all = |list: Vec<ConditionFile>| {
        list.into_iter()
            .map(|entry| {
                let on = match entry.r#type.as_str() {
                    "header" => ConditionOn::Header(entry.key.to_ascii_lowercase()),
                    "cookie" => ConditionOn::Cookie(entry.key),
                    "query" => ConditionOn::Query(entry.key),
                    "host" => ConditionOn::Host,
                    other => return Err(format!("a condition on `{other}` is not known")),
                };
                Ok(ConditionSpec {
                    on,
                    value: entry.value,
                })
            })
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(SourceSpec {
        has: all(file.has)?,
        missing: all(file.missing)?,
        locale: true,
        ..SourceSpec::default()
    })
}

/// A value that meets a condition.
fn witness(condition: &ConditionSpec) -> Option<String> {
    let Some(value) = condition.value.as_deref().filter(|value| !value.is_empty()) else {
        return Some(match condition.on {
            ConditionOn::Host => "any.example".to_owned(),
            _ => "1".to_owned(),
        });
    };
    let expression = Expression::compile(&format!("^{value}$")).ok()?;
    let plain: String = value.replace('\\', "");
    let mut tried = vec![plain, "1".to_owned(), "true".to_owned(), "x".to_owned()];
    // The words of an alternative, and what they begin.
    for part in value.split(|c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c))) {
        tried.extend([part.to_owned(), format!("{part}x"), format!("x{part}")]);
    }
    tried
        .into_iter()
        .filter(|text| !text.is_empty())
        .find(|text| expression.matches(text).or(false))
}

/// The ways the conditions of both sides can be met or not, and whether these are all.
fn settings(specs: &[&SourceSpec]) -> (Vec<Setting>, bool) {
    let mut conditions: Vec<(ConditionOn, String)> = Vec::new();
    for condition in specs.iter().flat_map(|s| s.has.iter().chain(&s.missing)) {
        if let Some(value) = witness(condition) {
            let one = (condition.on.clone(), value);
            if !conditions.contains(&one) {
                conditions.push(one);
            }
        }
    }
    let count = conditions.len();
    let all: Vec<usize> = (0..count).collect();
    let chosen: Vec<Vec<usize>> = if count <= CONDITIONS_MAX {
        (0..1_usize << count)
            .map(|set| all.iter().copied().filter(|i| set >> i & 1 == 1).collect())
            .collect()
    } else {
        let but = |one: usize| all.iter().copied().filter(move |i| *i != one).collect();
        std::iter::once(Vec::new())
            .chain(all.iter().map(|one| vec![*one]))
            .chain(all.iter().map(|one| but(*one)))
            .chain(std::iter::once(all.clone()))
            .collect()
    };
    let settings = chosen
        .iter()
        .map(|set| {
            let mut setting = Setting::default();
            let mut cookies = Vec::new();
            for (on, value) in set.iter().filter_map(|index| conditions.get(*index)) {
                match on {
                    ConditionOn::Header(name) => setting.carry(name, value),
                    ConditionOn::Cookie(name) => cookies.push(format!("{name}={value}")),
                    ConditionOn::Query(key) => {
                        let mut query =
                            url::form_urlencoded::Serializer::new(setting.query.clone());
                        setting.query = query.append_pair(key, value).finish();
                    }
                    ConditionOn::Host => setting.host = Some(value.clone()),
                }
            }
            if !cookies.is_empty() {
                setting.carry("cookie", &cookies.join("; "));
            }
            setting
        })
        .collect();
    (settings, count <= CONDITIONS_MAX)
}

impl Setting {
    fn carry(&mut self, name: &str, value: &str) {
        let pair = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        );
        if let (Ok(header), Ok(content)) = pair {
            self.headers.insert(header, content);
            self.shown.push((name.to_owned(), value.to_owned()));
        }
    }
}
