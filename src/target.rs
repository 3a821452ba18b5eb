//! The request target: one spelling, checked once, matched and forwarded as it is.

use std::borrow::Cow;

use crate::percent;

/// Bytes a target may have. Node's whole header block ends at 16 KiB, so a longer one reaches no app.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;

/// A request target in origin form whose readings do not contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'r> {
    raw: &'r str,
    path: &'r str,
    query: Option<&'r str>,
    spelling: Spelling,
}

/// What the path holds that makes it readable in more than one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spelling {
    /// `%`: there is a decoded reading.
    pub(super) escapes: bool,
    /// `;`, as such or encoded: there is a reading without parameters.
    pub(super) parameters: bool,
    /// An encoded slash or backslash: readings must agree.
    pub(super) encoded_separator: bool,
    /// A segment that begins with `(`, as such or encoded: it may stand for a page elsewhere.
    pub(super) interception: bool,
}

/// Why a target is not answered: what is behind us might read it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum Ambiguity {
    /// Longer than [`TARGET_BYTES_MAX`].
    TooLong,
    /// `http://host/…`, `host:port`, `*`, or nothing at all: not a path.
    NotOriginForm,
    /// A `#`.
    Fragment,
    /// A backslash in the path.
    Backslash,
    /// Two slashes in a row, as such, after decoding, or once parameters are taken away.
    EmptySegment,
    /// `.` or `..` as a segment, by any spelling.
    DotSegment,
    /// A control byte, as such or encoded.
    ControlByte,
    /// A space.
    Space,
    /// A byte outside ASCII that is not percent-encoded.
    NonAscii,
    /// `%` without two hexadecimal digits.
    BadEscape,
    /// What the escapes stand for is not UTF-8.
    BadUtf8,
    /// An encoded slash or backslash, and the readings lead to different rules.
    EncodedSeparator,
    /// More readings than anyone needs.
    TooManyReadings,
}

impl Ambiguity {
    /// Every one there is.
    pub const ALL: [Self; 13] = [
        Self::TooLong,
        Self::NotOriginForm,
        Self::Fragment,
        Self::Backslash,
        Self::EmptySegment,
        Self::DotSegment,
        Self::ControlByte,
        Self::Space,
        Self::NonAscii,
        Self::BadEscape,
        Self::BadUtf8,
        Self::EncodedSeparator,
        Self::TooManyReadings,
    ];

    /// The word in logs, metrics and `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "target_too_long",
            Self::NotOriginForm => "target_not_a_path",
            Self::Fragment => "fragment_in_target",
            Self::Backslash => "backslash_in_path",
            Self::EmptySegment => "empty_path_segment",
            Self::DotSegment => "dot_path_segment",
            Self::ControlByte => "control_byte_in_target",
            Self::Space => "space_in_target",
            Self::NonAscii => "unencoded_byte_in_target",
            Self::BadEscape => "bad_percent_escape",
            Self::BadUtf8 => "path_not_utf8",
            Self::EncodedSeparator => "encoded_separator_changes_route",
            Self::TooManyReadings => "too_many_path_readings",
        }
    }

    /// What the operator can do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::TooLong => "shorten the address, or move the data into the body",
            Self::NotOriginForm => "send a path; a forward proxy must not be put in front",
            Self::EncodedSeparator => {
                "give the plain and the decoded path the same rule, or send the value in the query"
            }
            Self::Fragment
            | Self::Backslash
            | Self::EmptySegment
            | Self::DotSegment
            | Self::ControlByte
            | Self::Space
            | Self::NonAscii
            | Self::BadEscape
            | Self::BadUtf8
            | Self::TooManyReadings => "send the path in its canonical form, percent-encoded once",
        }
    }
}

impl<'r> Target<'r> {
    /// Reads a target as it stands in the request line.
    ///
    /// # Errors
    /// Refuses everything two servers might read as two different paths.
    pub fn parse(raw: &'r [u8]) -> Result<Self, Ambiguity> {
        if raw.len() > TARGET_BYTES_MAX {
            return Err(Ambiguity::TooLong);
        }
        if raw.first() != Some(&b'/') {
            return Err(Ambiguity::NotOriginForm);
        }
        let mut spelling = Spelling::default();
        let mut suspicious = false;
        let mut previous = 0;
        let mut question = None;
        for (index, &byte) in raw.iter().enumerate() {
            match byte {
                b'#' => return Err(Ambiguity::Fragment),
                b' ' => return Err(Ambiguity::Space),
                0..0x20 | 0x7f => return Err(Ambiguity::ControlByte),
                0x80.. => return Err(Ambiguity::NonAscii),
                _ if question.is_some() => {}
                b'?' => question = Some(index),
                b'\\' => return Err(Ambiguity::Backslash),
                b'/' if previous == b'/' => return Err(Ambiguity::EmptySegment),
                b'.' if previous == b'/' => suspicious = true,
                b'(' if previous == b'/' => spelling.interception = true,
                b'%' => spelling.escapes = true,
                b';' => spelling.parameters = true,
                _ => {}
            }
            previous = byte;
        }
        // Every byte is ASCII: those outside returned above.
        let raw = std::str::from_utf8(raw).map_err(|_| Ambiguity::NonAscii)?;
        let (path, query) = match question.and_then(|at| Some((raw.get(..at)?, raw.get(at + 1..)?)))
        {
            Some((path, query)) => (path, Some(query)),
            None => (raw, None),
        };
        if suspicious || spelling.escapes || spelling.parameters {
            check_decoded(path, &mut spelling)?;
        }
        Ok(Self {
            raw,
            path,
            query,
            spelling,
        })
    }

    /// The target of `OPTIONS *`: it names no path, so only the default rule can apply to it.
    pub const fn asterisk() -> Target<'static> {
        Target {
            raw: "*",
            path: "*",
            query: None,
            spelling: Spelling {
                escapes: false,
                parameters: false,
                encoded_separator: false,
                interception: false,
            },
        }
    }

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
    /// The path with its escapes decoded once.
    pub fn decoded_path(&self) -> Cow<'r, str> {
        if self.spelling.escapes {
            decode(self.path).map_or(Cow::Borrowed(self.path), Cow::Owned)
        } else {
            Cow::Borrowed(self.path)
        }
    }
    /// Whether it asks for the data of a page (`/_next/data/…`), by any spelling, below any base path or locale.
    pub fn is_next_data(&self) -> bool {
        self.decoded_path().contains("/_next/data/")
    }
    /// Whether it may ask the image optimizer: by any spelling, below any base path or locale, and as the data of a page, which it
    /// answers too (`/_next/data/<build>/_next/image.json`). What only begins like it counts: that adds the rule of a picture and takes
    /// none away.
    pub fn is_next_image(&self) -> bool {
        self.decoded_path().contains("/_next/image")
    }
    pub(super) fn spelling(&self) -> Spelling {
        self.spelling
    }
}

fn decode(path: &str) -> Option<String> {
    String::from_utf8(percent::decode(path.as_bytes())?.into_owned()).ok()
}

/// Looks at what the path becomes when it is decoded, and when parameters are cut off.
fn check_decoded(path: &str, spelling: &mut Spelling) -> Result<(), Ambiguity> {
    let bytes = path.as_bytes();
    for (index, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'%') {
        let digit = |offset: usize| bytes.get(index + offset).is_some_and(u8::is_ascii_hexdigit);
        if !digit(1) || !digit(2) {
            return Err(Ambiguity::BadEscape);
        }
    }
    let decoded = decode(path).ok_or(Ambiguity::BadUtf8)?;
    if decoded.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err(Ambiguity::ControlByte);
    }
    spelling.parameters |= decoded.contains(';');
    spelling.interception |= decoded.contains("/(") || decoded.contains("\\(");
    let separators = |text: &str| text.bytes().filter(|b| matches!(b, b'/' | b'\\')).count();
    spelling.encoded_separator = separators(&decoded) != separators(path);
    check_segments(&decoded)?;
    // Nobody should decode twice. If somebody does, dot segments are what it would be used for.
    if decoded.contains('%')
        && let Some(twice) = decode(&decoded)
        && has_dot_segment(&twice)
    {
        return Err(Ambiguity::DotSegment);
    }
    Ok(())
}

fn check_segments(decoded: &str) -> Result<(), Ambiguity> {
    if has_dot_segment(decoded) {
        return Err(Ambiguity::DotSegment);
    }
    let mut segments = decoded.split(['/', '\\']).skip(1).peekable();
    while let Some(segment) = segments.next() {
        // The last one may be empty: that is a trailing slash.
        if segments.peek().is_some() && bare(segment).is_empty() {
            return Err(Ambiguity::EmptySegment);
        }
    }
    Ok(())
}

fn has_dot_segment(decoded: &str) -> bool {
    decoded
        .split(['/', '\\'])
        .any(|segment| matches!(bare(segment), "." | ".."))
}

/// A segment without its parameters.
pub(super) fn bare(segment: &str) -> &str {
    segment.split_once(';').map_or(segment, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_targets_pass_and_keep_their_spelling() {
        for raw in [
            "/",
            "/a/b/",
            "/a?x=/../y\\z&u=%zz",
            "/.well-known/x",
            "/a/...",
            "/a/.hidden",
            "/a..b",
            "/caf%C3%A9",
            "/a%20b",
            "/a%2Fb",
            "/a%5cb",
            "/a;v=1/b",
            "/dashboard%252Fsettings",
            "/100%25",
            "/_next/static/chunks/app/%5Bid%5D/page.js",
            "/x?",
        ] {
            let target = Target::parse(raw.as_bytes()).unwrap();
            assert_eq!(target.as_str(), raw);
        }
        let target = Target::parse(b"/a/b?c=d?e").unwrap();
        assert_eq!((target.path(), target.query()), ("/a/b", Some("c=d?e")));
    }

    #[test]
    fn what_two_servers_may_read_differently_is_refused_by_its_own_word() {
        let long = format!("/{}", "a".repeat(TARGET_BYTES_MAX));
        for (raw, why) in [
            (long.as_str(), Ambiguity::TooLong),
            ("", Ambiguity::NotOriginForm),
            ("*", Ambiguity::NotOriginForm),
            ("http://evil.example/account", Ambiguity::NotOriginForm),
            ("evil.example:443", Ambiguity::NotOriginForm),
            ("/public#/../account", Ambiguity::Fragment),
            ("/a?b#c", Ambiguity::Fragment),
            ("/a\\b", Ambiguity::Backslash),
            ("//evil.example/x", Ambiguity::EmptySegment),
            ("/a//b", Ambiguity::EmptySegment),
            ("/a/%2fb", Ambiguity::EmptySegment),
            ("/a%5c%5cb", Ambiguity::EmptySegment),
            ("/;x/a", Ambiguity::EmptySegment),
            ("/a/../b", Ambiguity::DotSegment),
            ("/a/./b", Ambiguity::DotSegment),
            ("/a/..", Ambiguity::DotSegment),
            ("/a/%2e%2E/b", Ambiguity::DotSegment),
            ("/a/.%2e/b", Ambiguity::DotSegment),
            ("/a/..%2fb", Ambiguity::DotSegment),
            ("/a/..%5cb", Ambiguity::DotSegment),
            ("/a/..;/b", Ambiguity::DotSegment),
            ("/a/..;x=1/b", Ambiguity::DotSegment),
            ("/a/..%3bx/b", Ambiguity::DotSegment),
            ("/a/%252e%252e/b", Ambiguity::DotSegment),
            ("/a/..%252fb", Ambiguity::DotSegment),
            ("/a%00", Ambiguity::ControlByte),
            ("/a%0ab", Ambiguity::ControlByte),
            ("/a%7f", Ambiguity::ControlByte),
            ("/a\tb", Ambiguity::ControlByte),
            ("/a?b\0", Ambiguity::ControlByte),
            ("/a b", Ambiguity::Space),
            ("/café", Ambiguity::NonAscii),
            ("/a%", Ambiguity::BadEscape),
            ("/a%zz", Ambiguity::BadEscape),
            ("/a%c0%ae", Ambiguity::BadUtf8),
            ("/a%ff", Ambiguity::BadUtf8),
            ("/a%ed%a0%80", Ambiguity::BadUtf8),
        ] {
            assert_eq!(Target::parse(raw.as_bytes()), Err(why), "{raw}");
        }
    }

    #[test]
    fn every_reason_has_its_own_word_and_advice() {
        let words: std::collections::BTreeSet<_> =
            Ambiguity::ALL.iter().map(|a| a.as_str()).collect();
        assert_eq!(words.len(), Ambiguity::ALL.len());
        assert!(Ambiguity::ALL.iter().all(|a| !a.advice().is_empty()));
    }

    #[test]
    fn data_and_image_addresses_are_known_by_any_spelling() {
        for raw in [
            "/_next/data/B/x.json",
            "/app/%5Fnext/data/B/x.json",
            "/fr/_next%2fdata/B/x.json",
        ] {
            assert!(
                Target::parse(raw.as_bytes()).unwrap().is_next_data(),
                "{raw}"
            );
        }
        for raw in [
            "/_next/image?url=x",
            "/app/_next/%69mage",
            "/_next/image/",
            "/_next/data/B/_next/image.json?url=x",
            "/fr/_next/data/B/index/_next/ima%67e.json/",
        ] {
            assert!(
                Target::parse(raw.as_bytes()).unwrap().is_next_image(),
                "{raw}"
            );
        }
        let other = Target::parse(b"/about").unwrap();
        assert!(!other.is_next_data() && !other.is_next_image());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_what_is_forwarded_reads_the_same(
            raw in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..64),
                "(/[a.;%2eEfF5cC0\\\\~]{0,6}){0,5}".prop_map(String::into_bytes),
            ]
        ) {
            if let Ok(target) = Target::parse(&raw) {
                prop_assert_eq!(target.as_str().as_bytes(), raw.as_slice());
                prop_assert_eq!(Target::parse(target.as_str().as_bytes()), Ok(target));
                let decoded = target.decoded_path();
                let clean = decoded.split(['/', '\\']).all(|s| s != "." && s != "..");
                prop_assert!(clean && !decoded.contains("//"), "{:?}", decoded);
            }
        }
    }
}
