//! The gateway as people run it: the program itself, with a configuration file.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::support::free_port;

/// Ends the gateway when our end of the pipe closes, so also when this process is gone, however it went.
const KEEPER: &str = r#""$@" </dev/null & gateway=$!
    exec 2>/dev/null; read -r _
    kill -KILL $gateway; wait $gateway"#;

/// A running gateway.
pub struct Gateway {
    pub address: SocketAddr,
    keeper: Child,
    pipe: Option<ChildStdin>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.keeper.wait();
    }
}

impl Gateway {
    /// Ends it in the midst of whatever it does, as a crash would: SIGKILL, which it cannot hear. Returns when it is gone.
    pub fn kill(self) {
        // The keeper does it when the pipe closes.
        drop(self);
    }

    /// Starts one with this configuration, to which a free port is added.
    pub fn start(configuration: &str, file: &std::path::Path) -> Self {
        let mut told = String::new();
        // Somebody else may take the port before the gateway does: then another is tried.
        for _ in 0..5 {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            std::fs::write(file, format!("listen = \"{address}\"\n{configuration}"))
                .expect("a configuration file");
            let mut keeper = Command::new("sh")
                .args(["-c", KEEPER, "sh", env!("CARGO_BIN_EXE_vestibule"), "serve"])
                .arg("--config")
                .arg(file)
                // What this shell happens to hold must not configure it.
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                // A terminal's interrupt is for the tests; the gateway ends with them, through the pipe.
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("a shell");
            let pipe = keeper.stdin.take();
            let mut log = BufReader::new(keeper.stderr.take().expect("its log"));
            told.clear();
            while log.read_line(&mut told).unwrap_or(0) > 0 {
                if told.contains(" listening ") {
                    // Its log must be read on, or it would lose lines.
                    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                    return Self {
                        address,
                        keeper,
                        pipe,
                    };
                }
            }
            drop(pipe);
            let _ = keeper.wait();
        }
        panic!("the gateway did not start:\n{told}\n{configuration}");
    }
}
