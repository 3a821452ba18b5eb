//! Whether the right ones are let in and the others are not, seen over the wire.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::ground::{self, Ground, OPEN};
use super::wire::{self, Answer, Statuses};
use crate::bench::report::{Check, Report, Status};
use crate::bench::tier::Asked;
use crate::cli::{Failure, UNREACHABLE};
use crate::server::run::Running;
use crate::session::feed::{Ended, TokenDigest};

/// What a request of ours says it is from somebody who pretends.
const SPOOFED: &str = "spoofed-by-vestibule-bench";

/// A cookie header whose signatures are no longer good: the last letter of every value's signature is another one.
pub(super) fn bent(cookies: &str) -> String {
    let bend = |pair: &str| {
        let Some((name, value)) = pair.split_once('=') else {
            return pair.to_owned();
        };
        // The signature comes after the last point, and ends in an equals sign, escaped or not: its first letter is changed.
        match value.rsplit_once('.') {
            Some((token, signature)) => {
                let mut letters = signature.chars();
                let first = letters.next().unwrap_or('A');
                let other = if first == 'A' { 'B' } else { 'A' };
                format!("{name}={token}.{other}{}", letters.as_str())
            }
            None => format!("{name}=x{value}"),
        }
    };
    cookies.split("; ").map(bend).collect::<Vec<_>>().join("; ")
}

pub(super) fn first(asked: &wire::Asked) -> Result<Answer, Failure> {
    let request = asked.requests.first().map_or(&[][..], Vec::as_slice);
    wire::ask_once(asked, request).map_err(|error| Failure {
        message: format!("{} does not answer: {error}", asked.address),
        advice: "start it, or name another URL".into(),
        code: UNREACHABLE,
    })
}

pub(super) fn check(id: &str, name: &str, right: bool, detail: String) -> Check {
    Check {
        id: id.into(),
        name: name.into(),
        status: match right {
            true => Status::Passed,
            false => Status::Failed,
        },
        detail,
    }
}

/// Whether the app's own check lets the session in. `get-session` says null with 200 to whoever has none.
pub(super) fn check_other(other: &wire::Asked, report: &mut Report) {
    let answered = first(other);
    let (right, detail) = match &answered {
        Ok(answer) => (
            other.statuses.has(answer.status) && answer.body.trim_ascii() != b"null",
            match answer.body.trim_ascii() == b"null" {
                true => format!("{}, and it knows no session", answer.status),
                false => answer.status.to_string(),
            },
        ),
        Err(failure) => (false, failure.message.clone()),
    };
    report.checks.push(check(
        "against",
        "the app's own check lets the session in",
        right,
        detail,
    ));
}

/// Whether a gateway of ours lets in whom it must, and nobody else.
pub(super) fn check_gateway(
    ground: &Ground,
    running: &Running,
    address: SocketAddr,
    wait: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    let ask = |path: &str, cookie: Option<&str>, more: &[(String, String)]| {
        let mut text = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\naccept: */*\r\n",
            ground.host()
        );
        if let Some(cookie) = cookie {
            text.push_str(&format!("cookie: {cookie}\r\n"));
        }
        for (name, value) in more {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let asked = wire::Asked {
            address,
            tls: None,
            requests: Arc::new(vec![text.into_bytes()]),
            statuses: Statuses::Good,
            wait,
        };
        first(&asked)
    };
    let page = ground.path(Asked::Cached.path());
    let live = match (ground.live.first(), ground.given.first()) {
        (Some(token), _) => Some(ground.cookie(token.expose())),
        (None, Some(given)) => Some(given.expose().to_owned()),
        (None, None) => None,
    };
    let mut note = |id: &str, name: &str, wanted: Statuses, cookie: Option<&str>| {
        let answer = ask(&page, cookie, &[])?;
        let right = wanted.has(answer.status);
        report
            .checks
            .push(check(id, name, right, answer.status.to_string()));
        Ok::<(), Failure>(())
    };
    if let Some(live) = &live {
        note(
            "good",
            "a good session is let in",
            Statuses::Exactly(200),
            Some(live),
        )?;
        note(
            "forged_live",
            "nor the same with a bent signature",
            Statuses::Exactly(401),
            Some(&bent(live)),
        )?;
    }
    note(
        "none",
        "nobody without a session is",
        Statuses::Exactly(401),
        None,
    )?;
    let forged = ground.forged(&ground::token());
    note(
        "forged",
        "nor a forged one",
        Statuses::Exactly(401),
        Some(&forged),
    )?;
    if ground.scratch.is_some() {
        let unknown = ground.cookie(&ground::token());
        note(
            "unknown",
            "nor one that nobody knows",
            Statuses::Exactly(401),
            Some(&unknown),
        )?;
    }
    if let Some(expired) = &ground.expired {
        let cookie = ground.cookie(expired.expose());
        note(
            "expired",
            "nor one that is over",
            Statuses::Exactly(401),
            Some(&cookie),
        )?;
    }
    if let Some(token) = ground.doomed.first() {
        let cookie = ground.cookie(token.expose());
        // The tier may have ended them already; here one is ended whatever was measured.
        ground.end_doomed()?;
        let ended = Ended::Token(TokenDigest::of(token.expose()));
        running.gateway.gate.sessions.cache().end(&ended);
        note(
            "revoked",
            "nor one that was signed out",
            Statuses::Exactly(401),
            Some(&cookie),
        )?;
    }
    // What only the gateway may say, said by somebody else: on an open page and on a closed one.
    let owned = running.gateway.identity.owned();
    let spoofed: Vec<(String, String)> = [
        "X-Auth-User-Id",
        "X-Auth-Role",
        "X_Auth_User_Id",
        "X-Auth-Assertion",
        "Remote-User",
        "X-Forwarded-User",
    ]
    .iter()
    .filter(|name| owned.is_identity(&name.to_ascii_lowercase()))
    .map(|name| ((*name).to_owned(), SPOOFED.to_owned()))
    .collect();
    let mut pages = vec![(ground.echo(&format!("{OPEN}/page")), None)];
    if let Some(live) = &live {
        pages.push((ground.echo(Asked::Cached.path()), Some(live.as_str())));
    }
    for (page, cookie) in pages {
        let answer = ask(&page, cookie, &spoofed)?;
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        let right = answer.status == 200 && told.starts_with("GET ") && !told.contains(SPOOFED);
        report.checks.push(check(
            "spoofed",
            "what only the gateway may say is removed from what comes in",
            right && !spoofed.is_empty(),
            format!(
                "{} headers sent on {page}, {}",
                spoofed.len(),
                match right {
                    true => "none arrived".to_owned(),
                    false => format!("status {}", answer.status),
                }
            ),
        ));
    }
    Ok(())
}
