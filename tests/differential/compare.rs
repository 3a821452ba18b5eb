//! Asks a real Better Auth and a gateway on the same store the same questions, and compares what they say.
//!
//! Neither answer may change the next one. The gateway only reads. The framework is asked with `disableRefresh`, so that it
//! prolongs nothing; it does delete rows that have expired, which it is asked about last and which nobody lets in anyway.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vestibule::route::RouteSpec;
use vestibule::session::Freshness;
use vestibule::store;
use vestibule::time::UnixMs;

use super::case::{self, Case, Materials};
use super::dice::Dice;
use super::server::{Line, Server};
use crate::support::databases::{Folder, settings};
use crate::support::{self, Answer, Gateway, Setup};

/// Without `VESTIBULE_DIFFERENTIAL_SEED`.
const SEED: u64 = 20_261_121;

/// Where a gateway is stricter than the framework, and why that is right. What is let in is named by the label of what was done
/// to the request; a stricter answer to a request without any of these labels fails the test.
pub const STRICTER: &[(&str, &str)] = &[];

/// A real Better Auth and a gateway in front of it, both on the same store.
pub struct World {
    pub server: Server,
    pub gateway: Gateway,
    /// What the store's connections live on.
    _runtime: Runtime,
    _folder: Folder,
}

/// What a world is made of.
pub struct Plan {
    /// `options`, `plugins` and so on, as `oracle/server.mjs` takes them. The secret, the base URL and an SQLite file are added.
    pub server: Value,
    /// The gateway's settings, as they differ from those of the other tests.
    pub gateway: fn(&mut Setup),
}

impl World {
    pub fn start(plan: &Plan) -> Self {
        let folder = Folder::new("differential");
        let path = folder.join("app.db");
        let mut configuration = plan.server.clone();
        let options = &mut configuration["options"];
        if options.is_null() {
            *options = json!({});
        }
        options["baseURL"] = "http://app.test".into();
        if options["secret"].is_null() && options["secrets"].is_null() {
            options["secret"] = support::SECRET.into();
        }
        configuration["sqlite"] = path.display().to_string().into();
        let server = Server::start(&configuration);

        let runtime = Runtime::new().expect("a runtime");
        let opened = settings(&format!("sqlite:{}", path.display()));
        let source = runtime
            .block_on(store::open(&opened))
            .unwrap_or_else(|error| panic!("{error}"));
        let mut setup = Setup::in_front_of(server.address);
        (plan.gateway)(&mut setup);
        let gateway = setup.start_from(source);
        Self {
            server,
            gateway,
            _runtime: runtime,
            _folder: folder,
        }
    }
}

/// The present, to which the gateway's clock is set: the framework knows no other.
pub fn now() -> UnixMs {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    UnixMs(i64::try_from(elapsed.as_millis()).expect("before the year 292 million"))
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
        assert!(
            matches!(answer.status, 302 | 400 | 401 | 403 | 429 | 431),
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
fn servers_opinion(answer: &Answer) -> Opinion {
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (said["user"]["id"].as_str(), said["session"]["id"].as_str()) {
        (Some(user), Some(session)) if answer.status == 200 => Opinion::Somebody {
            user: user.into(),
            session: session.into(),
        },
        _ => Opinion::Nobody(answer.status),
    }
}

/// What happened, for the one line that is printed.
#[derive(Default)]
struct Tally {
    cases: usize,
    let_in: usize,
    labels: BTreeMap<&'static str, [usize; 2]>,
    stricter: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
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
pub fn compare(name: &str, world: &World, materials: &Materials, cases: u64) {
    let seed = given("VESTIBULE_DIFFERENTIAL_SEED").unwrap_or(SEED);
    let cases = given("VESTIBULE_DIFFERENTIAL_CASES").unwrap_or(cases);
    let mut dice = Dice::new(seed);
    let mut tally = Tally::default();
    let mut to_gateway = Line::to(world.gateway.address);
    let mut to_server = Line::to(world.server.address);
    for number in 0..cases {
        let case = case::make(materials, &mut dice);
        judge(world, &case, [&mut to_gateway, &mut to_server], &mut tally).unwrap_or_else(
            |wrong| {
                tally.wrong.push(format!(
                    "case {number}: {wrong}\n    {:?}\n    {}",
                    case.labels,
                    case.shown()
                ));
            },
        );
    }
    tally.finish(name, seed);
}

/// One case, at both kinds of freshness: where the framework is told to look at no cache, the gateway is asked for the store's word.
fn judge(
    world: &World,
    case: &Case,
    [to_gateway, to_server]: [&mut Line; 2],
    tally: &mut Tally,
) -> Result<(), String> {
    tally.cases += 1;
    let mut let_in = false;
    let mut outcome = Ok(());
    let levels = [
        (
            "/strict/x",
            "/api/auth/get-session?disableRefresh=true&disableCookieCache=true",
        ),
        ("/cached/x", "/api/auth/get-session?disableRefresh=true"),
    ];
    // The gateway first: it only reads.
    let ours = levels.map(|(page, _)| {
        world.gateway.clock.set(now());
        gateways_opinion(&to_gateway.exchange(&case.request(page)))
    });
    for ((page, question), ours) in levels.into_iter().zip(ours) {
        let theirs = servers_opinion(&to_server.exchange(&case.request(question)));
        // A JWT is no session: whom it names, the framework says elsewhere.
        let named = case.jwt.as_ref().and_then(|token| {
            let who = world.server.ask("verifyJwt", json!({ "token": token }));
            who.as_str().map(str::to_owned)
        });
        let_in |= theirs.is_somebody() || named.is_some();
        match (&ours, &theirs) {
            (ours, theirs) if ours == theirs => {}
            (Opinion::Nobody(_), Opinion::Nobody(_)) if named.is_none() => {}
            (Opinion::Somebody { user, .. }, _) if named.as_ref() == Some(user) => {}
            (Opinion::Nobody(status), _) => {
                match STRICTER.iter().find(|(label, _)| case.is(label)) {
                    Some((label, _)) => *tally.stricter.entry(label).or_default() += 1,
                    None => {
                        outcome = Err(format!(
                            "{page}: stricter without a reason: {status}, but Better Auth says {theirs:?} {named:?}"
                        ))
                    }
                }
            }
            (Opinion::Somebody { .. }, _) => {
                outcome = Err(format!(
                    "{page}: LOOSER: {ours:?}, but Better Auth says {theirs:?} {named:?}"
                ));
            }
        }
    }
    tally.let_in += usize::from(let_in);
    for label in &case.labels {
        let counts = tally.labels.entry(label).or_default();
        counts[0] += 1;
        counts[1] += usize::from(let_in);
    }
    outcome
}

impl Tally {
    fn finish(self, name: &str, seed: u64) {
        let share = 100 * self.let_in / self.cases.max(1);
        let mut text = format!(
            "differential {name}: seed {seed}, {} cases, {} let in by Better Auth ({share}%), {} kinds of change; stricter: {:?}\n",
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
        assert!(
            self.wrong.is_empty(),
            "{name}, seed {seed}: {} of {} cases disagree:\n{}",
            self.wrong.len(),
            self.cases,
            self.wrong[..self.wrong.len().min(20)].join("\n")
        );
        assert!(share >= 20, "{name}: only {share}% are let in at all");
    }
}

/// A route below which the store's word of a while ago is enough.
pub fn cached() -> RouteSpec {
    let mut rule = support::signed_in();
    rule.freshness = Freshness::Cached;
    support::route("/cached/:path*", rule)
}
