//! Every way around a Next.js app's protection that we know of, tried at a running gateway in front of a real Next.js 15 and 16.
//!
//! Each form is sent three times over raw sockets: straight to Next.js, which says whether it leads to anything protected; to the
//! gateway as a stranger, who must not get a byte of it; and to the gateway with a session, which must get what Next.js serves unless
//! the spelling is refused on purpose. The ids are those of the catalogue of advisories the forms were collected from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use vestibule::policy::Need;
use vestibule::route::{self, RouteSpec};

use crate::next::{Build, MARKER, Server};
use crate::support::{
    Answer, Gateway, Setup, connect, cookie, exchange_on, record, route, rule, signed_in,
};

fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

// -------------------------------------------------------------------------------------------------------------- the forms

/// One request to try.
#[derive(Clone, Debug)]
struct Probe {
    family: &'static str,
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    /// Whether it leads to the protected page only by a rewrite or an interception the rules alone do not know of.
    takes_build: bool,
}

impl Probe {
    fn get(family: &'static str, target: impl Into<String>) -> Self {
        Self {
            family,
            method: "GET",
            target: target.into(),
            headers: Vec::new(),
            takes_build: false,
        }
    }

    fn by(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    fn with(mut self, headers: &[(&str, &str)]) -> Self {
        let owned = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.headers.extend(owned);
        self
    }

    fn taking_build(mut self) -> Self {
        self.takes_build = true;
        self
    }

    fn bytes(&self, more: &[(&str, &str)]) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.brings("host") {
            head.push_str("host: app.test\r\n");
        }
        let own = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(more.iter().copied()) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !matches!(self.method, "GET" | "HEAD") {
            head.push_str("content-length: 0\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    fn brings(&self, header: &str) -> bool {
        self.headers.iter().any(|(name, _)| name == header)
    }

    /// Whether an answer holds anything of what is protected.
    fn is_served(&self, answer: &Answer) -> bool {
        let holds = |bytes: &[u8]| {
            bytes
                .windows(MARKER.len())
                .any(|window| window == MARKER.as_bytes())
        };
        // A picture that was made anew holds no text, and an answer to a HEAD no body.
        let is_picture = self.family.starts_with("image")
            && answer.status == 200
            && answer
                .header("content-type")
                .is_some_and(|kind| kind.starts_with("image/"));
        holds(&answer.body)
            || holds(&answer.rest)
            || is_picture
            || (self.method == "HEAD" && answer.status == 200)
    }

    fn label(&self) -> String {
        let headers: Vec<String> = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        format!(
            "[{}] {} {} {{{}}}",
            self.family,
            self.method,
            self.target,
            headers.join(", ")
        )
    }
}

/// A connection that is kept from one request to the next.
struct Lane {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Lane {
    fn to(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
        }
    }

    fn ask(&mut self, probe: &Probe, more: &[(&str, &str)]) -> Answer {
        let bytes = probe.bytes(more);
        let kept = self.stream.take().filter(|_| !probe.brings("connection"));
        let kept = kept.and_then(|mut stream| {
            let answer = exchange_on(&mut stream, &bytes);
            // The other side may have closed it meanwhile.
            (answer.status != 0).then_some((stream, answer))
        });
        let (stream, answer) = kept.unwrap_or_else(|| {
            let mut stream = connect(self.address);
            let answer = exchange_on(&mut stream, &bytes);
            (stream, answer)
        });
        let has_end = matches!(answer.status, 204 | 304)
            || probe.method == "HEAD"
            || answer.header("content-length").is_some()
            || answer.header("transfer-encoding").is_some();
        let closes = answer
            .header("connection")
            .is_some_and(|said| said.eq_ignore_ascii_case("close"));
        let keeps = has_end
            && !closes
            && answer.status >= 200
            && answer.rest.is_empty()
            && !probe.brings("connection");
        self.stream = keeps.then_some(stream);
        answer
    }
}

/// What the app protects, without base path.
const PAGES: &[&str] = &[
    "/dashboard",
    "/dashboard/7",
    "/dashboard/settings",
    "/docs/a/b",
    "/vault",
    "/vault/x",
    "/feed",
    "/feed/photo/1",
    "/members",
];
const HANDLERS: &[&str] = &[
    "/api/private",
    "/api/private/2",
    "/api/events",
    "/api/legacy",
    "/api/legacy/2",
];
const PAGES_ROUTER: &[&str] = &[
    "/legacy",
    "/legacy/3",
    "/legacy/fixed",
    "/legacy/plain",
    "/legacy/catch/a/b",
];
const FILES: &[&str] = &[
    "/private/report.txt",
    "/private/caf%C3%A9.txt",
    "/private/two%20words.txt",
];
/// One of each sort: a page, one with a parameter, a prerendered one, a handler, a page of the pages router, a prerendered one, a file.
const SORTS: &[&str] = &[
    "/dashboard",
    "/dashboard/7",
    "/dashboard/settings",
    "/api/private",
    "/legacy/3",
    "/legacy/fixed",
    "/private/report.txt",
];
/// Fewer, for what Next.js does alike whatever page is asked for: a page with a parameter, a prerendered one, a handler, and one of the
/// pages router.
const FEW: &[&str] = &[
    "/dashboard/7",
    "/dashboard/settings",
    "/api/private",
    "/legacy/3",
];
/// What anybody may see.
const PUBLIC: &[&str] = &[
    "/",
    "/sign-in",
    "/gallery",
    "/open",
    "/api/public",
    "/open/file.txt",
    "/open-photo/1",
];
/// One of each router.
const PUBLIC_SORTS: &[&str] = &["/sign-in", "/open"];
/// What rules name as protected when everything else is public.
const PROTECTED_SOURCES: &[&str] = &[
    "/dashboard/:path*",
    "/docs/:path*",
    "/vault/:path*",
    "/feed/:path*",
    "/api/private/:path*",
    "/api/events",
    "/api/legacy/:path*",
    "/legacy/:path*",
    "/private/:path*",
    "/old-dashboard/:path*",
    "/members/:path*",
];
/// What rules name as public when everything else is protected.
const PUBLIC_SOURCES: &[&str] = &[
    "/",
    "/sign-in",
    "/gallery/:path*",
    "/open/:path*",
    "/api/public",
    "/open-photo/:path*",
    "/_next/image",
];

/// The app as it is asked for.
struct World {
    build: Build,
    id: String,
    preview: String,
}

impl World {
    fn of(build: Build) -> Self {
        let prerendered = build.manifest("prerender-manifest.json");
        let preview = prerendered["preview"]["previewModeId"].as_str();
        Self {
            build,
            id: build.id(),
            preview: preview.expect("a preview id").to_owned(),
        }
    }

    fn base(&self) -> &'static str {
        if self.build.is_based { "/base" } else { "" }
    }

    /// A path as the app wants it: below the base path, with or without a slash at its end.
    fn at(&self, path: &str) -> String {
        let base = self.base();
        let last = path.rsplit('/').next().unwrap_or_default();
        let slash = self.build.is_based && !last.contains('.') && !path.ends_with('/');
        format!("{base}{path}{}", if slash { "/" } else { "" })
    }

    /// Prefixes that a page may stand behind: all that come to mind for one of each sort, else those that differ to Next.js.
    fn locales(&self, path: &str) -> &'static [&'static str] {
        match (self.build.is_based, SORTS.contains(&path)) {
            (false, _) => &["", "/fr"],
            (true, false) => &["", "/en", "/fr"],
            (true, true) => &[
                "", "/en", "/EN", "/fr", "/FR", "/nl-NL", "/NL-nl", "/%66r", "/de",
            ],
        }
    }

    /// What stands before the page in the address of its data.
    fn data_prefix(&self) -> String {
        format!("/_next/data/{}", self.id)
    }

    /// The optimizer's address for a picture.
    fn picture(&self, url: &str) -> String {
        format!("{}?url={url}&w=64&q=75", self.at("/_next/image"))
    }

    /// Everything that is tried.
    fn probes(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        for path in PAGES
            .iter()
            .chain(HANDLERS)
            .chain(PAGES_ROUTER)
            .chain(FILES)
        {
            probes.push(Probe::get("as it is", self.at(path)));
            self.locales_of(path, &mut probes);
        }
        // One of each sort is enough where what is around the path is tried, not the path.
        for path in SORTS {
            self.encodings(path, &mut probes);
            self.data(path, &mut probes);
            self.dots(path, &mut probes);
            self.separators(path, &mut probes);
            self.marks(path, &mut probes);
            self.suffixes(path, &mut probes);
            self.methods(path, &mut probes);
        }
        for path in FEW {
            self.router_headers(path, &mut probes);
            self.internal_headers(path, &mut probes);
            self.queries(path, &mut probes);
            self.forms_of_target(path, &mut probes);
        }
        for path in FILES {
            self.encodings(path, &mut probes);
        }
        self.orders(&mut probes);
        self.rewrites(&mut probes);
        self.interceptions(&mut probes);
        self.images(&mut probes);
        probes
    }

    /// T14, T16, T17: raw and encoded, once and twice.
    fn encodings(&self, path: &str, probes: &mut Vec<Probe>) {
        let base = self.base();
        let at = self.at(path);
        let inner = &at[base.len()..];
        let mut push = |target: String| probes.push(Probe::get("encoded", target));
        let encode = |text: &str, which: &dyn Fn(usize, u8) -> bool, upper: bool| {
            let mut out = String::new();
            for (index, byte) in text.bytes().enumerate() {
                if which(index, byte) && byte != b'%' {
                    let _ = match upper {
                        true => write!(out, "%{byte:02X}"),
                        false => write!(out, "%{byte:02x}"),
                    };
                } else {
                    out.push(char::from(byte));
                }
            }
            out
        };
        let last = inner.trim_end_matches('/').len() - 1;
        push(format!(
            "{base}{}",
            encode(inner, &|index, _| index == 1, false)
        ));
        push(format!(
            "{base}{}",
            encode(inner, &|index, _| index == last, true)
        ));
        push(
            format!(
                "{base}{}",
                encode(inner, &|index, byte| index > 0 && byte != b'/', false)
            )
            .replace("%25", "%"),
        );
        push(format!(
            "{base}{}",
            encode(inner, &|index, byte| index > 0 && byte == b'/', false)
        ));
        push(format!(
            "{base}{}",
            encode(inner, &|index, byte| index > 0 && byte == b'/', true)
        ));
        push(format!(
            "{base}{}",
            encode(inner, &|index, byte| index > 0 && byte == b'/', true).replace("%2F", "%5C")
        ));
        push(format!(
            "{base}{}",
            encode(inner, &|index, byte| index > 0 && byte == b'/', true).replace("%2F", "%252F")
        ));
        push(format!(
            "{base}{}",
            encode(inner, &|index, _| index == 1, false).replacen('%', "%25", 1)
        ));
        push(format!("{base}{}", inner.to_ascii_uppercase()));
        let mut title = inner.to_owned();
        title[1..2].make_ascii_uppercase();
        push(format!("{base}{title}"));
        if !base.is_empty() {
            push(format!("/%62ase{inner}"));
            push(format!("/BASE{inner}"));
            push(format!("/base%2f{}", &inner[1..]));
            push(format!("/base/base{inner}"));
            push(inner.to_owned());
        }
    }

    /// T13, T14, T19: dot segments by every spelling, from places that are open.
    fn dots(&self, path: &str, probes: &mut Vec<Probe>) {
        let base = self.base();
        let at = self.at(path);
        let inner = &at[base.len()..];
        for before in [
            "/.",
            "/open/..",
            "/%2e",
            "/open/%2e%2e",
            "/open/.%2e",
            "/open/%2E.",
            "/sign-in/..",
            "/_next/static/../..",
            "/_next/static/%2e%2e/%2e%2e",
            "/api/auth/../..",
            "/api/auth/%2e%2e/%2e%2e",
            "/open/..;",
            "/open/..%3b",
            "/open/%252e%252e",
            "/open/..%00",
            "/.well-known/..",
            "/favicon.ico/..",
            "/open/../open/..",
            "/_next/image/../..",
            "/open/...",
        ] {
            probes.push(Probe::get("dot segments", format!("{base}{before}{inner}")));
        }
        for before in [
            "/open/..%2f",
            "/open/..%2F",
            "/open/..%5c",
            "/open%2f..%2f",
            "/open/%2e%2e%2f",
            "/open\\..\\",
            "/_next/static/..%2f..%2f",
        ] {
            probes.push(Probe::get(
                "dot segments",
                format!("{base}{before}{}", &inner[1..]),
            ));
        }
        if !base.is_empty() {
            probes.push(Probe::get("dot segments", format!("/x/..{at}")));
            probes.push(Probe::get("dot segments", format!("/base/../base{inner}")));
            probes.push(Probe::get(
                "dot segments",
                format!("/base/%2e%2e/base{inner}"),
            ));
        }
        let trimmed = at.trim_end_matches('/');
        for after in ["/.", "/%2e", "/x/..", "/x/%2e%2e"] {
            probes.push(Probe::get("dot segments", format!("{trimmed}{after}")));
        }
    }

    /// T18: slashes too many, too few, or the wrong way round.
    fn separators(&self, path: &str, probes: &mut Vec<Probe>) {
        let at = self.at(path);
        let trimmed = at.trim_end_matches('/');
        let inner = &at[self.base().len()..];
        for target in [
            format!("/{at}"),
            format!("//{at}"),
            format!("\\{at}"),
            format!("/\\{at}"),
            format!("{trimmed}/"),
            format!("{trimmed}//"),
            trimmed.to_owned(),
            format!("{trimmed}\\"),
            format!("{trimmed}%2f"),
            format!("{trimmed}%5c"),
            format!("{}/{inner}", self.base()),
            format!("{}\\{}", self.base(), &inner[1..]),
            format!("/%2f{at}"),
            trimmed.replace('/', "\\"),
            format!("/app.test{at}"),
            format!("//app.test{at}"),
        ] {
            probes.push(Probe::get("separators", target));
        }
    }

    /// T16, T19, T20: what some server cuts a path at.
    fn marks(&self, path: &str, probes: &mut Vec<Probe>) {
        let at = self.at(path);
        let trimmed = at.trim_end_matches('/');
        let base = self.base();
        for after in [
            "%23",
            "%3f",
            "%3F/../open",
            ";x",
            ";",
            "%3b",
            "%00",
            "%0a",
            "%0d",
            "%09",
            "%20",
            "%7f",
            "#",
            "#/../open",
            "?",
            "?x=/open",
            "?/../open",
            "%",
            "%zz",
            "%c0%ae",
            "%ff",
            "*",
            "~",
            ":80",
            "@open",
            "&",
            "=",
            "+",
            ",",
            "$",
        ] {
            probes.push(Probe::get("marks", format!("{trimmed}{after}")));
        }
        let inner = &trimmed[base.len()..];
        for before in [
            "/open#/..",
            "/open%23/..",
            "/open?/..",
            "/open%3f/..",
            "/;x",
            "/open;/..",
            "/%20",
            "/%09",
            "/%00",
        ] {
            probes.push(Probe::get("marks", format!("{base}{before}{inner}")));
        }
    }

    /// T22: the forms a page's data travels in.
    fn suffixes(&self, path: &str, probes: &mut Vec<Probe>) {
        let trimmed = self.at(path);
        let trimmed = trimmed.trim_end_matches('/');
        for after in [
            ".rsc",
            ".RSC",
            "%2ersc",
            ".json",
            ".txt",
            ".html",
            ".prefetch.rsc",
            ".segments/_tree.segment.rsc",
            ".segments/_full.segment.rsc",
            ".segments/dashboard/__PAGE__.segment.rsc",
            ".segments/a.segments/_tree.segment.rsc",
            ".segments%2f_tree.segment.rsc",
            "/index",
            "/index.json",
            "/index.rsc",
            "/index.html",
            ".rsc/",
            ".json/",
            "/page",
            "/route",
            ".action",
            ".meta",
            ".body",
            "/default",
            ".rsc.json",
            ".css",
            "/x.css",
            "/favicon.ico",
        ] {
            probes.push(Probe::get("suffix", format!("{trimmed}{after}")));
            if after.ends_with(".rsc") {
                probes
                    .push(Probe::get("suffix", format!("{trimmed}{after}")).with(&[("rsc", "1")]));
            }
        }
    }

    /// T21, CVE-2026-44573, CVE-2026-64642: a page by its locales, and its data.
    fn locales_of(&self, page: &str, probes: &mut Vec<Probe>) {
        let (base, data) = (self.base(), self.data_prefix());
        for locale in self.locales(page) {
            let form = format!("{base}{data}{locale}{page}.json");
            probes.push(Probe::get("data address", form).with(&[("x-nextjs-data", "1")]));
            probes.push(Probe::get("locale", self.at(&format!("{locale}{page}"))));
        }
    }

    /// The same by addresses nobody writes.
    fn data(&self, page: &str, probes: &mut Vec<Probe>) {
        let (base, id) = (self.base(), &self.id);
        let form = format!("{base}/_next/data/{id}{page}.json");
        probes.push(Probe::get("data address", form));
        for target in [
            format!("{base}/_next/data/wrong{page}.json"),
            format!("{base}/_next/data{page}.json"),
            format!("{base}/_next/data/{id}{page}"),
            format!("{base}/_next/data/{id}{page}.json/"),
            format!("{base}/_next/data/{id}{page}/index.json"),
            format!("{base}/_next/data/{id}/index{page}.json"),
            format!("{base}/_next/data/{id}{page}.rsc"),
            format!("{base}/_next/data/{id}{page}.json?__nextLocale=fr"),
            format!("{base}/_next/data/{id}{page}%2ejson"),
            format!("{base}/%5fnext/data/{id}{page}.json"),
            format!("{base}/_next%2fdata/{id}{page}.json"),
            format!("{base}/_next/dat%61/{id}{page}.json"),
            format!("{base}/_next/data/{id}//{}.json", &page[1..]),
            format!("{base}/_next/data/{id}%2f{}.json", &page[1..]),
            format!("{base}/_next/data/{id}/open/..{page}.json"),
            format!(
                "{base}/_next/data/{id}/%{:02x}{}.json",
                page.as_bytes()[1],
                &page[2..]
            ),
            format!("{base}/_next/data/{id}/_next/data/{id}{page}.json"),
            format!("{base}/_next/static/../data/{id}{page}.json"),
            format!("/_next/data/{id}{base}{page}.json"),
            format!("{base}/fr/_next/data/{id}{page}.json"),
        ] {
            probes.push(Probe::get("data address", target).with(&[("x-nextjs-data", "1")]));
        }
    }

    /// Base path, locale and data prefix in every order, as many times as Next.js may take them off, and what else travels behind them.
    fn orders(&self, probes: &mut Vec<Probe>) {
        let base = self.base();
        let data = self.data_prefix();
        let pieces: &[&str] = if self.build.is_based {
            &[&data, "/fr", "/en", "/index", base]
        } else {
            &[&data, "/fr", "/index"]
        };
        let mut orders: Vec<Vec<&str>> = vec![Vec::new()];
        let mut longest = orders.clone();
        for _ in 0..3 {
            longest = longest
                .iter()
                .flat_map(|order| pieces.iter().map(move |piece| (order, piece)))
                .map(|(order, piece)| order.iter().chain([piece]).copied().collect())
                .collect();
            orders.extend(longest.iter().cloned());
        }
        for order in orders {
            let times = order.iter().filter(|piece| **piece == data).count();
            // What is longer and has no data in it differs to nobody.
            if order.len() > 2 && times == 0 {
                continue;
            }
            let is_based = !base.is_empty() && order.contains(&base);
            let before = format!("{}{}", if is_based { "" } else { base }, order.concat());
            let after = ".json".repeat(times);
            for page in ["/legacy", "/legacy/3", "/private/report.txt"] {
                let slash = self.build.is_based && times == 0 && !page.contains('.');
                let target = format!("{before}{page}{after}{}", if slash { "/" } else { "" });
                let probe = Probe::get("order", target);
                probes.push(match times {
                    0 => probe,
                    _ => probe.with(&[("x-nextjs-data", "1")]),
                });
            }
        }
        for path in SORTS {
            for locale in ["/fr", "/en"] {
                for after in [
                    ".rsc",
                    ".json",
                    ".prefetch.rsc",
                    ".segments/_tree.segment.rsc",
                    "/index.json",
                    "?_rsc=",
                ] {
                    let target = format!("{base}{locale}{path}{after}");
                    probes.push(Probe::get("order", target).with(&[("rsc", "1")]));
                }
            }
        }
        if self.build.is_based {
            // A slash at the end of the optimizer's address is only there for a picture.
            let picture = format!("?url={base}/private/secret.png&w=64&q=75");
            for place in [
                format!("{data}/_next/image.json"),
                format!("{data}/_next/image.json/"),
                format!("{data}/index/_next/image.json"),
                format!("{data}/fr/_next/image.json"),
                format!("{data}/en/_next/image.json"),
                format!("{data}{data}/_next/image.json.json"),
                format!("/fr{data}/_next/image.json"),
                "/en/_next/image/".to_owned(),
            ] {
                probes.push(Probe::get("image", format!("{base}{place}{picture}")));
            }
        }
    }

    fn methods(&self, path: &str, probes: &mut Vec<Probe>) {
        let at = self.at(path);
        for method in [
            "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "get", "QUERY",
            "TRACE", "PURGE",
        ] {
            probes.push(Probe::get("method", &at).by(method));
        }
        let override_to = [
            ("x-http-method-override", "GET"),
            ("x-method-override", "GET"),
        ];
        probes.push(Probe::get("method", &at).by("POST").with(&override_to));
    }

    /// T22, CVE-2026-44575, CVE-2026-45109: what the client router sends.
    fn router_headers(&self, path: &str, probes: &mut Vec<Probe>) {
        let at = self.at(path);
        let tree = "%5B%22%22%2C%7B%22children%22%3A%5B%22__PAGE__%22%2C%7B%7D%5D%7D%5D";
        for headers in [
            &[("rsc", "1")][..],
            &[("rsc", "0")],
            &[("rsc", "1"), ("next-router-prefetch", "1")],
            &[("rsc", "1"), ("next-router-prefetch", "2")],
            &[
                ("rsc", "1"),
                ("next-router-prefetch", "1"),
                ("next-router-segment-prefetch", "/_tree"),
            ],
            &[
                ("rsc", "1"),
                ("next-router-prefetch", "1"),
                ("next-router-segment-prefetch", "/_full"),
            ],
            &[
                ("rsc", "1"),
                ("next-router-prefetch", "1"),
                ("next-router-segment-prefetch", "/dashboard/__PAGE__"),
            ],
            &[("rsc", "1"), ("next-router-state-tree", tree)],
            &[("rsc", "1"), ("next-url", "/gallery")],
            &[("rsc", "1"), ("next-url", "/feed")],
            &[("next-router-prefetch", "0")],
            &[("next-router-prefetch", "1")],
            &[("purpose", "prefetch")],
            &[("sec-purpose", "prefetch;prerender")],
            &[("next-hmr-refresh", "1")],
            &[("next-url", "/")],
            &[("rsc", "1"), ("next-router-segment-prefetch", "/_tree")],
        ] {
            probes.push(Probe::get("router headers", &at).with(headers));
            probes.push(Probe::get("router headers", format!("{at}?_rsc=")).with(headers));
        }
        probes.push(Probe::get("router headers", format!("{at}?_rsc=abcde")));
    }

    /// T7, T8, CVE-2025-29927, CVE-2026-44572, CVE-2025-57822: what Next.js says to itself. On what is protected, and on what is open to
    /// lead from there to what is protected.
    fn internal_headers(&self, path: &str, probes: &mut Vec<Probe>) {
        let at = self.at(path);
        let dashboard = self.at("/dashboard/7");
        let url = format!("http://app.test{dashboard}");
        let five = |name: &str| [name; 5].join(":");
        let mut sets: Vec<Vec<(&str, String)>> = Vec::new();
        for name in [
            "middleware",
            "src/middleware",
            "pages/_middleware",
            "proxy",
            "src/proxy",
        ] {
            sets.push(vec![("x-middleware-subrequest", name.to_owned())]);
            sets.push(vec![("x-middleware-subrequest", five(name))]);
        }
        sets.push(vec![
            ("X-Middleware-Subrequest", five("middleware")),
            ("x_middleware_subrequest", five("middleware")),
        ]);
        for (name, value) in [
            ("x-middleware-rewrite", dashboard.as_str()),
            ("x-middleware-rewrite", url.as_str()),
            ("x-middleware-next", "1"),
            ("x-middleware-prefetch", "1"),
            ("x-middleware-invoke", "1"),
            ("x-middleware-skip", "1"),
            ("x-middleware-override-headers", "cookie"),
            ("x-middleware-request-cookie", "a=b"),
            ("x-middleware-set-cookie", "a=b"),
            ("x-nextjs-data", "1"),
            ("x-nextjs-rewrite", dashboard.as_str()),
            ("x-nextjs-redirect", dashboard.as_str()),
            ("x-nextjs-matched-path", "/dashboard/[id]"),
            ("x-matched-path", "/dashboard/[id]"),
            ("x-matched-path", dashboard.as_str()),
            ("x-now-route-matches", "1=7&nxtPid=7"),
            ("x-invoke-path", "/dashboard/7"),
            ("x-invoke-query", "%7B%22nxtPid%22%3A%227%22%7D"),
            ("x-invoke-status", "200"),
            ("x-invoke-output", "/dashboard/[id]"),
            ("x-invoke-error", "%7B%7D"),
            ("x-rewrite-url", dashboard.as_str()),
            ("x-original-url", dashboard.as_str()),
            ("x-original-uri", dashboard.as_str()),
            ("x-forwarded-uri", "/open"),
            ("x-forwarded-prefix", "/dashboard"),
            ("x-forwarded-path", "/open"),
            ("next-resume", "1"),
            ("x-next-resume-state-length", "1"),
            ("x-next-revalidated-tags", "_N_T_/dashboard"),
            ("x-next-revalidate-tag-token", self.preview.as_str()),
            ("x-prerender-revalidate", self.preview.as_str()),
            ("x-prerender-revalidate-if-generated", "1"),
            ("x-vercel-sc-headers", "{}"),
            ("x-vercel-id", "iad1::x"),
            ("x-vercel-skip-toolbar", "1"),
            ("location", "/dashboard"),
            ("user-agent", "kube-probe/1.30"),
            ("x-auth-user-id", "root"),
            ("X_Auth_User_Id", "root"),
            ("x.auth.user.id", "root"),
            ("authorization", "Bearer root"),
        ] {
            sets.push(vec![(name, value.to_owned())]);
        }
        let preview = format!(
            "__prerender_bypass={}; __next_preview_data={}",
            self.preview, self.preview
        );
        sets.push(vec![("cookie", preview)]);
        sets.push(vec![(
            "cookie",
            "better-auth.session_token=root.c2ln".to_owned(),
        )]);
        for set in &sets {
            let set: Vec<(&str, &str)> = set
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            probes.push(Probe::get("internal headers", &at).with(&set));
            if path == "/dashboard/7" {
                for open in PUBLIC_SORTS {
                    probes.push(
                        Probe::get("internal headers from outside", self.at(open)).with(&set),
                    );
                }
            }
        }
    }

    /// T9, T20, CVE-2026-44574: keys Next.js reads by itself.
    fn queries(&self, path: &str, probes: &mut Vec<Probe>) {
        let at = self.at(path);
        let keys = [
            "nxtPid=7",
            "nxtIid=7",
            "nxtPpath=a",
            "nxtP=1",
            "%6extPid=7",
            "__nextDataReq=1",
            "__nextLocale=fr",
            "__nextDefaultLocale=fr",
            "__nextInferredLocaleFromDefault=1",
            "__flight__=1",
            "__nextSsgPath=%2Fdashboard",
            "__nextPath=%2Fdashboard",
            "_nextBubbleNoFallback=1",
            "amp=1",
            "_rsc=",
            "x=/open",
            "id=9",
            "reauth=1",
            "path=/dashboard",
        ];
        for key in keys {
            probes.push(Probe::get("query", format!("{at}?{key}")));
            if path == "/dashboard/7" {
                for open in PUBLIC_SORTS {
                    probes.push(Probe::get(
                        "query from outside",
                        format!("{}?{key}", self.at(open)),
                    ));
                }
            }
        }
    }

    /// T49, T52, CVE-2026-44578: targets that are no path, upgrades, preflights.
    fn forms_of_target(&self, path: &str, probes: &mut Vec<Probe>) {
        let at = self.at(path);
        for target in [
            format!("http://app.test{at}"),
            format!("HTTP://app.test{at}"),
            format!("https://app.test{at}"),
            format!("http://127.0.0.1{at}"),
            format!("http://evil.example{at}"),
            format!("http://app.test@evil.example{at}"),
            format!("ftp://app.test{at}"),
            format!("app.test{at}"),
            format!("app.test:80{at}"),
            at[1..].to_owned(),
            "*".to_owned(),
        ] {
            probes.push(Probe::get("form of the target", &target));
            let upgrade = [
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ];
            probes.push(Probe::get("upgrade", target).with(&upgrade));
        }
        for protocol in ["websocket", "WebSocket", "x", "h2c", "TLS/1.0"] {
            let key = "AAAAAAAAAAAAAAAAAAAAAA==";
            let headers = [
                ("connection", "upgrade"),
                ("upgrade", protocol),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", key),
            ];
            probes.push(Probe::get("upgrade", &at).with(&headers));
        }
        let headers = [("upgrade", "websocket")];
        probes.push(Probe::get("upgrade", &at).with(&headers));
        for (asked, origin) in [("GET", "http://evil.example"), ("POST", "null")] {
            let headers = [("origin", origin), ("access-control-request-method", asked)];
            probes.push(Probe::get("preflight", &at).by("OPTIONS").with(&headers));
            probes.push(Probe::get("preflight", &at).with(&headers));
            probes.push(Probe::get("preflight", &at).by("HEAD").with(&headers));
        }
    }

    /// Paths of the app's configuration that stand for protected ones.
    fn rewrites(&self, probes: &mut Vec<Probe>) {
        for path in [
            "/shortcut",
            "/alias",
            "/alias/3",
            "/alias/settings",
            "/files/report.txt",
            "/files/caf%C3%A9.txt",
            "/last/9",
            "/last/fixed",
            "/before/4",
            "/before",
            "/before/%34",
            "/files%2freport.txt",
            "/alias/%33",
        ] {
            probes.push(Probe::get("rewrite", self.at(path)).taking_build());
            probes.push(
                Probe::get("rewrite", self.at(path))
                    .with(&[("rsc", "1")])
                    .taking_build(),
            );
            let data = format!("{}/_next/data/{}{path}.json", self.base(), self.id);
            probes.push(
                Probe::get("rewrite", data)
                    .with(&[("x-nextjs-data", "1")])
                    .taking_build(),
            );
        }
        for path in ["/old-dashboard", "/old-dashboard/3"] {
            probes.push(Probe::get("redirect", self.at(path)));
        }
    }

    /// Pages that show another page's route in a place of their own: their folder's literal name is an address too.
    fn interceptions(&self, probes: &mut Vec<Probe>) {
        for path in [
            "/gallery/(..)dashboard/1",
            "/gallery/%28..%29dashboard/1",
            "/gallery/(%2e%2e)dashboard/1",
            "/gallery/(..)dashboar%64/1",
            "/gallery/%28%2e%2e%29dashboard/1",
            "/feed/(.)photo/1",
            "/feed/%28.%29photo/1",
            "/gallery/@modal/(..)dashboard/1",
            "/gallery/(..)dashboard/1.rsc",
            "/gallery/(..)dashboard%2f1",
            "/gallery/(..)/dashboard/1",
            "/open/../gallery/(..)dashboard/1",
        ] {
            probes.push(Probe::get("interception", self.at(path)));
            probes.push(Probe::get("interception", self.at(path)).with(&[("rsc", "1")]));
            let from = [("rsc", "1"), ("next-url", "/gallery")];
            probes.push(Probe::get("interception", self.at(path)).with(&from));
        }
        // The other way round: a public page, asked for as if from a protected one, comes with that one's layouts.
        for from in [
            "/members",
            "/members/",
            "/%6dembers",
            "/base/members",
            "/fr/members",
            "//members",
            "/members?x",
            "members",
            "/open, /members",
        ] {
            let headers = [("next-url", from)];
            let probe = Probe::get("interception", self.at("/open-photo/1")).with(&headers);
            probes.push(probe.clone());
            probes.push(probe.with(&[("rsc", "1")]));
        }
        let twice = [("next-url", "/open"), ("next-url", "/members")];
        probes.push(Probe::get("interception", self.at("/open-photo/1")).with(&twice));
    }

    /// T15, CVE-2025-57752: the optimizer reads files by itself.
    fn images(&self, probes: &mut Vec<Probe>) {
        let base = self.base();
        for file in ["private/moving.gif", "private/secret.png"] {
            let path = format!("{base}/{file}");
            let once = path.replace('/', "%2F");
            let twice = path.replace('/', "%252F");
            let letter = path.replace("private", "%2570rivate");
            let mut urls = vec![
                path.clone(),
                once.clone(),
                twice,
                letter.clone(),
                path.replace("private/", "private%2F"),
                path.replace("private/", "private%252f"),
                path.replace("private/", "private%25252f"),
                path.replace("private", "%70rivate"),
                format!("{once}%3Fx=1"),
                format!("{path}%3Fx"),
                format!("{path}%23x"),
                format!("{path}%253Fx"),
                format!("{path}%2523x"),
                format!("{base}/open/../{file}"),
                format!("{base}/open/%2e%2e/{file}"),
                format!("{base}/open/%252e%252e/{file}"),
                format!("{base}/open/..%2f{file}"),
                format!("{base}/open/..%252f{file}"),
                format!("{base}/open/..%5c{file}"),
                format!("{base}/open%5c..%5c{file}"),
                format!("{base}/./{file}"),
                format!("/{path}"),
                format!("%2F{once}"),
                format!("%5C{once}"),
                format!("{base}%5C{file}"),
                format!("{base}//{file}"),
                format!("%20{once}"),
                format!("%09{once}"),
                format!("{base}/%09{file}"),
                format!("{base}/pri%09vate{}", &file["private".len()..]),
                format!("{base}/pri%0Avate{}", &file["private".len()..]),
                path.replace("private", "pri%2509vate"),
                path.trim_start_matches('/').to_owned(),
                format!("./{file}"),
                format!("http://127.0.0.1{path}"),
                format!("http://app.test{path}"),
                format!("http%3A%2F%2Flocalhost%2F{file}"),
                format!("http:{path}"),
                format!("//app.test{path}"),
                format!("%2F%2Fapp.test{once}"),
                format!("%2F%5Capp.test{once}"),
                format!("file://{path}"),
                format!("data:,{path}"),
                format!("{path}%00"),
                format!("{path}%2500"),
                format!("{path};x"),
                format!("{path}/"),
                format!("{path}%2F"),
                format!("{path}.rsc"),
                path.to_ascii_uppercase(),
                format!("{base}/files/{}", &file["private/".len()..]),
                format!("{base}/_next/image%3Furl%3D{once}%26w%3D64%26q%3D75"),
                format!("{base}/_next/image?url={once}%26w=64%26q=75"),
                format!("+{once}"),
                format!("{once}+"),
                format!("{base}{}/{file}.json", self.data_prefix()),
                format!("{base}/en{}/{file}.json", self.data_prefix()),
                format!(
                    "{base}{}/_next/image.json%3Furl%3D{once}%26w%3D64%26q%3D75",
                    self.data_prefix()
                ),
            ];
            if !base.is_empty() {
                urls.push(format!("/{file}"));
                urls.push(format!("/fr/{file}"));
                urls.push(format!("{base}/fr/{file}"));
                urls.push(format!("{base}/en/{file}"));
                urls.push(format!("{base}/EN/{file}"));
            }
            for url in &urls {
                let probe = Probe::get("image", self.picture(url));
                let through_rewrite = url.contains("/files/");
                probes.push(if through_rewrite {
                    probe.taking_build()
                } else {
                    probe
                });
            }
            let open = format!("{base}/open/logo.png");
            for query in [
                format!("url={open}&url={path}&w=64&q=75"),
                format!("w=64&q=75&url={path}"),
                format!("w=64&q=75&url={once}&x=/open"),
                format!("%75rl={path}&w=64&q=75"),
                format!("ur%6c={once}&w=64&q=75"),
                format!("url%5B%5D={path}&w=64&q=75"),
                format!("url[]={path}&w=64&q=75"),
                format!("url[0]={path}&w=64&q=75"),
                format!("URL={path}&w=64&q=75"),
                format!("url={path};w=64;q=75"),
                format!("url={path}&w=64&q=75&url="),
                format!("url=&url={path}&w=64&q=75"),
                format!("&&url={path}&w=64&q=75"),
                format!("?url={path}&w=64&q=75"),
                format!("x=1;url={path}&w=64&q=75"),
                format!("x=%26url={path}&w=64&q=75"),
                format!("url\u{25}3D{path}&w=64&q=75"),
                format!("+url={path}&w=64&q=75"),
                format!("url+={path}&w=64&q=75"),
            ] {
                let is_open = query.contains("logo.png");
                let family = if is_open { "image of two" } else { "image" };
                let target = format!("{}?{query}", self.at("/_next/image"));
                probes.push(Probe::get(family, target));
            }
            for place in [
                "/_next/image",
                "/_next/image/",
                "/%5fnext/image",
                "/_next%2fimage",
                "/_next/%69mage",
                "//_next/image",
                "/_next//image",
                "/_next/image.rsc",
                "/_next/image.json",
                "/_next/static/../image",
                "/fr/_next/image",
                "/_next/image;x",
                "/_next/image%3f",
                "/_next/IMAGE",
                "/open/../_next/image",
                "/_next/image/x",
                "/_next/static/image",
                "/_next/image%20",
            ] {
                let target = format!("{}?url={path}&w=64&q=75", self.at(place));
                probes.push(Probe::get("image", target));
            }
            probes.push(Probe::get(
                "image",
                format!("{base}/_next/image?url={path}&w=64&q=75"),
            ));
            let target = self.picture(&once);
            probes.push(Probe::get("image", &target).by("HEAD"));
            probes.push(Probe::get("image", &target).by("POST"));
            probes.push(Probe::get("image", &target).with(&[("rsc", "1")]));
            probes.push(
                Probe::get("image", &target).with(&[("x-middleware-subrequest", "middleware")]),
            );
            probes.push(Probe::get("image", &target).with(&[
                ("accept", "image/avif,image/webp"),
                ("sec-fetch-dest", "image"),
            ]));
            probes.push(Probe::get("image", &target).with(&[("host", "app.test:80")]));
        }
    }
}

// ----------------------------------------------------------------------------------------------------------- the gateway

/// How the same protection is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// Everything needs a session, but for what is listed.
    AllBut,
    /// Only what is listed needs a session.
    Only,
}

/// A gateway, and what it goes by.
struct Guard {
    policy: Policy,
    /// Whether it has read the app's build.
    knows_build: bool,
    /// Ends when this does.
    _gateway: Gateway,
    /// Everybody comes by the same connection, which belongs to nobody.
    lane: Lane,
}

impl Guard {
    fn start(next: &Server, build: Build, policy: Policy, knows_build: bool) -> Self {
        let mut setup = Setup::in_front_of(next.address);
        let base = if build.is_based { "/base" } else { "" };
        let listed = |sources: &[&str], what: &vestibule::policy::Rule| -> Vec<RouteSpec> {
            let sources = sources.iter();
            sources.map(|source| route(source, what.clone())).collect()
        };
        let (routes, default) = match policy {
            Policy::AllBut => (listed(PUBLIC_SOURCES, &rule(Need::Public)), signed_in()),
            Policy::Only => (listed(PROTECTED_SOURCES, &signed_in()), rule(Need::Public)),
        };
        setup.routes = route::Settings {
            nextjs: build.nextjs(),
            routes,
            default,
            auth_base_path: format!("{base}/api/auth"),
            sign_in_path: Some(format!("{base}/sign-in")),
            ..setup.routes
        };
        setup.pages.sign_in = format!("{base}/sign-in");
        setup.app_folder = knows_build.then(|| build.folder());
        let gateway = setup.start();
        gateway.store.put(record("token-of-ada", "ada"));
        Self {
            policy,
            knows_build,
            lane: Lane::to(gateway.address),
            _gateway: gateway,
        }
    }

    fn name(&self) -> String {
        let by = if self.knows_build {
            "with the build"
        } else {
            "by rules alone"
        };
        format!("{:?} {by}", self.policy)
    }
}

/// Spellings that are refused to everybody although Next.js reads them, by the word the refusal gives: they can be read in more than
/// one way, or are Next.js's own.
const REFUSED_ON_PURPOSE: &[&str] = &[
    "dot_path_segment",
    "empty_path_segment",
    "backslash_in_path",
    "control_byte_in_target",
    "encoded_separator_changes_route",
    "bad_percent_escape",
    "path_not_utf8",
    "fragment_in_target",
    "target_not_a_path",
    "internal_query",
];

/// What came of a family of forms.
#[derive(Default)]
struct Tally {
    tried: usize,
    /// Next.js serves what is protected to whoever asks.
    bites: usize,
    /// Answers of a gateway that refused those to somebody signed in, by the word it gave.
    refused: BTreeMap<String, usize>,
    /// How long all of it took, and the slowest form: for people.
    took: Duration,
    slowest: Duration,
}

/// What must not be in an answer to a stranger, whatever was asked.
fn faults_of(answer: &Answer, probe: &Probe) -> Vec<String> {
    let mut faults = Vec::new();
    if probe.is_served(answer) {
        let beginning: String = answer.text().chars().take(200).collect();
        faults.push(format!("a stranger was served: {beginning}"));
    }
    let shown = answer.all("refresh");
    let shown = shown.iter().map(|said| {
        // `<seconds>;url=<address>`; what is written otherwise is none, and stays as it is.
        let address = said.split_once(';').map_or(*said, |(_, address)| address);
        let address = address.trim();
        address.strip_prefix("url=").unwrap_or(address)
    });
    for place in answer.all("location").into_iter().chain(shown) {
        if !place.starts_with('/') || place.starts_with("//") || place.starts_with("/\\") {
            faults.push(format!("sent off to {place}"));
        }
    }
    if answer.text().contains("user=root") {
        faults.push("the app believed what a stranger said he was".to_owned());
    }
    faults
}

/// What is wrong with what somebody signed in got where Next.js serves something protected.
fn faults_of_twin(answer: &Answer, probe: &Probe, tally: &mut Tally) -> Option<String> {
    let text = answer.text();
    if probe.is_served(answer) {
        let kept = answer.all("cache-control").join(", ");
        if !kept.contains("private") || !kept.contains("no-store") {
            return Some(format!("shared caches may keep it: {kept}"));
        }
        let is_told = text.contains("user=");
        return (is_told && !text.contains("user=ada"))
            .then(|| "the app was told that it is somebody else".to_owned());
    }
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let word = said["code"].as_str().unwrap_or_default();
    if REFUSED_ON_PURPOSE.contains(&word) {
        *tally.refused.entry(word.to_owned()).or_default() += 1;
        return None;
    }
    Some(format!(
        "somebody signed in was not served: {} {text}",
        answer.status
    ))
}

/// Tries everything at one build, and says what came of it.
fn run(build: Build) {
    let next = Server::start(build);
    let world = World::of(build);
    let mut guards = [
        (Policy::AllBut, false),
        (Policy::AllBut, true),
        (Policy::Only, false),
        (Policy::Only, true),
    ]
    .map(|(policy, knows_build)| Guard::start(&next, build, policy, knows_build));
    let ada = cookie("token-of-ada");
    let mut failures = Vec::new();
    let mut families: BTreeMap<&'static str, Tally> = BTreeMap::new();

    // First of all: what anybody may see, anybody sees. A gateway that refuses everything would pass what follows.
    for guard in &mut guards {
        for path in PUBLIC {
            let answer = guard.lane.ask(&Probe::get("public", world.at(path)), &[]);
            if answer.status != 200 || !answer.text().contains("open to all") {
                let (name, text) = (guard.name(), answer.text());
                failures.push(format!(
                    "{name}: a stranger must see {path}: {} {text}",
                    answer.status
                ));
            }
        }
        for picture in ["logo.png", "moving.gif"] {
            let picture = format!("{}/open/{picture}", world.base());
            let answer = guard
                .lane
                .ask(&Probe::get("public", world.picture(&picture)), &[]);
            let kind = answer.header("content-type").unwrap_or_default();
            if answer.status != 200 || !kind.starts_with("image/") {
                let name = guard.name();
                failures.push(format!(
                    "{name}: a stranger must see {picture}: {}",
                    answer.status
                ));
            }
        }
    }

    let mut direct_lane = Lane::to(next.address);
    // Next.js 15 leaves some upgrades unanswered for good: those are waited for together, while everything else is tried.
    let (upgrades, others): (Vec<_>, Vec<_>) = world
        .probes()
        .into_iter()
        .partition(|probe| probe.brings("connection"));
    let upgrades: Vec<_> = upgrades
        .into_iter()
        .map(|probe| {
            let (asked, address) = (probe.clone(), next.address);
            let answer = std::thread::spawn(move || Lane::to(address).ask(&asked, &[]));
            (probe, Some(answer))
        })
        .collect();
    let others = others.into_iter().map(|probe| (probe, None));
    for (turn, (mut probe, answer)) in others.chain(upgrades).enumerate() {
        let began = Instant::now();
        let mut direct = match answer {
            Some(answer) => answer.join().expect("an answer, or none"),
            None => direct_lane.ask(&probe, &[]),
        };
        // The client router is sent to the address that goes with its headers; so are we.
        let place = direct.header("location").map(str::to_owned);
        let place = place.filter(|place| place.starts_with('/') && place.contains("_rsc="));
        if let Some(place) = place.filter(|_| direct.status == 307) {
            let settled = Probe {
                target: place,
                ..probe.clone()
            };
            let answer = direct_lane.ask(&settled, &[]);
            if settled.is_served(&answer) {
                (probe, direct) = (settled, answer);
            }
        }
        let bites = probe.is_served(&direct);
        let tally = families.entry(probe.family).or_default();
        tally.tried += 1;
        tally.bites += usize::from(bites);
        for guard in &mut guards {
            // What the configuration of the app calls otherwise, rules about other paths do not cover.
            if probe.takes_build && guard.policy == Policy::Only && !guard.knows_build {
                continue;
            }
            let answer = guard.lane.ask(&probe, &[]);
            let said = faults_of(&answer, &probe);
            let said = said
                .iter()
                .map(|fault| format!("{} {fault}", answer.status));
            failures.extend(said.map(|said| format!("{} {}: {said}", guard.name(), probe.label())));
            // The twin: a form that brings a cookie of its own keeps it.
            let brings = probe.headers.iter().any(|(name, _)| name == "cookie");
            // The two that let somebody signed in everywhere take turns.
            let is_its_turn = guard.knows_build == (turn % 2 == 0);
            if bites && !brings && guard.policy == Policy::AllBut && is_its_turn {
                let answer = guard.lane.ask(&probe, &[("cookie", &ada)]);
                let fault = faults_of_twin(&answer, &probe, tally);
                failures.extend(
                    fault.map(|fault| format!("{} {}: {fault}", guard.name(), probe.label())),
                );
            }
        }
        let took = began.elapsed();
        if let Some(tally) = families.get_mut(probe.family) {
            tally.took += took;
            tally.slowest = tally.slowest.max(took);
        }
    }

    let place = if build.is_based {
        "below a base path"
    } else {
        "at the root"
    };
    let mut report = format!("\nNext.js {} {place}\n", build.version);
    for (family, tally) in &families {
        let _ = writeln!(
            report,
            "  {family}: {} tried, {} of them served by Next.js itself, refused on purpose: {:?}, {:.1?}, the slowest {:.1?}",
            tally.tried, tally.bites, tally.refused, tally.took, tally.slowest
        );
    }
    let tried: usize = families.values().map(|tally| tally.tried).sum();
    let bites: usize = families.values().map(|tally| tally.bites).sum();
    let _ = writeln!(
        report,
        "  {tried} tried, {bites} bite, {} failed",
        failures.len()
    );
    for failure in &failures {
        let _ = writeln!(report, "  FAILED {failure}");
    }
    say(&report);
    assert!(failures.is_empty(), "{report}");
    // The catalogue is only worth something where Next.js itself gives in.
    for family in BITE {
        // 15 takes dot segments as they are.
        if build.version == 15 && *family == "dot segments" {
            continue;
        }
        let tally = families.get(family);
        assert!(
            tally.is_some_and(|tally| tally.bites > 0),
            "nothing of `{family}` leads anywhere: {report}"
        );
    }
}

/// Families some form of which Next.js itself serves.
const BITE: &[&str] = &[
    "as it is",
    "encoded",
    "data address",
    "dot segments",
    "locale",
    "marks",
    "order",
    "suffix",
    "method",
    "preflight",
    "router headers",
    "internal headers",
    "query",
    "rewrite",
    "interception",
    "image",
    "upgrade",
];

#[test]
fn no_form_known_leads_a_stranger_into_next_15() {
    run(Build {
        version: 15,
        is_based: false,
    });
}

#[test]
fn no_form_known_leads_a_stranger_into_next_15_below_a_base_path_with_locales() {
    run(Build {
        version: 15,
        is_based: true,
    });
}

#[test]
fn no_form_known_leads_a_stranger_into_next_16() {
    run(Build {
        version: 16,
        is_based: false,
    });
}

#[test]
fn no_form_known_leads_a_stranger_into_next_16_below_a_base_path_with_locales() {
    run(Build {
        version: 16,
        is_based: true,
    });
}
