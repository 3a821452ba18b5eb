//! What becomes of each row, and the words for it in tables and reports.

use std::collections::BTreeMap;

use super::record::{Note, Oddity};

/// What became of a row. Every row has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Somebody new.
    Created,
    /// Went to a user who was here before, whose verified address is the same.
    Linked,
    /// Went to another row's user, on request: both addresses are verified.
    Merged,
    /// Was imported before, and something has changed there since.
    Updated,
    /// Was imported before.
    Unchanged,
    /// Set aside: another has the address.
    Parked,
    /// Not asked for: it has not changed since.
    Skipped,
    /// Not taken.
    Refused,
}

impl Outcome {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Linked,
        Self::Merged,
        Self::Updated,
        Self::Unchanged,
        Self::Parked,
        Self::Skipped,
        Self::Refused,
    ];

    /// The word in tables and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Linked => "linked",
            Self::Merged => "merged",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Parked => "parked",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
        }
    }

    /// The one of this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
    }
}

/// How many rows came to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    outcomes: BTreeMap<(String, String), u64>,
    reasons: BTreeMap<String, u64>,
}

impl Tally {
    /// One more.
    pub fn count(&mut self, kind: super::target::Kind, outcome: Outcome, reasons: &str) {
        let key = (kind.as_str().to_owned(), outcome.as_str().to_owned());
        *self.outcomes.entry(key).or_default() += 1;
        for reason in reasons.split(',').filter(|reason| !reason.is_empty()) {
            *self.reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }

    /// How many of a kind came to this.
    pub fn of(&self, kind: super::target::Kind, outcome: Outcome) -> u64 {
        let key = (kind.as_str().to_owned(), outcome.as_str().to_owned());
        self.outcomes.get(&key).copied().unwrap_or(0)
    }

    /// How many came to this.
    pub fn with(&self, outcome: Outcome) -> u64 {
        let all = self.outcomes.iter();
        let these = all.filter(|((_, word), _)| word == outcome.as_str());
        these.map(|(_, count)| count).sum()
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Kind, outcome, count.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        let all = self.outcomes.iter();
        all.map(|((kind, outcome), count)| (kind.as_str(), outcome.as_str(), *count))
    }

    /// Reason, count.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, u64)> {
        let all = self.reasons.iter();
        all.map(|(reason, count)| (reason.as_str(), *count))
    }

    /// As it is kept between two starts.
    pub fn written(&self) -> String {
        let outcomes: Vec<_> = self.rows().collect();
        serde_json::json!({ "outcomes": outcomes, "reasons": self.reasons }).to_string()
    }

    /// What was [`Self::written`].
    pub fn read(text: &str) -> Self {
        #[derive(serde::Deserialize)]
        struct Written {
            outcomes: Vec<(String, String, u64)>,
            reasons: BTreeMap<String, u64>,
        }
        let Ok(written) = serde_json::from_str::<Written>(text) else {
            return Self::default();
        };
        let outcomes = written.outcomes.into_iter();
        Self {
            outcomes: outcomes
                .map(|(kind, outcome, n)| ((kind, outcome), n))
                .collect(),
            reasons: written.reasons,
        }
    }
}

/// The word of an oddity in reports.
pub const fn word(oddity: Oddity) -> &'static str {
    match oddity {
        Oddity::WrongWidth => "wrong-width",
        Oddity::Unreadable => "unreadable",
        Oddity::NoId => "no-id",
        Oddity::RepeatedId => "repeated-id",
        Oddity::SlugTaken => "slug-taken",
        Oddity::Unfit => "does-not-fit",
        Oddity::NoEmail => "no-email",
        Oddity::InvalidEmail => "invalid-email",
        Oddity::DuplicateEmail => "duplicate-email",
        Oddity::OtherEmailVerified => "other-email-verified",
        Oddity::MoreEmails => "more-emails",
        Oddity::NameMadeUp => "name-made-up",
        Oddity::NameLikeNull => "name-like-null",
        Oddity::NameCut => "name-cut",
        Oddity::DuplicateUsername => "duplicate-username",
        Oddity::InvalidUsername => "invalid-username",
        Oddity::InvalidPhone => "invalid-phone",
        Oddity::DuplicatePhone => "duplicate-phone",
        Oddity::InvalidDate => "invalid-date",
        Oddity::InvalidHash => "invalid-hash",
        Oddity::ContradictoryScheme => "contradictory-scheme",
        Oddity::FactorWithoutKey => "factor-without-key",
        Oddity::DuplicateSocial => "duplicate-social",
        Oddity::SocialUnverified => "social-unverified",
        Oddity::SocialWithoutId => "social-without-id",
        Oddity::NoLoginMethod => "no-login-method",
        Oddity::MetadataTooLarge => "metadata-too-large",
        Oddity::MetadataLarge => "metadata-large",
        Oddity::HostileKeys => "hostile-keys",
        Oddity::Deleted => "deleted",
        Oddity::Anonymous => "anonymous",
        Oddity::SingleSignOn => "single-sign-on",
        Oddity::Locked => "locked",
        Oddity::Passkeys => "passkeys",
        Oddity::Dangling => "dangling",
        Oddity::UnknownRole => "unknown-role",
        Oddity::NoColumn => "no-column",
        Oddity::OnlyInOne => "only-in-one",
        Oddity::OddFlag => "odd-flag",
        Oddity::Over => "over",
    }
}

/// Notes as they are reported: words by commas, each once, and sentences.
pub fn told(notes: &[Note]) -> (String, String) {
    let mut words: Vec<&str> = Vec::new();
    for note in notes {
        let word = word(note.what);
        if !words.contains(&word) {
            words.push(word);
        }
    }
    let details: Vec<&str> = notes
        .iter()
        .map(|note| note.detail.as_str())
        .filter(|detail| !detail.is_empty())
        .collect();
    (words.join(","), details.join("; "))
}
