//! The rules by which every source's words become ours: names, addresses, numbers, dates, hashes. What is odd becomes a note at the row,
//! never a guess.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::record::{
    Ban, Factor, FactorKey, ImportedOrganization, ImportedUser, Note, Oddity, Password, Place,
    Record, SocialAccount,
};
use super::source::{Joined, Options};
use crate::migration::password::cost::Ceilings;
use crate::migration::password::{self, Stored, Unusable};
use crate::migration::second_factor;
use crate::secret::Secret;
use crate::time::UnixMs;

/// Longest name that is carried over, in letters. The target's own column may hold less.
pub const NAME_LETTERS_MAX: usize = 4096;

/// Longest address, in bytes. RFC 5321 knows none longer.
const EMAIL_BYTES_MAX: usize = 320;

/// Most metadata of one user that is carried over, in bytes as JSON: what fits into the text column of every database.
pub const METADATA_BYTES_MAX: usize = 60_000;

/// Metadata larger than this is mentioned, in bytes: vendors allow 8 KiB.
const METADATA_BYTES_LARGE: usize = 8 * 1024;

/// 2000-01-01 and 2100-01-01: no account is older, and a date after the other is a mistake.
const INSTANTS: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;

/// Names that a careless reader would take for fields of the user, or for JavaScript's own.
const HOSTILE: &[&str] = &[
    "__proto__",
    "constructor",
    "prototype",
    "id",
    "email",
    "emailVerified",
    "email_verified",
    "name",
    "image",
    "role",
    "banned",
    "banReason",
    "banExpires",
    "createdAt",
    "updatedAt",
    "twoFactorEnabled",
    "phoneNumber",
    "phoneNumberVerified",
    "username",
    "displayUsername",
    "isAnonymous",
];

// ------------------------------------------------------------------------------------------------------------------- dates

/// An instant in any of the forms exports have: RFC 3339, the forms of PostgreSQL and MySQL, a day, milliseconds or seconds as a number
/// or a text, Mongo's. Without a zone it is UTC. None: it is missing.
///
/// # Errors
/// What is wrong with it: no date, or none between 2000 and 2100.
pub fn instant(value: &Value) -> Result<Option<UnixMs>, &'static str> {
    let ms = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => of_number(whole),
            (None, Some(fraction)) => of_fraction(fraction),
            (None, None) => None,
        },
        Value::String(text) => {
            let text = text.trim();
            if text.is_empty() {
                return Ok(None);
            }
            of_text(text)
        }
        Value::Object(map) => match map.get("$date") {
            Some(Value::Object(long)) => long
                .get("$numberLong")
                .and_then(Value::as_str)
                .and_then(|text| text.parse().ok()),
            Some(inner) => return instant(inner),
            None => None,
        },
        Value::Bool(_) | Value::Array(_) => None,
    };
    match ms {
        None => Err("is no date"),
        Some(ms) if INSTANTS.contains(&ms) => Ok(Some(UnixMs(ms))),
        Some(_) => Err("is not between 2000 and 2100"),
    }
}

/// Seconds, milliseconds, micro- and nanoseconds since 1970 are told apart by their size: each is three digits longer than the one before,
/// for all dates between 1973 and 5138.
fn of_number(number: i64) -> Option<i64> {
    Some(match number.unsigned_abs() {
        0..100_000_000_000 => number.checked_mul(1000)?,
        100_000_000_000..100_000_000_000_000 => number,
        100_000_000_000_000..100_000_000_000_000_000 => number / 1000,
        _ => number / 1_000_000,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it is held against bounds first"
)]
fn of_fraction(number: f64) -> Option<i64> {
    let ms = if number.abs() < 1e11 {
        number * 1000.0
    } else {
        number
    };
    (ms.abs() < 1e15).then(|| ms.round() as i64)
}

fn of_text(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return of_number(text.parse().ok()?);
    }
    if let Ok(moment) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(moment.timestamp_millis());
    }
    if let Ok(day) = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(
            day.and_time(chrono::NaiveTime::MIN)
                .and_utc()
                .timestamp_millis(),
        );
    }
    let (moment, offset) = zone(text)?;
    let moment = moment.replacen('T', " ", 1);
    let forms = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let read = |form: &&str| chrono::NaiveDateTime::parse_from_str(moment.trim(), form).ok();
    let local = forms.iter().find_map(read);
    if let Some(local) = local {
        return Some(local.and_utc().timestamp_millis() - offset);
    }
    // Seconds with a fraction, as a text.
    text.parse::<f64>().ok().and_then(of_fraction)
}

/// What stands before the zone, and the zone's distance in milliseconds.
fn zone(text: &str) -> Option<(&str, i64)> {
    for name in ["Z", "z", " UTC", " GMT"] {
        if let Some(rest) = text.strip_suffix(name) {
            return Some((rest, 0));
        }
    }
    // The sign of a zone stands after the time, which is after the ten letters of the day.
    let after_day = text.get(10..)?;
    let Some(at) = after_day.rfind(['+', '-']) else {
        return Some((text, 0));
    };
    let (rest, zone) = text.split_at_checked(10 + at)?;
    let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at_checked(2)?,
        _ => return None,
    };
    let hours: i64 = hours.parse().ok().filter(|hours| *hours <= 18)?;
    let minutes: i64 = minutes.parse().ok().filter(|minutes| *minutes < 60)?;
    let distance = (hours * 60 + minutes) * 60_000;
    Some((
        rest,
        if zone.starts_with('-') {
            -distance
        } else {
            distance
        },
    ))
}

// ---------------------------------------------------------------------------------------------------------- addresses, numbers

/// An address in the form in which it is stored: trimmed, the whole of it lower-case. None: it is no address.
pub fn email(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let (local, domain) = text.rsplit_once('@')?;
    let strange = |letter: char| {
        letter.is_whitespace() || letter.is_control() || "<>()[],;:\\\"".contains(letter)
    };
    let fits = !local.is_empty()
        && !local.contains('@')
        && text.len() <= EMAIL_BYTES_MAX
        && !text.contains(strange)
        && domain.split('.').all(|label| !label.is_empty());
    fits.then_some(text)
}

/// A phone number in the form of E.164. None: it is none, or its country is not said.
pub fn phone(text: &str) -> Option<String> {
    let text = text.trim();
    let national = text.strip_prefix('+').or_else(|| text.strip_prefix("00"))?;
    let mut digits = String::with_capacity(16);
    for letter in national.chars() {
        match letter {
            '0'..='9' => digits.push(letter),
            ' ' | '-' | '.' | '(' | ')' | '/' | '\u{a0}' => {}
            _ => return None,
        }
    }
    let fits = (7..=15).contains(&digits.len()) && !digits.starts_with('0');
    fits.then(|| format!("+{digits}"))
}

/// Whether the username plugin, as it is set up by itself, takes this: 3 to 30 letters, digits, underscores and dots.
/// Source: better-auth 451aa4b, packages/better-auth/src/plugins/username/index.ts.
pub fn is_username(text: &str) -> bool {
    (3..=30).contains(&text.chars().count())
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.')
}

/// A flag in any of the forms exports have; none where it is none.
pub fn flag(value: Option<&Value>) -> Option<bool> {
    match value? {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => match number.as_i64()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" | "y" => Some(true),
            "false" | "f" | "0" | "no" | "n" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A text that is there and not blank; a number as text. As it stands there, blanks around it included.
pub fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A slug of a name: lower-case letters, digits and dashes. Empty where the name has none of these.
pub fn slug(name: &str) -> String {
    let mut slug = String::new();
    for letter in name.chars().flat_map(char::to_lowercase) {
        if letter.is_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// Better Auth's name of a provider of social accounts.
pub fn social_provider(word: &str, options: &Options) -> String {
    if let Some(name) = options.providers.get(word) {
        return name.clone();
    }
    let plain = word.to_lowercase();
    let plain = plain.strip_prefix("oauth_").unwrap_or(&plain);
    let plain = plain.strip_prefix("custom_").unwrap_or(plain);
    let plain = plain.strip_suffix(".com").unwrap_or(plain);
    let plain = plain.strip_suffix("oauth").unwrap_or(plain);
    match plain {
        "google-oauth2" | "google_oauth2" | "google" => "google",
        "windowslive"
        | "waad"
        | "microsoft"
        | "azure"
        | "azure-ad"
        | "azureadoauth"
        | "microsoft-entra-id"
        | "azuread"
        | "microsoftonline"
        | "azure_activedirectory_v2"
        | "entra_id" => "microsoft",
        "signinwithapple" | "apple" => "apple",
        "facebook" => "facebook",
        "github" => "github",
        "gitlab" => "gitlab",
        "linkedin" | "linkedin_oidc" | "linkedin-openid" | "linkedin-openid-connect" => "linkedin",
        "twitter" | "twitter2" | "x" => "twitter",
        "slack_oidc" | "slack" => "slack",
        "loginwithamazon" => "amazon",
        other => return other.to_owned(),
    }
    .to_owned()
}

// --------------------------------------------------------------------------------------------------------------------- hashes

/// How hashes begin whose scheme nothing else is written like.
const PREFIXES: &[(&str, &str)] = &[
    ("$2a$", "bcrypt"),
    ("$2b$", "bcrypt"),
    ("$2y$", "bcrypt"),
    ("$argon2id$", "argon2id"),
    ("$argon2i$", "argon2i"),
    ("$argon2d$", "argon2d"),
    ("$fbscrypt$", "supabase-fbscrypt"),
    ("$firescrypt$", "kratos-firescrypt"),
    ("$f_scrypt$", "supertokens-f-scrypt"),
    ("$wp$2y$", "wordpress-6.8"),
    ("$bcrypt-sha256$", "passlib-bcrypt-sha256-v2"),
    ("bcrypt_sha256$$", "django-bcrypt-sha256"),
    ("argon2$argon2", "django-argon2"),
    ("scrypt:", "werkzeug-scrypt"),
    ("pbkdf2:", "werkzeug-pbkdf2"),
    ("$pbkdf2-sha256$i=", "phc-pbkdf2"),
    ("$pbkdf2-sha512$i=", "phc-pbkdf2"),
    ("$1$", "md5crypt"),
    ("$apr1$", "apr1"),
    ("$5$", "sha256crypt"),
    ("$6$", "sha512crypt"),
    ("$y$", "crypt-y-yescrypt"),
    ("{SSHA}", "ldap-ssha"),
    ("{SSHA256}", "ldap-ssha256"),
    ("{SSHA512}", "ldap-ssha512"),
    ("{SMD5}", "ldap-smd5"),
    ("s2:", "lucia-v2-s2"),
];

/// The scheme a hash names itself, by a beginning that no other scheme has.
pub fn scheme_of(hash: &str) -> Option<&'static str> {
    let found = PREFIXES.iter().find(|(prefix, _)| hash.starts_with(prefix));
    found.map(|(_, scheme)| *scheme)
}

/// A hash with the scheme the export declares, parsed and held against the ceilings without any work.
pub fn hash(
    declared: Option<&str>,
    stored: Stored,
    exported_at: Option<UnixMs>,
) -> (Password, Option<Note>) {
    let ceilings = &Ceilings::DEFAULT;
    let known = declared.and_then(password::find);
    let why = match known.map(|kind| password::read(&stored, kind.name, ceilings)) {
        Some(Ok(_)) => {
            let scheme = known.map_or_else(String::new, |kind| kind.name.to_owned());
            let password = Password::Hash {
                scheme,
                stored,
                exported_at,
            };
            return (password, None);
        }
        Some(Err(why)) => why,
        None => Unusable::Unknown,
    };
    let word = declared.unwrap_or("nothing");
    let unusable = |detail: String| {
        let note = Note {
            what: Oddity::InvalidHash,
            detail,
        };
        (Password::Unusable, Some(note))
    };
    if why == Unusable::Disabled {
        return unusable(format!("the hash: {why}"));
    }
    let named =
        scheme_of(stored.hash.expose()).filter(|named| Some(*named) != known.map(|k| k.name));
    let Some(named) = named else {
        return unusable(match known {
            Some(kind) => format!("the hash, declared as {}: {why}", kind.name),
            None => format!(
                "the hash is declared as {}, which is no scheme we know, and its form is that of more than one",
                shown(word)
            ),
        });
    };
    match password::read(&stored, named, ceilings) {
        Ok(_) => {
            let note = Note {
                what: Oddity::ContradictoryScheme,
                detail: format!(
                    "the hash is declared as {}, and begins as one of {named}, which counted",
                    shown(word)
                ),
            };
            let password = Password::Hash {
                scheme: named.to_owned(),
                stored,
                exported_at,
            };
            (password, Some(note))
        }
        Err(why) => unusable(format!("the hash, which begins as one of {named}: {why}")),
    }
}

/// A word of an export, as reports show it: short, and of letters that change nothing on a terminal.
pub fn shown(word: &str) -> String {
    let shown: String = word
        .chars()
        .take(40)
        .map(|letter| {
            if letter.is_control() {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect();
    format!("`{shown}`")
}

// ----------------------------------------------------------------------------------------------------------------------- users

/// A user that is put together of what a source says, by the rules of all of them.
pub struct Draft {
    user: ImportedUser,
    /// First and last name, or the whole of it, as exported; and names to fall back to.
    full: String,
    others: Vec<String>,
    /// They sign in by something that is not exported as an account: a link, a directory, a passkey.
    enters: bool,
}

impl Draft {
    /// Begins with whom, and where that was read first.
    pub fn new(place: Place, source_id: impl Into<String>) -> Self {
        Self {
            user: ImportedUser {
                place,
                source_id: source_id.into(),
                email_as_exported: None,
                email: None,
                email_verified: false,
                other_emails: Vec::new(),
                name: String::new(),
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
            },
            full: String::new(),
            others: Vec::new(),
            enters: false,
        }
    }

    /// The id under which the app knows them is another one than that which joins.
    pub fn renamed(&mut self, source_id: String) {
        self.user.source_id = source_id;
    }

    /// Something is odd.
    pub fn note(&mut self, what: Oddity, detail: impl Into<String>) {
        let detail = detail.into();
        let same = |note: &Note| note.what == what && note.detail == detail;
        if !self.user.notes.iter().any(same) {
            self.user.notes.push(Note { what, detail });
        }
    }

    /// The main address, and whether it is verified.
    pub fn email(&mut self, exported: Option<String>, verified: bool) {
        let Some(exported) = exported.filter(|text| !text.trim().is_empty()) else {
            return;
        };
        self.user.email = email(&exported);
        self.user.email_verified = verified && self.user.email.is_some();
        self.user.email_as_exported = Some(exported);
    }

    /// Another address. The main one again only adds that it is verified.
    pub fn other_email(&mut self, exported: &str, verified: bool) {
        let Some(other) = email(exported) else {
            return;
        };
        if self.user.email.as_ref() == Some(&other) {
            self.user.email_verified |= verified;
            return;
        }
        let known = self.user.other_emails.iter_mut();
        match known.into_iter().find(|(known, _)| *known == other) {
            Some((_, known_verified)) => *known_verified |= verified,
            None => self.user.other_emails.push((other, verified)),
        }
    }

    /// The address that was taken so far.
    pub fn main_email(&self) -> Option<&str> {
        self.user.email.as_deref()
    }

    /// First and last name.
    pub fn names(&mut self, first: Option<&Value>, last: Option<&Value>) {
        let parts = [first, last].map(|part| match part {
            Some(Value::String(part)) => part.trim().to_owned(),
            _ => String::new(),
        });
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if self.full.is_empty() {
            self.full = parts.join(" ");
        }
    }

    /// The whole name.
    pub fn full_name(&mut self, name: Option<&Value>) {
        self.names(name, None);
    }

    /// A name to fall back to, before the username.
    pub fn display_name(&mut self, name: Option<&Value>) {
        if let Some(name) = text(name) {
            self.others.push(name.trim().to_owned());
        }
    }

    /// The username, as it is shown.
    pub fn username(&mut self, name: Option<&Value>) {
        let Some(name) = text(name) else {
            return;
        };
        let name = name.trim();
        if !is_username(name) {
            let detail = "the username plugin's own rules (3 to 30 letters, digits, `_`, `.`) refuse it at sign-in; it was kept";
            self.note(Oddity::InvalidUsername, detail);
        }
        self.user.username = Some(name.to_lowercase());
        self.user.display_username = Some(name.to_owned());
    }

    /// The phone number, and whether it is verified.
    pub fn phone(&mut self, exported: Option<&Value>, verified: bool) {
        let Some(exported) = text(exported) else {
            return;
        };
        match phone(&exported) {
            Some(number) => self.user.phone = Some((number, verified)),
            None => self.note(
                Oddity::InvalidPhone,
                "the phone number is not in the form of E.164, +15551234567; it was left out",
            ),
        }
    }

    /// The address of a picture.
    pub fn image(&mut self, exported: Option<&Value>) {
        let url = text(exported).filter(|url| {
            let url = url.trim().to_ascii_lowercase();
            url.starts_with("https://") || url.starts_with("http://")
        });
        if self.user.image.is_none() {
            self.user.image = url.map(|url| url.trim().to_owned());
        }
    }

    /// When the account was made. That it is missing is noted: the source has it otherwise.
    pub fn created(&mut self, exported: Option<&Value>) {
        match instant(exported.unwrap_or(&Value::Null)) {
            Ok(Some(at)) => self.user.created_at = Some(at),
            Ok(None) => self.note(
                Oddity::InvalidDate,
                "the time of creation is missing: the time of the import counts",
            ),
            Err(why) => self.note(
                Oddity::InvalidDate,
                format!("the time of creation {why}: the time of the import counts"),
            ),
        }
    }

    /// When it was changed last.
    pub fn updated(&mut self, exported: Option<&Value>) {
        self.user.updated_at = self.instant("the time of the last change", exported);
    }

    /// When they signed in last.
    pub fn signed_in(&mut self, exported: Option<&Value>) {
        self.user.last_sign_in_at = self.instant("the time of the last sign-in", exported);
    }

    /// An instant that may be missing.
    pub fn instant(&mut self, what: &str, exported: Option<&Value>) -> Option<UnixMs> {
        match instant(exported.unwrap_or(&Value::Null)) {
            Ok(at) => at,
            Err(why) => {
                self.note(
                    Oddity::InvalidDate,
                    format!("{what} {why}: it was left out"),
                );
                None
            }
        }
    }

    /// They may not sign in.
    pub fn ban(&mut self, reason: Option<String>, expires_at: Option<UnixMs>) {
        self.user.ban = Some(Ban { reason, expires_at });
    }

    /// Nobody in particular.
    pub fn anonymous(&mut self) {
        self.user.anonymous = true;
        self.note(Oddity::Anonymous, "the account is anonymous");
    }

    /// A role that the old system gave. Only the operator's table makes it one of the app: `admin` of somewhere else must not become one
    /// here by itself.
    pub fn foreign_role(&mut self, word: &str, options: &Options) {
        if word.trim().is_empty() {
            return;
        }
        if options.role(word).is_some() {
            self.role(word, options);
        } else {
            let detail = format!(
                "the role {} is given to nobody here: map it under `roles`",
                shown(word)
            );
            self.note(Oddity::UnknownRole, detail);
        }
    }

    /// A role of the app, by the operator's table or as it is.
    pub fn role(&mut self, word: &str, options: &Options) {
        let word = options.role(word).unwrap_or(word).trim();
        // Better Auth keeps roles in a list with commas.
        if !word.is_empty() && !word.contains(',') && !self.user.roles.iter().any(|r| r == word) {
            self.user.roles.push(word.to_owned());
        }
    }

    /// They sign in by something that is not exported as an account.
    pub fn enters(&mut self) {
        self.enters = true;
    }

    /// They have a password whose hash is not exported.
    pub fn password_elsewhere(&mut self) {
        if matches!(self.user.password, Password::None) {
            self.user.password = Password::NotExported;
        }
    }

    /// Whether a hash was taken, or found unusable.
    pub fn has_password(&self) -> bool {
        !matches!(self.user.password, Password::None)
    }

    /// A hash, with the scheme the export declares and what stands beside it.
    pub fn hash(
        &mut self,
        declared: Option<&str>,
        hash: &str,
        beside: &[(&str, Secret)],
        options: &Options,
    ) {
        let beside = beside
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let stored = Stored {
            hash: Secret::new(hash),
            params: beside.collect::<BTreeMap<_, _>>(),
        };
        let (password, note) = self::hash(declared, stored, options.exported_at);
        self.user.password = password;
        self.user.notes.extend(note);
    }

    /// A hash that no password will fit, for a reason of the source's own.
    pub fn unusable_hash(&mut self, why: impl Into<String>) {
        self.user.password = Password::Unusable;
        self.note(Oddity::InvalidHash, why);
    }

    /// An account elsewhere; a second one of the same provider and id is the same.
    pub fn social(&mut self, account: SocialAccount) {
        let same = |known: &SocialAccount| {
            known.provider == account.provider && known.account_id == account.account_id
        };
        if self.user.socials.iter().any(same) {
            return;
        }
        if account.account_id.is_none() {
            let detail = format!(
                "the account at {} comes without its id: it is linked at the first sign-in there",
                shown(&account.provider)
            );
            self.note(Oddity::SocialWithoutId, detail);
        }
        self.user.socials.push(account);
    }

    /// An account elsewhere of which no more than this is known.
    pub fn social_id(&mut self, provider: &str, id: Option<String>, options: &Options) {
        self.social(SocialAccount {
            provider: social_provider(provider, options),
            account_id: id,
            scope: None,
            access_token: None,
            refresh_token: None,
            id_token: None,
            access_token_expires_at: None,
        });
    }

    /// A second factor whose key is written in base32.
    pub fn factor_base32(&mut self, secret: &str) {
        match second_factor::from_base32(secret) {
            Some(key) if !key.is_empty() => self.factor(Some(key)),
            _ => self.factor_lost("its key is not in base32"),
        }
    }

    /// A second factor as nearly everybody has it: six digits, 30 seconds, SHA-1.
    pub fn factor(&mut self, key: Option<Zeroizing<Vec<u8>>>) {
        self.factor_of(Factor {
            key: key.map(FactorKey),
            digits: 6,
            period: 30,
            algorithm: "SHA1".into(),
            backup_codes: Vec::new(),
        });
    }

    /// A second factor.
    pub fn factor_of(&mut self, factor: Factor) {
        if factor.key.is_none() {
            self.note(
                Oddity::FactorWithoutKey,
                "the key of the second factor was not exported: it is enrolled anew",
            );
        }
        self.user.factor = Some(factor);
    }

    /// A second factor whose key cannot be read.
    pub fn factor_lost(&mut self, why: &str) {
        self.factor(None);
        self.user
            .notes
            .retain(|note| note.what != Oddity::FactorWithoutKey);
        self.note(
            Oddity::FactorWithoutKey,
            format!("the second factor: {why}; it is enrolled anew"),
        );
    }

    /// The second factor that was taken so far.
    pub fn factor_mut(&mut self) -> Option<&mut Factor> {
        self.user.factor.as_mut()
    }

    /// They have passkeys.
    pub fn passkeys(&mut self, count: usize) {
        if count > 0 {
            self.enters = true;
            let detail = format!("{count} passkeys: they are enrolled anew");
            self.note(Oddity::Passkeys, detail);
        }
    }

    /// What else is kept of them, under a name of its own.
    pub fn metadata(&mut self, name: &str, value: Value) {
        let empty = match &value {
            Value::Null => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        if empty {
            return;
        }
        let hostile = hostile(&value);
        if !hostile.is_empty() {
            let detail = format!(
                "{} has keys named like fields of the user ({}): kept, nested",
                shown(name),
                hostile.join(", ")
            );
            self.note(Oddity::HostileKeys, detail);
        }
        self.user.metadata.insert(name.to_owned(), value);
    }

    /// The record.
    pub fn finish(mut self) -> Record {
        self.finish_email();
        self.finish_name();
        self.finish_metadata();
        let user = &self.user;
        let enters = self.enters
            || user.anonymous
            || !user.socials.is_empty()
            || !matches!(user.password, Password::None);
        if !enters {
            self.note(
                Oddity::NoLoginMethod,
                "nothing signs them in: neither password, account elsewhere nor directory",
            );
        }
        Record::User(Box::new(self.user))
    }

    fn finish_email(&mut self) {
        match (&self.user.email_as_exported, &self.user.email) {
            (None, _) => self.note(Oddity::NoEmail, "there is no e-mail address"),
            (Some(_), None) => {
                self.note(Oddity::InvalidEmail, "the e-mail address is none");
            }
            (Some(_), Some(_)) => {}
        }
        let others = self.user.other_emails.len();
        if others > 0 {
            let detail = format!("{others} more addresses than the one that is kept");
            self.note(Oddity::MoreEmails, detail);
        }
        if !self.user.email_verified && self.user.other_emails.iter().any(|(_, verified)| *verified)
        {
            let detail =
                "the main address is not verified, and another one is: the main one counts";
            self.note(Oddity::OtherEmailVerified, detail);
        }
    }

    fn finish_name(&mut self) {
        let mut name = std::mem::take(&mut self.full);
        if name.is_empty() {
            let local = self
                .user
                .email
                .as_deref()
                .and_then(|email| email.rsplit_once('@'));
            let display = self.others.iter().find(|name| !name.is_empty()).cloned();
            let username = self.user.display_username.clone();
            let (made, of) = match (display, username, local) {
                (Some(display), _, _) => (display, "the display name"),
                (None, Some(username), _) => (username, "the username"),
                (None, None, Some((local, _))) => (local.to_owned(), "the address"),
                (None, None, None) => (String::new(), "nothing"),
            };
            name = made;
            self.note(
                Oddity::NameMadeUp,
                format!("there is no name: it was made of {of}"),
            );
        } else if name
            .split_whitespace()
            .all(|word| word.eq_ignore_ascii_case("null"))
        {
            self.note(
                Oddity::NameLikeNull,
                "the name is the word null; it was kept",
            );
        }
        if let Some((end, _)) = name.char_indices().nth(NAME_LETTERS_MAX) {
            name.truncate(end);
            let detail = format!("the name was cut to {NAME_LETTERS_MAX} letters");
            self.note(Oddity::NameCut, detail);
        }
        // A text with a zero byte is none to PostgreSQL.
        if name.contains('\0') {
            name.retain(|letter| letter != '\0');
            self.note(Oddity::NameCut, "zero bytes were taken out of the name");
        }
        self.user.name = name;
    }

    fn finish_metadata(&mut self) {
        if self.user.metadata.is_empty() {
            return;
        }
        let bytes =
            serde_json::to_string(&self.user.metadata).map_or(usize::MAX, |text| text.len());
        if bytes > METADATA_BYTES_MAX {
            self.user.metadata.clear();
            let detail = format!(
                "the metadata are {bytes} bytes, more than {METADATA_BYTES_MAX}: they were left out"
            );
            self.note(Oddity::MetadataTooLarge, detail);
        } else if bytes > METADATA_BYTES_LARGE {
            let detail = format!("the metadata are {bytes} bytes; they were kept");
            self.note(Oddity::MetadataLarge, detail);
        }
    }
}

/// Keys named like fields of the user at the top, and JavaScript's own at any depth.
fn hostile(value: &Value) -> Vec<&'static str> {
    fn own(value: &Value, found: &mut Vec<&'static str>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    found.extend(HOSTILE.iter().take(3).filter(|word| *word == key));
                    own(value, found);
                }
            }
            Value::Array(list) => list.iter().for_each(|value| own(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    own(value, &mut found);
    if let Value::Object(map) = value {
        found.extend(
            HOSTILE
                .iter()
                .skip(3)
                .filter(|word| map.contains_key(**word)),
        );
    }
    found.sort_unstable();
    found.dedup();
    found
}

// ---------------------------------------------------------------------------------------------------------- what is around users

/// When an organization, membership or invitation was made.
pub fn created(exported: Option<&Value>, notes: &mut Vec<Note>) -> Option<UnixMs> {
    match instant(exported.unwrap_or(&Value::Null)) {
        Ok(at) => at,
        Err(why) => {
            notes.push(Note {
                what: Oddity::InvalidDate,
                detail: format!("the time of creation {why}: the time of the import counts"),
            });
            None
        }
    }
}

/// An organization: `name`, `slug`, `image_url` or `logo`, `created_at` as they stand in a value, and what else is kept of it.
pub fn organization(joined: &Joined, value: &Value, metadata: Map<String, Value>) -> Record {
    let mut notes = Vec::new();
    let name = text(value.get("name")).map(|name| name.trim().to_owned());
    let name = name.unwrap_or_else(|| joined.key.clone());
    let slug = text(value.get("slug")).map_or_else(|| slug(&name), |slug| slug.trim().to_owned());
    let created_at = created(value.get("created_at"), &mut notes);
    Record::Organization(ImportedOrganization {
        place: joined.place(),
        source_id: joined.key.clone(),
        slug: if slug.is_empty() {
            joined.key.clone()
        } else {
            slug
        },
        name,
        logo: text(value.get("image_url")).or_else(|| text(value.get("logo"))),
        created_at,
        metadata,
        notes,
    })
}

/// A role within an organization: by the operator's table (`word`, as the old system writes it), else one of Better Auth's own (`plain`),
/// else the word as it is, noted.
pub fn member_role(word: &str, plain: &str, options: &Options, notes: &mut Vec<Note>) -> String {
    if let Some(role) = options.role(word).or_else(|| options.role(plain)) {
        return role.to_owned();
    }
    match plain {
        "owner" | "admin" | "member" => plain.to_owned(),
        "basic_member" | "" => "member".to_owned(),
        other => {
            notes.push(Note {
                what: Oddity::UnknownRole,
                detail: format!(
                    "the role {} is not one of owner, admin and member: map it under `roles`, or give the app such a role",
                    shown(other)
                ),
            });
            other.replace(',', " ")
        }
    }
}

/// A group of which nothing is made.
pub fn refused(joined: &super::source::Joined, what: Oddity, detail: impl Into<String>) -> Record {
    Record::Refused {
        place: joined.place(),
        source_id: Some(joined.key.clone()),
        note: Note {
            what,
            detail: detail.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn dates_of_every_form_are_the_same_instant() {
        let ms = 1_646_127_015_123;
        for form in [
            json!("2022-03-01T09:30:15.123Z"),
            json!("2022-03-01T10:30:15.123+01:00"),
            json!("2022-03-01T09:30:15.123000"),
            json!("2022-03-01 09:30:15.123"),
            json!("2022-03-01 09:30:15.123000+00"),
            json!("2022-03-01 04:30:15.123-05"),
            json!("2022-03-01 15:00:15.123+05:30"),
            json!("2022-03-01 15:00:15.123+0530"),
            json!("2022-03-01 09:30:15.123 UTC"),
            json!(" 2022-03-01 09:30:15.123 "),
            json!(ms),
            json!(ms.to_string()),
            json!(1_646_127_015.123),
            json!("1646127015.123"),
            json!(1_646_127_015_123_456_i64),
            json!({ "$date": "2022-03-01T09:30:15.123Z" }),
            json!({ "$date": { "$numberLong": "1646127015123" } }),
        ] {
            assert_eq!(instant(&form), Ok(Some(UnixMs(ms))), "{form}");
        }
        let second = Ok(Some(UnixMs(1_646_127_015_000)));
        for form in [
            json!(1_646_127_015),
            json!("1646127015"),
            json!("2022-03-01 09:30:15"),
        ] {
            assert_eq!(instant(&form), second, "{form}");
        }
        assert_eq!(
            instant(&json!("2022-03-01")),
            Ok(Some(UnixMs(1_646_092_800_000)))
        );
        for none in [json!(null), json!(""), json!("  ")] {
            assert_eq!(instant(&none), Ok(None));
        }
    }

    #[test]
    fn dates_that_cannot_be_are_no_dates() {
        for wrong in [
            json!(0),
            json!("0"),
            json!(-1),
            json!("1970-01-01T00:00:00.000Z"),
            json!("2103-01-01T00:00:00Z"),
            json!(4_197_052_800_000_i64),
            json!("0000-00-00 00:00:00"),
            json!("2022-02-30"),
            json!("yesterday"),
            json!("infinity"),
            json!(true),
            json!([]),
            json!({}),
            json!(f64::MAX),
            json!(i64::MAX),
            json!(i64::MIN),
            json!(u64::MAX),
        ] {
            assert!(instant(&wrong).is_err(), "{wrong}: {:?}", instant(&wrong));
        }
        assert_eq!(
            instant(&json!("2000-01-01")),
            Ok(Some(UnixMs(INSTANTS.start)))
        );
        assert!(instant(&json!("1999-12-31T23:59:59.999Z")).is_err());
        assert!(instant(&json!("2100-01-01")).is_err());
    }

    #[test]
    fn addresses_are_lower_case_and_otherwise_as_they_are() {
        for (exported, stored) in [
            (
                " Ann.Plus+Tag@Example.COM ",
                Some("ann.plus+tag@example.com"),
            ),
            ("ÜNÏCODE@BÜCHER.example", Some("ünïcode@bücher.example")),
            ("a@localhost", Some("a@localhost")),
            ("not-an-email", None),
            ("@example.com", None),
            ("a@", None),
            ("a@b@c.com", None),
            ("a@example..com", None),
            ("a b@example.com", None),
            ("a@exa mple.com", None),
            ("Ann <a@example.com>", None),
            ("a@example.com\nBcc: b@example.com", None),
        ] {
            assert_eq!(email(exported).as_deref(), stored, "{exported}");
        }
        assert!(email(&format!("a@{}.com", "b".repeat(400))).is_none());
    }

    #[test]
    fn numbers_need_their_country() {
        for (exported, stored) in [
            ("+12025550000", Some("+12025550000")),
            ("+1 (202) 555-0199", Some("+12025550199")),
            ("0049 30 1234567", Some("+49301234567")),
            ("(202) 555-0199", None),
            ("2025550199", None),
            ("+1202", None),
            ("+1234567890123456", None),
            ("+0123456789", None),
            ("+1202555x000", None),
            ("", None),
        ] {
            assert_eq!(phone(exported).as_deref(), stored, "{exported}");
        }
    }

    fn of(hash: &str, declared: Option<&str>) -> (Password, Option<Oddity>) {
        let (password, note) = super::hash(declared, Stored::plain(Secret::new(hash)), None);
        (password, note.map(|note| note.what))
    }

    #[test]
    fn a_hash_counts_by_its_declared_scheme_then_by_a_beginning_only_one_scheme_has() {
        let bcrypt = "$2b$04$abcdefghijklmnopqrstuu5o3VyFyLpHyZbOhtNrKBdCp2xVa0N6y";
        let md5 = "9cc2ae8a1ba7a93da39b46fc1019c481";
        for (hash, declared, scheme, note) in [
            (bcrypt, Some("bcrypt"), Some("bcrypt"), None),
            (
                bcrypt,
                Some("blowfish"),
                Some("bcrypt"),
                Some(Oddity::ContradictoryScheme),
            ),
            (
                bcrypt,
                None,
                Some("bcrypt"),
                Some(Oddity::ContradictoryScheme),
            ),
            (
                bcrypt,
                Some("argon2id"),
                Some("bcrypt"),
                Some(Oddity::ContradictoryScheme),
            ),
            (md5, Some("md5"), Some("md5-hex"), None),
            // More than one scheme has this form: nothing is guessed.
            (md5, None, None, Some(Oddity::InvalidHash)),
            (md5, Some("md-5"), None, Some(Oddity::InvalidHash)),
            (
                "$2b$10$short",
                Some("bcrypt"),
                None,
                Some(Oddity::InvalidHash),
            ),
            (
                "$2b$10$short",
                Some("what"),
                None,
                Some(Oddity::InvalidHash),
            ),
            ("!", Some("django"), None, Some(Oddity::InvalidHash)),
            ("*", Some("bcrypt"), None, Some(Oddity::InvalidHash)),
            // Costs above the ceilings.
            (
                "$2b$31$abcdefghijklmnopqrstuu5o3VyFyLpHyZbOhtNrKBdCp2xVa0N6y",
                Some("bcrypt"),
                None,
                Some(Oddity::InvalidHash),
            ),
        ] {
            let (password, found) = of(hash, declared);
            let named = match &password {
                Password::Hash { scheme, .. } => Some(scheme.as_str()),
                Password::Unusable => None,
                other => panic!("{hash}: {other:?}"),
            };
            assert_eq!((named, found), (scheme, note), "{hash} {declared:?}");
        }
    }

    #[test]
    fn every_beginning_leads_to_a_scheme() {
        for (prefix, scheme) in PREFIXES {
            assert!(
                password::find(scheme).is_some(),
                "{prefix} leads to {scheme}"
            );
            assert_eq!(scheme_of(prefix), Some(*scheme));
        }
    }

    fn named(build: impl FnOnce(&mut Draft)) -> (String, Vec<Oddity>) {
        let place = Place {
            input: "x".into(),
            row: 1,
        };
        let mut draft = Draft::new(place, "id");
        build(&mut draft);
        match draft.finish() {
            Record::User(user) => (user.name, user.notes.iter().map(|note| note.what).collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_are_joined_and_fall_back_and_null_may_be_somebodys() {
        let (name, _) =
            named(|draft| draft.names(Some(&json!(" Ann ")), Some(&json!("O'Neil, \"PhD\"\n"))));
        assert_eq!(name, "Ann O'Neil, \"PhD\"");
        let (name, notes) = named(|draft| {
            draft.names(Some(&json!(" \t")), Some(&Value::Null));
            draft.display_name(Some(&json!("Annie")));
            draft.username(Some(&json!("ann_1")));
        });
        assert!(name == "Annie" && notes.contains(&Oddity::NameMadeUp));
        let (name, _) = named(|draft| draft.username(Some(&json!("Ann_1"))));
        assert_eq!(name, "Ann_1");
        let (name, _) = named(|draft| draft.email(Some("Ann@Example.com".into()), true));
        assert_eq!(name, "ann");
        let (name, notes) = named(|draft| draft.names(Some(&json!("null")), Some(&json!("NULL"))));
        assert!(name == "null NULL" && notes.contains(&Oddity::NameLikeNull));
        let (name, notes) =
            named(|draft| draft.full_name(Some(&json!("é".repeat(NAME_LETTERS_MAX + 1)))));
        assert!(name.chars().count() == NAME_LETTERS_MAX && notes.contains(&Oddity::NameCut));
    }

    #[test]
    fn metadata_are_nested_and_more_than_fits_is_left_out() {
        let draft = |value: Value| {
            named(|draft| {
                draft.enters();
                draft.email(Some("a@example.com".into()), true);
                draft.full_name(Some(&json!("Ann")));
                draft.metadata("public", value);
            })
        };
        assert_eq!(draft(json!({})).1, []);
        assert_eq!(draft(json!({ "plan": "pro" })).1, []);
        assert_eq!(
            draft(json!({ "a": [{ "__proto__": {} }] })).1,
            [Oddity::HostileKeys]
        );
        assert_eq!(draft(json!({ "role": "admin" })).1, [Oddity::HostileKeys]);
        assert_eq!(draft(json!({ "a": { "role": "admin" } })).1, []);
        assert_eq!(
            draft(json!({ "a": "x".repeat(METADATA_BYTES_LARGE) })).1,
            [Oddity::MetadataLarge]
        );
        assert_eq!(
            draft(json!({ "a": "x".repeat(METADATA_BYTES_MAX) })).1,
            [Oddity::MetadataTooLarge]
        );
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(text in r"\PC{0,30}@?\PC{0,20}") {
            if let Some(once) = email(&text) {
                prop_assert_eq!(email(&once), Some(once.clone()));
            }
            if let Some(once) = phone(&text) {
                prop_assert_eq!(phone(&once), Some(once.clone()));
            }
            let once = slug(&text);
            prop_assert_eq!(slug(&once), once.clone());
        }

        #[test]
        fn no_text_is_too_odd_for_a_date(text in r"\PC{0,40}|[0-9:TZ+ .-]{0,40}") {
            let _ = instant(&Value::String(text));
        }
    }
}
