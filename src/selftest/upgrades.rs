//! Upgrades, tunnels and methods about the connection itself.

use super::site::MARK;
use super::{Check, Expect, Probe, Site};

const FAMILY: &str = "upgrades";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "T45",
        family: FAMILY,
        name: "an upgrade nobody agreed to opens no tunnel",
        why: "bytes behind `Upgrade` went to the app unread: CVE-2026-2833",
        fix: "read on as HTTP until the app has answered 101; close otherwise",
        needs: &[],
        probes: tunnels,
    },
    Check {
        id: "T48",
        family: FAMILY,
        name: "CONNECT is refused",
        why: "proxied CONNECT poisons connections to the app: CVE-2026-71324",
        fix: "answer CONNECT with 405",
        needs: &[],
        probes: connect,
    },
    Check {
        id: "T49",
        family: FAMILY,
        name: "an upgrade of an absolute address is refused",
        why: "the built-in server of Next.js fetched it: CVE-2026-44578",
        fix: "refuse targets that are no path",
        needs: &[],
        probes: absolute,
    },
    Check {
        id: "T52",
        family: FAMILY,
        name: "an upgrade header opens no protected page",
        why: "authentication was off for any `Upgrade`: pingap#215",
        fix: "judge upgrades like every other request, before anything is opened",
        needs: &[],
        probes: upgrades,
    },
    Check {
        id: "A14",
        family: FAMILY,
        name: "TRACE tells nobody what the app was sent",
        why: "an answer that repeats the request repeats cookies and identity headers to scripts",
        fix: "refuse TRACE, or let the app refuse it",
        needs: &[],
        probes: trace,
    },
];

fn tunnels(site: &Site) -> Vec<Probe> {
    ["selftest", "websocket", "h2c", "TLS/1.0"]
        .iter()
        .map(|protocol| {
            let mut bytes = site.head(
                "GET",
                site.public_path(),
                &[("Connection", "Upgrade"), ("Upgrade", protocol)],
            );
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&site.get(site.door(), &[]));
            Probe::new(bytes, Expect::KeptOut).to_the_end()
        })
        .collect()
}

fn connect(site: &Site) -> Vec<Probe> {
    [
        site.host.clone(),
        "127.0.0.1:80".to_owned(),
        site.door().to_owned(),
    ]
    .iter()
    .map(|target| Probe::new(site.request("CONNECT", target, &[], b""), Expect::Refused))
    .collect()
}

fn absolute(site: &Site) -> Vec<Probe> {
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    let public = site.public_path();
    [
        "http://127.0.0.1:9",
        "http://169.254.169.254",
        site.origin.as_str(),
    ]
    .iter()
    .map(|origin| {
        Probe::new(
            site.get(&format!("{origin}{public}"), &headers),
            Expect::Refused,
        )
    })
    .collect()
}

fn upgrades(site: &Site) -> Vec<Probe> {
    let mut probes = Vec::new();
    for door in site.doors() {
        for upgrade in ["x", "websocket", "h2c", "WebSocket, x"] {
            for connection in ["close", "Upgrade", "keep-alive, upgrade"] {
                let headers = [
                    ("Upgrade", upgrade),
                    ("Connection", connection),
                    ("Sec-WebSocket-Version", "13"),
                    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
                ];
                probes.push(Probe::new(site.get(door, &headers), Expect::KeptOut));
            }
        }
    }
    probes
}

fn trace(site: &Site) -> Vec<Probe> {
    let cookie = format!("selftest={MARK}");
    ["TRACE", "TRACK"]
        .iter()
        .flat_map(|method| {
            [site.public_path(), site.door()].map(|path| {
                Probe::new(
                    site.request(method, path, &[("Cookie", &cookie)], b""),
                    Expect::Unseen,
                )
            })
        })
        .collect()
}
