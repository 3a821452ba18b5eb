//! Manifests of real builds (made by `scripts/next-builds`), and what can be wrong with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use vestibule::app::next::{self, source_of};
use vestibule::app::{App, Files, Kind, Unreadable};
use vestibule::route::pattern::Pattern;
use vestibule::server::build::Folder;

/// All builds that are kept.
const BUILDS: [&str; 8] = [
    "15-i18n",
    "15-routes",
    "15-routes-standalone",
    "15-routes-turbopack",
    "16-i18n",
    "16-routes",
    "16-routes-standalone",
    "16-routes-webpack",
];

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/next-builds")
        .join(name)
}

pub fn app(name: &str) -> App {
    next::read(&Folder(folder(name))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A folder in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory(pub BTreeMap<String, String>);

impl Memory {
    pub fn of(name: &str) -> Self {
        let disk = Folder(folder(name));
        let files = disk.list("").expect("a folder");
        let text = |path: &String| disk.read(path).ok().flatten().unwrap_or_default();
        Self(
            files
                .iter()
                .map(|path| (path.clone(), text(path)))
                .collect(),
        )
    }

    fn edit(&mut self, path: &str, change: impl FnOnce(&mut Value)) {
        let text = self.0.get_mut(path).expect("a manifest");
        let mut value = serde_json::from_str(text).expect("JSON");
        change(&mut value);
        *text = value.to_string();
    }
}

impl Files for Memory {
    fn read(&self, path: &str) -> Result<Option<String>, Unreadable> {
        Ok(self.0.get(path).cloned())
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, Unreadable> {
        let prefix = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        let inside = self.0.keys().filter_map(|path| path.strip_prefix(&prefix));
        Ok(inside.map(str::to_owned).collect())
    }
}

fn kind_of(app: &App, page: &str) -> Option<Kind> {
    let found = app.routes.iter().find(|route| route.page == page)?;
    Some(found.kind)
}

#[test]
fn every_route_of_real_builds_is_read_and_nothing_else() {
    for name in [
        "15-routes",
        "15-routes-turbopack",
        "16-routes",
        "16-routes-webpack",
    ] {
        let app = app(name);
        let mut found: Vec<(&str, Kind)> = app
            .routes
            .iter()
            .map(|route| (route.page.as_str(), route.kind))
            .collect();
        found.sort_by_key(|(page, _)| *page);
        let expected = [
            ("/", Kind::Page),
            ("/_tech", Kind::Page),
            ("/api/hello", Kind::Handler),
            ("/api/old", Kind::PagesApi),
            ("/blog/[slug]", Kind::Page),
            ("/blog/[slug]/opengraph-image", Kind::Handler),
            ("/dashboard", Kind::Page),
            ("/dashboard/[id]", Kind::Page),
            ("/docs/[[...slug]]", Kind::Page),
            ("/files/a b.txt", Kind::PublicFile),
            ("/legacy/[id]", Kind::PagesPage),
            ("/logo.svg", Kind::PublicFile),
            ("/photo/[id]", Kind::Page),
            ("/pricing", Kind::Page),
            ("/robots.txt", Kind::Handler),
            ("/shop/[...path]", Kind::Page),
            ("/sitemap.xml", Kind::Handler),
            ("/still", Kind::PagesPage),
        ];
        assert_eq!(found, expected, "{name}");
        assert!(!app.build_id.is_empty());
        assert_eq!(
            app.rewrites.before_files.len(),
            4,
            "{name}: {:?}",
            app.rewrites
        );
        assert_eq!(app.rewrites.after_files.len(), 3);
        assert_eq!(app.rewrites.fallback.len(), 2);
        assert!(app.rewrites.fallback[0].is_external());
        assert!(!app.rewrites.fallback[1].is_external());
        assert!(app.rewrites.before_files[1].is_conditional);
        assert_eq!(app.redirects.len(), 1, "{name}: {:?}", app.redirects);
        assert_eq!(app.images.path, "/_next/image");
        let local = app.images.local.expect("patterns");
        assert!(
            local.iter().any(|path| path.contains("assets")),
            "{local:?}"
        );
        let matchers = app.matchers.expect("it has a proxy");
        assert_eq!(matchers[0].source, "/dashboard/:path*", "{name}");
        let conditions = matchers[1].conditions.as_deref().expect("conditions");
        assert!(conditions.contains("next-router-prefetch"), "{conditions}");
        assert!(!app.actions.is_empty(), "{name}");
    }
}

#[test]
fn locales_base_path_and_a_folder_of_another_name_are_read() {
    for name in ["15-i18n", "16-i18n"] {
        let app = app(name);
        assert_eq!(app.nextjs.base_path, "/base");
        assert_eq!(app.nextjs.locales, ["en", "fr", "nl-NL"]);
        assert_eq!(app.nextjs.default_locale.as_deref(), Some("en"));
        assert!(app.nextjs.trailing_slash);
        assert_eq!(app.nextjs.domains.len(), 1);
        assert_eq!(app.nextjs.domains[0].host, "example.fr");
        let mut pages: Vec<&str> = app.routes.iter().map(|r| r.page.as_str()).collect();
        pages.sort_unstable();
        assert_eq!(
            pages,
            [
                "/",
                "/about",
                "/api/x",
                "/blog/[...slug]",
                "/hello.txt",
                "/vault/[id]"
            ],
            "{name}"
        );
        assert_eq!(kind_of(&app, "/api/x"), Some(Kind::PagesApi));
        assert_eq!(kind_of(&app, "/about"), Some(Kind::PagesPage));
        // The old form of rewrites, an array, stands for those after files.
        assert_eq!(app.rewrites.after_files.len(), 4);
        assert!(app.rewrites.after_files[1].is_external());
        assert!(app.matchers.is_none());
    }
}

#[test]
fn a_standalone_folder_is_the_same_app_without_its_files() {
    for (name, whole) in [
        ("15-routes-standalone", "15-routes"),
        ("16-routes-standalone", "16-routes"),
    ] {
        let (alone, whole) = (app(name), app(whole));
        let mut routes = whole.routes;
        routes.retain(|route| route.kind != Kind::PublicFile);
        assert_eq!(alone.routes, routes);
        assert_eq!(alone.build_id, whole.build_id);
    }
}

#[test]
fn every_source_of_a_route_is_one_a_rule_may_have() {
    for name in BUILDS {
        for route in app(name).routes {
            let pattern = Pattern::parse(&route.source);
            assert!(pattern.is_ok(), "{}: {pattern:?}", route.source);
        }
    }
    for (page, source) in [
        ("/docs/[[...slug]]", "/docs/:slug*"),
        ("/shop/[...path]", "/shop/:path+"),
        ("/p/[post-id]", "/p/:post_id"),
        ("/a(b)/c:d", r"/a\(b\)/c\:d"),
        ("/", "/"),
    ] {
        assert_eq!(source_of(page), source);
    }
}

#[test]
fn a_build_that_is_not_whole_or_not_known_is_refused_by_name() {
    let whole = Memory::of("16-routes");
    let told = |change: &dyn Fn(&mut Memory)| {
        let mut files = whole.clone();
        change(&mut files);
        match next::read(&files) {
            Ok(_) => String::new(),
            Err(error) => error.message,
        }
    };
    assert_eq!(told(&|_| {}), "");
    for name in [
        "BUILD_ID",
        "routes-manifest.json",
        "server/pages-manifest.json",
    ] {
        let path = format!(".next/{name}");
        let message = told(&|files| {
            files.0.remove(&path);
        });
        assert!(message.contains(name), "{message}");
    }
    for name in next::MANIFESTS
        .iter()
        .filter(|name| name.ends_with(".json"))
    {
        for text in ["", "{", "[]", "7", "{\"version\":"] {
            let path = format!(".next/{name}");
            let message = told(&|files| {
                files.0.insert(path.clone(), text.to_owned());
            });
            assert!(message.contains(name), "{name} `{text}`: {message}");
        }
    }
    let routes = ".next/routes-manifest.json";
    for (what, change) in [
        ("version", (|v| v["version"] = 4.into()) as fn(&mut Value)),
        ("suffix", |v| v["rsc"]["suffix"] = ".flight".into()),
        ("rsc.newSuffix", |v| v["rsc"]["newSuffix"] = ".new".into()),
        ("basePath", |v| v["basePath"] = "/other".into()),
        ("another build", |v| {
            v["dataRoutes"][0]["dataRouteRegex"] = "^/_next/data/old/legacy\\.json$".into();
        }),
    ] {
        let message = told(&|files| files.edit(routes, change));
        assert!(message.contains(what), "{what}: {message}");
    }
    let message = told(&|files| {
        files.edit(".next/prerender-manifest.json", |v| {
            v["routes"]["/"]["dataRoute"] = "/index.flight".into();
        });
    });
    assert!(message.contains("/index.flight"), "{message}");
    // Nothing at all is no app.
    let message = told(&|files| files.0.clear());
    assert!(message.contains("there is no build"), "{message}");
}

#[test]
fn two_builds_in_one_folder_are_told_and_the_one_in_use_is_not_guessed() {
    let one = Memory::of("16-i18n");
    let mut two = one.clone();
    for (path, text) in &one.0 {
        if let Some(rest) = path.strip_prefix("build-output/") {
            two.0.insert(format!("other/{rest}"), text.clone());
        }
    }
    // The other folder is a copy that calls itself by the first one's name: it is not in use.
    assert_eq!(next::read(&two), next::read(&one));
    two.edit("other/required-server-files.json", |v| {
        v["config"]["distDir"] = "other".into();
    });
    let message = next::read(&two).expect_err("two builds").message;
    assert!(
        message.contains("build-output") && message.contains("other"),
        "{message}"
    );
}

#[test]
fn a_build_left_from_before_there_was_a_dist_dir_is_not_taken_for_the_one_that_is_served() {
    let mut left = Memory::of("16-i18n");
    let old: Vec<(String, String)> = left
        .0
        .iter()
        .filter_map(|(path, text)| {
            let rest = path.strip_prefix("build-output/")?;
            Some((format!(".next/{rest}"), text.clone()))
        })
        .collect();
    left.0.extend(old);
    let message = next::read(&left).expect_err("two builds").message;
    assert!(
        message.contains("`.next`") && message.contains("`build-output`"),
        "{message}"
    );
    // Without the other one, it is the build.
    left.0.retain(|path, _| !path.starts_with("build-output/"));
    assert!(next::read(&left).is_ok());
}

#[test]
fn no_key_of_the_build_is_in_what_is_kept_or_told() {
    let secret = "fiftyLettersOfAKeyThatNobodyMaySee";
    let mut files = Memory::of("16-routes");
    files.edit(".next/server/server-reference-manifest.json", |v| {
        v["encryptionKey"] = secret.into();
    });
    files.edit(".next/prerender-manifest.json", |v| {
        v["preview"] = serde_json::json!({ "previewModeId": secret });
    });
    let app = next::read(&files).expect("a build");
    assert!(!format!("{app:?}").contains(secret));
    // A shape that does not fit is told without its values.
    files.edit(".next/server/server-reference-manifest.json", |v| {
        v["node"] = secret.into();
    });
    let error = next::read(&files).expect_err("no manifest");
    assert!(!format!("{error:?} {error}").contains(secret), "{error}");
}

/// Another value in some place of a JSON text.
fn bend(value: &mut Value, path: &[u8], with: &Value) {
    let Some((first, rest)) = path.split_first() else {
        *value = with.clone();
        return;
    };
    let at = usize::from(*first);
    match value {
        Value::Array(items) if !items.is_empty() => {
            let at = at % items.len();
            bend(&mut items[at], rest, with);
        }
        Value::Object(map) if !map.is_empty() => {
            let at = at % map.len();
            if let Some(item) = map.values_mut().nth(at) {
                bend(item, rest, with);
            }
        }
        _ => *value = with.clone(),
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[/:a-z(){}*+?\\[\\]\\\\.|^$]{0,24}".prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
        Just(serde_json::json!([{ "source": "/:a(", "destination": "/:b", "regex": "((((" }])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever stands in the manifests: they are read, or refused with the name of a file, and nothing else happens. What was read
    /// can be asked.
    #[test]
    fn bent_manifests_are_read_or_refused(
        build in 0..2_usize,
        bends in proptest::collection::vec((0..9_usize, proptest::collection::vec(any::<u8>(), 0..6), any_json()), 1..4),
        path in "/[a-zA-Z0-9/%.]{0,24}",
    ) {
        let name = ["16-routes", "15-i18n"][build];
        let dist = [".next", "build-output"][build];
        let mut files = Memory::of(name);
        for (file, place, with) in bends {
            let file = format!("{dist}/{}", next::MANIFESTS[1 + file % (next::MANIFESTS.len() - 1)]);
            if files.0.contains_key(&file) {
                files.edit(&file, |value| bend(value, &place, &with));
            }
        }
        match next::read(&files) {
            Ok(app) => {
                prop_assert!(!app.routes.is_empty());
                let table = super::app_routes::table(app, &[]);
                let _ = super::app_routes::find(&table, &path);
            }
            Err(error) => prop_assert!(error.message.contains('`'), "{}", error.message),
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,64}", at in 0..9_usize) {
        let mut files = Memory::of("16-routes");
        files.0.insert(format!(".next/{}", next::MANIFESTS[at]), text);
        let _ = next::read(&files);
    }
}
