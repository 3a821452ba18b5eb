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

/// Framing is judged where a POST would pass as well, and over TLS all the same.
#[test]
fn a_gateway_that_lets_posts_pass_and_one_that_speaks_tls_pass_too() {
    let app = echoing_app();
    let gateway = Setup::in_front_of(app.address).start();
    let (session, ended) = sessions(&gateway);
    let (code, posted) = report(
        &format!("http://{}", gateway.address),
        &session,
        &ended,
        &["--only=framing,upgrades"],
    );
    assert_eq!(
        (code, ids(&posted, "passed").len()),
        (0, 18),
        "{}",
        details(&posted)
    );

    let certificate = Certificate::self_signed();
    let mut setup = guarded(app.address);
    setup.server.tls = Some(certificate.files.clone());
    setup.server.public_url = "https://app.test".into();
    let gateway = setup.start();
    let (session, ended) = sessions(&gateway);
    let secure = file(
        "secure.txt",
        &std::fs::read_to_string(&session).expect("a cookie"),
    );
    let url = format!("https://{}", gateway.address);
    let only = "--only=paths,framing,T1,T44,T52";
    let (code, report_) = report(&url, &secure, &ended, &[only]);
    assert_eq!(
        (code, ids(&report_, "failed")),
        (0, BTreeSet::new()),
        "{}",
        details(&report_)
    );
    assert_eq!(ids(&report_, "not_checked"), BTreeSet::new());
    // With an authority to check against, a name it does not vouch for is not spoken to.
    let authority = certificate.files.cert.display().to_string();
    let (code, _, err) = run(&[
        &url,
        "--host=other.test",
        "--protected=/dashboard",
        "--ca-file",
        &authority,
    ]);
    assert_eq!(code, 3, "{err}");
    let trusted = run(&[
        &url,
        &format!("--host={NAME}"),
        "--protected=/dashboard",
        "--only=T13",
        "--ca-file",
        &authority,
    ]);
    assert_eq!(trusted.0, 0, "{}", trusted.2);
}

#[test]
fn a_page_that_is_not_protected_ends_the_run_before_anything_is_fired() {
    let app = echoing_app();
    let gateway = guarded(app.address).start();
    let url = format!("http://{}", gateway.address);
    let ask = |arguments: &[&str]| {
        let mut all = vec![url.as_str(), "--host=app.test"];
        all.extend(arguments);
        run(&all)
    };
    let (code, out, err) = ask(&["--protected=/public/page"]);
    assert_eq!((code, out.as_str(), app.count()), (1, "", 1), "{err}");
    assert!(err.contains("`/public/page` is not protected"), "{err}");
    let (code, _, err) = ask(&["--protected=/optional/nowhere"]);
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = ask(&["--protected=/dashboard", "--public=/admin"]);
    assert_eq!(code, 2, "{err}");
    // The twin.
    let (code, out, err) = ask(&[
        "--protected=/dashboard",
        "--public=/public/page",
        "--only=T13",
    ]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("1 passed, 0 failed, 0 not checked"), "{out}");
}

#[test]
fn what_cannot_be_seen_is_told_and_never_counted_as_passed() {
    let app = echoing_app();
    let gateway = guarded(app.address).start();
    let url = format!("http://{}", gateway.address);
    let (code, out, err) = run(&[&url, "--host=app.test", "--json", "--pause=0ms"]);
    assert_eq!(code, 0, "{err}");
    let found: Value = serde_json::from_str(&out).expect("JSON");
    // The usual pages were found without being named.
    assert_eq!(found["protected"], serde_json::json!(["/dashboard"]));
    assert_eq!(found["public"], "/");
    let missing: BTreeSet<String> = catalogue()
        .filter(|check| check.needs.iter().any(|need| need.as_str() != "public"))
        .map(|check| check.id.to_owned())
        .collect();
    assert_eq!(ids(&found, "not_checked"), missing, "{}", details(&found));
    assert_eq!(
        ids(&found, "failed"),
        BTreeSet::new(),
        "{}",
        details(&found)
    );
    for check in found["checks"].as_array().expect("checks") {
        assert_eq!(
            check["status"] == "not_checked",
            check["reason"].is_string(),
            "{check}"
        );
    }
    // A page that reports nothing is no witness, and a cookie that opens nothing no session.
    let cookies = file("cookie.txt", "better-auth.session_token=x.y");
    let cookies = cookies.display().to_string();
    let (code, out, _) = run(&[
        &url,
        "--host=app.test",
        "--echo=/public/page",
        "--cookie-file",
        &cookies,
    ]);
    assert_eq!(code, 0);
    assert!(
        out.contains("/public/page does not report the headers"),
        "{out}"
    );
    assert!(out.contains("the session opens no protected page"), "{out}");
    assert!(!out.contains("T1    passed"), "{out}");
}

#[test]
fn the_report_says_what_was_sent_expected_and_got_and_hides_the_session() {
    let proxy = Naive::without("dot segments are refused");
    let session = file("cookie.txt", &format!("better-auth.session_token={LIVE}"));
    let url = format!("http://{}", proxy.address);
    let session = session.display().to_string();
    let arguments = |more: &'static [&'static str]| {
        let mut all = vec![
            url.as_str(),
            "--host=app.test",
            "--protected=/dashboard",
            "--public=/public/page",
            "--cookie-file",
            &session,
            "--only=T13,A16",
        ];
        all.extend(more);
        run(&all)
    };
    let (code, out, _) = arguments(&[]);
    assert_eq!(code, 1);
    for said in [
        "T13   FAILED",
        "sent      GET /_next/static/../../dashboard HTTP/1.1\\r\\nHost: app.test\\r\\n",
        "got       200, with what /dashboard shows to those signed in",
        "CVE-2026-33494",
        "A16   passed",
        "1 passed, 1 failed, 0 not checked",
    ] {
        assert!(out.contains(said), "{said} is not in\n{out}");
    }
    let (code, out, _) = arguments(&["--verbose"]);
    assert_eq!(code, 1);
    assert!(
        out.contains("Cookie: better-auth.session_token=***"),
        "{out}"
    );
    assert!(!out.contains("token-of-ada"), "{out}");
}

#[test]
fn a_stack_that_stops_answering_proves_nothing() {
    // Refuses the protected page, answers the public one, and then is gone: everything looks refused.
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let app = App::scripted(move |seen, stream| {
        let path = seen.line.split(' ').nth(1).unwrap_or_default();
        match (
            path,
            asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst),
        ) {
            ("/dashboard", 0..6) => reply(stream, 401, &[("connection", "close")], b"no"),
            (_, 0..6) => reply(stream, 200, &[("connection", "close")], b"yes"),
            _ => reply(stream, 502, &[("connection", "close")], b"gone"),
        }
    });
    let url = format!("http://{}", app.address);
    let (code, out, err) = run(&[&url, "--protected=/dashboard", "--public=/", "--only=T13"]);
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains("does not count"), "{err}");
}

#[test]
fn only_this_machine_is_attacked_unless_somebody_owns_the_other() {
    // Names are looked at by what they resolve to, and mapped addresses by what they map.
    for url in [
        "http://192.0.2.1",
        "http://[2001:db8::1]:80",
        "http://0.0.0.0:1",
        "http://[::ffff:192.0.2.1]",
    ] {
        let (code, _, err) = run(&[url]);
        assert_eq!(code, 2, "{url}: {err}");
        assert!(err.contains("--i-own-this"), "{url}: {err}");
    }
    for url in [
        "ftp://127.0.0.1",
        "127.0.0.1:80",
        "http://127.0.0.1/path",
        "http://a:b@127.0.0.1",
        "http://",
    ] {
        let (code, _, err) = run(&[url]);
        assert_eq!(code, 2, "{url}: {err}");
        assert!(!err.contains("--i-own-this"), "{url}: {err}");
    }
    // Nobody listens there.
    let closed = crate::support::free_port();
    let (code, _, err) = run(&[&format!("http://127.0.0.1:{closed}")]);
    assert_eq!(code, 3, "{err}");
}

#[test]
fn wrong_arguments_are_told_before_anything_is_sent() {
    let app = App::start();
    let url = format!("http://{}", app.address);
    let empty = file("empty.txt", "\n");
    let broken = file("broken.txt", "a=b\r\nX-Evil: 1");
    let (empty, broken) = (empty.display().to_string(), broken.display().to_string());
    for arguments in [
        &["--only=T999"][..],
        &["--protected=dashboard"],
        &["--protected=/a/../b"],
        &["--protected=/a b"],
        &["--protected=/a?x=1"],
        &["--host=evil test"],
        &["--host=a\r\nX: y"],
        &["--pause=20"],
        &["--pause=1h"],
        &["--limit=2h"],
        &["--cookie-file=/does/not/exist"],
        &["--cookie-file", &empty],
        &["--cookie-file", &broken],
        &["--config=/does/not/exist.toml"],
    ] {
        let mut all = vec![url.as_str()];
        all.extend(arguments);
        let (code, _, err) = run(&all);
        assert_eq!(code, 2, "{arguments:?}: {err}");
        assert_eq!(app.count(), 0, "{arguments:?}");
    }
    assert_eq!(run(&[]).0, 2);
}

#[test]
fn the_list_names_every_check_and_what_is_not_seen() {
    let (code, out, _) = run(&["--list"]);
    assert_eq!(code, 0);
    let (_, json, _) = run(&["--list", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        json["checks"].as_array().expect("checks").len(),
        catalogue().count()
    );
    let mut named = BTreeSet::new();
    for check in catalogue() {
        assert!(
            out.contains(&format!("  {:<6}{}", check.id, check.name)),
            "{}",
            check.id
        );
        assert!(
            !check.why.is_empty() && !check.fix.is_empty(),
            "{}",
            check.id
        );
        assert!(named.insert(check.id), "{} stands there twice", check.id);
    }
    for unseen in UNSEEN {
        assert!(out.contains(unseen.why));
        assert!(named.insert(unseen.id), "{} is seen and unseen", unseen.id);
    }
    // The whole catalogue of bypasses is there, one way or the other.
    for number in 1..=52 {
        let id = format!("T{number}");
        assert!(
            named
                .iter()
                .any(|name| name.trim_end_matches(|c: char| c.is_ascii_lowercase()) == id),
            "{id}"
        );
    }
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(
        help.contains("vestibule selftest http://127.0.0.1:8080"),
        "{help}"
    );
}

/// The configuration names the pages and the host.
#[test]
fn a_configuration_names_pages_and_host() {
    let app = echoing_app();
    let gateway = guarded(app.address).start();
    let config = file(
        "vestibule.toml",
        r#"
public_url = "http://app.test"
[upstream]
url = "http://127.0.0.1:3000"
[better_auth]
secret = "a secret of the tests, forty-two letters long"
[sessions]
source = "sqlite:app.db"
[routes]
default = "signed-in"
[[route]]
path = ["/public/page", "/public/other/:path*"]
rule = "public"
[[route]]
path = "/admin/:path*"
rule = { role = ["admin"] }
"#,
    );
    let config = config.display().to_string();
    let url = format!("http://{}", gateway.address);
    let (code, out, err) = run(&[&url, "--config", &config, "--only=T13", "--json"]);
    assert_eq!(code, 0, "{out}{err}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["host"], "app.test");
    assert_eq!(report["protected"], serde_json::json!(["/admin"]));
    assert_eq!(report["public"], "/public/page");
}
