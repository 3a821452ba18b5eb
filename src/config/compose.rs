//! From what the file says to what the modules take: defaults, the names the app already has, and the checks that need more
//! than one key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use url::{Host, Url};

use super::file::{
    AdminAddress, Attributes, BetterAuth, Caching, ConditionWord, CredentialWord, File,
    FreshnessWord, Level, LogFormat, Path, Preset, Route, RuleTable, RuleText, RuleWord, SameSite,
    Sessions, Threads, Upstream, VersionedSecret,
};
use super::node::{At, Node, Value};
use super::problem::Fault;
use super::read::{Found, Read as _, Reader, SecretText, is_page_path, short, unknown_word};
use super::{Config, is_written};
use crate::policy::{Conditions, Need, Rule};
use crate::route::{ConditionOn, ConditionSpec, NextJs, RouteSpec, SourceSpec};
use crate::secret::Secret;
use crate::session::Freshness;
use crate::{credential, identity, policy, route, server, session, store, telemetry};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Better Auth refuses cookies that live longer than browsers keep them.
const COOKIE_AGE_MAX: Duration = Duration::from_secs(34_560_000);
/// Letters under which Better Auth itself warns.
const SECRET_LETTERS_MIN: usize = 32;
/// Source: better-auth 1.4 to 1.7, the default of `secret`.
const PUBLIC_SECRET: &str = "better-auth-secret-12345678901234567890";
/// The name of `[upstream]`.
const APP: &str = "app";

/// Everything, in the words of the modules. Where something is wrong it holds a default, and the reader holds the problem.
pub(super) fn compose(file: &File, tree: &Node, reader: &mut Reader<'_>) -> Config {
    let fallback = BetterAuth::default();
    let auth = file.better_auth.as_ref().map_or(&fallback, |f| &f.value);
    let base_url = base_url(auth, reader);
    let listen = listen(file, reader);
    let public_url = public_url(file, tree, base_url.as_ref(), &listen, reader);
    let hosts = hosts(file, public_url.as_ref(), reader);
    let upstreams = upstreams(file, tree, reader);
    let origin = public_url.as_ref().map(origin_of).unwrap_or_default();
    let secrets = secrets(auth, tree, reader);
    let cookies = cookies(auth, base_url.as_ref(), public_url.as_ref(), reader);
    let redirects = redirects(file, public_url.as_ref(), reader);
    let routes = routes(file, tree, &upstreams, &hosts, &redirects.sign_in, reader);
    let (admin, admin_token) = admin(file, &listen, reader);
    check_proxies(file, reader);
    Config {
        store: store(file, tree, reader),
        sessions: sessions(file, auth, reader),
        update_age: bounded(
            reader,
            auth.update_age.as_ref(),
            DAY,
            Duration::ZERO..=COOKIE_AGE_MAX,
        ),
        identity: identity(file, &origin, reader),
        log: log(file),
        server: server::Settings {
            listen,
            admin,
            admin_token,
            public_url: origin,
            hosts,
            trusted_proxies: values(file.trusted_proxies.as_ref()),
            threads: threads(file, reader),
            tls: tls(file, reader),
            upstreams,
            limits: limits(file, reader),
            timeouts: timeouts(file, reader),
            cors_origins: cors(file, reader),
        },
        cookies,
        secrets,
        redirects,
        routes,
    }
}

fn value<T: Clone>(found: Option<&Found<T>>, default: T) -> T {
    found.map_or(default, |f| f.value.clone())
}

fn values<T: Clone>(found: Option<&Found<Vec<Found<T>>>>) -> Vec<T> {
    found.map_or_else(Vec::new, |list| {
        list.value.iter().map(|f| f.value.clone()).collect()
    })
}

fn spell(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "0s".into(),
        ms if ms % 86_400_000 == 0 => format!("{}d", ms / 86_400_000),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// A duration within its bounds, or the default and a problem.
fn bounded(
    reader: &mut Reader<'_>,
    found: Option<&Found<Duration>>,
    default: Duration,
    bounds: RangeInclusive<Duration>,
) -> Duration {
    let Some(found) = found else { return default };
    if bounds.contains(&found.value) {
        return found.value;
    }
    reader.blame(
        found,
        Fault::OutOfBounds {
            bounds: format!(
                "from {} to {}",
                spell(*bounds.start()),
                spell(*bounds.end())
            ),
            why: "below nothing would work, above it is no bound any more",
        },
    );
    default
}

/// A number within its bounds, or the default and a problem.
fn count(
    reader: &mut Reader<'_>,
    found: Option<&Found<u64>>,
    default: u64,
    bounds: RangeInclusive<u64>,
) -> u64 {
    let Some(found) = found else { return default };
    if bounds.contains(&found.value) {
        return found.value;
    }
    reader.blame(
        found,
        Fault::OutOfBounds {
            bounds: format!("from {} to {}", bounds.start(), bounds.end()),
            why: "below nothing would work, above it is no bound any more",
        },
    );
    default
}

fn form(what: impl Into<String>, advice: &str) -> Fault {
    Fault::Form {
        what: what.into(),
        advice: advice.to_owned(),
    }
}

// --- addresses ---

fn listen(file: &File, reader: &mut Reader<'_>) -> Vec<SocketAddr> {
    let listen = values(file.listen.as_ref());
    if let Some(found) = file.listen.as_ref().filter(|f| f.value.is_empty()) {
        reader.blame(
            found,
            form(
                "no address is listed",
                "write at least one, as \"127.0.0.1:8080\"",
            ),
        );
    }
    if listen.is_empty() {
        return vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))];
    }
    listen
}

fn admin(
    file: &File,
    listen: &[SocketAddr],
    reader: &mut Reader<'_>,
) -> (Option<SocketAddr>, Option<Secret>) {
    let address = match &file.admin {
        None => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8081))),
        Some(Found {
            value: AdminAddress(address),
            ..
        }) => *address,
    };
    let token = file.admin_token.as_ref().map(|f| f.value.0.clone());
    if let Some(found) = &file.admin {
        if address.is_some_and(|a| a.port() != 0 && listen.contains(&a)) {
            reader.blame(
                found,
                Fault::Conflict {
                    what: "the admin listener has the address of the public one".into(),
                    advice: "give it a port of its own, as \"127.0.0.1:8081\"",
                },
            );
        }
        if address.is_some_and(|a| !a.ip().is_loopback()) && token.is_none() {
            reader.blame(
                found,
                Fault::Suspicious {
                    what: "off loopback and without `admin_token`, only /livez, /readyz and /metrics answer".into(),
                    advice: "set `admin_token = { env = \"NAME\" }`, or listen on 127.0.0.1",
                },
            );
        }
    }
    if let Some(found) = &file.admin_token {
        let letters = found.value.0.expose().chars().count();
        if letters < SECRET_LETTERS_MIN {
            reader.blame(found, Fault::ShortSecret { letters });
        }
    }
    (address, token)
}

fn check_proxies(file: &File, reader: &mut Reader<'_>) {
    for network in file.trusted_proxies.iter().flat_map(|list| &list.value) {
        if network.value.prefix_len() == 0 {
            reader.blame(
                network,
                Fault::Risky {
                    what:
                        "this trusts everybody: any client can then choose the address the app sees"
                            .into(),
                    advice: "list the addresses of your load balancers only",
                },
            );
        }
    }
}

fn threads(file: &File, reader: &mut Reader<'_>) -> Option<usize> {
    const THREADS_MAX: u64 = 1024;
    let found = file.threads.as_ref()?;
    let Threads(Some(number)) = found.value else {
        return None;
    };
    if !(1..=THREADS_MAX).contains(&number) {
        reader.blame(
            found,
            Fault::OutOfBounds {
                bounds: format!("from 1 to {THREADS_MAX}, or `auto`"),
                why: "more threads than cores only take turns",
            },
        );
    }
    usize::try_from(number).ok()
}

fn tls(file: &File, reader: &mut Reader<'_>) -> Option<server::Tls> {
    let table = file.tls.as_ref()?;
    match (&table.value.cert, &table.value.key) {
        (Some(cert), Some(key)) => Some(server::Tls {
            cert: cert.value.clone(),
            key: key.value.clone(),
        }),
        (Some(_), None) => {
            reader.blame(
                table,
                Fault::Missing {
                    key: "key",
                    advice: "name the PEM file with the private key",
                },
            );
            None
        }
        (None, _) => {
            reader.blame(
                table,
                Fault::Missing {
                    key: "cert",
                    advice: "name the PEM file with the certificate chain",
                },
            );
            None
        }
    }
}

/// Whether a host is this machine, by any of its names.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Scheme, host and port, without the port that goes without saying.
fn origin_of(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// An http or https URL without user; `None` when the text is none.
fn web_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let fine = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && !text.contains(['\\', ' ', '\t', '\n', '\r'])
        // `http:host` and `http:///host` are read as if they were right.
        && text.get(url.scheme().len()..).is_some_and(|rest| rest.starts_with("://") && !rest.starts_with(":///"));
    fine.then_some(url)
}

/// A URL that is an origin and no more.
fn origin(text: &str) -> Option<Url> {
    web_url(text)
        .filter(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none())
}

fn public_url(
    file: &File,
    tree: &Node,
    base_url: Option<&Found<Url>>,
    listen: &[SocketAddr],
    reader: &mut Reader<'_>,
) -> Option<Url> {
    let Some(found) = &file.public_url else {
        if is_written(tree, &["public_url"]) {
            return None;
        }
        if let Some(base) = base_url {
            return Url::parse(&origin_of(&base.value)).ok();
        }
        let local = listen.first().filter(|address| address.ip().is_loopback());
        if let Some(address) = local {
            let scheme = if file.tls.is_some() { "https" } else { "http" };
            return Url::parse(&format!("{scheme}://localhost:{}", address.port())).ok();
        }
        let fault = Fault::Missing {
            key: "public_url",
            advice: "write the address people type, as `public_url = \"https://app.example.com\"`",
        };
        reader
            .problems
            .push((fault, "public_url".into(), tree.at.clone()));
        return None;
    };
    let Some(url) = origin(&found.value) else {
        let what = if web_url(&found.value).is_some() {
            format!("`{}` is more than an origin", short(&found.value))
        } else {
            format!("`{}` is no web address", short(&found.value))
        };
        reader.blame(
            found,
            form(what, "write scheme and host (and port) only, as \"https://app.example.com\"; a base path goes under [nextjs]"),
        );
        return None;
    };
    if url.scheme() == "http" && !is_loopback(&url) {
        reader.blame(
            found,
            Fault::Risky {
                what: "over plain http, anyone on the way can read session cookies".into(),
                advice: "use https, either here with [tls] or at the load balancer in front",
            },
        );
    }
    if let Some(base) = base_url.filter(|base| origin_of(&base.value) != origin_of(&url)) {
        reader.blame(
            base,
            Fault::Suspicious {
                what: format!(
                    "Better Auth believes to be at {}, and browsers see {}",
                    origin_of(&base.value),
                    origin_of(&url)
                ),
                advice: "make `baseURL` (BETTER_AUTH_URL) of the app the public address, else it refuses the origin of its own pages",
            },
        );
    }
    Some(url)
}

fn hosts(file: &File, public_url: Option<&Url>, reader: &mut Reader<'_>) -> Vec<String> {
    let Some(list) = &file.hosts else {
        let Some(host) = public_url.and_then(Url::host_str) else {
            return Vec::new();
        };
        if public_url.is_some_and(|url| {
            matches!(url.host(), Some(Host::Domain("localhost"))) || is_ip_loopback(url)
        }) {
            return ["localhost", "127.0.0.1", "[::1]"]
                .map(str::to_owned)
                .to_vec();
        }
        return vec![host.to_owned()];
    };
    if list.value.is_empty() {
        reader.blame(
            list,
            form(
                "no host is listed, so every request would be refused",
                "list at least one, or leave `hosts` out",
            ),
        );
    }
    let mut hosts = Vec::new();
    for found in &list.value {
        match host(&found.value) {
            Ok(name) => hosts.push(name),
            Err(what) => reader.blame(
                found,
                form(what, "write names only, without scheme, port or path: \"app.example.com\", or \"*.example.com\" for every name below"),
            ),
        }
    }
    if let Some(public) = public_url.and_then(Url::host_str)
        && !hosts.is_empty()
        && !hosts.iter().any(|pattern| covers(pattern, public))
    {
        reader.blame(
            list,
            Fault::Suspicious {
                what: format!(
                    "`{public}`, the host of `public_url`, is not among them and would be refused"
                ),
                advice: "add it, unless a proxy in front sends another Host",
            },
        );
    }
    hosts
}

fn is_ip_loopback(url: &Url) -> bool {
    !matches!(url.host(), Some(Host::Domain(_))) && is_loopback(url)
}

/// A host as it is compared: lower-case, without port.
fn host(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    let wrong = || format!("`{}` is no host", short(text));
    if name.contains('*') {
        return Err(format!(
            "`{}` is no host: a star stands for whole names, at the beginning",
            short(text)
        ));
    }
    if name.is_empty() || name.contains(['/', '?', '#', '@', '\\', '%', ' ', ',']) {
        return Err(wrong());
    }
    // Only a host in square brackets holds colons, and nothing follows them.
    if name.contains(':') && !(name.starts_with('[') && name.ends_with(']')) {
        return Err(wrong());
    }
    let parsed = Host::parse(name).map_err(|_| wrong())?.to_string();
    // What a parser would rewrite (`0x7f.1`) is not what a client sends.
    if parsed != name || (lower != name && !matches!(Host::parse(name), Ok(Host::Domain(_)))) {
        return Err(wrong());
    }
    Ok(lower)
}

/// Whether a pattern answers for a host.
fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

// --- upstreams ---

fn upstreams(file: &File, tree: &Node, reader: &mut Reader<'_>) -> Vec<server::Upstream> {
    let mut out = Vec::new();
    match &file.upstream {
        Some(found) => out.push(upstream(APP, found, reader)),
        None if is_written(tree, &["upstream"]) => {}
        None => {
            let fault = Fault::Missing {
                key: "upstream.url",
                advice: "say where the app listens: `[upstream]` with `url = \"http://127.0.0.1:3000\"`",
            };
            reader
                .problems
                .push((fault, "upstream.url".into(), tree.at.clone()));
        }
    }
    for (name, found) in file.upstreams.iter().flat_map(|named| &named.value) {
        if name == APP {
            reader.blame(
                found,
                Fault::Conflict {
                    what: "`app` is the name of `[upstream]`".into(),
                    advice: "give this one another name",
                },
            );
        }
        out.push(upstream(name, found, reader));
    }
    out
}

fn upstream(name: &str, found: &Found<Upstream>, reader: &mut Reader<'_>) -> server::Upstream {
    let table = &found.value;
    let mut addresses = Vec::new();
    if let (Some(_), Some(urls)) = (&table.url, &table.urls) {
        reader.blame(
            urls,
            Fault::Conflict {
                what: "`url` and `urls` are both given".into(),
                advice: "keep `urls` for several addresses of one app, `url` for one",
            },
        );
    }
    let all = table
        .url
        .iter()
        .chain(table.urls.iter().flat_map(|list| &list.value));
    let mut seen = false;
    for url in all {
        seen = true;
        match upstream_address(&url.value) {
            Some(address) => addresses.push(address),
            None => reader.blame(
                url,
                form(
                    format!("`{}` is no address of an app", short(&url.value)),
                    "write scheme, host and port, without a path: \"http://127.0.0.1:3000\"; paths are forwarded as they are",
                ),
            ),
        }
    }
    let broken = reader
        .problems
        .iter()
        .any(|(_, key, _)| key.starts_with(&format!("{}.url", found.key)));
    if !seen && !broken {
        reader.blame(
            found,
            Fault::Missing {
                key: "url",
                advice: "say where the app listens: `url = \"http://127.0.0.1:3000\"`",
            },
        );
    }
    let health = table.health.as_ref();
    let health_path = health.and_then(|h| h.value.path.as_ref());
    if let Some(path) =
        health_path.filter(|p| !is_page_path(p.value.split('?').next().unwrap_or_default()))
    {
        reader.blame(
            path,
            form(
                "this is no path",
                "write one that begins with `/`, as \"/healthz\"",
            ),
        );
    }
    let wait = SECOND / 1000..=DAY;
    server::Upstream {
        name: name.to_owned(),
        addresses,
        health_path: health_path.map(|p| p.value.clone()),
        health_interval: bounded(
            reader,
            health.and_then(|h| h.value.interval.as_ref()),
            5 * SECOND,
            SECOND / 10..=HOUR,
        ),
        connect_timeout: bounded(
            reader,
            table.connect_timeout.as_ref(),
            2 * SECOND,
            SECOND / 1000..=MINUTE,
        ),
        first_byte_timeout: bounded(
            reader,
            table.first_byte_timeout.as_ref(),
            MINUTE,
            wait.clone(),
        ),
        write_timeout: bounded(
            reader,
            table.write_timeout.as_ref(),
            30 * SECOND,
            wait.clone(),
        ),
        idle_timeout: bounded(reader, table.idle_timeout.as_ref(), 4 * SECOND, wait),
    }
}

fn upstream_address(text: &str) -> Option<server::UpstreamAddress> {
    let url = origin(text)?;
    Some(server::UpstreamAddress {
        host: match url.host()? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            // Without the brackets of URLs: this is what name resolution takes.
            Host::Ipv6(ip) => ip.to_string(),
        },
        port: url.port_or_known_default()?,
        tls: url.scheme() == "https",
    })
}

/// The index of an upstream by name; `app` when none is named.
fn upstream_index(
    named: Option<&Found<String>>,
    upstreams: &[server::Upstream],
    reader: &mut Reader<'_>,
) -> usize {
    let Some(found) = named else { return 0 };
    let index = upstreams.iter().position(|u| u.name == found.value);
    if index.is_none() {
        let known: Vec<&str> = upstreams.iter().map(|u| u.name.as_str()).collect();
        reader.blame(found, unknown_word("upstream", &found.value, &known));
    }
    index.unwrap_or(0)
}

// --- Better Auth ---

/// The base URL and where it was said.
fn base_url(auth: &BetterAuth, reader: &mut Reader<'_>) -> Option<Found<Url>> {
    let given = auth
        .base_url
        .clone()
        .or_else(|| from_app(reader, &["BETTER_AUTH_URL"], "better_auth.base_url"))?;
    let url = web_url(&given.value);
    if url.is_none() {
        reader.blame(
            &given,
            form(
                format!("`{}` is no web address", short(&given.value)),
                "write it as in the app: \"https://app.example.com\"",
            ),
        );
    }
    Some(Found {
        value: url?,
        at: given.at,
        key: given.key,
    })
}

/// The first of the app's own variables that is set.
fn from_app(reader: &Reader<'_>, names: &[&str], key: &str) -> Option<Found<String>> {
    names.iter().find_map(|name| {
        let value = reader
            .environment
            .get(*name)
            .filter(|text| !text.is_empty())?;
        Some(Found {
            value: value.clone(),
            at: At::Environment((*name).to_owned()),
            key: key.to_owned(),
        })
    })
}

fn secrets(
    auth: &BetterAuth,
    tree: &Node,
    reader: &mut Reader<'_>,
) -> credential::secrets::Settings {
    let written = |key| is_written(tree, &["better_auth", key]);
    let listed = match &auth.secrets {
        Some(list) => Some(
            list.value
                .iter()
                .map(|f| {
                    (
                        f.value.version,
                        f.value.value.clone(),
                        f.at.clone(),
                        f.key.clone(),
                    )
                })
                .collect::<Vec<_>>(),
        ),
        None if written("secret") || written("secrets") => None,
        None => secrets_of_app(reader),
    };
    let single = auth
        .secret
        .as_ref()
        .map(|f| Found {
            value: f.value.0.clone(),
            at: f.at.clone(),
            key: f.key.clone(),
        })
        .or_else(|| {
            if written("secret") {
                return None;
            }
            let found = from_app(
                reader,
                &["BETTER_AUTH_SECRET", "AUTH_SECRET"],
                "better_auth.secret",
            )?;
            Some(Found {
                value: Secret::new(found.value),
                at: found.at,
                key: found.key,
            })
        });
    if written("secret")
        && !written("secrets")
        && reader.environment.contains_key("BETTER_AUTH_SECRETS")
    {
        let at = tree
            .child("better_auth")
            .and_then(|n| n.child("secret"))
            .map_or(At::Nowhere, |n| n.at.clone());
        let fault = Fault::Suspicious {
            what: "BETTER_AUTH_SECRETS is set, and Better Auth prefers it to `secret`".into(),
            advice: "remove `better_auth.secret`, or the variable, so that gateway and app sign with the same one",
        };
        reader
            .problems
            .push((fault, "better_auth.secret".into(), at));
    }
    let mut versions = BTreeSet::new();
    let mut all: Vec<Found<Secret>> = Vec::new();
    for (version, value, at, key) in listed.into_iter().flatten() {
        let found = Found { value, at, key };
        if !versions.insert(version) {
            reader.blame(
                &found,
                Fault::Conflict {
                    what: format!("version {version} stands twice"),
                    advice: "give every secret a number of its own",
                },
            );
        }
        all.push(found);
    }
    // Beside a list, the single secret is the one from before there was a list.
    if let Some(single) = single.filter(|s| all.iter().all(|other| other.value != s.value)) {
        all.push(single);
    }
    for (index, found) in all.iter().enumerate() {
        let letters = found.value.expose().chars().count();
        if found.value.expose() == PUBLIC_SECRET {
            reader.blame(found, Fault::PublicSecret);
        } else if index == 0 && letters < SECRET_LETTERS_MIN {
            reader.blame(found, Fault::ShortSecret { letters });
        }
    }
    let mut all = all.into_iter().map(|found| found.value);
    let current = all.next().unwrap_or_else(|| {
        let told = reader.problems.iter().any(|(_, key, _)| key.starts_with("better_auth.secret"));
        if !told {
            let at = tree.child("better_auth").map_or(At::Nowhere, |n| n.at.clone());
            let fault = Fault::Missing {
                key: "better_auth.secret",
                advice: "set BETTER_AUTH_SECRET as for the app, or write `secret = { env = \"NAME\" }` or `secret = { file = \"PATH\" }` under [better_auth]",
            };
            reader.problems.push((fault, "better_auth.secret".into(), at));
        }
        // Never used: without a secret the configuration is refused.
        Secret::new("")
    });
    credential::secrets::Settings {
        current,
        older: all.collect(),
    }
}

type Listed = Vec<(u64, Secret, At, String)>;

/// `BETTER_AUTH_SECRETS`, as the framework reads it.
fn secrets_of_app(reader: &mut Reader<'_>) -> Option<Listed> {
    let found = from_app(reader, &["BETTER_AUTH_SECRETS"], "better_auth.secrets")?;
    let node = Node {
        value: Value::Text(found.value),
        at: found.at,
    };
    let before = reader.problems.len();
    let list = Vec::<Found<VersionedSecret>>::read(&node, reader);
    for (_, key, _) in reader.problems.iter_mut().skip(before) {
        *key = format!("better_auth.secrets{key}");
    }
    list.map(|list| {
        list.into_iter()
            .map(|f| {
                (
                    f.value.version,
                    f.value.value,
                    f.at,
                    format!("better_auth.secrets{}", f.key),
                )
            })
            .collect()
    })
}

fn cookies(
    auth: &BetterAuth,
    base_url: Option<&Found<Url>>,
    public_url: Option<&Url>,
    reader: &mut Reader<'_>,
) -> credential::names::Settings {
    const COOKIES: [&str; 3] = ["session_token", "session_data", "dont_remember"];
    let names = auth.names.iter().flat_map(|named| named.value.iter());
    for (key, found) in names.clone() {
        cookie_name(found, reader);
        known_cookie(key, found, &COOKIES, reader);
    }
    for (key, found) in auth.attributes.iter().flat_map(|named| &named.value) {
        known_cookie(key, found, &COOKIES, reader);
    }
    if let Some(prefix) = &auth.cookie_prefix {
        cookie_name(prefix, reader);
    }
    for kind in auth.enable.iter().flat_map(|list| &list.value) {
        enable(kind, reader);
    }
    let cross_subdomain = value(auth.cross_subdomain.as_ref(), false);
    if let Some(domain) = &auth.cookie_domain {
        if host(domain.value.trim_start_matches('.')).is_err() || domain.value.contains('*') {
            reader.blame(
                domain,
                form(
                    format!("`{}` is no domain", short(&domain.value)),
                    "write a name, as \"example.com\"",
                ),
            );
        }
        if !cross_subdomain {
            reader.blame(
                domain,
                Fault::Suspicious {
                    what: "Better Auth uses the domain only with cross-subdomain cookies".into(),
                    advice: "set `cross_subdomain = true` as in the app, or remove `cookie_domain`",
                },
            );
        }
    } else if let Some(found) = auth
        .cross_subdomain
        .as_ref()
        .filter(|f| f.value && base_url.is_none())
    {
        reader.blame(
            found,
            Fault::Missing {
                key: "better_auth.cookie_domain",
                advice: "give it or `base_url`, as in the app: else nobody knows the domain of the cookies",
            },
        );
    }
    let https = public_url.is_some_and(|url| url.scheme() == "https");
    let node_env = reader
        .environment
        .get("NODE_ENV")
        .filter(|text| !text.is_empty());
    let production = node_env.map_or(https, |mode| mode == "production");
    let age = Duration::ZERO..=COOKIE_AGE_MAX;
    let default_attributes = auth
        .default_attributes
        .as_ref()
        .map(|f| attributes(f, reader))
        .unwrap_or_default();
    let attributes: BTreeMap<_, _> = auth
        .attributes
        .iter()
        .flat_map(|named| &named.value)
        .map(|(key, found)| (key.clone(), attributes(found, reader)))
        .collect();
    credential::names::Settings {
        prefix: Some(
            auth.cookie_prefix
                .as_ref()
                .map_or_else(|| "better-auth".to_owned(), |f| f.value.clone()),
        ),
        secure_cookies: auth.secure_cookies.as_ref().map(|f| f.value),
        base_url: base_url.map(|f| f.value.to_string()),
        dynamic_protocol: auth
            .dynamic_protocol
            .as_ref()
            .map(|f| f.value.as_str().to_owned()),
        production: value(auth.production.as_ref(), production),
        names: names
            .map(|(key, f)| (key.clone(), f.value.clone()))
            .collect(),
        cross_subdomain,
        domain: auth.cookie_domain.as_ref().map(|f| f.value.clone()),
        default_attributes,
        attributes,
        expires_in: seconds(auth.expires_in.as_ref(), age.clone(), reader)
            .or(Some(7 * DAY.as_secs())),
        cache_max_age: seconds(auth.cache_max_age.as_ref(), age, reader)
            .or(Some(5 * MINUTE.as_secs())),
    }
}

fn known_cookie<T>(key: &str, found: &Found<T>, known: &[&str], reader: &mut Reader<'_>) {
    if !known.contains(&key) {
        reader.blame(
            found,
            unknown_word("cookie of Better Auth that the gateway reads", key, known),
        );
    }
}

fn cookie_name(found: &Found<String>, reader: &mut Reader<'_>) {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if found.value.is_empty() || !found.value.bytes().all(token) {
        reader.blame(
            found,
            form(
                format!(
                    "`{}` cannot be in the name of a cookie",
                    short(&found.value)
                ),
                "use letters, digits, `-`, `_` and `.`",
            ),
        );
    } else if found.value.starts_with("__") {
        reader.blame(
            found,
            form("prefixes of browsers do not belong here", "leave `__Secure-` out: Better Auth and the gateway put it in front where cookies are secure"),
        );
    }
}

fn enable(found: &Found<String>, reader: &mut Reader<'_>) {
    const LATER: [&str; 5] = ["bearer", "jwt", "api_key", "cookie_cache", "multi_session"];
    if LATER.contains(&found.value.as_str()) {
        reader.blame(
            found,
            Fault::NotYet {
                what: format!("`{}`", found.value),
                instead: "remove it: this version accepts the session cookie, which needs no enabling",
            },
        );
    } else {
        reader.blame(
            found,
            unknown_word("kind of credential", &found.value, &LATER),
        );
    }
}

fn seconds(
    found: Option<&Found<Duration>>,
    bounds: RangeInclusive<Duration>,
    reader: &mut Reader<'_>,
) -> Option<u64> {
    let found = found?;
    if found.value.subsec_millis() != 0 {
        reader.blame(
            found,
            form(
                "cookies count whole seconds",
                "write it in seconds or more, as \"300s\"",
            ),
        );
    }
    Some(bounded(reader, Some(found), Duration::ZERO, bounds).as_secs())
}

fn attributes(found: &Found<Attributes>, reader: &mut Reader<'_>) -> credential::names::Attributes {
    let table = &found.value;
    for text in table.path.iter().chain(&table.domain) {
        if text
            .value
            .bytes()
            .any(|b| !b.is_ascii_graphic() || b == b';' || b == b',')
        {
            reader.blame(
                text,
                form(
                    "this cannot be in a cookie",
                    "use visible letters other than `;` and `,`",
                ),
            );
        }
    }
    credential::names::Attributes {
        secure: table.secure.as_ref().map(|f| f.value),
        same_site: table
            .same_site
            .as_ref()
            .map(|f| SameSite::as_str(f.value).to_owned()),
        path: table.path.as_ref().map(|f| f.value.clone()),
        http_only: table.http_only.as_ref().map(|f| f.value),
        partitioned: table.partitioned.as_ref().map(|f| f.value),
        domain: table.domain.as_ref().map(|f| f.value.clone()),
        max_age: seconds(
            table.max_age.as_ref(),
            Duration::ZERO..=COOKIE_AGE_MAX,
            reader,
        ),
    }
}

// --- sessions ---

fn sessions(file: &File, auth: &BetterAuth, reader: &mut Reader<'_>) -> session::resolve::Settings {
    let fallback = Sessions::default();
    let table = file.sessions.as_ref().map_or(&fallback, |f| &f.value);
    if let Some(found) = table
        .cache_ttl
        .as_ref()
        .filter(|f| f.value > HOUR && f.value <= DAY)
    {
        reader.blame(
            found,
            Fault::Risky {
                what: format!(
                    "someone signed out elsewhere may keep access for {}",
                    spell(found.value)
                ),
                advice: "30s answers nearly every request from memory already",
            },
        );
    }
    session::resolve::Settings {
        cache_ttl: bounded(
            reader,
            table.cache_ttl.as_ref(),
            30 * SECOND,
            Duration::ZERO..=DAY,
        ),
        negative_ttl: bounded(
            reader,
            table.negative_ttl.as_ref(),
            5 * SECOND,
            Duration::ZERO..=5 * MINUTE,
        ),
        entries_max: count(
            reader,
            table.max_cached.as_ref(),
            1_000_000,
            0..=1_000_000_000,
        ),
        bytes_max: table
            .max_cached_bytes
            .as_ref()
            .map_or(512 << 20, |f| f.value.0),
        negative_max: count(
            reader,
            table.max_negative.as_ref(),
            100_000,
            0..=100_000_000,
        ),
        enforce_bans: value(auth.enforce_bans.as_ref(), false),
    }
}

fn store(file: &File, tree: &Node, reader: &mut Reader<'_>) -> Option<store::Settings> {
    let fallback = Sessions::default();
    let table = file.sessions.as_ref().map_or(&fallback, |f| &f.value);
    let timeout = bounded(
        reader,
        table.timeout.as_ref(),
        2 * SECOND,
        SECOND / 100..=MINUTE,
    );
    let connections = count(reader, table.connections.as_ref(), 10, 1..=10_000);
    let waiting_max = count(reader, table.max_waiting.as_ref(), 1_000, 0..=1_000_000);
    let zone_offset_seconds = zone(table.zone.as_ref(), reader);
    let schema = schema(table, reader);
    let source = match &table.source {
        Some(found) => found.clone(),
        None if is_written(tree, &["sessions", "source"]) => return None,
        None => source_of_app(tree, reader)?,
    };
    let url = match database(source.value.0.expose()) {
        Ok(url) => url,
        Err(fault) => {
            reader.blame(&source, fault);
            return None;
        }
    };
    Some(store::Settings {
        url,
        timeout,
        connections: u32::try_from(connections).unwrap_or(u32::MAX),
        waiting_max: usize::try_from(waiting_max).unwrap_or(usize::MAX),
        schema,
        zone_offset_seconds,
    })
}

/// Where the app's own variables say the sessions are.
fn source_of_app(tree: &Node, reader: &mut Reader<'_>) -> Option<Found<SecretText>> {
    let database = from_app(reader, &["DATABASE_URL"], "sessions.source");
    let redis = from_app(reader, &["REDIS_URL"], "sessions.source");
    let at = tree.child("sessions").map_or(At::Nowhere, |n| n.at.clone());
    let (fault, found) = match (database, redis) {
        (Some(_), Some(_)) => (Fault::TwoSources, None),
        (Some(found), None) | (None, Some(found)) => {
            return Some(Found {
                value: SecretText(Secret::new(found.value)),
                at: found.at,
                key: found.key,
            });
        }
        (None, None) => (
            Fault::Missing {
                key: "sessions.source",
                advice: "set DATABASE_URL as for the app, or write `source = \"sqlite:app.db\"` or `source = { env = \"NAME\" }` under [sessions]",
            },
            None,
        ),
    };
    reader.problems.push((fault, "sessions.source".into(), at));
    found
}

/// The address of a database in the spelling the store takes. Never quotes it: it may hold a password.
fn database(text: &str) -> Result<Secret, Fault> {
    const FORMS: &str = "write \"sqlite:PATH\", \"postgres://USER:PASSWORD@HOST/DATABASE\" or \"mysql://USER:PASSWORD@HOST/DATABASE\"";
    let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
    let server = |scheme: &str| {
        let host = rest.strip_prefix("//").is_some_and(|r| !r.is_empty());
        if host {
            Ok(Secret::new(format!("{scheme}:{rest}")))
        } else {
            Err(form("this is no address of a database", FORMS))
        }
    };
    match scheme.to_ascii_lowercase().as_str() {
        // Prisma writes `file:`; both mean the same file.
        "sqlite" | "file" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            let name = path.split('?').next().unwrap_or_default();
            if name.is_empty() {
                return Err(form("the path of the database is missing", FORMS));
            }
            if name == ":memory:" {
                return Err(form("a database in memory is not the app's", FORMS));
            }
            Ok(Secret::new(format!("sqlite:{path}")))
        }
        "postgres" | "postgresql" => server("postgres"),
        "mysql" | "mariadb" => server("mysql"),
        known @ ("redis" | "rediss" | "http" | "https" | "cookie") => Err(Fault::NotYet {
            what: format!("`{known}:` as a source of sessions"),
            instead: "name the app's database: \"sqlite:PATH\", \"postgres://…\" or \"mysql://…\"",
        }),
        _ => Err(form("this is no source of sessions", FORMS)),
    }
}

fn schema(table: &Sessions, reader: &mut Reader<'_>) -> store::SchemaOverrides {
    const TABLES: [&str; 3] = ["session", "user", "member"];
    let Some(schema) = &table.schema else {
        return store::SchemaOverrides::default();
    };
    let schema = &schema.value;
    for (key, found) in schema.tables.iter().flat_map(|named| &named.value) {
        if !TABLES.contains(&key.as_str()) {
            reader.blame(
                found,
                unknown_word("table of Better Auth that the gateway reads", key, &TABLES),
            );
        }
    }
    for (key, found) in schema.columns.iter().flat_map(|named| &named.value) {
        let fine = key
            .split_once('.')
            .is_some_and(|(table, column)| TABLES.contains(&table) && !column.is_empty());
        if !fine {
            reader.blame(
                found,
                form(
                    format!("`{}` is no column of Better Auth", short(key)),
                    "write table and field in quotes: `\"session.userId\" = \"user_id\"`",
                ),
            );
        }
    }
    let names = schema.schema.iter();
    let names = names.chain(schema.tables.iter().flat_map(|n| n.value.values()));
    for found in names.chain(schema.columns.iter().flat_map(|n| n.value.values())) {
        if found.value.is_empty()
            || found.value.len() > 128
            || found.value.contains(['\0', '"', '`'])
        {
            reader.blame(
                found,
                form(
                    "this cannot be the name of a table or column",
                    "write the name as the database has it, without quotes",
                ),
            );
        }
    }
    let map = |named: Option<&Found<BTreeMap<String, Found<String>>>>| {
        named
            .into_iter()
            .flat_map(|n| &n.value)
            .map(|(key, f)| (key.clone(), f.value.clone()))
            .collect()
    };
    store::SchemaOverrides {
        schema: schema.schema.as_ref().map(|f| f.value.clone()),
        tables: map(schema.tables.as_ref()),
        columns: map(schema.columns.as_ref()),
    }
}

/// `UTC`, `Z`, `+02:00`, `-0530`.
fn zone(found: Option<&Found<String>>, reader: &mut Reader<'_>) -> i32 {
    let Some(found) = found else { return 0 };
    let offset = zone_offset(&found.value);
    if offset.is_none() {
        reader.blame(
            found,
            form(format!("`{}` is no offset from UTC", short(&found.value)), "write \"UTC\" or an offset as \"+02:00\"; a zone with summer time cannot be told apart in stored dates"),
        );
    }
    offset.unwrap_or(0)
}

fn zone_offset(text: &str) -> Option<i32> {
    const HOURS_MAX: i32 = 14;
    if text == "UTC" || text == "Z" {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let digits: String = rest.chars().filter(|c| *c != ':').collect();
    let well_formed = rest.len() == 4 || (rest.len() == 5 && rest.as_bytes().get(2) == Some(&b':'));
    if !well_formed || digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 = digits.get(2..)?.parse().ok()?;
    (hours <= HOURS_MAX && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

// --- pages and routes ---

fn redirects(
    file: &File,
    public_url: Option<&Url>,
    reader: &mut Reader<'_>,
) -> policy::redirect::Settings {
    let routes = file.routes.as_ref().map(|f| &f.value);
    let sign_in = routes.and_then(|r| r.sign_in.as_ref());
    if let Some(found) = sign_in {
        let path = found.value.split('?').next().unwrap_or_default();
        let plain = !found.value.contains('#') && found.value.bytes().all(|b| b.is_ascii_graphic());
        let absolute = web_url(&found.value);
        if !(plain && (is_page_path(path) || absolute.is_some())) {
            reader.blame(
                found,
                form(
                    format!("`{}` is neither a path nor a web address", short(&found.value)),
                    "write a path that begins with one `/`, as \"/sign-in\", or an address, as \"https://accounts.example.com/sign-in\"",
                ),
            );
        } else if absolute.is_some_and(|url| url.scheme() == "http" && !is_loopback(&url)) {
            reader.blame(
                found,
                Fault::Risky {
                    what: "people would type their passwords into a page that came over plain http"
                        .into(),
                    advice: "use https",
                },
            );
        }
    }
    let return_param = routes.and_then(|r| r.return_param.as_ref());
    if let Some(found) = return_param {
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if found.value.is_empty() || !found.value.bytes().all(fine) {
            reader.blame(
                found,
                form(
                    "this is no name of a query parameter",
                    "use letters, digits, `_`, `-` and `.`, as \"callbackURL\"",
                ),
            );
        }
    }
    // A page on our own origin is a path: locations stay relative, and the page stays reachable.
    let sign_in = sign_in.map_or("/sign-in", |f| f.value.as_str());
    let own = web_url(sign_in)
        .filter(|url| public_url.is_some_and(|public| public.origin() == url.origin()))
        .and_then(|url| sign_in.split_once("://").map(|(_, rest)| (url, rest)))
        .map(|(_, rest)| {
            rest.find('/')
                .and_then(|at| rest.get(at..))
                .unwrap_or("/")
                .to_owned()
        });
    policy::redirect::Settings {
        sign_in: own.unwrap_or_else(|| sign_in.to_owned()),
        return_param: return_param.map_or_else(|| "callbackURL".to_owned(), |f| f.value.clone()),
        signed_in_home: routes
            .and_then(|r| r.signed_in_home.as_ref())
            .map_or_else(|| "/".to_owned(), |f| f.value.0.clone()),
        forbidden: routes
            .and_then(|r| r.forbidden.as_ref())
            .map(|f| f.value.0.clone()),
        base_path: base_path(file),
    }
}

fn base_path(file: &File) -> String {
    let found = file
        .nextjs
        .as_ref()
        .and_then(|f| f.value.base_path.as_ref());
    found.map_or_else(String::new, |f| f.value.clone())
}

fn nextjs(file: &File, reader: &mut Reader<'_>) -> NextJs {
    let Some(table) = file.nextjs.as_ref().map(|f| &f.value) else {
        return NextJs::default();
    };
    if let Some(found) = table.base_path.as_ref().filter(|f| !f.value.is_empty())
        && (!is_page_path(&found.value) || found.value.ends_with('/'))
    {
        reader.blame(
            found,
            form(
                format!("`{}` is no base path", short(&found.value)),
                "write it as in next.config: \"/docs\", or \"\" for none",
            ),
        );
    }
    let locales = values(table.locales.as_ref());
    for found in table.locales.iter().flat_map(|list| &list.value) {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if found.value.is_empty() || !found.value.bytes().all(fine) {
            reader.blame(
                found,
                form(
                    format!("`{}` is no locale", short(&found.value)),
                    "write locales as in next.config: \"en\", \"de-CH\"",
                ),
            );
        }
    }
    if let Some(found) = table
        .default_locale
        .as_ref()
        .filter(|f| !locales.contains(&f.value))
    {
        let known: Vec<&str> = locales.iter().map(String::as_str).collect();
        reader.blame(
            found,
            unknown_word("locale listed in `locales`", &found.value, &known),
        );
    }
    NextJs {
        base_path: base_path(file),
        locales,
        default_locale: table.default_locale.as_ref().map(|f| f.value.clone()),
        trailing_slash: value(table.trailing_slash.as_ref(), false),
    }
}

fn routes(
    file: &File,
    tree: &Node,
    upstreams: &[server::Upstream],
    hosts: &[String],
    sign_in: &str,
    reader: &mut Reader<'_>,
) -> route::Settings {
    let auth = file.better_auth.as_ref().map(|f| &f.value);
    let auth_base_path = auth.and_then(|a| a.base_path.as_ref());
    if let Some(found) = auth_base_path.filter(|f| f.value.0.ends_with('/')) {
        reader.blame(
            found,
            form(
                "the base path would open more than Better Auth",
                "write it without a slash at the end, as \"/api/auth\"",
            ),
        );
    }
    let auth_base_path =
        auth_base_path.map_or_else(|| "/api/auth".to_owned(), |f| f.value.0.clone());
    let sign_in_path = sign_in
        .starts_with('/')
        .then(|| sign_in.split('?').next().unwrap_or_default().to_owned());
    let given = file.routes.as_ref().and_then(|f| f.value.default.as_ref());
    if given.is_none() && !is_written(tree, &["routes", "default"]) {
        let at = tree.child("routes").map_or(At::Nowhere, |n| n.at.clone());
        let fault = Fault::Missing {
            key: "routes.default",
            advice: "say what holds for paths without a route: `default = \"signed-in\"` under [routes]; there is no silent default",
        };
        reader.problems.push((fault, "routes.default".into(), at));
    }
    let default = given.map_or(
        // Only stands in where the configuration is refused anyway.
        Rule {
            need: Need::Deny,
            freshness: Freshness::Cached,
        },
        |found| rule(found, None, reader),
    );
    let text_line = |at: &At, reader: &Reader<'_>| at.span().map(|span| reader.line(span.start));
    let mut specs = Vec::new();
    for found in file.route.iter().flat_map(|list| &list.value) {
        let table = &found.value;
        // A route without its rule is told and left out: the configuration is refused.
        let Some(given) = &table.rule else {
            incomplete(found, "rule", reader);
            continue;
        };
        let Some(path) = &table.path else {
            incomplete(found, "path", reader);
            continue;
        };
        if path.value.is_empty() {
            reader.blame(
                path,
                form(
                    "no path is listed",
                    "list at least one, as \"/admin/:path*\"",
                ),
            );
        }
        let rule = rule(given, table.freshness.as_ref(), reader);
        let sources: Vec<SourceSpec> = path
            .value
            .iter()
            .map(|p| source(p, text_line(&p.at, reader), reader))
            .collect();
        warn_of_bypasses(path, &rule, reader);
        closes_sign_in(
            path,
            &rule,
            table,
            sign_in_path.as_deref(),
            &auth_base_path,
            reader,
        );
        specs.push(RouteSpec {
            sources,
            methods: values(table.methods.as_ref()),
            hosts: route_hosts(table, hosts, reader),
            upstream: upstream_index(table.upstream.as_ref(), upstreams, reader),
            rule,
            app_caches: table
                .cache
                .as_ref()
                .is_some_and(|f| f.value == Caching::App),
            line: text_line(&found.at, reader),
        });
        for (list, key) in [
            (
                table
                    .methods
                    .as_ref()
                    .map(|f| (f.value.is_empty(), f.at.clone(), f.key.clone())),
                "methods",
            ),
            (
                table
                    .hosts
                    .as_ref()
                    .map(|f| (f.value.is_empty(), f.at.clone(), f.key.clone())),
                "hosts",
            ),
        ] {
            if let Some((true, at, key_path)) = list {
                let what = format!("an empty `{key}` would mean all of them");
                reader.problems.push((
                    form(what, "list at least one, or remove the key"),
                    key_path,
                    at,
                ));
            }
        }
    }
    route::Settings {
        nextjs: nextjs(file, reader),
        routes: specs,
        default,
        default_upstream: 0,
        auth_base_path,
        auth_upstream: upstream_index(auth.and_then(|a| a.upstream.as_ref()), upstreams, reader),
        sign_in_path,
        dev: false,
    }
}

fn incomplete(found: &Found<Route>, key: &'static str, reader: &mut Reader<'_>) {
    let prefix = format!("{}.{key}", found.key);
    if reader
        .problems
        .iter()
        .any(|(_, told, _)| told.starts_with(&prefix))
    {
        return;
    }
    let advice = if key == "rule" {
        "say what it takes: `rule = \"signed-in\"`, `rule = \"public\"` or `rule = { role = [\"admin\"] }`"
    } else {
        "say which paths: `path = \"/admin/:path*\"`, or a list of them"
    };
    reader.blame(found, Fault::Missing { key, advice });
}

fn freshness(word: FreshnessWord) -> Freshness {
    match word {
        FreshnessWord::Optimistic => Freshness::Optimistic,
        FreshnessWord::Cached => Freshness::Cached,
        FreshnessWord::Strict => Freshness::Strict,
    }
}

fn rule(
    found: &Found<RuleText>,
    beside: Option<&Found<FreshnessWord>>,
    reader: &mut Reader<'_>,
) -> Rule {
    let inside = match &found.value {
        RuleText::Table(table) => table.freshness.as_ref(),
        RuleText::Word(_) => None,
    };
    if let (Some(inside), Some(beside)) = (inside, beside)
        && inside.value != beside.value
    {
        reader.blame(
            inside,
            Fault::Conflict {
                what: "`freshness` is given twice, and differently".into(),
                advice: "keep it beside the rule or in it",
            },
        );
    }
    let asked = inside.or(beside);
    let freshness = asked.map_or(Freshness::Cached, |f| freshness(f.value));
    let need = match &found.value {
        RuleText::Word(RuleWord::Public) => Need::Public,
        RuleText::Word(RuleWord::Optional) => Need::Optional,
        RuleText::Word(RuleWord::Guest) => Need::Guest,
        RuleText::Word(RuleWord::Deny) => Need::Deny,
        RuleText::Word(RuleWord::SignedIn) => Need::SignedIn(Conditions::default()),
        RuleText::Table(table) => Need::SignedIn(conditions(found, table, reader)),
    };
    if let Some(asked) = asked {
        if freshness == Freshness::Optimistic {
            for condition in needs_lookup(&need) {
                reader.blame(asked, Fault::Optimistic { condition });
            }
        }
        if matches!(need, Need::Public | Need::Deny) {
            reader.blame(
                asked,
                Fault::Suspicious {
                    what: "this rule looks nobody up, so `freshness` does nothing".into(),
                    advice: "remove it",
                },
            );
        }
    }
    Rule { need, freshness }
}

/// What cannot be known without a lookup.
fn needs_lookup(need: &Need) -> Vec<&'static str> {
    match need {
        Need::Guest => vec!["guest"],
        Need::Public | Need::Optional | Need::Deny => Vec::new(),
        Need::SignedIn(conditions) => [
            (!conditions.role.is_empty(), "role"),
            (
                !conditions.organization_role.is_empty(),
                "organization_role",
            ),
            (conditions.email_verified, "email_verified"),
            (conditions.step_up.is_some(), "step_up"),
        ]
        .into_iter()
        .filter_map(|(asked, name)| asked.then_some(name))
        .collect(),
    }
}

fn conditions(found: &Found<RuleText>, table: &RuleTable, reader: &mut Reader<'_>) -> Conditions {
    for roles in table.role.iter().chain(&table.organization_role) {
        if roles.value.is_empty() {
            reader.blame(roles, form("an empty list of roles would ask for none", "list the roles that may pass, as [\"admin\"]; for nobody, the rule is \"deny\""));
        }
        for role in &roles.value {
            if role.value.trim().is_empty() || role.value.contains(',') {
                reader.blame(
                    role,
                    form(
                        "this is no role",
                        "write one role for each entry, without commas",
                    ),
                );
            }
        }
    }
    if let Some(no) = table.email_verified.as_ref().filter(|f| !f.value) {
        reader.blame(
            no,
            form(
                "`false` asks for nothing",
                "write `email_verified = true`, or remove it",
            ),
        );
    }
    if let Some(kinds) = table.credentials.as_ref().filter(|f| f.value.is_empty()) {
        reader.blame(
            kinds,
            form(
                "an empty list would accept every kind",
                "list the kinds that count, as [\"session\"]",
            ),
        );
    }
    let says_nothing = table.role.is_none()
        && table.organization_role.is_none()
        && table.email_verified.is_none()
        && table.step_up.is_none()
        && table.credentials.is_none()
        && table.freshness.is_none();
    let told = || {
        reader
            .problems
            .iter()
            .any(|(_, key, _)| key.starts_with(&found.key) && *key != found.key)
    };
    if says_nothing && !told() {
        reader.blame(
            found,
            form(
                "the table holds no condition",
                "write `rule = \"signed-in\"` for everyone who is signed in",
            ),
        );
    }
    Conditions {
        role: values(table.role.as_ref()),
        organization_role: values(table.organization_role.as_ref()),
        email_verified: value(table.email_verified.as_ref(), false),
        step_up: table
            .step_up
            .as_ref()
            .map(|f| bounded(reader, Some(f), HOUR, SECOND..=COOKIE_AGE_MAX)),
        credentials: values(table.credentials.as_ref())
            .into_iter()
            .map(|kind| CredentialWord::as_str(kind).to_owned())
            .collect(),
    }
}

fn source(found: &Found<Path>, line: Option<usize>, reader: &mut Reader<'_>) -> SourceSpec {
    match &found.value {
        Path::Plain(source) => {
            begins_with_slash(found, source, reader);
            SourceSpec {
                source: source.clone(),
                line,
                has: Vec::new(),
                missing: Vec::new(),
                locale: true,
            }
        }
        Path::Table(table) => {
            let source = table
                .source
                .as_ref()
                .map(|f| f.value.clone())
                .unwrap_or_default();
            begins_with_slash(found, &source, reader);
            SourceSpec {
                source,
                line,
                has: conditions_of(table.has.as_ref(), reader),
                missing: conditions_of(table.missing.as_ref(), reader),
                locale: value(table.locale.as_ref(), true),
            }
        }
    }
}

fn begins_with_slash(found: &Found<Path>, source: &str, reader: &mut Reader<'_>) {
    if !source.starts_with('/') {
        reader.blame(
            found,
            form(
                format!("`{}` does not begin with `/`", short(source)),
                "write sources as Next.js does: \"/admin\", \"/admin/:path*\", \"/:locale/admin\"",
            ),
        );
    }
}

fn conditions_of(
    list: Option<&Found<Vec<Found<super::file::Condition>>>>,
    reader: &mut Reader<'_>,
) -> Vec<ConditionSpec> {
    let mut out = Vec::new();
    for found in list.iter().flat_map(|list| &list.value) {
        let table = &found.value;
        let key = table.key.as_ref().map(|f| f.value.clone());
        let Some(kind) = &table.r#type else {
            let told = reader
                .problems
                .iter()
                .any(|(_, key, _)| *key == format!("{}.type", found.key));
            if !told {
                reader.blame(
                    found,
                    Fault::Missing {
                        key: "type",
                        advice: "write `type = \"header\"`, \"cookie\", \"query\" or \"host\"",
                    },
                );
            }
            continue;
        };
        let on = match (kind.value, key) {
            (ConditionWord::Host, None) => ConditionOn::Host,
            (ConditionWord::Header, Some(name)) => ConditionOn::Header(name.to_ascii_lowercase()),
            (ConditionWord::Cookie, Some(name)) => ConditionOn::Cookie(name),
            (ConditionWord::Query, Some(name)) => ConditionOn::Query(name),
            (ConditionWord::Host, Some(_)) => {
                reader.blame(
                    found,
                    form(
                        "a condition on the host has no key",
                        "write `{ type = \"host\", value = \"app.example.com\" }`",
                    ),
                );
                continue;
            }
            (ConditionWord::Header | ConditionWord::Cookie | ConditionWord::Query, None) => {
                reader.blame(
                    found,
                    Fault::Missing {
                        key: "key",
                        advice: "name the header, cookie or query parameter",
                    },
                );
                continue;
            }
        };
        if on == ConditionOn::Host && table.value.is_none() {
            reader.blame(
                found,
                Fault::Missing {
                    key: "value",
                    advice: "say which host",
                },
            );
        }
        out.push(ConditionSpec {
            on,
            value: table.value.as_ref().map(|f| f.value.clone()),
        });
    }
    out
}

/// Whoever sends the header, cookie or query chooses the rule.
fn warn_of_bypasses(path: &Found<Vec<Found<Path>>>, rule: &Rule, reader: &mut Reader<'_>) {
    if !matches!(rule.need, Need::Public | Need::Optional | Need::Guest) {
        return;
    }
    for found in &path.value {
        let Path::Table(table) = &found.value else {
            continue;
        };
        let chosen = table
            .has
            .iter()
            .chain(&table.missing)
            .flat_map(|list| &list.value)
            .any(|condition| {
                condition
                    .value
                    .r#type
                    .as_ref()
                    .is_some_and(|kind| kind.value != ConditionWord::Host)
            });
        if chosen {
            reader.blame(
                found,
                Fault::Risky {
                    what: "anyone can send what this condition asks for, and so make these paths public".into(),
                    advice: "let conditions on headers, cookies and queries only make rules stricter",
                },
            );
        }
    }
}

/// The plain cases; the table of routes finds those behind patterns.
fn closes_sign_in(
    path: &Found<Vec<Found<Path>>>,
    rule: &Rule,
    table: &Route,
    sign_in: Option<&str>,
    auth_base_path: &str,
    reader: &mut Reader<'_>,
) {
    if !matches!(rule.need, Need::SignedIn(_) | Need::Deny) {
        return;
    }
    // Narrowed to some methods or hosts, or under conditions, it may well be what is wanted.
    if table.methods.is_some() || table.hosts.is_some() {
        return;
    }
    for found in &path.value {
        let Path::Plain(source) = &found.value else {
            continue;
        };
        let page = if sign_in == Some(source.as_str()) {
            "the sign-in page"
        } else if ["/:path*", "/:path+", "/(.*)"]
            .iter()
            .any(|rest| source.strip_suffix(rest) == Some(auth_base_path))
        {
            "Better Auth's endpoints"
        } else {
            continue;
        };
        reader.blame(found, Fault::NobodyCouldSignIn { page });
    }
}

fn route_hosts(table: &Route, hosts: &[String], reader: &mut Reader<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for found in table.hosts.iter().flat_map(|list| &list.value) {
        match host(&found.value) {
            Ok(name) => {
                let answered = hosts.is_empty()
                    || hosts
                        .iter()
                        .any(|pattern| covers(pattern, &name) || pattern == &name)
                    || name.starts_with('*');
                if !answered {
                    reader.blame(
                        found,
                        Fault::Suspicious {
                            what: format!("`{name}` is not among `hosts`, so this never matches"),
                            advice: "add it to `hosts`, or remove it here",
                        },
                    );
                }
                out.push(name);
            }
            Err(what) => reader.blame(
                found,
                form(
                    what,
                    "write names only, without scheme, port or path: \"app.example.com\"",
                ),
            ),
        }
    }
    out
}

// --- the rest ---

fn identity(file: &File, origin: &str, reader: &mut Reader<'_>) -> identity::Settings {
    let table = file.identity.as_ref().map(|f| &f.value);
    for text in table
        .iter()
        .flat_map(|t| t.issuer.iter().chain(&t.audience))
    {
        if text.value.is_empty() {
            reader.blame(
                text,
                form("it is empty", "remove it: the default is `public_url`"),
            );
        }
    }
    let key = table.and_then(|t| t.key.as_ref());
    if let Some(found) = key {
        let letters = found.value.0.expose().chars().count();
        if letters < SECRET_LETTERS_MIN {
            reader.blame(
                found,
                form(
                    format!("the key has {letters} letters; under 32 it can be guessed"),
                    "make one with `openssl rand -base64 32`",
                ),
            );
        }
    }
    let text = |found: Option<&Found<String>>| {
        found.map_or_else(|| origin.to_owned(), |f| f.value.clone())
    };
    identity::Settings {
        preset: value(table.and_then(|t| t.preset.as_ref()), Preset::Vestibule).as_str(),
        assertion: value(table.and_then(|t| t.assertion.as_ref()), true),
        issuer: text(table.and_then(|t| t.issuer.as_ref())),
        audience: text(table.and_then(|t| t.audience.as_ref())),
        lifetime: bounded(
            reader,
            table.and_then(|t| t.lifetime.as_ref()),
            MINUTE,
            SECOND..=MINUTE,
        ),
        key: key.map(|f| f.value.0.clone()),
    }
}

fn cors(file: &File, reader: &mut Reader<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for found in file
        .cors
        .iter()
        .filter_map(|f| f.value.origins.as_ref())
        .flat_map(|list| &list.value)
    {
        match origin(&found.value) {
            Some(url) => out.push(origin_of(&url)),
            None => reader.blame(
                found,
                form(
                    format!("`{}` is no origin", short(&found.value)),
                    "write scheme and host (and port), as \"https://app.example.com\"; `*` cannot be used where cookies are sent",
                ),
            ),
        }
    }
    out
}

fn limits(file: &File, reader: &mut Reader<'_>) -> server::Limits {
    let table = file.limits.as_ref().map(|f| &f.value);
    let mut size = |found: Option<&Found<super::read::Size>>, default: u64, max: u64| {
        let bytes = found.map(|f| Found {
            value: f.value.0,
            at: f.at.clone(),
            key: f.key.clone(),
        });
        usize::try_from(count(reader, bytes.as_ref(), default, 1024..=max)).unwrap_or(usize::MAX)
    };
    let header_bytes = size(
        table.and_then(|t| t.header_bytes.as_ref()),
        32 << 10,
        1 << 20,
    );
    let target_bytes = size(
        table.and_then(|t| t.target_bytes.as_ref()),
        8 << 10,
        1 << 20,
    );
    let connections_idle = count(
        reader,
        table.and_then(|t| t.connections_idle.as_ref()),
        512,
        1..=1_000_000,
    );
    server::Limits {
        header_bytes,
        target_bytes,
        body_bytes: table
            .and_then(|t| t.body_bytes.as_ref())
            .map_or(100 << 20, |f| {
                // Zero bytes means "no limit" to the server; nobody who writes it means that.
                if f.value.0 == Some(0) {
                    reader.blame(
                        f,
                        form(
                            "no body at all could be sent",
                            "write a size, or \"unlimited\"",
                        ),
                    );
                }
                f.value.0.unwrap_or(0)
            }),
        connections_idle: usize::try_from(connections_idle).unwrap_or(usize::MAX),
    }
}

fn timeouts(file: &File, reader: &mut Reader<'_>) -> server::Timeouts {
    let table = file.timeouts.as_ref().map(|f| &f.value);
    let wait = SECOND / 10..=DAY;
    server::Timeouts {
        idle: bounded(
            reader,
            table.and_then(|t| t.idle.as_ref()),
            MINUTE,
            wait.clone(),
        ),
        body_read: bounded(
            reader,
            table.and_then(|t| t.body_read.as_ref()),
            30 * SECOND,
            wait.clone(),
        ),
        response_write: bounded(
            reader,
            table.and_then(|t| t.response_write.as_ref()),
            30 * SECOND,
            wait.clone(),
        ),
        tunnel_idle: bounded(
            reader,
            table.and_then(|t| t.tunnel_idle.as_ref()),
            HOUR,
            wait,
        ),
        stop: bounded(
            reader,
            table.and_then(|t| t.stop.as_ref()),
            25 * SECOND,
            Duration::ZERO..=DAY,
        ),
    }
}

fn log(file: &File) -> telemetry::Settings {
    let table = file.log.as_ref().map(|f| &f.value);
    telemetry::Settings {
        level: value(table.and_then(|t| t.level.as_ref()), Level::Info)
            .as_str()
            .to_owned(),
        json: value(table.and_then(|t| t.format.as_ref()), LogFormat::Text) == LogFormat::Json,
        access: value(table.and_then(|t| t.access.as_ref()), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_nothing_more() {
        for fine in [
            "app.example.com",
            "*.example.com",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "App.Example.com",
        ] {
            assert!(host(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "",
            "*",
            "https://a.b",
            "a.b:80",
            "a.b/c",
            "*.*.b",
            "a.*.b",
            "a b",
            "0x7f.1",
            "::1",
            "a@b",
        ] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
        assert!(
            covers("*.example.com", "a.example.com") && !covers("*.example.com", "example.com")
        );
    }

    #[test]
    fn offsets_are_read_exactly() {
        for (text, seconds) in [
            ("UTC", Some(0)),
            ("+02:00", Some(7200)),
            ("-0530", Some(-19_800)),
            ("+14:00", Some(50_400)),
        ] {
            assert_eq!(zone_offset(text), seconds, "{text}");
        }
        for wrong in [
            "",
            "2",
            "+2",
            "Europe/Berlin",
            "+15:00",
            "+01:60",
            "02:00",
            "+1:000",
            "é",
        ] {
            assert_eq!(zone_offset(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn databases_come_out_in_one_spelling() {
        for (text, url) in [
            ("sqlite:app.db", "sqlite:app.db"),
            ("file:./dev.db", "sqlite:./dev.db"),
            ("sqlite:///var/app.db", "sqlite:/var/app.db"),
            ("postgresql://u:p@h/d", "postgres://u:p@h/d"),
            ("mysql://h/d", "mysql://h/d"),
        ] {
            assert_eq!(database(text).expect(text).expose(), url);
        }
        for wrong in [
            "",
            "sqlite:",
            "app.db",
            "postgres:",
            "postgres:h/d",
            "mongodb://h",
            "sqlite::memory:",
            "redis://h",
        ] {
            assert!(database(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_odd_is_a_web_address() {
        for fine in ["https://a.b", "http://localhost:3000/x"] {
            assert!(web_url(fine).is_some(), "{fine}");
        }
        for wrong in [
            "a.b",
            "ftp://a.b",
            "https://u:p@a.b",
            "https:a.b",
            "https:///a.b",
            "javascript:alert(1)",
            "https://a.b\\c",
            "//a.b",
        ] {
            assert!(web_url(wrong).is_none(), "{wrong}");
        }
        assert!(origin("https://a.b/").is_some() && origin("https://a.b/c").is_none());
    }
}
