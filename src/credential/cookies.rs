//! Reading the `Cookie` header the way Better Auth's endpoints do.
//!
//! Source: better-call 1.x, cookies.ts, `parseCookies`; golden data in `tests/golden/get-session-cookie.json`
//! (the column `parser_endpoint`) and `tests/golden/signed-cookies.json`.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::COOKIE;

/// Every `name=value` pair of every `Cookie` line, in the order sent, values still encoded. HTTP/2 may split one header into
/// several lines.
pub fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| pieces(line.as_bytes()))
        .filter_map(pair)
}

/// The first cookie called `name`, decoded. A later one of the same name never counts: a sibling domain can add it. An empty
/// value is as good as none.
pub fn find<'h>(headers: &'h HeaderMap, name: &str) -> Option<Cow<'h, [u8]>> {
    find_raw(headers, name)
        .map(decode)
        .filter(|text| !text.is_empty())
}

/// The same, still encoded.
pub fn find_raw<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    pairs(headers)
        .find(|(found, _)| *found == name.as_bytes())
        .map(|(_, raw)| raw)
}

/// Every pair as the framework's helpers read them (numbered chunks are read this way): with one kind of quotes, and without names
/// and values that RFC 6265 does not have. Of several with one name the last counts there.
///
/// Source: better-auth 1.7, cookies/cookie-utils.ts, `parseCookies`.
pub fn pairs_as_helpers_read(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&b| b == b';'))
        .filter_map(|piece| {
            let equals = piece.iter().position(|&b| b == b'=')?;
            let (name, value) = piece.split_at(equals);
            let (name, value) = (blanks_off(name), blanks_off(value.get(1..)?));
            let value = match value {
                [b'"', inside @ .., b'"'] => inside,
                _ => value,
            };
            let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
            let octet = |b: &u8| matches!(b, 0x20..=0x7e) && !b"\";\\".contains(b);
            let fine = !name.is_empty() && name.iter().all(token) && value.iter().all(octet);
            fine.then_some((name, value))
        })
}

/// Decodes percent escapes once; when one is broken, or the result is not UTF-8, the text stays as it is.
pub fn decode_escapes(text: &[u8]) -> Cow<'_, [u8]> {
    crate::percent::decode(text).unwrap_or(Cow::Borrowed(text))
}

/// Takes spaces and tabs off both ends.
fn blanks_off(text: &[u8]) -> &[u8] {
    let mut text = text;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// What stands between semicolons. Cookies are long, and looked through on every request.
fn pieces(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let end = memchr::memchr(b';', line);
        rest = end.and_then(|end| line.get(end + 1..));
        line.get(..end.unwrap_or(line.len()))
    })
}

fn pair(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = piece.iter().position(|&b| b == b'=')?;
    let (name, value) = piece.split_at(equals);
    Some((trim(name), trim(value.get(1..).unwrap_or_default())))
}

/// White space as JavaScript's `trim` sees it, as far as it can stand in a header as single bytes.
fn trim(text: &[u8]) -> &[u8] {
    // 0xa0: Node reads headers as Latin-1, where it is a no-break space.
    let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0xa0);
    let start = text.iter().position(|b| !blank(b)).unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|b| !blank(b))
        .map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// Takes the first and last letter off a value that begins with a quote (even when the last is none), then decodes percent
/// escapes once; when any escape is broken, or the result is not UTF-8, the text stays as it is.
pub fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    let text = match raw {
        [b'"', rest @ ..] => rest.get(..rest.len().saturating_sub(1)).unwrap_or_default(),
        _ => raw,
    };
    crate::percent::decode(text).unwrap_or(Cow::Borrowed(text))
}
