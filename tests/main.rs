//! All tests that look at Vestibule from outside: one module per capability, one binary, one link.

mod faults;
mod golden;
mod regressions;
mod session_sources;
mod smoke;
mod support;
