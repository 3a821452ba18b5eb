//! The header names that nobody outside may set, in every spelling an app server could read as ours.

/// What Next.js says to itself between its own parts. From outside they are attacks (CVE-2025-29927, CVE-2026-44572 and kin).
const NEXT_INTERNAL: &[&str] = &[
    "next-resume",
    "x-matched-path",
    "x-next-resume-state-length",
    "x-now-route-matches",
    "x-prerender-revalidate",
];

/// The same, by prefix.
const NEXT_INTERNAL_PREFIXES: &[&str] = &["x-middleware-", "x-invoke-"];

/// What a proxy tells an app about the client. We write our own; a client's, or an untrusted hop's, never arrives.
const FORWARDED: &[&str] = &[
    "forwarded",
    "x-client-ip",
    "x-forwarded",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// The same, by prefix.
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// What we write under this one spelling, whoever said it first. An app that folds names would read another spelling in its place.
const WRITTEN: &[&str] = &["x-request-id"];

/// The names owned by the identity headers in force.
#[derive(Clone, Debug)]
pub struct Owned {
    names: Vec<String>,
    /// The letters they begin with.
    letters: Vec<u8>,
}

impl Owned {
    /// Owns `names` (lower-case).
    pub fn new(mut names: Vec<String>) -> Self {
        names.sort();
        names.dedup();
        // Sorted as the names are.
        let letters = names.iter().filter_map(|name| name.bytes().next());
        let mut letters: Vec<u8> = letters.collect();
        letters.dedup();
        Self { names, letters }
    }

    /// Whether a header of this (lower-case) name must be removed from a request. `data` says that the target is one of Next's
    /// data URLs, the only place where `x-nextjs-data` means anything.
    pub fn removes(&self, name: &str, data: bool) -> bool {
        // Nearly every header begins with another letter.
        if !matches!(
            name.as_bytes().first(),
            Some(b'x' | b'X' | b'f' | b'n' | b'r')
        ) && is_plain(name)
        {
            return false;
        }
        let folded;
        let is_folded = !is_plain(name);
        let name = if !is_folded {
            name
        } else {
            folded = fold(name);
            &folded
        };
        self.is_identity(name)
            || NEXT_INTERNAL.contains(&name)
            || NEXT_INTERNAL_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
            || FORWARDED.contains(&name)
            || name.starts_with(FORWARDED_PREFIX)
            || (name == "x-nextjs-data" && !data)
            || (is_folded && WRITTEN.contains(&name))
    }

    /// Whether a (lower-case) name is one of the identity headers, spelled as we write it.
    pub fn is_identity(&self, name: &str) -> bool {
        // Nearly every header begins with another letter than any of them.
        let first = name.as_bytes().first();
        first.is_some_and(|first| self.letters.contains(first))
            && self.names.iter().any(|owned| owned == name)
    }
}

/// Whether a name has one spelling only.
fn is_plain(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// A name as CGI, WSGI, PHP and their like read it: case gone, everything but letters and digits one and the same.
fn fold(name: &str) -> String {
    name.chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owned() -> Owned {
        Owned::new(vec!["x-auth-user-id".into(), "remote-user".into()])
    }

    #[test]
    fn every_spelling_of_an_owned_name_goes_and_its_neighbours_stay() {
        for name in [
            "x-auth-user-id",
            "x_auth_user_id",
            "x.auth.user.id",
            "x-auth_user~id",
            "remote_user",
            "X-AUTH-USER-ID",
        ] {
            assert!(owned().removes(name, false), "{name}");
        }
        for name in [
            "x-auth-user-ids",
            "x-author",
            "remote-users",
            "cookie",
            "rsc",
            "next-action",
            "x_custom",
            "referer",
        ] {
            assert!(!owned().removes(name, false), "{name}");
        }
    }

    #[test]
    fn of_what_we_write_only_our_own_spelling_stays() {
        assert!(!owned().removes("x-request-id", false));
        for name in ["x_request_id", "x.request-id", "x-request~id"] {
            assert!(owned().removes(name, false), "{name}");
        }
    }

    #[test]
    fn next_internals_and_forwarded_headers_go() {
        for name in [
            "x-middleware-subrequest",
            "x_middleware_next",
            "x-forwarded-for",
            "x-forwarded_proto",
            "forwarded",
            "x-invoke-path",
        ] {
            assert!(owned().removes(name, false), "{name}");
        }
        assert!(owned().removes("x-nextjs-data", false));
        assert!(!owned().removes("x-nextjs-data", true));
    }

    proptest! {
        #[test]
        fn whatever_folds_to_an_owned_name_goes(separators in proptest::collection::vec("[-_.~!#$%&'*+^`|]", 3), upper in any::<u16>()) {
            let name = ["x", "auth", "user", "id"].iter().enumerate().fold(String::new(), |mut name, (i, word)| {
                if i > 0 { name.push_str(&separators[i - 1]); }
                name.push_str(word);
                name
            });
            let name: String = name.chars().enumerate().map(|(i, c)| if upper >> (i % 16) & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect();
            prop_assert!(owned().removes(&name, false));
        }
    }
}
