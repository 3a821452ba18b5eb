//! From a credential to a resolution.
