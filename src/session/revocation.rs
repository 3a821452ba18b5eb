//! Revocations seen passing by.
