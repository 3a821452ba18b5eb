//! What each oddity of a row means for the move, and what to do about it: one entry each.

use super::risk::Severity;
use crate::migration::import::record::Oddity;

/// What is said of one oddity.
pub struct Told {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub title: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

const fn told(severity: Severity, title: &'static str, remedy: &'static str) -> Option<Told> {
    Some(Told {
        severity,
        title,
        remedy,
    })
}

/// What is said of it; `None`: it is counted in another way.
pub const fn about(oddity: Oddity) -> Option<Told> {
    use Severity::{Note, Warning};
    match oddity {
        // Compared here, over all rows.
        Oddity::DuplicateEmail
        | Oddity::DuplicateUsername
        | Oddity::DuplicatePhone
        | Oddity::DuplicateSocial
        // Counted by what is missing.
        | Oddity::NoEmail
        | Oddity::FactorWithoutKey => None,
        Oddity::WrongWidth => told(
            Warning,
            "rows are wider or narrower than their header",
            "they are refused and reported: look at quotes and separators around the line, correct the file, and plan again",
        ),
        Oddity::Unreadable => told(
            Warning,
            "rows cannot be read",
            "they are refused and reported: correct the file, or export it again",
        ),
        Oddity::NoId => told(
            Warning,
            "rows have no id",
            "they are refused: without an id a second run could not know them again",
        ),
        Oddity::RepeatedId => told(
            Note,
            "ids stand there more than once",
            "the newest row counts; pages of an API repeat users when somebody signs up meanwhile",
        ),
        Oddity::SlugTaken => told(
            Note,
            "another organization has a slug",
            "the one that comes second gets one made of its id: tell whoever links to it by the slug",
        ),
        Oddity::InvalidEmail => told(
            Warning,
            "an address is none",
            "correct it in the old system, or have them parked: nothing can be sent to it",
        ),
        Oddity::OtherEmailVerified => told(
            Note,
            "the main address is not verified, and another one is",
            "the main address moves, unverified: ask them to verify it, or make the verified one the main address first",
        ),
        Oddity::MoreEmails => told(
            Note,
            "users have several addresses",
            "Better Auth knows one: the others are kept in the metadata",
        ),
        Oddity::NameMadeUp => told(
            Note,
            "a name is missing or blank",
            "another field gives one; users may change it",
        ),
        Oddity::NameLikeNull => told(
            Note,
            "a name is the word null",
            "it is kept: people are called so, and careless exports write it",
        ),
        Oddity::NameCut => told(
            Note,
            "a name is longer than its column",
            "it is cut",
        ),
        Oddity::InvalidUsername => told(
            Note,
            "a username is none of the plugin",
            "they move without it; allow its letters with `usernameValidator`, or have them choose another",
        ),
        Oddity::InvalidPhone => told(
            Note,
            "a phone number is not in the form of E.164",
            "they move without it: correct it in the old system, with + and the country",
        ),
        Oddity::InvalidDate => told(
            Note,
            "a date is missing or cannot be",
            "the time of the import takes its place",
        ),
        Oddity::InvalidHash => told(
            Warning,
            "a hash is of no form that any password fits",
            "they get a reset at their first sign-in; tell them beforehand (`--list-affected`)",
        ),
        Oddity::ContradictoryScheme => told(
            Note,
            "a row names another scheme than its hash is of",
            "the hash's own prefix counts where it is unambiguous: check one of them with `vestibule hash verify`",
        ),
        Oddity::SocialWithoutId => told(
            Note,
            "an account elsewhere stands there without its id",
            "it is linked at their first sign-in, where both addresses are verified",
        ),
        Oddity::SocialUnverified => told(
            Note,
            "an account elsewhere was never verified in the old system",
            "it is left out: somebody may have claimed what is not theirs; it is linked when they sign in with it",
        ),
        Oddity::NoLoginMethod => told(
            Warning,
            "nothing signs them in",
            "they can ask for a reset by mail, if their address is theirs; decide whether they move at all",
        ),
        Oddity::MetadataTooLarge => told(
            Warning,
            "metadata is more than is carried",
            "it is left out: move what the app needs of it to a table of the app",
        ),
        Oddity::MetadataLarge => told(
            Note,
            "metadata is large",
            "it is carried over: look whether its column is long enough",
        ),
        Oddity::HostileKeys => told(
            Note,
            "metadata holds keys that look like fields of the user",
            "they are kept, nested under one column: never spread them over the user",
        ),
        Oddity::OddFlag => told(
            Note,
            "a flag stands there as a text",
            "it was understood; look at one of them, whether it is right",
        ),
        Oddity::Over => told(
            Note,
            "invitations are over",
            "they are left out: invite again whoever should still come",
        ),
        Oddity::Deleted => told(
            Note,
            "users are deleted in the old system",
            "they do not move",
        ),
        Oddity::Anonymous => told(
            Note,
            "users are nobody in particular",
            "they move with the anonymous plugin and an address of your own domain that nobody reads",
        ),
        Oddity::SingleSignOn => told(
            Warning,
            "users sign in by their company's directory",
            "set each connection up anew with the sso plugin, and have each company add the new address before the switch",
        ),
        Oddity::Locked => told(
            Note,
            "users are locked for a while after wrong passwords",
            "that is no ban: they move unlocked, and the gateway has limits of its own",
        ),
        Oddity::Passkeys => told(
            Warning,
            "users have passkeys",
            "their keys are not exported: the bridge keeps them signed in; ask them then to enrol again",
        ),
        Oddity::Dangling => told(
            Warning,
            "memberships or invitations name somebody, or an organization, that is not in the export",
            "they are refused: export users and organizations at the same moment",
        ),
        Oddity::UnknownRole => told(
            Note,
            "roles have no counterpart",
            "declare them with `createAccessControl`, or map them in the options file",
        ),
        Oddity::Unfit => told(
            Warning,
            "the database does not take rows",
            "they are refused: widen the column that the report names (on MySQL and MariaDB to utf8mb4), and import again",
        ),
        Oddity::NoColumn => told(
            Warning,
            "the database has no column for something",
            "add the plugin it belongs to, run Better Auth's migration, and plan again",
        ),
        Oddity::OnlyInOne => told(
            Note,
            "users stand in one of two inputs that should both have them",
            "they signed up or left between the two exports: take both at the same moment, or import with `--since` before the switch",
        ),
    }
}
