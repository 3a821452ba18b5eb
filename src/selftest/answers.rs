//! What answers say to caches and to the client.

use super::{Check, Expect, Need, Probe, Site};

const FAMILY: &str = "answers";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "A15",
        family: FAMILY,
        name: "no shared cache keeps a refusal",
        why: "a kept redirect to the sign-in page is served to those who are signed in",
        fix: "send `Cache-Control: private, no-store` with every refusal",
        needs: &[],
        probes: refusals,
    },
    Check {
        id: "A16",
        family: FAMILY,
        name: "no shared cache keeps a protected page",
        why: "prerendered pages of Next.js say `s-maxage`: a cache in front serves them to everybody (CVE-2025-57752, CVE-2026-44576)",
        fix: "replace `Cache-Control` by `private, no-store` on everything protected",
        needs: &[Need::Session],
        probes: protected,
    },
    Check {
        id: "A17",
        family: FAMILY,
        name: "no answer tells who the app thinks is asking",
        why: "identity headers and assertions of an app that repeats them reach scripts and caches",
        fix: "remove identity headers from answers",
        needs: &[],
        probes: identity,
    },
];

fn refusals(site: &Site) -> Vec<Probe> {
    site.doors()
        .flat_map(|door| {
            [
                Probe::new(site.get(door, &[]), Expect::Private),
                Probe::new(site.document(door, &[]), Expect::Private),
                Probe::new(site.get(door, &[("RSC", "1")]), Expect::Private),
            ]
        })
        .collect()
}

fn protected(site: &Site) -> Vec<Probe> {
    let Some(cookie) = &site.session else {
        return Vec::new();
    };
    site.protected
        .iter()
        .filter(|page| page.signed_in.is_some())
        .map(|page| {
            let headers = [("Cookie", cookie.expose())];
            Probe::new(site.document(&page.path, &headers), Expect::Private)
        })
        .collect()
}

fn identity(site: &Site) -> Vec<Probe> {
    let mut asked = vec![
        site.get(site.door(), &[]),
        site.get(site.public_path(), &[]),
    ];
    if let Some(cookie) = &site.session {
        asked.push(site.get(site.door(), &[("Cookie", cookie.expose())]));
    }
    if let Some(echo) = &site.echo {
        asked.push(site.ask_echo(echo, "", &[]));
    }
    asked
        .into_iter()
        .map(|sent| Probe::new(sent, Expect::Discreet(site.identity.clone())))
        .collect()
}
