//! People of the old systems, from their sample exports: who they are, what was exported of their passwords, and what they type.
//!
//! A reader for tests: it takes the exports as they are and refuses nothing. What an importer makes of the odd rows is not asked here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One person of one old system.
#[derive(Clone, Debug)]
pub struct Person {
    /// The system.
    pub system: String,
    /// Their id there.
    pub id: String,
    /// The address in the form it is stored here.
    pub email: String,
    pub name: String,
    pub verified: bool,
    /// What they type.
    pub plaintext: Option<String>,
    /// What was exported of their password; none where the system gives nothing.
    pub exported: Option<Exported>,
}

/// An exported hash.
#[derive(Clone, Debug)]
pub struct Exported {
    pub scheme: String,
    pub hash: String,
    pub params: BTreeMap<String, String>,
}

/// Where the exports are: `VESTIBULE_MIGRATION_DATA` can name another folder of the same shape.
pub fn folder() -> PathBuf {
    match std::env::var_os("VESTIBULE_MIGRATION_DATA") {
        Some(folder) => PathBuf::from(folder).join("exports"),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/migration/exports"),
    }
}

/// The people of every system, in the order of their files.
pub fn all() -> Vec<(String, Vec<Person>)> {
    let mut systems: Vec<String> = std::fs::read_dir(folder())
        .expect("the exports")
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    systems.sort();
    systems
        .into_iter()
        .map(|system| (system.clone(), of(&system)))
        .collect()
}

/// The people of one system.
pub fn of(system: &str) -> Vec<Person> {
    let folder = folder().join(system);
    let truth = json(&folder.join("truth.json"));
    let users = truth["users"].as_array().expect("users");
    let mut hashes = hashes(system, &folder);
    let people = users.iter().enumerate().map(|(row, user)| {
        let text = |key: &str| user[key].as_str().unwrap_or_default().to_owned();
        let id = match system {
            // A plain list has no ids: the row stands for one.
            "generic" => format!("row-{row}"),
            _ => text("source_id"),
        };
        let password = &user["password"];
        let exported = hashes.remove(&id).map(|(hash, params)| Exported {
            scheme: scheme(system, password),
            hash,
            params,
        });
        Person {
            system: system.to_owned(),
            email: text("email_normalized"),
            name: text("display_name"),
            verified: user["email_verified"].as_bool().unwrap_or(false),
            plaintext: password["plaintext"].as_str().map(str::to_owned),
            exported,
            id,
        }
    });
    people.collect()
}

/// The scheme, as the truth names it; what it leaves open, the export says.
fn scheme(system: &str, password: &Value) -> String {
    let named = password["scheme"].as_str().unwrap_or_default();
    match (system, named) {
        ("auth0", "auth0-custom-sha256") => "sha256-hex-salted".into(),
        ("auth0", "auth0-custom-hmac") => "hmac-sha256-hex".into(),
        // A hash that is broken was declared to be something all the same.
        (_, "") => "bcrypt".into(),
        (_, named) => named.to_owned(),
    }
}

type Hashes = BTreeMap<String, (String, BTreeMap<String, String>)>;

fn hashes(system: &str, folder: &Path) -> Hashes {
    let none = BTreeMap::new;
    let mut out = Hashes::new();
    match system {
        "clerk" => {
            for row in csv(&folder.join("users.csv")) {
                if !row["password_digest"].is_empty() {
                    out.insert(row["id"].clone(), (row["password_digest"].clone(), none()));
                }
            }
        }
        "auth0" => {
            let text = std::fs::read_to_string(folder.join("password_hashes.ndjson")).unwrap();
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let row: Value = serde_json::from_str(line).unwrap();
                let id = format!("auth0|{}", row["_id"]["$oid"].as_str().unwrap());
                let (hash, params) = auth0(&row);
                out.insert(id, (hash, params));
            }
        }
        "supabase" => {
            for row in array(&folder.join("auth_users.json")) {
                if let Some(hash) = row["encrypted_password"]
                    .as_str()
                    .filter(|hash| !hash.is_empty())
                {
                    out.insert(row["id"].as_str().unwrap().into(), (hash.into(), none()));
                }
            }
        }
        "firebase" => {
            let config = json(&folder.join("hash_config.json"));
            let number = |key: &str| config[key].as_u64().unwrap().to_string();
            let word = |key: &str| config[key].as_str().unwrap().to_owned();
            let file = json(&folder.join("users.json"));
            for row in file["users"].as_array().unwrap() {
                let Some(hash) = row["passwordHash"].as_str() else {
                    continue;
                };
                let params = [
                    ("salt", row["salt"].as_str().unwrap_or_default().to_owned()),
                    ("signerKey", word("base64_signer_key")),
                    ("saltSeparator", word("base64_salt_separator")),
                    ("rounds", number("rounds")),
                    ("memCost", number("mem_cost")),
                ];
                let params = params.map(|(key, value)| (key.to_owned(), value)).into();
                out.insert(
                    row["localId"].as_str().unwrap().into(),
                    (hash.into(), params),
                );
            }
        }
        "generic" => {
            for (at, row) in array(&folder.join("users_export.json")).iter().enumerate() {
                if let Some(hash) = row["passwordHash"].as_str() {
                    out.insert(format!("row-{at}"), (hash.into(), none()));
                }
            }
        }
        "keycloak" => {
            let file = json(&folder.join("realm-users-0.json"));
            for row in file["users"].as_array().unwrap() {
                let credentials = row["credentials"].as_array().into_iter().flatten();
                for credential in credentials.filter(|one| one["type"] == "password") {
                    out.insert(
                        row["id"].as_str().unwrap().into(),
                        (credential.to_string(), none()),
                    );
                }
            }
        }
        "kratos" => {
            for row in array(&folder.join("identities.json")) {
                let hash = &row["credentials"]["password"]["config"]["hashed_password"];
                if let Some(hash) = hash.as_str() {
                    out.insert(row["id"].as_str().unwrap().into(), (hash.into(), none()));
                }
            }
        }
        "django" => {
            for row in array(&folder.join("dumpdata.json")) {
                if row["model"] == "auth.user" {
                    let hash = row["fields"]["password"].as_str().unwrap_or_default();
                    out.insert(row["pk"].to_string(), (hash.into(), none()));
                }
            }
        }
        "wordpress" => {
            for row in csv(&folder.join("wp_users.csv")) {
                out.insert(row["ID"].clone(), (row["user_pass"].clone(), none()));
            }
        }
        // Nothing of a password is exported.
        "workos" | "cognito" | "authjs" => {}
        other => panic!("nobody reads the export of {other}"),
    }
    out
}

/// Auth0's own form of a hash from elsewhere.
fn auth0(row: &Value) -> (String, BTreeMap<String, String>) {
    let custom = &row["custom_password_hash"];
    let Some(value) = custom["hash"]["value"].as_str() else {
        let hash = row["passwordHash"].as_str().unwrap_or_default();
        return (hash.to_owned(), BTreeMap::new());
    };
    let mut params = BTreeMap::new();
    let mut take = |name: &str, from: &Value| {
        if let Some(text) = from["value"].as_str() {
            params.insert(name.to_owned(), text.to_owned());
            let encoding = from["encoding"].as_str().unwrap_or("utf8").to_owned();
            params.insert(format!("{name}_encoding"), encoding);
        }
    };
    take("salt", &custom["salt"]);
    take("key", &custom["hash"]["key"]);
    if let Some(position) = custom["salt"]["position"].as_str() {
        params.insert("salt_position".into(), position.into());
    }
    (value.to_owned(), params)
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

fn array(path: &Path) -> Vec<Value> {
    json(path).as_array().expect("an array").clone()
}

fn csv(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let names: Vec<String> = reader
        .headers()
        .unwrap()
        .iter()
        .map(str::to_owned)
        .collect();
    reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            names
                .iter()
                .cloned()
                .zip(record.iter().map(str::to_owned))
                .collect()
        })
        .collect()
}
