//! Live sessions of old systems, minted with the vendors' own kits, at a gateway in front of a real Better Auth.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::differential::gateway::Gateway;
use crate::differential::server::{Browser, PASSWORD, Server};
use crate::support::databases::{Dialect, Folder, shared};
use crate::support::redis::Redis;
use crate::support::{Answer, SECRET, connect, exchange_on};

const AUTHJS_SECRET: &str = "the old app's secret, thirty-two letters or more";
const IRON_PASSWORD: &str = "a password of the old app's seals, long enough";
const WORKOS_PASSWORD: &str = "a password for the cookies of the old workos app";

/// A minute ago, an hour ago and so on, in seconds.
fn seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.expect("after 1970").as_secs()).expect("before the far future")
}

/// What the old systems' own kits make of these jobs.
fn mint(jobs: &[Value]) -> Vec<Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/migration");
    let modules = std::env::var_os("MINT_MODULES").map_or_else(|| folder.clone(), PathBuf::from);
    assert!(
        modules.join("node_modules/iron-session").is_dir(),
        "this test needs the kits of the old systems: run `npm ci` in tests/migration"
    );
    let mut child = Command::new("node")
        .arg(folder.join("mint.mjs"))
        .env("MINT_MODULES", &modules)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node is installed");
    let mut input = child.stdin.take().expect("its input");
    let text = Value::from(jobs.to_vec()).to_string();
    input.write_all(text.as_bytes()).expect("it reads its jobs");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "the kits could not mint");
    serde_json::from_slice(&output.stdout).expect("minted sessions")
}

/// The `Cookie` header that a minted session makes.
fn cookies(minted: &Value) -> String {
    let cookies = minted["cookies"].as_object().expect("cookies");
    let pairs: Vec<String> = cookies
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_str().expect("a text")))
        .collect();
    pairs.join("; ")
}

/// Where the app keeps its sessions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    Sqlite,
    Postgres,
    /// In Redis alone, or in the database too.
    Redis {
        and_database: bool,
    },
    /// In the browser.
    Nowhere,
}

struct World {
    server: Server,
    /// A Better Auth that has a database, where the app has none.
    beside: Option<Server>,
    gateway: Gateway,
    _redis: Option<Redis>,
    store: Store,
    _folder: Folder,
}

/// The old systems that every test of the rules knows.
fn usual() -> String {
    format!(
        r#"
        [migration.from.authjs]
        secret = "{AUTHJS_SECRET}"
        [migration.from.iron_session]
        cookie_name = "app_session"
        cookie_password = "{IRON_PASSWORD}"
        user_id_path = "user.id"
        "#
    )
}

impl World {
    fn start(store: Store, from: &str) -> Self {
        Self::start_with(store, from, "")
    }

    /// `bridge`: lines of `[migration.bridge]`, or one of `[migration]`.
    fn start_with(store: Store, from: &str, bridge: &str) -> Self {
        let folder = Folder::new("bridge");
        let file = folder.join("app.db").display().to_string();
        let redis = matches!(store, Store::Redis { .. }).then(Redis::start);
        let plugins = json!({ "admin": {}, "twoFactor": {} });
        let options = |session: Value| json!({ "baseURL": "http://app.test", "secret": SECRET, "session": session });
        let mut app = json!({ "options": options(json!({})), "plugins": plugins });
        let mut more = String::new();
        let mut beside = None;
        let (source, database) = match store {
            Store::Sqlite => {
                app["sqlite"] = file.clone().into();
                (format!("sqlite:{file}"), None)
            }
            Store::Postgres => {
                let server = shared(Dialect::Postgres);
                let url = server.url(&server.database());
                app["postgres"] = url.clone().into();
                (url, None)
            }
            Store::Redis { and_database } => {
                let url = redis.as_ref().expect("a Redis").url(0);
                app["sqlite"] = file.clone().into();
                app["redis"] = url.clone().into();
                app["options"] = options(json!({ "storeSessionInDatabase": and_database }));
                more = format!("database = \"sqlite:{file}\"\nstore_in_database = {and_database}");
                (url, None)
            }
            Store::Nowhere => {
                let mut other = app.clone();
                other["sqlite"] = file.clone().into();
                beside = Some(Server::start(&other));
                ("cookie:".to_owned(), Some(format!("sqlite:{file}")))
            }
        };
        let server = Server::start(&app);
        let database = database.map_or_else(String::new, |url| format!("database = \"{url}\""));
        let is_above = bridge.starts_with("shadow") || bridge.starts_with("disable");
        let (above, bridge) = if is_above { (bridge, "") } else { ("", bridge) };
        let text = format!(
            r#"
            admin = "off"
            public_url = "http://app.test"
            threads = 2
            trusted_proxies = ["127.0.0.1"]
            [upstream]
            url = "http://{}"
            [better_auth]
            base_url = "http://app.test"
            secret = "{SECRET}"
            [sessions]
            source = "{source}"
            timeout = "10s"
            {more}
            [routes]
            default = "signed-in"
            [[route]]
            path = "/public/:path*"
            rule = "public"
            [log]
            access = false
            [migration]
            key = "a key of the tests, forty-two letters long"
            {database}
            {above}
            [migration.bridge]
            {bridge}
            {from}
            "#,
            server.address
        );
        let gateway = Gateway::start(&text, &folder.join("vestibule.toml"));
        Self {
            server,
            beside,
            gateway,
            _redis: redis,
            store,
            _folder: folder,
        }
    }

    /// Whoever has the database.
    fn with_database(&self) -> &Server {
        self.beside.as_ref().unwrap_or(&self.server)
    }

    fn sql(&self, statement: &str) -> Value {
        self.with_database().sql(statement)
    }

    /// Signs a user up, who came from the old systems under these ids.
    fn user(&self, name: &str, sources: &[(&str, &str)]) -> String {
        Browser::sign_up(self.with_database().address, name);
        let rows = self.sql(&format!(
            "SELECT id FROM \"user\" WHERE email = '{name}@example.com'"
        ));
        let id = rows[0]["id"].as_str().expect("an id").to_owned();
        let table = match self.store {
            Store::Postgres => "vestibule.legacy_identity",
            _ => "vestibule_legacy_identity",
        };
        for (provider, source) in sources {
            self.sql(&format!(
                "INSERT INTO {table} (provider, source_user_id, user_id, state, imported_at, moved_at) \
                 VALUES ('{provider}', '{source}', '{id}', 'imported', {at}, {at})",
                // The sign-up wrote a password: that was the import, and nothing since has changed it.
                at = (seconds() + 1) * 1000
            ));
        }
        id
    }

    /// How many sessions a user has, as far as rows say.
    fn rows(&self, user_id: &str) -> i64 {
        let rows = self.sql(&format!(
            "SELECT count(*) AS n FROM session WHERE \"userId\" = '{user_id}'"
        ));
        let n = &rows[0]["n"];
        n.as_i64()
            .or_else(|| n.as_str()?.parse().ok())
            .expect("a number")
    }

    /// A page, as a browser asks for it.
    fn page(&self, target: &str, cookie: &str) -> Answer {
        self.ask("GET", target, cookie, &[], "")
    }

    fn ask(
        &self,
        method: &str,
        target: &str,
        cookie: &str,
        more: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        ask(self.gateway.address, method, target, cookie, more, body)
    }
}

const NAVIGATES: [(&str, &str); 4] = [
    ("accept", "text/html"),
    ("sec-fetch-site", "none"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
];

/// A request of a browser. What `more` says takes the place of what it would say by itself.
fn ask(
    at: SocketAddr,
    method: &str,
    target: &str,
    cookie: &str,
    more: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut head =
        format!("{method} {target} HTTP/1.1\r\nhost: app.test\r\nuser-agent: test browser\r\n");
    let own = NAVIGATES
        .iter()
        .filter(|(name, _)| !more.iter().any(|(said, _)| said == name));
    for (name, value) in own
        .chain(more.iter())
        .filter(|(_, value)| !value.is_empty())
    {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !cookie.is_empty() {
        head.push_str(&format!("cookie: {cookie}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    exchange_on(&mut connect(at), format!("{head}\r\n{body}").as_bytes())
}

/// Whom the app's own `auth.api.getSession` found in this very request.
fn found(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{} {:?}", answer.text(), answer.headers);
    let said: Value = serde_json::from_slice(&answer.body).expect("JSON");
    said["found"].clone()
}

/// The new session cookie an answer hands out, as the next request brings it.
fn handed_out(answer: &Answer) -> String {
    let mut browser = Browser::default();
    browser.remember(answer);
    browser.header()
}

fn arrives(world: &World, cookie: &str, email: &str) -> String {
    let answer = world.page("/whoami", cookie);
    let session = found(&answer);
    assert_eq!(session["user"]["email"], email, "{session}");
    let ours = handed_out(&answer);
    assert!(ours.contains("better-auth.session_token="), "{ours}");
    // From now on by itself, without anything of the old system.
    let again = found(&world.page("/whoami", &ours));
    assert_eq!(again["session"]["token"], session["session"]["token"]);
    ours
}

/// Sent to sign in, and given nothing.
fn stays_out(world: &World, cookie: &str, why: &str) {
    let answer = world.page("/whoami", cookie);
    assert_eq!(answer.status, 302, "{why}: {}", answer.text());
    assert!(!handed_out(&answer).contains("session_token"), "{why}");
}

fn iron(user: &str) -> Value {
    json!({
        "sdk": "iron", "password": IRON_PASSWORD, "cookie": "app_session",
        "data": { "user": { "id": user }, "salt": user },
    })
}

fn authjs(user: &str) -> Value {
    json!({
        "sdk": "authjs", "secret": AUTHJS_SECRET, "cookie": "authjs.session-token",
        "token": { "sub": user, "iat": seconds() - 7200, "jti": format!("jti of {user}") }, "maxAge": 86_400,
    })
}

#[test]
fn an_old_session_is_signed_in_on_the_first_page_wherever_sessions_are_kept() {
    for store in [
        Store::Sqlite,
        Store::Postgres,
        Store::Redis {
            and_database: false,
        },
        Store::Redis { and_database: true },
        Store::Nowhere,
    ] {
        let world = World::start(store, &usual());
        let ada = world.user("ada", &[("authjs", "old-ada"), ("iron_session", "41")]);
        let minted = mint(&[authjs("old-ada"), iron("41"), authjs("old-bob")]);
        let old = cookies(&minted[0]);
        let answer = world.page("/whoami", &format!("theme=dark; {old}"));
        let session = found(&answer);
        assert_eq!(session["user"]["id"], ada.as_str());
        assert_eq!(session["session"]["userAgent"], "test browser");
        assert_eq!(session["session"]["ipAddress"], "127.0.0.1");
        let said: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let brought = said["cookies"].as_str().expect("cookies");
        assert!(brought.contains("theme=dark") && brought.contains("authjs.session-token="));
        assert!(
            answer
                .header("cache-control")
                .expect("private")
                .contains("private")
        );
        arrives(&world, &cookies(&minted[1]), "ada@example.com");
        stays_out(&world, &cookies(&minted[2]), "nobody here");
        let rows = match store {
            // One of the sign-up, and one of each old session.
            Store::Sqlite | Store::Postgres | Store::Redis { and_database: true } => 3,
            Store::Redis { .. } => continue,
            Store::Nowhere => 1,
        };
        assert_eq!(world.rows(&ada), rows);
    }
}

#[test]
fn ten_requests_at_once_make_one_session() {
    for store in [
        Store::Sqlite,
        Store::Redis {
            and_database: false,
        },
        Store::Nowhere,
    ] {
        let world = World::start(store, &usual());
        let ada = world.user("ada", &[("authjs", "old-ada")]);
        let old = cookies(&mint(&[authjs("old-ada")])[0]);
        let tokens: Vec<String> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..10)
                .map(|_| scope.spawn(|| found(&world.page("/whoami", &old))))
                .collect();
            let told = asking.into_iter().map(|one| one.join().expect("an answer"));
            told.map(|session| session["session"]["token"].to_string())
                .collect()
        });
        assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
        if store == Store::Sqlite {
            assert_eq!(world.rows(&ada), 2);
        }
        // And so does whoever comes later with nothing else.
        let later = found(&world.page("/whoami", &old));
        assert_eq!(later["session"]["token"].to_string(), tokens[0]);
    }
}

#[test]
fn who_signs_out_stays_signed_out_whatever_cookie_is_left() {
    for store in [
        Store::Sqlite,
        Store::Redis { and_database: true },
        Store::Nowhere,
    ] {
        let world = World::start(store, &usual());
        world.user("ada", &[("authjs", "old-ada"), ("iron_session", "41")]);
        let minted = mint(&[authjs("old-ada"), iron("41")]);
        let (old, other) = (cookies(&minted[0]), cookies(&minted[1]));
        let ours = arrives(&world, &old, "ada@example.com");
        let signed_in = format!("{old}; {ours}");
        let same_origin = [
            ("sec-fetch-site", "same-origin"),
            ("origin", "http://app.test"),
            ("content-type", "application/json"),
        ];
        let answer = world.ask("POST", "/api/auth/sign-out", &signed_in, &same_origin, "{}");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let cleared = answer.all("set-cookie");
        assert!(
            cleared.iter().any(
                |line| line.starts_with("authjs.session-token=;") && line.contains("Max-Age=0")
            ),
            "{cleared:?}"
        );
        stays_out(&world, &old, "replayed after the sign-out");
        stays_out(&world, &signed_in, "with the dead cookie too");
        // Another device, which did not sign out.
        arrives(&world, &other, "ada@example.com");
    }
}

#[test]
fn who_signs_out_with_sessions_of_two_old_systems_leaves_neither_behind() {
    let world = World::start(Store::Sqlite, &usual());
    world.user("ada", &[("authjs", "old-ada"), ("iron_session", "41")]);
    let minted = mint(&[authjs("old-ada"), iron("41")]);
    let (old, other) = (cookies(&minted[0]), cookies(&minted[1]));
    let ours = arrives(&world, &format!("{old}; {other}"), "ada@example.com");
    let same_origin = [
        ("sec-fetch-site", "same-origin"),
        ("origin", "http://app.test"),
        ("content-type", "application/json"),
    ];
    let all = format!("{old}; {other}; {ours}");
    let answer = world.ask("POST", "/api/auth/sign-out", &all, &same_origin, "{}");
    assert_eq!(answer.status, 200, "{}", answer.text());
    stays_out(&world, &old, "the one that made the session");
    stays_out(&world, &other, "the one beside it");
}

#[test]
fn a_sign_out_of_a_session_that_began_here_ends_the_old_one_beside_it() {
    let world = World::start(Store::Sqlite, &usual());
    world.user("ada", &[("authjs", "old-ada")]);
    let old = cookies(&mint(&[authjs("old-ada")])[0]);
    let mut browser = Browser::sign_in(world.server.address, "ada", true);
    let both = format!("{old}; {}", browser.header());
    // The session of ours counts, and the old one makes none beside it.
    let answer = world.page("/whoami", &both);
    assert_eq!(found(&answer)["user"]["email"], "ada@example.com");
    assert!(answer.header("set-cookie").is_none());
    let same_origin = [
        ("sec-fetch-site", "same-origin"),
        ("origin", "http://app.test"),
        ("content-type", "application/json"),
    ];
    let answer = world.ask("POST", "/api/auth/sign-out", &both, &same_origin, "{}");
    assert_eq!(answer.status, 200);
    browser.remember(&answer);
    stays_out(&world, &old, "replayed after the sign-out");
}

#[test]
fn a_change_of_the_password_ends_every_old_session_from_before() {
    let world = World::start(Store::Sqlite, &usual());
    world.user("ada", &[("authjs", "old-ada"), ("iron_session", "41")]);
    world.user("bob", &[("authjs", "old-bob")]);
    let minted = mint(&[authjs("old-ada"), authjs("old-bob")]);
    let browser = Browser::sign_in(world.server.address, "ada", true);
    let body = json!({ "currentPassword": PASSWORD, "newPassword": "another long password", "revokeOtherSessions": true });
    let same_origin = [
        ("sec-fetch-site", "same-origin"),
        ("origin", "http://app.test"),
        ("content-type", "application/json"),
    ];
    let answer = world.ask(
        "POST",
        "/api/auth/change-password",
        &browser.header(),
        &same_origin,
        &body.to_string(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    stays_out(&world, &cookies(&minted[0]), "from before the change");
    arrives(&world, &cookies(&minted[1]), "bob@example.com");
}

#[test]
fn what_does_not_count_does_not_get_in() {
    let world = World::start(Store::Sqlite, &usual());
    world.user("ada", &[("authjs", "old-ada")]);
    let banned = world.user("bea", &[("authjs", "old-bea")]);
    let factor = world.user("cyd", &[("authjs", "old-cyd")]);
    world.sql(&format!(
        "UPDATE \"user\" SET banned = 1 WHERE id = '{banned}'"
    ));
    world.sql(&format!(
        "UPDATE \"user\" SET \"twoFactorEnabled\" = 1 WHERE id = '{factor}'"
    ));
    let mut forged = authjs("old-ada");
    forged["secret"] = "another app's secret, which is as long as ours".into();
    let mut over = authjs("old-ada");
    over["maxAge"] = (-60).into();
    let minted = mint(&[
        authjs("old-ada"),
        forged,
        over,
        authjs("old-bea"),
        authjs("old-cyd"),
        iron("41"),
    ]);
    let of = |at: usize| cookies(&minted[at]);
    stays_out(&world, &of(1), "sealed by somebody else");
    stays_out(&world, &of(2), "over");
    stays_out(&world, &of(3), "banned");
    stays_out(&world, &of(4), "without the second factor");
    stays_out(&world, &of(5), "an id of another system");
    stays_out(
        &world,
        &format!("{}; {}", of(0), of(1)),
        "two cookies of one name",
    );
    arrives(&world, &of(0), "ada@example.com");
    // A public page is served, without a session.
    let public = world.page("/public/whoami", &of(1));
    assert_eq!(found(&public), Value::Null);
}

#[test]
fn two_old_sessions_of_two_people_are_nobodys() {
    let world = World::start(Store::Sqlite, &usual());
    world.user("ada", &[("authjs", "old-ada"), ("iron_session", "41")]);
    world.user("bob", &[("iron_session", "42")]);
    let minted = mint(&[authjs("old-ada"), iron("41"), iron("42")]);
    let of = |at: usize| cookies(&minted[at]);
    stays_out(&world, &format!("{}; {}", of(0), of(2)), "two people");
    arrives(&world, &format!("{}; {}", of(0), of(1)), "ada@example.com");
}

#[test]
fn what_another_site_makes_a_browser_send_makes_no_session() {
    let world = World::start(Store::Sqlite, &usual());
    let ada = world.user("ada", &[("authjs", "old-ada")]);
    let old = cookies(&mint(&[authjs("old-ada")])[0]);
    let foreign = ("origin", "http://evil.test");
    let cross = ("sec-fetch-site", "cross-site");
    let cases: [(&str, &[(&str, &str)]); 4] = [
        ("POST", &[cross, foreign]),
        ("POST", &[("sec-fetch-site", ""), foreign]),
        (
            "GET",
            &[
                cross,
                ("sec-fetch-mode", "no-cors"),
                ("sec-fetch-dest", "image"),
            ],
        ),
        (
            "GET",
            &[
                ("sec-fetch-site", "same-site"),
                ("sec-fetch-dest", "iframe"),
            ],
        ),
    ];
    for (method, headers) in cases {
        let answer = world.ask(method, "/whoami", &old, headers, "");
        assert_ne!(answer.status, 200, "{method} {headers:?}");
        assert!(answer.header("set-cookie").is_none());
        assert_eq!(world.rows(&ada), 1);
    }
    // An API call of a foreign page is told so, and not sent anywhere.
    let call = [
        cross,
        foreign,
        ("accept", "application/json"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-dest", "empty"),
    ];
    assert_eq!(world.ask("POST", "/whoami", &old, &call, "").status, 401);
    // A link on another site may be followed.
    let link = world.ask("GET", "/whoami", &old, &[cross], "");
    assert_eq!(found(&link)["user"]["email"], "ada@example.com");
}

#[test]
fn a_token_from_browser_storage_is_handed_in_by_the_apps_own_pages_alone() {
    let [key] = &mint(&[json!({ "sdk": "key" })])[..] else {
        panic!("a key");
    };
    let from = clerk(key);
    let world = World::start(Store::Sqlite, &from);
    world.user("ada", &[("clerk", "user_ada")]);
    let token = mint(&[clerk_token(key, "user_ada", "sess_1", 60)])[0]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let bearer = format!("Bearer {token}");
    let good = [
        ("accept", ""),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-dest", "empty"),
        ("origin", "http://app.test"),
        ("content-type", "application/json"),
        ("x-vestibule-bridge", "1"),
        ("authorization", bearer.as_str()),
    ];
    let with = |name: &str, value: &str| {
        let headers: Vec<(&str, &str)> = good
            .iter()
            .map(|(known, said)| (*known, if *known == name { value } else { *said }))
            .collect();
        world
            .ask("POST", "/_vestibule/bridge", "", &headers, "{}")
            .status
    };
    assert_eq!(with("origin", "http://evil.test"), 403);
    assert_eq!(with("origin", ""), 403);
    assert_eq!(with("sec-fetch-site", "cross-site"), 403);
    assert_eq!(with("x-vestibule-bridge", ""), 403);
    assert_eq!(with("content-type", "text/plain"), 415);
    assert_eq!(with("authorization", ""), 401);
    assert_eq!(with("authorization", "Bearer a.b.c"), 401);
    let elsewhere = world.ask(
        "POST",
        "/_vestibule/bridge",
        "",
        &good,
        r#"{"provider":"nobody"}"#,
    );
    assert_eq!(elsewhere.status, 400);
    let answer = world.ask(
        "POST",
        "/_vestibule/bridge",
        "",
        &good,
        r#"{"provider":"clerk"}"#,
    );
    assert_eq!(answer.status, 204, "{}", answer.text());
    let session = found(&world.page("/whoami", &handed_out(&answer)));
    assert_eq!(session["user"]["email"], "ada@example.com");
    assert_eq!(
        world.ask("GET", "/_vestibule/bridge", "", &good, "").status,
        404
    );
}

fn clerk(key: &Value) -> String {
    // pk_test_ and base64 of "clerk.old.test$".
    format!(
        r#"
        [migration.from.clerk]
        publishable_key = "pk_test_Y2xlcmsub2xkLnRlc3Qk"
        authorized_parties = ["http://app.test"]
        jwks = {}
        "#,
        Value::from(key["jwks"].to_string())
    )
}

fn clerk_token(key: &Value, user: &str, session: &str, lives: i64) -> Value {
    json!({
        "sdk": "jwt", "private": key["private"],
        "claims": {
            "iss": "https://clerk.old.test", "sub": user, "sid": session, "azp": "http://app.test", "v": 2,
            "iat": seconds() - 10, "nbf": seconds() - 20, "exp": seconds() + lives, "fva": [12, -1],
        },
    })
}

#[test]
fn sessions_of_clerk_and_workos_arrive_and_those_of_other_issuers_do_not() {
    let keys = mint(&[json!({ "sdk": "key" }), json!({ "sdk": "key" })]);
    let (key, other) = (&keys[0], &keys[1]);
    let workos = format!(
        r#"
        [migration.from.workos]
        client_id = "client_1"
        cookie_password = "{WORKOS_PASSWORD}"
        jwks = {}
        "#,
        Value::from(key["jwks"].to_string())
    );
    let world = World::start(Store::Sqlite, &format!("{}{workos}", clerk(key)));
    world.user("ada", &[("clerk", "user_ada"), ("workos", "user_01A")]);
    let mut foreign = clerk_token(key, "user_ada", "sess_2", 60);
    foreign["claims"]["iss"] = "https://clerk.evil.test".into();
    let mut elsewhere = clerk_token(key, "user_ada", "sess_3", 60);
    elsewhere["claims"]["azp"] = "http://evil.test".into();
    let mut forged = clerk_token(other, "user_ada", "sess_4", 60);
    forged["private"]["kid"] = key["private"]["kid"].clone();
    let access = json!({
        "sdk": "jwt", "private": key["private"],
        "claims": {
            "iss": "https://api.workos.com", "sub": "user_01A", "sid": "session_01A", "client_id": "client_1",
            "iat": seconds() - 60, "exp": seconds() + 240,
        },
    });
    let minted = mint(&[
        clerk_token(key, "user_ada", "sess_1", 60),
        foreign,
        elsewhere,
        forged,
        access,
    ]);
    let token = |at: usize| minted[at]["token"].as_str().expect("a token").to_owned();
    for (at, why) in [(1, "issuer"), (2, "party"), (3, "key")] {
        stays_out(&world, &format!("__session={}", token(at)), why);
    }
    arrives(
        &world,
        &format!("__session={}", token(0)),
        "ada@example.com",
    );
    let sealed = mint(&[json!({
        "sdk": "workos", "cookiePassword": WORKOS_PASSWORD,
        "response": {
            "access_token": token(4), "refresh_token": "refresh",
            "user": { "object": "user", "id": "user_01A", "email": "ada@example.com" },
        },
    })]);
    arrives(&world, &cookies(&sealed[0]), "ada@example.com");
}

#[test]
fn an_old_system_that_is_down_signs_nobody_out() {
    let [key] = &mint(&[json!({ "sdk": "key" })])[..] else {
        panic!("a key");
    };
    // Nobody listens there.
    let from = format!(
        "{}secret_key = \"sk_test_1\"\napi_url = \"http://127.0.0.1:9\"\n",
        clerk(key)
    );
    let world = World::start(Store::Sqlite, &from);
    world.user("ada", &[("clerk", "user_ada")]);
    // A token that is over: whether its session lives must be asked for.
    let token = mint(&[clerk_token(key, "user_ada", "sess_1", -600)])[0]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let old = format!("__session={token}");
    let answer = world.page("/whoami", &old);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert_eq!(found(&world.page("/public/whoami", &old)), Value::Null);
    // Whoever presents nothing of it is sent to sign in as ever.
    assert_eq!(world.page("/whoami", "theme=dark").status, 302);
}

#[test]
fn in_shadow_an_old_system_that_is_down_changes_no_answer() {
    let [key] = &mint(&[json!({ "sdk": "key" })])[..] else {
        panic!("a key");
    };
    // Nobody listens there.
    let from = format!(
        "{}secret_key = \"sk_test_1\"\napi_url = \"http://127.0.0.1:9\"\n",
        clerk(key)
    );
    let world = World::start_with(Store::Sqlite, &from, "shadow = true");
    world.user("ada", &[("clerk", "user_ada")]);
    let token = mint(&[clerk_token(key, "user_ada", "sess_1", -600)])[0]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    stays_out(&world, &format!("__session={token}"), "as without us");
}

#[test]
fn sessions_that_are_rows_of_the_old_app_arrive() {
    let from = r#"
        [migration.from.lucia]
        version = "3"
        table = "lucia_session"
        [migration.from.authjs]
        strategy = "database"
        table = "authjs_sessions"
        "#;
    for store in [Store::Sqlite, Store::Postgres] {
        let world = World::start(store, from);
        let ada = world.user("ada", &[]);
        let later = seconds() + 86_400;
        world.sql("CREATE TABLE lucia_session (id varchar(64) PRIMARY KEY, user_id text, expires_at bigint)");
        world.sql("CREATE TABLE authjs_sessions (id varchar(64), \"sessionToken\" text, \"userId\" text, expires text)");
        for (id, ends) in [("live", later), ("dead", seconds() - 60)] {
            world.sql(&format!(
                "INSERT INTO lucia_session VALUES ('{id}', '{ada}', {ends})"
            ));
            world.sql(&format!(
                "INSERT INTO authjs_sessions VALUES ('{id}', 'token-{id}', '{ada}', '{}')",
                ends * 1000
            ));
        }
        stays_out(&world, "auth_session=dead", "over");
        stays_out(&world, "auth_session=unknown", "nobody's");
        arrives(&world, "auth_session=live", "ada@example.com");
        stays_out(&world, "authjs.session-token=token-dead", "over");
        arrives(&world, "authjs.session-token=token-live", "ada@example.com");
    }
}

#[test]
fn in_shadow_and_outside_the_window_nothing_is_made() {
    for (bridge, arrives_here) in [
        ("opens = \"2999-01-01\"", false),
        ("closes = \"2020-01-01\"", false),
        ("shadow = true", false),
        ("disable = [\"bridge\"]", false),
        ("disable = [\"jit\"]", true),
        ("opens = \"2020-01-01\"\ncloses = \"2999-01-01\"", true),
    ] {
        let world = World::start_with(Store::Sqlite, &usual(), bridge);
        let ada = world.user("ada", &[("iron_session", "41")]);
        let old = cookies(&mint(&[iron("41")])[0]);
        match arrives_here {
            true => drop(arrives(&world, &old, "ada@example.com")),
            false => stays_out(&world, &old, bridge),
        }
        assert_eq!(world.rows(&ada), 1 + i64::from(arrives_here));
    }
}

#[test]
fn a_session_taken_over_lives_no_longer_than_it_was_told_and_began_when_it_began() {
    let world = World::start_with(Store::Sqlite, &usual(), "lifetime = \"1h\"");
    world.user("ada", &[("iron_session", "41")]);
    // A seal does not say when it began.
    let old = cookies(&mint(&[iron("41")])[0]);
    let answer = world.page("/public/whoami", &old);
    let line = answer
        .all("set-cookie")
        .into_iter()
        .find(|line| line.starts_with("better-auth.session_token="))
        .expect("a session")
        .to_owned();
    let age = line
        .split("Max-Age=")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    let age: i64 = age.and_then(|age| age.parse().ok()).expect("an age");
    assert!((3500..=3600).contains(&age), "{line}");
    let rows = world.sql("SELECT \"createdAt\" FROM session ORDER BY \"createdAt\" LIMIT 1");
    let began = rows[0]["createdAt"].as_str().expect("a date");
    let began = chrono::DateTime::parse_from_rfc3339(began).expect("a date");
    assert!(seconds() - began.timestamp() > 3600, "{began}");
}

#[test]
fn sessions_of_supabase_auth0_firebase_and_express_arrive_though_some_share_a_cookie() {
    let keys = mint(&[json!({ "sdk": "key" })]);
    let key = &keys[0];
    let secret = "a secret of the old systems, thirty-two letters";
    let old_redis = Redis::start();
    let from = format!(
        r#"
        [migration.from.supabase]
        project_ref = "ref"
        jwt_secret = "{secret}"
        [migration.from.auth0]
        secret = "{secret}"
        [migration.from.firebase]
        project_id = "project"
        jwks = {}
        [migration.from.express_session]
        secret = "{secret}"
        "#,
        Value::from(key["jwks"].to_string())
    );
    let bridge = format!("redis = \"{}\"", old_redis.url(0));
    let world = World::start_with(Store::Sqlite, &from, &bridge);
    world.user(
        "ada",
        &[
            ("supabase", "5f2c0c1e-0000-4000-8000-000000000001"),
            ("auth0", "auth0|41"),
            ("firebase", "fire41"),
            ("express_session", "41"),
        ],
    );
    let now = seconds();
    let access = mint(&[
        json!({
            "sdk": "jwt", "secret": secret, "header": { "alg": "HS256" },
            "claims": {
                "iss": "https://ref.supabase.co/auth/v1", "aud": "authenticated", "role": "authenticated",
                "sub": "5f2c0c1e-0000-4000-8000-000000000001", "session_id": "5f2c0c1e-0000-4000-8000-0000000000aa",
                "iat": now - 60, "exp": now + 3600, "aal": "aal1", "is_anonymous": false,
                "amr": [{ "method": "password", "timestamp": now - 60 }],
            },
        }),
        json!({
            "sdk": "jwt", "private": key["private"],
            "claims": {
                "iss": "https://session.firebase.google.com/project", "aud": "project", "sub": "fire41",
                "user_id": "fire41", "auth_time": now - 60, "iat": now - 60, "exp": now + 3600,
                "firebase": { "identities": {}, "sign_in_provider": "password" },
            },
        }),
    ]);
    let user = json!({ "id": "5f2c0c1e-0000-4000-8000-000000000001", "email": "ada@example.com" });
    let minted = mint(&[
        json!({
            "sdk": "supabase", "url": "https://ref.supabase.co", "access_token": access[0]["token"], "user": user,
        }),
        json!({
            "sdk": "auth0", "secret": secret,
            "session": {
                "user": { "sub": "auth0|41" }, "internal": { "sid": "sid-41", "createdAt": now - 60 },
                "tokenSet": { "accessToken": "a", "expiresAt": now + 3600 },
            },
        }),
        json!({ "sdk": "express", "secret": secret, "session": { "passport": { "user": "41" } } }),
    ]);
    let mut redis = old_redis.connect();
    let name = format!("sess:{}", minted[2]["sid"].as_str().expect("an id"));
    let stored = minted[2]["stored"].as_str().expect("a session");
    let _: () = crate::support::redis::run(&mut redis, &["SET", &name, stored]);
    arrives(&world, &cookies(&minted[0]), "ada@example.com");
    arrives(&world, &cookies(&minted[1]), "ada@example.com");
    let firebase = format!(
        "__session={}",
        access[1]["token"].as_str().expect("a token")
    );
    arrives(&world, &firebase, "ada@example.com");
    arrives(&world, &cookies(&minted[2]), "ada@example.com");
    // Signed out over there.
    let _: () = crate::support::redis::run(&mut redis, &["DEL", &name]);
    let other = mint(&[
        json!({ "sdk": "express", "secret": secret, "session": { "passport": { "user": "41" } } }),
    ]);
    stays_out(
        &world,
        &cookies(&other[0]),
        "a session the old Redis does not hold",
    );
}
