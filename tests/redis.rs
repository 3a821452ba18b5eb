//! Sessions in Redis: faults, prefixes, certificates, and the line on which revocations travel.
