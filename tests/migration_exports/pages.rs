//! Pages of APIs, described and not fetched.
