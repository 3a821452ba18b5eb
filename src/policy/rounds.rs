//! Round after round between the sign-in page and a page that asks to sign in: how it is told from people who open several tabs.
//!
//! A browser goes round when the app takes somebody for signed in and we do not. It is noticed without remembering anybody: a cookie
//! that lives for a minute counts how often the browser *came back from the sign-in page* to one address and was sent there again.
//! Opening an address, however often and in however many tabs, is no coming back. The cookie proves nothing and opens nothing: whoever
//! forges it is shown an explanation where they would have been sent to sign in, once.

use std::time::Duration;

use http::HeaderMap;

use crate::credential::cookies;
use crate::time::UnixMs;

/// The cookie that counts.
pub const COOKIE: &str = "vestibule-rounds";

/// The pair in the query of a return address by which a coming back is known where the sign-in page is on another origin: a chain of
/// redirects that begins at the address bar says nowhere else where it has been. Only ever added in a second round, and taken off again.
pub const MARK: &str = "vestibule-round=1";

/// So many times a browser comes back before it is told: browsers give up after 16 to 20 redirects, of which a round takes two, and
/// one second try is a slip of somebody's hand.
pub const ROUNDS_MAX: u8 = 3;

/// All of them within this time.
pub const WITHIN: Duration = Duration::from_secs(60);

/// How far the clocks of two replicas may be apart.
const SKEW: Duration = Duration::from_secs(5);

/// What the cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    /// How often the browser came back.
    pub count: u8,
    /// The sign-in page has just sent the browser to the address by itself: the next request for it is a coming back.
    pub bounced: bool,
    /// The address it came back to.
    pub address: Address,
    /// Since when.
    pub since: UnixMs,
}

/// An address of the app, as short as can be: nobody reads from the cookie where somebody was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(u64);

impl Address {
    /// Of a path and a query, whatever the client router and we have added to it.
    pub fn of(path: &str, query: Option<&str>) -> Self {
        // FNV-1a: it tells addresses apart, and nothing depends on nobody finding two alike.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |text: &str| {
            for byte in text.bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        eat(path);
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            if !pair.is_empty() && pair != MARK && pair != "_rsc" && !pair.starts_with("_rsc=") {
                eat("&");
                eat(pair);
            }
        }
        Self(hash)
    }
}

/// What becomes of a browser that is to be sent to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// It is sent.
    SignIn {
        /// What the cookie is to say; `None`: it is not set.
        remember: Option<Rounds>,
        /// The return address carries the mark.
        mark: bool,
    },
    /// It has gone round often enough: it is told why.
    Explain,
}

/// What is known of a request that is to be sent to sign in.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// What is asked for.
    pub address: Address,
    /// It comes from the sign-in page: its referrer, or the mark, says so.
    pub from_sign_in: bool,
    /// The sign-in page is on another origin, where we see nothing of it.
    pub elsewhere: bool,
    /// The present.
    pub now: UnixMs,
}

/// What becomes of a browser that is to be sent to sign in.
pub fn next(before: Option<Rounds>, sent: Sent) -> Course {
    let before = before.filter(|rounds| rounds.address == sent.address);
    let came_back = sent.from_sign_in || before.is_some_and(|rounds| rounds.bounced);
    let count = before.map_or(0, |rounds| rounds.count) + u8::from(came_back);
    if came_back && count >= ROUNDS_MAX {
        return Course::Explain;
    }
    let remember = Rounds {
        count,
        bounced: false,
        address: sent.address,
        since: before.map_or(sent.now, |rounds| rounds.since),
    };
    Course::SignIn {
        remember: (came_back || before.is_some() || sent.elsewhere).then_some(remember),
        mark: sent.elsewhere && before.is_some(),
    }
}

/// What the cookie is to say once the sign-in page has sent the browser to an address by itself.
pub fn bounced(before: Option<Rounds>, address: Address, now: UnixMs) -> Rounds {
    let before = before.filter(|rounds| rounds.address == address);
    Rounds {
        count: before.map_or(0, |rounds| rounds.count),
        bounced: true,
        address,
        since: before.map_or(now, |rounds| rounds.since),
    }
}

impl Rounds {
    /// What a request's cookie says; `None` when there is none, it is not of ours, or its minute is over.
    pub fn read(headers: &HeaderMap, now: UnixMs) -> Option<Self> {
        let text = std::str::from_utf8(cookies::find_raw(headers, COOKIE)?).ok()?;
        let rounds = Self::parse(text)?;
        let is_now = now.since(rounds.since) <= WITHIN && rounds.since.since(now) <= SKEW;
        is_now.then_some(rounds)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let count = parts.next()?.parse().ok()?;
        let bounced = match parts.next()? {
            "b" => true,
            "s" => false,
            _ => return None,
        };
        let address = Address(u64::from_str_radix(parts.next()?, 16).ok()?);
        let since = UnixMs(parts.next()?.parse().ok()?);
        // A count of ours never gets so far.
        (parts.next().is_none() && count < ROUNDS_MAX).then_some(Self {
            count,
            bounced,
            address,
            since,
        })
    }

    /// The `Set-Cookie` text.
    pub fn set(&self, secure: bool) -> String {
        let Self { count, address, .. } = self;
        let bounced = if self.bounced { 'b' } else { 's' };
        let value = format!("{count}.{bounced}.{:016x}.{}", address.0, self.since.0);
        line(&value, WITHIN.as_secs(), secure)
    }

    /// The `Set-Cookie` text that removes it.
    pub fn clear(secure: bool) -> String {
        line("", 0, secure)
    }
}

fn line(value: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Lax{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::COOKIE as HEADER;

    const NOW: UnixMs = UnixMs(1_795_000_000_000);

    fn sent(path: &str, from_sign_in: bool) -> Sent {
        Sent {
            address: Address::of(path, None),
            from_sign_in,
            elsewhere: false,
            now: NOW,
        }
    }

    fn remembered(course: Course) -> Option<Rounds> {
        match course {
            Course::SignIn { remember, .. } => remember,
            Course::Explain => panic!("explained"),
        }
    }

    #[test]
    fn coming_back_three_times_is_explained_and_opening_never_is() {
        let mut rounds = remembered(next(None, sent("/a", false)));
        assert_eq!(rounds, None, "a first visit is not marked");
        for _ in 0..ROUNDS_MAX - 1 {
            rounds = remembered(next(rounds, sent("/a", true)));
        }
        assert_eq!(next(rounds, sent("/a", true)), Course::Explain);
        // The same address opened in new tabs meanwhile, as often as one likes.
        for _ in 0..10 {
            let course = next(rounds, sent("/a", false));
            assert!(matches!(course, Course::SignIn { .. }));
        }
        // And others from links of the sign-in page.
        for path in ["/b", "/c", "/d", "/e", "/f"] {
            rounds = remembered(next(rounds, sent(path, true)));
            assert_eq!(rounds.map(|rounds| rounds.count), Some(1));
        }
    }

    #[test]
    fn a_chain_of_redirects_is_a_coming_back_only_where_the_sign_in_page_made_it() {
        let address = Address::of("/a", None);
        let mut rounds = None;
        for _ in 0..ROUNDS_MAX - 1 {
            rounds = remembered(next(Some(bounced(rounds, address, NOW)), sent("/a", false)));
        }
        let course = next(Some(bounced(rounds, address, NOW)), sent("/a", false));
        assert_eq!(course, Course::Explain);
        let elsewhere = bounced(rounds, Address::of("/b", None), NOW);
        assert_eq!(
            remembered(next(Some(elsewhere), sent("/a", false))),
            None,
            "sent to another page"
        );
    }

    #[test]
    fn where_the_sign_in_page_is_elsewhere_the_second_round_is_marked() {
        let mut sent = sent("/a", false);
        sent.elsewhere = true;
        let Course::SignIn { remember, mark } = next(None, sent) else {
            panic!("explained at once")
        };
        assert!(!mark);
        let Course::SignIn { remember, mark } = next(remember, sent) else {
            panic!("explained at once")
        };
        assert!(mark);
        assert_eq!(remember.map(|rounds| rounds.count), Some(0));
    }

    #[test]
    fn the_cookie_says_what_was_written_and_only_for_its_minute() {
        let read = |text: &str, now| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_str(text).unwrap());
            Rounds::read(&headers, now)
        };
        let rounds = Rounds {
            count: 2,
            bounced: true,
            address: Address::of("/a", Some("x=1")),
            since: NOW,
        };
        let line = rounds.set(false);
        let pair = line.split(';').next().unwrap();
        assert_eq!(read(pair, NOW), Some(rounds));
        assert_eq!(read(pair, NOW.plus(WITHIN)), Some(rounds));
        let late = NOW.plus(WITHIN).plus(Duration::from_millis(1));
        assert_eq!(read(pair, late), None, "its minute is over");
        assert_eq!(
            read(pair, UnixMs(NOW.0 - 60_000)),
            None,
            "from the future: nobody stays in it"
        );
        for odd in [
            "",
            "3.s.0.0",
            "9.b.0",
            "x",
            "1.s.zz.1",
            "1.s.0.1.2",
            "-1.s.0.1",
        ] {
            assert_eq!(read(&format!("{COOKIE}={odd}"), NOW), None, "{odd}");
        }
        assert!(rounds.set(true).contains("; Secure"));
        assert!(Rounds::clear(false).contains("Max-Age=0"));
    }

    #[test]
    fn an_address_is_the_same_with_and_without_what_routers_add() {
        let plain = Address::of("/a", Some("x=1"));
        for query in ["x=1&_rsc=abc", "vestibule-round=1&x=1", "&x=1&"] {
            assert_eq!(Address::of("/a", Some(query)), plain, "{query}");
        }
        assert_ne!(Address::of("/a", Some("x=2")), plain);
        assert_ne!(Address::of("/a", None), plain);
    }
}
