//! Second factors of the old system at Better Auth's own endpoints.
//!
//! A sign-in waits for a code (`two_factor` cookie). A right code of the old secret is replaced by the one Better Auth wants for the row
//! that stands in for it, and the request goes on as it came: its lockout, its session, its trusted device all stay its own. A wrong code
//! goes on unchanged, so that it counts there. Where the secret was not exported the old system is asked, if it can be; where it cannot,
//! nothing is made up: the app's own mail code is the way.
//!
//! The old secret counts until its owner has another: a code that the app took as it came, or an enrolment that was confirmed or switched
//! off, ends it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{
    ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_TYPE, COOKIE, LOCATION, ORIGIN, REFERER, RETRY_AFTER,
    SET_COOKIE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::redirect::Policy;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::{After, Common, Course, Mechanism, Posted, fill};
use crate::credential::cookies;
use crate::credential::signature::Signed;
use crate::migration::accounts::{Account, AccountsError, Identifier, OldFactor};
use crate::migration::control::{Mechanism as Word, Reach};
use crate::migration::provider::FactorChecked;
use crate::migration::second_factor::{BackupCodes, StandIn, Totp, native_code};
use crate::migration::vault::{Purpose, Vault};
use crate::secret::Secret;
use crate::server::respond::{Answer, PRIVATE};
use crate::session::resolve::{Resolution, Who};
use crate::time::UnixMs;

const TOTP: &str = "/two-factor/verify-totp";
const BACKUP: &str = "/two-factor/verify-backup-code";
const ENABLE: &str = "/two-factor/enable";
const DISABLE: &str = "/two-factor/disable";

/// Says that the factor of the old system was used, and a new one can be enrolled.
const OFFER: HeaderName = HeaderName::from_static("x-vestibule-second-factor");

/// What stands in it.
const RE_ENROL: HeaderValue = HeaderValue::from_static("re-enrol");

/// Longest code that is looked at, in bytes: backup codes of old systems have a few dozen letters.
const CODE_BYTES_MAX: usize = 128;

/// What the framework puts before the identifier of a sign-in that waits.
const CHALLENGE_PREFIX: &str = "2fa-";

/// How long what the old system wants back with a code is kept: a sign-in waits no longer.
const PENDING_FOR: Duration = Duration::from_secs(600);

/// Sign-ins that wait for a code of the old system at most, about 2 KiB each.
const PENDING_MAX: u64 = 10_000;

/// How long a code that the old system took is not taken again. Its own window is a few steps.
const USED_FOR: Duration = Duration::from_secs(300);

/// Codes remembered as used at most.
const USED_MAX: u64 = 100_000;

/// Longest wait for the app's answer where the gateway asks it itself.
const APP_WAIT: Duration = Duration::from_secs(10);

/// Longest answer of the app that is passed on then, in bytes.
const APP_BYTES_MAX: usize = 256 * 1024;

/// Headers of the client that the app sees when the gateway asks it in the client's place.
const PASSED_ON: [HeaderName; 8] = [
    COOKIE,
    ORIGIN,
    REFERER,
    USER_AGENT,
    ACCEPT_LANGUAGE,
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("sec-fetch-mode"),
    HeaderName::from_static("sec-fetch-dest"),
];

/// How the app's two-factor plugin is configured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// `totpOptions.digits` and `totpOptions.period`.
    pub totp: Totp,
    /// `backupCodeOptions.storeBackupCodes`.
    pub backup_codes: BackupCodes,
}

/// What old systems want back with a code, sealed, in memory, for as long as a sign-in waits.
pub struct Pending {
    kept: moka::sync::Cache<(String, &'static str), Secret>,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            kept: moka::sync::Cache::builder()
                .max_capacity(PENDING_MAX)
                .time_to_live(PENDING_FOR)
                .build(),
        }
    }
}

impl Pending {
    /// Keeps what an old system gave with a right password: it wants it back with the code.
    pub fn keep(&self, vault: &Vault, user_id: &str, provider: &'static str, pending: &Secret) {
        let mut nonce = [0; 24];
        fill(&mut nonce);
        let text = pending.expose().as_bytes();
        let sealed = vault.seal(Purpose::Pending, user_id, text, nonce);
        self.kept.insert((user_id.to_owned(), provider), sealed);
    }

    fn get(&self, vault: &Vault, user_id: &str, provider: &'static str) -> Option<Secret> {
        let sealed = self.kept.get(&(user_id.to_owned(), provider))?;
        let opened = vault.open(Purpose::Pending, user_id, &sealed).ok()?;
        let text = std::str::from_utf8(&opened).ok()?;
        Some(Secret::new(text))
    }

    fn drop_all(&self, user_id: &str, providers: impl Iterator<Item = &'static str>) {
        for provider in providers {
            self.kept.invalidate(&(user_id.to_owned(), provider));
        }
    }
}

/// Sees to it that an account with a second factor of the old system is asked for it: makes the row that stands in for it. `false`: the
/// app has no two-factor plugin, and nobody may get in this way.
///
/// # Errors
/// When it could not be written. Nobody may get in then either.
pub async fn require(common: &Common, account: &Account) -> Result<bool, AccountsError> {
    let factor = account.factor.clone().unwrap_or(OldFactor {
        sealed: None,
        digits: 6,
        period: 30,
        algorithm: "SHA1".to_owned(),
        last_step: None,
        native: None,
    });
    let storage = common.second_factor.backup_codes;
    let made = StandIn::new(&common.secrets, storage, &fill)
        .map_err(|_| AccountsError::Schema("no stand-in can be sealed".to_owned()))?;
    let factor = OldFactor {
        native: Some(made.secret),
        ..factor
    };
    let now = common.clock.now();
    let kept = common
        .accounts
        .keep_factor(&account.user_id, &factor, &made.backup_codes, now);
    kept.await
}

/// Second factors of old systems.
pub struct SecondFactor {
    common: Arc<Common>,
    used: moka::sync::Cache<[u8; 32], ()>,
    app: Vec<url::Url>,
    client: reqwest::Client,
    home: Handle,
}

/// A sign-in that waits for a code, of somebody with an old second factor.
struct Challenge {
    account: Account,
    factor: OldFactor,
    shadow: bool,
}

/// What a code turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Right, and not used before.
    Right,
    /// Wrong, used before, or nobody can tell: the app has the word.
    Unknown(&'static str),
    /// It could not be found out now.
    Unavailable,
}

impl SecondFactor {
    /// The mechanism. `app`: where the app's Better Auth is, its base path included.
    ///
    /// # Errors
    /// When TLS does not work on this machine.
    pub fn new(common: Arc<Common>, app: Vec<url::Url>, home: Handle) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .timeout(APP_WAIT)
            .build()
            .map_err(|error| format!("no connection to the app can be prepared: {error}"))?;
        Ok(Self {
            common,
            used: moka::sync::Cache::builder()
                .max_capacity(USED_MAX)
                .time_to_live(USED_FOR)
                .build(),
            app,
            client,
            home,
        })
    }

    /// Whose code is asked for, where it is somebody with an old second factor.
    async fn challenge(&self, posted: &Posted<'_>) -> Option<Challenge> {
        let common = &self.common;
        let name = common.cookies.cookie("two_factor").name;
        let raw = cookies::find_raw(posted.request.headers, &name)?;
        let signed = Signed::parse_plain(raw).or_else(|| Signed::parse(cookies::decode(raw)))?;
        posted.gate.sessions.signer().verify(&signed)?;
        let identifier = signed.value.strip_prefix(CHALLENGE_PREFIX)?;
        if identifier.starts_with("attempts-") {
            return None;
        }
        let user_id = self.waits(&signed.value).await?;
        let by = Identifier::UserId(user_id.expose().to_owned());
        let account = common.accounts.find(&by).await.ok().flatten()?;
        let factor = account.factor.clone()?;
        let shadow = match common.reach(Word::SecondFactor, &account.email) {
            Reach::Off => return None,
            Reach::Shadow => true,
            Reach::On => false,
        };
        Some(Challenge {
            account,
            factor,
            shadow,
        })
    }

    /// The user of a sign-in that waits: under its identifier, or the digest of it (`verification.storeIdentifier`).
    async fn waits(&self, identifier: &str) -> Option<Secret> {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;

        let now = self.common.clock.now();
        let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(identifier));
        for identifier in [identifier, &digest] {
            let found = self.common.accounts.verification(identifier, now).await;
            if let Some(user_id) = found.ok()? {
                return Some(user_id);
            }
        }
        None
    }

    /// Judges a code. Whatever is right is used up by that.
    async fn judge(&self, challenge: &Challenge, code: &Secret, now: UnixMs) -> Verdict {
        match &challenge.factor.sealed {
            Some(sealed) => self.judge_here(challenge, sealed, code, now).await,
            None => self.judge_there(challenge, code, now).await,
        }
    }

    async fn judge_here(
        &self,
        challenge: &Challenge,
        sealed: &Secret,
        code: &Secret,
        now: UnixMs,
    ) -> Verdict {
        let (factor, user_id) = (&challenge.factor, &challenge.account.user_id);
        let Some(totp) = Totp::of(&factor.algorithm, factor.digits, factor.period) else {
            tracing::warn!(
                user_id,
                "an old second factor makes codes that nobody makes"
            );
            return Verdict::Unknown("unusable");
        };
        let Ok(secret) = self.common.vault.open(Purpose::Factor, user_id, sealed) else {
            tracing::warn!(
                user_id,
                "an old second factor does not open with `migration.key`"
            );
            return Verdict::Unknown("unusable");
        };
        let Some(step) = totp.matches(&secret, code.expose().trim(), now) else {
            return Verdict::Unknown("wrong");
        };
        self.once(challenge, step).await
    }

    async fn judge_there(&self, challenge: &Challenge, code: &Secret, now: UnixMs) -> Verdict {
        if challenge.shadow {
            // To ask there would use the code up.
            return Verdict::Unknown("shadow");
        }
        let common = &self.common;
        let user_id = &challenge.account.user_id;
        let used = self.digest(user_id, code);
        if self.used.contains_key(&used) {
            return Verdict::Unknown("used");
        }
        for source in &challenge.account.sources {
            let provider = common
                .providers
                .iter()
                .find(|provider| provider.name == source.provider);
            let Some((name, check)) =
                provider.and_then(|known| Some((known.name, known.check.as_deref()?)))
            else {
                continue;
            };
            let pending = common.pending.get(&common.vault, user_id, name);
            let asked =
                common
                    .outbound
                    .check_factor(name, check, &source.id, pending.as_ref(), code);
            match asked.await {
                None => {}
                Some(FactorChecked::Wrong) => return Verdict::Unknown("wrong"),
                Some(FactorChecked::Unavailable(_)) => return Verdict::Unavailable,
                Some(FactorChecked::Right) => {
                    self.used.insert(used, ());
                    return self.once(challenge, Totp::default().step(now)).await;
                }
            }
        }
        Verdict::Unknown("not_checkable")
    }

    /// Uses a step up, once for all gateways.
    async fn once(&self, challenge: &Challenge, step: i64) -> Verdict {
        if challenge.shadow {
            return Verdict::Right;
        }
        let used = self
            .common
            .accounts
            .use_step(&challenge.account.user_id, step);
        match used.await {
            Ok(true) => Verdict::Right,
            Ok(false) => Verdict::Unknown("used"),
            Err(_) => Verdict::Unavailable,
        }
    }

    fn digest(&self, user_id: &str, code: &Secret) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(user_id.len().to_be_bytes());
        digest.update(user_id);
        digest.update(code.expose().trim());
        digest.finalize().into()
    }

    /// The code the app wants now from whoever has a right one of the old system. None: nothing stands in for that.
    async fn wanted(&self, challenge: &Challenge, now: UnixMs) -> Option<Secret> {
        let common = &self.common;
        let user_id = &challenge.account.user_id;
        let mut native = challenge.factor.native.clone();
        if native.is_none() {
            // Marked at an import, and nobody has made the row yet.
            require(common, &challenge.account).await.ok()?;
            let by = Identifier::UserId(user_id.clone());
            let account = common.accounts.find(&by).await.ok()??;
            native = account.factor?.native;
        }
        let made = native_code(&common.secrets, &native?, common.second_factor.totp, now);
        made.inspect_err(|error| {
            tracing::warn!(user_id, %error, "what stands in for an old second factor cannot be read");
        })
        .ok()
    }

    async fn verify_totp(&self, posted: &Posted<'_>) -> Course {
        let Some((form, challenge, code)) = self.asked(posted).await else {
            return self.confirmed(posted).await;
        };
        let now = self.common.clock.now();
        let verdict = self.judge(&challenge, &code, now).await;
        self.count(&challenge, verdict);
        let user_id = challenge.account.user_id.clone();
        let known = self
            .common
            .limits
            .known_from_now(posted.request.headers, &challenge.account.email);
        let heard = |used| {
            Some(Box::new(Heard {
                common: Arc::clone(&self.common),
                user_id,
                ends: match used {
                    true => Ends::Never,
                    // The app took a code as it came: its owner has a secret of their own here.
                    false => Ends::Always,
                },
                known,
                offers: used,
                succeeded: false,
            }) as Box<dyn After>)
        };
        match verdict {
            Verdict::Unavailable => Course::Answer(unavailable()),
            Verdict::Right if challenge.shadow => Course::Pass,
            Verdict::Right => match self.wanted(&challenge, now).await {
                Some(wanted) => Course::Forward {
                    body: Some(form.with_code(&wanted)),
                    after: heard(true),
                },
                None => Course::Pass,
            },
            Verdict::Unknown(_) if challenge.shadow => Course::Pass,
            Verdict::Unknown(_) => Course::Forward {
                body: None,
                after: heard(false),
            },
        }
    }

    /// A backup code: the old system may take it. The app knows none of its, so it is asked with a code it knows, in the client's place.
    async fn verify_backup_code(&self, posted: &Posted<'_>) -> Course {
        let Some((form, challenge, code)) = self.asked(posted).await else {
            return Course::Pass;
        };
        if challenge.factor.sealed.is_some() || challenge.shadow {
            return Course::Pass;
        }
        let now = self.common.clock.now();
        let verdict = self.judge_there(&challenge, &code, now).await;
        self.count(&challenge, verdict);
        match verdict {
            Verdict::Unknown(_) => Course::Pass,
            Verdict::Unavailable => Course::Answer(unavailable()),
            Verdict::Right => {
                let Some(wanted) = self.wanted(&challenge, now).await else {
                    return Course::Pass;
                };
                let body = form.with_code(&wanted);
                let mut answer = self.ask_app(posted, body).await;
                if answer.status.is_success() {
                    answer.headers.push((OFFER, RE_ENROL));
                    self.forget_pending(&challenge.account.user_id);
                    let known = self
                        .common
                        .limits
                        .known_from_now(posted.request.headers, &challenge.account.email);
                    answer.headers.extend(known.map(|line| (SET_COOKIE, line)));
                }
                Course::Answer(answer)
            }
        }
    }

    /// What is asked of a sign-in that waits: the body, who it is, the code. None: it is none, or is none of ours.
    async fn asked(&self, posted: &Posted<'_>) -> Option<(Form, Challenge, Secret)> {
        let form = Form::read(posted.request.headers, posted.body)?;
        let code = form.code()?;
        let fields = form.fields();
        if self.common.would_pass(posted, Some(&fields)).is_err()
            || self.who(posted).await.is_some()
        {
            return None;
        }
        let challenge = self.challenge(posted).await?;
        Some((form, challenge, code))
    }

    /// Whoever has a session already, and what cannot be found out: then it is no sign-in that waits.
    async fn who(&self, posted: &Posted<'_>) -> Option<Option<String>> {
        match posted.gate.who(posted.request).await {
            Resolution::Verified(Who::Known(entry)) => Some(Some(entry.user_id().to_owned())),
            Resolution::Verified(Who::SignatureOnly) => Some(None),
            Resolution::Unavailable => Some(None),
            Resolution::Anonymous | Resolution::Rejected(_) => None,
        }
    }

    /// A code given with a session confirms an enrolment: it passes, and ends the old secret if the app takes it.
    async fn confirmed(&self, posted: &Posted<'_>) -> Course {
        self.hears(posted, Ends::Always).await
    }

    async fn hears(&self, posted: &Posted<'_>, ends: Ends) -> Course {
        let Some(Some(user_id)) = self.who(posted).await else {
            return Course::Pass;
        };
        let by = Identifier::UserId(user_id.clone());
        let account = self.common.accounts.find(&by).await.ok().flatten();
        let Some(account) = account.filter(|account| account.factor.is_some()) else {
            return Course::Pass;
        };
        if self.common.reach(Word::SecondFactor, &account.email) != Reach::On {
            return Course::Pass;
        }
        Course::Forward {
            body: None,
            after: Some(Box::new(Heard {
                common: Arc::clone(&self.common),
                user_id,
                ends,
                known: None,
                offers: false,
                succeeded: false,
            })),
        }
    }

    fn count(&self, challenge: &Challenge, verdict: Verdict) {
        let scheme = match challenge.factor.sealed {
            Some(_) => "totp",
            None => "remote",
        };
        let outcome = match verdict {
            Verdict::Right => "right",
            Verdict::Unknown(why) => why,
            Verdict::Unavailable => "unavailable",
        };
        let word = Word::SecondFactor.as_str();
        self.common.metrics.migration_sign_in(word, scheme, outcome);
    }

    fn forget_pending(&self, user_id: &str) {
        let names = self.common.providers.iter().map(|provider| provider.name);
        self.common.pending.drop_all(user_id, names);
    }

    /// Asks the app with a code of its own, in the client's place.
    async fn ask_app(&self, posted: &Posted<'_>, body: Bytes) -> Answer {
        let mut headers = HeaderMap::new();
        for name in PASSED_ON {
            for value in posted.request.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json);
        forwarded(&mut headers, posted.client, &self.common.public_url);
        let (client, app) = (self.client.clone(), self.app.clone());
        // Connections live there, and a client that goes away does not leave a session half made.
        let asked = self.home.spawn(async move {
            for base in &app {
                let url = format!("{}{TOTP}", base.as_str().trim_end_matches('/'));
                let request = client.post(url).headers(headers.clone());
                match request.body(body.clone()).send().await {
                    Ok(answer) => return read(answer).await,
                    // Nothing was sent: another address may do.
                    Err(error) if error.is_connect() => {}
                    Err(_) => return None,
                }
            }
            None
        });
        asked.await.ok().flatten().unwrap_or_else(unavailable)
    }
}

impl Mechanism for SecondFactor {
    fn concerns(&self, endpoint: &str) -> bool {
        matches!(endpoint, TOTP | BACKUP | ENABLE | DISABLE)
    }

    fn course<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Course> {
        Box::pin(async move {
            match posted.endpoint {
                TOTP => self.verify_totp(&posted).await,
                BACKUP => self.verify_backup_code(&posted).await,
                DISABLE => self.hears(&posted, Ends::Always).await,
                _ => self.hears(&posted, Ends::IfReplaced).await,
            }
        })
    }
}

/// When what the app answers ends the old secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// It does not.
    Never,
    /// When it says that it is well.
    Always,
    /// When nothing stands in for it any more: releases before 1.7.25 put the new secret in the place of the old one before it is
    /// confirmed, later ones leave it, or were switched to codes by mail.
    IfReplaced,
}

/// Hears what the app made of a code or an enrolment.
struct Heard {
    common: Arc<Common>,
    user_id: String,
    ends: Ends,
    known: Option<HeaderValue>,
    offers: bool,
    succeeded: bool,
}

impl Heard {
    async fn forget(&self) {
        let accounts = &self.common.accounts;
        if self.ends == Ends::IfReplaced {
            let by = Identifier::UserId(self.user_id.clone());
            match accounts.find(&by).await {
                Ok(Some(account))
                    if account.factor.as_ref().is_some_and(|f| f.native.is_none()) => {}
                _ => return,
            }
        }
        match accounts.forget_factor(&self.user_id).await {
            Ok(true) => {
                let word = Word::SecondFactor.as_str();
                self.common.metrics.migration_sign_in(word, "", "enrolled");
                tracing::info!(
                    target: "vestibule::audit",
                    user_id = self.user_id,
                    "the old second factor counts no more"
                );
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(
                user_id = self.user_id,
                %error,
                "an old second factor could not be forgotten, and still counts"
            ),
        }
    }
}

impl After for Heard {
    fn answered<'a>(
        &'a mut self,
        status: StatusCode,
        _headers: &'a HeaderMap,
    ) -> BoxFuture<'a, Option<Answer>> {
        Box::pin(async move {
            self.succeeded = status.is_success();
            if self.succeeded && self.ends != Ends::Never {
                self.forget().await;
            }
            None
        })
    }

    fn owes(&mut self) -> Vec<HeaderValue> {
        let known = self.known.take().filter(|_| self.succeeded);
        known.into_iter().collect()
    }

    fn adds(&mut self) -> Vec<(HeaderName, HeaderValue)> {
        match self.succeeded && self.offers {
            true => vec![(OFFER, RE_ENROL)],
            false => Vec::new(),
        }
    }
}

/// A body that holds a code.
struct Form(Map<String, Value>);

impl Form {
    /// Read as the framework reads it; none for what it would refuse, or what it would read in another way.
    fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let mut kinds = headers.get_all(CONTENT_TYPE).iter();
        let kind = kinds.next()?.to_str().ok()?;
        if kinds.next().is_some() || !kind.to_ascii_lowercase().starts_with("application/json") {
            return None;
        }
        serde_json::from_slice(body).ok().map(Self)
    }

    fn fields(&self) -> Map<String, Value> {
        let mut fields = self.0.clone();
        fields.remove("code");
        fields
    }

    fn code(&self) -> Option<Secret> {
        let code = self.0.get("code")?.as_str()?;
        let fine = (1..=CODE_BYTES_MAX).contains(&code.len());
        fine.then(|| Secret::new(code))
    }

    /// The same with another code.
    fn with_code(mut self, code: &Secret) -> Bytes {
        self.0.insert("code".to_owned(), Value::from(code.expose()));
        let text = Zeroizing::new(Value::Object(self.0).to_string());
        Bytes::copy_from_slice(text.as_bytes())
    }
}

/// Where the client is, as the app is told by the gateway in any case.
fn forwarded(headers: &mut HeaderMap, client: IpAddr, public_url: &str) {
    let mut put = |name: &'static str, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("x-forwarded-for", &client.to_string());
    if let Some((proto, host)) = public_url.split_once("://") {
        put("x-forwarded-proto", proto);
        put("x-forwarded-host", host);
    }
}

/// The app's answer, to be passed on. None: it is too long, or broke off.
async fn read(answer: reqwest::Response) -> Option<Answer> {
    let status = answer.status();
    let pass = |name: &HeaderName| {
        let text = name.as_str();
        *name == SET_COOKIE
            || *name == CONTENT_TYPE
            || *name == LOCATION
            || *name == RETRY_AFTER
            || text == "x-retry-after"
            || text == "set-auth-token"
    };
    let mut headers: Vec<_> = answer
        .headers()
        .iter()
        .filter(|(name, _)| pass(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    headers.push((CACHE_CONTROL, HeaderValue::from_static(PRIVATE)));
    let mut answer = answer;
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.ok()? {
        if body.len() + piece.len() > APP_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&piece);
    }
    Some(Answer {
        status,
        headers,
        body: body.into(),
    })
}

/// It could not be found out whether a code is right: it is not counted, and may be given again.
fn unavailable() -> Answer {
    let body: &[u8] = br#"{"message":"The code cannot be checked at the moment. Please try again.","code":"SECOND_FACTOR_UNAVAILABLE"}"#;
    Answer {
        status: StatusCode::SERVICE_UNAVAILABLE,
        headers: vec![
            (RETRY_AFTER, HeaderValue::from_static("5")),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CACHE_CONTROL, HeaderValue::from_static(PRIVATE)),
        ],
        body: Bytes::from_static(body),
    }
}
