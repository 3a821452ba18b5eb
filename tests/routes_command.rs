//! `vestibule routes`, `check --app` and `check --import-proxy`, as somebody runs them on a built app.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use vestibule::cli::{self, World};

/// What the build of `examples/nextjs` left behind; `scripts/example-manifests` makes it.
const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/example-build");
/// Its configuration.
const CONFIG: &str = include_str!("../config/examples/nextjs.toml");

/// All that the example app serves.
const ROUTES: [&str; 14] = [
    "/",
    "/403",
    "/admin",
    "/api/auth/[...all]",
    "/api/events",
    "/api/hello",
    "/dashboard",
    "/dashboard/activity",
    "/dashboard/settings",
    "/legacy",
    "/legacy/[id]",
    "/logo.svg",
    "/sign-in",
    "/sign-up",
];

/// A folder of its own for one test: the app below `app`, its configuration beside it.
struct Folder(PathBuf);

impl Folder {
    fn new(config: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vestibule-routes-{}-{count}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        let build = folder.0.join("app/.next");
        for name in ["", "server"] {
            std::fs::create_dir_all(build.join(name)).unwrap();
            for entry in std::fs::read_dir(Path::new(BUILD).join(name)).unwrap() {
                let entry = entry.unwrap();
                if entry.path().is_file() {
                    std::fs::copy(entry.path(), build.join(name).join(entry.file_name())).unwrap();
                }
            }
        }
        folder.write("app/public/logo.svg", "<svg/>");
        folder.write("vestibule.toml", config);
        folder
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Changes one manifest of the build.
    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) -> &Self {
        let path = self.0.join("app/.next").join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut value: Value = serde_json::from_str(&text).unwrap();
        change(&mut value);
        std::fs::write(path, value.to_string()).unwrap();
        self
    }

    /// Adds pages of the app router.
    fn add_pages(&self, pages: &[&str]) -> &Self {
        self.edit("app-path-routes-manifest.json", |routes| {
            for page in pages {
                routes[format!("{page}/page")] = json!(page);
            }
        });
        self.edit("routes-manifest.json", |routes| {
            for page in pages {
                let list = if page.contains('[') {
                    "dynamicRoutes"
                } else {
                    "staticRoutes"
                };
                let regex = page.split('/').skip(1).map(|part| {
                    if part.starts_with("[...") {
                        "/(.+?)".to_owned()
                    } else if part.starts_with('[') {
                        "/([^/]+?)".to_owned()
                    } else {
                        format!("/{part}")
                    }
                });
                let regex = format!("^{}(?:/)?$", regex.collect::<String>());
                let entry =
                    json!({ "page": page, "regex": regex, "routeKeys": {}, "namedRegex": regex });
                routes[list].as_array_mut().unwrap().push(entry);
            }
        })
    }

    /// Gives the app a proxy with these matchers: source, expression, conditions.
    fn guard(&self, matchers: &[(&str, &str, Value)]) -> &Self {
        self.edit("server/middleware-manifest.json", |manifest| {
            let all: Vec<Value> = matchers
                .iter()
                .map(|(source, regex, conditions)| {
                    let mut entry = json!({ "regexp": regex, "originalSource": source });
                    for (key, value) in conditions.as_object().into_iter().flatten() {
                        entry[key] = value.clone();
                    }
                    entry
                })
                .collect();
            manifest["middleware"] = json!({ "/": { "files": [], "name": "middleware", "page": "/", "matchers": all, "wasm": [], "assets": [] } });
            manifest["sortedMiddleware"] = json!(["/"]);
        })
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let secret = "a secret of the tests, forty-two letters long".to_owned();
        let mut world = World {
            environment: BTreeMap::from([("BETTER_AUTH_SECRET".to_owned(), secret)]),
            folder: self.0.clone(),
            out: &mut out,
            err: &mut err,
            terminal: false,
        };
        let arguments = std::iter::once("vestibule").chain(arguments.iter().copied());
        let code = cli::run(arguments.map(Into::into), &mut world, cli::edges());
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Ran {
            code,
            out: text(out),
            err: text(err),
        }
    }

    /// `check --json` on the app.
    fn check(&self, more: &[&str]) -> (u8, Vec<Value>) {
        let arguments: Vec<&str> = ["check", "--app", "app", "--json"]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        let ran = self.run(&arguments);
        let value: Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
        (ran.code, value["problems"].as_array().unwrap().clone())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug)]
struct Ran {
    code: u8,
    out: String,
    err: String,
}

/// The configuration with a rule for the one file of `public/`.
fn fine() -> String {
    format!("{CONFIG}\n[[route]]\npath = \"/logo.svg\"\nrule = \"public\"\n")
}

/// The configuration without one of the paths of its rules.
fn without(path: &str) -> String {
    let text = fine();
    let quoted = format!("\"{path}\"");
    assert!(text.contains(&quoted), "{path}");
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with("path") && line.contains(&quoted) {
            let rest = line
                .replace(&format!("{quoted}, "), "")
                .replace(&format!(", {quoted}"), "");
            // The only path of its rule takes the rule with it.
            let rest = if rest.contains(&quoted) {
                "path = \"/nowhere\""
            } else {
                &rest
            };
            out.push_str(rest);
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

fn of<'p>(problems: &'p [Value], code: &str) -> Vec<&'p Value> {
    problems.iter().filter(|p| p["code"] == code).collect()
}

fn routes_of<'p>(problems: &'p [Value], code: &str) -> Vec<&'p str> {
    of(problems, code)
        .iter()
        .filter_map(|p| p["route"].as_str())
        .collect()
}

// ------------------------------------------------------------------------------------------------------------ routes

#[test]
fn a_folder_named_to_the_command_counts_instead_of_the_one_in_production() {
    let config = fine() + "[nextjs]\napp = \"/nowhere/in/production\"\n";
    let folder = Folder::new(&config);
    for command in ["check", "routes"] {
        let ran = folder.run(&[command, "--app", "app"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{command}: {ran:?}");
        // Counted from where the command runs, and what is wrong with it is said by its name.
        let ran = folder.run(&[command, "--app", "other"]);
        assert_eq!(ran.code, 2, "{command}: {ran:?}");
        assert!(ran.err.contains("other: there is no build"), "{}", ran.err);
    }
    // Without it the folder of the configuration is looked for, and the message says where.
    for (command, code) in [("check", 1), ("routes", 2)] {
        let ran = folder.run(&[command]);
        assert_eq!(ran.code, code, "{command}: {ran:?}");
        assert!(
            ran.err
                .contains("nextjs.app: /nowhere/in/production: there is no build"),
            "{}",
            ran.err
        );
    }
    // What the configuration says besides is held against that build.
    folder.write("vestibule.toml", &(config + "base_path = \"/shop\"\n"));
    let ran = folder.run(&["check", "--app", "app"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.err.contains("nextjs.base_path: here it is `/shop`"),
        "{}",
        ran.err
    );
}

#[test]
fn every_route_of_the_example_app_is_listed_with_its_rule() {
    let folder = Folder::new(&fine());
    let ran = folder.run(&["routes", "--app", "app", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let listing: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(listing["unclassified"], 0);
    let routes = listing["routes"].as_array().unwrap();
    let mut names: Vec<&str> = routes
        .iter()
        .map(|r| r["route"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ROUTES);
    let rule = |name: &str| {
        let route = routes.iter().find(|r| r["route"] == name).unwrap();
        let rule = &route["rules"][0];
        [
            &route["kind"],
            &rule["rule"],
            &rule["freshness"],
            &rule["pattern"],
        ]
        .map(|v| v.as_str().unwrap_or("none").to_owned())
    };
    assert_eq!(rule("/"), ["page", "public", "none", "/"]);
    assert_eq!(
        rule("/admin"),
        ["page", "{ role = [\"admin\"] }", "strict", "/admin/:path*"]
    );
    assert_eq!(
        rule("/legacy/[id]"),
        ["pages page", "signed-in", "cached", "/legacy/:id*"]
    );
    assert_eq!(
        rule("/api/auth/[...all]"),
        ["handler", "public", "none", "/api/auth/:path*"]
    );
    assert_eq!(rule("/logo.svg")[0], "file");
    let line = routes.iter().find(|r| r["route"] == "/admin").unwrap()["rules"][0]["line"].as_u64();
    let written = CONFIG
        .lines()
        .position(|l| l.contains("/admin/:path*"))
        .unwrap()
        + 1;
    assert_eq!(line, Some(u64::try_from(written).unwrap()));
}

/// Pages and handlers of a folder of the app router, by Next's rule of names alone.
fn routes_below(folder: &Path, path: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            routes_below(&entry.path(), &format!("{path}/{name}"), found);
        } else if matches!(name.as_str(), "page.tsx" | "route.ts") {
            found.push(if path.is_empty() { "/" } else { path }.to_owned());
        }
    }
}

/// The names in a type of the declarations that Next.js writes of an app's routes: `type AppRoutes = "/" | "/403"`.
fn declared(declarations: &str, name: &str) -> Vec<String> {
    let start = format!("type {name} = ");
    let line = declarations.lines().find_map(|l| l.strip_prefix(&start));
    let line = line.unwrap_or_else(|| panic!("no {name}"));
    let names = line.split(" | ").map(|word| word.trim_matches('"'));
    names.map(str::to_owned).collect()
}

#[test]
fn every_route_of_the_real_example_app_is_listed_and_one_without_a_rule_is_told_by_name() {
    let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nextjs");
    assert!(
        app.join(".next/BUILD_ID").is_file(),
        "this test needs the built example app: run `scripts/example-app` (scripts/test does)"
    );
    let named = app.to_str().unwrap();
    let ran = Folder::new(CONFIG).run(&["routes", "--app", named, "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let listing: Value = serde_json::from_str(&ran.out).unwrap();
    let routes = listing["routes"].as_array().unwrap();
    let mut listed: Vec<String> = routes
        .iter()
        .map(|route| route["route"].as_str().unwrap().to_owned())
        .collect();
    listed.sort_unstable();
    // What lies in its folders.
    let mut below = Vec::new();
    routes_below(&app.join("app"), "", &mut below);
    for entry in std::fs::read_dir(app.join("pages/legacy")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".tsx").unwrap();
        below.push(match stem {
            "index" => "/legacy".to_owned(),
            _ => format!("/legacy/{stem}"),
        });
    }
    below.sort_unstable();
    assert_eq!(listed, below);
    // What Next.js itself says there is.
    let declarations = std::fs::read_to_string(app.join(".next/types/routes.d.ts")).unwrap();
    let mut said = ["AppRoutes", "AppRouteHandlerRoutes", "PageRoutes"]
        .map(|name| declared(&declarations, name))
        .concat();
    said.sort_unstable();
    assert_eq!(listed, said);
    // The manifests that other tests read are of this app.
    let mut kept = ROUTES.map(str::to_owned).to_vec();
    kept.retain(|route| route != "/logo.svg");
    assert_eq!(listed, kept, "run scripts/example-manifests");

    let told = format!("{CONFIG}\n[nextjs]\napp = {}\n", toml::Value::from(named));
    let fine = Folder::new(&told).run(&["check"]);
    assert_eq!((fine.code, fine.err.as_str()), (0, ""), "{fine:?}");
    for (path, routes) in [
        ("/admin/:path*", &["page `/admin`"][..]),
        ("/api/events", &["handler `/api/events`"]),
        (
            "/legacy/:id*",
            &["pages page `/legacy`", "pages page `/legacy/[id]`"],
        ),
    ] {
        let config = without(path).replace("\"/logo.svg\"", "\"/nowhere-else\"");
        let ran = Folder::new(&config).run(&["check", "--app", named]);
        assert_eq!(ran.code, 1, "{path}: {ran:?}");
        let told = ran.err.matches(" is unclassified").count();
        assert_eq!(told, routes.len(), "{path}: {}", ran.err);
        for route in routes {
            let message = format!("{route} is unclassified");
            assert!(ran.err.contains(&message), "{path}: {}", ran.err);
        }
    }
}

#[test]
fn the_table_marks_what_only_the_default_covers_and_ends_with_1() {
    let folder = Folder::new(&without("/api/hello"));
    let ran = folder.run(&["routes", "--app", "app"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let line = |route: &str| {
        let start = format!("{route}\t");
        ran.out
            .lines()
            .find(|l| l.starts_with(&start))
            .unwrap_or_else(|| panic!("{}", ran.out))
    };
    assert_eq!(
        line("/api/hello"),
        "/api/hello\thandler\tsigned-in\tcached\t-\tUNCLASSIFIED: default"
    );
    assert!(!line("/api/events").contains("UNCLASSIFIED"));
    assert!(line("/legacy").contains("pages page + data"));
    assert_eq!(ran.out.matches("UNCLASSIFIED").count(), 1);
    assert!(ran.err.contains("check"), "{}", ran.err);
    let fine = Folder::new(&fine()).run(&["routes", "--app", "app"]);
    assert_eq!((fine.code, fine.out.contains("UNCLASSIFIED")), (0, false));
}

#[test]
fn rules_for_a_part_of_a_route_are_listed_inside_it() {
    let config = fine()
        + "[[route]]\npath = \"/legacy/public-one\"\nrule = \"public\"\n[[route]]\npath = \"/admin\"\nmethods = [\"DELETE\"]\nrule = \"deny\"\n[[route]]\npath = [{ source = \"/dashboard/settings\", has = [{ type = \"header\", key = \"x-beta\" }] }]\nrule = \"deny\"\n";
    let folder = Folder::new(&config);
    let ran = folder.run(&["routes", "--app", "app", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let listing: Value = serde_json::from_str(&ran.out).unwrap();
    let inside = |name: &str| {
        let routes = listing["routes"].as_array().unwrap();
        routes.iter().find(|r| r["route"] == name).unwrap()["inside"].clone()
    };
    assert_eq!(inside("/legacy/[id]")[0]["example"], "/legacy/public-one");
    assert_eq!(inside("/legacy/[id]")[0]["rule"], "public");
    assert_eq!(inside("/admin")[0]["methods"], json!(["DELETE"]));
    assert_eq!(inside("/dashboard/settings")[0]["conditional"], true);
    assert_eq!(inside("/api/hello"), json!([]));
}

#[test]
fn many_files_of_a_folder_are_one_line() {
    let folder =
        Folder::new(&(fine() + "[[route]]\npath = \"/images/:path*\"\nrule = \"public\"\n"));
    for name in ["a", "b", "c", "d", "e"] {
        folder.write(&format!("app/public/images/{name}.png"), "png");
    }
    let ran = folder.run(&["routes", "--app", "app"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains("/images/ (5 files)\tfile\tpublic"),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains("a.png") && ran.out.contains("/logo.svg\t"));
    let json = folder.run(&["routes", "--app", "app", "--json"]).out;
    assert!(json.contains("/images/a.png") && json.contains("/images/e.png"));
}

#[test]
fn without_a_build_or_an_app_the_commands_end_with_2() {
    let folder = Folder::new(&fine());
    for arguments in [
        &["routes", "--app", "nowhere"][..],
        &["check", "--app", "nowhere"],
        &["routes"],
        &["check", "--import-proxy"],
        &["check", "--app", "app", "--import-proxy"],
        &["check", "--app", "app", "--draft"],
    ] {
        let ran = folder.run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
    }
    folder.write("app/.next/routes-manifest.json", "{ nonsense");
    let ran = folder.run(&["routes", "--app", "app"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("routes-manifest.json"), "{}", ran.err);
}

// ------------------------------------------------------------------------------------------------------------- check

#[test]
fn a_rule_taken_away_is_told_by_the_name_of_its_route() {
    let known = fine() + "[nextjs]\napp = \"app\"\n";
    let (code, problems) = Folder::new(&known).check(&[]);
    assert_eq!((code, problems), (0, Vec::new()));
    for (path, routes) in [
        ("/", &["/"][..]),
        ("/403", &["/403"]),
        ("/sign-up", &["/sign-up"]),
        ("/admin/:path*", &["/admin"]),
        ("/api/hello", &["/api/hello"]),
        ("/legacy/:id*", &["/legacy", "/legacy/[id]"]),
        ("/logo.svg", &["/logo.svg"]),
        (
            "/dashboard/:path*",
            &["/dashboard", "/dashboard/activity", "/dashboard/settings"],
        ),
    ] {
        let folder = Folder::new(&without(path));
        let (code, problems) = folder.check(&[]);
        assert_eq!(code, 1, "{path}");
        let mut found = routes_of(&problems, "unclassified");
        found.sort_unstable();
        assert_eq!(found, routes, "{path}");
        // What is advised helps.
        let snippets: Vec<&str> = of(&problems, "unclassified")
            .iter()
            .map(|p| p["snippet"].as_str().unwrap())
            .collect();
        folder.write("vestibule.toml", &(without(path) + &snippets.join("\n")));
        let (_, problems) = folder.check(&[]);
        assert_eq!(routes_of(&problems, "unclassified"), [""; 0], "{path}");
    }
}

#[test]
fn a_new_page_of_the_app_makes_check_fail_until_it_is_thought_of() {
    let folder = Folder::new(&fine());
    folder.add_pages(&["/reports/[year]", "/dashboard/new"]);
    let ran = folder.run(&["check", "--app", "app"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.err.contains("page `/reports/[year]` is unclassified"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("path = \"/reports/:year\""), "{}", ran.err);
    assert!(!ran.err.contains("/dashboard/new"), "{}", ran.err);
    assert!(ran.out.contains("1 error"), "{}", ran.out);
    // A rule for one of its values is none for the route.
    let one = fine() + "[[route]]\npath = \"/reports/2024\"\nrule = \"signed-in\"\n";
    folder.write("vestibule.toml", &one);
    assert_eq!(
        routes_of(&folder.check(&[]).1, "unclassified"),
        ["/reports/[year]"]
    );
    let all = fine() + "[[route]]\npath = \"/reports/:year\"\nrule = \"signed-in\"\n";
    folder.write("vestibule.toml", &all);
    assert_eq!(folder.check(&[]).0, 0);
}

#[test]
fn rules_for_one_method_classify_a_handler_and_no_page() {
    let methods = "methods = [\"POST\"]\nrule = \"signed-in\"\n";
    let folder =
        Folder::new(&(without("/api/hello") + "[[route]]\npath = \"/api/hello\"\n" + methods));
    assert_eq!(folder.check(&[]).0, 0);
    let folder =
        Folder::new(&(without("/admin/:path*") + "[[route]]\npath = \"/admin\"\n" + methods));
    assert_eq!(routes_of(&folder.check(&[]).1, "unclassified"), ["/admin"]);
    // With a default that lets strangers in, the other methods would be open.
    let open = (without("/api/hello") + "[[route]]\npath = \"/api/hello\"\n" + methods).replace(
        "default        = \"signed-in\"",
        "default        = \"public\"",
    );
    let folder = Folder::new(&open);
    assert_eq!(
        routes_of(&folder.check(&[]).1, "unclassified"),
        ["/api/hello"]
    );
}

#[test]
fn a_rule_that_only_some_requests_meet_classifies_nothing() {
    let condition = "[[route]]\npath = [{ source = \"/admin\", has = [{ type = \"cookie\", key = \"beta\" }] }]\nrule = \"signed-in\"\n";
    let folder = Folder::new(&(without("/admin/:path*") + condition));
    assert_eq!(routes_of(&folder.check(&[]).1, "unclassified"), ["/admin"]);
}

#[test]
fn a_rule_that_matches_nothing_is_warned_about() {
    let folder = Folder::new(
        &(fine()
            + "[[route]]\npath = [\"/dashbord/:path*\", \"/dashboard/settings\"]\nrule = \"deny\"\n"),
    );
    let (code, problems) = folder.check(&[]);
    assert_eq!(code, 0, "a warning");
    let unused = of(&problems, "unused");
    assert_eq!(unused.len(), 1, "{problems:?}");
    assert!(
        unused[0]["message"]
            .as_str()
            .unwrap()
            .contains("/dashbord/:path*")
    );
    assert!(unused[0]["line"].as_u64().is_some());
}

#[test]
fn a_rule_for_everything_is_noted_because_it_hides_new_pages() {
    let folder = Folder::new(&(fine() + "[[route]]\npath = \"/:path*\"\nrule = \"signed-in\"\n"));
    folder.add_pages(&["/reports"]);
    let (code, problems) = folder.check(&[]);
    assert_eq!(code, 0);
    assert_eq!(of(&problems, "sweeping").len(), 1, "{problems:?}");
    assert!(of(&Folder::new(&fine()).check(&[]).1, "sweeping").is_empty());
}

#[test]
fn what_the_configuration_says_of_the_app_must_be_what_it_was_built_with() {
    let drifted = fine() + "[nextjs]\nbase_path = \"/app\"\n";
    let (code, problems) = Folder::new(&drifted).check(&[]);
    assert_eq!(code, 1);
    assert_eq!(of(&problems, "drift").len(), 1, "{problems:?}");
    let agreed = fine() + "[nextjs]\nbase_path = \"\"\ntrailing_slash = false\n";
    assert_eq!(Folder::new(&agreed).check(&[]).0, 0);
}

#[test]
fn without_a_build_check_says_that_actions_are_unprotected() {
    let folder = Folder::new(&(fine() + "[nextjs]\nbase_path = \"\"\n"));
    let ran = folder.run(&["check"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.err.contains("Server Actions are unprotected"),
        "{}",
        ran.err
    );
    let with = folder.run(&["check", "--app", "app"]);
    // Knowing it here helps nobody while the gateway does not.
    assert!(
        with.err.contains("warning: Server Actions are unprotected")
            && with
                .err
                .contains("the gateway itself is not told of its build"),
        "{}",
        with.err
    );
    folder.write("vestibule.toml", &(fine() + "[nextjs]\napp = \"app\"\n"));
    for arguments in [&["check"][..], &["check", "--app", "app"]] {
        let told = folder.run(arguments);
        assert_eq!((told.code, told.err.as_str()), (0, ""), "{arguments:?}");
    }
    // Without actions there is nothing to tell.
    folder.write("vestibule.toml", &fine());
    folder.edit("server/server-reference-manifest.json", |manifest| {
        manifest["node"] = json!({});
    });
    let none = folder.run(&["check", "--app", "app"]);
    assert_eq!((none.code, none.err.as_str()), (0, ""), "{none:?}");
    // Nothing says that this is a Next.js app.
    let none = Folder::new(&fine()).run(&["check"]);
    assert!(!none.err.contains("unprotected"), "{}", none.err);
}

#[test]
fn explain_tells_whose_action_is_called() {
    let folder = Folder::new(&(fine() + "[nextjs]\napp = \"app\"\n"));
    let manifest = std::fs::read_to_string(
        folder
            .0
            .join("app/.next/server/server-reference-manifest.json"),
    );
    let manifest: Value = serde_json::from_str(&manifest.unwrap()).unwrap();
    let (id, _) = manifest["node"].as_object().unwrap().iter().next().unwrap();
    let explain = |id: &str, more: &[&str]| {
        let header = format!("next-action: {id}");
        let arguments = ["explain", "--exit-code", "POST", "/", "-H", &header];
        folder.run(&[&arguments[..], more].concat())
    };
    let known = explain(id, &[]);
    assert_eq!(known.code, 4, "{known:?}");
    assert!(
        known
            .out
            .contains("action      of /dashboard, whose rules count too\n"),
        "{}",
        known.out
    );
    let json: Value = serde_json::from_str(&explain(id, &["--json"]).out).unwrap();
    assert_eq!(json["action"], "/dashboard");
    let unknown = explain(&"0".repeat(42), &[]);
    assert_eq!(unknown.code, 4, "{unknown:?}");
    assert!(
        unknown.out.contains("none that the build knows"),
        "{}",
        unknown.out
    );
    // Neither does anything speak of actions where none is called.
    let page = folder.run(&["explain", "--exit-code", "GET", "/"]);
    assert_eq!(page.code, 0, "{page:?}");
    assert!(!page.out.contains("action"), "{}", page.out);
}

#[test]
fn an_action_shared_with_an_open_page_is_noted() {
    let share = |page: &'static str| {
        let folder = Folder::new(&fine());
        folder.edit("server/server-reference-manifest.json", |manifest| {
            for action in manifest["node"].as_object_mut().unwrap().values_mut() {
                action["workers"][page] = json!({ "moduleId": 1, "async": false });
            }
        });
        let (code, problems) = folder.check(&[]);
        assert_eq!(code, 0, "{problems:?}");
        routes_of(&problems, "shared_action").join(" ")
    };
    assert_eq!(share("app/page"), "/");
    assert_eq!(share("app/admin/page"), "");
}

// ------------------------------------------------------------------------------------------------------ import-proxy

const DASHBOARD: &str = r"^(?:\/(_next\/data\/[^/]{1,}))?\/dashboard(?:\/((?:[^\/#\?]+?)(?:\/(?:[^\/#\?]+?))*))?(\.json|\.rsc|\.segments\/.+\.segment\.rsc)?[\/#\?]?$";
const LEGACY: &str = r"^(?:\/(_next\/data\/[^/]{1,}))?\/legacy(?:\/((?:[^\/#\?]+?)(?:\/(?:[^\/#\?]+?))*))?(\.json|\.rsc|\.segments\/.+\.segment\.rsc)?[\/#\?]?$";
const ALL_BUT: &str = r"^(?:\/(_next\/data\/[^/]{1,}))?(?:\/((?!api|_next\/static|_next\/image|favicon.ico).*))(\.json|\.rsc|\.segments\/.+\.segment\.rsc)?[\/#\?]?$";

#[test]
fn a_policy_as_strict_as_the_old_matchers_passes_and_tells_where_it_is_stricter() {
    let folder = Folder::new(&fine());
    folder.guard(&[
        ("/dashboard/:path*", DASHBOARD, json!({})),
        ("/legacy/:path*", LEGACY, json!({})),
    ]);
    let (code, problems) = folder.check(&["--import-proxy"]);
    assert_eq!(code, 0, "{problems:?}");
    assert_eq!(routes_of(&problems, "looser"), [""; 0]);
    let stricter = routes_of(&problems, "stricter");
    assert_eq!(stricter, ["/admin", "/api/events", "/api/hello"]);
    assert!(of(&problems, "unproven").is_empty(), "{problems:?}");
    let ran = folder.run(&["check", "--app", "app", "--import-proxy"]);
    assert!(
        ran.out.contains("0 routes looser, 3 routes stricter"),
        "{}",
        ran.out
    );
}

#[test]
fn a_path_the_old_matchers_covered_and_the_rules_open_is_an_error_with_an_address() {
    let folder = Folder::new(&fine());
    folder.write(
        "vestibule.toml",
        &(fine() + "[[route]]\npath = \"/legacy/free\"\nrule = \"public\"\n"),
    );
    folder.guard(&[("/legacy/:path*", LEGACY, json!({}))]);
    let (code, problems) = folder.check(&["--import-proxy"]);
    assert_eq!(code, 1);
    let looser = of(&problems, "looser");
    assert_eq!(looser.len(), 1, "{problems:?}");
    assert_eq!(looser[0]["route"], "/legacy/[id]");
    let message = looser[0]["message"].as_str().unwrap();
    assert!(message.contains("/legacy/free"), "{message}");
    // The operator says that the old code let everybody see it.
    let (code, problems) = folder.check(&["--import-proxy", "--let-pass", "/legacy/free"]);
    assert_eq!(code, 0, "{problems:?}");
    assert_eq!(routes_of(&problems, "let_pass"), ["/legacy/[id]"]);
    // Of another path that says nothing.
    let (code, _) = folder.check(&["--import-proxy", "--let-pass", "/legacy/other"]);
    assert_eq!(code, 1);
}

#[test]
fn an_old_matcher_that_covers_all_but_some_finds_every_open_page() {
    let folder = Folder::new(&fine());
    folder.guard(&[(
        "/((?!api|_next/static|_next/image|favicon.ico).*)",
        ALL_BUT,
        json!({}),
    )]);
    let (code, problems) = folder.check(&["--import-proxy"]);
    assert_eq!(code, 1);
    assert_eq!(
        routes_of(&problems, "looser"),
        ["/", "/403", "/logo.svg", "/sign-in", "/sign-up"]
    );
    assert_eq!(
        of(&problems, "unproven").len(),
        1,
        "an expression of its own"
    );
    let passed = ["/", "/403", "/logo.svg", "/sign-in", "/sign-up"];
    let arguments: Vec<&str> = std::iter::once("--import-proxy")
        .chain(passed.iter().flat_map(|path| ["--let-pass", path]))
        .collect();
    let (code, problems) = folder.check(&arguments);
    assert_eq!(code, 0, "{problems:?}");
}

#[test]
fn an_address_a_rule_spells_out_is_tried_whatever_its_letters_and_however_many_there_are() {
    let files = r"^(?:\/(_next\/data\/[^/]{1,}))?\/files(?:\/((?:[^\/#\?]+?)(?:\/(?:[^\/#\?]+?))*))?(\.json|\.rsc|\.segments\/.+\.segment\.rsc)?[\/#\?]?$";
    let many: String = (0..40)
        .map(|n| format!("[[route]]\npath = \"/dashboard/word{n}\"\nrule = \"signed-in\"\n"))
        .collect();
    for (path, page) in [
        // Two words in one segment, several segments of one parameter, and a word behind many others.
        ("/legacy/terms.pdf", "/legacy/[id]"),
        ("/files/open/to/all", "/files/[...path]"),
        ("/legacy/free", "/legacy/[id]"),
    ] {
        let shut = "[[route]]\npath = \"/files/:path*\"\nrule = \"signed-in\"\n";
        let open = format!("[[route]]\npath = \"{path}\"\nrule = \"public\"\n");
        let folder = Folder::new(&(fine() + &many + shut + &open));
        folder.add_pages(&["/files/[...path]"]).guard(&[
            ("/legacy/:path*", LEGACY, json!({})),
            ("/files/:path*", files, json!({})),
        ]);
        let (code, problems) = folder.check(&["--import-proxy"]);
        assert_eq!(routes_of(&problems, "looser"), [page], "{path}");
        assert_eq!(code, 1);
    }
}

#[test]
fn a_path_that_the_app_rewrites_to_another_host_is_compared_too() {
    let folder = Folder::new(&fine());
    let all = r"^(?:\/(_next\/data\/[^/]{1,}))?(?:\/((?:[^\/#\?]+?)(?:\/(?:[^\/#\?]+?))*))?(\.json|\.rsc|\.segments\/.+\.segment\.rsc)?[\/#\?]?$";
    let rewrite = |source: &str| {
        folder.edit("routes-manifest.json", |routes| {
            routes["rewrites"]["fallback"] = json!([{
                "source": source,
                "destination": "https://backend.internal/:path*",
                "regex": r"^/backend(?:/((?:[^/]+?)(?:/(?:[^/]+?))*))?(?:/)?$",
            }]);
        });
    };
    rewrite("/backend/:path*");
    folder.guard(&[("/:path*", all, json!({}))]);
    let passed = ["/", "/403", "/logo.svg", "/sign-in", "/sign-up"];
    let arguments: Vec<&str> = std::iter::once("--import-proxy")
        .chain(passed.iter().flat_map(|path| ["--let-pass", path]))
        .collect();
    let (code, problems) = folder.check(&arguments);
    assert_eq!(code, 0, "{problems:?}");
    let open = "[[route]]\npath = \"/backend/:path*\"\nrule = \"public\"\n";
    folder.write("vestibule.toml", &(fine() + open));
    let (code, problems) = folder.check(&arguments);
    assert_eq!(routes_of(&problems, "looser"), ["/backend/:path*"]);
    assert_eq!(code, 1);
    // One that cannot be tried is not said to be as strict.
    rewrite("/back:rest(end.*)");
    let (_, problems) = folder.check(&arguments);
    let unproven = of(&problems, "unproven");
    let what: Vec<_> = unproven.iter().map(|p| p["message"].to_string()).collect();
    assert!(
        what.iter().any(|what| what.contains("/back:rest")),
        "{what:?}"
    );
}

#[test]
fn a_method_that_no_rule_names_is_tried_too() {
    let depot = r"^(?:\/(_next\/data\/[^/]{1,}))?\/depot(\.json|\.rsc|\.segments\/.+\.segment\.rsc)?[\/#\?]?$";
    let all = "[[route]]\npath = \"/:word(depot)\"\nrule = \"RULE\"\n";
    for narrowed in [
        "methods = [\"GET\", \"HEAD\", \"POST\"]",
        "methods = [\"GET\", \"HEAD\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\"]",
    ] {
        let some = format!("[[route]]\npath = \"/depot\"\n{narrowed}\nrule = \"signed-in\"\n");
        let find = |rule: &str| {
            let folder = Folder::new(&(fine() + &some + &all.replace("RULE", rule)));
            folder.add_pages(&["/depot"]);
            folder.guard(&[("/depot", depot, json!({}))]);
            let (_, problems) = folder.check(&["--import-proxy"]);
            routes_of(&problems, "looser").join(" ")
        };
        assert_eq!(find("public"), "/depot", "{narrowed}");
        assert_eq!(find("signed-in"), "", "{narrowed}");
    }
}

#[test]
fn conditions_too_many_to_combine_are_not_said_to_be_proven() {
    let with = |count: usize| {
        let has: Vec<String> = (0..count)
            .map(|n| format!("{{ type = \"header\", key = \"x-{n}\" }}"))
            .collect();
        let rule = format!(
            "[[route]]\npath = [{{ source = \"/legacy/free\", has = [{}] }}]\nrule = \"signed-in\"\n",
            has.join(", ")
        );
        let folder = Folder::new(&(fine() + &rule));
        folder.guard(&[("/legacy/:path*", LEGACY, json!({}))]);
        let (_, problems) = folder.check(&["--import-proxy"]);
        of(&problems, "unproven").len()
    };
    assert_eq!((with(1), with(6)), (0, 1));
}

#[test]
fn a_condition_of_the_old_matcher_is_tried_both_ways() {
    let prefetch = json!({ "missing": [{ "type": "header", "key": "next-router-prefetch" }, { "type": "header", "key": "purpose", "value": "prefetch" }] });
    let folder = Folder::new(&fine());
    folder.guard(&[
        ("/dashboard/:path*", DASHBOARD, prefetch),
        ("/legacy/:path*", LEGACY, json!({})),
    ]);
    let (code, problems) = folder.check(&["--import-proxy"]);
    assert_eq!(code, 0, "{problems:?}");
    let hole = of(&problems, "stricter")
        .into_iter()
        .find(|p| p["route"] == "/dashboard");
    let message = hole.expect("the hole of the old matcher")["message"]
        .as_str()
        .unwrap();
    assert!(
        message.contains("-H 'next-router-prefetch: 1'")
            || message.contains("-H 'purpose: prefetch'"),
        "{message}"
    );
    // A rule that a header opens is found, too.
    let hole = "[[route]]\npath = [{ source = \"/dashboard\", has = [{ type = \"header\", key = \"x-open\", value = \"yes\" }] }]\nrule = \"public\"\n";
    folder.write("vestibule.toml", &(fine() + hole));
    let (code, problems) = folder.check(&["--import-proxy"]);
    assert_eq!(code, 1);
    let looser = of(&problems, "looser");
    assert_eq!(looser.len(), 1, "{problems:?}");
    assert!(
        looser[0]["message"]
            .as_str()
            .unwrap()
            .contains("-H 'x-open: yes'")
    );
}

#[test]
fn a_method_the_rules_leave_open_is_found() {
    let folder = Folder::new(
        &(fine()
            + "[[route]]\npath = \"/legacy/:id\"\nmethods = [\"HEAD\", \"POST\"]\nrule = \"public\"\n"),
    );
    folder.guard(&[("/legacy/:path*", LEGACY, json!({}))]);
    let (code, problems) = folder.check(&["--import-proxy"]);
    assert_eq!(code, 1, "{problems:?}");
    assert_eq!(routes_of(&problems, "looser"), ["/legacy/[id]"]);
    let message = of(&problems, "looser")[0]["message"].as_str().unwrap();
    assert!(message.contains("as HEAD /legacy/"), "{message}");
}

#[test]
fn a_matcher_that_covers_nothing_is_warned_about_and_one_that_cannot_run_ends_with_2() {
    let folder = Folder::new(&fine());
    folder.guard(&[
        ("/dashboard/:path*", DASHBOARD, json!({})),
        ("/gone", r"^\/gone$", json!({})),
    ]);
    let (code, problems) = folder.check(&["--import-proxy"]);
    assert_eq!(code, 0, "{problems:?}");
    let idle = of(&problems, "idle_matcher");
    assert_eq!(idle.len(), 1, "{problems:?}");
    assert!(idle[0]["message"].as_str().unwrap().contains("`/gone`"));
    folder.guard(&[("/x", r"^\/(x)\1$", json!({}))]);
    let ran = folder.run(&["check", "--app", "app", "--import-proxy"]);
    assert_eq!(ran.code, 2, "{ran:?}");
}

#[test]
fn a_draft_of_the_old_matchers_can_be_used_as_it_is() {
    let folder = Folder::new(&fine());
    folder.guard(&[
        ("/dashboard/:path*", DASHBOARD, json!({})),
        (
            "/legacy/:path*",
            LEGACY,
            json!({ "has": [{ "type": "cookie", "key": "old", "value": "a|b" }] }),
        ),
    ]);
    let ran = folder.run(&["check", "--app", "app", "--import-proxy", "--draft"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    // A file it is written to is one that can be read.
    let drafted = ran.out.as_str();
    assert!(drafted.parse::<toml::Table>().is_ok(), "{drafted}");
    assert!(
        ran.err.contains("compared with the old matchers"),
        "{ran:?}"
    );
    assert!(ran.err.contains("vestibule.toml: "), "{ran:?}");
    let both = [
        "check",
        "--app",
        "app",
        "--import-proxy",
        "--draft",
        "--json",
    ];
    assert_eq!(folder.run(&both).code, 2);
    let head = CONFIG.split("[[route]]").next().unwrap();
    folder.write("drafted.toml", &format!("{head}{drafted}"));
    let check = folder.run(&[
        "check",
        "--config",
        "drafted.toml",
        "--app",
        "app",
        "--import-proxy",
    ]);
    assert!(!check.err.contains("looser"), "{check:?}");
    assert!(drafted.contains("key = \"old\""), "{drafted}");
}

// ------------------------------------------------------------------------------------------------------- other builds

/// A build of `tests/next-builds`, its policy, and what `check --import-proxy` finds.
fn compared(build: &str, config: &str) -> (u8, Vec<Value>) {
    let head = CONFIG.split("[[route]]").next().unwrap();
    let folder = Folder::new(&format!("{head}{config}"));
    let app = format!("{}/tests/next-builds/{build}", env!("CARGO_MANIFEST_DIR"));
    let ran = folder.run(&["check", "--app", &app, "--import-proxy", "--json"]);
    let value: Value =
        serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
    (ran.code, value["problems"].as_array().unwrap().clone())
}

#[test]
fn the_matchers_of_a_real_build_are_held_against_the_rules() {
    let rest = "[[route]]\npath = [\"/\", \"/_tech\", \"/photo/:id\", \"/docs/:slug*\", \"/shop/:path+\", \"/blog/:path+\", \"/api/:path*\", \"/still\", \"/legacy/:id\", \"/sitemap.xml\", \"/files/:path*\", \"/logo.svg\", \"/:slug\", \"/:slug/:id\"]\nrule = \"public\"\n";
    let guarded = "[[route]]\npath = [\"/dashboard/:path*\", \"/pricing\"]\nrule = \"signed-in\"\n";
    let (_, problems) = compared("16-routes", &format!("{rest}{guarded}"));
    assert_eq!(routes_of(&problems, "looser"), [""; 0], "{problems:?}");
    // The matcher leaves out what says it is a prefetch; the rule does not.
    let hole = of(&problems, "stricter")
        .into_iter()
        .find(|p| p["route"] == "/pricing");
    let hole = hole.expect("the hole of the old matcher")["message"]
        .as_str()
        .unwrap();
    assert!(hole.contains("-H 'next-router-prefetch: 1'"), "{hole}");
    let open = guarded.replace("signed-in", "public");
    let (code, problems) = compared("16-routes", &format!("{rest}{open}"));
    assert_eq!(code, 1);
    assert_eq!(
        routes_of(&problems, "looser"),
        ["/dashboard", "/dashboard/[id]", "/pricing"],
        "{problems:?}"
    );
}

#[test]
fn base_path_locales_and_slash_of_a_build_are_told_where_the_configuration_lacks_them() {
    let head = CONFIG.split("[[route]]").next().unwrap();
    let folder = Folder::new(head);
    let app = format!("{}/tests/next-builds/16-i18n", env!("CARGO_MANIFEST_DIR"));
    let check = |folder: &Folder| {
        let ran = folder.run(&["check", "--app", &app, "--json"]);
        let value: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
        (ran.code, value["problems"].as_array().unwrap().clone())
    };
    let (code, problems) = check(&folder);
    assert_eq!((code, of(&problems, "drift").len()), (1, 4), "{problems:?}");
    // Read from the build, they agree; what is unclassified stays so.
    let quoted = toml::Value::from(app.as_str());
    let rules = "[[route]]\npath = [\"/vault/:id\", \"/blog/:slug+\", \"/about\", \"/api/x\"]\nrule = \"signed-in\"\n";
    folder.write(
        "vestibule.toml",
        &format!("{head}\n[nextjs]\napp = {quoted}\n{rules}"),
    );
    let (code, problems) = check(&folder);
    assert_eq!(code, 1, "{problems:?}");
    assert!(of(&problems, "drift").is_empty(), "{problems:?}");
    let mut found = routes_of(&problems, "unclassified");
    found.sort_unstable();
    assert_eq!(found, ["/", "/hello.txt"], "{problems:?}");
    // A rule for one language leaves the others to the default.
    let one = rules.replace("\"/about\"", "{ source = \"/fr/about\", locale = false }");
    folder.write(
        "vestibule.toml",
        &format!("{head}\n[nextjs]\napp = {quoted}\n{one}"),
    );
    let (_, problems) = check(&folder);
    assert!(
        routes_of(&problems, "unclassified").contains(&"/about"),
        "{problems:?}"
    );
    let none = rules.replace(
        "\"/about\"",
        "\"/about\", { source = \"/vault\", locale = false }",
    );
    folder.write(
        "vestibule.toml",
        &format!("{head}\n[nextjs]\napp = {quoted}\n{none}"),
    );
    let (_, problems) = check(&folder);
    let unused = of(&problems, "unused");
    assert_eq!(unused.len(), 1, "{problems:?}");
    assert!(
        unused[0]["message"]
            .as_str()
            .unwrap()
            .contains("locale = false")
    );
}

#[test]
fn the_configuration_that_init_writes_for_a_built_app_has_every_route_classified() {
    let folder = Folder::new("");
    folder.write("app/.env", "BETTER_AUTH_SECRET=a secret of the tests, forty-two letters long\nDATABASE_URL=sqlite:app.db\n");
    folder.write(
        "app/package.json",
        r#"{"dependencies":{"next":"16","better-auth":"1.7"}}"#,
    );
    let ran = folder.run(&["init", "--app", "app", "--output", "conf/made.toml"]);
    assert_eq!(ran.code, 1, "there is no such folder: {ran:?}");
    std::fs::create_dir(folder.0.join("conf")).unwrap();
    let ran = folder.run(&["init", "--app", "app", "--output", "conf/made.toml"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let text = std::fs::read_to_string(folder.0.join("conf/made.toml")).unwrap();
    for line in [
        "app = \"../app\"",
        "path = \"/sign-in\"\nrule = \"public\"",
        "path = \"/sign-up\"\nrule = \"guest\"",
        "path = \"/dashboard/:rest*\"\nrule = \"signed-in\"",
        "# /dashboard, /dashboard/activity, /dashboard/settings",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    // One rule for the administrators' pages, where it counts: a second one would lose to the first.
    assert_eq!(text.matches("/admin").count(), 2, "{text}");
    assert!(
        text.contains(
            "path = \"/admin\"\nrule = \"signed-in\"\n# For administrators only: rule = { role = [\"admin\"]"
        ),
        "{text}"
    );
    assert!(
        ran.out.contains(
            "`/admin` is for everybody who is signed in: give it a role in conf/made.toml"
        ),
        "{}",
        ran.out
    );
    let arguments = ["--config", "conf/made.toml", "--env-file", "app/.env"];
    let check = folder.run(&[&["check"], &arguments[..]].concat());
    assert_eq!((check.code, check.err.as_str()), (0, ""), "{check:?}");
    let routes = folder.run(&[&["routes"], &arguments[..]].concat());
    assert_eq!(routes.code, 0, "{routes:?}");
    assert!(!routes.out.contains("UNCLASSIFIED") && routes.out.contains("/legacy/[id]"));
    // A new page at the top is noticed, without anybody naming the app.
    folder.add_pages(&["/reports"]);
    let check = folder.run(&[&["check"], &arguments[..]].concat());
    assert_eq!(check.code, 1);
    assert!(
        check.err.contains("page `/reports` is unclassified"),
        "{check:?}"
    );
}

#[test]
fn init_reads_a_build_in_a_folder_of_another_name_and_the_pages_of_both_routers() {
    let build = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/next-builds/16-i18n/build-output"
    );
    let folder = Folder::new("");
    std::fs::remove_dir_all(folder.0.join("app/.next")).unwrap();
    for name in ["", "server"] {
        for entry in std::fs::read_dir(Path::new(build).join(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let to = Path::new("app/build-output").join(name);
                let to = to.join(path.file_name().unwrap());
                folder.write(
                    to.to_str().unwrap(),
                    &std::fs::read_to_string(&path).unwrap(),
                );
            }
        }
    }
    let package = r#"{"dependencies":{"next":"16","better-auth":"1.7"}}"#;
    folder.write("app/package.json", package);
    let init = |output: &str| {
        let ran = folder.run(&["init", "--app", "app", "--output", output]);
        assert_eq!(ran.code, 0, "{ran:?}");
        (
            ran.out,
            std::fs::read_to_string(folder.0.join(output)).unwrap(),
        )
    };
    let (out, text) = init("without.toml");
    assert!(!out.contains("the app is not built"), "{out}");
    assert!(out.contains("no sign-in page was found"), "{out}");
    assert!(
        text.contains("app = \"app\"") && text.contains("path = \"/vault/:rest*\""),
        "{text}"
    );
    // A page of the pages router, which stands in no other manifest.
    let pages = "app/build-output/server/pages-manifest.json";
    let known = std::fs::read_to_string(folder.0.join(pages)).unwrap();
    let mut known: Value = serde_json::from_str(&known).unwrap();
    known["/login"] = json!("pages/login.js");
    folder.write(pages, &known.to_string());
    let (out, text) = init("with.toml");
    assert!(!out.contains("no sign-in page was found"), "{out}");
    assert!(text.contains("sign_in = \"/login\""), "{text}");
    assert!(
        text.contains("path = \"/login\"\nrule = \"public\""),
        "{text}"
    );
}

#[test]
fn help_has_examples() {
    for command in ["routes", "check", "init"] {
        let ran = Folder::new(&fine()).run(&[command, "--help"]);
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("Example:"), "{}", ran.out);
    }
}
