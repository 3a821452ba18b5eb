//! TOML text to the settings each module owns. Every problem is told at once, with its key, its line and what to do.
//!
//! A value comes from the first of: a flag, a variable `VESTIBULE_SECTION__KEY`, the file, a name the app already has
//! (`BETTER_AUTH_SECRET`, `DATABASE_URL` …), the default. Nothing here touches the world: the environment and the reading of
//! files are handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod compose;
mod file;
mod node;
mod problem;
mod read;

pub use node::At;
pub use problem::{Fault, Problem, Problems, Severity, Style};

use crate::app::{App, Unreadable};
use crate::secret::Secret;
use crate::{
    api_key, authenticator, credential, identity, policy, route, server, session, store, telemetry,
};
use node::{Node, Value};
use read::{Read as _, Reader};

/// Longest configuration file read, in bytes. Ten thousand routes take less than two million.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Everything the gateway needs to know, in the words of the modules that use it.
#[derive(Clone, Debug)]
pub struct Config {
    /// How it listens, forwards and stops.
    pub server: server::Settings,
    /// Which route a request asks for.
    pub routes: route::Settings,
    /// Where sessions are looked up; none with a source that is no database.
    pub store: Option<store::Settings>,
    /// How revocations made elsewhere are heard of.
    pub revocation: Revocation,
    /// What the cookies are called.
    pub cookies: credential::names::Settings,
    /// What signed them.
    pub secrets: credential::secrets::Settings,
    /// Which kinds of credential the app has.
    pub authenticator: authenticator::Settings,
    /// How the app's API keys are set up, and where they are; none unless they are accepted.
    pub api_keys: Option<(api_key::Settings, store::KeyStorage)>,
    /// What is remembered of sessions.
    pub sessions: session::Settings,
    /// Who extends sessions that are due, and when; none where nobody is to.
    pub sliding: Option<Sliding>,
    /// When `get-session` is answered at the door; none where it never is.
    pub door: Option<server::door::Settings>,
    /// Where people are sent.
    pub redirects: policy::redirect::Settings,
    /// How the app is told who is calling.
    pub identity: identity::Settings,
    /// How logs are written.
    pub log: telemetry::Settings,
    /// How users are moved in; none where nobody is to be.
    pub migration: Option<server::migration::Settings>,
    /// The app's build; none where its folder is not named.
    pub build: Option<Build>,
}

/// The app's build, as `nextjs.app` names it.
#[derive(Clone, Debug)]
pub struct Build {
    /// The app's folder. It is looked at again while the gateway runs.
    pub folder: PathBuf,
    /// What was found there.
    pub app: Arc<App>,
}

/// Who extends sessions that are due, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sliding {
    /// When.
    pub rules: session::slide::Rules,
    /// Whether the gateway writes to the app's store itself, instead of asking the app.
    pub in_store: bool,
}

/// How revocations made elsewhere are heard of (`[revocation]`).
#[derive(Clone, Debug)]
pub struct Revocation {
    /// Where to listen.
    pub feed: Feed,
    /// Whether the operator named a line: then nothing is believed from memory until it is up.
    pub promised: bool,
    /// How often the sessions behind open streams are looked at again.
    pub recheck: Duration,
}

/// Where revocations made elsewhere are heard of.
#[derive(Clone, Debug)]
pub enum Feed {
    /// Nowhere.
    Off,
    /// Over the source of sessions. `Some`: it must be of this kind, whatever it is.
    Source(Option<&'static str>),
    /// Over a store of its own.
    At(Secret),
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What somebody should look at all the same.
    pub warnings: Problems,
}

/// One thing the table of routes has to say about the routes it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFinding {
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// The key, as `route[2].path[0]`, counting from zero.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
    /// Whether the routes can be used all the same.
    pub warning: bool,
}

/// Looks at routes the way the table of routes will: ties, broken patterns, a sign-in page nobody reaches.
pub type RouteCheck = fn(&route::Settings) -> Vec<RouteFinding>;

/// Reads the build of the app in a folder. `None`: there is none, and need not be.
pub type BuildRead<'s> = &'s dyn Fn(&Path) -> Result<Option<Build>, Unreadable>;

/// A value given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The key, as `sessions.cache_ttl`.
    pub key: String,
    /// Its value; lists are separated by commas.
    pub value: String,
    /// The flag, for messages.
    pub flag: String,
}

/// Where a configuration comes from.
pub struct Sources<'s> {
    /// What the file is called in messages.
    pub name: &'s str,
    /// Its text.
    pub text: &'s str,
    /// The environment.
    pub environment: &'s BTreeMap<String, String>,
    /// Flags.
    pub overrides: &'s [Override],
    /// Reads a file, for `{ file = "PATH" }`.
    pub read_file: &'s dyn Fn(&Path) -> std::io::Result<String>,
    /// What else is asked about the routes.
    pub route_check: RouteCheck,
    /// Reads the app's build, for `nextjs.app`.
    pub read_build: BuildRead<'s>,
}

/// Knows no build.
///
/// # Errors
/// Never.
pub const fn no_build(_: &Path) -> Result<Option<Build>, Unreadable> {
    Ok(None)
}

/// Asks nothing more about the routes.
pub fn no_route_check(_: &route::Settings) -> Vec<RouteFinding> {
    Vec::new()
}

/// Reads a configuration.
///
/// # Errors
/// Everything that is wrong with it, and the warnings, when something is wrong that keeps it from being used.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Problems> {
    if sources.text.len() > FILE_BYTES_MAX {
        let fault = Fault::OutOfBounds {
            bounds: format!("at most {FILE_BYTES_MAX} bytes"),
            why: "this is no configuration of ours, or one that patterns would make shorter",
        };
        return Err(Problems::new(
            sources.name,
            "",
            String::new(),
            vec![(fault, String::new(), At::Nowhere)],
        ));
    }
    let mut tree = match node::parse(sources.text) {
        Ok(tree) => tree,
        Err(errors) => {
            let list = errors
                .into_iter()
                .map(|error| {
                    let at = error.span.map_or(At::Nowhere, At::File);
                    (Fault::Syntax(error.message), String::new(), at)
                })
                .collect();
            let shown = problem::blot_values(sources.text);
            return Err(Problems::new(sources.name, sources.text, shown, list));
        }
    };
    let mut masked = problem::secret_spans(&tree);
    let mut reader = Reader::new(sources.text, sources.environment, sources.read_file);
    overlay(&mut tree, sources, &mut reader);
    let file = file::File::read(&tree, &mut reader).unwrap_or_default();
    let config = compose::compose(&file, &tree, sources.read_build, &mut reader);
    check_routes(&config.routes, sources, &mut reader);
    masked.append(&mut reader.masked);
    let shown = problem::blot(sources.text, &masked);
    let problems = Problems::new(sources.name, sources.text, shown, reader.problems);
    if problems.has_errors() {
        return Err(problems);
    }
    Ok(Loaded {
        config,
        warnings: problems,
    })
}

/// The JSON Schema of the file.
pub fn schema() -> schemars::Schema {
    schemars::generate::SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<file::File>()
}

/// Puts variables over the file, and flags over both.
fn overlay(tree: &mut Node, sources: &Sources<'_>, reader: &mut Reader<'_>) {
    const PREFIX: &str = "VESTIBULE_";
    let mut named = BTreeSet::new();
    named_variables(tree, &mut named);
    for (name, text) in sources.environment {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        // `{ env = "VESTIBULE_…" }` makes it the name of a secret, not of a key.
        if named.contains(name) {
            continue;
        }
        // Which file is read is no part of what it says, and orchestrators announce a service called `vestibule` this way.
        if rest == "CONFIG" || is_service_link(rest) {
            continue;
        }
        let path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        put(tree, &path, text, &At::Environment(name.clone()), reader);
    }
    for flag in sources.overrides {
        let path: Vec<String> = flag.key.split('.').map(str::to_owned).collect();
        put(
            tree,
            &path,
            &flag.value,
            &At::Flag(flag.flag.clone()),
            reader,
        );
    }
}

/// The variables a file names as `{ env = "NAME" }`.
fn named_variables(node: &Node, names: &mut BTreeSet<String>) {
    match &node.value {
        Value::Table(entries) => {
            for entry in entries {
                match &entry.node.value {
                    Value::Text(name) if entry.key == "env" => {
                        names.insert(name.clone());
                    }
                    _ => named_variables(&entry.node, names),
                }
            }
        }
        Value::List(items) => items.iter().for_each(|item| named_variables(item, names)),
        Value::Text(_) | Value::Integer(_) | Value::Bool(_) | Value::Other(_) => {}
    }
}

fn put(tree: &mut Node, path: &[String], text: &str, at: &At, reader: &mut Reader<'_>) {
    let usable = !path.iter().any(String::is_empty) && tree.put(path, text, at);
    if !usable {
        let fault = Fault::UnknownKey {
            name: path.join("."),
            meant: None,
            known: Vec::new(),
        };
        reader.problems.push((fault, String::new(), at.clone()));
    }
}

/// Whether a variable is one that Kubernetes and Docker make for a service called `vestibule`.
fn is_service_link(rest: &str) -> bool {
    let port = |text: &str| {
        text.strip_prefix("PORT").is_some_and(|after| {
            after.is_empty()
                || after.starts_with("_") && after.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
        })
    };
    port(rest) || rest == "SERVICE_HOST" || rest.starts_with("SERVICE_PORT")
}

/// Hands the routes to whoever builds their table, unless we have found their lines wrong ourselves.
fn check_routes(routes: &route::Settings, sources: &Sources<'_>, reader: &mut Reader<'_>) {
    let told: Vec<usize> = reader
        .problems
        .iter()
        .filter(|(fault, ..)| matches!(fault, Fault::NobodyCouldSignIn { .. }))
        .filter_map(|(_, _, at)| at.span().map(|span| reader.line(span.start)))
        .collect();
    for finding in (sources.route_check)(routes) {
        if finding.line.is_some_and(|line| told.contains(&line)) {
            continue;
        }
        let at = finding
            .line
            .map_or(At::Nowhere, |line| At::File(line_span(sources.text, line)));
        let fault = if finding.warning {
            Fault::RoutesOdd {
                what: finding.message,
                advice: finding.advice,
            }
        } else {
            Fault::Routes {
                what: finding.message,
                advice: finding.advice,
            }
        };
        reader.problems.push((fault, finding.key, at));
    }
}

/// The bytes of a line, without the white space around it.
fn line_span(text: &str, line: usize) -> std::ops::Range<usize> {
    let mut start = 0;
    for (index, each) in text.split_inclusive('\n').enumerate() {
        if index + 1 == line {
            let indent = each.len() - each.trim_start().len();
            return start + indent..start + each.trim_end().len().max(indent);
        }
        start += each.len();
    }
    start..start
}

/// Whether a key was written at all, be it wrongly: what is wrong is told once, not also as missing.
fn is_written(tree: &Node, path: &[&str]) -> bool {
    let mut node = tree;
    for key in path {
        match node.child(key) {
            Some(child) => node = child,
            // A section that is no table has been told.
            None => return !matches!(node.value, Value::Table(_)),
        }
    }
    true
}
