//! Where people are moved to: what is asked of a database before a batch is written, and what is written then.
//!
//! Everything here is said in the words of Better Auth; [`crate::store`] knows tables and columns. A batch is written as a whole or not at
//! all, the outcome of each of its rows and the place to go on from with it.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use crate::migration::accounts::{AccountsError, Done};
use crate::migration::state::State;
use crate::secret::Secret;
use crate::time::UnixMs;

use super::outcome::{Outcome, Tally};
use super::record::Place;

/// What new rows can hold there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// The columns of the framework and its plugins that are there, as `user.username`.
    pub columns: BTreeSet<String>,
    /// How much each of them holds, in letters; of metadata, in bytes.
    pub letters: BTreeMap<String, usize>,
    /// Whether the id column of users takes texts.
    pub keeps_ids: bool,
    /// Whether anybody had an account elsewhere before: where nobody has, none can be taken.
    pub has_socials: bool,
    /// The database, for people.
    pub place: String,
}

impl Abilities {
    /// How much a column holds.
    pub fn letters_max(&self, logical: &str) -> usize {
        self.letters.get(logical).copied().unwrap_or(255)
    }

    /// Whether a column is there.
    pub fn has(&self, logical: &str) -> bool {
        self.columns.contains(logical)
    }
}

/// What is to be known of a batch before it is decided.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// The old system.
    pub provider: String,
    /// Ids there.
    pub source_ids: Vec<String>,
    /// Addresses, lower-case.
    pub emails: Vec<String>,
    /// Usernames, lower-case.
    pub usernames: Vec<String>,
    /// Phone numbers.
    pub phones: Vec<String>,
    /// Accounts elsewhere: provider, id.
    pub socials: Vec<(String, String)>,
    /// Ids wanted here.
    pub ids: Vec<String>,
    /// Whether it counts when those who came before were changed here.
    pub changes: bool,
}

/// What is there already.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Source id to the user it is mapped to.
    pub identities: BTreeMap<String, Known>,
    /// Address to the user who has it.
    pub emails: BTreeMap<String, Resident>,
    /// Usernames that are taken, with by whom.
    pub usernames: BTreeMap<String, String>,
    /// Phone numbers that are taken, with by whom.
    pub phones: BTreeMap<String, String>,
    /// Accounts elsewhere that somebody has, with who.
    pub socials: BTreeMap<(String, String), String>,
    /// Ids that are taken.
    pub ids: BTreeSet<String>,
    /// Source ids that are parked, with the reason.
    pub parked: BTreeMap<String, String>,
}

/// Somebody who came from the old system before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// `user.id`.
    pub user_id: String,
    /// Where they stand.
    pub state: State,
    /// When they came.
    pub imported_at: UnixMs,
    /// `user.updatedAt`, where it was asked for.
    pub updated_at: Option<UnixMs>,
}

/// Somebody who is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    /// `user.id`.
    pub user_id: String,
    /// `user.emailVerified`.
    pub email_verified: bool,
    /// Whether a password of theirs can be checked: a native one, or an old one that is kept.
    pub has_password: bool,
    /// Whether they have a second factor.
    pub has_factor: bool,
    /// Who of the same old system they are already, if anybody.
    pub came_as: Vec<String>,
}

/// A new user with all that belongs to them.
#[derive(Clone, Debug)]
pub struct UserWrite {
    /// The id wanted.
    pub wanted_id: Option<String>,
    /// Lower-case.
    pub email: String,
    /// Whether it is verified.
    pub email_verified: bool,
    /// Never empty.
    pub name: String,
    /// The username plugin's.
    pub username: Option<String>,
    /// The same, as it is shown.
    pub display_username: Option<String>,
    /// With whether it is verified.
    pub phone: Option<(String, bool)>,
    /// A picture.
    pub image: Option<String>,
    /// When they came to the old system.
    pub created_at: UnixMs,
    /// When they were changed last.
    pub updated_at: UnixMs,
    /// The admin plugin's, by commas.
    pub role: Option<String>,
    /// The ban: reason, end.
    pub ban: Option<(Option<String>, Option<UnixMs>)>,
    /// Nobody in particular.
    pub anonymous: bool,
    /// Everything else, as one JSON text.
    pub metadata: Option<String>,
    /// What signs them in, and who they were.
    pub ties: Ties,
}

/// What is added to a user, new or not.
#[derive(Clone, Debug)]
pub struct Ties {
    /// Who they are there: provider, id.
    pub identity: (String, String),
    /// Where they stand then.
    pub state: State,
    /// Accounts elsewhere.
    pub accounts: Vec<AccountWrite>,
    /// Their password.
    pub password: PasswordWrite,
    /// Their second factor.
    pub factor: Option<FactorWrite>,
}

/// An account elsewhere.
#[derive(Clone, Debug)]
pub struct AccountWrite {
    /// `account.providerId`.
    pub provider: String,
    /// `account.accountId`.
    pub account_id: String,
    /// `account.scope`.
    pub scope: Option<String>,
    /// `account.accessToken`.
    pub access_token: Option<Secret>,
    /// `account.refreshToken`.
    pub refresh_token: Option<Secret>,
    /// `account.idToken`.
    pub id_token: Option<Secret>,
    /// `account.accessTokenExpiresAt`.
    pub access_token_expires_at: Option<UnixMs>,
}

/// How a password is written.
#[derive(Clone, Debug)]
pub enum PasswordWrite {
    /// Not at all.
    None,
    /// Into `account.password`: it is one of the framework's own.
    Native(Secret),
    /// Kept beside, sealed for the user.
    Old {
        /// By its name in `password::KINDS`; `native(…)` around a fast digest.
        scheme: String,
        /// What is to be sealed.
        text: Sealable,
        /// When it was exported.
        exported_at: Option<UnixMs>,
    },
}

/// How a second factor is written.
#[derive(Clone, Debug)]
pub struct FactorWrite {
    /// The key, to be sealed and checked by the gateway; `None` with [`Self::kept_here`]: it was not exported.
    pub key: Option<Sealable>,
    /// Whether the gateway keeps it, or that there was one. Not where Better Auth checks it all by itself.
    pub kept_here: bool,
    /// Digits of a code.
    pub digits: u8,
    /// Seconds a code lives.
    pub period: u32,
    /// `SHA1`, `SHA256`, `SHA512`.
    pub algorithm: String,
    /// `twoFactor.secret` as stored: its own, or one that stands in.
    pub secret: Secret,
    /// `twoFactor.backupCodes` as stored.
    pub backup_codes: Secret,
}

/// Bytes that are stored sealed only.
#[derive(Clone)]
pub struct Sealable(pub Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Sealable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Sealable(..)")
    }
}

/// Seals for a user. Whose id it is may be known only when the database has made it.
pub trait Seal: Send + Sync {
    /// An old hash.
    fn hash(&self, user_id: &str, text: &[u8]) -> Secret;

    /// The key of a second factor.
    fn factor(&self, user_id: &str, key: &[u8]) -> Secret;
}

/// Somebody who is here, and gets what the old system knew besides.
#[derive(Clone, Debug)]
pub struct Joining {
    /// Whom.
    pub user_id: String,
    /// What.
    pub ties: Ties,
}

/// Somebody imported before who changed in the old system since. `None`: stays as it is.
#[derive(Clone, Debug)]
pub struct Change {
    /// Who.
    pub user_id: String,
    /// As they are there now.
    pub user: Box<UserWrite>,
    /// What is written of it, in the framework's names.
    pub columns: Vec<&'static str>,
}

/// An organization.
#[derive(Clone, Debug)]
pub struct OrganizationWrite {
    /// Its id in the old system.
    pub source_id: String,
    /// The id wanted.
    pub wanted_id: Option<String>,
    /// Never empty.
    pub name: String,
    /// Unique.
    pub slug: String,
    /// A picture.
    pub logo: Option<String>,
    /// A JSON text.
    pub metadata: Option<String>,
    /// When it was made.
    pub created_at: UnixMs,
}

/// A membership.
#[derive(Clone, Debug)]
pub struct MemberWrite {
    /// Its id in the old system.
    pub source_id: String,
    /// `member.organizationId`.
    pub organization_id: String,
    /// `member.userId`.
    pub user_id: String,
    /// `member.role`.
    pub role: String,
    /// Since when.
    pub created_at: UnixMs,
}

/// An invitation.
#[derive(Clone, Debug)]
pub struct InvitationWrite {
    /// Its id in the old system.
    pub source_id: String,
    /// `invitation.organizationId`.
    pub organization_id: String,
    /// `invitation.email`.
    pub email: String,
    /// `invitation.role`.
    pub role: String,
    /// `invitation.inviterId`.
    pub inviter_id: String,
    /// `invitation.expiresAt`.
    pub expires_at: UnixMs,
    /// Since when.
    pub created_at: UnixMs,
}

/// Somebody set aside: another has their address.
#[derive(Clone, Debug)]
pub struct Parked {
    /// The old system.
    pub provider: String,
    /// The id there.
    pub source_id: String,
    /// The address.
    pub email: Option<String>,
    /// Who has it, where that is known.
    pub user_id: Option<String>,
    /// Why.
    pub reason: String,
    /// Everything known of them, sealed.
    pub profile: Secret,
    /// The old hash: scheme, sealed under the source id.
    pub hash: Option<(String, Secret)>,
}

/// What is written for one row.
#[derive(Clone, Debug)]
pub enum Write {
    /// Nothing.
    Nothing,
    /// A new user.
    User(Box<UserWrite>),
    /// More for somebody who is here.
    Join(Box<Joining>),
    /// Something new about somebody imported before.
    Change(Box<Change>),
    /// Somebody set aside.
    Park(Box<Parked>),
    /// An organization.
    Organization(Box<OrganizationWrite>),
    /// A membership.
    Member(Box<MemberWrite>),
    /// An invitation.
    Invitation(Box<InvitationWrite>),
}

/// What became of one row of the old system.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number among those of its phase, from 1.
    pub sequence: u64,
    /// What it is of.
    pub kind: Kind,
    /// Where it was read.
    pub place: Place,
    /// Its id in the old system.
    pub source_id: Option<String>,
    /// Whom it became or went to, where that is known before it is written.
    pub target_id: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, one word each, by commas; empty where it is simply as it was.
    pub reason: String,
    /// The same for people.
    pub detail: String,
    /// What is written.
    pub write: Write,
}

/// What a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A user.
    User,
    /// An organization.
    Organization,
    /// A membership.
    Member,
    /// An invitation.
    Invitation,
    /// Nobody knows.
    Unreadable,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::User,
        Self::Organization,
        Self::Member,
        Self::Invitation,
        Self::Unreadable,
    ];

    /// The word in tables and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Organization => "organization",
            Self::Member => "member",
            Self::Invitation => "invitation",
            Self::Unreadable => "unreadable",
        }
    }

    /// The one of this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// How far a run has come: everything before it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Users, users that lost an address to another, organizations, memberships, invitations.
    pub phase: u8,
    /// The last row of it.
    pub sequence: u64,
}

/// A batch: written as a whole, or not at all.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Which run.
    pub run: u64,
    /// Who holds the lock.
    pub holder: String,
    /// The old system.
    pub provider: String,
    /// The rows.
    pub rows: Vec<Row>,
    /// Where the batch before has left off: were it another place, the database has forgotten one.
    pub before: Cursor,
    /// Where to go on from.
    pub cursor: Cursor,
    /// What has become of all rows so far, these included.
    pub tally: Tally,
    /// Now.
    pub at: UnixMs,
}

/// A run to be begun or gone on with.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The old system.
    pub provider: String,
    /// A digest of inputs and options: a run is gone on with for the same ones only.
    pub fingerprint: String,
    /// Who asks for the lock.
    pub holder: String,
    /// Whether somebody who holds it is known to be gone.
    pub holder_is_gone: bool,
    /// How long the lock counts without a word.
    pub lease_until: UnixMs,
    /// Now.
    pub at: UnixMs,
}

/// One run, as it is noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: u64,
    /// The old system.
    pub provider: String,
    /// A digest of inputs and options.
    pub fingerprint: String,
    /// When it began.
    pub began_at: UnixMs,
    /// When it ended.
    pub ended_at: Option<UnixMs>,
    /// `running`, `done`, `undone`, `finalized`.
    pub state: String,
    /// How far it came.
    pub cursor: Cursor,
    /// What became of its rows.
    pub tally: Tally,
}

/// Whether a run may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It may, from its cursor.
    Run(Run),
    /// Somebody else is at it.
    Held {
        /// Who.
        holder: String,
        /// Until when, were they not to say another word.
        until: UnixMs,
    },
}

/// Somebody as the target has them now: for `verify`.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// `user.id`.
    pub user_id: String,
    /// The columns of `user` that are there, by the framework's names without their table; dates in milliseconds, flags as `true` and
    /// `false`.
    pub fields: BTreeMap<String, String>,
    /// `account.providerId`, `account.accountId`, whether it has a password.
    pub accounts: Vec<(String, String, bool)>,
    /// `account.password` of the credential row.
    pub password: Option<Secret>,
    /// The old hash: scheme, sealed.
    pub old: Option<(String, Secret)>,
    /// Where they stand.
    pub state: Option<State>,
    /// Whether there is a row of `twoFactor`, and whether the gateway keeps a factor: with its key or without.
    pub factor: (bool, Option<bool>),
}

/// What is counted of the whole.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Users by where they stand.
    pub states: Vec<(State, u64)>,
    /// How many moved on from where the import put them, by the day since 1970.
    pub moved_by_day: Vec<(i64, u64)>,
    /// Old hashes that are still kept.
    pub old_hashes: u64,
    /// Parked accounts.
    pub parked: u64,
    /// Who is stuck: user id, state, since when.
    pub stuck: Vec<(String, State, UnixMs)>,
    /// The runs, the newest first.
    pub runs: Vec<Run>,
}

/// What undoing some rows came to.
#[derive(Clone, Debug, Default)]
pub struct TakenBack {
    /// How many were taken out.
    pub removed: u64,
    /// How many had left nothing.
    pub nothing: u64,
    /// Who was kept, with the reason.
    pub kept: Vec<(String, String)>,
    /// Where to go on from; `None`: all is done.
    pub next: Option<Cursor>,
}

/// A database people are moved to.
pub trait Target: Send + Sync {
    /// What new rows can hold.
    fn abilities(&self) -> Abilities;

    /// Takes the lock, and begins a run or goes on with one of the same fingerprint that did not end.
    fn begin<'a>(&'a self, begin: &'a Begin) -> Done<'a, Begun>;

    /// Says that the holder is still there. `false`: somebody else has the lock.
    fn renew<'a>(&'a self, holder: &'a str, until: UnixMs) -> Done<'a, bool>;

    /// Ends a run and gives the lock back.
    fn end<'a>(&'a self, run: u64, holder: &'a str, at: UnixMs) -> Done<'a, ()>;

    /// Gives the lock back without ending the run.
    fn let_go<'a>(&'a self, holder: &'a str) -> Done<'a, ()>;

    /// What is there already of what a batch is about.
    fn look<'a>(&'a self, questions: &'a Questions) -> Done<'a, Facts>;

    /// What organizations, memberships or invitations of the old system became: source id to id here.
    fn objects<'a>(
        &'a self,
        kind: Kind,
        provider: &'a str,
        source_ids: &'a [String],
    ) -> Done<'a, BTreeMap<String, String>>;

    /// Which of these slugs are taken.
    fn slugs<'a>(&'a self, slugs: &'a [String]) -> Done<'a, BTreeSet<String>>;

    /// Who is a member of what already: organization, user.
    fn members<'a>(&'a self, pairs: &'a [(String, String)])
    -> Done<'a, BTreeSet<(String, String)>>;

    /// An owner of each of these organizations, or whoever comes nearest.
    fn owners<'a>(&'a self, organizations: &'a [String]) -> Done<'a, BTreeMap<String, String>>;

    /// Writes a batch. [`AccountsError::Taken`]: somebody was faster; [`AccountsError::Unfit`]: the database does not take one of its rows.
    /// Nothing was written then.
    fn write<'a>(&'a self, batch: &'a Batch, seal: &'a dyn Seal) -> Done<'a, ()>;

    /// What is stored of users of the old system, by their ids there.
    fn stored<'a>(
        &'a self,
        provider: &'a str,
        source_ids: &'a [String],
    ) -> Done<'a, BTreeMap<String, Stored>>;

    /// What is counted of the whole. `most`: how many of the stuck.
    fn standing<'a>(&'a self, now: UnixMs, most: usize) -> Done<'a, Standing>;

    /// Rows of a run that were not simply created, in order, after `after`.
    fn reported<'a>(&'a self, run: u64, after: Cursor, most: usize)
    -> Done<'a, Vec<(Cursor, Row)>>;

    /// Takes rows of a run out again, from its end to its beginning: at most `most`, those before `before`.
    fn undo<'a>(
        &'a self,
        run: u64,
        before: Option<Cursor>,
        most: usize,
        at: UnixMs,
    ) -> Done<'a, TakenBack>;

    /// Notes that a run was undone.
    fn undone<'a>(&'a self, run: u64, at: UnixMs) -> Done<'a, ()>;

    /// Erases old hashes, at most `most` of them: whoever still needs theirs is to be reset. Gives how many.
    fn erase<'a>(&'a self, most: usize, at: UnixMs) -> Done<'a, u64>;

    /// Notes that no run can be undone any more.
    fn finalized<'a>(&'a self, at: UnixMs) -> Done<'a, ()>;
}

/// Whether a failure may be gone at the next try.
pub const fn may_pass(error: &AccountsError) -> bool {
    matches!(
        error,
        AccountsError::Timeout | AccountsError::Unreachable(_)
    )
}
