//! Headers that only the gateway may write, in every spelling an app server could read as such.

use super::site::MARK;
use super::{Check, Echo, Expect, Need, Probe, Site};
use crate::secret::Secret;

const FAMILY: &str = "headers";
const FIX: &str = "remove every spelling of the header from every request, on every path: compare names lower-cased, with all but letters and digits as one";
const FIX_NEXT: &str = "remove `x-middleware-*`, `x-invoke-*`, `x-matched-path`, `x-now-route-matches`, `next-resume`, `x-prerender-revalidate` and, off data routes, `x-nextjs-data`";

/// What Next.js says to itself.
const INTERNAL: &[(&str, &str)] = &[
    (
        "x-middleware-subrequest",
        "middleware:middleware:middleware:middleware:middleware",
    ),
    (
        "x-middleware-subrequest",
        "src/middleware:src/middleware:src/middleware:src/middleware:src/middleware",
    ),
    ("x-middleware-subrequest", "pages/_middleware"),
    ("X-Middleware-Subrequest", "proxy"),
    ("x-middleware-next", "1"),
    ("x-middleware-rewrite", "/"),
    ("x-middleware-prefetch", "1"),
    ("x-invoke-status", "200"),
    ("x-invoke-path", "/"),
    ("x-matched-path", "/"),
    ("x-now-route-matches", "1=x"),
    ("x-nextjs-data", "1"),
    ("next-resume", "1"),
    ("x-next-resume-state-length", "9"),
    ("x-prerender-revalidate", "1"),
];

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "T1",
        family: FAMILY,
        name: "no identity header written with `_`",
        why: "CGI, WSGI and PHP read `X_Auth_User_Id` as `X-Auth-User-Id`: CVE-2025-64484, CVE-2026-39858, CVE-2026-54763, CVE-2026-52845",
        fix: FIX,
        needs: &[Need::Echo],
        probes: underscores,
    },
    Check {
        id: "T2",
        family: FAMILY,
        name: "no identity header written with dots and other marks",
        why: "PHP folds `.` and more into `_`: the follow-up of the underscore advisories in Traefik",
        fix: FIX,
        needs: &[Need::Echo],
        probes: marks,
    },
    Check {
        id: "T3",
        family: FAMILY,
        name: "no identity header in another case",
        why: "names are the same in every case, lists of names are not: CVE-2026-33433",
        fix: FIX,
        needs: &[Need::Echo],
        probes: cases,
    },
    Check {
        id: "T4",
        family: FAMILY,
        name: "no identity header beside a session that has no value for it",
        why: "a header nobody sets must still be removed: CVE-2026-30851",
        fix: FIX,
        needs: &[Need::Session, Need::Echo],
        probes: beside_a_session,
    },
    Check {
        id: "T5",
        family: FAMILY,
        name: "no identity header on a page for everybody",
        why: "pages without a rule reach the app as well: mod_auth_openidc#222",
        fix: FIX,
        needs: &[Need::OpenEcho],
        probes: on_a_public_page,
    },
    Check {
        id: "T6",
        family: FAMILY,
        name: "no second line of an identity header",
        why: "of several lines the app may read the one that was not looked at: CVE-2021-32777",
        fix: "remove all lines of a name, then set one",
        needs: &[Need::Echo],
        probes: twice,
    },
    Check {
        id: "T7",
        family: FAMILY,
        name: "no internal header of Next.js opens a page",
        why: "`x-middleware-subrequest` made Next.js skip its middleware: CVE-2025-29927",
        fix: FIX_NEXT,
        needs: &[],
        probes: internal_opens,
    },
    Check {
        id: "T8",
        family: FAMILY,
        name: "no internal header of Next.js reaches the app",
        why: "they change what is rendered, redirected and cached: CVE-2025-29927, CVE-2026-44572, CVE-2026-27979",
        fix: FIX_NEXT,
        needs: &[Need::Echo],
        probes: internal_arrives,
    },
    Check {
        id: "T9",
        family: FAMILY,
        name: "no internal route parameter in the query",
        why: "`nxtP…` and `nxtI…` name another page than the path: CVE-2026-44574",
        fix: "refuse queries with keys that begin with `nxtP` or `nxtI`, decoded",
        needs: &[Need::EchoTarget],
        probes: route_parameters,
    },
];

/// Headers in one request: a dozen stay far below every server's limit.
const HEADERS_EACH: usize = 12;

/// Asks what the app saw of these headers.
fn spoofed(site: &Site, session: Option<&Secret>, names: &[String]) -> Vec<Probe> {
    let Some(echo) = &site.echo else {
        return Vec::new();
    };
    names
        .chunks(HEADERS_EACH)
        .map(|names| {
            let headers: Vec<(&str, &str)> =
                names.iter().map(|name| (name.as_str(), MARK)).collect();
            Probe::new(
                site.ask_echo_as(echo, session, "", &headers),
                Expect::Unseen,
            )
        })
        .collect()
}

/// The session the page that reports asks for, if it does.
fn asked_for<'s>(site: &'s Site, echo: &Echo) -> Option<&'s Secret> {
    site.session.as_ref().filter(|_| !echo.open)
}

fn respelled(site: &Site, spell: impl Fn(&str) -> Vec<String>) -> Vec<Probe> {
    let session = site.echo.as_ref().and_then(|echo| asked_for(site, echo));
    let mut names: Vec<String> = Vec::new();
    for name in site.identity.iter().flat_map(|name| spell(name)) {
        // Some spellings of short names are one and the same.
        if !names.contains(&name) {
            names.push(name);
        }
    }
    spoofed(site, session, &names)
}

fn underscores(site: &Site) -> Vec<Probe> {
    respelled(site, |name| {
        vec![
            name.replace('-', "_"),
            name.replacen('-', "_", 1),
            shouted(name, '_'),
        ]
    })
}

fn marks(site: &Site) -> Vec<Probe> {
    respelled(site, |name| {
        ['.', '~', '!', '#', '$', '+', '|', '\'']
            .iter()
            .map(|mark| name.replace('-', &mark.to_string()))
            .chain([name.replacen('-', ".", 1), shouted(name, '.')])
            .collect()
    })
}

fn shouted(name: &str, mark: char) -> String {
    name.replace('-', &mark.to_string()).to_ascii_uppercase()
}

fn cases(site: &Site) -> Vec<Probe> {
    respelled(site, |name| {
        let mixed: String = name
            .chars()
            .enumerate()
            .map(|(at, letter)| match at % 2 {
                0 => letter.to_ascii_uppercase(),
                _ => letter,
            })
            .collect();
        vec![name.to_ascii_uppercase(), mixed]
    })
}

fn beside_a_session(site: &Site) -> Vec<Probe> {
    spoofed(site, site.session.as_ref(), &site.identity)
}

fn on_a_public_page(site: &Site) -> Vec<Probe> {
    spoofed(site, None, &site.identity)
}

fn twice(site: &Site) -> Vec<Probe> {
    let Some(echo) = &site.echo else {
        return Vec::new();
    };
    let session = asked_for(site, echo);
    site.identity
        .iter()
        .map(|name| {
            let headers = [
                (name.as_str(), "first"),
                ("Accept", "*/*"),
                (name.as_str(), MARK),
                (name.as_str(), MARK),
            ];
            Probe::new(
                site.ask_echo_as(echo, session, "", &headers),
                Expect::Unseen,
            )
        })
        .collect()
}

fn internal_opens(site: &Site) -> Vec<Probe> {
    let door = site.door();
    let mut probes: Vec<Probe> = INTERNAL
        .iter()
        .map(|(name, value)| {
            // A path in there is that of the protected page, as if it had been matched already.
            let value = if *value == "/" { door } else { value };
            Probe::new(site.get(door, &[(name, value)]), Expect::KeptOut)
        })
        .collect();
    probes.push(Probe::new(site.get(door, INTERNAL), Expect::KeptOut));
    probes
}

fn internal_arrives(site: &Site) -> Vec<Probe> {
    let mut names: Vec<String> = INTERNAL
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    names.push("x_middleware_subrequest".into());
    names.push("x-middleware-request-x-auth-user-id".into());
    let session = site.echo.as_ref().and_then(|echo| asked_for(site, echo));
    spoofed(site, session, &names)
}

fn route_parameters(site: &Site) -> Vec<Probe> {
    let Some(echo) = &site.echo else {
        return Vec::new();
    };
    [
        "nxtPid",
        "nxtIlocale",
        "%6extPid",
        "a=1&n%78tPid",
        "%6e%78%74%50id",
    ]
    .iter()
    .map(|key| {
        let query = format!("?{key}={MARK}");
        Probe::new(site.ask_echo(echo, &query, &[]), Expect::Unseen)
    })
    .collect()
}
