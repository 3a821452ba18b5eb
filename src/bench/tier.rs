//! The tiers: how far a validation has to go, each with what is presented and what must come of it.

use crate::session::resolve;

/// One tier that is measured in process, by `judge` alone.
#[derive(Debug)]
pub struct Tier {
    /// Its id, in budgets and reports.
    pub id: &'static str,
    /// What is measured.
    pub about: &'static str,
    /// What is presented.
    pub presents: Presents,
    /// Which of our routes is asked for.
    pub route: Asked,
    /// Whether every request is one that memory has not seen.
    pub first_sight: bool,
    /// What must come of it.
    pub expects: Expects,
}

/// What a request presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presents {
    /// The cookie of a session that lives.
    Live,
    /// A cookie with a good signature, of a session nobody knows.
    Unknown,
    /// A cookie with a bad signature.
    Forged,
    /// The cookie of a session that was ended since.
    Revoked,
    /// Nothing.
    Nothing,
    /// A session cookie and the app's cookie cache, sealed in this way.
    CookieCache(&'static str),
    /// A token signed by the JWT plugin.
    Token,
    /// An API key.
    ApiKey,
}

impl Presents {
    /// What an app must have for it: a line of configuration, where that is more than sessions.
    pub fn needs(self) -> Option<String> {
        match self {
            Self::CookieCache(strategy) => Some(format!(
                "better_auth.enable = [\"cookie_cache\"]\nbetter_auth.cookie_cache.strategy = \"{strategy}\"\n"
            )),
            Self::Token => Some("better_auth.enable = [\"jwt\"]\n".into()),
            Self::ApiKey => Some("better_auth.enable = [\"api_key\"]\n".into()),
            Self::Live | Self::Unknown | Self::Forged | Self::Revoked | Self::Nothing => None,
        }
    }
}

/// Which of our routes is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Identities from memory count.
    Cached,
    /// The signature counts.
    Optimistic,
}

impl Asked {
    /// Its path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Cached => "/vestibule-bench/cached/page",
            Self::Optimistic => "/vestibule-bench/optimistic/page",
        }
    }

    /// The source of its route.
    pub const fn source(self) -> &'static str {
        match self {
            Self::Cached => "/vestibule-bench/cached/:path*",
            Self::Optimistic => "/vestibule-bench/optimistic/:path*",
        }
    }
}

/// What must come of every request of a tier. Any other answer fails the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expects {
    /// Whether it is let through.
    pub allowed: bool,
    /// How far finding out must have gone.
    pub tier: resolve::Tier,
}

const fn allowed(tier: resolve::Tier) -> Expects {
    Expects {
        allowed: true,
        tier,
    }
}

const fn refused(tier: resolve::Tier) -> Expects {
    Expects {
        allowed: false,
        tier,
    }
}

/// Every tier measured in process, in the order of reports.
pub static TIERS: &[Tier] = &[
    Tier {
        id: "optimistic",
        about: "the signature alone",
        presents: Presents::Unknown,
        route: Asked::Optimistic,
        first_sight: false,
        expects: allowed(resolve::Tier::Signature),
    },
    Tier {
        id: "hit",
        about: "a session from memory",
        presents: Presents::Live,
        route: Asked::Cached,
        first_sight: false,
        expects: allowed(resolve::Tier::Memory),
    },
    Tier {
        id: "cookie_cache_compact",
        about: "cookie cache, first sight (compact)",
        presents: Presents::CookieCache("compact"),
        route: Asked::Cached,
        first_sight: true,
        expects: allowed(resolve::Tier::Cookie),
    },
    Tier {
        id: "cookie_cache_jwt",
        about: "cookie cache, first sight (jwt)",
        presents: Presents::CookieCache("jwt"),
        route: Asked::Cached,
        first_sight: true,
        expects: allowed(resolve::Tier::Cookie),
    },
    Tier {
        id: "cookie_cache_jwe",
        about: "cookie cache, first sight (jwe)",
        presents: Presents::CookieCache("jwe"),
        route: Asked::Cached,
        first_sight: true,
        expects: allowed(resolve::Tier::Cookie),
    },
    Tier {
        id: "jwt_first",
        about: "JWT, first sight (EdDSA)",
        presents: Presents::Token,
        route: Asked::Cached,
        first_sight: true,
        expects: allowed(resolve::Tier::Signature),
    },
    Tier {
        id: "jwt_seen",
        about: "JWT, seen before",
        presents: Presents::Token,
        route: Asked::Cached,
        first_sight: false,
        expects: allowed(resolve::Tier::Memory),
    },
    Tier {
        id: "api_key",
        about: "API key, seen before",
        presents: Presents::ApiKey,
        route: Asked::Cached,
        first_sight: false,
        expects: allowed(resolve::Tier::Memory),
    },
    Tier {
        id: "store_miss",
        about: "a session from the store",
        presents: Presents::Live,
        route: Asked::Cached,
        first_sight: true,
        expects: allowed(resolve::Tier::Store),
    },
    Tier {
        id: "negative",
        about: "unknown, from memory",
        presents: Presents::Unknown,
        route: Asked::Cached,
        first_sight: false,
        expects: refused(resolve::Tier::Negative),
    },
    Tier {
        id: "forged",
        about: "a bad signature",
        presents: Presents::Forged,
        route: Asked::Cached,
        first_sight: false,
        expects: refused(resolve::Tier::Forged),
    },
    Tier {
        id: "anonymous",
        about: "nothing presented",
        presents: Presents::Nothing,
        route: Asked::Cached,
        first_sight: false,
        expects: refused(resolve::Tier::None),
    },
    Tier {
        id: "revoked",
        about: "the first request after a sign-out",
        presents: Presents::Revoked,
        route: Asked::Cached,
        first_sight: true,
        expects: refused(resolve::Tier::Store),
    },
];

/// What is measured in other ways, with what it is.
pub static OTHERS: &[(&str, &str)] = &[
    ("stampede", "cold requests of one session at once"),
    ("direct", "the upstream alone, over the wire"),
    ("proxy", "through the gateway, over the wire"),
    ("proxy_fixed", "through the gateway at a fixed rate"),
    ("url", "the URL with a good session"),
    ("url_forged", "the URL with a forged cookie"),
    ("url_none", "the URL without a session"),
    ("against", "the app's own check"),
];

/// Measured beside ours, to compare with: no budget of all tiers holds for these.
pub const REFERENCES: [&str; 2] = ["direct", "against"];

/// What a tier is; `None`: there is no such tier.
pub fn about(id: &str) -> Option<&'static str> {
    let own = TIERS.iter().map(|tier| (tier.id, tier.about));
    let mut all = own.chain(OTHERS.iter().copied());
    all.find(|(known, _)| *known == id).map(|(_, about)| about)
}

/// Every id.
pub fn ids() -> impl Iterator<Item = &'static str> {
    let own = TIERS.iter().map(|tier| tier.id);
    own.chain(OTHERS.iter().map(|(id, _)| *id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tier_has_an_id_of_its_own_and_says_what_it_is() {
        let mut seen = std::collections::BTreeSet::new();
        for id in ids() {
            assert!(seen.insert(id), "{id} stands there twice");
            assert!(about(id).is_some_and(|about| !about.is_empty()));
        }
        for id in REFERENCES {
            assert!(seen.contains(id), "{id}");
        }
        assert_eq!(about("nonsense"), None);
    }

    #[test]
    fn every_refusal_has_a_twin_that_is_let_in_on_the_same_route() {
        for tier in TIERS.iter().filter(|tier| !tier.expects.allowed) {
            let twin = |other: &&Tier| other.expects.allowed && other.route == tier.route;
            assert!(TIERS.iter().any(|other| twin(&other)), "{}", tier.id);
        }
    }
}
