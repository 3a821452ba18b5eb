//! `vestibule dev -- CMD…`: the app's own command and the gateway in front of it, as one.
//!
//! The command runs in a process group of its own, so that whatever it starts (a package manager starts a shell, which starts Node) ends
//! with it. A small shell watches over the group through a pipe whose other end only this process has: when this process is gone,
//! however it went, the pipe closes and the group is ended.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::{Edges, Failure, Given, PROBLEMS, UNREACHABLE, USAGE, World, init};
use crate::config::Loaded;
use crate::server::UpstreamAddress;

/// Files of variables, in the order in which Next.js lets them win while developing.
const ENV_FILES: [&str; 4] = [
    ".env.development.local",
    ".env.local",
    ".env.development",
    ".env",
];

/// How long the command may take to end once it is told to, before it is killed. A second signal shortens it.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How often the app is looked for while it starts.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One look at one address.
const LOOK_WITHIN: Duration = Duration::from_millis(500);

/// For requests in flight at the end: the app is gone by then, and nobody else waits.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// What watches over the group. It says goodbye politely, waits for five seconds, and insists.
const WATCH: &str = r#"
trap '' HUP INT TERM
read -r group || exit 0
read -r over
kill -s TERM -- "-$group" 2> /dev/null || exit 0
for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
  kill -s 0 -- "-$group" 2> /dev/null || exit 0
  sleep 0.2
done
kill -s KILL -- "-$group" 2> /dev/null
"#;

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
pub struct Dev {
    /// The configuration. Without a file, what `vestibule init` would write for this folder.
    #[command(flatten)]
    pub given: Given,
    /// Address and port of the public listener, over `listen`.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// How many seconds the app may take until it listens.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub wait: u64,
    /// The app's own command, which listens on the port of `upstream.url` (it is told by PORT).
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// What happens while the two run.
enum Event {
    Ended(std::io::Result<ExitStatus>),
    Signalled(Signal),
}

impl Dev {
    /// Runs both until one ends.
    ///
    /// # Errors
    /// When one of them cannot start.
    pub fn run(mut self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let loaded = match self.load(world, edges)? {
            Ok(loaded) => loaded,
            Err(code) => return Ok(code),
        };
        let app = loaded
            .config
            .server
            .upstreams
            .first()
            .and_then(|upstream| upstream.addresses.first())
            .cloned()
            .ok_or_else(|| Failure {
                message: "the configuration names no app".into(),
                advice: "set `upstream.url`".into(),
                code: USAGE,
            })?;
        look_for_room(&loaded, &app)?;
        let (events, told) = mpsc::channel();
        hear_signals(&events)?;
        let public_url = loaded.config.server.public_url.clone();
        let mut beside = Beside::start(&self.command, &app, &public_url, world, events)?;
        let code = self.run_both(loaded, &app, &mut beside, &told, world, edges);
        beside.sweep();
        code
    }

    fn run_both(
        &self,
        loaded: Loaded,
        app: &UpstreamAddress,
        beside: &mut Beside,
        told: &Receiver<Event>,
        world: &mut World<'_>,
        edges: Edges,
    ) -> Result<u8, Failure> {
        let began = Instant::now();
        let within = Duration::from_secs(self.wait);
        while !is_listening(app) {
            match told.recv_timeout(LOOK_EVERY) {
                Ok(Event::Ended(status)) => {
                    let code = code_of(status)?;
                    world.complain(&format!(
                        "vestibule: the command ended with {code} before it listened on {}\n",
                        shown(app)
                    ));
                    return Ok(code);
                }
                Ok(Event::Signalled(signal)) => return beside.end(signal, told),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if began.elapsed() >= within {
                // Whatever it ends with, it did not do what it was started for.
                beside.end(Signal::SIGTERM, told)?;
                return Err(Failure {
                    message: format!(
                        "the command runs and does not listen on {} after {} seconds",
                        shown(app),
                        self.wait
                    ),
                    advice: format!(
                        "it is told the port by PORT={}: make it listen there, or set `upstream.url` to where it does; `--wait` gives it longer",
                        app.port
                    ),
                    code: UNREACHABLE,
                });
            }
        }
        let addresses = format!(
            "vestibule: the app       http://{}\nvestibule: the gateway   {}   <- open this one\n",
            shown(app),
            loaded.config.server.public_url
        );
        let mut ended = None;
        let mut wait = || {
            world.complain(&addresses);
            ended = Some(match told.recv() {
                Ok(Event::Ended(status)) => code_of(status),
                Ok(Event::Signalled(signal)) => beside.end(signal, told),
                // Whoever could tell of anything is gone.
                Err(_) => Ok(PROBLEMS),
            });
        };
        let served = (edges.serve_while)(loaded, &mut wait);
        match (ended, served) {
            (Some(code), _) => code,
            // It could not start: then the app alone is nothing anybody asked for.
            (None, Err(failure)) => {
                beside.end(Signal::SIGTERM, told)?;
                Err(failure)
            }
            (None, Ok(())) => beside.end(Signal::SIGTERM, told),
        }
    }

    /// The configuration as it is while developing: the same rules, on this machine.
    fn load(&mut self, world: &mut World<'_>, edges: Edges) -> Result<Result<Loaded, u8>, Failure> {
        if let Some(address) = &self.listen {
            self.given.set.push(format!("listen={address}"));
        }
        if self.given.env_file.is_empty() {
            self.given.env_file = ENV_FILES
                .iter()
                .map(PathBuf::from)
                .filter(|file| world.path(file).is_file())
                .collect();
        }
        self.given.build_may_be_missing = true;
        let made = self.made_up(world);
        let load = |given: &Given, world: &World<'_>| match &made {
            Some(text) => given.load_text("vestibule init", text, world, edges),
            None => given.load(world, edges),
        };
        let mut read = load(&self.given, world)?;
        if let Ok(loaded) = &read {
            // Browsers reach it here, whatever they see elsewhere. What was asked for on the command line holds.
            let server = &loaded.config.server;
            let port = server.listen.first().map_or(8080, |address| address.port());
            let scheme = if server.tls.is_some() {
                "https"
            } else {
                "http"
            };
            let here = format!("{scheme}://localhost:{port}");
            let asked: Vec<String> = self
                .given
                .set
                .iter()
                .filter_map(|set| Some(set.split_once('=')?.0.trim().to_owned()))
                .collect();
            let is_asked = |key: &str| asked.iter().any(|asked| asked == key);
            if !is_asked("public_url") {
                self.given.set.push(format!("public_url={here}"));
                if !is_asked("hosts") {
                    self.given.set.push("hosts=localhost".into());
                }
                // The app's own word would say something else about the cookies.
                let variables = &mut world.environment;
                variables.entry("BETTER_AUTH_URL".into()).or_insert(here);
                read = load(&self.given, world)?;
            }
        }
        let style = world.style();
        Ok(match read {
            Ok(mut loaded) => {
                world.complain(&loaded.warnings.render(style));
                loaded.config.routes.dev = true;
                // A development server does not serve the build: what lies there is an older app, without the pages being written.
                loaded.config.build = None;
                let stop = &mut loaded.config.server.timeouts.stop;
                *stop = (*stop).min(STOP_WITHIN);
                Ok(loaded)
            }
            Err(problems) => {
                world.complain(&problems.render(style));
                Err(USAGE)
            }
        })
    }

    /// Where there is no file and none was named: what `init` would write, told in one line.
    fn made_up(&self, world: &mut World<'_>) -> Option<String> {
        let named = self.given.config.is_some()
            || world
                .environment
                .get("VESTIBULE_CONFIG")
                .is_some_and(|path| !path.is_empty());
        if named || world.path(&self.given.file(world)).exists() {
            return None;
        }
        let text = init::text_for(&world.folder.join("."), Path::new("."));
        world.complain(
            "vestibule: no vestibule.toml: using what `vestibule init` would write for this folder\n",
        );
        Some(text)
    }
}

/// The command, and what watches over its group.
struct Beside {
    group: Pid,
    watch: Child,
}

impl Beside {
    fn start(
        command: &[OsString],
        app: &UpstreamAddress,
        public_url: &str,
        world: &mut World<'_>,
        events: Sender<Event>,
    ) -> Result<Self, Failure> {
        let (program, arguments) = command.split_first().ok_or_else(|| Failure {
            message: "there is no command".into(),
            advice: "as in `vestibule dev -- npm run dev`".into(),
            code: USAGE,
        })?;
        let cannot = |what: String, error: std::io::Error| Failure {
            message: format!("{what} cannot be started: {error}"),
            advice: "the command comes after `--`, as in `vestibule dev -- npm run dev`".into(),
            code: USAGE,
        };
        // Before the command: from its first moment on somebody watches.
        let mut watch = Command::new("sh")
            .args(["-c", WATCH])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| cannot("sh".into(), error))?;
        let mut child = Command::new(program);
        child
            .args(arguments)
            .env("PORT", app.port.to_string())
            // Reading from the terminal would stop a group that is not the terminal's own.
            .stdin(Stdio::null())
            .process_group(0);
        let mut said = format!("PORT={}", app.port);
        if world
            .environment
            .get("BETTER_AUTH_URL")
            .is_some_and(|url| url == public_url)
        {
            child.env("BETTER_AUTH_URL", public_url);
            said.push_str(&format!(" BETTER_AUTH_URL={public_url}"));
        }
        // Its arguments are not shown: they may hold anything.
        let name = program.to_string_lossy();
        let mut child = match child.spawn() {
            Ok(child) => child,
            Err(error) => {
                drop(watch.stdin.take());
                let _ = watch.wait();
                return Err(cannot(format!("`{name}`"), error));
            }
        };
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        if let Some(pipe) = &mut watch.stdin {
            let _ = writeln!(pipe, "{group}");
        }
        thread::spawn(move || events.send(Event::Ended(child.wait())));
        world.complain(&format!("vestibule: started `{name}` with {said}\n"));
        Ok(Self { group, watch })
    }

    /// Passes a signal on and waits until the command has ended; after a while, or another signal, it is killed.
    fn end(&self, signal: Signal, told: &Receiver<Event>) -> Result<u8, Failure> {
        let _ = killpg(self.group, signal);
        let deadline = Instant::now() + END_WITHIN;
        let mut killed = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = if killed {
                told.recv().ok()
            } else {
                told.recv_timeout(left).ok()
            };
            match event {
                Some(Event::Ended(status)) => return code_of(status),
                None if killed => return Ok(PROBLEMS),
                Some(Event::Signalled(_)) | None => {
                    killed = true;
                    let _ = killpg(self.group, Signal::SIGKILL);
                }
            }
        }
    }

    /// Ends whatever is left of the group, and waits until it is gone.
    fn sweep(&mut self) {
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
    }
}

/// The exit code of a command, as a shell tells it.
fn code_of(status: std::io::Result<ExitStatus>) -> Result<u8, Failure> {
    let status = status.map_err(|error| Failure {
        message: format!("the command cannot be waited for: {error}"),
        advice: String::new(),
        code: PROBLEMS,
    })?;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code
        .and_then(|code| u8::try_from(code & 0xff).ok())
        .unwrap_or(PROBLEMS))
}

/// Somebody else on one of our ports is told before anything is started.
fn look_for_room(loaded: &Loaded, app: &UpstreamAddress) -> Result<(), Failure> {
    let server = &loaded.config.server;
    let listen = server.listen.iter().map(|address| ("listen", address));
    let admin = server.admin.iter().map(|address| ("admin", address));
    for (key, address) in listen.chain(admin) {
        TcpListener::bind(address).map_err(|error| Failure {
            message: format!("`{key}`: {address} cannot be listened on: {error}"),
            advice: format!(
                "stop what listens there, or choose another port with `--set {key}=127.0.0.1:PORT`"
            ),
            code: UNREACHABLE,
        })?;
    }
    if is_listening(app) {
        return Err(Failure {
            message: format!(
                "something listens on {} already, where the app is to",
                shown(app)
            ),
            advice:
                "stop it, or choose another port with `--set upstream.url=http://127.0.0.1:PORT`"
                    .into(),
            code: UNREACHABLE,
        });
    }
    Ok(())
}

fn is_listening(app: &UpstreamAddress) -> bool {
    let Ok(addresses) = (app.host.as_str(), app.port).to_socket_addrs() else {
        return false;
    };
    addresses
        .into_iter()
        .any(|address| TcpStream::connect_timeout(&address, LOOK_WITHIN).is_ok())
}

fn shown(app: &UpstreamAddress) -> String {
    if app.host.contains(':') {
        format!("[{}]:{}", app.host, app.port)
    } else {
        format!("{}:{}", app.host, app.port)
    }
}

/// Hears signals on a thread of its own. Returns once none is lost any more.
fn hear_signals(events: &Sender<Event>) -> Result<(), Failure> {
    let cannot = |error: &dyn std::fmt::Display| Failure {
        message: format!("signals cannot be heard: {error}"),
        advice: String::new(),
        code: PROBLEMS,
    };
    let (ready, is_ready) = mpsc::channel();
    let events = events.clone();
    thread::spawn(move || {
        let made = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match made {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async {
            let all = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
                signal(SignalKind::hangup()),
            );
            let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = all else {
                let _ = ready.send(Err(std::io::Error::other("no handler")));
                return;
            };
            let _ = ready.send(Ok(()));
            loop {
                let heard = tokio::select! {
                    _ = interrupt.recv() => Signal::SIGINT,
                    _ = terminate.recv() => Signal::SIGTERM,
                    _ = hangup.recv() => Signal::SIGHUP,
                };
                if events.send(Event::Signalled(heard)).is_err() {
                    return;
                }
            }
        });
    });
    match is_ready.recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(cannot(&error)),
        Err(error) => Err(cannot(&error)),
    }
}
