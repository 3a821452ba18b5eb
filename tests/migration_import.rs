//! Everybody at once, by the command itself: into every database and layout, resumed after being killed, and taken out again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use vestibule::cli;
use vestibule::migration::accounts::Identifier;
use vestibule::migration::import::record::Oddity;
use vestibule::migration::state::State;

use crate::accounts::Place;
use crate::differential::dice::Dice;
use crate::differential::server::Browser;
use crate::migration_exports::{folder, json, sampled, target};
use crate::migration_truth::{World, is_taken, sign_in};
use crate::support::databases::{Dialect, Folder};
use crate::support::{SECRET, await_until, seeds};

/// What old hashes are sealed under.
pub const KEY: &str = "what old hashes are sealed under, in the tests";

/// A database of the app, and a configuration that names it.
pub struct Ground {
    pub place: Place,
    folder: Folder,
}

impl Ground {
    pub async fn of(layout: &str) -> Self {
        Self::on(Place::of(layout).await)
    }

    pub fn on(place: Place) -> Self {
        let ground = Self {
            place,
            folder: Folder::new("import"),
        };
        ground.configure();
        ground
    }

    fn configure(&self) {
        let configuration = format!(
            "public_url = \"http://app.test\"\n[upstream]\nurl = \"http://127.0.0.1:9\"\n\
             [better_auth]\nsecret = \"{SECRET}\"\n[sessions]\nsource = \"{}\"\n\
             [routes]\ndefault = \"signed-in\"\nsign_in = \"/sign-in\"\n[migration]\nkey = \"{KEY}\"\n",
            self.place.url
        );
        std::fs::write(self.folder.join("vestibule.toml"), configuration).unwrap();
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn arguments(&self, step: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = step.iter().map(|word| (*word).to_owned()).collect();
        all.extend(["--config".to_owned(), self.path("vestibule.toml")]);
        if step[0] == "import" || step[0] == "verify" {
            all.extend(["--spool".to_owned(), self.path("")]);
        }
        all
    }

    /// Runs a step, and gives its exit code and what it said.
    pub async fn migrate(&self, step: &[&str]) -> (u8, String, String) {
        let words = ["vestibule", "migrate"].map(OsString::from).into_iter();
        let words: Vec<OsString> = words
            .chain(self.arguments(step).into_iter().map(OsString::from))
            .collect();
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let run = tokio::task::spawn_blocking(move || {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let code = {
                let mut world = cli::World {
                    environment: BTreeMap::from([("SIGNING_SECRET".to_owned(), KEY.to_owned())]),
                    folder,
                    out: &mut out,
                    err: &mut err,
                    terminal: false,
                };
                cli::run(words, &mut world, cli::edges())
            };
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (code, text(out), text(err))
        });
        run.await.unwrap()
    }

    /// A step whose result is read, and that comes to one of these exit codes.
    pub async fn told(&self, step: &[&str], codes: &[u8]) -> Value {
        let mut words = step.to_vec();
        words.push("--json");
        let (code, out, err) = self.migrate(&words).await;
        assert!(codes.contains(&code), "{step:?}: {code} {out} {err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{step:?}: {error} {out} {err}"))
    }

    /// The same step, as a process of its own.
    fn spawn(&self, step: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .arg("migrate")
            .args(self.arguments(step))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Every row of every table of the app, as texts.
    pub async fn content(&self) -> BTreeMap<String, Vec<String>> {
        let url = &self.place.url;
        let catalog = if url.starts_with("sqlite") {
            "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' \
             AND m.name NOT LIKE 'vestibule_%' AND m.name NOT LIKE 'sqlite_%' ORDER BY 1, 2"
        } else if url.starts_with("mysql") {
            "SELECT CAST(TABLE_NAME AS CHAR), CAST(COLUMN_NAME AS CHAR) FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME NOT LIKE 'vestibule_%' ORDER BY 1, 2"
        } else {
            "SELECT table_name::text, column_name::text FROM information_schema.columns \
             WHERE table_schema = 'public' ORDER BY 1, 2"
        };
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in self.place.rows(catalog).await {
            let [table, column] = [0, 1].map(|at| row[at].clone().unwrap());
            tables.entry(table).or_default().push(column);
        }
        let mut content = BTreeMap::new();
        for (table, columns) in tables {
            let columns: Vec<String> = columns
                .iter()
                .map(|name| format!("@(\"{name}\")"))
                .collect();
            let sql = format!("SELECT {} FROM \"{table}\"", columns.join(", "));
            let rows = self.place.rows(&sql).await;
            let mut rows: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
            rows.sort();
            content.insert(table, rows);
        }
        content
    }

    pub async fn count(&self, table: &str) -> u64 {
        let sql = format!("SELECT @(n) FROM (SELECT COUNT(*) AS n FROM {table}) counted");
        self.place.one(&sql).await.parse().unwrap()
    }

    /// Takes the triggers of a lost import away: nothing is left of it.
    fn leftovers(&self) -> usize {
        let entries = std::fs::read_dir(self.folder.join("")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with("vestibule-import-"))
            .count()
    }
}

/// The sample export of Clerk: rows with hashes, pages of the API, organizations.
pub fn clerk() -> Vec<String> {
    let folder = seeds::folder().join("clerk");
    let file = |name: &str| folder.join(name).display().to_string();
    let mut words = vec!["--from".to_owned(), "clerk".to_owned()];
    for (input, name) in [
        ("users", "users.csv"),
        ("api", "api_users_page1.json"),
        ("api", "api_users_page2.json"),
        ("api", "api_users_page3.json"),
        ("organizations", "api_organizations.json"),
        ("memberships", "api_memberships.json"),
        ("invitations", "api_invitations.json"),
    ] {
        words.extend(["--input".to_owned(), format!("{input}={}", file(name))]);
    }
    words
}

pub fn step<'w>(word: &'w str, whence: &'w [String], more: &[&'w str]) -> Vec<&'w str> {
    let mut all = vec![word];
    all.extend(whence.iter().map(String::as_str));
    all.extend(more);
    all
}

/// Of every kind of database and of ids.
const LAYOUTS: &[&str] = &[
    "full.sqlite",
    "core.sqlite",
    "serial.sqlite.ddl.sql",
    "snake.sqlite",
    "uuid.sqlite",
    "drizzle-sqlite.sqlite",
    "drizzle-sqlite-sec-plural.sqlite",
    "full.postgres.sql",
    "core.postgres.sql",
    "serial.postgres.sql",
    "snake.postgres.sql",
    "uuid.postgres.sql",
    "drizzle-postgres.sql",
    "full.mysql.sql",
    "core.mysql.sql",
    "serial.mysql.sql",
    "snake.mysql.sql",
    "uuid.mysql.sql",
    "drizzle-mysql-plural.sql",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_every_layout_everybody_moves_in_once_is_verified_and_can_be_taken_out_again() {
    let whence = clerk();
    for name in LAYOUTS {
        let ground = Ground::of(name).await;
        // Makes the gateway's own tables.
        ground.told(&["status"], &[0]).await;
        let before = ground.content().await;

        let dry = ground.told(&step("import", &whence, &[]), &[1]).await;
        assert_eq!(dry["applied"], false, "{name}");
        assert_eq!(
            before,
            ground.content().await,
            "{name}: a dry run writes nothing"
        );

        let report = ground.path("report.ndjson");
        let applied = &["--apply", "--report", &report];
        let done = ground.told(&step("import", &whence, applied), &[1]).await;
        assert_eq!(
            done["outcomes"], dry["outcomes"],
            "{name}: as it was foretold"
        );
        let counts = done["outcomes"].as_object().unwrap();
        let each = counts
            .values()
            .flat_map(|of| of.as_object().unwrap().values());
        let sum: u64 = each.map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(Some(sum), done["rows"].as_u64(), "{name}");
        assert_eq!(ground.leftovers(), 0, "{name}: the spool is gone");

        // Every row that was not simply made is in the report, with file and line.
        let report = std::fs::read_to_string(&report).unwrap();
        let rows: Vec<Value> = report
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for outcome in ["parked", "refused"] {
            let reported = rows.iter().filter(|row| row["outcome"] == outcome).count();
            let counted: u64 = counts.values().filter_map(|of| of[outcome].as_u64()).sum();
            assert_eq!(reported as u64, counted, "{name} {outcome}");
        }
        for row in &rows {
            assert!(row["line"].as_u64() > Some(0), "{name}: {row}");
            assert_ne!(row["reason"], "", "{name}: {row}");
        }

        let verified = ground.told(&step("verify", &whence, &[]), &[0]).await;
        assert_eq!(verified["missing"], 0, "{name}");
        assert_eq!(
            verified["equal"], done["outcomes"]["user"]["created"],
            "{name}"
        );

        // Once is enough.
        let after = ground.content().await;
        let again = ground
            .told(&step("import", &whence, &["--apply"]), &[1])
            .await;
        assert_eq!(again["outcomes"]["user"]["created"], Value::Null, "{name}");
        assert_eq!(
            after,
            ground.content().await,
            "{name}: a second run changes nothing"
        );

        let undone = ground.told(&["undo", "1", "--apply"], &[0]).await;
        assert_eq!(undone["kept"], serde_json::json!([]), "{name}");
        assert_eq!(before, ground.content().await, "{name}: as it was before");
        for table in [
            "legacy_identity",
            "legacy_credential",
            "legacy_factor",
            "migration_parked",
        ] {
            assert_eq!(
                ground.count(&ground.place.own(table)).await,
                0,
                "{name} {table}"
            );
        }
        // And the way in is open again.
        let last = ground
            .told(&step("import", &whence, &["--apply"]), &[1])
            .await;
        assert_eq!(last["outcomes"], done["outcomes"], "{name}");
    }
}

/// One layout of each database.
const EACH: [&str; 3] = ["full.sqlite", "full.postgres.sql", "full.mysql.sql"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_signed_in_or_was_changed_since_is_kept_and_listed() {
    let whence = clerk();
    for name in EACH {
        let ground = Ground::of(name).await;
        ground
            .told(&step("import", &whence, &["--apply"]), &[1])
            .await;
        let movers = ground
            .place
            .rows(&format!(
                "SELECT @(user_id) FROM {} ORDER BY 1 LIMIT 2",
                ground.place.own("legacy_identity")
            ))
            .await;
        let [changed, seen] = [0, 1].map(|at| movers[at][0].clone().unwrap());
        ground
            .place
            .run(&format!(
                "UPDATE \"user\" SET \"name\" = 'Another' WHERE \"id\" = '{changed}'"
            ))
            .await;
        // What a sign-in does at the door.
        ground
            .place
            .run(&format!(
                "UPDATE {} SET state = 'rehashed' WHERE user_id = '{seen}'",
                ground.place.own("legacy_identity")
            ))
            .await;
        ground
            .place
            .run(&format!(
                "UPDATE {} SET state = 'rehashed' WHERE user_id = '{seen}'",
                ground.place.own("legacy_credential")
            ))
            .await;
        let undone = ground.told(&["undo", "1", "--apply"], &[1]).await;
        let kept: Vec<&str> = undone["kept"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap())
            .collect();
        assert!(kept.contains(&changed.as_str()), "{name}: {undone}");
        assert!(kept.contains(&seen.as_str()), "{name}: {undone}");
        let left = ground.count(&ground.place.own("legacy_identity")).await;
        assert_eq!(left, kept.len() as u64, "{name}: {undone}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finalizing_erases_old_hashes_and_the_way_back_and_keeps_who_is_who() {
    let whence = clerk();
    for name in EACH {
        let ground = Ground::of(name).await;
        ground
            .told(&step("import", &whence, &["--apply"]), &[1])
            .await;
        let identity = ground.place.own("legacy_identity");
        let users = ground.count(&identity).await;
        let kept = format!(
            "{} WHERE sealed <> ''",
            ground.place.own("legacy_credential")
        );
        let asked = ground.told(&["finalize"], &[1]).await;
        assert_eq!(asked["applied"], false);
        let hashes = asked["old_hashes"].as_u64().unwrap();
        assert!(hashes > 0, "{name}");
        assert_eq!(hashes, ground.count(&kept).await, "{name}");
        let done = ground.told(&["finalize", "--yes"], &[0]).await;
        assert_eq!(done["erased"].as_u64(), Some(hashes), "{name}");
        assert_eq!(ground.count(&kept).await, 0, "{name}");
        assert_eq!(ground.count(&identity).await, users, "{name}");
        let status = ground.told(&["status"], &[0]).await;
        assert_eq!(status["states"]["pending"], Value::Null, "{name}: {status}");
        assert!(
            status["states"]["reset"].as_u64() >= Some(hashes),
            "{name}: {status}"
        );
        let (code, _, err) = ground.migrate(&["undo", "1", "--apply"]).await;
        assert_eq!(code, 2, "{name}: {err}");
    }
}

/// People of a made-up export, in the form of Clerk's.
fn many(ground: &Ground, people: usize) -> Vec<String> {
    let mut text = String::from(
        "id,first_name,last_name,username,primary_email_address,primary_phone_number,verified_email_addresses,\
         unverified_email_addresses,verified_phone_numbers,unverified_phone_numbers,totp_secret,password_digest,password_hasher\n",
    );
    for at in 0..people {
        // Each hundredth has the address of another.
        let email = if at % 100 == 99 { at - 1 } else { at };
        let _ = writeln!(
            text,
            "user_{at:06},Ada,\"Number, {at}\",ada{at},Ada{email}@example.com,,ada{email}@example.com,,,,,\
             $2b$10$abcdefghijklmnopqrstuu5o3VyFyLpHyZbOhtNrKBdCp2xVa0N6y,bcrypt"
        );
    }
    let file = ground.path("many.csv");
    std::fs::write(&file, text).unwrap();
    ["--from", "clerk", "--input", &file]
        .map(str::to_owned)
        .to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_people_than_one_page_are_all_reported_once_and_all_taken_out_again() {
    const PEOPLE: usize = 2_400;
    for name in EACH {
        let ground = Ground::of(name).await;
        let whence = many(&ground, PEOPLE);
        ground.told(&["status"], &[0]).await;
        let before = ground.content().await;
        let report = ground.path("report.ndjson");
        let applied = ["--apply", "--report", &report];
        let done = ground.told(&step("import", &whence, &applied), &[1]).await;
        let text = std::fs::read_to_string(&report).unwrap();
        let ids: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|row| row["source_id"].as_str().unwrap().to_owned())
            .collect();
        let wanted = (0..PEOPLE).filter(|at| at % 100 == 99);
        let wanted: Vec<String> = wanted.map(|at| format!("user_{at:06}")).collect();
        assert_eq!(ids, wanted, "{name}");
        let run = done["run"].to_string();
        ground.told(&["undo", &run, "--apply"], &[0]).await;
        assert!(before == ground.content().await, "{name}: some are left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tenth_run_comes_after_the_ninth() {
    for name in EACH {
        let ground = Ground::of(name).await;
        let whence = many(&ground, 1);
        for run in 1..=11_u64 {
            let done = ground
                .told(&step("import", &whence, &["--apply"]), &[0])
                .await;
            assert_eq!(done["run"], run, "{name}");
            let status = ground.told(&["status"], &[0]).await;
            assert_eq!(status["runs"][0]["run"], run, "{name}: {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_the_import_goes_on_and_nobody_is_lost_or_there_twice() {
    const PEOPLE: usize = 6_000;
    const DEATHS: usize = 4;
    for name in EACH {
        let seed = match std::env::var("VESTIBULE_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_secs(),
        };
        println!("{name}: VESTIBULE_SEED={seed}");
        let mut dice = Dice::new(seed);
        let ground = Ground::of(name).await;
        let whence = many(&ground, PEOPLE);
        ground.told(&["status"], &[0]).await;
        let before = ground.count("\"user\"").await;
        let progress = format!(
            "SELECT @(n) FROM (SELECT MAX(sequence) AS n FROM {}) furthest",
            ground.place.own("migration_run")
        );
        let words = step("import", &whence, &["--apply", "--quiet"]);
        let mut deaths = 0;
        while deaths < DEATHS {
            // As soon as this much is written; nothing of it is: as soon as something is read.
            let until = 1 + dice.below(PEOPLE) as u64;
            let mut child = ground.spawn(&words);
            let ended = loop {
                if child.try_wait().unwrap().is_some() {
                    break true;
                }
                let so_far = match deaths {
                    0 => ground.leftovers() as u64 * until,
                    _ => {
                        let rows = ground.place.rows(&progress).await;
                        let so_far = rows[0][0].as_deref().unwrap_or("0");
                        so_far.parse::<u64>().unwrap() / 1000
                    }
                };
                if so_far >= until {
                    break false;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            };
            let _ = child.kill();
            let _ = child.wait();
            deaths += 1;
            if ended {
                break;
            }
        }
        let done = ground
            .told(&step("import", &whence, &["--apply"]), &[1])
            .await;
        assert_eq!(
            ground.leftovers(),
            0,
            "{name}: what the dead left behind is gone"
        );
        let parked = PEOPLE as u64 / 100;
        assert_eq!(
            ground.count("\"user\"").await,
            before + PEOPLE as u64 - parked,
            "{name}"
        );
        for (table, count) in [
            ("legacy_identity", PEOPLE as u64 - parked),
            ("legacy_credential", PEOPLE as u64 - parked),
            ("migration_parked", parked),
        ] {
            assert_eq!(
                ground.count(&ground.place.own(table)).await,
                count,
                "{name} {table}"
            );
        }
        assert_eq!(done["rows"].as_u64(), Some(PEOPLE as u64), "{name}: {done}");
        let verified = ground.told(&step("verify", &whence, &[]), &[0]).await;
        assert_eq!(
            verified["equal"].as_u64(),
            Some(PEOPLE as u64 - parked),
            "{name}"
        );
        // Rows of what was written twice, or not at all, would show here.
        let rows = format!(
            "{} WHERE outcome = 'created'",
            ground.place.own("migration_row")
        );
        assert_eq!(ground.count(&rows).await, PEOPLE as u64 - parked, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_imports_at_once_one_is_told_that_the_other_is_at_it() {
    for name in EACH {
        let ground = Ground::of(name).await;
        ground.told(&["status"], &[0]).await;
        let lock = ground.place.own("migration_lock");
        let held = format!(
            "INSERT INTO {lock} (name, holder, until) VALUES ('import', 'elsewhere+1/7/8/9', 99999999999999)"
        );
        ground.place.run(&held).await;
        let whence = clerk();
        let (code, _, err) = ground.migrate(&step("import", &whence, &["--apply"])).await;
        assert_eq!(code, 1, "{name}: {err}");
        assert!(err.contains("process 7 on elsewhere"), "{name}: {err}");
        assert_eq!(ground.count(&ground.place.own("legacy_identity")).await, 0);
        // Its time is over.
        ground
            .place
            .run(&format!("UPDATE {lock} SET until = 1"))
            .await;
        ground
            .told(&step("import", &whence, &["--apply"]), &[1])
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_is_here_is_linked_by_a_verified_address_and_keeps_the_native_password() {
    for name in EACH {
        let ground = Ground::of(name).await;
        let file = ground.path("two.csv");
        std::fs::write(
            &file,
            "id,first_name,last_name,username,primary_email_address,primary_phone_number,verified_email_addresses,\
             unverified_email_addresses,verified_phone_numbers,unverified_phone_numbers,totp_secret,password_digest,password_hasher\n\
             u1,Ada,A,,ada@here.example,,ada@here.example,,,,,$2b$10$abcdefghijklmnopqrstuu5o3VyFyLpHyZbOhtNrKBdCp2xVa0N6y,bcrypt\n\
             u2,Eve,E,,eve@here.example,,,eve@here.example,,,,$2b$10$abcdefghijklmnopqrstuu5o3VyFyLpHyZbOhtNrKBdCp2xVa0N6y,bcrypt\n",
        )
        .unwrap();
        // They signed up here before.
        let accounts = ground.place.open().await;
        let mut ids = Vec::new();
        for email in ["ada@here.example", "eve@here.example"] {
            let user = vestibule::migration::accounts::NewUser {
                email: email.to_owned(),
                email_verified: true,
                name: "Here".to_owned(),
                password: Some(vestibule::secret::Secret::new("native")),
                ..Default::default()
            };
            let at = vestibule::time::UnixMs(1_795_229_535_028);
            ids.push(accounts.create(&user, at).await.unwrap());
        }
        let before = ground.content().await;
        let whence = ["--from", "clerk", "--input", &file].map(str::to_owned);
        let done = ground
            .told(&step("import", &whence, &["--apply"]), &[1])
            .await;
        let users = &done["outcomes"]["user"];
        assert_eq!(
            (&users["linked"], &users["parked"]),
            (&1.into(), &1.into()),
            "{name}: {done}"
        );
        let by = vestibule::migration::accounts::Identifier::Source("clerk".into(), "u1".into());
        let ada = accounts.find(&by).await.unwrap().unwrap();
        assert_eq!(ada.user_id, ids[0], "{name}");
        assert_eq!(
            ada.password,
            Some(vestibule::secret::Secret::new("native")),
            "{name}"
        );
        assert!(
            ada.old.is_none(),
            "{name}: nobody's own password is doubted"
        );
        assert_eq!(
            before,
            ground.content().await,
            "{name}: nothing of the app's changed"
        );
        ground.told(&["undo", "1", "--apply"], &[0]).await;
        assert!(accounts.find(&by).await.unwrap().is_none(), "{name}");
    }
}

/// Whoever was moved in by the command, from any export that has passwords, signs in through the gateway, in front of a real Better
/// Auth, and from then on without it. Of `share` people of one scheme in one export, one is tried: each costs several slow hashes.
fn everybody_signs_in(dialect: Option<Dialect>, share: usize) {
    let (mut providers, mut due) = (Vec::new(), 0);
    for provider in sampled() {
        let tried = tried(&provider, share);
        if !tried.is_empty() {
            due += tried.len();
            providers.push((provider, tried));
        }
    }
    assert!(!providers.is_empty(), "no export has a password");
    // Two at a time: what takes long is hashing, on either side.
    let queue = std::sync::Mutex::new(providers);
    let next = || queue.lock().unwrap().pop();
    let work = || {
        let mut seen = 0;
        while let Some((provider, tried)) = next() {
            seen += everybody_of(dialect, &provider, &tried);
        }
        seen
    };
    let seen = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work() + other.join().unwrap()
    });
    assert_eq!(seen, due, "everybody was tried");
}

/// The rows of a truth that are tried: of each scheme the first and then one in `share`; of broken hashes all.
fn tried(provider: &str, share: usize) -> BTreeSet<usize> {
    let truth = json(&folder(provider).join("truth.json"));
    let mut of_scheme: BTreeMap<String, usize> = BTreeMap::new();
    let rows = truth["users"].as_array().unwrap().iter().enumerate();
    let tried = rows.filter(|(_, row)| {
        let password = &row["password"];
        if target::password_in(row).is_none() {
            return password["invalid"] == true;
        }
        // Of those only who is sure to come: otherwise the one of a scheme might be the one who is kept out.
        let email = row["email_normalized"].as_str().unwrap_or_default();
        let sure = target::reasons_of(row).is_empty() && kept_out(row).is_empty();
        let sure = sure && email.is_ascii();
        let before = of_scheme.entry(password["scheme"].to_string()).or_insert(0);
        *before += usize::from(sure);
        share == 1 || (sure && (*before - 1).is_multiple_of(share))
    });
    tried.map(|(at, _)| at).collect()
}

/// What keeps somebody out of an app without the plugins for bans and second factors.
fn kept_out(row: &Value) -> Vec<Oddity> {
    let has = |key: &str| row[key] == true || row[key].is_string();
    let any = ["banned", "mfa_enrolled", "totp_secret_base32"];
    match any.into_iter().any(has) {
        true => vec![Oddity::NoColumn],
        false => Vec::new(),
    }
}

#[test]
fn whoever_was_moved_into_sqlite_signs_in_through_the_gateway_and_then_without_it_and_sees_their_accounts()
 {
    everybody_signs_in(None, 1);
}

#[test]
fn whoever_was_moved_into_postgres_signs_in_through_the_gateway_and_then_without_it_and_sees_their_accounts()
 {
    everybody_signs_in(Some(Dialect::Postgres), 4);
}

#[test]
fn whoever_was_moved_into_mariadb_signs_in_through_the_gateway_and_then_without_it_and_sees_their_accounts()
 {
    everybody_signs_in(Some(Dialect::MySql), 4);
}

/// Tries these rows of an export, and gives how many it has held to their truth.
fn everybody_of(dialect: Option<Dialect>, provider: &str, tried: &BTreeSet<usize>) -> usize {
    let world = World::on(dialect, provider, Vec::new());
    let ground = Ground::on(Place::at(world.url.clone()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let whence = target::whence(provider, &ground);
    let report = ground.path("report.ndjson");
    let words = step("import", &whence, &["--apply", "--report", &report]);
    runtime.block_on(ground.told(&words, &[0, 1]));
    let reported = target::reported(&report);
    let accounts = runtime.block_on(ground.place.open());
    let find = |id: &str| {
        let by = Identifier::Source(provider.to_owned(), id.to_owned());
        runtime.block_on(accounts.find(&by)).unwrap()
    };
    let gateway = world.gateway_with("[migration.reset]\nredirect_to = \"/new\"\n");
    let (mut signed_in, mut away, mut untaken, mut resets, mut linked) = (0, 0, 0, 0, 0);
    let people = target::people(provider, &reported);
    for (at, (id, row)) in people.iter().enumerate() {
        if !tried.contains(&at) {
            continue;
        }
        let who = format!("{provider} {id} in {}", dialect.map_or("sqlite", name_of));
        let Some(account) = find(id) else {
            target::absent(&who, row, reported.get(id), &kept_out(row));
            away += 1;
            continue;
        };
        let takes = is_taken(&world.server, &account.email);
        let Some(password) = target::password_in(row) else {
            assert_eq!(account.sources[0].state, State::Reset, "{who}");
            reset_by_mail(&world, gateway.address, &account.email, takes, &who);
            if takes {
                await_until("the state", || {
                    find(id).unwrap().sources[0].state == State::ResetSent
                });
            }
            resets += 1;
            continue;
        };
        let first = sign_in(gateway.address, &account.email, password);
        if !takes {
            // The framework takes no such address, with or without us.
            assert_eq!(first.status, 400, "{who}: {}", first.text());
            untaken += 1;
            continue;
        }
        assert_eq!(first.status, 200, "{who}: {}", first.text());
        let mut browser = Browser::default();
        browser.remember(&first);
        let listed = browser.get(gateway.address, "/api/auth/list-accounts");
        assert_eq!(listed.status, 200, "{who}: {}", listed.text());
        let listed: Value = serde_json::from_slice(&listed.body).unwrap();
        let listed: Vec<&str> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["providerId"].as_str().unwrap())
            .collect();
        assert!(listed.contains(&"credential"), "{who}: {listed:?}");
        linked += listed.len() - 1;
        // Each costs a hash: of some it is enough.
        if signed_in % 8 == 0 {
            let wrong = sign_in(gateway.address, &account.email, "not the password");
            assert_eq!(wrong.status, 401, "{who}: {}", wrong.text());
            let alone = sign_in(world.server.address, &account.email, password);
            assert_eq!(alone.status, 200, "{who}: natively");
        }
        signed_in += 1;
    }
    println!(
        "moved in from {provider} to {}: {signed_in} signed in, {linked} accounts elsewhere, {resets} by mail, {away} kept out, \
         {untaken} with an address the framework does not take",
        dialect.map_or("sqlite", name_of)
    );
    // Whoever nothing speaks against has come.
    let sure = people.iter().enumerate().filter(|(at, (_, row))| {
        let sure = target::reasons_of(row).is_empty() && kept_out(row).is_empty();
        tried.contains(at) && sure && target::password_in(row).is_some()
    });
    assert!(signed_in + untaken >= sure.count(), "{provider}");
    let status = runtime.block_on(ground.told(&["status"], &[0]));
    // One more where the framework takes no such address after we have let it pass; whoever had a native hash needs none.
    let come = ["rehashed", "done"].map(|state| status["states"][state].as_u64().unwrap_or(0));
    assert!(
        come.iter().sum::<u64>() >= signed_in as u64,
        "{provider}: {status}"
    );
    // Whoever has come stays; all others go.
    let undone = runtime.block_on(ground.told(&["undo", "1", "--apply"], &[0, 1]));
    let kept = undone["kept"].as_array().unwrap();
    assert!(kept.len() >= signed_in, "{provider}: {undone}");
    signed_in + away + untaken + resets
}

/// No password signs them in, they are told so like everybody, and a link is in the mail.
fn reset_by_mail(world: &World, gateway: SocketAddr, email: &str, takes: bool, who: &str) {
    let links = || {
        let links = world.server.ask("links", serde_json::json!({}));
        let links = links.as_array().unwrap().iter();
        links.filter(|link| link["email"] == email).count()
    };
    assert_eq!(links(), 0, "{who}");
    let nobody = sign_in(gateway, "nobody@example.com", "whatever it was");
    let answer = sign_in(gateway, email, "whatever it was");
    if !takes {
        assert_eq!(answer.status, 400, "{who}: {}", answer.text());
        return;
    }
    assert_eq!(answer.status, 401, "{who}: {}", answer.text());
    assert_eq!(answer.text(), nobody.text(), "{who}");
    await_until("the mail", || links() == 1);
}

const fn name_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "postgres",
        Dialect::MySql => "mariadb",
    }
}
