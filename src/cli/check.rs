//! `vestibule check`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{DONE, Edges, Failure, Given, PROBLEMS, USAGE, World, read_bounded, routes};
use crate::app::{App, Kind};
use crate::config::{self, Config};
use crate::migration::provider;
use crate::route::comparison::{self, Comparison, Difference, Sense, Sides};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The configuration.
    #[command(flatten)]
    pub given: Given,
    /// Print the JSON Schema of the configuration, and check nothing.
    #[arg(long)]
    pub schema: bool,
    /// Print problems as JSON.
    #[arg(long)]
    pub json: bool,
    /// The app's folder: also tell routes of its build that no rule covers. Default: `nextjs.app` of the configuration.
    #[arg(long, value_name = "DIR")]
    pub app: Option<PathBuf>,
    /// Also prove that the rules are at least as strict as the matchers of the app's own `proxy.ts` or `middleware.ts`.
    #[arg(long)]
    pub import_proxy: bool,
    /// A path the old code let everybody see although its matcher covered it, as `/blog/:path*`. May be given several times.
    #[arg(long, value_name = "SOURCE", requires = "import_proxy")]
    pub let_pass: Vec<String>,
    /// Print a draft of routes that protect what the old matchers covered, and nothing else: what is found goes to standard error.
    #[arg(long, requires = "import_proxy", conflicts_with = "json")]
    pub draft: bool,
}

/// One thing about the app and the rules for it.
#[derive(Debug)]
struct Finding {
    severity: &'static str,
    code: &'static str,
    line: Option<usize>,
    message: String,
    advice: String,
    /// The route of the app.
    route: Option<String>,
    /// Lines for the configuration, ready to copy.
    snippet: Option<String>,
}

const ERROR: &str = "error";
const WARNING: &str = "warning";
const NOTE: &str = "note";

impl Check {
    /// Tells every problem.
    ///
    /// # Errors
    /// When the file, or the build, cannot be read.
    pub fn run(mut self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        self.given.app.clone_from(&self.app);
        if self.schema {
            world.say(&schema_text());
            return Ok(DONE);
        }
        let file = self.given.file(world);
        let (problems, mut code, notes, findings) = match self.given.load(world, edges)? {
            Ok(loaded) => {
                let findings = self.findings(world, &loaded.config, &file)?;
                (loaded.warnings, DONE, cautions(&loaded.config), findings)
            }
            Err(problems) => (problems, PROBLEMS, Vec::new(), Vec::new()),
        };
        let of = |severity: &str| findings.iter().filter(|f| f.severity == severity).count();
        if of(ERROR) > 0 {
            code = PROBLEMS;
        }
        if self.json {
            let mut all = problems.to_json();
            if let Some(Value::Array(list)) = all.get_mut("problems") {
                list.extend(findings.iter().map(|f| f.to_json(&file)));
            }
            world.say(&format!("{all:#}\n"));
            return Ok(code);
        }
        world.complain(&problems.render(world.style()));
        for finding in &findings {
            world.complain(&finding.to_text(&file));
        }
        for note in notes {
            world.complain(&format!("note: {note}\n"));
        }
        let errors = problems
            .iter()
            .filter(|p| p.severity() == config::Severity::Error)
            .count();
        let warnings = problems.len() - errors + of(WARNING);
        let errors = errors + of(ERROR);
        let summary = match (errors, warnings) {
            (0, 0) => "no problems".to_owned(),
            (0, warnings) => format!("usable, {}", counted(warnings, "warning")),
            (errors, 0) => counted(errors, "error"),
            (errors, warnings) => format!(
                "{}, {}",
                counted(errors, "error"),
                counted(warnings, "warning")
            ),
        };
        self.tell(world, &format!("{}: {summary}\n", file.display()));
        Ok(code)
    }

    /// What the app's build has to say about the rules.
    fn findings(
        &self,
        world: &mut World<'_>,
        config: &Config,
        file: &Path,
    ) -> Result<Vec<Finding>, Failure> {
        let Some(folder) = routes::app_folder(self.app.as_deref(), config) else {
            if self.import_proxy {
                return Err(routes::no_folder());
            }
            let text = read_bounded(&world.path(file), config::FILE_BYTES_MAX).unwrap_or_default();
            let table = text.parse::<toml::Table>().unwrap_or_default();
            let is_next = table.contains_key("nextjs");
            return Ok(is_next.then(unprotected_actions).into_iter().collect());
        };
        let surveyed = routes::survey(config, &world.path(&folder))?;
        let mut found = drift(&config.routes.nextjs, &surveyed.app);
        if config.build.is_none() && !surveyed.app.actions.is_empty() {
            found.push(unknown_build());
        }
        found.extend(coverage(&surveyed, config));
        if !self.import_proxy {
            return Ok(found);
        }
        let sides = Sides {
            app: &surveyed.app,
            table: &surveyed.table,
            settings: &config.routes,
            hosts: &config.server.hosts,
            let_pass: &self.let_pass,
        };
        let comparison = comparison::compare(&sides).map_err(|message| Failure {
            message,
            advice: "build the app with its `proxy.ts` or `middleware.ts` in place, and compare before it is taken out".into(),
            code: USAGE,
        })?;
        if self.draft {
            world.say(&draft(&surveyed.app));
        }
        found.extend(differences(&comparison, &surveyed));
        if !self.json {
            self.tell(world, &summary(&comparison));
        }
        Ok(found)
    }

    /// What came of it, apart from a draft, which somebody may write to a file.
    fn tell(&self, world: &mut World<'_>, text: &str) {
        if self.draft {
            world.complain(text);
        } else {
            world.say(text);
        }
    }
}

impl Finding {
    fn to_text(&self, file: &Path) -> String {
        let place = match self.line {
            Some(line) => format!("{}:{line}", file.display()),
            None => file.display().to_string(),
        };
        let mut text = format!(
            "{place}: {}: {}\n    {}\n",
            self.severity, self.message, self.advice
        );
        for line in self.snippet.iter().flat_map(|snippet| snippet.lines()) {
            text.push_str(&format!("        {line}\n"));
        }
        text
    }

    fn to_json(&self, file: &Path) -> Value {
        json!({
            "severity": self.severity,
            "code": self.code,
            "file": file.display().to_string(),
            "line": self.line,
            "column": Value::Null,
            "key": "",
            "origin": Value::Null,
            "message": self.message,
            "advice": self.advice,
            "route": self.route,
            "snippet": self.snippet,
        })
    }
}

fn unprotected_actions() -> Finding {
    Finding {
        severity: WARNING,
        code: "actions",
        line: None,
        message: "Server Actions are unprotected: the app runs an action whatever path it is posted to, and without its build nobody knows which pages own it".to_owned(),
        advice: "name the app's folder as `app` under [nextjs], or with `--app DIR`".to_owned(),
        route: None,
        snippet: None,
    }
}

/// The build was only named here: what was found holds for this command, and not for the gateway.
fn unknown_build() -> Finding {
    Finding {
        severity: WARNING,
        code: "actions",
        line: None,
        message: "Server Actions are unprotected: the app runs an action whatever path it is posted to, and the gateway itself is not told of its build".to_owned(),
        advice: "name the app's folder, as the gateway sees it, as `app` under [nextjs]; `--app DIR` still says where it is here".to_owned(),
        route: None,
        snippet: None,
    }
}

/// Where the configuration says something else of the app than its build.
fn drift(said: &crate::app::NextJs, app: &App) -> Vec<Finding> {
    let built = &app.nextjs;
    let implied = |nextjs: &crate::app::NextJs| {
        let first = nextjs.locales.first().cloned();
        nextjs.default_locale.clone().or(first).unwrap_or_default()
    };
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let list = |locales: &[String]| {
        let all: Vec<String> = locales.iter().map(|l| quoted(l)).collect();
        format!("[{}]", all.join(", "))
    };
    [
        (
            "base_path",
            quoted(said.base_path.trim_end_matches('/')),
            quoted(built.base_path.trim_end_matches('/')),
        ),
        ("locales", list(&said.locales), list(&built.locales)),
        (
            "default_locale",
            quoted(&implied(said)),
            quoted(&implied(built)),
        ),
        (
            "trailing_slash",
            said.trailing_slash.to_string(),
            built.trailing_slash.to_string(),
        ),
    ]
    .into_iter()
    .filter(|(_, said, built)| said != built)
    .map(|(key, said, built)| Finding {
        severity: ERROR,
        code: "drift",
        line: None,
        message: format!("`nextjs.{key}` is {said}, and the app was built with {built}"),
        advice: "write it as the app has it: rules would be matched against paths that mean something else".to_owned(),
        route: None,
        snippet: Some(format!("[nextjs]\n{key} = {built}")),
    })
    .collect()
}

/// Routes without rules, and rules without routes.
fn coverage(surveyed: &routes::Surveyed, config: &Config) -> Vec<Finding> {
    let default = &config.routes.default;
    let mut found = Vec::new();
    for row in surveyed.coverage.unclassified() {
        let rule = match row.route.kind {
            Kind::PublicFile => "\"public\"".to_owned(),
            _ if default.need.protects() => match routes::rule_text(default) {
                table if table.starts_with('{') => table,
                word => format!("\"{word}\""),
            },
            _ => "\"signed-in\"".to_owned(),
        };
        let also = match &row.unclassified {
            Some(path) if *path != row.route.page && row.holds.len() > 1 => {
                format!(" at some of its addresses, as `{path}`")
            }
            _ => String::new(),
        };
        found.push(Finding {
            severity: ERROR,
            code: "unclassified",
            line: None,
            message: format!(
                "{} `{}` is unclassified{also}: only the default (`{}`) holds for it",
                routes::kind_text(row.route.kind),
                row.route.page,
                routes::rule_text(default)
            ),
            advice:
                "say what it needs; where the default is what is meant, write the same rule down"
                    .to_owned(),
            route: Some(row.route.page.clone()),
            snippet: Some(format!(
                "[[route]]\npath = {}\nrule = {rule}",
                toml::Value::from(row.route.source.as_str())
            )),
        });
    }
    for id in &surveyed.coverage.unused {
        let route = surveyed.table.route(*id);
        let literal = config
            .routes
            .routes
            .iter()
            .flat_map(|spec| &spec.sources)
            .any(|spec| !spec.locale && spec.source == route.pattern);
        let (message, advice) = if literal && !config.routes.nextjs.locales.is_empty() {
            (
                format!(
                    "`{}` matches no route of the app: with `locale = false` it is held against paths with their locale",
                    route.pattern
                ),
                "take `locale = false` out, or write the locale into the source: `/:locale/…`",
            )
        } else {
            (
                format!("`{}` matches no route of the app", route.pattern),
                "the route may have moved: correct the path, or take the rule out",
            )
        };
        found.push(Finding {
            severity: WARNING,
            code: "unused",
            line: route.line,
            message,
            advice: advice.to_owned(),
            route: None,
            snippet: None,
        });
    }
    for id in &surveyed.coverage.sweeping {
        let route = surveyed.table.route(*id);
        found.push(Finding {
            severity: NOTE,
            code: "sweeping",
            line: route.line,
            message: format!(
                "`{}` covers everything, so a new page is never unclassified",
                route.pattern
            ),
            advice: "leave that to `routes.default`, and this command notices new pages".to_owned(),
            route: None,
            snippet: None,
        });
    }
    found.extend(shared_actions(surveyed));
    found
}

/// Actions that a page open to everybody shares with one that is not.
fn shared_actions(surveyed: &routes::Surveyed) -> Vec<Finding> {
    let is_open = |page: &str| {
        let row = surveyed
            .coverage
            .rows
            .iter()
            .find(|row| row.route.page == page)?;
        let protects = |id: &crate::route::RouteId| surveyed.table.route(*id).rule.need.protects();
        Some(!row.holds.iter().any(protects))
    };
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for action in &surveyed.app.actions {
        let known = || {
            action
                .pages
                .iter()
                .filter_map(|page| Some((page.as_str(), is_open(page)?)))
        };
        let open = known().find(|(_, open)| *open);
        let closed = known().find(|(_, open)| !*open);
        if let (Some((open, _)), Some((closed, _))) = (open, closed)
            && !pairs.contains(&(open, closed))
        {
            pairs.push((open, closed));
        }
    }
    pairs
        .into_iter()
        .map(|(open, closed)| Finding {
            severity: NOTE,
            code: "shared_action",
            line: None,
            message: format!("`{open}` is open to everybody and shares a Server Action with `{closed}`, which is not"),
            advice: "the stricter rule holds for the action, so strangers cannot use it on the open page".to_owned(),
            route: Some(open.to_owned()),
            snippet: None,
        })
        .collect()
}

/// Where the rules differ from the old matchers, and what could not be proven.
fn differences(comparison: &Comparison, surveyed: &routes::Surveyed) -> Vec<Finding> {
    let (odd, plain): (Vec<&Difference>, Vec<&Difference>) = comparison
        .differences
        .iter()
        .partition(|difference| difference.sense == Sense::StricterSpelling);
    let mut found: Vec<Finding> = plain
        .into_iter()
        .map(|difference| difference_found(difference, surveyed))
        .collect();
    if let Some(first) = odd.first() {
        found.push(Finding {
            severity: NOTE,
            code: "stricter_spelling",
            line: None,
            message: format!(
                "stricter: {} the old matchers left alone in spellings no link uses ({}, as {})",
                counted(odd.len(), "route"),
                counted(odd.iter().map(|d| d.cases).sum(), "request"),
                shown(first)
            ),
            advice: "nothing to do: most of these addresses lead nowhere".to_owned(),
            route: None,
            snippet: None,
        });
    }
    for source in &comparison.idle {
        found.push(Finding {
            severity: WARNING,
            code: "idle_matcher",
            line: None,
            message: format!("the old matcher `{source}` covers no route of the app, in any spelling"),
            advice: "what it was written for is not protected by it; with locales, `locale: false` is a common reason".to_owned(),
            route: None,
            snippet: None,
        });
    }
    for what in &comparison.unproven {
        found.push(Finding {
            severity: NOTE,
            code: "unproven",
            line: None,
            message: what.clone(),
            advice: "likely, not proven: look at this one yourself".to_owned(),
            route: None,
            snippet: None,
        });
    }
    if comparison.cut_short {
        found.push(Finding {
            severity: ERROR,
            code: "cut_short",
            line: None,
            message: format!("the comparison was stopped after {} requests", comparison.cases),
            advice: "the app has too many routes and conditions to be tried: nothing is proven for the rest".to_owned(),
            route: None,
            snippet: None,
        });
    }
    found
}

fn difference_found(difference: &Difference, surveyed: &routes::Surveyed) -> Finding {
    let route = difference.route.map(|id| surveyed.table.route(id));
    let rule = route.map_or_else(
        || "refused".to_owned(),
        |route| match route.built_in {
            Some(name) => format!("`{}` ({name})", routes::rule_text(&route.rule)),
            None => format!(
                "`{}` by `{}`",
                routes::rule_text(&route.rule),
                route.pattern
            ),
        },
    );
    let shown = shown(difference);
    let cases = counted(difference.cases, "request");
    let page = &difference.page;
    let (severity, code, message, advice) = match difference.sense {
        Sense::Looser => (
            ERROR,
            "looser",
            format!("looser: the old matcher covered `{page}`, and now it is {rule}"),
            "protect it; where the old code let everybody pass there, say so with `--let-pass`",
        ),
        Sense::LetPass => (
            NOTE,
            "let_pass",
            format!("let pass as told: the old matcher covered `{page}`, and now it is {rule}"),
            "told with `--let-pass`",
        ),
        Sense::NeededToSignIn => (
            NOTE,
            "needed_to_sign_in",
            format!("the old matcher covered `{page}`, and now it is {rule}"),
            "nobody could sign in otherwise, so the old code let it pass as well",
        ),
        Sense::Stricter | Sense::StricterSpelling => (
            NOTE,
            "stricter",
            format!("stricter: the old matcher left `{page}` alone, and now it is {rule}"),
            "nothing to do, unless strangers are meant to see it",
        ),
    };
    Finding {
        severity,
        code,
        line: route.and_then(|route| route.line),
        message: format!("{message} ({cases}, as {shown})"),
        advice: advice.to_owned(),
        route: Some(page.clone()),
        snippet: None,
    }
}

/// The request that shows a difference, as `vestibule explain` takes it.
fn shown(difference: &Difference) -> String {
    let example = &difference.example;
    let mut shown = format!("{} {}", example.method, example.target);
    if !example.host.is_empty() {
        shown.push_str(&format!(" on {}", example.host));
    }
    for (name, value) in &example.headers {
        shown.push_str(&format!(" -H '{name}: {value}'"));
    }
    shown
}

fn summary(comparison: &Comparison) -> String {
    let of = |sense: Sense| {
        let all = comparison.differences.iter();
        all.filter(|d| d.sense == sense).count()
    };
    format!(
        "compared with the old matchers: {} tried, {} of them covered before; {} looser, {} stricter\n",
        counted(comparison.cases, "request"),
        comparison.covered,
        counted(of(Sense::Looser), "route"),
        counted(of(Sense::Stricter), "route"),
    )
}

/// Routes that protect what the old matchers covered.
fn draft(app: &App) -> String {
    let mut out = String::from(
        "# Drafted from the matchers of the app's own proxy: what they covered needs somebody signed in.\n",
    );
    for matcher in app.matchers.iter().flatten() {
        let source = toml::Value::from(matcher.source.as_str());
        let conditions = matcher
            .conditions
            .as_deref()
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
            .and_then(|value| toml::Value::try_from(value).ok())
            .and_then(|value| value.as_table().cloned())
            .map(|table| {
                let kept = table
                    .into_iter()
                    .filter(|(key, _)| matches!(key.as_str(), "has" | "missing" | "locale"));
                kept.map(|(key, value)| format!(", {key} = {value}"))
                    .collect::<String>()
            })
            .unwrap_or_default();
        let path = if conditions.is_empty() {
            source.to_string()
        } else {
            format!("[{{ source = {source}{conditions} }}]")
        };
        out.push_str(&format!(
            "\n[[route]]\npath = {path}\nrule = \"signed-in\"\n"
        ));
    }
    out
}

/// What is experimental of what is configured: usable, so no problem, but to be known before a day like that.
pub fn cautions(config: &config::Config) -> Vec<String> {
    let migration = config.migration.iter();
    let providers = migration.flat_map(|migration| &migration.providers);
    providers
        .filter_map(|system| provider::caution(system.kind))
        .collect()
}

fn counted(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// The JSON Schema as it stands in `config/schema.json`.
pub fn schema_text() -> String {
    format!("{:#}\n", config::schema().as_value())
}
