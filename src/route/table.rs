//! All routes, and which of them a request asks for.

use http::Method;

use crate::request::RequestView;
use crate::route::condition::Conditions;
use crate::route::expression::Expression;
use crate::route::index::{Index, Rank, Walk};
use crate::route::reading::{self, ANY_FORM, Contest, Filter, Judge, Reader, Spelled};
use crate::route::target::{Ambiguity, Target};
use crate::route::{NextJs, Problem, Route, RouteId, Settings};

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
    pub(super) warnings: Vec<Problem>,
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
}

impl RouteTable {
    /// Builds the table, and looks for everything in it that is wrong or leaves nobody a way to sign in.
    ///
    /// # Errors
    /// Every problem at once, warnings among them, when at least one is an error.
    pub fn build(settings: &Settings) -> Result<Self, Vec<Problem>> {
        super::build::build(settings)
    }

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
        &self.routes[id.0 as usize]
    }

    /// All routes: those of the configuration in file order, the built-in ones, and the default last.
    pub fn routes(&self) -> impl Iterator<Item = (RouteId, &Route)> {
        (0..).map(RouteId).zip(&self.routes)
    }

    /// The routes a request asks for, by every reading of its target.
    ///
    /// # Errors
    /// An encoded slash or backslash is refused where it would make a difference.
    pub fn find(&self, request: &RequestView<'_>) -> Result<Matches, Ambiguity> {
        let path = request.target.path();
        let spelling = request.target.spelling();
        let one_reading = !spelling.escapes
            && !spelling.parameters
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
        };
        self.reader(&mut search).read(request.target)?;
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
        self.reader(&mut listing).read(target)?;
        Ok(listing.0)
    }

    fn reader<'j>(&self, judge: &'j mut dyn Judge) -> Reader<'_, 'j> {
        Reader {
            nextjs: &self.nextjs,
            judge,
            contests: 0,
        }
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
            && (entry.hosts.is_empty() || entry.hosts.iter().any(|host| host == request.host))
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

/// Collects the distinct routes of all readings.
struct Search<'t, 'r> {
    table: &'t RouteTable,
    request: &'t RequestView<'r>,
    found: Vec<RouteId>,
}

impl Search<'_, '_> {
    fn push(&mut self, route: RouteId) {
        if !self.found.contains(&route) {
            self.found.push(route);
        }
    }
}

impl Judge for Search<'_, '_> {
    fn contest(&mut self, contest: &Contest<'_>) -> Option<Spelled> {
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
