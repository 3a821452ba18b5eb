//! What becomes of somebody: made, linked, merged, parked or refused, by what is there already and by what else the export holds.
//!
//! The order of the rules is fixed here. Nothing is guessed: who of two is one person is decided by verified addresses alone, and nobody's
//! own password is ever written over.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::outcome::Outcome;
use super::record::{ImportedUser, Note, Oddity, Password};
use super::target::{
    Abilities, AccountWrite, Change, Facts, Joining, PasswordWrite, Ties, UserWrite,
};
use crate::migration::state::State;
use crate::time::UnixMs;

/// Longest id of an old system that is kept, in bytes: what a key of MySQL holds.
pub const SOURCE_ID_BYTES_MAX: usize = 255;

/// What is done with whoever has an address that another row of the same export has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duplicates {
    /// Set aside, with all that is known.
    #[default]
    Park,
    /// Made one with the other, where both addresses are verified.
    Merge,
}

/// What kept somebody out there, and has no place here: only with the operator's word do they come without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// A ban.
    pub ban: bool,
    /// A second factor.
    pub second_factor: bool,
}

/// What the operator wants.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The old system.
    pub provider: String,
    /// Of whom has the address of another.
    pub duplicates: Duplicates,
    /// A domain of the operator's, in which whoever has no address gets one.
    pub placeholder_domain: Option<String>,
    /// What may be lost that kept somebody out.
    pub without: Without,
    /// Only who changed since; new ones always.
    pub since: Option<UnixMs>,
    /// Now.
    pub at: UnixMs,
}

/// What the rest of the export says of somebody's claims.
#[derive(Clone, Debug, Default)]
pub struct Contested {
    /// The address is another row's, whose id in the old system this is.
    pub email_lost_to: Option<String>,
    /// The username is another row's.
    pub username_lost: bool,
    /// The phone number is another row's.
    pub phone_lost: bool,
    /// Accounts elsewhere that another row claims too.
    pub socials: Vec<(String, String)>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Intent {
    /// Nothing.
    Nothing,
    /// Somebody new.
    Create(Box<UserWrite>),
    /// More for somebody who is here.
    Join(Box<Joining>),
    /// Something new about somebody imported before.
    Change(Box<Change>),
    /// Set aside.
    Park {
        /// Who has the address.
        user_id: Option<String>,
    },
}

/// What becomes of somebody. The password and the second factor are not in it yet: making them takes time.
#[derive(Clone, Debug)]
pub struct Decided {
    /// In a word.
    pub outcome: Outcome,
    /// Whom it went to.
    pub user_id: Option<String>,
    /// What is odd, as the export says and as was found.
    pub notes: Vec<Note>,
    /// Fields that have no column here.
    pub no_column: Vec<&'static str>,
    /// What is done.
    pub intent: Intent,
}

impl Decided {
    fn nothing(outcome: Outcome, user_id: Option<String>, notes: Vec<Note>) -> Self {
        Self {
            outcome,
            user_id,
            notes,
            no_column: Vec::new(),
            intent: Intent::Nothing,
        }
    }
}

/// The address somebody is written under: their own, or one in the operator's domain. `None`: there is none to be had.
pub fn address(user: &ImportedUser, rules: &Rules) -> Option<(String, bool)> {
    if let Some(email) = &user.email {
        return Some((email.clone(), user.email_verified));
    }
    let domain = rules.placeholder_domain.as_deref()?;
    let simple = |id: &str| {
        (1..=40).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b'-')
    };
    // Of two ids that differ in case alone, each gets its own.
    let local = match simple(&user.source_id) {
        true => user.source_id.clone(),
        false => {
            let digest = Sha256::digest(user.source_id.as_bytes());
            data_encoding::HEXLOWER.encode(digest.get(..16).unwrap_or(&[]))
        }
    };
    Some((format!("{local}@{}", domain.to_lowercase()), false))
}

/// Why somebody would get in here who did not get in there.
fn would_be_let_in(
    user: &ImportedUser,
    abilities: &Abilities,
    rules: &Rules,
) -> Option<&'static str> {
    let is_banned = user
        .ban
        .as_ref()
        .is_some_and(|ban| ban.expires_at.is_none_or(|until| until > rules.at));
    let keeps_factors = abilities.has("twoFactor.secret") && abilities.has("user.twoFactorEnabled");
    if is_banned && !abilities.has("user.banned") && !rules.without.ban {
        return Some(
            "they are banned, and the app has no column for it: add the admin plugin, or allow it with `without = [\"ban\"]`",
        );
    }
    if user.factor.is_some() && !keeps_factors && !rules.without.second_factor {
        return Some(
            "they have a second factor, and the app has no tables for it: add the two-factor plugin, or allow it with `without = [\"second_factor\"]`",
        );
    }
    None
}

/// The id wanted for somebody.
fn wanted_id(user: &ImportedUser, facts: &Facts, abilities: &Abilities) -> Option<String> {
    let free = !facts.ids.contains(&user.source_id);
    // A uuid fits a column of them too; the database's side looks.
    let fits = abilities.keeps_ids || user.source_id.len() == 36;
    (free && fits).then(|| user.source_id.clone())
}

/// Decides.
pub fn decide(
    user: &ImportedUser,
    contested: &Contested,
    facts: &Facts,
    abilities: &Abilities,
    rules: &Rules,
) -> Decided {
    let mut notes = user.notes.clone();
    let has = |what: Oddity| user.notes.iter().any(|note| note.what == what);
    let source = &user.source_id;
    if source.len() > SOURCE_ID_BYTES_MAX || source.contains('\0') || source.is_empty() {
        notes.push(Note {
            what: Oddity::NoId,
            detail: format!("the id is empty or longer than {SOURCE_ID_BYTES_MAX} bytes"),
        });
        return Decided::nothing(Outcome::Refused, None, notes);
    }
    if let Some(known) = facts.identities.get(source) {
        return known_before(user, contested, facts, abilities, rules, known, notes);
    }
    if has(Oddity::Deleted) {
        return Decided::nothing(Outcome::Refused, None, notes);
    }
    if let Some(detail) = would_be_let_in(user, abilities, rules) {
        notes.push(Note {
            what: Oddity::NoColumn,
            detail: detail.to_owned(),
        });
        return Decided::nothing(Outcome::Refused, None, notes);
    }
    if facts.parked.contains_key(source) {
        notes.push(Note {
            what: Oddity::DuplicateEmail,
            detail: "was parked before".to_owned(),
        });
        return Decided::nothing(Outcome::Parked, None, notes);
    }
    let Some((email, verified)) = address(user, rules) else {
        if !has(Oddity::InvalidEmail) && !has(Oddity::NoEmail) {
            notes.push(Note {
                what: Oddity::NoEmail,
                detail: "there is no address, and no `placeholder_domain` to make one in"
                    .to_owned(),
            });
        }
        return Decided::nothing(Outcome::Refused, None, notes);
    };
    if email.chars().count() > abilities.letters_max("user.email") {
        notes.push(Note {
            what: Oddity::InvalidEmail,
            detail: "the address is longer than its column".to_owned(),
        });
        return Decided::nothing(Outcome::Refused, None, notes);
    }
    let mut no_column = Vec::new();
    let write = written(
        user,
        (email, verified),
        contested,
        facts,
        abilities,
        rules,
        &mut notes,
        &mut no_column,
    );
    let Some(resident) = facts.emails.get(&write.email) else {
        return Decided {
            outcome: Outcome::Created,
            user_id: None,
            notes,
            no_column,
            intent: Intent::Create(Box::new(write)),
        };
    };
    let both_verified = resident.email_verified && verified;
    let of_this_export = contested.email_lost_to.is_some();
    // Whoever came of the same system as somebody else is somebody else, and has not heard yet that the address is theirs no more.
    let winner = contested.email_lost_to.as_ref();
    let is_winner = winner.is_some_and(|winner| resident.came_as.contains(winner));
    let other = resident.came_as.first().filter(|_| !is_winner);
    let wanted = other.is_none() && (!of_this_export || rules.duplicates == Duplicates::Merge);
    let who = match (winner, other) {
        (_, Some(other)) => format!("{other}, who came before, has this address here"),
        (Some(winner), None) => format!("{winner} has this address"),
        (None, None) => "a user who was here before has this address".to_owned(),
    };
    if !(both_verified && wanted) {
        let why = match (both_verified, wanted) {
            (false, _) => ", and it is not verified on both sides",
            (true, _) => "",
        };
        notes.push(Note {
            what: Oddity::DuplicateEmail,
            detail: who + why,
        });
        return Decided {
            outcome: Outcome::Parked,
            user_id: Some(resident.user_id.clone()),
            notes,
            no_column: Vec::new(),
            intent: Intent::Park {
                user_id: Some(resident.user_id.clone()),
            },
        };
    }
    notes.push(Note {
        what: Oddity::DuplicateEmail,
        detail: who + ", and it is verified on both sides",
    });
    let joining = Joining {
        user_id: resident.user_id.clone(),
        ties: write.ties,
    };
    Decided {
        outcome: match of_this_export {
            true => Outcome::Merged,
            false => Outcome::Linked,
        },
        user_id: Some(resident.user_id.clone()),
        notes,
        no_column: Vec::new(),
        intent: Intent::Join(Box::new(joining)),
    }
}

/// Columns that a delta brings up to date.
const CHANGED: [&str; 13] = [
    "user.email",
    "user.emailVerified",
    "user.name",
    "user.image",
    "user.updatedAt",
    "user.banned",
    "user.banReason",
    "user.banExpires",
    "user.username",
    "user.displayUsername",
    "user.phoneNumber",
    "user.phoneNumberVerified",
    "user.metadata",
];

/// Somebody who came before.
fn known_before(
    user: &ImportedUser,
    contested: &Contested,
    facts: &Facts,
    abilities: &Abilities,
    rules: &Rules,
    known: &super::target::Known,
    mut notes: Vec<Note>,
) -> Decided {
    let who = Some(known.user_id.clone());
    let Some(since) = rules.since else {
        return Decided::nothing(Outcome::Unchanged, who, notes);
    };
    let changed = user.updated_at.filter(|updated| *updated >= since);
    let Some(changed) = changed else {
        return Decided::nothing(Outcome::Skipped, who, notes);
    };
    // Dates of some columns are whole seconds.
    let here = known.updated_at.map_or(i64::MIN, |at| at.0 / 1000);
    if here >= changed.0 / 1000 {
        return Decided::nothing(Outcome::Unchanged, who, notes);
    }
    let Some((email, verified)) = address(user, rules) else {
        return Decided::nothing(Outcome::Unchanged, who, notes);
    };
    // They are here already: all that can be done is to say so, and not to call it brought up to date.
    if let Some(detail) = would_be_let_in(user, abilities, rules) {
        notes.push(Note {
            what: Oddity::NoColumn,
            detail: detail.to_owned(),
        });
        return Decided::nothing(Outcome::Refused, who, notes);
    }
    let mut no_column = Vec::new();
    let write = written(
        user,
        (email, verified),
        contested,
        facts,
        abilities,
        rules,
        &mut notes,
        &mut no_column,
    );
    let mut columns: Vec<&'static str> = CHANGED.to_vec();
    let taken = facts
        .emails
        .get(&write.email)
        .is_some_and(|resident| resident.user_id != known.user_id);
    if taken || contested.email_lost_to.is_some() {
        notes.push(Note {
            what: Oddity::DuplicateEmail,
            detail: "the new address is somebody else's here: the old one stays".to_owned(),
        });
        columns.retain(|column| !column.starts_with("user.email"));
    }
    if user.metadata.is_empty() {
        columns.retain(|column| *column != "user.metadata");
    }
    // What is somebody else's here they do not get, and what they had stays theirs.
    if user.username.is_some() && write.username.is_none() {
        let names = ["user.username", "user.displayUsername"];
        columns.retain(|column| !names.contains(column));
    }
    if user.phone.is_some() && write.phone.is_none() {
        columns.retain(|column| !column.starts_with("user.phoneNumber"));
    }
    Decided {
        outcome: Outcome::Updated,
        user_id: who,
        notes,
        no_column,
        intent: Intent::Change(Box::new(Change {
            user_id: known.user_id.clone(),
            user: Box::new(write),
            columns,
        })),
    }
}

/// Whether somebody is another than whoever has a thing.
fn another(facts: &Facts, user: &ImportedUser, owner: Option<&String>) -> bool {
    let me = facts.identities.get(&user.source_id);
    owner.is_some_and(|owner| me.is_none_or(|known| known.user_id != *owner))
}

#[allow(clippy::too_many_arguments)] // Everything that is known of one row.
fn written(
    user: &ImportedUser,
    (email, email_verified): (String, bool),
    contested: &Contested,
    facts: &Facts,
    abilities: &Abilities,
    rules: &Rules,
    notes: &mut Vec<Note>,
    no_column: &mut Vec<&'static str>,
) -> UserWrite {
    let mut note = |what: Oddity, detail: String| notes.push(Note { what, detail });
    let plain = |text: &str| text.replace('\0', "");
    let cut = |text: &str, logical: &str| -> String {
        text.chars().take(abilities.letters_max(logical)).collect()
    };
    let mut column = |logical: &str, field: &'static str, wanted: bool| {
        let there = abilities.has(logical);
        if wanted && !there {
            no_column.push(field);
        }
        there
    };

    let mut username = user.username.as_deref().map(plain);
    if !column("user.username", "username", username.is_some()) {
        username = None;
    }
    if let Some(name) = &username {
        let taken = another(facts, user, facts.usernames.get(name));
        if contested.username_lost || taken {
            note(
                Oddity::DuplicateUsername,
                "another user has this username and keeps it".to_owned(),
            );
            username = None;
        } else if name.chars().count() > abilities.letters_max("user.username") {
            note(
                Oddity::InvalidUsername,
                "the username is longer than its column".to_owned(),
            );
            username = None;
        }
    }
    let display_username = username.as_ref().map(|username| {
        let shown = user.display_username.as_deref().unwrap_or(username);
        cut(&plain(shown), "user.displayUsername")
    });

    let mut phone = user.phone.clone();
    if !column("user.phoneNumber", "phone", phone.is_some()) {
        phone = None;
    }
    if let Some((number, _)) = &phone
        && (contested.phone_lost || another(facts, user, facts.phones.get(number)))
    {
        note(
            Oddity::DuplicatePhone,
            "another user has this number and keeps it".to_owned(),
        );
        phone = None;
    }

    let mut accounts = Vec::new();
    for social in &user.socials {
        let Some(id) = &social.account_id else {
            continue;
        };
        let key = (social.provider.clone(), id.clone());
        let taken = another(facts, user, facts.socials.get(&key));
        if contested.socials.contains(&key) || taken {
            note(
                Oddity::DuplicateSocial,
                format!(
                    "the account at {} is another user's too: nobody gets it by this row",
                    social.provider
                ),
            );
            continue;
        }
        accounts.push(AccountWrite {
            provider: social.provider.clone(),
            account_id: id.clone(),
            scope: social.scope.clone(),
            access_token: social.access_token.clone(),
            refresh_token: social.refresh_token.clone(),
            id_token: social.id_token.clone(),
            access_token_expires_at: social.access_token_expires_at,
        });
    }

    let mut ban = user.ban.clone().map(|ban| (ban.reason, ban.expires_at));
    if !column("user.banned", "ban", ban.is_some()) {
        ban = None;
    }
    let role = if column("user.role", "roles", !user.roles.is_empty()) {
        match user.roles.is_empty() {
            // What the admin plugin gives whoever signs up.
            true => Some("user".to_owned()),
            false => Some(cut(&user.roles.join(","), "user.role")),
        }
    } else {
        None
    };
    column("user.isAnonymous", "anonymous", user.anonymous);

    let mut metadata = None;
    if !user.metadata.is_empty() && column("user.metadata", "metadata", true) {
        let text = nested(&user.metadata).to_string();
        if text.len() <= abilities.letters_max("user.metadata") {
            metadata = Some(text);
        } else {
            note(
                Oddity::MetadataTooLarge,
                format!("{} bytes of metadata do not fit their column", text.len()),
            );
        }
    }

    let local = email.split('@').next().unwrap_or_default();
    let names = [
        user.name.as_str(),
        user.username.as_deref().unwrap_or_default(),
        local,
    ];
    let named = names.iter().find(|name| !name.trim().is_empty());
    let name = plain(named.unwrap_or(&"User"));
    if name.chars().count() > abilities.letters_max("user.name") {
        note(
            Oddity::NameCut,
            "the name is longer than its column and was cut".to_owned(),
        );
    }
    let image = user
        .image
        .as_deref()
        .map(plain)
        .filter(|image| image.chars().count() <= abilities.letters_max("user.image"));

    UserWrite {
        wanted_id: wanted_id(user, facts, abilities),
        name: cut(&name, "user.name"),
        email,
        email_verified,
        username,
        display_username,
        phone,
        image,
        created_at: user.created_at.unwrap_or(rules.at),
        updated_at: user.updated_at.unwrap_or(rules.at),
        role,
        ban,
        anonymous: user.anonymous,
        metadata,
        ties: Ties {
            identity: (rules.provider.clone(), user.source_id.clone()),
            state: standing(&user.password),
            accounts,
            password: PasswordWrite::None,
            factor: None,
        },
    }
}

/// Where somebody stands who comes with this.
pub const fn standing(password: &Password) -> State {
    match password {
        Password::Hash { .. } => State::Pending,
        // The old system is asked, where it can be.
        Password::NotExported => State::Imported,
        // There was one, and nothing fits it: whoever comes is sent a link.
        Password::Unusable => State::Reset,
        // Nothing is left to do.
        Password::None => State::Done,
    }
}

/// Metadata without what databases cannot hold.
fn nested(metadata: &Map<String, Value>) -> Value {
    fn clean(value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(text.replace('\0', "")),
            Value::Array(all) => all.iter().map(clean).collect(),
            Value::Object(map) => {
                let all = map.iter();
                let all = all.map(|(key, value)| (key.replace('\0', ""), clean(value)));
                Value::Object(all.collect())
            }
            other => other.clone(),
        }
    }
    let all: BTreeMap<String, Value> = metadata
        .iter()
        .map(|(key, value)| (key.replace('\0', ""), clean(value)))
        .collect();
    Value::Object(all.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::import::record::{Place, SocialAccount};
    use crate::migration::import::target::{Known, Resident};

    fn user(id: &str, email: Option<&str>) -> ImportedUser {
        ImportedUser {
            place: Place {
                input: "users".into(),
                row: 1,
            },
            source_id: id.to_owned(),
            email_as_exported: email.map(str::to_owned),
            email: email.map(str::to_owned),
            email_verified: true,
            other_emails: Vec::new(),
            name: "Ada".to_owned(),
            username: None,
            display_username: None,
            phone: None,
            image: None,
            created_at: None,
            updated_at: None,
            last_sign_in_at: None,
            ban: None,
            anonymous: false,
            roles: Vec::new(),
            password: Password::None,
            socials: Vec::new(),
            factor: None,
            metadata: Map::new(),
            notes: Vec::new(),
        }
    }

    fn abilities() -> Abilities {
        let mut abilities = Abilities {
            keeps_ids: true,
            ..Abilities::default()
        };
        for column in ["user.username", "user.phoneNumber", "user.role"] {
            abilities.columns.insert(column.to_owned());
        }
        abilities
    }

    fn resident(verified: bool) -> Facts {
        let mut facts = Facts::default();
        let resident = Resident {
            user_id: "u9".to_owned(),
            email_verified: verified,
            has_password: true,
            has_factor: false,
            came_as: Vec::new(),
        };
        facts.emails.insert("ada@example.com".to_owned(), resident);
        facts
    }

    fn rules(duplicates: Duplicates) -> Rules {
        Rules {
            provider: "clerk".to_owned(),
            duplicates,
            at: UnixMs(1_795_000_000_000),
            ..Rules::default()
        }
    }

    fn outcome(
        user: &ImportedUser,
        contested: &Contested,
        facts: &Facts,
        rules: &Rules,
    ) -> Outcome {
        decide(user, contested, facts, &abilities(), rules).outcome
    }

    #[test]
    fn an_address_that_somebody_has_is_linked_only_when_both_are_verified() {
        let nobody = Contested::default();
        let ada = user("u1", Some("ada@example.com"));
        let park = rules(Duplicates::Park);
        assert_eq!(
            outcome(&ada, &nobody, &Facts::default(), &park),
            Outcome::Created
        );
        assert_eq!(
            outcome(&ada, &nobody, &resident(true), &park),
            Outcome::Linked
        );
        assert_eq!(
            outcome(&ada, &nobody, &resident(false), &park),
            Outcome::Parked
        );
        let mut unverified = ada.clone();
        unverified.email_verified = false;
        assert_eq!(
            outcome(&unverified, &nobody, &resident(true), &park),
            Outcome::Parked
        );
    }

    #[test]
    fn an_address_that_somebody_of_the_same_system_still_has_here_makes_nobody_them() {
        let nobody = Contested::default();
        let eve = user("u2", Some("ada@example.com"));
        let (park, merge) = (rules(Duplicates::Park), rules(Duplicates::Merge));
        let mut facts = resident(true);
        let came_as = |facts: &mut Facts, ids: &[&str]| {
            let resident = facts.emails.get_mut("ada@example.com").unwrap();
            resident.came_as = ids.iter().map(|id| (*id).to_owned()).collect();
        };
        // Ada came as u1, and has left the address there for Eve to take.
        came_as(&mut facts, &["u1"]);
        for rules in [&park, &merge] {
            assert_eq!(outcome(&eve, &nobody, &facts, rules), Outcome::Parked);
        }
        // Whoever lost it to u1 in the very export is meant to be one with them.
        let lost = Contested {
            email_lost_to: Some("u1".to_owned()),
            ..Contested::default()
        };
        came_as(&mut facts, &["u0", "u1"]);
        assert_eq!(outcome(&eve, &lost, &facts, &merge), Outcome::Merged);
        came_as(&mut facts, &["u0"]);
        assert_eq!(outcome(&eve, &lost, &facts, &merge), Outcome::Parked);
    }

    #[test]
    fn a_name_that_is_somebody_elses_takes_nothing_away_from_whoever_wanted_it() {
        let mut ada = user("u1", Some("ada@example.com"));
        ada.username = Some("eve".to_owned());
        ada.updated_at = Some(UnixMs(1_795_000_000_000));
        let mut facts = Facts::default();
        let known = crate::migration::import::target::Known {
            user_id: "u1".to_owned(),
            state: State::Done,
            imported_at: UnixMs(0),
            updated_at: Some(UnixMs(0)),
        };
        facts.identities.insert("u1".to_owned(), known);
        let delta = Rules {
            since: Some(UnixMs(1)),
            ..rules(Duplicates::Park)
        };
        let columns =
            |facts: &Facts| match decide(&ada, &Contested::default(), facts, &abilities(), &delta)
                .intent
            {
                Intent::Change(change) => change.columns,
                other => panic!("{other:?}"),
            };
        assert!(columns(&facts).contains(&"user.username"));
        facts.usernames.insert("eve".to_owned(), "u2".to_owned());
        let kept = columns(&facts);
        assert!(!kept.contains(&"user.username") && !kept.contains(&"user.displayUsername"));
        assert!(kept.contains(&"user.email"));
    }

    #[test]
    fn of_two_rows_with_one_address_the_loser_is_parked_unless_merging_is_asked_for() {
        let lost = Contested {
            email_lost_to: Some("u0".to_owned()),
            ..Contested::default()
        };
        let ada = user("u1", Some("ada@example.com"));
        let (park, merge) = (rules(Duplicates::Park), rules(Duplicates::Merge));
        assert_eq!(
            outcome(&ada, &lost, &resident(true), &park),
            Outcome::Parked
        );
        assert_eq!(
            outcome(&ada, &lost, &resident(true), &merge),
            Outcome::Merged
        );
        assert_eq!(
            outcome(&ada, &lost, &resident(false), &merge),
            Outcome::Parked
        );
        // Whoever won was refused for another reason: nobody has the address.
        assert_eq!(
            outcome(&ada, &lost, &Facts::default(), &park),
            Outcome::Created
        );
    }

    #[test]
    fn without_an_address_one_is_made_in_the_operators_domain_or_the_row_is_refused() {
        let nobody = Contested::default();
        let ada = user("User_2Q", None);
        let mut rules = rules(Duplicates::Park);
        assert_eq!(
            outcome(&ada, &nobody, &Facts::default(), &rules),
            Outcome::Refused
        );
        rules.placeholder_domain = Some("Users.Example.com".to_owned());
        let decided = decide(&ada, &nobody, &Facts::default(), &abilities(), &rules);
        let Intent::Create(made) = decided.intent else {
            panic!("{decided:?}")
        };
        assert!(made.email.ends_with("@users.example.com") && !made.email_verified);
        let other = address(&user("user_2q", None), &rules).unwrap();
        assert_ne!(made.email, other.0, "ids that differ in case alone");
    }

    #[test]
    fn a_social_account_of_two_goes_to_neither_and_a_username_to_the_first() {
        let mut ada = user("u1", Some("ada@example.com"));
        ada.username = Some("ada".to_owned());
        ada.socials.push(SocialAccount {
            provider: "github".to_owned(),
            account_id: Some("7".to_owned()),
            scope: None,
            access_token: None,
            refresh_token: None,
            id_token: None,
            access_token_expires_at: None,
        });
        let park = rules(Duplicates::Park);
        let contested = Contested {
            username_lost: true,
            socials: vec![("github".to_owned(), "7".to_owned())],
            ..Contested::default()
        };
        for (contested, facts, kept) in [
            (Contested::default(), Facts::default(), true),
            (contested, Facts::default(), false),
            (
                Contested::default(),
                Facts {
                    usernames: [("ada".to_owned(), "u8".to_owned())].into(),
                    socials: [(("github".to_owned(), "7".to_owned()), "u8".to_owned())].into(),
                    ..Facts::default()
                },
                false,
            ),
        ] {
            let decided = decide(&ada, &contested, &facts, &abilities(), &park);
            let Intent::Create(made) = decided.intent else {
                panic!("{decided:?}")
            };
            assert_eq!(made.username.is_some(), kept);
            assert_eq!(made.ties.accounts.len(), usize::from(kept));
            assert_eq!(decided.notes.is_empty(), kept);
        }
    }

    #[test]
    fn whoever_came_before_stays_and_a_delta_takes_what_is_newer() {
        let mut ada = user("u1", Some("ada@example.com"));
        ada.updated_at = Some(UnixMs(5_000));
        let known = |updated: i64| Facts {
            identities: [(
                "u1".to_owned(),
                Known {
                    user_id: "u1".to_owned(),
                    state: State::Pending,
                    imported_at: UnixMs(1_000),
                    updated_at: Some(UnixMs(updated)),
                },
            )]
            .into(),
            ..Facts::default()
        };
        let nobody = Contested::default();
        let mut rules = rules(Duplicates::Park);
        assert_eq!(
            outcome(&ada, &nobody, &known(1_000), &rules),
            Outcome::Unchanged
        );
        rules.since = Some(UnixMs(2_000));
        assert_eq!(
            outcome(&ada, &nobody, &known(1_000), &rules),
            Outcome::Updated
        );
        assert_eq!(
            outcome(&ada, &nobody, &known(9_000), &rules),
            Outcome::Unchanged
        );
        // Banned there since, and the app has no place for it: that is told, not passed over.
        let mut banned = ada.clone();
        banned.ban = Some(crate::migration::import::record::Ban::default());
        assert_eq!(
            outcome(&banned, &nobody, &known(1_000), &rules),
            Outcome::Refused
        );
        rules.since = Some(UnixMs(6_000));
        assert_eq!(
            outcome(&ada, &nobody, &known(1_000), &rules),
            Outcome::Skipped
        );
    }

    #[test]
    fn what_has_no_column_is_left_out_and_said() {
        let mut ada = user("u1", Some("ada@example.com"));
        ada.metadata
            .insert("__proto__".to_owned(), Value::Bool(true));
        ada.ban = Some(crate::migration::import::record::Ban::default());
        let mut rules = rules(Duplicates::Park);
        rules.without.ban = true;
        let nobody = Contested::default();
        let decided = decide(&ada, &nobody, &Facts::default(), &abilities(), &rules);
        assert_eq!(decided.no_column, ["ban", "metadata"]);
        assert_eq!(decided.outcome, Outcome::Created);
    }

    #[test]
    fn nobody_comes_without_the_ban_or_the_second_factor_they_had_unless_the_operator_says_so() {
        let (nobody, facts) = (Contested::default(), Facts::default());
        let mut banned = user("u1", Some("ada@example.com"));
        banned.ban = Some(crate::migration::import::record::Ban::default());
        let mut over = banned.clone();
        over.ban = Some(crate::migration::import::record::Ban {
            reason: None,
            expires_at: Some(UnixMs(-1)),
        });
        let mut guarded = user("u2", Some("bob@example.com"));
        guarded.factor = Some(crate::migration::import::record::Factor {
            key: None,
            digits: 6,
            period: 30,
            algorithm: "SHA1".to_owned(),
            backup_codes: Vec::new(),
        });
        let mut rules = rules(Duplicates::Park);
        assert_eq!(outcome(&banned, &nobody, &facts, &rules), Outcome::Refused);
        assert_eq!(outcome(&over, &nobody, &facts, &rules), Outcome::Created);
        assert_eq!(outcome(&guarded, &nobody, &facts, &rules), Outcome::Refused);
        let mut able = abilities();
        let columns = ["user.banned", "user.twoFactorEnabled", "twoFactor.secret"];
        able.columns.extend(columns.map(str::to_owned));
        for somebody in [&banned, &guarded] {
            let decided = decide(somebody, &nobody, &facts, &able, &rules);
            assert_eq!(decided.outcome, Outcome::Created, "{decided:?}");
        }
        rules.without = Without {
            ban: true,
            second_factor: true,
        };
        for somebody in [&banned, &guarded] {
            assert_eq!(outcome(somebody, &nobody, &facts, &rules), Outcome::Created);
        }
    }
}
