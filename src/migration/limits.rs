//! How often somebody may be wrong at a sign-in: each address, each account, each pair of both, and each device that has signed in before.
//!
//! An attempt takes one try of each budget before anything is checked, and gives it back when it was no guess: so only failures count,
//! and no more guesses are under way at any time than there are tries, however many connections somebody has. A budget is a bucket that
//! refills evenly: `most` at once, then one each `within / most`.
//!
//! A device that signed in to an account before carries a cookie that says so, and has a budget of its own there. It never takes from the
//! others: whoever spends the budget of an account, or of the address they share with its owner, locks out strangers and nobody else.
//! A cookie was chosen over remembering address and account together because it holds behind shared addresses (where the stranger next
//! door would pass for the owner), survives a restart, and needs no memory here. It names no account: only the gateway can tell whose it
//! is.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::credential::cookies;
use crate::secret::Secret;
use crate::session::BoxFuture;
use crate::time::UnixMs;

/// Most keys counted at once for each kind of budget, about 15 MiB each. Beyond it those tried longest ago begin anew; who wants an
/// account's count forgotten must fail at as many others first, which their address does not allow.
const KEYS_MAX: u64 = 100_000;

/// Most letters of an identifier that make a difference. The longest address a mail server takes has 254.
const IDENTIFIER_LETTERS_MAX: usize = 320;

/// Most accounts one browser is known for. Families share computers; a cookie that grows without end is refused by servers.
const ACCOUNTS_MAX: usize = 5;

/// Longest cookie that is looked at, in bytes: so many accounts, with room to spare.
const COOKIE_BYTES_MAX: usize = 600;

/// How long before its end a device's word is written anew: not at every sign-in, but long before it is over.
const RENEW_AFTER: Duration = Duration::from_secs(24 * 3600);

/// So many failures at once, then one each `within / most`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How many.
    pub most: u32,
    /// In how long.
    pub within: Duration,
}

impl Budget {
    /// Microseconds until one try is back.
    pub fn every_us(self) -> i64 {
        let within = i64::try_from(self.within.as_micros()).unwrap_or(i64::MAX);
        (within / i64::from(self.most.max(1))).max(1)
    }

    /// Microseconds a bucket may be ahead and still give a try.
    pub fn ahead_us(self) -> i64 {
        self.every_us()
            .saturating_mul(i64::from(self.most.max(1)) - 1)
    }
}

/// What the operator allows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of one address (IPv6: of one /64).
    pub address: Budget,
    /// Of one account, from wherever.
    pub account: Budget,
    /// Of one account, from one address.
    pub pair: Budget,
    /// Of one account, from one device that has signed in to it before.
    pub device: Budget,
    /// How long a device is known after its last sign-in.
    pub device_lifetime: Duration,
    /// A Redis in which gateways count together.
    pub redis: Option<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self {
            // A whole office behind one address, on the day on which everybody's password is asked for again.
            address: Budget {
                most: 60,
                within: minutes(15),
            },
            // Guesses from many addresses at one account: 720 a day, where a list of common passwords has a million.
            account: Budget {
                most: 30,
                within: minutes(60),
            },
            // Somebody who tries the passwords they used to have, and then one a minute.
            pair: Budget {
                most: 5,
                within: minutes(5),
            },
            // Nobody but the owner has it; a stolen computer still guesses no more than a thousand a day.
            device: Budget {
                most: 10,
                within: minutes(15),
            },
            // Longer than sessions live that are used now and then, so that whoever has one is known when it ends.
            device_lifetime: Duration::from_secs(90 * 24 * 3600),
            redis: None,
        }
    }
}

/// Which budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// An address.
    Address,
    /// An account.
    Account,
    /// An account from an address.
    Pair,
    /// An account from a device that is known there.
    Device,
}

impl Scope {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Address, Self::Account, Self::Pair, Self::Device];

    /// The word in metrics and lists.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Account => "account",
            Self::Pair => "pair",
            Self::Device => "device",
        }
    }

    /// The letter before its keys.
    const fn letter(self) -> &'static str {
        match self {
            Self::Address => "a",
            Self::Account => "u",
            Self::Pair => "p",
            Self::Device => "d",
        }
    }
}

/// What is counted under: `a:ADDRESS`, `u:ACCOUNT`, `p:ACCOUNT:ADDRESS`, `d:ACCOUNT:DEVICE`. An account stands there as a digest that only
/// this gateway can make.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of this text; none if it is no key.
    pub fn parse(text: &str) -> Option<Self> {
        let key = Self(text.into());
        key.scope().map(|_| key)
    }

    /// What it counts.
    pub fn scope(&self) -> Option<Scope> {
        let (letter, _) = self.0.split_once(':')?;
        Scope::ALL
            .into_iter()
            .find(|scope| scope.letter() == letter)
    }

    /// The account, where it is about one.
    pub fn account(&self) -> Option<&str> {
        let mut parts = self.0.splitn(3, ':');
        match self.scope()? {
            Scope::Address => None,
            Scope::Account | Scope::Pair | Scope::Device => parts.nth(1),
        }
    }

    /// The address, where it is about one.
    pub fn address(&self) -> Option<&str> {
        match self.scope()? {
            Scope::Address => self.0.split_once(':').map(|(_, address)| address),
            Scope::Pair => self.0.splitn(3, ':').nth(2),
            Scope::Account | Scope::Device => None,
        }
    }
}

/// An account, as it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountKey(Arc<str>);

impl AccountKey {
    /// As text: 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A device that has signed in before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    id: String,
    /// When it was last written down.
    pub since: UnixMs,
}

/// Makes keys and knows devices.
pub struct Keys {
    accounts: Zeroizing<[u8; 32]>,
    devices: Zeroizing<[u8; 32]>,
    lifetime: Duration,
}

impl Keys {
    /// Keys of their own, derived from that of the migration.
    pub fn new(key: &Secret, settings: &Settings) -> Self {
        let derived = |label: &[u8]| {
            let mut bytes = Zeroizing::new([0u8; 32]);
            // Cannot fail: 32 bytes are within what HKDF-SHA256 gives.
            let _ = Hkdf::<Sha256>::new(None, key.expose().as_bytes())
                .expand(label, bytes.as_mut_slice());
            bytes
        };
        Self {
            accounts: derived(b"vestibule migration limits accounts v1"),
            devices: derived(b"vestibule migration limits devices v1"),
            lifetime: settings.device_lifetime,
        }
    }

    /// Eight digits that tell one gateway's counts from another's in the same Redis.
    pub fn name(&self) -> String {
        let digest = mac(&self.accounts, &[b"name"]);
        hex(digest.get(..4).unwrap_or_default())
    }

    /// The account somebody names. Spellings that the framework takes for one are one, whether or not there is such an account.
    pub fn account(&self, identifier: &str) -> AccountKey {
        let plain: Zeroizing<String> = Zeroizing::new(
            identifier
                .trim()
                .chars()
                .take(IDENTIFIER_LETTERS_MAX)
                .nfkc()
                .flat_map(char::to_lowercase)
                .collect(),
        );
        let digest = mac(&self.accounts, &[b"account", plain.as_bytes()]);
        AccountKey(hex(digest.get(..16).unwrap_or_default()).into())
    }

    /// The key of an address.
    pub fn of_address(client: IpAddr) -> Key {
        Key(format!("a:{}", counted(client)).into())
    }

    /// The key of an account.
    pub fn of_account(account: &AccountKey) -> Key {
        Key(format!("u:{}", account.0).into())
    }

    /// The key of both together.
    pub fn of_pair(account: &AccountKey, client: IpAddr) -> Key {
        Key(format!("p:{}:{}", account.0, counted(client)).into())
    }

    /// The key of a known device.
    pub fn of_device(account: &AccountKey, device: &Device) -> Key {
        Key(format!("d:{}:{}", account.0, device.id).into())
    }

    /// The device a request comes from, if it signed in to this account before.
    pub fn device(
        &self,
        headers: &HeaderMap,
        cookie: &str,
        account: &AccountKey,
        now: UnixMs,
    ) -> Option<Device> {
        let words = cookies::find_raw(headers, cookie)?;
        let mut known = None;
        for word in self.words(words) {
            // All of them are looked at, whichever fits.
            let Some(device) = self.read(word, account) else {
                continue;
            };
            let age = now.since(device.since);
            if age <= self.lifetime && known.is_none() {
                known = Some(device);
            }
        }
        known
    }

    /// The value of the cookie by which this device is known for this account from now on, besides those it is known for. `None`: what
    /// it has will do.
    pub fn remember(
        &self,
        headers: &HeaderMap,
        cookie: &str,
        account: &AccountKey,
        now: UnixMs,
        random: [u8; 12],
    ) -> Option<String> {
        let known = self.device(headers, cookie, account, now);
        if known
            .as_ref()
            .is_some_and(|device| now.since(device.since) < RENEW_AFTER)
        {
            return None;
        }
        // The same device keeps its name, and with it its count.
        let id = known.map_or_else(|| URL_SAFE_NO_PAD.encode(random), |device| device.id);
        let since = now.0.max(0) / 1000;
        let mut words = vec![self.word(account, &id, since)];
        let sent = cookies::find_raw(headers, cookie).unwrap_or_default();
        let others = self
            .words(sent)
            .filter(|word| self.read(word, account).is_none());
        words.extend(others.take(ACCOUNTS_MAX - 1).map(str::to_owned));
        Some(words.join("~"))
    }

    fn words<'c>(&self, cookie: &'c [u8]) -> impl Iterator<Item = &'c str> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
        let fine = cookie.len() <= COOKIE_BYTES_MAX && cookie.iter().all(plain);
        let text = std::str::from_utf8(cookie).ok().filter(|_| fine);
        let words = text.into_iter().flat_map(|text| text.split('~'));
        words.filter(|word| !word.is_empty()).take(ACCOUNTS_MAX)
    }

    fn word(&self, account: &AccountKey, id: &str, since: i64) -> String {
        let since = since.to_string();
        let digest = mac(
            &self.devices,
            &[account.0.as_bytes(), id.as_bytes(), since.as_bytes()],
        );
        let proof = URL_SAFE_NO_PAD.encode(digest.get(..16).unwrap_or_default());
        format!("{id}.{since}.{proof}")
    }

    fn read(&self, word: &str, account: &AccountKey) -> Option<Device> {
        let mut parts = word.split('.');
        let (id, since, _) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let seconds: i64 = since.parse().ok()?;
        let due = self.word(account, id, seconds);
        bool::from(due.as_bytes().ct_eq(word.as_bytes())).then(|| Device {
            id: id.to_owned(),
            since: UnixMs(seconds.saturating_mul(1000)),
        })
    }
}

fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // Cannot fail: HMAC takes keys of any length. Were it to, no device would be known and all accounts would be one: closed.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    for part in parts {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// What counts as one address: a household has 2⁶⁴ of the long ones.
fn counted(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// One try that is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose.
    pub key: Key,
    /// Out of which budget.
    pub budget: Budget,
}

impl Settings {
    /// What one attempt takes: of a known device its own budget alone, of everybody else all others.
    pub fn wanted(
        &self,
        client: IpAddr,
        account: &AccountKey,
        device: Option<&Device>,
    ) -> Vec<Wanted> {
        let one = |key, budget| Wanted { key, budget };
        match device {
            Some(device) => vec![one(Keys::of_device(account, device), self.device)],
            None => vec![
                one(Keys::of_address(client), self.address),
                one(Keys::of_pair(account, client), self.pair),
                one(Keys::of_account(account), self.account),
            ],
        }
    }

    /// The budget behind a key.
    pub const fn budget(&self, scope: Scope) -> Budget {
        match scope {
            Scope::Address => self.address,
            Scope::Account => self.account,
            Scope::Pair => self.pair,
            Scope::Device => self.device,
        }
    }
}

/// What became of taking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// One of each is taken.
    All,
    /// Nothing is taken: there is none left here.
    Spent {
        /// Which budget.
        scope: Scope,
        /// Until there is one.
        wait: Duration,
    },
}

/// Somebody who is limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Who.
    pub key: Key,
    /// For how long.
    pub wait: Duration,
}

/// What several gateways share cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared counts cannot be reached: {0}")]
pub struct Down(pub String);

/// Counts that several gateways share.
pub trait Shared: Send + Sync {
    /// Takes one of each, or nothing at all, in one step.
    fn take<'a>(&'a self, wanted: &'a [Wanted]) -> BoxFuture<'a, Result<Taken, Down>>;

    /// Gives one of each back.
    fn give_back<'a>(&'a self, wanted: &'a [Wanted]) -> BoxFuture<'a, Result<(), Down>>;

    /// Begins anew. Says how many of them were counted.
    fn forget<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<u64, Down>>;

    /// Who is limited now, at most so many.
    fn limited<'a>(&'a self, most: usize) -> BoxFuture<'a, Result<Vec<Limited>, Down>>;
}

/// Counts of this gateway alone.
pub struct Local {
    /// By kind, then by key: when the bucket is full again, in microseconds since the epoch.
    full_at: [moka::sync::Cache<Key, Arc<AtomicI64>>; 4],
}

impl Default for Local {
    fn default() -> Self {
        // The newest is always counted: a policy that prefers the frequent would let a stranger at new accounts go uncounted.
        let cache = || {
            moka::sync::Cache::builder()
                .max_capacity(KEYS_MAX)
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .build()
        };
        Self {
            full_at: [cache(), cache(), cache(), cache()],
        }
    }
}

impl Local {
    /// Takes one of each, or nothing at all.
    pub fn take(&self, wanted: &[Wanted], now: UnixMs) -> Taken {
        let now = now.0.saturating_mul(1000);
        let mut taken: Vec<&Wanted> = Vec::with_capacity(wanted.len());
        for one in wanted {
            let Some(scope) = one.key.scope() else {
                continue;
            };
            let (every, ahead) = (one.budget.every_us(), one.budget.ahead_us());
            let bucket = self
                .cache(scope)
                .get_with_by_ref(&one.key, || Arc::new(AtomicI64::new(now)));
            let done = bucket.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |full_at| {
                let full_at = reckon(full_at, now, every, ahead);
                (full_at - now <= ahead).then_some(full_at + every)
            });
            if let Err(full_at) = done {
                let wait = reckon(full_at, now, every, ahead) - now - ahead;
                for one in taken {
                    self.give_one_back(one);
                }
                return Taken::Spent {
                    scope,
                    wait: Duration::from_micros(u64::try_from(wait).unwrap_or(0)),
                };
            }
            taken.push(one);
        }
        Taken::All
    }

    /// Gives one of each back.
    pub fn give_back(&self, wanted: &[Wanted]) {
        for one in wanted {
            self.give_one_back(one);
        }
    }

    fn give_one_back(&self, one: &Wanted) {
        let bucket = one
            .key
            .scope()
            .and_then(|scope| self.cache(scope).get(&one.key));
        if let Some(bucket) = bucket {
            bucket.fetch_sub(one.budget.every_us(), Ordering::SeqCst);
        }
    }

    /// Begins anew. Says how many of them were counted.
    pub fn forget(&self, keys: &[Key]) -> u64 {
        let known = keys.iter().filter(|key| {
            let cache = key.scope().map(|scope| self.cache(scope));
            cache.is_some_and(|cache| cache.remove(*key).is_some())
        });
        u64::try_from(known.count()).unwrap_or(u64::MAX)
    }

    /// Who is limited now, at most so many, the longest first.
    pub fn limited(&self, settings: &Settings, now: UnixMs, most: usize) -> Vec<Limited> {
        let now = now.0.saturating_mul(1000);
        let mut found = Vec::new();
        for scope in Scope::ALL {
            let budget = settings.budget(scope);
            let (every, ahead) = (budget.every_us(), budget.ahead_us());
            for (key, bucket) in self.cache(scope) {
                let full_at = reckon(bucket.load(Ordering::SeqCst), now, every, ahead);
                if let Ok(wait @ 1..) = u64::try_from(full_at - now - ahead) {
                    let (key, wait) = ((*key).clone(), Duration::from_micros(wait));
                    found.push(Limited { key, wait });
                }
            }
        }
        found.sort_by(|a, b| b.wait.cmp(&a.wait).then_with(|| a.key.cmp(&b.key)));
        found.truncate(most);
        found
    }

    fn cache(&self, scope: Scope) -> &moka::sync::Cache<Key, Arc<AtomicI64>> {
        let [address, account, pair, device] = &self.full_at;
        match scope {
            Scope::Address => address,
            Scope::Account => account,
            Scope::Pair => pair,
            Scope::Device => device,
        }
    }
}

/// When a bucket is full: not before now, and not later than a spent one is. Later, the clock was set back or the budget was changed;
/// it then counts as spent, and no longer than that.
fn reckon(full_at: i64, now: i64, every: i64, ahead: i64) -> i64 {
    let latest = now.saturating_add(ahead).saturating_add(every);
    full_at.clamp(now, latest.max(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_795_229_535_028);

    fn keys() -> Keys {
        Keys::new(&Secret::new("k".repeat(32)), &Settings::default())
    }

    fn client(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fails(local: &Local, wanted: &[Wanted], now: UnixMs) -> usize {
        (0..10_000)
            .take_while(|_| local.take(wanted, now) == Taken::All)
            .count()
    }

    #[test]
    fn failures_of_one_pair_are_few_and_come_back_one_by_one() {
        let (settings, local, keys) = (Settings::default(), Local::default(), keys());
        let account = keys.account("ann@example.com");
        let wanted = settings.wanted(client("192.0.2.1"), &account, None);
        assert_eq!(fails(&local, &wanted, NOW), 5);
        let later = NOW.plus(Duration::from_secs(59));
        assert_eq!(fails(&local, &wanted, later), 0);
        let later = NOW.plus(Duration::from_secs(60));
        assert_eq!(fails(&local, &wanted, later), 1);
        // Another address has tries of its own, another account too.
        let other = settings.wanted(client("192.0.2.2"), &account, None);
        assert_eq!(fails(&local, &other, later), 5);
        let other = keys.account("bob@example.com");
        let other = settings.wanted(client("192.0.2.1"), &other, None);
        assert_eq!(fails(&local, &other, later), 5);
    }

    #[test]
    fn what_was_no_guess_costs_nothing() {
        let (settings, local, keys) = (Settings::default(), Local::default(), keys());
        let account = keys.account("ann@example.com");
        let wanted = settings.wanted(client("192.0.2.1"), &account, None);
        for second in 0..1000 {
            let now = NOW.plus(Duration::from_millis(second * 150));
            assert_eq!(local.take(&wanted, now), Taken::All, "{second}");
            local.give_back(&wanted);
        }
        assert_eq!(
            fails(&local, &wanted, NOW.plus(Duration::from_secs(200))),
            5
        );
    }

    #[test]
    fn what_was_refused_took_nothing() {
        let (settings, local, keys) = (Settings::default(), Local::default(), keys());
        let account = keys.account("ann@example.com");
        let wanted = settings.wanted(client("192.0.2.1"), &account, None);
        fails(&local, &wanted, NOW);
        for _ in 0..1000 {
            assert!(matches!(
                local.take(&wanted, NOW),
                Taken::Spent { scope: Scope::Pair, wait } if wait == Duration::from_secs(60)
            ));
        }
        // The address still has all but the five.
        let address = [wanted[0].clone()];
        assert_eq!(fails(&local, &address, NOW), 55);
    }

    #[test]
    fn an_account_guessed_at_from_everywhere_is_closed_to_strangers_and_open_to_its_devices() {
        let (settings, local, keys) = (Settings::default(), Local::default(), keys());
        let account = keys.account("ann@example.com");
        let mut headers = HeaderMap::new();
        let cookie = keys.remember(&headers, "known", &account, NOW, [7; 12]);
        headers.insert(
            "cookie",
            format!("a=b; known={}", cookie.unwrap()).parse().unwrap(),
        );
        let guesses: usize = (0..50u8)
            .map(|n| {
                let from = client(&format!("198.51.100.{n}"));
                fails(&local, &settings.wanted(from, &account, None), NOW)
            })
            .sum();
        assert_eq!(guesses, 30);
        // Even from the address of the owner, and with all of its budget spent.
        let home = client("192.0.2.1");
        for n in 0..20 {
            let other = keys.account(&format!("u{n}@example.com"));
            fails(&local, &settings.wanted(home, &other, None), NOW);
        }
        let stranger = settings.wanted(home, &account, None);
        assert!(matches!(local.take(&stranger, NOW), Taken::Spent { .. }));
        let device = keys.device(&headers, "known", &account, NOW).unwrap();
        let known = settings.wanted(home, &account, Some(&device));
        assert_eq!(fails(&local, &known, NOW), 10);
        // The word of one account is nothing to another.
        let other = keys.account("bob@example.com");
        assert_eq!(keys.device(&headers, "known", &other, NOW), None);
    }

    #[test]
    fn a_device_is_known_for_a_while_and_for_several_accounts() {
        let keys = keys();
        let mut headers = HeaderMap::new();
        let accounts: Vec<_> = (0..7)
            .map(|n| keys.account(&format!("u{n}@example.com")))
            .collect();
        for (n, account) in (0u8..).zip(&accounts) {
            let value = keys.remember(&headers, "known", account, NOW, [n; 12]);
            let value = value.unwrap();
            assert!(value.len() <= COOKIE_BYTES_MAX);
            headers.insert("cookie", format!("known={value}").parse().unwrap());
        }
        let knows = |n: usize, now| keys.device(&headers, "known", &accounts[n], now).is_some();
        assert!((2..7).all(|n| knows(n, NOW)));
        assert!(!knows(0, NOW) && !knows(1, NOW));
        let day = Duration::from_secs(24 * 3600);
        assert!(knows(6, NOW.plus(day * 89)));
        assert!(!knows(6, NOW.plus(day * 91)));
        // Not written at every sign-in, and with the same name when it is.
        let again = |now| keys.remember(&headers, "known", &accounts[6], now, [9; 12]);
        assert_eq!(again(NOW.plus(day / 2)), None);
        let renewed = again(NOW.plus(day * 2)).unwrap();
        let id = URL_SAFE_NO_PAD.encode([6; 12]);
        assert!(renewed.starts_with(&format!("{id}.")));
        assert_eq!(renewed.split('~').count(), 5);
    }

    #[test]
    fn a_changed_word_counts_for_nothing() {
        let keys = keys();
        let account = keys.account("ann@example.com");
        let none = HeaderMap::new();
        let value = keys.remember(&none, "known", &account, NOW, [7; 12]);
        let value = value.unwrap();
        for at in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let mut headers = HeaderMap::new();
            let text = String::from_utf8(bytes).unwrap();
            headers.insert("cookie", format!("known={text}").parse().unwrap());
            assert_eq!(keys.device(&headers, "known", &account, NOW), None, "{at}");
        }
    }

    #[test]
    fn spellings_of_one_account_are_one_and_say_nothing() {
        let keys = keys();
        let account = keys.account("ann@example.com");
        assert_eq!(keys.account(" Ann@EXAMPLE.com"), account);
        assert_ne!(keys.account("anna@example.com"), account);
        assert_eq!(account.as_str().len(), 32);
        let other = Keys::new(&Secret::new("j".repeat(32)), &Settings::default());
        assert_ne!(other.account("ann@example.com"), account);
        for key in [
            Keys::of_account(&account),
            Keys::of_pair(&account, client("2001:db8:1:2:3::4")),
        ] {
            assert!(!key.as_str().contains("ann"));
            assert_eq!(key.account(), Some(account.as_str()));
            assert_eq!(Key::parse(key.as_str()), Some(key));
        }
        let one = Keys::of_address(client("2001:db8:1:2:3::4"));
        assert_eq!(one.as_str(), "a:2001:db8:1:2::/64");
        assert_eq!(one, Keys::of_address(client("2001:db8:1:2:ffff::1")));
        assert_eq!(
            Keys::of_address(client("::ffff:192.0.2.1")).address(),
            Some("192.0.2.1")
        );
    }

    #[test]
    fn whoever_is_limited_is_listed_until_it_is_over_or_lifted() {
        let (settings, local, keys) = (Settings::default(), Local::default(), keys());
        let account = keys.account("ann@example.com");
        let wanted = settings.wanted(client("192.0.2.1"), &account, None);
        local.take(&wanted, NOW);
        assert_eq!(local.limited(&settings, NOW, 10), []);
        fails(&local, &wanted, NOW);
        let pair = Keys::of_pair(&account, client("192.0.2.1"));
        let listed = local.limited(&settings, NOW, 10);
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].key, pair);
        assert_eq!(
            local.limited(&settings, NOW.plus(Duration::from_secs(61)), 10),
            []
        );
        assert_eq!(
            local.forget(&[pair.clone(), Keys::of_address(client("203.0.113.9"))]),
            1
        );
        assert_eq!(local.limited(&settings, NOW, 10), []);
        assert_eq!(local.take(&wanted, NOW), Taken::All);
    }

    #[test]
    fn many_at_once_get_no_more_than_there_are() {
        let (settings, local, keys) = (Settings::default(), Local::default(), keys());
        let account = keys.account("ann@example.com");
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8u8)
                .map(|n| {
                    let (settings, local, account) = (&settings, &local, &account);
                    scope.spawn(move || {
                        let from = client(&format!("198.51.100.{n}"));
                        fails(local, &settings.wanted(from, account, None), NOW)
                    })
                })
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(passed, 30);
    }
}
