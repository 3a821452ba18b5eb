//! When Next.js 16.4.6 runs its middleware: `nextjs-matcher.json`, through the matcher and through the route table.

use std::io::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use vestibule::app::NextJs;
use vestibule::policy::{Conditions, Need, Rule};
use vestibule::request::RequestView;
use vestibule::route::expression::{Expression, Outcome};
use vestibule::route::pattern::{Matcher, Pattern};
use vestibule::route::{ConditionOn, ConditionSpec, RouteSpec, RouteTable, Settings, SourceSpec};
use vestibule::session::Freshness;
use vestibule::target::Target;

use super::{Tally, load};

const FILE: &str = "nextjs-matcher.json";

fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn nextjs(case: &Value) -> NextJs {
    let next = &case["next"];
    NextJs {
        base_path: text(&next["basePath"]),
        locales: list(&next["i18n"]["locales"]).iter().map(text).collect(),
        default_locale: next["i18n"]["defaultLocale"].as_str().map(str::to_owned),
        trailing_slash: next["trailingSlash"].as_bool().unwrap_or(false),
        ..NextJs::default()
    }
}

/// The sources of `config.matcher`; `None` when there is none.
fn sources(matcher: &Value) -> Option<Vec<SourceSpec>> {
    let one = |entry: &Value| {
        let conditions = |key: &str| list(&entry[key]).iter().map(condition).collect();
        SourceSpec {
            source: entry
                .as_str()
                .map_or_else(|| text(&entry["source"]), str::to_owned),
            line: None,
            has: conditions("has"),
            missing: conditions("missing"),
            locale: entry["locale"].as_bool().unwrap_or(true),
        }
    };
    match matcher {
        Value::Null => None,
        Value::Array(entries) => Some(entries.iter().map(one).collect()),
        entry => Some(vec![one(entry)]),
    }
}

fn condition(entry: &Value) -> ConditionSpec {
    let key = text(&entry["key"]);
    ConditionSpec {
        on: match entry["type"].as_str() {
            Some("header") => ConditionOn::Header(key),
            Some("cookie") => ConditionOn::Cookie(key),
            Some("query") => ConditionOn::Query(key),
            Some("host") => ConditionOn::Host,
            other => panic!("condition on {other:?}"),
        },
        value: entry["value"].as_str().map(str::to_owned),
    }
}

fn rule(need: Need) -> Rule {
    Rule {
        need,
        freshness: Freshness::default(),
    }
}

fn signed_in() -> Rule {
    rule(Need::SignedIn(Conditions::default()))
}

/// The matcher's sources need a session, all else is public. Without a matcher everything needs one.
fn table(case: &Value) -> RouteTable {
    let matcher = sources(&case["matcher"]);
    let default = if matcher.is_some() {
        rule(Need::Public)
    } else {
        signed_in()
    };
    let routes = matcher.into_iter().flatten().map(|source| RouteSpec {
        sources: vec![source],
        methods: Vec::new(),
        hosts: Vec::new(),
        upstream: 0,
        rule: signed_in(),
        app_caches: false,
        line: None,
    });
    RouteTable::build(&Settings {
        nextjs: nextjs(case),
        routes: routes.collect(),
        default,
        default_upstream: 0,
        same_app: Vec::new(),
        auth_base_path: "/api/auth".to_owned(),
        auth_upstream: 0,
        sign_in_path: None,
        dev: false,
    })
    .unwrap_or_else(|problems| panic!("{}: {problems:?}", case["matcher"]))
}

struct Sent {
    method: Method,
    target: String,
    host: String,
    headers: HeaderMap,
}

impl Sent {
    fn of(case: &Value) -> Self {
        let request = &case["request"];
        let mut headers = HeaderMap::new();
        for (name, value) in request["headers"].as_object().into_iter().flatten() {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(
                name,
                HeaderValue::from_bytes(text(value).as_bytes()).unwrap(),
            );
        }
        let host = headers
            .get("host")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        Self {
            method: text(&request["method"]).parse().unwrap(),
            target: text(&request["target"]),
            host: host
                .split(':')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase(),
            headers,
        }
    }
}

#[derive(Default)]
struct Counts {
    stricter: Vec<String>,
    refused: Vec<String>,
    built_in: Vec<String>,
}

fn check(case: &Value, counts: &mut Counts) -> Result<(), String> {
    let sent = Sent::of(case);
    let ran = case["ran"].as_bool().ok_or("no `ran`")?;
    let status = case["response"]["status"].as_u64().unwrap_or_default();
    let left_alone = !ran && case["reason"] == "no-match" && (200..300).contains(&status);
    let label = || format!("{} {} {}", text(&case["id"]), case["matcher"], sent.target);
    let target = match Target::parse(sent.target.as_bytes()) {
        Ok(target) => target,
        Err(why) => {
            if left_alone {
                counts.refused.push(format!("{}: {why}", label()));
            }
            return Ok(());
        }
    };
    let request = RequestView {
        method: &sent.method,
        target,
        host: &sent.host,
        headers: &sent.headers,
        client: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let matcher = match sources(&case["matcher"]) {
        Some(sources) => Matcher::compile(&sources, &nextjs(case))?,
        None => Matcher::everything(),
    };
    let covered = matcher.covers(&request);
    // The build id is not ours to know. With a wrong one the app's middleware runs over an address it then answers 404.
    if ran && !covered && status != 404 {
        return Err(format!(
            "{}: the matcher leaves out what the app covers",
            label()
        ));
    }
    if left_alone && covered {
        return Err(format!(
            "{}: the matcher covers what the app leaves alone",
            label()
        ));
    }
    let table = table(case);
    let matches = match table.find(&request) {
        Ok(matches) => matches,
        Err(why) => {
            if left_alone {
                counts.refused.push(format!("{}: {why}", label()));
            }
            return Ok(());
        }
    };
    let protected = matches.all().any(|id| table.route(id).rule == signed_in());
    let built_in = table
        .route(matches.primary)
        .built_in
        .filter(|name| *name != "default");
    match (ran, protected, built_in) {
        (true, false, Some(name)) => counts.built_in.push(format!("{}: {name}", label())),
        (true, false, None) => return Err(format!("{}: open", label())),
        (false, true, _) if left_alone => counts.stricter.push(label()),
        _ => {}
    }
    Ok(())
}

#[test]
fn what_the_app_covers_is_protected_and_what_it_leaves_alone_stays_open() {
    let file = load(FILE);
    let cases = list(&file["cases"]);
    let mut tally = Tally::new(FILE, cases.len());
    let mut counts = Counts::default();
    for case in cases {
        tally.case(&text(&case["id"]), check(case, &mut counts));
    }
    for (what, found) in [
        (
            "left alone by the app, refused as ambiguous",
            &counts.refused,
        ),
        (
            "left alone by the app, protected by another reading",
            &counts.stricter,
        ),
        (
            "covered by the app, always reachable here",
            &counts.built_in,
        ),
    ] {
        say(&format!("  {what}: {}", found.len()));
        for line in found {
            say(&format!("    {line}"));
        }
    }
    tally.finish();
}

#[test]
fn sources_are_accepted_and_refused_as_by_the_build() {
    let file = load(FILE);
    let found = list(&file["sources"]);
    let mut tally = Tally::new("nextjs-matcher.json (sources)", found.len());
    let targets = targets(&file);
    for entry in found {
        let source = text(&entry["source"]);
        let parsed = Pattern::parse(&source);
        let outcome = match (&parsed, entry["accepted"].as_bool()) {
            (Ok(_), Some(true)) => agree(
                &source,
                true,
                &NextJs::default(),
                &text(&entry["regexp"]),
                &targets,
            )
            .map(|_| ()),
            (Err(why), Some(false)) if text(&entry["reason"]).contains(why.as_str()) => Ok(()),
            (Err(why), Some(false)) => Err(format!(
                "refused with `{why}`, the build says {}",
                entry["reason"]
            )),
            (parsed, _) => Err(format!("{parsed:?}")),
        };
        tally.case(&source, outcome);
    }
    tally.finish();
}

#[test]
fn every_compiled_source_agrees_with_the_build_on_every_target() {
    let file = load(FILE);
    let targets = targets(&file);
    let compiled = file["compiled"].as_object().unwrap();
    let mut tally = Tally::new("nextjs-matcher.json (compiled)", compiled.len());
    let mut pairs = 0;
    for (config, expressions) in compiled {
        let case = list(&file["cases"])
            .iter()
            .find(|case| text(&case["id"]).split('-').next() == Some(config))
            .unwrap_or_else(|| panic!("{config} has no case"));
        let nextjs = nextjs(case);
        let outcome = match sources(&case["matcher"]) {
            None => Ok(0),
            Some(sources) => {
                sources
                    .iter()
                    .zip(list(expressions))
                    .try_fold(0, |sum, (spec, expression)| {
                        Ok(sum
                            + agree(
                                &spec.source,
                                spec.locale,
                                &nextjs,
                                &text(expression),
                                &targets,
                            )?)
                    })
            }
        };
        pairs += outcome.as_ref().copied().unwrap_or(0);
        tally.case(config, outcome.map(|_| ()));
    }
    say(&format!("  {pairs} pairs of source and target compared"));
    tally.finish();
}

/// Every path in the file, and what it decodes to.
fn targets(file: &Value) -> Vec<String> {
    let mut targets: Vec<String> = list(&file["cases"])
        .iter()
        .filter_map(|case| {
            Target::parse(case["request"]["target"].as_str()?.as_bytes())
                .ok()
                .map(|t| [t.path().to_owned(), t.decoded_path().into_owned()])
        })
        .flatten()
        .collect();
    targets.sort();
    targets.dedup();
    targets
}

/// Compares our compilation of a source, and the table's reading of it, with the build's expression.
fn agree(
    source: &str,
    locale: bool,
    nextjs: &NextJs,
    expression: &str,
    targets: &[String],
) -> Result<usize, String> {
    let theirs = Expression::compile(expression)?;
    let ours = Pattern::parse(source)?.expression(nextjs, locale)?;
    let spec = SourceSpec {
        source: source.to_owned(),
        locale,
        ..SourceSpec::default()
    };
    let matcher = Matcher::compile(&[spec], nextjs)?;
    let table = table(&serde_json::json!({
        "matcher": source,
        "next": {
            "basePath": nextjs.base_path,
            "i18n": { "locales": nextjs.locales, "defaultLocale": nextjs.default_locale },
            "trailingSlash": nextjs.trailing_slash,
        },
    }));
    for target in targets {
        let (theirs, ours) = (theirs.matches(target), ours.matches(target));
        if theirs == Outcome::Unsure || theirs != ours {
            return Err(format!(
                "{source} on {target}: {ours:?}, the build says {theirs:?}"
            ));
        }
        // Not every decoded path can be sent.
        let Ok(sent) = Target::parse(target.as_bytes()) else {
            continue;
        };
        let request = RequestView {
            method: &Method::GET,
            target: sent,
            host: "app.example.test",
            headers: &HeaderMap::new(),
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let Ok(matches) = table.find(&request) else {
            continue;
        };
        let built_in = table
            .route(matches.primary)
            .built_in
            .is_some_and(|name| name != "default");
        let protected = matches.all().any(|id| table.route(id).rule == signed_in());
        if matcher.covers(&request) && !protected && !built_in {
            return Err(format!(
                "{source} on {target}: covered by the app, open in the table"
            ));
        }
    }
    Ok(targets.len())
}
