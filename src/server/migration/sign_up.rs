//! New accounts while the old system still has some of its own: sign-ups are frozen, adopted or mirrored, and no address the old system
//! knows gets a second account.
//!
//! What is told to the old system is told behind the app's answer, on the runtime of the stores. What does not arrive is written down
//! with the user's id and a word and nothing else, and tried again: the address and the hash are read anew from the account then.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{After, Common, Course, Mechanism, Posted};
use crate::migration::accounts::{Account, AccountsError, Deferred, Identifier, NewUser};
use crate::migration::control::{Mechanism as Word, Reach, Window};
use crate::migration::provider::{LookedUp, Mirror, Profile};
use crate::migration::sign_up::{self, Endpoint, Mode, Operation, Settings, Typed, Unreadable};
use crate::secret::Secret;
use crate::server::respond::{self, Answer};
use crate::session::limit;
use crate::session::resolve::{Resolution, Who};

/// How long a request for a mail takes at least: longer than a look-up usually does, so that its time tells nothing.
const HOLD: Duration = Duration::from_secs(1);

/// Look-ups that one client address may cause, a minute and at once. Each costs the old system one request.
const LOOK_UPS_PER_MINUTE: u32 = 60;
const LOOK_UPS_AT_ONCE: u32 = 20;

/// Changes on their way to the old system at once. Those beyond are written down and follow.
const UNDER_WAY_MAX: usize = 128;

/// How often it is looked whether something that did not arrive is due again, and how much of it is taken up at once.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const DUE_MAX: usize = 50;

/// How long the link lives that makes a new address, or a farewell, count: what it does passes by as a GET and is looked for later.
const LINK_LIVES: Duration = Duration::from_secs(65 * 60);

/// Seconds after which a client may ask again.
const AGAIN_SECONDS: &str = "5";

/// Most seconds a `Retry-After` names.
const FROZEN_SECONDS_MAX: u64 = 24 * 60 * 60;

/// The mechanism.
pub struct SignUp {
    shared: Arc<Shared>,
    look_ups: limit::Limiter,
}

struct Shared {
    settings: Settings,
    common: Arc<Common>,
    home: Handle,
    under_way: Arc<Semaphore>,
}

impl SignUp {
    /// Looks after sign-ups. What has to be told to the old system is told on `home`.
    pub fn new(settings: Settings, common: Arc<Common>, home: Handle) -> Self {
        let shared = Arc::new(Shared {
            settings,
            common,
            home,
            under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
        });
        if shared.settings.mode == Mode::DualWrite {
            shared.home.spawn(catch_up(Arc::downgrade(&shared)));
        }
        Self {
            shared,
            look_ups: limit::Limiter::new(LOOK_UPS_PER_MINUTE, LOOK_UPS_AT_ONCE),
        }
    }

    async fn judge(&self, endpoint: Endpoint, posted: &Posted<'_>) -> Course {
        let shared = &self.shared;
        let mode = shared.settings.mode;
        if mode == Mode::Freeze {
            return self.freeze(endpoint, posted);
        }
        let typed = match typed(endpoint, posted) {
            Ok(Some(typed)) => typed,
            // The framework refuses it itself.
            Ok(None) => return Course::Pass,
            Err(Unreadable) if matches!(endpoint, Endpoint::SignUp | Endpoint::Link) => {
                return Course::Answer(refused(
                    StatusCode::BAD_REQUEST,
                    "INVALID_REQUEST_BODY",
                    "Invalid request body",
                ));
            }
            Err(Unreadable) => return Course::Pass,
        };
        if matches!(
            endpoint,
            Endpoint::SignUp | Endpoint::Link | Endpoint::Forgot
        ) && let Some(answer) = self.guard(endpoint, &typed, posted.client).await
        {
            return Course::Answer(answer);
        }
        if mode != Mode::DualWrite {
            return Course::Pass;
        }
        match shared.mirroring(endpoint, typed, posted).await {
            Some(after) => Course::Forward {
                body: None,
                after: Some(Box::new(after)),
            },
            None => Course::Pass,
        }
    }

    fn freeze(&self, endpoint: Endpoint, posted: &Posted<'_>) -> Course {
        let common = &self.shared.common;
        let email = match typed(endpoint, posted) {
            Ok(Some(typed)) => typed.email.unwrap_or_default(),
            _ => String::new(),
        };
        let now = common.clock.now();
        let until = self.shared.settings.until.as_ref();
        if until.is_some_and(|(at, _)| now >= *at) {
            return Course::Pass;
        }
        match common.reach(Word::SignUp, &email) {
            Reach::Off => return Course::Pass,
            Reach::Shadow => {
                common.metrics.sign_up("would_freeze");
                return Course::Pass;
            }
            Reach::On => {}
        }
        common.metrics.sign_up("frozen");
        let message = match until {
            Some((_, day)) => format!("New accounts cannot be made until {day}."),
            None => "New accounts cannot be made at the moment.".to_owned(),
        };
        let mut body = serde_json::json!({ "code": "SIGN_UP_FROZEN", "message": message });
        if let (Some((_, day)), Some(fields)) = (until, body.as_object_mut()) {
            fields.insert("until".into(), day.as_str().into());
        }
        let mut answer = respond::json(StatusCode::SERVICE_UNAVAILABLE, &body);
        let wait = until.map_or(FROZEN_SECONDS_MAX, |(at, _)| {
            at.since(now).as_secs().clamp(1, FROZEN_SECONDS_MAX)
        });
        answer.push(RETRY_AFTER, &wait.to_string());
        Course::Answer(answer)
    }

    /// Sees to it that an address the old system knows does not become a second account. `None`: the framework may go on.
    async fn guard(&self, endpoint: Endpoint, typed: &Typed, client: IpAddr) -> Option<Answer> {
        let began = Instant::now();
        let answer = self.look(endpoint, typed, client).await;
        if endpoint == Endpoint::Forgot {
            // Whether an account was made, or nobody was asked at all.
            sleep_until(began + HOLD).await;
        }
        answer
    }

    async fn look(&self, endpoint: Endpoint, typed: &Typed, client: IpAddr) -> Option<Answer> {
        let shared = &self.shared;
        let common = &shared.common;
        let email = typed.email.as_deref()?;
        let reach = common.reach(Word::SignUp, email);
        if reach == Reach::Off || !shared.looks_up() {
            return None;
        }
        if let Err(wait) = self.look_ups.check(client, common.clock.now()) {
            common.metrics.sign_up("limited");
            let mut answer = refused(
                StatusCode::TOO_MANY_REQUESTS,
                "TOO_MANY_REQUESTS",
                "Too many requests. Please try again later.",
            );
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            answer.push(RETRY_AFTER, &seconds.to_string());
            return Some(answer);
        }
        // Asked whether or not there is an account here: otherwise the time would tell.
        let by = Identifier::Email(email.to_owned());
        let (known, found) = futures_util::join!(common.accounts.find(&by), shared.look_up(email));
        let known = match known {
            Ok(account) => account.is_some(),
            Err(error) => return shared.in_doubt(endpoint, &error),
        };
        let course = sign_up::course(endpoint, shared.settings.mode, known, &found);
        if reach == Reach::Shadow {
            common.metrics.sign_up(match course {
                sign_up::Course::Pass => "passed",
                sign_up::Course::Adopt(..) => "would_adopt",
                sign_up::Course::Refuse => "would_refuse",
                sign_up::Course::Unavailable => "would_wait",
            });
            return None;
        }
        match course {
            sign_up::Course::Pass => {
                common.metrics.sign_up("passed");
                None
            }
            sign_up::Course::Adopt(provider, profile) => {
                shared.adopt(endpoint, provider, profile, email).await
            }
            sign_up::Course::Refuse => {
                common.metrics.sign_up("refused");
                // As the framework says it of an address that somebody has.
                Some(refused(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL",
                    "User already exists. Use another email.",
                ))
            }
            sign_up::Course::Unavailable => {
                common.metrics.sign_up("unavailable");
                Some(unavailable())
            }
        }
    }
}

impl Mechanism for SignUp {
    fn concerns(&self, endpoint: &str) -> bool {
        let mode = self.shared.settings.mode;
        Endpoint::of(endpoint).is_some_and(|endpoint| endpoint.concerns(mode))
    }

    /// What may make an account: with padding, one could be made while none may, or at the address of somebody not yet imported.
    fn insists(&self, endpoint: &str) -> bool {
        let common = &self.shared.common;
        let control = &common.control;
        let makes = matches!(
            Endpoint::of(endpoint),
            Some(Endpoint::SignUp | Endpoint::Anonymous | Endpoint::Link)
        );
        let open = control.window(common.clock.now()) == Window::Open && !control.shadow;
        makes && open && !control.disabled.contains(&Word::SignUp)
    }

    fn course<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Course> {
        Box::pin(async move {
            match Endpoint::of(posted.endpoint) {
                Some(endpoint) => self.judge(endpoint, &posted).await,
                None => Course::Pass,
            }
        })
    }
}

impl Shared {
    fn looks_up(&self) -> bool {
        self.common
            .providers
            .iter()
            .any(|provider| provider.check.is_some())
    }

    /// What the old systems say of an address, in their order.
    async fn look_up(&self, email: &str) -> Vec<(&'static str, LookedUp)> {
        let outbound = &self.common.outbound;
        let asked = self.common.providers.iter().filter_map(|provider| {
            let check = provider.check.as_deref()?;
            Some(async move {
                let found = outbound.look_up(provider.name, check, email).await;
                (provider.name, found)
            })
        });
        join_all(asked).await
    }

    /// Makes somebody of the old system known here, without a password: signing in, or a mail, gives them one.
    async fn adopt(
        &self,
        endpoint: Endpoint,
        provider: &'static str,
        profile: Profile,
        email: &str,
    ) -> Option<Answer> {
        let common = &self.common;
        let now = common.clock.now();
        let by = Identifier::Source(provider.to_owned(), profile.id.clone());
        match common.accounts.find(&by).await {
            // They have another address here since: this one is free.
            Ok(Some(_)) => {
                common.metrics.sign_up("passed");
                return None;
            }
            Ok(None) => {}
            Err(error) => return self.in_doubt(endpoint, &error),
        }
        let source_id = profile.id.clone();
        let user = new_user(provider, profile, email);
        match common.accounts.create(&user, now).await {
            Ok(user_id) => {
                common.metrics.sign_up("adopted");
                tracing::info!(
                    target: "vestibule::audit",
                    user_id,
                    provider,
                    source_id,
                    mechanism = Word::SignUp.as_str(),
                    "adopted from the old system"
                );
                None
            }
            // Somebody else made it a moment ago.
            Err(AccountsError::Taken(_)) => {
                common.metrics.sign_up("passed");
                None
            }
            Err(error) => self.in_doubt(endpoint, &error),
        }
    }

    /// The accounts cannot be read: nothing is made that might be a second one, and whoever only wants a mail is not kept from it.
    fn in_doubt(&self, endpoint: Endpoint, error: &AccountsError) -> Option<Answer> {
        tracing::warn!(error = %error, advice = error.advice(), "an address cannot be looked up");
        self.common.metrics.sign_up("unavailable");
        (endpoint != Endpoint::Forgot).then(unavailable)
    }

    /// Who hears the app's answer to a change that is to be mirrored; none where nothing is.
    async fn mirroring(
        self: &Arc<Self>,
        endpoint: Endpoint,
        typed: Typed,
        posted: &Posted<'_>,
    ) -> Option<Heard> {
        let operation = endpoint.operation()?;
        let common = &self.common;
        let account = match endpoint {
            // Who that is stands in the answer.
            Endpoint::SignUp => None,
            Endpoint::ResetByToken => {
                let token = typed.token.as_ref()?;
                let identifier = Secret::new(format!("reset-password:{}", token.expose()));
                let now = common.clock.now();
                let found = common.accounts.verification(identifier.expose(), now).await;
                let user = found.ok().flatten()?;
                Some(self.account(&user_id_in(&user)?).await?)
            }
            Endpoint::ResetByCode => {
                let by = Identifier::Email(typed.email.clone()?);
                Some(common.accounts.find(&by).await.ok().flatten()?)
            }
            _ => match posted.gate.who(posted.request).await {
                Resolution::Verified(Who::Known(entry)) => {
                    Some(self.account(entry.user_id()).await?)
                }
                _ => return None,
            },
        };
        let name = account.as_ref().map(|account| account.email.as_str());
        let name = name.or(typed.email.as_deref())?;
        match common.reach(Word::SignUp, name) {
            Reach::Off => return None,
            Reach::Shadow => {
                common.metrics.mirrored(operation.as_str(), "would_mirror");
                return None;
            }
            Reach::On => {}
        }
        Some(Heard {
            shared: Arc::clone(self),
            done: false,
            job: Job {
                operation,
                user_id: account.as_ref().map(|account| account.user_id.clone()),
                password: typed.password,
                name: typed.name,
                sources: account.map(|account| sources(&account)).unwrap_or_default(),
            },
        })
    }

    async fn account(&self, user_id: &str) -> Option<Account> {
        let by = Identifier::UserId(user_id.to_owned());
        match self.common.accounts.find(&by).await {
            Ok(account) => account,
            Err(error) => {
                tracing::warn!(error = %error, "a change cannot be mirrored: the account cannot be read");
                None
            }
        }
    }

    /// Begins to tell the old system, behind the answer.
    fn begin(self: &Arc<Self>, job: Job) {
        let shared = Arc::clone(self);
        self.home.spawn(async move {
            let Some(user_id) = job.user_id.clone() else {
                return;
            };
            let arrived = match Arc::clone(&shared.under_way).try_acquire_owned() {
                Ok(_turn) => shared.tell(&job, &user_id).await,
                Err(_) => Err(()),
            };
            if arrived.is_err() && job.operation != Operation::Name {
                shared
                    .defer(&user_id, job.operation, Duration::from_secs(5))
                    .await;
            }
            // What counts only when a link in a mail is followed is looked for when that link is dead.
            if matches!(job.operation, Operation::Email) {
                shared.defer(&user_id, job.operation, LINK_LIVES).await;
            }
        });
    }

    async fn defer(&self, user_id: &str, operation: Operation, wait: Duration) {
        let due = self.common.clock.now().plus(wait);
        let word = operation.as_str();
        if let Err(error) = self.common.accounts.defer(user_id, word, due).await {
            self.common.metrics.mirrored(word, "lost");
            tracing::error!(
                user_id,
                operation = word,
                error = %error,
                "a change did not arrive in the old system and could not be written down: compare this user there"
            );
        }
    }

    /// Tells every old system of a change.
    async fn tell(&self, job: &Job, user_id: &str) -> Result<(), ()> {
        let common = &self.common;
        let by = Identifier::UserId(user_id.to_owned());
        let account = common.accounts.find(&by).await.map_err(|_| ())?;
        let account = match (account, job.operation) {
            (Some(_), Operation::Delete) => {
                // They have not left: the link was not followed yet.
                return Ok(());
            }
            (account, _) => account,
        };
        let mut arrived = Ok(());
        for provider in &common.providers {
            let Some(check) = provider.check.as_deref() else {
                continue;
            };
            let source = match &account {
                Some(account) => sources(account),
                None => job.sources.clone(),
            };
            let source = source.into_iter().find(|(name, _)| name == provider.name);
            let id = source.map(|(_, id)| id);
            let mut id = id;
            for what in mirrors(job, account.as_ref(), &mut id) {
                let is_new = matches!(what, Mirror::SignUp { .. });
                let what = match (what, &id) {
                    // The id is only known since a moment.
                    (Mirror::Hash { native, .. }, Some(id)) => Mirror::Hash {
                        id: id.clone(),
                        native,
                    },
                    (Mirror::Hash { .. }, None) => continue,
                    (what, _) => what,
                };
                let Some(done) = common.outbound.mirror(provider.name, check, &what).await else {
                    // It cannot take this: not now and not later.
                    common.metrics.mirrored(job.operation.as_str(), "unable");
                    continue;
                };
                match done {
                    Ok(given) => {
                        common.metrics.mirrored(job.operation.as_str(), "done");
                        if let (true, Some(given)) = (is_new, given) {
                            let now = common.clock.now();
                            let mapped = common
                                .accounts
                                .map(user_id, provider.name, &given, now)
                                .await;
                            if !matches!(mapped, Ok(true)) {
                                arrived = Err(());
                            }
                            id = Some(given);
                        }
                    }
                    Err(why) => {
                        common
                            .metrics
                            .mirrored(job.operation.as_str(), why.as_str());
                        arrived = Err(());
                        break;
                    }
                }
            }
        }
        arrived
    }

    /// Tries once more what is due. How much of it there was.
    async fn settle_due(&self) -> usize {
        let common = &self.common;
        let now = common.clock.now();
        let Ok(due) = common.accounts.due(now, DUE_MAX).await else {
            return 0;
        };
        let count = due.len();
        for deferred in due {
            self.settle(deferred).await;
        }
        count
    }

    async fn settle(&self, deferred: Deferred) {
        let common = &self.common;
        let Some(operation) = Operation::named(&deferred.operation) else {
            // A newer version's: it is not ours to judge.
            return;
        };
        let job = Job {
            operation,
            user_id: Some(deferred.user_id.clone()),
            password: None,
            name: None,
            sources: Vec::new(),
        };
        let again = match self.tell(&job, &deferred.user_id).await {
            Ok(()) => None,
            Err(()) => Some(sign_up::again(deferred.tries, common.clock.now())),
        };
        if again == Some(None) {
            common.metrics.mirrored(operation.as_str(), "given_up");
            tracing::error!(
                user_id = deferred.user_id,
                operation = operation.as_str(),
                "a change did not arrive in the old system, however often it was tried: somebody must look"
            );
        }
        if let Err(error) = common.accounts.settle(deferred.id, again).await {
            // It is due again then: doing it twice does no harm.
            tracing::warn!(error = %error, "a change that was mirrored cannot be settled");
        }
    }
}

/// Looks for what is due, as long as there is a gateway.
async fn catch_up(shared: Weak<Shared>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.settle_due().await;
    }
}

/// A change that is told to the old system. Lives in memory only.
struct Job {
    operation: Operation,
    user_id: Option<String>,
    /// Once, and then never again.
    password: Option<Secret>,
    name: Option<String>,
    /// Who they are there, for when the account is gone.
    sources: Vec<(String, String)>,
}

fn sources(account: &Account) -> Vec<(String, String)> {
    let sources = account.sources.iter();
    sources
        .map(|source| (source.provider.clone(), source.id.clone()))
        .collect()
}

/// What one old system is told. `id`: theirs there, as far as they have one.
fn mirrors(job: &Job, account: Option<&Account>, id: &mut Option<String>) -> Vec<Mirror> {
    let hash = |id: String| {
        let native = account?.password.clone()?;
        Some(Mirror::Hash { id, native })
    };
    match (job.operation, account, id.clone()) {
        (Operation::SignUp, Some(account), None) => {
            let mut all = vec![Mirror::SignUp {
                profile: Profile {
                    id: account.user_id.clone(),
                    email: Some(account.email.clone()),
                    email_verified: account.email_verified,
                    name: job.name.clone().unwrap_or_default(),
                    ..Profile::default()
                },
                password: job.password.clone(),
            }];
            if job.password.is_none() {
                all.extend(hash(String::new()));
            }
            all
        }
        // It had arrived, all but the password perhaps.
        (Operation::SignUp, Some(_), Some(id)) => hash(id).into_iter().collect(),
        (Operation::Email, Some(account), Some(id)) => vec![Mirror::Email {
            id,
            email: account.email.clone(),
            verified: account.email_verified,
        }],
        (Operation::Password, Some(_), Some(id)) => match &job.password {
            Some(password) => vec![Mirror::Password {
                id,
                password: password.clone(),
            }],
            None => hash(id).into_iter().collect(),
        },
        (Operation::Name, Some(_), Some(id)) => {
            let name = job.name.clone();
            name.map(|name| Mirror::Name { id, name })
                .into_iter()
                .collect()
        }
        (Operation::Delete, None, Some(id)) => vec![Mirror::Delete { id }],
        _ => Vec::new(),
    }
}

/// Hears whether the app did what was asked.
struct Heard {
    shared: Arc<Shared>,
    done: bool,
    job: Job,
}

impl After for Heard {
    fn answered<'a>(
        &'a mut self,
        status: StatusCode,
        _headers: &'a HeaderMap,
    ) -> BoxFuture<'a, Option<Answer>> {
        self.done = status.is_success();
        Box::pin(std::future::ready(None))
    }

    fn reads(&self) -> bool {
        self.done && self.job.operation == Operation::SignUp
    }

    fn finished(&mut self, body: &[u8]) {
        if !self.done {
            return;
        }
        if self.job.operation == Operation::SignUp {
            let body: Option<serde_json::Value> = serde_json::from_slice(body).ok();
            let id = body.as_ref().and_then(|body| body.pointer("/user/id"));
            // A made-up user of the framework's is found nowhere, and nothing is told then.
            self.job.user_id = id.and_then(|id| match id {
                serde_json::Value::String(id) => Some(id.clone()),
                serde_json::Value::Number(id) => Some(id.to_string()),
                _ => None,
            });
        }
        let empty = Job {
            operation: self.job.operation,
            user_id: None,
            password: None,
            name: None,
            sources: Vec::new(),
        };
        self.shared.begin(std::mem::replace(&mut self.job, empty));
    }
}

fn typed(endpoint: Endpoint, posted: &Posted<'_>) -> Result<Option<Typed>, Unreadable> {
    let kind = posted.request.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    sign_up::read(endpoint, kind, posted.request.target.query(), posted.body)
}

/// Whose a reset is: the framework writes the id as it is, newer versions inside JSON.
fn user_id_in(value: &Secret) -> Option<String> {
    match serde_json::from_str::<serde_json::Value>(value.expose()) {
        Ok(serde_json::Value::String(id)) => Some(id),
        Ok(serde_json::Value::Object(fields)) => {
            let id = fields.get("userId").or_else(|| fields.get("user_id"))?;
            id.as_str().map(str::to_owned)
        }
        _ => Some(value.expose().to_owned()),
    }
}

/// Somebody of the old system, as they are known here.
fn new_user(provider: &str, profile: Profile, email: &str) -> NewUser {
    let local_part = email.split('@').next().unwrap_or(email);
    let name = [
        profile.name.trim(),
        profile.username.as_deref().unwrap_or_default(),
        local_part,
    ]
    .into_iter()
    .find(|name| !name.is_empty())
    .unwrap_or(email)
    .to_owned();
    NewUser {
        id: Some(profile.id.clone()),
        email: email.to_owned(),
        // Only of the address that is the profile's own.
        email_verified: profile.email_verified && profile.email.as_deref() == Some(email),
        name,
        image: profile.image,
        username: profile.username,
        phone: profile.phone,
        created_at: profile.created_at,
        source: Some((provider.to_owned(), profile.id)),
        password: None,
        had_second_factor: profile.second_factor,
    }
}

/// As the framework says what it refuses.
fn refused(status: StatusCode, code: &str, message: &str) -> Answer {
    let body = serde_json::json!({ "message": message, "code": code });
    respond::json(status, &body)
}

fn unavailable() -> Answer {
    let mut answer = refused(
        StatusCode::SERVICE_UNAVAILABLE,
        "LEGACY_PROVIDER_UNAVAILABLE",
        "New accounts cannot be made right now. Please try again in a moment.",
    );
    answer.push(RETRY_AFTER, AGAIN_SECONDS);
    answer
}
