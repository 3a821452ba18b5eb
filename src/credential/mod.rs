//! What a request presents, still unproven.

pub mod cookies;
pub mod names;
pub mod secrets;
