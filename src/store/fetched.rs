//! What was fetched of an old system's API, and where each of its listings stands: on disk, so that a walk of hours that was killed goes
//! on where it was.
//!
//! A private file in a private folder, encrypted under a key derived from the key of the API itself: whoever can read the file can
//! ask the API for the same. Without such a key nobody else can read it, we ourselves after a restart included, and a walk
//! begins anew.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chacha20poly1305::aead::{Aead, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::time::UnixMs;

/// What its folders begin with.
const FOLDER: &str = "vestibule-fetch-";

/// How old what an earlier run left may be. Older, too much has changed there, and it is removed.
pub const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What is sealed to see whether a key is the right one.
const CHECK: &[u8] = b"vestibule fetched";

/// It cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FetchedError {
    /// The file or its folder.
    #[error("{place}: {cause}")]
    File {
        /// Where.
        place: String,
        /// What the system says.
        cause: String,
    },
    /// Somebody else could have written there.
    #[error("{place} is not a folder of ours alone")]
    Foreign {
        /// Where.
        place: String,
    },
    /// Another process is at it.
    #[error("another run is fetching the same into {place}")]
    Held {
        /// Where.
        place: String,
    },
    /// What was written is not what is read.
    #[error("{place} is damaged")]
    Damaged {
        /// Where.
        place: String,
    },
}

impl FetchedError {
    /// The operator's next step.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::File { .. } => {
                "it takes about the size of the export: name a folder with room by `--spool`"
            }
            Self::Foreign { .. } => "name a folder of your own by `--spool`",
            Self::Held { .. } => "wait for it, or name another folder by `--spool`",
            Self::Damaged { .. } => {
                "remove that folder, and run it again: everything is fetched anew"
            }
        }
    }
}

/// What an earlier run left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// When it began.
    pub began: UnixMs,
    /// Entries that were kept.
    pub entries: u64,
}

/// Where a listing stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stand {
    /// The cursor of the next page.
    pub cursor: String,
    /// It was walked to its end.
    pub over: bool,
    /// Pages that were kept in all.
    pub pages: u64,
    /// Pages of this walk of it.
    pub pages_now: u64,
    /// Entries that were read in all.
    pub rows: u64,
    /// How often it was walked to its end before.
    pub walks: u64,
    /// Ids that turned up first in this walk of it.
    pub fresh: u64,
}

/// An entry of a page: the id it is known by, empty where it has none, and what it says.
pub type Keyed<'v> = (String, &'v Value);

/// Which pages: those of a listing itself, or what was asked for one of its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// The listing.
    pub listing: i64,
    /// Which of the things that are asked for its entries; -1 for its own pages.
    pub each: i64,
    /// The id of the entry.
    pub id: String,
    /// Which page.
    pub number: i64,
}

/// A page: entries with their numbers.
pub type Kept = Vec<(u64, Value)>;

/// What was fetched.
pub struct Fetched {
    folder: PathBuf,
    link: SqliteConnection,
    cipher: XChaCha20Poly1305,
    stays: bool,
}

const TABLES: &str = "
    CREATE TABLE meta (salt BLOB NOT NULL, checked BLOB NOT NULL, began INTEGER NOT NULL, touched INTEGER NOT NULL);
    CREATE TABLE stands (listing INTEGER PRIMARY KEY, cursor TEXT NOT NULL, over INTEGER NOT NULL, pages INTEGER NOT NULL,
        pages_now INTEGER NOT NULL, rows INTEGER NOT NULL, walks INTEGER NOT NULL, fresh INTEGER NOT NULL);
    CREATE TABLE pages (listing INTEGER NOT NULL, each INTEGER NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, entries INTEGER NOT NULL,
        sealed BLOB NOT NULL, PRIMARY KEY (listing, each, id, number));
    CREATE TABLE asked (listing INTEGER NOT NULL, each INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (listing, each, id)) WITHOUT ROWID;
    CREATE TABLE seen (listing INTEGER NOT NULL, id TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (listing, id, digest)) WITHOUT ROWID;
";

impl Fetched {
    /// Opens what an earlier run left below this folder under this name and key, or begins anew. Without a key nothing outlives the
    /// process.
    ///
    /// # Errors
    /// When it cannot be made, or another process has it.
    pub async fn open(
        below: &Path,
        name: &str,
        key: Option<&Secret>,
        now: UnixMs,
    ) -> Result<(Self, Option<Left>), FetchedError> {
        sweep(below);
        let Some(key) = key else {
            let mut random = Zeroizing::new([0u8; 40]);
            fill(random.as_mut_slice());
            let (key, own) = random.split_at(32);
            let own = data_encoding::HEXLOWER.encode(own);
            // The spool sweeps away what a process that is gone left under this name.
            let folder = below.join(format!("vestibule-import-{}-{own}", std::process::id()));
            let key = Secret::new(data_encoding::HEXLOWER.encode(key));
            return Ok((Self::begin(folder, &key, now, false).await?, None));
        };
        let folder = below.join(format!("{FOLDER}{name}"));
        match std::fs::symlink_metadata(&folder) {
            Err(_) => Ok((Self::begin(folder, key, now, true).await?, None)),
            Ok(_) => {
                ours(&folder)?;
                match Self::resume(&folder, key, now).await? {
                    Some((fetched, left)) => Ok((fetched, Some(left))),
                    None => {
                        let failed = |error: std::io::Error| FetchedError::File {
                            place: folder.display().to_string(),
                            cause: error.to_string(),
                        };
                        std::fs::remove_dir_all(&folder).map_err(failed)?;
                        Ok((Self::begin(folder, key, now, true).await?, None))
                    }
                }
            }
        }
    }

    async fn link(folder: &Path) -> Result<SqliteConnection, sqlx::Error> {
        SqliteConnectOptions::new()
            .filename(folder.join("fetched.db"))
            // Whole after the process was killed, and after the machine was, too.
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .locking_mode(SqliteLockingMode::Exclusive)
            .busy_timeout(Duration::ZERO)
            .disable_statement_logging()
            .connect()
            .await
    }

    async fn begin(
        folder: PathBuf,
        key: &Secret,
        now: UnixMs,
        stays: bool,
    ) -> Result<Self, FetchedError> {
        let place = folder.display().to_string();
        let failed = |cause: String| FetchedError::File {
            place: place.clone(),
            cause,
        };
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| failed(error.to_string()))?;
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join("fetched.db"))
            .map_err(|error| failed(error.to_string()))?;
        let mut salt = [0u8; 32];
        fill(&mut salt);
        let mut fetched = Self {
            link: Self::link(&folder)
                .await
                .map_err(|error| failed(error.to_string()))?,
            cipher: cipher(key, &salt),
            stays,
            folder,
        };
        let checked = fetched.seal(CHECK, b"meta")?;
        // All of it or nothing: what has no key cannot be gone on with.
        fetched.run("BEGIN").await?;
        fetched.run(TABLES).await?;
        let meta =
            sqlx::query("INSERT INTO meta (salt, checked, began, touched) VALUES (?, ?, ?, ?)")
                .bind(salt.to_vec())
                .bind(checked)
                .bind(now.0)
                .bind(now.0)
                .execute(&mut fetched.link)
                .await;
        meta.map_err(|error| fetched.failed(&error))?;
        fetched.run("COMMIT").await?;
        Ok(fetched)
    }

    /// `None`: there is nothing to go on with.
    async fn resume(
        folder: &Path,
        key: &Secret,
        now: UnixMs,
    ) -> Result<Option<(Self, Left)>, FetchedError> {
        let held = |error: &sqlx::Error| {
            let code = match error {
                sqlx::Error::Database(error) => error.code().map(std::borrow::Cow::into_owned),
                _ => None,
            };
            matches!(code.as_deref(), Some("5" | "261" | "517"))
        };
        let is_held = || FetchedError::Held {
            place: folder.display().to_string(),
        };
        if !folder.join("fetched.db").is_file() {
            return Ok(None);
        }
        let mut link = match Self::link(folder).await {
            Ok(link) => link,
            Err(error) if held(&error) => return Err(is_held()),
            Err(_) => return Ok(None),
        };
        // Takes the lock, and keeps it.
        let read = async {
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut link).await?;
            let row = sqlx::query("SELECT salt, checked, began, touched, (SELECT COALESCE(SUM(entries), 0) FROM pages) FROM meta")
                .fetch_optional(&mut link)
                .await?;
            sqlx::raw_sql("COMMIT").execute(&mut link).await?;
            Ok::<_, sqlx::Error>(row)
        };
        let row = match read.await {
            Ok(Some(row)) => row,
            Err(error) if held(&error) => return Err(is_held()),
            // It was killed before it began, or the file is damaged.
            Ok(None) | Err(_) => return Ok(None),
        };
        let (Ok(salt), Ok(checked), Ok(began), Ok(touched), Ok(entries)) = (
            row.try_get::<Vec<u8>, _>(0),
            row.try_get::<Vec<u8>, _>(1),
            row.try_get::<i64, _>(2),
            row.try_get::<i64, _>(3),
            row.try_get::<i64, _>(4),
        ) else {
            return Ok(None);
        };
        let fetched = Self {
            folder: folder.to_owned(),
            link,
            cipher: cipher(key, &salt),
            stays: true,
        };
        let age = now.0.saturating_sub(touched);
        let fresh = u128::try_from(age).is_ok_and(|age| age <= AGE_MAX.as_millis());
        if !fresh || fetched.unseal(&checked, b"meta").is_err() {
            return Ok(None);
        }
        let left = Left {
            began: UnixMs(began),
            entries: unsigned(entries),
        };
        Ok(Some((fetched, left)))
    }

    /// Where it is.
    pub fn place(&self) -> String {
        self.folder.display().to_string()
    }

    /// Whether a later run can go on with it.
    pub const fn stays(&self) -> bool {
        self.stays
    }

    /// Removes it.
    pub async fn remove(self) {
        let _ = self.link.close().await;
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// Leaves it to a later run, where that can go on with it.
    pub async fn leave(self) {
        match self.stays {
            true => drop(self.link.close().await),
            false => self.remove().await,
        }
    }

    fn failed(&self, error: &sqlx::Error) -> FetchedError {
        FetchedError::File {
            place: self.place(),
            cause: error.to_string(),
        }
    }

    fn damaged(&self) -> FetchedError {
        FetchedError::Damaged {
            place: self.place(),
        }
    }

    fn seal(&self, plain: &[u8], what: &[u8]) -> Result<Vec<u8>, FetchedError> {
        let mut nonce = [0u8; 24];
        fill(&mut nonce);
        let payload = Payload {
            msg: plain,
            aad: what,
        };
        let closed = self.cipher.encrypt(&XNonce::from(nonce), payload);
        let closed = closed.map_err(|_| self.damaged())?;
        Ok([&nonce[..], &closed].concat())
    }

    fn unseal(&self, sealed: &[u8], what: &[u8]) -> Result<Zeroizing<Vec<u8>>, FetchedError> {
        let (nonce, closed) = sealed
            .split_first_chunk::<24>()
            .ok_or_else(|| self.damaged())?;
        let payload = Payload {
            msg: closed,
            aad: what,
        };
        let opened = self.cipher.decrypt(&XNonce::from(*nonce), payload);
        opened.map(Zeroizing::new).map_err(|_| self.damaged())
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), FetchedError> {
        let done = sqlx::raw_sql(sql).execute(&mut self.link).await;
        done.map(drop).map_err(|error| self.failed(&error))
    }

    /// Where a listing stands.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn stand(&mut self, listing: i64) -> Result<Stand, FetchedError> {
        let sql = "SELECT cursor, over, pages, pages_now, rows, walks, fresh FROM stands WHERE listing = ?";
        let row = sqlx::query(sql).bind(listing);
        let row = row.fetch_optional(&mut self.link).await;
        let Some(row) = row.map_err(|error| self.failed(&error))? else {
            return Ok(Stand::default());
        };
        let number = |at: usize| row.try_get::<i64, _>(at).map(unsigned);
        let read = || {
            Ok::<_, sqlx::Error>(Stand {
                cursor: row.try_get(0)?,
                over: number(1)? != 0,
                pages: number(2)?,
                pages_now: number(3)?,
                rows: number(4)?,
                walks: number(5)?,
                fresh: number(6)?,
            })
        };
        read().map_err(|_| self.damaged())
    }

    /// Keeps a page of a listing, and where the listing stands after it. What was kept before word for word is not kept again; in a
    /// second walk neither is anything of an id that is known. Gives where it stands.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep(
        &mut self,
        listing: i64,
        before: &Stand,
        entries: &[Keyed<'_>],
        next: Option<&str>,
        now: UnixMs,
    ) -> Result<Stand, FetchedError> {
        self.run("BEGIN").await?;
        let mut stand = before.clone();
        let mut kept = Vec::new();
        for (id, value) in entries {
            stand.rows += 1;
            let text = Zeroizing::new(value.to_string());
            let digest = Sha256::digest(text.as_bytes());
            let sql = "SELECT EXISTS (SELECT 1 FROM seen WHERE listing = ? AND id = ?)";
            let known = sqlx::query(sql).bind(listing).bind(id.as_str());
            let known = known.fetch_one(&mut self.link).await;
            let known = known.map_err(|error| self.failed(&error))?;
            let known = known.try_get::<i64, _>(0).unwrap_or(0) != 0;
            if known && before.walks > 0 && !id.is_empty() {
                continue;
            }
            let sql = "INSERT OR IGNORE INTO seen (listing, id, digest) VALUES (?, ?, ?)";
            let added = sqlx::query(sql).bind(listing).bind(id.as_str());
            let added = added.bind(digest.get(..16).unwrap_or(&[]).to_vec());
            let added = added.execute(&mut self.link).await;
            let added = added.map_err(|error| self.failed(&error))?.rows_affected() > 0;
            stand.fresh += u64::from(!known && added);
            if added {
                kept.push((stand.rows, *value));
            }
        }
        let whose = Whose {
            listing,
            each: -1,
            id: String::new(),
            number: signed(stand.pages),
        };
        if !kept.is_empty() {
            self.put(&whose, &kept).await?;
        }
        stand.pages += 1;
        stand.pages_now += 1;
        stand.over = next.is_none();
        stand.cursor = next.unwrap_or_default().to_owned();
        self.set(listing, &stand, now).await?;
        self.run("COMMIT").await?;
        Ok(stand)
    }

    /// Walks a listing once more, from its beginning.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn again(
        &mut self,
        listing: i64,
        before: &Stand,
        now: UnixMs,
    ) -> Result<Stand, FetchedError> {
        let stand = Stand {
            cursor: String::new(),
            over: false,
            pages_now: 0,
            walks: before.walks + 1,
            fresh: 0,
            ..before.clone()
        };
        self.set(listing, &stand, now).await?;
        Ok(stand)
    }

    async fn set(&mut self, listing: i64, stand: &Stand, now: UnixMs) -> Result<(), FetchedError> {
        let sql = "INSERT OR REPLACE INTO stands (listing, cursor, over, pages, pages_now, rows, walks, fresh) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        let done = sqlx::query(sql)
            .bind(listing)
            .bind(stand.cursor.clone())
            .bind(i64::from(stand.over))
            .bind(signed(stand.pages))
            .bind(signed(stand.pages_now))
            .bind(signed(stand.rows))
            .bind(signed(stand.walks))
            .bind(signed(stand.fresh))
            .execute(&mut self.link)
            .await;
        done.map_err(|error| self.failed(&error))?;
        let touched = sqlx::query("UPDATE meta SET touched = ?").bind(now.0);
        let touched = touched.execute(&mut self.link).await;
        touched.map(drop).map_err(|error| self.failed(&error))
    }

    async fn put(&mut self, whose: &Whose, kept: &[(u64, &Value)]) -> Result<(), FetchedError> {
        let plain = serde_json::to_vec(kept).map(Zeroizing::new);
        let plain = plain.map_err(|_| self.damaged())?;
        let sealed = self.seal(&plain, whose.words().as_bytes())?;
        let sql = "INSERT OR REPLACE INTO pages (listing, each, id, number, entries, sealed) VALUES (?, ?, ?, ?, ?, ?)";
        let done = sqlx::query(sql)
            .bind(whose.listing)
            .bind(whose.each)
            .bind(whose.id.clone())
            .bind(whose.number)
            .bind(i64::try_from(kept.len()).unwrap_or(i64::MAX))
            .bind(sealed)
            .execute(&mut self.link)
            .await;
        done.map(drop).map_err(|error| self.failed(&error))
    }

    /// Keeps a page of what was asked for one entry. `over`: it was the last.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep_each(
        &mut self,
        whose: &Whose,
        entries: &[(u64, &Value)],
        over: bool,
    ) -> Result<(), FetchedError> {
        self.run("BEGIN").await?;
        if whose.number == 0 {
            // Of a run that was killed in the middle of it.
            let sql = "DELETE FROM pages WHERE listing = ? AND each = ? AND id = ?";
            let done = sqlx::query(sql)
                .bind(whose.listing)
                .bind(whose.each)
                .bind(whose.id.clone())
                .execute(&mut self.link)
                .await;
            done.map_err(|error| self.failed(&error))?;
        }
        if !entries.is_empty() {
            self.put(whose, entries).await?;
        }
        if over {
            let sql = "INSERT OR IGNORE INTO asked (listing, each, id) VALUES (?, ?, ?)";
            let done = sqlx::query(sql)
                .bind(whose.listing)
                .bind(whose.each)
                .bind(whose.id.clone())
                .execute(&mut self.link)
                .await;
            done.map_err(|error| self.failed(&error))?;
        }
        self.run("COMMIT").await
    }

    /// Whether everything was asked for an entry.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn is_asked(
        &mut self,
        listing: i64,
        each: i64,
        id: &str,
    ) -> Result<bool, FetchedError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM asked WHERE listing = ? AND each = ? AND id = ?)";
        let row = sqlx::query(sql).bind(listing).bind(each).bind(id);
        let row = row.fetch_one(&mut self.link).await;
        let row = row.map_err(|error| self.failed(&error))?;
        Ok(row.try_get::<i64, _>(0).unwrap_or(0) != 0)
    }

    /// How many different ids a listing had.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn ids(&mut self, listing: i64) -> Result<u64, FetchedError> {
        let sql = "SELECT COUNT(DISTINCT id) FROM seen WHERE listing = ?";
        let row = sqlx::query(sql).bind(listing).fetch_one(&mut self.link);
        let row = row.await.map_err(|error| self.failed(&error))?;
        Ok(unsigned(row.try_get(0).unwrap_or(0)))
    }

    /// The page after this one, listings in their order, first their own pages and then what was asked for their entries, by id.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn next(
        &mut self,
        after: Option<&Whose>,
    ) -> Result<Option<(Whose, Kept)>, FetchedError> {
        let before_all = Whose {
            listing: -1,
            ..Whose::default()
        };
        let after = after.unwrap_or(&before_all);
        let sql = "SELECT listing, each, id, number, sealed FROM pages WHERE (listing, each, id, number) > (?, ?, ?, ?) \
                   ORDER BY listing, each, id, number LIMIT 1";
        let row = sqlx::query(sql)
            .bind(after.listing)
            .bind(after.each)
            .bind(after.id.as_str())
            .bind(after.number)
            .fetch_optional(&mut self.link)
            .await
            .map_err(|error| self.failed(&error))?;
        let Some(row) = row else { return Ok(None) };
        let damaged = |_| self.damaged();
        let whose = Whose {
            listing: row.try_get(0).map_err(damaged)?,
            each: row.try_get(1).map_err(damaged)?,
            id: row.try_get(2).map_err(damaged)?,
            number: row.try_get(3).map_err(damaged)?,
        };
        let sealed: &[u8] = row.try_get(4).map_err(damaged)?;
        let plain = self.unseal(sealed, whose.words().as_bytes())?;
        let kept: Kept = serde_json::from_slice(&plain).map_err(|_| self.damaged())?;
        Ok(Some((whose, kept)))
    }
}

impl Whose {
    fn words(&self) -> String {
        format!("{}/{}/{}/{}", self.listing, self.each, self.number, self.id)
    }
}

fn cipher(key: &Secret, salt: &[u8]) -> XChaCha20Poly1305 {
    let mut derived = Zeroizing::new([0u8; 32]);
    // Keys of any length are taken.
    if let Ok(mut mac) = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.expose().as_bytes()) {
        mac.update(CHECK);
        mac.update(salt);
        derived.copy_from_slice(&mac.finalize().into_bytes());
    }
    XChaCha20Poly1305::new(Key::from_slice(derived.as_slice()))
}

fn fill(bytes: &mut [u8]) {
    // The system's generator fails only before it was ever seeded; whoever goes on then would make guessable keys.
    if aws_lc_rs::rand::fill(bytes).is_err() {
        std::process::abort();
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Whether a folder is ours alone: the system's temporary folder is everybody's.
fn ours(folder: &Path) -> Result<(), FetchedError> {
    let foreign = || FetchedError::Foreign {
        place: folder.display().to_string(),
    };
    let of = std::fs::symlink_metadata(folder).map_err(|_| foreign())?;
    let me = std::fs::metadata("/proc/self").map(|me| me.uid());
    let mine = me.map_or(true, |me| me == of.uid());
    if of.is_dir() && mine && of.mode() & 0o077 == 0 {
        Ok(())
    } else {
        Err(foreign())
    }
}

/// Removes what nobody has gone on with for too long.
fn sweep(below: &Path) {
    let entries = std::fs::read_dir(below).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| name.starts_with(FOLDER)) {
            continue;
        }
        let folder = entry.path();
        if ours(&folder).is_err() {
            continue;
        }
        let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let ages = files.filter_map(|file| file.metadata().ok()?.modified().ok()?.elapsed().ok());
        if ages.min().is_some_and(|age| age > AGE_MAX) {
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn below(name: &str) -> PathBuf {
        let below = std::env::temp_dir().join(format!("fetched-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&below);
        std::fs::create_dir_all(&below).unwrap();
        below
    }

    async fn all(fetched: &mut Fetched) -> Vec<(i64, String, Value)> {
        let (mut all, mut after) = (Vec::new(), None);
        while let Some((whose, kept)) = fetched.next(after.as_ref()).await.unwrap() {
            all.extend(
                kept.into_iter()
                    .map(|(_, value)| (whose.each, whose.id.clone(), value)),
            );
            after = Some(whose);
        }
        all
    }

    #[tokio::test]
    async fn a_walk_goes_on_where_it_was_and_nobody_else_can_read_it() {
        let below = below("goes-on");
        let key = Secret::new("Bearer sk_test_planted");
        let now = UnixMs(1_000_000);
        let (mut first, left) = Fetched::open(&below, "a", Some(&key), now).await.unwrap();
        assert_eq!(left, None);
        let (ada, eve) = (
            json!({ "id": "ada", "mail": "planted@x" }),
            json!({ "id": "eve" }),
        );
        let stand = Stand::default();
        let page = [("ada".to_owned(), &ada), ("eve".to_owned(), &eve)];
        let stand = first.keep(0, &stand, &page, Some("2"), now).await.unwrap();
        let whose = Whose {
            listing: 0,
            each: 0,
            id: "ada".into(),
            number: 0,
        };
        first.keep_each(&whose, &[(1, &eve)], true).await.unwrap();

        // While one is at it, nobody else is.
        let held = Fetched::open(&below, "a", Some(&key), now).await.err();
        assert!(matches!(held, Some(FetchedError::Held { .. })), "{held:?}");
        first.leave().await;

        let folder = below.join(format!("{FOLDER}a"));
        for file in std::fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.windows(7).any(|some| some == b"planted"), "{file:?}");
            assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o077, 0);
        }
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o077, 0);

        let (mut second, left) = Fetched::open(&below, "a", Some(&key), now).await.unwrap();
        assert_eq!(left.unwrap().entries, 3);
        assert_eq!(second.stand(0).await.unwrap(), stand);
        assert!(second.is_asked(0, 0, "ada").await.unwrap());
        assert!(!second.is_asked(0, 0, "eve").await.unwrap());
        assert_eq!(all(&mut second).await.len(), 3);
        second.leave().await;

        // Another key, or too late: it begins anew.
        let other = Secret::new("Bearer another");
        let (third, left) = Fetched::open(&below, "a", Some(&other), now).await.unwrap();
        assert_eq!(left, None);
        third.leave().await;
        let late = UnixMs(now.0 + 25 * 60 * 60 * 1000);
        let (fourth, left) = Fetched::open(&below, "a", Some(&other), late)
            .await
            .unwrap();
        assert_eq!(left, None);
        fourth.remove().await;
        assert!(!folder.exists());

        // Without a key nothing stays.
        let (fifth, _) = Fetched::open(&below, "a", None, now).await.unwrap();
        assert!(!fifth.stays());
        fifth.leave().await;
        assert_eq!(std::fs::read_dir(&below).unwrap().count(), 0);
        std::fs::remove_dir_all(&below).unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_others_may_write_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let below = below("foreign");
        let folder = below.join(format!("{FOLDER}a"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        let key = Secret::new("k");
        let refused = Fetched::open(&below, "a", Some(&key), UnixMs(0))
            .await
            .err();
        assert!(matches!(refused, Some(FetchedError::Foreign { .. })));
        // Ours alone, and empty: somebody was killed at the very beginning.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        let (fetched, left) = Fetched::open(&below, "a", Some(&key), UnixMs(0))
            .await
            .unwrap();
        assert_eq!(left, None);
        fetched.remove().await;
        std::fs::remove_dir_all(&below).unwrap();
    }

    #[tokio::test]
    async fn what_repeats_is_kept_once_and_a_second_walk_adds_only_who_was_missed() {
        let below = below("repeats");
        let now = UnixMs(0);
        let (mut fetched, _) = Fetched::open(&below, "a", None, now).await.unwrap();
        let one = json!({ "id": "one" });
        let changed = json!({ "id": "one", "updated_at": 2 });
        let two = json!({ "id": "two" });
        let nameless = json!({ "name": "nobody" });
        let key = |id: &str| id.to_owned();
        let page = [(key("one"), &one), (key(""), &nameless)];
        let stand = fetched
            .keep(0, &Stand::default(), &page, Some("2"), now)
            .await;
        let stand = stand.unwrap();
        // Shifted by somebody who came: word for word, and changed.
        let page = [
            (key("one"), &one),
            (key("one"), &changed),
            (key(""), &nameless),
        ];
        let stand = fetched.keep(0, &stand, &page, None, now).await.unwrap();
        assert_eq!((stand.rows, stand.fresh, stand.over), (5, 2, true));
        assert_eq!(all(&mut fetched).await.len(), 3);
        let stand = fetched.again(0, &stand, now).await.unwrap();
        assert_eq!(
            (stand.walks, stand.over, stand.cursor.as_str()),
            (1, false, "")
        );
        let later = json!({ "id": "one", "updated_at": 3 });
        let page = [
            (key("one"), &later),
            (key("two"), &two),
            (key(""), &nameless),
        ];
        let stand = fetched.keep(0, &stand, &page, None, now).await.unwrap();
        assert_eq!(stand.fresh, 1);
        let all = all(&mut fetched).await;
        assert_eq!(all.len(), 4);
        assert_eq!(all[3].2, two);
        fetched.remove().await;
        std::fs::remove_dir_all(&below).unwrap();
    }
}
