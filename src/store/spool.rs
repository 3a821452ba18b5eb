//! The spool: what was read of an export, on disk, until everything of one id stands together.
//!
//! A private file in a private folder, both gone at the end. What was read may hold hashes and tokens, so it is encrypted under a key
//! that only this process has: a spool that a crash left behind is of no use to anybody, and the next run removes it.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit as _};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use zeroize::Zeroizing;

use crate::migration::import::decide::Contested;
use crate::migration::import::outcome::word;
use crate::migration::import::record::{Note, Oddity, Place};
use crate::migration::import::source::{About, Fragment, Joined, Refusal};

/// Rows of one statement: more of them take longer to read than they save.
const ROWS_AT_ONCE: usize = 200;

/// What its folders begin with, and what follows is the process that made it.
const FOLDER: &str = "vestibule-import-";

/// The spool cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file or its folder.
    #[error("the spool at {place}: {cause}")]
    File {
        /// Where.
        place: String,
        /// What the system says.
        cause: String,
    },
    /// What was written is not what is read.
    #[error("the spool is damaged")]
    Damaged,
}

impl SpoolError {
    /// The operator's next step.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::File { .. } => {
                "it takes about twice the size of the export: name a folder with room by `--spool`"
            }
            Self::Damaged => "look for a full or failing disk, and run it again",
        }
    }
}

/// What one user claims, and how good the claim is.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Number of the group.
    pub number: u64,
    /// Which of its records.
    pub index: u64,
    /// What: address, username, phone number, account elsewhere.
    pub what: Claimed,
    /// The thing itself.
    pub value: String,
    /// The id in the old system.
    pub source_id: String,
    /// Whether the address is verified.
    pub verified: bool,
    /// Whether there is a password.
    pub has_password: bool,
    /// The last sign-in, in milliseconds; none is long ago.
    pub last_sign_in: i64,
    /// When they came, in milliseconds; unknown is late.
    pub created: i64,
}

/// What can be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// An address.
    Email,
    /// A username.
    Username,
    /// A phone number.
    Phone,
    /// An account elsewhere: provider, NUL, id.
    Social,
}

impl Claimed {
    const ALL: [Self; 4] = [Self::Email, Self::Username, Self::Phone, Self::Social];

    const fn number(self) -> i64 {
        match self {
            Self::Email => 0,
            Self::Username => 1,
            Self::Phone => 2,
            Self::Social => 3,
        }
    }
}

/// All fragments of one id, with its number.
#[derive(Clone, Debug)]
pub struct Group {
    /// Groups are numbered as they were first met, users before organizations before the rest.
    pub number: u64,
    /// What was read.
    pub joined: Joined,
}

/// The spool.
pub struct Spool {
    folder: PathBuf,
    link: SqliteConnection,
    cipher: XChaCha20Poly1305,
}

const fn number_of(about: About) -> i64 {
    match about {
        About::User => 0,
        About::Organization => 1,
        About::Member => 2,
        About::Invitation => 3,
    }
}

fn about_of(number: i64) -> Option<About> {
    let all = [
        About::User,
        About::Organization,
        About::Member,
        About::Invitation,
    ];
    all.into_iter().find(|about| number_of(*about) == number)
}

const TABLES: &str = "
    PRAGMA synchronous = OFF;
    PRAGMA temp_store = FILE;
    PRAGMA secure_delete = OFF;
    CREATE TABLE fragments (id INTEGER PRIMARY KEY, about INTEGER NOT NULL, key TEXT NOT NULL, part TEXT NOT NULL, input TEXT NOT NULL,
        line INTEGER NOT NULL, value BLOB NOT NULL);
    CREATE TABLE refusals (id INTEGER PRIMARY KEY, input TEXT NOT NULL, line INTEGER NOT NULL, source_id TEXT, what TEXT NOT NULL,
        detail TEXT NOT NULL);
    CREATE TABLE claims (number INTEGER NOT NULL, idx INTEGER NOT NULL, what INTEGER NOT NULL, value TEXT NOT NULL,
        source_id TEXT NOT NULL, verified INTEGER NOT NULL, has_password INTEGER NOT NULL, last_sign_in INTEGER NOT NULL,
        created INTEGER NOT NULL);
";

const JOIN: &str = "
    CREATE INDEX fragments_key ON fragments (about, key);
    CREATE TABLE groups (number INTEGER PRIMARY KEY, about INTEGER NOT NULL, key TEXT NOT NULL);
    INSERT INTO groups (about, key) SELECT about, key FROM fragments GROUP BY about, key ORDER BY about, MIN(id);
    CREATE INDEX groups_about ON groups (about, number);
";

/// The best claim to each thing wins: a verified address, a password, the last sign-in, the oldest. Whoever lost the address is set
/// aside, so they win nothing else.
const SETTLE: &str = "
    CREATE INDEX claims_value ON claims (what, value);
    CREATE TABLE contested AS SELECT what, value FROM claims GROUP BY what, value HAVING COUNT(*) > 1;
    CREATE TABLE lost (number INTEGER NOT NULL, idx INTEGER NOT NULL, what INTEGER NOT NULL, value TEXT NOT NULL, winner TEXT NOT NULL,
        rank INTEGER NOT NULL);
    INSERT INTO lost SELECT number, idx, what, value, FIRST_VALUE(source_id) OVER w, ROW_NUMBER() OVER w
        FROM claims JOIN contested USING (what, value) WHERE what = 0
        WINDOW w AS (PARTITION BY what, value ORDER BY verified DESC, has_password DESC, last_sign_in DESC, created, number, idx);
    DELETE FROM lost WHERE rank = 1;
    CREATE INDEX lost_number ON lost (number, what);
    INSERT INTO lost SELECT c.number, c.idx, c.what, c.value, FIRST_VALUE(c.source_id) OVER w, ROW_NUMBER() OVER w
        FROM claims c JOIN contested USING (what, value) WHERE c.what > 0
        WINDOW w AS (PARTITION BY c.what, c.value ORDER BY
            EXISTS (SELECT 1 FROM lost l WHERE l.number = c.number AND l.idx = c.idx AND l.what = 0),
            c.verified DESC, c.has_password DESC, c.last_sign_in DESC, c.created, c.number, c.idx);
    DELETE FROM lost WHERE rank = 1 AND what IN (1, 2);
";

impl Spool {
    /// A new one in a folder of its own below this one. Those that ended processes left behind there are removed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn open(below: &Path) -> Result<Self, SpoolError> {
        sweep(below);
        let mut random = Zeroizing::new([0u8; 40]);
        fill(random.as_mut_slice())?;
        let (key, name) = random.split_at(32);
        let folder = below.join(format!(
            "{FOLDER}{}-{}",
            std::process::id(),
            data_encoding::HEXLOWER.encode(name)
        ));
        let failed = |cause: String| SpoolError::File {
            place: folder.display().to_string(),
            cause,
        };
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| failed(error.to_string()))?;
        let file = folder.join("spool.db");
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)
            .map_err(|error| failed(error.to_string()))?;
        let mut link = SqliteConnectOptions::new()
            .filename(&file)
            .journal_mode(SqliteJournalMode::Off)
            .disable_statement_logging()
            .connect()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let made = sqlx::raw_sql(TABLES).execute(&mut link).await;
        made.map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            link,
            cipher: XChaCha20Poly1305::new(Key::from_slice(key)),
            folder,
        })
    }

    /// Removes it.
    pub async fn remove(self) {
        let _ = self.link.close().await;
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    fn failed(&self, error: &sqlx::Error) -> SpoolError {
        SpoolError::File {
            place: self.folder.display().to_string(),
            cause: error.to_string(),
        }
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), SpoolError> {
        let done = sqlx::raw_sql(sql).execute(&mut self.link).await;
        done.map(drop).map_err(|error| self.failed(&error))
    }

    /// Adds rows of one table, in one transaction.
    async fn add<T>(
        &mut self,
        into: &str,
        width: usize,
        rows: &[T],
        bind: impl for<'q> Fn(
            Query<'q, sqlx::Sqlite, SqliteArguments>,
            &T,
        ) -> Query<'q, sqlx::Sqlite, SqliteArguments>,
    ) -> Result<(), SpoolError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.run("BEGIN").await?;
        let one = format!("({})", vec!["?"; width].join(", "));
        for some in rows.chunks(ROWS_AT_ONCE) {
            let values = vec![one.as_str(); some.len()].join(", ");
            let sql = format!("INSERT INTO {into} VALUES {values}");
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for row in some {
                query = bind(query, row);
            }
            let done = query.execute(&mut self.link).await;
            done.map_err(|error| self.failed(&error))?;
        }
        self.run("COMMIT").await
    }

    /// Keeps fragments.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn keep(&mut self, fragments: &[Fragment]) -> Result<(), SpoolError> {
        let mut sealed = Vec::with_capacity(fragments.len());
        for fragment in fragments {
            let text = Zeroizing::new(fragment.value.to_string());
            let mut nonce = [0u8; 24];
            fill(&mut nonce)?;
            let closed = self
                .cipher
                .encrypt(&XNonce::from(nonce), text.as_bytes())
                .map_err(|_| SpoolError::Damaged)?;
            sealed.push([&nonce[..], &closed].concat());
        }
        let rows: Vec<(&Fragment, Vec<u8>)> = fragments.iter().zip(sealed).collect();
        let into = "fragments (about, key, part, input, line, value)";
        self.add(into, 6, &rows, |query, (fragment, sealed)| {
            query
                .bind(number_of(fragment.about))
                .bind(fragment.key.clone())
                .bind(fragment.part.to_string())
                .bind(fragment.place.input.to_string())
                .bind(signed(fragment.place.row))
                .bind(sealed.clone())
        })
        .await
    }

    /// Keeps what became nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn refuse(&mut self, refusals: &[Refusal]) -> Result<(), SpoolError> {
        let into = "refusals (input, line, source_id, what, detail)";
        self.add(into, 5, refusals, |query, refusal| {
            query
                .bind(refusal.place.input.to_string())
                .bind(signed(refusal.place.row))
                .bind(refusal.source_id.clone())
                .bind(word(refusal.note.what))
                .bind(refusal.note.detail.clone())
        })
        .await
    }

    /// Everything is read: puts together what belongs together.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn join(&mut self) -> Result<(), SpoolError> {
        self.run(JOIN).await
    }

    /// How many groups there are, and refusals.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn counts(&mut self) -> Result<(u64, u64), SpoolError> {
        let asked = "SELECT (SELECT COUNT(*) FROM groups), (SELECT COUNT(*) FROM refusals)";
        let row = sqlx::query(asked).fetch_one(&mut self.link).await;
        let row = row.map_err(|error| self.failed(&error))?;
        let count = |at: usize| unsigned(row.try_get::<i64, _>(at).unwrap_or(0));
        Ok((count(0), count(1)))
    }

    /// Groups after this number, at most so many; with `lost`, only those of whom one lost the address.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn groups(
        &mut self,
        about: About,
        after: u64,
        most: usize,
        lost: bool,
    ) -> Result<Vec<Group>, SpoolError> {
        let sql = match lost {
            false => {
                "SELECT g.number, f.about, f.key, f.part, f.input, f.line, f.value FROM \
                 (SELECT number, about, key FROM groups WHERE about = ? AND number > ? ORDER BY number LIMIT ?) g \
                 CROSS JOIN fragments f ON f.about = g.about AND f.key = g.key ORDER BY g.number, f.id"
            }
            true => {
                "SELECT g.number, f.about, f.key, f.part, f.input, f.line, f.value FROM \
                 (SELECT number, about, key FROM groups WHERE about = ? AND number > ? \
                  AND number IN (SELECT number FROM lost WHERE what = 0) ORDER BY number LIMIT ?) g \
                 CROSS JOIN fragments f ON f.about = g.about AND f.key = g.key ORDER BY g.number, f.id"
            }
        };
        let rows = sqlx::query(sql)
            .bind(number_of(about))
            .bind(signed(after))
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(&mut self.link)
            .await
            .map_err(|error| self.failed(&error))?;
        let mut groups: Vec<Group> = Vec::new();
        let mut inputs: Vec<std::sync::Arc<str>> = Vec::new();
        for row in &rows {
            let damaged = |_| SpoolError::Damaged;
            let number = unsigned(row.try_get(0).map_err(damaged)?);
            let about = about_of(row.try_get(1).map_err(damaged)?).ok_or(SpoolError::Damaged)?;
            let key: String = row.try_get(2).map_err(damaged)?;
            let part: String = row.try_get(3).map_err(damaged)?;
            let input: &str = row.try_get(4).map_err(damaged)?;
            let input = match inputs.iter().find(|known| &***known == input) {
                Some(known) => known.clone(),
                None => {
                    inputs.push(input.into());
                    input.into()
                }
            };
            let sealed: &[u8] = row.try_get(6).map_err(damaged)?;
            let (nonce, closed) = sealed
                .split_first_chunk::<24>()
                .ok_or(SpoolError::Damaged)?;
            let opened = self.cipher.decrypt(&XNonce::from(*nonce), closed);
            let opened = Zeroizing::new(opened.map_err(|_| SpoolError::Damaged)?);
            let fragment = Fragment {
                about,
                key: key.clone(),
                part: part.into(),
                place: Place {
                    input,
                    row: unsigned(row.try_get(5).map_err(damaged)?),
                },
                value: serde_json::from_slice(&opened).map_err(|_| SpoolError::Damaged)?,
            };
            match groups.last_mut().filter(|last| last.number == number) {
                Some(last) => last.joined.fragments.push(fragment),
                None => groups.push(Group {
                    number,
                    joined: Joined {
                        about,
                        key,
                        fragments: vec![fragment],
                    },
                }),
            }
        }
        Ok(groups)
    }

    /// Which of these ids something is known of.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn has(
        &mut self,
        about: About,
        ids: &[String],
    ) -> Result<std::collections::BTreeSet<String>, SpoolError> {
        let mut found = std::collections::BTreeSet::new();
        for some in ids.chunks(ROWS_AT_ONCE) {
            let marks = vec!["?"; some.len()].join(", ");
            let sql =
                format!("SELECT DISTINCT key FROM fragments WHERE about = ? AND key IN ({marks})");
            let mut query = sqlx::query(AssertSqlSafe(sql)).bind(number_of(about));
            for id in some {
                query = query.bind(id.clone());
            }
            let rows = query.fetch_all(&mut self.link).await;
            let rows = rows.map_err(|error| self.failed(&error))?;
            for row in &rows {
                found.insert(row.try_get(0).map_err(|_| SpoolError::Damaged)?);
            }
        }
        Ok(found)
    }

    /// Refusals after this number, at most so many, each with its number.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn refusals(
        &mut self,
        after: u64,
        most: usize,
    ) -> Result<Vec<(u64, Refusal)>, SpoolError> {
        let sql = "SELECT id, input, line, source_id, what, detail FROM refusals WHERE id > ? ORDER BY id LIMIT ?";
        let rows = sqlx::query(sql)
            .bind(signed(after))
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(&mut self.link)
            .await
            .map_err(|error| self.failed(&error))?;
        let mut refusals = Vec::with_capacity(rows.len());
        for row in &rows {
            let damaged = |_| SpoolError::Damaged;
            let input: &str = row.try_get(1).map_err(damaged)?;
            let what: &str = row.try_get(4).map_err(damaged)?;
            let refusal = Refusal {
                place: Place {
                    input: input.into(),
                    row: unsigned(row.try_get(2).map_err(damaged)?),
                },
                source_id: row.try_get(3).map_err(damaged)?,
                note: Note {
                    what: oddity(what),
                    detail: row.try_get(5).map_err(damaged)?,
                },
            };
            refusals.push((unsigned(row.try_get(0).map_err(damaged)?), refusal));
        }
        Ok(refusals)
    }

    /// Keeps claims.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn claim(&mut self, claims: &[Claim]) -> Result<(), SpoolError> {
        self.add("claims", 9, claims, |query, claim| {
            query
                .bind(signed(claim.number))
                .bind(signed(claim.index))
                .bind(claim.what.number())
                .bind(claim.value.clone())
                .bind(claim.source_id.clone())
                .bind(i64::from(claim.verified))
                .bind(i64::from(claim.has_password))
                .bind(claim.last_sign_in)
                .bind(claim.created)
        })
        .await
    }

    /// All claims are kept: says who wins what.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn settle(&mut self) -> Result<(), SpoolError> {
        self.run(SETTLE).await
    }

    /// What records of groups from one number to another have lost, by group and record.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn contested(
        &mut self,
        from: u64,
        to: u64,
    ) -> Result<std::collections::BTreeMap<(u64, u64), Contested>, SpoolError> {
        let sql = "SELECT number, idx, what, value, winner FROM lost WHERE number BETWEEN ? AND ?";
        let rows = sqlx::query(sql)
            .bind(signed(from))
            .bind(signed(to))
            .fetch_all(&mut self.link)
            .await
            .map_err(|error| self.failed(&error))?;
        let mut all = std::collections::BTreeMap::<(u64, u64), Contested>::new();
        for row in &rows {
            let damaged = |_| SpoolError::Damaged;
            let number = unsigned(row.try_get(0).map_err(damaged)?);
            let index = unsigned(row.try_get(1).map_err(damaged)?);
            let what: i64 = row.try_get(2).map_err(damaged)?;
            let value: String = row.try_get(3).map_err(damaged)?;
            let winner: String = row.try_get(4).map_err(damaged)?;
            let one = all.entry((number, index)).or_default();
            let what = Claimed::ALL
                .into_iter()
                .find(|known| known.number() == what);
            match what.ok_or(SpoolError::Damaged)? {
                Claimed::Email => one.email_lost_to = Some(winner),
                Claimed::Username => one.username_lost = true,
                Claimed::Phone => one.phone_lost = true,
                Claimed::Social => {
                    let (provider, id) = value.split_once('\0').unwrap_or((&value, ""));
                    one.socials.push((provider.to_owned(), id.to_owned()));
                }
            }
        }
        Ok(all)
    }
}

fn oddity(text: &str) -> Oddity {
    let known = [
        Oddity::WrongWidth,
        Oddity::NoId,
        Oddity::RepeatedId,
        Oddity::NoEmail,
        Oddity::InvalidEmail,
        Oddity::OnlyInOne,
        Oddity::Dangling,
        Oddity::Deleted,
        Oddity::Over,
    ];
    let mut known = known.into_iter();
    known
        .find(|oddity| word(*oddity) == text)
        .unwrap_or(Oddity::Unreadable)
}

fn fill(bytes: &mut [u8]) -> Result<(), SpoolError> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| SpoolError::Damaged)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Removes the folders of processes that are gone.
fn sweep(below: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let me = std::fs::metadata("/proc/self").map(|me| me.uid());
    let entries = std::fs::read_dir(below).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(FOLDER)) else {
            continue;
        };
        let process = rest.split('-').next().unwrap_or_default();
        let digits = !process.is_empty() && process.bytes().all(|b| b.is_ascii_digit());
        let alive = Path::new("/proc").join(process).exists();
        let mine = entry
            .metadata()
            .map(|of| of.is_dir() && Some(of.uid()) == me.as_ref().ok().copied());
        // Where there is no such list of processes, nothing is known to be gone.
        if digits && !alive && me.is_ok() && mine.unwrap_or(false) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fragment(about: About, key: &str, part: &'static str, row: u64) -> Fragment {
        Fragment {
            about,
            key: key.to_owned(),
            part: part.into(),
            place: Place {
                input: "users.csv".into(),
                row,
            },
            value: json!({ "hash": "$2b$10$secret", "key": key, "row": row }),
        }
    }

    fn claim(number: u64, what: Claimed, value: &str, verified: bool) -> Claim {
        Claim {
            number,
            index: 0,
            what,
            value: value.to_owned(),
            source_id: format!("u{number}"),
            verified,
            has_password: false,
            last_sign_in: 0,
            created: i64::MAX,
        }
    }

    #[tokio::test]
    async fn what_belongs_together_comes_back_together_and_nobody_can_read_the_file() {
        let below = std::env::temp_dir().join(format!("spool-test-{}", std::process::id()));
        std::fs::create_dir_all(&below).unwrap();
        // What a process left that is gone, and something that is not ours.
        let left = below.join(format!("{FOLDER}999999999-ab"));
        std::fs::create_dir(&left).unwrap();
        let other = below.join("vestibule-import-notes");
        std::fs::create_dir(&other).unwrap();
        let mut spool = Spool::open(&below).await.unwrap();
        assert!(!left.exists() && other.exists());
        let fragments = [
            fragment(About::Organization, "o", "organization", 1),
            fragment(About::User, "b", "row", 2),
            fragment(About::User, "a", "row", 3),
            fragment(About::User, "b", "api", 1),
        ];
        spool.keep(&fragments).await.unwrap();
        spool.join().await.unwrap();
        let users = spool.groups(About::User, 0, 10, false).await.unwrap();
        let shape: Vec<(u64, &str, usize)> = users
            .iter()
            .map(|group| {
                let joined = &group.joined;
                (group.number, joined.key.as_str(), joined.fragments.len())
            })
            .collect();
        assert_eq!(shape, [(1, "b", 2), (2, "a", 1)]);
        assert_eq!(users[0].joined.fragments[0], fragments[1]);
        let page = spool.groups(About::User, 1, 1, false).await.unwrap();
        assert_eq!(page[0].joined.key, "a");
        assert_eq!(spool.counts().await.unwrap(), (3, 0));

        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&spool.folder), 0o700);
        let file = spool.folder.join("spool.db");
        assert_eq!(mode(&file), 0o600);
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(6).any(|some| some == b"secret"));
        let folder = spool.folder.clone();
        spool.remove().await;
        assert!(!folder.exists());
        std::fs::remove_dir_all(&below).unwrap();
    }

    #[tokio::test]
    async fn the_better_claim_wins_and_who_lost_the_address_wins_nothing_else() {
        let mut spool = Spool::open(&std::env::temp_dir()).await.unwrap();
        let claims = [
            claim(1, Claimed::Email, "ada@example.com", false),
            claim(2, Claimed::Email, "ada@example.com", true),
            claim(3, Claimed::Email, "eve@example.com", true),
            claim(1, Claimed::Username, "ada", false),
            claim(3, Claimed::Username, "ada", false),
            claim(2, Claimed::Social, "github\u{0}7", false),
            claim(3, Claimed::Social, "github\u{0}7", false),
        ];
        spool.claim(&claims).await.unwrap();
        spool.settle().await.unwrap();
        let lost = spool.contested(0, 10).await.unwrap();
        assert_eq!(lost[&(1, 0)].email_lost_to.as_deref(), Some("u2"));
        assert!(lost[&(1, 0)].username_lost && !lost[&(3, 0)].username_lost);
        let github = vec![("github".to_owned(), "7".to_owned())];
        assert_eq!(lost[&(2, 0)].socials, github);
        assert_eq!(lost[&(3, 0)].socials, github);
        spool.remove().await;
    }
}
