//! What a proxy in between would say, said by somebody who is none.

use super::site::{ELSEWHERE, MARK};
use super::{Check, Expect, Need, Probe, Site};

const FAMILY: &str = "forwarded data";
const FIX: &str = "believe `X-Forwarded-*`, `Forwarded` and their kin from `trusted_proxies` only, drop them from everybody else, then write your own";

/// Names that a proxy owns.
const NAMES: &[&str] = &[
    "forwarded",
    "x-forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-server",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-real-ip",
    "x-client-ip",
];

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "T26",
        family: FAMILY,
        name: "no header names the path that is judged",
        why: "`X-Forwarded-Uri` decided, and everybody was trusted: CVE-2026-40575",
        fix: FIX,
        needs: &[],
        probes: uris,
    },
    Check {
        id: "T27",
        family: FAMILY,
        name: "a stranger's scheme is not the app's",
        why: "`X-Forwarded-Proto` used though untrusted: CVE-2026-33495",
        fix: FIX,
        needs: &[Need::Echo],
        probes: scheme,
    },
    Check {
        id: "T28",
        family: FAMILY,
        name: "forwarded host, port and prefix lead nowhere else",
        why: "`X-Forwarded-Prefix` and `-Port` were left out of the trust: CVE-2026-35051, CVE-2026-54764, CVE-2024-52003",
        fix: FIX,
        needs: &[],
        probes: places,
    },
    Check {
        id: "T29",
        family: FAMILY,
        name: "no address of the client opens anything",
        why: "an address that cannot be read skipped a rule: CVE-2024-47070",
        fix: FIX,
        needs: &[],
        probes: addresses,
    },
    Check {
        id: "T30",
        family: FAMILY,
        name: "health checks open nothing",
        why: "the User-Agent of a health check skipped authentication: CVE-2026-34457",
        fix: "keep health on a listener of its own; let no header skip the check",
        needs: &[],
        probes: health,
    },
    Check {
        id: "T31",
        family: FAMILY,
        name: "no forwarded data of a client reaches the app",
        why: "limits and logs by address count whoever the client says it is: CVE-2026-45364",
        fix: FIX,
        needs: &[Need::Echo],
        probes: arrives,
    },
];

fn uris(site: &Site) -> Vec<Probe> {
    let public = site.public_path().to_owned();
    let door = site.door();
    [
        ("X-Forwarded-Uri", public.as_str()),
        ("X-Original-URL", &public),
        ("X-Original-URI", &public),
        ("X-Rewrite-URL", &public),
        ("X-Forwarded-Path", &public),
        ("X-Auth-Request-Redirect", &public),
        ("X-Envoy-Original-Path", &public),
        ("X-Forwarded-Method", "OPTIONS"),
        ("X-Forwarded-Uri", "/_next/static/x.js"),
    ]
    .iter()
    .map(|header| Probe::new(site.get(door, &[*header]), Expect::KeptOut))
    // The other way round: a public path that says it is the protected one must not become it.
    .chain(
        ["X-Forwarded-Uri", "X-Original-URL", "X-Rewrite-URL"]
            .iter()
            .map(|name| Probe::new(site.get(&public, &[(name, door)]), Expect::KeptOut)),
    )
    .collect()
}

fn scheme(site: &Site) -> Vec<Probe> {
    let Some(echo) = &site.echo else {
        return Vec::new();
    };
    [
        "X-Forwarded-Proto",
        "x-forwarded-proto",
        "X_Forwarded_Proto",
        "X-Forwarded-Protocol",
    ]
    .iter()
    .map(|name| Probe::new(site.ask_echo(echo, "", &[(name, MARK)]), Expect::Unseen))
    .collect()
}

fn places(site: &Site) -> Vec<Probe> {
    let elsewhere = format!("//{ELSEWHERE}");
    let full = format!("for=192.0.2.1;host={ELSEWHERE};proto=https");
    let door = site.door();
    [
        ("X-Forwarded-Host", ELSEWHERE),
        ("X_Forwarded_Host", ELSEWHERE),
        ("X-Forwarded-Server", ELSEWHERE),
        ("X-Original-Host", ELSEWHERE),
        ("X-Host", ELSEWHERE),
        ("X-Forwarded-Prefix", elsewhere.as_str()),
        ("X-Forwarded-Port", "1@evil.example"),
        ("X-Forwarded-Uri", elsewhere.as_str()),
        ("Forwarded", full.as_str()),
        ("X-Auth-Request-Redirect", elsewhere.as_str()),
    ]
    .iter()
    .map(|header| Probe::new(site.document(door, &[*header]), Expect::KeptOut))
    .collect()
}

fn addresses(site: &Site) -> Vec<Probe> {
    let mut probes = Vec::new();
    for address in [
        "a",
        "",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "10.0.0.1",
        "unknown",
        "127.0.0.1, a",
        "0",
    ] {
        for name in ["X-Forwarded-For", "X-Real-IP"] {
            probes.push(Probe::new(
                site.get(site.door(), &[(name, address)]),
                Expect::KeptOut,
            ));
        }
    }
    for header in [
        ("Forwarded", "for=127.0.0.1"),
        ("X-Client-IP", "127.0.0.1"),
        ("CF-Connecting-IP", "127.0.0.1"),
        ("True-Client-IP", "127.0.0.1"),
    ] {
        probes.push(Probe::new(
            site.get(site.door(), &[header]),
            Expect::KeptOut,
        ));
    }
    probes
}

fn health(site: &Site) -> Vec<Probe> {
    [
        "GoogleHC/1.0",
        "kube-probe/1.30",
        "ELB-HealthChecker/2.0",
        "Amazon-Route53-Health-Check-Service",
        "Consul Health Check",
        "vestibule",
        "Googlebot/2.1",
    ]
    .iter()
    .map(|agent| {
        Probe::new(
            site.get(site.door(), &[("User-Agent", agent)]),
            Expect::KeptOut,
        )
    })
    .collect()
}

fn arrives(site: &Site) -> Vec<Probe> {
    let Some(echo) = &site.echo else {
        return Vec::new();
    };
    // One by one: a gateway may refuse one and pass another.
    NAMES
        .iter()
        .flat_map(|name| [(*name).to_owned(), name.replace('-', "_")])
        .map(|name| Probe::new(site.ask_echo(echo, "", &[(&name, MARK)]), Expect::Unseen))
        .collect()
}
