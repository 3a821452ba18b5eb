//! From what the file says to what the modules take: defaults, the names the app already has, and the checks that need more
//! than one key.

mod auth;
mod forward_auth;
mod jwt;
mod limits;
mod migration;
mod migration_sign_in;
mod revocation;
mod routes;
mod sessions;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use url::{Host, Url};

use super::file::{
    AdminAddress, AlgorithmWord, ApiKey, Attributes, BetterAuth, Caching, Claims, ConditionWord,
    CookieCache, Day, FeedWord, File, FreshnessWord, Issuer, Jwt, KeyStorage, KeyUsage, KeysWord,
    Level, LogFormat, Migration, Path, Preset, Route, RuleTable, RuleText, RuleWord, SameSite,
    Sessions, SignUpWord, SlidingWord, Threads, Upstream, VersionedSecret,
};
use super::node::{At, Node, Value};
use super::problem::Fault;
use super::read::{Found, Read as _, Reader, SecretText, is_page_path, short, unknown_word};
use super::{Build, BuildRead, Config, Sliding, is_written};
use crate::app::NextJs;
use crate::policy::{Conditions, Need, Rule};
use crate::route::{ConditionOn, ConditionSpec, RouteSpec, SourceSpec};
use crate::secret::Secret;
use crate::session::Freshness;
use crate::session::Keeper;
use crate::{
    api_key, authenticator, credential, identity, policy, route, server, session, store, telemetry,
};

use auth::*;
use forward_auth::*;
use jwt::*;
use limits::*;
use migration::*;
use migration_sign_in::*;
use revocation::*;
use routes::*;
use sessions::*;
use upstream::*;

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
pub(super) fn compose(
    file: &File,
    tree: &Node,
    read_build: BuildRead<'_>,
    reader: &mut Reader<'_>,
) -> Config {
    let build = build(file, read_build, reader);
    let nextjs = nextjs(file, build.as_ref(), reader);
    let fallback = BetterAuth::default();
    let auth = file.better_auth.as_ref().map_or(&fallback, |f| &f.value);
    let base_url = base_url(auth, reader);
    let listen = listen(file, reader);
    let public_url = public_url(file, tree, base_url.as_ref(), &listen, reader);
    let hosts = hosts(file, public_url.as_ref(), reader);
    let upstreams = upstreams(file, tree, reader);
    let origin = public_url.as_ref().map(origin_of).unwrap_or_default();
    let own_origin = base_url
        .as_ref()
        .map_or_else(|| origin.clone(), |found| origin_of(&found.value));
    let secrets = secrets(auth, tree, reader);
    let keeper = keeper(file);
    let cookies = cookies(auth, base_url.as_ref(), public_url.as_ref(), keeper, reader);
    let redirects = redirects(file, public_url.as_ref(), &nextjs, reader);
    let routes = routes(
        file,
        tree,
        &upstreams,
        &hosts,
        &redirects.sign_in,
        nextjs,
        reader,
    );
    let (admin, admin_token) = admin(file, &listen, reader);
    check_proxies(file, reader);
    if keeper == Keeper::Cookie {
        refuse_strict(file, reader);
    }
    let app = store::App {
        cookies: cookies.clone(),
        secret: secrets.current.clone(),
        public_url: origin.clone(),
        own_host: false,
    };
    let store = store(file, auth, tree, app, reader);
    let authenticator = authenticator(auth, keeper, &own_origin, reader);
    check_credentials(file, &authenticator.enabled, reader);
    Config {
        build,
        migration: migration(file, tree, store.as_ref(), &origin, reader),
        revocation: revocation(file, reader),
        api_keys: api_keys(auth, reader),
        authenticator,
        sessions: sessions(file, auth, reader),
        door: door(file, auth, reader),
        sliding: sliding(file, auth, store.as_ref(), reader),
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
            forward_auth: forward_auth(file, reader),
        },
        cookies,
        secrets,
        redirects,
        routes,
        store,
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
            ("valkey://h/1", "redis://h/1"),
            ("rediss://u:p@h", "rediss://u:p@h"),
            ("redis+unix:///run/s", "redis+unix:///run/s"),
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
            "redis:h",
            "redis://",
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
