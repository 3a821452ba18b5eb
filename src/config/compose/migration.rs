//! How users are moved in.

use super::*;
use crate::migration::bridge;
use crate::migration::control::{self, Mechanism};
use crate::migration::provider::Fields;
use crate::migration::sign_up;
use crate::server::migration::{Configured, Settings, bridge as bridging, pool};

/// The migration; none without its table.
pub(super) fn migration(
    file: &File,
    tree: &Node,
    source: Option<&store::Settings>,
    origin: &str,
    reader: &mut Reader<'_>,
) -> Option<Settings> {
    let found = file.migration.as_ref()?;
    let table = &found.value;
    let control = control(table, reader);
    let providers = table.from.iter().flat_map(|from| from.value.values());
    let providers = providers.map(|system| Configured {
        kind: system.value.kind,
        fields: Fields {
            values: system.value.values.clone(),
            public_origin: origin.to_owned(),
        },
    });
    let providers = providers.collect();
    let pool = hashing(table, reader);
    let key = key(found, tree, reader)?;
    let database = accounts(found, tree, source, reader)?;
    let bridge = bridge(table, file, source, &database, reader);
    Some(Settings {
        bridge,
        control,
        database,
        key,
        providers,
        sign_up: sign_up(table),
        pool,
    })
}

/// Threads for hashing.
fn hashing(table: &Migration, reader: &mut Reader<'_>) -> pool::Settings {
    let passwords = table.passwords.as_ref().map(|found| &found.value);
    let usual = pool::Settings::default();
    let mut bounded = |found: Option<&Found<u64>>, usual: usize, range| {
        let usual = u64::try_from(usual).unwrap_or(u64::MAX);
        usize::try_from(count(reader, found, usual, range)).unwrap_or(usize::MAX)
    };
    pool::Settings {
        threads: bounded(
            passwords.and_then(|table| table.threads.as_ref()),
            usual.threads,
            1..=256,
        ),
        queue: bounded(
            passwords.and_then(|table| table.queue.as_ref()),
            usual.queue,
            0..=10_000,
        ),
    }
}

/// New accounts meanwhile.
fn sign_up(table: &Migration) -> sign_up::Settings {
    let Some(table) = table.sign_up.as_ref().map(|found| &found.value) else {
        return sign_up::Settings::default();
    };
    let mode = match value(table.mode.as_ref(), SignUpWord::Open) {
        SignUpWord::Open => sign_up::Mode::Open,
        SignUpWord::Freeze => sign_up::Mode::Freeze,
        SignUpWord::Trickle => sign_up::Mode::Trickle,
        SignUpWord::DualWrite => sign_up::Mode::DualWrite,
    };
    let until = table.until.as_ref();
    sign_up::Settings {
        mode,
        until: until.map(|found| (found.value.at, found.value.text.clone())),
    }
}

fn control(table: &Migration, reader: &mut Reader<'_>) -> control::Settings {
    let day = |found: Option<&Found<Day>>| found.map(|found| found.value.at);
    let (opens, closes) = (day(table.opens.as_ref()), day(table.closes.as_ref()));
    if let (Some(opens), Some(closes), Some(found)) = (opens, closes, &table.closes)
        && closes <= opens
    {
        reader.blame(
            found,
            Fault::Conflict {
                what: "the migration would end before it begins".into(),
                advice: "let `closes` be later than `opens`",
            },
        );
    }
    let mut disabled = Vec::new();
    for found in table.disable.iter().flat_map(|list| &list.value) {
        match Mechanism::named(&found.value) {
            Some(mechanism) => disabled.push(mechanism),
            None => {
                let known: Vec<&str> = Mechanism::ALL.iter().map(|each| each.as_str()).collect();
                let what = format!("`{}` is no mechanism", short(&found.value));
                reader.blame(
                    found,
                    form(what, &format!("known are {}", known.join(", "))),
                );
            }
        }
    }
    let percent = table.percent.as_ref().map(|found| {
        let percent = count(reader, Some(found), 100, 0..=100);
        u8::try_from(percent).unwrap_or(100)
    });
    let before = table.before.as_ref().or(table.opens.as_ref());
    control::Settings {
        opens,
        closes,
        before: before.map(|found| found.value.text.clone()),
        disabled,
        shadow: value(table.shadow.as_ref(), false),
        percent,
        addresses: values(table.addresses.as_ref())
            .into_iter()
            .map(|pattern| pattern.to_lowercase())
            .collect(),
    }
}

fn key(found: &Found<Migration>, tree: &Node, reader: &mut Reader<'_>) -> Option<Secret> {
    let Some(key) = &found.value.key else {
        if !is_written(tree, &["migration", "key"]) {
            reader.blame(
                found,
                Fault::Missing {
                    key: "key",
                    advice: "make one with `openssl rand -base64 32`, and write `key = { env = \"MIGRATION_KEY\" }`: old hashes are encrypted under it",
                },
            );
        }
        return None;
    };
    let letters = key.value.0.expose().chars().count();
    if letters < SECRET_LETTERS_MIN {
        reader.blame(key, Fault::ShortSecret { letters });
    }
    Some(key.value.0.clone())
}

/// Sessions of the old systems that are still alive.
fn bridge(
    migration: &Migration,
    file: &File,
    source: Option<&store::Settings>,
    accounts: &store::Settings,
    reader: &mut Reader<'_>,
) -> bridging::Settings {
    let table = migration.bridge.as_ref().map(|found| &found.value);
    let day = |found: Option<&Found<Day>>| found.map(|found| found.value.at);
    let opens = day(table.and_then(|table| table.opens.as_ref()));
    let closes = day(table.and_then(|table| table.closes.as_ref()));
    if let (Some(opens), Some(closes), Some(found)) =
        (opens, closes, table.and_then(|table| table.closes.as_ref()))
        && closes <= opens
    {
        reader.blame(
            found,
            Fault::Conflict {
                what: "the bridge would end before it begins".into(),
                advice: "let `closes` be later than `opens`",
            },
        );
    }
    let lifetime = table.and_then(|table| table.lifetime.as_ref());
    if let Some(found) = lifetime.filter(|found| found.value.is_zero()) {
        reader.blame(
            found,
            form(
                "it would be over at once".to_owned(),
                "write a longer time, as \"7d\"",
            ),
        );
    }
    let mut at = |found: Option<&Found<SecretText>>| {
        let found = found?;
        match super::database(found.value.0.expose()) {
            Ok(url) => Some(store::Settings {
                url,
                schema: store::SchemaOverrides::default(),
                secondary: store::SecondaryStorage::default(),
                documents: None,
                extend: false,
                ..accounts.clone()
            }),
            Err(fault) => {
                reader.blame(found, fault);
                None
            }
        }
    };
    let old_database = at(table.and_then(|table| table.database.as_ref()));
    let old_redis = at(table.and_then(|table| table.redis.as_ref()));
    let length = file.better_auth.as_ref();
    let length = length.and_then(|table| table.value.expires_in.as_ref());
    let rules = bridge::Settings::default();
    bridging::Settings {
        rules: bridge::Settings {
            opens,
            closes,
            lifetime: lifetime.map(|found| found.value),
            expires_in: length.map_or(rules.expires_in, |found| found.value),
            anonymous: value(table.and_then(|table| table.anonymous.as_ref()), false),
            impersonated: value(table.and_then(|table| table.impersonated.as_ref()), false),
        },
        in_database: source.is_some_and(store::keeps_rows),
        old_database,
        old_redis,
    }
}

/// Where accounts are written.
fn accounts(
    found: &Found<Migration>,
    tree: &Node,
    source: Option<&store::Settings>,
    reader: &mut Reader<'_>,
) -> Option<store::Settings> {
    let source = source?;
    let url = match &found.value.database {
        Some(written) => match database(written.value.0.expose()) {
            Ok(url) => Some(url),
            Err(fault) => {
                reader.blame(written, fault);
                return None;
            }
        },
        None if is_written(tree, &["migration", "database"]) => return None,
        None if store::has_accounts(&source.url) => Some(source.url.clone()),
        None => source.secondary.database.clone(),
    };
    match url.filter(store::has_accounts) {
        Some(url) => Some(store::Settings {
            url,
            secondary: store::SecondaryStorage::default(),
            ..source.clone()
        }),
        None => {
            reader.blame(
                found,
                Fault::Missing {
                    key: "database",
                    advice: "name the app's database, where its accounts are: `database = { env = \"DATABASE_URL\" }`",
                },
            );
            None
        }
    }
}
