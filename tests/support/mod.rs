//! What several capabilities need to be tested.

pub mod databases;
