//! Real Next.js servers: the app of `tests/next/app`, built by `scripts/next-apps` with Next.js 15 and 16.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use vestibule::app::NextJs;

/// What nobody without a session may see a byte of. The app puts it into everything that is protected.
pub const MARKER: &str = "PROTECTED-BYTES";

/// One build of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// The version of Next.js: `15` or `16`.
    pub version: u8,
    /// Below a base path, with locales, trailing slashes and a proxy of its own that guards nothing.
    pub is_based: bool,
}

impl Build {
    /// Where it is.
    pub fn folder(self) -> PathBuf {
        let variant = if self.is_based { "based" } else { "plain" };
        let folder = folder().join(format!("{}/built-{variant}", self.version));
        let there = folder.canonicalize().unwrap_or_default();
        assert!(
            there.join(".next/BUILD_ID").is_file(),
            "this test needs a build of Next.js {}: run `scripts/next-apps` (scripts/test does)",
            self.version
        );
        there
    }

    /// The build id.
    pub fn id(self) -> String {
        let id = std::fs::read_to_string(self.folder().join(".next/BUILD_ID"));
        id.expect("a build id").trim().to_owned()
    }

    /// A file of the build, as JSON.
    pub fn manifest(self, name: &str) -> serde_json::Value {
        let text = std::fs::read_to_string(self.folder().join(".next").join(name));
        serde_json::from_str(&text.expect("a manifest")).expect("JSON")
    }

    /// What `next.config` says of paths.
    pub fn nextjs(self) -> NextJs {
        if !self.is_based {
            return NextJs::default();
        }
        NextJs {
            base_path: "/base".into(),
            locales: ["en", "fr", "nl-NL"].map(str::to_owned).to_vec(),
            default_locale: Some("en".into()),
            trailing_slash: true,
            ..NextJs::default()
        }
    }
}

/// Where the npm folders are.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/next")
}

/// The build with a proxy, as if its `config.matcher` had been another. It is gone with this.
pub struct Matched {
    build: Build,
    place: PathBuf,
}

impl Drop for Matched {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

impl Matched {
    /// `matchers` is what Next.js itself compiled. Everything else is linked from the build.
    pub fn of(version: u8, matchers: &serde_json::Value) -> Self {
        let build = Build {
            version,
            is_based: true,
        };
        let place = std::env::temp_dir().join(format!(
            "vestibule-matched-{version}-{}",
            std::process::id()
        ));
        let made = Self { build, place };
        let (from, to) = (build.folder(), made.folder());
        let _ = std::fs::remove_dir_all(&made.place);
        std::fs::create_dir_all(to.join(".next/server")).expect("a folder");
        let packages = from.join("../node_modules").canonicalize();
        link(
            &packages.expect("packages"),
            &made.place.join("node_modules"),
        );
        let changed = ["middleware-manifest.json", "functions-config-manifest.json"];
        for (below, except) in [
            ("", &[".next"][..]),
            (".next", &["server"]),
            (".next/server", &changed),
        ] {
            for entry in std::fs::read_dir(from.join(below)).expect("a folder") {
                let name = entry.expect("an entry").file_name();
                if !except.iter().any(|except| name == *except) {
                    link(&from.join(below).join(&name), &to.join(below).join(&name));
                }
            }
        }
        // One version keeps them in one file, the other in the other.
        let mut replaced = 0;
        for (name, place) in changed
            .iter()
            .zip(["/middleware/~1", "/functions/~1_middleware"])
        {
            let mut manifest = build.manifest(&format!("server/{name}"));
            if let Some(found) = manifest.pointer_mut(place) {
                found["matchers"] = matchers.clone();
                replaced += 1;
            }
            let file = to.join(".next/server").join(name);
            std::fs::write(file, manifest.to_string()).expect("it is written");
        }
        assert_eq!(replaced, 1, "the build's matchers are where they were");
        made
    }

    fn folder(&self) -> PathBuf {
        self.place.join("app")
    }

    pub fn start(&self) -> Server {
        Server::start_in(self.build, &self.folder())
    }
}

fn link(from: &Path, to: &Path) {
    std::os::unix::fs::symlink(from, to).expect("a link");
}

/// A running `next start`. It ends when its standard input does, so also when this process is gone, however it went.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    input: Option<ChildStdin>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

impl Server {
    pub fn start(build: Build) -> Self {
        Self::start_in(build, &build.folder())
    }

    /// With what is in another folder in place of the build's.
    pub fn start_in(build: Build, folder_of_app: &Path) -> Self {
        let mut child = Command::new("node")
            .arg("--import")
            .arg(folder().join("leash.mjs"))
            .arg("../node_modules/next/dist/bin/next")
            .args(["start", "-H", "127.0.0.1", "-p", "0"])
            .current_dir(folder_of_app)
            .env("NEXT_TELEMETRY_DISABLED", "1")
            .env("VARIANT", if build.is_based { "based" } else { "plain" })
            .env_remove("PORT")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is installed");
        let input = child.stdin.take();
        let output = child.stdout.take().expect("its output");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let mut said = String::new();
        let mut port = None;
        for line in lines.by_ref() {
            said.push_str(&line);
            said.push('\n');
            if let Some((_, after)) = line.split_once("http://127.0.0.1:") {
                port = after.trim().parse::<u16>().ok();
            }
            if line.contains("Ready in") {
                break;
            }
        }
        // Whatever it says later is read and forgotten, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        let port = port.unwrap_or_else(|| panic!("Next.js did not start: {said}"));
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            child,
            input,
        }
    }
}
