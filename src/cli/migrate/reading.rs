//! From inputs to records: every input is read once, kept in the spool, and given back by id.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::super::{Failure, PROBLEMS, USAGE, read_bounded};
use super::Whence;
use super::fetch::{self, Live, News, Told};
use crate::kind::{self, Kind};
use crate::migration::import::decide::{self, Contested, Duplicates, Rules, Without};
use crate::migration::import::read::Reader;
use crate::migration::import::record::{ImportedUser, Note, Oddity, Password, Record};
use crate::migration::import::source::{About, Export, Fragment, Joined, Options, Refusal};
use crate::migration::provider::EXPORTS;
use crate::secret::Secret;
use crate::store::fetched::Fetched;
use crate::store::spool::{Claim, Claimed, Spool, SpoolError};
use crate::time::UnixMs;

/// Longest options file, in bytes.
const OPTIONS_BYTES_MAX: usize = 1024 * 1024;

/// Bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Fragments held before they go to the spool.
const HELD_MAX: usize = 5_000;

/// Groups read at once.
pub const PAGE: usize = 1_000;

/// Records of one id; a list without ids may have many of one address. Their numbers are those of the group, and below them their own:
/// with so many, nine million million ids have numbers in the signed 64 bits that every database keeps.
const RECORDS_MAX: u64 = 1_000_000;

/// How records are numbered. It is part of what a run goes by: one that was cut off goes on only where its numbers mean the same.
const NUMBERING: &[u8] = b"a million to a group;";

/// What the operator said of the target.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// A domain of the operator's for whoever has no address.
    pub placeholder_domain: Option<String>,
    /// The app's column for metadata.
    pub metadata_column: Option<String>,
    /// What may be lost that kept somebody out.
    pub without: Without,
}

/// One record, with its number.
pub struct Numbered {
    /// Where it stands in its order.
    pub sequence: u64,
    /// The record.
    pub record: Record,
    /// What it lost to others.
    pub contested: Contested,
}

/// Everything that was read.
pub struct Reading {
    /// The old system.
    pub kind: &'static Kind<Export>,
    /// What the operator said of its export.
    pub options: Options,
    /// What the operator said of the target.
    pub wishes: Wishes,
    /// Of every input and of the options.
    pub fingerprint: String,
    /// How many records there are in all.
    pub records: u64,
    spool: Spool,
    /// What was fetched of the API, and whether it is to stay.
    fetched: Option<(Fetched, bool)>,
    /// The same input was read from a file and from the old system itself.
    twice: bool,
}

/// What of the old system itself is read.
enum Source {
    Api(fetch::Api),
    Database(Secret),
}

impl Source {
    fn of(
        kind: &'static Kind<Export>,
        whence: &Whence,
        options: &Options,
    ) -> Result<Option<Self>, Failure> {
        if whence.fetch == Some(Live::Database) && !whence.without.is_empty() {
            return Err(usage(
                "`--without` is for the API",
                "take it away: of the database, all tables are read",
            ));
        }
        Ok(match whence.fetch {
            None => None,
            Some(Live::Api) => Some(Self::Api(fetch::Api::of(kind, options, &whence.without)?)),
            Some(Live::Database) => Some(Self::Database(fetch::database_url(kind, options)?)),
        })
    }

    /// The inputs it fills.
    fn inputs(&self, export: &Export) -> BTreeSet<&'static str> {
        match self {
            Self::Api(api) => api.inputs(),
            Self::Database(_) => export.queries.iter().map(|query| query.input).collect(),
        }
    }
}

fn usage(message: impl Into<String>, advice: impl Into<String>) -> Failure {
    Failure {
        message: message.into(),
        advice: advice.into(),
        code: USAGE,
    }
}

fn broken(error: &SpoolError) -> Failure {
    Failure {
        message: error.to_string(),
        advice: error.advice().to_owned(),
        code: PROBLEMS,
    }
}

/// The inputs of a source, each with the file it is read from.
struct Given {
    input: usize,
    path: PathBuf,
}

fn inputs(export: &Export, whence: &Whence, live: &BTreeSet<&str>) -> Result<Vec<Given>, Failure> {
    let known = || {
        let names = export.inputs.iter();
        let names: Vec<String> = names
            .map(|input| format!("{} ({})", input.name, input.about))
            .collect();
        names.join("; ")
    };
    let mut given = Vec::new();
    for text in &whence.inputs {
        let named = text.split_once('=').and_then(|(name, path)| {
            let at = export.inputs.iter().position(|input| input.name == name)?;
            Some((at, path))
        });
        let (input, path) = match named {
            Some(found) => found,
            None => {
                let word = text.split_once('=').map(|(word, _)| word);
                if let Some(word) = word.filter(|word| !word.contains(['/', '.'])) {
                    return Err(usage(
                        format!("{} has no input `{word}`", whence.from),
                        format!("known are {}", known()),
                    ));
                }
                (0, text.as_str())
            }
        };
        given.push(Given {
            input,
            path: PathBuf::from(path),
        });
    }
    if given.is_empty() && live.is_empty() {
        let also = match (export.pages.is_some(), export.queries.is_empty()) {
            (true, true) => ", or read its API by `--fetch api`",
            (true, false) => ", or read its API or its database by `--fetch api|database`",
            (false, _) => "",
        };
        return Err(usage(
            "there is nothing to read",
            format!(
                "name files by `--input NAME=FILE`{also}; {} has {}",
                whence.from,
                known()
            ),
        ));
    }
    let missing = export.inputs.iter().enumerate().find(|(at, input)| {
        input.required
            && !live.contains(input.name)
            && !given.iter().any(|given| given.input == *at)
    });
    if let Some((_, input)) = missing {
        return Err(usage(
            format!("the input `{}` is missing: {}", input.name, input.about),
            format!("name its file by `--input {}=FILE`", input.name),
        ));
    }
    Ok(given)
}

/// What the options file says: of the export, and of the target.
fn options(
    export: &Export,
    whence: &Whence,
    base: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<(Options, Wishes, String), Failure> {
    let Some(path) = &whence.options else {
        return Ok((Options::default(), Wishes::default(), String::new()));
    };
    let wrong = |what: String| usage(format!("{}: {what}", path.display()), "see docs/migrate.md");
    let text = read_bounded(&base.join(path), OPTIONS_BYTES_MAX)
        .map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    // A file may hold secrets: what the parser would show of it is not shown.
    let mut table: toml::Table = toml::from_str(&text).map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| {
            text.get(..span.start)
                .unwrap_or_default()
                .lines()
                .count()
                .max(1)
        });
        wrong(match line {
            Some(line) => format!("line {line}: {}", error.message()),
            None => error.message().to_owned(),
        })
    })?;
    let without = without(table.remove("without")).map_err(&wrong)?;
    let mut take = |key: &str| match table.remove(key) {
        None => Ok(None),
        Some(toml::Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(format!("`{key}` must be a text"))),
    };
    let wishes = Wishes {
        placeholder_domain: take("placeholder_domain")?,
        metadata_column: take("metadata_column")?,
        without,
    };
    if let Some(domain) = &wishes.placeholder_domain
        && !(domain.contains('.')
            && domain
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'))
    {
        return Err(wrong("`placeholder_domain` is no domain".to_owned()));
    }
    let document = serde_json::to_value(table).map_err(|error| wrong(error.to_string()))?;
    let mut resolve = |how: &str, name: &str| match how {
        "env" => environment
            .get(name)
            .filter(|value| !value.is_empty())
            .map(|value| Secret::new(value.clone()))
            .ok_or_else(|| format!("names the variable {name}, which is not set")),
        _ => read_bounded(&base.join(name), OPTIONS_BYTES_MAX)
            .map(|text| Secret::new(text.trim_end_matches(['\r', '\n'])))
            .map_err(|error| format!("names the file {name}, which cannot be read: {error}")),
    };
    let understood = Options::understand(export, &document, &mut resolve);
    let understood = understood.map_err(|all| wrong(all.join("; ")))?;
    Ok((understood, wishes, text))
}

/// `without = ["ban", "second_factor"]`.
fn without(said: Option<toml::Value>) -> Result<Without, String> {
    let wrong = || "`without` must be a list of \"ban\" and \"second_factor\"".to_owned();
    let mut without = Without::default();
    let words = match said {
        None => Vec::new(),
        Some(toml::Value::Array(words)) => words,
        Some(_) => return Err(wrong()),
    };
    for word in words {
        match word.as_str() {
            Some("ban") => without.ban = true,
            Some("second_factor") => without.second_factor = true,
            _ => return Err(wrong()),
        }
    }
    Ok(without)
}

/// What the operator said of the target, before anything is read.
///
/// # Errors
/// When the options cannot be used.
pub fn wishes(
    whence: &Whence,
    base: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<Wishes, Failure> {
    let kind = source(whence)?;
    options(&kind.build, whence, base, environment).map(|(_, wishes, _)| wishes)
}

fn source(whence: &Whence) -> Result<&'static Kind<Export>, Failure> {
    kind::find("source", EXPORTS, &whence.from)
        .map_err(|what| usage(what, "name the old system by `--from NAME`"))
}

impl Reading {
    /// Reads every input into a spool below `folder`; paths count from `base`. Calls `told` now and then with how many entries were read.
    ///
    /// # Errors
    /// When an input or the options cannot be used.
    pub async fn open(
        whence: &Whence,
        folder: Option<&Path>,
        base: &Path,
        environment: &BTreeMap<String, String>,
        now: UnixMs,
        told: Told<'_>,
    ) -> Result<Self, Failure> {
        let kind = source(whence)?;
        let (mut options, wishes, text) = options(&kind.build, whence, base, environment)?;
        options.now = now;
        let source = Source::of(kind, whence, &options)?;
        let live = source.as_ref().map(|source| source.inputs(&kind.build));
        let live = live.unwrap_or_default();
        let given = inputs(&kind.build, whence, &live)?;
        let files: BTreeSet<&str> = given
            .iter()
            .filter_map(|given| kind.build.inputs.get(given.input))
            .map(|input| input.name)
            .collect();
        let twice = files.intersection(&live).next().is_some();
        options.given = files.union(&live).map(|name| (*name).to_owned()).collect();
        let mut digest = Sha256::new();
        digest.update(NUMBERING);
        digest.update(kind.name.as_bytes());
        digest.update(text.as_bytes());
        let below = folder.map_or_else(std::env::temp_dir, |folder| base.join(folder));
        let mut spool = Spool::open(&below).await.map_err(|error| broken(&error))?;
        let mut fetched = None;
        let mut filling = Filling {
            kind,
            options: &options,
            base,
            spool: &mut spool,
            digest: &mut digest,
            told,
            entries: 0,
        };
        let filled = match filling.files(&given).await {
            // Last: it may take hours, and what is wrong with a file is known before.
            Ok(()) => filling.live(source.as_ref(), &below, &mut fetched).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = filled {
            spool.remove().await;
            if let Some(fetched) = fetched {
                fetched.leave().await;
            }
            return Err(failure);
        }
        let digest = digest.finalize();
        let mut reading = Self {
            kind,
            options,
            wishes,
            fingerprint: data_encoding::HEXLOWER.encode(digest.get(..16).unwrap_or(&[])),
            records: 0,
            spool,
            fetched: fetched.map(|fetched| (fetched, whence.keep_fetched)),
            twice,
        };
        let joined = match reading.spool.join().await {
            Ok(()) => reading.claims().await,
            Err(error) => Err(broken(&error)),
        };
        match joined {
            Ok(()) => Ok(reading),
            Err(failure) => {
                reading.leave().await;
                Err(failure)
            }
        }
    }

    /// Removes the spool: all is done.
    pub async fn close(self) {
        self.spool.remove().await;
        put_away(self.fetched, true).await;
    }

    /// Removes the spool. What was fetched stays for whoever tries again.
    pub async fn leave(self) {
        self.spool.remove().await;
        put_away(self.fetched, false).await;
    }

    /// The records of what was read of one id. Where the same was read from a file and from the old system itself, the file counts, and
    /// whoever is in one of them alone is noted.
    fn compose(&self, joined: &Joined) -> Vec<Record> {
        let export = &self.kind.build;
        if !self.twice {
            return (export.compose)(joined, &self.options);
        }
        let is_live = |fragment: &Fragment| fetch::is_live(export, &fragment.place);
        let of_files: BTreeSet<&str> = joined
            .fragments
            .iter()
            .filter(|fragment| !is_live(fragment))
            .map(|fragment| &*fragment.part)
            .collect();
        let live = joined.fragments.iter().filter(|fragment| is_live(fragment));
        let live = live.count();
        let mut counts = joined.clone();
        counts
            .fragments
            .retain(|one| !is_live(one) || !of_files.contains(&*one.part));
        let mut records = (export.compose)(&counts, &self.options);
        let detail = match (of_files.is_empty(), live == 0) {
            (false, true) => {
                "in the file and not in the old system: deleted since, or another project"
            }
            (true, false) => "in the old system and not in the file: they came since",
            _ => return records,
        };
        for record in &mut records {
            if let Record::User(user) = record
                && !user.notes.iter().any(|note| note.what == Oddity::OnlyInOne)
            {
                user.notes.push(Note {
                    what: Oddity::OnlyInOne,
                    detail: detail.to_owned(),
                });
            }
        }
        records
    }

    /// What is done with whom.
    pub fn rules(&self, duplicates: Duplicates, since: Option<UnixMs>, at: UnixMs) -> Rules {
        Rules {
            provider: self.kind.name.to_owned(),
            duplicates,
            placeholder_domain: self.wishes.placeholder_domain.clone(),
            without: self.wishes.without,
            since,
            at,
        }
    }

    /// Looks at everybody once: who claims what, and how many there are.
    async fn claims(&mut self) -> Result<(), Failure> {
        let rules = self.rules(Duplicates::Park, None, self.options.now);
        let (_, refusals) = self.spool.counts().await.map_err(|error| broken(&error))?;
        self.records = refusals;
        for about in [
            About::User,
            About::Organization,
            About::Member,
            About::Invitation,
        ] {
            let mut after = 0;
            loop {
                let groups = self.spool.groups(about, after, PAGE, false).await;
                let groups = groups.map_err(|error| broken(&error))?;
                let Some(last) = groups.last() else { break };
                after = last.number;
                let mut claims = Vec::new();
                for group in &groups {
                    let records = self.compose(&group.joined);
                    self.records += u64::try_from(records.len()).unwrap_or(0);
                    // Before anything is written.
                    let last = u64::try_from(records.len()).unwrap_or(u64::MAX);
                    numbered(group.number, last.saturating_sub(1))?;
                    for (index, record) in (0u64..).zip(&records) {
                        if let Record::User(user) = record {
                            claimed(user, &rules, (group.number, index), &mut claims);
                        }
                    }
                }
                let kept = self.spool.claim(&claims).await;
                kept.map_err(|error| broken(&error))?;
            }
        }
        self.spool.settle().await.map_err(|error| broken(&error))
    }

    /// The next records after a number, some at a time; none: there are no more. With `lost`, only those of groups of whom one lost an
    /// address.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub async fn page(
        &mut self,
        about: About,
        after: u64,
        lost: bool,
    ) -> Result<Vec<Numbered>, Failure> {
        let mut from = group_before(after);
        loop {
            let groups = self.spool.groups(about, from, PAGE, lost).await;
            let groups = groups.map_err(|error| broken(&error))?;
            let (Some(first), Some(last)) = (groups.first(), groups.last()) else {
                return Ok(Vec::new());
            };
            let contested = self.spool.contested(first.number, last.number).await;
            let mut contested = contested.map_err(|error| broken(&error))?;
            from = last.number;
            let mut page = Vec::with_capacity(groups.len());
            for group in &groups {
                let records = self.compose(&group.joined);
                for (index, record) in (0u64..).zip(records) {
                    let sequence = numbered(group.number, index)?;
                    if sequence > after {
                        page.push(Numbered {
                            sequence,
                            record,
                            contested: contested.remove(&(group.number, index)).unwrap_or_default(),
                        });
                    }
                }
            }
            if !page.is_empty() {
                return Ok(page);
            }
        }
    }

    /// Entries that became nothing.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub async fn refusals(&mut self, after: u64) -> Result<Vec<Numbered>, Failure> {
        let refusals = self.spool.refusals(after, PAGE).await;
        let refusals = refusals.map_err(|error| broken(&error))?;
        let all = refusals.into_iter().map(|(sequence, refusal)| Numbered {
            sequence,
            record: refusal.into(),
            contested: Contested::default(),
        });
        Ok(all.collect())
    }

    /// Which of these ids the export has something of.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub async fn has(&mut self, about: About, ids: &[String]) -> Result<BTreeSet<String>, Failure> {
        let found = self.spool.has(about, ids).await;
        found.map_err(|error| broken(&error))
    }
}

/// The number of a record of a group.
fn numbered(group: u64, index: u64) -> Result<u64, Failure> {
    let number = group
        .checked_mul(RECORDS_MAX)
        .and_then(|number| number.checked_add(index)?.checked_add(1));
    match number {
        Some(number) if index < RECORDS_MAX && i64::try_from(number).is_ok() => Ok(number),
        _ => Err(Failure {
            message: format!("more than {RECORDS_MAX} entries of the export have one id or address"),
            advice: "look for a column that is none of ids, or take the entries that repeat out of the file".into(),
            code: PROBLEMS,
        }),
    }
}

/// The group before the one that goes on after a record: the last one may not be over.
const fn group_before(after: u64) -> u64 {
    (after / RECORDS_MAX).saturating_sub(1)
}

fn claimed(user: &ImportedUser, rules: &Rules, at: (u64, u64), claims: &mut Vec<Claim>) {
    let mut claim = |what: Claimed, value: String| {
        claims.push(Claim {
            number: at.0,
            index: at.1,
            what,
            value,
            source_id: user.source_id.clone(),
            verified: user.email_verified,
            has_password: matches!(user.password, Password::Hash { .. } | Password::NotExported),
            last_sign_in: user.last_sign_in_at.map_or(i64::MIN, |at| at.0),
            created: user.created_at.map_or(i64::MAX, |at| at.0),
        });
    };
    if let Some((email, _)) = decide::address(user, rules) {
        claim(Claimed::Email, email);
    }
    if let Some(username) = &user.username {
        claim(Claimed::Username, username.clone());
    }
    if let Some((number, _)) = &user.phone {
        claim(Claimed::Phone, number.clone());
    }
    let socials: BTreeSet<String> = user
        .socials
        .iter()
        .filter_map(|social| {
            Some(format!(
                "{}\0{}",
                social.provider,
                social.account_id.as_ref()?
            ))
        })
        .collect();
    for social in socials {
        claim(Claimed::Social, social);
    }
}

/// What was fetched is done with: it goes, unless it is to stay.
async fn put_away(fetched: Option<(Fetched, bool)>, done: bool) {
    match fetched {
        Some((fetched, stays)) if stays || !done => fetched.leave().await,
        Some((fetched, _)) => fetched.remove().await,
        None => {}
    }
}

/// Everything on its way into the spool.
struct Filling<'f> {
    kind: &'static Kind<Export>,
    options: &'f Options,
    base: &'f Path,
    spool: &'f mut Spool,
    digest: &'f mut Sha256,
    told: Told<'f>,
    entries: u64,
}

impl Filling<'_> {
    async fn files(&mut self, given: &[Given]) -> Result<(), Failure> {
        for one in given {
            if let Some(input) = self.kind.build.inputs.get(one.input) {
                self.file(input, &one.path).await?;
            }
        }
        Ok(())
    }

    /// What the old system itself has.
    async fn live(
        &mut self,
        source: Option<&Source>,
        below: &Path,
        fetched: &mut Option<Fetched>,
    ) -> Result<(), Failure> {
        if let Some(Source::Api(api)) = source {
            let before = self.entries;
            let mut told = |news: News<'_>| {
                (self.told)(match news {
                    News::Entries(n) => News::Entries(before + n),
                    News::Line(line) => News::Line(line),
                });
            };
            let store = fetch::api(self.kind, api, self.options, below, &mut told).await?;
            *fetched = Some(store);
        }
        let Self {
            kind,
            options,
            spool,
            digest,
            told,
            entries,
            ..
        } = self;
        let take = async |all: Vec<Result<Fragment, Refusal>>, read: u64| {
            let mut held = Vec::with_capacity(all.len());
            let mut refused = Vec::new();
            for one in all {
                match one {
                    Ok(fragment) => held.push(fragment),
                    Err(refusal) => refused.push(refusal),
                }
            }
            spool.keep(&held).await.map_err(|error| broken(&error))?;
            let kept = spool.refuse(&refused).await;
            kept.map_err(|error| broken(&error))?;
            *entries += read;
            told(News::Entries(*entries));
            Ok(())
        };
        match (source, fetched) {
            (Some(Source::Api(api)), Some(store)) => {
                fetch::replay(store, &kind.build, api, options, digest, take).await
            }
            (Some(Source::Database(url)), _) => {
                fetch::database(kind, url, options, digest, take).await
            }
            _ => Ok(()),
        }
    }

    /// Reads one file.
    async fn file(
        &mut self,
        input: &'static crate::migration::import::source::Input,
        path: &Path,
    ) -> Result<(), Failure> {
        let before = self.entries;
        let mut so_far = |n: u64| (self.told)(News::Entries(before + n));
        let read = file(
            self.spool,
            input,
            self.options,
            self.base,
            path,
            self.digest,
            &mut so_far,
        );
        self.entries += read.await?;
        Ok(())
    }
}

/// Reads one file into the spool. Gives how many entries it had.
async fn file(
    spool: &mut Spool,
    input: &'static crate::migration::import::source::Input,
    options: &Options,
    base: &Path,
    path: &Path,
    digest: &mut Sha256,
    told: &mut dyn FnMut(u64),
) -> Result<u64, Failure> {
    let unreadable = |error: std::io::Error| {
        usage(
            format!("{} cannot be read: {error}", path.display()),
            "name a file of the export by `--input NAME=FILE`",
        )
    };
    let name = path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    let mut from = std::fs::File::open(base.join(path)).map_err(unreadable)?;
    let mut reader = Reader::new(input, &name, options);
    let mut bytes = vec![0u8; PIECE_BYTES];
    let mut held: Vec<Fragment> = Vec::new();
    let mut refused: Vec<Refusal> = Vec::new();
    digest.update(input.name.as_bytes());
    let told_of = |what: crate::migration::import::read::Broken| Failure {
        message: what.to_string(),
        advice: what.advice().to_owned(),
        code: PROBLEMS,
    };
    let mut over = false;
    while !over {
        let read = from.read(&mut bytes).map_err(unreadable)?;
        let mut emit = |what: Result<Fragment, Refusal>| match what {
            Ok(fragment) => held.push(fragment),
            Err(refusal) => refused.push(refusal),
        };
        match bytes.get(..read).filter(|piece| !piece.is_empty()) {
            Some(piece) => {
                digest.update(piece);
                reader.feed(piece, &mut emit).map_err(told_of)?;
            }
            None => over = true,
        }
        if held.len() >= HELD_MAX || over {
            spool.keep(&held).await.map_err(|error| broken(&error))?;
            held.clear();
            told(reader.tally().entries);
        }
        if refused.len() >= HELD_MAX || over {
            spool
                .refuse(&refused)
                .await
                .map_err(|error| broken(&error))?;
            refused.clear();
        }
    }
    let mut emit = |what: Result<Fragment, Refusal>| match what {
        Ok(fragment) => held.push(fragment),
        Err(refusal) => refused.push(refusal),
    };
    let tally = reader.finish(&mut emit).map_err(told_of)?;
    spool.keep(&held).await.map_err(|error| broken(&error))?;
    spool
        .refuse(&refused)
        .await
        .map_err(|error| broken(&error))?;
    told(tally.entries);
    Ok(tally.entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_has_a_number_of_its_own_and_what_follows_it_is_found_by_it() {
        let number = |group, index| numbered(group, index).map_err(|failure| failure.message);
        let mut last = 0;
        for (group, index) in [
            (1, 0),
            (1, 999),
            (1, 1_000),
            (1, RECORDS_MAX - 1),
            (2, 0),
            (2, 1),
            (3, RECORDS_MAX - 1),
            (1_000_000_000_000, 0),
        ] {
            let now = number(group, index).unwrap();
            assert!(now > last, "{group} {index}");
            // The group is read again unless this was its last number.
            let over = index == RECORDS_MAX - 1;
            assert_eq!(group_before(now), group - u64::from(!over));
            last = now;
        }
        assert_eq!(group_before(0), 0);
        for (group, index) in [(1, RECORDS_MAX), (u64::MAX / RECORDS_MAX, 0), (u64::MAX, 0)] {
            assert!(number(group, index).is_err(), "{group} {index}");
        }
    }
}
