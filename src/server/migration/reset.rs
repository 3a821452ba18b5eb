//! Reset mails for those whose password nobody can check: the app's own, asked for in the user's name, seldom and behind the answer.
//!
//! Never for an outage and never for a wrong password. One that is not sent is counted with its reason: the user may try again, or ask
//! for one at the app.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderName, HeaderValue, StatusCode};
use moka::sync::Cache;
use reqwest::redirect::Policy;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::audit::{self, Moved};
use crate::migration::accounts::Accounts;
use crate::migration::state::State;
use crate::telemetry::metrics::Metrics;
use crate::time::{Clock, UnixMs};

/// How long one address gets no second mail.
const QUIET: Duration = Duration::from_secs(15 * 60);

/// So many mails one address gets in [`DAY`].
const A_DAY: usize = 3;

/// A day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An hour.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Most addresses remembered: about 20 MiB. Only users who stand for a reset take a place, and not more of them a day than the cap
/// of all mails lets through; when it is full those seen longest ago begin anew.
const ADDRESSES_MAX: u64 = 100_000;

/// Most mails waiting to be asked for: they wait for the answer to go out, a second at most, and for the app.
const QUEUE: usize = 256;

/// How many are asked for at once: the app has its users to answer, and its mail server a pace of its own.
const AT_ONCE: usize = 4;

/// How long the app may take for one. Some send the mail before they answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How long an unused connection is kept: below the five seconds after which Node closes its end.
const IDLE_MAX: Duration = Duration::from_secs(4);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What the operator wants.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the link leads.
    pub redirect_to: String,
    /// Mails an hour at most, to everybody together.
    pub per_hour: u64,
}

/// One mail that is due.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Whose.
    pub user_id: String,
    /// Where to: the address as it is stored.
    pub email: String,
    /// Where they stood.
    pub from: Option<State>,
    /// The old system they came from.
    pub provider: String,
    /// Whoever tried to sign in: the app counts them, not us.
    pub client: IpAddr,
    /// Not before the answer is out.
    pub not_before: Instant,
}

/// Whoever asks for mails.
pub struct Resets {
    budget: Budget,
    queue: mpsc::Sender<Mail>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// What is needed to ask the app.
pub struct Desk {
    /// Where the app's Better Auth is, its base path included.
    pub app: Vec<Url>,
    /// The origin browsers see.
    pub public_url: String,
    /// Accounts, to note that a mail went out.
    pub accounts: Arc<dyn Accounts>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Resets {
    /// Somebody who asks for mails from now on.
    ///
    /// # Errors
    /// When no connection to the app can be prepared.
    pub fn new(settings: &Settings, desk: Desk, home: &Handle) -> Result<Self, String> {
        let app = App::new(desk.app.clone(), &desk.public_url, &settings.redirect_to)?;
        let (queue, mut due) = mpsc::channel::<Mail>(QUEUE);
        let (clock, metrics) = (Arc::clone(&desk.clock), Arc::clone(&desk.metrics));
        let asker = Arc::new(Asker { app, desk });
        home.spawn(async move {
            let turns = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
            while let Some(mail) = due.recv().await {
                let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
                    return;
                };
                let asker = Arc::clone(&asker);
                tokio::spawn(async move {
                    sleep_until(mail.not_before).await;
                    asker.ask(&mail).await;
                    drop(turn);
                });
            }
        });
        Ok(Self {
            budget: Budget::new(settings.per_hour),
            queue,
            clock,
            metrics,
        })
    }

    /// Asks for a mail, if it is due. Does not wait.
    pub fn send(&self, mail: Mail) {
        // A place first: what is spent of the budget is spent.
        let Ok(place) = self.queue.try_reserve() else {
            self.metrics.migration_reset("queue_full");
            tracing::warn!(
                user_id = mail.user_id,
                "a reset mail is not sent: too many wait for the app"
            );
            return;
        };
        match self.budget.take(&mail.email, self.clock.now()) {
            Ok(()) => place.send(mail),
            Err(spent) => {
                self.metrics.migration_reset(spent.as_str());
                if spent == Spent::Everybody {
                    tracing::warn!(
                        user_id = mail.user_id,
                        "a reset mail is not sent: `migration.reset.per_hour` is reached"
                    );
                }
            }
        }
    }
}

/// Why no mail goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spent {
    /// The address had one, or three today.
    Address,
    /// Everybody together had as many as they may.
    Everybody,
}

impl Spent {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address_limit",
            Self::Everybody => "hourly_limit",
        }
    }
}

/// How many mails may still go out.
struct Budget {
    /// When each address had its mails, by the SHA-256 of the address.
    addresses: Cache<[u8; 32], Arc<Mutex<VecDeque<UnixMs>>>>,
    per_hour: usize,
    everybody: Mutex<VecDeque<UnixMs>>,
}

impl Budget {
    fn new(per_hour: u64) -> Self {
        Self {
            addresses: Cache::builder()
                .max_capacity(ADDRESSES_MAX)
                .time_to_idle(DAY)
                .build(),
            per_hour: usize::try_from(per_hour).unwrap_or(usize::MAX),
            everybody: Mutex::default(),
        }
    }

    fn take(&self, email: &str, now: UnixMs) -> Result<(), Spent> {
        let key: [u8; 32] = Sha256::digest(email.to_lowercase().as_bytes()).into();
        let sent = self.addresses.get_with(key, Arc::default);
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        // What lies in the future was written before the clock was set back.
        sent.retain(|at| *at <= now && now.since(*at) < DAY);
        let quiet = sent.back().is_some_and(|last| now.since(*last) < QUIET);
        if quiet || sent.len() >= A_DAY {
            return Err(Spent::Address);
        }
        let mut everybody = self
            .everybody
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while everybody
            .front()
            .is_some_and(|at| *at > now || now.since(*at) >= HOUR)
        {
            everybody.pop_front();
        }
        if everybody.len() >= self.per_hour {
            return Err(Spent::Everybody);
        }
        everybody.push_back(now);
        sent.push_back(now);
        Ok(())
    }
}

/// The app, as it is asked for mails.
pub struct App {
    client: reqwest::Client,
    urls: Vec<Url>,
    public_url: String,
    redirect_to: String,
    host: Option<HeaderValue>,
    scheme: &'static str,
}

/// What the app said.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Its status.
    pub status: StatusCode,
    /// When it may be asked again, where it says so.
    pub retry_after: Option<Duration>,
}

impl App {
    /// The app whose Better Auth is at one of these addresses, base path included.
    ///
    /// # Errors
    /// When no connection to it can be prepared.
    pub fn new(urls: Vec<Url>, public_url: &str, redirect_to: &str) -> Result<Self, String> {
        // Somebody else may have chosen one already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(Duration::from_secs(2))
            .timeout(ANSWER_WITHIN)
            .pool_idle_timeout(IDLE_MAX)
            .build()
            .map_err(|error| format!("no connection to the app can be prepared: {error}"))?;
        let public = Url::parse(public_url).ok();
        let host = public.as_ref().and_then(|url| {
            let host = url.host_str()?;
            let text = match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            };
            HeaderValue::from_str(&text).ok()
        });
        let scheme = match public.as_ref().map(Url::scheme) {
            Some("https") => "https",
            _ => "http",
        };
        Ok(Self {
            client,
            urls,
            public_url: public_url.to_owned(),
            redirect_to: redirect_to.to_owned(),
            host,
            scheme,
        })
    }

    /// Asks the first that can be reached for a mail to an address. Those before it were not asked: asking twice would send two.
    ///
    /// # Errors
    /// When none can be reached, or one does not answer.
    pub async fn ask(&self, email: &str, client: IpAddr) -> Result<Said, reqwest::Error> {
        let mut urls = self.urls.iter().peekable();
        while let Some(url) = urls.next() {
            let mut said = self.one(url, "request-password-reset", email, client).await;
            // Its name before better-auth 1.4.
            if matches!(&said, Ok(said) if said.status == StatusCode::NOT_FOUND) {
                said = self.one(url, "forget-password", email, client).await;
            }
            match said {
                Err(error) if error.is_connect() && urls.peek().is_some() => {}
                said => return said,
            }
        }
        Ok(Said {
            status: StatusCode::BAD_GATEWAY,
            retry_after: None,
        })
    }

    async fn one(
        &self,
        app: &Url,
        endpoint: &str,
        email: &str,
        client: IpAddr,
    ) -> Result<Said, reqwest::Error> {
        let body = serde_json::json!({ "email": email, "redirectTo": self.redirect_to });
        let url = format!("{}/{endpoint}", app.as_str().trim_end_matches('/'));
        let mut asked = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(ORIGIN, &self.public_url)
            .header(FORWARDED_FOR, client.to_string())
            .header(FORWARDED_PROTO, self.scheme)
            .body(body.to_string());
        if let Some(host) = &self.host {
            asked = asked.header(HOST, host).header(FORWARDED_HOST, host);
        }
        let answer = asked.send().await?;
        let seconds = |name: &str| answer.headers().get(name)?.to_str().ok()?.parse().ok();
        // Better Auth's own limiter says it in a header of its own.
        let wait = seconds("retry-after").or_else(|| seconds("x-retry-after"));
        Ok(Said {
            status: answer.status(),
            retry_after: wait.map(Duration::from_secs),
        })
    }
}

/// Asks the app, and notes it.
struct Asker {
    app: App,
    desk: Desk,
}

impl Asker {
    async fn ask(&self, mail: &Mail) {
        let said = self.app.ask(&mail.email, mail.client).await;
        let outcome = match said.map(|said| said.status) {
            Ok(status) if status.is_success() => {
                self.note(mail).await;
                "sent"
            }
            Ok(status) => {
                tracing::warn!(
                    user_id = mail.user_id,
                    status = status.as_u16(),
                    "the app sends no reset mail: is `emailAndPassword.sendResetPassword` set, and `migration.reset.redirect_to` trusted?"
                );
                "refused"
            }
            Err(error) => {
                tracing::warn!(
                    user_id = mail.user_id,
                    "the app cannot be asked for a reset mail: {}",
                    error.without_url()
                );
                "unreachable"
            }
        };
        self.desk.metrics.migration_reset(outcome);
    }

    async fn note(&self, mail: &Mail) {
        let now = self.desk.clock.now();
        let to = State::ResetSent;
        match self.desk.accounts.move_state(&mail.user_id, to, now).await {
            Ok(true) => audit::moved(
                &self.desk.metrics,
                &Moved {
                    user_id: &mail.user_id,
                    provider: &mail.provider,
                    from: mail.from,
                    to,
                    mechanism: "reset",
                    scheme: "",
                    reason: "",
                },
            ),
            // They stood there already, or were never imported.
            Ok(false) => {}
            Err(error) => tracing::warn!(
                user_id = mail.user_id,
                cause = error.as_str(),
                advice = error.advice(),
                "a reset mail went out, which cannot be noted"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_795_000_000_000);

    fn at(minutes: u64) -> UnixMs {
        NOW.plus(Duration::from_secs(60 * minutes))
    }

    #[test]
    fn an_address_gets_one_mail_in_a_quarter_of_an_hour_and_three_a_day() {
        let budget = Budget::new(1000);
        let took: Vec<bool> = [0, 1, 14, 15, 29, 30, 45, 60, 24 * 60 - 1, 24 * 60]
            .map(|minutes| budget.take("Ann@example.com", at(minutes)).is_ok())
            .to_vec();
        assert_eq!(
            took,
            [
                true, false, false, true, false, true, false, false, false, true
            ]
        );
        assert_eq!(
            budget.take("ann@EXAMPLE.com", at(24 * 60)),
            Err(Spent::Address)
        );
        assert_eq!(budget.take("bob@example.com", at(0)), Ok(()));
    }

    #[test]
    fn everybody_together_gets_so_many_an_hour() {
        let budget = Budget::new(2);
        let mut took = Vec::new();
        for (name, minutes) in [
            ("a", 0),
            ("b", 30),
            ("c", 59),
            ("c", 60),
            ("d", 61),
            ("d", 90),
        ] {
            took.push(budget.take(name, at(minutes)));
        }
        assert_eq!(
            took,
            [
                Ok(()),
                Ok(()),
                Err(Spent::Everybody),
                Ok(()),
                Err(Spent::Everybody),
                Ok(())
            ]
        );
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nobody() {
        let budget = Budget::new(1);
        assert_eq!(budget.take("a", at(600)), Ok(()));
        assert_eq!(budget.take("a", at(0)), Ok(()));
    }
}
