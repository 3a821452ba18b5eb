//! The edge that speaks HTTP: Pingora. It makes a view of each request, has it judged, and does what the verdict says.
// This edge measures and waits: it may look at the clock.
#![allow(clippy::disallowed_methods)]

pub mod admin;
mod body;
pub mod build;
pub mod clock;
pub mod door;
pub mod doubt;
pub mod forward;
pub mod intercept;
mod kept;
pub mod line;
pub mod migration;
mod outage;
mod plain;
pub mod proxy;
pub mod renew;
pub mod respond;
pub mod rounds;
pub mod run;
pub mod settings;
pub mod slide;
pub mod streams;
pub mod tls;
pub mod tunnel;
pub mod upstream;
mod userinfo;
pub mod verify;

pub use settings::{Limits, Settings, Timeouts, Tls, Upstream, UpstreamAddress};
