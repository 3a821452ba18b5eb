//! PHP's own format of values, as far as sessions need it.
//!
//! Source: php-src, ext/standard/var.c. Nothing is made of objects: their place holds nothing, and no class is ever named.

use serde_json::{Map, Number, Value};

/// Deepest nesting read.
const DEPTH_MAX: usize = 32;

/// Most values read: a session that holds more is nobody's idea of a session.
const VALUES_MAX: usize = 10_000;

/// Longest text read.
const BYTES_MAX: usize = 256 * 1024;

/// The value in a text; arrays become objects keyed by text. `None`: it is in no such form, or larger than a session is.
pub fn parse(text: &[u8]) -> Option<Value> {
    if text.len() > BYTES_MAX {
        return None;
    }
    let mut reader = Reader {
        rest: text,
        left: VALUES_MAX,
    };
    let value = reader.value(0)?;
    reader.rest.is_empty().then_some(value)
}

struct Reader<'t> {
    rest: &'t [u8],
    left: usize,
}

impl<'t> Reader<'t> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let (kind, rest) = self.rest.split_first()?;
        self.rest = rest;
        match kind {
            b'N' => {
                self.expect(b";")?;
                Some(Value::Null)
            }
            b'b' => Some(Value::Bool(self.number(b';')? != 0)),
            b'i' => Some(self.number(b';')?.into()),
            b'd' => {
                let text = self.until(b';')?;
                let number = std::str::from_utf8(text).ok()?.parse().ok();
                Some(
                    number
                        .and_then(Number::from_f64)
                        .map_or(Value::Null, Value::Number),
                )
            }
            b's' => {
                let text = self.text()?;
                self.expect(b";")?;
                Some(Value::String(String::from_utf8_lossy(text).into_owned()))
            }
            b'a' => self.entries(depth).map(Value::Object),
            b'O' => {
                self.text()?;
                self.entries(depth)?;
                Some(Value::Null)
            }
            b'C' => {
                self.text()?;
                let length = usize::try_from(self.number(b':')?).ok()?;
                self.expect(b"{")?;
                self.take(length)?;
                self.expect(b"}")?;
                Some(Value::Null)
            }
            b'E' => {
                self.text()?;
                self.expect(b";")?;
                Some(Value::Null)
            }
            b'r' | b'R' => {
                self.number(b';')?;
                Some(Value::Null)
            }
            _ => None,
        }
    }

    /// `:N:{key value ...}`
    fn entries(&mut self, depth: usize) -> Option<Map<String, Value>> {
        let count = usize::try_from(self.number(b':')?).ok()?;
        self.expect(b"{")?;
        let mut entries = Map::new();
        // The count is a claim: what is there ends the loop, and `left` bounds it.
        for _ in 0..count {
            let key = match self.value(depth + 1)? {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            entries.insert(key, self.value(depth + 1)?);
        }
        self.expect(b"}")?;
        Some(entries)
    }

    /// `:N:"bytes"`
    fn text(&mut self) -> Option<&'t [u8]> {
        let length = usize::try_from(self.number(b':')?).ok()?;
        self.expect(b"\"")?;
        let text = self.take(length)?;
        self.expect(b"\"")?;
        Some(text)
    }

    /// `:N` and what ends it.
    fn number(&mut self, end: u8) -> Option<i64> {
        let digits = self.until(end)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// `:` and what stands before `end`.
    fn until(&mut self, end: u8) -> Option<&'t [u8]> {
        self.expect(b":")?;
        let length = self.rest.iter().take(64).position(|b| *b == end)?;
        let text = self.take(length)?;
        self.take(1)?;
        Some(text)
    }

    fn expect(&mut self, what: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(what)?;
        Some(())
    }

    fn take(&mut self, length: usize) -> Option<&'t [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_sessions_hold_is_read() {
        let text = br#"a:6:{s:6:"_token";s:1:"x";i:3;i:-7;s:1:"b";b:1;s:1:"n";N;s:1:"d";d:0.5;s:1:"o";O:8:"stdClass":1:{s:1:"p";a:0:{}}}"#;
        let value = parse(text).unwrap();
        let expected = json!({"_token": "x", "3": -7, "b": true, "n": null, "d": 0.5, "o": null});
        assert_eq!(value, expected);
        assert_eq!(
            parse("s:4:\"\u{e9}\u{e9}\";".as_bytes()),
            Some(json!("\u{e9}\u{e9}"))
        );
    }

    #[test]
    fn hostile_texts_end_quickly() {
        let deep = "a:1:{i:0;".repeat(5000);
        for text in [
            deep.as_str(),
            "a:999999999:{}",
            "s:99999999999999999999:\"x\";",
            "s:5:\"x\";",
            "i:1;i:2;",
            "a:-1:{}",
            "x",
            "",
        ] {
            assert_eq!(parse(text.as_bytes()), None);
        }
        let many = format!("a:20000:{{{}}}", "i:0;N;".repeat(20_000));
        assert_eq!(parse(many.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn noise_never_panics(text in "[abisdNOCErR:;{}\"0-9x-]{0,60}") {
            let _ = parse(text.as_bytes());
        }
    }
}
