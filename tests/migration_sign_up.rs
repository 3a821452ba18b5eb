//! New accounts while the old system still has some of its own.
