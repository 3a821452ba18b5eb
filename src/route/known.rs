//! What a build says of a path: what the app has there, and which other paths it stands for.
//!
//! Pages are looked up like sources: one walk of an index, without allocating. Rewrites are told apart by a second index first;
//! their expressions only run for paths that may be meant. What cannot be told from here (conditions, a bound that was hit, where
//! a destination leads that clients choose) is taken to be so: it may only add rules, and the strictest verdict counts.

use std::borrow::Cow;
use std::sync::Arc;

use crate::app::NextJs;
use crate::app::next::{Part, parts};
use crate::app::{App, Kind, Rewrite};
use crate::request::RequestView;
use crate::route::RouteId;
use crate::route::actions::Actions;
use crate::route::expression::{Expression, Outcome};
use crate::route::index::{Index, Rank, Specificity, Walk};
use crate::route::pattern::{Pattern, Segment};
use crate::route::reading::inner_of;
use crate::route::table::{Matches, RouteTable};
use crate::target::{Ambiguity, Target};

/// Paths looked at for one request, rewritten ones included. Ordinary ones have fewer than ten.
const STEPS_MAX: usize = 64;
/// The parameter that stands for the locale in sources and destinations of a build.
pub(super) const LOCALE: &str = "nextInternalLocale";

/// An app, ready to be asked.
#[derive(Debug)]
pub(super) struct Known {
    /// As it was read.
    pub(super) app: Arc<App>,
    /// What calling its Server Actions needs.
    pub(super) actions: Arc<Actions>,
    nextjs: NextJs,
    pages: Index,
    /// By rank: the route's place in the app.
    places: Vec<usize>,
    rewrites: Rules,
    redirects: Rules,
}

/// Rules about paths, in the order Next.js tries them.
#[derive(Debug, Default)]
struct Rules {
    rules: Vec<Rule>,
    /// Those of whole segments, in small letters.
    index: Index,
    /// All others.
    loose: Vec<usize>,
    case_sensitive: bool,
}

#[derive(Debug)]
struct Rule {
    phase: Phase,
    source: String,
    /// `None`: it cannot be run here, so it may always match.
    expression: Option<Expression>,
    /// Names of the groups of the expression.
    keys: Vec<Option<String>>,
    to: To,
    is_conditional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    BeforeFiles,
    AfterFiles,
    Fallback,
}

/// Where a rule leads.
#[derive(Debug)]
enum To {
    /// Away from the app.
    Away,
    /// To a path of the app.
    Path {
        pieces: Vec<Piece>,
        /// Whether it has a query, which the image optimizer would read.
        has_query: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(String),
}

/// Where a rule leads for one path.
enum Led {
    To(String),
    /// Clients choose what follows.
    Below(String),
}

/// What was found for one request.
struct Found<'f, 'r> {
    table: &'f RouteTable,
    request: &'f RequestView<'r>,
    matches: &'f mut Matches,
    steps: usize,
}

impl Found<'_, '_> {
    fn add(&mut self, id: RouteId) {
        if id != self.matches.primary && !self.matches.others.contains(&id) {
            self.matches.others.push(id);
        }
    }

    /// Wherever it leads below a path, the rules there hold.
    fn add_below(&mut self, path: &str) {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // The last one may be the beginning of a segment.
        let whole = if path.ends_with('/') || parts.is_empty() {
            &parts[..]
        } else {
            parts.get(..parts.len() - 1).unwrap_or_default()
        };
        let base = self.table.nextjs.base_path.clone();
        let below: Vec<RouteId> = self
            .table
            .routes()
            .filter(|(_, route)| {
                let fixed = Pattern::parse(&route.pattern).map(|pattern| {
                    let own = pattern.fixed_segments().into_iter().map(str::to_owned);
                    let base = base.split('/').filter(|_| route.built_in.is_none());
                    let base = base.filter(|part| !part.is_empty()).map(str::to_owned);
                    base.chain(own).collect::<Vec<_>>()
                });
                // The default route is no source.
                fixed.map_or(true, |fixed| {
                    whole.iter().zip(&fixed).all(|(one, other)| one == other)
                })
            })
            .map(|(id, _)| id)
            .collect();
        for id in below {
            self.add(id);
        }
    }
}

impl Known {
    pub(super) fn new(app: Arc<App>, nextjs: &NextJs, actions: Arc<Actions>) -> Self {
        let mut ranked: Vec<(Specificity, Vec<Segment>, usize)> = (0..)
            .zip(&app.routes)
            .map(|(place, route)| {
                let segments = segments_of(&route.page, route.kind == crate::app::Kind::PublicFile);
                (Specificity::of(&segments), segments, place)
            })
            .collect();
        ranked.sort_by(|one, other| one.0.cmp(&other.0));
        let mut pages = Index::default();
        let mut places = Vec::with_capacity(ranked.len());
        for (_, segments, place) in ranked {
            let rank = Rank::try_from(places.len()).unwrap_or(Rank::MAX);
            pages.insert(rank, &segments);
            places.push(place);
        }
        let mut rewrites = Rules::new(app.case_sensitive);
        let phases = [
            (Phase::BeforeFiles, &app.rewrites.before_files),
            (Phase::AfterFiles, &app.rewrites.after_files),
            (Phase::Fallback, &app.rewrites.fallback),
        ];
        for (phase, rules) in phases {
            for rule in rules {
                let to = To::of(rule);
                rewrites.add(phase, &rule.source, &rule.regex, to, rule.is_conditional);
            }
        }
        let mut redirects = Rules::new(app.case_sensitive);
        for rule in &app.redirects {
            redirects.add(
                Phase::BeforeFiles,
                &rule.source,
                &rule.regex,
                To::Away,
                rule.is_conditional,
            );
        }
        Self {
            nextjs: nextjs.clone(),
            app,
            actions,
            pages,
            places,
            rewrites,
            redirects,
        }
    }

    /// Adds to the routes of a request what follows from the build: the rules of what it is rewritten to, and the default where the
    /// app has nothing. `spellings` are those its target was read in; without any it has one.
    pub(super) fn widen(
        &self,
        table: &RouteTable,
        request: &RequestView<'_>,
        spellings: &[String],
        matches: &mut Matches,
    ) -> Result<(), Ambiguity> {
        if !table.is_for_app(matches.primary) {
            return Ok(());
        }
        let path = request.target.path();
        if self.rewrites.rules.is_empty() {
            let mut all = std::iter::once(path).chain(spellings.iter().map(String::as_str));
            if !all.any(|path| self.has(path)) {
                self.nothing_there(table, path, spellings, matches);
            }
            return Ok(());
        }
        let mut found = Found {
            table,
            request,
            matches,
            steps: 0,
        };
        let mut there = self.follow(&mut found, path, 0)?;
        for path in spellings.iter().filter(|spelling| *spelling != path) {
            there |= self.follow(&mut found, path, 0)?;
        }
        // Outside of the base path Next.js puts the locale in front all the same.
        if inner_of(path, &self.nextjs.base_path).is_none()
            && let Some(locale) = self.nextjs.implied_locale(request.host)
        {
            let all = std::iter::once(path).chain(spellings.iter().map(String::as_str));
            for path in all.map(|path| format!("/{locale}{path}")) {
                there |= self.follow(&mut found, &path, 0)?;
            }
        }
        if !there {
            self.nothing_there(table, path, spellings, matches);
        }
        Ok(())
    }

    fn nothing_there(
        &self,
        table: &RouteTable,
        path: &str,
        spellings: &[String],
        matches: &mut Matches,
    ) {
        let mut all = std::iter::once(path).chain(spellings.iter().map(String::as_str));
        let default = table.default;
        if matches.primary != default
            && !matches.others.contains(&default)
            && !all.any(|path| self.redirects.holds_for_all(path))
        {
            matches.others.push(default);
        }
    }

    /// What the app has at a target, for people.
    pub(super) fn name(&self, table: &RouteTable, request: &RequestView<'_>) -> String {
        let readings = table.readings(request.target).unwrap_or_default();
        let path = request.target.path();
        let mut paths = vec![path];
        paths.extend(readings.iter().map(|(_, path)| path.as_str()));
        let rewrite = |before: bool| {
            let found = paths.iter().find_map(|path| self.rewrites.first(path));
            found
                .filter(|rule| before == (rule.phase == Phase::BeforeFiles))
                .map(|rule| format!("rewritten by `{}`", rule.source))
        };
        let page = || {
            let place = paths.iter().find_map(|path| self.place(path))?;
            Some(self.app.routes.get(place)?.page.clone())
        };
        let redirect = || {
            let rule = paths.iter().find_map(|path| self.redirects.first(path))?;
            Some(format!("redirected by `{}`", rule.source))
        };
        let internal = || {
            let found = paths.iter().any(|path| self.is_internal(path));
            found.then(|| "Next.js itself".to_owned())
        };
        redirect()
            .or_else(|| rewrite(true))
            .or_else(page)
            .or_else(internal)
            .or_else(|| rewrite(false))
            .unwrap_or_else(|| NOTHING.to_owned())
    }

    /// Whether the app has something at a path, in this spelling.
    fn has(&self, path: &str) -> bool {
        self.place(path).is_some() || self.is_internal(path)
    }

    /// The app's route at a path.
    fn place(&self, path: &str) -> Option<usize> {
        let inner = inner_of(path, &self.nextjs.base_path)?;
        let at = |path| {
            let rank = self.pages.best(Walk::of(path), &mut |_| true)?;
            self.places.get(rank as usize).copied()
        };
        at(inner).or_else(|| {
            let locale = self.nextjs.locale_of(inner)?;
            let page = inner.get(1 + locale.len()..)?;
            at(if page.is_empty() { "/" } else { page })
        })
    }

    /// Whether a path, in the only reading it has, leads to something that runs no Server Actions, and to nothing else.
    pub(super) fn runs_no_actions(&self, path: &str) -> bool {
        let rewrites = &self.app.rewrites;
        let kind = |place: usize| self.app.routes.get(place).map(|route| route.kind);
        // A path may stand for another before pages are looked at.
        rewrites.before_files.is_empty()
            && rewrites.after_files.is_empty()
            && matches!(
                self.place(path).and_then(kind),
                Some(Kind::Handler | Kind::PagesApi)
            )
    }

    /// What Next.js serves by itself. Data are of pages, and read as those.
    fn is_internal(&self, path: &str) -> bool {
        inner_of(path, &self.nextjs.base_path)
            .and_then(|inner| inner.strip_prefix("/_next/"))
            .is_some_and(|rest| !rest.starts_with("data/"))
    }

    /// Whether the app has something at a path or where it rewrites it to, by rules from a place in their order on. All the rules on
    /// the way are added.
    fn follow(
        &self,
        found: &mut Found<'_, '_>,
        path: &str,
        from: usize,
    ) -> Result<bool, Ambiguity> {
        found.steps += 1;
        if found.steps > STEPS_MAX {
            return Err(Ambiguity::TooManyReadings);
        }
        let place = self.place(path);
        let route = place.and_then(|place| self.app.routes.get(place));
        let is_fixed = route.is_some_and(crate::app::AppRoute::is_fixed);
        let is_here = place.is_some() || self.is_internal(path);
        let mut there = is_here;
        for at in self.rewrites.candidates(path) {
            let Some(rule) = self.rewrites.rules.get(at).filter(|_| at >= from) else {
                continue;
            };
            // Next.js looks for files and pages between the phases, and is done when it finds one.
            let is_done = match rule.phase {
                Phase::BeforeFiles => false,
                Phase::AfterFiles => is_fixed,
                // Where an earlier rule may lead does not count: it may as well not hold.
                Phase::Fallback => is_here,
            };
            if is_done {
                break;
            }
            let (led, is_sure) = match self.rewrites.lead(rule, path) {
                Lead::No => continue,
                Lead::To(led) => (led, true),
                Lead::Perhaps(led) => (led, false),
            };
            there |= match led {
                Some(led) => self.arrive(found, rule, &led, at + 1)?,
                // To another host, which has no rules here.
                None => true,
            };
            if is_sure && !rule.is_conditional {
                // From here on it is that path alone.
                return Ok(there);
            }
        }
        Ok(there)
    }

    /// Adds the rules of a place that a path was rewritten to.
    fn arrive(
        &self,
        found: &mut Found<'_, '_>,
        rule: &Rule,
        led: &Led,
        next: usize,
    ) -> Result<bool, Ambiguity> {
        let path = match led {
            Led::To(path) => path,
            Led::Below(prefix) => {
                found.add_below(prefix);
                return Ok(true);
            }
        };
        let sent = escaped(path);
        // A value was matched raw or decoded: as it is when that is a target, else as it must be written.
        let target = Target::parse(path.as_bytes()).or_else(|_| Target::parse(sent.as_bytes()));
        let Ok(target) = target else {
            found.add_below("/");
            return Ok(true);
        };
        let request = RequestView {
            target,
            ..*found.request
        };
        let rules = found.table.rules_of(&request, None)?;
        for id in rules.all() {
            found.add(id);
        }
        if target.is_next_image() {
            match &rule.to {
                To::Path {
                    has_query: true, ..
                } => found.add_below("/"),
                _ => found.table.add_images(found.request, found.matches)?,
            }
        }
        let is_built_in = !found.table.is_for_app(rules.primary);
        Ok(self.follow(found, path, next)? || is_built_in)
    }
}

/// What `explain` says where the app has nothing.
pub const NOTHING: &str = "none";

/// What a rule makes of a path. `None`: it leads away from the app.
enum Lead {
    No,
    To(Option<Led>),
    Perhaps(Option<Led>),
}

impl Rules {
    fn new(case_sensitive: bool) -> Self {
        Self {
            case_sensitive,
            ..Self::default()
        }
    }

    fn add(&mut self, phase: Phase, source: &str, regex: &str, to: To, is_conditional: bool) {
        let compile = if self.case_sensitive {
            Expression::compile
        } else {
            Expression::compile_any_case
        };
        let at = self.rules.len();
        // Which locale it is says the expression; the index needs to know that there is one.
        let plain = without_locales(source);
        let parsed = Pattern::parse(&plain).ok();
        let segments = parsed.as_ref().and_then(Pattern::segments);
        match (segments, Rank::try_from(at)) {
            (Some(segments), Ok(rank)) => {
                let segments: Vec<Segment> =
                    segments.iter().map(|s| self.in_small_letters(s)).collect();
                self.index.insert(rank, &segments);
            }
            _ => self.loose.push(at),
        }
        self.rules.push(Rule {
            phase,
            source: source.to_owned(),
            expression: compile(regex).ok(),
            keys: keys_of(source),
            to,
            is_conditional,
        });
    }

    fn in_small_letters(&self, segment: &Segment) -> Segment {
        let small = |text: &String| {
            if self.case_sensitive {
                text.clone()
            } else {
                text.to_ascii_lowercase()
            }
        };
        match segment {
            Segment::Literal(text) => Segment::Literal(small(text)),
            Segment::Prefix(text) => Segment::Prefix(small(text)),
            Segment::Choice(words) => Segment::Choice(words.iter().map(small).collect()),
            Segment::OptionalChoice(words) => {
                Segment::OptionalChoice(words.iter().map(small).collect())
            }
            other => other.clone(),
        }
    }

    /// Rules that may be about a path, in order.
    fn candidates(&self, path: &str) -> Vec<usize> {
        // Nothing is allocated unless there are any.
        let mut found = self.loose.clone();
        if self.rules.len() > self.loose.len() {
            let small = if !self.case_sensitive && path.bytes().any(|b| b.is_ascii_uppercase()) {
                Cow::Owned(path.to_ascii_lowercase())
            } else {
                Cow::Borrowed(path)
            };
            self.index.best(Walk::of(&small), &mut |rank| {
                found.push(rank as usize);
                false
            });
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether a rule is about a path whoever asks for it.
    fn holds_for_all(&self, path: &str) -> bool {
        let mut rules = self.candidates(path).into_iter();
        rules.any(|at| {
            let rule = self.rules.get(at).filter(|rule| !rule.is_conditional);
            rule.is_some_and(|rule| rule.is_about(path))
        })
    }

    /// The first rule that is about a path.
    fn first(&self, path: &str) -> Option<&Rule> {
        let rules = self.candidates(path);
        rules
            .into_iter()
            .filter_map(|at| self.rules.get(at))
            .find(|rule| rule.is_about(path))
    }

    fn lead(&self, rule: &Rule, path: &str) -> Lead {
        let groups = match &rule.expression {
            None => None,
            Some(expression) => match expression.groups(path) {
                Ok(None) => return Lead::No,
                Ok(Some(groups)) => Some(groups),
                Err(_) => None,
            },
        };
        let pieces = match &rule.to {
            To::Path { pieces, .. } => pieces,
            To::Away if groups.is_some() => return Lead::To(None),
            To::Away => return Lead::Perhaps(None),
        };
        let Some(groups) = groups else {
            return Lead::Perhaps(Some(expand(pieces, |_| None)));
        };
        let value = |name: &str| {
            let at = rule
                .keys
                .iter()
                .position(|key| key.as_deref() == Some(name))?;
            Some(groups.get(at).copied().flatten().unwrap_or_default())
        };
        Lead::To(Some(expand(pieces, value)))
    }
}

impl Rule {
    /// Whether it certainly matches a path.
    fn is_about(&self, path: &str) -> bool {
        let outcome = self.expression.as_ref().map(|e| e.matches(path));
        outcome.unwrap_or(Outcome::Unsure).or(false)
    }
}

impl To {
    fn of(rule: &Rewrite) -> Self {
        if rule.is_external() {
            return Self::Away;
        }
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut has_query = false;
        let mut letters = rule.destination.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '?' | '#' => {
                    has_query = letter == '?';
                    break;
                }
                '\\' => text.extend(letters.next()),
                '{' | '}' => {}
                ':' if letters.peek().is_some_and(|next| is_name(*next)) => {
                    let mut name = String::new();
                    while let Some(next) = letters.next_if(|next| is_name(*next)) {
                        name.push(next);
                    }
                    skip_group(&mut letters);
                    let _ = letters.next_if(|next| matches!(next, '*' | '+'));
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                    pieces.push(Piece::Value(name));
                }
                _ => text.push(letter),
            }
        }
        pieces.push(Piece::Text(text));
        Self::Path { pieces, has_query }
    }
}

/// The path that pieces make, with the values they name. A value that is empty takes the slash before it along.
fn expand<'v>(pieces: &[Piece], value: impl Fn(&str) -> Option<&'v str>) -> Led {
    let mut path = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => path.push_str(text),
            Piece::Value(name) => match value(name) {
                None => return Led::Below(path),
                Some("") => {
                    if path.ends_with('/') {
                        path.pop();
                    }
                }
                Some(value) => path.push_str(value),
            },
        }
    }
    if path.is_empty() {
        path.push('/');
    }
    Led::To(path)
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// Reads over `(…)`, when that comes next.
fn skip_group(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    if letters.next_if_eq(&'(').is_none() {
        return;
    }
    let mut depth = 1_usize;
    while depth > 0 {
        match letters.next() {
            None => return,
            Some('\\') => {
                letters.next();
            }
            Some('(') => depth += 1,
            Some(')') => depth -= 1,
            Some(_) => {}
        }
    }
}

/// What the groups of a source's expression are called, in order; those without a name cannot be named by a destination.
fn keys_of(source: &str) -> Vec<Option<String>> {
    let mut keys = Vec::new();
    let mut letters = source.chars().peekable();
    while let Some(letter) = letters.peek().copied() {
        match letter {
            '\\' => {
                letters.next();
                letters.next();
            }
            '(' => {
                skip_group(&mut letters);
                keys.push(None);
            }
            ':' => {
                letters.next();
                let mut name = String::new();
                while let Some(next) = letters.next_if(|next| is_name(*next)) {
                    name.push(next);
                }
                if !name.is_empty() {
                    skip_group(&mut letters);
                    keys.push(Some(name));
                }
            }
            _ => {
                letters.next();
            }
        }
    }
    keys
}

/// A source whose locale may be any.
pub(super) fn without_locales(source: &str) -> Cow<'_, str> {
    let mark = format!(":{LOCALE}");
    let Some((before, after)) = source.split_once(&mark) else {
        return Cow::Borrowed(source);
    };
    let mut letters = after.chars().peekable();
    skip_group(&mut letters);
    let rest: String = letters.collect();
    Cow::Owned(format!("{before}{mark}{rest}"))
}

fn segments_of(page: &str, is_file: bool) -> Vec<Segment> {
    if is_file {
        let parts = page.split('/').filter(|part| !part.is_empty());
        return parts
            .map(|part| Segment::Literal(part.to_owned()))
            .collect();
    }
    parts(page)
        .map(|part| match part {
            Part::Fixed(text) => Segment::Literal(text.to_owned()),
            Part::One(_) => Segment::One,
            Part::Some(_) => Segment::Plus,
            Part::Any(_) => Segment::Star,
        })
        .collect()
}

/// A decoded path as a target.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if (0x21..0x7f).contains(&byte) && !matches!(byte, b'%' | b'?' | b'#') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Paths of a route of the app, with values for its parameters that no rule names.
pub(super) fn samples(nextjs: &NextJs, page: &str, is_file: bool) -> Vec<String> {
    // Nobody writes a rule for it.
    const ANY: &str = "_any-value_";
    let mut paths = vec![nextjs.base_path.trim_end_matches('/').to_owned()];
    for segment in segments_of(page, is_file) {
        let tails: Vec<Vec<String>> = match segment {
            Segment::Literal(text) => vec![vec![escaped(&text)]],
            Segment::Plus => vec![vec![ANY.to_owned()], vec![ANY.to_owned(); 2]],
            Segment::Star => vec![vec![], vec![ANY.to_owned()], vec![ANY.to_owned(); 2]],
            _ => vec![vec![ANY.to_owned()]],
        };
        paths = paths
            .iter()
            .flat_map(|path| {
                tails.iter().map(move |tail| {
                    tail.iter()
                        .fold(path.clone(), |path, part| format!("{path}/{part}"))
                })
            })
            .collect();
    }
    for path in &mut paths {
        if path.is_empty() {
            path.push('/');
        }
    }
    paths
}
