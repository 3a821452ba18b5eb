//! Password hashes, through `password::check`.
