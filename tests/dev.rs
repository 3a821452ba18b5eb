//! `vestibule dev`: an app's own command and the gateway in front of it start, stop and fail together.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::databases::Folder;
use crate::support::{await_until, exchange, free_port};

const SECRET: &str = "a secret of this test, which nobody is to see";

/// Says who it is, then listens where it is told to. `/public/end?CODE` ends it, `/public/die` kills it.
const APP: &str = r#"
const { createServer } = require("node:http");
const { spawn } = require("node:child_process");
const below = spawn("sleep", ["1000"]);
console.log(`me ${process.pid} below ${below.pid}`);
process.on("SIGTERM", () => { console.log("told to end"); process.exit(7); });
createServer((request, response) => {
  if (request.url.startsWith("/public/end")) process.exit(Number(request.url.split("?")[1]));
  if (request.url === "/public/die") process.kill(process.pid, "SIGKILL");
  response.end(`${request.url} PORT=${process.env.PORT} BETTER_AUTH_URL=${process.env.BETTER_AUTH_URL}`);
}).listen(Number(process.env.PORT), "127.0.0.1");
"#;

/// Does not listen, and has something to say about it.
const DEAF: &str =
    r#"console.log(`me ${process.pid} below ${process.pid}`); setInterval(() => {}, 1000);"#;

/// Does not want to end.
const STUBBORN: &str = r#"
console.log(`me ${process.pid} below ${process.pid}`);
process.on("SIGTERM", () => console.log("not now"));
require("node:http").createServer((_, response) => response.end()).listen(Number(process.env.PORT), "127.0.0.1");
"#;

const CONFIGURATION: &str = r#"
public_url = "https://shop.example"
hosts = ["shop.example"]
[upstream]
url = "http://127.0.0.1:3000"
[sessions]
source = "sqlite:app.db"
[routes]
default = "signed-in"
sign_in = "/sign-in"
[[route]]
path = "/public/:path*"
rule = "public"
"#;

/// What is started.
struct Setup {
    script: &'static str,
    /// `None`: there is no file.
    configuration: Option<&'static str>,
    database: bool,
    /// Whether the app was built once, long ago.
    built: bool,
    arguments: &'static [&'static str],
    /// Ports that are taken, when a test takes them: the gateway's and the app's.
    ports: Option<[u16; 2]>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            script: APP,
            configuration: Some(CONFIGURATION),
            database: true,
            built: false,
            arguments: &[],
            ports: None,
        }
    }
}

/// One that runs, or has run.
struct Dev {
    child: Child,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    port: u16,
    app: u16,
    _folder: Folder,
}

impl Drop for Dev {
    fn drop(&mut self) {
        // What watches over the app ends it when nobody else does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let all: Arc<Mutex<String>> = Arc::default();
    let into = Arc::clone(&all);
    thread::spawn(move || {
        let mut piece = [0; 1024];
        while let Ok(read @ 1..) = from.read(&mut piece) {
            into.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    });
    all
}

impl Setup {
    fn start(&self) -> Dev {
        let folder = Folder::new("dev");
        if self.database {
            let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/db/core.sqlite");
            std::fs::copy(golden, folder.join("app.db")).unwrap();
        }
        if self.built {
            let build = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/example-build");
            for name in ["", "server"] {
                let to = folder.join("web/.next").join(name);
                std::fs::create_dir_all(&to).unwrap();
                for entry in std::fs::read_dir(Path::new(build).join(name)).unwrap() {
                    let entry = entry.unwrap();
                    if entry.path().is_file() {
                        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
                    }
                }
            }
        }
        if let Some(text) = self.configuration {
            std::fs::write(folder.join("vestibule.toml"), text).unwrap();
        }
        let variables =
            format!("BETTER_AUTH_SECRET='{SECRET}'\nBETTER_AUTH_URL=https://shop.example\n");
        std::fs::write(folder.join(".env.local"), variables).unwrap();
        let [port, app] = self.ports.unwrap_or_else(|| [(); 2].map(|()| free_port()));
        let mut child = Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .arg("dev")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--set", &format!("upstream.url=http://127.0.0.1:{app}")])
            .args(["--set", &format!("admin=127.0.0.1:{}", free_port())])
            .args(self.arguments)
            .args(["--", "node", "-e", self.script])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(folder.join("."))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        Dev {
            out: collect(child.stdout.take().unwrap()),
            err: collect(child.stderr.take().unwrap()),
            child,
            port,
            app,
            _folder: folder,
        }
    }

    /// Starts it and waits until both run. Somebody else may take a port before it does: then others are tried.
    fn run(&self) -> Dev {
        for _ in 0..5 {
            let mut dev = self.start();
            let mut code = None;
            while code.is_none() && !dev.says(" listening ") {
                code = dev.child.try_wait().unwrap();
                thread::yield_now();
            }
            let Some(code) = code else { return dev };
            assert!(
                dev.says("cannot be listened on") || dev.says("listens on"),
                "ended with {code}: {}",
                dev.err()
            );
        }
        panic!("no ports")
    }
}

impl Setup {
    /// Starts one that does not get as far as to run, and waits for its end.
    fn fail(&self) -> (Dev, i32) {
        for _ in 0..5 {
            let mut dev = self.start();
            let code = dev.code();
            let is_unlucky = dev.says("cannot be listened on") || dev.says("something listens on");
            if !is_unlucky || self.ports.is_some() {
                return (dev, code);
            }
        }
        panic!("no ports")
    }
}

impl Dev {
    fn says(&self, text: &str) -> bool {
        self.err.lock().unwrap().contains(text)
    }

    fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// Waits until it has ended, and gives its code.
    fn code(&mut self) -> i32 {
        let mut ended = None;
        let began = std::time::Instant::now();
        while ended.is_none() {
            assert!(
                began.elapsed() < 3 * crate::support::PATIENCE,
                "it goes on: {}",
                self.err()
            );
            ended = self.child.try_wait().unwrap();
            thread::yield_now();
        }
        ended.unwrap().code().expect("a code of its own")
    }

    /// The processes that the command is.
    fn processes(&self) -> [u32; 2] {
        await_until("the command to say who it is", || {
            self.out().contains("below") && self.out().ends_with('\n')
        });
        let out = self.out();
        let words: Vec<&str> = out.split_whitespace().collect();
        [words[1], words[3]].map(|word| word.parse().unwrap())
    }

    fn get(&self, target: &str) -> crate::support::Answer {
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: localhost:{}\r\naccept: text/html\r\n\r\n",
            self.port
        );
        exchange(([127, 0, 0, 1], self.port).into(), request.as_bytes())
    }

    /// Asks for something without expecting an answer.
    fn ask(&self, target: &str) {
        let _ = thread::scope(|scope| scope.spawn(|| self.get(target).status).join());
    }
}

/// Whether a process does anything still. One that nobody has asked about since it ended does not.
fn lives(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = status
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn await_end_of(processes: [u32; 2]) {
    for process in processes {
        await_until("the command to be gone", || !lives(process));
    }
}

#[test]
fn the_app_and_the_gateway_start_and_stop_together() {
    let mut dev = Setup::default().run();
    let processes = dev.processes();
    let here = format!("http://localhost:{}", dev.port);
    let app = dev.app;
    let seen = dev.get("/public/a");
    assert_eq!(
        (seen.status, seen.text()),
        (200, format!("/public/a PORT={app} BETTER_AUTH_URL={here}"))
    );
    let stranger = dev.get("/dashboard");
    assert_eq!(
        (stranger.status, stranger.header("location")),
        (302, Some("/sign-in?callbackURL=%2Fdashboard"))
    );
    // What the development server needs is open, and only that.
    for path in [
        "/_next/webpack-hmr",
        "/_next/hmr",
        "/__nextjs_original-stack-frames",
        "/_next/static/chunks/a.js",
    ] {
        assert_eq!(dev.get(path).status, 200, "{path}");
    }
    assert_eq!(
        dev.get("/_next/image?url=%2Fdashboard.png&w=1&q=1").status,
        401
    );
    let told = dev.err();
    for line in [
        format!("http://127.0.0.1:{app}"),
        here,
        format!("PORT={app}"),
        "started `node`".into(),
    ] {
        assert!(told.contains(&line), "{line} in {told}");
    }

    dev.signal(Signal::SIGTERM);
    assert_eq!(dev.code(), 7, "{}", dev.err());
    await_end_of(processes);
    await_until("its last words", || dev.out().contains("told to end"));
    for text in [dev.err(), dev.out()] {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn the_command_s_exit_code_is_ours() {
    for (target, code) in [
        ("/public/end?5", 5),
        ("/public/end?0", 0),
        ("/public/die", 137),
    ] {
        let mut dev = Setup::default().run();
        let processes = dev.processes();
        dev.ask(target);
        assert_eq!(dev.code(), code, "{target}: {}", dev.err());
        await_end_of(processes);
    }
}

#[test]
fn nothing_is_left_when_it_is_killed_itself() {
    let dev = Setup::default().run();
    let processes = dev.processes();
    assert!(processes.iter().all(|process| lives(*process)));
    dev.signal(Signal::SIGKILL);
    await_end_of(processes);
}

#[test]
fn a_command_that_does_not_want_to_end_is_killed_at_the_second_signal() {
    let setup = Setup {
        script: STUBBORN,
        ..Setup::default()
    };
    let mut dev = setup.run();
    let processes = dev.processes();
    dev.signal(Signal::SIGTERM);
    await_until("it to refuse", || dev.out().contains("not now"));
    dev.signal(Signal::SIGINT);
    assert_eq!(dev.code(), 137);
    await_end_of(processes);
}

#[test]
fn a_command_that_never_listens_is_told_and_ended() {
    let setup = Setup {
        script: DEAF,
        arguments: &["--wait", "1"],
        ..Setup::default()
    };
    let (dev, code) = setup.fail();
    assert_eq!(code, 3, "{}", dev.err());
    let told = dev.err();
    assert!(
        told.contains("does not listen on 127.0.0.1:") && told.contains("after 1 seconds"),
        "{told}"
    );
    assert!(told.contains(&format!("PORT={}", dev.app)), "{told}");
    // On a busy machine it may not have come as far as to say who it is.
    if dev.out().ends_with('\n') {
        await_end_of(dev.processes());
    }
}

#[test]
fn a_command_that_ends_before_it_listens_is_told() {
    let setup = Setup {
        script: "process.exit(9)",
        ..Setup::default()
    };
    let (dev, code) = setup.fail();
    assert_eq!(code, 9);
    assert!(dev.says("ended with 9 before it listened"), "{}", dev.err());
}

#[test]
fn a_port_that_is_taken_is_told_and_nothing_is_started() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (ports, words) in [
        ([port, free_port()], "cannot be listened on"),
        ([free_port(), port], "something listens on"),
    ] {
        let setup = Setup {
            ports: Some(ports),
            ..Setup::default()
        };
        let (dev, code) = setup.fail();
        assert_eq!(code, 3);
        assert!(
            dev.says(words) && dev.says(&port.to_string()),
            "{}",
            dev.err()
        );
        assert!(!dev.says("started"), "{}", dev.err());
        assert_eq!(dev.out(), "");
    }
}

#[test]
fn when_the_gateway_cannot_start_the_command_is_ended() {
    let setup = Setup {
        database: false,
        ..Setup::default()
    };
    let (dev, code) = setup.fail();
    assert_eq!(code, 2, "{}", dev.err());
    assert!(dev.says("app.db"), "{}", dev.err());
    await_end_of(dev.processes());
}

#[test]
fn without_a_file_it_runs_with_what_init_would_write() {
    let setup = Setup {
        configuration: None,
        ..Setup::default()
    };
    let mut dev = setup.run();
    assert!(
        dev.says("using what `vestibule init` would write"),
        "{}",
        dev.err()
    );
    assert_eq!(dev.get("/").status, 200);
    assert_eq!(dev.get("/dashboard").status, 302);
    dev.signal(Signal::SIGINT);
    // Node ends by the signal: it has no handler for this one.
    assert_eq!(dev.code(), 130);

    // A file that was named and is not there is a mistake.
    let named = Setup {
        configuration: None,
        arguments: &["--config", "elsewhere.toml"],
        ..Setup::default()
    };
    let (dev, code) = named.fail();
    assert_eq!(code, 2);
    assert!(dev.says("elsewhere.toml cannot be read"), "{}", dev.err());
}

#[test]
fn an_app_that_names_its_build_is_developed_without_one_and_beside_an_old_one() {
    const NAMED: &str = "\n[nextjs]\napp = \"web\"\n";
    // What `vestibule init` writes, in short.
    let configuration: &'static str = Box::leak(format!("{CONFIGURATION}{NAMED}").into());
    for built in [false, true] {
        let setup = Setup {
            configuration: Some(configuration),
            built,
            ..Setup::default()
        };
        let mut dev = setup.run();
        // A page that is being written is in no build.
        assert_eq!(dev.get("/public/new").status, 200, "{built}: {}", dev.err());
        assert_eq!(dev.get("/dashboard").status, 302, "{built}");
        assert_eq!(dev.get("/new").status, 302, "{built}");
        dev.signal(Signal::SIGTERM);
        assert_eq!(dev.code(), 7, "{built}: {}", dev.err());
    }
}

#[test]
fn a_command_that_does_not_exist_is_told() {
    let folder = Folder::new("dev");
    std::fs::write(folder.join("vestibule.toml"), CONFIGURATION).unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .args(["dev", "--set", &format!("listen=127.0.0.1:{}", free_port())])
        .args(["--set", &format!("admin=127.0.0.1:{}", free_port())])
        .args([
            "--set",
            &format!("upstream.url=http://127.0.0.1:{}", free_port()),
        ])
        .args(["--", "no-such-command-anywhere"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("BETTER_AUTH_SECRET", SECRET)
        .current_dir(folder.join("."))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{told}");
    assert!(
        told.contains("`no-such-command-anywhere` cannot be started"),
        "{told}"
    );
}
