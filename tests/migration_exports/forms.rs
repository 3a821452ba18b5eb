//! The other forms of the same exports say the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use vestibule::migration::import::record::{ImportedUser, Oddity, Password};

use super::target::password_in;
use super::{World, files, folder, whole};

/// What is compared of a user: by name, as text.
fn facts(user: &ImportedUser) -> BTreeMap<&'static str, String> {
    let password = match &user.password {
        Password::Hash { scheme, stored, .. } => {
            let params: Vec<String> = stored
                .params
                .iter()
                .map(|(name, value)| format!("{name}={}", value.expose()))
                .collect();
            format!("{scheme} {} {params:?}", stored.hash.expose())
        }
        other => format!("{other:?}"),
    };
    let socials: Vec<_> = user
        .socials
        .iter()
        .map(|one| (one.provider.clone(), one.account_id.clone()))
        .collect();
    let key = user
        .factor
        .as_ref()
        .map(|factor| factor.key.as_ref().map(|key| key.0.to_vec()));
    [
        ("email", format!("{:?}", user.email)),
        ("exported", format!("{:?}", user.email_as_exported)),
        ("verified", user.email_verified.to_string()),
        ("others", format!("{:?}", user.other_emails)),
        ("name", user.name.clone()),
        ("username", format!("{:?}", user.display_username)),
        ("phone", format!("{:?}", user.phone)),
        ("image", format!("{:?}", user.image)),
        ("created", format!("{:?}", user.created_at)),
        ("signed_in", format!("{:?}", user.last_sign_in_at)),
        ("ban", format!("{:?}", user.ban)),
        ("anonymous", user.anonymous.to_string()),
        ("password", password),
        ("socials", format!("{socials:?}")),
        ("factor", format!("{key:?}")),
        ("metadata", Value::Object(user.metadata.clone()).to_string()),
        (
            "notes",
            format!(
                "{:?}",
                user.notes
                    .iter()
                    .map(|note| note.what)
                    .collect::<std::collections::BTreeSet<_>>()
            ),
        ),
    ]
    .into()
}

/// Everybody of the first is in the second, or everybody of the second in the first; facts but the ones left out are the same.
fn same(one: &World, other: &World, but: &[&str]) -> usize {
    let by_id = |world: &World| -> BTreeMap<String, ImportedUser> {
        let users = world.users().into_iter();
        users.map(|user| (user.source_id.clone(), user)).collect()
    };
    let (one, other) = (by_id(one), by_id(other));
    let mut compared = 0;
    for (id, user) in &other {
        let Some(first) = one.get(id) else { continue };
        let (mut left, mut right) = (facts(first), facts(user));
        for name in but {
            left.remove(name);
            right.remove(name);
        }
        assert_eq!(left, right, "{id}");
        compared += 1;
    }
    compared
}

#[test]
fn clerk_with_a_mark_and_returns_and_from_support() {
    let mut plain = World::new("clerk", json!({}));
    plain.file("users", "users.csv");
    let mut marked = World::new("clerk", json!({}));
    marked.file("users", "users_bom_crlf.csv");
    assert!(same(&plain, &marked, &[]) > 0);

    let mut support = World::new("clerk", json!({}));
    support.file("users", "support_export.json");
    // It does not say which addresses are verified, nor which numbers.
    let unsaid = ["verified", "others", "phone", "metadata", "notes"];
    let compared = same(&plain, &support, &unsaid);
    assert_eq!(compared, support.users().len());
    assert!(support.users().iter().all(|user| !user.email_verified));
    let mut assumed = World::new("clerk", json!({ "assume_verified": true }));
    assumed.file("users", "support_export.json");
    assert!(assumed.users().iter().any(|user| user.email_verified));
}

#[test]
fn clerk_says_who_is_in_one_of_two_inputs_and_who_is_there_twice() {
    let truth = super::json(&folder("clerk").join("truth.json"));
    let world = whole("clerk");
    let noted: Vec<String> = world
        .users()
        .into_iter()
        .filter(|user| user.notes.iter().any(|note| note.what == Oddity::OnlyInOne))
        .map(|user| user.source_id)
        .collect();
    let mut wanted: Vec<String> = ["only_in_api", "only_in_csv"]
        .iter()
        .flat_map(|list| truth[*list].as_array().unwrap())
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    let mut noted = noted;
    noted.sort();
    wanted.sort();
    assert_eq!(noted, wanted);
    let twice = truth["api_repeated_once"].as_str().unwrap();
    let found = world
        .users()
        .into_iter()
        .filter(|user| user.source_id == twice);
    assert_eq!(found.count(), 1, "one user of two pages");
    let listed: u64 = files("clerk", "api_users_page", ".json")
        .iter()
        .map(|name| world.tallies[name].entries)
        .sum();
    assert_eq!(listed, truth["api_total_distinct"].as_u64().unwrap() + 1);
    assert_eq!(
        world.tallies["users.csv"].entries,
        truth["csv_rows"].as_u64().unwrap()
    );
}

#[test]
fn organizations_members_and_invitations_are_read() {
    use vestibule::migration::import::record::Record;
    for provider in ["clerk", "workos"] {
        let world = whole(provider);
        let records = world.records();
        let count =
            |which: fn(&Record) -> bool| records.iter().filter(|record| which(record)).count();
        let organizations = count(|record| matches!(record, Record::Organization(_)));
        let members = count(|record| matches!(record, Record::Member(_)));
        assert_eq!(
            organizations as u64,
            world
                .tallies
                .iter()
                .find(|(name, _)| name.contains("organizations"))
                .unwrap()
                .1
                .entries,
            "{provider}"
        );
        assert!(members > 0, "{provider}");
        for record in &records {
            match record {
                Record::Organization(one) => {
                    assert!(!one.name.is_empty() && !one.slug.is_empty());
                    assert!(
                        one.slug
                            .chars()
                            .all(|letter| letter.is_alphanumeric() || letter == '-'),
                        "{}",
                        one.slug
                    );
                }
                Record::Member(one) => {
                    assert!(
                        !one.role.contains(':') && !one.role.is_empty(),
                        "{}",
                        one.role
                    );
                    assert!(
                        ["owner", "admin", "member"].contains(&one.role.as_str())
                            || one
                                .notes
                                .iter()
                                .any(|note| note.what == Oddity::UnknownRole)
                    );
                }
                Record::Invitation(one) => assert!(one.email.contains('@')),
                _ => {}
            }
        }
    }
}

#[test]
fn auth0_by_the_extension_and_by_the_api() {
    let mut job = World::new("auth0", json!({}));
    job.file("users", "users_export.ndjson");
    let mut extension = World::new("auth0", json!({}));
    extension.file("users", "users_extension_default_fields.ndjson");
    // What the extension leaves out by itself.
    let left_out = [
        "phone",
        "username",
        "image",
        "signed_in",
        "ban",
        "socials",
        "factor",
        "metadata",
        "password",
        "notes",
    ];
    assert!(!extension.users().is_empty());
    assert_eq!(same(&job, &extension, &left_out), extension.users().len());
    let mut api = World::new("auth0", json!({}));
    api.file("users", "api_users_page0.json");
    assert!(!api.users().is_empty());
    assert_eq!(same(&job, &api, &[]), api.users().len());
}

#[test]
fn supabase_as_csv_as_a_dump_and_by_the_api() {
    let mut tables = World::new("supabase", json!({}));
    tables.file("users", "auth_users.json");
    let mut csv = World::new("supabase", json!({}));
    csv.file("users", "auth_users.csv");
    assert_eq!(same(&tables, &csv, &[]), tables.users().len());

    let whole = whole("supabase");
    for form in [copied, inserted] {
        let mut text = String::from(
            "-- PostgreSQL database dump\n\\restrict abc\nSET statement_timeout = 0;\nCREATE FUNCTION auth.uid() RETURNS uuid AS $$ select 'it''s; ' -- don't\n $$ LANGUAGE sql;\n",
        );
        for (table, file) in [
            ("auth.users", "auth_users.json"),
            ("auth.identities", "auth_identities.json"),
            ("auth.mfa_factors", "auth_mfa_factors.json"),
        ] {
            let rows = super::json(&folder("supabase").join(file));
            text += &form(table, rows.as_array().unwrap(), '"');
            // A table that says nothing of users.
            text += &form("auth.schema_migrations", &[json!({ "version": "1" })], '"');
        }
        let mut dump = World::new("supabase", json!({}));
        dump.bytes("users", "dump.sql", text.as_bytes());
        assert_eq!(same(&whole, &dump, &[]), whole.users().len());
        assert!(dump.tallies["dump.sql"].passed_over > 0);
    }

    let mut api = World::new("supabase", json!({}));
    api.file("users", "admin_api_users_page1.json");
    let unsaid = ["password", "factor", "notes", "phone", "ban", "signed_in"];
    assert!(!api.users().is_empty());
    assert_eq!(same(&whole, &api, &unsaid), api.users().len());
    for user in api.users() {
        assert!(!matches!(user.password, Password::Hash { .. }));
    }
}

#[test]
fn firebase_without_a_row_of_names_and_with_the_consoles_parameters() {
    let json_file = whole("firebase");
    let mut csv = World::new(
        "firebase",
        json!({ "hash_config": { "file": "hash_config_console.txt" } }),
    );
    csv.file("users", "users_noheader.csv");
    // Second factors are not in the CSV.
    assert_eq!(
        same(&json_file, &csv, &["factor", "notes"]),
        json_file.users().len()
    );
    // Without the parameters no hash can be used, and every one of them is reported.
    let mut without = World::new("firebase", json!({}));
    without.file("users", "users.json");
    let hashed = |world: &World| {
        let users = world.users().into_iter();
        users
            .filter(|user| matches!(user.password, Password::Hash { .. }))
            .count()
    };
    let truth = super::json(&folder("firebase").join("truth.json"));
    let truth = truth["users"].as_array().unwrap().iter();
    let wanted = truth.filter(|row| password_in(row).is_some()).count();
    assert!(wanted > 0);
    assert_eq!(hashed(&json_file), wanted);
    assert_eq!(hashed(&without), 0);
    let reported = without.users().into_iter();
    let reported = reported.filter(|user| {
        user.notes
            .iter()
            .any(|note| note.what == Oddity::InvalidHash && note.detail.contains("missing"))
    });
    assert!(reported.count() >= wanted);
}

#[test]
fn a_plain_list_as_json_as_csv_and_with_other_names() {
    let list = whole("generic");
    let mut csv = World::new("generic", json!({}));
    csv.file("users", "users_export.csv");
    assert_eq!(csv.users().len(), list.users().len());
    // Whoever has no address is known by the line, which is another there.
    let wanted = list.users().into_iter();
    let wanted = wanted.filter(|user| user.email_as_exported.is_some());
    let wanted = wanted.count();
    assert!(wanted > 0);
    assert!(same(&list, &csv, &["notes"]) >= wanted);

    // The same with columns of other names, and one object a line.
    let rows = super::json(&folder("generic").join("users_export.json"));
    let mut text = String::new();
    for row in rows.as_array().unwrap() {
        let renamed = json!({ "person": { "mail": row["email"] }, "given_name": row["firstName"], "surname": row["lastName"],
            "ok": row["emailVerified"], "h": row["passwordHash"], "a": row["passwordAlgorithm"], "p": row["oauthProvider"] });
        writeln!(text, "{renamed}").unwrap();
    }
    let columns = json!({ "columns": { "email": "/person/mail", "emailVerified": "ok", "passwordHash": "h", "passwordAlgorithm": "a", "oauthProvider": "p" } });
    let mut renamed = World::new("generic", columns);
    renamed.bytes("users", "lines.ndjson", text.as_bytes());
    assert!(same(&list, &renamed, &["notes"]) >= wanted);
    assert_eq!(renamed.users().len(), list.users().len());
}

#[test]
fn two_rows_of_one_address_without_ids_are_two_people() {
    let mut world = World::new("generic", json!({}));
    let text = "email,firstName\nann@example.com,Ann\nann@example.com,Other\n";
    world.bytes("users", "x.csv", text.as_bytes());
    let users = world.users();
    let ids: Vec<&str> = users.iter().map(|user| user.source_id.as_str()).collect();
    assert_eq!(ids, ["ann@example.com", "ann@example.com#2"]);
    assert_eq!(users[1].name, "Other");
}

#[test]
fn django_wordpress_and_authjs_as_dumps() {
    let dumped = whole("django");
    let rows = super::json(&folder("django").join("dumpdata.json"));
    let rows: Vec<Value> = rows
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["model"] == "auth.user")
        .map(|row| {
            let mut fields = row["fields"].clone();
            let map = fields.as_object_mut().unwrap();
            map.retain(|_, value| !value.is_array());
            map.insert("id".into(), row["pk"].clone());
            fields
        })
        .collect();
    for form in [copied, inserted] {
        let mut dump = World::new("django", json!({}));
        dump.bytes(
            "dump",
            "dump.sql",
            form("public.auth_user", &rows, '"').as_bytes(),
        );
        assert_eq!(same(&dumped, &dump, &[]), rows.len());
    }

    let users = whole("wordpress");
    let mut reader = csv::Reader::from_path(folder("wordpress").join("wp_users.csv")).unwrap();
    let names: Vec<String> = reader
        .headers()
        .unwrap()
        .iter()
        .map(str::to_owned)
        .collect();
    let rows: Vec<Value> = reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            let pairs = names
                .iter()
                .cloned()
                .zip(record.iter().map(|cell| json!(cell)));
            Value::Object(pairs.collect())
        })
        .collect();
    let mut text = String::from("-- MySQL dump 10.13\n/*!40101 SET NAMES utf8mb4 */;\n");
    let columns: Vec<String> = names
        .iter()
        .map(|name| format!("  `{name}` longtext NOT NULL DEFAULT ''"))
        .collect();
    writeln!(
        text,
        "CREATE TABLE `wp_users` (\n{},\n  PRIMARY KEY (`ID`)\n) ENGINE=InnoDB;",
        columns.join(",\n")
    )
    .unwrap();
    text += &mysql("wp_users", &names, &rows);
    let meta = |id: &Value, key: &str, value: &str| json!({ "umeta_id": "1", "user_id": id, "meta_key": key, "meta_value": value });
    let metas = [
        meta(
            &rows[0]["ID"],
            "wp_capabilities",
            "a:1:{s:13:\"administrator\";b:1;}",
        ),
        meta(&rows[0]["ID"], "rich_editing", "true"),
    ];
    let meta_names = ["umeta_id", "user_id", "meta_key", "meta_value"].map(str::to_owned);
    text += "CREATE TABLE `wp_usermeta` (`umeta_id` bigint, `user_id` bigint, `meta_key` varchar(255), `meta_value` longtext, KEY `k` (`meta_key`(191)));\n";
    text += &mysql("wp_usermeta", &meta_names, &metas);
    let mut dump = World::new(
        "wordpress",
        json!({ "roles": { "administrator": "admin" } }),
    );
    dump.bytes("users", "dump.sql", text.as_bytes());
    assert_eq!(same(&users, &dump, &[]), rows.len());
    let admins: Vec<String> = dump
        .users()
        .into_iter()
        .filter(|user| user.roles == ["admin"])
        .map(|user| user.source_id)
        .collect();
    assert_eq!(admins, [rows[0]["ID"].as_str().unwrap()]);

    let tables = whole("authjs");
    let file = super::json(&folder("authjs").join("tables.json"));
    let mut text = String::from("-- PostgreSQL database dump\n");
    for table in ["User", "Account"] {
        text += &copied(
            &format!("public.\"{table}\""),
            file[table].as_array().unwrap(),
            '"',
        );
    }
    let mut dump = World::new("authjs", json!({}));
    dump.bytes("tables", "dump.sql", text.as_bytes());
    assert_eq!(same(&tables, &dump, &[]), tables.users().len());
}

#[test]
fn a_role_of_the_old_system_is_none_here_unless_the_operator_says_so() {
    let plain = whole("firebase");
    assert!(plain.users().iter().all(|user| user.roles.is_empty()));
    let noted = plain.users().into_iter().filter(|user| {
        user.notes
            .iter()
            .any(|note| note.what == Oddity::UnknownRole)
    });
    assert!(noted.count() > 0);
    let mut mapped = World::new(
        "firebase",
        json!({ "hash_config": { "file": "hash_config.json" }, "roles": { "admin": "moderator" } }),
    );
    mapped.file("users", "users.json");
    assert!(
        mapped
            .users()
            .iter()
            .any(|user| user.roles == ["moderator"])
    );
}

// ------------------------------------------------------------------------------------------------------------- dumps are written

fn cells(row: &Value, names: &[String]) -> Vec<Option<String>> {
    let cells = names.iter().map(|name| match &row[name] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(if *flag { "t" } else { "f" }.to_owned()),
        other => Some(other.to_string()),
    });
    cells.collect()
}

fn names_of(rows: &[Value]) -> Vec<String> {
    let mut names: Vec<String> = rows
        .iter()
        .flat_map(|row| row.as_object().unwrap().keys().cloned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// As `pg_dump` writes it.
fn copied(table: &str, rows: &[Value], quote: char) -> String {
    let names = names_of(rows);
    let quoted: Vec<String> = names
        .iter()
        .map(|name| format!("{quote}{name}{quote}"))
        .collect();
    let mut text = format!("\nCOPY {table} ({}) FROM stdin;\n", quoted.join(", "));
    for row in rows {
        let cells = cells(row, &names).into_iter().map(|cell| match cell {
            None => "\\N".to_owned(),
            Some(cell) => cell
                .replace('\\', "\\\\")
                .replace('\t', "\\t")
                .replace('\n', "\\n")
                .replace('\r', "\\r"),
        });
        text += &cells.collect::<Vec<_>>().join("\t");
        text.push('\n');
    }
    text += "\\.\n\n";
    text
}

/// As `pg_dump --inserts` writes it.
fn inserted(table: &str, rows: &[Value], quote: char) -> String {
    let names = names_of(rows);
    let quoted: Vec<String> = names
        .iter()
        .map(|name| format!("{quote}{name}{quote}"))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = cells(row, &names).into_iter().map(|cell| match cell {
            None => "NULL".to_owned(),
            Some(cell) => format!("'{}'::text", cell.replace('\'', "''")),
        });
        let cells: Vec<String> = cells.collect();
        writeln!(
            text,
            "INSERT INTO {table} ({}) VALUES ({});",
            quoted.join(", "),
            cells.join(", ")
        )
        .unwrap();
    }
    text
}

/// As `mysqldump` writes it: many rows of one INSERT, without names of columns.
fn mysql(table: &str, names: &[String], rows: &[Value]) -> String {
    let rows = rows.iter().map(|row| {
        let cells = cells(row, names).into_iter().map(|cell| match cell {
            None => "NULL".to_owned(),
            Some(cell) if !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit()) => {
                cell
            }
            Some(cell) => {
                let cell = cell
                    .replace('\\', "\\\\")
                    .replace('\'', "\\'")
                    .replace('"', "\\\"");
                format!("'{}'", cell.replace('\n', "\\n").replace('\r', "\\r"))
            }
        });
        format!("({})", cells.collect::<Vec<_>>().join(","))
    });
    format!(
        "INSERT INTO `{table}` VALUES {};\n",
        rows.collect::<Vec<_>>().join(",")
    )
}
