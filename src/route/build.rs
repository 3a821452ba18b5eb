//! From settings to a table, with every problem found on the way.

use http::{HeaderMap, Method};

use crate::app::NextJs;
use crate::policy::{Need, Rule};
use crate::request::RequestView;
use crate::route::condition::Conditions;
use crate::route::expression::Expression;
use crate::route::index::{Index, Rank, Specificity};
use crate::route::pattern::{Pattern, Segment};
use crate::route::reading::{ANY_FORM, FULL, INNER, Spelled, WIRE};
use crate::route::table::{Custom, Entry, RouteTable};
use crate::route::{
    ConditionSpec, Problem, Route, RouteId, RouteSpec, Settings, Severity, SourceSpec, host_is,
};
use crate::session::Freshness;
use crate::target::Target;

/// One source on its way into the table.
struct Draft {
    route: RouteId,
    spec: Option<(usize, usize)>,
    line: Option<usize>,
    segments: Option<Vec<Segment>>,
    expression: Option<Expression>,
    entry: Entry,
    conditions_text: String,
    source: String,
    /// The base path and the whole fixed segments the source begins with.
    fixed: Vec<Segment>,
}

struct Builder<'s> {
    settings: &'s Settings,
    nextjs: NextJs,
    routes: Vec<Route>,
    drafts: Vec<Draft>,
    problems: Vec<Problem>,
}

impl RouteTable {
    /// Builds the table, and looks for everything in it that is wrong or leaves nobody a way to sign in.
    ///
    /// # Errors
    /// Every problem at once, warnings among them, when at least one is an error.
    pub fn build(settings: &Settings) -> Result<Self, Vec<Problem>> {
        build(settings)
    }
}

fn build(settings: &Settings) -> Result<RouteTable, Vec<Problem>> {
    let mut nextjs = settings.nextjs.clone();
    nextjs
        .base_path
        .truncate(nextjs.base_path.trim_end_matches('/').len());
    let mut builder = Builder {
        settings,
        nextjs,
        routes: Vec::new(),
        drafts: Vec::new(),
        problems: Vec::new(),
    };
    if !builder.nextjs.base_path.is_empty() && !builder.nextjs.base_path.starts_with('/') {
        builder.problem(
            Severity::Error,
            format!(
                "the base path `{}` does not start with `/`",
                builder.nextjs.base_path
            ),
            "write it as in next.config: `/app`",
            None,
            "nextjs.base_path".to_owned(),
        );
    }
    for (index, route) in settings.routes.iter().enumerate() {
        builder.configured(index, route);
    }
    builder.find_ties();
    builder.find_shadowed();
    builder.built_in();
    let table = builder.table();
    let failed = table
        .warnings
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    if failed {
        Err(table.warnings)
    } else {
        Ok(table)
    }
}

/// Whether a rule keeps somebody out.
fn protects(rule: &Rule) -> bool {
    match rule.need {
        Need::Public | Need::Optional | Need::Guest => false,
        Need::SignedIn(_) | Need::Deny => true,
    }
}

impl Builder<'_> {
    fn problem(
        &mut self,
        severity: Severity,
        message: String,
        advice: &'static str,
        line: Option<usize>,
        key: String,
    ) {
        self.problems.push(Problem {
            severity,
            message,
            advice,
            lines: line.into_iter().collect(),
            key,
        });
    }

    fn configured(&mut self, index: usize, route: &RouteSpec) {
        if route.sources.is_empty() {
            self.problem(
                Severity::Error,
                "a route without a path".to_owned(),
                "name at least one path",
                route.line,
                format!("route[{index}].path"),
            );
        }
        for (place, source) in route.sources.iter().enumerate() {
            let key = format!("route[{index}].path[{place}]");
            let line = source.line.or(route.line);
            match self.draft(index, place, route, source) {
                Ok(draft) => {
                    self.warn_about(route, source, &key);
                    self.drafts.push(draft);
                }
                Err(why) => self.problem(
                    Severity::Error,
                    format!("invalid source `{}`: {why}", source.source),
                    "write it as in Next.js `config.matcher`: `/account/:path*`",
                    line,
                    key,
                ),
            }
        }
    }

    fn draft(
        &mut self,
        index: usize,
        place: usize,
        route: &RouteSpec,
        spec: &SourceSpec,
    ) -> Result<Draft, String> {
        let pattern = Pattern::parse(&spec.source)?;
        let conditions = Conditions::compile(spec)?;
        let protects = protects(&route.rule);
        let base_path = self.nextjs.base_path.as_str();
        let segments = pattern.segments().map(|segments| {
            let base = literals(base_path);
            base.into_iter()
                .chain(segments.iter().cloned())
                .collect::<Vec<_>>()
        });
        // What Next.js adds to a source widens it. Doubt may only ever close a door, so it widens rules that protect and no others;
        // the readings of a target cover the rest.
        let expression = match (&segments, protects) {
            (Some(_), _) => None,
            (None, true) => Some(Expression::compile(
                &pattern.with_transports(base_path, false),
            )?),
            (None, false) => Some(Expression::compile(&pattern.behind(base_path))?),
        };
        let tail = pattern.tail().unwrap_or_default();
        let spelled = Spelled {
            suffix: tail.ends_with(".json") || tail.ends_with(".rsc"),
            parameters: spec.source.contains(';'),
            index: tail.ends_with("/index"),
        };
        let id = self.route_id();
        self.routes.push(Route {
            pattern: spec.source.clone(),
            line: spec.line.or(route.line),
            built_in: None,
            upstream: route.upstream,
            rule: route.rule.clone(),
            app_caches: route.app_caches,
        });
        let localized = !self.nextjs.locales.is_empty();
        Ok(Draft {
            route: id,
            spec: Some((index, place)),
            line: spec.line.or(route.line),
            segments,
            expression,
            entry: Entry {
                route: id,
                methods: route.methods.clone(),
                hosts: route.hosts.clone(),
                conditions,
                forms: match (localized, spec.locale) {
                    (false, _) => ANY_FORM,
                    (true, true) => INNER,
                    (true, false) => FULL,
                },
                protects,
                fixed_head: pattern.head().is_some_and(|head| !head.is_empty()),
                fixed_tail: spelled.suffix,
                spelled,
            },
            conditions_text: format!("{:?} {:?}", spec.has, spec.missing),
            source: spec.source.clone(),
            fixed: literals(base_path)
                .into_iter()
                .chain(
                    pattern
                        .fixed_segments()
                        .into_iter()
                        .map(|part| Segment::Literal(part.to_owned())),
                )
                .collect(),
        })
    }

    fn warn_about(&mut self, route: &RouteSpec, spec: &SourceSpec, key: &str) {
        let line = spec.line.or(route.line);
        let by_client = spec
            .has
            .iter()
            .chain(&spec.missing)
            .any(ConditionSpec::is_client_controlled);
        let opens = !protects(&route.rule);
        if by_client && (opens || !protects(&self.settings.default)) {
            let how = if opens { "opens" } else { "protects" };
            self.problem(
                Severity::Warning,
                format!("`{}` {how} a path on a condition every client can choose", spec.source),
                "headers, query and cookies are the client's: such a condition is a way past the rule",
                line,
                key.to_owned(),
            );
        }
        let head = spec.source.split('/').nth(1).unwrap_or_default();
        let is_locale = self
            .nextjs
            .locales
            .iter()
            .any(|locale| locale.eq_ignore_ascii_case(head));
        if spec.locale && is_locale {
            self.problem(
                Severity::Warning,
                format!(
                    "`{}` begins with a locale, which is matched before the source",
                    spec.source
                ),
                "leave the locale out, or set `locale = false`",
                line,
                key.to_owned(),
            );
        }
    }

    fn route_id(&self) -> RouteId {
        // A configuration file with four billion routes is not read to its end.
        RouteId(u32::try_from(self.routes.len()).unwrap_or(u32::MAX))
    }

    /// Two sources that are equally specific and can both match: which of them counts would be chance.
    fn find_ties(&mut self) {
        let mut ties = Vec::new();
        let mut seen: std::collections::HashMap<(Vec<Segment>, String, u8), Vec<&Draft>> =
            std::collections::HashMap::new();
        for draft in &self.drafts {
            let (segments, text) = match &draft.segments {
                Some(segments) => (segments.clone(), String::new()),
                None => (Vec::new(), draft.source.clone()),
            };
            let same = seen.entry((segments, text, draft.entry.forms)).or_default();
            if let Some(earlier) = same.iter().find(|earlier| {
                overlap(&earlier.entry.methods, &draft.entry.methods)
                    && hosts_overlap(&earlier.entry.hosts, &draft.entry.hosts)
                    && earlier.conditions_text == draft.conditions_text
            }) {
                let (index, place) = draft.spec.unwrap_or_default();
                ties.push(Problem {
                    severity: Severity::Error,
                    message: match (earlier.line, draft.line) {
                        (Some(one), Some(other)) => format!(
                            "`{}` (line {one}) and `{}` (line {other}) match the same requests and are equally specific",
                            earlier.source, draft.source
                        ),
                        _ => format!(
                            "`{}` and `{}` match the same requests and are equally specific",
                            earlier.source, draft.source
                        ),
                    },
                    advice: "remove one of them, or tell them apart by methods or hosts",
                    lines: [earlier.line, draft.line].into_iter().flatten().collect(),
                    key: format!("route[{index}].path[{place}]"),
                });
            }
            same.push(draft);
        }
        self.problems.extend(ties);
    }

    /// A source with an expression ranks behind every source of whole segments, so a catch-all above it swallows it.
    fn find_shadowed(&mut self) {
        let swallows = |catch_all: &Draft, draft: &Draft| {
            let Some((Segment::Star | Segment::Plus | Segment::Rest, above)) = catch_all
                .segments
                .as_deref()
                .and_then(<[Segment]>::split_last)
            else {
                return false;
            };
            draft.fixed.starts_with(above)
                && catch_all.entry.forms == draft.entry.forms
                && catch_all.entry.methods.is_empty()
                && catch_all.entry.hosts.is_empty()
                && catch_all.entry.conditions.is_empty()
        };
        let mut shadowed = Vec::new();
        for draft in self.drafts.iter().filter(|draft| draft.segments.is_none()) {
            if let Some(above) = self.drafts.iter().find(|other| swallows(other, draft)) {
                let (index, place) = draft.spec.unwrap_or_default();
                shadowed.push(Problem {
                    severity: Severity::Warning,
                    message: format!(
                        "`{}` is never reached: it needs a regular expression, so `{}` comes first",
                        draft.source, above.source
                    ),
                    advice: "write it with whole segments, or give the catch-all's rule to `routes.default`",
                    lines: [above.line, draft.line].into_iter().flatten().collect(),
                    key: format!("route[{index}].path[{place}]"),
                });
            }
        }
        self.problems.extend(shadowed);
    }

    fn built_in(&mut self) {
        let settings = self.settings;
        let base = self.nextjs.base_path.clone();
        let star = || vec![Segment::Star];
        let both = |path: &str| {
            let mut paths = vec![path.to_owned()];
            if !base.is_empty() && path != base && !path.starts_with(&format!("{base}/")) {
                paths.push(format!("{base}{path}"));
            }
            paths
        };
        let upstream = settings.default_upstream;
        let auth = settings.auth_base_path.trim_end_matches('/');
        if auth.is_empty() {
            self.problem(
                Severity::Error,
                "the auth server has no base path of its own, so everything would be its endpoints"
                    .to_owned(),
                "serve it below a path: `/api/auth`",
                None,
                "better_auth.base_path".to_owned(),
            );
        } else {
            for path in both(auth) {
                self.open(
                    "auth endpoints",
                    &path,
                    star(),
                    settings.auth_upstream,
                    WIRE,
                );
            }
        }
        if let Some(page) = &settings.sign_in_path {
            let page = page.split(['?', '#']).next().unwrap_or_default();
            for path in both(page) {
                self.open("sign-in page", &path, Vec::new(), upstream, INNER | WIRE);
            }
        }
        self.open(
            "static assets",
            &format!("{base}/_next/static"),
            star(),
            upstream,
            WIRE,
        );
        for (name, path) in [
            ("favicon", "/favicon.ico"),
            ("robots", "/robots.txt"),
            ("manifest", "/manifest.json"),
            ("manifest", "/manifest.webmanifest"),
        ] {
            for path in both(path) {
                self.open(name, &path, Vec::new(), upstream, WIRE);
            }
        }
        self.open("well-known", "/.well-known", star(), upstream, WIRE);
        if settings.dev {
            self.open(
                "hot modules",
                &format!("{base}/_next/webpack-hmr"),
                Vec::new(),
                upstream,
                WIRE,
            );
            self.open(
                "hot modules",
                &format!("{base}/_next/hmr"),
                Vec::new(),
                upstream,
                WIRE,
            );
            let tail = vec![Segment::Prefix("__nextjs".to_owned()), Segment::Star];
            self.open("development server", &base, tail, upstream, WIRE);
        }
    }

    /// Adds a route that is public unless the configuration says otherwise.
    fn open(
        &mut self,
        name: &'static str,
        path: &str,
        tail: Vec<Segment>,
        upstream: usize,
        forms: u8,
    ) {
        let mut pattern = path.to_owned();
        for segment in &tail {
            match segment {
                Segment::Prefix(text) => pattern.push_str(&format!("/{text}*")),
                _ => pattern.push_str("/:path*"),
            }
        }
        let segments: Vec<Segment> = literals(path).into_iter().chain(tail).collect();
        let overridden = self.drafts.iter().any(|draft| {
            draft.segments.as_ref() == Some(&segments)
                && draft.entry.methods.is_empty()
                && draft.entry.hosts.is_empty()
                && draft.entry.conditions.is_empty()
        });
        if overridden {
            return;
        }
        let id = self.route_id();
        self.routes.push(Route {
            pattern: pattern.clone(),
            line: None,
            built_in: Some(name),
            upstream,
            rule: Rule {
                need: Need::Public,
                freshness: Freshness::default(),
            },
            app_caches: false,
        });
        let suffix = matches!(segments.last(), Some(Segment::Literal(text)) if text.ends_with(".json") || text.ends_with(".rsc"));
        let forms = if self.nextjs.locales.is_empty() {
            ANY_FORM
        } else {
            forms
        };
        self.drafts.push(Draft {
            route: id,
            spec: None,
            line: None,
            segments: Some(segments),
            expression: None,
            entry: Entry {
                route: id,
                methods: Vec::new(),
                hosts: Vec::new(),
                conditions: Conditions::default(),
                forms,
                protects: false,
                fixed_head: true,
                fixed_tail: suffix,
                spelled: Spelled {
                    suffix,
                    ..Spelled::default()
                },
            },
            conditions_text: String::new(),
            source: pattern,
            fixed: Vec::new(),
        });
    }

    fn table(mut self) -> RouteTable {
        let default = self.route_id();
        self.routes.push(Route {
            pattern: "(everything else)".to_owned(),
            line: None,
            built_in: Some("default"),
            upstream: self.settings.default_upstream,
            rule: self.settings.default.clone(),
            app_caches: false,
        });
        let (mut plain, customs): (Vec<_>, Vec<_>) = self
            .drafts
            .into_iter()
            .map(|draft| (draft.segments.as_deref().map(Specificity::of), draft))
            .partition(|(specificity, _)| specificity.is_some());
        plain.sort_by(|(one, a), (other, b)| {
            let then = |draft: &Draft| {
                (
                    draft.entry.conditions.is_empty(),
                    draft.spec.is_none(),
                    draft.route,
                )
            };
            one.cmp(other).then_with(|| then(a).cmp(&then(b)))
        });
        let mut table = RouteTable {
            routes: self.routes,
            default,
            entries: Vec::new(),
            index: Index::default(),
            customs: Vec::new(),
            nextjs: self.nextjs,
            same_app: self.settings.same_app.clone(),
            warnings: self.problems,
            app: std::sync::Arc::default(),
        };
        for (_, draft) in plain.into_iter().chain(customs) {
            let rank = Rank::try_from(table.entries.len()).unwrap_or(Rank::MAX);
            table.entries.push(draft.entry);
            if let Some(segments) = &draft.segments {
                table.index.insert(rank, segments);
            } else if let Some(expression) = draft.expression {
                table.customs.push(Custom { rank, expression });
            }
        }
        let locked = unreachable_sign_in(&table, self.settings);
        table.warnings.extend(locked);
        table
    }
}

pub(super) fn literals(path: &str) -> Vec<Segment> {
    path.split('/')
        .filter(|part| !part.is_empty())
        .map(|part| Segment::Literal(part.to_owned()))
        .collect()
}

/// Empty stands for all.
fn overlap<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|item| other.contains(item))
}

/// The same for hosts, where `*.example.com` holds many.
fn hosts_overlap(one: &[String], other: &[String]) -> bool {
    let meet = |a: &String, b: &String| host_is(a, b) || host_is(b, a);
    one.is_empty() || other.is_empty() || one.iter().any(|a| other.iter().any(|b| meet(a, b)))
}

/// A configuration in which nobody could sign in.
fn unreachable_sign_in(table: &RouteTable, settings: &Settings) -> Vec<Problem> {
    let base = table.nextjs.base_path.as_str();
    let auth = settings.auth_base_path.trim_end_matches('/');
    let mut asked: Vec<(Method, String, &'static str)> = vec![
        (
            Method::POST,
            format!("{auth}/sign-in/email"),
            "better_auth.base_path",
        ),
        (
            Method::POST,
            format!("{auth}/sign-in/social"),
            "better_auth.base_path",
        ),
        (
            Method::GET,
            format!("{auth}/callback/github"),
            "better_auth.base_path",
        ),
        (
            Method::GET,
            format!("{auth}/get-session"),
            "better_auth.base_path",
        ),
    ];
    if let Some(page) = &settings.sign_in_path {
        asked.push((Method::GET, page.clone(), "routes.sign_in"));
    }
    let below: Vec<_> = asked
        .iter()
        .filter(|(_, path, _)| !base.is_empty() && !path.starts_with(&format!("{base}/")))
        .map(|(method, path, key)| (method.clone(), format!("{base}{path}"), *key))
        .collect();
    asked.extend(below);
    let mut hosts: Vec<&str> = settings
        .routes
        .iter()
        .flat_map(|route| &route.hosts)
        .map(String::as_str)
        .collect();
    hosts.push("");
    hosts.sort_unstable();
    hosts.dedup();

    let headers = HeaderMap::new();
    let mut problems: Vec<Problem> = Vec::new();
    for (method, path, key) in &asked {
        let Ok(target) = Target::parse(path.as_bytes()) else {
            problems.push(Problem {
                severity: Severity::Error,
                message: format!("`{path}` cannot be asked for"),
                advice: "write it as a plain path",
                lines: Vec::new(),
                key: (*key).to_owned(),
            });
            continue;
        };
        for host in &hosts {
            let request = RequestView {
                method,
                target,
                host,
                headers: &headers,
                client: std::net::Ipv4Addr::LOCALHOST.into(),
            };
            let Ok(matches) = table.find(&request) else {
                continue;
            };
            for route in matches
                .all()
                .map(|id| table.route(id))
                .filter(|route| protects(&route.rule))
            {
                let problem = Problem {
                    severity: Severity::Error,
                    message: format!(
                        "nobody could sign in: `{}` keeps `{path}` from whoever has no session",
                        route.pattern
                    ),
                    advice: "give the sign-in page and the auth endpoints a rule that lets strangers in",
                    lines: route.line.into_iter().collect(),
                    key: (*key).to_owned(),
                };
                let known = problems
                    .iter()
                    .any(|p| p.lines == problem.lines && p.key == problem.key);
                if !known {
                    problems.push(problem);
                }
            }
        }
    }
    problems
}
