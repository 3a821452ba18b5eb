//! Which rule holds for which route of an app, and which routes nobody has written a rule for.
//!
//! A rule covers a route when it holds for every value of its parameters. Rules that hold for some values, methods, hosts or
//! conditions only are listed inside the route.

use std::collections::HashMap;

use http::{HeaderMap, Method};

use crate::app::next::{Part, parts};
use crate::app::{App, AppRoute, Kind};
use crate::request::RequestView;
use crate::route::build::literals;
use crate::route::condition::Conditions;
use crate::route::index::Rank;
use crate::route::pattern::{Pattern, Segment};
use crate::route::table::RouteTable;
use crate::route::{RouteId, host_is};
use crate::target::Target;

/// A value of a parameter that nobody writes a rule for.
pub(super) const ANY: &str = "_any-value_";

/// What a table of routes makes of an app.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// One for each route of the app, in its order.
    pub rows: Vec<Row>,
    /// Routes of the configuration that match nothing the app serves.
    pub unused: Vec<RouteId>,
    /// Routes of the configuration that cover everything, so that no new page is ever unclassified.
    pub sweeping: Vec<RouteId>,
}

/// One route of the app.
#[derive(Clone, Debug)]
pub struct Row {
    /// The route.
    pub route: AppRoute,
    /// What holds for it as such; the default among them where nothing else does.
    pub holds: Vec<RouteId>,
    /// An address of it that only the default covers; `None`: somebody has written down what it needs.
    pub unclassified: Option<String>,
    /// What holds for some of its addresses or requests only.
    pub inside: Vec<Inside>,
}

/// A rule that is more specific than the route of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The route of the table.
    pub route: RouteId,
    /// An address it holds for.
    pub example: String,
    /// Methods it is narrowed to; empty: all.
    pub methods: Vec<Method>,
    /// Hosts it is narrowed to; empty: all.
    pub hosts: Vec<String>,
    /// Whether `has` or `missing` narrow it.
    pub is_conditional: bool,
}

impl Coverage {
    /// The routes nobody has classified.
    pub fn unclassified(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.unclassified.is_some())
    }
}

impl RouteTable {
    /// What the table makes of an app. `hosts` are those the gateway answers for; none stands for one without a name.
    pub fn coverage(&self, app: &App, hosts: &[String]) -> Coverage {
        Survey::new(self, app, hosts).run()
    }
}

/// One source of the table, taken apart again.
struct Source {
    rank: Rank,
    route: RouteId,
    /// `None`: an expression of its own.
    segments: Option<Vec<Segment>>,
    is_narrowed: bool,
    is_configured: bool,
}

struct Survey<'t> {
    table: &'t RouteTable,
    app: &'t App,
    hosts: Vec<String>,
    sources: Vec<Source>,
    /// The table without sources narrowed to methods or conditions.
    plain: RouteTable,
}

impl<'t> Survey<'t> {
    fn new(table: &'t RouteTable, app: &'t App, hosts: &[String]) -> Self {
        let mut hosts = hosts.to_vec();
        if hosts.is_empty() {
            hosts.push(String::new());
        }
        let mut plain = table.clone();
        let mut sources = Vec::new();
        for (rank, entry) in (0..).zip(&mut plain.entries) {
            let route = table.route(entry.route);
            let is_configured = route.built_in.is_none();
            sources.push(Source {
                rank,
                route: entry.route,
                segments: segments_of_pattern(table, &route.pattern, is_configured),
                is_narrowed: !entry.methods.is_empty()
                    || !entry.hosts.is_empty()
                    || !entry.conditions.is_empty(),
                is_configured,
            });
            if !entry.methods.is_empty() || !entry.conditions.is_empty() {
                entry.forms = 0;
            }
        }
        Self {
            table,
            app,
            hosts,
            sources,
            plain,
        }
    }

    fn run(&self) -> Coverage {
        let pages: Vec<Vec<Segment>> = self.app.routes.iter().map(segments_of_page).collect();
        let mut rows: Vec<Row> = self
            .app
            .routes
            .iter()
            .zip(&pages)
            .map(|(route, page)| self.row(route, page))
            .collect();
        let mut used: HashMap<RouteId, bool> = HashMap::new();
        // Changed and put back for each narrowed source, so that not every one of them takes a copy of the table.
        let mut probe = self.plain.clone();
        for source in &self.sources {
            let is_met = self.survey(source, &pages, &mut rows, &mut probe);
            *used.entry(source.route).or_default() |= is_met;
        }
        let configured = || self.sources.iter().filter(|source| source.is_configured);
        let mut unused: Vec<RouteId> = configured()
            .filter(|source| used.get(&source.route) == Some(&false))
            .filter(|source| !self.is_beyond_the_app(source))
            .map(|source| source.route)
            .collect();
        unused.sort_unstable();
        unused.dedup();
        let base = literals(&self.table.nextjs.base_path).len();
        let sweeping = configured()
            .filter(|source| !source.is_narrowed)
            .filter(|source| {
                let tail = source.segments.as_ref().and_then(|all| all.get(base..));
                matches!(tail, Some([Segment::Star | Segment::Plus | Segment::Rest]))
            })
            .map(|source| source.route)
            .collect();
        Coverage {
            rows,
            unused,
            sweeping,
        }
    }

    /// What holds for a route of the app whatever its parameters are.
    fn row(&self, route: &AppRoute, page: &[Segment]) -> Row {
        let mut holds = Vec::new();
        let mut unclassified = None;
        for path in self.addresses(route, page) {
            for host in &self.hosts {
                let found = routes_at(&self.plain, &Method::GET, host, &path);
                if found.is_empty() || found.contains(&self.table.default) {
                    unclassified.get_or_insert_with(|| path.clone());
                }
                for id in found {
                    if !holds.contains(&id) {
                        holds.push(id);
                    }
                }
            }
        }
        let for_methods = || {
            let default = self.table.route(self.table.default);
            default.rule.need.protects() && self.is_classified_by_method(route, page)
        };
        if unclassified.is_some() && for_methods() {
            unclassified = None;
        }
        Row {
            route: route.clone(),
            holds,
            unclassified,
            inside: Vec::new(),
        }
    }

    /// Whether somebody has thought of a route method by method: of any for a handler, of reading for a page. The other methods are
    /// the default's, which keeps strangers out.
    fn is_classified_by_method(&self, route: &AppRoute, page: &[Segment]) -> bool {
        let mut by_method = self.table.clone();
        for entry in &mut by_method.entries {
            if !entry.conditions.is_empty() {
                entry.forms = 0;
            }
        }
        let mut methods = vec![Method::GET];
        if matches!(route.kind, Kind::Handler | Kind::PagesApi) {
            let named = by_method.entries.iter().flat_map(|entry| &entry.methods);
            methods.extend(named.cloned());
            methods.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
            methods.dedup();
        }
        let addresses = self.addresses(route, page);
        methods.iter().any(|method| {
            addresses.iter().all(|path| {
                self.hosts.iter().all(|host| {
                    let found = routes_at(&by_method, method, host, path);
                    !found.is_empty() && !found.contains(&self.table.default)
                })
            })
        })
    }

    /// Adds a source to the routes it holds for a part of. Says whether it has to do with any.
    fn survey(
        &self,
        source: &Source,
        pages: &[Vec<Segment>],
        rows: &mut [Row],
        probe: &mut RouteTable,
    ) -> bool {
        let Some(original) = self.table.entries.get(source.rank as usize) else {
            return false;
        };
        let eased = probe.entries.get_mut(source.rank as usize).map(|entry| {
            let before = entry.clone();
            entry.forms = original.forms;
            entry.conditions = Conditions::default();
            before
        });
        let method = original.methods.first().unwrap_or(&Method::GET);
        let host = match original.hosts.first() {
            // A rule for other hosts than ours is asked about as it stands.
            Some(pattern) => self
                .hosts
                .iter()
                .find(|host| host_is(pattern, host))
                .cloned()
                .unwrap_or_else(|| pattern.replacen("*.", "any.", 1)),
            None => self.hosts.first().cloned().unwrap_or_default(),
        };
        let mut is_met = false;
        for (page, row) in pages.iter().zip(rows) {
            for path in self.meetings(source, &row.route, page) {
                is_met = true;
                let already = row.holds.contains(&source.route) && !source.is_narrowed;
                if already || !routes_at(probe, method, &host, &path).contains(&source.route) {
                    continue;
                }
                row.inside.push(Inside {
                    route: source.route,
                    example: path,
                    methods: original.methods.clone(),
                    hosts: original.hosts.clone(),
                    is_conditional: !original.conditions.is_empty(),
                });
                break;
            }
        }
        if let (Some(entry), Some(before)) = (probe.entries.get_mut(source.rank as usize), eased) {
            *entry = before;
        }
        is_met
    }

    /// Addresses of a page that a source may be about; it may yet lose them to a more specific one.
    fn meetings(&self, source: &Source, route: &AppRoute, page: &[Segment]) -> Vec<String> {
        let base = self.table.nextjs.base_path.as_str();
        let Some(segments) = &source.segments else {
            let custom = self.table.customs.iter().find(|c| c.rank == source.rank);
            let mut paths = self.addresses(route, page);
            paths.retain(|path| custom.is_some_and(|c| c.expression.matches(path).or(true)));
            return paths;
        };
        let forms = self.table.entries.get(source.rank as usize);
        let literal_locale = forms.is_some_and(|entry| {
            !self.table.nextjs.locales.is_empty() && entry.forms == super::reading::FULL
        });
        let heads: Vec<Option<&String>> = if literal_locale {
            self.table.nextjs.locales.iter().map(Some).collect()
        } else {
            vec![None]
        };
        let mut found = Vec::new();
        for head in heads {
            let whole: Vec<Segment> = literals(base)
                .into_iter()
                .chain(head.map(|locale| Segment::Literal(locale.clone())))
                .chain(page.iter().cloned())
                .collect();
            found.extend(meet(segments, &whole).map(|parts| spelled(&parts)));
        }
        found
    }

    /// Addresses of a route with values nobody has thought of, in every locale.
    fn addresses(&self, route: &AppRoute, page: &[Segment]) -> Vec<String> {
        let nextjs = &self.table.nextjs;
        let mut all = Vec::new();
        for parts in fillings(page, &[ANY]) {
            let base: Vec<String> = nextjs
                .base_path
                .split('/')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect();
            let mut push = |locale: Option<&String>| {
                let parts: Vec<String> = base.iter().chain(locale).chain(&parts).cloned().collect();
                all.push(spelled(&parts));
            };
            push(None);
            if route.kind == Kind::PagesPage {
                nextjs.locales.iter().for_each(|locale| push(Some(locale)));
            }
        }
        all
    }

    /// Whether a source is about what a build says nothing of: another upstream, the framework's own addresses, rewrites, redirects.
    fn is_beyond_the_app(&self, source: &Source) -> bool {
        let route = self.table.route(source.route);
        if !self.table.is_app(route.upstream) {
            return true;
        }
        let base = self.table.nextjs.base_path.as_str();
        let Some(segments) = &source.segments else {
            return false;
        };
        let own = |head: &str| {
            let mut own = literals(base);
            own.extend([Segment::Literal(head.to_owned()), Segment::Star]);
            meet(segments, &own).is_some()
        };
        let fixed_head = segments.get(literals(base).len());
        if matches!(fixed_head, Some(Segment::Literal(_))) && (own("_next") || own(".well-known")) {
            return true;
        }
        let rewrites = &self.app.rewrites;
        let also = rewrites
            .before_files
            .iter()
            .chain(&rewrites.after_files)
            .chain(&rewrites.fallback)
            .map(|rewrite| rewrite.source.as_str())
            .chain(self.app.redirects.iter().map(|r| r.source.as_str()));
        // The redirect that adds or takes away a trailing slash is about everything and says nothing.
        also.filter(|source| !source.starts_with("/:path+"))
            .filter_map(|source| Pattern::parse(source).ok())
            .filter_map(|pattern| pattern.segments().map(<[Segment]>::to_vec))
            .any(|other| {
                let behind: Vec<Segment> =
                    literals(base).into_iter().chain(other.clone()).collect();
                meet(segments, &other).is_some() || meet(segments, &behind).is_some()
            })
    }
}

/// All routes that say something about an address; none when it is refused.
pub(super) fn routes_at(
    table: &RouteTable,
    method: &Method,
    host: &str,
    path: &str,
) -> Vec<RouteId> {
    let Ok(target) = Target::parse(path.as_bytes()) else {
        return Vec::new();
    };
    let request = RequestView {
        method,
        target,
        host,
        headers: &HeaderMap::new(),
        client: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    // By the rules alone: what a rewrite may add to them was not written down for this address.
    table
        .rules_of(&request, None)
        .map(|found| found.all().collect())
        .unwrap_or_default()
}

fn segments_of_pattern(
    table: &RouteTable,
    pattern: &str,
    is_configured: bool,
) -> Option<Vec<Segment>> {
    let parsed = Pattern::parse(pattern).ok()?;
    let base = if is_configured {
        literals(&table.nextjs.base_path)
    } else {
        Vec::new()
    };
    Some(
        base.into_iter()
            .chain(parsed.segments()?.iter().cloned())
            .collect(),
    )
}

/// The segments of a route of the app, by the names of its folders.
pub(super) fn segments_of_page(route: &AppRoute) -> Vec<Segment> {
    if route.kind == Kind::PublicFile {
        // A file may be called anything.
        return literals(&route.page);
    }
    parts(&route.page)
        .map(|part| match part {
            Part::Fixed(text) => Segment::Literal(text.to_owned()),
            Part::One(_) => Segment::One,
            Part::Some(_) => Segment::Plus,
            Part::Any(_) => Segment::Star,
        })
        .collect()
}

/// Paths of a route with each of `values` in each of its parameters, the others holding the first of them.
pub(super) fn fillings(page: &[Segment], values: &[&str]) -> Vec<Vec<String>> {
    let usual = values.first().copied().unwrap_or(ANY);
    let mut all = Vec::new();
    for value in values {
        // Which parameter holds the value: all of them at once is a case of its own kind only for the usual one.
        let parameters = page
            .iter()
            .filter(|segment| !matches!(segment, Segment::Literal(_)))
            .count();
        let turns = if *value == usual { 1 } else { parameters };
        for turn in 0..turns.max(usize::from(*value == usual)) {
            let mut paths: Vec<Vec<String>> = vec![Vec::new()];
            let mut parameter = 0;
            for segment in page {
                let here = if parameter == turn { value } else { usual };
                let tails: Vec<Vec<&str>> = match segment {
                    Segment::Literal(text) => vec![vec![text.as_str()]],
                    Segment::Star => vec![vec![], vec![here], vec![here, usual], vec![usual, here]],
                    Segment::Plus | Segment::Rest => {
                        vec![vec![here], vec![here, usual], vec![usual, here]]
                    }
                    _ => vec![vec![here]],
                };
                if !matches!(segment, Segment::Literal(_)) {
                    parameter += 1;
                }
                paths = paths
                    .iter()
                    .flat_map(|path| {
                        tails.iter().map(|tail| {
                            let tail = tail.iter().map(|part| (*part).to_owned());
                            path.iter().cloned().chain(tail).collect::<Vec<_>>()
                        })
                    })
                    .collect();
            }
            for path in paths {
                if !all.contains(&path) {
                    all.push(path);
                }
            }
        }
    }
    all
}

/// A path of decoded segments as a client sends it.
pub(super) fn spelled(parts: &[String]) -> String {
    if parts.is_empty() {
        return "/".to_owned();
    }
    let mut out = String::new();
    for part in parts {
        out.push('/');
        for byte in part.bytes() {
            let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
            if plain {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    out
}

/// A path that two sources of whole segments both match, if there is one.
pub(super) fn meet(one: &[Segment], other: &[Segment]) -> Option<Vec<String>> {
    // Pairs of places, each with the path that leads there. Shortest paths come first, and each pair is visited once.
    let mut open = std::collections::VecDeque::from([(0, 0, Vec::new())]);
    let mut seen = std::collections::HashSet::from([(0, 0)]);
    while let Some((at, place, path)) = open.pop_front() {
        if at == one.len() && place == other.len() {
            return Some(path);
        }
        let mut next = Vec::new();
        if one.get(at).is_some_and(is_optional) {
            next.push((at + 1, place, path.clone()));
        }
        if other.get(place).is_some_and(is_optional) {
            next.push((at, place + 1, path.clone()));
        }
        if let (Some(a), Some(b)) = (one.get(at), other.get(place))
            && let Some(text) = common(a, b)
        {
            let mut longer = path;
            longer.push(text);
            for at in std::iter::once(at + 1).chain(repeats(a).then_some(at)) {
                for place in std::iter::once(place + 1).chain(repeats(b).then_some(place)) {
                    next.push((at, place, longer.clone()));
                }
            }
        }
        for state in next {
            if seen.insert((state.0, state.1)) {
                open.push_back(state);
            }
        }
    }
    None
}

fn is_optional(segment: &Segment) -> bool {
    matches!(
        segment,
        Segment::Optional | Segment::OptionalChoice(_) | Segment::Star
    )
}

fn repeats(segment: &Segment) -> bool {
    matches!(segment, Segment::Plus | Segment::Star | Segment::Rest)
}

/// A text that two segments both match.
fn common(one: &Segment, other: &Segment) -> Option<String> {
    let words = |segment: &Segment| match segment {
        Segment::Literal(text) => Some(vec![text.clone()]),
        Segment::Choice(list) | Segment::OptionalChoice(list) => Some(list.clone()),
        Segment::Prefix(_)
        | Segment::One
        | Segment::Optional
        | Segment::Plus
        | Segment::Rest
        | Segment::Star => None,
    };
    let fits = |segment: &Segment, text: &str| match segment {
        Segment::Prefix(prefix) => text.starts_with(prefix.as_str()),
        _ => words(segment).is_none_or(|list| list.iter().any(|word| word == text)),
    };
    match (words(one), words(other)) {
        (Some(list), _) => list.into_iter().find(|text| fits(other, text)),
        (None, Some(list)) => list.into_iter().find(|text| fits(one, text)),
        (None, None) => match (one, other) {
            (Segment::Prefix(a), Segment::Prefix(b)) => {
                let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
                long.starts_with(short.as_str()).then(|| long.clone())
            }
            (Segment::Prefix(text), _) | (_, Segment::Prefix(text)) => Some(text.clone()),
            _ => Some(ANY.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::pattern::segments_match;

    fn segments(source: &str) -> Vec<Segment> {
        Pattern::parse(source).unwrap().segments().unwrap().to_vec()
    }

    #[test]
    fn two_sources_meet_where_both_match() {
        for (one, other, path) in [
            ("/a/:b", "/:a/b", Some("/a/b")),
            ("/a/:b*", "/a", Some("/a")),
            ("/a/:b+", "/a", None),
            ("/:a(x|y)/z", "/y/:b", Some("/y/z")),
            ("/a/b", "/a/c", None),
            ("/:p*", "/:q+", Some("/_any-value_")),
            ("/", "/:q*", Some("/")),
            ("/a/:b?/c", "/a/c", Some("/a/c")),
        ] {
            let met = meet(&segments(one), &segments(other)).map(|parts| spelled(&parts));
            assert_eq!(met.as_deref(), path, "{one} {other}");
        }
    }

    #[test]
    fn names_of_files_are_sent_as_they_can_be() {
        let parts = ["files", "a b%.txt", "é"].map(str::to_owned);
        assert_eq!(spelled(&parts), "/files/a%20b%25.txt/%C3%A9");
    }

    #[test]
    fn every_parameter_holds_every_value_in_turn() {
        let paths: Vec<String> = fillings(&segments("/a/:b/:c*"), &["any", "word"])
            .iter()
            .map(|parts| spelled(parts))
            .collect();
        for path in [
            "/a/any",
            "/a/any/any",
            "/a/any/any/any",
            "/a/word",
            "/a/word/any",
            "/a/any/word",
            "/a/any/any/word",
        ] {
            assert!(paths.iter().any(|p| p == path), "{path} {paths:?}");
        }
        assert_eq!(fillings(&segments("/a"), &["any", "word"]).len(), 1);
    }

    fn source() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("/a"),
            Just("/b"),
            Just("/:x"),
            Just("/:x?"),
            Just("/:x+"),
            Just("/:x*"),
            Just("/:x(a|b)"),
        ];
        proptest::collection::vec(part, 1..5).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn a_meeting_is_matched_by_both_and_found_whenever_there_is_one(
            one in source(), other in source(), path in "(/[ab]){1,5}",
        ) {
            let (a, b) = (segments(&one), segments(&other));
            let met = meet(&a, &b);
            if let Some(parts) = &met {
                let path = spelled(parts);
                let path = if path == "/" { "" } else { &path };
                prop_assert!(segments_match(&a, path, false) && segments_match(&b, path, false), "{} {} {}", one, other, path);
            }
            if segments_match(&a, &path, false) && segments_match(&b, &path, false) {
                prop_assert!(met.is_some(), "{} {} {}", one, other, path);
            }
        }
    }
}
