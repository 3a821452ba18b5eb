//! `vestibule explain`: the decision for one request, in words.

use std::fmt::Write as _;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde::Serialize;
use url::Url;

use crate::route::known;

use super::{DONE, Edges, Failure, Given, REFUSED, USAGE, World};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The configuration.
    #[command(flatten)]
    pub given: Given,
    /// Print the explanation as JSON.
    #[arg(long)]
    pub json: bool,
    /// End with 4 when the request is not let through.
    #[arg(long)]
    pub exit_code: bool,
    /// The method, as GET.
    pub method: String,
    /// The address: a path, or a whole URL.
    pub url: String,
    /// A header, as 'accept: text/html'. May be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub header: Vec<String>,
}

/// The request asked about. What it holds is not checked beyond its form: the gateway judges it as if it had come in.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// Path and query as given, not normalised.
    pub target: String,
    /// The host: of the URL, else of the configuration's `public_url`.
    pub host: String,
    /// The headers, `host` included.
    pub headers: HeaderMap,
}

/// What the gateway would do, and why. Its JSON is this struct, names and all: names are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The method.
    pub method: String,
    /// The host asked for.
    pub host: String,
    /// Path and query in the spelling that is matched and forwarded.
    pub target: String,
    /// Every reading of the path that was matched: raw, decoded, without locale …
    pub readings: Vec<String>,
    /// The route that decided.
    pub route: ExplainedRoute,
    /// What the app has there, as its build says: a page as its folders name it (`/dashboard/[id]`), in words what else answers, or
    /// `none`. Nothing when no build is known, or the request is not for that app.
    pub app_route: Option<String>,
    /// Pages whose rules hold besides, because they own the Server Action that `Next-Action` names: `/dashboard`; in words for an
    /// action nobody knows. Nothing when no action is called, or no build is known.
    pub action: Option<String>,
    /// The kind of request: `document`, `document_post`, `program`, `server_action`, `preflight`.
    pub kind: String,
    /// What was presented: `none`, or the kind of credential with `malformed` where it is. Never the credential.
    pub credential: String,
    /// The rule, as in the configuration.
    pub rule: String,
    /// `optimistic`, `cached` or `strict`.
    pub freshness: String,
    /// What became of the credential: `anonymous`, `verified`, `rejected: WHY`, `unavailable`, `not asked`.
    pub resolution: String,
    /// `allow`, `redirect`, `unauthorized`, `forbidden`, `unavailable`, `bad request`.
    pub verdict: String,
    /// Status of the gateway's own answer; none when the request goes to the app.
    pub status: Option<u16>,
    /// `Location` of that answer.
    pub location: Option<String>,
    /// Name of the upstream, when the request goes to the app.
    pub upstream: Option<String>,
    /// Why, as logs and metrics name it.
    pub reason: String,
    /// Headers the app would receive from the gateway, with values. Assertions are shown without their signature.
    pub stamped: Vec<(String, String)>,
    /// Names of cookies that would be cleared.
    pub cleared: Vec<String>,
}

/// Which route decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExplainedRoute {
    /// The pattern as written, or of the built-in route.
    pub pattern: String,
    /// Its line in the configuration.
    pub line: Option<usize>,
    /// Why it exists when nobody wrote it: `auth endpoints`, `sign-in page`, `static assets`, `default` …
    pub built_in: Option<String>,
}

impl Explanation {
    /// Whether the request reaches the app.
    pub fn is_allowed(&self) -> bool {
        self.verdict == "allow"
    }

    /// For a reader who has not seen the gateway before.
    pub fn to_text(&self) -> String {
        if self.verdict == "bad request" {
            return self.malformed_to_text();
        }
        let mut out = String::new();
        let mut row = |name: &str, value: &str| {
            // Formatting into a string cannot fail.
            let _ = writeln!(out, "{name:<12}{value}");
        };
        row(
            "request",
            &format!(
                "{} {} on {} ({})",
                self.method, self.target, self.host, self.kind
            ),
        );
        let others: Vec<&str> = self
            .readings
            .iter()
            .map(String::as_str)
            .filter(|r| *r != self.target)
            .collect();
        if !others.is_empty() {
            row("also read", &others.join("  "));
        }
        let place = match (&self.route.built_in, self.route.line) {
            (Some(why), _) => format!(" (built in: {why})"),
            (None, Some(line)) => format!(" (line {line})"),
            (None, None) => String::new(),
        };
        row("route", &format!("{}{place}", self.route.pattern));
        match self.app_route.as_deref() {
            None => {}
            Some(known::NOTHING) => row(
                "app route",
                "none: the app has nothing there, so the default rule counts too",
            ),
            Some(name) => row("app route", name),
        }
        match self.action.as_deref() {
            None => {}
            Some(known::NOTHING) => row(
                "action",
                "none that the build knows, so the default rule counts too",
            ),
            Some(pages) => row("action", &format!("of {pages}, whose rules count too")),
        }
        row("rule", &format!("{}, {}", self.rule, self.freshness));
        row("credential", &self.credential);
        row("session", &self.resolution);
        let answer = match (self.status, &self.location) {
            (Some(status), Some(location)) => format!(": {status} to {location}"),
            (Some(status), None) => format!(": {status}"),
            (None, _) => self
                .upstream
                .as_ref()
                .map_or_else(String::new, |name| format!(": on to `{name}`")),
        };
        row("verdict", &format!("{}{answer}", self.verdict));
        for (name, value) in &self.stamped {
            row("stamps", &format!("{name}: {value}"));
        }
        for name in &self.cleared {
            row("clears", &format!("cookie {name}"));
        }
        let _ = writeln!(out, "\n{}", self.why());
        out
    }

    /// A request that no route was looked up for.
    fn malformed_to_text(&self) -> String {
        let why = match self.reason.as_str() {
            "host_not_served" => {
                "The gateway does not answer for this host. Those it answers for are listed under `hosts`."
            }
            "internal_query" => {
                "Its query carries parameters by which Next.js addresses its own routes; from outside they override the path."
            }
            _ => {
                "Its target has readings that contradict each other, or is no path at all. Nothing was looked up."
            }
        };
        format!(
            "request     {} {} on {}\nverdict     {}: {} ({})\n\n{why}\n",
            self.method,
            self.target,
            self.host,
            self.verdict,
            self.status.unwrap_or_default(),
            self.reason,
        )
    }

    /// The decision in a sentence or two.
    fn why(&self) -> String {
        let needs = match self.rule.as_str() {
            "public" => "Everyone may see this, so nobody was looked up.",
            "optional" => "Everyone may see this; those who are signed in are named to the app.",
            "guest" => "This is for people who are not signed in.",
            "deny" => "Nobody may see this.",
            "signed-in" => "This needs somebody who is signed in.",
            _ => "This needs somebody who is signed in and meets every condition of the rule.",
        };
        let session = if self.resolution == "anonymous" {
            "The request brings no credential."
        } else if self.resolution == "verified" {
            "Its credential is good."
        } else if self.resolution.starts_with("rejected") {
            "Its credential does not count."
        } else if self.resolution == "unavailable" {
            "The store of sessions did not answer, which is no proof against anyone."
        } else {
            ""
        };
        let outcome = match self.verdict.as_str() {
            "allow" => "So it goes to the app.",
            "redirect" => "So the browser is sent elsewhere.",
            "unauthorized" => "So it is told to sign in, in a form programs understand.",
            "forbidden" => "So it is refused: signing in again would not help.",
            "unavailable" => "So it is asked to try again shortly.",
            _ => "So it is refused: its target can be read in ways that contradict each other.",
        };
        [needs, session, outcome]
            .iter()
            .filter(|s| !s.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Explain {
    /// Explains one request.
    ///
    /// # Errors
    /// When the arguments are none of a request, or the store cannot be opened.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let loaded = match self.given.load_or_tell(world, edges)? {
            Ok(loaded) => loaded,
            Err(code) => return Ok(code),
        };
        let asked = self.asked(&loaded.config.server.public_url)?;
        let explanation = (edges.explain)(&loaded.config, &asked)?;
        if self.json {
            let json = serde_json::to_string_pretty(&explanation).map_err(|error| Failure {
                message: format!("the explanation cannot be written: {error}"),
                advice: "leave `--json` out".into(),
                code: super::PROBLEMS,
            })?;
            world.say(&format!("{json}\n"));
        } else {
            world.say(&explanation.to_text());
        }
        Ok(if self.exit_code && !explanation.is_allowed() {
            REFUSED
        } else {
            DONE
        })
    }

    /// The request the arguments describe.
    ///
    /// # Errors
    /// When they describe none.
    pub fn asked(&self, public_url: &str) -> Result<Asked, Failure> {
        let usage = |message: &str, advice: &str| Failure {
            message: message.into(),
            advice: advice.into(),
            code: USAGE,
        };
        let method = Method::from_bytes(self.method.as_bytes())
            .map_err(|_| usage("this is no method", "write GET, POST and the like"))?;
        // Taken apart by hand: a URL parser would resolve `..` and escapes, which are what one asks about.
        let (host, target) = match self.url.split_once("://") {
            Some(("http" | "https", rest)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (host, target) = rest.split_at(end);
                (host.to_owned(), target)
            }
            _ => (String::new(), self.url.as_str()),
        };
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.is_empty() || target.starts_with('?') {
            format!("/{target}")
        } else {
            target.to_owned()
        };
        if !target.starts_with('/') {
            return Err(usage(
                "the address is neither a path nor a URL",
                "write `/admin` or `https://app.example.com/admin`",
            ));
        }
        let mut headers = HeaderMap::new();
        for line in &self.header {
            // Not quoted in the message: it may hold a session.
            let wrong = || {
                usage(
                    "a header is not `NAME: VALUE`",
                    "as in `-H 'accept: text/html'`",
                )
            };
            let (name, value) = line.split_once(':').ok_or_else(wrong)?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
            let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
            headers.append(name, value);
        }
        let given = headers
            .get(http::header::HOST)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        let public = || {
            Url::parse(public_url)
                .ok()
                .and_then(|url| url.host_str().map(str::to_owned))
        };
        let host = if host.is_empty() {
            given.or_else(public).unwrap_or_default()
        } else {
            host
        };
        let host = host.to_ascii_lowercase();
        if let Ok(value) = HeaderValue::from_str(&host) {
            headers.insert(http::header::HOST, value);
        }
        Ok(Asked {
            method,
            target,
            host: without_port(&host).to_owned(),
            headers,
        })
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}
