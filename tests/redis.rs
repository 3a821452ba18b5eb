//! Sessions in Redis: faults, prefixes, certificates, the database behind it, and the line on which revocations travel.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::Connection;
use vestibule::secret::Secret;
use vestibule::session::feed::{Ended, Feed, Listener, TokenDigest};
use vestibule::session::{Source, SourceError};
use vestibule::store::{self, OpenError, Opened, SecondaryStorage, Settings};
use vestibule::time::UnixMs;

use crate::support::databases::{Dialect, Folder, Server, program, shared};
use crate::support::redis::{Redis, connect, run};
use crate::support::{App, Gateway, NOW, PATIENCE, Setup, cookie, free_port, reply};

const TOKEN: &str = "TOKENTOKENTOKENTOKENTOKENTOKEN01";

/// How long a lookup may take in these tests, and how much later than that its answer may come on a busy machine.
const DEADLINE: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(3);

/// An entry as the framework writes it.
fn entry(token: &str, user: &str) -> String {
    let dates = r#""createdAt":"2026-11-01T00:00:00.000Z","updatedAt":"2026-11-01T00:00:00.000Z""#;
    format!(
        r#"{{"session":{{"id":"s1","token":"{token}","userId":"{user}","expiresAt":"2099-01-01T00:00:00.000Z",{dates}}},"user":{{"id":"{user}","name":"Ada","email":"ada@example.com","emailVerified":true,{dates}}}}}"#
    )
}

fn sign_in(redis: &Redis, token: &str) {
    put(&mut redis.connect(), token, &entry(token, "u1"));
}

fn put(connection: &mut Connection, name: &str, value: &str) {
    let _: String = run(connection, &["SET", &format!("better-auth:{name}"), value]);
}

fn quick(redis: &Redis) -> Settings {
    Settings {
        timeout: DEADLINE,
        ..redis.settings()
    }
}

async fn opened(settings: &Settings) -> Opened {
    store::inspect(settings)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn refused(settings: &Settings) -> OpenError {
    match store::inspect(settings).await {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

/// Looks up, and holds the answer to the deadline.
async fn find(source: &Arc<dyn Source>, token: &str) -> Result<bool, SourceError> {
    let began = Instant::now();
    let answer = source.find(token).await;
    let took = began.elapsed();
    assert!(took < DEADLINE + GRACE, "answered after {took:?}");
    if let Err(error) = &answer {
        let text = format!("{error} {error:?}");
        assert!(!text.contains(token) && !text.contains("hunter2"), "{text}");
    }
    answer.map(|record| record.is_some())
}

async fn healthy(source: &Arc<dyn Source>) {
    assert!(find(source, TOKEN).await.unwrap());
    assert!(!find(source, "no-such-token").await.unwrap());
    source.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_at_the_start_is_a_dependency_and_no_mistake() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let began = Instant::now();
    let error = refused(&crate::support::databases::settings(&url)).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    assert!(!error.is_configuration());
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "a refusal is told at once"
    );
}

#[test]
fn serve_ends_with_3_when_redis_is_down_and_with_2_when_it_refuses_us() {
    let redis = Redis::start_with(&["--requirepass", "right"]);
    let folder = Folder::new("redis-serve");
    for (url, code) in [
        (format!("redis://127.0.0.1:{}", free_port()), 3),
        (format!("redis://:hunter2@127.0.0.1:{}", redis.port), 2),
    ] {
        let text = format!(
            "public_url = \"http://localhost:8080\"\n[upstream]\nurl = \"http://127.0.0.1:9\"\n[better_auth]\nsecret = \"{}\"\n\
             [sessions]\nsource = \"{url}\"\n[routes]\ndefault = \"signed-in\"\n",
            crate::support::SECRET
        );
        let file = folder.join("vestibule.toml");
        std::fs::write(&file, text).unwrap();
        let ended = Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .args(["serve", "--config"])
            .arg(&file)
            .env_clear()
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{told}");
        assert!(
            told.contains("redis at 127.0.0.1") && !told.contains("hunter2"),
            "{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_down_and_comes_back() {
    let redis = Redis::start();
    sign_in(&redis, TOKEN);
    let source = opened(&quick(&redis)).await.source;
    healthy(&source).await;
    redis.stop();
    for _ in 0..3 {
        let began = Instant::now();
        let error = find(&source, TOKEN).await.unwrap_err();
        assert!(
            matches!(error, SourceError::Unreachable { .. }),
            "{error:?}"
        );
        assert!(began.elapsed() < DEADLINE, "a refusal is told at once");
    }
    assert!(source.ping().await.is_err());
    redis.resume();
    // It is empty now, and says so: that is an answer.
    assert!(!find(&source, TOKEN).await.unwrap());
    sign_in(&redis, TOKEN);
    healthy(&source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restarted_costs_no_lookup() {
    let redis = Redis::start();
    let source = opened(&quick(&redis)).await.source;
    for _ in 0..3 {
        redis.stop();
        redis.resume();
        sign_in(&redis, TOKEN);
        healthy(&source).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_ends_cost_no_lookup() {
    let redis = Redis::start();
    sign_in(&redis, TOKEN);
    let source = opened(&quick(&redis)).await.source;
    let mut operator = redis.connect();
    for _ in 0..20 {
        let _: i64 = run(
            &mut operator,
            &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
        );
        healthy(&source).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_a_timeout_and_recovers() {
    let redis = Redis::start();
    sign_in(&redis, TOKEN);
    let source = opened(&quick(&redis)).await.source;
    healthy(&source).await;
    redis.signal("STOP");
    // Many at once, twice: the second time there is no connection to ask on.
    for _ in 0..2 {
        let waiting = (0..20).map(|_| find(&source, TOKEN));
        for answer in futures_util::future::join_all(waiting).await {
            let error = answer.unwrap_err();
            assert!(matches!(error, SourceError::Timeout { .. }), "{error:?}");
        }
    }
    redis.signal("CONT");
    healthy(&source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_may_wait_are_turned_away_at_once() {
    let redis = Redis::start();
    let settings = Settings {
        connections: 2,
        waiting_max: 3,
        ..quick(&redis)
    };
    let source = opened(&settings).await.source;
    redis.signal("STOP");
    let answers = futures_util::future::join_all((0..12).map(|_| find(&source, TOKEN))).await;
    let busy = |error: &SourceError| matches!(error, SourceError::Busy { .. });
    let busy = answers
        .iter()
        .filter(|answer| answer.as_ref().is_err_and(busy))
        .count();
    assert_eq!(busy, 12 - 5);
    redis.signal("CONT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_answers_503_and_signs_nobody_out() {
    let redis = Redis::start();
    sign_in(&redis, TOKEN);
    let source = opened(&quick(&redis)).await.source;
    let app = App::start();
    let gateway = Setup::in_front_of(app.address).start_from(source);
    let header = cookie(TOKEN);
    let get = |path: &str| gateway.get(path, &[("cookie", &header)]);
    assert_eq!(get("/strict/x").status, 200);
    redis.stop();
    let answer = get("/strict/x");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(get("/public/x").status, 200);
    redis.resume();
    sign_in(&redis, TOKEN);
    assert_eq!(get("/strict/x").status, 200);
    // Gone from Redis is gone.
    let _: i64 = run(
        &mut redis.connect(),
        &["DEL", &format!("better-auth:{TOKEN}")],
    );
    assert_eq!(get("/strict/x").status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_a_mistake_in_the_configuration() {
    let redis = Redis::start_with(&["--requirepass", "right"]);
    for wrong in ["redis://:hunter2@", "redis://ada:hunter2@", "redis://"] {
        let url = format!("{wrong}127.0.0.1:{}", redis.port);
        let error = refused(&crate::support::databases::settings(&url)).await;
        assert!(
            matches!(error, OpenError::Denied { .. }),
            "{wrong}: {error:?}"
        );
        assert!(error.is_configuration());
        let told = format!("{error} {error:?} {}", error.advice());
        assert!(!told.contains("hunter2"), "{told}");
    }
    let url = format!("redis://:right@127.0.0.1:{}", redis.port);
    let source = opened(&crate::support::databases::settings(&url))
        .await
        .source;
    source.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_only_read_is_enough_and_less_is_said() {
    let redis = Redis::start();
    sign_in(&redis, TOKEN);
    let mut operator = redis.connect();
    for (name, rights) in [
        ("reader", &["~better-auth:*", "+getrange", "+ping"][..]),
        ("blind", &["~other:*", "+getrange", "+ping"][..]),
    ] {
        let mut words = vec!["ACL", "SETUSER", name, "on", ">hunter2", "resetkeys"];
        words.extend(rights);
        let _: String = run(&mut operator, &words);
    }
    let url = |name: &str| format!("redis://{name}:hunter2@127.0.0.1:{}", redis.port);
    let reader = opened(&Settings {
        timeout: DEADLINE,
        ..crate::support::databases::settings(&url("reader"))
    })
    .await;
    healthy(&reader.source).await;
    assert!(
        reader
            .detected
            .warnings
            .iter()
            .any(|w| w.contains("CONFIG GET"))
    );
    let error = refused(&crate::support::databases::settings(&url("blind"))).await;
    assert!(matches!(error, OpenError::Denied { .. }), "{error:?}");
    // Rights taken away while we run: nobody is told to be signed out.
    let _: String = run(&mut operator, &["ACL", "SETUSER", "reader", "-getrange"]);
    assert!(find(&reader.source, TOKEN).await.is_err());
    // Prolonging takes more, and says so.
    let extend = reader.extend.unwrap();
    assert!(extend.extend(TOKEN, NOW, NOW, NOW).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_speaks_another_language_is_no_redis() {
    use std::io::{Read as _, Write as _};

    for said in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "SSH-2.0-x\r\n",
        "\0\u{1}\u{2}",
        "",
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 64]);
                let _ = stream.write_all(said.as_bytes());
            }
        });
        let url = format!("redis://127.0.0.1:{port}");
        let error = refused(&crate::support::databases::settings(&url)).await;
        assert!(
            matches!(error, OpenError::Unreachable { .. }),
            "{said}: {error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_larger_than_any_session_is_not_read() {
    let redis = Redis::start();
    let picture = |bytes: usize| {
        let name = "x".repeat(bytes);
        entry(TOKEN, "u1").replace("Ada", &name)
    };
    let source = opened(&redis.settings()).await.source;
    let mut connection = redis.connect();
    put(&mut connection, TOKEN, &picture(500_000));
    assert!(source.find(TOKEN).await.unwrap().is_some());
    put(&mut connection, TOKEN, &picture(1 << 20));
    let error = source.find(TOKEN).await.unwrap_err();
    assert!(matches!(error, SourceError::Garbage { .. }), "{error:?}");
    put(&mut connection, TOKEN, &entry(TOKEN, "u1"));
    let before = format!("revoked-sessions-before-{}", "u1");
    put(&mut connection, &before, &"0".repeat(1000));
    assert!(source.find(TOKEN).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_other_kinds_and_prefixes_are_no_sessions() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    sign_in(&redis, TOKEN);
    let source = opened(&redis.settings()).await.source;
    let _: String = run(
        &mut connection,
        &["SET", "myapp:elsewhere", &entry("elsewhere", "u1")],
    );
    let _: String = run(&mut connection, &["SET", "bare", &entry("bare", "u1")]);
    let _: i64 = run(&mut connection, &["LPUSH", "better-auth:list", "x"]);
    put(&mut connection, "active-sessions-u1", "[]");
    put(&mut connection, "revoked-sessions-before-u2", "5");
    put(&mut connection, "verification:x", "{}");
    put(&mut connection, "192.0.2.1|/sign-in", "3");
    for name in [
        "elsewhere",
        "bare",
        "myapp:elsewhere",
        "active-sessions-u1",
        "revoked-sessions-before-u2",
        "verification:x",
        "192.0.2.1|/sign-in",
        "",
        "tokentokentokentokentokentoken01",
        "TOKENTOKENTOKENTOKENTOKENTOKEN01\0",
    ] {
        assert!(source.find(name).await.unwrap().is_none(), "{name}");
    }
    assert!(source.find("list").await.is_err(), "of another type");
    for (prefix, token) in [("myapp:", "elsewhere"), ("", "bare")] {
        let settings = Settings {
            secondary: SecondaryStorage {
                key_prefix: prefix.into(),
                ..SecondaryStorage::default()
            },
            ..redis.settings()
        };
        let source = opened(&settings).await.source;
        assert!(source.find(token).await.unwrap().is_some());
        assert!(source.find(TOKEN).await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_are_told_apart_by_their_number() {
    let redis = Redis::start();
    let _: String = run(
        &mut connect(&redis.url(3)),
        &["SET", &format!("better-auth:{TOKEN}"), &entry(TOKEN, "u1")],
    );
    let there = opened(&crate::support::databases::settings(&redis.url(3))).await;
    let here = opened(&redis.settings()).await;
    assert!(there.source.find(TOKEN).await.unwrap().is_some());
    assert!(here.source.find(TOKEN).await.unwrap().is_none());
    let error = refused(&crate::support::databases::settings(&redis.url(99))).await;
    assert!(error.is_configuration(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_socket() {
    let folder = Folder::new("socket");
    let socket = folder.join("redis.sock");
    let redis = Redis::start_with(&["--unixsocket", &socket.display().to_string()]);
    sign_in(&redis, TOKEN);
    let url = format!("redis+unix://{}", socket.display());
    let source = opened(&crate::support::databases::settings(&url))
        .await
        .source;
    healthy(&source).await;
}

/// A certificate for 127.0.0.1 and its key, in a folder.
fn certificate(folder: &Folder, name: &str) -> (String, String) {
    let path = |end: &str| folder.join(&format!("{name}.{end}")).display().to_string();
    let (certificate, key) = (path("crt"), path("key"));
    let made = Command::new(program("openssl", "openssl"))
        .args([
            "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .unwrap();
    assert!(made.status.success());
    (certificate, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked() {
    let folder = Folder::new("redis-tls");
    let (own, key) = certificate(&folder, "own");
    let (other, _) = certificate(&folder, "other");
    let port = free_port();
    let redis = Redis::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &own,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
    ]);
    sign_in(&redis, TOKEN);
    let at = |rest: &str| {
        crate::support::databases::settings(&format!("rediss://127.0.0.1:{port}{rest}"))
    };
    let source = opened(&at(&format!("?sslrootcert={own}"))).await.source;
    healthy(&source).await;
    for wrong in [format!("?sslrootcert={other}"), String::new()] {
        let error = refused(&at(&wrong)).await;
        assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    for unreadable in [folder.join("none").display().to_string(), key.clone()] {
        let error = refused(&at(&format!("?sslrootcert={unreadable}"))).await;
        assert!(matches!(error, OpenError::Url { .. }), "{error:?}");
    }
    // In the clear to a port that speaks TLS, and the other way round.
    let plain = crate::support::databases::settings(&format!("redis://127.0.0.1:{port}"));
    assert!(!refused(&plain).await.is_configuration());
    let secure = format!("rediss://127.0.0.1:{}?sslrootcert={own}", redis.port);
    assert!(
        !refused(&crate::support::databases::settings(&secure))
            .await
            .is_configuration()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_answers_lookups_and_prolongs_nothing() {
    let primary = Redis::start();
    sign_in(&primary, TOKEN);
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let opened = opened(&quick(&replica)).await;
    let began = Instant::now();
    while !matches!(find(&opened.source, TOKEN).await, Ok(true)) {
        assert!(began.elapsed() < PATIENCE, "it never became a replica");
        tokio::task::yield_now().await;
    }
    let seen = opened.source.find(TOKEN).await.unwrap().unwrap().expires_at;
    let extend = opened.extend.unwrap();
    let error = extend.extend(TOKEN, seen, UnixMs(seen.0 + 1000), NOW).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("read-only replica"), "{error}");
    healthy(&opened.source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_is_refused_by_name() {
    let node = Redis::start_with(&["--cluster-enabled", "yes"]);
    // Without slots it answers CLUSTERDOWN.
    let error = refused(&node.settings()).await;
    assert!(matches!(error, OpenError::Cluster { .. }), "{error:?}");
    assert!(error.is_configuration() && error.advice().contains("no cluster"));
    // With all slots of the cluster it is as good as any other.
    let mut operator = node.connect();
    let _: String = run(&mut operator, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let began = Instant::now();
    while store::inspect(&node.settings()).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "the cluster never came up");
        tokio::task::yield_now().await;
    }
    let source = opened(&node.settings()).await.source;
    assert!(source.find(TOKEN).await.unwrap().is_none());
    // A slot that moves away while we run.
    let _: String = run(&mut operator, &["CLUSTER", "DELSLOTSRANGE", "0", "16383"]);
    let began = Instant::now();
    loop {
        match source.find(TOKEN).await {
            Err(error) if error.to_string().contains("Redis Cluster") => break,
            _ => assert!(began.elapsed() < PATIENCE, "it never said so"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_prolonged_once_and_never_revived() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    sign_in(&redis, TOKEN);
    let opened = opened(&redis.settings()).await;
    let extend = opened.extend.unwrap();
    let seen = UnixMs(4_070_908_800_000);
    let until = UnixMs(NOW.0 + 604_800_000);
    // Many gateways at once: one of them writes.
    let answers =
        futures_util::future::join_all((0..8).map(|_| extend.extend(TOKEN, seen, until, NOW)))
            .await;
    let written = answers
        .into_iter()
        .filter(|answer| *answer.as_ref().unwrap())
        .count();
    assert_eq!(written, 1);
    let later = UnixMs(until.0 + 1000);
    assert!(extend.extend(TOKEN, until, later, NOW).await.unwrap());
    // Ended, but its entry is still there: the mark ends before a longer session would.
    put(
        &mut connection,
        "revoked-sessions-before-u1",
        "1793491200001",
    );
    assert!(
        !extend
            .extend(TOKEN, later, UnixMs(later.0 + 1), NOW)
            .await
            .unwrap()
    );
    let _: i64 = run(
        &mut connection,
        &["DEL", "better-auth:revoked-sessions-before-u1"],
    );
    let _: i64 = run(&mut connection, &["DEL", &format!("better-auth:{TOKEN}")]);
    assert!(
        !extend
            .extend(TOKEN, later, UnixMs(later.0 + 1), NOW)
            .await
            .unwrap()
    );
    let gone: i64 = run(
        &mut connection,
        &["EXISTS", &format!("better-auth:{TOKEN}")],
    );
    assert_eq!(gone, 0);
    // A life that is over is not written.
    sign_in(&redis, TOKEN);
    assert!(
        !extend
            .extend(TOKEN, seen, UnixMs(NOW.0 + 999), NOW)
            .await
            .unwrap()
    );
}

// ------------------------------------------------------------------------------------------------- the database behind it

/// A database of the app with one session, `behind`, whose row lives until 2099.
async fn database(folder: &Folder) -> String {
    let url = format!("sqlite:{}", folder.join("app.db").display());
    let mut app: sqlx::SqliteConnection =
        <sqlx::SqliteConnection as sqlx::Connection>::connect(&format!("{url}?mode=rwc"))
            .await
            .unwrap();
    let sql = "CREATE TABLE user (id text PRIMARY KEY, name text, email text, emailVerified integer, createdAt date, updatedAt date); \
        CREATE TABLE session (id text PRIMARY KEY, expiresAt date, token text UNIQUE, createdAt date, updatedAt date, userId text); \
        INSERT INTO user VALUES ('u1', 'Ada', 'ada@example.com', 1, '2026-11-01T00:00:00.000Z', '2026-11-01T00:00:00.000Z'); \
        INSERT INTO session VALUES ('s2', '2099-01-01T00:00:00.000Z', 'behind', '2026-11-01T00:00:00.000Z', '2026-11-01T00:00:00.000Z', 'u1'); \
        INSERT INTO session VALUES ('s1', '2099-01-01T00:00:00.000Z', 'TOKENTOKENTOKENTOKENTOKENTOKEN01', '2026-11-01T00:00:00.000Z', '2026-11-01T00:00:00.000Z', 'u1')";
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut app)
        .await
        .unwrap();
    url
}

fn with_database(redis: &Redis, url: &str, store: bool, preserve: bool) -> Settings {
    Settings {
        secondary: SecondaryStorage {
            database: Some(Secret::new(url)),
            store_in_database: store,
            preserve_in_database: preserve,
            ..SecondaryStorage::default()
        },
        ..quick(redis)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_asked_only_where_its_rows_are_sessions() {
    let folder = Folder::new("behind");
    let url = database(&folder).await;
    let redis = Redis::start();
    for (store, preserve, found) in [
        (true, false, true),
        (true, true, false),
        (false, false, false),
        (false, true, false),
    ] {
        let source = opened(&with_database(&redis, &url, store, preserve))
            .await
            .source;
        let behind = source.find("behind").await.unwrap().is_some();
        assert_eq!(behind, found, "store {store}, preserve {preserve}");
        assert!(source.find("nowhere").await.unwrap().is_none());
        let names: Vec<&str> = source.parts().iter().map(|part| part.name()).collect();
        let known: &[&str] = if found {
            &["redis", "sqlite"]
        } else {
            &["redis"]
        };
        assert_eq!(names, known);
        source.ping().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_says_has_ended_is_not_looked_for_behind_it() {
    let folder = Folder::new("behind");
    let url = database(&folder).await;
    let redis = Redis::start();
    let mut connection = redis.connect();
    let source = opened(&with_database(&redis, &url, true, false))
        .await
        .source;
    assert!(
        source.find(TOKEN).await.unwrap().is_some(),
        "from the database"
    );
    sign_in(&redis, TOKEN);
    assert!(source.find(TOKEN).await.unwrap().is_some(), "from Redis");
    put(
        &mut connection,
        "revoked-sessions-before-u1",
        "1893456000000",
    );
    assert!(source.find(TOKEN).await.unwrap().is_none(), "ended");
    put(&mut connection, TOKEN, "{oops");
    assert!(source.find(TOKEN).await.unwrap().is_none(), "not JSON");
    put(&mut connection, TOKEN, r#"{"session":null}"#);
    assert!(source.find(TOKEN).await.is_err(), "unreadable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_redis_is_down_the_database_does_not_stand_in() {
    let folder = Folder::new("behind");
    let url = database(&folder).await;
    let redis = Redis::start();
    let source = opened(&with_database(&redis, &url, true, false))
        .await
        .source;
    redis.stop();
    // It may have ended the session. The framework answers 500.
    assert!(find(&source, "behind").await.is_err());
    let [first, second] = source.parts()[..] else {
        panic!("two parts")
    };
    assert!(first.ping().await.is_err());
    second.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_there_is_told_at_the_start() {
    let redis = Redis::start();
    let error = refused(&with_database(
        &redis,
        "sqlite:/nowhere/app.db",
        true,
        false,
    ))
    .await;
    assert!(error.is_configuration(), "{error:?}");
}

/// A database with memberships and no sessions, as the framework's migration makes it beside Redis.
fn memberships(dialect: Option<Dialect>, folder: &Folder) -> String {
    let quote = if dialect == Some(Dialect::MySql) {
        "`"
    } else {
        "\""
    };
    let sql = "CREATE TABLE ~member~ (~id~ varchar(36) PRIMARY KEY, ~userId~ varchar(36), ~organizationId~ varchar(36), ~role~ varchar(99), ~createdAt~ varchar(36)); \
        INSERT INTO ~member~ VALUES ('m1', 'u1', 'o1', 'owner', ''), ('m2', 'u1', 'o2', 'member', ''), ('m3', 'U1', 'o3', 'owner', ''), ('m4', 'u2', 'o3', 'admin', '')"
        .replace('~', quote);
    let Some(dialect) = dialect else {
        let path = folder.join("members.db");
        let url = format!("sqlite:{}?mode=rwc", path.display());
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let mut app: sqlx::SqliteConnection =
                    <sqlx::SqliteConnection as sqlx::Connection>::connect(&url)
                        .await
                        .unwrap();
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                    .execute(&mut app)
                    .await
                    .unwrap();
            });
        });
        return format!("sqlite:{}", path.display());
    };
    let server = shared(dialect);
    let database = server.database();
    server.sql(&database, &sql);
    server.reader_url(&database)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_role_in_the_active_organization_comes_from_the_database() {
    let folder = Folder::new("members");
    let redis = Redis::start();
    let mut connection = redis.connect();
    for dialect in [None, Some(Dialect::Postgres), Some(Dialect::MySql)] {
        let url = memberships(dialect, &folder);
        let source = opened(&with_database(&redis, &url, false, false))
            .await
            .source;
        assert_eq!(source.parts().len(), 2);
        for (organization, role) in [
            (r#""o1""#, Some("owner")),
            (r#""o2""#, Some("member")),
            (r#""o3""#, None),
            (r#""O1""#, None),
            ("null", None),
        ] {
            let active = format!(r#""activeOrganizationId":{organization},"id":"s1""#);
            put(
                &mut connection,
                TOKEN,
                &entry(TOKEN, "u1").replacen(r#""id":"s1""#, &active, 1),
            );
            let record = source.find(TOKEN).await.unwrap().unwrap();
            assert_eq!(
                record.organization_role.as_deref(),
                role,
                "{dialect:?} {organization}"
            );
        }
    }
    // Without the table nothing is known of roles, and that is said.
    let url = database(&folder).await;
    let plain = opened(&with_database(&redis, &url, false, false)).await;
    assert!(
        plain
            .detected
            .warnings
            .iter()
            .any(|w| w.contains("`member`"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_cannot_be_found_out_is_no_missing_role() {
    let server = Server::start(Dialect::Postgres);
    let database = server.database();
    server.sql(&database, "CREATE TABLE member (id text, \"userId\" text, \"organizationId\" text, role text, \"createdAt\" text)");
    let redis = Redis::start();
    let mut connection = redis.connect();
    let source = opened(&with_database(&redis, &server.url(&database), false, false))
        .await
        .source;
    put(&mut connection, TOKEN, &entry(TOKEN, "u1"));
    put(
        &mut connection,
        "active",
        &entry("active", "u1").replacen(
            r#""id":"s1""#,
            r#""activeOrganizationId":"o1","id":"s1""#,
            1,
        ),
    );
    assert!(find(&source, "active").await.unwrap());
    server.stop();
    assert!(find(&source, "active").await.is_err());
    assert!(
        find(&source, TOKEN).await.unwrap(),
        "no organization, no question"
    );
    server.resume();
    assert!(find(&source, "active").await.unwrap());
}

// --------------------------------------------------------------------------------------------------------------- the line

/// What a listener heard.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Listener for Heard {
    fn ended(&self, what: &Ended, at: Option<UnixMs>) {
        let at = if at.is_some() { " at" } else { "" };
        let what = match what {
            Ended::Token(digest) if *digest == TokenDigest::of(TOKEN) => "the token".to_owned(),
            Ended::Token(_) => "another token".to_owned(),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(format!("{what}{at}"));
    }

    fn lost(&self) {
        self.0.lock().unwrap().push("lost".into());
    }

    fn regained(&self) {
        self.0.lock().unwrap().push("regained".into());
    }
}

/// A gateway's end of the line.
struct End {
    feed: Arc<dyn Feed>,
    heard: Arc<Heard>,
    listening: tokio::task::JoinHandle<()>,
}

impl End {
    async fn of(settings: &Settings) -> Self {
        let feed = opened(settings).await.feed.unwrap();
        let heard = Arc::new(Heard::default());
        let (line, listener) = (Arc::clone(&feed), Arc::clone(&heard));
        let listening = tokio::spawn(async move { line.listen(&*listener).await });
        let end = Self {
            feed,
            heard,
            listening,
        };
        end.hears("regained", 1).await;
        end
    }

    fn count(&self, words: &str) -> usize {
        let heard = self.heard.0.lock().unwrap();
        heard.iter().filter(|line| *line == words).count()
    }

    /// Waits until something was heard so many times.
    async fn hears(&self, words: &str, times: usize) {
        let began = Instant::now();
        while self.count(words) < times {
            let heard = self.heard.0.lock().unwrap().clone();
            assert!(began.elapsed() < PATIENCE, "{words}: heard {heard:?}");
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_gateway_says_the_others_hear_and_it_does_not_itself() {
    let redis = Redis::start();
    let (one, two) = (
        End::of(&redis.settings()).await,
        End::of(&redis.settings()).await,
    );
    let mut eavesdropper = redis.connect();
    let mut ear = eavesdropper.as_pubsub();
    ear.psubscribe("*").unwrap();
    one.feed
        .tell(&Ended::Token(TokenDigest::of(TOKEN)))
        .await
        .unwrap();
    one.feed.tell(&Ended::User("u\"1".into())).await.unwrap();
    two.hears("the token at", 1).await;
    two.hears("User(\"u\\\"1\") at", 1).await;
    two.feed.tell(&Ended::All).await.unwrap();
    one.hears("All at", 1).await;
    assert_eq!(
        one.heard.0.lock().unwrap().as_slice(),
        ["regained", "All at"]
    );
    let message = ear.get_message().unwrap();
    assert_eq!(message.get_channel_name(), "better-auth:vestibule:ended");
    let text = String::from_utf8_lossy(message.get_payload_bytes()).into_owned();
    assert!(!text.contains(TOKEN), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_on_the_channel_is_passed_over_and_unknown_kinds_are_not() {
    let redis = Redis::start();
    let end = End::of(&redis.settings()).await;
    let mut connection = redis.connect();
    let mut say = |text: &str| {
        let _: i64 = run(
            &mut connection,
            &["PUBLISH", "better-auth:vestibule:ended", text],
        );
    };
    say("nonsense");
    say("");
    say(&format!(
        r#"{{"kind":"user","value":"{}"}}"#,
        "x".repeat(1 << 20)
    ));
    say(r#"{"kind":"user","value":"u1"}"#);
    end.hears("User(\"u1\")", 1).await;
    assert_eq!(end.heard.0.lock().unwrap().len(), 2);
    say(r#"{"kind":"passkey","value":"x"}"#);
    end.hears("All", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_cut_is_lost_at_once_and_regained() {
    let redis = Redis::start();
    let (one, two) = (
        End::of(&redis.settings()).await,
        End::of(&redis.settings()).await,
    );
    let mut operator = redis.connect();
    for round in 1..=3 {
        let _: i64 = run(&mut operator, &["CLIENT", "KILL", "TYPE", "pubsub"]);
        for end in [&one, &two] {
            end.hears("lost", round).await;
            end.hears("regained", round + 1).await;
        }
        one.feed.tell(&Ended::All).await.unwrap();
        two.hears("All at", round).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_to_a_server_that_hangs_or_dies_is_lost() {
    let redis = Redis::start();
    let end = End::of(&quick(&redis)).await;
    redis.signal("STOP");
    end.hears("lost", 1).await;
    assert!(end.feed.tell(&Ended::All).await.is_err());
    redis.signal("CONT");
    end.hears("regained", 2).await;
    redis.stop();
    end.hears("lost", 2).await;
    assert!(end.feed.tell(&Ended::All).await.is_err());
    redis.resume();
    end.hears("regained", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_the_app_deletes_or_rewrites_are_heard() {
    // By key, by event, and both at once.
    for letters in ["Kg$", "Egx$", "KEA"] {
        let redis = Redis::start_with(&["--notify-keyspace-events", letters]);
        sign_in(&redis, TOKEN);
        let settings = redis.settings();
        assert!(opened(&settings).await.detected.warnings.is_empty());
        let end = End::of(&settings).await;
        let mut app = redis.connect();
        let _: String = run(
            &mut app,
            &["SET", "other:TOKENTOKENTOKENTOKENTOKENTOKEN02", "x"],
        );
        put(&mut app, "active-sessions-u1", "[]");
        put(&mut app, "192.0.2.1|/sign-in", "1");
        put(&mut app, TOKEN, &entry(TOKEN, "u1"));
        end.hears("the token", 1).await;
        let before = end.count("the token");
        let _: i64 = run(&mut app, &["DEL", &format!("better-auth:{TOKEN}")]);
        end.hears("the token", before + 1).await;
        put(&mut app, "revoked-sessions-before-u1", "1795229286179");
        end.hears("User(\"u1\")", 1).await;
        let _: i64 = run(&mut app, &["DEL", "better-auth:revoked-sessions-before-u1"]);
        put(&mut app, "api-key:hash", "{}");
        end.hears("ApiKey(\"hash\")", 1).await;
        assert_eq!(end.count("another token"), 0, "{letters}");
        assert_eq!(end.count("User(\"u1\")"), 1, "{letters}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keyspace_events_are_switched_on_and_off_for_whoever_asks() {
    let redis = Redis::start_with(&["--notify-keyspace-events", "El"]);
    let settings = redis.settings();
    let warnings = opened(&settings).await.detected.warnings;
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("notify-keyspace-events")),
        "{warnings:?}"
    );
    let on = store::keyspace_events(&settings, true).await.unwrap();
    assert_eq!(on.before, "El");
    assert!(opened(&settings).await.detected.warnings.is_empty());
    let again = store::keyspace_events(&settings, true).await.unwrap();
    assert_eq!(again.before, again.after);
    let off = store::keyspace_events(&settings, false).await.unwrap();
    assert_eq!(off.after, "El");

    let mut operator = redis.connect();
    let rights = ["~*", "&*", "+@all", "-config"];
    let mut words = vec!["ACL", "SETUSER", "hosted", "on", ">hunter2"];
    words.extend(rights);
    let _: String = run(&mut operator, &words);
    let url = format!("redis://hosted:hunter2@127.0.0.1:{}", redis.port);
    let hosted = crate::support::databases::settings(&url);
    let error = store::keyspace_events(&hosted, true).await.unwrap_err();
    assert!(matches!(error, OpenError::Denied { .. }), "{error:?}");
    let warnings = opened(&hosted).await.detected.warnings;
    assert!(
        warnings.iter().any(|w| w.contains("CONFIG GET")),
        "{warnings:?}"
    );
    End::of(&hosted).await;
}

// ---------------------------------------------------------------------------------------------------------- get-session

/// A gateway that answers `get-session` from this Redis, in front of an app that marks its own answers.
fn with_a_door(
    redis: &Redis,
    documents: store::Documents,
) -> (App, tokio::runtime::Runtime, Gateway) {
    let app = App::scripted(|_, stream| {
        reply(stream, 200, &[("x-by", "app")], b"null");
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let settings = Settings {
        documents: Some(documents),
        ..redis.settings()
    };
    let source = runtime.block_on(opened(&settings)).source;
    let mut setup = Setup::in_front_of(app.address);
    setup.door = Some(vestibule::server::door::Settings {
        rules: None,
        app_adds: false,
    });
    let gateway = setup.start_from(source);
    (app, runtime, gateway)
}

#[test]
fn get_session_is_answered_from_redis_without_what_the_app_keeps_to_itself() {
    let redis = Redis::start();
    let documents = store::Documents {
        shown: vec![("user.plan".into(), store::FieldKind::Text)],
        hidden: vec!["user.note".into()],
    };
    let (app, _runtime, gateway) = with_a_door(&redis, documents);
    let with = |token: &str, field: &str| {
        let name = r#""name":"Ada""#;
        let stored = entry(token, "u1").replace(name, &format!("{name}{field}"));
        put(&mut redis.connect(), token, &stored);
        let answer = gateway.get("/api/auth/get-session", &[("cookie", &cookie(token))]);
        assert_eq!(answer.status, 200);
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.header("x-by").is_some(), body)
    };
    let plain: serde_json::Value = serde_json::from_str(&entry("plain", "u1")).unwrap();
    assert_eq!(with("plain", ""), (false, plain));
    let (by_app, body) = with("known", r#","plan":"pro","note":"hush","role":"admin""#);
    assert!(!by_app);
    let user = &body["user"];
    assert_eq!(
        (&user["plan"], &user["role"]),
        (&"pro".into(), &"admin".into())
    );
    assert_eq!(user.get("note"), None);
    assert_eq!(app.count(), 0);
    // Nobody has said whether it may be shown: the app knows.
    assert!(with("unlisted", r#","passport":"x""#).0);
    assert!(with("odd", r#","plan":7"#).0);
    assert_eq!(app.count(), 2);
}
