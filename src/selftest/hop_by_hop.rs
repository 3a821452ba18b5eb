//! Headers that a client asks to have deleted on the way.

use super::judge::shows_header;
use super::site::MARK;
use super::{Check, Expect, Need, Probe, Site};

const FAMILY: &str = "hop-by-hop";
const FIX: &str = "refuse a `Connection` that names anything but close, keep-alive, upgrade and te";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "T10",
        family: FAMILY,
        name: "`Connection` deletes no forwarded header",
        why: "what the proxy wrote about the client vanishes on the way to the app: CVE-2024-45410, CVE-2026-29054, CVE-2021-32813",
        fix: FIX,
        needs: &[Need::Echo],
        probes: forwarded,
    },
    Check {
        id: "T11",
        family: FAMILY,
        name: "`Connection` deletes no identity header",
        why: "the app takes a caller without a name for another one: GHSA-w9mr-28mw-j8hg",
        fix: FIX,
        needs: &[Need::Session, Need::Echo],
        probes: identity,
    },
    Check {
        id: "T12",
        family: FAMILY,
        name: "`Connection` deletes no cookie",
        why: "the gateway judges a cookie that the app never sees",
        fix: FIX,
        needs: &[Need::Echo],
        probes: cookie,
    },
];

/// Ways to nominate a header. Behind the name always stands a comma: so it is told apart from a header of that name where an
/// app reports `Connection` as well.
fn nominations(name: &str) -> [String; 3] {
    [
        format!("{name}, close"),
        format!("{}, close", name.to_ascii_uppercase()),
        format!("keep-alive ,\t{name} ,"),
    ]
}

/// Of these names, those the app sees of an ordinary request must be seen of one that nominates them.
fn nominated(site: &Site, names: &[String], signed_in: bool) -> Vec<Probe> {
    let Some(echo) = &site.echo else {
        return Vec::new();
    };
    let ordinary = if signed_in {
        &echo.signed_in
    } else {
        // A page that wants a session reports what it saw of one.
        &echo.anonymous.clone().or_else(|| echo.signed_in.clone())
    };
    let Some(ordinary) = ordinary
        .as_ref()
        .map(|answer| answer.text().to_ascii_lowercase())
    else {
        return Vec::new();
    };
    let session = site.session.as_ref().filter(|_| signed_in || !echo.open);
    names
        .iter()
        .filter(|name| shows_header(&ordinary, name))
        .flat_map(|name| {
            nominations(name).map(|line| {
                let headers = [("Connection", line.as_str())];
                Probe::new(
                    site.ask_echo_as(echo, session, "", &headers),
                    Expect::Kept(name.clone()),
                )
            })
        })
        .collect()
}

fn forwarded(site: &Site) -> Vec<Probe> {
    let names = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"].map(str::to_owned);
    nominated(site, &names, false)
}

fn identity(site: &Site) -> Vec<Probe> {
    nominated(site, &site.identity, true)
}

fn cookie(site: &Site) -> Vec<Probe> {
    let Some(echo) = &site.echo else {
        return Vec::new();
    };
    let session = site.session.as_ref().filter(|_| !echo.open);
    let mine = format!("selftest={MARK}");
    let cookies = session.map_or_else(
        || mine.clone(),
        |given| format!("{}; {mine}", given.expose()),
    );
    nominations("cookie")
        .iter()
        .map(|line| {
            let headers = [("Cookie", cookies.as_str()), ("Connection", line.as_str())];
            Probe::new(
                site.ask_echo_as(echo, None, "", &headers),
                Expect::Shown(MARK.into()),
            )
        })
        .collect()
}
