//! New accounts while the old system still has some of its own, with a real Better Auth behind the gateway and a Clerk and a WorkOS that
//! speak their documented API.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vestibule::kind;
use vestibule::migration::accounts::{Accounts, Identifier};
use vestibule::migration::control::{self, Mechanism};
use vestibule::migration::provider::{Fields, KINDS};
use vestibule::migration::sign_up::{Mode, Settings};
use vestibule::secret::Secret;
use vestibule::server::migration;
use vestibule::store;
use vestibule::time::UnixMs;

use crate::differential::server::{Browser, Server, request};
use crate::migration_providers::{clerk_fields, workos_fields};
use crate::support::databases::{Folder, settings};
use crate::support::vendors::{Fault, Person, Vendor, clerk, workos};
use crate::support::{Answer, Gateway, SECRET, Setup, await_until, exchange};

const ANN: &str = "ann@example.com";
const OLD: &str = "the old password";
const NEW: &str = "a password of her choice";

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMs(i64::try_from(since.as_millis()).unwrap())
}

/// A real Better Auth, an old system, and the gateway that moves users from one to the other.
struct World {
    // Dropped in this order: whoever asks before who is asked.
    gateway: Gateway,
    accounts: Arc<dyn Accounts>,
    runtime: Runtime,
    server: Server,
    vendor: Vendor,
    _folder: Folder,
}

struct Wanted {
    mode: Settings,
    control: control::Settings,
    provider: &'static str,
}

fn mode(mode: Mode) -> Wanted {
    Wanted {
        mode: Settings { mode, until: None },
        control: control::Settings::default(),
        provider: "clerk",
    }
}

impl World {
    fn new(wanted: Wanted) -> Self {
        let (vendor, fields): (Vendor, Fields) = match wanted.provider {
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
        vendor.add(Person::new("user_ann", ANN, OLD));
        let folder = Folder::new("better-auth");
        let server = Server::start(&json!({
            "options": { "baseURL": "http://app.test", "secret": SECRET,
                         "user": { "deleteUser": { "enabled": true },
                                   "changeEmail": { "enabled": true, "updateEmailWithoutVerification": true } } },
            "sqlite": folder.join("app.sqlite"),
            "realPasswords": true,
            "sendsLinks": true,
        }));
        let runtime = Runtime::new().unwrap();
        let database = settings(&format!("sqlite:{}", folder.join("app.sqlite").display()));
        let source = runtime.block_on(store::open(&database)).unwrap();
        let accounts = runtime.block_on(store::open_accounts(&database)).unwrap();
        let mut setup = Setup::in_front_of(server.address);
        let (kept, home) = (Arc::clone(&accounts), runtime.handle().clone());
        setup.migration = Some(Arc::new(move || migration::Parts {
            settings: migration::Settings {
                control: wanted.control.clone(),
                database: database.clone(),
                key: Secret::new("a key of the migration, of more than thirty-two letters"),
                providers: vec![migration::Configured {
                    kind: kind::find("old system", KINDS, wanted.provider).unwrap(),
                    fields: fields.clone(),
                }],
                sign_up: wanted.mode.clone(),
                pool: Default::default(),
                sign_in: migration::sign_in::Settings {
                    in_account: Vec::new(),
                    uniform: true,
                    hold: std::time::Duration::ZERO,
                    trickle: false,
                    reset: None,
                },
                origins: vestibule::migration::origin::Settings {
                    base: Some("http://app.test".to_owned()),
                    ..Default::default()
                },
                limits: Default::default(),
                bridge: Default::default(),
                second_factor: Default::default(),
            },
            accounts: Arc::clone(&kept),
            shared_limits: None,
            home: home.clone(),
            old: None,
            stores: Default::default(),
            app: Vec::new(),
        }));
        let gateway = setup.start_from(source);
        gateway.clock.set(now());
        Self {
            gateway,
            accounts,
            runtime,
            server,
            vendor,
            _folder: folder,
        }
    }

    fn post(&self, endpoint: &str, body: &Value) -> Answer {
        let target = format!("/api/auth{endpoint}");
        request(self.gateway.address, "POST", &target, &[], Some(body))
    }

    fn sign_up(&self, email: &str) -> Answer {
        self.post(
            "/sign-up/email",
            &json!({ "name": "Ann New", "email": email, "password": NEW }),
        )
    }

    fn forgot(&self, email: &str) -> Answer {
        let body = json!({ "email": email, "redirectTo": "/reset" });
        self.post("/request-password-reset", &body)
    }

    fn rows(&self, sql: &str) -> Vec<Value> {
        self.server.sql(sql).as_array().cloned().unwrap_or_default()
    }

    fn users(&self, email: &str) -> Vec<Value> {
        self.rows(&format!("SELECT * FROM user WHERE email = '{email}'"))
    }

    /// Who an account is in the old system.
    fn source(&self, email: &str) -> Option<String> {
        let by = Identifier::Email(email.into());
        let account = self.runtime.block_on(self.accounts.find(&by)).unwrap();
        account?.sources.first().map(|source| source.id.clone())
    }

    /// Signs in past the gateway: what the framework itself holds of it.
    fn signs_in_natively(&self, email: &str, password: &str) -> bool {
        let body = json!({ "email": email, "password": password });
        let target = "/api/auth/sign-in/email";
        let answer = request(self.server.address, "POST", target, &[], Some(&body));
        assert!(
            answer.status == 200 || answer.status == 401,
            "{}",
            answer.text()
        );
        answer.status == 200
    }

    fn link(&self, email: &str) -> Option<String> {
        let links = self.server.ask("links", json!({}));
        let mut links = links
            .as_array()
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .rev();
        let found = links.find(|link| link["email"] == email)?;
        found["token"].as_str().map(str::to_owned)
    }

    fn metrics(&self) -> String {
        let head = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\n", self.gateway.admin);
        let asked = format!("{head}authorization: Bearer admin token of the tests\r\n\r\n");
        exchange(self.gateway.admin, asked.as_bytes()).text()
    }
}

// -------------------------------------------------------------------------------------------------------------------- freeze

#[test]
fn frozen_sign_ups_say_until_when_and_nothing_else_is_touched() {
    let until = now().plus(Duration::from_secs(600));
    let mut wanted = mode(Mode::Freeze);
    wanted.mode.until = Some((until, "2026-12-02".into()));
    let world = World::new(wanted);
    let answer = world.sign_up("new@example.com");
    assert_eq!(answer.status, 503);
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(said["code"], "SIGN_UP_FROZEN");
    assert_eq!(said["until"], "2026-12-02");
    assert!(said["message"].as_str().unwrap().contains("2026-12-02"));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((500..=600).contains(&wait), "{wait}");
    assert!(world.users("new@example.com").is_empty());
    assert_eq!(world.vendor.app.count(), 0, "nobody is asked");
    let sign_in = world.post("/sign-in/email", &json!({ "email": ANN, "password": NEW }));
    assert_eq!(sign_in.status, 401);
    // And when the day has come, they are open again.
    world.gateway.clock.set(until);
    assert_eq!(world.sign_up("new@example.com").status, 200);
}

// ------------------------------------------------------------------------------------------------------------------- trickle

#[test]
fn whoever_the_old_system_knows_is_adopted_and_nobody_gets_a_second_account() {
    for provider in ["clerk", "workos"] {
        let world = World::new(Wanted {
            provider,
            ..mode(Mode::Trickle)
        });
        let answer = world.sign_up("Ann@Example.com");
        // As the framework answers for anybody it knows.
        assert_eq!(answer.status, 422, "{}", answer.text());
        let code: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(code["code"], "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL");
        let users = world.users(ANN);
        assert_eq!(users.len(), 1);
        assert_eq!(
            users[0]["name"], "Ann Lee",
            "of the old system, not of whoever asked"
        );
        assert_eq!(users[0]["emailVerified"], 1);
        assert_eq!(world.source(ANN).as_deref(), Some("user_ann"));
        assert!(
            world.rows("SELECT * FROM account").is_empty(),
            "no password was set"
        );
        assert!(!world.signs_in_natively(ANN, NEW));
        // Nobody's address is anybody's to take.
        let new = world.sign_up("new@example.com");
        assert_eq!(new.status, 200, "{}", new.text());
        assert!(world.signs_in_natively("new@example.com", NEW));
        assert_eq!(world.source("new@example.com"), None);
    }
}

#[test]
fn ten_at_once_adopt_one() {
    let world = World::new(mode(Mode::Trickle));
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| assert_eq!(world.sign_up(ANN).status, 422));
        }
    });
    assert_eq!(world.users(ANN).len(), 1);
}

#[test]
fn a_form_is_no_way_around_it_and_neither_is_a_body_nobody_can_read() {
    let world = World::new(mode(Mode::Trickle));
    let send = |kind: &str, body: &str| {
        let headers = [("content-type", kind), ("origin", "http://app.test")];
        world
            .gateway
            .send("POST", "/api/auth/sign-up/email", &headers, body.as_bytes())
    };
    let form = "name=Eve&email=ann%40example.com&password=a-password-of-eves";
    let answer = send("application/x-www-form-urlencoded", form);
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(world.users(ANN)[0]["name"], "Ann Lee");
    let twice = r#"{"name":"Eve","password":"a-password-of-eves","email":"x@y.z","email":"ann@example.com"}"#;
    assert_eq!(send("application/json", twice).status, 422);
    let odd = r#"{"name":"\ud800","password":"a-password-of-eves","email":"bob@example.com"}"#;
    assert_eq!(send("application/json", odd).status, 400);
    assert!(world.users("bob@example.com").is_empty());
}

#[test]
fn a_forgotten_password_of_somebody_not_imported_is_set_by_mail_and_all_are_answered_alike() {
    let world = World::new(mode(Mode::Trickle));
    let mut answers = Vec::new();
    for email in [ANN, "nobody@example.com", ANN] {
        let began = Instant::now();
        let answer = world.forgot(email);
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(1), "{email}: {took:?}");
        answers.push((answer.status, answer.text().to_owned()));
    }
    assert_eq!(answers[0].0, 200, "{answers:?}");
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    assert_eq!(world.users(ANN).len(), 1);
    assert!(world.users("nobody@example.com").is_empty());
    let token = world.link(ANN).expect("a mail");
    assert_eq!(world.link("nobody@example.com"), None);
    let reset = world.post(
        "/reset-password",
        &json!({ "newPassword": NEW, "token": token }),
    );
    assert_eq!(reset.status, 200, "{}", reset.text());
    assert!(world.signs_in_natively(ANN, NEW));
}

#[test]
fn who_is_banned_there_neither_signs_up_here_nor_gets_a_mail() {
    let world = World::new(mode(Mode::Trickle));
    world.vendor.known().by_id("user_ann").unwrap().banned = true;
    assert_eq!(world.sign_up(ANN).status, 422);
    assert_eq!(world.forgot(ANN).status, 200);
    assert!(world.users(ANN).is_empty());
    assert_eq!(world.link(ANN), None);
}

#[test]
fn in_an_outage_no_account_is_made_and_whoever_has_one_is_not_kept_out() {
    let world = World::new(mode(Mode::Trickle));
    assert_eq!(world.sign_up("bob@example.com").status, 200);
    world.vendor.fail(Fault::Status(503));
    // The same whether or not there is an account.
    for email in [ANN, "new@example.com", "bob@example.com"] {
        let answer = world.sign_up(email);
        assert_eq!(answer.status, 503, "{email}: {}", answer.text());
        assert!(answer.header("retry-after").is_some());
    }
    assert!(world.users(ANN).is_empty() && world.users("new@example.com").is_empty());
    assert_eq!(world.forgot("bob@example.com").status, 200);
    assert!(world.link("bob@example.com").is_some());
    world.vendor.fail(Fault::Well);
    assert_eq!(world.sign_up("new@example.com").status, 200);
}

// ------------------------------------------------------------------------------------------------- the guard, and its switches

#[test]
fn without_a_mode_an_address_the_old_system_knows_is_kept_for_its_owner() {
    let world = World::new(mode(Mode::Open));
    assert_eq!(world.sign_up(ANN).status, 422);
    assert!(world.users(ANN).is_empty(), "nobody is adopted");
    assert_eq!(world.sign_up("new@example.com").status, 200);
}

#[test]
fn switched_off_out_of_the_cohort_or_in_the_shadow_nothing_is_changed() {
    let of = |change: fn(&mut control::Settings)| {
        let mut wanted = mode(Mode::Trickle);
        change(&mut wanted.control);
        World::new(wanted)
    };
    for world in [
        of(|control| control.disabled = vec![Mechanism::SignUp]),
        of(|control| control.percent = Some(0)),
        of(|control| control.closes = Some(UnixMs(1))),
    ] {
        assert_eq!(world.sign_up(ANN).status, 200);
        assert_eq!(world.vendor.app.count(), 0);
    }
    let world = of(|control| control.shadow = true);
    assert_eq!(world.sign_up(ANN).status, 200);
    assert!(world.vendor.app.count() > 0, "it looks");
    let adopted = "vestibule_sign_ups_total{course=\"would_adopt\"} 1";
    assert!(world.metrics().contains(adopted), "and reports");
}

// ---------------------------------------------------------------------------------------------------------------- dual write

#[test]
fn sign_ups_and_changes_reach_the_old_system_too() {
    for provider in ["clerk", "workos"] {
        let world = World::new(Wanted {
            provider,
            ..mode(Mode::DualWrite)
        });
        let at = world.gateway.address;
        let mut browser = Browser::default();
        let new = "new@example.com";
        let body = json!({ "name": "Bob Ray", "email": new, "password": OLD });
        browser.done(at, "/sign-up/email", &body);
        await_until("the sign-up to be mirrored and mapped", || {
            world.source(new).is_some()
        });
        let id = world.source(new).unwrap();
        let there = |holds: &dyn Fn(&Person) -> bool| {
            world
                .vendor
                .known()
                .by_id(&id)
                .is_some_and(|person| holds(person))
        };
        assert!(there(
            &|bob| bob.email == new && bob.password.as_deref() == Some(OLD)
        ));
        assert!(there(&|bob| bob.first_name == "Bob" && !bob.verified));

        let body = json!({ "currentPassword": OLD, "newPassword": NEW });
        browser.done(at, "/change-password", &body);
        await_until("the password", || {
            there(&|bob| bob.password.as_deref() == Some(NEW))
        });
        browser.done(at, "/update-user", &json!({ "name": "Robert Ray" }));
        await_until("the name", || there(&|bob| bob.first_name == "Robert"));

        assert_eq!(world.forgot(new).status, 200);
        let token = world.link(new).expect("a mail");
        let reset = world.post(
            "/reset-password",
            &json!({ "newPassword": OLD, "token": token }),
        );
        assert_eq!(reset.status, 200, "{}", reset.text());
        await_until("the reset", || {
            there(&|bob| bob.password.as_deref() == Some(OLD))
        });

        browser.done(
            at,
            "/change-email",
            &json!({ "newEmail": "bob@example.com" }),
        );
        await_until("the address", || {
            there(&|bob| bob.email == "bob@example.com")
        });

        // What the app refuses is not told to anybody.
        let body = json!({ "currentPassword": "wrong", "newPassword": "something else" });
        assert_ne!(browser.post(at, "/change-password", &body).status, 200);

        browser.done(at, "/delete-user", &json!({ "password": OLD }));
        await_until("the farewell", || !there(&|_| true));
        assert!(
            world.vendor.known().by_id("user_ann").is_some(),
            "nobody else is touched"
        );
    }
}

#[test]
fn what_does_not_arrive_is_written_down_without_a_secret_and_follows_as_a_hash() {
    let world = World::new(mode(Mode::DualWrite));
    let at = world.gateway.address;
    let mut browser = Browser::default();
    let new = "new@example.com";
    let body = json!({ "name": "Bob Ray", "email": new, "password": OLD });
    browser.done(at, "/sign-up/email", &body);
    await_until("the sign-up to be mirrored and mapped", || {
        world.source(new).is_some()
    });
    let id = world.source(new).unwrap();

    world.vendor.fail(Fault::Status(503));
    let body = json!({ "currentPassword": OLD, "newPassword": NEW });
    browser.done(at, "/change-password", &body);
    let deferred = || world.rows("SELECT * FROM vestibule_deferred WHERE operation = 'password'");
    await_until("it to be written down", || deferred().len() == 1);
    let row = deferred()[0].to_string();
    for secret in [OLD, NEW, new, "Bob"] {
        assert!(!row.contains(secret), "{row}");
    }
    let hash = world.rows("SELECT password FROM account")[0]["password"].clone();
    let (salt, key) = hash.as_str().unwrap().split_once(':').unwrap();
    let wanted = format!("scrypt:16384:16:1${salt}${key}");
    world.vendor.fail(Fault::Well);
    // Time goes by, a little at a time: the old system was left alone meanwhile.
    await_until("it to follow", || {
        world.gateway.clock.advance(Duration::from_secs(1));
        let _ = deferred();
        let known = world.vendor.known().by_id(&id).unwrap().hash.clone();
        known == Some(("scrypt_werkzeug".into(), wanted.clone()))
    });
    await_until("it to be settled", || deferred().is_empty());
}

#[test]
fn a_made_up_user_is_told_to_nobody() {
    let world = World::new(mode(Mode::DualWrite));
    // The framework answers for somebody it knows; the old system knows them as well.
    assert_eq!(world.sign_up(ANN).status, 422);
    assert_eq!(world.vendor.known().people.len(), 1);
    assert_eq!(world.vendor.asked("POST /v1/users "), 0);
}
