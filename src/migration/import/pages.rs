//! The pages of an old system's API, described and not fetched: a listing says its first page, what came of an answer, and the next
//! page as data. One runner at the edge does rate limits, retries and cursors for all of them.

use http::HeaderMap;
use serde_json::Value;

use crate::migration::dialogue::{Answer, Ask};
use crate::migration::provider::Limit;

/// Share of a vendor's limit that is used, in percent: others use the same key, and a limit that is met slows everybody down.
pub const SHARE_PERCENT: u32 = 80;

/// Longest answer of a listing that is read, in bytes. A page holds up to 1000 users with their metadata.
pub const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where a listing stands: text of the listing's own, empty at the beginning. It is what an import that goes on starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub String);

impl Cursor {
    /// The position as a number: how many were read. 0 at the beginning.
    pub fn offset(&self) -> u64 {
        self.0.parse().unwrap_or(0)
    }

    /// The token, where there is one.
    pub fn token(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|token| !token.is_empty())
    }
}

/// What an answer holds: where the listing stood, the body, the headers (some systems name the next page there).
pub type ReadPage = fn(&Cursor, &Value, &HeaderMap) -> Result<Page, &'static str>;

/// The request for the page at a cursor.
pub type AskPage = Box<dyn Fn(&Cursor) -> Ask + Send + Sync>;

/// The same, of the entry of this id.
pub type AskEach = Box<dyn Fn(&str, &Cursor) -> Ask + Send + Sync>;

/// One listing.
pub struct Listing {
    /// The input its entries go to.
    pub input: &'static str,
    /// Its path, for reports.
    pub name: &'static str,
    /// Most requests in a time, already our share of the vendor's limit.
    pub rate: Limit,
    /// The request for the page at a cursor.
    pub ask: AskPage,
    /// What an answer holds.
    pub page: ReadPage,
    /// Its pages are counted off: whoever leaves while they are read shifts the others, and somebody stands on no page. Walk it until
    /// nobody new turns up.
    pub shifts: bool,
    /// What is asked besides for each of its entries.
    pub each: Vec<Each>,
}

/// What is asked for each entry of a listing: the accounts elsewhere of a user, the members of an organization.
pub struct Each {
    /// The input the answers go to. Their table is the id of the entry they were asked for.
    pub input: &'static str,
    /// Its path, for reports.
    pub name: &'static str,
    /// The id to ask for; `None`: nothing is asked for this entry.
    pub of: fn(&Value) -> Option<String>,
    /// The request for the page at a cursor.
    pub ask: AskEach,
    /// What an answer holds.
    pub page: ReadPage,
}

/// One page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// What stands on it.
    pub entries: Vec<Value>,
    /// Where the next one is; `None`: this was the last.
    pub next: Option<Cursor>,
    /// How many there are in all, where the answer says so.
    pub total: Option<u64>,
}

/// What to do about an answer that is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Wait as long as the answer says, or longer each time, then ask again.
    Later,
    /// The key is not accepted: stop, and keep the cursor.
    Forbidden,
    /// Nothing is there: for an entry's own listing that is an empty page.
    Missing,
    /// It makes no sense: stop.
    Nonsense,
}

/// Whether an answer may hold a page.
pub fn trouble(answer: &Answer) -> Option<Trouble> {
    match answer.status {
        200..=299 => None,
        408 | 425 | 429 | 500..=599 => Some(Trouble::Later),
        401 | 403 => Some(Trouble::Forbidden),
        404 | 410 => Some(Trouble::Missing),
        _ => Some(Trouble::Nonsense),
    }
}

/// Our share of a vendor's limit.
pub const fn share(most: u32, within: std::time::Duration) -> Limit {
    let most = most * SHARE_PERCENT / 100;
    Limit {
        most: if most == 0 { 1 } else { most },
        within,
    }
}

/// A page that is a list, or has one in a member; read by how many came before. The page is the last when it is shorter than was asked.
pub fn by_offset(
    cursor: &Cursor,
    answer: &Value,
    list: &str,
    asked: usize,
) -> Result<Page, &'static str> {
    let entries = answer.pointer(list).and_then(Value::as_array);
    let entries = entries
        .ok_or("no list stands where one was expected")?
        .clone();
    let read = cursor.offset() + entries.len() as u64;
    Ok(Page {
        next: (entries.len() >= asked).then(|| Cursor(read.to_string())),
        total: ["/total_count", "/total"]
            .iter()
            .find_map(|at| answer.pointer(at)?.as_u64()),
        entries,
    })
}

/// A page that names the next one by a token in a member.
pub fn by_token(answer: &Value, list: &str, token: &str) -> Result<Page, &'static str> {
    let entries = answer.pointer(list).and_then(Value::as_array);
    let entries = entries
        .ok_or("no list stands where one was expected")?
        .clone();
    let next = match answer.pointer(token) {
        Some(Value::String(token)) if !token.is_empty() => Some(Cursor(token.clone())),
        _ => None,
    };
    Ok(Page {
        entries,
        next,
        total: None,
    })
}
