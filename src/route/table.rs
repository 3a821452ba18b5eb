//! All routes, and which of them a request asks for.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, Method};

use crate::app::NextJs;
use crate::app::{App, AppRoute, Kind};
use crate::request::RequestView;
use crate::route::actions::Actions;
use crate::route::condition::Conditions;
use crate::route::expression::Expression;
use crate::route::index::{Index, Rank, Walk};
use crate::route::known::{self, Known, samples};
use crate::route::reading::{self, ANY_FORM, Contest, Filter, Judge, Reader, Spelled};
use crate::route::{Problem, Route, RouteId, host_is};
use crate::target::{Ambiguity, Target};

/// Folders that the page named by `Next-Url` may be in. Nobody nests pages deeper.
const FOLDERS_MAX: usize = 32;

/// How deep pictures are looked for in the addresses of pictures. Nobody means one.
const IMAGES_MAX: usize = 4;

/// All routes of one configuration, indexed.
#[derive(Clone, Debug)]
pub struct RouteTable {
    pub(super) routes: Vec<Route>,
    pub(super) default: RouteId,
    /// By rank.
    pub(super) entries: Vec<Entry>,
    pub(super) index: Index,
    /// Sources with expressions of their own, in file order.
    pub(super) customs: Vec<Custom>,
    pub(super) nextjs: NextJs,
    /// Upstreams that are the one of the default route by another name.
    pub(super) same_app: Vec<usize>,
    pub(super) warnings: Vec<Problem>,
    /// What is known of the app; swapped when it is built again. Routes keep their ids: they come from the configuration alone.
    pub(super) app: Arc<ArcSwapOption<Known>>,
}

/// One source of one route.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) route: RouteId,
    pub(super) methods: Vec<Method>,
    pub(super) hosts: Vec<String>,
    pub(super) conditions: Conditions,
    /// Which forms of a path it is matched against.
    pub(super) forms: u8,
    /// Whether its rule keeps somebody out: then doubt counts as a match.
    pub(super) protects: bool,
    pub(super) fixed_head: bool,
    pub(super) fixed_tail: bool,
    pub(super) spelled: Spelled,
}

/// A source that runs as an expression.
#[derive(Clone, Debug)]
pub(super) struct Custom {
    pub(super) rank: Rank,
    pub(super) expression: Expression,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches {
    /// By the reading closest to what was received. Its upstream serves the request.
    pub primary: RouteId,
    /// By all other readings. The strictest verdict among all of them counts.
    pub others: Vec<RouteId>,
}

impl Matches {
    /// All of them, the primary one first.
    pub fn all(&self) -> impl Iterator<Item = RouteId> + '_ {
        std::iter::once(self.primary).chain(self.others.iter().copied())
    }

    /// Adds what else a request asks for.
    pub fn add(&mut self, routes: &[RouteId]) {
        for route in routes {
            if *route != self.primary && !self.others.contains(route) {
                self.others.push(*route);
            }
        }
    }
}

impl RouteTable {
    /// Problems that did not stop the table from being built.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// One route of this table.
    ///
    /// # Panics
    /// When the id comes from another table.
    pub fn route(&self, id: RouteId) -> &Route {
        // Ids are made by `build` alone, one per route, and routes are never removed.
        #[allow(clippy::indexing_slicing)]
        &self.routes[id.0 as usize]
    }

    /// All routes: those of the configuration in file order, the built-in ones, and the default last.
    pub fn routes(&self) -> impl Iterator<Item = (RouteId, &Route)> {
        (0..).map(RouteId).zip(&self.routes)
    }

    /// Learns what the app serves, or forgets it. Requests under way keep what they began with.
    pub fn know(&self, app: Option<Arc<App>>) {
        self.app.store(app.map(|app| {
            let actions = Arc::new(Actions::of(self, &app));
            Arc::new(Known::new(app, &self.nextjs, actions))
        }));
    }

    /// What is known of the app.
    pub fn app(&self) -> Option<Arc<App>> {
        self.app.load().as_ref().map(|known| Arc::clone(&known.app))
    }

    /// The routes whose rules hold for a route of the app as such: for values of its parameters that no rule names.
    pub fn routes_of(&self, page: &AppRoute) -> Vec<RouteId> {
        let mut found = Vec::new();
        self.add_rules(page, &Method::GET, "", &mut found);
        found
    }

    /// The same, by whatever method and host they may be asked for.
    pub(super) fn rules_anywhere(&self, page: &AppRoute) -> Vec<RouteId> {
        let mut hosts = vec![String::new()];
        for host in self.entries.iter().flat_map(|entry| &entry.hosts) {
            let host = match host.strip_prefix("*.") {
                Some(parent) => format!("any.{parent}"),
                None => host.clone(),
            };
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let mut found = Vec::new();
        for host in &hosts {
            for method in [&Method::GET, &Method::POST] {
                self.add_rules(page, method, host, &mut found);
            }
        }
        found
    }

    fn add_rules(&self, page: &AppRoute, method: &Method, host: &str, found: &mut Vec<RouteId>) {
        for path in samples(&self.nextjs, &page.page, page.kind == Kind::PublicFile) {
            let Ok(target) = Target::parse(path.as_bytes()) else {
                continue;
            };
            let request = RequestView {
                method,
                target,
                host,
                headers: &HeaderMap::new(),
                client: std::net::Ipv4Addr::LOCALHOST.into(),
            };
            for id in self.rules_of(&request, None).iter().flat_map(Matches::all) {
                if !found.contains(&id) {
                    found.push(id);
                }
            }
        }
    }

    /// The routes a request asks for, by every reading of its target.
    ///
    /// # Errors
    /// An encoded slash or backslash is refused where it would make a difference.
    pub fn find(&self, request: &RequestView<'_>) -> Result<Matches, Ambiguity> {
        let mut found = self.find_target(request)?;
        if request.target.is_next_image() {
            self.add_images(request, &mut found)?;
        }
        if *request.method == Method::POST {
            self.add_actions(request, &mut found);
        }
        if request.headers.contains_key("next-url") {
            self.add_pages_around(request, &mut found)?;
        }
        Ok(found)
    }

    /// By `Next-Url` the client router says which page it is on, and Next.js may answer with a part of that page's folder in place of
    /// the one asked for, layouts included: what the page around it needs, the answer needs. Any page below a folder stands for it.
    fn add_pages_around(
        &self,
        request: &RequestView<'_>,
        found: &mut Matches,
    ) -> Result<(), Ambiguity> {
        let base_path = self.nextjs.base_path.as_str();
        let pages = request.headers.get_all("next-url").iter();
        // Next.js compares the value with paths: what begins otherwise is none.
        let pages = pages.map(HeaderValue::as_bytes);
        for page in pages.filter(|page| page.first() == Some(&b'/')) {
            let path = [base_path.as_bytes(), page].concat();
            let target = Target::parse(&path)?;
            let ask = |target| {
                let inner = RequestView {
                    method: &Method::GET,
                    target,
                    ..*request
                };
                self.rules_of(&inner, None)
            };
            add_all(found, ask(target)?.all());
            let path = target.path();
            let ends = path.match_indices('/').map(|(end, _)| end);
            let folders = ends.filter(|end| *end > base_path.len());
            for (count, folder) in folders.filter_map(|end| path.get(..end)).enumerate() {
                if count == FOLDERS_MAX {
                    return Err(Ambiguity::TooManyReadings);
                }
                // A folder that no rule names is no page anybody asked about: the default does not speak for it.
                let rules = ask(Target::parse(folder.as_bytes())?)?;
                add_all(found, rules.all().filter(|id| *id != self.default));
            }
        }
        Ok(())
    }

    /// What the app has at a target, for people: a page as its folders name it, or in words; [`known::NOTHING`] when it has nothing
    /// there. `None`: no build is known, or the request is for somebody else.
    pub fn app_route(&self, request: &RequestView<'_>) -> Option<String> {
        let known = self.app.load();
        let known = known.as_ref()?;
        let found = self.rules_of(request, None).ok()?;
        let is_built_in = self.route(found.primary).built_in.is_some();
        let name = known.name(self, request);
        (self.is_for_app(found.primary) || (is_built_in && name != known::NOTHING)).then_some(name)
    }

    /// Whether a route leads to the app that was built, and is none that is always reachable.
    pub(super) fn is_for_app(&self, id: RouteId) -> bool {
        let route = self.route(id);
        id == self.default || (route.built_in.is_none() && self.is_app(route.upstream))
    }

    /// Whether an upstream is the app that was built, by whatever name.
    pub(super) fn is_app(&self, upstream: usize) -> bool {
        upstream == self.route(self.default).upstream || self.same_app.contains(&upstream)
    }

    /// The image optimizer reads `url` inside the server, where nobody asks again: what that needs, its picture needs. It refuses an
    /// address of its own there, but not in every spelling.
    pub(super) fn add_images(
        &self,
        request: &RequestView<'_>,
        found: &mut Matches,
    ) -> Result<(), Ambiguity> {
        self.add_images_within(request, found, IMAGES_MAX)
    }

    fn add_images_within(
        &self,
        request: &RequestView<'_>,
        found: &mut Matches,
        deeper: usize,
    ) -> Result<(), Ambiguity> {
        let query = request.target.query().unwrap_or_default();
        let urls = url::form_urlencoded::parse(query.as_bytes())
            .filter(|(key, url)| key == "url" && url.starts_with(['/', '\\']));
        for (count, (_, url)) in urls.enumerate() {
            // Next.js takes one. Each costs as much as a request, and a target has room for thousands.
            if count == IMAGES_MAX {
                return Err(Ambiguity::TooManyReadings);
            }
            let path = as_sent(&url);
            let inner = RequestView {
                method: &Method::GET,
                target: Target::parse(path.as_bytes())?,
                ..*request
            };
            add_all(found, self.find_target(&inner)?.all());
            if inner.target.is_next_image() {
                let deeper = deeper.checked_sub(1).ok_or(Ambiguity::TooManyReadings)?;
                self.add_images_within(&inner, found, deeper)?;
            }
        }
        Ok(())
    }

    fn find_target(&self, request: &RequestView<'_>) -> Result<Matches, Ambiguity> {
        let known = self.app.load();
        let Some(known) = known.as_ref() else {
            return self.rules_of(request, None);
        };
        let mut spellings = Vec::new();
        let mut found = self.rules_of(request, Some(&mut spellings))?;
        known.widen(self, request, &spellings, &mut found)?;
        Ok(found)
    }

    /// By the rules alone, whatever the app has there. `spellings` takes down every spelling that was looked at, when there is more
    /// than one.
    pub(super) fn rules_of(
        &self,
        request: &RequestView<'_>,
        spellings: Option<&mut Vec<String>>,
    ) -> Result<Matches, Ambiguity> {
        let path = request.target.path();
        let spelling = request.target.spelling();
        let one_reading = !spelling.escapes
            && !spelling.parameters
            && !spelling.interception
            && self.nextjs.locales.is_empty()
            && !reading::has_transport(path, &self.nextjs.base_path);
        if one_reading {
            let admits = &mut |rank| self.admits(rank, ANY_FORM, Filter::Any, request);
            let found = self.index.best(Walk::of(path), admits).or_else(|| {
                self.customs
                    .iter()
                    .find(|custom| self.custom_matches(custom, path) && admits(custom.rank))
                    .map(|custom| custom.rank)
            });
            return Ok(Matches {
                primary: self.route_of(found),
                others: Vec::new(),
            });
        }
        let mut search = Search {
            table: self,
            request,
            found: Vec::new(),
            spellings,
        };
        self.reader(&mut search, request.host)
            .read(request.target)?;
        let found = search.found;
        let primary = found.first().copied().unwrap_or(self.default);
        if spelling.encoded_separator && !found.iter().all(|id| self.same_outcome(primary, *id)) {
            return Err(Ambiguity::EncodedSeparator);
        }
        Ok(Matches {
            primary,
            others: found.into_iter().skip(1).collect(),
        })
    }

    /// Every reading of a target with its name, for people. One that a literal source makes moot is listed all the same.
    ///
    /// # Errors
    /// When there are too many of them.
    pub fn readings(&self, target: Target<'_>) -> Result<Vec<(&'static str, String)>, Ambiguity> {
        let mut listing = Listing(Vec::new());
        self.reader(&mut listing, "").read(target)?;
        Ok(listing.0)
    }

    fn reader<'t, 'j>(&'t self, judge: &'j mut dyn Judge, host: &'t str) -> Reader<'t, 'j> {
        Reader::new(&self.nextjs, host, judge)
    }

    fn route_of(&self, rank: Option<Rank>) -> RouteId {
        rank.and_then(|rank| self.entries.get(rank as usize))
            .map_or(self.default, |entry| entry.route)
    }

    fn admits(&self, rank: Rank, form: u8, filter: Filter, request: &RequestView<'_>) -> bool {
        let Some(entry) = self.entries.get(rank as usize) else {
            return false;
        };
        let fits = match filter {
            Filter::Any => true,
            Filter::FixedHead => entry.fixed_head,
            Filter::FixedTail => entry.fixed_tail,
        };
        fits && entry.forms & form != 0
            && (entry.methods.is_empty() || entry.methods.contains(request.method))
            && (entry.hosts.is_empty()
                || entry.hosts.iter().any(|host| host_is(host, request.host)))
            && (entry.conditions.is_empty() || entry.conditions.hold(request).or(entry.protects))
    }

    fn custom_matches(&self, custom: &Custom, path: &str) -> bool {
        let protects = self
            .entries
            .get(custom.rank as usize)
            .is_none_or(|entry| entry.protects);
        custom.expression.matches(path).or(protects)
    }

    fn same_outcome(&self, one: RouteId, other: RouteId) -> bool {
        let (one, other) = (self.route(one), self.route(other));
        one.rule == other.rule
            && one.upstream == other.upstream
            && one.app_caches == other.app_caches
    }

    fn winner(&self, contest: &Contest<'_>, request: &RequestView<'_>) -> Option<Rank> {
        let indexed = contest.spellings.iter().filter_map(|(path, form)| {
            let mut walk = Walk::of(path);
            walk.odd = path.contains(['#', '?']);
            self.index.best(walk, &mut |rank| {
                self.admits(rank, *form, contest.filter, request)
            })
        });
        indexed.min().or_else(|| {
            self.customs
                .iter()
                .find(|custom| {
                    contest.spellings.iter().any(|(path, form)| {
                        self.admits(custom.rank, *form, contest.filter, request)
                            && self.custom_matches(custom, path)
                    })
                })
                .map(|custom| custom.rank)
        })
    }
}

/// Adds routes that are not there yet.
fn add_all(found: &mut Matches, routes: impl Iterator<Item = RouteId>) {
    for id in routes {
        if id != found.primary && !found.others.contains(&id) {
            found.others.push(id);
        }
    }
}

/// A decoded path as a client would send it: spaces and what is outside ASCII cannot stand in a target by themselves.
fn as_sent(path: &str) -> String {
    let mut sent = String::with_capacity(path.len());
    for byte in path.bytes() {
        if (0x21..0x7f).contains(&byte) {
            sent.push(char::from(byte));
        } else {
            sent.push_str(&format!("%{byte:02X}"));
        }
    }
    sent
}

/// Collects the distinct routes of all readings.
struct Search<'t, 'r, 's> {
    table: &'t RouteTable,
    request: &'t RequestView<'r>,
    found: Vec<RouteId>,
    /// Where to take down what was looked at.
    spellings: Option<&'s mut Vec<String>>,
}

impl Search<'_, '_, '_> {
    fn push(&mut self, route: RouteId) {
        if !self.found.contains(&route) {
            self.found.push(route);
        }
    }
}

impl Judge for Search<'_, '_, '_> {
    fn contest(&mut self, contest: &Contest<'_>) -> Option<Spelled> {
        if let Some(all) = &mut self.spellings {
            for (spelling, _) in &contest.spellings {
                if !all.iter().any(|known| known == spelling) {
                    all.push(spelling.clone().into_owned());
                }
            }
        }
        let entry = self
            .table
            .entries
            .get(self.table.winner(contest, self.request)? as usize)?;
        self.push(entry.route);
        Some(entry.spelled)
    }

    fn unclaimed(&mut self) {
        self.push(self.table.default);
    }
}

struct Listing(Vec<(&'static str, String)>);

impl Judge for Listing {
    fn contest(&mut self, contest: &Contest<'_>) -> Option<Spelled> {
        for (path, _) in &contest.spellings {
            if !self.0.iter().any(|(_, known)| known == path) {
                self.0.push((contest.name, path.clone().into_owned()));
            }
        }
        None
    }

    fn unclaimed(&mut self) {}
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Conditions, Need, Rule};
    use crate::route::{ConditionOn, ConditionSpec, RouteSpec, Settings, Severity, SourceSpec};
    use crate::session::Freshness;

    const PUBLIC: Need = Need::Public;
    const DENY: Need = Need::Deny;

    fn signed_in() -> Need {
        Need::SignedIn(Conditions::default())
    }

    fn rule(need: Need) -> Rule {
        Rule {
            need,
            freshness: Freshness::default(),
        }
    }

    fn route(source: &str, need: Need) -> RouteSpec {
        RouteSpec {
            sources: vec![SourceSpec {
                source: source.to_owned(),
                line: None,
                has: Vec::new(),
                missing: Vec::new(),
                locale: true,
            }],
            methods: Vec::new(),
            hosts: Vec::new(),
            upstream: 0,
            rule: rule(need),
            app_caches: false,
            line: None,
        }
    }

    fn settings(routes: &[(&str, Need)], default: Need) -> Settings {
        let routes = routes
            .iter()
            .enumerate()
            .map(|(at, (source, need))| RouteSpec {
                line: Some(10 * (at + 1)),
                ..route(source, need.clone())
            });
        Settings {
            nextjs: NextJs::default(),
            routes: routes.collect(),
            default: rule(default),
            default_upstream: 0,
            same_app: Vec::new(),
            auth_base_path: "/api/auth".to_owned(),
            auth_upstream: 0,
            sign_in_path: Some("/sign-in".to_owned()),
            dev: false,
        }
    }

    fn built(settings: &Settings) -> RouteTable {
        RouteTable::build(settings).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn table(routes: &[(&str, Need)], default: Need) -> RouteTable {
        built(&settings(routes, default))
    }

    fn find(
        table: &RouteTable,
        method: &str,
        host: &str,
        target: &str,
        headers: &HeaderMap,
    ) -> Result<Matches, Ambiguity> {
        table.find(&RequestView {
            method: &method.parse().unwrap(),
            target: Target::parse(target.as_bytes())?,
            host,
            headers,
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        })
    }

    fn patterns(table: &RouteTable, target: &str) -> Vec<String> {
        let matches = find(table, "GET", "app", target, &HeaderMap::new()).unwrap();
        matches
            .all()
            .map(|id| table.route(id).pattern.clone())
            .collect()
    }

    /// Whether a stranger gets through: every reading must let them.
    fn is_open(table: &RouteTable, target: &str) -> bool {
        find(table, "GET", "app", target, &HeaderMap::new()).is_ok_and(|matches| {
            matches
                .all()
                .all(|id| !matches!(table.route(id).rule.need, Need::SignedIn(_) | Need::Deny))
        })
    }

    fn errors(settings: &Settings) -> Vec<Problem> {
        let problems = RouteTable::build(settings).expect_err("a configuration with an error");
        problems
            .into_iter()
            .filter(|p| p.severity == Severity::Error)
            .collect()
    }

    /// A base path and locales, and a few protected pages in an otherwise open app.
    fn localized() -> RouteTable {
        let sources = [
            "/legacy/:path*",
            "/api/legacy/:path*",
            "/private/:path*",
            "/dashboard",
        ];
        let mut settings = settings(&sources.map(|source| (source, signed_in())), PUBLIC);
        settings.auth_base_path = "/base/api/auth".to_owned();
        settings.sign_in_path = Some("/base/sign-in".to_owned());
        settings.nextjs = NextJs {
            base_path: "/base".to_owned(),
            locales: ["en", "fr", "nl-NL"].map(str::to_owned).to_vec(),
            default_locale: Some("en".to_owned()),
            trailing_slash: true,
            ..NextJs::default()
        };
        built(&settings)
    }

    #[test]
    fn the_data_of_a_page_are_not_handed_to_strangers_by_a_locale_in_front() {
        let table = localized();
        for (target, open) in [
            ("/base/fr/_next/data/B/legacy.json", false),
            ("/base/FR/_next/data/B/legacy.json", false),
            ("/base/%66r/_next/data/B/legacy.json", false),
            ("/base/en/_next/data/B/legacy.json", false),
            ("/base/NL-nl/_next/data/B/legacy.json/", false),
            ("/base/fr/_next/data/B/fr/legacy.json", false),
            ("/base/fr/_next/data/B/FR/legacy/3.json", false),
            ("/base/fr/_next/data/B/any/legacy/3.json", false),
            ("/base/fr/_next/data/B/index/legacy/3.json", false),
            ("/base/fr/_next/dat%61/B/lega%63y.json", false),
            ("/base/en/_next/data/B/api/legacy/2.json", false),
            ("/base/en/_next/data/B/private/report.txt.json", false),
            // Behind a prefix for assets, and below the path of another app.
            ("/cdn/_next/data/B/legacy.json", false),
            ("/base/cdn/_next/data/B/fr/legacy.json", false),
            ("/base/legacy/_next/data/B/x.json", false),
            ("/base/fr/_next/data/B/open.json", true),
            ("/base/FR/_next/data/B/fr/open.json", true),
            ("/base/fr/_next/data/B/legacyx.json", true),
            ("/cdn/_next/data/B/open.json", true),
        ] {
            assert_eq!(is_open(&table, target), open, "{target}");
        }
    }

    #[test]
    fn what_anybody_may_see_stays_open_as_data_behind_a_prefix() {
        let table = table(&[("/shop/:path*", PUBLIC)], signed_in());
        assert!(is_open(&table, "/shop/_next/data/B/cart.json"));
        assert!(!is_open(&table, "/other/_next/data/B/cart.json"));
    }

    #[test]
    fn the_data_of_a_page_are_not_handed_to_strangers_as_data_of_data() {
        let table = localized();
        for (target, open) in [
            ("/base/_next/data/B/_next/data/B/legacy.json.json", false),
            ("/base/_next/data/B/fr/_next/data/B/legacy.json.json", false),
            (
                "/base/_next/data/B/FR/_next/data/B/en/legacy.json.json",
                false,
            ),
            (
                "/base/_next/data/B/index/_next/data/B/legacy.json.json",
                false,
            ),
            (
                "/base/_next/data/B/_next/data/B/x/legacy/3.json.json",
                false,
            ),
            (
                "/base/_next/data/B/cdn/_next/data/B/legacy.json.json",
                false,
            ),
            ("/base/_next/data/B/_next/data/B/open.json.json", true),
            ("/base/_next/data/B/fr/_next/data/B/fr/open.json.json", true),
        ] {
            assert_eq!(is_open(&table, target), open, "{target}");
        }
        let endless = format!(
            "/base{}/open{}",
            "/_next/data/B".repeat(70),
            ".json".repeat(70)
        );
        assert_eq!(
            find(&table, "GET", "app", &endless, &HeaderMap::new()),
            Err(Ambiguity::TooManyReadings)
        );
    }

    #[test]
    fn a_protected_picture_is_not_handed_to_strangers_by_the_optimizer_asked_for_as_data() {
        let table = localized();
        let within = |inner: &str| -> String {
            let inner: String = url::form_urlencoded::byte_serialize(inner.as_bytes()).collect();
            format!("/base/_next/data/B/_next/image.json?w=64&q=75&url={inner}")
        };
        for (picture, open) in [
            ("/base/private/secret.png", false),
            ("/base/en/private/secret.png", false),
            ("/base/_next/data/B/private/secret.png.json", false),
            ("/base/open/logo.png", true),
        ] {
            for target in [
                format!("/base/_next/image/?url={picture}&w=64&q=75"),
                format!("/base/_next/data/B/_next/image.json?url={picture}&w=64&q=75"),
                format!("/base/_next/data/B/index/_next/image.json?url={picture}&w=64&q=75"),
                format!("/base/fr/_next/data/B/_next/ima%67e.json?url={picture}&w=64&q=75"),
                within(&within(picture)),
            ] {
                assert_eq!(is_open(&table, &target), open, "{target}");
            }
        }
        let deep = (0..6).fold("/base/open/logo.png".to_owned(), |inner, _| within(&inner));
        assert!(!is_open(&table, &deep));
    }

    #[test]
    fn a_page_shown_in_anothers_place_needs_what_that_other_needs() {
        let table = table(
            &[
                ("/gallery/:path*", PUBLIC),
                ("/a/b/:path*", PUBLIC),
                ("/dashboard/:path*", signed_in()),
                ("/a/private/:path*", signed_in()),
            ],
            PUBLIC,
        );
        for (target, open) in [
            ("/gallery/(..)dashboard/7", false),
            ("/gallery/%28..%29dashboard/7", false),
            ("/gallery/%28%2e%2e%29dashboar%64/7", false),
            ("/gallery/(..)dashboard/7.rsc", false),
            ("/gallery/(...)dashboard", false),
            ("/a/b/c/d/(...)dashboard", false),
            ("/a/b/(..)(..)dashboard", false),
            ("/a/b/(..)private/x", false),
            ("/a/(.)private/x", false),
            ("/gallery/(.)photo/1", true),
            ("/gallery/(..)photo/1", true),
            ("/a/b/(.)private/x", true),
            ("/gallery/(dashboard)", true),
            ("/gallery/(....)dashboard", true),
        ] {
            assert_eq!(is_open(&table, target), open, "{target}");
        }
    }

    #[test]
    fn a_page_asked_for_from_a_protected_one_is_no_more_public_than_that() {
        let routes = [
            ("/photo/:path*", PUBLIC),
            ("/open/:path*", PUBLIC),
            ("/members", signed_in()),
        ];
        let open = |table: &RouteTable, from: &str| {
            let mut headers = HeaderMap::new();
            headers.append("next-url", HeaderValue::from_str(from).unwrap());
            let found = find(table, "GET", "app", "/photo/1", &headers);
            found.is_ok_and(|found| {
                let mut needs = found.all().map(|id| &table.route(id).rule.need);
                needs.all(|need| *need == PUBLIC)
            })
        };
        let deep = format!("/{}", "a/".repeat(40));
        for (default, others) in [(PUBLIC, true), (signed_in(), false)] {
            let table = table(&routes, default);
            for (from, is_open) in [
                ("/open/x", true),
                ("/photo/2", true),
                ("members", true),
                ("", true),
                ("/members", false),
                ("/members/x", false),
                ("/%6dembers/x", false),
                ("//members", false),
                ("/x/../members", false),
                ("/elsewhere", others),
                (deep.as_str(), false),
            ] {
                assert_eq!(open(&table, from), is_open, "{from} {others}");
            }
        }
    }

    #[test]
    fn the_more_specific_source_wins_segment_by_segment() {
        let table = table(
            &[
                ("/((?!z).*)", PUBLIC),
                ("/:path*", PUBLIC),
                ("/a/:path*", PUBLIC),
                ("/a/:x?", PUBLIC),
                ("/a/:x", PUBLIC),
                ("/a/b", PUBLIC),
                ("/:x/b", PUBLIC),
                ("/a/:rest*/end", PUBLIC),
                ("/:l(en|fr)/c", PUBLIC),
            ],
            signed_in(),
        );
        for (target, expected) in [
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b"),
            ("/a/c", "/a/:x"),
            ("/a", "/a/:x?"),
            ("/a/c/d", "/a/:path*"),
            ("/a/c/end", "/a/:rest*/end"),
            ("/q/b", "/:x/b"),
            ("/en/c", "/:l(en|fr)/c"),
            ("/q/c", "/:path*"),
            ("/", "/:path*"),
        ] {
            assert_eq!(patterns(&table, target), [expected], "{target}");
        }
    }

    #[test]
    fn sources_with_expressions_come_last_in_file_order() {
        let table = table(
            &[
                ("/((?!api).*)", DENY),
                ("/:a-:b", PUBLIC),
                ("/x-y/:p*", PUBLIC),
            ],
            signed_in(),
        );
        assert_eq!(patterns(&table, "/x-y"), ["/x-y/:p*"]);
        assert_eq!(patterns(&table, "/p-q"), ["/((?!api).*)"]);
        assert_eq!(patterns(&table, "/api-q"), ["/:a-:b"]);
        assert_eq!(patterns(&table, "/api"), ["(everything else)"]);
    }

    #[test]
    fn a_source_that_a_catch_all_swallows_is_pointed_out() {
        let warned = |routes: &[(&str, Need)]| -> Vec<Vec<usize>> {
            let table = table(routes, signed_in());
            table.warnings().iter().map(|p| p.lines.clone()).collect()
        };
        assert_eq!(
            warned(&[("/((?!api).*)", DENY), ("/:path*", PUBLIC)]),
            [[20, 10]]
        );
        assert_eq!(
            warned(&[("/feeds/:path*", PUBLIC), ("/feeds/:id.json", DENY)]),
            [[10, 20]]
        );
        assert!(
            warned(&[
                ("/feeds/:path*", PUBLIC),
                ("/feed-:id", DENY),
                ("/((?!api).*)", DENY)
            ])
            .is_empty()
        );
    }

    #[test]
    fn methods_and_hosts_narrow_and_are_compared_exactly() {
        let mut settings = settings(&[("/items", PUBLIC), ("/items", DENY)], signed_in());
        settings.routes[0].methods = vec![Method::GET];
        settings.routes[1].methods = vec![Method::DELETE];
        settings.routes[0].hosts = vec!["app".to_owned()];
        let table = built(&settings);
        let need = |method, host| {
            let id = find(&table, method, host, "/items", &HeaderMap::new())
                .unwrap()
                .primary;
            table.route(id).rule.need.clone()
        };
        assert_eq!(need("GET", "app"), PUBLIC);
        assert_eq!(need("get", "app"), signed_in());
        assert_eq!(need("HEAD", "app"), signed_in());
        assert_eq!(need("GET", "other"), signed_in());
        assert_eq!(need("DELETE", "other"), DENY);
    }

    #[test]
    fn two_equally_specific_sources_are_a_tie_that_names_both_lines() {
        let tied = errors(&settings(
            &[("/a/:x", PUBLIC), ("/b", PUBLIC), ("/a/:y", DENY)],
            signed_in(),
        ));
        assert_eq!(tied.len(), 1);
        assert_eq!(tied[0].lines, [10, 30]);
        // The twins: told apart by literal, by method, by condition.
        table(&[("/a/:x", PUBLIC), ("/b/:y", DENY)], signed_in());
        let mut by_method = settings(&[("/a", PUBLIC), ("/a", DENY)], signed_in());
        by_method.routes[0].methods = vec![Method::GET];
        by_method.routes[1].methods = vec![Method::POST];
        built(&by_method);
    }

    #[test]
    fn a_condition_ranks_first_and_falls_through_when_it_does_not_hold() {
        let mut settings = settings(&[("/a", signed_in()), ("/a", PUBLIC)], DENY);
        settings.routes[1].sources[0].has = vec![ConditionSpec {
            on: ConditionOn::Header("x-open".to_owned()),
            value: None,
        }];
        let table = built(&settings);
        assert!(
            table
                .warnings()
                .iter()
                .any(|p| p.severity == Severity::Warning && p.lines == [20])
        );
        let mut headers = HeaderMap::new();
        let need = |headers: &HeaderMap| {
            let id = find(&table, "GET", "app", "/a", headers).unwrap().primary;
            table.route(id).rule.need.clone()
        };
        assert_eq!(need(&headers), signed_in());
        headers.insert("x-open", "1".parse().unwrap());
        assert_eq!(need(&headers), PUBLIC);
    }

    #[test]
    fn an_invalid_source_is_reported_with_its_reason_and_line() {
        let found = errors(&settings(&[("/a", PUBLIC), ("/x*", PUBLIC)], signed_in()));
        assert_eq!(found.len(), 1);
        assert!(
            found[0].message.contains("Unexpected MODIFIER at 2"),
            "{}",
            found[0].message
        );
        assert_eq!(
            (found[0].lines.as_slice(), found[0].key.as_str()),
            ([20].as_slice(), "route[1].path[0]")
        );
    }

    #[test]
    fn what_signing_in_needs_is_always_reachable_and_may_be_tightened() {
        let table = table(
            &[
                ("/:path*", signed_in()),
                ("/robots.txt", DENY),
                ("/_next/:path*", DENY),
            ],
            DENY,
        );
        for open in [
            "/api/auth/sign-in/email",
            "/api/auth",
            "/sign-in",
            "/sign-in?callbackURL=%2Faccount",
            "/_next/static/chunks/main.js",
            "/favicon.ico",
            "/manifest.json",
            "/manifest.webmanifest",
            "/.well-known/x",
        ] {
            assert!(is_open(&table, open), "{open}");
        }
        for shut in [
            "/robots.txt",
            "/sign-in/x",
            "/api/authx",
            "/_next/image",
            "/account",
            "/__nextjs_font/x",
            "/_next/webpack-hmr",
        ] {
            assert!(!is_open(&table, shut), "{shut}");
        }
        let mut dev = settings(&[("/:path*", signed_in())], DENY);
        dev.dev = true;
        let dev = built(&dev);
        for open in [
            "/__nextjs_font/x",
            "/_next/webpack-hmr",
            "/__nextjs_original-stack-frames",
        ] {
            assert!(is_open(&dev, open), "{open}");
        }
        let id = find(&dev, "GET", "app", "/favicon.ico", &HeaderMap::new())
            .unwrap()
            .primary;
        assert_eq!(dev.route(id).built_in, Some("favicon"));
    }

    #[test]
    fn a_configuration_in_which_nobody_could_sign_in_is_refused() {
        for (source, need) in [
            ("/sign-in", DENY),
            ("/sign-in", signed_in()),
            ("/api/auth/:path*", DENY),
            ("/api/auth/:path+", signed_in()),
            ("/api/auth/sign-in/:kind", signed_in()),
        ] {
            let found = errors(&settings(&[(source, need)], PUBLIC));
            assert_eq!(found.len(), 1, "{source}: {found:?}");
            assert_eq!(found[0].lines, [10]);
        }
        table(
            &[
                ("/sign-in", Need::Guest),
                ("/api/auth/:path*", Need::Optional),
                ("/api/auth/admin/:path*", DENY),
            ],
            DENY,
        );
    }

    #[test]
    fn no_other_reading_opens_what_is_protected() {
        let guarded = [
            ("/account/:path*", signed_in()),
            ("/_next/:path*", PUBLIC),
            ("/assets/:path*", PUBLIC),
        ];
        let table = table(&guarded, PUBLIC);
        for target in [
            "/account",
            "/account/",
            "/account/x",
            "/%61ccount",
            "/account%2fx",
            "/account.json",
            "/account.rsc",
            "/account.json/",
            "/account.segments/_tree.segment.rsc",
            "/account.segments/a/b.segment.rsc",
            "/account/x.segments/y.segment.rsc",
            "/_next/data/B/account.json",
            "/_next/data/B/account.json/",
            "/_next/data/B/account/%37.json",
            "/_next/data/B/account",
            "/_next/data/B/account.rsc",
            "/%5fnext/data/B/account.json",
            "/_next%2fdata%2fB%2faccount.json",
            "/_next/data/B/index/account.json",
            "/account;x=1",
            "/account;x=1/y",
            "/account%3bx",
            "/account%23x",
            "/account%3fx",
            "/account%5cx",
        ] {
            assert!(!is_open(&table, target), "{target}");
        }
        for target in [
            "/",
            "/accounts",
            "/ACCOUNT",
            "/x?y=/account",
            "/_next/static/x.js",
            "/_next/data/B/index.json",
            "/_next/data/B/pricing.json",
            "/assets/account.json",
            "/assets/a%20b.png",
            "/assets/a%2Fb.png",
        ] {
            assert!(is_open(&table, target), "{target}");
        }
    }

    #[test]
    fn plain_set_ups_stay_free_of_false_alarms() {
        let open = [
            ("/", PUBLIC),
            ("/pricing", PUBLIC),
            ("/café", PUBLIC),
            ("/a b", PUBLIC),
            ("/openapi.json", PUBLIC),
            ("/feeds/:id.json", PUBLIC),
            ("/blog/:slug", PUBLIC),
            ("/docs/:path*", PUBLIC),
            ("/img;v=1", PUBLIC),
        ];
        for default in [signed_in(), DENY] {
            let mut with_catch_all = open.to_vec();
            // It needs an expression, and a catch-all comes before those.
            with_catch_all.retain(|(source, _)| *source != "/feeds/:id.json");
            with_catch_all.push(("/:path*", signed_in()));
            for routes in [open.to_vec(), with_catch_all] {
                let table = table(&routes, default.clone());
                for target in [
                    "/",
                    "/pricing",
                    "/pricing/",
                    "/pricing?x=%zz",
                    "/caf%C3%A9",
                    "/caf%c3%a9",
                    "/a%20b",
                    "/openapi.json",
                    "/blog/hello.json",
                    "/docs/x/y.rsc",
                    "/docs/a;b",
                    "/img;v=1",
                    "/_next/data/B/pricing.json",
                    "/_next/data/B/index.json",
                    "/_next/data/B/blog/a%20b.json",
                    "/_next/static/chunks/app/%5Bid%5D/page-1.js",
                    "/_next/static/chunks/app/(group)/@slot/page.js",
                    "/_next/static/B/_buildManifest.js",
                    "/_next/static/x.json",
                    "/_next/static/x.segments/_tree.segment.rsc",
                    "/_next/static/media/a%2Bb.woff2",
                    "/.well-known/x.json",
                    "/manifest.json",
                    "/favicon.ico",
                ] {
                    assert!(
                        is_open(&table, target),
                        "{target} in {} routes",
                        routes.len()
                    );
                }
                let whole = routes.iter().all(|(source, _)| *source != "/:path*");
                assert_eq!(is_open(&table, "/feeds/7.json"), whole);
                for target in [
                    "/account",
                    "/openapi",
                    "/pricing.json",
                    "/pricing.rsc",
                    "/%70ricing",
                    "/_next/data/B/account.json",
                    "/pricing;x",
                ] {
                    assert!(!is_open(&table, target), "{target}");
                }
            }
        }
    }

    #[test]
    fn an_encoded_slash_passes_only_when_it_makes_no_difference() {
        let table = table(
            &[("/files/:path*", PUBLIC), ("/private/:path*", signed_in())],
            PUBLIC,
        );
        let ask = |target| find(&table, "GET", "app", target, &HeaderMap::new());
        assert!(ask("/files/a%2Fb.pdf").is_ok());
        assert!(ask("/private/a%2Fb.pdf").is_ok());
        assert!(ask("/docs%2fmanual.pdf").is_ok());
        assert_eq!(
            ask("/private%2freport.txt"),
            Err(Ambiguity::EncodedSeparator)
        );
        assert_eq!(
            ask("/private%5creport.txt"),
            Err(Ambiguity::EncodedSeparator)
        );
        assert_eq!(ask("/files/..%2fprivate/x"), Err(Ambiguity::DotSegment));
    }

    #[test]
    fn a_base_path_stands_before_every_source() {
        let mut settings = settings(
            &[("/dashboard/:path*", DENY), ("/", Need::Optional)],
            PUBLIC,
        );
        settings.nextjs.base_path = "/app".to_owned();
        let table = built(&settings);
        for target in [
            "/app/dashboard",
            "/app/dashboard/x",
            "/app/_next/data/B/dashboard.json",
            "/%61pp/dashboard",
            "/app/dashboard.rsc",
        ] {
            assert!(!is_open(&table, target), "{target}");
        }
        for target in [
            "/dashboard",
            "/appx/dashboard",
            "/app/app/dashboard",
            "/app/_next/static/x.js",
            "/app/sign-in",
            "/app/api/auth/ok",
        ] {
            assert!(is_open(&table, target), "{target}");
        }
        for target in ["/app", "/app/", "/app/_next/data/B/index.json"] {
            assert_eq!(patterns(&table, target), ["/"], "{target}");
        }
    }

    #[test]
    fn locales_are_stripped_in_any_case_and_literal_on_request() {
        let mut settings = settings(
            &[
                ("/dashboard/:path*", signed_in()),
                ("/en/legal", DENY),
                ("/", PUBLIC),
                ("/about", PUBLIC),
            ],
            PUBLIC,
        );
        settings.nextjs.locales = vec!["en".to_owned(), "nl-NL".to_owned()];
        settings.routes[1].sources[0].locale = false;
        let table = built(&settings);
        for target in [
            "/dashboard",
            "/en/dashboard",
            "/EN/dashboard",
            "/nl-nl/dashboard/x",
            "/%65n/dashboard",
            "/_next/data/B/en/dashboard.json",
            "/_next/data/B/dashboard.json",
            "/legal",
            "/en/legal",
            "/EN/legal",
        ] {
            assert!(!is_open(&table, target), "{target}");
        }
        for target in [
            "/",
            "/nl-NL",
            "/nl-NL/legal",
            "/fr/dashboard",
            "/en/en/dashboard",
            "/_next/data/B/en/about.json",
            "/nl-nl/sign-in",
        ] {
            assert!(is_open(&table, target), "{target}");
        }
        assert_eq!(patterns(&table, "/nl-nl/about"), ["/about"]);
        assert_eq!(patterns(&table, "/_next/data/B/nl-NL.json"), ["/"]);
        // A source that begins with a locale is a slip unless it says `locale = false`.
        settings.routes[1].sources[0].locale = true;
        assert!(built(&settings).warnings().iter().any(|p| p.lines == [20]));
    }

    #[test]
    fn doubt_closes_doors_and_opens_none() {
        let runaway = "/:p((?=a)(?:(?:a|aa)+(?!x))+b)";
        let target = format!("/{}", "a".repeat(3_000));
        #[allow(clippy::disallowed_methods)]
        let started = std::time::Instant::now();
        assert!(!is_open(&table(&[(runaway, signed_in())], PUBLIC), &target));
        assert!(!is_open(&table(&[(runaway, PUBLIC)], signed_in()), &target));
        // The twins: without doubt the expression decides.
        assert!(is_open(&table(&[(runaway, signed_in())], PUBLIC), "/c"));
        assert!(is_open(&table(&[(runaway, PUBLIC)], signed_in()), "/aab"));
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    #[test]
    fn a_target_with_endless_readings_is_refused() {
        let table = table(&[], PUBLIC);
        let many = format!("/a{}x.segment.rsc", ".segments/b".repeat(500));
        assert_eq!(
            find(&table, "GET", "app", &many, &HeaderMap::new()),
            Err(Ambiguity::TooManyReadings)
        );
        assert!(is_open(&table, "/a.segments/b.segments/c.segment.rsc"));
    }

    #[test]
    fn the_asterisk_is_no_path_and_gets_the_default() {
        let table = table(
            &[
                ("/:path*", PUBLIC),
                ("/(.*)", PUBLIC),
                ("/((?!x).*)", PUBLIC),
            ],
            DENY,
        );
        let request = RequestView {
            method: &Method::OPTIONS,
            target: Target::asterisk(),
            host: "app",
            headers: &HeaderMap::new(),
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let matches = table.find(&request).unwrap();
        assert_eq!(table.route(matches.primary).built_in, Some("default"));
        assert!(matches.others.is_empty());
    }

    #[test]
    fn readings_are_named_for_people() {
        let table = table(&[], PUBLIC);
        let target = Target::parse(b"/_next/data/B/%61ccount.json").unwrap();
        let readings = table.readings(target).unwrap();
        assert!(
            readings.contains(&("page of the data", "/account".to_owned())),
            "{readings:?}"
        );
    }

    /// What Node's URL parser and Next's router make of an address: one of the spellings of a protected page.
    fn disguised() -> impl Strategy<Value = (bool, bool, String)> {
        let letter = prop_oneof![Just(0_u8), Just(1), Just(2)];
        (
            any::<bool>(),
            any::<bool>(),
            "[a-z0-9]{1,6}",
            proptest::collection::vec(letter, 32),
            prop_oneof![
                Just(""),
                Just("/"),
                Just(".json"),
                Just(".rsc"),
                Just(".segments/_tree.segment.rsc")
            ],
            prop_oneof![Just(""), Just("/fr"), Just("/FR"), Just("/fR")],
            0..4_u8,
        )
            .prop_map(|(based, localized, slug, spelled, suffix, locale, wrap)| {
                let mut at = 0;
                let mut encode = |text: &str| -> String {
                    text.bytes()
                        .map(|byte| {
                            at += 1;
                            match (byte, spelled.get(at % spelled.len())) {
                                (b'/', _) | (_, Some(0) | None) => char::from(byte).to_string(),
                                (_, Some(1)) => format!("%{byte:02x}"),
                                (_, Some(_)) => format!("%{byte:02X}"),
                            }
                        })
                        .collect()
                };
                let locale = if localized { locale } else { "" };
                let base = if based { "/app" } else { "" };
                let page = encode(&format!("{locale}/vault/{slug}"));
                let target = match wrap {
                    0 => format!("{base}{}/B{page}.json", encode("/_next/data")),
                    1 => format!("{base}{page}{suffix}?x=/open"),
                    2 => format!("{base}{page};v=1{suffix}"),
                    _ => format!("{}{page}{suffix}", encode(base)),
                };
                (based, localized, target)
            })
    }

    /// Addresses out of the pieces that make parsers disagree. Each is a target, a relative reference or an absolute address.
    fn puzzling() -> impl Strategy<Value = String> {
        let separator = prop_oneof![
            6 => Just("/"),
            1 => Just("//"),
            1 => Just("\\"),
            1 => Just("%2f"),
            1 => Just("%5C"),
            1 => Just("/\t/"),
            1 => Just("/."),
            1 => Just(";/"),
        ];
        let name = prop_oneof![
            8 => Just("vault"),
            2 => Just("public"),
            2 => Just(".."),
            1 => Just("."),
            1 => Just("%2e%2e"),
            1 => Just(".%2E"),
            1 => Just("%252e%252e"),
            2 => Just("%76ault"),
            1 => Just("v%61ul%74"),
            1 => Just("va\nult"),
            1 => Just("vau\tlt"),
            1 => Just("VAULT"),
            1 => Just("vault;x"),
            1 => Just("vault%3bx"),
            1 => Just("%25vault"),
            1 => Just("..;"),
            1 => Just("x"),
            1 => Just(""),
            1 => Just("app"),
            1 => Just("en"),
            1 => Just("fR"),
            1 => Just("_next/data/B"),
            1 => Just("caf\u{e9}"),
        ];
        let front = prop_oneof![
            12 => Just(""),
            1 => Just("http://app.test"),
            1 => Just("HTTP:app.test"),
            1 => Just("//evil.example"),
            1 => Just(" "),
            1 => Just("\u{1}"),
        ];
        let tail = prop_oneof![
            6 => Just(""),
            1 => Just("/"),
            1 => Just("?x=/public"),
            1 => Just("?"),
            1 => Just("#/public"),
            1 => Just("%23"),
            1 => Just("%3f"),
            1 => Just(".json"),
            1 => Just(".rsc"),
            1 => Just(" "),
            1 => Just("%00"),
            1 => Just("%"),
        ];
        let segments = proptest::collection::vec((separator, name), 1..6);
        (front, segments, tail).prop_map(|(front, segments, tail)| {
            let path: String = segments
                .iter()
                .map(|(separator, name)| format!("{separator}{name}"))
                .collect();
            format!("{front}{path}{tail}")
        })
    }

    /// The paths a WHATWG parser and one decoding make of an address, and nothing of ours.
    fn as_browsers_and_node_read(address: &str) -> Vec<String> {
        let base = url::Url::parse("http://app.test").unwrap();
        let Ok(url) = base.join(address) else {
            return Vec::new();
        };
        let path = url.path().to_owned();
        let decoded = crate::percent::decode(path.as_bytes())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        decoded.into_iter().chain([path]).collect()
    }

    #[test]
    fn an_address_is_resolved_as_browsers_and_node_do() {
        for (address, path) in [
            ("/x/../vault", "/vault"),
            ("/x/%2e%2e/vault", "/vault"),
            ("/\\vault", "/"),
            ("/va\tult", "/vault"),
            ("/%76ault", "/vault"),
            ("//evil.example/vault", "/vault"),
        ] {
            assert!(
                as_browsers_and_node_read(address)
                    .iter()
                    .any(|read| read == path),
                "{address}"
            );
        }
    }

    proptest! {
            #[test]
            fn the_order_of_routes_decides_nothing(path in "(/[abz]){0,3}/?", order in Just((0..7).collect::<Vec<usize>>()).prop_shuffle()) {
                let path = if path.is_empty() { "/".to_owned() } else { path };
                let routes = [("/a/:x", PUBLIC), ("/a/b", signed_in()), ("/:x/b/:p*", DENY), ("/a/:p*", Need::Optional), ("/b/:x?", DENY), ("/", PUBLIC), ("/:p*", signed_in())];
                let shuffled: Vec<_> = order.iter().filter_map(|at| routes.get(*at).cloned()).collect();
                prop_assert_eq!(patterns(&table(&routes, DENY), &path), patterns(&table(&shuffled, DENY), &path));
            }

            #[test]
            fn what_browsers_and_node_resolve_to_a_protected_page_is_protected(address in puzzling(), (based, localized) in any::<(bool, bool)>()) {
                let mut settings = settings(&[("/vault/:path*", signed_in()), ("/:path*", PUBLIC), ("/_next/:path*", PUBLIC)], PUBLIC);
                let mut prefixes = vec![String::new()];
                if based {
                    settings.nextjs.base_path = "/app".to_owned();
                    prefixes = vec!["/app".to_owned()];
                }
                if localized {
                    settings.nextjs.locales = vec!["en".to_owned(), "fr".to_owned()];
                    let with: Vec<String> = prefixes.iter().flat_map(|prefix| ["/en", "/fR"].map(|locale| format!("{prefix}{locale}"))).collect();
                    prefixes.extend(with);
                }
                let vaults: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix}/vault")).collect();
                let read = as_browsers_and_node_read(&address);
                let protected = read.iter().any(|path| vaults.iter().any(|vault| path == vault || path.strip_prefix(vault.as_str()).is_some_and(|rest| rest.starts_with('/'))));
                if protected {
                    prop_assert!(!is_open(&built(&settings), &address), "{address:?} is read as {read:?}");
                }
            }

            #[test]
            fn no_spelling_of_a_protected_page_is_open((based, localized, target) in disguised()) {
                for (source, need) in [("/:path*", PUBLIC), ("/((?!vault).*)", PUBLIC), ("/_next/:path*", PUBLIC), ("/:a/:b?", Need::Optional)] {
                    let mut settings = settings(&[("/vault/:id", signed_in()), (source, need)], PUBLIC);
                    if based {
                        settings.nextjs.base_path = "/app".to_owned();
                    }
                    if localized {
                        settings.nextjs.locales = vec!["en".to_owned(), "fr".to_owned()];
                    }
                    prop_assert!(!is_open(&built(&settings), &target), "{} beside {}", target, source);
                }
            }

            #[test]
            fn a_plain_path_is_found_alike_with_and_without_the_short_cut(path in "(/[ab]){0,4}/?") {
                let path = if path.is_empty() { "/".to_owned() } else { path };
                let table = table(&[("/a/:x", PUBLIC), ("/:x/b/:p*", DENY), ("/((?!a).*)", PUBLIC), ("/a/a/:p+", DENY)], signed_in());
                let headers = HeaderMap::new();
                let request = RequestView { method: &Method::GET, target: Target::parse(path.as_bytes()).unwrap(), host: "app", headers: &headers, client: std::net::Ipv4Addr::LOCALHOST.into(),
    };
                let short = table.find(&request).unwrap();
                let mut search = Search { table: &table, request: &request, found: Vec::new(), spellings: None };
                table.reader(&mut search, "").read(request.target).unwrap();
                prop_assert_eq!(search.found, short.all().collect::<Vec<_>>());
            }
        }
}
