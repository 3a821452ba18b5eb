//! The known ways around an auth gateway, as data: what is sent, and how an answer is judged. Nothing here opens a socket.
//!
//! Each family of checks is one file. A check builds its probes from what is known of the [`Site`], and each probe says what it
//! expects. `cli::selftest` sends them.

pub mod answer;
mod answers;
mod forwarded;
mod framing;
mod headers;
mod hop_by_hop;
pub mod judge;
mod next;
mod paths;
mod redirects;
mod sessions;
pub mod show;
pub mod site;
mod upgrades;

pub use judge::{Expect, Heard, Probe, Verdict};
pub use site::{Echo, Page, Site};

/// What a check cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A page for everybody.
    Public,
    /// A page that reports the headers the app saw.
    Echo,
    /// That page, open to everybody.
    OpenEcho,
    /// That page, and it reports the target too.
    EchoTarget,
    /// A live session.
    Session,
    /// A session that was signed out.
    Ended,
    /// Id of a Server Action.
    Action,
}

impl Need {
    /// Whether the site has it.
    pub fn is_met(self, site: &Site) -> bool {
        match self {
            Self::Public => site.public.is_some(),
            Self::Echo => site.echo.is_some(),
            Self::OpenEcho => site.echo.as_ref().is_some_and(|echo| echo.open),
            Self::EchoTarget => site.echo.as_ref().is_some_and(|echo| echo.shows_target),
            Self::Session => site.session.is_some(),
            Self::Ended => site.ended.is_some(),
            Self::Action => site.action.is_some(),
        }
    }

    /// The word in lists.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Echo => "echo",
            Self::OpenEcho => "open_echo",
            Self::EchoTarget => "echo_target",
            Self::Session => "session",
            Self::Ended => "ended_session",
            Self::Action => "action",
        }
    }

    /// What is missing, and how it is given.
    pub const fn to_text(self) -> &'static str {
        match self {
            Self::Public => "no public page is known: name one with `--public PATH`",
            Self::Echo => {
                "what the app sees is not known: name a page that reports it with `--echo PATH`"
            }
            Self::OpenEcho => {
                "what the app sees of anonymous requests is not known: name a public page that reports it with `--echo PATH`"
            }
            Self::EchoTarget => {
                "the target the app sees is not known: name a page that reports it with `--echo PATH`"
            }
            Self::Session => "it wants a live session: give one with `--cookie-file FILE`",
            Self::Ended => {
                "it wants a session that was signed out: give one with `--ended-cookie-file FILE`"
            }
            Self::Action => {
                "it wants a Server Action of a protected page: give its id with `--action ID`"
            }
        }
    }
}

/// One known way around a gateway.
pub struct Check {
    /// Its id in the catalogue.
    pub id: &'static str,
    /// The family it belongs to.
    pub family: &'static str,
    /// What must hold.
    pub name: &'static str,
    /// Why it matters, with the advisories.
    pub why: &'static str,
    /// What to do when it fails.
    pub fix: &'static str,
    /// What it cannot do without.
    pub needs: &'static [Need],
    /// What it sends.
    pub probes: fn(&Site) -> Vec<Probe>,
}

/// A known bypass that nobody can see from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Its id in the catalogue.
    pub id: &'static str,
    /// Why it is not checked.
    pub why: &'static str,
}

/// Every family, in the order of the report.
const FAMILIES: &[&[Check]] = &[
    headers::CHECKS,
    hop_by_hop::CHECKS,
    paths::CHECKS,
    next::CHECKS,
    forwarded::CHECKS,
    sessions::CHECKS,
    redirects::CHECKS,
    upgrades::CHECKS,
    framing::CHECKS,
    answers::CHECKS,
];

/// Every check.
pub fn catalogue() -> impl Iterator<Item = &'static Check> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// What is in the catalogue of bypasses and cannot be seen from outside.
pub const UNSEEN: &[Unseen] = &[
    Unseen {
        id: "T24",
        why: "whether two rules contradict each other shows in the configuration: `vestibule check`",
    },
    Unseen {
        id: "T32",
        why: "what a cached identity is keyed by shows only to whoever owns two rules of different strength",
    },
    Unseen {
        id: "T33",
        why: "colliding lookups need two accounts that were made for it",
    },
    Unseen {
        id: "T37",
        why: "it would create an API key in your app",
    },
    Unseen {
        id: "T38",
        why: "missing key material shows at the start: `vestibule check`",
    },
    Unseen {
        id: "T39",
        why: "what a forward-auth endpoint answers is seen by your proxy only",
    },
    Unseen {
        id: "T40",
        why: "differences in time need more requests than a shared stack should get",
    },
    Unseen {
        id: "T41",
        why: "it needs accounts with forged roles or domains",
    },
    Unseen {
        id: "T42",
        why: "what other services receive is seen by them only",
    },
    Unseen {
        id: "T43",
        why: "it needs an identity provider that answers without end",
    },
    Unseen {
        id: "T47",
        why: "it asks for a shared cache in the gateway: Vestibule has none",
    },
    Unseen {
        id: "T50",
        why: "invalid HTTP/2 headers: this client speaks HTTP/1.1 only",
    },
    Unseen {
        id: "T51",
        why: "a flood of HTTP/2 frames is an attack on your machine, not a check",
    },
];

/// What became of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every probe came back as expected.
    Passed,
    /// At least one did not.
    Failed,
    /// It was not made, or proves nothing, and why.
    NotChecked(String),
}

/// Whether a check can be made at this site.
///
/// # Errors
/// What is missing.
pub fn prepare(check: &Check, site: &Site) -> Result<Vec<Probe>, String> {
    if let Some(missing) = check.needs.iter().find(|need| !need.is_met(site)) {
        return Err(missing.to_text().into());
    }
    let probes = (check.probes)(site);
    if probes.is_empty() {
        return Err("nothing of the kind can be asked of this site".into());
    }
    Ok(probes)
}

/// What follows for the check from what became of its probes.
pub fn conclude<'v>(verdicts: impl IntoIterator<Item = &'v Verdict>) -> Outcome {
    let mut outcome = Outcome::Passed;
    let mut none = true;
    for verdict in verdicts {
        none = false;
        match verdict {
            Verdict::Failed(_) => return Outcome::Failed,
            Verdict::Unclear(why) => outcome = Outcome::NotChecked(why.clone()),
            Verdict::Passed => {}
        }
    }
    if none {
        return Outcome::NotChecked("nothing was sent".into());
    }
    outcome
}
