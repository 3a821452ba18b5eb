//! Requests that two servers may cut apart differently. Each is refused, or is exactly one request.
//!
//! Behind the ambiguous request stand the bytes of a second one, and behind that an ordinary one that asks to close: whoever
//! reads three has taken the second for a request, and another server on the way would have taken it for a body.

use super::site::MARK;
use super::{Check, Expect, Need, Probe, Site};

const FAMILY: &str = "framing";
const FIX: &str = "answer 400 and close, whatever the app would make of it";
const SMUGGLING: &str = "two servers that disagree about where a request ends let one client speak for another (RFC 9112, section 11.2)";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "T46a",
        family: FAMILY,
        name: "a length together with chunks is refused",
        why: "CVE-2026-2835 and the whole class of CL.TE and TE.CL: RFC 9112, section 6.3",
        fix: FIX,
        needs: &[Need::Public],
        probes: length_and_chunks,
    },
    Check {
        id: "T46b",
        family: FAMILY,
        name: "an encoding that is not `chunked` alone is refused",
        why: SMUGGLING,
        fix: FIX,
        needs: &[Need::Public],
        probes: encodings,
    },
    Check {
        id: "T46c",
        family: FAMILY,
        name: "two lengths are refused",
        why: SMUGGLING,
        fix: FIX,
        needs: &[Need::Public],
        probes: two_lengths,
    },
    Check {
        id: "T46d",
        family: FAMILY,
        name: "a length that is no plain number is refused",
        why: SMUGGLING,
        fix: FIX,
        needs: &[Need::Public],
        probes: odd_lengths,
    },
    Check {
        id: "T46e",
        family: FAMILY,
        name: "a space before the colon is refused",
        why: "RFC 9112, section 5.1: some servers ignore the line, some take it",
        fix: FIX,
        needs: &[Need::Public],
        probes: space_before_colon,
    },
    Check {
        id: "T46f",
        family: FAMILY,
        name: "a folded header line is refused",
        why: "RFC 9112, section 5.2: the rest of the line is a header to some",
        fix: FIX,
        needs: &[Need::Public],
        probes: folded,
    },
    Check {
        id: "T46g",
        family: FAMILY,
        name: "NUL and lone CR in a header are refused",
        why: "RFC 9110, section 5.5: they end the value for some",
        fix: FIX,
        needs: &[Need::Public],
        probes: control_bytes,
    },
    Check {
        id: "T46h",
        family: FAMILY,
        name: "a lone LF in a header hides no other header",
        why: "whoever ends lines at LF reads a header that the gateway took for a value",
        fix: "end lines at LF as well, or refuse",
        needs: &[Need::Echo],
        probes: lone_line_feed,
    },
    Check {
        id: "T46i",
        family: FAMILY,
        name: "a chunk size that is no plain number is refused",
        why: SMUGGLING,
        fix: FIX,
        needs: &[Need::Public],
        probes: odd_chunks,
    },
    Check {
        id: "T46j",
        family: FAMILY,
        name: "chunks in HTTP/1.0 are refused",
        why: "HTTP/1.0 has no chunks: CVE-2026-2835",
        fix: FIX,
        needs: &[Need::Public],
        probes: old_version,
    },
    Check {
        id: "T46k",
        family: FAMILY,
        name: "the body of a refused request is no request",
        why: "a body left on the connection was read as the next request: CVE-2025-4366",
        fix: "read the body away, or close the connection",
        needs: &[],
        probes: refused_body,
    },
    Check {
        id: "T46l",
        family: FAMILY,
        name: "a version nobody speaks is refused",
        why: "an answer in a version the app does not know is framed by guessing",
        fix: FIX,
        needs: &[Need::Public],
        probes: versions,
    },
    Check {
        id: "T46m",
        family: FAMILY,
        name: "a head without measure is refused",
        why: "what the gateway takes and the app refuses costs both, and cuts headers off",
        fix: "bound the bytes of target and headers below what the app accepts",
        needs: &[Need::Public],
        probes: long_heads,
    },
];

/// The request that nobody may read.
fn second(site: &Site) -> Vec<u8> {
    let mut bytes = site.head("GET", "/selftest-second", &[]);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The request that ends the conversation where pipelined requests are read at all.
fn last(site: &Site) -> Vec<u8> {
    site.get(site.public_path(), &[])
}

/// An ambiguous POST to a page for everybody, with what stands behind it.
fn ambiguous(site: &Site, headers: &[(&str, &str)], body: &str) -> Probe {
    let mut bytes = site.head("POST", site.public_path(), headers);
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.as_bytes());
    bytes.extend_from_slice(&second(site));
    bytes.extend_from_slice(&last(site));
    let mut probe = Probe::new(bytes, Expect::AnswersAtMost(2)).to_the_end();
    probe.afterwards = true;
    probe
}

const NO_CHUNKS: &str = "0\r\n\r\n";

fn length_and_chunks(site: &Site) -> Vec<Probe> {
    let length = (NO_CHUNKS.len() + second(site).len()).to_string();
    vec![
        ambiguous(
            site,
            &[
                ("Content-Length", &length),
                ("Transfer-Encoding", "chunked"),
            ],
            NO_CHUNKS,
        ),
        ambiguous(
            site,
            &[
                ("Transfer-Encoding", "chunked"),
                ("Content-Length", &length),
            ],
            NO_CHUNKS,
        ),
        ambiguous(
            site,
            &[("Content-Length", "0"), ("Transfer-Encoding", "Chunked")],
            NO_CHUNKS,
        ),
    ]
}

fn encodings(site: &Site) -> Vec<Probe> {
    let mut probes: Vec<Probe> = [
        "xchunked",
        "identity",
        "chunked, identity",
        "gzip",
        "\"chunked\"",
        "chunked;x",
    ]
    .iter()
    .map(|coding| ambiguous(site, &[("Transfer-Encoding", coding)], ""))
    .collect();
    probes.push(ambiguous(
        site,
        &[
            ("Transfer-Encoding", "chunked"),
            ("Transfer-Encoding", "identity"),
        ],
        NO_CHUNKS,
    ));
    probes
}

fn two_lengths(site: &Site) -> Vec<Probe> {
    let length = second(site).len().to_string();
    vec![
        ambiguous(
            site,
            &[("Content-Length", "0"), ("Content-Length", &length)],
            "",
        ),
        ambiguous(
            site,
            &[("Content-Length", &length), ("Content-Length", "0")],
            "",
        ),
        ambiguous(site, &[("Content-Length", &format!("0, {length}"))], ""),
    ]
}

fn odd_lengths(site: &Site) -> Vec<Probe> {
    [
        "+0",
        "-0",
        "0x0",
        "0 0",
        "0;",
        "0.0",
        "99999999999999999999",
    ]
    .iter()
    .map(|length| ambiguous(site, &[("Content-Length", length)], ""))
    .collect()
}

fn space_before_colon(site: &Site) -> Vec<Probe> {
    let length = second(site).len().to_string();
    vec![
        ambiguous(site, &[("Content-Length ", &length)], ""),
        ambiguous(site, &[("Content-Length\t", &length)], ""),
        ambiguous(site, &[("Transfer-Encoding ", "chunked")], ""),
    ]
}

fn folded(site: &Site) -> Vec<Probe> {
    let length = second(site).len();
    vec![
        ambiguous(
            site,
            &[("X-A", &format!("b\r\n Content-Length: {length}"))],
            "",
        ),
        ambiguous(
            site,
            &[("X-A", &format!("b\r\n\tContent-Length: {length}"))],
            "",
        ),
    ]
}

fn control_bytes(site: &Site) -> Vec<Probe> {
    ["b\0c", "b\rc", "b\rContent-Length: 5"]
        .iter()
        .map(|value| {
            Probe::new(
                site.get(site.public_path(), &[("X-A", value)]),
                Expect::Refused,
            )
        })
        .collect()
}

fn lone_line_feed(site: &Site) -> Vec<Probe> {
    let Some(echo) = &site.echo else {
        return Vec::new();
    };
    site.identity
        .iter()
        .take(3)
        .map(|name| {
            let value = format!("b\n{name}: {MARK}");
            Probe::new(site.ask_echo(echo, "", &[("X-A", &value)]), Expect::Unseen)
        })
        .collect()
}

fn odd_chunks(site: &Site) -> Vec<Probe> {
    [
        "0x0\r\n\r\n",
        "+0\r\n\r\n",
        "-0\r\n\r\n",
        "0 0\r\n\r\n",
        "\r\n\r\n",
        "0\n\n",
        "10000000000000000\r\n\r\n",
    ]
    .iter()
    .map(|body| ambiguous(site, &[("Transfer-Encoding", "chunked")], body))
    .collect()
}

fn old_version(site: &Site) -> Vec<Probe> {
    let mut bytes = format!(
        "POST {} HTTP/1.0\r\nHost: {}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n{NO_CHUNKS}",
        site.public_path(),
        site.host
    )
    .into_bytes();
    bytes.extend_from_slice(&second(site));
    bytes.extend_from_slice(&last(site));
    let mut probe = Probe::new(bytes, Expect::AnswersAtMost(2)).to_the_end();
    probe.afterwards = true;
    vec![probe]
}

fn refused_body(site: &Site) -> Vec<Probe> {
    let inner = second(site);
    let last = site.get(site.door(), &[]);
    let with = |framing: &str, body: &[u8]| {
        let mut bytes = site.head("POST", site.door(), &[]);
        bytes.extend_from_slice(framing.as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&last);
        Probe::new(bytes, Expect::AnswersAtMost(2)).to_the_end()
    };
    let mut chunked = format!("{:x}\r\n", inner.len()).into_bytes();
    chunked.extend_from_slice(&inner);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    vec![
        with(&format!("Content-Length: {}\r\n\r\n", inner.len()), &inner),
        with("Transfer-Encoding: chunked\r\n\r\n", &chunked),
    ]
}

fn versions(site: &Site) -> Vec<Probe> {
    [
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/3.0",
        "HTTP/1.1.1",
        "HTTPS/1.1",
        "HTTP/11",
    ]
    .iter()
    .map(|version| {
        let bytes = format!(
            "GET {} {version}\r\nHost: {}\r\nConnection: close\r\n\r\n",
            site.public_path(),
            site.host
        );
        Probe::new(bytes.into_bytes(), Expect::Refused)
    })
    .collect()
}

/// Larger than any server in use takes by default.
const LONG_BYTES: usize = 128 * 1024;

fn long_heads(site: &Site) -> Vec<Probe> {
    let long = "a".repeat(LONG_BYTES);
    let public = site.public_path();
    vec![
        Probe::new(site.get(public, &[("X-A", &long)]), Expect::Refused),
        Probe::new(site.get(&format!("{public}?{long}"), &[]), Expect::Refused),
        Probe::new(site.get(public, &vec![("X-A", "b"); 1000]), Expect::Refused),
    ]
}
