//! What a call of a Server Action needs: Next.js runs an action whatever path it is posted to, so the rules of the pages that own it
//! hold besides those of the path.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::app::actions::intercepted;
use crate::app::next::source_of;
use crate::app::{App, AppRoute, Kind};
use crate::request::RequestView;
use crate::route::RouteId;
use crate::route::scan::{Scanner, Seek};
use crate::route::table::{Matches, RouteTable};
use crate::route::{known, reading};

/// By which header a script names the action it calls.
const HEADER: &str = "next-action";

/// Length of the ids of Next.js 15 and 16. Only for ids that the build does not know.
const ID_BYTES: usize = 42;

/// Longest id that is looked for in a body.
pub(super) const ID_BYTES_MAX: usize = 63;

/// Ids of several `Next-Action` headers that are looked up. Next.js takes no list, so whoever sends more is up to something.
const IDS_LISTED_MAX: usize = 8;

/// The actions of an app, with the rules that hold for each.
#[derive(Debug)]
pub struct Actions {
    by_id: HashMap<Box<str>, Box<[RouteId]>>,
    /// Whose rules hold for any of them, each once, and for those that nobody knows.
    all: Box<[RouteId]>,
    /// One bit for each length of an id.
    lengths: u64,
    /// Whose rule holds for ids that the build does not know.
    unknown: RouteId,
}

impl Actions {
    pub(super) fn of(table: &RouteTable, app: &App) -> Self {
        let mut rules: HashMap<&str, Vec<RouteId>> = HashMap::new();
        let mut by_id: HashMap<Box<str>, Box<[RouteId]>> = HashMap::new();
        for action in &app.actions {
            let mut needed = Vec::new();
            for page in &action.pages {
                let found = rules
                    .entry(page)
                    .or_insert_with(|| rules_of(table, app, page));
                needed.extend_from_slice(found);
            }
            if needed.is_empty() {
                needed.push(table.default);
            }
            needed.sort_unstable();
            needed.dedup();
            by_id.insert(action.id.as_str().into(), needed.into());
        }
        let lengths = by_id
            .keys()
            .filter(|id| id.len() <= ID_BYTES_MAX)
            .fold(1 << ID_BYTES, |lengths, id| lengths | 1 << id.len());
        let mut all: Vec<RouteId> = by_id.values().flatten().copied().collect();
        all.push(table.default);
        all.sort_unstable();
        all.dedup();
        Self {
            by_id,
            all: all.into(),
            lengths,
            unknown: table.default,
        }
    }

    /// Whose rules hold for an id; those of the default rule where nobody is known to own it.
    fn owners(&self, id: &str) -> &[RouteId] {
        let unknown = std::slice::from_ref(&self.unknown);
        self.by_id.get(id).map_or(unknown, |owners| owners)
    }

    /// Whose rules hold for a word of a body, if it may be an id.
    pub(super) fn owners_of_word(&self, word: &[u8]) -> Option<&[RouteId]> {
        let is_length = word.len() <= ID_BYTES_MAX && self.lengths & (1 << word.len()) != 0;
        let id = std::str::from_utf8(word).ok().filter(|_| is_length)?;
        match self.by_id.get(id) {
            Some(owners) => Some(owners),
            // It may be of another build than the one we know.
            None if is_id_by_its_looks(word) => Some(std::slice::from_ref(&self.unknown)),
            None => None,
        }
    }

    /// Whose rules hold where it cannot be told which action is meant: it may be any.
    pub(super) fn all(&self) -> &[RouteId] {
        &self.all
    }

    /// The rules that the `Next-Action` of a request adds.
    fn add_named(&self, headers: &HeaderMap, found: &mut Matches) {
        let mut values = headers.get_all(HEADER).iter();
        let (Some(first), more) = (values.next(), values.next().is_some()) else {
            return;
        };
        if !more {
            // What is no text is no id.
            return found.add(self.owners(first.to_str().unwrap_or_default().trim()));
        }
        // Nobody sends two. Node joins them to one that is no id, others may take any of them.
        found.add(&[self.unknown]);
        let ids = headers.get_all(HEADER).iter().take(IDS_LISTED_MAX);
        for id in ids.filter_map(|id| id.to_str().ok()) {
            found.add(self.owners(id.trim()));
        }
    }
}

/// What Next.js makes of a path: 42 lower-case hexadecimal digits.
fn is_id_by_its_looks(word: &[u8]) -> bool {
    word.len() == ID_BYTES
        && word
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The rules of a page that owns an action, whatever the method and host they are narrowed to.
fn rules_of(table: &RouteTable, app: &App, page: &str) -> Vec<RouteId> {
    let known = app.routes.iter().find(|route| route.page == page);
    let mut found = Vec::new();
    if let Some(pages) = intercepted(page) {
        for page in pages {
            let stands_in = AppRoute {
                source: source_of(&page),
                page,
                kind: Kind::Page,
            };
            found.extend(table.rules_anywhere(&stands_in));
        }
    } else if let Some(route) = known {
        found.extend(table.rules_anywhere(route));
    }
    if found.is_empty() {
        found.push(table.default);
    }
    found
}

impl RouteTable {
    /// The rules an action named by a header adds to those of the path.
    pub(super) fn add_actions(&self, request: &RequestView<'_>, found: &mut Matches) {
        let known = self.app.load();
        if let Some(known) = known.as_ref()
            && self.is_app(self.route(found.primary).upstream)
        {
            known.actions.add_named(request.headers, found);
        }
    }

    /// The pages that own the action a request calls by header, for people; [`known::NOTHING`] where nobody is known to. `None`: it
    /// calls none, no build is known, or the request is for somebody else.
    pub fn action_called(&self, request: &RequestView<'_>) -> Option<String> {
        let known = self.app.load();
        let known = known.as_ref()?;
        let mut ids = request.headers.get_all(HEADER).iter();
        let id = ids.next()?.to_str().unwrap_or_default().trim();
        let found = self.rules_of(request, None).ok()?;
        if !self.is_app(self.route(found.primary).upstream) {
            return None;
        }
        // Several are none, as they are where the rules are found.
        let is_one = ids.next().is_none();
        let mut all = known.app.actions.iter();
        let action = all.find(|action| is_one && action.id == id);
        let nothing = || known::NOTHING.to_owned();
        Some(action.map_or_else(nothing, |action| action.pages.join(", ")))
    }

    /// What to look for in the body of a request on its way to `upstream`, before the app has it; `None`: it runs no action, or none
    /// is known.
    pub fn actions_in(&self, request: &RequestView<'_>, upstream: usize) -> Option<Scanner> {
        if *request.method != Method::POST {
            return None;
        }
        let is_call = request.headers.contains_key(HEADER);
        if !is_call && !is_form(request.headers) {
            return None;
        }
        let known = self.app.load();
        let actions = &known.as_ref()?.actions;
        if !self.is_app(upstream) {
            return None;
        }
        if is_call {
            return Some(Scanner::new(Arc::clone(actions), Seek::Call));
        }
        let path = request.target.path();
        let spelling = request.target.spelling();
        let plain = !spelling.escapes
            && !spelling.parameters
            && self.nextjs.locales.is_empty()
            && !reading::has_transport(path, &self.nextjs.base_path);
        let is_inert = plain && known.as_ref()?.runs_no_actions(path);
        (!is_inert).then(|| Scanner::new(Arc::clone(actions), Seek::Form))
    }
}

/// Whether Next.js may take a body for a form. It looks at the first `Content-Type`, and at how it begins; others look at all.
fn is_form(headers: &HeaderMap) -> bool {
    const FORM: &[u8] = b"multipart/";
    headers.get_all("content-type").iter().any(|value| {
        let value = value.as_bytes().trim_ascii_start();
        value
            .get(..FORM.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(FORM))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::app::NextJs;
    use crate::app::{Action, Rewrite};
    use crate::policy::{Conditions, Need, Rule};
    use crate::route::{RouteSpec, Settings, SourceSpec};
    use crate::session::Freshness;
    use crate::target::Target;

    /// How the default rule calls its route.
    pub const OTHERWISE: &str = "(everything else)";
    /// Owned by `/` alone.
    pub const OPEN: &str = "400f89a320cc5fb8ea8c6a2c86d1a79c96f11d8504";
    /// Owned by `/dashboard` alone.
    pub const SHUT: &str = "4069b4c6540d9ca920f206d21443290b66939f39a8";
    /// Of another build.
    pub const STALE: &str = "40aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    /// Owned by both.
    const SHARED: &str = "60bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    /// Owned by a page that nobody knows.
    const NOBODYS: &str = "60cccccccccccccccccccccccccccccccccccccccc";
    /// Owned by a page shown in place of `/feed/photo/[id]`.
    const MODAL: &str = "60dddddddddddddddddddddddddddddddddddddddd";

    impl RouteTable {
        pub(in crate::route) fn actions(&self) -> Arc<Actions> {
            Arc::clone(&self.app.load().as_ref().unwrap().actions)
        }
    }

    fn rule(need: Need) -> Rule {
        Rule {
            need,
            freshness: Freshness::default(),
        }
    }

    fn spec(source: &str, need: Need) -> RouteSpec {
        RouteSpec {
            sources: vec![SourceSpec {
                source: source.to_owned(),
                locale: true,
                ..SourceSpec::default()
            }],
            methods: Vec::new(),
            hosts: Vec::new(),
            upstream: 0,
            rule: rule(need),
            app_caches: false,
            line: None,
        }
    }

    fn page(page: &str, kind: Kind) -> AppRoute {
        AppRoute {
            page: page.to_owned(),
            source: source_of(page),
            kind,
        }
    }

    fn app() -> App {
        let action = |id: &str, pages: &[&str]| Action {
            id: id.to_owned(),
            pages: pages.iter().map(|page| (*page).to_owned()).collect(),
        };
        App {
            routes: vec![
                page("/", Kind::Page),
                page("/dashboard", Kind::Page),
                page("/feed/photo/[id]", Kind::Page),
                page("/upload", Kind::Handler),
                page("/upload/[id]", Kind::Page),
                page("/api/[...all]", Kind::PagesApi),
                page("/docs/[slug]", Kind::PagesPage),
            ],
            actions: vec![
                action(OPEN, &["/"]),
                action(SHUT, &["/dashboard"]),
                action(SHARED, &["/", "/dashboard"]),
                action(NOBODYS, &["/gone"]),
                action(MODAL, &["/feed/(.)photo/[id]"]),
            ],
            ..App::default()
        }
    }

    fn table_of(change: impl FnOnce(&mut Settings), app: App) -> RouteTable {
        let mut settings = Settings {
            nextjs: NextJs::default(),
            routes: vec![
                spec("/", Need::Public),
                spec("/dashboard", Need::SignedIn(Conditions::default())),
                spec("/feed/:path*", Need::Optional),
                spec("/upload/:path*", Need::Public),
            ],
            default: rule(Need::SignedIn(Conditions::default())),
            default_upstream: 0,
            same_app: Vec::new(),
            auth_base_path: "/api/auth".into(),
            auth_upstream: 0,
            sign_in_path: Some("/sign-in".into()),
            dev: false,
        };
        change(&mut settings);
        let table = RouteTable::build(&settings).unwrap();
        table.know(Some(Arc::new(app)));
        table
    }

    pub fn table() -> RouteTable {
        table_of(|_| {}, app())
    }

    fn view<'r>(method: &'r Method, target: &'r str, headers: &'r HeaderMap) -> RequestView<'r> {
        RequestView {
            method,
            target: Target::parse(target.as_bytes()).unwrap(),
            host: "",
            headers,
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    /// The patterns a request asks for, the path's own first.
    fn asked(table: &RouteTable, method: &Method, target: &str, ids: &[&str]) -> Vec<String> {
        let pairs: Vec<_> = ids.iter().map(|id| (HEADER, *id)).collect();
        let headers = headers(&pairs);
        let found = table.find(&view(method, target, &headers)).unwrap();
        found
            .all()
            .map(|id| table.route(id).pattern.clone())
            .collect()
    }

    #[test]
    fn a_call_needs_what_the_pages_of_its_action_need_wherever_it_is_posted() {
        let table = table();
        let post = |target: &str, id: &str| asked(&table, &Method::POST, target, &[id]);
        assert_eq!(post("/", OPEN), ["/"]);
        assert_eq!(post("/", SHUT), ["/", "/dashboard"]);
        assert_eq!(post("/upload", SHUT), ["/upload/:path*", "/dashboard"]);
        assert_eq!(
            post("/_next/data/b/index.json", SHUT).last().unwrap(),
            "/dashboard"
        );
        assert_eq!(post("/dashboard", SHUT), ["/dashboard"]);
        assert_eq!(post("/", SHARED), ["/", "/dashboard"]);
        assert_eq!(post("/", MODAL), ["/", "/feed/:path*"]);
        for unknown in [NOBODYS, STALE, "", " ", "x", &SHUT[1..], "toString"] {
            assert_eq!(post("/", unknown), ["/", OTHERWISE], "{unknown:?}");
        }
    }

    #[test]
    fn several_ids_need_what_each_does_and_what_an_unknown_one_does() {
        let table = table();
        let post = |ids: &[&str]| asked(&table, &Method::POST, "/", ids);
        assert_eq!(post(&[OPEN, OPEN]), ["/", OTHERWISE]);
        assert_eq!(post(&[OPEN, SHUT]), ["/", OTHERWISE, "/dashboard"]);
        assert_eq!(post(&[&format!("{OPEN}, {SHUT}")]), ["/", OTHERWISE]);
    }

    #[test]
    fn only_a_post_calls_an_action() {
        let table = table();
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::OPTIONS] {
            assert_eq!(asked(&table, &method, "/", &[SHUT]), ["/"], "{method}");
        }
    }

    #[test]
    fn without_a_build_or_before_another_upstream_nothing_changes() {
        let table = table();
        table.know(None);
        assert_eq!(asked(&table, &Method::POST, "/", &[SHUT]), ["/"]);
        let elsewhere = |settings: &mut Settings| settings.routes[0].upstream = 1;
        let table = table_of(elsewhere, app());
        assert_eq!(asked(&table, &Method::POST, "/", &[SHUT]), ["/"]);
    }

    #[test]
    fn rules_of_one_method_or_host_hold_for_an_action_of_the_page_too() {
        let needs = |change: fn(&mut RouteSpec, &mut RouteSpec)| {
            let table = table_of(
                |settings| {
                    let mut other = spec("/", Need::Deny);
                    change(settings.routes.first_mut().unwrap(), &mut other);
                    settings.routes.push(other);
                },
                app(),
            );
            let actions = table.actions();
            let need = |id: &RouteId| table.route(*id).rule.need.as_str();
            actions.owners(OPEN).iter().map(need).collect::<Vec<_>>()
        };
        let by_method = needs(|one, other| {
            one.methods = vec![Method::GET];
            other.methods = vec![Method::POST];
        });
        assert_eq!(by_method, ["public", "deny"]);
        let by_host = needs(|one, other| {
            one.hosts = vec!["one.test".into()];
            other.hosts = vec!["*.other.test".into()];
        });
        assert_eq!(by_host, ["public", "deny", "signed-in"]);
    }

    #[test]
    fn only_forms_to_what_may_run_an_action_are_looked_into() {
        let table = table();
        let looked = |target: &str, kind: &str| {
            let headers = headers(&[("content-type", kind)]);
            table
                .actions_in(&view(&Method::POST, target, &headers), 0)
                .is_some()
        };
        let form = "multipart/form-data; boundary=b";
        for target in [
            "/",
            "/dashboard",
            "/nothing",
            "/docs/x",
            "/upload/7",
            "/%75pload",
            "/upload;x",
            "/upload.rsc",
        ] {
            assert!(looked(target, form), "{target}");
        }
        for target in ["/upload", "/upload/", "/api/a/b"] {
            assert!(!looked(target, form), "{target}");
        }
        for kind in [
            "Multipart/Form-Data; boundary=b",
            " multipart/form-data",
            "multipart/mixed",
        ] {
            assert!(looked("/", kind), "{kind}");
        }
        for kind in [
            "application/x-www-form-urlencoded",
            "text/plain",
            "application/json",
            "",
        ] {
            assert!(!looked("/", kind), "{kind}");
        }
        let two = headers(&[("content-type", "text/plain"), ("content-type", form)]);
        assert!(
            table
                .actions_in(&view(&Method::POST, "/", &two), 0)
                .is_some()
        );
        let call = headers(&[("next-action", OPEN)]);
        let ask = |method, upstream| {
            let request = view(method, "/upload", &call);
            table.actions_in(&request, upstream).is_some()
        };
        assert!(ask(&Method::POST, 0));
        assert!(!ask(&Method::POST, 1));
        assert!(!ask(&Method::GET, 0));
    }

    #[test]
    fn a_handler_that_a_rewrite_may_hide_is_looked_into() {
        let mut app = app();
        app.rewrites.before_files.push(Rewrite {
            source: "/upload".into(),
            destination: "/".into(),
            regex: "^/upload$".into(),
            is_conditional: false,
        });
        let table = table_of(|_| {}, app);
        let form = headers(&[("content-type", "multipart/form-data; boundary=b")]);
        let request = view(&Method::POST, "/upload", &form);
        assert!(table.actions_in(&request, 0).is_some());
    }
}
