//! What a move would come to, said before anything moves: risks with the rows that show them, numbers, effort, cost, steps, open
//! questions, and drafts of both configurations.
//!
//! Records are looked at one by one in bounded memory; every number is counted from them. Nothing is written, and nobody is asked.
//!
//! Who counts as reset: whoever had a password, and it will not sign them in. Who counts as signed out: whoever must sign in again. The
//! figures *before* are those of a move by the published scripts and a stock Better Auth, *after* those with this gateway in front.

mod affected;
mod distinct;
mod draft;
mod effort;
mod evidence;
mod facts;
mod oddity;
mod render;
mod risk;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

pub use self::affected::{Affected, Affects};
pub use self::draft::{Draft, Variable};
pub use self::effort::{Cost, Effort, Prices, Role, Size, Sum, Task};
pub use self::evidence::{Evidence, ROWS_MAX, Row};
pub use self::facts::{Facts, Outlook, TABLE as SOURCES, of as facts_of};
pub use self::render::{markdown, terminal};
pub use self::risk::{Risk, Severity};
pub use self::steps::{Step, span};

use self::distinct::{Of, Seen};
use super::record::{ImportedUser, Oddity, Password, Place, Record};
use crate::migration::password::cost::Ceilings;
use crate::migration::password::{self, Unusable};
use crate::time::UnixMs;

/// Version of the shape of the JSON. Grows when something in it is renamed or taken away.
pub const VERSION: u32 = 1;

/// Schemes told apart by name: there are fewer. What an export calls otherwise is told as one.
const SCHEMES_MAX: usize = 256;

/// Roles and accounts elsewhere told apart by name.
const NAMES_MAX: usize = 64;

/// Schemes whose hashes Better Auth reads as they are.
const NATIVE: &[&str] = &["better-auth-scrypt", "oslo-scrypt", "lucia-v2"];

/// How long the window is where nobody says: dormant users are those who have not signed in for as long.
pub const WINDOW: Duration = Duration::from_secs(90 * 24 * 3600);

/// What is known besides the export.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The old system's name, as in `--from`.
    pub source: String,
    /// The present.
    pub now: UnixMs,
    /// How long the old system stays up after the switch.
    pub window: Duration,
    /// Whether it may be asked for passwords meanwhile; `None`: as the table of systems says.
    pub live_check: Option<bool>,
    /// Whether its sessions are taken over; `None`: as the table of systems says.
    pub sessions: Option<bool>,
    /// When it ends, where that is known.
    pub ends: Option<UnixMs>,
    /// What things cost.
    pub prices: Prices,
}

impl Settings {
    /// Those of a system about which nothing else is said.
    pub fn of(source: &str, now: UnixMs) -> Self {
        Self {
            source: source.to_owned(),
            now,
            window: WINDOW,
            live_check: None,
            sessions: None,
            ends: None,
            prices: Prices::default(),
        }
    }
}

/// What the database the users go to looks like now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Target {
    /// What it is: `postgres`, `mysql`, `sqlite`.
    pub kind: String,
    /// Users that are there already.
    pub users: u64,
    /// What its ids are: `text`, `uuid`, `number`.
    pub ids: Ids,
    /// Plugins whose tables or columns are there, by the names of [`Plugin::as_str`].
    pub plugins: BTreeSet<Plugin>,
}

/// What ids a database takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ids {
    /// Any text: old ids are kept.
    #[default]
    Text,
    /// UUIDs.
    Uuid,
    /// Numbers.
    Number,
}

/// Plugins of Better Auth that users bring a need of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plugin {
    /// Bans and roles.
    Admin,
    /// Anonymous users.
    Anonymous,
    /// Organizations.
    Organization,
    /// Passkeys.
    Passkey,
    /// Phone numbers.
    PhoneNumber,
    /// Sign-in by a company's directory.
    Sso,
    /// Second factors.
    TwoFactor,
    /// Usernames.
    Username,
}

impl Plugin {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Admin,
        Self::Anonymous,
        Self::Organization,
        Self::Passkey,
        Self::PhoneNumber,
        Self::Sso,
        Self::TwoFactor,
        Self::Username,
    ];

    /// Its name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Anonymous => "anonymous",
            Self::Organization => "organization",
            Self::Passkey => "passkey",
            Self::PhoneNumber => "phone-number",
            Self::Sso => "sso",
            Self::TwoFactor => "two-factor",
            Self::Username => "username",
        }
    }
}

/// What was counted. Every user is in exactly one of `native`, `hashed`, `live`, `reset`, `social_only`, `other_only`, `no_method`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Numbers {
    /// Users that move: those the old system has deleted are not among them.
    pub users: u64,
    /// Users the old system has deleted.
    pub deleted: u64,
    /// Rows that cannot be read.
    pub refused: u64,
    /// With a hash in Better Auth's own form.
    pub native: u64,
    /// With a hash of another form, which is checked here and replaced.
    pub hashed: u64,
    /// With a password whose hash was not exported, checked once in the old system.
    pub live: u64,
    /// With a password that nothing can check: only a reset helps.
    pub reset: u64,
    /// Without a password, and with an account elsewhere that signs them in.
    pub social_only: u64,
    /// Without either, and with another way in: a phone number, a directory, a passkey, or nobody in particular.
    pub other_only: u64,
    /// With nothing that signs them in. A link by mail can.
    pub no_method: u64,
    /// Users by the scheme of their hash, `native` ones too.
    pub by_scheme: BTreeMap<String, u64>,
    /// Of those with a hash: fast digests, wrapped while they are imported.
    pub weak: u64,
    /// Users whose address is verified.
    pub verified: u64,
    /// Users without an address that can be one.
    pub no_email: u64,
    /// Users with a ban.
    pub banned: u64,
    /// Users with an account elsewhere.
    pub with_social: u64,
    /// Accounts elsewhere, by their provider.
    pub by_provider: BTreeMap<String, u64>,
    /// Users with a second factor whose key is in the export.
    pub factor_with_key: u64,
    /// Of those: keys that Better Auth can hold itself.
    pub factor_native: u64,
    /// Users with a second factor whose key is not.
    pub factor_without_key: u64,
    /// Users with backup codes in the clear.
    pub backup_codes: u64,
    /// Users with passkeys.
    pub passkeys: u64,
    /// Users who sign in by their company's directory.
    pub single_sign_on: u64,
    /// Nobody in particular.
    pub anonymous: u64,
    /// Users with a username.
    pub usernames: u64,
    /// Users with a phone number.
    pub phones: u64,
    /// Users by role.
    pub by_role: BTreeMap<String, u64>,
    /// Of those in `live`: signed in within as long as the window is, so they will most likely again.
    pub live_active: u64,
    /// Of those in `live`: nobody knows when they signed in.
    pub live_unknown: u64,
    /// Organizations.
    pub organizations: u64,
    /// Members of them.
    pub members: u64,
    /// Open invitations.
    pub invitations: u64,
}

/// Between so many and so many users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Range {
    /// At least.
    pub least: u64,
    /// At most.
    pub most: u64,
    /// The same in per cent of the users that move, with one digit.
    pub least_per_cent: f64,
    /// The same.
    pub most_per_cent: f64,
}

impl Range {
    fn of(least: u64, most: u64, users: u64) -> Self {
        Self {
            least,
            most,
            least_per_cent: per_cent(least, users),
            most_per_cent: per_cent(most, users),
        }
    }

    /// As `0 (0 %)`, or `3 to 12 (2.5 to 10 %)`.
    pub fn told(&self) -> String {
        if self.least == self.most {
            return format!("{} ({} %)", self.least, self.least_per_cent);
        }
        let (from, to) = (self.least_per_cent, self.most_per_cent);
        format!("{} to {} ({from} to {to} %)", self.least, self.most)
    }
}

/// What users will feel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expected {
    /// Passwords that stop working, moved by the published scripts.
    pub resets_before: Range,
    /// With this gateway in front.
    pub resets_after: Range,
    /// Users who must sign in again, moved by the published scripts.
    pub sign_outs_before: Range,
    /// With this gateway in front.
    pub sign_outs_after: Range,
    /// Why it is so before.
    pub passwords_before: &'static str,
    /// Why it is so after.
    pub passwords_after: &'static str,
    /// Under which condition.
    pub sessions_after: &'static str,
}

/// The whole of it.
#[derive(Clone, Debug, Serialize)]
pub struct Assessment {
    /// [`VERSION`].
    pub version: u32,
    /// The old system, as in `--from`.
    pub source: String,
    /// Its name as people write it.
    pub label: &'static str,
    /// Days the old system stays up after the switch.
    pub window_days: u64,
    /// Blockers first.
    pub risks: Vec<Risk>,
    /// What was counted.
    pub numbers: Numbers,
    /// What users will feel.
    pub expected: Expected,
    /// The database they go to, where it was looked at.
    pub target: Option<Target>,
    /// Plugins of Better Auth they need.
    pub plugins: BTreeSet<Plugin>,
    /// What it takes.
    pub effort: Effort,
    /// What it costs.
    pub cost: Cost,
    /// In which order.
    pub steps: Vec<Step>,
    /// What only the operator can answer.
    pub questions: Vec<String>,
    /// For whoever decides.
    pub remarks: Vec<&'static str>,
    /// Drafts of both configurations.
    pub draft: Draft,
}

impl Assessment {
    /// Whether something must be settled before anybody moves.
    pub fn is_blocked(&self) -> bool {
        self.risks
            .iter()
            .any(|risk| risk.severity == Severity::Blocker)
    }

    /// As JSON, with a line feed at the end.
    pub fn json(&self) -> String {
        // Numbers, texts and maps under texts always serialize.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// How somebody's password comes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Native,
    Hashed,
    Live,
    Reset,
    SocialOnly,
    OtherOnly,
    Nothing,
}

/// Looks at records one after the other.
pub struct Assessor {
    settings: Settings,
    facts: &'static Facts,
    numbers: Numbers,
    oddities: BTreeMap<Oddity, Evidence>,
    emails: Evidence,
    usernames: Evidence,
    phones: Evidence,
    socials: Evidence,
    /// Hashes that need something that stands beside them, by its name.
    missing: BTreeMap<&'static str, Evidence>,
    unusable: Evidence,
    no_email: Evidence,
    weak: Evidence,
    unverified: Evidence,
    source_id_no_uuid: Evidence,
    source_id_no_number: Evidence,
    factor_without_key: Evidence,
    live: Evidence,
    seen: Seen,
}

impl Assessor {
    /// Nothing looked at yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            facts: facts::of(&settings.source),
            settings,
            numbers: Numbers::default(),
            oddities: BTreeMap::new(),
            emails: Evidence::default(),
            usernames: Evidence::default(),
            phones: Evidence::default(),
            socials: Evidence::default(),
            missing: BTreeMap::new(),
            unusable: Evidence::default(),
            no_email: Evidence::default(),
            weak: Evidence::default(),
            unverified: Evidence::default(),
            source_id_no_uuid: Evidence::default(),
            source_id_no_number: Evidence::default(),
            factor_without_key: Evidence::default(),
            live: Evidence::default(),
            seen: Seen::default(),
        }
    }

    /// Looks at one more.
    pub fn add(&mut self, record: &Record) {
        match record {
            Record::User(user) => self.user(user),
            Record::Organization(organization) => {
                self.numbers.organizations += 1;
                self.notes(&organization.place, &organization.notes);
            }
            Record::Member(member) => {
                self.numbers.members += 1;
                self.notes(&member.place, &member.notes);
            }
            Record::Invitation(invitation) => {
                self.numbers.invitations += 1;
                self.notes(&invitation.place, &invitation.notes);
            }
            Record::Refused { place, note, .. } => {
                self.numbers.refused += 1;
                self.notes(place, std::slice::from_ref(note));
            }
        }
    }

    fn notes(&mut self, place: &Place, notes: &[super::record::Note]) {
        let mut told = BTreeSet::new();
        for note in notes {
            // Counted by rows, and not by what is wrong with one.
            if told.insert(note.what) {
                self.oddities.entry(note.what).or_default().add(place);
            }
        }
    }

    fn user(&mut self, user: &ImportedUser) {
        self.notes(&user.place, &user.notes);
        if is(user, Oddity::Deleted) {
            self.numbers.deleted += 1;
            return;
        }
        self.numbers.users += 1;
        self.identity(user);
        self.accounts_elsewhere(user);
        self.factor(user);
        match self.judge(user, true) {
            Method::Native => self.numbers.native += 1,
            Method::Hashed => self.numbers.hashed += 1,
            Method::Live => {
                self.numbers.live += 1;
                self.live.add(&user.place);
                match user.last_sign_in_at {
                    None => self.numbers.live_unknown += 1,
                    Some(at) if self.settings.now.since(at) <= self.settings.window => {
                        self.numbers.live_active += 1;
                    }
                    Some(_) => {}
                }
            }
            Method::Reset => self.numbers.reset += 1,
            Method::SocialOnly => self.numbers.social_only += 1,
            Method::OtherOnly => self.numbers.other_only += 1,
            Method::Nothing => self.numbers.no_method += 1,
        }
    }

    fn identity(&mut self, user: &ImportedUser) {
        let (numbers, seen, place) = (&mut self.numbers, &mut self.seen, &user.place);
        match &user.email {
            None => {
                numbers.no_email += 1;
                self.no_email.add(place);
            }
            Some(email) => {
                seen.meet(Of::Email, &[email], place, &mut self.emails);
                if user.email_verified {
                    numbers.verified += 1;
                } else {
                    self.unverified.add(place);
                }
            }
        }
        if let Some(username) = &user.username {
            numbers.usernames += 1;
            seen.meet(Of::Username, &[username], place, &mut self.usernames);
        }
        if let Some((phone, _)) = &user.phone {
            numbers.phones += 1;
            seen.meet(Of::Phone, &[phone], place, &mut self.phones);
        }
        numbers.banned += u64::from(user.ban.is_some());
        numbers.anonymous += u64::from(user.anonymous);
        numbers.passkeys += u64::from(is(user, Oddity::Passkeys));
        numbers.single_sign_on += u64::from(is(user, Oddity::SingleSignOn));
        for role in user.roles.iter().collect::<BTreeSet<_>>() {
            count(&mut numbers.by_role, role, NAMES_MAX);
        }
        if !is_uuid(&user.source_id) {
            self.source_id_no_uuid.add(place);
        }
        if user.source_id.parse::<i64>().is_err() {
            self.source_id_no_number.add(place);
        }
    }

    fn accounts_elsewhere(&mut self, user: &ImportedUser) {
        self.numbers.with_social += u64::from(!user.socials.is_empty());
        for social in &user.socials {
            count(&mut self.numbers.by_provider, &social.provider, NAMES_MAX);
            if let Some(id) = &social.account_id {
                let parts = [social.provider.as_str(), id.as_str()];
                let evidence = &mut self.socials;
                self.seen.meet(Of::Social, &parts, &user.place, evidence);
            }
        }
    }

    fn factor(&mut self, user: &ImportedUser) {
        match &user.factor {
            None => {}
            Some(factor) => {
                self.numbers.backup_codes += u64::from(!factor.backup_codes.is_empty());
                match &factor.key {
                    Some(key) => {
                        self.numbers.factor_with_key += 1;
                        // Source: better-auth, plugins/two-factor: the key is the text's bytes, SHA-1, 30 seconds.
                        let usual = factor.algorithm == "SHA1" && factor.period == 30;
                        let text = std::str::from_utf8(&key.0).is_ok();
                        let native = usual && text && matches!(factor.digits, 6 | 8);
                        self.numbers.factor_native += u64::from(native);
                    }
                    None => {
                        self.numbers.factor_without_key += 1;
                        self.factor_without_key.add(&user.place);
                    }
                }
            }
        }
    }

    /// How somebody's password comes over; `note`: what is found is counted.
    fn judge(&mut self, user: &ImportedUser, note: bool) -> Method {
        let place = &user.place;
        match &user.password {
            Password::Hash { scheme, stored, .. } => {
                let read = password::read(stored, scheme, &Ceilings::DEFAULT);
                let name = password::find(scheme).map_or(scheme.as_str(), |kind| kind.name);
                let hash = match read {
                    Ok(hash) => hash,
                    Err(Unusable::Missing(what)) => {
                        if note {
                            self.missing.entry(what).or_default().add(place);
                        }
                        return self.unread(user);
                    }
                    Err(_) => {
                        if note && !is(user, Oddity::InvalidHash) {
                            self.unusable.add(place);
                        }
                        return Method::Reset;
                    }
                };
                if note {
                    count(&mut self.numbers.by_scheme, name, SCHEMES_MAX);
                    if hash.digest().is_some() {
                        self.numbers.weak += 1;
                        self.weak.add(place);
                    }
                }
                if NATIVE.contains(&name) {
                    Method::Native
                } else {
                    Method::Hashed
                }
            }
            Password::NotExported => self.unread(user),
            Password::Unusable => Method::Reset,
            Password::None
                if user
                    .socials
                    .iter()
                    .any(|social| social.account_id.is_some()) =>
            {
                Method::SocialOnly
            }
            Password::None => {
                let phone = user.phone.as_ref().is_some_and(|(_, verified)| *verified);
                let other = is(user, Oddity::SingleSignOn) || is(user, Oddity::Passkeys);
                if phone || other || user.anonymous || !user.socials.is_empty() {
                    Method::OtherOnly
                } else {
                    Method::Nothing
                }
            }
        }
    }

    /// Somebody whose hash is not here, or is useless here.
    fn unread(&self, _user: &ImportedUser) -> Method {
        if self.asks_live() {
            Method::Live
        } else {
            Method::Reset
        }
    }

    fn asks_live(&self) -> bool {
        self.settings.live_check.unwrap_or(self.facts.live_check)
    }

    fn sessions(&self) -> Outlook {
        match (self.settings.sessions, self.facts.sessions) {
            (Some(false), _) | (_, Outlook::Lost) => Outlook::Lost,
            (Some(true), _) => Outlook::Kept,
            (None, outlook) => outlook,
        }
    }

    fn plugins(&self) -> BTreeSet<Plugin> {
        let numbers = &self.numbers;
        let needs = |plugin| match plugin {
            Plugin::Admin => numbers.banned > 0 || !numbers.by_role.is_empty(),
            Plugin::Anonymous => numbers.anonymous > 0,
            Plugin::Organization => numbers.organizations > 0,
            Plugin::Passkey => numbers.passkeys > 0,
            Plugin::PhoneNumber => numbers.phones > 0,
            Plugin::Sso => numbers.single_sign_on > 0,
            Plugin::TwoFactor => numbers.factor_with_key + numbers.factor_without_key > 0,
            Plugin::Username => numbers.usernames > 0,
        };
        Plugin::ALL
            .into_iter()
            .filter(|plugin| needs(*plugin))
            .collect()
    }

    fn expected(&self) -> Expected {
        let n = &self.numbers;
        let range = |least, most| Range::of(least, most, n.users);
        let passwords = n.native + n.hashed + n.live + n.reset;
        let foreign = passwords - n.native;
        // Those who were there lately come again; whoever was not, or nobody knows, may be too late.
        let late = n.live - n.live_active;
        let surely_late = late - n.live_unknown;
        let signed_out = match self.sessions() {
            Outlook::Kept => range(0, 0),
            Outlook::Partly => range(0, n.users),
            Outlook::Lost => range(n.users, n.users),
        };
        Expected {
            resets_before: range(foreign, foreign),
            resets_after: range(n.reset + surely_late, n.reset + late),
            sign_outs_before: range(n.users, n.users),
            sign_outs_after: signed_out,
            passwords_before: self.facts.naive,
            passwords_after: self.facts.passwords,
            sessions_after: self.facts.sessions_about,
        }
    }

    /// What it all comes to. May be asked for more than once.
    pub fn finish(&self, target: Option<&Target>) -> Assessment {
        let expected = self.expected();
        let plugins = self.plugins();
        let effort = effort::effort(self.facts, &self.numbers, &plugins, self.collisions());
        let cost = effort::cost(
            &self.settings,
            self.facts,
            &self.numbers,
            &expected,
            &effort,
        );
        let mut questions: Vec<String> = self.facts.questions.iter().map(|&q| q.into()).collect();
        questions.extend(risk::questions(self, target));
        Assessment {
            version: VERSION,
            source: self.settings.source.clone(),
            label: self.facts.label,
            window_days: self.settings.window.as_secs() / (24 * 3600),
            risks: risk::risks(self, target, &plugins),
            steps: steps::steps(self, &expected),
            draft: draft::draft(self, &plugins),
            numbers: self.numbers.clone(),
            expected,
            target: target.cloned(),
            plugins,
            effort,
            cost,
            questions,
            remarks: self.facts.remarks.to_vec(),
        }
    }

    /// Users of whom somebody else has the address, the username, the number or an account elsewhere.
    fn collisions(&self) -> u64 {
        self.emails.count + self.usernames.count + self.phones.count + self.socials.count
    }
}

/// Whether this is noted at somebody.
fn is(user: &ImportedUser, what: Oddity) -> bool {
    user.notes.iter().any(|note| note.what == what)
}

/// One more of this name; beyond so many names, of `(others)`.
fn count(names: &mut BTreeMap<String, u64>, name: &str, most: usize) {
    if let Some(number) = names.get_mut(name) {
        *number += 1;
        return;
    }
    let name = if names.len() < most { name } else { "(others)" };
    *names.entry(name.to_owned()).or_default() += 1;
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// In per cent, with one digit.
#[allow(clippy::cast_precision_loss)] // Users fit a float with room.
fn per_cent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part as f64 * 1000.0 / whole as f64).round() / 10.0
}

#[cfg(test)]
mod tests;
