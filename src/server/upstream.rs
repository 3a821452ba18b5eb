//! The apps behind the gateway: their addresses, which of them are well, and how they are spoken to.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::Extensions;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::Stream;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::upstreams::peer::{HttpPeer, PeerOptions};
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};
use pingora_load_balancing::selection::RoundRobin;
use pingora_load_balancing::{Backend, Backends, LoadBalancer};

use super::kept::Kept;
use super::settings::{Timeouts, Upstream, UpstreamAddress};
use super::tunnel::Patient;

/// How often names are resolved again. Containers move; a connection that fails is retried meanwhile.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);

/// Longest wait for a name server, so that one that is silent holds up neither the start nor the other names.
const RESOLVE_WITHIN: Duration = Duration::from_secs(2);

/// How often a request is tried while no connection stands. A name may stand for several addresses, of which some are dead.
pub const ATTEMPTS_MAX: usize = 3;

/// Keeps connections for tunnels apart from all others in the pool.
const TUNNELS: u64 = 1;

/// How a request and its answer use the connection to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// One answer, soon.
    Exchange,
    /// An answer that may be silent for long: server-sent events.
    Events,
    /// Perhaps a tunnel: a WebSocket.
    Tunnel,
}

/// An upstream ready to be asked.
pub struct App {
    settings: Upstream,
    balancer: Arc<LoadBalancer<RoundRobin>>,
    plain: PeerOptions,
    events: PeerOptions,
    tunnel: PeerOptions,
    asked: AtomicUsize,
    connector: TransportConnector,
    /// Connections for plain exchanges that wait.
    pub kept: Kept,
}

/// Where a request goes.
pub struct Place {
    /// The address.
    pub address: std::net::SocketAddr,
    /// The name its certificate must have; empty without TLS.
    pub name: String,
}

impl App {
    /// Prepares an upstream. Nothing is resolved or connected yet. `most`: how many unused connections are kept.
    pub fn new(settings: &Upstream, timeouts: &Timeouts, most: usize) -> Self {
        let discovery = Names {
            addresses: settings.addresses.clone(),
        };
        let mut balancer =
            LoadBalancer::<RoundRobin>::from_backends(Backends::new(Box::new(discovery)));
        balancer.update_frequency = Some(RESOLVE_EVERY);
        if settings.addresses.len() > 1 {
            balancer.set_health_check(health_check(settings));
            balancer.health_check_frequency = Some(settings.health_interval);
            balancer.parallel_health_check = true;
        }
        let plain = options(settings, settings.first_byte_timeout);
        let events = options(settings, timeouts.tunnel_idle);
        let mut tunnel = events.clone();
        tunnel.custom_l4 = Some(Arc::new(Patient));
        Self {
            settings: settings.clone(),
            balancer: Arc::new(balancer),
            plain,
            events,
            tunnel,
            asked: AtomicUsize::new(0),
            // It keeps none itself.
            connector: TransportConnector::new(Some(ConnectorOptions::new(1))),
            kept: Kept::new(most, settings.idle_timeout),
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The balancer, which resolves and checks in the background.
    pub fn balancer(&self) -> Arc<LoadBalancer<RoundRobin>> {
        Arc::clone(&self.balancer)
    }

    /// The next address to ask: one that is well, else any.
    pub fn place(&self) -> Option<Place> {
        let known = self.balancer.backends().get_backend();
        // Most apps have one address: there is nothing to choose, and choosing copies.
        let chosen = if let (1, Some(only)) = (known.len(), known.first()) {
            Cow::Borrowed(only)
        } else {
            Cow::Owned(self.balancer.select(b"", 16).or_else(|| {
                // None is known to be well. Asking one all the same is how an app that just started is found.
                let turn = self.asked.fetch_add(1, Ordering::Relaxed);
                let at = turn.checked_rem(known.len())?;
                known.iter().nth(at).cloned()
            })?)
        };
        let SocketAddr::Inet(address) = chosen.addr else {
            return None;
        };
        // The name is for the certificate; without one nobody asks for it.
        let name = chosen.ext.get::<Origin>().filter(|origin| origin.tls);
        let name = name.map_or_else(String::new, |origin| origin.name.clone());
        Some(Place { address, name })
    }

    /// The same as Pingora takes it.
    pub fn peer(&self, manner: Manner) -> Option<HttpPeer> {
        Some(self.peer_at(&self.place()?, manner))
    }

    fn peer_at(&self, place: &Place, manner: Manner) -> HttpPeer {
        let tls = !place.name.is_empty();
        let mut peer = HttpPeer::new(place.address, tls, place.name.clone());
        peer.options = match manner {
            Manner::Exchange => self.plain.clone(),
            Manner::Events => self.events.clone(),
            Manner::Tunnel => self.tunnel.clone(),
        };
        if manner == Manner::Tunnel {
            // Never a connection kept from an ordinary exchange: those are not patient.
            peer.group_key = TUNNELS;
        }
        peer
    }

    /// A new connection for plain exchanges.
    ///
    /// # Errors
    /// When none can be made in the time that is set for it.
    pub async fn connect(&self, place: &Place) -> pingora::Result<Stream> {
        let peer = self.peer_at(place, Manner::Exchange);
        self.connector.new_stream(&peer).await
    }

    /// How long each piece of an answer may take.
    pub const fn first_byte_timeout(&self) -> Duration {
        self.settings.first_byte_timeout
    }

    /// How long each piece of a request may take.
    pub const fn write_timeout(&self) -> Duration {
        self.settings.write_timeout
    }
}

fn options(settings: &Upstream, read: Duration) -> PeerOptions {
    let mut options = PeerOptions::new();
    options.connection_timeout = Some(settings.connect_timeout);
    options.total_connection_timeout = Some(settings.connect_timeout);
    options.read_timeout = Some(read);
    options.write_timeout = Some(settings.write_timeout);
    options.idle_timeout = Some(settings.idle_timeout);
    options
}

fn health_check(settings: &Upstream) -> Box<dyn HealthCheck + Send + Sync> {
    let tls = settings
        .addresses
        .first()
        .is_some_and(|address| address.tls);
    let host = settings
        .addresses
        .first()
        .map_or("", |address| address.host.as_str());
    match &settings.health_path {
        Some(path) => {
            let mut check = HttpHealthCheck::new(host, tls);
            if let Ok(uri) = path.parse() {
                check.req.set_uri(uri);
            }
            check.peer_template.options.connection_timeout = Some(settings.connect_timeout);
            check.peer_template.options.read_timeout = Some(settings.connect_timeout);
            check.validator = Some(Box::new(|answer| {
                let status = answer.status;
                if status.is_success() || status.is_redirection() {
                    Ok(())
                } else {
                    pingora::Error::e_explain(
                        pingora::ErrorType::HTTPStatus(status.as_u16()),
                        "health check",
                    )
                }
            }));
            Box::new(check)
        }
        None => {
            let mut check = TcpHealthCheck::new();
            check.peer_template.options.connection_timeout = Some(settings.connect_timeout);
            check
        }
    }
}

/// Carried with an address: what it was resolved from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Origin {
    tls: bool,
    name: String,
}

/// The configured names, resolved again and again.
struct Names {
    addresses: Vec<UpstreamAddress>,
}

#[async_trait]
impl ServiceDiscovery for Names {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut found = BTreeSet::new();
        let mut failed = None;
        let lookups = self.addresses.iter().map(|address| async move {
            let lookup = tokio::net::lookup_host((address.host.as_str(), address.port));
            let resolved = tokio::time::timeout(RESOLVE_WITHIN, lookup).await;
            (address, resolved.unwrap_or_else(|late| Err(late.into())))
        });
        for (address, resolved) in futures_util::future::join_all(lookups).await {
            match resolved {
                Ok(resolved) => found.extend(resolved.map(|addr| backend(addr, address))),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            // Nothing resolves: the addresses known so far stay.
            Some(error) if found.is_empty() => Err(pingora::Error::because(
                pingora::ErrorType::ConnectError,
                "resolving an upstream",
                error,
            )),
            _ => Ok((found, HashMap::new())),
        }
    }
}

fn backend(addr: std::net::SocketAddr, from: &UpstreamAddress) -> Backend {
    let mut ext = Extensions::new();
    ext.insert(Origin {
        tls: from.tls,
        name: from.host.clone(),
    });
    Backend {
        addr: SocketAddr::Inet(addr),
        weight: 1,
        ext,
    }
}
