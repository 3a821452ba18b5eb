//! How users are moved in.

use super::*;
use crate::migration::control::{self, Mechanism};
use crate::migration::provider::Fields;
use crate::migration::sign_up;
use crate::server::migration::{Configured, Settings};

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
    let key = key(found, tree, reader)?;
    let database = accounts(found, tree, source, reader)?;
    Some(Settings {
        control,
        database,
        key,
        providers,
        sign_up: sign_up(table),
    })
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
