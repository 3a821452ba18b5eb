//! Moving everybody at once: what an old system's export says of its users, what becomes of each, and the proof afterwards.
//!
//! All of it is pure: exports are read from bytes that are given, and whatever is written is written by a [`crate::store`].

pub mod assessment;
pub mod decide;
pub mod normalise;
pub mod outcome;
pub mod pages;
pub mod prepare;
pub mod read;
pub mod record;
pub mod source;
pub mod target;
