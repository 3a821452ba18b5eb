//! `vestibule init`: a configuration from what an app says about itself. Writes names of secrets, never secrets.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use url::Url;

use super::{DONE, Failure, PROBLEMS, World, env_file, read_bounded};
use crate::app::{self, App, AppRoute};
use crate::server::build::Folder;

/// Longest file of an app that is read, in bytes: manifests of large apps have a few million.
const APP_FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The app's folder.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub app: PathBuf,
    /// The file to write.
    #[arg(long, short, value_name = "FILE", default_value = "vestibule.toml")]
    pub output: PathBuf,
    /// Overwrite the file when it exists.
    #[arg(long)]
    pub force: bool,
}

impl Init {
    /// Writes the configuration.
    ///
    /// # Errors
    /// When the file exists already, or cannot be written.
    pub fn run(self, world: &mut World<'_>) -> Result<u8, Failure> {
        let folder = world.path(&self.app);
        if !folder.is_dir() {
            return Err(Failure {
                message: format!("{} is no folder", self.app.display()),
                advice: "name the app's folder with `--app DIR`".into(),
                code: PROBLEMS,
            });
        }
        let mut found = Findings::of(&folder, &self.app);
        let files = Folder(folder.clone());
        // `distDir` may have put it elsewhere.
        if folder.join(".next").exists() || app::next::build_folder(&files).is_ok() {
            match app::next::read(&files) {
                Ok(app) => {
                    let folder = beside(&self.output, &self.app);
                    found.take_build(&app, folder, &self.output);
                }
                Err(error) => found.notes.push(format!(
                    "the build cannot be read, so no routes were written: {}",
                    error.message
                )),
            }
        }
        let path = world.path(&self.output);
        let mut options = std::fs::OpenOptions::new();
        options.write(true);
        // One step, so that nobody's file is lost between looking and writing.
        if self.force {
            options.create(true).truncate(true);
        } else {
            options.create_new(true);
        }
        let written = options
            .open(&path)
            .and_then(|mut file| file.write_all(found.to_toml().as_bytes()));
        written.map_err(|error| {
            let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
            Failure {
                message: if exists {
                    format!("{} exists already", self.output.display())
                } else {
                    format!("{} cannot be written: {error}", self.output.display())
                },
                advice: if exists {
                    "`--force` overwrites it, `--output FILE` writes elsewhere".into()
                } else {
                    "write elsewhere with `--output FILE`".into()
                },
                code: PROBLEMS,
            }
        })?;
        let out = self.output.display();
        let mut said = format!("wrote {out}\n");
        for note in &found.notes {
            let _ = writeln!(said, "  {note}");
        }
        let files: String = found.env_files.iter().fold(String::new(), |mut all, file| {
            let _ = write!(all, " --env-file {}", self.app.join(file).display());
            all
        });
        let _ = write!(
            said,
            "next:\n  vestibule check --config {out}{files}\n  vestibule serve --config {out}{files}\n"
        );
        world.say(&said);
        Ok(DONE)
    }
}

/// What `init` would write for an app.
pub(super) fn text_for(folder: &Path, app: &Path) -> String {
    Findings::of(folder, app).to_toml()
}

/// Where apps have their sign-in page, the likeliest first.
const SIGN_IN: [&str; 6] = [
    "/sign-in",
    "/login",
    "/signin",
    "/auth/sign-in",
    "/auth/login",
    "/auth/signin",
];
/// Where they have their sign-up page.
const SIGN_UP: [&str; 6] = [
    "/sign-up",
    "/register",
    "/signup",
    "/auth/sign-up",
    "/auth/register",
    "/auth/signup",
];
const NOT_BUILT: &str = "the app is not built, so base path, locales and trailing slash are taken to be Next's defaults";
const NO_SIGN_IN: &str = "no sign-in page was found: check `routes.sign_in`";

/// The first page wanted that an app has.
fn first_of(wanted: &[&str], has: impl Fn(&str) -> bool) -> Option<String> {
    let page = wanted.iter().find(|page| has(page));
    page.map(|page| (*page).to_owned())
}

/// What an app says about itself.
struct Findings {
    env_files: Vec<&'static str>,
    public_url: Option<String>,
    secret: String,
    source: String,
    base_path: String,
    locales: Vec<String>,
    default_locale: Option<String>,
    trailing_slash: bool,
    is_next: bool,
    sign_in: String,
    sign_up: Option<String>,
    notes: Vec<String>,
    /// The app's folder, counted from the file, once its build was read.
    app: Option<String>,
    groups: Vec<Group>,
}

/// Routes of an app that one rule is written for.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    /// The source of the rule.
    source: String,
    /// The routes, for a comment.
    pages: Vec<String>,
}

impl Findings {
    fn of(folder: &Path, app: &Path) -> Self {
        // The order in which Next.js lets them win.
        let env_files: Vec<&'static str> = [".env.local", ".env"]
            .into_iter()
            .filter(|f| folder.join(f).is_file())
            .collect();
        let variables: Vec<(String, String)> = env_files
            .iter()
            .filter_map(|file| read_bounded(&folder.join(file), APP_FILE_BYTES_MAX).ok())
            .flat_map(|text| env_file::parse(&text))
            .collect();
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(n, v)| n == name && !v.is_empty())
                .map(|(_, v)| v.as_str())
        };
        let json = |path: &str| -> Option<Value> {
            let text = read_bounded(&folder.join(path), APP_FILE_BYTES_MAX).ok()?;
            serde_json::from_str(&text).ok()
        };
        let package = json("package.json");
        let depends = |name: &str| {
            ["dependencies", "devDependencies"].iter().any(|list| {
                package
                    .as_ref()
                    .and_then(|p| p.get(list))
                    .and_then(|d| d.get(name))
                    .is_some()
            })
        };
        let mut notes = Vec::new();
        if package.is_some() && !depends("better-auth") {
            notes.push(
                "package.json does not list better-auth: is this the app's folder?".to_owned(),
            );
        }
        let routes = json(".next/routes-manifest.json");
        let files = json(".next/required-server-files.json");
        let is_next = routes.is_some() || depends("next");
        if is_next && routes.is_none() {
            notes.push(NOT_BUILT.to_owned());
        }
        let setting = |name: &str| {
            let config = files
                .as_ref()
                .and_then(|f| f.get("config"))
                .and_then(|c| c.get(name));
            routes
                .as_ref()
                .and_then(|r| r.get(name))
                .or(config)
                .filter(|v| !v.is_null())
        };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let pages = pages(folder, &json);
        let first = |wanted: &[&str]| first_of(wanted, |page| pages.iter().any(|p| p == page));
        let sign_in = first(&SIGN_IN);
        if sign_in.is_none() {
            notes.push(NO_SIGN_IN.to_owned());
        }
        Self {
            public_url: variable("BETTER_AUTH_URL").and_then(origin),
            secret: secret(&variable, &mut notes),
            source: source(&variable, folder, app, &mut notes),
            base_path: text(setting("basePath")).unwrap_or_default(),
            locales: setting("i18n")
                .and_then(|i| i.get("locales"))
                .and_then(Value::as_array)
                .map(|all| all.iter().filter_map(|l| text(Some(l))).collect())
                .unwrap_or_default(),
            default_locale: text(setting("i18n").and_then(|i| i.get("defaultLocale"))),
            trailing_slash: trailing_slash(files.as_ref(), routes.as_ref()),
            sign_in: sign_in.unwrap_or_else(|| "/sign-in".to_owned()),
            sign_up: first(&SIGN_UP),
            is_next,
            env_files,
            notes,
            app: None,
            groups: Vec::new(),
        }
    }

    /// Takes what the build says, which is more than its files one by one.
    fn take_build(&mut self, app: &App, folder: String, output: &Path) {
        self.base_path.clone_from(&app.nextjs.base_path);
        self.locales.clone_from(&app.nextjs.locales);
        self.default_locale.clone_from(&app.nextjs.default_locale);
        self.trailing_slash = app.nextjs.trailing_slash;
        self.is_next = true;
        self.notes.retain(|note| note != NOT_BUILT);
        self.app = Some(folder);
        // Pages of both routers; the files one by one told of one.
        let has = |page: &str| app.routes.iter().any(|route| route.page == page);
        if let Some(page) = first_of(&SIGN_IN, has) {
            self.sign_in = page;
            self.notes.retain(|note| note != NO_SIGN_IN);
        }
        self.sign_up = first_of(&SIGN_UP, has).or(self.sign_up.take());
        let written = [Some("/"), Some(&self.sign_in), self.sign_up.as_deref()];
        let left = app.routes.iter().filter(|route| {
            !written.contains(&Some(route.page.as_str())) && !is_always_reachable(&route.page)
        });
        self.groups = groups(left);
        if let Some(group) = self.groups.iter().find(|g| g.is_for_administrators()) {
            self.notes.push(format!(
                "`{}` is for everybody who is signed in: give it a role in {}, if it is for administrators",
                group.source,
                output.display()
            ));
        }
    }

    fn to_toml(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let mut out = String::from(
            "# Made by `vestibule init`. Every other key, with its default: config/vestibule.toml of Vestibule.\n\n\
             # What browsers talk to.\nlisten = \"127.0.0.1:8080\"\n\
             # Health and metrics, for this machine only.\nadmin = \"127.0.0.1:8081\"\n",
        );
        // Formatting into a string cannot fail.
        let _ = match &self.public_url {
            Some(url) => writeln!(
                out,
                "# What people type. Taken from BETTER_AUTH_URL: once the gateway is in front, it must be the gateway's address.\npublic_url = {}",
                quoted(url)
            ),
            None => writeln!(
                out,
                "# What people type.\npublic_url = \"http://localhost:8080\""
            ),
        };
        out.push_str("\n[upstream]\n# Where the app listens.\nurl = \"http://127.0.0.1:3000\"\n");
        let _ = write!(
            out,
            "\n[better_auth]\nbase_path = \"/api/auth\"\n{}\n",
            self.secret
        );
        let _ = write!(
            out,
            "\n[sessions]\n{}\n# How long someone signed out elsewhere may keep access.\ncache_ttl = \"30s\"\n",
            self.source
        );
        if self.is_next {
            let locales: Vec<String> = self.locales.iter().map(|l| quoted(l)).collect();
            let mut keys = format!(
                "base_path = {}\nlocales = [{}]\n",
                quoted(&self.base_path),
                locales.join(", ")
            );
            if let Some(locale) = self
                .default_locale
                .as_ref()
                .filter(|l| self.locales.contains(l))
            {
                let _ = writeln!(keys, "default_locale = {}", quoted(locale));
            }
            let _ = writeln!(keys, "trailing_slash = {}", self.trailing_slash);
            out.push_str("\n[nextjs]\n");
            match &self.app {
                Some(folder) => {
                    let _ = writeln!(
                        out,
                        "# What the app serves is read from its build, and again whenever that changes.\napp = {}\n# It says, and need not be told:",
                        quoted(folder)
                    );
                    for line in keys.lines() {
                        let _ = writeln!(out, "# {line}");
                    }
                }
                None => {
                    let _ = write!(out, "# As in next.config.\n{keys}");
                }
            }
        }
        let _ = write!(
            out,
            "\n[routes]\n# Whoever is not let in by a route below has to be signed in.\ndefault = \"signed-in\"\nsign_in = {}\nsigned_in_home = \"/\"\n",
            quoted(&self.sign_in)
        );
        out.push_str("\n[[route]]\npath = \"/\"\nrule = \"optional\"\n");
        if self.app.is_some() {
            let _ = write!(
                out,
                "\n[[route]]\npath = {}\nrule = \"public\"\n",
                quoted(&self.sign_in)
            );
        }
        if let Some(page) = &self.sign_up {
            let _ = write!(
                out,
                "\n[[route]]\n# Those who are signed in already are sent to `signed_in_home`.\npath = {}\nrule = \"guest\"\n",
                quoted(page)
            );
        }
        if !self.groups.is_empty() {
            out.push_str("\n# What follows says no more than the default. It is written down so that `vestibule check` tells pages nobody has thought of;\n# make public what strangers are meant to see, as the files a sign-in page needs.\n");
        }
        for group in &self.groups {
            let named: Vec<&str> = group
                .pages
                .iter()
                .take(PAGES_NAMED)
                .map(String::as_str)
                .collect();
            let more = group.pages.len().saturating_sub(PAGES_NAMED);
            let more = if more == 0 {
                String::new()
            } else {
                format!(" and {more} more")
            };
            let _ = write!(
                out,
                "\n[[route]]\n# {}{more}\npath = {}\nrule = \"signed-in\"\n",
                named.join(", "),
                quoted(&group.source)
            );
            if group.is_for_administrators() {
                let _ = writeln!(out, "# For administrators only: rule = {ADMINISTRATORS}");
            }
        }
        // A second rule for the same pages would lose to the first wherever that names a page.
        if !self.groups.iter().any(Group::is_for_administrators) {
            let _ = write!(
                out,
                "\n# [[route]]\n# path = \"/admin/:path*\"\n# rule = {ADMINISTRATORS}\n"
            );
        }
        out
    }
}

/// The rule for pages of administrators, who are asked for every time.
const ADMINISTRATORS: &str = "{ role = [\"admin\"], freshness = \"strict\" }";

impl Group {
    /// Whether its pages are called as those of administrators mostly are.
    fn is_for_administrators(&self) -> bool {
        let head = self.source.split('/').nth(1).unwrap_or_default();
        head.eq_ignore_ascii_case("admin")
    }
}

/// Routes of a group that its comment names.
const PAGES_NAMED: usize = 5;

/// What the gateway lets everybody reach without a rule, as long as it is called what it is called by default.
fn is_always_reachable(page: &str) -> bool {
    matches!(
        page,
        "/favicon.ico" | "/robots.txt" | "/manifest.json" | "/manifest.webmanifest"
    ) || page.starts_with("/api/auth/")
        || page.starts_with("/.well-known/")
}

/// Routes by the first part of their path.
fn groups<'r>(routes: impl Iterator<Item = &'r AppRoute>) -> Vec<Group> {
    let mut groups: Vec<(String, Vec<&AppRoute>)> = Vec::new();
    for route in routes {
        let head = route
            .source
            .split('/')
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        match groups.iter_mut().find(|(known, _)| *known == head) {
            Some((_, all)) => all.push(route),
            None => groups.push((head, vec![route])),
        }
    }
    groups.sort_by(|(one, _), (other, _)| one.cmp(other));
    groups
        .into_iter()
        .map(|(head, mut routes)| {
            routes.sort_by(|one, other| one.source.cmp(&other.source));
            let is_one = routes
                .iter()
                .all(|route| route.source == format!("/{head}"));
            Group {
                source: if is_one {
                    format!("/{head}")
                } else {
                    format!("/{}/:rest*", head.trim_end_matches(['*', '+']))
                },
                pages: routes
                    .iter()
                    // A comment ends with its line, whatever a file is called.
                    .map(|route| route.page.replace(char::is_control, "?"))
                    .collect(),
            }
        })
        .collect()
}

/// A folder, counted from where a file is to be.
fn beside(file: &Path, folder: &Path) -> String {
    use std::path::Component;
    let parent = file.parent().unwrap_or_else(|| Path::new(""));
    let is_plain = |path: &Path| {
        path.components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    };
    let normal = |path: &Path| -> PathBuf {
        path.components()
            .filter(|part| !matches!(part, Component::CurDir))
            .collect()
    };
    if folder.is_absolute() {
        return folder.display().to_string();
    }
    let path = if is_plain(parent) {
        let up: PathBuf = normal(parent).components().map(|_| "..").collect();
        up.join(normal(folder))
    } else {
        // Only the system knows where it leads.
        std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
    };
    let text = path.display().to_string();
    if text.is_empty() {
        ".".to_owned()
    } else {
        text
    }
}

fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let fine = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none();
    fine.then(|| url.origin().ascii_serialization())
}

/// The lines that name the secret, without it.
fn secret<'v>(variable: &impl Fn(&str) -> Option<&'v str>, notes: &mut Vec<String>) -> String {
    if variable("BETTER_AUTH_SECRETS").is_some() {
        return "# The secrets come from the variable BETTER_AUTH_SECRETS, as in the app."
            .to_owned();
    }
    let name = ["BETTER_AUTH_SECRET", "AUTH_SECRET"]
        .into_iter()
        .find(|name| variable(name).is_some());
    if name.is_none() {
        notes.push("no secret was found in .env: set BETTER_AUTH_SECRET to the app's".to_owned());
    }
    format!(
        "# The secret the app signs with. The file names the variable and never holds the secret.\nsecret = {{ env = \"{}\" }}",
        name.unwrap_or("BETTER_AUTH_SECRET")
    )
}

/// The lines that say where the sessions are, without a password.
fn source<'v>(
    variable: &impl Fn(&str) -> Option<&'v str>,
    folder: &Path,
    app: &Path,
    notes: &mut Vec<String>,
) -> String {
    const COMMENT: &str = "# Where the app keeps its sessions.\n";
    let redis = variable("REDIS_URL").is_some();
    if redis && variable("DATABASE_URL").is_some() {
        notes.push(
            "DATABASE_URL and REDIS_URL are both set: when Redis is Better Auth's `secondaryStorage`, make it `sessions.source`"
                .to_owned(),
        );
        return format!(
            "{COMMENT}source = {{ env = \"DATABASE_URL\" }}\n# Instead, when `secondaryStorage` is set:\n# source = {{ env = \"REDIS_URL\" }}"
        );
    }
    if redis {
        return format!("{COMMENT}source = {{ env = \"REDIS_URL\" }}");
    }
    if variable("DATABASE_URL").is_some() {
        return format!("{COMMENT}source = {{ env = \"DATABASE_URL\" }}");
    }
    let databases = databases(folder);
    if databases.len() > 1 {
        notes.push(format!(
            "several databases were found, and the first taken: {}",
            databases.join(", ")
        ));
    }
    if let Some(name) = databases.first() {
        let path = app.join(name);
        let path = path
            .strip_prefix(".")
            .unwrap_or(&path)
            .display()
            .to_string();
        return format!(
            "{COMMENT}source = {}",
            toml::Value::from(format!("sqlite:{path}"))
        );
    }
    notes.push("no database was found: set DATABASE_URL or REDIS_URL to the app's".to_owned());
    format!("{COMMENT}source = {{ env = \"DATABASE_URL\" }}")
}

/// Files of the app that are called like databases, sorted.
fn databases(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            let ending = Path::new(name).extension().and_then(|e| e.to_str());
            matches!(ending, Some("db" | "sqlite" | "sqlite3"))
        })
        .collect();
    names.sort();
    names
}

/// Source: next 14 to 16, `required-server-files.json` (`config.trailingSlash`), else the internal redirect in
/// `routes-manifest.json`, which leads either to or away from the slash.
fn trailing_slash(files: Option<&Value>, routes: Option<&Value>) -> bool {
    let said = files
        .and_then(|f| f.get("config"))
        .and_then(|c| c.get("trailingSlash"))
        .and_then(Value::as_bool);
    said.unwrap_or_else(|| {
        let redirects = routes
            .and_then(|r| r.get("redirects"))
            .and_then(Value::as_array);
        redirects.into_iter().flatten().any(|redirect| {
            let internal = redirect.get("internal").and_then(Value::as_bool) == Some(true);
            let to = redirect
                .get("destination")
                .and_then(Value::as_str)
                .unwrap_or_default();
            internal && to.len() > 1 && to.ends_with('/')
        })
    })
}

/// Paths of pages: from the build, else from the folders of the source.
fn pages(folder: &Path, json: &impl Fn(&str) -> Option<Value>) -> Vec<String> {
    if let Some(Value::Object(built)) = json(".next/app-path-routes-manifest.json") {
        return built
            .values()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
    }
    let mut pages = Vec::new();
    for root in ["app", "src/app", "pages", "src/pages"] {
        walk(&folder.join(root), "", 0, &mut pages);
    }
    pages
}

/// Deepest folder looked at: sign-in pages are near the top.
const DEPTH_MAX: usize = 4;
/// Most pages remembered, so that an odd folder cannot hold us up.
const PAGES_MAX: usize = 2_000;

fn walk(folder: &Path, path: &str, depth: usize, pages: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if depth > DEPTH_MAX || pages.len() > PAGES_MAX {
            return;
        }
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        // Groups in brackets are no part of the path.
        let grouped = name.starts_with('(') && name.ends_with(')');
        if kind.is_dir() {
            let below = if grouped {
                path.to_owned()
            } else {
                format!("{path}/{name}")
            };
            walk(&entry.path(), &below, depth + 1, pages);
        } else if let Some((stem, "tsx" | "ts" | "jsx" | "js")) = name.rsplit_once('.') {
            pages.push(match stem {
                "page" | "index" => path.to_owned(),
                other => format!("{path}/{other}"),
            });
        }
    }
}
