//! What Better Auth signs with.
//!
//! Source: better-auth 1.7, `secrets` and `secret`: only the current one verifies cookies and tokens; older ones open what was
//! encrypted under them.

use crate::secret::Secret;

/// The app's secrets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The one that signs: `better_auth.secret`, or the first of `better_auth.secrets`.
    pub current: Secret,
    /// Those before it, newest first. They never verify a signature.
    pub older: Vec<Secret>,
    /// `better_auth.secrets` with their numbers, the current one first. Empty where there is a single secret.
    pub versions: Vec<(u64, Secret)>,
    /// The single secret from before there was a list. Only beside one.
    pub legacy: Option<Secret>,
}

impl Settings {
    /// A single secret, as most apps have.
    pub fn single(current: Secret) -> Self {
        Self {
            current,
            older: Vec::new(),
            versions: Vec::new(),
            legacy: None,
        }
    }

    /// A list, the current one first, and the single secret from before it.
    pub fn listed(
        current: (u64, Secret),
        rest: Vec<(u64, Secret)>,
        legacy: Option<Secret>,
    ) -> Self {
        let mut older: Vec<Secret> = rest.iter().map(|(_, secret)| secret.clone()).collect();
        older.extend(
            legacy
                .iter()
                .filter(|legacy| **legacy != current.1 && !older.contains(legacy))
                .cloned()
                .collect::<Vec<_>>(),
        );
        Self {
            current: current.1.clone(),
            older,
            versions: std::iter::once(current).chain(rest).collect(),
            legacy,
        }
    }

    /// Every secret under which something may be encrypted, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.current).chain(&self.older)
    }
}
