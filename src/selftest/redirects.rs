//! Ways to be sent to another site.

use super::site::{ELSEWHERE, PROBE_HEADER};
use super::{Check, Expect, Need, Probe, Site};

const FAMILY: &str = "redirects";
const FIX: &str = "redirect to paths of your own, built from the configured public URL; keep a return address only when it is a path that begins with one slash";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "T44",
        family: FAMILY,
        name: "no path leads to another site",
        why: "loose matching of redirect targets: CVE-2021-21291, CVE-2022-28923, CVE-2024-21497, CVE-2021-29651",
        fix: FIX,
        needs: &[],
        probes: paths,
    },
    Check {
        id: "T44b",
        family: FAMILY,
        name: "no line break in a target writes a header",
        why: "an escape decoded into `Location` or `Set-Cookie` splits the answer",
        fix: "write targets into headers as they came, never decoded",
        needs: &[],
        probes: line_breaks,
    },
    Check {
        id: "A11",
        family: FAMILY,
        name: "`Host` chooses no redirect",
        why: "a redirect built from `Host` leads where the client says",
        fix: "answer for the configured hosts only, and build no address from `Host`",
        needs: &[],
        probes: hosts,
    },
    Check {
        id: "A12",
        family: FAMILY,
        name: "absolute-form targets are refused",
        why: "Next.js answers them with a redirect to the same absolute address, without asking its middleware",
        fix: "refuse targets that are no path",
        needs: &[],
        probes: absolute,
    },
    Check {
        id: "A13",
        family: FAMILY,
        name: "a missing, doubled or strange `Host` is refused",
        why: "gateway and app may take different ones",
        fix: "refuse requests without exactly one plain host",
        needs: &[Need::Public],
        probes: strange_hosts,
    },
];

fn paths(site: &Site) -> Vec<Probe> {
    let door = site.door();
    let inner = door.trim_start_matches('/');
    [
        format!("//{ELSEWHERE}"),
        format!("//{ELSEWHERE}/%2f.."),
        format!("///{ELSEWHERE}"),
        format!("//{ELSEWHERE}/{inner}"),
        format!("/\\{ELSEWHERE}"),
        format!("/%5c{ELSEWHERE}"),
        format!("/%5C%5C{ELSEWHERE}"),
        format!("/%09/{ELSEWHERE}"),
        format!("/%2f/{ELSEWHERE}"),
        format!("/%2f%2f{ELSEWHERE}"),
        format!("/.{ELSEWHERE}/"),
        format!("/;@{ELSEWHERE}"),
        format!("/@{ELSEWHERE}"),
        format!("/https:{ELSEWHERE}"),
        format!("/https://{ELSEWHERE}"),
        format!("{door}?callbackURL=//{ELSEWHERE}"),
        format!("{door}?callbackURL=https://{ELSEWHERE}"),
        format!("{door}?next=https:{ELSEWHERE}&redirectTo=/\\{ELSEWHERE}"),
        format!("{door}?callbackURL=/%09/{ELSEWHERE}"),
        format!("{door}?x=\\\\{ELSEWHERE}"),
    ]
    .iter()
    .map(|target| Probe::new(site.document(target, &[]), Expect::KeptOut))
    .collect()
}

fn line_breaks(site: &Site) -> Vec<Probe> {
    let door = site.door();
    [
        format!("{door}%0d%0a{PROBE_HEADER}:1"),
        format!("{door}?x=%0d%0a{PROBE_HEADER}:%201"),
        format!("{door}?x=%0a{PROBE_HEADER}:1"),
        format!("{door}?x=%0d%0aset-cookie:{PROBE_HEADER}=1"),
        format!("/%0d%0a{PROBE_HEADER}:1"),
        format!("{door}?x=%E5%98%8A%E5%98%8D{PROBE_HEADER}:1"),
    ]
    .iter()
    .map(|target| Probe::new(site.document(target, &[]), Expect::KeptOut))
    .collect()
}

fn hosts(site: &Site) -> Vec<Probe> {
    [
        ELSEWHERE.to_owned(),
        format!("{}.{ELSEWHERE}", site.host),
        format!("{ELSEWHERE}:80"),
    ]
    .iter()
    .map(|host| {
        Probe::new(
            site.document(site.door(), &[("Host", host)]),
            Expect::KeptOut,
        )
    })
    .collect()
}

fn absolute(site: &Site) -> Vec<Probe> {
    let (origin, door) = (&site.origin, site.door());
    let public = site.public_path();
    vec![
        Probe::new(
            site.document(&format!("{origin}{door}"), &[]),
            Expect::KeptOut,
        ),
        Probe::new(
            site.document(&format!("http://{ELSEWHERE}{door}"), &[]),
            Expect::KeptOut,
        ),
        Probe::new(
            site.document(&format!("http://{ELSEWHERE}{public}"), &[]),
            Expect::Refused,
        ),
        Probe::new(
            site.document(&format!("ftp://{}{public}", site.host), &[]),
            Expect::Refused,
        ),
    ]
}

fn strange_hosts(site: &Site) -> Vec<Probe> {
    let public = site.public_path();
    let host = &site.host;
    let line = |headers: &str| {
        let bytes = format!("GET {public} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        Probe::new(bytes.into_bytes(), Expect::Refused)
    };
    vec![
        line(""),
        line("Host:\r\n"),
        line(&format!("Host: {host}\r\nHost: {host}\r\n")),
        line(&format!("Host: {host}\r\nHost: {ELSEWHERE}\r\n")),
        line(&format!("Host: {host}, {ELSEWHERE}\r\n")),
        line(&format!("Host: {ELSEWHERE}@{host}\r\n")),
        line(&format!("Host: {host}/x\r\n")),
        line(&format!("Host: {host}#x\r\n")),
    ]
}
