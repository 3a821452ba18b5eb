//! Vestibule: an auth gateway in front of apps that use Better Auth.
//!
//! The way of a request: `server` makes a [`request::RequestView`], `gate` judges it (`route` finds what is asked for,
//! `authenticator` what was presented and who that is, `policy` whether it suffices), and `server` does what the verdict says.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod api_key;
pub mod app;
pub mod authenticator;
pub mod bench;
pub mod client_ip;
pub mod credential;
pub mod gate;
pub mod identity;
pub mod kind;
pub mod migration;
pub mod percent;
pub mod policy;
pub mod request;
pub mod route;
pub mod secret;
pub mod selftest;
pub mod session;
pub mod target;
pub mod time;

pub mod cli;
pub mod config;
pub mod server;
pub mod store;
pub mod telemetry;
