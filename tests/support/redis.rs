//! Real Redis servers: each in a folder of its own, gone when the run ends.
//!
//! As with the databases, a small shell holds a pipe from us: when it closes, the server is ended, stopped or not.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use redis::{Connection, FromRedisValue};
use vestibule::store::Settings;

use super::databases::{Folder, program, settings};
use super::free_port;

/// One running server.
pub struct Redis {
    pub port: u16,
    folder: Folder,
    arguments: Vec<String>,
    running: Mutex<Option<Running>>,
}

struct Running {
    shell: Child,
    pipe: Option<ChildStdin>,
    server: String,
}

impl Redis {
    /// An empty server that anybody may use.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let redis = Self {
            port: free_port(),
            folder: Folder::new("redis"),
            arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
            running: Mutex::default(),
        };
        redis.resume();
        redis
    }

    /// Starts the server again, on the same port and empty, and returns when it takes connections.
    pub fn resume(&self) {
        let script = r#"cd "$1"; shift
            "$@" </dev/null & server=$!
            echo "pid $server"
            exec >/dev/null # The log ends with the server.
            read -r _
            kill -KILL $server; wait $server 2>/dev/null"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(self.folder.join("."));
        shell.arg(program("redis-server", "redis-server"));
        shell.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        shell.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        shell.args(&self.arguments);
        shell.process_group(0);
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut shell = shell.spawn().unwrap();
        let pipe = shell.stdin.take();
        let mut log = BufReader::new(shell.stdout.take().unwrap());
        let mut told = String::new();
        let mut server = String::new();
        loop {
            let before = told.len();
            let read = log.read_line(&mut told).unwrap_or(0);
            assert!(read > 0, "redis-server did not start:\n{told}");
            let line = told.get(before..).unwrap_or_default();
            if let Some(pid) = line.strip_prefix("pid ") {
                server = pid.trim().to_owned();
            }
            if line
                .to_ascii_lowercase()
                .contains("ready to accept connections")
            {
                break;
            }
        }
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        *self.running.lock().unwrap() = Some(Running {
            shell,
            pipe,
            server,
        });
    }

    /// Ends the server at once, as a crash would; nothing stays.
    pub fn stop(&self) {
        if let Some(mut running) = self.running.lock().unwrap().take() {
            drop(running.pipe.take());
            let _ = running.shell.wait();
        }
    }

    /// Sends the server a signal by its name: `STOP` makes it hang, `CONT` lets it go on.
    pub fn signal(&self, name: &str) {
        let running = self.running.lock().unwrap();
        let server = &running.as_ref().unwrap().server;
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(server)
            .status();
        assert!(sent.unwrap().success());
    }

    /// Its address, for a database by number.
    pub fn url(&self, database: u8) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.port)
    }

    /// Settings for a source in database 0.
    pub fn settings(&self) -> Settings {
        settings(&self.url(0))
    }

    /// A connection of the test's own.
    pub fn connect(&self) -> Connection {
        connect(&self.url(0))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection of the test's own.
pub fn connect(url: &str) -> Connection {
    let client = redis::Client::open(url).unwrap();
    let wait = Duration::from_secs(20);
    let connection = client.get_connection_with_timeout(wait).unwrap();
    connection.set_read_timeout(Some(wait)).unwrap();
    connection
}

/// Runs one command: words apart.
pub fn run<T: FromRedisValue>(connection: &mut Connection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command
        .query(connection)
        .unwrap_or_else(|error| panic!("{words:?}: {error}"))
}
