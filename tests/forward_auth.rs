//! Other proxies ask: one table of decisions, held against the real nginx, HAProxy, Caddy, Traefik and Envoy, each with the example
//! configuration of this repository; and what the endpoints do with questions that no proxy would ask.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use vestibule::server::{slide, verify};
use vestibule::session::carried::{Carried, Told};
use vestibule::session::extend::Extend;
use vestibule::session::limit;
use vestibule::session::slide::Rules;
use vestibule::session::{BoxFuture, Record, Source, SourceError};
use vestibule::time::UnixMs;

use crate::support::{
    Answer, App, Gateway, NOW, PATIENCE, SECRET, Setup, Store, await_until, cookie, exchange,
    free_port, record, reply,
};

// ------------------------------------------------------------------------------------------------------------- the proxies

/// A proxy: what starts it, in a folder that holds its files.
struct Kind {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    files: &'static [&'static str],
}

const NGINX: Kind = Kind {
    name: "nginx",
    program: "nginx",
    arguments: &["-p", ".", "-e", "stderr", "-c", "main.conf"],
    files: &["nginx.conf"],
};
const HAPROXY: Kind = Kind {
    name: "haproxy",
    program: "haproxy",
    arguments: &["-db", "-f", "haproxy.cfg"],
    files: &["haproxy.cfg", "haproxy.lua"],
};
const CADDY: Kind = Kind {
    name: "caddy",
    program: "caddy",
    arguments: &["run", "--config", "Caddyfile", "--adapter", "caddyfile"],
    files: &["Caddyfile"],
};
const TRAEFIK: Kind = Kind {
    name: "traefik",
    program: "traefik",
    arguments: &["--configFile=traefik.yml"],
    files: &["traefik.yml", "traefik-routes.yml"],
};
const ENVOY: Kind = Kind {
    name: "envoy",
    program: "envoy",
    arguments: &[
        "-c",
        "envoy.yaml",
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warn",
    ],
    files: &["envoy.yaml"],
};

/// Debian's nginx reads its files from a folder; this stands in for the file that includes it, and keeps its own files here.
const NGINX_MAIN: &str = "daemon off;\nworker_processes 1;\npid nginx.pid;\nevents {}\nhttp {\naccess_log off;\n\
    client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
    include nginx.conf;\n}\n";

/// Runs a program until its standard input ends, as it does with the tests, however they end.
const KEEPER: &str = r#""$@" </dev/null & proxy=$!
    exec 3<&0; read -r _ <&3
    kill -TERM $proxy; wait $proxy"#;

struct Proxy {
    address: SocketAddr,
    keeper: Child,
    pipe: Option<ChildStdin>,
    folder: PathBuf,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.keeper.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Kind {
    fn program(&self) -> PathBuf {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/forward_auth/proxies");
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::iter::once(ours)
            .chain([PathBuf::from("/usr/sbin")])
            .chain(std::env::split_paths(&path))
            .map(|folder| folder.join(self.program))
            .find(|program| program.exists())
            .unwrap_or_else(|| {
                panic!(
                    "{} is missing: run scripts/prerequisites test and scripts/proxies",
                    self.program
                )
            })
    }

    /// Starts it with the files of the repository, in which nothing but addresses is replaced.
    fn start(&self, gateway: SocketAddr, app: SocketAddr) -> Proxy {
        let mut log = String::new();
        // Somebody else may take the port before the proxy does: then another is tried.
        for attempt in 0..5 {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let name = format!("vestibule-{}-{}-{attempt}", self.name, address.port());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).expect("a folder");
            self.write(&folder, address, gateway, app);
            let err = std::fs::File::create(folder.join("log")).expect("a log");
            let mut keeper = Command::new("sh")
                .args(["-c", KEEPER, "sh"])
                .arg(self.program())
                .args(self.arguments)
                .current_dir(&folder)
                .env("XDG_CONFIG_HOME", &folder)
                .env("XDG_DATA_HOME", &folder)
                .stdin(Stdio::piped())
                .stdout(err.try_clone().expect("a log"))
                .stderr(err)
                .spawn()
                .expect("a shell");
            let proxy = Proxy {
                address,
                pipe: keeper.stdin.take(),
                keeper,
                folder,
            };
            if proxy.answers() {
                return proxy;
            }
            log = std::fs::read_to_string(proxy.folder.join("log")).unwrap_or_default();
        }
        panic!("{} did not start:\n{log}", self.name);
    }

    fn write(&self, folder: &Path, listen: SocketAddr, gateway: SocketAddr, app: SocketAddr) {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/forward-auth");
        for file in self.files {
            let mut text = std::fs::read_to_string(examples.join(file)).expect("an example");
            for (port, address) in [(8000, listen), (8080, gateway), (3000, app)] {
                let (from, to) = (format!("127.0.0.1:{port}"), address.to_string());
                text = text.replace(&from, &to);
                // Envoy and Caddy write it in parts.
                let (from, to) = (
                    format!("port_value: {port}"),
                    format!("port_value: {}", address.port()),
                );
                text = text.replace(&from, &to);
                text = text.replace(
                    &format!("http://:{port}"),
                    &format!("http://:{}", address.port()),
                );
            }
            std::fs::write(folder.join(file), text).expect("a file");
        }
        if self.name == "nginx" {
            // Its workers are another user when we are root.
            let user = if is_root() { "user root;\n" } else { "" };
            std::fs::write(folder.join("main.conf"), format!("{user}{NGINX_MAIN}"))
                .expect("a file");
        }
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

impl Proxy {
    /// Whether it answers for the app within our patience; not when it has ended, or somebody else sits there.
    fn answers(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE * 2 {
            if TcpStream::connect(self.address).is_ok() {
                let answer = self.get("/public/ready", &[]);
                if answer.status == 200 && answer.text() == "the app" {
                    return true;
                }
            }
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            if log.contains("ddress already in use") || log.contains("Address in use") {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn raw(&self, bytes: impl AsRef<[u8]>) -> Answer {
        exchange(self.address, bytes.as_ref())
    }

    fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            head.push_str("Host: app.test\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let close = !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("connection"));
        head.push_str(if close {
            "Connection: close\r\n\r\n"
        } else {
            "\r\n"
        });
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.raw(bytes)
    }

    fn get(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", target, headers, b"")
    }
}

// --------------------------------------------------------------------------------------------------------------- the world

/// A store that also tells of cookies the app would set, as an app that is asked itself does.
struct Telling(Arc<Store>);

/// The token whose browser is owed cookies.
const OWED: &str = "owed";

impl Source for Telling {
    fn name(&self) -> &'static str {
        "telling"
    }

    fn find<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        self.0.find(token)
    }

    fn asks_the_app(&self) -> bool {
        true
    }

    fn find_for<'a>(
        &'a self,
        token: &'a str,
        _carried: &'a Carried,
    ) -> BoxFuture<'a, Result<Option<Told>, SourceError>> {
        Box::pin(async move {
            let found = self.0.find(token).await?;
            Ok(found.map(|record| Told {
                set_cookie: match record.token.expose() {
                    OWED => vec![
                        HeaderValue::from_static("better-auth.session_token=new; Path=/"),
                        HeaderValue::from_static("better-auth.session_data=newer; Path=/"),
                    ],
                    _ => Vec::new(),
                },
                record,
            }))
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        self.0.ping()
    }
}

struct World {
    kind: &'static Kind,
    proxy: Proxy,
    /// The app behind the proxy.
    app: App,
    /// The gateway's own app, which nobody may ever reach: it is only asked.
    wrong: App,
    store: Arc<Store>,
    gateway: Option<Gateway>,
}

fn peers(networks: &[&str]) -> Option<verify::Settings> {
    let peers = networks.iter().map(|net| net.parse().expect("a network"));
    Some(verify::Settings {
        peers: peers.collect(),
    })
}

/// A gateway that answers the proxies of this machine.
fn asked(setup: &mut Setup) {
    setup.server.forward_auth = peers(&["127.0.0.1/32"]);
    setup.server.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
}

fn people(store: &Store) {
    store.put(record("ann", "ann"));
    store.put(record(OWED, "owen"));
    store.put(record("later", "lena"));
    store.put(Record {
        role: Some("user,admin".into()),
        ..record("root", "rita")
    });
    // What an account may lack.
    store.put(Record {
        email: None,
        name: None,
        role: None,
        ..record("bare", "bob")
    });
    store.put(Record {
        expires_at: UnixMs(NOW.0 - 1),
        ..record("old", "olga")
    });
}

impl World {
    fn behind(kind: &'static Kind) -> Self {
        let app = App::scripted(|seen, stream| {
            if seen.header("upgrade").is_some() {
                use std::io::Write as _;
                let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                let _ = stream.write_all(switched.as_bytes());
            } else {
                let headers = [
                    ("content-type", "text/plain"),
                    ("cache-control", "public, max-age=60"),
                ];
                reply(stream, 200, &headers, b"the app");
            }
        });
        let wrong = App::start();
        let mut setup = Setup::in_front_of(wrong.address);
        asked(&mut setup);
        let store = Arc::new(Store::default());
        people(&store);
        let gateway = setup.start_from(Arc::new(Telling(Arc::clone(&store))));
        let proxy = kind.start(gateway.address, app.address);
        Self {
            kind,
            proxy,
            app,
            wrong,
            store,
            gateway: Some(gateway),
        }
    }

    #[track_caller]
    fn refused(&self, what: &str, send: impl FnOnce(&Proxy) -> Answer) -> Answer {
        let before = self.app.count();
        let answer = send(&self.proxy);
        let name = self.kind.name;
        assert!(
            (300..600).contains(&answer.status),
            "{name}, {what}: answered {}: {}",
            answer.status,
            answer.text()
        );
        assert_eq!(self.app.count(), before, "{name}, {what}: reached the app");
        assert!(!answer.text().contains("the app"), "{name}, {what}");
        self.told_nothing(&answer, what);
        answer
    }

    /// It reaches the app, once, and the app is told that it is `user`, by one line, or nothing of anybody.
    #[track_caller]
    fn passes(
        &self,
        what: &str,
        user: Option<&str>,
        send: impl FnOnce(&Proxy) -> Answer,
    ) -> Answer {
        let name = self.kind.name;
        let before = self.app.count();
        let answer = send(&self.proxy);
        assert!(
            matches!(answer.status, 101 | 200),
            "{name}, {what}: {} {}",
            answer.status,
            answer.text()
        );
        assert_eq!(self.app.count(), before + 1, "{name}, {what}");
        let seen = self.app.last();
        let ours: Vec<_> = seen
            .headers
            .iter()
            .filter(|(name, _)| folded(name).starts_with("x-auth-"))
            .collect();
        match user {
            Some(user) => {
                assert_eq!(seen.all("x-auth-user-id"), [user], "{name}, {what}");
                assert_eq!(seen.all("x-auth-assertion").len(), 1, "{name}, {what}");
                assert_eq!(seen.all("x-auth-method"), ["session"], "{name}, {what}");
                let mut names: Vec<_> = ours.iter().map(|(name, _)| folded(name)).collect();
                names.sort();
                names.dedup();
                assert_eq!(names.len(), ours.len(), "{name}, {what}: {ours:?}");
            }
            None => assert!(ours.is_empty(), "{name}, {what}: {ours:?}"),
        }
        for (_, value) in &seen.headers {
            assert!(
                !value.contains("spoofed"),
                "{name}, {what}: {:?}",
                seen.headers
            );
        }
        self.told_nothing(&answer, what);
        answer
    }

    /// No identity comes back to a client, and nobody went past the proxy.
    #[track_caller]
    fn told_nothing(&self, answer: &Answer, what: &str) {
        let leaked = answer
            .headers
            .iter()
            .find(|(name, _)| folded(name).starts_with("x-auth-"));
        assert!(leaked.is_none(), "{}, {what}: {leaked:?}", self.kind.name);
        assert_eq!(self.wrong.count(), 0, "{}, {what}", self.kind.name);
    }
}

/// A header's name as an app may read it.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .collect()
}

const DOCUMENT: [(&str, &str); 2] = [("Accept", "text/html"), ("Sec-Fetch-Dest", "document")];

fn document<'h>(more: &[(&'h str, &'h str)]) -> Vec<(&'h str, &'h str)> {
    DOCUMENT.iter().chain(more).copied().collect()
}

// --------------------------------------------------------------------------------------------------------------- the table

fn decides_as_the_gateway_does(kind: &'static Kind) {
    let world = World::behind(kind);
    strangers(&world);
    members(&world);
    spoofers(&world);
    odd_spellings(&world);
    upgrades_and_preflights(&world);
    cookies(&world);
    who_am_i(&world);
    outages(world);
}

/// Nobody signed in: each kind of request is refused in its form.
fn strangers(world: &World) {
    let name = world.kind.name;
    let page = world.refused("document", |proxy| {
        proxy.get("/dashboard?tab=a%20b", &document(&[]))
    });
    let sign_in = "/sign-in?callbackURL=%2Fdashboard%3Ftab%3Da%2520b";
    assert_eq!(
        (page.status, page.header("location")),
        (302, Some(sign_in)),
        "{name}"
    );
    assert_eq!(
        page.header("cache-control"),
        Some("private, no-store"),
        "{name}"
    );
    assert_eq!(page.header("set-cookie"), None, "{name}");

    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let posted = world.refused("form", |proxy| {
        proxy.send("POST", "/dashboard", &document(&form), b"a=b")
    });
    assert_eq!(posted.status, 303, "{name}");

    let program = world.refused("program", |proxy| {
        proxy.get("/dashboard", &[("Accept", "*/*")])
    });
    assert_eq!(program.status, 401, "{name}");
    assert_eq!(
        program.header("content-type"),
        Some("application/problem+json"),
        "{name}"
    );
    assert!(
        program.text().contains("\"code\":\"unauthorized\""),
        "{name}"
    );
    assert_eq!(program.header("location"), None, "{name}");

    for sign in [
        ("RSC", "1"),
        ("Next-Router-Prefetch", "1"),
        ("Sec-Purpose", "prefetch"),
    ] {
        let fetched = world.refused(sign.0, |proxy| proxy.get("/dashboard", &document(&[sign])));
        assert_eq!(fetched.status, 401, "{name} {sign:?}");
    }

    let action = world.refused("action", |proxy| {
        let headers = [("Next-Action", "40aa"), ("Accept", "text/x-component")];
        proxy.send("POST", "/dashboard", &headers, b"[]")
    });
    let goes = "/sign-in?callbackURL=%2Fdashboard;push";
    let told = (action.status, action.header("x-action-redirect"));
    assert_eq!(told, (401, Some(goes)), "{name}");
    assert!(
        action
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain")),
        "{name}"
    );

    let head = world.refused("head", |proxy| {
        let bytes = "HEAD /dashboard HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\nConnection: close\r\n\r\n";
        proxy.raw(bytes)
    });
    assert_eq!(
        (head.status, head.header("location").is_some()),
        (302, true),
        "{name}"
    );

    let denied = world.refused("deny", |proxy| proxy.get("/closed/x", &document(&[])));
    assert_eq!(denied.status, 403, "{name}");
    assert!(
        denied
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html")),
        "{name}"
    );

    let elsewhere = world.refused("another host", |proxy| {
        proxy.get("/public/x", &[("Host", "evil.test")])
    });
    assert_eq!(elsewhere.status, 421, "{name}");

    for target in [
        "/",
        "/public/x?y=z",
        "/optional/x",
        "/sign-in",
        "/_next/static/a.js",
    ] {
        let page = world.passes(target, None, |proxy| proxy.get(target, &document(&[])));
        assert_eq!(
            page.header("cache-control"),
            Some("public, max-age=60"),
            "{name} {target}"
        );
        assert!(
            world.app.last().line.starts_with(&format!("GET {target} ")),
            "{name}"
        );
    }
}

/// Somebody signed in, or who says so.
fn members(world: &World) {
    let name = world.kind.name;
    let [ann, root, bare, old] = ["ann", "root", "bare", "old"].map(cookie);
    let as_ann = [("Cookie", ann.as_str())];
    for target in [
        "/dashboard?a=b%20c",
        "/optional/x",
        "/strict/x",
        "/a%20b/caf%C3%A9",
    ] {
        let page = world.passes(target, Some("ann"), |proxy| {
            proxy.get(target, &document(&as_ann))
        });
        assert!(
            world.app.last().line.starts_with(&format!("GET {target} ")),
            "{name}"
        );
        // One address. Envoy tells its own in place of loopback.
        let seen = world.app.last();
        let told = seen.all("x-forwarded-for");
        let is_client = told == ["127.0.0.1"] || world.kind.name == "envoy" && told.len() == 1;
        assert!(is_client, "{name}: {told:?}");
        if world.kind.name != "traefik" && world.kind.name != "envoy" {
            assert_eq!(page.all("cache-control"), ["private, no-store"], "{name}");
        }
    }
    let seen = world.app.last();
    assert_eq!(seen.all("x-auth-user-email"), ["ann@example.com"], "{name}");
    assert_eq!(seen.all("x-auth-role"), ["user"], "{name}");

    // What is public is nobody's, also to those who are somebody.
    world.passes("public", None, |proxy| proxy.get("/public/x", &as_ann));

    // The body is the app's: it is whole.
    let body = vec![b'x'; 200_000];
    for target in ["/dashboard", "/public/x"] {
        let who = (target == "/dashboard").then_some("ann");
        world.passes("body", who, |proxy| {
            proxy.send("POST", target, &as_ann, &body)
        });
        assert_eq!(world.app.last().body.len(), body.len(), "{name}");
    }
    world.refused("body of a stranger", |proxy| {
        proxy.send("POST", "/dashboard", &[], &body)
    });
    let action = [("Cookie", ann.as_str()), ("Next-Action", "40aa")];
    world.passes("action", Some("ann"), |proxy| {
        proxy.send("POST", "/dashboard", &action, b"[]")
    });
    assert_eq!(world.app.last().body, b"[]", "{name}");
    world.passes("put", Some("ann"), |proxy| {
        proxy.send("PUT", "/dashboard", &as_ann, b"x")
    });
    assert!(
        world.app.last().line.starts_with("PUT /dashboard "),
        "{name}"
    );

    let forbidden = world.refused("role", |proxy| proxy.get("/admin/x", &document(&as_ann)));
    assert_eq!(forbidden.status, 403, "{name}");
    let forbidden = world.refused("role, program", |proxy| proxy.get("/admin/x", &as_ann));
    assert_eq!(
        forbidden.header("content-type"),
        Some("application/problem+json"),
        "{name}"
    );
    world.passes("role", Some("rita"), |proxy| {
        proxy.get("/admin/x", &document(&[("Cookie", root.as_str())]))
    });
    let denied = world.refused("deny", |proxy| proxy.get("/closed/x", &document(&as_ann)));
    assert_eq!(denied.status, 403, "{name}");
    let home = world.refused("guest", |proxy| proxy.get("/sign-in", &document(&as_ann)));
    assert_eq!(
        (home.status, home.header("location")),
        (302, Some("/dashboard")),
        "{name}"
    );

    // An account without an e-mail address, and a client who brings one.
    let spoofed = [
        ("Cookie", bare.as_str()),
        ("X-Auth-User-Email", "spoofed@example.com"),
        ("X-Auth-Org-Id", "spoofed"),
    ];
    world.passes("bare", Some("bob"), |proxy| {
        proxy.get("/dashboard", &spoofed)
    });

    // A cookie that is not the app's clears nothing; one that has ended is cleared, where a person looks.
    let forged = ann.replace('.', "x.");
    let forged = world.refused("forged", |proxy| {
        proxy.get("/dashboard", &document(&[("Cookie", &forged)]))
    });
    assert_eq!(
        (forged.status, forged.header("set-cookie")),
        (302, None),
        "{name}"
    );
    let ended = world.refused("expired", |proxy| {
        proxy.get("/strict/x", &document(&[("Cookie", &old)]))
    });
    assert_eq!(ended.status, 302, "{name}");
    let cleared = ended.header("set-cookie").unwrap_or_default();
    assert!(
        cleared.starts_with("better-auth.session_token=;") && cleared.contains("Max-Age=0"),
        "{name}: {cleared}"
    );
}

/// Clients who write what only the proxy or the gateway may write.
fn spoofers(world: &World) {
    let name = world.kind.name;
    let ann = cookie("ann");
    let lies: [&[(&str, &str)]; 5] = [
        &[
            ("X-Forwarded-Uri", "/public/x"),
            ("X-Forwarded-Method", "GET"),
        ],
        &[
            ("X-Original-URL", "http://app.test/public/x"),
            ("X-Original-Method", "OPTIONS"),
        ],
        &[
            ("X-Forwarded-Host", "app.test"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Uri", "/"),
        ],
        &[
            ("X-Rewrite-URL", "/public/x"),
            ("X-Forwarded-Prefix", "/public"),
        ],
        &[
            ("X_Forwarded_Uri", "/public/x"),
            ("X-Forwarded-For", "10.1.2.3"),
        ],
    ];
    for lie in lies {
        let answer = world.refused("another path", |proxy| {
            proxy.get("/dashboard", &document(lie))
        });
        let goes = Some("/sign-in?callbackURL=%2Fdashboard");
        assert_eq!(
            (answer.status, answer.header("location")),
            (302, goes),
            "{name} {lie:?}"
        );
        let mut mine = lie.to_vec();
        mine.push(("Cookie", ann.as_str()));
        world.passes("another path, signed in", Some("ann"), |proxy| {
            proxy.get("/dashboard", &document(&mine))
        });
    }
    let host = [("X-Forwarded-Host", "app.test"), ("Host", "evil.test")];
    world.refused("another host", |proxy| proxy.get("/public/x", &host));
    // Both of two answers to one question.
    world.refused("doubled", |proxy| {
        let twice = [
            ("X-Forwarded-Uri", "/public/x"),
            ("X-Forwarded-Uri", "/public/x"),
        ];
        proxy.get("/dashboard", &twice)
    });

    for spelling in [
        "X-Auth-User-Id",
        "x-auth-user-id",
        "X_Auth_User_Id",
        "X-Auth_User-Id",
        "x.auth.user.id",
        "X-Auth-Role",
        "X-Auth-Assertion",
    ] {
        let lie = [(spelling, "spoofed"), (spelling, "spoofed")];
        for target in ["/public/x", "/optional/x"] {
            // Some refuse such names outright, which is as good.
            let before = world.app.count();
            let answer = world.proxy.get(target, &lie);
            if world.app.count() == before {
                assert!((400..500).contains(&answer.status), "{name} {spelling}");
                continue;
            }
            world.passes(spelling, None, |proxy| proxy.get(target, &lie));
        }
        world.refused(spelling, |proxy| proxy.get("/dashboard", &lie));
        let mut mine = lie.to_vec();
        mine.push(("Cookie", ann.as_str()));
        let before = world.app.count();
        let answer = world.proxy.get("/dashboard", &mine);
        if world.app.count() == before {
            assert!((400..500).contains(&answer.status), "{name} {spelling}");
        } else {
            world.passes(spelling, Some("ann"), |proxy| {
                proxy.get("/dashboard", &mine)
            });
        }
    }

    // Who has the identity removed on the way to the app is not let in without it.
    for nominated in [
        "close, X-Auth-User-Id",
        "close, x-auth-assertion",
        "close,X-AUTH-ROLE,x-auth-user-id",
    ] {
        let before = world.app.count();
        let mine = [("Connection", nominated), ("Cookie", ann.as_str())];
        let answer = world.proxy.get("/dashboard", &mine);
        if world.app.count() > before {
            assert_eq!(answer.status, 200, "{name}");
            let seen = world.app.last();
            assert_eq!(seen.all("x-auth-user-id"), ["ann"], "{name} {nominated}");
            assert_eq!(seen.all("x-auth-assertion").len(), 1, "{name} {nominated}");
            assert_eq!(seen.all("x-auth-role"), ["user"], "{name} {nominated}");
        } else {
            assert!((400..600).contains(&answer.status), "{name} {nominated}");
        }
    }
}

/// Paths that two servers might read differently: whoever is nobody gets nowhere with them.
fn odd_spellings(world: &World) {
    for target in [
        "/public/../dashboard",
        "/public/%2e%2e/dashboard",
        "/public/%2E%2E%2Fdashboard",
        "/public/..%2fdashboard",
        "/public/.%2e/dashboard",
        "/public/..;/dashboard",
        "/public/..;x=1/dashboard",
        "/public/%252e%252e/dashboard",
        "/public/..%5cdashboard",
        "/public/..\\dashboard",
        "/public\\..\\dashboard",
        "//dashboard",
        "/dashboard//",
        "///dashboard",
        "/./dashboard",
        "/%2e/dashboard",
        "/dashboard;x",
        "/dashboard%3bx",
        "/dashboard;/public/x",
        "/dashboard.rsc",
        "/dashboard.json",
        "/dashboard/",
        "/%64ashboard",
        "/dashboard%2f",
        "/dashboard%00",
        "/public/%00/../../dashboard",
        "/dashboard?x=/public/x",
        "/dashboard#/public/x",
        "/public#/../dashboard",
        "/public%23/../dashboard",
        "/_next/data/build/dashboard.json",
        "/_next/image?url=%2Fdashboard&w=64&q=75",
        "/_next/static/../../dashboard",
        "/_next/static/%2e%2e/%2e%2e/dashboard",
        "/public/x?nxtPslug=dashboard",
        "/dashboard?nxtPslug=public",
        "http://evil.test/public/x",
        "http://app.test/dashboard",
        "/_vestibule/verify/envoy/public/x",
        "/_vestibule/verify/nginx",
        "/_vestibule/ask",
        "/_vestibule/../dashboard",
        "/_vestibule/userinfo/../../dashboard",
        "/_vestibule/userinfo/%2e%2e/%2e%2e/dashboard",
        "/DASHBOARD",
        "/dashboard%",
        "/dashboard%zz",
        "/dashboard%c0%ae",
    ] {
        world.refused(target, |proxy| {
            proxy.get(target, &[("Accept", "text/html")])
        });
    }
    for method in ["get", "FOO", "TRACE", "DELETE", "PROPFIND", "OPTIONS"] {
        world.refused(method, |proxy| proxy.send(method, "/dashboard", &[], b""));
    }
}

fn upgrades_and_preflights(world: &World) {
    let name = world.kind.name;
    let ann = cookie("ann");
    let handshake = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Origin", "http://app.test"),
    ];
    let refused = world.refused("websocket", |proxy| proxy.get("/socket", &handshake));
    assert_eq!(refused.status, 401, "{name}");
    let mut mine = handshake.to_vec();
    mine.push(("Cookie", ann.as_str()));
    let opened = world.passes("websocket", Some("ann"), |proxy| {
        proxy.get("/socket", &mine)
    });
    assert_eq!(opened.status, 101, "{name}");

    // Some apps upgrade whatever the method, so what looks like a preflight is no way in.
    let preflight = [
        ("Origin", "http://spa.test"),
        ("Access-Control-Request-Method", "POST"),
    ];
    world.refused("preflight", |proxy| {
        proxy.send("OPTIONS", "/dashboard", &preflight, b"")
    });
    world.refused("preflight with a body", |proxy| {
        proxy.send("OPTIONS", "/dashboard", &preflight, b"x")
    });
    let mut both = handshake.to_vec();
    both.push(preflight[1]);
    world.refused("preflight that upgrades", |proxy| {
        proxy.send("OPTIONS", "/socket", &both, b"")
    });
    world.passes("preflight of what is public", None, |proxy| {
        proxy.send("OPTIONS", "/public/x", &preflight, b"")
    });
}

/// What the browser is owed comes to it, with what it asked for.
fn cookies(world: &World) {
    let name = world.kind.name;
    let owed = cookie(OWED);
    let mine = [("Cookie", owed.as_str())];
    // The answer to a post may be a sign-out: what is owed waits.
    let page = world.passes("owed, at a post", Some("owen"), |proxy| {
        proxy.send("POST", "/dashboard", &mine, b"x")
    });
    assert!(page.all("set-cookie").is_empty(), "{name}");
    let page = world.passes("owed", Some("owen"), |proxy| proxy.get("/dashboard", &mine));
    let lines = page.all("set-cookie");
    let token = lines
        .iter()
        .filter(|line| line.starts_with("better-auth.session_token=new;"));
    let data = lines
        .iter()
        .filter(|line| line.starts_with("better-auth.session_data=newer;"));
    assert_eq!(
        (token.count(), data.count(), lines.len()),
        (1, 1, 2),
        "{name}: {lines:?}"
    );
    let page = world.passes("owed no more", Some("owen"), |proxy| {
        proxy.get("/dashboard", &mine)
    });
    assert!(page.all("set-cookie").is_empty(), "{name}");
}

fn who_am_i(world: &World) {
    let name = world.kind.name;
    let before = world.app.count();
    let nobody = world.proxy.get("/_vestibule/userinfo", &[]);
    assert_eq!(nobody.status, 401, "{name}");
    let ann = cookie("ann");
    let told = world.proxy.get("/_vestibule/userinfo", &[("Cookie", &ann)]);
    assert_eq!(told.status, 200, "{name}");
    assert!(
        told.text().contains("\"id\":\"ann\""),
        "{name}: {}",
        told.text()
    );
    assert_eq!(
        told.header("cache-control"),
        Some("private, no-store"),
        "{name}"
    );
    assert_eq!(world.app.count(), before, "{name}");
}

fn outages(mut world: World) {
    let name = world.kind.name;
    world.store.fail(true);
    let later = cookie("later");
    let mine = [("Cookie", later.as_str())];
    let page = world.refused("store down", |proxy| {
        proxy.get("/dashboard", &document(&mine))
    });
    assert_eq!(page.status, 503, "{name}");
    assert!(page.header("retry-after").is_some(), "{name}");
    assert_eq!(page.header("set-cookie"), None, "{name}");
    let told = world.refused("store down, program", |proxy| proxy.get("/strict/x", &mine));
    assert_eq!(told.status, 503, "{name}");
    // Envoy makes its own answer of every 5xx.
    if world.kind.name != "envoy" {
        let form = told.header("content-type");
        assert_eq!(form, Some("application/problem+json"), "{name}");
    }
    world.passes("public, store down", None, |proxy| {
        proxy.get("/public/x", &mine)
    });
    world.store.fail(false);
    world.passes("store back", Some("lena"), |proxy| {
        proxy.get("/dashboard", &mine)
    });

    // Without the gateway nobody gets in, not even where everybody may.
    drop(world.gateway.take());
    for target in ["/dashboard", "/public/x"] {
        let answer = world.refused("no gateway", |proxy| proxy.get(target, &mine));
        assert!(answer.status >= 500, "{name}: {}", answer.status);
    }
}

#[test]
fn nginx_lets_in_whom_the_gateway_would() {
    decides_as_the_gateway_does(&NGINX);
}

#[test]
fn haproxy_lets_in_whom_the_gateway_would() {
    decides_as_the_gateway_does(&HAPROXY);
}

#[test]
fn caddy_lets_in_whom_the_gateway_would() {
    decides_as_the_gateway_does(&CADDY);
}

#[test]
fn traefik_lets_in_whom_the_gateway_would() {
    decides_as_the_gateway_does(&TRAEFIK);
}

#[test]
fn envoy_lets_in_whom_the_gateway_would() {
    decides_as_the_gateway_does(&ENVOY);
}

// ------------------------------------------------------------------------------------------------- questions nobody would ask

const KINDS: [&str; 6] = [
    "nginx",
    "nginx/refusal",
    "traefik",
    "caddy",
    "haproxy",
    "envoy",
];

/// A question about a request, as the proxy of this kind puts it.
fn question(kind: &str, method: &str, host: &str, target: &str, more: &[(&str, &str)]) -> String {
    let mut head = match kind {
        "envoy" => {
            format!("{method} /_vestibule/verify/envoy{target} HTTP/1.1\r\nHost: {host}\r\n")
        }
        _ => format!("GET /_vestibule/verify/{kind} HTTP/1.1\r\nHost: vestibule.internal:8080\r\n"),
    };
    match kind {
        "envoy" => {}
        "nginx" | "nginx/refusal" => head.push_str(&format!(
            "X-Original-Method: {method}\r\nX-Original-URL: https://{host}{target}\r\n"
        )),
        _ => head.push_str(&format!(
            "X-Forwarded-Method: {method}\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-Uri: {target}\r\n"
        )),
    }
    for (name, value) in more {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}

fn gateway_that_is_asked(app: &App) -> Gateway {
    let mut setup = Setup::in_front_of(app.address);
    asked(&mut setup);
    let gateway = setup.start();
    people(&gateway.store);
    gateway
}

/// T26: the default trusts nobody, and whoever is not named learns nothing and costs nothing.
#[test]
fn nobody_who_is_not_named_may_ask() {
    let app = App::start();
    let mut other = Setup::in_front_of(app.address);
    // Trusting a load balancer's word on addresses lets it ask nothing.
    other.server.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
    let mut strangers = Setup::in_front_of(app.address);
    strangers.server.forward_auth = peers(&["10.0.0.0/8", "::1/128"]);
    let ann = cookie("ann");
    for gateway in [
        Setup::in_front_of(app.address).start(),
        other.start(),
        strangers.start(),
    ] {
        people(&gateway.store);
        for kind in KINDS {
            for target in ["/public/x", "/dashboard"] {
                let asked = question(kind, "GET", "app.test", target, &[("Cookie", &ann)]);
                let answer =
                    gateway.raw(asked.replace("Host: vestibule.internal:8080", "Host: app.test"));
                assert_eq!(answer.status, 404, "{kind} {target}");
                assert!(answer.all("x-auth-user-id").is_empty(), "{kind}");
            }
        }
        assert_eq!((gateway.store.asked(), app.count()), (0, 0));
    }
    // The twin: one that is named.
    let gateway = gateway_that_is_asked(&app);
    for kind in KINDS {
        let asked = question(kind, "GET", "app.test", "/dashboard", &[("Cookie", &ann)]);
        let answer = gateway.raw(asked);
        let (status, user) = match kind {
            "nginx/refusal" => (503, None),
            _ => (200, Some("ann")),
        };
        assert_eq!(
            (answer.status, answer.header("x-auth-user-id")),
            (status, user),
            "{kind}"
        );
        assert_eq!(
            answer.header("cache-control"),
            Some("private, no-store"),
            "{kind}"
        );
        assert!(answer.body.is_empty() || status == 503, "{kind}");
    }
    assert_eq!(app.count(), 0, "a question is never forwarded");
}

#[test]
fn what_a_proxy_leaves_unclear_is_refused() {
    let app = App::start();
    let gateway = gateway_that_is_asked(&app);
    let ann = cookie("ann");
    let mine = [("Cookie", ann.as_str())];
    let refuses = |what: &str, kind: &str, text: &str| {
        let answer = gateway.raw(text);
        let expected = if kind == "nginx" { 403 } else { 400 };
        assert_eq!(answer.status, expected, "{kind}: {what}");
        assert!(answer.all("x-auth-user-id").is_empty(), "{kind}: {what}");
    };
    for kind in KINDS {
        let whole = question(kind, "GET", "app.test", "/public/x", &mine);
        let lines: Vec<&str> = whole.split("\r\n").collect();
        // Each fact missing, doubled, empty.
        for (at, line) in lines.iter().enumerate() {
            let Some((name, value)) = line.split_once(": ") else {
                continue;
            };
            if !name.starts_with("X-") {
                continue;
            }
            let with = |line: &str| {
                let mut lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
                lines[at] = line.to_owned();
                lines.retain(|line| line != "gone");
                lines.join("\r\n") + "\r\n"
            };
            let end = |text: String| text.trim_end().to_owned() + "\r\n\r\n";
            refuses("missing", kind, &end(with("gone")));
            refuses("doubled", kind, &end(with(&format!("{line}\r\n{line}"))));
            refuses(
                "doubled, otherwise",
                kind,
                &end(with(&format!("{line}\r\n{name}: {value}x"))),
            );
            refuses("empty", kind, &end(with(&format!("{name}:"))));
        }
        for (what, method, host, target) in [
            ("method", "GE T", "app.test", "/public/x"),
            ("host", "GET", "app.test@evil.test", "/public/x"),
            ("hosts", "GET", "app.test, evil.test", "/public/x"),
            ("path", "GET", "app.test", "/public/../dashboard"),
            ("slashes", "GET", "app.test", "//public/x"),
            ("query", "GET", "app.test", "/public/x?nxtPa=b"),
            ("fragment", "GET", "app.test", "/public/x#y"),
            ("control", "GET", "app.test", "/public/x%00"),
        ] {
            if kind == "envoy"
                && what != "path"
                && what != "slashes"
                && what != "query"
                && what != "control"
            {
                // There they are the question's own, and read before it is one.
                continue;
            }
            refuses(what, kind, &question(kind, method, host, target, &mine));
        }
        let elsewhere = gateway.raw(question(kind, "GET", "evil.test", "/public/x", &mine));
        let expected = if kind == "nginx" { 403 } else { 421 };
        assert_eq!(elsewhere.status, expected, "{kind}");
        let fine = gateway.raw(question(kind, "GET", "APP.test:8443", "/public/x", &mine));
        let expected = if kind == "nginx/refusal" { 503 } else { 200 };
        assert_eq!(fine.status, expected, "{kind}");
    }
    assert_eq!(gateway.store.asked(), 0, "none of these asks who it is");
    for path in [
        "/_vestibule/verify/",
        "/_vestibule/verify/apache",
        "/_vestibule/verify/nginx/",
        "/_vestibule/verify/envoy",
        "/_vestibule/verify/%6eginx",
    ] {
        let head = question("traefik", "GET", "app.test", "/public/x", &mine);
        let answer = gateway.raw(head.replace("/_vestibule/verify/traefik ", &format!("{path} ")));
        assert_eq!(answer.status, 404, "{path}");
    }
    assert_eq!(app.count(), 0);
}

/// The verdict is that of the original request, whatever the question itself looks like.
#[test]
fn the_question_itself_decides_nothing() {
    let app = App::start();
    let gateway = gateway_that_is_asked(&app);
    let [ann, root] = ["ann", "root"].map(cookie);
    for kind in KINDS.iter().filter(|kind| **kind != "nginx/refusal") {
        let status = |method: &str, target: &str, who: &str| {
            gateway
                .raw(question(
                    kind,
                    method,
                    "app.test",
                    target,
                    &[("Cookie", who)],
                ))
                .status
        };
        assert_eq!(status("GET", "/public/x", "a=b"), 200, "{kind}");
        assert_eq!(status("GET", "/dashboard", "a=b"), 401, "{kind}");
        assert_eq!(status("GET", "/dashboard", &ann), 200, "{kind}");
        assert_eq!(status("POST", "/dashboard", &ann), 200, "{kind}");
        assert_eq!(status("GET", "/admin/x", &ann), 403, "{kind}");
        assert_eq!(status("GET", "/admin/x", &root), 200, "{kind}");
        assert_eq!(status("GET", "/closed/x", &root), 403, "{kind}");
        // Also what is asked about our own paths has a rule.
        assert_eq!(
            status("GET", "/_vestibule/verify/nginx", "a=b"),
            401,
            "{kind}"
        );
    }
    // A redirect, as nginx can use it, and as the others pass it on.
    for (kind, status) in [
        ("nginx", 401),
        ("nginx/refusal", 302),
        ("caddy", 302),
        ("envoy", 302),
    ] {
        let page = gateway.raw(question(
            kind,
            "GET",
            "app.test",
            "/a",
            &[("Accept", "text/html")],
        ));
        let goes = Some("/sign-in?callbackURL=%2Fa");
        assert_eq!(
            (page.status, page.header("location")),
            (status, goes),
            "{kind}"
        );
    }
    // A question may come by any method, and its body is nobody's business.
    let told = question(
        "caddy",
        "GET",
        "app.test",
        "/dashboard",
        &[("Cookie", &ann)],
    );
    let posted = told
        .replace("GET /_v", "POST /_v")
        .replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(gateway.raw(posted).status, 200);
    // Two framings are one too many.
    let smuggled = told.replace(
        "\r\n\r\n",
        "\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    assert_eq!(gateway.raw(smuggled).status, 400);
    assert_eq!(app.count(), 0);
}

/// Attempts are counted by the client's address, as elsewhere: one who guesses uses up nobody else's tries, and cannot choose.
#[test]
fn guesses_are_counted_by_the_address_a_trusted_proxy_tells() {
    let app = App::start();
    let mut setup = Setup::in_front_of(app.address);
    asked(&mut setup);
    setup.authenticator.enabled.insert("bearer".into());
    setup.authenticator.guesses = limit::Settings { per_minute: 50 };
    let gateway = setup.start();
    people(&gateway.store);
    let ask = |client: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let more = [
            ("Authorization", bearer.as_str()),
            ("X-Forwarded-For", client),
        ];
        gateway.raw(question("traefik", "GET", "app.test", "/dashboard", &more))
    };
    let statuses: Vec<u16> = (0..30)
        // What the client itself wrote stands to the left, and does not count.
        .map(|guess| {
            ask(
                &format!("198.51.100.{guess}, 192.0.2.1"),
                &format!("guess-{guess}"),
            )
            .status
        })
        .collect();
    assert_eq!(
        statuses.iter().filter(|status| **status == 401).count(),
        10,
        "{statuses:?}"
    );
    assert_eq!(
        statuses.iter().filter(|status| **status == 429).count(),
        20,
        "{statuses:?}"
    );
    assert_eq!(ask("192.0.2.2", "a-guess").status, 401);
    let ann = ask("192.0.2.2", "ann");
    assert_eq!(
        (ann.status, ann.header("x-auth-method")),
        (200, Some("bearer"))
    );
}

/// Sessions that are due are extended for those who come by another proxy too, and their browsers hear of it.
#[test]
fn whoever_uses_the_app_every_day_stays_signed_in_behind_another_proxy() {
    let app = App::start();
    let extend = Arc::new(Extending::default());
    let mut setup = Setup::in_front_of(app.address);
    asked(&mut setup);
    setup.sliding = Some(slide::Settings {
        rules: Rules {
            expires_in: Duration::from_secs(7 * 86_400),
            update_age: Duration::from_secs(86_400),
        },
        by: slide::By::Store(Arc::clone(&extend) as _),
    });
    let gateway = setup.start();
    gateway.store.put(Record {
        expires_at: UnixMs(NOW.0 + 86_400_000),
        ..record("due", "dora")
    });
    let due = cookie("due");
    let ask = || {
        let more = [("Cookie", due.as_str())];
        gateway.raw(question("caddy", "GET", "app.test", "/dashboard", &more))
    };
    assert_eq!(ask().status, 200);
    await_until("the session to be extended", || {
        extend.0.load(Ordering::SeqCst) == 1
    });
    let mut told = Vec::new();
    let began = Instant::now();
    while told.is_empty() {
        assert!(began.elapsed() < PATIENCE, "nobody told the browser");
        let answer = ask();
        assert_eq!(answer.status, 200);
        told = answer
            .all("set-cookie")
            .iter()
            .map(|&line| line.to_owned())
            .collect();
        if !told.is_empty() {
            assert_eq!(answer.all("x-set-cookie-1"), [told[0].as_str()]);
        }
    }
    assert!(told[0].starts_with(&due), "{told:?}");
    assert_eq!(extend.0.load(Ordering::SeqCst), 1);
}

/// Extends every session once it is asked to.
#[derive(Default)]
struct Extending(AtomicUsize);

impl Extend for Extending {
    fn extend<'a>(
        &'a self,
        _token: &'a str,
        _expires_at: UnixMs,
        _until: UnixMs,
        _now: UnixMs,
    ) -> BoxFuture<'a, Result<bool, SourceError>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(true) })
    }
}

#[test]
fn a_page_may_ask_who_is_signed_in_and_only_a_page_of_its_own_origin() {
    let app = App::start();
    let gateway = gateway_that_is_asked(&app);
    let path = "/_vestibule/userinfo";
    let ann = cookie("ann");
    let told = gateway.get(path, &[("Cookie", &ann)]);
    assert_eq!(told.status, 200);
    let said: serde_json::Value = serde_json::from_slice(&told.body).expect("json");
    assert_eq!(said["user"]["id"], "ann");
    assert_eq!(said["user"]["email"], "ann@example.com");
    assert_eq!(said["session"]["id"], "session-ann");
    assert_eq!(said["method"], "session");
    let token = cookie("ann");
    let token = token.split_once('=').expect("a cookie").1;
    for secret in [token, SECRET] {
        assert!(!told.text().contains(secret));
    }
    assert_eq!(told.header("cache-control"), Some("private, no-store"));

    assert_eq!(gateway.get(path, &[]).status, 401);
    assert_eq!(
        gateway
            .get(path, &[("Cookie", "better-auth.session_token=x.y")])
            .status,
        401
    );
    assert_eq!(
        gateway.send("POST", path, &[("Cookie", &ann)], b"x").status,
        405
    );
    for (name, value, status) in [
        ("Origin", "http://app.test", 200),
        ("Origin", "http://evil.test", 403),
        ("Origin", "null", 403),
        ("Sec-Fetch-Site", "same-origin", 200),
        ("Sec-Fetch-Site", "none", 200),
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Sec-Fetch-Site", "same-site", 403),
    ] {
        let answer = gateway.get(path, &[("Cookie", &ann), (name, value)]);
        assert_eq!(answer.status, status, "{name}: {value}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    gateway.store.fail(true);
    let later = cookie("later");
    let told = gateway.get(path, &[("Cookie", &later)]);
    assert_eq!(
        (told.status, told.header("retry-after").is_some()),
        (503, true)
    );
    assert_eq!(app.count(), 0);
}
