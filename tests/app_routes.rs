//! With the app's build at hand: what leads nowhere is never public by accident, and what is rewritten has the rule of where it leads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::{HeaderMap, Method};

use super::next_builds::{app, folder};
use super::support::{App, Gateway, Setup, await_until, cookie, record, route, rule, signed_in};
use vestibule::app::{App as Build, Redirect, Rewrite, Rewrites};
use vestibule::policy::{Need, Rule};
use vestibule::request::RequestView;
use vestibule::route::{Matches, RouteSpec, RouteTable};
use vestibule::target::{Ambiguity, Target};

fn public() -> Rule {
    rule(Need::Public)
}

/// A table for an app, with the default `signed-in`.
pub fn table(app: Build, routes: &[RouteSpec]) -> RouteTable {
    let mut settings = Setup::in_front_of(([127, 0, 0, 1], 1).into()).routes;
    settings.routes = routes.to_vec();
    settings.default = signed_in();
    settings.nextjs = app.nextjs.clone();
    let table = RouteTable::build(&settings).unwrap_or_else(|problems| panic!("{problems:#?}"));
    table.know(Some(Arc::new(app)));
    table
}

pub fn find(table: &RouteTable, target: &str) -> Result<Matches, Ambiguity> {
    find_at(table, "app.test", target)
}

fn find_at(table: &RouteTable, host: &str, target: &str) -> Result<Matches, Ambiguity> {
    table.find(&RequestView {
        method: &Method::GET,
        target: Target::parse(target.as_bytes())?,
        host,
        headers: &HeaderMap::new(),
        client: std::net::Ipv4Addr::LOCALHOST.into(),
    })
}

/// Whether nobody is asked who they are.
fn is_open(table: &RouteTable, target: &str) -> bool {
    let found = find(table, target).unwrap_or_else(|why| panic!("{target}: {why}"));
    found.all().all(|id| !table.route(id).rule.need.protects())
}

fn name_of(table: &RouteTable, target: &str) -> Option<String> {
    table.app_route(&RequestView {
        method: &Method::GET,
        target: Target::parse(target.as_bytes()).expect("a target"),
        host: "app.test",
        headers: &HeaderMap::new(),
        client: std::net::Ipv4Addr::LOCALHOST.into(),
    })
}

const OF_ROUTES: [&str; 4] = [
    "15-routes",
    "15-routes-turbopack",
    "16-routes",
    "16-routes-webpack",
];

#[test]
fn a_public_rule_opens_nothing_that_the_app_does_not_have() {
    for name in OF_ROUTES {
        let table = table(app(name), &[route("/:path*", public())]);
        for open in [
            "/",
            "/pricing",
            "/pricing/",
            "/blog/anything",
            "/blog/x/opengraph-image",
            "/docs",
            "/docs/a/b",
            "/shop/a/b/c",
            "/logo.svg",
            "/files/a%20b.txt",
            "/api/hello",
            "/api/old",
            "/still",
            "/_tech",
            "/sitemap.xml",
            "/legacy/7",
            "/_next/data/B/legacy/7.json",
            "/dashboard/a%2Fb",
            "/_next/static/x.js",
            "/_next/image?url=%2Flogo.svg&w=64&q=75",
            "/favicon.ico",
            "/.well-known/anything",
            "/api/auth/get-session",
            "/sign-in",
            // Redirects, and rewrites to another host.
            "/gone/7",
            "/elsewhere/x/y",
            // What is shown in the place of another page has an address, and the rules of that page.
            "/(.)photo/7",
        ] {
            assert!(is_open(&table, open), "{name} {open}");
        }
        for shut in [
            "/nothing",
            "/pricing/x",
            "/shop",
            "/blog",
            "/blog/a/b",
            "/Still",
            "/logo.svg/x",
            "/logo.png",
            "/files/a",
            "/api",
            "/api/hello/x",
            "/_next/data/B/nothing.json",
            "/_not-found",
            "/_error",
            "/_app",
            "/404",
            "/gone",
            // Slots and groups have no address at all.
            "/@modal/photo/7",
            "/(shop)/pricing",
            // The image of what leads nowhere.
            "/_next/image?url=%2Fnothing.png&w=64&q=75",
        ] {
            assert!(!is_open(&table, shut), "{name} {shut}");
        }
    }
}

#[test]
fn without_a_build_a_public_rule_is_what_it_says() {
    let table = table(app("16-routes"), &[route("/:path*", public())]);
    assert!(!is_open(&table, "/nothing"));
    table.know(None);
    assert!(is_open(&table, "/nothing"));
    assert_eq!(name_of(&table, "/nothing"), None);
}

#[test]
fn a_path_that_stands_for_another_has_the_rule_of_both() {
    for name in OF_ROUTES {
        let rules = [
            route("/dashboard/:path*", signed_in()),
            route("/:path*", public()),
        ];
        let table = table(app(name), &rules);
        for shut in [
            // Before files, any parameter, in any case, in any spelling.
            "/front",
            "/front/",
            "/front/7",
            "/front/7/8",
            "/FRONT/7",
            "/Front",
            // No page is called so, and then it is rewritten like `/pricing`.
            "/Pricing",
            "/%66ront/7",
            "/front/a%20b",
            "/front/100%25",
            "/_next/data/B/front/7.json",
            "/front/7.rsc",
            // A page with parameters is looked for after these.
            "/photo/7",
            "/old/7",
            "/old/007/",
            // After everything: nothing else is there.
            "/last/x",
            "/last",
        ] {
            assert!(!is_open(&table, shut), "{name} {shut}");
        }
        for open in [
            // A page without parameters is found first: it is never rewritten after files.
            "/pricing",
            "/frontier",
            "/docs/front",
            "/beta",
        ] {
            // `/frontier` leads nowhere; all others are somewhere.
            assert_eq!(is_open(&table, open), open != "/frontier", "{name} {open}");
        }
        // The expression of `/old/:id(\d+)` does not take it, and nothing else is there.
        assert!(!is_open(&table, "/old/x"));
        // Rewritten in a circle: it ends, and leads nowhere.
        assert!(!is_open(&table, "/loop-a"), "{name}");
        assert!(!is_open(&table, "/loop-b"), "{name}");
    }
}

#[test]
fn a_rewritten_path_is_open_when_both_are() {
    let rules = [
        route("/dashboard/:id", public()),
        route("/dashboard", public()),
        route("/front/:path*", public()),
        route("/last/:path*", public()),
        route("/elsewhere/:path*", signed_in()),
        route("/photo/:id", public()),
    ];
    let table = table(app("16-routes"), &rules);
    for open in ["/front", "/front/7", "/last/x", "/photo/7"] {
        assert!(is_open(&table, open), "{open}");
    }
    // It leads to `/dashboard/7/8`, which the app does not have.
    assert!(!is_open(&table, "/front/7/8"));
    // Rewritten to another host: the rule of the path itself is all there is.
    assert!(!is_open(&table, "/elsewhere/x"));
}

#[test]
fn a_condition_that_may_not_hold_adds_the_rule_of_where_it_leads() {
    let rules = [
        route("/beta", public()),
        route("/pricing", signed_in()),
        route("/:path*", public()),
    ];
    assert!(!is_open(&table(app("16-routes"), &rules), "/beta"));
}

/// An app with an open page, a shut one, and these rewrites before files, then those after everything.
fn rewritten(before: Vec<Rewrite>, fallback: Vec<Rewrite>) -> RouteTable {
    let mut app = app("16-routes");
    app.rewrites = Rewrites {
        before_files: before,
        fallback,
        ..Rewrites::default()
    };
    let rules = [
        route("/dashboard/:path*", signed_in()),
        route("/:path*", public()),
    ];
    table(app, &rules)
}

fn rewrite(source: &str, regex: &str, destination: &str, is_conditional: bool) -> Rewrite {
    Rewrite {
        source: source.into(),
        destination: destination.into(),
        regex: regex.into(),
        is_conditional,
    }
}

const ALL: (&str, &str) = ("/:path*", "^(?:/((?:[^/]+?)(?:/(?:[^/]+?))*))?(?:/)?$");

#[test]
fn a_rewrite_to_another_host_on_a_condition_hides_none_of_those_behind_it() {
    let (all, everything) = ALL;
    let inside = || rewrite("/way-in", "^/way-in(?:/)?$", "/dashboard", false);
    let away = |on| rewrite(all, everything, "https://other.example/:path*", on);
    // Whoever does not meet the condition is led to the page that is shut.
    let table = rewritten(vec![away(true), inside()], Vec::new());
    assert!(!is_open(&table, "/way-in"));
    assert!(is_open(&table, "/pricing"));
    // Without one, everybody leaves.
    let table = rewritten(vec![away(false), inside()], Vec::new());
    assert!(is_open(&table, "/way-in"));
}

#[test]
fn a_rewrite_on_a_condition_hides_no_fallback() {
    let (all, everything) = ALL;
    let fallback = || rewrite(all, everything, "/dashboard", false);
    let first = |on| rewrite("/way-in", "^/way-in(?:/)?$", "/pricing", on);
    let table = rewritten(vec![first(true)], vec![fallback()]);
    assert!(!is_open(&table, "/way-in"));
    assert!(is_open(&table, "/pricing"));
    let table = rewritten(vec![first(false)], vec![fallback()]);
    assert!(is_open(&table, "/way-in"));
    // The same where the first one leads to another host.
    let away = |on| rewrite("/way-in", "^/way-in(?:/)?$", "https://other.example/", on);
    assert!(!is_open(
        &rewritten(Vec::new(), vec![away(true), fallback()]),
        "/way-in"
    ));
    assert!(is_open(
        &rewritten(Vec::new(), vec![away(false), fallback()]),
        "/way-in"
    ));
}

#[test]
fn a_redirect_for_some_requests_opens_nothing_that_the_app_does_not_have() {
    let (all, everything) = ALL;
    // As people send `www` away.
    let table = |is_conditional| {
        let mut app = app("16-routes");
        app.redirects = vec![Redirect {
            source: all.into(),
            regex: everything.into(),
            is_conditional,
        }];
        table(app, &[route("/:path*", public())])
    };
    assert!(!is_open(&table(true), "/nothing"));
    assert!(is_open(&table(true), "/pricing"));
    // Nobody gets anything there but the way to somewhere else.
    assert!(is_open(&table(false), "/nothing"));
}

#[test]
fn rewrites_hold_in_every_locale_and_only_below_the_base_path() {
    for name in ["15-i18n", "16-i18n"] {
        let rules = [
            route("/vault/:path*", signed_in()),
            route("/:path*", public()),
        ];
        let table = table(app(name), &rules);
        for open in [
            "/base",
            "/base/",
            "/base/about/",
            "/base/fr/about",
            "/base/NL-nl/about",
            "/base/hello.txt",
            "/base/api/x",
            "/base/blog/a/b",
            "/base/_next/data/B/fr/about.json",
            "/base/old-about",
            "/base/fr/old-about/",
        ] {
            assert!(is_open(&table, open), "{name} {open}");
        }
        for shut in [
            "/base/vault/7",
            "/base/fr/vault/7",
            "/base/open/7",
            "/base/fr/open/7",
            "/base/FR/open/7/",
            "/base/Open/7",
            "/base/_next/data/B/en/open/7.json",
            "/base/nothing",
            "/base/fr/nothing",
            "/base/_next/data/B/fr/nothing.json",
            // Outside of the base path the app has nothing.
            "/about",
            "/vault/7",
            "/base/base/about",
            // It has: it rewrites this to another host. But no rule names it.
            "/literal",
        ] {
            assert!(!is_open(&table, shut), "{name} {shut}");
        }
    }
}

#[test]
fn one_request_asks_for_a_few_pictures_at_most() {
    let table = table(app("16-routes"), &[route("/:path*", public())]);
    let of = |count: usize| {
        let target = format!("/_next/image?w=64&q=75{}", "&url=/logo.svg".repeat(count));
        find(&table, &target).map(|_| ())
    };
    assert_eq!((of(1), of(4)), (Ok(()), Ok(())));
    assert_eq!(of(5), Err(Ambiguity::TooManyReadings));
    assert_eq!(of(1000), Err(Ambiguity::TooManyReadings));
}

#[test]
fn a_host_of_its_own_language_has_its_own_default_locale() {
    let mut literal = route("/fr/about", signed_in());
    literal.sources[0].locale = false;
    let table = table(app("16-i18n"), &[literal, route("/:path*", public())]);
    let needs = |host: &str| {
        let found = find_at(&table, host, "/base/about").expect("a target");
        found.all().any(|id| table.route(id).rule.need.protects())
    };
    assert!(needs("example.fr"));
    assert!(!needs("example.com"));
}

#[test]
fn the_routes_of_a_page_are_those_of_its_own_address() {
    let app = app("16-routes");
    let table = table(app.clone(), &[route("/pricing", public())]);
    for (page, pattern) in [
        ("/pricing", "/pricing"),
        ("/dashboard/[id]", "(everything else)"),
    ] {
        let page = app.routes.iter().find(|r| r.page == page).expect("a page");
        let ids = table.routes_of(page);
        let names: Vec<&str> = ids
            .iter()
            .map(|id| table.route(*id).pattern.as_str())
            .collect();
        assert_eq!(names, [pattern]);
    }
}

#[test]
fn what_the_app_has_is_named() {
    let table = table(app("16-routes"), &[route("/:path*", public())]);
    for (target, name) in [
        ("/", "/"),
        ("/dashboard/7?x=1", "/dashboard/[id]"),
        ("/_next/data/B/legacy/7.json", "/legacy/[id]"),
        ("/logo.svg", "/logo.svg"),
        ("/front/7", "rewritten by `/front/:path*`"),
        ("/last/7", "rewritten by `/last/:path*`"),
        ("/gone/7", "redirected by `/gone/:id`"),
        ("/_next/image?url=%2Flogo.svg", "Next.js itself"),
        ("/nothing", "none"),
    ] {
        assert_eq!(name_of(&table, target).as_deref(), Some(name), "{target}");
    }
}

#[test]
fn requests_for_other_servers_are_not_judged_by_this_build() {
    let mut settings = Setup::in_front_of(([127, 0, 0, 1], 1).into()).routes;
    let mut other = route("/api/:path*", public());
    other.upstream = 1;
    settings.routes = vec![other, route("/:path*", public())];
    settings.default = signed_in();
    let table = RouteTable::build(&settings).expect("a table");
    table.know(Some(Arc::new(app("16-routes"))));
    assert!(is_open(&table, "/api/of/another/server"));
    assert!(!is_open(&table, "/of/this/server"));
    assert_eq!(name_of(&table, "/api/of/another/server"), None);
}

// ------------------------------------------------------------------------------------------------------ a running gateway

/// A copy of a build that may be changed.
struct Copy(PathBuf);

impl Copy {
    fn of(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let to =
            std::env::temp_dir().join(format!("vestibule-build-{}-{number}", std::process::id()));
        copy(&folder(name), &to);
        Self(to)
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.0.join(".next").join(name)
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.manifest(name);
        let text = std::fs::read_to_string(&path).expect("a manifest");
        assert!(text.contains(from), "{name}: {from}");
        std::fs::write(path, text.replace(from, to)).expect("written");
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

fn start(app: &App, folder: &Path) -> Gateway {
    let mut setup = Setup::in_front_of(app.address);
    setup.routes.default = signed_in();
    setup.routes.routes = vec![
        route("/dashboard/:path*", signed_in()),
        route("/:path*", public()),
    ];
    setup.app_folder = Some(folder.to_owned());
    let gateway = setup.start();
    gateway.store.put(record("a-token", "ann"));
    gateway
}

fn status(gateway: &Gateway, target: &str) -> u16 {
    gateway.document(target, &[]).status
}

/// The value of a metric, with its labels.
fn metric(gateway: &Gateway, line: &str) -> Option<String> {
    let text = gateway.running.gateway.metrics.render();
    text.lines()
        .find_map(|found| found.strip_prefix(line))
        .map(|value| value.trim().to_owned())
}

#[test]
fn the_gateway_lets_strangers_in_only_where_the_app_has_a_public_route() {
    let app = App::start();
    let gateway = start(&app, &folder("16-routes"));
    assert_eq!(status(&gateway, "/pricing"), 200);
    assert_eq!(status(&gateway, "/logo.svg"), 200);
    let seen = app.count();
    for shut in [
        "/pricing/nothing",
        "/front/7",
        "/FRONT/7",
        "/photo/7",
        "/nothing",
    ] {
        assert_eq!(status(&gateway, shut), 302, "{shut}");
    }
    assert_eq!(app.count(), seen, "nothing of it reached the app");
    // Whoever is signed in gets there: the app says itself that it has nothing.
    let signed = cookie("a-token");
    for target in ["/pricing/nothing", "/front/7", "/nothing"] {
        let answer = gateway.document(target, &[("cookie", &signed)]);
        assert_eq!(answer.status, 200, "{target}");
    }
}

#[test]
fn a_new_build_is_known_without_a_restart_while_requests_go_on() {
    let copy = Copy::of("16-routes");
    let app = App::start();
    let gateway = Arc::new(start(&app, &copy.0));
    assert_eq!(status(&gateway, "/pricing"), 200);
    assert_eq!(status(&gateway, "/news"), 302);
    let taken = "vestibule_app_build_reloads_total{outcome=\"taken\"}";
    assert_eq!(metric(&gateway, taken).as_deref(), Some("0"));

    let done = Arc::new(AtomicBool::new(false));
    let (busy, stop) = (Arc::clone(&gateway), Arc::clone(&done));
    let load = std::thread::spawn(move || {
        let mut rounds = 0;
        while !stop.load(Ordering::SeqCst) {
            // Neither is ever judged by half a build.
            assert_eq!(status(&busy, "/logo.svg"), 200);
            assert_eq!(status(&busy, "/dashboard"), 302);
            assert_eq!(status(&busy, "/front/7"), 302);
            rounds += 1;
        }
        rounds
    });
    copy.edit("app-path-routes-manifest.json", "\"/pricing\"", "\"/news\"");
    copy.edit(
        "routes-manifest.json",
        "\"page\": \"/pricing\"",
        "\"page\": \"/news\"",
    );
    await_until("the new route", || status(&gateway, "/news") == 200);
    await_until("the old one's end", || status(&gateway, "/pricing") == 302);
    done.store(true, Ordering::SeqCst);
    assert!(load.join().expect("no wrong answer") > 0);
    assert_ne!(metric(&gateway, taken).as_deref(), Some("0"));
}

#[test]
fn half_a_build_is_not_taken_and_the_whole_one_is() {
    let copy = Copy::of("16-routes");
    let app = App::start();
    let gateway = start(&app, &copy.0);
    let refused = "vestibule_app_build_reloads_total{outcome=\"refused\"}";
    assert_eq!(metric(&gateway, refused).as_deref(), Some("0"));
    let path = copy.manifest("routes-manifest.json");
    let text = std::fs::read_to_string(&path).expect("a manifest");
    std::fs::write(&path, &text[..text.len() / 2]).expect("written");
    await_until("it to be refused", || {
        metric(&gateway, refused).as_deref() == Some("1")
    });
    assert_eq!(status(&gateway, "/pricing"), 200);
    assert_eq!(status(&gateway, "/nothing"), 302);
    // And gone altogether, as at the beginning of a build.
    std::fs::remove_dir_all(copy.0.join(".next")).expect("removed");
    await_until("it to be missed", || {
        metric(&gateway, refused).as_deref() == Some("2")
    });
    assert_eq!(status(&gateway, "/pricing"), 200);
    assert_eq!(status(&gateway, "/nothing"), 302);
    self::copy(&folder("16-routes"), &copy.0);
    copy.edit(
        "app-path-routes-manifest.json",
        "\"/pricing\"",
        "\"/nothing\"",
    );
    await_until("the new route", || status(&gateway, "/nothing") == 200);
    assert_eq!(metric(&gateway, refused).as_deref(), Some("2"));
}

#[test]
fn a_build_whose_list_of_actions_is_not_there_yet_is_not_taken() {
    let copy = Copy::of("16-routes");
    let read = || vestibule::app::next::read(&vestibule::server::build::Folder(copy.0.clone()));
    assert!(!read().expect("a build").actions.is_empty());
    std::fs::remove_file(copy.manifest("server/server-reference-manifest.json")).expect("removed");
    let why = read().expect_err("half a build").to_string();
    assert!(why.contains("server-reference-manifest.json"), "{why}");
    // An app of the pages router alone has none.
    let app = Copy::of("15-i18n");
    let list = "build-output/server/server-reference-manifest.json";
    assert!(!app.0.join(list).exists());
    let read = vestibule::app::next::read(&vestibule::server::build::Folder(app.0.clone()));
    assert!(read.is_ok());
}

#[test]
fn a_link_that_points_to_another_release_is_a_new_build() {
    let (one, other) = (Copy::of("16-routes"), Copy::of("16-routes"));
    other.edit("app-path-routes-manifest.json", "\"/pricing\"", "\"/news\"");
    other.edit(
        "routes-manifest.json",
        "\"page\": \"/pricing\"",
        "\"page\": \"/news\"",
    );
    let link = one.0.with_extension("link");
    std::os::unix::fs::symlink(&one.0, &link).expect("a link");
    let app = App::start();
    let gateway = start(&app, &link);
    assert_eq!(status(&gateway, "/news"), 302);
    let fresh = one.0.with_extension("fresh");
    std::os::unix::fs::symlink(&other.0, &fresh).expect("a link");
    std::fs::rename(&fresh, &link).expect("swapped");
    await_until("the new release", || status(&gateway, "/news") == 200);
    assert_eq!(status(&gateway, "/pricing"), 302);
    std::fs::remove_file(&link).expect("removed");
}

#[test]
fn a_build_with_another_base_path_waits_for_a_restart() {
    let copy = Copy::of("16-routes");
    let app = App::start();
    let gateway = start(&app, &copy.0);
    copy.edit(
        "routes-manifest.json",
        "\"basePath\": \"\"",
        "\"basePath\": \"/b\"",
    );
    copy.edit(
        "required-server-files.json",
        "\"basePath\": \"\"",
        "\"basePath\": \"/b\"",
    );
    let refused = "vestibule_app_build_reloads_total{outcome=\"refused\"}";
    await_until("it to be refused", || {
        metric(&gateway, refused).as_deref() != Some("0")
    });
    assert_eq!(status(&gateway, "/pricing"), 200);
    assert_eq!(status(&gateway, "/nothing"), 302);
}
