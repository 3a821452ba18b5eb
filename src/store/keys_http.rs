//! Keys that are published on the web: the app's own key set, asked for at the app itself, and those of other issuers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::header::{ACCEPT, HOST, HeaderValue};
use reqwest::{Client, StatusCode, Url, redirect};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::credential::key_ring::{KeySource, KeysError, Then};
use crate::credential::key_set::{Algorithm, KeySet, SET_BYTES_MAX};

/// Longest wait for a key set, connecting included. A request may wait for it, so it is no longer than people wait for a page.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// Longest wait for one connection: there is time left for another address.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// Most letters of somebody else's words that reach a log.
const CAUSE_LETTERS_MAX: usize = 240;

/// Where a key set is published.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses that publish the same set, tried in turn.
    pub urls: Vec<Url>,
    /// The host asked for, where that is not the address's own: an app behind the gateway is asked as the gateway asks it.
    pub host: Option<String>,
    /// What keys are for that do not say it themselves.
    pub algorithm: Option<Algorithm>,
}

/// A key set does not come from here.
#[derive(Debug, thiserror::Error)]
pub enum KeysHttpError {
    /// No address to ask.
    #[error("there is no address to fetch keys from")]
    NoAddress,
    /// The host cannot stand in a header.
    #[error("the host cannot stand in a header")]
    Host,
    /// The client cannot be made.
    #[error("no connection can be prepared: {0}")]
    Client(#[source] reqwest::Error),
}

struct KeysHttp {
    core: Arc<Core>,
    home: Handle,
    name: String,
}

struct Core {
    client: Client,
    urls: Vec<Url>,
    host: Option<HeaderValue>,
    algorithm: Option<Algorithm>,
}

/// A source of keys at these addresses. It lives on the runtime `home`, whatever thread asks.
///
/// # Errors
/// When there is nothing to ask, or TLS does not work on this machine.
pub fn open(settings: Settings, home: Handle) -> Result<Arc<dyn KeySource>, KeysHttpError> {
    // Somebody else may have chosen one already; any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let first = settings.urls.first().ok_or(KeysHttpError::NoAddress)?;
    let name = first.to_string();
    let host = settings
        .host
        .map(|host| HeaderValue::try_from(host).map_err(|_| KeysHttpError::Host))
        .transpose()?;
    let client = Client::builder()
        // Keys come from the address that was configured and from no other; what stands in the environment is for other programs.
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_MAX)
        .timeout(WAIT_MAX)
        .pool_max_idle_per_host(0)
        .user_agent(concat!("vestibule/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(KeysHttpError::Client)?;
    Ok(Arc::new(KeysHttp {
        core: Arc::new(Core {
            client,
            urls: settings.urls,
            host,
            algorithm: settings.algorithm,
        }),
        home,
        name,
    }))
}

impl KeySource for KeysHttp {
    fn name(&self) -> &str {
        &self.name
    }

    fn fetch(&self, then: Then) -> BoxFuture<'static, ()> {
        let core = Arc::clone(&self.core);
        let task = self.home.spawn(async move {
            let fetched = timeout(WAIT_MAX, core.fetch()).await;
            let late = Err(KeysError::Timeout { waited: WAIT_MAX });
            then(fetched.unwrap_or(late));
        });
        Box::pin(async move {
            // `then` was told, or dropped, which says as much.
            let _ = task.await;
        })
    }
}

impl Core {
    async fn fetch(&self) -> Result<KeySet, KeysError> {
        let mut failed = KeysError::GivenUp;
        for url in &self.urls {
            match self.fetch_from(url).await {
                Ok(set) => return Ok(set),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn fetch_from(&self, url: &Url) -> Result<KeySet, KeysError> {
        let mut request = self
            .client
            .get(url.clone())
            .header(ACCEPT, "application/json");
        if let Some(host) = &self.host {
            request = request.header(HOST, host.clone());
        }
        let mut answer = request.send().await.map_err(|error| diagnose(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(KeysError::Status {
                status: answer.status().as_u16(),
            });
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| diagnose(&error))? {
            if body.len() + piece.len() > SET_BYTES_MAX {
                return Err(KeysError::Garbage {
                    cause: format!("more than {SET_BYTES_MAX} bytes"),
                });
            }
            body.extend_from_slice(&piece);
        }
        KeySet::parse(&body, self.algorithm).map_err(|error| KeysError::Garbage {
            cause: error.to_string(),
        })
    }
}

fn diagnose(error: &reqwest::Error) -> KeysError {
    if error.is_timeout() {
        return KeysError::Timeout { waited: WAIT_MAX };
    }
    // The outermost words say only that it failed; the innermost say why.
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let words = innermost.to_string();
    let words = words.chars().filter(|letter| !letter.is_control());
    let cause = words.take(CAUSE_LETTERS_MAX).collect();
    match error.is_decode() || error.is_body() {
        true => KeysError::Garbage { cause },
        false => KeysError::Unreachable { cause },
    }
}
