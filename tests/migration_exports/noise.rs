//! No bytes are too odd.
