//! A remembered identity, packed: memory holds hundreds of thousands of them, and a request touches one.
//!
//! Everything lies in one block: first what each request looks at, then the dates that are there, then the texts that are there, each
//! after its length. Blocks are as long as those the allocator hands out.

use std::fmt;
use std::mem::{offset_of, size_of};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use zeroize::{Zeroize as _, Zeroizing};

use super::carried::Owed;
use super::feed::TokenDigest;
use super::revocation::{Moment, Revocations, Slot};
use super::{Principal, Record};
use crate::credential::Method;
use crate::credential::signature::Seal;
use crate::secret::Secret;
use crate::time::UnixMs;

/// The texts of an identity, in the order in which the app is told of them. The token comes last: nobody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// `user.id`.
    UserId,
    /// `user.email`.
    Email,
    /// `user.name`.
    Name,
    /// `user.role`.
    Role,
    /// `session.id`.
    SessionId,
    /// The active organization.
    OrganizationId,
    /// The user's roles in it.
    OrganizationRole,
    /// The active team.
    TeamId,
    /// The admin behind it.
    ImpersonatedBy,
    /// The session token.
    Token,
}

impl Text {
    const ALL: [Self; 10] = [
        Self::UserId,
        Self::Email,
        Self::Name,
        Self::Role,
        Self::SessionId,
        Self::OrganizationId,
        Self::OrganizationRole,
        Self::TeamId,
        Self::ImpersonatedBy,
        Self::Token,
    ];

    fn of(self, record: &Record) -> Option<&str> {
        match self {
            Self::UserId => Some(&record.user_id),
            Self::Email => record.email.as_deref(),
            Self::Name => record.name.as_deref(),
            Self::Role => record.role.as_deref(),
            Self::SessionId => Some(&record.session_id),
            Self::OrganizationId => record.organization_id.as_deref(),
            Self::OrganizationRole => record.organization_role.as_deref(),
            Self::TeamId => record.team_id.as_deref(),
            Self::ImpersonatedBy => record.impersonated_by.as_deref(),
            Self::Token => Some(record.token.expose()),
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The numbers that most identities lack, each eight bytes long where it is there.
#[derive(Clone, Copy)]
enum Number {
    CreatedAt,
    BanExpires,
    /// Until when it counts, where that is not the end of the session.
    Deadline,
    RenewFrom,
    OrganizationSlot,
}

/// Numbers there are: their bits come before those of the texts.
const NUMBERS: u16 = 5;

/// `user.emailVerified`, beyond the bits of the texts that are not sent as they are.
const EMAIL_VERIFIED: u16 = 1 << 14;

/// `user.banned`.
const BANNED: u16 = 1 << 15;

/// The length byte that says that the length follows in eight.
const LONG: u8 = u8::MAX;

/// How many serials were given. Two of one session would be alike after four thousand millions of them.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Whether a byte stands in a header as it is. All others are percent-encoded, and `%` itself.
pub fn is_plain(byte: u8) -> bool {
    (0x21..0x7f).contains(&byte) && byte != b'%'
}

/// An identity that was found out, before it is packed.
pub struct Finding {
    principal: Principal,
    asked_at: UnixMs,
    deadline: UnixMs,
    renew_from: Option<UnixMs>,
    since: Moment,
    token: Slot,
    serial: Serial,
    owed: Option<Arc<Owed>>,
}

/// What no other identity of this process has or had: whatever is derived from one can be kept by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// The same for every identity of one session that came by one way, and hardly ever for two.
    pub session: u32,
    given: u32,
}

impl Serial {
    /// One for an identity of this session.
    pub fn next(session: u32) -> Self {
        Self {
            session,
            given: SERIAL.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Finding {
    /// An identity as the store told it to a lookup that began at `asked_at`, `since` that moment.
    pub fn new(principal: Principal, seal: &Seal, asked_at: UnixMs, since: Moment) -> Self {
        Self {
            asked_at,
            deadline: principal.record.expires_at,
            renew_from: None,
            since,
            token: Slot::of_token(seal),
            serial: Serial::next(seal.mark() ^ principal.method as u32),
            owed: None,
            principal,
        }
    }

    /// The same, counting until `deadline` at most.
    #[must_use]
    pub fn until(self, deadline: UnixMs, renew_from: Option<UnixMs>) -> Self {
        Self {
            deadline: deadline.min(self.deadline),
            renew_from,
            ..self
        }
    }

    /// The same, owing what others of this session owe.
    #[must_use]
    pub fn owing(self, owed: Option<Arc<Owed>>) -> Self {
        Self { owed, ..self }
    }

    /// The same, as it is remembered.
    pub fn pack(self) -> Arc<Entry> {
        let (present, shape, packed) = self.write();
        let Principal { record, method } = self.principal;
        let mut head = Head {
            asked_at: self.asked_at,
            since: self.since,
            expires_at: record.expires_at,
            owed: ArcSwapOption::new(self.owed),
            beside: record.document.map(|document| {
                Box::new(Beside {
                    document: Some(document),
                    long: None,
                })
            }),
            user: Slot::of_user(&record.user_id),
            token: self.token,
            serial: self.serial,
            digest: Slot::of_digest(&TokenDigest::of(record.token.expose())),
            present,
            shape,
            method,
        };
        // As long as the blocks of mimalloc, four for each doubling: what is left of one is lost anyway.
        macro_rules! in_block {
            ($($bytes:literal)*) => {
                match packed.len() {
                    $(length if length <= room($bytes) => place::<{ room($bytes) }>(head, &packed),)*
                    _ => {
                        let beside = head.beside.get_or_insert_default();
                        beside.long = Some(packed);
                        place::<0>(head, &[])
                    }
                }
            };
        }
        in_block!(128 160 192 224 256 320 384 448 512 640 768 896 1024)
    }

    /// What is there, which texts are not sent as they are, and all that is there.
    fn write(&self) -> (u16, u16, Packing) {
        let record = &self.principal.record;
        let organization = record.organization_id.as_deref();
        let numbers = [
            record.created_at.map(|at| at.0),
            record.ban_expires.map(|at| at.0),
            (self.deadline != record.expires_at).then_some(self.deadline.0),
            self.renew_from.map(|at| at.0),
            organization.map(|id| i64::from(Slot::of_organization(id).0)),
        ];
        let texts = || {
            Text::ALL
                .into_iter()
                .filter_map(|text| Some((text, text.of(record)?)))
        };
        let most = texts().map(|(_, text)| text.len() + 9).sum::<usize>() + numbers.len() * 8;
        // Growing would leave the token behind where it lay.
        let mut packed = Zeroizing::new(Vec::with_capacity(most));
        let (mut present, mut shape) = (0, 0);
        for (nth, number) in numbers.into_iter().enumerate() {
            if let Some(number) = number {
                present |= 1 << nth;
                packed.extend_from_slice(&number.to_le_bytes());
            }
        }
        for (text, letters) in texts() {
            present |= text.bit() << NUMBERS;
            if !letters.bytes().all(is_plain) {
                shape |= text.bit();
            }
            match u8::try_from(letters.len()) {
                Ok(length) if length < LONG => packed.push(length),
                _ => {
                    packed.push(LONG);
                    packed.extend_from_slice(&(letters.len() as u64).to_le_bytes());
                }
            }
            packed.extend_from_slice(letters.as_bytes());
        }
        if record.email_verified {
            shape |= EMAIL_VERIFIED;
        }
        if record.banned {
            shape |= BANNED;
        }
        (present, shape, packed)
    }
}

/// Numbers and texts as they lie in memory, wiped when they go.
type Packing = Zeroizing<Vec<u8>>;

/// What an entry begins with. Not a field of it: whole, it would be padded, and the texts would begin five bytes later.
struct Head {
    asked_at: UnixMs,
    since: Moment,
    expires_at: UnixMs,
    owed: ArcSwapOption<Owed>,
    beside: Option<Box<Beside>>,
    serial: Serial,
    user: Slot,
    token: Slot,
    digest: Slot,
    present: u16,
    shape: u16,
    method: Method,
}

/// What few identities have.
#[derive(Default)]
struct Beside {
    document: Option<Box<str>>,
    /// Numbers and texts that are too long for a block.
    long: Option<Packing>,
}

/// Bytes of texts that fit into a block of so many.
const fn room(block: usize) -> usize {
    block - COUNTS - offset_of!(Packed<[u8; 0]>, texts)
}

/// What `Arc` keeps in front of each.
const COUNTS: usize = 2 * size_of::<usize>();

fn place<const ROOM: usize>(head: Head, packed: &[u8]) -> Arc<Entry> {
    let mut entry = Arc::new(Packed {
        asked_at: head.asked_at,
        since: head.since,
        expires_at: head.expires_at,
        serial: head.serial,
        owed: head.owed,
        beside: head.beside,
        user: head.user,
        token: head.token,
        digest: head.digest,
        present: head.present,
        shape: head.shape,
        method: head.method,
        texts: [0; ROOM],
    });
    // Nobody else has it yet. Written where it stays: what is moved leaves a copy behind.
    if let Some(entry) = Arc::get_mut(&mut entry) {
        for (place, byte) in entry.texts.iter_mut().zip(packed) {
            *place = *byte;
        }
    }
    entry
}

/// A remembered identity.
pub type Entry = Packed<[u8]>;

/// A remembered identity with room for its texts.
pub struct Packed<T: AsMut<[u8]> + ?Sized> {
    /// When the store was asked, or the app wrote it down.
    asked_at: UnixMs,
    since: Moment,
    expires_at: UnixMs,
    serial: Serial,
    /// `Set-Cookie` lines its browser has not got yet. Most owe none, ever.
    owed: ArcSwapOption<Owed>,
    beside: Option<Box<Beside>>,
    user: Slot,
    token: Slot,
    /// The same token by its plain digest, reckoned once: others tell of it by that name.
    digest: Slot,
    /// Which numbers and texts there are.
    present: u16,
    /// Which texts are not sent as they are, and what is true of the user.
    shape: u16,
    method: Method,
    texts: T,
}

impl<T: AsMut<[u8]> + ?Sized> Drop for Packed<T> {
    fn drop(&mut self) {
        self.texts.as_mut().zeroize();
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("user_id", &self.user_id())
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// A text that the app may be told.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'e> {
    /// Which.
    pub text: Text,
    /// Its letters.
    pub letters: &'e [u8],
    /// Whether it stands in a header as it is.
    pub is_plain: bool,
}

impl Entry {
    /// What the app may be told, in its order.
    pub fn facts(&self) -> impl Iterator<Item = Fact<'_>> {
        let told = self.texts().filter(|(text, _)| *text != Text::Token);
        told.map(|(text, letters)| Fact {
            text,
            letters,
            is_plain: self.shape & text.bit() == 0,
        })
    }

    /// `user.id`.
    pub fn user_id(&self) -> &str {
        self.text(Text::UserId).unwrap_or_default()
    }

    /// `user.email`.
    pub fn email(&self) -> Option<&str> {
        self.text(Text::Email)
    }

    /// `user.emailVerified`.
    pub fn email_verified(&self) -> bool {
        self.shape & EMAIL_VERIFIED != 0
    }

    /// `user.name`.
    pub fn name(&self) -> Option<&str> {
        self.text(Text::Name)
    }

    /// `user.role`: a comma list.
    pub fn role(&self) -> Option<&str> {
        self.text(Text::Role)
    }

    /// `user.banned`.
    pub fn banned(&self) -> bool {
        self.shape & BANNED != 0
    }

    /// `user.banExpires`.
    pub fn ban_expires(&self) -> Option<UnixMs> {
        self.number(Number::BanExpires).map(UnixMs)
    }

    /// `session.id`.
    pub fn session_id(&self) -> &str {
        self.text(Text::SessionId).unwrap_or_default()
    }

    /// `session.activeOrganizationId`.
    pub fn organization_id(&self) -> Option<&str> {
        self.text(Text::OrganizationId)
    }

    /// The user's roles in the active organization: a comma list.
    pub fn organization_role(&self) -> Option<&str> {
        self.text(Text::OrganizationRole)
    }

    /// `session.activeTeamId`.
    pub fn team_id(&self) -> Option<&str> {
        self.text(Text::TeamId)
    }

    /// `session.impersonatedBy`.
    pub fn impersonated_by(&self) -> Option<&str> {
        self.text(Text::ImpersonatedBy)
    }

    /// `session.token`: never logged.
    pub fn expose_token(&self) -> &str {
        self.text(Text::Token).unwrap_or_default()
    }

    /// `session.createdAt`.
    pub fn created_at(&self) -> Option<UnixMs> {
        self.number(Number::CreatedAt).map(UnixMs)
    }

    /// `session.expiresAt`.
    pub fn expires_at(&self) -> UnixMs {
        self.expires_at
    }

    /// From when on the cookie that told of it is to be written anew. Only where the cookie is all there is.
    pub fn renew_from(&self) -> Option<UnixMs> {
        self.number(Number::RenewFrom).map(UnixMs)
    }

    /// When the store was asked, or the app wrote it down.
    pub fn asked_at(&self) -> UnixMs {
        self.asked_at
    }

    /// Everything the app would answer about the session, where that is kept.
    pub fn document(&self) -> Option<&str> {
        self.beside.as_ref()?.document.as_deref()
    }

    /// How it was proved.
    pub fn method(&self) -> Method {
        self.method
    }

    /// What no other identity has or had.
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// The lines its browser has not got yet. Whoever takes them has them.
    pub fn take_owed(&self) -> Option<Arc<Vec<HeaderValue>>> {
        self.owed.load().as_ref()?.take()
    }

    /// What its browser is owed, from now on shared by whoever asks.
    pub(super) fn share_owed(&self) -> Arc<Owed> {
        let none: Option<Arc<Owed>> = None;
        let made = Arc::default();
        let found = self.owed.compare_and_swap(&none, Some(Arc::clone(&made)));
        found.as_ref().map_or(made, Arc::clone)
    }

    /// The same identity with a session that lives longer. It is as old as it was: nothing else was asked.
    pub(crate) fn renewed(&self, until: UnixMs, updated: Option<UnixMs>) -> Arc<Self> {
        let document = self.document();
        let mut record = self.record();
        record.expires_at = until;
        record.document =
            document.and_then(|document| super::document::moved(document, until, updated));
        let finding = Finding {
            asked_at: self.asked_at,
            deadline: until,
            renew_from: None,
            since: self.since,
            token: self.token,
            serial: Serial::next(self.serial.session),
            owed: Some(self.share_owed()),
            principal: Principal {
                record,
                method: self.method,
            },
        };
        finding.pack()
    }

    /// The record it was made of, without its document and without when it was last written, which nobody asks for.
    fn record(&self) -> Record {
        let owned = |text: Option<&str>| text.map(Box::from);
        Record {
            session_id: self.session_id().into(),
            token: Secret::new(self.expose_token()),
            expires_at: self.expires_at,
            created_at: self.created_at(),
            updated_at: None,
            impersonated_by: owned(self.impersonated_by()),
            organization_id: owned(self.organization_id()),
            organization_role: owned(self.organization_role()),
            user_id: self.user_id().into(),
            email: owned(self.email()),
            email_verified: self.email_verified(),
            name: owned(self.name()),
            role: owned(self.role()),
            banned: self.banned(),
            ban_expires: self.ban_expires(),
            team_id: owned(self.team_id()),
            document: None,
        }
    }

    /// Whether it has not been revoked since it was looked up.
    pub fn stands(&self, revocations: &Revocations) -> bool {
        let organization = self.number(Number::OrganizationSlot);
        let organization = organization.and_then(|slot| u16::try_from(slot).ok().map(Slot));
        [self.user, self.token, self.digest]
            .into_iter()
            .chain(organization)
            .all(|slot| revocations.untouched(self.since, slot))
    }

    /// Whether it is at most `ttl` old. An age from the future (the clock was set back) counts as too old.
    pub(super) fn is_fresh(&self, now: UnixMs, ttl: Duration) -> bool {
        self.asked_at <= now && now.since(self.asked_at) < ttl
    }

    /// Whether the session, or the cookie that told of it, is past its expiry. At the very millisecond it is still valid, as in the
    /// framework.
    pub fn is_expired(&self, now: UnixMs) -> bool {
        let deadline = self.number(Number::Deadline).map(UnixMs);
        deadline.unwrap_or(self.expires_at) < now
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let beside = self.beside.as_ref().map_or(0, |beside| {
            let document = beside.document.as_ref().map_or(0, |text| text.len());
            let long = beside.long.as_ref().map_or(0, |long| long.capacity());
            size_of::<Beside>() + document + long
        });
        COUNTS + size_of_val(self) + beside
    }

    fn packed(&self) -> &[u8] {
        let beside = self.beside.as_ref();
        let long = beside.and_then(|beside| beside.long.as_ref());
        long.map_or(&self.texts, |long| long.as_slice())
    }

    fn number(&self, which: Number) -> Option<i64> {
        let bit = 1 << which as u16;
        if self.present & bit == 0 {
            return None;
        }
        let before = eights(self.present & (bit - 1));
        let bytes = self.packed().get(before..)?.first_chunk()?;
        Some(i64::from_le_bytes(*bytes))
    }

    fn texts(&self) -> Texts<'_> {
        let numbers = eights(self.present & ((1 << NUMBERS) - 1));
        Texts {
            left: self.present >> NUMBERS,
            rest: self.packed().get(numbers..).unwrap_or_default(),
        }
    }

    fn text(&self, wanted: Text) -> Option<&str> {
        let (_, letters) = self.texts().find(|(text, _)| *text == wanted)?;
        std::str::from_utf8(letters).ok()
    }
}

/// Bytes of the numbers with these bits.
fn eights(bits: u16) -> usize {
    bits.count_ones() as usize * size_of::<i64>()
}

/// The texts that are there.
struct Texts<'e> {
    left: u16,
    rest: &'e [u8],
}

impl<'e> Iterator for Texts<'e> {
    type Item = (Text, &'e [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let text = *Text::ALL.get(self.left.trailing_zeros() as usize)?;
        self.left &= self.left - 1;
        let (&length, mut rest) = self.rest.split_first()?;
        let mut length = usize::from(length);
        if length == usize::from(LONG) {
            let bytes;
            (bytes, rest) = rest.split_first_chunk()?;
            length = usize::try_from(u64::from_le_bytes(*bytes)).ok()?;
        }
        let letters;
        (letters, self.rest) = rest.split_at_checked(length)?;
        Some((text, letters))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::credential::signature::Signer;

    fn least(token: &str) -> Record {
        Record {
            session_id: "s1".into(),
            token: Secret::new(token),
            expires_at: UnixMs(1000),
            created_at: None,
            updated_at: None,
            impersonated_by: None,
            organization_id: None,
            organization_role: None,
            user_id: "ada".into(),
            email: None,
            email_verified: false,
            name: None,
            role: None,
            banned: false,
            ban_expires: None,
            team_id: None,
            document: None,
        }
    }

    fn finding(record: Record) -> Finding {
        let signer = Signer::new(&Secret::new("secret"));
        let seal = signer.seal(record.token.expose());
        let principal = Principal {
            record,
            method: Method::SESSION,
        };
        let since = Revocations::default().moment();
        Finding::new(principal, &seal, UnixMs(10), since)
    }

    #[test]
    fn an_identity_as_the_framework_makes_them_fits_into_224_bytes() {
        let letters = |byte: &str| -> Box<str> { byte.repeat(32).into() };
        let entry = finding(Record {
            session_id: letters("s"),
            user_id: letters("u"),
            email: Some("ada.lovelace@example.co.uk".into()),
            name: Some("Ada  Lovelace".into()),
            created_at: Some(UnixMs(1)),
            ..least(&letters("t"))
        })
        .pack();
        assert_eq!(entry.bytes(), 224);
    }

    #[test]
    fn it_expires_after_the_millisecond_of_its_end_or_of_its_cookie_whichever_is_first() {
        for (until, last) in [(None, 1000), (Some(900), 900), (Some(1100), 1000)] {
            let finding = finding(least("tok"));
            let entry = match until {
                None => finding.pack(),
                Some(until) => finding.until(UnixMs(until), Some(UnixMs(500))).pack(),
            };
            assert!(!entry.is_expired(UnixMs(last)), "{until:?}");
            assert!(entry.is_expired(UnixMs(last + 1)), "{until:?}");
            assert_eq!(entry.expires_at(), UnixMs(1000));
            assert_eq!(entry.renew_from(), until.map(|_| UnixMs(500)));
        }
    }

    #[test]
    fn one_that_was_renewed_is_the_same_identity_for_longer_and_owes_the_same() {
        let mut record = least("tok");
        record.organization_id = Some("org".into());
        record.document = Some(r#"{"session":{"expiresAt":"x"},"user":{}}"#.into());
        let old = finding(record).until(UnixMs(900), Some(UnixMs(500))).pack();
        let new = old.renewed(UnixMs(5000), None);
        let expected = Record {
            expires_at: UnixMs(5000),
            ..old.record()
        };
        assert_eq!(new.record(), expected);
        assert_eq!(new.renew_from(), None);
        assert!(new.document().unwrap().contains("1970-01-01T00:00:05"));
        assert!(!new.is_expired(UnixMs(5000)) && new.is_expired(UnixMs(5001)));
        assert_ne!(new.serial(), old.serial());
        assert_eq!(new.asked_at(), old.asked_at());
        old.share_owed().put(vec![HeaderValue::from_static("a=b")]);
        assert_eq!(new.take_owed().unwrap().len(), 1);
        assert!(old.take_owed().is_none() && new.take_owed().is_none());
    }

    #[test]
    fn a_revocation_of_its_user_token_digest_or_organization_ends_it_and_no_other() {
        let mut record = least("tok");
        record.organization_id = Some("org".into());
        let seal = Signer::new(&Secret::new("secret")).seal("tok");
        for (slot, ends) in [
            (Slot::of_user("ada"), true),
            (Slot::of_token(&seal), true),
            (Slot::of_digest(&TokenDigest::of("tok")), true),
            (Slot::of_organization("org"), true),
            (Slot::of_user("bob"), false),
            (Slot::of_organization("other"), false),
        ] {
            let entry = finding(record.clone()).pack();
            let revocations = Revocations::default();
            assert!(entry.stands(&revocations));
            revocations.revoke(slot);
            assert_eq!(!entry.stands(&revocations), ends);
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let entry = finding(least("hunter2")).pack();
        assert_eq!(entry.expose_token(), "hunter2");
        assert!(!format!("{entry:?}").contains("hunter2"));
    }

    fn optional(letters: &'static str) -> impl Strategy<Value = Option<Box<str>>> {
        proptest::option::of(letters.prop_map(Box::from))
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_as_it_went_in(
            ids in ("\\PC{0,40}", "\\PC{0,40}", "[a-z0-9]{0,1200}"),
            texts in (optional("\\PC{0,300}"), optional("\\PC{0,80}"), optional("[a-z,]{0,300}"), optional("[a-z]{0,20}")),
            more in (optional("[a-z]{0,20}"), optional("[a-z]{0,20}"), optional("[a-z]{0,20}"), optional("[a-z]{0,20}")),
            dates in (any::<i64>(), any::<Option<i64>>(), any::<Option<i64>>()),
            flags in any::<(bool, bool)>(),
        ) {
            let record = Record {
                session_id: ids.0.into(),
                token: Secret::new(ids.2),
                user_id: ids.1.into(),
                expires_at: UnixMs(dates.0),
                created_at: dates.1.map(UnixMs),
                updated_at: None,
                ban_expires: dates.2.map(UnixMs),
                email: texts.0,
                name: texts.1,
                role: texts.2,
                organization_id: texts.3,
                organization_role: more.0,
                team_id: more.1,
                impersonated_by: more.2,
                email_verified: flags.0,
                banned: flags.1,
                document: None,
            };
            let document = more.3;
            let entry = finding(Record { document: document.clone(), ..record.clone() }).pack();
            prop_assert_eq!(entry.document(), document.as_deref());
            prop_assert_eq!(entry.record(), record);
            for fact in entry.facts() {
                prop_assert_eq!(fact.is_plain, fact.letters.iter().copied().all(is_plain));
            }
        }
    }
}
