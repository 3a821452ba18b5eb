//! What of the migration holds for whom, and when: the window, cohorts, the kill switch of each mechanism, shadow mode.

use crate::time::UnixMs;

/// One thing the migration does. Each can be switched off by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// Old hashes are verified and replaced.
    Hash,
    /// The old system is asked for what we have no hash of.
    Jit,
    /// Reset mails are sent.
    Reset,
    /// Second factors of the old system are checked.
    SecondFactor,
    /// Sign-ups are frozen, adopted or mirrored.
    SignUp,
    /// Live sessions of the old system are taken over.
    Bridge,
}

impl Mechanism {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Hash,
        Self::Jit,
        Self::Reset,
        Self::SecondFactor,
        Self::SignUp,
        Self::Bridge,
    ];

    /// The word in the configuration, in metrics and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Jit => "jit",
            Self::Reset => "reset",
            Self::SecondFactor => "second_factor",
            Self::SignUp => "sign_up",
            Self::Bridge => "bridge",
        }
    }

    /// The one of this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }
}

/// How far a mechanism goes for one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Not at all.
    Off,
    /// It looks and reports, and changes nothing.
    Shadow,
    /// It acts.
    On,
}

/// What the operator says about it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// When the window opens; always open without it.
    pub opens: Option<UnixMs>,
    /// When it closes; never without it.
    pub closes: Option<UnixMs>,
    /// Before this day accounts were made in the old system; stands in messages, as the operator wrote it.
    pub before: Option<String>,
    /// Mechanisms that are switched off.
    pub disabled: Vec<Mechanism>,
    /// Nothing is changed; everything is looked at and reported.
    pub shadow: bool,
    /// Who takes part, in per cent of addresses; all without it.
    pub percent: Option<u8>,
    /// Addresses that take part whatever the per cent: `*@example.com`, `ann@example.com`. Lower-case.
    pub addresses: Vec<String>,
}

/// Where a moment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Not yet.
    Before,
    /// In it.
    Open,
    /// Over.
    After,
}

impl Settings {
    /// Where a moment lies.
    pub fn window(&self, now: UnixMs) -> Window {
        if self.opens.is_some_and(|opens| now < opens) {
            Window::Before
        } else if self.closes.is_some_and(|closes| now >= closes) {
            Window::After
        } else {
            Window::Open
        }
    }

    /// How far a mechanism goes for one account. `account`: the lower-case address, username or source id that names it.
    pub fn reach(&self, mechanism: Mechanism, account: &str, now: UnixMs) -> Reach {
        if self.window(now) != Window::Open || self.disabled.contains(&mechanism) {
            return Reach::Off;
        }
        if !self.takes_part(account) {
            return Reach::Off;
        }
        match self.shadow {
            true => Reach::Shadow,
            false => Reach::On,
        }
    }

    /// Whether an account is in the cohort. The same account always is or is not, on every replica, and stays in it when the per cent
    /// grow.
    pub fn takes_part(&self, account: &str) -> bool {
        let listed = self
            .addresses
            .iter()
            .any(|pattern| covers(pattern, account));
        listed
            || match self.percent {
                Some(percent) => bucket(account) < u32::from(percent) * 100,
                None => self.addresses.is_empty(),
            }
    }

    /// The word for the cohort of an account in metrics.
    pub fn cohort(&self, account: &str) -> &'static str {
        match self.takes_part(account) {
            true => "in",
            false => "out",
        }
    }
}

/// Ten thousand buckets, by the SHA-256 of the name: spread evenly, and the same everywhere.
fn bucket(account: &str) -> u32 {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(account.as_bytes());
    let head = digest
        .iter()
        .take(4)
        .fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte));
    head % 10_000
}

/// Whether a pattern, in which `*` stands for any letters, covers a text.
fn covers(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_open_from_its_first_moment_to_before_its_last() {
        let settings = Settings {
            opens: Some(UnixMs(10)),
            closes: Some(UnixMs(20)),
            ..Settings::default()
        };
        for (now, window) in [
            (9, Window::Before),
            (10, Window::Open),
            (19, Window::Open),
            (20, Window::After),
        ] {
            assert_eq!(settings.window(UnixMs(now)), window, "{now}");
            let reach = settings.reach(Mechanism::Hash, "a@b.c", UnixMs(now));
            assert_eq!(reach == Reach::On, window == Window::Open, "{now}");
        }
    }

    #[test]
    fn a_switch_stops_one_mechanism_and_shadow_stops_no_looking() {
        let settings = Settings {
            disabled: vec![Mechanism::Jit],
            shadow: true,
            ..Settings::default()
        };
        let now = UnixMs(0);
        assert_eq!(settings.reach(Mechanism::Jit, "a@b.c", now), Reach::Off);
        assert_eq!(settings.reach(Mechanism::Hash, "a@b.c", now), Reach::Shadow);
    }

    #[test]
    fn cohorts_grow_and_nobody_drops_out() {
        let at = |percent| Settings {
            percent: Some(percent),
            ..Settings::default()
        };
        let mut counts = Vec::new();
        for percent in [0, 10, 50, 100] {
            let inside =
                (0..2_000).filter(|n| at(percent).takes_part(&format!("u{n}@example.com")));
            counts.push(inside.count());
        }
        assert_eq!((counts[0], counts[3]), (0, 2_000));
        assert!((100..300).contains(&counts[1]), "{counts:?}");
        for n in 0..200 {
            let account = format!("u{n}@example.com");
            assert!(!at(10).takes_part(&account) || at(50).takes_part(&account));
        }
    }

    #[test]
    fn addresses_are_covered_by_patterns() {
        let listed = |pattern: &str| Settings {
            addresses: vec![pattern.into()],
            ..Settings::default()
        };
        for (pattern, account, fine) in [
            ("*@example.com", "ann@example.com", true),
            ("*@example.com", "ann@example.com.evil.org", false),
            ("ann@example.com", "ann@example.com", true),
            ("ann@example.com", "joann@example.com", false),
            ("qa-*@*.example.com", "qa-1@eu.example.com", true),
            ("qa-*@*.example.com", "qa-1@example.com", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(
                listed(pattern).takes_part(account),
                fine,
                "{pattern} {account}"
            );
        }
    }
}
