//! `vestibule bench`, as somebody runs it: what it measures, what it refuses, and that it leaves nothing behind.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _};
use vestibule::bench::tier;
use vestibule::migration::accounts::NewSession;
use vestibule::secret::Secret;
use vestibule::store::scratch::{Place, Scratch, writes_beside_the_app};
use vestibule::store::{self, Settings};
use vestibule::time::UnixMs;

use crate::support::databases::{Dialect, Folder, settings, shared};
use crate::support::redis::{Redis, run as redis_run};
use crate::support::tls::Certificate;
use crate::support::{
    App, Gateway, PATIENCE, SECRET, Seen, Setup, await_until, cookie, record, reply,
};

/// Enough to have figures, and no more: what they are is no business of a test.
const BRIEFLY: [&str; 6] = [
    "--duration=60ms",
    "--warm-up=20ms",
    "--sessions=40",
    "--connections=4",
    "--rounds=2",
    "--quiet",
];

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}

fn command(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command
        .arg("bench")
        .args(arguments)
        .env_clear()
        .env("TMPDIR", folder.join(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn ran(child: Child) -> Ran {
    let output = child.wait_with_output().expect("its end");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Runs it briefly, with a folder of its own for temporary files, which it must leave empty.
fn bench(arguments: &[&str]) -> Ran {
    let folder = Folder::new("bench");
    let all: Vec<&str> = BRIEFLY.iter().chain(arguments).copied().collect();
    let ran = ran(command(&folder, &all).spawn().expect("the program"));
    assert_eq!(left_in(&folder), Vec::<PathBuf>::new(), "{}", ran.err);
    ran
}

fn left_in(folder: &Folder) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("")).expect("the folder");
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn tiers(report: &Value) -> Vec<&str> {
    let tiers = report["tiers"].as_array().expect("tiers");
    tiers
        .iter()
        .map(|tier| tier["id"].as_str().unwrap())
        .collect()
}

fn checks_of<'r>(report: &'r Value, status: &str) -> Vec<&'r str> {
    let checks = report["checks"].as_array().expect("checks").iter();
    let those = checks.filter(|check| check["status"] == status);
    those.map(|check| check["id"].as_str().unwrap()).collect()
}

// ------------------------------------------------------------------------------------------------------------- without arguments

#[test]
fn without_arguments_every_tier_is_measured_and_every_check_passes() {
    let folder = Folder::new("reports");
    let [json, html, markdown] =
        ["r.json", "r.html", "r.md"].map(|name| folder.join(name).display().to_string());
    let ran = bench(&["--output", &json, "--output", &html, "--output", &markdown]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("█") && ran.out.contains("proxy / direct"),
        "{}",
        ran.out
    );

    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(
        (&report["form"], &report["verdict"]),
        (&1.into(), &"ok".into())
    );
    let measured = tiers(&report);
    let own = tier::TIERS.iter().map(|tier| tier.id);
    for id in own.chain(["stampede", "direct", "proxy", "proxy_fixed"]) {
        assert!(measured.contains(&id), "{id} is not in {measured:?}");
    }
    for tier in report["tiers"].as_array().unwrap() {
        let seen = &tier["seen"];
        assert!(seen["count"].as_u64().unwrap() > 0, "{tier}");
        assert_eq!(
            (&seen["errors"], &seen["unexpected"]),
            (&0.into(), &0.into()),
            "{tier}"
        );
        let order = [
            "min_ns", "p50_ns", "p75_ns", "p90_ns", "p95_ns", "p99_ns", "p999_ns", "p9999_ns",
            "max_ns",
        ];
        let order = order.map(|name| seen[name].as_u64().unwrap());
        assert!(order.is_sorted(), "{tier}");
        assert!(!seen["curve"].as_array().unwrap().is_empty());
    }
    assert_eq!(checks_of(&report, "failed"), Vec::<&str>::new());
    let passed = checks_of(&report, "passed");
    for id in [
        "good",
        "none",
        "forged",
        "forged_live",
        "unknown",
        "expired",
        "revoked",
        "spoofed",
        "stampede",
    ] {
        assert!(passed.contains(&id), "{id}: {passed:?}");
    }
    let hash = report["config"]["hash"].as_str().unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(report["load"].as_array().unwrap().len(), 4);
    assert_eq!(report["ratios"][0]["rounds"].as_array().unwrap().len(), 2);
    for (group, fact) in [
        ("machine", "cpu"),
        ("machine", "kernel"),
        ("build", "vestibule"),
        ("build", "commit"),
    ] {
        assert!(
            !report[group][fact].as_str().unwrap().is_empty(),
            "{group}.{fact}"
        );
    }
    if cfg!(target_os = "linux") {
        let of = |id: &str| {
            report["tiers"]
                .as_array()
                .unwrap()
                .iter()
                .find(|tier| tier["id"] == id)
                .unwrap()
        };
        assert!(of("hit")["cpu_ns"].as_f64().unwrap() > 0.0);
        assert_eq!(of("proxy")["cpu_of"], "gateway");
    }

    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.matches("<svg").count() == 3);
    for elsewhere in [
        "http:", "https:", "src=", "<script", "<link", "@import", "url(",
    ] {
        assert!(
            !page.contains(elsewhere),
            "the page asks for something elsewhere: {elsewhere}"
        );
    }
    assert!(
        std::fs::read_to_string(&markdown)
            .unwrap()
            .contains("| hit |")
    );
}

#[test]
fn the_same_settings_have_the_same_hash_and_others_another() {
    let hash = |more: &[&str]| {
        let all: Vec<&str> = ["--json", "--only=anonymous"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        let ran = bench(&all);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.json()["config"]["hash"].clone()
    };
    assert_eq!(hash(&[]), hash(&[]));
    assert_ne!(hash(&[]), hash(&["--set=sessions.cache_ttl=29s"]));
}

#[test]
fn budgets_hold_or_the_command_says_which_does_not_and_ends_with_5() {
    let hit = |budget: &str| bench(&["--only=hit", "--json", "--budget", budget]);
    let within = hit("hit.p99=3600s");
    assert_eq!(within.code, 0, "{}", within.err);
    assert_eq!(within.json()["budgets"][0]["over"], false);
    for budget in ["hit.p99=1ns", "p99=1ns"] {
        let over = hit(budget);
        assert_eq!(over.code, 5, "{}", over.err);
        assert_eq!(over.json()["verdict"], "over_budget");
        assert!(over.err.contains("over budget: hit.p99"), "{}", over.err);
        // Too slow is no reason to hide by how much.
        assert_eq!(tiers(&over.json()), ["hit"]);
    }
    let unmeasured = hit("proxy.p99=1s");
    assert_eq!(unmeasured.code, 2);
    assert!(
        unmeasured.err.contains("not measured"),
        "{}",
        unmeasured.err
    );
}

#[test]
fn a_fixed_rate_is_asked_for_and_said() {
    let ran = bench(&["--only=hit,proxy", "--rate=200", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for tier in ran.json()["tiers"].as_array().unwrap() {
        assert_eq!(
            (&tier["pace"], &tier["rate"]),
            (&"fixed".into(), &200.0.into()),
            "{tier}"
        );
    }
}

#[test]
fn arguments_that_fit_nothing_are_refused() {
    for wrong in [
        &["--only=nonsense"][..],
        &["--budget=p98=1us"],
        &["--budget=nonsense.p99=1us"],
        &["--sessions=0"],
        &["--connections=1000000"],
        &["--rate=0"],
        &["--duration=2h"],
        &["--duration=5"],
        &["--output=report.pdf"],
        &["--url=http://127.0.0.1:1/"],
        &["--against=http://127.0.0.1:1/"],
        &["--pid=1"],
        &["--config=/nowhere/at/all.toml"],
        &["--cookie-file=/nowhere/at/all"],
        &["--env-file=.env"],
        &["--json", "--format=text"],
    ] {
        let ran = bench(wrong);
        assert_eq!(ran.code, 2, "{wrong:?}: {}{}", ran.out, ran.err);
        assert!(!ran.err.is_empty());
    }
    let listed = bench(&["--list"]);
    assert_eq!(listed.code, 0);
    for id in tier::ids() {
        assert!(listed.out.contains(id), "{id}");
    }
}

// ------------------------------------------------------------------------------------------------------------------- own settings

/// A file of settings over a store.
fn config(folder: &Folder, source: &str, more: &str) -> String {
    let path = folder.join("vestibule.toml");
    let text = format!(
        "public_url = \"https://app.example.com\"\n{more}better_auth.secret = \"{SECRET}\"\nupstream.url = \"http://127.0.0.1:1\"\n\
         sessions.source = \"{source}\"\nsessions.timeout = \"30s\"\nroutes.default = \"deny\"\nroutes.sign_in = \"/sign-in\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/db")
        .join(name)
}

const BY_STORE: [&str; 2] = [
    "--json",
    "--only=hit,store_miss,negative,stampede,revoked,proxy",
];

#[test]
fn a_file_of_the_apps_is_measured_on_a_copy_of_its_tables() {
    let folder = Folder::new("own");
    let path = folder.join("app.sqlite");
    std::fs::copy(golden("core.sqlite"), &path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let config = config(&folder, &format!("sqlite:{}", path.display()), "");
    let all: Vec<&str> = ["--config", &config]
        .iter()
        .chain(&BY_STORE)
        .copied()
        .collect();
    let ran = bench(&all);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let report = ran.json();
    assert_eq!(report["config"]["store"], "sqlite");
    assert_eq!(
        tiers(&report),
        [
            "hit",
            "store_miss",
            "stampede",
            "negative",
            "revoked",
            "proxy",
            "direct"
        ]
    );
    assert!(!ran.out.contains(SECRET));
    // Nothing was written into it, nor beside it.
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let names = std::fs::read_dir(folder.join("")).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["app.sqlite", "vestibule.toml"]);
}

/// Names of what a benchmark makes on a server.
async fn made_on(dialect: Dialect, url: &str) -> Vec<String> {
    let names: Vec<(String,)> = match dialect {
        Dialect::Postgres => {
            let mut link = sqlx::PgConnection::connect(url).await.unwrap();
            let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'vestibule\\_%'";
            sqlx::query_as(sql).fetch_all(&mut link).await.unwrap()
        }
        Dialect::MySql => {
            let mut link = sqlx::MySqlConnection::connect(url).await.unwrap();
            let sql = "SELECT CAST(SCHEMA_NAME AS CHAR) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'vestibule%'";
            sqlx::query_as(sql).fetch_all(&mut link).await.unwrap()
        }
    };
    names.into_iter().map(|(name,)| name).collect()
}

/// A server that nobody else uses, so that whatever is made on it is ours.
fn server_with(dialect: Dialect) -> (crate::support::databases::Server, String) {
    let server = crate::support::databases::Server::start(dialect);
    let database = server.load(&golden(match dialect {
        Dialect::Postgres => "core.postgres.sql",
        Dialect::MySql => "core.mysql.sql",
    }));
    let url = server.url(&database);
    (server, url)
}

fn on_a_server(dialect: Dialect) {
    let (_server, url) = server_with(dialect);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = Folder::new("own");
    let config = config(&folder, &url, "");
    let all: Vec<&str> = ["--config", &config]
        .iter()
        .chain(&BY_STORE)
        .copied()
        .collect();
    let refused = bench(&all);
    assert_eq!(refused.code, 2, "{}{}", refused.out, refused.err);
    assert!(refused.err.contains("--allow-write"), "{}", refused.err);
    assert!(runtime.block_on(made_on(dialect, &url)).is_empty());

    let allowed: Vec<&str> = all.iter().copied().chain(["--allow-write"]).collect();
    let ran = bench(&allowed);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let report = ran.json();
    assert_eq!(
        tiers(&report),
        [
            "hit",
            "store_miss",
            "stampede",
            "negative",
            "revoked",
            "proxy",
            "direct"
        ]
    );
    assert!(checks_of(&report, "passed").contains(&"expired"));
    assert!(runtime.block_on(made_on(dialect, &url)).is_empty());

    // Asked to stop in the midst of it, it takes away what it made.
    let temporary = Folder::new("bench");
    let arguments = [
        "--config",
        &config,
        "--allow-write",
        "--only=hit",
        "--duration=10m",
        "--quiet",
    ];
    let child = command(&temporary, &arguments).spawn().unwrap();
    await_until("the scratch", || {
        !runtime.block_on(made_on(dialect, &url)).is_empty()
    });
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let ran = self::ran(child);
    assert_eq!(ran.code, 130, "{}{}", ran.out, ran.err);
    assert!(runtime.block_on(made_on(dialect, &url)).is_empty());
    assert_eq!(left_in(&temporary), Vec::<PathBuf>::new());
}

#[test]
fn postgres_gets_a_schema_of_our_own_only_when_that_is_allowed() {
    on_a_server(Dialect::Postgres);
}

#[test]
fn mysql_gets_a_database_of_our_own_only_when_that_is_allowed() {
    on_a_server(Dialect::MySql);
}

#[test]
fn redis_gets_a_prefix_of_our_own_only_when_that_is_allowed() {
    let redis = Redis::start();
    let folder = Folder::new("own");
    let config = config(&folder, &redis.url(0), "");
    let keys = || -> Vec<String> { redis_run(&mut redis.connect(), &["KEYS", "*"]) };
    let all: Vec<&str> = ["--config", &config]
        .iter()
        .chain(&BY_STORE)
        .copied()
        .collect();
    let refused = bench(&all);
    assert_eq!(refused.code, 2, "{}{}", refused.out, refused.err);
    assert!(keys().is_empty());
    let allowed: Vec<&str> = all.iter().copied().chain(["--allow-write"]).collect();
    let ran = bench(&allowed);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!(ran.json()["config"]["store"], "redis");
    assert_eq!(keys(), Vec::<String>::new());
}

fn new_session(number: usize) -> NewSession {
    static NOW: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    let now = UnixMs(*NOW.get_or_init(|| chrono::Utc::now().timestamp_millis()));
    NewSession {
        id: format!("{number:032}"),
        token: Secret::new(format!("scratch{number:025}")),
        user_id: format!("person{number:026}"),
        expires_at: now.plus(Duration::from_secs(3600)),
        created_at: now,
        updated_at: now,
        ip_address: "127.0.0.1".into(),
        user_agent: "test".into(),
        impersonated_by: None,
        organization_id: None,
        in_database: true,
    }
}

/// Makes sessions beside an app's own tables, and finds them there and the app's own not.
async fn scratch_beside(app: &Settings, own_token: &str, name: &str) {
    let folder = Folder::new("scratch");
    let place = Place {
        name: format!(
            "vestibule_bench_test_{}",
            name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
        ),
        folder: folder.join(""),
    };
    let mut scratch = Scratch::beside(app, place)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let filled = scratch.fill((0..3).map(new_session).collect()).await;
    let opened = match &filled {
        Ok(()) => store::open(scratch.settings()).await,
        Err(error) => Err(error.clone()),
    };
    let found = match &opened {
        Ok(source) => {
            let mut found = Vec::new();
            for number in 0..3 {
                found.push(source.find(new_session(number).token.expose()).await);
            }
            found.push(source.find(own_token).await);
            found
        }
        Err(_) => Vec::new(),
    };
    let ended = scratch.end(&[new_session(0).token]).await;
    let after = match &opened {
        Ok(source) => Some(source.find(new_session(0).token.expose()).await),
        Err(_) => None,
    };
    let removed = scratch.remove().await;
    filled.unwrap_or_else(|error| panic!("{name}: {error}"));
    opened
        .map(drop)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    for (number, found) in found.iter().take(3).enumerate() {
        let record = found
            .clone()
            .unwrap()
            .unwrap_or_else(|| panic!("{name}: {number}"));
        let expected = new_session(number);
        assert_eq!(record.token.expose(), expected.token.expose());
        let apart = record.expires_at.0.abs_diff(expected.expires_at.0);
        assert!(apart < 1000, "{name}: {record:?}");
    }
    assert_eq!(
        found[3].clone().unwrap(),
        None,
        "{name}: a row of the app's came along"
    );
    ended.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(after.unwrap().unwrap(), None, "{name}: it was ended");
    removed.unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scratch_can_be_made_beside_every_layout_of_tables() {
    let mut seen = 0;
    let mut files: Vec<PathBuf> = std::fs::read_dir(golden(""))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        // The same tables as beside it, without rows.
        if name.contains(".ddl.") {
            continue;
        }
        let folder = Folder::new("layout");
        let url = if name.ends_with(".sqlite") {
            let path = folder.join("app.sqlite");
            std::fs::copy(&file, &path).unwrap();
            format!("sqlite:{}", path.display())
        } else if name.contains("postgres") && name.ends_with(".sql") {
            let server = shared(Dialect::Postgres);
            server.url(&server.load(&file))
        } else if name.contains("mysql") && name.ends_with(".sql") {
            let server = shared(Dialect::MySql);
            server.url(&server.load(&file))
        } else {
            continue;
        };
        // However busy the machine is: what is slow here is no matter of this test.
        let app = Settings {
            timeout: Duration::from_secs(60),
            ..settings(&url)
        };
        assert_eq!(
            writes_beside_the_app(&app),
            !url.starts_with("sqlite"),
            "{name}"
        );
        // Any token the app has must not be found: none of its rows came along.
        let token = token_of(&url).await.unwrap_or_else(|| "none".into());
        scratch_beside(&app, &token, &name).await;
        seen += 1;
    }
    assert!(seen >= 6, "only {seen} layouts were found");
}

/// A token the app has.
async fn token_of(url: &str) -> Option<String> {
    for table in ["session", "sessions"] {
        let sql = format!("SELECT token FROM {table} LIMIT 1");
        let found: Result<Vec<(String,)>, sqlx::Error> = if url.starts_with("sqlite") {
            let mut link = sqlx::SqliteConnection::connect(url).await.unwrap();
            sqlx::query_as(AssertSqlSafe(sql))
                .fetch_all(&mut link)
                .await
        } else if url.starts_with("postgres") {
            let mut link = sqlx::PgConnection::connect(url).await.unwrap();
            sqlx::query_as(AssertSqlSafe(sql))
                .fetch_all(&mut link)
                .await
        } else {
            let mut link = sqlx::MySqlConnection::connect(url).await.unwrap();
            sqlx::query_as(AssertSqlSafe(sql))
                .fetch_all(&mut link)
                .await
        };
        if let Ok(rows) = found
            && let Some((token,)) = rows.into_iter().next()
        {
            return Some(token);
        }
    }
    None
}

#[test]
fn a_counter_of_the_apps_ids_is_not_moved_by_a_scratch() {
    let server = shared(Dialect::Postgres);
    let database = server.database();
    server.sql(
        &database,
        "CREATE TABLE \"user\" (id serial PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, \"emailVerified\" boolean NOT NULL,
           \"createdAt\" timestamptz NOT NULL, \"updatedAt\" timestamptz NOT NULL, plan text NOT NULL);
         CREATE TABLE session (id serial PRIMARY KEY, \"expiresAt\" timestamptz NOT NULL, token text NOT NULL UNIQUE,
           \"createdAt\" timestamptz NOT NULL, \"updatedAt\" timestamptz NOT NULL, \"userId\" integer NOT NULL REFERENCES \"user\" (id));
         CREATE TABLE account (id serial PRIMARY KEY, \"accountId\" text NOT NULL, \"providerId\" text NOT NULL,
           \"userId\" integer NOT NULL, password text)",
    );
    let url = server.url(&database);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        scratch_beside(&settings(&url), "none", "counter").await;
        let mut link = sqlx::PgConnection::connect(&url).await.unwrap();
        let sql = "SELECT (nextval('user_id_seq')::bigint, nextval('session_id_seq')::bigint)::text, (SELECT count(*)::text FROM session)";
        let (next, rows): (String, String) = sqlx::query_as(sql).fetch_one(&mut link).await.unwrap();
        assert_eq!((next.as_str(), rows.as_str()), ("(1,1)", "0"));
    });
}

#[test]
fn an_app_that_is_asked_over_http_is_measured_with_a_session_that_was_given() {
    let dates = r#""createdAt":"2026-11-01T00:00:00.000Z","updatedAt":"2026-11-01T00:00:00.000Z""#;
    let body = format!(
        r#"{{"session":{{"id":"s1","token":"tok","userId":"u1","expiresAt":"2099-01-01T00:00:00.000Z",{dates}}},"user":{{"id":"u1","name":"Ada","email":"ada@example.com","emailVerified":true,{dates}}}}}"#
    );
    let app = App::scripted(move |seen: &Seen, stream| {
        let known = seen
            .all("cookie")
            .iter()
            .any(|sent| sent.contains(&cookie("tok")));
        let json = [("content-type", "application/json")];
        reply(
            stream,
            200,
            &json,
            if known { body.as_bytes() } else { b"null" },
        );
    });
    let folder = Folder::new("own");
    let config = config(&folder, &format!("http://{}/api/auth", app.address), "");
    // The app's cookies are called otherwise where the public address is https.
    let file = cookie_file(&folder, &format!("__Secure-{}", cookie("tok")));
    let without = bench(&["--config", &config, "--json", "--only=hit,forged"]);
    assert_eq!(without.code, 0, "{}{}", without.out, without.err);
    assert_eq!(tiers(&without.json()), ["forged"]);
    assert!(
        without.json()["skipped"][0]["why"]
            .as_str()
            .unwrap()
            .contains("--cookie-file")
    );
    let ran = bench(&[
        "--config",
        &config,
        "--cookie-file",
        &file,
        "--json",
        "--only=hit,store_miss,stampede,negative,proxy",
    ]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!(
        tiers(&ran.json()),
        ["hit", "store_miss", "stampede", "proxy", "direct"]
    );
    assert_eq!(ran.json()["skipped"][0]["id"], "negative");
}

// ----------------------------------------------------------------------------------------------------------- somebody else's server

fn cookie_file(folder: &Folder, text: &str) -> String {
    let path = folder.join("cookie.txt");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_running_gateway_is_measured_over_the_wire_and_checked() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    gateway.store.put(record("tok", "ada"));
    gateway.store.put(record("gone", "grace"));
    let folder = Folder::new("wire");
    let live = cookie("tok");
    let file = cookie_file(&folder, &format!("# a session\ncookie: {live}\n"));
    let ended = folder.join("ended.txt");
    std::fs::write(&ended, cookie("never-was")).unwrap();
    let ended = ended.display().to_string();
    let url = |path: &str| format!("http://{}{path}", gateway.address);
    // The gateway answers for app.test alone: the name is in the URL, the address is that of this machine.
    let closed = bench(&["--url", &url("/page"), "--cookie-file", &file, "--json"]);
    assert_eq!(
        closed.code, 1,
        "another host is no good session: {}",
        closed.out
    );
    assert!(tiers(&closed.json()).is_empty());

    let hosts = vec!["127.0.0.1".to_owned()];
    let mut setup = Setup::in_front_of(app.address);
    setup.server.hosts = hosts;
    let gateway = setup.start();
    gateway.store.put(record("tok", "ada"));
    let url = |path: &str| format!("http://{}{path}", gateway.address);
    let pid = std::process::id().to_string();
    let ran = bench(&[
        "--url",
        &url("/page?a=1"),
        "--cookie-file",
        &file,
        "--revoked-cookie-file",
        &ended,
        "--pid",
        &pid,
        "--json",
    ]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let report = ran.json();
    assert_eq!(tiers(&report), ["url", "url_forged", "url_none"]);
    assert_eq!(
        checks_of(&report, "passed"),
        ["good", "none", "forged", "revoked"]
    );
    assert_eq!(checks_of(&report, "not_checked"), ["expired", "spoofed"]);
    let token = live.split_once('=').unwrap().1;
    assert!(!ran.out.contains(token) && !ran.err.contains(token));

    // A page that is open to everybody shows nothing of sessions: that is told, and no figure.
    let open = bench(&[
        "--url",
        &url("/public/page"),
        "--cookie-file",
        &file,
        "--json",
    ]);
    assert_eq!(open.code, 1);
    assert_eq!(open.json()["verdict"], "incorrect");
    assert_eq!(checks_of(&open.json(), "failed"), ["none", "forged"]);
    assert!(tiers(&open.json()).is_empty());
}

#[test]
fn a_running_gateway_is_measured_over_tls_when_its_certificate_is_to_be_believed() {
    let app = App::start();
    let certificate = Certificate::self_signed();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    setup.server.tls = Some(certificate.files.clone());
    let gateway = setup.start();
    gateway.store.put(record("tok", "ada"));
    let folder = Folder::new("wire-tls");
    let file = cookie_file(&folder, &cookie("tok"));
    let url = |host: &str| format!("https://{host}:{}/page", gateway.address.port());
    let measured = |url: &str, authority: Option<&Path>| {
        let mut arguments = vec!["--url", url, "--cookie-file", &file, "--json"];
        arguments.extend(
            authority
                .map(|path| path.to_str().unwrap())
                .iter()
                .flat_map(|path| ["--ca-file", path]),
        );
        bench(&arguments)
    };
    let own = Some(certificate.files.cert.as_path());
    // On this machine nobody stands in between: any certificate will do, unless an authority is named.
    for (host, authority) in [("localhost", own), ("localhost", None), ("127.0.0.1", None)] {
        let ran = measured(&url(host), authority);
        assert_eq!(ran.code, 0, "{host} {authority:?} {}{}", ran.out, ran.err);
        assert_eq!(tiers(&ran.json()), ["url", "url_forged", "url_none"]);
        assert_eq!(checks_of(&ran.json(), "passed"), ["good", "none", "forged"]);
    }
    let other = Certificate::self_signed();
    let other = Some(other.files.cert.as_path());
    for (host, authority) in [("localhost", other), ("127.0.0.1", own)] {
        let ran = measured(&url(host), authority);
        assert_eq!(ran.code, 3, "{host} {authority:?} {}{}", ran.out, ran.err);
        assert!(ran.err.contains("certificate"), "{}", ran.err);
    }
    let ran = measured(&url("localhost"), Some(&folder.join("cookie.txt")));
    assert_eq!(ran.code, 2, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("--ca-file"), "{}", ran.err);
}

/// An app whose `get-session` knows one cookie.
fn app_with_its_own_check() -> App {
    App::scripted(|seen: &Seen, stream| {
        let known = seen.all("cookie").contains(&cookie("tok").as_str());
        let body: &[u8] = match known {
            true => br#"{"session":{},"user":{}}"#,
            false => b"null",
        };
        reply(stream, 200, &[("content-type", "application/json")], body);
    })
}

#[test]
fn the_apps_own_check_is_measured_beside_it_in_rounds() {
    let app = app_with_its_own_check();
    let mut setup = Setup::in_front_of(app.address);
    setup.server.hosts = vec!["127.0.0.1".to_owned()];
    let gateway = setup.start();
    gateway.store.put(record("tok", "ada"));
    let folder = Folder::new("wire");
    let file = cookie_file(&folder, &cookie("tok"));
    let url = format!("http://{}/page", gateway.address);
    let against = format!("http://{}/api/auth/get-session", app.address);
    let ran = bench(&[
        "--url",
        &url,
        "--against",
        &against,
        "--cookie-file",
        &file,
        "--only=url",
        "--json",
    ]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let report = ran.json();
    assert_eq!(tiers(&report), ["url", "against"]);
    let ratio = &report["ratios"][0];
    assert_eq!(
        (&ratio["above"], &ratio["below"]),
        (&"against".into(), &"url".into())
    );
    assert_eq!(ratio["rounds"].as_array().unwrap().len(), 2);

    // A session the app does not know makes no comparison.
    let stranger = cookie_file(&folder, &cookie("other"));
    gateway.store.put(record("other", "grace"));
    let ran = bench(&[
        "--url",
        &url,
        "--against",
        &against,
        "--cookie-file",
        &stranger,
        "--json",
    ]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert_eq!(checks_of(&ran.json(), "failed"), ["against"]);
}

/// A server that is as it should be for so many requests, and then does something else.
fn turning(after: usize, then: impl Fn(&mut std::net::TcpStream) + Send + Sync + 'static) -> App {
    let asked = Arc::new(AtomicUsize::new(0));
    App::scripted(move |seen, stream| {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        if number >= after {
            return then(stream);
        }
        let good = seen.all("cookie").contains(&"session=good.sig");
        reply(stream, if good { 200 } else { 401 }, &[], b"page");
    })
}

#[test]
fn a_server_that_hangs_up_or_falls_silent_is_counted_and_does_not_hang_us() {
    let folder = Folder::new("wire");
    let file = cookie_file(&folder, "session=good.sig");
    let hangs_up = turning(20, |stream| {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let silent = turning(20, |stream| {
        // Until the other side has had enough.
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.read(&mut [0]);
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let nonsense = turning(20, |stream| {
        use std::io::Write as _;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: minus one\r\n\r\n");
    });
    for app in [hangs_up, silent, nonsense] {
        for rate in [&[][..], &["--rate=500"]] {
            let url = format!("http://{}/", app.address);
            let mut all = vec![
                "--url",
                &url,
                "--cookie-file",
                &file,
                "--only=url",
                "--wait=300ms",
                "--json",
            ];
            all.extend(rate);
            let ran = bench(&all);
            // Whoever answers nothing at all any more is not reachable, for the second run.
            if ran.code == 3 {
                assert!(ran.err.contains("does not answer"), "{}", ran.err);
                continue;
            }
            assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
            let report = ran.json();
            assert_eq!(report["verdict"], "incorrect");
            let checks = report["checks"].as_array().unwrap();
            let told = checks
                .iter()
                .find(|check| check["id"] == "tier_url")
                .unwrap();
            assert!(
                told["detail"]
                    .as_str()
                    .unwrap()
                    .contains("without an answer"),
                "{told}"
            );
        }
    }
    // And its twin, which goes on.
    let good = turning(usize::MAX, |_| {});
    let url = format!("http://{}/", good.address);
    let ran = bench(&[
        "--url",
        &url,
        "--cookie-file",
        &file,
        "--only=url",
        "--json",
    ]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let nobody = bench(&["--url", "http://127.0.0.1:1/", "--cookie-file", &file]);
    assert_eq!(nobody.code, 3, "{}", nobody.err);
}

#[test]
fn answers_in_chunks_and_without_a_length_are_read_to_their_end() {
    let chunks = App::scripted(|seen, stream| {
        use std::io::Write as _;
        let good = seen.all("cookie").contains(&"session=good.sig");
        if !good {
            return reply(stream, 401, &[], b"");
        }
        let _ = stream.write_all(
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n5;x=y\r\ndefgh\r\n0\r\nt: u\r\n\r\n",
        );
    });
    let ends = App::scripted(|seen, stream| {
        use std::io::Write as _;
        let good = seen.all("cookie").contains(&"session=good.sig");
        let status = if good { "200" } else { "403" };
        let _ = stream.write_all(
            format!("HTTP/1.1 {status} X\r\nconnection: close\r\n\r\nall of it").as_bytes(),
        );
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let folder = Folder::new("wire");
    let file = cookie_file(&folder, "session=good.sig");
    for app in [chunks, ends] {
        let url = format!("http://{}/", app.address);
        let ran = bench(&[
            "--url",
            &url,
            "--cookie-file",
            &file,
            "--only=url",
            "--json",
        ]);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    }
}
