//! Old systems asked live: the runner of conversations, and Clerk, WorkOS and an endpoint of one's own on it, with servers on loopback that
//! speak their documented API and fail in every way.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vestibule::kind;
use vestibule::migration::dialogue::Unreachable;
use vestibule::migration::provider::{
    Attempt, Check, Checked, FactorChecked, Field, Fields, KINDS, Mirror, Profile,
};
use vestibule::secret::Secret;
use vestibule::server::migration::outbound::{DEADLINE, Outbound};
use vestibule::telemetry::metrics::Metrics;
use vestibule::time::{Clock, ManualClock};

use crate::support::vendors::{Fault, Person, Vendor, clerk, workos};
use crate::support::{App, NOW, await_until, reply};

const ANN: &str = "ann@example.com";
const PASSWORD: &str = "planted-password-Ohx4ei";

pub fn fields(values: &[(&str, &str)]) -> Fields {
    let values = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Field::Text(Secret::new(*value))));
    Fields {
        values: values.collect(),
        public_origin: "http://app.test".into(),
    }
}

fn built(name: &str, fields: &Fields) -> Result<Option<Box<dyn Check>>, String> {
    let kind = kind::find("old system", KINDS, name).expect("known");
    (kind.build.check.expect("it can be asked"))(fields)
}

pub fn clerk_fields(vendor: &Vendor) -> Fields {
    fields(&[("secret_key", clerk::KEY), ("api_url", &vendor.url())])
}

pub fn workos_fields(vendor: &Vendor) -> Fields {
    fields(&[
        ("api_key", workos::KEY),
        ("client_id", workos::CLIENT),
        ("api_url", &vendor.url()),
    ])
}

/// Somebody who asks one old system.
struct World {
    runtime: Runtime,
    outbound: Outbound,
    check: Box<dyn Check>,
    name: &'static str,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
}

impl World {
    fn new(name: &'static str, fields: &Fields) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self::on(runtime, name, fields)
    }

    fn on(runtime: Runtime, name: &'static str, fields: &Fields) -> Self {
        let check = built(name, fields).unwrap().expect("it is configured");
        let clock = Arc::new(ManualClock::at(NOW));
        let metrics = Arc::new(Metrics::new().unwrap());
        let outbound = Outbound::new(
            [(name, Some(check.overall()))],
            None,
            runtime.handle().clone(),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::clone(&metrics),
        )
        .unwrap();
        Self {
            runtime,
            outbound,
            check,
            name,
            clock,
            metrics,
        }
    }

    fn check(&self, attempt: &Attempt) -> Checked {
        let checked = self.outbound.check(self.name, &*self.check, attempt);
        self.runtime.block_on(checked)
    }

    fn look_up(&self, email: &str) -> Result<Option<Profile>, Unreachable> {
        let found = self.outbound.look_up(self.name, &*self.check, email);
        self.runtime.block_on(found)
    }

    fn factor(&self, id: &str, pending: Option<&Secret>, code: &str) -> Option<FactorChecked> {
        let code = Secret::new(code);
        let checked = self
            .outbound
            .check_factor(self.name, &*self.check, id, pending, &code);
        self.runtime.block_on(checked)
    }

    fn mirror(&self, what: &Mirror) -> Result<Option<String>, Unreachable> {
        let done = self.outbound.mirror(self.name, &*self.check, what);
        self.runtime.block_on(done).expect("it can take that")
    }
}

fn attempt(email: &str, password: &str) -> Attempt {
    Attempt {
        email: Some(email.into()),
        username: None,
        phone: None,
        source_id: None,
        password: Secret::new(password),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        user_agent: "a browser".into(),
    }
}

fn with_id(id: &str, password: &str) -> Attempt {
    Attempt {
        source_id: Some(id.into()),
        ..attempt(ANN, password)
    }
}

fn why(checked: &Checked) -> Unreachable {
    match checked {
        Checked::Unavailable(why) => *why,
        other => panic!("{other:?}"),
    }
}

// -------------------------------------------------------------------------------------------------------------------- Clerk

fn ann_at_clerk() -> (Vendor, World) {
    let vendor = clerk::start();
    vendor.add(Person::new("user_ann", ANN, PASSWORD));
    let world = World::new("clerk", &clerk_fields(&vendor));
    (vendor, world)
}

#[test]
fn clerk_knows_a_right_password_from_a_wrong_one_and_says_whose_it_is() {
    let (vendor, world) = ann_at_clerk();
    for right in [attempt(ANN, PASSWORD), with_id("user_ann", PASSWORD)] {
        match world.check(&right) {
            Checked::Right(profile) => {
                assert_eq!(profile.id, "user_ann");
                assert_eq!(profile.email.as_deref(), Some(ANN));
                assert!(profile.email_verified);
                assert_eq!(profile.name, "Ann Lee");
            }
            other => panic!("{other:?}"),
        }
    }
    for wrong in [
        attempt(ANN, "wrong"),
        attempt("nobody@example.com", PASSWORD),
        with_id("user_gone", PASSWORD),
    ] {
        assert!(matches!(world.check(&wrong), Checked::Wrong));
    }
    let asked = vendor.app.count();
    assert!(matches!(world.check(&attempt(ANN, "")), Checked::Wrong));
    assert_eq!(
        vendor.app.count(),
        asked,
        "an empty password is not asked about"
    );
}

#[test]
fn an_address_somebody_wrote_beside_their_own_signs_them_in_nowhere() {
    let (_vendor, world) = ann_at_clerk();
    let other = "somebody.elses@example.com";
    assert!(matches!(
        world.check(&attempt(other, PASSWORD)),
        Checked::Wrong
    ));
    assert_eq!(world.look_up(other), Ok(None));
    assert_eq!(world.look_up(ANN).unwrap().unwrap().id, "user_ann");
}

#[test]
fn clerks_second_factor_bans_and_accounts_without_a_password_are_told_apart() {
    let (vendor, world) = ann_at_clerk();
    vendor.add(Person::new("user_two", "two@example.com", PASSWORD).with_code("123456"));
    vendor.add(Person {
        banned: true,
        ..Person::new("user_bad", "bad@example.com", PASSWORD)
    });
    vendor.add(Person {
        password: None,
        ..Person::new("user_social", "social@example.com", "")
    });
    match world.check(&attempt("two@example.com", PASSWORD)) {
        Checked::SecondFactor { profile, pending } => {
            assert!(profile.second_factor && pending.is_none());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        world.factor("user_two", None, "123456"),
        Some(FactorChecked::Right)
    );
    assert_eq!(
        world.factor("user_two", None, "654321"),
        Some(FactorChecked::Wrong)
    );
    assert_eq!(
        world.factor("user_gone", None, "123456"),
        Some(FactorChecked::Wrong)
    );
    assert!(matches!(
        world.check(&attempt("bad@example.com", PASSWORD)),
        Checked::Blocked(_)
    ));
    for none in [
        attempt("social@example.com", "x"),
        with_id("user_social", "x"),
    ] {
        assert!(matches!(world.check(&none), Checked::NoPassword));
    }
    assert!(
        world
            .look_up("two@example.com")
            .unwrap()
            .unwrap()
            .second_factor
    );
}

// ------------------------------------------------------------------------------------------------------------------- WorkOS

#[test]
fn workos_is_asked_once_and_its_session_ended_again() {
    let vendor = workos::start();
    vendor.add(Person::new("user_ann", ANN, PASSWORD));
    let world = World::new("workos", &workos_fields(&vendor));
    match world.check(&attempt(ANN, PASSWORD)) {
        Checked::Right(profile) => assert_eq!(profile.id, "user_ann"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        world.check(&attempt(ANN, "wrong")),
        Checked::Wrong
    ));
    let known = vendor.known();
    assert_eq!((known.made, known.sessions.len()), (1, 0));
}

#[test]
fn workos_second_factor_goes_on_where_the_password_left_it() {
    let vendor = workos::start();
    vendor.add(Person::new("user_two", ANN, PASSWORD).with_code("123456"));
    let world = World::new("workos", &workos_fields(&vendor));
    let Checked::SecondFactor { profile, pending } = world.check(&attempt(ANN, PASSWORD)) else {
        panic!("a second factor");
    };
    // The answer names nobody: the user was looked up.
    assert_eq!(profile.id, "user_two");
    let pending = pending.expect("what is wanted back");
    let of = |id: &str, code: &str| world.factor(id, Some(&pending), code);
    assert_eq!(of("user_two", "000000"), Some(FactorChecked::Wrong));
    assert_eq!(of("user_other", "123456"), Some(FactorChecked::Wrong));
    assert_eq!(of("user_two", "123456"), Some(FactorChecked::Right));
    assert_eq!(world.factor("user_two", None, "123456"), None);
    assert!(world.look_up(ANN).unwrap().unwrap().second_factor);
    await_until("the sessions to be ended", || {
        vendor.known().sessions.is_empty()
    });
}

#[test]
fn an_address_that_is_not_verified_at_workos_is_good_for_the_hash() {
    let vendor = workos::start();
    vendor.add(Person {
        verified: false,
        ..Person::new("user_new", ANN, PASSWORD)
    });
    let world = World::new("workos", &workos_fields(&vendor));
    match world.check(&attempt(ANN, PASSWORD)) {
        Checked::RightBut(profile, "email_not_verified") => {
            assert_eq!(profile.id, "user_new");
            assert!(!profile.email_verified);
        }
        other => panic!("{other:?}"),
    }
}

/// Where the data is: that of the repository, or another folder of the same shape.
fn exports() -> PathBuf {
    let given = std::env::var_os("VESTIBULE_MIGRATION_DATA").map(PathBuf::from);
    let ours = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/migration");
    given.unwrap_or_else(ours).join("exports")
}

#[test]
fn every_documented_answer_of_workos_means_what_it_should() {
    let path = exports().join("workos/jit_exchanges.json");
    let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let (mut run, mut failed) = (0, Vec::new());
    for case in file["cases"].as_array().unwrap() {
        let (status, body) = (case["status"].as_u64().unwrap(), case["response"].clone());
        let wait = case["headers"]["Retry-After"].as_str().map(str::to_owned);
        let app = App::scripted(move |seen, stream| {
            let status = u16::try_from(status).unwrap();
            let headers: Vec<(&str, &str)> = wait
                .iter()
                .map(|wait| ("retry-after", wait.as_str()))
                .collect();
            if seen.line.starts_with("GET") {
                let user = json!({ "id": "user_1", "email": ANN, "email_verified": false });
                let body = json!({ "object": "list", "data": [user] }).to_string();
                reply(stream, 200, &[], body.as_bytes());
            } else {
                reply(stream, status, &headers, body.to_string().as_bytes());
            }
        });
        let url = format!("http://{}", app.address);
        let world = World::new(
            "workos",
            &fields(&[
                ("api_key", "sk_x"),
                ("client_id", "client_x"),
                ("api_url", &url),
            ]),
        );
        let checked = world.check(&attempt(ANN, "lattice"));
        // By what the answer says, not by what the case is called.
        let said = &case["response"];
        let word = said["code"].as_str().or(said["error"].as_str());
        let fits = match (status, word) {
            (200, _) => match &checked {
                // The token of the example names no session, so none could be ended.
                Checked::Right(profile) | Checked::RightBut(profile, "session_not_ended") => {
                    Some(profile.id.as_str()) == said["user"]["id"].as_str()
                }
                _ => false,
            },
            (_, Some("invalid_credentials")) => matches!(checked, Checked::Wrong),
            (_, Some("mfa_challenge")) => match &checked {
                Checked::SecondFactor { profile, pending } => {
                    profile.id == "user_1" && pending.is_some()
                }
                _ => false,
            },
            (_, Some("sso_required")) => matches!(checked, Checked::NoPassword),
            (403, Some(_)) => matches!(checked, Checked::RightBut(..)),
            (429, _) => matches!(checked, Checked::Limited(Some(_))),
            (500.., _) => matches!(checked, Checked::Unavailable(Unreachable::Refused)),
            _ => false,
        };
        run += 1;
        if !fits {
            failed.push(format!("{}: {checked:?}", case["name"]));
        }
    }
    println!(
        "migration {}: {run} found, {run} run, {} failed",
        path.display(),
        failed.len()
    );
    assert!(run > 0 && failed.is_empty(), "{failed:#?}");
}

#[test]
fn an_address_is_asked_about_at_most_eight_times_a_minute_so_that_nobody_is_locked_out_there() {
    let vendor = workos::start();
    vendor.add(Person::new("user_ann", ANN, PASSWORD));
    let world = World::new("workos", &workos_fields(&vendor));
    for _ in 0..8 {
        assert!(matches!(
            world.check(&attempt(ANN, "guess")),
            Checked::Wrong
        ));
    }
    match world.check(&attempt(ANN, PASSWORD)) {
        Checked::Limited(Some(wait)) => assert!(wait <= Duration::from_secs(60)),
        other => panic!("{other:?}"),
    }
    assert_eq!(vendor.asked("authenticate"), 8);
    assert!(matches!(
        world.check(&attempt("other@example.com", "guess")),
        Checked::Wrong
    ));
    world.clock.advance(Duration::from_secs(60));
    assert!(matches!(
        world.check(&attempt(ANN, PASSWORD)),
        Checked::Right(_)
    ));
}

// ------------------------------------------------------------------------------------------------------------------- mirror

#[test]
fn changes_are_mirrored_and_a_second_try_does_no_harm() {
    let native = Secret::new(format!("{}:{}", "ab".repeat(16), "cd".repeat(64)));
    for name in ["clerk", "workos"] {
        let (vendor, fields) = match name {
            "clerk" => {
                let vendor = clerk::start();
                let fields = clerk_fields(&vendor);
                (vendor, fields)
            }
            _ => {
                let vendor = workos::start();
                let fields = workos_fields(&vendor);
                (vendor, fields)
            }
        };
        let world = World::new(name, &fields);
        let sign_up = |id: &str| Mirror::SignUp {
            profile: Profile {
                id: id.into(),
                email: Some(ANN.into()),
                name: "Ann Lee".into(),
                ..Profile::default()
            },
            password: Some(Secret::new(PASSWORD)),
        };
        let id = world.mirror(&sign_up("local_1")).unwrap().expect("an id");
        assert_eq!(
            world.mirror(&sign_up("local_1")),
            Ok(Some(id.clone())),
            "{name}"
        );
        // Somebody else's account is not ours to change.
        assert!(world.mirror(&sign_up("local_2")).is_err(), "{name}");
        {
            let mut known = vendor.known();
            let person = known.by_id(&id).unwrap();
            assert_eq!(person.password.as_deref(), Some(PASSWORD));
            assert!(!person.verified, "{name}: nobody has verified it");
            assert_eq!(
                (person.first_name.as_str(), person.last_name.as_str()),
                ("Ann", "Lee")
            );
        }
        let email = Mirror::Email {
            id: id.clone(),
            email: "new@example.com".into(),
            verified: true,
        };
        for _ in 0..2 {
            assert!(world.mirror(&email).is_ok());
        }
        let password = Mirror::Password {
            id: id.clone(),
            password: Secret::new("another one"),
        };
        assert!(world.mirror(&password).is_ok());
        {
            let mut known = vendor.known();
            let person = known.by_id(&id).unwrap();
            assert_eq!(person.email, "new@example.com");
            assert!(person.verified);
            assert_eq!(person.password.as_deref(), Some("another one"));
        }
        let hash = Mirror::Hash {
            id: id.clone(),
            native: native.clone(),
        };
        assert!(world.mirror(&hash).is_ok());
        let (form, hash) = vendor.known().by_id(&id).unwrap().hash.clone().unwrap();
        match name {
            "clerk" => {
                assert_eq!(form, "scrypt_werkzeug");
                assert!(hash.starts_with("scrypt:16384:16:1$abab"), "{hash}");
            }
            _ => {
                assert_eq!(form, "scrypt");
                assert!(hash.starts_with("$scrypt$ln=14,r=16,p=1$"), "{hash}");
            }
        }
        let delete = Mirror::Delete { id: id.clone() };
        for _ in 0..2 {
            assert!(world.mirror(&delete).is_ok());
        }
        assert!(vendor.known().people.is_empty());
    }
}

// ------------------------------------------------------------------------------------------------------- an endpoint of one's own

#[test]
fn an_endpoint_of_ones_own_is_asked_in_its_own_words() {
    let app = App::scripted(|seen, stream| {
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!(seen.header("authorization"), Some("Bearer planted-token"));
        let (status, said) = match (body["email"].as_str(), body["password"].as_str()) {
            (Some(ANN), Some(PASSWORD)) => (
                200,
                json!({ "data": { "ok": true, "user": { "id": 7, "email": "Ann@Example.com", "verified": true } } }),
            ),
            (Some("two@example.com"), _) => (
                200,
                json!({ "data": { "ok": true, "user": { "id": 8, "second_factor": true } }, "pending": "p" }),
            ),
            (Some("busy@example.com"), _) => (429, json!({})),
            (Some("odd@example.com"), _) => (200, json!({ "hello": "you" })),
            (Some("teapot@example.com"), _) => (418, json!({})),
            (Some("banned@example.com"), _) => (403, json!({})),
            (Some("social@example.com"), _) => (409, json!({})),
            _ => (200, json!({ "data": { "ok": false } })),
        };
        reply(stream, status, &[], said.to_string().as_bytes());
    });
    let url = format!("http://{}/check", app.address);
    let world = World::new(
        "generic",
        &fields(&[
            ("check_url", &url),
            ("token", "planted-token"),
            ("right_path", "data.ok"),
            ("user_path", "data.user"),
            ("email_verified_path", "verified"),
        ]),
    );
    let of = |email: &str| world.check(&attempt(email, PASSWORD));
    match of(ANN) {
        Checked::Right(profile) => {
            assert_eq!(profile.id, "7");
            assert_eq!(profile.email.as_deref(), Some(ANN));
            assert!(profile.email_verified);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(of("nobody@example.com"), Checked::Wrong));
    assert!(matches!(
        of("two@example.com"),
        Checked::SecondFactor {
            pending: Some(_),
            ..
        }
    ));
    assert!(matches!(of("busy@example.com"), Checked::Limited(None)));
    assert!(matches!(of("banned@example.com"), Checked::Blocked(_)));
    assert!(matches!(of("social@example.com"), Checked::NoPassword));
    assert_eq!(why(&of("odd@example.com")), Unreachable::Garbage);
    assert_eq!(why(&of("teapot@example.com")), Unreachable::Garbage);
    assert_eq!(world.look_up(ANN), Ok(None), "there is no such question");
}

#[test]
fn passwords_go_nowhere_unencrypted_but_to_this_machine() {
    for (url, fine) in [
        ("https://old.example/check", true),
        ("http://127.0.0.1:9/check", true),
        ("http://old.example/check", false),
        ("http://127.0.0.1.old.example/check", false),
        ("ftp://old.example/check", false),
    ] {
        let checked = built("generic", &fields(&[("check_url", url)]));
        assert_eq!(checked.is_ok(), fine, "{url}");
    }
}

// ------------------------------------------------------------------------------------------------------------------- outages

#[test]
fn no_outage_is_taken_for_a_wrong_password() {
    for (fault, unreachable) in [
        (Fault::Cuts, Unreachable::Connect),
        (Fault::Garbage, Unreachable::Garbage),
        (Fault::Status(500), Unreachable::Refused),
        (Fault::Status(503), Unreachable::Refused),
        (Fault::Status(401), Unreachable::Refused),
        (Fault::Status(302), Unreachable::Garbage),
        (Fault::Status(418), Unreachable::Garbage),
    ] {
        for name in ["clerk", "workos"] {
            let (vendor, fields) = vendor(name);
            vendor.add(Person::new("user_ann", ANN, PASSWORD));
            let world = World::new(name, &fields);
            vendor.fail(fault);
            for password in [PASSWORD, "wrong"] {
                let checked = world.check(&attempt(ANN, password));
                assert_eq!(why(&checked), unreachable, "{name} {fault:?}");
            }
            assert!(world.outbound.is_down(name), "{name} {fault:?}");
            assert_eq!(world.look_up(ANN), Err(unreachable), "{name} {fault:?}");
            vendor.fail(Fault::Well);
            assert!(matches!(
                world.check(&attempt(ANN, PASSWORD)),
                Checked::Right(_)
            ));
        }
    }
}

fn vendor(name: &str) -> (Vendor, Fields) {
    match name {
        "clerk" => {
            let vendor = clerk::start();
            let fields = clerk_fields(&vendor);
            (vendor, fields)
        }
        _ => {
            let vendor = workos::start();
            let fields = workos_fields(&vendor);
            (vendor, fields)
        }
    }
}

#[test]
fn nobody_listening_is_an_outage_too() {
    let port = crate::support::free_port();
    let url = format!("http://127.0.0.1:{port}");
    let world = World::new("clerk", &fields(&[("secret_key", "sk"), ("api_url", &url)]));
    let checked = world.check(&attempt(ANN, PASSWORD));
    assert_eq!(why(&checked), Unreachable::Connect);
}

#[test]
fn a_limit_of_the_old_system_is_passed_on_with_its_wait() {
    let (vendor, fields) = vendor("workos");
    let world = World::new("workos", &fields);
    vendor.fail(Fault::Limits);
    match world.check(&attempt(ANN, PASSWORD)) {
        Checked::Limited(wait) => assert_eq!(wait, Some(Duration::from_secs(7))),
        other => panic!("{other:?}"),
    }
    // Clerk has one limit for all of us: that is an outage.
    let (vendor, fields) = self::vendor("clerk");
    let world = World::new("clerk", &fields);
    vendor.fail(Fault::Limits);
    let checked = world.check(&attempt(ANN, PASSWORD));
    assert_eq!(why(&checked), Unreachable::Refused);
}

#[test]
fn a_system_that_does_not_answer_is_left_alone_and_found_again_unaided() {
    let (vendor, fields) = vendor("clerk");
    vendor.add(Person::new("user_ann", ANN, PASSWORD));
    let world = World::new("clerk", &fields);
    vendor.fail(Fault::Status(500));
    let of = |n: usize| world.check(&attempt(&format!("u{n}@example.com"), "x"));
    for n in 0..5 {
        assert_eq!(why(&of(n)), Unreachable::Refused);
    }
    let asked = vendor.app.count();
    for n in 0..20 {
        assert_eq!(why(&of(n)), Unreachable::Connect);
    }
    assert_eq!(vendor.app.count(), asked, "it is left alone");
    assert!(world.outbound.is_down("clerk") && world.outbound.any_is_down());
    let down = "vestibule_old_system_up{provider=\"clerk\"} 0";
    assert!(world.metrics.render().contains(down));
    // One asks whether it is back, and it is not.
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(why(&of(30)), Unreachable::Refused);
    assert_eq!(why(&of(31)), Unreachable::Connect);
    vendor.fail(Fault::Well);
    world.clock.advance(Duration::from_secs(4));
    assert!(matches!(
        world.check(&attempt(ANN, PASSWORD)),
        Checked::Right(_)
    ));
    assert!(!world.outbound.is_down("clerk"));
    let up = "vestibule_old_system_up{provider=\"clerk\"} 1";
    assert!(world.metrics.render().contains(up));
}

#[test]
fn whoever_signs_in_waits_three_seconds_at_most() {
    let (vendor, fields) = vendor("clerk");
    let world = World::new("clerk", &fields);
    vendor.fail(Fault::Stalls);
    let began = std::time::Instant::now();
    let checked = world.check(&attempt(ANN, PASSWORD));
    assert_eq!(why(&checked), Unreachable::Timeout);
    let took = began.elapsed();
    assert!(took >= DEADLINE && took < DEADLINE * 2, "{took:?}");
    assert!(world.outbound.is_down("clerk"));
}

#[test]
fn a_session_made_too_late_is_ended_all_the_same() {
    let (vendor, fields) = vendor("workos");
    vendor.add(Person::new("user_ann", ANN, PASSWORD));
    let world = World::new("workos", &fields);
    vendor.fail(Fault::Late(DEADLINE + Duration::from_millis(300)));
    let checked = world.check(&attempt(ANN, PASSWORD));
    assert_eq!(why(&checked), Unreachable::Timeout);
    vendor.fail(Fault::Well);
    await_until("the late session to be ended", || {
        let known = vendor.known();
        known.made == 1 && known.sessions.is_empty()
    });
}

#[test]
fn a_session_is_ended_when_whoever_wanted_it_is_gone() {
    let (vendor, fields) = vendor("workos");
    vendor.add(Person::new("user_ann", ANN, PASSWORD));
    let world = World::new("workos", &fields);
    vendor.fail(Fault::Late(Duration::from_millis(300)));
    world.runtime.block_on(async {
        let attempt = attempt(ANN, PASSWORD);
        let checked = world.outbound.check("workos", &*world.check, &attempt);
        let left = tokio::time::timeout(Duration::from_millis(100), checked).await;
        assert!(left.is_err(), "they left before the answer");
    });
    await_until("the session to be ended", || {
        let known = vendor.known();
        known.made == 1 && known.sessions.is_empty()
    });
}

// ------------------------------------------------------------------------------------------------------------------- the log

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn nothing_that_is_told_to_an_old_system_is_told_to_the_log() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        for name in ["clerk", "workos"] {
            let (vendor, fields) = vendor(name);
            vendor.add(Person::new("user_ann", ANN, PASSWORD));
            vendor.add(Person::new("user_two", "two@example.com", PASSWORD).with_code("987123"));
            // On this thread alone, so that this log hears all of it.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let world = World::on(runtime, name, &fields);
            let mut said = Vec::new();
            said.push(format!("{:?}", world.check(&attempt(ANN, PASSWORD))));
            let two = world.check(&attempt("two@example.com", PASSWORD));
            if let Checked::SecondFactor { profile, pending } = &two {
                said.push(format!(
                    "{:?}",
                    world.factor(&profile.id, pending.as_ref(), "987123")
                ));
            }
            for fault in [Fault::Cuts, Fault::Garbage, Fault::Status(500)] {
                vendor.fail(fault);
                for n in 0..6 {
                    let attempt = attempt(&format!("u{n}@example.com"), PASSWORD);
                    said.push(format!("{:?} {attempt:?}", why(&world.check(&attempt))));
                }
            }
            said.push(world.metrics.render());
            let log = String::from_utf8_lossy(&written.0.lock().unwrap()).into_owned();
            assert!(log.contains("left alone"), "what is written is looked at");
            for secret in [
                PASSWORD,
                clerk::KEY,
                workos::KEY,
                "rt_secret",
                "987123",
                "c2ln",
                "pat_",
            ] {
                assert!(!log.contains(secret), "{name}: {secret} in the log");
                assert!(
                    !said.concat().contains(secret),
                    "{name}: {secret} in what was said"
                );
            }
            for address in [ANN, "two@example.com", "u3%40example.com", "u3@example.com"] {
                // Libraries trace what they send; the gateway's own words hold none.
                let ours = log.lines().filter(|line| line.contains("vestibule"));
                assert!(
                    !ours.into_iter().any(|line| line.contains(address)),
                    "{address}"
                );
            }
        }
    });
}
