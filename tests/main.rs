//! All tests that look at Vestibule from outside: one module per capability, one binary, one link.

mod answers;
mod bypasses;
mod config;
mod faults;
mod golden;
mod lifecycle;
mod session_sources;
mod sessions;
mod smoke;
mod streaming;
mod support;
mod transport;
