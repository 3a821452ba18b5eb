//! `vestibule selftest`: everything passes in front of a real gateway, and each check fails when its defence is switched off.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::Method;
use serde_json::Value;
use vestibule::cli::{self, World, edges};
use vestibule::policy::Need;
use vestibule::selftest::{UNSEEN, catalogue};

use crate::support::naive::{DEFENCES, ENDED, LIVE, Naive, page};
use crate::support::tls::{Certificate, NAME, fresh_path};
use crate::support::{App, Gateway, Setup, cookie, record, reply, route, rule};

/// An action of the protected page.
const ACTION: &str = "40f1d2c3b4a5968778695a4b3c2d1e0f0011223344";

/// Exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut world = World {
        environment: BTreeMap::new(),
        folder: fresh_path("."),
        out: &mut out,
        err: &mut err,
        terminal: false,
    };
    let arguments = ["vestibule", "selftest"]
        .iter()
        .chain(arguments)
        .map(|argument| (*argument).into());
    let code = cli::run(arguments, &mut world, edges());
    (
        code,
        String::from_utf8(out).expect("text"),
        String::from_utf8(err).expect("text"),
    )
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = fresh_path(name);
    std::fs::write(&path, text).expect("it is written");
    path
}

/// The report of a run, as a program reads it.
fn report(url: &str, session: &Path, ended: &Path, more: &[&str]) -> (u8, Value) {
    let (session, ended) = (session.display().to_string(), ended.display().to_string());
    let mut arguments = vec![
        url,
        "--json",
        "--pause=0ms",
        "--wait=20s",
        "--limit=10m",
        "--host=app.test",
        "--protected=/dashboard",
        "--public=/public/page",
        "--echo=/optional/echo",
        "--cookie-file",
        &session,
        "--ended-cookie-file",
        &ended,
        "--action",
        ACTION,
    ];
    arguments.extend(more);
    let (code, out, err) = run(&arguments);
    let json = serde_json::from_str(&out).unwrap_or_else(|_| panic!("code {code}: {out}{err}"));
    (code, json)
}

/// Ids of the checks with a status.
fn ids(report: &Value, status: &str) -> BTreeSet<String> {
    report["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter(|check| check["status"] == status)
        .map(|check| check["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// What was sent, expected and got by the checks that did not pass.
fn details(report: &Value) -> String {
    let mut lines = Vec::new();
    for check in report["checks"].as_array().expect("checks") {
        for probe in check["probes"].as_array().expect("probes") {
            if probe["status"] != "passed" {
                lines.push(format!("{} {probe:#}", check["id"]));
            }
        }
    }
    lines.truncate(6);
    lines.join("\n")
}

/// An app with a protected page, a public one, and one that reports what it saw.
fn echoing_app() -> App {
    App::scripted(|seen, stream| {
        let target = seen.line.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let headers: Vec<(&str, &str)> = seen
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (status, body) = page(path, &seen.line, &headers);
        reply(
            stream,
            status,
            &[
                ("content-type", "text/plain"),
                ("cache-control", "s-maxage=60"),
            ],
            body.as_bytes(),
        );
    })
}

/// Public pages only for reading: then an action posted there has the default rule.
fn guarded(app: SocketAddr) -> Setup {
    let mut setup = Setup::in_front_of(app);
    let mut root = route("/", rule(Need::Public));
    root.methods = vec![Method::GET, Method::HEAD];
    let mut public = route("/public/:path*", rule(Need::Public));
    public.methods = vec![Method::GET, Method::HEAD];
    setup.routes.routes[0] = root;
    setup.routes.routes[1] = public;
    setup
}

fn sessions(gateway: &Gateway) -> (PathBuf, PathBuf) {
    gateway.store.put(record("token-of-ada", "ada"));
    (
        file(
            "cookie.txt",
            &format!("Cookie: {}\n", cookie("token-of-ada")),
        ),
        file("ended.txt", &cookie("token-of-nobody")),
    )
}

#[test]
fn a_gateway_in_front_of_an_app_passes_every_check() {
    let app = echoing_app();
    let gateway = guarded(app.address).start();
    let (session, ended) = sessions(&gateway);
    let url = format!("http://{}", gateway.address);
    let (code, report) = report(&url, &session, &ended, &[]);
    let every: BTreeSet<String> = catalogue().map(|check| check.id.to_owned()).collect();
    assert_eq!(ids(&report, "passed"), every, "{}", details(&report));
    assert_eq!((code, &report["counts"]["failed"]), (0, &Value::from(0)));
    // The secret of the session is in none of it.
    assert!(!report.to_string().contains("token-of-ada"));
}

/// A run against a proxy without one of its defences.
fn against(defence: &'static str, session: &Path, ended: &Path) -> (u8, Value) {
    let proxy = Naive::without(defence);
    report(&format!("http://{}", proxy.address), session, ended, &[])
}

#[test]
fn every_check_fails_when_its_defence_is_off_and_no_other_does() {
    let session = file("cookie.txt", &format!("better-auth.session_token={LIVE}"));
    let ended = file("ended.txt", &format!("better-auth.session_token={ENDED}"));
    let every: BTreeSet<String> = catalogue().map(|check| check.id.to_owned()).collect();
    // With all of them, all is well: so a check that fails does so for what is off.
    let (code, whole) = against("", &session, &ended);
    assert_eq!(ids(&whole, "passed"), every, "{}", details(&whole));
    assert_eq!(code, 0);

    let proven: BTreeSet<String> = DEFENCES
        .iter()
        .flat_map(|(_, ids)| ids.iter().map(|id| (*id).to_owned()))
        .collect();
    assert_eq!(
        proven, every,
        "a check without a proof, or a proof without a check"
    );

    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        // Two at a time: each waits for its proxy half of the time.
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((defence, expected)) =
                    DEFENCES.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let (code, report) = against(defence, &session, &ended);
                    let expected: BTreeSet<String> =
                        expected.iter().map(|id| (*id).to_owned()).collect();
                    let failed = ids(&report, "failed");
                    let others = every
                        .difference(&expected)
                        .cloned()
                        .collect::<BTreeSet<_>>();
                    if failed != expected || code != 1 || ids(&report, "passed") != others {
                        let text = format!(
                            "without \"{defence}\": {failed:?} failed, not {expected:?}\n{}",
                            details(&report)
                        );
                        wrong.lock().expect("not poisoned").push(text);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("not poisoned");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
