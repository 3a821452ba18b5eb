//! Asks a real Better Auth and a gateway on the same store the same questions, and compares what they say.
//!
//! Neither answer may change the next one. The gateway only reads. The framework is asked with `disableRefresh`, so that it
//! prolongs nothing; it does delete rows that have expired, which it is asked about last and which nobody lets in anyway.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::{Value, json};

use super::case::{self, Case, Materials};
use super::dice::Dice;
use super::server::Line;
use super::world::World;
use crate::support::Answer;

/// Without `VESTIBULE_DIFFERENTIAL_SEED`.
const SEED: u64 = 20_261_121;

/// Where the gateway is stricter than the framework, and why that is right.
pub struct Stricter {
    /// What was done to the request. A stricter answer to a request to which none of these was done fails the test.
    label: &'static str,
    /// Only at this kind of freshness.
    at: Option<Level>,
    #[expect(dead_code, reason = "for people")]
    because: &'static str,
}

pub const STRICTER: &[Stricter] = &[
    Stricter {
        label: GOOD_JWT,
        at: Some(Level::Strict),
        because: "`strict` asks who somebody is now, and a JWT says who they were",
    },
    Stricter {
        label: BAD_JWT,
        at: None,
        because: "the framework knows no JWTs in requests and looks at the cookie; whoever presents one that does not count is refused \
                  here, unless `fall_through` says otherwise",
    },
    Stricter {
        label: "jwt: unused bits",
        at: None,
        because: "another spelling of the signature, which nobody issues",
    },
    Stricter {
        label: "cache: padded",
        at: Some(Level::Cached),
        because: "another spelling of the seal, which nobody issues",
    },
    Stricter {
        label: "forged: ends otherwise",
        at: Some(Level::Cached),
        because: "an end in a form the framework reads and never writes",
    },
    Stricter {
        label: "bearer: no-break spaces",
        at: None,
        because: "JavaScript takes them for blanks; nobody sends them, and outside ASCII a header means something else to every reader",
    },
];

/// What the framework itself thinks of the JWT of a request.
const GOOD_JWT: &str = "a JWT that counts";
const BAD_JWT: &str = "a JWT that does not count";

/// How fresh an answer must be: what the gateway's route says, and what the framework is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Strict,
    Cached,
}

impl Level {
    const fn page(self) -> &'static str {
        match self {
            Self::Strict => "/strict/x",
            Self::Cached => "/cached/x",
        }
    }

    /// `disableRefresh`: it must not prolong what we ask about.
    const fn question(self) -> &'static str {
        match self {
            Self::Strict => "/api/auth/get-session?disableRefresh=true&disableCookieCache=true",
            Self::Cached => "/api/auth/get-session?disableRefresh=true",
        }
    }
}

/// What a server says of a request: nobody, or somebody by user and session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    Nobody(u16),
    Somebody { user: String, session: String },
}

impl Opinion {
    fn is_somebody(&self) -> bool {
        matches!(self, Self::Somebody { .. })
    }
}

/// What the gateway makes of it, at a route below `/strict` or `/cached`.
pub fn gateways_opinion(answer: &Answer) -> Opinion {
    if answer.status != 200 {
        // 503: a token names a key nobody has heard of, and the set of keys may not be asked for again yet. Where the framework lets
        // somebody in, it is a difference like any other.
        assert!(
            matches!(answer.status, 400 | 401 | 403 | 429 | 431 | 503),
            "the gateway answered {}: {}",
            answer.status,
            answer.text()
        );
        return Opinion::Nobody(answer.status);
    }
    let said: Value = serde_json::from_slice(&answer.body).expect("the app's answer");
    let told = |name: &str| said["told"][name].as_str().unwrap_or_default().to_owned();
    let user = told("x-auth-user-id");
    assert!(!user.is_empty(), "let in without a name: {said}");
    Opinion::Somebody {
        user,
        session: told("x-auth-session-id"),
    }
}

/// What the framework makes of it, at `get-session`.
pub fn servers_opinion(answer: &Answer) -> Opinion {
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (said["user"]["id"].as_str(), said["session"]["id"].as_str()) {
        (Some(user), Some(session)) if answer.status == 200 => Opinion::Somebody {
            user: user.into(),
            session: session.into(),
        },
        _ => Opinion::Nobody(answer.status),
    }
}

/// What happened.
#[derive(Default)]
pub struct Report {
    name: String,
    seed: u64,
    cases: usize,
    let_in: usize,
    labels: BTreeMap<&'static str, [usize; 2]>,
    stricter: BTreeMap<&'static str, usize>,
    /// Cases in which the gateway let somebody in whom the framework does not know, or knows as somebody else.
    pub looser: Vec<String>,
    /// Cases in which it refused somebody without a reason.
    pub unexplained: Vec<String>,
}

/// A number from the environment.
fn given(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number")),
    )
}

/// Compares on `cases` requests, or as many as `VESTIBULE_DIFFERENTIAL_CASES` says.
pub fn compare(name: &str, world: &World, materials: &Materials, cases: u64) -> Report {
    let mut report = Report {
        name: name.into(),
        seed: given("VESTIBULE_DIFFERENTIAL_SEED").unwrap_or(SEED),
        ..Report::default()
    };
    let mut dice = Dice::new(report.seed);
    let mut to_gateway = Line::to(world.gateway.address);
    let mut to_server = Line::to(world.server.address);
    for _ in 0..given("VESTIBULE_DIFFERENTIAL_CASES").unwrap_or(cases) {
        let case = case::make(materials, &mut dice);
        report.take(world, &case, &mut to_gateway, &mut to_server);
    }
    report
}

impl Report {
    /// One case, at both kinds of freshness: where the framework is told to look at no cache, the gateway is asked for the store's word.
    fn take(&mut self, world: &World, case: &Case, to_gateway: &mut Line, to_server: &mut Line) {
        let number = self.cases;
        self.cases += 1;
        // The gateway first: it only reads. Its store's word last, or it would be remembered.
        let levels = [Level::Cached, Level::Strict];
        let ours = levels.map(|level| {
            let answer = to_gateway.exchange(&case.request(level.page()));
            match answer.status {
                // A token that is younger than the keys and names one that is not among them: whether it is a new one cannot be
                // told before they may be asked for again. One that counts must not be answered so, which is seen below.
                503 if case.jwt.is_some() => Opinion::Nobody(503),
                _ => gateways_opinion(&answer),
            }
        });
        let mut theirs = levels.map(|_| None);
        for (level, opinion) in levels.into_iter().zip(&mut theirs) {
            // Without a session cache both questions are one; one that the gateway does not read is none.
            if level == Level::Cached || case.has_cache && world.reads_caches() {
                let question = match world.reads_caches() {
                    true => level.question(),
                    false => Level::Strict.question(),
                };
                let mut asked = to_server.exchange(&case.request(question));
                // Some session caches make the framework stumble over itself, whoever sends them. What counts is what it says
                // of the same request without one.
                if asked.status == 500 && case.has_cache {
                    asked = to_server.exchange(&case.without_cache().request(question));
                }
                *opinion = Some(servers_opinion(&asked));
            }
        }
        // A JWT is no session: whom it names, the framework says elsewhere.
        let named = case.jwt.as_ref().and_then(|token| {
            let who = world.server.ask("verifyJwt", json!({ "token": token }));
            who.as_str().map(str::to_owned)
        });
        let [cached, strict] = theirs;
        let cached = cached.expect("it was asked");
        let strict = strict.unwrap_or_else(|| cached.clone());
        let known = strict.clone();
        let theirs = [cached, strict];

        let jwt = case.jwt.as_ref().map(|_| match &named {
            Some(_) => GOOD_JWT,
            None => BAD_JWT,
        });

        let let_in = named.is_some() || theirs.iter().any(Opinion::is_somebody);
        self.let_in += usize::from(let_in);
        for label in &case.labels {
            let counts = self.labels.entry(label).or_default();
            counts[0] += 1;
            counts[1] += usize::from(let_in);
        }
        for ((level, ours), theirs) in levels.into_iter().zip(ours).zip(theirs) {
            if level == Level::Strict && !world.has_database() {
                continue;
            }
            let told = || {
                format!(
                    "case {number} at {}: {ours:?}, and Better Auth says {theirs:?}, {named:?}\n    {:?}\n    {}",
                    level.page(),
                    case.labels,
                    case.shown()
                )
            };
            match (&ours, &theirs) {
                (ours, theirs) if ours == theirs => {}
                (Opinion::Nobody(_), Opinion::Nobody(_)) if named.is_none() => {}
                // The store's own word is never wrong, whatever a sealed cookie says.
                (Opinion::Somebody { .. }, _) if ours == known && world.has_database() => {}
                (Opinion::Nobody(_), _)
                    if level == Level::Cached
                        && !known.is_somebody()
                        && named.is_none()
                        && world.has_database() =>
                {
                    *self.stricter.entry("the store knows better").or_default() += 1;
                }
                (Opinion::Somebody { user, .. }, _) if named.as_ref() == Some(user) => {}
                // Then the framework is asked about what is left.
                (Opinion::Somebody { .. }, _)
                    if world.falls_through()
                        && servers_opinion(
                            &to_server.exchange(&case.only_cookies().request(level.question())),
                        ) == ours => {}
                (Opinion::Somebody { .. }, _) => self.looser.push(told()),
                (Opinion::Nobody(_), _) => {
                    let reason = STRICTER.iter().find(|reason| {
                        (case.is(reason.label) || jwt == Some(reason.label))
                            && reason.at.is_none_or(|at| at == level)
                    });
                    match reason {
                        Some(reason) => *self.stricter.entry(reason.label).or_default() += 1,
                        None => self.unexplained.push(told()),
                    }
                }
            }
        }
    }

    /// Prints the counts, and fails when anything is not as it must be.
    pub fn finish(self) {
        let share = 100 * self.let_in / self.cases.max(1);
        let mut text = format!(
            "differential {}: seed {}, {} cases, {} let in by Better Auth ({share}%), {} kinds of change; stricter: {:?}\n",
            self.name,
            self.seed,
            self.cases,
            self.let_in,
            self.labels.len(),
            self.stricter,
        );
        if std::env::var_os("VESTIBULE_DIFFERENTIAL_LABELS").is_some() {
            for (label, [all, let_in]) in &self.labels {
                text.push_str(&format!("  {label}: {all}, let in {let_in}\n"));
            }
        }
        // Past the test runner's capture: a run that compared nothing must be seen.
        let _ = std::io::stderr().write_all(text.as_bytes());
        for (what, cases) in [
            ("LOOSER", &self.looser),
            ("stricter without a reason", &self.unexplained),
        ] {
            assert!(
                cases.is_empty(),
                "{}, seed {}: {what} in {} of {} answers:\n{}",
                self.name,
                self.seed,
                cases.len(),
                2 * self.cases,
                cases[..cases.len().min(8)].join("\n")
            );
        }
        assert!(
            share >= 20,
            "{}: only {share}% are let in at all",
            self.name
        );
    }
}
