//! Sign-ins on their way to the app: the old hash is checked and replaced, the old system asked, a mail sent, and then the request goes
//! on unchanged, so that everything Better Auth checks itself it still checks.
//!
//! The request always goes on, also when it is clear that it fails: the app counts it, and its answer comes the same way for everybody.
//! What is sent in place of that answer is then the same for everybody too, at a moment that says nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, SET_COOKIE, USER_AGENT, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use super::audit::{self, Moved};
use super::limits::Ticket;
use super::pool::Admission;
use super::reset::{Mail, Resets};
use super::{After, Common, Course, Mechanism, Posted, seam};
use crate::migration::accounts::{Account, AccountsError, Identifier, NewUser, Replacement};
use crate::migration::attempt::{self, Endpoint, Typed};
use crate::migration::control::{Mechanism as Word, Reach, Window};
use crate::migration::failure::{self, Sorry};
use crate::migration::password::cost::Ceilings;
use crate::migration::password::keeping::{self, Lost, Randomness};
use crate::migration::password::{self, Stored, Unusable, native};
use crate::migration::provider::{Attempt, Checked, Profile};
use crate::migration::sign_in::{self, Old, Plan, Reaches, Rules, Whom};
use crate::migration::state::State;
use crate::migration::success::{Alarm, Success};
use crate::secret::Secret;
use crate::server::respond::Answer;
use crate::time::UnixMs;

/// Most sign-ins looked at in shadow mode at once; beyond it they are not, and pass all the same.
const SHADOWS_MAX: usize = 64;

/// Longest `User-Agent` told to an old system, in bytes.
const USER_AGENT_BYTES_MAX: usize = 512;

/// What of the app's answer to a failed sign-in stands in ours too: what browsers of other origins need to read it. None of it depends
/// on the account.
const KEPT_HEADERS: [HeaderName; 4] = [
    VARY,
    http::header::ACCESS_CONTROL_ALLOW_ORIGIN,
    http::header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    http::header::ACCESS_CONTROL_EXPOSE_HEADERS,
];

/// What the operator wants of sign-ins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Schemes that are looked for in `account.password` itself.
    pub in_account: Vec<String>,
    /// Whether failed sign-ins are all alike.
    pub uniform: bool,
    /// How long a failed one takes at least.
    pub hold: Duration,
    /// Whether users of an old system who are not known here are taken over.
    pub trickle: bool,
    /// Mails; none without a page the link leads to.
    pub reset: Option<super::reset::Settings>,
}

/// Sign-ins.
pub struct SignIn {
    engine: Arc<Engine>,
}

struct Engine {
    common: Arc<Common>,
    settings: Settings,
    resets: Option<Resets>,
    /// Old systems that can be asked, in the order of the file.
    providers: Vec<&'static str>,
    home: tokio::runtime::Handle,
    /// What the cookie of a session is called.
    session_cookie: String,
    shadows: Arc<tokio::sync::Semaphore>,
    success: Mutex<HashMap<Cohort, Success>>,
}

/// Whose sign-ins are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cohort {
    mechanism: &'static str,
    scheme: &'static str,
}

impl Cohort {
    const NATIVE: Self = Self::of("native");
    const JIT: Self = Self::of("jit");
    const RESET: Self = Self::of("reset");
    const BLOCKED: Self = Self::of("blocked");
    const NOBODY: Self = Self::of("none");

    const fn of(mechanism: &'static str) -> Self {
        Self {
            mechanism,
            scheme: "",
        }
    }

    /// The word of our own table: what stands in a database becomes no label.
    fn hash(scheme: &str) -> Self {
        Self {
            mechanism: "hash",
            scheme: password::find(scheme).map_or("unknown", |kind| kind.name),
        }
    }
}

/// What was found out before the request goes on.
struct Found {
    cohort: Cohort,
    end: End,
    /// Who it is, where it is anybody.
    who: Option<Who>,
}

/// Why an old hash is of no use. Not the same as a wrong password.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// What is remembered of an account.
#[derive(Clone)]
struct Who {
    user_id: String,
    email: String,
    state: Option<State>,
    provider: String,
    /// Nothing is kept of an old hash.
    bare: bool,
    /// What stands in `account.password` is none of the framework's: it stumbles over it.
    foreign: bool,
}

impl Who {
    fn of(account: &Account, in_account: &[String]) -> Self {
        let stored = account.password.as_ref();
        Self {
            foreign: stored.is_some_and(|found| sign_in::foreign(found, in_account).is_some()),
            user_id: account.user_id.clone(),
            email: account.email.clone(),
            state: sign_in::state(account),
            provider: account
                .sources
                .first()
                .map_or_else(String::new, |source| source.provider.clone()),
            bare: account.old.is_none(),
        }
    }
}

/// How it goes on.
enum End {
    /// The app decides. The word: what was done before.
    Goes(&'static str),
    /// The app says no, and so do we.
    Fails(Why),
    /// It must not get in: the app is shown another password.
    Shut(Why),
    /// It could not be found out.
    Unsure(Why),
}

/// Why somebody does not get in; for metrics, and for the answer where it may name the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// There is no such account.
    Unknown,
    /// The password is wrong.
    Wrong,
    /// Nothing can check it: a mail is due.
    Reset,
    /// Nothing can check it, and no mail helps.
    NoPassword,
    /// The old system is not asked for a while.
    Limited,
    /// The account must not get in.
    Blocked,
    /// The old system has somebody else under this name.
    Identity,
    /// The second factor cannot be checked.
    SecondFactor,
    /// An old system does not answer.
    Provider,
    /// Accounts cannot be read or written.
    Accounts,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Wrong => "wrong",
            Self::Reset => "reset",
            Self::NoPassword => "no_password",
            Self::Limited => "limited",
            Self::Blocked => "blocked",
            Self::Identity => "identity",
            Self::SecondFactor => "second_factor",
            Self::Provider => "provider_unavailable",
            Self::Accounts => "accounts_unavailable",
        }
    }

    /// What is said where the reason may be named. `None`: what the app says.
    const fn sorry(self) -> Option<Sorry> {
        match self {
            Self::Unknown | Self::Wrong => None,
            Self::Reset => Some(Sorry::Reset),
            Self::NoPassword => Some(Sorry::NoPassword),
            Self::Limited => Some(Sorry::Limited),
            Self::Blocked | Self::Identity => Some(Sorry::Blocked),
            Self::SecondFactor => Some(Sorry::SecondFactor),
            Self::Provider | Self::Accounts => Some(Sorry::Unavailable),
        }
    }
}

impl SignIn {
    /// The mechanism. `home`: the runtime on which connections live.
    pub fn new(
        common: Arc<Common>,
        settings: Settings,
        resets: Option<Resets>,
        home: tokio::runtime::Handle,
    ) -> Self {
        let providers = common
            .providers
            .iter()
            .filter(|provider| provider.check.is_some());
        let providers = providers.map(|provider| provider.name).collect();
        let session_cookie = common.cookies.cookie("session_token").name;
        Self {
            engine: Arc::new(Engine {
                common,
                settings,
                resets,
                providers,
                home,
                session_cookie,
                shadows: Arc::new(tokio::sync::Semaphore::new(SHADOWS_MAX)),
                success: Mutex::default(),
            }),
        }
    }
}

impl Mechanism for SignIn {
    fn concerns(&self, endpoint: &str) -> bool {
        Endpoint::of(endpoint).is_some()
    }

    /// Or padding would lead past the limits, and those who are blocked past that. Nobody's password is that long.
    fn insists(&self, _endpoint: &str) -> bool {
        let common = &self.engine.common;
        let control = &common.control;
        control.window(common.clock.now()) == Window::Open && !control.shadow
    }

    fn course<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Course> {
        Box::pin(self.engine.course(posted))
    }
}

/// An attempt as it is worked on: owned, because in shadow mode the request is gone by then.
struct Trial {
    typed: Typed,
    client: IpAddr,
    user_agent: String,
    reaches: Reaches,
    /// Nothing is changed.
    dry: bool,
}

impl Engine {
    async fn course(self: &Arc<Self>, posted: Posted<'_>) -> Course {
        let began = Instant::now();
        let now = self.common.clock.now();
        let Some(endpoint) = Endpoint::of(posted.endpoint) else {
            return Course::Pass;
        };
        if self.common.control.window(now) != Window::Open {
            return Course::Pass;
        }
        let content_type = text(posted.request.headers, &CONTENT_TYPE);
        let typed = attempt::read(endpoint, content_type, posted.body);
        let reaches = self.reaches(typed.as_ref().map_or("", Typed::account), now);
        if reaches.is_off() {
            return Course::Pass;
        }
        if seam::refused_by_origin(&self.common, &posted, endpoint, content_type) {
            return match typed {
                Some(typed) if !reaches.is_shadow() => {
                    self.unlisted(began, endpoint, &typed, &posted).await
                }
                _ => Course::Pass,
            };
        }
        let Some(typed) = typed else {
            // The app answers it itself. If that is a failure, it is one like all others.
            return match reaches.is_shadow() {
                true => Course::Pass,
                false => self.forward(began, endpoint, None, Found::of(Why::Unknown), &posted),
            };
        };
        let trial = Trial {
            client: posted.client,
            user_agent: user_agent(posted.request.headers),
            reaches,
            dry: reaches.is_shadow(),
            typed,
        };
        if trial.dry {
            self.shadow(trial);
            return Course::Pass;
        }
        let account = trial.typed.account().to_owned();
        let ticket = match seam::try_of(&self.common, &posted, &account).await {
            Ok(ticket) => ticket,
            Err(spent) => {
                self.common.metrics.migration_sign_in("none", "", "limited");
                return Course::Answer(spent.answer());
            }
        };
        // Before anybody is looked up: whoever is turned away learns nothing.
        let Ok(turn) = self.common.pool.admit() else {
            // Nothing was checked: it was no guess.
            ticket.unknown();
            self.common
                .metrics
                .migration_sign_in("none", "", "overloaded");
            return Course::Answer(answer_of(Sorry::Overloaded, endpoint, None, &[]));
        };
        let found = self.find_out(&trial, &turn).await;
        drop(turn);
        self.forward(began, endpoint, Some(ticket), found, &posted)
    }

    /// A sign-in from an origin that we were not told of. Nothing is hashed for it and no old system is asked: most likely the app
    /// refuses it. Should the app trust more than we know, whoever must not get in does not all the same.
    async fn unlisted(
        self: &Arc<Self>,
        began: Instant,
        endpoint: Endpoint,
        typed: &Typed,
        posted: &Posted<'_>,
    ) -> Course {
        let found = match self.common.accounts.find(&typed.identifier).await {
            Ok(None) => return Course::Pass,
            Ok(Some(account)) if sign_in::state(&account) == Some(State::Blocked) => {
                Found::new(Cohort::BLOCKED, End::Shut(Why::Blocked))
            }
            Ok(Some(account)) => match self.second_factor(&account, false).await {
                Ok(()) => return Course::Pass,
                Err(end) => Found::new(Cohort::NOBODY, end),
            },
            Err(error) => self.cannot(&error, Cohort::NOBODY, None),
        };
        self.forward(began, endpoint, None, found, posted)
    }

    fn reaches(&self, account: &str, now: UnixMs) -> Reaches {
        let reach = |mechanism| self.common.control.reach(mechanism, account, now);
        let reset = match self.resets {
            Some(_) => reach(Word::Reset),
            None => Reach::Off,
        };
        Reaches {
            hash: reach(Word::Hash),
            jit: match self.providers.is_empty() {
                true => Reach::Off,
                false => reach(Word::Jit),
            },
            reset,
        }
    }

    fn forward(
        self: &Arc<Self>,
        began: Instant,
        endpoint: Endpoint,
        ticket: Option<Ticket>,
        found: Found,
        posted: &Posted<'_>,
    ) -> Course {
        let body = match &found.end {
            End::Shut(_) => {
                let content_type = text(posted.request.headers, &CONTENT_TYPE);
                let letters = |many| self.letters(many);
                let made = attempt::with_password(endpoint, content_type, posted.body, letters);
                match made {
                    Some(body) => Some(Bytes::from(body)),
                    // Cannot be: it was read a moment ago. Were it to, nobody gets in.
                    None => {
                        return Course::Answer(answer_of(Sorry::Wrong, endpoint, None, &[]));
                    }
                }
            }
            End::Goes(_) | End::Fails(_) | End::Unsure(_) => None,
        };
        Course::Forward {
            body,
            after: Some(Box::new(Heard {
                engine: Arc::clone(self),
                began,
                endpoint,
                ticket,
                owed: Vec::new(),
                found,
                client: posted.client,
            })),
        }
    }

    /// Looks, and reports what would have been done.
    fn shadow(self: &Arc<Self>, trial: Trial) {
        let Ok(place) = Arc::clone(&self.shadows).try_acquire_owned() else {
            return;
        };
        let engine = Arc::clone(self);
        self.home.spawn(async move {
            if let Ok(turn) = engine.common.pool.admit() {
                let found = engine.find_out(&trial, &turn).await;
                let outcome = match found.end {
                    End::Goes(word) => word,
                    End::Fails(why) | End::Shut(why) | End::Unsure(why) => why.as_str(),
                };
                let Cohort { mechanism, scheme } = found.cohort;
                engine.common.metrics.migration_sign_in(
                    mechanism,
                    scheme,
                    &format!("shadow_{outcome}"),
                );
                tracing::info!(
                    target: "vestibule::audit",
                    user_id = found.who.as_ref().map_or("", |who| who.user_id.as_str()),
                    mechanism,
                    scheme,
                    outcome,
                    "shadow"
                );
            }
            drop(place);
        });
    }

    /// Finds out what can be found out, and does what is to be done before the app is asked.
    async fn find_out(&self, trial: &Trial, turn: &Admission) -> Found {
        let account = match self.common.accounts.find(&trial.typed.identifier).await {
            Ok(account) => account,
            Err(error) => return self.cannot(&error, Cohort::NOBODY, None),
        };
        let rules = Rules {
            reaches: trial.reaches,
            in_account: &self.settings.in_account,
            providers: &self.providers,
            trickle: self.settings.trickle,
        };
        let plan = sign_in::plan(account.as_ref(), &rules);
        let who = account
            .as_ref()
            .map(|account| Who::of(account, &self.settings.in_account));
        let mut found = self.carry_out(plan, account.as_ref(), trial, turn).await;
        found.who = found.who.or(who);
        if account.is_none() && matches!(found.end, End::Fails(_)) {
            found.cohort = Cohort::NOBODY;
        }
        found
    }

    async fn carry_out(
        &self,
        plan: Plan,
        account: Option<&Account>,
        trial: &Trial,
        turn: &Admission,
    ) -> Found {
        match plan {
            // Its own check costs the app what our decoy costs for all others.
            Plan::Native => {
                let end = match account.filter(|account| !trial.dry && loses_factor(account)) {
                    // Whatever they got their new password by, it was no second factor.
                    Some(account) => self.second_factor(account, false).await.err(),
                    None => None,
                };
                Found::new(Cohort::NATIVE, end.unwrap_or(End::Goes("native")))
            }
            Plan::Verify {
                old,
                unusable,
                mismatch,
            } => {
                let Some(account) = account else {
                    return Found::of(Why::Unknown);
                };
                let cohort = Cohort::hash(old.scheme());
                match self.fits(&old, account, trial, turn).await {
                    Some(Ok(true)) => {
                        let end = self.rehash(&old, account, trial, turn).await;
                        Found::new(cohort, end)
                    }
                    Some(Ok(false)) => match *mismatch {
                        Plan::Ask(whom) => {
                            let found = self.ask(&whom, Some(account), trial, turn).await;
                            match found.end {
                                End::Fails(_) => Found::new(cohort, End::Fails(Why::Wrong)),
                                _ => found,
                            }
                        }
                        _ => Found::new(cohort, End::Fails(Why::Wrong)),
                    },
                    Some(Err(unfit)) => {
                        tracing::warn!(
                            user_id = account.user_id,
                            scheme = cohort.scheme,
                            "an old hash cannot be used: {unfit}"
                        );
                        self.without_hash(*unusable, account, trial, turn).await
                    }
                    None => Found::new(cohort, End::Unsure(Why::Accounts)),
                }
            }
            Plan::Ask(whom) => {
                self.decoy(trial, turn).await;
                self.ask(&whom, account, trial, turn).await
            }
            Plan::Reset => {
                self.decoy(trial, turn).await;
                Found::new(Cohort::RESET, End::Fails(Why::Reset))
            }
            Plan::Blocked => {
                self.decoy(trial, turn).await;
                Found::new(Cohort::BLOCKED, End::Shut(Why::Blocked))
            }
            Plan::Fail => {
                self.decoy(trial, turn).await;
                Found::new(
                    Cohort::RESET,
                    End::Fails(match account {
                        Some(_) => Why::NoPassword,
                        None => Why::Unknown,
                    }),
                )
            }
        }
    }

    async fn without_hash(
        &self,
        plan: Plan,
        account: &Account,
        trial: &Trial,
        turn: &Admission,
    ) -> Found {
        // Not `carry_out` again: the plan of a hash that is of no use holds none.
        match plan {
            Plan::Ask(whom) => {
                self.decoy(trial, turn).await;
                self.ask(&whom, Some(account), trial, turn).await
            }
            Plan::Reset => {
                self.decoy(trial, turn).await;
                Found::new(Cohort::RESET, End::Fails(Why::Reset))
            }
            Plan::Native | Plan::Verify { .. } | Plan::Blocked | Plan::Fail => {
                self.decoy(trial, turn).await;
                Found::new(Cohort::RESET, End::Fails(Why::NoPassword))
            }
        }
    }

    /// Whether the password fits an old hash. `None`: nobody could check it.
    async fn fits(
        &self,
        old: &Old,
        account: &Account,
        trial: &Trial,
        turn: &Admission,
    ) -> Option<Result<bool, Unfit>> {
        let hash = match self.read(old, account) {
            Ok(hash) => hash,
            Err(unfit) => return Some(Err(unfit)),
        };
        let password = trial.typed.password.clone();
        let began = Instant::now();
        let fits = turn
            .run(hash.cost().bytes(), move || {
                password::fits(hash.as_ref(), password.expose().as_bytes())
            })
            .await;
        let label = Cohort::hash(old.scheme()).scheme;
        self.common.metrics.migration_hash(label, began.elapsed());
        fits.ok().map(Ok)
    }

    fn read(&self, old: &Old, account: &Account) -> Result<Box<dyn password::Hash>, Unfit> {
        let stored = match old {
            Old::InAccount { hash, .. } => Stored::plain(hash.clone()),
            Old::Kept(kept) => {
                let vault = &self.common.vault;
                keeping::open(vault, &account.user_id, &kept.scheme, &kept.sealed)?
            }
        };
        Ok(password::read(&stored, old.scheme(), &Ceilings::DEFAULT)?)
    }

    /// Work for nobody, so that an account that has no old hash takes as long as one that has.
    async fn decoy(&self, trial: &Trial, turn: &Admission) {
        let password = trial.typed.password.clone();
        let work = move || native::decoy(password.expose().as_bytes());
        // A decoy that breaks was one all the same.
        let _ = turn.run(native::COST.bytes(), work).await;
    }

    async fn hashed(&self, trial: &Trial, turn: &Admission) -> Option<Secret> {
        let (password, salt) = (trial.typed.password.clone(), self.common.random());
        let work = move || native::hash(password.expose().as_bytes(), salt);
        turn.run(native::COST.bytes(), work).await.ok()
    }

    /// The old hash fits: the native one takes its place.
    async fn rehash(&self, old: &Old, account: &Account, trial: &Trial, turn: &Admission) -> End {
        if trial.dry {
            return End::Goes("rehashed");
        }
        if let Err(end) = self.second_factor(account, false).await {
            return end;
        }
        let keep = match old {
            Old::Kept(_) => None,
            Old::InAccount { scheme, hash } => {
                let randomness = Randomness {
                    nonce: self.common.random(),
                    salt: self.common.random(),
                };
                let stored = Stored::plain(hash.clone());
                let vault = &self.common.vault;
                let kept = keeping::keep(vault, &account.user_id, scheme, &stored, randomness);
                // It was read a moment ago: it can be kept.
                kept.ok().map(|kept| (kept.scheme, kept.sealed))
            }
        };
        let step = Step {
            state: State::Rehashed,
            keep,
            mechanism: "hash",
            provider: "",
            scheme: Cohort::hash(old.scheme()).scheme,
        };
        self.replace(account, step, trial, turn).await
    }

    async fn replace(
        &self,
        account: &Account,
        step: Step<'_>,
        trial: &Trial,
        turn: &Admission,
    ) -> End {
        let Some(native) = self.hashed(trial, turn).await else {
            return End::Unsure(Why::Accounts);
        };
        let now = self.common.clock.now();
        let replacement = Replacement {
            user_id: account.user_id.clone(),
            seen: account.password.clone(),
            native,
            state: step.state,
            keep: step.keep,
            at: now,
        };
        match self.common.accounts.replace_password(&replacement).await {
            Ok(true) => {
                audit::moved(
                    &self.common.metrics,
                    &Moved {
                        user_id: &account.user_id,
                        provider: step.provider,
                        from: sign_in::state(account),
                        to: step.state,
                        mechanism: step.mechanism,
                        scheme: step.scheme,
                        reason: "",
                    },
                );
                End::Goes(match step.state {
                    State::Jit => "jit",
                    _ => "rehashed",
                })
            }
            // Somebody was first: the same user in another tab, or on another gateway. Whatever stands there now, the app judges it.
            Ok(false) => End::Goes("was_first"),
            Err(error) => self.cannot(&error, Cohort::NOBODY, None).end,
        }
    }

    /// Sees to it that a second factor of the old account is asked for before there is a session.
    async fn second_factor(&self, account: &Account, had: bool) -> Result<(), End> {
        let lost = match &account.factor {
            // Marked at an import, and nothing stands in for it yet: the app could not ask for its code.
            Some(factor) if factor.native.is_none() => true,
            // The app asks for it itself.
            _ if account.two_factor => false,
            Some(_) => true,
            None => had,
        };
        if !lost {
            return Ok(());
        }
        match seam::require_second_factor(&self.common, account).await {
            Ok(true) => Ok(()),
            // Nothing is written: with the app's two-factor plugin they get in the next time.
            Ok(false) => {
                tracing::warn!(
                    target: "vestibule::audit",
                    user_id = account.user_id,
                    advice = "add Better Auth's two-factor plugin to the app",
                    "a second factor of the old system cannot be asked for: no session"
                );
                Err(End::Shut(Why::SecondFactor))
            }
            Err(error) => Err(self.cannot(&error, Cohort::NOBODY, None).end),
        }
    }

    async fn block(&self, account: &Account, reason: &'static str) {
        let now = self.common.clock.now();
        let to = State::Blocked;
        match self
            .common
            .accounts
            .move_state(&account.user_id, to, now)
            .await
        {
            Ok(_) => audit::moved(
                &self.common.metrics,
                &Moved {
                    user_id: &account.user_id,
                    provider: "",
                    from: sign_in::state(account),
                    to,
                    mechanism: "jit",
                    scheme: "",
                    reason,
                },
            ),
            Err(error) => tell(&error),
        }
    }

    /// Asks old systems, until one does not say no.
    async fn ask(
        &self,
        whom: &[Whom],
        account: Option<&Account>,
        trial: &Trial,
        turn: &Admission,
    ) -> Found {
        let fails = |why| Found::new(Cohort::JIT, End::Fails(why));
        let mut last = Why::Wrong;
        for each in whom {
            let providers = &self.common.providers;
            let provider = providers.iter().find(|one| one.name == each.provider);
            let Some(check) = provider.and_then(|one| one.check.as_deref()) else {
                continue;
            };
            let attempt = presented(account, each, trial);
            let said = self
                .common
                .outbound
                .check(each.provider, check, &attempt)
                .await;
            match said {
                Checked::Right(profile) => {
                    return self.adopt(each, profile, false, account, trial, turn).await;
                }
                Checked::RightBut(profile, remark) => {
                    tracing::info!(
                        provider = each.provider,
                        user_id = account.map(|account| account.user_id.as_str()),
                        remark,
                        "the old system takes the password, with a remark"
                    );
                    return self.adopt(each, profile, false, account, trial, turn).await;
                }
                Checked::SecondFactor { profile, pending } => {
                    if let (Some(account), Some(pending)) = (account, &pending) {
                        let (vault, user_id) = (&self.common.vault, &account.user_id);
                        self.common
                            .pending
                            .keep(vault, user_id, each.provider, pending);
                    }
                    return self.adopt(each, profile, true, account, trial, turn).await;
                }
                Checked::Wrong => last = Why::Wrong,
                Checked::NoPassword => last = Why::NoPassword,
                Checked::Blocked(_) => last = Why::Blocked,
                Checked::Limited(_) => return fails(Why::Limited),
                Checked::Unavailable(_) => {
                    return Found::new(Cohort::JIT, End::Unsure(Why::Provider));
                }
            }
        }
        fails(last)
    }

    /// The old system takes the password: it becomes ours, if it is the same person.
    async fn adopt(
        &self,
        whom: &Whom,
        profile: Profile,
        second_factor: bool,
        account: Option<&Account>,
        trial: &Trial,
        turn: &Admission,
    ) -> Found {
        let done = |end| Found::new(Cohort::JIT, end);
        let had = second_factor || profile.second_factor;
        if profile.blocked {
            return done(End::Fails(Why::Blocked));
        }
        let Some(account) = account else {
            return self.welcome(whom, profile, had, trial, turn).await;
        };
        if trial.dry {
            let same = whom.id.as_ref().is_none_or(|id| *id == profile.id);
            return done(match same {
                true => End::Goes("jit"),
                false => End::Fails(Why::Identity),
            });
        }
        if let Err(end) = self.is_same(whom, &profile, account).await {
            return done(end);
        }
        if let Err(end) = self.second_factor(account, had).await {
            return done(end);
        }
        let step = Step {
            state: State::Jit,
            keep: None,
            mechanism: "jit",
            provider: whom.provider,
            scheme: "",
        };
        done(self.replace(account, step, trial, turn).await)
    }

    /// Whether whom the old system means is whom we mean.
    async fn is_same(&self, whom: &Whom, profile: &Profile, account: &Account) -> Result<(), End> {
        if let Some(id) = &whom.id {
            if *id == profile.id {
                return Ok(());
            }
            // The address belongs to somebody else there by now.
            self.block(account, "identity").await;
            return Err(End::Shut(Why::Identity));
        }
        // Mapped to nobody: the same person only if both sides have seen that the address is theirs.
        let same = account.email_verified
            && profile.email_verified
            && !profile.id.is_empty()
            && profile
                .email
                .as_ref()
                .is_some_and(|email| email.to_lowercase() == account.email.to_lowercase());
        if !same {
            return Err(End::Fails(Why::Identity));
        }
        let now = self.common.clock.now();
        match self
            .common
            .accounts
            .map(&account.user_id, whom.provider, &profile.id, now)
            .await
        {
            Ok(true) => Ok(()),
            Ok(false) => Err(End::Fails(Why::Identity)),
            Err(error) => Err(self.cannot(&error, Cohort::NOBODY, None).end),
        }
    }

    /// Somebody the old system knows and we do not.
    async fn welcome(
        &self,
        whom: &Whom,
        profile: Profile,
        had: bool,
        trial: &Trial,
        turn: &Admission,
    ) -> Found {
        let done = |end| Found::new(Cohort::JIT, end);
        let Some(user) = new_user(whom, &profile, &trial.typed.identifier, had) else {
            return done(End::Fails(Why::Identity));
        };
        if trial.dry {
            return done(End::Goes("jit"));
        }
        let now = self.common.clock.now();
        // Without the password at first: it comes when the second factor is seen to.
        match self.common.accounts.create(&user, now).await {
            Ok(user_id) => tracing::info!(
                target: "vestibule::audit",
                user_id,
                provider = whom.provider,
                mechanism = "jit",
                "created"
            ),
            // The same user in another tab may have been first; else the address is somebody else's.
            Err(AccountsError::Taken(_)) => {}
            Err(error) => return self.cannot(&error, Cohort::JIT, None),
        }
        let by = Identifier::Source(whom.provider.to_owned(), profile.id.clone());
        let account = match self.common.accounts.find(&by).await {
            Ok(Some(account)) => account,
            Ok(None) => return done(End::Fails(Why::Identity)),
            Err(error) => return self.cannot(&error, Cohort::JIT, None),
        };
        let who = Some(Who::of(&account, &self.settings.in_account));
        if account.password.is_some() {
            return Found {
                who,
                ..done(End::Goes("was_first"))
            };
        }
        let end = match self.second_factor(&account, had).await {
            Err(end) => end,
            Ok(()) => {
                let step = Step {
                    state: State::Jit,
                    keep: None,
                    mechanism: "jit",
                    provider: whom.provider,
                    scheme: "",
                };
                self.replace(&account, step, trial, turn).await
            }
        };
        Found { who, ..done(end) }
    }

    fn cannot(&self, error: &AccountsError, cohort: Cohort, who: Option<Who>) -> Found {
        tell(error);
        Found {
            cohort,
            end: End::Unsure(Why::Accounts),
            who,
        }
    }

    /// Letters nobody can guess.
    fn letters(&self, many: usize) -> String {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = Zeroizing::new(vec![0; many]);
        super::fill(&mut bytes);
        let letter = |byte: &u8| HEX.get(usize::from(byte & 15)).copied().unwrap_or(b'0');
        bytes.iter().map(|byte| char::from(letter(byte))).collect()
    }

    fn count(&self, cohort: &Cohort, succeeded: bool) {
        if *cohort == Cohort::NOBODY || *cohort == Cohort::BLOCKED {
            return;
        }
        let now = self.common.clock.now();
        let (alarm, (tried, fine)) = {
            let mut all = self.success.lock().unwrap_or_else(PoisonError::into_inner);
            let success = all.entry(cohort.clone()).or_default();
            (success.count(succeeded, now), success.totals(now))
        };
        let Cohort { mechanism, scheme } = cohort;
        self.common
            .metrics
            .migration_success(mechanism, scheme, tried, fine);
        match alarm {
            Alarm::Quiet => {}
            Alarm::Fell { tried, succeeded } => tracing::warn!(
                mechanism,
                scheme,
                tried,
                succeeded,
                advice = "one scheme near zero has a wrong parameter (a pepper, a signer key): `disable` the mechanism and look",
                "fewer than 95 % of the sign-ins of the last hour succeeded"
            ),
            Alarm::Recovered => tracing::info!(
                mechanism,
                scheme,
                "95 % and more of the sign-ins of the last hour succeeded again"
            ),
        }
    }
}

/// A password that becomes native.
struct Step<'s> {
    state: State,
    keep: Option<(String, Secret)>,
    mechanism: &'static str,
    provider: &'s str,
    scheme: &'s str,
}

impl Found {
    const fn new(cohort: Cohort, end: End) -> Self {
        Self {
            cohort,
            end,
            who: None,
        }
    }

    const fn of(why: Why) -> Self {
        Self::new(Cohort::NOBODY, End::Fails(why))
    }
}

/// Whether somebody who was not signed in here before would be, without the second factor that was marked at their import.
fn loses_factor(account: &Account) -> bool {
    let first = matches!(
        sign_in::state(account),
        Some(State::Imported | State::Pending | State::Reset | State::ResetSent)
    );
    let marked = account.factor.as_ref();
    first && !account.two_factor && marked.is_some_and(|factor| factor.native.is_none())
}

fn presented(account: Option<&Account>, whom: &Whom, trial: &Trial) -> Attempt {
    let typed = &trial.typed.identifier;
    let named = |found: Option<&String>| found.cloned();
    Attempt {
        email: match (account, typed) {
            (Some(account), _) => Some(account.email.clone()),
            (None, Identifier::Email(email)) => Some(email.clone()),
            (None, _) => None,
        },
        username: named(match typed {
            Identifier::Username(name) => Some(name),
            _ => None,
        }),
        phone: named(match typed {
            Identifier::Phone(number) => Some(number),
            _ => None,
        }),
        source_id: whom.id.clone(),
        password: trial.typed.password.clone(),
        client: trial.client,
        user_agent: trial.user_agent.clone(),
    }
}

/// A user as the old system describes them. `None`: it is not whom they say, or cannot be a user here.
fn new_user(
    whom: &Whom,
    profile: &Profile,
    typed: &Identifier,
    had_second_factor: bool,
) -> Option<NewUser> {
    let email = profile.email.as_ref()?.trim().to_lowercase();
    if email.is_empty() || profile.id.is_empty() {
        return None;
    }
    let fits = match typed {
        Identifier::Email(typed) => *typed == email,
        Identifier::Username(typed) => profile
            .username
            .as_ref()
            .is_some_and(|name| name.to_lowercase() == *typed),
        Identifier::Phone(typed) => profile
            .phone
            .as_ref()
            .is_some_and(|(number, verified)| *verified && number == typed),
        Identifier::UserId(_) | Identifier::Source(..) => false,
    };
    if !fits {
        return None;
    }
    let local = email.split('@').next().unwrap_or_default().to_owned();
    let candidates = [Some(profile.name.trim()), profile.username.as_deref()];
    let mut names = candidates.into_iter().flatten();
    let name = names
        .find(|name| !name.is_empty())
        .map_or(local, str::to_owned);
    Some(NewUser {
        id: Some(profile.id.clone()),
        email,
        email_verified: profile.email_verified,
        name,
        image: profile.image.clone(),
        username: profile.username.clone(),
        phone: profile.phone.clone(),
        created_at: profile.created_at,
        source: Some((whom.provider.to_owned(), profile.id.clone())),
        password: None,
        had_second_factor,
    })
}

fn tell(error: &AccountsError) {
    tracing::warn!(
        cause = error.as_str(),
        advice = error.advice(),
        "accounts cannot be read or written: {error}"
    );
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    let value = headers.get(name);
    value.and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn user_agent(headers: &HeaderMap) -> String {
    let whole = text(headers, &USER_AGENT);
    whole
        .get(..USER_AGENT_BYTES_MAX)
        .unwrap_or(whole)
        .chars()
        .take(USER_AGENT_BYTES_MAX)
        .collect()
}

/// An answer of ours, in the framework's own form. `kept`: headers of the app's answer that stand in it too.
fn answer_of(
    sorry: Sorry,
    endpoint: Endpoint,
    promise: Option<failure::Promise<'_>>,
    kept: &[(HeaderName, HeaderValue)],
) -> Answer {
    let said = failure::say(sorry, endpoint, promise);
    let status = StatusCode::from_u16(said.status).unwrap_or(StatusCode::UNAUTHORIZED);
    let mut answer = crate::server::respond::json(status, &said.body);
    // As the framework has it: nothing tells its answers and ours apart but what they say.
    answer.headers.retain(|(name, _)| *name != CACHE_CONTROL);
    if let Some(seconds) = said.retry_after {
        answer.push(RETRY_AFTER, &seconds.to_string());
    }
    answer.headers.extend(kept.iter().cloned());
    answer
}

/// Hears what the app makes of it.
struct Heard {
    engine: Arc<Engine>,
    began: Instant,
    endpoint: Endpoint,
    ticket: Option<Ticket>,
    found: Found,
    client: IpAddr,
    /// Cookies for the answer.
    owed: Vec<HeaderValue>,
}

impl Heard {
    /// What is said in place of the app's own answer to a failure.
    fn sorry(&self) -> Option<Sorry> {
        let unsure = matches!(self.found.end, End::Unsure(_));
        let why = match self.found.end {
            End::Goes(_) => Why::Wrong,
            End::Fails(why) | End::Shut(why) | End::Unsure(why) => why,
        };
        if !self.engine.settings.uniform {
            return why.sorry();
        }
        // While an old system does not answer, whoever needs it and whoever does not are told the same.
        let asks = !self.engine.providers.is_empty();
        let down = asks && self.engine.common.outbound.any_is_down();
        Some(match unsure || down {
            true => Sorry::Unavailable,
            false => Sorry::Wrong,
        })
    }

    /// Waits for the moment at which answers leave that must not tell accounts apart.
    async fn hold(&self) {
        let engine = &self.engine;
        if !engine.settings.uniform {
            return;
        }
        let (took, hold) = (self.began.elapsed(), engine.settings.hold);
        if took > hold {
            engine.common.metrics.migration_late();
        }
        sleep_until(self.began + failure::release(took, hold)).await;
    }

    fn mail(&self, sorry: Option<Sorry>) {
        let due = matches!(self.found.end, End::Fails(Why::Reset));
        let (Some(resets), Some(who), true) = (&self.engine.resets, &self.found.who, due) else {
            return;
        };
        if sorry == Some(Sorry::Unavailable) {
            return;
        }
        resets.send(Mail {
            user_id: who.user_id.clone(),
            email: who.email.clone(),
            from: who.state,
            provider: who.provider.clone(),
            client: self.client,
            not_before: self.began + self.engine.settings.hold,
        });
    }

    /// Somebody is signed in, if the app says so: a second factor may still be due.
    fn signed_in(&mut self, headers: &HeaderMap) {
        let name = self.engine.session_cookie.as_str();
        let mut lines = headers.get_all(SET_COOKIE).iter();
        let complete = lines.any(|line| {
            line.to_str()
                .ok()
                .and_then(|line| line.split_once('='))
                .is_some_and(|(found, rest)| found == name && !rest.starts_with(';'))
        });
        if complete && let Some(ticket) = self.ticket.take() {
            self.owed.extend(ticket.succeeded());
        }
    }

    /// The user got in with a password of their own: nothing is left to do.
    fn settle(&self) {
        let Some(who) = &self.found.who else { return };
        let waits = matches!(
            who.state,
            Some(State::Imported | State::Pending | State::Reset | State::ResetSent)
        );
        let native = matches!(self.found.end, End::Goes("native"));
        if !(waits && native && who.bare) {
            return;
        }
        let (engine, who) = (Arc::clone(&self.engine), who.clone());
        let home = self.engine.home.clone();
        home.spawn(async move {
            let now = engine.common.clock.now();
            let to = State::Done;
            match engine
                .common
                .accounts
                .move_state(&who.user_id, to, now)
                .await
            {
                Ok(true) => audit::moved(
                    &engine.common.metrics,
                    &Moved {
                        user_id: &who.user_id,
                        provider: &who.provider,
                        from: who.state,
                        to,
                        mechanism: "native",
                        scheme: "",
                        reason: "",
                    },
                ),
                Ok(false) => {}
                Err(error) => tell(&error),
            }
        });
    }
}

impl After for Heard {
    fn owes(&mut self) -> Vec<HeaderValue> {
        std::mem::take(&mut self.owed)
    }

    fn answered<'a>(
        &'a mut self,
        status: StatusCode,
        headers: &'a HeaderMap,
    ) -> BoxFuture<'a, Option<Answer>> {
        Box::pin(async move {
            let metrics = &self.engine.common.metrics;
            let Cohort { mechanism, scheme } = self.found.cohort;
            // A foreign hash in the app's own table makes the framework stumble instead of saying no.
            let foreign = status == StatusCode::INTERNAL_SERVER_ERROR
                && self.found.who.as_ref().is_some_and(|who| who.foreign)
                && !matches!(self.found.end, End::Goes(_));
            if status != StatusCode::UNAUTHORIZED && !foreign {
                let let_in = status.is_success() || status.is_redirection();
                // A right password that does not suffice: not verified, banned.
                let right = let_in || status == StatusCode::FORBIDDEN;
                if let (End::Goes(word), true) = (&self.found.end, right) {
                    metrics.migration_sign_in(mechanism, scheme, word);
                    self.engine.count(&self.found.cohort, true);
                    if let_in {
                        self.settle();
                        self.signed_in(headers);
                    }
                } else {
                    metrics.migration_sign_in(mechanism, scheme, "refused");
                }
                // None: nothing was looked at.
                let ticket = self.ticket.take()?;
                if let_in || status.is_server_error() {
                    // Another step must follow, or the app could not look.
                    ticket.unknown();
                    return None;
                }
                // The app refuses it for something else, and at once: a field, a captcha, its own limit. The guess was made all the
                // same, and how long we took for it tells who has what.
                ticket.failed();
                self.hold().await;
                return None;
            }
            let sorry = self.sorry();
            let outcome = match &self.found.end {
                End::Goes(_) => Why::Wrong.as_str(),
                End::Fails(why) | End::Shut(why) | End::Unsure(why) => why.as_str(),
            };
            metrics.migration_sign_in(mechanism, scheme, outcome);
            if sorry != Some(Sorry::Unavailable) {
                self.engine.count(&self.found.cohort, false);
                if let Some(ticket) = self.ticket.take() {
                    ticket.failed();
                }
            } else if let Some(ticket) = self.ticket.take() {
                ticket.unknown();
            }
            self.mail(sorry);
            let sorry = sorry?;
            self.hold().await;
            let control = &self.engine.common.control;
            let promise = self.engine.resets.is_some().then_some(failure::Promise {
                before: control.before.as_deref(),
            });
            let promise = promise.filter(|_| !control.disabled.contains(&Word::Reset));
            let kept: Vec<_> = KEPT_HEADERS
                .iter()
                .flat_map(|name| {
                    let values = headers.get_all(name).iter();
                    values.map(move |value| (name.clone(), value.clone()))
                })
                .collect();
            Some(answer_of(sorry, self.endpoint, promise, &kept))
        })
    }
}
