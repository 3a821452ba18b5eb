//! Spellings of a protected path that somebody behind the gateway reads as that path.

use super::site::MARK;
use super::{Check, Expect, Need, Probe, Site};

const FAMILY: &str = "paths";
const CANONICAL: &str = "judge the path in every reading the app may give it, or refuse it; forward exactly what was judged";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "T13",
        family: FAMILY,
        name: "dot segments lead past no rule",
        why: "the raw path is matched and normalised later: CVE-2026-33494",
        fix: CANONICAL,
        needs: &[],
        probes: dots,
    },
    Check {
        id: "T14",
        family: FAMILY,
        name: "encoded dots, slashes and backslashes lead past no rule",
        why: "CVE-2019-9901, CVE-2021-29492, CVE-2025-66490, CVE-2026-40912",
        fix: CANONICAL,
        needs: &[],
        probes: encoded_dots,
    },
    Check {
        id: "T15",
        family: FAMILY,
        name: "what is judged is what is forwarded, byte for byte",
        why: "rewriting after matching makes another path of it: CVE-2025-32431, CVE-2025-47952, CVE-2026-48020, CVE-2026-65600",
        fix: "forward the target as it came, or judge it again after rewriting",
        needs: &[Need::EchoTarget],
        probes: unchanged,
    },
    Check {
        id: "T16",
        family: FAMILY,
        name: "a fragment or an encoded mark hides no path",
        why: "`#`, `%23` and `%3f` end the path for some: CVE-2023-47106, CVE-2021-32779, CVE-2026-41059",
        fix: CANONICAL,
        needs: &[],
        probes: fragments,
    },
    Check {
        id: "T17",
        family: FAMILY,
        name: "another case of path or host is no other place",
        why: "CVE-2026-27587, CVE-2026-27588",
        fix: "compare hosts lower-cased; let the default rule protect paths nobody named",
        needs: &[],
        probes: cases,
    },
    Check {
        id: "T18",
        family: FAMILY,
        name: "doubled slashes lead past no rule",
        why: "routers collapse them, path rules do not: CVE-2025-71399",
        fix: CANONICAL,
        needs: &[],
        probes: slashes,
    },
    Check {
        id: "T19",
        family: FAMILY,
        name: "path parameters lead past no rule",
        why: "`..;/` is a dot segment to servers that cut parameters off: CVE-2026-3872",
        fix: CANONICAL,
        needs: &[],
        probes: parameters,
    },
    Check {
        id: "T20",
        family: FAMILY,
        name: "the query decides nothing",
        why: "rules that match path and query together: CVE-2025-54576",
        fix: "match on the path only",
        needs: &[],
        probes: queries,
    },
    Check {
        id: "T23",
        family: FAMILY,
        name: "pages at the first level, with and without a slash at the end",
        why: "pages at the root were left out of the check: CVE-2024-51479",
        fix: CANONICAL,
        needs: &[],
        probes: first_level,
    },
    Check {
        id: "T25",
        family: FAMILY,
        name: "a rule for a path is none for its neighbours",
        why: "permission by prefix: GHSA-gx7w-56w6-g48x, CVE-2026-45692",
        fix: "end prefixes at a slash",
        needs: &[Need::Public],
        probes: neighbours,
    },
    Check {
        id: "A1",
        family: FAMILY,
        name: "encoded letters and control bytes lead past no rule",
        why: "files and dynamic routes are looked up decoded: Next.js serves `public/` that way",
        fix: CANONICAL,
        needs: &[],
        probes: encoded_letters,
    },
    Check {
        id: "A2",
        family: FAMILY,
        name: "a path that looks like a static file is no static file",
        why: "matchers that leave out every path with a dot, or everything below `_next`, leave out pages (web cache deception)",
        fix: "name public files by their folder, not by their ending",
        needs: &[],
        probes: endings,
    },
];

/// A probe for every protected page and every spelling of it.
fn spelled(site: &Site, spell: impl Fn(&str) -> Vec<String>) -> Vec<Probe> {
    site.doors()
        .flat_map(spell)
        .map(|target| Probe::new(site.get(&target, &[]), Expect::KeptOut))
        .collect()
}

/// Folders that are public nearly everywhere, and the one that is here.
fn folders(site: &Site) -> Vec<String> {
    let mut folders = vec!["/_next/static".to_owned(), "/api/auth".to_owned()];
    let public = site.public_folder();
    if !public.is_empty() {
        folders.push(public.to_owned());
    }
    folders
}

/// As many steps up as the folder has levels.
fn up(folder: &str, step: &str) -> String {
    step.repeat(folder.matches('/').count())
}

fn dots(site: &Site) -> Vec<Probe> {
    spelled(site, |door| {
        let mut targets: Vec<String> = folders(site)
            .iter()
            .map(|folder| format!("{folder}{}{door}", up(folder, "/..")))
            .collect();
        targets.extend([
            format!("/.{door}"),
            format!("/..{door}"),
            format!("{door}/."),
            format!("{door}/x/.."),
        ]);
        targets
    })
}

fn encoded_dots(site: &Site) -> Vec<Probe> {
    spelled(site, |door| {
        let mut targets = Vec::new();
        for folder in folders(site) {
            for step in [
                "/%2e%2e",
                "/.%2e",
                "/%2E%2E",
                "%2f..",
                "%5c..",
                "\\..",
                "/%252e%252e",
                "%252f..",
            ] {
                targets.push(format!("{folder}{}{door}", up(&folder, step)));
            }
        }
        let inner = door.trim_start_matches('/');
        targets.extend([
            format!("/%2e{door}"),
            format!("/%2f{inner}"),
            format!("/%5c{inner}"),
            format!("\\{inner}"),
            format!("/\\{inner}"),
            format!("{door}%2f"),
            format!("{door}%5c"),
        ]);
        targets
    })
}

fn unchanged(site: &Site) -> Vec<Probe> {
    let Some(echo) = &site.echo else {
        return Vec::new();
    };
    [
        "?x=/../y&z=a%2Fb",
        "?%41=%2e%2e%2f",
        "?x=a;b&y=%252e",
        "?q=a%20b+c&&=&",
    ]
    .iter()
    .map(|query| {
        Probe::new(
            site.ask_echo(echo, query, &[]),
            Expect::Shown(format!("{}{query}", echo.path)),
        )
    })
    .collect()
}

fn fragments(site: &Site) -> Vec<Probe> {
    let public = site.public_path().to_owned();
    spelled(site, |door| {
        vec![
            format!("{door}#"),
            format!("{door}#/..{public}"),
            format!("{public}#/..{door}"),
            format!("{door}%23{public}"),
            format!("{door}%23"),
            format!("{door}%3f{public}"),
            format!("{door}%3f"),
        ]
    })
}

fn cases(site: &Site) -> Vec<Probe> {
    let mut probes = spelled(site, |door| {
        let mut mixed = String::new();
        for (at, letter) in door.chars().enumerate() {
            mixed.push(if at % 2 == 1 {
                letter.to_ascii_uppercase()
            } else {
                letter
            });
        }
        vec![door.to_ascii_uppercase(), mixed]
    });
    let shouted = site.host.to_ascii_uppercase();
    let dotted = match site.host.rsplit_once(':') {
        Some((name, port)) => format!("{name}.:{port}"),
        None => format!("{}.", site.host),
    };
    for host in [shouted, dotted] {
        probes.push(Probe::new(
            site.get(site.door(), &[("Host", &host)]),
            Expect::KeptOut,
        ));
    }
    probes
}

fn slashes(site: &Site) -> Vec<Probe> {
    spelled(site, |door| {
        let mut targets: Vec<String> = vec![
            format!("/{door}"),
            format!("//{door}"),
            format!("{door}//"),
            format!("//api/auth{door}"),
        ];
        // Between its segments, where it has several.
        if let Some((parent, last)) = door
            .rsplit_once('/')
            .filter(|(parent, _)| !parent.is_empty())
        {
            targets.push(format!("{parent}//{last}"));
        }
        targets
    })
}

fn parameters(site: &Site) -> Vec<Probe> {
    spelled(site, |door| {
        let mut targets: Vec<String> = folders(site)
            .iter()
            .map(|folder| format!("{folder}{}{door}", up(folder, "/..;")))
            .collect();
        let inner = door.trim_start_matches('/');
        targets.extend([
            format!("{door};x=1"),
            format!("{door};.png"),
            format!("{door}%3bx=1"),
            format!("/;x/{inner}"),
            format!("/;/{inner}"),
            format!("{door};/"),
        ]);
        targets
    })
}

fn queries(site: &Site) -> Vec<Probe> {
    let public = site.public_path().to_owned();
    spelled(site, |door| {
        vec![
            format!("{door}?x={public}"),
            format!("{door}?{public}"),
            format!("{door}?/_next/static/x.js"),
            format!("{door}?x=/api/auth/sign-in"),
            format!("{door}?"),
        ]
    })
}

fn first_level(site: &Site) -> Vec<Probe> {
    spelled(site, |door| match door {
        "/" => vec!["/index".into(), "/?".into()],
        _ => vec![
            format!("{door}/"),
            format!("{door}/?x=1"),
            format!("{door}/index"),
        ],
    })
}

fn neighbours(site: &Site) -> Vec<Probe> {
    // Whatever lies beside a public path is as open as a path that is nowhere; protected content is never there.
    let mut targets = Vec::new();
    for folder in folders(site) {
        targets.push(format!("{folder}{}", "x"));
        targets.push(format!("{folder}-x"));
        targets.push(format!("{folder}.x"));
        targets.extend(site.doors().map(|door| format!("{folder}..{door}")));
    }
    targets
        .iter()
        .map(|target| Probe::new(site.get(target, &[]), Expect::KeptOut))
        .collect()
}

fn encoded_letters(site: &Site) -> Vec<Probe> {
    spelled(site, |door| {
        let mut probes = vec![
            format!("{door}%00"),
            format!("{door}%0a"),
            format!("{door}%0d%0a{MARK}"),
            format!("{door}%09"),
            format!("{door}%20"),
            format!("{door}%"),
            format!("{door}%c0%af"),
        ];
        let escaped = |pick: &dyn Fn(usize) -> bool| -> String {
            door.bytes()
                .enumerate()
                .map(|(at, byte)| {
                    if byte != b'/' && pick(at) {
                        format!("%{byte:02x}")
                    } else {
                        char::from(byte).to_string()
                    }
                })
                .collect()
        };
        if door.len() > 1 {
            probes.push(escaped(&|at| at == 1));
            probes.push(escaped(&|at| at + 1 == door.len()));
            probes.push(escaped(&|_| true));
        }
        probes
    })
}

fn endings(site: &Site) -> Vec<Probe> {
    spelled(site, |door| {
        vec![
            format!("{door}/x.css"),
            format!("{door}.css"),
            format!("{door}.png"),
            format!("{door}/favicon.ico"),
            format!("{door}/robots.txt"),
            format!("{door}%2fx.js"),
            format!("{door}/_next/static/x.js"),
            format!("{door}/x.svg"),
        ]
    })
}
