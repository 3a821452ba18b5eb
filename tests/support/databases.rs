//! Real database servers: started once for the whole run, in a folder of their own, gone when the run ends.
//!
//! Each server is the child of a small shell that holds a pipe from us. When the pipe closes, because the test asked for it or because
//! this process is gone however it went, the shell ends the server and removes its folder.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use vestibule::secret::Secret;
use vestibule::store::{SchemaOverrides, Settings};

use super::free_port;

/// The password of the servers' own administrator.
const PASSWORD: &str = "correct-horse";

/// A role that may read and nothing else.
const READER: &str = "vestibule_reader";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    MySql,
}

/// One running server.
pub struct Server {
    dialect: Dialect,
    folder: PathBuf,
    pub port: u16,
    running: Mutex<Option<Running>>,
    /// More arguments for MariaDB's next start.
    extra: Mutex<Vec<String>>,
}

struct Running {
    shell: Child,
    pipe: Option<ChildStdin>,
}

/// The server shared by all tests that do not restart it.
pub fn shared(dialect: Dialect) -> &'static Server {
    static POSTGRES: OnceLock<Server> = OnceLock::new();
    static MYSQL: OnceLock<Server> = OnceLock::new();
    let cell = match dialect {
        Dialect::Postgres => &POSTGRES,
        Dialect::MySql => &MYSQL,
    };
    cell.get_or_init(|| Server::start(dialect))
}

/// A folder that is gone when the test is done with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        Self(folder(name))
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A new folder among the system's temporary files.
fn folder(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("vestibule-{}-{number}-{name}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Settings for a source at `url`, with a deadline long enough for a busy machine.
pub fn settings(url: &str) -> Settings {
    Settings {
        url: Secret::new(url),
        timeout: std::time::Duration::from_secs(5),
        connections: 4,
        waiting_max: 64,
        schema: SchemaOverrides::default(),
        zone_offset_seconds: 0,
        app: vestibule::store::App::default(),
        documents: None,
        extend: false,
        secondary: vestibule::store::SecondaryStorage::default(),
    }
}

fn i_am_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Finds a server's program, or fails saying what to install.
pub fn program(name: &str, package: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    folders.extend(["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from));
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    let found = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|p| p.is_file());
    found.unwrap_or_else(|| {
        panic!("this test needs a real database: `{name}` was not found; install `{package}` (Debian's name)")
    })
}

fn run(command: &mut Command) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// PostgreSQL refuses to run as root; its own user does it then.
fn as_server_user(dialect: Dialect, program: &Path) -> Command {
    if dialect == Dialect::Postgres && i_am_root() {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--",
        ]);
        command.arg(program);
        return command;
    }
    Command::new(program)
}

impl Server {
    /// Makes a server with an empty data folder and starts it.
    pub fn start(dialect: Dialect) -> Self {
        let folder = folder(match dialect {
            Dialect::Postgres => "postgres",
            Dialect::MySql => "mysql",
        });
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        let data = folder.join("data");
        match dialect {
            Dialect::Postgres => {
                let password = folder.join("password");
                std::fs::write(&password, PASSWORD).unwrap();
                let initdb = program("initdb", "postgresql");
                run(as_server_user(dialect, &initdb)
                    .arg("-D")
                    .arg(&data)
                    .arg(format!("--pwfile={}", password.display()))
                    .args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"])
                    .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
                    .current_dir(&folder));
            }
            Dialect::MySql => {
                let install = program("mariadb-install-db", "mariadb-server");
                let mut command = Command::new(install);
                command
                    .arg("--no-defaults")
                    .arg(format!("--datadir={}", data.display()))
                    .args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
                if i_am_root() {
                    command.arg("--user=root");
                }
                run(&mut command);
            }
        }
        let server = Self {
            dialect,
            port: free_port(),
            folder,
            running: Mutex::new(None),
            extra: Mutex::new(Vec::new()),
        };
        server.resume();
        match dialect {
            Dialect::Postgres => server.sql("postgres", &format!(
                "CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'; GRANT pg_read_all_data TO {READER}"
            )),
            Dialect::MySql => server.sql("mysql", &format!(
                "CREATE USER tcp@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO tcp@'127.0.0.1'; \
                 CREATE USER {READER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON *.* TO {READER}@'127.0.0.1'"
            )),
        }
        server
    }

    /// Starts the server again on the same port, over the same data, and returns when it takes connections.
    pub fn resume(&self) {
        let data = self.folder.join("data");
        let (command, ready) = match self.dialect {
            Dialect::Postgres => {
                let postgres = program("postgres", "postgresql");
                let mut command = as_server_user(self.dialect, &postgres);
                command.arg("-D").arg(&data).arg("-k").arg(&self.folder);
                command.args([
                    "-p",
                    &self.port.to_string(),
                    "-c",
                    "listen_addresses=127.0.0.1",
                ]);
                command.args([
                    "-c",
                    "fsync=off",
                    "-c",
                    "shared_buffers=16MB",
                    "-c",
                    "max_connections=60",
                ]);
                // A server zone of its own must change nothing.
                command.args(["-c", "timezone=Asia/Kolkata", "-c", "log_timezone=UTC"]);
                (command, "ready to accept connections")
            }
            Dialect::MySql => {
                let mut command = Command::new(program("mariadbd", "mariadb-server"));
                command.arg("--no-defaults");
                command.arg(format!("--datadir={}", data.display()));
                command.arg(format!("--socket={}", self.socket().display()));
                command.arg(format!("--port={}", self.port));
                // Where all share one folder, a server that starts removes what the others have there.
                command.arg(format!("--tmpdir={}", self.folder.display()));
                command.args([
                    "--bind-address=127.0.0.1",
                    "--skip-name-resolve",
                    "--default-time-zone=+05:30",
                ]);
                command.args([
                    "--innodb-buffer-pool-size=32M",
                    "--innodb-flush-log-at-trx-commit=0",
                    "--skip-log-bin",
                ]);
                if i_am_root() {
                    command.arg("--user=root");
                }
                command.args(self.extra.lock().unwrap().iter());
                (command, "ready for connections")
            }
        };
        // `read` returns when a line comes (stop, keep the data) or when the pipe closes (the run is over). QUIT is PostgreSQL's
        // immediate shutdown. The shell lets go of the log, which ends with the server then: we see one that did not start.
        let script = r#"folder="$1"; signal="$2"; shift 2
            "$@" </dev/null & server=$!
            exec 2>/dev/null
            read -r _; over=$?
            kill -$signal $server; wait $server
            test $over = 0 || rm -rf "$folder""#;
        let signal = match self.dialect {
            Dialect::Postgres => "QUIT",
            Dialect::MySql => "KILL",
        };
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script, "sh"])
            .arg(&self.folder)
            .arg(signal);
        shell.arg(command.get_program()).args(command.get_args());
        shell.current_dir(&self.folder);
        // A terminal's interrupt is for the tests; the server ends with them, through the pipe.
        shell.process_group(0);
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let pipe = shell.stdin.take();
        let mut log = BufReader::new(shell.stderr.take().unwrap());
        let mut told = String::new();
        loop {
            let before = told.len();
            let read = log.read_line(&mut told).unwrap_or(0);
            assert!(
                read > 0,
                "the {:?} server did not start:\n{told}",
                self.dialect
            );
            if told.get(before..).is_some_and(|line| line.contains(ready)) {
                break;
            }
        }
        // Its log must be read on, or it would block.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        *self.running.lock().unwrap() = Some(Running { shell, pipe });
    }

    /// Ends the server at once, as a crash or a restart would; its data stays.
    pub fn stop(&self) {
        if let Some(mut running) = self.running.lock().unwrap().take() {
            if let Some(mut pipe) = running.pipe.take() {
                let _ = std::io::Write::write_all(&mut pipe, b"stop\n");
            }
            let _ = running.shell.wait();
        }
    }

    /// Makes the server offer TLS from its next start on, and gives the file with its certificate, made for 127.0.0.1.
    pub fn offer_tls(&self) -> PathBuf {
        let (certificate, key) = (self.folder.join("tls.crt"), self.folder.join("tls.key"));
        let openssl = program("openssl", "openssl");
        let made = Command::new(openssl)
            .args([
                "req",
                "-x509",
                "-nodes",
                "-newkey",
                "rsa:2048",
                "-days",
                "2",
                "-subj",
                "/CN=127.0.0.1",
            ])
            .args([
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mine = i_am_root() && self.dialect == Dialect::Postgres;
        if mine {
            run(Command::new("chown").arg("postgres").arg(&key));
        }
        match self.dialect {
            Dialect::Postgres => {
                let set = |name: &str, value: &str| {
                    self.sql("postgres", &format!("ALTER SYSTEM SET {name} = '{value}'"));
                };
                set("ssl", "on");
                set("ssl_cert_file", &certificate.display().to_string());
                set("ssl_key_file", &key.display().to_string());
            }
            Dialect::MySql => {
                let names = [("ssl-cert", &certificate), ("ssl-key", &key)];
                let lines = names.map(|(name, file)| format!("--{name}={}", file.display()));
                self.extra.lock().unwrap().extend(lines);
            }
        }
        certificate
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    fn client(&self, database: &str) -> Command {
        match self.dialect {
            Dialect::Postgres => {
                let mut command = Command::new(program("psql", "postgresql-client"));
                command.args([
                    "-X",
                    "-q",
                    "-v",
                    "ON_ERROR_STOP=1",
                    "-U",
                    "postgres",
                    "-d",
                    database,
                ]);
                command
                    .arg("-h")
                    .arg(&self.folder)
                    .args(["-p", &self.port.to_string()]);
                command
            }
            Dialect::MySql => {
                let mut command = Command::new(program("mariadb", "mariadb-client"));
                command.args([
                    "--no-defaults",
                    "-u",
                    "root",
                    "--default-character-set=utf8mb4",
                ]);
                command.arg(format!("--socket={}", self.socket().display()));
                command.arg(database);
                command
            }
        }
    }

    /// Runs statements as the administrator.
    pub fn sql(&self, database: &str, sql: &str) {
        run(self
            .client(database)
            .arg(match self.dialect {
                Dialect::Postgres => "-c",
                Dialect::MySql => "-e",
            })
            .arg(sql));
    }

    /// Makes an empty database with a name of its own.
    pub fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("app{}", COUNT.fetch_add(1, Ordering::Relaxed));
        match self.dialect {
            Dialect::Postgres => self.sql("postgres", &format!("CREATE DATABASE {name}")),
            Dialect::MySql => self.sql("mysql", &format!("CREATE DATABASE {name}")),
        }
        name
    }

    /// Makes a database and loads a dump into it.
    pub fn load(&self, dump: &Path) -> String {
        let name = self.database();
        self.run_file(&name, dump);
        name
    }

    /// Runs a file of statements in a database, by the server's own client.
    pub fn run_file(&self, database: &str, dump: &Path) {
        let file =
            std::fs::File::open(dump).unwrap_or_else(|error| panic!("{}: {error}", dump.display()));
        let output = self.client(database).stdin(file).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        let clean = output.status.success() && !told.contains("ERROR");
        assert!(clean, "{}: {told}", dump.display());
    }

    /// The URL of `database` for the administrator, through `port`.
    pub fn url_at(&self, database: &str, port: u16) -> String {
        match self.dialect {
            Dialect::Postgres => {
                format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/{database}")
            }
            Dialect::MySql => format!("mysql://tcp:{PASSWORD}@127.0.0.1:{port}/{database}"),
        }
    }

    /// The URL of `database` for the administrator.
    pub fn url(&self, database: &str) -> String {
        self.url_at(database, self.port)
    }

    /// The URL of `database` for a role that may only read.
    pub fn reader_url(&self, database: &str) -> String {
        let scheme = match self.dialect {
            Dialect::Postgres => "postgres",
            Dialect::MySql => "mysql",
        };
        format!(
            "{scheme}://{READER}:{PASSWORD}@127.0.0.1:{}/{database}",
            self.port
        )
    }
}
