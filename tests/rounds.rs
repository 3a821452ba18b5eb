//! Round after round between the sign-in page and a page that asks to sign in: told to whom it happens, and to nobody else.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Duration;

use vestibule::credential::signature::Signer;
use vestibule::policy::Need;
use vestibule::secret::Secret;

use crate::support::{Answer, App, Gateway, Seen, Setup, cookie, record, reply, rule};

const SESSION: &str = "better-auth.session_token";
const ROUNDS: &str = "vestibule-rounds";
const TITLE: &str = "Signing in goes round in circles";

/// As much of a browser as goes round: it keeps cookies, follows redirects and says where it comes from.
#[derive(Clone, Default)]
struct Browser {
    jar: BTreeMap<String, String>,
}

impl Browser {
    fn with(name: &str, value: &str) -> Self {
        let mut browser = Self::default();
        browser.jar.insert(name.into(), value.into());
        browser
    }

    /// Opens an address, without following anything.
    fn open(&mut self, gateway: &Gateway, target: &str, referrer: Option<&str>) -> Answer {
        let pairs: Vec<String> = self.jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let sent = pairs.join("; ");
        let mut headers = Vec::new();
        if !sent.is_empty() {
            headers.push(("cookie", sent.as_str()));
        }
        headers.extend(referrer.map(|referrer| ("referer", referrer)));
        let answer = gateway.document(target, &headers);
        for line in answer.all("set-cookie") {
            let (name, rest) = line.split_once('=').unwrap();
            if line.contains("Max-Age=0") {
                self.jar.remove(name);
            } else {
                let value = rest.split(';').next().unwrap();
                self.jar.insert(name.into(), value.into());
            }
        }
        answer
    }

    /// Opens an address and follows redirects as far as a browser does, also through an origin that is not ours.
    fn follow(
        &mut self,
        gateway: &Gateway,
        target: &str,
        elsewhere: impl Fn(&str) -> String,
    ) -> (Answer, usize) {
        let mut target = target.to_owned();
        for hops in 0..16 {
            let answer = self.open(gateway, &target, None);
            let Some(location) = answer.header("location") else {
                return (answer, hops);
            };
            target = if location.starts_with('/') {
                location.to_owned()
            } else {
                elsewhere(location)
            };
        }
        panic!("too many redirects")
    }
}

/// What `callbackURL` says, decoded.
fn way_back(target: &str) -> String {
    let (_, query) = target.split_once('?').unwrap();
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "callbackURL")
        .unwrap()
        .1
        .into_owned()
}

fn nowhere(location: &str) -> String {
    panic!("sent to {location}")
}

/// A cookie as an app with another secret would issue it.
fn signed_elsewhere() -> String {
    Signer::new(&Secret::new("another secret, of another app altogether")).issue("token-of-ada")
}

fn is_explained(answer: &Answer) -> bool {
    answer.text().contains(TITLE)
}

/// An app whose sign-in page takes everybody for signed in and sends them back, or home where it does not care whence they come.
fn bouncing(home: Option<&'static str>) -> App {
    App::scripted(move |seen: &Seen, stream: &mut TcpStream| {
        let target = seen.line.split(' ').nth(1).unwrap();
        if target.starts_with("/sign-in") {
            let to = home.map_or_else(|| way_back(target), str::to_owned);
            reply(stream, 307, &[("location", &to)], b"");
        } else {
            reply(stream, 200, &[], b"app");
        }
    })
}

/// A gateway whose sign-in page is public: it does not ask who is there.
fn setup(app: &App) -> Setup {
    let mut setup = Setup::in_front_of(app.address);
    for spec in &mut setup.routes.routes {
        if spec.sources[0].source == "/sign-in" {
            spec.rule = rule(Need::Public);
        }
    }
    setup
}

#[test]
fn a_page_of_the_app_that_sends_people_back_by_script_is_explained_the_third_time() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let forged = signed_elsewhere();
    let mut browser = Browser::with(SESSION, &forged);
    browser
        .jar
        .insert("<b>theme".into(), "value-of-theme".into());
    let back = "http://app.test/sign-in?callbackURL=%2Fdashboard%3Ftab%3D1";

    let first = browser.open(&gateway, "/dashboard?tab=1", None);
    assert_eq!((first.status, first.all("set-cookie").len()), (302, 0));
    for _ in 0..2 {
        let again = browser.open(&gateway, "/dashboard?tab=1", Some(back));
        assert_eq!(again.status, 302);
        assert_eq!(
            again.header("location"),
            first.header("location"),
            "no mark on our own origin"
        );
    }
    let told = browser.open(&gateway, "/dashboard?tab=1", Some(back));
    assert_eq!(told.status, 401);
    assert_eq!(told.header("cache-control"), Some("private, no-store"));
    assert!(
        told.header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    let text = told.text();
    for shown in [
        TITLE,
        "bad_signature",
        "BETTER_AUTH_SECRET",
        SESSION,
        "&lt;b&gt;theme",
        "href=\"/dashboard?tab=1\"",
    ] {
        assert!(text.contains(shown), "{shown} in {text}");
    }
    for hidden in [forged.as_str(), "value-of-theme", "<b>theme", "<script"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    let counted = crate::support::exchange(
        gateway.admin,
        b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer admin token of the tests\r\n\r\n",
    );
    assert!(
        counted
            .text()
            .contains("vestibule_sign_in_loops_total{reason=\"bad_signature\"} 1")
    );

    // Trying again begins anew, and is not blocked.
    assert!(!browser.jar.contains_key(ROUNDS));
    let link = "http://app.test/dashboard?tab=1";
    assert_eq!(
        browser
            .open(&gateway, "/dashboard?tab=1", Some(link))
            .status,
        302
    );
    assert!(app.seen().is_empty());
}

#[test]
fn a_chain_of_redirects_ends_before_the_browser_gives_up() {
    for home in [None, Some("/dashboard")] {
        let app = bouncing(home);
        let gateway = setup(&app).start();
        let mut browser = Browser::with("shop.session_token", "x.y");
        let (told, hops) = browser.follow(&gateway, "/dashboard", nowhere);
        assert_eq!((told.status, hops), (401, 6), "{home:?}");
        let text = told.text();
        assert!(
            text.contains("no_credential") && text.contains("shop.session_token was sent"),
            "{text}"
        );
        let through = app.seen();
        assert!(
            through
                .iter()
                .all(|seen| seen.line.starts_with("GET /sign-in"))
        );
    }
}

#[test]
fn the_same_chain_of_somebody_who_counts_as_signed_in_ends_at_the_page() {
    let app = bouncing(None);
    let gateway = setup(&app).start();
    gateway.store.put(record("token-of-ada", "ada"));
    let session = cookie("token-of-ada");
    let (name, value) = session.split_once('=').unwrap();
    let mut browser = Browser::with(name, value);
    for _ in 0..5 {
        let (page, _) = browser.follow(&gateway, "/sign-in?callbackURL=%2Fdashboard", nowhere);
        assert_eq!((page.status, page.text().as_str()), (200, "app"));
    }
    // Even with a cookie that says otherwise.
    let count = browser.jar[ROUNDS].replacen('0', "2", 1);
    browser.jar.insert(ROUNDS.into(), count);
    assert_eq!(browser.open(&gateway, "/dashboard", None).status, 200);
}

#[test]
fn a_sign_in_page_on_another_origin_goes_round_no_longer_either() {
    let app = App::start();
    let mut setup = setup(&app);
    setup.pages.sign_in = "https://auth.test/login".into();
    let gateway = setup.start();
    let there = |location: &str| {
        assert!(
            location.starts_with("https://auth.test/login?"),
            "{location}"
        );
        way_back(location)
    };
    let mut browser = Browser::default();
    let (told, hops) = browser.follow(&gateway, "/reports?year=7", there);
    assert_eq!((told.status, hops), (401, 4));
    assert!(told.text().contains("sent no cookie at all"));
    assert!(told.text().contains("href=\"/reports?year=7\""));
    assert!(app.seen().is_empty());

    // Whoever is signed in by the second try comes back to the very address, without what we added.
    gateway.store.put(record("token-of-ada", "ada"));
    let mut browser = Browser::default();
    browser.open(&gateway, "/reports?year=7", None);
    let second = browser.open(&gateway, "/reports?year=7", None);
    let marked = there(second.header("location").unwrap());
    assert_ne!(marked, "/reports?year=7");
    let session = cookie("token-of-ada");
    let (name, value) = session.split_once('=').unwrap();
    browser.jar.insert(name.into(), value.into());
    let cleaned = browser.open(&gateway, &marked, None);
    assert_eq!(
        (cleaned.status, cleaned.header("location")),
        (302, Some("/reports?year=7"))
    );
    assert!(!browser.jar.contains_key(ROUNDS));
    assert_eq!(browser.open(&gateway, "/reports?year=7", None).status, 200);
    assert_eq!(app.count(), 1);
}

#[test]
fn tabs_opened_while_signed_out_never_see_it() {
    let app = App::start();
    for sign_in in ["/sign-in", "https://auth.test/login"] {
        let mut setup = setup(&app);
        setup.pages.sign_in = sign_in.into();
        let gateway = setup.start();
        let mut browser = Browser::with(SESSION, &signed_elsewhere());
        let login = format!(
            "{}?callbackURL=%2Fdashboard",
            sign_in.replace("/sign-in", "http://app.test/sign-in")
        );
        for n in 0..10 {
            // The same page, other pages, and other pages from links of the sign-in page.
            let same = browser.open(&gateway, "/dashboard", None);
            let other = browser.open(&gateway, &format!("/page/{n}"), None);
            let linked = browser.open(&gateway, &format!("/linked/{n}"), Some(&login));
            let inside = browser.open(&gateway, "/inside", Some("http://app.test/public/list"));
            for answer in [same, other, linked, inside] {
                assert_eq!(answer.status, 302, "{sign_in}: {}", answer.text());
            }
        }
    }
}

#[test]
fn an_ordinary_sign_in_gets_no_cookie_and_programs_never_do() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let mut browser = Browser::default();
    browser.open(&gateway, "/dashboard", None);
    browser.open(&gateway, "/sign-in?callbackURL=%2Fdashboard", None);
    gateway.store.put(record("token-of-ada", "ada"));
    let session = cookie("token-of-ada");
    let (name, value) = session.split_once('=').unwrap();
    browser.jar.insert(name.into(), value.into());
    let back = "http://app.test/sign-in?callbackURL=%2Fdashboard";
    assert_eq!(browser.open(&gateway, "/dashboard", Some(back)).status, 200);
    assert!(!browser.jar.contains_key(ROUNDS));

    for _ in 0..5 {
        for (name, value) in [
            ("rsc", "1"),
            ("sec-purpose", "prefetch"),
            ("x-nextjs-data", "1"),
        ] {
            let headers = [(name, value), ("referer", back)];
            let answer = gateway.document("/dashboard", &headers);
            assert_eq!(
                (answer.status, answer.all("set-cookie").len()),
                (401, 0),
                "{name}"
            );
            assert!(!is_explained(&answer));
        }
    }
}

#[test]
fn after_a_minute_the_rounds_are_counted_anew() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);
    let mut browser = Browser::default();
    let back = Some("http://app.test/sign-in");
    for _ in 0..6 {
        assert_eq!(browser.open(&gateway, "/dashboard", back).status, 302);
        gateway.clock.advance(Duration::from_secs(31));
    }
    for _ in 0..2 {
        assert!(!is_explained(&browser.open(&gateway, "/dashboard", back)));
    }
    assert!(is_explained(&browser.open(&gateway, "/dashboard", back)));
}

#[test]
fn nobody_else_can_keep_a_browser_from_signing_in() {
    let app = App::start();
    let mut elsewhere = setup(&app);
    elsewhere.pages.sign_in = "https://auth.test/login".into();
    for setup in [setup(&app), elsewhere] {
        let gateway = setup.start();
        // A link with our mark, from a page of theirs: without a round of ours it says nothing.
        for _ in 0..10 {
            let mut browser = Browser::default();
            let answer = browser.open(
                &gateway,
                "/dashboard?vestibule-round=1",
                Some("https://evil.test/sign-in"),
            );
            assert_eq!(answer.status, 302);
            assert_eq!(
                way_back(answer.header("location").unwrap()),
                "/dashboard",
                "the mark does not travel on"
            );
        }
        // A cookie that a neighbour planted: whatever it says, the next try is free.
        for planted in ["2.b.0.9999999999999", "99.b.0.0", "2.s.", "="] {
            let mut browser = Browser::with(ROUNDS, planted);
            assert_eq!(
                browser.open(&gateway, "/dashboard", None).status,
                302,
                "{planted}"
            );
        }
    }
}
