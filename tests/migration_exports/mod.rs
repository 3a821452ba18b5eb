//! Sample exports of every old system, held against what is true of the people in them.
//!
//! `VESTIBULE_MIGRATION_DATA` can name another folder of the same shape: nothing here knows an id or a value of the sample set.

mod experimental;
mod forms;
mod noise;
mod pages;
mod table;
pub mod target;
mod truth;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vestibule::kind::Kind;
use vestibule::migration::import::read::{self, Tally};
use vestibule::migration::import::record::{ImportedUser, Oddity, Place, Record};
use vestibule::migration::import::source::{
    About, Entry, Export, Fragment, Joined, Options, Refusal,
};
use vestibule::migration::provider::EXPORTS;
use vestibule::secret::Secret;
use vestibule::time::UnixMs;

use crate::support::seeds;

/// What an import reads, put together in memory.
pub struct World {
    pub kind: &'static Kind<Export>,
    pub options: Options,
    groups: BTreeMap<(About, String), Vec<(usize, Fragment)>>,
    pub refusals: Vec<Refusal>,
    pub tallies: BTreeMap<String, Tally>,
    count: usize,
}

impl World {
    pub fn new(provider: &str, options: Value) -> Self {
        let kind = EXPORTS.iter().find(|kind| kind.name == provider).unwrap();
        let folder = seeds::folder().join(provider);
        let mut resolve = |how: &str, name: &str| match how {
            "file" => std::fs::read_to_string(folder.join(name))
                .map(Secret::new)
                .map_err(|error| error.to_string()),
            _ => Err(format!("no {how} in tests")),
        };
        let mut options = Options::understand(&kind.build, &options, &mut resolve).unwrap();
        // Later than everything in the exports, earlier than the bans that last.
        options.now = UnixMs(1_767_225_600_000);
        Self {
            kind,
            options,
            groups: BTreeMap::new(),
            refusals: Vec::new(),
            tallies: BTreeMap::new(),
            count: 0,
        }
    }

    /// Reads a file of the provider's folder.
    pub fn file(&mut self, input: &str, name: &str) -> &mut Self {
        let path = seeds::folder().join(self.kind.name).join(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        self.bytes(input, name, &bytes)
    }

    pub fn bytes(&mut self, input: &str, name: &str, bytes: &[u8]) -> &mut Self {
        let input = self.kind.build.input(input).unwrap();
        self.options.given.insert(input.name.to_owned());
        let (groups, refusals, count) = (&mut self.groups, &mut self.refusals, &mut self.count);
        let mut emit = |one: Result<Fragment, Refusal>| match one {
            Ok(fragment) => {
                *count += 1;
                let group = groups.entry((fragment.about, fragment.key.clone()));
                group.or_default().push((*count, fragment));
            }
            Err(refusal) => refusals.push(refusal),
        };
        let pieces = bytes.chunks(1000);
        let tally = read::read(input, name, &self.options, pieces, &mut emit)
            .unwrap_or_else(|broken| panic!("{name}: {broken}"));
        assert!(tally.entries > 0, "{name} is empty");
        assert!(tally.fragments + tally.refused >= tally.entries, "{name}");
        self.tallies.insert(name.to_owned(), tally);
        self
    }

    /// Takes one entry that came by a page.
    pub fn entry(&mut self, input: &str, name: &str, table: &str, row: u64, value: Value) {
        let input = self.kind.build.input(input).unwrap();
        self.options.given.insert(input.name.to_owned());
        let entry = Entry {
            table: table.to_owned(),
            place: Place {
                input: name.into(),
                row,
            },
            value,
        };
        let (groups, count) = (&mut self.groups, &mut self.count);
        let mut emit = |one: Result<Fragment, Refusal>| {
            let fragment = one.unwrap();
            *count += 1;
            let group = groups.entry((fragment.about, fragment.key.clone()));
            group.or_default().push((*count, fragment));
        };
        read::take(input, &self.options, &entry, &mut emit);
    }

    /// All records, in the order in which they would be written.
    pub fn records(&self) -> Vec<Record> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|((about, _), fragments)| (*about, fragments[0].0));
        let composed = groups.into_iter().flat_map(|((about, key), fragments)| {
            let joined = Joined {
                about: *about,
                key: key.clone(),
                fragments: fragments.iter().map(|(_, one)| one.clone()).collect(),
            };
            let records = (self.kind.build.compose)(&joined, &self.options);
            assert!(!records.is_empty(), "{key} is lost");
            records
        });
        composed.collect()
    }

    pub fn users(&self) -> Vec<ImportedUser> {
        let records = self.records().into_iter();
        let users = records.filter_map(|record| match record {
            Record::User(user) => Some(*user),
            _ => None,
        });
        users.collect()
    }

    pub fn refused(&self) -> Vec<(Option<String>, Oddity)> {
        let composed = self
            .records()
            .into_iter()
            .filter_map(|record| match record {
                Record::Refused {
                    source_id, note, ..
                } => Some((source_id, note.what)),
                _ => None,
            });
        let read = self.refusals.iter();
        let read = read.map(|refusal| (refusal.source_id.clone(), refusal.note.what));
        read.chain(composed).collect()
    }
}

pub fn folder(provider: &str) -> PathBuf {
    seeds::folder().join(provider)
}

pub fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// Files of a folder whose names begin and end so, in order: pages are numbered.
pub fn files(provider: &str, begins: &str, ends: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder(provider)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with(begins) && name.ends_with(ends))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "{provider} has no {begins}*{ends}");
    names
}

/// Everything of a provider's sample export that belongs together.
pub fn whole(provider: &str) -> World {
    let options = match provider {
        "firebase" => serde_json::json!({ "hash_config": { "file": "hash_config.json" } }),
        _ => serde_json::json!({}),
    };
    let mut world = World::new(provider, options);
    match provider {
        "clerk" => {
            world.file("users", "users.csv");
            for page in files(provider, "api_users_page", ".json") {
                world.file("api", &page);
            }
            world.file("organizations", "api_organizations.json");
            world.file("memberships", "api_memberships.json");
            world.file("invitations", "api_invitations.json");
        }
        "generic" => {
            world.file("users", "users_export.json");
        }
        "workos" => {
            for page in files(provider, "users_page", ".json") {
                world.file("users", &page);
            }
            world.file("identities", "identities_by_user.json");
            world.file("auth_factors", "auth_factors_by_user.json");
            world.file("organizations", "organizations.json");
            world.file("memberships", "organization_memberships.json");
        }
        "authjs" => drop(world.file("tables", "tables.json")),
        "auth0" => {
            world.file("users", "users_export.ndjson");
            world.file("hashes", "password_hashes.ndjson");
        }
        "supabase" => {
            world.file("users", "auth_users.json");
            world.file("identities", "auth_identities.json");
            world.file("factors", "auth_mfa_factors.json");
        }
        "firebase" => drop(world.file("users", "users.json")),
        "cognito" => drop(world.file("users", "list_users.json")),
        "keycloak" => {
            for file in files(provider, "realm-users-", ".json") {
                world.file("users", &file);
            }
        }
        "kratos" => drop(world.file("identities", "identities.json")),
        "django" => drop(world.file("dump", "dumpdata.json")),
        "wordpress" => drop(world.file("users", "wp_users.csv")),
        other => panic!("nobody reads the sample export of {other}"),
    }
    world
}

/// The providers of which there is a sample export.
pub fn sampled() -> Vec<String> {
    let entries = std::fs::read_dir(seeds::folder()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
