//! Walks the pages of an old system's API, and reads its database: what a source describes is asked here, no faster than the old system
//! likes, and kept page by page.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::super::{Failure, PROBLEMS, UNREACHABLE, USAGE};
use super::ground::now;
use super::ground::random;
use crate::kind::Kind;
use crate::migration::dialogue::{Answer, Ask};
use crate::migration::import::pages::{
    self, Cursor, Each, Listing, PAGE_BYTES_MAX, Page, ReadPage, Trouble,
};
use crate::migration::import::read::{self, ENTRY_BYTES_MAX};
use crate::migration::import::record::{Note, Oddity, Place};
use crate::migration::import::source::{Entry, Export, Fragment, Input, Options, Refusal};
use crate::migration::provider::Limit;
use crate::secret::Secret;
use crate::store::fetched::{Fetched, FetchedError, Keyed, Whose};
use crate::store::snapshot::{Snapshot, SnapshotError};

/// How often one page is asked for.
const TRIES_MAX: u32 = 8;

/// The first wait after an answer that was none, without the share that is left to chance. It doubles.
const WAIT_FIRST: Duration = Duration::from_secs(1);

/// Longest wait of our own choice.
const WAIT_OWN_MAX: Duration = Duration::from_secs(60);

/// Longest wait an API may ask for. Whoever wants more is come back to another time.
const WAIT_TOLD_MAX: Duration = Duration::from_secs(15 * 60);

/// Waits shorter than this are not told.
const WAIT_TOLD_FROM: Duration = Duration::from_secs(2);

/// Longest wait for a connection, and for a whole answer: pages of a thousand users take their time.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// Most requests at once. With answers in 200 ms they are 80 a second, about what the fastest vendor allows.
const AT_ONCE_MAX: usize = 16;

/// Most entries of one page: twice what any API gives.
const PAGE_ENTRIES_MAX: usize = 2_000;

/// Most pages of one listing. Ten to a hundred million entries: a listing that is longer has no end.
const PAGES_MAX: u64 = 100_000;

/// How often a listing that shifts is walked at most.
const WALKS_MAX: u64 = 3;

/// How often our share of a limit is halved at most.
const SLOWER_MAX: u32 = 6;

/// Where to read from, besides files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// The pages of its API.
    Api,
    /// Its own database.
    Database,
}

/// The word of the flag.
///
/// # Errors
/// When there is no such word.
pub fn live(text: &str) -> Result<Live, String> {
    match text {
        "api" => Ok(Live::Api),
        "database" => Ok(Live::Database),
        _ => Err("api or database".into()),
    }
}

/// What is told while it goes on.
pub enum News<'n> {
    /// So many entries are read.
    Entries(u64),
    /// A line for whoever waits.
    Line(&'n str),
}

/// Whoever is told.
pub type Told<'t> = &'t mut dyn FnMut(News<'_>);

fn usage(message: impl Into<String>, advice: impl Into<String>) -> Failure {
    Failure {
        message: message.into(),
        advice: advice.into(),
        code: USAGE,
    }
}

/// A failure of what is kept on disk.
pub fn broken(error: &FetchedError) -> Failure {
    Failure {
        message: error.to_string(),
        advice: error.advice().to_owned(),
        code: PROBLEMS,
    }
}

// ------------------------------------------------------------------------------------------------------------------ the API

/// The listings of a source's API, and what of them is left out.
pub struct Api {
    listings: Vec<Listing>,
    without: BTreeSet<String>,
}

impl Api {
    /// The listings of a source.
    ///
    /// # Errors
    /// When it has none, a key is missing, or something is left out that is not there.
    pub fn of(kind: &Kind<Export>, options: &Options, without: &[String]) -> Result<Self, Failure> {
        let Some(described) = kind.build.pages else {
            return Err(usage(
                format!("no API of {} is read", kind.name),
                "give files by `--input NAME=FILE`",
            ));
        };
        let listings = described(options).map_err(|what| {
            usage(
                format!("the API of {} cannot be read: {what}", kind.name),
                "its keys stand in the file of --options, see docs/migrate-sources.md",
            )
        })?;
        let mut api = Self {
            listings,
            without: BTreeSet::new(),
        };
        let known = api.inputs();
        if let Some(unknown) = without.iter().find(|name| !known.contains(name.as_str())) {
            let known: Vec<&str> = known.into_iter().collect();
            return Err(usage(
                format!("`--without {unknown}`: nothing of the API is called so"),
                format!("known are {}", known.join(", ")),
            ));
        }
        api.without = without.iter().cloned().collect();
        if api.inputs().is_empty() {
            return Err(usage(
                "everything is left out",
                "take a `--without` away, or `--fetch`",
            ));
        }
        Ok(api)
    }

    fn has(&self, input: &str) -> bool {
        !self.without.contains(input)
    }

    /// The inputs it fills.
    pub fn inputs(&self) -> BTreeSet<&'static str> {
        let walked = self.listings.iter().filter(|one| self.has(one.input));
        let all = walked.flat_map(|listing| {
            let each = listing.each.iter().map(|each| each.input);
            std::iter::once(listing.input).chain(each)
        });
        all.filter(|input| self.has(input)).collect()
    }

    /// What everything that is kept is sealed under: the key of the API, as its requests carry it. `None`: they carry none.
    fn key(&self) -> Option<Secret> {
        let ask = (self.listings.first()?.ask)(&Cursor::default());
        let mut key = Zeroizing::new(String::new());
        for value in ask.headers.values().filter(|value| value.is_sensitive()) {
            key.push_str(value.to_str().unwrap_or_default());
            key.push('\n');
        }
        Some(Secret::new(key.as_str())).filter(|key| !key.expose().is_empty())
    }

    /// What the same walk is called every time. A listing that is left out changes nothing about the others.
    fn name(&self, provider: &str) -> String {
        let mut digest = Sha256::new();
        digest.update(provider);
        for listing in &self.listings {
            let ask = (listing.ask)(&Cursor::default());
            digest.update(format!("\n{} {}", ask.method, ask.url));
            for each in listing.each.iter().filter(|each| self.has(each.input)) {
                digest.update(format!("\n\t{} {}", each.input, each.name));
            }
        }
        let digest = digest.finalize();
        let short = data_encoding::HEXLOWER.encode(digest.get(..8).unwrap_or(&[]));
        format!("{provider}-{short}")
    }
}

/// Walks listings to their ends. What comes of it outlives a process that is killed, and is gone on with by the next.
///
/// # Errors
/// When the API does not answer, or refuses. What was fetched stays, and the next run goes on there.
pub async fn api(
    kind: &Kind<Export>,
    api: &Api,
    options: &Options,
    below: &Path,
    told: Told<'_>,
) -> Result<Fetched, Failure> {
    let key = api.key();
    let opened = Fetched::open(below, &api.name(kind.name), key.as_ref(), now()).await;
    let (mut store, left) = opened.map_err(|error| broken(&error))?;
    if let Some(left) = left {
        let minutes = now().0.saturating_sub(left.began.0).max(0) / 60_000;
        told(News::Line(&format!(
            "{} entries were fetched before, from {minutes} minutes ago on: it goes on there; to begin anew, remove {}\n",
            left.entries,
            store.place()
        )));
    }
    let walker = match Walker::new(&kind.build, api, options, told) {
        Ok(walker) => walker,
        Err(failure) => {
            store.leave().await;
            return Err(failure);
        }
    };
    for (at, listing) in (0..).zip(&api.listings) {
        if !api.has(listing.input) {
            continue;
        }
        if let Err(mut failure) = walker.walk(at, listing, &mut store).await {
            if store.stays() {
                failure.advice.push_str(
                    "; what was fetched is kept for a day, and the same command goes on there",
                );
            }
            store.leave().await;
            return Err(failure);
        }
    }
    Ok(store)
}

/// One page of what is asked for an entry.
struct EachPage {
    each: usize,
    whose: Whose,
    /// Entries of the pages before.
    rows: u64,
    page: Page,
}

struct Walker<'w> {
    export: &'w Export,
    api: &'w Api,
    options: &'w Options,
    client: reqwest::Client,
    pace: Mutex<Pace>,
    told: Mutex<Told<'w>>,
}

/// What went wrong with one request.
enum Failed {
    /// No answer.
    Silence(&'static str),
    /// An answer that is too long.
    Long,
}

impl<'w> Walker<'w> {
    fn new(
        export: &'w Export,
        api: &'w Api,
        options: &'w Options,
        told: Told<'w>,
    ) -> Result<Self, Failure> {
        // Somebody else may have chosen one already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            // The key goes to the address that was configured and to no other; what stands in the environment is for other programs.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX)
            .user_agent(concat!("vestibule/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure {
                message: format!("no connection can be prepared: {error}"),
                advice: "look at the certificates of this machine".into(),
                code: PROBLEMS,
            })?;
        Ok(Self {
            export,
            api,
            options,
            client,
            pace: Mutex::default(),
            told: Mutex::new(told),
        })
    }

    fn tell(&self, news: News<'_>) {
        locked(&self.told)(news);
    }

    /// Walks a listing to its end, from where it stands.
    async fn walk(&self, at: i64, listing: &Listing, store: &mut Fetched) -> Result<(), Failure> {
        let failed = |error: FetchedError| broken(&error);
        let mut stand = store.stand(at).await.map_err(failed)?;
        let mut total = None;
        // A listing whose cursors come round has no end: one that was met is remembered, seldomer each time, and met again.
        let (mut met, mut remember_at) = (None, 1);
        while !stand.over {
            let cursor = Cursor(stand.cursor.clone());
            let ask = || (listing.ask)(&cursor);
            let page = self.page(
                listing.input,
                listing.name,
                listing.rate,
                &ask,
                &cursor,
                listing.page,
            );
            let Some(page) = page.await? else {
                return Err(usage(
                    format!(
                        "{}: there is no such page (404)",
                        asked(listing.name, &ask())
                    ),
                    format!(
                        "look at the address in --options; `--without {}` leaves it out",
                        listing.input
                    ),
                ));
            };
            if stand.pages >= PAGES_MAX {
                return Err(nonsense(listing.name, &ask(), "it has no end"));
            }
            total = page.total.or(total);
            self.each(at, listing, &page.entries, store).await?;
            let keyed = self.keyed(listing, &page.entries);
            if page.next.is_some() && page.next == met {
                return Err(nonsense(listing.name, &ask(), "its pages come round"));
            }
            if stand.pages_now + 1 >= remember_at {
                remember_at = (stand.pages_now + 1) * 2;
                met = Some(cursor.clone());
            }
            let next = page.next.as_ref().map(|next| next.0.as_str());
            let kept = store.keep(at, &stand, &keyed, next, now()).await;
            stand = kept.map_err(failed)?;
            self.tell(News::Entries(stand.rows));
            // Somebody who left meanwhile has shifted the others: one of them may stand on no page that was read.
            let more = stand.walks == 0 || stand.fresh > 0;
            if stand.over && listing.shifts && stand.pages_now > 1 && more {
                if stand.walks + 1 < WALKS_MAX {
                    (met, remember_at) = (None, 1);
                    stand = store.again(at, &stand, now()).await.map_err(failed)?;
                } else {
                    self.tell(News::Line(&format!(
                        "{}: it changes while it is read; the next run finds who came last\n",
                        listing.name
                    )));
                }
            }
        }
        let ids = store.ids(at).await.map_err(failed)?;
        if let Some(total) = total.filter(|total| *total > ids) {
            self.tell(News::Line(&format!(
                "{}: it says that there are {total}, and gave {ids}\n",
                listing.name
            )));
        }
        Ok(())
    }

    /// Entries with the ids they are known by.
    fn keyed<'v>(&self, listing: &Listing, entries: &'v [Value]) -> Vec<Keyed<'v>> {
        let input = self.export.input(listing.input);
        let id = |value: &Value| {
            let entry = Entry {
                table: String::new(),
                place: Place {
                    input: listing.name.into(),
                    row: 0,
                },
                value: value.clone(),
            };
            let fragments = (input?.part)(&entry, self.options).ok()?;
            fragments.into_iter().next().map(|first| first.key)
        };
        let entries = entries.iter();
        entries
            .map(|value| (id(value).unwrap_or_default(), value))
            .collect()
    }

    /// Asks what is to be asked for each entry of a page, several at once.
    async fn each(
        &self,
        at: i64,
        listing: &Listing,
        entries: &[Value],
        store: &mut Fetched,
    ) -> Result<(), Failure> {
        let failed = |error: FetchedError| broken(&error);
        let mut waiting = Vec::new();
        let mut listed = BTreeSet::new();
        let wanted = listing.each.iter().enumerate();
        for (number, each) in wanted.filter(|(_, each)| self.api.has(each.input)) {
            for id in entries.iter().filter_map(each.of) {
                let index = i64::try_from(number).unwrap_or(i64::MAX);
                let asked = store.is_asked(at, index, &id).await.map_err(failed)?;
                if !asked && listed.insert((number, id.clone())) {
                    let whose = Whose {
                        listing: at,
                        each: index,
                        id,
                        number: 0,
                    };
                    waiting.push((number, each, whose));
                }
            }
        }
        let mut waiting = waiting.into_iter();
        let mut flying = FuturesUnordered::new();
        loop {
            while flying.len() < AT_ONCE_MAX
                && let Some((number, each, whose)) = waiting.next()
            {
                flying.push(self.of_one(listing, number, each, whose, Cursor::default(), 0));
            }
            let Some(one) = flying.next().await else {
                return Ok(());
            };
            let EachPage {
                each,
                whose,
                rows,
                page,
            } = one?;
            let numbered: Vec<(u64, &Value)> = (rows + 1..).zip(&page.entries).collect();
            let over = page.next.is_none();
            let kept = store.keep_each(&whose, &numbered, over).await;
            kept.map_err(failed)?;
            let Some(next) = page.next else { continue };
            let rows = rows + page.entries.len() as u64;
            let whose = Whose {
                number: whose.number + 1,
                ..whose
            };
            if let Some(described) = listing.each.get(each) {
                flying.push(self.of_one(listing, each, described, whose, next, rows));
            }
        }
    }

    async fn of_one(
        &self,
        listing: &Listing,
        number: usize,
        each: &Each,
        whose: Whose,
        cursor: Cursor,
        rows: u64,
    ) -> Result<EachPage, Failure> {
        let ask = || (each.ask)(&whose.id, &cursor);
        let page = self.page(
            each.input,
            each.name,
            listing.rate,
            &ask,
            &cursor,
            each.page,
        );
        let page = page.await?;
        if u64::try_from(whose.number).is_ok_and(|number| number >= PAGES_MAX) {
            return Err(nonsense(each.name, &ask(), "it has no end"));
        }
        Ok(EachPage {
            each: number,
            // Gone since the page was read: then there is nothing of it.
            page: page.unwrap_or_default(),
            whose,
            rows,
        })
    }

    /// Asks for one page until it is there. `None`: there is no such page.
    async fn page(
        &self,
        input: &'static str,
        name: &'static str,
        rate: Limit,
        ask: &(dyn Fn() -> Ask + Sync),
        cursor: &Cursor,
        understand: ReadPage,
    ) -> Result<Option<Page>, Failure> {
        let mut said = String::new();
        for tried in 0..TRIES_MAX {
            self.turn(rate).await;
            let wait = match self.once(ask()).await {
                Ok(answer) => match pages::trouble(&answer) {
                    None => match answer.json() {
                        Some(body) => {
                            let page = understand(cursor, &body, &answer.headers);
                            let page = page.map_err(|why| nonsense(name, &ask(), why))?;
                            if page.next.as_ref() == Some(cursor) {
                                let why = "the page after it is the page itself";
                                return Err(nonsense(name, &ask(), why));
                            }
                            if page.entries.len() > PAGE_ENTRIES_MAX {
                                return Err(nonsense(name, &ask(), "the page is too long"));
                            }
                            return Ok(Some(page));
                        }
                        // A page for people: something stands in between, and may go away again.
                        None => {
                            said = "it answers what is no JSON".to_owned();
                            None
                        }
                    },
                    Some(Trouble::Later) => {
                        said = format!("it answers {}", answer.status);
                        let wait = told_to_wait(&answer, now().0);
                        if let Some(wait) = wait.filter(|wait| *wait > WAIT_TOLD_MAX) {
                            return Err(Failure {
                                message: format!(
                                    "{}: it wants to be left alone for {} s",
                                    asked(name, &ask()),
                                    wait.as_secs()
                                ),
                                advice: "run it again then".into(),
                                code: UNREACHABLE,
                            });
                        }
                        if answer.status == 429 {
                            let wait = wait.unwrap_or_else(|| own_wait(tried));
                            let slower = locked(&self.pace).pause(Instant::now(), wait);
                            if slower && wait >= WAIT_TOLD_FROM {
                                let seconds = wait.as_secs();
                                self.tell(News::Line(&format!(
                                    "{name}: too many requests, it goes on in {seconds} s, and slower\n"
                                )));
                            }
                            continue;
                        }
                        wait
                    }
                    Some(Trouble::Forbidden) => {
                        return Err(forbidden(self.export, input, name, &ask(), answer.status));
                    }
                    Some(Trouble::Missing) => return Ok(None),
                    Some(Trouble::Nonsense) => {
                        let why = format!("it answers {}", answer.status);
                        return Err(nonsense(name, &ask(), &why));
                    }
                },
                Err(Failed::Silence(why)) => {
                    said = why.to_owned();
                    None
                }
                Err(Failed::Long) => {
                    return Err(nonsense(name, &ask(), "the answer is longer than 64 MiB"));
                }
            };
            if tried + 1 < TRIES_MAX {
                tokio::time::sleep(wait.unwrap_or_else(|| own_wait(tried))).await;
            }
        }
        Err(Failure {
            message: format!(
                "{}: {said}, {TRIES_MAX} times in a row",
                asked(name, &ask())
            ),
            advice: "look whether it is up, and run it again".into(),
            code: UNREACHABLE,
        })
    }

    /// Waits until it is our turn.
    async fn turn(&self, rate: Limit) {
        loop {
            let wait = locked(&self.pace).turn(rate, Instant::now());
            match wait {
                None => return,
                Some(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Asks once.
    async fn once(&self, ask: Ask) -> Result<Answer, Failed> {
        let Ask {
            method,
            url,
            headers,
            body,
        } = ask;
        let mut request = self.client.request(method, url).headers(headers);
        if !body.expose().is_empty() {
            let body = Zeroizing::new(body.expose().as_bytes().to_vec());
            request = request.body(bytes::Bytes::from_owner(body));
        }
        let mut answer = request.send().await.map_err(|error| silence(&error))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let mut body = Zeroizing::new(Vec::new());
        while let Some(piece) = answer.chunk().await.map_err(|error| silence(&error))? {
            if body.len() + piece.len() > PAGE_BYTES_MAX {
                return Err(Failed::Long);
            }
            body.extend_from_slice(&piece);
        }
        let text = String::from_utf8(std::mem::take(&mut *body));
        Ok(Answer {
            status,
            headers,
            // What is no text is no JSON either.
            body: Secret::new(text.unwrap_or_default()),
        })
    }
}

/// Why there was no answer. The words of the error may hold the address with its query: they are not kept.
fn silence(error: &reqwest::Error) -> Failed {
    Failed::Silence(if error.is_timeout() {
        "it does not answer in time"
    } else if error.is_connect() {
        "it cannot be reached"
    } else {
        "the connection broke"
    })
}

/// What was asked, in words that hold no secret: neither query nor id.
fn asked(name: &str, ask: &Ask) -> String {
    let host = ask.url.host_str().unwrap_or_default();
    let port = ask.url.port().map(|port| format!(":{port}"));
    format!("{} {host}{}{name}", ask.method, port.unwrap_or_default())
}

fn nonsense(name: &str, ask: &Ask, why: &str) -> Failure {
    Failure {
        message: format!("{}: {why}", asked(name, ask)),
        advice: "compare the address in --options with the documentation of the API".into(),
        code: PROBLEMS,
    }
}

fn forbidden(export: &Export, input: &str, name: &str, ask: &Ask, status: u16) -> Failure {
    let required = export.input(input).is_some_and(|input| input.required);
    let besides = match required {
        true => String::new(),
        false => format!(", or leave it out by `--without {input}`"),
    };
    Failure {
        message: format!(
            "{}: it does not accept the key ({status})",
            asked(name, ask)
        ),
        advice: format!("look at the key in --options and at what it may read{besides}"),
        code: USAGE,
    }
}

/// How long an answer says to wait: `Retry-After` in seconds or as a date, or when a window ends.
fn told_to_wait(answer: &Answer, now_ms: i64) -> Option<Duration> {
    let header = |name: &str| Some(answer.headers.get(name)?.to_str().ok()?.trim().to_owned());
    let until = |seconds: i64| {
        let wait = seconds.saturating_mul(1000).saturating_sub(now_ms);
        Duration::from_millis(u64::try_from(wait).unwrap_or(0))
    };
    if let Some(text) = header("retry-after") {
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        if let Ok(date) = chrono::DateTime::parse_from_rfc2822(&text) {
            return Some(until(date.timestamp()));
        }
    }
    // Auth0: seconds since the epoch.
    let reset: i64 = header("x-ratelimit-reset")?.parse().ok()?;
    (answer.status == 429 && reset > 1_000_000_000).then(|| until(reset))
}

/// How long to wait after so many tries: twice as long each time, half of it by chance, so that several of us do not come back together.
fn own_wait(tried: u32) -> Duration {
    let whole = WAIT_FIRST
        .saturating_mul(1 << tried.min(10))
        .min(WAIT_OWN_MAX);
    let mut dice = [0u8; 1];
    random(&mut dice);
    let [dice] = dice;
    whole / 2 + whole / 2 * u32::from(dice) / 255
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When we asked, so that we ask no more often than we may.
#[derive(Default)]
struct Pace {
    asked: VecDeque<Instant>,
    /// Nobody asks before.
    not_before: Option<Instant>,
    /// How often our share was halved.
    slower: u32,
}

impl Pace {
    /// How long to wait for our turn; `None`: it is ours, and counted.
    fn turn(&mut self, rate: Limit, now: Instant) -> Option<Duration> {
        if let Some(wait) = self
            .not_before
            .map(|then| then.saturating_duration_since(now))
            && !wait.is_zero()
        {
            return Some(wait);
        }
        let most = usize::try_from((rate.most >> self.slower).max(1)).unwrap_or(1);
        while let Some(first) = self.asked.front()
            && now.saturating_duration_since(*first) >= rate.within
        {
            self.asked.pop_front();
        }
        if self.asked.len() < most {
            self.asked.push_back(now);
            return None;
        }
        let free = self.asked.len() - most;
        let first = self.asked.get(free)?;
        Some(
            rate.within
                .saturating_sub(now.saturating_duration_since(*first)),
        )
    }

    /// It was too often: nobody asks for a while, and we ask less often from now on. Several answers say so at once; they count as one.
    fn pause(&mut self, now: Instant, wait: Duration) -> bool {
        let paused = self.not_before.is_some_and(|then| then > now);
        let until = now + wait;
        self.not_before = Some(self.not_before.map_or(until, |then| then.max(until)));
        if !paused {
            self.slower = (self.slower + 1).min(SLOWER_MAX);
        }
        !paused
    }
}

/// Tells everything that was fetched, entry by entry, in an order that is always the same.
///
/// # Errors
/// When it cannot be read, or `take` fails.
pub async fn replay(
    store: &mut Fetched,
    export: &Export,
    api: &Api,
    options: &Options,
    digest: &mut Sha256,
    mut take: impl AsyncFnMut(Vec<Result<Fragment, Refusal>>, u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut after = None;
    let mut place: (String, Arc<str>) = (String::new(), "".into());
    loop {
        let page = store.next(after.as_ref()).await;
        let Some((whose, kept)) = page.map_err(|error| broken(&error))? else {
            return Ok(());
        };
        let described = usize::try_from(whose.listing)
            .ok()
            .and_then(|at| api.listings.get(at));
        let input = described.and_then(|listing| {
            let name = match usize::try_from(whose.each) {
                Ok(at) => listing.each.get(at)?.input,
                Err(_) => listing.input,
            };
            export.input(name)
        });
        let (Some(listing), Some(input)) = (described, input) else {
            return Err(Failure {
                message: format!("{} is damaged", store.place()),
                advice: "remove that folder, and run it again".into(),
                code: PROBLEMS,
            });
        };
        let each = usize::try_from(whose.each)
            .ok()
            .and_then(|at| listing.each.get(at));
        if !(api.has(listing.input) && api.has(input.name)) {
            after = Some(whose);
            continue;
        }
        let path = match each {
            None => listing.name.to_owned(),
            Some(each) if each.name.contains("{id}") => each.name.replace("{id}", &whose.id),
            Some(each) => format!("{}#{}", each.name, whose.id),
        };
        if place.0 != path {
            place = (path.clone(), path.into());
        }
        let mut all = Vec::with_capacity(kept.len());
        let entries = kept.len() as u64;
        for (row, value) in kept {
            let place = Place {
                input: place.1.clone(),
                row,
            };
            one(input, options, &whose.id, place, value, digest, &mut all);
        }
        take(all, entries).await?;
        after = Some(whose);
    }
}

/// What becomes of one entry.
fn one(
    input: &'static Input,
    options: &Options,
    table: &str,
    place: Place,
    value: Value,
    digest: &mut Sha256,
    all: &mut Vec<Result<Fragment, Refusal>>,
) {
    let text = Zeroizing::new(value.to_string());
    digest.update(input.name);
    digest.update(text.as_bytes());
    if text.len() > ENTRY_BYTES_MAX {
        all.push(Err(Refusal {
            place,
            source_id: crate::migration::import::source::id(&value, "/id"),
            note: Note {
                what: Oddity::Unreadable,
                detail: "longer than 4 MiB".into(),
            },
        }));
        return;
    }
    let entry = Entry {
        table: table.to_owned(),
        place,
        value,
    };
    read::take(input, options, &entry, &mut |what| all.push(what));
}

// ------------------------------------------------------------------------------------------------------------- the database

fn unread(error: &SnapshotError) -> Failure {
    Failure {
        message: error.to_string(),
        advice: error.advice().to_owned(),
        code: match error {
            SnapshotError::Address(_) => USAGE,
            SnapshotError::Unreachable { .. } | SnapshotError::Refused { .. } => UNREACHABLE,
        },
    }
}

/// The address of the old system's own database.
///
/// # Errors
/// When it has none that is read, or it is not named.
pub fn database_url(kind: &Kind<Export>, options: &Options) -> Result<Secret, Failure> {
    if kind.build.queries.is_empty() {
        return Err(usage(
            format!("no database of {} is read", kind.name),
            "give files by `--input NAME=FILE`",
        ));
    }
    let url = options.fields.required("database_url");
    url.cloned().map_err(|what| {
        usage(
            format!("the database of {} cannot be read: {what}", kind.name),
            "name it in the file of --options: database_url = { env = \"NAME\" }",
        )
    })
}

/// Reads the tables of the old system's own database, as they are at one moment.
///
/// # Errors
/// When it cannot be read, or `take` fails.
pub async fn database(
    kind: &Kind<Export>,
    url: &Secret,
    options: &Options,
    digest: &mut Sha256,
    mut take: impl AsyncFnMut(Vec<Result<Fragment, Refusal>>, u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let failed = |error: SnapshotError| unread(&error);
    let mut snapshot = Snapshot::open(url).await.map_err(failed)?;
    for query in kind.build.queries {
        let Some(input) = kind.build.input(query.input) else {
            continue;
        };
        if !snapshot.has(query.table).await.map_err(failed)? {
            if input.required {
                return Err(usage(
                    format!("the database has no table {}", query.table),
                    "look whether `database_url` names the database of the project",
                ));
            }
            continue;
        }
        let table: Arc<str> = query.table.into();
        snapshot.begin(query.sql).await.map_err(failed)?;
        let mut row = 0;
        loop {
            let texts = snapshot.next().await.map_err(failed)?;
            if texts.is_empty() {
                break;
            }
            let mut all = Vec::with_capacity(texts.len());
            let entries = texts.len() as u64;
            for text in texts {
                row += 1;
                let place = Place {
                    input: table.clone(),
                    row,
                };
                let text = Zeroizing::new(text);
                match serde_json::from_str(&text) {
                    Ok(value) => one(input, options, query.table, place, value, digest, &mut all),
                    Err(_) => all.push(Err(Refusal {
                        place,
                        source_id: None,
                        note: Note {
                            what: Oddity::Unreadable,
                            detail: "it is no JSON".into(),
                        },
                    })),
                }
            }
            take(all, entries).await?;
        }
    }
    snapshot.end().await;
    Ok(())
}

/// Whether something was read from an API or a database: files have no such names.
pub fn is_live(export: &Export, place: &Place) -> bool {
    place.input.starts_with('/')
        || export
            .queries
            .iter()
            .any(|query| *query.table == *place.input)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Answer {
            status,
            headers: map,
            body: Secret::default(),
        }
    }

    #[test]
    fn no_more_is_asked_than_our_share_and_less_after_a_429() {
        let rate = Limit {
            most: 4,
            within: Duration::from_secs(10),
        };
        let mut pace = Pace::default();
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        for ms in [0, 1000, 2000, 3000] {
            assert_eq!(pace.turn(rate, at(ms)), None);
        }
        assert_eq!(pace.turn(rate, at(4000)), Some(Duration::from_secs(6)));
        assert_eq!(pace.turn(rate, at(10_000)), None);
        assert_eq!(pace.turn(rate, at(10_000)), Some(Duration::from_secs(1)));

        assert!(pace.pause(at(10_000), Duration::from_secs(30)));
        // Another answer to a request that was under way.
        assert!(!pace.pause(at(10_500), Duration::from_secs(30)));
        assert_eq!(
            pace.turn(rate, at(11_000)),
            Some(Duration::from_millis(29_500))
        );
        for _ in 0..2 {
            assert_eq!(pace.turn(rate, at(41_000)), None, "two in ten seconds");
        }
        assert_eq!(pace.turn(rate, at(41_000)), Some(Duration::from_secs(10)));
        for _ in 0..20 {
            pace.pause(at(3_600_000), Duration::ZERO);
        }
        assert_eq!(pace.turn(rate, at(3_600_000)), None, "one at least");
    }

    #[test]
    fn waits_are_as_they_are_told_and_else_grow_within_bounds() {
        let now = 1_700_000_000_000;
        let told = |headers: &[(&'static str, &str)]| told_to_wait(&answer(429, headers), now);
        assert_eq!(told(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(
            told(&[("retry-after", "Tue, 14 Nov 2023 22:13:30 GMT")]),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            told(&[("x-ratelimit-reset", "1700000003")]),
            Some(Duration::from_secs(3))
        );
        for odd in ["-1", "soon", "", "1e9"] {
            assert_eq!(told(&[("retry-after", odd)]), None, "{odd}");
        }
        assert_eq!(told(&[]), None);
        for tried in 0..40 {
            let wait = own_wait(tried);
            let whole = WAIT_FIRST
                .saturating_mul(1 << tried.min(10))
                .min(WAIT_OWN_MAX);
            assert!(wait >= whole / 2 && wait <= whole, "{tried}: {wait:?}");
        }
    }
}
