//! `vestibule routes`: every route of the app beside the rule that holds for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::{DONE, Edges, Failure, Given, PROBLEMS, USAGE, World};
use crate::app::{self, App, Kind};
use crate::config::Config;
use crate::policy::{Need, Rule};
use crate::route::coverage::{Coverage, Row};
use crate::route::{Route, RouteId, RouteTable};
use crate::server::build::Folder;
use crate::session::Freshness;

/// So many files of a folder under the same rule are listed as one line.
const FILES_LISTED_MAX: usize = 3;

/// Arguments of `routes`.
#[derive(Debug, clap::Args)]
pub struct Routes {
    /// The configuration.
    #[command(flatten)]
    pub given: Given,
    /// The app's folder, with its build. Default: `nextjs.app` of the configuration.
    #[arg(long, value_name = "DIR")]
    pub app: Option<PathBuf>,
    /// Print the routes as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A configuration held against the app it protects.
pub struct Surveyed {
    /// The app.
    pub app: Arc<App>,
    /// The routes of the configuration, which know the app.
    pub table: RouteTable,
    /// What they make of it.
    pub coverage: Coverage,
}

impl Routes {
    /// Tells which rule holds for which route.
    ///
    /// # Errors
    /// When there is no build, or it cannot be read.
    pub fn run(mut self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        self.given.app.clone_from(&self.app);
        let loaded = match self.given.load_or_tell(world, edges)? {
            Ok(loaded) => loaded,
            Err(code) => return Ok(code),
        };
        let Some(folder) = app_folder(self.app.as_deref(), &loaded.config) else {
            return Err(no_folder());
        };
        let surveyed = survey(&loaded.config, &world.path(&folder))?;
        let listing = Listing::of(&surveyed);
        if self.json {
            let json = serde_json::to_string_pretty(&listing).map_err(|error| Failure {
                message: format!("the routes cannot be written: {error}"),
                advice: "leave `--json` out".into(),
                code: PROBLEMS,
            })?;
            world.say(&format!("{json}\n"));
        } else {
            let columns = world.terminal && std::io::stdout().is_terminal();
            world.say(&listing.to_text(columns));
        }
        let open = listing.unclassified;
        if open > 0 {
            let routes = if open == 1 {
                "1 route has"
            } else {
                "routes have"
            };
            let count = if open == 1 {
                String::new()
            } else {
                format!("{open} ")
            };
            world.complain(&format!(
                "{count}{routes} no rule but the default; `vestibule check` says what to write\n"
            ));
            return Ok(PROBLEMS);
        }
        Ok(DONE)
    }
}

/// The app's folder: as asked, else as configured.
pub fn app_folder(asked: Option<&Path>, config: &Config) -> Option<PathBuf> {
    let built = config.build.as_ref().map(|build| build.folder.clone());
    asked.map(Path::to_owned).or(built)
}

/// What to say when nobody names the app's folder.
pub fn no_folder() -> Failure {
    Failure {
        message: "no app is named".into(),
        advice: "name its folder with `--app DIR`, or as `app` under [nextjs]".into(),
        code: USAGE,
    }
}

/// Reads the build of an app, and holds the configuration against it.
///
/// # Errors
/// When there is no build, or it cannot be read.
pub fn survey(config: &Config, folder: &Path) -> Result<Surveyed, Failure> {
    let app = app::next::read(&Folder(folder.to_owned())).map_err(|error| Failure {
        message: format!("{}: {}", folder.display(), error.message),
        advice: error.advice.into(),
        code: USAGE,
    })?;
    let app = Arc::new(app);
    let table = RouteTable::build(&config.routes).map_err(|_| Failure {
        message: "the routes of the configuration cannot be used".into(),
        advice: "`vestibule check` says why".into(),
        code: USAGE,
    })?;
    table.know(Some(Arc::clone(&app)));
    let coverage = table.coverage(&app, &config.server.hosts);
    Ok(Surveyed {
        app,
        table,
        coverage,
    })
}

/// A rule as in the configuration: `signed-in`, or `{ role = ["admin"] }`.
pub fn rule_text(rule: &Rule) -> String {
    let Need::SignedIn(conditions) = &rule.need else {
        return rule.need.as_str().to_owned();
    };
    let list = |words: &[String]| {
        let words: Vec<String> = words
            .iter()
            .map(|w| toml::Value::from(w.as_str()).to_string())
            .collect();
        format!("[{}]", words.join(", "))
    };
    let mut parts = Vec::new();
    for (name, words) in [
        ("role", &conditions.role),
        ("organization_role", &conditions.organization_role),
        ("credentials", &conditions.credentials),
    ] {
        if !words.is_empty() {
            parts.push(format!("{name} = {}", list(words)));
        }
    }
    if conditions.email_verified {
        parts.push("email_verified = true".to_owned());
    }
    if let Some(age) = conditions.step_up {
        parts.push(format!("step_up = \"{}s\"", age.as_secs()));
    }
    if parts.is_empty() {
        return rule.need.as_str().to_owned();
    }
    format!("{{ {} }}", parts.join(", "))
}

/// The word of a freshness; none where nobody is looked up.
pub fn freshness_text(rule: &Rule) -> Option<&'static str> {
    rule.need.asks_who().then_some(match rule.freshness {
        Freshness::Optimistic => "optimistic",
        Freshness::Cached => "cached",
        Freshness::Strict => "strict",
    })
}

/// The word of a kind of route.
pub fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Page => "page",
        Kind::Handler => "handler",
        Kind::PagesPage => "pages page",
        Kind::PagesApi => "pages API",
        Kind::PublicFile => "file",
    }
}

/// All routes with their rules. Its JSON is this struct, names and all: names are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The name of the build.
    pub build: String,
    /// How many routes only the default covers.
    pub unclassified: usize,
    /// The routes, in the order of the build; files of `public/` one by one.
    pub routes: Vec<Listed>,
}

/// One route of the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// As its folders are called: `/dashboard/[id]`.
    pub route: String,
    /// As a source of a rule: `/dashboard/:id`.
    pub source: String,
    /// `page`, `handler`, `pages page`, `pages API`, `file`.
    pub kind: &'static str,
    /// Whether there is a `/_next/data/` address for it.
    pub has_data: bool,
    /// Whether a rule says what it needs; the default alone is none.
    pub classified: bool,
    /// What holds for all of it. More than one where its addresses or hosts differ.
    pub rules: Vec<ListedRule>,
    /// What holds for some of its addresses, methods, hosts or conditions only.
    pub inside: Vec<ListedRule>,
}

/// One rule that holds for a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedRule {
    /// As in the configuration.
    pub rule: String,
    /// `optimistic`, `cached`, `strict`; none where nobody is looked up.
    pub freshness: Option<&'static str>,
    /// The source as configured, or of the built-in route.
    pub pattern: String,
    /// Its line in the configuration.
    pub line: Option<usize>,
    /// Why it exists when nobody wrote it: `default`, `sign-in page` …
    pub built_in: Option<&'static str>,
    /// An address it holds for, when it holds for a part.
    pub example: Option<String>,
    /// Methods it is narrowed to.
    pub methods: Vec<String>,
    /// Hosts it is narrowed to.
    pub hosts: Vec<String>,
    /// Whether `has` or `missing` narrow it.
    pub conditional: bool,
}

impl ListedRule {
    fn of(route: &Route) -> Self {
        Self {
            rule: rule_text(&route.rule),
            freshness: freshness_text(&route.rule),
            pattern: route.pattern.clone(),
            line: route.line,
            built_in: route.built_in,
            example: None,
            methods: Vec::new(),
            hosts: Vec::new(),
            conditional: false,
        }
    }

    /// Where it was written.
    fn place(&self) -> String {
        match (self.built_in, self.line) {
            (Some("default"), _) => "default".to_owned(),
            (Some(name), _) => format!("built in: {name}"),
            (None, Some(line)) => format!("line {line}: {}", self.pattern),
            (None, None) => self.pattern.clone(),
        }
    }

    fn narrowing(&self) -> String {
        let mut parts = Vec::new();
        if !self.methods.is_empty() {
            parts.push(self.methods.join(" "));
        }
        if !self.hosts.is_empty() {
            parts.push(format!("on {}", self.hosts.join(" ")));
        }
        if self.conditional {
            parts.push("on conditions".to_owned());
        }
        parts.join(", ")
    }
}

impl Listing {
    /// Puts a survey into words.
    pub fn of(surveyed: &Surveyed) -> Self {
        let rule = |id: RouteId| ListedRule::of(surveyed.table.route(id));
        let listed = |row: &Row| Listed {
            route: row.route.page.clone(),
            source: row.route.source.clone(),
            kind: kind_text(row.route.kind),
            has_data: row.route.kind == Kind::PagesPage,
            classified: row.unclassified.is_none(),
            rules: row.holds.iter().map(|id| rule(*id)).collect(),
            inside: row
                .inside
                .iter()
                .map(|inside| ListedRule {
                    example: Some(inside.example.clone()),
                    methods: inside
                        .methods
                        .iter()
                        .map(|m| m.as_str().to_owned())
                        .collect(),
                    hosts: inside.hosts.clone(),
                    conditional: inside.is_conditional,
                    ..rule(inside.route)
                })
                .collect(),
        };
        let routes: Vec<Listed> = surveyed.coverage.rows.iter().map(listed).collect();
        Self {
            build: surveyed.app.build_id.clone(),
            unclassified: routes.iter().filter(|route| !route.classified).count(),
            routes,
        }
    }

    /// A table: in columns for a person, with tabs between for programs.
    pub fn to_text(&self, columns: bool) -> String {
        let mut rows: Vec<[String; 6]> =
            vec![["ROUTE", "KIND", "RULE", "FRESHNESS", "ONLY", "FROM"].map(str::to_owned)];
        for listed in self.grouped() {
            let mut first = true;
            for rule in &listed.rules {
                let place = rule.place();
                let unclassified = rule.built_in == Some("default") && !listed.classified;
                rows.push([
                    if first {
                        listed.route.clone()
                    } else {
                        String::new()
                    },
                    if first {
                        kind_of(&listed)
                    } else {
                        String::new()
                    },
                    rule.rule.clone(),
                    rule.freshness.unwrap_or("-").to_owned(),
                    "-".to_owned(),
                    if unclassified {
                        format!("UNCLASSIFIED: {place}")
                    } else {
                        place
                    },
                ]);
                first = false;
            }
            for rule in &listed.inside {
                let narrowing = rule.narrowing();
                rows.push([
                    format!("  {}", rule.example.as_deref().unwrap_or_default()),
                    "inside".to_owned(),
                    rule.rule.clone(),
                    rule.freshness.unwrap_or("-").to_owned(),
                    if narrowing.is_empty() {
                        "-".to_owned()
                    } else {
                        narrowing
                    },
                    rule.place(),
                ]);
            }
        }
        let mut out = String::new();
        let widths: Vec<usize> = (0..6)
            .map(|column| {
                let cells = rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for row in &rows {
            let line = if columns {
                row.iter()
                    .zip(&widths)
                    .fold(String::new(), |mut line, (cell, width)| {
                        // Formatting into a string cannot fail.
                        let _ = write!(line, "{cell:<width$}  ");
                        line
                    })
            } else {
                row.join("\t")
            };
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// The same, with the files of a folder as one line where there are many under the same rule.
    fn grouped(&self) -> Vec<Listed> {
        let folder = |listed: &Listed| {
            let at = listed.route.rfind('/').unwrap_or(0);
            listed.route.get(..at).unwrap_or_default().to_owned()
        };
        let key = |listed: &Listed| {
            let rules: Vec<String> = listed.rules.iter().map(ListedRule::place).collect();
            (folder(listed), rules, listed.classified)
        };
        let is_plain = |listed: &Listed| listed.kind == "file" && listed.inside.is_empty();
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for listed in self.routes.iter().filter(|listed| is_plain(listed)) {
            *counts.entry(key(listed)).or_default() += 1;
        }
        let mut out: Vec<Listed> = Vec::new();
        for listed in &self.routes {
            let many = if is_plain(listed) {
                counts
                    .get_mut(&key(listed))
                    .filter(|count| **count > FILES_LISTED_MAX || **count == 0)
            } else {
                None
            };
            match many {
                None => out.push(listed.clone()),
                Some(0) => {}
                Some(count) => {
                    let files = *count;
                    // What has been said is not said again.
                    *count = 0;
                    out.push(Listed {
                        route: format!("{}/ ({files} files)", folder(listed)),
                        ..listed.clone()
                    });
                }
            }
        }
        out
    }
}

fn kind_of(listed: &Listed) -> String {
    if listed.has_data {
        format!("{} + data", listed.kind)
    } else {
        listed.kind.to_owned()
    }
}
