//! One user, organization, member or invitation of an old system, in the words of Better Auth.
//!
//! Every source reads its export into these, by the same rules of names, addresses and dates; whatever is odd about a row becomes a note
//! at it, never a guess. What is done about a note is decided elsewhere.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::migration::password::Stored;
use crate::secret::Secret;
use crate::time::UnixMs;

/// Where something was read: told in every report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The input: a file's name, or the path of an API.
    pub input: Arc<str>,
    /// The line of a text file; the number of the object, from 1, in a JSON list or among the pages of an API.
    pub row: u64,
}

/// What one row, or the rows that were joined for one id, came to.
#[derive(Clone, Debug)]
pub enum Record {
    /// Somebody.
    User(Box<ImportedUser>),
    /// An organization.
    Organization(ImportedOrganization),
    /// Somebody's membership.
    Member(ImportedMember),
    /// An invitation that is still open.
    Invitation(ImportedInvitation),
    /// A row that cannot be read at all: it is reported and nothing of it is used.
    Refused {
        /// Where.
        place: Place,
        /// The id in the old system, where at least that could be read.
        source_id: Option<String>,
        /// Why.
        note: Note,
    },
}

/// Somebody, as the old system knew them.
#[derive(Clone, Debug)]
pub struct ImportedUser {
    /// The row that told of them first.
    pub place: Place,
    /// Their id in the old system. Never empty: where a plain list has no ids, its reader makes one of the row.
    pub source_id: String,
    /// The address as it stands in the export.
    pub email_as_exported: Option<String>,
    /// The address in the form in which it is stored: trimmed, the whole of it lower-case. `None`: there was none, or none that can be
    /// one (which is noted).
    pub email: Option<String>,
    /// Whether the old system had verified *this* address.
    pub email_verified: bool,
    /// Their other addresses, with whether each is verified. Better Auth knows one.
    pub other_emails: Vec<(String, bool)>,
    /// By the rule of names; empty where not even the address gives one.
    pub name: String,
    /// Lower-case, as the username plugin compares it.
    pub username: Option<String>,
    /// As it is shown.
    pub display_username: Option<String>,
    /// With whether it is verified. In the form of E.164, or noted.
    pub phone: Option<(String, bool)>,
    /// A picture's address.
    pub image: Option<String>,
    /// When the account was made; `None`: unknown, or impossible (which is noted).
    pub created_at: Option<UnixMs>,
    /// When it was last changed.
    pub updated_at: Option<UnixMs>,
    /// When they signed in last.
    pub last_sign_in_at: Option<UnixMs>,
    /// They may not sign in.
    pub ban: Option<Ban>,
    /// Nobody in particular.
    pub anonymous: bool,
    /// The app's roles, in the old system's words.
    pub roles: Vec<String>,
    /// How a password of theirs can be checked.
    pub password: Password,
    /// Accounts elsewhere that sign them in.
    pub socials: Vec<SocialAccount>,
    /// Their second factor.
    pub factor: Option<Factor>,
    /// Whatever else the old system kept of them, by its own names, nested: never spread over columns.
    pub metadata: Map<String, Value>,
    /// What is odd.
    pub notes: Vec<Note>,
}

/// A ban.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ban {
    /// Why.
    pub reason: Option<String>,
    /// Until when; `None`: for good.
    pub expires_at: Option<UnixMs>,
}

/// How a password can be checked.
#[derive(Clone, Debug)]
pub enum Password {
    /// There is none: they sign in another way, or not at all.
    None,
    /// By this.
    Hash {
        /// Its name in `password::KINDS`. Never guessed by shape alone.
        scheme: String,
        /// Hash and parameters.
        stored: Stored,
        /// When it was exported.
        exported_at: Option<UnixMs>,
    },
    /// There is one, and the old system keeps its hash: it is asked, or a reset is due.
    NotExported,
    /// There is a hash, and no password will ever fit it. Noted with the reason.
    Unusable,
}

/// An account elsewhere.
#[derive(Clone, Debug)]
pub struct SocialAccount {
    /// Better Auth's name of it: `google`, `github`, `microsoft`.
    pub provider: String,
    /// Their id there. `None`: not exported, so it is linked at the first sign-in.
    pub account_id: Option<String>,
    /// The scopes granted, by commas.
    pub scope: Option<String>,
    /// What was exported of its tokens.
    pub access_token: Option<Secret>,
    /// The same.
    pub refresh_token: Option<Secret>,
    /// The same.
    pub id_token: Option<Secret>,
    /// Until when the access token is good.
    pub access_token_expires_at: Option<UnixMs>,
}

/// A second factor by time.
#[derive(Clone, Debug)]
pub struct Factor {
    /// The key's raw bytes; `None`: it was not exported.
    pub key: Option<FactorKey>,
    /// Digits of a code.
    pub digits: u8,
    /// Seconds a code lives.
    pub period: u32,
    /// `SHA1`, `SHA256`, `SHA512`.
    pub algorithm: String,
    /// Codes for when the device is lost, where they were exported in the clear.
    pub backup_codes: Vec<Secret>,
}

/// The key of a second factor: not printed, and wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct FactorKey(pub zeroize::Zeroizing<Vec<u8>>);

impl std::fmt::Debug for FactorKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("FactorKey(..)")
    }
}

/// An organization.
#[derive(Clone, Debug)]
pub struct ImportedOrganization {
    /// Where it was read.
    pub place: Place,
    /// Its id in the old system.
    pub source_id: String,
    /// Never empty.
    pub name: String,
    /// Unique; made of the name where there is none.
    pub slug: String,
    /// A picture's address.
    pub logo: Option<String>,
    /// When it was made.
    pub created_at: Option<UnixMs>,
    /// Whatever else the old system kept of it.
    pub metadata: Map<String, Value>,
    /// What is odd.
    pub notes: Vec<Note>,
}

/// A membership.
#[derive(Clone, Debug)]
pub struct ImportedMember {
    /// Where it was read.
    pub place: Place,
    /// Its id in the old system.
    pub source_id: String,
    /// The organization's id there.
    pub organization: String,
    /// The user's id there.
    pub user: String,
    /// `owner`, `admin`, `member`, or a role of the app.
    pub role: String,
    /// Since when.
    pub created_at: Option<UnixMs>,
    /// What is odd.
    pub notes: Vec<Note>,
}

/// An invitation.
#[derive(Clone, Debug)]
pub struct ImportedInvitation {
    /// Where it was read.
    pub place: Place,
    /// Its id in the old system.
    pub source_id: String,
    /// The organization's id there.
    pub organization: String,
    /// To whom, lower-case.
    pub email: String,
    /// As what.
    pub role: String,
    /// The id there of whoever invited; Better Auth wants one, so the owner stands in.
    pub inviter: Option<String>,
    /// Until when.
    pub expires_at: Option<UnixMs>,
    /// Since when.
    pub created_at: Option<UnixMs>,
    /// What is odd.
    pub notes: Vec<Note>,
}

/// Something odd about a row, with what it was about. Holds no password, hash or token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What.
    pub what: Oddity,
    /// The words of the report: the field and what is wrong with it, never the value of a secret.
    pub detail: String,
}

/// What can be odd about a row. One word each, in reports and in the table of docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Oddity {
    /// The row has more or fewer cells than its header.
    WrongWidth,
    /// It is no JSON, or not what stands there otherwise.
    Unreadable,
    /// No id, and none can be made.
    NoId,
    /// The same id twice with different content; the newest counts.
    RepeatedId,
    /// Another organization has its slug: it gets one of its own.
    SlugTaken,
    /// There is no address.
    NoEmail,
    /// It is no address.
    InvalidEmail,
    /// Another user has this address, in another spelling or not.
    DuplicateEmail,
    /// The main address is not verified, and another one is.
    OtherEmailVerified,
    /// There are more addresses than Better Auth keeps.
    MoreEmails,
    /// The name is missing or blank: another field gave one.
    NameMadeUp,
    /// The name is the word null, once or twice, and was kept: people are called so, and a careless export writes it.
    NameLikeNull,
    /// The name is longer than its column and was cut.
    NameCut,
    /// Another user has this username.
    DuplicateUsername,
    /// It is no username of the plugin.
    InvalidUsername,
    /// It is no number of E.164.
    InvalidPhone,
    /// Another user has this number.
    DuplicatePhone,
    /// A date that cannot be: missing, before 2000, after 2100, or no date.
    InvalidDate,
    /// A hash that nothing fits: its length, alphabet, parameters or scheme.
    InvalidHash,
    /// The scheme that the row names is not the one its hash is of; the hash's own prefix counted.
    ContradictoryScheme,
    /// A second factor whose key was not exported, or cannot be read.
    FactorWithoutKey,
    /// An account elsewhere that another user has too: neither gets it.
    DuplicateSocial,
    /// An account elsewhere that the old system never saw proven: it is left out.
    SocialUnverified,
    /// An account elsewhere without its id.
    SocialWithoutId,
    /// Nothing signs them in.
    NoLoginMethod,
    /// What else is kept of them is more than we carry, and was left out.
    MetadataTooLarge,
    /// What else is kept of them is much, and was carried over all the same.
    MetadataLarge,
    /// Keys that a careless reader would take for fields of the user: kept, nested.
    HostileKeys,
    /// The old system has deleted them.
    Deleted,
    /// Nobody in particular.
    Anonymous,
    /// They sign in by their company's directory.
    SingleSignOn,
    /// Locked for a while after wrong passwords, which is no ban.
    Locked,
    /// They have passkeys, which are enrolled anew.
    Passkeys,
    /// Whose membership or invitation this is, or of what, is not in the export.
    Dangling,
    /// A role that Better Auth does not have.
    UnknownRole,
    /// The live schema has no column for it.
    NoColumn,
    /// The database does not take it: too long for a column, of letters that it has not, or against a rule of the app's.
    Unfit,
    /// Only in one of two inputs that should both have it.
    OnlyInOne,
    /// A flag that is written as a text where its neighbours are not, or is no flag: then it counts as not set.
    OddFlag,
    /// An invitation or membership that is over: accepted, revoked, inactive. Nothing is made of it.
    Over,
}
