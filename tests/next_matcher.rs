//! Thousands of generated matchers and requests, put to Next.js's own matcher and to our route table: where the app's middleware would
//! run, a rule with the same source must keep strangers out.
//!
//! Next.js's own matcher is its helper for tests, asked what a running server asks its matchers: with the implied locale in front of a
//! path that names none, of the page whose data an address is, and decoded (`tests/next/matcher.mjs` says more). Asked with the path as
//! it is, the helper would say that `/docs` covers `/de/docs` where `de` is no locale. That no server runs its middleware there, and
//! that it runs nowhere else than where the helper says, a real server shows at the end of this file.
//!
//! The seed is printed and can be given back: `VESTIBULE_MATCHER_SEED`. `VESTIBULE_MATCHER_CASES` says how many requests.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use vestibule::app::NextJs;
use vestibule::policy::Need;
use vestibule::request::RequestView;
use vestibule::route::{ConditionOn, ConditionSpec, RouteSpec, RouteTable, Settings, SourceSpec};
use vestibule::target::Target;

use crate::differential::dice::Dice;
use crate::next::{Build, Matched, folder};
use crate::support::{exchange, route, rule, signed_in};

/// Requests put to each version, unless the environment says otherwise: some seconds.
const CASES: usize = 3000;
/// Requests tried on one matcher.
const REQUESTS: usize = 10;

fn number(name: &str) -> Option<u64> {
    // Only ours to choose how long a run takes.
    std::env::var(name).ok()?.parse().ok()
}

/// Next.js's own matcher, as a child process that ends with its input.
struct Oracle {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

impl Oracle {
    fn of(version: u8) -> Self {
        let place = folder().join(version.to_string());
        assert!(
            place.join("node_modules/next").is_dir(),
            "this test needs Next.js {version}: run `scripts/next-apps` (scripts/test does)"
        );
        let mut child = Command::new("node")
            .arg(folder().join("matcher.mjs"))
            .current_dir(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is installed");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Self {
            child,
            input,
            output,
        }
    }

    fn say(&mut self, question: &Value) -> Value {
        let input = self.input.as_mut().expect("its input");
        writeln!(input, "{question}").expect("it listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Whether the middleware would run; `Err` when Next.js takes no such matcher.
    fn ask(&mut self, question: &Value) -> Result<bool, String> {
        let said = self.say(question);
        said["matches"]
            .as_bool()
            .ok_or_else(|| said["error"].as_str().unwrap_or_default().to_owned())
    }
}

// ------------------------------------------------------------------------------------------------------------- what is made

const WORDS: &[&str] = &[
    "dashboard",
    "api",
    "a",
    "docs",
    "account",
    "index",
    "fr",
    "en",
    "x.png",
    "file.json",
    "caf%C3%A9",
    "_next",
    "data",
    "7",
    "settings",
    "nl-NL",
];

/// A piece of a source, and values that fit it (and some that do not).
const PIECES: &[(&str, &[&str])] = &[
    (
        "/:id",
        &[
            "/7",
            "/a.b",
            "/%37",
            "/a%2Fb",
            "/x;y",
            "/index",
            "/caf%C3%A9",
            "",
        ],
    ),
    (
        "/:path*",
        &[
            "",
            "/a",
            "/a/b",
            "/a/b/c.json",
            "/%61",
            "/index",
            "/a//b",
            "/a%2fb",
            "/.rsc",
        ],
    ),
    ("/:path+", &["", "/a", "/a/b", "/fr", "/x.rsc"]),
    ("/:id?", &["", "/7", "/index", "/7/8"]),
    ("/:id(\\d+)", &["/7", "/77", "/a", "/%37", "/7.json"]),
    ("/:slug([a-z]+)", &["/abc", "/ABC", "/a%62c", "/7"]),
    ("/(.*)", &["/", "/a", "/a/b", "/a%0ab", ""]),
    (
        "/((?!api|_next/static|_next/image|favicon.ico).*)",
        &[
            "/",
            "/api",
            "/apiary",
            "/x",
            "/api%2fx",
            "/_next/data/B/x.json",
            "/favicon.ico",
            "/x/api",
        ],
    ),
    (
        "/((?!.*\\..*|_next).*)",
        &["/a", "/a.b", "/_next/x", "/a%2eb"],
    ),
    ("/(a|b)", &["/a", "/b", "/ab", "/%61", "/A"]),
    ("{/:x}?", &["", "/a", "/a/b"]),
    ("/:a-:b", &["/x-y", "/x-y-z", "/x%2dy", "/-y"]),
    (
        "/:name.:ext",
        &["/a.b", "/a.b.c", "/a.json", "/a%2eb", "/a"],
    ),
    ("/:lang(en|fr)", &["/en", "/fr", "/FR", "/de"]),
    ("/x-:id", &["/x-1", "/x-", "/x-1.rsc"]),
    ("/[id]", &["/[id]", "/%5Bid%5D"]),
    ("/:path(.*)", &["/", "/a/b", "/a.json", ""]),
    (
        "/:file(.+\\.png)",
        &["/a.png", "/a.png.json", "/a/b.png", "/a%2epng"],
    ),
];

/// A matcher with its configuration, and what fits it.
#[derive(Clone, Debug)]
struct Made {
    nextjs: NextJs,
    sources: Vec<SourceSpec>,
    /// For every source, per piece the values to choose from.
    fits: Vec<Vec<Vec<String>>>,
}

impl Made {
    fn throw(dice: &mut Dice) -> Self {
        let mut nextjs = NextJs::default();
        if dice.once_in(3) {
            nextjs.base_path = (*dice.pick(&["/base", "/docs/v2", "/fr"])).to_owned();
        }
        if dice.once_in(3) {
            nextjs.locales = match dice.below(3) {
                0 => vec!["en".into()],
                1 => vec!["en".into(), "fr".into()],
                _ => vec!["en".into(), "fr".into(), "nl-NL".into()],
            };
            nextjs.default_locale = Some(dice.pick(&nextjs.locales).clone());
        }
        nextjs.trailing_slash = dice.once_in(3);
        let (mut sources, mut fits) = (Vec::new(), Vec::new());
        for _ in 0..=dice.below(3) {
            let (mut source, mut pieces) = (String::new(), Vec::new());
            for _ in 0..dice.below(4) {
                if dice.once_in(2) {
                    let word = *dice.pick(WORDS);
                    source.push_str(&format!("/{word}"));
                    pieces.push(vec![format!("/{word}")]);
                } else {
                    let (piece, values) = dice.pick(PIECES);
                    source.push_str(&numbered(piece, pieces.len()));
                    pieces.push(values.iter().map(|value| (*value).to_owned()).collect());
                }
            }
            if !source.starts_with('/') {
                source.insert(0, '/');
            }
            sources.push(SourceSpec {
                source,
                line: None,
                has: conditions(dice, 5),
                missing: conditions(dice, 8),
                locale: !dice.once_in(8),
            });
            fits.push(pieces);
        }
        Self {
            nextjs,
            sources,
            fits,
        }
    }

    /// The matcher and the configuration as Next.js takes them.
    fn as_config(&self) -> (Value, Value) {
        let condition = |spec: &ConditionSpec| {
            let (kind, key) = match &spec.on {
                ConditionOn::Header(name) => ("header", Some(name)),
                ConditionOn::Cookie(name) => ("cookie", Some(name)),
                ConditionOn::Query(name) => ("query", Some(name)),
                ConditionOn::Host => ("host", None),
            };
            let mut made = json!({ "type": kind });
            if let Some(key) = key {
                made["key"] = json!(key);
            }
            if let Some(value) = &spec.value {
                made["value"] = json!(value);
            }
            made
        };
        let sources = self.sources.iter().map(|spec| {
            let mut made = json!({ "source": spec.source });
            for (name, specs) in [("has", &spec.has), ("missing", &spec.missing)] {
                if !specs.is_empty() {
                    made[name] = specs.iter().map(condition).collect();
                }
            }
            if !spec.locale {
                made["locale"] = json!(false);
            }
            made
        });
        let mut config = json!({ "trailingSlash": self.nextjs.trailing_slash });
        if !self.nextjs.base_path.is_empty() {
            config["basePath"] = json!(self.nextjs.base_path);
        }
        if !self.nextjs.locales.is_empty() {
            config["i18n"] = json!({ "locales": self.nextjs.locales, "defaultLocale": self.nextjs.default_locale });
        }
        (sources.collect(), config)
    }

    /// The same protection with us: what the matcher matches needs a session, all else is public.
    fn table(&self) -> Result<RouteTable, String> {
        let routes = self.sources.iter().map(|source| RouteSpec {
            sources: vec![source.clone()],
            ..route("/", signed_in())
        });
        let built = RouteTable::build(&Settings {
            nextjs: self.nextjs.clone(),
            routes: routes.collect(),
            default: rule(Need::Public),
            default_upstream: 0,
            same_app: Vec::new(),
            // Out of the way: what is always reachable is not the question here.
            auth_base_path: "/zz/auth".into(),
            auth_upstream: 0,
            sign_in_path: None,
            dev: false,
        });
        built.map_err(|problems| format!("{problems:?}"))
    }

    fn request(&self, dice: &mut Dice) -> Asked {
        let at = dice.below(self.fits.len());
        let mut path = String::new();
        for values in &self.fits[at] {
            path.push_str(dice.pick::<String>(values));
        }
        if path.is_empty() {
            path.push('/');
        }
        path = self.disguise(path, dice);
        let mut query = Vec::new();
        let (mut headers, mut cookies) = (BTreeMap::new(), BTreeMap::new());
        let specs = self.sources[at].has.iter().chain(&self.sources[at].missing);
        for spec in specs {
            let value = (*dice.pick(&[
                "yes", "no", "yes%20", "YES", "b", "", "a1", "%79es", "nope", "yes,yes",
            ]))
            .to_owned();
            if dice.once_in(5) {
                continue;
            }
            match &spec.on {
                ConditionOn::Header(name) => drop(headers.insert(name.clone(), value)),
                ConditionOn::Cookie(name) => drop(cookies.insert(name.clone(), value)),
                ConditionOn::Query(name) => query.push(format!("{name}={value}")),
                ConditionOn::Host => {}
            }
        }
        if dice.once_in(6) {
            query.push(
                (*dice.pick(&[
                    "x=yes",
                    "x",
                    "x=",
                    "%78=yes",
                    "X=yes",
                    "x=no&x=yes",
                    "x=yes&x=no",
                    "x=yes&x=",
                    "_rsc=abc",
                    "x=ye%73",
                    "x=yes+",
                ]))
                .to_owned(),
            );
        }
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        Asked {
            target: path,
            host: (*dice.pick(&["app.test", "www.app.test", "yes"])).to_owned(),
            headers,
            cookies,
        }
    }

    /// Other spellings of a path, and paths nearby.
    fn disguise(&self, mut path: String, dice: &mut Dice) -> String {
        if !self.nextjs.locales.is_empty() && dice.once_in(2) {
            let locale = *dice.pick(&["en", "fr", "FR", "nl-NL", "NL-nl", "de", "%66r"]);
            path = format!("/{locale}{}", if path == "/" { "" } else { &path });
        }
        match dice.below(8) {
            0 => path.push_str(".json"),
            1 => path.push_str(".rsc"),
            2 => path.push_str(dice.pick::<&str>(&[
                ".segments/_tree.segment.rsc",
                ".segments/a/b.segment.rsc",
                "/index",
                "/index.json",
                "/index.rsc",
                ".segments/.segment.rsc",
                "index.json",
            ])),
            _ => {}
        }
        if dice.once_in(5) {
            let suffix = if path.ends_with(".json") || dice.once_in(3) {
                ""
            } else {
                ".json"
            };
            path = format!(
                "/_next/data/{}{path}{suffix}",
                dice.pick::<&str>(&["B", "wrong", "a.b", "%42"])
            );
        }
        let base = self.nextjs.base_path.as_str();
        if dice.below(10) > 0 {
            path = format!(
                "{base}{}",
                if path == "/" && !base.is_empty() {
                    ""
                } else {
                    &path
                }
            );
        }
        if dice.once_in(4) && !path.ends_with('/') {
            path.push_str(dice.pick::<&str>(&["/", "/", "%23", "%3F", ";x", "%2f", "%20", "/x"]));
        }
        let letters: Vec<usize> = path
            .match_indices(|letter: char| letter.is_ascii_alphanumeric())
            .map(|(at, _)| at)
            .filter(|at| {
                !path[..*at].ends_with('%') && !path[..at.saturating_sub(1)].ends_with('%')
            })
            .collect();
        if dice.once_in(6) && !letters.is_empty() {
            let at = *dice.pick(&letters);
            let byte = path.as_bytes()[at];
            let in_escape = path[..at].rfind('%').is_some_and(|mark| at - mark <= 2);
            if !in_escape {
                let spelled = match dice.below(3) {
                    0 => format!("%{byte:02x}"),
                    1 => format!("%{byte:02X}"),
                    _ => char::from(byte).to_ascii_uppercase().to_string(),
                };
                path.replace_range(at..=at, &spelled);
            }
        }
        if dice.once_in(15) && path.len() > 1 {
            let slashes: Vec<usize> = path
                .match_indices('/')
                .map(|(at, _)| at)
                .filter(|at| *at > 0)
                .collect();
            if !slashes.is_empty() {
                let at = *dice.pick(&slashes);
                path.replace_range(
                    at..=at,
                    dice.pick::<&str>(&["%2f", "%2F", "//", "/./", "/x/../", "/%2e/", "\\", "%5c"]),
                );
            }
        }
        if path.is_empty() {
            path.push('/');
        }
        path
    }
}

/// Names of parameters stand once in a source.
fn numbered(piece: &str, at: usize) -> String {
    let mut made = String::new();
    let mut letters = piece.chars().peekable();
    while let Some(letter) = letters.next() {
        made.push(letter);
        if letter == ':' && letters.peek().is_some_and(char::is_ascii_alphabetic) {
            made.push_str(&format!("p{at}"));
        }
    }
    made
}

fn conditions(dice: &mut Dice, once_in: usize) -> Vec<ConditionSpec> {
    if !dice.once_in(once_in) {
        return Vec::new();
    }
    let on = match dice.below(4) {
        0 => ConditionOn::Header("x-wanted".into()),
        1 => ConditionOn::Cookie("wanted".into()),
        2 => ConditionOn::Query("x".into()),
        _ => ConditionOn::Host,
    };
    let value = match dice.below(6) {
        0 if on != ConditionOn::Host => None,
        1 => Some("yes"),
        2 => Some("(?<name>y.*)"),
        3 => Some("yes|no"),
        4 => Some(".*"),
        _ => Some("[a-z]+"),
    };
    vec![ConditionSpec {
        on,
        value: value.map(str::to_owned),
    }]
}

/// One request.
#[derive(Clone, Debug)]
struct Asked {
    target: String,
    host: String,
    headers: BTreeMap<String, String>,
    cookies: BTreeMap<String, String>,
}

impl Asked {
    /// As Next.js is asked.
    fn question(&self, matcher: &Value, config: &Value) -> Value {
        let mut headers = json!(self.headers);
        headers["host"] = json!(self.host);
        json!({
            "matcher": matcher, "nextConfig": config, "url": format!("http://{}{}", self.host, self.target),
            "headers": headers, "cookies": self.cookies,
        })
    }

    /// `Cookie`, when there are any.
    fn cookie(&self) -> Option<String> {
        let pair = |(name, value)| format!("{name}={value}");
        let pairs: Vec<String> = self.cookies.iter().map(pair).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// As it goes over the wire.
    fn head(&self) -> String {
        let mut head = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            self.target, self.host
        );
        let cookie = self.cookie();
        let cookie = cookie.iter().map(|cookie| ("cookie", cookie.as_str()));
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in headers.chain(cookie) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "\r\n"
    }
}

/// What becomes of a stranger.
#[derive(Debug, PartialEq, Eq)]
enum Ours {
    Kept,
    Refused(&'static str),
    LetIn,
    /// By a rule that comes with the program.
    LetInAlways(&'static str),
}

fn ours(table: &RouteTable, asked: &Asked) -> Ours {
    let target = match Target::parse(asked.target.as_bytes()) {
        Ok(target) => target,
        Err(why) => return Ours::Refused(why.as_str()),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &asked.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    if let Some(cookie) = asked.cookie() {
        headers.append("cookie", HeaderValue::from_str(&cookie).expect("a value"));
    }
    let request = RequestView {
        method: &Method::GET,
        target,
        host: &asked.host,
        headers: &headers,
        client: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let found = match table.find(&request) {
        Ok(found) => found,
        Err(why) => return Ours::Refused(why.as_str()),
    };
    if found.all().any(|id| table.route(id).rule == signed_in()) {
        return Ours::Kept;
    }
    match table.route(found.primary).built_in {
        Some("default") | None => Ours::LetIn,
        Some(name) => Ours::LetInAlways(name),
    }
}

/// Why ours may be the stricter one: the first thing about a target that has more readings than Next.js's matcher looks at.
fn reason(asked: &Asked, made: &Made) -> &'static str {
    let path = asked.target.split('?').next().unwrap_or_default();
    if path.contains('%') {
        "an escape: the decoded reading counts too"
    } else if path.contains(';') {
        "parameters: the reading without them counts too"
    } else if path.contains("/_next/data/") {
        "a data address: any build, any locale"
    } else if path.contains(".json") || path.contains(".rsc") || path.contains("/index") {
        "a transport form: the page counts too"
    } else if !made.nextjs.locales.is_empty() {
        "locales: with and without"
    } else if made
        .sources
        .iter()
        .any(|spec| !spec.has.is_empty() || !spec.missing.is_empty())
    {
        "a condition"
    } else {
        "something else"
    }
}

fn run(version: u8) {
    let seed = number("VESTIBULE_MATCHER_SEED").unwrap_or(20_261_121);
    let cases = number("VESTIBULE_MATCHER_CASES")
        .map_or(CASES, |count| usize::try_from(count).expect("a number"));
    let mut dice = Dice::new(seed ^ u64::from(version));
    let mut oracle = Oracle::of(version);
    let mut counts: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut count = |what: String, example: &dyn Fn() -> String| {
        let entry = counts.entry(what).or_insert_with(|| (0, example()));
        entry.0 += 1;
    };
    let mut looser = Vec::new();
    let (mut asked_so_far, mut matched) = (0, 0);
    while asked_so_far < cases {
        let made = Made::throw(&mut dice);
        let (matcher, config) = made.as_config();
        let first = made.request(&mut dice);
        let question = |asked: &Asked| asked.question(&matcher, &config);
        let theirs = oracle.ask(&question(&first));
        let table = match (&theirs, made.table()) {
            (Err(_), _) => {
                count("no matcher to Next.js".into(), &|| matcher.to_string());
                continue;
            }
            (Ok(_), Err(why)) => {
                count("no routes to us".into(), &|| format!("{matcher} {why}"));
                continue;
            }
            (Ok(_), Ok(table)) => table,
        };
        for at in 0..REQUESTS {
            let asked = if at == 0 {
                first.clone()
            } else {
                made.request(&mut dice)
            };
            let theirs = oracle
                .ask(&question(&asked))
                .unwrap_or_else(|why| panic!("{asked:?}: {why}"));
            let ours = ours(&table, &asked);
            asked_so_far += 1;
            matched += usize::from(theirs);
            let label = || {
                format!(
                    "{} {matcher} {config} {:?} {:?} host {}",
                    asked.target, asked.headers, asked.cookies, asked.host
                )
            };
            match (theirs, ours) {
                (true, Ours::Kept) | (false, Ours::LetIn | Ours::LetInAlways(_)) => {}
                (true, Ours::Refused(why)) => {
                    count(format!("covered by both, refused: {why}"), &label)
                }
                (true, Ours::LetInAlways(name)) => count(
                    format!("covered by Next.js, always reachable: {name}"),
                    &label,
                ),
                (true, Ours::LetIn) => looser.push(label()),
                (false, Ours::Kept) => {
                    count(format!("stricter: {}", reason(&asked, &made)), &label)
                }
                (false, Ours::Refused(why)) => count(format!("stricter, refused: {why}"), &label),
            }
        }
    }
    let mut report = format!(
        "\nNext.js {version}: {asked_so_far} requests, seed {seed}; the middleware runs for {matched}, ours is looser for {}\n",
        looser.len()
    );
    for (what, (times, example)) in &counts {
        report.push_str(&format!("  {times} {what}\n      {example}\n"));
    }
    for line in &looser {
        report.push_str(&format!("  LOOSER {line}\n"));
    }
    let _ = std::io::stderr().write_all(report.as_bytes());
    assert!(looser.is_empty(), "{report}");
    // Neither all nor nothing: a comparison says something only where both answers occur.
    assert!(matched > cases / 10 && matched < cases * 9 / 10, "{report}");
    let other: usize = counts
        .iter()
        .filter(|(what, _)| *what == "stricter: something else")
        .map(|(_, (times, _))| times)
        .sum();
    assert!(other == 0, "{report}");
}

#[test]
fn nothing_that_the_middleware_of_next_15_covers_is_open_here() {
    run(15);
}

#[test]
fn nothing_that_the_middleware_of_next_16_covers_is_open_here() {
    run(16);
}

// ------------------------------------------------------------------------------------------------------------ a real server

/// Requests put to a real server: a second or two.
const SERVED: usize = 400;

/// One matcher with everything in it that the generated ones have, for the app as it was built.
fn served(version: u8) -> Made {
    let plain = |source: &str| SourceSpec {
        source: source.to_owned(),
        locale: true,
        ..SourceSpec::default()
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let locale_false = |source: &str| SourceSpec {
        locale: false,
        ..plain(source)
    };
    let on_query = |source: &str, value: Option<&str>| SourceSpec {
        has: vec![ConditionSpec {
            on: ConditionOn::Query("x".into()),
            value: value.map(str::to_owned),
        }],
        ..plain(source)
    };
    let known: &[&[&str]] = &[&["/dashboard"], &["", "/", "/7", "/%37", "/a/b"]];
    let made = [
        (plain("/"), vec![words(&["", "/", "/index"])]),
        (
            plain("/dashboard/:path*"),
            known.iter().map(|values| words(values)).collect(),
        ),
        (
            plain("/legacy/:id(\\d+)"),
            vec![words(&["/legacy"]), words(&["/7", "/%37", "/a", "/7/8"])],
        ),
        (
            plain("/index/legacy"),
            vec![words(&["/index", "/index/index"]), words(&["/legacy"])],
        ),
        (
            plain("/caf%C3%A9/:name.:ext"),
            vec![
                words(&["/caf%C3%A9"]),
                words(&["/a.b", "/a.json", "/a%2eb"]),
            ],
        ),
        (
            locale_false("/fr/open"),
            vec![words(&["/open", "/fr/open", "/FR/open"])],
        ),
        (locale_false("/feed"), vec![words(&["/feed"])]),
        (locale_false("/"), vec![words(&["", "/index"])]),
        (plain("/fr"), vec![words(&["/fr", "/fr/fr", "/%66r"])]),
        (on_query("/vault", None), vec![words(&["/vault"])]),
        (
            on_query("/members", Some("yes|.*")),
            vec![words(&["/members"])],
        ),
    ];
    let build = Build {
        version,
        is_based: true,
    };
    let (sources, fits) = made.into_iter().unzip();
    Made {
        nextjs: build.nextjs(),
        sources,
        fits,
    }
}

/// Holds the helper, as it is asked here, and our table against where a real server runs its middleware.
fn served_run(version: u8) {
    let seed = number("VESTIBULE_MATCHER_SEED").unwrap_or(20_261_121);
    let mut dice = Dice::new(seed ^ u64::from(version));
    let mut oracle = Oracle::of(version);
    let made = served(version);
    let (matcher, config) = made.as_config();
    let table = made.table().expect("a table");
    let compiled = oracle.say(&json!({ "compile": matcher, "nextConfig": config }));
    let app = Matched::of(version, &compiled["matchers"]);
    let server = app.start();
    let id = Build {
        version,
        is_based: true,
    }
    .id();
    let ran = |asked: &Asked| {
        let answer = exchange(server.address, asked.head().as_bytes());
        answer.header("x-proxy") == Some("ran")
    };
    let plain = |target: &str| Asked {
        target: target.to_owned(),
        host: "app.test".to_owned(),
        headers: BTreeMap::new(),
        cookies: BTreeMap::new(),
    };
    // What is said at the top of this file, word for word.
    for (target, runs) in [
        ("/base/dashboard/", true),
        ("/base/fr/dashboard/", true),
        ("/base/FR/dashboard/", true),
        ("/base/de/dashboard/", false),
        ("/base/%66r/dashboard/", false),
        ("/base/x/dashboard/7/", false),
        ("/base/", true),
        ("/base/de/", false),
        ("/base/fr/open/", true),
        ("/base/open/", false),
        ("/base/feed/", false),
        ("/base/en/feed/", false),
    ] {
        let asked = plain(target);
        assert_eq!(ran(&asked), runs, "Next.js {version}: {target}");
        let theirs = oracle.ask(&asked.question(&matcher, &config));
        assert_eq!(theirs, Ok(runs), "the helper of {version}: {target}");
        let ours = ours(&table, &asked);
        assert!(!runs || ours != Ours::LetIn, "{version}: {target} is open");
    }
    let (mut ran_for, mut problems) = (0, Vec::new());
    for _ in 0..SERVED {
        let mut asked = made.request(&mut dice);
        asked.target = asked
            .target
            .replace("/_next/data/B/", &format!("/_next/data/{id}/"));
        if !ran(&asked) {
            continue;
        }
        ran_for += 1;
        let theirs = oracle.ask(&asked.question(&matcher, &config));
        if theirs != Ok(true) {
            problems.push(format!("the helper says {theirs:?} of {asked:?}"));
        }
        if matches!(ours(&table, &asked), Ours::LetIn | Ours::LetInAlways(_)) {
            problems.push(format!("open here: {asked:?}"));
        }
    }
    let report = format!(
        "Next.js {version} ran its middleware for {ran_for} of {SERVED} requests, seed {seed}:\n{}\n",
        problems.join("\n")
    );
    let _ = std::io::stderr().write_all(report.as_bytes());
    assert!(problems.is_empty(), "{report}");
    assert!(
        ran_for > SERVED / 10 && ran_for < SERVED * 9 / 10,
        "{report}"
    );
}

#[test]
fn a_server_of_next_15_runs_its_middleware_only_where_its_matcher_was_asked() {
    served_run(15);
}

#[test]
fn a_server_of_next_16_runs_its_middleware_only_where_its_matcher_was_asked() {
    served_run(16);
}
