//! Cookies that are no session.

use super::{Check, Expect, Need, Probe, Site};

const FAMILY: &str = "sessions";

/// Names a session of Better Auth may be kept under.
const COOKIES: [&str; 2] = [
    "better-auth.session_token",
    "__Secure-better-auth.session_token",
];

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "T34",
        family: FAMILY,
        name: "a damaged cookie is nobody's",
        why: "a malformed session cookie was answered with 200: CVE-2026-25748",
        fix: "treat every cookie that does not verify as no session",
        needs: &[],
        probes: damaged,
    },
    Check {
        id: "T34b",
        family: FAMILY,
        name: "a live session with one letter changed is nobody's",
        why: "a gateway that only looks whether a cookie is there lets everybody in",
        fix: "verify the signature over the whole token, then look the session up",
        needs: &[Need::Session],
        probes: altered,
    },
    Check {
        id: "T35",
        family: FAMILY,
        name: "a session that was signed out is refused, and its cookie taken back",
        why: "the old cookie stayed on the sign-in page: CVE-2026-34454",
        fix: "clear every cookie of the session when the store says that it is gone",
        needs: &[Need::Ended],
        probes: ended,
    },
    Check {
        id: "T36",
        family: FAMILY,
        name: "other signed cookies prove no session",
        why: "a sign-in that waits for its second factor counted as signed in: GHSA-xg6x-h9c9-2m83",
        fix: "read sessions from the session cookie only, by its exact name",
        needs: &[],
        probes: others,
    },
];

fn kept_out(site: &Site, cookie: &str) -> Probe {
    Probe::new(
        site.get(site.door(), &[("Cookie", cookie)]),
        Expect::KeptOut,
    )
}

fn damaged(site: &Site) -> Vec<Probe> {
    let long = format!("{}.{}=", "t".repeat(3000), "A".repeat(43));
    let values = [
        "",
        ".",
        "a",
        "a.",
        ".a",
        "x.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D",
        "%00.%00",
        "%ff.%ff",
        "\"\"",
        "null",
        "undefined",
        "true",
        "[object Object]",
        "%7B%22user%22%3A%7B%22id%22%3A%22root%22%7D%7D",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.",
        "' OR 1=1 --",
        &long,
    ];
    let mut probes = Vec::new();
    for name in COOKIES {
        for value in values {
            probes.push(kept_out(site, &format!("{name}={value}")));
        }
    }
    probes.push(kept_out(site, "better-auth.session_token"));
    probes.push(kept_out(site, ";;=;, ="));
    for authorization in [
        "Bearer x",
        "Bearer ",
        "Basic cm9vdDpyb290",
        "Bearer null",
        "bearer x.y.z",
    ] {
        probes.push(Probe::new(
            site.get(site.door(), &[("Authorization", authorization)]),
            Expect::KeptOut,
        ));
    }
    probes
}

/// Name and value of each cookie of the session that looks signed.
fn signed(site: &Site) -> Vec<(&str, &str)> {
    site.session
        .iter()
        .flat_map(|cookie| cookie.expose().split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, value)| name.ends_with("session_token") && value.len() > 8)
        .collect()
}

fn altered(site: &Site) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (name, value) in signed(site) {
        let swap = |at: usize| -> String {
            value
                .char_indices()
                .map(|(here, letter)| match (here == at, letter) {
                    (false, letter) => letter,
                    (true, 'a') => 'b',
                    (true, _) => 'a',
                })
                .collect()
        };
        let signature = value.find('.').map_or(value.len() / 2, |dot| dot + 3);
        let (token, rest) = value.split_once('.').unwrap_or((value, ""));
        for changed in [
            swap(0),
            swap(signature),
            token.to_owned(),
            format!("{token}."),
            format!("{token}x.{rest}"),
            format!(".{rest}"),
        ] {
            probes.push(kept_out(site, &format!("{name}={changed}")));
        }
    }
    probes
}

fn ended(site: &Site) -> Vec<Probe> {
    let Some(cookie) = &site.ended else {
        return Vec::new();
    };
    let name = cookie
        .expose()
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, _)| name)
        .find(|name| name.ends_with("session_token"));
    let Some(name) = name else {
        return vec![kept_out(site, cookie.expose())];
    };
    vec![Probe::new(
        site.document(site.door(), &[("Cookie", cookie.expose())]),
        Expect::Cleared(name.to_owned()),
    )]
}

fn others(site: &Site) -> Vec<Probe> {
    let mut probes = vec![
        kept_out(site, "better-auth.two_factor=x.AAAA"),
        kept_out(site, "better-auth.session_data=eyJzZXNzaW9uIjp7fX0"),
        kept_out(
            site,
            "better-auth.trust_device=x.AAAA; better-auth.dont_remember=true",
        ),
    ];
    for (name, value) in signed(site) {
        let other = |from: &str| name.replace("session_token", from);
        for name in [
            other("two_factor"),
            other("session_data"),
            other("trust_device"),
            other("dont_remember"),
            other("session_tokens"),
            other("session-token.0"),
        ] {
            probes.push(kept_out(site, &format!("{name}={value}")));
        }
    }
    probes
}
