//! The ways out: links for those who never came over, and users in the form of other systems, opened and checked by programs that are
//! not ours.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use vestibule::migration::password::native;
use vestibule::migration::state::State;

use crate::accounts::Place as Database;
use crate::migration_import::{Ground, KEY as SIGNING, clerk, step};
use crate::moving::{KEY, OLD_PASSWORD, Place, WRONG, bcrypt_of, now};
use crate::support::databases::{Dialect, program, shared};
use crate::support::{App, SECRET, reply};

/// Runs a command against a place.
fn migrate(place: &Place, app: SocketAddr, arguments: &[&str]) -> Output {
    let config = place.folder.join("vestibule.toml");
    let text = format!(
        "public_url = \"http://app.test\"\nadmin = \"off\"\n[upstream]\nurl = \"http://{app}\"\n[better_auth]\nsecret = \"{SECRET}\"\n\
         [sessions]\nsource = \"sqlite:{}\"\n[routes]\ndefault = \"signed-in\"\nsign_in = \"/sign-in\"\n\
         [migration]\nkey = \"{KEY}\"\n[migration.reset]\nredirect_to = \"/new-password\"\n",
        place.folder.join("app.sqlite").display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command.arg("migrate").args(arguments);
    command.args(["--config", &config.display().to_string()]);
    command.output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(output)))
}

// ------------------------------------------------------------------------------------------------------------------------- links

const ALL: [&str; 5] = ["reset", "--pending", "--per-minute", "6000", "--json"];

fn links(place: &Place) -> usize {
    place
        .real
        .ask("links", serde_json::json!({}))
        .as_array()
        .unwrap()
        .len()
}

/// Three who wait, and three who do not.
fn waiting() -> Place {
    let place = Place::start();
    for user in ["ann", "bob", "cid"] {
        place.imported(user, "bcrypt", &bcrypt_of(OLD_PASSWORD));
    }
    place.native("dan");
    let map = |user: &str| {
        let mapped = place.accounts.map(user, "clerk", user, now());
        assert!(place.runtime.block_on(mapped).unwrap());
    };
    map("dan");
    place.user("eve");
    map("eve");
    place.real.sql(
        "INSERT INTO account (id, accountId, providerId, userId, createdAt, updatedAt) \
         VALUES ('g', '7', 'google', 'eve', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z')",
    );
    // Known by name, with nothing that signs them in: they may have had a password.
    place.user("fay");
    map("fay");
    place
}

#[test]
fn whoever_waits_gets_one_link_and_nobody_gets_two() {
    let place = waiting();
    let app = place.real.address;
    let dry = json(&migrate(&place, app, &ALL));
    assert_eq!(
        (&dry["applied"], &dry["sent"], &dry["skipped"]),
        (&false.into(), &4.into(), &2.into()),
        "{dry}"
    );
    assert_eq!(links(&place), 0);
    assert_eq!(place.state("ann"), Some(State::Pending));
    // Stopped in the middle, it goes on where it was.
    let some = migrate(
        &place,
        app,
        &[&ALL[..], &["--apply", "--limit", "2"]].concat(),
    );
    assert_eq!(some.status.code(), Some(1), "{}", told(&some));
    assert_eq!((links(&place), json(&some)["sent"].as_u64()), (2, Some(2)));
    let rest = migrate(&place, app, &[&ALL[..], &["--apply"]].concat());
    assert_eq!(rest.status.code(), Some(0), "{}", told(&rest));
    assert_eq!(links(&place), 4);
    for user in ["ann", "bob", "cid", "fay"] {
        assert_eq!(place.links(user).len(), 1, "{user}");
        let sources = place.account(user).sources;
        let state = place
            .state(user)
            .or(sources.first().map(|source| source.state));
        assert_eq!(state, Some(State::ResetSent), "{user}");
    }
    let again = migrate(&place, app, &[&ALL[..], &["--apply"]].concat());
    assert_eq!(
        (again.status.code(), links(&place)),
        (Some(0), 4),
        "{}",
        told(&again)
    );
    // The old password goes on working until they choose another.
    let gateway = place.gateway(crate::moving::USUAL);
    assert_eq!(
        crate::moving::sign_in(gateway.address, "ann", OLD_PASSWORD).status,
        200
    );
}

#[test]
fn an_app_that_fails_again_and_again_is_not_asked_for_everybody() {
    let place = Place::start();
    for at in 0..8 {
        place.imported(&format!("u{at}"), "bcrypt", &bcrypt_of(OLD_PASSWORD));
    }
    let broken = App::scripted(|_, stream| reply(stream, 500, &[], b"no mail server"));
    let ended = migrate(&place, broken.address, &[&ALL[..], &["--apply"]].concat());
    assert_eq!(ended.status.code(), Some(1), "{}", told(&ended));
    let said = json(&ended);
    assert!(
        said["stopped"].as_str().unwrap().contains("in a row"),
        "{said}"
    );
    assert_eq!((said["failed"].as_u64(), broken.count()), (Some(5), 5));
    for at in 0..8 {
        assert_eq!(place.state(&format!("u{at}")), Some(State::Pending));
    }
    // One that answers is: the same users get theirs.
    let ended = migrate(
        &place,
        place.real.address,
        &[&ALL[..], &["--apply"]].concat(),
    );
    assert_eq!(
        (ended.status.code(), links(&place)),
        (Some(0), 8),
        "{}",
        told(&ended)
    );
}

#[test]
fn an_app_that_was_asked_too_often_is_asked_again_when_it_says() {
    let place = Place::start();
    place.imported("ann", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    let asked = AtomicUsize::new(0);
    let app = App::scripted(move |seen, stream| {
        assert_eq!(seen.header("origin"), Some("http://app.test"));
        match asked.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => reply(stream, 429, &[("x-retry-after", "0")], b"{}"),
            _ => reply(stream, 200, &[], b"{\"status\":true}"),
        }
    });
    let ended = migrate(&place, app.address, &[&ALL[..], &["--apply"]].concat());
    assert_eq!(ended.status.code(), Some(0), "{}", told(&ended));
    assert_eq!(
        (app.count(), place.state("ann")),
        (3, Some(State::ResetSent))
    );
}

// -------------------------------------------------------------------------------------------------------------------- the way back

/// A recipient of age, made by its own program.
struct Recipient {
    key: PathBuf,
    public: String,
}

impl Recipient {
    fn new(place: &Place, name: &str) -> Self {
        let key = place.folder.join(name);
        let made = Command::new(program("age-keygen", "age"))
            .arg("-o")
            .arg(&key)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        let public = said
            .split_whitespace()
            .find(|word| word.starts_with("age1"));
        Self {
            public: public.expect(&said).to_owned(),
            key,
        }
    }

    /// What a file holds, one object a line.
    fn open(&self, file: &Path) -> Option<Vec<Value>> {
        let mut age = Command::new(program("age", "age"));
        let opened = age
            .arg("--decrypt")
            .arg("-i")
            .arg(&self.key)
            .arg(file)
            .output()
            .unwrap();
        let text = String::from_utf8(opened.stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        opened.status.success().then(|| lines.collect())
    }
}

/// Whether a password fits, by Python's own scrypt.
const FITS: &str = r#"
import base64, hashlib, hmac, json, sys
user, form, words = json.load(sys.stdin)
pad = lambda text: base64.b64decode(text + "=" * (-len(text) % 4))
if form == "clerk":
    assert user["password_hasher"] == "scrypt_werkzeug"
    method, salt, key = user["password_digest"].split("$")
    name, n, r, p = method.split(":")
    assert name == "scrypt"
    n, r, p, salt, key = int(n), int(r), int(p), salt.encode(), bytes.fromhex(key)
elif form == "workos":
    assert user["password_hash_type"] == "scrypt"
    _, name, settings, salt, key = user["password_hash"].split("$")
    settings = dict(one.split("=") for one in settings.split(","))
    assert name == "scrypt"
    n, r, p, salt, key = 2 ** int(settings["ln"]), int(settings["r"]), int(settings["p"]), pad(salt), pad(key)
elif form == "auth0":
    custom = user["custom_password_hash"]
    assert custom["algorithm"] == "scrypt" and custom["hash"]["encoding"] == "hex" and custom["salt"]["encoding"] == "utf8"
    n, r, p = custom["cost"], custom["blockSize"], custom["parallelization"]
    salt, key = custom["salt"]["value"].encode(), bytes.fromhex(custom["hash"]["value"])
    assert custom["keylen"] == len(key)
else:
    salt, key = user["passwordHash"].split(":")
    n, r, p, salt, key = 16384, 16, 1, salt.encode(), bytes.fromhex(key)
made = lambda word: hashlib.scrypt(word.encode(), salt=salt, n=n, r=r, p=p, maxmem=2 ** 27, dklen=len(key))
print(json.dumps([hmac.compare_digest(made(word), key) for word in words]))
"#;

fn fits(form: &str, user: &Value, words: &[&str]) -> Value {
    let mut python = Command::new("python3")
        .args(["-c", FITS])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = serde_json::json!([user, form, words]).to_string();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(asked.as_bytes())
        .unwrap();
    let said = python.wait_with_output().unwrap();
    assert!(said.status.success(), "{form}: {user}");
    serde_json::from_slice(&said.stdout).unwrap()
}

const YES: &str = "--i-know-this-exports-password-hashes";

#[test]
fn users_leave_with_passwords_that_others_check() {
    let place = Place::start();
    place.native("ann");
    let mapped = place.accounts.map("ann", "clerk", "user_1", now());
    assert!(place.runtime.block_on(mapped).unwrap());
    place.imported("bob", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    // More than one page of them, with names that are no plain text.
    for at in 0..520 {
        let name = format!("p{at}");
        place.user(&name);
    }
    place
        .real
        .sql("UPDATE user SET name = 'Zoë \"Z\" \n🦊' WHERE id = 'ann'");
    let (recipient, other) = (
        Recipient::new(&place, "key.txt"),
        Recipient::new(&place, "other.txt"),
    );
    for form in ["clerk", "workos", "auth0", "generic"] {
        let file = place.folder.join(&format!("{form}.age"));
        let path = file.display().to_string();
        let arguments = [
            "export",
            "--for",
            form,
            "--output",
            &path,
            "--recipient",
            &recipient.public,
            YES,
        ];
        let ended = migrate(&place, place.real.address, &arguments);
        assert_eq!(ended.status.code(), Some(0), "{}", told(&ended));
        // It is told, without what is in it.
        let said = told(&ended);
        assert!(said.contains("password hashes were exported"), "{said}");
        let hash = place.password("ann").unwrap();
        let key = hash.split_once(':').unwrap().1;
        let sealed = std::fs::read(&file).unwrap();
        let holds = |text: &str| {
            sealed
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        assert!(!holds(key) && !holds("@example.com") && !said.contains(key));
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(other.open(&file).is_none(), "it is for one recipient");
        let users = recipient.open(&file).expect("it opens");
        assert_eq!(users.len(), 522);
        let by_mail =
            |user: &Value, name: &str| user.to_string().contains(&format!("{name}@example.com"));
        let ann = users.iter().find(|user| by_mail(user, "ann")).unwrap();
        assert_eq!(
            fits(form, ann, &[OLD_PASSWORD, WRONG, ""]),
            serde_json::json!([true, false, false])
        );
        assert!(
            ann.to_string().contains("user_1"),
            "who they were there: {ann}"
        );
        // An old hash stays here: it was never this system's to give.
        let bob = users.iter().find(|user| by_mail(user, "bob")).unwrap();
        assert!(
            !bob.to_string().contains("$2b$") && !bob.to_string().contains("scrypt"),
            "{bob}"
        );
        let runs = place.real.sql(&format!(
            "SELECT state, tally FROM vestibule_migration_run WHERE provider = 'export:{form}'"
        ));
        assert_eq!(runs[0]["state"], "left");
        assert!(runs[0]["tally"].as_str().unwrap().contains("522"));
    }
}

#[test]
fn no_hash_leaves_without_an_explicit_word_or_to_everybody() {
    let place = Place::start();
    place.native("ann");
    let recipient = Recipient::new(&place, "key.txt");
    let file = place.folder.join("users.age");
    let path = file.display().to_string();
    let secret = std::fs::read_to_string(&recipient.key).unwrap();
    let secret = secret
        .lines()
        .find(|line| line.starts_with("AGE-SECRET-KEY-"))
        .unwrap();
    let to = ["--recipient", recipient.public.as_str()];
    let base = ["export", "--for", "clerk", "--output", &path];
    for (arguments, why) in [
        ([&base[..], &to[..]].concat(), "without the word"),
        ([&base[..], &[YES]].concat(), "to nobody"),
        (
            [&base[..], &["--recipient", secret, YES]].concat(),
            "to a secret key",
        ),
        (
            [&base[..], &["--recipient", "age1abc", YES]].concat(),
            "to no recipient",
        ),
        (
            [
                &["export", "--for", "clerk", "--output", "/dev/stdout"][..],
                &to[..],
                &[YES],
            ]
            .concat(),
            "to a terminal",
        ),
        (
            [
                &["export", "--for", "okta", "--output", &path][..],
                &to[..],
                &[YES],
            ]
            .concat(),
            "for nobody we know",
        ),
    ] {
        let ended = migrate(&place, place.real.address, &arguments);
        assert_eq!(ended.status.code(), Some(2), "{why}: {}", told(&ended));
        assert!(
            !told(&ended).contains(secret),
            "{why}: a secret key is shown"
        );
        assert!(!file.exists(), "{why}");
    }
    assert!(native::is_native(&place.password("ann").unwrap()));
    let ended = migrate(
        &place,
        place.real.address,
        &[&base[..], &to[..], &[YES]].concat(),
    );
    assert_eq!(
        (ended.status.code(), file.exists()),
        (Some(0), true),
        "{}",
        told(&ended)
    );
}

// ------------------------------------------------------------------------------------------------------- databases we do not speak to

/// What an import makes of somebody, whatever the database; without what is made up anew each time.
const CONTENT: &[&str] = &[
    "SELECT @(id), @(name), @(email), @(image), @(username), @(\"displayUsername\"), @(\"phoneNumber\"), @(role), @(\"banReason\"), \
     @(\"emailVerified\") FROM \"user\" ORDER BY 1",
    // What was never set, and what is not so, are the same.
    "SELECT @(id) FROM \"user\" WHERE \"phoneNumberVerified\" ORDER BY 1",
    // Whoever has no date of their own gets that of the import.
    "SELECT @(id), @(\"createdAt\") FROM \"user\" WHERE @(\"createdAt\") LIKE '2022%' ORDER BY 1",
    "SELECT @(id), @(banned), @(\"twoFactorEnabled\") FROM \"user\" WHERE banned OR \"twoFactorEnabled\" ORDER BY 1",
    "SELECT @(\"userId\"), @(\"providerId\"), @(\"accountId\"), @(scope), @(password) FROM account ORDER BY 1, 2, 3",
    "SELECT @(\"userId\") FROM \"twoFactor\" ORDER BY 1",
    "SELECT @(id), @(name), @(slug), @(metadata) FROM organization ORDER BY 1",
    "SELECT @(\"organizationId\"), @(\"userId\"), @(role) FROM member ORDER BY 1, 2",
    "SELECT @(\"organizationId\"), @(email), @(role), @(status) FROM invitation ORDER BY 1, 2",
];

async fn content(ground: &Ground) -> Vec<Vec<Vec<Option<String>>>> {
    let mut all = Vec::new();
    for sql in CONTENT {
        all.push(ground.place.rows(sql).await);
    }
    let [identity, credential, factor] = ["legacy_identity", "legacy_credential", "legacy_factor"]
        .map(|name| ground.place.own(name));
    for sql in [
        format!(
            "SELECT @(provider), @(source_user_id), @(user_id), @(state) FROM {identity} ORDER BY 1, 2"
        ),
        format!("SELECT @(user_id), @(scheme), @(state) FROM {credential} ORDER BY 1"),
        format!("SELECT @(user_id), @(digits), @(algorithm) FROM {factor} ORDER BY 1"),
    ] {
        all.push(ground.place.rows(&sql).await);
    }
    all
}

/// A database with the tables of a layout and nothing in them, for every letter there is.
async fn empty(layout: &str, server: Option<Dialect>) -> Ground {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/db")
        .join(layout);
    let tables = std::fs::read_to_string(file).unwrap();
    let letters = match server {
        Some(Dialect::MySql) => "ALTER DATABASE CHARACTER SET utf8mb4;\n",
        _ => "",
    };
    Ground::on(Database::made(server, &format!("{letters}{tables}")).await)
}

fn database_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

/// Clerk's sample, and somebody who tries to get out of every kind of quotes.
fn hostile(ground: &Ground) -> Vec<String> {
    let users = ground.path("hostile.json");
    let name = "a'b\\'c\"d`e\\\\; DROP TABLE user; --\n\r\u{1a}\t%_$$ 🦊 {{x}} /* */ \\0 \\";
    let user = serde_json::json!([{ "id": "evil'; --", "email": "evil'quote@example.com", "emailVerified": true, "firstName": name }]);
    std::fs::write(&users, user.to_string()).unwrap();
    vec!["--from".into(), "generic".into(), "--input".into(), users]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_statements_makes_what_an_import_makes() {
    for (layout, dialect, server) in [
        ("full.sqlite.ddl.sql", "sqlite", None),
        ("full.postgres.ddl.sql", "postgres", Some(Dialect::Postgres)),
        ("full.mysql.ddl.sql", "mysql", Some(Dialect::MySql)),
    ] {
        let (direct, indirect) = (empty(layout, server).await, empty(layout, server).await);
        // Makes the gateway's own tables.
        indirect.told(&["status"], &[0]).await;
        let file = indirect.path("users.sql");
        for whence in [clerk(), hostile(&direct)] {
            direct
                .told(&step("import", &whence, &["--apply"]), &[0, 1])
                .await;
            let emit = ["--emit", "sql", "--dialect", dialect, "--output", &file];
            let dry = indirect.migrate(&step("import", &whence, &emit)).await;
            assert!(!Path::new(&file).exists(), "{layout}: {dry:?}");
            let emit = [&emit[..], &["--apply"]].concat();
            let (code, out, err) = indirect.migrate(&step("import", &whence, &emit)).await;
            assert!(code < 2, "{layout}: {out} {err}");
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            // Twice: the second time changes nothing.
            for _ in 0..2 {
                match server {
                    Some(server) => {
                        shared(server).run_file(database_of(&indirect.place.url), Path::new(&file))
                    }
                    None => run_in_sqlite(&indirect.place.url, &file),
                }
            }
            std::fs::remove_file(&file).unwrap();
            // Nothing of ours is left behind.
            let left = std::fs::read_dir(indirect.path("")).unwrap();
            let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            assert_eq!(
                names.filter(|name| name.starts_with("vestibule-")).count(),
                0
            );
        }
        let (expected, found) = (content(&direct).await, content(&indirect).await);
        assert!(
            expected[0].len() > 30 && !expected[2].is_empty() && !expected[6].is_empty(),
            "{layout}"
        );
        for (at, (expected, found)) in expected.iter().zip(&found).enumerate() {
            assert_eq!(
                expected,
                found,
                "{layout}: {}",
                CONTENT.get(at).unwrap_or(&"ours")
            );
        }
    }
}

fn run_in_sqlite(url: &str, file: &str) {
    let run = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\ndb.executescript(open(sys.argv[2], newline='').read())";
    let path = url.strip_prefix("sqlite:").unwrap();
    let ended = Command::new("python3")
        .args(["-c", run, path, file])
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", told(&ended));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_gets_every_row_signed_and_is_asked_again_when_it_is_busy() {
    use hmac::{KeyInit as _, Mac as _};
    let asked = AtomicUsize::new(0);
    let app = App::scripted(
        move |_, stream| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => reply(stream, 503, &[("retry-after", "0")], b""),
            _ => reply(stream, 204, &[], b""),
        },
    );
    let ground = Ground::of("full.sqlite.ddl.sql").await;
    let url = format!("http://{}/import", app.address);
    let emit = [
        "--emit",
        "http",
        "--url",
        &url,
        "--signing-secret-env",
        "SIGNING_SECRET",
        "--apply",
    ];
    let whence = clerk();
    let (code, out, err) = ground.migrate(&step("import", &whence, &emit)).await;
    assert!(code < 2, "{out} {err}");
    let seen = app.seen();
    let mut tables: std::collections::BTreeMap<String, usize> = Default::default();
    for (at, request) in seen.iter().enumerate() {
        let header = |name: &str| request.header(name).unwrap().to_owned();
        let (number, signature) = (header("x-vestibule-batch"), header("x-vestibule-signature"));
        let (moment, mac) = signature
            .strip_prefix("t=")
            .unwrap()
            .split_once(",v1=")
            .unwrap();
        let mut made = hmac::Hmac::<sha2::Sha256>::new_from_slice(SIGNING.as_bytes()).unwrap();
        made.update(format!("{moment}.{number}.").as_bytes());
        made.update(&request.body);
        assert_eq!(
            data_encoding::HEXLOWER.encode(&made.finalize().into_bytes()),
            mac
        );
        if at == 0 {
            // It was busy, and got the same again.
            assert_eq!(seen[1].body, request.body);
            continue;
        }
        for line in request
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let row: Value = serde_json::from_slice(line).unwrap();
            assert!(row["row"].is_object());
            *tables
                .entry(row["table"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
    }
    let direct = Ground::of("full.sqlite.ddl.sql").await;
    direct
        .told(&step("import", &whence, &["--apply"]), &[1])
        .await;
    for (table, name) in [
        ("\"user\"", "user"),
        ("account", "account"),
        ("member", "member"),
    ] {
        let count = direct
            .place
            .one(&format!(
                "SELECT @(n) FROM (SELECT COUNT(*) AS n FROM {table}) c"
            ))
            .await;
        assert_eq!(tables[name].to_string(), count, "{name}");
    }
    assert!(tables["legacy_identity"] > 30);
    // Whoever refuses is not asked again and again, and one knows where to go on.
    let app = App::scripted(|_, stream| reply(stream, 400, &[], b""));
    let url = format!("http://{}/import", app.address);
    let emit = [
        "--emit",
        "http",
        "--url",
        &url,
        "--signing-secret-env",
        "SIGNING_SECRET",
        "--apply",
    ];
    let (code, _, err) = ground.migrate(&step("import", &whence, &emit)).await;
    assert_eq!((code, app.count()), (3, 1), "{err}");
    assert!(err.contains("--from-batch 1"), "{err}");
    // Hashes go over no open line, and never unsigned.
    for (url, name) in [
        ("http://app.example.com/import", "SIGNING_SECRET"),
        ("https://app.example.com/import", "NOT_SET"),
    ] {
        let emit = [
            "--emit",
            "http",
            "--url",
            url,
            "--signing-secret-env",
            name,
            "--apply",
        ];
        let (code, _, err) = ground.migrate(&step("import", &whence, &emit)).await;
        assert_eq!(code, 2, "{err}");
    }
}

// ----------------------------------------------------------------------------------------------------------------------- the benchmark

#[test]
fn the_benchmark_of_the_import_counts_what_it_says() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/migrate/run");
    let binary = env!("CARGO_BIN_EXE_vestibule");
    let arguments = [
        "--users", "2000", "--sample", "500", "--json", "--binary", binary,
    ];
    let ended = Command::new("python3")
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", told(&ended));
    let said = json(&ended);
    let number = |path: &str| {
        said.pointer(path)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("{path}: {said}"))
    };
    let about = |one: f64, other: f64| (one - other).abs() <= 0.02 * other.max(1.0);
    assert!(
        about(number("/users_per_second"), 2000.0 / number("/seconds")),
        "{said}"
    );
    assert!(
        about(
            number("/copy/times_slower"),
            number("/seconds") / number("/copy/seconds")
        ),
        "{said}"
    );
    assert!(
        about(
            number("/one_by_one/users_per_second"),
            500.0 / number("/one_by_one/seconds")
        ),
        "{said}"
    );
    let by_user = (number("/one_by_one/seconds") / 500.0) / (number("/seconds") / 2000.0);
    assert!(about(number("/one_by_one/times_slower"), by_user), "{said}");
    // A user, who they were, their old hash, and what became of the row: nobody is left out of the comparison.
    assert!(number("/copy/rows") >= 4.0 * 2000.0, "{said}");
    assert!(
        number("/peak_bytes") > 1e6 && number("/input_bytes") > 2000.0 * 100.0,
        "{said}"
    );
}
