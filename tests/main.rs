//! All tests that look at Vestibule from outside: one module per capability, one binary, one link.

mod answers;
mod bypasses;
mod faults;
mod golden;
mod planted_secret;
mod session_sources;
mod sessions;
mod smoke;
mod support;
