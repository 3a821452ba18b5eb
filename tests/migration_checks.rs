//! Passwords checked live at old systems: the conversations of every provider over real sockets, against stand-ins that speak the
//! vendors' documented protocols.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use vestibule::kind;
use vestibule::migration::dialogue::{Answer, Given, Moment, Need, Step, Unreachable};
use vestibule::migration::provider::{
    Attempt, Check, Checked, FactorChecked, Field, Fields, KINDS, Mirror, Profile,
};
use vestibule::secret::Secret;
use vestibule::server::migration::outbound::Outbound;
use vestibule::telemetry::metrics::Metrics;
use vestibule::time::ManualClock;

use crate::support::protocols::*;
use crate::support::{NOW, await_until};

/// What is expected of a system, where they differ.
struct System {
    /// Its name among the providers.
    name: &'static str,
    start: fn() -> Vendor,
    fields: fn(&str) -> Vec<(&'static str, Field)>,
    /// How it writes an id.
    id: fn(&Person) -> String,
    /// Whether it makes sessions when a password is right.
    makes_sessions: bool,
    blocked: Expected,
    limited: Expected,
    unfinished: Expected,
    /// Without its admin key, who has a second factor or something to do first.
    factor: Expected,
    looks_up: bool,
    mirrors: bool,
}

/// What is expected of an answer, without whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Right,
    RightBut(&'static str),
    SecondFactor,
    Wrong,
    NoPassword,
    Blocked,
    Limited(Option<u64>),
    Unavailable(Unreachable),
}

fn kind_of(checked: &Checked) -> Expected {
    match checked {
        Checked::Right(_) => Expected::Right,
        Checked::RightBut(_, word) => Expected::RightBut(word),
        Checked::SecondFactor { .. } => Expected::SecondFactor,
        Checked::Wrong => Expected::Wrong,
        Checked::NoPassword => Expected::NoPassword,
        Checked::Blocked(_) => Expected::Blocked,
        Checked::Limited(wait) => Expected::Limited(wait.map(|wait| wait.as_secs())),
        Checked::Unavailable(why) => Expected::Unavailable(*why),
    }
}

fn profile(checked: &Checked) -> Option<&Profile> {
    match checked {
        Checked::Right(profile)
        | Checked::RightBut(profile, _)
        | Checked::SecondFactor { profile, .. } => Some(profile),
        _ => None,
    }
}

fn text(value: &str) -> Field {
    Field::Text(Secret::new(value))
}

fn plain(person: &Person) -> String {
    person.id.to_owned()
}

const BUSY: Expected = Expected::Unavailable(Unreachable::Refused);

fn cognito_fields(url: &str, flow: &str) -> Vec<(&'static str, Field)> {
    vec![
        ("endpoint", text(url)),
        ("user_pool_id", text(cognito::POOL)),
        ("client_id", text("client-1")),
        ("client_secret", text("s3cret&")),
        ("flow", text(flow)),
    ]
}

const SYSTEMS: &[System] = &[
    System {
        name: "supabase",
        start: supabase::start,
        fields: |url| {
            vec![
                ("url", text(url)),
                ("anon_key", text("anon")),
                ("service_role_key", text("key-of-the-operator")),
            ]
        },
        id: plain,
        makes_sessions: true,
        blocked: Expected::Blocked,
        limited: BUSY,
        unfinished: Expected::RightBut("email_not_confirmed"),
        factor: Expected::SecondFactor,
        looks_up: true,
        mirrors: true,
    },
    System {
        name: "auth0",
        start: auth0::start,
        fields: |url| {
            vec![
                ("domain", text(url)),
                ("client_id", text("app")),
                ("client_secret", text("s3cret&")),
                ("realm", text("Users")),
                ("management_client_id", text("manager")),
                ("management_client_secret", text("key-of-the-operator")),
            ]
        },
        id: auth0::id,
        makes_sessions: true,
        blocked: Expected::Blocked,
        limited: Expected::Limited(None),
        unfinished: Expected::NoPassword,
        factor: Expected::SecondFactor,
        looks_up: true,
        mirrors: true,
    },
    System {
        name: "firebase",
        start: firebase::start,
        fields: |url| {
            let account = serde_json::json!({
                "project_id": "project-1", "client_email": "vestibule@project.example",
                "private_key": *RSA_KEY, "token_uri": format!("{url}/token"),
            });
            vec![
                ("identity_toolkit", text(url)),
                ("api_key", text("key&1")),
                ("service_account", text(&account.to_string())),
            ]
        },
        id: plain,
        makes_sessions: false,
        blocked: Expected::Blocked,
        limited: Expected::Limited(None),
        unfinished: Expected::NoPassword,
        factor: Expected::SecondFactor,
        looks_up: true,
        mirrors: true,
    },
    System {
        name: "cognito",
        start: cognito::start,
        fields: |url| cognito_fields(url, "srp"),
        id: plain,
        makes_sessions: true,
        blocked: Expected::Blocked,
        limited: Expected::Limited(None),
        unfinished: Expected::RightBut("must_change_password"),
        factor: Expected::SecondFactor,
        looks_up: false,
        mirrors: false,
    },
    System {
        name: "cognito",
        start: cognito::start,
        fields: |url| cognito_fields(url, "password"),
        id: plain,
        makes_sessions: true,
        blocked: Expected::Blocked,
        limited: Expected::Limited(None),
        unfinished: Expected::RightBut("must_change_password"),
        factor: Expected::SecondFactor,
        looks_up: false,
        mirrors: false,
    },
    System {
        name: "keycloak",
        start: keycloak::start,
        fields: |url| {
            vec![
                ("url", text(url)),
                ("realm", text("my realm")),
                ("client_id", text("door")),
                ("client_secret", text("s3cret&")),
                ("admin_client_id", text("admin")),
                ("admin_client_secret", text("key-of-the-operator")),
            ]
        },
        id: plain,
        makes_sessions: true,
        blocked: Expected::Blocked,
        // A lock looks like a wrong password.
        limited: Expected::Wrong,
        unfinished: Expected::RightBut("account_not_set_up"),
        // So does a missing code: the password of who has one cannot be checked.
        factor: Expected::NoPassword,
        looks_up: true,
        mirrors: true,
    },
    System {
        name: "kratos",
        start: kratos::start,
        fields: |url| {
            vec![
                ("public_url", text(url)),
                ("admin_url", text(url)),
                ("admin_key", text("key-of-the-operator")),
                ("email_trait", text("contact.mail")),
            ]
        },
        id: plain,
        makes_sessions: true,
        blocked: Expected::Blocked,
        limited: BUSY,
        unfinished: Expected::RightBut("address_not_verified"),
        factor: Expected::SecondFactor,
        looks_up: true,
        mirrors: false,
    },
    System {
        name: "supertokens",
        start: supertokens::start,
        fields: |url| {
            vec![
                ("core_url", text(url)),
                ("core_api_key", text("key-of-the-operator")),
                ("tenant_id", text("t1")),
                ("app_id", text("shop")),
            ]
        },
        id: plain,
        makes_sessions: false,
        // Nobody is blocked there.
        blocked: Expected::Right,
        limited: BUSY,
        unfinished: Expected::Right,
        factor: Expected::SecondFactor,
        looks_up: true,
        mirrors: false,
    },
    System {
        name: "stytch",
        start: stytch::start,
        fields: |url| {
            vec![
                ("api_url", text(url)),
                ("project_id", text("project-test-1")),
                ("secret", text("key-of-the-operator")),
            ]
        },
        id: plain,
        makes_sessions: false,
        blocked: Expected::Blocked,
        limited: Expected::Limited(Some(120)),
        unfinished: Expected::NoPassword,
        factor: Expected::SecondFactor,
        looks_up: true,
        mirrors: false,
    },
    System {
        name: "descope",
        start: descope::start,
        fields: |url| {
            vec![
                ("api_url", text(url)),
                ("project_id", text("project-1")),
                ("management_key", text("key-of-the-operator")),
            ]
        },
        id: plain,
        makes_sessions: true,
        blocked: Expected::Blocked,
        limited: Expected::Limited(Some(60)),
        unfinished: Expected::Right,
        factor: Expected::SecondFactor,
        looks_up: true,
        mirrors: false,
    },
];

/// The key of a service account.
static RSA_KEY: LazyLock<String> = LazyLock::new(|| {
    let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let der: Pkcs8V1Der<'_> = key.as_der().expect("its bytes");
    let text = data_encoding::BASE64.encode(der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
});

/// A gateway's own way to one old system.
struct Door {
    check: Box<dyn Check>,
    outbound: Outbound,
    runtime: tokio::runtime::Runtime,
    name: &'static str,
}

fn build(name: &str, fields: Vec<(&'static str, Field)>) -> Result<Option<Box<dyn Check>>, String> {
    let kind = kind::find("old system", KINDS, name).expect("a provider");
    let build = kind.build.check.expect("a live check");
    build(&Fields {
        values: fields
            .into_iter()
            .map(|(key, value)| {
                let mut known = kind.build.keys.iter().copied().flatten();
                assert!(
                    known.any(|each| each.name == key),
                    "{name} has no key `{key}`"
                );
                (key.to_owned(), value)
            })
            .collect(),
        public_origin: "https://app.example".to_owned(),
    })
}

impl Door {
    fn to(name: &'static str, fields: Vec<(&'static str, Field)>) -> Self {
        let check = build(name, fields).expect("valid keys").expect("all keys");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let outbound = Outbound::new(
            [(name, Some(check.overall()))],
            None,
            runtime.handle().clone(),
            Arc::new(ManualClock::at(NOW)),
            Arc::new(Metrics::new().expect("metrics")),
        );
        Self {
            check,
            outbound: outbound.expect("a way out"),
            runtime,
            name,
        }
    }

    fn of(system: &System, vendor: &Vendor) -> Self {
        Self::to(system.name, (system.fields)(&vendor.url()))
    }

    fn try_password(&self, email: &str, password: &str) -> Checked {
        let attempt = Attempt {
            email: Some(email.to_owned()),
            username: None,
            phone: None,
            source_id: None,
            password: Secret::new(password),
            client: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
            user_agent: "test".to_owned(),
        };
        let asked = self.outbound.check(self.name, &*self.check, &attempt);
        let checked = self.runtime.block_on(asked);
        let printed = format!("{checked:?} {attempt:?}");
        assert!(
            !printed.contains(password) || password.is_empty(),
            "printed"
        );
        assert!(!printed.contains("tok-"), "printed");
        checked
    }

    fn try_code(&self, id: &str, pending: Option<&Secret>, code: &str) -> Option<FactorChecked> {
        let code = Secret::new(code);
        let asked = self
            .outbound
            .check_factor(self.name, &*self.check, id, pending, &code);
        self.runtime.block_on(asked)
    }
}

#[test]
fn the_right_password_is_right_and_its_session_is_ended_again() {
    for system in SYSTEMS {
        let vendor = (system.start)();
        let door = Door::of(system, &vendor);
        let checked = door.try_password(GOOD.email, PASSWORD);
        assert_eq!(kind_of(&checked), Expected::Right, "{}", system.name);
        let profile = profile(&checked).expect("whose");
        assert_eq!(profile.id, (system.id)(&GOOD), "{}", system.name);
        assert_eq!(
            profile.email.as_deref(),
            Some(GOOD.email),
            "{}",
            system.name
        );
        assert_eq!(
            vendor.sessions.made() > 0,
            system.makes_sessions,
            "{}",
            system.name
        );
        assert_eq!(
            vendor.sessions.count(),
            0,
            "{} keeps a session",
            system.name
        );
    }
}

#[test]
fn a_wrong_password_and_nobody_are_wrong_and_make_no_session() {
    for system in SYSTEMS {
        let vendor = (system.start)();
        let door = Door::of(system, &vendor);
        for (email, password) in [
            (GOOD.email, "guess"),
            (GOOD.email, &PASSWORD[1..]),
            ("nobody@example.com", PASSWORD),
        ] {
            let checked = door.try_password(email, password);
            assert_eq!(kind_of(&checked), Expected::Wrong, "{}", system.name);
        }
        let before = vendor.app.count();
        assert_eq!(kind_of(&door.try_password(GOOD.email, "")), Expected::Wrong);
        assert_eq!(vendor.app.count(), before, "an empty password is not sent");
        assert_eq!(vendor.sessions.made(), 0, "{}", system.name);
    }
}

#[test]
fn who_may_not_in_there_is_told_apart_from_a_wrong_password() {
    for system in SYSTEMS {
        let vendor = (system.start)();
        let door = Door::of(system, &vendor);
        for (person, expected) in [
            (&BLOCKED, system.blocked),
            (&LIMITED, system.limited),
            (&UNFINISHED, system.unfinished),
        ] {
            let checked = door.try_password(person.email, PASSWORD);
            assert_eq!(
                kind_of(&checked),
                expected,
                "{} {}",
                system.name,
                person.email
            );
            if let Some(profile) = profile(&checked) {
                assert_eq!(profile.id, (system.id)(person), "{}", system.name);
            }
        }
        assert_eq!(vendor.sessions.count(), 0, "{}", system.name);
    }
}

#[test]
fn a_second_factor_is_checked_there_and_a_wrong_code_is_wrong() {
    for system in SYSTEMS {
        let vendor = (system.start)();
        let door = Door::of(system, &vendor);
        let checked = door.try_password(FACTOR.email, PASSWORD);
        assert_eq!(kind_of(&checked), system.factor, "{}", system.name);
        let Checked::SecondFactor { profile, pending } = checked else {
            continue;
        };
        let id = (system.id)(&FACTOR);
        assert_eq!(profile.id, id, "{}", system.name);
        let pending = pending.as_ref();
        assert!(pending.is_some(), "{}", system.name);
        let wrong = door.try_code(&id, pending, "654321");
        assert_eq!(wrong, Some(FactorChecked::Wrong), "{}", system.name);
        let right = door.try_code(&id, pending, CODE);
        assert_eq!(right, Some(FactorChecked::Right), "{}", system.name);
        assert_eq!(
            vendor.sessions.count(),
            0,
            "{} keeps a session",
            system.name
        );
    }
}

#[test]
fn a_code_of_somebody_else_is_wrong() {
    for system in SYSTEMS {
        let vendor = (system.start)();
        let door = Door::of(system, &vendor);
        let Checked::SecondFactor { pending, .. } = door.try_password(FACTOR.email, PASSWORD)
        else {
            continue;
        };
        let found = door.try_code(&(system.id)(&GOOD), pending.as_ref(), CODE);
        assert_eq!(found, Some(FactorChecked::Wrong), "{}", system.name);
        assert_eq!(
            vendor.sessions.count(),
            0,
            "{} keeps a session",
            system.name
        );
    }
}

#[test]
fn a_session_that_cannot_be_ended_changes_the_word_and_not_the_finding() {
    let ending = SYSTEMS.iter().filter(|system| system.makes_sessions);
    for system in ending {
        let vendor = (system.start)();
        vendor.keep_sessions();
        let door = Door::of(system, &vendor);
        let checked = door.try_password(GOOD.email, PASSWORD);
        let expected = Expected::RightBut("session_not_ended");
        assert_eq!(kind_of(&checked), expected, "{}", system.name);
        assert_eq!(profile(&checked).expect("whose").id, (system.id)(&GOOD));
        assert_eq!(vendor.sessions.count(), 1, "{}", system.name);
    }
}

#[test]
fn an_outage_is_never_a_wrong_password_and_ends_by_itself() {
    for system in SYSTEMS {
        for (broken, expected) in [
            (Broken::Cut, Unreachable::Connect),
            (Broken::Busy, Unreachable::Refused),
            (Broken::Garbage, Unreachable::Garbage),
            (Broken::Endless, Unreachable::Garbage),
        ] {
            let vendor = (system.start)();
            let door = Door::of(system, &vendor);
            vendor.break_down(Some(broken));
            let checked = door.try_password(GOOD.email, PASSWORD);
            let expected = Expected::Unavailable(expected);
            assert_eq!(kind_of(&checked), expected, "{} {broken:?}", system.name);
            vendor.break_down(None);
            let checked = door.try_password(GOOD.email, PASSWORD);
            assert_eq!(
                kind_of(&checked),
                Expected::Right,
                "{} {broken:?}",
                system.name
            );
        }
        // Nobody listens there.
        let closed = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let url = format!("http://{}", closed.expect("a free port"));
        let door = Door::to(system.name, (system.fields)(&url));
        let checked = door.try_password(GOOD.email, PASSWORD);
        let expected = Expected::Unavailable(Unreachable::Connect);
        assert_eq!(kind_of(&checked), expected, "{}", system.name);
    }
}

#[test]
fn a_system_that_never_answers_is_waited_for_no_longer_than_the_deadline() {
    std::thread::scope(|all| {
        for system in SYSTEMS {
            all.spawn(move || {
                let vendor = (system.start)();
                vendor.break_down(Some(Broken::Stalled));
                let door = Door::of(system, &vendor);
                let began = std::time::Instant::now();
                let checked = door.try_password(GOOD.email, PASSWORD);
                let expected = Expected::Unavailable(Unreachable::Timeout);
                assert_eq!(kind_of(&checked), expected, "{}", system.name);
                assert!(began.elapsed() < Duration::from_secs(6), "{}", system.name);
                // It was asked, and not before the connection was there.
                await_until("a request", || vendor.app.count() > 0);
            });
        }
    });
}

#[test]
fn our_own_limit_stops_before_the_vendors() {
    for system in SYSTEMS {
        let vendor = (system.start)();
        let door = Door::of(system, &vendor);
        let most = door.check.limit().most;
        for _ in 0..most {
            let checked = door.try_password(GOOD.email, "guess");
            assert_eq!(kind_of(&checked), Expected::Wrong, "{}", system.name);
        }
        let before = vendor.app.count();
        let checked = door.try_password(GOOD.email, "guess");
        assert!(
            matches!(checked, Checked::Limited(Some(_))),
            "{}",
            system.name
        );
        assert_eq!(
            vendor.app.count(),
            before,
            "{} was asked again",
            system.name
        );
        // Somebody else is none the worse.
        let other = door.try_password("nobody@example.com", PASSWORD);
        assert_eq!(kind_of(&other), Expected::Wrong, "{}", system.name);
    }
}

#[test]
fn users_are_looked_up_by_address_and_nobody_is_nobody() {
    for system in SYSTEMS {
        let vendor = (system.start)();
        let door = Door::of(system, &vendor);
        assert_eq!(
            door.check.look_up(GOOD.email).is_some(),
            system.looks_up,
            "{}",
            system.name
        );
        if !system.looks_up {
            continue;
        }
        let look_up = |email: &str| {
            let asked = door.outbound.look_up(system.name, &*door.check, email);
            door.runtime.block_on(asked)
        };
        let found = look_up("Good@Example.com")
            .expect("an answer")
            .expect("somebody");
        assert_eq!(found.id, (system.id)(&GOOD), "{}", system.name);
        assert_eq!(found.email.as_deref(), Some(GOOD.email), "{}", system.name);
        assert!(found.email_verified, "{}", system.name);
        assert_eq!(look_up("nobody@example.com"), Ok(None), "{}", system.name);
        vendor.break_down(Some(Broken::Busy));
        assert_eq!(
            look_up(GOOD.email),
            Err(Unreachable::Refused),
            "{}",
            system.name
        );
    }
}

#[test]
fn changes_are_mirrored_where_the_system_takes_them() {
    for system in SYSTEMS {
        let vendor = (system.start)();
        let door = Door::of(system, &vendor);
        let new = Profile {
            email: Some("new@example.com".to_owned()),
            email_verified: true,
            name: "New".to_owned(),
            ..Profile::default()
        };
        let id = (system.id)(&GOOD);
        let password = Secret::new(PASSWORD);
        let changes = [
            Mirror::SignUp {
                profile: new,
                password: Some(password.clone()),
            },
            Mirror::Email {
                id: id.clone(),
                email: "moved@example.com".to_owned(),
                verified: true,
            },
            Mirror::Password {
                id: id.clone(),
                password,
            },
        ];
        for change in changes {
            let is_sign_up = matches!(change, Mirror::SignUp { .. });
            let holds_password = matches!(change, Mirror::SignUp { .. } | Mirror::Password { .. });
            let asked = door.outbound.mirror(system.name, &*door.check, &change);
            let done = door.runtime.block_on(asked);
            assert_eq!(done.is_some(), system.mirrors, "{}", system.name);
            let Some(done) = done else { continue };
            let made = done.expect("mirrored").expect("an id");
            match is_sign_up {
                true => assert!(made.ends_with("new-user"), "{}: {made}", system.name),
                false => assert_eq!(made, id, "{}", system.name),
            }
            let last = vendor.app.last();
            let body = String::from_utf8(last.body).expect("text");
            let told = serde_json::to_string(PASSWORD).expect("a text");
            assert_eq!(body.contains(&told), holds_password, "{}", system.name);
        }
    }
}

#[test]
fn wrong_keys_are_no_wrong_password() {
    for system in SYSTEMS {
        let vendor = (system.start)();
        let fields = (system.fields)(&vendor.url());
        let secrets = [
            "anon_key",
            "client_secret",
            "api_key",
            "core_api_key",
            "secret",
        ];
        let Some(key) = fields.iter().position(|(key, _)| secrets.contains(key)) else {
            continue;
        };
        let mut fields = fields;
        fields[key].1 = text("not-the-key");
        let door = Door::to(system.name, fields);
        let checked = door.try_password(GOOD.email, PASSWORD);
        let expected = Expected::Unavailable(Unreachable::Unconfigured);
        assert_eq!(kind_of(&checked), expected, "{}", system.name);
    }
}

#[test]
fn without_its_admin_keys_nobody_is_said_to_be_who_was_typed() {
    for (name, without, person) in [
        ("supabase", "service_role_key", &UNFINISHED),
        ("auth0", "management_client_id", &FACTOR),
        ("kratos", "admin_url", &FACTOR),
        ("kratos", "admin_url", &UNFINISHED),
        ("keycloak", "admin_client_id", &UNFINISHED),
    ] {
        let system = SYSTEMS
            .iter()
            .find(|system| system.name == name)
            .expect("it");
        let vendor = (system.start)();
        let mut fields = (system.fields)(&vendor.url());
        fields.retain(|(key, _)| *key != without);
        let door = Door::to(name, fields);
        let checked = door.try_password(person.email, PASSWORD);
        assert_eq!(
            kind_of(&checked),
            Expected::Blocked,
            "{name} {}",
            person.email
        );
        assert_eq!(vendor.sessions.count(), 0, "{name}");
        assert!(door.check.look_up(GOOD.email).is_none(), "{name}");
    }
}

#[test]
fn a_table_without_the_keys_of_a_check_has_none_and_half_of_them_is_a_mistake() {
    for system in SYSTEMS {
        let fields = || (system.fields)("http://127.0.0.1:1");
        assert!(
            matches!(build(system.name, Vec::new()), Ok(None)),
            "{}",
            system.name
        );
        let mut off = fields();
        off.push(("check", Field::Flag(false)));
        assert!(
            matches!(build(system.name, off), Ok(None)),
            "{}",
            system.name
        );
        // In the clear, a password is everybody's.
        let far: Vec<(&'static str, Field)> = (system.fields)("http://old.example");
        let error = build(system.name, far).map(|_| ()).expect_err("refused");
        assert!(error.contains("https"), "{}: {error}", system.name);
    }
}

/// The vendor's own client against the same stand-in: what both agree with is the protocol.
#[test]
fn the_stand_in_of_cognito_speaks_with_the_vendors_own_client() {
    let Ok(modules) = std::env::var("VESTIBULE_COGNITO_CLIENT") else {
        println!(
            "skipped: VESTIBULE_COGNITO_CLIENT names no folder with amazon-cognito-identity-js"
        );
        return;
    };
    let vendor = cognito::start();
    let script = format!(
        "const {{ CognitoUserPool, CognitoUser, AuthenticationDetails }} = require('amazon-cognito-identity-js');
         const pool = new CognitoUserPool({{ UserPoolId: '{}', ClientId: 'public-client', endpoint: '{}/' }});
         const attempt = (password) => new Promise((done) => new CognitoUser({{ Username: '{}', Pool: pool }}).authenticateUser(
           new AuthenticationDetails({{ Username: '{}', Password: password }}),
           {{ onSuccess: (s) => done('right ' + s.getIdToken().payload.sub), onFailure: (e) => done(e.code + ' ' + e.message) }}));
         (async () => {{ console.log(await attempt({})); console.log(await attempt('guess')); }})();",
        cognito::POOL,
        vendor.url(),
        GOOD.email,
        GOOD.email,
        serde_json::to_string(PASSWORD).expect("a text"),
    );
    let ran = Command::new("node")
        .args(["-e", &script])
        .current_dir(modules)
        .output()
        .expect("node");
    let said = String::from_utf8_lossy(&ran.stdout);
    let lines: Vec<&str> = said.lines().collect();
    let right = format!("right {}", GOOD.id);
    let wrong = "NotAuthorizedException Incorrect username or password.";
    assert_eq!(
        lines,
        [right.as_str(), wrong],
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// Documented answers that the stand-ins do not give, told to the conversation step by step, without a network.
#[test]
fn every_documented_answer_means_what_its_vendor_says() {
    use Expected::{Blocked, Limited, NoPassword, RightBut, Unavailable, Wrong};
    use Unreachable::{Challenge, Garbage, Refused, Unconfigured};
    let cognito = |kind: &str, said: &str| format!(r#"{{"__type":"{kind}","message":"{said}"}}"#);
    let firebase = |word: &str| format!(r#"{{"error":{{"code":400,"message":"{word}"}}}}"#);
    let auth0 = |word: &str| format!(r#"{{"error":"{word}","error_description":"x"}}"#);
    let kratos = |id: u64| format!(r#"{{"id":"f","ui":{{"messages":[{{"id":{id}}}]}}}}"#);
    let descope =
        |code: &str, said: &str| format!(r#"{{"errorCode":"{code}","errorDescription":"{said}"}}"#);
    let stytch = |kind: &str| format!(r#"{{"error_type":"{kind}"}}"#);
    let supabase = |code: &str| format!(r#"{{"code":"{code}","message":"x"}}"#);
    let grant = |said: &str| format!(r#"{{"error":"invalid_grant","error_description":"{said}"}}"#);
    let cases: Vec<(&str, u16, String, Expected)> = vec![
        ("supabase", 400, supabase("invalid_credentials"), Wrong),
        ("supabase", 400, grant("Invalid login credentials"), Wrong),
        ("supabase", 400, grant("Phone not confirmed"), Blocked),
        ("supabase", 400, supabase("captcha_failed"), Unavailable(Challenge)),
        ("supabase", 422, supabase("email_provider_disabled"), Unavailable(Unconfigured)),
        ("supabase", 400, supabase("of_the_future"), Unavailable(Garbage)),
        ("auth0", 429, auth0("too_many_requests"), Unavailable(Refused)),
        ("auth0", 429, auth0("too_many_attempts"), Limited(Some(9))),
        ("auth0", 403, auth0("unauthorized_client"), Unavailable(Unconfigured)),
        ("auth0", 403, auth0("access_denied"), Blocked),
        ("auth0", 401, auth0("requires_validation"), Unavailable(Challenge)),
        ("auth0", 403, auth0("of_the_future"), Unavailable(Garbage)),
        ("firebase", 400, firebase("INVALID_PASSWORD"), Wrong),
        ("firebase", 400, firebase("INVALID_EMAIL"), Wrong),
        ("firebase", 400, firebase("PASSWORD_LOGIN_DISABLED"), Unavailable(Unconfigured)),
        ("firebase", 400, firebase("QUOTA_EXCEEDED : Exceeded quota"), Unavailable(Refused)),
        ("firebase", 400, firebase("MISSING_RECAPTCHA_TOKEN"), Unavailable(Challenge)),
        ("firebase", 401, firebase("Firebase App Check token is invalid."), Unavailable(Challenge)),
        ("firebase", 403, firebase("Requests from referer <empty> are blocked."), Unavailable(Unconfigured)),
        ("firebase", 400, firebase("BLOCKING_FUNCTION_ERROR_RESPONSE : no"), Blocked),
        ("cognito", 400, cognito("com.amazonaws#UserNotFoundException", "User does not exist."), Wrong),
        ("cognito", 400, cognito("NotAuthorizedException", "Password attempts exceeded"), Limited(Some(9))),
        ("cognito", 400, cognito("NotAuthorizedException", "Unable to verify secret hash for client x"), Unavailable(Unconfigured)),
        ("cognito", 400, cognito("NotAuthorizedException", "Temporary password has expired and must be reset"), NoPassword),
        ("cognito", 400, cognito("UserNotConfirmedException", "User is not confirmed."), Blocked),
        ("cognito", 400, cognito("PasswordResetRequiredException", "Password reset required"), NoPassword),
        ("cognito", 400, cognito("TooManyRequestsException", "Rate exceeded"), Unavailable(Refused)),
        ("cognito", 400, cognito("InvalidParameterException", "USER_PASSWORD_AUTH flow not enabled for this client"), Unavailable(Unconfigured)),
        ("cognito", 400, cognito("InvalidParameterException", "1 validation error detected"), Wrong),
        ("cognito", 400, cognito("ForbiddenException", "Request not allowed due to WAF block."), Unavailable(Challenge)),
        ("cognito", 400, cognito("UserLambdaValidationException", "PreAuthentication failed"), Blocked),
        ("cognito", 200, format!(r#"{{"ChallengeName":"MFA_SETUP","Session":"s","ChallengeParameters":{{"USER_ID_FOR_SRP":"{}"}}}}"#, GOOD.id), RightBut("must_enrol_second_factor")),
        ("cognito", 200, format!(r#"{{"ChallengeName":"SMS_MFA","Session":"s","ChallengeParameters":{{"USER_ID_FOR_SRP":"{}"}}}}"#, GOOD.id), Expected::SecondFactor),
        ("cognito", 200, r#"{"ChallengeName":"SMS_MFA","Session":"s","ChallengeParameters":{"USER_ID_FOR_SRP":"grace"}}"#.to_owned(), Blocked),
        ("keycloak", 400, auth0("unauthorized_client"), Unavailable(Unconfigured)),
        ("keycloak", 400, grant("Account disabled"), Blocked),
        ("keycloak", 404, r#"{"error":"Realm does not exist"}"#.to_owned(), Unavailable(Unconfigured)),
        ("kratos", 400, kratos(4_000_037), Wrong),
        ("kratos", 400, kratos(4_000_002), Wrong),
        ("kratos", 400, kratos(4_000_038), Unavailable(Challenge)),
        ("kratos", 410, r#"{"error":{"id":"self_service_flow_expired"}}"#.to_owned(), Unavailable(Garbage)),
        ("kratos", 422, r#"{"error":{"id":"browser_location_change_required"}}"#.to_owned(), Blocked),
        ("kratos", 403, r#"{"error":{"id":"session_aal2_required"}}"#.to_owned(), Blocked),
        ("supertokens", 200, r#"{"status":"OF_THE_FUTURE"}"#.to_owned(), Unavailable(Garbage)),
        ("supertokens", 404, "Not found".to_owned(), Unavailable(Unconfigured)),
        ("stytch", 429, stytch("too_many_requests"), Unavailable(Refused)),
        ("stytch", 404, stytch("email_not_found"), Wrong),
        ("stytch", 400, stytch("reset_password"), NoPassword),
        ("stytch", 401, stytch("invalid_secret_authentication"), Unavailable(Unconfigured)),
        ("descope", 429, descope("E130429", "API rate limit exceeded"), Unavailable(Refused)),
        ("descope", 401, descope("E061301", "Password expired"), NoPassword),
        ("descope", 401, descope("E062001", "User is locked"), Limited(Some(9))),
        ("descope", 400, descope("E011001", "Bad request"), Unavailable(Unconfigured)),
        ("descope", 403, r#"{"ok":false}"#.to_owned(), Unavailable(Garbage)),
    ];
    for (name, status, body, expected) in cases {
        let is_it = |system: &&System| system.name == name;
        let system = SYSTEMS.iter().rfind(is_it).expect("a system");
        let fields: Vec<(&'static str, Field)> = (system.fields)("https://old.example")
            .into_iter()
            // What is asked of the admin API next is another test's.
            .filter(|(key, _)| !key.starts_with("admin_") && !key.starts_with("service_role"))
            .collect();
        let check = build(name, fields).expect("valid").expect("on");
        let attempt = Attempt {
            email: Some(GOOD.email.to_owned()),
            username: None,
            phone: None,
            source_id: None,
            password: Secret::new(PASSWORD),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            user_agent: String::new(),
        };
        let mut dialogue = check.check(&attempt);
        let random = |bytes: &mut [u8]| bytes.fill(7);
        let moment = Moment {
            now: NOW,
            random: &random,
        };
        let answer = |status: u16, body: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert("retry-after", http::HeaderValue::from_static("9"));
            Given::Answer(Ok(Answer {
                status,
                headers,
                body: Secret::new(body),
            }))
        };
        let mut step = dialogue.step(Given::Nothing, moment);
        if name == "kratos" {
            assert!(matches!(step, Step::Need(_)));
            step = dialogue.step(answer(200, r#"{"id":"f"}"#), moment);
        }
        let Step::Need(Need::Answer(ask)) = step else {
            panic!("{name} asks nothing");
        };
        assert!(
            !format!("{ask:?}").contains("o=r"),
            "{name} prints a password"
        );
        match dialogue.step(answer(status, &body), moment) {
            Step::Done(checked) => {
                assert_eq!(kind_of(&checked), expected, "{name} {status} {body}")
            }
            Step::Need(_) => panic!("{name} asks on after {status} {body}"),
        }
    }
}
