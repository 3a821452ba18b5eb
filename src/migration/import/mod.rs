//! Moving everybody at once: what an old system's export says of its users, what becomes of each, and the proof afterwards.
//!
//! All of it is pure: exports are read from bytes that are given, and whatever is written is written by a [`crate::store`].

pub mod assessment;
pub mod outcome;
pub mod record;
pub mod target;
