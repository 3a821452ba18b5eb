//! The other addresses under which Next.js serves a page, and the requests its client side makes.

use super::answer::Reading;
use super::{Check, Expect, Need, Probe, Site};

const FAMILY: &str = "next.js";
const ALIASES: &str = "map data, transport and locale forms to their page before the rule is looked up; load the app's build with `[nextjs] app`";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "T21",
        family: FAMILY,
        name: "the data of a page is as protected as the page",
        why: "`/_next/data/…` returns the props of a page: CVE-2026-44573, CVE-2026-64642",
        fix: ALIASES,
        needs: &[],
        probes: data,
    },
    Check {
        id: "T22",
        family: FAMILY,
        name: "transport forms of a page are as protected as the page",
        why: "`.rsc` and `.segments/…` were not matched: CVE-2026-44575, CVE-2026-45109",
        fix: ALIASES,
        needs: &[],
        probes: transport,
    },
    Check {
        id: "A3",
        family: FAMILY,
        name: "the image optimizer reads no protected file",
        why: "`/_next/image?url=` fetches the inner path inside the server: CVE-2025-57752",
        fix: "apply the rule of the inner path, normalised alike",
        needs: &[],
        probes: images,
    },
    Check {
        id: "A4",
        family: FAMILY,
        name: "a locale prefix leads past no rule",
        why: "prefixes are read in any case, and data addresses may leave them out: CVE-2026-44573",
        fix: ALIASES,
        needs: &[],
        probes: locales,
    },
    Check {
        id: "A5",
        family: FAMILY,
        name: "headers of prefetches and navigations open nothing",
        why: "the documented recipe to skip prefetches lets in whoever sends the header",
        fix: "let headers choose the form of a refusal, never whether to check",
        needs: &[],
        probes: prefetches,
    },
    Check {
        id: "A6",
        family: FAMILY,
        name: "a prefetch is refused, not redirected",
        why: "the client side keeps the redirect: after signing in, the link still leads to the sign-in page",
        fix: "answer anonymous requests with `RSC: 1` by 401 and `no-store`",
        needs: &[],
        probes: prefetch_redirects,
    },
    Check {
        id: "A7",
        family: FAMILY,
        name: "a Server Action of a protected page does not run elsewhere",
        why: "an action runs whatever path it is posted to: CVE-2025-55182 and kin came in that way",
        fix: "load the app's build, so that actions carry the rule of their page, or allow only GET on public pages",
        needs: &[Need::Action],
        probes: actions,
    },
    Check {
        id: "A8",
        family: FAMILY,
        name: "neither draft mode nor revalidation opens a page",
        why: "`x-prerender-revalidate` and the preview cookies skip the middleware",
        fix: "drop the header from outside; check pages whatever cookies come along",
        needs: &[],
        probes: previews,
    },
    Check {
        id: "A9",
        family: FAMILY,
        name: "only a true preflight passes without a session",
        why: "preflights carry no cookies and are let through: what looks like one must not carry a request",
        fix: "let only OPTIONS with `Origin` and `Access-Control-Request-Method`, without body and upgrade, pass",
        needs: &[],
        probes: preflights,
    },
    Check {
        id: "A10",
        family: FAMILY,
        name: "an odd method is as protected as any",
        why: "rules for a list of methods leave out the rest; overrides make another of a method",
        fix: "compare methods exactly, and let the default rule protect those nobody listed",
        needs: &[],
        probes: methods,
    },
];

/// A build id; the real one is no secret, and the address means the same with any.
const BUILDS: [&str; 2] = ["development", "B"];

fn kept_out(
    targets: impl IntoIterator<Item = String>,
    site: &Site,
    headers: &[(&str, &str)],
) -> Vec<Probe> {
    targets
        .into_iter()
        .map(|target| Probe::new(site.get(&target, headers), Expect::KeptOut))
        .collect()
}

/// A path inside a data address, where the root is `/index`.
fn page(door: &str) -> &str {
    if door == "/" { "/index" } else { door }
}

fn data(site: &Site) -> Vec<Probe> {
    let targets = site.doors().flat_map(|door| {
        BUILDS.iter().flat_map(move |build| {
            let page = page(door);
            [
                format!("/_next/data/{build}{page}.json"),
                format!("/_next/data/{build}/en{page}.json"),
                format!("/_next/data/{build}{page}.json?x=1"),
                format!("/_next%2fdata/{build}{page}.json"),
                format!("/%5fnext/data/{build}{page}.json"),
            ]
        })
    });
    kept_out(targets, site, &[("x-nextjs-data", "1")])
}

fn transport(site: &Site) -> Vec<Probe> {
    let targets = site.doors().flat_map(|door| {
        let page = page(door);
        [
            format!("{page}.rsc"),
            format!("{page}.json"),
            format!("{page}.txt"),
            format!("{page}.segments/_tree.segment.rsc"),
            format!("{page}.segments/_full.segment.rsc"),
            format!("{page}.segments/x/__PAGE__.segment.rsc"),
            format!("{page}.rsc?_rsc=abcde"),
        ]
    });
    kept_out(targets, site, &[])
}

fn images(site: &Site) -> Vec<Probe> {
    let targets = site.doors().flat_map(|door| {
        let inner = door.trim_start_matches('/');
        [
            format!("/_next/image?url={door}&w=640&q=75"),
            format!("/_next/image?url=%2F{inner}&w=640&q=75"),
            format!("/_next/image?w=640&q=75&url=%2F{inner}"),
            format!("/_next/image?url=%252F{inner}&w=640&q=75"),
            format!("/_next/image?url=/x/..{door}&w=640&q=75"),
            format!("/_next/image?url={door}%3Fx&w=640&q=75"),
            format!("/_next/image/?url={door}&w=640&q=75"),
        ]
    });
    kept_out(targets, site, &[])
}

fn locales(site: &Site) -> Vec<Probe> {
    let targets = site.doors().flat_map(|door| {
        let door = if door == "/" { "" } else { door };
        ["en", "EN", "de", "fr", "en-US", "nl-NL", "%65n", "default"]
            .map(|locale| format!("/{locale}{door}"))
    });
    // The root of a locale is the root of the site.
    kept_out(
        targets.filter(|target| target.matches('/').count() > 1),
        site,
        &[],
    )
}

const NAVIGATION: &[&[(&str, &str)]] = &[
    &[("RSC", "1")],
    &[("RSC", "0")],
    &[("RSC", "1"), ("Next-Router-Prefetch", "1")],
    &[
        ("RSC", "1"),
        ("Next-Router-Prefetch", "1"),
        ("Next-Router-Segment-Prefetch", "/_tree"),
    ],
];

const PREFETCH: &[&[(&str, &str)]] = &[
    &[("Next-Router-Prefetch", "0")],
    &[("Next-Router-Prefetch", "2")],
    &[("Purpose", "prefetch")],
    &[("Sec-Purpose", "prefetch;prerender")],
    &[("X-Moz", "prefetch")],
    &[("Next-HMR-Refresh", "1")],
    &[("Next-Url", "/")],
    &[("Next-Action", "x")],
    &[("X-Requested-With", "XMLHttpRequest")],
    &[("Accept", "text/event-stream")],
    &[("Sec-Fetch-Dest", "image"), ("Sec-Fetch-Mode", "no-cors")],
];

fn prefetches(site: &Site) -> Vec<Probe> {
    let mut probes = Vec::new();
    for door in site.doors() {
        for headers in NAVIGATION.iter().chain(PREFETCH) {
            for target in [door.to_owned(), format!("{door}?_rsc=abcde")] {
                probes.push(Probe::new(site.get(&target, headers), Expect::KeptOut));
            }
        }
    }
    probes
}

fn prefetch_redirects(site: &Site) -> Vec<Probe> {
    NAVIGATION
        .iter()
        .filter(|headers| headers.first().is_some_and(|(_, value)| *value == "1"))
        .map(|headers| {
            let target = format!("{}?_rsc=abcde", site.door());
            Probe::new(site.get(&target, headers), Expect::RefusedInPlace)
        })
        .collect()
}

fn actions(site: &Site) -> Vec<Probe> {
    let Some(action) = &site.action else {
        return Vec::new();
    };
    let called = [
        ("Next-Action", action.as_str()),
        ("Accept", "text/x-component"),
        ("Content-Type", "text/plain;charset=UTF-8"),
        ("Origin", site.origin.as_str()),
    ];
    let form = format!(
        "--selftest\r\nContent-Disposition: form-data; name=\"$ACTION_ID_{action}\"\r\n\r\n\r\n--selftest--\r\n"
    );
    let posted = [
        ("Accept", "text/html"),
        ("Content-Type", "multipart/form-data; boundary=selftest"),
        ("Origin", site.origin.as_str()),
    ];
    let mut probes = Vec::new();
    for target in ["/", site.public_path(), site.door(), "/selftest-nowhere"] {
        probes.push(Probe::new(
            site.request("POST", target, &called, b"[]"),
            Expect::NotRun,
        ));
        probes.push(Probe::new(
            site.request("POST", target, &posted, form.as_bytes()),
            Expect::NotRun,
        ));
    }
    probes
}

fn previews(site: &Site) -> Vec<Probe> {
    let door = site.door();
    let cookies = [
        "__prerender_bypass=1",
        "__prerender_bypass=x; __next_preview_data=y",
        "__next_hmr_refresh_hash__=1",
    ];
    let mut probes: Vec<Probe> = cookies
        .iter()
        .map(|cookie| Probe::new(site.get(door, &[("Cookie", cookie)]), Expect::KeptOut))
        .collect();
    for headers in [
        &[("x-prerender-revalidate", "x")][..],
        &[
            ("x-prerender-revalidate", "x"),
            ("x-prerender-revalidate-if-generated", "1"),
        ],
        &[("next-resume", "1")],
    ] {
        probes.push(Probe::new(site.get(door, headers), Expect::KeptOut));
    }
    probes
}

fn preflights(site: &Site) -> Vec<Probe> {
    let door = site.door();
    let asked = [
        ("Origin", site.origin.as_str()),
        ("Access-Control-Request-Method", "GET"),
    ];
    let upgrade = [
        asked[0],
        asked[1],
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
    ];
    vec![
        Probe::new(site.request("GET", door, &asked, b""), Expect::KeptOut),
        Probe::new(site.request("POST", door, &asked, b"x"), Expect::KeptOut),
        Probe::new(site.request("OPTIONS", door, &asked, b"x"), Expect::KeptOut),
        Probe::new(
            site.request("OPTIONS", door, &upgrade, b""),
            Expect::KeptOut,
        ),
        Probe::new(site.request("options", door, &asked, b""), Expect::KeptOut),
    ]
}

fn methods(site: &Site) -> Vec<Probe> {
    let door = site.door();
    let mut probes: Vec<Probe> = [
        "get", "Get", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "SELFTEST", "QUERY", "HEADX",
    ]
    .iter()
    .map(|method| Probe::new(site.request(method, door, &[], b""), Expect::KeptOut))
    .collect();
    for name in [
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "X-HTTP-Method",
    ] {
        for method in ["OPTIONS", "HEAD"] {
            probes.push(Probe::new(
                site.get(door, &[(name, method)]),
                Expect::KeptOut,
            ));
        }
    }
    let mut head = Probe::new(site.request("HEAD", door, &[], b""), Expect::KeptOut);
    head.reading = Reading::Head;
    probes.push(head);
    probes
}
