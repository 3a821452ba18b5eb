//! The ways out: users as another system takes them, and the file they leave in.
//!
//! A native hash can be written in another system's form without knowing the password, because its salt is used as text. What NFKC
//! changes of a password does not fit afterwards: others hash it as it is typed.

pub mod age;
pub mod roster;
pub mod rows;

mod form;

pub use form::{Form, line};
