//! Every session source against every way a database can fail: the right error, within the deadline, and recovery unaided.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use vestibule::session::{Source, SourceError};
use vestibule::store::{self, OpenError, SchemaError, Settings};

use crate::golden::{folder as golden, load};
use crate::support::databases::{Dialect, Folder, Server, settings, shared};
use crate::support::free_port;

/// The deadline of a lookup in these tests.
const DEADLINE: Duration = Duration::from_millis(1500);

/// How far past it an answer may come on a machine that is busy with other tests.
const GRACE: Duration = Duration::from_secs(2);

/// What the wire between us and the database does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// Bytes pass.
    Good,
    /// Connections are closed as soon as they come, and open ones at once.
    Cut,
    /// Bytes are taken and never passed on.
    Stalled,
    /// Every message takes this long.
    Slow(Duration),
    /// The answer is noise.
    Garbage,
}

/// A TCP proxy whose behaviour can be switched at any time.
struct Line {
    port: u16,
    wire: watch::Sender<Wire>,
    /// Connections now open.
    open: watch::Receiver<usize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Line {
    async fn to(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::over(listener, port, server_port)
    }

    fn over(listener: TcpListener, port: u16, server_port: u16) -> Self {
        let (wire, seen) = watch::channel(Wire::Good);
        let (count, open) = watch::channel(0_usize);
        let count = Arc::new(count);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let seen = seen.clone();
                let count = Arc::clone(&count);
                count.send_modify(|open| *open += 1);
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await {
                        let (from_client, to_client) = client.into_split();
                        let (from_server, to_server) = server.into_split();
                        // When one direction ends, both do: dropping the halves closes the connections.
                        tokio::select! {
                            () = carry(from_client, to_server, seen.clone(), false) => {}
                            () = carry(from_server, to_client, seen, true) => {}
                        }
                    }
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        Self {
            port,
            wire,
            open,
            accepting,
        }
    }

    fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// Ends every open connection, and then lets new ones pass.
    async fn cut_once(&mut self) {
        self.set(Wire::Cut);
        self.open.wait_for(|open| *open == 0).await.unwrap();
        self.set(Wire::Good);
    }

    /// Stops listening: new connections are refused, open ones end.
    async fn refuse(self) -> u16 {
        self.set(Wire::Cut);
        self.accepting.abort();
        let _ = self.accepting.await;
        self.port
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut seen: watch::Receiver<Wire>,
    is_answer: bool,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        if *seen.borrow_and_update() == Wire::Cut {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut bytes) => read.unwrap_or(0),
            _ = seen.changed() => continue,
        };
        if read == 0 {
            return;
        }
        let wire = *seen.borrow_and_update();
        match wire {
            Wire::Good => {}
            Wire::Cut => return,
            Wire::Stalled => continue,
            Wire::Slow(delay) => tokio::time::sleep(delay).await,
            Wire::Garbage if is_answer => {
                for (at, byte) in bytes[..read].iter_mut().enumerate() {
                    *byte = (at as u8).wrapping_mul(167) ^ 0x5a;
                }
            }
            Wire::Garbage => {}
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// A database with one live session, and that session's token.
struct App {
    server: &'static Server,
    database: String,
    token: String,
}

impl App {
    fn new(dialect: Dialect) -> Self {
        let name = match dialect {
            Dialect::Postgres => "core/postgres",
            Dialect::MySql => "core/mysql",
        };
        let (file, token) = case(name);
        let server = shared(dialect);
        Self {
            server,
            database: server.load(&file),
            token,
        }
    }

    fn settings_at(&self, port: u16) -> Settings {
        Settings {
            timeout: DEADLINE,
            connections: 2,
            ..settings(&self.server.url_at(&self.database, port))
        }
    }
}

/// A case's file and its first live token.
fn case(layout: &str) -> (std::path::PathBuf, String) {
    let vectors = load("databases.json");
    let cases = vectors["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["id"] == layout).unwrap();
    let live = case["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| !check["expect"]["body"].is_null());
    let token = live.unwrap()["token"].as_str().unwrap().to_owned();
    (golden().join(case["files"][0].as_str().unwrap()), token)
}

/// Looks up, and holds the answer to the deadline.
async fn find(source: &Arc<dyn Source>, token: &str) -> Result<bool, SourceError> {
    let began = Instant::now();
    let answer = source.find(token).await;
    let took = began.elapsed();
    assert!(
        took < DEADLINE + GRACE,
        "answered after {took:?}: {answer:?}"
    );
    if let Err(error) = &answer {
        let text = format!("{error} {error:?}");
        assert!(
            !text.contains("correct-horse") && !text.contains(token),
            "{text}"
        );
        assert!(!error.advice().is_empty());
    }
    answer.map(|record| record.is_some())
}

async fn healthy(source: &Arc<dyn Source>, token: &str) {
    assert!(find(source, token).await.unwrap());
    assert!(!find(source, "no-such-token").await.unwrap());
    source.ping().await.unwrap();
}

fn both() -> [Dialect; 2] {
    [Dialect::Postgres, Dialect::MySql]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused() {
    for dialect in both() {
        let app = App::new(dialect);
        let line = Line::to(app.server.port).await;
        let source = store::open(&app.settings_at(line.port)).await.unwrap();
        healthy(&source, &app.token).await;
        let port = line.refuse().await;
        let began = Instant::now();
        for _ in 0..3 {
            let error = find(&source, &app.token).await.unwrap_err();
            assert!(
                matches!(error, SourceError::Unreachable { .. }),
                "{dialect:?}: {error:?}"
            );
        }
        assert!(matches!(
            source.ping().await,
            Err(SourceError::Unreachable { .. })
        ));
        assert!(
            began.elapsed() < DEADLINE,
            "a refusal is told at once, not at the deadline"
        );
        let again = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let _line = Line::over(again, port, app.server.port);
        healthy(&source, &app.token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut() {
    for dialect in both() {
        let app = App::new(dialect);
        let line = Line::to(app.server.port).await;
        let source = store::open(&app.settings_at(line.port)).await.unwrap();
        healthy(&source, &app.token).await;
        line.set(Wire::Cut);
        for _ in 0..3 {
            let error = find(&source, &app.token).await.unwrap_err();
            assert!(
                matches!(error, SourceError::Unreachable { .. }),
                "{dialect:?}: {error:?}"
            );
        }
        line.set(Wire::Good);
        healthy(&source, &app.token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_between_two_lookups_is_not_noticed() {
    for dialect in both() {
        let app = App::new(dialect);
        let mut line = Line::to(app.server.port).await;
        let source = store::open(&app.settings_at(line.port)).await.unwrap();
        healthy(&source, &app.token).await;
        line.cut_once().await;
        healthy(&source, &app.token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled() {
    for dialect in both() {
        let app = App::new(dialect);
        let line = Line::to(app.server.port).await;
        let source = store::open(&app.settings_at(line.port)).await.unwrap();
        healthy(&source, &app.token).await;
        line.set(Wire::Stalled);
        // The second finds no connection to reuse and stalls while connecting.
        for _ in 0..2 {
            let error = find(&source, &app.token).await.unwrap_err();
            assert!(
                matches!(error, SourceError::Timeout { waited, .. } if waited >= DEADLINE),
                "{dialect:?}: {error:?}"
            );
        }
        line.set(Wire::Good);
        healthy(&source, &app.token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow() {
    for dialect in both() {
        let app = App::new(dialect);
        let line = Line::to(app.server.port).await;
        let source = store::open(&app.settings_at(line.port)).await.unwrap();
        healthy(&source, &app.token).await;
        line.set(Wire::Slow(Duration::from_millis(10)));
        assert!(
            find(&source, &app.token).await.unwrap(),
            "slow but within the deadline"
        );
        line.set(Wire::Slow(DEADLINE));
        let error = find(&source, &app.token).await.unwrap_err();
        assert!(
            matches!(error, SourceError::Timeout { .. }),
            "{dialect:?}: {error:?}"
        );
        line.set(Wire::Good);
        healthy(&source, &app.token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage() {
    for dialect in both() {
        let app = App::new(dialect);
        let line = Line::to(app.server.port).await;
        let source = store::open(&app.settings_at(line.port)).await.unwrap();
        healthy(&source, &app.token).await;
        line.set(Wire::Garbage);
        // Noise may announce a message that never comes: then it is the deadline that answers.
        let error = find(&source, &app.token).await.unwrap_err();
        assert!(
            matches!(
                error,
                SourceError::Garbage { .. } | SourceError::Timeout { .. }
            ),
            "{dialect:?}: {error:?}"
        );
        // By now there is no connection, and whoever greets with noise is not the database.
        for _ in 0..2 {
            let error = find(&source, &app.token).await.unwrap_err();
            assert!(
                matches!(
                    error,
                    SourceError::Unreachable { .. } | SourceError::Timeout { .. }
                ),
                "{dialect:?}: {error:?}"
            );
        }
        line.set(Wire::Good);
        healthy(&source, &app.token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_lookups_than_may_wait_are_refused_and_the_rest_answered() {
    for dialect in both() {
        let app = App::new(dialect);
        let line = Line::to(app.server.port).await;
        let few = Settings {
            waiting_max: 3,
            ..app.settings_at(line.port)
        };
        let source = store::open(&few).await.unwrap();
        line.set(Wire::Stalled);
        let asked: Vec<_> = (0..12)
            .map(|_| {
                let (source, token) = (Arc::clone(&source), app.token.clone());
                tokio::spawn(async move { find(&source, &token).await })
            })
            .collect();
        let (mut busy, mut late) = (0, 0);
        for one in asked {
            match one.await.unwrap().unwrap_err() {
                SourceError::Busy { waiting: 3, .. } => busy += 1,
                SourceError::Timeout { .. } => late += 1,
                other => panic!("{dialect:?}: {other:?}"),
            }
        }
        assert_eq!(
            (busy, late),
            (7, 5),
            "{dialect:?}: two connections and three in the queue"
        );
        line.set(Wire::Good);
        healthy(&source, &app.token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_leave_good_connections() {
    for dialect in both() {
        let app = App::new(dialect);
        let line = Line::to(app.server.port).await;
        let source = store::open(&app.settings_at(line.port)).await.unwrap();
        line.set(Wire::Slow(Duration::from_millis(20)));
        for _ in 0..20 {
            let gone =
                tokio::time::timeout(Duration::from_millis(5), source.find(&app.token)).await;
            assert!(gone.is_err());
        }
        line.set(Wire::Good);
        // The queue they left empties by itself; the answers are for the right question.
        for _ in 0..20 {
            healthy(&source, &app.token).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_may_come_from_any_runtime() {
    let app = App::new(Dialect::Postgres);
    let source = store::open(&app.settings_at(app.server.port))
        .await
        .unwrap();
    let token = app.token.clone();
    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async move { source.find(&token).await.map(|found| found.is_some()) })
    });
    let found = tokio::task::spawn_blocking(move || elsewhere.join().unwrap())
        .await
        .unwrap();
    assert!(found.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_is_found_again() {
    for dialect in both() {
        let (file, token) = case(match dialect {
            Dialect::Postgres => "core/postgres",
            Dialect::MySql => "core/mysql",
        });
        let server = Server::start(dialect);
        let url = server.url(&server.load(&file));
        let source = store::open(&Settings {
            timeout: DEADLINE,
            ..settings(&url)
        })
        .await
        .unwrap();
        healthy(&source, &token).await;
        server.stop();
        let error = find(&source, &token).await.unwrap_err();
        assert!(
            matches!(error, SourceError::Unreachable { .. }),
            "{dialect:?}: {error:?}"
        );
        server.resume();
        healthy(&source, &token).await;
        // Stopped and back between two lookups: nobody notices.
        server.stop();
        server.resume();
        healthy(&source, &token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_answers_in_time_and_leaves_nothing_behind() {
    let app = App::new(Dialect::Postgres);
    let source = store::open(&app.settings_at(app.server.port))
        .await
        .unwrap();
    let mut holder =
        <sqlx::PgConnection as sqlx::Connection>::connect(&app.server.url(&app.database))
            .await
            .unwrap();
    let held = sqlx::raw_sql("BEGIN; LOCK TABLE session IN ACCESS EXCLUSIVE MODE");
    held.execute(&mut holder).await.unwrap();
    for _ in 0..3 {
        let error = find(&source, &app.token).await.unwrap_err();
        assert!(matches!(error, SourceError::Timeout { .. }), "{error:?}");
    }
    let waiting = sqlx::query_scalar::<_, i64>(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vestibule' AND datname = current_database()",
    );
    let waiting = waiting.fetch_one(&mut holder).await.unwrap();
    assert!(waiting <= 3, "{waiting} server processes are left");
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    healthy(&source, &app.token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_schema_is_followed_and_a_dropped_table_is_told() {
    for dialect in both() {
        let app = App::new(dialect);
        let source = store::open(&app.settings_at(app.server.port))
            .await
            .unwrap();
        healthy(&source, &app.token).await;
        let quote = |name: &str| match dialect {
            Dialect::Postgres => format!("\"{name}\""),
            Dialect::MySql => format!("`{name}`"),
        };
        let (session, user) = (quote("session"), quote("user"));
        app.server.sql(
            &app.database,
            &format!("ALTER TABLE {user} ADD COLUMN extra integer"),
        );
        app.server.sql(
            &app.database,
            &match dialect {
                Dialect::Postgres => {
                    "ALTER TABLE \"user\" ALTER COLUMN name TYPE varchar(300)".to_owned()
                }
                Dialect::MySql => "ALTER TABLE `user` MODIFY name varchar(300)".to_owned(),
            },
        );
        healthy(&source, &app.token).await;
        let rename = |from: &str, to: &str| {
            app.server
                .sql(&app.database, &format!("ALTER TABLE {from} RENAME TO {to}"))
        };
        rename(&session, "hidden");
        let error = find(&source, &app.token).await.unwrap_err();
        assert!(
            matches!(error, SourceError::Garbage { .. }),
            "{dialect:?}: {error:?}"
        );
        rename("hidden", &session);
        healthy(&source, &app.token).await;
    }
}

/// An SQLite file with one live session.
fn sqlite() -> (Folder, std::path::PathBuf, String) {
    let (file, token) = case("core/sqlite");
    let folder = Folder::new("faults");
    let path = folder.join("app.db");
    std::fs::copy(file, &path).unwrap();
    (folder, path, token)
}

fn sqlite_settings(path: &std::path::Path) -> Settings {
    Settings {
        timeout: DEADLINE,
        connections: 2,
        ..settings(&format!("sqlite:{}", path.display()))
    }
}

async fn writer(path: &std::path::Path) -> sqlx::SqliteConnection {
    let url = format!("sqlite:{}", path.display());
    <sqlx::SqliteConnection as sqlx::Connection>::connect(&url)
        .await
        .unwrap()
}

async fn run(connection: &mut sqlx::SqliteConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_locked_exclusively() {
    let (_folder, path, token) = sqlite();
    let source = store::open(&sqlite_settings(&path)).await.unwrap();
    healthy(&source, &token).await;
    let mut app = writer(&path).await;
    run(&mut app, "BEGIN EXCLUSIVE").await;
    let error = find(&source, &token).await.unwrap_err();
    assert!(matches!(error, SourceError::Timeout { .. }), "{error:?}");
    run(&mut app, "ROLLBACK").await;
    healthy(&source, &token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_in_wal_mode_is_read_while_the_app_writes() {
    let (_folder, path, token) = sqlite();
    let mut app = writer(&path).await;
    run(&mut app, "PRAGMA journal_mode = WAL").await;
    run(&mut app, "UPDATE \"user\" SET name = 'before'").await;
    let source = store::open(&sqlite_settings(&path)).await.unwrap();
    assert_eq!(
        source.find(&token).await.unwrap().unwrap().name.as_deref(),
        Some("before")
    );
    run(
        &mut app,
        "BEGIN IMMEDIATE; UPDATE \"user\" SET name = 'after'",
    )
    .await;
    assert_eq!(
        source.find(&token).await.unwrap().unwrap().name.as_deref(),
        Some("before"),
        "a writer blocks nobody"
    );
    run(&mut app, "COMMIT").await;
    assert_eq!(
        source.find(&token).await.unwrap().unwrap().name.as_deref(),
        Some("after")
    );
    drop(app);
    healthy(&source, &token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_is_never_written_and_never_made() {
    let (folder, path, token) = sqlite();
    let before = std::fs::read(&path).unwrap();
    let source = store::open(&sqlite_settings(&path)).await.unwrap();
    healthy(&source, &token).await;
    drop(source);
    assert!(std::fs::read(&path).unwrap() == before);
    let missing = folder.join("other.db");
    let error = store::open(&sqlite_settings(&missing)).await.err().unwrap();
    assert!(
        matches!(&error, OpenError::File { path, .. } if path.ends_with("other.db")),
        "{error}"
    );
    assert!(error.is_configuration() && !missing.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_replaced_by_another_file_answers_from_the_new_one() {
    let (folder, path, token) = sqlite();
    let source = store::open(&sqlite_settings(&path)).await.unwrap();
    healthy(&source, &token).await;
    let new = folder.join("new.db");
    std::fs::copy(&path, &new).unwrap();
    let mut app = writer(&new).await;
    run(&mut app, "DELETE FROM session").await;
    sqlx::Connection::close(app).await.unwrap();
    std::fs::rename(&new, &path).unwrap();
    // The path is looked at once a second.
    let began = Instant::now();
    while find(&source, &token).await.unwrap() {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "the old file still answers"
        );
        tokio::task::yield_now().await;
    }
    // Gone, and back.
    std::fs::rename(&path, &new).unwrap();
    let error = loop {
        match find(&source, &token).await {
            Ok(_) => assert!(
                began.elapsed() < Duration::from_secs(10),
                "a removed file still answers"
            ),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, SourceError::Unreachable { .. }),
        "{error:?}"
    );
    std::fs::rename(&new, &path).unwrap();
    assert!(!find(&source, &token).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_overwritten_with_garbage() {
    let (_folder, path, token) = sqlite();
    let good = std::fs::read(&path).unwrap();
    let source = store::open(&sqlite_settings(&path)).await.unwrap();
    healthy(&source, &token).await;
    let noise: Vec<u8> = (0..good.len())
        .map(|at| (at as u8).wrapping_mul(31) ^ 0x5a)
        .collect();
    std::fs::write(&path, noise).unwrap();
    for _ in 0..2 {
        let error = find(&source, &token).await.unwrap_err();
        assert!(matches!(error, SourceError::Garbage { .. }), "{error:?}");
    }
    std::fs::write(&path, good).unwrap();
    healthy(&source, &token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_table_dropped_and_made_again() {
    let (_folder, path, token) = sqlite();
    let source = store::open(&sqlite_settings(&path)).await.unwrap();
    healthy(&source, &token).await;
    let mut app = writer(&path).await;
    run(&mut app, "ALTER TABLE session RENAME TO hidden").await;
    let error = find(&source, &token).await.unwrap_err();
    assert!(matches!(error, SourceError::Garbage { .. }), "{error:?}");
    run(&mut app, "ALTER TABLE hidden RENAME TO session").await;
    healthy(&source, &token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_at_start_is_said_with_its_cause_and_without_the_password() {
    let postgres = App::new(Dialect::Postgres);
    let mysql = App::new(Dialect::MySql);
    let (folder, path, _) = sqlite();
    let noise = folder.join("noise.db");
    std::fs::write(&noise, "this is no database, whatever its name says").unwrap();
    let empty = folder.join("empty.db");
    std::fs::write(&empty, "").unwrap();
    let closed = free_port();
    let wrong = |app: &App| {
        app.server
            .url(&app.database)
            .replace("correct-horse", "wrong-horse")
    };
    let nowhere = |app: &App| app.server.url("no_such_database");
    let bare = |app: &App| app.server.url(&app.server.database());
    let file = |path: &std::path::Path| format!("sqlite:{}", path.display());
    type Told = fn(&OpenError) -> bool;
    let denied: Told = |error| matches!(error, OpenError::Denied { .. });
    let unreachable: Told = |error| matches!(error, OpenError::Unreachable { .. });
    let no_table: Told = |error| {
        matches!(
            error,
            OpenError::Schema {
                cause: SchemaError::NoTable { .. },
                ..
            }
        )
    };
    let bad_file: Told = |error| matches!(error, OpenError::File { .. });
    let bad_url: Told = |error| matches!(error, OpenError::Url { .. });
    let cases: Vec<(String, Told, bool)> = vec![
        (wrong(&postgres), denied, true),
        (wrong(&mysql), denied, true),
        (nowhere(&postgres), denied, true),
        (nowhere(&mysql), denied, true),
        (
            postgres.server.url_at(&postgres.database, closed),
            unreachable,
            false,
        ),
        (
            mysql.server.url_at(&mysql.database, closed),
            unreachable,
            false,
        ),
        (bare(&postgres), no_table, true),
        (bare(&mysql), no_table, true),
        (file(&empty), no_table, true),
        (file(&noise), bad_file, true),
        (file(&folder.join("nowhere/app.db")), bad_file, true),
        (file(path.parent().unwrap()), bad_file, true),
        ("sqlite::memory:".to_owned(), bad_url, true),
        (
            "postgres://u:wrong-horse@host:notaport/d".to_owned(),
            bad_url,
            true,
        ),
        (
            format!("mysql://tcp:wrong-horse@127.0.0.1:{}", mysql.server.port),
            bad_url,
            true,
        ),
    ];
    for (url, told, is_configuration) in cases {
        let Err(error) = store::open(&settings(&url)).await else {
            panic!("{url} was opened")
        };
        assert!(told(&error), "{url}: {error:?}");
        assert_eq!(error.is_configuration(), is_configuration, "{url}");
        let text = format!("{error} {error:?} {}", error.advice());
        assert!(
            text.contains("sessions.source") && !text.contains("-horse"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_rights_is_told_at_start() {
    for dialect in both() {
        let app = App::new(dialect);
        let (role, sql) = match dialect {
            Dialect::Postgres => (
                "blind_pg",
                "CREATE ROLE blind_pg LOGIN PASSWORD 'blind-horse'".to_owned(),
            ),
            Dialect::MySql => (
                "blind_my",
                format!(
                    "CREATE USER blind_my@'127.0.0.1' IDENTIFIED BY 'blind-horse'; GRANT SELECT ON {}.account TO blind_my@'127.0.0.1'",
                    app.database
                ),
            ),
        };
        app.server.sql(&app.database, &sql);
        let (scheme, port) = (
            app.settings_at(1)
                .url
                .expose()
                .split_once(':')
                .unwrap()
                .0
                .to_owned(),
            app.server.port,
        );
        let url = format!(
            "{scheme}://{role}:blind-horse@127.0.0.1:{port}/{}",
            app.database
        );
        let error = store::open(&settings(&url)).await.err().unwrap();
        // MySQL hides tables one may not read.
        assert!(
            matches!(error, OpenError::Denied { .. } | OpenError::Schema { .. }),
            "{error:?}"
        );
        assert!(error.is_configuration());
    }
}
