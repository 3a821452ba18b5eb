//! What an import does beside making people: two rows become one, later exports bring up to date, and metadata has a column. On every
//! database, and taken back again.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vestibule::migration::accounts::{Account, Identifier};
use vestibule::secret::Secret;

use crate::accounts::Place;
use crate::migration_import::Ground;
use crate::support::databases::{Dialect, shared};

/// One layout of each database.
const EACH: [&str; 3] = ["full.sqlite", "full.postgres.sql", "full.mysql.sql"];

const HASH: &str = "$2b$10$abcdefghijklmnopqrstuu5o3VyFyLpHyZbOhtNrKBdCp2xVa0N6y";
const NEWER: &str = "$2b$10$zyxwvutsrqponmlkjihgfe5o3VyFyLpHyZbOhtNrKBdCp2xVa0N6y";

/// 2025-01-01, 2026-06-01, 2026-07-01.
const LONG_AGO: &str = "2025-01-01T00:00:00Z";
const CHANGED: &str = "2026-06-01T00:00:00Z";
const LATER: i64 = 1_782_864_000_000;

/// A plain list, as a file.
fn list(ground: &Ground, name: &str, rows: &[Value]) -> Vec<String> {
    let file = ground.path(name);
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    ["--from", "generic", "--input", &file]
        .map(str::to_owned)
        .to_vec()
}

fn import<'w>(whence: &'w [String], more: &[&'w str]) -> Vec<&'w str> {
    crate::migration_import::step("import", whence, more)
}

/// Somebody of the list.
fn person(id: &str, email: &str, verified: bool) -> Value {
    json!({ "id": id, "email": email, "emailVerified": verified, "name": id, "updatedAt": LONG_AGO, "createdAt": LONG_AGO })
}

fn with(mut row: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        row[key] = value.clone();
    }
    row
}

async fn found(ground: &Ground, id: &str) -> Option<Account> {
    let by = Identifier::Source("generic".to_owned(), id.to_owned());
    ground.place.open().await.find(&by).await.unwrap()
}

/// A field of a user.
async fn field(ground: &Ground, id: &str, column: &str) -> Option<String> {
    let user = found(ground, id).await.unwrap().user_id;
    let sql = format!("SELECT @(\"{column}\") FROM \"user\" WHERE \"id\" = '{user}'");
    ground.place.rows(&sql).await[0][0].clone()
}

/// The accounts elsewhere of a user.
async fn elsewhere(ground: &Ground, user_id: &str) -> Vec<String> {
    let sql = format!(
        "SELECT @(\"accountId\") FROM \"account\" WHERE \"userId\" = '{user_id}' AND \"providerId\" <> 'credential' ORDER BY 1"
    );
    let rows = ground.place.rows(&sql).await;
    rows.into_iter()
        .map(|row| row[0].clone().unwrap())
        .collect()
}

/// That the app's tables hold what they held.
async fn unchanged(ground: &Ground, before: &BTreeMap<String, Vec<String>>, what: &str) {
    let now = ground.content().await;
    for (table, rows) in before {
        let gone: Vec<_> = rows
            .iter()
            .filter(|row| !now[table].contains(row))
            .collect();
        let came: Vec<_> = now[table]
            .iter()
            .filter(|row| !rows.contains(row))
            .collect();
        assert!(
            gone.is_empty() && came.is_empty(),
            "{what} {table}: {gone:?} became {came:?}"
        );
        assert_eq!(rows.len(), now[table].len(), "{what} {table}");
    }
}

/// Outcomes of users, by word.
fn outcomes(done: &Value) -> BTreeMap<String, u64> {
    let users = done["outcomes"]["user"].as_object().unwrap();
    let counts = users.iter();
    counts
        .map(|(word, count)| (word.clone(), count.as_u64().unwrap()))
        .collect()
}

fn counted(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs
        .iter()
        .map(|(word, count)| ((*word).to_owned(), *count))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_rows_of_one_verified_address_become_one_on_request_and_two_again_by_undo() {
    let rows = [
        with(
            person("ada-old", "Ada@m.example", true),
            json!({ "passwordHash": HASH, "passwordAlgorithm": "bcrypt", "accounts": [{ "provider": "github", "id": "7" }],
                "lastSignInAt": CHANGED }),
        ),
        with(
            person("ada-new", "ada@m.example", true),
            json!({ "passwordHash": NEWER, "passwordAlgorithm": "bcrypt", "accounts": [{ "provider": "google", "id": "8" }] }),
        ),
        person("eve-hers", "eve@m.example", true),
        with(
            person("eve-not-proven", "EVE@m.example", false),
            json!({ "accounts": [{ "provider": "google", "id": "9" }] }),
        ),
    ];
    for layout in EACH {
        let ground = Ground::of(layout).await;
        let whence = list(&ground, "list.ndjson", &rows);
        ground.told(&["status"], &[0]).await;
        let before = ground.content().await;

        // Not asked for: nobody becomes another.
        let parked = ground.told(&import(&whence, &["--apply"]), &[1]).await;
        assert_eq!(
            outcomes(&parked),
            counted(&[("created", 2), ("parked", 2)]),
            "{layout}"
        );
        assert!(found(&ground, "ada-new").await.is_none(), "{layout}");
        ground.told(&["undo", "1", "--apply"], &[0]).await;
        unchanged(&ground, &before, layout).await;

        let merge = ["--duplicates", "merge"];
        let dry = ground.told(&import(&whence, &merge), &[1]).await;
        let merge = ["--duplicates", "merge", "--apply"];
        let done = ground.told(&import(&whence, &merge), &[1]).await;
        assert_eq!(done["outcomes"], dry["outcomes"], "{layout}: as foretold");
        assert_eq!(
            outcomes(&done),
            counted(&[("created", 2), ("merged", 1), ("parked", 1)]),
            "{layout}"
        );
        let ada = found(&ground, "ada-old").await.unwrap();
        let other = found(&ground, "ada-new").await.unwrap();
        assert_eq!(ada.user_id, other.user_id, "{layout}");
        assert_eq!(elsewhere(&ground, &ada.user_id).await, ["7", "8"]);
        assert!(ada.old.is_some(), "{layout}: the password of the first");
        // Whoever has not proven the address gets nothing of hers.
        let eve = found(&ground, "eve-hers").await.unwrap();
        assert!(found(&ground, "eve-not-proven").await.is_none(), "{layout}");
        assert_eq!(elsewhere(&ground, &eve.user_id).await, [""; 0]);
        let verified = crate::migration_import::step("verify", &whence, &[]);
        let verified = ground.told(&verified, &[0]).await;
        assert_eq!(verified["missing"], 0, "{layout}: {verified}");

        let run = done["run"].to_string();
        let undone = ground.told(&["undo", &run, "--apply"], &[0]).await;
        assert_eq!(undone["kept"], json!([]), "{layout}");
        unchanged(&ground, &before, layout).await;
        for table in ["legacy_identity", "legacy_credential", "migration_parked"] {
            let table = ground.place.own(table);
            assert_eq!(ground.count(&table).await, 0, "{layout} {table}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_export_brings_up_to_date_whoever_changed_there_and_undo_brings_back_what_was() {
    let metadata = |text: &str| json!({ "metadata": { "plan": text } });
    let first = [
        with(
            person("moved", "moved@m.example", true),
            with(metadata("old"), json!({ "username": "moved" })),
        ),
        person("still", "still@m.example", true),
        person("changed-here", "here@m.example", true),
        person("wants-anothers", "wants@m.example", true),
        person("banned-since", "banned@m.example", true),
        with(
            person("new-password", "pass@m.example", true),
            json!({ "passwordHash": HASH, "passwordAlgorithm": "bcrypt" }),
        ),
        with(
            person("signed-in", "in@m.example", true),
            json!({ "passwordHash": HASH, "passwordAlgorithm": "bcrypt" }),
        ),
    ];
    let since = |row: Value, more: Value| with(with(row, json!({ "updatedAt": CHANGED })), more);
    let second = [
        since(
            person("moved", "away@m.example", false),
            with(
                metadata("new"),
                json!({ "name": "Moved Away", "username": "away", "phone": "+4930123456", "phoneVerified": true,
                    "accounts": [{ "provider": "google", "id": "8" }] }),
            ),
        ),
        with(
            person("still", "still@m.example", true),
            json!({ "name": "not dated" }),
        ),
        since(
            person("changed-here", "here@m.example", true),
            json!({ "name": "there" }),
        ),
        since(
            person("wants-anothers", "still@m.example", true),
            json!({ "name": "another name" }),
        ),
        since(
            person("banned-since", "banned@m.example", true),
            json!({ "banned": true, "banReason": "spam" }),
        ),
        since(
            person("new-password", "pass@m.example", true),
            json!({ "passwordHash": NEWER, "passwordAlgorithm": "bcrypt" }),
        ),
        since(
            person("signed-in", "in@m.example", true),
            json!({ "passwordHash": NEWER, "passwordAlgorithm": "bcrypt" }),
        ),
        person("came", "came@m.example", true),
    ];
    for layout in EACH {
        let ground = Ground::of(layout).await;
        metadata_column(&ground, "TEXT").await;
        let options = options(&ground, "metadata_column = \"metadata\"\n");
        let options = ["--options", options.as_str(), "--apply"];
        let whence = list(&ground, "first.ndjson", &first);
        ground.told(&import(&whence, &options), &[0]).await;
        // Somebody has come and has a password here, somebody else a newer name.
        let accounts = ground.place.open().await;
        let seen = found(&ground, "signed-in").await.unwrap();
        let native = vestibule::migration::accounts::Replacement {
            user_id: seen.user_id.clone(),
            seen: None,
            native: Secret::new("native"),
            state: vestibule::migration::state::State::Rehashed,
            keep: None,
            at: vestibule::time::UnixMs(LATER),
        };
        assert!(accounts.replace_password(&native).await.unwrap());
        let here = found(&ground, "changed-here").await.unwrap().user_id;
        let later = match layout {
            "full.sqlite" => "'2026-07-01T00:00:00.000Z'",
            "full.postgres.sql" => "'2026-07-01 00:00:00+00'",
            // Its own zone is another.
            _ => "CONVERT_TZ('2026-07-01 00:00:00', '+00:00', @@session.time_zone)",
        };
        let renamed = format!(
            "UPDATE \"user\" SET \"name\" = 'here', \"updatedAt\" = {later} WHERE \"id\" = '{here}'"
        );
        ground.place.run(&renamed).await;
        let before = ground.content().await;
        let old_hash = |account: &Account| account.old.as_ref().map(|old| old.sealed.clone());
        let hash = old_hash(&found(&ground, "new-password").await.unwrap());

        let whence = list(&ground, "second.ndjson", &second);
        // By a date after all of it, nobody has changed; whoever is new comes all the same.
        let nobody = [&options[..2], &["--since", "2026-08-01"]].concat();
        let dry = ground.told(&import(&whence, &nobody), &[0]).await;
        assert_eq!(
            outcomes(&dry),
            counted(&[("created", 1), ("skipped", 7)]),
            "{layout}"
        );
        let since = [&options[..], &["--since", "2026-01-01"]].concat();
        let done = ground.told(&import(&whence, &since), &[0]).await;
        assert_eq!(
            outcomes(&done),
            counted(&[
                ("created", 1),
                ("skipped", 1),
                ("unchanged", 1),
                ("updated", 5)
            ]),
            "{layout}: {done}"
        );
        let moved = found(&ground, "moved").await.unwrap();
        assert_eq!(moved.email, "away@m.example", "{layout}");
        assert!(!moved.email_verified, "{layout}");
        for (column, value) in [
            ("name", "Moved Away"),
            ("username", "away"),
            ("phoneNumber", "+4930123456"),
        ] {
            let now = field(&ground, "moved", column).await;
            assert_eq!(now.as_deref(), Some(value), "{layout}");
        }
        let now = field(&ground, "moved", "metadata").await.unwrap();
        let now: Value = serde_json::from_str(&now).unwrap();
        assert_eq!(now, metadata("new"), "{layout}");
        assert_eq!(elsewhere(&ground, &moved.user_id).await, ["8"], "{layout}");
        for (id, name) in [("still", "still"), ("changed-here", "here")] {
            let now = field(&ground, id, "name").await;
            assert_eq!(now.as_deref(), Some(name), "{layout}");
        }
        let wants = found(&ground, "wants-anothers").await.unwrap();
        assert_eq!(
            wants.email, "wants@m.example",
            "{layout}: the old one stays"
        );
        let now = field(&ground, "wants-anothers", "name").await;
        assert_eq!(now.as_deref(), Some("another name"), "{layout}");
        let banned = found(&ground, "banned-since").await.unwrap();
        assert!(banned.banned, "{layout}");
        let newer = old_hash(&found(&ground, "new-password").await.unwrap());
        assert!(newer.is_some() && newer != hash, "{layout}");
        let seen = found(&ground, "signed-in").await.unwrap();
        assert_eq!(seen.password, Some(Secret::new("native")), "{layout}");

        // A second time, nothing is left to do.
        let again = ground.told(&import(&whence, &since), &[0]).await;
        assert_eq!(
            outcomes(&again),
            counted(&[("skipped", 2), ("unchanged", 6)]),
            "{layout}"
        );

        let undone = ground.told(&["undo", "2", "--apply"], &[1]).await;
        let kept = undone["kept"].as_array().unwrap();
        // A hash that was replaced is gone: that is said, and the newer one stays.
        assert_eq!(kept.len(), 1, "{layout}: {undone}");
        let newest = found(&ground, "new-password").await.unwrap();
        assert_eq!(kept[0]["id"], newest.user_id, "{layout}: {undone}");
        assert_eq!(old_hash(&newest), newer, "{layout}");
        unchanged(&ground, &before, &format!("{layout}: as it was before")).await;
        assert!(found(&ground, "came").await.is_none(), "{layout}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_changed_here_after_a_later_export_keeps_that_when_it_is_undone() {
    for layout in EACH {
        let ground = Ground::of(layout).await;
        let first = [
            person("a", "a@m.example", true),
            person("b", "b@m.example", true),
        ];
        let whence = list(&ground, "first.ndjson", &first);
        ground.told(&import(&whence, &["--apply"]), &[0]).await;
        let second = first.map(|row| {
            with(
                row,
                json!({ "updatedAt": CHANGED, "name": "by the second" }),
            )
        });
        let whence = list(&ground, "second.ndjson", &second);
        let since = ["--apply", "--since", "2026-01-01"];
        let done = ground.told(&import(&whence, &since), &[0]).await;
        assert_eq!(outcomes(&done), counted(&[("updated", 2)]), "{layout}");
        let a = found(&ground, "a").await.unwrap().user_id;
        let renamed = format!("UPDATE \"user\" SET \"name\" = 'mine' WHERE \"id\" = '{a}'");
        ground.place.run(&renamed).await;
        let undone = ground.told(&["undo", "2", "--apply"], &[1]).await;
        let kept = undone["kept"].as_array().unwrap();
        assert_eq!(kept.len(), 1, "{layout}: {undone}");
        assert_eq!(kept[0]["id"], a, "{layout}: {undone}");
        for (id, name) in [("a", "mine"), ("b", "b")] {
            let now = field(&ground, id, "name").await;
            assert_eq!(now.as_deref(), Some(name), "{layout}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_banned_since_is_told_of_where_the_app_has_no_place_for_it() {
    for layout in ["core.sqlite", "core.postgres.sql", "core.mysql.sql"] {
        let ground = Ground::of(layout).await;
        let row = person("b", "b@m.example", true);
        let whence = list(&ground, "first.ndjson", std::slice::from_ref(&row));
        ground.told(&import(&whence, &["--apply"]), &[0]).await;
        let before = ground.content().await;
        let banned = with(row, json!({ "updatedAt": CHANGED, "banned": true }));
        let whence = list(&ground, "second.ndjson", &[banned]);
        let since = ["--apply", "--since", "2026-01-01"];
        let done = ground.told(&import(&whence, &since), &[1]).await;
        assert_eq!(outcomes(&done), counted(&[("refused", 1)]), "{layout}");
        unchanged(&ground, &before, layout).await;
        // With the operator's word they are brought up to date without it.
        let options = options(&ground, "without = [\"ban\"]\n");
        let since = [&since[..], &["--options", options.as_str()]].concat();
        let done = ground.told(&import(&whence, &since), &[0]).await;
        assert_eq!(outcomes(&done), counted(&[("updated", 1)]), "{layout}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_banned_since_is_kept_out_though_the_rest_of_their_row_does_not_fit() {
    for (layout, rule) in [
        (
            "full.postgres.sql",
            "ALTER TABLE \"user\" ADD CONSTRAINT short_names CHECK (length(name) <= 30)",
        ),
        (
            "full.mysql.sql",
            "ALTER TABLE \"user\" ADD CONSTRAINT short_names CHECK (CHAR_LENGTH(name) <= 30)",
        ),
    ] {
        let ground = Ground::of(layout).await;
        ground.place.run(rule).await;
        let first = ["b", "c"].map(|id| person(id, &format!("{id}@m.example"), true));
        let whence = list(&ground, "first.ndjson", &first);
        ground.told(&import(&whence, &["--apply"]), &[0]).await;
        let long = "somebody whose name is a long one";
        let second = [
            with(
                first[0].clone(),
                json!({ "updatedAt": CHANGED, "banned": true, "name": long }),
            ),
            with(
                first[1].clone(),
                json!({ "updatedAt": CHANGED, "name": long }),
            ),
        ];
        let whence = list(&ground, "second.ndjson", &second);
        let since = ["--apply", "--since", "2026-01-01"];
        let done = ground.told(&import(&whence, &since), &[1]).await;
        let wanted = counted(&[("refused", 1), ("updated", 1)]);
        assert_eq!(outcomes(&done), wanted, "{layout}: {done}");
        assert_eq!(done["reasons"]["does-not-fit"], 2, "{layout}: {done}");
        let banned = async |id: &str| {
            let banned = field(&ground, id, "banned").await;
            matches!(banned.as_deref(), Some("true" | "t" | "1"))
        };
        assert!(banned("b").await && !banned("c").await, "{layout}");
        for id in ["b", "c"] {
            let name = field(&ground, id, "name").await;
            assert_eq!(name.as_deref(), Some(id), "{layout}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_took_the_old_address_of_another_does_not_become_them() {
    for layout in EACH {
        let ground = Ground::of(layout).await;
        let support = person("a", "support@m.example", true);
        let whence = list(&ground, "first.ndjson", std::slice::from_ref(&support));
        ground.told(&import(&whence, &["--apply"]), &[0]).await;
        // The address is another's now, and whoever had it has another.
        let second = [
            with(
                support,
                json!({ "email": "a2@m.example", "updatedAt": CHANGED }),
            ),
            with(
                person("b", "support@m.example", true),
                json!({ "updatedAt": CHANGED, "accounts": [{ "provider": "github", "id": "7" }],
                    "passwordHash": HASH, "passwordAlgorithm": "bcrypt" }),
            ),
        ];
        let whence = list(&ground, "second.ndjson", &second);
        for since in [&["--apply"][..], &["--apply", "--since", "2026-01-01"]] {
            ground.told(&import(&whence, since), &[1]).await;
            let user = found(&ground, "a").await.unwrap().user_id;
            assert_eq!(
                elsewhere(&ground, &user).await,
                [""; 0],
                "{layout} {since:?}"
            );
            let other = found(&ground, "b").await.map(|other| other.user_id);
            assert_ne!(other, Some(user), "{layout} {since:?}");
        }
        let email = field(&ground, "a", "email").await;
        assert_eq!(email.as_deref(), Some("a2@m.example"), "{layout}");
    }
}

fn options(ground: &Ground, text: &str) -> String {
    let file = ground.path("options.toml");
    std::fs::write(&file, text).unwrap();
    file
}

async fn metadata_column(ground: &Ground, kind: &str) {
    let sql = format!("ALTER TABLE \"user\" ADD COLUMN \"metadata\" {kind}");
    ground.place.run(&sql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_stands_nested_in_its_column_of_any_kind_and_is_left_out_without_one() {
    let hostile = json!({ "__proto__": { "role": "admin" }, "role": "admin", "plan": "gold \u{1F98A}", "quote": "\"\\'\n\t" });
    let row = with(
        person("m", "m@m.example", true),
        json!({ "metadata": hostile, "favourite": "blue" }),
    );
    for (layout, kind) in [
        ("full.sqlite", "TEXT"),
        ("full.postgres.sql", "text"),
        ("full.postgres.sql", "jsonb"),
        ("full.postgres.sql", "json"),
        ("full.mysql.sql", "TEXT"),
        ("full.mysql.sql", "JSON"),
    ] {
        let what = format!("{layout} {kind}");
        let ground = Ground::of(layout).await;
        let whence = list(&ground, "list.ndjson", std::slice::from_ref(&row));
        // Without the column it is left out, and said; so it is where nobody named one.
        let done = ground.told(&import(&whence, &["--apply"]), &[0]).await;
        assert_eq!(done["reasons"]["no-column:metadata"], 1, "{what}: {done}");
        ground.told(&["undo", "1", "--apply"], &[0]).await;

        metadata_column(&ground, kind).await;
        let before = ground.content().await;
        let options = options(&ground, "metadata_column = \"metadata\"\n");
        let applied = ["--apply", "--options", options.as_str()];
        let done = ground.told(&import(&whence, &applied), &[0]).await;
        assert_eq!(done["reasons"]["no-column:metadata"], Value::Null, "{what}");
        let kept = field(&ground, "m", "metadata").await.unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(
            kept,
            json!({ "metadata": hostile, "fields": { "favourite": "blue" } }),
            "{what}"
        );
        assert_ne!(field(&ground, "m", "role").await.as_deref(), Some("admin"));
        let verify = ["--options", options.as_str()];
        let verify = crate::migration_import::step("verify", &whence, &verify);
        let held = ground.told(&verify, &[0]).await;
        assert_eq!(held["equal"], 1, "{what}: {held}");

        // What a later export says of it is written too, and taken back.
        let newer = with(
            row.clone(),
            json!({ "updatedAt": CHANGED, "metadata": { "plan": "iron" } }),
        );
        let whence = list(&ground, "newer.ndjson", &[newer]);
        let between = ground.content().await;
        let since = [&applied[..], &["--since", "2026-01-01"]].concat();
        let done = ground.told(&import(&whence, &since), &[0]).await;
        assert_eq!(outcomes(&done), counted(&[("updated", 1)]), "{what}");
        let kept = field(&ground, "m", "metadata").await.unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(kept["metadata"], json!({ "plan": "iron" }), "{what}");
        let last = ground.told(&["status"], &[0]).await;
        let last = last["runs"][0]["run"].as_u64().unwrap().to_string();
        ground.told(&["undo", &last, "--apply"], &[0]).await;
        unchanged(&ground, &between, &format!("{what}: as it was between")).await;
        let first = (last.parse::<u64>().unwrap() - 1).to_string();
        ground.told(&["undo", &first, "--apply"], &[0]).await;
        unchanged(&ground, &before, &format!("{what}: as it was before")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_whose_slug_is_taken_gets_another_and_the_report_says_so() {
    for layout in EACH {
        let ground = Ground::of(layout).await;
        let all = crate::migration_import::clerk();
        let organizations = |name: &str, ids: [&str; 2], slugs: [&str; 2]| {
            let rows = [0, 1].map(|at| {
                json!({ "object": "organization", "id": ids[at], "name": "Any", "slug": slugs[at],
                    "public_metadata": {}, "private_metadata": {}, "created_at": 1_646_127_015_123_i64 })
            });
            let file = ground.path(name);
            std::fs::write(&file, json!({ "data": rows, "total_count": 2 }).to_string()).unwrap();
            let mut words = all[..4].to_vec();
            words.extend(["--input".to_owned(), format!("organizations={file}")]);
            words
        };
        let report = ground.path("report.ndjson");
        let told = ["--apply", "--report", report.as_str()];
        let whence = organizations("apart.json", ["org_1", "org_2"], ["one", "two"]);
        let done = ground.told(&import(&whence, &told), &[0, 1]).await;
        assert_eq!(done["reasons"]["slug-taken"], Value::Null, "{layout}");
        let whence = organizations("same.json", ["org_3", "org_4"], ["one", "three"]);
        let done = ground.told(&import(&whence, &told), &[0, 1]).await;
        assert_eq!(done["reasons"]["slug-taken"], 1, "{layout}: {done}");
        let rows = std::fs::read_to_string(&report).unwrap();
        let row = rows.lines().find(|line| line.contains("slug-taken"));
        let row: Value = serde_json::from_str(row.unwrap()).unwrap();
        assert_eq!(
            (&row["source_id"], &row["outcome"], &row["reason"]),
            (&json!("org_3"), &json!("created"), &json!("slug-taken")),
            "{layout}"
        );
        let slugs =
            "SELECT @(\"slug\") FROM \"organization\" WHERE \"slug\" LIKE 'one%' ORDER BY 1";
        assert_eq!(ground.place.rows(slugs).await.len(), 2, "{layout}");
    }
}

/// A role of the app's PostgreSQL that owns nothing, for which row-level security holds.
fn watched(policies: &str) -> Place {
    let server = shared(Dialect::Postgres);
    let dump =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/db/full.postgres.sql");
    let database = server.load(&dump);
    let role = format!("mover_{database}");
    server.sql(
        &database,
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'correct-horse'; GRANT CREATE ON DATABASE {database} TO {role}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}; \
             GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}; \
             ALTER TABLE \"user\" ENABLE ROW LEVEL SECURITY; ALTER TABLE account ENABLE ROW LEVEL SECURITY; \
             ALTER TABLE \"twoFactor\" ENABLE ROW LEVEL SECURITY; {}",
            policies.replace("ROLE", &role)
        ),
    );
    Place::at(format!(
        "postgres://{role}:correct-horse@127.0.0.1:{}/{database}",
        server.port
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_row_level_security_everybody_moves_where_its_policies_allow_it() {
    let ground = Ground::on(watched(ALLOWED));
    let whence = crate::migration_import::clerk();
    ground.told(&["status"], &[0]).await;
    let before = ground.content().await;
    let done = ground.told(&import(&whence, &["--apply"]), &[1]).await;
    let plain = Ground::of("full.postgres.sql").await;
    let same = plain.told(&import(&whence, &["--apply"]), &[1]).await;
    assert_eq!(done["outcomes"], same["outcomes"]);
    let verify = crate::migration_import::step("verify", &whence, &[]);
    let held = ground.told(&verify, &[0]).await;
    assert_eq!(held["equal"], done["outcomes"]["user"]["created"]);
    ground.told(&["undo", "1", "--apply"], &[0]).await;
    unchanged(&ground, &before, "policies").await;

    // Where no policy allows it, it is said, and nothing is written.
    let ground = Ground::on(watched(""));
    let (code, _, err) = ground.migrate(&import(&whence, &["--apply"])).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("row-level security"), "{err}");
    let identities = ground.place.own("legacy_identity");
    assert_eq!(ground.count(&identities).await, 0);
}

/// Policies that allow everything.
const ALLOWED: &str = "CREATE POLICY u ON \"user\" TO ROLE USING (true) WITH CHECK (true); \
     CREATE POLICY a ON account TO ROLE USING (true) WITH CHECK (true); \
     CREATE POLICY t ON \"twoFactor\" TO ROLE USING (true) WITH CHECK (true)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_row_level_security_ids_in_char_columns_stay_whole_and_a_name_too_long_for_its_domain_is_refused()
 {
    let narrow = "CREATE DOMAIN letters AS varchar(20); CREATE DOMAIN short AS letters; \
         ALTER TABLE \"user\" ALTER COLUMN id TYPE char(36), ALTER COLUMN name TYPE short; \
         ALTER TABLE account ALTER COLUMN id TYPE char(36), ALTER COLUMN \"userId\" TYPE char(36)";
    let ground = Ground::on(watched(&format!("{ALLOWED}; {narrow}")));
    let long = "a name of more than twenty letters";
    let rows: Vec<Value> = ["ada", "eve", "odd"]
        .iter()
        .map(|id| {
            with(
                person(id, &format!("{id}@m.example"), true),
                json!({ "name": if *id == "odd" { long } else { id }, "accounts": [{ "provider": "github", "id": id }] }),
            )
        })
        .collect();
    let whence = list(&ground, "list.ndjson", &rows);
    let done = ground.told(&import(&whence, &["--apply"]), &[1]).await;
    let wanted = counted(&[("created", 2), ("refused", 1)]);
    assert_eq!(outcomes(&done), wanted, "{done}");
    assert_eq!(done["reasons"]["does-not-fit"], 1, "{done}");
    for id in ["ada", "eve"] {
        let user = found(&ground, id).await.unwrap().user_id;
        assert!(user.len() > 1, "{user}");
        let now = field(&ground, id, "name").await;
        assert_eq!(now.as_deref(), Some(id));
        assert_eq!(elsewhere(&ground, &user).await, [id]);
    }
    let ids = "SELECT @(\"id\") FROM \"account\"";
    for row in ground.place.rows(ids).await {
        assert!(row[0].as_ref().unwrap().len() > 1, "{row:?}");
    }
    assert!(found(&ground, "odd").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_username_that_becomes_what_mariadb_holds_to_be_anothers_refuses_that_row_alone() {
    let named = |id: &str, username: &str| {
        with(
            person(id, &format!("{id}@m.example"), true),
            json!({ "username": username }),
        )
    };
    let since = |row: Value| with(row, json!({ "updatedAt": CHANGED }));
    let ground = Ground::of("full.mysql.sql").await;
    let first = [named("a", "jose"), named("b", "other"), named("c", "third")];
    let whence = list(&ground, "first.ndjson", &first);
    ground.told(&import(&whence, &["--apply"]), &[0]).await;
    let second = [
        since(named("a", "jose")),
        since(named("b", "jos\u{e9}")),
        since(named("c", "renamed")),
    ];
    let whence = list(&ground, "second.ndjson", &second);
    let since = ["--apply", "--since", "2026-01-01"];
    let done = ground.told(&import(&whence, &since), &[1]).await;
    let outcomes = outcomes(&done);
    assert_eq!(outcomes.get("refused"), Some(&1), "{done}");
    assert_eq!(outcomes.get("updated"), Some(&2), "{done}");
    for (id, username) in [("a", "jose"), ("b", "other"), ("c", "renamed")] {
        let now = field(&ground, id, "username").await;
        assert_eq!(now.as_deref(), Some(username), "{done}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_as_long_as_its_column_is_changed_and_undo_says_that_it_is_not_brought_back() {
    for layout in EACH {
        let ground = Ground::of(layout).await;
        let old = person("p", "p@m.example", true);
        let whence = list(&ground, "first.ndjson", std::slice::from_ref(&old));
        ground.told(&import(&whence, &["--apply"]), &[0]).await;
        let picture = format!("data:image/png;base64,{}", "A".repeat(65_000));
        let painted = format!("UPDATE \"user\" SET \"image\" = '{picture}'");
        ground.place.run(&painted).await;
        let newer = with(
            old,
            json!({ "updatedAt": CHANGED, "name": "newer", "image": "https://m.example/p.png" }),
        );
        let whence = list(&ground, "second.ndjson", &[newer]);
        let since = ["--apply", "--since", "2026-01-01"];
        let done = ground.told(&import(&whence, &since), &[0]).await;
        assert_eq!(outcomes(&done), counted(&[("updated", 1)]), "{layout}");
        let run = done["run"].to_string();
        let undone = ground.told(&["undo", &run, "--apply"], &[1]).await;
        let kept = undone["kept"].to_string();
        assert!(kept.contains("the newer image"), "{layout}: {kept}");
        for (column, value) in [("name", "p"), ("image", "https://m.example/p.png")] {
            let now = field(&ground, "p", column).await;
            assert_eq!(now.as_deref(), Some(value), "{layout}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_thousand_entries_of_one_address_are_each_told_of() {
    let rows: Vec<Value> = (0..1_100)
        .map(|at| json!({ "email": "same@m.example", "emailVerified": true, "name": format!("n{at}") }))
        .chain([json!({ "email": "other@m.example", "emailVerified": true, "name": "other" })])
        .collect();
    let ground = Ground::of("full.sqlite").await;
    let whence = list(&ground, "list.ndjson", &rows);
    let done = ground.told(&import(&whence, &["--apply"]), &[1]).await;
    let outcomes = outcomes(&done);
    assert_eq!(outcomes.get("created"), Some(&2), "{done}");
    assert_eq!(outcomes.values().sum::<u64>(), 1_101, "{done}");
    let rows = ground.place.own("migration_row");
    assert_eq!(ground.count(&rows).await, 1_101);
}

/// Forty people, three of whom have a name of this kind.
fn forty(ground: &Ground, odd: &str) -> Vec<String> {
    let rows: Vec<Value> = (0..40)
        .map(|at| {
            let name = match at % 15 {
                7 => format!("{odd} {at}"),
                _ => format!("Zoë Ünë {at}"),
            };
            let row = person(&format!("p{at}"), &format!("p{at}@m.example"), true);
            with(
                row,
                json!({ "name": name, "passwordHash": HASH, "passwordAlgorithm": "bcrypt" }),
            )
        })
        .collect();
    list(ground, "forty.ndjson", &rows)
}

/// Three of forty are refused alone, with the reason, and come when the database takes them.
async fn three_are_refused(ground: &Ground, what: &str, odd: &str, named: &str, mend: &str) {
    let whence = forty(ground, odd);
    let report = ground.path("report.ndjson");
    let told = ["--apply", "--report", report.as_str()];
    let done = ground.told(&import(&whence, &told), &[1]).await;
    let wanted = counted(&[("created", 37), ("refused", 3)]);
    assert_eq!(outcomes(&done), wanted, "{what}: {done}");
    assert_eq!(done["reasons"]["does-not-fit"], 3, "{what}: {done}");
    let text = std::fs::read_to_string(&report).unwrap();
    assert!(!text.contains(odd), "{what}: values are not told: {text}");
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|row| row["outcome"] != "created")
        .collect();
    let ids: Vec<&str> = rows
        .iter()
        .map(|row| row["source_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["p7", "p22", "p37"], "{what}");
    for row in &rows {
        assert_eq!(row["outcome"], "refused", "{what}: {row}");
        let mut reasons = row["reason"].as_str().unwrap().split(',');
        assert!(
            reasons.any(|reason| reason == "does-not-fit"),
            "{what}: {row}"
        );
        assert!(
            row["detail"].as_str().unwrap().contains(named),
            "{what}: {row}"
        );
    }
    ground.place.run(mend).await;
    let done = ground.told(&import(&whence, &["--apply"]), &[0]).await;
    let wanted = counted(&[("created", 3), ("unchanged", 37)]);
    assert_eq!(outcomes(&done), wanted, "{what}: {done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_letters_that_mariadbs_latin1_has_not_refuses_that_row_alone() {
    let ground = Ground::of("full.mysql.sql").await;
    let kind = |set: &str| {
        format!("ALTER TABLE \"user\" MODIFY \"name\" VARCHAR(255) CHARACTER SET {set} NOT NULL")
    };
    ground.place.run(&kind("latin1")).await;
    three_are_refused(&ground, "latin1", "مريم", "name", &kind("utf8mb4")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_breaks_a_rule_of_the_apps_is_refused_alone() {
    for (layout, rule, named, mend) in [
        (
            "full.sqlite",
            "CREATE TRIGGER short BEFORE INSERT ON \"user\" WHEN length(NEW.\"name\") > 30 BEGIN SELECT RAISE(ABORT, 'no'); END",
            "rules",
            "DROP TRIGGER short",
        ),
        (
            "full.postgres.sql",
            "ALTER TABLE \"user\" ADD CONSTRAINT short_names CHECK (length(name) <= 30)",
            "short_names",
            "ALTER TABLE \"user\" DROP CONSTRAINT short_names",
        ),
        (
            "full.mysql.sql",
            "ALTER TABLE \"user\" ADD CONSTRAINT short_names CHECK (CHAR_LENGTH(name) <= 30)",
            "short_names",
            "ALTER TABLE \"user\" DROP CONSTRAINT short_names",
        ),
    ] {
        let ground = Ground::of(layout).await;
        ground.place.run(rule).await;
        let odd = "somebody whose name is a long one";
        three_are_refused(&ground, layout, odd, named, mend).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_that_breaks_a_rule_of_the_apps_is_refused_alone() {
    for (layout, rule) in [
        (
            "full.sqlite",
            "CREATE TRIGGER none BEFORE INSERT ON \"organization\" WHEN NEW.\"slug\" = 'unwanted' BEGIN SELECT RAISE(ABORT, 'no'); END",
        ),
        (
            "full.postgres.sql",
            "ALTER TABLE organization ADD CONSTRAINT no_acme CHECK (slug <> 'unwanted')",
        ),
        (
            "full.mysql.sql",
            "ALTER TABLE organization ADD CONSTRAINT no_acme CHECK (slug <> 'unwanted')",
        ),
    ] {
        let all = crate::migration_import::clerk();
        let plain = Ground::of(layout).await;
        let usual = plain.told(&import(&all, &["--apply"]), &[1]).await;
        let ground = Ground::of(layout).await;
        let rows = [("org_1", "unwanted"), ("org_2", "other")].map(|(id, slug)| {
            json!({ "object": "organization", "id": id, "name": "Any", "slug": slug, "public_metadata": {},
                "private_metadata": {}, "created_at": 1_646_127_015_123_i64 })
        });
        let file = ground.path("two.json");
        std::fs::write(&file, json!({ "data": rows, "total_count": 2 }).to_string()).unwrap();
        let mut whence = all[..4].to_vec();
        whence.extend(["--input".to_owned(), format!("organizations={file}")]);
        ground.place.run(rule).await;
        let done = ground.told(&import(&whence, &["--apply"]), &[1]).await;
        let organizations = &done["outcomes"]["organization"];
        assert_eq!(
            organizations,
            &json!({ "created": 1, "refused": 1 }),
            "{layout}"
        );
        assert_eq!(done["reasons"]["does-not-fit"], 1, "{layout}: {done}");
        assert_eq!(usual["reasons"]["does-not-fit"], Value::Null, "{layout}");
    }
}
