//! All tests that look at Vestibule from outside: one module per capability, one binary, one link.

mod bypasses;
mod config;
mod faults;
mod golden;
mod lifecycle;
mod regressions;
mod session_sources;
mod smoke;
mod streaming;
mod support;
mod transport;
