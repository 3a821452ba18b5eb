//! Bytes for the eyes of an operator: escaped, bounded, and without anybody's session.

use crate::secret::Secret;

/// Bytes of one request that are shown; what is longer is long on purpose, and says nothing new.
const SHOWN_BYTES_MAX: usize = 1200;

/// Shows bytes, and hides secrets in them.
pub struct Shower {
    hidden: Vec<Secret>,
}

impl Shower {
    /// Hides the values of these cookies.
    pub fn new<'s>(cookies: impl IntoIterator<Item = &'s Secret>) -> Self {
        let mut hidden: Vec<Secret> = Vec::new();
        for cookie in cookies {
            for pair in cookie.expose().split(';') {
                let value = pair.split_once('=').map_or(pair, |(_, value)| value).trim();
                // The token before the signature is worth something on its own: bearers present it so.
                let decoded = value
                    .replace("%2B", "+")
                    .replace("%2F", "/")
                    .replace("%3D", "=");
                let token = value.split('.').next().unwrap_or_default();
                for part in [value, &decoded, token] {
                    // Two letters are no secret, and stand everywhere.
                    if part.len() > 2 && !hidden.iter().any(|known| known.expose() == part) {
                        hidden.push(Secret::new(part));
                    }
                }
            }
        }
        hidden.sort_by_key(|part| std::cmp::Reverse(part.expose().len()));
        Self { hidden }
    }

    /// A text without the secrets.
    pub fn text(&self, text: &str) -> String {
        self.hidden.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.expose(), "***")
        })
    }

    /// Bytes as a literal: what is no visible ASCII is escaped.
    pub fn bytes(&self, bytes: &[u8]) -> String {
        // Hidden first: a cut in the middle of a secret would leave half of it.
        let whole: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let whole = self.text(&whole);
        let mut shown = String::new();
        for letter in whole.chars().take(SHOWN_BYTES_MAX) {
            match letter {
                '\r' => shown.push_str("\\r"),
                '\n' => shown.push_str("\\n"),
                '\t' => shown.push_str("\\t"),
                '\\' => shown.push_str("\\\\"),
                ' '..='~' => shown.push(letter),
                other => shown.push_str(&format!("\\x{:02x}", u32::from(other))),
            }
        }
        if whole.chars().count() > SHOWN_BYTES_MAX {
            shown.push_str(&format!("… ({} bytes)", bytes.len()));
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_value_of_a_cookie_nor_its_token_is_shown() {
        let cookie = Secret::new("better-auth.session_token=token123.c2ln%3D; b=1; c=four4");
        let shower = Shower::new([&cookie]);
        let sent = b"GET / HTTP/1.1\r\nCookie: better-auth.session_token=token123.c2ln%3D; b=1; c=four4\r\nAuthorization: Bearer token123\r\nX: token123.c2ln=\r\n\r\n\xff\0\\";
        let shown = shower.bytes(sent);
        assert_eq!(
            shown,
            "GET / HTTP/1.1\\r\\nCookie: better-auth.session_token=***; b=1; c=***\\r\\nAuthorization: Bearer ***\\r\\nX: ***\\r\\n\\r\\n\\xff\\x00\\\\"
        );
        let long = format!("{}token123", "a".repeat(SHOWN_BYTES_MAX - 2));
        assert!(!shower.bytes(long.as_bytes()).contains("toke"));
        assert!(shower.bytes(long.as_bytes()).ends_with("bytes)"));
    }
}
