//! Where sessions are looked up: the app's own database.
