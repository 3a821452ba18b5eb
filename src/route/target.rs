//! The request target: one spelling, checked once, matched and forwarded as it is.

/// A request target in origin form whose readings do not contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'r> {
    raw: &'r str,
    path: &'r str,
    query: Option<&'r str>,
}

impl<'r> Target<'r> {
    /// Path and query as received.
    pub fn as_str(&self) -> &'r str {
        self.raw
    }
    /// The path as received, not decoded.
    pub fn path(&self) -> &'r str {
        self.path
    }
    /// The query as received, without `?`.
    pub fn query(&self) -> Option<&'r str> {
        self.query
    }
    /// Whether it asks for the data of a page (`/_next/data/…`), by any spelling.
    pub fn is_next_data(&self) -> bool {
        self.path.contains("/_next/data/")
    }
    /// Whether it asks the image optimizer.
    pub fn is_next_image(&self) -> bool {
        self.path.ends_with("/_next/image")
    }
}
