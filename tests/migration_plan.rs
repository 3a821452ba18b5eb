//! What a move would come to: every sample export is planned, and nothing is changed by it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::databases::Folder;
use crate::support::seeds;

/// The inputs of each system, as its folder has them: name, file. A number sign stands for the numbers of its pages.
const INPUTS: &[(&str, &[(&str, &str)])] = &[
    (
        "clerk",
        &[
            ("users", "users.csv"),
            ("api", "api_users_page#.json"),
            ("organizations", "api_organizations.json"),
            ("memberships", "api_memberships.json"),
            ("invitations", "api_invitations.json"),
        ],
    ),
    (
        "workos",
        &[
            ("users", "users_page#.json"),
            ("identities", "identities_by_user.json"),
            ("auth_factors", "auth_factors_by_user.json"),
            ("organizations", "organizations.json"),
            ("memberships", "organization_memberships.json"),
        ],
    ),
    (
        "auth0",
        &[
            ("users", "users_export.ndjson"),
            ("hashes", "password_hashes.ndjson"),
        ],
    ),
    (
        "supabase",
        &[
            ("users", "auth_users.json"),
            ("identities", "auth_identities.json"),
            ("factors", "auth_mfa_factors.json"),
        ],
    ),
    ("firebase", &[("users", "users.json")]),
    ("generic", &[("users", "users_export.json")]),
    ("keycloak", &[("users", "realm-users-0.json")]),
    ("cognito", &[("users", "list_users.json")]),
    ("authjs", &[("tables", "tables.json")]),
    ("django", &[("dump", "dumpdata.json")]),
    ("wordpress", &[("users", "wp_users.csv")]),
    ("kratos", &[("identities", "identities.json")]),
];

/// The arguments that name a sample export.
pub fn inputs(system: &str, scratch: &Folder) -> Vec<String> {
    let (_, inputs) = INPUTS.iter().find(|(name, _)| *name == system).unwrap();
    let folder = seeds::folder().join(system);
    let mut arguments = vec!["--from".to_owned(), system.to_owned()];
    for (name, file) in *inputs {
        let pages = (1..).map(|page| folder.join(file.replace('#', &page.to_string())));
        let pages: Vec<PathBuf> = match file.contains('#') {
            true => pages.take_while(|page| page.exists()).collect(),
            false => pages.take(1).collect(),
        };
        assert!(!pages.is_empty(), "{system} {file}");
        for page in pages {
            arguments.extend(["--input".to_owned(), format!("{name}={}", page.display())]);
        }
    }
    if system == "firebase" {
        let options = scratch.join("firebase-options.toml");
        let config = folder.join("hash_config.json");
        std::fs::write(
            &options,
            format!("hash_config = {{ file = \"{}\" }}\n", config.display()),
        )
        .unwrap();
        arguments.extend(["--options".to_owned(), options.display().to_string()]);
    }
    arguments
}

fn plan(arguments: &[String], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command.args(["migrate", "plan"]).args(arguments).args(more);
    command.output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn truth(system: &str) -> Vec<Value> {
    let text = std::fs::read(seeds::folder().join(system).join("truth.json")).unwrap();
    let truth: Value = serde_json::from_slice(&text).unwrap();
    truth["users"].as_array().unwrap().clone()
}

fn has(user: &Value, issue: &str) -> bool {
    user["issues"]
        .as_array()
        .unwrap()
        .iter()
        .any(|one| one == issue)
}

/// What a scheme is called that has several names.
fn family(scheme: &str) -> &str {
    match scheme {
        "argon2id" | "argon2i" => "argon2",
        "firebase-scrypt" => "firebase-scrypt",
        scheme => scheme,
    }
}

#[test]
fn every_sample_export_is_planned_and_its_numbers_are_those_of_its_people() {
    let scratch = Folder::new("plan");
    for (system, _) in INPUTS {
        let output = plan(&inputs(system, &scratch), &["--json"]);
        // Two people have one address in every set.
        assert_eq!(
            output.status.code(),
            Some(1),
            "{system}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let plan = json(&output);
        let n = &plan["numbers"];
        let number = |name: &str| n[name].as_u64().unwrap();
        let gone = |user: &&Value| user["soft_deleted"] != true;
        let everybody = truth(system);
        let people: Vec<&Value> = everybody.iter().filter(gone).collect();
        let count = |fits: &dyn Fn(&Value) -> bool| {
            u64::try_from(people.iter().filter(|user| fits(user)).count()).unwrap()
        };
        // Whoever is in one of two files alone is not in the truth of the other.
        let extra = match *system {
            "clerk" => 1,
            _ => 0,
        };
        assert_eq!(number("users"), count(&|_| true) + extra, "{system}");
        assert_eq!(
            number("deleted"),
            u64::try_from(everybody.len() - people.len()).unwrap(),
            "{system}"
        );
        let invalid = |user: &Value| user["password"]["invalid"] == true;
        // Django says of whoever has no password that theirs is switched off.
        let switched_off = match *system {
            "django" => count(&|user| user["password"].is_null()),
            _ => 0,
        };
        assert_eq!(
            number("reset"),
            count(&invalid) + switched_off,
            "{system}: invalid hashes"
        );
        let hashed = count(&|user| {
            !user["password"].is_null()
                && user["password"]["hash_exported"] != false
                && !invalid(user)
        });
        assert_eq!(
            number("hashed") + number("native"),
            hashed,
            "{system}: hashes"
        );
        let live = count(&|user| user["password"]["hash_exported"] == false);
        let none = count(&|user| user["password"].is_null()) + extra - switched_off;
        let without = number("social_only") + number("other_only") + number("no_method");
        // A system that keeps its hashes to itself does not tell who has none.
        assert_eq!(number("live") + without, live + none, "{system}");
        assert!(number("live") >= live, "{system}");
        let no_email =
            count(&|user| user["email_normalized"].is_null() || has(user, "email_invalid"));
        assert!(
            (no_email..=no_email + extra).contains(&number("no_email")),
            "{system}: {n}"
        );
        // It has no bans to tell of.
        let banned = match *system {
            "workos" => 0,
            _ => count(&|user| user["banned"] == true),
        };
        assert_eq!(number("banned"), banned, "{system}");
        if *system != "auth0" {
            let mut schemes: BTreeMap<String, u64> = BTreeMap::new();
            for user in people.iter().filter(|user| !invalid(user)) {
                if let Some(scheme) = user["password"]["scheme"].as_str() {
                    *schemes.entry(family(scheme).to_owned()).or_default() += 1;
                }
            }
            let mut found: BTreeMap<String, u64> = BTreeMap::new();
            for (scheme, count) in n["by_scheme"].as_object().unwrap() {
                *found.entry(family(scheme).to_owned()).or_default() += count.as_u64().unwrap();
            }
            if live == 0 {
                assert_eq!(found, schemes, "{system}");
            }
        }
        assert_duplicates(system, &plan, &people);
        assert_measures(system, &plan);
    }
}

/// Those who share an address, in one spelling or another, are blockers with their rows.
fn assert_duplicates(system: &str, plan: &Value, people: &[&Value]) {
    let mut by_email: BTreeMap<&str, u64> = BTreeMap::new();
    for user in people {
        if let Some(email) = user["email_normalized"].as_str() {
            *by_email.entry(email).or_default() += 1;
        }
    }
    let shared: u64 = by_email.values().filter(|count| **count > 1).sum();
    let risks = plan["risks"].as_array().unwrap();
    let risk = risks.iter().find(|risk| risk["id"] == "duplicate-email");
    let found = risk.map_or(0, |risk| risk["users"].as_u64().unwrap());
    assert_eq!(found, shared, "{system}");
    if let Some(risk) = risk {
        let rows = risk["evidence"]["rows"].as_array().unwrap();
        assert_eq!(u64::try_from(rows.len()).unwrap(), shared, "{system}");
        assert_eq!(risk["severity"], "blocker");
    }
    for risk in risks {
        assert!(
            !risk["remedy"].as_str().unwrap().is_empty(),
            "{system}: {risk}"
        );
    }
}

/// With the gateway in front nobody is worse off than without it.
fn assert_measures(system: &str, plan: &Value) {
    let e = &plan["expected"];
    for what in ["resets", "sign_outs"] {
        let of = |when: &str, end: &str| e[format!("{what}_{when}")][end].as_u64().unwrap();
        assert!(of("after", "least") <= of("after", "most"), "{system}: {e}");
        assert!(of("after", "most") <= of("before", "most"), "{system}: {e}");
    }
    let n = &plan["numbers"];
    assert!(
        e["resets_after"]["least"].as_u64() >= n["reset"].as_u64(),
        "{system}"
    );
    let parts = [
        "native",
        "hashed",
        "live",
        "reset",
        "social_only",
        "other_only",
        "no_method",
    ];
    let sum: u64 = parts.iter().map(|part| n[part].as_u64().unwrap()).sum();
    assert_eq!(Some(sum), n["users"].as_u64(), "{system}");
    let hours: u64 = plan["effort"]["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["hours"].as_u64().unwrap())
        .sum();
    assert_eq!(Some(hours), plan["effort"]["hours"].as_u64(), "{system}");
}

#[test]
fn a_clean_file_blocks_nothing() {
    let scratch = Folder::new("plan-clean");
    let users = scratch.join("users.json");
    std::fs::write(
        &users,
        r#"[{"id":"1","email":"ann@example.com","emailVerified":true,"firstName":"Ann"}]"#,
    )
    .unwrap();
    let from = [
        "--from".to_owned(),
        "generic".to_owned(),
        "--input".to_owned(),
        users.display().to_string(),
    ];
    let output = plan(&from, &[]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{page}");
    assert!(
        !page.contains("Blockers") && !page.contains('\u{1b}'),
        "{page}"
    );
    // What cannot be read is told, and with another code.
    assert_eq!(
        plan(&["--from".to_owned(), "nobody".to_owned()], &[])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        plan(&from, &["--ends", "2026-13-01"]).status.code(),
        Some(2)
    );
}

/// Every file below a folder, with its bytes.
fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Which readers SQLite has: no part of the database.
        if path.to_string_lossy().ends_with("-shm") {
            continue;
        }
        if path.is_dir() {
            all.extend(everything(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

#[test]
fn a_plan_changes_nothing_and_looks_at_the_database_it_is_told() {
    let scratch = Folder::new("plan-target");
    let world = crate::migration_truth::World::of("generic", seeds::of("generic"));
    let database = world.database();
    let config = scratch.join("vestibule.toml");
    std::fs::write(
        &config,
        format!(
            "public_url = \"http://app.test\"\nadmin = \"off\"\n[upstream]\nurl = \"http://127.0.0.1:9\"\n\
             [better_auth]\nsecret = \"{}\"\n[sessions]\nsource = \"sqlite:{}\"\n\
             [routes]\ndefault = \"signed-in\"\nsign_in = \"/sign-in\"\n",
            crate::support::SECRET,
            database.display()
        ),
    )
    .unwrap();
    let (before, exports) = (
        everything(database.parent().unwrap()),
        everything(&seeds::folder()),
    );
    let from = inputs("clerk", &scratch);
    let output = plan(
        &from,
        &["--json", "--config", &config.display().to_string()],
    );
    let plan = json(&output);
    assert_eq!(plan["target"]["kind"], "sqlite");
    assert_eq!(
        plan["target"]["users"].as_u64(),
        Some(u64::try_from(world.people.len()).unwrap())
    );
    let after = everything(database.parent().unwrap());
    let names = |all: &BTreeMap<PathBuf, Vec<u8>>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    for (path, bytes) in &after {
        assert!(before[path] == *bytes, "{} was changed", path.display());
    }
    assert!(
        everything(&seeds::folder()) == exports,
        "an export was changed"
    );
    let risks = plan["risks"].as_array().unwrap();
    assert!(risks.iter().any(|risk| risk["id"] == "target-not-empty"));
    assert!(!risks.iter().any(|risk| risk["id"] == "target"));
}

#[test]
fn whoever_will_notice_is_listed_for_the_operator_alone() {
    let scratch = Folder::new("plan-affected");
    let list = scratch.join("affected.csv");
    let path = list.display().to_string();
    let output = plan(
        &inputs("generic", &scratch),
        &["--quiet", "--list-affected", &path, "--sessions", "no"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    let mode = std::fs::metadata(&list).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut reader = csv::Reader::from_path(&list).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let people = truth("generic");
    assert_eq!(rows.len(), people.len(), "everybody is signed out");
    let invalid = people
        .iter()
        .filter(|user| user["password"]["invalid"] == true)
        .count();
    assert_eq!(rows.iter().filter(|row| &row[3] == "yes").count(), invalid);
    for row in &rows {
        for cell in row {
            assert!(
                !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
                "{cell}"
            );
        }
    }
    let text = std::fs::read_to_string(&list).unwrap();
    assert!(
        !text.contains("$2b$") && !text.contains("$argon2"),
        "a hash is in the list"
    );
}

#[test]
fn the_draft_is_a_configuration_of_ours() {
    let scratch = Folder::new("plan-draft");
    for (system, _) in INPUTS {
        let draft = scratch.join(&format!("{system}.toml"));
        let path = draft.display().to_string();
        let output = plan(&inputs(system, &scratch), &["--json", "--draft", &path]);
        let plan = json(&output);
        assert_eq!(
            plan["draft"]["vestibule"].as_str().unwrap(),
            std::fs::read_to_string(&draft).unwrap()
        );
        let mut check = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        check.args(["check", "--config", &path]).env_clear();
        for variable in plan["draft"]["environment"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            // Some are read: a key of Clerk's names its issuer, a database is opened by its scheme.
            let value = match name {
                "CLERK_PUBLISHABLE_KEY" => "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k",
                "DATABASE_URL" => "postgres://app:secret@127.0.0.1/app",
                _ => "0123456789abcdef0123456789abcdef",
            };
            check.env(name, value);
        }
        let checked = check.output().unwrap();
        let told = String::from_utf8_lossy(&checked.stderr).into_owned()
            + &String::from_utf8_lossy(&checked.stdout);
        assert_eq!(checked.status.code(), Some(0), "{system}: {told}");
        let options = plan["draft"]["better_auth"].as_str().unwrap();
        assert_eq!(
            options.matches('{').count(),
            options.matches('}').count(),
            "{options}"
        );
    }
}
