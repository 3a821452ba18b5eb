//! Cookies of old systems: one value, a value in numbered pieces, and the lines that take them away again.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::Refusal;
use crate::credential::cookies;

/// Longest value read, put together. Node refuses headers over 16 KiB unless told otherwise; this leaves room for those told.
const VALUE_BYTES_MAX: usize = 128 * 1024;

/// Most pieces of one value. The libraries write fewer than twenty.
const PIECES_MAX: usize = 50;

/// Most cookies cleared in one answer, each by up to three lines.
const CLEARED_MAX: usize = 60;

/// The cookie of this name, decoded; an empty one is none. Two with different contents are refused: a sibling domain can add one, and
/// whose session it is must not depend on their order.
pub fn one(headers: &HeaderMap, name: &str) -> Result<Option<String>, Refusal> {
    let mut values = cookies::pairs(headers)
        .filter(|(found, _)| *found == name.as_bytes())
        .map(|(_, value)| value);
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.any(|value| value != first) {
        return Err(Refusal::Ambiguous);
    }
    decode(first)
}

fn decode(raw: &[u8]) -> Result<Option<String>, Refusal> {
    if raw.len() > VALUE_BYTES_MAX {
        return Err(Refusal::Malformed);
    }
    let text = String::from_utf8(cookies::decode(raw).into_owned());
    let text = text.map_err(|_| Refusal::Malformed)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// The cookie of this name, or what its pieces make together: `NAME.0`, `NAME.1` ... (or what else stands between), put in order by
/// their numbers.
pub fn pieces(
    headers: &HeaderMap,
    name: &str,
    separators: &[&str],
) -> Result<Option<String>, Refusal> {
    if let Some(whole) = one(headers, name)? {
        return Ok(Some(whole));
    }
    for separator in separators {
        let mut found: BTreeMap<usize, &[u8]> = BTreeMap::new();
        for (sent, value) in cookies::pairs(headers) {
            let Some(number) = number(sent, name, separator) else {
                continue;
            };
            if found
                .insert(number, value)
                .is_some_and(|other| other != value)
            {
                return Err(Refusal::Ambiguous);
            }
        }
        let mut whole = String::new();
        for value in found.into_values() {
            whole.push_str(&decode(value)?.unwrap_or_default());
            if whole.len() > VALUE_BYTES_MAX {
                return Err(Refusal::Malformed);
            }
        }
        if !whole.is_empty() {
            return Ok(Some(whole));
        }
    }
    Ok(None)
}

/// Whether a cookie is the one of this name, or a piece of it.
pub fn belongs(sent: &[u8], name: &str, separators: &[&str]) -> bool {
    sent == name.as_bytes()
        || separators
            .iter()
            .any(|separator| number(sent, name, separator).is_some())
}

/// The number of a piece, written without leading zeros.
fn number(sent: &[u8], name: &str, separator: &str) -> Option<usize> {
    let digits = sent
        .strip_prefix(name.as_bytes())?
        .strip_prefix(separator.as_bytes())?;
    let plain = digits == b"0" || !digits.starts_with(b"0");
    if digits.is_empty() || digits.len() > 3 || !plain || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number < PIECES_MAX).then_some(number)
}

/// `Set-Cookie` lines that clear every cookie of the request `leaves` names: on the host, and on the host and its parent as domains, for
/// nobody can tell from a request where a cookie was set.
pub fn clear(headers: &HeaderMap, host: &str, leaves: impl Fn(&[u8]) -> bool) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in cookies::pairs(headers) {
        let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
        if name.is_empty() || !name.iter().all(token) || !leaves(name) {
            continue;
        }
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        if !names.contains(&name) && names.len() < CLEARED_MAX {
            names.push(name);
        }
    }
    let domains = domains(host);
    let mut lines = Vec::new();
    for name in names {
        // A browser only takes these names with `Secure`, and `__Host-` only without a domain.
        let bound = name.to_ascii_lowercase().starts_with("__host-");
        let secure = bound || name.to_ascii_lowercase().starts_with("__secure-");
        let line = |domain: &str| {
            let domain = match domain {
                "" => String::new(),
                domain => format!("; Domain={domain}"),
            };
            let secure = if secure { "; Secure" } else { "" };
            format!(
                "{name}=; Path=/{domain}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT{secure}"
            )
        };
        lines.push(line(""));
        if !bound {
            lines.extend(domains.iter().map(|domain| line(domain)));
        }
    }
    lines
}

/// The host and its parent, as domains of cookies. None for an address, and no parent of a name in two parts.
fn domains(host: &str) -> Vec<&str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let numeric = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !name.contains('.') || numeric || !name.bytes().all(letter) {
        return Vec::new();
    }
    let mut domains = vec![name];
    if let Some((_, parent)) = name.split_once('.')
        && parent.contains('.')
    {
        domains.push(parent);
    }
    domains
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(http::header::COOKIE, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn one_name_with_one_content_is_read_however_often_it_is_sent() {
        assert_eq!(one(&sent(&["a=1; b=2; a=1"]), "a"), Ok(Some("1".into())));
        assert_eq!(one(&sent(&["a=%31"]), "a"), Ok(Some("1".into())));
        assert_eq!(one(&sent(&["a="]), "a"), Ok(None));
        assert_eq!(one(&sent(&["b=1"]), "a"), Ok(None));
    }

    #[test]
    fn two_contents_of_one_name_are_refused() {
        assert_eq!(one(&sent(&["a=1", "a=2"]), "a"), Err(Refusal::Ambiguous));
        let twice = sent(&["a.0=1; a.1=2; a.0=3"]);
        assert_eq!(pieces(&twice, "a", &["."]), Err(Refusal::Ambiguous));
    }

    #[test]
    fn pieces_are_put_in_order_by_their_numbers() {
        let many: Vec<String> = (0..12).rev().map(|n| format!("a.{n}={n};")).collect();
        let headers = sent(&[&many.concat()]);
        let whole = pieces(&headers, "a", &["."]).unwrap().unwrap();
        assert_eq!(whole, "01234567891011");
        let other = sent(&["a__1=y; a__0=x; a.00=z; a.50=z; a.x=z"]);
        assert_eq!(pieces(&other, "a", &[".", "__"]), Ok(Some("xy".into())));
    }

    #[test]
    fn a_cookie_is_cleared_on_the_host_and_its_parent_as_its_name_allows() {
        let headers = sent(&["s=1; __Secure-s=1; __Host-s=1; other=1"]);
        let lines = clear(&headers, "app.example.com:8443", |name| {
            name.ends_with(b"s")
        });
        let end = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        assert_eq!(
            lines,
            [
                format!("s=; Path=/; {end}"),
                format!("s=; Path=/; Domain=app.example.com; {end}"),
                format!("s=; Path=/; Domain=example.com; {end}"),
                format!("__Secure-s=; Path=/; {end}; Secure"),
                format!("__Secure-s=; Path=/; Domain=app.example.com; {end}; Secure"),
                format!("__Secure-s=; Path=/; Domain=example.com; {end}; Secure"),
                format!("__Host-s=; Path=/; {end}; Secure"),
            ]
        );
        assert_eq!(clear(&headers, "example.com", |name| name == b"s").len(), 2);
        for host in ["localhost", "127.0.0.1:80", "[::1]:80", "a.b\r\nX: y"] {
            assert_eq!(
                clear(&headers, host, |name| name == b"s").len(),
                1,
                "{host}"
            );
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(32_u8..127, 0..80)) {
            if let Ok(value) = http::HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.append(http::header::COOKIE, value);
                let _ = (one(&headers, "a"), pieces(&headers, "a", &["."]));
                let _ = clear(&headers, "a.example.com", |_| true);
            }
        }
    }
}
