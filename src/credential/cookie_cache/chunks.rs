//! A value too long for one cookie stands in several, numbered from zero.
//!
//! Source: better-auth 1.7, packages/better-auth/src/cookies/session-store.ts (`getChunkedCookie`, `chunkCookie`) and
//! cookie-utils.ts (`parseCookies`); golden data in `tests/golden/cookie-cache.json`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::HeaderMap;

use crate::credential::cookies;
use crate::credential::names::CookieSpec;

/// Most bytes of one cookie as it is set, attributes included: Safari keeps the least, 4093, and the framework stays below it.
const COOKIE_BYTES_MAX: usize = 4050;

/// Most chunks the framework writes, and so most that are read.
const CHUNKS_MAX: usize = 100;

/// Longest value put together. A Node server refuses headers over 16 KiB unless told otherwise; this leaves room for those told.
const VALUE_BYTES_MAX: usize = 128 * 1024;

/// The value of the cookie called `name`, or of its chunks. Nothing is checked but its size.
pub fn read<'h>(headers: &'h HeaderMap, name: &str) -> Option<Cow<'h, [u8]>> {
    let whole = cookies::find(headers, name);
    if let Some(value) = whole {
        return (value.len() <= VALUE_BYTES_MAX).then_some(value);
    }
    let mut chunks = BTreeMap::new();
    // Chunks are read by another parser of the framework: the last one of a name counts.
    for (found, value) in cookies::pairs_as_helpers_read(headers) {
        let Some(index) = index(found, name) else {
            continue;
        };
        chunks.insert(index, value);
        if chunks.len() > CHUNKS_MAX {
            return None;
        }
    }
    let mut whole = Vec::new();
    for value in chunks.into_values() {
        whole.extend_from_slice(&cookies::decode_escapes(value));
        if whole.len() > VALUE_BYTES_MAX {
            return None;
        }
    }
    (!whole.is_empty()).then_some(Cow::Owned(whole))
}

/// The names among a request's cookies that belong to the cookie called `name`: itself and its chunks, each once.
pub fn names_sent(headers: &HeaderMap, name: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (found, _) in cookies::pairs_as_helpers_read(headers) {
        if found != name.as_bytes() && index(found, name).is_none() {
            continue;
        }
        let Ok(found) = std::str::from_utf8(found) else {
            continue;
        };
        if !names.iter().any(|known| known == found) && names.len() <= CHUNKS_MAX {
            names.push(found.to_owned());
        }
    }
    names
}

/// The `Set-Cookie` texts that put `value` into the cookie, whole or in chunks, and remove what is left of older ones. Nothing but
/// removals when it is too long even for chunks.
pub fn write(spec: &CookieSpec, value: &str, request: &HeaderMap) -> Vec<String> {
    // The framework measures with the longest name a chunk can have.
    let overhead = spec
        .named(&format!("{}.99", spec.name))
        .set_cookie("")
        .len();
    let room = COOKIE_BYTES_MAX.saturating_sub(overhead);
    let pieces: Vec<&[u8]> = match room {
        0 => Vec::new(),
        room => value.as_bytes().chunks(room).collect(),
    };
    let mut set: Vec<(String, &[u8])> = Vec::new();
    match pieces.as_slice() {
        [] => {}
        [whole] => set.push((spec.name.clone(), whole)),
        pieces if pieces.len() <= CHUNKS_MAX => {
            let numbered = pieces.iter().enumerate();
            set.extend(numbered.map(|(index, piece)| (format!("{}.{index}", spec.name), *piece)));
        }
        _ => {}
    }
    let stale = names_sent(request, &spec.name)
        .into_iter()
        .filter(|name| set.iter().all(|(kept, _)| kept != name))
        .map(|name| spec.named(&name).clear());
    let mut lines: Vec<String> = stale.collect();
    lines.extend(set.iter().map(|(name, piece)| {
        // Every strategy writes letters, digits, `-`, `_` and `.` only.
        let piece = String::from_utf8_lossy(piece);
        spec.named(name)
            .set_cookie(&crate::percent::encode_component(&piece))
    }));
    lines
}

/// The number of a chunk of the cookie called `name`, written without leading zeros.
fn index(found: &[u8], name: &str) -> Option<u64> {
    /// The largest whole number JavaScript keeps apart from its neighbours.
    const LARGEST: u64 = (1 << 53) - 1;
    let suffix = found.strip_prefix(name.as_bytes())?.strip_prefix(b".")?;
    let canonical = suffix == b"0" || !suffix.starts_with(b"0");
    let digits = !suffix.is_empty() && suffix.iter().all(u8::is_ascii_digit);
    (canonical && digits)
        .then(|| std::str::from_utf8(suffix).ok()?.parse().ok())?
        .filter(|index| *index <= LARGEST)
}
