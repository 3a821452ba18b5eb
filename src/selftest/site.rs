//! What is known of the stack under test before the checks begin, and the requests written to it.

use url::Url;

use super::answer::Answer;
use crate::secret::Secret;

/// What a spoofed header says. Nobody else writes it, so wherever it turns up it came from us.
pub const MARK: &str = "selftest-mark-7d1f93";
/// A site nobody may be sent to. The name is reserved and never resolves.
pub const ELSEWHERE: &str = "evil.example";
/// A header nobody sets, neither in a request nor in an answer.
pub const PROBE_HEADER: &str = "x-vestibule-selftest";

/// A page and what it answers.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its path.
    pub path: String,
    /// What an anonymous request for it gets.
    pub anonymous: Answer,
    /// What the session gets; none without a session.
    pub signed_in: Option<Answer>,
}

/// The page that reports what the app saw.
#[derive(Clone, Debug)]
pub struct Echo {
    /// Its path.
    pub path: String,
    /// Whether it answers without a session.
    pub open: bool,
    /// Whether it also reports the target.
    pub shows_target: bool,
    /// What it reports of an ordinary request without a session; none unless it is open.
    pub anonymous: Option<Answer>,
    /// What it reports of an ordinary request with the session.
    pub signed_in: Option<Answer>,
}

/// The stack under test.
#[derive(Clone, Debug)]
pub struct Site {
    /// Scheme, host and port that browsers see.
    pub origin: String,
    /// What `Host` says.
    pub host: String,
    /// Protected pages, at least one. All refuse an anonymous request.
    pub protected: Vec<Page>,
    /// A page for everybody.
    pub public: Option<Page>,
    /// What a path gets that is nowhere, and other pages anybody may see.
    pub open: Vec<Answer>,
    /// A live session, as a `Cookie` header; only when it opens a protected page.
    pub session: Option<Secret>,
    /// A session that was signed out, as a `Cookie` header.
    pub ended: Option<Secret>,
    /// The page that reports what the app saw.
    pub echo: Option<Echo>,
    /// Id of a Server Action that only protected pages use.
    pub action: Option<String>,
    /// Names of the headers by which the app learns who is asking.
    pub identity: Vec<String>,
}

impl Site {
    /// The first protected path.
    pub fn door(&self) -> &str {
        self.protected.first().map_or("/", |page| &page.path)
    }

    /// Every protected path.
    pub fn doors(&self) -> impl Iterator<Item = &str> {
        self.protected.iter().map(|page| page.path.as_str())
    }

    /// A path for everybody, without a slash at its end: `` when it is the root.
    pub fn public_folder(&self) -> &str {
        self.public
            .as_ref()
            .map_or("", |page| page.path.trim_end_matches('/'))
    }

    /// A path for everybody.
    pub fn public_path(&self) -> &str {
        self.public.as_ref().map_or("/", |page| &page.path)
    }

    /// One GET on a connection of its own.
    pub fn get(&self, target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        self.request("GET", target, headers, b"")
    }

    /// A GET as a browser asks for a document.
    pub fn document(&self, target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut all = vec![
            ("Accept", "text/html"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
        ];
        all.extend_from_slice(headers);
        self.get(target, &all)
    }

    /// A request that is followed by no other.
    pub fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let mut bytes = self.head(method, target, headers);
        if !body.is_empty() {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("connection"))
        {
            bytes.extend_from_slice(b"Connection: close\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        bytes
    }

    /// Request line and headers; the empty line is not there yet.
    pub fn head(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            head.push_str(&format!("Host: {}\r\n", self.host));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.into_bytes()
    }

    /// Asks the page that reports what the app saw, with the session where it wants one.
    pub fn ask_echo(&self, echo: &Echo, query: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        let session = self.session.as_ref().filter(|_| !echo.open);
        self.ask_echo_as(echo, session, query, headers)
    }

    /// The same as somebody.
    pub fn ask_echo_as(
        &self,
        echo: &Echo,
        session: Option<&Secret>,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Vec<u8> {
        let mut all = headers.to_vec();
        if let Some(cookie) = session {
            all.push(("Cookie", cookie.expose()));
        }
        self.get(&format!("{}{query}", echo.path), &all)
    }

    /// Whether an address in `Location` leads away from the site, and from where it sends people by itself.
    pub fn leaves(&self, location: &str) -> bool {
        let Ok(base) = Url::parse(&self.origin) else {
            return true;
        };
        let home = |url: &Url| {
            url.origin() == base.origin()
                || Url::parse(&format!("{}://{}", base.scheme(), self.host))
                    .is_ok_and(|own| own.origin() == url.origin())
                || self.sends_to(url)
        };
        let Ok(goal) = base.join(location) else {
            // A browser that cannot read it goes nowhere.
            return false;
        };
        if !home(&goal) {
            return true;
        }
        // An address inside the address is followed later, after signing in.
        goal.query_pairs().any(|(_, value)| {
            let value = value.trim_start();
            let lower = value.to_ascii_lowercase();
            let is_address = value.starts_with(['/', '\\'])
                || lower.starts_with("http:")
                || lower.starts_with("https:");
            // Read by itself, `https:host` is another site; beside an https page it is a path.
            let read = [base.join(value), Url::parse(value)];
            is_address && read.into_iter().flatten().any(|inner| !home(&inner))
        })
    }

    /// Whether the stack sends anonymous people there by itself: a sign-in page on another origin.
    fn sends_to(&self, url: &Url) -> bool {
        let locations = self
            .protected
            .iter()
            .filter_map(|page| page.anonymous.header("location"));
        locations
            .filter_map(|location| Url::parse(location).ok())
            .any(|known| known.origin() == url.origin())
    }
}

/// Whether two bodies are the same page: nonces and times may differ.
pub fn resembles(one: &[u8], other: &[u8]) -> bool {
    likeness(one, other) >= 0.97
}

/// How much of two bodies is the same, from 0 to 1. Words are compared, not their order.
pub fn likeness(one: &[u8], other: &[u8]) -> f64 {
    if one == other {
        return 1.0;
    }
    let (one, other) = (words(one), words(other));
    let all = one.values().sum::<u32>().max(other.values().sum::<u32>());
    let shared: u32 = one
        .iter()
        .map(|(word, count)| other.get(word).map_or(0, |there| (*count).min(*there)))
        .sum();
    if all == 0 {
        return 1.0;
    }
    f64::from(shared) / f64::from(all)
}

/// Most of a body that is compared: enough to tell pages apart.
const COMPARED_BYTES_MAX: usize = 256 * 1024;

fn words(body: &[u8]) -> std::collections::BTreeMap<&[u8], u32> {
    let mut words = std::collections::BTreeMap::new();
    let body = body.get(..COMPARED_BYTES_MAX).unwrap_or(body);
    for word in body.split(|byte| !byte.is_ascii_alphanumeric()) {
        if !word.is_empty() {
            *words.entry(word).or_insert(0) += 1;
        }
    }
    words
}
