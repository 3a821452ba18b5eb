//! The configuration and the command line, as an operator meets them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use vestibule::authenticator::jwt::Keys;
use vestibule::cli::{self, Edges, World};
use vestibule::config::{
    self, Config, Loaded, Override, Problems, RouteFinding, Severity, Sources, Style,
};
use vestibule::policy::Need;
use vestibule::session::Freshness;

const SECRET: &str = "Zk3x-a-secret-of-more-than-thirty-two-letters";

/// A configuration without anything wrong in it.
const FINE: &str = r#"
[upstream]
url = "http://127.0.0.1:3000"
[better_auth]
secret = { env = "BETTER_AUTH_SECRET" }
[sessions]
source = "sqlite:app.db"
[routes]
default = "signed-in"
"#;

type Environment = BTreeMap<String, String>;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    let mut all = BTreeMap::from([("BETTER_AUTH_SECRET".to_owned(), SECRET.to_owned())]);
    all.extend(
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    all
}

fn load_with(
    text: &str,
    environment: &Environment,
    overrides: &[Override],
) -> Result<Loaded, Problems> {
    let read_file = |path: &Path| match path.to_str() {
        Some("/run/secret") => Ok(format!("{SECRET}-from-file\n")),
        Some("/run/empty") => Ok("\n".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    config::load(&Sources {
        name: "vestibule.toml",
        text,
        environment,
        overrides,
        read_file: &read_file,
        route_check: config::no_route_check,
        read_build: &config::no_build,
    })
}

fn load(text: &str) -> Result<Loaded, Problems> {
    load_with(text, &environment(&[]), &[])
}

pub fn fine(text: &str) -> Config {
    load(text)
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
        .config
}

/// `line:column key: message | advice`, errors and warnings alike.
fn told(outcome: &Result<Loaded, Problems>) -> Vec<String> {
    let problems = match outcome {
        Ok(loaded) => &loaded.warnings,
        Err(problems) => problems,
    };
    problems
        .iter()
        .map(|p| {
            let place = match (p.line, p.column) {
                (Some(line), Some(column)) => format!("{line}:{column} "),
                _ => String::new(),
            };
            format!("{place}{}: {} | {}", p.key, p.fault, p.fault.advice())
        })
        .collect()
}

/// The configuration with something more in it.
fn with(more: &str) -> String {
    format!("{FINE}{more}")
}

/// The configuration with one key put in the section that holds it.
fn keyed(section: &str, line: &str) -> String {
    if section.is_empty() {
        return format!("{line}\n{FINE}");
    }
    let heading = format!("[{section}]\n");
    if FINE.contains(&heading) {
        FINE.replace(&heading, &format!("{heading}{line}\n"))
    } else {
        format!("{FINE}{heading}{line}\n")
    }
}

#[track_caller]
fn refused(text: &str, wanted: &str) {
    let outcome = load(text);
    assert!(outcome.is_err(), "accepted:\n{text}");
    let all = told(&outcome);
    assert!(
        all.iter().any(|p| p.contains(wanted)),
        "wanted {wanted:?}, got {all:#?}"
    );
}

#[track_caller]
fn warned(text: &str, wanted: &str) {
    let outcome = load(text);
    let all = told(&outcome);
    assert!(outcome.is_ok(), "refused: {all:#?}");
    assert!(
        all.iter().any(|p| p.contains(wanted)),
        "wanted {wanted:?}, got {all:#?}"
    );
}

#[track_caller]
fn clean(text: &str) {
    let outcome = load(text);
    assert!(
        outcome.is_ok() && told(&outcome).is_empty(),
        "{:#?}\n{text}",
        told(&outcome)
    );
}

#[test]
fn the_least_configuration_loads_without_a_word() {
    clean(FINE);
    let config = fine(FINE);
    assert_eq!(config.server.public_url, "http://localhost:8080");
    assert_eq!(config.server.hosts, ["localhost", "127.0.0.1", "[::1]"]);
    assert_eq!(config.secrets.current.expose(), SECRET);
    assert_eq!(config.sessions.cache_ttl, Duration::from_secs(30));
    assert_eq!(config.sessions.entries_max, 1_000_000);
    assert_eq!(
        config.store.map(|s| s.url.expose().to_owned()).as_deref(),
        Some("sqlite:app.db")
    );
    assert_eq!(config.routes.sign_in_path.as_deref(), Some("/sign-in"));
}

#[test]
fn every_problem_is_told_at_once_with_place_key_and_advice() {
    let text = r#"listen = "8080"
publik_url = "https://a.b"

[upstream]
url = "http://127.0.0.1:3000/app"
connect_timeout = 5

[better_auth]
enable = ["multi_sessions"]

[sessions]
source = "sqlite:app.db"
cahce_ttl = "5s"
timeout = "5"

[routes]
sign_in = "//evil"

[[route]]
path = "/admin"
rule = "signedin"
upstream = "api"
"#;
    let outcome = load_with(text, &Environment::new(), &[]);
    assert_eq!(
        told(&outcome),
        [
            "1:10 listen: `8080` is no address with a port | write an IP address and a port: \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\"",
            "2:1 publik_url: unknown key `publik_url` | did you mean `public_url`?",
            "5:7 upstream.url: `http://127.0.0.1:3000/app` is no address of an app | write scheme, host and port, without a path: \"http://127.0.0.1:3000\"; paths are forwarded as they are",
            "6:19 upstream.connect_timeout: wants a duration with its unit in quotes, as \"30s\", and this is a number | write a duration with its unit in quotes, as \"30s\"",
            "8:1 better_auth.secret: `better_auth.secret` is missing | set BETTER_AUTH_SECRET as for the app, or write `secret = { env = \"NAME\" }` or `secret = { file = \"PATH\" }` under [better_auth]",
            "9:11 better_auth.enable[0]: `multi_sessions` is no kind of credential | did you mean `multi_session`?",
            "13:1 sessions.cahce_ttl: unknown key `cahce_ttl` | did you mean `cache_ttl`?",
            "14:11 sessions.timeout: `5` is no duration | write a whole number and a unit: \"250ms\", \"30s\", \"5m\", \"2h\" or \"7d\"",
            "16:1 routes.default: `routes.default` is missing | say what holds for paths without a route: `default = \"signed-in\"` under [routes]; there is no silent default",
            "17:11 routes.sign_in: `//evil` is neither a path nor a web address | write a path that begins with one `/`, as \"/sign-in\", or an address, as \"https://accounts.example.com/sign-in\"",
            "21:8 route[0].rule: `signedin` is no rule | did you mean `signed-in`?",
        ]
    );
}

#[test]
fn plain_text_names_file_line_key_and_advice() {
    let problems = load(&keyed("sessions", "cache_ttl = 30")).expect_err("a bare number");
    assert_eq!(
        problems.to_string(),
        "vestibule.toml:7:13: error: sessions.cache_ttl: wants a duration with its unit in quotes, as \"30s\", and this is a number\n    write a duration with its unit in quotes, as \"30s\"\n"
    );
    let terminal = problems.render(Style::Terminal { color: false });
    assert!(
        terminal.contains("cache_ttl = 30") && terminal.contains("vestibule.toml:7:13"),
        "{terminal}"
    );
    let json = problems.to_json();
    let first = &json["problems"][0];
    assert_eq!(
        (
            first["code"].as_str(),
            first["line"].as_u64(),
            first["severity"].as_str()
        ),
        (Some("wrong_type"), Some(7), Some("error"))
    );
}

#[test]
fn broken_toml_is_told_by_line_and_shows_no_values() {
    let problems =
        load("[better_auth]\nsecret = \"hunter2 hunter2\nlisten = hunter2\n").expect_err("broken");
    let (plain, terminal) = (
        problems.to_string(),
        problems.render(Style::Terminal { color: false }),
    );
    assert!(plain.contains("vestibule.toml:2:"), "{plain}");
    assert!(
        !plain.contains("hunter2") && !terminal.contains("hunter2"),
        "{plain}{terminal}"
    );
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_apps_names_over_the_default() {
    let file = keyed("sessions", "cache_ttl = \"10s\"");
    let flag = Override {
        key: "sessions.cache_ttl".into(),
        value: "40s".into(),
        flag: "--set".into(),
    };
    let ours = environment(&[("VESTIBULE_SESSIONS__CACHE_TTL", "20s")]);
    let ttl = |outcome: Result<Loaded, Problems>| {
        outcome.expect("fine").config.sessions.cache_ttl.as_secs()
    };
    assert_eq!(
        ttl(load_with(&file, &ours, std::slice::from_ref(&flag))),
        40
    );
    assert_eq!(ttl(load_with(&file, &ours, &[])), 20);
    assert_eq!(ttl(load_with(&file, &environment(&[]), &[])), 10);
    assert_eq!(ttl(load_with(FINE, &environment(&[]), &[])), 30);

    let source = |text: &str, pairs: &[(&str, &str)]| {
        let config = load_with(text, &environment(pairs), &[])
            .unwrap_or_else(|p| panic!("{p}"))
            .config;
        config.store.expect("a store").url.expose().to_owned()
    };
    let without = FINE.replace("source = \"sqlite:app.db\"\n", "");
    let app = ("DATABASE_URL", "postgresql://u:p@h/d");
    assert_eq!(source(&without, &[app]), "postgres://u:p@h/d");
    assert_eq!(source(FINE, &[app]), "sqlite:app.db");
    assert_eq!(
        source(FINE, &[app, ("VESTIBULE_SESSIONS__SOURCE", "mysql://h/d")]),
        "mysql://h/d"
    );
}

#[test]
fn variables_reach_lists_nested_keys_and_secrets() {
    let set = environment(&[
        ("VESTIBULE_LISTEN", "127.0.0.1:1, 127.0.0.1:2"),
        ("VESTIBULE_UPSTREAM__URL", "http://app:1"),
        ("VESTIBULE_UPSTREAMS__API__URL", "http://api:2"),
        ("VESTIBULE_ADMIN_TOKEN__FILE", "/run/secret"),
        ("VESTIBULE_NEXTJS__TRAILING_SLASH", "true"),
        ("VESTIBULE_SESSIONS__MAX_CACHED", "5"),
        ("VESTIBULE_CONFIG", "elsewhere"),
        // What orchestrators set for a service of this name.
        ("VESTIBULE_PORT", "tcp://10.0.0.1:80"),
        ("VESTIBULE_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("VESTIBULE_SERVICE_HOST", "10.0.0.1"),
    ]);
    let config = load_with(FINE, &set, &[])
        .unwrap_or_else(|p| panic!("{p}"))
        .config;
    assert_eq!(config.server.listen.len(), 2);
    assert_eq!(
        config
            .server
            .upstreams
            .iter()
            .map(|u| u.addresses[0].host.as_str())
            .collect::<Vec<_>>(),
        ["app", "api"]
    );
    assert_eq!(
        config.server.admin_token.map(|t| t.expose().to_owned()),
        Some(format!("{SECRET}-from-file"))
    );
    assert!(config.routes.nextjs.trailing_slash);
    assert_eq!(config.sessions.entries_max, 5);

    let wrong = load_with(
        FINE,
        &environment(&[("VESTIBULE_SESSIONS__CACHETTL", "5s")]),
        &[],
    );
    let text = wrong.expect_err("a misspelt variable").to_string();
    assert!(
        text.starts_with("environment variable VESTIBULE_SESSIONS__CACHETTL: error:")
            && text.contains("did you mean `cache_ttl`?"),
        "{text}"
    );
}

#[test]
fn secrets_come_as_text_from_the_environment_or_from_a_file() {
    let given = |form: &str| FINE.replace("{ env = \"BETTER_AUTH_SECRET\" }", form);
    assert_eq!(
        fine(&given("{ file = \"/run/secret\" }"))
            .secrets
            .current
            .expose(),
        format!("{SECRET}-from-file")
    );
    assert_eq!(
        fine(&given(&format!("\"{SECRET}\"")))
            .secrets
            .current
            .expose(),
        SECRET
    );
    refused(
        &given("{ env = \"NOT_SET\" }"),
        "the environment variable NOT_SET is not set",
    );
    refused(
        &given("{ file = \"/run/none\" }"),
        "the file cannot be read",
    );
    refused(&given("{ file = \"/run/empty\" }"), "the file is empty");
    refused(
        &given("{ file = \"/run/secret\", env = \"X\" }"),
        "neither or both",
    );
    refused(&given("\"\""), "it is empty");
    refused(
        &given("{ environment = \"X\" }"),
        "unknown key `environment`",
    );
    refused(
        &given("\"better-auth-secret-12345678901234567890\""),
        "5:10 better_auth.secret: this is Better Auth's published default secret",
    );
    warned(&given("\"short\""), "the secret has 5 letters");
    for key in [
        "[sessions]\nsource = { env = \"DB\" }",
        "admin_token = { env = \"DB\" }",
        "[identity]\nkey = { env = \"DB\" }",
    ] {
        let text = match key.strip_prefix("[sessions]\n") {
            Some(line) => FINE.replace("source = \"sqlite:app.db\"", line),
            None if key.starts_with('[') => with(key),
            None => keyed("", key),
        };
        let set = environment(&[("DB", "sqlite:a-database-with-a-rather-long-name.db")]);
        assert!(load_with(&text, &set, &[]).is_ok(), "{key}");
        refused(&text, "DB is not set");
    }
}

#[test]
fn of_several_secrets_the_first_is_current() {
    let none = FINE.replace("secret = { env = \"BETTER_AUTH_SECRET\" }\n", "");
    let names = |outcome: Result<Loaded, Problems>| {
        let secrets = outcome.unwrap_or_else(|p| panic!("{p}")).config.secrets;
        let mut all = vec![secrets.current.expose().to_owned()];
        all.extend(secrets.older.iter().map(|s| s.expose().to_owned()));
        all
    };
    let (new, old) = (format!("new-{SECRET}"), format!("old-{SECRET}"));
    let list = format!("2:{new},1:{old}");
    // Beside the list, the single one is from before there was a list.
    let expected = [new.clone(), old.clone(), SECRET.to_owned()];
    assert_eq!(
        names(load_with(
            &none,
            &environment(&[("BETTER_AUTH_SECRETS", &list)]),
            &[]
        )),
        expected
    );
    let file = none.replace(
        "[better_auth]\n",
        &format!("[better_auth]\nsecrets = [{{ version = 2, value = \"{new}\" }}, \"1:{old}\"]\n"),
    );
    assert_eq!(names(load(&file)), expected);
    assert_eq!(names(load(&none)), [SECRET.to_owned()]);
    let auth = Environment::from([("AUTH_SECRET".to_owned(), old.clone())]);
    assert_eq!(
        names(load_with(&none, &auth, &[])),
        std::slice::from_ref(&old)
    );

    refused(
        &file.replace("\"1:", "\"2:"),
        "better_auth.secrets[1]: version 2 stands twice",
    );
    refused(&file.replace("\"1:", "\"x:"), "no number and secret");
    let both = load_with(FINE, &environment(&[("BETTER_AUTH_SECRETS", &list)]), &[]);
    assert!(
        told(&both)
            .iter()
            .any(|p| p.contains("BETTER_AUTH_SECRETS is set, and Better Auth prefers it")),
        "{:?}",
        told(&both)
    );
    assert!(load_with(&none, &Environment::new(), &[]).is_err());
}

#[test]
fn no_secret_is_ever_shown() {
    let text = r#"
# secret = "hunter2-in-a-comment"
admin_token = ["hunter2-in-a-list"]
[upstream]
url = "http://user:hunter2@127.0.0.1:3000"
[better_auth]
secrte = "hunter2-misspelt"
secret = "hunter2"
secrets = ["x:hunter2-in-secrets", { version = 1, valeu = "hunter2-in-table" }]
enable = ["nonsense"]
[sessions]
source = "postgres:user:hunter2@h/d"
sauce = "hunter2-unknown"
timeout = 5
[routes]
defualt = 5
[identity]
key = "hunter2"
"#;
    // What a variable overrides is a secret still.
    let set = environment(&[
        ("VESTIBULE_BETTER_AUTH__SECRET", "hunter2-from-outside"),
        ("VESTIBULE_SESSIONS__SOURCE", "hunter2:x"),
    ]);
    for outcome in [load(text), load_with(text, &set, &[])] {
        let problems = outcome.expect_err("a lot is wrong");
        let all = [
            problems.to_string(),
            problems.render(Style::Terminal { color: true }),
            problems.to_json().to_string(),
            format!("{problems:?}"),
        ];
        for shown in all {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("timeout"), "{shown}");
        }
    }
    let config = fine(&FINE.replace(
        "{ env = \"BETTER_AUTH_SECRET\" }",
        "\"hunter2-hunter2-hunter2-hunter2-hunter2\"",
    ));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn each_refusal_has_a_twin_that_passes() {
    let key = keyed;
    // (section, refused line, what is said, line that passes)
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            "",
            "public_url = \"app.example.com\"",
            "is no web address",
            "public_url = \"https://app.example.com\"",
        ),
        (
            "",
            "public_url = \"https://app.example.com/shop\"",
            "is more than an origin",
            "public_url = \"https://app.example.com:8443\"",
        ),
        (
            "",
            "public_url = \"https://u:p@app.example.com\"",
            "is no web address",
            "public_url = \"https://app.example.com/\"",
        ),
        (
            "",
            "hosts = [\"https://localhost\"]",
            "is no host",
            "hosts = [\"localhost\"]",
        ),
        (
            "",
            "hosts = [\"localhost\", \"*\"]",
            "is no host",
            "hosts = [\"localhost\", \"*.localhost\"]",
        ),
        (
            "",
            "hosts = []",
            "no host is listed",
            "hosts = [\"LOCALHOST\"]",
        ),
        (
            "",
            "trusted_proxies = [\"10.0.0.0/33\"]",
            "no address and no network",
            "trusted_proxies = [\"10.0.0.0/8\", \"::1\"]",
        ),
        ("", "threads = 0", "from 1 to 1024", "threads = 2"),
        (
            "",
            "threads = \"2\"",
            "and this is text",
            "threads = \"auto\"",
        ),
        (
            "",
            "admin = \"127.0.0.1:8080\"\nlisten = \"127.0.0.1:8080\"",
            "the admin listener has the address",
            "admin = \"off\"",
        ),
        (
            "tls",
            "cert = \"a.pem\"",
            "`key` is missing",
            "cert = \"a.pem\"\nkey = \"b.pem\"",
        ),
        (
            "upstreams.api",
            "url = \"127.0.0.1:4000\"",
            "no address of an app",
            "url = \"https://api.internal\"",
        ),
        (
            "upstreams.api",
            "connect_timeout = \"1s\"",
            "`url` is missing",
            "urls = [\"http://a:1\", \"http://b:2\"]",
        ),
        (
            "upstreams.app",
            "url = \"http://a:1\"",
            "`app` is the name of",
            "",
        ),
        (
            "upstreams.api",
            "url = \"http://a:1\"\nconnect_timeout = \"0s\"",
            "must be from",
            "url = \"http://a:1\"\nconnect_timeout = \"1ms\"",
        ),
        (
            "better_auth",
            "upstream = \"auth\"",
            "`auth` is no upstream",
            "upstream = \"app\"",
        ),
        (
            "better_auth",
            "enable = [\"multi_sesion\"]",
            "did you mean `multi_session`?",
            "enable = [\"multi_session\"]",
        ),
        (
            "better_auth",
            "enable = [\"cookie_cache\"]\ncookie_cache = { strategy = \"compakt\" }",
            "did you mean `compact`?",
            "enable = [\"cookie_cache\"]\ncookie_cache = { strategy = \"jwt\", version = \"2\" }",
        ),
        (
            "better_auth",
            "base_path = \"/api/auth/\"",
            "more than Better Auth",
            "base_path = \"/auth\"",
        ),
        (
            "better_auth",
            "cookie_prefix = \"__Secure-x\"",
            "prefixes of browsers",
            "cookie_prefix = \"my-app\"",
        ),
        (
            "better_auth",
            "cross_subdomain = true",
            "`better_auth.cookie_domain` is missing",
            "cross_subdomain = true\ncookie_domain = \"example.com\"",
        ),
        (
            "better_auth",
            "names = { sesion_token = \"x\" }",
            "did you mean `session_token`?",
            "names = { session_token = \"x\" }",
        ),
        (
            "better_auth",
            "expires_in = \"401d\"",
            "must be from",
            "expires_in = \"30d\"",
        ),
        (
            "better_auth",
            "default_attributes = { same_site = \"Lax\" }",
            "did you mean `lax`?",
            "default_attributes = { same_site = \"lax\" }",
        ),
        (
            "sessions",
            "zone = \"Europe/Berlin\"",
            "no offset from UTC",
            "zone = \"+01:00\"",
        ),
        (
            "sessions",
            "connections = 0",
            "from 1 to",
            "connections = 1",
        ),
        (
            "sessions",
            "connections = -1",
            "a negative number",
            "connections = 5",
        ),
        (
            "sessions",
            "max_cached_bytes = 512",
            "wants a size",
            "max_cached_bytes = \"512KiB\"",
        ),
        (
            "sessions",
            "cache_ttl = \"25h\"",
            "must be from 0s to 1d",
            "cache_ttl = \"0s\"",
        ),
        (
            "sessions",
            "schema = { tables = { sesion = \"s\" } }",
            "did you mean `session`?",
            "schema = { tables = { session = \"s\" } }",
        ),
        (
            "sessions",
            "schema = { columns = { userId = \"s\" } }",
            "is no column",
            "schema = { columns = { \"session.userId\" = \"s\" } }",
        ),
        (
            "nextjs",
            "base_path = \"docs\"",
            "is no base path",
            "base_path = \"/docs\"",
        ),
        (
            "nextjs",
            "locales = [\"en\"]\ndefault_locale = \"de\"",
            "`de` is no locale",
            "locales = [\"en\", \"de\"]\ndefault_locale = \"de\"",
        ),
        (
            "routes",
            "sign_in = \"https:example.com\"",
            "neither a path nor",
            "sign_in = \"https://example.com/in\"",
        ),
        (
            "routes",
            "sign_in = \"javascript:alert(1)\"",
            "neither a path nor",
            "sign_in = \"/in?tenant=x\"",
        ),
        (
            "routes",
            "signed_in_home = \"https://a.b\"",
            "is no path of a page",
            "signed_in_home = \"/home\"",
        ),
        (
            "routes",
            "return_param = \"a&b\"",
            "no name of a query parameter",
            "return_param = \"returnTo\"",
        ),
        (
            "identity",
            "lifetime = \"61s\"",
            "must be from 1s to 1m",
            "lifetime = \"60s\"",
        ),
        (
            "identity",
            "preset = \"oauth2proxy\"",
            "did you mean `oauth2-proxy`?",
            "preset = \"oauth2-proxy\"",
        ),
        (
            "identity",
            "key = \"short\"",
            "the key has 5 letters",
            "key = { file = \"/run/secret\" }",
        ),
        (
            "cors",
            "origins = [\"*\"]",
            "is no origin",
            "origins = [\"https://a.b\"]",
        ),
        (
            "cors",
            "origins = [\"https://a.b/c\"]",
            "is no origin",
            "origins = [\"http://localhost:5173\"]",
        ),
        (
            "limits",
            "body_bytes = \"0B\"",
            "no body at all",
            "body_bytes = \"unlimited\"",
        ),
        (
            "limits",
            "header_bytes = \"32kb\"",
            "is no size",
            "header_bytes = \"32KB\"",
        ),
        ("timeouts", "idle = \"0s\"", "must be from", "idle = \"1s\""),
        (
            "log",
            "level = \"verbose\"",
            "known are `error`, `warn`",
            "level = \"debug\"",
        ),
        (
            "log",
            "access = \"yes\"",
            "wants `true` or `false`",
            "access = false",
        ),
    ];
    for (section, wrong, said, right) in cases {
        refused(&key(section, wrong), said);
        if !right.is_empty() {
            clean(&key(section, right));
        }
    }
}

fn route(lines: &str) -> String {
    with(&format!("[[route]]\n{lines}\n"))
}

#[test]
fn each_wrong_route_is_refused_and_its_twin_passes() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "path = \"/a\"",
            "`rule` is missing",
            "path = \"/a\"\nrule = \"public\"",
        ),
        (
            "rule = \"public\"",
            "`path` is missing",
            "path = [\"/a\", \"/b\"]\nrule = \"public\"",
        ),
        (
            "path = []\nrule = \"public\"",
            "no path is listed",
            "path = [\"/a\"]\nrule = \"public\"",
        ),
        (
            "path = \"a\"\nrule = \"public\"",
            "does not begin with `/`",
            "path = \"/:a\"\nrule = \"public\"",
        ),
        (
            "path = \"/a\"\nrule = {}",
            "holds no condition",
            "path = \"/a\"\nrule = \"signed-in\"",
        ),
        (
            "path = \"/a\"\nrule = { role = [] }",
            "an empty list of roles",
            "path = \"/a\"\nrule = { role = \"admin\" }",
        ),
        (
            "path = \"/a\"\nrule = { role = \"a,b\" }",
            "this is no role",
            "path = \"/a\"\nrule = { role = [\"a\", \"b\"] }",
        ),
        (
            "path = \"/a\"\nrule = { rol = \"a\" }",
            "did you mean `role`?",
            "path = \"/a\"\nrule = { organization_role = \"a\" }",
        ),
        (
            "path = \"/a\"\nrule = { email_verified = false }",
            "`false` asks for nothing",
            "path = \"/a\"\nrule = { email_verified = true }",
        ),
        (
            "path = \"/a\"\nrule = { step_up = \"0s\" }",
            "must be from 1s",
            "path = \"/a\"\nrule = { step_up = \"10m\" }",
        ),
        (
            "path = \"/a\"\nrule = { credentials = [\"passkey\"] }",
            "`passkey` is no kind",
            "path = \"/a\"\nrule = { credentials = [\"session\"] }",
        ),
        (
            "path = \"/a\"\nrule = { credentials = [\"bearer\", \"session\"] }",
            "`bearer` is not enabled",
            "path = \"/a\"\nrule = { credentials = [\"session\"] }",
        ),
        (
            "path = \"/a\"\nrule = { public = true }",
            "a rule of its own",
            "path = \"/a\"\nrule = \"public\"",
        ),
        (
            "path = \"/a\"\nrule = \"role\"",
            "stands in a table",
            "path = \"/a\"\nrule = { role = [\"admin\"] }",
        ),
        (
            "path = \"/a\"\nrule = \"signed-in\"\nmethods = [\"get\"]",
            "is in lower case",
            "path = \"/a\"\nrule = \"signed-in\"\nmethods = [\"GET\"]",
        ),
        (
            "path = \"/a\"\nrule = \"signed-in\"\nmethods = []",
            "would mean all of them",
            "path = \"/a\"\nrule = \"signed-in\"\nhosts = [\"localhost\"]",
        ),
        (
            "path = \"/a\"\nrule = \"signed-in\"\nupstream = \"apy\"",
            "`apy` is no upstream",
            "path = \"/a\"\nrule = \"signed-in\"\nupstream = \"app\"",
        ),
        (
            "path = \"/a\"\nrule = \"signed-in\"\ncache = \"yes\"",
            "known are `gateway`, `app`",
            "path = \"/a\"\nrule = \"signed-in\"\ncache = \"app\"",
        ),
        (
            "path = \"/a\"\nrule = { role = \"a\", freshness = \"cached\" }\nfreshness = \"strict\"",
            "given twice",
            "path = \"/a\"\nrule = { role = \"a\", freshness = \"strict\" }",
        ),
        (
            "path = [{ has = [] }]\nrule = \"signed-in\"",
            "`source` is missing",
            "path = [{ source = \"/a\" }]\nrule = \"signed-in\"",
        ),
        (
            "path = [{ source = \"/a\", has = [{ type = \"header\" }] }]\nrule = \"signed-in\"",
            "`key` is missing",
            "path = [{ source = \"/a\", has = [{ type = \"header\", key = \"X\" }] }]\nrule = \"signed-in\"",
        ),
        (
            "path = [{ source = \"/a\", has = [{ type = \"host\" }] }]\nrule = \"public\"",
            "`value` is missing",
            "path = [{ source = \"/a\", has = [{ type = \"host\", value = \"localhost\" }] }]\nrule = \"public\"",
        ),
        (
            "path = [{ source = \"/a\", has = [{ tipe = \"header\", key = \"x\" }] }]\nrule = \"signed-in\"",
            "did you mean `type`?",
            "path = [{ source = \"/a\", missing = [{ type = \"query\", key = \"x\", value = \"1\" }] }]\nrule = \"signed-in\"",
        ),
        (
            "path = \"/sign-in\"\nrule = \"signed-in\"",
            "the sign-in page nobody could sign in",
            "path = \"/sign-in\"\nrule = \"guest\"",
        ),
        (
            "path = \"/api/auth/:path*\"\nrule = \"deny\"",
            "Better Auth's endpoints nobody could sign in",
            "path = \"/api/auth/admin/:path*\"\nrule = \"deny\"",
        ),
    ];
    for (wrong, said, right) in cases {
        refused(&route(wrong), said);
        clean(&route(right));
    }
}

#[test]
fn the_home_of_those_signed_in_is_no_page_for_guests() {
    let landing = route("path = \"/\"\nrule = \"guest\"");
    refused(&landing, "this is `routes.signed_in_home`");
    clean(&landing.replace("[routes]", "[routes]\nsigned_in_home = \"/dashboard\""));
    clean(&route("path = \"/\"\nrule = \"optional\""));
}

#[test]
fn optimistic_goes_with_nothing_that_needs_a_lookup() {
    for condition in [
        "role = \"a\"",
        "organization_role = \"a\"",
        "email_verified = true",
        "step_up = \"5m\"",
    ] {
        let name = condition.split(' ').next().expect("a name");
        let wanted =
            format!("`freshness = \"optimistic\"` looks nobody up, so `{name}` cannot be known");
        refused(
            &route(&format!(
                "path = \"/a\"\nfreshness = \"optimistic\"\nrule = {{ {condition} }}"
            )),
            &wanted,
        );
        refused(
            &route(&format!(
                "path = \"/a\"\nrule = {{ {condition}, freshness = \"optimistic\" }}"
            )),
            &wanted,
        );
        clean(&route(&format!(
            "path = \"/a\"\nfreshness = \"strict\"\nrule = {{ {condition} }}"
        )));
    }
    refused(
        &route("path = \"/a\"\nfreshness = \"optimistic\"\nrule = \"guest\""),
        "`guest` cannot be known",
    );
    clean(&route(
        "path = \"/a\"\nfreshness = \"optimistic\"\nrule = \"signed-in\"",
    ));
    let config = fine(&route("path = \"/a\"\nrule = { freshness = \"strict\" }"));
    let rule = &config.routes.routes[0].rule;
    assert_eq!(
        (rule.freshness, &rule.need),
        (
            Freshness::Strict,
            &Need::SignedIn(vestibule::policy::Conditions::default())
        )
    );
}

#[test]
fn what_is_risky_or_odd_is_warned_about_and_used() {
    let chosen = |rule: &str| {
        route(&format!(
            "path = [{{ source = \"/a\", has = [{{ type = \"cookie\", key = \"beta\" }}] }}]\nrule = \"{rule}\""
        ))
    };
    warned(
        &chosen("public"),
        "anyone can send what this condition asks for",
    );
    warned(
        &chosen("optional"),
        "anyone can send what this condition asks for",
    );
    clean(&chosen("signed-in"));
    warned(
        &keyed("", "public_url = \"http://app.example.com\""),
        "over plain http",
    );
    warned(
        &keyed("", "trusted_proxies = [\"0.0.0.0/0\"]"),
        "this trusts everybody",
    );
    let asked_by = |trusted: &str, peers: &str| {
        let trusted = keyed("", &format!("trusted_proxies = [{trusted}]"));
        format!("{trusted}\n[forward_auth]\n{peers}\n")
    };
    clean(&asked_by("\"10.0.0.1\"", "peers = [\"10.0.0.1\"]"));
    clean(&asked_by("\"10.0.0.0/24\"", "peers = [\"10.0.0.1\"]"));
    refused(
        &keyed("forward_auth", ""),
        "`forward_auth.peers` is missing",
    );
    refused(&keyed("forward_auth", "peers = []"), "no proxy is listed");
    for wide in ["0.0.0.0/0", "10.0.0.0/8", "::/0"] {
        warned(
            &asked_by(&format!("\"{wide}\""), &format!("peers = [\"{wide}\"]")),
            "chooses which request is judged",
        );
    }
    warned(
        &asked_by("\"10.0.0.2\"", "peers = [\"10.0.0.1\"]"),
        "all clients share its own",
    );
    warned(
        &keyed("", "admin = \"0.0.0.0:8081\""),
        "off loopback and without `admin_token`",
    );
    warned(
        &keyed("", "admin_token = \"short\""),
        "the secret has 5 letters",
    );
    warned(
        &keyed("", "public_url = \"https://a.b\"\nhosts = [\"c.d\"]"),
        "`a.b`, the host of `public_url`, is not among them",
    );
    warned(
        &keyed("sessions", "cache_ttl = \"2h\""),
        "may keep access for 2h",
    );
    warned(
        &keyed("better_auth", "cookie_domain = \"a.b\""),
        "only with cross-subdomain",
    );
    warned(
        &keyed("routes", "sign_in = \"http://a.b/in\""),
        "plain http",
    );
    warned(
        &route("path = \"/a\"\nrule = \"public\"\nfreshness = \"strict\""),
        "`freshness` does nothing",
    );
    warned(
        &route("path = \"/a\"\nrule = \"public\"\nhosts = [\"a.b\"]"),
        "is not among `hosts`",
    );
    let mismatch = FINE.replace(
        "[better_auth]\n",
        "[better_auth]\nbase_url = \"http://localhost:3000\"\n",
    );
    warned(
        &format!("public_url = \"http://localhost:8080\"\n{mismatch}"),
        "Better Auth believes to be at http://localhost:3000",
    );
    // Alone, the base URL says what the public one is.
    clean(&mismatch);
    assert_eq!(fine(&mismatch).server.public_url, "http://localhost:3000");
}

#[test]
fn two_sources_of_the_app_are_asked_about() {
    let none = FINE.replace("source = \"sqlite:app.db\"\n", "");
    let both = environment(&[("DATABASE_URL", "sqlite:a.db"), ("REDIS_URL", "redis://h")]);
    let outcome = load_with(&none, &both, &[]);
    assert!(
        told(&outcome)[0].contains("DATABASE_URL and REDIS_URL are both set"),
        "{:?}",
        told(&outcome)
    );
    assert!(load_with(FINE, &both, &[]).is_ok());
    assert!(load_with(&none, &environment(&[("DATABASE_URL", "sqlite:a.db")]), &[]).is_ok());
    let redis = load_with(&none, &environment(&[("REDIS_URL", "redis://h")]), &[]);
    let store = redis.expect("fine").config.store.expect("a store");
    assert_eq!(store.url.expose(), "redis://h");
    assert!(store.secondary.database.is_none());
    assert!(load(&none).is_err());
}

#[test]
fn redis_with_a_database_behind_it() {
    let with = |lines: &str| FINE.replace("source = \"sqlite:app.db\"\n", &format!("{lines}\n"));
    let both = environment(&[
        ("DATABASE_URL", "sqlite:a.db"),
        ("REDIS_URL", "redis://h/2"),
    ]);
    let secondary = |lines: &str| {
        let loaded = load_with(&with(lines), &both, &[]);
        let store = loaded.unwrap_or_else(|p| panic!("{p}")).config.store;
        store.expect("a store").secondary
    };
    let plain = secondary("source = { env = \"REDIS_URL\" }");
    assert_eq!(plain.key_prefix, "better-auth:");
    assert!(plain.database.is_none() && !plain.store_in_database && !plain.preserve_in_database);
    let full = secondary(
        "source = { env = \"REDIS_URL\" }\nkey_prefix = \"\"\nstore_in_database = true\npreserve_in_database = true",
    );
    assert_eq!(full.key_prefix, "");
    assert!(full.store_in_database && full.preserve_in_database);
    assert_eq!(full.database.expect("DATABASE_URL").expose(), "sqlite:a.db");
    let other = secondary("source = \"rediss://h\"\ndatabase = \"postgres://h/d\"");
    assert_eq!(other.database.expect("it").expose(), "postgres://h/d");

    let blamed = |lines: &str, environment: &Environment| {
        told(&load_with(&with(lines), environment, &[])).join("\n")
    };
    for (lines, words) in [
        (
            "source = \"redis://h\"\ndatabase = \"redis://h\"",
            "this is a Redis, and no database",
        ),
        (
            "source = \"redis://h\"\ndatabase = \"app.db\"",
            "sessions.database: ",
        ),
        (
            "source = \"sqlite:a.db\"\nstore_in_database = true",
            "`sessions.store_in_database` is for sessions in Redis",
        ),
        (
            "source = \"sqlite:a.db\"\nkey_prefix = \"x\"",
            "`sessions.key_prefix` is for sessions in Redis",
        ),
    ] {
        let blame = blamed(lines, &both);
        assert!(blame.contains(words), "{lines}: {blame}");
    }
    let alone = environment(&[("REDIS_URL", "redis://h")]);
    let lines = "source = { env = \"REDIS_URL\" }\nstore_in_database = true";
    assert!(blamed(lines, &alone).contains("`sessions.database` is missing"));
}

#[test]
fn cookies_are_secure_by_the_apps_environment_or_the_public_address() {
    let production = |text: &str, pairs: &[(&str, &str)]| {
        load_with(text, &environment(pairs), &[])
            .expect("fine")
            .config
            .cookies
            .production
    };
    let https = keyed("", "public_url = \"https://a.b\"");
    assert!(production(&https, &[]) && !production(FINE, &[]));
    assert!(
        production(FINE, &[("NODE_ENV", "production")])
            && !production(&https, &[("NODE_ENV", "development")])
    );
}

#[test]
fn a_sign_in_page_on_our_own_origin_is_a_path() {
    let own = fine(&format!(
        "public_url = \"https://a.b\"\n{}",
        keyed("routes", "sign_in = \"https://a.b/in\"")
    ));
    assert_eq!(
        (
            own.redirects.sign_in.as_str(),
            own.routes.sign_in_path.as_deref()
        ),
        ("/in", Some("/in"))
    );
    let other = fine(&format!(
        "public_url = \"https://a.b\"\n{}",
        keyed("routes", "sign_in = \"https://c.d/in\"")
    ));
    assert_eq!(
        (other.redirects.sign_in.as_str(), other.routes.sign_in_path),
        ("https://c.d/in", None)
    );
}

#[test]
fn what_the_table_of_routes_finds_is_told_with_the_rest() {
    fn ties(settings: &vestibule::route::Settings) -> Vec<RouteFinding> {
        settings
            .routes
            .iter()
            .skip(1)
            .map(|r| RouteFinding {
                line: r.line,
                key: "route[1]".into(),
                message: "a tie".into(),
                advice: "merge".into(),
                warning: false,
            })
            .collect()
    }
    let text = with(
        "[[route]]\npath = \"/a\"\nrule = \"public\"\n[[route]]\npath = \"/a\"\nrule = \"deny\"\n",
    );
    let environment = environment(&[]);
    let none = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let outcome = config::load(&Sources {
        name: "f",
        text: &text,
        environment: &environment,
        overrides: &[],
        read_file: &none,
        route_check: ties,
        read_build: &config::no_build,
    });
    assert_eq!(told(&outcome), ["13:1 route[1]: a tie | merge"]);
}

// --- the files in config/ ---

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn reference() -> String {
    std::fs::read_to_string(folder().join("vestibule.toml")).expect("config/vestibule.toml")
}

/// Values for every variable and file the shipped files name.
fn shipped_environment() -> Environment {
    environment(&[
        ("DATABASE_URL", "sqlite:app.db"),
        ("POSTGRES_URL", "postgres://u:p@h/d"),
        ("MYSQL_URL", "mysql://u:p@h/d"),
        ("REDIS_URL", "redis://h/0"),
        ("VESTIBULE_ADMIN_SECRET", SECRET),
        ("NEW", "2-new-secret-of-more-than-thirty-two-letters"),
        ("VESTIBULE_SIGNING_SEED", SECRET),
        ("MIGRATION_KEY", SECRET),
        ("LIMITS_REDIS_URL", "redis://h/1"),
        ("OLD_REDIS_URL", "redis://h/2"),
        ("OLD_DATABASE_URL", "postgres://u:p@h/old"),
        ("CHECK_TOKEN", SECRET),
        ("CLERK_SECRET_KEY", "sk_live_of_the_tests"),
        ("WORKOS_API_KEY", "sk_of_the_tests"),
        ("WORKOS_COOKIE_PASSWORD", SECRET),
        ("OLD_AUTH_SECRET", SECRET),
        ("SUPABASE_JWT_SECRET", SECRET),
        ("AUTH0_SECRET", SECRET),
        ("SESSION_PASSWORD", SECRET),
        ("SESSION_SECRET", SECRET),
        ("DJANGO_SECRET_KEY", SECRET),
        ("SECRET_KEY_BASE", SECRET),
        ("APP_KEY", SECRET),
        ("WP_LOGGED_IN_KEY", SECRET),
        ("WP_LOGGED_IN_SALT", SECRET),
        ("SUPABASE_ANON_KEY", SECRET),
        ("SUPABASE_SERVICE_ROLE_KEY", SECRET),
        ("AUTH0_CLIENT_SECRET", SECRET),
        ("AUTH0_MANAGEMENT_SECRET", SECRET),
        ("FIREBASE_API_KEY", SECRET),
        ("FIREBASE_SERVICE_ACCOUNT", SECRET),
        ("COGNITO_CLIENT_SECRET", SECRET),
        ("KEYCLOAK_CLIENT_SECRET", SECRET),
        ("KEYCLOAK_ADMIN_SECRET", SECRET),
        ("ORY_API_KEY", SECRET),
        ("SUPERTOKENS_API_KEY", SECRET),
        ("STYTCH_SECRET", SECRET),
        ("DESCOPE_MANAGEMENT_KEY", SECRET),
    ])
}

fn load_shipped(name: &str, text: &str) -> Result<Loaded, Problems> {
    // Only what the file names, as an operator would: one of ours that nothing names is a misspelt key.
    let environment: Environment = shipped_environment()
        .into_iter()
        .filter(|(n, _)| {
            text.lines()
                .any(|line| !line.starts_with('#') && line.contains(n.as_str()))
                || !(n.starts_with("VESTIBULE_") || n == "REDIS_URL")
        })
        .collect();
    let read_file = |_: &Path| Ok(SECRET.to_owned());
    config::load(&Sources {
        name,
        text,
        environment: &environment,
        overrides: &[],
        read_file: &read_file,
        route_check: cli::edges().route_check,
        read_build: &config::no_build,
    })
}

#[test]
fn every_example_loads_without_a_warning() {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder().join("examples")).expect("config/examples") {
        let path = entry.expect("an entry").path();
        // What other proxies read, held by tests/forward_auth.rs.
        if path.is_dir() {
            continue;
        }
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .expect("a name")
            .to_owned();
        let text = std::fs::read_to_string(&path).expect("text");
        let outcome = load_shipped(&name, &text);
        assert!(
            outcome.is_ok() && told(&outcome).is_empty(),
            "{name}: {:#?}",
            told(&outcome)
        );
        seen.push(name);
    }
    assert!(seen.len() >= 7, "{seen:?}");
}

/// The reference with what it shows taken in: the defaults, and the examples too if asked.
fn uncommented(examples: bool) -> String {
    let is_default =
        |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let lines = reference()
        .lines()
        .map(|line| {
            if is_default(line) {
                line[1..].to_owned()
            } else if examples && line.starts_with("# e.g. ") {
                line["# e.g. ".len()..].to_owned()
            } else {
                line.to_owned()
            }
        })
        .collect::<Vec<_>>();
    lines.join("\n")
}

#[test]
fn the_reference_loads_and_every_default_it_states_is_the_real_one() {
    let as_it_is = load_shipped("vestibule.toml", &reference()).unwrap_or_else(|p| panic!("{p}"));
    assert!(as_it_is.warnings.is_empty(), "{}", as_it_is.warnings);
    let stated =
        load_shipped("vestibule.toml", &uncommented(false)).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(
        without_lines(&as_it_is.config),
        without_lines(&stated.config)
    );
    assert!(
        reference()
            .lines()
            .filter(|l| l.starts_with('#') && !l.starts_with("# "))
            .count()
            > 50
    );
}

fn without_lines(config: &Config) -> String {
    let mut config = config.clone();
    for route in &mut config.routes.routes {
        route.line = None;
        for source in &mut route.sources {
            source.line = None;
        }
    }
    format!("{config:#?}")
}

#[test]
fn every_key_of_the_schema_stands_in_the_reference_and_every_example_in_it_is_right() {
    let text = uncommented(true);
    let shown: toml::Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let schema = serde_json::to_value(config::schema()).expect("json");
    let mut seen = BTreeSet::new();
    visit(
        &schema,
        &schema,
        &serde_json::to_value(shown).expect("json"),
        "File",
        &mut seen,
    );
    let mut missing = Vec::new();
    let definitions = schema["$defs"].as_object().expect("definitions");
    let tables = definitions
        .iter()
        .map(|(n, d)| (n.as_str(), d))
        .chain([("File", &schema)]);
    for (name, table) in tables {
        for key in table["properties"].as_object().expect("properties").keys() {
            if !seen.contains(&format!("{name}.{key}")) {
                missing.push(format!("{name}.{key}"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "not in config/vestibule.toml: {missing:?}"
    );
    // `url` and `urls` exclude each other, and no locales are listed; nothing else in it may be wrong.
    let outcome = load_shipped("vestibule.toml", &text);
    let wrong: Vec<String> = match &outcome {
        Ok(_) => Vec::new(),
        Err(problems) => problems
            .iter()
            .filter(|p| p.severity() == Severity::Error)
            .map(|p| format!("{}: {}", p.key, p.fault))
            .collect(),
    };
    assert_eq!(
        wrong,
        [
            "upstream.urls: `url` and `urls` are both given",
            "nextjs.default_locale: `en` is no locale listed in `locales`"
        ]
    );
}

/// Notes which keys of which table of the schema a value uses.
fn visit(root: &Value, schema: &Value, value: &Value, table: &str, seen: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|r| r.strip_prefix("#/$defs/"))
    {
        return visit(root, &root["$defs"][name], value, name, seen);
    }
    for option in schema["anyOf"].as_array().into_iter().flatten() {
        visit(root, option, value, table, seen);
    }
    if let Some(items) = value.as_array() {
        for item in items {
            visit(root, &schema["items"], item, table, seen);
        }
    }
    for (key, below) in value.as_object().into_iter().flatten() {
        if let Some(property) = schema["properties"].get(key) {
            seen.insert(format!("{table}.{key}"));
            visit(root, property, below, table, seen);
        } else if schema["additionalProperties"].is_object() {
            visit(root, &schema["additionalProperties"], below, table, seen);
        }
    }
}

#[test]
fn the_schema_in_the_repository_is_current() {
    let path = folder().join("schema.json");
    let current = cli::check::schema_text();
    if std::env::var_os("VESTIBULE_BLESS").is_some() {
        std::fs::write(&path, &current).expect("write");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == current,
        "config/schema.json is old: VESTIBULE_BLESS=1 cargo test --test all schema_in_the_repository"
    );
}

// --- the command line ---

fn edges() -> Edges {
    Edges {
        route_check: cli::edges().route_check,
        serve: |loaded| {
            Err(cli::Failure {
                message: format!("served {}", loaded.config.server.listen[0]),
                advice: String::new(),
                code: cli::UNREACHABLE,
            })
        },
        serve_while: |_, wait| {
            wait();
            Ok(())
        },
        triggers: |_, asked| {
            let url = asked.url.as_ref().map(|url| url.expose().len());
            Ok(format!("{:?} {url:?}\n", asked.action))
        },
        tables: |_, asked| Ok(format!("{:?}\n", asked.action)),
        explain: |_, asked| {
            Ok(cli::explain::Explanation {
                method: asked.method.to_string(),
                host: asked.host.clone(),
                target: asked.target.clone(),
                rule: "signed-in".into(),
                resolution: "anonymous".into(),
                verdict: "redirect".into(),
                status: Some(302),
                location: Some("/sign-in".into()),
                ..Default::default()
            })
        },
    }
}

/// A folder of its own, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vestibule-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn write(&self, file: &str, text: &str) -> &Self {
        let path = self.0.join(file);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("write");
        self
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Exit code, standard output, standard error.
fn run(folder: &Path, environment: &Environment, arguments: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut world = World {
        environment: environment.clone(),
        folder: folder.to_owned(),
        out: &mut out,
        err: &mut err,
        terminal: false,
    };
    let arguments = std::iter::once("vestibule")
        .chain(arguments.iter().copied())
        .map(Into::into);
    let code = cli::run(arguments, &mut world, edges());
    (
        code,
        String::from_utf8(out).expect("text"),
        String::from_utf8(err).expect("text"),
    )
}

#[test]
fn check_ends_with_0_1_or_2_and_serve_with_2() {
    let folder = Folder::new("check");
    let set = environment(&[]);
    folder
        .write("vestibule.toml", FINE)
        .write("bad.toml", "nonsense = 1\n")
        .write("odd.toml", &keyed("", "trusted_proxies = [\"0.0.0.0/0\"]"));
    let check = |file: &str| run(&folder.0, &set, &["check", "--config", file]);
    assert_eq!(
        run(&folder.0, &set, &["check"]),
        (0, "vestibule.toml: no problems\n".into(), String::new())
    );
    let (code, out, err) = check("odd.toml");
    assert_eq!((code, out.as_str()), (0, "odd.toml: usable, 1 warning\n"));
    assert!(
        err.contains("odd.toml:1:20: warning: trusted_proxies"),
        "{err}"
    );
    let (code, out, err) = check("bad.toml");
    assert_eq!((code, out.as_str()), (1, "bad.toml: 4 errors\n"), "{err}");
    assert_eq!(check("none.toml").0, 2);
    assert_eq!(run(&folder.0, &set, &["check", "--nonsense"]).0, 2);
    assert_eq!(
        run(&folder.0, &set, &["serve", "--config", "bad.toml"]).0,
        2
    );
    let (code, _, err) = run(&folder.0, &set, &["serve", "--listen", "127.0.0.1:9"]);
    assert_eq!((code, err.as_str()), (3, "vestibule: served 127.0.0.1:9\n"));
    let (code, out, _) = run(&folder.0, &set, &["check", "--json", "-c", "bad.toml"]);
    let json: Value = serde_json::from_str(&out).expect("json");
    assert_eq!(
        (code, json["problems"].as_array().map(Vec::len)),
        (1, Some(4))
    );
    // Where it is looked for.
    let by_variable = environment(&[("VESTIBULE_CONFIG", "bad.toml")]);
    assert_eq!(run(&folder.0, &by_variable, &["check"]).0, 1);
}

#[test]
fn every_command_has_help_with_an_example() {
    let folder = Folder::new("help");
    for command in [
        "serve",
        "check",
        "explain",
        "init",
        "healthcheck",
        "version",
    ] {
        let (code, out, _) = run(&folder.0, &environment(&[]), &[command, "--help"]);
        assert!(
            code == 0 && out.contains(&format!("Example:\n  vestibule {command}")),
            "{out}"
        );
    }
    let (code, out, _) = run(&folder.0, &environment(&[]), &["version", "--json"]);
    assert!(
        code == 0 && out.contains(env!("CARGO_PKG_VERSION")),
        "{out}"
    );
}

#[test]
fn keys_of_tokens_are_refused_where_they_prove_nothing() {
    let issuer = |lines: &str| {
        let enabled = keyed("better_auth", "enable = [\"jwt\"]");
        format!("{enabled}\n[better_auth.jwt.issuers.other]\n{lines}")
    };
    let iss = "issuer = \"https://id.example\"";
    let aud = "audience = \"app\"";
    let url = "jwks_url = \"https://id.example/jwks\"";
    clean(&issuer(&format!("{iss}\n{aud}\n{url}")));
    let local = "jwks_url = \"http://127.0.0.1:9/jwks\"";
    clean(&issuer(&format!("{iss}\n{aud}\n{local}")));
    for (lines, said) in [
        (format!("{aud}\n{url}"), "`issuer` is missing"),
        (format!("{iss}\n{url}"), "`audience` is missing"),
        (
            format!("{iss}\naudience = []\n{url}"),
            "`audience` is missing",
        ),
        (format!("{iss}\n{aud}"), "`jwks_url` is missing"),
        (
            format!("{iss}\n{aud}\njwks_url = \"http://id.example/jwks\""),
            "anybody on the way can replace",
        ),
        (
            format!("{iss}\n{aud}\njwks_url = \"https://u:p@id.example/jwks\""),
            "anybody on the way can replace",
        ),
        (
            format!("{iss}\n{aud}\n{url}\nalgorithm = \"HS256\""),
            "`HS256` is no algorithm",
        ),
        // The app's own, under another name.
        (
            format!("issuer = \"http://localhost:8080\"\n{aud}\n{url}"),
            "two issuers have the same",
        ),
    ] {
        refused(&issuer(&lines), said);
    }
    let unused = format!("[better_auth.jwt.issuers.other]\n{iss}\n{aud}\n{url}");
    warned(&with(&unused), "counts for nothing");

    for (line, said, right) in [
        (
            "algorithm = \"none\"",
            "`none` is no algorithm",
            "algorithm = \"ES512\"",
        ),
        (
            "keys = \"redis\"",
            "`redis` is no place",
            "keys = \"store\"",
        ),
        ("jwks_path = \"jwks\"", "", "jwks_path = \"/keys\""),
        (
            "refetch_interval = \"0s\"",
            "must be from 1s",
            "refetch_interval = \"1s\"",
        ),
    ] {
        refused(&keyed("better_auth.jwt", line), said);
        clean(&keyed("better_auth.jwt", right));
    }
    let guesses = |line: &str| keyed("better_auth", line);
    refused(&guesses("unknown_tokens_per_minute = 0"), "must be from 1");
    clean(&guesses("unknown_tokens_per_minute = 60"));
    refused(&guesses("enable = [\"berer\"]"), "`berer` is no kind");
    clean(&guesses("enable = [\"bearer\", \"jwt\"]"));
}

#[test]
fn the_plugins_defaults_are_those_of_the_app() {
    let config = fine(&keyed(
        "better_auth",
        "base_url = \"https://app.example/shop\"",
    ));
    let jwt = &config.authenticator.jwt;
    assert_eq!(jwt.app.issuer, "https://app.example");
    assert_eq!(jwt.app.audience, ["https://app.example"]);
    let given = "issuer = \"me\"\naudience = [\"a\", \"b\"]\nkeys = \"store\"\ngrace = \"1h\"";
    let config = fine(&keyed("better_auth.jwt", given));
    let jwt = &config.authenticator.jwt;
    assert_eq!(jwt.app.issuer, "me");
    assert_eq!(jwt.app.audience, ["a", "b"]);
    let Keys::Store { grace } = jwt.app.keys else {
        panic!("{:?}", jwt.app.keys);
    };
    assert_eq!(grace, Duration::from_secs(3600));
}

#[test]
fn explain_opens_the_store_for_whatever_credential_the_app_has() {
    let explain = |text: &str, name: &'static str, value: &'static str| {
        let asked = cli::explain::Asked {
            method: http::Method::GET,
            target: "/x".into(),
            host: "localhost".into(),
            headers: [(
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )]
            .into_iter()
            .collect(),
        };
        cli::gateway::explain(&fine(text), &asked)
    };
    // There is no such database: whoever needs it says so.
    let enabled = keyed("better_auth", "enable = [\"bearer\"]");
    let error = explain(&enabled, "authorization", "Bearer some-token").unwrap_err();
    assert!(error.message.contains("app.db"), "{}", error.message);
    for (text, name, value) in [
        (&*enabled, "authorization", "Basic YWRhOng="),
        (&enabled, "accept", "text/html"),
        // Without the plugin it is nothing.
        (FINE, "authorization", "Bearer some-token"),
    ] {
        let told = explain(text, name, value).unwrap_or_else(|error| panic!("{}", error.message));
        assert_eq!(told.credential, "none", "{value}");
    }
}

#[test]
fn explain_tells_why_and_ends_with_4_when_asked() {
    let folder = Folder::new("explain");
    folder.write("vestibule.toml", FINE);
    let set = environment(&[]);
    let (code, out, err) = run(
        &folder.0,
        &set,
        &["explain", "GET", "/a/../b%2f?x", "-H", "accept: text/html"],
    );
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("GET /a/../b%2f?x on localhost"), "{out}");
    assert!(
        out.contains("302 to /sign-in")
            && out.contains("The request brings no credential. So the browser is sent elsewhere."),
        "{out}"
    );
    let (code, out, _) = run(
        &folder.0,
        &set,
        &[
            "explain",
            "--json",
            "--exit-code",
            "GET",
            "https://App.example.com:443/x",
        ],
    );
    let json: Value = serde_json::from_str(&out).expect("json");
    assert_eq!(
        (code, json["host"].as_str(), json["target"].as_str()),
        (4, Some("app.example.com"), Some("/x"))
    );
    let (code, _, err) = run(
        &folder.0,
        &set,
        &["explain", "GET", "/x", "-H", "cookie hunter2"],
    );
    assert!(code == 2 && !err.contains("hunter2"), "{err}");
    assert_eq!(run(&folder.0, &set, &["explain", "GET", "x"]).0, 2);
}

#[test]
fn init_names_redis_where_the_app_has_it() {
    let empty = Environment::new();
    for (variables, line) in [
        (
            "REDIS_URL=redis://h\n",
            "\nsource = { env = \"REDIS_URL\" }\n",
        ),
        (
            "REDIS_URL=redis://h\nDATABASE_URL=sqlite:app.db\n",
            "\n# source = { env = \"REDIS_URL\" }\n",
        ),
    ] {
        let folder = Folder::new("init");
        let secret = "BETTER_AUTH_SECRET=hunter2-hunter2-hunter2-hunter2-hunter2\n";
        folder.write(".env", &format!("{secret}{variables}"));
        let (code, _, err) = run(&folder.0, &empty, &["init"]);
        assert_eq!(code, 0, "{err}");
        let text = std::fs::read_to_string(folder.0.join("vestibule.toml")).expect("written");
        assert!(text.contains(line), "{text}");
        let (code, out, err) = run(&folder.0, &empty, &["check", "--env-file", ".env"]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
    }
}

#[test]
fn what_init_writes_passes_check_and_holds_no_secret() {
    let folder = Folder::new("init");
    folder
        .write(".env", "BETTER_AUTH_URL=http://localhost:3000\nAUTH_SECRET=hunter2-hunter2-hunter2-hunter2-hunter2\n")
        .write(".env.local", "DATABASE_URL=\"postgres://user:hunter2@h/d\"\n")
        .write("package.json", r#"{"dependencies":{"next":"16","better-auth":"1.7"}}"#)
        .write(".next/routes-manifest.json", r#"{"basePath":"/docs","i18n":{"locales":["en","de"],"defaultLocale":"de"},"redirects":[{"source":"/:path+","destination":"/:path+/","internal":true}]}"#)
        .write("app/(auth)/login/page.tsx", "")
        .write("app/(auth)/register/page.tsx", "");
    let empty = Environment::new();
    let (code, out, err) = run(&folder.0, &empty, &["init"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("--env-file"), "{out}");
    let text = std::fs::read_to_string(folder.0.join("vestibule.toml")).expect("written");
    assert!(!text.contains("hunter2"), "{text}");
    for line in [
        "secret = { env = \"AUTH_SECRET\" }",
        "source = { env = \"DATABASE_URL\" }",
        "sign_in = \"/login\"",
        "path = \"/register\"",
        "base_path = \"/docs\"",
        "locales = [\"en\", \"de\"]",
        "default_locale = \"de\"",
        "trailing_slash = true",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let (code, out, err) = run(
        &folder.0,
        &empty,
        &["check", "--env-file", ".env.local", "--env-file", ".env"],
    );
    assert_eq!(code, 0, "{out}{err}");
    // There is no build yet, and that is all there is to say.
    let warnings = err.matches("warning:").count();
    assert!(
        warnings == 1 && err.contains("Server Actions are unprotected"),
        "{err}"
    );
    // Twice only with force.
    assert_eq!(run(&folder.0, &empty, &["init"]).0, 1);
    assert_eq!(run(&folder.0, &empty, &["init", "--force"]).0, 0);
}

#[test]
fn init_finds_a_database_file_and_says_what_it_does_not_find() {
    let folder = Folder::new("init-plain");
    folder
        .write("shop/app.db", "")
        .write("shop/package.json", "{}");
    let (code, out, _) = run(&folder.0, &Environment::new(), &["init", "--app", "shop"]);
    assert!(code == 0 && out.contains("no secret was found"), "{out}");
    let text = std::fs::read_to_string(folder.0.join("vestibule.toml")).expect("written");
    assert!(
        text.contains("source = \"sqlite:shop/app.db\"") && !text.contains("[nextjs]"),
        "{text}"
    );
    let (code, _, err) = run(&folder.0, &environment(&[]), &["check"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        run(
            &folder.0,
            &Environment::new(),
            &["init", "--app", "nowhere", "-o", "x.toml"]
        )
        .0,
        1
    );
}

#[test]
fn healthcheck_asks_the_admin_listener() {
    let folder = Folder::new("health");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    folder.write(
        "vestibule.toml",
        &keyed("", &format!("admin = \"{address}\"")),
    );
    let server = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in ["200 OK", "503 Service Unavailable", "200 OK"] {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = [0; 512];
            let length = stream.read(&mut head).expect("a request");
            asked.push(
                String::from_utf8_lossy(&head[..length])
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            );
            write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").expect("an answer");
        }
        asked
    });
    let set = environment(&[]);
    assert_eq!(
        run(&folder.0, &set, &["healthcheck"]),
        (0, "ready\n".into(), String::new())
    );
    let (code, _, err) = run(&folder.0, &set, &["healthcheck"]);
    assert!(code == 3 && err.contains("answers 503"), "{err}");
    let url = format!("http://{address}/livez");
    assert_eq!(
        run(
            &folder.0,
            &Environment::new(),
            &["healthcheck", "--url", &url]
        )
        .0,
        0
    );
    assert_eq!(
        server.join().expect("the server"),
        [
            "GET /readyz HTTP/1.1",
            "GET /readyz HTTP/1.1",
            "GET /livez HTTP/1.1"
        ]
    );
    // Nobody listens any more.
    assert_eq!(run(&folder.0, &set, &["healthcheck"]).0, 3);
    assert_eq!(
        run(&folder.0, &set, &["healthcheck", "--url", "https://x"]).0,
        2
    );
}

#[test]
fn the_app_may_be_asked_and_then_extends_what_it_is_asked_about() {
    let asking = |more: &str| {
        FINE.replace(
            "source = \"sqlite:app.db\"",
            &format!("source = \"http://127.0.0.1:3000/api/auth\"\n{more}"),
        )
    };
    let config = fine(&asking(""));
    let store = config.store.expect("a store");
    assert_eq!(store.url.expose(), "http://127.0.0.1:3000/api/auth");
    assert_eq!(store.app.public_url, "http://localhost:8080");
    assert_eq!(store.app.secret.expose(), SECRET);
    assert!(!store.app.own_host && !store.extend && store.documents.is_none());
    assert_eq!(config.sliding, None, "whoever is asked extends");
    let own = fine(&(asking("") + "[sessions.http]\nown_host = true\n"));
    assert!(own.store.expect("a store").app.own_host);
    refused(&asking("sliding = \"store\""), "no store to write to");
    for wrong in [
        "http://",
        "https://u:p@app.test/api/auth",
        "http://h/api/auth?x=1",
    ] {
        let text = FINE.replace("sqlite:app.db", wrong);
        refused(&text, "no address of a Better Auth");
    }
}

#[test]
fn sessions_are_extended_by_the_app_unless_something_else_is_said() {
    let sliding = |section: &str, line: &str| fine(&keyed(section, line)).sliding;
    let usual = fine(FINE).sliding.expect("by the app");
    assert_eq!(
        (usual.in_store, usual.rules.expires_in),
        (false, Duration::from_secs(604_800))
    );
    assert_eq!(usual.rules.update_age, Duration::from_secs(86_400));
    let store = fine(&keyed("sessions", "sliding = \"store\""));
    assert!(store.sliding.expect("in the store").in_store);
    assert!(store.store.expect("a store").extend);
    assert_eq!(sliding("sessions", "sliding = \"off\""), None);
    for key in ["disable_session_refresh", "defer_session_refresh"] {
        assert_eq!(
            sliding("better_auth", &format!("{key} = true")),
            None,
            "{key}"
        );
        assert!(
            sliding("better_auth", &format!("{key} = false")).is_some(),
            "{key}"
        );
    }
    let often = sliding("better_auth", "update_age = \"0s\"\nexpires_in = \"1h\"");
    let often = often.expect("by the app").rules;
    assert_eq!(
        (often.update_age, often.expires_in),
        (Duration::ZERO, Duration::from_secs(3600))
    );
    refused(&keyed("sessions", "sliding = \"sometimes\""), "sliding");
}

#[test]
fn who_extends_sessions_beside_a_cookie_cache_must_be_able_to_write_it() {
    let with = |sessions: &str, auth: &str, cache: &str| {
        let text = keyed("sessions", sessions);
        let text = text.replacen("[better_auth]\n", &format!("[better_auth]\n{auth}\n"), 1);
        format!("{text}\n{cache}")
    };
    let documents = |text: &str| fine(text).store.expect("a store").documents;
    let (store, on) = ("sliding = \"store\"", "enable = [\"cookie_cache\"]");
    assert!(documents(&with(store, on, "")).is_some());
    // Their twins: no cookie cache, somebody else extends, or nobody.
    assert!(documents(&with(store, "", "")).is_none());
    assert!(documents(&with("sliding = \"app\"", on, "")).is_none());
    for key in ["disable_session_refresh", "defer_session_refresh"] {
        let never = format!("{on}\n{key} = true");
        assert!(documents(&with(store, &never, "")).is_none(), "{key}");
    }
    // What belongs to it is said as it is for the door.
    let listed = format!("{store}\nfields = [\"user.plan:string\"]");
    let listed = documents(&with(&listed, on, "")).expect("documents");
    assert_eq!(listed.shown.len(), 1);
    // Nobody but the app signs with its key pair.
    let jwks = "[better_auth.cookie_cache]\nstrategy = \"jwks\"\n";
    refused(&with(store, on, jwks), "write `sliding = \"app\"`");
    fine(&with("sliding = \"app\"", on, jwks));
    for strategy in ["compact", "jwt", "jwe"] {
        fine(&with(store, on, &jwks.replace("jwks", strategy)));
    }
}

#[test]
fn get_session_is_answered_at_the_door_only_where_it_is_asked_for() {
    use vestibule::store::FieldKind;

    let usual = fine(FINE);
    assert!(usual.door.is_none() && usual.store.expect("a store").documents.is_none());
    let lines = "answer_get_session = true\nfields = [\"user.plan\", \"user.seats:number\", \"session.beta:boolean\"]\n\
                 hidden_fields = [\"user.internalNote\"]";
    let config = fine(&keyed("sessions", lines));
    let door = config.door.expect("a door");
    assert!(door.rules.is_some() && !door.app_adds);
    let documents = config.store.expect("a store").documents.expect("documents");
    assert_eq!(
        documents.shown,
        [
            ("user.plan".to_owned(), FieldKind::Text),
            ("user.seats".to_owned(), FieldKind::Number),
            ("session.beta".to_owned(), FieldKind::Boolean),
        ]
    );
    assert_eq!(documents.hidden, ["user.internalNote"]);
    for wrong in ["plan", "user.", "account.password", "user.plan:varchar"] {
        let text = keyed("sessions", &format!("fields = [\"{wrong}\"]"));
        refused(&text, "no field with a type");
    }
    refused(&keyed("sessions", "hidden_fields = [\"note\"]"), "no field");
    // Where the app adds to its answers, all of them are its own; the operator is told.
    let deferred = keyed("sessions", "answer_get_session = true").replace(
        "[better_auth]\n",
        "[better_auth]\ndefer_session_refresh = true\n",
    );
    let loaded = load(&deferred);
    assert!(
        told(&loaded)
            .iter()
            .any(|told| told.contains("left to the app")),
        "{:?}",
        told(&loaded)
    );
    assert!(fine(&deferred).door.expect("a door").app_adds);
}

#[test]
fn the_cookie_cache_is_believed_where_the_app_has_it() {
    assert!(fine(FINE).authenticator.cookie_cache.is_none());
    let line =
        "enable = [\"cookie_cache\"]\ncache_max_age = \"2m\"\ncookie_cache = { version = \"7\" }";
    let cache = fine(&keyed("better_auth", line)).authenticator.cookie_cache;
    let cache = cache.expect("a cookie cache");
    assert_eq!((&*cache.strategy, &*cache.version), ("compact", "7"));
    assert_eq!(cache.max_age, Duration::from_secs(120));
    let described = load(&keyed(
        "better_auth",
        "cookie_cache = { strategy = \"jwt\" }",
    ));
    assert!(told(&described)[0].contains("described, and not used"));
    assert!(
        described
            .expect("a warning")
            .config
            .authenticator
            .cookie_cache
            .is_none()
    );
}

#[test]
fn without_a_store_the_cookie_lives_as_long_as_the_session_and_no_route_is_strict() {
    let stateless = FINE.replace("sqlite:app.db", "cookie:");
    let config = fine(&stateless);
    let cache = config.authenticator.cookie_cache.expect("a cookie cache");
    assert_eq!(
        (&*cache.strategy, cache.max_age.as_secs()),
        ("jwe", 604_800)
    );
    assert_eq!(cache.renew_within.as_secs(), 120_960);
    assert_eq!(
        config.cookies.cookie("session_data").attributes.max_age,
        Some(604_800)
    );
    let said = "cookie_cache = { update_age = \"1m\", strategy = \"compact\" }\ncache_max_age = \"10m\"\n[sessions]";
    let cache = fine(&stateless.replace("[sessions]", said))
        .authenticator
        .cookie_cache;
    let cache = cache.expect("a cookie cache");
    assert_eq!(
        (cache.max_age.as_secs(), cache.renew_within.as_secs()),
        (600, 60)
    );
    for (strict, cached) in [
        (
            "path = \"/a\"\nrule = \"signed-in\"\nfreshness = \"strict\"",
            "path = \"/a\"\nrule = \"signed-in\"",
        ),
        (
            "path = \"/a\"\nrule = { freshness = \"strict\" }",
            "path = \"/a\"\nrule = { freshness = \"cached\" }",
        ),
    ] {
        refused(
            &format!("{stateless}[[route]]\n{strict}\n"),
            "no store to ask",
        );
        fine(&format!("{stateless}[[route]]\n{cached}\n"));
    }
    refused(
        &stateless.replace("cookie:", "cookie:jar"),
        "has no address",
    );
}

fn documents() -> Vec<PathBuf> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut all = Vec::new();
    for folder in [docs.clone(), docs.join("migration")] {
        for entry in std::fs::read_dir(folder).expect("docs") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|end| end == "md") {
                all.push(path);
            }
        }
    }
    all
}

/// What stands between fences of TOML.
fn snippets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match (&mut open, line.trim_start()) {
            (None, "```toml") => open = Some(String::new()),
            (Some(_), "```") => found.extend(open.take()),
            (Some(snippet), _) => {
                snippet.push_str(line);
                snippet.push('\n');
            }
            (None, _) => {}
        }
    }
    found
}

#[test]
fn every_configuration_in_the_documents_of_the_migration_loads_and_does_something() {
    let mut seen = 0;
    for path in documents() {
        let name = path.display().to_string();
        if !name.contains("migration") {
            continue;
        }
        for snippet in snippets(&std::fs::read_to_string(&path).expect("text")) {
            let key = "key = { env = \"MIGRATION_KEY\" }";
            let own = snippet.lines().any(|line| line == "[migration]");
            let mut text = format!("{FINE}\n");
            if !own {
                text.push_str(&format!("[migration]\n{key}\n"));
            } else if !snippet.contains("key = {") {
                panic!("{name}: a `[migration]` without its key:\n{snippet}");
            }
            text.push_str(&snippet);
            let outcome = load_shipped(&name, &text);
            assert!(
                outcome.is_ok() && told(&outcome).is_empty(),
                "{name}: {:#?}\n{snippet}",
                told(&outcome)
            );
            let config = outcome.unwrap_or_else(|p| panic!("{p}")).config;
            for system in config.migration.iter().flat_map(|m| &m.providers) {
                let build = &system.kind.build;
                let check = build.check.map(|build| build(&system.fields));
                let sessions = build.sessions.map(|build| build(&system.fields));
                let of = system.kind.name;
                let checks = matches!(check.transpose(), Ok(Some(Some(_))));
                let reads = match sessions.transpose() {
                    Ok(reads) => matches!(reads, Some(Some(_))),
                    Err(what) => panic!("{name}: {of}: {what}"),
                };
                assert!(checks || reads, "{name}: {of} does nothing:\n{snippet}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen}");
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    for path in documents() {
        let text = std::fs::read_to_string(&path).expect("text");
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let there = path.parent().expect("a folder").join(file);
            assert!(there.exists(), "{}: {target}", path.display());
        }
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let front = std::fs::read_to_string(docs.join("migration.md")).expect("docs/migration.md");
    for path in documents() {
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
        if path
            .parent()
            .is_some_and(|folder| folder.ends_with("migration"))
        {
            assert!(
                front.contains(&format!("](migration/{name})")),
                "{name} is not linked"
            );
        }
    }
}

#[test]
fn the_table_of_old_systems_says_what_there_is() {
    use vestibule::migration::provider::KINDS;
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let front = std::fs::read_to_string(docs.join("migration.md")).expect("docs/migration.md");
    for kind in KINDS {
        let yes = |there: bool| if there { "yes" } else { "–" };
        let experimental = match kind.build.experimental {
            [] => "–".to_owned(),
            parts => parts.join(", "),
        };
        let row = format!(
            "| `{}` | {} | {} | {experimental} |",
            kind.name,
            yes(kind.build.check.is_some()),
            yes(kind.build.sessions.is_some()),
        );
        assert!(front.contains(&row), "docs/migration.md lacks: {row}");
    }
}

#[test]
fn what_is_experimental_is_said_by_check_and_is_no_problem() {
    use vestibule::migration::provider::{self, KINDS};
    let system = |table: &str| {
        let text = format!("{FINE}[migration]\nkey = \"{SECRET}\"\n[migration.from.{table}");
        let loaded = load_shipped("v.toml", &text).unwrap_or_else(|p| panic!("{p}"));
        cli::check::cautions(&loaded.config)
    };
    let told =
        system("keycloak]\nissuer = \"https://id.example.com/realms/a\"\nclient_id = \"a\"\n");
    assert!(
        told.len() == 1
            && told[0].starts_with("migration.from.keycloak: ")
            && told[0].contains("experimental"),
        "{told:?}"
    );
    assert!(system("clerk]\nsecret_key = \"sk_test_x\"\n").is_empty());
    let of = |name: &str| {
        let kind = KINDS.iter().find(|kind| kind.name == name).expect("a kind");
        provider::caution(kind).is_some()
    };
    for name in [
        "firebase",
        "supertokens",
        "kratos",
        "stytch",
        "descope",
        "rails",
        "laravel",
        "wordpress",
    ] {
        assert!(of(name), "{name}");
    }
}

#[test]
fn an_upstream_at_an_address_of_the_app_is_the_app() {
    let with = |url: &str| {
        let text = format!("{FINE}\n[upstreams.slow]\nurl = \"{url}\"\n");
        let loaded = load(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let app = &loaded.config.server.upstreams[0].addresses[0];
        let same = loaded.config.routes.same_app;
        (format!("{}:{}", app.host, app.port), same)
    };
    let (app, none) = with("http://elsewhere.example:3000");
    assert_eq!(none, [0; 0]);
    assert_eq!(with(&format!("http://{app}")).1, [1]);
    assert_eq!(with("http://LOCALHOST:3000").1, [1]);
    let (_, port) = app.split_once(':').expect("a port");
    assert_eq!(with(&format!("http://elsewhere.example:{port}")).1, [0; 0]);
}
