//! Reads the inputs of an old system and gives what they come to, one record after the other.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::PathBuf;

use super::Whence;
use crate::cli::{Failure, USAGE, World, read_bounded};
use crate::kind::Kind;
use crate::migration::import::read::Reader;
use crate::migration::import::record::Record;
use crate::migration::import::source::{About, Export, Fragment, Input, Joined, Options};
use crate::migration::provider;
use crate::secret::Secret;
use crate::time::UnixMs;

/// Longest options file, in bytes: a mapping is written by hand.
const OPTIONS_BYTES_MAX: usize = 1024 * 1024;

/// Read in one go.
const PIECE_BYTES: usize = 64 * 1024;

/// Everything that was read, joined by id.
pub struct Gathered {
    export: &'static Export,
    options: Options,
    groups: Vec<Joined>,
    refused: Vec<Record>,
}

impl Gathered {
    /// Reads all inputs.
    ///
    /// # Errors
    /// When one of them, or the options, cannot be read.
    pub fn read(
        whence: &Whence,
        environment: &BTreeMap<String, String>,
        now: UnixMs,
        world: &World<'_>,
    ) -> Result<Self, Failure> {
        let kind = system(&whence.from)?;
        let inputs = inputs(kind, whence, world)?;
        let mut options = options(kind, whence, environment, world)?;
        options.now = now;
        options.given = inputs
            .iter()
            .map(|(input, _)| input.name.to_owned())
            .collect();
        let mut groups: Vec<Joined> = Vec::new();
        let mut places: HashMap<(About, String), usize> = HashMap::new();
        let mut refused = Vec::new();
        for (input, path) in &inputs {
            let shown = path
                .file_name()
                .unwrap_or(path.as_os_str())
                .to_string_lossy();
            let mut emit = |read: Result<Fragment, _>| match read {
                Ok(fragment) => {
                    let key = (fragment.about, fragment.key.clone());
                    let at = *places.entry(key).or_insert_with(|| {
                        groups.push(Joined {
                            about: fragment.about,
                            key: fragment.key.clone(),
                            fragments: Vec::new(),
                        });
                        groups.len() - 1
                    });
                    if let Some(group) = groups.get_mut(at) {
                        group.fragments.push(fragment);
                    }
                }
                Err(refusal) => refused.push(Record::from(refusal)),
            };
            let mut reader = Reader::new(input, &shown, &options);
            let unreadable = |error: &std::io::Error| {
                wrong(
                    format!("{} cannot be read: {error}", path.display()),
                    "name a file with --input",
                )
            };
            let mut file =
                std::fs::File::open(world.path(path)).map_err(|error| unreadable(&error))?;
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                let read = file.read(&mut piece).map_err(|error| unreadable(&error))?;
                let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else {
                    break;
                };
                reader
                    .feed(bytes, &mut emit)
                    .map_err(|broken| wrong(broken.to_string(), broken.advice()))?;
            }
            let done = reader.finish(&mut emit);
            done.map_err(|broken| wrong(broken.to_string(), broken.advice()))?;
        }
        groups.sort_by_key(|group| group.about);
        Ok(Self {
            export: &kind.build,
            options,
            groups,
            refused,
        })
    }

    /// Gives each record, as often as it is asked.
    pub fn each(&self, take: &mut dyn FnMut(&Record)) {
        for group in &self.groups {
            for record in (self.export.compose)(group, &self.options) {
                take(&record);
            }
        }
        self.refused.iter().for_each(take);
    }
}

fn wrong(message: impl Into<String>, advice: impl Into<String>) -> Failure {
    Failure {
        message: message.into(),
        advice: advice.into(),
        code: USAGE,
    }
}

fn system(name: &str) -> Result<&'static Kind<Export>, Failure> {
    crate::kind::find("old system", provider::EXPORTS, name)
        .map_err(|message| wrong(message, "name it with --from"))
}

/// Which file is which input. One without a name is the first input that has no file yet.
fn inputs(
    kind: &'static Kind<Export>,
    whence: &Whence,
    world: &World<'_>,
) -> Result<Vec<(&'static Input, PathBuf)>, Failure> {
    let mut found: Vec<(&'static Input, PathBuf)> = Vec::new();
    for given in &whence.inputs {
        let named = given
            .split_once('=')
            .and_then(|(name, file)| Some((kind.build.input(name)?, file)));
        let (input, file) = match named {
            Some(named) => named,
            // A file may have the sign in its name.
            None if given.contains('=') && !world.path(given.as_ref()).exists() => {
                let names: Vec<&str> = kind.build.inputs.iter().map(|input| input.name).collect();
                return Err(wrong(
                    format!("`{given}` names no input of {}", kind.name),
                    format!("known are {}", names.join(", ")),
                ));
            }
            None => match kind.build.inputs.first() {
                Some(first) => (first, given.as_str()),
                None => return Err(wrong(format!("{} is read from no file", kind.name), "")),
            },
        };
        found.push((input, PathBuf::from(file)));
    }
    for input in kind.build.inputs {
        if input.required && !found.iter().any(|(one, _)| one.name == input.name) {
            return Err(wrong(
                format!(
                    "{} needs the input `{}`: {}",
                    kind.name, input.name, input.about
                ),
                format!("give it as --input {}=FILE", input.name),
            ));
        }
    }
    if found.is_empty() {
        return Err(wrong(
            format!("no input of {} is given", kind.name),
            "give one with --input FILE",
        ));
    }
    Ok(found)
}

fn options(
    kind: &'static Kind<Export>,
    whence: &Whence,
    environment: &BTreeMap<String, String>,
    world: &World<'_>,
) -> Result<Options, Failure> {
    let Some(path) = &whence.options else {
        return Ok(Options::default());
    };
    let text = read_bounded(&world.path(path), OPTIONS_BYTES_MAX);
    let text = text.map_err(|error| {
        wrong(
            format!("{} cannot be read: {error}", path.display()),
            "name a TOML file with --options",
        )
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        wrong(
            format!("{}: {}", path.display(), error.message()),
            "write it in TOML",
        )
    })?;
    let document = serde_json::to_value(&table).map_err(|error| wrong(error.to_string(), ""))?;
    let beside = path.parent().unwrap_or_else(|| "".as_ref()).to_owned();
    let mut resolve = |how: &str, name: &str| match how {
        "env" => {
            let value = environment.get(name).filter(|value| !value.is_empty());
            value
                .map(|value| Secret::new(value.clone()))
                .ok_or_else(|| format!("the variable {name} is not set"))
        }
        _ => {
            let text = read_bounded(&world.path(&beside.join(name)), OPTIONS_BYTES_MAX);
            text.map(|text| Secret::new(text.trim_end_matches(['\r', '\n'])))
                .map_err(|error| format!("{name} cannot be read: {error}"))
        }
    };
    Options::understand(&kind.build, &document, &mut resolve).map_err(|problems| {
        wrong(
            format!("{}: {}", path.display(), problems.join("; ")),
            "see the documentation of this system",
        )
    })
}
