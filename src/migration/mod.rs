//! Everything that moves users in from an old auth system, without a socket or a clock: what their password hashes are, what may be
//! asked of the old system, what its live sessions prove, and where each user stands.
//!
//! ```text
//!  sign-in ──▶ plan: native ▸ old hash ▸ the old system, asked once ▸ reset by mail
//!  first contact ──▶ bridge: a live old session ▸ a session of Better Auth
//! ```
//!
//! `server/migration/` carries it out on the way of a request; `store/` implements [`accounts::Accounts`].

pub mod accounts;
pub mod attempt;
pub mod bridge;
pub mod control;
pub mod dialogue;
pub mod failure;
pub mod guard;
pub mod import;
pub mod leaving;
pub mod limits;
pub mod origin;
pub mod password;
pub mod provider;
pub mod second_factor;
pub mod sign_in;
pub mod sign_up;
pub mod state;
pub mod success;
pub mod vault;
