//! All tests that look at Vestibule from outside: one module per capability, one binary, one link.
// A test may stop at what it did not expect, helpers included, and may measure how long it waited.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods
)]

mod accounts;
mod actions;
mod actions_next;
mod answers;
mod api_keys;
mod app_routes;
mod architecture;
mod bearer;
mod bench_command;
mod bypasses;
mod config;
mod cookie_cache;
mod corpora;
mod dev;
mod differential;
mod door;
mod exchange;
mod exchange_h2;
mod extension;
mod faults;
mod forward_auth;
mod golden;
mod hash_command;
mod http_source;
mod jwt;
mod lifecycle;
mod migration_bridge;
mod migration_checks;
mod migration_crash;
mod migration_deltas;
mod migration_exports;
mod migration_fetch;
mod migration_import;
mod migration_limits;
mod migration_plan;
mod migration_providers;
mod migration_readers;
mod migration_second_factor;
mod migration_sign_in;
mod migration_sign_up;
mod migration_truth;
mod migration_truth_live;
mod migration_vectors;
mod migration_ways_out;
mod moving;
mod next;
mod next_builds;
mod next_catalogue;
mod next_matcher;
mod peers;
mod planted_secret;
mod redis;
mod regressions;
mod revocation;
mod rounds;
mod routes_command;
mod selftest;
mod session_sources;
mod sessions;
mod sliding;
mod smoke;
mod streaming;
mod support;
mod transport;
